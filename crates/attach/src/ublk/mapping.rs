//! The memory in which the driver describes the requests of one queue.

use super::abi::{DESCRIPTION_BYTES, Description, QUEUE_BYTES};
use rustix::fd::AsFd;
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};

/// A queue's descriptions, to be read only.
pub(super) struct Descriptions {
    start: NonNull<AtomicU64>,
    bytes: usize,
    tags: u16,
}

impl Descriptions {
    /// Maps those of a queue with so many tags.
    pub(super) fn map(device: impl AsFd, queue: u16, tags: u16) -> std::io::Result<Descriptions> {
        let page = rustix::param::page_size();
        let bytes = (usize::from(tags) * DESCRIPTION_BYTES).next_multiple_of(page);
        let offset = u64::from(queue) * QUEUE_BYTES.next_multiple_of(page as u64);
        // SAFETY: the kernel chooses the place, so no memory of ours is replaced.
        let start = unsafe {
            mmap(std::ptr::null_mut(), bytes, ProtFlags::READ, MapFlags::SHARED | MapFlags::POPULATE, device, offset)
        }?;
        let start = NonNull::new(start.cast()).ok_or_else(|| std::io::Error::from(std::io::ErrorKind::OutOfMemory))?;
        Ok(Descriptions { start, bytes, tags })
    }

    /// The request that a tag has. To be asked after the tag's fetch has completed.
    pub(super) fn get(&self, tag: u16) -> Option<Description> {
        if tag >= self.tags {
            return None;
        }
        const WORDS: usize = DESCRIPTION_BYTES / 8;
        let mut bytes = [0; DESCRIPTION_BYTES];
        for (index, word) in bytes.chunks_exact_mut(8).enumerate() {
            // SAFETY: within the mapping, as the tag is below `tags`; aligned, as it begins on a page. The driver may
            // write while we read if it is not as it should be: the words are read atomically, so that even then we
            // get some number, and every number is checked before it is used.
            let value = unsafe { self.start.add(usize::from(tag) * WORDS + index).as_ref() };
            word.copy_from_slice(&value.load(Ordering::Acquire).to_ne_bytes());
        }
        Some(Description::parse(&bytes))
    }
}

impl Drop for Descriptions {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours, and no reference into it outlives `get`.
        let _ = unsafe { munmap(self.start.as_ptr().cast(), self.bytes) };
    }
}
