//! Between tasks and stores: memory, fences, batches, completions, and the steps of operations.

use super::course::Course;
use super::task::{Kind, LongTask, Purpose, Task, Uses, Wait, is_own, own_tag};
use super::{Lane, NOBODY, SCRATCHES, good};
use crate::fault::condition_of;
use crate::mail::{Extent, Fence, Letter, Ticket, Whose};
use crate::operation::{Answer, Ending, Held, Owner, SCRATCH_BYTES, Verdict, Want, Wanted};
use crate::{Completed, Event, NexusId, TaskTag};
use block::{Buf, Completion, Operation, Request, RequestId};
use scsi::{Condition, Status};
use std::ops::Range;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

impl Lane {
    /// Gives memory to those who wait for it.
    pub(super) fn feed(&mut self) {
        // Those that are refused again keep their order; a greedy nexus's reads do not stop the others'.
        let reliefs = self.context.pool.reliefs();
        if !self.hungry.is_empty() && self.reliefs != reliefs {
            self.reliefs = reliefs;
            for tag in std::mem::take(&mut self.hungry) {
                self.start_read(tag);
            }
        }
        while self.scratches < SCRATCHES
            && let Some(tag) = self.scratch_queue.pop_front()
        {
            if self.parks_before_scratch(tag) {
                continue;
            }
            if self.grant_scratch(tag) {
                self.drive(tag);
            }
        }
        self.feed_copies();
    }

    /// Gives an operation the scratch memory that it waits for.
    fn grant_scratch(&mut self, tag: TaskTag) -> bool {
        if let Some(task) = self.tasks.get_mut(&tag)
            && let Kind::Long(long) = &mut task.kind
            && let Some(Want::Scratch(length)) = long.waiting.take()
        {
            let memory = self.context.pool.take_beyond(length.min(SCRATCH_BYTES));
            // A unit's own operation may take hours; the commands' share is not for it.
            if task.nexus != NOBODY {
                self.scratches += 1;
                long.exchange.scratch.set(true);
            }
            *long.exchange.answer.borrow_mut() = Some(Answer::Scratch(memory));
            return true;
        }
        false
    }

    /// Submits every batch and takes what is finished. True where anything was.
    pub(super) fn turn_stores(&mut self) -> bool {
        let mut worked = false;
        let mut busy = std::mem::take(&mut self.busy);
        busy.retain(|at| {
            let channel = &mut self.channels[*at];
            worked |= !channel.batch.is_empty();
            let in_flight = channel.turn(&self.context.engine, &mut self.done);
            channel.busy = in_flight;
            channel.watch(in_flight);
            in_flight
        });
        // What completions start is listed anew.
        self.busy = busy;
        self.context.engine.flush();
        let mut done = std::mem::take(&mut self.done);
        worked |= !done.is_empty();
        if !done.is_empty() {
            self.look_at_the_clock();
        }
        for completion in done.drain(..) {
            self.completed(completion);
        }
        self.done = done;
        worked
    }

    pub(super) fn start_read(&mut self, tag: TaskTag) {
        let lane = self.mailbox.address();
        let Some(task) = self.tasks.get_mut(&tag) else { return };
        let channel = &self.channels[task.channel];
        // A fence that came while the task flushed waits for its end.
        if !task.started && !channel.fences.is_empty() && channel.is_fenced(lane, tag, task.extent) {
            return self.hold_back(tag);
        }
        let Some(nexus) = self.nexuses.get(&task.nexus) else { return };
        match nexus.account.take(task.extent.length as usize) {
            Some(buffer) => {
                let data = 0..task.extent.length as usize;
                let request = Self::request_of(tag, task, Operation::Read, Some((buffer, data)), self.now);
                let channel = task.channel;
                self.push(channel, request);
            }
            // Nobody has any who could give it back: the system itself has no memory.
            None if self.context.pool.taken_bytes() == 0 => {
                if let Some(task) = self.remove(tag) {
                    self.finish(tag, &task.standing(), Completed { status: Status::Busy, ..good(0) });
                    self.told(tag);
                }
            }
            None => self.hungry.push_back(tag),
        }
    }

    pub(super) fn start_write(&mut self, tag: TaskTag) {
        let lane = self.mailbox.address();
        let Some(task) = self.tasks.get_mut(&tag) else { return };
        let channel = &self.channels[task.channel];
        if !channel.fences.is_empty() && channel.is_fenced(lane, tag, task.extent) {
            return self.hold_back(tag);
        }
        if let Kind::Write { durable, parked } = &mut task.kind
            && let Some((buffer, length)) = parked.take()
        {
            let operation = Operation::Write { durable: *durable };
            let request = Self::request_of(tag, task, operation, Some((buffer, 0..length)), self.now);
            let channel = task.channel;
            self.push(channel, request);
        }
    }

