//! An initiator that does exactly what a test says, legal or not, over any byte stream.
//!
//! [`Client::send`] puts any frame on the wire; commands that it starts itself ([`Client::start`]) it
//! also carries through: it collects their data-in and answers their R2Ts. Everything else that the
//! target sends waits in order for [`Client::expect`].

mod chap;
mod command;
mod login;

pub use chap::Chap;
pub use command::{Answer, Command, Condition};
pub use login::{Login, Refused};

use crate::capture::{Agreed, Capture};
use crate::frame::{Assembler, Frame};
use command::Started;
use iscsi::wire::{
    DataOut, FINAL, IMMEDIATE, LogoutRequest, LogoutResponse, NopIn, NopOut, Opcode, Pdu, RESERVED_TAG,
    ReadyToTransfer, ScsiResponse, TaskManagementRequest, TaskManagementResponse, TextRequest, TextResponse,
};
use std::collections::{HashMap, VecDeque};
use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// How long a client waits for an answer before the test has failed.
const PATIENCE: Duration = Duration::from_secs(20);

/// A byte stream to a target.
pub trait Transport: Read + Write {
    /// How long a read waits before it fails with `WouldBlock` or `TimedOut`.
    fn set_patience(&mut self, patience: Duration);
}

impl Transport for TcpStream {
    fn set_patience(&mut self, patience: Duration) {
        self.set_read_timeout(Some(patience)).expect("a read timeout");
    }
}

/// Why no more frames came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// The target closed or reset the connection.
    Closed,
    /// Nothing came for as long as was waited.
    Silence,
}

/// A connection of an initiator. Dropping it asserts that the target kept to the wire's rules.
pub struct Client<T: Transport = TcpStream> {
    stream: T,
    assembler: Assembler,
    /// What both sides sent.
    pub capture: Capture,
    /// CmdSN of the next command that is not immediate, on the one connection of a session.
    pub cmd_sn: u32,
    /// The same where the session has several.
    common_cmd_sn: Option<Arc<AtomicU32>>,
    /// ExpStatSN of the next request.
    pub exp_stat_sn: u32,
    /// Leaves R2Ts unanswered: they wait for [`Client::expect`].
    pub hold_data: bool,
    next_tag: u32,
    cid: u16,
    started: HashMap<u32, Started>,
    inbox: VecDeque<Frame>,
}

/// A connection to this portal from this address of the machine.
pub fn connect_from(source: IpAddr, portal: SocketAddr) -> std::io::Result<TcpStream> {
    let domain = socket2::Domain::for_address(portal);
    let socket = socket2::Socket::new(domain, socket2::Type::STREAM, Some(socket2::Protocol::TCP))?;
    socket.bind(&SocketAddr::new(source, 0).into())?;
    socket.connect_timeout(&portal.into(), PATIENCE)?;
    let stream = TcpStream::from(socket);
    stream.set_nodelay(true)?;
    stream.set_write_timeout(Some(PATIENCE))?;
    Ok(stream)
}

impl Client<TcpStream> {
    /// A connection to this portal, before its login.
    pub fn connect(portal: SocketAddr) -> Client {
        let stream = TcpStream::connect_timeout(&portal, PATIENCE).expect("the target listens");
        stream.set_nodelay(true).expect("no delay");
        stream.set_write_timeout(Some(PATIENCE)).expect("a write timeout");
        Client::over(stream)
    }

    /// The same from this address, which is one of the machine.
    pub fn connect_from(source: IpAddr, portal: SocketAddr) -> Client {
        Client::over(connect_from(source, portal).expect("the target listens"))
    }

    /// The socket, for tests that shut it down.
    pub fn socket(&self) -> &TcpStream {
        &self.stream
    }
}

impl<T: Transport> Client<T> {
    /// Over this stream, before its login.
    pub fn over(mut stream: T) -> Client<T> {
        stream.set_patience(PATIENCE);
        Client {
            stream,
            assembler: Assembler::default(),
            capture: Capture::default(),
            cmd_sn: 1,
            common_cmd_sn: None,
            exp_stat_sn: 0,
            hold_data: false,
            next_tag: 0x100,
            cid: 1,
            started: HashMap::new(),
            inbox: VecDeque::new(),
        }
    }

