//! What handles and driver share: requests one way, ends of commands the other, and what can be looked up.

use crate::command::{Command, Finished};
use crate::{Error, Event, Information, Lun, State, Statistics};
use iscsi::initiator::Function;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use tokio::sync::{broadcast, oneshot};

/// Events that wait for whoever reads them slowly.
const EVENTS: usize = 256;

/// Where the end of a command goes.
pub(crate) enum Sink {
    /// To a future, which may have been dropped.
    Once(oneshot::Sender<Finished>),
    /// Into a channel, under this number.
    Queue(Arc<Completions>, u64),
}

impl Sink {
    /// Whether anybody still wants to know.
    pub fn is_wanted(&self) -> bool {
        match self {
            Sink::Once(sender) => !sender.is_closed(),
            Sink::Queue(..) => true,
        }
    }
}

/// A command on its way through the driver.
pub(crate) struct Job {
    pub lun: Lun,
    pub command: Command,
    pub sink: Sink,
    /// Its place in the order of all commands; commands that are sent again keep it.
    pub sequence: u64,
    /// When it has taken too long.
    pub deadline: std::time::Instant,
    /// How often it was sent because the unit wanted it so.
    pub retries: u32,
    /// How often it was under way when a session was lost.
    pub losses: u32,
    /// It took too long and is being aborted.
    pub timed_out: bool,
    /// The unit may have dropped it without a word: it is aborted, to be sent again.
    pub dropped: bool,
    /// The blocks that it writes, once it was sent.
    pub registered: bool,
}

impl Job {
    pub fn new(lun: Lun, command: Command, sink: Sink) -> Box<Job> {
        Box::new(Job {
            lun,
            command,
            sink,
            sequence: 0,
            // Set when the driver takes it.
            deadline: std::time::Instant::now(),
            retries: 0,
            losses: 0,
            timed_out: false,
            dropped: false,
            registered: false,
        })
    }

    /// Hands it back with its memory. Returns a channel that is to be woken for it.
    pub fn finish(self, result: Result<crate::Answer, Error>) -> Option<Arc<Completions>> {
        let finished = Finished { data_in: self.command.data_in, data_out: self.command.data_out, result };
        match self.sink {
            Sink::Once(sender) => {
                let _ = sender.send(finished);
                None
            }
            Sink::Queue(completions, token) => completions.put(token, finished).then_some(completions),
        }
    }
}

/// Something other than a command.
pub(crate) enum Ask {
    Function {
        function: Function,
        lun: Lun,
        reply: oneshot::Sender<Result<(), Error>>,
    },
    /// A unit is reset so that writes of a session before this one are over there.
    Fence {
        lun: Lun,
    },
    Ping {
        data: Vec<u8>,
        reply: oneshot::Sender<Result<Vec<u8>, Error>>,
    },
    Text {
        text: Vec<u8>,
        reply: oneshot::Sender<Result<Vec<u8>, Error>>,
    },
    Logout {
        reply: oneshot::Sender<Result<(), Error>>,
    },
}

impl Ask {
    pub fn fail(self, error: Error) {
        match self {
            Ask::Fence { .. } => {}
            Ask::Function { reply, .. } | Ask::Logout { reply } => {
                let _ = reply.send(Err(error));
            }
            Ask::Ping { reply, .. } | Ask::Text { reply, .. } => {
                let _ = reply.send(Err(error));
            }
        }
    }
}

/// What a handle wants.
pub(crate) enum Request {
    Execute(Box<Job>),
    Ask(Box<Ask>),
    /// What a look found that was begun at this count of holds, at a unit that may be held: the same disk, or why it
    /// is refused.
    Judge(Lun, u64, Option<Box<Error>>),
}

#[derive(Default)]
struct Inbox {
    requests: Vec<Request>,
    /// The driver's, while it sleeps.
    waker: Option<Waker>,
    /// The last handle is gone.
    let_go: bool,
    /// Nothing is taken any more, for this reason.
    closed: Option<Error>,
}

/// What handles and driver share.
pub(crate) struct Shared {
    inbox: Mutex<Inbox>,
    pub events: broadcast::Sender<Event>,
    information: Mutex<Option<Information>>,
    statistics: Mutex<Statistics>,
    block_lengths: Mutex<Vec<(Lun, u32)>>,
    /// Units that are looked at when they may have become others, before anything else is sent to them; once for
    /// each who does so.
    guarded: Mutex<Vec<Lun>>,
    /// How often units were held so far.
    holds: AtomicU64,
}

