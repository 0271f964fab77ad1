//! What goes to the initiator: many PDUs in one batch, headers from an arena, payload from where it is.

use super::connection::{ConnectionId, Outgoing};
use super::task::{Grant, TaskId};
use super::{Session, SessionKind};
use crate::wire::{
    AsyncMessage, CONTINUE, DataIn, FINAL, LogoutResponse, NopIn, Pdu, RESERVED_TAG, ReadyToTransfer, Reject,
    ScsiResponse, TaskManagementResponse, TextResponse, padding,
};
use std::ops::Range;

/// A piece of a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Segment {
    /// Bytes of [`TxBatch::arena`].
    Arena(Range<usize>),
    /// Bytes of a task's memory.
    Payload {
        /// The task.
        task: TaskId,
        /// First byte.
        offset: u32,
        /// Number of bytes.
        length: u32,
    },
}

/// A digest that the driver computes and writes into the arena before the batch leaves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Digest {
    /// Over bytes of the arena.
    Arena {
        /// What it covers.
        over: Range<usize>,
        /// Where its four bytes go.
        at: usize,
    },
    /// Over bytes of a task's memory and padding of zeros.
    Payload {
        /// The task.
        task: TaskId,
        /// First byte.
        offset: u32,
        /// Number of bytes.
        length: u32,
        /// Zero bytes behind them.
        padding: u32,
        /// Where its four bytes go.
        at: usize,
    },
}

/// PDUs that are ready to be sent, as one list of pieces. Used again and again.
#[derive(Debug, Default)]
pub struct TxBatch {
    /// Headers, small data, padding and digests.
    pub arena: Vec<u8>,
    /// The pieces, in order.
    pub segments: Vec<Segment>,
    /// Digests that are still to be computed.
    pub digests: Vec<Digest>,
    /// Tasks whose last byte is in this batch: when it has left they are over.
    pub finished: Vec<TaskId>,
    /// The task whose data goes on in the next batch.
    unfinished: Option<TaskId>,
    payload_bytes: usize,
}

/// A batch is full with this much payload, so that a large read does not hold up its neighbours…
const BATCH_PAYLOAD_BYTES: usize = 1 << 20;
/// …or with this much in its arena.
const BATCH_ARENA_BYTES: usize = 128 << 10;
/// Pieces that one system call takes (IOV_MAX is 1,024).
const BATCH_SEGMENTS: usize = 500;

impl TxBatch {
    /// Empties it, keeping its memory.
    pub fn clear(&mut self) {
        self.arena.clear();
        self.segments.clear();
        self.digests.clear();
        self.finished.clear();
        self.unfinished = None;
        self.payload_bytes = 0;
    }

    /// Whether there is nothing to send.
    pub fn is_empty(&self) -> bool {
        self.segments.is_empty()
    }

    pub(crate) fn is_full(&self) -> bool {
        self.payload_bytes >= BATCH_PAYLOAD_BYTES
            || self.arena.len() >= BATCH_ARENA_BYTES
            || self.segments.len() >= BATCH_SEGMENTS
    }

    fn push_arena(&mut self, from: usize) {
        let to = self.arena.len();
        match self.segments.last_mut() {
            Some(Segment::Arena(range)) if range.end == from => range.end = to,
            _ => self.segments.push(Segment::Arena(from..to)),
        }
    }

    pub(crate) fn push_header(&mut self, header: &impl Pdu, parameters: &crate::key::ConnectionParameters) {
        let from = self.arena.len();
        self.arena.extend_from_slice(header.as_bytes());
        if parameters.header_digest {
            let at = self.arena.len();
            self.digests.push(Digest::Arena { over: from..at, at });
            self.arena.extend_from_slice(&[0; 4]);
        }
        self.push_arena(from);
    }

    /// A PDU whose data segment is small and comes from here.
    pub(crate) fn push_small(
        &mut self,
        header: &mut impl Pdu,
        data: &[u8],
        parameters: &crate::key::ConnectionParameters,
    ) {
        header.set_data_segment_bytes(data.len() as u32);
        self.push_header(header, parameters);
        if data.is_empty() {
            return;
        }
        let from = self.arena.len();
        self.arena.extend_from_slice(data);
        let pad = padding(data.len() as u32) as usize;
        self.arena.extend_from_slice(&[0; 3][..pad]);
        if parameters.data_digest {
            let at = self.arena.len();
            self.digests.push(Digest::Arena { over: from..at, at });
            self.arena.extend_from_slice(&[0; 4]);
        }
        self.push_arena(from);
    }

