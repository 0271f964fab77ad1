//! Third-party copy: parameter lists of EXTENDED COPY and of token copies, tokens, and what RECEIVE COPY
//! RESULTS answers (SPC-4 5.16, 6.4 to 6.6, 6.18 to 6.24; SBC-3 5.7, 5.46).

pub mod list;
pub mod results;
pub mod token;

use crate::{Condition, field};

/// CSCD descriptor type code of the identification descriptor (SPC-4 6.4.5.4).
const IDENTIFICATION: u8 = 0xE4;
/// Bytes of a CSCD descriptor.
const CSCD_BYTES: usize = 32;

/// Two bytes, or what is said of a list that ends before them.
fn u16_at(bytes: &[u8], at: usize) -> Result<u16, Condition> {
    field::be16(bytes, at).ok_or(Condition::PARAMETER_LIST_LENGTH_ERROR)
}

fn u32_at(bytes: &[u8], at: usize) -> Result<u32, Condition> {
    field::be32(bytes, at).ok_or(Condition::PARAMETER_LIST_LENGTH_ERROR)
}

fn u64_at(bytes: &[u8], at: usize) -> Result<u64, Condition> {
    field::be64(bytes, at).ok_or(Condition::PARAMETER_LIST_LENGTH_ERROR)
}

fn byte_at(bytes: &[u8], at: usize) -> Result<u8, Condition> {
    field::byte(bytes, at).ok_or(Condition::PARAMETER_LIST_LENGTH_ERROR)
}

/// INVALID FIELD IN PARAMETER LIST at this byte.
fn invalid(at: usize, bit: Option<u8>) -> Condition {
    Condition::invalid_parameter(u16::try_from(at).unwrap_or(u16::MAX), bit)
}
