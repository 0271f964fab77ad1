//! Commands that take more than one request of a store, as async functions without a runtime.
//!
//! The lane polls them when what they wait for has come: there is no executor and no clock. A command
//! waits for one thing at a time, and always in this order, so that no two can wait for each other:
//! its data-out (the initiator may be slow), a fence (others must end), scratch memory (others, who
//! by then wait for nothing but the disk, must end), the store.

use crate::clock::Clock;
use crate::commons::flag;
use crate::copy::{CopyRecords, Random};
use crate::fault::condition_of;
use crate::mail::{Extent, Place, Ticket};
use crate::reservation::Nexus;
use crate::{Cdb, LogicalUnit, LunMap, StateError, StateKind, StateStore, TargetPort};
use block::{Buf, Completion, Error, ErrorKind, Limits, OpenFile, Operation, Outcome, Pool};
use scsi::{Condition, SenseKey, Status};
use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::ops::Range;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;

/// Bytes of scratch memory that one command may have.
pub(crate) const SCRATCH_BYTES: usize = 1 << 20;

/// How a command ends, other than by a CHECK CONDITION.
pub(crate) struct Ending {
    pub status: Status,
    pub data_in: Option<Held>,
    /// Bytes of `data_in`.
    pub length: usize,
    /// For the residual count: what the command wanted to move.
    pub transfer_length: u64,
}

/// The end of a command.
pub(crate) type Verdict = Result<Ending, Condition>;

/// A command under way.
pub(crate) type Long = Pin<Box<dyn Future<Output = Verdict>>>;

impl Ending {
    /// GOOD, having moved this many bytes of data-out.
    pub fn good(transfer_length: u64) -> Verdict {
        Ending::status(Status::Good, transfer_length)
    }

    /// Another status.
    pub fn status(status: Status, transfer_length: u64) -> Verdict {
        Ok(Ending { status, data_in: None, length: 0, transfer_length })
    }
}

/// A buffer that finds its way back to the pool wherever it is dropped.
pub(crate) struct Held {
    buffer: Option<Buf>,
    pool: Pool,
}

impl Held {
    pub fn new(buffer: Buf, pool: &Pool) -> Held {
        Held { buffer: Some(buffer), pool: pool.clone() }
    }

    pub fn bytes(&self) -> &[u8] {
        self.buffer.as_ref().map_or(&[], Buf::as_slice)
    }

    pub fn bytes_mut(&mut self) -> &mut [u8] {
        self.buffer.as_mut().map_or(&mut [], Buf::as_mut_slice)
    }

    /// Takes the memory off a nexus's account.
    pub fn discharge(&self, account: &block::Account) {
        if let Some(buffer) = &self.buffer {
            account.discharge(buffer);
        }
    }

    /// The buffer itself; whoever takes it gives it back.
    pub fn into_buffer(mut self) -> Option<Buf> {
        self.buffer.take()
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if let Some(buffer) = self.buffer.take() {
            self.pool.give(buffer);
        }
    }
}

/// A parameter list in the pool's memory.
pub(crate) struct HeldList {
    held: Option<Held>,
    length: usize,
}

impl HeldList {
    pub fn bytes(&self) -> &[u8] {
        self.held.as_ref().and_then(|held| held.bytes().get(..self.length)).unwrap_or_default()
    }
}

/// What a command waits for.
pub(crate) enum Want {
    DataOut(u32),
    Fence {
        number: u64,
        extent: Extent,
    },
    Scratch(usize),
    Store(Wanted),
    /// An operation of the unit's own, which goes on when this command is gone; with `wait` its end.
    Background {
        future: Long,
        exchange: Rc<Exchange>,
        owner: Owner,
        wait: bool,
    },
    /// Memory for a copy. It may be held while a part waits for a fence, which scratch memory may not.
    CopyMemory(usize),
    /// One step of a copy.
    Part(Part),
    /// Something that another thread does; the ticket falls when it is done.
    Elsewhere(Box<dyn FnOnce(Ticket)>),
    /// PREEMPT AND ABORT: the end of all tasks of these nexuses but its own.
    EndOf(Arc<[Nexus]>),
}

/// To whom an operation belongs that goes on without its command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Owner {
    /// To the unit: no reset and no lost nexus ends it.
    Unit,
    /// To the nexus: what ends its tasks ends it.
    Nexus,
}

