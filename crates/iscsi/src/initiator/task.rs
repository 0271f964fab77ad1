//! The commands of a session and the table that holds them.

use super::connection::ConnectionId;
use crate::serial::precedes;
use crate::session::TaskId;
use crate::wire::RejectReason;
use std::time::Instant;

/// Most tasks of a session: a slot is 16 bits of the initiator task tag.
pub(super) const TASKS: u32 = 1 << 16;

/// Bytes of a CDB at most (SPC-5 4.2.3: 260), and of what an additional header segment can carry.
const CDB_BYTES: usize = 260;

/// A CDB. What every command has is kept without memory of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cdb {
    first: [u8; 16],
    length: u8,
    /// What stands behind the first 16 bytes.
    rest: Vec<u8>,
}

impl Cdb {
    /// A CDB of these bytes.
    pub fn new(bytes: &[u8]) -> Cdb {
        let length = bytes.len().min(16);
        let mut first = [0; 16];
        first[..length].copy_from_slice(&bytes[..length]);
        Cdb { first, length: length as u8, rest: bytes[length..].to_vec() }
    }

    /// Its first 16 bytes, filled up with zeros.
    pub fn first(&self) -> &[u8; 16] {
        &self.first
    }

    /// What stands behind them.
    pub fn rest(&self) -> &[u8] {
        &self.rest
    }

    /// Its first byte, which says what is asked.
    pub fn opcode(&self) -> u8 {
        self.first[0]
    }

    /// Its length in bytes.
    pub fn bytes(&self) -> usize {
        usize::from(self.length) + self.rest.len()
    }
}

impl From<&[u8]> for Cdb {
    fn from(bytes: &[u8]) -> Cdb {
        Cdb::new(bytes)
    }
}

/// A SCSI command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Command {
    /// The unit, as it stands on the wire.
    pub lun: [u8; 8],
    /// The CDB; one of fewer than 16 bytes is filled up with zeros.
    pub cdb: Cdb,
    /// ATTR (RFC 7143 §11.3.1.1): 0 untagged, 1 simple, 2 ordered, 3 head of queue, 4 ACA.
    pub attribute: u8,
    /// Bytes that are expected from the target.
    pub data_in: u32,
    /// Bytes that there are for the target.
    pub data_out: u32,
    /// Outside the command window.
    pub immediate: bool,
}

impl Command {
    /// A command without data, in simple order.
    pub fn new(lun: [u8; 8], cdb: &[u8]) -> Command {
        Command { lun, cdb: Cdb::new(cdb), attribute: 1, data_in: 0, data_out: 0, immediate: false }
    }

    pub(super) fn is_expressible(&self) -> bool {
        (1..=CDB_BYTES).contains(&self.cdb.bytes()) && self.attribute <= 4
    }
}

/// How a command ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The target has answered it.
    Answered {
        /// Response (RFC 7143 §11.4.3): 0, completed at the target.
        response: u8,
        /// SAM-5 status.
        status: u8,
        /// Sense data, without its length.
        sense: Vec<u8>,
        /// Bytes that the unit wanted to move less (negative) or more (positive) than were expected.
        residual: i64,
        /// The same of the read of a command that does both.
        read_residual: i64,
        /// Bytes of data-in that came: the first ones of the command's memory.
        data_in: u32,
        /// Bytes of data-out that the target took along with the command or asked for.
        data_out: u32,
    },
    /// The target refused it and has not begun with it (§11.17).
    Rejected(RejectReason),
    /// A task management function has ended it; whether it was executed is not known.
    Aborted,
    /// The session, or the target's memory of it, is gone; whether it was executed is not known.
    Lost,
}

/// Data that the target asked for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Grant {
    pub target_transfer_tag: u32,
    pub offset: u32,
    pub left: u32,
    pub data_sn: u32,
}

/// The answer, while data is still missing.
#[derive(Debug, Clone)]
pub(super) struct Answer {
    pub stat_sn: u32,
    /// Data-In PDUs that belong to it.
    pub data_pdus: u32,
    pub response: u8,
    pub status: u8,
    pub sense: Vec<u8>,
    pub residual: i64,
    pub read_residual: i64,
}

/// Data-In that came before one of a lower number.
#[derive(Debug, Clone, Copy)]
pub(super) struct Early {
    pub data_sn: u32,
    pub offset: u32,
    pub length: u32,
}

/// Where the bytes lie that have come. In order, as they nearly always are, they need no memory.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Coverage {
    /// Bytes from the beginning without a gap.
    prefix: u32,
    /// Spans behind them that do not touch, in their order.
    beyond: Vec<(u32, u32)>,
}

