//! What the administration can see of a session.

use super::Driver;
use iscsi::key::{ConnectionParameters, SessionParameters};
use iscsi::login::target::LoggedIn;
use std::net::SocketAddr;
use std::time::SystemTime;

/// A session as it stands at a moment.
#[derive(Debug, Clone)]
pub struct SessionOverview {
    /// The target's name.
    pub target: String,
    /// The portal group whose portals it uses.
    pub portal_group: u16,
    /// The initiator's name.
    pub initiator: String,
    /// What the initiator calls itself.
    pub alias: Option<String>,
    /// The account that it has shown itself with.
    pub account: Option<String>,
    /// The initiator's part of the session's identity (RFC 7143 §11.12.5).
    pub isid: [u8; 6],
    /// The target's part.
    pub tsih: u16,
    /// When its leading connection came.
    pub since: SystemTime,
    /// What was agreed for it.
    pub parameters: SessionParameters,
    /// Commands in flight.
    pub commands: usize,
    /// Its open connections.
    pub connections: Vec<ConnectionOverview>,
}

/// A connection of a session as it stands at a moment.
#[derive(Debug, Clone)]
pub struct ConnectionOverview {
    /// Its number in the session.
    pub cid: u16,
    /// Whom it comes from.
    pub peer: SocketAddr,
    /// Which of our addresses it has reached.
    pub local: SocketAddr,
    /// When it came.
    pub since: SystemTime,
    /// What was agreed for it.
    pub parameters: ConnectionParameters,
    /// Bytes that were received over it, headers included.
    pub received_bytes: u64,
    /// Bytes that were sent over it.
    pub sent_bytes: u64,
}

/// What does not change in the life of a session.
pub(super) struct Identity {
    portal_group: u16,
    alias: Option<String>,
    account: Option<String>,
    isid: [u8; 6],
    tsih: u16,
    since: SystemTime,
}

impl Identity {
    pub fn of(logged_in: &LoggedIn) -> Identity {
        Identity {
            portal_group: logged_in.portal_group_tag,
            alias: logged_in.asked.initiator_alias.clone(),
            account: logged_in.account.clone(),
            isid: logged_in.asked.isid,
            tsih: logged_in.tsih,
            since: SystemTime::now(),
        }
    }
}

impl Driver {
    /// The session as it stands.
    pub fn overview(&self) -> SessionOverview {
        let Identity { portal_group, alias, account, isid, tsih, since } = &self.identity;
        let connections = self.lines.iter().map(|line| ConnectionOverview {
            cid: line.cid,
            peer: line.peer,
            local: line.local,
            since: line.since,
            parameters: self.session.connection_parameters(line.c).cloned().unwrap_or_default(),
            received_bytes: line.link.counters().received_bytes,
            sent_bytes: line.link.counters().sent_bytes,
        });
        SessionOverview {
            target: self.target.name.clone(),
            portal_group: *portal_group,
            initiator: self.initiator.clone(),
            alias: alias.clone(),
            account: account.clone(),
            isid: *isid,
            tsih: *tsih,
            since: *since,
            parameters: self.session.parameters().clone(),
            commands: self.session.tasks(),
            connections: connections.collect(),
        }
    }
}
