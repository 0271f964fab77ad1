//! One file operation, carried out to its end on the calling thread. What the pool's threads and the
//! inline engine do, and what the ring falls back to.
//!
//! Short transfers and interruptions are carried on; the end of the file is an error at its offset,
//! never zeros and never growth (reliability.md F15, F16).

use block::{Buf, Error, ErrorKind, Extent, ExtentState, FileOperation, Outcome, Request};
use rustix::fs::{FallocateFlags, SeekFrom};
use rustix::io::{Errno, ReadWriteFlags};
use std::fs::File;
use std::io::{IoSlice, IoSliceMut};

/// The most runs in one answer to Extents.
const RUNS_MAX: usize = 64;
/// Bytes of zeros or of a copy that are held in memory at a time.
const BOUNCE_BYTES: usize = 1 << 20;

/// Carries `operation` out on `file` for `request`.
pub(super) fn perform(file: &File, operation: FileOperation, request: &mut Request) -> Result<Outcome, Error> {
    let (offset, length) = (request.offset, request.length);
    match operation {
        FileOperation::Read => {
            let bytes = request.bytes_mut();
            transfer(offset, bytes.len(), |done| {
                let rest = bytes.get_mut(done..).unwrap_or_default();
                rustix::io::preadv(file, &mut [IoSliceMut::new(rest)], offset + done as u64)
            })?;
        }
        FileOperation::Write { durable } => {
            let flags = if durable { ReadWriteFlags::DSYNC } else { ReadWriteFlags::empty() };
            write(file, offset, request.bytes(), flags)?;
        }
        FileOperation::Sync => retry(|| rustix::fs::fdatasync(file)).map_err(error)?,
        FileOperation::PunchHole => {
            let punched = allocate(file, FallocateFlags::PUNCH_HOLE, offset, length);
            zeros_where_refused(file, punched, offset, length)?;
        }
        FileOperation::ZeroRange => {
            let zeroed = allocate(file, FallocateFlags::ZERO_RANGE, offset, length);
            zeros_where_refused(file, zeroed, offset, length)?;
        }
        FileOperation::Extents => return extents(file, offset, length).map(Outcome::Extents),
        FileOperation::Copy { source } => {
            let origin = request.origin.clone();
            copy(origin.as_deref().unwrap_or(file), file, source, offset, length)?;
        }
    }
    Ok(Outcome::Done)
}

/// The error for a failed system call.
pub(super) fn error(errno: Errno) -> Error {
    Error::from_os(errno.raw_os_error())
}

/// Calls `step` with the number of bytes done until `length` are.
fn transfer(offset: u64, length: usize, mut step: impl FnMut(usize) -> Result<usize, Errno>) -> Result<(), Error> {
    let mut done = 0;
    while done < length {
        match step(done) {
            Ok(0) => return Err(Error::new(ErrorKind::OutOfRange).at(offset + done as u64)),
            Ok(bytes) => done += bytes,
            Err(Errno::INTR) => {}
            Err(errno) => return Err(error(errno).at(offset + done as u64)),
        }
    }
    Ok(())
}

fn retry<T>(mut call: impl FnMut() -> Result<T, Errno>) -> Result<T, Errno> {
    loop {
        match call() {
            Err(Errno::INTR) => {}
            result => return result,
        }
    }
}

fn write(file: &File, offset: u64, bytes: &[u8], flags: ReadWriteFlags) -> Result<(), Error> {
    transfer(offset, bytes.len(), |done| {
        let rest = [IoSlice::new(bytes.get(done..).unwrap_or_default())];
        rustix::io::pwritev2(file, &rest, offset + done as u64, flags)
    })
}

fn allocate(file: &File, how: FallocateFlags, offset: u64, length: u64) -> Result<(), Errno> {
    if length == 0 {
        return Ok(());
    }
    retry(|| rustix::fs::fallocate(file, how | FallocateFlags::KEEP_SIZE, offset, length))
}

/// What the file system cannot do by itself is done by writing zeros: the extent reads as zeros either way.
fn zeros_where_refused(file: &File, result: Result<(), Errno>, offset: u64, length: u64) -> Result<(), Error> {
    match result {
        Ok(()) => return Ok(()),
        Err(Errno::OPNOTSUPP | Errno::NOSYS) => {}
        Err(errno) => return Err(error(errno).at(offset)),
    }
    let most = length.min(BOUNCE_BYTES as u64) as usize;
    let zeros = Buf::new(most).ok_or(Error::new(ErrorKind::Busy))?;
    let mut done = 0;
    while done < length {
        let piece = (length - done).min(most as u64) as usize;
        let bytes = zeros.as_slice().get(..piece).unwrap_or_default();
        write(file, offset + done, bytes, ReadWriteFlags::empty())?;
        done += piece as u64;
    }
    Ok(())
}

