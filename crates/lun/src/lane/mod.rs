//! The part of the device server that runs on one worker.
//!
//! READ, WRITE and SYNCHRONIZE CACHE are one store request each: found in the table, put into the
//! unit's batch, answered from its completion. Parameter data is made on the spot. All else is an
//! operation ([`crate::operation`]), driven from here.

mod channel;
mod copy;
mod course;
mod drive;
mod execution;
mod inventory;
mod management;
mod pace;
mod task;

pub(crate) use execution::Execution;
pub(crate) use task::Uses;

use crate::clock::{Clock, Ticks};
use crate::command::Outcome;
use crate::copy::{CopyRecords, Random};
use crate::handover::ViewAtRest;
use crate::mail::{Extent, Mailbox, Place, Ticket, Wake};
use crate::operation::{Answer, Held};
use crate::reservation;
use crate::statistics::Times;
use crate::{
    Command, Completed, Event, Limiter, LogicalUnit, LunEntry, NexusDescription, NexusId, TaskAttribute, TaskTag,
};
use block::{Account, Buf, Completion, Engine, Operation, Pool};
use channel::{Channel, Order};
use course::{Course, NOWHERE, NexusCells, Standing};
use execution::Where;
use pace::Paced;
use scsi::mmc::event::MediaEvent;
use scsi::{Condition, Sense, SenseKey, Status};
use std::collections::{HashMap, VecDeque};
use std::rc::Rc;
use std::sync::Arc;
use task::{First, GivenUp, Kind, LongTask, Nexuses, Purpose, Task, Tasks, Wait, is_own};

/// Bytes of the largest transfer of one command (B0h, MAXIMUM TRANSFER LENGTH).
pub const MAXIMUM_TRANSFER_BYTES: u64 = 8 << 20;

/// Operations of one lane that may have scratch memory at a time.
const SCRATCHES: usize = 8;
/// Copies of one lane that may have memory at a time.
const COPIES: usize = 4;
/// Whose tasks those are that belong to a unit and not to a nexus; no nexus has this number.
const NOBODY: NexusId = NexusId(0);
/// Rounds of [`Lane::run`] before others get their turn.
const ROUNDS: usize = 16;

/// What a lane is given by its worker.
pub struct LaneContext {
    /// The worker's memory. Data-in buffers come from here; data-out buffers are given back here.
    pub pool: Pool,
    /// The worker's engine, handed to the stores.
    pub engine: Rc<dyn Engine>,
    /// Called by any thread when there is something for this lane: the worker is to call [`Lane::run`].
    pub wake: Wake,
    /// Tells the time, for those who ask a unit for it.
    pub clock: Clock,
    /// Makes what nobody can guess.
    pub random: Random,
}

/// A unit as one nexus sees it.
struct View {
    channel: usize,
    /// Unit attentions, the first to be told first.
    attentions: VecDeque<Condition>,
    order: Order,
    copies: Rc<CopyRecords>,
    /// What reservations let this nexus do, as of this epoch of theirs.
    permits: Option<(u64, [bool; 3])>,
    /// What happened to the medium of a drive, where the nexus has not yet asked for it.
    media_event: Option<MediaEvent>,
    /// And behind that, that it is to let go of the medium.
    eject_requested: bool,
}

struct Nexus {
    description: NexusDescription,
    identity: Arc<reservation::Nexus>,
    /// As the entries of the description's map.
    views: Vec<View>,
    tasks: usize,
    closing: bool,
    /// What it holds of the worker's memory.
    account: Rc<Account>,
    cells: NexusCells,
    /// What limits it together with others.
    limiter: Option<Arc<Limiter>>,
    /// What it can see has changed, and LUN 0, where there is no disk to tell it, has not yet told.
    inventory_changed: bool,
}