    /// What the login agreed on.
    pub fn agreed(&self) -> &Agreed {
        self.capture.agreed()
    }

    /// The stream.
    pub fn transport(&mut self) -> &mut T {
        &mut self.stream
    }

    /// A task tag that was not used before.
    pub fn tag(&mut self) -> u32 {
        self.next_tag += 1;
        self.next_tag
    }

    /// The number of the next command, which is not used up: an immediate command bears it.
    pub fn next_cmd_sn(&self) -> u32 {
        self.common_cmd_sn.as_ref().map_or(self.cmd_sn, |common| common.load(Ordering::SeqCst))
    }

    /// The number of the next command, which is used up.
    pub fn take_cmd_sn(&mut self) -> u32 {
        if let Some(common) = &self.common_cmd_sn {
            return common.fetch_add(1, Ordering::SeqCst);
        }
        let cmd_sn = self.cmd_sn;
        self.cmd_sn = cmd_sn.wrapping_add(1);
        cmd_sn
    }

    /// Sends a frame as it stands. A connection that the target has closed shows at the next read.
    pub fn send(&mut self, frame: &Frame) {
        self.capture.initiator(frame);
        let bytes = frame.encode(self.assembler.digests);
        self.send_bytes(&bytes);
    }

    /// Sends frames with one write.
    pub fn send_together(&mut self, frames: &[Frame]) {
        let mut bytes = Vec::new();
        for frame in frames {
            self.capture.initiator(frame);
            bytes.extend(frame.encode(self.assembler.digests));
        }
        self.send_bytes(&bytes);
    }

    /// Sends bytes that the checker does not see.
    pub fn send_bytes(&mut self, bytes: &[u8]) {
        match self.stream.write_all(bytes) {
            Ok(()) => {}
            Err(error) if matches!(error.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset) => {}
            Err(error) => panic!("send: {error}\n{}", self.capture.frames()),
        }
    }

    /// The next frame that is not part of a started command.
    pub fn receive(&mut self) -> Result<Frame, Ended> {
        loop {
            if let Some(frame) = self.inbox.pop_front() {
                return Ok(frame);
            }
            self.pump()?;
        }
    }

    /// The next frame that is not part of a started command; it must be of this kind.
    pub fn expect<P: Pdu + Copy>(&mut self) -> (P, Vec<u8>) {
        match self.receive() {
            Ok(frame) => match frame.view::<P>() {
                Some(view) => (*view, frame.data.clone()),
                None => panic!("{:?} expected, got {}\n{}", P::OPCODE, frame.summary(), self.capture.frames()),
            },
            Err(ended) => panic!("{:?} expected, got {ended:?}\n{}", P::OPCODE, self.capture.frames()),
        }
    }

    /// Nothing comes for this long.
    pub fn expect_silence(&mut self, time: Duration) {
        self.stream.set_patience(time);
        let outcome = self.receive();
        self.stream.set_patience(PATIENCE);
        match outcome {
            Err(Ended::Silence) => {}
            Err(Ended::Closed) => panic!("the connection was closed\n{}", self.capture.frames()),
            Ok(frame) => panic!("silence expected, got {}", frame.summary()),
        }
    }

    /// The target closes the connection; returns what it sent before.
    pub fn expect_closed(&mut self) -> Vec<Frame> {
        let mut frames = Vec::new();
        loop {
            match self.receive() {
                Ok(frame) => frames.push(frame),
                Err(Ended::Closed) => return frames,
                Err(Ended::Silence) => panic!("the connection stays open\n{}", self.capture.frames()),
            }
        }
    }

