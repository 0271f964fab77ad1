//! A logical unit of a remote target as a disk: the store interface over a session.
//!
//! ```text
//!   worker's channel ─┬─ reads and writes of one command ──────────────► session's driver ──► target
//!          ▲          └─ all else ──► pump ──► commands of the unit ──────────┘    │
//!          │                          (a task on the sessions' runtime)            │
//!          └──── mailboxes, and the alarm of the worker's engine ◄── completion ───┘
//! ```
//!
//! What is lost on the way the session sends again (its replacement timeout); only what it gives up becomes an
//! error here.

pub(crate) mod channel;
mod direct;
pub(crate) mod facts;
mod identity;
pub(crate) mod operation;

pub use identity::Identity;

use crate::guard::Guard;
use crate::{Command, Error, Event, Function, State, Unit};
use block::{Backend, Completion, Description, Engine, ErrorKind, Limits, Request, Store};
use channel::{Hatch, Serve};
use direct::Direct;
use facts::Facts;
use operation::{Failure, Way};
use scsi::cdb::TEST_UNIT_READY;
use std::rc::Rc;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;
use tokio::sync::watch;

/// A unit that does not answer when it is looked at is looked at again after this time.
const AGAIN: Duration = Duration::from_secs(1);
/// How often the unit is asked whether it has anything to say.
const CHECK: Duration = Duration::from_secs(5);
/// A request is carried out again so often where others end it.
pub(crate) const CLEARED: u32 = 8;

/// A unit of a session as a disk, for whatever uses the stores of the target or makes a block device of them.
///
/// ```no_run
/// # async fn example() -> Result<(), initiator::Error> {
/// use block::Backend;
/// use initiator::{RemoteDisk, Session};
/// let session = Session::connect("iscsi://192.0.2.7/iqn.2026-11.com.example:disk").await?;
/// let disk = RemoteDisk::open(session.unit(1), "the disk").await?;
/// println!("{} bytes of {:?}", disk.limits().capacity(), disk.identity().name());
/// # Ok(())
/// # }
/// ```
///
/// Its channels work from any thread; what they ask for is done on the runtime on
/// which it was opened.
pub struct RemoteDisk {
    shared: Arc<Shared>,
    hatch: Hatch,
}

struct Shared {
    unit: Unit,
    known: Known,
    /// Nothing is sent to a unit that may be another by now before we have looked.
    guard: Guard,
}

/// What is known of a disk, for all who use it.
pub(crate) struct Known {
    address: String,
    facts: RwLock<Arc<Facts>>,
    /// What [`Backend::refresh`] has told last.
    told: Mutex<Limits>,
    size: watch::Sender<u64>,
    /// It has refused WRITE SAME.
    pub without_same: AtomicBool,
    /// What was complained of last.
    complaint: Mutex<Option<String>>,
}

impl Known {
    pub(crate) fn new(address: String, facts: Facts) -> Known {
        let told = Mutex::new(facts.limits.clone());
        let size = watch::Sender::new(facts.limits.blocks);
        Known {
            address,
            facts: RwLock::new(Arc::new(facts)),
            told,
            size,
            without_same: AtomicBool::new(false),
            complaint: Mutex::default(),
        }
    }