/// One worker's device server. Order of calls: [`Lane::command`] and [`Lane::data_out`] for all
/// that one read of the sockets gave, then [`Lane::run`] once, then [`Lane::poll_event`] until
/// `None`. `run` also whenever the worker is woken.
pub struct Lane {
    context: LaneContext,
    mailbox: Arc<Mailbox>,
    nexuses: Nexuses<Nexus>,
    next_nexus: u32,
    channels: Vec<Channel>,
    /// Channels by the address of their unit.
    channel_of: HashMap<usize, usize>,
    /// Channels with requests to submit or in flight.
    busy: Vec<usize>,
    /// Views of nexuses of which dormant tasks may start.
    stirred: Vec<(NexusId, usize)>,
    tasks: Tasks,
    /// Reads that wait for memory.
    hungry: VecDeque<TaskTag>,
    /// What [`block::Pool::reliefs`] said when they last asked.
    reliefs: u64,
    /// Operations with scratch memory, and those that wait for it.
    scratches: usize,
    scratch_queue: VecDeque<TaskTag>,
    /// Copies with memory, and those that wait for it.
    copies: usize,
    copy_queue: VecDeque<TaskTag>,
    /// Commands that a limit holds back.
    paced: Paced,
    /// Units' own operations and copies that can go on; each takes one step for each [`Lane::run`].
    unhurried: Vec<TaskTag>,
    waits: Vec<Wait>,
    /// Units whose channels are to be closed when nobody uses them any more, and who waits for that.
    retiring: Vec<(Arc<LogicalUnit>, Option<Ticket>)>,
    purposes: HashMap<u64, Purpose>,
    next_purpose: u64,
    events: VecDeque<Event>,
    done: Vec<Completion>,
    data: Vec<u8>,
    ticks: Ticks,
    /// What the clock said when the transport had read its sockets, or when stores had finished something.
    now: u64,
}

impl Lane {
    /// A lane without nexuses.
    pub fn new(context: LaneContext) -> Lane {
        Lane {
            mailbox: Mailbox::new(Arc::clone(&context.wake)),
            context,
            nexuses: Nexuses::default(),
            next_nexus: 1,
            channels: Vec::new(),
            channel_of: HashMap::new(),
            busy: Vec::new(),
            stirred: Vec::new(),
            tasks: Tasks::default(),
            hungry: VecDeque::new(),
            reliefs: 0,
            scratches: 0,
            scratch_queue: VecDeque::new(),
            copies: 0,
            copy_queue: VecDeque::new(),
            paced: Paced::default(),
            unhurried: Vec::new(),
            waits: Vec::new(),
            retiring: Vec::new(),
            purposes: HashMap::new(),
            next_purpose: 0,
            events: VecDeque::new(),
            done: Vec::new(),
            data: Vec::new(),
            ticks: Arc::new(|| 0),
            now: 0,
        }
    }

    /// A new nexus. Its units owe it a unit attention: power on for one that they have not seen since
    /// the process began, otherwise the loss of its nexus (SAM-5 5.14, 6.3.4).
    pub fn open_nexus(&mut self, description: NexusDescription) -> NexusId {
        let id = NexusId(self.next_nexus);
        self.next_nexus = self.next_nexus.wrapping_add(1).max(1);
        let identity = Arc::new(reservation::Nexus {
            initiator: Arc::clone(&description.initiator_port),
            relative_port: description.target_port.number(),
        });
        let units = Arc::clone(&description.units);
        let views = units.entries.iter().map(|entry| self.view(&entry.unit, &identity)).collect();
        let account = Rc::new(self.context.pool.account());
        let nexus = Nexus {
            description,
            identity,
            views,
            tasks: 0,
            closing: false,
            account,
            cells: NexusCells::default(),
            limiter: None,
            inventory_changed: false,
        };
        self.nexuses.insert(id, nexus);
        id
    }

    /// A nexus begins to see a unit.
    fn view(&mut self, unit: &Arc<LogicalUnit>, identity: &reservation::Nexus) -> View {
        let first = unit.commons.nexus_opened(identity);
        let qualifier = if first { 0x00 } else { 0x07 };
        let attention = Condition::new(SenseKey::UnitAttention, 0x29, qualifier);
        let next = self.channels.len();
        let channel = *self.channel_of.entry(Arc::as_ptr(unit).addr()).or_insert(next);
        if channel == next {
            self.channels.push(Channel::new(unit, unit.commons.attach(&self.mailbox)));
            unit.commons.limiter.tell(&self.mailbox);
        }
        View {
            channel,
            attentions: VecDeque::from([attention]),
            order: Order::default(),
            copies: Rc::default(),
            permits: None,
            media_event: None,
            eject_requested: false,
        }
    }