    /// Reads until one more frame was taken in.
    fn pump(&mut self) -> Result<(), Ended> {
        loop {
            if let Some((frame, complaints)) = self.assembler.take() {
                self.capture.target(&frame, &complaints);
                if self.capture.is_full_feature() {
                    self.assembler.digests = self.agreed().digests;
                }
                self.take_in(frame);
                return Ok(());
            }
            let mut bytes = [0; 64 << 10];
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

    fn take_in(&mut self, frame: Frame) {
        let basic = frame.basic();
        let tag = basic.initiator_task_tag.get();
        let numbers = ScsiResponse::view(basic);
        let unnumbered = match Opcode::from_number(frame.opcode()) {
            Some(Opcode::DataIn) => basic.flags & 0x01 == 0,
            Some(Opcode::ReadyToTransfer) => true,
            Some(Opcode::NopIn) => tag == RESERVED_TAG,
            _ => false,
        };
        if !unnumbered {
            self.exp_stat_sn = numbers.stat_sn.get().wrapping_add(1);
        }
        if let Some(ping) = frame.view::<NopIn>()
            && tag == RESERVED_TAG
        {
            if ping.target_transfer_tag.get() != RESERVED_TAG {
                let mut pong = self.ping_header(RESERVED_TAG);
                pong.target_transfer_tag = ping.target_transfer_tag;
                pong.lun = ping.lun;
                self.send(&Frame::new(pong, &[]));
            }
            return;
        }
        let held = self.hold_data && frame.opcode() == Opcode::ReadyToTransfer as u8;
        let taken = !held && self.started.get_mut(&tag).is_some_and(|started| started.takes(&frame));
        if !taken {
            self.inbox.push_back(frame);
        } else if let Some(asked) = frame.view::<ReadyToTransfer>() {
            let asked = *asked;
            self.answer_ready_to_transfer(&asked);
        }
    }

    /// Sends what this R2T of a started command asks for, in as many PDUs as the command's `chunk` says.
    pub fn answer_ready_to_transfer(&mut self, asked: &ReadyToTransfer) {
        let Some(started) = self.started.get(&asked.initiator_task_tag.get()) else {
            panic!("an R2T for a command that was not started")
        };
        let from = asked.buffer_offset.get() as usize;
        let end = from + asked.desired_data_transfer_length.get() as usize;
        let data = started.data_out(from, end);
        let chunk = started.chunk(self.agreed().target_segment as usize);
        let mut frames = Vec::new();
        let count = data.len().div_ceil(chunk).max(1);
        for number in 0..count {
            let piece = &data[number * chunk..data.len().min((number + 1) * chunk)];
            let mut header = DataOut::empty();
            header.flags = if number + 1 == count { FINAL } else { 0 };
            header.lun = asked.lun;
            header.initiator_task_tag = asked.initiator_task_tag;
            header.target_transfer_tag = asked.target_transfer_tag;
            header.exp_stat_sn = self.exp_stat_sn.into();
            header.data_sn = (number as u32).into();
            header.buffer_offset = ((from + number * chunk) as u32).into();
            frames.push(Frame::new(header, piece));
        }
        self.send_together(&frames);
    }

    /// A NOP-Out with this tag, immediate, without data.
    pub fn ping_header(&mut self, tag: u32) -> NopOut {
        let mut header = NopOut::empty();
        header.opcode_byte |= IMMEDIATE;
        header.flags = FINAL;
        header.initiator_task_tag = tag.into();
        header.target_transfer_tag = RESERVED_TAG.into();
        header.cmd_sn = self.next_cmd_sn().into();
        header.exp_stat_sn = self.exp_stat_sn.into();
        header
    }

    /// Pings the target and returns what comes back. Whatever the target owed before is left waiting.
    pub fn ping(&mut self, data: &[u8]) -> Vec<u8> {
        let tag = self.tag();
        let header = self.ping_header(tag);
        self.send(&Frame::new(header, data));
        self.response::<NopIn>(tag).1
    }

    /// The frame of this kind with this tag; others are left waiting.
    pub fn response<P: Pdu + Copy>(&mut self, tag: u32) -> (P, Vec<u8>) {
        let mut seen = 0;
        loop {
            let found =
                |frame: &Frame| frame.opcode() == P::OPCODE as u8 && frame.basic().initiator_task_tag.get() == tag;
            if let Some(at) = self.inbox.iter().skip(seen).position(found)
                && let Some(frame) = self.inbox.remove(seen + at)
            {
                return (*P::view(frame.basic()), frame.data);
            }
            seen = self.inbox.len();
            if let Err(ended) = self.pump() {
                panic!("{:?} {tag:x} expected, got {ended:?}\n{}", P::OPCODE, self.capture.frames());
            }
        }
    }

    /// A task management request, immediate, for LUN 1.
    pub fn task_management_header(&mut self, function: u8, referenced: u32, ref_cmd_sn: u32) -> TaskManagementRequest {
        let mut header = TaskManagementRequest::empty();
        header.opcode_byte |= IMMEDIATE;
        header.function = FINAL | function;
        header.lun = command::lun(1);
        header.initiator_task_tag = self.tag().into();
        header.referenced_task_tag = referenced.into();
        header.ref_cmd_sn = ref_cmd_sn.into();
        header.cmd_sn = self.next_cmd_sn().into();
        header.exp_stat_sn = self.exp_stat_sn.into();
        header
    }

    /// Carries out a task management function (RFC 7143 §11.5.1) at LUN 1 and returns its response
    /// code (§11.6.1).
    pub fn task_management(&mut self, function: u8, referenced: u32, ref_cmd_sn: u32) -> u8 {
        let header = self.task_management_header(function, referenced, ref_cmd_sn);
        self.send(&Frame::new(header, &[]));
        self.response::<TaskManagementResponse>(header.initiator_task_tag.get()).0.response
    }

    /// A text request, immediate.
    pub fn text_header(&mut self, tag: u32, flags: u8, target_transfer_tag: u32) -> TextRequest {
        let mut header = TextRequest::empty();
        header.opcode_byte |= IMMEDIATE;
        header.flags = flags;
        header.initiator_task_tag = tag.into();
        header.target_transfer_tag = target_transfer_tag.into();
        header.cmd_sn = self.next_cmd_sn().into();
        header.exp_stat_sn = self.exp_stat_sn.into();
        header
    }

    /// Asks a text question and returns the whole answer, asking on as long as it goes on.
    pub fn text(&mut self, question: &[u8]) -> Vec<u8> {
        let tag = self.tag();
        let header = self.text_header(tag, FINAL, RESERVED_TAG);
        self.send(&Frame::new(header, question));
        let mut answer = Vec::new();
        loop {
            let (header, data) = self.response::<TextResponse>(tag);
            answer.extend(data);
            if header.flags & FINAL != 0 {
                return answer;
            }
            let header = self.text_header(tag, FINAL, header.target_transfer_tag.get());
            self.send(&Frame::new(header, &[]));
        }
    }

    /// A logout request with this reason (RFC 7143 §11.14.1), immediate.
    pub fn logout_header(&mut self, reason: u8) -> LogoutRequest {
        let mut header = LogoutRequest::empty();
        header.opcode_byte |= IMMEDIATE;
        header.reason = FINAL | reason;
        header.initiator_task_tag = self.tag().into();
        header.cid = self.cid.into();
        header.cmd_sn = self.next_cmd_sn().into();
        header.exp_stat_sn = self.exp_stat_sn.into();
        header
    }

    /// Logs the session out; the target answers and closes the connection.
    pub fn logout(&mut self) {
        let header = self.logout_header(0);
        self.send(&Frame::new(header, &[]));
        let (answer, _) = self.response::<LogoutResponse>(header.initiator_task_tag.get());
        assert_eq!(answer.response, 0, "the logout succeeds");
        let after = self.expect_closed();
        assert!(after.is_empty(), "nothing follows a logout response: {after:?}");
    }
}

impl<T: Transport> Drop for Client<T> {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.capture.assert_clean();
        }
    }
}
