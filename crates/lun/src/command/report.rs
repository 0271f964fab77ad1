//! Commands that tell what the unit is: capacity, mode pages, commands.

use super::{COMMANDS, Outcome, Row, field};
use crate::lane::Execution;
use scsi::Condition;
use scsi::mode::{BlockDescriptor, ListLength, PageControl, SenseRequest};

/// READ CAPACITY (10) (SBC-4 5.18): FFFFFFFFh where the last LBA does not fit.
pub(super) fn read_capacity_10(execution: &mut Execution<'_>) -> Outcome {
    let limits = execution.limits();
    let last = u32::try_from(limits.blocks.saturating_sub(1)).unwrap_or(u32::MAX);
    let block_length = limits.block_length;
    execution.data.extend_from_slice(&last.to_be_bytes());
    execution.data.extend_from_slice(&block_length.to_be_bytes());
    Outcome::Data(8)
}

/// READ CAPACITY (16) (SBC-4 5.19).
pub(super) fn read_capacity_16(execution: &mut Execution<'_>) -> Outcome {
    let limits = execution.limits();
    let ratio = limits.physical_block_length.checked_div(limits.block_length).unwrap_or(1).max(1);
    let mut data = [0u8; 32];
    data[..8].copy_from_slice(&limits.blocks.saturating_sub(1).to_be_bytes());
    data[8..12].copy_from_slice(&limits.block_length.to_be_bytes());
    data[13] = ratio.trailing_zeros() as u8 & 0x0f;
    data[14..16].copy_from_slice(&(limits.lowest_aligned_block as u16 & 0x3fff).to_be_bytes());
    execution.data.extend_from_slice(&data);
    Outcome::Data(field(execution.cdb, 10, 4) as usize)
}

fn mode_sense(execution: &mut Execution<'_>, length: ListLength, allocation: usize) -> Outcome {
    let (byte_1, byte_2) = (field(execution.cdb, 1, 1), field(execution.cdb, 2, 1) as u8);
    let descriptor =
        BlockDescriptor { blocks: execution.limits().blocks, block_length: execution.limits().block_length };
    let request = SenseRequest {
        length,
        descriptor: (byte_1 & 0x08 == 0).then_some(descriptor),
        long_descriptor: byte_1 & 0x10 != 0,
        control: match byte_2 >> 6 {
            0 => PageControl::Current,
            1 => PageControl::Changeable,
            2 => PageControl::Default,
            _ => PageControl::Saved,
        },
        page: byte_2 & 0x3f,
        subpage: field(execution.cdb, 3, 1) as u8,
    };
    execution.mode_sense(request, allocation)
}

/// MODE SENSE (6) (SPC-5 6.14).
pub(super) fn mode_sense_6(execution: &mut Execution<'_>) -> Outcome {
    let allocation = field(execution.cdb, 4, 1) as usize;
    mode_sense(execution, ListLength::Six, allocation)
}

/// MODE SENSE (10) (SPC-5 6.15).
pub(super) fn mode_sense_10(execution: &mut Execution<'_>) -> Outcome {
    let allocation = field(execution.cdb, 7, 2) as usize;
    mode_sense(execution, ListLength::Ten, allocation)
}

/// REPORT SUPPORTED OPERATION CODES (SPC-5 6.35), made from the table.
pub(super) fn supported_operation_codes(execution: &mut Execution<'_>) -> Outcome {
    let cdb = execution.cdb;
    let (timeouts, option) = (field(cdb, 2, 1) & 0x80 != 0, field(cdb, 2, 1) & 7);
    let (opcode, action, allocation) = (field(cdb, 3, 1) as u8, field(cdb, 4, 2), field(cdb, 6, 4) as usize);
    let same_action = |row: &Row| row.service_action.map(u64::from) == Some(action);
    let mut of_opcode = COMMANDS.iter().filter(|row| row.opcode == opcode).peekable();
    let has_actions = of_opcode.peek().is_some_and(|row| row.service_action.is_some());
    let one = match option {
        0 => {
            let each = 8 + if timeouts { 12 } else { 0 };
            execution.data.extend_from_slice(&((COMMANDS.len() * each) as u32).to_be_bytes());
            for row in COMMANDS {
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
            execution.data.extend_from_slice(row.usage);
            if timeouts {
                execution.data.extend_from_slice(&NO_TIMEOUTS);
            }
        }
    }
    Outcome::Data(allocation)
}

/// A command timeouts descriptor that promises nothing (SPC-5 6.35.4).
const NO_TIMEOUTS: [u8; 12] = [0, 10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