    /// What a nexus holds of the worker's memory. The transport takes what it needs for the nexus from it,
    /// and gives the data-in of every [`Completed`] back to it.
    pub fn account(&self, id: NexusId) -> Option<Rc<Account>> {
        self.nexuses.get(&id).map(|nexus| Rc::clone(&nexus.account))
    }

    /// The nexus is lost: its tasks end without events of their own, and one [`Event::NexusClosed`]
    /// follows when the last has ended and nothing of them can touch the medium any more.
    pub fn close_nexus(&mut self, id: NexusId) {
        let Some(nexus) = self.nexuses.get_mut(&id) else { return };
        nexus.closing = true;
        let tags: Vec<TaskTag> = self.tasks.iter().filter(|(_, task)| task.nexus == id).map(|(tag, _)| *tag).collect();
        for tag in tags {
            self.give_up(tag, GivenUp::Silently);
        }
        self.close_if_idle(id);
    }

    /// *SCSI Command Received*. Never blocks; the answer is an event.
    pub fn command(&mut self, command: Command) {
        if self.mailbox.is_waiting() {
            self.read_mail();
        }
        let Some(nexus) = self.nexuses.get_mut(&command.nexus).filter(|nexus| !nexus.closing) else { return };
        nexus.tasks += 1;
        nexus.count_tasks();
        let at = nexus.locate(command.lun);
        if let Where::Unit(at) = at {
            let View { channel, order, .. } = &mut nexus.views[at];
            let channel = *channel;
            if order.must_wait(command.attribute) {
                let (tag, ordered) = (command.tag, command.attribute == TaskAttribute::Ordered);
                order.wait(tag, ordered);
                let kind = Kind::Dormant(Box::new(command.clone()));
                return self.begin(&command, (at, channel), kind, Extent::WHOLE, self.now);
            }
        }
        self.execute(command, at, self.now);
    }

    /// *Data-Out Received*: the first `length` bytes of `buffer` are the task's data. The buffer is on the
    /// nexus's account, and taken off it when the lane is done with it; it is returned where the task has
    /// ended meanwhile.
    pub fn data_out(&mut self, tag: TaskTag, buffer: Option<Buf>, length: u32) -> Option<Buf> {
        let Some(task) = self.tasks.get_mut(&tag) else { return buffer };
        let account = self.nexuses.get(&task.nexus).map(|nexus| Rc::clone(&nexus.account));
        match &mut task.kind {
            Kind::AwaitingData { durable, .. } => {
                let durable = *durable;
                task.course.data_has_come(self.now);
                let block = u64::from(self.channels[task.channel].limits.block_length.max(1));
                // Only whole blocks that really came are written (RSP-04: the rest is the residual).
                let whole = (u64::from(length).min(task.extent.length) / block * block) as usize;
                match buffer {
                    Some(buffer) if whole > 0 => {
                        task.kind = Kind::Write { durable, parked: Some((buffer, whole)) };
                        self.start_write(tag);
                        None
                    }
                    buffer => {
                        let wanted = task.extent.length;
                        self.end(tag, Ok(wanted), None);
                        buffer
                    }
                }
            }
            Kind::Long(_) => {
                task.course.data_has_come(self.now);
                let held = buffer.map(|buffer| Held::new(buffer, &self.context.pool));
                // From here on it is the operation's.
                if let (Some(held), Some(account)) = (&held, &account) {
                    held.discharge(account);
                }
                self.answer_data_out(tag, held.and_then(Held::into_buffer), length);
                None
            }
            _ => buffer,
        }
    }

    /// The transport gives the task up. An [`Event::Aborted`] follows once nothing of it can touch
    /// the medium any more.
    pub fn abort(&mut self, tag: TaskTag) {
        self.give_up(tag, GivenUp::Silently);
    }

