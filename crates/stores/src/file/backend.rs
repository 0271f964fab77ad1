//! The file or device that all workers share: limits, size, lock, and what was learnt about it.

use super::channel::Channel;
use super::facts::{self, Facts, Nature};
use crate::host::{How, host};
use block::{Backend, Description, Engine, Error, ErrorKind, Estate, Flushed, Limits, Space, Store, WriteCache};
use std::fs::File;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

/// How the file is used.
#[derive(Debug, Clone, Copy)]
pub(super) struct Access {
    /// Never written.
    pub read_only: bool,
    /// Past the page cache.
    pub direct: bool,
}

/// A file or device as a disk.
pub(super) struct FileBackend(Arc<Shared>);

/// Numbers for disks.
static NEXT: AtomicU64 = AtomicU64::new(1);

/// What the channels know in common.
pub(super) struct Shared {
    /// No other disk of this process has it.
    pub(super) number: u64,
    address: String,
    /// Holds the lock until the last channel has gone. For a device it is the one open file with O_EXCL.
    pub(super) file: Arc<File>,
    pub(super) facts: Facts,
    pub(super) access: Access,
    limits: RwLock<Arc<Limits>>,
    /// Reads that do not wait are possible; learnt from the first refusal.
    pub(super) nowait: AtomicBool,
    /// A flush failed. Linux reports that once and calls the pages clean, so that the next flush would
    /// succeed over lost data; every later flush fails until the store is opened anew (SBC-05, F12).
    pub(super) lost: AtomicBool,
}

impl FileBackend {
    pub(super) fn new(
        address: String,
        file: File,
        facts: Facts,
        block_length: u32,
        blocks: u64,
        access: Access,
    ) -> Arc<FileBackend> {
        let limits = Limits {
            block_length,
            blocks,
            physical_block_length: facts.physical_block_length.max(block_length),
            lowest_aligned_block: 0,
            optimal_transfer_length: facts.optimal_transfer_length,
            // What cannot be written is as thin as before, and so are answers about its blocks.
            unmap: facts.unmap,
            write_cache: if access.read_only { WriteCache::None } else { WriteCache::Volatile },
            read_only: access.read_only,
            rotation: facts.rotation,
            copies: facts.nature == Nature::File && !access.read_only,
            cryptographic_erase: false,
            // Between a file and its medium lie caches and blocks of which we know too little.
            atomic: None,
        };
        Arc::new(FileBackend(Arc::new(Shared {
            number: NEXT.fetch_add(1, Ordering::Relaxed),
            address,
            file: Arc::new(file),
            facts,
            access,
            limits: RwLock::new(Arc::new(limits)),
            nowait: AtomicBool::new(true),
            lost: AtomicBool::new(false),
        })))
    }

    /// Whether the file can be opened for direct I/O.
    pub(super) fn try_direct(&self) -> std::io::Result<()> {
        self.0.reopen(true).map(drop)
    }
}

impl Shared {
    pub(super) fn limits(&self) -> Arc<Limits> {
        self.limits.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The size in bytes now.
    pub(super) fn size(&self) -> Result<u64, Error> {
        facts::size(&self.file, self.facts.nature).map_err(|error| from_io(&error))
    }

    /// The same file opened once more, whatever its name has become since.
    fn reopen(&self, direct: bool) -> std::io::Result<File> {
        host().reopen(&self.file, How { direct, ..How::of(self.access.read_only) })
    }

    fn set_blocks(&self, blocks: u64) -> bool {
        let mut limits = self.limits.write().unwrap_or_else(PoisonError::into_inner);
        let changed = limits.blocks != blocks;
        if changed {
            *limits = Arc::new(Limits { blocks, ..(**limits).clone() });
        }
        changed
    }
}

impl Backend for FileBackend {
    fn limits(&self) -> Arc<Limits> {
        self.0.limits()
    }

    fn description(&self) -> Description {
        let kind = match self.0.facts.nature {
            Nature::File => "file",
            Nature::Device => "device",
        };
        Description { kind, address: self.0.address.clone() }
    }

    fn open(&self, engine: &Rc<dyn Engine>) -> Result<Box<dyn Store>, Error> {
        // Each channel has an open file of its own, because Linux tells of a failed writeback once for
        // each open file: channels cannot take that news from each other. Without /proc they share one
        // (and `lost`), which leaves a moment between two workers' flushes.
        let buffered = self.0.reopen(false).or_else(|_| self.0.file.try_clone()).map_err(|error| from_io(&error))?;
        let direct = match self.0.access.direct {
            true => {
                let file = self.0.reopen(true).map_err(|error| from_io(&error))?;
                Some(Arc::new(file))
            }
            false => None,
        };
        Ok(Box::new(Channel::new(self.0.clone(), engine.clone(), Arc::new(buffered), direct)))
    }

    fn refresh(&self) -> Result<bool, Error> {
        let size = self.0.size()?;
        Ok(self.0.set_blocks(size / u64::from(self.limits().block_length.max(1))))
    }

    fn space(&self) -> Option<Space> {
        facts::space(&self.0.file, self.0.facts.nature)
    }

    fn file(&self) -> Option<Arc<File>> {
        (self.0.facts.nature == Nature::File).then(|| self.0.file.clone())
    }

    fn hand_over(&self) -> Result<Estate, &'static str> {
        if self.0.is_lost() {
            // The next process would be told that all is well.
            return Err("a flush of it has failed, and only this process knows");
        }
        Ok(Estate { files: vec![self.0.file.clone()], ..Estate::default() })
    }

    fn flush_inherited(&self, done: Flushed) {
        if self.0.access.read_only {
            return done(Ok(()));
        }
        let shared = self.0.clone();
        // May take long; nobody waits on his own thread for a disk that hangs.
        let flush = move || {
            let flushed = match shared.is_lost() {
                true => Err(Error::new(ErrorKind::Medium)),
                false => shared.file.sync_data().map_err(|error| from_io(&error)),
            };
            if flushed.is_err() {
                shared.set_lost();
            }
            // Who hears of it may want the file for himself.
            drop(shared);
            done(flushed);
        };
        // Without a thread `done` is dropped, which says that nothing was flushed.
        let _ = std::thread::Builder::new().name("flush".into()).spawn(flush);
    }

    fn resize(&self, blocks: u64) -> Result<(), Error> {
        if self.0.facts.nature == Nature::Device {
            return Err(Error::new(ErrorKind::Unsupported));
        }
        if self.0.access.read_only {
            return Err(Error::new(ErrorKind::ReadOnly));
        }
        let size = blocks.checked_mul(u64::from(self.limits().block_length)).ok_or(Error::new(ErrorKind::NoSpace))?;
        self.0.file.set_len(size).map_err(|error| from_io(&error))?;
        self.0.set_blocks(blocks);
        Ok(())
    }
}

/// The store's error for a system call's.
pub(super) fn from_io(error: &std::io::Error) -> Error {
    error.raw_os_error().map_or(Error::new(ErrorKind::Medium), Error::from_os)
}

impl Shared {
    /// Remembers that a flush failed.
    pub(super) fn set_lost(&self) {
        self.lost.store(true, Ordering::Release);
    }

    /// Whether a flush has failed since the store was opened.
    pub(super) fn is_lost(&self) -> bool {
        self.lost.load(Ordering::Acquire)
    }
}
