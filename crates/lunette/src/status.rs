//! `lunette status`: asks a daemon how it stands, and shows it to people or to programs.

use crate::control;
use crate::failure::Failure;
use crate::sandbox;
use clap::Args;
use serde_json::Value;
use std::fmt::Write as _;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long the daemon may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// Bytes of an answer.
const ANSWER_BYTES: u64 = 64 << 20;

/// Arguments of `lunette status`.
#[derive(Args)]
#[command(after_help = "Examples:\n  lunette status\n  lunette status --json | jq .door.logins\n\n\
    Exit codes: 0 it answered, 1 nobody does there, 2 what was asked cannot be done as it was asked.")]
pub struct Arguments {
    /// The daemon's socket [default: where `lunette serve` puts it]
    #[arg(long, value_name = "PATH")]
    control: Option<PathBuf>,
    /// The --state-dir of the daemon, where its socket is in it
    #[arg(long, value_name = "DIR", conflicts_with = "control")]
    state_dir: Option<PathBuf>,
    /// As JSON, whole
    #[arg(long)]
    json: bool,
}

/// Asks and prints.
pub fn run(arguments: &Arguments) -> Result<(), Failure> {
    let path = control::path(arguments.control.as_deref(), arguments.state_dir.as_deref())
        .ok_or_else(|| Failure::input("where the daemon's socket is, is not known; name it with --control PATH"))?;
    let (door, sessions) = (ask(&path, "/v1/door")?, ask(&path, "/v1/sessions")?);
    let sandbox = ask(&path, "/v1/sandbox")?;
    let text = match arguments.json {
        true => format!("{}\n", serde_json::json!({ "door": door, "sessions": sessions, "sandbox": sandbox })),
        false => format!("Sandbox      {}\n{}{}", sandbox::line(&sandbox), people(&door), table(&sessions)),
    };
    // Whoever asked may have closed the pipe.
    let _ = std::io::stdout().write_all(text.as_bytes());
    Ok(())
}

/// One GET over the socket.
pub fn ask(path: &Path, what: &str) -> Result<Value, Failure> {
    let failed = |why: &str| Failure::runtime(format!("{}: {why}", path.display()));
    let mut stream = UnixStream::connect(path).map_err(|error| control::nobody(path, &error))?;
    let exchange = |stream: &mut UnixStream| -> std::io::Result<Vec<u8>> {
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        write!(stream, "GET {what} HTTP/1.1\r\nHost: lunette\r\nConnection: close\r\n\r\n")?;
        let mut answer = Vec::new();
        stream.take(ANSWER_BYTES).read_to_end(&mut answer)?;
        Ok(answer)
    };
    let answer = exchange(&mut stream).map_err(|error| failed(&error.to_string()))?;
    let answer = String::from_utf8(answer).map_err(|_| failed("its answer is no text"))?;
    let (head, body) = answer.split_once("\r\n\r\n").ok_or_else(|| failed("it closed without an answer"))?;
    let status = head.split(' ').nth(1).unwrap_or_default();
    let body: Value = serde_json::from_str(body).map_err(|error| failed(&format!("its answer is no JSON: {error}")))?;
    match status {
        "200" => Ok(body),
        _ => Err(failed(&format!("status {status}: {}", body["message"].as_str().unwrap_or_default()))),
    }
}