    /// Starts what waits, hands batches to the stores and takes what they have finished.
    pub fn run(&mut self) {
        if !self.unhurried.is_empty() {
            for tag in std::mem::take(&mut self.unhurried) {
                self.drive(tag);
            }
        }
        for _ in 0..ROUNDS {
            while self.mailbox.is_waiting() {
                self.read_mail();
            }
            self.pass_paced();
            self.start_dormant();
            self.feed();
            let worked = self.turn_stores();
            if !worked && !self.mailbox.is_waiting() && self.stirred.is_empty() {
                if !self.retiring.is_empty() {
                    self.close_channels();
                }
                if self.unhurried.is_empty() {
                    return;
                }
                break;
            }
        }
        (self.context.wake)();
    }

    /// The next thing that the transport must know.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// Tasks that have not ended, those of the units themselves among them.
    pub fn tasks(&self) -> usize {
        self.tasks.len()
    }

    /// Whether nothing is under way, and no letter unread.
    pub(crate) fn is_idle(&self) -> bool {
        self.tasks.is_empty()
            && self.busy.is_empty()
            && self.waits.is_empty()
            && self.events.is_empty()
            && !self.mailbox.is_waiting()
    }

    /// The units of a nexus as it has them.
    pub(crate) fn views_at_rest(&self, id: NexusId) -> Option<(Vec<ViewAtRest>, bool)> {
        let nexus = self.nexuses.get(&id).filter(|nexus| !nexus.closing && nexus.tasks == 0)?;
        let place = self.place(id);
        let of = |(entry, view): (&LunEntry, &View)| ViewAtRest {
            number: entry.number,
            uuid: entry.unit.identity().uuid,
            attentions: view.attentions.iter().copied().collect(),
            media_event: view.media_event.map_or(0, |event| event as u8),
            eject_requested: view.eject_requested,
            prevents: entry.unit.commons.is_prevented_by(place),
        };
        let views = nexus.description.units.entries.iter().zip(&nexus.views).map(of).collect();
        Some((views, nexus.inventory_changed))
    }

    /// What a nexus can see has changed, which was not yet told.
    pub(crate) fn inventory_has_changed(&mut self, id: NexusId) {
        if let Some(nexus) = self.nexuses.get_mut(&id) {
            nexus.inventory_changed = true;
        }
    }

    /// A unit of a nexus that goes on.
    pub(crate) fn revive_view(&mut self, id: NexusId, rest: &ViewAtRest) {
        let place = self.place(id);
        let Some(nexus) = self.nexuses.get_mut(&id) else { return };
        let entries = &nexus.description.units.entries;
        let Some(at) = entries.iter().position(|entry| entry.number == rest.number) else { return };
        let (Some(entry), Some(view)) = (entries.get(at), nexus.views.get_mut(at)) else { return };
        view.attentions = rest.attentions.iter().copied().collect();
        view.media_event = MediaEvent::from_code(rest.media_event);
        view.eject_requested = rest.eject_requested;
        if rest.prevents {
            entry.unit.commons.prevent(place, &nexus.identity, true);
        }
    }

    fn place(&self, nexus: NexusId) -> Place {
        Place { lane: self.mailbox.address(), nexus }
    }

