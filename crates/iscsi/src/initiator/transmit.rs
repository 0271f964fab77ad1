//! What goes to the target: many PDUs in one batch, headers from an arena, payload from the caller's memory.

use super::Session;
use super::connection::ConnectionId;
use super::connection::{Connection, Outgoing};
use super::data_out::unsolicited;
use super::task::Allegiance;
use crate::session::{TaskId, TxBatch};
use crate::wire::{DataOut, FINAL, IMMEDIATE, LogoutRequest, Pdu, RESERVED_TAG, ScsiCommand};
use std::time::Instant;

/// How a piece of data went.
enum Sent {
    Whole,
    Partly,
}

impl Session {
    /// Adds PDUs of the connection to the batch until it is full or there are none.
    pub fn poll_transmit(&mut self, now: Instant, c: ConnectionId, out: &mut TxBatch) {
        while !out.is_full() {
            let Some(connection) = self.connection_mut(c) else { return };
            if std::mem::take(&mut connection.wants_ping) {
                self.own_ping(now, c);
                continue;
            }
            let Some(next) = connection.outgoing.pop_front() else { return };
            self.put(now, c, next, out);
        }
    }

    /// The batch is on the wire.
    pub fn transmitted(&mut self, batch: &TxBatch) {
        for id in &batch.finished {
            if let Some(task) = self.tasks.get_mut(*id) {
                task.in_batch = task.in_batch.saturating_sub(1);
            }
            self.release(*id);
        }
    }

    fn put(&mut self, now: Instant, c: ConnectionId, next: Outgoing, out: &mut TxBatch) {
        let Some(connection) = self.connections.get_mut(c.0).and_then(Option::as_mut) else { return };
        let exp_stat_sn = connection.exp_stat_sn();
        match next {
            Outgoing::Command(id) => self.command(now, c, id, out),
            Outgoing::Unsolicited(id) => {
                if let Sent::Partly = self.unsolicited(now, c, id, out)
                    && let Some(connection) = self.connection_mut(c)
                {
                    connection.outgoing.push_front(Outgoing::Unsolicited(id));
                }
            }
            Outgoing::Solicited(id) => {
                if let Sent::Partly = self.solicited(c, id, out)
                    && let Some(connection) = self.connection_mut(c)
                {
                    connection.outgoing.push_front(Outgoing::Solicited(id));
                }
            }
            Outgoing::MissingData { task, first, count } => {
                for snack in self.missing_data(c, task, first, count) {
                    self.plain(c, snack, exp_stat_sn, out);
                }
            }
            Outgoing::MissingR2t { task, first } => {
                if let Some(snack) = self.missing_r2t(c, task, first) {
                    self.plain(c, snack, exp_stat_sn, out);
                }
            }
            Outgoing::MissingStatus { first, count } => {
                for snack in super::recovery::missing_status(&connection.missing_of(first, count)) {
                    self.plain(c, snack, exp_stat_sn, out);
                }
            }
            Outgoing::DataAck { task, next, target_transfer_tag, lun } => {
                if self.tasks.get(task).is_some_and(|task| task.is_with(c) && task.outcome.is_none()) {
                    let snack = super::recovery::data_ack(next, target_transfer_tag, lun);
                    self.plain(c, snack, exp_stat_sn, out);
                }
            }
            Outgoing::NopOut(mut header, data) => {
                header.exp_stat_sn = exp_stat_sn.into();
                out.push_small(&mut *header, &data, &connection.parameters);
                self.request_sent(now, header.initiator_task_tag.get());
            }
            Outgoing::TaskManagement(mut header) => {
                header.exp_stat_sn = exp_stat_sn.into();
                out.push_small(&mut *header, &[], &connection.parameters);
                self.request_sent(now, header.initiator_task_tag.get());
                self.function_sent(c, header.initiator_task_tag.get());
            }
            Outgoing::Text(mut header, data) => {
                header.exp_stat_sn = exp_stat_sn.into();
                out.push_small(&mut *header, &data, &connection.parameters);
                self.request_sent(now, header.initiator_task_tag.get());
            }
            Outgoing::Logout(header) => {
                let mut header: LogoutRequest = *header;
                header.exp_stat_sn = exp_stat_sn.into();
                header.cmd_sn = self.window.cmd_sn().into();
                out.push_small(&mut header, &[], &connection.parameters);
                self.request_sent(now, header.initiator_task_tag.get());
            }
        }
    }

    fn plain(&mut self, c: ConnectionId, mut header: crate::wire::SnackRequest, exp_stat_sn: u32, out: &mut TxBatch) {
        header.exp_stat_sn = exp_stat_sn.into();
        if let Some(connection) = self.connection_mut(c) {
            out.push_small(&mut header, &[], &connection.parameters);
        }
    }

