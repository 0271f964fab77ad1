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
        let tag = header.initiator_task_tag.get();
        let answer = |session: &mut Session, response, close| {
            if let Some(connection) = session.connection_mut(c) {
                connection.queue(Outgoing::Logout { initiator_task_tag: tag, response, close });
            }
        };
        let named = self
            .connections
            .iter()
            .position(|slot| slot.as_ref().is_some_and(|connection| connection.cid == header.cid.get()));
        let session = match header.reason & 0x7f {
            0 => true,
            1 if named.is_none() => {
                answer(self, logout::CID_NOT_FOUND, false);
                return Ok(());
            }
            1 => self.connections() == 1,
            2 => {
                answer(self, logout::RECOVERY_NOT_SUPPORTED, false);
                return Ok(());
            }
            _ => return self.reject(c, RejectReason::InvalidPduField, header.as_bytes().into()),
        };
        let ends = |connection: ConnectionId| session || named == Some(connection.0);
        let tasks: Vec<TaskId> =
            self.tasks.ids().filter(|id| self.tasks.get(*id).is_some_and(|task| ends(task.connection))).collect();
        self.logging_out |= session;
        if let Some(connection) = self.connection_mut(c) {
            connection.logging_out = Some(LoggingOut { initiator_task_tag: tag, session });
        }
        for id in tasks {
            self.end_for_logout(id);
        }
        if let Some(named) = named
            && named != c.0
            && let Some(connection) = self.connection_mut(ConnectionId(named))
        {
            connection.closing = true;
        }
        self.logout_proceeds();
        Ok(())
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

    /// Answers a logout once the tasks that it ends have ended.
    pub(super) fn logout_proceeds(&mut self) {
        let Some(c) = self
            .connections
            .iter()
            .position(|slot| slot.as_ref().is_some_and(|connection| connection.logging_out.is_some()))
        else {
            return;
        };
        if self.tasks.ids().any(|id| self.tasks.get(id).is_some_and(|task| task.phase == Phase::Ending)) {
            return;
        }
        let Some(connection) = self.connection_mut(ConnectionId(c)) else { return };
        let Some(LoggingOut { initiator_task_tag, session }) = connection.logging_out.take() else { return };
        connection.queue(Outgoing::Logout { initiator_task_tag, response: logout::CLOSED, close: true });
        if session {
            for other in self.connections.iter_mut().flatten() {
                other.closing |= other.logging_out.is_none() && other.outgoing.is_empty();
            }
        }
        self.events.push_back(Event::LoggedOut { session });
    }
}
