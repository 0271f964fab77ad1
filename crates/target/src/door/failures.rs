//! Logins that failed: counted by their cause, remembered, and answered the later the more often an address
//! fails. All of it is bounded, and nobody else waits for it.

use super::places::origin;
use crate::limits::Limits;
use crate::refusal::Refusal;
use iscsi::counter::Counter;
use iscsi::login::Status;
use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

/// So many failures of an address are answered at once: somebody mends a configuration.
const FREE: u32 = 10;
/// The delay of the one after them; it doubles from there.
const FIRST_DELAY: Duration = Duration::from_millis(50);
/// In so much quiet half of an address's failures are forgotten.
const HALF_LIFE: Duration = Duration::from_secs(10);

/// Why a login failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// It broke the protocol, or a bound.
    Protocol,
    /// It could not show who it is.
    Authentication,
    /// It may not use what it asked for, or that is not there.
    Access,
    /// The session that it wanted to join is not there or takes no more.
    Session,
    /// There was no room, or no service.
    Resources,
    /// It was not finished in time.
    Time,
    /// The connection ended before the login did.
    Connection,
}

impl Cause {
    /// All of them.
    pub const ALL: [Cause; 7] = [
        Cause::Protocol,
        Cause::Authentication,
        Cause::Access,
        Cause::Session,
        Cause::Resources,
        Cause::Time,
        Cause::Connection,
    ];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Cause::Protocol => "protocol",
            Cause::Authentication => "authentication",
            Cause::Access => "access",
            Cause::Session => "session",
            Cause::Resources => "resources",
            Cause::Time => "time",
            Cause::Connection => "connection",
        }
    }

    /// The cause behind a status (RFC 7143 §11.13.5).
    pub(super) fn of(status: Status) -> Cause {
        match status {
            Status::AUTHENTICATION_FAILURE => Cause::Authentication,
            Status::AUTHORIZATION_FAILURE | Status::NOT_FOUND => Cause::Access,
            Status::TOO_MANY_CONNECTIONS | Status::CANNOT_INCLUDE | Status::SESSION_DOES_NOT_EXIST => Cause::Session,
            Status(3, _) => Cause::Resources,
            _ => Cause::Protocol,
        }
    }

    /// Whether it is the peer's doing, and so costs its address time.
    fn is_held_against(self) -> bool {
        matches!(self, Cause::Protocol | Cause::Authentication | Cause::Access | Cause::Session)
    }
}

/// A login that was refused, as it is remembered.
#[derive(Debug, Clone)]
pub struct Record {
    /// When.
    pub when: SystemTime,
    /// Why, in a word.
    pub cause: Cause,
    /// Whom, and why.
    pub refusal: Refusal,
}

#[derive(Default)]
struct Failing {
    count: u32,
    last: Option<Instant>,
    waiting: usize,
}

#[derive(Default)]
struct State {
    by_origin: HashMap<IpAddr, Failing>,
    recent: VecDeque<Record>,
    waiting: usize,
}

/// The failures at one door.
pub(crate) struct Failures {
    limits: Arc<Limits>,
    state: Mutex<State>,
    causes: [Counter; Cause::ALL.len()],
}

/// How a failed login is answered.
pub(crate) struct Sentence {
    /// After this time.
    pub delay: Duration,
    /// Which is spent in this place, where there is one.
    pub place: Option<Waiting>,
}

/// A place to wait in for the answer.
pub(crate) struct Waiting {
    failures: Arc<Failures>,
    origin: IpAddr,
}

impl Failures {
    pub fn new(limits: Arc<Limits>) -> Arc<Failures> {
        Arc::new(Failures { limits, state: Mutex::default(), causes: Default::default() })
    }

    /// Takes note of a refusal and says how it is to be answered.
    pub fn note(self: &Arc<Failures>, now: Instant, record: Record) -> Sentence {
        let struck = &self.limits.struck;
        self.causes[record.cause as usize].count();
        let origin = origin(record.refusal.peer.ip());
        let held_against = record.cause.is_held_against();
        let mut state = self.lock();
        if self.limits.refusals > 0 {
            if state.recent.len() >= self.limits.refusals {
                state.recent.pop_front();
                struck.refusals.count();
            }
            state.recent.push_back(record);
        }
        if !state.by_origin.contains_key(&origin) && state.by_origin.len() >= self.limits.failing_addresses {
            struck.failing_addresses.count();
            // Those who wait are counted here, and stay; they are bounded too.
            let quiet = state.by_origin.iter().filter(|(_, failing)| failing.waiting == 0);
            let quiet = quiet.min_by_key(|(_, failing)| failing.last).map(|(origin, _)| *origin);
            quiet.map(|quiet| state.by_origin.remove(&quiet));
        }
        let waiting = state.waiting;
        let failing = state.by_origin.entry(origin).or_default();
        failing.fade(now);
        if held_against {
            failing.count = failing.count.saturating_add(1);
            failing.last = Some(now);
        }
        let delay = failing.delay(self.limits.failure_delay);
        if !delay.is_zero() && delay == self.limits.failure_delay {
            struck.failure_delay.count();
        }
        if failing.waiting >= self.limits.delayed_by_address {
            struck.delayed_by_address.count();
            return Sentence { delay, place: None };
        }
        if waiting >= self.limits.delayed {
            struck.delayed.count();
            return Sentence { delay, place: None };
        }
        failing.waiting += 1;
        state.waiting += 1;
        Sentence { delay, place: Some(Waiting { failures: Arc::clone(self), origin }) }
    }

