//! A store's request as commands of a unit.

use super::facts::{Abilities, Unmap, is_refusal};
use crate::{Cdb, Command, Data, Error, Finished, Unit};
use block::{Buf, ErrorKind, Extent, ExtentState, Limits, Operation, Outcome, Request, WriteCache};
use scsi::blocks::{self, BlockState};
use scsi::cdb::{self, WriteSame};
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};

/// Bytes of GET LBA STATUS that are asked for at a time: 256 descriptors.
const STATUS_BYTES: usize = 8 + 256 * 16;
/// Zeros that are sent at a time to a unit that does not know WRITE SAME.
const ZEROS_BYTES: u64 = 1 << 20;

/// Why a request was not carried out.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The way to the disk does not work: another may. Whether the command was executed is not known.
    Path(Error),
    /// The disk says no.
    Disk(block::Error),
}

/// A unit, and what is known of it.
pub(crate) struct Way<'a> {
    pub unit: &'a Unit,
    pub limits: &'a Limits,
    pub abilities: Abilities,
    /// It has refused WRITE SAME.
    pub without_same: &'a AtomicBool,
}

impl Way<'_> {
    /// Carries the request out, whose extent has been looked at ([`Request::check`]). Its buffer is back in it then.
    pub(crate) async fn perform(&self, request: &mut Request) -> Result<Outcome, Failure> {
        let (offset, length) = (request.offset, request.length);
        match request.operation {
            Operation::Read => self.transfer(request, false, false).await?,
            Operation::Write { durable } => {
                let forced = durable && self.abilities.durable_writes;
                self.transfer(request, true, forced).await?;
                self.settle(durable && !forced).await?;
            }
            Operation::Flush => self.flush().await?,
            Operation::Unmap => match self.abilities.unmap {
                Some(Unmap::Unmap(most)) => self.unmap(offset, length, most).await?,
                Some(Unmap::WriteSame(_)) => self.zero(offset, length, true).await?,
                None => return Err(Failure::Disk(block::Error::new(ErrorKind::Unsupported))),
            },
            Operation::WriteZeroes { unmap, durable } => {
                self.zero(offset, length, unmap).await?;
                self.settle(durable).await?;
            }
            Operation::Extents => return self.extents(offset, length).await.map(Outcome::Extents),
            _ => return Err(Failure::Disk(block::Error::new(ErrorKind::Unsupported))),
        }
        Ok(Outcome::Done)
    }

    /// A read or write, by as many commands as it takes, one after the other.
    async fn transfer(&self, request: &mut Request, write: bool, forced: bool) -> Result<(), Failure> {
        let mut done = 0;
        while done < request.length {
            let bytes = (request.length - done).min(self.abilities.transfer.into());
            let transfer = Transfer { write, forced, at: request.offset + done, bytes, ..self.one() };
            let start = request.data.start + done as usize;
            let buffer = request.buffer.take().ok_or(Failure::Disk(block::Error::new(ErrorKind::Busy)))?;
            let room = buffer.capacity();
            let command = transfer.command(buffer, start..start + bytes as usize);
            let (buffer, result) = transfer.finish(self.unit.execute(command).await, room);
            request.buffer = buffer;
            result?;
            done += bytes;
        }
        Ok(())
    }

    fn one(&self) -> Transfer {
        let (block_length, long) = (self.limits.block_length, self.abilities.long);
        Transfer { write: false, forced: false, at: 0, bytes: 0, block_length, long }
    }

    /// Makes what was written stable, where that has not been done by the write itself.
    async fn settle(&self, wanted: bool) -> Result<(), Failure> {
        if wanted && self.limits.write_cache == WriteCache::Volatile {
            self.flush().await?;
        }
        Ok(())
    }

    async fn flush(&self) -> Result<(), Failure> {
        let cdb = [0x35, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        match self.unit.execute(Command::new(&cdb)).await.result {
            // A unit with a volatile cache must know the command (SBC-4 4.16): this one has none.
            Err(error) if is_refusal(&error) => Ok(()),
            result => result.map(drop).map_err(|error| self.failure(error, 0)),
        }
    }

    async fn unmap(&self, offset: u64, length: u64, most: u64) -> Result<(), Failure> {
        let mut done = 0;
        while done < length {
            let piece = (length - done).min(most);
            let at = offset + done;
            let list = blocks::encode_unmap(&[(self.block(at), self.block(piece) as u32)]);
            let cdb = cdb::unmap(false, list.len() as u16);
            let finished = self.unit.execute(Command::new(&cdb).writing(list)).await;
            finished.result.map_err(|error| self.failure(error, at))?;
            done += piece;
        }
        Ok(())
    }

    /// The extent reads as zeros afterwards.
    async fn zero(&self, offset: u64, length: u64, unmap: bool) -> Result<(), Failure> {
        let mut done = 0;
        while done < length {
            let at = offset + done;
            if !self.abilities.long || self.without_same.load(Ordering::Relaxed) {
                return self.write_zeros(at, length - done).await;
            }
            let piece = (length - done).min(self.abilities.same);
            let how = WriteSame { unmap: unmap && self.abilities.same_unmaps, ..WriteSame::default() };
            let cdb = cdb::write_same_16(self.block(at), self.block(piece) as u32, how);
            // One block of zeros, since units that can do without one are few.
            let zeros = vec![0; self.limits.block_length as usize];
            match self.unit.execute(Command::new(&cdb).writing(zeros)).await.result {
                // Unless it is the extent that is wrong.
                Err(error) if is_refusal(&error) && !is_out_of_range(&error) => {
                    self.without_same.store(true, Ordering::Relaxed);
                    continue;
                }
                result => drop(result.map_err(|error| self.failure(error, at))?),
            }
            done += piece;
        }
        Ok(())
    }

    async fn write_zeros(&self, offset: u64, length: u64) -> Result<(), Failure> {
        let most = ZEROS_BYTES.min(self.abilities.transfer.into());
        let mut zeros = vec![0; most.min(length) as usize];
        let mut done = 0;
        while done < length {
            let piece = (length - done).min(most);
            let at = offset + done;
            zeros.resize(piece as usize, 0);
            let cdb = Transfer { write: true, at, bytes: piece, ..self.one() }.cdb();
            let finished = self.unit.execute(Command { cdb, ..Command::new(&[]) }.writing(zeros)).await;
            zeros = match finished.data_out {
                Data::Vec(zeros) => zeros,
                _ => Vec::new(),
            };
            finished.result.map_err(|error| self.failure(error, at))?;
            done += piece;
        }
        Ok(())
    }

    async fn extents(&self, offset: u64, length: u64) -> Result<Vec<Extent>, Failure> {
        let mapped = vec![Extent { offset, length, state: ExtentState::Mapped }];
        if length == 0 || self.abilities.unmap.is_none() || !self.abilities.long {
            return Ok(mapped);
        }
        let lba = self.block(offset);
        let cdb = cdb::get_lba_status(lba, STATUS_BYTES as u32);
        match self.unit.execute(Command::new(&cdb).reading(STATUS_BYTES)).await.bytes() {
            Ok(answer) => {
                let ranges = blocks::parse_lba_status(lba, &answer).unwrap_or_default();
                let runs = runs(&ranges, offset, length, self.limits.block_length);
                Ok(if runs.is_empty() { mapped } else { runs })
            }
            Err(error) if is_refusal(&error) && !is_out_of_range(&error) => Ok(mapped),
            Err(error) => Err(self.failure(error, offset)),
        }
    }

    fn block(&self, bytes: u64) -> u64 {
        bytes / u64::from(self.limits.block_length)
    }

    fn failure(&self, error: Error, at: u64) -> Failure {
        failure(error, at, self.limits.block_length)
    }
}

