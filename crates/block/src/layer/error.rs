//! Makes chosen requests fail, for tests of what stands before a store (reliability.md F10–F16, F19).

use crate::{Backend, Completion, Description, Engine, Error, Limits, Operation, Request, RequestId, Store};
use std::collections::HashMap;
use std::ops::Range;
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};

/// Which requests a [`Fault`] is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum On {
    /// All of them.
    Any,
    /// [`Operation::Read`].
    Read,
    /// [`Operation::Write`], durable or not.
    Write,
    /// [`Operation::Flush`].
    Flush,
    /// [`Operation::Unmap`].
    Unmap,
    /// [`Operation::WriteZeroes`].
    WriteZeroes,
    /// [`Operation::Extents`].
    Extents,
    /// [`Operation::Copy`].
    Copy,
}

/// What becomes of the request before it is reported as failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// It does not reach the store.
    Nothing,
    /// It is carried out all the same.
    Done,
    /// Its first bytes are, as far as this many; the rest is as before.
    Torn {
        /// A multiple of the block length.
        bytes: u64,
    },
}

/// One rule of a [`FaultPlan`].
#[derive(Debug, Clone)]
pub struct Fault {
    /// The operations it is about.
    pub on: On,
    /// The bytes it is about; a request that touches none of them passes. `None`: all.
    pub extent: Option<Range<u64>>,
    /// How many that match pass before the first fails.
    pub skip: u64,
    /// How many fail after that. `u64::MAX`: for ever.
    pub times: u64,
    /// What they report. Without an offset the first byte of the extent is filled in where there is one.
    pub error: Error,
    /// What becomes of them.
    pub effect: Effect,
}

impl Fault {
    /// Every such request fails with this kind and does not reach the store.
    pub fn always(on: On, kind: crate::ErrorKind) -> Fault {
        Fault { on, extent: None, skip: 0, times: u64::MAX, error: Error::new(kind), effect: Effect::Nothing }
    }

    /// The n-th such request from now, counted from 0, fails with this kind; the others pass.
    pub fn nth(on: On, n: u64, kind: crate::ErrorKind) -> Fault {
        Fault { skip: n, times: 1, ..Fault::always(on, kind) }
    }

    /// The same, only where a request touches these bytes.
    pub fn within(self, extent: Range<u64>) -> Fault {
        Fault { extent: Some(extent), ..self }
    }

    /// The same with another effect.
    pub fn effect(self, effect: Effect) -> Fault {
        Fault { effect, ..self }
    }

    fn matches(&self, request: &Request) -> bool {
        let operation = match request.operation {
            Operation::Read => On::Read,
            Operation::Write { .. } => On::Write,
            Operation::Flush => On::Flush,
            Operation::Unmap => On::Unmap,
            Operation::WriteZeroes { .. } => On::WriteZeroes,
            Operation::Extents => On::Extents,
            Operation::Copy { .. } => On::Copy,
        };
        let touched = self.extent.as_ref().is_none_or(|extent| {
            request.offset < extent.end && extent.start < request.offset.saturating_add(request.length)
        });
        (self.on == On::Any || self.on == operation) && touched
    }
}

/// The rules of a [`Faulty`] backend; clones share them, so that a test changes them while it runs.
/// The first rule that strikes decides.
#[derive(Debug, Clone, Default)]
pub struct FaultPlan(Arc<Mutex<Vec<Fault>>>);

impl FaultPlan {
    /// One more rule.
    pub fn add(&self, fault: Fault) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(fault);
    }

    /// No rules any more: the store works again.
    pub fn clear(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    fn strikes(&self, request: &Request) -> Option<(Error, Effect)> {
        let mut faults = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for fault in faults.iter_mut().filter(|fault| fault.matches(request)) {
            if fault.skip > 0 {
                fault.skip -= 1;
                continue;
            }
            if fault.times == 0 {
                continue;
            }
            if fault.times != u64::MAX {
                fault.times -= 1;
            }
            let start = fault.extent.as_ref().map_or(request.offset, |extent| extent.start.max(request.offset));
            let offset = fault.error.offset.or((request.length > 0).then_some(start));
            return Some((Error { offset, ..fault.error }, fault.effect));
        }
        None
    }
}

/// A backend that fails as its plan says.
pub struct Faulty {
    inner: Arc<dyn Backend>,
    plan: FaultPlan,
}

