//! A thread that reads the kernel's requests, has the store do them, and answers.
//!
//! A request is read into a head and a staging buffer, so that a write's data begin on a page. What is short
//! is copied from there into memory of its own size; a long write takes the staging buffer with it. A request
//! for which there is no memory, or which must wait for others, is held, and nothing more is read until it
//! has begun: the kernel's queue is the only one.

use super::abi::{self, HEAD_BYTES, IN_HEADER_BYTES, InHeader, OutHeader, WriteOut};
use super::gate::Gate;
use super::request::{Act, Facts, TRANSFER_BYTES, Work, act};
use crate::channel::{Channel, errno};
use crate::crew::Crew;
use crate::{Closed, memory};
use block::{Buf, Completion, Error, Operation, Request, RequestId, Slots};
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use std::io::{IoSlice, IoSliceMut};
use std::ops::Range;
use std::sync::Arc;
use zerocopy::IntoBytes;

/// Requests that one thread reads before it hands them on.
const BATCH: usize = 64;
/// The most requests of one thread under way.
const SLOTS: usize = 512;
/// Writes up to this length are copied out of the staging buffer.
const COPY_MAX: usize = 128 << 10;
/// Bytes of arguments behind the head that any request without data has: a name.
const ARGUMENTS_MAX: usize = 512;
/// How often a request that waits for another thread's looks again.
const HELD_LOOK: Timespec = Timespec { tv_sec: 0, tv_nsec: 500_000 };

const EIO: i32 = 5;
const EINVAL: i32 = 22;
const ENOSPC: i32 = 28;

/// What the threads of one file share.
pub(super) struct Shared {
    /// What is always true of the file.
    pub facts: Facts,
    /// Who may write now.
    pub gate: Gate,
}

/// One thread's half of the file system.
pub(super) struct Worker {
    device: OwnedFd,
    channel: Channel,
    shared: Arc<Shared>,
    slots: Slots<Slot>,
    staging: Option<Buf>,
    held: Option<Held>,
    done: Vec<Completion>,
}

/// A request that the store has.
struct Slot {
    unique: u64,
    phase: Phase,
}

enum Phase {
    /// The answer is this part of what is read.
    Read(Range<usize>),
    /// A write of whole blocks; it has entered the gate.
    Write { size: u32 },
    /// Blocks are read, of which this part is to be changed by what was sent; it has closed the gate.
    Before { offset: u64, part: Range<usize>, sent: Buf },
    /// They are written back.
    After { size: u32 },
    /// Flush.
    Plain,
    /// Holes and zeros; it has entered the gate.
    Clear,
}

/// A request that has not begun.
struct Held {
    unique: u64,
    work: Work,
    /// A write's data, from its first byte on.
    sent: Option<Buf>,
    /// It has closed the gate and waits to be alone.
    closed: bool,
}

impl Worker {
    /// A thread's half, made on the thread.
    pub(super) fn new(device: OwnedFd, channel: Channel, shared: Arc<Shared>) -> Worker {
        Worker { device, channel, shared, slots: Slots::default(), staging: None, held: None, done: Vec::new() }
    }

    /// Serves until told to stop or the file system is gone. What is under way then is answered with an
    /// error, and the connection closed, before the store is given up.
    pub(super) fn run(mut self, crew: &Crew) -> Result<(), Closed> {
        memory::protect_thread();
        let result = self.serve(crew);
        for slot in std::mem::take(&mut self.slots).into_values() {
            self.refuse(slot.unique, EIO);
        }
        if let Some(held) = self.held.take() {
            self.refuse(held.unique, EIO);
        }
        let Worker { device, channel, .. } = self;
        drop(device);
        drop(channel);
        result
    }

    fn serve(&mut self, crew: &Crew) -> Result<(), Closed> {
        loop {
            if self.begin_held() {
                self.turn();
            }
            let reads = self.may_read();
            if !self.wait(crew, reads)? {
                return Ok(());
            }
            if reads {
                self.read_batch()?;
            }
            self.turn();
        }
    }

    /// Hands over what was read and answers what has completed.
    fn turn(&mut self) {
        let mut done = std::mem::take(&mut self.done);
        loop {
            self.channel.run(&mut done);
            if done.is_empty() {
                break;
            }
            for completion in done.drain(..) {
                self.finish(completion);
            }
        }
        self.done = done;
    }

