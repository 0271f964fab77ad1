//! 19h, general statistics and performance (SPC-5 7.3.11).

use super::{Page, Parameter};

/// Counts since power on; they wrap.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Statistics {
    /// Read commands.
    pub read_commands: u64,
    /// Write commands.
    pub write_commands: u64,
    /// Logical blocks that initiators wrote.
    pub blocks_received: u64,
    /// Logical blocks that initiators read.
    pub blocks_transmitted: u64,
}

pub(super) const PAGE: Page = Page {
    code: CODE,
    applies: |facts| facts.statistics.is_some(),
    counters: &[0x0001, 0x0002],
    parameters: |facts| {
        let Some(counts) = facts.statistics else { return Vec::new() };
        let words = [
            counts.read_commands,
            counts.write_commands,
            counts.blocks_received,
            counts.blocks_transmitted,
            // Nobody takes the time: so many intervals of no length.
            0,
            0,
            // Weighted by command priority, which is not looked at.
            0,
            0,
        ];
        let value = words.iter().flat_map(|word| word.to_be_bytes()).collect();
        vec![
            Parameter { code: 0x0001, value },
            // Idle time.
            Parameter { code: 0x0002, value: vec![0; 8] },
            Parameter { code: 0x0003, value: NO_INTERVAL.to_vec() },
        ]
    },
};

/// Time interval descriptor: the exponent of a negative power of ten, and how many of those; none, as no
/// time is measured.
const NO_INTERVAL: [u8; 8] = [0; 8];
pub(super) const CODE: u8 = 0x19;
