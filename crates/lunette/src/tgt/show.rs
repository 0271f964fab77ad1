//! What a daemon tells of itself, as tgtadm shows it.

use super::access::Access;
use super::paper::{Paper, Values, flag, number, text, texts, tids};
use super::target::{IsnsSaid, PARAMETERS, is_ready, log_level, redirection};
use super::unit::{apart, is_read_only};
use crate::configuration::edit::{TargetView, same_name};
use compat::tgt::{Connection, Counters, Failure, Isns, Portal, Session, System, Target, Unit, View, Wire};
use compat::tgt::{scsi_id, serial};
use serde_json::Value;

/// What a daemon answered: its targets, its sessions, its portals.
pub struct Answers {
    /// `/v1/targets`.
    pub targets: Value,
    /// `/v1/sessions`.
    pub sessions: Value,
    /// `/v1/portals`.
    pub portals: Value,
    /// Whether anybody may log in.
    pub ready: bool,
    /// `/v1/statistics`.
    pub statistics: Value,
}

/// All of it.
pub fn view(paper: &Paper, answers: &Answers) -> Result<View, Failure> {
    let document = paper.view()?;
    let numbers = tids(&document);
    let mut targets: Vec<Target> = document
        .targets
        .iter()
        .zip(numbers)
        .map(|(said, tid)| {
            let running = list(&answers.targets["targets"]);
            let running = running.iter().find(|running| same_name(str_of(running, "name"), said.name())).copied();
            target(said, tid, running.unwrap_or(&Value::Null), answers, paper.text())
        })
        .collect();
    targets.sort_by_key(|target| target.tid);
    let mut accounts: Vec<String> = document.accounts.iter().map(|(name, _)| name.clone()).collect();
    accounts.reverse();
    let mut portals: Vec<Portal> = Vec::new();
    for portal in list(&answers.portals["portals"]) {
        let group = portal["group"].as_u64().and_then(|group| u16::try_from(group).ok()).unwrap_or(1);
        for address in list(&portal["addresses"]) {
            portals.push(Portal { address: address.as_str().unwrap_or_default().to_owned(), group });
        }
    }
    portals.reverse();
    let isns = IsnsSaid::of(paper.text());
    let (server, port) = isns.server.unwrap_or_else(|| (String::new(), 3205));
    let system = System {
        ready: answers.ready,
        debug: matches!(log_level(&document), Some("debug" | "trace")),
        stores: STORES.iter().map(|(name, flags)| ((*name).to_owned(), flags.map(str::to_owned))).collect(),
        device_types: ["disk", "cd/dvd", "controller"].map(str::to_owned).to_vec(),
        isns: Isns { on: isns.on, server, port, access_control: false },
    };
    Ok(View { targets, accounts, portals, system })
}

/// The kinds of stores that tgt knows and we have, and ours.
const STORES: [(&str, Option<&str>); 5] =
    [("ram", None), ("null", None), ("mmc", None), ("rdwr", Some("sync:direct")), ("aio", None)];

fn target(said: &TargetView, tid: u32, running: &Value, answers: &Answers, document: &str) -> Target {
    let access = Access::shown(said).unwrap_or_else(|| entries(said));
    let sessions = list(&answers.sessions["sessions"]);
    let own: Vec<Session> = sessions
        .iter()
        .filter(|session| same_name(str_of(session, "target"), said.name()))
        .map(|one| session(one))
        .collect();
    let units = said.luns.iter().map(|(lun, values)| {
        let running = list(&running["luns"]);
        let running = running.iter().find(|running| running["number"] == *lun).copied().unwrap_or(&Value::Null);
        let mut unit = unit(tid, *lun, values, running);
        unit.counters = own.iter().filter_map(|session| counted(answers, session.sid, *lun)).collect();
        unit
    });
    let mut units: Vec<Unit> = units.collect();
    units.sort_by_key(|unit| unit.lun);
    Target {
        tid,
        name: said.name().to_owned(),
        ready: is_ready(&said.values),
        nop: nop(document),
        parameters: PARAMETERS.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
        redirect: redirection(&said.values).map(|(address, port, permanent)| {
            let plain = address.trim_matches(['[', ']']).to_owned();
            (plain, port, if permanent { "Permanent" } else { "Temporary" }.to_owned())
        }),
        sessions: own,
        units,
        incoming: texts(&said.values, "accounts"),
        outgoing: text(&said.values, "mutual").map(str::to_owned),
        addresses: access.addresses,
        names: access.names,
    }
}

