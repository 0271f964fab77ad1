//! How many commands and bytes a second may pass: token buckets in the form of a clock.
//!
//! A bucket does not count tokens; it keeps the time until which what has passed is paid for ([`Bucket`]). Something may
//! pass when that time has come, and what it costs is added: so a command is never too large for its limit, the
//! lanes share a bucket by one atomic number, and no time is read here. What waits, waits in its lane
//! (`lane/pace.rs`); the limit only says until when.

use crate::mail::{Letter, Mailbox};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

const SECOND: u64 = 1_000_000_000;

/// How much may come at once where nothing is said of it.
pub const USUAL_BURST: Duration = Duration::from_millis(100);
/// The least burst: a worker's timer rings a millisecond late, and what passes late must not be lost.
pub const LEAST_BURST: Duration = Duration::from_millis(20);
/// The longest burst.
pub const LONGEST_BURST: Duration = Duration::from_secs(3600);

/// What a limit lets pass. What is zero is not limited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// Commands a second that read, write, flush, verify or unmap.
    pub operations: u64,
    /// Bytes a second of their data, and of what copies move.
    pub bytes: u64,
    /// What of the operations may come at once after a quiet time: as many as in this time, [`LEAST_BURST`] to
    /// [`LONGEST_BURST`].
    pub operations_burst: Duration,
    /// The same of the bytes.
    pub bytes_burst: Duration,
}

impl Default for Rate {
    fn default() -> Rate {
        Rate { operations: 0, bytes: 0, operations_burst: USUAL_BURST, bytes_burst: USUAL_BURST }
    }
}

impl Rate {
    /// Whether nothing is limited.
    pub fn is_unlimited(&self) -> bool {
        self.operations == 0 && self.bytes == 0
    }
}

/// A limit that several sessions share, on whatever lanes they are. Changed at any time.
#[derive(Debug, Default)]
pub struct Limiter {
    on: AtomicBool,
    operations: Bucket,
    bytes: Bucket,
    /// Sessions that wait, and beside them those whose copies do.
    waiting: AtomicUsize,
    rate: Mutex<Rate>,
    /// Lanes in which somebody may wait.
    lanes: Mutex<Vec<Weak<Mailbox>>>,
}

impl Limiter {
    /// A limit of this rate.
    pub fn new(rate: Rate) -> Limiter {
        let limiter = Limiter::default();
        limiter.set(rate);
        limiter
    }

    /// What it lets pass.
    pub fn rate(&self) -> Rate {
        *self.rate.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on it lets this pass: also what waits already.
    pub fn set(&self, rate: Rate) {
        let mut held = self.rate.lock().unwrap_or_else(PoisonError::into_inner);
        if *held == rate && self.is_on() != rate.is_unlimited() {
            return;
        }
        *held = rate;
        self.operations.set(rate.operations, rate.operations_burst);
        self.bytes.set(rate.bytes, rate.bytes_burst);
        self.on.store(!rate.is_unlimited(), Ordering::Release);
        drop(held);
        for lane in self.lanes.lock().unwrap_or_else(PoisonError::into_inner).iter().filter_map(Weak::upgrade) {
            lane.post(Letter::Paced);
        }
    }

    /// Whether anything is limited.
    #[inline]
    pub fn is_on(&self) -> bool {
        self.on.load(Ordering::Acquire)
    }

    /// How many sessions wait for it; one that waits with commands and with steps of copies counts twice.
    pub fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    /// From when on the next command of somebody may pass whose turn is not before `turn`.
    pub(crate) fn ready(&self, turn: u64) -> u64 {
        self.operations.ready(turn).max(self.bytes.ready(turn))
    }

    /// A command of so many bytes passes now. Returns when it is the turn of who sent it again: so much later as
    /// leaves the others that wait their share.
    pub(crate) fn charge(&self, now: u64, bytes: u64, turn: u64) -> u64 {
        let cost = self.operations.charge(now, 1).max(self.bytes.charge(now, bytes));
        let sharing = self.waiting().max(1) as u64;
        // Who comes late has not lost his turn.
        turn.max(now.saturating_sub(LEAST_BURST.as_nanos() as u64)).saturating_add(cost.saturating_mul(sharing))
    }

    /// This lane hears of changes from now on.
    pub(crate) fn tell(&self, lane: &Arc<Mailbox>) {
        let mut lanes = self.lanes.lock().unwrap_or_else(PoisonError::into_inner);
        if !lanes.iter().any(|other| other.as_ptr() == Arc::as_ptr(lane)) {
            lanes.retain(|other| other.strong_count() > 0);
            lanes.push(Arc::downgrade(lane));
        }
    }

    /// A session begins to wait.
    pub(crate) fn wait(&self) {
        self.waiting.fetch_add(1, Ordering::Relaxed);
    }

    /// A session does not wait any more.
    pub(crate) fn leave(&self) {
        let _ = self.waiting.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |waiting| waiting.checked_sub(1));
    }
}

