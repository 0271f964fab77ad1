//! Moves the bytes: in steps that other commands can come between, by the system where it can do it alone,
//! otherwise through memory.
//!
//! What the nexus may do is asked right before each request is made, in the same turn of the lane. So a
//! request is either refused or a task of its unit before anybody can have answered a PREEMPT AND ABORT, a
//! reset or a SANITIZE, which then wait for it.

use super::{CopyRecord, Reach};
use crate::fault::condition_of;
use crate::mail::Extent;
use crate::operation::{Held, Part, SCRATCH_BYTES, Work};
use crate::reservation::Class;
use block::{Error, ErrorKind, ExtentState, OpenFile, Operation, Outcome};
use scsi::Condition;
use std::collections::VecDeque;
use std::sync::Arc;

/// Bytes of one step that the system does alone.
const SYSTEM_STEP: u64 = 4 << 20;
/// Bytes of one step that goes through memory.
const MEMORY_STEP: u64 = SCRATCH_BYTES as u64;
/// Bytes of which is asked at once where the holes are.
const LOOK_AHEAD: u64 = 64 << 20;

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
    let mut system = System::between(from.0, to.0);
    let same = Arc::ptr_eq(&from.0.unit, &to.0.unit);
    let backwards = same && from.1 < to.1 && to.1 - from.1 < length;
    let mut holes = (!backwards && thin(from.0) && thin(to.0)).then(VecDeque::new);
    let mut done = 0;
    while done < length {
        let mut step = (length - done).min(if system.is_some() { SYSTEM_STEP } else { MEMORY_STEP });
        if same && system.is_some() {
            // The system copies only between extents that do not touch each other.
            let distance = from.1.abs_diff(to.1);
            if distance < step.min(MEMORY_STEP) {
                system = None;
                continue;
            }
            step = step.min(distance / from.0.block() * from.0.block());
        }
        let mut hole = false;
        if let Some(runs) = &mut holes {
            let block = from.0.block().max(to.0.block());
            let ahead = (from.0, from.1 + done);
            (hole, step) = next_run(work, runs, ahead, step, (length - done).min(LOOK_AHEAD), block).await?;
        }
        let at = if backwards { length - done - step } else { done };
        let (source, target) = ((from.0, from.1 + at), (to.0, to.1 + at));
        if hole {
            let zeros = Operation::WriteZeroes { unmap: true, durable: false };
            write(work, to.0, Part::new(&to.0.unit, zeros, target.1, step)).await?;
        } else if let Some(by) = &system {
            if !by.copy(work, source, target, step).await? {
                system = None;
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

fn thin(reach: &Reach) -> bool {
    reach.limits.unmap.is_some_and(|unmap| unmap.reads_zeros)
}

/// A request that reads, of a nexus that may.
async fn read(work: &Work, from: &Reach, part: Part) -> Result<(Option<Held>, Result<Outcome, Error>), Condition> {
    from.check(work, Class::Read)?;
    Ok(work.part(part).await)
}

/// A request that writes, of a nexus that may.
async fn write(work: &Work, to: &Reach, part: Part) -> Result<(), Condition> {
    to.check(work, Class::Write)?;
    let (_, result) = work.part(part).await;
    result.map(drop).map_err(|error| condition_of(&error, true, to.limits.block_length))
}

/// Whether there is a hole from here on, and how far that goes: at most `most` bytes, a multiple of `block`.
/// `runs` are what is known from an earlier look; a look goes `ahead` so far.
async fn next_run(
    work: &Work,
    runs: &mut VecDeque<block::Extent>,
    from: Place<'_>,
    most: u64,
    ahead: u64,
    block: u64,
) -> Result<(bool, u64), Condition> {
    while runs.front().is_some_and(|run| run.offset + run.length <= from.1) {
        runs.pop_front();
    }
    if runs.is_empty() {
        let asking = Part::new(&from.0.unit, Operation::Extents, from.1, ahead);
        match read(work, from.0, asking).await?.1 {
            Ok(Outcome::Extents(found)) => runs.extend(found),
            Err(error) if error.kind != ErrorKind::Unsupported => {
                return Err(condition_of(&error, false, from.0.limits.block_length));
            }
            // Whoever does not tell has data everywhere.
            _ => {}
        }
    }
    let Some(run) = runs.front().filter(|run| run.offset <= from.1) else { return Ok((false, most)) };
    let rest = run.offset + run.length - from.1;
    let whole = rest.min(most) / block * block;
    Ok(match run.state {
        ExtentState::Deallocated if whole > 0 => (true, whole),
        ExtentState::Deallocated => (false, block.min(most)),
        ExtentState::Mapped => (false, rest.div_ceil(block).saturating_mul(block).min(most)),
    })
}

/// The system's own way between two units.
struct System {
    /// The file that is read, where it is not the destination's own.
    origin: Option<OpenFile>,
}

impl System {
    fn between(from: &Reach, to: &Reach) -> Option<System> {
        if !to.limits.copies {
            return None;
        }
        if Arc::ptr_eq(&from.unit, &to.unit) {
            return Some(System { origin: None });
        }
        to.unit.backend().file()?;
        Some(System { origin: Some(from.unit.backend().file()?) })
    }

    /// False where the system cannot.
    async fn copy(&self, work: &Work, from: Place<'_>, to: Place<'_>, length: u64) -> Result<bool, Condition> {
        let part = Part {
            origin: self.origin.clone(),
            reads: Some((Arc::clone(&from.0.unit), Extent { offset: from.1, length })),
            ..Part::new(&to.0.unit, Operation::Copy { source: from.1 }, to.1, length)
        };
        from.0.check(work, Class::Read)?;
        to.0.check(work, Class::Write)?;
        match work.part(part).await.1 {
            Ok(_) => Ok(true),
            Err(error) if error.kind == ErrorKind::Unsupported => Ok(false),
            Err(error) => Err(condition_of(&error, true, to.0.limits.block_length)),
        }
    }
}

async fn through_memory(work: &Work, from: Place<'_>, to: Place<'_>, length: u64) -> Result<(), Condition> {
    let memory = work.copy_memory().await?;
    let reading = Part::new(&from.0.unit, Operation::Read, from.1, length).with(memory, length);
    let (memory, result) = read(work, from.0, reading).await?;
    result.map_err(|error| condition_of(&error, false, from.0.limits.block_length))?;
    let memory = memory.ok_or(super::FAILED)?;
    let bytes = memory.bytes().get(..length as usize).unwrap_or_default();
    let writing = if thin(to.0) && bytes.iter().all(|byte| *byte == 0) {
        drop(memory);
        Part::new(&to.0.unit, Operation::WriteZeroes { unmap: true, durable: false }, to.1, length)
    } else {
        Part::new(&to.0.unit, Operation::Write { durable: false }, to.1, length).with(memory, length)
    };
    // A source that forgot its data meanwhile is not to be found again at the destination.
    from.0.check(work, Class::Read)?;
    write(work, to.0, writing).await
}

/// The extent reads as zeros afterwards.
pub(crate) async fn write_zeros(work: &Work, record: &CopyRecord, to: &Reach, extent: Extent) -> Result<(), Condition> {
    let zeros = Operation::WriteZeroes { unmap: thin(to), durable: false };
    let mut done = 0;
    while done < extent.length {
        let step = (extent.length - done).min(SYSTEM_STEP);
        write(work, to, Part::new(&to.unit, zeros, extent.offset + done, step)).await?;
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
