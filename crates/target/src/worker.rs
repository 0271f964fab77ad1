//! A data worker: a thread with its own runtime, its lane, and the sessions that live on it.
//!
//! What a session's turn does, in this order: read each of its connections once and parse all of it, hand
//! commands to the lane, run the lane once, turn what it completed into answers, send them with one system call
//! for each connection.

pub(crate) mod handover;
mod memory;
mod pacing;
mod session;

pub use session::{ConnectionOverview, SessionOverview};

use crate::limits::Limits;
use crate::registry::{Registered, Revived};
use crate::target::Handover;
use crate::trace::Tracer;
use block::Pool;
use io::engine::{Engines, WorkerEngine};
use io::link::Scratch;
use lun::{Event, Lane, LaneContext, NexusId};
use pacing::{Pacer, ticks};
use session::Driver;
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tokio::sync::Notify;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::oneshot;

/// Bytes of memory that a worker keeps warm.
const KEEP_BYTES: usize = 8 << 20;

/// How often the sessions of a worker that ends are told so.
const TELLING: Duration = Duration::from_millis(10);

/// What a worker can be told.
pub(crate) enum Order {
    /// Serve the session of this connection, which ends with its place in the registry.
    Serve(Box<Handover>, Registered),
    /// Tell how it stands.
    Overview(oneshot::Sender<WorkerOverview>),
    /// Have the PDUs of the sessions that are there told, as far as they are asked for; answer on how many
    /// connections.
    Trace(Arc<Tracer>, oneshot::Sender<usize>),
    /// Bring all sessions to rest until then, or tell why that cannot be.
    Freeze(Instant, oneshot::Sender<Result<(), String>>),
    /// Write them down; they rest.
    WriteDown(oneshot::Sender<Result<Vec<handover::Written>, String>>),
    /// They go on.
    Thaw,
    /// Go on with a session of another process.
    Revive(Box<Revived>, Registered),
    /// Finish what is in flight within this time, tell the initiators, close, then answer.
    Stop(Duration, oneshot::Sender<()>),
}

/// A worker as it stands at a moment.
#[derive(Debug, Clone)]
pub struct WorkerOverview {
    /// Its sessions.
    pub sessions: Vec<SessionOverview>,
    /// Bytes of data in flight.
    pub data_bytes: usize,
}

/// The other threads' handle to a worker.
#[derive(Clone)]
pub struct WorkerHandle {
    orders: UnboundedSender<Order>,
}

