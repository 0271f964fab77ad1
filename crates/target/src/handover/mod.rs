//! What a process that serves tells the one that takes its place: units, sessions, connections.
//!
//! The numbers of the fields are what the versions of this program agree on; they are never used for anything
//! else ([`format`] says what an unknown one means). `tests.rs` has the bytes of every version that was released,
//! so that this one reads them.

pub mod format;
pub mod message;
mod pieces;
#[cfg(test)]
mod tests;

use format::records;
use io::link::LinkAtRest;
use iscsi::session::AtRest;
use lun::handover::{NexusAtRest, UnitAtRest};
use std::net::SocketAddr;
use std::time::SystemTime;

pub use format::{Piece, Unreadable};

/// Everything that the door of a process hands over, beside the sockets.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct DoorAtRest {
    /// The units, in no order.
    pub units: Vec<UnitAtRest>,
    /// The access states of the portal groups.
    pub groups: Vec<GroupAtRest>,
    /// The sessions.
    pub sessions: Vec<SessionAtRest>,
    /// The TSIH that was given last.
    pub last_tsih: u16,
}

/// The access state of a portal group of a target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupAtRest {
    /// The target's name.
    pub target: String,
    /// The group.
    pub number: u16,
    /// Its state (SPC-5, ASYMMETRIC ACCESS STATE).
    pub state: u8,
}

/// A session and who it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionAtRest {
    /// The target's name.
    pub target: String,
    /// The portal group through whose portals it came.
    pub portal_group: u16,
    /// The initiator's name.
    pub initiator: String,
    /// What the initiator calls itself.
    pub alias: Option<String>,
    /// The account that it has shown itself with.
    pub account: Option<String>,
    /// The initiator's part of its identity.
    pub isid: [u8; 6],
    /// The target's part.
    pub tsih: u16,
    /// When its leading connection came.
    pub since: SystemTime,
    /// Its numbers.
    pub session: AtRest,
    /// Its units.
    pub nexus: NexusAtRest,
    /// Its connections, as `session` has them. The sockets come beside, in the same order.
    pub lines: Vec<LineAtRest>,
}

/// A connection of a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LineAtRest {
    /// Whom it comes from.
    pub peer: SocketAddr,
    /// When it came.
    pub since: SystemTime,
    /// What was read and not handled, and what is still to be sent.
    pub link: LinkAtRest,
}

records! {
    DoorAtRest { 1 units, 2 groups, 3 sessions, 4 last_tsih }
    GroupAtRest { 1 target, 2 number, 3 state }
    SessionAtRest {
        1 target, 2 portal_group, 3 initiator, 4 alias, 5 account, 6 isid, 7 tsih, 8 since, 9 session, 10 nexus,
        11 lines,
    }
    LineAtRest { 1 peer, 2 since, 3 link }
}
