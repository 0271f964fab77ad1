//! 86h, extended INQUIRY data (SPC-5 7.7.7).

use super::{ParseError, body};
use crate::{field, inquiry::Facts};

/// The longest sense data that is ever sent, in bytes.
const MAXIMUM_SENSE: u8 = 252;

pub(super) fn encode(facts: &Facts<'_>, out: &mut Vec<u8>) {
    let start = out.len();
    out.extend_from_slice(&[
        0x00,                           // no microcode activation, no protection information
        0x07,                           // HEADSUP, ORDSUP, SIMPSUP
        u8::from(facts.volatile_cache), // V_SUP
        0x00,
        0x00,
        0x00,
        0x00,
        0x00,
        0x00,
        MAXIMUM_SENSE,
    ]);
    out.resize(start + 60, 0);
}

/// What an initiator wants to know of the page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExtendedInquiry {
    /// SIMPSUP.
    pub simple: bool,
    /// ORDSUP.
    pub ordered: bool,
    /// HEADSUP.
    pub head_of_queue: bool,
    /// V_SUP.
    pub volatile_cache: bool,
    /// MAXIMUM SUPPORTED SENSE DATA LENGTH; 0 where it is not said.
    pub maximum_sense: u8,
}

/// Reads the page; fields that an older and shorter one lacks are absent.
pub fn parse(bytes: &[u8]) -> Result<ExtendedInquiry, ParseError> {
    let body = body(0x86, bytes)?;
    let tasks = field::byte(body, 1).ok_or(ParseError::Truncated)?;
    Ok(ExtendedInquiry {
        simple: tasks & 1 != 0,
        ordered: tasks & 2 != 0,
        head_of_queue: tasks & 4 != 0,
        volatile_cache: field::byte(body, 2).unwrap_or(0) & 1 != 0,
        maximum_sense: field::byte(body, 9).unwrap_or(0),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{inquiry::tests::facts, vpd::tests::page};

    #[test]
    fn task_attributes_cache_and_sense_length_are_told() {
        let bytes = page(0x86, &facts());
        assert_eq!(bytes.len(), 64);
        assert_eq!(
            parse(&bytes).unwrap(),
            ExtendedInquiry {
                simple: true,
                ordered: true,
                head_of_queue: true,
                volatile_cache: true,
                maximum_sense: 252
            }
        );
    }
}
