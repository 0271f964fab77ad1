//! PERSISTENT RESERVE IN and OUT (SPC-5 6.16, 6.17), RESERVE and RELEASE (SPC-2 7.16, 7.21).

use super::{Outcome, field};
use crate::StateKind;
use crate::commons::flag;
use crate::lane::Execution;
use crate::mail::Whom;
use crate::operation::{Ending, Verdict, Work};
use crate::reservation::{OutRequest, Refusal, Surroundings};
use scsi::{Condition, SenseKey, Status};
use std::sync::Arc;

/// The longest parameter list: far more TransportIDs than may be registered.
const MAXIMUM_LIST: u64 = 256 << 10;

/// RESERVE (6) and (10), of the whole unit.
pub(super) fn reserve(execution: &mut Execution<'_>) -> Outcome {
    execution.long(reserve_in_turn)
}

/// In turn: registrations that are being saved are as good as there.
async fn reserve_in_turn(work: Work) -> Verdict {
    let _turn = work.turn().await;
    match work.unit.commons.reservations.reserve_exclusive(&work.nexus) {
        Ok(()) => Ending::good(0),
        Err(Refusal::Conflict) => Ending::status(Status::ReservationConflict, 0),
        Err(refusal) => Err(condition(refusal)),
    }
}

/// RELEASE (6) and (10).
pub(super) fn release(execution: &mut Execution<'_>) -> Outcome {
    match execution.unit().map(|unit| unit.commons.reservations.release_exclusive(execution.identity())) {
        Some(Err(refusal)) => refused(refusal),
        _ => Outcome::Good,
    }
}

/// PERSISTENT RESERVE IN.
pub(super) fn reserve_in(execution: &mut Execution<'_>) -> Outcome {
    let (action, allocation) = (field(execution.cdb, 1, 1) as u8, field(execution.cdb, 7, 2) as usize);
    let mut data = std::mem::take(execution.data);
    let read = execution.unit().map(|unit| unit.commons.reservations.read(action, &mut data));
    *execution.data = data;
    match read {
        Some(Err(refusal)) => refused(refusal),
        _ => Outcome::Data(allocation),
    }
}

/// PERSISTENT RESERVE OUT.
pub(super) fn reserve_out(execution: &mut Execution<'_>) -> Outcome {
    let length = field(execution.cdb, 5, 4);
    if length > MAXIMUM_LIST {
        return Outcome::Check(Condition::PARAMETER_LIST_LENGTH_ERROR);
    }
    execution.long(move |work| change(work, length as usize))
}

async fn change(work: Work, length: usize) -> Verdict {
    let list = work.held_list(length).await?;
    let turn = work.turn().await;
    let cdb = work.cdb.bytes();
    let request =
        OutRequest { service_action: field(cdb, 1, 1) as u8, scope_type: field(cdb, 2, 1) as u8, list: list.bytes() };
    let initiators = work.unit.commons.initiators();
    let ports = work.port.groups().numbers();
    let surroundings = Surroundings { ports: &ports, initiators: &initiators };
    let reservations = &work.unit.commons.reservations;
    let mut prepared = match reservations.prepare(&work.nexus, request, surroundings) {
        Ok(prepared) => prepared,
        Err(Refusal::Conflict) => return Ending::status(Status::ReservationConflict, length as u64),
        Err(refusal) => return Err(condition(refusal)),
    };
    if let (Some(bytes), Some(store)) = (prepared.bytes.take(), reservations.store()) {
        let saved = work.save(store, StateKind::Reservations, bytes).await;
        reservations.saved(saved.is_ok());
        saved.map_err(|_| condition(Refusal::NotSaved))?;
    }
    let effects = reservations.commit(prepared);
    drop(turn);
    if !work.unit.commons.reservations.is_lost() {
        work.unit.commons.set_flags(0, flag::RESERVATIONS_LOST);
    }
    for (nexus, attention) in effects.attentions {
        let (code, qualifier) = attention.code();
        let condition = Condition::new(SenseKey::UnitAttention, code, qualifier);
        work.unit.attention(Whom::Port(nexus), condition);
    }
    if !effects.abort.is_empty() {
        let victims: Arc<[_]> = Arc::from(effects.abort);
        // A copy that has just no task here may be one of theirs.
        work.unit.commons.disturb(Some(Arc::clone(&victims)));
        work.end_tasks_of(victims).await;
    }
    Ending::good(length as u64)
}

fn refused(refusal: Refusal) -> Outcome {
    match refusal {
        Refusal::Conflict => Outcome::Status(Status::ReservationConflict),
        refusal => Outcome::Check(condition(refusal)),
    }
}

fn condition(refusal: Refusal) -> Condition {
    let illegal = |code, qualifier| Condition::new(SenseKey::IllegalRequest, code, qualifier);
    match refusal {
        // It is a status; where one must be a condition after all, it is that of a wrong request.
        Refusal::Conflict => illegal(0x24, 0x00),
        Refusal::InvalidCdbField(byte) => Condition::invalid_cdb_field(u16::from(byte), None),
        Refusal::InvalidListField(byte) => Condition::invalid_parameter(byte, None),
        Refusal::ListLength => Condition::PARAMETER_LIST_LENGTH_ERROR,
        Refusal::InvalidRelease => illegal(0x26, 0x04),
        Refusal::InsufficientResources => illegal(0x55, 0x04),
        Refusal::NotSaved => Condition::INTERNAL_TARGET_FAILURE,
    }
}
