//! One connection at the target: bytes into the login or the session, and out of them.
//!
//! It does what `io::link` and `target` do around the same cores, in the plainest way, so that what a
//! test finds is theirs. What leaves is read from the tasks' memory at the moment in which it leaves,
//! as a socket would.

use super::{Setup, World};
use crate::frame::crc32c;
use block::{Buf, Pool};
use iscsi::auth::Rules;
use iscsi::key::SessionParameters;
use iscsi::login::Status;
use iscsi::login::target::{Asked, Failure, Found, LoggedIn, Login, Policy, Step};
use iscsi::session::{
    ConnectionId, DataOutFault, Digest, Event, Incoming, Place, Response, Segment, Session, SessionKind, TaskId,
    TxBatch, task_management_response as code,
};
use iscsi::wire::BHS_BYTES;
use lun::{Cdb, Command, NexusId, TaskAttribute, TaskManagementFunction, TaskManagementResponse, TaskTag};
use scsi::{Condition, Sense, SenseKey};
use std::collections::{HashMap, VecDeque};
use std::time::Instant;

/// How far a connection is.
#[derive(Default)]
enum Stage {
    Login(Box<Login>),
    FullFeature(Box<Running>),
    #[default]
    Closed,
}

/// Where the stream stands.
enum Reading {
    Header,
    Data { incoming: Incoming, done: u32, bytes: Vec<u8> },
}

/// What the transport holds for a task.
#[derive(Default)]
struct Slot {
    buffer: Option<Buf>,
    in_lane: bool,
    fault: Option<DataOutFault>,
    wanted: u32,
}

struct Running {
    session: Session,
    c: ConnectionId,
    nexus: Option<NexusId>,
    reading: Reading,
    slots: HashMap<TaskId, Slot>,
    batch: Option<Leaving>,
    /// The connection is lost; the nexus is being closed.
    lost: bool,
    closing_nexus: bool,
}

/// A batch on its way out.
struct Leaving {
    batch: TxBatch,
    next: usize,
}

/// One connection at the target.
#[derive(Default)]
pub(super) struct Endpoint {
    stage: Stage,
    input: Vec<u8>,
    output: VecDeque<u8>,
    lost: bool,
}

/// What the target says at a login.
struct Admission<'a> {
    next_tsih: &'a mut u16,
    setup: &'a mut Setup,
}

impl Policy for Admission<'_> {
    fn portal_group_tag(&self) -> u16 {
        1
    }

    fn authentication(&mut self, _: &Asked) -> Result<Option<Rules>, Failure> {
        if let Some(rules) = &mut self.setup.rules {
            rules.challenge.identifier = rules.challenge.identifier.wrapping_add(1);
            rules.challenge.bytes[0] = rules.challenge.identifier;
        }
        Ok(self.setup.rules.clone())
    }

    fn find(&mut self, asked: &Asked) -> Result<Found, Failure> {
        match asked.target_name.as_deref() {
            None | Some(crate::daemon::TARGET) => Ok(Found { alias: self.setup.alias.clone(), ..Found::default() }),
            Some(_) => Err(Status::NOT_FOUND.into()),
        }
    }

    fn admit(&mut self, asked: &Asked, _: &SessionParameters) -> Result<u16, Failure> {
        if asked.tsih != 0 {
            return Err(Status::SESSION_DOES_NOT_EXIST.into());
        }
        let tsih = *self.next_tsih;
        *self.next_tsih = tsih.wrapping_add(1).max(1);
        Ok(tsih)
    }
}

impl Endpoint {
    pub fn new(setup: &Setup) -> Endpoint {
        let login = Login::new(setup.offers.clone(), setup.login);
        Endpoint { stage: Stage::Login(Box::new(login)), ..Endpoint::default() }
    }

    pub fn nexus(&self) -> Option<NexusId> {
        match &self.stage {
            Stage::FullFeature(running) => running.nexus,
            _ => None,
        }
    }

    /// Nothing more comes from it, nothing more goes to it.
    pub fn is_closed(&self) -> bool {
        self.lost || matches!(self.stage, Stage::Closed) && self.output.is_empty()
    }

