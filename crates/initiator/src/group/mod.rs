//! Several sessions to one disk: a multipath group, which is a disk itself.
//!
//! Each path has a keeper that connects it, looks whether it leads to the same disk, checks it, and connects it again
//! when it is lost. A request goes by the best path that there is at the moment ([`policy`]); when that one dies it
//! goes by another, and its submitter notices a pause.
//!
//! What was written in what order stays so: while a session may still be known to the target that had writes under
//! way when it was lost, no write is sent on any path ([`fence`]). Reads go on.

mod fence;
mod keeper;
mod path;
mod policy;

pub use path::{PathState, PathStatus};
pub use policy::Policy;

use crate::disk::channel::{Hatch, Serve};
use crate::disk::operation::{Failure, Way};
use crate::disk::{CLEARED, Identity, Known, facts};
use crate::{Error, Lun, Options};
use block::{Backend, Completion, Description, Engine, ErrorKind, Limits, Operation, Request, Store};
use path::{Path, Ready};
use std::rc::Rc;
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// How long a request waits before it asks again for a path that refused it because of its access state.
const TRANSITION: Duration = Duration::from_millis(200);

/// How a group behaves.
#[derive(Debug, Clone)]
pub struct GroupOptions {
    /// Which of several equally good paths a request takes.
    pub policy: Policy,
    /// How often each path is checked.
    pub check_interval: Duration,
    /// How long requests wait while no path works; then they end with an error, at once, until one is back.
    pub no_path_timeout: Duration,
    /// A path that was lost and is back is used again after this time, where others work.
    pub fail_back: Duration,
    /// Once a path works, the others may take so long to connect before the group is there without them.
    pub gathering: Duration,
}

impl Default for GroupOptions {
    fn default() -> Self {
        GroupOptions {
            policy: Policy::LeastQueue,
            check_interval: Duration::from_secs(5),
            no_path_timeout: Duration::from_secs(120),
            fail_back: Duration::from_secs(2),
            gathering: Duration::from_secs(1),
        }
    }
}

/// A group of paths to one disk. The keepers end with it.
///
/// ```no_run
/// # async fn example() -> Result<(), initiator::Error> {
/// use initiator::{Group, GroupOptions, Lun, Options, Policy, Portal};
/// let path = |host| (Options::new(Portal::new(host, 3260), "iqn.2026-11.com.example:disk"), Lun::new(1));
/// let options = GroupOptions { policy: Policy::RoundRobin, ..GroupOptions::default() };
/// let disk = Group::connect(vec![path("192.0.2.7"), path("198.51.100.7")], "the disk", options).await?;
/// for path in disk.paths() {
///     println!("{}: {:?} {}", path.portal, path.state, path.why.unwrap_or_default());
/// }
/// # Ok(())
/// # }
/// ```
pub struct Group {
    shared: Arc<Shared>,
    hatch: Hatch,
    keepers: Vec<tokio::task::AbortHandle>,
}

struct Shared {
    options: GroupOptions,
    paths: Vec<Arc<Path>>,
    /// The disk, once a path has led to it.
    known: OnceLock<Known>,
    address: String,
    /// Where the next choice among equals begins.
    turn: AtomicUsize,
    /// Counts what has changed at paths and fences.
    changes: watch::Sender<u64>,
}

impl Group {
    /// Connects to one disk by several paths, all at once, and returns when one of them works and the others had
    /// their time; an error when none does, with what is wrong with each. Within the tokio runtime on which all of
    /// it is to be done. `address` is what people call the disk.
    ///
    /// The paths' sessions get ISIDs of their own where they have none, and are not logged in again by themselves:
    /// the group does that.
    pub async fn connect(
        paths: Vec<(Options, Lun)>,
        address: impl Into<String>,
        options: GroupOptions,
    ) -> Result<Group, Error> {
        if paths.is_empty() {
            return Err(Error::Invalid("a multipath group needs at least one path".into()));
        }
        let paths = paths.into_iter().enumerate().map(|(number, (options, lun))| Path::new(number, options, lun));
        let shared = Arc::new(Shared {
            paths: paths.collect::<Result<_, _>>()?,
            options,
            known: OnceLock::new(),
            address: address.into(),
            turn: AtomicUsize::new(0),
            changes: watch::Sender::new(0),
        });
        let keep = |path: &Arc<Path>| tokio::spawn(keeper::keep(Arc::clone(&shared), Arc::clone(path))).abort_handle();
        let keepers = Keepers(shared.paths.iter().map(keep).collect());
        shared.gather().await?;
        let hatch = Hatch::open(Arc::clone(&shared));
        Ok(Group { shared, hatch, keepers: keepers.disarm() })
    }

    /// Which disk it is.
    pub fn identity(&self) -> Identity {
        self.shared.known().map(|known| known.facts().identity.clone()).unwrap_or_default()
    }

    /// How its paths are.
    pub fn paths(&self) -> Vec<PathStatus> {
        self.shared.paths.iter().map(|path| path.status()).collect()
    }

    /// Counts what has changed at its paths.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.shared.changes.subscribe()
    }

    /// The number of the disk's blocks, and whenever that changes.
    pub fn size(&self) -> watch::Receiver<u64> {
        self.shared.known().map_or_else(|| watch::channel(0).1, Known::size)
    }
}

/// Keepers that are ended where the group does not come about.
struct Keepers(Vec<tokio::task::AbortHandle>);

impl Keepers {
    fn disarm(mut self) -> Vec<tokio::task::AbortHandle> {
        std::mem::take(&mut self.0)
    }
}

