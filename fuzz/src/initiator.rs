//! The initiator against a target that says anything: what is asked for goes on, nothing lands outside a
//! command's memory, nothing is sent that is not there, and every command ends once.
//!
//! Input: a setting, then what the caller does and what the target sends. A PDU of the target belongs to
//! something that was asked for, with the numbers that are due, where the input does not say otherwise.

use crate::Input;
use iscsi::initiator::{
    Command, ConnectionError, ConnectionId, Event, Function, Limits, LogoutReason, Opening, Place, Segment, Session,
    TaskId, TxBatch,
};
use iscsi::key::{ConnectionParameters, SessionParameters, TaskReporting};
use iscsi::wire::{BHS_BYTES, Header, Opcode, RESERVED_TAG};
use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};
use zerocopy::FromBytes;

const RECORDS: usize = 64;
const COMMANDS: u32 = 32;
/// Bytes that the initiator may send for one thing that happened.
const BYTES_FOR_RECORD: usize = 4 << 20;

// The setting.
const LEVEL_MASK: u8 = 0x03;
const INITIAL_R2T: u8 = 0x04;
const NO_IMMEDIATE: u8 = 0x08;
const SMALL: u8 = 0x10;
const DIGESTS: u8 = 0x20;
const FAST_ABORT: u8 = 0x40;
/// Data may come in any order.
const NO_ORDER: u8 = 0x80;

// What is wrong about a PDU of the target.
/// StatSN is another than the next.
const OTHER_STAT_SN: u8 = 0x01;
const OTHER_TAG: u8 = 0x02;
const OTHER_DATA_SN: u8 = 0x04;
const OTHER_OFFSET: u8 = 0x08;
const BAD_DATA_DIGEST: u8 = 0x10;
const BAD_HEADER_DIGEST: u8 = 0x20;
const OTHER_WINDOW: u8 = 0x40;
/// DataSegmentLength is not the data's, or the data goes on.
const LIES: u8 = 0x80;

/// A course of events.
pub fn run(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let mut rig = Rig::new(input.byte());
    for _ in 0..RECORDS {
        if input.is_empty() {
            break;
        }
        rig.record(&mut input);
        rig.drain();
    }
    rig.session.abandon();
    rig.events();
    assert!(rig.session.is_over());
    assert!(rig.tasks.is_empty() && rig.session.tasks() == 0, "commands that do not end: {:?}", rig.tasks);
}

/// A request that was sent.
struct Asked {
    header: Vec<u8>,
    data_sn: u32,
    offset: u32,
}

struct Rig {
    setting: u8,
    session: Session,
    now: Instant,
    connections: Vec<ConnectionId>,
    stat_sn: HashMap<ConnectionId, u32>,
    /// Bytes of each command's memory: what comes, what goes.
    tasks: HashMap<TaskId, (u32, u32)>,
    asked: VecDeque<Asked>,
    cmd_sn: u32,
}

impl Rig {
    fn new(setting: u8) -> Rig {
        let now = *crate::login::BEGUN;
        let parameters = SessionParameters {
            error_recovery_level: u32::from(setting & LEVEL_MASK).min(2),
            initial_r2t: setting & INITIAL_R2T != 0,
            immediate_data: setting & NO_IMMEDIATE == 0,
            max_connections: 4,
            task_reporting: if setting & FAST_ABORT != 0 { TaskReporting::FastAbort } else { TaskReporting::Rfc3720 },
            data_sequence_in_order: setting & NO_ORDER == 0,
            ..SessionParameters::default()
        };
        let limits = Limits { commands: COMMANDS, requests: 8, text_bytes: 16 << 10, ..Limits::default() };
        let (session, c) = Session::new(parameters, limits, 1, opening(setting, 1), now);
        Rig {
            setting,
            session,
            now,
            connections: vec![c],
            stat_sn: HashMap::from([(c, 1)]),
            tasks: HashMap::new(),
            asked: VecDeque::new(),
            cmd_sn: 1,
        }
    }

