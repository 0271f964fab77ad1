//! Space: UNMAP, WRITE SAME, GET LBA STATUS (SBC-4 5.5, 5.41, 5.48 to 5.50).

use super::medium::{Access, access_10, access_16, check_protection};
use super::{Outcome, extent_of, field};
use crate::lane::Execution;
use crate::mail::Extent;
use crate::operation::{Ending, SCRATCH_BYTES, Verdict, Work};
use block::{ExtentState, Limits, Operation, Outcome as StoreOutcome};
use scsi::{Condition, SenseKey};

/// The most blocks of one WRITE SAME (B0h, MAXIMUM WRITE SAME LENGTH).
pub(crate) const MAXIMUM_WRITE_SAME: u64 = 1 << 15;
/// The most blocks of one UNMAP (B0h, MAXIMUM UNMAP LBA COUNT).
pub(crate) const MAXIMUM_UNMAP: u32 = 1 << 20;
/// The most descriptors of one UNMAP.
pub(crate) const MAXIMUM_UNMAP_DESCRIPTORS: u32 = 256;
/// Bytes of a threshold set at least.
const THRESHOLD_SET_BYTES: u64 = 1 << 20;
/// Requests that one GET LBA STATUS makes; a shorter answer than could be given is allowed.
const STATUS_STEPS: usize = 64;
/// Descriptors of one GET LBA STATUS.
const STATUS_DESCRIPTORS: usize = 2048;

/// THRESHOLD EXPONENT (B2h): a set is a mebibyte, and more where the sets of the whole unit could not be
/// counted otherwise.
pub(crate) fn threshold_exponent(limits: &Limits) -> u8 {
    let least = (THRESHOLD_SET_BYTES / u64::from(limits.block_length.max(1))).max(2).ilog2();
    // The space of a file system may be larger than the unit; half the range is left for that.
    let needed = (u64::BITS - limits.blocks.leading_zeros()).saturating_sub(31);
    u8::try_from(least.max(needed)).unwrap_or(u8::MAX)
}

/// Bytes in threshold sets, as page 0Ch tells them and page 1Ch/02h counts them.
pub(crate) fn threshold_sets(limits: &Limits, bytes: u64) -> u32 {
    let blocks = bytes / u64::from(limits.block_length.max(1));
    u32::try_from(blocks.checked_shr(threshold_exponent(limits).into()).unwrap_or(0)).unwrap_or(u32::MAX)
}

/// UNMAP.
pub(super) fn unmap(execution: &mut Execution<'_>) -> Outcome {
    if field(execution.cdb, 1, 1) & 1 != 0 {
        // ANCHOR: ANC_SUP is 0.
        return Outcome::Check(Condition::invalid_cdb_field(1, Some(0)));
    }
    let length = field(execution.cdb, 7, 2) as usize;
    if length == 0 {
        return Outcome::Good;
    }
    execution.long(move |work| unmap_list(work, length))
}

async fn unmap_list(work: Work, length: usize) -> Verdict {
    let list = work.parameter_list(length).await?;
    let extents = unmap_extents(&work, &list)?;
    let first = extents.iter().map(|extent| extent.offset).min().unwrap_or(0);
    let end = extents.iter().map(|extent| extent.offset + extent.length).max().unwrap_or(0);
    work.touches(Extent { offset: first, length: end - first });
    for extent in extents {
        work.over(Operation::Unmap, extent).await?;
    }
    if work.writes_through() {
        work.flush().await?;
    }
    Ending::good(length as u64)
}