/// Looks at data and holes from `offset` on. Moves the file's position, which nobody uses.
fn extents(file: &File, offset: u64, length: u64) -> Result<Vec<Extent>, Error> {
    let whole = |state| vec![Extent { offset, length, state }];
    let end = offset + length;
    let mut runs = Vec::new();
    let mut at = offset;
    while at < end && runs.len() < RUNS_MAX {
        let data = match rustix::fs::seek(file, SeekFrom::Data(at)) {
            Ok(data) => data.clamp(at, end),
            // No data from here to the end of the file.
            Err(Errno::NXIO) => end,
            // A device, or a file system that does not tell.
            Err(Errno::INVAL | Errno::OPNOTSUPP) => return Ok(whole(ExtentState::Mapped)),
            Err(errno) => return Err(error(errno).at(at)),
        };
        if data > at {
            runs.push(Extent { offset: at, length: data - at, state: ExtentState::Deallocated });
        }
        if data < end {
            let hole = match rustix::fs::seek(file, SeekFrom::Hole(data)) {
                Ok(hole) => hole.min(end),
                // Truncated or punched in between: say data, which is never wrong.
                Err(Errno::NXIO) => end,
                Err(errno) => return Err(error(errno).at(data)),
            };
            // A hole punched in between can give no progress; the byte asked for is then called data.
            let hole = hole.max(data + 1);
            runs.push(Extent { offset: data, length: hole - data, state: ExtentState::Mapped });
            at = hole;
        } else {
            at = end;
        }
    }
    Ok(runs)
}

fn copy(origin: &File, file: &File, source: u64, target: u64, length: u64) -> Result<(), Error> {
    let mut done = 0;
    while done < length {
        let (mut from, mut to) = (source + done, target + done);
        let most = usize::try_from(length - done).unwrap_or(usize::MAX).min(1 << 30);
        match rustix::fs::copy_file_range(origin, Some(&mut from), file, Some(&mut to), most) {
            Ok(0) => return Err(Error::new(ErrorKind::OutOfRange).at(source + done)),
            Ok(bytes) => done += bytes as u64,
            Err(Errno::INTR) => {}
            Err(Errno::XDEV | Errno::OPNOTSUPP | Errno::INVAL | Errno::NOSYS) => {
                return copy_through_memory(origin, file, source + done, target + done, length - done);
            }
            Err(errno) => return Err(error(errno).at(target + done)),
        }
    }
    Ok(())
}

fn copy_through_memory(origin: &File, file: &File, source: u64, target: u64, length: u64) -> Result<(), Error> {
    let mut bounce = Buf::new(length.min(BOUNCE_BYTES as u64) as usize).ok_or(Error::new(ErrorKind::Busy))?;
    let mut done = 0;
    while done < length {
        let piece = (length - done).min(BOUNCE_BYTES as u64) as usize;
        let bytes = bounce.as_mut_slice().get_mut(..piece).unwrap_or_default();
        transfer(source + done, piece, |got| {
            let rest = bytes.get_mut(got..).unwrap_or_default();
            rustix::io::preadv(origin, &mut [IoSliceMut::new(rest)], source + done + got as u64)
        })?;
        write(file, target + done, bytes, ReadWriteFlags::empty())?;
        done += piece as u64;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn f15_short_transfers_and_interruptions_are_carried_on() {
        let mut answers = [Ok(100), Err(Errno::INTR), Ok(1), Err(Errno::INTR), Ok(411)].into_iter();
        let mut asked = Vec::new();
        let result = transfer(4096, 512, |done| {
            asked.push(done);
            answers.next().unwrap()
        });
        assert_eq!(result, Ok(()));
        assert_eq!(asked, [0, 100, 100, 101, 101]);
    }

    #[test]
    fn f15_an_error_in_the_middle_names_its_offset() {
        let mut answers = [Ok(512), Err(Errno::IO)].into_iter();
        let error = transfer(4096, 1024, |_| answers.next().unwrap()).unwrap_err();
        assert_eq!((error.kind, error.offset), (ErrorKind::Medium, Some(4608)));
    }

    #[test]
    fn f16_the_end_of_the_file_is_an_error_where_it_is() {
        let mut answers = [Ok(512), Ok(0)].into_iter();
        let error = transfer(0, 1024, |_| answers.next().unwrap()).unwrap_err();
        assert_eq!((error.kind, error.offset), (ErrorKind::OutOfRange, Some(512)));
    }
}
