//! A logical unit of a session: reading, writing, and what is asked of any unit.

mod inquiry;
mod provisioning;
mod reservation;

pub use provisioning::Compared;
pub use reservation::{Generation, Registration};

use crate::command::{Command, Data, Finished};
use crate::{Error, Lun, ScsiError, Session};
use block::Buf;
pub use scsi::blocks::Capacity;
use std::ops::Range;

/// What a unit without FUA says to it.
const INVALID_FIELD_IN_CDB: (u8, u8, u8) = (0x05, 0x24, 0x00);

/// A logical unit. Cheap to clone; it keeps its session open.
#[derive(Clone, Debug)]
pub struct Unit {
    session: Session,
    lun: Lun,
}

impl Unit {
    pub(crate) fn new(session: Session, lun: Lun) -> Unit {
        Unit { session, lun }
    }

    /// Its session.
    pub fn session(&self) -> &Session {
        &self.session
    }

    /// Its number.
    pub fn lun(&self) -> Lun {
        self.lun
    }

    /// Sends a command and waits for its end. Its memory comes back whatever the result.
    pub async fn execute(&self, command: Command) -> Finished {
        self.session.execute(self.lun, command).await
    }

    /// READ CAPACITY (16), or (10) where the unit has only that.
    pub async fn capacity(&self) -> Result<Capacity, Error> {
        let nonsense = |bytes: &[u8]| self.nonsense(format!("a capacity that cannot be ({} bytes)", bytes.len()));
        match self.execute(Command::new(&scsi::cdb::read_capacity_16(32)).reading(32)).await.bytes() {
            Ok(bytes) => scsi::blocks::parse_capacity_16(&bytes).ok_or_else(|| nonsense(&bytes)),
            // INVALID COMMAND OPERATION CODE.
            Err(Error::Scsi(error)) if error.condition() == Some((0x05, 0x20, 0x00)) => {
                let bytes = self.execute(Command::new(&scsi::cdb::READ_CAPACITY_10).reading(8)).await.bytes()?;
                let capacity = scsi::blocks::parse_capacity_10(&bytes).ok_or_else(|| nonsense(&bytes))?;
                capacity.ok_or(Error::Scsi(error))
            }
            Err(error) => Err(error),
        }
    }

    /// Bytes of a block; asked once for a session.
    pub async fn block_length(&self) -> Result<u32, Error> {
        match self.session.shared().block_length(self.lun) {
            Some(length) => Ok(length),
            None => self.learn_block_length().await,
        }
    }

    /// Reads `blocks` logical blocks from `lba` on into this part of the buffer, whose length says how many bytes
    /// they are. The buffer comes back whatever the result.
    pub async fn read_into(
        &self,
        lba: u64,
        blocks: u32,
        buf: Buf,
        range: Range<usize>,
    ) -> (Option<Buf>, Result<(), Error>) {
        let length = range.len();
        let finished = self.execute(Command::new(&read(lba, blocks)).into(buf, range)).await;
        let result = finished.result.and_then(|answer| whole(answer.data_in_bytes, length));
        (finished.data_in.into_buf(), result)
    }

    /// Writes this part of the buffer, which is `blocks` logical blocks, from `lba` on. With `fua` it is on stable
    /// storage when it has ended. The buffer comes back whatever the result.
    pub async fn write_from(
        &self,
        lba: u64,
        blocks: u32,
        buf: Buf,
        range: Range<usize>,
        fua: bool,
    ) -> (Option<Buf>, Result<(), Error>) {
        let finished = self.execute(Command::new(&write(lba, blocks, fua)).from(buf, range)).await;
        let result = written(&finished);
        (finished.data_out.into_buf(), result)
    }

    /// Reads `blocks` logical blocks from `lba` on.
    pub async fn read(&self, lba: u64, blocks: u32) -> Result<Vec<u8>, Error> {
        let block_length = self.block_length().await?;
        let length = blocks as usize * block_length as usize;
        let finished = self.execute(Command::new(&read(lba, blocks)).reading(length)).await;
        let bytes = finished.bytes()?;
        whole(bytes.len(), length).map(|()| bytes)
    }