    /// Runs a command whose turn it is, which came then.
    fn execute(&mut self, command: Command, at: Where, began: u64) {
        let place = self.place(command.nexus);
        let Some(nexus) = self.nexuses.get_mut(&command.nexus) else { return };
        let (mut limited, mut place_of) = (false, None);
        if let Where::Unit(at) = at {
            let channel = nexus.views[at].channel;
            // Who cannot open it learns that from its first request; what needs none is answered.
            let _ = self.channels[channel].open(&self.context.engine);
            limited = self.channels[channel].unit.commons.limiter.is_on()
                || nexus.limiter.as_ref().is_some_and(|limiter| limiter.is_on());
            place_of = Some((at, channel));
        }
        let channel = place_of.map(|(_, channel)| channel);
        self.data.clear();
        let mut execution = Execution {
            command: &command,
            cdb: command.cdb.bytes(),
            data: &mut self.data,
            channel: channel.map(|channel| &self.channels[channel]),
            context: &self.context,
            nexus,
            at,
            place,
            exchange: None,
        };
        let outcome = execution.run();
        let exchange = execution.exchange.take();
        let tag = command.tag;
        let standing = || {
            let (view, channel) = place_of.unwrap_or((NOWHERE, NOWHERE));
            let opcode = command.cdb.bytes().first().copied().unwrap_or(0xff);
            Standing { nexus: command.nexus, view, channel, course: Course::new(opcode, began), unmapped: 0 }
        };
        // A write whose initiator waits for data has none to be written; GOOD would acknowledge it (RSP-07).
        let against = matches!(&outcome, Outcome::Write { extent, .. }
            if extent.length > 0 && command.expected_out == 0 && command.expected_in > 0);
        if against {
            // INVALID FIELD IN COMMAND INFORMATION UNIT.
            return self.check(tag, &standing(), Condition::new(SenseKey::IllegalRequest, 0x0e, 0x03));
        }
        let (kind, extent, place_of) = match (outcome, place_of) {
            (Outcome::Read(extent), Some(place)) => (Kind::Read, extent, place),
            (Outcome::ReadStable(extent), Some(place)) => (Kind::FlushBeforeRead, extent, place),
            (Outcome::Write { extent, durable }, Some(place)) => {
                let length = u32::try_from(extent.length).unwrap_or(u32::MAX).min(command.expected_out);
                (Kind::AwaitingData { durable, length }, extent, place)
            }
            (Outcome::Flush, Some(place)) => (Kind::Flush, Extent::NOTHING, place),
            (Outcome::Long(future), Some(place)) => {
                let exchange = exchange.unwrap_or_default();
                let uses = crate::command::uses(command.cdb.bytes());
                let long = LongTask { future, exchange, parked: None, waiting: None, uses };
                (Kind::Long(Box::new(long)), Extent::WHOLE, place)
            }
            (Outcome::Check(condition), _) => return self.check(tag, &standing(), condition),
            (Outcome::Status(status), _) => return self.finish(tag, &standing(), Completed { status, ..good(0) }),
            (Outcome::Data(allocation), _) => {
                let length = self.data.len().min(allocation);
                return self.parameter_data(tag, &standing(), length, command.expected_in);
            }
            // What touches a medium is only found where there is one.
            _ => return self.finish(tag, &standing(), good(0)),
        };
        let first = First::of(&kind);
        let bytes = match &kind {
            Kind::Long(_) => u64::from(command.expected_in.max(command.expected_out)).min(MAXIMUM_TRANSFER_BYTES),
            _ => extent.length,
        };
        self.begin(&command, place_of, kind, extent, began);
        if limited && self.is_paced(&command, place_of.1, bytes) {
            return;
        }
        self.set_off(tag, first);
    }

    /// The first step of a task that has begun.
    fn set_off(&mut self, tag: TaskTag, first: First) {
        match first {
            First::Read => self.start_read(tag),
            First::Flush => self.submit(tag, Operation::Flush, None),
            First::AskForData(length) => {
                let Some(task) = self.tasks.get_mut(&tag) else { return };
                task.course.asked = self.now;
                let nexus = task.nexus;
                self.events.push_back(Event::ReceiveDataOut { nexus, tag, length });
            }
            First::Drive => self.drive(tag),
        }
    }

    fn begin(&mut self, command: &Command, (view, channel): (usize, usize), kind: Kind, extent: Extent, began: u64) {
        let ordered = command.attribute == TaskAttribute::Ordered;
        if !matches!(kind, Kind::Dormant(_))
            && let Some(order) = self.order(command.nexus, view)
        {
            order.begin(ordered);
        }
        self.channels[channel].tally.cells.begin();
        let opcode = command.cdb.bytes().first().copied().unwrap_or(0xff);
        let task = Task {
            nexus: command.nexus,
            view,
            channel,
            kind,
            extent,
            expected_in: command.expected_in,
            ordered,
            given_up: None,
            in_store: false,
            started: false,
            course: Course::new(opcode, began),
        };
        self.tasks.insert(command.tag, task);
    }

    /// Starts the dormant tasks whose turn it is.
    fn start_dormant(&mut self) {
        while let Some((nexus, view)) = self.stirred.pop() {
            while let Some(tag) = self.order(nexus, view).and_then(Order::next) {
                if let Some(Task { kind: Kind::Dormant(command), channel, course, .. }) = self.tasks.remove(&tag) {
                    self.channels[channel].tally.cells.leave();
                    self.execute(*command, Where::Unit(view), course.began);
                }
            }
        }
    }

