//! One queue of a device: a thread that takes the block layer's requests to the store and their ends back.
//!
//! Each tag is with the kernel, which will put the next request there, or with the store. The driver copies
//! a write's data into the tag's memory before it hands the request over, and a read's out of it when the
//! request is committed; so the memory of a tag that is with the kernel stays where it is until the kernel has
//! given the tag back. What it never gives back is left behind for good.

use super::abi::{self, Description};
use super::mapping::Descriptions;
use crate::channel::{Channel, errno};
use crate::{Closed, Error, memory};
use block::{Buf, Completion, Operation, Request, RequestId};
use io_uring::types::Fd;
use io_uring::{IoUring, opcode};
use rustix::event::{PollFd, PollFlags};
use rustix::fd::{AsFd, AsRawFd, BorrowedFd};
use std::fs::File;
use std::io;
use std::mem::ManuallyDrop;
use std::sync::Arc;

/// What a fetch ends with when its device goes away.
const ENODEV: i32 = -19;
const EIO: i32 = -5;
const EOPNOTSUPP: i32 = -95;
const ENOMEM: i32 = -12;

/// A queue as the driver knows it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shape {
    pub(super) queue: u16,
    pub(super) depth: u16,
    pub(super) request_bytes: u32,
    /// The driver knows the numbers of commands alone.
    pub(super) plain: bool,
}

/// A queue's thread's all.
pub(super) struct Queue {
    shape: Shape,
    device: Arc<File>,
    channel: Channel,
    descriptions: Descriptions,
    ring: IoUring,
    tags: ManuallyDrop<Vec<Tag>>,
    /// Commands for which there was no room in the ring.
    unsent: Vec<(u16, i32, bool)>,
    /// Tags that are with the kernel or with the store.
    live: usize,
    done: Vec<Completion>,
    /// Everything is answered with an error from now on.
    failing: bool,
}

struct Tag {
    /// Its memory, unless the store has it.
    buffer: Option<Buf>,
    at: At,
    /// How often it was given to the store: an end that comes too late belongs to an earlier one.
    turn: u32,
}

#[derive(PartialEq, Clone, Copy)]
enum At {
    Kernel,
    /// With the store, for a request of this many bytes of data.
    Store(u32),
    Gone,
}

impl Queue {
    /// A queue all of whose tags are with the kernel. To be made on the thread that drives it.
    pub(super) fn start(shape: Shape, device: &Arc<File>, channel: Channel) -> Result<Queue, Error> {
        memory::protect_thread();
        let what = |error: io::Error| Error::system(format!("ublk: queue {}", shape.queue), error);
        let descriptions = Descriptions::map(device.as_fd(), shape.queue, shape.depth).map_err(what)?;
        let entries = u32::from(shape.depth).max(2);
        let ring = IoUring::builder().setup_coop_taskrun().build(entries).or_else(|_| IoUring::new(entries));
        let mut tags = Vec::with_capacity(shape.depth.into());
        for _ in 0..shape.depth {
            let buffer = channel.take(shape.request_bytes as usize);
            let buffer = buffer.ok_or_else(|| what(io::ErrorKind::OutOfMemory.into()))?;
            tags.push(Tag { buffer: Some(buffer), at: At::Gone, turn: 0 });
        }
        let mut queue = Queue {
            shape,
            device: device.clone(),
            channel,
            descriptions,
            ring: ring.map_err(what)?,
            tags: ManuallyDrop::new(tags),
            unsent: Vec::new(),
            live: 0,
            done: Vec::new(),
            failing: false,
        };
        for tag in 0..shape.depth {
            queue.give(tag, 0, true);
        }
        queue.ring.submit().map_err(what)?;
        Ok(queue)
    }

    /// Serves until the kernel has taken the device away, which is how it ends well. `failing` becomes readable when
    /// everything is to be answered with an error, as nobody waits for the store any more.
    pub(super) fn run(mut self, failing: BorrowedFd<'_>) -> Result<(), Closed> {
        while self.live > 0 {
            if let Err(error) = self.turn(failing) {
                return Err(Closed::Failed(format!("ublk: queue {}: {error}", self.shape.queue)));
            }
        }
        Ok(())
    }

