//! The PDUs of the grammar: each with the fields that the input chose, the rest as it should be.

use super::{LIES, Rig};
use crate::Input;
use iscsi::wire::{
    DataOut, FINAL, LogoutRequest, NopOut, Pdu, RESERVED_TAG, ScsiCommand, SnackRequest, TaskManagementRequest,
    TextRequest,
};
use sim::Frame;
use std::sync::LazyLock;

impl Rig {
    /// A tag of a request that is no command. The checker wants those of a well-behaved initiator.
    fn tag(&self, chosen: u8) -> u32 {
        if self.strict() { 0x1000 + self.records as u32 } else { u32::from(chosen) }
    }

    pub(super) fn ping(&mut self, input: &mut Input<'_>, at: usize, how: u8) -> Frame {
        let [tag, length] = input.array();
        let mut header = NopOut::empty();
        header.flags = FINAL;
        header.initiator_task_tag = if tag & 0x80 == 0 { self.tag(tag) } else { RESERVED_TAG }.into();
        header.target_transfer_tag = if tag & 0x40 == 0 { RESERVED_TAG } else { self.peers[at].ping_tag }.into();
        let length = usize::from(length) << if how & LIES != 0 { 9 } else { 2 };
        Frame::new(header, pattern(length))
    }

    fn command_header(&self, tag: u8, flags: u8, expected: u32, cdb: &[u8]) -> ScsiCommand {
        let mut header = ScsiCommand::empty();
        // The checker knows a task by its tag: no other has it, as what was kept of an ended one may be asked for
        // again, and one that a function ends has ended before that is told.
        let tag = if self.strict() { self.records as u8 } else { tag };
        header.flags = flags;
        header.lun[1] = 1;
        header.initiator_task_tag = u32::from(tag).into();
        header.expected_data_transfer_length = expected.into();
        header.cdb[..cdb.len()].copy_from_slice(cdb);
        header
    }

    pub(super) fn read(&mut self, input: &mut Input<'_>, how: u8) -> Frame {
        let [tag, lba, blocks] = input.array();
        let mut expected = u32::from(blocks) * 512;
        if how & LIES != 0 {
            expected = u32::from(input.short()) << 4;
        }
        let cdb = [0x28, 0, 0, 0, 0, lba, 0, 0, blocks, 0];
        Frame::new(self.command_header(tag, FINAL | 0x41, expected, &cdb), &[])
    }

    pub(super) fn write(&mut self, input: &mut Input<'_>, how: u8) -> Frame {
        let [tag, lba, blocks, immediate] = input.array();
        let mut expected = u32::from(blocks) * 512;
        if how & LIES != 0 {
            expected = input.word();
        }
        // The lowest bit tells whether unsolicited data follows.
        let flags = if immediate & 1 == 0 { FINAL } else { 0 };
        let cdb = [0x2a, 0, 0, 0, 0, lba, 0, 0, blocks, 0];
        let data = pattern(usize::from(immediate >> 1) << 7);
        Frame::new(self.command_header(tag, flags | 0x21, expected, &cdb), data)
    }

    pub(super) fn command(&mut self, input: &mut Input<'_>) -> Frame {
        let [tag, flags, unit] = input.array();
        let expected = u32::from(input.short());
        let cdb: [u8; 16] = input.array();
        let mut header = self.command_header(tag, flags, expected, &cdb);
        header.lun[1] = unit & 3;
        Frame::new(header, input.counted())
    }

    /// The next data that an R2T asks for.
    pub(super) fn data_asked(&mut self, input: &mut Input<'_>, at: usize, how: u8) -> Option<Frame> {
        let [which, pieces] = input.array();
        let asked = &mut self.peers[at].asked;
        let index = usize::from(which) % asked.len().max(1);
        let request = asked.get_mut(index)?;
        let wanted = request.desired_data_transfer_length.get();
        // A part of what is left, or all of it.
        let length = if pieces & 0x80 == 0 { wanted } else { wanted.min(u32::from(pieces & 0x7f) * 64) };
        let mut header = DataOut::empty();
        header.flags = if length == wanted { FINAL } else { 0 };
        header.lun = request.lun;
        header.initiator_task_tag = request.initiator_task_tag;
        header.target_transfer_tag = request.target_transfer_tag;
        header.buffer_offset = request.buffer_offset;
        header.data_sn = request.r2t_sn;
        let mut length = length as usize;
        if how & LIES != 0 {
            let [field, value] = input.array();
            let value = u32::from(value);
            match field & 7 {
                0 => header.buffer_offset = header.buffer_offset.get().wrapping_add(value << 4).into(),
                1 => header.buffer_offset = header.buffer_offset.get().wrapping_sub(value << 4).into(),
                2 => length = value as usize * 64,
                3 => header.initiator_task_tag = value.into(),
                4 => header.target_transfer_tag = header.target_transfer_tag.get().wrapping_add(value).into(),
                5 => header.data_sn = value.into(),
                6 => header.flags = value as u8,
                _ => header.buffer_offset = u32::MAX.wrapping_sub(value).into(),
            }
        } else if length as u32 == wanted {
            asked.remove(index);
        } else {
            request.desired_data_transfer_length = (wanted - length as u32).into();
            request.buffer_offset = (request.buffer_offset.get() + length as u32).into();
            // Here the number of the next Data-Out, which begins at 0 for each R2T.
            request.r2t_sn = (request.r2t_sn.get() + 1).into();
        }
        Some(Frame::new(header, pattern(length)))
    }

