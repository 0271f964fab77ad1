//! Threads that wait in the worker's place: for everything a ring cannot do, and for systems without one.
//!
//! One [`Pool`] of bounded threads serves all workers. Each worker has a [`PoolEngine`] that keeps at
//! most [`WINDOW`] jobs in the pool, the rest in a queue of its own, which is bounded by the tasks that
//! the worker holds. One disk never gets more than [`THREADS_PER_DISK`] threads, so that a stuck disk
//! leaves threads for others (reliability.md F18).

use super::bell::Bell;
use super::perform::perform;
use block::{Alarm, Completion, Engine, Error, ErrorKind, FileJob, FileOperation, Inbox, Outcome, Request};
use rustix::fd::OwnedFd;
use std::cell::RefCell;
use std::collections::{HashMap, VecDeque};
use std::fs::File;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Threads of a pool, at most.
const THREADS_MAX: usize = 32;
/// Threads that work for one file at a time.
const THREADS_PER_DISK: usize = 8;
/// Jobs of one worker that are in the pool at a time.
const WINDOW: usize = 256;
/// How long a thread without work stays.
const IDLE: Duration = Duration::from_secs(10);

/// The threads, shared by all workers. Clones are the same threads.
#[derive(Clone)]
pub(super) struct Pool(Arc<Shared>);

struct Shared {
    state: Mutex<State>,
    work: Condvar,
}

#[derive(Default)]
struct State {
    queue: VecDeque<Job>,
    /// By the address of the open file: how many threads work for it.
    busy: HashMap<u64, usize>,
    threads: usize,
    idle: usize,
}

struct Job {
    slot: usize,
    request: Request,
    file: Arc<File>,
    disk: u64,
    operation: FileOperation,
    mailbox: Arc<Mailbox>,
}

/// Where threads leave what they finished for one worker.
struct Mailbox {
    finished: Mutex<Vec<(usize, Completion)>>,
    wake: Arc<OwnedFd>,
    /// The worker has gone: what has not begun is not begun any more.
    closed: AtomicBool,
}

impl Pool {
    /// No threads yet; they come with the work.
    pub(super) fn new() -> Pool {
        Pool(Arc::new(Shared { state: Mutex::default(), work: Condvar::new() }))
    }

    fn push(&self, job: Job) {
        let mut state = lock(&self.0.state);
        state.queue.push_back(job);
        if state.idle >= state.queue.len() || state.threads >= THREADS_MAX {
            drop(state);
            self.0.work.notify_one();
            return;
        }
        state.threads += 1;
        drop(state);
        let shared = self.0.clone();
        let spawned = std::thread::Builder::new().name("lunette-file".into()).spawn(move || shared.work());
        if spawned.is_err() {
            // The system has no thread for us now. Others of the pool take the job; without any it is
            // given back as refused for the moment, rather than lying there.
            let mut state = lock(&self.0.state);
            state.threads -= 1;
            let stranded = if state.threads == 0 { std::mem::take(&mut state.queue) } else { VecDeque::new() };
            drop(state);
            for job in stranded {
                job.refuse(ErrorKind::Busy);
            }
            self.0.work.notify_one();
        }
    }
}

impl Shared {
    /// The life of a thread.
    fn work(&self) {
        let mut state = lock(&self.state);
        loop {
            if let Some(job) = state.next() {
                let disk = job.disk;
                *state.busy.entry(disk).or_default() += 1;
                drop(state);
                job.run();
                state = lock(&self.state);
                if let Some(threads) = state.busy.get_mut(&disk) {
                    *threads -= 1;
                    if *threads == 0 {
                        state.busy.remove(&disk);
                    }
                }
                continue;
            }
            state.idle += 1;
            let (after, timeout) = self.work.wait_timeout(state, IDLE).unwrap_or_else(PoisonError::into_inner);
            state = after;
            state.idle -= 1;
            // Only with an empty queue: a job whose file has its threads is taken by one of those.
            if timeout.timed_out() && state.queue.is_empty() {
                state.threads -= 1;
                return;
            }
        }
    }
}

impl State {
    /// The oldest job whose file may have one more thread.
    fn next(&mut self) -> Option<Job> {
        let busy = &self.busy;
        let free = |job: &Job| busy.get(&job.disk).is_none_or(|threads| *threads < THREADS_PER_DISK);
        let position = self.queue.iter().position(free)?;
        self.queue.remove(position)
    }
}

impl Job {
    fn run(mut self) {
        if self.mailbox.closed.load(Ordering::Acquire) {
            return;
        }
        let (file, operation, request) = (&self.file, self.operation, &mut self.request);
        let work = std::panic::AssertUnwindSafe(|| perform(file, operation, request));
        // A bug in one operation must not take a thread and the request with it (F38).
        let result = std::panic::catch_unwind(work).unwrap_or(Err(Error::new(ErrorKind::Medium)));
        self.finish(result);
    }

