//! What changes while sessions are there: which units a nexus sees, what a unit lets through, units that go.
//!
//! All of it comes by letter or by the transport's call between two commands, so that a command pays nothing for it
//! but the flags that it looks at anyway. What a store already has is never taken back: it ends as it ends, and
//! whoever changes something waits for it.

use super::task::{GivenUp, Kind, LongTask, Purpose, Refusal, Uses, Wait};
use super::{Lane, NOBODY, View};
use crate::clock::Clock;
use crate::commons::flag;
use crate::copy::Random;
use crate::mail::{Extent, Flushed, Sweep, Ticket};
use crate::operation::{Ending, Work};
use crate::reservation;
use crate::{Cdb, LogicalUnit, LunEntry, LunMap, NexusId, TargetPort, TaskTag};
use scsi::{Condition, SenseKey};
use std::rc::Rc;
use std::sync::{Arc, PoisonError};

/// REPORTED LUNS DATA HAS CHANGED.
pub(super) const INVENTORY_CHANGED: Condition = Condition::new(SenseKey::UnitAttention, 0x3f, 0x0e);
/// INQUIRY DATA HAS CHANGED.
const INQUIRY_CHANGED: Condition = Condition::new(SenseKey::UnitAttention, 0x3f, 0x03);
/// MODE PARAMETERS CHANGED.
const MODE_CHANGED: Condition = Condition::new(SenseKey::UnitAttention, 0x2a, 0x01);
/// ASYMMETRIC ACCESS STATE CHANGED.
const ACCESS_CHANGED: Condition = Condition::new(SenseKey::UnitAttention, 0x2a, 0x06);

/// Whether an entry of one map is that of another: the same unit under the same number.
fn same(one: &LunEntry, other: &LunEntry) -> bool {
    one.number == other.number && Arc::ptr_eq(&one.unit, &other.unit)
}

fn has(map: &LunMap, unit: &Arc<LogicalUnit>) -> usize {
    map.entries.iter().filter(|entry| Arc::ptr_eq(&entry.unit, unit)).count()
}

impl Lane {
    /// A nexus that is there sees other units from now on, or by another port of the same number.
    ///
    /// What stays under its number goes on undisturbed. Tasks at a number that has gone end with LOGICAL UNIT NOT
    /// SUPPORTED, but for those that a store has, which end as they end; later commands there hear the same. A unit
    /// that comes owes what it owes a new nexus. All units that stay owe REPORTED LUNS DATA HAS CHANGED where the
    /// inventory is another, MODE PARAMETERS CHANGED where the nexus may write no more, or again, and ASYMMETRIC ACCESS
    /// STATE CHANGED where the groups of the port say something else.
    pub fn change_nexus(&mut self, id: NexusId, units: Arc<LunMap>, target_port: Arc<TargetPort>) {
        if self.mailbox.is_waiting() {
            self.read_mail();
        }
        let Some(nexus) = self.nexuses.get(&id).filter(|nexus| !nexus.closing) else { return };
        let old = Arc::clone(&nexus.description.units);
        let identity = Arc::clone(&nexus.identity);
        let ports_changed = !nexus.description.target_port.groups().says_as(target_port.groups());
        // Where each view is found afterwards.
        let places: Vec<Option<usize>> =
            old.entries.iter().map(|entry| units.entries.iter().position(|new| same(entry, new))).collect();
        let changed = places.iter().any(Option::is_none) || old.entries.len() != units.entries.len();
        self.end_tasks_of_gone(id, &old, &units, &places);
        self.protect(id, &old, &units, &places);

        let Some(nexus) = self.nexuses.get_mut(&id) else { return };
        let mut kept: Vec<Option<View>> = std::mem::take(&mut nexus.views).into_iter().map(Some).collect();
        let mut views = Vec::with_capacity(units.entries.len());
        for (at, entry) in units.entries.iter().enumerate() {
            let from = places.iter().position(|place| *place == Some(at));
            let view = match from.and_then(|from| kept.get_mut(from)).and_then(Option::take) {
                Some(mut view) => {
                    if changed {
                        view.owe(INVENTORY_CHANGED);
                    }
                    if ports_changed {
                        view.owe(ACCESS_CHANGED);
                    }
                    if from.and_then(|from| old.entries.get(from)).is_some_and(|old| old.read_only != entry.read_only) {
                        view.owe(MODE_CHANGED);
                    }
                    view
                }
                None => {
                    let mut view = self.view(&entry.unit, &identity);
                    if old.entries.iter().any(|old| old.number == entry.number) {
                        // The initiator knows another unit by this number.
                        view.owe(INQUIRY_CHANGED);
                        view.owe(INVENTORY_CHANGED);
                    }
                    view
                }
            };
            views.push(view);
        }
        // Tasks whose view has gone have no place in an order any more.
        let moved = |view: usize| places.get(view).copied().flatten();
        self.tasks.values_mut().filter(|task| task.nexus == id).for_each(|task| {
            task.view = moved(task.view).unwrap_or(usize::MAX);
        });
        self.stirred.retain_mut(|(nexus, view)| *nexus != id || moved(*view).map(|at| *view = at).is_some());
        if let Some(nexus) = self.nexuses.get_mut(&id) {
            nexus.views = views;
            nexus.inventory_changed |= changed;
            (nexus.description.units, nexus.description.target_port) = (Arc::clone(&units), target_port);
        }
        self.forget_gone(id, &identity, &old, &units);
    }

