//! START STOP UNIT and PREVENT ALLOW MEDIUM REMOVAL (SBC-4 5.31, SPC-5 6.18, MMC-6 6.42).

use super::{Outcome, field};
use crate::commons::flag;
use crate::lane::Execution;
use crate::mail::{Letter, Whom};
use crate::operation::{Ending, Verdict, Work};
use scsi::mmc::event::MediaEvent;
use scsi::{Condition, SenseKey};
use std::sync::Arc;

/// What START STOP UNIT asks for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Step {
    Start,
    Stop,
    Load,
    Eject,
    /// ACTIVE.
    Active,
    /// IDLE, idle_a.
    Idle,
    /// STANDBY, standby_z.
    Standby,
}

/// START STOP UNIT. The power conditions are kept and told by REQUEST SENSE; a disk without a motor leaves
/// them as fast as it enters them. There are no timers that would end or begin them.
pub(super) fn start_stop_unit(execution: &mut Execution<'_>) -> Outcome {
    let byte = field(execution.cdb, 4, 1);
    let (power, no_flush, load_eject, start) = (byte >> 4, byte & 4 != 0, byte & 2 != 0, byte & 1 != 0);
    // START and LOEJ are ignored with a power condition.
    let condition = match power {
        0x0 => None,
        0x1 => Some(Step::Active),
        0x2 => Some(Step::Idle),
        0x3 => Some(Step::Standby),
        // LU_CONTROL hands the unit to its timers, of which there are none. FORCE_IDLE_0 and FORCE_STANDBY_0
        // would make one expire.
        0x7 => None,
        _ => return Outcome::Check(Condition::invalid_cdb_field(4, Some(7))),
    };
    if power != 0 && field(execution.cdb, 3, 1) != 0 {
        // idle_b, idle_c, standby_y.
        return Outcome::Check(Condition::invalid_cdb_field(3, Some(3)));
    }
    match condition {
        Some(step) => return execution.long(move |work| change(work, step, !no_flush)),
        None if power != 0 => return Outcome::Good,
        None => {}
    }
    let removable = execution.unit().is_some_and(|unit| unit.options().removable);
    if load_eject && !removable {
        return Outcome::Check(Condition::invalid_cdb_field(4, Some(1)));
    }
    let step = match (load_eject, start) {
        (false, true) => Step::Start,
        (false, false) => Step::Stop,
        (true, true) => Step::Load,
        (true, false) => Step::Eject,
    };
    execution.long(move |work| change(work, step, !no_flush))
}

/// MEDIUM REMOVAL PREVENTED.
const PREVENTED: Condition = Condition::new(SenseKey::IllegalRequest, 0x53, 0x02);

async fn change(work: Work, step: Step, flush: bool) -> Verdict {
    let commons = &work.unit.commons;
    let optical = work.unit.is_optical();
    // Whoever prevents removal of a disk's medium wants it to stay what it is: in or out. A drive's tray may
    // be closed at any time (MMC-6 6.42).
    let moves = step == Step::Eject || step == Step::Load && !optical;
    if moves && commons.is_prevented() {
        return Err(PREVENTED);
    }
    if step == Step::Start
        && let Some(condition) = work.unit.missing_medium()
    {
        return Err(condition);
    }
    if optical {
        return if tray(&work, step) { Ending::good(0) } else { Err(PREVENTED) };
    }
    if matches!(step, Step::Stop | Step::Standby | Step::Eject)
        && (flush || step == Step::Eject)
        && !work.limits.read_only
    {
        work.flush().await?;
    }
    match step {
        Step::Start | Step::Active => commons.set_flags(0, flag::STOPPED | flag::LOW_POWER),
        Step::Stop => commons.set_flags(flag::STOPPED, flag::LOW_POWER),
        Step::Idle => commons.set_flags(flag::IDLE, flag::STOPPED | flag::STANDBY),
        Step::Standby => commons.set_flags(flag::STANDBY, flag::STOPPED | flag::IDLE),
        Step::Eject => {
            // Somebody may have begun to prevent it while this flushed.
            if !commons.unless_prevented(|| commons.set_flags(flag::EJECTED, 0)) {
                return Err(PREVENTED);
            }
        }
        Step::Load => {
            let was_out = commons.flags() & flag::EJECTED != 0;
            commons.set_flags(0, flag::EJECTED | flag::STOPPED | flag::LOW_POWER);
            if was_out {
                // NOT READY TO READY CHANGE, MEDIUM MAY HAVE CHANGED.
                let changed = Condition::new(SenseKey::UnitAttention, 0x28, 0x00);
                work.unit.attention(Whom::AllBut(work.place), changed);
            }
        }
    }
    Ending::good(0)
}

/// What a drive does (MMC-6 6.42): a tray that opens and closes. A disc that was stopped turns again when
/// it is read, so that nothing is to be remembered of that.
/// False where somebody prevents it.
fn tray(work: &Work, step: Step) -> bool {
    let (unit, commons) = (&work.unit, &work.unit.commons);
    let out = commons.flags() & flag::EJECTED != 0;
    let event = match step {
        Step::Eject if !out => {
            if !commons.unless_prevented(|| commons.set_flags(flag::EJECTED, 0)) {
                return false;
            }
            MediaEvent::Removed
        }
        Step::Load if out && commons.flags() & flag::EMPTY == 0 => MediaEvent::New,
        Step::Load => {
            commons.set_flags(0, flag::EJECTED);
            return true;
        }
        _ => return true,
    };
    commons.broadcast(|| Letter::Medium { unit: Arc::clone(unit), event, exchanged: false });
    if event == MediaEvent::New {
        commons.set_flags(0, flag::EJECTED);
    }
    true
}

/// PREVENT ALLOW MEDIUM REMOVAL.
pub(super) fn prevent_allow(execution: &mut Execution<'_>) -> Outcome {
    let prevent = field(execution.cdb, 4, 1) & 3;
    if prevent > 1 {
        return Outcome::Check(Condition::invalid_cdb_field(4, Some(1)));
    }
    let place = execution.place();
    if let Some(unit) = execution.unit() {
        unit.commons.prevent(place, execution.identity(), prevent == 1);
    }
    Outcome::Good
}
