//! Commands that look before or after they write, or let nobody look meanwhile: VERIFY, WRITE AND VERIFY,
//! COMPARE AND WRITE, ORWRITE, WRITE ATOMIC (SBC-4 5.3, 5.7, 5.32 to 5.34, 5.43 to 5.45).

use super::medium::{Access, access_10, access_12, access_16, check_protection, read_over, transfer};
use super::{Outcome, extent_of, field};
use crate::lane::Execution;
use crate::mail::Extent;
use crate::operation::{Ending, Held, SCRATCH_BYTES, Verdict, Work};
use scsi::{Condition, SenseKey};

/// The most blocks of one COMPARE AND WRITE (B0h, MAXIMUM COMPARE AND WRITE LENGTH).
pub(crate) const MAXIMUM_COMPARE_AND_WRITE: u8 = 128;

/// VERIFY (10).
pub(super) fn verify_10(execution: &mut Execution<'_>) -> Outcome {
    verify(execution, access_10(execution.cdb))
}

/// VERIFY (12).
pub(super) fn verify_12(execution: &mut Execution<'_>) -> Outcome {
    verify(execution, access_12(execution.cdb))
}

/// VERIFY (16).
pub(super) fn verify_16(execution: &mut Execution<'_>) -> Outcome {
    verify(execution, access_16(execution.cdb))
}

/// WRITE AND VERIFY (10).
pub(super) fn write_and_verify_10(execution: &mut Execution<'_>) -> Outcome {
    write_and_verify(execution, &access_10(execution.cdb))
}

/// WRITE AND VERIFY (12).
pub(super) fn write_and_verify_12(execution: &mut Execution<'_>) -> Outcome {
    write_and_verify(execution, &access_12(execution.cdb))
}

/// WRITE AND VERIFY (16).
pub(super) fn write_and_verify_16(execution: &mut Execution<'_>) -> Outcome {
    write_and_verify(execution, &access_16(execution.cdb))
}

/// BYTCHK: what is compared with what.
fn byte_check(cdb: &[u8]) -> u64 {
    field(cdb, 1, 1) >> 1 & 3
}

fn verify(execution: &mut Execution<'_>, access: Access) -> Outcome {
    if let Err(condition) = check_protection(execution.cdb) {
        return Outcome::Check(condition);
    }
    let check = byte_check(execution.cdb);
    if check == 2 {
        return Outcome::Check(Condition::invalid_cdb_field(1, Some(2)));
    }
    // What is only looked at, or compared with one block, is not moved: only the unit's end limits it.
    let extent = match check {
        1 => transfer(execution, &access),
        _ => extent_of(execution.limits(), access.block, access.blocks),
    };
    match extent {
        Err(condition) => Outcome::Check(condition),
        Ok(Extent { length: 0, .. }) => Outcome::Good,
        Ok(extent) if check == 0 => execution.long(|work| verify_medium(work, extent)),
        Ok(extent) => execution.long(|work| verify_bytes(work, extent, check == 3)),
    }
}

async fn verify_medium(work: Work, extent: Extent) -> Verdict {
    work.touches(extent);
    read_over(&work, extent).await?;
    Ending::good(0)
}

async fn verify_bytes(work: Work, extent: Extent, one_block: bool) -> Verdict {
    work.touches(extent);
    let expected = if one_block { work.block() } else { extent.length };
    let held = all_data_out(&work, expected).await?;
    compare(&work, extent, held.bytes().get(..expected as usize).unwrap_or(&[])).await?;
    Ending::good(expected)
}

/// Data-out of exactly this length; less cannot be compared with anything (RFC 7143 §11.4.7.2).
async fn all_data_out(work: &Work, length: u64) -> Result<Held, Condition> {
    match work.data_out(length).await {
        (Some(held), received) if received as u64 == length => Ok(held),
        _ => Err(Condition::new(SenseKey::AbortedCommand, 0x0c, 0x0d)),
    }
}

/// Whether the extent holds these bytes, or this one block again and again. MISCOMPARE with the offset
/// of the first byte that differs.
async fn compare(work: &Work, extent: Extent, expected: &[u8]) -> Result<(), Condition> {
    let mut scratch = work.scratch(extent.length).await?;
    let mut at = 0;
    while at < extent.length {
        let step = (extent.length - at).min(SCRATCH_BYTES as u64);
        scratch = work.read(scratch, 0..step as usize, extent.offset + at).await?;
        let found = scratch.bytes().get(..step as usize).unwrap_or(&[]);
        // A single block begins anew at each step, as steps are whole blocks.
        let from = if expected.len() as u64 == extent.length { at as usize } else { 0 };
        let wanted = expected.get(from..).unwrap_or(&[]);
        let differs = found.iter().zip(wanted.iter().cycle()).position(|(found, wanted)| found != wanted);
        if let Some(offset) = differs {
            let miscompare = Condition::new(SenseKey::Miscompare, 0x1d, 0x00);
            return Err(miscompare.with_information(at + offset as u64));
        }
        at += step;
    }
    Ok(())
}

fn write_and_verify(execution: &mut Execution<'_>, access: &Access) -> Outcome {
    if let Err(condition) = check_protection(execution.cdb) {
        return Outcome::Check(condition);
    }
    let check = byte_check(execution.cdb);
    if check > 1 {
        return Outcome::Check(Condition::invalid_cdb_field(1, Some(2)));
    }
    match transfer(execution, access) {
        Err(condition) => Outcome::Check(condition),
        Ok(Extent { length: 0, .. }) => Outcome::Good,
        Ok(extent) => execution.long(|work| write_then_look(work, extent, check == 1)),
    }
}

