//! A sparse disk in memory, shared by all workers. What was never written takes no memory.
//!
//! Memory comes in chunks of 64 KiB that know which of their 4 KiB pages hold data; UNMAP gives
//! whole pages back as holes and a chunk without data back to the system. Chunks are spread over
//! locks, so that workers rarely meet, and one is locked while bytes are copied, so that a block is
//! never a mixture of two writes.

use super::Immediate;
use crate::{
    AtomicLimits, Backend, Buf, Description, Engine, Error, ErrorKind, Estate, Extent, ExtentState, Limits, Memory,
    Operation, Outcome, PAGE_BYTES, Request, Rotation, Space, Store, UnmapLimits, WriteCache,
};
use std::collections::{HashMap, HashSet};
use std::ops::Range;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

/// Bytes of the longest atomic write.
const ATOMIC_BYTES: u32 = 128 << 10;

const PAGE: u64 = PAGE_BYTES as u64;
const CHUNK: u64 = 16 * PAGE;
const SHARDS: usize = 64;
/// The most runs in one answer to Extents; the answer may end before the extent does.
const RUNS_MAX: usize = 64;

/// The disk in memory.
pub struct Ram(Arc<Shared>);

struct Shared {
    limits: RwLock<Arc<Limits>>,
    shards: Vec<Mutex<HashMap<u64, Chunk>>>,
    /// Somebody copies the disk: what changes is noted.
    copied: AtomicBool,
    changed: Mutex<HashSet<u64>>,
}

struct Chunk {
    /// Bit n: page n holds data. The bytes of the other pages are zeros.
    mapped: u16,
    memory: Buf,
}

impl Ram {
    /// A disk of `blocks` blocks of `block_length` bytes (512 or 4096). Takes no memory yet.
    pub fn new(block_length: u32, blocks: u64) -> Arc<Ram> {
        let limits = Limits {
            block_length,
            blocks,
            physical_block_length: block_length.max(PAGE_BYTES as u32),
            lowest_aligned_block: 0,
            optimal_transfer_length: 0,
            unmap: Some(UnmapLimits { granularity: PAGE_BYTES as u32, alignment: 0, reads_zeros: true }),
            write_cache: WriteCache::None,
            read_only: false,
            rotation: Rotation::NonRotating,
            copies: true,
            cryptographic_erase: false,
            // What is lost is lost together; that others see it whole is the device server's part.
            atomic: Some(AtomicLimits { maximum: ATOMIC_BYTES, granularity: block_length }),
        };
        let shards = (0..SHARDS).map(|_| Mutex::default()).collect();
        let (copied, changed) = (AtomicBool::new(false), Mutex::default());
        Arc::new(Ram(Arc::new(Shared { limits: RwLock::new(Arc::new(limits)), shards, copied, changed })))
    }

    /// Bytes of memory that hold data now, in whole chunks of 64 KiB.
    pub fn resident_bytes(&self) -> u64 {
        self.0.shards.iter().map(|shard| lock(shard).len() as u64 * CHUNK).sum()
    }
}

impl Backend for Ram {
    fn limits(&self) -> Arc<Limits> {
        self.0.limits()
    }

    fn description(&self) -> Description {
        Description { kind: "ram", address: format!("{} bytes", self.limits().capacity()) }
    }

    fn open(&self, _engine: &Rc<dyn Engine>) -> Result<Box<dyn Store>, Error> {
        let shared = self.0.clone();
        Ok(Box::new(Immediate(move |request: &mut Request| shared.run(request))))
    }

    fn space(&self) -> Option<Space> {
        Some(Space { used: self.resident_bytes(), available: None })
    }

    fn hand_over(&self) -> Result<Estate, &'static str> {
        Ok(Estate { memory: Some(Arc::clone(&self.0) as Arc<dyn Memory>), ..Estate::default() })
    }

    fn resize(&self, blocks: u64) -> Result<(), Error> {
        let old = self.limits();
        let limits = Arc::new(Limits { blocks, ..(*old).clone() });
        let end = limits.capacity();
        *self.0.limits.write().unwrap_or_else(PoisonError::into_inner) = limits;
        // What lies beyond must not come back when the disk grows again. Only what exists is looked
        // at: the old capacity may be any number.
        for shard in &self.0.shards {
            lock(shard).retain(|index, chunk| {
                let start = index * CHUNK;
                if start + CHUNK > end {
                    chunk.clear(end.saturating_sub(start)..CHUNK);
                    self.0.note(*index);
                }
                chunk.mapped != 0
            });
        }
        Ok(())
    }
}