    /// Writes these bytes, whole logical blocks, from `lba` on.
    pub async fn write(&self, lba: u64, bytes: impl Into<Vec<u8>>) -> Result<(), Error> {
        self.write_bytes(lba, bytes.into(), false).await
    }

    /// The same; they are on stable storage when it has ended: by FUA, or by a flush where the unit does not have that.
    pub async fn write_durably(&self, lba: u64, bytes: impl Into<Vec<u8>>) -> Result<(), Error> {
        self.write_bytes(lba, bytes.into(), true).await
    }

    async fn write_bytes(&self, lba: u64, bytes: Vec<u8>, fua: bool) -> Result<(), Error> {
        let block_length = self.block_length().await?;
        if !bytes.len().is_multiple_of(block_length as usize) {
            let length = bytes.len();
            return Err(Error::Invalid(format!("{length} bytes to be written: blocks have {block_length}")));
        }
        let blocks = u32::try_from(bytes.len() / block_length as usize)
            .map_err(|_| Error::Invalid("more blocks than one command can write".to_owned()))?;
        let finished = self.execute(Command::new(&write(lba, blocks, fua)).writing(bytes)).await;
        let result = written(&finished);
        let unknown = |error: &Error| error.scsi().and_then(ScsiError::condition) == Some(INVALID_FIELD_IN_CDB);
        match (result, finished.data_out) {
            (Err(error), Data::Vec(bytes)) if fua && unknown(&error) => {
                written(&self.execute(Command::new(&write(lba, blocks, false)).writing(bytes)).await)?;
                self.flush().await
            }
            (result, _) => result,
        }
    }

    async fn learn_block_length(&self) -> Result<u32, Error> {
        let length = self.capacity().await?.block_length;
        self.session.shared().set_block_length(self.lun, length);
        Ok(length)
    }

    /// SYNCHRONIZE CACHE (16) over everything: what was written before is on stable storage when it has ended.
    pub async fn flush(&self) -> Result<(), Error> {
        let mut cdb = [0; 16];
        cdb[0] = 0x91;
        self.execute(Command::new(&cdb)).await.result.map(|_| ())
    }

    /// TEST UNIT READY.
    pub async fn test_ready(&self) -> Result<(), Error> {
        self.execute(Command::new(&[0; 6])).await.result.map(|_| ())
    }
}

/// READ (16).
fn read(lba: u64, blocks: u32) -> [u8; 16] {
    transfer(0x88, lba, blocks, false)
}

/// WRITE (16).
fn write(lba: u64, blocks: u32, fua: bool) -> [u8; 16] {
    transfer(0x8a, lba, blocks, fua)
}

fn transfer(opcode: u8, lba: u64, blocks: u32, fua: bool) -> [u8; 16] {
    let mut cdb = [0; 16];
    (cdb[0], cdb[1]) = (opcode, if fua { 0x08 } else { 0 });
    cdb[2..10].copy_from_slice(&lba.to_be_bytes());
    cdb[10..14].copy_from_slice(&blocks.to_be_bytes());
    cdb
}

fn whole(moved: usize, expected: usize) -> Result<(), Error> {
    match moved == expected {
        true => Ok(()),
        false => Err(Error::Short { moved: moved as u64, expected: expected as u64 }),
    }
}

/// A write is whole where the target took all of it, and does not say that it wanted less.
fn written(finished: &Finished) -> Result<(), Error> {
    let answer = finished.result.as_ref().map_err(Error::clone)?;
    let expected = finished.data_out.bytes() as u64;
    let taken = answer.data_out_bytes as u64;
    match answer.residual {
        0 if taken == expected => Ok(()),
        residual => Err(Error::Short { moved: expected.saturating_add_signed(residual.min(0)).min(taken), expected }),
    }
}

impl Finished {
    /// The memory of a command, as a page-aligned buffer, where it was one.
    pub fn into_buf(self) -> Option<Buf> {
        match self.data_in {
            Data::None => self.data_out.into_buf(),
            data => data.into_buf(),
        }
    }
}