    /// Puts the one request of a task into its channel's batch.
    pub(super) fn submit(&mut self, tag: TaskTag, operation: Operation, memory: Option<(Buf, Range<usize>)>) {
        let Some(task) = self.tasks.get_mut(&tag) else { return };
        let request = Self::request_of(tag, task, operation, memory, self.now);
        let channel = task.channel;
        self.push(channel, request);
    }

    /// The one request of a task, which a store is about to have.
    fn request_of(
        tag: TaskTag,
        task: &mut Task,
        operation: Operation,
        memory: Option<(Buf, Range<usize>)>,
        now: u64,
    ) -> Request {
        task.in_store = true;
        task.started = true;
        task.course.is_stored(now);
        let id = RequestId(tag.0);
        match memory {
            Some((buffer, data)) => Request {
                // What an initiator sent is written once.
                expendable: true,
                ..Request::with_data(id, operation, task.extent.offset, buffer, data)
            },
            None => Request::over(id, operation, 0, 0),
        }
    }

    fn push(&mut self, at: usize, request: Request) {
        let channel = &mut self.channels[at];
        channel.push(request);
        if !channel.busy {
            channel.busy = true;
            self.busy.push(at);
        }
    }

    /// Starts a task that a fence had held back.
    pub(super) fn unpark(&mut self, tag: TaskTag) {
        let Some(task) = self.tasks.get_mut(&tag) else { return };
        match &mut task.kind {
            Kind::Read => self.start_read(tag),
            Kind::Write { .. } => self.start_write(tag),
            Kind::Long(long) => {
                if let Some(wanted) = long.parked.take() {
                    self.submit_wanted(tag, wanted);
                } else if matches!(long.waiting, Some(Want::Scratch(_))) {
                    self.scratch_queue.push_back(tag);
                }
            }
            Kind::Part(_) => self.start_part(tag),
            _ => {}
        }
    }

    /// Whether somebody's fence keeps a task from its first request. Such a task must not have scratch
    /// memory: the owner of the fence may wait for some.
    fn is_held_back(&self, tag: TaskTag) -> bool {
        let Some(task) = self.tasks.get(&tag) else { return false };
        !task.started && self.channels[task.channel].is_fenced(self.mailbox.address(), tag, task.extent())
    }

    /// Parks a task that waited for scratch memory, where a fence holds it back.
    fn parks_before_scratch(&mut self, tag: TaskTag) -> bool {
        let held_back = self.is_held_back(tag);
        if held_back {
            self.hold_back(tag);
        }
        held_back
    }

    /// Keeps a task back that stands before a fence. Where the unit itself has raised it, for hours
    /// perhaps, the task ends with what every later command is told.
    pub(super) fn hold_back(&mut self, tag: TaskTag) {
        let Some(task) = self.tasks.get(&tag) else { return };
        self.hold_back_at(tag, task.channel);
    }

    /// The same, where the fence stands at another unit than the task's own.
    pub(super) fn hold_back_at(&mut self, tag: TaskTag, channel: usize) {
        let channel = &mut self.channels[channel];
        match channel.unit.commons.occupation.condition() {
            None => channel.parked.push(tag),
            Some(condition) => self.refuse(tag, condition),
        }
    }

    /// Ends a task that has not begun to touch the medium.
    pub(super) fn refuse(&mut self, tag: TaskTag, condition: Condition) {
        let Some(task) = self.tasks.get_mut(&tag) else { return };
        match &mut task.kind {
            Kind::Part(_) => self.end_part(tag, Answer::Done),
            Kind::Long(long) => {
                let memory = long.parked.take().and_then(|wanted| wanted.memory);
                drop(memory.map(|(buffer, _)| Held::new(buffer, &self.context.pool)));
                self.end_long(tag, Err(condition));
            }
            kind => {
                if let Kind::Write { parked, .. } = kind
                    && let Some((buffer, _)) = parked.take()
                {
                    if let Some(nexus) = self.nexuses.get(&task.nexus) {
                        nexus.account.discharge(&buffer);
                    }
                    self.context.pool.give(buffer);
                }
                self.forget_paced(tag);
                self.end(tag, Err(condition), None);
            }
        }
    }

    /// Starts a task that no transport knows of.
    pub(super) fn begin_own(&mut self, nexus: NexusId, channel: usize, kind: Kind, extent: Extent) -> TaskTag {
        let tag = own_tag(self.next_purpose);
        self.next_purpose += 1;
        if let Some(nexus) = self.nexuses.get_mut(&nexus) {
            nexus.tasks += 1;
            nexus.count_tasks();
        }
        let task = Task {
            nexus,
            // It has no place in the order of the nexus's commands.
            view: usize::MAX,
            channel,
            kind,
            extent,
            expected_in: 0,
            ordered: false,
            given_up: None,
            in_store: false,
            started: false,
            // Nobody counts it.
            course: Course::new(0xff, self.now),
        };
        self.tasks.insert(tag, task);
        tag
    }

