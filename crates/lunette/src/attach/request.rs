//! What a holder is asked to hold, and how it travels to the holder's process.

use initiator::{Account, Algorithm, Chap, DigestOffer, Options, Portal, Secret};
use serde_json::{Value, json};
use std::path::PathBuf;
use std::time::Duration;

/// What shall be attached: disks of one target, over one session or a group of them.
#[derive(Debug, Clone)]
pub struct Request {
    /// How the session is logged in; names the target and its first portal. Where it has no ISID, each session
    /// gets one at random.
    pub options: Options,
    /// Further portals of the target: each is another path to the same disks, in a session of its own.
    pub more_portals: Vec<Portal>,
    /// How often the first login is tried again while nobody answers.
    pub login_retries: u32,
    /// Which of its disks.
    pub units: Units,
    /// What offers the disks to this machine.
    pub via: Via,
    /// Nothing is written.
    pub read_only: bool,
    /// Where the file is mounted (fuse); in the state directory where not named.
    pub mount_point: Option<PathBuf>,
    /// A file is wanted and no block device (fuse): works without privileges.
    pub file_only: bool,
    /// Where what is attached is kept account of, where not in the usual place.
    pub state_dir: Option<PathBuf>,
    /// The node record that it comes of, for listings.
    pub record: Option<String>,
}

/// Which disks of a target.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Units {
    /// Every LUN that is a disk. None is no failure.
    #[default]
    All,
    /// The disk with this LUN, as a number.
    Lun(u64),
    /// The disk with this identifier, whatever its LUN: NAA or EUI-64 as hexadecimal digits (`naa.` or `eui.` may
    /// stand before them), or its serial number.
    Identifier(String),
}

/// What offers a disk to this machine.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Via {
    /// The best that this machine has.
    #[default]
    Auto,
    /// The kernel's own initiator (iscsi_tcp)
    Kernel,
    /// ublk, a block device in user space (Linux 6.0 or later)
    Ublk,
    /// The kernel's network block device
    Nbd,
    /// A file in user space, and a loop device on it
    Fuse,
}

/// A name and its secret, for the pipe.
fn from_account(account: &Account) -> Value {
    let secret: String = account.secret.expose().iter().map(|byte| format!("{byte:02x}")).collect();
    json!({ "name": account.user, "secret": secret })
}

fn to_account(value: &Value) -> Option<Account> {
    let digits = value["secret"].as_str()?;
    let byte = |at: usize| u8::from_str_radix(digits.get(at..at + 2)?, 16).ok();
    let secret = (0..digits.len()).step_by(2).map(byte).collect::<Option<Vec<u8>>>()?;
    // Whether it is too weak was decided where it was given.
    Some(Account { user: text(&value["name"])?, secret: Secret::weak(secret) })
}

impl Via {
    /// The word for it on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Via::Auto => "auto",
            Via::Kernel => "kernel",
            Via::Ublk => "ublk",
            Via::Nbd => "nbd",
            Via::Fuse => "fuse",
        }
    }

    /// What the word means.
    pub fn named(name: &str) -> Option<Via> {
        [Via::Auto, Via::Kernel, Via::Ublk, Via::Nbd, Via::Fuse].into_iter().find(|via| via.name() == name)
    }
}

impl Units {
    /// The LUN, where one is asked for by its number.
    pub fn lun(&self) -> Option<u64> {
        match self {
            Units::Lun(lun) => Some(*lun),
            _ => None,
        }
    }

    /// Whether one disk is asked for.
    pub fn is_one(&self) -> bool {
        *self != Units::All
    }

    /// For a record.
    pub fn to_json(&self) -> Value {
        match self {
            Units::All => json!("all"),
            Units::Lun(lun) => json!({ "lun": lun }),
            Units::Identifier(identifier) => json!({ "identifier": identifier }),
        }
    }

    /// What [`Units::to_json`] wrote.
    pub fn from_json(value: &Value) -> Option<Units> {
        match (value.as_str(), value["lun"].as_u64(), value["identifier"].as_str()) {
            (Some("all"), ..) => Some(Units::All),
            (_, Some(lun), _) => Some(Units::Lun(lun)),
            (.., Some(identifier)) => Some(Units::Identifier(identifier.to_owned())),
            _ => None,
        }
    }
}