/// The extents of a parameter list (SBC-4 5.41.2): all of them are looked at before any is unmapped.
fn unmap_extents(work: &Work, list: &[u8]) -> Result<Vec<Extent>, Condition> {
    let descriptors = field(list, 2, 2) as usize;
    let body = list.get(8..).and_then(|body| body.get(..descriptors)).ok_or(Condition::PARAMETER_LIST_LENGTH_ERROR)?;
    // A last descriptor that is not whole is ignored (SBC-4 5.41.2).
    let (descriptors, _) = body.as_chunks::<16>();
    if descriptors.len() > MAXIMUM_UNMAP_DESCRIPTORS as usize {
        return Err(Condition::invalid_parameter(2, None));
    }
    let mut total: u64 = 0;
    let mut extents = Vec::with_capacity(descriptors.len());
    for (at, descriptor) in descriptors.iter().enumerate() {
        let (block, blocks) = (field(descriptor, 0, 8), field(descriptor, 8, 4));
        if blocks == 0 {
            continue;
        }
        total += blocks;
        if total > u64::from(MAXIMUM_UNMAP) {
            return Err(Condition::invalid_parameter(8 + 16 * at as u16 + 8, None));
        }
        extents.push(extent_of(&work.limits, block, blocks)?);
    }
    Ok(extents)
}

/// WRITE SAME (10).
pub(super) fn write_same_10(execution: &mut Execution<'_>) -> Outcome {
    write_same(execution, &access_10(execution.cdb), false)
}

/// WRITE SAME (16).
pub(super) fn write_same_16(execution: &mut Execution<'_>) -> Outcome {
    let no_data = field(execution.cdb, 1, 1) & 0x01 != 0;
    write_same(execution, &access_16(execution.cdb), no_data)
}

fn write_same(execution: &mut Execution<'_>, access: &Access, no_data: bool) -> Outcome {
    let flags = field(execution.cdb, 1, 1);
    let (anchor, unmap) = (flags & 0x10 != 0, flags & 0x08 != 0);
    let checked = check_protection(execution.cdb).and_then(|()| {
        if anchor {
            return Err(Condition::invalid_cdb_field(1, Some(4)));
        }
        if unmap && execution.limits().unmap.is_none() {
            return Err(Condition::invalid_cdb_field(1, Some(3)));
        }
        extent_of(execution.limits(), access.block, access.blocks)?;
        let blocks = match access.blocks {
            // WSNZ is 0: no blocks are all blocks to the end, where they are not too many.
            0 => execution.limits().blocks - access.block,
            blocks => blocks,
        };
        if blocks == 0 || blocks > MAXIMUM_WRITE_SAME {
            return Err(Condition::invalid_cdb_field(access.length_field, Some(7)));
        }
        let expected = if no_data { 0 } else { execution.block() };
        if execution.expected_out() != expected {
            // One block is to come, or none, and nothing else.
            return Err(Condition::invalid_cdb_field(if no_data { 1 } else { access.length_field }, None));
        }
        extent_of(execution.limits(), access.block, blocks)
    });
    match checked {
        Err(condition) => Outcome::Check(condition),
        Ok(extent) => execution.long(move |work| write_block_again(work, extent, unmap, no_data)),
    }
}

async fn write_block_again(work: Work, extent: Extent, unmap: bool, no_data: bool) -> Verdict {
    work.touches(extent);
    let block = work.block() as usize;
    let mut held = None;
    let mut moved = 0;
    if !no_data {
        let (data, received) = work.data_out(block as u64).await;
        if received < block {
            return Err(Condition::new(SenseKey::AbortedCommand, 0x0c, 0x0d));
        }
        (held, moved) = (data, block as u64);
    }
    let pattern = held.as_ref().and_then(|held| held.bytes().get(..block));
    let zeros = pattern.is_none_or(|pattern| pattern.iter().all(|byte| *byte == 0));
    if zeros {
        let unmap = unmap && work.limits.unmap.is_some_and(|unmap| unmap.reads_zeros);
        work.over(Operation::WriteZeroes { unmap, durable: work.writes_through() }, extent).await?;
        return Ending::good(moved);
    }
    let mut at = 0;
    let mut scratch = work.scratch(extent.length).await?;
    let whole = scratch.bytes().len().min(SCRATCH_BYTES) / block * block;
    for place in scratch.bytes_mut().chunks_exact_mut(block) {
        place.copy_from_slice(pattern.unwrap_or(&[]));
    }
    while at < extent.length {
        let step = (extent.length - at).min(whole as u64);
        scratch = work.write(scratch, 0..step as usize, extent.offset + at, false).await?;
        at += step;
    }
    Ending::good(moved)
}