    fn record(&mut self, input: &mut Input<'_>) {
        let (kind, choice) = (input.byte(), input.byte());
        let c = self.connections[usize::from(choice >> 6) % self.connections.len()];
        match kind & 0x0f {
            0..=2 => {
                let (lun, length) = (choice & 1, u32::from(input.byte()) << if choice & 2 == 0 { 5 } else { 12 });
                let mut command = Command::new([0, lun, 0, 0, 0, 0, 0, 0], &[0x28; 16]);
                (command.data_in, command.data_out) = match kind & 0x0f {
                    0 => (length, 0),
                    1 => (0, length),
                    _ => (length, length / 2),
                };
                command.immediate = choice & 4 != 0;
                if let Ok(id) = self.session.submit(self.now, c, command.clone()) {
                    let other = self.tasks.insert(id, (command.data_in, command.data_out));
                    assert!(other.is_none(), "a name that is in use");
                }
                assert!(self.session.tasks() <= COMMANDS as usize);
            }
            3 => {
                let id = self.tasks.keys().copied().min_by_key(|id| id.number().wrapping_mul(u64::from(choice) | 1));
                if let Some(id) = id {
                    self.session.abort(id);
                }
            }
            4 => {
                let function = match choice & 7 {
                    0 => Function::AbortTaskSet,
                    1 => Function::ClearTaskSet,
                    2 => Function::LogicalUnitReset,
                    3 => Function::TargetWarmReset,
                    4 => Function::TargetColdReset,
                    _ => Function::ClearAca,
                };
                self.session.task_management(c, function, [0; 8]);
            }
            5 => drop(self.session.ping(c, &[7; 16][..usize::from(choice & 15)])),
            6 => drop(self.session.send_text(c, b"SendTargets=All\0")),
            7 => {
                let reason = match choice & 3 {
                    0 => LogoutReason::Session,
                    1 => LogoutReason::Connection,
                    _ => LogoutReason::Recovery { cid: u16::from(choice >> 2 & 7) },
                };
                self.session.logout(c, reason);
            }
            8 => {
                let header: [u8; BHS_BYTES] = input.array();
                let data = input.counted().to_vec();
                self.receive(c, header, &data, 0);
            }
            9 => {
                self.now += Duration::from_secs(u64::from(choice & 63));
                let mut is_due = true;
                for _ in 0..64 {
                    if let Some((lost, _)) = self.session.handle_timeout(self.now) {
                        self.session.handle_closed(self.now, lost);
                    }
                    self.drain();
                    is_due = self.session.poll_timeout().is_some_and(|next| next <= self.now);
                    if !is_due {
                        break;
                    }
                }
                assert!(!is_due, "what is due stays due: a driver would never sleep");
            }
            10 => self.session.handle_closed(self.now, c),
            11 => {
                if self.connections.len() < 6 && self.session.connections() < 4 && !self.session.is_over() {
                    let c = self.session.attach(opening(self.setting, 1 + u16::from(choice & 7)), self.now);
                    if !self.connections.contains(&c) {
                        self.connections.push(c);
                    }
                    self.stat_sn.insert(c, 1);
                }
            }
            _ => self.target(input, c, choice),
        }
    }

