//! What was sent and may be asked for again: at recovery level 1 and above statuses, with the data of their
//! tasks, are kept until ExpStatSN acknowledges them, and SNACK asks for them (RFC 7143 §11.16).
//!
//! What is kept is bounded. Beyond the bound the oldest is forgotten, and a SNACK for it is refused as the
//! standard allows: whoever acknowledges in time never sees that.

use super::connection::{Connection, ConnectionId, Outgoing};
use super::task::{Base, Phase, TaskId};
use super::{ConnectionError, Session};
use crate::serial::{at_most, precedes};
use crate::wire::{RESERVED_TAG, RejectReason, SnackRequest};
use std::collections::VecDeque;
use zerocopy::IntoBytes;

/// Numbered PDUs that are kept for one connection.
const SENT: usize = 1024;
/// Bytes of such that are no tasks' answers, in a session.
const COPIED_BYTES: usize = 256 << 10;
/// Tasks of a session beyond which nothing is kept.
const TASKS: usize = 4096;

/// Something that was sent with a StatSN.
#[derive(Debug)]
pub(super) struct Sent {
    pub stat_sn: u32,
    pub what: Kept,
}

/// How it can be sent again.
#[derive(Debug)]
pub(super) enum Kept {
    /// The status of this task, from the task.
    Task(TaskId),
    /// These bytes: header and data segment, without padding and digests.
    Copy(Box<[u8]>),
    /// Not at all: it was too much.
    Gone,
}

/// SNACK types (§11.16.1).
mod kind {
    pub const DATA_OR_R2T: u8 = 0;
    pub const STATUS: u8 = 1;
    pub const DATA_ACK: u8 = 2;
    pub const R_DATA: u8 = 3;
}

/// The tag of a Data-In PDU that asks to be acknowledged: the task's slot and the DataSN. Tags of R2Ts have
/// not this bit.
pub(super) fn acknowledge_tag(id: TaskId, data_sn: u32) -> u32 {
    1 << 31 | (id.slot() as u32 & 0x7fff) << 16 | data_sn & 0xffff
}

/// What was sent with this number.
pub(super) fn sent_as(sent: &VecDeque<Sent>, stat_sn: u32) -> Option<&Kept> {
    let first = sent.front()?.stat_sn;
    let at = sent.partition_point(|sent| sent.stat_sn.wrapping_sub(first) < stat_sn.wrapping_sub(first));
    sent.get(at).filter(|sent| sent.stat_sn == stat_sn).map(|sent| &sent.what)
}

impl Session {
    /// Whether what is lost is recovered within a connection, and so what is sent is kept until it is acknowledged.
    pub(super) fn keeps(&self) -> bool {
        self.parameters.error_recovery_level > 0
    }

    /// ExpStatSN of a PDU from the connection (§4.2.2.2).
    #[inline]
    pub(super) fn acknowledge(&mut self, c: ConnectionId, exp_stat_sn: u32) -> Result<(), ConnectionError> {
        let Some(connection) = self.connections.get_mut(c) else { return Ok(()) };
        if connection.acknowledged == exp_stat_sn {
            return Ok(());
        }
        // libiscsi (QEMU's initiator) counts the StatSN of an R2T as received, which puts it one ahead.
        if precedes(connection.stat_sn.wrapping_add(1), exp_stat_sn) {
            return Err(ConnectionError::Format("ExpStatSN acknowledges what was not sent"));
        }
        if !precedes(connection.acknowledged, exp_stat_sn) {
            return Ok(());
        }
        connection.acknowledged =
            if precedes(connection.stat_sn, exp_stat_sn) { connection.stat_sn } else { exp_stat_sn };
        if !connection.sent.is_empty() || !self.fences.is_empty() {
            self.acknowledged(c);
        }
        Ok(())
    }

    /// What was acknowledged is kept no longer, and who waited for it goes on.
    #[cold]
    fn acknowledged(&mut self, c: ConnectionId) {
        while let Some(connection) = self.connections.get_mut(c) {
            let acknowledged = connection.acknowledged;
            let Some(sent) = connection.sent.pop_front_if(|sent| precedes(sent.stat_sn, acknowledged)) else { break };
            self.drop_kept(sent.what);
        }
        self.fences_proceed();
    }

    /// Keeps a small PDU that has just been given its StatSN.
    pub(super) fn keep_copy(&mut self, c: ConnectionId, stat_sn: u32, header: &[u8], data: &[u8]) {
        if self.keeps() {
            let bytes = header.len() + data.len();
            // Pings of any length are no reason to keep any amount.
            if self.copied_bytes + bytes > COPIED_BYTES {
                self.limits.struck.retained.count();
                return self.keep(c, Sent { stat_sn, what: Kept::Gone });
            }
            self.copied_bytes += bytes;
            let copy = [header, data].concat().into_boxed_slice();
            self.keep(c, Sent { stat_sn, what: Kept::Copy(copy) });
        }
    }

