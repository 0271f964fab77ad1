//! What tgtadm says of targets and of the daemon, as edits of a document.

use super::paper::{Values, place, text, tids};
use crate::configuration::edit::{self, Edit, Fields, Place, TargetView, View};
use compat::tgt::{Error, Failure};
use iscsi::name::Name;
use toml_edit::{InlineTable, Value};

/// What sessions may agree on, and what tgt begins with: `target show` prints this, and a value that is no other is
/// taken.
pub const PARAMETERS: [(&str, &str); 24] = [
    ("MaxRecvDataSegmentLength", "8192"),
    ("HeaderDigest", "None"),
    ("DataDigest", "None"),
    ("InitialR2T", "Yes"),
    ("MaxOutstandingR2T", "1"),
    ("ImmediateData", "Yes"),
    ("FirstBurstLength", "65536"),
    ("MaxBurstLength", "262144"),
    ("DataPDUInOrder", "Yes"),
    ("DataSequenceInOrder", "Yes"),
    ("ErrorRecoveryLevel", "0"),
    ("IFMarker", "No"),
    ("OFMarker", "No"),
    ("DefaultTime2Wait", "2"),
    ("DefaultTime2Retain", "20"),
    ("OFMarkInt", "Reject"),
    ("IFMarkInt", "Reject"),
    ("MaxConnections", "1"),
    ("RDMAExtensions", "Yes"),
    ("TargetRecvDataSegmentLength", "262144"),
    ("InitiatorRecvDataSegmentLength", "262144"),
    ("MaxOutstandingUnexpectedPDUs", "0"),
    ("MaxXmitDataSegmentLength", "8192"),
    ("MaxQueueCmd", "128"),
];

/// A target more.
pub fn new(view: &View, tid: u32, name: &str, driver: &str) -> Result<Vec<Edit>, Failure> {
    if !matches!(driver, "" | "iscsi") {
        return Err(Failure::because(Error::NoDriver, format!("there is no driver {driver}, only iscsi")));
    }
    let prepared = Name::parse(name);
    let prepared = prepared.map_err(|error| Failure::because(Error::InvalidRequest, format!("{name} {error}")))?;
    let same = |target: &TargetView| Name::parse(target.name()).is_ok_and(|other| other == prepared);
    if tids(view).contains(&tid) || view.targets.iter().any(same) {
        return Err(Error::TargetExists.into());
    }
    Ok(vec![Edit::Add(Place::Target(name.to_owned()), Fields::new().with("tid", i64::from(tid)))])
}

/// A parameter of a target.
pub fn set(target: &TargetView, name: &str, value: &str) -> Result<Vec<Edit>, Failure> {
    let refused = |why: String| Failure::because(Error::InvalidRequest, why);
    let fields = match name {
        "state" => match value {
            "ready" => Fields::new().without("online"),
            "offline" => Fields::new().with("online", false),
            _ => return Err(refused(format!("a target is ready or offline, and not {value}"))),
        },
        "RedirectAddress" | "RedirectPort" | "RedirectReason" => redirect(&target.values, name, value)?,
        "RedirectCallback" => {
            return Err(refused("no program is run to say where a target is; use RedirectAddress".to_owned()));
        }
        "nop_interval" | "nop_count" => {
            let help = "tgtd --iscsi nop_interval=SECONDS, or [limits] nop-interval and nop-timeout";
            return Err(refused(format!("{name} is one for all targets here: {help}")));
        }
        _ => match PARAMETERS.iter().find(|(known, _)| *known == name) {
            Some((_, default)) if *default == value => return Ok(Vec::new()),
            Some(_) => {
                return Err(refused(format!(
                    "{name} is agreed on with each initiator, as large as both can; a target has no value of its own"
                )));
            }
            None => return Err(refused(format!("there is no parameter {name}"))),
        },
    };
    Ok(vec![Edit::Set(place(target), fields)])
}

/// Where a target is instead: address, port, and whether for good.
pub fn redirection(values: &Values) -> Option<(String, String, bool)> {
    let (whole, permanent) = match values.get("redirect")? {
        serde_json::Value::String(address) => (address.as_str(), false),
        table => (table.get("address")?.as_str()?, table.get("permanent").is_some_and(|yes| yes == true)),
    };
    // [::1]:3260, [::1], host:3260, host.
    let (address, port) = match whole.rsplit_once(':') {
        Some((address, port)) if !port.contains(']') => (address, port),
        _ => (whole, "3260"),
    };
    Some((address.to_owned(), port.to_owned(), permanent))
}

