//! `lunette node`: records shown, added, changed and removed; logins and logouts by them.

use super::machine::{Keeper, Machine};
use super::{Settings, order};
use crate::failure::{Cause, Failure};
use clap::{Args, Subcommand};
use compat::iscsiadm::{Code, Failure as Refusal, Initiator, Session, Wait};
use compat::records::{Choice, Class, Database, Error, KEYS, Node, PortalPattern, Secrets, TAG_UNKNOWN};
use serde_json::{Value, json};
use std::io::Write;

/// Sessions that one record may ask for.
const SESSIONS_MAX: usize = 32;

/// Arguments of `lunette node`.
#[derive(Args)]
#[command(
    after_help = "The records are open-iscsi's own (docs/nodes.md); `lunette iscsiadm` has its command line too.\n\n\
    Examples:\n  lunette node add iqn.2026-11.com.example:disk 10.0.0.1\n  \
    lunette node set iqn.2026-11.com.example:disk node.startup=automatic\n  \
    lunette node login iqn.2026-11.com.example:disk\n  lunette node list --json\n  lunette node logout --all\n\n\
    Exit codes: 0 all went well, 1 it failed, 2 what was asked cannot be done as it was asked, 3 nobody answers,\n\
    4 the target refuses the login, 5 there is no such record or session, 6 it is in use or logged in already."
)]
pub struct Arguments {
    #[command(subcommand)]
    verb: Verb,
    #[command(flatten)]
    settings: Settings,
}

#[derive(Subcommand)]
enum Verb {
    /// The records, a line each, and whether they are logged in
    List(Which),
    /// Every field of the records
    Show {
        #[command(flatten)]
        which: Which,
        /// Secrets as they are
        #[arg(long)]
        secrets: bool,
    },
    /// Enters a record
    Add {
        /// The target's name
        #[arg(value_name = "TARGET")]
        target: String,
        /// Where it is: ADDRESS[:PORT][,TAG]
        #[arg(value_name = "PORTAL")]
        portal: String,
        /// The interface that it is seen through
        #[arg(long, value_name = "NAME", default_value = "default")]
        iface: String,
        /// What was entered, as JSON
        #[arg(long)]
        json: bool,
        /// Fields that are to be otherwise than iscsid.conf has them
        #[arg(value_name = "NAME=VALUE")]
        fields: Vec<String>,
    },
    /// Changes fields of records
    Set {
        /// The target's name
        #[arg(value_name = "TARGET")]
        target: String,
        /// What shall be, for instance node.startup=automatic; an empty value takes a field back
        #[arg(value_name = "NAME=VALUE", required = true)]
        fields: Vec<String>,
        #[command(flatten)]
        place: Narrowing,
    },
    /// Removes records that are not logged in
    Delete(Which),
    /// Logs in
    Login(Which),
    /// Logs out, unless a disk is in use
    Logout(Which),
    /// What the sessions have moved
    Stats(Which),
}

/// Which records are meant.
#[derive(Args)]
struct Which {
    /// The target's name
    #[arg(value_name = "TARGET")]
    target: Option<String>,
    #[command(flatten)]
    place: Narrowing,
    /// All of them
    #[arg(long, conflicts_with = "target")]
    all: bool,
    /// As JSON
    #[arg(long)]
    json: bool,
}

/// Which of a target's records.
#[derive(Args)]
struct Narrowing {
    /// Only this portal: ADDRESS[:PORT]
    #[arg(long, value_name = "PORTAL")]
    portal: Option<String>,
    /// Only this interface
    #[arg(long, value_name = "NAME")]
    iface: Option<String>,
}

/// Does it.
pub fn run(arguments: &Arguments) -> Result<(), Failure> {
    let settings = arguments.settings.with_environment()?;
    let database = settings.database();
    match &arguments.verb {
        Verb::List(which) => list(&database, &settings.machine(&database)?, which),
        Verb::Show { which, secrets } => show(&database, which, *secrets),
        Verb::Add { target, portal, iface, json, fields } => {
            let node = add(&database, target, portal, iface, fields)?;
            match json {
                true => print(&format!("{}\n", to_json(&node, None, Secrets::Masked))),
                false => print(&format!("{} at {}\n", node.target, node.portal.with_colon())),
            }
            Ok(())
        }
        Verb::Set { target, fields, place } => set(&database, target, fields, place),
        Verb::Delete(which) => delete(&database, &settings.machine(&database)?, which),
        Verb::Login(which) => {
            named(which)?;
            let nodes = existing(&database, &choice(which.target.as_deref(), &which.place)?)?;
            let outcomes = login(&database, &settings.machine(&database)?, &nodes)?;
            told(&outcomes, which.json)
        }
        Verb::Logout(which) => logout(&settings.machine(&database)?, which),
        Verb::Stats(which) => stats(&settings.machine(&database)?, which),
    }
}