/// The pings, where the document says something of them.
fn nop(document: &str) -> Option<(u32, u32)> {
    let document: toml_edit::DocumentMut = document.parse().ok()?;
    let item = document.get("limits")?.get("nop-interval")?;
    let seconds = item.as_integer().or_else(|| item.as_str()?.trim_end_matches('s').parse().ok())?;
    let seconds = u32::try_from(seconds).ok().filter(|seconds| *seconds > 0)?;
    Some((seconds, 1))
}

/// All names and addresses that stand in rules that are more than a list.
fn entries(said: &TargetView) -> Access {
    let mut access = Access::default();
    for rule in &said.rules {
        access.names.extend(texts(rule, "initiators").into_iter().filter(|name| name != "any"));
        access.addresses.extend(texts(rule, "addresses").into_iter().filter(|address| address != "any"));
        if texts(rule, "initiators") == ["any"] && matches!(&texts(rule, "addresses")[..], [] | [_]) {
            let all = texts(rule, "addresses").first().is_none_or(|only| only == "any");
            access.addresses.extend(all.then(|| "ALL".to_owned()));
        }
    }
    access
}

fn unit(tid: u32, lun: u16, values: &Values, running: &Value) -> Unit {
    let lun = u64::from(lun);
    let (place, options) = apart(text(values, "store").unwrap_or_default());
    let is_cd = text(values, "type") == Some("cd") || text(values, "type").is_none() && stores::is_image(place);
    let direct = options.split(',').any(|option| option == "direct");
    let (store, path) = match place.split_once(':') {
        Some(("null", _)) => ("null", Some("/dev/null".to_owned())),
        Some(("ram", size)) => ("ram", Some(size.to_owned())),
        _ if is_cd => ("mmc", Some(plain(place))),
        _ => ("rdwr", Some(plain(place))),
    };
    let said = |key: &str| text(values, key).map(str::to_owned);
    let unit_serial = running["unit_serial"].as_str().map(str::to_owned);
    Unit {
        lun,
        kind: if is_cd { "cd/dvd" } else { "disk" },
        scsi_id: said("t10_id").unwrap_or_else(|| scsi_id(tid, lun)),
        scsi_sn: said("serial").or(unit_serial).unwrap_or_else(|| serial(tid, lun)),
        size: running["bytes"].as_u64().unwrap_or(0),
        block_size: number_of(running, "block_bytes").or(number(values, "block")).unwrap_or(512),
        online: running["state"].as_str().map_or(flag(values, "online") != Some(false), |state| state == "online"),
        removable: is_cd || flag(values, "removable") == Some(true),
        prevent_removal: running["removal_prevented"] == true,
        read_only: is_read_only(values) || running["writable"] == false && !is_cd,
        software_write_protect: running["write_protected"] == true,
        thin: match running["unmaps"].as_bool() {
            Some(unmaps) => unmaps && !is_cd,
            None => flag(values, "unmap") == Some(true),
        },
        store: store.to_owned(),
        path,
        flags: if direct && !is_cd { "direct".to_owned() } else { String::new() },
        counters: Vec::new(),
    }
}

/// A place without the backslashes that an address needs, and without the kind of its store.
fn plain(place: &str) -> String {
    let place = place.strip_prefix("file:").or(place.strip_prefix("device:")).unwrap_or(place);
    place.replace("\\,", ",").replace("\\\\", "\\")
}

