//! The tasks of a session and the table that holds them.

use super::connection::ConnectionId;
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

/// A task's name within its session: a slot and how often the slot was used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TaskId {
    slot: u32,
    generation: u32,
}

impl TaskId {
    /// The slot: small, and free for another task after this one has ended.
    pub fn slot(self) -> usize {
        self.slot as usize
    }

    /// Slot and generation in one number.
    pub fn number(self) -> u64 {
        u64::from(self.generation) << 32 | u64::from(self.slot)
    }

    /// The inverse of [`TaskId::number`].
    pub fn from_number(number: u64) -> TaskId {
        TaskId { slot: number as u32, generation: (number >> 32) as u32 }
    }
}

/// Why a task's data is not what was agreed (RFC 7143 §11.4.7.2; sense key 0Bh, aborted command).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DataOutFault {
    /// Unsolicited data where none was agreed: 0Ch/0Ch.
    UnexpectedUnsolicitedData,
    /// Another amount than agreed: 0Ch/0Dh.
    IncorrectAmountOfData,
    /// Out of order, or with a wrong number: 47h/05h stands for data that cannot be trusted.
    ProtocolServiceCrcError,
}

/// How a command ends.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Response {
    /// SAM-5 status.
    pub status: u8,
    /// Sense data without its length field.
    pub sense: Option<Box<[u8]>>,
    /// Bytes of data-in, from the start of the task's memory; at most the expected length.
    pub data_in: u32,
    /// The bytes that the command wanted to move, from which the residual is counted (§11.4.5).
    pub transfer_length: u64,
    /// They were to move from the initiator to the unit.
    pub outward: bool,
}

/// One outstanding R2T.
#[derive(Debug, Clone, Copy)]
pub(super) struct Grant {
    pub target_transfer_tag: u32,
    pub offset: u32,
    pub length: u32,
    pub received: u32,
    pub next_data_sn: u32,
}

/// Unsolicited Data-Out that the initiator owes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Unsolicited {
    pub limit: u32,
    pub next_data_sn: u32,
}

/// How far a task is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// Its command has not been delivered yet: immediate data or an earlier command is missing.
    Arriving,
    /// The application has it.
    Active,
    /// The application was asked to give it up.
    Ending,
    /// The application is done with it; what remains is data that the initiator owes, or its answer.
    Ended,
}

/// A SCSI command at work.
#[derive(Debug)]
pub struct Task {
    pub(super) connection: ConnectionId,
    pub(super) phase: Phase,
    pub(super) immediate: bool,
    pub(super) holds_credit: bool,
    pub(super) cmd_sn: u32,
    pub(super) initiator_task_tag: u32,
    pub(super) flags: u8,
    pub(super) received: u32,
    pub(super) unsolicited: Option<Unsolicited>,
    pub(super) wanted: Option<u32>,
    pub(super) granted: u32,
    pub(super) grants: Vec<Grant>,
    pub(super) r2t_sn: u32,
    pub(super) r2t_queued: bool,
    pub(super) fault: Option<DataOutFault>,
    pub(super) response: Option<Response>,
    pub(super) answer_queued: bool,
    /// Its bytes are in a batch that has not left: the slot and its memory stay.
    pub(super) in_batch: bool,
    pub(super) sent: u32,
    pub(super) data_sn: u32,
    /// The functions that wait for its end.
    pub(super) managed_by: Vec<u32>,
    /// The unit, as it stood on the wire.
    pub lun: [u8; 8],
    /// The CDB's first 16 bytes.
    pub cdb: [u8; 16],
    /// The whole CDB where it is longer than 16 bytes.
    pub extended_cdb: Option<Box<[u8]>>,
    /// Bytes that the initiator expects to move.
    pub expected_data_transfer_length: u32,
    /// Bytes that it expects to read where it both reads and writes.
    pub bidirectional_read_length: u32,
    /// Command priority, at protocol level 2.
    pub priority: u8,
}

impl Task {
    /// Whether the initiator expects data.
    pub fn reads(&self) -> bool {
        self.flags & 0x40 != 0
    }

    /// Whether the initiator has data.
    pub fn writes(&self) -> bool {
        self.flags & 0x20 != 0
    }

