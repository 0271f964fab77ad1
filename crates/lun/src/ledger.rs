//! What a unit counts, and what applications noted with it: the log pages 19h and 0Fh.
//!
//! Each lane counts in memory of its own, which nobody else writes; who asks adds up. So the data path pays
//! a plain addition and shares no cache line.

use crate::statistics::Counted;
use crate::statistics::cells::UnitCells;
use scsi::log::{
    application_client::{BYTES, Notes},
    statistics::Statistics,
};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The counters of one lane, apart from those of others in pairs of cache lines, as processors fetch them.
#[derive(Default)]
#[repr(align(128))]
pub(crate) struct Tally {
    /// What the administration sees. The log page counts other things: no command that failed, no WRITE SAME.
    pub cells: UnitCells,
    reads: AtomicU64,
    writes: AtomicU64,
    bytes_read: AtomicU64,
    bytes_written: AtomicU64,
}

impl Tally {
    /// A read command ended well. Only for the lane whose tally it is.
    pub fn read(&self, bytes: u64) {
        add(&self.reads, 1);
        add(&self.bytes_read, bytes);
    }

    /// A write command ended well. Only for the lane whose tally it is.
    pub fn wrote(&self, bytes: u64) {
        add(&self.writes, 1);
        add(&self.bytes_written, bytes);
    }
}

/// Adds where nobody else writes: no read-modify-write is needed.
fn add(counter: &AtomicU64, by: u64) {
    counter.store(counter.load(Ordering::Relaxed).wrapping_add(by), Ordering::Relaxed);
}

/// All that is logged of one unit.
#[derive(Default)]
pub(crate) struct Ledger {
    /// One for each lane that has ever served the unit.
    tallies: Mutex<Vec<Arc<Tally>>>,
    /// Writes that are operations of several steps, whatever lane they ran on.
    long: Tally,
    /// The sums when the counters were reset.
    before: Mutex<[u64; 4]>,
    notes: Mutex<Notes>,
}

impl Ledger {
    /// A tally for a lane that begins to serve the unit.
    pub fn tally(&self) -> Arc<Tally> {
        let tally = Arc::new(Tally::default());
        locked(&self.tallies).push(Arc::clone(&tally));
        tally
    }

    /// A write command of several steps ended well.
    pub fn wrote_long(&self, bytes: u64) {
        self.long.writes.fetch_add(1, Ordering::Relaxed);
        self.long.bytes_written.fetch_add(bytes, Ordering::Relaxed);
    }

    fn sums(&self) -> [u64; 4] {
        let tallies = locked(&self.tallies);
        let all = || tallies.iter().map(|tally| &**tally).chain([&self.long]);
        let sum = |of: fn(&Tally) -> &AtomicU64| {
            all().fold(0u64, |sum, tally| sum.wrapping_add(of(tally).load(Ordering::Relaxed)))
        };
        [sum(|one| &one.reads), sum(|one| &one.writes), sum(|one| &one.bytes_read), sum(|one| &one.bytes_written)]
    }

    /// What all lanes have counted, for the administration.
    pub fn counted(&self) -> Counted {
        let mut counted = Counted::default();
        locked(&self.tallies).iter().for_each(|tally| counted.add(&tally.cells.counted()));
        counted
    }

    /// Counts since the process began or since they were reset.
    pub fn statistics(&self, block_length: u32) -> Statistics {
        // Held over the sums: a reset between would leave more before than now.
        let before = locked(&self.before);
        let now = self.sums();
        let [reads, writes, read, written] = std::array::from_fn(|at| now[at].wrapping_sub(before[at]));
        let blocks = |bytes: u64| bytes / u64::from(block_length.max(1));
        Statistics {
            read_commands: reads,
            write_commands: writes,
            blocks_transmitted: blocks(read),
            blocks_received: blocks(written),
        }
    }

    /// The counters begin again at zero.
    pub fn reset_statistics(&self) {
        let mut before = locked(&self.before);
        *before = self.sums();
    }

    /// What applications noted.
    pub fn notes(&self) -> Notes {
        locked(&self.notes).clone()
    }

    /// Replaces what applications noted, whole or not at all.
    pub fn note<E>(&self, change: impl FnOnce(&Notes) -> Result<Notes, E>) -> Result<(), E> {
        let mut notes = locked(&self.notes);
        *notes = change(&notes)?;
        Ok(())
    }
}

impl Ledger {
    /// Reads, writes, bytes read and bytes written since they were last reset.
    pub fn counters(&self) -> [u64; 4] {
        let before = locked(&self.before);
        let now = self.sums();
        std::array::from_fn(|at| now[at].wrapping_sub(before[at]))
    }

    /// Goes on from these counters and notes.
    pub fn revive(&self, [reads, writes, bytes_read, bytes_written]: [u64; 4], noted: &[(u16, Vec<u8>)]) {
        self.long.reads.fetch_add(reads, Ordering::Relaxed);
        self.long.writes.fetch_add(writes, Ordering::Relaxed);
        self.long.bytes_read.fetch_add(bytes_read, Ordering::Relaxed);
        self.long.bytes_written.fetch_add(bytes_written, Ordering::Relaxed);
        let mut notes = locked(&self.notes);
        for (code, bytes) in noted {
            if let Ok(value) = <[u8; BYTES]>::try_from(bytes.as_slice()) {
                notes.set(*code, value);
            }
        }
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lanes_are_added_up_and_a_reset_begins_again() {
        let ledger = Ledger::default();
        let (one, other) = (ledger.tally(), ledger.tally());
        one.read(1024);
        other.read(512);
        other.wrote(2048);
        ledger.wrote_long(512);
        let counted = ledger.statistics(512);
        assert_eq!((counted.read_commands, counted.write_commands), (2, 2));
        assert_eq!((counted.blocks_transmitted, counted.blocks_received), (3, 5));
        ledger.reset_statistics();
        assert_eq!(ledger.statistics(512), Statistics::default());
        one.wrote(512);
        assert_eq!(ledger.statistics(512).blocks_received, 1);
    }
}