async fn write_then_look(work: Work, extent: Extent, bytes: bool) -> Verdict {
    work.touches(extent);
    let (held, received) = work.data_out(extent.length).await;
    let whole = received as u64 / work.block() * work.block();
    let (Some(held), true) = (held, whole > 0) else { return Ending::good(extent.length) };
    let written = Extent { offset: extent.offset, length: whole };
    let held = work.write(held, 0..whole as usize, extent.offset, true).await?;
    match bytes {
        true => compare(&work, written, held.bytes().get(..whole as usize).unwrap_or(&[])).await?,
        false => read_over(&work, written).await?,
    }
    work.unit.commons.ledger.wrote_long(whole);
    Ending::good(extent.length)
}

/// COMPARE AND WRITE.
pub(super) fn compare_and_write(execution: &mut Execution<'_>) -> Outcome {
    if let Err(condition) = check_protection(execution.cdb) {
        return Outcome::Check(condition);
    }
    let (block, blocks) = (field(execution.cdb, 2, 8), field(execution.cdb, 13, 1));
    let durable = field(execution.cdb, 1, 1) & 0x08 != 0;
    match extent_of(execution.limits(), block, blocks) {
        Err(condition) => Outcome::Check(condition),
        Ok(_) if blocks > u64::from(MAXIMUM_COMPARE_AND_WRITE) => {
            Outcome::Check(Condition::invalid_cdb_field(13, Some(7)))
        }
        // What is to be compared and what is to be written must both be there, and nothing else.
        Ok(extent) if execution.expected_out() != extent.length * 2 => {
            Outcome::Check(Condition::invalid_cdb_field(13, Some(7)))
        }
        Ok(Extent { length: 0, .. }) => Outcome::Good,
        Ok(extent) => execution.long(|work| compare_then_write(work, extent, durable)),
    }
}

async fn compare_then_write(work: Work, extent: Extent, durable: bool) -> Verdict {
    work.touches(extent);
    let half = extent.length as usize;
    let held = all_data_out(&work, extent.length * 2).await?;
    let _fence = work.fence(extent).await;
    compare(&work, extent, held.bytes().get(..half).unwrap_or(&[])).await?;
    work.write(held, half..half * 2, extent.offset, durable).await?;
    work.unit.commons.ledger.wrote_long(extent.length);
    Ending::good(extent.length * 2)
}

/// ORWRITE (16).
pub(super) fn orwrite(execution: &mut Execution<'_>) -> Outcome {
    if let Err(condition) = check_protection(execution.cdb) {
        return Outcome::Check(condition);
    }
    let access = access_16(execution.cdb);
    match transfer(execution, &access) {
        Err(condition) => Outcome::Check(condition),
        Ok(Extent { length: 0, .. }) => Outcome::Good,
        Ok(extent) => execution.long(|work| or_into(work, extent, access.durable)),
    }
}

async fn or_into(work: Work, extent: Extent, durable: bool) -> Verdict {
    work.touches(extent);
    let mut held = all_data_out(&work, extent.length).await?;
    let _fence = work.fence(extent).await;
    let mut scratch = work.scratch(extent.length).await?;
    let mut at = 0;
    while at < extent.length {
        let step = (extent.length - at).min(SCRATCH_BYTES as u64);
        scratch = work.read(scratch, 0..step as usize, extent.offset + at).await?;
        let found = scratch.bytes().get(..step as usize).unwrap_or(&[]);
        let ours = held.bytes_mut().get_mut(at as usize..).unwrap_or(&mut []);
        ours.iter_mut().zip(found).for_each(|(ours, found)| *ours |= found);
        at += step;
    }
    work.write(held, 0..extent.length as usize, extent.offset, durable).await?;
    work.unit.commons.ledger.wrote_long(extent.length);
    Ending::good(extent.length)
}

/// WRITE ATOMIC (16).
pub(super) fn write_atomic(execution: &mut Execution<'_>) -> Outcome {
    if let Err(condition) = check_protection(execution.cdb) {
        return Outcome::Check(condition);
    }
    let durable = field(execution.cdb, 1, 1) & 0x08 != 0;
    let (block, boundary, blocks) =
        (field(execution.cdb, 2, 8), field(execution.cdb, 10, 2), field(execution.cdb, 12, 2));
    let (maximum, unit) = match execution.limits().atomic {
        None => (0, 1),
        Some(atomic) => (u64::from(atomic.maximum), u64::from(atomic.granularity.max(1))),
    };
    match extent_of(execution.limits(), block, blocks) {
        Err(condition) => Outcome::Check(condition),
        // MAXIMUM ATOMIC BOUNDARY SIZE is 0.
        Ok(_) if boundary != 0 => Outcome::Check(Condition::invalid_cdb_field(10, Some(7))),
        Ok(extent) if extent.length > maximum || !extent.length.is_multiple_of(unit) => {
            Outcome::Check(Condition::invalid_cdb_field(12, Some(7)))
        }
        Ok(extent) if !extent.offset.is_multiple_of(unit) => Outcome::Check(Condition::invalid_cdb_field(2, Some(7))),
        // All of it or nothing: less than all cannot be written.
        Ok(extent) if execution.expected_out() < extent.length => {
            Outcome::Check(Condition::invalid_cdb_field(12, Some(7)))
        }
        Ok(Extent { length: 0, .. }) => Outcome::Good,
        Ok(extent) => execution.long(|work| write_at_once(work, extent, durable)),
    }
}

async fn write_at_once(work: Work, extent: Extent, durable: bool) -> Verdict {
    work.touches(extent);
    let held = all_data_out(&work, extent.length).await?;
    let _fence = work.fence(extent).await;
    work.write(held, 0..extent.length as usize, extent.offset, durable).await?;
    work.unit.commons.ledger.wrote_long(extent.length);
    Ending::good(extent.length)
}
