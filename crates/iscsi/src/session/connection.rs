//! One connection of a session: its status numbers, its digests, what waits to be sent on it.

use super::receive::{Incoming, Pending, Place};
use super::retention::Sent;
use super::task::TaskId;
use super::{ConnectionAtRest, ConnectionError, Opening, SessionLimits};
use crate::key::ConnectionParameters;
use crate::serial::at_most;
use crate::wire::{AsyncEvent, LogoutRequest, RejectReason, padding};
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// A status that is not acknowledged for so long is asked after, where it is kept for being sent again: other
/// commands of the session may wait for the memory of its task.
const ACKNOWLEDGMENT: Duration = Duration::from_millis(200);
/// The same where the session is to come to rest.
const HURRIED: Duration = Duration::from_millis(5);
/// How long a gap may stay that nobody has to fill.
const GAP_PATIENCE: Duration = Duration::from_secs(2);

/// A connection within its session. Not its CID: a connection that takes the place of another has another
/// name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnectionId {
    pub(crate) slot: u32,
    pub(crate) generation: u32,
}

/// The connections of a session that are open.
#[derive(Default)]
pub(super) struct Connections {
    slots: Vec<(u32, Option<Connection>)>,
}

impl Connections {
    pub fn get(&self, c: ConnectionId) -> Option<&Connection> {
        let (generation, connection) = self.slots.get(c.slot as usize)?;
        if *generation == c.generation { connection.as_ref() } else { None }
    }

    pub fn get_mut(&mut self, c: ConnectionId) -> Option<&mut Connection> {
        let (generation, connection) = self.slots.get_mut(c.slot as usize)?;
        if *generation == c.generation { connection.as_mut() } else { None }
    }

    pub fn insert(&mut self, connection: Connection) -> ConnectionId {
        let at = self.slots.iter().position(|(_, slot)| slot.is_none()).unwrap_or_else(|| {
            self.slots.push((0, None));
            self.slots.len() - 1
        });
        let (generation, slot) = &mut self.slots[at];
        *generation = generation.wrapping_add(1);
        *slot = Some(connection);
        ConnectionId { slot: at as u32, generation: *generation }
    }

    pub fn remove(&mut self, c: ConnectionId) -> Option<Connection> {
        self.get(c)?;
        self.slots.get_mut(c.slot as usize)?.1.take()
    }

    pub fn len(&self) -> usize {
        self.slots.iter().filter(|(_, slot)| slot.is_some()).count()
    }

    pub fn iter(&self) -> impl Iterator<Item = (ConnectionId, &Connection)> {
        self.slots.iter().enumerate().filter_map(|(slot, (generation, connection))| {
            Some((ConnectionId { slot: slot as u32, generation: *generation }, connection.as_ref()?))
        })
    }

    pub fn iter_mut(&mut self) -> impl Iterator<Item = (ConnectionId, &mut Connection)> {
        self.slots.iter_mut().enumerate().filter_map(|(slot, (generation, connection))| {
            Some((ConnectionId { slot: slot as u32, generation: *generation }, connection.as_mut()?))
        })
    }

    /// The open connection with this CID.
    pub fn by_cid(&self, cid: u16) -> Option<ConnectionId> {
        self.iter().find(|(_, connection)| connection.cid == cid).map(|(c, _)| c)
    }
}

/// Something to be sent, in order.
#[derive(Debug)]
pub(super) enum Outgoing {
    /// A task's data and status.
    Answer(TaskId),
    /// As many R2Ts of a task as are allowed.
    ReadyToTransfer(TaskId),
    /// Data-In PDUs of a task once more: these DataSNs (§11.16).
    DataAgain { task: TaskId, from: u32, to: u32 },
    /// R2Ts of a task once more: those of these R2TSNs that are outstanding.
    ReadyToTransferAgain { task: TaskId, from: u32, to: u32 },
    /// Numbered PDUs once more: these StatSNs, those that are not acknowledged.
    StatusAgain { from: u32, to: u32 },
    /// Where the fence of this number was raised: what was queued before it has its StatSN now.
    FenceMark { number: u32 },
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
    Reject { reason: RejectReason, header: Box<[u8]>, data_sn: u32 },
    /// An asynchronous message.
    Async { event: AsyncEvent, lun: [u8; 8], parameters: [u16; 3], vendor_code: u8, data: Vec<u8> },
}

/// A logout that waits for tasks to end.
#[derive(Debug, Clone, Copy)]
pub(super) struct LoggingOut {
    pub initiator_task_tag: u32,
    pub session: bool,
    /// The connection whose tasks are awaited, where it is not the session.
    pub connection: ConnectionId,
    /// The connection on which the request came closes behind the answer.
    pub close: bool,
}