/// Nothing that these locks guard is ever half done.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    pub fn new() -> Shared {
        Shared {
            inbox: Mutex::default(),
            events: broadcast::Sender::new(EVENTS),
            information: Mutex::default(),
            statistics: Mutex::default(),
            block_lengths: Mutex::default(),
            guarded: Mutex::default(),
            holds: AtomicU64::new(0),
        }
    }

    /// From now on somebody looks at the unit whenever it may have become another.
    pub fn guard(&self, lun: Lun) {
        lock(&self.guarded).push(lun);
    }

    /// He has gone.
    pub fn unguard(&self, lun: Lun) {
        let mut guarded = lock(&self.guarded);
        if let Some(at) = guarded.iter().position(|of| *of == lun) {
            guarded.swap_remove(at);
        }
        let is_guarded = guarded.contains(&lun);
        drop(guarded);
        if !is_guarded {
            self.ask(Request::Judge(lun, u64::MAX, None));
        }
    }

    /// How often units were held so far. What was found by a look that was begun before the last time says nothing.
    pub fn holds(&self) -> u64 {
        self.holds.load(Ordering::SeqCst)
    }

    /// Units are held.
    pub fn count_hold(&self) {
        self.holds.fetch_add(1, Ordering::SeqCst);
    }

    /// The units that are looked at.
    pub fn guarded(&self) -> Vec<Lun> {
        lock(&self.guarded).clone()
    }

    /// Hands a request to the driver.
    pub fn ask(&self, request: Request) {
        let mut inbox = lock(&self.inbox);
        if let Some(error) = inbox.closed.clone() {
            drop(inbox);
            return refuse(request, error);
        }
        inbox.requests.push(request);
        let waker = inbox.waker.take();
        drop(inbox);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Hands all of them to the driver, with one wake-up.
    pub fn ask_all(&self, requests: &mut Vec<Request>) {
        let mut inbox = lock(&self.inbox);
        if let Some(error) = inbox.closed.clone() {
            drop(inbox);
            requests.drain(..).for_each(|request| refuse(request, error.clone()));
            return;
        }
        inbox.requests.append(requests);
        let waker = inbox.waker.take();
        drop(inbox);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// The last handle is gone.
    pub fn let_go(&self) {
        let mut inbox = lock(&self.inbox);
        inbox.let_go = true;
        let waker = inbox.waker.take();
        drop(inbox);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Moves what came since into `into`, which is empty. The driver is woken by what comes from now on. Returns
    /// whether the last handle is gone.
    pub fn take(&self, into: &mut Vec<Request>, waker: &Waker) -> bool {
        let mut inbox = lock(&self.inbox);
        std::mem::swap(&mut inbox.requests, into);
        if inbox.waker.is_none() {
            inbox.waker = Some(waker.clone());
        }
        inbox.let_go
    }

    /// Refuses whatever comes from now on; gives back what is there already.
    pub fn close(&self, error: Error) -> Vec<Request> {
        let mut inbox = lock(&self.inbox);
        inbox.closed = Some(error);
        std::mem::take(&mut inbox.requests)
    }

    pub fn information(&self) -> Information {
        match &*lock(&self.information) {
            Some(information) => information.clone(),
            // The driver sets it before any handle exists.
            None => unreachable!("a session without a driver"),
        }
    }

    pub fn inform(&self, information: Information) {
        *lock(&self.information) = Some(information);
    }

    pub fn set_state(&self, state: State) {
        if let Some(information) = &mut *lock(&self.information) {
            information.state = state;
        }
    }

    pub fn statistics(&self) -> Statistics {
        *lock(&self.statistics)
    }

    pub fn set_statistics(&self, statistics: Statistics) {
        *lock(&self.statistics) = statistics;
    }

    /// Bytes of a unit's blocks, where they are known.
    pub fn block_length(&self, lun: Lun) -> Option<u32> {
        lock(&self.block_lengths).iter().find(|(of, _)| *of == lun).map(|(_, length)| *length)
    }

    pub fn set_block_length(&self, lun: Lun, length: u32) {
        let mut lengths = lock(&self.block_lengths);
        lengths.retain(|(of, _)| *of != lun);
        lengths.push((lun, length));
    }

    /// The unit may be another now.
    pub fn forget_block_length(&self, lun: Option<Lun>) {
        lock(&self.block_lengths).retain(|(of, _)| lun.is_some_and(|lun| lun != *of));
    }

    pub fn tell(&self, event: Event) {
        // Nobody listens: nobody has to know.
        let _ = self.events.send(event);
    }
}

/// A request that the driver does not take.
pub(crate) fn refuse(request: Request, error: Error) {
    match request {
        Request::Execute(job) => {
            if let Some(completions) = job.finish(Err(error)) {
                completions.wake();
            }
        }
        Request::Ask(ask) => ask.fail(error),
        Request::Judge(..) => {}
    }
}

/// The ends of a channel's commands.
pub(crate) struct Completions(Mutex<(Vec<(u64, Finished)>, Waker)>);

impl Completions {
    pub fn new(waker: Waker) -> Completions {
        Completions(Mutex::new((Vec::new(), waker)))
    }

    /// True: there was none before, and the taker is to be woken.
    fn put(&self, token: u64, finished: Finished) -> bool {
        let mut inner = lock(&self.0);
        inner.0.push((token, finished));
        inner.0.len() == 1
    }

    pub fn take(&self, into: &mut Vec<(u64, Finished)>) {
        into.append(&mut lock(&self.0).0);
    }

    pub fn set_waker(&self, waker: Waker) {
        lock(&self.0).1 = waker;
    }

    pub fn wake(&self) {
        let waker = lock(&self.0).1.clone();
        waker.wake();
    }
}