fn print(text: &str) {
    // Whoever asked may have closed the pipe.
    let _ = std::io::stdout().write_all(text.as_bytes());
}

/// A failure of the records.
pub fn failed(error: &Error) -> Failure {
    match error {
        Error::NotFound(line) => Failure::because(Cause::NotFound, line),
        Error::Invalid(line) => Failure::input(line),
        Error::Files(line) => Failure::runtime(line),
    }
}

/// What changes sessions or removes records says of whom.
fn named(which: &Which) -> Result<(), Failure> {
    match which.all || which.target.is_some() || which.place.portal.is_some() {
        true => Ok(()),
        false => Err(Failure::input("which records? Name a target or a portal, or say --all")),
    }
}

fn choice(target: Option<&str>, place: &Narrowing) -> Result<Choice, Failure> {
    let read = |text: &String| {
        PortalPattern::read(text).ok_or_else(|| Failure::input(format!("--portal {text}: ADDRESS[:PORT] is expected")))
    };
    let portal = place.portal.as_ref().map(read).transpose()?;
    Ok(Choice { target: target.map(str::to_owned), portal, iface: place.iface.clone() })
}

/// The records that are meant; none is a failure.
pub fn existing(database: &Database, choice: &Choice) -> Result<Vec<Node>, Failure> {
    let nodes = database.nodes(choice).map_err(|error| failed(&error))?;
    match (nodes.is_empty(), &choice.target) {
        (false, _) => Ok(nodes),
        (true, Some(target)) => {
            let line = format!("there is no such record of {target}; `lunette node list` shows which there are");
            Err(Failure::because(Cause::NotFound, line))
        }
        (true, None) => Err(Failure::because(Cause::NotFound, "there is no such record")),
    }
}

/// Whether a session was made of a record.
pub fn is_of(session: &Session, node: &Node) -> bool {
    let place = &session.persistent;
    session.target == node.target
        && (&place.address, place.port) == (&node.portal.address, node.portal.port)
        && session.iface == node.iface
}

fn to_json(node: &Node, session: Option<&Session>, secrets: Secrets) -> Value {
    let fields: serde_json::Map<_, _> =
        node.record.values(secrets).into_iter().map(|(name, value)| (name, value.into())).collect();
    json!({
        "target": node.target,
        "address": node.portal.address,
        "port": node.portal.port,
        "portal_group_tag": (node.portal.tag != TAG_UNKNOWN).then_some(node.portal.tag),
        "iface": node.iface,
        "startup": node.record.value("node.startup"),
        "session": session.map(|session| json!({
            "id": session.id,
            "state": session.session_state,
            "devices": devices(session),
        })),
        "fields": fields,
    })
}

fn devices(session: &Session) -> Vec<String> {
    let devices = session.units.iter().filter_map(|unit| unit.device.as_ref());
    devices.map(|device| if device.starts_with('/') { device.clone() } else { format!("/dev/{device}") }).collect()
}

fn list(database: &Database, machine: &Machine, which: &Which) -> Result<(), Failure> {
    let nodes = database.nodes(&choice(which.target.as_deref(), &which.place)?).map_err(|error| failed(&error))?;
    let sessions = machine.sessions().map_err(|refusal| refused(&refusal))?;
    let session_of = |node: &Node| sessions.iter().find(|session| is_of(session, node));
    if which.json {
        let nodes: Vec<Value> = nodes.iter().map(|node| to_json(node, session_of(node), Secrets::Masked)).collect();
        print(&format!("{}\n", json!({ "nodes": nodes })));
        return Ok(());
    }
    let mut rows = vec![["TARGET", "PORTAL", "IFACE", "STARTUP", "SESSION", "DEVICES"].map(str::to_owned)];
    for node in &nodes {
        let (state, devices) = match session_of(node) {
            Some(session) => (session.connection_state.to_lowercase(), devices(session).join(" ")),
            None => ("-".to_owned(), String::new()),
        };
        let startup = node.record.value("node.startup").to_owned();
        rows.push([node.target.clone(), node.portal.with_colon(), node.iface.clone(), startup, state, devices]);
    }
    if rows.len() > 1 {
        print(&table(&rows));
    }
    Ok(())
}

