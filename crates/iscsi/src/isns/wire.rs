//! PDUs: twelve bytes of header and a payload; messages that are one or several of them (RFC 4171 §5.1, §5.2).

use super::attribute::Attribute;
use super::message::{Message, Status};
use zerocopy::byteorder::big_endian::U16;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Bytes of a PDU's header.
pub const HEADER_BYTES: usize = 12;
/// The largest payload of one PDU: its length is sixteen bits and a multiple of four.
const MAXIMUM_PAYLOAD: usize = 65_532;
/// The version of RFC 4171.
const VERSION: u16 = 1;

/// Bit 16 of the header: the sender is a client. (The RFC counts from the word's most significant bit.)
pub(super) const FROM_CLIENT: u16 = 0x8000;
/// Bit 18: an authentication block follows the payload.
const AUTHENTICATED: u16 = 0x2000;
/// Bit 19: a registration replaces what is there.
pub(super) const REPLACE: u16 = 0x1000;
const LAST: u16 = 0x0800;
const FIRST: u16 = 0x0400;

/// What a message asks for or answers (RFC 4171 §4.1.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Function(pub u16);

#[rustfmt::skip]
impl Function {
    /// DevAttrReg.
    pub const DEVICE_ATTRIBUTE_REGISTRATION: Function = Function(1);
    /// DevAttrQry.
    pub const DEVICE_ATTRIBUTE_QUERY: Function = Function(2);
    /// DevDereg.
    pub const DEVICE_DEREGISTRATION: Function = Function(4);
    /// SCNReg.
    pub const STATE_CHANGE_REGISTRATION: Function = Function(5);
    /// SCN.
    pub const STATE_CHANGE_NOTIFICATION: Function = Function(8);
    /// ESI.
    pub const ENTITY_STATUS_INQUIRY: Function = Function(13);
}

impl Function {
    const RESPONSE: u16 = 0x8000;

    /// What answers it.
    pub fn response(self) -> Function {
        Function(self.0 | Function::RESPONSE)
    }

    /// Whether it is an answer.
    pub fn is_response(self) -> bool {
        self.0 & Function::RESPONSE != 0
    }
}

/// The header of a PDU (RFC 4171 §5.1).
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Header {
    /// 1.
    pub version: U16,
    /// The function.
    pub function: U16,
    /// Bytes of the payload.
    pub length: U16,
    /// Who sends, and which part of a message it is.
    pub flags: U16,
    /// The same in a request and its response.
    pub transaction: U16,
    /// Counts the PDUs of a message from 0.
    pub sequence: U16,
}

/// Why bytes are no message. The connection they came from is of no more use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FormatError {
    /// Another version.
    #[error("version {0} of the protocol, not 1")]
    Version(u16),
    /// A length that is no multiple of four.
    #[error("a payload of {0} bytes, which is no multiple of four")]
    Length(u16),
    /// An authentication block; unicast messages should have none (RFC 4171 §5.5).
    #[error("a signed message; turn authentication off in the server")]
    Authenticated,
    /// PDUs that do not follow each other.
    #[error("parts of messages out of order")]
    Order,
    /// More bytes than anybody would say.
    #[error("a message of more than {0} bytes")]
    Limit(usize),
    /// An attribute that is longer than what holds it, or no multiple of four bytes.
    #[error("an attribute whose length lies")]
    Attribute,
    /// A response without a status.
    #[error("a response without a status")]
    Status,
}

/// A message of which some PDUs are there.
struct Partial {
    function: Function,
    transaction: u16,
    flags: u16,
    next: u16,
    payload: Vec<u8>,
}

/// Makes messages of the bytes of a connection.
pub struct Receiver {
    limit: usize,
    buffer: Vec<u8>,
    partial: Option<Partial>,
}

impl Receiver {
    /// One that takes messages of at most so many bytes.
    pub fn new(limit: usize) -> Receiver {
        Receiver { limit, buffer: Vec::new(), partial: None }
    }

