//! What the administration tells, as JSON.

use serde_json::{Value, json};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use target::admin::{BoundView, DoorView};
use target::{Record, SessionOverview, WorkerOverview};

/// The front door.
pub fn door(view: &DoorView) -> Value {
    let crowds =
        view.crowds.iter().map(|(address, count)| json!({ "address": address.to_string(), "connections": count }));
    let failed = view.failed.iter().map(|(cause, count)| (cause.name().to_owned(), json!(count)));
    let bounds = view.bounds.iter().map(bound);
    json!({
        "open": view.open,
        "at_the_door": view.at_the_door,
        "oldest_seconds": view.oldest.as_millis() as f64 / 1000.0,
        "crowds": crowds.collect::<Vec<_>>(),
        "delayed": view.delayed,
        "sessions": view.sessions,
        "logins": { "succeeded": view.succeeded, "failed": Value::Object(failed.collect()) },
        "bounds": bounds.collect::<Vec<_>>(),
        "refusals": view.refusals.iter().map(refusal).collect::<Vec<_>>(),
    })
}

/// A bound.
pub fn bound(bound: &BoundView) -> Value {
    json!({
        "name": bound.name,
        "setting": bound.text,
        "value": bound.value,
        "struck": bound.struck,
        "what": bound.what,
    })
}

/// The workers and their sessions.
pub fn sessions(workers: &[Option<WorkerOverview>]) -> Value {
    let told = workers.iter().enumerate().map(|(number, worker)| {
        let data = worker.as_ref().map(|worker| worker.data_bytes);
        json!({ "worker": number, "answers": worker.is_some(), "data_bytes": data })
    });
    let sessions = workers.iter().enumerate().flat_map(|(number, worker)| {
        worker.iter().flat_map(move |worker| worker.sessions.iter().map(move |session| self::session(number, session)))
    });
    json!({ "workers": told.collect::<Vec<_>>(), "sessions": sessions.collect::<Vec<_>>() })
}

fn session(worker: usize, session: &SessionOverview) -> Value {
    let connections = session.connections.iter().map(|connection| {
        let parameters = &connection.parameters;
        json!({
            "cid": connection.cid,
            "peer": connection.peer.to_string(),
            "local": connection.local.to_string(),
            "since": timestamp(connection.since),
            "received_bytes": connection.received_bytes,
            "sent_bytes": connection.sent_bytes,
            "header_digest": parameters.header_digest,
            "data_digest": parameters.data_digest,
            "max_recv_data_segment_length": parameters.max_recv_data_segment_length,
            "max_send_data_segment_length": parameters.max_send_data_segment_length,
        })
    });
    let parameters = &session.parameters;
    json!({
        "initiator": session.initiator,
        "alias": session.alias,
        "account": session.account,
        "isid": session.isid.iter().map(|byte| format!("{byte:02x}")).collect::<String>(),
        "tsih": session.tsih,
        "target": session.target,
        "portal_group": session.portal_group,
        "worker": worker,
        "since": timestamp(session.since),
        "commands": session.commands,
        "error_recovery_level": parameters.error_recovery_level,
        "max_connections": parameters.max_connections,
        "max_burst_length": parameters.max_burst_length,
        "first_burst_length": parameters.first_burst_length,
        "initial_r2t": parameters.initial_r2t,
        "immediate_data": parameters.immediate_data,
        "max_outstanding_r2t": parameters.max_outstanding_r2t,
        "default_time_2_wait": parameters.default_time_2_wait,
        "default_time_2_retain": parameters.default_time_2_retain,
        "data_pdu_in_order": parameters.data_pdu_in_order,
        "data_sequence_in_order": parameters.data_sequence_in_order,
        "task_reporting": parameters.task_reporting.name(),
        "protocol_level": parameters.protocol_level,
        "connections": connections.collect::<Vec<_>>(),
    })
}

fn refusal(record: &Record) -> Value {
    let refusal = &record.refusal;
    let names = refusal.asked.as_ref();
    json!({
        "time": timestamp(record.when),
        "peer": refusal.peer.to_string(),
        "initiator": names.map(|(initiator, _)| initiator),
        "target": names.and_then(|(_, target)| target.as_ref()),
        "cause": record.cause.name(),
        "status": refusal.status.map(|status| format!("{:02x}{:02x}", status.0, status.1)),
        "why": refusal.reason(),
    })
}

/// A time as RFC 3339 writes it, in UTC, to the second.
pub fn timestamp(time: SystemTime) -> String {
    let seconds = time.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs();
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    // Years begin in March here, so that the day that some years have comes last; 719,468 days lie between the
    // first of March of the year 0 and 1970.
    let day = days + 719_468;
    let (era, of_era) = (day / 146_097, day % 146_097);
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = era * 400 + year + u64::from(month <= 2);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_told_as_the_calendar_has_them() {
        let at = |seconds| timestamp(UNIX_EPOCH + Duration::from_secs(seconds));
        assert_eq!(at(0), "1970-01-01T00:00:00Z");
        assert_eq!(at(951_782_400), "2000-02-29T00:00:00Z");
        assert_eq!(at(1_709_251_199), "2024-02-29T23:59:59Z");
        assert_eq!(at(1_763_721_930), "2025-11-21T10:45:30Z");
        assert_eq!(at(4_107_542_400), "2100-03-01T00:00:00Z");
    }
}
