//! One io_uring for each worker: direct I/O, reads that miss the cache, fdatasync, holes and zeros.
//!
//! What a ring does no better, or not at all, goes to the pool: buffered writes (the kernel hands each
//! to a thread of its own, dependencies.md 1.0-7), looking for holes, copies, and zeros that have to be
//! written out because the file system refuses to make them.
//!
//! A job lives in a slot of a slab that never moves from the moment its entry is queued until its
//! completion was taken off the ring; the kernel's pointers into its buffer are good for that long.
//! A worker that ends waits for the kernel, and when a disk is stuck it leaves the slab and the ring
//! behind for good rather than giving the kernel freed memory to write into.

use super::pool::PoolEngine;
use block::{Alarm, Caching, Engine, Error, ErrorKind, FileJob, FileOperation, Outcome};
use io_uring::{IoUring, Probe, opcode, squeue, types};
use rustix::fd::{AsRawFd, OwnedFd};
use std::cell::RefCell;
use std::collections::VecDeque;
use std::mem::ManuallyDrop;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Jobs of one worker in the kernel at a time. The completion queue is twice as long and cannot overflow.
const ENTRIES: u32 = 256;
/// How long a worker that ends waits for the kernel.
const DRAIN: Duration = Duration::from_secs(5);
/// The most bytes of one read or write; longer transfers go on with the rest.
const TRANSFER_MAX: usize = 1 << 30;

const FALLOC_FL_KEEP_SIZE: i32 = 0x01;
const FALLOC_FL_PUNCH_HOLE: i32 = 0x02;
const FALLOC_FL_ZERO_RANGE: i32 = 0x10;
const RWF_DSYNC: i32 = 0x02;

/// A worker's ring, with the pool behind it.
pub(super) struct UringEngine {
    pool: PoolEngine,
    local: RefCell<Local>,
}

struct Local {
    ring: ManuallyDrop<IoUring>,
    /// Fixed length: a job does not move while the kernel knows its buffer.
    slab: ManuallyDrop<Box<[Option<Running>]>>,
    free: Vec<usize>,
    waiting: VecDeque<FileJob>,
    again: Vec<usize>,
    wake: Arc<OwnedFd>,
}

struct Running {
    job: FileJob,
    /// Bytes done so far of a read or write.
    done: usize,
}

enum Next {
    Complete(Result<Outcome, Error>),
    Again,
    Pool,
}

impl UringEngine {
    /// A ring that signals this eventfd. The error says which step failed.
    pub(super) fn new(pool: PoolEngine, wake: &Arc<OwnedFd>) -> Result<UringEngine, String> {
        let ring = IoUring::builder()
            .setup_coop_taskrun()
            .setup_single_issuer()
            .build(ENTRIES)
            .or_else(|_| IoUring::new(ENTRIES))
            .map_err(|error| format!("io_uring_setup: {error}"))?;
        ring.submitter()
            .register_eventfd(wake.as_raw_fd())
            .map_err(|error| format!("io_uring: the eventfd cannot be registered: {error}"))?;
        let slab: Box<[Option<Running>]> = (0..ENTRIES).map(|_| None).collect();
        let local = Local {
            ring: ManuallyDrop::new(ring),
            free: (0..slab.len()).rev().collect(),
            slab: ManuallyDrop::new(slab),
            waiting: VecDeque::new(),
            again: Vec::new(),
            wake: wake.clone(),
        };
        Ok(UringEngine { pool, local: RefCell::new(local) })
    }

    /// Moves what has completed into the inboxes; tells how many.
    pub(super) fn collect(&self) -> usize {
        let (mut count, to_pool) = self.local.borrow_mut().collect();
        for job in to_pool {
            self.pool.submit(job);
        }
        self.flush();
        count += self.pool.collect();
        count
    }

    /// Jobs taken and not yet given back.
    pub(super) fn in_flight(&self) -> usize {
        let local = self.local.borrow();
        local.running() + local.waiting.len() + self.pool.in_flight()
    }
}

