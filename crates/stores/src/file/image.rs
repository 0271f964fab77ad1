//! An image of 2,048-byte blocks, only read: the medium of a CD/DVD drive. Where a file is no whole number
//! of blocks its last one is filled up with zeros.

use super::backend::{Access, FileBackend};
use super::facts::{self, Nature};
use super::lock::{self, Hold};
use super::open::{failed, open_as};
use crate::{Address, OpenError, host};
use block::{Backend, Completion, Description, Engine, Error, Limits, Operation, Outcome, Request, RequestId, Store};
use std::collections::HashMap;
use std::fs::{File, Metadata};
use std::ops::Range;
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt};
use std::rc::Rc;
use std::sync::Arc;
use std::time::SystemTime;

const BLOCK: u32 = 2048;

/// Which file an image is, and in which state. Another one is another medium.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Stamp {
    device: u64,
    inode: u64,
    /// Of a device, its number.
    number: u64,
    /// Size and time of the last change, of a file.
    state: Option<(u64, Option<SystemTime>)>,
}

impl Stamp {
    /// What lies at this path now.
    pub(crate) fn of(path: &str) -> std::io::Result<Stamp> {
        host::metadata(path).map(|metadata| Stamp::from(&metadata))
    }

    fn from(metadata: &Metadata) -> Stamp {
        let state = metadata.is_file().then(|| (metadata.len(), metadata.modified().ok()));
        Stamp { device: metadata.dev(), inode: metadata.ino(), number: metadata.rdev(), state }
    }
}

/// An open image.
pub(crate) struct Image {
    whole: Arc<FileBackend>,
    /// The last block where the file ends within it.
    tail: Option<Arc<[u8]>>,
}

/// Opens the image at this address for reading, beside others who only read it.
pub(crate) fn open_image(address: &Address) -> Result<(Image, Stamp), OpenError> {
    let io = |error: std::io::Error| failed(address, &error);
    let metadata = host::metadata(&address.place).map_err(io)?;
    if !metadata.is_file() && !metadata.file_type().is_block_device() {
        return Err(address.error("is neither a file nor a block device"));
    }
    let file = open_as(address, metadata.file_type().is_block_device(), true)?;
    lock::lock(&file, Hold::Shared).map_err(|problem| address.error(problem).remedy("a disk is served once"))?;
    let facts = facts::look(&file).map_err(io)?;
    let stamp = Stamp::from(&file.metadata().map_err(io)?);
    let size = facts::size(&file, facts.nature).map_err(io)?;
    if size == 0 {
        let remedy = match facts.nature {
            Nature::File => "an image has at least one block of 2048 bytes",
            Nature::Device => "is there a medium in it?",
        };
        return Err(address.error("is empty").remedy(remedy));
    }
    let tail = tail(&file, size).map_err(io)?;
    let access = Access { read_only: true, direct: address.has("direct") };
    let whole = FileBackend::new(address.place.clone(), file, facts, BLOCK, size / u64::from(BLOCK), access);
    if access.direct {
        whole.try_direct().map_err(|error| {
            let problem = format!("direct I/O does not work here: {error}");
            address.error(problem).remedy("leave out direct")
        })?;
    }
    Ok((Image { whole, tail }, stamp))
}

fn tail(file: &File, size: u64) -> std::io::Result<Option<Arc<[u8]>>> {
    let rest = size % u64::from(BLOCK);
    if rest == 0 {
        return Ok(None);
    }
    let mut block = vec![0; BLOCK as usize];
    if let Some(bytes) = block.get_mut(..rest as usize) {
        file.read_exact_at(bytes, size - rest)?;
    }
    Ok(Some(block.into()))
}

impl Backend for Image {
    fn limits(&self) -> Arc<Limits> {
        let whole = self.whole.limits();
        match self.tail {
            Some(_) => Arc::new(Limits { blocks: whole.blocks + 1, ..(*whole).clone() }),
            None => whole,
        }
    }

    fn description(&self) -> Description {
        self.whole.description()
    }

    /// Whoever goes on opens it for himself: it is read beside others.
    fn hand_over(&self) -> Result<block::Estate, &'static str> {
        Ok(block::Estate::default())
    }

    fn open(&self, engine: &Rc<dyn Engine>) -> Result<Box<dyn Store>, Error> {
        let inner = self.whole.open(engine)?;
        Ok(match &self.tail {
            None => inner,
            Some(tail) => Box::new(Channel {
                inner,
                limits: self.limits(),
                tail: Arc::clone(tail),
                through: Vec::new(),
                to_fill: HashMap::new(),
            }),
        })
    }
}

/// A channel to an image whose last block is not in the file.
struct Channel {
    inner: Box<dyn Store>,
    limits: Arc<Limits>,
    tail: Arc<[u8]>,
    through: Vec<Request>,
    /// Where in the buffers of these requests the last block belongs.
    to_fill: HashMap<RequestId, Range<usize>>,
}

impl Channel {
    fn fill(&mut self, completion: &mut Completion) {
        let Some(place) = self.to_fill.remove(&completion.id) else { return };
        if completion.result.is_ok()
            && let Some(bytes) = completion.buffer.as_mut().and_then(|buffer| buffer.as_mut_slice().get_mut(place))
        {
            bytes.copy_from_slice(&self.tail);
        }
    }
}

impl Store for Channel {
    fn submit(&mut self, batch: &mut Vec<Request>, done: &mut Vec<Completion>) {
        let last = self.limits.capacity() - self.tail.len() as u64;
        let from = done.len();
        for mut request in batch.drain(..) {
            if let Err(error) = request.check(&self.limits) {
                done.push(request.complete(Err(error)));
                continue;
            }
            if request.operation == Operation::Read && request.length > 0 && request.offset + request.length > last {
                // What was checked has a whole block there.
                let start = request.data.end - self.tail.len();
                self.to_fill.insert(request.id, start..request.data.end);
                request.length -= self.tail.len() as u64;
                request.data.end = start;
                if request.length == 0 {
                    done.push(request.complete(Ok(Outcome::Done)));
                    continue;
                }
            }
            self.through.push(request);
        }
        self.inner.submit(&mut self.through, done);
        done.iter_mut().skip(from).for_each(|completion| self.fill(completion));
    }

    fn poll(&mut self, done: &mut Vec<Completion>) {
        let from = done.len();
        self.inner.poll(done);
        done.iter_mut().skip(from).for_each(|completion| self.fill(completion));
    }

    fn in_flight(&self) -> usize {
        self.inner.in_flight()
    }
}