    fn refuse(self, kind: ErrorKind) {
        self.finish(Err(Error::new(kind)));
    }

    fn finish(self, result: Result<Outcome, Error>) {
        // The file is let go before the worker hears of it, so that whoever waits for the last job of
        // a file can count on its being closed.
        drop(self.file);
        let completion = self.request.complete(result);
        lock(&self.mailbox.finished).push((self.slot, completion));
        super::signal(&self.mailbox.wake);
    }
}

/// One worker's side of the pool.
pub(super) struct PoolEngine {
    pool: Pool,
    mailbox: Arc<Mailbox>,
    bell: Arc<Bell>,
    local: RefCell<Local>,
}

#[derive(Default)]
struct Local {
    inboxes: Vec<Option<Inbox>>,
    free: Vec<usize>,
    running: usize,
    waiting: VecDeque<FileJob>,
    arrived: Vec<(usize, Completion)>,
}

impl PoolEngine {
    /// A worker's side that signals this eventfd, of a worker with this alarm.
    pub(super) fn new(pool: Pool, wake: Arc<OwnedFd>, bell: Arc<Bell>) -> PoolEngine {
        let mailbox = Arc::new(Mailbox { finished: Mutex::default(), wake, closed: AtomicBool::new(false) });
        PoolEngine { pool, mailbox, bell, local: RefCell::default() }
    }

    /// Moves what the threads finished into the inboxes; tells how many.
    pub(super) fn collect(&self) -> usize {
        let mut local = self.local.borrow_mut();
        let mut arrived = std::mem::take(&mut local.arrived);
        arrived.append(&mut lock(&self.mailbox.finished));
        let count = arrived.len();
        for (slot, completion) in arrived.drain(..) {
            local.running -= 1;
            local.free.push(slot);
            if let Some(inbox) = local.inboxes.get_mut(slot).and_then(Option::take) {
                inbox.borrow_mut().push(completion);
            }
        }
        local.arrived = arrived;
        self.fill(&mut local);
        count
    }

    /// Jobs taken and not yet given back.
    pub(super) fn in_flight(&self) -> usize {
        let local = self.local.borrow();
        local.running + local.waiting.len()
    }

    fn fill(&self, local: &mut Local) {
        while local.running < WINDOW
            && let Some(job) = local.waiting.pop_front()
        {
            let slot = local.free.pop().unwrap_or_else(|| {
                local.inboxes.push(None);
                local.inboxes.len() - 1
            });
            let FileJob { request, file, disk, operation, inbox, .. } = job;
            if let Some(place) = local.inboxes.get_mut(slot) {
                *place = Some(inbox);
            }
            local.running += 1;
            self.pool.push(Job { slot, request, file, disk, operation, mailbox: self.mailbox.clone() });
        }
    }
}

impl Engine for PoolEngine {
    fn name(&self) -> &'static str {
        "pool"
    }

    fn submit(&self, job: FileJob) {
        let mut local = self.local.borrow_mut();
        local.waiting.push_back(job);
        self.fill(&mut local);
    }

    fn alarm(&self) -> Option<Arc<dyn Alarm>> {
        Some(self.bell.share())
    }
}

impl Drop for PoolEngine {
    fn drop(&mut self) {
        self.mailbox.closed.store(true, Ordering::Release);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use block::{Operation, RequestId};

    fn job(disk: u64, mailbox: &Arc<Mailbox>, id: u64) -> Job {
        let file = Arc::new(File::open("/dev/null").unwrap());
        let request = Request::over(RequestId(id), Operation::Flush, 0, 0);
        Job { slot: 0, request, file, disk, operation: FileOperation::Sync, mailbox: mailbox.clone() }
    }

    #[test]
    fn f18_a_stuck_disk_leaves_threads_for_others_whatever_its_files() {
        let wake = rustix::event::eventfd(0, rustix::event::EventfdFlags::NONBLOCK).unwrap();
        let mailbox =
            Arc::new(Mailbox { finished: Mutex::default(), wake: Arc::new(wake), closed: AtomicBool::new(false) });
        let (stuck, other) = (1, 2);
        let mut state = State::default();
        state.queue.extend([job(stuck, &mailbox, 1), job(stuck, &mailbox, 2), job(other, &mailbox, 3)]);
        state.busy.insert(stuck, THREADS_PER_DISK);
        assert_eq!(state.next().map(|job| job.request.id), Some(RequestId(3)));
        assert!(state.next().is_none());
        state.busy.insert(stuck, THREADS_PER_DISK - 1);
        assert_eq!(state.next().map(|job| job.request.id), Some(RequestId(1)), "the oldest first");
    }
}