impl Engine for UringEngine {
    fn name(&self) -> &'static str {
        "uring"
    }

    fn submit(&self, job: FileJob) {
        let by_ring = match job.operation {
            FileOperation::Read | FileOperation::Sync | FileOperation::PunchHole | FileOperation::ZeroRange => true,
            FileOperation::Write { .. } => job.caching == Caching::Direct,
            FileOperation::Extents | FileOperation::Copy { .. } => false,
        };
        if by_ring {
            self.local.borrow_mut().waiting.push_back(job);
        } else {
            self.pool.submit(job);
        }
    }

    fn flush(&self) {
        let mut local = self.local.borrow_mut();
        local.queue();
        local.enter();
    }

    fn alarm(&self) -> Option<Arc<dyn Alarm>> {
        self.pool.alarm()
    }
}

impl Local {
    fn running(&self) -> usize {
        self.slab.len() - self.free.len()
    }

    /// Queues entries for what waits, as far as there are slots.
    fn queue(&mut self) {
        for slot in std::mem::take(&mut self.again) {
            self.push(slot);
        }
        while !self.waiting.is_empty()
            && let Some(slot) = self.free.pop()
        {
            if let (Some(place), Some(job)) = (self.slab.get_mut(slot), self.waiting.pop_front()) {
                *place = Some(Running { job, done: 0 });
            }
            self.push(slot);
        }
    }

    fn push(&mut self, slot: usize) {
        let Some(running) = self.slab.get_mut(slot).and_then(Option::as_mut) else { return };
        let entry = running.entry().user_data(slot as u64);
        // SAFETY: the entry points into the buffer and names the descriptor of the job in `slot`. The job
        // stays there, unmoved and untouched, until its completion is taken from the ring (`collect`), and
        // `Drop` waits for that or leaves the slab behind. There are as many slots as entries and each has
        // at most one entry, so the queue has room.
        let pushed = unsafe { self.ring.submission().push(&entry) };
        if pushed.is_err() {
            self.again.push(slot);
        }
    }

    /// Has the kernel take what is queued. What it refuses for a moment stays queued, and the worker is
    /// woken to try again, since nothing else might.
    fn enter(&mut self) {
        if !self.ring.submission().is_empty() && self.ring.submit().is_err() {
            super::signal(&self.wake);
        }
    }

    fn collect(&mut self) -> (usize, Vec<FileJob>) {
        let mut count = 0;
        let mut to_pool = Vec::new();
        while let Some(entry) = self.ring.completion().next() {
            let slot = entry.user_data() as usize;
            let Some(place) = self.slab.get_mut(slot) else { continue };
            let Some(running) = place.as_mut() else { continue };
            match running.handle_result(entry.result()) {
                Next::Again => self.again.push(slot),
                next => {
                    let Some(Running { job, .. }) = place.take() else { continue };
                    self.free.push(slot);
                    match next {
                        Next::Complete(result) => {
                            let FileJob { request, file, inbox, .. } = job;
                            drop(file);
                            inbox.borrow_mut().push(request.complete(result));
                            count += 1;
                        }
                        _ => to_pool.push(job),
                    }
                }
            }
        }
        (count, to_pool)
    }
}

impl Running {
    fn entry(&mut self) -> squeue::Entry {
        let fd = types::Fd(self.job.file.as_raw_fd());
        let (offset, length) = (self.job.request.offset, self.job.request.length);
        let at = offset + self.done as u64;
        match self.job.operation {
            FileOperation::Write { durable } => {
                let bytes = self.job.request.bytes().get(self.done..).unwrap_or_default();
                let flags = if durable { RWF_DSYNC } else { 0 };
                opcode::Write::new(fd, bytes.as_ptr(), limited(bytes.len())).offset(at).rw_flags(flags).build()
            }
            FileOperation::Sync => opcode::Fsync::new(fd).flags(types::FsyncFlags::DATASYNC).build(),
            FileOperation::PunchHole => opcode::Fallocate::new(fd, length)
                .offset(offset)
                .mode(FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE)
                .build(),
            FileOperation::ZeroRange => opcode::Fallocate::new(fd, length)
                .offset(offset)
                .mode(FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE)
                .build(),
            // The others do not come here (`submit`).
            FileOperation::Read | FileOperation::Extents | FileOperation::Copy { .. } => {
                let bytes = self.job.request.bytes_mut().get_mut(self.done..).unwrap_or_default();
                opcode::Read::new(fd, bytes.as_mut_ptr(), limited(bytes.len())).offset(at).build()
            }
        }
    }