/// One step of a copy, at a unit of the nexus.
pub(crate) struct Part {
    pub unit: Arc<LogicalUnit>,
    pub operation: Operation,
    pub extent: Extent,
    pub memory: Option<(Held, Range<usize>)>,
    /// From where a Copy reads, where not from the same store.
    pub origin: Option<OpenFile>,
    /// What a Copy reads.
    pub reads: Option<(Arc<LogicalUnit>, Extent)>,
}

impl Part {
    pub fn new(unit: &Arc<LogicalUnit>, operation: Operation, offset: u64, length: u64) -> Part {
        let extent = Extent { offset, length };
        Part { unit: Arc::clone(unit), operation, extent, memory: None, origin: None, reads: None }
    }

    /// With the first `length` bytes of this memory.
    pub fn with(self, memory: Held, length: u64) -> Part {
        Part { memory: Some((memory, 0..length as usize)), ..self }
    }
}

/// A request that a command has for the store.
pub(crate) struct Wanted {
    pub operation: Operation,
    pub offset: u64,
    pub length: u64,
    pub memory: Option<(Buf, Range<usize>)>,
    pub origin: Option<OpenFile>,
}

/// What came of it.
pub(crate) enum Answer {
    DataOut(Option<Buf>, u32),
    Scratch(Option<Buf>),
    Store(Completion),
    Done,
}

/// What lane and command hand each other.
#[derive(Default)]
pub(crate) struct Exchange {
    pub want: RefCell<Option<Want>>,
    pub answer: RefCell<Option<Answer>>,
    /// The bytes of the unit that the command touches; all of them until it says otherwise.
    pub extent: Cell<Option<Extent>>,
    /// Scratch memory that is out, for the lane's count.
    pub scratch: Cell<bool>,
    /// The same for the memory of copies.
    pub copying: Cell<bool>,
    /// Bytes that it gave back to the store.
    pub unmapped: Cell<u64>,
}

/// A command's own view of the world.
pub(crate) struct Work {
    pub unit: Arc<LogicalUnit>,
    pub limits: Arc<Limits>,
    pub cdb: Cdb,
    pub nexus: Arc<Nexus>,
    /// The port by which it came, and the others of the target.
    pub port: Arc<TargetPort>,
    pub place: Place,
    /// Bytes that the initiator is ready to send.
    pub expected_out: u64,
    /// Every write is to be durable: the write cache was switched off when the command began.
    pub write_through: bool,
    /// What the nexus can reach.
    pub units: Arc<LunMap>,
    /// The copies of the nexus at this unit.
    pub copies: Rc<CopyRecords>,
    pub pool: Pool,
    pub clock: Clock,
    pub random: Random,
    pub exchange: Rc<Exchange>,
}

impl Work {
    /// The same view for an operation that goes on without this command.
    fn twin(&self) -> Work {
        Work {
            unit: Arc::clone(&self.unit),
            limits: Arc::clone(&self.limits),
            cdb: self.cdb.clone(),
            nexus: Arc::clone(&self.nexus),
            port: Arc::clone(&self.port),
            place: self.place,
            expected_out: 0,
            write_through: self.write_through,
            units: Arc::clone(&self.units),
            copies: Rc::clone(&self.copies),
            pool: self.pool.clone(),
            clock: Clock::clone(&self.clock),
            random: Random::clone(&self.random),
            exchange: Rc::default(),
        }
    }

    async fn ask(&self, want: Want) -> Answer {
        *self.exchange.want.borrow_mut() = Some(want);
        poll_fn(|_| match self.exchange.answer.borrow_mut().take() {
            Some(answer) => Poll::Ready(answer),
            None => Poll::Pending,
        })
        .await
    }

    /// Bytes of a logical block.
    pub fn block(&self) -> u64 {
        u64::from(self.limits.block_length.max(1))
    }

    /// Says which bytes of the unit the command touches.
    pub fn touches(&self, extent: Extent) {
        self.exchange.extent.set(Some(extent));
    }

    /// The first `length` bytes of the data-out. Fewer where the initiator sends fewer.
    pub async fn data_out(&self, length: u64) -> (Option<Held>, usize) {
        let wanted = u32::try_from(length.min(self.expected_out)).unwrap_or(u32::MAX);
        if wanted == 0 {
            return (None, 0);
        }
        match self.ask(Want::DataOut(wanted)).await {
            Answer::DataOut(Some(buffer), received) => {
                let held = Held::new(buffer, &self.pool);
                let received = (received as usize).min(held.bytes().len());
                (Some(held), received)
            }
            _ => (None, 0),
        }
    }

