//! 8Fh, third-party copy (SPC-5 7.7.18; SBC-4 for the block device descriptor).

use crate::{
    copy, field,
    inquiry::{CopyListLimits, Facts, TokenLimits},
};

pub(super) fn encode(facts: &Facts<'_>, out: &mut Vec<u8>) {
    let Some(offer) = &facts.third_party_copy else { return };
    if let Some(tokens) = &offer.tokens {
        descriptor(out, 0x0000, |out| block_device_limits(tokens, out));
    }
    descriptor(out, 0x0001, |out| {
        counted8(out, |out| {
            for (operation_code, service_actions) in offer.commands {
                out.extend_from_slice(&[*operation_code, u8::try_from(service_actions.len()).unwrap_or(u8::MAX)]);
                out.extend_from_slice(service_actions);
            }
        });
    });
    if let Some(lists) = &offer.lists {
        descriptor(out, 0x0004, |out| parameter_data(lists, out));
        descriptor(out, 0x0008, |out| counted8(out, |out| out.extend_from_slice(lists.descriptor_types)));
        descriptor(out, 0x000C, |out| {
            out.extend_from_slice(&[0, 2]);
            out.extend_from_slice(&copy::list::THIS_UNIT.to_be_bytes());
        });
    }
    if let Some(tokens) = &offer.tokens {
        descriptor(out, 0x0106, |out| token_features(tokens, out));
        descriptor(out, 0x0108, |out| {
            out.extend_from_slice(&[0, 0]);
            out.extend_from_slice(&(2 * ROD_TYPE_BYTES as u16).to_be_bytes());
            rod_type(copy::token::ACCESS_UPON_REFERENCE, TOKEN_OUT | TOKEN_IN, out);
            rod_type(copy::token::BLOCK_ZERO, TOKEN_IN, out);
        });
    }
    if let Some(lists) = &offer.lists {
        descriptor(out, 0x8001, |out| general_operations(lists, out));
    }
}

fn block_device_limits(tokens: &TokenLimits, out: &mut Vec<u8>) {
    out.extend_from_slice(&[0; 6]);
    out.extend_from_slice(&tokens.maximum_ranges.to_be_bytes());
    out.extend_from_slice(&tokens.maximum_inactivity_s.to_be_bytes());
    out.extend_from_slice(&tokens.default_inactivity_s.to_be_bytes());
    out.extend_from_slice(&tokens.maximum_blocks.to_be_bytes());
    out.extend_from_slice(&tokens.optimal_blocks.to_be_bytes());
}

/// ROD token features (SPC-4 7.8.17.9), with those of block devices.
fn token_features(tokens: &TokenLimits, out: &mut Vec<u8>) {
    // REMOTE TOKENS 0: tokens of other copy managers are not known here.
    out.extend_from_slice(&[0; 12]);
    out.extend_from_slice(&[0; 4]); // MINIMUM TOKEN LIFETIME: none is promised beyond the inactivity timeout
    out.extend_from_slice(&0u32.to_be_bytes()); // MAXIMUM TOKEN LIFETIME: not reported
    out.extend_from_slice(&tokens.maximum_inactivity_s.to_be_bytes());
    out.extend_from_slice(&[0; 18]);
    out.extend_from_slice(&48u16.to_be_bytes());
    out.extend_from_slice(&[0x00, 0, 0, 44, 0, 0]);
    out.extend_from_slice(&[0, 1]); // any number of blocks
    let bytes = |blocks: u64| blocks.saturating_mul(tokens.block_length.into()).to_be_bytes();
    out.extend_from_slice(&bytes(tokens.maximum_blocks));
    out.extend_from_slice(&bytes(tokens.optimal_blocks));
    out.extend_from_slice(&bytes(tokens.optimal_blocks));
    out.extend_from_slice(&bytes(tokens.optimal_blocks));
    out.extend_from_slice(&[0; 8]);
}

