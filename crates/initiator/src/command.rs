//! A command as the caller gives it, with its memory, and what it gets back.

use crate::Error;
use block::Buf;
use std::ops::Range;
use std::time::Duration;

pub use iscsi::initiator::Cdb;

/// Memory of a command. It is the session's until the command has ended, whatever becomes of the caller.
#[derive(Debug, Default)]
pub enum Data {
    /// None.
    #[default]
    None,
    /// This part of a page-aligned buffer: data comes and goes without a copy.
    Buf(Buf, Range<usize>),
    /// All of this.
    Vec(Vec<u8>),
}

impl Data {
    /// Its bytes.
    pub fn as_slice(&self) -> &[u8] {
        match self {
            Data::None => &[],
            Data::Buf(buf, range) => buf.as_slice().get(range.clone()).unwrap_or_default(),
            Data::Vec(bytes) => bytes,
        }
    }

    /// Its bytes, to be written.
    pub fn as_mut_slice(&mut self) -> &mut [u8] {
        match self {
            Data::None => &mut [],
            Data::Buf(buf, range) => buf.as_mut_slice().get_mut(range.clone()).unwrap_or_default(),
            Data::Vec(bytes) => bytes,
        }
    }

    /// How many they are.
    pub fn bytes(&self) -> usize {
        self.as_slice().len()
    }

    /// The buffer that it is made of.
    pub fn into_buf(self) -> Option<Buf> {
        match self {
            Data::Buf(buf, _) => Some(buf),
            _ => None,
        }
    }
}

/// The order in which the target may execute a command (SAM-5 8.9).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[repr(u8)]
pub enum Attribute {
    /// As it likes.
    #[default]
    Simple = 1,
    /// After all that came before, and before all that comes after.
    Ordered = 2,
    /// Before all that waits.
    HeadOfQueue = 3,
    /// During an auto contingent allegiance.
    Aca = 4,
}

/// A SCSI command for a unit.
#[derive(Debug)]
pub struct Command {
    /// The CDB.
    pub cdb: Cdb,
    /// Its place among others.
    pub attribute: Attribute,
    /// Where data from the target goes; its length is what the target is told to expect.
    pub data_in: Data,
    /// What is sent to the target.
    pub data_out: Data,
    /// How long it may take before it is aborted; `None`: as the session's options say.
    pub timeout: Option<Duration>,
    /// Its status is told as it came. Otherwise a unit attention is told as an event and the command is sent
    /// again, and so it is when the unit is busy.
    pub as_is: bool,
    /// It is sent although its unit is held: to look whether the unit is what it was ([`crate::guard::Guard`]).
    pub(crate) inspects: bool,
}

impl Command {
    /// A command without data.
    pub fn new(cdb: &[u8]) -> Command {
        Command {
            cdb: Cdb::new(cdb),
            attribute: Attribute::Simple,
            data_in: Data::None,
            data_out: Data::None,
            timeout: None,
            as_is: false,
            inspects: false,
        }
    }

    /// That brings up to so many bytes; [`Finished::bytes`] has them.
    pub fn reading(self, bytes: usize) -> Command {
        Command { data_in: Data::Vec(vec![0; bytes]), ..self }
    }

    /// That brings them into this memory.
    pub fn into(self, buf: Buf, range: Range<usize>) -> Command {
        Command { data_in: Data::Buf(buf, range), ..self }
    }

    /// That sends these bytes.
    pub fn writing(self, bytes: impl Into<Vec<u8>>) -> Command {
        Command { data_out: Data::Vec(bytes.into()), ..self }
    }

    /// That sends them from this memory.
    pub fn from(self, buf: Buf, range: Range<usize>) -> Command {
        Command { data_out: Data::Buf(buf, range), ..self }
    }

    /// With a time limit of its own.
    pub fn within(self, timeout: Duration) -> Command {
        Command { timeout: Some(timeout), ..self }
    }

    /// Whose status is told as it came ([`Command::as_is`]).
    pub fn as_is(self) -> Command {
        Command { as_is: true, ..self }
    }
}

/// What the target answered to a command that succeeded (GOOD or CONDITION MET).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Answer {
    /// SAM-5 status.
    pub status: u8,
    /// Sense data, which may come with success as well.
    pub sense: Vec<u8>,
    /// Bytes that the unit wanted to move less (negative) or more (positive) than were expected.
    pub residual: i64,
    /// The same of the read of a command that does both.
    pub read_residual: i64,
    /// Bytes of data-in that came, the first ones of its memory.
    pub data_in_bytes: usize,
    /// Bytes of data-out that the target took.
    pub data_out_bytes: usize,
}

/// A command that has ended, with its memory.
#[derive(Debug)]
pub struct Finished {
    /// The memory for data-in, filled as far as the answer says.
    pub data_in: Data,
    /// The memory of data-out, as it was.
    pub data_out: Data,
    /// What came of it.
    pub result: Result<Answer, Error>,
}

impl Finished {
    /// The bytes that came, for a command of [`Command::reading`].
    pub fn bytes(self) -> Result<Vec<u8>, Error> {
        let answer = self.result?;
        let mut bytes = match self.data_in {
            Data::Vec(bytes) => bytes,
            other => other.as_slice().to_vec(),
        };
        bytes.truncate(answer.data_in_bytes);
        Ok(bytes)
    }
}
