//! A disk behind a key: AES-256 in XTS mode over sectors of 512 bytes, the sector's number as the tweak.
//!
//! It is what `cryptsetup open --type plain --cipher aes-xts-plain64 --key-size 512 --key-file FILE` makes of
//! the same file, with one addition: a sector of nothing but zeros, which no encrypted sector is, reads as
//! zeros. So holes stay holes, and space can be given back.

mod key;

pub(crate) use key::KeyFile;

use block::{
    Backend, Completion, Description, Engine, Error, ErrorKind, Limits, Operation, Request, RequestId, Space, Store,
};
use key::{Key, Renewed};
use std::collections::{HashMap, VecDeque};
use std::ops::Range;
use std::rc::Rc;
use std::sync::{Arc, PoisonError, RwLock};

/// Bytes under one tweak.
const SECTOR: usize = 512;
/// Bytes that are encrypted, or decrypted, at one call. A lane makes a few dozen before the sockets of its
/// worker have their turn.
const BYTES_AT_ONCE: usize = 64 << 10;

/// The disk.
pub(crate) struct Encrypted {
    inner: Arc<dyn Backend>,
    file: KeyFile,
    key: Arc<RwLock<Arc<Key>>>,
}

impl Encrypted {
    /// Before this backend.
    pub fn new(inner: Arc<dyn Backend>, file: KeyFile, key: Key) -> Arc<Encrypted> {
        Arc::new(Encrypted { inner, file, key: Arc::new(RwLock::new(Arc::new(key))) })
    }
}

impl Backend for Encrypted {
    fn limits(&self) -> Arc<Limits> {
        let inner = self.inner.limits();
        // What a sector looks like depends on where it is: nobody can copy it without the key.
        Arc::new(Limits { copies: false, cryptographic_erase: !inner.read_only, ..(*inner).clone() })
    }

    fn description(&self) -> Description {
        self.inner.description()
    }

    fn open(&self, engine: &Rc<dyn Engine>) -> Result<Box<dyn Store>, Error> {
        let inner = self.inner.open(engine)?;
        Ok(Box::new(Channel {
            inner,
            limits: self.limits(),
            key: Arc::clone(&self.key),
            waiting: VecDeque::new(),
            under_way: HashMap::new(),
            back: VecDeque::new(),
            through: Vec::new(),
            from: Vec::new(),
        }))
    }

    fn refresh(&self) -> Result<bool, Error> {
        self.inner.refresh()
    }

    fn space(&self) -> Option<Space> {
        self.inner.space()
    }

    fn erase_key(&self) -> Result<(), Error> {
        if self.inner.limits().read_only {
            return Err(Error::new(ErrorKind::ReadOnly));
        }
        let Renewed { key, gone } = self.file.renew().map_err(|_| Error::new(ErrorKind::Medium))?;
        *self.key.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(key);
        gone.map_err(|_| Error::new(ErrorKind::Medium))
    }

    fn hand_over(&self) -> Result<block::Estate, &'static str> {
        let mut estate = self.inner.hand_over()?;
        estate.files.push(self.file.held()?);
        Ok(estate)
    }

    fn flush_inherited(&self, done: block::Flushed) {
        self.inner.flush_inherited(done);
    }

    fn resize(&self, blocks: u64) -> Result<(), Error> {
        self.inner.resize(blocks)
    }
}

/// A transfer that is at the inner store.
struct UnderWay {
    key: Arc<Key>,
    offset: u64,
    data: Range<usize>,
    write: bool,
    expendable: bool,
}

struct Channel {
    inner: Box<dyn Store>,
    /// Of the time of opening, for block boundaries and memory; the inner store knows the size.
    limits: Arc<Limits>,
    key: Arc<RwLock<Arc<Key>>>,
    /// Requests that are to be encrypted.
    waiting: VecDeque<Request>,
    under_way: HashMap<RequestId, UnderWay>,
    /// Completions that are to be decrypted.
    back: VecDeque<Completion>,
    through: Vec<Request>,
    from: Vec<Completion>,
}

impl Channel {
    /// Hands on what is encrypted, as much as may be in one turn.
    fn hand_on(&mut self, done: &mut Vec<Completion>) {
        let mut budget = BYTES_AT_ONCE;
        let mut through = std::mem::take(&mut self.through);
        while budget > 0
            && let Some(mut request) = self.waiting.pop_front()
        {
            match request.operation {
                Operation::Copy { .. } => {
                    done.push(request.complete(Err(Error::new(ErrorKind::Unsupported))));
                    continue;
                }
                Operation::Read | Operation::Write { .. } if is_whole(&request, &self.limits) => {
                    let key = Arc::clone(&self.key.read().unwrap_or_else(PoisonError::into_inner));
                    let write = matches!(request.operation, Operation::Write { .. });
                    let (offset, data, expendable) = (request.offset, request.data.clone(), request.expendable);
                    if write {
                        budget = budget.saturating_sub(data.len());
                        key.encrypt(request.bytes_mut(), offset);
                    }
                    self.under_way.insert(request.id, UnderWay { key, offset, data, write, expendable });
                }
                // The inner store refuses what is not whole.
                _ => {}
            }
            through.push(request);
        }
        if !through.is_empty() {
            self.inner.submit(&mut through, &mut self.from);
        }
        self.through = through;
        self.hand_back(done);
    }

