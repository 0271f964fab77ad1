//! What is lost and comes back: data within a command (RFC 7143 §7.1.4.1), connections within a session
//! (§7.1.4.3), and the allegiance of tasks (§7.2.2).

use super::connection::ConnectionId;
use super::management::response;
use super::task::{DataOutFault, Phase, TaskId};
use super::{ConnectionError, Event, Session, SessionKind};
use crate::serial::{at_most, precedes};
use crate::wire::{AsyncEvent, Pdu, TaskManagementRequest};
use std::time::{Duration, Instant};

/// Data of a sequence that does not move for this long is asked for again (§7.1.4.1).
const DATA_PATIENCE: Duration = Duration::from_secs(2);
/// The most seconds of Time2Wait: both ends agree on the greater of theirs, and a session that needs no socket
/// must not last as long as whoever logs in wishes.
const WAIT: u32 = 300;
/// Lost connections of a session of which the tasks are kept.
const LOST: usize = 32;
/// Beyond so many tasks of a session only those of the connection that was lost last are kept.
const LEFT: usize = 2048;
/// How often the data of one task is asked for again before the task ends.
const RECOVERIES: u8 = 32;

/// A connection that is gone and whose tasks wait for another.
#[derive(Debug)]
pub(super) struct Recovering {
    pub connection: ConnectionId,
    pub cid: u16,
    /// Its state is kept so long: Time2Wait and Time2Retain.
    pub until: Instant,
    /// A logout, explicit or by a login that takes its place, has made its tasks free (§7.2.2).
    pub logged_out: bool,
}

/// Looks for data that does not come.
#[derive(Debug, Default)]
pub(super) struct DataWatch {
    due: Option<Instant>,
    /// What was awaited at the last look, and how much of it had come.
    seen: Vec<(TaskId, u32, u32)>,
}

impl Session {
    /// The connection is lost. Below recovery level 2 the session goes with it: its other connections are to
    /// be closed, and the application ends its tasks by closing the nexus. At level 2 the connection's tasks
    /// wait for another until Time2Wait and Time2Retain have passed. A connection that was logged out is
    /// just gone.
    pub fn handle_closed(&mut self, c: ConnectionId, now: Instant) {
        let Some(connection) = self.connections.get(c) else { return };
        if connection.logged_out && !self.logging_out {
            match connection.for_recovery {
                true => self.lose(c, now, true),
                false => self.remove(c),
            }
            return;
        }
        if self.outlives_connections() && !self.logging_out && !self.failed {
            self.lose(c, now, false);
            return;
        }
        self.forget_connection(c);
        self.fail();
    }

    /// The connection is to be closed for this reason. After what leaves no trust in the initiator the whole
    /// session is over (§7.7); otherwise it is as if the connection were lost.
    pub fn handle_error(&mut self, c: ConnectionId, error: &ConnectionError, now: Instant) {
        if matches!(error, ConnectionError::Format(_) | ConnectionError::Limit(_)) {
            self.fail();
        }
        self.handle_closed(c, now);
    }

    /// Whether the session has no connection and waits for none.
    pub fn is_over(&self) -> bool {
        self.connections.len() == 0 && self.recovering.is_empty()
    }

    /// Whether tasks of a connection that is gone wait for another (§7.1.5).
    pub(super) fn outlives_connections(&self) -> bool {
        self.parameters.error_recovery_level >= 2 && self.kind == SessionKind::Normal
    }

    /// A login takes the place of the connection with this CID (§6.3.4): what it has left is logged out, at
    /// level 2 for recovery. Returns its name where it is open: its socket is to be closed. Below level 2
    /// [`Session::is_clear`] says when its tasks have ended; only then is the other to be attached.
    pub fn reinstate(&mut self, cid: u16, now: Instant) -> Option<ConnectionId> {
        let open = self.connections.by_cid(cid);
        if self.outlives_connections() {
            match open {
                Some(c) => self.lose(c, now, true),
                None => self.log_out_lost(cid, None, now),
            }
        } else if let Some(c) = open {
            self.remove(c);
        }
        open
    }