impl Shared {
    fn limits(&self) -> Arc<Limits> {
        self.limits.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn run(&self, request: &mut Request) -> Result<Outcome, Error> {
        request.check(&self.limits())?;
        let (offset, length) = (request.offset, request.length);
        match request.operation {
            Operation::Read => self.read(offset, request.bytes_mut()),
            Operation::Write { .. } => self.write(offset, request.bytes())?,
            Operation::Flush => {}
            Operation::Unmap | Operation::WriteZeroes { .. } => self.clear(offset, length),
            Operation::Extents => return Ok(Outcome::Extents(self.extents(offset, length))),
            Operation::Copy { .. } if request.origin.is_some() => return Err(Error::new(ErrorKind::Unsupported)),
            Operation::Copy { source } => self.copy(source, offset, length)?,
        }
        Ok(Outcome::Done)
    }

    /// The chunk is about to change, and is locked.
    #[inline]
    fn note(&self, index: u64) {
        if self.copied.load(Ordering::Relaxed) {
            lock(&self.changed).insert(index);
        }
    }

    fn shard(&self, index: u64) -> MutexGuard<'_, HashMap<u64, Chunk>> {
        lock(&self.shards[(index % SHARDS as u64) as usize])
    }

    fn read(&self, offset: u64, mut into: &mut [u8]) {
        for (index, within) in chunks(offset, into.len() as u64) {
            let (piece, rest) = into.split_at_mut(bytes(&within).len());
            match self.shard(index).get(&index) {
                Some(chunk) => piece.copy_from_slice(&chunk.memory.as_slice()[bytes(&within)]),
                None => piece.fill(0),
            }
            into = rest;
        }
    }

    fn write(&self, offset: u64, mut from: &[u8]) -> Result<(), Error> {
        if from.len() as u64 <= u64::from(ATOMIC_BYTES) {
            // What may be an atomic write has its memory before its first byte is written.
            for (index, within) in chunks(offset, from.len() as u64).skip(1) {
                chunk_of(&mut self.shard(index), index, within.start)?;
            }
        }
        for (index, within) in chunks(offset, from.len() as u64) {
            let (piece, rest) = from.split_at(bytes(&within).len());
            let mut shard = self.shard(index);
            self.note(index);
            let chunk = chunk_of(&mut shard, index, within.start)?;
            chunk.memory.as_mut_slice()[bytes(&within)].copy_from_slice(piece);
            chunk.mapped |= pages(within.start / PAGE..within.end.div_ceil(PAGE));
            from = rest;
        }
        Ok(())
    }

    fn clear(&self, offset: u64, length: u64) {
        for (index, within) in chunks(offset, length) {
            let mut shard = self.shard(index);
            self.note(index);
            if let Some(chunk) = shard.get_mut(&index) {
                chunk.clear(within);
                if chunk.mapped == 0 {
                    shard.remove(&index);
                }
            }
        }
    }

    fn extents(&self, offset: u64, length: u64) -> Vec<Extent> {
        let mut runs: Vec<Extent> = Vec::new();
        for (index, within) in chunks(offset, length) {
            let mapped = self.shard(index).get(&index).map_or(0, |chunk| chunk.mapped);
            let mut at = within.start;
            while at < within.end {
                let end = if mapped == 0 { within.end } else { (at / PAGE + 1).saturating_mul(PAGE).min(within.end) };
                let state = if mapped >> (at / PAGE) & 1 == 1 { ExtentState::Mapped } else { ExtentState::Deallocated };
                let full = runs.len() == RUNS_MAX;
                match runs.last_mut() {
                    Some(last) if last.state == state => last.length += end - at,
                    _ if full => return runs,
                    _ => runs.push(Extent { offset: index * CHUNK + at, length: end - at, state }),
                }
                at = end;
            }
        }
        runs
    }

