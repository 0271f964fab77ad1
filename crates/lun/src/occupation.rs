//! A unit that is busy with itself: SANITIZE and FORMAT UNIT, how far they are and how they ended (SBC-4
//! 4.11 and 5.4). The operation belongs to the unit and not to a command: it outlives the command, the
//! nexus and every reset, and what it left undone stays to be seen until it is mended.

use crate::LogicalUnit;
use crate::commons::flag;
use scsi::{Condition, SenseKey};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// What the unit does, or could not do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum State {
    /// It serves commands.
    #[default]
    Free,
    /// A sanitize operation is under way.
    Sanitizing,
    /// The last one did not end well. `restricted` where AUSE was 0: only another that is restricted too
    /// leads out.
    SanitizeFailed { restricted: bool },
    /// A format operation is under way.
    Formatting,
    /// The last one did not end well; the medium is of no use until one does.
    FormatCorrupted,
}

/// The unit's occupation, shared by all lanes. [`flag::OCCUPIED`] says whether to look at it at all.
#[derive(Default)]
pub(crate) struct Occupation {
    state: Mutex<State>,
    /// In parts of 65,536 (SPC-5 4.4.2.4.4).
    progress: AtomicU32,
}

impl Occupation {
    /// What the unit does.
    pub fn state(&self) -> State {
        *self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What a command hears of it, and REQUEST SENSE.
    pub fn condition(&self) -> Option<Condition> {
        let [_, _, high, low] = self.progress.load(Ordering::Relaxed).to_be_bytes();
        let under_way = |qualifier| {
            let condition = Condition::new(SenseKey::NotReady, 0x04, qualifier);
            Some(condition.with_specific([0x80, high, low]))
        };
        match self.state() {
            State::Free => None,
            State::Sanitizing => under_way(0x1b),
            State::Formatting => under_way(0x04),
            State::SanitizeFailed { .. } => Some(SANITIZE_FAILED),
            State::FormatCorrupted => Some(Condition::new(SenseKey::MediumError, 0x31, 0x00)),
        }
    }

    /// What keeps this command from running. While the unit works, everything does; after a sanitize
    /// operation that failed, everything but another; after such a format operation, what needs the medium.
    pub fn refusal(&self, opcode: u8, needs_medium: bool) -> Option<Condition> {
        let mends = match self.state() {
            State::SanitizeFailed { .. } => opcode == SANITIZE,
            State::FormatCorrupted => matches!(opcode, SANITIZE | FORMAT_UNIT) || !needs_medium,
            _ => false,
        };
        self.condition().filter(|_| !mends)
    }
}

/// A unit while it is occupied. Where this falls before it was told that all went well, nothing did: the
/// operation failed, or its lane is gone.
pub(crate) struct Occupied {
    unit: Arc<LogicalUnit>,
    ends_as: State,
}

impl Occupied {
    /// A sanitize operation begins. `restricted` where AUSE is 0.
    pub fn sanitizing(unit: &Arc<LogicalUnit>, restricted: bool) -> Result<Occupied, Condition> {
        Occupied::begin(unit, State::Sanitizing, State::SanitizeFailed { restricted })
    }

    /// A format operation begins.
    pub fn formatting(unit: &Arc<LogicalUnit>) -> Result<Occupied, Condition> {
        Occupied::begin(unit, State::Formatting, State::FormatCorrupted)
    }

    fn begin(unit: &Arc<LogicalUnit>, working: State, ends_as: State) -> Result<Occupied, Condition> {
        let occupation = &unit.commons.occupation;
        let mut state = occupation.state.lock().unwrap_or_else(PoisonError::into_inner);
        if matches!(*state, State::Sanitizing | State::Formatting) {
            // Another command was faster.
            drop(state);
            return Err(occupation.condition().unwrap_or(Condition::new(SenseKey::NotReady, 0x04, 0x00)));
        }
        *state = working;
        occupation.progress.store(0, Ordering::Relaxed);
        unit.commons.set_flags(flag::OCCUPIED, 0);
        drop(state);
        Ok(Occupied { unit: Arc::clone(unit), ends_as })
    }

    /// So much is done.
    pub fn progress(&self, done: u128, all: u128) {
        let parts = (done * 65_536).checked_div(all).unwrap_or(0).min(65_535);
        self.unit.commons.occupation.progress.store(parts as u32, Ordering::Relaxed);
    }

    /// All is done and on stable storage.
    pub fn succeed(mut self) {
        self.ends_as = State::Free;
    }
}

impl Drop for Occupied {
    fn drop(&mut self) {
        leave(&self.unit, self.ends_as);
    }
}

/// SANITIZE, EXIT FAILURE MODE. False where the failure was a restricted one, from which it does not lead.
pub(crate) fn exit_failure_mode(unit: &LogicalUnit) -> bool {
    match unit.commons.occupation.state() {
        State::SanitizeFailed { restricted: true } => return false,
        State::SanitizeFailed { restricted: false } => leave(unit, State::Free),
        _ => {}
    }
    true
}

fn leave(unit: &LogicalUnit, next: State) {
    let mut state = unit.commons.occupation.state.lock().unwrap_or_else(PoisonError::into_inner);
    *state = next;
    if next == State::Free {
        unit.commons.set_flags(0, flag::OCCUPIED);
    }
}

/// SANITIZE COMMAND FAILED.
pub(crate) const SANITIZE_FAILED: Condition = Condition::new(SenseKey::MediumError, 0x31, 0x03);
/// FORMAT COMMAND FAILED.
pub(crate) const FORMAT_FAILED: Condition = Condition::new(SenseKey::MediumError, 0x31, 0x01);

const FORMAT_UNIT: u8 = 0x04;
const SANITIZE: u8 = 0x48;