/// Columns as wide as they must be.
fn table<const N: usize>(rows: &[[String; N]]) -> String {
    let width =
        |at: usize| rows.iter().filter_map(|row| row.get(at)).map(|cell| cell.chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..N).map(width).collect();
    let line = |row: &[String; N]| {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        format!("{}\n", cells.collect::<Vec<_>>().join("  ").trim_end())
    };
    rows.iter().map(line).collect()
}

fn show(database: &Database, which: &Which, secrets: bool) -> Result<(), Failure> {
    let nodes = existing(database, &choice(which.target.as_deref(), &which.place)?)?;
    let secrets = if secrets { Secrets::Shown } else { Secrets::Masked };
    if which.json {
        let nodes: Vec<Value> = nodes.iter().map(|node| to_json(node, None, secrets)).collect();
        print(&format!("{}\n", json!({ "nodes": nodes })));
        return Ok(());
    }
    for node in nodes {
        print(&format!("{} at {}, iface {}\n", node.target, node.portal.with_colon(), node.iface));
        for (name, value) in node.record.values(secrets) {
            print(&format!("  {name} = {value}\n"));
        }
    }
    Ok(())
}

/// The changes that `NAME=VALUE` words ask for, each looked at before any is made.
fn changes(fields: &[String]) -> Result<Vec<(String, String)>, Failure> {
    let mut changes = Vec::new();
    for field in fields {
        let wrong = |why: &str| Err(Failure::input(format!("{field}: {why}")));
        let Some((name, value)) = field.split_once('=') else { return wrong("NAME=VALUE is expected") };
        let (name, value) = (name.trim(), value.trim());
        let Some(known) = Class::Node.field(name) else {
            return wrong("there is no such field; `lunette node show` shows which there are");
        };
        if KEYS.contains(&name) {
            return wrong("it is what finds the record; add another record and delete this one");
        }
        if name.starts_with("iface.") {
            return wrong("it belongs to the interface; `lunette iscsiadm -m iface` changes it");
        }
        let value = if value.is_empty() { known.default } else { value };
        match known.accept(value) {
            Ok(value) => changes.push((name.to_owned(), value)),
            Err(_) => return wrong(&format!("{} is expected", expected(known.kind))),
        }
    }
    Ok(changes)
}

fn expected(kind: compat::records::Kind) -> String {
    use compat::records::Kind;
    match kind {
        Kind::Text | Kind::Secret => "one line of at most 1024 characters".to_owned(),
        Kind::Number => "a whole number".to_owned(),
        Kind::Choice(words) => words.join(" or "),
        Kind::Algorithms => "a list of MD5, SHA1, SHA256, SHA3-256 with commas".to_owned(),
    }
}

fn add(database: &Database, target: &str, portal: &str, iface: &str, fields: &[String]) -> Result<Node, Failure> {
    let wrong = || Failure::input(format!("{portal}: ADDRESS[:PORT][,TAG] is expected"));
    let pattern = PortalPattern::read(portal).ok_or_else(wrong)?;
    let portal = pattern.or(3260, pattern.tag.unwrap_or(TAG_UNKNOWN));
    let changes = changes(fields)?;
    let defaults = database.defaults(Class::Node).map_err(|error| failed(&error))?;
    let iface = database.iface(iface).map_err(|error| failed(&error))?;
    let mut node = Node::new(&defaults, target, &portal, &iface).map_err(|error| failed(&error))?;
    changes.iter().for_each(|(name, value)| node.record.set(name, value));
    database.add_node(&node).map_err(|error| failed(&error))?;
    Ok(node)
}

fn set(database: &Database, target: &str, fields: &[String], place: &Narrowing) -> Result<(), Failure> {
    let changes = changes(fields)?;
    for mut node in existing(database, &choice(Some(target), place)?)? {
        changes.iter().for_each(|(name, value)| node.record.set(name, value));
        database.update_node(&node).map_err(|error| failed(&error))?;
    }
    Ok(())
}

