//! What a request of the kernel means for a file system of one directory and one file, and the answers that
//! need no disk.

use super::abi::{self, *};
use block::Limits;
use zerocopy::{Immutable, IntoBytes};

/// The directory.
const ROOT: u64 = 1;
/// The file in it.
const FILE: u64 = 2;
/// The longest read or write in bytes.
pub(super) const TRANSFER_BYTES: usize = 1 << 20;
/// Requests under way that no process waits for: those of a loop device.
const BACKGROUND_MAX: u16 = 256;

const S_IFDIR: u32 = 0o040_000;
const S_IFREG: u32 = 0o100_000;
const ENOENT: i32 = 2;
const EPERM: i32 = 1;
const EIO: i32 = 5;
const EROFS: i32 = 30;
const EINVAL: i32 = 22;
const ENOSYS: i32 = 38;
const EPROTO: i32 = 71;
const EOPNOTSUPP: i32 = 95;

/// What is always true of the file.
#[derive(Debug, Clone)]
pub(super) struct Facts {
    /// Its name.
    pub name: String,
    /// Writes are refused.
    pub read_only: bool,
    /// Its owner and group.
    pub owner: (u32, u32),
    /// Seconds since 1970 of its times.
    pub time: u64,
}

/// What is to be done with a request.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Act {
    /// Nothing; it wants no answer.
    Nothing,
    /// Answer with these bytes.
    Answer(Vec<u8>),
    /// Answer with this error number.
    Refuse(i32),
    /// The disk has to be asked.
    Work(Work),
}

/// What the disk is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Work {
    /// Read; both in bytes, of any alignment.
    Read {
        /// First byte.
        offset: u64,
        /// Bytes.
        size: usize,
    },
    /// Write what came with the request.
    Write {
        /// First byte.
        offset: u64,
        /// Bytes.
        size: usize,
    },
    /// Make stable what was written.
    Flush,
    /// The extent reads as zeros afterwards and needs no space.
    Punch {
        /// First byte.
        offset: u64,
        /// Bytes.
        length: u64,
    },
    /// The extent reads as zeros afterwards and has its space.
    Zero {
        /// First byte.
        offset: u64,
        /// Bytes.
        length: u64,
    },
}

/// Decides about a request. `arguments` are the bytes behind its header, without a write's data, of which
/// `data` came with it.
pub(super) fn act(header: &InHeader, arguments: &[u8], data: usize, facts: &Facts, limits: &Limits) -> Act {
    decide(header, arguments, data, facts, limits).unwrap_or(Act::Refuse(EIO))
}

