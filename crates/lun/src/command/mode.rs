//! MODE SENSE and MODE SELECT (SPC-5 6.13 to 6.16).

use super::{Outcome, field};
use crate::StateKind;
use crate::lane::Execution;
use crate::mail::{Extent, Whom};
use crate::operation::{Ending, Verdict, Work};
use scsi::inquiry::DeviceType;
use scsi::mode::{BlockDescriptor, DeviceParameter, ListLength, PageControl, Refusal, SenseRequest};
use scsi::{Condition, SenseKey};

/// MODE SENSE (6).
pub(super) fn mode_sense_6(execution: &mut Execution<'_>) -> Outcome {
    let allocation = field(execution.cdb, 4, 1) as usize;
    mode_sense(execution, ListLength::Six, allocation)
}

/// MODE SENSE (10).
pub(super) fn mode_sense_10(execution: &mut Execution<'_>) -> Outcome {
    let allocation = field(execution.cdb, 7, 2) as usize;
    mode_sense(execution, ListLength::Ten, allocation)
}

fn mode_sense(execution: &mut Execution<'_>, length: ListLength, allocation: usize) -> Outcome {
    let (byte_1, byte_2) = (field(execution.cdb, 1, 1), field(execution.cdb, 2, 1) as u8);
    let descriptor =
        BlockDescriptor { blocks: execution.limits().blocks, block_length: execution.limits().block_length };
    let optical = execution.device_type() == DeviceType::Optical;
    let request = SenseRequest {
        length,
        // A drive has none (MMC-6 7.2).
        descriptor: (byte_1 & 0x08 == 0 && !optical).then_some(descriptor),
        long_descriptor: byte_1 & 0x10 != 0,
        control: match byte_2 >> 6 {
            0 => PageControl::Current,
            1 => PageControl::Changeable,
            2 => PageControl::Default,
            _ => PageControl::Saved,
        },
        page: byte_2 & 0x3f,
        subpage: field(execution.cdb, 3, 1) as u8,
    };
    let Some(unit) = execution.unit() else {
        return Outcome::Check(Condition::new(SenseKey::IllegalRequest, 0x25, 0x00));
    };
    let (mut values, saving) = (unit.commons.values(), unit.commons.saving());
    values.show_locked(unit.commons.is_prevented());
    let device = match optical {
        true => DeviceParameter::default(),
        false => DeviceParameter { write_protected: execution.is_write_protected(), dpo_fua: true },
    };
    match values.sense(request, device, saving, execution.data) {
        Ok(true) => Outcome::Data(allocation),
        Ok(false) => Outcome::Check(Condition::new(SenseKey::IllegalRequest, 0x39, 0x00)),
        Err(refusal) => Outcome::Check(refused(refusal)),
    }
}

fn refused(refusal: Refusal) -> Condition {
    match refusal {
        Refusal::InvalidCdbField(byte) => Condition::invalid_cdb_field(u16::from(byte), None),
        Refusal::InvalidListField { byte, bit } => Condition::invalid_parameter(byte, bit),
        Refusal::ListLength => Condition::PARAMETER_LIST_LENGTH_ERROR,
    }
}

/// MODE SELECT (6).
pub(super) fn mode_select_6(execution: &mut Execution<'_>) -> Outcome {
    let length = field(execution.cdb, 4, 1) as usize;
    mode_select(execution, ListLength::Six, length)
}

/// MODE SELECT (10).
pub(super) fn mode_select_10(execution: &mut Execution<'_>) -> Outcome {
    let length = field(execution.cdb, 7, 2) as usize;
    mode_select(execution, ListLength::Ten, length)
}

fn mode_select(execution: &mut Execution<'_>, form: ListLength, length: usize) -> Outcome {
    let flags = field(execution.cdb, 1, 1);
    if flags & 0x10 == 0 && length > 0 {
        // PF 0: pages of a vendor's own format, which there are not.
        return Outcome::Check(Condition::invalid_cdb_field(1, Some(4)));
    }
    let save = flags & 0x01 != 0;
    execution.long(move |work| select(work, form, save, length))
}

async fn select(work: Work, form: ListLength, save: bool, length: usize) -> Verdict {
    let list = work.held_list(length).await?;
    let blocks = BlockDescriptor { blocks: work.limits.blocks, block_length: work.limits.block_length };
    let commons = &work.unit.commons;
    let saving = commons.saving();
    let locked = commons.is_prevented();
    let turn = work.turn().await;
    // An initiator may send back what he was shown.
    let mut shown = commons.values();
    shown.show_locked(locked);
    let mut next = shown.select(form, save, blocks, list.bytes(), saving).map_err(refused)?;
    next.show_locked(false);
    if save && let Some(store) = commons.store() {
        let saved = work.save(store, StateKind::ModePages, next.to_saved()).await;
        // INTERNAL TARGET FAILURE: what was to be saved was not; nothing has changed.
        saved.map_err(|_| Condition::INTERNAL_TARGET_FAILURE)?;
    }
    let changed = commons.apply(next);
    drop(turn);
    if changed {
        let changed = Condition::new(SenseKey::UnitAttention, 0x2a, 0x01);
        work.unit.attention(Whom::AllBut(work.place), changed);
        work.unit.watch_space();
        if commons.flags() & crate::commons::flag::WRITE_THROUGH != 0 {
            // With WCE 0 everything that is answered is stable: what was answered before, and what has begun.
            let _fence = work.fence(Extent::WHOLE).await;
            work.flush().await?;
        }
    }
    Ending::good(length as u64)
}
