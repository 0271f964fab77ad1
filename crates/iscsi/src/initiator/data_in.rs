//! Data and status from the target (RFC 7143 §11.4, §11.7): where the bytes belong, and when a command
//! is over.

use super::connection::ConnectionId;
use super::connection::{Outgoing, Status};
use super::receive::Pending;
use super::task::{Allegiance, Answer, Early, Outcome};
use super::{Event, Session};
use crate::serial::{at_most, precedes};
use crate::session::{ConnectionError, Place, TaskId};
use crate::wire::{DataIn, Pdu, ScsiResponse};

/// A, acknowledge.
const ACKNOWLEDGE: u8 = 0x40;
/// S, status.
const STATUS: u8 = 0x01;
/// How far ahead of a hole a DataSN may be before the stream is not believed any more: what came behind it is
/// remembered PDU by PDU.
const DATA_AHEAD: u32 = 1 << 13;
/// Tasks that functions have ended of which late PDUs are forgiven.
const ENDED: usize = 256;
/// CHECK CONDITION (SAM-5 5.3.1).
const CHECK_CONDITION: u8 = 0x02;
/// Aborted command, protocol service CRC error (RFC 7143 §11.4.7.2), as fixed format sense data.
const CRC_ERROR_SENSE: [u8; 18] = [0x70, 0, 0x0b, 0, 0, 0, 0, 10, 0, 0, 0, 0, 0x47, 0x05, 0, 0, 0, 0];

impl Session {
    /// Whether data and status are recovered within a connection.
    pub(super) fn recovers(&self) -> bool {
        self.parameters.error_recovery_level > 0
    }

    /// Whether a function has ended a task of this tag not long ago.
    pub(super) fn has_ended(&self, tag: u32) -> bool {
        self.ended.contains(&tag)
    }

    pub(super) fn begin_data_in(
        &mut self,
        c: ConnectionId,
        header: &DataIn,
    ) -> Result<(Pending, Place), ConnectionError> {
        let recovers = self.recovers();
        let forgiven = recovers || self.has_ended(header.initiator_task_tag.get());
        let old = (Pending::OldData(*header), Place::Discard);
        let stranger = || match forgiven {
            true => Ok((Pending::OldData(*header), Place::Discard)),
            false => Err(ConnectionError::Format("Data-In for a task that does not exist")),
        };
        let Some(id) = self.tasks.by_tag(header.initiator_task_tag.get()) else { return stranger() };
        let Some(task) = self.tasks.get_mut(id).filter(|task| task.is_with(c) && task.outcome.is_none()) else {
            return stranger();
        };
        let (length, offset) = (header.header().data_segment_bytes(), header.buffer_offset.get());
        if !task.reads() {
            return Err(ConnectionError::Format("Data-In for a command that does not read"));
        }
        if u64::from(offset) + u64::from(length) > u64::from(task.command.data_in) {
            return Err(ConnectionError::Format("Data-In beyond the command's data"));
        }
        if header.flags & STATUS != 0 && header.status == CHECK_CONDITION {
            return Err(ConnectionError::Format("CHECK CONDITION without sense data"));
        }
        if header.flags & ACKNOWLEDGE != 0 && recovers && header.lun != task.command.lun {
            return Err(ConnectionError::Format("Data-In with another unit than its task's"));
        }
        let data_sn = header.data_sn.get();
        if task.has_data(data_sn) {
            return match recovers {
                true => Ok(old),
                false => Err(ConnectionError::Format("a DataSN came twice")),
            };
        }
        if data_sn != task.data_sn && !recovers {
            return Err(ConnectionError::Format("a DataSN was left out"));
        }
        if data_sn.wrapping_sub(task.data_sn) > DATA_AHEAD {
            return Err(ConnectionError::Format("a DataSN far from the one that was due"));
        }
        Ok((Pending::DataIn(id, *header), Place::Task { task: id, offset }))
    }

