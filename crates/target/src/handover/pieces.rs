//! What other crates hand over, field by field.

use super::format::{Fields, Piece, Unreadable, put_field, records};
use io::link::LinkAtRest;
use iscsi::key::{ConnectionParameters, SessionParameters, TaskReporting};
use iscsi::session::{AtRest, ConnectionAtRest};
use lun::handover::{NexusAtRest, TokenAtRest, UnitAtRest, ViewAtRest, nexus};
use lun::reservation::Nexus;
use scsi::{Condition, SenseKey};

records! {
    LinkAtRest { 1 unread, 2 unsent, 0x8001 received_bytes, 0x8002 sent_bytes }
    AtRest { 1 parameters, 2 exp_cmd_sn, 3 max_cmd_sn, 4 forgiven, 5 passed, 6 connections }
    ConnectionAtRest { 1 cid, 2 parameters, 3 stat_sn, 4 acknowledged, 5 ping_tag, 6 text_tag }
    ConnectionParameters {
        1 header_digest, 2 data_digest, 3 max_recv_data_segment_length, 4 max_send_data_segment_length,
    }
    SessionParameters {
        1 max_connections, 2 initial_r2t, 3 immediate_data, 4 max_burst_length, 5 first_burst_length,
        6 default_time_2_wait, 7 default_time_2_retain, 8 max_outstanding_r2t, 9 data_pdu_in_order,
        10 data_sequence_in_order, 11 error_recovery_level, 12 task_reporting, 13 protocol_level,
    }
    UnitAtRest {
        1 uuid, 2 mode_pages, 3 saved_mode_pages, 4 flags, 5 reservations, 6 exclusive, 7 greeted, 8 names, 9 clock,
        0x800a counters, 0x800b notes, 12 tokens, 13 threshold_reached, 14 occupation, 15 blocks,
        16 block_length,
    }
    TokenAtRest { 1 token, 2 maker, 3 ranges, 4 block_length, 5 timeout, 6 used }
    NexusAtRest { 1 views, 2 inventory_changed }
    ViewAtRest { 1 number, 2 attentions, 3 media_event, 4 eject_requested, 5 prevents, 6 uuid }
}

impl Piece for TaskReporting {
    fn put(&self, out: &mut Vec<u8>) {
        out.push(match self {
            TaskReporting::Rfc3720 => 0,
            TaskReporting::ResponseFence => 1,
            TaskReporting::FastAbort => 2,
        });
    }

    fn take(bytes: &[u8]) -> Result<Self, Unreadable> {
        match bytes {
            [0] => Ok(TaskReporting::Rfc3720),
            [1] => Ok(TaskReporting::ResponseFence),
            [2] => Ok(TaskReporting::FastAbort),
            _ => Err(Unreadable::Damaged),
        }
    }
}

impl Piece for Nexus {
    fn put(&self, out: &mut Vec<u8>) {
        put_field(1, &self.initiator.to_vec(), out);
        put_field(2, &self.relative_port, out);
    }

    fn take(bytes: &[u8]) -> Result<Self, Unreadable> {
        let fields = Fields::of(bytes, &[1, 2])?;
        Ok(nexus(&fields.take::<Vec<u8>>(1)?, fields.take(2)?))
    }
}

/// A unit attention.
impl Piece for Condition {
    fn put(&self, out: &mut Vec<u8>) {
        put_field(1, &[self.code.0, self.code.1], out);
        put_field(2, &self.information, out);
        put_field(3, &self.command_specific, out);
        put_field(4, &self.specific, out);
    }

    fn take(bytes: &[u8]) -> Result<Self, Unreadable> {
        let fields = Fields::of(bytes, &[1, 2, 3, 4])?;
        let [code, qualifier] = fields.take(1)?;
        let condition = Condition::new(SenseKey::UnitAttention, code, qualifier);
        let (information, command_specific, specific) = (fields.take(2)?, fields.take(3)?, fields.take(4)?);
        Ok(Condition { information, command_specific, specific, ..condition })
    }
}
