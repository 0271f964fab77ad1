//! One session at the target: what `target` does around the same core, in the plainest way, so that what
//! a test finds is the core's.

use super::World;
use crate::frame::crc32c;
use block::{Buf, Pool};
use iscsi::login::target::LoggedIn;
use iscsi::session::{
    ConnectionId, DataOutFault, Digest, Event, Response, Session, SessionKind, SessionLimits, TaskId, TxBatch,
    task_management_response as code,
};
use lun::{Cdb, Command, NexusId, TaskAttribute, TaskManagementFunction, TaskManagementResponse, TaskTag};
use scsi::{Condition, Sense, SenseKey};
use std::collections::HashMap;
use std::time::Instant;

/// What the transport holds for a task.
#[derive(Default)]
struct Slot {
    buffer: Option<Buf>,
    in_lane: bool,
    fault: Option<DataOutFault>,
    wanted: u32,
}

/// A session and who has it.
pub(super) struct Hosted {
    pub session: Session,
    pub tsih: u16,
    pub initiator: String,
    pub isid: [u8; 6],
    nexus: Option<NexusId>,
    slots: HashMap<TaskId, Slot>,
    end: End,
}

/// How far the end of a session is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    /// It goes on.
    Not,
    /// Its nexus is being closed.
    Closing,
    /// Nothing of it can touch the medium any more.
    Closed,
}

impl Hosted {
    pub fn new(world: &mut World, logged_in: LoggedIn, limits: SessionLimits) -> (Hosted, ConnectionId) {
        let asked = &logged_in.asked;
        let level = logged_in.session.protocol_level as u8;
        let open = |world: &mut World| world.open_nexus(&asked.initiator_name, asked.isid, level);
        let nexus = (asked.kind == SessionKind::Normal).then(|| open(world));
        let (session, c) =
            Session::new(asked.kind, logged_in.session, limits, logged_in.exp_cmd_sn, logged_in.opening, world.now);
        let hosted = Hosted {
            session,
            tsih: logged_in.tsih,
            initiator: logged_in.asked.initiator_name,
            isid: logged_in.asked.isid,
            nexus,
            slots: HashMap::new(),
            end: End::Not,
        };
        (hosted, c)
    }

    pub fn nexus(&self) -> Option<NexusId> {
        self.nexus
    }

    /// Whether it has begun to end.
    pub fn is_ending(&self) -> bool {
        self.end != End::Not
    }

    /// Whether it has ended, with everything that it had begun.
    pub fn is_gone(&self) -> bool {
        self.end == End::Closed
    }

    /// Ends it, whatever it is doing.
    pub fn finish(&mut self, world: &mut World) {
        if self.end == End::Not {
            self.end = End::Closing;
            match self.nexus {
                None => self.end = End::Closed,
                Some(nexus) => world.lane.close_nexus(nexus),
            }
        }
    }

    /// Gives all of its memory back.
    pub fn clear(&mut self, pool: &Pool) {
        for (_, slot) in self.slots.drain() {
            if let Some(buffer) = slot.buffer {
                pool.give(buffer);
            }
        }
    }

    /// Data for a task.
    pub fn store(&mut self, pool: &Pool, task: TaskId, offset: u32, bytes: &[u8]) {
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

    /// A task's bytes. They are there as long as a batch names them.
    pub fn payload(&self, task: TaskId, offset: u32, length: u32) -> &[u8] {
        let buffer = self.slots.get(&task).and_then(|slot| slot.buffer.as_ref());
        let buffer = buffer.expect("a task's memory went before its batch");
        &buffer.as_slice()[offset as usize..(offset + length) as usize]
    }

    /// Writes the digests of a batch that is about to leave.
    pub fn fill_digests(&self, batch: &mut TxBatch) {
        for digest in std::mem::take(&mut batch.digests) {
            let (value, at) = match digest {
                Digest::Arena { over, at } => (crc32c(&batch.arena[over]), at),
                Digest::Payload { task, offset, length, padding, at } => {
                    let bytes = self.payload(task, offset, length);
                    let value = match padding {
                        0 => crc32c(bytes),
                        _ => crc32c(&[bytes, &[0; 3][..padding as usize]].concat()),
                    };
                    (value, at)
                }
            };
            batch.arena[at..at + 4].copy_from_slice(&value.to_le_bytes());
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
    pub fn events(&mut self, world: &mut World) -> bool {
        let mut told = false;
        while let Some(event) = self.session.poll_event() {
            told = true;
            if self.end != End::Not {
                continue;
            }
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

    pub fn lane_event(&mut self, pool: &Pool, event: lun::Event) {
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
            lun::Event::NexusClosed { .. } => self.end = End::Closed,
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

    /// Time has passed. Returns the connection that is to be given up for it.
    pub fn tick(&mut self, now: Instant) -> Option<ConnectionId> {
        self.session.handle_timeout(now).map(|(c, _)| c)
    }
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
