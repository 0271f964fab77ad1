//! Changes of the configuration: each is edits of the document, which the administrator carries out.

use super::keys::{self, Key, Kind};
use super::problem::Problem;
use super::route::{Answer, Call, Reply};
use crate::configuration::edit::{self, Edit, Fields, Place};
use crate::serve::administrator::{Plan, Refused};
use serde_json::{Map, Value};

/// The sections whose keys are all of them settings.
const SECTIONS: [&str; 3] = ["limits", "log", "discovery"];

/// Adds a target.
pub async fn add_target(call: Call) -> Answer {
    let name = text(&call.body, "name");
    let fields = fields(keys::TARGET, &call.body, &["name"])?;
    make(call, Edit::Add(Place::Target(name), fields)).await
}

/// Changes one.
pub async fn set_target(call: Call) -> Answer {
    let edit = Edit::Set(Place::Target(call.named(0).to_owned()), fields(keys::TARGET, &call.body, &[])?);
    make(call, edit).await
}

/// Removes one.
pub async fn remove_target(call: Call) -> Answer {
    let edit = Edit::Remove(Place::Target(call.named(0).to_owned()));
    make(call, edit).await
}

/// Adds a disk.
pub async fn add_lun(call: Call) -> Answer {
    let number = number(&call.body, "number");
    let mut fields = fields(keys::LUN, &call.body, &["number"])?;
    // So that it can be changed by itself.
    if let Some((store, size)) = fields.text("store").and_then(without_size)
        && fields.text("size").is_none()
    {
        fields = Fields::new().with("store", store).with("size", size).and(&fields);
    }
    let edit = Edit::Add(Place::Lun(call.named(0).to_owned(), number), fields);
    make(call, edit).await
}

/// Changes one.
pub async fn set_lun(call: Call) -> Answer {
    let (place, mut fields) = (lun(&call)?, fields(keys::LUN, &call.body, &[])?);
    let (target, number) = (call.named(0).to_owned(), call.number(1, "LUN")?);
    let change = move |text: &str| {
        // The size may be said in the address; then it is said by itself from now on.
        if fields.text("size").is_some() && fields.text("store").is_none() {
            let view = edit::view(text).map_err(refused)?;
            let target = view.targets.iter().find(|known| edit::same_name(known.name(), &target));
            let lun = target.and_then(|target| target.luns.iter().find(|(known, _)| *known == number));
            let store = lun.and_then(|(_, lun)| lun.get("store")).and_then(Value::as_str);
            if let Some((store, _)) = store.and_then(without_size) {
                fields = fields.with("store", store);
            }
        }
        edit::apply(text, &[Edit::Set(place, fields)]).map_err(refused)
    };
    told(call.administrator.change(change, call.how()).await)
}

/// The address of a file or device without its size, and the size, where it says one.
fn without_size(store: &str) -> Option<(String, String)> {
    if crate::remote::is_remote(store) || crate::configuration::is_memory(store) {
        return None;
    }
    let (rest, options) = stores::take_options(store, &["size"]);
    match &options[..] {
        [(_, Some(size))] if !size.is_empty() => Some((rest, size.clone())),
        _ => None,
    }
}

/// Removes one.
pub async fn remove_lun(call: Call) -> Answer {
    let edit = Edit::Remove(lun(&call)?);
    make(call, edit).await
}

fn lun(call: &Call) -> Result<Place, Problem> {
    Ok(Place::Lun(call.named(0).to_owned(), Some(call.number(1, "LUN")?)))
}

/// Adds a rule.
pub async fn add_rule(call: Call) -> Answer {
    let position = number(&call.body, "position").map(usize::from);
    let fields = fields(keys::RULE, &call.body, &["position"])?;
    let edit = Edit::Add(Place::Rule(call.named(0).to_owned(), position), fields);
    make(call, edit).await
}

/// Changes one.
pub async fn set_rule(call: Call) -> Answer {
    let edit = Edit::Set(rule(&call)?, fields(keys::RULE, &call.body, &[])?);
    make(call, edit).await
}

