//! SANITIZE and FORMAT UNIT (SBC-4 5.30, 5.4): a medium without what was on it.

use super::{Outcome, field};
use crate::fault::condition_of;
use crate::lane::Execution;
use crate::mail::Extent;
use crate::occupation::{self, FORMAT_FAILED, Occupied, SANITIZE_FAILED, State};
use crate::operation::{Ending, Held, Owner, SCRATCH_BYTES, Verdict, Work};
use block::Operation;
use scsi::Condition;

/// Bytes that one request of a store turns into zeros: no more than memory can in a few milliseconds, as
/// the commands of others wait for that long.
const ERASE_BYTES: u64 = 16 << 20;

/// What the medium holds afterwards.
enum Content {
    /// Zeros, without space behind them where the store can give it back.
    Zeros,
    /// What was there, under a key that nobody has.
    Noise,
    /// This pattern in each block, so many times over, each time inverted where that is wanted.
    Pattern { pattern: Vec<u8>, passes: u8, invert: bool },
}

/// SANITIZE, OVERWRITE.
pub(super) fn overwrite(execution: &mut Execution<'_>) -> Outcome {
    let length = field(execution.cdb, 7, 2);
    if length < 5 || length > execution.block() + 4 {
        return Outcome::Check(Condition::invalid_cdb_field(7, Some(7)));
    }
    match begins(execution) {
        Err(condition) => Outcome::Check(condition),
        Ok((immediate, restricted)) => execution.long(move |work| async move {
            let list = work.parameter_list(length as usize).await?;
            let content = pattern_of(&list, work.block())?;
            sanitize(&work, content, immediate, restricted, length).await
        }),
    }
}

/// SANITIZE, BLOCK ERASE: the space is given back, and all blocks read as zeros (WABEREQ 01b).
pub(super) fn block_erase(execution: &mut Execution<'_>) -> Outcome {
    match begins(execution) {
        Err(condition) => Outcome::Check(condition),
        Ok((immediate, restricted)) => {
            execution.long(move |work| async move { sanitize(&work, Content::Zeros, immediate, restricted, 0).await })
        }
    }
}

/// SANITIZE, CRYPTOGRAPHIC ERASE: the store forgets the key of its data (WACEREQ 01b).
pub(super) fn cryptographic_erase(execution: &mut Execution<'_>) -> Outcome {
    match begins(execution) {
        Err(condition) => Outcome::Check(condition),
        Ok((immediate, restricted)) => {
            execution.long(move |work| async move { sanitize(&work, Content::Noise, immediate, restricted, 0).await })
        }
    }
}

/// SANITIZE, EXIT FAILURE MODE. IMMED and AUSE say nothing here.
pub(super) fn exit_failure_mode(execution: &mut Execution<'_>) -> Outcome {
    match execution.unit().is_none_or(|unit| occupation::exit_failure_mode(unit)) {
        true => Outcome::Good,
        false => Outcome::Check(Condition::invalid_cdb_field(1, Some(4))),
    }
}

/// IMMED, and whether AUSE is 0. After a restricted failure only a restricted operation may follow.
fn begins(execution: &Execution<'_>) -> Result<(bool, bool), Condition> {
    let flags = field(execution.cdb, 1, 1);
    let (immediate, restricted) = (flags & 0x80 != 0, flags & 0x20 == 0);
    let state = execution.unit().map(|unit| unit.commons.occupation.state());
    match state {
        Some(State::SanitizeFailed { restricted: true }) if !restricted => {
            Err(Condition::invalid_cdb_field(1, Some(5)))
        }
        _ => Ok((immediate, restricted)),
    }
}

/// The parameter list of OVERWRITE (SBC-4 5.30.2.2).
fn pattern_of(list: &[u8], block: u64) -> Result<Content, Condition> {
    let (flags, length) = (field(list, 0, 1), field(list, 2, 2));
    // TEST leaves a medium to be looked at that is not what it was told to be.
    if flags & 0x60 != 0 {
        return Err(Condition::invalid_parameter(0, Some(6)));
    }
    let passes = flags as u8 & 0x1f;
    if passes == 0 {
        return Err(Condition::invalid_parameter(0, Some(4)));
    }
    if field(list, 1, 1) != 0 {
        return Err(Condition::invalid_parameter(1, Some(7)));
    }
    let pattern = list.get(4..).and_then(|rest| rest.get(..length as usize));
    match pattern {
        Some(pattern) if length > 0 && length <= block => {
            Ok(Content::Pattern { pattern: pattern.to_vec(), passes, invert: flags & 0x80 != 0 })
        }
        _ => Err(Condition::invalid_parameter(2, Some(7))),
    }
}

async fn sanitize(work: &Work, content: Content, immediate: bool, restricted: bool, moved: u64) -> Verdict {
    let occupied = Occupied::sanitizing(&work.unit, restricted)?;
    work.in_background(Owner::Unit, immediate, |work| async move {
        renew(&work, &occupied, content).await.map_err(|_| SANITIZE_FAILED)?;
        occupied.succeed();
        Ok(())
    })
    .await?;
    Ending::good(moved)
}

