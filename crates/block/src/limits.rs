//! What a store is and can do: the facts from which every VPD page and capacity answer is made.

/// A store's facts. They may change while it is open (a resize); whoever holds an old copy learns
/// of it from [`crate::Backend::limits`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of one logical block: 512 or 4096; 2048 of a CD-ROM.
    pub block_length: u32,
    /// Number of logical blocks.
    pub blocks: u64,
    /// Bytes of one physical block, a power-of-two multiple of `block_length`.
    pub physical_block_length: u32,
    /// First logical block that lies on a physical block boundary.
    pub lowest_aligned_block: u32,
    /// Bytes of the transfer that the store likes best; 0 where it has no preference.
    pub optimal_transfer_length: u32,
    /// Whether and how space can be given back; `None` for a store that cannot.
    pub unmap: Option<UnmapLimits>,
    /// The cache between an answered write and stable storage.
    pub write_cache: WriteCache,
    /// Whether every write is refused.
    pub read_only: bool,
    /// What kind of medium it is.
    pub rotation: Rotation,
    /// Whether [`crate::Operation::Copy`] works (reflink or copy_file_range).
    pub copies: bool,
    /// Whether [`crate::Backend::erase_key`] makes all data unreadable at once.
    pub cryptographic_erase: bool,
    /// Writes that are all there or not at all, whatever happens; `None` for a store that cannot promise it.
    pub atomic: Option<AtomicLimits>,
}

/// Writes that a store does wholly or not at all (SBC-4 4.29). In bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AtomicLimits {
    /// The longest.
    pub maximum: u32,
    /// Where one may start, and what its length is a multiple of: a power of two.
    pub granularity: u32,
}

/// How space is given back (SBC-4 6.6.4, block limits).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UnmapLimits {
    /// Smallest extent, in bytes, that really frees space.
    pub granularity: u32,
    /// Byte offset of the first extent on that granularity.
    pub alignment: u32,
    /// Whether what was unmapped reads as zeros.
    pub reads_zeros: bool,
}

/// What lies between an answered write and stable storage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WriteCache {
    /// An answered write is stable as far as this store ever gets (memory, O_DSYNC, read-only).
    None,
    /// An answered write is stable only after a flush, or when it was sent with `durable`.
    Volatile,
}

/// The kind of medium (SBC-4 6.6.2, medium rotation rate).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rotation {
    /// Nothing is known.
    NotReported,
    /// Solid state, memory.
    NonRotating,
    /// A spinning disk with this many revolutions a minute.
    Rate(u16),
}

impl Limits {
    /// Those of a disk that is not there: it has no blocks.
    pub const NOTHING: Limits = Limits {
        block_length: 512,
        blocks: 0,
        physical_block_length: 512,
        lowest_aligned_block: 0,
        optimal_transfer_length: 0,
        unmap: None,
        write_cache: WriteCache::None,
        read_only: true,
        rotation: Rotation::NotReported,
        copies: false,
        cryptographic_erase: false,
        atomic: None,
    };

    /// Size in bytes.
    pub fn capacity(&self) -> u64 {
        self.blocks * u64::from(self.block_length)
    }
}