    fn command(&mut self, now: Instant, c: ConnectionId, id: TaskId, out: &mut TxBatch) {
        let Some(connection) = self.connections.get_mut(c.0).and_then(Option::as_mut) else { return };
        let Some(task) = self.tasks.get_mut(id) else { return };
        if task.allegiance != Allegiance::With(c) || task.answer.is_some() || task.outcome.is_some() {
            return;
        }
        let segment = connection.parameters.max_send_data_segment_length;
        let (along, end) = unsolicited(task, &self.parameters, segment);
        task.unsolicited = (along, end);
        task.unsolicited_data_sn = 0;
        task.fetched = end;
        let mut header = ScsiCommand::empty();
        header.opcode_byte |= if task.command.immediate { IMMEDIATE } else { 0 };
        header.flags = task.command.attribute
            | if end == along { FINAL } else { 0 }
            | if task.reads() { 0x40 } else { 0 }
            | if task.writes() { 0x20 } else { 0 };
        header.lun = task.command.lun;
        header.initiator_task_tag = task.tag.into();
        let expected = if task.writes() { task.command.data_out } else { task.command.data_in };
        header.expected_data_transfer_length = expected.into();
        header.cmd_sn = task.cmd_sn.into();
        header.exp_stat_sn = connection.exp_stat_sn().into();
        header.cdb = *task.command.cdb.first();
        header.set_data_segment_bytes(along);
        let both = (task.reads() && task.writes()).then_some(task.command.data_in);
        let additional = additional(task.command.cdb.rest(), both);
        header.total_ahs_length = (additional.len() / 4) as u8;
        out.push_header_with(&header, &additional, &connection.parameters);
        if along > 0 {
            out.push_payload(id, 0, along, &connection.parameters);
            task.in_batch += 1;
            out.finished.push(id);
        }
        task.since = now;
        task.sent = end == along;
        if !task.sent {
            connection.outgoing.push_front(Outgoing::Unsolicited(id));
        }
    }

    fn unsolicited(&mut self, now: Instant, c: ConnectionId, id: TaskId, out: &mut TxBatch) -> Sent {
        let Some(connection) = self.connections.get_mut(c.0).and_then(Option::as_mut) else { return Sent::Whole };
        let Some(task) = self.tasks.get_mut(id).filter(|task| task.is_with(c)) else { return Sent::Whole };
        if task.aborting || task.outcome.is_some() {
            return Sent::Whole;
        }
        while task.unsolicited.0 < task.unsolicited.1 {
            if out.is_full() {
                return Sent::Partly;
            }
            let (next, end) = task.unsolicited;
            let piece = Piece { tag: task.tag, target_transfer_tag: RESERVED_TAG, lun: [0; 8], offset: next };
            let length = piece.push(id, end - next, task.unsolicited_data_sn, connection, out);
            task.unsolicited.0 += length;
            task.unsolicited_data_sn += 1;
            task.in_batch += 1;
        }
        task.sent = true;
        task.since = now;
        Sent::Whole
    }

    fn solicited(&mut self, c: ConnectionId, id: TaskId, out: &mut TxBatch) -> Sent {
        let Some(connection) = self.connections.get_mut(c.0).and_then(Option::as_mut) else { return Sent::Whole };
        let Some(task) = self.tasks.get_mut(id).filter(|task| task.is_with(c)) else { return Sent::Whole };
        let Some(grant) = task.grants.front_mut() else { return Sent::Whole };
        while grant.left > 0 {
            if out.is_full() {
                return Sent::Partly;
            }
            let target_transfer_tag = grant.target_transfer_tag;
            let piece = Piece { tag: task.tag, target_transfer_tag, lun: task.command.lun, offset: grant.offset };
            let length = piece.push(id, grant.left, grant.data_sn, connection, out);
            grant.offset += length;
            grant.left -= length;
            grant.data_sn += 1;
            task.in_batch += 1;
        }
        task.grants.pop_front();
        Sent::Whole
    }
}

/// A Data-Out that is to be made.
struct Piece {
    tag: u32,
    target_transfer_tag: u32,
    lun: [u8; 8],
    offset: u32,
}

impl Piece {
    /// As much of what is left of its sequence as fits into one; returns how much.
    fn push(&self, id: TaskId, left: u32, data_sn: u32, connection: &Connection, out: &mut TxBatch) -> u32 {
        let parameters = &connection.parameters;
        // The last alone has a length that needs padding (DAT-14). The limit is at least 512.
        let length = left.min(parameters.max_send_data_segment_length & !3);
        let mut header = DataOut::empty();
        header.flags = if length == left { FINAL } else { 0 };
        header.set_data_segment_bytes(length);
        header.lun = self.lun;
        header.initiator_task_tag = self.tag.into();
        header.target_transfer_tag = self.target_transfer_tag.into();
        header.exp_stat_sn = connection.exp_stat_sn().into();
        header.data_sn = data_sn.into();
        header.buffer_offset = self.offset.into();
        out.push_header(&header, parameters);
        out.push_payload(id, self.offset, length, parameters);
        out.finished.push(id);
        length
    }
}

/// Additional header segments: the CDB's rest, the length of the read beside a write (§11.2.2).
fn additional(rest: &[u8], bidirectional_read: Option<u32>) -> Vec<u8> {
    let mut bytes = Vec::new();
    if !rest.is_empty() {
        bytes.extend_from_slice(&(rest.len() as u16 + 1).to_be_bytes());
        bytes.extend_from_slice(&[1, 0]);
        bytes.extend_from_slice(rest);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
    }
    if let Some(length) = bidirectional_read {
        bytes.extend_from_slice(&[0, 5, 2, 0]);
        bytes.extend_from_slice(&length.to_be_bytes());
    }
    bytes
}