impl Coverage {
    /// Adds bytes; `false` where some of them were there already.
    pub fn add(&mut self, offset: u32, length: u32) -> bool {
        let end = offset.saturating_add(length);
        if length == 0 {
            return true;
        }
        if offset < self.prefix {
            return false;
        }
        let at = self.beyond.partition_point(|(_, before)| *before < offset);
        let (before, after) = self.beyond.split_at(at);
        let overlaps = after.iter().take(2).any(|(start, stop)| *start < end && offset < *stop);
        if overlaps || before.last().is_some_and(|(_, stop)| *stop > offset) {
            return false;
        }
        if offset == self.prefix {
            self.prefix = end;
            while let Some((_, stop)) = self.beyond.first().copied().filter(|(start, _)| *start == self.prefix) {
                self.prefix = stop;
                self.beyond.remove(0);
            }
            return true;
        }
        let joins_before = self.beyond.get(at).is_some_and(|(_, stop)| *stop == offset);
        let next = if joins_before { at + 1 } else { at };
        let joins_after = self.beyond.get(next).is_some_and(|(start, _)| *start == end);
        match (joins_before, joins_after) {
            (true, true) => {
                self.beyond[at].1 = self.beyond[next].1;
                self.beyond.remove(next);
            }
            (true, false) => self.beyond[at].1 = end,
            (false, true) => self.beyond[next].0 = offset,
            (false, false) => self.beyond.insert(at, (offset, end)),
        }
        true
    }

    /// Bytes from the beginning without a gap.
    pub fn prefix(&self) -> u32 {
        self.prefix
    }
}

/// Where a task is at home.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Allegiance {
    /// On this connection.
    With(ConnectionId),
    /// Its connection is lost; the number is that one's CID.
    Lost(u16),
    /// It is being reassigned to this connection.
    Moving(ConnectionId),
}

#[derive(Debug)]
pub(super) struct Task {
    pub command: Command,
    pub allegiance: Allegiance,
    pub cmd_sn: u32,
    pub tag: u32,
    /// The whole command with its unsolicited data has been put on the wire.
    pub sent: bool,
    pub since: Instant,
    /// How often it was sent again.
    pub retries: u32,
    /// The target has shown that it has the command.
    pub known: bool,
    /// Unsolicited data: the next byte, and the end.
    pub unsolicited: (u32, u32),
    pub unsolicited_data_sn: u32,
    pub grants: std::collections::VecDeque<Grant>,
    pub r2t_sn: u32,
    /// The next R2T says where the numbers go on: the target has taken the task up anew.
    pub r2t_anew: bool,
    /// An abort was sent: no more data goes out.
    pub aborting: bool,
    /// Next DataSN in order, and those that came early.
    pub data_sn: u32,
    pub early: Vec<Early>,
    /// The first DataSN that is known to exist and may not have come: numbers below it are missing.
    pub data_end: u32,
    /// DataSN below which the target may have forgotten the data.
    pub data_acknowledged: u32,
    /// A DataACK that waits for holes to be filled: below which number, with its transfer tag and unit.
    pub wants_ack: Option<(u32, u32, [u8; 8])>,
    /// Where the data lies that came in order.
    pub received: Coverage,
    /// Bytes of data-out that were sent unasked or asked for.
    pub fetched: u32,
    pub missing_since: Option<Instant>,
    pub asked: u32,
    /// The target cannot send the missing data again.
    pub unrecoverable: bool,
    pub answer: Option<Answer>,
    pub in_batch: u32,
    pub outcome: Option<Outcome>,
}

impl Task {
    pub fn is_with(&self, c: ConnectionId) -> bool {
        self.allegiance == Allegiance::With(c)
    }

    pub fn reads(&self) -> bool {
        self.command.data_in > 0
    }

    pub fn writes(&self) -> bool {
        self.command.data_out > 0
    }

    /// Whether this Data-In has come.
    pub fn has_data(&self, data_sn: u32) -> bool {
        precedes(data_sn, self.data_sn) || self.early.iter().any(|early| early.data_sn == data_sn)
    }

    /// Whether Data-In is missing that is known to have been sent.
    pub fn has_hole(&self) -> bool {
        self.data_sn != self.data_end
    }
}

#[derive(Debug, Default)]
struct Slot {
    /// How often it was used: the upper half of the tag, 15 bits, so that it is never FFFFFFFFh.
    generation: u16,
    task: Option<Box<Task>>,
}

/// The table of tasks. A tag is a slot and how often the slot was used: unique among the living, and
/// not soon used again (PDU-14).
#[derive(Debug, Default)]
pub(super) struct Tasks {
    slots: Vec<Slot>,
    free: Vec<u16>,
}