fn redirect(values: &Values, name: &str, value: &str) -> Result<Fields, Failure> {
    let before = redirection(values);
    let refused = |why: String| Failure::because(Error::InvalidRequest, why);
    let (mut address, mut port, mut permanent) = match (before, name) {
        (Some(before), _) => before,
        (None, "RedirectAddress") => (String::new(), "3260".to_owned(), false),
        (None, _) => return Err(refused("set RedirectAddress first".to_owned())),
    };
    match (name, value) {
        ("RedirectAddress", "") => return Ok(Fields::new().without("redirect")),
        ("RedirectAddress", _) => {
            let is_v6 = value.parse::<std::net::Ipv6Addr>().is_ok();
            address = if is_v6 { format!("[{value}]") } else { value.to_owned() };
        }
        ("RedirectPort", _) => match value.parse::<u16>() {
            Ok(number) if number > 0 => port = value.to_owned(),
            _ => return Err(refused(format!("{value} is no port"))),
        },
        (_, "Temporary") => permanent = false,
        (_, "Permanent") => permanent = true,
        _ => return Err(refused("RedirectReason is Temporary or Permanent".to_owned())),
    }
    let whole = format!("{address}:{port}");
    let value = match permanent {
        false => Value::from(whole),
        true => {
            Value::InlineTable(InlineTable::from_iter([("address", Value::from(whole)), ("permanent", true.into())]))
        }
    };
    Ok(Fields::new().with("redirect", value))
}

/// What the document says of the iSNS server.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct IsnsSaid {
    /// Whether it is told.
    pub on: bool,
    /// Its address and port, where it has one.
    pub server: Option<(String, u16)>,
}

impl IsnsSaid {
    /// Of this document.
    pub fn of(text: &str) -> IsnsSaid {
        let Ok(document) = text.parse::<toml_edit::DocumentMut>() else { return IsnsSaid::default() };
        let Some(table) = document.get("isns") else { return IsnsSaid::default() };
        let server = table.get("server").and_then(toml_edit::Item::as_str);
        let server = server.map(|server| match server.rsplit_once(':') {
            Some((host, port)) if !port.contains(']') && !host.contains(':') || host.ends_with(']') => {
                (host.to_owned(), port.parse().unwrap_or(3205))
            }
            _ => (server.to_owned(), 3205),
        });
        let enabled = table.get("enabled").and_then(toml_edit::Item::as_bool);
        IsnsSaid { on: server.is_some() && enabled.unwrap_or(true), server }
    }
}

/// A setting of the daemon that the document has.
pub fn system(text: &str, name: &str, value: &str) -> Result<Vec<Edit>, Failure> {
    let refused = |why: String| Failure::because(Error::InvalidRequest, why);
    let put = |section, fields| Ok(vec![Edit::Put(Place::Section(section), fields)]);
    let IsnsSaid { server, on } = IsnsSaid::of(text);
    let address = |host: &str, port: u16| format!("{host}:{port}");
    match (name, value) {
        ("debug", "on") => put("log", Fields::new().with("level", "debug")),
        ("debug", "off") => put("log", Fields::new().with("level", "info")),
        ("debug", _) => Err(refused("debug is on or off".to_owned())),
        ("iSNS", "On") => match server {
            Some(_) => put("isns", Fields::new().without("enabled")),
            None => Err(refused("nobody says where the iSNS server is; set iSNSServerIP first".to_owned())),
        },
        ("iSNS", "Off") => match server {
            Some(_) => put("isns", Fields::new().with("enabled", false)),
            None => Ok(Vec::new()),
        },
        ("iSNS", _) => Err(refused("iSNS is On or Off".to_owned())),
        ("iSNSServerIP", _) => {
            let port = server.map_or(3205, |(_, port)| port);
            let is_v6 = value.parse::<std::net::Ipv6Addr>().is_ok();
            let host = if is_v6 { format!("[{value}]") } else { value.to_owned() };
            let fields = Fields::new().with("server", address(&host, port));
            put("isns", if on { fields } else { fields.with("enabled", false) })
        }
        ("iSNSServerPort", _) => match (server, value.parse::<u16>()) {
            (_, Err(_) | Ok(0)) => Err(refused(format!("{value} is no port"))),
            (Some((host, _)), Ok(port)) => put("isns", Fields::new().with("server", address(&host, port))),
            (None, _) => Err(refused("set iSNSServerIP first".to_owned())),
        },
        ("iSNSAccessControl", "Off") => Ok(Vec::new()),
        ("iSNSAccessControl", _) => {
            Err(refused("the iSNS server's word lets nobody in here; a target's own rules do".to_owned()))
        }
        _ => Err(refused(format!("there is no setting {name}"))),
    }
}

/// Whether a target takes logins.
pub fn is_ready(values: &Values) -> bool {
    super::paper::flag(values, "online") != Some(false)
}

/// The level of the log, where the document says one.
pub fn log_level(view: &edit::View) -> Option<&str> {
    text(&view.log, "level")
}
