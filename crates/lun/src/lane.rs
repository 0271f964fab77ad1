//! The part of the device server that runs on one worker.
//!
//! READ, WRITE and SYNCHRONIZE CACHE are one store request each: found in the table, put into the
//! unit's batch, answered from its completion. Parameter data is made on the spot.

use crate::command::{self, Outcome};
use crate::{
    Cdb, Command, Completed, Event, LogicalUnit, LunEntry, LunMap, NexusDescription, NexusId, TaskAttribute,
    TaskManagementFunction, TaskManagementResponse, TaskTag,
};
use block::{Buf, Completion, Engine, ErrorKind, Limits, Operation, Pool, Request, RequestId, Store, WriteCache};
use scsi::mode::{DeviceParameter, Saving, SenseRequest};
use scsi::{Condition, Sense, SenseKey, Status, inquiry, mode};
use std::collections::{HashMap, VecDeque};
use std::rc::Rc;
use std::sync::Arc;

/// Bytes of the largest transfer of one command (B0h, MAXIMUM TRANSFER LENGTH).
pub const MAXIMUM_TRANSFER_BYTES: u64 = 8 << 20;

/// What a lane is given by its worker.
pub struct LaneContext {
    /// The worker's memory. Data-in buffers come from here; data-out buffers are given back here.
    pub pool: Pool,
    /// The worker's engine, handed to the stores.
    pub engine: Rc<dyn Engine>,
}

struct Nexus {
    description: NexusDescription,
    /// Unit attentions by LUN, oldest first.
    attentions: HashMap<u16, VecDeque<Condition>>,
    tasks: usize,
    closing: bool,
}

struct Channel {
    unit: Arc<LogicalUnit>,
    store: Box<dyn Store>,
    limits: Arc<Limits>,
    batch: Vec<Request>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Read,
    AwaitingData { durable: bool },
    Write,
    Flush,
}

struct Task {
    nexus: NexusId,
    lun: [u8; 8],
    channel: usize,
    kind: Kind,
    offset: u64,
    length: u64,
    expected: u32,
    /// Its end is not to be told as a status any more.
    aborted: bool,
    in_store: bool,
}

struct Function {
    nexus: NexusId,
    id: u64,
    waiting: Vec<TaskTag>,
}

/// One worker's device server. Order of calls: [`Lane::command`] and [`Lane::data_out`] for all
/// that one read of the sockets gave, then [`Lane::run`] once, then [`Lane::poll_event`] until
/// `None`. `run` also whenever the worker is woken.
pub struct Lane {
    context: LaneContext,
    nexuses: HashMap<NexusId, Nexus>,
    next_nexus: u32,
    channels: Vec<Channel>,
    tasks: HashMap<TaskTag, Task>,
    /// Reads that wait for memory.
    hungry: VecDeque<TaskTag>,
    functions: Vec<Function>,
    events: VecDeque<Event>,
    done: Vec<Completion>,
    data: Vec<u8>,
}

impl Lane {
    /// A lane without nexuses.
    pub fn new(context: LaneContext) -> Lane {
        Lane {
            context,
            nexuses: HashMap::new(),
            next_nexus: 1,
            channels: Vec::new(),
            tasks: HashMap::new(),
            hungry: VecDeque::new(),
            functions: Vec::new(),
            events: VecDeque::new(),
            done: Vec::new(),
            data: Vec::new(),
        }
    }

    /// A new nexus. Its units owe it a unit attention: power on or nexus loss (SAM-5 5.14).
    pub fn open_nexus(&mut self, description: NexusDescription) -> NexusId {
        let id = NexusId(self.next_nexus);
        self.next_nexus = self.next_nexus.wrapping_add(1).max(1);
        let power_on = Condition::new(SenseKey::UnitAttention, 0x29, 0x00);
        let attentions =
            description.units.entries.iter().map(|entry| (entry.number, VecDeque::from([power_on]))).collect();
        self.nexuses.insert(id, Nexus { description, attentions, tasks: 0, closing: false });
        id
    }