    /// Keeps what was sent, and forgets the oldest where that is too much.
    pub(super) fn keep(&mut self, c: ConnectionId, sent: Sent) {
        let Some(connection) = self.connections.get_mut(c) else { return };
        connection.sent.push_back(sent);
        if connection.sent.len() > SENT {
            self.forget_first(c);
            if let Some(connection) = self.connections.get_mut(c) {
                connection.sent.pop_front();
            }
        }
        let too_much =
            |session: &Session| session.retained_bytes > session.limits.retained_bytes || session.tasks.len() > TASKS;
        while too_much(self) && self.forget_first(c) {
            self.limits.struck.retained.count();
        }
    }

    /// Forgets how the oldest is sent again that still could be. False: there is none.
    fn forget_first(&mut self, c: ConnectionId) -> bool {
        let Some(connection) = self.connections.get_mut(c) else { return false };
        let Some(sent) = connection.sent.iter_mut().find(|sent| !matches!(sent.what, Kept::Gone)) else {
            return false;
        };
        let what = std::mem::replace(&mut sent.what, Kept::Gone);
        self.drop_kept(what);
        true
    }

    /// It will not be sent again.
    fn drop_kept(&mut self, what: Kept) {
        match what {
            Kept::Task(id) => self.let_go(id),
            Kept::Copy(bytes) => self.copied_bytes = self.copied_bytes.saturating_sub(bytes.len()),
            Kept::Gone => {}
        }
    }

    /// The connection is gone. Statuses of tasks stay with their tasks.
    pub(super) fn drop_copies(&mut self, connection: Connection) {
        for sent in connection.sent {
            if let Kept::Copy(_) = sent.what {
                self.drop_kept(sent.what);
            }
        }
    }

    /// The task is kept no longer: it is over, at once or when the batch that names it has left.
    pub(super) fn let_go(&mut self, id: TaskId) {
        let Some(task) = self.tasks.get_mut(id) else { return };
        // With a number and without its status it is being sent anew.
        if task.kept.is_none() && task.stat_sn.is_none() {
            return;
        }
        if task.in_batch {
            task.let_go = true;
        } else {
            self.release(id);
        }
    }

    pub(super) fn snack(&mut self, c: ConnectionId, header: &SnackRequest) -> Result<(), ConnectionError> {
        let refused = match header.kind & 0x0f {
            kind::DATA_OR_R2T => self.snack_data(c, header),
            kind::STATUS => self.snack_status(c, header),
            kind::DATA_ACK => self.data_acknowledged(c, header),
            kind::R_DATA => self.snack_anew(c, header),
            _ => Err((RejectReason::ProtocolError, 0)),
        };
        match refused {
            Ok(()) => Ok(()),
            Err((reason, data_sn)) => self.reject_with(c, reason, header.as_bytes().into(), data_sn),
        }
    }

    /// The task that a SNACK names, where its data can be sent again on this connection.
    fn snacked(&self, c: ConnectionId, header: &SnackRequest) -> Result<TaskId, (RejectReason, u32)> {
        let forgotten = |sent: &Sent| matches!(sent.what, Kept::Gone);
        let found = self.tasks.by_tag(header.initiator_task_tag.get());
        match found.and_then(|id| Some((id, self.tasks.get(id)?))) {
            Some((id, task)) if task.connection == c && task.phase != Phase::Arriving => Ok(id),
            None if self.connections.get(c).is_some_and(|connection| connection.sent.iter().any(forgotten)) => {
                Err((RejectReason::SnackReject, 0))
            }
            _ => Err((RejectReason::InvalidPduField, 0)),
        }
    }

    /// The numbers that a run names, within what was sent and is not acknowledged (§11.16.6, §11.16.7).
    fn run(header: &SnackRequest, acknowledged: u32, next: u32) -> Result<(u32, u32), (RejectReason, u32)> {
        let (begin, length) = (header.beg_run.get(), header.run_length.get());
        if begin == 0 && length == 0 {
            return Ok((acknowledged, next));
        }
        let end = if length == 0 { next } else { begin.wrapping_add(length) };
        let sent = next.wrapping_sub(acknowledged);
        let inside = at_most(acknowledged, begin)
            && precedes(begin, next)
            && length <= sent
            && precedes(begin, end)
            && at_most(end, next);
        if inside { Ok((begin, end)) } else { Err((RejectReason::ProtocolError, next)) }
    }