    /// Data that is new, in its place.
    pub(super) fn data_in_arrived(
        &mut self,
        c: ConnectionId,
        id: TaskId,
        header: &DataIn,
    ) -> Result<(), ConnectionError> {
        self.numbers(header.header());
        self.expect_data_until(c, id, header.data_sn.get());
        let ordered = self.parameters.data_pdu_in_order && self.parameters.data_sequence_in_order;
        let Some(task) = self.tasks.get_mut(id) else {
            // A function on another connection has ended it while this arrived; its status still counts.
            return self.old_data_arrived(c, header);
        };
        task.known = true;
        let length = header.header().data_segment_bytes();
        let arrived = Early { data_sn: header.data_sn.get(), offset: header.buffer_offset.get(), length };
        if at_most(task.data_end, arrived.data_sn) {
            task.data_end = arrived.data_sn.wrapping_add(1);
        }
        let mut next = match arrived.data_sn == task.data_sn {
            true => Some(arrived),
            false => {
                task.early.push(arrived);
                None
            }
        };
        while let Some(Early { offset, length, .. }) = next {
            // What overlaps or leaves a gap is not what was read, however its PDUs are numbered (DAT-07).
            if ordered && length > 0 && offset != task.received.prefix() || !task.received.add(offset, length) {
                return Err(ConnectionError::Format("Data-In out of the order of its offsets"));
            }
            task.data_sn = task.data_sn.wrapping_add(1);
            let at = task.early.iter().position(|early| early.data_sn == task.data_sn);
            next = at.map(|at| task.early.swap_remove(at));
        }
        if !task.has_hole() {
            (task.missing_since, task.asked) = (None, 0);
        }
        if header.flags & ACKNOWLEDGE != 0 {
            let next = header.data_sn.get().wrapping_add(1);
            task.wants_ack = Some((next, header.target_transfer_tag.get(), header.lun));
        }
        self.acknowledge_data(c, id);
        self.data_in_status(c, header)?;
        self.conclude(id);
        Ok(())
    }

    /// Data that was here before may carry a status that was not.
    pub(super) fn old_data_arrived(&mut self, c: ConnectionId, header: &DataIn) -> Result<(), ConnectionError> {
        self.numbers(header.header());
        self.data_in_status(c, header)
    }

    /// Data of lower numbers than this was sent: what of it has not come is asked for.
    pub(super) fn expect_data_until(&mut self, c: ConnectionId, id: TaskId, data_sn: u32) {
        let now = self.connection(c).map(|connection| connection.last_heard);
        let Some(task) = self.tasks.get_mut(id) else { return };
        if precedes(task.data_end, data_sn) {
            let (first, count) = (task.data_end, data_sn.wrapping_sub(task.data_end));
            task.data_end = data_sn;
            task.missing_since = task.missing_since.or(now);
            self.queue(c, Outgoing::MissingData { task: id, first, count });
        }
    }

    fn data_in_status(&mut self, c: ConnectionId, header: &DataIn) -> Result<(), ConnectionError> {
        if header.flags & STATUS == 0 {
            return Ok(());
        }
        if self.status(c, header.stat_sn.get())? == Status::New
            && let Some(id) = self.tasks.by_tag(header.initiator_task_tag.get())
            && self.tasks.get(id).is_some_and(|task| task.is_with(c))
        {
            let answer = Answer {
                stat_sn: header.stat_sn.get(),
                data_pdus: header.data_sn.get().wrapping_add(1),
                response: 0,
                status: header.status,
                sense: Vec::new(),
                residual: residual(header.flags, header.residual_count.get(), 0x04, 0x02),
                read_residual: 0,
            };
            self.answered(c, id, answer);
        }
        self.release_held(c)
    }

    /// A DataACK that was asked for, once no data is missing before it (§11.16.2).
    pub(super) fn acknowledge_data(&mut self, c: ConnectionId, id: TaskId) {
        let recovers = self.recovers();
        let Some(task) = self.tasks.get_mut(id) else { return };
        if task.has_hole() || !recovers {
            return;
        }
        if let Some((next, target_transfer_tag, lun)) = task.wants_ack.take() {
            task.data_acknowledged = next;
            let Some(connection) = self.connection_mut(c) else { return };
            // The last one says what those before it would.
            let waiting = |one: &Outgoing| matches!(one, Outgoing::DataAck { task, .. } if *task == id);
            connection.outgoing.retain(|one| !waiting(one));
            connection.outgoing.push_back(Outgoing::DataAck { task: id, next, target_transfer_tag, lun });
        }
    }

    pub(super) fn scsi_response(
        &mut self,
        c: ConnectionId,
        header: &ScsiResponse,
        data: &[u8],
    ) -> Result<(), ConnectionError> {
        let recovers = self.recovers();
        let found = self.tasks.by_tag(header.initiator_task_tag.get());
        let task = found.and_then(|id| self.tasks.get(id)).filter(|task| task.is_with(c) && task.outcome.is_none());
        let (Some(id), Some(task)) = (found, task) else {
            return match recovers || self.has_ended(header.initiator_task_tag.get()) {
                true => Ok(()),
                false => Err(ConnectionError::Format("a response for a task that does not exist")),
            };
        };
        let sense = match data {
            [] => &[][..],
            [high, low, rest @ ..] => rest
                .get(..usize::from(u16::from_be_bytes([*high, *low])))
                .ok_or(ConnectionError::Format("SenseLength above the data segment"))?,
            [_] => return Err(ConnectionError::Format("a data segment without its SenseLength")),
        };
        if header.response == 0 && header.status == CHECK_CONDITION && sense.is_empty() {
            return Err(ConnectionError::Format("CHECK CONDITION without sense data"));
        }
        // Of a command that does both, R2Ts count too (§11.4.8). Level 0 has nothing to count for.
        let sent = header.exp_data_sn.get();
        let sent = if task.writes() { sent.wrapping_sub(task.r2t_sn) } else { sent };
        let counts = recovers && task.reads() && header.response == 0;
        let data_pdus = if counts { sent } else { task.data_end };
        if counts && (precedes(data_pdus, task.data_end) || data_pdus.wrapping_sub(task.data_sn) > DATA_AHEAD) {
            return Err(ConnectionError::Format("ExpDataSN is not the number of data PDUs"));
        }
        let mut answer = Answer {
            stat_sn: header.stat_sn.get(),
            data_pdus,
            response: header.response,
            status: header.status,
            sense: sense.to_vec(),
            residual: residual(header.flags, header.residual_count.get(), 0x04, 0x02),
            read_residual: 0,
        };
        if task.reads() && task.writes() {
            answer.read_residual = residual(header.flags, header.bidirectional_read_residual_count.get(), 0x10, 0x08);
        }
        self.answered(c, id, answer);
        Ok(())
    }

