//! What iscsiadm needs of whoever logs in: sessions, and what can be done with them.

use super::Code;
use crate::records::{Node, Portal, Record, Source};

/// Whoever logs in and out.
pub trait Initiator {
    /// All sessions, by their numbers.
    ///
    /// # Errors
    /// They cannot be found out.
    fn sessions(&self) -> Result<Vec<Session>, Failure>;

    /// Asks a source for targets, as its record says, through this interface. `name` is ours where that has none.
    ///
    /// # Errors
    /// Nobody answered, or not with targets.
    fn discover(&self, source: &Source, record: &Record, iface: &Record, name: &str) -> Result<Vec<Found>, Failure>;

    /// Logs in, all at a time. `name` is ours where a node's interface has none.
    fn login(&self, nodes: &[Node], name: &str, wait: Wait) -> Vec<Result<(), Failure>>;

    /// Logs out, all at a time.
    fn logout(&self, sessions: &[Session]) -> Vec<Result<(), Failure>>;

    /// Looks for disks that are new, gone, or of another size.
    ///
    /// # Errors
    /// It cannot be done.
    fn rescan(&self, session: &Session) -> Result<(), Failure>;

    /// Counters of a session: those of the iSCSI MIB, then others.
    ///
    /// # Errors
    /// They cannot be had.
    fn statistics(&self, session: &Session) -> Result<Statistics, Failure>;

    /// The targets that this machine's firmware booted from, or was to: of each the fields of its record and its
    /// interface that are known, in the order in which they are told.
    ///
    /// # Errors
    /// The firmware cannot be asked.
    fn firmware(&self) -> Result<Vec<Vec<(String, String)>>, Failure> {
        Ok(Vec::new())
    }
}

/// Whether the end of a login is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wait {
    /// Until it succeeded or failed.
    ForTheEnd,
    /// Only until it is on its way.
    No,
}

/// A portal of a target that a source told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The target's name.
    pub target: String,
    /// One of its portals.
    pub portal: Portal,
}

/// Why something was not done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// What iscsiadm's exit code is.
    pub code: Code,
    /// What people should know beyond it, in lines.
    pub lines: Vec<String>,
}

impl Failure {
    /// Nothing to be said but the code.
    pub fn of(code: Code) -> Failure {
        Failure { code, lines: Vec::new() }
    }

    /// A code and what people should know.
    pub fn new(code: Code, line: impl ToString) -> Failure {
        Failure { code, lines: vec![line.to_string()] }
    }
}

/// Counters by their names.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Statistics {
    /// Those of the iSCSI MIB, by the names that iscsiadm has for them.
    pub mib: Vec<(String, u64)>,
    /// Others.
    pub others: Vec<(String, u64)>,
}

/// A session, as it is told.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Session {
    /// Its number.
    pub id: u32,
    /// What whoever logs in knows it by; nobody else looks at it.
    pub handle: String,
    /// What carries it: `tcp`.
    pub transport: String,
    /// The target's name.
    pub target: String,
    /// The portal that it is connected to.
    pub portal: Portal,
    /// The portal that it was told to connect to.
    pub persistent: Portal,
    /// The interface's name.
    pub iface: String,
    /// Our name.
    pub initiator_name: String,
    /// Our address.
    pub ip_address: String,
    /// Our hardware's address, where the session is bound to it.
    pub hardware_address: String,
    /// Our network device, where the session is bound to it.
    pub network_device: String,
    /// `LOGGED IN` and the like.
    pub connection_state: String,
    /// `LOGGED_IN` and the like.
    pub session_state: String,
    /// What whoever looks after it is about to do: `NO CHANGE` and the like.
    pub internal_state: String,
    /// Seconds: recovery, target reset, LUN reset, abort.
    pub timeouts: [Option<u32>; 4],
    /// user, secret, their user, their secret; empty where there are none.
    pub chap: [String; 4],
    /// What was agreed upon, by the names of RFC 7143.
    pub negotiated: Vec<(String, String)>,
    /// Its SCSI host's number.
    pub host: Option<u32>,
    /// `running` and the like.
    pub host_state: String,
    /// Its LUNs.
    pub units: Vec<Unit>,
}

/// A LUN of a session.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Unit {
    /// Its number.
    pub lun: u64,
    /// What it is called under /dev, if anything.
    pub device: Option<String>,
    /// `running` and the like.
    pub state: String,
}

impl Session {
    /// As messages name it.
    pub fn label(&self) -> String {
        format!("[sid: {}, target: {}, portal: {}]", self.id, self.target, self.persistent.with_comma())
    }
}

impl Default for Portal {
    fn default() -> Portal {
        Portal { address: String::new(), port: 3260, tag: crate::records::TAG_UNKNOWN }
    }
}