/// `None`: the request is shorter than its kind of request is.
fn decide(header: &InHeader, arguments: &[u8], data: usize, facts: &Facts, limits: &Limits) -> Option<Act> {
    let of_file = header.nodeid == FILE;
    let attr = || attributes(header.nodeid, facts, limits);
    Some(match Opcode::of(header.opcode) {
        Opcode::Init => init(&abi::read(arguments)?),
        Opcode::Forget | Opcode::Interrupt => Act::Nothing,
        Opcode::Lookup => {
            let name = arguments.split(|byte| *byte == 0).next().unwrap_or_default();
            if header.nodeid != ROOT || name != facts.name.as_bytes() {
                return Some(Act::Refuse(ENOENT));
            }
            let attr = attributes(FILE, facts, limits);
            answer(&EntryOut { nodeid: FILE, generation: 0, valid: [0; 3], attr })
        }
        Opcode::Getattr => answer(&AttrOut { valid: [0; 2], attr: attr() }),
        Opcode::Setattr => {
            const OWNER_OR_MODE: u32 = 0b111;
            let asked: SetattrIn = abi::read(arguments)?;
            // A disk has the size it has. Emptying it when it is opened for writing is passed over, as
            // block devices do; any other size would be a promise that is not kept.
            let keeps_size = asked.valid & FATTR_SIZE == 0 || asked.size == 0 || asked.size == limits.capacity();
            match () {
                () if asked.valid & OWNER_OR_MODE != 0 => Act::Refuse(EPERM),
                () if facts.read_only && asked.valid & FATTR_SIZE != 0 => Act::Refuse(EROFS),
                () if !keeps_size => Act::Refuse(EINVAL),
                () => answer(&AttrOut { valid: [0; 2], attr: attr() }),
            }
        }
        Opcode::Open if of_file => {
            let asked: OpenIn = abi::read(arguments)?;
            const ACCESS_MODE: u32 = 0b11;
            if facts.read_only && asked.flags & ACCESS_MODE != 0 {
                return Some(Act::Refuse(EROFS));
            }
            // No second cache: what is above has one (a loop device, a guest), and what another initiator
            // wrote is seen. No dirty pages of the file either, which only we could write out.
            let open_flags = FOPEN_DIRECT_IO | FOPEN_PARALLEL_DIRECT_WRITES | FOPEN_NOFLUSH;
            answer(&OpenOut { open_flags, ..OpenOut::default() })
        }
        Opcode::Opendir => answer(&OpenOut::default()),
        Opcode::Readdir => {
            let asked: IoIn = abi::read(arguments)?;
            Act::Answer(entries(asked.offset, asked.size as usize, &facts.name))
        }
        Opcode::Release | Opcode::Destroy => Act::Answer(Vec::new()),
        Opcode::Statfs => answer(&statfs(limits)),
        Opcode::Fsync if of_file => Act::Work(Work::Flush),
        Opcode::Fsync => Act::Answer(Vec::new()),
        Opcode::Read if of_file => {
            let asked: IoIn = abi::read(arguments)?;
            let size = asked.size as usize;
            if size > TRANSFER_BYTES {
                return Some(Act::Refuse(EINVAL));
            }
            Act::Work(Work::Read { offset: asked.offset, size })
        }
        Opcode::Write if of_file => {
            let asked: IoIn = abi::read(arguments)?;
            match asked.size as usize {
                _ if facts.read_only => Act::Refuse(EROFS),
                size if size == data && size <= TRANSFER_BYTES => Act::Work(Work::Write { offset: asked.offset, size }),
                _ => Act::Refuse(EINVAL),
            }
        }
        Opcode::Fallocate if of_file => {
            let asked: FallocateIn = abi::read(arguments)?;
            let FallocateIn { offset, length, .. } = asked;
            match asked.mode & !FALLOC_KEEP_SIZE {
                _ if facts.read_only => Act::Refuse(EROFS),
                FALLOC_PUNCH_HOLE if limits.unmap.is_some() => Act::Work(Work::Punch { offset, length }),
                FALLOC_ZERO_RANGE => Act::Work(Work::Zero { offset, length }),
                _ => Act::Refuse(EOPNOTSUPP),
            }
        }
        _ => Act::Refuse(ENOSYS),
    })
}

fn answer(value: &(impl IntoBytes + Immutable)) -> Act {
    Act::Answer(value.as_bytes().to_vec())
}

fn init(kernel: &InitIn) -> Act {
    if kernel.major < MAJOR || kernel.major == MAJOR && kernel.minor < MINOR_LEAST {
        return Act::Refuse(EPROTO);
    }
    let mut out = InitOut { major: MAJOR, minor: MINOR, ..InitOut::default() };
    // A kernel that speaks a newer major version asks again when it has seen ours.
    if kernel.major == MAJOR {
        out.max_readahead = kernel.max_readahead;
        out.flags = kernel.flags & (ASYNC_READ | BIG_WRITES | ASYNC_DIO | MAX_PAGES | INIT_EXT);
        if out.flags & INIT_EXT != 0 {
            out.flags2 = DIRECT_IO_ALLOW_MMAP;
        }
        out.max_background = BACKGROUND_MAX;
        out.congestion_threshold = BACKGROUND_MAX / 4 * 3;
        out.max_write = TRANSFER_BYTES as u32;
        out.max_pages = (TRANSFER_BYTES / block::PAGE_BYTES) as u16;
        out.time_gran = 1;
    }
    answer(&out)
}

fn attributes(node: u64, facts: &Facts, limits: &Limits) -> Attr {
    let (size, mode, nlink) = match node {
        FILE => (limits.capacity(), S_IFREG | if facts.read_only { 0o400 } else { 0o600 }, 1),
        _ => (0, S_IFDIR | 0o500, 2),
    };
    Attr {
        ino: node,
        size,
        blocks: size / 512,
        times: [facts.time; 3],
        nanoseconds: [0; 3],
        mode,
        nlink,
        uid: facts.owner.0,
        gid: facts.owner.1,
        rdev: 0,
        blksize: (block::PAGE_BYTES as u32).max(limits.optimal_transfer_length.min(TRANSFER_BYTES as u32)),
        flags: 0,
    }
}

fn statfs(limits: &Limits) -> StatfsOut {
    // A loop device takes this for the granularity of its discards.
    let granularity = limits.unmap.map_or(limits.block_length, |unmap| unmap.granularity);
    let bsize = granularity.clamp(limits.block_length, 1 << 30).max(512);
    StatfsOut {
        blocks: limits.capacity() / u64::from(bsize),
        bsize,
        frsize: bsize,
        namelen: 255,
        ..StatfsOut::default()
    }
}