    /// Takes bytes. Messages are to be taken out before more of them come.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend(bytes);
    }

    /// The next whole message; `None` when more bytes are needed.
    pub fn take(&mut self) -> Result<Option<Message>, FormatError> {
        loop {
            let Ok((header, rest)) = Header::read_from_prefix(&self.buffer) else { return Ok(None) };
            self.check(&header)?;
            let length = usize::from(header.length.get());
            let Some(payload) = rest.get(..length) else { return Ok(None) };
            let partial = self.partial.get_or_insert_with(|| Partial {
                function: Function(header.function.get()),
                transaction: header.transaction.get(),
                flags: header.flags.get(),
                next: 0,
                payload: Vec::new(),
            });
            partial.payload.extend(payload);
            partial.next = partial.next.wrapping_add(1);
            self.buffer.drain(..HEADER_BYTES + length);
            if header.flags.get() & LAST != 0
                && let Some(partial) = self.partial.take()
            {
                return partial.message().map(Some);
            }
        }
    }

    /// Refuses a header before its payload has come.
    fn check(&self, header: &Header) -> Result<(), FormatError> {
        if header.version.get() != VERSION {
            return Err(FormatError::Version(header.version.get()));
        }
        if !header.length.get().is_multiple_of(4) {
            return Err(FormatError::Length(header.length.get()));
        }
        let flags = header.flags.get();
        if flags & AUTHENTICATED != 0 {
            return Err(FormatError::Authenticated);
        }
        let (already, follows) = match &self.partial {
            None => (0, flags & FIRST != 0 && header.sequence.get() == 0),
            Some(partial) => {
                let same =
                    partial.function.0 == header.function.get() && partial.transaction == header.transaction.get();
                // After 65,535 PDUs no number is left.
                let next = partial.next != 0 && partial.next == header.sequence.get();
                (partial.payload.len(), same && next && flags & FIRST == 0)
            }
        };
        if !follows {
            return Err(FormatError::Order);
        }
        match already + usize::from(header.length.get()) > self.limit {
            true => Err(FormatError::Limit(self.limit)),
            false => Ok(()),
        }
    }
}

impl Partial {
    fn message(self) -> Result<Message, FormatError> {
        let (status, payload) = match self.function.is_response() {
            false => (None, self.payload.as_slice()),
            true => {
                let (status, rest) = self.payload.split_first_chunk::<4>().ok_or(FormatError::Status)?;
                (Some(Status(u32::from_be_bytes(*status))), rest)
            }
        };
        Ok(Message {
            function: self.function,
            transaction: self.transaction,
            replace: self.flags & REPLACE != 0,
            status,
            attributes: Attribute::decode_all(payload)?,
        })
    }
}

