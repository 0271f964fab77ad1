//! Task management functions (SAM-5 clause 7), and the letters of other lanes.

use super::execution::Where;
use super::task::{GivenUp, Kind, Purpose, Wait, is_own};
use super::{Lane, NOBODY, View};
use crate::commons::flag;
use crate::mail::{Fence, Letter, Ticket, Whom, Whose};
use crate::{Event, LogicalUnit, NexusId, TaskManagementFunction, TaskManagementResponse, TaskTag};
use scsi::mmc::event::MediaEvent;
use scsi::{Condition, SenseKey};
use std::sync::Arc;

impl Lane {
    /// A task management function; ends with [`Event::TaskManagementDone`] of the same `id`.
    pub fn task_management(&mut self, nexus: NexusId, id: u64, lun: [u8; 8], function: TaskManagementFunction) {
        use TaskManagementFunction as F;
        use TaskManagementResponse as R;
        if self.mailbox.is_waiting() {
            self.read_mail();
        }
        let Some(it) = self.nexuses.get(&nexus) else { return };
        let (at, units) = (it.locate(lun), Arc::clone(&it.description.units));
        let (view, unit) = match at {
            Where::Unit(at) => (it.views.get(at), units.entries.get(at).map(|entry| Arc::clone(&entry.unit))),
            _ => (None, None),
        };
        let channel = view.map(|view| view.channel);
        let own = |lane: &Lane| -> Vec<TaskTag> {
            let mine = lane.tasks.iter().filter(|(_, task)| task.nexus == nexus && Some(task.channel) == channel);
            mine.map(|(tag, _)| *tag).collect()
        };
        let found = |found: bool| if found { R::FunctionSucceeded([0; 3]) } else { R::FunctionComplete };
        let response = match (function, unit) {
            (F::ClearAca, _) => R::FunctionRejected,
            (F::QueryTask { tag }, _) => found(self.tasks.contains_key(&tag)),
            (F::AbortTask { tag }, _) => return self.end_own(nexus, id, vec![tag]),
            (F::TargetReset, _) => {
                let ticket = self.ticket(Purpose::Function { nexus, id });
                let mut seen: Vec<&Arc<LogicalUnit>> = Vec::new();
                for entry in &units.entries {
                    if !seen.iter().any(|other| Arc::ptr_eq(other, &entry.unit)) {
                        seen.push(&entry.unit);
                        self.reset(nexus, &entry.unit, 0x02, &ticket);
                    }
                }
                return;
            }
            (_, None) if at == Where::Absent => R::IncorrectLogicalUnitNumber,
            // The controller at LUN 0 has no tasks that last.
            (_, None) => R::FunctionComplete,
            (F::AbortTaskSet, Some(_)) => {
                let tags = own(self);
                return self.end_own(nexus, id, tags);
            }
            (F::ClearTaskSet, Some(unit)) => {
                let ticket = self.ticket(Purpose::Function { nexus, id });
                return self.clear(nexus, &unit, true, &ticket);
            }
            (F::LogicalUnitReset, Some(unit)) => {
                let ticket = self.ticket(Purpose::Function { nexus, id });
                return self.reset(nexus, &unit, 0x03, &ticket);
            }
            // Steps of copies are no commands.
            (F::QueryTaskSet, Some(_)) => found(own(self).iter().any(|tag| !is_own(*tag))),
            (F::QueryAsynchronousEvent, Some(_)) => {
                let pending = view.and_then(|view| view.attentions.front());
                pending.map_or(R::FunctionComplete, |condition| {
                    R::FunctionSucceeded([condition.key as u8, condition.code.0, condition.code.1])
                })
            }
        };
        self.events.push_back(Event::TaskManagementDone { nexus, id, response });
    }

    /// Ends tasks of the nexus that asked; the function is complete when all have ended.
    fn end_own(&mut self, nexus: NexusId, id: u64, mut tags: Vec<TaskTag>) {
        tags.retain(|tag| self.tasks.contains_key(tag));
        let ticket = self.ticket(Purpose::Function { nexus, id });
        self.end_all(tags, ticket, |_| GivenUp::Silently);
    }

    fn end_all(&mut self, tags: Vec<TaskTag>, ticket: Ticket, how: impl Fn(NexusId) -> GivenUp) {
        if tags.is_empty() {
            return;
        }
        self.waits.push(Wait { tags: tags.clone(), ticket });
        for tag in tags {
            if let Some(task) = self.tasks.get(&tag) {
                let how = how(task.nexus);
                self.give_up(tag, how);
            }
        }
    }