    /// The nexus is lost: its tasks end without events of their own, and one [`Event::NexusClosed`]
    /// follows when the last has ended and nothing of them can touch the medium any more.
    pub fn close_nexus(&mut self, id: NexusId) {
        let Some(nexus) = self.nexuses.get_mut(&id) else { return };
        nexus.closing = true;
        let tags: Vec<TaskTag> = self.tasks.iter().filter(|(_, task)| task.nexus == id).map(|(tag, _)| *tag).collect();
        for tag in tags {
            self.abort(tag);
        }
        self.close_if_idle(id);
    }

    /// *SCSI Command Received*. Never blocks; the answer is an event.
    pub fn command(&mut self, command: Command) {
        let Some(nexus) = self.nexuses.get_mut(&command.nexus) else { return };
        nexus.tasks += 1;
        let number = lun_number(command.lun);
        let units = Arc::clone(&nexus.description.units);
        let entry = number.and_then(|number| units.entries.iter().find(|entry| entry.number == number));
        let controller = entry.is_none() && number == Some(0);
        let mut execution = Execution {
            cdb: command.cdb.bytes(),
            units: &units,
            data: &mut self.data,
            entry,
            controller,
            channel: None,
            nexus,
            number,
            queued: None,
        };
        execution.data.clear();
        if let Some(entry) = entry {
            match channel_of(&mut self.channels, &entry.unit, &self.context.engine) {
                Ok(at) => execution.channel = Some((at, Arc::clone(&self.channels[at].limits))),
                Err(error) => {
                    let condition = condition_of(&error, Kind::Read, 512);
                    return self.check(command.nexus, command.tag, condition);
                }
            }
        }
        let outcome = execution.run(command.attribute);
        let queued = execution.queued.take();
        let channel = execution.channel.as_ref().map_or(0, |(at, _)| *at);
        let expected = match outcome {
            Outcome::Writing => command.expected_out,
            _ => command.expected_in,
        };
        let begin = |lane: &mut Lane, kind, (offset, length)| {
            let task = Task {
                nexus: command.nexus,
                lun: command.lun,
                channel,
                kind,
                offset,
                length,
                expected,
                aborted: false,
                in_store: false,
            };
            lane.tasks.insert(command.tag, task);
        };
        match (outcome, queued) {
            (Outcome::Reading, Some(Queued::Read(offset, length))) => {
                begin(self, Kind::Read, (offset, length));
                self.start_read(command.tag);
            }
            (Outcome::Writing, Some(Queued::Write(offset, length, durable))) => {
                begin(self, Kind::AwaitingData { durable }, (offset, length));
                let wanted = u32::try_from(length).unwrap_or(u32::MAX).min(command.expected_out);
                self.events.push_back(Event::ReceiveDataOut { nexus: command.nexus, tag: command.tag, length: wanted });
            }
            (Outcome::Flushing, _) => {
                begin(self, Kind::Flush, (0, 0));
                self.submit(command.tag, Operation::Flush, None);
            }
            (Outcome::Check(condition), _) => self.check(command.nexus, command.tag, condition),
            (Outcome::Data(allocation), _) => {
                let length = self.data.len().min(allocation);
                self.parameter_data(command.nexus, command.tag, length, command.expected_in);
            }
            _ => self.finish(command.nexus, command.tag, good(0)),
        }
    }

    /// *Data-Out Received*: the first `length` bytes of `buffer` are the task's data.
    pub fn data_out(&mut self, tag: TaskTag, buffer: Option<Buf>, length: u32) {
        let Some(task) = self.tasks.get_mut(&tag) else {
            if let Some(buffer) = buffer {
                self.context.pool.give(buffer);
            }
            return;
        };
        let Kind::AwaitingData { durable } = task.kind else { return };
        task.kind = Kind::Write;
        let block = u64::from(self.channels[task.channel].limits.block_length);
        // Only whole blocks that really came are written (RSP-04: the rest is the residual).
        let whole = u64::from(length).min(task.length) / block * block;
        match buffer {
            Some(buffer) if whole > 0 && !task.aborted => {
                task.length = task.length.max(whole);
                let data = 0..whole as usize;
                self.submit(tag, Operation::Write { durable }, Some((buffer, data)));
            }
            buffer => {
                if let Some(buffer) = buffer {
                    self.context.pool.give(buffer);
                }
                let wanted = task.length;
                self.end(tag, Ok(wanted), None);
            }
        }
    }

