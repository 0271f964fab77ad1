//! The alarm of a worker: other threads ring it when they have something for one of its stores.

use block::Alarm;
use rustix::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// An eventfd, whether it was rung since the worker last looked, and whether anybody was given it.
pub(super) struct Bell {
    wake: Arc<OwnedFd>,
    rung: AtomicBool,
    shared: AtomicBool,
}

impl Bell {
    /// One that signals this eventfd.
    pub(super) fn new(wake: Arc<OwnedFd>) -> Arc<Bell> {
        Arc::new(Bell { wake, rung: AtomicBool::new(false), shared: AtomicBool::new(false) })
    }

    /// Whether another thread may ring it.
    pub(super) fn is_shared(&self) -> bool {
        self.shared.load(Ordering::Relaxed)
    }

    /// For another thread.
    pub(super) fn share(self: &Arc<Bell>) -> Arc<dyn Alarm> {
        self.shared.store(true, Ordering::Relaxed);
        Arc::clone(self) as Arc<dyn Alarm>
    }

    /// Whether it was rung since this was last asked. What was left before it was rung can be seen now.
    pub(super) fn take(&self) -> bool {
        self.rung.load(Ordering::Relaxed) && self.rung.swap(false, Ordering::Acquire)
    }
}

impl Alarm for Bell {
    fn ring(&self) {
        // Whoever finds it rung has been before the worker's look, which takes the ring first.
        if !self.rung.swap(true, Ordering::AcqRel) {
            super::signal(&self.wake);
        }
    }
}
