//! The cells in which commands are counted. Each has one thread that writes it, with plain loads and stores; whoever
//! asks reads them from wherever he is. So a command pays a few additions in memory that its lane has to itself.

use super::{ABORTED, BUCKETS, CommandKind, Counted, ERRORS, KINDS, KindCounted, Latencies, bucket};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

/// Adds where nobody else writes: no read-modify-write is needed.
#[inline]
fn add(counter: &AtomicU64, by: u64) {
    counter.store(counter.load(Ordering::Relaxed).wrapping_add(by), Ordering::Relaxed);
}

fn get(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

/// The end of a command, as it is counted.
#[derive(Debug, Clone, Copy)]
pub(crate) struct End {
    pub kind: CommandKind,
    /// How long it took, in nanoseconds.
    pub took: u64,
    /// What it moved.
    pub bytes: u64,
    /// Its place among [`super::ERROR_NAMES`], where it failed.
    pub error: Option<usize>,
}

/// A histogram, whose memory is taken with the first command.
#[derive(Default)]
struct Histogram(OnceLock<Box<[AtomicU64; BUCKETS]>>);

impl Histogram {
    #[inline]
    fn count(&self, nanoseconds: u64) {
        let buckets = self.0.get_or_init(|| Box::new([const { AtomicU64::new(0) }; BUCKETS]));
        if let Some(bucket) = buckets.get(bucket(nanoseconds)) {
            add(bucket, 1);
        }
    }

    fn latencies(&self) -> Latencies {
        Latencies(self.0.get().map_or(Vec::new(), |buckets| buckets.iter().map(get).collect()))
    }
}

/// Failures.
#[derive(Default)]
struct Errors([AtomicU64; ERRORS]);

impl Errors {
    fn count(&self, error: usize) {
        if let Some(counter) = self.0.get(error) {
            add(counter, 1);
        }
    }

    fn counted(&self) -> [u64; ERRORS] {
        std::array::from_fn(|at| get(&self.0[at]))
    }
}

/// What one lane counts of one unit. Whole pairs of cache lines, as processors fetch them.
#[derive(Default)]
#[repr(align(128))]
pub(crate) struct UnitCells {
    kinds: [UnitKind; KINDS],
    in_flight: AtomicU64,
    errors: Errors,
}

#[derive(Default)]
struct UnitKind {
    failed: AtomicU64,
    bytes: AtomicU64,
    time: AtomicU64,
    histogram: Histogram,
}

impl UnitCells {
    /// A command begins that does not end at once.
    #[inline]
    pub fn begin(&self) {
        add(&self.in_flight, 1);
    }

    /// It is no longer under way.
    #[inline]
    pub fn leave(&self) {
        add(&self.in_flight, u64::MAX);
    }

    /// A command has ended with a status.
    #[inline]
    pub fn end(&self, end: &End) {
        let kind = &self.kinds[end.kind as usize];
        kind.histogram.count(end.took);
        add(&kind.time, end.took);
        match end.error {
            None => add(&kind.bytes, end.bytes),
            Some(error) => {
                add(&kind.failed, 1);
                self.errors.count(error);
            }
        }
    }

    /// A command has ended without one.
    pub fn aborted(&self) {
        self.errors.count(ABORTED);
    }

    pub fn counted(&self) -> Counted {
        let kind = |at: usize| {
            let kind = &self.kinds[at];
            let latencies = kind.histogram.latencies();
            KindCounted {
                commands: latencies.count(),
                failed: get(&kind.failed),
                bytes: get(&kind.bytes),
                time: Duration::from_nanos(get(&kind.time)),
                latencies,
            }
        };
        Counted {
            kinds: std::array::from_fn(kind),
            errors: self.errors.counted(),
            in_flight: in_flight(&self.in_flight),
        }
    }
}

/// A level that another thread moves meanwhile is not below zero.
fn in_flight(level: &AtomicU64) -> u64 {
    i64::try_from(get(level)).map_or(0, |level| level.max(0) as u64)
}

/// What is counted of a session at one of its units.
#[derive(Default)]
pub(crate) struct LunCells([LunKind; KINDS]);

#[derive(Default)]
struct LunKind {
    commands: AtomicU64,
    failed: AtomicU64,
    bytes: AtomicU64,
    time: AtomicU64,
}

impl LunCells {
    #[inline]
    fn end(&self, end: &End) {
        let kind = &self.0[end.kind as usize];
        add(&kind.commands, 1);
        add(&kind.time, end.took);
        match end.error {
            None => add(&kind.bytes, end.bytes),
            Some(_) => add(&kind.failed, 1),
        }
    }

    fn counted(&self) -> Counted {
        let kind = |at: usize| {
            let kind = &self.0[at];
            KindCounted {
                commands: get(&kind.commands),
                failed: get(&kind.failed),
                bytes: get(&kind.bytes),
                time: Duration::from_nanos(get(&kind.time)),
                latencies: Latencies::default(),
            }
        };
        Counted { kinds: std::array::from_fn(kind), ..Counted::default() }
    }
}

/// What is counted of a session: written by its lane, read by whoever has a clone of the handle, also after the session
/// has ended.
#[derive(Default)]
pub struct SessionCells {
    histograms: [Histogram; KINDS],
    errors: Errors,
    in_flight: AtomicU64,
    /// Commands to LUNs behind which there is nothing.
    elsewhere: LunCells,
    /// By LUN; grows with the first command to each, and keeps those that are gone.
    luns: Mutex<Vec<(u16, Arc<LunCells>)>>,
}

impl SessionCells {
    /// The cells of one of its units, found or made.
    pub(crate) fn lun(&self, number: u16) -> Arc<LunCells> {
        let mut luns = self.luns.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, cells)) = luns.iter().find(|(other, _)| *other == number) {
            return Arc::clone(cells);
        }
        let cells = Arc::new(LunCells::default());
        luns.push((number, Arc::clone(&cells)));
        cells
    }

    /// A command has ended with a status, at a unit of these cells.
    #[inline]
    pub(crate) fn end(&self, lun: Option<&LunCells>, end: &End) {
        self.histograms[end.kind as usize].count(end.took);
        lun.unwrap_or(&self.elsewhere).end(end);
        if let Some(error) = end.error {
            self.errors.count(error);
        }
    }

    /// A command has ended without one.
    pub(crate) fn aborted(&self) {
        self.errors.count(ABORTED);
    }

    /// So many tasks are under way.
    #[inline]
    pub(crate) fn tasks(&self, tasks: usize) {
        self.in_flight.store(tasks as u64, Ordering::Relaxed);
    }

    /// What was counted of the session.
    pub fn counted(&self) -> Counted {
        let mut counted = self.elsewhere.counted();
        for (_, lun) in self.luns.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            counted.add(&lun.counted());
        }
        for (kind, histogram) in counted.kinds.iter_mut().zip(&self.histograms) {
            kind.latencies = histogram.latencies();
        }
        (counted.errors, counted.in_flight) = (self.errors.counted(), in_flight(&self.in_flight));
        counted
    }

    /// What was counted at each of its units, by LUN; without latencies and errors.
    pub fn luns(&self) -> Vec<(u16, Counted)> {
        let luns = self.luns.lock().unwrap_or_else(PoisonError::into_inner);
        let mut all: Vec<_> = luns.iter().map(|(number, lun)| (*number, lun.counted())).collect();
        all.sort_by_key(|(number, _)| *number);
        all
    }
}