/// All of it, secrets as well: for the pipe to the holder and for a file that is its owner's alone.
fn from_options(options: &Options) -> Value {
    // Every field is named, so that none that is added is forgotten.
    let Options {
        portal,
        target,
        kind: _,
        initiator_name,
        initiator_alias,
        isid,
        chap,
        header_digest,
        data_digest,
        connections,
        error_recovery_level,
        initial_r2t,
        immediate_data,
        first_burst_length,
        max_burst_length,
        max_recv_data_segment_length,
        max_outstanding_r2t,
        time_2_wait,
        time_2_retain,
        queue_depth,
        login_timeout,
        replacement_timeout,
        command_timeout,
        logout_timeout,
        nop_interval,
        nop_timeout,
        local_address,
        device,
    } = options;
    let milliseconds = |time: &Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    let chap = chap.as_ref().map(|chap| {
        json!({
            "account": from_account(&chap.account),
            "mutual": chap.mutual.as_ref().map(from_account),
            "algorithms": chap.algorithms.iter().map(|algorithm| algorithm.name()).collect::<Vec<_>>(),
        })
    });
    json!({
        "portal": portal.to_string(),
        "target": target,
        "initiator_name": initiator_name,
        "initiator_alias": initiator_alias,
        "isid": isid,
        "chap": chap,
        "header_digest": digest_word(*header_digest),
        "data_digest": digest_word(*data_digest),
        "connections": connections,
        "error_recovery_level": error_recovery_level,
        "initial_r2t": initial_r2t,
        "immediate_data": immediate_data,
        "first_burst_length": first_burst_length,
        "max_burst_length": max_burst_length,
        "max_recv_data_segment_length": max_recv_data_segment_length,
        "max_outstanding_r2t": max_outstanding_r2t,
        "time_2_wait": time_2_wait,
        "time_2_retain": time_2_retain,
        "queue_depth": queue_depth,
        "login_timeout": milliseconds(login_timeout),
        "replacement_timeout": milliseconds(replacement_timeout),
        "command_timeout": milliseconds(command_timeout),
        "logout_timeout": milliseconds(logout_timeout),
        "nop_interval": milliseconds(nop_interval),
        "nop_timeout": milliseconds(nop_timeout),
        "local_address": local_address.map(|address| address.to_string()),
        "device": device,
    })
}

fn to_options(value: &Value) -> Option<Options> {
    let time = |name: &str| Some(Duration::from_millis(value[name].as_u64()?));
    let flag = |name: &str| value[name].as_bool();
    let chap = match &value["chap"] {
        Value::Null => None,
        chap => Some(Chap {
            account: to_account(&chap["account"])?,
            mutual: to_account(&chap["mutual"]),
            algorithms: texts(&chap["algorithms"]).iter().filter_map(|name| Algorithm::from_name(name)).collect(),
        }),
    };
    let isid = match value["isid"].as_array() {
        None => None,
        Some(bytes) => {
            let bytes: Vec<u8> = bytes.iter().filter_map(|byte| u8::try_from(byte.as_u64()?).ok()).collect();
            Some(bytes.try_into().ok()?)
        }
    };
    let portal = Portal::parse(value["portal"].as_str()?)?;
    Some(Options {
        initiator_name: text(&value["initiator_name"])?,
        initiator_alias: text(&value["initiator_alias"]),
        isid,
        chap,
        header_digest: digest(&value["header_digest"])?,
        data_digest: digest(&value["data_digest"])?,
        connections: number(&value["connections"])?,
        error_recovery_level: number(&value["error_recovery_level"])?,
        initial_r2t: flag("initial_r2t")?,
        immediate_data: flag("immediate_data")?,
        first_burst_length: number(&value["first_burst_length"])?,
        max_burst_length: number(&value["max_burst_length"])?,
        max_recv_data_segment_length: number(&value["max_recv_data_segment_length"])?,
        max_outstanding_r2t: number(&value["max_outstanding_r2t"])?,
        time_2_wait: number(&value["time_2_wait"])?,
        time_2_retain: number(&value["time_2_retain"])?,
        queue_depth: number(&value["queue_depth"])?,
        login_timeout: time("login_timeout")?,
        replacement_timeout: time("replacement_timeout")?,
        command_timeout: time("command_timeout")?,
        logout_timeout: time("logout_timeout")?,
        nop_interval: time("nop_interval")?,
        nop_timeout: time("nop_timeout")?,
        local_address: value["local_address"].as_str().and_then(|address| address.parse().ok()),
        device: text(&value["device"]),
        ..Options::new(portal, text(&value["target"])?)
    })
}

const DIGESTS: [(DigestOffer, &str); 4] = [
    (DigestOffer::None, "none"),
    (DigestOffer::Preferred, "preferred"),
    (DigestOffer::Allowed, "allowed"),
    (DigestOffer::Required, "required"),
];

fn digest_word(offer: DigestOffer) -> Option<&'static str> {
    DIGESTS.iter().find(|(known, _)| *known == offer).map(|(_, word)| *word)
}