    /// Waits for the kernel, the store or the order to stop; false means that order.
    fn wait(&self, crew: &Crew, reads: bool) -> Result<bool, Closed> {
        let stop = crew.stop_signal();
        let device = if reads { PollFlags::IN } else { PollFlags::empty() };
        let mut descriptors = [
            PollFd::from_borrowed_fd(stop, PollFlags::IN),
            PollFd::from_borrowed_fd(self.channel.alarm(), PollFlags::IN),
            PollFd::new(&self.device, device),
        ];
        let limit = self.held.is_some().then_some(&HELD_LOOK);
        match rustix::event::poll(&mut descriptors, limit) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(Closed::Failed(format!("poll: {error}"))),
        }
        Ok(descriptors.first().is_none_or(|stop| stop.revents().is_empty()))
    }

    /// A staging buffer is had, nothing is held, and there is a slot.
    fn may_read(&mut self) -> bool {
        if self.staging.is_none() {
            self.staging = self.channel.take(TRANSFER_BYTES);
        }
        self.staging.is_some() && self.held.is_none() && self.slots.used() < SLOTS
    }

    fn read_batch(&mut self) -> Result<(), Closed> {
        for _ in 0..BATCH {
            if !self.may_read() || !self.read_one()? {
                break;
            }
        }
        Ok(())
    }

    /// Reads and begins one request; false when there is none.
    fn read_one(&mut self) -> Result<bool, Closed> {
        let Some(staging) = self.staging.as_mut() else { return Ok(false) };
        let mut head = [0u8; HEAD_BYTES];
        let room = &mut staging.as_mut_slice()[..TRANSFER_BYTES];
        let length = match rustix::io::readv(&self.device, &mut [IoSliceMut::new(&mut head), IoSliceMut::new(room)]) {
            Ok(length) => length,
            Err(Errno::AGAIN) => return Ok(false),
            // The request was given up before it could be read.
            Err(Errno::NOENT | Errno::INTR) => return Ok(true),
            Err(Errno::NODEV | Errno::CONNABORTED) => return Err(Closed::Elsewhere("it was unmounted".into())),
            Err(error) => return Err(Closed::Failed(format!("reading from /dev/fuse: {error}"))),
        };
        let Some(header) = abi::read::<InHeader>(&head).filter(|header| header.len as usize == length) else {
            return Err(Closed::Failed(format!("the kernel sent a FUSE request of {length} bytes without sense")));
        };
        let data = length.saturating_sub(HEAD_BYTES);
        // Whatever has no data has its arguments in the head, or is a name that goes on behind it.
        let mut gathered = [0u8; ARGUMENTS_MAX];
        let arguments = &head[IN_HEADER_BYTES..length.clamp(IN_HEADER_BYTES, HEAD_BYTES)];
        let behind = &staging.as_slice()[..data.min(ARGUMENTS_MAX - arguments.len())];
        gathered[..arguments.len()].copy_from_slice(arguments);
        gathered[arguments.len()..arguments.len() + behind.len()].copy_from_slice(behind);
        let gathered = &gathered[..arguments.len() + behind.len()];
        let looks_at_size = !matches!(header.opcode, 15 | 16 | 20);
        let limits = if looks_at_size { self.channel.look() } else { self.channel.limits() };
        match act(&header, gathered, data, &self.shared.facts, limits) {
            Act::Nothing => {}
            Act::Answer(bytes) => self.answer(header.unique, &bytes),
            Act::Refuse(number) => self.refuse(header.unique, number),
            Act::Work(work) => {
                self.held = Some(Held { unique: header.unique, work, sent: None, closed: false });
                if let Work::Write { size, .. } = work {
                    self.take_sent(size);
                }
                self.begin_held();
            }
        }
        Ok(true)
    }

    /// A write's data leave the staging buffer, by copy where they are short.
    fn take_sent(&mut self, size: usize) {
        let Some(staging) = self.staging.take() else { return };
        let own = if size <= COPY_MAX { self.channel.take(size) } else { None };
        let sent = match own {
            Some(mut own) => {
                own.as_mut_slice()[..size].copy_from_slice(&staging.as_slice()[..size]);
                self.staging = Some(staging);
                own
            }
            None => staging,
        };
        if let Some(held) = &mut self.held {
            held.sent = Some(sent);
        }
    }

    /// Tells whether the request that was held is the store's now.
    fn begin_held(&mut self) -> bool {
        let Some(held) = self.held.take() else { return false };
        self.held = self.begin(held);
        self.held.is_none()
    }

    /// Begins a request; gives it back when it has to wait.
    fn begin(&mut self, held: Held) -> Option<Held> {
        let Held { unique, work, sent, closed } = held;
        match work {
            Work::Flush => self.submit(unique, Phase::Plain, |id| Request::over(id, Operation::Flush, 0, 0)),
            Work::Read { offset, size } => {
                let (start, end) = match self.reach(offset, size as u64) {
                    Some(extent) => extent,
                    None => {
                        self.answer(unique, &[]);
                        return None;
                    }
                };
                let (from, until) = self.whole(start, end);
                let length = (until - from) as usize;
                let Some(buffer) = self.channel.take(length) else { return Some(Held { unique, work, sent, closed }) };
                let part = (start - from) as usize..(end - from) as usize;
                self.submit(unique, Phase::Read(part), |id| {
                    Request::with_data(id, Operation::Read, from, buffer, 0..length)
                });
            }
            Work::Write { offset, size } => {
                let Some(sent) = sent else {
                    self.refuse(unique, EIO);
                    return None;
                };
                // A file that cannot grow has no room behind its end.
                if self.reach(offset, size as u64) != offset.checked_add(size as u64).map(|end| (offset, end)) {
                    self.refuse(unique, ENOSPC);
                    self.channel.give(sent);
                    return None;
                }
                let end = offset + size as u64;
                let whole = self.whole(offset, end);
                if whole == (offset, end) {
                    if !self.shared.gate.enter() {
                        return Some(Held { unique, work, sent: Some(sent), closed });
                    }
                    let operation = Operation::Write { durable: false };
                    self.submit(unique, Phase::Write { size: size as u32 }, |id| Request {
                        expendable: true,
                        ..Request::with_data(id, operation, offset, sent, 0..size)
                    });
                    return None;
                }
                // Alone, read, change, write back.
                let closed = closed || self.shared.gate.close();
                let alone = closed && self.shared.gate.is_empty();
                let (from, length) = (whole.0, (whole.1 - whole.0) as usize);
                let Some(buffer) = alone.then(|| self.channel.take(length)).flatten() else {
                    return Some(Held { unique, work, sent: Some(sent), closed });
                };
                let part = (offset - from) as usize..(end - from) as usize;
                self.submit(unique, Phase::Before { offset: from, part, sent }, |id| {
                    Request::with_data(id, Operation::Read, from, buffer, 0..length)
                });
            }
            Work::Punch { offset, length } | Work::Zero { offset, length } => {
                let end = offset.checked_add(length);
                let extent = end.filter(|_| length > 0).map(|end| (offset, end));
                if extent.is_none() || self.reach(offset, length) != extent || extent != Some(self.whole_of(extent)) {
                    self.refuse(unique, EINVAL);
                    return None;
                }
                if !self.shared.gate.enter() {
                    return Some(Held { unique, work, sent, closed });
                }
                let zeros = self.channel.limits().unmap.is_some_and(|unmap| unmap.reads_zeros);
                let operation = match work {
                    Work::Punch { .. } if zeros => Operation::Unmap,
                    // A hole reads as zeros, also where what is unmapped may not.
                    Work::Punch { .. } => Operation::WriteZeroes { unmap: true, durable: false },
                    _ => Operation::WriteZeroes { unmap: false, durable: false },
                };
                self.submit(unique, Phase::Clear, |id| Request::over(id, operation, offset, length));
            }
        }
        None
    }

    /// What of an extent lies within the disk; `None` behind its end.
    fn reach(&mut self, offset: u64, length: u64) -> Option<(u64, u64)> {
        let end = offset.saturating_add(length);
        if end > self.channel.limits().capacity() {
            self.channel.look();
        }
        let end = end.min(self.channel.limits().capacity());
        (offset < end).then_some((offset, end))
    }

    /// The blocks of which an extent is a part.
    fn whole(&self, start: u64, end: u64) -> (u64, u64) {
        let block = u64::from(self.channel.limits().block_length.max(1));
        (start / block * block, end.next_multiple_of(block))
    }

    fn whole_of(&self, extent: Option<(u64, u64)>) -> (u64, u64) {
        extent.map_or((0, 0), |(start, end)| self.whole(start, end))
    }

    fn submit(&mut self, unique: u64, phase: Phase, request: impl FnOnce(RequestId) -> Request) {
        let index = self.slots.insert(Slot { unique, phase });
        self.channel.queue(request(RequestId(index as u64)));
    }

    fn finish(&mut self, completion: Completion) {
        let Completion { id, buffer, result } = completion;
        let Some(Slot { unique, phase }) = self.slots.take(id.0 as usize) else { return };
        let failed = result.err();
        match phase {
            Phase::Read(part) => {
                let bytes = buffer.as_ref().and_then(|buffer| buffer.as_slice().get(part));
                self.settle(unique, failed, bytes);
            }
            Phase::Write { size } => {
                self.shared.gate.leave();
                self.settle(unique, failed, Some(WriteOut { size, padding: 0 }.as_bytes()));
            }
            Phase::Clear => {
                self.shared.gate.leave();
                self.settle(unique, failed, Some(&[]));
            }
            Phase::Plain => self.settle(unique, failed, Some(&[])),
            Phase::After { size } => {
                self.shared.gate.open();
                self.settle(unique, failed, Some(WriteOut { size, padding: 0 }.as_bytes()));
            }
            Phase::Before { offset, part, sent } => {
                self.write_back(unique, failed, buffer, offset, part, sent);
                return;
            }
        }
        if let Some(buffer) = buffer {
            self.channel.give(buffer);
        }
    }

    fn write_back(
        &mut self,
        unique: u64,
        failed: Option<Error>,
        buffer: Option<Buf>,
        offset: u64,
        part: Range<usize>,
        sent: Buf,
    ) {
        let size = part.len();
        let block = self.channel.limits().block_length.max(1) as usize;
        let length = part.end.next_multiple_of(block);
        match (failed, buffer) {
            (None, Some(mut buffer)) if length <= buffer.capacity() => {
                buffer.as_mut_slice()[part].copy_from_slice(&sent.as_slice()[..size]);
                let operation = Operation::Write { durable: false };
                self.submit(unique, Phase::After { size: size as u32 }, |id| {
                    Request::with_data(id, operation, offset, buffer, 0..length)
                });
            }
            (failed, buffer) => {
                self.shared.gate.open();
                self.refuse(unique, failed.as_ref().map_or(EIO, errno));
                if let Some(buffer) = buffer {
                    self.channel.give(buffer);
                }
            }
        }
        self.channel.give(sent);
    }

    /// The answer to what the store was asked; without bytes it has failed.
    fn settle(&self, unique: u64, failed: Option<Error>, bytes: Option<&[u8]>) {
        match (failed, bytes) {
            (Some(error), _) => self.refuse(unique, errno(&error)),
            (None, Some(bytes)) => self.answer(unique, bytes),
            (None, None) => self.refuse(unique, EIO),
        }
    }

    fn answer(&self, unique: u64, bytes: &[u8]) {
        self.write(OutHeader { len: (size_of::<OutHeader>() + bytes.len()) as u32, error: 0, unique }, bytes);
    }

    fn refuse(&self, unique: u64, number: i32) {
        self.write(OutHeader { len: size_of::<OutHeader>() as u32, error: -number, unique }, &[]);
    }

    /// An answer that nobody waits for any more (the asker was killed, the mount is gone) is refused by the
    /// kernel; there is nobody to tell.
    fn write(&self, header: OutHeader, bytes: &[u8]) {
        let parts = [IoSlice::new(header.as_bytes()), IoSlice::new(bytes)];
        if let Err(error) = rustix::io::writev(&self.device, &parts)
            && !matches!(error, Errno::NOENT | Errno::NODEV | Errno::PERM)
        {
            tracing::debug!(%error, "an answer was refused by the kernel");
        }
    }
}
