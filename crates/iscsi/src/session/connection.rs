//! One connection of a session: its status numbers, its digests, what waits to be sent on it.

use super::receive::Pending;
use super::task::TaskId;
use super::{Opening, SessionLimits};
use crate::key::ConnectionParameters;
use crate::wire::{AsyncEvent, RejectReason};
use std::collections::VecDeque;
use std::time::Instant;

/// A connection within its session. Not its CID.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnectionId(pub(crate) usize);

/// Something to be sent, in order.
#[derive(Debug)]
pub(super) enum Outgoing {
    /// A task's data and status.
    Answer(TaskId),
    /// As many R2Ts of a task as are allowed.
    ReadyToTransfer(TaskId),
    /// The answer to a ping.
    PingAnswer { initiator_task_tag: u32, lun: [u8; 8], data: Vec<u8> },
    /// The target's own ping, or, without a tag, news of the window.
    Ping { target_transfer_tag: u32 },
    /// A task management response.
    TaskManagement { initiator_task_tag: u32, response: u8, additional: [u8; 3] },
    /// A text response.
    Text { initiator_task_tag: u32, final_bit: bool, continues: bool, target_transfer_tag: u32, data: Vec<u8> },
    /// A logout response. The connection closes behind it where `close`.
    Logout { initiator_task_tag: u32, response: u8, close: bool },
    /// A reject with the header that is refused.
    Reject { reason: RejectReason, header: Box<[u8]> },
    /// An asynchronous message.
    Async { event: AsyncEvent, parameters: [u16; 3] },
}

/// A logout that waits for tasks to end.
#[derive(Debug, Clone, Copy)]
pub(super) struct LoggingOut {
    pub initiator_task_tag: u32,
    pub session: bool,
}

pub(super) struct Connection {
    pub cid: u16,
    pub parameters: ConnectionParameters,
    pub stat_sn: u32,
    pub pending: Option<Pending>,
    pub collected: Vec<u8>,
    pub outgoing: VecDeque<Outgoing>,
    pub backlog_bytes: usize,
    /// Whether reading waited when it was last asked.
    pub congested: bool,
    pub text: Option<super::text::Exchange>,
    pub rejects: u32,
    /// Since when `rejects` counts.
    pub rejects_since: Instant,
    /// All rejects, to tell whether there was another.
    pub refused: u64,
    pub closing: bool,
    pub logging_out: Option<LoggingOut>,
    pub last_heard: Instant,
    ping: Option<(u32, Instant)>,
    next_ping_tag: u32,
}

impl Connection {
    pub fn new(opening: Opening, now: Instant) -> Connection {
        Connection {
            cid: opening.cid,
            parameters: opening.parameters,
            stat_sn: opening.next_stat_sn,
            pending: None,
            collected: Vec::new(),
            outgoing: VecDeque::new(),
            backlog_bytes: 0,
            congested: false,
            text: None,
            rejects: 0,
            rejects_since: now,
            refused: 0,
            closing: false,
            logging_out: None,
            last_heard: now,
            ping: None,
            next_ping_tag: 0,
        }
    }

    /// Something came from the initiator.
    pub fn heard(&mut self, now: Instant) {
        self.last_heard = now;
    }

    /// A NOP-Out with this target transfer tag came.
    pub fn pong(&mut self, target_transfer_tag: u32) {
        if self.ping.is_some_and(|(tag, _)| tag == target_transfer_tag) {
            self.ping = None;
        }
    }

    pub fn deadline(&self, limits: &SessionLimits) -> Option<Instant> {
        if limits.nop_interval.is_zero() {
            return None;
        }
        match self.ping {
            Some((_, sent)) => Some(sent + limits.nop_timeout),
            None => Some(self.last_heard + limits.nop_interval),
        }
    }

    pub fn tick(&mut self, now: Instant, limits: &SessionLimits) -> Result<(), ()> {
        if self.closing || self.deadline(limits).is_none_or(|deadline| now < deadline) {
            return Ok(());
        }
        match self.ping {
            // Whatever else came since the ping shows that the peer lives.
            Some((_, sent)) if self.last_heard < sent => Err(()),
            Some(_) => {
                self.ping = None;
                Ok(())
            }
            None => {
                self.next_ping_tag = (self.next_ping_tag + 1) & 0x3fff_ffff;
                self.queue(Outgoing::Ping { target_transfer_tag: self.next_ping_tag });
                self.ping = Some((self.next_ping_tag, now));
                Ok(())
            }
        }
    }

    /// Queues something with bytes of its own, which count against the backlog.
    pub fn queue(&mut self, outgoing: Outgoing) {
        self.backlog_bytes += backlog(&outgoing);
        self.outgoing.push_back(outgoing);
    }

    pub fn queue_async(&mut self, event: AsyncEvent, parameter_1: u16, parameter_2: u16, parameter_3: u16) {
        self.queue(Outgoing::Async { event, parameters: [parameter_1, parameter_2, parameter_3] });
    }

    pub fn next(&mut self) -> Option<Outgoing> {
        let next = self.outgoing.pop_front()?;
        self.backlog_bytes = self.backlog_bytes.saturating_sub(backlog(&next));
        Some(next)
    }

    pub fn take_stat_sn(&mut self) -> u32 {
        let stat_sn = self.stat_sn;
        self.stat_sn = stat_sn.wrapping_add(1);
        stat_sn
    }
}

fn backlog(outgoing: &Outgoing) -> usize {
    const EACH: usize = 128;
    match outgoing {
        // Bounded by the window already.
        Outgoing::Answer(_) | Outgoing::ReadyToTransfer(_) => 0,
        Outgoing::PingAnswer { data, .. } | Outgoing::Text { data, .. } => EACH + data.len(),
        Outgoing::Reject { header, .. } => EACH + header.len(),
        _ => EACH,
    }
}