    pub(crate) fn push_payload(
        &mut self,
        task: TaskId,
        offset: u32,
        length: u32,
        parameters: &crate::key::ConnectionParameters,
    ) {
        self.segments.push(Segment::Payload { task, offset, length });
        self.payload_bytes += length as usize;
        let pad = padding(length);
        let from = self.arena.len();
        self.arena.extend_from_slice(&[0; 3][..pad as usize]);
        if parameters.data_digest {
            let at = self.arena.len();
            self.digests.push(Digest::Payload { task, offset, length, padding: pad, at });
            self.arena.extend_from_slice(&[0; 4]);
        }
        if self.arena.len() > from {
            self.push_arena(from);
        }
    }
}

/// How an answer went.
enum Answered {
    Whole,
    Partly,
}

impl Session {
    /// Adds PDUs of the connection to the batch until it is full or there are none.
    pub fn poll_transmit(&mut self, c: ConnectionId, out: &mut TxBatch) {
        while !out.is_full() {
            let Some(connection) = self.connections.get_mut(c.0).and_then(Option::as_mut) else { return };
            let Some(next) = connection.next() else { break };
            match next {
                Outgoing::Answer(id) => {
                    if let Answered::Partly = self.answer(c, id, out)
                        && let Some(connection) = self.connection_mut(c)
                    {
                        connection.outgoing.push_front(Outgoing::Answer(id));
                    }
                }
                Outgoing::ReadyToTransfer(id) => self.ready_to_transfer(c, id, out),
                other => self.small(c, other, out),
            }
        }
        if out.is_empty() && self.kind == SessionKind::Normal && self.window.must_be_told() {
            self.small(c, Outgoing::Ping { target_transfer_tag: RESERVED_TAG }, out);
        }
    }

    /// The batch is on the wire: the tasks that it finished are over.
    pub fn transmitted(&mut self, batch: &TxBatch) {
        for id in batch.finished.iter().chain(&batch.unfinished) {
            if let Some(task) = self.tasks.get_mut(*id) {
                task.in_batch = false;
            }
        }
        for id in &batch.finished {
            self.release(*id);
        }
        // It may have been aborted meanwhile.
        if let Some(id) = batch.unfinished {
            self.settle(id);
        }
    }

    /// Data-In PDUs and the status of a task, as many as fit.
    fn answer(&mut self, c: ConnectionId, id: TaskId, out: &mut TxBatch) -> Answered {
        let Some(task) = self.tasks.get_mut(id) else { return Answered::Whole };
        let Some(response) = task.response.take() else { return Answered::Whole };
        let Some(connection) = self.connections.get_mut(c.0).and_then(Option::as_mut) else { return Answered::Whole };
        let segment = connection.parameters.max_send_data_segment_length;
        let residual = Residual::of(task, &response);
        // Only the last segment has a length that needs padding (DAT-14). Both are at least 512.
        let (segment, burst) = (segment & !3, self.parameters.max_burst_length & !3);
        let collapse = response.status == 0 && response.sense.is_none() && !(task.reads() && task.writes());
        while task.sent < response.data_in {
            if out.is_full() {
                task.response = Some(response);
                out.unfinished = task.in_batch.then_some(id);
                return Answered::Partly;
            }
            let burst_left = burst - task.sent % burst;
            let length = (response.data_in - task.sent).min(segment).min(burst_left);
            let last = task.sent + length == response.data_in;
            let mut header = DataIn::empty();
            header.set_data_segment_bytes(length);
            header.lun = [0; 8];
            header.initiator_task_tag = task.initiator_task_tag.into();
            header.target_transfer_tag = RESERVED_TAG.into();
            header.data_sn = task.data_sn.into();
            header.buffer_offset = task.sent.into();
            if last || length == burst_left {
                header.flags |= FINAL;
            }
            if last && collapse {
                // The credit goes back with the status that gives it, so that MaxCmdSN can tell.
                if std::mem::take(&mut task.holds_credit) {
                    self.window.give_credit();
                }
                header.flags |= 0x01 | residual.flags;
                header.status = response.status;
                header.residual_count = residual.count.into();
                header.stat_sn = connection.take_stat_sn().into();
            }
            let (exp_cmd_sn, max_cmd_sn) = self.window.tell();
            header.exp_cmd_sn = exp_cmd_sn.into();
            header.max_cmd_sn = max_cmd_sn.into();
            out.push_header(&header, &connection.parameters);
            task.in_batch = true;
            out.push_payload(id, task.sent, length, &connection.parameters);
            task.data_sn = task.data_sn.wrapping_add(1);
            task.sent += length;
        }
        task.in_batch = true;
        out.finished.push(id);
        if collapse && response.data_in > 0 {
            return Answered::Whole;
        }
        if std::mem::take(&mut task.holds_credit) {
            self.window.give_credit();
        }
        let mut header = ScsiResponse::empty();
        header.flags = FINAL | residual.flags;
        header.status = response.status;
        header.initiator_task_tag = task.initiator_task_tag.into();
        header.exp_data_sn = task.data_sn.wrapping_add(task.r2t_sn).into();
        header.residual_count = residual.count.into();
        header.bidirectional_read_residual_count = residual.read_count.into();
        header.stat_sn = connection.take_stat_sn().into();
        let (exp_cmd_sn, max_cmd_sn) = self.window.tell();
        header.exp_cmd_sn = exp_cmd_sn.into();
        header.max_cmd_sn = max_cmd_sn.into();
        match &response.sense {
            None => out.push_small(&mut header, &[], &connection.parameters),
            Some(sense) => {
                let mut data = [0u8; 256];
                let length = sense.len().min(252);
                data[..2].copy_from_slice(&(length as u16).to_be_bytes());
                data[2..2 + length].copy_from_slice(&sense[..length]);
                let limit = (2 + length).min(segment as usize);
                out.push_small(&mut header, &data[..limit], &connection.parameters);
            }
        }
        Answered::Whole
    }

