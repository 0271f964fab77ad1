//! A unit that is busy with itself: SANITIZE and FORMAT UNIT, how far they are and how they ended (SBC-4
//! 4.11 and 5.4). The operation belongs to the unit and not to a command: it outlives the command, the
//! nexus and every reset, and what it left undone stays to be seen until it is mended: a process that ended
//! in its midst finds it failed when it begins again.

use crate::commons::flag;
use crate::{LogicalUnit, StateError, StateKind, StateStore};
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
pub(crate) struct Occupation {
    state: Mutex<State>,
    /// In parts of 65,536 (SPC-5 4.4.2.4.4).
    progress: AtomicU32,
    unit: [u8; 16],
    kept: Option<Arc<dyn StateStore>>,
}

impl Occupation {
    /// As it was left; without a state store it is forgotten with the process.
    pub fn open(unit: [u8; 16], kept: Option<Arc<dyn StateStore>>) -> Result<Occupation, StateError> {
        let saved = match &kept {
            Some(kept) => kept.load(unit, StateKind::Occupation)?,
            None => None,
        };
        let state = match saved.as_deref() {
            None | Some([FREE]) => State::Free,
            Some([UNRESTRICTED]) => State::SanitizeFailed { restricted: false },
            Some([FORMAT]) => State::FormatCorrupted,
            // What nobody has written is taken for what gives nothing away.
            Some(_) => State::SanitizeFailed { restricted: true },
        };
        Ok(Occupation { state: Mutex::new(state), kept, ..Occupation::volatile(unit) })
    }

    /// As [`Occupation::open`] without a state store.
    pub fn volatile(unit: [u8; 16]) -> Occupation {
        Occupation { state: Mutex::default(), progress: AtomicU32::new(0), unit, kept: None }
    }

    /// Keeps how an operation that begins ends if nobody says otherwise. Blocks while it saves.
    fn keep(&self, ends_as: State) -> Result<(), StateError> {
        let byte = match ends_as {
            State::SanitizeFailed { restricted: true } => RESTRICTED,
            State::SanitizeFailed { restricted: false } => UNRESTRICTED,
            State::FormatCorrupted => FORMAT,
            _ => FREE,
        };
        self.kept.as_ref().map_or(Ok(()), |kept| kept.save(self.unit, StateKind::Occupation, &[byte]))
    }

    /// How an operation ended that did not end well, in a byte.
    pub fn code(&self) -> u8 {
        match self.state() {
            State::SanitizeFailed { restricted: true } => RESTRICTED,
            State::SanitizeFailed { restricted: false } => UNRESTRICTED,
            State::FormatCorrupted => FORMAT,
            // One that is under way keeps its unit from being at rest.
            State::Free | State::Sanitizing | State::Formatting => FREE,
        }
    }

    /// Goes on from there. Tells whether the unit is occupied.
    pub fn revive(&self, code: u8) -> bool {
        let state = match code {
            FREE => State::Free,
            UNRESTRICTED => State::SanitizeFailed { restricted: false },
            FORMAT => State::FormatCorrupted,
            _ => State::SanitizeFailed { restricted: true },
        };
        *self.state.lock().unwrap_or_else(PoisonError::into_inner) = state;
        state != State::Free
    }

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
        // INTERNAL TARGET FAILURE: a process that ended now would not know of it at its next beginning.
        occupation.keep(ends_as).map_err(|_| Condition::INTERNAL_TARGET_FAILURE)?;
        *state = working;
        occupation.progress.store(0, Ordering::Relaxed);
        unit.commons.set_flags(flag::OCCUPIED, 0);
        unit.commons.disturb(None);
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
    let occupation = &unit.commons.occupation;
    let mut state = occupation.state.lock().unwrap_or_else(PoisonError::into_inner);
    *state = next;
    if next == State::Free {
        // Where it cannot be kept, the next process believes in a failure, and another operation mends it.
        let _ = occupation.keep(next);
        unit.commons.set_flags(0, flag::OCCUPIED);
    }
}

/// SANITIZE COMMAND FAILED.
pub(crate) const SANITIZE_FAILED: Condition = Condition::new(SenseKey::MediumError, 0x31, 0x03);
/// FORMAT COMMAND FAILED.
pub(crate) const FORMAT_FAILED: Condition = Condition::new(SenseKey::MediumError, 0x31, 0x01);

/// How an operation that has begun ends, in the one byte that is kept.
const FREE: u8 = 0;
const UNRESTRICTED: u8 = 1;
const RESTRICTED: u8 = 2;
const FORMAT: u8 = 3;

const FORMAT_UNIT: u8 = 0x04;
const SANITIZE: u8 = 0x48;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Identity, Options};
    use std::collections::HashMap;

    #[derive(Default)]
    struct Kept(Mutex<HashMap<u8, Vec<u8>>>);

    impl StateStore for Kept {
        fn load(&self, _: [u8; 16], kind: StateKind) -> Result<Option<Vec<u8>>, StateError> {
            Ok(self.0.lock().unwrap().get(&(kind as u8)).cloned())
        }

        fn save(&self, _: [u8; 16], kind: StateKind, bytes: &[u8]) -> Result<(), StateError> {
            self.0.lock().unwrap().insert(kind as u8, bytes.to_vec());
            Ok(())
        }
    }

    fn unit(kept: &Arc<Kept>) -> Arc<LogicalUnit> {
        let text = String::new;
        let identity = Identity { uuid: [7; 16], vendor: text(), product: text(), revision: text(), serial: text() };
        let state: Arc<dyn StateStore> = Arc::clone(kept) as _;
        LogicalUnit::open(identity, Options::default(), block::pure::Ram::new(512, 64), Some(state)).unwrap()
    }

    #[test]
    fn sbc_15_a_process_that_ended_in_the_midst_of_it_finds_it_failed() {
        for (restricted, code) in [(true, 3), (false, 3)] {
            let kept = Arc::new(Kept::default());
            // Forgotten as by SIGKILL: its end is never told.
            std::mem::forget(Occupied::sanitizing(&unit(&kept), restricted).unwrap());
            let again = unit(&kept);
            assert_eq!(again.commons.occupation.state(), State::SanitizeFailed { restricted });
            assert_ne!(again.commons.flags() & flag::OCCUPIED, 0);
            assert_eq!(again.commons.occupation.refusal(0x28, true).unwrap().key as u8, code);
            assert_eq!(exit_failure_mode(&again), !restricted);
            Occupied::sanitizing(&again, restricted).unwrap().succeed();
            assert_eq!(unit(&kept).commons.occupation.state(), State::Free);
        }
        let kept = Arc::new(Kept::default());
        std::mem::forget(Occupied::formatting(&unit(&kept)).unwrap());
        assert_eq!(unit(&kept).commons.occupation.state(), State::FormatCorrupted);
        drop(Occupied::formatting(&unit(&kept)).unwrap());
        assert_eq!(unit(&kept).commons.occupation.state(), State::FormatCorrupted, "a lane that is gone failed");
    }
}
