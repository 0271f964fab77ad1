//! A logical unit as an end of a copy.

use super::place::Extent;
use crate::client::login::Login;
use crate::client::{failure, units};
use crate::failure::{Cause, Failure};
use block::Buf;
use initiator::{Address, Error, Unit};
use scsi::blocks::{BlockRange, BlockState};
use scsi::cdb::WriteSame;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// Blocks of one WRITE SAME where the unit reports no limit.
const ZERO_BLOCKS: u64 = 1 << 15;
/// The longest transfer of one command, whatever the unit takes, in bytes.
const TRANSFER_BYTES: u64 = 16 << 20;
/// The largest block of a disk that is copied.
const BLOCK_BYTES: u64 = 64 << 10;
/// ILLEGAL REQUEST.
const ILLEGAL_REQUEST: u8 = 0x05;

/// A disk of a session.
#[derive(Clone)]
pub struct Disk(Arc<Inner>);

struct Inner {
    unit: Unit,
    address: Address,
    identity: String,
    blocks: u64,
    block_length: u64,
    /// Blocks of one read or write.
    transfer: u64,
    /// Blocks of one WRITE SAME.
    write_same: u64,
    /// WRITE SAME may unmap.
    unmaps: bool,
    /// WRITE SAME is there, as far as is known.
    zeroes: AtomicBool,
    /// GET LBA STATUS tells what reads as zeros, as far as is known.
    tells_zeros: AtomicBool,
    /// Its last answer: one has thousands of ranges.
    ranges: Mutex<Vec<BlockRange>>,
}

impl Disk {
    /// Logs in and asks for what a copy has to know.
    pub async fn open(login: &Login, address: &Address) -> Result<Disk, Failure> {
        let failed = |error: Error| failure::of(address, &error);
        let (unit, capacity) = login.disk(address).await?;
        let block_length = u64::from(capacity.block_length);
        if block_length > BLOCK_BYTES {
            return Err(Failure::input(format!("{address}: its blocks have {block_length} bytes; that is too long")));
        }
        let known = |result: Result<_, Error>| match result {
            Err(error) if error.is_transport() => Err(failed(error)),
            other => Ok(other.ok()),
        };
        let limits = known(unit.block_limits().await.map(|(limits, _)| limits))?.unwrap_or_default();
        let provisioning = match unit.provisioning().await {
            Err(error) if error.is_transport() => return Err(failed(error)),
            other => other.ok(),
        };
        let names = match unit.designators().await {
            Err(error) if error.is_transport() => return Err(failed(error)),
            other => other.unwrap_or_default(),
        };
        let lun = unit.lun();
        let identity = match units::unique_name(&names) {
            Some(name) => format!("disk {name}"),
            None => format!("disk {} {lun}", address.target.as_deref().unwrap_or_default()),
        };
        let most = match limits.maximum_transfer {
            0 => u64::from(u16::MAX),
            most => u64::from(most),
        };
        Ok(Disk(Arc::new(Inner {
            address: address.clone(),
            identity,
            blocks: capacity.blocks,
            block_length,
            transfer: most.min(TRANSFER_BYTES / block_length).max(1),
            write_same: if limits.write_same == 0 { ZERO_BLOCKS } else { limits.write_same.min(u32::MAX.into()) },
            unmaps: provisioning.is_some_and(|page| page.write_same_16),
            zeroes: AtomicBool::new(true),
            tells_zeros: AtomicBool::new(capacity.provisioning && capacity.reads_zeros),
            ranges: Mutex::default(),
            unit,
        })))
    }

    /// Its bytes.
    pub fn bytes(&self) -> u64 {
        self.0.blocks * self.0.block_length
    }

    /// Its address, without secrets.
    pub fn name(&self) -> String {
        let address = &self.0.address;
        address
            .with(address.target.as_deref(), address.lun)
            .to_string()
            .split('?')
            .next()
            .unwrap_or_default()
            .to_owned()
    }

    /// Its name that no other has, which is the same through every portal; else target and LUN.
    pub fn identity(&self) -> String {
        self.0.identity.clone()
    }

    /// Bytes of a block.
    pub fn block_length(&self) -> u64 {
        self.0.block_length
    }

    /// Writing is refused, before anything was written: where the unit says so.
    pub async fn check_writable(&self) -> Result<(), Failure> {
        let header = self.0.unit.mode_sense(0x3f, 0, scsi::mode::PageControl::Current).await;
        match header {
            Ok(header) if header.device.write_protected => {
                Err(Failure::because(Cause::Unavailable, format!("{}: is write-protected", self.name())))
            }
            Err(error) if error.is_transport() => Err(failure::of(self.name(), &error)),
            _ => Ok(()),
        }
    }

    /// Logs out.
    pub async fn leave(&self) {
        crate::client::login::leave(self.0.unit.session()).await;
    }