    fn turn(&mut self, failing: BorrowedFd<'_>) -> io::Result<()> {
        let mut came = 0;
        loop {
            let Some(entry) = self.ring.completion().next() else { break };
            came += 1;
            self.arrived(entry.user_data() as u16, entry.result());
        }
        let mut done = std::mem::take(&mut self.done);
        self.channel.run(&mut done);
        came += done.len();
        for completion in done.drain(..) {
            self.completed(completion);
        }
        self.done = done;
        for (tag, result, first) in std::mem::take(&mut self.unsent) {
            self.give(tag, result, first);
        }
        let waiting = !self.ring.submission().is_empty();
        match if waiting { self.ring.submit() } else { Ok(0) } {
            Err(error) if !matches!(error.kind(), io::ErrorKind::Interrupted | io::ErrorKind::WouldBlock) => {
                return Err(error);
            }
            _ => {}
        }
        if came > 0 || !self.ring.completion().is_empty() {
            return Ok(());
        }
        self.sleep(failing)
    }

    /// Until there is something to do.
    fn sleep(&mut self, failing: BorrowedFd<'_>) -> io::Result<()> {
        // SAFETY: the ring's descriptor is open for as long as the ring, which this function does not touch.
        let ring = unsafe { BorrowedFd::borrow_raw(self.ring.as_raw_fd()) };
        let mut polls = vec![PollFd::from_borrowed_fd(ring, PollFlags::IN), PollFd::new(&failing, PollFlags::IN)];
        let alarm = self.channel.alarm();
        polls.push(PollFd::from_borrowed_fd(alarm, PollFlags::IN));
        if self.failing {
            // Said once; it stays readable.
            polls.remove(1);
        }
        match rustix::event::poll(&mut polls, None) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let told = !self.failing && polls.get(1).is_some_and(|poll| !poll.revents().is_empty());
        if told {
            self.fail();
        }
        Ok(())
    }

    /// A tag has come back from the kernel: with a request, or for good.
    fn arrived(&mut self, tag: u16, result: i32) {
        let Some(place) = self.tags.get_mut(usize::from(tag)) else { return };
        if result != 0 {
            if result != ENODEV {
                tracing::debug!(queue = self.shape.queue, tag, result, "ublk: a tag is lost");
            }
            place.at = At::Gone;
            self.live -= 1;
            return;
        }
        let Some(description) = self.descriptions.get(tag) else { return };
        if self.failing {
            return self.give(tag, EIO, false);
        }
        place.turn = place.turn.wrapping_add(1);
        let id = RequestId(u64::from(place.turn) << 16 | u64::from(tag));
        match request(id, &description, self.shape.request_bytes, &mut place.buffer) {
            Ok(request) => {
                let data = if request.buffer.is_some() { description.length as u32 } else { 0 };
                place.at = At::Store(data);
                self.channel.queue(request);
            }
            Err(result) => self.give(tag, result, false),
        }
    }

    /// The store is done with a request.
    fn completed(&mut self, completion: Completion) {
        let (tag, turn) = (completion.id.0 as u16, (completion.id.0 >> 16) as u32);
        let place = self.tags.get_mut(usize::from(tag)).filter(|place| place.turn == turn);
        // Of what was answered without it, only the memory comes back.
        let Some((place, At::Store(bytes))) = place.map(|place| (place.at, place)).map(|(at, place)| (place, at))
        else {
            if let Some(buffer) = completion.buffer {
                self.channel.give(buffer);
            }
            return;
        };
        if let Some(buffer) = completion.buffer {
            place.buffer = Some(buffer);
        }
        let result = match &completion.result {
            Ok(_) => bytes as i32,
            Err(error) => -errno(error),
        };
        self.give(tag, result, false);
    }

    /// Gives a tag to the kernel: for the first time, or with what came of its request.
    fn give(&mut self, tag: u16, result: i32, first: bool) {
        let Some(place) = self.tags.get_mut(usize::from(tag)) else { return };
        // The store keeps the memory of a request that is answered without it.
        let buffer = match place.buffer.take().or_else(|| Buf::new(self.shape.request_bytes as usize)) {
            Some(buffer) => place.buffer.insert(buffer),
            None => return self.unsent.push((tag, ENOMEM, first)),
        };
        let address = buffer.as_mut_slice().as_mut_ptr() as u64;
        let command = if first { abi::FETCH } else { abi::COMMIT_AND_FETCH };
        let command = if self.shape.plain { abi::plain(command) } else { command };
        let entry = opcode::UringCmd16::new(Fd(self.device.as_raw_fd()), command)
            .cmd(abi::io(self.shape.queue, tag, result, address))
            .build()
            .user_data(tag.into());
        // SAFETY: the entry names our file and the tag's memory, of as many bytes as the device's longest request. Both
        // stay, unmoved and untouched, until the tag has come back (`arrived`), or are left behind for good (`drop`).
        // Every tag has at most one entry in a ring that has room for all of them.
        let pushed = unsafe { self.ring.submission().push(&entry) };
        if pushed.is_err() {
            return self.unsent.push((tag, result, first));
        }
        if place.at == At::Gone {
            self.live += 1;
        }
        place.at = At::Kernel;
    }