    /// The transport gives the task up. An [`Event::Aborted`] follows once nothing of it can touch
    /// the medium any more.
    pub fn abort(&mut self, tag: TaskTag) {
        let Some(task) = self.tasks.get_mut(&tag) else { return };
        task.aborted = true;
        if !task.in_store {
            self.hungry.retain(|hungry| *hungry != tag);
            self.end(tag, Ok(0), None);
        }
    }

    /// A task management function; ends with [`Event::TaskManagementDone`] of the same `id`.
    pub fn task_management(&mut self, nexus: NexusId, id: u64, lun: [u8; 8], function: TaskManagementFunction) {
        use TaskManagementFunction as F;
        use TaskManagementResponse as R;
        let units = self.nexuses.get(&nexus).map(|nexus| Arc::clone(&nexus.description.units)).unwrap_or_default();
        let number = lun_number(lun);
        let unit = units.entries.iter().find(|entry| Some(entry.number) == number).map(|entry| &entry.unit);
        let done = |lane: &mut Lane, response| {
            lane.events.push_back(Event::TaskManagementDone { nexus, id, response });
        };
        let same_unit =
            |lane: &Lane, task: &Task, unit: &Arc<LogicalUnit>| Arc::ptr_eq(&lane.channels[task.channel].unit, unit);
        let reachable = |lane: &Lane, task: &Task| units.entries.iter().any(|entry| same_unit(lane, task, &entry.unit));
        let missing = unit.is_none() && number != Some(0);
        let affected: Vec<TaskTag> = match function {
            F::AbortTask { tag } => self.tasks.contains_key(&tag).then_some(tag).into_iter().collect(),
            F::AbortTaskSet | F::ClearTaskSet | F::LogicalUnitReset if missing => {
                return done(self, R::IncorrectLogicalUnitNumber);
            }
            F::AbortTaskSet => self.select(|_, task| task.nexus == nexus && task.lun == lun),
            F::ClearTaskSet | F::LogicalUnitReset => {
                self.select(|lane, task| unit.is_some_and(|unit| same_unit(lane, task, unit)))
            }
            F::TargetReset => self.select(|lane, task| reachable(lane, task)),
            F::ClearAca => return done(self, R::FunctionRejected),
            F::QueryTask { tag } => {
                let found = self.tasks.contains_key(&tag);
                return done(self, if found { R::FunctionSucceeded([0; 3]) } else { R::FunctionComplete });
            }
            F::QueryTaskSet => {
                let found = self.tasks.values().any(|task| task.nexus == nexus && task.lun == lun);
                return done(self, if found { R::FunctionSucceeded([0; 3]) } else { R::FunctionComplete });
            }
            F::QueryAsynchronousEvent => {
                let pending = self.nexuses.get(&nexus).and_then(|nexus| {
                    let condition = nexus.attentions.get(&number?)?.front()?;
                    Some([0x06, condition.code.0, condition.code.1])
                });
                return done(self, pending.map_or(R::FunctionComplete, R::FunctionSucceeded));
            }
        };
        let reset = match function {
            F::LogicalUnitReset => Some(0x03),
            F::TargetReset => Some(0x02),
            _ => None,
        };
        if let Some(qualifier) = reset {
            let condition = Condition::new(SenseKey::UnitAttention, 0x29, qualifier);
            let hit = |entry: &LunEntry| match (reset, unit) {
                (Some(0x03), Some(unit)) => Arc::ptr_eq(&entry.unit, unit),
                _ => units.entries.iter().any(|mine| Arc::ptr_eq(&mine.unit, &entry.unit)),
            };
            for other in self.nexuses.values_mut() {
                let map = Arc::clone(&other.description.units);
                for entry in map.entries.iter().filter(|entry| hit(entry)) {
                    other.attentions.entry(entry.number).or_default().push_front(condition);
                }
            }
        } else if function == F::ClearTaskSet
            && let Some(unit) = unit
        {
            // COMMANDS CLEARED BY ANOTHER INITIATOR (SAM-5 5.14).
            let condition = Condition::new(SenseKey::UnitAttention, 0x2f, 0x00);
            let others: Vec<NexusId> = affected.iter().filter_map(|tag| Some(self.tasks.get(tag)?.nexus)).collect();
            for other in others.into_iter().filter(|other| *other != nexus) {
                if let Some(other) = self.nexuses.get_mut(&other) {
                    let map = Arc::clone(&other.description.units);
                    for entry in map.entries.iter().filter(|entry| Arc::ptr_eq(&entry.unit, unit)) {
                        let queue = other.attentions.entry(entry.number).or_default();
                        if !queue.contains(&condition) {
                            queue.push_back(condition);
                        }
                    }
                }
            }
        }
        self.functions.push(Function { nexus, id, waiting: affected.clone() });
        for tag in affected {
            self.abort(tag);
        }
        self.functions_proceed();
    }

