//! One connection under load: commands in flight, bytes out, bytes in, nothing looked at twice.

use super::login::Session;
use super::report;
use super::work::{Order, Work};
use hdrhistogram::Histogram;
use io::crc32c::Crc32c;
use iscsi::wire::{
    BHS_BYTES, DataOut, FINAL, Header, IMMEDIATE, NopIn, NopOut, Opcode, Pdu, RESERVED_TAG, ReadyToTransfer,
    ScsiCommand, padding,
};
use std::collections::{HashMap, VecDeque};
use std::io::{ErrorKind, IoSlice, Read, Write};
use std::net::TcpStream;
use std::time::Instant;
use zerocopy::FromBytes;

/// Bytes that are read at a time.
const INPUT_BYTES: usize = 512 << 10;
/// Pieces that are sent at a time.
const SLICES: usize = 64;

/// A command in flight.
struct Slot {
    begun: Instant,
}

/// Bytes to be sent.
enum Piece {
    /// A header, with its digest.
    Small([u8; BHS_BYTES + 4], usize),
    /// So much of the payload.
    Payload(usize),
}

/// A connection.
pub struct Connection {
    session: Session,
    /// Bytes of a command.
    block: u64,
    order: Order,
    slots: Vec<Slot>,
    payload: Vec<u8>,
    digests: HashMap<usize, u32>,
    out: VecDeque<Piece>,
    /// Bytes of the first piece that are sent.
    sent: usize,
    input: Vec<u8>,
    held: usize,
    skip: usize,
    finishing: Option<u32>,
    /// Latencies in nanoseconds.
    pub latencies: Histogram<u64>,
}

impl Connection {
    /// After a login.
    pub fn new(session: Session, depth: usize, work: Work) -> Connection {
        let block = work.block;
        let mut order = Order::new(work);
        // Data that nothing on the way can make smaller.
        let payload = (0..block.max(8) / 8).flat_map(|_| order.random().to_le_bytes()).collect();
        Connection {
            slots: (0..depth).map(|_| Slot { begun: Instant::now() }).collect(),
            block,
            order,
            payload,
            digests: HashMap::new(),
            out: VecDeque::new(),
            sent: 0,
            input: vec![0; INPUT_BYTES],
            held: 0,
            skip: 0,
            finishing: None,
            latencies: report::histogram(),
            session,
        }
    }

    /// The socket.
    pub fn stream(&self) -> &TcpStream {
        &self.session.stream
    }

    /// Forgets what was counted.
    pub fn forget(&mut self) {
        self.latencies.reset();
    }

    /// Sends the first commands, or none.
    pub fn start(&mut self, commands: bool) -> Result<(), String> {
        self.session.stream.set_nonblocking(true).map_err(|error| error.to_string())?;
        let slots = if commands { self.slots.len() } else { 0 };
        for slot in 0..slots {
            self.issue(slot as u32);
        }
        self.send().map(drop)
    }

