//! One end of a copy: a file, a block device, or a disk at the other end of a network.

use super::disk::Disk;
use super::file::OpenFile;
use crate::failure::Failure;
use block::Buf;
use std::ops::Range;

/// A stretch of a source, from where it was asked for up to `end`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extent {
    /// Its end, in bytes from the start of the source.
    pub end: u64,
    /// It reads as zeros, and that is known without reading it.
    pub is_zero: bool,
}

/// One end. A clone is the same end.
#[derive(Clone)]
pub enum Place {
    /// A file or a block device.
    File(OpenFile),
    /// A logical unit.
    Disk(Disk),
}

impl Place {
    /// Its bytes.
    pub fn bytes(&self) -> u64 {
        match self {
            Place::File(file) => file.bytes(),
            Place::Disk(disk) => disk.bytes(),
        }
    }

    /// What it is called, without secrets.
    pub fn name(&self) -> String {
        match self {
            Place::File(file) => file.name(),
            Place::Disk(disk) => disk.name(),
        }
    }

    /// By what it is known again, and told from another of the same name.
    pub fn identity(&self) -> String {
        match self {
            Place::File(file) => file.identity(),
            Place::Disk(disk) => disk.identity(),
        }
    }

    /// The bytes that reading and writing count in.
    pub fn block_length(&self) -> u64 {
        match self {
            Place::File(file) => file.block_length(),
            Place::Disk(disk) => disk.block_length(),
        }
    }

    /// What the source has at this offset, which is below its end.
    pub async fn extent(&self, offset: u64) -> Result<Extent, Failure> {
        match self {
            Place::File(file) => file.extent(offset).await,
            Place::Disk(disk) => disk.extent(offset).await,
        }
    }

    /// Fills the start of the buffer with so many bytes from this offset on.
    pub async fn read(&self, offset: u64, buffer: Buf, length: usize) -> Result<Buf, Failure> {
        match self {
            Place::File(file) => file.read(offset, buffer, length).await,
            Place::Disk(disk) => disk.read(offset, buffer, length).await,
        }
    }

    /// Writes this part of the buffer at this offset. A last block that is not whole is filled with zeros.
    pub async fn write(&self, offset: u64, buffer: Buf, part: Range<usize>) -> Result<Buf, Failure> {
        match self {
            Place::File(file) => file.write(offset, buffer, part).await,
            Place::Disk(disk) => disk.write(offset, buffer, part).await,
        }
    }

    /// Makes so many bytes read as zeros, with as little space as can be.
    pub async fn zero(&self, offset: u64, length: u64) -> Result<(), Failure> {
        match self {
            Place::File(file) => file.zero(offset, length).await,
            Place::Disk(disk) => disk.zero(offset, length).await,
        }
    }

    /// Waits until all that was written is on the medium.
    pub async fn flush(&self) -> Result<(), Failure> {
        match self {
            Place::File(file) => file.flush().await,
            Place::Disk(disk) => disk.flush().await,
        }
    }

    /// Reads from now on what is on the medium, as far as that can be asked for.
    pub async fn forget_cached(&self) {
        if let Place::File(file) = self {
            file.forget_cached().await;
        }
    }
}
