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
    /// Microseconds that read commands took, added up.
    pub read_us: u64,
    /// Microseconds that write commands took, added up.
    pub write_us: u64,
}

pub(super) const PAGE: Page = Page {
    code: 0x19,
    applies: |facts| facts.statistics.is_some(),
    counts: true,
    parameters: |facts| {
        let Some(counts) = facts.statistics else { return Vec::new() };
        let words = [
            counts.read_commands,
            counts.write_commands,
            counts.blocks_received,
            counts.blocks_transmitted,
            counts.read_us,
            counts.write_us,
            // The weighted counts weigh every command by one.
            counts.read_commands.wrapping_add(counts.write_commands),
            counts.read_us.wrapping_add(counts.write_us),
        ];
        let value = words.iter().flat_map(|word| word.to_be_bytes()).collect();
        vec![Parameter { code: 0x0001, value }, Parameter { code: 0x0003, value: MICROSECOND.to_vec() }]
    },
};

/// Time interval descriptor: the exponent of a negative power of ten, and how many of those.
const MICROSECOND: [u8; 8] = [0, 0, 0, 6, 0, 0, 0, 1];