/// A read or write of one command.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Transfer {
    write: bool,
    /// FUA.
    forced: bool,
    /// First byte, and how many.
    at: u64,
    bytes: u64,
    block_length: u32,
    /// The unit knows commands of 16 bytes.
    long: bool,
}

impl Transfer {
    /// What is all of a request, where one command can be. Its extent has been looked at.
    pub(crate) fn whole(request: &Request, limits: &Limits, abilities: &Abilities) -> Option<Transfer> {
        let (write, forced) = match request.operation {
            Operation::Read => (false, false),
            Operation::Write { durable } => (true, durable && limits.write_cache == WriteCache::Volatile),
            _ => return None,
        };
        let fits = request.length > 0 && request.length <= abilities.transfer.into();
        (fits && (!forced || abilities.durable_writes)).then_some(Transfer {
            write,
            forced,
            at: request.offset,
            bytes: request.length,
            block_length: limits.block_length,
            long: abilities.long,
        })
    }

    /// READ or WRITE, of 16 bytes where the unit knows that.
    fn cdb(self) -> Cdb {
        let block = u64::from(self.block_length);
        let (lba, blocks) = (self.at / block, (self.bytes / block) as u32);
        let (code, flags) = (if self.write { 0x2a } else { 0x28 }, if self.forced { 0x08 } else { 0 });
        if !self.long {
            // Its blocks are counted with 32 bits, its transfers with 16.
            let ([a, b, c, d], [_, _, high, low]) = ((lba as u32).to_be_bytes(), blocks.to_be_bytes());
            return Cdb::new(&[code, flags, a, b, c, d, 0, high, low, 0]);
        }
        let mut cdb = [0; 16];
        (cdb[0], cdb[1]) = (code + 0x60, flags);
        cdb[2..10].copy_from_slice(&lba.to_be_bytes());
        cdb[10..14].copy_from_slice(&blocks.to_be_bytes());
        Cdb::new(&cdb)
    }