fn delete(database: &Database, machine: &Machine, which: &Which) -> Result<(), Failure> {
    named(which)?;
    let nodes = existing(database, &choice(which.target.as_deref(), &which.place)?)?;
    let sessions = machine.sessions().map_err(|refusal| refused(&refusal))?;
    // All or nothing: whoever sees a failure finds everything as it was.
    if let Some(node) = nodes.iter().find(|node| sessions.iter().any(|session| is_of(session, node))) {
        let line = format!("{} at {} is logged in; log out first", node.target, node.portal.with_colon());
        return Err(Failure::because(Cause::InUse, line));
    }
    for node in &nodes {
        database.delete_node(node).map_err(|error| failed(&error))?;
    }
    if which.json {
        let gone: Vec<String> = nodes.iter().map(|node| order::label(node, 1)).collect();
        print(&format!("{}\n", json!({ "deleted": gone })));
    }
    Ok(())
}

/// What came of one login or logout.
pub struct Outcome {
    /// The target's name and portal.
    pub what: String,
    /// What it has now.
    pub devices: Vec<String>,
    /// Why not.
    pub refusal: Option<Refusal>,
}

/// Logs in to these, as far as they are not.
pub fn login(database: &Database, machine: &Machine, nodes: &[Node]) -> Result<Vec<Outcome>, Failure> {
    let sessions = machine.sessions().map_err(|refusal| refused(&refusal))?;
    let name = database.name_or_new().map_err(|error| failed(&error))?;
    let missing = |node: &Node| {
        let asked = node.record.number::<usize>("node.session.nr_sessions").unwrap_or(1).clamp(1, SESSIONS_MAX);
        asked.saturating_sub(sessions.iter().filter(|session| is_of(session, node)).count())
    };
    let wanted: Vec<Node> = nodes.iter().flat_map(|node| std::iter::repeat_n(node.clone(), missing(node))).collect();
    let results = machine.login(&wanted, &name, Wait::ForTheEnd);
    let after = machine.sessions().map_err(|refusal| refused(&refusal))?;
    let outcome = |node: &Node| {
        let label = order::label(node, 1);
        let own = wanted.iter().zip(&results).filter(|(wanted, _)| order::label(wanted, 1) == label);
        // That it is logged in by now is what was wanted.
        let mut refusals = own.filter_map(|(_, result)| result.as_ref().err());
        let refusal = refusals.find(|refusal| refusal.code != Code::SESSION_EXISTS || !refusal.lines.is_empty());
        Outcome {
            what: format!("{} at {}", node.target, node.portal.with_colon()),
            devices: after.iter().filter(|session| is_of(session, node)).flat_map(devices).collect(),
            refusal: refusal.cloned(),
        }
    };
    Ok(nodes.iter().map(outcome).collect())
}

/// A line for each, and the failure of the first.
fn told(outcomes: &[Outcome], as_json: bool) -> Result<(), Failure> {
    if as_json {
        let of = |outcome: &Outcome| {
            let failure = outcome.refusal.as_ref().map(|refusal| refused(refusal).to_string());
            json!({ "node": outcome.what, "devices": outcome.devices, "failure": failure })
        };
        print(&format!("{}\n", json!({ "nodes": outcomes.iter().map(of).collect::<Vec<_>>() })));
    } else {
        outcomes.iter().for_each(|outcome| print(&outcome.line("logged in")));
    }
    let first = outcomes.iter().find_map(|outcome| Some((outcome, outcome.refusal.as_ref()?)));
    match first {
        Some((outcome, refusal)) => Err(match refused(refusal) {
            Failure::Because(cause, line) => Failure::Because(cause, format!("{}: {line}", outcome.what)),
            Failure::Runtime(line) => Failure::Runtime(format!("{}: {line}", outcome.what)),
            other => other,
        }),
        None => Ok(()),
    }
}

impl Outcome {
    /// One line; `done` is what was wanted.
    pub fn line(&self, done: &str) -> String {
        let what = &self.what;
        match &self.refusal {
            Some(refusal) => format!("{what}: {}\n", refused(refusal)),
            None if self.devices.is_empty() => format!("{what}: {done}\n"),
            None => format!("{what}: {done}, {}\n", self.devices.join(" ")),
        }
    }
}

