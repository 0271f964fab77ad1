//! What goes to the initiator: many PDUs in one batch, headers from an arena, payload from where it is.

use super::connection::{ConnectionId, Outgoing};
use super::retention::{Kept, Sent, acknowledge_tag, sent_as};
use super::task::{Base, Grant, KeptStatus, Response, Task, TaskId};
use super::{Session, SessionKind};
use crate::serial::{at_most, precedes};
use crate::wire::{
    AsyncMessage, BHS_BYTES, CONTINUE, DataIn, FINAL, LogoutResponse, NopIn, Pdu, RESERVED_TAG, ReadyToTransfer,
    Reject, ScsiResponse, TaskManagementResponse, TextResponse, padding,
};
use std::ops::Range;
use zerocopy::IntoBytes;

/// A of a Data-In PDU (§11.7.2).
const ACKNOWLEDGE: u8 = 0x40;
/// S of a Data-In PDU (§11.7.3).
const STATUS: u8 = 0x01;

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
    /// Tasks that are named in this batch and are not over with it.
    named: Vec<TaskId>,
    payload_bytes: usize,
}

/// A batch is full with this much payload, so that a large read does not hold up its neighbours…
const BATCH_PAYLOAD_BYTES: usize = 1 << 20;
/// …or with this much in its arena.
const BATCH_ARENA_BYTES: usize = 128 << 10;
/// Pieces that one system call takes (IOV_MAX is 1,024).
const BATCH_SEGMENTS: usize = 500;

impl TxBatch {
    /// Whether tasks go on, or are over, once it has left.
    pub fn names_tasks(&self) -> bool {
        !self.finished.is_empty() || !self.named.is_empty()
    }

    /// Empties it, keeping its memory.
    pub fn clear(&mut self) {
        self.arena.clear();
        self.segments.clear();
        self.digests.clear();
        self.finished.clear();
        self.named.clear();
        self.payload_bytes = 0;
    }

    /// These bytes and nothing else.
    pub fn plain(bytes: Vec<u8>) -> TxBatch {
        let segments = vec![Segment::Arena(0..bytes.len())];
        TxBatch { arena: bytes, segments, ..TxBatch::default() }
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
        self.push_header_with(header, &[], parameters);
    }

