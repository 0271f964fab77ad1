//! Recovery (RFC 7143 §7): what was damaged is asked for again, commands that left a gap are sent again,
//! and the tasks of a lost connection go on with another.

use super::connection::ConnectionId;
use super::connection::Outgoing;
use super::management::{Asked, LogoutReason, Request};
use super::receive::Pending;
use super::task::{Allegiance, Outcome};
use super::{Event, Session};
use crate::serial::precedes;
use crate::session::{ConnectionError, TaskId};
use crate::wire::{
    DataIn, FINAL, NopIn, Opcode, Pdu, RESERVED_TAG, RejectReason, ScsiCommand, ScsiResponse, SnackRequest,
    TaskManagementRequest,
};
use std::time::{Duration, Instant};

/// SNACK types (RFC 7143 §11.16.1).
mod snack {
    pub const DATA_OR_R2T: u8 = 0;
    pub const STATUS: u8 = 1;
    pub const DATA_ACK: u8 = 2;
}

/// A connection that is lost at recovery level 2.
#[derive(Debug, Clone, Copy)]
pub(super) struct Lost {
    pub cid: u16,
    pub exp_stat_sn: u32,
    pub until: Instant,
}

impl Session {
    /// A PDU whose data did not match its digest: it is lost, and asked for where that can be (§7.8).
    pub(super) fn damaged(&mut self, c: ConnectionId, pending: &Pending) -> Result<(), ConnectionError> {
        if !self.recovers() {
            return Err(ConnectionError::Format("a data digest error at recovery level 0"));
        }
        match pending {
            Pending::DataIn(id, header) => {
                // It exists, and so does all before it. Its status, where it has one, comes with it.
                self.expect_data_until(c, *id, header.data_sn.get().wrapping_add(1));
                self.status_damaged(c, header)
            }
            Pending::Ignored => Ok(()),
            Pending::OldData(header) => self.status_damaged(c, header),
            Pending::Other(header) => {
                let unnumbered = header.opcode() == Opcode::NopIn as u8
                    && NopIn::view(header).initiator_task_tag.get() == RESERVED_TAG;
                let stat_sn = ScsiResponse::view(header).stat_sn.get();
                match self.connection_mut(c) {
                    Some(connection) if !unnumbered => connection.known_to_exist(stat_sn.wrapping_add(1)),
                    _ => Ok(()),
                }
            }
        }
    }

    fn status_damaged(&mut self, c: ConnectionId, header: &DataIn) -> Result<(), ConnectionError> {
        match self.connection_mut(c) {
            Some(connection) if header.flags & 0x01 != 0 => {
                connection.known_to_exist(header.stat_sn.get().wrapping_add(1))
            }
            _ => Ok(()),
        }
    }

    /// SNACKs for those of these Data-In PDUs that are still missing.
    pub(super) fn missing_data(&self, c: ConnectionId, id: TaskId, first: u32, count: u32) -> Vec<SnackRequest> {
        let Some(task) = self.tasks.get(id).filter(|task| task.is_with(c)) else { return Vec::new() };
        let missing: Vec<u32> = (0..count)
            .map(|step| first.wrapping_add(step))
            .filter(|data_sn| !task.has_data(*data_sn) && !precedes(*data_sn, task.data_acknowledged))
            .collect();
        runs(&missing)
            .map(|(first, count)| {
                let mut snack = request(snack::DATA_OR_R2T, first, count);
                snack.initiator_task_tag = task.tag.into();
                snack
            })
            .collect()
    }

    /// A SNACK for all R2Ts of a task from this one on.
    pub(super) fn missing_r2t(&self, c: ConnectionId, id: TaskId, first: u32) -> Option<SnackRequest> {
        let task = self.tasks.get(id).filter(|task| task.is_with(c) && task.r2t_sn == first)?;
        let mut snack = request(snack::DATA_OR_R2T, first, 0);
        snack.initiator_task_tag = task.tag.into();
        Some(snack)
    }

