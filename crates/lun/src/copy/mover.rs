//! Moves the bytes: in steps that other commands can come between, by the system where it can do it alone,
//! otherwise through memory.

use super::{CopyRecord, Reach};
use crate::fault::condition_of;
use crate::mail::Extent;
use crate::operation::{Part, SCRATCH_BYTES, Work};
use crate::reservation::Class;
use block::{ErrorKind, ExtentState, OpenFile, Operation, Outcome};
use scsi::Condition;
use std::sync::Arc;

/// Bytes of one step that the system does alone.
const SYSTEM_STEP: u64 = 4 << 20;
/// Bytes of one step that goes through memory.
const MEMORY_STEP: u64 = SCRATCH_BYTES as u64;

/// A place in a unit.
type Place<'a> = (&'a Reach, u64);

/// Moves `length` bytes, a multiple of both units' blocks. Where the two extents overlap, the destination
/// holds afterwards what the source held before.
pub(crate) async fn move_bytes(
    work: &Work,
    record: &CopyRecord,
    from: Place<'_>,
    to: Place<'_>,
    length: u64,
) -> Result<(), Condition> {
    let same = Arc::ptr_eq(&from.0.unit, &to.0.unit);
    let backwards = same && from.1 < to.1 && to.1 - from.1 < length;
    let mut system = to.0.limits.copies && (same || to.0.unit.backend().file().is_some());
    let origin = if same { None } else { from.0.unit.backend().file() };
    system &= same || origin.is_some();
    // What has no space behind it needs none at its new place.
    let thin = |place: Place<'_>| place.0.limits.unmap.is_some_and(|unmap| unmap.reads_zeros);
    let sparse = thin(from) && thin(to);
    let mut done = 0;
    while done < length {
        let mut step = (length - done).min(if system { SYSTEM_STEP } else { MEMORY_STEP });
        if same && system {
            // The system copies only between extents that do not touch each other.
            let distance = from.1.abs_diff(to.1);
            if distance < step.min(MEMORY_STEP) {
                system = false;
                continue;
            }
            step = step.min(distance / from.0.block() * from.0.block());
        }
        from.0.check(work, Class::Read)?;
        to.0.check(work, Class::Write)?;
        let mut hole = false;
        if sparse && !backwards {
            (hole, step) = run(work, (from.0, from.1 + done), step, from.0.block().max(to.0.block())).await?;
        }
        let at = if backwards { length - done - step } else { done };
        let (source, target) = ((from.0, from.1 + at), (to.0, to.1 + at));
        if hole {
            let zeros = Operation::WriteZeroes { unmap: true, durable: false };
            let (_, result) = work.part(Part::new(&to.0.unit, zeros, target.1, step)).await;
            result.map_err(|error| condition_of(&error, true, to.0.limits.block_length))?;
        } else if system {
            if !by_the_system(work, source, target, step, origin.clone()).await? {
                system = false;
                continue;
            }
        } else {
            through_memory(work, source, target, step).await?;
        }
        record.advance(step);
        done += step;
    }
    Ok(())
}

/// Whether there is a hole from here on, and how far that goes: at most `most` bytes, a multiple of `block`.
async fn run(work: &Work, from: Place<'_>, most: u64, block: u64) -> Result<(bool, u64), Condition> {
    let asking = Part::new(&from.0.unit, Operation::Extents, from.1, most);
    let extents = match work.part(asking).await.1 {
        Ok(Outcome::Extents(extents)) => extents,
        Ok(_) => return Ok((false, most)),
        Err(error) => return Err(condition_of(&error, false, from.0.limits.block_length)),
    };
    let Some(first) = extents.first() else { return Ok((false, most)) };
    let whole = first.length.min(most) / block * block;
    Ok(match first.state {
        ExtentState::Deallocated if whole > 0 => (true, whole),
        ExtentState::Deallocated => (false, block.min(most)),
        ExtentState::Mapped => (false, first.length.div_ceil(block).saturating_mul(block).min(most)),
    })
}

/// False where the system cannot.
async fn by_the_system(
    work: &Work,
    from: Place<'_>,
    to: Place<'_>,
    length: u64,
    origin: Option<OpenFile>,
) -> Result<bool, Condition> {
    let part = Part {
        unit: Arc::clone(&to.0.unit),
        operation: Operation::Copy { source: from.1 },
        extent: Extent { offset: to.1, length },
        memory: None,
        origin,
        reads: Some((Arc::clone(&from.0.unit), Extent { offset: from.1, length })),
    };
    match work.part(part).await.1 {
        Ok(_) => Ok(true),
        Err(error) if error.kind == ErrorKind::Unsupported => Ok(false),
        Err(error) => Err(condition_of(&error, true, to.0.limits.block_length)),
    }
}

async fn through_memory(work: &Work, from: Place<'_>, to: Place<'_>, length: u64) -> Result<(), Condition> {
    let memory = work.copy_memory().await?;
    let reading = Part::new(&from.0.unit, Operation::Read, from.1, length).with(memory, length);
    let (memory, result) = work.part(reading).await;
    result.map_err(|error| condition_of(&error, false, from.0.limits.block_length))?;
    let memory = memory.ok_or(super::FAILED)?;
    let bytes = memory.bytes().get(..length as usize).unwrap_or_default();
    // What was never written needs no space at its new place either.
    let writing = match to.0.limits.unmap {
        Some(unmap) if unmap.reads_zeros && bytes.iter().all(|byte| *byte == 0) => {
            let zeros = Operation::WriteZeroes { unmap: true, durable: false };
            drop(memory);
            Part::new(&to.0.unit, zeros, to.1, length)
        }
        _ => Part::new(&to.0.unit, Operation::Write { durable: false }, to.1, length).with(memory, length),
    };
    let (_, result) = work.part(writing).await;
    result.map(drop).map_err(|error| condition_of(&error, true, to.0.limits.block_length))
}

/// The extent reads as zeros afterwards.
pub(crate) async fn write_zeros(work: &Work, record: &CopyRecord, to: &Reach, extent: Extent) -> Result<(), Condition> {
    let unmap = to.limits.unmap.is_some_and(|unmap| unmap.reads_zeros);
    let mut done = 0;
    while done < extent.length {
        let step = (extent.length - done).min(SYSTEM_STEP);
        to.check(work, Class::Write)?;
        let zeros = Operation::WriteZeroes { unmap, durable: false };
        let (_, result) = work.part(Part::new(&to.unit, zeros, extent.offset + done, step)).await;
        result.map_err(|error| condition_of(&error, true, to.limits.block_length))?;
        record.advance(step);
        done += step;
    }
    Ok(())
}

/// What was written is stable, where the destination promises that.
pub(crate) async fn finish(work: &Work, to: &Reach) -> Result<(), Condition> {
    if !to.writes_through() {
        return Ok(());
    }
    let (_, result) = work.part(Part::new(&to.unit, Operation::Flush, 0, 0)).await;
    result.map(drop).map_err(|error| condition_of(&error, true, to.limits.block_length))
}
