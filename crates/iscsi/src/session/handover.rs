//! A session that goes over to another process in the midst of its life: how it comes to rest, what is left of
//! it then, and how it begins anew from that.
//!
//! A session that is *frozen* gives no further credit, finishes what it has begun and begins nothing: a request
//! that came behind the cut is sorted out by its header and kept as it came ([`Sorted::Later`]), for whoever
//! goes on with the stream. Once nothing is under way, what is left is a handful of numbers ([`AtRest`]); the
//! initiator cannot tell that anything happened, but for the time it took.
//!
//! The cut goes through the order of commands, not through time: with several connections a command may be here
//! whose predecessor is not. So what has a number below the cut still goes on.

use super::connection::{Connection, Connections};
use super::window::Window;
use super::{ConnectionId, Session, SessionKind, SessionLimits};
use crate::key::{ConnectionParameters, SessionParameters};
use crate::serial::precedes;
use crate::wire::{BHS_BYTES, DataOut, Header, NopOut, Opcode, Pdu, RESERVED_TAG, ScsiCommand, padding};
use std::time::Instant;
use zerocopy::FromBytes;

/// What becomes of a PDU that comes while the session is frozen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sorted {
    /// It belongs to what is under way: it is handled.
    Now,
    /// It is kept as it came, with so many bytes behind its header segments: data, padding, digest.
    Later {
        /// Those bytes.
        behind: usize,
    },
    /// Where it ends cannot be told: it and all behind it are kept.
    Unclear,
}

/// What is left of a session at rest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AtRest {
    /// What was agreed for it.
    pub parameters: SessionParameters,
    /// ExpCmdSN.
    pub exp_cmd_sn: u32,
    /// MaxCmdSN as the initiator has it.
    pub max_cmd_sn: u32,
    /// Tags of tasks that are over and whose data may still come.
    pub forgiven: Vec<u32>,
    /// Units, and below which numbers their commands are over before they have come.
    pub passed: Vec<([u8; 8], u32)>,
    /// Its connections.
    pub connections: Vec<ConnectionAtRest>,
}

/// What is left of a connection at rest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnectionAtRest {
    /// Its identifier.
    pub cid: u16,
    /// What was agreed for it.
    pub parameters: ConnectionParameters,
    /// StatSN of the next response.
    pub stat_sn: u32,
    /// ExpStatSN as the initiator last said it.
    pub acknowledged: u32,
    /// The target transfer tag of the last ping.
    pub ping_tag: u32,
    /// The target transfer tag of the last text negotiation.
    pub text_tag: u32,
}

impl Session {
    /// Begins nothing more, so that the session comes to rest. What is kept until it is acknowledged is asked
    /// after at once.
    pub fn freeze(&mut self) {
        if self.frozen.is_some() {
            return;
        }
        self.window.shut();
        self.frozen = Some(self.window.behind_all());
        self.connections.iter_mut().for_each(|(_, connection)| connection.hurried = true);
    }

    /// Goes on.
    pub fn thaw(&mut self) {
        self.frozen = None;
        self.window.open();
        self.connections.iter_mut().for_each(|(_, connection)| connection.hurried = false);
    }

    /// Whether it is frozen.
    pub fn is_frozen(&self) -> bool {
        self.frozen.is_some()
    }

    /// What becomes of the PDU that begins with this header, whose digest matched. What is kept has been heard
    /// and has acknowledged what it acknowledges.
    pub fn sort(&mut self, now: Instant, c: ConnectionId, first: &[u8; BHS_BYTES]) -> Sorted {
        let Some(cut) = self.frozen else { return Sorted::Now };
        let Ok(basic) = Header::ref_from_bytes(first) else { return Sorted::Unclear };
        let Some(connection) = self.connections.get_mut(c) else { return Sorted::Now };
        let length = basic.data_segment_bytes();
        if length > connection.parameters.max_recv_data_segment_length {
            return Sorted::Unclear;
        }
        let digest = if connection.parameters.data_digest && length > 0 { 4 } else { 0 };
        let numbered = |cmd_sn: u32| !basic.immediate() && precedes(cmd_sn, cut);
        let now_or_never = match Opcode::from_number(basic.opcode()) {
            Some(Opcode::DataOut) => {
                let tag = DataOut::view(basic).initiator_task_tag.get();
                // Not what is over and kept in case that its status is asked for once more.
                self.tasks.by_tag(tag).and_then(|id| self.tasks.get(id)).is_some_and(|task| task.kept.is_none())
            }
            Some(Opcode::SnackRequest) => true,
            Some(Opcode::NopOut) => {
                let ping = NopOut::view(basic);
                // A ping waits for nobody, and who asks so wants to know soon.
                basic.immediate() || ping.initiator_task_tag.get() == RESERVED_TAG || numbered(ping.cmd_sn.get())
            }
            // All requests have their CmdSN in the same place.
            Some(Opcode::ScsiCommand | Opcode::TextRequest | Opcode::TaskManagementRequest | Opcode::LogoutRequest) => {
                numbered(ScsiCommand::view(basic).cmd_sn.get())
            }
            _ => false,
        };
        if now_or_never {
            return Sorted::Now;
        }
        connection.heard(now);
        // Whoever handles it later says what is wrong with it.
        let _ = self.acknowledged_by(c, basic);
        Sorted::Later { behind: (length + padding(length)) as usize + digest }
    }

    /// Whether nothing is under way, or what is.
    pub fn rests(&self) -> Result<(), &'static str> {
        let busy = [
            (self.failed || self.logging_out || self.awaits_logout, "it is ending"),
            (self.tasks.len() > 0, "commands are under way"),
            (!self.events.is_empty() || !self.window.is_in_order(), "requests wait for those in front of them"),
            (!self.functions.are_idle(), "task management functions are under way"),
            (!self.fences.are_idle(), "answers wait for others to be acknowledged"),
            (!self.recovering.is_empty(), "a connection was lost and may come back"),
        ];
        if let Some((_, what)) = busy.iter().find(|(busy, _)| *busy) {
            return Err(what);
        }
        self.connections.iter().try_for_each(|(_, connection)| connection.rests())
    }

    /// What is left of it, where nothing is under way.
    pub fn at_rest(&self) -> Option<AtRest> {
        self.rests().ok()?;
        let (exp_cmd_sn, max_cmd_sn) = self.window.told();
        Some(AtRest {
            parameters: self.parameters.clone(),
            exp_cmd_sn,
            max_cmd_sn,
            forgiven: self.forgiven.iter().copied().collect(),
            passed: self.functions.passed_over().to_vec(),
            connections: self.connections.iter().map(|(_, connection)| connection.at_rest()).collect(),
        })
    }

    /// The session that was at rest goes on. Its connections come in their order.
    pub fn revive(
        kind: SessionKind,
        rest: AtRest,
        limits: SessionLimits,
        now: Instant,
    ) -> (Session, Vec<ConnectionId>) {
        let window = Window::at(rest.exp_cmd_sn, rest.max_cmd_sn, limits.window);
        let mut session = Session::with(kind, rest.parameters, limits, window);
        session.forgiven = rest.forgiven.into();
        session.functions.pass_over_again(rest.passed);
        let connections = rest.connections.into_iter().map(|rest| Connection::revive(rest, now));
        let mut open = Connections::default();
        let connections = connections.map(|connection| open.insert(connection)).collect();
        session.connections = open;
        (session, connections)
    }
}
