//! One worker's channel to a file: what is done on the spot, what goes to the engine, and in which
//! order things become stable.
//!
//! * Reads that the page cache can answer are done on the spot (RWF_NOWAIT); the others go to the engine.
//! * Buffered writes are done on the spot while they are quick. When one takes long, because the
//!   kernel makes writers wait for the disk, writes go to the engine for a while, and so do those
//!   beyond a budget for each batch.
//! * A flush is fdatasync(2) by the engine. One is under way at a time; those that come meanwhile share
//!   the next. A durable buffered write is a write and then a place in that queue, so that an error in
//!   writing and an error in making stable are told apart, and neither takes the other's news.
//! * With direct I/O, reads and writes go to the engine, and a durable write is RWF_DSYNC.
//!
//! A file may shrink under us. Reads then fail where it ends. Writes would make it grow again, so the
//! size is looked at once for each batch that writes (F16). Between that look and the write lies a
//! moment that only the file's owner can misuse.

use super::backend::Shared;
use super::facts::Nature;
use block::{
    Caching, Completion, Engine, Error, ErrorKind, Extent, ExtentState, FileJob, FileOperation, Inbox, Limits,
    Operation, Outcome, PAGE_BYTES, Request, RequestId, Store,
};
use rustix::io::{Errno, ReadWriteFlags};
use std::collections::HashMap;
use std::fs::File;
use std::io::IoSliceMut;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// Bytes written on the spot for each batch; the rest goes to the engine.
const SPOT_BYTES_MAX: usize = 4 << 20;
/// A write that takes longer than this, and a millisecond for each MiB, is not quick.
const QUICK: Duration = Duration::from_millis(2);
/// How long writes go to the engine after one that was not quick.
const SLOW: Duration = Duration::from_secs(1);

pub(super) struct Channel {
    shared: Arc<Shared>,
    engine: Rc<dyn Engine>,
    buffered: Arc<File>,
    direct: Option<Arc<File>>,
    inbox: Inbox,
    arrived: Vec<Completion>,
    /// Requests taken and not given back.
    held: usize,
    /// What comes after an engine's job. Those that are not here are given back.
    next: HashMap<RequestId, Next>,
    /// Wait for the next fdatasync.
    to_sync: Vec<Request>,
    /// Share the fdatasync that is under way with the request that carries it.
    syncing: Vec<Request>,
    sync_running: bool,
    slow_until: Option<Instant>,
    engine_waits: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    /// Make it stable.
    Sync,
    /// It was the fdatasync.
    Synced,
}

/// What holds for a batch.
struct Turn {
    limits: Arc<Limits>,
    /// The size in bytes, where the batch writes to a file.
    size: Option<Result<u64, Error>>,
    spot_bytes: usize,
    /// The end of the last write, which is near enough the start of the next.
    now: Option<Instant>,
}

impl Channel {
    pub(super) fn new(
        shared: Arc<Shared>,
        engine: Rc<dyn Engine>,
        buffered: Arc<File>,
        direct: Option<Arc<File>>,
    ) -> Channel {
        Channel {
            shared,
            engine,
            buffered,
            direct,
            inbox: Inbox::default(),
            arrived: Vec::new(),
            held: 0,
            next: HashMap::new(),
            to_sync: Vec::new(),
            syncing: Vec::new(),
            sync_running: false,
            slow_until: None,
            engine_waits: false,
        }
    }

    fn turn(&mut self, batch: &[Request]) -> Turn {
        let writes =
            |request: &Request| !matches!(request.operation, Operation::Read | Operation::Flush | Operation::Extents);
        let looks = self.shared.facts.nature == Nature::File && batch.iter().any(writes);
        if self.slow_until.is_some_and(|until| Instant::now() >= until) {
            self.slow_until = None;
        }
        let spot_bytes = if self.slow_until.is_some() { 0 } else { SPOT_BYTES_MAX };
        Turn { limits: self.shared.limits(), size: looks.then(|| self.shared.size()), spot_bytes, now: None }
    }