fn session(told: &Value) -> Session {
    let connections = list(&told["connections"]);
    let first = connections.first().copied().unwrap_or(&Value::Null);
    let yes = |value: &Value| if value == true { "Yes" } else { "No" }.to_owned();
    let digest = |value: &Value| if value == true { "CRC32C" } else { "None" }.to_owned();
    let count = |value: &Value| value.as_u64().unwrap_or_default().to_string();
    let parameters = PARAMETERS.iter().map(|(name, default)| {
        let value = match *name {
            "MaxRecvDataSegmentLength" | "TargetRecvDataSegmentLength" => count(&first["max_recv_data_segment_length"]),
            "MaxXmitDataSegmentLength" | "InitiatorRecvDataSegmentLength" => {
                count(&first["max_send_data_segment_length"])
            }
            "HeaderDigest" => digest(&first["header_digest"]),
            "DataDigest" => digest(&first["data_digest"]),
            "InitialR2T" => yes(&told["initial_r2t"]),
            "ImmediateData" => yes(&told["immediate_data"]),
            "DataPDUInOrder" => yes(&told["data_pdu_in_order"]),
            "DataSequenceInOrder" => yes(&told["data_sequence_in_order"]),
            "MaxOutstandingR2T" => count(&told["max_outstanding_r2t"]),
            "FirstBurstLength" => count(&told["first_burst_length"]),
            "MaxBurstLength" => count(&told["max_burst_length"]),
            "ErrorRecoveryLevel" => count(&told["error_recovery_level"]),
            "DefaultTime2Wait" => count(&told["default_time_2_wait"]),
            "DefaultTime2Retain" => count(&told["default_time_2_retain"]),
            "MaxConnections" => count(&told["max_connections"]),
            "RDMAExtensions" => "No".to_owned(),
            _ => (*default).to_owned(),
        };
        ((*name).to_owned(), value)
    });
    Session {
        sid: told["tsih"].as_u64().unwrap_or_default(),
        initiator: str_of(told, "initiator").to_owned(),
        alias: told["alias"].as_str().map(str::to_owned),
        connections: connections.iter().map(|one| connection(one, told)).collect(),
        parameters: parameters.collect(),
    }
}

fn connection(told: &Value, session: &Value) -> Connection {
    let peer = str_of(told, "peer");
    let address = peer.rsplit_once(':').map_or(peer, |(address, _)| address).trim_matches(['[', ']']);
    let bytes = |key: &str| told[key].as_u64().unwrap_or_default();
    Connection {
        cid: number_of(told, "cid").unwrap_or_default(),
        address: address.strip_prefix("::ffff:").unwrap_or(address).to_owned(),
        counters: Wire {
            received_bytes: bytes("received_bytes"),
            sent_bytes: bytes("sent_bytes"),
            commands: session["commands_done"].as_u64().unwrap_or_default(),
            responses: session["commands_done"].as_u64().unwrap_or_default(),
            ..Wire::default()
        },
    }
}

/// What this session did at this unit, as far as it is counted. Commands are counted when they have ended: none is
/// submitted and not done, but those that failed.
fn counted(answers: &Answers, sid: u64, lun: u16) -> Option<(u64, Counters)> {
    let sessions = list(&answers.statistics["sessions"]);
    let session = sessions.into_iter().find(|session| session["tsih"] == sid)?;
    let unit = list(&session["luns"]).into_iter().find(|unit| unit["lun"] == lun)?;
    let of_kind = |name: &str| {
        let number = |key: &str| unit["kinds"][name][key].as_u64().unwrap_or_default();
        let (bytes, commands) = (number("bytes"), number("commands"));
        ((bytes, commands), (bytes, commands.saturating_sub(number("failed"))))
    };
    let ((read_submitted, read_done), (write_submitted, write_done)) = (of_kind("read"), of_kind("write"));
    let kinds = unit["kinds"].as_object().into_iter().flatten();
    let errors = kinds.filter_map(|(_, kind)| kind["failed"].as_u64()).sum();
    Some((sid, Counters { read_submitted, read_done, write_submitted, write_done, errors }))
}

fn list(value: &Value) -> Vec<&Value> {
    value.as_array().into_iter().flatten().collect()
}

fn str_of<'v>(value: &'v Value, key: &str) -> &'v str {
    value[key].as_str().unwrap_or_default()
}

fn number_of(value: &Value, key: &str) -> Option<u32> {
    value[key].as_u64().and_then(|number| u32::try_from(number).ok())
}