impl Faulty {
    /// Before this backend, after this plan.
    pub fn new(inner: Arc<dyn Backend>, plan: FaultPlan) -> Arc<Faulty> {
        Arc::new(Faulty { inner, plan })
    }
}

impl Backend for Faulty {
    fn limits(&self) -> Arc<Limits> {
        self.inner.limits()
    }

    fn description(&self) -> Description {
        self.inner.description()
    }

    fn open(&self, engine: &Rc<dyn Engine>) -> Result<Box<dyn Store>, Error> {
        let inner = self.inner.open(engine)?;
        Ok(Box::new(Channel { inner, plan: self.plan.clone(), through: Vec::new(), failing: HashMap::new() }))
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
    plan: FaultPlan,
    through: Vec<Request>,
    /// Requests that the store carries out, wholly or in part, and that will be reported as failed.
    failing: HashMap<RequestId, Error>,
}

impl Channel {
    fn report(&mut self, done: &mut [Completion]) {
        for completion in done {
            if let Some(error) = self.failing.remove(&completion.id) {
                completion.result = Err(error);
            }
        }
    }
}

impl Store for Channel {
    fn submit(&mut self, batch: &mut Vec<Request>, done: &mut Vec<Completion>) {
        for mut request in batch.drain(..) {
            match self.plan.strikes(&request) {
                None => self.through.push(request),
                Some((error, Effect::Nothing | Effect::Torn { bytes: 0 })) => done.push(request.complete(Err(error))),
                Some((error, effect)) => {
                    if let Effect::Torn { bytes } = effect {
                        request.length = request.length.min(bytes);
                        let end = request.data.end.min(request.data.start.saturating_add(bytes as usize));
                        request.data.end = end;
                    }
                    self.failing.insert(request.id, error);
                    self.through.push(request);
                }
            }
        }
        let before = done.len();
        self.inner.submit(&mut self.through, done);
        self.report(&mut done[before..]);
    }

    fn poll(&mut self, done: &mut Vec<Completion>) {
        let before = done.len();
        self.inner.poll(done);
        self.report(&mut done[before..]);
    }

    fn in_flight(&self) -> usize {
        self.inner.in_flight()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pure::Ram;
    use crate::testing::Bench;
    use crate::{ErrorKind, Outcome};

    fn faulty() -> (FaultPlan, Bench) {
        let plan = FaultPlan::default();
        let bench = Bench::new(Faulty::new(Ram::new(512, 64), plan.clone()));
        (plan, bench)
    }

    #[test]
    fn f10_the_nth_read_fails_and_the_next_succeeds() {
        let (plan, mut bench) = faulty();
        plan.add(Fault::nth(On::Read, 1, ErrorKind::Medium));
        assert!(bench.read(0, 512).is_ok());
        let error = bench.read(1024, 512).unwrap_err();
        assert_eq!((error.kind, error.offset), (ErrorKind::Medium, Some(1024)));
        assert!(bench.read(1024, 512).is_ok());
    }

    #[test]
    fn f11_a_bad_extent_fails_at_its_first_bad_byte_and_the_rest_works() {
        let (plan, mut bench) = faulty();
        plan.add(Fault::always(On::Write, ErrorKind::Medium).within(2048..2560));
        assert_eq!(bench.write(0, &[1; 4096]).unwrap_err().offset, Some(2048));
        bench.write(0, &[1; 2048]).unwrap();
        assert_eq!(bench.read(0, 4096).unwrap()[2048..], [0; 2048]);
        plan.clear();
        bench.write(0, &[1; 4096]).unwrap();
    }

    #[test]
    fn f19_a_torn_write_leaves_old_and_new_blocks() {
        let (plan, mut bench) = faulty();
        bench.write(0, &[1; 2048]).unwrap();
        plan.add(Fault::nth(On::Write, 0, ErrorKind::Medium).effect(Effect::Torn { bytes: 1024 }));
        bench.write(0, &[2; 2048]).unwrap_err();
        let bytes = bench.read(0, 2048).unwrap();
        assert!(bytes[..1024].iter().all(|byte| *byte == 2) && bytes[1024..].iter().all(|byte| *byte == 1));
    }

    #[test]
    fn f12_a_failed_flush_is_reported_although_done() {
        let (plan, mut bench) = faulty();
        plan.add(Fault::nth(On::Flush, 0, ErrorKind::Medium).effect(Effect::Done));
        bench.run(Operation::Flush, 0, 0).unwrap_err();
        assert_eq!(bench.run(Operation::Flush, 0, 0), Ok(Outcome::Done));
    }
}
