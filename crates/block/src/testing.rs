//! The suite that every store and every layer passes, and a bench to drive one by hand.
//!
//! It has no clock and no random source of its own: the seed is an argument, and whoever knows the
//! engine passes in how to wait for it. A failing run says its seed.

use crate::{
    Backend, Buf, Completion, Engine, Error, ErrorKind, Extent, ExtentState, NoEngine, Operation, Outcome, Request,
    RequestId, Store,
};
use std::collections::HashSet;
use std::rc::Rc;
use std::sync::Arc;

/// One worker's place before a store, one request at a time. Panics where a store breaks the
/// waist's rules; a store's errors are returned.
pub struct Bench {
    backend: Arc<dyn Backend>,
    store: Box<dyn Store>,
    wait: Box<dyn FnMut()>,
    next: u64,
}

impl Bench {
    /// For a backend that needs no engine.
    pub fn new(backend: Arc<dyn Backend>) -> Bench {
        Bench::with_engine(backend, &(Rc::new(NoEngine) as Rc<dyn Engine>), || {})
    }

    /// For a backend over this engine; `wait` returns after the engine has put something into an
    /// inbox, or after a short while.
    pub fn with_engine(backend: Arc<dyn Backend>, engine: &Rc<dyn Engine>, wait: impl FnMut() + 'static) -> Bench {
        let store = backend.open(engine).expect("the store opens");
        Bench { backend, store, wait: Box::new(wait), next: 0 }
    }

    /// Reads an extent.
    pub fn read(&mut self, offset: u64, length: usize) -> Result<Vec<u8>, Error> {
        let mut buffer = Buf::new(length).expect("memory");
        buffer.as_mut_slice().fill(0xa5);
        let request = Request::with_data(self.id(), Operation::Read, offset, buffer, 0..length);
        let completion = self.one(request);
        let buffer = completion.buffer.expect("the buffer of a read comes back");
        completion.result.map(|_| buffer.as_slice()[..length].to_vec())
    }

    /// Writes these bytes.
    pub fn write(&mut self, offset: u64, bytes: &[u8]) -> Result<(), Error> {
        self.write_as(offset, bytes, false)
    }

    /// Writes these bytes so that they are stable when it returns.
    pub fn write_durable(&mut self, offset: u64, bytes: &[u8]) -> Result<(), Error> {
        self.write_as(offset, bytes, true)
    }

    /// Any request without data.
    pub fn run(&mut self, operation: Operation, offset: u64, length: u64) -> Result<Outcome, Error> {
        let request = Request::over(self.id(), operation, offset, length);
        self.one(request).result
    }

    /// Where there is data in the extent; asks on until all of it was told.
    pub fn extents(&mut self, offset: u64, length: u64) -> Vec<Extent> {
        let mut all: Vec<Extent> = Vec::new();
        let mut at = offset;
        while at < offset + length {
            let Outcome::Extents(runs) = self.run(Operation::Extents, at, offset + length - at).expect("extents")
            else {
                panic!("Extents answers with extents");
            };
            assert!(!runs.is_empty(), "an answer to Extents has at least one run");
            for run in runs {
                assert_eq!(run.offset, at, "runs are contiguous");
                assert!(run.length > 0 && run.length <= offset + length - at, "a run lies within the extent");
                at += run.length;
                all.push(run);
            }
        }
        all
    }

    /// Submits a batch and waits for all of it. In order of completion.
    pub fn batch(&mut self, mut batch: Vec<Request>) -> Vec<Completion> {
        let mut expected: HashSet<RequestId> = batch.iter().map(|request| request.id).collect();
        let with_buffer: HashSet<RequestId> =
            batch.iter().filter(|request| request.buffer.is_some()).map(|request| request.id).collect();
        let count = batch.len();
        let mut done = Vec::new();
        self.store.submit(&mut batch, &mut done);
        assert!(batch.is_empty(), "submit takes every request");
        for _ in 0..100_000 {
            if done.len() >= count {
                break;
            }
            assert_eq!(done.len() + self.store.in_flight(), count, "every request is done or in flight");
            (self.wait)();
            self.store.poll(&mut done);
        }
        assert_eq!(self.store.in_flight(), 0, "nothing stays in flight");
        for completion in &done {
            assert!(expected.remove(&completion.id), "{:?} was given back twice or never submitted", completion.id);
            assert_eq!(completion.buffer.is_some(), with_buffer.contains(&completion.id), "buffers come back");
        }
        assert!(expected.is_empty(), "every request is given back: {expected:?}");
        done
    }