impl Drop for Keepers {
    fn drop(&mut self) {
        self.0.iter().for_each(tokio::task::AbortHandle::abort);
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.keepers.iter().for_each(tokio::task::AbortHandle::abort);
    }
}

impl Backend for Group {
    fn limits(&self) -> Arc<Limits> {
        // `connect` has seen to it that the disk is known.
        self.shared.known().map_or_else(|| Arc::new(Limits::NOTHING), Known::limits)
    }

    fn description(&self) -> Description {
        Description { kind: "iscsi", address: self.shared.address.clone() }
    }

    fn open(&self, engine: &Rc<dyn Engine>) -> Result<Box<dyn Store>, block::Error> {
        self.hatch.channel(engine)
    }

    fn refresh(&self) -> Result<bool, block::Error> {
        self.hatch.look()
    }
}

impl Shared {
    fn known(&self) -> Option<&Known> {
        self.known.get()
    }

    /// Something has changed; whoever waits looks again.
    fn changed(&self) {
        self.changes.send_modify(|count| *count += 1);
    }

    /// Waits for the first path, and then a little for the others.
    async fn gather(&self) -> Result<(), Error> {
        let mut changes = self.changes.subscribe();
        let mut until: Option<Instant> = None;
        loop {
            changes.borrow_and_update();
            let tried = self.paths.iter().all(|path| path.was_tried());
            let works = self.known().is_some();
            if works && until.is_none() {
                until = Some(Instant::now() + self.options.gathering);
            }
            match (tried, until) {
                (true, None) => return Err(self.why_none()),
                (true, Some(_)) => return Ok(()),
                (false, Some(until)) => {
                    if tokio::time::timeout_at(until.into(), changes.changed()).await.is_err() {
                        return Ok(());
                    }
                }
                (false, None) => drop(changes.changed().await),
            }
        }
    }

    fn why_none(&self) -> Error {
        let lines: Vec<String> = self.paths.iter().filter_map(|path| path.status().why).collect();
        Error::Invalid(format!("{}: no path leads there: {}", self.address, lines.join("; ")))
    }

    /// A path for this request, as soon as there is one; `None` when there was none for too long.
    async fn path(&self, writes: bool, avoid: Option<usize>, since: &mut Option<Instant>) -> Option<Ready> {
        let mut changes = self.changes.subscribe();
        loop {
            changes.borrow_and_update();
            // While an older session may still bring writes to the medium, none is sent that is newer.
            let fenced = writes && self.paths.iter().any(|path| path.owes_fence());
            if !fenced && let Some(ready) = policy::choose(&self.paths, &self.options, &self.turn, avoid) {
                return Some(ready);
            }
            let end = *since.get_or_insert_with(Instant::now) + self.options.no_path_timeout;
            // A path whose turn comes by time alone (fail-back) is not told as a change.
            let look = end.min(Instant::now() + Duration::from_millis(500));
            let _ = tokio::time::timeout_at(look.into(), changes.changed()).await;
            if Instant::now() >= end {
                return None;
            }
        }
    }
}

impl Serve for Shared {
    async fn serve(self: Arc<Self>, mut request: Request) -> Completion {
        let Some(known) = self.known() else {
            return request.complete(Err(block::Error::new(ErrorKind::Gone)));
        };
        let writes = !matches!(request.operation, Operation::Read | Operation::Extents | Operation::Flush);
        let (mut since, mut avoid, mut cleared) = (None, None, 0);
        loop {
            let facts = known.facts();
            if let Err(error) = request.check(&facts.limits) {
                return request.complete(Err(error));
            }
            let late = since.is_some_and(|since: Instant| since.elapsed() >= self.options.no_path_timeout);
            let ready = if late { None } else { self.path(writes, avoid, &mut since).await };
            let Some(ready) = ready else {
                return request.complete(Err(block::Error::new(ErrorKind::Gone)));
            };
            let way = Way {
                unit: &ready.unit,
                limits: &facts.limits,
                abilities: facts.abilities,
                without_same: &known.without_same,
            };
            let error = match way.perform(&mut request).await {
                Ok(outcome) => return request.complete(Ok(outcome)),
                Err(Failure::Disk(error)) => return request.complete(Err(error)),
                // A reset has ended it, which no path is to blame for; it is over and nothing of it comes any more.
                Err(Failure::Path(Error::Aborted)) if cleared < CLEARED => {
                    cleared += 1;
                    continue;
                }
                Err(Failure::Path(error)) => error,
            };
            let again = avoid.replace(ready.path.number) == Some(ready.path.number);
            since.get_or_insert_with(Instant::now);
            if error.scsi().is_some() {
                // It was answered, and so it was not executed: the path is not what it was.
                ready.path.refused_by_state(&error);
                self.changed();
                if again {
                    drop(ready);
                    tokio::time::sleep(TRANSITION).await;
                }
            } else {
                ready.path.lose(&ready, &error.to_string(), writes);
                self.changed();
            }
        }
    }

    async fn look(self: Arc<Self>) -> Result<bool, block::Error> {
        let gone = block::Error::new(ErrorKind::Gone);
        let known = self.known().ok_or(gone)?;
        // Without a path there is nobody to ask, and the paths' keepers have told so.
        if let Some(ready) = policy::choose(&self.paths, &self.options, &self.turn, None) {
            let learnt = facts::learn(&ready.unit).await;
            known.looked(&learnt.and_then(|facts| known.update(facts)));
        }
        Ok(known.take_change())
    }
}