    pub(super) fn data_unasked(&mut self, input: &mut Input<'_>) -> Frame {
        let [tag, flags, number] = input.array();
        let mut header = DataOut::empty();
        header.flags = flags & FINAL;
        header.initiator_task_tag = u32::from(tag).into();
        header.target_transfer_tag = RESERVED_TAG.into();
        header.data_sn = u32::from(number).into();
        header.buffer_offset = (u32::from(input.byte()) << 7).into();
        Frame::new(header, pattern(usize::from(flags & 0x7f) << 6))
    }

    pub(super) fn management(&mut self, input: &mut Input<'_>) -> Frame {
        let [function, tag, referenced, number, unit] = input.array();
        let mut header = TaskManagementRequest::empty();
        header.function = FINAL | function;
        header.lun[1] = unit & 3;
        header.initiator_task_tag = (0x100 + self.tag(tag)).into();
        header.referenced_task_tag = u32::from(referenced).into();
        header.ref_cmd_sn = self.cmd_sn.wrapping_sub(u32::from(number)).into();
        header.exp_data_sn = u32::from(unit >> 2).into();
        Frame::new(header, &[])
    }

    pub(super) fn text(&mut self, input: &mut Input<'_>, at: usize) -> Frame {
        let [tag, flags] = input.array();
        let mut header = TextRequest::empty();
        header.flags = flags & 0xc0;
        header.initiator_task_tag = (0x200 + self.tag(tag)).into();
        header.target_transfer_tag = match flags & 3 {
            0 | 3 => RESERVED_TAG,
            1 => self.peers[at].text_tag,
            _ => u32::from(tag),
        }
        .into();
        Frame::new(header, input.counted())
    }

    pub(super) fn logout(&mut self, input: &mut Input<'_>, at: usize) -> Frame {
        let [reason, cid] = input.array();
        let mut header = LogoutRequest::empty();
        header.reason = FINAL | reason;
        header.initiator_task_tag = (0x300 + self.tag(reason)).into();
        header.cid = if cid == 0 { self.peers[at].login.cid } else { u16::from(cid) }.into();
        Frame::new(header, &[])
    }

    pub(super) fn snack(&mut self, input: &mut Input<'_>, at: usize) -> Frame {
        let [kind, tag, begin, length] = input.array();
        let peer = &self.peers[at];
        let mut header = SnackRequest::empty();
        header.kind = FINAL | kind & 0x0f;
        header.lun[1] = 1;
        header.initiator_task_tag = if kind & 0x10 == 0 { u32::from(tag) } else { RESERVED_TAG }.into();
        header.target_transfer_tag = match kind >> 5 & 3 {
            0 => RESERVED_TAG,
            1 => peer.snack_tag,
            2 => peer.asked.back().map_or(0, |asked| asked.target_transfer_tag.get()),
            _ => u32::from(begin),
        }
        .into();
        let begin = match kind & 0x80 == 0 {
            true => u32::from(begin),
            false => peer.exp_stat_sn.wrapping_sub(u32::from(begin)),
        };
        header.beg_run = begin.into();
        header.run_length = u32::from(length).into();
        Frame::new(header, &[])
    }
}

/// Data that no input need hold.
fn pattern(length: usize) -> &'static [u8] {
    static PATTERN: LazyLock<Vec<u8>> = LazyLock::new(|| (0..128usize << 10).map(|at| at as u8).collect());
    &PATTERN[..length.min(PATTERN.len())]
}