impl std::fmt::Debug for SessionCells {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SessionCells").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn end(kind: CommandKind, took: u64, bytes: u64, error: Option<usize>) -> End {
        End { kind, took, bytes, error }
    }

    #[test]
    fn a_unit_counts_commands_bytes_times_and_failures() {
        let cells = UnitCells::default();
        cells.begin();
        cells.begin();
        cells.leave();
        cells.end(&end(CommandKind::Read, 2_000_000, 4096, None));
        cells.end(&end(CommandKind::Read, 1_000_000, 4096, Some(3)));
        cells.end(&end(CommandKind::Flush, 10, 0, None));
        cells.aborted();
        let counted = cells.counted();
        let read = counted.kind(CommandKind::Read);
        assert_eq!((read.commands, read.failed, read.bytes), (2, 1, 4096));
        assert_eq!(read.time, Duration::from_millis(3));
        assert_eq!(counted.errors().collect::<Vec<_>>(), [("medium_error", 1), ("aborted", 1)]);
        assert_eq!((counted.in_flight, counted.total().commands, counted.latencies().count()), (1, 3, 3));
        assert!(counted.kind(CommandKind::Write).latencies.buckets().is_empty(), "no memory for what never came");
    }

    #[test]
    fn a_session_is_the_sum_of_its_units_and_of_what_went_nowhere() {
        let cells = SessionCells::default();
        let (one, again, two) = (cells.lun(1), cells.lun(1), cells.lun(0));
        cells.end(Some(&one), &end(CommandKind::Write, 1, 512, None));
        cells.end(Some(&again), &end(CommandKind::Write, 1, 512, None));
        cells.end(Some(&two), &end(CommandKind::Read, 1, 100, None));
        cells.end(None, &end(CommandKind::Other, 1, 0, Some(5)));
        cells.tasks(7);
        let counted = cells.counted();
        assert_eq!((counted.kind(CommandKind::Write).commands, counted.kind(CommandKind::Write).bytes), (2, 1024));
        assert_eq!((counted.total().commands, counted.latencies().count(), counted.in_flight), (4, 4, 7));
        let luns = cells.luns();
        assert_eq!(
            luns.iter().map(|(number, counted)| (*number, counted.total().commands)).collect::<Vec<_>>(),
            [(0, 1), (1, 2)]
        );
    }
}
