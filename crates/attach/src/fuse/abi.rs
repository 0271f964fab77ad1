//! The numbers and layouts of the kernel's FUSE protocol (version 7) that a file system of one file needs.
//!
//! Layouts only: every structure is plain bytes in the machine's own order, read with its length checked.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// The version that is spoken. Minor versions only add at the ends of structures.
pub const MAJOR: u32 = 7;
/// The minor version whose structures these are.
pub const MINOR: u32 = 41;
/// The oldest minor version that is served: 7.28 of Linux 4.20, the first with requests of 1 MiB.
pub const MINOR_LEAST: u32 = 28;

/// What a request wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Opcode {
    /// A name in a directory.
    Lookup,
    /// Names that the kernel no longer remembers; has no answer.
    Forget,
    /// A file's facts.
    Getattr,
    /// Change them.
    Setattr,
    /// Open a file.
    Open,
    /// Read data.
    Read,
    /// Write data.
    Write,
    /// The file system's size.
    Statfs,
    /// A file is no longer open; of a directory too.
    Release,
    /// What was written is to be stable.
    Fsync,
    /// The first request.
    Init,
    /// Open a directory.
    Opendir,
    /// Its entries.
    Readdir,
    /// Somebody no longer waits for an answer; has none itself.
    Interrupt,
    /// The file system is going.
    Destroy,
    /// Holes and zeros.
    Fallocate,
    /// Any other; it is refused.
    Other,
}

impl Opcode {
    /// What a number means.
    pub fn of(number: u32) -> Opcode {
        match number {
            1 => Opcode::Lookup,
            2 | 42 => Opcode::Forget,
            3 => Opcode::Getattr,
            4 => Opcode::Setattr,
            14 => Opcode::Open,
            15 => Opcode::Read,
            16 => Opcode::Write,
            17 => Opcode::Statfs,
            18 | 29 => Opcode::Release,
            20 => Opcode::Fsync,
            26 => Opcode::Init,
            27 => Opcode::Opendir,
            28 => Opcode::Readdir,
            36 => Opcode::Interrupt,
            38 => Opcode::Destroy,
            43 => Opcode::Fallocate,
            _ => Opcode::Other,
        }
    }
}

/// INIT: several reads of one file at a time.
pub const ASYNC_READ: u32 = 1 << 0;
/// INIT: writes of more than a page.
pub const BIG_WRITES: u32 = 1 << 5;
/// INIT: direct I/O that does not wait for its answer.
pub const ASYNC_DIO: u32 = 1 << 15;
/// INIT: `InitOut::max_pages` counts.
pub const MAX_PAGES: u32 = 1 << 22;
/// INIT: flags beyond the first 32 are looked at.
pub const INIT_EXT: u32 = 1 << 30;
/// INIT, second word: a file that bypasses the page cache may be mapped.
pub const DIRECT_IO_ALLOW_MMAP: u32 = 1 << 4;

/// OPEN: the page cache is bypassed.
pub const FOPEN_DIRECT_IO: u32 = 1 << 0;
/// OPEN: closing sends no request.
pub const FOPEN_NOFLUSH: u32 = 1 << 5;
/// OPEN: writes of one file go on beside each other.
pub const FOPEN_PARALLEL_DIRECT_WRITES: u32 = 1 << 6;

/// SETATTR: the size is to change.
pub const FATTR_SIZE: u32 = 1 << 3;

/// FALLOCATE: the size stays.
pub const FALLOC_KEEP_SIZE: u32 = 0x01;
/// FALLOCATE: a hole.
pub const FALLOC_PUNCH_HOLE: u32 = 0x02;
/// FALLOCATE: zeros with space behind them.
pub const FALLOC_ZERO_RANGE: u32 = 0x10;

/// Bytes of [`InHeader`].
pub const IN_HEADER_BYTES: usize = size_of::<InHeader>();
/// Bytes of header and arguments of a read or write, behind which a write's data stand.
pub const HEAD_BYTES: usize = IN_HEADER_BYTES + size_of::<IoIn>();

/// What every request begins with.
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct InHeader {
    /// Bytes of the request with this header.
    pub len: u32,
    /// [`Opcode::of`].
    pub opcode: u32,
    /// Its name, for the answer.
    pub unique: u64,
    /// Which file.
    pub nodeid: u64,
    /// Whose request it is.
    pub uid: u32,
    /// And which group's.
    pub gid: u32,
    /// And which process'.
    pub pid: u32,
    /// Not used here.
    pub extensions: u32,
}

/// What every answer begins with.
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct OutHeader {
    /// Bytes of the answer with this header.
    pub len: u32,
    /// 0 or a negative error number.
    pub error: i32,
    /// The request's name.
    pub unique: u64,
}

/// INIT's arguments. Older kernels send only the first four words.
#[derive(Debug, Clone, Copy, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct InitIn {
    /// The kernel's version.
    pub major: u32,
    /// Its minor version.
    pub minor: u32,
    /// Bytes that it would read ahead.
    pub max_readahead: u32,
    /// What it can do.
    pub flags: u32,
}

/// INIT's answer.
#[derive(Debug, Clone, Copy, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct InitOut {
    /// Our version.
    pub major: u32,
    /// Our minor version.
    pub minor: u32,
    /// Bytes that may be read ahead.
    pub max_readahead: u32,
    /// What is wanted of what it can do.
    pub flags: u32,
    /// Requests that nobody waits for, at a time.
    pub max_background: u16,
    /// From how many of them on the disk counts as busy.
    pub congestion_threshold: u16,
    /// Longest write in bytes.
    pub max_write: u32,
    /// Nanoseconds of a time's grain.
    pub time_gran: u32,
    /// Longest request in pages.
    pub max_pages: u16,
    /// Not used here.
    pub map_alignment: u16,
    /// The second word of flags.
    pub flags2: u32,
    /// Not used here.
    pub rest: [u32; 7],
}

