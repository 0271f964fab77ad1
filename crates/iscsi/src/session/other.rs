//! Pings, text and logout (RFC 7143 §11.10, §11.14, §11.18).

use super::connection::{ConnectionId, LoggingOut, Outgoing};
use super::task::{Phase, TaskId};
use super::{ConnectionError, Event, Session};
use crate::wire::{LogoutRequest, NopOut, RESERVED_TAG, RejectReason};
use zerocopy::IntoBytes;

/// Logout response codes (RFC 7143 §11.15.1).
mod logout {
    pub const CLOSED: u8 = 0;
    pub const CID_NOT_FOUND: u8 = 1;
    pub const RECOVERY_NOT_SUPPORTED: u8 = 2;
}

impl Session {
    pub(super) fn ping(&mut self, c: ConnectionId, header: &NopOut, mut data: Vec<u8>) {
        let Some(connection) = self.connection_mut(c) else { return };
        let tag = header.initiator_task_tag.get();
        connection.pong(header.target_transfer_tag.get());
        if tag != RESERVED_TAG {
            data.truncate(connection.parameters.max_send_data_segment_length as usize);
            connection.queue(Outgoing::PingAnswer { initiator_task_tag: tag, lun: header.lun, data });
        }
    }

    pub(super) fn logout(&mut self, c: ConnectionId, header: &LogoutRequest) -> Result<(), ConnectionError> {
        if self.connection(c).is_some_and(|asks| asks.logging_out.len() >= self.limits.immediate as usize) {
            self.limits.struck.immediate.count();
            return self.reject(c, RejectReason::ImmediateCommandReject, header.as_bytes().into());
        }
        let cid = header.cid.get();
        let named = self.connections.by_cid(cid);
        let lost = self.recovering().any(|lost| lost == cid);
        match header.reason & 0x7f {
            0 => self.log_out_session(c, header),
            1 | 2 if named.is_none() && !lost => self.answer_logout(c, header, logout::CID_NOT_FOUND, false),
            1 if named.is_some() && self.connections() == 1 && self.recovering.is_empty() => {
                self.log_out_session(c, header);
            }
            1 => self.log_out_connection(c, header, named),
            2 if !self.outlives_connections() => {
                self.answer_logout(c, header, logout::RECOVERY_NOT_SUPPORTED, false);
            }
            2 => self.log_out_for_recovery(c, header, named),
            _ => return self.reject(c, RejectReason::InvalidPduField, header.as_bytes().into()),
        }
        Ok(())
    }

    fn answer_logout(&mut self, c: ConnectionId, header: &LogoutRequest, response: u8, close: bool) {
        if let Some(connection) = self.connection_mut(c) {
            let initiator_task_tag = header.initiator_task_tag.get();
            connection.queue(Outgoing::Logout { initiator_task_tag, response, close });
        }
    }

    /// ExpStatSN of a logout is that of the connection which it names (§11.14.4). What it says too much is
    /// ignored: that connection is at its end.
    fn acknowledged_by_logout(&mut self, named: ConnectionId, header: &LogoutRequest) {
        let _ = self.acknowledge(named, header.exp_stat_sn.get());
    }

    fn log_out_session(&mut self, c: ConnectionId, header: &LogoutRequest) {
        self.acknowledged_by_logout(c, header);
        self.logging_out = true;
        self.recovering.clear();
        self.logs_out(c, LoggingOut { session: true, close: true, ..LoggingOut::of(header, c) });
        let tasks: Vec<TaskId> = self.tasks.ids().collect();
        for id in tasks {
            self.end_for_logout(id);
        }
        self.await_logout();
    }

    fn log_out_connection(&mut self, c: ConnectionId, header: &LogoutRequest, named: Option<ConnectionId>) {
        match named {
            Some(named) if named == c => {
                self.acknowledged_by_logout(c, header);
                self.logs_out(c, LoggingOut { close: true, ..LoggingOut::of(header, c) });
                // Before its tasks end: a number without its command would count as used, and the initiator that
                // does not hear the answer to this sends the command again.
                self.discard_early(c);
                let tasks: Vec<TaskId> = self.tasks_of(c).collect();
                self.tell_of_cleared(&tasks);
                for id in tasks {
                    self.end_for_logout(id);
                }
            }
            Some(named) => {
                self.acknowledged_by_logout(named, header);
                self.logs_out(c, LoggingOut::of(header, named));
                self.remove(named);
            }
            None => {
                if let Some(lost) = self.give_up_lost(header.cid.get()) {
                    self.logs_out(c, LoggingOut::of(header, lost));
                }
            }
        }
        self.await_logout();
    }

