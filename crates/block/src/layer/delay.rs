//! Holds completions back until a test or a simulated clock lets them go (reliability.md F18).
//!
//! There is no clock here: whoever has one opens the valve.

use crate::{Backend, Completion, Description, Engine, Error, Limits, Request, Store};
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// The valve of a [`Delay`]. Clones are the same valve.
#[derive(Debug, Clone)]
pub struct Valve(Arc<AtomicU64>);

impl Valve {
    /// Open: everything passes.
    pub fn open() -> Valve {
        Valve(Arc::new(AtomicU64::new(u64::MAX)))
    }

    /// Closed: nothing passes until it is let go.
    pub fn closed() -> Valve {
        Valve(Arc::new(AtomicU64::new(0)))
    }

    /// Holds everything that completes from now on.
    pub fn hold(&self) {
        self.0.store(0, Ordering::SeqCst);
    }

    /// Lets this many completions go, in the order in which they were held, at the next poll.
    pub fn release(&self, completions: u64) {
        let _ = self.0.try_update(Ordering::SeqCst, Ordering::SeqCst, |allowed| allowed.checked_add(completions));
    }

    /// Opens it for good.
    pub fn release_all(&self) {
        self.0.store(u64::MAX, Ordering::SeqCst);
    }

    fn pass(&self) -> bool {
        let next = |allowed: u64| match allowed {
            0 => None,
            u64::MAX => Some(u64::MAX),
            some => Some(some - 1),
        };
        self.0.try_update(Ordering::SeqCst, Ordering::SeqCst, next).is_ok()
    }
}

/// A backend whose completions wait at a valve. The requests themselves are carried out at once.
pub struct Delay {
    inner: Arc<dyn Backend>,
    valve: Valve,
}

impl Delay {
    /// Before this backend, with this valve.
    pub fn new(inner: Arc<dyn Backend>, valve: Valve) -> Arc<Delay> {
        Arc::new(Delay { inner, valve })
    }
}

impl Backend for Delay {
    fn limits(&self) -> Arc<Limits> {
        self.inner.limits()
    }

    fn description(&self) -> Description {
        self.inner.description()
    }

    fn open(&self, engine: &Rc<dyn Engine>) -> Result<Box<dyn Store>, Error> {
        let inner = self.inner.open(engine)?;
        Ok(Box::new(Channel { inner, valve: self.valve.clone(), fresh: Vec::new(), held: VecDeque::new() }))
    }

    fn space(&self) -> Option<crate::Space> {
        self.inner.space()
    }

    fn erase_key(&self) -> Result<(), Error> {
        self.inner.erase_key()
    }

    fn refresh(&self) -> Result<bool, Error> {
        self.inner.refresh()
    }

    fn look(&self) -> crate::Medium {
        self.inner.look()
    }

    fn exchange(&self) {
        self.inner.exchange();
    }

    fn hand_over(&self) -> Result<crate::Estate, &'static str> {
        self.inner.hand_over()
    }

    fn flush_inherited(&self, done: crate::Flushed) {
        self.inner.flush_inherited(done);
    }

    fn resize(&self, blocks: u64) -> Result<(), Error> {
        self.inner.resize(blocks)
    }
}

struct Channel {
    inner: Box<dyn Store>,
    valve: Valve,
    fresh: Vec<Completion>,
    held: VecDeque<Completion>,
}

impl Channel {
    fn let_go(&mut self, done: &mut Vec<Completion>) {
        self.held.extend(self.fresh.drain(..));
        while !self.held.is_empty() && self.valve.pass() {
            done.extend(self.held.pop_front());
        }
    }
}

impl Store for Channel {
    fn submit(&mut self, batch: &mut Vec<Request>, done: &mut Vec<Completion>) {
        self.inner.submit(batch, &mut self.fresh);
        self.let_go(done);
    }

    fn poll(&mut self, done: &mut Vec<Completion>) {
        self.inner.poll(&mut self.fresh);
        self.let_go(done);
    }

    fn in_flight(&self) -> usize {
        self.inner.in_flight() + self.held.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pure::Ram;
    use crate::{NoEngine, Operation, RequestId};

    #[test]
    fn f18_a_stuck_disk_holds_its_completions_and_lets_them_go_in_order() {
        let valve = Valve::closed();
        let backend = Delay::new(Ram::new(512, 64), valve.clone());
        let engine: Rc<dyn Engine> = Rc::new(NoEngine);
        let mut store = backend.open(&engine).unwrap();
        let mut done = Vec::new();
        let mut batch = (0..3).map(|n| Request::over(RequestId(n), Operation::Flush, 0, 0)).collect();
        store.submit(&mut batch, &mut done);
        store.poll(&mut done);
        assert!(done.is_empty());
        assert_eq!(store.in_flight(), 3);
        valve.release(2);
        store.poll(&mut done);
        assert_eq!(done.iter().map(|one| one.id.0).collect::<Vec<_>>(), [0, 1]);
        valve.release_all();
        store.poll(&mut done);
        assert_eq!((done.len(), store.in_flight()), (3, 0));
    }
}
