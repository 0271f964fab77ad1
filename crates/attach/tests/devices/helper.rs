//! What the stories need: commands, direct I/O, a scratch directory, a store that counts.

use attach::Settings;
use block::{Backend, Buf, Completion, Description, Engine, Error, Limits, Operation, Request, Store};
use std::fs::{File, OpenOptions};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// A directory that goes with this value.
pub struct Scratch(pub PathBuf);

impl Scratch {
    pub fn new(name: &str) -> Scratch {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("lunette-attach-{name}-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Scratch(path)
    }

    pub fn folder(&self, name: &str) -> PathBuf {
        let path = self.0.join(name);
        std::fs::create_dir_all(&path).unwrap();
        path
    }

    pub fn settings(&self) -> Settings {
        Settings::new("iqn.2026-11.example:disk-lun-1", self.folder("attached"))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Runs a command that must succeed within a minute or so; gives what it printed.
pub fn run(command: &str) -> String {
    let (good, text) = try_run(command);
    assert!(good, "`{command}` failed:\n{text}");
    text
}

pub fn try_run(command: &str) -> (bool, String) {
    let path = format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default());
    let output = Command::new("timeout").args(["120", "sh", "-c", command]).env("PATH", path).output().unwrap();
    let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    (output.status.success(), text)
}

/// A device opened past the page cache.
pub fn direct(path: &Path, write: bool) -> File {
    OpenOptions::new().read(true).write(write).custom_flags(libc::O_DIRECT).open(path).unwrap()
}

pub fn write_at(file: &File, offset: u64, bytes: &[u8]) -> std::io::Result<()> {
    let mut buffer = Buf::new(bytes.len()).unwrap();
    buffer.as_mut_slice()[..bytes.len()].copy_from_slice(bytes);
    file.write_all_at(&buffer.as_slice()[..bytes.len()], offset)
}

pub fn read_at(file: &File, offset: u64, length: usize) -> std::io::Result<Vec<u8>> {
    let mut buffer = Buf::new(length).unwrap();
    file.read_exact_at(&mut buffer.as_mut_slice()[..length], offset)?;
    Ok(buffer.as_slice()[..length].to_vec())
}

/// Bytes that differ from place to place.
pub fn pattern(length: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    })
    .take(length)
    .collect()
}

/// Waits until something is so; fails after ten seconds.
pub fn until(what: &str, mut so: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(10);
    while !so() {
        assert!(Instant::now() < end, "still not: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// A fact of a block device from sysfs: `queue/logical_block_size`.
pub fn fact(device: &Path, name: &str) -> String {
    let disk = device.file_name().unwrap().to_string_lossy();
    std::fs::read_to_string(format!("/sys/block/{disk}/{name}")).unwrap_or_default().trim().to_string()
}

/// Counts what reaches a store.
#[derive(Default)]
pub struct Counts {
    pub reads: AtomicU64,
    pub writes: AtomicU64,
    pub flushes: AtomicU64,
    pub unmaps: AtomicU64,
    pub zeroes: AtomicU64,
}

impl Counts {
    pub fn of(count: &AtomicU64) -> u64 {
        count.load(Ordering::SeqCst)
    }
}

/// A store that counts, and that can be told to have a cache, so that the kernel flushes.
pub struct Counting {
    pub inner: Arc<dyn Backend>,
    pub counts: Arc<Counts>,
}

impl Counting {
    pub fn new(inner: Arc<dyn Backend>) -> (Arc<Counting>, Arc<Counts>) {
        let counts = Arc::new(Counts::default());
        (Arc::new(Counting { inner, counts: counts.clone() }), counts)
    }
}

impl Backend for Counting {
    fn limits(&self) -> Arc<Limits> {
        let limits = (*self.inner.limits()).clone();
        Arc::new(Limits { write_cache: block::WriteCache::Volatile, ..limits })
    }

    fn description(&self) -> Description {
        self.inner.description()
    }

    fn open(&self, engine: &Rc<dyn Engine>) -> Result<Box<dyn Store>, Error> {
        Ok(Box::new(CountingStore { inner: self.inner.open(engine)?, counts: self.counts.clone() }))
    }

    fn resize(&self, blocks: u64) -> Result<(), Error> {
        self.inner.resize(blocks)
    }
}

struct CountingStore {
    inner: Box<dyn Store>,
    counts: Arc<Counts>,
}

impl Store for CountingStore {
    fn submit(&mut self, batch: &mut Vec<Request>, done: &mut Vec<Completion>) {
        for request in batch.iter() {
            let count = match request.operation {
                Operation::Read => &self.counts.reads,
                Operation::Write { .. } => &self.counts.writes,
                Operation::Flush => &self.counts.flushes,
                Operation::Unmap => &self.counts.unmaps,
                Operation::WriteZeroes { .. } => &self.counts.zeroes,
                _ => continue,
            };
            count.fetch_add(1, Ordering::SeqCst);
        }
        self.inner.submit(batch, done);
    }

    fn poll(&mut self, done: &mut Vec<Completion>) {
        self.inner.poll(done);
    }

    fn in_flight(&self) -> usize {
        self.inner.in_flight()
    }
}