/// The PDUs of a message.
pub(super) fn pdus(function: Function, transaction: u16, flags: u16, payload: &[u8]) -> Vec<u8> {
    let mut parts: Vec<&[u8]> = payload.chunks(MAXIMUM_PAYLOAD).collect();
    if parts.is_empty() {
        parts.push(&[]);
    }
    let last = parts.len() - 1;
    let mut out = Vec::with_capacity(payload.len() + parts.len() * HEADER_BYTES);
    for (number, part) in parts.into_iter().enumerate() {
        let first = if number == 0 { FIRST } else { 0 };
        let end = if number == last { LAST } else { 0 };
        let header = Header {
            version: VERSION.into(),
            function: function.0.into(),
            length: u16::try_from(part.len()).unwrap_or(u16::MAX).into(),
            flags: (flags | first | end).into(),
            transaction: transaction.into(),
            sequence: u16::try_from(number).unwrap_or(u16::MAX).into(),
        };
        out.extend(header.as_bytes());
        out.extend(part);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::isns::Tag;
    use proptest::prelude::*;

    fn header(function: u16, length: u16, flags: u16, transaction: u16, sequence: u16) -> Vec<u8> {
        [1, function, length, flags, transaction, sequence].iter().flat_map(|word| word.to_be_bytes()).collect()
    }

    fn taken(bytes: &[u8]) -> Result<Option<Message>, FormatError> {
        let mut receiver = Receiver::new(1000);
        receiver.push(bytes);
        receiver.take()
    }

    #[test]
    fn a_response_byte_for_byte() {
        let mut bytes = header(0x8001, 12, 0x4c00, 7, 0);
        bytes.extend(b"\0\0\0\x03\0\0\0\0\0\0\0\0");
        let message = taken(&bytes).unwrap().unwrap();
        assert_eq!(message.function, Function::DEVICE_ATTRIBUTE_REGISTRATION.response());
        assert_eq!((message.transaction, message.status), (7, Some(Status::INVALID_REGISTRATION)));
        assert_eq!(message.attributes, [Attribute::empty(Tag::DELIMITER)]);
    }

    #[test]
    fn headers_that_lie_are_refused_before_their_payload_comes() {
        let cases = [
            ([&[0, 2], &header(1, 0, 0xc00, 0, 0)[2..]].concat(), FormatError::Version(2)),
            (header(1, 3, 0xc00, 0, 0), FormatError::Length(3)),
            (header(1, 0, 0x2c00, 0, 0), FormatError::Authenticated),
            (header(1, 0, 0x800, 0, 0), FormatError::Order),
            (header(1, 0, 0xc00, 0, 1), FormatError::Order),
            (header(1, 1004, 0xc00, 0, 0), FormatError::Limit(1000)),
            (header(0x8001, 0, 0xc00, 0, 0), FormatError::Status),
        ];
        for (bytes, error) in cases {
            assert_eq!(taken(&bytes), Err(error));
        }
    }

    #[test]
    fn parts_belong_to_one_message_in_their_order_and_within_the_limit() {
        let first = [header(1, 400, 0x400, 5, 0), vec![0; 400]].concat();
        for (next, error) in [
            (header(1, 400, 0x400, 5, 1), FormatError::Order),
            (header(2, 400, 0, 5, 1), FormatError::Order),
            (header(1, 400, 0, 6, 1), FormatError::Order),
            (header(1, 400, 0, 5, 2), FormatError::Order),
            (header(1, 604, 0, 5, 1), FormatError::Limit(1000)),
        ] {
            assert_eq!(taken(&[first.clone(), next].concat()), Err(error));
        }
        let second = [header(1, 8, 0x800, 5, 1), vec![0; 8]].concat();
        assert_eq!(taken(&[first, second].concat()).unwrap().unwrap().attributes.len(), 51);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        #[test]
        fn a_message_is_the_same_in_whatever_pieces_it_comes(
            values in prop::collection::vec(prop::collection::vec(any::<[u8; 4]>(), 0..5000), 1..6),
            cuts in prop::collection::vec(1..30_000usize, 1..6),
            transaction in any::<u16>(),
        ) {
            let attributes: Vec<_> =
                values.into_iter().map(|words| Attribute { tag: Tag::ISCSI_ALIAS, value: words.concat() }).collect();
            let message = Message { attributes, ..Message::request(Function::DEVICE_ATTRIBUTE_QUERY) };
            let message = Message { transaction, ..message };
            let bytes = message.encode();
            let (mut receiver, mut rest, mut cuts) = (Receiver::new(1 << 20), bytes.as_slice(), cuts.iter().cycle());
            let mut all = Vec::new();
            while !rest.is_empty() {
                let (piece, behind) = rest.split_at(rest.len().min(*cuts.next().unwrap()));
                receiver.push(piece);
                all.extend(receiver.take().unwrap());
                rest = behind;
            }
            prop_assert_eq!(all, [message]);
        }

        #[test]
        fn any_bytes_are_messages_or_an_error(
            mut bytes in prop::collection::vec(any::<u8>(), 0..300),
            flags in any::<u16>(),
            length in 0..80u16,
        ) {
            let start = [header(0x8002, length * 4, flags & !AUTHENTICATED, 1, 0), std::mem::take(&mut bytes)].concat();
            let mut receiver = Receiver::new(200);
            receiver.push(&start);
            while let Ok(Some(_)) = receiver.take() {}
        }
    }
}