    /// Whether no task belongs to this connection any more.
    pub fn is_clear(&self, c: ConnectionId) -> bool {
        self.tasks_of(c).next().is_none()
    }

    /// Whether data of the task can come: its connection is open.
    pub fn awaits_data(&self, id: TaskId) -> bool {
        self.tasks.get(id).is_some_and(|task| self.connections.get(task.connection).is_some())
    }

    /// CIDs of connections that are gone without having been logged out: they count as long as they may come back.
    pub fn lost(&self) -> impl Iterator<Item = u16> {
        self.recovering.iter().filter(|lost| !lost.logged_out).map(|lost| lost.cid)
    }

    /// CIDs of connections that are gone and may be recovered.
    pub fn recovering(&self) -> impl Iterator<Item = u16> {
        self.recovering.iter().map(|lost| lost.cid)
    }

    /// The session cannot go on: its connections are to be closed.
    pub(super) fn fail(&mut self) {
        self.failed = true;
        for (_, connection) in self.connections.iter_mut() {
            connection.closing = true;
        }
        self.recovering.clear();
        self.events.clear();
    }

    /// The connection and its tasks end.
    pub(super) fn remove(&mut self, c: ConnectionId) {
        self.forget_connection(c);
        self.end_tasks_of(c);
        self.fences_proceed();
    }

    /// The connection ends and its tasks wait for another.
    pub(super) fn lose(&mut self, c: ConnectionId, now: Instant, logged_out: bool) {
        let Some(cid) = self.connections.get(c).map(|connection| connection.cid) else { return };
        self.forget_connection(c);
        let tasks: Vec<TaskId> = self.tasks_of(c).collect();
        for id in tasks {
            let Some(task) = self.tasks.get_mut(id) else { continue };
            if task.immediate || task.phase == Phase::Arriving {
                // Immediate commands are not recoverable (§7.14).
                self.end_for_loss(id);
                continue;
            }
            task.abandon_data();
            task.in_batch = false;
            task.answer_queued = false;
            task.r2t_queued = false;
            task.superseded = false;
            match task.phase {
                _ if task.let_go => self.release(id),
                // What was ended without an answer is over.
                Phase::Ended if task.response.is_none() && task.kept.is_none() => self.release(id),
                // What has come may be all that is wanted.
                _ => self.data_settled(id),
            }
        }
        let until = now + self.kept_for();
        self.recovering.push(Recovering { connection: c, cid, until, logged_out });
        while self.recovering.len() > LOST || self.recovering.len() > 1 && self.tasks.len() > LEFT {
            let oldest = self.recovering.remove(0);
            self.end_tasks_of(oldest.connection);
        }
        if !logged_out {
            let (wait, retain) = self.recovery_times();
            for (_, connection) in self.connections.iter_mut() {
                connection.queue_async(AsyncEvent::DropConnection, cid, wait, retain);
            }
        }
        self.fences_proceed();
    }

    /// The tasks of a connection that is gone may be taken over, but for those whose status was received
    /// below `exp_stat_sn`.
    pub(super) fn log_out_lost(&mut self, cid: u16, exp_stat_sn: Option<u32>, now: Instant) {
        let until = now + self.kept_for();
        let mut last = None;
        for lost in self.recovering.iter_mut().filter(|lost| lost.cid == cid && !lost.logged_out) {
            (lost.logged_out, lost.until) = (true, until);
            last = Some(lost.connection);
        }
        let (Some(c), Some(exp_stat_sn)) = (last, exp_stat_sn) else { return };
        let received = |id: &TaskId| {
            let kept = self.tasks.get(*id).and_then(|task| task.kept.as_ref());
            kept.is_some_and(|kept| precedes(kept.stat_sn, exp_stat_sn))
        };
        let over: Vec<TaskId> = self.tasks_of(c).filter(received).collect();
        over.into_iter().for_each(|id| self.let_go(id));
        self.forget_recovered();
    }

    /// Connections that are logged out and have left no task are not waited for, as long as the session has
    /// others.
    pub(super) fn forget_recovered(&mut self) {
        if self.connections.len() > 0 && !self.recovering.is_empty() {
            let mut recovering = std::mem::take(&mut self.recovering);
            recovering.retain(|lost| !lost.logged_out || !self.is_clear(lost.connection));
            self.recovering = recovering;
        }
    }