    /// The target's last word on a task. The task is over once its data is whole.
    fn answered(&mut self, c: ConnectionId, id: TaskId, answer: Answer) {
        self.expect_data_until(c, id, answer.data_pdus);
        let Some(task) = self.tasks.get_mut(id) else { return };
        if task.answer.is_some() || task.outcome.is_some() {
            return;
        }
        task.known = true;
        let stat_sn = answer.stat_sn;
        let whole = !task.has_hole();
        task.answer = Some(answer);
        if !whole && let Some(connection) = self.connection_mut(c) {
            connection.withheld.push(stat_sn);
        }
        self.conclude(id);
    }

    /// Ends a task that is answered and whose data is whole, or will never be.
    pub(super) fn conclude(&mut self, id: TaskId) {
        let Some(task) = self.tasks.get_mut(id) else { return };
        if task.answer.is_none() || task.has_hole() && !task.unrecoverable {
            return;
        }
        let broken = task.has_hole();
        let (data_in, data_out) = (task.received.prefix(), task.fetched.min(task.command.data_out));
        let Some(answer) = task.answer.clone() else { return };
        let outcome = match broken {
            false => Outcome::Answered {
                response: answer.response,
                status: answer.status,
                sense: answer.sense,
                residual: answer.residual,
                read_residual: answer.read_residual,
                data_in,
                data_out,
            },
            // What came is not all that was sent, and it never will be (§7.8).
            true => Outcome::Answered {
                response: 0,
                status: CHECK_CONDITION,
                sense: CRC_ERROR_SENSE.to_vec(),
                residual: 0,
                read_residual: 0,
                data_in: 0,
                data_out,
            },
        };
        self.finish(id, outcome);
    }

    /// The task is over. It is told when no batch names its memory any more.
    pub(super) fn finish(&mut self, id: TaskId, outcome: Outcome) {
        let Some(task) = self.tasks.get_mut(id) else { return };
        task.grants.clear();
        let (tag, aborted) = (task.tag, outcome == Outcome::Aborted);
        task.outcome.get_or_insert(outcome);
        // Its status need not wait for its data any more.
        if let (Some(answer), Allegiance::With(c)) = (task.answer.take(), task.allegiance)
            && let Some(connection) = self.connection_mut(c)
        {
            connection.withheld.retain(|stat_sn| *stat_sn != answer.stat_sn);
        }
        if aborted {
            if self.ended.len() >= ENDED {
                self.ended.pop_front();
            }
            self.ended.push_back(tag);
        }
        self.release(id);
    }

    /// Gives a task's memory back, where nothing holds it.
    pub(super) fn release(&mut self, id: TaskId) {
        let Some(task) = self.tasks.get_mut(id) else { return };
        if task.in_batch > 0 {
            return;
        }
        if let Some(outcome) = task.outcome.take() {
            // What the target has answered it has, whatever its ExpCmdSN says.
            let (cmd_sn, owed) = (task.cmd_sn, !task.command.immediate && !task.known);
            self.tasks.remove(id);
            if owed && !self.window.is_acknowledged(cmd_sn) {
                let window = &self.window;
                self.unowned.retain(|(unowned, _)| !window.is_acknowledged(*unowned));
                self.unowned.push((cmd_sn, self.heard));
            }
            self.tell(Event::Completed(id, outcome));
            self.over_when_empty();
        }
    }
}

/// Residual: positive what the unit wanted to move beyond what was expected.
fn residual(flags: u8, count: u32, overflow: u8, underflow: u8) -> i64 {
    match (flags & overflow != 0, flags & underflow != 0) {
        (true, false) => i64::from(count),
        (false, true) => -i64::from(count),
        _ => 0,
    }
}