/// FORMAT UNIT. There is one format and there are no defects: what remains is a medium of zeros.
pub(super) fn format_unit(execution: &mut Execution<'_>) -> Outcome {
    let flags = field(execution.cdb, 1, 1) as u8;
    let header = match (flags & 0x10 != 0, flags & 0x20 != 0) {
        // Without a list there is nothing that LONGLIST, CMPLST and the lists' format could speak of.
        (false, _) if flags & 0x2f != 0 => {
            return Outcome::Check(Condition::invalid_cdb_field(1, u8::try_from((flags & 0x2f).ilog2()).ok()));
        }
        (false, _) => 0,
        (true, false) => 4,
        (true, true) => 8,
    };
    execution.long(move |work| format(work, header))
}

async fn format(work: Work, header: usize) -> Verdict {
    let list = work.parameter_list(header).await?;
    let immediate = check_format_list(&list)?;
    let occupied = Occupied::formatting(&work.unit)?;
    work.in_background(Owner::Unit, immediate, |work| async move {
        renew(&work, &occupied, Content::Zeros).await.map_err(|_| FORMAT_FAILED)?;
        occupied.succeed();
        Ok(())
    })
    .await?;
    Ending::good(header as u64)
}

/// The header of a parameter list, short or long (SBC-4 5.4.2.2); returns IMMED. An initialization
/// pattern, protection information and a list of defects are not for this medium. With FOV the other
/// flags say how to look for defects and whether to stop at one, which is all the same without any.
fn check_format_list(list: &[u8]) -> Result<bool, Condition> {
    let flags = field(list, 1, 1) as u8;
    if field(list, 0, 1) != 0 {
        return Err(Condition::invalid_parameter(0, Some(7)));
    }
    if flags & 0x08 != 0 {
        return Err(Condition::invalid_parameter(1, Some(3)));
    }
    let without_fov = flags & 0x70;
    if flags & 0x80 == 0 && without_fov != 0 {
        return Err(Condition::invalid_parameter(1, u8::try_from(without_fov.ilog2()).ok()));
    }
    if flags & 0x05 != 0 {
        return Err(Condition::invalid_parameter(1, u8::try_from((flags & 0x05).ilog2()).ok()));
    }
    let (before, defects) = match list.len() {
        8 => (field(list, 2, 2), field(list, 4, 4)),
        _ => (0, field(list, 2, 2)),
    };
    if before != 0 {
        return Err(Condition::invalid_parameter(3, Some(7)));
    }
    if defects != 0 {
        return Err(Condition::invalid_parameter(if list.len() == 8 { 4 } else { 2 }, Some(7)));
    }
    Ok(flags & 0x02 != 0)
}

/// Gives the whole medium a new content, alone with it, and makes that stable.
async fn renew(work: &Work, occupied: &Occupied, content: Content) -> Result<(), Condition> {
    let _fence = work.fence(Extent::WHOLE).await;
    match content {
        Content::Zeros => {
            let unmap = work.limits.unmap.is_some_and(|unmap| unmap.reads_zeros);
            let mut at = 0;
            while at < work.limits.capacity() {
                let length = (work.limits.capacity() - at).min(ERASE_BYTES);
                let zeros = Operation::WriteZeroes { unmap, durable: false };
                work.over(zeros, Extent { offset: at, length }).await?;
                at += length;
                occupied.progress(u128::from(at), u128::from(work.limits.capacity()));
            }
            work.flush().await
        }
        Content::Noise => {
            // What is dirty is written first, beside the worker: what is left to the new key is short.
            work.flush().await?;
            let erased = work.unit.backend().erase_key();
            erased.map_err(|error| condition_of(&error, true, work.limits.block_length))
        }
        Content::Pattern { mut pattern, passes, invert } => {
            let mut scratch = work.scratch(work.limits.capacity()).await?;
            for pass in 0..passes {
                let done = (u128::from(pass), u128::from(passes));
                scratch = fill(work, occupied, scratch, &pattern, done).await?;
                // A pass that only ever was in a cache was none.
                work.flush().await?;
                if invert {
                    pattern.iter_mut().for_each(|byte| *byte = !*byte);
                }
            }
            Ok(())
        }
    }
}

/// One pass over the medium: each block is the pattern, again and again, cut off at the block's end.
async fn fill(
    work: &Work,
    occupied: &Occupied,
    mut scratch: Held,
    pattern: &[u8],
    (pass, passes): (u128, u128),
) -> Result<Held, Condition> {
    let (block, capacity) = (work.block() as usize, work.limits.capacity());
    let whole = scratch.bytes().len().min(SCRATCH_BYTES) / block * block;
    for place in scratch.bytes_mut().chunks_exact_mut(block) {
        place.iter_mut().zip(pattern.iter().cycle()).for_each(|(byte, value)| *byte = *value);
    }
    let mut at = 0;
    while at < capacity {
        let step = (capacity - at).min(whole as u64);
        scratch = work.write(scratch, 0..step as usize, at, false).await?;
        at += step;
        occupied.progress(pass * u128::from(capacity) + u128::from(at), passes * u128::from(capacity));
    }
    Ok(scratch)
}
