//! B2h, logical block provisioning (SBC-4 6.6.6).

use super::{ParseError, body};
use crate::{field, inquiry::Facts};

pub(super) fn encode(facts: &Facts<'_>, out: &mut Vec<u8>) {
    let page = match facts.unmap {
        None => [0, 0, 0, 0],
        Some(unmap) => {
            let reads_zeros = u8::from(unmap.reads_zeros) << 2;
            [unmap.threshold_exponent, LBPU | LBPWS | LBPWS10 | reads_zeros | u8::from(unmap.anchors) << 1, THIN, 0]
        }
    };
    out.extend_from_slice(&page);
}

/// The page as an initiator reads it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Provisioning {
    /// THRESHOLD EXPONENT; 0 where there are no thresholds.
    pub threshold_exponent: u8,
    /// LBPU: UNMAP works.
    pub unmap: bool,
    /// LBPWS: WRITE SAME (16) with UNMAP works.
    pub write_same_16: bool,
    /// LBPWS10: WRITE SAME (10) with UNMAP works.
    pub write_same_10: bool,
    /// LBPRZ: unmapped blocks read as zeros.
    pub reads_zeros: bool,
    /// ANC_SUP.
    pub anchors: bool,
    /// PROVISIONING TYPE: 0 unknown or full, 1 resource, 2 thin.
    pub provisioning_type: u8,
}

/// Reads the page.
pub fn parse(bytes: &[u8]) -> Result<Provisioning, ParseError> {
    let [threshold_exponent, flags, kind, _] = field::array::<4>(body(0xB2, bytes)?, 0).ok_or(ParseError::Truncated)?;
    Ok(Provisioning {
        threshold_exponent,
        unmap: flags & LBPU != 0,
        write_same_16: flags & LBPWS != 0,
        write_same_10: flags & LBPWS10 != 0,
        // xx1b: zeros; the other bits name what else reading gives.
        reads_zeros: flags & 0x04 != 0,
        anchors: flags & 0x02 != 0,
        provisioning_type: kind & 0x07,
    })
}

const LBPU: u8 = 0x80;
const LBPWS: u8 = 0x40;
const LBPWS10: u8 = 0x20;
/// PROVISIONING TYPE.
const THIN: u8 = 2;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{inquiry::tests::facts, vpd::tests::page};

    #[test]
    fn spc_03_provisioning_follows_what_the_store_can() {
        let mut facts = facts();
        let thin = page(0xB2, &facts);
        assert_eq!(thin, [0x00, 0xB2, 0x00, 0x04, 0x00, 0xE4, 0x02, 0x00]);
        assert!(parse(&thin).unwrap().reads_zeros);
        facts.unmap = None;
        assert_eq!(page(0xB2, &facts)[4..], [0, 0, 0, 0]);
    }
}