    /// When [`Session::ask_again`] has something to do.
    pub(super) fn missing_deadline(&self) -> Option<Instant> {
        // Without a connection to say it on nothing is due: that comes back with one.
        let speaks = self.connections.iter().flatten().any(super::connection::Connection::takes_requests);
        let awaited = |(cmd_sn, _): &&(u32, Instant)| speaks && *cmd_sn == self.window.exp_cmd_sn();
        let unowned = self.unowned.iter().filter(awaited).map(|(_, since)| *since);
        if !self.recovers() {
            // A connection that is logged out leaves such numbers at any level.
            return unowned.min().map(|since| since + self.limits.patience);
        }
        // Behind a logout nothing is asked for any more.
        let speaks = |connection: &&super::connection::Connection| !connection.closing && !connection.logging_out;
        let open = self.connections.iter().flatten().filter(speaks);
        let status = open.filter_map(|connection| connection.missing_since);
        let data = self.tasks.iter().filter(|task| self.is_open(task)).filter_map(|task| task.missing_since);
        let unknown = self.tasks.iter().filter(|task| self.is_gap(task)).map(|task| task.since);
        status.chain(data).chain(unknown).chain(unowned).min().map(|since| since + self.limits.patience)
    }

    /// Whether something can come for the task.
    fn is_open(&self, task: &super::task::Task) -> bool {
        matches!(task.allegiance, Allegiance::With(c)
            if self.connection(c).is_some_and(|connection| !connection.closing && !connection.logging_out))
    }

    /// The command that the target waits for although it has been sent.
    fn is_gap(&self, task: &super::task::Task) -> bool {
        let with = matches!(task.allegiance, Allegiance::With(c)
            if self.connection(c).is_some_and(|connection| connection.ping.is_none()));
        with && self.is_open(task)
            && task.sent
            && !task.known
            && !task.command.immediate
            && task.cmd_sn == self.window.exp_cmd_sn()
    }

    /// Asks once more for what was asked for and has not come; names a connection where that has been
    /// tried often enough.
    pub(super) fn ask_again(&mut self, now: Instant) -> Option<(ConnectionId, ConnectionError)> {
        if self.missing_deadline().is_none_or(|deadline| now < deadline) {
            return None;
        }
        if !self.recovers() {
            self.use_up(now);
            return None;
        }
        let (patience, attempts) = (self.limits.patience, self.limits.attempts);
        let is_due = |since: Option<Instant>| since.is_some_and(|since| now >= since + patience);
        let given_up = |c| Some((c, ConnectionError::Limit("requests for what is missing")));
        for (index, connection) in self.connections.iter_mut().enumerate() {
            let due = |connection: &&mut super::connection::Connection| {
                !connection.closing && !connection.logging_out && is_due(connection.missing_since)
            };
            let Some(connection) = connection.as_mut().filter(due) else { continue };
            connection.asked += 1;
            if connection.asked > attempts {
                connection.missing_since = None;
                return given_up(ConnectionId(index));
            }
            connection.missing_since = Some(now);
            connection.ask_for_status();
        }
        self.use_up(now);
        for id in self.tasks.ids() {
            if !self.tasks.get(id).is_some_and(|task| self.is_open(task)) {
                continue;
            }
            let Some(task) = self.tasks.get_mut(id) else { continue };
            let Allegiance::With(c) = task.allegiance else { continue };
            if is_due(task.missing_since) {
                task.asked += 1;
                if task.asked > attempts {
                    task.missing_since = None;
                    return given_up(c);
                }
                task.missing_since = Some(now);
                let (first, count) = (task.data_sn, task.data_end.wrapping_sub(task.data_sn));
                self.queue(c, Outgoing::MissingData { task: id, first, count });
            } else if now >= task.since + patience
                && let Some(task) = self.tasks.get(id)
                && self.is_gap(task)
                && let Some(connection) = self.connection_mut(c)
            {
                // What the target has received by then, the answer to a ping tells (§7.2.1).
                connection.wants_ping = true;
                connection.probes = true;
                if let Some(task) = self.tasks.get_mut(id) {
                    task.since = now;
                }
            }
        }
        None
    }

