//! Commands that tell what the unit is and can do: capacity, commands, task management functions.

use super::{COMMANDS, Outcome, Row, field};
use crate::lane::Execution;
use scsi::Condition;

/// READ CAPACITY (10) (SBC-4 5.18): FFFFFFFFh where the last LBA does not fit.
pub(super) fn read_capacity_10(execution: &mut Execution<'_>) -> Outcome {
    if let Some(condition) = execution.missing_medium() {
        return Outcome::Check(condition);
    }
    let limits = execution.limits();
    let last = u32::try_from(limits.blocks.saturating_sub(1)).unwrap_or(u32::MAX);
    let block_length = limits.block_length;
    execution.data.extend_from_slice(&last.to_be_bytes());
    execution.data.extend_from_slice(&block_length.to_be_bytes());
    Outcome::Data(8)
}

/// READ CAPACITY (16) (SBC-4 5.19).
pub(super) fn read_capacity_16(execution: &mut Execution<'_>) -> Outcome {
    if let Some(condition) = execution.missing_medium() {
        return Outcome::Check(condition);
    }
    let limits = execution.limits();
    let ratio = limits.physical_block_length.checked_div(limits.block_length).unwrap_or(1).max(1);
    let mut data = [0u8; 32];
    data[..8].copy_from_slice(&limits.blocks.saturating_sub(1).to_be_bytes());
    data[8..12].copy_from_slice(&limits.block_length.to_be_bytes());
    data[13] = ratio.trailing_zeros() as u8 & 0x0f;
    // LBPME and LBPRZ.
    let provisioning = limits.unmap.map_or(0, |unmap| if unmap.reads_zeros { 0xc000 } else { 0x8000 });
    data[14..16].copy_from_slice(&(limits.lowest_aligned_block as u16 & 0x3fff | provisioning).to_be_bytes());
    execution.data.extend_from_slice(&data);
    Outcome::Data(field(execution.cdb, 10, 4) as usize)
}

/// REPORT SUPPORTED OPERATION CODES (SPC-5 6.35), made from the table.
pub(super) fn supported_operation_codes(execution: &mut Execution<'_>) -> Outcome {
    let cdb = execution.cdb;
    let (timeouts, option) = (field(cdb, 2, 1) & 0x80 != 0, field(cdb, 2, 1) & 7);
    let (opcode, action, allocation) = (field(cdb, 3, 1) as u8, field(cdb, 4, 2), field(cdb, 6, 4) as usize);
    let same_action = |row: &Row| row.service_action.map(u64::from) == Some(action);
    let limits = execution.limits().clone();
    let device = execution.device_type();
    let management = execution.target_port().groups().management();
    let offered = || COMMANDS.iter().filter(|row| row.is_offered(device, &limits, management));
    let mut of_opcode = offered().filter(|row| row.opcode == opcode).peekable();
    let has_actions = of_opcode.peek().is_some_and(|row| row.service_action.is_some());
    let one = match option {
        0 => {
            let each = 8 + if timeouts { 12 } else { 0 };
            execution.data.extend_from_slice(&((offered().count() * each) as u32).to_be_bytes());
            for row in offered() {
                let [high, low] = u16::from(row.service_action.unwrap_or(0)).to_be_bytes();
                let flags = u8::from(timeouts) << 1 | u8::from(row.service_action.is_some());
                let length = row.usage.len() as u8;
                execution.data.extend_from_slice(&[row.opcode, 0, high, low, 0, flags, 0, length]);
                if timeouts {
                    execution.data.extend_from_slice(&NO_TIMEOUTS);
                }
            }
            return Outcome::Data(allocation);
        }
        1 if has_actions => return Outcome::Check(Condition::invalid_cdb_field(2, Some(2))),
        2 if of_opcode.peek().is_some() && !has_actions => {
            return Outcome::Check(Condition::invalid_cdb_field(2, Some(2)));
        }
        1 => of_opcode.next(),
        2 => of_opcode.find(|row| same_action(row)),
        3 if has_actions => of_opcode.find(|row| same_action(row)),
        3 => of_opcode.next().filter(|_| action == 0),
        _ => return Outcome::Check(Condition::invalid_cdb_field(2, Some(2))),
    };
    match one {
        None => execution.data.extend_from_slice(&[0, 1, 0, 0]),
        Some(row) => {
            let length = row.usage.len() as u8;
            execution.data.extend_from_slice(&[0, u8::from(timeouts) << 7 | 3, 0, length]);
            let usage = execution.data.len();
            execution.data.extend_from_slice(row.usage);
            // The service action stands in its field as itself (SPC-5 6.35.3).
            if let (Some(action), Some(byte)) = (row.service_action, execution.data.get_mut(usage + 1)) {
                *byte = *byte & !0x1f | action;
            }
            if timeouts {
                execution.data.extend_from_slice(&NO_TIMEOUTS);
            }
        }
    }
    Outcome::Data(allocation)
}

/// REPORT SUPPORTED TASK MANAGEMENT FUNCTIONS (SPC-5 6.36).
pub(super) fn supported_task_management_functions(execution: &mut Execution<'_>) -> Outcome {
    let cdb = execution.cdb;
    let (extended, allocation) = (field(cdb, 2, 1) & 0x80 != 0, field(cdb, 6, 4) as usize);
    if allocation < 4 {
        return Outcome::Check(Condition::invalid_cdb_field(6, Some(7)));
    }
    // ABORT TASK, ABORT TASK SET, CLEAR TASK SET, LOGICAL UNIT RESET, TARGET RESET; QUERY TASK and QUERY
    // ASYNCHRONOUS EVENT, QUERY TASK SET, I_T NEXUS RESET where the transport has them.
    let (query, others) = if execution.protocol_level() >= 2 { (0x04, 0x07) } else { (0, 0) };
    execution.data.extend_from_slice(&[0x80 | 0x40 | 0x10 | 0x08 | 0x02 | query, others, 0, 0]);
    if extended {
        // No timeouts are promised.
        execution.data.extend_from_slice(&[0; 12]);
        execution.data[3] = 12;
    }
    Outcome::Data(allocation)
}

/// A command timeouts descriptor that promises nothing (SPC-5 6.35.4).
const NO_TIMEOUTS: [u8; 12] = [0, 10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