    /// Ends all tasks of the unit, on every lane.
    fn clear(&mut self, nexus: NexusId, unit: &Arc<LogicalUnit>, cleared: bool, ticket: &Ticket) {
        unit.commons.disturb(None);
        let by = self.place(nexus);
        unit.commons.broadcast(|| Letter::Abort {
            unit: Arc::clone(unit),
            whose: Whose::Everyone,
            by,
            spare: None,
            cleared,
            ticket: ticket.clone(),
        });
    }

    /// The reset of a unit (SAM-5 6.3.3): 29h with this qualifier for everybody, and all tasks end.
    fn reset(&mut self, nexus: NexusId, unit: &Arc<LogicalUnit>, qualifier: u8, ticket: &Ticket) {
        unit.commons.reset();
        unit.attention(Whom::Everyone, Condition::new(SenseKey::UnitAttention, 0x29, qualifier));
        self.clear(nexus, unit, false, ticket);
    }

    /// Does what the letters say.
    pub(super) fn read_mail(&mut self) {
        for letter in self.mailbox.take() {
            match letter {
                Letter::Attention { unit, whom, condition } => self.attention(&unit, &whom, condition),
                Letter::Abort { unit, whose, by, spare, cleared, ticket } => {
                    let Some(channel) = self.channel(&unit) else { continue };
                    let mine = by.lane == self.mailbox.address();
                    let spare = spare.filter(|_| mine);
                    let nexuses = &self.nexuses;
                    let affected = |nexus: &NexusId| match &whose {
                        // What the unit does of its own accord is nobody's task.
                        Whose::Everyone => *nexus != NOBODY,
                        Whose::Ports(ports) => nexuses.get(nexus).is_some_and(|nexus| ports.contains(&*nexus.identity)),
                    };
                    let hit = self
                        .tasks
                        .iter()
                        .filter(|(tag, task)| task.is_at(channel) && Some(**tag) != spare && affected(&task.nexus));
                    let (tags, others): (Vec<TaskTag>, Vec<NexusId>) =
                        hit.map(|(tag, task)| (*tag, task.nexus)).unzip();
                    let asked = |nexus: NexusId| mine && nexus == by.nexus;
                    let with_status = unit.commons.flags() & flag::TASK_ABORTED_STATUS != 0;
                    if cleared && !with_status {
                        // COMMANDS CLEARED BY ANOTHER INITIATOR (SAM-5 5.6).
                        let condition = Condition::new(SenseKey::UnitAttention, 0x2f, 0x00);
                        for other in others.into_iter().filter(|other| !asked(*other)) {
                            if let Some(nexus) = self.nexuses.get_mut(&other) {
                                nexus.views.iter_mut().filter(|view| view.channel == channel).for_each(|view| {
                                    view.owe(condition);
                                });
                            }
                        }
                    }
                    self.end_all(tags, ticket, |nexus| match with_status && !asked(nexus) {
                        true => GivenUp::WithStatus,
                        false => GivenUp::Silently,
                    });
                }
                Letter::Raise { unit, fence, ticket } => {
                    let Some(channel) = self.channel(&unit) else { continue };
                    let owner = (fence.lane == self.mailbox.address()).then_some(fence.owner);
                    let inside = self.tasks.iter().filter(|(tag, task)| {
                        task.started && Some(**tag) != owner && task.touches(channel, fence.extent)
                    });
                    let tags: Vec<TaskTag> = inside.map(|(tag, _)| *tag).collect();
                    self.channels[channel].fences.push(fence);
                    if !tags.is_empty() {
                        self.waits.push(Wait { tags, ticket });
                    }
                }
                Letter::Lift { unit, number } => {
                    let Some(channel) = self.channel(&unit) else { continue };
                    self.channels[channel].fences.retain(|fence| fence.number != number);
                    for tag in std::mem::take(&mut self.channels[channel].parked) {
                        self.unpark(tag);
                    }
                }
                Letter::Limits { unit } => {
                    if let Some(channel) = self.channel(&unit) {
                        self.channels[channel].limits = unit.limits();
                    }
                }
                Letter::Paced => self.paced.look_again(),
                Letter::Medium { unit, event, exchanged } => self.medium(&unit, event, exchanged),
                Letter::Sweep { unit, sweep, ticket } => self.sweep(&unit, sweep, ticket),
                Letter::Retire { unit, ticket } => self.retire(&unit, ticket),
                Letter::Flush { unit, flushed, ticket } => self.flush_unit(&unit, flushed, ticket),
                Letter::Proceed(key) => match self.purposes.remove(&key) {
                    Some(Purpose::Function { nexus, id }) => {
                        let response = TaskManagementResponse::FunctionComplete;
                        self.events.push_back(Event::TaskManagementDone { nexus, id, response });
                    }
                    Some(Purpose::Resume(tag)) => self.resume(tag),
                    Some(Purpose::Saved(tag)) => {
                        if let Some(task) = self.tasks.get_mut(&tag) {
                            task.in_store = false;
                        }
                        self.resume(tag);
                    }
                    Some(Purpose::Left { unit, identity, place }) => self.left(&unit, &identity, place),
                    Some(Purpose::Turn { tag, number, extent }) => self.raise(tag, number, extent),
                    None => {}
                },
            }
        }
    }

