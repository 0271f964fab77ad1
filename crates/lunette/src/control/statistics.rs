//! What is counted of LUNs and sessions since the process began, as JSON: numbers that only grow, so that whoever asks
//! twice knows what happened between. Asking takes no lock of the data path.

use super::events;
use super::problem::Problem;
use super::route::{Answer, Call, Reply};
use crate::serve::administrator::Administrator;
use lun::LogicalUnit;
use lun::statistics::{CommandKind, Counted};
use serde_json::{Map, Value, json};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};
use target::Door;

/// What was counted.
pub async fn counters(call: Call) -> Answer {
    Ok(Reply::Json(statistics(call.administrator.door())))
}

/// What runs.
pub async fn daemon(call: Call) -> Answer {
    // The file is looked at for it, and others are waiting.
    let running = tokio::task::spawn_blocking(move || running(&call.administrator)).await;
    running.map(Reply::Json).map_err(|_| Problem::new("failed", "a defect kept it from being looked at", ""))
}

/// Everything. `latencies` has numbers of commands by bucket: bucket 0 ends at 1,024 ns, of the others four divide each
/// doubling (`lun::statistics::bucket_end`).
fn statistics(door: &Door) -> Value {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let luns = door.lun_statistics().into_iter().map(|lun| {
        let mut all = counted(&lun.unit.counted());
        all["target"] = lun.target.into();
        all["lun"] = lun.lun.into();
        facts(&mut all, &lun.unit);
        all
    });
    let sessions = door.session_statistics().into_iter().map(|session| {
        let mut all = counted(&session.cells.counted());
        all["tsih"] = session.tsih.into();
        all["initiator"] = session.initiator.into();
        all["target"] = session.target.into();
        let luns = session.cells.luns().into_iter().map(|(number, lun)| {
            let mut all = counted(&lun);
            all["lun"] = number.into();
            all
        });
        all["luns"] = luns.collect();
        all
    });
    json!({
        "version": env!("CARGO_PKG_VERSION"),
        "process": std::process::id(),
        "since": super::timestamp(events::started()),
        "time_us": now.as_micros() as u64,
        "luns": luns.collect::<Vec<_>>(),
        "sessions": sessions.collect::<Vec<_>>(),
    })
}

/// What runs: the process, the document that it serves and whether its file says something else by now, and where it
/// listens.
fn running(administrator: &Administrator) -> Value {
    let served = administrator.served();
    let document = &served.document;
    let differs = document.on_disk().map(|file| file.is_ok_and(|file| file.text() != document.text()));
    json!({
        "version": env!("CARGO_PKG_VERSION"),
        "process": std::process::id(),
        "since": super::timestamp(events::started()),
        "document": document.path().map(|path| path.display().to_string()),
        "document_differs": differs,
        "portals": served.bound.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "targets": served.targets.iter().map(|target| &target.name).collect::<Vec<_>>(),
    })
}

/// What a disk is, besides what it has done.
fn facts(all: &mut Value, unit: &Arc<LogicalUnit>) {
    let (limits, description) = (unit.limits(), unit.backend().description());
    all["store"] = match description.kind {
        "file" | "device" | "iscsi" => description.address.into(),
        kind => format!("{kind}:{}", stores::Size(limits.capacity())).into(),
    };
    all["bytes"] = limits.capacity().into();
    let standing = unit.standing();
    all["state"] = if standing.online { "online" } else { "offline" }.into();
    all["writable"] = (!standing.read_only).into();
}

fn counted(counted: &Counted) -> Value {
    let mut kinds = Map::new();
    for kind in CommandKind::ALL {
        let of_kind = counted.kind(kind);
        if of_kind.commands == 0 {
            continue;
        }
        let buckets = of_kind.latencies.buckets().iter().enumerate().filter(|(_, count)| **count > 0);
        let latencies: Map<_, _> = buckets.map(|(at, count)| (at.to_string(), (*count).into())).collect();
        let told = json!({
            "commands": of_kind.commands,
            "failed": of_kind.failed,
            "bytes": of_kind.bytes,
            "time_ns": u64::try_from(of_kind.time.as_nanos()).unwrap_or(u64::MAX),
            "latencies": latencies,
        });
        kinds.insert(kind.name().to_owned(), told);
    }
    let errors: Map<_, _> = counted.errors().map(|(name, count)| (name.to_owned(), count.into())).collect();
    json!({ "kinds": kinds, "errors": errors, "in_flight": counted.in_flight })
}