    fn snack_data(&mut self, c: ConnectionId, header: &SnackRequest) -> Result<(), (RejectReason, u32)> {
        let id = self.snacked(c, header)?;
        let segment = self.segment(c);
        let Some(task) = self.tasks.get_mut(id) else { return Ok(()) };
        let again = if task.reads() {
            let (from, to) = Session::run(header, task.acknowledged_data_sn, task.data_sn)?;
            if task.base.segment > segment {
                // PDUs of that size may not be sent any more; R-Data would be right (§11.16.2).
                return Err((RejectReason::ProtocolError, task.data_sn));
            }
            Outgoing::DataAgain { task: id, from, to }
        } else {
            let (from, to) = Session::run(header, 0, task.r2t_sn)?;
            let wanted = |sn: u32| at_most(from, sn) && precedes(sn, to);
            if from != to && !task.grants.iter().any(|grant| !grant.done && wanted(grant.r2t_sn)) {
                return Err((RejectReason::ProtocolError, task.r2t_sn));
            }
            Outgoing::ReadyToTransferAgain { task: id, from, to }
        };
        if let Some(connection) = self.connections.get_mut(c) {
            connection.queue(again);
        }
        Ok(())
    }

    fn snack_status(&mut self, c: ConnectionId, header: &SnackRequest) -> Result<(), (RejectReason, u32)> {
        let Some(connection) = self.connections.get_mut(c) else { return Ok(()) };
        let (from, to) = Session::run(header, connection.acknowledged, connection.stat_sn)
            .map_err(|_| (RejectReason::ProtocolError, 0))?;
        let mut kept = 0;
        for sent in connection.sent.iter().filter(|sent| at_most(from, sent.stat_sn) && precedes(sent.stat_sn, to)) {
            kept += u32::from(match sent.what {
                Kept::Task(id) => self.tasks.get(id).is_some(),
                Kept::Copy(_) => true,
                Kept::Gone => false,
            });
        }
        if kept != to.wrapping_sub(from) {
            return Err((RejectReason::SnackReject, 0));
        }
        connection.queue(Outgoing::StatusAgain { from, to });
        Ok(())
    }

    /// Data is acknowledged where that was asked for (§11.16.2).
    fn data_acknowledged(&mut self, c: ConnectionId, header: &SnackRequest) -> Result<(), (RejectReason, u32)> {
        let wrong = Err((RejectReason::InvalidDataAck, 0));
        let (tag, next) = (header.target_transfer_tag.get(), header.beg_run.get());
        if tag >> 31 == 0 || tag == RESERVED_TAG || header.run_length.get() != 0 {
            return wrong;
        }
        let Some(id) = self.tasks.in_slot((tag >> 16 & 0x7fff) as usize) else { return wrong };
        let Some(task) = self.tasks.get_mut(id) else { return wrong };
        let named = tag == acknowledge_tag(id, next.wrapping_sub(1)) && task.lun == header.lun && task.connection == c;
        if !named || !at_most(task.acknowledged_data_sn, next) || !at_most(next, task.data_sn) {
            return wrong;
        }
        task.acknowledged_data_sn = next;
        Ok(())
    }

    /// All data that is not acknowledged is sent again, in segments of the size that holds now, and a response
    /// with this tag behind it (§11.16.3).
    fn snack_anew(&mut self, c: ConnectionId, header: &SnackRequest) -> Result<(), (RejectReason, u32)> {
        let tag = header.target_transfer_tag.get();
        if tag == 0 || tag == RESERVED_TAG || header.beg_run.get() != 0 || header.run_length.get() != 0 {
            return Err((RejectReason::InvalidPduField, 0));
        }
        let id = self.snacked(c, header)?;
        let Some(task) = self.tasks.get_mut(id) else { return Ok(()) };
        if !task.reads() {
            return Err((RejectReason::InvalidPduField, 0));
        }
        task.snack_tag = tag;
        let from = task.acknowledged_data_sn;
        if let Some(kept) = &task.kept {
            // All responses of a command have one StatSN (§11.4.4).
            task.stat_sn = Some(kept.stat_sn);
        }
        self.transmit_from(id, from);
        Ok(())
    }

    /// A status that was sent is one that is to be sent again.
    pub(super) fn take_up_again(&mut self, id: TaskId) {
        if let Some(task) = self.tasks.get_mut(id)
            && let Some(kept) = task.kept.take()
        {
            self.retained_bytes = self.retained_bytes.saturating_sub(kept.response.data_in as usize);
            task.response = Some(kept.response);
        }
    }

    /// The task's data, and its status behind it, is sent from this DataSN on, anew.
    pub(super) fn transmit_from(&mut self, id: TaskId, data_sn: u32) {
        let Some(task) = self.tasks.get_mut(id) else { return };
        let offset = task.offset_of(data_sn, self.parameters.max_burst_length & !3);
        self.take_up_again(id);
        let Some(task) = self.tasks.get_mut(id) else { return };
        let sent = task.response.as_ref().map_or(0, |response| response.data_in).min(offset);
        task.base = Base { data_sn, offset: sent, segment: 0 };
        task.sent = sent;
        task.data_sn = data_sn;
        self.settle(id);
    }
}