    /// Answers all that the store has, and everything that will come, with an error.
    fn fail(&mut self) {
        self.failing = true;
        for tag in 0..self.shape.depth {
            if matches!(self.tags.get(usize::from(tag)), Some(Tag { at: At::Store(_), .. })) {
                if let Some(place) = self.tags.get_mut(usize::from(tag)) {
                    place.turn = place.turn.wrapping_add(1);
                }
                self.give(tag, EIO, false);
            }
        }
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        // With the ring goes what the kernel was told; it then knows that nobody serves the device, and its requests wait
        // for who takes it over. The memory it may still know is left behind.
        let with_kernel = self.tags.iter().any(|tag| tag.at == At::Kernel);
        if !with_kernel {
            // SAFETY: dropped here once and used no more. The kernel has given every tag back, so it knows none of the
            // memory any more.
            unsafe { ManuallyDrop::drop(&mut self.tags) };
        }
    }
}

/// What the store is asked. An error is what the block layer is told at once.
fn request(
    id: RequestId,
    description: &Description,
    request_bytes: u32,
    buffer: &mut Option<Buf>,
) -> Result<Request, i32> {
    let Description { operation, flags, offset, length } = *description;
    let durable = flags & abi::FUA != 0;
    let operation = match operation {
        abi::READ => Operation::Read,
        abi::WRITE => Operation::Write { durable },
        abi::FLUSH => return Ok(Request::over(id, Operation::Flush, 0, 0)),
        abi::DISCARD => Operation::Unmap,
        abi::WRITE_ZEROES => Operation::WriteZeroes { unmap: flags & abi::KEEP_SPACE == 0, durable },
        _ => return Err(EOPNOTSUPP),
    };
    if !matches!(operation, Operation::Read | Operation::Write { .. }) {
        return Ok(Request::over(id, operation, offset, length));
    }
    if length > u64::from(request_bytes) {
        return Err(EIO);
    }
    let memory = buffer.take().ok_or(ENOMEM)?;
    let mut request = Request::with_data(id, operation, offset, memory, 0..length as usize);
    request.expendable = true;
    Ok(request)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(operation: u32, flags: u32, length: u64) -> Result<Request, i32> {
        let description = Description { operation, flags, offset: 8192, length };
        request(RequestId(1), &description, 65_536, &mut Buf::new(65_536))
    }

    #[test]
    fn requests_of_the_block_layer_become_the_stores() {
        let operation = |operation, flags| asked(operation, flags, 4096).map(|request| request.operation);
        assert_eq!(operation(abi::READ, 0), Ok(Operation::Read));
        assert_eq!(operation(abi::WRITE, abi::FUA), Ok(Operation::Write { durable: true }));
        assert_eq!(operation(abi::FLUSH, 0), Ok(Operation::Flush));
        assert_eq!(operation(abi::DISCARD, 0), Ok(Operation::Unmap));
        let zeroes = |unmap| Ok(Operation::WriteZeroes { unmap, durable: false });
        assert_eq!(operation(abi::WRITE_ZEROES, 0), zeroes(true));
        assert_eq!(operation(abi::WRITE_ZEROES, abi::KEEP_SPACE), zeroes(false));
        assert_eq!(operation(15, 0), Err(EOPNOTSUPP));
        let write = asked(abi::WRITE, 0, 4096).unwrap();
        assert_eq!((write.offset, write.length, write.data), (8192, 4096, 0..4096));
        assert_eq!(asked(abi::READ, 0, 1 << 20).err(), Some(EIO), "longer than its memory");
        assert_eq!(asked(abi::DISCARD, 0, 1 << 27).unwrap().length, 1 << 27);
    }
}
