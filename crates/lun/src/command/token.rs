//! POPULATE TOKEN and WRITE USING TOKEN (SBC-3 5.7, 5.46): a copy in two commands, between which whoever
//! has the token decides where to.

use super::copy::{perform, with_list};
use super::{Outcome, extent_of, field};
use crate::copy::{CopyRecord, Reach, Represented, aborted, finish, move_bytes, write_zeros};
use crate::lane::Execution;
use crate::operation::Work;
use block::Limits;
use scsi::copy::token::{self, ACCESS_UPON_REFERENCE, BLOCK_ZERO, MAXIMUM_RANGES, Range, WriteUsing};
use scsi::vpd::designation::naa;
use scsi::{Condition, SenseKey, inquiry};
use std::time::Duration;

/// Bytes that one token stands for, and that one WRITE USING TOKEN writes, at most.
const MAXIMUM_BYTES: u64 = 1 << 30;
/// Bytes that are best: more than the way to the initiator and back is worth, and soon done.
const OPTIMAL_BYTES: u64 = 64 << 20;
/// INACTIVITY TIMEOUT where none is asked for, in seconds.
const DEFAULT_INACTIVITY: u32 = 300;
/// The longest.
const MAXIMUM_INACTIVITY: u32 = 3600;

/// For VPD 8Fh.
pub(super) fn limits(limits: &Limits) -> inquiry::TokenLimits {
    let block_length = limits.block_length.max(1);
    inquiry::TokenLimits {
        block_length,
        maximum_ranges: MAXIMUM_RANGES,
        maximum_inactivity_s: MAXIMUM_INACTIVITY,
        default_inactivity_s: DEFAULT_INACTIVITY,
        maximum_blocks: MAXIMUM_BYTES / u64::from(block_length),
        optimal_blocks: OPTIMAL_BYTES / u64::from(block_length),
    }
}

/// POPULATE TOKEN.
pub(super) fn populate_token(execution: &mut Execution<'_>) -> Outcome {
    let identifier = list_identifier(execution);
    with_list(execution, async move |work, bytes| populate(work, identifier, bytes))
}

/// WRITE USING TOKEN.
pub(super) fn write_using_token(execution: &mut Execution<'_>) -> Outcome {
    let identifier = list_identifier(execution);
    with_list(execution, async move |work, bytes| write_using(work, identifier, bytes).await)
}

fn list_identifier(execution: &Execution<'_>) -> u32 {
    field(execution.cdb, 6, 4) as u32
}

fn populate(work: &Work, identifier: u32, bytes: &[u8]) -> Result<(), Condition> {
    let list = token::parse_populate(bytes)?;
    if list.rod_type.is_some_and(|wanted| wanted != ACCESS_UPON_REFERENCE) {
        return Err(Condition::invalid_parameter(8, None));
    }
    if list.inactivity_timeout > MAXIMUM_INACTIVITY {
        return Err(Condition::invalid_parameter(4, None));
    }
    let total = total(work, &list.ranges, 14)?;
    let running = work.copies.begin(Some(identifier), 0x10)?;
    let timeout = if list.inactivity_timeout == 0 { DEFAULT_INACTIVITY } else { list.inactivity_timeout };
    let represented = Represented { ranges: list.ranges.into(), block_length: work.limits.block_length };
    let name = naa(work.unit.identity().uuid);
    let made = work.unit.commons.tokens.create(
        name,
        &work.nexus,
        represented,
        Duration::from_secs(timeout.into()),
        (work.clock)(),
        &work.random,
    );
    // There is nothing that would take long: IMMED changes nothing.
    let result = match made {
        Some(token) => {
            running.give_token(&token);
            running.advance(total);
            running.segment_done();
            Ok(())
        }
        None => Err(Condition::INTERNAL_TARGET_FAILURE),
    };
    running.end(result)
}

/// The bytes of ranges, which must be the unit's and not too many. `at` is where the list counts them.
fn total(work: &Work, ranges: &[Range], at: u16) -> Result<u64, Condition> {
    let mut bytes = 0;
    for range in ranges {
        bytes += extent_of(&work.limits, range.block, range.blocks.into())?.length;
    }
    match bytes {
        0..=MAXIMUM_BYTES => Ok(bytes),
        _ => Err(Condition::invalid_parameter(at, None)),
    }
}

/// What a token gives.
enum Content {
    Zeros,
    /// Blocks of a unit, from so many bytes on.
    Blocks {
        from: Reach,
        represented: Represented,
        skip: u64,
    },
}

async fn write_using(work: &Work, identifier: u32, bytes: &[u8]) -> Result<(), Condition> {
    let list = token::parse_write_using(bytes)?;
    let total = total(work, &list.ranges, 534)?;
    let content = content(work, &list, total)?;
    let running = work.copies.begin(Some(identifier), 0x11)?;
    let immediate = list.immediate;
    let copy = async move |work: &Work, record: &CopyRecord| write(work, record, &content, &list).await;
    perform(work, running, immediate, copy).await
}

