//! Commands that took long: how long is long, who wants to hear of them, how many there were.

use crate::door::printable;
use lun::statistics::Times;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};
use tokio::sync::broadcast;

/// Lines of the log in a second; where a disk hangs every command is slow.
const LINES: u32 = 10;
/// In what they are counted.
const SECOND: Duration = Duration::from_secs(1);
/// Slow commands that a listener may be behind before it loses the oldest.
const BEHIND: usize = 64;

/// What is slow. Clones of [`crate::Limits`] share it; it may change at any time.
#[derive(Debug)]
pub struct SlowCommands {
    /// Nanoseconds; the largest number where nothing is slow.
    threshold: AtomicU64,
    count: AtomicU64,
    lines: Mutex<Lines>,
    told: broadcast::Sender<SlowCommand>,
}

/// What was written in this second, and what was not shown since the last line.
#[derive(Debug, Default)]
struct Lines {
    since: Option<Instant>,
    written: u32,
    not_shown: u64,
}

/// A command that took long.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SlowCommand {
    /// When it ended.
    pub when: SystemTime,
    /// The target's name.
    pub target: String,
    /// The initiator's name.
    pub initiator: String,
    /// Where its session comes from; nothing where it has no connection any more.
    pub peer: Option<SocketAddr>,
    /// The session's number.
    pub tsih: u16,
    /// The LUN, as the initiator knows it.
    pub lun: u16,
    /// The command in words.
    pub command: String,
    /// How it ended, in words.
    pub end: String,
    /// From its coming to its end.
    pub took: Duration,
    /// For older tasks, a fence, memory or a limit.
    pub waited: Duration,
    /// For its data.
    pub network: Duration,
    /// With its store.
    pub store: Duration,
}

impl Default for SlowCommands {
    fn default() -> SlowCommands {
        let (told, _) = broadcast::channel(BEHIND);
        SlowCommands { threshold: AtomicU64::new(u64::MAX), count: AtomicU64::new(0), lines: Mutex::default(), told }
    }
}

impl SlowCommands {
    /// A command that takes longer than this is slow; none is where nothing is said.
    pub fn set(&self, threshold: Option<Duration>) {
        let nanoseconds = threshold.map_or(u64::MAX, |time| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX));
        self.threshold.store(nanoseconds, Ordering::Relaxed);
    }

    /// What is slow.
    pub fn threshold(&self) -> Option<Duration> {
        Some(self.threshold.load(Ordering::Relaxed)).filter(|time| *time != u64::MAX).map(Duration::from_nanos)
    }

    /// How many there were.
    pub fn count(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }

    fn may_write(&self, now: Instant) -> Option<u64> {
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        if lines.since.is_none_or(|since| now.saturating_duration_since(since) >= SECOND) {
            (lines.since, lines.written) = (Some(now), 0);
        }
        if lines.written >= LINES {
            lines.not_shown += 1;
            return None;
        }
        lines.written += 1;
        Some(std::mem::take(&mut lines.not_shown))
    }

    /// Those that there will be.
    pub fn subscribe(&self) -> broadcast::Receiver<SlowCommand> {
        self.told.subscribe()
    }

    /// Whether a command that took so long is slow.
    #[inline]
    pub(crate) fn is_slow(&self, times: &Times) -> bool {
        times.total > self.threshold.load(Ordering::Relaxed)
    }

    /// There was one. `write` writes a line about it, if it may, and hears how many before it had none.
    pub(crate) fn tell(&self, command: SlowCommand, write: impl FnOnce(&SlowCommand, Option<u64>)) {
        self.count.fetch_add(1, Ordering::Relaxed);
        if let Some(not_shown) = self.may_write(Instant::now()) {
            write(&command, (not_shown > 0).then_some(not_shown));
        }
        // Nobody has to listen.
        let _ = self.told.send(command);
    }
}

impl SlowCommand {
    /// The parts of its time.
    pub(crate) fn split(times: &Times) -> [Duration; 4] {
        let waited = times.total.saturating_sub(times.network).saturating_sub(times.store);
        [times.total, waited, times.network, times.store].map(Duration::from_nanos)
    }

    /// A line of a log: bounded, and nothing in it acts on a terminal.
    pub fn line(&self) -> String {
        let ms = |time: Duration| format!("{:.1}", time.as_secs_f64() * 1e3);
        format!(
            "slow command: {} of LUN {} of {} by {} took {} ms (waited {}, network {}, store {}): {}",
            self.command,
            self.lun,
            self.target,
            printable(&self.initiator),
            ms(self.took),
            ms(self.waited),
            ms(self.network),
            ms(self.store),
            self.end
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_that_hangs_does_not_fill_the_log() {
        let (slow, now) = (SlowCommands::default(), Instant::now());
        let shown = (0..100).filter(|_| slow.may_write(now).is_some()).count();
        assert_eq!(shown, LINES as usize);
        assert_eq!(slow.may_write(now + SECOND), Some(100 - u64::from(LINES)));
    }

    #[test]
    fn what_is_slow_is_longer_than_was_said_and_told_to_who_listens() {
        let slow = SlowCommands::default();
        let times = |total| Times { total, network: 3_000_000, store: 5_000_000 };
        assert!(!slow.is_slow(&times(u64::MAX)) && slow.threshold().is_none(), "nothing was said");
        slow.set(Some(Duration::from_millis(10)));
        assert_eq!([10_000_000, 10_000_001].map(|total| slow.is_slow(&times(total))), [false, true]);
        let mut listener = slow.subscribe();
        let [took, waited, network, store] = SlowCommand::split(&times(12_500_000));
        let command = SlowCommand {
            when: SystemTime::UNIX_EPOCH,
            target: "iqn.2026-11.com.example:disk".into(),
            initiator: "iqn.2026-01.org.example:\u{1b}a".into(),
            peer: None,
            tsih: 7,
            lun: 1,
            command: "READ(10) LBA 64, 8 blocks".into(),
            end: "GOOD".into(),
            took,
            waited,
            network,
            store,
        };
        slow.tell(command.clone(), |_, not_shown| assert_eq!(not_shown, None));
        assert_eq!((slow.count(), listener.try_recv().unwrap()), (1, command.clone()));
        assert_eq!(
            command.line(),
            "slow command: READ(10) LBA 64, 8 blocks of LUN 1 of iqn.2026-11.com.example:disk by \
             iqn.2026-01.org.example:\\u{1b}a took 12.5 ms (waited 4.5, network 3.0, store 5.0): GOOD"
        );
    }
}