    fn order(&mut self, nexus: NexusId, view: usize) -> Option<&mut Order> {
        self.nexuses.get_mut(&nexus)?.views.get_mut(view).map(|view| &mut view.order)
    }

    /// The task leaves the lane's books.
    fn remove(&mut self, tag: TaskTag) -> Option<Task> {
        let task = self.tasks.remove(&tag)?;
        if !is_own(tag) {
            self.channels[task.channel].tally.cells.leave();
        }
        if let Some(order) = self.order(task.nexus, task.view) {
            // Those behind a dormant task that was given up may have waited for it alone.
            let stirs = match &task.kind {
                Kind::Dormant(_) => order.forget(tag),
                _ => order.end(task.ordered),
            };
            if stirs {
                self.stirred.push((task.nexus, task.view));
            }
        }
        if let Kind::Long(long) = &task.kind {
            self.scratches -= usize::from(long.exchange.scratch.get());
            self.copies -= usize::from(long.exchange.copying.get());
            if let Some(Answer::Store(completion)) = long.exchange.answer.take() {
                drop(completion.buffer.map(|buffer| Held::new(buffer, &self.context.pool)));
            }
        }
        Some(task)
    }

    /// Tells those who wait for the task's end.
    fn told(&mut self, tag: TaskTag) {
        if !self.waits.is_empty() {
            self.waits.retain_mut(|wait| {
                wait.tags.retain(|waiting| *waiting != tag);
                !wait.tags.is_empty()
            });
        }
    }

    /// The end of a task that had begun.
    fn end(&mut self, tag: TaskTag, result: Result<u64, Condition>, buffer: Option<Buf>) {
        let Some(task) = self.remove(tag) else { return };
        match result {
            Err(condition) => self.check(tag, &task.standing(), condition),
            Ok(wanted) => {
                match task.kind {
                    Kind::Read => self.channels[task.channel].tally.read(wanted),
                    Kind::Write { .. } => self.channels[task.channel].tally.wrote(wanted),
                    _ => {}
                }
                let data_in_length = if buffer.is_some() { wanted.min(u64::from(task.expected_in)) as u32 } else { 0 };
                let outward = buffer.is_none();
                let completed = Completed { data_in: buffer, data_in_length, outward, ..good(wanted) };
                self.finish(tag, &task.standing(), completed);
            }
        }
        self.told(tag);
    }

    /// Ends a task without its own answer. One whose request is in a store ends when that comes back.
    fn give_up(&mut self, tag: TaskTag, how: GivenUp) {
        let Some(task) = self.tasks.get_mut(&tag) else { return };
        // The transport's own abort leaves nothing to answer, whatever another nexus did before.
        if task.given_up.is_none() || how == GivenUp::Silently {
            task.given_up = Some(how);
        }
        if !task.in_store {
            let channel = task.channel;
            self.hungry.retain(|other| *other != tag);
            self.scratch_queue.retain(|other| *other != tag);
            self.copy_queue.retain(|other| *other != tag);
            self.forget_paced(tag);
            self.channels[channel].parked.retain(|other| *other != tag);
            self.end_given_up(tag);
        } else if let Kind::Long(_) = task.kind {
            self.give_up_part(tag);
        }
    }

