//! What people read of a daemon: a page of it.

use crate::sandbox;
use crate::top::{bytes, count, latency, lun_rates};
use serde_json::Value;
use std::fmt::Write;

/// Refusals that are shown where not all are asked for.
const REFUSALS: usize = 5;
/// LUNs and sessions that are shown where not all are asked for.
const ROWS: usize = 40;

/// What was asked.
pub struct Page<'a> {
    /// What runs.
    pub running: &'a Value,
    /// What was counted a moment ago.
    pub before: &'a Value,
    /// What is counted now.
    pub statistics: &'a Value,
    /// The door.
    pub door: &'a Value,
    /// The sessions.
    pub sessions: &'a Value,
    /// The sandbox.
    pub sandbox: &'a Value,
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or_default()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or("-")
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

/// What somebody should look at, a line each.
pub fn warnings(running: &Value, statistics: &Value, door: &Value, sessions: &Value) -> Vec<String> {
    let mut warnings = Vec::new();
    if running["document_differs"] == true {
        let document = text(&running["document"]);
        warnings.push(format!("{document} says something else than what is served: lunette apply"));
    }
    for worker in list(&sessions["workers"]).iter().filter(|worker| worker["answers"] == false) {
        warnings.push(format!("worker {} does not answer", worker["worker"]));
    }
    for lun in list(&statistics["luns"]) {
        let name = format!("LUN {} of {}", lun["lun"], text(&lun["target"]));
        if lun["state"] == "offline" {
            warnings.push(format!("{name} is offline"));
        }
        let failed = number(&lun["errors"]["medium_error"]) + number(&lun["errors"]["hardware_error"]);
        if failed > 0 {
            warnings.push(format!("{name}: its store failed {failed} commands; see the log"));
        }
    }
    let struck: Vec<_> = list(&door["bounds"]).iter().filter(|bound| number(&bound["struck"]) > 0).collect();
    if !struck.is_empty() {
        let each = struck.iter().map(|bound| format!("{} {}", text(&bound["name"]), number(&bound["struck"])));
        warnings.push(format!("bounds struck since the start: {}", each.collect::<Vec<_>>().join(", ")));
    }
    warnings
}

