//! The basic header segments of RFC 7143 section 11, field for field, for both ends of the wire.
//!
//! These are views: every field of every PDU can be read whatever the bytes are, and printed.
//! What is *legal* is decided where a PDU is acted upon. All numbers are big-endian.

mod additional;
mod opcode;
mod request;
mod response;

pub use additional::{AdditionalHeader, AdditionalHeaders, extended_cdb};
pub use opcode::{AsyncEvent, Opcode, RejectReason};
pub use request::{
    DataOut, LoginRequest, LogoutRequest, NopOut, ScsiCommand, SnackRequest, TaskManagementRequest, TextRequest,
};
pub use response::{
    AsyncMessage, DataIn, LoginResponse, LogoutResponse, NopIn, ReadyToTransfer, Reject, ScsiResponse,
    TaskManagementResponse, TextResponse,
};

use zerocopy::byteorder::big_endian::U32;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Bytes of a basic header segment.
pub const BHS_BYTES: usize = 48;
/// The tag that names no task (RFC 7143 §11.2.1.8).
pub const RESERVED_TAG: u32 = 0xffff_ffff;
/// F, the final bit, in the second byte of most PDUs.
pub const FINAL: u8 = 0x80;
/// C, the continue bit of login and text PDUs.
pub const CONTINUE: u8 = 0x40;
/// T, the transit bit of login PDUs.
pub const TRANSIT: u8 = 0x80;
/// I, the immediate bit in the first byte of a request.
pub const IMMEDIATE: u8 = 0x40;

/// What all basic header segments have in common (RFC 7143 §11.2.1).
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Header {
    /// Immediate bit and opcode.
    pub opcode_byte: u8,
    /// Final bit and flags of the opcode.
    pub flags: u8,
    /// Opcode-specific.
    pub specific: [u8; 2],
    /// Length of all additional header segments in four-byte words.
    pub total_ahs_length: u8,
    /// Length of the data segment in bytes, without padding.
    pub data_segment_length: [u8; 3],
    /// LUN, or opcode-specific.
    pub lun: [u8; 8],
    /// Initiator task tag.
    pub initiator_task_tag: U32,
    /// Opcode-specific.
    pub rest: [u8; 28],
}

impl Header {
    /// The opcode, six bits.
    pub fn opcode(&self) -> u8 {
        self.opcode_byte & 0x3f
    }

    /// Whether the immediate bit is set.
    pub fn immediate(&self) -> bool {
        self.opcode_byte & IMMEDIATE != 0
    }

    /// Length of the data segment in bytes, without padding.
    pub fn data_segment_bytes(&self) -> u32 {
        let [high, middle, low] = self.data_segment_length;
        u32::from_be_bytes([0, high, middle, low])
    }

    /// Length of all additional header segments in bytes.
    pub fn additional_bytes(&self) -> usize {
        usize::from(self.total_ahs_length) * 4
    }
}

/// The three length bytes of a data segment. `length` is at most 2^24 - 1.
pub fn length_bytes(length: u32) -> [u8; 3] {
    debug_assert!(length < 1 << 24);
    let [_, high, middle, low] = length.to_be_bytes();
    [high, middle, low]
}

/// Bytes of the header segments of a PDU, additional headers and, where there is one, its digest included, told
/// from the first 48 of them (§11.2). Between 48 and 1,072.
pub fn header_bytes(first: &[u8; BHS_BYTES], digest: bool) -> usize {
    BHS_BYTES + usize::from(first[4]) * 4 + if digest { 4 } else { 0 }
}

/// Bytes of padding after a segment of this length (RFC 7143 §11.1).
pub fn padding(length: u32) -> u32 {
    length.wrapping_neg() & 3
}

/// A basic header segment of one kind: 48 bytes that can be viewed and written as such.
pub trait Pdu: FromBytes + IntoBytes + Immutable + KnownLayout + Unaligned + Sized {
    /// Its opcode.
    const OPCODE: Opcode;

    /// A header of this kind with every other byte zero.
    fn empty() -> Self {
        let mut pdu = Self::new_zeroed();
        if let Some(first) = pdu.as_mut_bytes().first_mut() {
            *first = Self::OPCODE as u8;
        }
        pdu
    }

    /// The same 48 bytes as this kind sees them.
    fn view(header: &Header) -> &Self {
        // Both are 48 unaligned bytes, so that this cannot fail.
        match Self::ref_from_bytes(header.as_bytes()) {
            Ok(view) => view,
            Err(_) => unreachable!("a BHS is 48 bytes"),
        }
    }

    /// The same 48 bytes as any kind sees them.
    fn header(&self) -> &Header {
        match Header::ref_from_bytes(self.as_bytes()) {
            Ok(view) => view,
            Err(_) => unreachable!("a BHS is 48 bytes"),
        }
    }

    /// Sets the length of the data segment, at most 2^24 - 1 bytes.
    fn set_data_segment_bytes(&mut self, length: u32) {
        self.as_mut_bytes()[5..8].copy_from_slice(&length_bytes(length));
    }
}

macro_rules! pdu {
    ($(#[$doc:meta])* $name:ident = $opcode:ident { $($(#[$field_doc:meta])* $field:ident: $type:ty,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, zerocopy::FromBytes, zerocopy::IntoBytes, zerocopy::Immutable,
                 zerocopy::KnownLayout, zerocopy::Unaligned)]
        #[repr(C)]
        pub struct $name { $($(#[$field_doc])* pub $field: $type,)* }
        const _: () = assert!(size_of::<$name>() == crate::wire::BHS_BYTES);
        impl crate::wire::Pdu for $name {
            const OPCODE: crate::wire::Opcode = crate::wire::Opcode::$opcode;
        }
    };
}
use pdu;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pdu_01_padding_completes_four_bytes() {
        assert_eq!([0, 1, 2, 3, 4, 5].map(padding), [0, 3, 2, 1, 0, 3]);
    }

    #[test]
    fn a_header_is_read_as_it_stands_on_the_wire() {
        let mut bytes = [0u8; BHS_BYTES];
        bytes[..8].copy_from_slice(&[0x41, 0xa1, 0, 0, 2, 0x01, 0x02, 0x03]);
        bytes[16..20].copy_from_slice(&[0xde, 0xad, 0xbe, 0xef]);
        bytes[20..32].copy_from_slice(&[0, 0, 0x10, 0, 0, 0, 0, 7, 0, 0, 0, 9]);
        let header = Header::ref_from_bytes(&bytes).unwrap();
        assert!(header.immediate());
        assert_eq!(header.opcode(), Opcode::ScsiCommand as u8);
        assert_eq!((header.additional_bytes(), header.data_segment_bytes()), (8, 0x01_0203));
        let command = ScsiCommand::view(header);
        assert_eq!(command.initiator_task_tag.get(), 0xdead_beef);
        assert_eq!((command.expected_data_transfer_length.get(), command.cmd_sn.get()), (4096, 7));
        assert_eq!((command.reads(), command.writes(), command.attribute()), (false, true, 1));
    }
}