    fn copy(&self, source: u64, target: u64, length: u64) -> Result<(), Error> {
        let mut bounce = Buf::new(CHUNK as usize).ok_or(Error::new(ErrorKind::Busy))?;
        let mut done = 0;
        while done < length {
            let piece = (length - done).min(CHUNK) as usize;
            let memory = &mut bounce.as_mut_slice()[..piece];
            self.read(source + done, memory);
            self.write(target + done, memory)?;
            done += piece as u64;
        }
        Ok(())
    }
}

/// The pieces are the chunks. A chunk that is being noted is locked, so that whoever sees the note sees the change.
impl Memory for Shared {
    fn begin(&self) -> Vec<u64> {
        lock(&self.changed).clear();
        self.copied.store(true, Ordering::Relaxed);
        // A write that has not seen that holds the lock of its chunk still, or is over.
        self.shards.iter().flat_map(|shard| lock(shard).keys().copied().collect::<Vec<_>>()).collect()
    }

    fn changed(&self) -> Vec<u64> {
        lock(&self.changed).drain().collect()
    }

    fn end(&self) {
        self.copied.store(false, Ordering::Relaxed);
        lock(&self.changed).clear();
    }

    fn piece(&self, number: u64, out: &mut Vec<u8>) -> Option<u16> {
        let shard = self.shard(number);
        let chunk = shard.get(&number)?;
        out.extend_from_slice(chunk.memory.as_slice());
        Some(chunk.mapped)
    }

    fn put(&self, number: u64, piece: Option<(u16, &[u8])>) -> bool {
        let mut shard = self.shard(number);
        let Some((mapped, bytes)) = piece else {
            shard.remove(&number);
            return true;
        };
        let inside = number.checked_mul(CHUNK).is_some_and(|start| start < self.limits().capacity());
        let Ok(chunk) = chunk_of(&mut shard, number, 0) else { return false };
        let fits = inside && bytes.len() == chunk.memory.as_slice().len();
        if fits {
            chunk.memory.as_mut_slice().copy_from_slice(bytes);
            chunk.mapped = mapped;
        }
        fits
    }
}

impl Chunk {
    fn clear(&mut self, within: Range<u64>) {
        self.memory.as_mut_slice()[bytes(&within)].fill(0);
        self.mapped &= !pages(within.start.div_ceil(PAGE)..within.end / PAGE);
    }
}

/// The chunk of this index; where it is new and there is no memory, the error at this byte of it.
fn chunk_of(shard: &mut HashMap<u64, Chunk>, index: u64, at: u64) -> Result<&mut Chunk, Error> {
    Ok(match shard.entry(index) {
        std::collections::hash_map::Entry::Occupied(entry) => entry.into_mut(),
        std::collections::hash_map::Entry::Vacant(entry) => {
            let no_memory = Error::new(ErrorKind::NoSpace).at(index * CHUNK + at);
            let memory = Buf::new(CHUNK as usize).ok_or(no_memory)?;
            entry.insert(Chunk { mapped: 0, memory })
        }
    })
}

/// The chunks that an extent touches, with the part of each.
fn chunks(offset: u64, length: u64) -> impl Iterator<Item = (u64, Range<u64>)> {
    let end = offset + length;
    (offset / CHUNK..end.div_ceil(CHUNK)).map(move |index| {
        let start = index * CHUNK;
        (index, offset.max(start) - start..end.min(start.saturating_add(CHUNK)) - start)
    })
}

/// A part of a chunk as slice bounds.
fn bytes(within: &Range<u64>) -> Range<usize> {
    within.start as usize..within.end as usize
}