    /// A lost connection's session has ended with everything that it had begun.
    pub fn is_settled(&self) -> bool {
        !self.lost || matches!(self.stage, Stage::Closed)
    }

    pub fn lose(&mut self) {
        self.lost = true;
        self.input.clear();
        self.output.clear();
    }

    pub fn receive(&mut self, bytes: &[u8]) {
        if !self.lost {
            self.input.extend_from_slice(bytes);
        }
    }

    pub fn tick(&mut self, now: Instant) {
        if let Stage::FullFeature(running) = &mut self.stage
            && running.session.handle_timeout(now).is_some()
        {
            self.lose();
        }
    }

    /// Bytes for the initiator.
    pub fn transmit(&mut self, into: &mut [u8]) -> usize {
        if self.lost {
            return 0;
        }
        if self.output.is_empty()
            && let Stage::FullFeature(running) = &mut self.stage
        {
            running.refill(&mut self.output);
        }
        let count = into.len().min(self.output.len());
        for (place, byte) in into.iter_mut().zip(self.output.drain(..count)) {
            *place = byte;
        }
        count
    }

    /// One turn. True: something happened.
    pub fn work(&mut self, world: &mut World) -> bool {
        if self.lost {
            return self.die(world);
        }
        let before = self.input.len();
        match &mut self.stage {
            Stage::Closed => return false,
            Stage::Login(login) => {
                let Some(first) = self.input.first_chunk::<BHS_BYTES>() else { return false };
                let Ok(length) = login.data_bytes(first) else {
                    self.stage = Stage::Closed;
                    return true;
                };
                let Some(data) = self.input.get(BHS_BYTES..BHS_BYTES + length) else { return false };
                let mut out = Vec::new();
                let step = login.handle(
                    first,
                    data,
                    &mut Admission { next_tsih: &mut world.next_tsih, setup: &mut world.setup },
                    &mut out,
                );
                self.input.drain(..BHS_BYTES + length);
                self.output.extend(out);
                match step {
                    Step::More => {}
                    Step::Failed(_) => self.stage = Stage::Closed,
                    Step::Done(logged_in) => self.stage = Stage::FullFeature(Box::new(Running::new(world, *logged_in))),
                }
                return true;
            }
            Stage::FullFeature(running) => {
                if running.session.wants_close(running.c) {
                    // What is in the batch, and what the batch after it holds, still leaves.
                    if self.output.is_empty() && !running.refill(&mut self.output) {
                        self.lost = true;
                        return true;
                    }
                } else if running.parse(&mut self.input, &world.pool, world.now).is_err() {
                    self.lost = true;
                    return true;
                }
                let told = running.events(world);
                if told {
                    return true;
                }
            }
        }
        self.input.len() != before
    }

    fn die(&mut self, world: &mut World) -> bool {
        let Stage::FullFeature(running) = &mut self.stage else {
            let was = !matches!(self.stage, Stage::Closed);
            self.stage = Stage::Closed;
            return was;
        };
        if !running.lost {
            running.lost = true;
            running.session.handle_closed(running.c, world.now);
            running.batch = None;
            match running.nexus {
                None => self.stage = Stage::Closed,
                Some(nexus) => {
                    running.closing_nexus = true;
                    world.lane.close_nexus(nexus);
                }
            }
            return true;
        }
        if running.closing_nexus {
            return false;
        }
        for (_, slot) in running.slots.drain() {
            if let Some(buffer) = slot.buffer {
                world.pool.give(buffer);
            }
        }
        self.stage = Stage::Closed;
        true
    }

    pub fn lane_event(&mut self, pool: &Pool, event: lun::Event) {
        if let Stage::FullFeature(running) = &mut self.stage {
            running.lane_event(pool, event);
        }
    }
}

impl Running {
    fn new(world: &mut World, logged_in: LoggedIn) -> Running {
        let asked = &logged_in.asked;
        let level = logged_in.session.protocol_level as u8;
        let open = |world: &mut World| world.open_nexus(&asked.initiator_name, asked.isid, level);
        let nexus = (asked.kind == SessionKind::Normal).then(|| open(world));
        let (session, c) = Session::new(
            asked.kind,
            logged_in.session,
            world.setup.limits.clone(),
            logged_in.exp_cmd_sn,
            logged_in.opening,
            world.now,
        );
        Running {
            session,
            c,
            nexus,
            reading: Reading::Header,
            slots: HashMap::new(),
            batch: None,
            lost: false,
            closing_nexus: false,
        }
    }

