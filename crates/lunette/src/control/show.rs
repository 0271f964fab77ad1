//! Shows what is configured: what the document says, and beside it what runs.

use super::problem::Problem;
use super::route::{Answer, Call, Reply};
use super::{events, json, openapi};
use crate::configuration::edit::{self, TargetView, View};
use crate::configuration::finding::{suggest, there_are};
use crate::serve::administrator::{Served, ServedTarget};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;

/// The document of this API.
pub async fn openapi(_call: Call) -> Answer {
    Ok(Reply::Json(openapi::document()))
}

/// Events from now on.
pub async fn events(call: Call) -> Answer {
    let kinds = call.query.iter().filter(|(name, _)| name == "kind").flat_map(|(_, value)| value.split(','));
    Ok(Reply::Events(kinds.filter(|kind| !kind.is_empty()).map(str::to_owned).collect()))
}

/// What the daemon has given up.
pub async fn sandbox(_call: Call) -> Answer {
    Ok(Reply::Json(crate::sandbox::view()))
}

/// How the daemon stands.
pub async fn status(call: Call) -> Answer {
    let served = call.administrator.served();
    Ok(Reply::Json(json!({
        "version": env!("CARGO_PKG_VERSION"),
        "process": std::process::id(),
        "since": json::timestamp(events::started()),
        "configuration": served.document.path().map(|path| path.display().to_string()),
        "targets": served.targets.len(),
        "luns": served.units().count(),
        "portals": served.bound.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "sessions": call.administrator.door().sessions(),
        "events_readers": events::readers(),
    })))
}

/// The front door.
pub async fn door(call: Call) -> Answer {
    Ok(Reply::Json(json::door(&call.administrator.door().view())))
}

/// Opens or closes it.
pub async fn set_door(call: Call) -> Answer {
    let open = call.body["open"] == true;
    call.administrator.door().set_open(open);
    tracing::info!(open, "logins are {}", if open { "taken" } else { "answered with: service unavailable" });
    let line = if open { "logins are taken" } else { "no logins are taken; who is there stays" };
    Ok(Reply::Json(json!({ "done": true, "line": line })))
}

/// What is shown: the document's entries, and what runs.
struct Shown {
    view: View,
    served: Arc<Served>,
    /// Sessions of each target.
    sessions: BTreeMap<String, usize>,
}

async fn look(call: &Call) -> Result<Shown, Problem> {
    let mut sessions = BTreeMap::new();
    for worker in call.administrator.door().workers().await.into_iter().flatten() {
        for session in worker.sessions {
            *sessions.entry(session.target).or_default() += 1;
        }
    }
    Ok(Shown { sessions, ..look_at_document(call)? })
}

fn look_at_document(call: &Call) -> Result<Shown, Problem> {
    let served = call.administrator.served();
    let view = edit::view(served.document.text())?;
    Ok(Shown { view, served, sessions: BTreeMap::new() })
}

impl Shown {
    fn target(&self, name: &str) -> Result<&TargetView, Problem> {
        let found = self.view.targets.iter().find(|target| edit::same_name(target.name(), name));
        found.ok_or_else(|| {
            let help = suggest(name, self.view.targets.iter().map(TargetView::name));
            Problem::not_found(format!("there is no target {name}"), help)
        })
    }

    fn running(&self, target: &TargetView) -> Option<&ServedTarget> {
        self.served.targets.iter().find(|running| edit::same_name(&running.name, target.name()))
    }

    fn target_json(&self, target: &TargetView) -> Value {
        let mut told = target.values.clone();
        let name = self.running(target).map_or(target.name(), |running| running.name.as_str());
        told.insert("sessions".into(), self.sessions.get(name).copied().unwrap_or(0).into());
        told.insert("luns".into(), self.luns(target));
        told.insert("rules".into(), rules_json(target));
        Value::Object(told)
    }

    fn luns(&self, target: &TargetView) -> Value {
        let mut luns: Vec<_> = target.luns.iter().collect();
        luns.sort_by_key(|(number, _)| *number);
        luns.into_iter().map(|(number, values)| self.lun(target, *number, values)).collect()
    }