    /// A PDU of the target.
    fn target(&mut self, input: &mut Input<'_>, c: ConnectionId, choice: u8) {
        const OPCODES: [Opcode; 11] = [
            Opcode::DataIn,
            Opcode::ScsiResponse,
            Opcode::ReadyToTransfer,
            Opcode::NopIn,
            Opcode::TaskManagementResponse,
            Opcode::TextResponse,
            Opcode::LogoutResponse,
            Opcode::AsyncMessage,
            Opcode::Reject,
            Opcode::LoginResponse,
            Opcode::NopOut,
        ];
        let opcode = OPCODES[usize::from(choice & 0x3f) % OPCODES.len()];
        let [how, which, flags, value] = input.array();
        let mut header = [0; BHS_BYTES];
        header[0] = opcode as u8;
        header[1] = flags;
        let index = usize::from(which) % self.asked.len().max(1);
        let asked = self.asked.get_mut(index);
        let mut put = |at: usize, word: u32| header[at..at + 4].copy_from_slice(&word.to_be_bytes());
        let word = |bytes: &[u8], at: usize| u32::from_be_bytes(bytes[at..at + 4].try_into().expect("four bytes"));
        let (tag, data_sn, offset) =
            asked.as_ref().map_or((RESERVED_TAG, 0, 0), |asked| (word(&asked.header, 16), asked.data_sn, asked.offset));
        put(16, if how & OTHER_TAG == 0 { tag } else { input.word() });
        let stat_sn = self.stat_sn.entry(c).or_insert(1);
        let numbered = match opcode {
            Opcode::DataIn => flags & 1 != 0,
            Opcode::ReadyToTransfer => false,
            Opcode::NopIn => tag != RESERVED_TAG,
            _ => true,
        };
        let other = if how & OTHER_STAT_SN == 0 { 0 } else { i32::from(input.byte() as i8) as u32 };
        put(24, stat_sn.wrapping_add(other));
        if numbered && other == 0 {
            *stat_sn = stat_sn.wrapping_add(1);
        }
        let window = if how & OTHER_WINDOW == 0 { 64 } else { input.word() };
        put(28, self.cmd_sn);
        put(32, self.cmd_sn.wrapping_add(window));
        put(36, if how & OTHER_DATA_SN == 0 { data_sn } else { u32::from(value) });
        put(40, if how & OTHER_OFFSET == 0 { offset } else { input.word() });
        let mut data = Vec::new();
        match opcode {
            Opcode::DataIn => {
                data.resize(usize::from(value) << 5, 0x5a);
                put(20, RESERVED_TAG);
                // The residual; with A the tag of the acknowledgment.
                put(44, 0);
            }
            Opcode::ReadyToTransfer => {
                put(20, u32::from(which) + 1);
                put(44, u32::from(value) << 7);
            }
            Opcode::ScsiResponse => {
                header[3] = value & 0x3e;
                data.extend_from_slice(input.counted());
            }
            Opcode::NopIn => {
                header[20..24].copy_from_slice(&if flags & 1 == 0 { [0xff; 4] } else { [0, 0, 0, value] });
                data.extend_from_slice(input.counted());
            }
            Opcode::TextResponse => {
                header[20..24].copy_from_slice(&if flags & 0x80 == 0 { [0, 0, 0, value] } else { [0xff; 4] });
                data.extend_from_slice(input.counted());
            }
            Opcode::AsyncMessage => {
                header[36] = value & 7;
                header[16..20].fill(0xff);
                data.extend_from_slice(input.counted());
            }
            Opcode::Reject => {
                header[2] = value & 15;
                header[16..20].fill(0xff);
                data.extend(asked.as_ref().map_or(&[][..], |asked| &asked.header));
            }
            _ => header[2] = value & 15,
        }
        if let Some(asked) = asked {
            match opcode {
                Opcode::DataIn => {
                    asked.data_sn = asked.data_sn.wrapping_add(1);
                    asked.offset = asked.offset.wrapping_add(data.len() as u32);
                }
                Opcode::ReadyToTransfer => {
                    asked.data_sn = asked.data_sn.wrapping_add(1);
                    asked.offset = asked.offset.wrapping_add(u32::from(value) << 7);
                }
                _ => {}
            }
        }
        let length = if how & LIES == 0 { data.len() as u32 } else { u32::from(input.short()) << 8 };
        header[5..8].copy_from_slice(&length.to_be_bytes()[1..]);
        data.resize(length as usize, 0);
        self.receive(c, header, &data, how);
    }

    fn receive(&mut self, c: ConnectionId, header: [u8; BHS_BYTES], data: &[u8], how: u8) {
        let digests = self.setting & DIGESTS != 0;
        let header_ok = !(digests && how & BAD_HEADER_DIGEST != 0);
        let data_ok = !(digests && how & BAD_DATA_DIGEST != 0);
        let total = self.session.header_bytes(c, &header);
        assert!((BHS_BYTES..=BHS_BYTES + 1024).contains(&total));
        let mut whole = header.to_vec();
        whole.resize(BHS_BYTES + usize::from(header[4]) * 4, 0);
        let incoming = match self.session.handle_header(self.now, c, &whole, header_ok) {
            Ok(incoming) => incoming,
            Err(error) => return self.broken(c, &error),
        };
        let limit = self.session.connection_parameters(c).map_or(0, |p| p.max_recv_data_segment_length);
        assert!(incoming.length <= limit || incoming.place == Place::Discard, "{} bytes are taken", incoming.length);
        if incoming.length == 0 {
            return;
        }
        let end = data.len().min(incoming.length as usize);
        match incoming.place {
            Place::Task { task, offset } => {
                let (memory, _) = self.tasks.get(&task).copied().expect("a task that has not ended");
                let end = u64::from(offset) + u64::from(incoming.length);
                assert!(end <= u64::from(memory), "up to {end} of {memory} bytes of memory");
            }
            Place::Arena => self.session.collect(c, &data[..end]),
            Place::Discard => {}
        }
        if let Err(error) = self.session.handle_data_end(c, data_ok) {
            self.broken(c, &error);
        }
    }