    /// The latest refusals, the newest first.
    pub fn recent(&self) -> Vec<Record> {
        self.lock().recent.iter().rev().cloned().collect()
    }

    /// How many wait for their answer.
    pub fn waiting(&self) -> usize {
        self.lock().waiting
    }

    /// How many failed for this cause.
    pub fn count(&self, cause: Cause) -> u64 {
        self.causes[cause as usize].get()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Failing {
    fn fade(&mut self, now: Instant) {
        let Some(last) = self.last else { return };
        let halves = now.saturating_duration_since(last).as_secs() / HALF_LIFE.as_secs();
        if halves > 0 {
            self.count = self.count.checked_shr(u32::try_from(halves).unwrap_or(u32::MAX)).unwrap_or(0);
            self.last = Some(now);
        }
    }

    fn delay(&self, longest: Duration) -> Duration {
        match self.count.checked_sub(FREE + 1) {
            None => Duration::ZERO,
            Some(doublings) => FIRST_DELAY.saturating_mul(1 << doublings.min(20)).min(longest),
        }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let mut state = self.failures.lock();
        state.waiting -= 1;
        if let Some(failing) = state.by_origin.get_mut(&self.origin) {
            failing.waiting -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(last: u8, cause: Cause) -> Record {
        let peer = ([192, 0, 2, last], 1000).into();
        let refusal = Refusal { peer, asked: None, status: None, why: "why".into(), access: None };
        Record { when: SystemTime::UNIX_EPOCH, cause, refusal }
    }

    fn delay(failures: &Arc<Failures>, now: Instant, last: u8, cause: Cause) -> u128 {
        failures.note(now, record(last, cause)).delay.as_millis()
    }

    #[test]
    fn an_address_that_fails_often_waits_longer_and_no_other_does() {
        let limits = Limits { failure_delay: Duration::from_millis(300), ..Limits::default() };
        let failures = Failures::new(Arc::new(limits));
        let now = Instant::now();
        let delays: Vec<_> = (0..15).map(|_| delay(&failures, now, 1, Cause::Authentication)).collect();
        assert_eq!(delays, [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 50, 100, 200, 300, 300]);
        assert_eq!(delay(&failures, now, 2, Cause::Authentication), 0, "another address");
        assert_eq!(delay(&failures, now + HALF_LIFE * 2, 1, Cause::Authentication), 0, "15 / 4 + 1 are free");
        assert_eq!(failures.count(Cause::Authentication), 17);
        for _ in 0..20 {
            assert_eq!(delay(&failures, now, 3, Cause::Time), 0, "a slow network is no guess at a secret");
        }
    }

    #[test]
    fn those_who_wait_and_what_is_remembered_are_bounded() {
        let limits =
            Limits { delayed: 3, delayed_by_address: 2, failing_addresses: 4, refusals: 5, ..Limits::default() };
        let limits = Arc::new(limits);
        let failures = Failures::new(Arc::clone(&limits));
        let now = Instant::now();
        let note = |last| failures.note(now, record(last, Cause::Protocol));
        let mut held = vec![note(1), note(1)];
        assert!(note(1).place.is_none(), "two of one address");
        held.push(note(2));
        assert!(note(3).place.is_none(), "three in all");
        assert_eq!(failures.waiting(), 3);
        held.clear();
        assert_eq!(failures.waiting(), 0);
        for last in 10..200 {
            note(last);
        }
        assert_eq!(failures.lock().by_origin.len(), 4);
        let recent = failures.recent();
        assert_eq!(recent.len(), 5);
        assert_eq!(recent[0].refusal.peer.ip(), IpAddr::from([192, 0, 2, 199]));
        let struck = &limits.struck;
        assert_eq!((struck.delayed.get(), struck.delayed_by_address.get()), (1, 1));
        assert!(struck.refusals.get() > 100 && struck.failing_addresses.get() > 100);
    }
}