    /// The LUNs that a nexus sees.
    pub fn luns(&self, id: NexusId) -> Vec<u16> {
        let entries = self.nexuses.get(&id).map(|nexus| &nexus.description.units.entries);
        entries.into_iter().flatten().map(|entry| entry.number).collect()
    }

    /// Ends the tasks of a nexus at numbers and units that it sees no more.
    fn end_tasks_of_gone(&mut self, id: NexusId, old: &LunMap, new: &LunMap, places: &[Option<usize>]) {
        let gone: Vec<usize> = old
            .entries
            .iter()
            .filter(|entry| has(new, &entry.unit) == 0)
            .filter_map(|entry| {
                // A copy that has just no task there ends with its next step.
                let nexus = self.nexuses.get(&id).map(|nexus| (*nexus.identity).clone());
                entry.unit.commons.disturb(nexus.map(|nexus| Arc::from([nexus])));
                self.channel(&entry.unit)
            })
            .collect();
        let meant = |task: &super::Task| {
            task.nexus == id
                && (places.get(task.view).is_some_and(Option::is_none) || gone.iter().any(|at| task.is_at(*at)))
        };
        let tags: Vec<TaskTag> = self.tasks.iter().filter(|(_, task)| meant(task)).map(|(tag, _)| *tag).collect();
        tags.into_iter().for_each(|tag| self.turn_away(tag, Refusal::NotSupported));
    }

    /// Ends what a nexus writes where it may not any more.
    fn protect(&mut self, id: NexusId, old: &LunMap, new: &LunMap, places: &[Option<usize>]) {
        for (at, (entry, place)) in old.entries.iter().zip(places).enumerate() {
            let now = place.and_then(|place| new.entries.get(place));
            if entry.read_only || !now.is_some_and(|now| now.read_only) {
                continue;
            }
            let Some(channel) = self.channel(&entry.unit) else { continue };
            if let Some(nexus) = self.nexuses.get(&id) {
                entry.unit.commons.disturb(Some(Arc::from([(*nexus.identity).clone()])));
            }
            let here = |task: &super::Task| task.view == at || task.view == usize::MAX && task.channel == channel;
            let meant = |task: &super::Task| task.nexus == id && here(task) && task.uses() == Uses::Writes;
            let tags: Vec<TaskTag> = self.tasks.iter().filter(|(_, task)| meant(task)).map(|(tag, _)| *tag).collect();
            tags.into_iter().for_each(|tag| self.turn_away(tag, Refusal::WriteProtected));
        }
    }