    fn take(&mut self, mut request: Request, turn: &mut Turn, done: &mut Vec<Completion>) {
        if let Err(error) = request.check(&turn.limits).and_then(|()| turn.within_file(&request)) {
            return done.push(request.complete(Err(error)));
        }
        let durable = match request.operation {
            Operation::Write { durable } | Operation::WriteZeroes { durable, .. } => durable,
            _ => false,
        };
        let empty = request.length == 0 && request.operation != Operation::Flush;
        if empty && !matches!(request.operation, Operation::Extents) {
            return done.push(request.complete(Ok(Outcome::Done)));
        }
        match request.operation {
            Operation::Read => {
                if self.direct.is_none() && self.read_on_the_spot(&mut request) {
                    return done.push(request.complete(Ok(Outcome::Done)));
                }
                self.transfer(request, FileOperation::Read);
            }
            Operation::Write { .. } if self.direct.is_some() && self.aligned(&request) => {
                self.transfer(request, FileOperation::Write { durable });
            }
            Operation::Write { .. } => {
                if self.write_on_the_spot(&request, turn) {
                    match durable {
                        true => self.hold_for_sync(request),
                        false => done.push(request.complete(Ok(Outcome::Done))),
                    }
                } else {
                    self.then_sync(&request, durable);
                    self.transfer(request, FileOperation::Write { durable: false });
                }
            }
            Operation::Flush if turn.limits.read_only => done.push(request.complete(Ok(Outcome::Done))),
            Operation::Flush => self.hold_for_sync(request),
            Operation::Unmap if turn.limits.unmap.is_none() => {
                done.push(request.complete(Err(Error::new(ErrorKind::Unsupported))));
            }
            Operation::Unmap => self.allocate(request, FileOperation::PunchHole),
            Operation::WriteZeroes { unmap, .. } => {
                self.then_sync(&request, durable);
                let unmap = unmap && turn.limits.unmap.is_some();
                self.allocate(request, if unmap { FileOperation::PunchHole } else { FileOperation::ZeroRange });
            }
            Operation::Extents if self.shared.facts.nature == Nature::Device || empty => {
                let (offset, length) = (request.offset, request.length);
                let whole = Extent { offset, length, state: ExtentState::Mapped };
                done.push(request.complete(Ok(Outcome::Extents(vec![whole]))));
            }
            Operation::Extents => self.hand_over(request, FileOperation::Extents),
            Operation::Copy { source } if turn.limits.copies => {
                self.hand_over(request, FileOperation::Copy { source });
            }
            _ => done.push(request.complete(Err(Error::new(ErrorKind::Unsupported)))),
        }
    }

    /// Whether the page cache had all of it. What it had not, or what went wrong, the engine finds again.
    fn read_on_the_spot(&self, request: &mut Request) -> bool {
        let flags = match self.shared.facts.memory {
            true => ReadWriteFlags::empty(),
            false if self.shared.nowait.load(Ordering::Relaxed) => ReadWriteFlags::NOWAIT,
            false => return false,
        };
        let offset = request.offset;
        let bytes = request.bytes_mut();
        let length = bytes.len();
        match rustix::io::preadv2(&*self.buffered, &mut [IoSliceMut::new(bytes)], offset, flags) {
            Ok(read) => read == length,
            Err(Errno::OPNOTSUPP) => {
                self.shared.nowait.store(false, Ordering::Relaxed);
                false
            }
            Err(_) => false,
        }
    }

    /// Whether all of it was written. What was not, the engine writes again from the start.
    fn write_on_the_spot(&mut self, request: &Request, turn: &mut Turn) -> bool {
        let bytes = request.bytes();
        if self.direct.is_some() || bytes.len() > turn.spot_bytes {
            return false;
        }
        turn.spot_bytes -= bytes.len();
        if self.shared.facts.memory {
            // Nothing waits for a disk.
            return rustix::io::pwrite(&*self.buffered, bytes, request.offset) == Ok(bytes.len());
        }
        let start = turn.now.unwrap_or_else(Instant::now);
        let written = rustix::io::pwrite(&*self.buffered, bytes, request.offset);
        let end = Instant::now();
        let quick = QUICK + Duration::from_millis((bytes.len() >> 20) as u64);
        turn.now = Some(end);
        if end.duration_since(start) > quick {
            self.slow_until = Some(end + SLOW);
            turn.spot_bytes = 0;
        }
        written == Ok(bytes.len())
    }

    /// A read or write by the engine, past the page cache where the file and the memory allow it.
    fn transfer(&mut self, request: Request, operation: FileOperation) {
        match self.direct.clone().filter(|_| self.aligned(&request)) {
            Some(direct) => self.submit_job(request, operation, direct, Caching::Direct),
            None => self.hand_over(request, operation),
        }
    }

    /// Whether direct I/O can take it: the disk's blocks in the file, and the same in memory. What it
    /// cannot take goes through the page cache, which the kernel keeps in step.
    fn aligned(&self, request: &Request) -> bool {
        let unit = u64::from(self.shared.facts.logical_block_length.max(1));
        let start = request.data.start as u64;
        // Buffers begin on a page; no disk's block is longer than one that can be served.
        unit <= PAGE_BYTES as u64
            && [request.offset, request.length, start].iter().all(|value| value.is_multiple_of(unit))
    }

