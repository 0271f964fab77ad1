//! What a disk may hold: the history of every block (reliability.md, the ground rule above the table
//! of faults).

use std::collections::HashMap;

/// Bytes of a block.
pub const BLOCK: usize = 512;

/// What was written to each block and what is known of it.
#[derive(Debug, Default)]
pub struct Shadow {
    next_version: u64,
    blocks: HashMap<u64, Block>,
}

/// Writes are told apart by their number, which rises.
#[derive(Debug, Default)]
struct Block {
    /// The last write that was acknowledged or seen; none: zeros.
    settled: Option<u64>,
    /// Writes that were issued since and whose outcome is not known, or that failed.
    possible: Vec<u64>,
}

/// A write that was issued and not judged yet.
#[derive(Debug, Clone)]
#[must_use = "say how the write ended"]
pub struct Issued {
    lba: u64,
    blocks: u64,
    version: u64,
}

impl Shadow {
    /// A write of whole blocks is about to be issued; returns its data, which is like no other.
    pub fn issue(&mut self, lba: u64, blocks: u64) -> (Issued, Vec<u8>) {
        self.next_version += 1;
        let version = self.next_version;
        let mut data = Vec::with_capacity(blocks as usize * BLOCK);
        for number in lba..lba + blocks {
            data.extend(pattern(number, version));
            self.blocks.entry(number).or_default().possible.push(version);
        }
        (Issued { lba, blocks, version }, data)
    }

    /// It was acknowledged. Nothing older may be there any more: a test lets no two writes of one
    /// block be in flight in one session, and what a lost session had in flight is dead.
    pub fn acknowledged(&mut self, issued: &Issued) {
        for number in issued.lba..issued.lba + issued.blocks {
            let block = self.blocks.entry(number).or_default();
            block.settle(issued.version);
        }
    }

    /// Blocks that were ever written, in order.
    pub fn written(&self) -> Vec<u64> {
        let mut numbers: Vec<u64> = self.blocks.keys().copied().collect();
        numbers.sort_unstable();
        numbers
    }

    /// Judges what was read of blocks from `lba` on: each block is its last acknowledged write or a
    /// later one, whole. What was seen is settled from then on: a block does not go back.
    pub fn check(&mut self, lba: u64, data: &[u8]) -> Result<(), String> {
        for (number, bytes) in (lba..).zip(data.chunks(BLOCK)) {
            let block = self.blocks.entry(number).or_default();
            let seen = version_of(number, bytes).map_err(|what| format!("block {number}: {what}"))?;
            match seen {
                seen if seen == block.settled => {}
                Some(version) if block.possible.contains(&version) => block.settle(version),
                _ => return Err(format!("block {number}: holds write {seen:?}, but {block:?}")),
            }
        }
        Ok(())
    }
}

impl Block {
    fn settle(&mut self, version: u64) {
        self.possible.retain(|other| *other > version);
        self.settled = self.settled.max(Some(version));
    }
}

/// The bytes of a block that was written by this write.
fn pattern(number: u64, version: u64) -> impl Iterator<Item = u8> {
    let word = version << 32 | number & 0xffff_ffff;
    (0..BLOCK / 8).flat_map(move |_| word.to_be_bytes())
}

/// Which write a block holds; none: zeros.
fn version_of(number: u64, bytes: &[u8]) -> Result<Option<u64>, String> {
    let first: [u8; 8] = bytes.get(..8).and_then(|first| first.try_into().ok()).ok_or("a short block")?;
    let word = u64::from_be_bytes(first);
    if bytes.chunks(8).any(|chunk| chunk != first) {
        return Err("a mixture of writes".to_owned());
    }
    if word == 0 {
        return Ok(None);
    }
    if word & 0xffff_ffff != number & 0xffff_ffff {
        return Err(format!("holds what was written to block {}", word & 0xffff_ffff));
    }
    Ok(Some(word >> 32))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_acknowledged_write_must_be_there_and_others_may() {
        let mut shadow = Shadow::default();
        let (first, old) = shadow.issue(4, 2);
        assert!(shadow.check(4, &[0; 1024]).is_ok(), "not acknowledged: old or new");
        shadow.acknowledged(&first);
        assert!(shadow.check(4, &[0; 1024]).is_err(), "lost");
        let (_unknown, new) = shadow.issue(5, 1);
        assert!(shadow.check(4, &old).is_ok());
        assert!(shadow.check(4, &[&old[..512], &new].concat()).is_ok());
        assert!(shadow.check(4, &old).is_err(), "it was seen, and is gone");
        assert!(shadow.check(5, &old[..512]).is_err(), "another block's data");
        let torn = [&old[512..768], &new[256..]].concat();
        assert_eq!(shadow.check(5, &torn), Err("block 5: a mixture of writes".to_owned()));
        assert_eq!(shadow.written(), [4, 5]);
    }
}
