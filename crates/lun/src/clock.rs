//! A unit's device clock (SPC-5 5.3): what REPORT TIMESTAMP tells and SET TIMESTAMP sets.
//!
//! It starts with the machine's own time, which is a method outside of the standard; once an initiator has
//! set it, it runs on from there until the process ends. Resets do not touch it.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Tells the time since 1970-01-01, UTC. An argument of every lane, as nothing here asks a clock by itself.
pub type Clock = Arc<dyn Fn() -> Duration + Send + Sync>;

/// Tells nanoseconds that never go back, the same to all lanes: for how long things take and when they may go on.
/// Asked once for a batch, not for a command.
pub type Ticks = Arc<dyn Fn() -> u64 + Send + Sync>;

/// TIMESTAMP ORIGIN (SPC-5 table of 5.3), and the timestamp in milliseconds since 1970-01-01, UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Timestamp {
    pub origin: u8,
    pub milliseconds: u64,
}

/// TIMESTAMP ORIGIN 010b: SET TIMESTAMP.
const SET: u8 = 0b010;
/// TIMESTAMP ORIGIN 011b: other methods.
const OTHER: u8 = 0b011;
/// A timestamp has 48 bits.
const MASK: u64 = (1 << 48) - 1;

/// The clock of one unit, shared by all lanes.
#[derive(Default)]
pub(crate) struct DeviceClock {
    /// What was set, and the time of the machine at that moment.
    set: Mutex<Option<(u64, Duration)>>,
}

impl DeviceClock {
    /// The timestamp as of this time of the machine.
    pub fn at(&self, now: Duration) -> Timestamp {
        match *self.set.lock().unwrap_or_else(PoisonError::into_inner) {
            None => Timestamp { origin: OTHER, milliseconds: milliseconds(now) & MASK },
            Some((set, then)) => {
                let passed = milliseconds(now.saturating_sub(then));
                Timestamp { origin: SET, milliseconds: set.wrapping_add(passed) & MASK }
            }
        }
    }

    /// SET TIMESTAMP at this time of the machine.
    pub fn set(&self, milliseconds: u64, now: Duration) {
        *self.set.lock().unwrap_or_else(PoisonError::into_inner) = Some((milliseconds & MASK, now));
    }

    /// What it was set to in milliseconds, and when.
    pub fn at_rest(&self) -> Option<(u64, Duration)> {
        *self.set.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// It goes on from there.
    pub fn revive(&self, set: Option<(u64, Duration)>) {
        *self.set.lock().unwrap_or_else(PoisonError::into_inner) = set;
    }
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_runs_on_from_what_was_set_and_tells_where_it_comes_from() {
        let clock = DeviceClock::default();
        let at = Duration::from_millis;
        assert_eq!(clock.at(at(1_700_000_000_123)), Timestamp { origin: 3, milliseconds: 1_700_000_000_123 });
        clock.set(5_000, at(1_700_000_000_000));
        assert_eq!(clock.at(at(1_700_000_000_250)), Timestamp { origin: 2, milliseconds: 5_250 });
        clock.set(MASK, at(10));
        assert_eq!(clock.at(at(11)).milliseconds, 0, "48 bits");
        assert_eq!(clock.at(at(9)).milliseconds, MASK, "the machine's clock went back");
    }
}
