//! One connection of a session: the status numbers that came, what waits to be sent, its pings.

use super::Limits;
use super::receive::Pending;
use crate::key::ConnectionParameters;
use crate::serial::{at_most, precedes};
use crate::session::{ConnectionError, Opening, TaskId};
use crate::wire::{LogoutRequest, NopOut, TaskManagementRequest, TextRequest};
use std::collections::VecDeque;
use std::time::Instant;

/// A connection within its session. Not its CID.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnectionId(pub(super) usize);

/// How far ahead of a hole a StatSN may be before the stream is not believed any more (SSN-03).
const STATUS_AHEAD: u32 = 4096;

/// Something to be sent, in order.
#[derive(Debug)]
pub(super) enum Outgoing {
    /// A command with its immediate data; its unsolicited data follows at once.
    Command(TaskId),
    /// Unsolicited data of a task, as far as it has not been sent.
    Unsolicited(TaskId),
    /// The data that a task's oldest R2T asks for.
    Solicited(TaskId),
    /// A SNACK for missing Data-In of a task, if it is still missing.
    MissingData { task: TaskId, first: u32, count: u32 },
    /// A SNACK for R2Ts of a task.
    MissingR2t { task: TaskId, first: u32 },
    /// A SNACK for missing status, if it is still missing.
    MissingStatus { first: u32, count: u32 },
    /// A DataACK, as long as the task goes on: its status acknowledges more.
    DataAck { task: TaskId, next: u32, target_transfer_tag: u32, lun: [u8; 8] },
    /// A ping or the answer to one.
    NopOut(Box<NopOut>, Vec<u8>),
    /// A task management function.
    TaskManagement(Box<TaskManagementRequest>),
    /// Text.
    Text(Box<TextRequest>, Vec<u8>),
    /// A logout; nothing follows it.
    Logout(Box<LogoutRequest>),
}

/// What a StatSN says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Status {
    /// It is the next one, or new and behind a hole.
    New,
    /// It has been here before.
    Duplicate,
}

pub(super) struct Connection {
    pub cid: u16,
    pub parameters: ConnectionParameters,
    pub pending: Option<Pending>,
    pub collected: Vec<u8>,
    pub outgoing: VecDeque<Outgoing>,
    /// StatSN of the next status in order.
    next_stat_sn: u32,
    /// Behind the last status that is known to have been sent; numbers below it are missing unless they
    /// are in `early`.
    stat_end: u32,
    early: Vec<u32>,
    /// Status of tasks whose data is not whole: not acknowledged until it is (§7.9).
    pub withheld: Vec<u32>,
    pub missing_since: Option<Instant>,
    pub asked: u32,
    pub closing: bool,
    /// A logout was sent.
    pub logging_out: bool,
    /// And answered: its end is no loss.
    pub logged_out: bool,
    /// Time2Wait and Time2Retain that the target has named for it, in seconds.
    pub times: Option<(u32, u32)>,
    /// The target has asked for a logout: until when, at the latest.
    pub leave_by: Option<Instant>,
    pub last_heard: Instant,
    /// The ping of ours that is out, and since when; its tag.
    pub ping: Option<(u32, Instant)>,
    /// What it stood for when it was sent: the commands that had left by then are acknowledged by its
    /// answer, or were not received.
    pub probes: bool,
    pub wants_ping: bool,
}

impl Connection {
    pub fn new(opening: Opening, now: Instant) -> Connection {
        Connection {
            cid: opening.cid,
            parameters: opening.parameters,
            pending: None,
            collected: Vec::new(),
            outgoing: VecDeque::new(),
            next_stat_sn: opening.next_stat_sn,
            stat_end: opening.next_stat_sn,
            early: Vec::new(),
            withheld: Vec::new(),
            missing_since: None,
            asked: 0,
            closing: false,
            logging_out: false,
            logged_out: false,
            times: None,
            leave_by: None,
            last_heard: now,
            ping: None,
            probes: false,
            wants_ping: false,
        }
    }

    /// Whether requests may be queued behind what is there (OUT-04, ASY-01).
    pub fn takes_requests(&self) -> bool {
        !self.closing && !self.logging_out && self.leave_by.is_none()
    }

    /// What is acknowledged: everything below has come, with the data that belongs to it.
    pub fn exp_stat_sn(&self) -> u32 {
        let next = self.next_stat_sn;
        self.withheld.iter().fold(next, |least, withheld| if precedes(*withheld, least) { *withheld } else { least })
    }

    /// A PDU with a status number came, and can be read.
    pub fn status(&mut self, stat_sn: u32, recovers: bool) -> Result<Status, ConnectionError> {
        if precedes(stat_sn, self.next_stat_sn) || self.early.contains(&stat_sn) {
            // Without recovery nothing is sent again: what is numbered so would be passed over for ever.
            return if recovers { Ok(Status::Duplicate) } else { Err(ConnectionError::Format("a StatSN came twice")) };
        }
        if stat_sn != self.next_stat_sn {
            if !recovers {
                return Err(ConnectionError::Format("a StatSN was left out"));
            }
            self.known_to_exist(stat_sn.wrapping_add(1))?;
            self.early.push(stat_sn);
            return Ok(Status::New);
        }
        self.next_stat_sn = stat_sn.wrapping_add(1);
        while let Some(at) = self.early.iter().position(|early| *early == self.next_stat_sn) {
            self.early.swap_remove(at);
            self.next_stat_sn = self.next_stat_sn.wrapping_add(1);
        }
        if precedes(self.stat_end, self.next_stat_sn) {
            self.stat_end = self.next_stat_sn;
        }
        if !self.has_hole() {
            (self.missing_since, self.asked) = (None, 0);
        }
        Ok(Status::New)
    }