    fn submit_wanted(&mut self, tag: TaskTag, wanted: Wanted) {
        let lane = self.mailbox.address();
        let Some(task) = self.tasks.get_mut(&tag) else { return };
        let (at, extent) = (task.channel, task.extent());
        let Kind::Long(long) = &mut task.kind else { return };
        let channel = &self.channels[at];
        if !task.started && channel.is_fenced(lane, tag, extent) {
            long.parked = Some(wanted);
            return self.hold_back(tag);
        }
        (task.started, task.in_store) = (true, true);
        task.course.is_stored(self.now);
        self.push_wanted(at, tag, wanted);
    }

    pub(super) fn push_wanted(&mut self, channel: usize, tag: TaskTag, wanted: Wanted) {
        let Wanted { operation, offset, length, memory, origin } = wanted;
        let id = RequestId(tag.0);
        let request = match memory {
            Some((buffer, data)) => Request::with_data(id, operation, offset, buffer, data),
            None => Request::over(id, operation, offset, length),
        };
        self.push(channel, Request { origin, ..request });
    }

    fn completed(&mut self, completion: Completion) {
        let tag = TaskTag(completion.id.0);
        let Some(task) = self.tasks.get_mut(&tag) else {
            drop(completion.buffer.map(|buffer| Held::new(buffer, &self.context.pool)));
            return;
        };
        task.in_store = false;
        // The memory of a read that went well stays with the nexus until its transport has sent it.
        let stays = matches!(task.kind, Kind::Read) && task.given_up.is_none() && completion.result.is_ok();
        if !stays
            && matches!(task.kind, Kind::Read | Kind::Write { .. })
            && let (Some(buffer), Some(nexus)) = (&completion.buffer, self.nexuses.get(&task.nexus))
        {
            nexus.account.discharge(buffer);
        }
        if task.given_up.is_some() {
            drop(completion.buffer.map(|buffer| Held::new(buffer, &self.context.pool)));
            return self.end_given_up(tag);
        }
        let (read, wanted) = match &mut task.kind {
            Kind::Part(_) => return self.end_part(tag, Answer::Store(completion)),
            Kind::Long(long) => {
                *long.exchange.answer.borrow_mut() = Some(Answer::Store(completion));
                if task.nexus == NOBODY {
                    // Whatever the store finishes at once, the commands of others have their turn between.
                    return self.unhurried.push(tag);
                }
                return self.drive(tag);
            }
            Kind::Flush => (false, 0),
            Kind::FlushBeforeRead if completion.result.is_ok() => {
                task.kind = Kind::Read;
                return self.start_read(tag);
            }
            kind => (matches!(kind, Kind::Read), task.extent.length),
        };
        let mut buffer = completion.buffer;
        if (!read || completion.result.is_err())
            && let Some(buffer) = buffer.take()
        {
            self.context.pool.give(buffer);
        }
        let block = self.channels[task.channel].limits.block_length;
        let result = completion.result.map(|_| wanted).map_err(|error| condition_of(&error, !read, block));
        self.end(tag, result, buffer);
    }

    /// The data-out of an operation has come.
    pub(super) fn answer_data_out(&mut self, tag: TaskTag, buffer: Option<Buf>, length: u32) {
        if let Some(task) = self.tasks.get_mut(&tag)
            && let Kind::Long(long) = &mut task.kind
        {
            *long.exchange.answer.borrow_mut() = Some(Answer::DataOut(buffer, length));
            self.drive(tag);
        }
    }

    /// Goes on with an operation for which something was waited.
    pub(super) fn resume(&mut self, tag: TaskTag) {
        if let Some(task) = self.tasks.get_mut(&tag)
            && let Kind::Long(long) = &mut task.kind
        {
            *long.exchange.answer.borrow_mut() = Some(Answer::Done);
            self.drive(tag);
        }
    }