impl WorkerHandle {
    /// Starts a worker thread, one of so many, which holds at most [`Limits::worker_memory`] bytes of data in
    /// flight, and twice that under pressure ([`block::Account`]). Returns when it is ready to serve.
    pub fn start(
        number: usize,
        workers: usize,
        engines: Engines,
        limits: Arc<Limits>,
    ) -> std::io::Result<WorkerHandle> {
        let (orders, receiver) = unbounded_channel();
        let (ready, is_ready) = std::sync::mpsc::channel();
        std::thread::Builder::new().name(format!("worker-{number}")).spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let runtime = match runtime {
                Ok(runtime) => runtime,
                Err(error) => return drop(ready.send(Err(error))),
            };
            let local = tokio::task::LocalSet::new();
            local.block_on(&runtime, async {
                // The engine watches its alarm through the runtime, so that it is opened within it.
                match engines.open() {
                    Ok(engine) => {
                        let _ = ready.send(Ok(()));
                        run(engine, workers, limits, receiver).await;
                    }
                    Err(error) => drop(ready.send(Err(error))),
                }
            });
        })?;
        let died = || std::io::Error::other("the thread has died");
        is_ready.recv().unwrap_or_else(|_| Err(died()))?;
        Ok(WorkerHandle { orders })
    }

    /// Gives the worker a session whose leading connection has finished its login. False: it has died.
    pub fn serve(&self, handover: Handover, registered: Registered) -> bool {
        self.orders.send(Order::Serve(Box::new(handover), registered)).is_ok()
    }

    /// Whether it serves.
    pub fn lives(&self) -> bool {
        !self.orders.is_closed()
    }

    /// Comes back when the worker has ended, which it does only when it is stopped or by a defect.
    pub async fn ended(&self) {
        self.orders.closed().await;
    }

    /// The worker as it stands; nothing where it has died.
    pub async fn overview(&self) -> Option<WorkerOverview> {
        let (answer, answered) = oneshot::channel();
        self.orders.send(Order::Overview(answer)).ok()?;
        answered.await.ok()
    }

    /// Has PDUs told to a tracer; how many connections it watches.
    pub(crate) async fn trace(&self, tracer: Arc<Tracer>) -> usize {
        let (answer, answered) = oneshot::channel();
        let sent = self.orders.send(Order::Trace(tracer, answer)).is_ok();
        if sent { answered.await.unwrap_or(0) } else { 0 }
    }

    /// Brings all sessions to rest, where that can be done until then; if not, tells who does not. What is begun
    /// is finished, and nothing else begins, until the worker is told to go on.
    pub async fn freeze(&self, until: Instant) -> Result<(), String> {
        let (answer, answered) = oneshot::channel();
        let gone = || "a worker has died".to_owned();
        self.orders.send(Order::Freeze(until, answer)).map_err(|_| gone())?;
        answered.await.unwrap_or_else(|_| Err(gone()))
    }

    /// Writes all sessions down, which rest.
    pub(crate) async fn write_down(&self) -> Result<Vec<handover::Written>, String> {
        let (answer, answered) = oneshot::channel();
        let gone = || "a worker has died".to_owned();
        self.orders.send(Order::WriteDown(answer)).map_err(|_| gone())?;
        answered.await.unwrap_or_else(|_| Err(gone()))
    }

    /// All sessions go on.
    pub fn thaw(&self) {
        let _ = self.orders.send(Order::Thaw);
    }

    /// Gives the worker a session of another process. False: it has died.
    pub(crate) fn revive(&self, revived: Revived, registered: Registered) -> bool {
        self.orders.send(Order::Revive(Box::new(revived), registered)).is_ok()
    }

    /// Ends the worker's sessions and waits for it, at most this long.
    pub async fn stop(&self, grace: Duration) {
        let (done, stopped) = oneshot::channel();
        if self.orders.send(Order::Stop(grace, done)).is_ok() {
            let _ = tokio::time::timeout(grace, stopped).await;
        }
    }
}

/// What the sessions of a worker share.
pub(crate) struct Shared {
    lane: RefCell<Lane>,
    scratch: RefCell<Scratch>,
    pool: Pool,
    limits: Arc<Limits>,
    sessions: RefCell<HashMap<NexusId, Rc<RefCell<Driver>>, BuildHasherDefault<NexusHasher>>>,
    /// Rings when the lane is to run.
    bell: Arc<Notify>,
    /// Runs the lane when a limit lets something pass.
    pacer: Pacer,
    /// How often its sessions were brought to rest or told to go on.
    freezes: Cell<u32>,
}

/// Spreads names of nexuses, which the lane counts up: no stranger chooses them.
#[derive(Default)]
pub(crate) struct NexusHasher(u64);

impl Hasher for NexusHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.write_u32(u32::from(*byte)));
    }

    fn write_u32(&mut self, value: u32) {
        self.0 = (self.0 ^ u64::from(value)).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(26);
    }
}

impl Shared {
    /// Where memory came back that somebody had waited for, those who wait are given their turn.
    fn pass_relief(&self) {
        if self.pool.take_relief() {
            // A session that ends gives room as well, where nobody had to wait.
            if self.pool.take_refusal() {
                self.limits.struck.memory.count();
            }
            self.bell.notify_one();
        }
    }

    /// Runs the lane and hands what it has to say to the sessions.
    fn pump(&self) {
        self.lane.borrow_mut().run();
        loop {
            let Some(event) = self.lane.borrow_mut().poll_event() else {
                self.pacer.arm(self.lane.borrow().poll_timeout());
                return self.pass_relief();
            };
            let nexus = match &event {
                Event::ReceiveDataOut { nexus, .. }
                | Event::Completed { nexus, .. }
                | Event::Aborted { nexus, .. }
                | Event::NexusClosed { nexus }
                | Event::TaskManagementDone { nexus, .. } => *nexus,
            };
            let driver = self.sessions.borrow().get(&nexus).cloned();
            match driver {
                Some(driver) => driver.borrow_mut().lane_event(self, event),
                None => {
                    if let Event::Completed { completed, .. } = event
                        && let Some(buffer) = completed.data_in
                    {
                        self.pool.give(buffer);
                    }
                }
            }
        }
    }
}

