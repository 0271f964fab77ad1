//! What an administrator has a unit say of itself in the place of what it would: names that initiators know from
//! another server, and facts about the store that nobody can find out.

use block::{Limits, Rotation};
use std::sync::Arc;

/// What is said instead. Where there is nothing, the unit says what it and its store know.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Shown {
    /// The designator with T10 vendor identification (SPC-5 7.7.6.4), whole: at most 200 printable ASCII bytes, of which
    /// the first eight name a vendor.
    pub t10_id: Option<String>,
    /// The NAA designator (SPC-5 7.7.6.6): 8 or 16 bytes. The one made of the unit's identity is not shown beside it.
    pub naa: Option<Box<[u8]>>,
    /// UNMAP is not offered, though the store can give space back.
    pub keeps_space: bool,
    /// Bytes of a physical block; a power of two.
    pub physical_block_length: Option<u32>,
    /// The first block that lies on a physical block's boundary.
    pub lowest_aligned_block: Option<u32>,
    /// Bytes of the transfer that is best.
    pub optimal_transfer_length: Option<u32>,
    /// What kind of medium it is.
    pub rotation: Option<Rotation>,
}

impl Shown {
    /// The store's limits as they are shown. Nothing that is enforced becomes looser by this.
    pub(crate) fn over(&self, own: Arc<Limits>) -> Arc<Limits> {
        if *self == Shown::default() {
            return own;
        }
        let own = Limits::clone(&own);
        Arc::new(Limits {
            unmap: own.unmap.filter(|_| !self.keeps_space),
            physical_block_length: match self.physical_block_length {
                Some(length) if length >= own.block_length => length,
                _ => own.physical_block_length,
            },
            lowest_aligned_block: self.lowest_aligned_block.unwrap_or(own.lowest_aligned_block),
            optimal_transfer_length: self.optimal_transfer_length.unwrap_or(own.optimal_transfer_length),
            rotation: self.rotation.unwrap_or(own.rotation),
            ..own
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use block::{UnmapLimits, WriteCache};

    #[test]
    fn what_is_shown_changes_facts_and_no_bound() {
        let own = Limits {
            block_length: 4096,
            blocks: 8,
            physical_block_length: 4096,
            lowest_aligned_block: 0,
            optimal_transfer_length: 0,
            unmap: Some(UnmapLimits { granularity: 4096, alignment: 0, reads_zeros: true }),
            write_cache: WriteCache::Volatile,
            read_only: false,
            rotation: Rotation::NotReported,
            copies: true,
            cryptographic_erase: false,
            atomic: None,
        };
        assert_eq!(Shown::default().over(Arc::new(own.clone())), Arc::new(own.clone()));
        let shown = Shown {
            keeps_space: true,
            physical_block_length: Some(512),
            rotation: Some(Rotation::Rate(7200)),
            ..Shown::default()
        };
        let expected = Limits { unmap: None, rotation: Rotation::Rate(7200), ..own.clone() };
        assert_eq!(*shown.over(Arc::new(own.clone())), expected, "no physical block is smaller than a logical one");
        let larger = Shown { physical_block_length: Some(16384), ..Shown::default() };
        assert_eq!(larger.over(Arc::new(own)).physical_block_length, 16384);
    }
}