    /// Parses what is there. An error ends the connection.
    fn parse(&mut self, input: &mut Vec<u8>, pool: &Pool, now: Instant) -> Result<(), ()> {
        loop {
            match &mut self.reading {
                Reading::Header => {
                    let Some(first) = input.first_chunk::<BHS_BYTES>() else { return Ok(()) };
                    let total = self.session.header_bytes(self.c, first);
                    let plain = BHS_BYTES + usize::from(first[4]) * 4;
                    let Some(whole) = input.get(..total) else { return Ok(()) };
                    let (header, digest) = whole.split_at(plain);
                    let digest_ok = digest.is_empty() || digest == crc32c(header).to_le_bytes();
                    let incoming = self.session.handle_header(now, self.c, header, digest_ok).map_err(drop)?;
                    input.drain(..total);
                    if incoming.length > 0 {
                        self.reading = Reading::Data { incoming, done: 0, bytes: Vec::new() };
                    }
                }
                Reading::Data { incoming, done, bytes } if *done < incoming.length => {
                    let count = input.len().min((incoming.length - *done) as usize);
                    if count == 0 {
                        return Ok(());
                    }
                    let chunk: Vec<u8> = input.drain(..count).collect();
                    bytes.extend_from_slice(&chunk);
                    let (place, at) = (incoming.place, *done);
                    *done += count as u32;
                    match place {
                        Place::Task { task, offset } => self.store(pool, task, offset + at, &chunk),
                        Place::Arena => self.session.collect(self.c, &chunk),
                        Place::Discard => {}
                    }
                }
                Reading::Data { incoming, bytes, .. } => {
                    let pad = incoming.padding as usize;
                    let Some(trailer) = input.get(..pad + if incoming.digest { 4 } else { 0 }) else { return Ok(()) };
                    let (padding, digest) = trailer.split_at(pad);
                    bytes.extend_from_slice(padding);
                    let digest_ok = digest.is_empty() || digest == crc32c(bytes).to_le_bytes();
                    let used = trailer.len();
                    input.drain(..used);
                    self.reading = Reading::Header;
                    self.session.handle_data_end(self.c, digest_ok).map_err(drop)?;
                }
            }
        }
    }

    fn store(&mut self, pool: &Pool, task: TaskId, offset: u32, bytes: &[u8]) {
        if self.session.task(task).is_none() {
            return;
        }
        let end = offset as usize + bytes.len();
        if end as u64 > lun::MAXIMUM_TRANSFER_BYTES {
            return;
        }
        // No more than what came: a hostile initiator announces more than there is memory for.
        self.reserve(pool, task, end);
        if let Some(place) = self
            .slots
            .get_mut(&task)
            .and_then(|slot| slot.buffer.as_mut())
            .and_then(|buffer| buffer.as_mut_slice().get_mut(offset as usize..end))
        {
            place.copy_from_slice(bytes);
        }
    }

    fn reserve(&mut self, pool: &Pool, task: TaskId, length: usize) {
        let slot = self.slots.entry(task).or_default();
        let capacity = slot.buffer.as_ref().map_or(0, Buf::capacity);
        if capacity >= length && slot.buffer.is_some() {
            return;
        }
        let mut larger = pool.take(length).expect("the simulated target has memory enough");
        if let Some(old) = slot.buffer.take() {
            larger.as_mut_slice()[..capacity].copy_from_slice(old.as_slice());
            pool.give(old);
        }
        slot.buffer = Some(larger);
    }

    fn give(&mut self, pool: &Pool, task: TaskId) {
        if let Some(buffer) = self.slots.remove(&task).and_then(|slot| slot.buffer) {
            pool.give(buffer);
        }
    }

