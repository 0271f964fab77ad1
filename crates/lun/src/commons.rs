//! What the lanes share of one unit: who is there, mode pages, reservations, fences.
//!
//! The data path reads two atomics of it, the flags and the reservations' epoch. All else is behind
//! one lock, taken by commands that change how the unit behaves.

use crate::clock::DeviceClock;
use crate::copy::Tokens;
use crate::disturbance::Disturbances;
use crate::ledger::Ledger;
use crate::limit::Limiter;
use crate::mail::{Extent, Fence, Letter, Mailbox, Place, Ticket};
use crate::naming::Naming;
use crate::occupation::{self, Occupation};
use crate::reservation::{Guarded, Nexus};
use crate::{LogicalUnit, StateError, StateKind, StateStore};
use scsi::mode;
use std::collections::{HashSet, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

/// Nexuses of which a unit remembers that they know of its power on; beyond, it forgets them all,
/// and they are told of a power on instead of a nexus loss.
const MAXIMUM_GREETED: usize = 4096;

/// States of the unit that a command looks at without a lock.
pub(crate) mod flag {
    /// D_SENSE: sense data in descriptor format.
    pub const DESCRIPTOR_SENSE: u32 = 1;
    /// SWP: write protected by software.
    pub const WRITE_PROTECT: u32 = 2;
    /// WCE is 0: every write is durable.
    pub const WRITE_THROUGH: u32 = 4;
    /// TAS: tasks that another nexus ended answer TASK ABORTED.
    pub const TASK_ABORTED_STATUS: u32 = 8;
    /// Stopped by START STOP UNIT.
    pub const STOPPED: u32 = 16;
    /// The medium is out.
    pub const EJECTED: u32 = 32;
    /// Busy with itself, or left in disorder ([`crate::occupation`]).
    pub const OCCUPIED: u32 = 64;
    /// A threshold of thin provisioning is watched.
    pub const THRESHOLD: u32 = 128;
    /// There is no medium behind the drive.
    pub const EMPTY: u32 = 256;
    /// Another medium waits until the drive is unlocked, and initiators were told of it.
    pub const AWAITED: u32 = 512;
    /// Taken offline by whoever administers the target.
    pub const OFFLINE: u32 = 1024;
    /// Made read-only by whoever administers the target.
    pub const READ_ONLY: u32 = 2048;
    /// The target has it no more.
    pub const RETIRED: u32 = 4096;
    /// In the idle_a power condition, by START STOP UNIT.
    pub const IDLE: u32 = 1 << 16;
    /// In the standby_z power condition, by START STOP UNIT.
    pub const STANDBY: u32 = 1 << 17;
    /// Any power condition that a command that needs the medium ends.
    pub const LOW_POWER: u32 = IDLE | STANDBY;
    /// What was stored of the reservations is damaged.
    pub const RESERVATIONS_LOST: u32 = 1 << 18;
    /// Those that follow from mode pages.
    pub const OF_MODE_PAGES: u32 = DESCRIPTOR_SENSE | WRITE_PROTECT | WRITE_THROUGH | TASK_ABORTED_STATUS | THRESHOLD;
}

/// The part of a unit that all lanes share.
pub(crate) struct Commons {
    roster: Mutex<Roster>,
    values: Mutex<mode::Values>,
    flags: AtomicU32,
    next_fence: AtomicU64,
    disturbances: Disturbances,
    pub reservations: Guarded,
    pub occupation: Occupation,
    pub tokens: Tokens,
    pub naming: Naming,
    pub clock: DeviceClock,
    pub ledger: Ledger,
    pub limiter: Limiter,
    /// The threshold of thin provisioning was reached when last looked at.
    threshold_reached: AtomicBool,
    state: Option<Arc<dyn StateStore>>,
    _held: Option<Held>,
}

#[derive(Default)]
struct Roster {
    lanes: Vec<Weak<Mailbox>>,
    /// Who has a session now; one more than once while a session takes the place of another.
    nexuses: Vec<Nexus>,
    /// Who knows that the unit was powered on.
    greeted: HashSet<Nexus>,
    /// Who prevents the removal of the medium.
    preventing: Vec<(Place, Nexus)>,
    raised: Vec<Fence>,
    queued: VecDeque<(Fence, Ticket)>,
}

/// The unit's state, kept from other processes as long as this lives.
struct Held {
    state: Arc<dyn StateStore>,
    unit: [u8; 16],
}

impl Held {
    fn take(state: Arc<dyn StateStore>, unit: [u8; 16]) -> Result<Held, StateError> {
        state.hold(unit)?;
        Ok(Held { state, unit })
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.state.release(self.unit);
    }
}

impl Commons {
    pub fn open(unit: [u8; 16], facts: mode::Facts, state: Option<Arc<dyn StateStore>>) -> Result<Commons, StateError> {
        let held = state.clone().map(|state| Held::take(state, unit)).transpose()?;
        let saved = match &state {
            Some(state) => state.load(unit, StateKind::ModePages)?,
            None => None,
        };
        let occupation = Occupation::open(unit, state.clone())?;
        let occupied = occupation.state() != occupation::State::Free;
        let reservations = Guarded::open(unit, state.clone())?;
        let values = saved.map_or_else(|| mode::Values::new(facts), |saved| mode::Values::restore(facts, &saved));
        Ok(Commons {
            roster: Mutex::default(),
            flags: AtomicU32::new(
                flags_of(&values)
                    | if occupied { flag::OCCUPIED } else { 0 }
                    | if reservations.is_lost() { flag::RESERVATIONS_LOST } else { 0 },
            ),
            values: Mutex::new(values),
            next_fence: AtomicU64::new(1),
            disturbances: Disturbances::default(),
            reservations,
            occupation,
            tokens: Tokens::default(),
            naming: Naming::open(unit, state.clone())?,
            clock: DeviceClock::default(),
            ledger: Ledger::default(),
            limiter: Limiter::default(),
            threshold_reached: AtomicBool::new(false),
            state,
            _held: held,
        })
    }

    /// As [`Commons::open`] without a state store, where nothing can fail.
    pub fn volatile(unit: [u8; 16], facts: mode::Facts) -> Commons {
        let values = mode::Values::new(facts);
        Commons {
            roster: Mutex::default(),
            flags: AtomicU32::new(flags_of(&values)),
            values: Mutex::new(values),
            next_fence: AtomicU64::new(1),
            disturbances: Disturbances::default(),
            reservations: Guarded::volatile(unit),
            occupation: Occupation::volatile(unit),
            tokens: Tokens::default(),
            naming: Naming::volatile(),
            clock: DeviceClock::default(),
            ledger: Ledger::default(),
            limiter: Limiter::default(),
            threshold_reached: AtomicBool::new(false),
            state: None,
            _held: None,
        }
    }

    /// The flags of [`flag`].
    pub fn flags(&self) -> u32 {
        self.flags.load(Ordering::Acquire)
    }

    /// Sets and clears flags.
    pub fn set_flags(&self, set: u32, clear: u32) {
        // One step: nobody sees a state between the old one and the new one.
        let _ = self.flags.fetch_update(Ordering::AcqRel, Ordering::Acquire, |flags| Some(flags & !clear | set));
    }

    /// Remembers whether the threshold is reached; returns what was remembered.
    pub fn threshold_reached(&self, reached: bool) -> bool {
        self.threshold_reached.swap(reached, Ordering::AcqRel)
    }

    /// Whether thresholds of thin provisioning can be set.
    pub fn watches_thresholds(&self) -> bool {
        self.lock_values().facts().thresholds
    }

    /// The mode pages as they are.
    pub fn values(&self) -> mode::Values {
        self.lock_values().clone()
    }

    /// Whether mode pages can be saved.
    pub fn saving(&self) -> mode::Saving {
        if self.state.is_some() { mode::Saving::Supported } else { mode::Saving::Unsupported }
    }

    /// Where mode pages are saved.
    pub fn store(&self) -> Option<Arc<dyn StateStore>> {
        self.state.clone()
    }

    /// MODE SELECT: these are the pages now. Tells whether anything that others see has changed.
    pub fn apply(&self, next: mode::Values) -> bool {
        let mut values = self.lock_values();
        let changed = *values != next;
        *values = next;
        self.set_flags(flags_of(&values), flag::OF_MODE_PAGES & !flags_of(&values));
        changed
    }

    /// The number of the newest disturbance.
    pub fn generation(&self) -> u64 {
        self.disturbances.newest()
    }

    /// Tasks are going to end: those of these nexuses, or all.
    pub fn disturb(&self, whose: Option<Arc<[Nexus]>>) {
        self.disturbances.add(whose);
    }

    /// Whether tasks of this nexus were ended since that generation. A copy that had begun before, and has just
    /// no task here, ends when it sees that.
    pub fn was_disturbed(&self, since: u64, nexus: &Nexus) -> bool {
        self.disturbances.concern(since, nexus)
    }

    /// LOGICAL UNIT RESET: saved or default mode pages, no exclusive reservation, no prevention.
    pub fn reset(&self) {
        let mut values = self.lock_values();
        values.reset();
        self.set_flags(flags_of(&values), (flag::OF_MODE_PAGES | flag::STOPPED | flag::LOW_POWER) & !flags_of(&values));
        drop(values);
        self.reservations.reset();
        self.allow_removal();
    }

    /// Whether the threshold was reached when last looked at.
    pub fn is_threshold_reached(&self) -> bool {
        self.threshold_reached.load(Ordering::Acquire)
    }

    /// Who knows that the unit was powered on.
    pub fn greeted(&self) -> Vec<Nexus> {
        self.lock().greeted.iter().cloned().collect()
    }

    /// These know it too.
    pub fn greet(&self, nexuses: impl Iterator<Item = Nexus>) {
        self.lock().greeted.extend(nexuses.take(MAXIMUM_GREETED));
    }

    /// The mode pages of a unit that goes on.
    pub fn revive_values(&self, current: &[u8], saved: Option<&[u8]>) {
        let facts = self.lock_values().facts();
        self.apply(mode::Values::revive(facts, current, saved));
    }

    /// Whether this nexus prevents the removal of the medium.
    pub fn is_prevented_by(&self, place: Place) -> bool {
        self.lock().preventing.iter().any(|(other, _)| *other == place)
    }

    /// A lane is going to serve the unit. Returns the fences that stand.
    pub fn attach(&self, lane: &Arc<Mailbox>) -> Vec<Fence> {
        let mut roster = self.lock();
        roster.lanes.retain(|other| other.strong_count() > 0);
        if !roster.lanes.iter().any(|other| other.as_ptr().addr() == lane.address()) {
            roster.lanes.push(Arc::downgrade(lane));
        }
        roster.raised.clone()
    }

    /// A lane serves the unit no more.
    pub fn detach(&self, lane: usize) {
        self.lock().lanes.retain(|other| other.strong_count() > 0 && other.as_ptr().addr() != lane);
    }

    /// A session of this nexus begins. True where the nexus has not yet been told of the power on.
    pub fn nexus_opened(&self, nexus: &Nexus) -> bool {
        let mut roster = self.lock();
        roster.nexuses.push(nexus.clone());
        if roster.greeted.len() >= MAXIMUM_GREETED {
            roster.greeted.clear();
        }
        roster.greeted.insert(nexus.clone())
    }

    /// A session of this nexus has ended, and its tasks with it (SAM-5 6.3.4).
    pub fn nexus_closed(&self, nexus: &Nexus, place: Place) {
        let mut roster = self.lock();
        if let Some(at) = roster.nexuses.iter().position(|other| other == nexus) {
            roster.nexuses.swap_remove(at);
        }
        let lost = !roster.nexuses.contains(nexus);
        roster.preventing.retain(|(other, _)| *other != place);
        if roster.preventing.is_empty() {
            self.set_flags(0, flag::AWAITED);
        }
        drop(roster);
        if lost {
            self.reservations.nexus_lost(nexus);
        }
    }

    /// A nexus that saw the unit under several numbers sees it under one less.
    pub fn nexus_thinned(&self, nexus: &Nexus) {
        let mut roster = self.lock();
        if let Some(at) = roster.nexuses.iter().position(|other| other == nexus) {
            roster.nexuses.swap_remove(at);
        }
    }

    /// The initiator ports with a session.
    pub fn initiators(&self) -> Vec<Arc<[u8]>> {
        self.lock().nexuses.iter().map(|nexus| Arc::clone(&nexus.initiator)).collect()
    }

    /// Who prevents the removal of the medium.
    pub fn preventing(&self) -> Vec<Nexus> {
        self.lock().preventing.iter().map(|(_, nexus)| nexus.clone()).collect()
    }

    /// Whoever prevents the removal of the medium does so no more.
    pub fn allow_removal(&self) {
        self.lock().preventing.clear();
        self.set_flags(0, flag::AWAITED);
    }

    /// PREVENT ALLOW MEDIUM REMOVAL of this nexus.
    pub fn prevent(&self, place: Place, nexus: &Nexus, prevent: bool) {
        let mut roster = self.lock();
        roster.preventing.retain(|(other, _)| *other != place);
        if prevent {
            roster.preventing.push((place, nexus.clone()));
        } else if roster.preventing.is_empty() {
            // Whoever prevents it next is asked anew.
            self.set_flags(0, flag::AWAITED);
        }
    }

    /// Whether anybody prevents the removal of the medium.
    pub fn is_prevented(&self) -> bool {
        !self.lock().preventing.is_empty()
    }

    /// Does this where nobody prevents the removal of the medium, and keeps everybody from beginning to
    /// until it is done. Tells whether it was.
    pub fn unless_prevented(&self, exchange: impl FnOnce()) -> bool {
        let roster = self.lock();
        let free = roster.preventing.is_empty();
        if free {
            exchange();
        }
        free
    }

    /// Posts a letter to every lane that serves the unit, the caller's among them.
    pub fn broadcast(&self, letter: impl Fn() -> Letter) {
        for lane in self.lock().lanes.iter().filter_map(Weak::upgrade) {
            lane.post(letter());
        }
    }

    /// Posts a letter to one lane that serves the unit. False where none does: nobody uses it.
    pub fn post_to_one(&self, letter: impl FnOnce() -> Letter) -> bool {
        let lane = self.lock().lanes.iter().find_map(Weak::upgrade);
        lane.map(|lane| lane.post(letter())).is_some()
    }

    /// A number for a fence.
    pub fn fence_number(&self) -> u64 {
        self.next_fence.fetch_add(1, Ordering::Relaxed)
    }

    /// Asks for a fence. `turn` is dropped when it is this fence's turn; the owner then tells all
    /// lanes ([`Letter::Raise`]). Those that overlap have their turns in the order of asking.
    pub fn queue_fence(&self, fence: Fence, turn: Ticket) {
        let mut roster = self.lock();
        roster.queued.push_back((fence, turn));
        roster.give_turns();
    }

    /// Gives a fence back, or the wish for one.
    pub fn lift_fence(&self, unit: &Arc<LogicalUnit>, number: u64) {
        let mut roster = self.lock();
        roster.queued.retain(|(fence, _)| fence.number != number);
        let raised = roster.raised.len();
        roster.raised.retain(|fence| fence.number != number);
        if roster.raised.len() < raised {
            for lane in roster.lanes.iter().filter_map(Weak::upgrade) {
                lane.post(Letter::Lift { unit: Arc::clone(unit), number });
            }
        }
        roster.give_turns();
    }

    fn lock(&self) -> MutexGuard<'_, Roster> {
        self.roster.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock_values(&self) -> MutexGuard<'_, mode::Values> {
        self.values.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Roster {
    fn give_turns(&mut self) {
        let mut at = 0;
        while let Some((fence, _)) = self.queued.get(at) {
            let extent: Extent = fence.extent;
            let older = self.queued.iter().take(at).map(|(fence, _)| fence);
            if self.raised.iter().chain(older).any(|other| other.extent.overlaps(extent)) {
                at += 1;
            } else if let Some((fence, turn)) = self.queued.remove(at) {
                self.raised.push(fence);
                drop(turn);
            }
        }
    }
}

fn flags_of(values: &mode::Values) -> u32 {
    let when = |condition: bool, flag| if condition { flag } else { 0 };
    when(values.descriptor_sense(), flag::DESCRIPTOR_SENSE)
        | when(values.software_write_protected(), flag::WRITE_PROTECT)
        | when(!values.write_cache_enabled(), flag::WRITE_THROUGH)
        | when(values.task_aborted_status(), flag::TASK_ABORTED_STATUS)
        | when(values.provisioning_threshold().is_some(), flag::THRESHOLD)
}