    /// The command, with its memory in the buffer.
    pub(crate) fn command(self, buffer: Buf, range: Range<usize>) -> Command {
        let command = Command { cdb: self.cdb(), ..Command::new(&[]) };
        if self.write { command.from(buffer, range) } else { command.into(buffer, range) }
    }

    /// What came of it, and the buffer. The session gives that back always; were it lost, its owner gets another
    /// one with as much room.
    pub(crate) fn finish(self, finished: Finished, room: usize) -> (Option<Buf>, Result<(), Failure>) {
        let Finished { data_in, data_out, result } = finished;
        let data = if self.write { data_out } else { data_in };
        let buffer = data.into_buf().or_else(|| Buf::new(room));
        let moved = result.map(|answer| match self.write {
            true => self.bytes.saturating_sub(answer.residual.min(0).unsigned_abs()),
            // Bytes that did not come are what the buffer held before.
            false => answer.data_in_bytes as u64,
        });
        let result = moved.and_then(|moved| match moved >= self.bytes {
            true => Ok(()),
            false => Err(Error::Short { moved, expected: self.bytes }),
        });
        (buffer, result.map_err(|error| failure(error, self.at, self.block_length)))
    }
}

/// What an error of a command for the bytes from `at` on means for the store.
fn failure(error: Error, at: u64, block_length: u32) -> Failure {
    let block = u64::from(block_length);
    let place = |lba: Option<u64>| lba.and_then(|lba| lba.checked_mul(block)).unwrap_or(at);
    let Some(scsi) = error.scsi() else {
        return match error {
            Error::Invalid(_) | Error::Rejected(_) => Failure::Disk(block::Error::new(ErrorKind::Unsupported)),
            Error::Short { moved, .. } => Failure::Disk(block::Error::new(ErrorKind::Medium).at(at + moved)),
            Error::TargetFailure(_) => Failure::Disk(block::Error::new(ErrorKind::Medium).at(at)),
            other => Failure::Path(other),
        };
    };
    if scsi.is_reservation_conflict() {
        // EBADE, which Linux has for it.
        return Failure::Disk(block::Error::from_os(52));
    }
    let kind = match scsi.condition() {
        Some(condition) if is_of_path(condition) => return Failure::Path(error),
        // NOT READY.
        Some((0x02, ..)) => ErrorKind::Gone,
        // MEDIUM ERROR, HARDWARE ERROR, MISCOMPARE.
        Some((0x03 | 0x04 | 0x0e, ..)) => {
            return Failure::Disk(block::Error::new(ErrorKind::Medium).at(place(scsi.information())));
        }
        // LOGICAL BLOCK ADDRESS OUT OF RANGE.
        Some((0x05, 0x21, 0x00)) => return Failure::Disk(block::Error::new(ErrorKind::OutOfRange).at(at)),
        Some((0x05, ..)) => ErrorKind::Unsupported,
        // SPACE ALLOCATION FAILED WRITE PROTECT; VOLUME OVERFLOW.
        Some((0x07, 0x27, 0x07) | (0x0d, ..)) => ErrorKind::NoSpace,
        // DATA PROTECT.
        Some((0x07, ..)) => ErrorKind::ReadOnly,
        // ABORTED COMMAND, and BUSY or TASK SET FULL that did not end.
        Some((0x0b, ..)) | None => ErrorKind::Busy,
        _ => ErrorKind::Medium,
    };
    Failure::Disk(block::Error::new(kind).at(at))
}

/// Conditions of a path rather than of the disk: its port is in transition, in standby, unavailable or offline, or
/// the unit is not shown by it.
fn is_of_path(condition: (u8, u8, u8)) -> bool {
    matches!(condition, (0x02, 0x04, 0x0a..=0x0c | 0x12) | (0x05, 0x25, 0x00))
}

fn is_out_of_range(error: &Error) -> bool {
    error.scsi().and_then(|scsi| scsi.condition()).is_some_and(|(_, code, _)| code == 0x21)
}

