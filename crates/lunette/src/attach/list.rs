//! `lunette attached`: what is attached, and how its sessions are.

use super::dead;
use super::detach::ask;
use super::state::{Entry, Place};
use crate::failure::Failure;
use clap::Args;
use serde_json::{Value, json};
use std::fmt::Write as _;
use std::io::Write;
use std::path::PathBuf;

/// Arguments of `lunette attached`.
#[derive(Args)]
#[command(after_help = "Sessions whose holder has died are cleared away, or taken up again where their devices live \
    on.\n\nExamples:\n  lunette attached\n  lunette attached --json | jq -r '.sessions[].devices[].device'")]
pub struct Arguments {
    /// The --state-dir that it was attached with
    #[arg(long, value_name = "DIR")]
    state_dir: Option<PathBuf>,
    /// Look at the disks' sizes first
    #[arg(long)]
    refresh: bool,
    /// As JSON, whole, with the sessions' statistics
    #[arg(long)]
    json: bool,
}

/// Asks the holders and prints.
pub fn run(arguments: &Arguments) -> Result<(), Failure> {
    let place = Place::of(arguments.state_dir.as_deref())?;
    dead::tidy(&place).iter().for_each(|line| eprintln!("lunette: {line}"));
    let entries = place.sessions();
    if arguments.refresh {
        for entry in entries.iter().filter(|entry| entry.alive) {
            if let Err(failure) = ask(entry, "refresh") {
                eprintln!("lunette: {failure}");
            }
        }
    }
    let sessions: Vec<Value> = entries.iter().map(told).collect();
    let text = match arguments.json {
        true => format!("{}\n", json!({ "sessions": sessions })),
        false => people(&sessions),
    };
    // Whoever asked may have closed the pipe.
    let _ = std::io::stdout().write_all(text.as_bytes());
    Ok(())
}

/// A session's record with what its holder says, as `--json` tells it.
pub fn told(entry: &Entry) -> Value {
    let status = ask(entry, "status");
    let statistics = ask(entry, "statistics").unwrap_or_default();
    let mut told = entry.record.to_json();
    match status {
        Ok(status) => {
            told = status["record"].clone();
            told["paths"] = status["paths"].clone();
            told["state"] = state(&status["paths"]).into();
        }
        Err(_) if entry.alive && entry.record.target.is_empty() => told["state"] = "logging in".into(),
        Err(failure) => {
            told["state"] = if entry.alive { "does not answer" } else { "dead" }.into();
            told["failure"] = failure.to_string().into();
        }
    }
    told["statistics"] = statistics["statistics"].clone();
    told
}

/// How the best of its paths is.
fn state(paths: &Value) -> String {
    let states: Vec<&str> = paths.as_array().into_iter().flatten().filter_map(|one| one["state"].as_str()).collect();
    let best = ["logged in", "optimized", "nonoptimized", "standby", "recovering"];
    let best = best.iter().find(|state| states.contains(state)).copied();
    best.or(states.first().copied()).unwrap_or("closed").to_owned()
}

fn people(sessions: &[Value]) -> String {
    let text = |value: &Value| value.as_str().unwrap_or("-").to_owned();
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let mut rows = vec![["DEVICE", "SIZE", "VIA", "STATE", "LUN", "TARGET"].map(str::to_owned)];
    for session in sessions {
        let portals: Vec<String> = list(&session["portals"]).iter().map(text).collect();
        let mut target = format!("{} at {}", text(&session["target"]), portals.join(", "));
        if session["read_only"] == true {
            target += ", read-only";
        }
        let devices = list(&session["devices"]);
        for device in &devices {
            let path = device["device"].as_str().filter(|path| !path.is_empty()).unwrap_or("(not there yet)");
            let size = size(device["bytes"].as_u64().unwrap_or(0));
            let kind = device["kind"].as_str().filter(|kind| !kind.is_empty());
            let via = kind.map_or_else(|| text(&session["via"]), str::to_owned);
            rows.push([path.to_owned(), size, via, text(&session["state"]), device["lun"].to_string(), target.clone()]);
        }
        if devices.is_empty() {
            let none = || "-".to_owned();
            rows.push([none(), none(), text(&session["via"]), text(&session["state"]), none(), target]);
        }
    }
    if rows.len() == 1 {
        return String::new();
    }
    let mut widths = [0; 6];
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut out = String::new();
    for row in &rows {
        let cells = row.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}"));
        let _ = writeln!(out, "{}", cells.collect::<Vec<_>>().join("  ").trim_end());
    }
    out
}

/// In binary units, as `lunette serve` takes them.
fn size(bytes: u64) -> String {
    let units = ["", "K", "M", "G", "T", "P", "E"];
    let at = (1..units.len()).rev().find(|at| bytes >= 1 << (10 * at)).unwrap_or(0);
    let whole = bytes as f64 / (1_u64 << (10 * at)) as f64;
    match whole.fract() == 0.0 {
        true => format!("{whole}{}", units[at]),
        false => format!("{whole:.1}{}", units[at]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn people_see_each_device_with_its_size_state_and_target() {
        let session = json!({
            "target": "iqn.a", "portals": ["h:3260"], "via": "fuse", "state": "logged in", "read_only": true,
            "devices": [
                { "device": "/dev/loop0", "bytes": 1_u64 << 30, "kind": "fuse+loop", "lun": 1 },
                { "device": "", "bytes": 1_600_000_u64, "kind": "", "lun": 20 },
            ],
        });
        let empty = json!({ "target": "iqn.b", "portals": ["h:1", "g:2"], "via": "auto", "state": "recovering" });
        assert_eq!(
            people(&[session, empty]),
            "DEVICE           SIZE  VIA        STATE       LUN  TARGET\n\
             /dev/loop0       1G    fuse+loop  logged in   1    iqn.a at h:3260, read-only\n\
             (not there yet)  1.5M  fuse       logged in   20   iqn.a at h:3260, read-only\n\
             -                -     auto       recovering  -    iqn.b at h:1, g:2\n"
        );
        assert_eq!(people(&[]), "");
    }
}