    /// Takes an operation to the next thing that it waits for, or to its end.
    pub(super) fn drive(&mut self, tag: TaskTag) {
        loop {
            let Some(task) = self.tasks.get_mut(&tag) else { return };
            let (id, at) = (task.nexus, task.channel);
            let Kind::Long(long) = &mut task.kind else { return };
            if let Poll::Ready(verdict) = long.future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
                return self.end_long(tag, verdict);
            }
            let Some(want) = long.exchange.want.borrow_mut().take() else { return };
            if matches!(want, Want::Scratch(_)) {
                long.waiting = Some(want);
                if self.is_held_back(tag) {
                    return self.hold_back(tag);
                }
                if self.scratches >= SCRATCHES && id != NOBODY {
                    return self.scratch_queue.push_back(tag);
                }
                self.grant_scratch(tag);
                continue;
            }
            if matches!(want, Want::Fence { extent, .. } if extent != Extent::STATE)
                && id != NOBODY
                && let Some(condition) = self.channels[at].unit.commons.occupation.condition()
            {
                return self.refuse(tag, condition);
            }
            match want {
                Want::DataOut(length) => {
                    task.course.asked = self.now;
                    return self.events.push_back(Event::ReceiveDataOut { nexus: id, tag, length });
                }
                // Dealt with above.
                Want::Scratch(_) => {}
                Want::CopyMemory(_) => {
                    if let Some(Kind::Long(long)) = self.tasks.get_mut(&tag).map(|task| &mut task.kind) {
                        long.waiting = Some(want);
                    }
                    // What it had is back; it queues with the others for more.
                    self.put_back_copy_memory(tag);
                    self.copy_queue.push_back(tag);
                    return self.feed_copies();
                }
                Want::Part(part) => return self.begin_part(tag, part),
                Want::Elsewhere(begin) => {
                    // Given up meanwhile it ends when that is done: what is kept and what is in force are one.
                    task.in_store = true;
                    let ticket = self.ticket(Purpose::Saved(tag));
                    return begin(ticket);
                }
                Want::Store(wanted) => return self.submit_wanted(tag, wanted),
                Want::Fence { number, extent } => {
                    let fence = Fence { number, extent, lane: self.mailbox.address(), owner: tag };
                    let turn = self.ticket(Purpose::Turn { tag, number, extent });
                    return self.channels[at].unit.commons.queue_fence(fence, turn);
                }
                Want::Background { future, exchange, owner, wait } => {
                    let uses = match &self.tasks.get(&tag).map(|task| &task.kind) {
                        Some(Kind::Long(long)) => long.uses,
                        _ => Uses::Nothing,
                    };
                    let long = LongTask { future, exchange, parked: None, waiting: None, uses };
                    let kind = Kind::Long(Box::new(long));
                    let owner = if owner == Owner::Unit { NOBODY } else { id };
                    let own = self.begin_own(owner, at, kind, Extent::WHOLE);
                    // Dropped here where nobody waits: the command goes on.
                    let ticket = self.ticket(Purpose::Resume(tag));
                    if wait {
                        self.waits.push(Wait { tags: vec![own], ticket });
                    }
                    return self.drive(own);
                }
                Want::EndOf(nexuses) => {
                    let nobody_waits = task.given_up.is_some();
                    let ticket = self.ticket(Purpose::Resume(tag));
                    let (by, unit) = (self.place(id), Arc::clone(&self.channels[at].unit));
                    unit.commons.broadcast(|| Letter::Abort {
                        unit: Arc::clone(&unit),
                        whose: Whose::Ports(Arc::clone(&nexuses)),
                        by,
                        spare: Some(tag),
                        cleared: false,
                        ticket: ticket.clone(),
                    });
                    if nobody_waits {
                        // Given up while it saved. The others' tasks end; it does not stay for that.
                        self.end_given_up(tag);
                    }
                    return;
                }
            }
        }
    }

    /// A ticket with which this is done.
    pub(super) fn ticket(&mut self, purpose: Purpose) -> Ticket {
        let key = self.next_purpose;
        self.next_purpose += 1;
        self.purposes.insert(key, purpose);
        Ticket::new(&self.mailbox, key)
    }

    fn end_long(&mut self, tag: TaskTag, verdict: Verdict) {
        if self.tasks.get(&tag).is_some_and(|task| task.given_up.is_some()) {
            return self.end_given_up(tag);
        }
        let Some(task) = self.remove(tag) else { return };
        let (nexus, expected) = (task.nexus, task.expected_in);
        let mut standing = task.standing();
        if let Kind::Long(long) = &task.kind {
            standing.unmapped = long.exchange.unmapped.get();
        }
        // Fences and memory of the operation go back before its end is told.
        drop(task);
        match verdict {
            // It has nobody to answer; those who wait for it are told below.
            _ if is_own(tag) => self.release(nexus),
            Err(condition) => self.check(tag, &standing, condition),
            Ok(Ending { status, data_in, length, transfer_length }) => {
                let mut completed = Completed { status, ..good(transfer_length) };
                completed.outward = data_in.is_none();
                completed.data_in = data_in.and_then(Held::into_buffer);
                if let (Some(buffer), Some(nexus)) = (&completed.data_in, self.nexuses.get(&nexus)) {
                    nexus.account.charge(buffer);
                }
                completed.data_in_length = u32::try_from(length).unwrap_or(u32::MAX).min(expected);
                self.finish(tag, &standing, completed);
            }
        }
        self.told(tag);
    }
}