    /// Decrypts what was read, as much as may be in one turn, and what was written too where its memory
    /// goes back as it came.
    fn hand_back(&mut self, done: &mut Vec<Completion>) {
        self.back.extend(self.from.drain(..));
        let mut budget = BYTES_AT_ONCE;
        while budget > 0
            && let Some(mut completion) = self.back.pop_front()
        {
            if let Some(transfer) = self.under_way.remove(&completion.id)
                && let Some(buffer) = &mut completion.buffer
                && (if transfer.write { !transfer.expendable } else { completion.result.is_ok() })
                && let Some(bytes) = buffer.as_mut_slice().get_mut(transfer.data)
            {
                budget = budget.saturating_sub(bytes.len());
                transfer.key.decrypt(bytes, transfer.offset);
            }
            done.push(completion);
        }
    }
}

impl Store for Channel {
    fn submit(&mut self, batch: &mut Vec<Request>, done: &mut Vec<Completion>) {
        self.waiting.extend(batch.drain(..));
        self.hand_on(done);
    }

    fn poll(&mut self, done: &mut Vec<Completion>) {
        self.inner.poll(&mut self.from);
        self.hand_on(done);
    }

    fn in_flight(&self) -> usize {
        self.waiting.len() + self.inner.in_flight() + self.back.len()
    }
}

/// Whether the request has memory for whole blocks at a block boundary.
fn is_whole(request: &Request, limits: &Limits) -> bool {
    let block = u64::from(limits.block_length.max(1));
    let room = request.buffer.as_ref().map_or(0, block::Buf::capacity);
    request.offset.is_multiple_of(block)
        && request.length.is_multiple_of(block)
        && request.data.start <= request.data.end
        && request.data.end <= room
        && request.data.len() as u64 == request.length
}

#[cfg(test)]
mod tests {
    use super::*;
    use block::pure::Ram;
    use block::testing::Bench;

