//! B1h, block device characteristics (SBC-4 6.6.2).

use super::{ParseError, body};
use crate::{
    field,
    inquiry::{Facts, Rotation},
};

pub(super) fn encode(facts: &Facts<'_>, out: &mut Vec<u8>) {
    let start = out.len();
    let rate = match facts.rotation {
        Rotation::NotReported => 0,
        Rotation::NonRotating => 1,
        Rotation::Rate(rate) => rate,
    };
    out.extend_from_slice(&rate.to_be_bytes());
    // WABEREQ 01b where SANITIZE can erase blocks: they are read without having been written.
    let after_erase = if facts.unmap.is_some_and(|unmap| unmap.reads_zeros) { READABLE_AFTER_ERASE } else { 0 };
    let after_key = if facts.cryptographic_erase { READABLE_AFTER_NEW_KEY } else { 0 };
    out.extend_from_slice(&[0, after_erase | after_key]);
    out.resize(start + 60, 0); // form factor not reported, not zoned
}

const READABLE_AFTER_ERASE: u8 = 0x40;
const READABLE_AFTER_NEW_KEY: u8 = 0x10;

/// The medium's rotation.
pub fn parse(bytes: &[u8]) -> Result<Rotation, ParseError> {
    Ok(match field::be16(body(0xB1, bytes)?, 0).ok_or(ParseError::Truncated)? {
        1 => Rotation::NonRotating,
        rate @ 0x0401..=0xFFFE => Rotation::Rate(rate),
        _ => Rotation::NotReported,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{inquiry::tests::facts, vpd::tests::page};

    #[test]
    fn spc_03_rotation_comes_back() {
        let mut facts = facts();
        for rotation in [Rotation::NotReported, Rotation::NonRotating, Rotation::Rate(7200)] {
            facts.rotation = rotation;
            assert_eq!(parse(&page(0xB1, &facts)), Ok(rotation));
        }
        let bytes = page(0xB1, &facts);
        assert_eq!((bytes.len(), bytes[7]), (64, 0x40), "WABEREQ of a unit that unmaps to zeros");
        facts.unmap = None;
        assert_eq!(page(0xB1, &facts)[7], 0);
    }
}