pub(super) struct Connection {
    pub cid: u16,
    pub parameters: ConnectionParameters,
    pub stat_sn: u32,
    /// ExpStatSN as the initiator last said it.
    pub acknowledged: u32,
    /// What was sent with a StatSN and may be asked for again, at recovery level 1 and above.
    pub sent: VecDeque<Sent>,
    /// Statuses are asked after: the first of them, and since when.
    asked_after: Option<(u32, Instant)>,
    /// The last header was not to be trusted, and so its length is not (§7.8).
    pub probation: bool,
    /// The number of a request that was discarded for its data digest at recovery level 0, and since when.
    gap: Option<(u32, Instant)>,
    pub pending: Option<Pending>,
    pub collected: Vec<u8>,
    pub outgoing: VecDeque<Outgoing>,
    pub backlog_bytes: usize,
    /// Whether reading waited when it was last asked.
    pub congested: bool,
    pub text: super::text::Texts,
    pub rejects: u32,
    /// Since when `rejects` counts.
    pub rejects_since: Instant,
    /// All rejects, to tell whether there was another.
    pub refused: u64,
    pub closing: bool,
    /// A logout on it was answered: its end is no failure.
    pub logged_out: bool,
    /// That logout was for recovery: its tasks wait for another connection.
    pub for_recovery: bool,
    pub logging_out: Vec<LoggingOut>,
    pub last_heard: Instant,
    ping: Option<(u32, Instant)>,
    next_ping_tag: u32,
    /// What is kept is asked after sooner.
    pub hurried: bool,
}

impl LoggingOut {
    /// The end of this connection, asked for on another.
    pub fn of(header: &LogoutRequest, connection: ConnectionId) -> LoggingOut {
        let initiator_task_tag = header.initiator_task_tag.get();
        LoggingOut { initiator_task_tag, session: false, connection, close: false }
    }
}

impl Connection {
    pub fn new(opening: Opening, now: Instant) -> Connection {
        Connection {
            cid: opening.cid,
            parameters: opening.parameters,
            stat_sn: opening.next_stat_sn,
            acknowledged: opening.next_stat_sn,
            sent: VecDeque::new(),
            asked_after: None,
            probation: false,
            gap: None,
            pending: None,
            collected: Vec::new(),
            outgoing: VecDeque::new(),
            backlog_bytes: 0,
            congested: false,
            text: super::text::Texts::default(),
            rejects: 0,
            rejects_since: now,
            refused: 0,
            closing: false,
            logged_out: false,
            for_recovery: false,
            logging_out: Vec::new(),
            last_heard: now,
            ping: None,
            next_ping_tag: 0,
            hurried: false,
        }
    }

    /// One that goes on in another process.
    pub fn revive(rest: ConnectionAtRest, now: Instant) -> Connection {
        let ConnectionAtRest { cid, parameters, stat_sn, acknowledged, ping_tag, text_tag } = rest;
        Connection {
            acknowledged,
            next_ping_tag: ping_tag,
            text: super::text::Texts::behind(text_tag),
            ..Connection::new(Opening { cid, parameters, next_stat_sn: stat_sn }, now)
        }
    }

