//! SCSI commands of the scripted initiator: how their data travels, and what came of them.

use super::{Client, Ended, Transport};
use crate::frame::Frame;
use iscsi::wire::{
    DataIn, DataOut, FINAL, IMMEDIATE, Opcode, Pdu, RESERVED_TAG, ReadyToTransfer, ScsiCommand, ScsiResponse,
    TaskManagementResponse,
};

/// A LUN below 256 as it stands on the wire (SAM-5 4.7.7.2, peripheral device addressing).
pub(super) fn lun(number: u8) -> [u8; 8] {
    [0, number, 0, 0, 0, 0, 0, 0]
}

/// A command that is to be sent.
#[derive(Debug, Clone)]
pub struct Command {
    /// The unit.
    pub lun: [u8; 8],
    /// The CDB; what is behind 16 bytes goes into an additional header segment.
    pub cdb: Vec<u8>,
    /// Expected Data Transfer Length.
    pub expected: u32,
    /// R.
    pub reads: bool,
    /// W; the data then is at hand.
    pub writes: bool,
    /// The data-out.
    pub data: Vec<u8>,
    /// ATTR (RFC 7143 §11.3.1.1); 1 is Simple.
    pub attribute: u8,
    /// I.
    pub immediate: bool,
    /// Sends immediate data where the login allows it.
    pub immediate_data: bool,
    /// Sends unsolicited Data-Out where the login allows it.
    pub unsolicited: bool,
    /// Bytes of one Data-Out at most; the target's limit where there is none.
    pub chunk: Option<usize>,
}

impl Command {
    /// Any CDB without data, to LUN 1.
    pub fn cdb(cdb: &[u8]) -> Command {
        Command {
            lun: lun(1),
            cdb: cdb.to_vec(),
            expected: 0,
            reads: false,
            writes: false,
            data: Vec::new(),
            attribute: 1,
            immediate: false,
            immediate_data: true,
            unsolicited: true,
            chunk: None,
        }
    }

    /// Any CDB that reads up to this many bytes.
    pub fn reading(cdb: &[u8], expected: u32) -> Command {
        Command { reads: true, expected, ..Command::cdb(cdb) }
    }

    /// Any CDB that writes this.
    pub fn writing(cdb: &[u8], data: &[u8]) -> Command {
        Command { writes: true, expected: data.len() as u32, data: data.to_vec(), ..Command::cdb(cdb) }
    }

    /// TEST UNIT READY (SPC-5 6.47).
    pub fn test_unit_ready() -> Command {
        Command::cdb(&[0; 6])
    }

    /// INQUIRY (SPC-5 6.7), of a vital product data page where one is given.
    pub fn inquiry(page: Option<u8>) -> Command {
        Command::reading(&[0x12, page.is_some().into(), page.unwrap_or(0), 0, 255, 0], 255)
    }

    /// READ CAPACITY (16) (SBC-4 5.20).
    pub fn read_capacity() -> Command {
        let mut cdb = [0; 16];
        (cdb[0], cdb[1], cdb[13]) = (0x9e, 0x10, 32);
        Command::reading(&cdb, 32)
    }

    /// SYNCHRONIZE CACHE (10) of everything (SBC-4 5.37).
    pub fn synchronize_cache() -> Command {
        Command::cdb(&[0x35, 0, 0, 0, 0, 0, 0, 0, 0, 0])
    }

    /// READ (10) of blocks of 512 bytes (SBC-4 5.17).
    pub fn read(lba: u32, blocks: u16) -> Command {
        Command::reading(&cdb_10(0x28, lba, blocks), u32::from(blocks) * 512)
    }

    /// WRITE (10) of whole blocks of 512 bytes (SBC-4 5.43).
    pub fn write(lba: u32, data: &[u8]) -> Command {
        let blocks = u16::try_from(data.len() / 512).expect("at most 65,535 blocks");
        Command::writing(&cdb_10(0x2a, lba, blocks), data)
    }

    /// With FUA.
    pub fn forced(mut self) -> Command {
        self.cdb[1] |= 0x08;
        self
    }

    /// At another unit.
    pub fn at(self, number: u8) -> Command {
        Command { lun: lun(number), ..self }
    }

    /// With another Expected Data Transfer Length.
    pub fn expecting(self, expected: u32) -> Command {
        Command { expected, ..self }
    }

    /// All of its data solicited.
    pub fn solicited(self) -> Command {
        Command { immediate_data: false, unsolicited: false, ..self }
    }

    /// In Data-Out PDUs of at most this many bytes.
    pub fn in_chunks(self, bytes: usize) -> Command {
        Command { chunk: Some(bytes), ..self }
    }

    /// Its header with everything but tag and numbers.
    pub fn header(&self) -> ScsiCommand {
        let mut header = ScsiCommand::empty();
        header.opcode_byte |= if self.immediate { IMMEDIATE } else { 0 };
        header.flags = FINAL | if self.reads { 0x40 } else { 0 } | if self.writes { 0x20 } else { 0 } | self.attribute;
        header.lun = self.lun;
        header.expected_data_transfer_length = self.expected.into();
        let start = self.cdb.len().min(16);
        header.cdb[..start].copy_from_slice(&self.cdb[..start]);
        header
    }

