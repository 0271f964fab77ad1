//! REPORT and SET IDENTIFYING INFORMATION (SPC-5 6.32, 6.45).

use super::{Outcome, field};
use crate::StateKind;
use crate::lane::Execution;
use crate::mail::Whom;
use crate::naming::Kind;
use crate::operation::{Ending, Verdict, Work};
use scsi::{Condition, SenseKey};

/// INFORMATION TYPE 1111111b: which types there are.
const SUPPORTED: u8 = 0x7f;

/// REPORT IDENTIFYING INFORMATION.
pub(super) fn report(execution: &mut Execution<'_>) -> Outcome {
    let (code, allocation) = (field(execution.cdb, 10, 1) as u8 >> 1, field(execution.cdb, 6, 4) as usize);
    let Some(unit) = execution.unit() else { return ABSENT };
    let naming = &unit.commons.naming;
    let mut data = Vec::new();
    match Kind::from_code(code) {
        Some(kind) if naming.is_kept() => data = naming.get(kind),
        // A unit that keeps nothing has no types at all.
        None if code == SUPPORTED => {
            for kind in Kind::ALL.into_iter().filter(|_| naming.is_kept()) {
                let [high, low] = (kind.maximum() as u16).to_be_bytes();
                data.extend_from_slice(&[kind.code() << 1, 0, high, low]);
            }
        }
        _ => return Outcome::Check(Condition::invalid_cdb_field(10, Some(7))),
    }
    execution.data.extend_from_slice(&(data.len() as u32).to_be_bytes());
    execution.data.extend_from_slice(&data);
    Outcome::Data(allocation)
}

/// SET IDENTIFYING INFORMATION; a list of no length takes the information away.
pub(super) fn set(execution: &mut Execution<'_>) -> Outcome {
    let (code, length) = (field(execution.cdb, 10, 1) as u8 >> 1, field(execution.cdb, 6, 4));
    let Some(unit) = execution.unit() else { return ABSENT };
    match Kind::from_code(code) {
        Some(kind) if unit.commons.naming.is_kept() => match usize::try_from(length) {
            Ok(length) if length <= kind.maximum() => execution.long(move |work| keep(work, kind, length)),
            _ => Outcome::Check(Condition::invalid_cdb_field(6, Some(7))),
        },
        _ => Outcome::Check(Condition::invalid_cdb_field(10, Some(7))),
    }
}

const ABSENT: Outcome = Outcome::Check(Condition::new(SenseKey::IllegalRequest, 0x25, 0x00));

async fn keep(work: Work, kind: Kind, length: usize) -> Verdict {
    let list = work.parameter_list(length).await?;
    if !kind.accepts(&list) {
        return Err(Condition::invalid_parameter(0, None));
    }
    // INTERNAL TARGET FAILURE: what was to be kept was not; nothing has changed.
    let naming = &work.unit.commons.naming;
    let turn = work.turn().await;
    let names = naming.with(kind, list);
    if let Some(store) = naming.store() {
        let kept = work.save(store, StateKind::Identification, names.to_stored()).await;
        kept.map_err(|_| Condition::INTERNAL_TARGET_FAILURE)?;
    }
    naming.commit(names);
    drop(turn);
    // DEVICE IDENTIFIER CHANGED.
    work.unit.attention(Whom::AllBut(work.place), Condition::new(SenseKey::UnitAttention, 0x3f, 0x05));
    Ending::good(length as u64)
}