/// Removes one.
pub async fn remove_rule(call: Call) -> Answer {
    let edit = Edit::Remove(rule(&call)?);
    make(call, edit).await
}

fn rule(call: &Call) -> Result<Place, Problem> {
    Ok(Place::Rule(call.named(0).to_owned(), Some(call.number(1, "rule")?.into())))
}

/// Adds an account.
pub async fn add_account(call: Call) -> Answer {
    let edit = Edit::Add(Place::Account(text(&call.body, "name")), fields(keys::ACCOUNT, &call.body, &["name"])?);
    make(call, edit).await
}

/// Changes one. Another secret takes the place of the old one, wherever that was.
pub async fn set_account(call: Call) -> Answer {
    let mut fields = fields(keys::ACCOUNT, &call.body, &[])?;
    let sources = ["secret", "secret_file", "secret_env", "secret_credential"];
    if sources.iter().any(|source| call.body.get(source).is_some_and(Value::is_string)) {
        for source in sources.iter().filter(|source| call.body.get(source).is_none()) {
            fields = fields.without(&source.replace('_', "-"));
        }
    }
    let edit = Edit::Set(Place::Account(call.named(0).to_owned()), fields);
    make(call, edit).await
}

/// Removes one.
pub async fn remove_account(call: Call) -> Answer {
    let edit = Edit::Remove(Place::Account(call.named(0).to_owned()));
    make(call, edit).await
}

/// Adds a portal.
pub async fn add_portal(call: Call) -> Answer {
    let edit = Edit::Add(Place::Portal(text(&call.body, "listen")), fields(keys::PORTAL, &call.body, &["listen"])?);
    make(call, edit).await
}

/// Changes one.
pub async fn set_portal(call: Call) -> Answer {
    let edit = Edit::Set(Place::Portal(call.named(0).to_owned()), fields(keys::PORTAL, &call.body, &[])?);
    make(call, edit).await
}

/// Removes one.
pub async fn remove_portal(call: Call) -> Answer {
    let edit = Edit::Remove(Place::Portal(call.named(0).to_owned()));
    make(call, edit).await
}

/// Says something of a portal group.
pub async fn set_group(call: Call) -> Answer {
    let number = call.number(0, "portal group")?;
    let edit = Edit::Put(Place::Group(number), fields(keys::GROUP, &call.body, &[])?);
    make(call, edit).await
}

/// Says nothing of it any more.
pub async fn remove_group(call: Call) -> Answer {
    let edit = Edit::Remove(Place::Group(call.number(0, "portal group")?));
    make(call, edit).await
}

/// Changes bounds.
pub async fn set_limits(call: Call) -> Answer {
    let edit = Edit::Put(Place::Section("limits"), settings(&call.body)?);
    make(call, edit).await
}

/// Changes what is logged.
pub async fn set_log(call: Call) -> Answer {
    let edit = Edit::Put(Place::Section("log"), fields(keys::LOG, &call.body, &[])?);
    make(call, edit).await
}

/// Makes several changes as one.
pub async fn changes(call: Call) -> Answer {
    let list = call.body["changes"].as_array().cloned().unwrap_or_default();
    let edits = list.iter().map(one).collect::<Result<Vec<_>, _>>()?;
    make_all(call, edits).await
}

