//! One request to a store, and what comes of it.

use crate::{Buf, Error, ErrorKind, Limits, OpenFile};
use std::ops::Range;

/// A request's name. Whoever submits chooses it; a store only hands it back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RequestId(pub u64);

/// What a store can be asked to do. Offsets and lengths are bytes and multiples of the block length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Operation {
    /// Fill `data` from the extent: all of it, or an error.
    Read,
    /// Store `data` in the extent. With `durable` it is on stable storage when it completes.
    Write {
        /// The write must reach stable storage before it completes (FUA).
        durable: bool,
    },
    /// Everything that completed before is on stable storage when this completes. Extent unused.
    Flush,
    /// Give the extent's space back as far as the granularity allows. Where
    /// [`crate::UnmapLimits::reads_zeros`] holds, the whole extent reads as zeros afterwards.
    Unmap,
    /// The extent reads as zeros afterwards; with `unmap` space may be given back.
    WriteZeroes {
        /// The space may be given back.
        unmap: bool,
        /// As for a write.
        durable: bool,
    },
    /// Tell which parts of the extent have space behind them ([`Outcome::Extents`]).
    Extents,
    /// Copy the extent's length from this byte offset of the same store, or of the request's `origin`. Only
    /// where [`crate::Limits::copies`]; the two extents do not overlap.
    Copy {
        /// Byte offset of the source.
        source: u64,
    },
}

/// A request to a store. It is given back by its [`Completion`], exactly once.
#[derive(Debug)]
pub struct Request {
    /// Handed back in the completion; unique among the submitter's requests in flight.
    pub id: RequestId,
    /// What to do.
    pub operation: Operation,
    /// First byte of the extent in the store.
    pub offset: u64,
    /// Bytes of the extent. For Read and Write it equals `data.len()`.
    pub length: u64,
    /// The memory of Read and Write, owned by the request until its completion.
    pub buffer: Option<Buf>,
    /// Where in `buffer` the extent's bytes stand. Empty without a buffer.
    pub data: Range<usize>,
    /// Nobody wants the content of the memory of a Write back: a store may have changed it.
    pub expendable: bool,
    /// From where a Copy copies ([`crate::Backend::file`]), where not from the store itself. The end of
    /// this file is an error, like that of a store.
    pub origin: Option<OpenFile>,
}

/// What came of a request.
#[derive(Debug)]
pub struct Completion {
    /// The request's name.
    pub id: RequestId,
    /// The buffer of the request, back in its owner's hands.
    pub buffer: Option<Buf>,
    /// Success, or what went wrong. After a failed write each block of the extent is old or new.
    pub result: Result<Outcome, Error>,
}

/// What a successful request brings besides its data.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Outcome {
    /// Nothing more.
    Done,
    /// Answer to [`Operation::Extents`]: contiguous from the asked offset, at least one, in order;
    /// it may end before the asked extent does.
    Extents(Vec<Extent>),
}

/// A run of bytes in one state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extent {
    /// First byte.
    pub offset: u64,
    /// Number of bytes.
    pub length: u64,
    /// What is behind it.
    pub state: ExtentState,
}

/// What is behind a run of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExtentState {
    /// Data.
    Mapped,
    /// No space; reads as zeros where the store says so.
    Deallocated,
}

impl Request {
    /// A request without data over an extent.
    pub fn over(id: RequestId, operation: Operation, offset: u64, length: u64) -> Self {
        Request { id, operation, offset, length, buffer: None, data: 0..0, expendable: false, origin: None }
    }

    /// A Read or Write of `data` within `buffer`.
    pub fn with_data(id: RequestId, operation: Operation, offset: u64, buffer: Buf, data: Range<usize>) -> Self {
        Request {
            id,
            operation,
            offset,
            length: data.len() as u64,
            buffer: Some(buffer),
            data,
            expendable: false,
            origin: None,
        }
    }

    /// The bytes to be written. Empty without a buffer.
    pub fn bytes(&self) -> &[u8] {
        self.buffer.as_ref().map_or(&[], |buffer| &buffer.as_slice()[self.data.clone()])
    }

    /// The bytes to be filled. Empty without a buffer.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        let data = self.data.clone();
        self.buffer.as_mut().map_or(&mut [], |buffer| &mut buffer.as_mut_slice()[data])
    }

    /// Whether a store with these limits can take it: the extent lies within the capacity, on block
    /// boundaries, and is as long as the data; a read-only store is not written.
    ///
    /// `lun` has looked at all of this in its own terms; a store looks again because a size can have
    /// changed in between and because nothing must ever reach memory or a file beyond its extent.
    pub fn check(&self, limits: &Limits) -> Result<(), Error> {
        let writes = match self.operation {
            Operation::Flush => return Ok(()),
            Operation::Read | Operation::Extents => false,
            Operation::Write { .. } | Operation::Unmap | Operation::WriteZeroes { .. } | Operation::Copy { .. } => true,
        };
        if writes && limits.read_only {
            return Err(Error::new(ErrorKind::ReadOnly).at(self.offset));
        }
        let within = |offset: u64| offset.checked_add(self.length).is_some_and(|end| end <= limits.capacity());
        if !within(self.offset) {
            return Err(Error::new(ErrorKind::OutOfRange).at(self.offset.max(limits.capacity())));
        }
        let block = u64::from(limits.block_length.max(1));
        let aligned = |value: u64| value.is_multiple_of(block);
        let mut fits = aligned(self.offset) && aligned(self.length);
        if let Operation::Copy { source } = self.operation {
            if self.origin.is_none() && !within(source) {
                return Err(Error::new(ErrorKind::OutOfRange).at(source.max(limits.capacity())));
            }
            fits &= aligned(source);
        }
        if matches!(self.operation, Operation::Read | Operation::Write { .. }) {
            let room = self.buffer.as_ref().map_or(0, Buf::capacity);
            fits &= self.data.start <= self.data.end && self.data.end <= room && self.data.len() as u64 == self.length;
        }
        if fits { Ok(()) } else { Err(Error::new(ErrorKind::Unsupported).at(self.offset)) }
    }

    /// Gives the request back. Consumes it, so that nothing completes twice.
    pub fn complete(self, result: Result<Outcome, Error>) -> Completion {
        Completion { id: self.id, buffer: self.buffer, result }
    }
}
