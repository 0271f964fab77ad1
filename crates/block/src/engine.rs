//! How a store has the kernel work for it without waiting: one answer for ring and thread pool.

use crate::{Completion, Request};
use std::cell::RefCell;
use std::fs::File;
use std::rc::Rc;
use std::sync::Arc;

/// Runs file operations beside the worker. One for each worker; `io` implements it.
pub trait Engine {
    /// For logs and metrics: `uring`, `pool`, `inline`.
    fn name(&self) -> &'static str;

    /// Takes the job. Its completion arrives in the job's inbox; the worker is woken.
    fn submit(&self, job: FileJob);

    /// Hands over to the kernel what was taken since the last call. Called once for a batch.
    fn flush(&self) {}

    /// What wakes this worker from another thread, for stores that are served by one (a remote disk): it
    /// then looks with [`crate::Store::poll`]. `None` where nothing can.
    fn alarm(&self) -> Option<Arc<dyn Alarm>> {
        None
    }
}

/// Wakes a worker from any thread. Takes no lock; ringing again before the worker has looked costs nothing.
pub trait Alarm: Send + Sync {
    /// What was completed is where the worker's store finds it.
    fn ring(&self);
}

/// An open file, handed through to whoever works on it.
pub type OpenFile = Arc<File>;

/// Where an engine leaves completions for one store. Belongs to one worker.
pub type Inbox = Rc<RefCell<Vec<Completion>>>;

/// A file operation with the request that it fulfils.
pub struct FileJob {
    /// The request, given back in the completion. For Read and Write its `bytes` are the memory.
    pub request: Request,
    /// The open file; kept alive until the job has ended.
    pub file: OpenFile,
    /// The disk that it belongs to. Jobs of one disk, whatever file they use, share what an engine lets
    /// one disk have.
    pub disk: u64,
    /// What to do with it.
    pub operation: FileOperation,
    /// Whether the file bypasses the page cache. An engine may take another way for those that do not.
    pub caching: Caching,
    /// Where the completion goes.
    pub inbox: Inbox,
}

/// Whether a file's data pass through the page cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Caching {
    /// They do.
    Buffered,
    /// Opened with O_DIRECT.
    Direct,
}

/// What the kernel is asked to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileOperation {
    /// Read the request's extent; bytes past the end of the file are an error, not zeros.
    Read,
    /// Write the request's extent, with RWF_DSYNC when `durable`.
    Write {
        /// On stable storage before it completes.
        durable: bool,
    },
    /// fdatasync(2).
    Sync,
    /// Give the extent's space back, keeping the size.
    PunchHole,
    /// Make the extent zeros with space behind it, keeping the size.
    ZeroRange,
    /// Look for data and holes in the extent.
    Extents,
    /// Copy from this byte offset of the request's origin, or of the same file.
    Copy {
        /// First byte of the source.
        source: u64,
    },
}

/// An engine that takes no jobs: for stores that never have any, such as [`crate::pure`], and their tests.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoEngine;

impl Engine for NoEngine {
    fn name(&self) -> &'static str {
        "none"
    }

    fn submit(&self, job: FileJob) {
        let refused = job.request.complete(Err(crate::Error::new(crate::ErrorKind::Unsupported)));
        job.inbox.borrow_mut().push(refused);
    }
}
