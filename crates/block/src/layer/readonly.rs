//! Refuses everything that would change the store, and says so in the limits.

use crate::{Backend, Completion, Description, Engine, Error, Limits, Operation, Outcome, Request, Store, WriteCache};
use std::rc::Rc;
use std::sync::Arc;

/// A backend that cannot be written.
pub struct ReadOnly {
    inner: Arc<dyn Backend>,
}

impl ReadOnly {
    /// Before this backend.
    pub fn new(inner: Arc<dyn Backend>) -> Arc<ReadOnly> {
        Arc::new(ReadOnly { inner })
    }
}

impl Backend for ReadOnly {
    fn limits(&self) -> Arc<Limits> {
        let inner = self.inner.limits();
        Arc::new(Limits {
            read_only: true,
            copies: false,
            atomic: None,
            write_cache: WriteCache::None,
            ..(*inner).clone()
        })
    }

    fn description(&self) -> Description {
        self.inner.description()
    }

    fn open(&self, engine: &Rc<dyn Engine>) -> Result<Box<dyn Store>, Error> {
        Ok(Box::new(Channel { inner: self.inner.open(engine)?, through: Vec::new() }))
    }

    fn space(&self) -> Option<crate::Space> {
        self.inner.space()
    }

    fn file(&self) -> Option<crate::OpenFile> {
        self.inner.file()
    }

    fn erase_key(&self) -> Result<(), Error> {
        Err(Error::new(crate::ErrorKind::ReadOnly))
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

    fn resize(&self, _blocks: u64) -> Result<(), Error> {
        Err(Error::new(crate::ErrorKind::ReadOnly))
    }
}

struct Channel {
    inner: Box<dyn Store>,
    through: Vec<Request>,
}

impl Store for Channel {
    fn submit(&mut self, batch: &mut Vec<Request>, done: &mut Vec<Completion>) {
        for request in batch.drain(..) {
            match request.operation {
                Operation::Read | Operation::Extents => self.through.push(request),
                // Nothing was written, so everything is stable.
                Operation::Flush => done.push(request.complete(Ok(Outcome::Done))),
                _ => {
                    let offset = request.offset;
                    done.push(request.complete(Err(Error::new(crate::ErrorKind::ReadOnly).at(offset))));
                }
            }
        }
        self.inner.submit(&mut self.through, done);
    }

    fn poll(&mut self, done: &mut Vec<Completion>) {
        self.inner.poll(done);
    }

    fn in_flight(&self) -> usize {
        self.inner.in_flight()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorKind;
    use crate::pure::Ram;
    use crate::testing::Bench;

    #[test]
    fn reads_pass_and_nothing_that_writes_does() {
        let ram = Ram::new(512, 64);
        Bench::new(ram.clone()).write(0, &[1; 512]).unwrap();
        let mut bench = Bench::new(ReadOnly::new(ram.clone()));
        assert_eq!(bench.read(0, 512).unwrap(), vec![1; 512]);
        assert_eq!(bench.write(0, &[2; 512]).unwrap_err().kind, ErrorKind::ReadOnly);
        for operation in
            [Operation::Unmap, Operation::WriteZeroes { unmap: true, durable: false }, Operation::Copy { source: 512 }]
        {
            assert_eq!(bench.run(operation, 0, 512).unwrap_err().kind, ErrorKind::ReadOnly);
        }
        bench.run(Operation::Flush, 0, 0).unwrap();
        assert_eq!(Bench::new(ram).read(0, 512).unwrap(), vec![1; 512]);
    }
}