    /// Submits what was gathered to the stores and takes what they completed.
    pub fn run(&mut self) {
        loop {
            for at in 0..self.channels.len() {
                let channel = &mut self.channels[at];
                if !channel.batch.is_empty() {
                    channel.store.submit(&mut channel.batch, &mut self.done);
                }
                if channel.store.in_flight() > 0 {
                    channel.store.poll(&mut self.done);
                }
            }
            self.context.engine.flush();
            let mut done = std::mem::take(&mut self.done);
            for completion in done.drain(..) {
                self.completed(completion);
            }
            self.done = done;
            let Some(tag) = self.hungry.pop_front() else { break };
            let waiting = self.hungry.len();
            self.start_read(tag);
            if self.hungry.len() > waiting {
                break;
            }
        }
    }

    /// The next thing that the transport must know.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// Tasks that have not ended.
    pub fn tasks(&self) -> usize {
        self.tasks.len()
    }

    fn select(&self, wanted: impl Fn(&Lane, &Task) -> bool) -> Vec<TaskTag> {
        self.tasks.iter().filter(|(_, task)| wanted(self, task)).map(|(tag, _)| *tag).collect()
    }

    fn start_read(&mut self, tag: TaskTag) {
        let Some(task) = self.tasks.get(&tag) else { return };
        match self.context.pool.take(task.length as usize) {
            Some(buffer) => {
                let data = 0..task.length as usize;
                self.submit(tag, Operation::Read, Some((buffer, data)));
            }
            None => self.hungry.push_back(tag),
        }
    }

    fn submit(&mut self, tag: TaskTag, operation: Operation, memory: Option<(Buf, std::ops::Range<usize>)>) {
        let Some(task) = self.tasks.get_mut(&tag) else { return };
        task.in_store = true;
        let id = RequestId(tag.0);
        let request = match memory {
            Some((buffer, data)) => Request::with_data(id, operation, task.offset, buffer, data),
            None => Request::over(id, operation, 0, 0),
        };
        self.channels[task.channel].batch.push(request);
    }

    fn completed(&mut self, completion: Completion) {
        let tag = TaskTag(completion.id.0);
        let Some(task) = self.tasks.get_mut(&tag) else { return };
        task.in_store = false;
        let wanted = if task.kind == Kind::Flush { 0 } else { task.length };
        let mut buffer = completion.buffer;
        let useless = task.kind != Kind::Read || task.aborted || completion.result.is_err();
        if useless && let Some(buffer) = buffer.take() {
            self.context.pool.give(buffer);
        }
        let (kind, block) = (task.kind, self.channels[task.channel].limits.block_length);
        let result = match completion.result {
            Ok(_) => Ok(wanted),
            Err(error) => Err(condition_of(&error, kind, block)),
        };
        self.end(tag, result, buffer);
    }