/// What the token of a list stands for. A token of a unit that this initiator has not is unknown to it.
fn content(work: &Work, list: &WriteUsing, total: u64) -> Result<Content, Condition> {
    let refused = |qualifier| Condition::new(SenseKey::IllegalRequest, 0x23, qualifier);
    match token::rod_type(&list.token) {
        // INVALID TOKEN LENGTH, UNSUPPORTED TOKEN TYPE.
        None => return Err(refused(0x0A)),
        Some(BLOCK_ZERO) => return Ok(Content::Zeros),
        Some(ACCESS_UPON_REFERENCE) => {}
        Some(_) => return Err(refused(0x01)),
    }
    // TOKEN UNKNOWN.
    let unknown = refused(0x04);
    let from = token::creator(&list.token).and_then(|name| Reach::with_naa(work, name)).ok_or(unknown)?;
    let represented = from.unit.commons.tokens.find(&list.token, (work.clock)()).ok_or(unknown)?;
    if represented.block_length != from.limits.block_length {
        // TOKEN REVOKED: the unit is not what it was.
        return Err(refused(0x06));
    }
    let blocks: u64 = represented.ranges.iter().map(|range| u64::from(range.blocks)).sum();
    let rest = list.offset.checked_mul(work.block()).and_then(|skip| (blocks * from.block()).checked_sub(skip));
    match rest {
        Some(rest) if total <= rest && (list.offset * work.block()).is_multiple_of(from.block()) => {
            Ok(Content::Blocks { skip: list.offset * work.block(), from, represented })
        }
        _ => Err(Condition::invalid_parameter(8, None)),
    }
}

async fn write(work: &Work, record: &CopyRecord, content: &Content, list: &WriteUsing) -> Result<(), Condition> {
    let to = Reach::own(work).ok_or(Condition::new(SenseKey::IllegalRequest, 0x25, 0x00))?;
    let written = write_ranges(work, record, content, list, &to).await;
    // What is told to be written is stable, however the copy ends.
    let finished = finish(work, &to).await.map_err(|condition| aborted(condition, list.ranges.len() as u32));
    written.and(finished)?;
    if let (true, Content::Blocks { from, .. }) = (list.forget, content) {
        from.unit.commons.tokens.forget(&list.token);
    }
    Ok(())
}

async fn write_ranges(
    work: &Work,
    record: &CopyRecord,
    content: &Content,
    list: &WriteUsing,
    to: &Reach,
) -> Result<(), Condition> {
    let Content::Blocks { from, represented, skip } = content else {
        for (number, range) in (0u32..).zip(&list.ranges) {
            let target = extent_of(&to.limits, range.block, range.blocks.into())?;
            write_zeros(work, record, to, target).await.map_err(|condition| aborted(condition, number))?;
            record.segment_done();
        }
        return Ok(());
    };
    let mut number = 0;
    for piece in pieces(from, &represented.ranges, *skip, to, &list.ranges)? {
        if piece.range != number {
            record.segment_done();
            number = piece.range;
        }
        let moved = move_bytes(work, record, (from, piece.source), (to, piece.target), piece.length).await;
        moved.map_err(|condition| aborted(condition, number))?;
    }
    record.segment_done();
    Ok(())
}

/// Bytes that stand together in both units.
#[derive(Debug, PartialEq, Eq)]
struct Piece {
    /// The range of the destination, by its number.
    range: u32,
    source: u64,
    target: u64,
    length: u64,
}

/// What a token gives to the ranges of a destination, from its byte `skip` on. Ranges of units with
/// different blocks may end in the midst of each other's blocks; that is refused before anything is done.
fn pieces(from: &Reach, given: &[Range], skip: u64, to: &Reach, taken: &[Range]) -> Result<Vec<Piece>, Condition> {
    let mut sources = given.iter();
    let (mut at, mut rest) = (0, 0);
    let mut skip = skip;
    let mut pieces = Vec::new();
    for (range, wanted) in (0u32..).zip(taken) {
        let target = extent_of(&to.limits, wanted.block, wanted.blocks.into())?;
        let mut done = 0;
        while done < target.length {
            if rest == 0 {
                // There is enough: that was looked at before.
                let next = sources.next().ok_or(Condition::invalid_parameter(8, None))?;
                let source = extent_of(&from.limits, next.block, next.blocks.into())?;
                let skipped = skip.min(source.length);
                skip -= skipped;
                (at, rest) = (source.offset + skipped, source.length - skipped);
                continue;
            }
            let length = rest.min(target.length - done);
            if !length.is_multiple_of(to.block()) || !length.is_multiple_of(from.block()) {
                return Err(aborted(Condition::new(SenseKey::CopyAborted, 0x26, 0x0A), range));
            }
            pieces.push(Piece { range, source: at, target: target.offset + done, length });
            (at, rest, done) = (at + length, rest - length, done + length);
        }
    }
    Ok(pieces)
}