fn people(door: &Value) -> String {
    let mut out = String::new();
    let number = |value: &Value| value.as_u64().unwrap_or_default();
    let text = |value: &Value| value.as_str().unwrap_or("-").to_owned();
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let failed: Vec<_> = door["logins"]["failed"].as_object().into_iter().flatten().collect();
    let all: u64 = failed.iter().map(|(_, count)| number(count)).sum();
    let causes: Vec<_> =
        failed.iter().filter(|(_, count)| number(count) > 0).map(|(cause, count)| format!("{cause} {count}")).collect();
    let causes = if causes.is_empty() { String::new() } else { format!(" ({})", causes.join(", ")) };
    let _ = writeln!(out, "Sessions     {}", door["sessions"]);
    let _ = writeln!(out, "Logins       {} succeeded, {all} failed{causes}", door["logins"]["succeeded"]);
    let _ = write!(out, "At the door  {}", door["at_the_door"]);
    if number(&door["at_the_door"]) > 0 {
        let _ = write!(out, ", the oldest for {} s", door["oldest_seconds"]);
    }
    let _ = writeln!(out, "; {} wait to hear that they are refused", door["delayed"]);
    for crowd in list(&door["crowds"]).iter().filter(|crowd| number(&crowd["connections"]) > 1) {
        let _ = writeln!(out, "             {} from {}", crowd["connections"], text(&crowd["address"]));
    }
    let _ = writeln!(out, "\n{:<22} {:>8} {:>9}  BOUNDED", "LIMIT", "SETTING", "STRUCK");
    for bound in list(&door["bounds"]) {
        let (name, setting, what) = (text(&bound["name"]), text(&bound["setting"]), text(&bound["what"]));
        let _ = writeln!(out, "{name:<22} {setting:>8} {:>9}  {what}", number(&bound["struck"]));
    }
    let refusals = list(&door["refusals"]);
    if !refusals.is_empty() {
        let _ = writeln!(out, "\n{:<20}  {:<21}  {:<14}  WHO, AND WHY", "REFUSED", "FROM", "CAUSE");
    }
    for refusal in refusals {
        let (time, peer, cause) = (text(&refusal["time"]), text(&refusal["peer"]), text(&refusal["cause"]));
        let who = match (refusal["initiator"].as_str(), refusal["target"].as_str()) {
            (Some(initiator), Some(target)) => format!("{initiator} for {target}: "),
            (Some(initiator), None) => format!("{initiator} for discovery: "),
            _ => String::new(),
        };
        let _ = writeln!(out, "{time:<20}  {peer:<21}  {cause:<14}  {who}{}", text(&refusal["why"]));
    }
    out
}

/// The sessions, a line each.
fn table(answer: &Value) -> String {
    let mut out = String::new();
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    for worker in list(&answer["workers"]).iter().filter(|worker| worker["answers"] == false) {
        let _ = writeln!(out, "\nWorker {} does not answer", worker["worker"]);
    }
    let sessions = list(&answer["sessions"]);
    if !sessions.is_empty() {
        let _ = writeln!(out, "\n{:<20}  {:<21}  {:>8}  {:>9}  SESSION", "SINCE", "FROM", "COMMANDS", "MIB");
    }
    for session in sessions {
        let connections = list(&session["connections"]);
        let text = |value: &Value| value.as_str().unwrap_or("-").to_owned();
        let bytes =
            |connection: &Value| ["received_bytes", "sent_bytes"].map(|way| connection[way].as_u64().unwrap_or(0));
        let moved: u64 = connections.iter().flat_map(bytes).sum();
        let peer = connections.first().map_or("-".to_owned(), |first| text(&first["peer"]));
        let more = match connections.len() {
            0 | 1 => String::new(),
            count => format!(", {count} connections"),
        };
        let (since, initiator, target) =
            (text(&session["since"]), text(&session["initiator"]), text(&session["target"]));
        let _ = writeln!(
            out,
            "{since:<20}  {peer:<21}  {:>8}  {:>9}  {initiator} at {target}{more}",
            session["commands"].as_u64().unwrap_or_default(),
            moved >> 20
        );
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failure::Cause;

    #[test]
    fn a_daemon_that_is_not_there_is_told_with_the_remedy() {
        let folder = sim::daemon::Folder::new();
        let Err(Failure::Because(Cause::Unreachable, line)) = ask(&folder.path().join("none.sock"), "/v1/door") else {
            panic!("somebody answered")
        };
        assert!(line.contains("none.sock") && line.contains("lunette serve") && line.contains("--control"), "{line}");
    }

    #[test]
    fn people_see_what_struck_and_who_was_refused_and_why() {
        let door = serde_json::json!({
            "at_the_door": 3, "oldest_seconds": 1.5, "delayed": 1, "sessions": 2,
            "crowds": [{ "address": "192.0.2.1", "connections": 2 }, { "address": "192.0.2.2", "connections": 1 }],
            "logins": { "succeeded": 5, "failed": { "access": 1, "time": 0 } },
            "bounds": [{ "name": "logins", "setting": "1024", "value": 1024, "struck": 7, "what": "connections" }],
            "refusals": [{ "time": "2026-11-21T10:00:00Z", "peer": "192.0.2.1:99", "initiator": "iqn.a",
                "target": "iqn.b", "cause": "access", "status": "0203", "why": "none of the target's 2 rules fits" }],
        });
        let shown = people(&door);
        for line in [
            "Logins       5 succeeded, 1 failed (access 1)",
            "At the door  3, the oldest for 1.5 s; 1 wait to hear that they are refused",
            "             2 from 192.0.2.1",
            "logins                     1024         7  connections",
            "2026-11-21T10:00:00Z  192.0.2.1:99           access          iqn.a for iqn.b: none of the target's 2 rules fits",
        ] {
            assert!(shown.lines().any(|shown| shown == line), "{line}\n{shown}");
        }
    }
}
