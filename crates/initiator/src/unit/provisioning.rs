//! Commands on blocks besides reading and writing: giving space back, zeros, comparing, asking what is there.

use super::Unit;
use crate::{Command, Error};
use scsi::blocks::{self, BlockRange};
use scsi::cdb::{self, WriteSame};

/// Bytes of one answer of GET LBA STATUS: 2,047 ranges.
const STATUS_BYTES: u32 = 32 << 10;
/// MISCOMPARE.
const MISCOMPARE: u8 = 0x0e;

/// What COMPARE AND WRITE found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compared {
    /// It was equal, and was written over.
    Equal,
    /// It was not, and is as it was.
    Different {
        /// The first byte that differs, where the unit tells it.
        offset: Option<u64>,
    },
}

impl Unit {
    /// Gives back the space of these ranges of first block and count (UNMAP). The unit may leave blocks as they
    /// are: whoever wants zeros asks for [`Unit::write_zeroes`]. The most ranges and blocks of one command are in
    /// [`Unit::block_limits`].
    pub async fn unmap(&self, ranges: &[(u64, u32)]) -> Result<(), Error> {
        if ranges.len() > 4095 {
            return Err(Error::Invalid(format!("{} ranges to unmap; one command takes 4095", ranges.len())));
        }
        let list = blocks::encode_unmap(ranges);
        let length = u16::try_from(list.len()).unwrap_or(u16::MAX);
        self.execute(Command::new(&cdb::unmap(false, length)).writing(list)).await.result.map(drop)
    }

    /// Makes blocks read as zeros (WRITE SAME (16) of one block of zeros). With `may_unmap` the unit may give
    /// their space back. The most blocks of one command are in [`Unit::block_limits`]. 0 blocks are none.
    pub async fn write_zeroes(&self, lba: u64, blocks: u32, may_unmap: bool) -> Result<(), Error> {
        if blocks == 0 {
            return Ok(());
        }
        let block = vec![0; self.block_length().await? as usize];
        self.write_same(lba, blocks, block, WriteSame { unmap: may_unmap, ..WriteSame::default() }).await
    }

    /// Writes this block over and over (WRITE SAME (16)). `blocks` 0 means all to the end, where the unit takes
    /// that. With [`WriteSame::no_data`] the block is empty.
    pub async fn write_same(&self, lba: u64, blocks: u32, block: Vec<u8>, how: WriteSame) -> Result<(), Error> {
        let command = Command::new(&cdb::write_same_16(lba, blocks, how));
        let command = if how.no_data { command } else { command.writing(block) };
        self.execute(command).await.result.map(drop)
    }

    /// Writes `new` from `lba` on where `old` is there now, in one step that nobody comes between (COMPARE AND
    /// WRITE). Both are as many whole blocks, at most as [`Unit::block_limits`] says.
    pub async fn compare_and_write(&self, lba: u64, old: &[u8], new: &[u8]) -> Result<Compared, Error> {
        let block_length = self.block_length().await? as usize;
        let blocks = u8::try_from(new.len() / block_length).ok().filter(|blocks| *blocks > 0);
        let (Some(blocks), true) = (blocks, old.len() == new.len() && new.len().is_multiple_of(block_length)) else {
            let (old, new) = (old.len(), new.len());
            let line =
                format!("compare and write of {old} and {new} bytes: both are 1 to 255 blocks of {block_length}");
            return Err(Error::Invalid(line));
        };
        let command = Command::new(&cdb::compare_and_write(lba, blocks, false)).writing([old, new].concat());
        match self.execute(command).await.result {
            Ok(_) => Ok(Compared::Equal),
            Err(Error::Scsi(error)) if error.condition().is_some_and(|(key, _, _)| key == MISCOMPARE) => {
                Ok(Compared::Different { offset: error.information() })
            }
            Err(error) => Err(error),
        }
    }

    /// What the blocks from `lba` on are, as far as one answer goes (GET LBA STATUS): ranges that follow each
    /// other, the first of them at `lba`.
    pub async fn block_states(&self, lba: u64) -> Result<Vec<BlockRange>, Error> {
        let command = Command::new(&cdb::get_lba_status(lba, STATUS_BYTES)).reading(STATUS_BYTES as usize);
        let bytes = self.execute(command).await.bytes()?;
        blocks::parse_lba_status(lba, &bytes)
            .ok_or_else(|| self.nonsense(format!("an LBA status that says nothing of block {lba}")))
    }
}
