//! Many commands at once for one taker: what a store is built on. No future, no wake-up for each command.

use crate::command::{Command, Finished};
use crate::driver::{Completions, Job, Request, Sink};
use crate::{Lun, Session};
use std::sync::Arc;
use std::task::Waker;

/// A way to submit commands and to take their ends in whatever order they come.
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// use initiator::{Command, Lun, Session};
/// # let url = sim::served::disk(2048);
/// # struct Bell(tokio::sync::Notify);
/// # impl std::task::Wake for Bell {
/// #     fn wake(self: std::sync::Arc<Self>) { self.0.notify_one() }
/// # }
/// # let bell = std::sync::Arc::new(Bell(tokio::sync::Notify::new()));
/// # let waker = std::task::Waker::from(bell.clone());
/// let session = Session::connect(&url).await?;
/// let mut channel = session.channel(waker);
/// let ready = |token| (token, Lun::new(0), Command::new(&[0; 6]));
/// channel.submit(&mut (0..10).map(ready).collect());
/// let mut done = Vec::new();
/// while channel.in_flight() > 0 {
///     // … until the waker is woken:
/// #   bell.0.notified().await;
///     channel.take(&mut done);
/// }
/// assert!(done.iter().all(|(_, finished)| finished.result.is_ok()));
/// # Ok::<(), initiator::Error>(())
/// # }).unwrap();
/// ```
pub struct Channel {
    session: Session,
    completions: Arc<Completions>,
    requests: Vec<Request>,
    in_flight: usize,
}

impl Channel {
    pub(crate) fn new(session: Session, wake: Waker) -> Channel {
        Channel { session, completions: Arc::new(Completions::new(wake)), requests: Vec::new(), in_flight: 0 }
    }

    /// Submits all of the batch, in its order. The number is the caller's name for the command and comes back
    /// with its end.
    pub fn submit(&mut self, batch: &mut Vec<(u64, Lun, Command)>) {
        self.in_flight += batch.len();
        for (token, lun, command) in batch.drain(..) {
            let sink = Sink::Queue(self.completions.clone(), token);
            self.requests.push(Request::Execute(Job::new(lun, command, sink)));
        }
        self.session.shared().ask_all(&mut self.requests);
    }

    /// Moves what has ended since into `done`.
    pub fn take(&mut self, done: &mut Vec<(u64, Finished)>) {
        let before = done.len();
        self.completions.take(done);
        self.in_flight = self.in_flight.saturating_sub(done.len() - before);
    }

    /// Commands that were submitted and not yet taken.
    pub fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// Another is to be woken from now on.
    pub fn set_waker(&self, wake: Waker) {
        self.completions.set_waker(wake);
    }

    /// Its session.
    pub fn session(&self) -> &Session {
        &self.session
    }
}
