//! What a store's failure is in sense data (SBC-4 4.18, the table of SBC-07 in our conformance list).

use block::ErrorKind;
use scsi::{Condition, SenseKey};

/// The condition of a failed request. `write` where it was to change the medium or flush it; INFORMATION
/// is the first bad LBA where the store knew it.
pub(crate) fn condition_of(error: &block::Error, write: bool, block_length: u32) -> Condition {
    let condition = match error.kind {
        ErrorKind::NoSpace => Condition::new(SenseKey::DataProtect, 0x27, 0x07),
        ErrorKind::ReadOnly => Condition::new(SenseKey::DataProtect, 0x27, 0x00),
        ErrorKind::Gone => Condition::new(SenseKey::HardwareError, 0x3e, 0x01),
        ErrorKind::OutOfRange => Condition::new(SenseKey::MediumError, if write { 0x0c } else { 0x11 }, 0x00),
        ErrorKind::Unsupported => Condition::new(SenseKey::IllegalRequest, 0x20, 0x00),
        ErrorKind::Aborted | ErrorKind::Busy => Condition::new(SenseKey::AbortedCommand, 0x00, 0x00),
        _ if write => Condition::new(SenseKey::MediumError, 0x0c, 0x00),
        _ => Condition::new(SenseKey::MediumError, 0x11, 0x00),
    };
    match error.offset {
        Some(offset) => condition.with_information(offset / u64::from(block_length.max(1))),
        None => condition,
    }
}
