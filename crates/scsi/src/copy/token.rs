//! Token copies: the parameter lists of POPULATE TOKEN and WRITE USING TOKEN (SBC-3 5.7, 5.46), and ROD
//! tokens themselves (SPC-4 5.16.6.5), which stand for blocks of a logical unit.

use super::{byte_at, invalid, list::Cscd, u16_at, u32_at, u64_at};
use crate::{Condition, SenseKey, field};

/// Bytes of a token.
pub const TOKEN_BYTES: usize = 512;
/// Most block device range descriptors of one list.
pub const MAXIMUM_RANGES: u16 = 64;
/// ROD TYPE, access upon reference: what the blocks hold when the token is used.
pub const ACCESS_UPON_REFERENCE: u32 = 0x0001_0000;
/// ROD TYPE, block device zero: as many zeros as are wanted, for everybody.
pub const BLOCK_ZERO: u32 = 0xFFFF_0001;

const RANGE_BYTES: usize = 16;
const ROD_TOKEN_LENGTH: u16 = 0x01F8;

/// A run of blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Range {
    /// LOGICAL BLOCK ADDRESS.
    pub block: u64,
    /// NUMBER OF LOGICAL BLOCKS.
    pub blocks: u32,
}

/// The parameter list of POPULATE TOKEN.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Populate {
    /// IMMED.
    pub immediate: bool,
    /// INACTIVITY TIMEOUT in seconds; 0 for the usual one.
    pub inactivity_timeout: u32,
    /// ROD TYPE, where RTV says that one is wanted.
    pub rod_type: Option<u32>,
    /// What the token is to stand for.
    pub ranges: Vec<Range>,
}

/// The parameter list of WRITE USING TOKEN.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WriteUsing {
    /// IMMED.
    pub immediate: bool,
    /// DEL_TKN: the token may be forgotten afterwards.
    pub forget: bool,
    /// OFFSET INTO ROD, in blocks of the unit that is written.
    pub offset: u64,
    /// The token.
    pub token: Box<[u8]>,
    /// What is written.
    pub ranges: Vec<Range>,
}

/// The parameter list of POPULATE TOKEN.
pub fn parse_populate(bytes: &[u8]) -> Result<Populate, Condition> {
    let flags = flags(bytes, 16)?;
    let valid = flags & 2 != 0;
    let ranges = ranges(bytes, 14)?;
    Ok(Populate {
        immediate: flags & 1 != 0,
        inactivity_timeout: u32_at(bytes, 4)?,
        rod_type: if valid { Some(u32_at(bytes, 8)?) } else { None },
        ranges,
    })
}

/// The parameter list of WRITE USING TOKEN.
pub fn parse_write_using(bytes: &[u8]) -> Result<WriteUsing, Condition> {
    let flags = flags(bytes, 536)?;
    let token = bytes.get(16..16 + TOKEN_BYTES).ok_or(Condition::PARAMETER_LIST_LENGTH_ERROR)?.into();
    Ok(WriteUsing {
        immediate: flags & 1 != 0,
        forget: flags & 2 != 0,
        offset: u64_at(bytes, 8)?,
        token,
        ranges: ranges(bytes, 534)?,
    })
}

/// The flags in byte 2 of a list whose header has this many bytes. The length in its first two bytes must
/// not go beyond what was sent.
fn flags(bytes: &[u8], header: usize) -> Result<u8, Condition> {
    let said = usize::from(u16_at(bytes, 0)?) + 2;
    if bytes.len() < header {
        return Err(Condition::PARAMETER_LIST_LENGTH_ERROR);
    }
    if said < header || said > bytes.len() {
        return Err(invalid(0, Some(7)));
    }
    let flags = byte_at(bytes, 2)?;
    match flags & 0xFC {
        0 => Ok(flags),
        _ => Err(invalid(2, Some(7))),
    }
}

/// The range descriptors behind their length field. They must be whole, some, and disjoint.
fn ranges(bytes: &[u8], at: usize) -> Result<Vec<Range>, Condition> {
    let length = usize::from(u16_at(bytes, at)?);
    if length < RANGE_BYTES || !length.is_multiple_of(RANGE_BYTES) {
        return Err(invalid(at, Some(7)));
    }
    if length > usize::from(MAXIMUM_RANGES) * RANGE_BYTES {
        // TOO MANY SEGMENT DESCRIPTORS.
        return Err(Condition::new(SenseKey::IllegalRequest, 0x26, 0x08));
    }
    let end = at + 2 + length;
    if end > usize::from(u16_at(bytes, 0)?) + 2 || end > bytes.len() {
        return Err(invalid(at, Some(7)));
    }
    let mut ranges: Vec<Range> = Vec::new();
    for from in (at + 2..end).step_by(RANGE_BYTES) {
        let range = Range { block: u64_at(bytes, from)?, blocks: u32_at(bytes, from + 8)? };
        let crosses = |other: &Range| {
            range.block < other.block.saturating_add(other.blocks.into())
                && other.block < range.block.saturating_add(range.blocks.into())
        };
        if range.blocks > 0 && ranges.iter().any(crosses) {
            return Err(invalid(from, Some(7)));
        }
        ranges.push(range);
    }
    Ok(ranges)
}

/// A list for POPULATE TOKEN as an initiator sends it.
pub fn encode_populate(list: &Populate) -> Vec<u8> {
    let mut out = vec![0, 0, u8::from(list.immediate) | u8::from(list.rod_type.is_some()) << 1, 0];
    out.extend_from_slice(&list.inactivity_timeout.to_be_bytes());
    out.extend_from_slice(&list.rod_type.unwrap_or(0).to_be_bytes());
    out.extend_from_slice(&[0, 0]);
    encode_ranges(&list.ranges, &mut out);
    out
}