fn entries(from: u64, room: usize, name: &str) -> Vec<u8> {
    const DIRECTORY: u32 = 4;
    const REGULAR: u32 = 8;
    let all: [(u64, u32, &[u8]); 3] =
        [(ROOT, DIRECTORY, b"."), (ROOT, DIRECTORY, b".."), (FILE, REGULAR, name.as_bytes())];
    let mut out = Vec::new();
    for (next, (node, kind, name)) in (1u64..).zip(all).skip(usize::try_from(from).unwrap_or(usize::MAX)) {
        if !push_entry(&mut out, room.min(4096), node, next, kind, name) {
            break;
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use block::Backend;
    use block::pure::Ram;

    fn limits() -> Limits {
        (*Ram::new(512, 2048).limits()).clone()
    }

    fn facts(read_only: bool) -> Facts {
        Facts { name: "lun-1".into(), read_only, owner: (0, 0), time: 0 }
    }

    fn header(opcode: u32, nodeid: u64) -> InHeader {
        InHeader { len: 0, opcode, unique: 1, nodeid, uid: 0, gid: 0, pid: 0, extensions: 0 }
    }

    fn io(offset: u64, size: u32) -> Vec<u8> {
        IoIn { handle: 0, offset, size, io_flags: 0, lock_owner: 0, flags: 0, padding: 0 }.as_bytes().to_vec()
    }

    #[test]
    fn lengths_that_do_not_fit_are_refused_whatever_the_request() {
        for opcode in 0..60 {
            for node in [0, 1, 2, 3, u64::MAX] {
                for length in [0, 1, 7, 8, 39] {
                    act(&header(opcode, node), &vec![0xff; length], 0, &facts(false), &limits());
                }
            }
        }
        let (facts, limits) = (facts(false), limits());
        assert_eq!(act(&header(15, FILE), &io(0, u32::MAX), 0, &facts, &limits), Act::Refuse(EINVAL));
        assert_eq!(act(&header(16, FILE), &io(0, 4096), 512, &facts, &limits), Act::Refuse(EINVAL));
        assert_eq!(act(&header(15, FILE), &io(0, 4096)[..39], 0, &facts, &limits), Act::Refuse(EIO));
    }

    #[test]
    fn a_read_only_file_refuses_what_would_change_it() {
        let (facts, limits) = (facts(true), limits());
        let open = OpenIn { flags: 1, open_flags: 0 };
        let fallocate = FallocateIn { handle: 0, offset: 0, length: 512, mode: FALLOC_PUNCH_HOLE, padding: 0 };
        assert_eq!(act(&header(14, FILE), open.as_bytes(), 0, &facts, &limits), Act::Refuse(EROFS));
        assert_eq!(act(&header(16, FILE), &io(0, 512), 512, &facts, &limits), Act::Refuse(EROFS));
        assert_eq!(act(&header(43, FILE), fallocate.as_bytes(), 0, &facts, &limits), Act::Refuse(EROFS));
    }

    #[test]
    fn the_size_stays_and_emptying_is_passed_over() {
        let (facts, limits) = (facts(false), limits());
        let resize = |size| SetattrIn { valid: FATTR_SIZE, padding: 0, handle: 0, size };
        assert_eq!(act(&header(4, FILE), resize(7).as_bytes(), 0, &facts, &limits), Act::Refuse(EINVAL));
        assert!(matches!(act(&header(4, FILE), resize(0).as_bytes(), 0, &facts, &limits), Act::Answer(_)));
    }

    #[test]
    fn the_kernel_gets_of_its_flags_what_is_used() {
        let kernel = InitIn { major: 7, minor: 45, max_readahead: 131_072, flags: u32::MAX };
        let Act::Answer(bytes) = init(&kernel) else { panic!("refused") };
        let out: InitOut = abi::read(&bytes).unwrap();
        assert_eq!((out.max_write, out.max_pages), (1 << 20, 256));
        assert_eq!(out.flags, ASYNC_READ | BIG_WRITES | ASYNC_DIO | MAX_PAGES | INIT_EXT);
        assert_eq!(init(&InitIn { minor: 27, ..kernel }), Act::Refuse(EPROTO));
        assert_eq!(init(&InitIn { major: 6, ..kernel }), Act::Refuse(EPROTO));
    }
}
