//! Engines: how a worker has file operations done without waiting for them.
//!
//! [`Engines`] is made once; it looks which engine this system allows, keeps the pool of threads, and
//! says which won and why. Each worker opens its own [`WorkerEngine`] from it.

mod bell;
mod inline;
mod perform;
mod pool;
mod uring;

#[cfg(test)]
mod tests;

use block::Engine;
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use std::cell::OnceCell;
use std::rc::Rc;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Which engine is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Choice {
    /// The ring where it works, else the pool.
    #[default]
    Auto,
    /// The ring; the pool, with a warning, where it does not work.
    Uring,
    /// Threads.
    Pool,
    /// Everything at once on the worker: for tests.
    Inline,
}

impl FromStr for Choice {
    type Err = String;

    fn from_str(text: &str) -> Result<Choice, String> {
        match text {
            "auto" => Ok(Choice::Auto),
            "uring" => Ok(Choice::Uring),
            "pool" => Ok(Choice::Pool),
            "inline" => Ok(Choice::Inline),
            _ => Err(format!("'{text}' is no I/O engine; there are auto, uring, pool and inline")),
        }
    }
}

/// What was wanted, what is used, and why; for the log and the metrics.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EngineChoice {
    /// What was wanted.
    pub wanted: Choice,
    /// `uring`, `pool` or `inline`.
    pub used: &'static str,
    /// One line for people.
    pub reason: String,
}

/// The engines of a process. Clones share the pool's threads.
#[derive(Clone)]
pub struct Engines {
    choice: EngineChoice,
    pool: pool::Pool,
}

impl Engines {
    /// Looks what works here. Never fails: without a ring there is the pool.
    pub fn new(wanted: Choice) -> Engines {
        let choice = |used, reason: &str| EngineChoice { wanted, used, reason: reason.into() };
        let choice = match wanted {
            Choice::Inline => choice("inline", "as wanted"),
            Choice::Pool => choice("pool", "as wanted"),
            Choice::Auto | Choice::Uring => match uring::probe() {
                Ok(()) => choice("uring", "the kernel has all that is needed"),
                Err(reason) => choice("pool", &reason),
            },
        };
        match (wanted, choice.used) {
            (Choice::Uring, "pool") => {
                tracing::warn!(engine = choice.used, reason = choice.reason, "I/O engine: not the one wanted");
            }
            (Choice::Inline, _) => tracing::debug!(engine = choice.used, "I/O engine"),
            _ => tracing::info!(engine = choice.used, reason = choice.reason, "I/O engine"),
        }
        Engines { choice, pool: pool::Pool::new() }
    }

    /// Which engine won, and why.
    pub fn choice(&self) -> &EngineChoice {
        &self.choice
    }

    /// A worker's engine. To be called on the worker's own thread. Fails when the system has no
    /// descriptor left; when only the ring cannot be had, the worker gets the pool.
    pub fn open(&self) -> std::io::Result<WorkerEngine> {
        let wake = Arc::new(rustix::event::eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?);
        let bell = bell::Bell::new(wake.clone());
        let pool = || pool::PoolEngine::new(self.pool.clone(), wake.clone(), bell.clone());
        let (kind, engine): (Kind, Rc<dyn Engine>) = match self.choice.used {
            "inline" => {
                let engine = Rc::new(inline::InlineEngine::new(bell.clone()));
                (Kind::Inline(engine.clone()), engine)
            }
            "uring" => match uring::UringEngine::new(pool(), &wake) {
                Ok(engine) => {
                    let engine = Rc::new(engine);
                    (Kind::Uring(engine.clone()), engine)
                }
                Err(reason) => {
                    tracing::warn!(reason, "this worker has no ring and uses the pool");
                    let engine = Rc::new(pool());
                    (Kind::Pool(engine.clone()), engine)
                }
            },
            _ => {
                let engine = Rc::new(pool());
                (Kind::Pool(engine.clone()), engine)
            }
        };
        Ok(WorkerEngine { kind, engine, wake, bell, readiness: OnceCell::new() })
    }
}

