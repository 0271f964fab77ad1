//! What a holder is asked to hold, and how it travels to the holder's process.

use iscsi::auth::{Account, Secret};
use serde_json::{Value, json};
use std::path::PathBuf;

/// What shall be attached: disks of one target, over one session or a group of them.
#[derive(Debug, Clone, Default)]
pub struct Request {
    /// The target's iSCSI name.
    pub target: String,
    /// Where it is reached, as `host:port`, at least one. With several, each is a path to the same disks.
    pub portals: Vec<String>,
    /// Which of its disks.
    pub units: Units,
    /// How the session is logged in.
    pub login: Login,
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

/// How a session is logged in. What is `None` is as the initiator's library has it.
#[derive(Debug, Clone, Default)]
pub struct Login {
    /// Our name.
    pub initiator_name: Option<String>,
    /// Six bytes; made at random where there are none.
    pub isid: Option<[u8; 6]>,
    /// Who we are, and the secret of it.
    pub chap: Option<Account>,
    /// Who the target must prove to be.
    pub mutual_chap: Option<Account>,
    /// Algorithms of CHAP in the order of preference, by their names (`MD5`, `SHA1`, `SHA256`, `SHA3-256`).
    pub chap_algorithms: Vec<String>,
    /// `None`, `CRC32C` in the order of preference.
    pub header_digest: Vec<String>,
    /// The same for data.
    pub data_digest: Vec<String>,
    /// Connections of the session.
    pub connections: Option<u16>,
    /// 0, 1 or 2.
    pub error_recovery_level: Option<u8>,
    /// Seconds that one login may take.
    pub login_timeout: Option<u32>,
    /// How often a first login is tried again when nobody answers.
    pub login_retries: Option<u32>,
    /// Seconds that commands wait for a lost session before they fail.
    pub replacement_timeout: Option<u32>,
    /// Seconds between pings; 0 for none.
    pub nop_interval: Option<u32>,
    /// Seconds until an answer to a ping counts as lost.
    pub nop_timeout: Option<u32>,
    /// Commands in flight.
    pub commands: Option<u16>,
    /// Keys of the login by their names in RFC 7143 (`FirstBurstLength`, `InitialR2T` …), with the value to offer.
    pub keys: Vec<(String, String)>,
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
    fn to_json(&self) -> Value {
        match self {
            Units::All => json!("all"),
            Units::Lun(lun) => json!({ "lun": lun }),
            Units::Identifier(identifier) => json!({ "identifier": identifier }),
        }
    }

    fn from_json(value: &Value) -> Option<Units> {
        match (value.as_str(), value["lun"].as_u64(), value["identifier"].as_str()) {
            (Some("all"), ..) => Some(Units::All),
            (_, Some(lun), _) => Some(Units::Lun(lun)),
            (.., Some(identifier)) => Some(Units::Identifier(identifier.to_owned())),
            _ => None,
        }
    }
}

impl Login {
    /// All of it, secrets as well: for the pipe to the holder and for a file that is its owner's alone.
    fn to_json(&self) -> Value {
        json!({
            "initiator_name": self.initiator_name,
            "isid": self.isid,
            "chap": self.chap.as_ref().map(from_account),
            "mutual_chap": self.mutual_chap.as_ref().map(from_account),
            "chap_algorithms": self.chap_algorithms,
            "header_digest": self.header_digest,
            "data_digest": self.data_digest,
            "connections": self.connections,
            "error_recovery_level": self.error_recovery_level,
            "login_timeout": self.login_timeout,
            "login_retries": self.login_retries,
            "replacement_timeout": self.replacement_timeout,
            "nop_interval": self.nop_interval,
            "nop_timeout": self.nop_timeout,
            "commands": self.commands,
            "keys": self.keys.iter().map(|(key, value)| json!([key, value])).collect::<Vec<_>>(),
        })
    }

    fn from_json(value: &Value) -> Option<Login> {
        let isid = match value["isid"].as_array() {
            None => None,
            Some(bytes) => {
                let bytes: Vec<u8> = bytes.iter().filter_map(|byte| u8::try_from(byte.as_u64()?).ok()).collect();
                Some(bytes.try_into().ok()?)
            }
        };
        let key = |pair: &Value| Some((text(&pair[0])?, text(&pair[1])?));
        Some(Login {
            initiator_name: text(&value["initiator_name"]),
            isid,
            chap: to_account(&value["chap"]),
            mutual_chap: to_account(&value["mutual_chap"]),
            chap_algorithms: texts(&value["chap_algorithms"]),
            header_digest: texts(&value["header_digest"]),
            data_digest: texts(&value["data_digest"]),
            connections: number(&value["connections"]),
            error_recovery_level: number(&value["error_recovery_level"]),
            login_timeout: number(&value["login_timeout"]),
            login_retries: number(&value["login_retries"]),
            replacement_timeout: number(&value["replacement_timeout"]),
            nop_interval: number(&value["nop_interval"]),
            nop_timeout: number(&value["nop_timeout"]),
            commands: number(&value["commands"]),
            keys: value["keys"].as_array()?.iter().filter_map(key).collect(),
        })
    }
}

impl Request {
    /// All of it, secrets as well.
    pub fn to_json(&self) -> Value {
        let path = |path: &Option<PathBuf>| path.as_ref().and_then(|path| path.to_str()).map(str::to_owned);
        json!({
            "target": self.target,
            "portals": self.portals,
            "units": self.units.to_json(),
            "login": self.login.to_json(),
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
            target: text(&value["target"])?,
            portals: texts(&value["portals"]),
            units: Units::from_json(&value["units"])?,
            login: Login::from_json(&value["login"])?,
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
        let account = |name: &str| Some(Account { user: name.into(), secret: Secret::weak(*b"a secret\xff of it") });
        let request = Request {
            target: "iqn.2026-01.org.example:disk".into(),
            portals: vec!["[::1]:3260".into(), "storage:3261".into()],
            units: Units::Identifier("naa.6001405".into()),
            login: Login {
                initiator_name: Some("iqn.2026-01.org.example:me".into()),
                isid: Some([0x80, 1, 2, 3, 4, 255]),
                chap: account("us"),
                mutual_chap: account("them"),
                chap_algorithms: vec!["SHA256".into()],
                header_digest: vec!["CRC32C".into(), "None".into()],
                data_digest: vec!["None".into()],
                connections: Some(2),
                error_recovery_level: Some(2),
                login_timeout: Some(15),
                login_retries: Some(4),
                replacement_timeout: Some(0),
                nop_interval: Some(5),
                nop_timeout: Some(7),
                commands: Some(128),
                keys: vec![("FirstBurstLength".into(), "65536".into())],
            },
            via: Via::Ublk,
            read_only: true,
            mount_point: Some("/mnt/x".into()),
            file_only: true,
            state_dir: Some("/run/y".into()),
            record: Some("a record".into()),
        };
        let sent = request.to_json();
        let arrived = Request::from_json(&serde_json::from_str(&sent.to_string()).unwrap()).unwrap();
        assert_eq!(arrived.to_json(), sent);
        assert_eq!(format!("{arrived:?}"), format!("{request:?}"));
        assert!(!format!("{request:?}").contains("a secret"));
        for units in [Units::All, Units::Lun(7)] {
            let sent = Request { units: units.clone(), ..Request::default() }.to_json();
            assert_eq!(Request::from_json(&sent).unwrap().units, units);
        }
        assert!(Request::from_json(&json!({ "target": "x" })).is_none());
    }
}