    /// The end of a task that had begun.
    fn end(&mut self, tag: TaskTag, result: Result<u64, Condition>, buffer: Option<Buf>) {
        let Some(task) = self.tasks.remove(&tag) else { return };
        let nexus = task.nexus;
        if task.aborted {
            let closing = self.nexuses.get_mut(&nexus).is_some_and(|nexus| {
                nexus.tasks -= 1;
                nexus.closing
            });
            if closing {
                self.close_if_idle(nexus);
            } else {
                self.events.push_back(Event::Aborted { nexus, tag });
            }
            for function in &mut self.functions {
                function.waiting.retain(|waiting| *waiting != tag);
            }
            self.functions_proceed();
            return;
        }
        match result {
            Err(condition) => self.check(nexus, tag, condition),
            Ok(wanted) => {
                let data_in_length = if buffer.is_some() { wanted.min(u64::from(task.expected)) as u32 } else { 0 };
                let completed = Completed { data_in: buffer, data_in_length, ..good(wanted) };
                self.finish(nexus, tag, completed);
            }
        }
    }

    fn parameter_data(&mut self, nexus: NexusId, tag: TaskTag, length: usize, expected: u32) {
        let sent = length.min(expected as usize);
        let mut completed = good(length as u64);
        if sent > 0 {
            // Small, and past the limit: an answer must not wait for the memory of reads.
            match self.context.pool.take_beyond(sent) {
                Some(mut buffer) => {
                    buffer.as_mut_slice()[..sent].copy_from_slice(&self.data[..sent]);
                    completed.data_in = Some(buffer);
                    completed.data_in_length = sent as u32;
                }
                None => completed.status = Status::Busy,
            }
        }
        self.finish(nexus, tag, completed);
    }

    fn check(&mut self, nexus: NexusId, tag: TaskTag, condition: Condition) {
        let sense = Some(Sense::fixed(&condition));
        self.finish(nexus, tag, Completed { status: Status::CheckCondition, sense, ..good(0) });
    }

    fn finish(&mut self, nexus: NexusId, tag: TaskTag, completed: Completed) {
        if let Some(nexus) = self.nexuses.get_mut(&nexus) {
            nexus.tasks -= 1;
        }
        self.events.push_back(Event::Completed { nexus, tag, completed });
    }

    fn functions_proceed(&mut self) {
        while let Some(at) = self.functions.iter().position(|function| function.waiting.is_empty()) {
            let Function { nexus, id, .. } = self.functions.swap_remove(at);
            let response = TaskManagementResponse::FunctionComplete;
            self.events.push_back(Event::TaskManagementDone { nexus, id, response });
        }
    }

    fn close_if_idle(&mut self, id: NexusId) {
        if self.nexuses.get(&id).is_some_and(|nexus| nexus.closing && nexus.tasks == 0) {
            self.nexuses.remove(&id);
            self.events.push_back(Event::NexusClosed { nexus: id });
        }
    }
}

fn good(transfer_length: u64) -> Completed {
    Completed { status: Status::Good, sense: None, data_in: None, data_in_length: 0, transfer_length }
}

/// The number of a single-level LUN, by peripheral device or flat space addressing (SAM-5 4.7.7).
fn lun_number(lun: [u8; 8]) -> Option<u16> {
    let [first, second, rest @ ..] = lun;
    if rest != [0; 6] {
        return None;
    }
    match first >> 6 {
        0 if first == 0 => Some(u16::from(second)),
        1 => Some(u16::from_be_bytes([first & 0x3f, second])),
        _ => None,
    }
}

fn channel_of(
    channels: &mut Vec<Channel>,
    unit: &Arc<LogicalUnit>,
    engine: &Rc<dyn Engine>,
) -> Result<usize, block::Error> {
    if let Some(at) = channels.iter().position(|channel| Arc::ptr_eq(&channel.unit, unit)) {
        return Ok(at);
    }
    let store = unit.backend().open(engine)?;
    let limits = unit.backend().limits();
    channels.push(Channel { unit: Arc::clone(unit), store, limits, batch: Vec::new() });
    Ok(channels.len() - 1)
}

