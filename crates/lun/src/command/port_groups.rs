//! REPORT TARGET PORT GROUPS and SET TARGET PORT GROUPS (SPC-5 6.37, 6.45).

use super::{Outcome, field};
use crate::lane::Execution;
use crate::operation::{Ending, Verdict, Work};
use crate::{LogicalUnit, TargetPortGroups};
use scsi::Condition;
use scsi::port_groups::{self, AccessState, Format, SET_DESCRIPTOR_BYTES, SET_HEADER_BYTES};
use std::sync::Arc;

/// REPORT TARGET PORT GROUPS.
pub(super) fn report(execution: &mut Execution<'_>) -> Outcome {
    let (format, allocation) = (field(execution.cdb, 1, 1) >> 5, field(execution.cdb, 6, 4) as usize);
    let format = if format == 0 { Format::LengthOnly } else { Format::Extended };
    let groups = execution.target_port().groups().report();
    port_groups::encode(format, &groups, execution.data);
    Outcome::Data(allocation)
}

/// SET TARGET PORT GROUPS.
pub(super) fn set(execution: &mut Execution<'_>) -> Outcome {
    let length = field(execution.cdb, 6, 4) as usize;
    if length == 0 {
        // No data, no change, no error (SPC-5 6.45).
        return Outcome::Good;
    }
    let groups = execution.target_port().groups().numbers().len();
    let longest = SET_HEADER_BYTES + groups * SET_DESCRIPTOR_BYTES;
    // A header, whole descriptors, and no more of them than there are groups.
    if length < SET_HEADER_BYTES || length > longest || !length.is_multiple_of(SET_DESCRIPTOR_BYTES) {
        return Outcome::Check(Condition::invalid_cdb_field(6, Some(7)));
    }
    let units = execution.units().entries.iter().map(|entry| Arc::clone(&entry.unit)).collect();
    execution.long(move |work| change(work, length, units))
}

async fn change(work: Work, length: usize, units: Vec<Arc<LogicalUnit>>) -> Verdict {
    let list = work.parameter_list(length).await?;
    let groups = work.port.groups();
    let states = wishes(&list, groups)?;
    groups.change_for(&states, units.iter(), &work.unit, work.place);
    Ending::good(length as u64)
}

/// What the list asks for: groups that exist, each once. All or nothing.
fn wishes(list: &[u8], groups: &TargetPortGroups) -> Result<Vec<(u16, AccessState)>, Condition> {
    let parsed = port_groups::parse_set(list).map_err(|field| Condition::invalid_parameter(field.0, field.1))?;
    let mut states: Vec<(u16, AccessState)> = Vec::new();
    for wish in parsed {
        if !groups.contains(wish.group) || states.iter().any(|(group, _)| *group == wish.group) {
            return Err(Condition::invalid_parameter(wish.at.saturating_add(2), Some(7)));
        }
        states.push((wish.group, wish.state));
    }
    Ok(states)
}
