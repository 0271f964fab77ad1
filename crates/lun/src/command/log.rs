//! LOG SENSE, and the lists of defects that a disk without defects has (SPC-5 6.9, SBC-4 5.22, 5.23).

use super::provisioning::threshold_sets;
use super::{Outcome, field};
use crate::lane::Execution;
use scsi::{Condition, log};

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
    // Nothing is measured, and without a clock no time is counted; what is known is the space.
    let limits = execution.limits();
    let space = execution.unit().filter(|_| limits.unmap.is_some()).and_then(|unit| unit.backend().space());
    let space = space.map(|space| log::provisioning::Space {
        available: space.available.map(|bytes| threshold_sets(limits, bytes)),
        used: threshold_sets(limits, space.used),
    });
    match log::sense(request, &log::Facts { space, ..log::Facts::default() }, execution.data) {
        Ok(()) => Outcome::Data(allocation),
        Err(log::InvalidCdbField(byte)) => Outcome::Check(Condition::invalid_cdb_field(u16::from(byte), None)),
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