    /// Whether nothing is under way on it, or what is.
    pub fn rests(&self) -> Result<(), &'static str> {
        let busy = [
            (self.closing || self.logged_out || !self.logging_out.is_empty(), "a connection is closing"),
            (self.pending.is_some(), "a request has come in part"),
            (self.probation, "a header came spoiled"),
            (self.gap.is_some(), "a command was lost to a digest error"),
            (!self.outgoing.is_empty(), "answers have not left"),
            (!self.sent.is_empty(), "answers were not acknowledged"),
            (self.text.at_rest().is_none(), "a negotiation is under way"),
        ];
        busy.iter().find(|(busy, _)| *busy).map_or(Ok(()), |(_, what)| Err(what))
    }

    /// What is left of it when nothing is under way.
    pub fn at_rest(&self) -> ConnectionAtRest {
        ConnectionAtRest {
            cid: self.cid,
            parameters: self.parameters.clone(),
            stat_sn: self.stat_sn,
            acknowledged: self.acknowledged,
            ping_tag: self.next_ping_tag,
            text_tag: self.text.at_rest().unwrap_or_default(),
        }
    }

    /// Something came from the initiator.
    pub fn heard(&mut self, now: Instant) {
        self.last_heard = now;
    }

    /// A header whose digest does not match (§7.8). Where lost PDUs can be recovered, the PDU is passed over by
    /// the length that it claims, which the digest of the next header then proves: had the length been wrong,
    /// what stands there would not have a matching digest, and the connection ends.
    pub fn skip(&mut self, length: u32, recovers: bool) -> Result<Incoming, ConnectionError> {
        if !recovers || self.probation || length > self.parameters.max_recv_data_segment_length {
            return Err(ConnectionError::HeaderDigest);
        }
        self.probation = true;
        self.pending = Some(Pending::Ignore);
        self.collected.clear();
        let digest = self.parameters.data_digest && length > 0;
        Ok(Incoming { place: Place::Discard, length, padding: padding(length), digest })
    }

    /// A NOP-Out with this target transfer tag came.
    pub fn pong(&mut self, target_transfer_tag: u32) {
        if self.ping.is_some_and(|(tag, _)| tag == target_transfer_tag) {
            self.ping = None;
        }
    }

    pub fn deadline(&self, limits: &SessionLimits) -> Option<Instant> {
        if self.closing {
            return None;
        }
        let ping = match self.ping {
            Some((_, sent)) => Some(sent + limits.nop_timeout),
            None if limits.nop_interval.is_zero() => None,
            None => Some(self.last_heard + limits.nop_interval),
        };
        let gap = self.gap.map(|(_, since)| since + GAP_PATIENCE);
        ping.into_iter().chain(self.acknowledgment_deadline()).chain(gap).min()
    }

    /// A request was discarded for its data digest (§7.8) at recovery level 0: its number is a gap behind which
    /// all others wait. Linux does not send such a command again and would wait for half a minute.
    pub fn gap(&mut self, cmd_sn: u32) {
        self.gap.get_or_insert((cmd_sn, self.last_heard));
    }

    /// Whether such a gap has been there for too long.
    pub fn gap_stays(&mut self, now: Instant, expected: u32) -> bool {
        self.gap = self.gap.filter(|(cmd_sn, _)| at_most(expected, *cmd_sn));
        !self.closing && self.gap.is_some_and(|(_, since)| since + GAP_PATIENCE <= now)
    }

    /// When a status that is kept is asked after.
    fn acknowledgment_deadline(&self) -> Option<Instant> {
        let first = self.sent.front()?.stat_sn;
        let since = match self.asked_after {
            Some((stat_sn, since)) if stat_sn == first => since.max(self.last_heard),
            _ => self.last_heard,
        };
        Some(since + if self.hurried { HURRIED } else { ACKNOWLEDGMENT })
    }

    pub fn tick(&mut self, now: Instant, limits: &SessionLimits) -> Result<(), ()> {
        if self.closing || self.deadline(limits).is_none_or(|deadline| now < deadline) {
            return Ok(());
        }
        if self.acknowledgment_deadline().is_some_and(|deadline| now >= deadline) {
            self.asked_after = self.sent.front().map(|sent| (sent.stat_sn, now));
            if self.ping.is_none() {
                self.queue_ping(now);
                return Ok(());
            }
        }
        let Some((_, sent)) = self.ping else {
            if self.last_heard + limits.nop_interval <= now && !limits.nop_interval.is_zero() {
                self.queue_ping(now);
            }
            return Ok(());
        };
        if now < sent + limits.nop_timeout {
            return Ok(());
        }
        // Whatever else came since the ping shows that the peer lives.
        let lives = self.last_heard >= sent;
        self.ping = None;
        if lives { Ok(()) } else { Err(()) }
    }

    /// Asks the peer what it has received. Where no time is told, that of what it last sent has to do.
    pub fn queue_probe(&mut self) {
        self.queue_ping(self.last_heard);
    }

    /// Asks whether the peer is there, and what it has received.
    pub fn queue_ping(&mut self, now: Instant) {
        self.next_ping_tag = (self.next_ping_tag + 1) & 0x3fff_ffff;
        self.queue(Outgoing::Ping { target_transfer_tag: self.next_ping_tag });
        self.ping = Some((self.next_ping_tag, now));
    }

    /// Queues something with bytes of its own, which count against the backlog.
    pub fn queue(&mut self, outgoing: Outgoing) {
        self.backlog_bytes += backlog(&outgoing);
        self.outgoing.push_back(outgoing);
    }

    /// What could not be sent wholly goes on at once.
    pub fn requeue(&mut self, rest: Outgoing) {
        self.backlog_bytes += backlog(&rest);
        self.outgoing.push_front(rest);
    }

    pub fn queue_async(&mut self, event: AsyncEvent, parameter_1: u16, parameter_2: u16, parameter_3: u16) {
        let parameters = [parameter_1, parameter_2, parameter_3];
        self.queue(Outgoing::Async { event, lun: [0; 8], parameters, vendor_code: 0, data: Vec::new() });
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
        Outgoing::Answer(_) | Outgoing::ReadyToTransfer(_) | Outgoing::FenceMark { .. } => 0,
        Outgoing::PingAnswer { data, .. } | Outgoing::Text { data, .. } | Outgoing::Async { data, .. } => {
            EACH + data.len()
        }
        Outgoing::Reject { header, .. } => EACH + header.len(),
        _ => EACH,
    }
}