    pub(super) fn end_given_up(&mut self, tag: TaskTag) {
        if let Some(Task { kind: Kind::Part(_), .. }) = self.tasks.get(&tag) {
            return self.end_part(tag, Answer::Done);
        }
        let Some(mut task) = self.remove(tag) else { return };
        if let Kind::Write { parked, .. } = &mut task.kind
            && let Some((buffer, _)) = parked.take()
        {
            if let Some(nexus) = self.nexuses.get(&task.nexus) {
                nexus.account.discharge(&buffer);
            }
            self.context.pool.give(buffer);
        }
        let id = task.nexus;
        let (how, standing) = (task.given_up, task.standing());
        // A fence of the task falls here, before anybody hears of its end.
        drop(task);
        let closing = self.nexuses.get(&id).is_none_or(|nexus| nexus.closing);
        let answers = !closing && !is_own(tag);
        if let Some(GivenUp::Refused(why)) = how.filter(|_| answers) {
            self.check(tag, &standing, why.condition());
        } else if how == Some(GivenUp::WithStatus) && answers {
            self.finish(tag, &standing, Completed { status: Status::TaskAborted, ..good(0) });
        } else {
            let times = self.count_aborted(tag, &standing);
            if let Some(nexus) = self.nexuses.get_mut(&id) {
                nexus.tasks -= 1;
                nexus.count_tasks();
            }
            if closing {
                self.close_if_idle(id);
            } else if !is_own(tag) {
                self.events.push_back(Event::Aborted { nexus: id, tag, times });
            }
        }
        self.told(tag);
    }

    fn parameter_data(&mut self, tag: TaskTag, standing: &Standing, length: usize, expected: u32) {
        let sent = length.min(expected as usize);
        let mut completed = Completed { outward: false, ..good(length as u64) };
        if sent > 0 {
            // Small, and past the limit: an answer must not wait for the memory of reads.
            match self.context.pool.take_beyond(sent) {
                Some(mut buffer) => {
                    buffer.as_mut_slice()[..sent].copy_from_slice(&self.data[..sent]);
                    if let Some(nexus) = self.nexuses.get(&standing.nexus) {
                        nexus.account.charge(&buffer);
                    }
                    completed.data_in = Some(buffer);
                    completed.data_in_length = sent as u32;
                }
                None => completed.status = Status::Busy,
            }
        }
        self.finish(tag, standing, completed);
    }

    fn check(&mut self, tag: TaskTag, standing: &Standing, condition: Condition) {
        let flags = self.channels.get(standing.channel).map_or(0, |channel| channel.unit.commons.flags());
        let sense = Some(Sense::encode(&condition, flags & crate::commons::flag::DESCRIPTOR_SENSE != 0));
        self.finish(tag, standing, Completed { status: Status::CheckCondition, sense, ..good(0) });
    }

    fn close_if_idle(&mut self, id: NexusId) {
        if self.nexuses.get(&id).is_none_or(|nexus| !nexus.closing || nexus.tasks > 0) {
            return;
        }
        if let Some(nexus) = self.nexuses.remove(&id) {
            self.paced.forget(id);
            for LunEntry { unit, .. } in &nexus.description.units.entries {
                unit.commons.nexus_closed(&nexus.identity, Place { lane: self.mailbox.address(), nexus: id });
                self.leave(unit);
            }
            self.events.push_back(Event::NexusClosed { nexus: id });
        }
    }
}

impl Drop for Lane {
    fn drop(&mut self) {
        let lane = self.mailbox.address();
        for (id, nexus) in self.nexuses.drain() {
            for LunEntry { unit, .. } in &nexus.description.units.entries {
                unit.commons.nexus_closed(&nexus.identity, Place { lane, nexus: id });
            }
        }
    }
}

fn good(transfer_length: u64) -> Completed {
    Completed {
        status: Status::Good,
        sense: None,
        data_in: None,
        data_in_length: 0,
        transfer_length,
        outward: true,
        times: Times::default(),
    }
}

#[cfg(test)]
mod bad_input_tests;
#[cfg(test)]
mod conformance_tests;
#[cfg(test)]
mod copy_storm_tests;
#[cfg(test)]
mod copy_tests;
#[cfg(test)]
mod crowd_tests;
#[cfg(test)]
mod durability_tests;
#[cfg(test)]
mod inform_tests;
#[cfg(test)]
mod live_tests;
#[cfg(test)]
mod optical_tests;
#[cfg(test)]
mod pace_tests;
#[cfg(test)]
mod port_groups_tests;
#[cfg(test)]
mod provisioning_tests;
#[cfg(test)]
mod rig;
#[cfg(test)]
mod sanitize_tests;
#[cfg(test)]
mod shadow_tests;
#[cfg(test)]
mod state_tests;
#[cfg(test)]
mod statistics_tests;
#[cfg(test)]
mod tests;
