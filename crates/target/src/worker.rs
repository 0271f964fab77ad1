//! A data worker: a thread with its own runtime, its lane, and the sessions that live on it.
//!
//! What a connection's turn does, in this order: read once and parse all of it, hand commands to the
//! lane, run the lane once, turn what it completed into answers, send them with one system call.

mod memory;
mod session;

use crate::target::Handover;
use block::Pool;
use io::engine::Engines;
use io::link::Scratch;
use lun::{Event, Lane, LaneContext, NexusId};
use session::Driver;
use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::oneshot;

/// Bytes of memory that a worker keeps warm.
const KEEP_BYTES: usize = 8 << 20;

/// What a worker can be told.
pub(crate) enum Order {
    /// Serve this connection.
    Serve(Box<Handover>),
    /// Finish what is in flight, tell the initiators, close, then answer.
    Stop(oneshot::Sender<()>),
}

/// The other threads' handle to a worker.
#[derive(Clone)]
pub struct WorkerHandle {
    orders: UnboundedSender<Order>,
}

impl WorkerHandle {
    /// Starts a worker thread, which holds at most `memory` bytes of data in flight.
    pub fn start(number: usize, engines: Engines, memory: usize) -> std::io::Result<WorkerHandle> {
        let (orders, receiver) = unbounded_channel();
        std::thread::Builder::new().name(format!("worker-{number}")).spawn(move || {
            let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
                Ok(runtime) => runtime,
                Err(error) => return tracing::error!("worker {number}: no runtime: {error}"),
            };
            let local = tokio::task::LocalSet::new();
            local.block_on(&runtime, run(number, engines, memory, receiver));
        })?;
        Ok(WorkerHandle { orders })
    }

    /// Gives the worker a connection that has finished its login.
    pub fn serve(&self, handover: Handover) {
        let _ = self.orders.send(Order::Serve(Box::new(handover)));
    }

    /// Ends the worker's sessions and waits for it, at most this long.
    pub async fn stop(&self, grace: Duration) {
        let (done, stopped) = oneshot::channel();
        if self.orders.send(Order::Stop(done)).is_ok() {
            let _ = tokio::time::timeout(grace, stopped).await;
        }
    }
}

/// What the sessions of a worker share.
pub(crate) struct Shared {
    lane: RefCell<Lane>,
    scratch: RefCell<Scratch>,
    pool: Pool,
    sessions: RefCell<HashMap<NexusId, Rc<RefCell<Driver>>>>,
}

impl Shared {
    /// Runs the lane and hands what it has to say to the sessions.
    fn pump(&self) {
        self.lane.borrow_mut().run();
        loop {
            let Some(event) = self.lane.borrow_mut().poll_event() else { return };
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

async fn run(number: usize, engines: Engines, memory: usize, mut orders: UnboundedReceiver<Order>) {
    let engine = match engines.open() {
        Ok(engine) => Rc::new(engine),
        Err(error) => return tracing::error!("worker {number}: no engine: {error}"),
    };
    let pool = Pool::new(memory, KEEP_BYTES);
    // Other lanes' letters: a lane of another thread calls this after it has posted one.
    let posted = Arc::new(Notify::new());
    let bell = Arc::clone(&posted);
    let wake = Arc::new(move || bell.notify_one());
    let context = LaneContext { pool: pool.clone(), engine: Rc::clone(engine.engine()), wake };
    let shared = Rc::new(Shared {
        lane: RefCell::new(Lane::new(context)),
        scratch: RefCell::default(),
        pool,
        sessions: RefCell::default(),
    });
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
        }
    });
    while let Some(order) = orders.recv().await {
        match order {
            Order::Serve(handover) => {
                let shared = Rc::clone(&shared);
                tokio::task::spawn_local(async move { session::serve(shared, *handover).await });
            }
            Order::Stop(done) => {
                for driver in shared.sessions.borrow().values() {
                    driver.borrow_mut().leave();
                }
                while !shared.sessions.borrow().is_empty() {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
                let _ = done.send(());
                return;
            }
        }
    }
}
