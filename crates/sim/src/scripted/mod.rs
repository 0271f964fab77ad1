//! A target that does exactly what a test says, legal or not, over any byte stream: the other way round of
//! [`crate::raw`].
//!
//! ```text
//!   scripted::Target ── Transport ──► driven::Wire ──► driven::Driven     the sans-IO initiator in this process
//!          └────────────── Transport ──► TcpStream ◄── the library or the real binary, through server::Server
//! ```
//!
//! [`Target::say`] numbers what it sends as a target has to, [`Target::send`] sends any frame as it stands.
//! What the initiator sends waits in order for [`Target::expect`], and is judged: an initiator that breaks a
//! rule of its own (numbers, windows, lengths, tags) fails the test whatever the target did to it.

mod answers;
pub mod driven;
mod judge;
mod login;
pub mod server;

pub use driven::Driven;
pub use login::{Accepts, Asked};
pub use server::Server;

use crate::frame::{Assembler, Digests, Frame};
use crate::raw::{Ended, Transport};
use iscsi::key::SessionParameters;
use iscsi::wire::{BHS_BYTES, DataIn, NopIn, Opcode, Pdu, RESERVED_TAG, ScsiResponse};
use judge::Judge;
use std::collections::VecDeque;
use std::io::ErrorKind;
use std::time::Duration;

/// How long a target waits for a request before the test has failed.
const PATIENCE: Duration = Duration::from_secs(20);
/// Frames that are shown with what went wrong.
const TRACE: usize = 32;

/// A target's end of one connection.
pub struct Target<T: Transport> {
    stream: T,
    assembler: Assembler,
    inbox: VecDeque<Frame>,
    judge: Judge,
    trace: VecDeque<String>,
    /// StatSN of the next status.
    pub stat_sn: u32,
    /// ExpCmdSN that is told; follows the commands that come, unless [`Target::keeps_window`].
    pub exp_cmd_sn: u32,
    /// MaxCmdSN less ExpCmdSN, plus one: commands that are let in.
    pub window: u32,
    /// ExpCmdSN stays as it is set.
    pub keeps_window: bool,
    /// What the login agreed on for the session.
    pub agreed: SessionParameters,
}

impl<T: Transport> Target<T> {
    /// Over this stream, before a login.
    pub fn over(mut stream: T) -> Target<T> {
        stream.set_patience(PATIENCE);
        Target {
            stream,
            assembler: Assembler::default(),
            inbox: VecDeque::new(),
            judge: Judge::default(),
            trace: VecDeque::new(),
            stat_sn: 0x50,
            exp_cmd_sn: 1,
            window: 32,
            keeps_window: false,
            agreed: SessionParameters::default(),
        }
    }

    /// The stream.
    pub fn transport(&mut self) -> &mut T {
        &mut self.stream
    }

    /// Which digests the connection uses from now on.
    pub fn digests(&mut self) -> &mut Digests {
        &mut self.assembler.digests
    }

    /// A header with the numbers that are due. A status number is used up where the PDU bears one.
    pub fn numbered<P: Pdu + Copy>(&mut self, header: P) -> P {
        let mut bytes = [0; BHS_BYTES];
        bytes.copy_from_slice(header.as_bytes());
        let mut put = |at: usize, word: u32| bytes[at..at + 4].copy_from_slice(&word.to_be_bytes());
        put(24, self.stat_sn);
        put(28, self.exp_cmd_sn);
        put(32, self.exp_cmd_sn.wrapping_add(self.window).wrapping_sub(1));
        let tag = u32::from_be_bytes([bytes[16], bytes[17], bytes[18], bytes[19]]);
        let bears = match P::OPCODE {
            Opcode::DataIn => bytes[1] & 0x01 != 0,
            Opcode::ReadyToTransfer => false,
            Opcode::NopIn => tag != RESERVED_TAG,
            _ => true,
        };
        if bears {
            self.stat_sn = self.stat_sn.wrapping_add(1);
        }
        P::read_from_bytes(&bytes).expect("48 bytes")
    }

    /// Sends a PDU with the numbers that are due.
    pub fn say<P: Pdu + Copy>(&mut self, header: P, data: &[u8]) {
        let header = self.numbered(header);
        self.send(&Frame::new(header, data));
    }

    /// Sends a frame as it stands.
    pub fn send(&mut self, frame: &Frame) {
        self.note(format!("target    {}", frame.summary()));
        let bytes = frame.encode(self.assembler.digests);
        self.send_bytes(&bytes);
    }

    /// The same with a data digest that does not match.
    pub fn send_spoiled(&mut self, frame: &Frame) {
        self.note(format!("target    {} (spoiled)", frame.summary()));
        let mut bytes = frame.encode(self.assembler.digests);
        if let Some(last) = bytes.last_mut() {
            *last ^= 0x55;
        }
        self.send_bytes(&bytes);
    }

    /// Sends bytes. A connection that the initiator has closed shows at the next read.
    pub fn send_bytes(&mut self, bytes: &[u8]) {
        match self.stream.write_all(bytes) {
            Ok(()) => {}
            Err(error) if matches!(error.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset) => {}
            Err(error) => panic!("send: {error}\n{}", self.frames()),
        }
    }