    /// A name that was not used before.
    pub fn id(&mut self) -> RequestId {
        self.next += 1;
        RequestId(self.next)
    }

    fn write_as(&mut self, offset: u64, bytes: &[u8], durable: bool) -> Result<(), Error> {
        let mut buffer = Buf::new(bytes.len()).expect("memory");
        buffer.as_mut_slice()[..bytes.len()].copy_from_slice(bytes);
        let request = Request::with_data(self.id(), Operation::Write { durable }, offset, buffer, 0..bytes.len());
        self.one(request).result.map(drop)
    }

    fn one(&mut self, request: Request) -> Completion {
        self.batch(vec![request]).pop().expect("one completion")
    }
}

/// Runs the suite over the first bytes of a store that holds zeros and may be written.
///
/// `steps` batches of up to eight requests on distinct extents are compared with a shadow copy.
pub fn conformance(bench: &mut Bench, seed: u64, steps: usize) {
    println!("block conformance, seed {seed}");
    let limits = bench.backend.limits();
    let block = limits.block_length as usize;
    assert!(matches!(limits.block_length, 512 | 4096), "block length {}", limits.block_length);
    assert!(limits.physical_block_length.is_multiple_of(limits.block_length), "physical blocks hold whole blocks");
    let blocks = usize::try_from(limits.blocks).unwrap_or(usize::MAX).min(2048);
    assert!(blocks >= 64, "the suite needs 64 blocks");
    bounds(bench);

    let mut random = Random(seed | 1);
    let mut shadow = vec![0u8; blocks * block];
    for step in 0..steps {
        // Each request of a batch keeps to its own eighth, since the order within a batch is open.
        let eighth = blocks / 8;
        let mut batch = Vec::new();
        let mut reads = Vec::new();
        let mut asks = Vec::new();
        for part in 0..8 {
            let start = part * eighth + random.below(eighth);
            let length = 1 + random.below((part + 1) * eighth - start);
            let (from, to) = (start * block, (start + length) * block);
            let (offset, bytes) = (from as u64, (to - from) as u64);
            let id = bench.id();
            let durable = random.below(8) == 0;
            match random.below(10) {
                0..=2 => {
                    // Data need not begin where the buffer does.
                    let shift = random.below(3) * 512;
                    let mut buffer = Buf::new(to - from + shift).expect("memory");
                    buffer.as_mut_slice().fill(0x5a);
                    reads.push((id, from, to, shift));
                    batch.push(Request::with_data(id, Operation::Read, offset, buffer, shift..shift + to - from));
                }
                3..=6 => {
                    let shift = random.below(3) * 512;
                    let mut buffer = Buf::new(to - from + shift).expect("memory");
                    let data = &mut buffer.as_mut_slice()[shift..shift + to - from];
                    data.iter_mut().for_each(|byte| *byte = random.below(256) as u8);
                    shadow[from..to].copy_from_slice(data);
                    let operation = Operation::Write { durable };
                    batch.push(Request::with_data(id, operation, offset, buffer, shift..shift + to - from));
                }
                7 => {
                    shadow[from..to].fill(0);
                    let unmap = random.below(2) == 0;
                    batch.push(Request::over(id, Operation::WriteZeroes { unmap, durable }, offset, bytes));
                }
                8 if limits.unmap.is_some_and(|unmap| unmap.reads_zeros) => {
                    shadow[from..to].fill(0);
                    batch.push(Request::over(id, Operation::Unmap, offset, bytes));
                }
                9 if random.below(2) == 0 => batch.push(Request::over(id, Operation::Flush, 0, 0)),
                _ => {
                    asks.push((id, offset, bytes));
                    batch.push(Request::over(id, Operation::Extents, offset, bytes));
                }
            }
        }
        for completion in bench.batch(batch) {
            let outcome = completion.result.unwrap_or_else(|error| panic!("seed {seed} step {step}: {error}"));
            if let Some((_, from, to, shift)) = reads.iter().find(|read| read.0 == completion.id) {
                let buffer = completion.buffer.as_ref().expect("buffer");
                let got = &buffer.as_slice()[*shift..shift + to - from];
                assert!(got == &shadow[*from..*to], "seed {seed} step {step}: read of bytes {from}..{to} differs");
                assert!(buffer.as_slice()[..*shift].iter().all(|byte| *byte == 0x5a), "bytes before the data changed");
            }
            if let Some((_, offset, bytes)) = asks.iter().find(|ask| ask.0 == completion.id) {
                extents_tell_the_truth(&outcome, *offset, *bytes, &shadow);
            }
        }
    }
    if limits.copies {
        let half = (blocks / 2 * block) as u64;
        bench.run(Operation::Copy { source: 0 }, half, half).expect("copy");
        shadow.copy_within(..half as usize, half as usize);
    }
    bench.run(Operation::Flush, 0, 0).expect("flush");
    assert!(bench.read(0, blocks * block).expect("read of all") == shadow, "seed {seed}: the whole differs at the end");
    bench.extents(0, (blocks * block) as u64);
}