    /// The connection that is gone is not to be recovered: its tasks end. Returns the name that it had.
    pub(super) fn give_up_lost(&mut self, cid: u16) -> Option<ConnectionId> {
        let mut given_up = None;
        while let Some(at) = self.recovering.iter().position(|lost| lost.cid == cid) {
            let lost = self.recovering.remove(at);
            self.end_tasks_of(lost.connection);
            given_up = Some(lost.connection);
        }
        given_up
    }

    pub(super) fn recovery_deadline(&self) -> Option<Instant> {
        self.recovering.iter().map(|lost| lost.until).chain(self.data_watch.due).min()
    }

    /// Gives up connections whose time is over, and asks for data that does not come.
    pub(super) fn recover_in_time(&mut self, now: Instant) {
        while let Some(at) = self.recovering.iter().position(|lost| now >= lost.until) {
            let lost = self.recovering.remove(at);
            self.end_tasks_of(lost.connection);
        }
        if self.data_watch.due.is_some_and(|due| now >= due) {
            self.look_for_data(now);
        }
    }

    /// An R2T was sent at about this time.
    pub(super) fn watch_data(&mut self, now: Instant) {
        self.data_watch.due.get_or_insert(now + DATA_PATIENCE);
    }

    /// A sequence is complete as far as it came, and something of it was lost (§7.9): what is missing is asked
    /// for again.
    pub(super) fn ask_again(&mut self, id: TaskId) {
        let Some(task) = self.tasks.get_mut(id) else { return };
        task.recoveries = task.recoveries.saturating_add(1);
        task.superseded = true;
        task.abandon_data();
        if task.recoveries > RECOVERIES {
            task.fault.get_or_insert(DataOutFault::ProtocolServiceCrcError);
        }
        self.data_settled(id);
    }

    /// TASK REASSIGN (§11.5.1). `Ok`: answer, and then let it take effect.
    pub(super) fn may_reassign(&self, header: &TaskManagementRequest) -> Result<TaskId, u8> {
        if !self.outlives_connections() {
            return Err(response::REASSIGNMENT_NOT_SUPPORTED);
        }
        let tag = header.referenced_task_tag.get();
        if !header.header().immediate() || self.is_function(tag) {
            return Err(response::FUNCTION_REJECTED);
        }
        let found = self.tasks.by_tag(tag).and_then(|id| Some((id, self.tasks.get(id)?)));
        let Some((id, task)) = found.filter(|(_, task)| task.lun == header.lun) else {
            return Err(response::TASK_DOES_NOT_EXIST);
        };
        match self.may_take_over(task.connection) {
            false => Err(response::TASK_STILL_ALLEGIANT),
            true if task.phase == Phase::Ending => Err(response::TASK_DOES_NOT_EXIST),
            true => Ok(id),
        }
    }

    /// Whether this connection is gone and logged out, so that its tasks may be taken over.
    pub(super) fn may_take_over(&self, c: ConnectionId) -> bool {
        self.recovering.iter().any(|lost| lost.connection == c && lost.logged_out)
    }

    /// The task goes on at this connection.
    pub(super) fn reassign(&mut self, c: ConnectionId, id: TaskId, exp_data_sn: u32) {
        let Some(task) = self.tasks.get_mut(id) else { return };
        task.connection = c;
        task.snack_tag = 0;
        task.stat_sn = None;
        if task.reads() {
            let moved = exp_data_sn != 0
                && at_most(task.acknowledged_data_sn, exp_data_sn)
                && at_most(exp_data_sn, task.data_sn);
            if moved {
                task.acknowledged_data_sn = exp_data_sn;
            }
            let from = task.acknowledged_data_sn;
            self.transmit_from(id, from);
        } else {
            // R2Ts go on behind those that the initiator has received.
            let known = if exp_data_sn == 0 { task.answered_r2t_sn } else { exp_data_sn };
            task.r2t_sn = known.min(task.r2t_sn);
            self.take_up_again(id);
            self.settle(id);
        }
        // Data that the task still wants is asked for on its new connection.
        self.data_settled(id);
        self.forget_recovered();
    }

