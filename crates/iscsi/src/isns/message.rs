//! A message: a function, a status in answers, attributes (RFC 4171 §5.4, §5.6, §5.7).

use super::attribute::{Attribute, Tag};
use super::wire::{self, FROM_CLIENT, Function, REPLACE};

/// What came of a request (RFC 4171 §5.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Status(pub u32);

#[rustfmt::skip]
impl Status {
    /// Done.
    pub const SUCCESSFUL: Status = Status(0);
    /// What the message says has not the form that it should have.
    pub const MESSAGE_FORMAT_ERROR: Status = Status(2);
    /// Attributes that cannot be registered so, or belong to another entity.
    pub const INVALID_REGISTRATION: Status = Status(3);
    /// Nobody of this name is registered.
    pub const SOURCE_UNKNOWN: Status = Status(6);
    /// There is no such thing.
    pub const NO_SUCH_ENTRY: Status = Status(9);
    /// Not now.
    pub const BUSY: Status = Status(12);
    /// Not this function.
    pub const MESSAGE_NOT_SUPPORTED: Status = Status(15);
    /// No entity status inquiries.
    pub const ESI_NOT_AVAILABLE: Status = Status(21);
    /// No explicit portal groups, for example.
    pub const REGISTRATION_FEATURE_NOT_SUPPORTED: Status = Status(23);
}

impl std::fmt::Display for Status {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        const NAMES: [&str; 24] = [
            "successful",
            "unknown error",
            "message format error",
            "invalid registration",
            "reserved",
            "invalid query",
            "source unknown",
            "source absent",
            "source unauthorized",
            "no such entry",
            "version not supported",
            "internal error",
            "busy",
            "option not understood",
            "invalid update",
            "message not supported",
            "SCN event rejected",
            "SCN registration rejected",
            "attribute not implemented",
            "FC_DOMAIN_ID not available",
            "FC_DOMAIN_ID not allocated",
            "ESI not available",
            "invalid deregistration",
            "registration feature not supported",
        ];
        let name = usize::try_from(self.0).ok().and_then(|number| NAMES.get(number)).unwrap_or(&"reserved");
        write!(f, "status {} ({name})", self.0)
    }
}

/// A message of either end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// What it asks for or answers.
    pub function: Function,
    /// The same in a request and its response.
    pub transaction: u16,
    /// A registration that replaces what is there.
    pub replace: bool,
    /// In responses what came of the request, and nowhere else.
    pub status: Option<Status>,
    /// All attributes with the delimiter, in their order.
    pub attributes: Vec<Attribute>,
}

impl Message {
    /// A request without attributes; its transaction is given by who sends it.
    pub fn request(function: Function) -> Message {
        Message { function, transaction: 0, replace: false, status: None, attributes: Vec::new() }
    }

    /// The answer to this message.
    pub fn answer(&self, status: Status, attributes: Vec<Attribute>) -> Message {
        Message {
            function: self.function.response(),
            transaction: self.transaction,
            replace: false,
            status: Some(status),
            attributes,
        }
    }

    /// The attributes before the delimiter: the source, and the message key.
    pub fn key(&self) -> &[Attribute] {
        self.attributes.split(|attribute| attribute.tag == Tag::DELIMITER).next().unwrap_or(&[])
    }

    /// The attributes behind the delimiter. Where there is none they are all of them.
    pub fn operating(&self) -> &[Attribute] {
        let delimiter = self.attributes.iter().position(|attribute| attribute.tag == Tag::DELIMITER);
        self.attributes.get(delimiter.map_or(0, |at| at + 1)..).unwrap_or(&[])
    }

    /// Its bytes, as those of a client.
    pub fn encode(&self) -> Vec<u8> {
        let mut payload = Vec::new();
        if let Some(status) = self.status {
            payload.extend(status.0.to_be_bytes());
        }
        self.attributes.iter().for_each(|attribute| attribute.encode(&mut payload));
        let replace = if self.replace { REPLACE } else { 0 };
        wire::pdus(self.function, self.transaction, FROM_CLIENT | replace, &payload)
    }
}