    /// The next frame.
    pub fn receive(&mut self) -> Result<Frame, Ended> {
        loop {
            if let Some(frame) = self.inbox.pop_front() {
                return Ok(frame);
            }
            self.pump()?;
        }
    }

    /// The next frame; it must be of this kind.
    pub fn expect<P: Pdu + Copy>(&mut self) -> (P, Vec<u8>) {
        match self.receive() {
            Ok(frame) => match frame.view::<P>() {
                Some(view) => (*view, frame.data.clone()),
                None => panic!("{:?} expected, got {}\n{}", P::OPCODE, frame.summary(), self.frames()),
            },
            Err(ended) => panic!("{:?} expected, got {ended:?}\n{}", P::OPCODE, self.frames()),
        }
    }

    /// The next frame of this kind; what comes before it is passed over.
    pub fn await_one<P: Pdu + Copy>(&mut self) -> (P, Vec<u8>) {
        loop {
            match self.receive() {
                Ok(frame) => {
                    if let Some(view) = frame.view::<P>() {
                        return (*view, frame.data.clone());
                    }
                }
                Err(ended) => panic!("{:?} expected, got {ended:?}\n{}", P::OPCODE, self.frames()),
            }
        }
    }

    /// Nothing comes for this long.
    pub fn expect_silence(&mut self, time: Duration) {
        self.stream.set_patience(time);
        let outcome = self.receive();
        self.stream.set_patience(PATIENCE);
        match outcome {
            Err(Ended::Silence) => {}
            Err(Ended::Closed) => panic!("the connection was closed\n{}", self.frames()),
            Ok(frame) => panic!("silence expected, got {}\n{}", frame.summary(), self.frames()),
        }
    }

    /// The initiator closes the connection; returns what it sent before.
    pub fn expect_closed(&mut self) -> Vec<Frame> {
        let mut frames = Vec::new();
        loop {
            match self.receive() {
                Ok(frame) => frames.push(frame),
                Err(Ended::Closed) => return frames,
                Err(Ended::Silence) => panic!("the connection stays open\n{}", self.frames()),
            }
        }
    }

    /// The last frames, for a person.
    pub fn frames(&self) -> String {
        self.trace.iter().map(|line| format!("  {line}\n")).collect()
    }

    fn note(&mut self, line: String) {
        if self.trace.len() == TRACE {
            self.trace.pop_front();
        }
        self.trace.push_back(line);
    }

    /// Reads until one more frame was taken in.
    fn pump(&mut self) -> Result<(), Ended> {
        loop {
            if let Some((frame, complaints)) = self.assembler.take() {
                self.note(format!("initiator {}", frame.summary()));
                if let Err(what) = self.judge.frame(&frame, &complaints, self.exp_cmd_sn, self.window) {
                    panic!("the initiator breaks a rule: {what}\n{}", self.frames());
                }
                self.follow(&frame);
                self.inbox.push_back(frame);
                return Ok(());
            }
            let mut bytes = vec![0; 64 << 10];
            match self.stream.read(&mut bytes) {
                Ok(0) => return Err(Ended::Closed),
                Ok(count) => self.assembler.push(&bytes[..count]),
                Err(error) => match error.kind() {
                    ErrorKind::WouldBlock | ErrorKind::TimedOut => return Err(Ended::Silence),
                    ErrorKind::Interrupted => {}
                    ErrorKind::ConnectionReset | ErrorKind::BrokenPipe | ErrorKind::ConnectionAborted => {
                        return Err(Ended::Closed);
                    }
                    _ => panic!("receive: {error}"),
                },
            }
        }
    }

    /// ExpCmdSN follows the commands.
    fn follow(&mut self, frame: &Frame) {
        let basic = frame.basic();
        let numbered = matches!(frame.opcode(), 0x00..=0x04 | 0x06) && !basic.immediate();
        if numbered && !self.keeps_window && frame.opcode() != Opcode::LoginRequest as u8 {
            let cmd_sn = u32::from_be_bytes(frame.header[24..28].try_into().expect("four bytes"));
            if cmd_sn == self.exp_cmd_sn {
                self.exp_cmd_sn = cmd_sn.wrapping_add(1);
            }
        }
    }
}

/// A Data-In for this tag, without status.
pub fn data_in(tag: u32, data_sn: u32, offset: u32) -> DataIn {
    let mut header = DataIn::empty();
    header.initiator_task_tag = tag.into();
    header.target_transfer_tag = RESERVED_TAG.into();
    header.data_sn = data_sn.into();
    header.buffer_offset = offset.into();
    header
}

/// GOOD for this tag.
pub fn response(tag: u32) -> ScsiResponse {
    let mut header = ScsiResponse::empty();
    header.flags = iscsi::wire::FINAL;
    header.initiator_task_tag = tag.into();
    header
}

/// News of the command window, which wants no answer.
pub fn news() -> NopIn {
    let mut header = NopIn::empty();
    header.flags = iscsi::wire::FINAL;
    header.initiator_task_tag = RESERVED_TAG.into();
    header.target_transfer_tag = RESERVED_TAG.into();
    header
}