/// A list for WRITE USING TOKEN as an initiator sends it.
pub fn encode_write_using(list: &WriteUsing) -> Vec<u8> {
    let mut out = vec![0, 0, u8::from(list.immediate) | u8::from(list.forget) << 1, 0, 0, 0, 0, 0];
    out.extend_from_slice(&list.offset.to_be_bytes());
    out.extend_from_slice(&list.token);
    out.resize(534, 0);
    encode_ranges(&list.ranges, &mut out);
    out
}

fn encode_ranges(ranges: &[Range], out: &mut Vec<u8>) {
    out.extend_from_slice(&((ranges.len() * RANGE_BYTES) as u16).to_be_bytes());
    for range in ranges {
        out.extend_from_slice(&range.block.to_be_bytes());
        out.extend_from_slice(&range.blocks.to_be_bytes());
        out.extend_from_slice(&[0; 4]);
    }
    field::set_length16(out, 0);
}

/// What a token is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token<'a> {
    /// COPY MANAGER ROD TOKEN IDENTIFIER.
    pub identifier: u64,
    /// The NAA designator of the logical unit whose blocks it stands for.
    pub naa: [u8; 16],
    /// Bytes of a block there.
    pub block_length: u32,
    /// Bytes that it stands for.
    pub bytes: u64,
    /// What nobody can guess.
    pub secret: &'a [u8; 32],
}

impl Token<'_> {
    /// The token's 512 bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(TOKEN_BYTES);
        out.extend_from_slice(&ACCESS_UPON_REFERENCE.to_be_bytes());
        out.extend_from_slice(&[0, 0]);
        out.extend_from_slice(&ROD_TOKEN_LENGTH.to_be_bytes());
        out.extend_from_slice(&self.identifier.to_be_bytes());
        let creator = Cscd {
            code_set: 1,
            designator_type: 3,
            designator: self.naa.to_vec(),
            block_length: self.block_length,
            null: false,
            at: 0,
        };
        creator.encode(&mut out);
        out.extend_from_slice(&u128::from(self.bytes).to_be_bytes());
        out.resize(96, 0);
        // Device type specific data: as READ CAPACITY (16) from its block length on.
        out.extend_from_slice(&self.block_length.to_be_bytes());
        out.resize(TOKEN_BYTES - self.secret.len(), 0);
        out.extend_from_slice(self.secret);
        out
    }
}

/// ROD TYPE of a token.
pub fn rod_type(token: &[u8]) -> Option<u32> {
    // A length that is not that of a token is none (SPC-4 5.16.6.5.2).
    (field::be16(token, 6)? == ROD_TOKEN_LENGTH).then(|| field::be32(token, 0)).flatten()
}

/// The NAA designator of the logical unit that made a token, as the token says.
pub fn creator(token: &[u8]) -> Option<[u8; 16]> {
    (field::byte(token, 16)? == super::IDENTIFICATION).then(|| field::array(token, 24)).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn two() -> Vec<Range> {
        vec![Range { block: 8, blocks: 8 }, Range { block: 1 << 33, blocks: 1 }]
    }

    #[test]
    fn lists_come_back_as_they_were_sent() {
        let populate =
            Populate { immediate: true, inactivity_timeout: 30, rod_type: Some(ACCESS_UPON_REFERENCE), ranges: two() };
        assert_eq!(parse_populate(&encode_populate(&populate)), Ok(populate));
        let write = WriteUsing { immediate: false, forget: true, offset: 3, token: [9; 512].into(), ranges: two() };
        assert_eq!(parse_write_using(&encode_write_using(&write)), Ok(write));
    }

    #[test]
    fn spc_12_a_list_that_is_cut_anywhere_is_refused() {
        let populate = Populate { immediate: false, inactivity_timeout: 0, rod_type: None, ranges: two() };
        let write = WriteUsing { immediate: false, forget: false, offset: 0, token: [0; 512].into(), ranges: two() };
        let (populate, write) = (encode_populate(&populate), encode_write_using(&write));
        for length in 0..populate.len() {
            assert!(parse_populate(&populate[..length]).is_err(), "{length}");
        }
        for length in 0..write.len() {
            assert!(parse_write_using(&write[..length]).is_err(), "{length}");
        }
    }

    #[test]
    fn ranges_that_overlap_are_refused_where_they_do() {
        let ranges = vec![Range { block: 8, blocks: 8 }, Range { block: 15, blocks: 1 }];
        let list = encode_populate(&Populate { immediate: false, inactivity_timeout: 0, rod_type: None, ranges });
        assert_eq!(parse_populate(&list), Err(invalid(32, Some(7))));
    }

    #[test]
    fn a_token_names_its_maker() {
        let token = Token { identifier: 5, naa: [6; 16], block_length: 512, bytes: 1 << 20, secret: &[3; 32] }.encode();
        assert_eq!(token.len(), TOKEN_BYTES);
        assert_eq!((rod_type(&token), creator(&token)), (Some(ACCESS_UPON_REFERENCE), Some([6; 16])));
        assert_eq!(rod_type(&[0; 512]), None);
        assert_eq!((field::be64(&token, 56), field::be32(&token, 96)), (Some(1 << 20), Some(512)));
    }

    proptest::proptest! {
        #[test]
        fn no_list_harms_the_decoder(bytes in proptest::collection::vec(0u8.., 0..600)) {
            let _ = (parse_populate(&bytes), parse_write_using(&bytes), rod_type(&bytes), creator(&bytes));
        }
    }
}
