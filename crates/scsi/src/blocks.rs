//! Parameter data about blocks: capacity, LBA status, the list of UNMAP, the list of LUNs (SBC-4 5.7, 5.21,
//! 5.43; SPC-5 6.34).

use crate::field;

/// What READ CAPACITY tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capacity {
    /// Logical blocks.
    pub blocks: u64,
    /// Bytes of a logical block.
    pub block_length: u32,
    /// Logical blocks of a physical one, as an exponent of 2.
    pub physical_exponent: u8,
    /// The first logical block at the start of a physical one.
    pub lowest_aligned: u16,
    /// LBPME: blocks can be unmapped.
    pub provisioning: bool,
    /// LBPRZ: unmapped blocks read as zeros.
    pub reads_zeros: bool,
    /// PROT_EN: blocks have protection information behind them.
    pub protection: bool,
}

impl Capacity {
    /// Bytes of the whole.
    pub fn bytes(&self) -> u64 {
        self.blocks.saturating_mul(self.block_length.into())
    }
}

/// Reads the data of READ CAPACITY (16). `None` where it is cut, or no disk can have such numbers.
pub fn parse_capacity_16(bytes: &[u8]) -> Option<Capacity> {
    let last = field::be64(bytes, 0)?;
    let flags = field::byte(bytes, 12)?;
    let low = field::be16(bytes, 14)?;
    let capacity = Capacity {
        blocks: last.checked_add(1)?,
        block_length: field::be32(bytes, 8)?,
        physical_exponent: field::byte(bytes, 13)? & 0x0f,
        lowest_aligned: low & 0x3fff,
        provisioning: low & 0x8000 != 0,
        reads_zeros: low & 0x4000 != 0,
        protection: flags & 1 != 0,
    };
    sound(capacity)
}

/// Reads the data of READ CAPACITY (10); `Ok(None)` inside where the number does not fit there.
pub fn parse_capacity_10(bytes: &[u8]) -> Option<Option<Capacity>> {
    let (last, block_length) = (field::be32(bytes, 0)?, field::be32(bytes, 4)?);
    if last == u32::MAX {
        return Some(None);
    }
    sound(Capacity {
        blocks: u64::from(last) + 1,
        block_length,
        physical_exponent: 0,
        lowest_aligned: 0,
        provisioning: false,
        reads_zeros: false,
        protection: false,
    })
    .map(Some)
}

/// A block has bytes, no more than a mebibyte of them, and all of them can be counted.
fn sound(capacity: Capacity) -> Option<Capacity> {
    let fits = (1..=1 << 20).contains(&capacity.block_length);
    (fits && capacity.blocks.checked_mul(capacity.block_length.into()).is_some()).then_some(capacity)
}

/// PROVISIONING STATUS of a range of blocks (SBC-4 5.7.3.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BlockState {
    /// 0: mapped, or nobody knows.
    Mapped,
    /// 1: deallocated.
    Deallocated,
    /// 2: anchored.
    Anchored,
    /// Another code.
    Other(u8),
}

/// A descriptor of GET LBA STATUS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlockRange {
    /// Its first block.
    pub lba: u64,
    /// How many there are; never 0.
    pub blocks: u32,
    /// What they are.
    pub state: BlockState,
}

/// Reads the data of GET LBA STATUS for `lba`: descriptors that follow each other from that block on. What does
/// not follow is where the answer ends. `None` where it is cut or says nothing of the block that was asked for.
pub fn parse_lba_status(lba: u64, bytes: &[u8]) -> Option<Vec<BlockRange>> {
    let announced = usize::try_from(field::be32(bytes, 0)?).ok()?;
    let end = announced.checked_add(4)?.min(bytes.len());
    let mut ranges = Vec::new();
    let mut next = lba;
    for descriptor in bytes.get(8..end)?.chunks_exact(16) {
        let (first, count) = (field::be64(descriptor, 0)?, field::be32(descriptor, 8)?);
        // The first descriptor may begin before the block that was asked for.
        let skipped = next.checked_sub(first).filter(|skipped| *skipped < u64::from(count));
        let Some(skipped) = skipped.filter(|skipped| ranges.is_empty() || *skipped == 0) else { break };
        let blocks = count - u32::try_from(skipped).ok()?;
        let state = match field::byte(descriptor, 12)? & 0x0f {
            0 => BlockState::Mapped,
            1 => BlockState::Deallocated,
            2 => BlockState::Anchored,
            other => BlockState::Other(other),
        };
        ranges.push(BlockRange { lba: next, blocks, state });
        let Some(after) = next.checked_add(blocks.into()) else { break };
        next = after;
    }
    (!ranges.is_empty()).then_some(ranges)
}

/// The parameter list of UNMAP for these ranges of first block and count.
pub fn encode_unmap(ranges: &[(u64, u32)]) -> Vec<u8> {
    let descriptors = u16::try_from(ranges.len() * 16).unwrap_or(u16::MAX);
    let mut out = Vec::with_capacity(8 + ranges.len() * 16);
    out.extend_from_slice(&descriptors.saturating_add(6).to_be_bytes());
    out.extend_from_slice(&descriptors.to_be_bytes());
    out.extend_from_slice(&[0; 4]);
    for (lba, blocks) in ranges {
        out.extend_from_slice(&lba.to_be_bytes());
        out.extend_from_slice(&blocks.to_be_bytes());
        out.extend_from_slice(&[0; 4]);
    }
    out
}