    /// Takes what has come and sends what follows. True where more would be sent than the socket takes.
    pub fn turn(&mut self) -> Result<bool, String> {
        loop {
            let room = self.input.len() - self.held;
            match self.session.stream.read(&mut self.input[self.held..]) {
                Ok(0) => return Err("the target has closed the connection".into()),
                Ok(came) => {
                    self.held += came;
                    self.take()?;
                    if came < room {
                        break;
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error.to_string()),
            }
        }
        self.send()
    }

    fn take(&mut self) -> Result<(), String> {
        let mut at = 0;
        let head = BHS_BYTES + if self.session.header_digest { 4 } else { 0 };
        loop {
            let passed = self.skip.min(self.held - at);
            self.skip -= passed;
            at += passed;
            if self.skip > 0 {
                break;
            }
            if let Some(slot) = self.finishing.take() {
                self.finish(slot);
            }
            let Some(header) = self.input.get(at..at + head).filter(|_| at + head <= self.held) else { break };
            let Ok((header, _)) = Header::read_from_prefix(header) else { break };
            at += head;
            let length = header.data_segment_bytes();
            self.skip = (length + padding(length)) as usize;
            if self.session.data_digest && length > 0 {
                self.skip += 4;
            }
            self.header(&header)?;
        }
        self.input.copy_within(at..self.held, 0);
        self.held -= at;
        Ok(())
    }

    fn header(&mut self, header: &Header) -> Result<(), String> {
        let tag = header.initiator_task_tag.get();
        let opcode = header.opcode();
        let ends = opcode == Opcode::ScsiResponse as u8 || opcode == Opcode::DataIn as u8 && header.flags & 1 != 0;
        if ends {
            let status = header.specific[1];
            let stat_sn = u32::from_be_bytes([header.rest[4], header.rest[5], header.rest[6], header.rest[7]]);
            if status != 0 {
                return Err(format!("a command ended with status {status:02X}h"));
            }
            self.session.exp_stat_sn = stat_sn.wrapping_add(1);
            self.finishing = Some(tag);
        } else if opcode == Opcode::ReadyToTransfer as u8 {
            let asked = *ReadyToTransfer::view(header);
            self.answer(&asked);
        } else if opcode == Opcode::NopIn as u8 {
            let ping = *NopIn::view(header);
            if ping.target_transfer_tag.get() != RESERVED_TAG {
                let mut pong = NopOut::empty();
                pong.opcode_byte |= IMMEDIATE;
                pong.flags = FINAL;
                pong.lun = ping.lun;
                pong.initiator_task_tag = RESERVED_TAG.into();
                pong.target_transfer_tag = ping.target_transfer_tag;
                pong.cmd_sn = self.session.cmd_sn.into();
                pong.exp_stat_sn = self.session.exp_stat_sn.into();
                self.push(pong, 0);
            }
        } else if opcode != Opcode::DataIn as u8 {
            return Err(format!("the target sent a PDU of opcode {opcode:02X}h"));
        }
        Ok(())
    }

    fn finish(&mut self, slot: u32) {
        if let Some(done) = self.slots.get(slot as usize) {
            let nanoseconds = done.begun.elapsed().as_nanos() as u64;
            self.latencies.saturating_record(nanoseconds);
            self.issue(slot);
        }
    }

    fn issue(&mut self, slot: u32) {
        let (number, write) = self.order.next();
        let length = self.block;
        let block_length = u64::from(self.session.block_length);
        let mut header = ScsiCommand::empty();
        header.flags = FINAL | 0x01 | if write { 0x20 } else { 0x40 };
        header.lun = self.session.lun;
        header.initiator_task_tag = slot.into();
        header.expected_data_transfer_length = (length as u32).into();
        header.cmd_sn = self.session.cmd_sn.into();
        header.exp_stat_sn = self.session.exp_stat_sn.into();
        self.session.cmd_sn = self.session.cmd_sn.wrapping_add(1);
        header.cdb[0] = if write { 0x8a } else { 0x88 };
        header.cdb[2..10].copy_from_slice(&(number * length / block_length).to_be_bytes());
        header.cdb[10..14].copy_from_slice(&((length / block_length) as u32).to_be_bytes());
        let immediate = if write { length.min(u64::from(self.session.immediate)) as usize } else { 0 };
        if let Some(slot) = self.slots.get_mut(slot as usize) {
            slot.begun = Instant::now();
        }
        self.push(header, immediate);
    }

    fn answer(&mut self, asked: &ReadyToTransfer) {
        let (mut at, end) = (0, asked.desired_data_transfer_length.get());
        let mut data_sn = 0u32;
        while at < end {
            let length = (end - at).min(self.session.segment);
            let mut header = DataOut::empty();
            header.flags = if at + length == end { FINAL } else { 0 };
            header.lun = asked.lun;
            header.initiator_task_tag = asked.initiator_task_tag;
            header.target_transfer_tag = asked.target_transfer_tag;
            header.exp_stat_sn = self.session.exp_stat_sn.into();
            header.data_sn = data_sn.into();
            header.buffer_offset = (asked.buffer_offset.get() + at).into();
            self.push(header, length as usize);
            (at, data_sn) = (at + length, data_sn + 1);
        }
    }

    fn push<P: Pdu>(&mut self, mut header: P, payload: usize) {
        let payload = payload.min(self.payload.len());
        if !self.session.floor || payload < 1 << 24 {
            header.set_data_segment_bytes(payload as u32);
        }
        let mut bytes = [0; BHS_BYTES + 4];
        bytes[..BHS_BYTES].copy_from_slice(header.as_bytes());
        let mut length = BHS_BYTES;
        if self.session.header_digest {
            let digest = Crc32c::over(&bytes[..BHS_BYTES]);
            bytes[BHS_BYTES..].copy_from_slice(&digest.to_le_bytes());
            length += 4;
        }
        self.out.push_back(Piece::Small(bytes, length));
        if payload > 0 {
            self.out.push_back(Piece::Payload(payload));
            if self.session.data_digest {
                let data = &self.payload[..payload];
                let digest = *self.digests.entry(payload).or_insert_with(|| Crc32c::over(data));
                let mut bytes = [0; BHS_BYTES + 4];
                bytes[..4].copy_from_slice(&digest.to_le_bytes());
                self.out.push_back(Piece::Small(bytes, 4));
            }
        }
    }

    fn send(&mut self) -> Result<bool, String> {
        while !self.out.is_empty() {
            let mut slices = [IoSlice::new(&[]); SLICES];
            let mut count = 0;
            for (slice, piece) in slices.iter_mut().zip(&self.out) {
                let bytes = match piece {
                    Piece::Small(bytes, length) => &bytes[..*length],
                    Piece::Payload(length) => &self.payload[..*length],
                };
                *slice = IoSlice::new(if count == 0 { &bytes[self.sent..] } else { bytes });
                count += 1;
            }
            match (&self.session.stream).write_vectored(&slices[..count]) {
                Ok(written) => {
                    self.sent += written;
                    while let Some(piece) = self.out.front() {
                        let (Piece::Small(_, length) | Piece::Payload(length)) = piece;
                        if self.sent < *length {
                            break;
                        }
                        self.sent -= length;
                        self.out.pop_front();
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(true),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error.to_string()),
            }
        }
        Ok(false)
    }
}
