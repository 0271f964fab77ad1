//! REPORT and SET TIMESTAMP (SPC-5 6.38, 6.47).

use super::{Outcome, field};
use crate::clock::Clock;
use crate::lane::Execution;
use crate::mail::Whom;
use crate::operation::{Ending, Verdict, Work};
use scsi::{Condition, SenseKey};

/// Bytes of the parameter list of SET TIMESTAMP.
const LIST: usize = 12;

/// REPORT TIMESTAMP.
pub(super) fn report(execution: &mut Execution<'_>) -> Outcome {
    let allocation = field(execution.cdb, 6, 4) as usize;
    let now = (execution.clock())();
    let Some(unit) = execution.unit() else {
        return Outcome::Check(Condition::new(SenseKey::IllegalRequest, 0x25, 0x00));
    };
    let timestamp = unit.commons.clock.at(now);
    let [_, _, milliseconds @ ..] = timestamp.milliseconds.to_be_bytes();
    execution.data.extend_from_slice(&[0, 10, timestamp.origin, 0]);
    execution.data.extend_from_slice(&milliseconds);
    execution.data.extend_from_slice(&[0, 0]);
    Outcome::Data(allocation)
}

/// SET TIMESTAMP. A list of no length changes nothing.
pub(super) fn set(execution: &mut Execution<'_>) -> Outcome {
    match field(execution.cdb, 6, 4) {
        0 => Outcome::Good,
        length if length == LIST as u64 => {
            let clock = Clock::clone(execution.clock());
            execution.long(move |work| change(work, clock))
        }
        _ => Outcome::Check(Condition::PARAMETER_LIST_LENGTH_ERROR),
    }
}

async fn change(work: Work, clock: Clock) -> Verdict {
    let list = work.parameter_list(LIST).await?;
    let reserved = (0..LIST).find(|at| !(4..10).contains(at) && field(&list, *at, 1) != 0);
    if let Some(at) = reserved {
        return Err(Condition::invalid_parameter(at as u16, None));
    }
    // The last that can be set; what is beyond would soon wrap (SPC-4 6.46).
    if field(&list, 4, 1) > 0xf0 {
        return Err(Condition::invalid_parameter(4, None));
    }
    work.unit.commons.clock.set(field(&list, 4, 6), clock());
    // TIMESTAMP CHANGED.
    work.unit.attention(Whom::AllBut(work.place), Condition::new(SenseKey::UnitAttention, 0x2a, 0x10));
    Ending::good(LIST as u64)
}