    /// All that a logout ends is ending: it is answered when all has ended.
    fn await_logout(&mut self) {
        self.awaits_logout = true;
        self.logout_proceeds();
    }

    fn log_out_for_recovery(&mut self, c: ConnectionId, header: &LogoutRequest, named: Option<ConnectionId>) {
        let Some(now) = self.connection(c).map(|connection| connection.last_heard) else { return };
        match named {
            Some(named) if named == c => {
                self.acknowledged_by_logout(c, header);
                if let Some(connection) = self.connection_mut(c) {
                    connection.for_recovery = true;
                }
                self.answer_logout(c, header, logout::CLOSED, true);
                return;
            }
            Some(named) => {
                self.acknowledged_by_logout(named, header);
                self.lose(named, now, true);
            }
            None => self.log_out_lost(header.cid.get(), Some(header.exp_stat_sn.get()), now),
        }
        self.answer_logout(c, header, logout::CLOSED, false);
    }

    fn logs_out(&mut self, c: ConnectionId, logging_out: LoggingOut) {
        if let Some(connection) = self.connection_mut(c) {
            connection.logging_out.push(logging_out);
        }
    }

    fn end_for_logout(&mut self, id: TaskId) {
        // The initiator sends nothing more, so that no data is waited for.
        self.forgive_data(id);
        let Some(task) = self.tasks.get_mut(id) else { return };
        match task.phase {
            Phase::Active => {
                task.phase = Phase::Ending;
                self.events.push_back(Event::Abort(id));
            }
            // An answer that is ready still leaves, in front of the logout response.
            Phase::Ended if task.response.is_some() || task.in_batch => self.settle(id),
            Phase::Arriving | Phase::Ended => self.end_task(id),
            Phase::Ending => {}
        }
    }

    /// The end of a task whose connection is gone: nothing of it is sent and nothing is awaited.
    pub(super) fn end_for_loss(&mut self, id: TaskId) {
        let Some(task) = self.tasks.get_mut(id) else { return };
        task.unsolicited = None;
        task.grants.clear();
        task.in_batch = false;
        if task.phase == Phase::Active {
            task.phase = Phase::Ending;
            self.events.push_back(Event::Abort(id));
        } else if task.phase != Phase::Ending {
            self.end_task(id);
        }
    }

    /// Answers logouts once the tasks that they end have ended.
    pub(super) fn logout_proceeds(&mut self) {
        let mut all = false;
        while let Some((c, at)) = self.logout_that_is_due() {
            let Some(connection) = self.connections.get_mut(c) else { break };
            let LoggingOut { initiator_task_tag, session, close, .. } = connection.logging_out.remove(at);
            connection.queue(Outgoing::Logout { initiator_task_tag, response: logout::CLOSED, close });
            self.events.push_back(Event::LoggedOut { session });
            all |= session;
        }
        if all {
            // What they still have to say goes out first.
            let closes = |outgoing: &Outgoing| matches!(outgoing, Outgoing::Logout { close: true, .. });
            for (_, connection) in self.connections.iter_mut() {
                connection.closing |= !connection.outgoing.iter().any(closes);
            }
        }
        self.awaits_logout = self.connections.iter().any(|(_, connection)| !connection.logging_out.is_empty());
    }

    fn logout_that_is_due(&self) -> Option<(ConnectionId, usize)> {
        let ends = |logging_out: &LoggingOut| {
            let LoggingOut { session, connection: ended, .. } = *logging_out;
            !self.tasks.ids().any(|id| {
                let task = self.tasks.get(id);
                task.is_some_and(|task| task.phase == Phase::Ending && (session || task.connection == ended))
            })
        };
        self.connections.iter().find_map(|(c, connection)| Some((c, connection.logging_out.iter().position(ends)?)))
    }
}
