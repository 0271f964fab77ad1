//! SAM-5's transport services as types: what a transport tells the device server and what it is
//! told. A transport (iSCSI in this house) never learns what a CDB means; the device server never
//! learns what carried it.

use crate::statistics::Times;
use block::Buf;
use scsi::{Sense, Status};

/// An I_T nexus within one [`crate::Lane`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NexusId(pub u32);

/// A task, named by the transport; unique among the tasks of a lane until its end was told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TaskTag(pub u64);

/// SAM-5 8.6, task attributes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TaskAttribute {
    /// No attribute was given; treated as Simple.
    Untagged,
    /// May run beside and around others.
    Simple,
    /// Runs after all older and before all newer tasks.
    Ordered,
    /// Runs before what has not started.
    HeadOfQueue,
    /// Auto contingent allegiance; refused, as NORMACA is 0.
    Aca,
}

/// *SCSI Command Received* (SAM-5 5.4.2.3).
#[derive(Debug, Clone)]
pub struct Command {
    /// The nexus it came by.
    pub nexus: NexusId,
    /// The transport's name for it.
    pub tag: TaskTag,
    /// The LUN as it stood on the wire (SAM-5 4.7).
    pub lun: [u8; 8],
    /// The CDB: 16 bytes, longer ones with their additional bytes.
    pub cdb: Cdb,
    /// The task attribute.
    pub attribute: TaskAttribute,
    /// Command priority, 0 where the transport carries none.
    pub priority: u8,
    /// Bytes that the initiator expects to receive.
    pub expected_in: u32,
    /// Bytes that the initiator expects to send.
    pub expected_out: u32,
}

/// A CDB: up to 16 bytes without allocation, up to 260 with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cdb {
    /// The usual size; shorter CDBs are padded with zeros as on the wire.
    Short([u8; 16]),
    /// A variable-length CDB, all of it.
    Long(Box<[u8]>),
}

impl Cdb {
    /// Its bytes.
    pub fn bytes(&self) -> &[u8] {
        match self {
            Cdb::Short(bytes) => bytes,
            Cdb::Long(bytes) => bytes,
        }
    }
}

/// *Send Command Complete*: the end of a task.
#[derive(Debug)]
pub struct Completed {
    /// SAM-5 5.3.1.
    pub status: Status,
    /// With CHECK CONDITION always; encoded as D_SENSE asked for.
    pub sense: Option<Sense>,
    /// The memory of the data-in, to be given back to the nexus's account ([`crate::Lane::account`]) by
    /// the transport.
    pub data_in: Option<Buf>,
    /// How many bytes of `data_in`, from its start, are to be sent; at most `expected_in`.
    pub data_in_length: u32,
    /// The bytes that the command wanted to move (RFC 7143 11.4.5, SPDTL), for the residual count.
    pub transfer_length: u64,
    /// They were to move from the initiator to the unit.
    pub outward: bool,
    /// How long it took.
    pub times: Times,
}

/// SAM-5 clause 7, task management functions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TaskManagementFunction {
    /// End one task of this nexus.
    AbortTask {
        /// The task's name.
        tag: TaskTag,
    },
    /// End this nexus's tasks at the unit.
    AbortTaskSet,
    /// End all tasks at the unit.
    ClearTaskSet,
    /// Refused, as NORMACA is 0.
    ClearAca,
    /// Reset the unit.
    LogicalUnitReset,
    /// Reset every unit that this nexus can reach.
    TargetReset,
    /// Whether a task is in the task set.
    QueryTask {
        /// The task's name.
        tag: TaskTag,
    },
    /// Whether any task of this nexus is in the task set.
    QueryTaskSet,
    /// Whether a unit attention is pending, without clearing it.
    QueryAsynchronousEvent,
}

/// SAM-5 7.1: what came of a task management function.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TaskManagementResponse {
    /// Done; every affected task has ended and nothing of it will touch the medium any more.
    FunctionComplete,
    /// A query's yes, with the additional response information where there is one.
    FunctionSucceeded([u8; 3]),
    /// Not supported.
    FunctionRejected,
    /// No unit has this number for this nexus.
    IncorrectLogicalUnitNumber,
}

/// What the lane tells the transport.
#[derive(Debug)]
pub enum Event {
    /// *Receive Data-Out*: gather the first `length` bytes of the task's data (never more than
    /// `expected_out`), then call [`crate::Lane::data_out`].
    ReceiveDataOut {
        /// The nexus.
        nexus: NexusId,
        /// The task.
        tag: TaskTag,
        /// Bytes wanted.
        length: u32,
    },
    /// The task ended with this status.
    Completed {
        /// The nexus.
        nexus: NexusId,
        /// The task.
        tag: TaskTag,
        /// Status, sense and data.
        completed: Completed,
    },
    /// The task ended and no status is to be sent.
    Aborted {
        /// The nexus.
        nexus: NexusId,
        /// The task.
        tag: TaskTag,
        /// How long it took until then.
        times: Times,
    },
    /// After [`crate::Lane::close_nexus`]: the last of its tasks has ended, nothing of them can touch
    /// the medium any more. A session that takes the place of this one may begin (RFC 7143 6.3.5).
    NexusClosed {
        /// The nexus.
        nexus: NexusId,
    },
    /// A task management function has ended.
    TaskManagementDone {
        /// The nexus.
        nexus: NexusId,
        /// The name that [`crate::Lane::task_management`] was given.
        id: u64,
        /// What came of it.
        response: TaskManagementResponse,
    },
}

/// The CDB of a test or an initiator, from its bytes.
impl From<&[u8]> for Cdb {
    fn from(bytes: &[u8]) -> Cdb {
        if bytes.len() > 16 {
            return Cdb::Long(bytes.into());
        }
        let mut short = [0; 16];
        short[..bytes.len()].copy_from_slice(bytes);
        Cdb::Short(short)
    }
}
