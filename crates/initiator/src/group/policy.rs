//! Which path a request takes.

use super::GroupOptions;
use super::path::{Path, Ready};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

/// Which of several equally good paths a request takes. What is better by its access state goes before what is
/// worse, with each of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Policy {
    /// One after the other.
    RoundRobin,
    /// The one with the fewest requests on it.
    #[default]
    LeastQueue,
}

/// The path for the next request; `None` where none can be used. The path to avoid has just failed, and is taken
/// where there is no other.
pub(super) fn choose(
    paths: &[Arc<Path>],
    options: &GroupOptions,
    turn: &AtomicUsize,
    avoid: Option<usize>,
) -> Option<Ready> {
    let settled = |since: Instant, was_lost: bool| !was_lost || since.elapsed() >= options.fail_back;
    // Who is equal to another is taken in turn.
    let first = turn.fetch_add(1, Ordering::Relaxed) % paths.len().max(1);
    let usable = paths.iter().cycle().skip(first).take(paths.len()).filter_map(|path| {
        let (since, was_lost) = path.connected()?;
        let rank = path.rank()?;
        let queue = if options.policy == Policy::LeastQueue { path.in_flight() } else { 0 };
        // What has failed just now, or has come back just now, is taken only for want of something else.
        Some(((Some(path.number) == avoid, !settled(since, was_lost), rank, queue), path))
    });
    let (_, best) = usable.min_by_key(|(worth, _)| *worth)?;
    best.take()
}
