//! The engine that waits: everything is done at once on the worker. The portable reference against
//! which the others are tested, and for tests that want no threads.

use super::bell::Bell;
use super::perform::perform;
use block::{Alarm, Engine, FileJob};
use std::cell::Cell;
use std::sync::Arc;

/// Does every job in [`Engine::submit`].
pub(super) struct InlineEngine {
    finished: Cell<usize>,
    bell: Arc<Bell>,
}

impl InlineEngine {
    /// One of a worker with this alarm.
    pub(super) fn new(bell: Arc<Bell>) -> InlineEngine {
        InlineEngine { finished: Cell::new(0), bell }
    }

    /// Jobs finished since the last call.
    pub(super) fn collect(&self) -> usize {
        self.finished.take()
    }
}

impl Engine for InlineEngine {
    fn name(&self) -> &'static str {
        "inline"
    }

    fn submit(&self, job: FileJob) {
        let FileJob { mut request, file, operation, inbox, .. } = job;
        let result = perform(&file, operation, &mut request);
        inbox.borrow_mut().push(request.complete(result));
        self.finished.set(self.finished.get() + 1);
    }
    fn alarm(&self) -> Option<Arc<dyn Alarm>> {
        Some(self.bell.share())
    }
}