    /// It is the turn of a task's fence: every lane hears of it, and the task goes on when all of them
    /// have let what they had under way end.
    fn raise(&mut self, tag: TaskTag, number: u64, extent: crate::mail::Extent) {
        let Some(task) = self.tasks.get(&tag) else { return };
        let Kind::Long(_) = task.kind else { return };
        let unit = Arc::clone(&self.channels[task.channel].unit);
        let fence = Fence { number, extent, lane: self.mailbox.address(), owner: tag };
        let ticket = self.ticket(Purpose::Resume(tag));
        unit.commons.broadcast(|| Letter::Raise { unit: Arc::clone(&unit), fence, ticket: ticket.clone() });
    }

    pub(super) fn channel(&self, unit: &Arc<LogicalUnit>) -> Option<usize> {
        self.channel_of.get(&Arc::as_ptr(unit).addr()).copied()
    }

    /// Something happened to the medium of a drive. In one step for this lane: no command of it reads the
    /// new medium before its nexus is owed the unit attention.
    fn medium(&mut self, unit: &Arc<LogicalUnit>, event: MediaEvent, exchanged: bool) {
        let Some(channel) = self.channel(unit) else { return };
        let condition = match event {
            // NOT READY TO READY CHANGE, MEDIUM MAY HAVE CHANGED.
            MediaEvent::New | MediaEvent::EjectRequested => Condition::new(SenseKey::UnitAttention, 0x28, 0x00),
            // MEDIUM NOT PRESENT - TRAY CLOSED.
            MediaEvent::Removed => Condition::new(SenseKey::NotReady, 0x3a, 0x01),
        };
        if exchanged {
            self.channels[channel].exchange(&mut self.done);
            if !self.channels[channel].busy {
                self.channels[channel].busy = true;
                self.busy.push(channel);
            }
            // Reads that wait for memory or a fence were meant for the old medium.
            let late = self.tasks.iter().filter(|(_, task)| {
                task.channel == channel && matches!(task.kind, Kind::Read) && !task.in_store && task.given_up.is_none()
            });
            for tag in late.map(|(tag, _)| *tag).collect::<Vec<_>>() {
                self.refuse(tag, condition);
            }
        }
        let views = self.nexuses.values_mut().flat_map(|nexus| &mut nexus.views);
        for view in views.filter(|view| view.channel == channel) {
            match event {
                // Behind what was not asked for yet.
                MediaEvent::EjectRequested if view.media_event.is_some() => view.eject_requested = true,
                MediaEvent::EjectRequested => view.media_event = Some(event),
                _ => (view.media_event, view.eject_requested) = (Some(event), false),
            }
            if event == MediaEvent::New {
                view.owe(condition);
            }
        }
    }

    /// The transport has ended commands of the nexus at this unit, which goes on: SOME COMMANDS CLEARED BY ISCSI
    /// PROTOCOL EVENT (RFC 7143 §11.14.5).
    pub fn commands_cleared(&mut self, nexus: NexusId, lun: [u8; 8]) {
        let Some(nexus) = self.nexuses.get_mut(&nexus) else { return };
        if let Where::Unit(at) = nexus.locate(lun) {
            nexus.views[at].owe(Condition::new(SenseKey::UnitAttention, 0x47, 0x7f));
        }
    }

    fn attention(&mut self, unit: &Arc<LogicalUnit>, whom: &Whom, condition: Condition) {
        let Some(channel) = self.channel(unit) else { return };
        let lane = self.mailbox.address();
        for (id, nexus) in &mut self.nexuses {
            let owed = match whom {
                Whom::Everyone => true,
                Whom::AllBut(place) => (place.lane, place.nexus) != (lane, *id),
                Whom::Port(port) => *nexus.identity == *port,
            };
            if owed {
                nexus.views.iter_mut().filter(|view| view.channel == channel).for_each(|view| view.owe(condition));
            }
        }
    }
}

impl View {
    /// Queues a unit attention. What announces a reset comes first and makes an older reset moot; the
    /// same condition is owed once (SAM-5 5.14.5).
    pub(super) fn owe(&mut self, condition: Condition) {
        if condition.code.0 == 0x29 {
            self.attentions.retain(|other| other.code.0 != 0x29);
            self.attentions.push_front(condition);
        } else if !self.attentions.contains(&condition) {
            self.attentions.push_back(condition);
        }
    }
}
