//! The copy manager (SPC-4 5.16): bytes from one unit to another, or to another place of the same, without
//! a journey to the initiator.
//!
//! It sees no more than the initiator that asks: sources and destinations are looked for among the units of
//! the nexus's own map, and what reservations, write protection and the state of a unit forbid to the
//! initiator they forbid to its copy, asked anew for each step.

mod mover;
mod reach;
mod records;
mod tokens;

pub(crate) use mover::{finish, move_bytes, write_zeros};
pub(crate) use reach::Reach;
pub(crate) use records::{CopyRecord, CopyRecords, Running};
pub use tokens::Random;
pub(crate) use tokens::{Represented, Tokens};

use scsi::{Condition, SenseKey};

/// UNREACHABLE COPY TARGET.
pub(crate) const UNREACHABLE: Condition = Condition::new(SenseKey::CopyAborted, 0x08, 0x04);

/// There is nothing more to say: the segment's number is told, and what it says is wrong.
pub(crate) const IMPOSSIBLE: Condition = Condition::new(SenseKey::CopyAborted, 0x00, 0x00);

/// THIRD PARTY DEVICE FAILURE.
const FAILED: Condition = Condition::new(SenseKey::CopyAborted, 0x0D, 0x01);

/// What the initiator is told where a step of a copy went wrong. That a destination may not be written or
/// has no space is told as the write itself would tell it: hypervisors pause a machine for that and kill it
/// for anything else.
pub(crate) fn aborted(condition: Condition, segment: u32) -> Condition {
    match condition.key {
        SenseKey::DataProtect => condition,
        SenseKey::CopyAborted => condition.with_command_specific(segment),
        _ => FAILED.with_command_specific(segment),
    }
}
