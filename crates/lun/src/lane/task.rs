//! A lane's record of one task, and of those who wait for tasks to end.

use super::course::Course;
use crate::mail::{Extent, Place, Ticket};
use crate::operation::{Exchange, Long, Want, Wanted};
use crate::reservation::Nexus;
use crate::unit::OFFLINE;
use crate::{Command, LogicalUnit, NexusId, TaskTag};
use block::Buf;
use scsi::{Condition, SenseKey};
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::rc::Rc;
use std::sync::Arc;

/// What a task is doing.
pub(super) enum Kind {
    /// It waits until older ones have ended (SAM-5 8.6.3).
    Dormant(Box<Command>),
    /// It reads, or waits for memory to read into, or for a fence.
    Read,
    /// It reads after what was written is on stable storage; it flushes now.
    FlushBeforeRead,
    /// Its data-out is to come: so many bytes.
    AwaitingData { durable: bool, length: u32 },
    /// It writes; what waits for a fence is here.
    Write { durable: bool, parked: Option<(Buf, usize)> },
    /// It flushes.
    Flush,
    /// An operation of several steps.
    Long(Box<LongTask>),
    /// One step of a copy, at the unit that it touches.
    Part(Box<PartTask>),
}

/// The first step of a task.
#[derive(Clone, Copy)]
pub(super) enum First {
    /// It reads.
    Read,
    /// It flushes.
    Flush,
    /// Its data-out is asked for, so many bytes of it.
    AskForData(u32),
    /// It is an operation.
    Drive,
}

impl First {
    pub fn of(kind: &Kind) -> First {
        match kind {
            Kind::FlushBeforeRead | Kind::Flush => First::Flush,
            Kind::AwaitingData { length, .. } => First::AskForData(*length),
            Kind::Long(_) => First::Drive,
            _ => First::Read,
        }
    }
}

/// One step of a copy that another task of the same nexus makes; a task of its own, so that fences, resets
/// and reservations of its unit mean it.
pub(super) struct PartTask {
    /// The task that waits for it.
    pub parent: TaskTag,
    /// What it wants of its store, until the store has it.
    pub wanted: Option<Wanted>,
    /// What it reads besides.
    pub reads: Option<(usize, Extent)>,
    /// It changes the medium.
    pub writes: bool,
    /// It has waited for a limit and passed.
    pub passed: bool,
}

/// A command that is an async function.
pub(super) struct LongTask {
    pub future: Long,
    pub exchange: Rc<Exchange>,
    /// Its first request, which waits for a fence.
    pub parked: Option<Wanted>,
    /// What it asked for and could not have yet.
    pub waiting: Option<Want>,
    /// What its command does with the medium.
    pub uses: Uses,
}

/// What a command does with the medium.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Uses {
    /// Nothing.
    Nothing,
    /// It reads, or asks whether it is there.
    Medium,
    /// It changes it.
    Writes,
}

/// How a task ends that was given up.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum GivenUp {
    /// Without a status.
    Silently,
    /// With TASK ABORTED.
    WithStatus,
    /// With CHECK CONDITION: the unit, or the nexus's use of it, has changed.
    Refused(Refusal),
}

/// What has changed about a unit, or a nexus's use of it, that ends a task. A byte, as every task has room for it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Refusal {
    /// The nexus sees it no more.
    NotSupported,
    /// It is offline.
    Offline,
    /// It may not be written.
    WriteProtected,
}

impl Refusal {
    pub fn condition(self) -> Condition {
        match self {
            // LOGICAL UNIT NOT SUPPORTED.
            Refusal::NotSupported => Condition::new(SenseKey::IllegalRequest, 0x25, 0x00),
            Refusal::Offline => OFFLINE,
            // WRITE PROTECTED.
            Refusal::WriteProtected => Condition::new(SenseKey::DataProtect, 0x27, 0x00),
        }
    }
}