    /// The target waits for a command that is over: a ping takes its number. Where it has the number, it
    /// ignores the ping.
    fn use_up(&mut self, now: Instant) {
        let window = &self.window;
        self.unowned.retain(|(cmd_sn, _)| !window.is_acknowledged(*cmd_sn));
        let (expected, patience) = (window.exp_cmd_sn(), self.limits.patience);
        let open = self.connections.iter().position(|slot| slot.as_ref().is_some_and(|one| one.takes_requests()));
        let due = self.unowned.iter_mut().find(|(cmd_sn, since)| *cmd_sn == expected && now >= *since + patience);
        if let (Some((cmd_sn, since)), Some(index)) = (due, open) {
            *since = now;
            let cmd_sn = *cmd_sn;
            self.plug(ConnectionId(index), cmd_sn);
        }
    }

    /// The answer to a ping came. A command that had left before it and that the target still waits for is
    /// lost: it is sent again as it was (CSN-10).
    pub(super) fn probed(&mut self, c: ConnectionId, sent: Instant) {
        let gap = self.tasks.iter().find(|task| {
            task.is_with(c)
                && task.sent
                && !task.known
                && !task.command.immediate
                && task.since <= sent
                && task.cmd_sn == self.window.exp_cmd_sn()
        });
        if let Some(tag) = gap.map(|task| task.tag) {
            let _ = self.retry(c, super::task::name(tag));
        }
    }

    /// Sends a command again as it was: number, tag and all.
    fn retry(&mut self, c: ConnectionId, id: TaskId) -> Result<(), ConnectionError> {
        let attempts = self.limits.attempts;
        let Some(task) = self.tasks.get_mut(id) else { return Ok(()) };
        task.retries += 1;
        if task.retries > attempts {
            return Err(ConnectionError::Limit("retries of a command"));
        }
        task.sent = false;
        task.unsolicited = (0, 0);
        let waits = |outgoing: &Outgoing| matches!(outgoing, Outgoing::Command(of) if *of == id);
        if let Some(connection) = self.connection_mut(c)
            && !connection.outgoing.iter().any(waits)
        {
            connection.outgoing.retain(|outgoing| !matches!(outgoing, Outgoing::Unsolicited(of) if *of == id));
            connection.outgoing.push_back(Outgoing::Command(id));
        }
        Ok(())
    }

    /// The target has not taken a command: it is sent again where that helps, and else its number is used
    /// up by a ping, so that the target does not wait for it (REJ-04).
    pub(super) fn command_rejected(
        &mut self,
        c: ConnectionId,
        refused: &ScsiCommand,
        reason: RejectReason,
    ) -> Result<(), ConnectionError> {
        let found = self.tasks.by_tag(refused.initiator_task_tag.get());
        let task = found.and_then(|id| self.tasks.get(id)).filter(|task| task.is_with(c));
        let (Some(id), Some(task)) = (found, task) else {
            // It is over, and was never there.
            let cmd_sn = refused.cmd_sn.get();
            if !refused.header().immediate() && self.unowned.iter().any(|(unowned, _)| *unowned == cmd_sn) {
                self.plug(c, cmd_sn);
            }
            return Ok(());
        };
        match reason {
            // It has it already.
            RejectReason::TaskInProgress => Ok(()),
            RejectReason::DataDigestError => self.retry(c, id),
            _ => {
                if !task.command.immediate && !self.window.is_acknowledged(task.cmd_sn) {
                    let cmd_sn = task.cmd_sn;
                    self.plug(c, cmd_sn);
                }
                self.finish(id, Outcome::Rejected(reason));
                Ok(())
            }
        }
    }

