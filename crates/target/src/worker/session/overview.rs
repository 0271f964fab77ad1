//! What the administration can see of a session.

use super::Driver;
use crate::handover::{LineAtRest, SessionAtRest};
use iscsi::key::{ConnectionParameters, SessionParameters};
use iscsi::login::target::LoggedIn;
use iscsi::session::AtRest;
use lun::handover::NexusAtRest;
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
    /// The rule by which it is there.
    pub rule: String,
    /// The LUNs that it sees.
    pub luns: Vec<u16>,
    /// ExpCmdSN: the number of the command that is awaited next.
    pub exp_cmd_sn: u32,
    /// MaxCmdSN: the last number that the initiator may use now.
    pub max_cmd_sn: u32,
    /// Commands in flight.
    pub commands: usize,
    /// CIDs of connections that are lost and whose tasks wait for another (recovery level 2).
    pub recovering: Vec<u16>,
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
    /// StatSN: the number of the next answer.
    pub stat_sn: u32,
    /// ExpStatSN: what the initiator has said that it has all answers before.
    pub exp_stat_sn: u32,
    /// Bytes that were received over it, headers included.
    pub received_bytes: u64,
    /// Bytes that were sent over it.
    pub sent_bytes: u64,
}

/// What does not change in the life of a session.
pub(super) struct Identity {
    pub portal_group: u16,
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

    /// The target's part of the session's identity.
    pub fn tsih(&self) -> u16 {
        self.tsih
    }
}

impl Identity {
    /// That of a session that goes on here.
    pub fn revive(rest: &SessionAtRest) -> Identity {
        let SessionAtRest { portal_group, alias, account, isid, tsih, since, .. } = rest;
        let (alias, account) = (alias.clone(), account.clone());
        Identity { portal_group: *portal_group, alias, account, isid: *isid, tsih: *tsih, since: *since }
    }

    /// The session as another process goes on with it.
    pub fn at_rest(
        &self,
        target: String,
        initiator: String,
        session: AtRest,
        nexus: NexusAtRest,
        lines: Vec<LineAtRest>,
    ) -> SessionAtRest {
        let Identity { portal_group, alias, account, isid, tsih, since } = self;
        let (alias, account) = (alias.clone(), account.clone());
        let (portal_group, isid, tsih, since) = (*portal_group, *isid, *tsih, *since);
        SessionAtRest { target, portal_group, initiator, alias, account, isid, tsih, since, session, nexus, lines }
    }
}

impl Driver {
    /// The session as it stands.
    pub fn overview(&self, luns: Vec<u16>) -> SessionOverview {
        let Identity { portal_group, alias, account, isid, tsih, since } = &self.identity;
        let connections = self.lines.iter().map(|line| {
            let (stat_sn, exp_stat_sn) = self.session.status_numbers(line.c).unwrap_or_default();
            ConnectionOverview {
                cid: line.cid,
                peer: line.peer,
                local: line.local,
                since: line.since,
                parameters: self.session.connection_parameters(line.c).cloned().unwrap_or_default(),
                stat_sn,
                exp_stat_sn,
                received_bytes: line.link.counters().received_bytes,
                sent_bytes: line.link.counters().sent_bytes,
            }
        });
        let (exp_cmd_sn, max_cmd_sn) = self.session.numbers();
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
            rule: self.rule.clone(),
            luns,
            exp_cmd_sn,
            max_cmd_sn,
            commands: self.session.tasks(),
            recovering: self.session.recovering().collect(),
            connections: connections.collect(),
        }
    }
}
