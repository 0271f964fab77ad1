//! What can go wrong, in words: who refused what, and the sense data that came with it.

use iscsi::login::Status as LoginStatus;
use std::time::Duration;

/// Why a session could not be had, or a command did not succeed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Options or a command that cannot be.
    #[error("{0}")]
    Invalid(String),
    /// The host's name could not be found out.
    #[error("cannot find the host {host}: {why}")]
    UnknownHost {
        /// As it was given.
        host: String,
        /// What the resolver says.
        why: String,
    },
    /// The network: refused, unreachable, reset.
    #[error("{portal}: {why}")]
    Network {
        /// Address and port.
        portal: String,
        /// The kind of it.
        kind: std::io::ErrorKind,
        /// In words.
        why: String,
    },
    /// Something did not come in time.
    #[error("{what} within {limit:?}")]
    TimedOut {
        /// What did not happen.
        what: String,
        /// How long was waited.
        limit: Duration,
    },
    /// The target refuses the login (RFC 7143 §11.13.5).
    #[error("{target} refuses the login: {} (status {class:02x}{detail:02x}h)", login_words(*class, *detail))]
    LoginRefused {
        /// The target's name, or the portal of a discovery session.
        target: String,
        /// Status-Class.
        class: u8,
        /// Status-Detail.
        detail: u8,
    },
    /// One of both could not show who it is.
    #[error("authentication with {target}: {why}")]
    Authentication {
        /// The target's name.
        target: String,
        /// What was wrong.
        why: String,
    },
    /// The target broke a rule of the protocol.
    #[error("{target} breaks the protocol: {why}")]
    Protocol {
        /// The target's name.
        target: String,
        /// Which.
        why: String,
    },
    /// The unit answered with another status than success.
    #[error(transparent)]
    Scsi(#[from] ScsiError),
    /// The target rejected the command's PDU (RFC 7143 §11.17.1).
    #[error("the target rejects the command: {0}")]
    Rejected(String),
    /// The target could not carry the command out, without a SCSI status (RFC 7143 §11.4.3).
    #[error("the target fails: response {0:02x}h")]
    TargetFailure(u8),
    /// Less data moved than the command is about.
    #[error("{moved} of {expected} bytes were transferred")]
    Short {
        /// Bytes that moved.
        moved: u64,
        /// Bytes that should have.
        expected: u64,
    },
    /// A task management function ended the command. Whether it was executed is not known.
    #[error("the command was aborted, and may have been executed or not")]
    Aborted,
    /// The connection was lost while the command was under way, and it may not be sent twice.
    #[error("the connection was lost while the command was under way; it may have been executed or not")]
    Interrupted,
    /// No session within the replacement timeout.
    #[error("no session with {target} for {after:?}: {last}")]
    Gone {
        /// The target's name.
        target: String,
        /// For how long by now, at least.
        after: Duration,
        /// Why the last attempt failed.
        last: String,
    },
    /// A task management function was answered with another code than "complete" (RFC 7143 §11.6.1).
    #[error("the target does not carry the function out: {}", function_words(*.0))]
    Function(u8),
    /// The iSNS server refuses a query (RFC 4171 §5.4).
    #[error("the iSNS server {server} refuses the query: {why}")]
    Isns {
        /// Address and port.
        server: String,
        /// Its status in words.
        why: String,
    },
    /// The session was logged out.
    #[error("the session is closed")]
    Closed,
}

impl Error {
    /// What the unit said, where it did.
    pub fn scsi(&self) -> Option<&ScsiError> {
        match self {
            Error::Scsi(error) => Some(error),
            _ => None,
        }
    }

    /// Whether another path, or another attempt later, may succeed where this one did not.
    pub fn is_transport(&self) -> bool {
        matches!(
            self,
            // What the target lacks, and not what we did wrong (RFC 7143 §11.13.5).
            Error::LoginRefused { class: 3, .. }
                | Error::Network { .. }
                | Error::TimedOut { .. }
                | Error::Protocol { .. }
                | Error::Gone { .. }
                | Error::Closed
                | Error::Interrupted
                | Error::Aborted
                | Error::UnknownHost { .. }
        )
    }
}