/// A ROD type and whether tokens of it are given out and taken (SPC-4 7.8.17.10).
fn rod_type(code: u32, flags: u8, out: &mut Vec<u8>) {
    let start = out.len();
    out.extend_from_slice(&code.to_be_bytes());
    out.push(flags);
    out.resize(start + ROD_TYPE_BYTES, 0);
}

const ROD_TYPE_BYTES: usize = 64;
const TOKEN_OUT: u8 = 0x01;
const TOKEN_IN: u8 = 0x02;

fn parameter_data(lists: &CopyListLimits<'_>, out: &mut Vec<u8>) {
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(&lists.maximum_cscds.to_be_bytes());
    out.extend_from_slice(&lists.maximum_segments.to_be_bytes());
    out.extend_from_slice(&lists.maximum_descriptor_bytes.to_be_bytes());
    out.extend_from_slice(&lists.maximum_inline_bytes.to_be_bytes());
    out.extend_from_slice(&[0; 12]);
}

fn general_operations(lists: &CopyListLimits<'_>, out: &mut Vec<u8>) {
    out.extend_from_slice(&lists.concurrent.to_be_bytes());
    out.extend_from_slice(&lists.concurrent.to_be_bytes());
    out.extend_from_slice(&lists.maximum_segment_bytes.to_be_bytes());
    out.extend_from_slice(&[0; 20]); // granularities 2^0: any number of bytes
}

/// A descriptor with its type and length, padded to a multiple of four.
fn descriptor(out: &mut Vec<u8>, kind: u16, body: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend_from_slice(&kind.to_be_bytes());
    out.extend_from_slice(&[0, 0]);
    body(out);
    out.resize(start + (out.len() - start).next_multiple_of(4), 0);
    field::set_length16(out, start + 2);
}

/// A list behind the one byte that counts its bytes.
fn counted8(out: &mut Vec<u8>, list: impl FnOnce(&mut Vec<u8>)) {
    let at = out.len();
    out.push(0);
    list(out);
    let length = u8::try_from(out.len() - at - 1).unwrap_or(u8::MAX);
    if let Some(field) = out.get_mut(at) {
        *field = length;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        inquiry::{ThirdPartyCopy, tests::facts},
        vpd::tests::page,
    };

    #[test]
    fn descriptors_are_whole_ascending_and_of_their_standard_lengths() {
        let mut facts = facts();
        facts.third_party_copy = Some(ThirdPartyCopy {
            commands: &[(0x83, &[0x00, 0x01, 0x10, 0x11]), (0x84, &[0x07])],
            tokens: Some(TokenLimits {
                block_length: 512,
                maximum_ranges: 8,
                maximum_inactivity_s: 300,
                default_inactivity_s: 30,
                maximum_blocks: 1 << 17,
                optimal_blocks: 1 << 15,
            }),
            lists: Some(CopyListLimits {
                maximum_cscds: 2,
                maximum_segments: 8,
                maximum_descriptor_bytes: 1024,
                maximum_inline_bytes: 0,
                descriptor_types: &[0x02, 0xE4],
                concurrent: 16,
                maximum_segment_bytes: 1 << 24,
            }),
        });
        let bytes = page(0x8F, &facts);
        let mut rest = &bytes[4..];
        let mut found = Vec::new();
        while let (Some(kind), Some(length)) = (field::be16(rest, 0), field::be16(rest, 2)) {
            found.push((kind, length));
            rest = &rest[4 + usize::from(length)..];
        }
        assert!(rest.is_empty());
        assert_eq!(
            found,
            [
                (0x0000, 0x20),
                (0x0001, 12),
                (0x0004, 0x1C),
                (0x0008, 4),
                (0x000C, 4),
                (0x0106, 0x2C + 0x30),
                (0x0108, 0x84),
                (0x8001, 0x20)
            ]
        );
        assert_eq!(field::be16(&bytes, 4 + 10), Some(8), "most ranges");
    }
}
