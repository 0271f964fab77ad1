//! A thread that serves one connection: reads requests, has the store do them, sends replies.
//!
//! Heads and short data are read many at a time into staging; the rest of a long write is read straight into the
//! memory that the store writes from. What there is no memory for waits, and nothing more is read until it has
//! begun: the socket is the only queue. The peer is the kernel, and is believed nothing all the same.

use super::message::{self, Command, EINVAL, EIO, EPERM, Head, REPLY_BYTES, REQUEST_BYTES};
use crate::channel::Channel;
use crate::crew::Crew;
use crate::{Closed, memory};
use block::{Buf, Completion, Operation, Request, RequestId, Slots};
use rustix::event::{PollFd, PollFlags};
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendAncillaryBuffer, SendFlags};
use std::collections::VecDeque;
use std::io::IoSlice;

/// Bytes that are read at a time where it is not known what they are.
const STAGING_BYTES: usize = 64 << 10;
/// The most requests of one connection under way.
const SLOTS: usize = 512;
/// Replies that are handed to the kernel at once.
const REPLIES_MAX: usize = 16;

/// One connection.
pub(super) struct Connection {
    socket: OwnedFd,
    channel: Channel,
    read_only: bool,
    staging: Vec<u8>,
    /// The part of staging that is read and not yet understood.
    from: usize,
    until: usize,
    state: State,
    slots: Slots<Slot>,
    replies: VecDeque<Reply>,
    /// Bytes of the first reply that are sent.
    sent: usize,
    done: Vec<Completion>,
    /// The kernel has said goodbye.
    ended: bool,
}

enum State {
    /// A head comes next.
    Head,
    /// There is no memory for this one yet.
    Waiting(Head),
    /// A write's data come; so many bytes are there.
    Data(Head, Buf, usize),
}

struct Slot {
    cookie: u64,
    length: usize,
    kind: Kind,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Reads,
    Writes,
    Other,
}

struct Reply {
    head: [u8; REPLY_BYTES],
    data: Option<(Buf, usize)>,
}

impl Reply {
    fn length(&self) -> usize {
        REPLY_BYTES + self.data.as_ref().map_or(0, |(_, length)| *length)
    }
}

impl Connection {
    /// Made on the thread that serves it.
    pub(super) fn new(socket: OwnedFd, channel: Channel, read_only: bool) -> Connection {
        Connection {
            socket,
            channel,
            read_only,
            staging: vec![0; STAGING_BYTES],
            from: 0,
            until: 0,
            state: State::Head,
            slots: Slots::default(),
            replies: VecDeque::new(),
            sent: 0,
            done: Vec::new(),
            ended: false,
        }
    }

    /// Serves until told to stop or the kernel is gone; the connection is closed before the store is given up.
    pub(super) fn run(mut self, crew: &Crew) -> Result<(), Closed> {
        memory::protect_thread();
        let result = self.serve(crew);
        let Connection { socket, channel, .. } = self;
        drop(socket);
        drop(channel);
        result
    }

    fn serve(&mut self, crew: &Crew) -> Result<(), Closed> {
        loop {
            // What has ended gives room and memory to what waits: only when nothing moves any more, we wait.
            loop {
                self.understand()?;
                let moved = self.turn() | self.send()?;
                if !moved {
                    break;
                }
            }
            if self.ended && self.replies.is_empty() && self.slots.used() == 0 {
                return Err(Closed::Elsewhere("it was disconnected".into()));
            }
            if !self.wait(crew)? {
                return Ok(());
            }
            self.read()?;
        }
    }

