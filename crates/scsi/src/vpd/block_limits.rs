//! B0h, block limits (SBC-4 6.6.4): the numbers that commands enforce.

use super::{ParseError, body};
use crate::{
    field,
    inquiry::{AtomicLimits, BlockLimits, Facts, Unmap},
};

pub(super) fn encode(facts: &Facts<'_>, out: &mut Vec<u8>) {
    let BlockLimits {
        compare_and_write,
        optimal_granularity,
        maximum_transfer,
        optimal_transfer,
        maximum_prefetch,
        write_same,
        write_same_refuses_zero,
        atomic,
    } = facts.limits;
    out.extend_from_slice(&[u8::from(write_same_refuses_zero), compare_and_write]);
    out.extend_from_slice(&optimal_granularity.to_be_bytes());
    let (maximum_unmap, descriptors, granularity, alignment) = match facts.unmap {
        None => (0, 0, 0, 0),
        // UGAVALID lets the initiator use the alignment.
        Some(unmap) => {
            let valid = if unmap.granularity > 0 { UGAVALID } else { 0 };
            (unmap.maximum_blocks, unmap.maximum_descriptors, unmap.granularity, valid | unmap.alignment & !UGAVALID)
        }
    };
    for word in
        [maximum_transfer, optimal_transfer, maximum_prefetch, maximum_unmap, descriptors, granularity, alignment]
    {
        out.extend_from_slice(&word.to_be_bytes());
    }
    out.extend_from_slice(&write_same.to_be_bytes());
    let atomic = atomic.unwrap_or_default();
    for word in
        [atomic.maximum, atomic.alignment, atomic.granularity, atomic.maximum_with_boundary, atomic.maximum_boundary]
    {
        out.extend_from_slice(&word.to_be_bytes());
    }
}

/// The page as an initiator reads it. UNMAP's effect on reading and its thresholds stand in B2h and
/// are false and 0 here.
pub fn parse(bytes: &[u8]) -> Result<(BlockLimits, Option<Unmap>), ParseError> {
    let body = body(0xB0, bytes)?;
    let [flags, compare_and_write] = field::array::<2>(body, 0).ok_or(ParseError::Truncated)?;
    // SBC-2 knew 12 bytes, SBC-3 60: what an older page lacks reads as zero, no limit reported.
    let word = |at| field::be32(body, at).unwrap_or(0);
    let alignment = word(28);
    let limits = BlockLimits {
        compare_and_write,
        optimal_granularity: field::be16(body, 2).ok_or(ParseError::Truncated)?,
        maximum_transfer: field::be32(body, 4).ok_or(ParseError::Truncated)?,
        optimal_transfer: field::be32(body, 8).ok_or(ParseError::Truncated)?,
        maximum_prefetch: word(12),
        write_same: field::be64(body, 32).unwrap_or(0),
        write_same_refuses_zero: flags & 1 != 0,
        atomic: (word(40) > 0).then(|| AtomicLimits {
            maximum: word(40),
            alignment: word(44),
            granularity: word(48),
            maximum_with_boundary: word(52),
            maximum_boundary: word(56),
        }),
    };
    let unmap = (word(16) > 0 && word(20) > 0).then(|| Unmap {
        maximum_blocks: word(16),
        maximum_descriptors: word(20),
        granularity: word(24),
        alignment: if alignment & UGAVALID != 0 { alignment & !UGAVALID } else { 0 },
        reads_zeros: false,
        anchors: false,
        threshold_exponent: 0,
    });
    Ok((limits, unmap))
}

/// Bit 31 of UNMAP GRANULARITY ALIGNMENT.
const UGAVALID: u32 = 1 << 31;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{inquiry::tests::facts, vpd::tests::page};

    #[test]
    fn spc_03_the_limits_come_back_as_they_are() {
        let mut facts = facts();
        facts.limits.atomic = Some(AtomicLimits {
            maximum: 1,
            alignment: 2,
            granularity: 3,
            maximum_with_boundary: 4,
            maximum_boundary: 5,
        });
        let bytes = page(0xB0, &facts);
        assert_eq!(bytes.len(), 64);
        let (limits, unmap) = parse(&bytes).unwrap();
        assert_eq!(limits, facts.limits);
        assert_eq!(unmap, Some(Unmap { reads_zeros: false, ..facts.unmap.unwrap() }));
        assert_eq!(bytes[20..24], (1u32 << 22).to_be_bytes(), "MAXIMUM UNMAP LBA COUNT stands at byte 20");
        assert_eq!(bytes[36..44], (1u64 << 33).to_be_bytes(), "MAXIMUM WRITE SAME LENGTH stands at byte 36");
    }

    #[test]
    fn a_unit_that_cannot_unmap_says_zero() {
        let mut facts = facts();
        facts.unmap = None;
        assert_eq!(parse(&page(0xB0, &facts)).unwrap().1, None);
    }
}