async fn run(engine: WorkerEngine, workers: usize, limits: Arc<Limits>, mut orders: UnboundedReceiver<Order>) {
    let engine = Rc::new(engine);
    let pool = Pool::shared(limits.worker_memory(workers), limits.session_memory, KEEP_BYTES);
    // Other lanes' letters: a lane of another thread calls this after it has posted one.
    let posted = Arc::new(Notify::new());
    let bell = Arc::clone(&posted);
    let wake = Arc::new(move || bell.notify_one());
    let clock = Arc::new(|| SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default());
    let random = Arc::new(|bytes: &mut [u8]| getrandom::fill(bytes).is_ok());
    let context = LaneContext { pool: pool.clone(), engine: Rc::clone(engine.engine()), wake, clock, random };
    let mut lane = Lane::new(context);
    lane.set_ticks(Arc::new(|| ticks(Instant::now())));
    let shared = Rc::new(Shared {
        lane: RefCell::new(lane),
        scratch: RefCell::default(),
        pool,
        limits,
        sessions: RefCell::default(),
        bell: Arc::clone(&posted),
        pacer: Pacer::default(),
        freezes: Cell::new(0),
    });
    let paced = Rc::clone(&shared);
    tokio::task::spawn_local(async move { paced.pacer.run(|| paced.pump()).await });
    let completions = Rc::clone(&shared);
    tokio::task::spawn_local(async move {
        while engine.ready().await.is_ok() {
            completions.pump();
        }
    });
    let letters = Rc::clone(&shared);
    tokio::task::spawn_local(async move {
        loop {
            posted.notified().await;
            letters.pump();
            for driver in letters.sessions.borrow().values() {
                driver.borrow_mut().relieve();
            }
            // A lane that has more to do rings at once; the sockets have their turn between.
            tokio::task::yield_now().await;
        }
    });
    while let Some(order) = orders.recv().await {
        match order {
            Order::Serve(handover, registered) => {
                let shared = Rc::clone(&shared);
                tokio::task::spawn_local(async move { session::serve(shared, *handover, registered).await });
            }
            Order::Overview(answer) => {
                let overview = |(nexus, driver): (&NexusId, &Rc<RefCell<Driver>>)| {
                    driver.borrow().overview(shared.lane.borrow().luns(*nexus))
                };
                let sessions = shared.sessions.borrow().iter().map(overview).collect();
                let _ = answer.send(WorkerOverview { sessions, data_bytes: shared.pool.taken_bytes() });
            }
            Order::Trace(tracer, answer) => {
                let watched = |driver: &Rc<RefCell<Driver>>| driver.borrow_mut().watch(&tracer);
                let _ = answer.send(shared.sessions.borrow().values().map(watched).sum());
            }
            Order::Freeze(until, answer) => {
                let shared = Rc::clone(&shared);
                tokio::task::spawn_local(async move { drop(answer.send(handover::freeze(shared, until).await)) });
            }
            Order::WriteDown(answer) => drop(answer.send(handover::write_down(&shared))),
            Order::Thaw => handover::thaw(&shared),
            Order::Revive(revived, registered) => handover::revive(&shared, revived, registered),
            Order::Stop(grace, done) => {
                // What cannot be finished in this time is given up, so that everybody is told in the rest.
                let overdue = Instant::now() + grace / 5 * 4;
                loop {
                    // A session that was handed over just now is told as well.
                    for driver in shared.sessions.borrow().values() {
                        driver.borrow_mut().leave(Instant::now() >= overdue);
                    }
                    tokio::time::sleep(TELLING).await;
                    if shared.sessions.borrow().is_empty() {
                        break;
                    }
                }
                let _ = done.send(());
                return;
            }
        }
    }
}
