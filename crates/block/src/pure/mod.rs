//! Stores that need no system: memory and nothing. They finish every request at once, on the
//! worker that asked, and never touch the engine.

mod null;
mod ram;

pub use null::Null;
pub use ram::Ram;

use crate::{Completion, Request, Store};

/// A channel to a store that answers at once: a function and nothing in flight.
struct Immediate<F>(F);

impl<F: FnMut(&mut Request) -> Result<crate::Outcome, crate::Error>> Store for Immediate<F> {
    fn submit(&mut self, batch: &mut Vec<Request>, done: &mut Vec<Completion>) {
        for mut request in batch.drain(..) {
            let result = (self.0)(&mut request);
            done.push(request.complete(result));
        }
    }

    fn poll(&mut self, _done: &mut Vec<Completion>) {}

    fn in_flight(&self) -> usize {
        0
    }
}