/// One task.
pub(super) struct Task {
    pub nexus: NexusId,
    /// Which of the nexus's views of units it came by.
    pub view: usize,
    pub channel: usize,
    pub kind: Kind,
    /// The bytes of the unit that it touches, for the kinds of one request.
    pub extent: Extent,
    pub expected_in: u32,
    /// ORDERED: nothing younger runs before it has ended.
    pub ordered: bool,
    pub given_up: Option<GivenUp>,
    /// A store has its request.
    pub in_store: bool,
    /// A store had a request of it; fences wait for its end.
    pub started: bool,
    pub course: Course,
}

impl Task {
    /// The bytes of the unit that it touches.
    pub fn extent(&self) -> Extent {
        match &self.kind {
            Kind::Long(long) => long.exchange.extent.get().unwrap_or(Extent::WHOLE),
            _ => self.extent,
        }
    }

    /// What it does with the medium, where its turn has come.
    pub fn uses(&self) -> Uses {
        match &self.kind {
            Kind::Dormant(_) => Uses::Nothing,
            Kind::Read | Kind::FlushBeforeRead | Kind::Flush => Uses::Medium,
            Kind::AwaitingData { .. } | Kind::Write { .. } => Uses::Writes,
            Kind::Long(long) => long.uses,
            Kind::Part(part) if part.writes => Uses::Writes,
            Kind::Part(_) => Uses::Medium,
        }
    }

    /// Whether it is a task of this channel's unit, or reads there.
    pub fn is_at(&self, channel: usize) -> bool {
        let reads = |part: &PartTask| part.reads.is_some_and(|(at, _)| at == channel);
        self.channel == channel || matches!(&self.kind, Kind::Part(part) if reads(part))
    }

    /// Whether it touches this extent of this channel's unit.
    pub fn touches(&self, channel: usize, extent: Extent) -> bool {
        let reads = match &self.kind {
            Kind::Part(part) => part.reads,
            _ => None,
        };
        self.channel == channel && self.extent().overlaps(extent)
            || reads.is_some_and(|(at, read)| at == channel && read.overlaps(extent))
    }
}

/// Somebody waits for the end of these tasks.
pub(super) struct Wait {
    pub tags: Vec<TaskTag>,
    /// Dropped when the last has ended.
    #[expect(dead_code, reason = "its drop tells")]
    pub ticket: Ticket,
}

/// What is to be done when all tickets of a number are back.
pub(super) enum Purpose {
    /// Answer a task management function.
    Function { nexus: NexusId, id: u64 },
    /// Go on with a task.
    Resume(TaskTag),
    /// Go on with a task that another thread worked for.
    Saved(TaskTag),
    /// A nexus has left the unit, and its last task there has ended.
    Left { unit: Arc<LogicalUnit>, identity: Arc<Nexus>, place: Place },
    /// It is the turn of this task's fence.
    Turn { tag: TaskTag, number: u64, extent: Extent },
}

/// The tag of a task that no transport knows: they count from the other end.
pub(super) fn own_tag(number: u64) -> TaskTag {
    TaskTag(u64::MAX - number)
}

/// Whether nobody but the lane knows of this task.
pub(super) fn is_own(tag: TaskTag) -> bool {
    tag.0 > u64::MAX / 2
}

/// Tasks by their tags.
pub(super) type Tasks = HashMap<TaskTag, Task, BuildHasherDefault<TagHasher>>;

/// Nexuses by their names.
pub(super) type Nexuses<T> = HashMap<NexusId, T, BuildHasherDefault<TagHasher>>;

/// Spreads tags and names of nexuses, which we and our own transport make: no stranger chooses them, so that one
/// multiplication is enough.
#[derive(Default)]
pub(super) struct TagHasher(u64);

impl Hasher for TagHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(u64::from(*byte));
        }
    }

    fn write_u32(&mut self, value: u32) {
        self.write_u64(u64::from(value));
    }

    fn write_u64(&mut self, value: u64) {
        self.0 = (self.0 ^ value).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(26);
    }
}