/// Requests beyond the end are refused, change nothing, and give their buffers back.
fn bounds(bench: &mut Bench) {
    let limits = bench.backend.limits();
    let (block, end) = (limits.block_length as usize, limits.capacity());
    for offset in [end, end - block as u64, u64::MAX - (block as u64 - 1)] {
        assert_eq!(bench.read(offset, 2 * block).unwrap_err().kind, ErrorKind::OutOfRange, "read at {offset}");
        let error = bench.write(offset, &vec![1; 2 * block]).unwrap_err();
        assert_eq!(error.kind, ErrorKind::OutOfRange, "write at {offset}");
        for operation in [Operation::Unmap, Operation::WriteZeroes { unmap: false, durable: false }, Operation::Extents]
        {
            let error = bench.run(operation, offset, 2 * block as u64).unwrap_err();
            assert_eq!(error.kind, ErrorKind::OutOfRange, "{operation:?} at {offset}");
        }
    }
    assert_eq!(bench.read(end - block as u64, block).expect("the last block"), vec![0; block]);
    assert_eq!(bench.backend.limits().capacity(), end, "nothing grew");
}

fn extents_tell_the_truth(outcome: &Outcome, offset: u64, bytes: u64, shadow: &[u8]) {
    let Outcome::Extents(runs) = outcome else { panic!("Extents answers with extents") };
    assert!(!runs.is_empty(), "an answer to Extents has at least one run");
    let mut at = offset;
    for run in runs {
        assert_eq!(run.offset, at, "runs are contiguous");
        at += run.length;
        assert!(run.length > 0 && at <= offset + bytes, "a run lies within the extent");
        // Other requests of the batch keep off this extent, so what is a hole holds no data.
        if run.state == ExtentState::Deallocated {
            assert!(shadow[run.offset as usize..at as usize].iter().all(|byte| *byte == 0), "data in a hole at {at}");
        }
    }
}

/// A small generator of numbers, the same for the same seed.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        ((self.0 >> 16) % bound.max(1) as u64) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layer::{Delay, FaultPlan, Faulty, Journal, Logged, Valve};
    use crate::pure::{Null, Ram};

    #[test]
    fn ram_passes() {
        for (seed, block) in [(1, 512), (2, 4096)] {
            conformance(&mut Bench::new(Ram::new(block, 4096)), seed, 200);
        }
    }

    #[test]
    fn layers_that_change_nothing_pass() {
        let ram = || Ram::new(512, 1024);
        conformance(&mut Bench::new(Faulty::new(ram(), FaultPlan::default())), 3, 50);
        conformance(&mut Bench::new(Delay::new(ram(), Valve::open())), 4, 50);
        conformance(&mut Bench::new(Logged::new(ram(), Journal::default())), 5, 50);
    }

    #[test]
    fn two_channels_of_one_backend_see_the_same_disk() {
        let ram = Ram::new(512, 64);
        let (mut one, mut other) = (Bench::new(ram.clone()), Bench::new(ram));
        one.write(512, &[8; 512]).unwrap();
        assert_eq!(other.read(512, 512).unwrap(), vec![8; 512]);
    }

    #[test]
    fn null_reads_zeros_whatever_was_written_and_keeps_its_bounds() {
        let mut bench = Bench::new(Null::new(512, 64));
        bounds(&mut bench);
        bench.write(0, &[1; 512]).unwrap();
        assert_eq!(bench.read(0, 512).unwrap(), vec![0; 512]);
    }

    #[test]
    #[should_panic(expected = "differs")]
    fn the_suite_catches_a_store_that_forgets() {
        conformance(&mut Bench::new(Null::new(512, 1024)), 6, 50);
    }
}