    pub(crate) fn facts(&self) -> Arc<Facts> {
        self.facts.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn limits(&self) -> Arc<Limits> {
        Arc::new(self.facts().limits.clone())
    }

    pub(crate) fn description(&self) -> Description {
        Description { kind: "iscsi", address: self.address.clone() }
    }

    pub(crate) fn size(&self) -> watch::Receiver<u64> {
        self.size.subscribe()
    }

    /// Whether this is the disk, as far as its names tell. An error: it is another.
    pub(crate) fn recognize(&self, identity: &Identity) -> Result<(), Error> {
        let old = self.facts();
        if old.identity.is_same(identity) == Some(false) {
            let name = |identity: &Identity| identity.name().unwrap_or_else(|| "a disk without a name".to_owned());
            return Err(Error::Invalid(format!(
                "{} is {} and not {}: another disk is not taken in its place",
                self.address,
                name(identity),
                name(&old.identity)
            )));
        }
        Ok(())
    }

    /// Takes what the unit says of itself now. An error: it is another disk, and nothing is taken.
    pub(crate) fn update(&self, facts: Facts) -> Result<(), Error> {
        self.recognize(&facts.identity)?;
        let old = self.facts();
        if old.limits.block_length != facts.limits.block_length {
            return Err(Error::Invalid(format!("{}: the length of its blocks has changed", self.address)));
        }
        let blocks = facts.limits.blocks;
        *self.facts.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(facts);
        self.size.send_if_modified(|size| std::mem::replace(size, blocks) != blocks);
        Ok(())
    }

    /// How a look at the disk went. What goes wrong again and again is one line.
    pub(crate) fn looked(&self, result: &Result<(), Error>) {
        let complaint = result.as_ref().err().map(ToString::to_string);
        let mut last = self.complaint.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(why) = complaint.as_ref().filter(|why| last.as_ref() != Some(*why)) {
            tracing::warn!(address = self.address, "cannot look at the disk: {why}");
        }
        *last = complaint;
    }

    /// Whether the limits are others than when this was asked last.
    pub(crate) fn take_change(&self) -> bool {
        let limits = self.facts().limits.clone();
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::replace(&mut *told, limits.clone()) != limits
    }
}

impl RemoteDisk {
    /// Makes a disk of a unit: asks it what it is, and listens to what it says of changes. Within the tokio runtime
    /// on which its commands are to be carried out. `address` is what people call it.
    pub async fn open(unit: Unit, address: impl Into<String>) -> Result<RemoteDisk, Error> {
        let guard = Guard::new(unit.clone());
        let events = unit.session().events();
        let facts = facts::learn(&unit).await?;
        let shared = Arc::new(Shared { unit, known: Known::new(address.into(), facts), guard });
        let hatch = Hatch::open(Arc::clone(&shared));
        tokio::spawn(listen(Arc::downgrade(&shared), events));
        Ok(RemoteDisk { shared, hatch })
    }

    /// Which disk it is.
    pub fn identity(&self) -> Identity {
        self.shared.known.facts().identity.clone()
    }

    /// The unit, for what a store cannot ask for.
    pub fn unit(&self) -> &Unit {
        &self.shared.unit
    }

    /// The number of its blocks, and whenever that changes: the target tells of it by a unit attention.
    pub fn size(&self) -> watch::Receiver<u64> {
        self.shared.known.size()
    }
}

impl Backend for RemoteDisk {
    fn limits(&self) -> Arc<Limits> {
        self.shared.known.limits()
    }

    fn description(&self) -> Description {
        self.shared.known.description()
    }

    fn open(&self, engine: &Rc<dyn Engine>) -> Result<Box<dyn Store>, block::Error> {
        Direct::open(Arc::clone(&self.shared), engine, self.hatch.channel(engine)?)
    }

    fn refresh(&self) -> Result<bool, block::Error> {
        self.hatch.look()
    }
}

impl Serve for Shared {
    async fn serve(self: Arc<Self>, mut request: Request) -> Completion {
        let facts = self.known.facts();
        if let Err(error) = request.check(&facts.limits) {
            return request.complete(Err(error));
        }
        let without_same = &self.known.without_same;
        let way = Way { unit: &self.unit, limits: &facts.limits, abilities: facts.abilities, without_same };
        for attempt in 0.. {
            let result = match way.perform(&mut request).await {
                Err(Failure::Path(Error::Aborted)) if attempt < CLEARED => continue,
                Err(Failure::Path(error)) => Err(self.gone(&error)),
                Err(Failure::Disk(error)) => Err(error),
                Ok(outcome) => Ok(outcome),
            };
            return request.complete(result);
        }
        request.complete(Err(block::Error::new(ErrorKind::Gone)))
    }