/// GET LBA STATUS (16).
pub(super) fn get_lba_status(execution: &mut Execution<'_>) -> Outcome {
    let (block, allocation) = (field(execution.cdb, 2, 8), field(execution.cdb, 10, 4) as usize);
    match extent_of(execution.limits(), block, 1) {
        Err(condition) => Outcome::Check(condition),
        Ok(_) => execution.long(move |work| lba_status(work, block, allocation)),
    }
}

async fn lba_status(work: Work, block: u64, allocation: usize) -> Verdict {
    // Asking touches nothing.
    work.touches(Extent { offset: 0, length: 0 });
    let wanted = (allocation.saturating_sub(8) / 16).clamp(1, STATUS_DESCRIPTORS);
    let capacity = work.limits.capacity();
    let mut at = block * work.block();
    let mut runs: Vec<(u64, u64, ExtentState)> = Vec::new();
    for _ in 0..STATUS_STEPS {
        if at >= capacity || runs.len() > wanted {
            break;
        }
        let rest = Extent { offset: at, length: capacity - at };
        let found = match work.limits.unmap {
            // What cannot be unmapped is mapped.
            None => vec![block::Extent { offset: at, length: rest.length, state: ExtentState::Mapped }],
            Some(_) => match work.over(Operation::Extents, rest).await? {
                StoreOutcome::Extents(found) => whole_blocks(&found, work.block()),
                _ => break,
            },
        };
        for run in &found {
            match runs.last_mut() {
                Some((offset, length, state)) if *state == run.state && *offset + *length == run.offset => {
                    *length += run.length;
                }
                _ => runs.push((run.offset, run.length, run.state)),
            }
            at = run.offset + run.length;
        }
    }
    let descriptors = runs.iter().flat_map(|(offset, length, state)| {
        let (first, blocks) = (offset / work.block(), length / work.block());
        // A run longer than a descriptor can say is told by several (SBC-12).
        let longest = u64::from(u32::MAX);
        (0..blocks.div_ceil(longest)).map(move |part| {
            let skipped = part * longest;
            (first + skipped, (blocks - skipped).min(longest) as u32, *state)
        })
    });
    let descriptors: Vec<_> = descriptors.take(wanted).collect();
    let mut data = ((descriptors.len() * 16 + 4) as u32).to_be_bytes().to_vec();
    data.extend_from_slice(&[0; 4]);
    for (first, blocks, state) in descriptors {
        data.extend_from_slice(&first.to_be_bytes());
        data.extend_from_slice(&blocks.to_be_bytes());
        data.extend_from_slice(&[u8::from(state == ExtentState::Deallocated), 0, 0, 0]);
    }
    work.answer(&data, allocation)
}

/// Runs whose edges are blocks: a block of which a part has space behind it is mapped.
fn whole_blocks(runs: &[block::Extent], block: u64) -> Vec<block::Extent> {
    let mut whole: Vec<block::Extent> = Vec::with_capacity(runs.len());
    for run in runs {
        let (start, end) = (run.offset, run.offset + run.length);
        let (start, end) = match run.state {
            ExtentState::Mapped => (start / block * block, end.next_multiple_of(block)),
            ExtentState::Deallocated => (start.next_multiple_of(block), end / block * block),
        };
        // Two mapped runs can share a block.
        let start = whole.last().map_or(start, |last| start.max(last.offset + last.length));
        if start < end {
            whole.push(block::Extent { offset: start, length: end - start, state: run.state });
        }
    }
    whole
}