    fn lun(&self, target: &TargetView, number: u16, values: &Map<String, Value>) -> Value {
        let mut told = values.clone();
        if let Some(store) = values.get("store").and_then(Value::as_str) {
            told.insert("store".into(), crate::remote::without_secrets(store, edit::KEPT).into());
        }
        told.insert("number".into(), number.into());
        told.insert("target".into(), target.name().into());
        let unit = self.running(target).and_then(|running| running.units.iter().find(|unit| unit.number == number));
        let standing = unit.map(|unit| unit.unit.standing());
        let state = standing.as_ref().map(|standing| match standing {
            standing if !standing.online => "offline",
            standing if standing.empty => "empty",
            _ => "online",
        });
        let limits = standing.as_ref().map(|standing| &standing.limits);
        let identity = unit.map(|unit| unit.unit.identity());
        let uuid = identity.as_ref().map(|identity| identity.uuid.iter().map(|byte| format!("{byte:02x}")).collect());
        let more = [
            ("bytes", json!(limits.map(|limits| limits.capacity()))),
            ("block_bytes", json!(limits.map(|limits| limits.block_length))),
            ("uuid", json!(uuid.map(|uuid: String| uuid))),
            ("unit_serial", json!(identity.as_ref().map(|identity| identity.serial.clone()))),
            ("state", json!(state)),
            ("writable", json!(standing.as_ref().map(|standing| !standing.read_only))),
            ("unmaps", json!(limits.map(|limits| limits.unmap.is_some()))),
            ("write_protected", json!(standing.as_ref().map(|standing| standing.write_protected))),
        ];
        told.extend(more.map(|(key, value)| (key.to_owned(), value)));
        Value::Object(told)
    }
}

fn rules_json(target: &TargetView) -> Value {
    target.rules.iter().enumerate().map(|(at, rule)| rule_json(target, at + 1, rule)).collect()
}

fn rule_json(target: &TargetView, position: usize, rule: &Map<String, Value>) -> Value {
    let mut told = rule.clone();
    told.insert("target".into(), target.name().into());
    told.insert("position".into(), position.into());
    Value::Object(told)
}

/// All targets.
pub async fn targets(call: Call) -> Answer {
    let shown = look(&call).await?;
    let targets: Vec<Value> = shown.view.targets.iter().map(|target| shown.target_json(target)).collect();
    Ok(Reply::Json(json!({ "targets": targets })))
}

/// One of them.
pub async fn target(call: Call) -> Answer {
    let shown = look(&call).await?;
    Ok(Reply::Json(shown.target_json(shown.target(call.named(0))?)))
}

/// The disks of all targets.
pub async fn all_luns(call: Call) -> Answer {
    let shown = look_at_document(&call)?;
    let all = shown.view.targets.iter().map(|target| shown.luns(target));
    let all: Vec<Value> = all.flat_map(|luns| luns.as_array().cloned().unwrap_or_default()).collect();
    Ok(Reply::Json(json!({ "luns": all })))
}

/// The disks of a target.
pub async fn luns(call: Call) -> Answer {
    let shown = look_at_document(&call)?;
    let target = shown.target(call.named(0))?;
    Ok(Reply::Json(json!({ "luns": shown.luns(target) })))
}

/// A disk.
pub async fn lun(call: Call) -> Answer {
    let shown = look_at_document(&call)?;
    let target = shown.target(call.named(0))?;
    let number = call.number(1, "LUN")?;
    let found = target.luns.iter().find(|(known, _)| *known == number);
    let (number, values) = found.ok_or_else(|| {
        let help = there_are(target.luns.iter().map(|(number, _)| *number));
        Problem::not_found(format!("{} has no LUN {number}", target.name()), help)
    })?;
    Ok(Reply::Json(shown.lun(target, *number, values)))
}

/// Who may use a target.
pub async fn rules(call: Call) -> Answer {
    let shown = look_at_document(&call)?;
    let target = shown.target(call.named(0))?;
    Ok(Reply::Json(json!({ "rules": rules_json(target) })))
}

/// A rule.
pub async fn rule(call: Call) -> Answer {
    let shown = look_at_document(&call)?;
    let target = shown.target(call.named(0))?;
    let position = usize::from(call.number(1, "rule")?);
    let rule = position.checked_sub(1).and_then(|at| target.rules.get(at));
    let rule = rule.ok_or_else(|| {
        let help = format!("it has {}", target.rules.len());
        Problem::not_found(format!("{} has no rule {position}", target.name()), help)
    })?;
    Ok(Reply::Json(rule_json(target, position, rule)))
}

/// The accounts.
pub async fn accounts(call: Call) -> Answer {
    let shown = look_at_document(&call)?;
    let all: Vec<Value> = shown.view.accounts.iter().map(|account| account_json(&shown.view, account)).collect();
    Ok(Reply::Json(json!({ "accounts": all })))
}

/// An account.
pub async fn account(call: Call) -> Answer {
    let shown = look_at_document(&call)?;
    let name = call.named(0);
    let found = shown.view.accounts.iter().find(|(known, _)| known == name);
    let found = found.ok_or_else(|| {
        let help = suggest(name, shown.view.accounts.iter().map(|(name, _)| name.as_str()));
        Problem::not_found(format!("there is no account {name}"), help)
    })?;
    Ok(Reply::Json(account_json(&shown.view, found)))
}

