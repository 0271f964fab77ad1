//! What went wrong at the other end, as a line and an exit code.

use crate::failure::{Cause, Failure};
use initiator::Error;

/// LOGICAL UNIT NOT SUPPORTED.
const NO_SUCH_UNIT: (u8, u8, u8) = (0x05, 0x25, 0x00);

/// The failure of what was done with this address (or part of one, without secrets).
pub fn of(what: impl std::fmt::Display, error: &Error) -> Failure {
    let line = format!("{what}: {error}");
    let cause = match error {
        Error::Invalid(_) => return Failure::input(line),
        Error::UnknownHost { .. } | Error::Network { .. } | Error::Gone { .. } => Cause::Unreachable,
        Error::TimedOut { .. } => Cause::TimedOut,
        Error::LoginRefused { class: 2, detail: 1, .. } | Error::Authentication { .. } => Cause::Authentication,
        Error::LoginRefused { class: 2, detail: 3, .. } => Cause::NotFound,
        Error::LoginRefused { .. } => Cause::Refused,
        Error::Scsi(scsi) if scsi.condition() == Some(NO_SUCH_UNIT) => return no_unit(what),
        Error::Scsi(scsi) if scsi.is_reservation_conflict() => Cause::InUse,
        _ => return Failure::runtime(line),
    };
    Failure::because(cause, line)
}

/// The LUN is not there, or not for this initiator: the target does not tell which.
pub fn no_unit(what: impl std::fmt::Display) -> Failure {
    let line = format!("{what}: there is no such LUN, or it is not shown to this initiator; see `lunette ls`");
    Failure::because(Cause::NotFound, line)
}
