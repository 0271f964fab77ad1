//! Which blocks are asked for in which order, and what is read or written.

/// What is asked of the disk.
#[derive(Debug, Clone)]
pub struct Work {
    /// Bytes of a command.
    pub block: u64,
    /// The part of the disk that is used.
    pub span: u64,
    /// How many of a hundred are writes.
    pub write_percent: u8,
    /// One after the other.
    pub sequential: bool,
    /// For random blocks.
    pub seed: u64,
    /// The first block of a sequential stream.
    pub start: u64,
}

/// The order of it.
pub struct Order {
    work: Work,
    next: u64,
    random: u64,
}

impl Order {
    /// From the beginning.
    pub fn new(work: Work) -> Order {
        Order { next: work.start, random: work.seed, work }
    }

    /// The number of the next command's block, counted in the bytes of a command, and whether it is a write.
    pub fn next(&mut self) -> (u64, bool) {
        let blocks = (self.work.span / self.work.block).max(1);
        let number = match self.work.sequential {
            true => {
                self.next += 1;
                (self.next - 1) % blocks
            }
            false => self.random() % blocks,
        };
        let write = self.work.write_percent == 100
            || self.work.write_percent > 0 && self.random() % 100 < u64::from(self.work.write_percent);
        (number, write)
    }

    /// SplitMix64.
    pub fn random(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.random;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }
}