fn digest(value: &Value) -> Option<DigestOffer> {
    DIGESTS.iter().find(|(_, word)| value.as_str() == Some(word)).map(|(offer, _)| *offer)
}

impl Request {
    /// All disks of a target, with what is usual.
    pub fn new(options: Options) -> Request {
        Request {
            options,
            more_portals: Vec::new(),
            login_retries: 0,
            units: Units::All,
            via: Via::Auto,
            read_only: false,
            mount_point: None,
            file_only: false,
            state_dir: None,
            record: None,
        }
    }

    /// The target's name.
    pub fn target(&self) -> &str {
        self.options.target.as_deref().unwrap_or_default()
    }

    /// All portals, the first one first, as people write them.
    pub fn portals(&self) -> Vec<String> {
        std::iter::once(&self.options.portal).chain(&self.more_portals).map(Portal::to_string).collect()
    }

    /// All of it, secrets as well.
    pub fn to_json(&self) -> Value {
        let path = |path: &Option<PathBuf>| path.as_ref().and_then(|path| path.to_str()).map(str::to_owned);
        json!({
            "options": from_options(&self.options),
            "more_portals": self.more_portals.iter().map(Portal::to_string).collect::<Vec<_>>(),
            "login_retries": self.login_retries,
            "units": self.units.to_json(),
            "via": self.via.name(),
            "read_only": self.read_only,
            "mount_point": path(&self.mount_point),
            "file_only": self.file_only,
            "state_dir": path(&self.state_dir),
            "record": self.record,
        })
    }

    /// What [`Request::to_json`] wrote.
    pub fn from_json(value: &Value) -> Option<Request> {
        let path = |value: &Value| text(value).map(PathBuf::from);
        Some(Request {
            options: to_options(&value["options"])?,
            more_portals: texts(&value["more_portals"]).iter().filter_map(|portal| Portal::parse(portal)).collect(),
            login_retries: number(&value["login_retries"])?,
            units: Units::from_json(&value["units"])?,
            via: Via::named(value["via"].as_str()?)?,
            read_only: value["read_only"].as_bool()?,
            mount_point: path(&value["mount_point"]),
            file_only: value["file_only"].as_bool()?,
            state_dir: path(&value["state_dir"]),
            record: text(&value["record"]),
        })
    }
}

fn text(value: &Value) -> Option<String> {
    value.as_str().map(str::to_owned)
}

fn texts(value: &Value) -> Vec<String> {
    value.as_array().into_iter().flatten().filter_map(text).collect()
}

fn number<T: TryFrom<u64>>(value: &Value) -> Option<T> {
    value.as_u64().and_then(|number| T::try_from(number).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_arrives_as_it_was_sent() {
        let account = |name: &str| Account { user: name.into(), secret: Secret::weak(*b"a secret\xff of it") };
        let chap = Chap { account: account("us"), mutual: Some(account("them")), algorithms: vec![Algorithm::Sha256] };
        let options = Options {
            initiator_name: "iqn.2026-01.org.example:me".into(),
            initiator_alias: Some("alias".into()),
            isid: Some([0x80, 1, 2, 3, 4, 255]),
            chap: Some(chap),
            header_digest: DigestOffer::Required,
            data_digest: DigestOffer::Allowed,
            connections: 2,
            error_recovery_level: 2,
            replacement_timeout: Duration::from_millis(1500),
            local_address: Some("::1".parse().unwrap()),
            device: Some("eth0".into()),
            ..Options::new(Portal::new("::1", 3261), "iqn.2026-01.org.example:disk")
        };
        let request = Request {
            more_portals: vec![Portal::new("storage", 3260)],
            login_retries: 5,
            units: Units::Identifier("naa.6001405".into()),
            via: Via::Ublk,
            read_only: true,
            mount_point: Some("/mnt/x".into()),
            file_only: true,
            state_dir: Some("/run/y".into()),
            record: Some("a record".into()),
            ..Request::new(options)
        };
        let sent = request.to_json();
        let arrived = Request::from_json(&serde_json::from_str(&sent.to_string()).unwrap()).unwrap();
        assert_eq!(arrived.to_json(), sent);
        assert_eq!(format!("{arrived:?}"), format!("{request:?}"));
        assert_eq!(
            arrived.options.chap.as_ref().map(|chap| chap.account.secret.expose().to_vec()),
            Some(b"a secret\xff of it".to_vec())
        );
        assert!(!format!("{request:?}").contains("a secret"));
        for units in [Units::All, Units::Lun(7)] {
            let plain = Request { units: units.clone(), ..Request::new(request.options.clone()) };
            assert_eq!(Request::from_json(&plain.to_json()).unwrap().units, units);
        }
        assert!(Request::from_json(&json!({ "target": "x" })).is_none());
    }
}
