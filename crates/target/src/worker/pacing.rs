//! The clock of all lanes, and the timer that runs a lane when its limits let something pass.

use std::cell::Cell;
use std::sync::LazyLock;
use std::time::{Duration, Instant};
use tokio::sync::Notify;

/// Between two rings of the timer: a time that stays in the past must not keep a worker busy.
const REST: Duration = Duration::from_micros(500);

/// The lanes of all workers share limits, and so they share a clock.
static BEGAN: LazyLock<Instant> = LazyLock::new(Instant::now);

/// Nanoseconds on the clock of all lanes ([`lun::Ticks`]); never zero, which means no time there.
pub fn ticks(at: Instant) -> u64 {
    u64::try_from(at.saturating_duration_since(*BEGAN).as_nanos()).unwrap_or(u64::MAX).saturating_add(1)
}

/// The timer of a worker.
#[derive(Default)]
pub struct Pacer {
    due: Cell<Option<u64>>,
    changed: Notify,
}

impl Pacer {
    /// The lane wants to be run at this time, or not at all.
    pub fn arm(&self, due: Option<u64>) {
        if self.due.get() != due {
            self.due.set(due);
            self.changed.notify_one();
        }
    }

    /// Runs the lane whenever it is time, for ever.
    pub async fn run(&self, run: impl Fn()) {
        let mut not_before = *BEGAN;
        loop {
            let Some(due) = self.due.get() else {
                self.changed.notified().await;
                continue;
            };
            let at = BEGAN.checked_add(Duration::from_nanos(due)).unwrap_or(not_before).max(not_before);
            tokio::select! {
                () = tokio::time::sleep_until(at.into()) => {
                    not_before = Instant::now() + REST;
                    // Whatever is due afterwards is said anew.
                    self.due.set(None);
                    run();
                }
                () = self.changed.notified() => {}
            }
        }
    }
}
