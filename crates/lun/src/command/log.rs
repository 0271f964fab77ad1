//! LOG SENSE and LOG SELECT, and the lists of defects that a disk without defects has (SPC-5 6.8, 6.9, SBC-4 5.22, 5.23).

use super::provisioning::threshold_sets;
use super::{Outcome, field};
use crate::LogicalUnit;
use crate::lane::Execution;
use crate::mail::Whom;
use crate::operation::{Ending, Verdict, Work};
use block::Limits;
use scsi::{Condition, SenseKey, log};
use std::sync::Arc;

/// LOG SENSE.
pub(super) fn log_sense(execution: &mut Execution<'_>) -> Outcome {
    let cdb = execution.cdb;
    let request = log::SenseRequest {
        save: field(cdb, 1, 1) & 1 != 0,
        control: field(cdb, 2, 1) as u8 >> 6,
        page: field(cdb, 2, 1) as u8 & 0x3f,
        subpage: field(cdb, 3, 1) as u8,
        pointer: field(cdb, 5, 2) as u16,
    };
    let allocation = field(cdb, 7, 2) as usize;
    let Some(unit) = execution.unit().map(Arc::clone) else { return ABSENT };
    let notes = unit.commons.ledger.notes();
    let facts = facts(&unit, execution.limits(), &notes);
    match log::sense(request, &facts, execution.data) {
        Ok(()) => Outcome::Data(allocation),
        Err(log::InvalidCdbField(byte)) => Outcome::Check(Condition::invalid_cdb_field(u16::from(byte), None)),
    }
}

const ABSENT: Outcome = Outcome::Check(Condition::new(SenseKey::IllegalRequest, 0x25, 0x00));

/// What the log pages say of the unit. No store measures a temperature.
fn facts<'a>(unit: &LogicalUnit, limits: &Limits, notes: &'a log::application_client::Notes) -> log::Facts<'a> {
    let space = limits.unmap.and_then(|_| unit.backend().space()).map(|space| log::provisioning::Space {
        available: space.available.map(|bytes| threshold_sets(limits, bytes)),
        used: threshold_sets(limits, space.used),
    });
    let statistics = Some(unit.commons.ledger.statistics(limits.block_length));
    log::Facts { temperature: None, space, statistics, notes: Some(notes) }
}

/// LOG SELECT.
pub(super) fn log_select(execution: &mut Execution<'_>) -> Outcome {
    let cdb = execution.cdb;
    let request = log::SelectRequest {
        reset: field(cdb, 1, 1) & 2 != 0,
        save: field(cdb, 1, 1) & 1 != 0,
        control: field(cdb, 2, 1) as u8 >> 6,
        page: field(cdb, 2, 1) as u8 & 0x3f,
        subpage: field(cdb, 3, 1) as u8,
        length: field(cdb, 7, 2) as u16,
    };
    let Some(unit) = execution.unit().map(Arc::clone) else { return ABSENT };
    let place = execution.place();
    match request.check(&facts(&unit, execution.limits(), &unit.commons.ledger.notes())) {
        Err(refusal) => Outcome::Check(refused(refusal)),
        Ok(None) => execution.long(move |work| write_down(work, usize::from(request.length))),
        Ok(Some(reset)) => {
            if reset.statistics {
                unit.commons.ledger.reset_statistics();
            }
            if reset.notes {
                let _: Result<(), ()> = unit.commons.ledger.note(|_| Ok(Default::default()));
            }
            if reset != log::Reset::default() {
                unit.attention(Whom::AllBut(place), LOG_PARAMETERS_CHANGED);
            }
            Outcome::Good
        }
    }
}

const LOG_PARAMETERS_CHANGED: Condition = Condition::new(SenseKey::UnitAttention, 0x2a, 0x02);

async fn write_down(work: Work, length: usize) -> Verdict {
    let list = work.parameter_list(length).await?;
    work.unit.commons.ledger.note(|notes| log::select(&list, notes)).map_err(refused)?;
    work.unit.attention(Whom::AllBut(work.place), LOG_PARAMETERS_CHANGED);
    Ending::good(length as u64)
}

fn refused(refusal: log::Refusal) -> Condition {
    match refusal {
        log::Refusal::InvalidCdbField(byte, bit) => Condition::invalid_cdb_field(u16::from(byte), bit),
        log::Refusal::InvalidListField(byte) => Condition::invalid_parameter(byte, None),
        log::Refusal::ListLength => Condition::PARAMETER_LIST_LENGTH_ERROR,
    }
}

/// READ DEFECT DATA (10): both lists are there, and empty.
pub(super) fn read_defect_data_10(execution: &mut Execution<'_>) -> Outcome {
    let (lists, allocation) = (field(execution.cdb, 2, 1) as u8 & 0x1f, field(execution.cdb, 7, 2) as usize);
    execution.data.extend_from_slice(&[0, lists, 0, 0]);
    Outcome::Data(allocation)
}

/// READ DEFECT DATA (12).
pub(super) fn read_defect_data_12(execution: &mut Execution<'_>) -> Outcome {
    let (lists, allocation) = (field(execution.cdb, 1, 1) as u8 & 0x1f, field(execution.cdb, 6, 4) as usize);
    execution.data.extend_from_slice(&[0, lists, 0, 0, 0, 0, 0, 0]);
    Outcome::Data(allocation)
}
