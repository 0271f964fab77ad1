//! What a daemon has, as tgtadm shows it.

use super::request::{Error, Failure};

/// All of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct View {
    /// The targets, by ascending number.
    pub targets: Vec<Target>,
    /// The accounts, the newest first.
    pub accounts: Vec<String>,
    /// Where it listens.
    pub portals: Vec<Portal>,
    /// The daemon.
    pub system: System,
}

impl View {
    /// The target of this number.
    pub fn target(&self, tid: u32) -> Result<&Target, Failure> {
        self.targets.iter().find(|target| target.tid == tid).ok_or(Failure::Refused(Error::NoTarget, None))
    }
}

/// A target.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Target {
    /// Its number.
    pub tid: u32,
    /// Its name.
    pub name: String,
    /// Whether it takes logins.
    pub ready: bool,
    /// Seconds between pings, and how many may stay unanswered, where somebody has set them.
    pub nop: Option<(u32, u32)>,
    /// The parameters, in the order in which they are shown.
    pub parameters: Vec<(String, String)>,
    /// Address, port and reason of a redirection.
    pub redirect: Option<(String, String, String)>,
    /// Its sessions.
    pub sessions: Vec<Session>,
    /// Its units, by ascending number.
    pub units: Vec<Unit>,
    /// The accounts of which one is asked for.
    pub incoming: Vec<String>,
    /// The account that is shown.
    pub outgoing: Option<String>,
    /// Addresses that are let in.
    pub addresses: Vec<String>,
    /// Names that are let in.
    pub names: Vec<String>,
}

impl Target {
    /// The session of this number.
    pub fn session(&self, sid: u64) -> Result<&Session, Failure> {
        self.sessions.iter().find(|session| session.sid == sid).ok_or(Failure::Refused(Error::NoSession, None))
    }
}

/// A session.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Session {
    /// Its number.
    pub sid: u64,
    /// The initiator's name.
    pub initiator: String,
    /// The initiator's alias.
    pub alias: Option<String>,
    /// Its connections.
    pub connections: Vec<Connection>,
    /// What was agreed on.
    pub parameters: Vec<(String, String)>,
}

/// A connection.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Connection {
    /// Its number.
    pub cid: u32,
    /// The initiator's address, without brackets.
    pub address: String,
    /// What went over it.
    pub counters: Wire,
}

/// What went over a connection.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names are those of the columns")]
pub struct Wire {
    pub received_bytes: u64,
    pub sent_bytes: u64,
    pub data_out: u64,
    pub data_in: u64,
    pub commands: u64,
    pub responses: u64,
}

/// A logical unit.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names are those of the listing")]
pub struct Unit {
    pub lun: u64,
    pub kind: &'static str,
    pub scsi_id: String,
    pub scsi_sn: String,
    /// Bytes.
    pub size: u64,
    /// Bytes.
    pub block_size: u32,
    pub online: bool,
    pub removable: bool,
    pub prevent_removal: bool,
    pub read_only: bool,
    pub software_write_protect: bool,
    pub thin: bool,
    pub store: String,
    pub path: Option<String>,
    pub flags: String,
    /// By the number of the session.
    pub counters: Vec<(u64, Counters)>,
}

impl Unit {
    /// What stands at LUN 0 where nothing does.
    pub fn controller(tid: u32) -> Unit {
        Unit {
            lun: 0,
            kind: "controller",
            scsi_id: scsi_id(tid, 0),
            scsi_sn: serial(tid, 0),
            size: 0,
            block_size: 1,
            online: true,
            removable: false,
            prevent_removal: false,
            read_only: false,
            software_write_protect: false,
            thin: false,
            store: "null".to_owned(),
            path: None,
            flags: String::new(),
            counters: Vec::new(),
        }
    }
}

/// The identity that tgt gives to a unit of which nobody says another.
pub fn scsi_id(tid: u32, lun: u64) -> String {
    format!("IET     {tid:04x}{lun:04x}")
}

/// The serial number that tgt gives to a unit of which nobody says another.
pub fn serial(tid: u32, lun: u64) -> String {
    format!("beaf{tid}{lun}")
}

/// What one session did at one unit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names are those of the columns")]
pub struct Counters {
    pub read_submitted: (u64, u64),
    pub read_done: (u64, u64),
    pub write_submitted: (u64, u64),
    pub write_done: (u64, u64),
    pub errors: u64,
}

/// Where it listens.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Portal {
    /// `ADDRESS:PORT`, IPv6 in brackets.
    pub address: String,
    /// The portal group.
    pub group: u16,
}

/// The daemon.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct System {
    /// Whether anybody may log in.
    pub ready: bool,
    /// Whether it tells more than usual.
    pub debug: bool,
    /// Kinds of stores, each with the flags that it takes.
    pub stores: Vec<(String, Option<String>)>,
    /// Kinds of units.
    pub device_types: Vec<String>,
    /// The iSNS server's address, while it is told of the targets.
    pub isns: Isns,
}

impl Default for System {
    fn default() -> System {
        System { ready: true, debug: false, stores: Vec::new(), device_types: Vec::new(), isns: Isns::default() }
    }
}

/// How an iSNS server is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Isns {
    /// Whether.
    pub on: bool,
    /// Its address.
    pub server: String,
    /// Its port.
    pub port: u16,
    /// Whether the server's word decides who gets in.
    pub access_control: bool,
}

impl Default for Isns {
    fn default() -> Isns {
        Isns { on: false, server: String::new(), port: 3205, access_control: false }
    }
}

/// Whoever serves targets.
pub trait Daemon {
    /// What it has now.
    fn view(&self) -> Result<View, Failure>;

    /// Does this, whole or not at all.
    fn change(&self, change: &super::request::Change) -> Result<(), Failure>;
}