    /// The additional header segment for a CDB above 16 bytes (RFC 7143 §11.2.2.3).
    fn additional(&self) -> Vec<u8> {
        let Some(rest) = self.cdb.get(16..).filter(|rest| !rest.is_empty()) else { return Vec::new() };
        let mut bytes = ((rest.len() + 1) as u16).to_be_bytes().to_vec();
        bytes.extend([1, 0]);
        bytes.extend(rest);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }
}

fn cdb_10(opcode: u8, lba: u32, blocks: u16) -> [u8; 10] {
    let mut cdb = [0; 10];
    cdb[0] = opcode;
    cdb[2..6].copy_from_slice(&lba.to_be_bytes());
    cdb[7..9].copy_from_slice(&blocks.to_be_bytes());
    cdb
}

/// Sense key, additional sense code and its qualifier.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Condition(pub u8, pub u8, pub u8);

/// What came of a command.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Answer {
    /// SAM-5 status.
    pub status: u8,
    /// Sense data, without its length field.
    pub sense: Vec<u8>,
    /// Data-in.
    pub data: Vec<u8>,
    /// Above 0 an overflow, below an underflow.
    pub residual: i64,
    /// Data-In PDUs.
    pub data_in_pdus: u32,
    /// R2Ts.
    pub ready_to_transfers: u32,
    /// Whether the status came with the data.
    pub collapsed: bool,
}

impl Answer {
    /// Whether the status is GOOD.
    pub fn is_good(&self) -> bool {
        self.status == 0
    }

    /// What the sense data says, in either format (SPC-5 4.4).
    pub fn condition(&self) -> Option<Condition> {
        let sense = &self.sense;
        match sense.first()? & 0x7f {
            0x70 | 0x71 => Some(Condition(sense.get(2)? & 0x0f, *sense.get(12)?, *sense.get(13)?)),
            0x72 | 0x73 => Some(Condition(sense.get(1)? & 0x0f, *sense.get(2)?, *sense.get(3)?)),
            _ => None,
        }
    }

    /// INFORMATION of fixed-format sense data, where VALID is set.
    pub fn information(&self) -> Option<u32> {
        let valid = self.sense.first()? & 0x80 != 0;
        let bytes: [u8; 4] = self.sense.get(3..7)?.try_into().ok()?;
        valid.then_some(u32::from_be_bytes(bytes))
    }
}

/// A command on its way.
pub(super) struct Started {
    command: Command,
    answer: Answer,
    over: bool,
}

impl Started {
    /// Takes a frame with this task's tag. False: it is not the kind that belongs to a task.
    pub fn takes(&mut self, frame: &Frame) -> bool {
        let residual = |flags: u8, count: u32| match flags & 0x06 {
            0x04 => i64::from(count),
            0x02 => -i64::from(count),
            _ => 0,
        };
        if let Some(header) = frame.view::<DataIn>() {
            let offset = header.buffer_offset.get() as usize;
            let end = offset + frame.data.len();
            // A target that lies about offsets must not cost the test gigabytes.
            assert!(end <= 64 << 20, "Buffer Offset {offset}");
            if self.answer.data.len() < end {
                self.answer.data.resize(end, 0);
            }
            self.answer.data[offset..end].copy_from_slice(&frame.data);
            self.answer.data_in_pdus += 1;
            if header.flags & 0x01 != 0 {
                self.over = true;
                self.answer.collapsed = true;
                self.answer.status = header.status;
                self.answer.residual = residual(header.flags, header.residual_count.get());
            }
            return true;
        }
        if let Some(header) = frame.view::<ScsiResponse>() {
            self.over = true;
            self.answer.status = header.status;
            self.answer.residual = residual(header.flags, header.residual_count.get());
            if let [high, low, sense @ ..] = frame.data.as_slice() {
                let length = usize::from(u16::from_be_bytes([*high, *low]));
                self.answer.sense = sense[..length.min(sense.len())].to_vec();
            }
            return true;
        }
        if frame.view::<ReadyToTransfer>().is_some() {
            self.answer.ready_to_transfers += 1;
            return true;
        }
        false
    }

    /// Bytes of its data-out; zeros behind what the test gave.
    pub fn data_out(&self, from: usize, end: usize) -> Vec<u8> {
        (from..end).map(|at| self.command.data.get(at).copied().unwrap_or(0)).collect()
    }

    /// Bytes of one Data-Out.
    pub fn chunk(&self, limit: usize) -> usize {
        self.command.chunk.unwrap_or(limit).min(limit).max(1)
    }
}

impl<T: Transport> Client<T> {
    /// Sends a command with all the data that it may send unasked. Returns its task tag.
    pub fn start(&mut self, command: &Command) -> u32 {
        let frames = self.prepare(command);
        self.send_together(&frames);
        frames[0].basic().initiator_task_tag.get()
    }

