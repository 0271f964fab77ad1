//! One path of a group: where it leads, how it is, and what its sessions owe.

use crate::{Error, Lun, Options, Session, Unit};
use scsi::port_groups::AccessState;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;
use tokio::sync::Notify;

/// The access state of a path of which nothing is known: as good as any, until it is asked.
const UNKNOWN: u8 = AccessState::ActiveOptimized as u8;
/// In transition (SPC-5 5.16.2), or refused by its state and not asked since: nothing goes by it.
const IN_TRANSITION: u8 = 0x0f;

/// A path.
pub(super) struct Path {
    pub number: usize,
    /// With the ISID that all of its sessions have, so that a new one ends what is left of the old one.
    pub options: Options,
    pub lun: Lun,
    state: Mutex<State>,
    /// ASYMMETRIC ACCESS STATE of its port.
    access: AtomicU8,
    /// Requests on it.
    in_flight: AtomicUsize,
    /// Rings for its keeper.
    pub bell: Notify,
}

struct State {
    /// The session, while it works.
    session: Option<Session>,
    /// Sessions so far.
    generation: u64,
    /// The last session that had writes under way when it was lost.
    disturbed: u64,
    /// The last session of which the target is known to have nothing left.
    ended: u64,
    since: Instant,
    /// It has been lost before: it is used again only after a while.
    was_lost: bool,
    tried: bool,
    why: Option<String>,
    port_group: Option<u16>,
    portal_group: Option<u16>,
}

/// How a path is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum PathState {
    /// Not connected, or it leads elsewhere.
    Down,
    /// Connected, but its port serves nothing at the moment.
    Standby,
    /// Connected, and another is better.
    NonOptimized,
    /// Connected.
    Optimized,
}

/// A path as people see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathStatus {
    /// The portal.
    pub portal: String,
    /// How it is.
    pub state: PathState,
    /// Why it is down.
    pub why: Option<String>,
    /// Requests on it.
    pub in_flight: usize,
    /// The target port group of its port, where the unit tells.
    pub port_group: Option<u16>,
}

/// A path that can be used, with a place among its requests.
pub(super) struct Ready {
    pub path: Arc<Path>,
    pub unit: Unit,
    /// Which of the path's sessions it is.
    pub generation: u64,
}

