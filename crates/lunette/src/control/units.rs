//! Reservations of disks: shown, and cleared.

use super::problem::Problem;
use super::route::{Answer, Call, Reply};
use crate::configuration::edit;
use crate::configuration::finding::{suggest, there_are};
use crate::serve::administrator::{Served, ServedTarget};
use lun::reservation::Nexus;
use lun::{ChangeError, LogicalUnit};
use scsi::transport_id::TransportId;
use serde_json::{Value, json};
use std::sync::Arc;

/// Those of all disks that have any.
pub async fn reservations(call: Call) -> Answer {
    let served = call.administrator.served();
    let mut all = Vec::new();
    for target in &served.targets {
        for unit in &target.units {
            let told = told(&target.name, unit.number, &unit.unit);
            let empty = told["registrations"].as_array().is_none_or(Vec::is_empty);
            if !empty || !told["exclusive"].is_null() || told["lost"] == true {
                all.push(told);
            }
        }
    }
    Ok(Reply::Json(json!({ "reservations": all })))
}

/// Those of a disk.
pub async fn reservation(call: Call) -> Answer {
    let served = call.administrator.served();
    let (target, number, unit) = find(&served, &call)?;
    Ok(Reply::Json(told(&target.name, number, unit)))
}

/// Ends them.
pub async fn clear_reservation(call: Call) -> Answer {
    let served = call.administrator.served();
    let (target, number, unit) = find(&served, &call)?;
    let count = unit.reservations().registrations.len();
    // To its end, although whoever asked for it goes away.
    let own = Arc::clone(unit);
    let cleared = target::patiently(async move { own.clear_reservations().await }).await;
    cleared.map_err(|error| match error {
        ChangeError::Pending => Problem::new("pending", format!("LUN {number}: {error}"), "look at it again later"),
        error => Problem::new("failed", format!("LUN {number}: {error}"), "they are as they were"),
    })?;
    tracing::info!(event = "reservations-cleared", target = %target.name, lun = number, "an administrator has cleared the reservations");
    let line = format!("LUN {number} of {} is reserved by nobody; {count} registrations have ended", target.name);
    Ok(Reply::Json(json!({ "done": true, "line": line })))
}

fn find<'s>(served: &'s Served, call: &Call) -> Result<(&'s ServedTarget, u16, &'s Arc<LogicalUnit>), Problem> {
    let name = call.named(0);
    let target = served.targets.iter().find(|target| edit::same_name(&target.name, name)).ok_or_else(|| {
        let help = suggest(name, served.targets.iter().map(|target| target.name.as_str()));
        Problem::not_found(format!("there is no target {name}"), help)
    })?;
    let number = call.number(1, "LUN")?;
    let unit = target.units.iter().find(|unit| unit.number == number).ok_or_else(|| {
        let help = there_are(target.units.iter().map(|unit| unit.number));
        Problem::not_found(format!("{} has no LUN {number}", target.name), help)
    })?;
    Ok((target, number, &unit.unit))
}

fn told(target: &str, number: u16, unit: &Arc<LogicalUnit>) -> Value {
    let view = unit.reservations();
    let registrations = view.registrations.iter().map(|one| {
        json!({
            "initiator": initiator(&one.nexus),
            "relative_port": one.nexus.relative_port,
            "key": format!("0x{:016x}", one.key),
            "holds": one.holder,
        })
    });
    json!({
        "target": target,
        "lun": number,
        "generation": view.generation,
        "persists": view.persists,
        "lost": view.lost,
        "type": view.reservation.map(|(_, kind)| kind.name()),
        "key": view.reservation.map(|(key, _)| format!("0x{key:016x}")),
        "exclusive": view.exclusive.as_ref().map(initiator),
        "preventing": view.preventing.iter().map(initiator).collect::<Vec<_>>(),
        "registrations": registrations.collect::<Vec<_>>(),
    })
}

/// The initiator's name, and its port's ISID where it says one.
fn initiator(nexus: &Nexus) -> String {
    match TransportId::parse(&nexus.initiator) {
        Ok((TransportId::Device { name }, _)) => name,
        Ok((TransportId::Port { name, isid }, _)) => {
            let isid: String = isid.iter().map(|byte| format!("{byte:02x}")).collect();
            format!("{name},{isid}")
        }
        Err(_) => "?".to_owned(),
    }
}