/// The bits of a run of pages of a chunk.
fn pages(run: Range<u64>) -> u16 {
    run.fold(0, |bits, page| bits | 1 << page)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Bench;

    #[test]
    fn what_was_never_written_takes_no_memory() {
        let ram = Ram::new(512, 1 << 40);
        let mut bench = Bench::new(ram.clone());
        assert_eq!(bench.read((1 << 48) + 512, 512).unwrap(), vec![0; 512]);
        assert_eq!(ram.resident_bytes(), 0);
        bench.write((1 << 48) + 512, &[7; 512]).unwrap();
        assert_eq!(ram.resident_bytes(), CHUNK);
    }

    #[test]
    fn unmap_gives_memory_back_and_leaves_zeros() {
        let ram = Ram::new(512, 4096);
        let mut bench = Bench::new(ram.clone());
        bench.write(0, &[9; 3 * 65536]).unwrap();
        assert_eq!(ram.resident_bytes(), 3 * CHUNK);
        bench.run(Operation::Unmap, 512, 2 * 65536).unwrap();
        // The first chunk holds block 0 still, the third all but its first block.
        assert_eq!(ram.resident_bytes(), 2 * CHUNK);
        assert_eq!(bench.read(512, 65536).unwrap(), vec![0; 65536]);
        assert_eq!(bench.read(0, 512).unwrap(), vec![9; 512]);
        let states: Vec<_> = bench.extents(0, 3 * 65536).into_iter().map(|run| (run.offset, run.state)).collect();
        assert_eq!(states, [(0, ExtentState::Mapped), (4096, ExtentState::Deallocated), (131072, ExtentState::Mapped)]);
    }

    #[test]
    fn what_a_smaller_size_cut_off_does_not_come_back() {
        let ram = Ram::new(512, 256);
        let mut bench = Bench::new(ram.clone());
        bench.write(0, &[5; 131072]).unwrap();
        ram.resize(9).unwrap();
        assert_eq!(bench.read(9 * 512, 512).unwrap_err().kind, ErrorKind::OutOfRange);
        ram.resize(256).unwrap();
        assert_eq!(bench.read(8 * 512, 512).unwrap(), vec![5; 512]);
        assert_eq!(bench.read(9 * 512, 512).unwrap(), vec![0; 512]);
        assert_eq!(bench.read(65536, 512).unwrap(), vec![0; 512]);
    }

    #[test]
    fn a_disk_that_is_copied_while_it_is_written_arrives_whole() {
        let (ram, other) = (Ram::new(512, 4096), Ram::new(512, 4096));
        let (from, to) = (ram.hand_over().unwrap().memory.unwrap(), other.hand_over().unwrap().memory.unwrap());
        let mut bench = Bench::new(ram.clone());
        bench.write(0, &[1; 131072]).unwrap();
        let copy = |numbers: Vec<u64>| {
            for number in numbers {
                let mut bytes = Vec::new();
                let mapped = from.piece(number, &mut bytes);
                assert!(to.put(number, mapped.map(|mapped| (mapped, &bytes[..]))));
            }
        };
        copy(from.begin());
        bench.write(512, &[2; 512]).unwrap();
        bench.write(400 * 512, &[3; 512]).unwrap();
        bench.run(Operation::Unmap, 65536, 65536).unwrap();
        let changed = from.changed();
        assert_eq!(changed.len(), 3, "what changed, and nothing else");
        copy(changed);
        assert!(from.changed().is_empty());
        let mut copied = Bench::new(other.clone());
        assert_eq!(bench.read(0, 2 << 20).unwrap(), copied.read(0, 2 << 20).unwrap());
        assert_eq!(
            (ram.resident_bytes(), bench.extents(0, 2 << 20)),
            (other.resident_bytes(), copied.extents(0, 2 << 20))
        );
        assert!(!to.put(1 << 40, Some((1, &[0; 65536]))), "beyond its end");
        from.end();
        bench.write(0, &[4; 512]).unwrap();
        assert!(from.changed().is_empty(), "nobody copies any more");
    }

    #[test]
    fn copy_within_the_disk() {
        let mut bench = Bench::new(Ram::new(512, 1024));
        bench.write(512, &[3; 100 * 512]).unwrap();
        bench.run(Operation::Copy { source: 512 }, 300 * 512, 100 * 512).unwrap();
        assert_eq!(bench.read(300 * 512, 100 * 512).unwrap(), vec![3; 100 * 512]);
    }
}