    pub(super) fn tasks_of(&self, c: ConnectionId) -> impl Iterator<Item = TaskId> {
        self.tasks.ids().filter(move |id| self.tasks.get(*id).is_some_and(|task| task.connection == c))
    }

    /// How long what a lost connection leaves is kept.
    fn kept_for(&self) -> Duration {
        let (wait, retain) = self.recovery_times();
        Duration::from_secs(u64::from(wait) + u64::from(retain))
    }

    /// What a logout response tells: where the session ends and nothing is kept, what was agreed.
    pub(super) fn logout_times(&self) -> (u16, u16) {
        let (wait, retain) = self.recovery_times();
        let agreed = u16::try_from(self.parameters.default_time_2_wait).unwrap_or(u16::MAX);
        (if self.logging_out { agreed } else { wait }, retain)
    }

    /// Time2Wait and Time2Retain of a lost connection.
    pub(super) fn recovery_times(&self) -> (u16, u16) {
        let clamp = |seconds: u32| u16::try_from(seconds).unwrap_or(u16::MAX);
        (clamp(self.parameters.default_time_2_wait.min(WAIT)), clamp(self.parameters.default_time_2_retain))
    }

    /// Nothing is sent on it or comes from it any more.
    fn forget_connection(&mut self, c: ConnectionId) {
        let Some(connection) = self.connections.remove(c) else { return };
        self.drop_copies(connection);
        self.functions.forget(c);
        self.fences.forget(c);
        self.discard_early(c);
    }

    /// The connection ends: what came on it and waits for its turn counts as not received (§11.14).
    pub(super) fn discard_early(&mut self, c: ConnectionId) {
        let of_connection = |id: TaskId| self.tasks.get(id).is_some_and(|task| task.connection == c);
        for discarded in self.window.discard(c, of_connection) {
            if let super::receive::Deferred::Command(id) = discarded {
                self.release(id);
            }
        }
    }

    /// The tasks of a connection that is gone for good.
    fn end_tasks_of(&mut self, c: ConnectionId) {
        let tasks: Vec<TaskId> = self.tasks_of(c).collect();
        self.tell_of_cleared(&tasks);
        for id in tasks {
            self.end_for_loss(id);
        }
    }

    /// These tasks end by what happens to their connection. Where the session goes on, its initiator hears of
    /// it (§11.14.5).
    pub(super) fn tell_of_cleared(&mut self, tasks: &[TaskId]) {
        if self.is_over() || self.failed {
            return;
        }
        let mut units: Vec<[u8; 8]> = Vec::new();
        for task in tasks.iter().filter_map(|id| self.tasks.get(*id)) {
            if task.phase != Phase::Arriving && task.kept.is_none() && !units.contains(&task.lun) {
                units.push(task.lun);
            }
        }
        self.events.extend(units.into_iter().map(|lun| Event::CommandsCleared { lun }));
    }

    fn look_for_data(&mut self, now: Instant) {
        let awaited: Vec<_> = self
            .tasks
            .ids()
            .filter_map(|id| {
                let task = self.tasks.get(id)?;
                let open = self.connections.get(task.connection).is_some();
                let owed = open && !task.data_done();
                let granted: u32 = task.grants.iter().map(|grant| grant.received).sum();
                owed.then(|| (id, task.received + granted, task.r2t_sn))
            })
            .collect();
        let stuck: Vec<TaskId> =
            awaited.iter().filter(|task| self.data_watch.seen.contains(task)).map(|(id, ..)| *id).collect();
        self.data_watch.due = (!awaited.is_empty()).then(|| now + DATA_PATIENCE);
        self.data_watch.seen = awaited;
        for id in stuck {
            let Some(task) = self.tasks.get(id) else { continue };
            if !task.is_ending() && task.fault.is_none() {
                self.ask_again(id);
            } else {
                // Nobody wants it any more; only its end was awaited.
                self.forgive_data(id);
                self.data_settled(id);
            }
        }
    }
}
