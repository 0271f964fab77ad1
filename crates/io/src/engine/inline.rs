//! The engine that waits: everything is done at once on the worker. The portable reference against
//! which the others are tested, and for tests that want no threads.

use super::perform::perform;
use block::{Engine, FileJob};
use std::cell::Cell;

/// Does every job in [`Engine::submit`].
#[derive(Default)]
pub(super) struct InlineEngine {
    finished: Cell<usize>,
}

impl InlineEngine {
    /// Jobs finished since the last call.
    pub(super) fn collect(&self) -> usize {
        self.finished.take()
    }

    /// Jobs finished that nobody was told of.
    pub(super) fn finished(&self) -> usize {
        self.finished.get()
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
}
