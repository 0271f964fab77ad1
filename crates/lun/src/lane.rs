//! The part of the device server that runs on one worker.

use crate::{Command, Event, LunMap, NexusDescription, NexusId, TaskManagementFunction, TaskTag};
use block::{Buf, Engine, Pool};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

/// What a lane is given by its worker.
pub struct LaneContext {
    /// The worker's memory. Data-in buffers come from here; data-out buffers are given back here.
    pub pool: Pool,
    /// The worker's engine, handed to the stores.
    pub engine: Rc<dyn Engine>,
    /// Wakes this lane's worker from any thread, so that it calls [`Lane::run`].
    pub wake: Arc<dyn Fn() + Send + Sync>,
    /// Seeds what needs randomness (tokens); from the system's random source.
    pub entropy: [u8; 32],
}

/// One worker's device server. Order of calls: [`Lane::command`] and [`Lane::data_out`] for all
/// that one read of the sockets gave, then [`Lane::run`] once, then [`Lane::poll_event`] until
/// `None`. `run` also whenever the worker is woken.
pub struct Lane {}

impl Lane {
    /// A lane without nexuses.
    pub fn new(_context: LaneContext) -> Lane {
        todo!()
    }

    /// A new nexus. Its units owe it a unit attention (SAM-5 5.14: power on or nexus loss).
    pub fn open_nexus(&mut self, _description: NexusDescription) -> NexusId {
        todo!()
    }

    /// The nexus is lost: its tasks end without events of their own, and one [`Event::NexusClosed`] follows
    /// when the last has ended and nothing of them can touch the medium any more. What only lived with it (SPC-2 reservations,
    /// prevention of removal) goes. Persistent reservations stay.
    pub fn close_nexus(&mut self, _nexus: NexusId) {
        todo!()
    }

    /// The units of the nexus changed.
    pub fn set_units(&mut self, _nexus: NexusId, _units: Arc<LunMap>) {
        todo!()
    }

    /// *SCSI Command Received*. Never blocks; the answer is an event.
    pub fn command(&mut self, _now: Instant, _command: Command) {
        todo!()
    }

    /// *Data-Out Received*: the first `length` bytes of `buffer` are the task's data, after an
    /// [`Event::ReceiveDataOut`]. Fewer than asked for only when the initiator expected to send fewer.
    pub fn data_out(&mut self, _tag: TaskTag, _buffer: Option<Buf>, _length: u32) {
        todo!()
    }

    /// The transport gives the task up (it could not be received whole, its connection is gone).
    /// An [`Event::Aborted`] follows once nothing of it can touch the medium any more.
    pub fn abort(&mut self, _tag: TaskTag) {
        todo!()
    }

    /// A task management function; ends with [`Event::TaskManagementDone`] of the same `id`.
    pub fn task_management(
        &mut self,
        _now: Instant,
        _nexus: NexusId,
        _id: u64,
        _lun: [u8; 8],
        _function: TaskManagementFunction,
    ) {
        todo!()
    }

    /// Submits what was gathered to the stores, takes what they completed, reads the mail of other
    /// lanes, goes on with operations.
    pub fn run(&mut self, _now: Instant) {
        todo!()
    }

    /// The next thing that the transport must know.
    pub fn poll_event(&mut self) -> Option<Event> {
        todo!()
    }

    /// When [`Lane::run`] wants to be called next without being woken.
    pub fn poll_timeout(&self) -> Option<Instant> {
        todo!()
    }

    /// Tasks that have not ended.
    pub fn tasks(&self) -> usize {
        todo!()
    }
}