    /// A connection is given up; a format error has ended the session.
    fn broken(&mut self, c: ConnectionId, error: &ConnectionError) {
        let format = matches!(error, ConnectionError::Format(what) if *what != "a closed connection");
        assert!(!format || self.session.is_over(), "a session goes on behind {error}");
        self.session.handle_closed(self.now, c);
    }

    /// Takes everything that the initiator has to send, and to tell.
    fn drain(&mut self) {
        let mut sent = 0;
        for c in self.connections.clone() {
            loop {
                let mut batch = TxBatch::default();
                self.session.poll_transmit(self.now, c, &mut batch);
                if batch.is_empty() {
                    break;
                }
                sent += batch.arena.len();
                let limit = self.session.connection_parameters(c).map_or(u32::MAX, |p| p.max_send_data_segment_length);
                for segment in &batch.segments {
                    match segment {
                        Segment::Arena(range) => self.note(&batch.arena[range.clone()]),
                        Segment::Payload { task, offset, length } => {
                            let (_, memory) = self.tasks.get(task).copied().expect("a task that has not ended");
                            assert!(u64::from(*offset) + u64::from(*length) <= u64::from(memory), "beyond the data");
                            assert!(*length <= limit, "{length} bytes where {limit} are taken");
                            sent += *length as usize;
                        }
                    }
                }
                assert!(sent <= BYTES_FOR_RECORD, "{sent} bytes for one thing that happened");
                self.session.transmitted(&batch);
            }
            if self.session.wants_close(c) && self.session.connection_parameters(c).is_some() {
                self.session.handle_closed(self.now, c);
            }
        }
        self.events();
    }

    /// Headers of requests, for answers to them.
    fn note(&mut self, bytes: &[u8]) {
        let Ok((header, _)) = Header::ref_from_prefix(bytes) else { return };
        if header.opcode() >= 0x20 || header.opcode() == Opcode::DataOut as u8 {
            return;
        }
        if self.asked.len() == 16 {
            self.asked.pop_front();
        }
        self.cmd_sn = self.session.cmd_sn();
        self.asked.push_back(Asked { header: bytes[..BHS_BYTES].to_vec(), data_sn: 0, offset: 0 });
    }

    fn events(&mut self) {
        let mut count = 0;
        while let Some(event) = self.session.poll_event() {
            count += 1;
            assert!(count <= 256, "events without end");
            match event {
                Event::Completed(id, outcome) => {
                    let (memory, _) = self.tasks.remove(&id).expect("a command ends once");
                    if let iscsi::initiator::Outcome::Answered { data_in, sense, .. } = outcome {
                        assert!(data_in <= memory && sense.len() <= 1 << 18);
                    }
                }
                Event::Text { text: Some(text), .. } => assert!(text.len() <= 16 << 10, "{} bytes", text.len()),
                Event::Pong { data, .. } => assert!(data.len() <= 1 << 18),
                _ => {}
            }
        }
        assert_eq!(self.tasks.len(), self.session.tasks());
    }
}

fn opening(setting: u8, cid: u16) -> Opening {
    let length = if setting & SMALL != 0 { 512 } else { 65_536 };
    let parameters = ConnectionParameters {
        header_digest: setting & DIGESTS != 0,
        data_digest: setting & DIGESTS != 0,
        max_recv_data_segment_length: length,
        max_send_data_segment_length: length,
    };
    Opening { cid, parameters, next_stat_sn: 1 }
}