/// One of several.
fn one(change: &Value) -> Result<Edit, Problem> {
    let what = text(change, "what");
    let name = match &change["name"] {
        Value::String(name) => Some(name.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    };
    let values = change.get("values").cloned().unwrap_or_else(|| Value::Object(Map::new()));
    let input = |what: String, help: &str| Problem::new("input", what, help);
    let target = || {
        let target = change.get("target").and_then(Value::as_str).map(str::to_owned);
        target.ok_or_else(|| input(format!("whose {what} is meant?"), "add \"target\""))
    };
    let named = || name.clone().ok_or_else(|| input(format!("which {what} is meant?"), "add \"name\""));
    let parsed = |name: &String| {
        name.parse::<u16>().map_err(|_| input(format!("`name` of a {what} is a number, and not {name}"), ""))
    };
    let numbered = || name.as_ref().map(parsed).transpose();
    let (place, known, skip): (Place, &[Key], &[&str]) = match what.as_str() {
        "target" => (Place::Target(named()?), keys::TARGET, &[]),
        "lun" => (Place::Lun(target()?, numbered()?), keys::LUN, &[]),
        "rule" => (Place::Rule(target()?, numbered()?.map(usize::from)), keys::RULE, &[]),
        "account" => (Place::Account(named()?), keys::ACCOUNT, &[]),
        "portal" => (Place::Portal(named()?), keys::PORTAL, &[]),
        "group" => (Place::Group(parsed(&named()?)?), keys::GROUP, &[]),
        section => match SECTIONS.into_iter().find(|known| *known == section) {
            Some(section) => (Place::Section(section), &[], &[]),
            None => return Err(input(format!("`{section}` is nothing that changes so"), "")),
        },
    };
    let fields = match known.is_empty() {
        true => settings(&values)?,
        false => {
            let shape = super::shape::Shape::Object(known.iter().map(Key::changed).collect());
            shape.check(&values).map_err(|line| Problem::line("bad-request", &line))?;
            fields(known, &values, skip)?
        }
    };
    Ok(match change["do"].as_str() {
        Some("add") => Edit::Add(place, fields),
        Some("set") => Edit::Set(place, fields),
        Some("put") => Edit::Put(place, fields),
        _ => Edit::Remove(place),
    })
}

/// Keys of a body as the document has them, in the order of the table; those that name the entry itself are left out.
fn fields(known: &[Key], body: &Value, skip: &[&str]) -> Result<Fields, Problem> {
    let mut fields = Fields::new();
    for key in known.iter().filter(|key| !skip.contains(&key.name)) {
        let Some(value) = body.get(key.name) else { continue };
        // A list of one is written as one.
        let value = match value {
            Value::Array(list) if key.kind == Kind::Texts && list.len() == 1 => &list[0],
            value => value,
        };
        fields.push_json(&key.in_document(), value)?;
    }
    Ok(fields)
}

/// Settings by their own names.
fn settings(body: &Value) -> Result<Fields, Problem> {
    let mut fields = Fields::new();
    for (name, value) in body.as_object().into_iter().flatten() {
        let value = if value == "default" { &Value::Null } else { value };
        fields.push_json(&name.replace('_', "-"), value)?;
    }
    Ok(fields)
}

async fn make(call: Call, edit: Edit) -> Answer {
    make_all(call, vec![edit]).await
}

async fn make_all(call: Call, edits: Vec<Edit>) -> Answer {
    let change = move |text: &str| edit::apply(text, &edits).map_err(refused);
    told(call.administrator.change(change, call.how()).await)
}

/// What came of a change.
pub fn told(outcome: Result<Plan, Refused>) -> Answer {
    outcome.map(|plan| Reply::Json(plan.json())).map_err(Problem::from)
}

/// Why an edit could not be made, as the administrator says it.
fn refused(wrong: edit::Wrong) -> Refused {
    match wrong.kind {
        edit::Kind::Missing => Refused::NotFound(wrong.to_string()),
        edit::Kind::Exists => Refused::Exists(wrong.to_string()),
        edit::Kind::Document | edit::Kind::Edit => Refused::Input(wrong.to_string()),
    }
}

impl From<Refused> for Problem {
    fn from(refused: Refused) -> Problem {
        let mut problem = Problem::line(refused.code(), &refused.to_string());
        match &refused {
            Refused::Findings(findings) => {
                problem.message = "the configuration would be wrong".to_owned();
                problem.help = "see `findings`".to_owned();
                problem.findings = findings.iter().map(crate::configuration::Found::json).collect();
            }
            Refused::Stuck(plan) | Refused::InUse(plan) => problem.plan = Some(Box::new(plan.json())),
            _ => {}
        }
        problem
    }
}

fn text(body: &Value, key: &str) -> String {
    body.get(key).and_then(Value::as_str).unwrap_or_default().to_owned()
}

fn number(body: &Value, key: &str) -> Option<u16> {
    body.get(key).and_then(Value::as_u64).and_then(|number| u16::try_from(number).ok())
}