/// What a store's failure is in sense data (SBC-07).
fn condition_of(error: &block::Error, kind: Kind, block_length: u32) -> Condition {
    let write = kind != Kind::Read;
    let condition = match error.kind {
        ErrorKind::NoSpace => Condition::new(SenseKey::DataProtect, 0x27, 0x07),
        ErrorKind::ReadOnly => Condition::new(SenseKey::DataProtect, 0x27, 0x00),
        ErrorKind::Gone => Condition::new(SenseKey::HardwareError, 0x3e, 0x01),
        ErrorKind::OutOfRange => Condition::new(SenseKey::MediumError, if write { 0x0c } else { 0x11 }, 0x00),
        ErrorKind::Unsupported => Condition::new(SenseKey::IllegalRequest, 0x20, 0x00),
        ErrorKind::Aborted | ErrorKind::Busy => Condition::new(SenseKey::AbortedCommand, 0x00, 0x00),
        _ if write => Condition::new(SenseKey::MediumError, 0x0c, 0x00),
        _ => Condition::new(SenseKey::MediumError, 0x11, 0x00),
    };
    match error.offset {
        Some(offset) => condition.with_information(offset / u64::from(block_length.max(1))),
        None => condition,
    }
}

enum Queued {
    Read(u64, u64),
    Write(u64, u64, bool),
    Flush,
}

/// A command at a handler: what it may look at, and what it may ask for.
pub(crate) struct Execution<'a> {
    pub cdb: &'a [u8],
    pub units: &'a LunMap,
    /// Parameter data.
    pub data: &'a mut Vec<u8>,
    entry: Option<&'a LunEntry>,
    controller: bool,
    channel: Option<(usize, Arc<Limits>)>,
    nexus: &'a mut Nexus,
    number: Option<u16>,
    queued: Option<Queued>,
}