impl Tasks {
    pub fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// There is room: `len` is below [`TASKS`].
    pub fn insert(&mut self, command: Command, c: ConnectionId, cmd_sn: u32, now: Instant) -> TaskId {
        let slot = match self.free.pop() {
            Some(slot) => slot,
            None => {
                self.slots.push(Slot::default());
                (self.slots.len() - 1) as u16
            }
        };
        let entry = &mut self.slots[usize::from(slot)];
        entry.generation = (entry.generation + 1) & 0x7fff;
        let tag = u32::from(entry.generation) << 16 | u32::from(slot);
        entry.task = Some(Box::new(Task {
            command,
            allegiance: Allegiance::With(c),
            cmd_sn,
            tag,
            sent: false,
            since: now,
            retries: 0,
            known: false,
            unsolicited: (0, 0),
            unsolicited_data_sn: 0,
            grants: std::collections::VecDeque::new(),
            r2t_sn: 0,
            r2t_anew: false,
            aborting: false,
            data_sn: 0,
            early: Vec::new(),
            data_end: 0,
            data_acknowledged: 0,
            wants_ack: None,
            received: Coverage::default(),
            fetched: 0,
            missing_since: None,
            asked: 0,
            unrecoverable: false,
            answer: None,
            in_batch: 0,
            outcome: None,
        }));
        name(tag)
    }

    pub fn by_tag(&self, tag: u32) -> Option<TaskId> {
        let slot = self.slots.get((tag & 0xffff) as usize)?;
        (tag >> 16 == u32::from(slot.generation) && slot.task.is_some()).then(|| name(tag))
    }

    pub fn get(&self, id: TaskId) -> Option<&Task> {
        let slot = self.slots.get(id.slot())?;
        (id.number() >> 32 == u64::from(slot.generation)).then_some(slot.task.as_deref()).flatten()
    }

    pub fn get_mut(&mut self, id: TaskId) -> Option<&mut Task> {
        let slot = self.slots.get_mut(id.slot())?;
        (id.number() >> 32 == u64::from(slot.generation)).then_some(slot.task.as_deref_mut()).flatten()
    }

    pub fn remove(&mut self, id: TaskId) {
        if self.get(id).is_some() {
            self.slots[id.slot()].task = None;
            self.free.push(id.slot() as u16);
        }
    }

    /// All of them, in the order of their numbers.
    pub fn ids(&self) -> Vec<TaskId> {
        let mut tasks: Vec<&Task> = self.slots.iter().filter_map(|slot| slot.task.as_deref()).collect();
        tasks.sort_by(|a, b| (a.cmd_sn.wrapping_sub(b.cmd_sn) as i32).cmp(&0));
        tasks.into_iter().map(|task| name(task.tag)).collect()
    }

    pub fn iter(&self) -> impl Iterator<Item = &Task> {
        self.slots.iter().filter_map(|slot| slot.task.as_deref())
    }
}

/// The task of a tag.
pub(super) fn name(tag: u32) -> TaskId {
    TaskId::from_number(u64::from(tag >> 16) << 32 | u64::from(tag & 0xffff))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dat_07_what_came_is_counted_from_the_beginning_to_the_first_gap() {
        let mut coverage = Coverage::default();
        assert!(coverage.add(8, 8) && coverage.add(24, 8));
        assert_eq!(coverage.prefix(), 0);
        for (offset, length) in [(8, 8), (0, 9), (15, 1), (10, 2), (15, 20), (31, 1), (0, 64)] {
            assert!(!coverage.add(offset, length), "{offset}+{length}");
        }
        assert!(coverage.add(0, 8));
        assert_eq!(coverage.prefix(), 16);
        assert!(coverage.add(16, 8) && coverage.add(16, 0));
        assert_eq!((coverage.prefix(), coverage.beyond.len()), (32, 0));
    }
    use crate::wire::RESERVED_TAG;
    use std::collections::HashSet;

    #[test]
    fn bytes_are_covered_once_in_whatever_order_they_come() {
        let mut coverage = Coverage::default();
        for (offset, length, added, prefix) in [
            (4, 2, true, 0),
            (8, 2, true, 0),
            (5, 2, false, 0),
            (0, 5, false, 0),
            (6, 2, true, 0),
            (0, 4, true, 10),
            (9, 1, false, 10),
            (10, 6, true, 16),
            (20, 1, true, 16),
            (16, 8, false, 16),
            (16, 4, true, 21),
            (21, 0, true, 21),
        ] {
            assert_eq!((coverage.add(offset, length), coverage.prefix()), (added, prefix), "{offset}+{length}");
        }
        assert_eq!(coverage, Coverage { prefix: 21, beyond: Vec::new() });
    }

    #[test]
    fn pdu_14_tags_are_unique_among_the_living_and_never_the_reserved_one() {
        let (mut tasks, now) = (Tasks::default(), Instant::now());
        let mut living = HashSet::new();
        let mut order = Vec::new();
        for number in 0..1u32 << 17 {
            let id = tasks.insert(Command::new([0; 8], &[0; 6]), ConnectionId(0), number, now);
            let tag = tasks.get(id).map(|task| task.tag).unwrap();
            assert_ne!(tag, RESERVED_TAG);
            assert_eq!(tasks.by_tag(tag), Some(id));
            assert!(living.insert(tag), "tag {tag:x} names two tasks");
            order.push((id, tag));
            if order.len() > 3 {
                let (old, tag) = order.remove(number as usize % 3);
                tasks.remove(old);
                living.remove(&tag);
                assert_eq!((tasks.by_tag(tag), tasks.len()), (None, 3));
            }
        }
    }
}