    /// The frames of a command and the data that it may send unasked, with tag and number taken.
    pub fn prepare(&mut self, command: &Command) -> Vec<Frame> {
        let agreed = self.agreed().clone();
        let mut header = command.header();
        let tag = self.tag();
        header.initiator_task_tag = tag.into();
        header.cmd_sn = if command.immediate { self.next_cmd_sn() } else { self.take_cmd_sn() }.into();
        header.exp_stat_sn = self.exp_stat_sn.into();
        let started = Started { command: command.clone(), answer: Answer::default(), over: false };
        let total = if command.writes { command.expected as usize } else { 0 };
        let burst = total.min(agreed.first_burst_length as usize);
        let limit = agreed.target_segment as usize;
        let first = if command.immediate_data && agreed.immediate_data { burst.min(limit) } else { 0 };
        let more = command.unsolicited && !agreed.initial_r2t && first < burst;
        if more {
            header.flags &= !FINAL;
        }
        let data = started.data_out(0, first);
        let mut frames = vec![Frame::new(header, &data).with_additional(&command.additional())];
        let chunk = started.chunk(limit);
        let (mut offset, mut number) = (first, 0u32);
        while more && offset < burst {
            let end = (offset + chunk).min(burst);
            let mut out = DataOut::empty();
            out.flags = if end == burst { FINAL } else { 0 };
            out.initiator_task_tag = tag.into();
            out.target_transfer_tag = RESERVED_TAG.into();
            out.exp_stat_sn = self.exp_stat_sn.into();
            out.data_sn = number.into();
            out.buffer_offset = (offset as u32).into();
            frames.push(Frame::new(out, &started.data_out(offset, end)));
            (offset, number) = (end, number + 1);
        }
        self.started.insert(tag, started);
        frames
    }

    /// Has a command of a connection that is gone go on at this one (TASK REASSIGN, RFC 7143 §7.2.2), and returns
    /// the function's response code.
    pub fn reassign<U: Transport>(&mut self, from: &mut Client<U>, tag: u32) -> u8 {
        let header = self.task_management_header(8, tag, 0);
        self.send(&Frame::new(header, &[]));
        let (answer, _) = self.response::<TaskManagementResponse>(header.initiator_task_tag.get());
        if answer.response == 0
            && let Some(started) = from.started.remove(&tag)
        {
            self.capture.take_over(&mut from.capture, tag);
            self.started.insert(tag, Started { answer: Answer::default(), over: false, ..started });
        }
        answer.response
    }

    /// Waits for the end of a started command.
    pub fn try_finish(&mut self, tag: u32) -> Result<Answer, Ended> {
        loop {
            if self.started.get(&tag).is_none_or(|started| started.over) {
                let started = self.started.remove(&tag).expect("a command that was started");
                return Ok(started.answer);
            }
            self.pump()?;
        }
    }

    /// Waits for the end of a started command; none where a Reject came or the connection ended first.
    pub fn try_finish_or_reject(&mut self, tag: u32) -> Option<Answer> {
        loop {
            if self.started.get(&tag).is_none_or(|started| started.over) {
                return self.started.remove(&tag).map(|started| started.answer);
            }
            if self.inbox.iter().any(|frame| frame.opcode() == Opcode::Reject as u8) || self.pump().is_err() {
                return None;
            }
        }
    }

    /// Waits for the end of a started command.
    pub fn finish(&mut self, tag: u32) -> Answer {
        match self.try_finish(tag) {
            Ok(answer) => answer,
            Err(ended) => panic!("a status for task {tag:x} expected, got {ended:?}\n{}", self.capture.frames()),
        }
    }

    /// Whether a started command has been answered, as far as was read.
    pub fn is_answered(&self, tag: u32) -> bool {
        self.started.get(&tag).is_some_and(|started| started.over)
    }

    /// Forgets a started command, which is not to be answered any more.
    pub fn forget(&mut self, tag: u32) {
        self.started.remove(&tag);
    }

    /// Carries a command out.
    pub fn execute(&mut self, command: &Command) -> Answer {
        let tag = self.start(command);
        self.finish(tag)
    }

    /// Carries a command out, which ends with GOOD, and returns its data.
    pub fn good(&mut self, command: &Command) -> Vec<u8> {
        let answer = self.execute(command);
        assert!(answer.is_good(), "{:02x?}: {:?} {answer:?}", command.cdb, answer.condition());
        answer.data
    }

    /// Takes the unit attentions that LUN 1 owes this nexus, at most a handful.
    pub fn take_attentions(&mut self) -> Vec<Condition> {
        let mut taken = Vec::new();
        for _ in 0..8 {
            match self.execute(&Command::test_unit_ready()).condition() {
                Some(condition @ Condition(0x06, ..)) => taken.push(condition),
                None => return taken,
                Some(other) => panic!("the unit is not ready: {other:?}"),
            }
        }
        panic!("unit attentions without end: {taken:?}")
    }
}