impl Drop for Ready {
    fn drop(&mut self) {
        self.path.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Path {
    pub(super) fn new(number: usize, options: Options, lun: Lun) -> Result<Arc<Path>, Error> {
        let isid = match options.isid {
            Some(isid) => isid,
            None => crate::login::random_isid()?,
        };
        let options = Options { isid: Some(isid), replacement_timeout: std::time::Duration::ZERO, ..options };
        options.check()?;
        Ok(Arc::new(Path {
            number,
            options,
            lun,
            state: Mutex::new(State {
                session: None,
                generation: 0,
                disturbed: 0,
                ended: 0,
                since: Instant::now(),
                was_lost: false,
                tried: false,
                why: None,
                port_group: None,
                portal_group: None,
            }),
            access: AtomicU8::new(UNKNOWN),
            in_flight: AtomicUsize::new(0),
            bell: Notify::new(),
        }))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A new session leads to the disk.
    pub(super) fn restore(&self, session: Session, port_group: Option<u16>, portal_group: Option<u16>) {
        let mut state = self.state();
        state.generation += 1;
        state.session = Some(session);
        state.since = Instant::now();
        state.tried = true;
        state.why = None;
        (state.port_group, state.portal_group) = (port_group, portal_group);
    }

    /// The target has nothing left of the sessions up to this one.
    pub(super) fn end_of(&self, generation: u64) {
        let mut state = self.state();
        state.ended = state.ended.max(generation);
    }

    /// The target has nothing left of any session so far: a login with their ISID has succeeded.
    pub(super) fn end_of_all(&self) {
        let mut state = self.state();
        state.ended = state.generation;
    }

    /// It could not be connected, or leads elsewhere. True where that is news.
    pub(super) fn fail(&self, why: &str) -> bool {
        let mut state = self.state();
        state.tried = true;
        state.session = None;
        state.since = Instant::now();
        state.was_lost = true;
        state.why.replace(why.to_owned()).as_deref() != Some(why)
    }

    /// The session of this use is lost; with `writes`, it had one under way of which nobody knows whether it was
    /// executed.
    pub(super) fn lose(&self, ready: &Ready, why: &str, writes: bool) {
        let mut state = self.state();
        if writes && ready.generation > state.ended {
            state.disturbed = state.disturbed.max(ready.generation);
        }
        if ready.generation == state.generation && state.session.take().is_some() {
            state.since = Instant::now();
            state.was_lost = true;
            state.why = Some(why.to_owned());
            tracing::warn!(portal = %self.options.portal, "a path to the disk is lost: {why}");
        }
        drop(state);
        self.bell.notify_one();
    }

    /// The session of this number is lost, as its keeper sees it.
    pub(super) fn lose_session(&self, generation: u64, why: &str) -> Option<Session> {
        let mut state = self.state();
        if generation != state.generation {
            return None;
        }
        let session = state.session.take()?;
        // What is under way tells itself whether it was a write.
        state.since = Instant::now();
        state.was_lost = true;
        state.why = Some(why.to_owned());
        Some(session)
    }

    /// Whether a session that is gone had writes under way, of which the target may still have some.
    pub(super) fn owes_fence(&self) -> bool {
        let state = self.state();
        state.disturbed > state.ended
    }

    /// The last session that is owed an end.
    pub(super) fn disturbed(&self) -> u64 {
        self.state().disturbed
    }

    /// The session, while it works, and its number.
    pub(super) fn session(&self) -> Option<(Session, u64)> {
        let state = self.state();
        state.session.clone().map(|session| (session, state.generation))
    }

    /// Whether a session of it has led to the disk.
    pub(super) fn has_led_there(&self) -> bool {
        self.state().generation > 0
    }

    /// Whether its first attempt is over.
    pub(super) fn was_tried(&self) -> bool {
        self.state().tried
    }

    /// A place on the path, where it is connected.
    pub(super) fn take(self: &Arc<Path>) -> Option<Ready> {
        let state = self.state();
        let unit = state.session.as_ref()?.unit(self.lun);
        let generation = state.generation;
        drop(state);
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        Some(Ready { path: Arc::clone(self), unit, generation })
    }

    /// Whether it is connected, since when, and whether it had been lost before that.
    pub(super) fn connected(&self) -> Option<(Instant, bool)> {
        let state = self.state();
        state.session.as_ref().map(|_| (state.since, state.was_lost))
    }

    pub(super) fn portal_group(&self) -> Option<u16> {
        self.state().portal_group
    }

    pub(super) fn port_group(&self) -> Option<u16> {
        self.state().port_group
    }

    pub(super) fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// How good its port is: 0 the best; `None` serves nothing.
    pub(super) fn rank(&self) -> Option<u8> {
        match AccessState::from_code(self.access.load(Ordering::Relaxed))? {
            AccessState::ActiveOptimized => Some(0),
            AccessState::ActiveNonOptimized => Some(1),
            AccessState::Standby | AccessState::Unavailable => None,
        }
    }

    /// What its port's group is said to be in now. True where that is news.
    pub(super) fn set_access(&self, code: u8) -> bool {
        self.access.swap(code, Ordering::Relaxed) != code
    }

    /// A command was refused because of the state of the port: nothing more goes by it until it was asked.
    pub(super) fn refused_by_state(&self, error: &Error) {
        self.set_access(IN_TRANSITION);
        tracing::debug!(portal = %self.options.portal, "{error}");
        self.bell.notify_one();
    }

    pub(super) fn status(&self) -> PathStatus {
        let rank = self.rank();
        let state = self.state();
        let how = match (&state.session, rank) {
            (None, _) => PathState::Down,
            (_, None) => PathState::Standby,
            (_, Some(0)) => PathState::Optimized,
            _ => PathState::NonOptimized,
        };
        PathStatus {
            portal: self.options.portal.to_string(),
            state: how,
            why: state.why.clone(),
            in_flight: self.in_flight(),
            port_group: state.port_group,
        }
    }
}
