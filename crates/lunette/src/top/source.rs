//! Where samples come from: a daemon, asked over its control socket; in tests whatever they make up.

use super::sample::{Bound, Connection, Daemon, Door, Lun, Rates, Refusal, Sample, Session};
use crate::failure::Failure;
use lun::statistics::{BUCKETS, CommandKind, Counted, ERROR_NAMES, KindCounted, Latencies};
use serde_json::Value;
use std::path::PathBuf;
use std::time::Duration;

/// Whoever can be asked how a daemon stands.
pub trait Source: Send {
    /// How it stands now.
    fn sample(&mut self) -> Result<Sample, Failure>;
}

/// A daemon.
pub struct Control {
    /// Its socket.
    pub path: PathBuf,
}

impl Source for Control {
    fn sample(&mut self) -> Result<Sample, Failure> {
        let ask = |what| crate::status::ask(&self.path, what);
        Ok(read(&ask("/v1/statistics")?, &ask("/v1/sessions")?, &ask("/v1/door")?))
    }
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or(0)
}

fn short(value: &Value) -> u16 {
    u16::try_from(number(value)).unwrap_or(0)
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

/// What a daemon answers, as a sample. What a newer or an older one does not say is left as nothing.
pub fn read(statistics: &Value, sessions: &Value, door: &Value) -> Sample {
    let silent = list(&sessions["workers"]).iter().filter(|worker| worker["answers"] == false);
    let daemon = Daemon {
        version: text(&statistics["version"]),
        process: number(&statistics["process"]),
        since: text(&statistics["since"]),
        silent_workers: silent.map(|worker| number(&worker["worker"])).collect(),
    };
    let luns = list(&statistics["luns"]).iter().map(|one| Lun {
        target: text(&one["target"]),
        number: short(&one["lun"]),
        place: text(&one["store"]),
        bytes: one["bytes"].as_u64(),
        state: text(&one["state"]),
        writable: one["writable"].as_bool().unwrap_or(true),
        counted: counted(one),
    });
    let read_session = |told: &Value| {
        let one = list(&statistics["sessions"]).iter().find(|one| one["tsih"] == told["tsih"]);
        let one = one.unwrap_or(&Value::Null);
        Session {
            number: short(&told["tsih"]),
            initiator: text(&told["initiator"]),
            alias: told["alias"].as_str().map(str::to_owned),
            target: text(&told["target"]),
            since: text(&told["since"]),
            parameters: parameters(told),
            connections: list(&told["connections"]).iter().map(connection).collect(),
            counted: counted(one),
            luns: list(&one["luns"]).iter().map(|lun| (short(&lun["lun"]), counted(lun))).collect(),
        }
    };
    Sample {
        time_us: number(&statistics["time_us"]),
        daemon,
        luns: luns.collect(),
        sessions: list(&sessions["sessions"]).iter().map(read_session).collect(),
        door: read_door(door),
    }
}

/// What was agreed for a session, and what else there is to know of it.
fn parameters(session: &Value) -> Vec<(String, String)> {
    const NAMES: &[(&str, &str)] = &[
        ("isid", "ISID"),
        ("portal_group", "TargetPortalGroupTag"),
        ("account", "CHAP account"),
        ("error_recovery_level", "ErrorRecoveryLevel"),
        ("max_connections", "MaxConnections"),
        ("max_burst_length", "MaxBurstLength"),
        ("first_burst_length", "FirstBurstLength"),
        ("initial_r2t", "InitialR2T"),
        ("immediate_data", "ImmediateData"),
        ("max_outstanding_r2t", "MaxOutstandingR2T"),
        ("data_pdu_in_order", "DataPDUInOrder"),
        ("data_sequence_in_order", "DataSequenceInOrder"),
        ("time_2_wait", "DefaultTime2Wait"),
        ("time_2_retain", "DefaultTime2Retain"),
        ("protocol_level", "iSCSIProtocolLevel"),
        ("worker", "worker"),
    ];
    let value = |value: &Value| match value {
        Value::Bool(yes) => Some(if *yes { "Yes" } else { "No" }.to_owned()),
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    };
    NAMES.iter().filter_map(|(key, name)| Some(((*name).to_owned(), value(&session[*key])?))).collect()
}

fn connection(told: &Value) -> Connection {
    let digests = match (told["header_digest"] == true, told["data_digest"] == true) {
        (false, false) => "none",
        (true, false) => "header",
        (false, true) => "data",
        (true, true) => "header, data",
    };
    Connection {
        cid: short(&told["cid"]),
        peer: text(&told["peer"]),
        local: text(&told["local"]),
        since: text(&told["since"]),
        received_bytes: number(&told["received_bytes"]),
        sent_bytes: number(&told["sent_bytes"]),
        digests: digests.to_owned(),
    }
}

fn read_door(door: &Value) -> Door {
    let bound = |bound: &Value| Bound {
        name: text(&bound["name"]),
        setting: text(&bound["setting"]),
        struck: number(&bound["struck"]),
        what: text(&bound["what"]),
    };
    let refusal = |refusal: &Value| Refusal {
        time: text(&refusal["time"]),
        peer: text(&refusal["peer"]),
        who: match (refusal["initiator"].as_str(), refusal["target"].as_str()) {
            (Some(initiator), Some(target)) => format!("{initiator} for {target}"),
            (Some(initiator), None) => format!("{initiator} for discovery"),
            _ => String::new(),
        },
        cause: text(&refusal["cause"]),
        why: text(&refusal["why"]),
    };
    let failed = door["logins"]["failed"].as_object();
    Door {
        succeeded: number(&door["logins"]["succeeded"]),
        failed: failed.into_iter().flatten().map(|(cause, count)| (cause.clone(), number(count))).collect(),
        at_the_door: number(&door["at_the_door"]),
        bounds: list(&door["bounds"]).iter().map(bound).collect(),
        refusals: list(&door["refusals"]).iter().map(refusal).collect(),
    }
}

/// What was counted of something.
fn counted(told: &Value) -> Counted {
    let kind = |kind: CommandKind| {
        let told = &told["kinds"][kind.name()];
        let mut buckets = vec![0; BUCKETS];
        let pairs = told["latencies"].as_object().into_iter().flatten();
        for (at, count) in pairs {
            if let Some(bucket) = at.parse::<usize>().ok().and_then(|at| buckets.get_mut(at)) {
                *bucket = number(count);
            }
        }
        KindCounted {
            commands: number(&told["commands"]),
            failed: number(&told["failed"]),
            bytes: number(&told["bytes"]),
            time: Duration::from_nanos(number(&told["time_ns"])),
            latencies: Latencies::from(buckets),
        }
    };
    Counted {
        kinds: CommandKind::ALL.map(kind),
        errors: std::array::from_fn(|at| number(&told["errors"][ERROR_NAMES[at]])),
        in_flight: number(&told["in_flight"]),
    }
}

/// What a LUN of `now` did since `before`, both as the daemon tells them.
pub fn lun_rates(before: &Value, now: &Value, lun: &Value) -> Rates {
    let same = |other: &&Value| other["target"] == lun["target"] && other["lun"] == lun["lun"];
    let microseconds = number(&now["time_us"]).saturating_sub(number(&before["time_us"]));
    match list(&before["luns"]).iter().find(same) {
        Some(then) if microseconds > 0 && before["process"] == now["process"] => {
            Rates::of(&counted(lun), &counted(then), microseconds)
        }
        _ => Rates::default(),
    }
}
