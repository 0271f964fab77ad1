//! Commands that move the medium's data: READ, WRITE, PRE-FETCH, SYNCHRONIZE CACHE (SBC-4 5.8, 5.12
//! to 5.15, 5.20, 5.38).

use super::{Outcome, extent_of, field};
use crate::commons::flag;
use crate::lane::Execution;
use crate::mail::Extent;
use crate::operation::{Ending, SCRATCH_BYTES, Verdict, Work};
use scsi::{Condition, Status};

/// An extent in blocks, with FUA.
pub(super) struct Access {
    pub block: u64,
    pub blocks: u64,
    pub durable: bool,
    /// The byte of the CDB where its length stands.
    pub length_field: u16,
}

fn access_6(cdb: &[u8]) -> Access {
    let blocks = match field(cdb, 4, 1) {
        0 => 256,
        blocks => blocks,
    };
    Access { block: field(cdb, 1, 3) & 0x1f_ffff, blocks, durable: false, length_field: 4 }
}

pub(super) fn access_10(cdb: &[u8]) -> Access {
    Access { block: field(cdb, 2, 4), blocks: field(cdb, 7, 2), durable: fua(cdb), length_field: 7 }
}

pub(super) fn access_12(cdb: &[u8]) -> Access {
    Access { block: field(cdb, 2, 4), blocks: field(cdb, 6, 4), durable: fua(cdb), length_field: 6 }
}

pub(super) fn access_16(cdb: &[u8]) -> Access {
    Access { block: field(cdb, 2, 8), blocks: field(cdb, 10, 4), durable: fua(cdb), length_field: 10 }
}

fn fua(cdb: &[u8]) -> bool {
    field(cdb, 1, 1) & 0x08 != 0
}

/// No protection information is kept: RDPROTECT, WRPROTECT and VRPROTECT must be zero.
pub(super) fn check_protection(cdb: &[u8]) -> Result<(), Condition> {
    match field(cdb, 1, 1) & 0xe0 {
        0 => Ok(()),
        _ => Err(Condition::invalid_cdb_field(1, Some(7))),
    }
}

/// The extent of an access that moves its data: within the unit, and not longer than is announced.
pub(super) fn transfer(execution: &Execution<'_>, access: &Access) -> Result<Extent, Condition> {
    let extent = extent_of(execution.limits(), access.block, access.blocks)?;
    if access.blocks > execution.maximum_transfer() {
        return Err(Condition::invalid_cdb_field(access.length_field, Some(7)));
    }
    Ok(extent)
}

fn read(execution: &mut Execution<'_>, access: &Access) -> Outcome {
    match transfer(execution, access) {
        Err(condition) => Outcome::Check(condition),
        Ok(Extent { length: 0, .. }) => Outcome::Good,
        Ok(extent) if access.durable && execution.has_volatile_cache() => Outcome::ReadStable(extent),
        Ok(extent) => Outcome::Read(extent),
    }
}

fn write(execution: &mut Execution<'_>, access: &Access) -> Outcome {
    match transfer(execution, access) {
        Err(condition) => Outcome::Check(condition),
        Ok(Extent { length: 0, .. }) => Outcome::Good,
        Ok(extent) => {
            let durable = access.durable || execution.flags() & flag::WRITE_THROUGH != 0;
            Outcome::Write { extent, durable }
        }
    }
}

/// Runs `run` where no protection information is asked for.
fn unprotected(
    execution: &mut Execution<'_>,
    access: Access,
    run: fn(&mut Execution<'_>, &Access) -> Outcome,
) -> Outcome {
    match check_protection(execution.cdb) {
        Ok(()) => run(execution, &access),
        Err(condition) => Outcome::Check(condition),
    }
}

/// READ (6).
pub(super) fn read_6(execution: &mut Execution<'_>) -> Outcome {
    read(execution, &access_6(execution.cdb))
}

/// READ (10).
pub(super) fn read_10(execution: &mut Execution<'_>) -> Outcome {
    unprotected(execution, access_10(execution.cdb), read)
}

/// READ (12).
pub(super) fn read_12(execution: &mut Execution<'_>) -> Outcome {
    unprotected(execution, access_12(execution.cdb), read)
}

/// READ (16).
pub(super) fn read_16(execution: &mut Execution<'_>) -> Outcome {
    unprotected(execution, access_16(execution.cdb), read)
}

/// WRITE (6).
pub(super) fn write_6(execution: &mut Execution<'_>) -> Outcome {
    write(execution, &access_6(execution.cdb))
}

/// WRITE (10).
pub(super) fn write_10(execution: &mut Execution<'_>) -> Outcome {
    unprotected(execution, access_10(execution.cdb), write)
}

/// WRITE (12).
pub(super) fn write_12(execution: &mut Execution<'_>) -> Outcome {
    unprotected(execution, access_12(execution.cdb), write)
}

/// WRITE (16).
pub(super) fn write_16(execution: &mut Execution<'_>) -> Outcome {
    unprotected(execution, access_16(execution.cdb), write)
}

fn synchronize(execution: &mut Execution<'_>, block: u64, blocks: u64) -> Outcome {
    match extent_of(execution.limits(), block, blocks) {
        Err(condition) => Outcome::Check(condition),
        // IMMED allows an earlier answer; ours is always after the flush.
        Ok(_) => Outcome::Flush,
    }
}

/// SYNCHRONIZE CACHE (10).
pub(super) fn synchronize_cache_10(execution: &mut Execution<'_>) -> Outcome {
    let access = access_10(execution.cdb);
    synchronize(execution, access.block, access.blocks)
}

/// SYNCHRONIZE CACHE (16).
pub(super) fn synchronize_cache_16(execution: &mut Execution<'_>) -> Outcome {
    let access = access_16(execution.cdb);
    synchronize(execution, access.block, access.blocks)
}

/// PRE-FETCH (10).
pub(super) fn prefetch_10(execution: &mut Execution<'_>) -> Outcome {
    prefetch(execution, &access_10(execution.cdb))
}

/// PRE-FETCH (16).
pub(super) fn prefetch_16(execution: &mut Execution<'_>) -> Outcome {
    prefetch(execution, &access_16(execution.cdb))
}

/// Zero blocks are all from there to the end, of which as many are fetched as one command may ask for;
/// the answer is then GOOD, "not all of it", instead of CONDITION MET.
fn prefetch(execution: &mut Execution<'_>, access: &Access) -> Outcome {
    let (maximum, rest) = (execution.maximum_transfer(), execution.limits().blocks.saturating_sub(access.block));
    let (blocks, status) = match access.blocks {
        0 if rest > maximum => (maximum, Status::Good),
        0 => (rest, Status::ConditionMet),
        blocks => (blocks, Status::ConditionMet),
    };
    match transfer(execution, &Access { blocks, ..*access }) {
        Err(condition) => Outcome::Check(condition),
        Ok(extent) => execution.long(|work| fetch(work, extent, status)),
    }
}

async fn fetch(work: Work, extent: Extent, status: Status) -> Verdict {
    work.touches(extent);
    read_over(&work, extent).await?;
    Ending::status(status, 0)
}

/// Reads an extent for the sake of reading it.
pub(super) async fn read_over(work: &Work, extent: Extent) -> Result<(), Condition> {
    let mut scratch = work.scratch(extent.length).await?;
    let mut at = 0;
    while at < extent.length {
        let step = (extent.length - at).min(SCRATCH_BYTES as u64);
        scratch = work.read(scratch, 0..step as usize, extent.offset + at).await?;
        at += step;
    }
    Ok(())
}
