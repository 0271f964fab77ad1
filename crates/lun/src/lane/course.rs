//! From the beginning of a command to its end, as it is counted: when it came, for what it waited, how it ended.

use super::task::{Task, is_own};
use super::{Lane, Nexus};
use crate::statistics::cells::{End, LunCells};
use crate::statistics::{CommandKind, SessionCells, Times, error};
use crate::{Completed, Event, NexusId, TaskTag, Ticks};
use scsi::Sense;
use std::sync::Arc;

/// No unit, or none of this nexus.
pub(super) const NOWHERE: usize = usize::MAX;

/// What is known of a command until its end. Times are those of [`Ticks`].
#[derive(Clone, Copy)]
pub(super) struct Course {
    pub kind: CommandKind,
    /// When it came.
    pub began: u64,
    /// Since when its data is awaited; 0 where it is not.
    pub asked: u64,
    /// How long that took.
    pub network: u64,
    /// When a store had its first request; 0 where none had.
    pub stored: u64,
}

impl Course {
    pub fn new(opcode: u8, began: u64) -> Course {
        Course { kind: CommandKind::of(opcode), began, asked: 0, network: 0, stored: 0 }
    }

    /// Its data has come.
    pub fn data_has_come(&mut self, now: u64) {
        if self.asked != 0 {
            self.network = now.saturating_sub(self.asked);
            self.asked = 0;
        }
    }

    /// A store has a request of it.
    pub fn is_stored(&mut self, now: u64) {
        if self.stored == 0 {
            self.stored = now;
        }
    }

    pub fn times(mut self, now: u64) -> Times {
        self.data_has_come(now);
        let store = if self.stored == 0 { 0 } else { now.saturating_sub(self.stored) };
        Times { total: now.saturating_sub(self.began), network: self.network, store }
    }
}

/// Whose command ended, where, and what is known of it.
#[derive(Clone, Copy)]
pub(super) struct Standing {
    pub nexus: NexusId,
    /// Among the nexus's views; [`NOWHERE`] where there is none.
    pub view: usize,
    /// Among the lane's channels; [`NOWHERE`] where there is none.
    pub channel: usize,
    pub course: Course,
    /// Bytes that it gave back to the store.
    pub unmapped: u64,
}

impl Task {
    pub fn standing(&self) -> Standing {
        let Task { nexus, view, channel, course, .. } = *self;
        Standing { nexus, view, channel, course, unmapped: 0 }
    }
}

/// What a nexus counts.
#[derive(Default)]
pub(super) struct NexusCells {
    pub session: Arc<SessionCells>,
    /// By LUN, each from its first command on.
    luns: Vec<(u16, Arc<LunCells>)>,
}

impl NexusCells {
    /// Where the cells of a unit of this nexus are. The place of its view is where they are looked for first.
    fn place(&mut self, view: usize, number: u16) -> usize {
        if self.luns.get(view).is_some_and(|(other, _)| *other == number) {
            return view;
        }
        self.luns.iter().position(|(other, _)| *other == number).unwrap_or_else(|| {
            self.luns.push((number, self.session.lun(number)));
            self.luns.len() - 1
        })
    }
}

impl Nexus {
    /// One task more or less.
    pub(super) fn count_tasks(&self) {
        self.cells.session.tasks(self.tasks);
    }

    /// Counts the end of a command with a status, which came by this view.
    fn count(&mut self, view: usize, end: &End) {
        let number = self.description.units.entries.get(view).map(|entry| entry.number);
        let place = number.map(|number| self.cells.place(view, number));
        let lun = place.and_then(|place| self.cells.luns.get(place)).map(|(_, cells)| &**cells);
        self.cells.session.end(lun, end);
    }
}

impl Lane {
    /// Gives the lane a clock for how long things take. Without one no time passes.
    pub fn set_ticks(&mut self, ticks: Ticks) {
        self.ticks = ticks;
        self.now = (self.ticks)();
    }

    /// It is this late: when the transport has read what it is about to say. Time never goes back.
    pub fn at(&mut self, now: u64) {
        self.now = self.now.max(now);
    }

    /// Asks the clock.
    pub(super) fn look_at_the_clock(&mut self) {
        self.now = self.now.max((self.ticks)());
    }

    /// What is counted of a nexus; the handle stays good after its end.
    pub fn counters(&self, id: NexusId) -> Option<Arc<SessionCells>> {
        self.nexuses.get(&id).map(|nexus| Arc::clone(&nexus.cells.session))
    }

    /// The end of a command with a status: it is counted, and told with how long it took.
    pub(super) fn finish(&mut self, tag: TaskTag, standing: &Standing, mut completed: Completed) {
        completed.times = standing.course.times(self.now);
        let sense_key = completed.sense.as_ref().and_then(Sense::condition_code).map(|(key, ..)| key);
        let kind = standing.course.kind;
        let end = End {
            kind,
            took: completed.times.total,
            bytes: if kind == CommandKind::Unmap { standing.unmapped } else { completed.transfer_length },
            error: error(completed.status, sense_key),
        };
        if let Some(channel) = self.channels.get(standing.channel) {
            channel.tally.cells.end(&end);
        }
        let id = standing.nexus;
        let mut closing = false;
        if let Some(nexus) = self.nexuses.get_mut(&id) {
            nexus.tasks -= 1;
            nexus.count_tasks();
            nexus.count(standing.view, &end);
            closing = nexus.closing;
        }
        self.events.push_back(Event::Completed { nexus: id, tag, completed });
        if closing {
            self.close_if_idle(id);
        }
    }

    /// Counts the end of a command without a status. Tells how long it took.
    pub(super) fn count_aborted(&self, tag: TaskTag, standing: &Standing) -> Times {
        if is_own(tag) {
            return Times::default();
        }
        if let Some(channel) = self.channels.get(standing.channel) {
            channel.tally.cells.aborted();
        }
        if let Some(nexus) = self.nexuses.get(&standing.nexus) {
            nexus.cells.session.aborted();
        }
        standing.course.times(self.now)
    }
}