    /// ATTR (RFC 7143 §11.3.1.1).
    pub fn attribute(&self) -> u8 {
        self.flags & 7
    }

    /// Bytes that the initiator expects to receive.
    pub fn expected_in(&self) -> u32 {
        match (self.reads(), self.writes()) {
            (true, true) => self.bidirectional_read_length,
            (true, false) => self.expected_data_transfer_length,
            _ => 0,
        }
    }

    /// Bytes that the initiator expects to send.
    pub fn expected_out(&self) -> u32 {
        if self.writes() { self.expected_data_transfer_length } else { 0 }
    }

    /// Bytes of data-out that have arrived.
    pub fn received(&self) -> u32 {
        self.received
    }

    /// Whether it has ended or is about to.
    pub(super) fn is_ending(&self) -> bool {
        matches!(self.phase, Phase::Ending | Phase::Ended)
    }

    /// Whether the initiator owes no data.
    pub(super) fn data_done(&self) -> bool {
        self.unsolicited.is_none() && self.grants.is_empty()
    }
}

/// The multiplier spreads tags; a session that picks tags that collide slows only itself down, and
/// its tags in flight are bounded by its window.
#[derive(Default)]
pub(super) struct TagHasher(u64);

impl Hasher for TagHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u32(u32::from(*byte));
        }
    }

    fn write_u32(&mut self, tag: u32) {
        let mixed = (self.0 ^ u64::from(tag)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.0 = mixed ^ mixed >> 29;
    }
}

/// The table of tasks: slots that are used again, found by name or by initiator task tag.
#[derive(Default)]
pub(super) struct Tasks {
    slots: Vec<(u32, Option<Task>)>,
    free: Vec<u32>,
    by_tag: HashMap<u32, TaskId, BuildHasherDefault<TagHasher>>,
    spare_grants: Vec<Vec<Grant>>,
    immediate: u32,
}

impl Tasks {
    pub fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// Immediate commands among them.
    pub fn immediate(&self) -> u32 {
        self.immediate
    }

    pub fn get(&self, id: TaskId) -> Option<&Task> {
        let (generation, task) = self.slots.get(id.slot())?;
        if *generation == id.generation { task.as_ref() } else { None }
    }

    pub fn get_mut(&mut self, id: TaskId) -> Option<&mut Task> {
        let (generation, task) = self.slots.get_mut(id.slot())?;
        if *generation == id.generation { task.as_mut() } else { None }
    }

    pub fn by_tag(&self, initiator_task_tag: u32) -> Option<TaskId> {
        self.by_tag.get(&initiator_task_tag).copied()
    }

    pub fn ids(&self) -> impl Iterator<Item = TaskId> {
        self.slots
            .iter()
            .enumerate()
            .filter(|(_, (_, task))| task.is_some())
            .map(|(slot, (generation, _))| TaskId { slot: slot as u32, generation: *generation })
    }

    /// The tag must not be in use.
    pub fn insert(&mut self, mut task: Task) -> TaskId {
        task.grants = self.spare_grants.pop().unwrap_or_default();
        let tag = task.initiator_task_tag;
        self.immediate += u32::from(task.immediate);
        let id = match self.free.pop() {
            Some(slot) => {
                let entry = &mut self.slots[slot as usize];
                entry.1 = Some(task);
                TaskId { slot, generation: entry.0 }
            }
            None => {
                self.slots.push((1, Some(task)));
                TaskId { slot: (self.slots.len() - 1) as u32, generation: 1 }
            }
        };
        self.by_tag.insert(tag, id);
        id
    }

    pub fn remove(&mut self, id: TaskId) -> Option<Task> {
        let (generation, slot) = self.slots.get_mut(id.slot())?;
        if *generation != id.generation {
            return None;
        }
        let mut task = slot.take()?;
        *generation = generation.wrapping_add(1);
        self.free.push(id.slot);
        self.immediate -= u32::from(task.immediate);
        self.by_tag.remove(&task.initiator_task_tag);
        let mut grants = std::mem::take(&mut task.grants);
        grants.clear();
        self.spare_grants.push(grants);
        Some(task)
    }
}