    /// Holes and zeros go by the file that holds a device alone: by any other, the kernel may not drop
    /// the cached pages of the extent and says EBUSY when one of them is dirty.
    fn allocate(&mut self, request: Request, operation: FileOperation) {
        self.submit_job(request, operation, self.shared.file.clone(), Caching::Buffered);
    }

    fn hand_over(&mut self, request: Request, operation: FileOperation) {
        self.submit_job(request, operation, self.buffered.clone(), Caching::Buffered);
    }

    fn submit_job(&mut self, request: Request, operation: FileOperation, file: Arc<File>, caching: Caching) {
        self.held += 1;
        self.engine_waits = true;
        let disk = self.shared.number;
        self.engine.submit(FileJob { request, file, disk, operation, caching, inbox: self.inbox.clone() });
    }

    fn then_sync(&mut self, request: &Request, durable: bool) {
        if durable {
            self.next.insert(request.id, Next::Sync);
        }
    }

    fn hold_for_sync(&mut self, request: Request) {
        self.held += 1;
        self.to_sync.push(request);
    }

    /// Sends off the next fdatasync for all that wait, if none is under way.
    fn sync(&mut self, done: &mut Vec<Completion>) {
        if self.sync_running || self.to_sync.is_empty() {
            return;
        }
        if self.shared.is_lost() {
            self.held -= self.to_sync.len();
            done.extend(self.to_sync.drain(..).map(|request| request.complete(Err(LOST))));
            return;
        }
        self.syncing = std::mem::take(&mut self.to_sync);
        if let Some(carrier) = self.syncing.pop() {
            self.sync_running = true;
            self.next.insert(carrier.id, Next::Synced);
            self.held -= 1;
            self.hand_over(carrier, FileOperation::Sync);
        }
    }

    /// Brings in what the engine has finished.
    fn gather(&mut self, done: &mut Vec<Completion>) {
        loop {
            std::mem::swap(&mut *self.inbox.borrow_mut(), &mut self.arrived);
            if self.arrived.is_empty() {
                return;
            }
            let mut arrived = std::mem::take(&mut self.arrived);
            for mut completion in arrived.drain(..) {
                self.held -= 1;
                match self.next.remove(&completion.id) {
                    Some(Next::Sync) if completion.result.is_ok() => {
                        let Completion { id, buffer, .. } = completion;
                        let mut request = Request::over(id, Operation::Flush, 0, 0);
                        request.buffer = buffer;
                        self.hold_for_sync(request);
                    }
                    Some(Next::Synced) => {
                        self.sync_running = false;
                        if completion.result.as_ref().is_err_and(was_tried) {
                            self.shared.set_lost();
                        } else if completion.result.is_ok() && self.shared.is_lost() {
                            // Another worker's flush failed meanwhile.
                            completion.result = Err(LOST);
                        }
                        self.held -= self.syncing.len();
                        let result = completion.result.clone();
                        done.push(completion);
                        done.extend(self.syncing.drain(..).map(|request| request.complete(result.clone())));
                    }
                    _ => done.push(completion),
                }
            }
            self.arrived = arrived;
            // An engine that does everything at once has filled the inbox again after this.
            self.sync(done);
            self.flush_engine();
        }
    }

    fn flush_engine(&mut self) {
        if std::mem::take(&mut self.engine_waits) {
            self.engine.flush();
        }
    }
}

/// A flush after one that failed: data are lost.
const LOST: Error = Error { kind: ErrorKind::Medium, offset: None, os: Some(5) };

/// Whether the system was asked for the flush and said no, rather than an engine that could not ask.
fn was_tried(error: &Error) -> bool {
    error.os.is_some() || !matches!(error.kind, ErrorKind::Busy | ErrorKind::Aborted)
}

impl Turn {
    /// Whether a write stays within the file as it is now, so that a file that shrank does not grow again.
    fn within_file(&self, request: &Request) -> Result<(), Error> {
        let Some(size) = self.size else { return Ok(()) };
        if matches!(request.operation, Operation::Read | Operation::Flush | Operation::Extents) {
            return Ok(());
        }
        let size = size?;
        // The end does not overflow: the request was checked against the limits.
        match request.offset + request.length <= size {
            true => Ok(()),
            false => Err(Error::new(ErrorKind::OutOfRange).at(size.max(request.offset))),
        }
    }
}

impl Store for Channel {
    fn submit(&mut self, batch: &mut Vec<Request>, done: &mut Vec<Completion>) {
        let mut turn = self.turn(batch);
        for request in batch.drain(..) {
            self.take(request, &mut turn, done);
        }
        self.sync(done);
        self.flush_engine();
        self.gather(done);
    }

    fn poll(&mut self, done: &mut Vec<Completion>) {
        self.gather(done);
    }

    fn in_flight(&self) -> usize {
        self.held
    }
}
