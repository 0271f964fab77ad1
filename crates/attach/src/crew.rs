//! The threads that serve one attached disk: how they are started, told to stop, and waited for, and what
//! became of the disk in the end.

use crate::{Closed, Error, Notice};
use rustix::event::{EventfdFlags, eventfd};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// What the threads and the owner of one attachment share.
pub struct Crew {
    /// Readable from the moment on that all shall stop.
    stop: OwnedFd,
    state: Mutex<State>,
    changed: Condvar,
    notice: Option<Notice>,
}

#[derive(Default)]
struct State {
    running: usize,
    /// The disk is being detached: who finds it gone sees our own doing.
    leaving: bool,
    closed: Option<Closed>,
}

impl Crew {
    /// Nobody yet. `notice` is told when the disk has gone.
    pub fn new(notice: Option<Notice>) -> Result<Arc<Crew>, Error> {
        let stop = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)
            .map_err(|error| Error::system("no eventfd can be had", error))?;
        Ok(Arc::new(Crew { stop, state: Mutex::default(), changed: Condvar::new(), notice }))
    }

    /// Starts a thread. A panic in it is a failure of the disk, as is an error with which it ends.
    pub fn spawn<F>(self: &Arc<Crew>, name: String, body: F) -> Result<(), Error>
    where
        F: FnOnce(&Crew) -> Result<(), Closed> + Send + 'static,
    {
        let crew = self.clone();
        self.lock().running += 1;
        let thread = std::thread::Builder::new().name(name).spawn(move || {
            let left = Leaving(&crew);
            if let Err(closed) = body(&crew) {
                crew.close(closed);
            }
            std::mem::drop(left);
        });
        match thread {
            Ok(_) => Ok(()),
            Err(error) => {
                self.leave();
                Err(Error::system("a thread cannot be started", error))
            }
        }
    }

    /// Readable from the moment on that all shall stop.
    pub fn stop_signal(&self) -> BorrowedFd<'_> {
        self.stop.as_fd()
    }

    /// Tells all threads to stop.
    pub fn stop(&self) {
        let _ = rustix::io::write(&self.stop, &1u64.to_ne_bytes());
    }

    /// From now on whoever finds the disk gone sees our own doing; or, when it stays, no more.
    pub fn leaving(&self, leaving: bool) {
        self.lock().leaving = leaving;
    }

    /// The disk is gone, for this reason unless there was one before; all threads stop.
    pub fn close(&self, mut closed: Closed) {
        let first = {
            let mut state = self.lock();
            if state.leaving && matches!(closed, Closed::Elsewhere(_)) {
                closed = Closed::Detached;
            }
            let first = state.closed.is_none();
            if first {
                state.closed = Some(closed.clone());
            }
            first
        };
        self.stop();
        if first {
            match &closed {
                Closed::Detached => tracing::debug!("the disk is detached"),
                other => tracing::warn!(reason = %other, "the disk is no longer attached"),
            }
            if let Some(notice) = &self.notice {
                notice(&closed);
            }
        }
    }

    /// Why the disk is gone, `None` while it is there.
    pub fn closed(&self) -> Option<Closed> {
        self.lock().closed.clone()
    }

    /// Waits until all threads have ended, and tells whether they have.
    pub fn wait(&self, limit: Duration) -> bool {
        let end = Instant::now() + limit;
        let mut state = self.lock();
        while state.running > 0 {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            state = self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }

    fn leave(&self) {
        self.lock().running -= 1;
        self.changed.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Counts a thread out, also when it panics.
struct Leaving<'a>(&'a Arc<Crew>);

impl Drop for Leaving<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.close(Closed::Failed("a thread panicked; this is a defect of Lunette".into()));
        }
        self.0.leave();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[test]
    fn who_hears_of_the_end_hears_the_first_reason_once() {
        let told = Arc::new(AtomicUsize::new(0));
        let count = told.clone();
        let crew = Crew::new(Some(Arc::new(move |closed: &Closed| {
            assert_eq!(*closed, Closed::Failed("first".into()));
            count.fetch_add(1, Ordering::Relaxed);
        })))
        .unwrap();
        crew.spawn("one".into(), |_| Err(Closed::Failed("first".into()))).unwrap();
        assert!(crew.wait(Duration::from_secs(10)));
        crew.close(Closed::Detached);
        assert_eq!(told.load(Ordering::Relaxed), 1);
        assert_eq!(crew.closed(), Some(Closed::Failed("first".into())));
    }

    #[test]
    fn waiting_for_a_thread_that_hangs_ends() {
        let crew = Crew::new(None).unwrap();
        let (release, hold) = std::sync::mpsc::channel::<()>();
        crew.spawn("stuck".into(), move |_| {
            let _ = hold.recv();
            Ok(())
        })
        .unwrap();
        crew.stop();
        assert!(!crew.wait(Duration::from_millis(20)));
        drop(release);
        assert!(crew.wait(Duration::from_secs(10)));
    }
}