    /// A parameter list of this length, copied out of the pool's memory. A list that came shorter is
    /// refused: PARAMETER LIST LENGTH ERROR.
    pub async fn parameter_list(&self, length: usize) -> Result<Vec<u8>, Condition> {
        Ok(self.held_list(length).await?.bytes().to_vec())
    }

    /// The same in the pool's memory, whose bounds hold for lists that wait for something too.
    pub async fn held_list(&self, length: usize) -> Result<HeldList, Condition> {
        let (held, received) = self.data_out(length as u64).await;
        match received < length {
            true => Err(Condition::PARAMETER_LIST_LENGTH_ERROR),
            false => Ok(HeldList { held, length }),
        }
    }

    /// Scratch memory of at most [`SCRATCH_BYTES`]; the content is arbitrary. Once for each command.
    pub async fn scratch(&self, length: u64) -> Result<Held, Condition> {
        let length = (length as usize).clamp(1, SCRATCH_BYTES);
        match self.ask(Want::Scratch(length)).await {
            Answer::Scratch(Some(buffer)) => Ok(Held::new(buffer, &self.pool)),
            _ => Err(Condition::new(SenseKey::AbortedCommand, 0x55, 0x03)),
        }
    }

    /// Keeps everyone else away from an extent until the fence is dropped.
    pub async fn fence(&self, extent: Extent) -> Raised {
        self.touches(extent);
        let unit = Arc::clone(&self.unit);
        let raised = Raised { number: unit.commons.fence_number(), unit };
        self.ask(Want::Fence { number: raised.number, extent }).await;
        raised
    }

    /// Starts an operation that goes on when the command has ended. Where it is not `immediate`, waits for
    /// its end.
    pub async fn in_background<F>(
        &self,
        owner: Owner,
        immediate: bool,
        operation: impl FnOnce(Work) -> F,
    ) -> Result<(), Condition>
    where
        F: Future<Output = Result<(), Condition>> + 'static,
    {
        let work = self.twin();
        let exchange = Rc::clone(&work.exchange);
        let (operation, result) = (operation(work), Rc::new(Cell::new(None)));
        let tell = Rc::clone(&result);
        let future = Box::pin(async move {
            tell.set(Some(operation.await));
            Ending::good(0)
        });
        // The command itself touches nothing.
        self.touches(Extent::NOTHING);
        self.ask(Want::Background { future, exchange, owner, wait: !immediate }).await;
        match immediate {
            true => Ok(()),
            false => result.take().unwrap_or(Err(Condition::new(SenseKey::AbortedCommand, 0x00, 0x00))),
        }
    }

    /// Memory of [`SCRATCH_BYTES`] for a step of a copy; waits while others have theirs. The operation gives
    /// it up when it ends, however often it asks.
    pub async fn copy_memory(&self) -> Result<Held, Condition> {
        match self.ask(Want::CopyMemory(SCRATCH_BYTES)).await {
            Answer::Scratch(Some(buffer)) => Ok(Held::new(buffer, &self.pool)),
            _ => Err(Condition::new(SenseKey::AbortedCommand, 0x55, 0x03)),
        }
    }

    /// A step of a copy, with its memory back. Where its unit was reset in the midst of it, an error.
    pub async fn part(&self, part: Part) -> (Option<Held>, Result<Outcome, Error>) {
        match self.ask(Want::Part(part)).await {
            Answer::Store(completion) => {
                let held = completion.buffer.map(|buffer| Held::new(buffer, &self.pool));
                (held, completion.result)
            }
            _ => (None, Err(Error::new(ErrorKind::Busy))),
        }
    }

    /// The turn to change what is kept of the unit, until it is dropped.
    pub async fn turn(&self) -> Raised {
        self.fence(Extent::STATE).await
    }