    fn folder(name: &str) -> std::path::PathBuf {
        let folder = std::env::temp_dir().join(format!("lunette-encrypted-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(&folder).unwrap();
        folder
    }

    fn encrypted(folder: &std::path::Path, inner: Arc<dyn Backend>, new: bool) -> Arc<Encrypted> {
        let (file, key) = KeyFile::open(&folder.join("key"), new, None, false).unwrap();
        Encrypted::new(inner, file, key)
    }

    #[test]
    fn what_lies_below_is_noise_and_holes_stay_holes() {
        let folder = folder("noise");
        let inner = Ram::new(512, 64);
        let mut bench = Bench::new(encrypted(&folder, inner.clone(), true));
        bench.write(512, &[7; 1024]).unwrap();
        assert_eq!(bench.read(0, 2048).unwrap(), [&[0; 512][..], &[7; 1024], &[0; 512]].concat());
        let mut below = Bench::new(inner);
        let raw = below.read(0, 2048).unwrap();
        assert!(raw[..512] == [0; 512] && raw[1536..] == [0; 512]);
        assert!(raw[512..1024] != [7; 512] && raw[512..1024] != raw[1024..1536], "equal sectors look different");
        bench.run(Operation::Unmap, 512, 512).unwrap();
        assert_eq!(bench.read(512, 512).unwrap(), [0; 512]);
        let _ = std::fs::remove_dir_all(folder);
    }

    #[test]
    fn sbc_15_without_its_key_the_data_is_gone_and_the_disk_works_on() {
        let folder = folder("erase");
        let inner = Ram::new(512, 64);
        let disk = encrypted(&folder, inner.clone(), true);
        let mut bench = Bench::new(disk.clone());
        bench.write(0, &[7; 1024]).unwrap();
        disk.erase_key().unwrap();
        let noise = bench.read(0, 1024).unwrap();
        assert!(noise != [7; 1024] && noise[..512] != noise[512..]);
        bench.write(0, &[9; 512]).unwrap();
        drop((bench, disk));
        let mut again = Bench::new(encrypted(&folder, inner, false));
        assert_eq!(again.read(0, 512).unwrap(), [9; 512], "the new key was kept");
        let _ = std::fs::remove_dir_all(folder);
    }

    #[test]
    fn an_erase_that_fails_leaves_key_and_data_as_they_were() {
        let folder = folder("half");
        let inner = Ram::new(512, 64);
        let disk = encrypted(&folder, inner.clone(), true);
        let mut bench = Bench::new(disk.clone());
        bench.write(0, &[7; 512]).unwrap();
        // Nothing new can be made beside the key file.
        std::fs::create_dir(folder.join("key.new")).unwrap();
        disk.erase_key().unwrap_err();
        assert_eq!(bench.read(0, 512).unwrap(), [7; 512]);
        bench.write(512, &[9; 512]).unwrap();
        drop((bench, disk));
        let mut again = Bench::new(encrypted(&folder, inner, false));
        assert_eq!(again.read(0, 1024).unwrap(), [[7; 512], [9; 512]].concat());
        let _ = std::fs::remove_dir_all(folder);
    }

    #[test]
    fn one_key_is_one_disk_s() {
        let folder = folder("shared");
        let disk = encrypted(&folder, Ram::new(512, 64), true);
        let other = KeyFile::open(&folder.join("key"), true, None, false);
        assert!(other.unwrap_err().what.contains("another disk"));
        disk.erase_key().unwrap();
        let other = KeyFile::open(&folder.join("key"), true, None, false);
        assert!(other.unwrap_err().what.contains("another disk"), "nor the new key");
        drop(disk);
        KeyFile::open(&folder.join("key"), false, None, false).unwrap();
        let _ = std::fs::remove_dir_all(folder);
    }

    #[test]
    fn a_key_by_a_link_is_renewed_behind_the_link() {
        let folder = folder("link");
        std::fs::create_dir_all(folder.join("safe")).unwrap();
        drop(KeyFile::open(&folder.join("safe/key"), true, None, false).unwrap());
        std::os::unix::fs::symlink("safe/key", folder.join("key")).unwrap();
        let before = std::fs::read(folder.join("safe/key")).unwrap();
        let (file, _) = KeyFile::open(&folder.join("key"), false, None, false).unwrap();
        file.renew().unwrap().gone.unwrap();
        assert!(std::fs::symlink_metadata(folder.join("key")).unwrap().is_symlink());
        let after = std::fs::read(folder.join("safe/key")).unwrap();
        assert!(after.len() == 64 && after != before);
        let _ = std::fs::remove_dir_all(folder);
    }

    #[test]
    fn a_deep_batch_is_taken_in_turns_and_in_order() {
        const LENGTH: usize = 128 << 10;
        let folder = folder("deep");
        let disk = encrypted(&folder, Ram::new(512, 1 << 16), true);
        let engine: Rc<dyn Engine> = Rc::new(block::NoEngine);
        let mut store = disk.open(&engine).unwrap();
        let account = block::Pool::new(64 << 20, 0).account();
        let write = |number: u64| {
            let mut buffer = account.take(LENGTH).unwrap();
            buffer.as_mut_slice()[..LENGTH].fill(number as u8 + 1);
            let operation = Operation::Write { durable: false };
            let request = Request::with_data(RequestId(number), operation, number * LENGTH as u64, buffer, 0..LENGTH);
            Request { expendable: number.is_multiple_of(2), ..request }
        };
        let mut batch: Vec<Request> = (0..40).map(write).collect();
        batch.push(Request::over(RequestId(100), Operation::Flush, 0, 0));
        let (mut done, mut turns) = (Vec::new(), 1);
        store.submit(&mut batch, &mut done);
        while store.in_flight() > 0 {
            let before = done.len();
            store.poll(&mut done);
            turns += 1;
            assert!(done.len() > before, "every turn brings something");
        }
        assert!(turns > 10 && done.len() == 41 && done.last().unwrap().id == RequestId(100));
        for one in done.iter().filter(|one| one.id.0 < 40 && one.id.0 % 2 == 1) {
            let bytes = &one.buffer.as_ref().unwrap().as_slice()[..LENGTH];
            assert!(bytes.iter().all(|byte| u64::from(*byte) == one.id.0 + 1), "memory comes back as it went");
        }
        drop((store, account));
        let mut bench = Bench::new(disk);
        assert_eq!(bench.read(17 * LENGTH as u64, 512).unwrap(), [18; 512]);
        let _ = std::fs::remove_dir_all(folder);
    }

    #[test]
    fn the_store_keeps_every_promise_of_stores() {
        let folder = folder("promise");
        let mut bench = Bench::new(encrypted(&folder, Ram::new(512, 2048), true));
        block::testing::conformance(&mut bench, 7, 400);
        let _ = std::fs::remove_dir_all(folder);
    }
}