    /// The target cannot send again what is missing (§7.8).
    pub(super) fn snack_rejected(&mut self, c: ConnectionId, refused: &SnackRequest) -> Result<(), ConnectionError> {
        match refused.kind & 0x0f {
            snack::DATA_OR_R2T => {
                let Some(id) = self.tasks.by_tag(refused.initiator_task_tag.get()) else { return Ok(()) };
                if let Some(task) = self.tasks.get_mut(id).filter(|task| task.is_with(c)) {
                    task.unrecoverable = true;
                    task.missing_since = None;
                    self.conclude(id);
                }
                Ok(())
            }
            // A connection that logs out takes what is missing with it.
            snack::STATUS if self.connection(c).is_some_and(|one| one.has_hole() && !one.logging_out) => {
                Err(ConnectionError::Format("status that is missing cannot be sent again"))
            }
            _ => Ok(()),
        }
    }

    /// The connection is gone; its batches are, too. Below recovery level 2 the session is over with it,
    /// and all tasks are reported. At level 2 its tasks wait for another connection.
    pub fn handle_closed(&mut self, now: Instant, c: ConnectionId) {
        let Some(connection) = self.connections.get_mut(c.0).and_then(Option::take) else { return };
        self.held.retain(|(of, ..)| *of != c);
        self.moving.retain(|(to, _)| *to != c);
        for id in self.tasks.ids() {
            let Some(task) = self.tasks.get_mut(id).filter(|task| task.is_with(c)) else { continue };
            task.in_batch = 0;
            self.release(id);
        }
        let done = connection.logged_out || self.over;
        let (gone, kept): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.requests).into_iter().partition(|request| request.connection == c);
        self.requests = kept;
        for request in gone {
            self.request_lost(&request);
        }
        if done {
            for id in self.tasks.ids() {
                if self.tasks.get(id).is_some_and(|task| task.is_with(c) || task.allegiance == Allegiance::Moving(c)) {
                    self.finish(id, Outcome::Lost);
                }
            }
        }
        if done || self.parameters.error_recovery_level < 2 || self.logging_out {
            if !done || self.connections() == 0 {
                self.end();
            }
            return;
        }
        self.orphan(c, connection.cid);
        let seconds = |key: u32| Duration::from_secs(u64::from(key));
        let (wait, retain) =
            connection.times.unwrap_or((self.parameters.default_time_2_wait, self.parameters.default_time_2_retain));
        let from = now + seconds(wait);
        let until = from + seconds(retain);
        self.lost.push(Lost { cid: connection.cid, exp_stat_sn: connection.exp_stat_sn(), until });
        self.tell(Event::ConnectionLost { cid: connection.cid, from, until });
    }

    /// Tasks of a lost connection: what is not acknowledged will come again.
    fn orphan(&mut self, c: ConnectionId, cid: u16) {
        for id in self.tasks.ids() {
            let Some(task) = self.tasks.get_mut(id) else { continue };
            if task.allegiance != Allegiance::With(c) && task.allegiance != Allegiance::Moving(c) {
                continue;
            }
            task.allegiance = Allegiance::Lost(cid);
            task.grants.clear();
            task.aborting = false;
            task.unsolicited = (0, 0);
            task.sent = false;
            task.answer = None;
            // Data behind a hole is discarded (§11.5.6).
            task.early.clear();
            task.data_end = task.data_sn;
            task.wants_ack = None;
            (task.missing_since, task.asked) = (None, 0);
        }
    }

    /// A lost connection has been logged out, by a logout or by a login in its place: its tasks are
    /// reassigned to this one (§7.2.2).
    pub(super) fn take_over(&mut self, c: ConnectionId, cid: u16) {
        self.lost.retain(|lost| lost.cid != cid);
        for id in self.tasks.ids() {
            if let Some(task) = self.tasks.get_mut(id).filter(|task| task.allegiance == Allegiance::Lost(cid)) {
                task.allegiance = Allegiance::Moving(c);
                self.moving.push_back((c, id));
            }
        }
        self.reassign_more();
    }

    /// Whether tasks of a lost connection are moving to this one, or are about to.
    pub(super) fn is_moved_to(&self, c: ConnectionId) -> bool {
        let takes_over = |request: &Request| {
            request.connection == c && matches!(request.asked, Asked::Logout(LogoutReason::Recovery { .. }))
        };
        self.tasks.iter().any(|task| task.allegiance == Allegiance::Moving(c)) || self.requests.iter().any(takes_over)
    }

    /// Whether there was something to reassign.
    pub(super) fn reassign(&mut self, c: ConnectionId, id: TaskId) -> bool {
        let moves = |task: &&mut super::task::Task| task.allegiance == Allegiance::Moving(c) && task.outcome.is_none();
        let Some(task) = self.tasks.get_mut(id).filter(moves) else { return false };
        let mut header = TaskManagementRequest::empty();
        header.function = FINAL | super::management::TASK_REASSIGN;
        header.lun = task.command.lun;
        header.referenced_task_tag = task.tag.into();
        header.exp_data_sn = if task.reads() { task.data_sn.into() } else { 0.into() };
        task.data_acknowledged = task.data_sn;
        self.function(c, header, Asked::Reassign(id));
        true
    }

    /// What came of a TASK REASSIGN.
    pub(super) fn reassigned(&mut self, c: ConnectionId, id: TaskId, response: u8) -> Result<(), ConnectionError> {
        use crate::session::task_management_response as code;
        let unacknowledged = |session: &Session, cmd_sn| !session.window.is_acknowledged(cmd_sn);
        let Some(task) = self.tasks.get_mut(id).filter(|task| task.allegiance == Allegiance::Moving(c)) else {
            return Ok(());
        };
        match response {
            code::FUNCTION_COMPLETE => {
                task.allegiance = Allegiance::With(c);
                task.known = true;
                task.sent = true;
                task.r2t_anew = true;
                Ok(())
            }
            // It was lost on its way: it is sent again, as it was. Immediate ones are not recovered (§7.14), and
            // nobody knows what became of them.
            code::TASK_DOES_NOT_EXIST if !task.known && !task.command.immediate => {
                let cmd_sn = task.cmd_sn;
                if unacknowledged(self, cmd_sn) {
                    if let Some(task) = self.tasks.get_mut(id) {
                        task.allegiance = Allegiance::With(c);
                    }
                    self.queue(c, Outgoing::Command(id));
                } else {
                    self.finish(id, Outcome::Lost);
                }
                Ok(())
            }
            code::TASK_DOES_NOT_EXIST => {
                self.finish(id, Outcome::Lost);
                Ok(())
            }
            _ => Err(ConnectionError::Format("the target does not let a task be reassigned")),
        }
    }
}

/// SNACKs for the runs of these numbers of status.
pub(super) fn missing_status(missing: &[u32]) -> Vec<SnackRequest> {
    runs(missing).map(|(first, count)| request(snack::STATUS, first, count)).collect()
}

/// A DataACK: everything below this number has come.
pub(super) fn data_ack(data_sn: u32, target_transfer_tag: u32, lun: [u8; 8]) -> SnackRequest {
    let mut snack = request(snack::DATA_ACK, data_sn, 0);
    snack.target_transfer_tag = target_transfer_tag.into();
    snack.lun = lun;
    snack
}

fn request(kind: u8, first: u32, count: u32) -> SnackRequest {
    let mut header = SnackRequest::empty();
    header.kind = FINAL | kind;
    header.initiator_task_tag = RESERVED_TAG.into();
    header.target_transfer_tag = RESERVED_TAG.into();
    header.beg_run = first.into();
    header.run_length = count.into();
    header
}

/// Runs of numbers that follow each other: first and count.
fn runs(numbers: &[u32]) -> impl Iterator<Item = (u32, u32)> {
    numbers.chunk_by(|one, next| one.wrapping_add(1) == *next).map(|run| (run[0], run.len() as u32))
}
