//! How often something happened, for whoever wants to know: counted where a bound strikes, never on the path
//! of a command that goes its way.

use std::sync::atomic::{AtomicU64, Ordering};

/// A number that only grows, shared by those who count and those who look.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// It happened once more.
    pub fn count(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    /// How often it happened.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}
