//! EXTENDED COPY, and RECEIVE COPY RESULTS for all copies (SPC-4 6.4, 6.18 to 6.24).

use super::{Outcome, field, token};
use crate::commons::flag;
use crate::copy::{CopyRecord, IMPOSSIBLE, Reach, Running, UNREACHABLE, aborted, finish, move_bytes};
use crate::lane::Execution;
use crate::mail::Extent;
use crate::operation::{Ending, Owner, Work};
use block::Limits;
use scsi::copy::list::{self, CopyList, Form, Segment, THIS_UNIT};
use scsi::copy::results::{self, Report};
use scsi::{Condition, SenseKey, inquiry};
use std::sync::Arc;

/// Bytes of the longest parameter list that is looked at.
pub(super) const MAXIMUM_LIST: u64 = 1 << 16;

/// What VPD 8Fh tells of all this.
pub(crate) fn offer(limits: &Limits) -> inquiry::ThirdPartyCopy<'static> {
    inquiry::ThirdPartyCopy {
        commands: COMMANDS,
        tokens: Some(token::limits(limits)),
        lists: Some(inquiry::CopyListLimits {
            maximum_cscds: list::MAXIMUM_CSCDS,
            maximum_segments: list::MAXIMUM_SEGMENTS,
            maximum_descriptor_bytes: list::MAXIMUM_DESCRIPTOR_BYTES,
            maximum_inline_bytes: 0,
            descriptor_types: list::DESCRIPTOR_TYPES,
            concurrent: results::CONCURRENT.into(),
            maximum_segment_bytes: list::MAXIMUM_SEGMENT_BYTES,
        }),
    }
}

const COMMANDS: &[(u8, &[u8])] = &[(0x83, &[0x00, 0x01, 0x10, 0x11]), (0x84, &[0x00, 0x03, 0x05, 0x07])];

/// EXTENDED COPY, both forms.
pub(super) fn extended_copy(execution: &mut Execution<'_>) -> Outcome {
    let form = if field(execution.cdb, 1, 1) & 0x1F == 0 { Form::Lid1 } else { Form::Lid4 };
    with_list(execution, async move |work, bytes| extended(work, form, bytes).await)
}