    /// As many R2Ts as may be outstanding.
    fn ready_to_transfer(&mut self, c: ConnectionId, id: TaskId, out: &mut TxBatch) {
        let Some(task) = self.tasks.get_mut(id) else { return };
        let Some(connection) = self.connections.get_mut(c.0).and_then(Option::as_mut) else { return };
        task.r2t_queued = false;
        let wanted = match task.phase {
            super::task::Phase::Active if task.fault.is_none() => task.wanted.unwrap_or(0),
            _ => return,
        };
        while (task.grants.len() as u32) < self.parameters.max_outstanding_r2t && task.granted < wanted {
            let length = (wanted - task.granted).min(self.parameters.max_burst_length);
            // Slot and a running number: unique among the outstanding, never the reserved tag.
            let tag = (id.slot() as u32 & 0x7fff) << 16 | task.r2t_sn & 0xffff;
            let mut header = ReadyToTransfer::empty();
            header.flags = FINAL;
            header.lun = task.lun;
            header.initiator_task_tag = task.initiator_task_tag.into();
            header.target_transfer_tag = tag.into();
            header.stat_sn = connection.stat_sn.into();
            let (exp_cmd_sn, max_cmd_sn) = self.window.tell();
            header.exp_cmd_sn = exp_cmd_sn.into();
            header.max_cmd_sn = max_cmd_sn.into();
            header.r2t_sn = task.r2t_sn.into();
            header.buffer_offset = task.granted.into();
            header.desired_data_transfer_length = length.into();
            out.push_header(&header, &connection.parameters);
            task.grants.push(Grant {
                target_transfer_tag: tag,
                offset: task.granted,
                length,
                received: 0,
                next_data_sn: 0,
            });
            task.granted += length;
            task.r2t_sn = task.r2t_sn.wrapping_add(1);
        }
    }

