//! What a holder says of its session, in iscsiadm's words.

use super::order;
use crate::attach::detach::ask;
use crate::attach::hold::Request;
use crate::attach::state::{self, Entry};
use compat::iscsiadm::{Session, Statistics, Unit};
use compat::records::{PortalPattern, TAG_UNKNOWN};
use serde_json::Value;

/// What the handle of a holder's session begins with.
pub const HOLDER: &str = "holder ";

/// The session of a holder.
pub fn session(entry: &Entry) -> Session {
    let record = &entry.record;
    let status = ask(entry, "status").unwrap_or_default();
    let path = &status["paths"][0];
    let request = state::request(&entry.directory).and_then(|request| Request::from_json(&request));
    let label = record.node_record.as_deref().and_then(order::of_label);
    let portal_of = |text: &str| PortalPattern::read(text).map(|pattern| pattern.or(3260, TAG_UNKNOWN));
    let asked = record.portals.first().and_then(|text| portal_of(text)).unwrap_or_default();
    let (mut persistent, iface) = label.unwrap_or((asked, "default".to_owned()));
    let reached = record.reached.first().and_then(|text| portal_of(text));
    let mut portal = path["portal"].as_str().and_then(portal_of).or(reached).unwrap_or_else(|| persistent.clone());
    let told_tag = path["portal_group_tag"].as_i64().and_then(|tag| i32::try_from(tag).ok());
    if let Some(tag) = told_tag.or(Some(portal.tag)).filter(|tag| *tag != TAG_UNKNOWN) {
        (portal.tag, persistent.tag) = (tag, tag);
    }
    let (connection_state, session_state, internal_state) = match path["state"].as_str().unwrap_or_default() {
        "logged in" | "optimized" | "nonoptimized" | "standby" => ("LOGGED IN", "LOGGED_IN", "NO CHANGE"),
        "recovering" => ("TRANSPORT WAIT", "FAILED", "REOPEN"),
        "" if entry.alive => ("IN LOGIN", "FREE", "NO CHANGE"),
        _ => ("FREE", "FREE", "CLEANUP"),
    };
    let local = path["connections"][0]["local"].as_str().and_then(portal_of);
    let agreed = path["agreed"].as_object().cloned().unwrap_or_default();
    let negotiated = [
        "HeaderDigest",
        "DataDigest",
        "MaxRecvDataSegmentLength",
        "MaxXmitDataSegmentLength",
        "FirstBurstLength",
        "MaxBurstLength",
        "ImmediateData",
        "InitialR2T",
        "MaxOutstandingR2T",
    ];
    let value = |name: &str| match agreed.get(name) {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Bool(yes)) => if *yes { "Yes" } else { "No" }.to_owned(),
        Some(Value::Number(number)) => number.to_string(),
        _ => String::new(),
    };
    let timeout = request.as_ref().map(|request| request.options.replacement_timeout.as_secs());
    let id = u32::try_from(record.session).unwrap_or(u32::MAX);
    Session {
        id,
        handle: format!("{HOLDER}{}", record.session),
        transport: "tcp".to_owned(),
        target: record.target.clone(),
        portal,
        persistent,
        iface,
        initiator_name: record.initiator.clone(),
        ip_address: local.map(|local| local.address).unwrap_or_default(),
        hardware_address: "default".to_owned(),
        network_device: "default".to_owned(),
        connection_state: connection_state.to_owned(),
        session_state: session_state.to_owned(),
        internal_state: internal_state.to_owned(),
        timeouts: [timeout.and_then(|seconds| u32::try_from(seconds).ok()), None, None, None],
        chap: chap(request.as_ref()),
        negotiated: negotiated.map(|name| (name.to_owned(), value(name))).to_vec(),
        host: Some(id),
        host_state: "running".to_owned(),
        units: units(entry),
    }
}

fn units(entry: &Entry) -> Vec<Unit> {
    let unit = |device: &state::Device| {
        let name = device.path.strip_prefix("/dev").unwrap_or(&device.path).to_string_lossy().into_owned();
        Unit { lun: device.lun, device: Some(name).filter(|name| !name.is_empty()), state: "running".to_owned() }
    };
    entry.record.devices.iter().map(unit).collect()
}

fn chap(request: Option<&Request>) -> [String; 4] {
    let Some(chap) = request.and_then(|request| request.options.chap.as_ref()) else { return Default::default() };
    let secret = |account: &initiator::Account| String::from_utf8_lossy(account.secret.expose()).into_owned();
    let (user, password) = (chap.account.user.clone(), secret(&chap.account));
    let mutual = chap.mutual.as_ref().map(|account| (account.user.clone(), secret(account)));
    let (user_in, password_in) = mutual.unwrap_or_default();
    [user, password, user_in, password_in]
}

/// What a holder counts: what iscsiadm has a name for, and the rest.
pub fn statistics(answer: &Value) -> Statistics {
    let counters = &answer["statistics"];
    let named = |rows: &[(&str, &str)]| {
        let row = |(name, ours): &(&str, &str)| Some(((*name).to_owned(), counters[*ours].as_u64()?));
        rows.iter().filter_map(row).collect()
    };
    Statistics {
        mib: named(&[
            ("txdata_octets", "sent_bytes"),
            ("rxdata_octets", "received_bytes"),
            ("scsicmd_pdus", "commands"),
            ("digest_err", "digest_errors"),
            ("timeout_err", "timeouts"),
        ]),
        others: named(&[
            ("data_out_octets", "data_out_bytes"),
            ("data_in_octets", "data_in_bytes"),
            ("commands_failed", "errors"),
            ("commands_replayed", "replayed"),
            ("connections_lost", "connections_lost"),
            ("logins", "logins"),
        ]),
    }
}