/// The LUNs of a REPORT LUNS answer as they stand on the wire, and how many bytes of them the target has.
pub fn parse_luns(bytes: &[u8]) -> Option<(usize, Vec<[u8; 8]>)> {
    let announced = usize::try_from(field::be32(bytes, 0)?).ok()?;
    let list = bytes.get(8..)?;
    let (luns, _) = list.get(..announced.min(list.len()))?.as_chunks::<8>();
    Some((announced, luns.to_vec()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_capacity_is_read_and_an_impossible_one_refused() {
        let mut data = [0u8; 32];
        data[7] = 9;
        data[10] = 2;
        (data[12], data[13], data[14], data[15]) = (1, 3, 0xc0, 7);
        let capacity = parse_capacity_16(&data).unwrap();
        assert_eq!((capacity.blocks, capacity.block_length, capacity.bytes()), (10, 512, 5120));
        assert_eq!((capacity.physical_exponent, capacity.lowest_aligned), (3, 7));
        assert!(capacity.provisioning && capacity.reads_zeros && capacity.protection);
        assert!((0..16).all(|length| parse_capacity_16(&data[..length]).is_none()));
        for (at, bytes) in [(8, [0u8; 4]), (8, [0xff; 4])] {
            let mut wrong = data;
            wrong[at..at + 4].copy_from_slice(&bytes);
            assert_eq!(parse_capacity_16(&wrong), None, "a block length of 0 or 4 GiB");
        }
        data[..8].fill(0xff);
        assert_eq!(parse_capacity_16(&data), None, "2^64 blocks");
        data[0] = 0x7f;
        assert_eq!(parse_capacity_16(&data), None, "more bytes than can be counted");
        assert_eq!(parse_capacity_10(&[0, 0, 0, 9, 0, 0, 2, 0]).unwrap().unwrap().bytes(), 5120);
        assert_eq!(parse_capacity_10(&[0xff, 0xff, 0xff, 0xff, 0, 0, 2, 0]), Some(None));
        assert_eq!(parse_capacity_10(&[0; 7]), None);
    }

    fn status(announced: u32, descriptors: &[(u64, u32, u8)]) -> Vec<u8> {
        let mut out = announced.to_be_bytes().to_vec();
        out.extend_from_slice(&[0; 4]);
        for (lba, blocks, state) in descriptors {
            out.extend_from_slice(&lba.to_be_bytes());
            out.extend_from_slice(&blocks.to_be_bytes());
            out.extend_from_slice(&[*state, 0, 0, 0]);
        }
        out
    }

    #[test]
    fn lba_status_is_believed_only_where_it_follows() {
        let range = |lba, blocks, state| BlockRange { lba, blocks, state };
        let good = status(36, &[(8, 8, 0), (16, 4, 1)]);
        assert_eq!(
            parse_lba_status(10, &good),
            Some(vec![range(10, 6, BlockState::Mapped), range(16, 4, BlockState::Deallocated)])
        );
        assert_eq!(parse_lba_status(20, &good), None, "nothing of that block");
        assert_eq!(parse_lba_status(0, &good), None);
        let gap = status(36, &[(0, 8, 2), (9, 4, 1)]);
        assert_eq!(parse_lba_status(0, &gap), Some(vec![range(0, 8, BlockState::Anchored)]));
        assert_eq!(parse_lba_status(0, &status(20, &[(0, 0, 1)])), None, "a range of nothing");
        let last = status(36, &[(u64::MAX - 1, 4, 1), (2, 4, 1)]);
        assert_eq!(parse_lba_status(u64::MAX - 1, &last).map(|ranges| ranges.len()), Some(1));
        assert_eq!(parse_lba_status(8, &status(u32::MAX, &[(8, 8, 0)])).map(|ranges| ranges.len()), Some(1));
        assert!((0..24).all(|length| parse_lba_status(8, &good[..length]).is_none()));
    }

    #[test]
    fn an_unmap_list_has_two_lengths_and_sixteen_bytes_a_range() {
        let list = encode_unmap(&[(1, 2), (3, 4)]);
        assert_eq!((list.len(), &list[..4]), (40, &[0, 38, 0, 32][..]));
        assert_eq!(list[8..20], [0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 2]);
    }

    #[test]
    fn luns_come_as_many_as_came() {
        let mut data = vec![0, 0, 0, 24, 0, 0, 0, 0];
        data.extend([0, 1, 0, 0, 0, 0, 0, 0, 0x40, 7, 0, 0, 0, 0, 0, 0, 9]);
        let (announced, luns) = parse_luns(&data).unwrap();
        assert_eq!((announced, luns.len(), luns[1][1]), (24, 2, 7));
        assert!((0..8).all(|length| parse_luns(&data[..length]).is_none()));
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_harm_the_readers(lba: u64, bytes in proptest::collection::vec(0u8.., 0..200)) {
            let _ = (parse_lba_status(lba, &bytes), parse_luns(&bytes));
            let _ = (parse_capacity_16(&bytes), parse_capacity_10(&bytes));
        }
    }
}
