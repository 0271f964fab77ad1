//! What a session has to tell that is no command's answer.

use crate::Lun;
use std::time::Duration;

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// A unit told a unit attention (SAM-5 5.14). The command that met it was sent again, unless it was to be
    /// told as it came.
    UnitAttention {
        /// The unit.
        lun: Lun,
        /// ADDITIONAL SENSE CODE and its qualifier.
        code: (u8, u8),
        /// What they say.
        words: String,
    },
    /// The unit's capacity is another now (2Ah/09h).
    CapacityChanged {
        /// The unit.
        lun: Lun,
    },
    /// The target has other units now (3Fh/0Eh).
    UnitsChanged,
    /// A connection was lost. The session goes on, with others or when it is back.
    ConnectionLost {
        /// Its CID.
        cid: u16,
        /// Why.
        why: String,
    },
    /// A connection is there, again or for the first time beside the leading one.
    ConnectionRestored {
        /// Its CID.
        cid: u16,
    },
    /// The session was lost; it is being logged in again.
    SessionLost {
        /// Why.
        why: String,
    },
    /// It is back, and unfinished commands are being sent again.
    SessionRestored {
        /// For how long it was gone.
        after: Duration,
        /// Logins that failed before.
        attempts: u32,
    },
    /// The replacement timeout has passed: commands end with an error until the session is back.
    SessionGone {
        /// Why the last login failed.
        why: String,
    },
    /// The target said something unasked (RFC 7143 §11.9).
    Async {
        /// AsyncEvent.
        event: u8,
        /// What it says.
        words: &'static str,
        /// The unit, for SCSI events.
        lun: Lun,
        /// Parameters 1 to 3.
        parameters: [u16; 3],
        /// Sense data, or the vendor's.
        data: Vec<u8>,
    },
}

/// What an asynchronous message says (RFC 7143 §11.9.1).
pub(crate) fn async_words(event: u8) -> &'static str {
    match event {
        0 => "a unit has something to say",
        1 => "the target asks for a logout",
        2 => "the target drops a connection",
        3 => "the target drops all connections",
        4 => "the target wants to negotiate parameters anew",
        5 => "a unit has ended its tasks",
        255 => "a message of the vendor's",
        _ => "a message of an unknown kind",
    }
}