    /// Saves, while others use the worker. The task does not end before.
    pub async fn save(&self, store: Arc<dyn StateStore>, kind: StateKind, bytes: Vec<u8>) -> Result<(), StateError> {
        let outcome = Arc::new(Mutex::new(None));
        let (told, unit) = (Arc::clone(&outcome), self.unit.identity().uuid);
        let begin = move |ticket: Ticket| {
            let done = move |result| {
                *told.lock().unwrap_or_else(PoisonError::into_inner) = Some(result);
                drop(ticket);
            };
            store.save_later(unit, kind, bytes, Box::new(done));
        };
        self.ask(Want::Elsewhere(Box::new(begin))).await;
        let outcome = outcome.lock().unwrap_or_else(PoisonError::into_inner).take();
        outcome.unwrap_or_else(|| Err(StateError::Failed("nobody saves any more".to_owned())))
    }

    /// Ends all tasks of these nexuses but this one, and waits until nothing of them can touch the medium.
    pub async fn end_tasks_of(&self, nexuses: Arc<[Nexus]>) {
        self.ask(Want::EndOf(nexuses)).await;
    }

    async fn request(
        &self,
        operation: Operation,
        offset: u64,
        length: u64,
        memory: Option<(Held, Range<usize>)>,
    ) -> (Option<Held>, Result<Outcome, Condition>) {
        let memory = memory.and_then(|(held, range)| Some((held.into_buffer()?, range)));
        match self.ask(Want::Store(Wanted { operation, offset, length, memory, origin: None })).await {
            Answer::Store(completion) => {
                let held = completion.buffer.map(|buffer| Held::new(buffer, &self.pool));
                let write = !matches!(operation, Operation::Read | Operation::Extents);
                let result = completion.result;
                (held, result.map_err(|error| condition_of(&error, write, self.limits.block_length)))
            }
            _ => (None, Err(Condition::new(SenseKey::AbortedCommand, 0x00, 0x00))),
        }
    }

    /// Reads into `range` of the memory.
    pub async fn read(&self, held: Held, range: Range<usize>, offset: u64) -> Result<Held, Condition> {
        let length = range.len() as u64;
        let (held, result) = self.request(Operation::Read, offset, length, Some((held, range))).await;
        result?;
        held.ok_or(Condition::new(SenseKey::AbortedCommand, 0x00, 0x00))
    }

    /// Writes `range` of the memory.
    pub async fn write(&self, held: Held, range: Range<usize>, offset: u64, durable: bool) -> Result<Held, Condition> {
        let operation = Operation::Write { durable: durable || self.writes_through() };
        let length = range.len() as u64;
        let (held, result) = self.request(operation, offset, length, Some((held, range))).await;
        result?;
        held.ok_or(Condition::new(SenseKey::AbortedCommand, 0x00, 0x00))
    }

    /// Whether every write is to be durable. The cache may have been switched off while the command waited.
    pub fn writes_through(&self) -> bool {
        self.write_through || self.unit.commons.flags() & flag::WRITE_THROUGH != 0
    }

    /// Everything that was acknowledged is on stable storage.
    pub async fn flush(&self) -> Result<(), Condition> {
        self.request(Operation::Flush, 0, 0, None).await.1.map(drop)
    }

    /// An operation over an extent that needs no memory.
    pub async fn over(&self, operation: Operation, extent: Extent) -> Result<Outcome, Condition> {
        if matches!(operation, Operation::Unmap) {
            self.exchange.unmapped.set(self.exchange.unmapped.get().saturating_add(extent.length));
        }
        self.request(operation, extent.offset, extent.length, None).await.1
    }

    /// An answer of parameter data, cut at the allocation length.
    pub fn answer(&self, data: &[u8], allocation: usize) -> Verdict {
        let length = data.len().min(allocation);
        let mut ending = Ending::good(length as u64)?;
        if length > 0 {
            let Some(buffer) = self.pool.take_beyond(length) else { return Ending::status(Status::Busy, 0) };
            let mut held = Held::new(buffer, &self.pool);
            if let (Some(to), Some(from)) = (held.bytes_mut().get_mut(..length), data.get(..length)) {
                to.copy_from_slice(from);
            }
            (ending.data_in, ending.length) = (Some(held), length);
        }
        Ok(ending)
    }
}

/// A fence that stands as long as this lives.
pub(crate) struct Raised {
    unit: Arc<LogicalUnit>,
    number: u64,
}

impl Raised {
    /// The guard of a fence of this number, or of the wish for one.
    pub fn new(unit: &Arc<LogicalUnit>, number: u64) -> Raised {
        Raised { unit: Arc::clone(unit), number }
    }
}

impl Drop for Raised {
    fn drop(&mut self) {
        self.unit.commons.lift_fence(&self.unit, self.number);
    }
}