    async fn look(self: Arc<Self>) -> Result<bool, block::Error> {
        // Where it cannot be reached its session has told so, and it is looked at as soon as that is back.
        if self.unit.session().information().state == State::LoggedIn {
            let _ = self.learn().await;
        }
        Ok(self.known.take_change())
    }
}

impl Shared {
    /// The store's word for a disk that cannot be reached.
    fn gone(&self, error: &Error) -> block::Error {
        tracing::debug!(address = self.known.address, "{error}");
        block::Error::new(ErrorKind::Gone)
    }

    /// Looks at the unit. Where that is another disk now, or none any more, nothing more of what is asked of this one
    /// goes there.
    async fn learn(&self) -> Result<(), Error> {
        let look = self.guard.look();
        let looked = facts::learn(&self.unit).await.and_then(|facts| self.known.update(facts));
        match &looked {
            Ok(()) => self.guard.judge(look, None),
            Err(error) if !error.is_transport() && error.scsi().is_none() => {
                self.guard.judge(look, Some(elsewhere(error)));
            }
            // It was not seen: who waits for it waits on.
            Err(_) => {}
        }
        self.known.looked(&looked);
        looked
    }
}

/// What commands end with whose unit is another disk now.
pub(crate) fn elsewhere(why: &Error) -> Error {
    Error::Gone { target: "the disk".into(), after: Duration::ZERO, last: why.to_string() }
}

/// Whether the unit says that tasks of ours were ended by somebody else: a reset, or CLEAR TASK SET. Those get no
/// answer (SAM-5 5.6, TAS).
pub(crate) fn is_clearing(event: &Event, unit: &Unit) -> bool {
    match event {
        Event::UnitAttention { lun, code, .. } => {
            *lun == unit.lun() && matches!(code, (0x29, 0x02..=0x04) | (0x2f, 0x00 | 0x01))
        }
        _ => false,
    }
}

/// Ends our tasks at the unit on this side too, so that what will never be answered is asked for again.
pub(crate) fn clear(unit: &Unit) {
    let unit = unit.clone();
    tokio::spawn(async move {
        if let Err(error) = unit.session().task_management(Function::AbortTaskSet, unit.lun()).await {
            tracing::debug!("tasks that a reset has ended wait for their time limit: {error}");
        }
    });
}

/// Looks again whenever the target says that something has changed. Ends with the disk or the session.
async fn listen(shared: std::sync::Weak<Shared>, mut events: tokio::sync::broadcast::Receiver<Event>) {
    use tokio::sync::broadcast::error::RecvError;
    let mut check = tokio::time::interval(CHECK);
    check.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        let event = tokio::select! {
            event = events.recv() => match event {
                Ok(event) => Some(event),
                // What was missed may have been one.
                Err(RecvError::Lagged(_)) => None,
                Err(RecvError::Closed) => return,
            },
            _ = check.tick() => {
                let Some(shared) = shared.upgrade() else { return };
                // What the unit has to say comes with the answer to a command, and there may be no other.
                if shared.unit.session().information().state == State::LoggedIn {
                    let unit = shared.unit.clone();
                    tokio::spawn(async move { unit.execute(Command::new(&TEST_UNIT_READY)).await });
                }
                continue;
            }
        };
        let Some(shared) = shared.upgrade() else { return };
        if event.as_ref().is_some_and(|event| is_clearing(event, &shared.unit)) {
            clear(&shared.unit);
        }
        if event.is_some_and(|event| !is_change(&event, &shared.unit)) {
            continue;
        }
        while let Err(error) = shared.learn().await {
            // Another disk stays another; a session that was lost again tells when it is back.
            if error.is_transport() || error.scsi().is_none() {
                break;
            }
            tokio::time::sleep(AGAIN).await;
        }
    }
}

/// Whether a unit says that it is not as it was: its capacity, its mode parameters, what INQUIRY tells.
pub(crate) fn is_change(event: &Event, unit: &Unit) -> bool {
    match event {
        Event::CapacityChanged { lun } => *lun == unit.lun(),
        Event::UnitAttention { lun, code, .. } => {
            *lun == unit.lun() && matches!(code, (0x2a, 0x01 | 0x09) | (0x3f, 0x03))
        }
        // Behind the same address may be another disk by now.
        Event::SessionRestored { .. } | Event::UnitsChanged => true,
        _ => false,
    }
}
