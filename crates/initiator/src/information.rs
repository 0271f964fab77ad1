//! What a session can tell about itself: what was agreed, how it is now, what it has moved.

use crate::options::Portal;
use iscsi::key::{ConnectionParameters, SessionParameters};
use std::net::SocketAddr;

/// How a session is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum State {
    /// Logged in.
    #[default]
    LoggedIn,
    /// Lost; commands wait while it is logged in again.
    Recovering,
    /// Lost for longer than the replacement timeout; commands end with an error until it is back.
    Failed,
    /// Logged out.
    Closed,
}

impl State {
    /// Its name: `logged in`, `recovering`, `failed`, `closed`.
    pub fn name(self) -> &'static str {
        match self {
            State::LoggedIn => "logged in",
            State::Recovering => "recovering",
            State::Failed => "failed",
            State::Closed => "closed",
        }
    }
}

/// A connection of a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnectionInformation {
    /// Its CID.
    pub cid: u16,
    /// The target's end.
    pub peer: SocketAddr,
    /// Ours.
    pub local: SocketAddr,
    /// What was agreed for it.
    pub parameters: ConnectionParameters,
}

/// What was agreed for a session, and how it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Information {
    /// The target's name; of a discovery session, its portal.
    pub target: String,
    /// TargetAlias.
    pub target_alias: Option<String>,
    /// TargetPortalGroupTag.
    pub portal_group_tag: Option<u16>,
    /// InitiatorName.
    pub initiator_name: String,
    /// ISID.
    pub isid: [u8; 6],
    /// TSIH.
    pub tsih: u16,
    /// Where the login succeeded, after redirections.
    pub portal: Portal,
    /// What was agreed for the session.
    pub parameters: SessionParameters,
    /// Its connections that are open.
    pub connections: Vec<ConnectionInformation>,
    /// How it is.
    pub state: State,
}

/// What a session has moved, in all of its connections and logins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Statistics {
    /// Commands that have ended.
    pub commands: u64,
    /// Of them, those that ended with an error.
    pub errors: u64,
    /// Commands that were sent again.
    pub replayed: u64,
    /// Commands that took too long and were aborted.
    pub timeouts: u64,
    /// Bytes of data-in.
    pub data_in_bytes: u64,
    /// Bytes of data-out.
    pub data_out_bytes: u64,
    /// Bytes received, headers and all.
    pub received_bytes: u64,
    /// Bytes sent, headers and all.
    pub sent_bytes: u64,
    /// Connections that were lost.
    pub connections_lost: u64,
    /// Times that the session was logged in again.
    pub logins: u64,
    /// Connections that were lost to a digest that did not match.
    pub digest_errors: u64,
}