impl Page<'_> {
    /// All of it, or what is most worth knowing.
    pub fn text(&self, warnings: &[String], verbose: bool) -> String {
        let mut out = String::new();
        self.daemon(&mut out);
        self.door(&mut out);
        for (at, warning) in warnings.iter().enumerate() {
            let _ = writeln!(out, "{:<13}{warning}", if at == 0 { "Warnings" } else { "" });
        }
        self.luns(&mut out, verbose);
        self.sessions(&mut out, verbose);
        self.bounds(&mut out, verbose);
        self.refusals(&mut out, verbose);
        out
    }

    fn daemon(&self, out: &mut String) {
        let told = self.running;
        let (version, since) = (text(&told["version"]), text(&told["since"]));
        let _ = writeln!(out, "Daemon       lunette {version}, process {}, since {since}", told["process"]);
        if let Some(document) = told["document"].as_str() {
            let changed = if told["document_differs"] == true { ", changed since: lunette apply" } else { "" };
            let _ = writeln!(out, "Document     {document}{changed}");
        }
        let portals: Vec<&str> = list(&told["portals"]).iter().map(text).collect();
        if !portals.is_empty() {
            let _ = writeln!(out, "Portals      {}", portals.join("  "));
        }
        let _ = writeln!(out, "Sandbox      {}", sandbox::line(self.sandbox));
    }

    fn door(&self, out: &mut String) {
        let door = self.door;
        let failed: Vec<_> = door["logins"]["failed"].as_object().into_iter().flatten().collect();
        let all: u64 = failed.iter().map(|(_, count)| number(count)).sum();
        let causes =
            failed.iter().filter(|(_, count)| number(count) > 0).map(|(cause, count)| format!("{cause} {count}"));
        let causes = causes.collect::<Vec<_>>().join(", ");
        let causes = if causes.is_empty() { causes } else { format!(" ({causes})") };
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
    }

    fn luns(&self, out: &mut String, verbose: bool) {
        let luns = list(&self.statistics["luns"]);
        let mut target = "";
        let shown = if verbose { luns.len() } else { ROWS };
        for lun in luns.iter().take(shown) {
            if text(&lun["target"]) != target {
                target = text(&lun["target"]);
                let _ = writeln!(out, "\nTarget       {target}");
                let _ = writeln!(
                    out,
                    "{:>5}  {:<8} {:>6} {:>6} {:>6} {:>6} {:>6} {:>6}  STORE",
                    "LUN", "STATE", "SIZE", "OP/S", "RDB/S", "WRB/S", "P99", "FAILED"
                );
            }
            let state = match (text(&lun["state"]), lun["writable"] == false) {
                ("online", true) => "readonly",
                (state, _) => state,
            };
            let rates = lun_rates(self.before, self.statistics, lun);
            let _ = writeln!(
                out,
                "{:>5}  {state:<8} {:>6} {:>6} {:>6} {:>6} {:>6} {:>6}  {}",
                number(&lun["lun"]),
                bytes(number(&lun["bytes"]) as f64),
                count(rates.operations),
                bytes(rates.read_bytes),
                bytes(rates.written_bytes),
                latency(rates.p99),
                lun["errors"].as_object().into_iter().flatten().map(|(_, count)| number(count)).sum::<u64>(),
                text(&lun["store"]),
            );
        }
        // Those without a disk as well.
        let names = list(&self.running["targets"]).iter().map(text);
        for name in names.filter(|name| !luns.iter().any(|lun| text(&lun["target"]) == *name)) {
            let _ = writeln!(out, "\nTarget       {name}\n       no LUN");
        }
        if luns.len() > shown {
            let _ = writeln!(out, "… and {} more LUNs; --verbose shows them, `lunette top` too", luns.len() - shown);
        }
    }

    fn sessions(&self, out: &mut String, verbose: bool) {
        let sessions = list(&self.sessions["sessions"]);
        if sessions.is_empty() {
            return;
        }
        let _ =
            writeln!(out, "\n{:>5}  {:<20}  {:<21}  {:>8}  {:>9}  SESSION", "NR", "SINCE", "FROM", "COMMANDS", "MIB");
        let shown = if verbose { sessions.len() } else { ROWS };
        for session in sessions.iter().take(shown) {
            let connections = list(&session["connections"]);
            let bytes = |connection: &Value| ["received_bytes", "sent_bytes"].map(|way| number(&connection[way]));
            let moved: u64 = connections.iter().flat_map(bytes).sum();
            let peer = connections.first().map_or("-", |first| text(&first["peer"]));
            let more = match connections.len() {
                0 | 1 => String::new(),
                count => format!(", {count} connections"),
            };
            let _ = writeln!(
                out,
                "{:>5}  {:<20}  {peer:<21}  {:>8}  {:>9}  {} at {}{more}",
                number(&session["tsih"]),
                text(&session["since"]),
                number(&session["commands"]),
                moved >> 20,
                text(&session["initiator"]),
                text(&session["target"]),
            );
        }
        if sessions.len() > shown {
            let _ = writeln!(out, "… and {} more sessions; --verbose shows them", sessions.len() - shown);
        }
    }

    fn bounds(&self, out: &mut String, verbose: bool) {
        let bounds = list(&self.door["bounds"]);
        let shown: Vec<_> = bounds.iter().filter(|bound| verbose || number(&bound["struck"]) > 0).collect();
        if shown.is_empty() {
            return;
        }
        let _ = writeln!(out, "\n{:<22} {:>8} {:>9}  BOUNDED", "LIMIT", "SETTING", "STRUCK");
        for bound in shown {
            let (name, setting, what) = (text(&bound["name"]), text(&bound["setting"]), text(&bound["what"]));
            let _ = writeln!(out, "{name:<22} {setting:>8} {:>9}  {what}", number(&bound["struck"]));
        }
    }

    fn refusals(&self, out: &mut String, verbose: bool) {
        let refusals = list(&self.door["refusals"]);
        if refusals.is_empty() {
            return;
        }
        let _ = writeln!(out, "\n{:<20}  {:<21}  {:<14}  WHO, AND WHY", "REFUSED", "FROM", "CAUSE");
        let shown = if verbose { refusals.len() } else { REFUSALS };
        for refusal in refusals.iter().take(shown) {
            let (time, peer, cause) = (text(&refusal["time"]), text(&refusal["peer"]), text(&refusal["cause"]));
            let who = match (refusal["initiator"].as_str(), refusal["target"].as_str()) {
                (Some(initiator), Some(target)) => format!("{initiator} for {target}: "),
                (Some(initiator), None) => format!("{initiator} for discovery: "),
                _ => String::new(),
            };
            let _ = writeln!(out, "{time:<20}  {peer:<21}  {cause:<14}  {who}{}", text(&refusal["why"]));
        }
        if refusals.len() > shown {
            let _ = writeln!(out, "… and {} earlier ones; --verbose shows them", refusals.len() - shown);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_page_says_what_runs_what_it_does_and_what_is_wrong() {
        let statistics = |time: u64, reads: u64| {
            json!({
                "process": 4711, "time_us": time,
                "luns": [
                    { "target": "iqn.b", "lun": 1, "store": "/srv/a.img", "bytes": 1u64 << 34, "state": "online",
                      "writable": false, "in_flight": 0, "errors": { "unit_attention": 2 },
                      "kinds": { "read": { "commands": reads, "bytes": reads * 4096, "time_ns": reads * 100_000,
                          "failed": 0, "latencies": { "28": reads } } } },
                    { "target": "iqn.b", "lun": 2, "store": "/srv/b.img", "bytes": 1u64 << 30, "state": "offline",
                      "writable": true, "in_flight": 0, "errors": { "medium_error": 3 }, "kinds": {} },
                ],
                "sessions": [],
            })
        };
        let door = json!({
            "at_the_door": 3, "oldest_seconds": 1.5, "delayed": 1, "sessions": 1,
            "crowds": [{ "address": "192.0.2.1", "connections": 2 }, { "address": "192.0.2.2", "connections": 1 }],
            "logins": { "succeeded": 5, "failed": { "access": 1, "time": 0 } },
            "bounds": [
                { "name": "logins", "setting": "1024", "value": 1024, "struck": 7, "what": "connections" },
                { "name": "sessions", "setting": "4096", "value": 4096, "struck": 0, "what": "sessions at a time" },
            ],
            "refusals": [{ "time": "2026-11-21T10:00:00Z", "peer": "192.0.2.1:99", "initiator": "iqn.a",
                "target": "iqn.b", "cause": "access", "status": "0203", "why": "none of the target's 2 rules fits" }],
        });
        let sessions = json!({
            "workers": [{ "worker": 0, "answers": true }, { "worker": 1, "answers": false }],
            "sessions": [{ "tsih": 3, "since": "2026-11-21T09:00:00Z", "initiator": "iqn.a", "target": "iqn.b",
                "commands": 2, "connections": [{ "peer": "192.0.2.1:98", "received_bytes": 3 << 20, "sent_bytes": 0 }] }],
        });
        let (before, now) = (statistics(1_000_000, 100), statistics(1_500_000, 600));
        let sandbox = json!({});
        let running = json!({
            "version": "0.1.0", "process": 4711, "since": "2026-11-20T08:00:00Z", "portals": ["192.0.2.1:3260"],
            "document": "/etc/lunette/lunette.toml", "document_differs": true,
        });
        let page = Page {
            running: &running,
            before: &before,
            statistics: &now,
            door: &door,
            sessions: &sessions,
            sandbox: &sandbox,
        };
        let warnings = warnings(&running, &now, &door, &sessions);
        let shown = page.text(&warnings, false);
        for line in [
            "Daemon       lunette 0.1.0, process 4711, since 2026-11-20T08:00:00Z",
            "Document     /etc/lunette/lunette.toml, changed since: lunette apply",
            "Portals      192.0.2.1:3260",
            "Logins       5 succeeded, 1 failed (access 1)",
            "At the door  3, the oldest for 1.5 s; 1 wait to hear that they are refused",
            "             2 from 192.0.2.1",
            "             worker 1 does not answer",
            "             LUN 2 of iqn.b is offline",
            "             LUN 2 of iqn.b: its store failed 3 commands; see the log",
            "             bounds struck since the start: logins 7",
            "Target       iqn.b",
            "    1  readonly  16.0G  1.00k  3.91M      0   131µ      2  /srv/a.img",
            "    2  offline   1.00G      0      0      0      -      3  /srv/b.img",
            "    3  2026-11-21T09:00:00Z  192.0.2.1:98                  2          3  iqn.a at iqn.b",
            "logins                     1024         7  connections",
            "2026-11-21T10:00:00Z  192.0.2.1:99           access          iqn.a for iqn.b: none of the target's 2 rules fits",
        ] {
            assert!(shown.lines().any(|shown| shown == line), "{line}\n{shown}");
        }
        assert!(!shown.contains("sessions at a time") && page.text(&warnings, true).contains("sessions at a time"));
    }
}