fn account_json(view: &View, (name, values): &(String, Map<String, Value>)) -> Value {
    let names = |values: &Map<String, Value>| {
        let named = |value: &Value| match value {
            Value::Array(list) => list.iter().any(|one| one == name.as_str()),
            one => one == name.as_str(),
        };
        ["accounts", "mutual"].iter().any(|key| values.get(*key).is_some_and(named))
    };
    let mut used: Vec<&str> = view
        .targets
        .iter()
        .filter(|target| names(&target.values) || target.rules.iter().any(names))
        .map(TargetView::name)
        .collect();
    if names(&view.discovery) {
        used.push("discovery");
    }
    let mut told = values.clone();
    told.insert("name".into(), name.as_str().into());
    told.insert("used_by".into(), json!(used));
    Value::Object(told)
}

/// Where it listens.
pub async fn portals(call: Call) -> Answer {
    let shown = look_at_document(&call)?;
    Ok(Reply::Json(json!({ "portals": portals_json(&shown) })))
}

/// A portal.
pub async fn portal(call: Call) -> Answer {
    let shown = look_at_document(&call)?;
    let (listen, all) = (call.named(0), portals_json(&shown));
    let said = |portal: &Value| portal["listen"].as_str().unwrap_or_default().to_owned();
    let found = all.iter().find(|portal| edit::same_portal(&said(portal), listen));
    let found = found.cloned().ok_or_else(|| {
        let known: Vec<String> = all.iter().map(said).collect();
        let help = suggest(listen, known.iter().map(String::as_str));
        Problem::not_found(format!("no portal listens at {listen}"), help)
    })?;
    Ok(Reply::Json(found))
}

fn portals_json(shown: &Shown) -> Vec<Value> {
    let meant = [Map::from_iter([("listen".to_owned(), edit::DEFAULT_PORTAL.into())])];
    let (all, said) = match shown.view.says_portals {
        true => (&shown.view.portals[..], true),
        false => (&meant[..], false),
    };
    // The reader has made one or more of each, and says of which.
    let listens = shown.served.configuration.listens.iter().zip(&shown.served.bound);
    let tell = |portal: &Map<String, Value>| {
        let text = portal.get("listen").and_then(Value::as_str).unwrap_or_default();
        let quoted = format!("{text:?}");
        let own = listens.clone().filter(|(listen, _)| !said || listen.said.ends_with(&quoted));
        let mut told = portal.clone();
        told.insert("said".into(), said.into());
        told.insert("addresses".into(), own.map(|(_, bound)| bound.to_string()).collect::<Vec<_>>().into());
        Value::Object(told)
    };
    all.iter().map(tell).collect()
}

/// The portal groups.
pub async fn groups(call: Call) -> Answer {
    let shown = look_at_document(&call)?;
    Ok(Reply::Json(json!({ "groups": groups_json(&shown) })))
}

/// A portal group.
pub async fn group(call: Call) -> Answer {
    let shown = look_at_document(&call)?;
    let number = call.number(0, "portal group")?;
    let all = groups_json(&shown);
    let found = all.iter().find(|group| group["number"] == number).cloned();
    found.map(Reply::Json).ok_or_else(|| {
        let help = there_are(all.iter().map(|group| group["number"].clone()));
        Problem::not_found(format!("no portal is of group {number}"), help)
    })
}

fn groups_json(shown: &Shown) -> Vec<Value> {
    let portals = portals_json(shown);
    let groups = shown.served.configuration.groups.iter().map(|group| {
        let own = portals.iter().filter(|portal| portal["group"].as_u64().unwrap_or(1) == u64::from(group.number));
        let own: Vec<&Value> = own.map(|portal| &portal["listen"]).collect();
        json!({
            "number": group.number,
            "state": group.state.name(),
            "preferred": group.preferred,
            "portals": own,
        })
    });
    groups.collect()
}

/// Every bound.
pub async fn limits(call: Call) -> Answer {
    let bounds = call.administrator.door().view().bounds;
    Ok(Reply::Json(json!({ "limits": bounds.iter().map(json::bound).collect::<Vec<_>>() })))
}

/// What is logged.
pub async fn log(call: Call) -> Answer {
    let shown = look_at_document(&call)?;
    let configuration = &shown.served.configuration;
    let format = match configuration.log_format {
        crate::logging::Format::Auto => "auto",
        crate::logging::Format::Text => "text",
        crate::logging::Format::Json => "json",
        crate::logging::Format::Journald => "journald",
    };
    let mut told = json!({ "level": configuration.log_level, "format": format });
    if let Some(slow) = shown.view.log.get("slow") {
        told["slow"] = slow.clone();
    }
    Ok(Reply::Json(told))
}
