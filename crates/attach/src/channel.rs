//! What every thread of a front-end has: its channel to the store, an engine, and bounded memory.
//!
//! A thread waits for its kernel's requests and for [`Channel::alarm`]; it queues what came, calls
//! [`Channel::run`] once for the batch, and answers what has completed. No lock, no other thread.

use crate::Error;
use block::{Backend, Buf, Completion, ErrorKind, Limits, Pool, Request, Store};
use io::engine::{Engines, WorkerEngine};
use rustix::fd::BorrowedFd;
use std::sync::Arc;

/// One thread's way to a store.
pub struct Channel {
    backend: Arc<dyn Backend>,
    // Before the engine: what the store still has there is given up first.
    store: Box<dyn Store>,
    engine: WorkerEngine,
    pool: Pool,
    limits: Arc<Limits>,
    batch: Vec<Request>,
}

impl Channel {
    /// Opens this thread's channel, to be called on the thread itself. At most `memory_bytes` of buffers are
    /// out at a time.
    pub fn open(backend: &Arc<dyn Backend>, engines: &Engines, memory_bytes: usize) -> Result<Channel, Error> {
        let engine = engines.open().map_err(|error| Error::system("a worker's engine cannot be made", error))?;
        let store = backend.open(engine.engine())?;
        let pool = Pool::new(memory_bytes, memory_bytes);
        Ok(Channel { backend: backend.clone(), store, engine, pool, limits: backend.limits(), batch: Vec::new() })
    }

    /// Becomes readable when something has completed.
    pub fn alarm(&self) -> BorrowedFd<'_> {
        self.engine.alarm()
    }

    /// The store's facts when this was last asked anew.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Asks the store for its facts anew.
    pub fn look(&mut self) -> &Limits {
        self.limits = self.backend.limits();
        &self.limits
    }

    /// Memory for a request; `None` when what is out has to come back first.
    pub fn take(&self, length_bytes: usize) -> Option<Buf> {
        self.pool.take(length_bytes)
    }

    /// Gives memory back.
    pub fn give(&self, buffer: Buf) {
        self.pool.give(buffer);
    }

    /// Takes a request; it goes to the store with the others at the next [`Channel::run`].
    pub fn queue(&mut self, request: Request) {
        self.batch.push(request);
    }

    /// Hands the batch to the store and moves what has completed into `done`. To be called after every
    /// batch, and when the alarm rings.
    pub fn run(&mut self, done: &mut Vec<Completion>) {
        self.engine.quiet();
        if !self.batch.is_empty() {
            self.store.submit(&mut self.batch, done);
            self.engine.engine().flush();
        }
        self.engine.collect();
        self.store.poll(done);
    }

    /// Requests that the store has.
    pub fn in_flight(&self) -> usize {
        self.store.in_flight()
    }
}

/// The error number by which the block layer of Linux understands a store's failure.
pub fn errno(error: &block::Error) -> i32 {
    const EIO: i32 = 5;
    const ENXIO: i32 = 6;
    const EROFS: i32 = 30;
    const ENOSPC: i32 = 28;
    const EOPNOTSUPP: i32 = 95;
    const ETIMEDOUT: i32 = 110;
    match error.kind {
        ErrorKind::NoSpace => ENOSPC,
        ErrorKind::ReadOnly => EROFS,
        ErrorKind::OutOfRange => ENXIO,
        ErrorKind::Unsupported => EOPNOTSUPP,
        ErrorKind::Aborted => ETIMEDOUT,
        _ => EIO,
    }
}
