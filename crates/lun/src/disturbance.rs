//! What has ended tasks of a unit of late, for a copy that has just no task there: resets, CLEAR TASK SET,
//! operations of the unit's own, PREEMPT AND ABORT.

use crate::reservation::Nexus;
use std::collections::VecDeque;
use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicU64, Ordering},
};

/// So many are remembered one by one; older ones are taken to concern everybody.
const REMEMBERED: usize = 16;

/// Whose tasks; nobody named is everybody.
type Concerned = Option<Arc<[Nexus]>>;

#[derive(Default)]
pub(crate) struct Disturbances {
    newest: AtomicU64,
    last: Mutex<VecDeque<(u64, Concerned)>>,
}

impl Disturbances {
    pub fn newest(&self) -> u64 {
        self.newest.load(Ordering::Acquire)
    }

    pub fn add(&self, whose: Concerned) {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let number = self.newest() + 1;
        last.push_back((number, whose));
        if last.len() > REMEMBERED {
            last.pop_front();
        }
        self.newest.store(number, Ordering::Release);
    }

    /// Whether one after `since` concerns this nexus. One atomic load where there was none.
    pub fn concern(&self, since: u64, nexus: &Nexus) -> bool {
        if self.newest() == since {
            return false;
        }
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let forgotten = last.front().is_none_or(|(number, _)| *number > since + 1);
        forgotten
            || last
                .iter()
                .filter(|(number, _)| *number > since)
                .any(|(_, whose)| whose.as_ref().is_none_or(|whose| whose.contains(nexus)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_came_after_and_is_meant_counts_and_what_is_forgotten_was_meant() {
        let nexus = |name: u8| Nexus { initiator: Arc::from([name]), relative_port: 1 };
        let disturbances = Disturbances::default();
        assert!(!disturbances.concern(0, &nexus(1)));
        disturbances.add(Some(Arc::from([nexus(2)])));
        assert!(!disturbances.concern(0, &nexus(1)) && disturbances.concern(0, &nexus(2)));
        let since = disturbances.newest();
        assert!(!disturbances.concern(since, &nexus(2)));
        disturbances.add(None);
        assert!(disturbances.concern(since, &nexus(1)));
        let since = disturbances.newest();
        for _ in 0..REMEMBERED {
            disturbances.add(Some(Arc::from([nexus(2)])));
        }
        assert!(!disturbances.concern(since, &nexus(1)));
        disturbances.add(Some(Arc::from([nexus(2)])));
        assert!(disturbances.concern(since, &nexus(1)), "the one after it is not known any more");
    }
}