    /// The units that the nexus sees no more lose it, each when the last task there has ended.
    fn forget_gone(&mut self, id: NexusId, identity: &Arc<reservation::Nexus>, old: &LunMap, new: &LunMap) {
        let place = self.place(id);
        let mut seen: Vec<&Arc<LogicalUnit>> = Vec::new();
        for entry in &old.entries {
            let unit = &entry.unit;
            if seen.iter().any(|other| Arc::ptr_eq(other, unit)) {
                continue;
            }
            seen.push(unit);
            let still = has(new, unit);
            let numbers = old.entries.iter().filter(|entry| lost(entry, unit, new)).count();
            // What it loses besides its last number, or although it has another.
            for _ in usize::from(still == 0)..numbers {
                unit.commons.nexus_thinned(identity);
            }
            if still > 0 {
                continue;
            }
            let channel = self.channel(unit);
            let at = |task: &super::Task| task.nexus == id && channel.is_some_and(|channel| task.is_at(channel));
            let tags: Vec<TaskTag> = self.tasks.iter().filter(|(_, task)| at(task)).map(|(tag, _)| *tag).collect();
            let left = Purpose::Left { unit: Arc::clone(unit), identity: Arc::clone(identity), place };
            let ticket = self.ticket(left);
            if !tags.is_empty() {
                self.waits.push(Wait { tags, ticket });
            }
        }
    }

    /// The nexus has left the unit, and its last task has ended.
    pub(super) fn left(&mut self, unit: &Arc<LogicalUnit>, identity: &reservation::Nexus, place: crate::mail::Place) {
        unit.commons.nexus_closed(identity, place);
        self.leave(unit);
    }

    /// A nexus uses the unit no more. Where the target has it no more either, its channel is closed.
    pub(super) fn leave(&mut self, unit: &Arc<LogicalUnit>) {
        let listed = || self.retiring.iter().any(|(other, _)| Arc::ptr_eq(other, unit));
        if unit.commons.flags() & flag::RETIRED != 0 && !listed() {
            self.retiring.push((Arc::clone(unit), None));
        }
    }

    /// A unit's use changes: what it does not let through any more ends. The ticket falls when nothing of it is
    /// under way.
    pub(super) fn sweep(&mut self, unit: &Arc<LogicalUnit>, sweep: Sweep, ticket: Ticket) {
        let Some(channel) = self.channel(unit) else { return };
        let concerned = |task: &super::Task| {
            let uses = match sweep {
                Sweep::Medium => task.is_at(channel) && task.uses() != Uses::Nothing,
                Sweep::Writes | Sweep::Durable => task.channel == channel && task.uses() == Uses::Writes,
            };
            // What the unit does of its own accord goes on.
            uses && task.nexus != NOBODY
        };
        let mut tags: Vec<TaskTag> =
            self.tasks.iter().filter(|(_, task)| concerned(task)).map(|(tag, _)| *tag).collect();
        if sweep == Sweep::Durable {
            for tag in &tags {
                if let Some(task) = self.tasks.get_mut(tag)
                    && let Kind::AwaitingData { durable, .. } | Kind::Write { durable, parked: Some(_) } =
                        &mut task.kind
                {
                    *durable = true;
                }
            }
            // A step that a command has still to begin is durable, for it looks at the flag again.
            tags.retain(|tag| self.tasks.get(tag).is_some_and(|task| task.in_store));
        }
        if tags.is_empty() {
            return;
        }
        self.waits.push(Wait { tags: tags.clone(), ticket });
        match sweep {
            Sweep::Writes => tags.into_iter().for_each(|tag| self.turn_away(tag, Refusal::WriteProtected)),
            Sweep::Medium => tags.into_iter().for_each(|tag| self.turn_away(tag, Refusal::Offline)),
            Sweep::Durable => {}
        }
    }

    /// Ends a task for this reason: at once where no store has anything of it. A command of several steps
    /// ends with the one that is under way; a single request ends as it ends.
    fn turn_away(&mut self, tag: TaskTag, why: Refusal) {
        let Some(task) = self.tasks.get_mut(&tag) else { return };
        match (&task.kind, task.in_store) {
            (Kind::Long(_), true) => {
                task.given_up.get_or_insert(GivenUp::Refused(why));
                self.give_up_part(tag);
            }
            (_, true) => {}
            (_, false) => {
                let channel = task.channel;
                self.forget_paced(tag);
                self.hungry.retain(|other| *other != tag);
                self.scratch_queue.retain(|other| *other != tag);
                self.copy_queue.retain(|other| *other != tag);
                self.unhurried.retain(|other| *other != tag);
                self.channels[channel].parked.retain(|other| *other != tag);
                self.refuse(tag, why.condition());
            }
        }
    }