/// A copy command with the list that bytes 10 to 13 of the CDB measure.
pub(super) fn with_list<F>(execution: &mut Execution<'_>, run: F) -> Outcome
where
    F: AsyncFnOnce(&Work, &[u8]) -> Result<(), Condition> + 'static,
{
    let length = field(execution.cdb, 10, 4);
    match length {
        // Nothing to copy is no error (SPC-4 6.4.1).
        0 => Outcome::Good,
        1..=MAXIMUM_LIST => execution.long(async move |work: Work| {
            let bytes = work.parameter_list(length as usize).await?;
            // Its steps are tasks of their own.
            work.touches(Extent::NOTHING);
            run(&work, &bytes).await?;
            Ending::good(length)
        }),
        _ => Outcome::Check(Condition::PARAMETER_LIST_LENGTH_ERROR),
    }
}

/// Does what a copy that has begun is for, and tells its end; behind the command's back where that is IMMED.
pub(super) async fn perform<F>(work: &Work, running: Running, immediate: bool, copy: F) -> Result<(), Condition>
where
    F: AsyncFnOnce(&Work, &CopyRecord) -> Result<(), Condition> + 'static,
{
    if !immediate {
        let result = copy(work, &running).await;
        return running.end(result);
    }
    running.in_background();
    let operation = async move |work: Work| {
        let result = copy(&work, &running).await;
        running.end(result)
    };
    work.in_background(Owner::Nexus, true, operation).await
}

async fn extended(work: &Work, form: Form, bytes: &[u8]) -> Result<(), Condition> {
    let list = list::parse(form, bytes)?;
    let reaches = reaches(work, &list)?;
    let running = work.copies.begin(list.identifier, form as u8)?;
    let copy =
        async move |work: &Work, record: &CopyRecord| copy_segments(work, record, &reaches, &list.segments).await;
    perform(work, running, list.immediate, copy).await
}

/// The units that the descriptors name; None for those that this initiator has not. Whether there are
/// others of that name it does not learn.
fn reaches(work: &Work, list: &CopyList) -> Result<Vec<Option<Reach>>, Condition> {
    let mut reaches = Vec::new();
    for cscd in &list.cscds {
        let reach = if cscd.null { None } else { Reach::named(work, cscd) };
        if let Some(reach) = &reach
            && reach.limits.block_length != cscd.block_length
        {
            return Err(Condition::invalid_parameter((cscd.at + 29) as u16, None));
        }
        reaches.push(reach);
    }
    for (number, segment) in (0u32..).zip(&list.segments) {
        for id in [segment.source, segment.destination] {
            let named = list.cscds.get(usize::from(id)).is_some_and(|cscd| !cscd.null);
            if id != THIS_UNIT && !named {
                return Err(aborted(IMPOSSIBLE, number));
            }
        }
    }
    Ok(reaches)
}

async fn copy_segments(
    work: &Work,
    record: &CopyRecord,
    reaches: &[Option<Reach>],
    segments: &[Segment],
) -> Result<(), Condition> {
    let own = Reach::own(work);
    let find = |id: u16| match id {
        THIS_UNIT => own.clone(),
        id => reaches.get(usize::from(id)).cloned().flatten(),
    };
    let mut written: Vec<Reach> = Vec::new();
    let mut result = Ok(());
    for (number, segment) in (0u32..).zip(segments) {
        let copied = async {
            let (from, to) = (find(segment.source).ok_or(UNREACHABLE)?, find(segment.destination).ok_or(UNREACHABLE)?);
            let (source, target) = extents(segment, &from, &to)?;
            if !written.iter().any(|other| Arc::ptr_eq(&other.unit, &to.unit)) {
                written.push(to.clone());
            }
            move_bytes(work, record, (&from, source.offset), (&to, target.offset), target.length).await
        };
        result = copied.await.map_err(|condition| aborted(condition, number));
        if result.is_err() {
            break;
        }
        record.segment_done();
    }
    // What is told to be written is stable, however the copy ends.
    for to in written {
        let finished = finish(work, &to).await.map_err(|condition| aborted(condition, segments.len() as u32));
        result = result.and(finished);
    }
    result
}

/// The bytes of a segment in both units, where they have them.
fn extents(segment: &Segment, from: &Reach, to: &Reach) -> Result<(Extent, Extent), Condition> {
    let counted = if segment.counts_destination { to } else { from };
    let length = u64::from(segment.blocks) * counted.block();
    let within = |reach: &Reach, block: u64| {
        if !length.is_multiple_of(reach.block()) {
            // UNEXPECTED INEXACT SEGMENT.
            return Err(Condition::new(SenseKey::CopyAborted, 0x26, 0x0A));
        }
        super::extent_of(&reach.limits, block, length / reach.block()).map_err(|_| IMPOSSIBLE)
    };
    Ok((within(from, segment.source_block)?, within(to, segment.destination_block)?))
}

/// COPY STATUS (LID1).
pub(super) fn copy_status_lid1(execution: &mut Execution<'_>) -> Outcome {
    tell(execution, 1, results::copy_status_lid1)
}

/// OPERATING PARAMETERS.
pub(super) fn operating_parameters(execution: &mut Execution<'_>) -> Outcome {
    results::operating_parameters(execution.data);
    Outcome::Data(field(execution.cdb, 10, 4) as usize)
}

/// COPY STATUS (LID4).
pub(super) fn copy_status_lid4(execution: &mut Execution<'_>) -> Outcome {
    tell(execution, 4, results::copy_status_lid4)
}

/// RECEIVE ROD TOKEN INFORMATION.
pub(super) fn rod_token_information(execution: &mut Execution<'_>) -> Outcome {
    tell(execution, 4, results::rod_token_information)
}

fn tell(execution: &mut Execution<'_>, width: usize, encode: fn(&Report<'_>, &mut Vec<u8>)) -> Outcome {
    let (identifier, room) = (field(execution.cdb, 2, width) as u32, field(execution.cdb, 10, 4) as usize);
    let block_length = execution.limits().block_length;
    let descriptor = execution.flags() & flag::DESCRIPTOR_SENSE != 0;
    let mut data = std::mem::take(execution.data);
    let told = execution.copies();
    let told = told.and_then(|copies| copies.tell(identifier, block_length, room, descriptor, &mut data, encode));
    *execution.data = data;
    match told {
        Some(()) => Outcome::Data(room),
        None => Outcome::Check(Condition::invalid_cdb_field(2, None)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spc_02_vpd_8f_lists_the_copy_commands_of_the_table() {
        let table = |opcode| {
            let rows = super::super::COMMANDS.iter().filter(move |row| row.opcode == opcode);
            rows.filter_map(|row| row.service_action).collect::<Vec<_>>()
        };
        for (opcode, actions) in COMMANDS {
            assert_eq!(table(*opcode), *actions, "{opcode:02x}");
        }
    }
}