    /// See [`super::place::Place::extent`].
    pub async fn extent(&self, offset: u64) -> Result<Extent, Failure> {
        let all = Extent { end: self.bytes(), is_zero: false };
        let inner = &self.0;
        if !inner.tells_zeros.load(Ordering::Relaxed) {
            return Ok(all);
        }
        let lba = offset / inner.block_length;
        if let Some(known) = self.known(lba) {
            return Ok(known);
        }
        match inner.unit.block_states(lba).await {
            Ok(ranges) => *inner.ranges.lock().unwrap_or_else(PoisonError::into_inner) = ranges,
            Err(error) if error.is_transport() => return Err(self.failed("asking what is stored", offset, &error)),
            // A unit that does not tell is read.
            Err(_) => {
                inner.tells_zeros.store(false, Ordering::Relaxed);
                return Ok(all);
            }
        };
        Ok(self.known(lba).unwrap_or(all))
    }

    /// What the last answer says of the blocks from here on, where it says something.
    fn known(&self, lba: u64) -> Option<Extent> {
        let ranges = self.0.ranges.lock().unwrap_or_else(PoisonError::into_inner);
        let is_zero = |range: &BlockRange| matches!(range.state, BlockState::Deallocated | BlockState::Anchored);
        let end = |range: &BlockRange| range.lba.saturating_add(range.blocks.into());
        // They are ascending and follow each other.
        let first = ranges.partition_point(|range| end(range) <= lba);
        let rest = ranges.get(first..)?;
        let zero = is_zero(rest.first().filter(|range| range.lba <= lba)?);
        let last = rest.iter().take_while(|range| is_zero(range) == zero).last()?;
        Some(Extent { end: end(last).min(self.0.blocks) * self.0.block_length, is_zero: zero })
    }

    /// See [`super::place::Place::read`].
    pub async fn read(&self, offset: u64, mut buffer: Buf, length: usize) -> Result<Buf, Failure> {
        let block = self.0.block_length;
        let mut at = 0;
        while at < length as u64 {
            let bytes = (length as u64 - at).min(self.0.transfer * block);
            let (lba, blocks) = ((offset + at) / block, (bytes / block) as u32);
            let part = at as usize..(at + bytes) as usize;
            let (back, result) = self.0.unit.read_into(lba, blocks, buffer, part).await;
            result.map_err(|error| self.failed("reading", offset + at, &error))?;
            buffer = back.ok_or_else(|| Failure::runtime("the memory of a read is lost"))?;
            at += bytes;
        }
        Ok(buffer)
    }

    /// See [`super::place::Place::write`].
    pub async fn write(&self, offset: u64, mut buffer: Buf, part: Range<usize>) -> Result<Buf, Failure> {
        let block = self.0.block_length;
        let whole = (part.len() as u64).next_multiple_of(block);
        let end = part.start + whole as usize;
        let tail = buffer.as_mut_slice().get_mut(part.end..end);
        tail.ok_or_else(|| Failure::runtime("the memory of a write is too short"))?.fill(0);
        let mut at = 0;
        while at < whole {
            let bytes = (whole - at).min(self.0.transfer * block);
            let (lba, blocks) = ((offset + at) / block, (bytes / block) as u32);
            let start = part.start + at as usize;
            let piece = start..start + bytes as usize;
            let (back, result) = self.0.unit.write_from(lba, blocks, buffer, piece, false).await;
            result.map_err(|error| self.failed("writing", offset + at, &error))?;
            buffer = back.ok_or_else(|| Failure::runtime("the memory of a write is lost"))?;
            at += bytes;
        }
        Ok(buffer)
    }

    /// See [`super::place::Place::zero`].
    pub async fn zero(&self, offset: u64, length: u64) -> Result<(), Failure> {
        let inner = &self.0;
        let block = inner.block_length;
        let whole = length.next_multiple_of(block);
        let mut at = 0;
        while at < whole {
            if inner.zeroes.load(Ordering::Relaxed) {
                let blocks = ((whole - at) / block).min(inner.write_same);
                let how = WriteSame { unmap: inner.unmaps, ..WriteSame::default() };
                let lba = (offset + at) / block;
                match inner.unit.write_same(lba, blocks as u32, vec![0; block as usize], how).await {
                    Ok(()) => {
                        at += blocks * block;
                        continue;
                    }
                    // It does not have the command: zeros go over the network.
                    Err(Error::Scsi(scsi)) if scsi.condition().is_some_and(|(key, ..)| key == ILLEGAL_REQUEST) => {
                        inner.zeroes.store(false, Ordering::Relaxed);
                    }
                    Err(error) => return Err(self.failed("zeroing", offset + at, &error)),
                }
            }
            let bytes = (whole - at).min(1 << 20);
            let buffer = Buf::new(bytes as usize).ok_or_else(|| Failure::runtime("there is no memory for zeros"))?;
            self.write(offset + at, buffer, 0..bytes as usize).await?;
            at += bytes;
        }
        Ok(())
    }

    /// See [`super::place::Place::flush`].
    pub async fn flush(&self) -> Result<(), Failure> {
        match self.0.unit.flush().await {
            // A unit without the command has no cache.
            Err(Error::Scsi(scsi)) if scsi.condition().is_some_and(|(key, ..)| key == ILLEGAL_REQUEST) => Ok(()),
            Err(error) => Err(failure::of(format!("{}: flushing", self.name()), &error)),
            Ok(()) => Ok(()),
        }
    }

    fn failed(&self, what: &str, offset: u64, error: &Error) -> Failure {
        failure::of(format!("{}: {what} at byte {offset}", self.name()), error)
    }
}
