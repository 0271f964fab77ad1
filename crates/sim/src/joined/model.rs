//! What a disk may hold (reliability.md section 6, the ground rule): the history of every block, for
//! commands that write, that write the same everywhere, and that unmap.

/// Bytes of a block.
pub(super) const BLOCK: usize = 512;
/// In place of a block's number, where a write puts the same into all of its blocks.
const ANY_BLOCK: u64 = 0xffff_ffff;

/// What a version puts into its blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Content {
    /// Its number and the block's.
    Own,
    /// Its number alone.
    Same,
    /// Zeros.
    Zeros,
}

/// A change of some blocks. Numbers rise with the order in which changes are begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Version {
    pub number: u64,
    pub content: Content,
}

/// Before anything was written.
const BLANK: Version = Version { number: 0, content: Content::Zeros };

#[derive(Debug, Clone)]
struct Block {
    /// The last change that was acknowledged or seen.
    settled: Version,
    /// Changes since, of which the outcome is not known.
    possible: Vec<Version>,
}

/// The disk as the initiator knows it.
pub(super) struct Model {
    blocks: Vec<Block>,
    next: u64,
}

impl Version {
    fn word(self, block: u64) -> u64 {
        match self.content {
            Content::Own => self.number << 32 | block,
            Content::Same => self.number << 32 | ANY_BLOCK,
            Content::Zeros => 0,
        }
    }
}

impl Model {
    pub fn new(blocks: usize) -> Model {
        Model { blocks: vec![Block { settled: BLANK, possible: Vec::new() }; blocks], next: 1 }
    }

    pub fn blocks(&self) -> u64 {
        self.blocks.len() as u64
    }

    /// A change is about to be asked for. No other change of these blocks is under way.
    pub fn begin(&mut self, lba: u64, count: u64, content: Content) -> Version {
        let version = Version { number: self.next, content };
        self.next += 1;
        for block in self.range(lba, count) {
            block.possible.push(version);
        }
        version
    }

    /// The bytes that a version puts there.
    pub fn bytes(version: Version, lba: u64, count: u64) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(count as usize * BLOCK);
        for block in lba..lba + count {
            bytes.extend_from_slice(&version.word(block).to_be_bytes().repeat(BLOCK / 8));
        }
        bytes
    }

    /// It was acknowledged: nothing older may ever be seen there again.
    pub fn acknowledged(&mut self, lba: u64, count: u64, version: Version) {
        for block in self.range(lba, count) {
            block.settle(version);
        }
    }

    /// What the block holds, where that is certain.
    pub fn certain(&self, lba: u64) -> Option<Version> {
        let block = self.blocks.get(lba as usize)?;
        block.possible.is_empty().then_some(block.settled)
    }

    /// Judges what was read while no change of these blocks was under way. What was seen once stays.
    pub fn check(&mut self, lba: u64, data: &[u8]) -> Result<(), String> {
        for (number, bytes) in (lba..).zip(data.chunks(BLOCK)) {
            let Some(first) = bytes.first_chunk::<8>() else { return Err("a short block".to_owned()) };
            let word = u64::from_be_bytes(*first);
            if bytes.len() != BLOCK || bytes.chunks(8).any(|chunk| chunk != first) {
                return Err(format!("block {number}: a mixture"));
            }
            let Some(block) = self.blocks.get_mut(number as usize) else { return Err("beyond the end".to_owned()) };
            if block.settled.word(number) == word {
                continue;
            }
            match block.possible.iter().find(|version| version.word(number) == word).copied() {
                Some(version) => block.settle(version),
                None => return Err(format!("block {number}: holds {:x}.{:x}, but {block:?}", word >> 32, word as u32)),
            }
        }
        Ok(())
    }

    fn range(&mut self, lba: u64, count: u64) -> impl Iterator<Item = &mut Block> {
        self.blocks.iter_mut().skip(lba as usize).take(count as usize)
    }
}

impl Block {
    fn settle(&mut self, version: Version) {
        self.possible.retain(|other| other.number > version.number);
        if version.number > self.settled.number {
            self.settled = version;
        }
    }
}

/// The version and block that a written block names, for who counts writes.
pub(super) fn named(bytes: &[u8]) -> Option<(u64, u64)> {
    let word = u64::from_be_bytes(*bytes.first_chunk::<8>()?);
    (word != 0).then_some((word >> 32, word & 0xffff_ffff))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_acknowledged_stays_and_what_is_unknown_may_be_there() {
        let mut model = Model::new(8);
        let first = model.begin(2, 2, Content::Own);
        let old = Model::bytes(first, 2, 2);
        assert!(model.check(2, &[0; 1024]).is_ok(), "not acknowledged: old or new");
        model.acknowledged(2, 2, first);
        assert!(model.check(2, &[0; 1024]).is_err(), "lost");
        assert_eq!(model.certain(2), Some(first));
        let second = model.begin(3, 1, Content::Zeros);
        assert!(model.check(2, &old).is_ok());
        assert!(model.check(3, &[0; 512]).is_ok());
        assert!(model.check(3, &old[512..]).is_err(), "it was seen, and is gone");
        assert_eq!(model.certain(3), Some(second));
        let third = model.begin(3, 1, Content::Same);
        assert!(model.check(3, &Model::bytes(third, 3, 1)).is_ok());
        assert!(model.check(4, &old[512..]).is_err(), "another block's data");
        assert!(model.check(2, &[&old[..256], &[0; 256]].concat()).is_err(), "torn");
    }
}