    fn handle_result(&mut self, result: i32) -> Next {
        const EINTR: i32 = 4;
        const EAGAIN: i32 = 11;
        const ENOSYS: i32 = 38;
        const EOPNOTSUPP: i32 = 95;
        const ECANCELED: i32 = 125;
        let transfers = matches!(self.job.operation, FileOperation::Read | FileOperation::Write { .. });
        let at = self.job.request.offset + self.done as u64;
        match usize::try_from(result) {
            Err(_) => match result.unsigned_abs() as i32 {
                EINTR => Next::Again,
                // The pool waits for what the ring would not, and writes the zeros that the file system would
                // not make. It starts from the beginning: writing the same bytes twice does no harm.
                EAGAIN | ENOSYS | EOPNOTSUPP | ECANCELED => Next::Pool,
                number if self.job.operation == FileOperation::Sync => Next::Complete(Err(Error::from_os(number))),
                number => Next::Complete(Err(Error::from_os(number).at(at))),
            },
            Ok(_) if !transfers => Next::Complete(Ok(Outcome::Done)),
            Ok(bytes) => {
                self.done += bytes;
                if self.done >= self.job.request.data.len() {
                    Next::Complete(Ok(Outcome::Done))
                } else if bytes == 0 {
                    Next::Complete(Err(Error::new(ErrorKind::OutOfRange).at(at)))
                } else {
                    Next::Again
                }
            }
        }
    }
}

impl Drop for UringEngine {
    fn drop(&mut self) {
        let local = self.local.get_mut();
        // What the kernel has not been given is given up; what it has is waited for.
        local.waiting.clear();
        local.enter();
        let end = Instant::now() + DRAIN;
        loop {
            for slot in std::mem::take(&mut local.again) {
                if let Some(place) = local.slab.get_mut(slot) {
                    *place = None;
                    local.free.push(slot);
                }
            }
            local.collect();
            if local.running() == 0 && local.again.is_empty() {
                break;
            }
            if Instant::now() >= end {
                tracing::error!(requests = local.running(), "a disk did not answer; its memory is left behind");
                return;
            }
            std::thread::sleep(Duration::from_millis(1));
            local.enter();
        }
        // SAFETY: nothing is in the kernel any more, and neither field is used after this.
        unsafe {
            ManuallyDrop::drop(&mut local.slab);
            ManuallyDrop::drop(&mut local.ring);
        }
    }
}

/// Whether this kernel has a ring with all that is needed, and lets us use it. The error says what is missing.
pub(super) fn probe() -> Result<(), String> {
    let mut ring = IoUring::new(4).map_err(|error| format!("io_uring_setup: {error}"))?;
    let mut probe = Probe::new();
    ring.submitter().register_probe(&mut probe).map_err(|error| format!("io_uring probe: {error}"))?;
    for (name, code) in [
        ("READ", opcode::Read::CODE),
        ("WRITE", opcode::Write::CODE),
        ("FSYNC", opcode::Fsync::CODE),
        ("FALLOCATE", opcode::Fallocate::CODE),
    ] {
        if !probe.is_supported(code) {
            return Err(format!("io_uring has no {name} here"));
        }
    }
    let nop = opcode::Nop::new().build();
    // SAFETY: a NOP refers to no memory.
    unsafe { ring.submission().push(&nop) }.map_err(|error| format!("io_uring: {error}"))?;
    ring.submit_and_wait(1).map_err(|error| format!("io_uring_enter: {error}"))?;
    match ring.completion().next() {
        Some(entry) if entry.result() == 0 => Ok(()),
        _ => Err("io_uring does not complete a NOP".into()),
    }
}

fn limited(length: usize) -> u32 {
    length.min(TRANSFER_MAX) as u32
}
