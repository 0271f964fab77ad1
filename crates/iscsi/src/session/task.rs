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
    /// In a session of several connections it is delivered after everything before it and before
    /// everything behind it (§4.2.2.3.4).
    pub fenced: bool,
    /// They were to move from the initiator to the unit.
    pub outward: bool,
}

/// One outstanding R2T.
#[derive(Debug, Clone, Copy)]
pub(super) struct Grant {
    pub target_transfer_tag: u32,
    pub r2t_sn: u32,
    pub offset: u32,
    pub length: u32,
    pub received: u32,
    pub next_data_sn: u32,
    /// Something of it was lost: what comes behind is read past, and then asked for again.
    pub broken: bool,
    /// All of it is here, and something in front of it is not.
    pub done: bool,
}

/// Unsolicited Data-Out that the initiator owes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Unsolicited {
    pub limit: u32,
    pub next_data_sn: u32,
    /// As of [`Grant::broken`].
    pub broken: bool,
}

/// From where the Data-In PDUs of a task are counted, and how long they are.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Base {
    pub data_sn: u32,
    pub offset: u32,
    /// Bytes of a data segment; 0 until the first is sent.
    pub segment: u32,
}

/// A status that was sent and is not acknowledged.
#[derive(Debug)]
pub(super) struct KeptStatus {
    pub response: Response,
    pub stat_sn: u32,
    /// It was in the last Data-In PDU.
    pub in_data: bool,
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
    pub(super) base: Base,
    /// The first DataSN that the initiator has not acknowledged.
    pub(super) acknowledged_data_sn: u32,
    /// R2Ts of which data has come.
    pub(super) answered_r2t_sn: u32,
    /// Some of its data was asked for a second time: what comes for the first time is ignored.
    pub(super) superseded: bool,
    /// It was sent behind a function that came after it and ends tasks of its unit.
    pub(super) overtook: bool,
    /// The application knows that its data is here, or that it is not what was agreed.
    pub(super) data_told: bool,
    /// How often data was asked for again.
    pub(super) recoveries: u8,
    /// Its status was sent and may be asked for again.
    pub(super) kept: Option<Box<KeptStatus>>,
    /// It is over as soon as the batch that names it has left.
    pub(super) let_go: bool,
    /// For the response (§11.4.4).
    pub(super) snack_tag: u32,
    /// The StatSN that its status has already.
    pub(super) stat_sn: Option<u32>,
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

    /// Bytes of data-out that have arrived without a gap.
    pub fn received(&self) -> u32 {
        self.received
    }

    /// The same with what has come of bursts that are not whole yet.
    pub fn arrived(&self) -> u32 {
        let of_bursts = self.grants.iter().map(|grant| grant.received);
        of_bursts.fold(self.received, u32::saturating_add)
    }

    /// The byte at which the Data-In PDU of this number begins; `burst` is MaxBurstLength.
    pub(super) fn offset_of(&self, data_sn: u32, burst: u32) -> u32 {
        let Base { data_sn: first, offset, segment } = self.base;
        let number = u64::from(data_sn.wrapping_sub(first));
        if segment == 0 || burst == 0 {
            return offset;
        }
        let each = u64::from(burst.div_ceil(segment));
        let bytes = number / each * u64::from(burst) + number % each * u64::from(segment);
        u32::try_from(u64::from(offset) + bytes).unwrap_or(u32::MAX)
    }

    /// Whether something of the sequence with this target transfer tag was lost.
    pub(super) fn is_broken(&self, tag: u32) -> bool {
        match tag {
            crate::wire::RESERVED_TAG => self.unsolicited.is_some_and(|unsolicited| unsolicited.broken),
            tag => self.grants.iter().any(|grant| grant.target_transfer_tag == tag && grant.broken),
        }
    }

    /// Data that was asked for does not come in this way any more: what came without a gap is kept.
    pub(super) fn abandon_data(&mut self) {
        self.unsolicited = None;
        if let Some(first) = self.grants.first()
            && first.offset == self.received
        {
            self.received = self.received.saturating_add(first.received);
        }
        self.grants.clear();
        self.granted = self.received;
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

    /// The task of a slot.
    pub fn in_slot(&self, slot: usize) -> Option<TaskId> {
        let (generation, task) = self.slots.get(slot)?;
        task.as_ref().map(|_| TaskId { slot: slot as u32, generation: *generation })
    }

    /// The tag may be used for another task, though this one is not over.
    pub fn free_tag(&mut self, id: TaskId) {
        if let Some(tag) = self.get(id).map(|task| task.initiator_task_tag)
            && self.by_tag(tag) == Some(id)
        {
            self.by_tag.remove(&tag);
        }
    }

    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut Task> {
        self.slots.iter_mut().filter_map(|(_, task)| task.as_mut())
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
        // One look-up: that the tag names another by now is rare.
        let tag = task.initiator_task_tag;
        if let Some(other) = self.by_tag.remove(&tag)
            && other != id
        {
            self.by_tag.insert(tag, other);
        }
        let mut grants = std::mem::take(&mut task.grants);
        grants.clear();
        self.spare_grants.push(grants);
        Some(task)
    }
}
