//! Keeps a journal of what changed the store, in the order in which it completed, so that a test can
//! replay any prefix and any part of what was not yet flushed: a power cut (SBC-04 to SBC-06, F19).

use crate::{Backend, Completion, Description, Engine, Error, Limits, Operation, Request, RequestId, Store};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};

/// One request that succeeded and that changed the store or made changes stable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// What was done.
    pub operation: Operation,
    /// First byte of its extent.
    pub offset: u64,
    /// Bytes of its extent.
    pub length: u64,
    /// What was written. Empty for everything but a write.
    pub data: Vec<u8>,
}

/// The journal of a [`Logged`] backend. Clones are the same journal.
#[derive(Debug, Clone, Default)]
pub struct Journal(Arc<Mutex<Vec<Record>>>);

impl Journal {
    /// What was recorded so far, in order of completion.
    pub fn records(&self) -> Vec<Record> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn push(&self, record: Record) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(record);
    }
}

/// A backend that keeps a journal. For tests: the journal holds every byte that was written.
pub struct Logged {
    inner: Arc<dyn Backend>,
    journal: Journal,
}

impl Logged {
    /// Before this backend, writing this journal.
    pub fn new(inner: Arc<dyn Backend>, journal: Journal) -> Arc<Logged> {
        Arc::new(Logged { inner, journal })
    }
}

impl Backend for Logged {
    fn limits(&self) -> Arc<Limits> {
        self.inner.limits()
    }

    fn description(&self) -> Description {
        self.inner.description()
    }

    fn open(&self, engine: &Rc<dyn Engine>) -> Result<Box<dyn Store>, Error> {
        let inner = self.inner.open(engine)?;
        Ok(Box::new(Channel { inner, journal: self.journal.clone(), pending: HashMap::new() }))
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
    journal: Journal,
    pending: HashMap<RequestId, Record>,
}

impl Channel {
    fn record(&mut self, done: &[Completion]) {
        for completion in done {
            if let Some(record) = self.pending.remove(&completion.id)
                && completion.result.is_ok()
            {
                self.journal.push(record);
            }
        }
    }
}

impl Store for Channel {
    fn submit(&mut self, batch: &mut Vec<Request>, done: &mut Vec<Completion>) {
        for request in batch.iter() {
            if matches!(request.operation, Operation::Read | Operation::Extents) {
                continue;
            }
            let data = match request.operation {
                Operation::Write { .. } => request.bytes().to_vec(),
                _ => Vec::new(),
            };
            let record = Record { operation: request.operation, offset: request.offset, length: request.length, data };
            self.pending.insert(request.id, record);
        }
        let before = done.len();
        self.inner.submit(batch, done);
        self.record(&done[before..]);
    }

    fn poll(&mut self, done: &mut Vec<Completion>) {
        let before = done.len();
        self.inner.poll(done);
        self.record(&done[before..]);
    }

    fn in_flight(&self) -> usize {
        self.inner.in_flight()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layer::{Fault, FaultPlan, Faulty, On};
    use crate::pure::Ram;
    use crate::testing::Bench;

    #[test]
    fn replaying_the_journal_gives_the_same_disk() {
        let journal = Journal::default();
        let plan = FaultPlan::default();
        plan.add(Fault::nth(On::Write, 1, crate::ErrorKind::Medium));
        let mut bench = Bench::new(Logged::new(Faulty::new(Ram::new(512, 64), plan), journal.clone()));
        bench.write(0, &[1; 1024]).unwrap();
        bench.write(512, &[2; 1024]).unwrap_err();
        bench.run(Operation::Flush, 0, 0).unwrap();
        bench.run(Operation::WriteZeroes { unmap: false, durable: false }, 512, 512).unwrap();

        let mut replayed = Bench::new(Ram::new(512, 64));
        for record in journal.records() {
            match record.operation {
                Operation::Write { .. } => replayed.write(record.offset, &record.data).unwrap(),
                operation => drop(replayed.run(operation, record.offset, record.length).unwrap()),
            }
        }
        assert_eq!(journal.records().len(), 3);
        assert_eq!(replayed.read(0, 64 * 512).unwrap(), bench.read(0, 64 * 512).unwrap());
    }
}