/// A file's facts.
#[derive(Debug, Clone, Copy, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Attr {
    /// Its number.
    pub ino: u64,
    /// Bytes.
    pub size: u64,
    /// Blocks of 512 bytes.
    pub blocks: u64,
    /// Seconds of the last access, change of content and of facts.
    pub times: [u64; 3],
    /// Their nanoseconds.
    pub nanoseconds: [u32; 3],
    /// Kind and permissions.
    pub mode: u32,
    /// Names.
    pub nlink: u32,
    /// Owner.
    pub uid: u32,
    /// Owning group.
    pub gid: u32,
    /// Not used here.
    pub rdev: u32,
    /// Best transfer in bytes.
    pub blksize: u32,
    /// Not used here.
    pub flags: u32,
}

/// LOOKUP's answer. All that is remembered, is for no time: a size may change.
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct EntryOut {
    /// The file's number.
    pub nodeid: u64,
    /// Which of those that had this number.
    pub generation: u64,
    /// For how many seconds the name and the facts hold, and their nanoseconds.
    pub valid: [u64; 3],
    /// The facts.
    pub attr: Attr,
}

/// GETATTR's and SETATTR's answer.
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct AttrOut {
    /// For how long they hold.
    pub valid: [u64; 2],
    /// The facts.
    pub attr: Attr,
}

/// The beginning of SETATTR's arguments.
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct SetattrIn {
    /// What is to change.
    pub valid: u32,
    /// Nothing.
    pub padding: u32,
    /// The open file.
    pub handle: u64,
    /// The new size.
    pub size: u64,
}

/// OPEN's arguments.
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct OpenIn {
    /// As of open(2).
    pub flags: u32,
    /// Not used here.
    pub open_flags: u32,
}

/// OPEN's answer.
#[derive(Debug, Clone, Copy, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct OpenOut {
    /// What the kernel calls the open file from now on.
    pub handle: u64,
    /// `FOPEN_…`.
    pub open_flags: u32,
    /// Not used here.
    pub backing: u32,
}

/// READ's, READDIR's and WRITE's arguments.
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct IoIn {
    /// The open file.
    pub handle: u64,
    /// First byte.
    pub offset: u64,
    /// Bytes.
    pub size: u32,
    /// Not used here.
    pub io_flags: u32,
    /// Not used here.
    pub lock_owner: u64,
    /// As of open(2).
    pub flags: u32,
    /// Nothing.
    pub padding: u32,
}

/// WRITE's answer.
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct WriteOut {
    /// Bytes written.
    pub size: u32,
    /// Nothing.
    pub padding: u32,
}

/// FALLOCATE's arguments.
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct FallocateIn {
    /// The open file.
    pub handle: u64,
    /// First byte.
    pub offset: u64,
    /// Bytes.
    pub length: u64,
    /// `FALLOC_…`.
    pub mode: u32,
    /// Nothing.
    pub padding: u32,
}

/// STATFS' answer.
#[derive(Debug, Clone, Copy, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct StatfsOut {
    /// All blocks.
    pub blocks: u64,
    /// Free ones, those for users, files, free files.
    pub others: [u64; 4],
    /// Bytes of a block. The loop driver takes it for the granularity of discards.
    pub bsize: u32,
    /// Longest name.
    pub namelen: u32,
    /// Bytes of a fragment.
    pub frsize: u32,
    /// Nothing.
    pub rest: [u32; 7],
}

/// The first bytes as a structure, where there are enough.
pub fn read<T: FromBytes + Immutable + KnownLayout>(bytes: &[u8]) -> Option<T> {
    T::read_from_prefix(bytes).ok().map(|(value, _)| value)
}

/// Appends an entry of a directory, unless it does not fit into `room` bytes.
pub fn push_entry(into: &mut Vec<u8>, room: usize, ino: u64, next: u64, kind: u32, name: &[u8]) -> bool {
    let length = (24 + name.len()).next_multiple_of(8);
    if into.len() + length > room {
        return false;
    }
    let end = into.len() + length;
    into.extend_from_slice(ino.as_bytes());
    into.extend_from_slice(next.as_bytes());
    into.extend_from_slice((name.len() as u32).as_bytes());
    into.extend_from_slice(kind.as_bytes());
    into.extend_from_slice(name);
    into.resize(end, 0);
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_layouts_are_as_long_as_the_kernels() {
        assert_eq!(IN_HEADER_BYTES, 40);
        assert_eq!(size_of::<OutHeader>(), 16);
        assert_eq!(size_of::<InitOut>(), 64);
        assert_eq!(size_of::<Attr>(), 88);
        assert_eq!(size_of::<EntryOut>(), 128);
        assert_eq!(size_of::<AttrOut>(), 104);
        assert_eq!(size_of::<OpenOut>(), 16);
        assert_eq!(size_of::<IoIn>(), 40);
        assert_eq!(size_of::<FallocateIn>(), 32);
        assert_eq!(size_of::<StatfsOut>(), 80);
        assert_eq!(HEAD_BYTES, 80);
    }

    #[test]
    fn entries_of_a_directory_end_where_the_room_does() {
        let mut entries = Vec::new();
        assert!(push_entry(&mut entries, 64, 1, 1, 4, b"."));
        assert_eq!(entries.len(), 32);
        assert!(push_entry(&mut entries, 64, 2, 2, 8, b"12345678"));
        assert!(!push_entry(&mut entries, 64, 2, 3, 8, b""));
        assert_eq!(entries.len(), 64);
    }
}