    /// All numbers below `end` have been sent. What of them has not come is missing.
    pub fn known_to_exist(&mut self, end: u32) -> Result<(), ConnectionError> {
        if at_most(end, self.stat_end) {
            return Ok(());
        }
        if end.wrapping_sub(self.next_stat_sn) > STATUS_AHEAD {
            return Err(ConnectionError::Format("a StatSN far from the one that was due"));
        }
        let first = self.stat_end;
        self.stat_end = end;
        // The last of them is the one that came, or is known to be broken; what lies before it is asked for.
        self.outgoing.push_back(Outgoing::MissingStatus { first, count: end.wrapping_sub(first) });
        self.missing_since.get_or_insert(self.last_heard);
        Ok(())
    }

    pub fn has_hole(&self) -> bool {
        self.next_stat_sn != self.stat_end
    }

    /// The status numbers of this range that have not come.
    pub fn missing_of(&self, first: u32, count: u32) -> Vec<u32> {
        (0..count)
            .map(|step| first.wrapping_add(step))
            .filter(|stat_sn| at_most(self.next_stat_sn, *stat_sn) && !self.early.contains(stat_sn))
            .collect()
    }

    /// Asks for all status that is missing.
    pub fn ask_for_status(&mut self) {
        let (first, count) = (self.next_stat_sn, self.stat_end.wrapping_sub(self.next_stat_sn));
        if count > 0 {
            self.outgoing.push_back(Outgoing::MissingStatus { first, count });
        }
    }

    /// Whether this number and all before it have come.
    pub fn is_in_order(&self, stat_sn: u32) -> bool {
        precedes(stat_sn, self.next_stat_sn)
    }

    pub fn deadline(&self, limits: &Limits) -> Option<Instant> {
        let leave = self.leave_by.filter(|_| !self.logging_out && !self.closing);
        let ping = match self.ping {
            _ if self.closing => None,
            Some((_, sent)) => Some(sent + limits.nop_timeout),
            // Behind a logout nothing is asked any more; that it is answered has a time of its own.
            None if limits.nop_interval.is_zero() || self.logging_out => None,
            None => Some(self.last_heard + limits.nop_interval),
        };
        leave.into_iter().chain(ping).min()
    }

    /// Wants to be pinged where it was silent; `Err` where a ping was not answered.
    pub fn tick(&mut self, now: Instant, limits: &Limits) -> Result<(), ()> {
        if self.closing {
            return Ok(());
        }
        match self.ping {
            Some((_, sent)) if now >= sent + limits.nop_timeout => {
                // Whatever else came since shows that the peer lives.
                if self.last_heard < sent {
                    return Err(());
                }
                self.ping = None;
                Ok(())
            }
            Some(_) => Ok(()),
            None => {
                let idle =
                    !limits.nop_interval.is_zero() && !self.logging_out && now >= self.last_heard + limits.nop_interval;
                self.wants_ping |= idle;
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::ConnectionError;

    fn connection() -> Connection {
        let opening = Opening { cid: 0, parameters: ConnectionParameters::default(), next_stat_sn: u32::MAX };
        Connection::new(opening, Instant::now())
    }

    #[test]
    fn ssn_03_a_gap_in_stat_sn_is_a_broken_stream_or_is_asked_for() {
        let mut connection = connection();
        assert_eq!(connection.status(u32::MAX, false), Ok(Status::New));
        assert_eq!(connection.status(u32::MAX, true), Ok(Status::Duplicate));
        assert!(matches!(connection.status(u32::MAX, false), Err(ConnectionError::Format(_))));
        assert!(matches!(connection.status(1, false), Err(ConnectionError::Format(_))));
        assert_eq!(connection.status(2, true), Ok(Status::New));
        assert_eq!(connection.status(2, true), Ok(Status::Duplicate));
        assert_eq!((connection.exp_stat_sn(), connection.missing_of(0, 3)), (0, vec![0, 1]));
        assert_eq!(connection.status(1, true), Ok(Status::New));
        assert_eq!(connection.status(0, true), Ok(Status::New));
        assert_eq!((connection.exp_stat_sn(), connection.has_hole()), (3, false));
        assert!(connection.status(100_000, true).is_err());
    }

    #[test]
    fn ssn_02_status_is_not_acknowledged_before_the_data_that_belongs_to_it() {
        let mut connection = connection();
        for stat_sn in [u32::MAX, 0, 1] {
            connection.status(stat_sn, true).unwrap();
        }
        connection.withheld.push(0);
        assert_eq!(connection.exp_stat_sn(), 0);
        connection.withheld.clear();
        assert_eq!(connection.exp_stat_sn(), 2);
    }
}