    /// The target has the unit no more: everything that it still does ends, and its channel is closed when nobody
    /// sees it any more.
    pub(super) fn retire(&mut self, unit: &Arc<LogicalUnit>, ticket: Ticket) {
        let Some(channel) = self.channel(unit) else { return };
        let tags: Vec<TaskTag> =
            self.tasks.iter().filter(|(_, task)| task.is_at(channel)).map(|(tag, _)| *tag).collect();
        tags.into_iter().for_each(|tag| self.turn_away(tag, Refusal::NotSupported));
        self.retiring.push((Arc::clone(unit), Some(ticket)));
    }

    /// Closes the channels of units that the target has no more, as far as nobody uses them.
    pub(super) fn close_channels(&mut self) {
        let mut at = 0;
        while let Some((unit, _)) = self.retiring.get(at) {
            let Some(channel) = self.channel(unit) else {
                self.retiring.swap_remove(at);
                continue;
            };
            let seen = self.nexuses.values().flat_map(|nexus| &nexus.views).any(|view| view.channel == channel);
            if seen || self.channels[channel].busy || self.tasks.values().any(|task| task.is_at(channel)) {
                at += 1;
                continue;
            }
            let (unit, ticket) = self.retiring.swap_remove(at);
            self.remove_channel(channel, &unit);
            // Before the file can be opened by others, nothing of it is held here.
            drop(unit);
            drop(ticket);
        }
    }

    fn remove_channel(&mut self, at: usize, unit: &Arc<LogicalUnit>) {
        unit.commons.detach(self.mailbox.address());
        self.close_paced(at);
        self.channel_of.remove(&Arc::as_ptr(unit).addr());
        drop(self.channels.swap_remove(at));
        let last = self.channels.len();
        let Some(moved) = self.channels.get(at) else { return };
        self.channel_of.insert(Arc::as_ptr(&moved.unit).addr(), at);
        let put = |place: &mut usize| {
            if *place == last {
                *place = at;
            }
        };
        self.busy.iter_mut().for_each(put);
        self.nexuses.values_mut().flat_map(|nexus| &mut nexus.views).for_each(|view| put(&mut view.channel));
        for task in self.tasks.values_mut() {
            put(&mut task.channel);
            if let Kind::Part(part) = &mut task.kind
                && let Some((other, _)) = &mut part.reads
            {
                put(other);
            }
        }
    }

    /// Flushes the unit for somebody who is no lane.
    pub(super) fn flush_unit(&mut self, unit: &Arc<LogicalUnit>, flushed: Flushed, ticket: Ticket) {
        let Some(at) = self.channel(unit) else { return };
        let work = self.own_work(at);
        let exchange = Rc::clone(&work.exchange);
        let future = Box::pin(async move {
            work.touches(Extent::NOTHING);
            let result = work.flush().await;
            *flushed.lock().unwrap_or_else(PoisonError::into_inner) = Some(result);
            drop(ticket);
            Ending::good(0)
        });
        let long = LongTask { future, exchange, parked: None, waiting: None, uses: Uses::Medium };
        let own = self.begin_own(NOBODY, at, Kind::Long(Box::new(long)), Extent::NOTHING);
        self.drive(own);
    }

    /// The view of an operation that nobody's command has begun.
    fn own_work(&self, at: usize) -> Work {
        let channel = &self.channels[at];
        Work {
            unit: Arc::clone(&channel.unit),
            limits: Arc::clone(&channel.limits),
            cdb: Cdb::Short([0; 16]),
            nexus: Arc::new(reservation::Nexus { initiator: Arc::from([]), relative_port: 0 }),
            port: Arc::new(TargetPort::alone("")),
            place: self.place(NOBODY),
            expected_out: 0,
            write_through: true,
            units: Arc::default(),
            copies: Rc::default(),
            pool: self.context.pool.clone(),
            clock: Clock::clone(&self.context.clock),
            random: Random::clone(&self.context.random),
            exchange: Rc::default(),
        }
    }
}

/// Whether this entry leads to the unit, and the nexus has it no more.
fn lost(entry: &LunEntry, unit: &Arc<LogicalUnit>, new: &LunMap) -> bool {
    Arc::ptr_eq(&entry.unit, unit) && !new.entries.iter().any(|other| same(entry, other))
}