    fn wait(&self, crew: &Crew) -> Result<bool, Closed> {
        let mut wanted = PollFlags::empty();
        if self.may_read() {
            wanted |= PollFlags::IN;
        }
        if !self.replies.is_empty() {
            wanted |= PollFlags::OUT;
        }
        let mut descriptors = [
            PollFd::from_borrowed_fd(crew.stop_signal(), PollFlags::IN),
            PollFd::from_borrowed_fd(self.channel.alarm(), PollFlags::IN),
            PollFd::new(&self.socket, wanted),
        ];
        match rustix::event::poll(&mut descriptors, None) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(Closed::Failed(format!("poll: {error}"))),
        }
        let [stop, _, socket] = &descriptors;
        // A connection that is gone wakes us whatever was wanted, and would for ever.
        let gone = socket.revents().intersects(PollFlags::HUP | PollFlags::ERR) && !self.may_read();
        if gone && stop.revents().is_empty() {
            return Err(Closed::Elsewhere("the kernel has closed the connection".into()));
        }
        Ok(stop.revents().is_empty())
    }

    fn may_read(&self) -> bool {
        !self.ended && self.has_slot() && !matches!(self.state, State::Waiting(_))
    }

    fn has_slot(&self) -> bool {
        self.slots.used() + self.replies.len() < SLOTS
    }

    /// Reads what is there, into a write's memory where one is coming, into staging else.
    fn read(&mut self) -> Result<(), Closed> {
        if !self.may_read() {
            return Ok(());
        }
        let room = match &mut self.state {
            State::Data(head, buffer, filled) if self.from == self.until => {
                &mut buffer.as_mut_slice()[*filled..head.length as usize]
            }
            _ => {
                self.staging.copy_within(self.from..self.until, 0);
                (self.from, self.until) = (0, self.until - self.from);
                &mut self.staging[self.until..]
            }
        };
        match rustix::net::recv(&self.socket, room, RecvFlags::DONTWAIT) {
            Ok((0, _)) => Err(Closed::Elsewhere("the kernel has closed the connection".into())),
            Ok((length, _)) => {
                match &mut self.state {
                    State::Data(_, _, filled) if self.from == self.until => *filled += length,
                    _ => self.until += length,
                }
                Ok(())
            }
            Err(Errno::AGAIN | Errno::INTR) => Ok(()),
            Err(Errno::CONNRESET | Errno::PIPE) => {
                Err(Closed::Elsewhere("the kernel has closed the connection".into()))
            }
            Err(error) => Err(Closed::Failed(format!("reading from the kernel: {error}"))),
        }
    }

    /// Begins what has arrived, as far as there are memory and slots.
    fn understand(&mut self) -> Result<(), Closed> {
        while self.has_slot() && !self.ended {
            match std::mem::replace(&mut self.state, State::Head) {
                State::Head => {
                    let waiting = self.staging.get(self.from..self.until).unwrap_or_default();
                    let Some(bytes) = waiting.first_chunk::<REQUEST_BYTES>() else { return Ok(()) };
                    let head = Head::parse(bytes).map_err(Closed::Failed)?;
                    self.from += REQUEST_BYTES;
                    if !self.begin(head) {
                        return Ok(());
                    }
                }
                State::Waiting(head) => {
                    if !self.begin(head) {
                        return Ok(());
                    }
                }
                State::Data(head, mut buffer, mut filled) => {
                    let length = head.length as usize;
                    let here = self.staging.get(self.from..self.until).unwrap_or_default();
                    let here = &here[..here.len().min(length - filled)];
                    buffer.as_mut_slice()[filled..filled + here.len()].copy_from_slice(here);
                    filled += here.len();
                    self.from += here.len();
                    if filled < length {
                        self.state = State::Data(head, buffer, filled);
                        return Ok(());
                    }
                    self.write(head, buffer);
                }
            }
        }
        Ok(())
    }

    /// Begins a request; false when there is no memory for it yet.
    fn begin(&mut self, head: Head) -> bool {
        let (offset, length) = (head.offset, u64::from(head.length));
        let operation = match head.command {
            Command::Read | Command::Write { .. } => {
                let Some(buffer) = self.channel.take(head.length as usize) else {
                    self.state = State::Waiting(head);
                    return false;
                };
                if head.command == Command::Read {
                    let size = head.length as usize;
                    self.submit(&head, Kind::Reads, |id| {
                        Request::with_data(id, Operation::Read, offset, buffer, 0..size)
                    });
                } else {
                    self.state = State::Data(head, buffer, 0);
                }
                return true;
            }
            Command::Disconnect => {
                self.ended = true;
                return true;
            }
            Command::Flush => Operation::Flush,
            Command::Trim | Command::WriteZeroes { .. } if self.read_only => {
                self.refuse(head.cookie, EPERM);
                return true;
            }
            Command::Trim if self.channel.limits().unmap.is_some() => Operation::Unmap,
            Command::WriteZeroes { durable, unmap } => {
                Operation::WriteZeroes { durable, unmap: unmap && self.channel.limits().unmap.is_some() }
            }
            Command::Trim | Command::Unknown => {
                self.refuse(head.cookie, EINVAL);
                return true;
            }
        };
        let (offset, length) = if operation == Operation::Flush { (0, 0) } else { (offset, length) };
        let kind = if operation == Operation::Flush { Kind::Other } else { Kind::Writes };
        self.submit(&head, kind, |id| Request::over(id, operation, offset, length));
        true
    }

    fn write(&mut self, head: Head, buffer: Buf) {
        if self.read_only {
            self.refuse(head.cookie, EPERM);
            self.channel.give(buffer);
            return;
        }
        let durable = head.command == Command::Write { durable: true };
        let size = head.length as usize;
        self.submit(&head, Kind::Writes, |id| Request {
            expendable: true,
            ..Request::with_data(id, Operation::Write { durable }, head.offset, buffer, 0..size)
        });
    }

    fn submit(&mut self, head: &Head, kind: Kind, request: impl FnOnce(RequestId) -> Request) {
        let index = self.slots.insert(Slot { cookie: head.cookie, length: head.length as usize, kind });
        self.channel.queue(request(RequestId(index as u64)));
    }

    /// Hands over what has begun, and makes replies of what has completed; tells whether anything has.
    fn turn(&mut self) -> bool {
        let mut done = std::mem::take(&mut self.done);
        self.channel.run(&mut done);
        let moved = !done.is_empty();
        for Completion { id, buffer, result } in done.drain(..) {
            let Some(Slot { cookie, length, kind }) = self.slots.take(id.0 as usize) else { continue };
            let error = result.err().map(|error| message::error(&error, kind == Kind::Writes));
            match (error, buffer) {
                (None, Some(buffer)) if kind == Kind::Reads && length <= buffer.capacity() => {
                    self.replies.push_back(Reply { head: message::reply(cookie, 0), data: Some((buffer, length)) });
                }
                (error, buffer) => {
                    let lost = if kind == Kind::Reads { EIO } else { 0 };
                    self.refuse(cookie, error.unwrap_or(lost));
                    if let Some(buffer) = buffer {
                        self.channel.give(buffer);
                    }
                }
            }
        }
        self.done = done;
        moved
    }

    /// A reply without data; 0 is success.
    fn refuse(&mut self, cookie: u64, error: u32) {
        self.replies.push_back(Reply { head: message::reply(cookie, error), data: None });
    }

    /// Sends what the socket takes; tells whether it took anything.
    fn send(&mut self) -> Result<bool, Closed> {
        let mut moved = false;
        while !self.replies.is_empty() {
            let mut parts = Vec::with_capacity(2 * REPLIES_MAX);
            let mut skip = self.sent;
            for reply in self.replies.iter().take(REPLIES_MAX) {
                let data = reply.data.as_ref().map_or(&[][..], |(buffer, length)| &buffer.as_slice()[..*length]);
                for part in [&reply.head[..], data] {
                    let rest = part.get(skip..).unwrap_or_default();
                    skip -= part.len() - rest.len();
                    if !rest.is_empty() {
                        parts.push(IoSlice::new(rest));
                    }
                }
            }
            let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
            match rustix::net::sendmsg(&self.socket, &parts, &mut SendAncillaryBuffer::default(), flags) {
                Ok(length) => {
                    self.forget(length);
                    moved = true;
                }
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => break,
                Err(Errno::PIPE | Errno::CONNRESET) => {
                    return Err(Closed::Elsewhere("the kernel has closed the connection".into()));
                }
                Err(error) => return Err(Closed::Failed(format!("answering the kernel: {error}"))),
            }
        }
        Ok(moved)
    }

    /// So many more bytes of the replies are sent.
    fn forget(&mut self, length: usize) {
        self.sent += length;
        while let Some(first) = self.replies.front()
            && first.length() <= self.sent
        {
            self.sent -= first.length();
            if let Some(Reply { data: Some((buffer, _)), .. }) = self.replies.pop_front() {
                self.channel.give(buffer);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use block::Backend;
    use block::pure::Ram;
    use io::engine::{Choice, Engines};
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;
    use std::sync::Arc;
    use std::time::Duration;

    const MIB: usize = 1 << 20;

    /// A served disk of 64 MiB and our end of its connection.
    fn served(read_only: bool) -> (Arc<Crew>, UnixStream) {
        let crew = Crew::new(None).unwrap();
        let (ours, theirs) = UnixStream::pair().unwrap();
        ours.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let backend: Arc<dyn Backend> = Ram::new(512, (64 * MIB / 512) as u64);
        crew.spawn("nbd-test".into(), move |crew| {
            let channel = Channel::open(&backend, &Engines::new(Choice::Inline), 32 * MIB).unwrap();
            Connection::new(theirs.into(), channel, read_only).run(crew)
        })
        .unwrap();
        (crew, ours)
    }

    fn request(kind: u16, flags: u16, cookie: u64, offset: u64, length: u32) -> Vec<u8> {
        let mut bytes = vec![0x25, 0x60, 0x95, 0x13];
        bytes.extend(flags.to_be_bytes());
        bytes.extend(kind.to_be_bytes());
        bytes.extend(cookie.to_be_bytes());
        bytes.extend(offset.to_be_bytes());
        bytes.extend(length.to_be_bytes());
        bytes
    }

    /// A reply's cookie and error.
    fn answer(stream: &mut UnixStream) -> (u64, u32) {
        let mut head = [0; 16];
        stream.read_exact(&mut head).unwrap();
        assert_eq!(head[..4], [0x67, 0x44, 0x66, 0x98]);
        (u64::from_be_bytes(head[8..].try_into().unwrap()), u32::from_be_bytes(head[4..8].try_into().unwrap()))
    }

    #[test]
    fn what_was_written_is_read_in_any_pieces() {
        let (_crew, mut stream) = served(false);
        let data: Vec<u8> = (0..3 * MIB).map(|at| (at / 511) as u8).collect();
        let mut all = request(1, 1, 1, 4096, data.len() as u32);
        all.extend(&data);
        all.extend(request(3, 0, 2, 0, 0));
        for piece in all.chunks(100_003) {
            stream.write_all(piece).unwrap();
        }
        let mut answers = [answer(&mut stream), answer(&mut stream)];
        answers.sort();
        assert_eq!(answers, [(1, 0), (2, 0)]);
        stream.write_all(&request(0, 0, 3, 4096, data.len() as u32)).unwrap();
        assert_eq!(answer(&mut stream), (3, 0));
        let mut read = vec![0; data.len()];
        stream.read_exact(&mut read).unwrap();
        assert!(read == data);
        stream.write_all(&[request(4, 0, 4, 4096, 4096), request(6, 0, 5, 8192, 512)].concat()).unwrap();
        assert_eq!([answer(&mut stream), answer(&mut stream)], [(4, 0), (5, 0)]);
        stream.write_all(&request(0, 0, 6, 4096, 8192)).unwrap();
        answer(&mut stream);
        let mut read = vec![1; 8192];
        stream.read_exact(&mut read).unwrap();
        assert!(read[..4608].iter().all(|byte| *byte == 0) && read[4608..] == data[4608..8192]);
    }

    #[test]
    fn many_large_requests_at_once_wait_for_memory_and_all_end() {
        let (_crew, mut stream) = served(false);
        let mut reader = stream.try_clone().unwrap();
        let reads = std::thread::spawn(move || {
            let mut seen = [false; 40];
            let mut data = vec![0; 4 * MIB];
            for _ in 0..40 {
                let (cookie, error) = answer(&mut reader);
                assert_eq!(error, 0);
                reader.read_exact(&mut data).unwrap();
                assert!(!std::mem::replace(&mut seen[cookie as usize], true));
            }
        });
        for cookie in 0..40 {
            stream.write_all(&request(0, 0, cookie, cookie * 512, 4 * MIB as u32)).unwrap();
        }
        reads.join().unwrap();
    }

    #[test]
    fn what_does_not_fit_is_refused_and_the_next_request_served() {
        let (_crew, mut stream) = served(false);
        for (bytes, error) in [
            (request(0, 0, 1, 64 << 20, 512), EINVAL),
            (request(0, 0, 1, u64::MAX, 512), EINVAL),
            (request(0, 0, 1, 0, u32::MAX), EINVAL),
            (request(9, 0, 1, 0, 512), EINVAL),
            (request(6, 0, 1, 64 << 20, u32::MAX), message::ENOSPC),
        ] {
            stream.write_all(&bytes).unwrap();
            assert_eq!(answer(&mut stream), (1, error), "{bytes:?}");
        }
        let mut outside = request(1, 0, 2, 64 << 20, 512);
        outside.extend([7; 512]);
        stream.write_all(&outside).unwrap();
        assert_eq!(answer(&mut stream), (2, message::ENOSPC));
    }

    #[test]
    fn a_read_only_disk_is_not_changed() {
        let (_crew, mut stream) = served(true);
        let mut write = request(1, 0, 1, 0, 512);
        write.extend([7; 512]);
        for bytes in [write, request(4, 0, 1, 0, 512), request(6, 0, 1, 0, 512)] {
            stream.write_all(&bytes).unwrap();
            assert_eq!(answer(&mut stream), (1, EPERM));
        }
        stream.write_all(&request(0, 0, 2, 0, 512)).unwrap();
        assert_eq!(answer(&mut stream), (2, 0));
        let mut read = [1; 512];
        stream.read_exact(&mut read).unwrap();
        assert_eq!(read, [0; 512]);
    }

    #[test]
    fn nonsense_goodbyes_and_hang_ups_end_the_connection() {
        let closed = |crew: &Crew| {
            assert!(crew.wait(Duration::from_secs(20)));
            crew.closed().unwrap()
        };
        let (crew, mut stream) = served(false);
        stream.write_all(&[0x41; 28]).unwrap();
        assert!(matches!(closed(&crew), Closed::Failed(_)));
        assert!(!matches!(stream.read(&mut [0]), Ok(1..)), "and the peer sees it");

        let (crew, mut stream) = served(false);
        stream.write_all(&[request(0, 0, 1, 0, 512), request(2, 0, 0, 0, 0)].concat()).unwrap();
        assert_eq!(answer(&mut stream), (1, 0), "what was asked before is answered");
        assert!(matches!(closed(&crew), Closed::Elsewhere(_)));

        let (crew, stream) = served(false);
        drop(stream);
        assert!(matches!(closed(&crew), Closed::Elsewhere(_)));

        let (crew, mut stream) = served(false);
        stream.write_all(&request(1, 0, 1, 0, 32 << 20)).unwrap();
        crew.stop();
        assert!(crew.wait(Duration::from_secs(20)), "in the middle of a write that never comes");
        assert_eq!(crew.closed(), None);
        drop(stream);
    }
}