/// A refusal in iscsiadm's terms as a failure in ours.
pub fn refused(refusal: &Refusal) -> Failure {
    let line = if refusal.lines.is_empty() { refusal.code.text().to_owned() } else { refusal.lines.join("; ") };
    let cause = match refusal.code {
        Code::TIMED_OUT | Code::CONNECTION | Code::PDU_TIMED_OUT => Cause::TimedOut,
        Code::AUTHORIZATION => Cause::Authentication,
        Code::LOGIN_FATAL => Cause::Refused,
        Code::NOTHING_FOUND => Cause::NotFound,
        Code::BUSY | Code::SESSION_EXISTS => Cause::InUse,
        Code::DRIVER => Cause::Unavailable,
        Code::INVALID => return Failure::Input(line),
        _ => return Failure::Runtime(line),
    };
    Failure::Because(cause, line)
}

fn meant(machine: &Machine, which: &Which) -> Result<Vec<(Session, Keeper)>, Failure> {
    let choice = choice(which.target.as_deref(), &which.place)?;
    let mut kept = machine.kept();
    kept.retain(|(session, _)| choice.fits(&session.target, &session.persistent, &session.iface));
    match kept.is_empty() {
        true => Err(Failure::because(
            Cause::NotFound,
            "there is no such session; `lunette node list` shows which there are",
        )),
        false => Ok(kept),
    }
}

fn logout(machine: &Machine, which: &Which) -> Result<(), Failure> {
    named(which)?;
    let sessions: Vec<Session> = meant(machine, which)?.into_iter().map(|(session, _)| session).collect();
    told_logouts(&logouts(machine, &sessions), which.json)
}

/// Logs out of these.
pub fn logouts(machine: &Machine, sessions: &[Session]) -> Vec<Outcome> {
    let results = machine.logout(sessions);
    let outcome = |(session, result): (&Session, Result<(), Refusal>)| Outcome {
        what: format!("{} at {}", session.target, session.persistent.with_colon()),
        devices: Vec::new(),
        refusal: result.err(),
    };
    sessions.iter().zip(results).map(outcome).collect()
}

fn told_logouts(outcomes: &[Outcome], as_json: bool) -> Result<(), Failure> {
    match as_json {
        true => told(outcomes, true),
        false => {
            outcomes.iter().for_each(|outcome| print(&outcome.line("logged out")));
            let first = outcomes.iter().find_map(|outcome| outcome.refusal.as_ref());
            first.map_or(Ok(()), |refusal| Err(refused(refusal)))
        }
    }
}

fn stats(machine: &Machine, which: &Which) -> Result<(), Failure> {
    let mut all = Vec::new();
    for (session, _) in meant(machine, which)? {
        let counted = machine.statistics(&session).map_err(|refusal| refused(&refusal))?;
        let rows: Vec<(String, u64)> = counted.mib.into_iter().chain(counted.others).collect();
        if which.json {
            let counters: serde_json::Map<_, _> = rows.into_iter().map(|(name, value)| (name, value.into())).collect();
            let portal = session.persistent.with_colon();
            all.push(json!({ "target": session.target, "portal": portal, "id": session.id, "counters": counters }));
            continue;
        }
        print(&format!("{} at {}\n", session.target, session.persistent.with_colon()));
        rows.iter().for_each(|(name, value)| print(&format!("  {name:<20} {value}\n")));
    }
    if which.json {
        print(&format!("{}\n", json!({ "sessions": all })));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_are_looked_at_before_any_is_made() {
        let refused = |field: &str| changes(&[field.to_owned()]).unwrap_err().to_string();
        assert_eq!(
            refused("node.startup=sometimes"),
            "node.startup=sometimes: manual or automatic or onboot is expected"
        );
        assert!(refused("node.startup").contains("NAME=VALUE"));
        assert!(refused("node.sturtup=manual").contains("there is no such field"));
        assert!(refused("node.name=iqn.b").contains("what finds the record"));
        assert!(refused("iface.mtu=9000").contains("interface"));
        let set = changes(&["node.startup=automatic".to_owned(), "node.session.cmds_max=".to_owned()]).unwrap();
        assert_eq!(set[1], ("node.session.cmds_max".to_owned(), "128".to_owned()), "an empty value is the default");
    }

    #[test]
    fn columns_are_as_wide_as_they_must_be() {
        let rows = [["A", "LONG"].map(str::to_owned), ["value", ""].map(str::to_owned)];
        assert_eq!(table(&rows), "A      LONG\nvalue\n");
    }
}
