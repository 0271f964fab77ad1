//! The steps of copies: tasks of their own at the units that they touch, and the memory between them.

use super::task::{GivenUp, Kind, PartTask, Task};
use super::{COPIES, Lane};
use crate::operation::{Answer, Held, Part, Want, Wanted};
use crate::{NexusId, TaskTag};
use block::{Completion, Operation, RequestId};

impl Lane {
    /// A copy has no memory any more.
    pub(super) fn put_back_copy_memory(&mut self, tag: TaskTag) {
        if let Some(Kind::Long(long)) = self.tasks.get(&tag).map(|task| &task.kind)
            && long.exchange.copying.replace(false)
        {
            self.copies -= 1;
        }
    }

    /// Gives memory to copies that wait for it, one step each in turn.
    pub(super) fn feed_copies(&mut self) {
        if self.copy_queue.is_empty() {
            return;
        }
        let mut waiting = std::mem::take(&mut self.copy_queue);
        while let Some(tag) = waiting.pop_front() {
            let Some(Kind::Long(long)) = self.tasks.get_mut(&tag).map(|task| &mut task.kind) else { continue };
            let Some(Want::CopyMemory(length)) = long.waiting else { continue };
            if self.copies >= COPIES {
                self.copy_queue.push_back(tag);
                continue;
            }
            self.copies += 1;
            long.exchange.copying.set(true);
            long.waiting = None;
            *long.exchange.answer.borrow_mut() = Some(Answer::Scratch(self.context.pool.take_beyond(length)));
            self.drive(tag);
        }
    }

    /// A copy has a step for a unit: a task at that unit, for whose end the copy waits.
    pub(super) fn begin_part(&mut self, parent: TaskTag, part: Part) {
        let Part { unit, operation, extent, memory, origin, reads } = part;
        let memory = memory.and_then(|(held, range)| Some((held.into_buffer()?, range)));
        let reads = reads.and_then(|(unit, extent)| Some((self.channel(&unit)?, extent)));
        if memory.is_none() {
            self.put_back_copy_memory(parent);
        }
        let at = self.channel(&unit);
        let Some(task) = self.tasks.get_mut(&parent) else { return };
        let Some(at) = at else {
            // Every unit of a nexus has its channel; a step for another one is no step.
            if let Kind::Long(long) = &task.kind {
                *long.exchange.answer.borrow_mut() = Some(Answer::Done);
                self.unhurried.push(parent);
            }
            return drop(memory.map(|(buffer, _)| Held::new(buffer, &self.context.pool)));
        };
        // It ends no sooner than its part.
        task.in_store = true;
        let nexus = task.nexus;
        let writes = !matches!(operation, Operation::Read | Operation::Extents);
        let wanted = Wanted { operation, offset: extent.offset, length: extent.length, memory, origin };
        let kind = Kind::Part(Box::new(PartTask { parent, wanted: Some(wanted), reads, writes, passed: false }));
        let tag = self.begin_own(nexus, at, kind, extent);
        match self.channels[at].open(&self.context.engine) {
            Ok(()) => self.start_part(tag),
            Err(error) => {
                let buffer = self.take_wanted(tag).and_then(|wanted| wanted.memory).map(|(buffer, _)| buffer);
                self.end_part(tag, Answer::Store(Completion { id: RequestId(tag.0), buffer, result: Err(error) }));
            }
        }
    }

    /// Hands a part to its store, where no fence stands before it.
    pub(super) fn start_part(&mut self, tag: TaskTag) {
        let lane = self.mailbox.address();
        let Some(task) = self.tasks.get(&tag) else { return };
        let Kind::Part(part) = &task.kind else { return };
        let (at, reads) = (task.channel, part.reads);
        if self.channels[at].is_fenced(lane, tag, task.extent) {
            return self.hold_back(tag);
        }
        if let Some((other, extent)) = reads
            && self.channels[other].is_fenced(lane, tag, extent)
        {
            return self.hold_back_at(tag, other);
        }
        if self.is_part_paced(tag) {
            return;
        }
        let Some(wanted) = self.take_wanted(tag) else { return };
        if let Some(task) = self.tasks.get_mut(&tag) {
            (task.started, task.in_store) = (true, true);
        }
        self.push_wanted(at, tag, wanted);
    }

    fn take_wanted(&mut self, tag: TaskTag) -> Option<Wanted> {
        match &mut self.tasks.get_mut(&tag)?.kind {
            Kind::Part(part) => part.wanted.take(),
            _ => None,
        }
    }

    /// A part has ended; its copy goes on in the next turn, or ends where it was given up meanwhile.
    pub(super) fn end_part(&mut self, tag: TaskTag, answer: Answer) {
        let unsent = self.take_wanted(tag).and_then(|wanted| wanted.memory);
        drop(unsent.map(|(buffer, _)| Held::new(buffer, &self.context.pool)));
        let Some(task) = self.remove(tag) else { return };
        let Kind::Part(part) = task.kind else { return };
        self.told(tag);
        if let Some(parent) = self.tasks.get_mut(&part.parent)
            && let Kind::Long(long) = &mut parent.kind
        {
            parent.in_store = false;
            let given_up = parent.given_up.is_some();
            *long.exchange.answer.borrow_mut() = Some(answer);
            match given_up {
                true => self.end_given_up(part.parent),
                // Whatever a store finishes at once, the commands of others have their turn between.
                false => self.unhurried.push(part.parent),
            }
        }
        self.release(task.nexus);
    }

    /// A copy is given up whose step has not come to its store: it waits for that no longer.
    pub(super) fn give_up_part(&mut self, parent: TaskTag) {
        let waits = |task: &Task| matches!(&task.kind, Kind::Part(part) if part.parent == parent) && !task.in_store;
        if let Some(part) = self.tasks.iter().find(|(_, task)| waits(task)).map(|(tag, _)| *tag) {
            self.give_up(part, GivenUp::Silently);
        }
    }

    /// A task of this nexus that no transport knows of has ended.
    pub(super) fn release(&mut self, nexus: NexusId) {
        if let Some(nexus) = self.nexuses.get_mut(&nexus) {
            nexus.tasks -= 1;
            nexus.count_tasks();
        }
        self.close_if_idle(nexus);
    }
}
