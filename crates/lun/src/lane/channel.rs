//! A lane's side of one unit: its channel to the store and the fences that stand; and the order of the
//! tasks that one nexus has there.

use crate::commons::flag;
use crate::ledger::Tally;
use crate::mail::{Extent, Fence};
use crate::{LogicalUnit, TaskAttribute, TaskTag};
use block::{Completion, Engine, Limits, Operation, Request, Store};
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;

/// Bytes after whose writing the space is looked at although more are under way.
const WATCH_BYTES: u64 = 1 << 20;

pub(super) struct Channel {
    pub unit: Arc<LogicalUnit>,
    /// What this lane counts of the unit.
    pub tally: Arc<Tally>,
    /// None until it could be opened.
    store: Option<Box<dyn Store>>,
    /// Channels to media that were taken out, until what they read has come.
    retired: Vec<Box<dyn Store>>,
    pub limits: Arc<Limits>,
    pub batch: Vec<Request>,
    pub fences: Vec<Fence>,
    /// Tasks that a fence keeps from starting.
    pub parked: Vec<TaskTag>,
    /// It is in the lane's list of channels with work.
    pub busy: bool,
    /// Bytes that were written since the space was looked at; counted while a threshold is watched.
    unwatched: u64,
}

impl Channel {
    pub fn new(unit: &Arc<LogicalUnit>, fences: Vec<Fence>) -> Channel {
        Channel {
            unit: Arc::clone(unit),
            tally: unit.commons.ledger.tally(),
            store: None,
            retired: Vec::new(),
            limits: unit.limits(),
            batch: Vec::new(),
            fences,
            parked: Vec::new(),
            busy: false,
            unwatched: 0,
        }
    }

    /// Opens the store where it is not open yet.
    pub fn open(&mut self, engine: &Rc<dyn Engine>) -> Result<(), block::Error> {
        if self.store.is_none() {
            self.store = Some(self.unit.backend().open(engine)?);
        }
        Ok(())
    }

    /// Hands the batch to the store and takes what is finished. Returns whether more is under way.
    pub fn turn(&mut self, engine: &Rc<dyn Engine>, done: &mut Vec<Completion>) -> bool {
        if !self.batch.is_empty()
            && let Err(error) = self.open(engine)
        {
            done.extend(self.batch.drain(..).map(|request| request.complete(Err(error))));
        }
        let batch = &mut self.batch;
        let poll = |store: &mut Box<dyn Store>, done: &mut Vec<Completion>| {
            if store.in_flight() > 0 {
                store.poll(done);
            }
            store.in_flight() > 0
        };
        let mut in_flight = false;
        if let Some(store) = &mut self.store {
            if !batch.is_empty() {
                store.submit(batch, done);
            }
            in_flight = poll(store, done);
        }
        self.retired.retain_mut(|store| poll(store, done));
        in_flight || !self.retired.is_empty()
    }

    /// Another medium lies behind the unit. What was submitted ends on the old one; what comes goes to the
    /// new one.
    pub fn exchange(&mut self, done: &mut Vec<Completion>) {
        if let Some(mut store) = self.store.take() {
            store.submit(&mut self.batch, done);
            self.retired.push(store);
        }
        self.limits = self.unit.limits();
    }

    /// Takes a request into the batch.
    pub fn push(&mut self, request: Request) {
        if self.unit.commons.flags() & flag::THRESHOLD != 0 && request.operation != Operation::Read {
            self.unwatched += request.length.max(1);
        }
        self.batch.push(request);
    }

    /// Looks at the space when much was written, and when the last of it is done.
    pub fn watch(&mut self, in_flight: bool) {
        if self.unwatched >= WATCH_BYTES || self.unwatched > 0 && !in_flight {
            self.unwatched = 0;
            self.unit.watch_space();
        }
    }

    /// Whether a fence of somebody else stands across this extent.
    pub fn is_fenced(&self, lane: usize, tag: TaskTag, extent: Extent) -> bool {
        self.fences.iter().any(|fence| (fence.lane, fence.owner) != (lane, tag) && fence.extent.overlaps(extent))
    }
}

/// The order of the tasks of one nexus at one unit (SAM-5 8.6).
///
/// Whether a task of another nexus came before or after one of ours nobody can tell, except by having
/// seen its end. So an ORDERED task waits for none of theirs: an initiator that is slow to send its
/// data must not hold up the others.
#[derive(Default)]
pub(super) struct Order {
    /// Tasks that run.
    running: usize,
    /// One of them is ORDERED.
    ordered: bool,
    /// Those that wait, oldest first, and whether each is ORDERED.
    dormant: VecDeque<(TaskTag, bool)>,
}

impl Order {
    /// Whether a task that comes now has to wait.
    pub fn must_wait(&self, attribute: TaskAttribute) -> bool {
        match attribute {
            TaskAttribute::HeadOfQueue => false,
            TaskAttribute::Ordered => self.running > 0 || !self.dormant.is_empty(),
            _ => self.ordered || !self.dormant.is_empty(),
        }
    }

    pub fn wait(&mut self, tag: TaskTag, ordered: bool) {
        self.dormant.push_back((tag, ordered));
    }

    /// A dormant task was given up. True where that may let others start.
    pub fn forget(&mut self, tag: TaskTag) -> bool {
        self.dormant.retain(|(dormant, _)| *dormant != tag);
        !self.dormant.is_empty()
    }

    pub fn begin(&mut self, ordered: bool) {
        self.running += 1;
        self.ordered |= ordered;
    }

    /// A running task has ended. True where that may let others start.
    pub fn end(&mut self, ordered: bool) -> bool {
        self.running = self.running.saturating_sub(1);
        if ordered {
            self.ordered = false;
        }
        !self.dormant.is_empty()
    }

    /// The next task that may start now.
    pub fn next(&mut self) -> Option<TaskTag> {
        let (tag, ordered) = *self.dormant.front()?;
        let may = !self.ordered && (!ordered || self.running == 0);
        if may {
            self.dormant.pop_front();
        }
        may.then_some(tag)
    }
}