    fn tag(&self, task: TaskId) -> TaskTag {
        let nexus = self.nexus.map_or(0, |nexus| u64::from(nexus.0));
        let (slot, generation) = (task.number() & 0xffff, task.number() >> 32 & 0xff_ffff);
        TaskTag(nexus << 40 | generation << 16 | slot)
    }

    fn task_of(&self, tag: TaskTag) -> Option<TaskId> {
        self.slots.keys().copied().find(|task| self.tag(*task) == tag)
    }

    /// What the session has to say. True: something.
    fn events(&mut self, world: &mut World) -> bool {
        let mut told = false;
        while let Some(event) = self.session.poll_event() {
            told = true;
            match event {
                Event::Command(id) => self.command(world, id),
                Event::DataOut(id) => {
                    let slot = self.slots.entry(id).or_default();
                    let (buffer, length) = (slot.buffer.take(), slot.wanted);
                    if let Some(unwanted) = world.lane.data_out(self.tag(id), buffer, length) {
                        world.pool.give(unwanted);
                    }
                }
                Event::DataOutFault(id, fault) => {
                    let slot = self.slots.entry(id).or_default();
                    if slot.in_lane {
                        slot.fault = Some(fault);
                        world.lane.abort(self.tag(id));
                    } else {
                        self.session.complete(id, faulted(fault));
                    }
                }
                Event::Abort(id) => {
                    if self.slots.entry(id).or_default().in_lane {
                        world.lane.abort(self.tag(id));
                    } else {
                        self.session.end_task(id);
                    }
                }
                Event::Ended(id) => self.give(&world.pool, id),
                Event::TaskManagement { id, function, lun, .. } => {
                    let function = match function {
                        2 => TaskManagementFunction::AbortTaskSet,
                        3 => TaskManagementFunction::ClearAca,
                        4 => TaskManagementFunction::ClearTaskSet,
                        5 => TaskManagementFunction::LogicalUnitReset,
                        10 => TaskManagementFunction::QueryTaskSet,
                        12 => TaskManagementFunction::QueryAsynchronousEvent,
                        _ => TaskManagementFunction::TargetReset,
                    };
                    if let Some(nexus) = self.nexus {
                        world.lane.task_management(nexus, u64::from(id), lun, function);
                    }
                }
                Event::SendTargets { connection, value } => {
                    let known = value == "All" || value.is_empty() || value == crate::daemon::TARGET;
                    let text = if known { world.targets.as_slice() } else { &[] };
                    self.session.answer_text(connection, text);
                }
                Event::LoggedOut { .. } | Event::CommandsCleared { .. } => {}
            }
        }
        told
    }

    fn command(&mut self, world: &mut World, id: TaskId) {
        let (Some(task), Some(nexus)) = (self.session.task(id), self.nexus) else { return };
        let command = Command {
            nexus,
            tag: self.tag(id),
            lun: task.lun,
            cdb: task.extended_cdb.clone().map_or(Cdb::Short(task.cdb), Cdb::Long),
            attribute: match task.attribute() {
                0 => TaskAttribute::Untagged,
                1 => TaskAttribute::Simple,
                2 => TaskAttribute::Ordered,
                3 => TaskAttribute::HeadOfQueue,
                _ => TaskAttribute::Aca,
            },
            priority: task.priority,
            expected_in: task.expected_in(),
            expected_out: task.expected_out(),
        };
        self.slots.entry(id).or_default().in_lane = true;
        world.lane.command(command);
    }