    /// A header and its additional segments, which are whole words and counted in it.
    pub(crate) fn push_header_with(
        &mut self,
        header: &impl Pdu,
        additional: &[u8],
        parameters: &crate::key::ConnectionParameters,
    ) {
        let from = self.arena.len();
        self.arena.extend_from_slice(header.as_bytes());
        self.arena.extend_from_slice(additional);
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

    /// A PDU as it was sent before, header and data segment, with these ExpCmdSN and MaxCmdSN.
    fn push_copy(
        &mut self,
        bytes: &[u8],
        (exp_cmd_sn, max_cmd_sn): (u32, u32),
        parameters: &crate::key::ConnectionParameters,
    ) {
        let Some((first, data)) = bytes.split_first_chunk::<BHS_BYTES>() else { return };
        // All that a target sends has them in these places.
        let mut header = NopIn::empty();
        header.as_mut_bytes().copy_from_slice(first);
        header.exp_cmd_sn = exp_cmd_sn.into();
        header.max_cmd_sn = max_cmd_sn.into();
        self.push_small(&mut header, data, parameters);
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

impl Session {
    /// Adds PDUs of the connection to the batch until it is full or there are none.
    pub fn poll_transmit(&mut self, c: ConnectionId, out: &mut TxBatch) {
        while !out.is_full() {
            let Some(connection) = self.connections.get_mut(c) else { return };
            if connection.logged_out && connection.closing {
                break;
            }
            let Some(next) = connection.next() else { break };
            match next {
                Outgoing::Answer(id) => {
                    if self.answer(c, id, out) {
                        self.requeue(c, Outgoing::Answer(id));
                    }
                }
                Outgoing::ReadyToTransfer(id) => self.ready_to_transfer(c, id, out),
                Outgoing::ReadyToTransferAgain { task, from, to } => {
                    self.ready_to_transfer_again(c, task, from..to, out);
                }
                Outgoing::DataAgain { task, from, to } => {
                    if let Some(from) = self.data_again(c, task, from, to, out) {
                        self.requeue(c, Outgoing::DataAgain { task, from, to });
                    }
                }
                Outgoing::StatusAgain { from, to } => {
                    if let Some(from) = self.status_again(c, from, to, out) {
                        self.requeue(c, Outgoing::StatusAgain { from, to });
                    }
                }
                Outgoing::FenceMark { number } => self.fence_mark_passed(c, number),
                other => self.small(c, other, out),
            }
        }
        if out.is_empty() && self.kind == SessionKind::Normal && self.window.must_be_told() {
            self.small(c, Outgoing::Ping { target_transfer_tag: RESERVED_TAG }, out);
        }
    }

    /// What could not be sent wholly goes on at once.
    fn requeue(&mut self, c: ConnectionId, rest: Outgoing) {
        if let Some(connection) = self.connections.get_mut(c) {
            connection.requeue(rest);
        }
    }

    /// The batch is on the wire: the tasks that it finished are over, unless their status may still be asked
    /// for.
    pub fn transmitted(&mut self, batch: &TxBatch) {
        for id in batch.finished.iter().chain(&batch.named) {
            if let Some(task) = self.tasks.get_mut(*id) {
                task.in_batch = false;
            }
        }
        for id in &batch.finished {
            let Some(task) = self.tasks.get(*id) else { continue };
            if task.response.is_some() {
                // A SNACK made it begin anew meanwhile.
                self.settle(*id);
            } else if task.kept.is_none() || task.let_go {
                self.release(*id);
            }
        }
        for id in &batch.named {
            let Some(task) = self.tasks.get(*id) else { continue };
            if task.let_go {
                self.release(*id);
            } else if task.kept.is_none() {
                // It may have been aborted meanwhile.
                self.settle(*id);
            }
        }
    }

    /// Bytes of a data segment to the initiator. Only the last of a sequence has a length that needs padding
    /// (DAT-14); both limits are at least 512.
    pub(super) fn segment(&self, c: ConnectionId) -> u32 {
        self.connections.get(c).map_or(512, |connection| connection.parameters.max_send_data_segment_length & !3)
    }

    /// Data-In PDUs and the status of a task, as many as fit. True: there are more.
    fn answer(&mut self, c: ConnectionId, id: TaskId, out: &mut TxBatch) -> bool {
        let keeps = self.keeps();
        let Some(task) = self.tasks.get_mut(id) else { return false };
        let Some(response) = task.response.take() else { return false };
        let Some(connection) = self.connections.get_mut(c) else { return false };
        let segment = connection.parameters.max_send_data_segment_length;
        let residual = Residual::of(task, &response);
        let (segment, burst) = (segment & !3, self.parameters.max_burst_length & !3);
        if task.base.segment == 0 {
            task.base.segment = segment;
        }
        let collapse =
            response.status == 0 && response.sense.is_none() && task.snack_tag == 0 && !(task.reads() && task.writes());
        while task.sent < response.data_in {
            if out.is_full() {
                task.response = Some(response);
                if task.in_batch {
                    out.named.push(id);
                }
                return true;
            }
            let piece = Piece::at(&task.base, task.sent, response.data_in, burst);
            let mut header = data_in_header(task, &piece, task.data_sn);
            if keeps && piece.ends_sequence && !piece.last {
                ask_for_acknowledgment(&mut header, id, task.lun);
            }
            if piece.last && collapse {
                // The credit goes back with the status that gives it, so that MaxCmdSN can tell.
                if std::mem::take(&mut task.holds_credit) {
                    self.window.give_credit();
                }
                let stat_sn = connection.take_stat_sn();
                put_status(&mut header, &response, &residual, stat_sn);
            }
            push_data_in(task, id, &piece, &mut header, self.window.tell(), &connection.parameters, out);
            task.data_sn = task.data_sn.wrapping_add(1);
            task.sent += piece.length;
            if piece.last && collapse {
                let stat_sn = header.stat_sn.get();
                self.answered(c, id, KeptStatus { response, stat_sn, in_data: true }, true, out);
                return false;
            }
        }
        task.in_batch = true;
        if std::mem::take(&mut task.holds_credit) {
            self.window.give_credit();
        }
        let again = task.stat_sn.take();
        let stat_sn = again.unwrap_or_else(|| connection.take_stat_sn());
        let told = self.window.tell();
        push_response(task, &response, &residual, stat_sn, told, segment, &connection.parameters, out);
        // Behind an R-Data SNACK it is kept under this number already.
        self.answered(c, id, KeptStatus { response, stat_sn, in_data: false }, again.is_none(), out);
        false
    }

    /// The status of a task is in the batch.
    #[inline]
    fn answered(&mut self, c: ConnectionId, id: TaskId, status: KeptStatus, is_new: bool, out: &mut TxBatch) {
        out.finished.push(id);
        if self.keeps() || !self.fences.is_empty() {
            self.answered_and_watched(c, id, status, is_new);
        }
    }

    /// The same where somebody may ask for it again, or waits for it to be acknowledged.
    #[cold]
    fn answered_and_watched(&mut self, c: ConnectionId, id: TaskId, status: KeptStatus, is_new: bool) {
        if !self.fences.is_empty() {
            self.fence_sent(id, status.stat_sn);
        }
        if !self.keeps() {
            return;
        }
        let Some(task) = self.tasks.get_mut(id) else { return };
        let stat_sn = status.stat_sn;
        self.retained_bytes += status.response.data_in as usize;
        task.kept = Some(Box::new(status));
        task.answer_queued = false;
        if is_new {
            self.keep(c, Sent { stat_sn, what: Kept::Task(id) });
        }
    }

    /// Data-In PDUs as they were sent before. Returns the number from which to go on.
    fn data_again(&mut self, c: ConnectionId, id: TaskId, from: u32, to: u32, out: &mut TxBatch) -> Option<u32> {
        let mut data_sn = from;
        while precedes(data_sn, to) {
            if out.is_full() {
                return Some(data_sn);
            }
            // Its status was acknowledged meanwhile.
            self.tasks.get(id)?;
            self.one_again(c, id, data_sn, out);
            data_sn = data_sn.wrapping_add(1);
        }
        None
    }

    /// One Data-In PDU as it was sent before, with the status where it had it.
    fn one_again(&mut self, c: ConnectionId, id: TaskId, data_sn: u32, out: &mut TxBatch) {
        let burst = self.parameters.max_burst_length & !3;
        let Some(task) = self.tasks.get_mut(id) else { return };
        let Some(connection) = self.connections.get_mut(c) else { return };
        let Some(response) = task.kept.as_ref().map(|kept| &kept.response).or(task.response.as_ref()) else { return };
        // What was not sent since it began anew comes by itself.
        if !precedes(data_sn, task.data_sn) || precedes(data_sn, task.base.data_sn) || task.connection != c {
            return;
        }
        let offset = task.offset_of(data_sn, burst);
        if offset >= response.data_in {
            return;
        }
        let piece = Piece::at(&task.base, offset, response.data_in, burst);
        let mut header = data_in_header(task, &piece, data_sn);
        if piece.ends_sequence && !piece.last {
            ask_for_acknowledgment(&mut header, id, task.lun);
        }
        if let Some(kept) = task.kept.as_ref().filter(|kept| piece.last && kept.in_data) {
            put_status(&mut header, response, &Residual::of(task, response), kept.stat_sn);
        }
        push_data_in(task, id, &piece, &mut header, self.window.tell(), &connection.parameters, out);
        out.named.push(id);
    }

    /// Numbered PDUs as they were sent before. Returns the number from which to go on.
    fn status_again(&mut self, c: ConnectionId, from: u32, to: u32, out: &mut TxBatch) -> Option<u32> {
        let mut stat_sn = from;
        while precedes(stat_sn, to) {
            if out.is_full() {
                return Some(stat_sn);
            }
            self.one_status_again(c, stat_sn, out);
            stat_sn = stat_sn.wrapping_add(1);
        }
        None
    }

    fn one_status_again(&mut self, c: ConnectionId, stat_sn: u32, out: &mut TxBatch) {
        let told = self.window.tell();
        let segment = self.segment(c);
        let Some(connection) = self.connections.get_mut(c) else { return };
        match sent_as(&connection.sent, stat_sn) {
            Some(Kept::Copy(bytes)) => out.push_copy(bytes, told, &connection.parameters),
            Some(Kept::Task(id)) => {
                let id = *id;
                let Some(task) = self.tasks.get(id) else { return };
                // Without it, it is being sent anew.
                let Some(kept) = &task.kept else { return };
                if kept.in_data {
                    let last = task.data_sn.wrapping_sub(1);
                    self.one_again(c, id, last, out);
                } else {
                    let residual = Residual::of(task, &kept.response);
                    let response = &kept.response;
                    push_response(task, response, &residual, stat_sn, told, segment, &connection.parameters, out);
                }
            }
            Some(Kept::Gone) | None => {}
        }
    }

    /// As many R2Ts as may be outstanding.
    fn ready_to_transfer(&mut self, c: ConnectionId, id: TaskId, out: &mut TxBatch) {
        let Some(task) = self.tasks.get_mut(id) else { return };
        let Some(connection) = self.connections.get_mut(c) else { return };
        task.r2t_queued = false;
        let wanted = match task.phase {
            super::task::Phase::Active if task.fault.is_none() => task.wanted.unwrap_or(0),
            _ => return,
        };
        while (task.grants.len() as u32) < self.parameters.max_outstanding_r2t && task.granted < wanted {
            let length = (wanted - task.granted).min(self.parameters.max_burst_length);
            // Slot and a running number: unique among the outstanding, never the reserved tag.
            let tag = (id.slot() as u32 & 0x7fff) << 16 | task.r2t_sn & 0xffff;
            let grant = Grant {
                target_transfer_tag: tag,
                r2t_sn: task.r2t_sn,
                offset: task.granted,
                length,
                received: 0,
                next_data_sn: 0,
                broken: false,
                done: false,
            };
            push_ready_to_transfer(task, &grant, connection.stat_sn, self.window.tell(), &connection.parameters, out);
            task.grants.push(grant);
            task.granted += length;
            task.r2t_sn = task.r2t_sn.wrapping_add(1);
        }
        let heard = connection.last_heard;
        if self.keeps() {
            self.watch_data(heard);
        }
    }

    /// R2Ts that are outstanding, as they were sent before.
    fn ready_to_transfer_again(&mut self, c: ConnectionId, id: TaskId, wanted: Range<u32>, out: &mut TxBatch) {
        let Some(task) = self.tasks.get(id) else { return };
        let Some(connection) = self.connections.get_mut(c) else { return };
        let told = self.window.tell();
        for grant in &task.grants {
            if !grant.done && at_most(wanted.start, grant.r2t_sn) && precedes(grant.r2t_sn, wanted.end) {
                push_ready_to_transfer(task, grant, connection.stat_sn, told, &connection.parameters, out);
            }
        }
    }

    fn small(&mut self, c: ConnectionId, outgoing: Outgoing, out: &mut TxBatch) {
        let (exp_cmd_sn, max_cmd_sn) = self.window.tell();
        let (time_2_wait, time_2_retain) = self.logout_times();
        let Some(connection) = self.connections.get_mut(c) else { return };
        let segment = connection.parameters.max_send_data_segment_length as usize;
        /// Fills in the numbers, sends the PDU and, where it has a StatSN of its own, keeps it.
        macro_rules! send {
            ($header:ident, $data:expr) => {{
                let stat_sn = connection.take_stat_sn();
                $header.stat_sn = stat_sn.into();
                $header.exp_cmd_sn = exp_cmd_sn.into();
                $header.max_cmd_sn = max_cmd_sn.into();
                out.push_small(&mut $header, $data, &connection.parameters);
                self.keep_copy(c, stat_sn, $header.as_bytes(), $data);
                stat_sn
            }};
        }
        match outgoing {
            Outgoing::Answer(_)
            | Outgoing::ReadyToTransfer(_)
            | Outgoing::ReadyToTransferAgain { .. }
            | Outgoing::DataAgain { .. }
            | Outgoing::StatusAgain { .. }
            | Outgoing::FenceMark { .. } => {}
            Outgoing::PingAnswer { initiator_task_tag, lun, data } => {
                let mut header = NopIn::empty();
                header.flags = FINAL;
                header.lun = lun;
                header.initiator_task_tag = initiator_task_tag.into();
                header.target_transfer_tag = RESERVED_TAG.into();
                send!(header, &data[..data.len().min(segment)]);
            }
            Outgoing::Ping { target_transfer_tag } => {
                let mut header = NopIn::empty();
                header.flags = FINAL;
                header.initiator_task_tag = RESERVED_TAG.into();
                header.target_transfer_tag = target_transfer_tag.into();
                header.stat_sn = connection.stat_sn.into();
                header.exp_cmd_sn = exp_cmd_sn.into();
                header.max_cmd_sn = max_cmd_sn.into();
                out.push_small(&mut header, &[], &connection.parameters);
            }
            Outgoing::TaskManagement { initiator_task_tag, response, additional } => {
                let mut header = TaskManagementResponse::empty();
                header.flags = FINAL;
                header.response = response;
                header.reserved_2[..3].copy_from_slice(&additional);
                header.initiator_task_tag = initiator_task_tag.into();
                let stat_sn = send!(header, &[]);
                self.fence_answered(c, initiator_task_tag, stat_sn);
            }
            Outgoing::Text { initiator_task_tag, final_bit, continues, target_transfer_tag, data } => {
                let mut header = TextResponse::empty();
                header.flags = if final_bit { FINAL } else { 0 } | if continues { CONTINUE } else { 0 };
                header.initiator_task_tag = initiator_task_tag.into();
                header.target_transfer_tag = target_transfer_tag.into();
                send!(header, &data);
            }
            Outgoing::Logout { initiator_task_tag, response, close } => {
                let mut header = LogoutResponse::empty();
                header.flags = FINAL;
                header.response = response;
                header.initiator_task_tag = initiator_task_tag.into();
                header.time_2_wait = time_2_wait.into();
                header.time_2_retain = time_2_retain.into();
                connection.closing |= close;
                connection.logged_out |= close;
                send!(header, &[]);
            }
            Outgoing::Reject { reason, header: refused, data_sn } => {
                let mut header = Reject::empty();
                header.flags = FINAL;
                header.reason = reason as u8;
                header.initiator_task_tag = RESERVED_TAG.into();
                header.data_sn = data_sn.into();
                send!(header, &refused[..refused.len().min(segment)]);
            }
            Outgoing::Async { event, lun, parameters: [parameter_1, parameter_2, parameter_3], vendor_code, data } => {
                let mut header = AsyncMessage::empty();
                header.flags = FINAL;
                header.lun = lun;
                header.initiator_task_tag = RESERVED_TAG.into();
                header.event = event as u8;
                header.vendor_code = vendor_code;
                header.parameter_1 = parameter_1.into();
                header.parameter_2 = parameter_2.into();
                header.parameter_3 = parameter_3.into();
                send!(header, &data[..data.len().min(segment)]);
            }
        }
    }
}

/// One Data-In PDU of a task.
struct Piece {
    offset: u32,
    length: u32,
    ends_sequence: bool,
    last: bool,
}

impl Piece {
    /// The one that begins at this offset. A sequence ends after `burst` bytes and with the data.
    #[inline]
    fn at(base: &Base, offset: u32, data_in: u32, burst: u32) -> Piece {
        let burst_left = burst - (offset - base.offset) % burst;
        let length = (data_in - offset).min(base.segment).min(burst_left);
        let last = offset + length == data_in;
        Piece { offset, length, ends_sequence: last || length == burst_left, last }
    }
}

fn data_in_header(task: &Task, piece: &Piece, data_sn: u32) -> DataIn {
    let mut header = DataIn::empty();
    header.set_data_segment_bytes(piece.length);
    header.initiator_task_tag = task.initiator_task_tag.into();
    header.target_transfer_tag = RESERVED_TAG.into();
    header.data_sn = data_sn.into();
    header.buffer_offset = piece.offset.into();
    if piece.ends_sequence {
        header.flags |= FINAL;
    }
    header
}

/// A Data-In PDU whose header is complete but for the numbers of the window.
#[inline]
fn push_data_in(
    task: &mut Task,
    id: TaskId,
    piece: &Piece,
    header: &mut DataIn,
    (exp_cmd_sn, max_cmd_sn): (u32, u32),
    parameters: &crate::key::ConnectionParameters,
    out: &mut TxBatch,
) {
    header.exp_cmd_sn = exp_cmd_sn.into();
    header.max_cmd_sn = max_cmd_sn.into();
    out.push_header(header, parameters);
    out.push_payload(id, piece.offset, piece.length, parameters);
    task.in_batch = true;
}

/// At the end of a sequence (§11.7.2).
fn ask_for_acknowledgment(header: &mut DataIn, id: TaskId, lun: [u8; 8]) {
    header.flags |= ACKNOWLEDGE;
    header.lun = lun;
    header.target_transfer_tag = acknowledge_tag(id, header.data_sn.get()).into();
}

fn put_status(header: &mut DataIn, response: &Response, residual: &Residual, stat_sn: u32) {
    header.flags |= STATUS | residual.flags;
    header.status = response.status;
    header.residual_count = residual.count.into();
    header.stat_sn = stat_sn.into();
}

fn push_ready_to_transfer(
    task: &Task,
    grant: &Grant,
    stat_sn: u32,
    (exp_cmd_sn, max_cmd_sn): (u32, u32),
    parameters: &crate::key::ConnectionParameters,
    out: &mut TxBatch,
) {
    let mut header = ReadyToTransfer::empty();
    header.flags = FINAL;
    header.lun = task.lun;
    header.initiator_task_tag = task.initiator_task_tag.into();
    header.target_transfer_tag = grant.target_transfer_tag.into();
    header.stat_sn = stat_sn.into();
    header.exp_cmd_sn = exp_cmd_sn.into();
    header.max_cmd_sn = max_cmd_sn.into();
    header.r2t_sn = grant.r2t_sn.into();
    header.buffer_offset = grant.offset.into();
    header.desired_data_transfer_length = grant.length.into();
    out.push_header(&header, parameters);
}

#[allow(clippy::too_many_arguments, reason = "the fields of one PDU, from four owners")]
fn push_response(
    task: &Task,
    response: &Response,
    residual: &Residual,
    stat_sn: u32,
    (exp_cmd_sn, max_cmd_sn): (u32, u32),
    segment: u32,
    parameters: &crate::key::ConnectionParameters,
    out: &mut TxBatch,
) {
    let mut header = ScsiResponse::empty();
    header.flags = FINAL | residual.flags;
    header.status = response.status;
    header.initiator_task_tag = task.initiator_task_tag.into();
    header.snack_tag = task.snack_tag.into();
    header.exp_data_sn = task.data_sn.wrapping_add(task.r2t_sn).into();
    header.residual_count = residual.count.into();
    header.bidirectional_read_residual_count = residual.read_count.into();
    header.stat_sn = stat_sn.into();
    header.exp_cmd_sn = exp_cmd_sn.into();
    header.max_cmd_sn = max_cmd_sn.into();
    match &response.sense {
        None => out.push_small(&mut header, &[], parameters),
        Some(sense) => {
            let mut data = [0u8; 256];
            let length = sense.len().min(252);
            data[..2].copy_from_slice(&(length as u16).to_be_bytes());
            data[2..2 + length].copy_from_slice(&sense[..length]);
            let limit = (2 + length).min(segment as usize);
            out.push_small(&mut header, &data[..limit], parameters);
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
    fn of(task: &Task, response: &Response) -> Residual {
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