/// A SCSI status other than success, with its sense data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScsiError {
    /// SAM-5 status.
    pub status: u8,
    /// Sense data, without its length; empty where the status has none.
    pub sense: Vec<u8>,
}

impl ScsiError {
    /// SENSE KEY, ADDITIONAL SENSE CODE and qualifier.
    pub fn condition(&self) -> Option<(u8, u8, u8)> {
        scsi::sense::parse(&self.sense).map(|parsed| (parsed.key, parsed.code.0, parsed.code.1))
    }

    /// INFORMATION: an LBA or an offset, where the sense data has one.
    pub fn information(&self) -> Option<u64> {
        scsi::sense::parse(&self.sense).and_then(|parsed| parsed.information)
    }

    /// Whether another nexus holds a reservation.
    pub fn is_reservation_conflict(&self) -> bool {
        self.status == scsi::Status::ReservationConflict as u8
    }
}

impl std::error::Error for ScsiError {}

impl std::fmt::Display for ScsiError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Some(parsed) = scsi::sense::parse(&self.sense) else {
            return f.write_str(&scsi::words::status(self.status));
        };
        let (code, qualifier) = parsed.code;
        let key = scsi::words::sense_key(parsed.key);
        match scsi::words::additional(code, qualifier) {
            Some(words) => write!(f, "{key}: {words}")?,
            None => write!(f, "{key}, additional sense {code:02x}h/{qualifier:02x}h")?,
        }
        match parsed.information {
            Some(information) => write!(f, " (at {information})"),
            None => Ok(()),
        }
    }
}

/// What a login's status says.
fn login_words(class: u8, detail: u8) -> &'static str {
    match LoginStatus(class, detail) {
        LoginStatus::AUTHENTICATION_FAILURE => "it does not accept the name or the secret, or wants CHAP",
        LoginStatus::AUTHORIZATION_FAILURE => "this initiator may not use it",
        LoginStatus::NOT_FOUND => "there is no such target, or not for this initiator",
        LoginStatus(2, 4) => "the target was removed and did not say where it is now",
        LoginStatus::UNSUPPORTED_VERSION => "it does not speak this version of iSCSI",
        LoginStatus::TOO_MANY_CONNECTIONS => "it takes no more connections",
        LoginStatus::MISSING_PARAMETER => "it misses a parameter",
        LoginStatus::CANNOT_INCLUDE => "the session cannot span this portal",
        LoginStatus::SESSION_TYPE_NOT_SUPPORTED => "it does not have sessions of this kind",
        LoginStatus::SESSION_DOES_NOT_EXIST => "it does not know the session any more",
        LoginStatus::INVALID_DURING_LOGIN => "it saw something other than a login",
        LoginStatus::SERVICE_UNAVAILABLE => "it is out of service now",
        LoginStatus::OUT_OF_RESOURCES => "it has no room for another session",
        LoginStatus::TARGET_ERROR => "it has an internal error",
        LoginStatus(2, _) => "it says that the initiator made a mistake",
        _ => "it fails",
    }
}

/// What a task management response says (RFC 7143 §11.6.1).
fn function_words(code: u8) -> &'static str {
    match code {
        1 => "there is no such task",
        2 => "there is no such unit",
        3 => "the task is still allegiant to a connection",
        4 => "tasks cannot be reassigned",
        5 => "it does not have the function",
        6 => "it may not be used",
        255 => "it rejects it",
        _ => "for a reason of its own",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_says_what_the_unit_said_in_words() {
        let sense = [0x70, 0x80, 5, 0, 0, 0, 0, 10, 0, 0, 0, 0, 0x21, 0, 0, 0, 0, 0].to_vec();
        let error = Error::from(ScsiError { status: 2, sense });
        assert_eq!(error.to_string(), "ILLEGAL REQUEST: LOGICAL BLOCK ADDRESS OUT OF RANGE");
        let conflict = ScsiError { status: 0x18, sense: Vec::new() };
        assert_eq!(conflict.to_string(), "RESERVATION CONFLICT");
        let refused = Error::LoginRefused { target: "iqn.a:b".into(), class: 2, detail: 3 };
        assert!(refused.to_string().contains("there is no such target"), "{refused}");
    }
}
