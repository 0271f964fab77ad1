//! The store of a simulation: it counts how often each change reaches the disk, so that a write that is
//! carried out twice is seen although the disk looks the same afterwards, and it completes late and in
//! any order.

use super::model::{BLOCK, named};
use crate::Random;
use block::{Backend, Completion, Description, Engine, Error, Limits, Operation, Request, Store};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What is seen and decided of the store from outside.
pub(super) struct Witness(Mutex<State>);

struct State {
    /// Writes of each version to each block.
    counts: HashMap<(u64, u64), u32>,
    /// Completions that wait, and how many of them may go.
    held: usize,
    allowed: usize,
    random: Random,
}

impl Witness {
    pub fn new(random: Random) -> Witness {
        Witness(Mutex::new(State { counts: HashMap::new(), held: 0, allowed: 0, random }))
    }

    /// The versions that some block was written with, and how often at most.
    pub fn counts(&self) -> HashMap<u64, u32> {
        let mut most = HashMap::new();
        for ((version, _), count) in &self.state().counts {
            let entry: &mut u32 = most.entry(*version).or_default();
            *entry = (*entry).max(*count);
        }
        most
    }

    /// Whether completions wait.
    pub fn holds(&self) -> bool {
        self.state().held > 0
    }

    /// Lets so many completions go.
    pub fn release(&self, completions: usize) {
        self.state().allowed = completions;
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn saw(&self, offset: u64, bytes: &[u8]) {
        let mut state = self.state();
        for (block, bytes) in (offset / BLOCK as u64..).zip(bytes.chunks(BLOCK)) {
            if let Some((version, _)) = named(bytes) {
                *state.counts.entry((version, block)).or_default() += 1;
            }
        }
    }
}

/// A backend that is watched.
pub(super) struct Watched {
    pub inner: Arc<dyn Backend>,
    pub witness: Arc<Witness>,
}

impl Backend for Watched {
    fn limits(&self) -> Arc<Limits> {
        self.inner.limits()
    }

    fn description(&self) -> Description {
        self.inner.description()
    }

    fn open(&self, engine: &Rc<dyn Engine>) -> Result<Box<dyn Store>, Error> {
        let inner = self.inner.open(engine)?;
        Ok(Box::new(Channel { inner, witness: Arc::clone(&self.witness), held: Vec::new() }))
    }
}

struct Channel {
    inner: Box<dyn Store>,
    witness: Arc<Witness>,
    held: Vec<Completion>,
}

impl Store for Channel {
    fn submit(&mut self, batch: &mut Vec<Request>, done: &mut Vec<Completion>) {
        for request in batch.iter() {
            if let Operation::Write { .. } = request.operation {
                self.witness.saw(request.offset, request.bytes());
            }
        }
        let before = self.held.len();
        self.inner.submit(batch, &mut self.held);
        self.witness.state().held += self.held.len() - before;
        self.poll(done);
    }

    fn poll(&mut self, done: &mut Vec<Completion>) {
        let mut state = self.witness.state();
        while state.allowed > 0 && !self.held.is_empty() {
            state.allowed -= 1;
            state.held -= 1;
            let at = state.random.size(self.held.len());
            done.push(self.held.swap_remove(at));
        }
    }

    fn in_flight(&self) -> usize {
        self.inner.in_flight() + self.held.len()
    }
}
