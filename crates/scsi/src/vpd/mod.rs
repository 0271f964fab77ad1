//! Vital product data pages (SPC-5 7.7, SBC-4 6.6): one file a page, one list.
//!
//! A page is a row of [`PAGES`]: its code, when it applies, and its encoder. Page 00h is made from
//! that list, so it names exactly what is answered.

pub mod block_limits;
pub mod characteristics;
pub mod designation;
pub mod extended_inquiry;
pub mod mode_page_policy;
pub mod ports;
pub mod power_condition;
pub mod provisioning;
pub mod serial_number;
pub mod supported;
pub mod third_party_copy;

use crate::field;
use crate::inquiry::{DeviceType, Facts};

/// One page that a target can answer.
pub struct Page {
    /// PAGE CODE.
    pub code: u8,
    /// Whether a unit of these facts has it.
    pub applies: fn(&Facts<'_>) -> bool,
    /// Appends what follows the four bytes of the header.
    encode: fn(&Facts<'_>, &mut Vec<u8>),
}

/// All pages, ascending.
pub const PAGES: &[Page] = &[
    Page { code: 0x00, applies: always, encode: supported::encode },
    Page { code: 0x80, applies: always, encode: serial_number::encode },
    Page { code: 0x83, applies: always, encode: designation::encode },
    Page { code: 0x86, applies: always, encode: extended_inquiry::encode },
    Page { code: 0x87, applies: always, encode: mode_page_policy::encode },
    Page { code: 0x88, applies: always, encode: ports::encode },
    Page { code: 0x8A, applies: disk, encode: power_condition::encode },
    Page { code: 0x8F, applies: |facts| facts.third_party_copy.is_some(), encode: third_party_copy::encode },
    Page { code: 0xB0, applies: disk, encode: block_limits::encode },
    Page { code: 0xB1, applies: disk, encode: characteristics::encode },
    Page { code: 0xB2, applies: disk, encode: provisioning::encode },
];

/// The page does not exist for this unit: INVALID FIELD IN CDB, byte 2 (SPC-5 6.7.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("VPD page {0:02x}h is not supported")]
pub struct Unsupported(pub u8);

/// Appends one whole page; its length field is always the full one.
pub fn encode(code: u8, facts: &Facts<'_>, out: &mut Vec<u8>) -> Result<(), Unsupported> {
    let page = PAGES.iter().find(|page| page.code == code && (page.applies)(facts)).ok_or(Unsupported(code))?;
    let start = out.len();
    out.extend_from_slice(&[facts.device_type as u8, code, 0, 0]);
    (page.encode)(facts, out);
    field::set_length16(out, start + 2);
    Ok(())
}

/// Why an answered page cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    /// Another page than the one asked for.
    #[error("VPD page {found:02x}h came instead of {expected:02x}h")]
    OtherPage {
        /// The code in the answer.
        found: u8,
        /// The code wanted.
        expected: u8,
    },
    /// A length in it goes beyond what came.
    #[error("VPD page is cut off")]
    Truncated,
    /// A field holds what it may not.
    #[error("VPD page has a malformed field")]
    Malformed,
}

/// What follows a page's header, checked against what really came.
pub(crate) fn body(code: u8, bytes: &[u8]) -> Result<&[u8], ParseError> {
    let found = field::byte(bytes, 1).ok_or(ParseError::Truncated)?;
    if found != code {
        return Err(ParseError::OtherPage { found, expected: code });
    }
    let length = usize::from(field::be16(bytes, 2).ok_or(ParseError::Truncated)?);
    bytes.get(4..4 + length).ok_or(ParseError::Truncated)
}

fn always(_: &Facts<'_>) -> bool {
    true
}

/// B0h to BFh belong to the device type's own standard.
fn disk(facts: &Facts<'_>) -> bool {
    facts.device_type == DeviceType::Disk
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::inquiry::{ThirdPartyCopy, tests::facts};

    pub(crate) fn page(code: u8, facts: &Facts<'_>) -> Vec<u8> {
        let mut out = Vec::new();
        encode(code, facts, &mut out).unwrap();
        out
    }

    #[test]
    fn spc_02_page_00_lists_exactly_the_pages_that_are_answered_ascending() {
        let mut facts = facts();
        for copies in [false, true] {
            facts.third_party_copy = copies.then_some(ThirdPartyCopy { commands: &[], tokens: None, lists: None });
            let listed = supported::parse(&page(0, &facts)).unwrap();
            let answered: Vec<u8> = (0..=255).filter(|&code| encode(code, &facts, &mut Vec::new()).is_ok()).collect();
            assert_eq!(listed, answered);
            assert_eq!(listed.contains(&0x8F), copies);
        }
    }

    #[test]
    fn spc_02_a_cd_drive_has_no_pages_of_block_devices_and_its_type_on_every_other() {
        let facts = Facts { device_type: DeviceType::Optical, ..facts() };
        let listed = supported::parse(&page(0, &facts)).unwrap();
        assert_eq!(listed, [0x00, 0x80, 0x83, 0x86, 0x87, 0x88]);
        assert!(listed.iter().all(|&code| page(code, &facts)[0] == 0x05));
    }

    #[test]
    fn every_page_says_its_code_and_its_full_length() {
        for code in supported::parse(&page(0, &facts())).unwrap() {
            let bytes = page(code, &facts());
            assert_eq!(bytes[1], code);
            assert_eq!(body(code, &bytes).unwrap().len(), bytes.len() - 4);
            for length in 0..bytes.len() {
                assert_eq!(body(code, &bytes[..length]), Err(ParseError::Truncated));
            }
        }
    }

    proptest::proptest! {
        #[test]
        fn no_answer_of_a_target_harms_a_decoder(mut bytes in proptest::collection::vec(0u8.., 0..200)) {
            for code in [0x00, 0x80, 0x83, 0x86, 0x88, 0xB0, 0xB1, 0xB2] {
                if let Some(field) = bytes.get_mut(1) { *field = code; }
                if let Some(field) = bytes.get_mut(2) { *field = 0; }
                let _ = (supported::parse(&bytes), serial_number::parse(&bytes), designation::parse(&bytes));
                let _ = (extended_inquiry::parse(&bytes), ports::parse(&bytes), block_limits::parse(&bytes));
                let _ = (characteristics::parse(&bytes), provisioning::parse(&bytes));
            }
        }
    }
}
