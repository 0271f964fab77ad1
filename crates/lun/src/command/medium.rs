//! Commands that move the medium's data: READ, WRITE, SYNCHRONIZE CACHE (SBC-4 5.12 to 5.15, 5.20, 5.38).

use super::{Outcome, field};
use crate::lane::Execution;
use scsi::{Condition, SenseKey};

/// An extent in blocks, with FUA.
struct Access {
    block: u64,
    blocks: u64,
    durable: bool,
    length_field: u16,
}

fn access_6(cdb: &[u8]) -> Access {
    let blocks = match field(cdb, 4, 1) {
        0 => 256,
        blocks => blocks,
    };
    Access { block: field(cdb, 1, 3) & 0x1f_ffff, blocks, durable: false, length_field: 4 }
}

fn access_10(cdb: &[u8]) -> Access {
    Access { block: field(cdb, 2, 4), blocks: field(cdb, 7, 2), durable: fua(cdb), length_field: 7 }
}

fn access_12(cdb: &[u8]) -> Access {
    Access { block: field(cdb, 2, 4), blocks: field(cdb, 6, 4), durable: fua(cdb), length_field: 6 }
}

fn access_16(cdb: &[u8]) -> Access {
    Access { block: field(cdb, 2, 8), blocks: field(cdb, 10, 4), durable: fua(cdb), length_field: 10 }
}

fn fua(cdb: &[u8]) -> bool {
    field(cdb, 1, 1) & 0x08 != 0
}

fn check(execution: &Execution<'_>, access: &Access, protect: bool) -> Result<(), Condition> {
    if protect && field(execution.cdb, 1, 1) & 0xe0 != 0 {
        // No protection information is kept: RDPROTECT and WRPROTECT must be zero.
        return Err(Condition::invalid_cdb_field(1, Some(7)));
    }
    let end = access.block.checked_add(access.blocks).filter(|end| *end <= execution.limits().blocks);
    if end.is_none() || access.block >= execution.limits().blocks && access.blocks == 0 && access.block != 0 {
        let out_of_range = Condition::new(SenseKey::IllegalRequest, 0x21, 0x00);
        return Err(out_of_range.with_information(access.block.max(execution.limits().blocks)));
    }
    if access.blocks > execution.maximum_transfer() {
        return Err(Condition::invalid_cdb_field(access.length_field, Some(7)));
    }
    Ok(())
}

fn read(execution: &mut Execution<'_>, access: &Access, protect: bool) -> Outcome {
    match check(execution, access, protect) {
        Err(condition) => Outcome::Check(condition),
        Ok(()) if access.blocks == 0 => Outcome::Good,
        Ok(()) => {
            execution.queue_read(access.block, access.blocks);
            Outcome::Reading
        }
    }
}

fn write(execution: &mut Execution<'_>, access: &Access, protect: bool) -> Outcome {
    match check(execution, access, protect) {
        Err(condition) => Outcome::Check(condition),
        Ok(()) if access.blocks == 0 => Outcome::Good,
        Ok(()) => {
            execution.await_write(access.block, access.blocks, access.durable);
            Outcome::Writing
        }
    }
}

/// READ (6).
pub(super) fn read_6(execution: &mut Execution<'_>) -> Outcome {
    read(execution, &access_6(execution.cdb), false)
}

/// READ (10).
pub(super) fn read_10(execution: &mut Execution<'_>) -> Outcome {
    read(execution, &access_10(execution.cdb), true)
}

/// READ (12).
pub(super) fn read_12(execution: &mut Execution<'_>) -> Outcome {
    read(execution, &access_12(execution.cdb), true)
}

/// READ (16).
pub(super) fn read_16(execution: &mut Execution<'_>) -> Outcome {
    read(execution, &access_16(execution.cdb), true)
}

/// WRITE (6).
pub(super) fn write_6(execution: &mut Execution<'_>) -> Outcome {
    write(execution, &access_6(execution.cdb), false)
}

/// WRITE (10).
pub(super) fn write_10(execution: &mut Execution<'_>) -> Outcome {
    write(execution, &access_10(execution.cdb), true)
}

/// WRITE (12).
pub(super) fn write_12(execution: &mut Execution<'_>) -> Outcome {
    write(execution, &access_12(execution.cdb), true)
}

/// WRITE (16).
pub(super) fn write_16(execution: &mut Execution<'_>) -> Outcome {
    write(execution, &access_16(execution.cdb), true)
}

fn synchronize(execution: &mut Execution<'_>, block: u64, blocks: u64) -> Outcome {
    let end = block.checked_add(blocks).filter(|end| *end <= execution.limits().blocks);
    if end.is_none() {
        return Outcome::Check(Condition::new(SenseKey::IllegalRequest, 0x21, 0x00));
    }
    // IMMED allows an earlier answer; ours is always after the flush.
    execution.queue_flush();
    Outcome::Flushing
}

/// SYNCHRONIZE CACHE (10).
pub(super) fn synchronize_cache_10(execution: &mut Execution<'_>) -> Outcome {
    let cdb = execution.cdb;
    synchronize(execution, field(cdb, 2, 4), field(cdb, 7, 2))
}

/// SYNCHRONIZE CACHE (16).
pub(super) fn synchronize_cache_16(execution: &mut Execution<'_>) -> Outcome {
    let cdb = execution.cdb;
    synchronize(execution, field(cdb, 2, 8), field(cdb, 10, 4))
}