    fn small(&mut self, c: ConnectionId, outgoing: Outgoing, out: &mut TxBatch) {
        let (exp_cmd_sn, max_cmd_sn) = self.window.tell();
        let Some(connection) = self.connections.get_mut(c.0).and_then(Option::as_mut) else { return };
        let segment = connection.parameters.max_send_data_segment_length as usize;
        macro_rules! numbered {
            ($header:ident, $stat_sn:expr) => {
                $header.stat_sn = $stat_sn.into();
                $header.exp_cmd_sn = exp_cmd_sn.into();
                $header.max_cmd_sn = max_cmd_sn.into();
            };
        }
        match outgoing {
            Outgoing::Answer(_) | Outgoing::ReadyToTransfer(_) => {}
            Outgoing::PingAnswer { initiator_task_tag, lun, data } => {
                let mut header = NopIn::empty();
                header.flags = FINAL;
                header.lun = lun;
                header.initiator_task_tag = initiator_task_tag.into();
                header.target_transfer_tag = RESERVED_TAG.into();
                numbered!(header, connection.take_stat_sn());
                out.push_small(&mut header, &data[..data.len().min(segment)], &connection.parameters);
            }
            Outgoing::Ping { target_transfer_tag } => {
                let mut header = NopIn::empty();
                header.flags = FINAL;
                header.initiator_task_tag = RESERVED_TAG.into();
                header.target_transfer_tag = target_transfer_tag.into();
                numbered!(header, connection.stat_sn);
                out.push_small(&mut header, &[], &connection.parameters);
            }
            Outgoing::TaskManagement { initiator_task_tag, response, additional } => {
                let mut header = TaskManagementResponse::empty();
                header.flags = FINAL;
                header.response = response;
                header.reserved_2[..3].copy_from_slice(&additional);
                header.initiator_task_tag = initiator_task_tag.into();
                numbered!(header, connection.take_stat_sn());
                out.push_small(&mut header, &[], &connection.parameters);
            }
            Outgoing::Text { initiator_task_tag, final_bit, continues, target_transfer_tag, data } => {
                let mut header = TextResponse::empty();
                header.flags = if final_bit { FINAL } else { 0 } | if continues { CONTINUE } else { 0 };
                header.initiator_task_tag = initiator_task_tag.into();
                header.target_transfer_tag = target_transfer_tag.into();
                numbered!(header, connection.take_stat_sn());
                out.push_small(&mut header, &data, &connection.parameters);
            }
            Outgoing::Logout { initiator_task_tag, response, close } => {
                let mut header = LogoutResponse::empty();
                header.flags = FINAL;
                header.response = response;
                header.initiator_task_tag = initiator_task_tag.into();
                header.time_2_wait = u16::try_from(self.parameters.default_time_2_wait).unwrap_or(u16::MAX).into();
                header.time_2_retain = u16::try_from(self.parameters.default_time_2_retain).unwrap_or(u16::MAX).into();
                numbered!(header, connection.take_stat_sn());
                out.push_small(&mut header, &[], &connection.parameters);
                connection.closing |= close;
            }
            Outgoing::Reject { reason, header: refused } => {
                let mut header = Reject::empty();
                header.flags = FINAL;
                header.reason = reason as u8;
                header.initiator_task_tag = RESERVED_TAG.into();
                numbered!(header, connection.take_stat_sn());
                out.push_small(&mut header, &refused[..refused.len().min(segment)], &connection.parameters);
            }
            Outgoing::Async { event, parameters: [parameter_1, parameter_2, parameter_3] } => {
                let mut header = AsyncMessage::empty();
                header.flags = FINAL;
                header.initiator_task_tag = RESERVED_TAG.into();
                header.event = event as u8;
                header.parameter_1 = parameter_1.into();
                header.parameter_2 = parameter_2.into();
                header.parameter_3 = parameter_3.into();
                numbered!(header, connection.take_stat_sn());
                out.push_small(&mut header, &[], &connection.parameters);
            }
        }
    }
}

/// What a SCSI Response says of data that was expected and not moved, or wanted and not expected (RFC
/// 7143 §11.4.5).
#[derive(Debug, PartialEq, Eq)]
struct Residual {
    /// O or U for the one direction of the task, or for its write; o or u for the read beside a write.
    flags: u8,
    count: u32,
    read_count: u32,
}

impl Residual {
    /// Data that a command wanted to move in another direction than the initiator expects is not moved:
    /// all that was expected is the residual.
    fn of(task: &super::task::Task, response: &super::task::Response) -> Residual {
        let wanted = response.transfer_length;
        let (wanted_in, wanted_out) = if response.outward { (0, wanted) } else { (wanted, 0) };
        let expected = u64::from(task.expected_data_transfer_length);
        let (flags, count, read_count) = match (task.reads(), task.writes()) {
            (false, false) => {
                let (flags, count) = difference(0, wanted);
                (flags, count, 0)
            }
            (true, false) => {
                let (flags, count) = difference(expected, wanted_in);
                (flags, count, 0)
            }
            (false, true) => {
                let (flags, count) = difference(expected, wanted_out);
                (flags, count, 0)
            }
            (true, true) => {
                let (flags, count) = difference(expected, wanted_out);
                let (read_flags, read_count) = difference(u64::from(task.bidirectional_read_length), wanted_in);
                (flags | read_flags << 2, count, read_count)
            }
        };
        Residual { flags, count, read_count }
    }
}

/// 04h overflow or 02h underflow, and its count.
fn difference(expected: u64, wanted: u64) -> (u8, u32) {
    let clamp = |count: u64| u32::try_from(count).unwrap_or(u32::MAX);
    match wanted.cmp(&expected) {
        std::cmp::Ordering::Greater => (0x04, clamp(wanted - expected)),
        std::cmp::Ordering::Less => (0x02, clamp(expected - wanted)),
        std::cmp::Ordering::Equal => (0, 0),
    }
}

#[cfg(test)]
mod tests {
    use super::difference;

    #[test]
    fn rsp_04_residuals_are_counted_from_what_the_command_wanted() {
        assert_eq!(difference(512, 512), (0, 0));
        assert_eq!(difference(512, 1024), (0x04, 512));
        assert_eq!(difference(1024, 512), (0x02, 512));
        assert_eq!(difference(0, 512), (0x04, 512), "RSP-06: neither R nor W");
        assert_eq!(difference(0, u64::MAX), (0x04, u32::MAX));
    }
}