/// One worker's engine and its alarm.
pub struct WorkerEngine {
    kind: Kind,
    engine: Rc<dyn Engine>,
    wake: Arc<OwnedFd>,
    bell: Arc<bell::Bell>,
    readiness: OnceCell<AsyncFd<Arc<OwnedFd>>>,
}

enum Kind {
    Inline(Rc<inline::InlineEngine>),
    Pool(Rc<pool::PoolEngine>),
    Uring(Rc<uring::UringEngine>),
}

impl WorkerEngine {
    /// What [`block::Backend::open`] wants.
    pub fn engine(&self) -> &Rc<dyn Engine> {
        &self.engine
    }

    /// Jobs that the engine has and has not given back.
    pub fn in_flight(&self) -> usize {
        match &self.kind {
            Kind::Inline(_) => 0,
            Kind::Pool(engine) => engine.in_flight(),
            Kind::Uring(engine) => engine.in_flight(),
        }
    }

    /// Moves what has completed into the stores' inboxes without waiting; tells how many, where other
    /// threads that rang the alarm count as one. The stores' `poll` brings them out.
    pub fn collect(&self) -> usize {
        let rung = usize::from(self.bell.take());
        rung + match &self.kind {
            Kind::Inline(engine) => engine.collect(),
            Kind::Pool(engine) => engine.collect(),
            Kind::Uring(engine) => engine.collect(),
        }
    }

    /// Returns when completions have been put into inboxes. Within a tokio runtime with I/O. Dropping
    /// the future loses nothing.
    pub async fn ready(&self) -> std::io::Result<()> {
        if matches!(self.kind, Kind::Inline(_)) && self.collect() > 0 {
            return Ok(());
        }
        let readiness = match self.readiness.get() {
            Some(readiness) => readiness,
            None => {
                // SAFETY: `Arc<OwnedFd>` names the same open descriptor for as long as `AsyncFd` holds it.
                let made = unsafe { AsyncFd::register_with_interest(self.wake.clone(), Interest::READABLE) }?;
                self.readiness.get_or_init(|| made)
            }
        };
        loop {
            let mut guard = readiness.readable().await?;
            // Quiet first, then look: what comes after the look rings again.
            guard.clear_ready();
            self.quiet();
            if self.collect() > 0 {
                return Ok(());
            }
        }
    }

    /// As [`WorkerEngine::ready`], for a thread without a runtime: waits up to `limit` and tells how many came.
    pub fn wait(&self, limit: Duration) -> usize {
        let came = self.collect();
        // Who does everything at once has nothing to wait for but other threads.
        let alone = matches!(self.kind, Kind::Inline(_)) && !self.bell.is_shared();
        if came > 0 || alone {
            return came;
        }
        let limit =
            Timespec { tv_sec: limit.as_secs().try_into().unwrap_or(i64::MAX), tv_nsec: limit.subsec_nanos().into() };
        let _ = rustix::event::poll(&mut [PollFd::new(&*self.wake, PollFlags::IN)], Some(&limit));
        self.quiet();
        self.collect()
    }

    /// The descriptor that becomes readable when something has completed, for threads that wait for other
    /// descriptors too. [`WorkerEngine::quiet`] silences it; only then [`WorkerEngine::collect`].
    pub fn alarm(&self) -> BorrowedFd<'_> {
        self.wake.as_fd()
    }

    /// Silences the alarm. What completes afterwards rings again.
    pub fn quiet(&self) {
        let _ = rustix::io::read(&*self.wake, &mut [0u8; 8]);
    }
}

/// Rings an eventfd. Its counter cannot overflow in practice, and if it were full the bell rings already.
fn signal(wake: &OwnedFd) {
    let _ = rustix::io::write(wake, &1u64.to_ne_bytes());
}