    fn lane_event(&mut self, pool: &Pool, event: lun::Event) {
        match event {
            lun::Event::ReceiveDataOut { tag, length, .. } => {
                let Some(task) = self.task_of(tag) else { return };
                let Some(received) = self.session.task(task).map(|task| task.received()) else { return };
                self.reserve(pool, task, length.max(received) as usize);
                self.slots.entry(task).or_default().wanted = length;
                self.session.receive_data_out(task, length);
            }
            lun::Event::Completed { tag, completed, .. } => {
                let Some(task) = self.task_of(tag) else {
                    if let Some(buffer) = completed.data_in {
                        pool.give(buffer);
                    }
                    return;
                };
                let slot = self.slots.entry(task).or_default();
                slot.in_lane = false;
                if let Some(buffer) = completed.data_in
                    && let Some(old) = slot.buffer.replace(buffer)
                {
                    pool.give(old);
                }
                let response = Response {
                    status: completed.status as u8,
                    sense: completed.sense.map(Sense::into_bytes),
                    data_in: completed.data_in_length,
                    transfer_length: completed.transfer_length,
                    outward: completed.outward,
                    fenced: false,
                };
                self.session.complete(task, response);
            }
            lun::Event::Aborted { tag, .. } => {
                let Some(task) = self.task_of(tag) else { return };
                let slot = self.slots.entry(task).or_default();
                slot.in_lane = false;
                match slot.fault {
                    Some(fault) => self.session.complete(task, faulted(fault)),
                    None => self.session.end_task(task),
                }
            }
            lun::Event::NexusClosed { .. } => self.closing_nexus = false,
            lun::Event::TaskManagementDone { id, response, .. } => {
                let (code, additional) = match response {
                    TaskManagementResponse::FunctionComplete => (code::FUNCTION_COMPLETE, [0; 3]),
                    TaskManagementResponse::FunctionSucceeded(additional) => (code::FUNCTION_SUCCEEDED, additional),
                    TaskManagementResponse::FunctionRejected => (code::FUNCTION_REJECTED, [0; 3]),
                    TaskManagementResponse::IncorrectLogicalUnitNumber => (code::LUN_DOES_NOT_EXIST, [0; 3]),
                };
                self.session.task_management_done(id as u32, code, additional);
            }
        }
    }

    /// Puts the next piece of the batch into `output`; a batch that has left is over. False: there is
    /// nothing to send.
    fn refill(&mut self, output: &mut VecDeque<u8>) -> bool {
        loop {
            let Some(leaving) = &mut self.batch else {
                let mut batch = TxBatch::default();
                self.session.poll_transmit(self.c, &mut batch);
                if batch.is_empty() {
                    return false;
                }
                self.fill_digests(&mut batch);
                self.batch = Some(Leaving { batch, next: 0 });
                continue;
            };
            match leaving.batch.segments.get(leaving.next) {
                Some(segment) => {
                    leaving.next += 1;
                    match segment {
                        Segment::Arena(range) => output.extend(&leaving.batch.arena[range.clone()]),
                        Segment::Payload { task, offset, length } => {
                            output.extend(payload(&self.slots, *task, *offset, *length));
                        }
                    }
                    return true;
                }
                None => {
                    if let Some(leaving) = self.batch.take() {
                        self.session.transmitted(&leaving.batch);
                    }
                }
            }
        }
    }

    fn fill_digests(&self, batch: &mut TxBatch) {
        for digest in std::mem::take(&mut batch.digests) {
            let (value, at) = match digest {
                Digest::Arena { over, at } => (crc32c(&batch.arena[over]), at),
                Digest::Payload { task, offset, length, padding, at } => {
                    let mut bytes = payload(&self.slots, task, offset, length).to_vec();
                    bytes.resize(bytes.len() + padding as usize, 0);
                    (crc32c(&bytes), at)
                }
            };
            batch.arena[at..at + 4].copy_from_slice(&value.to_le_bytes());
        }
    }
}

/// The task's bytes. They are there as long as a batch names them.
fn payload(slots: &HashMap<TaskId, Slot>, task: TaskId, offset: u32, length: u32) -> &[u8] {
    let buffer = slots.get(&task).and_then(|slot| slot.buffer.as_ref()).expect("a task's memory went before its batch");
    &buffer.as_slice()[offset as usize..(offset + length) as usize]
}

/// The sense data of a fault (RFC 7143 §11.4.7.2).
fn faulted(fault: DataOutFault) -> Response {
    let (code, qualifier) = match fault {
        DataOutFault::UnexpectedUnsolicitedData => (0x0c, 0x0c),
        DataOutFault::IncorrectAmountOfData => (0x0c, 0x0d),
        DataOutFault::ProtocolServiceCrcError => (0x47, 0x05),
    };
    let condition = Condition::new(SenseKey::AbortedCommand, code, qualifier);
    Response { status: 2, sense: Some(Sense::fixed(&condition).into_bytes()), ..Response::default() }
}