/// Ranges that follow each other as runs of bytes within the extent.
fn runs(ranges: &[blocks::BlockRange], offset: u64, length: u64, block_length: u32) -> Vec<Extent> {
    let (mut at, end) = (offset, offset + length);
    let mut runs: Vec<Extent> = Vec::new();
    for range in ranges {
        let bytes = (u64::from(range.blocks) * u64::from(block_length)).min(end - at);
        if bytes == 0 {
            break;
        }
        let state = match range.state {
            BlockState::Deallocated => ExtentState::Deallocated,
            _ => ExtentState::Mapped,
        };
        match runs.last_mut() {
            Some(last) if last.state == state => last.length += bytes,
            _ => runs.push(Extent { offset: at, length: bytes, state }),
        }
        at += bytes;
    }
    runs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_are_cut_to_what_was_asked_and_joined_where_they_are_alike() {
        let run = |offset, length, state| Extent { offset, length, state };
        let range = |lba, blocks, state| blocks::BlockRange { lba, blocks, state };
        let ranges = [
            range(10, 6, BlockState::Mapped),
            range(16, 4, BlockState::Deallocated),
            range(20, 4, BlockState::Deallocated),
            range(24, 100, BlockState::Anchored),
            range(124, 4, BlockState::Mapped),
        ];
        assert_eq!(
            runs(&ranges, 10 * 512, 20 * 512, 512),
            [
                run(10 * 512, 6 * 512, ExtentState::Mapped),
                run(16 * 512, 8 * 512, ExtentState::Deallocated),
                run(24 * 512, 6 * 512, ExtentState::Mapped),
            ]
        );
    }
    fn said(key: u8, code: u8, qualifier: u8) -> Error {
        let condition = [0x70, 0, key, 0, 0, 0, 0, 10, 0, 0, 0, 0, code, qualifier, 0, 0, 0, 0];
        Error::Scsi(crate::ScsiError { status: 2, sense: condition.to_vec() })
    }

    #[test]
    fn what_a_unit_says_keeps_its_meaning_and_a_path_is_told_from_the_disk() {
        for (error, kind) in [
            (said(0x03, 0x11, 0x00), ErrorKind::Medium),
            (said(0x04, 0x44, 0x00), ErrorKind::Medium),
            (said(0x02, 0x3a, 0x00), ErrorKind::Gone),
            (said(0x05, 0x21, 0x00), ErrorKind::OutOfRange),
            (said(0x05, 0x20, 0x00), ErrorKind::Unsupported),
            (said(0x07, 0x27, 0x00), ErrorKind::ReadOnly),
            (said(0x07, 0x27, 0x07), ErrorKind::NoSpace),
            (said(0x0b, 0x00, 0x00), ErrorKind::Busy),
            (Error::Scsi(crate::ScsiError { status: 0x08, sense: Vec::new() }), ErrorKind::Busy),
            (Error::Short { moved: 512, expected: 4096 }, ErrorKind::Medium),
        ] {
            match failure(error.clone(), 8192, 512) {
                Failure::Disk(found) => assert_eq!(found.kind, kind, "{error}"),
                Failure::Path(_) => panic!("{error} is of the path"),
            }
        }
        let conflict = Error::Scsi(crate::ScsiError { status: 0x18, sense: Vec::new() });
        assert!(matches!(failure(conflict, 0, 512), Failure::Disk(block::Error { os: Some(52), .. })));
        for error in [said(0x02, 0x04, 0x0b), said(0x02, 0x04, 0x0a), said(0x05, 0x25, 0x00), Error::Interrupted] {
            assert!(matches!(failure(error.clone(), 0, 512), Failure::Path(_)), "{error}");
        }
        // INFORMATION says which block it was.
        let mut at = said(0x03, 0x11, 0x00);
        if let Error::Scsi(scsi) = &mut at {
            (scsi.sense[0], scsi.sense[6]) = (0xf0, 20);
        }
        assert!(matches!(failure(at, 0, 512), Failure::Disk(block::Error { offset: Some(10240), .. })));
    }

    #[test]
    fn a_transfer_says_where_and_how_much_in_the_form_that_the_unit_knows() {
        let transfer =
            |long, forced| Transfer { write: true, forced, at: 1 << 20, bytes: 8192, block_length: 512, long };
        assert_eq!(transfer(true, true).cdb(), Cdb::new(&[0x8a, 8, 0, 0, 0, 0, 0, 0, 8, 0, 0, 0, 0, 16, 0, 0]));
        assert_eq!(transfer(false, false).cdb(), Cdb::new(&[0x2a, 0, 0, 0, 8, 0, 0, 0, 16, 0]));
    }
}