impl Execution<'_> {
    fn run(&mut self, attribute: TaskAttribute) -> Outcome {
        let row = match command::find(self.cdb) {
            Ok(row) => row,
            Err(_) if self.is_absent() && !matches!(self.cdb.first(), Some(0x03 | 0x12 | 0xa0)) => {
                return Outcome::Check(Condition::new(SenseKey::IllegalRequest, 0x25, 0x00));
            }
            Err(condition) => return Outcome::Check(condition),
        };
        if self.is_absent() && !row.ignores_attention {
            return Outcome::Check(Condition::new(SenseKey::IllegalRequest, 0x25, 0x00));
        }
        if self.controller && !row.for_controller {
            return Outcome::Check(Condition::new(SenseKey::IllegalRequest, 0x20, 0x00));
        }
        if attribute == TaskAttribute::Aca {
            return Outcome::Check(Condition::new(SenseKey::IllegalRequest, 0x24, 0x00));
        }
        if !row.ignores_attention
            && let Some(condition) = self.take_attention()
        {
            return Outcome::Check(condition);
        }
        if row.writes && self.write_protected() {
            return Outcome::Check(Condition::new(SenseKey::DataProtect, 0x27, 0x00));
        }
        (row.run)(self)
    }

    /// Whether nothing answers at this LUN.
    pub fn is_absent(&self) -> bool {
        self.entry.is_none() && !self.controller
    }

    /// Whether this is LUN 0 without a disk.
    pub fn is_controller(&self) -> bool {
        self.controller
    }

    /// The oldest pending unit attention, which is told now.
    pub fn take_attention(&mut self) -> Option<Condition> {
        self.nexus.attentions.get_mut(&self.number?)?.pop_front()
    }

    /// The unit's limits; those of an empty disk where there is none.
    pub fn limits(&self) -> &Limits {
        const NONE: &Limits = &Limits {
            block_length: 512,
            blocks: 0,
            physical_block_length: 512,
            lowest_aligned_block: 0,
            optimal_transfer_length: 0,
            unmap: None,
            write_cache: WriteCache::None,
            read_only: true,
            rotation: block::Rotation::NotReported,
            copies: false,
        };
        self.channel.as_ref().map_or(NONE, |(_, limits)| limits)
    }

    /// MAXIMUM TRANSFER LENGTH in blocks.
    pub fn maximum_transfer(&self) -> u64 {
        MAXIMUM_TRANSFER_BYTES / u64::from(self.limits().block_length.max(1))
    }

    /// Asks for a read.
    pub fn queue_read(&mut self, block: u64, blocks: u64) {
        let length = u64::from(self.limits().block_length);
        self.queued = Some(Queued::Read(block * length, blocks * length));
    }

    /// Asks for data to be written.
    pub fn await_write(&mut self, block: u64, blocks: u64, durable: bool) {
        let length = u64::from(self.limits().block_length);
        self.queued = Some(Queued::Write(block * length, blocks * length, durable));
    }

    /// Asks for a flush.
    pub fn queue_flush(&mut self) {
        self.queued = Some(Queued::Flush);
    }

    /// Answers MODE SENSE.
    pub fn mode_sense(&mut self, request: SenseRequest, allocation: usize) -> Outcome {
        let volatile_cache = self.limits().write_cache == WriteCache::Volatile;
        let values = mode::Values::new(mode::Facts { volatile_cache, thresholds: false });
        let device = DeviceParameter { write_protected: self.write_protected(), dpo_fua: true };
        match values.sense(request, device, Saving::Unsupported, self.data) {
            Ok(true) => Outcome::Data(allocation),
            Ok(false) => Outcome::Check(Condition::new(SenseKey::IllegalRequest, 0x39, 0x00)),
            Err(refusal) => {
                let (code, qualifier) = refusal.code();
                Outcome::Check(Condition::new(SenseKey::IllegalRequest, code, qualifier))
            }
        }
    }

    /// Calls with the unit's facts for INQUIRY, where there is a unit.
    pub fn with_facts<T>(&self, with: impl FnOnce(&inquiry::Facts<'_>) -> T) -> Option<T> {
        let (entry, limits) = (self.entry?, self.limits());
        let identity = entry.unit.identity();
        let port = &self.nexus.description.target_port;
        let ports = [inquiry::Port {
            target_name: &port.target_name,
            portal_group_tag: port.portal_group_tag,
            relative_identifier: port.relative_identifier,
            target_port_group: 1,
        }];
        let block = limits.block_length.max(1);
        Some(with(&inquiry::Facts {
            uuid: identity.uuid,
            vendor: &identity.vendor,
            product: &identity.product,
            revision: &identity.revision,
            serial: &identity.serial,
            removable: entry.unit.options().removable,
            rotation: match limits.rotation {
                block::Rotation::NotReported => inquiry::Rotation::NotReported,
                block::Rotation::NonRotating => inquiry::Rotation::NonRotating,
                block::Rotation::Rate(rate) => inquiry::Rotation::Rate(rate),
            },
            volatile_cache: limits.write_cache == WriteCache::Volatile,
            limits: inquiry::BlockLimits {
                optimal_granularity: (limits.physical_block_length / block) as u16,
                maximum_transfer: self.maximum_transfer() as u32,
                optimal_transfer: limits.optimal_transfer_length / block,
                ..inquiry::BlockLimits::default()
            },
            // UNMAP is not a row of the table yet, so that nothing may promise it.
            unmap: None,
            third_party_copy: None,
            target_port_groups: inquiry::TargetPortGroupSupport::None,
            ports: &ports,
            this_port: port.relative_identifier,
            protocol_level: 1,
        }))
    }

    fn write_protected(&self) -> bool {
        self.entry.is_some_and(|entry| entry.read_only || entry.unit.options().read_only) || self.limits().read_only
    }
}

/// The CDB of a test or an initiator, from its bytes.
impl From<&[u8]> for Cdb {
    fn from(bytes: &[u8]) -> Cdb {
        if bytes.len() > 16 {
            return Cdb::Long(bytes.into());
        }
        let mut short = [0; 16];
        short[..bytes.len()].copy_from_slice(bytes);
        Cdb::Short(short)
    }
}

#[cfg(test)]
mod tests;
