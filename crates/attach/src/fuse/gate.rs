//! Writes of whole blocks go on beside each other; a write of a part of a block goes alone.
//!
//! A part of a block is written by reading the block, changing it and writing it back. Any other write that
//! lands in between would be undone by that, also one of another thread. Such writes come only from whoever
//! uses the file as a file; a block device above it never sends one.

use std::sync::atomic::{AtomicU64, Ordering};

/// Counts writes of whole blocks under way; the highest bit says that somebody wants to be, or is, alone.
#[derive(Debug, Default)]
pub(super) struct Gate(AtomicU64);

const ALONE: u64 = 1 << 63;

impl Gate {
    /// A write of whole blocks may begin; if not, later.
    pub(super) fn enter(&self) -> bool {
        if self.0.fetch_add(1, Ordering::AcqRel) & ALONE == 0 {
            return true;
        }
        self.leave();
        false
    }

    /// It has ended.
    pub(super) fn leave(&self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }

    /// Asks to be alone: nobody enters from now on. False when somebody else has asked before.
    pub(super) fn close(&self) -> bool {
        self.0.fetch_or(ALONE, Ordering::AcqRel) & ALONE == 0
    }

    /// Whether whoever closed it is alone by now.
    pub(super) fn is_empty(&self) -> bool {
        self.0.load(Ordering::Acquire) == ALONE
    }

    /// Whoever closed it has done.
    pub(super) fn open(&self) {
        self.0.fetch_and(!ALONE, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_goes_alone_waits_for_those_inside_and_keeps_others_out() {
        let gate = Gate::default();
        assert!(gate.enter() && gate.enter());
        assert!(gate.close() && !gate.close());
        assert!(!gate.enter() && !gate.is_empty());
        gate.leave();
        gate.leave();
        assert!(gate.is_empty());
        gate.open();
        assert!(gate.enter());
    }
}