/// A token bucket. Times are nanoseconds on one clock for all that share it.
#[derive(Debug, Default)]
struct Bucket {
    /// A second; 0 without limit.
    rate: AtomicU64,
    /// Nanoseconds.
    burst: AtomicU64,
    /// Until when what has passed is paid for. As long before now as the bucket is full.
    paid: AtomicU64,
}

impl Bucket {
    fn set(&self, rate: u64, burst: Duration) {
        let burst = burst.clamp(LEAST_BURST, LONGEST_BURST);
        self.burst.store(burst.as_nanos() as u64, Ordering::Relaxed);
        // What was passed at another rate is forgiven: nobody waits for a debt that a slow limit has left.
        if self.rate.swap(rate, Ordering::Relaxed) != rate {
            self.paid.store(0, Ordering::Relaxed);
        }
    }

    /// Whoever waits for his turn passes before it, where so much is left over that nobody else uses it.
    fn ready(&self, turn: u64) -> u64 {
        if self.rate.load(Ordering::Relaxed) == 0 {
            return 0;
        }
        let paid = self.paid.load(Ordering::Relaxed);
        paid.max(turn.min(paid.saturating_add(self.burst.load(Ordering::Relaxed) / 2)))
    }

    /// Takes so much out; may go below zero. Returns what it costs in time.
    fn charge(&self, now: u64, amount: u64) -> u64 {
        let rate = self.rate.load(Ordering::Relaxed);
        if rate == 0 {
            return 0;
        }
        let cost = u128::from(amount) * u128::from(SECOND);
        let cost = u64::try_from((cost + u128::from(rate / 2)) / u128::from(rate)).unwrap_or(u64::MAX);
        let full = now.saturating_sub(self.burst.load(Ordering::Relaxed));
        let pay = |paid: u64| Some(paid.max(full).saturating_add(cost));
        let _ = self.paid.fetch_update(Ordering::Relaxed, Ordering::Relaxed, pay);
        cost
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn limiter(operations: u64, bytes: u64, burst: Duration) -> Limiter {
        Limiter::new(Rate { operations, bytes, operations_burst: burst, bytes_burst: burst })
    }

    /// When a command passes that is there at this time and whose sender waits for no turn.
    fn pass(limiter: &Limiter, now: u64, bytes: u64) -> u64 {
        let at = limiter.ready(0).max(now);
        limiter.charge(at, bytes, 0);
        at
    }

    proptest! {
        /// Whatever comes when: in no stretch of time passes more than the rate times its length, the burst, and one
        /// command that may go below zero.
        #[test]
        fn no_stretch_of_time_has_more_than_its_share(
            operations in 1..100_000u64,
            bytes in 1_000_000..10_000_000_000u64,
            burst in 20..2_000u64,
            commands in proptest::collection::vec((0..50_000_000u64, 0..1_000_000u64), 1..200),
        ) {
            let burst = Duration::from_millis(burst);
            let limiter = limiter(operations, bytes, burst);
            let (mut now, mut passed) = (SECOND * 100, Vec::new());
            for (pause, length) in commands {
                now = pass(&limiter, now + pause, length);
                passed.push((now, length));
            }
            for (at, (from, _)) in passed.iter().enumerate() {
                let (mut count, mut sum) = (0u64, 0u64);
                for (until, length) in &passed[at..] {
                    // The last one of a stretch may take the bucket below zero.
                    let time = (until - from) as f64 / 1e9 + burst.as_secs_f64();
                    // A nanosecond of each is lost to rounding.
                    let slack = 1.0 + (count + 1) as f64 * 1e-9 * operations as f64;
                    prop_assert!(count as f64 <= time * operations as f64 + slack, "{count} in {time} s");
                    prop_assert!(sum as f64 <= time * bytes as f64 * 1.001 + 1.0 + count as f64 * 1e-9 * bytes as f64);
                    (count, sum) = (count + 1, sum + length);
                }
            }
        }

        /// Under load the rate is reached, however late who waits looks, within what the burst makes good.
        #[test]
        fn under_load_the_rate_is_reached_though_timers_ring_late(
            operations in 10..50_000u64,
            late in 0..5_000_000u64,
        ) {
            let limiter = limiter(operations, 0, USUAL_BURST);
            let (start, mut now, mut passed) = (SECOND * 1000, SECOND * 1000, 0u64);
            while now < start + 10 * SECOND {
                while limiter.ready(0) <= now {
                    limiter.charge(now, 4096, 0);
                    passed += 1;
                }
                now = limiter.ready(0) + late;
            }
            let wanted = operations as f64 * 10.0;
            prop_assert!((passed as f64 - wanted).abs() <= wanted * 0.05 + 2.0, "{passed} of {wanted}");
        }
    }

    #[test]
    fn a_command_larger_than_the_burst_passes_and_is_paid_for_afterwards() {
        let limiter = limiter(0, 1 << 20, USUAL_BURST);
        let now = SECOND * 50;
        assert_eq!(pass(&limiter, now, 8 << 20), now);
        let next = pass(&limiter, now, 1);
        // What had gathered in the burst was a tenth of a second.
        assert!((7_800_000_000..=7_900_000_001).contains(&(next - now)), "{}", next - now);
    }

    #[test]
    fn a_change_is_in_force_at_once_and_forgives_what_is_owed() {
        let limiter = limiter(1, 0, USUAL_BURST);
        let now = SECOND * 50;
        (0..5).for_each(|_| {
            pass(&limiter, now, 0);
        });
        assert!(limiter.ready(0) > now + SECOND);
        limiter.set(Rate { operations: 1000, ..Rate::default() });
        assert!(limiter.ready(0) <= now);
        limiter.set(Rate::default());
        assert!(!limiter.is_on() && limiter.rate().is_unlimited());
        assert_eq!(limiter.ready(u64::MAX), 0, "no turn where there is no limit");
    }

    #[test]
    fn who_shares_waits_for_his_turn_unless_much_is_left_over() {
        let limiter = limiter(1000, 0, USUAL_BURST);
        limiter.waiting.store(4, Ordering::Relaxed);
        let now = SECOND * 50;
        // The bucket is nearly empty: a turn of four shares.
        while limiter.ready(0) + SECOND / 1000 <= now {
            limiter.charge(now, 0, 0);
        }
        let turn = limiter.charge(now, 0, now);
        assert_eq!(turn, now + 4_000_000);
        assert_eq!(limiter.ready(turn), turn);
        // Nobody took anything for a while: he need not wait for a turn far away.
        let far = now + 10 * SECOND;
        assert!(limiter.ready(far) < now + SECOND / 10);
    }
}
