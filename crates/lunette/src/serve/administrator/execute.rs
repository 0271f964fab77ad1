//! Carries a plan out: what can fail first, then the file, then what cannot fail.
//!
//! Whatever was done before a step that fails is undone in reverse. What is done before the file is renamed is either
//! seen by nobody (a store that is open, a port whose connections wait, room behind a disk) or is what a person may
//! see of a moment in between (a disk that was read-only for it).

use super::difference::{Difference, Source, wanted_size};
use super::document::Document;
use super::effects::reaches;
use super::plan::{Refused, Step, Verb};
use super::{Served, ServedTarget};
use crate::configuration::{Configuration, Disk, Listen, Overrides, TargetPlan};
use crate::logging;
use crate::serve::units::{self, Unit};
use crate::serve::{self, targets};
use lun::{LogicalUnit, StateStore};
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use target::{Closed, Door, Isns, Limits, Notified, Portal, Sessions, Targets};
use tokio::runtime::Handle;
use tokio::task::AbortHandle;

/// How long a store may take to be opened or to be made larger: as long as the sandbox's opener waits. All other changes
/// wait for it.
const STORE_TIME: Duration = Duration::from_secs(120);

/// What a change works on, beside what is served.
pub struct Machine {
    /// The door's, on which portals are served.
    pub runtime: Handle,
    /// The portals, in the order of the configuration.
    pub listening: Vec<Listening>,
    /// Those beyond it that the service manager has handed over.
    pub handed: Vec<Listening>,
    /// Who tells the iSNS server.
    pub isns: Option<Isns>,
    /// Where reservations are kept.
    pub state: Option<Arc<dyn StateStore>>,
    /// The bounds.
    pub limits: Arc<Limits>,
    /// What the command line says before the file.
    pub overrides: Overrides,
}

/// A portal that is served.
pub struct Listening {
    listener: TcpListener,
    portal: Portal,
    task: AbortHandle,
}

impl Listening {
    /// Begins to serve a portal.
    pub fn start(
        door: &Arc<Door>,
        runtime: &Handle,
        listener: TcpListener,
        portal: Portal,
    ) -> std::io::Result<Listening> {
        listener.set_nonblocking(true)?;
        let own = listener.try_clone()?;
        let _entered = runtime.enter();
        let served = tokio::net::TcpListener::from_std(own)?;
        let task = runtime.spawn(Arc::clone(door).listen(served, portal.group)).abort_handle();
        Ok(Listening { listener, portal, task })
    }

    /// The address at which it is bound.
    pub fn address(&self) -> SocketAddr {
        self.portal.address
    }

    /// Its socket once more.
    pub fn socket(&self) -> std::io::Result<TcpListener> {
        self.listener.try_clone()
    }

    /// Accepts nobody any more.
    pub fn stop(&self) {
        self.task.abort();
    }
}

/// A change, as it was planned.
pub struct Change<'a> {
    /// What runs.
    pub served: &'a Served,
    /// What the file said when the change was begun, where it was read.
    pub began: Option<Document>,
    /// What is to run.
    pub wanted: Configuration,
    /// What is between.
    pub difference: &'a Difference,
    /// Whether somebody may be disturbed.
    pub force: bool,
}

/// What is done if a later step fails.
enum Undo {
    /// The file was made just now.
    Created(PathBuf),
    /// Room was made behind a disk.
    Room { bounded: Arc<block::layer::Bounded>, blocks: u64, bound: Option<u64> },
    /// It was taken offline.
    Online(Arc<LogicalUnit>),
    /// It was made read-only.
    Writable(Arc<LogicalUnit>),
    /// Its cache was switched.
    WriteCache(Arc<LogicalUnit>, bool),
}

/// A port that is bound, and the portal that it is to be.
type Bound = (TcpListener, Portal);

/// What is ready, and how to be rid of it.
#[derive(Default)]
struct Ready {
    bound: Vec<Option<Bound>>,
    notified: Vec<Notified>,
    targets: Vec<ServedTarget>,
    undo: Vec<Undo>,
}

impl Machine {
    /// Makes the change. Returns what is served then, and what did not come about as it was meant.
    pub async fn carry_out(
        &mut self,
        door: &Arc<Door>,
        document: Document,
        change: Change<'_>,
    ) -> Result<(Served, Vec<String>), Refused> {
        let mut ready = Ready::default();
        match self.all_that_can_fail(door, &document, &change, &mut ready).await {
            Ok(next) => Ok(self.commit(door, document, change, ready, next).await),
            Err(refused) => {
                undo(ready).await;
                Err(refused)
            }
        }
    }

    /// What is prepared, and last of all the file. Returns what the door is to serve.
    async fn all_that_can_fail(
        &self,
        door: &Door,
        document: &Document,
        change: &Change<'_>,
        ready: &mut Ready,
    ) -> Result<Targets, Refused> {
        self.prepare(change, ready).await?;
        let portals = self.portals(&change.wanted.listens, &change.difference.portals, &ready.bound);
        let next = targets::all(&change.wanted, &ready.targets, &portals);
        // Who has logged in since the plan was made.
        let disturbed = if change.force { Vec::new() } else { door.disturbed_by(&next) };
        if !disturbed.is_empty() {
            let who: Vec<_> = disturbed.iter().map(ToString::to_string).collect();
            return Err(Refused::Failed {
                step: "what is in use by now".to_owned(),
                why: format!("{}; --force does it all the same, and tells the initiators", who.join("; ")),
            });
        }
        let (keeping, began) = (document.clone(), change.began.clone());
        let kept = tokio::task::spawn_blocking(move || keeping.keep(began.as_ref().map(Document::text))).await;
        let defect = |_| Refused::Failed {
            step: format!("write {}", document.name()),
            why: "a defect kept it from being written".to_owned(),
        };
        kept.map_err(defect)??;
        Ok(next)
    }

    /// All that can fail.
    async fn prepare(&self, change: &Change<'_>, ready: &mut Ready) -> Result<(), Refused> {
        let Change { served, wanted, difference, .. } = change;
        let failed = |step: &str, why: &dyn ToString| Refused::Failed { step: step.to_owned(), why: why.to_string() };
        for (listen, kept) in wanted.listens.iter().zip(&difference.portals) {
            ready.bound.push(match kept {
                Some(_) => None,
                None => Some(
                    serve::bind_one(listen, &wanted.listens, None)
                        .map_err(|error| failed(&format!("add portal {}", listen.address), &error))?,
                ),
            });
        }
        if difference.isns
            && let Some(isns) = &wanted.isns
        {
            let portals = self.portals(&wanted.listens, &difference.portals, &ready.bound);
            ready.notified = isns.bind(&portals).map_err(|error| failed("the iSNS server", &error))?;
        }
        for (target, sources) in wanted.targets.iter().zip(&difference.units) {
            let old = served.targets.iter().find(|old| old.name == target.name.as_str());
            let mut own = Vec::new();
            for (disk, source) in target.disks.iter().zip(sources) {
                let unit = match source {
                    Source::Kept(target, disk_at) => {
                        let kept = served.targets.get(*target).and_then(|target| target.units.get(*disk_at));
                        let why = "the unit that is there was not found, which is a defect";
                        Unit { number: disk.number, ..kept.cloned().ok_or_else(|| failed("keep a LUN", &why))? }
                    }
                    Source::Opened => self.open(target, disk, wanted, served, own.clone(), ready).await?,
                };
                own.push(unit);
            }
            let groups = targets::groups(target, wanted, old.map(|old| &old.groups));
            ready.targets.push(ServedTarget { name: target.name.as_str().to_owned(), groups, units: own });
        }
        for (unit, old, new, target) in kept_disks(change, &ready.targets) {
            let step = |verb| Step::new(verb, "lun", Some(target), new.number).line();
            self.prepare_disk(unit, old, new, &mut ready.undo)
                .await
                .map_err(|(verb, why)| failed(&step(verb), &why))?;
        }
        Ok(())
    }

    /// Opens the store of a disk that was not there.
    async fn open(
        &self,
        target: &TargetPlan,
        disk: &Disk,
        wanted: &Configuration,
        served: &Served,
        own: Vec<Unit>,
        ready: &mut Ready,
    ) -> Result<Unit, Refused> {
        let scope = if wanted.targets.len() > 1 { target.name.as_str().to_owned() } else { String::new() };
        let mut others: Vec<Unit> = served.units().cloned().collect();
        others.extend(ready.targets.iter().flat_map(|target| &target.units).cloned());
        others.extend(own);
        let (state, wish) = (self.state.clone(), disk.clone());
        let opened = in_time(STORE_TIME, move || units::one(&wish, &scope, others.iter(), state.as_ref())).await;
        let step = || Step::new(Verb::Add, "lun", Some(target.name.as_str()), disk.number).line();
        let failed = |why: String| Refused::Failed { step: step(), why };
        let unit = opened.map_err(failed)?.map_err(|failure| failed(failure.to_string()))?;
        if unit.created && unit.unit.backend().description().kind == "file" {
            ready.undo.push(Undo::Created(PathBuf::from(&unit.place)));
        }
        let settled = tokio::time::timeout(STORE_TIME, units::settle(&unit, disk, false)).await;
        settled.unwrap_or_else(|_| Err(silent(STORE_TIME))).map_err(failed)?;
        Ok(unit)
    }

    /// What changes at a disk that is there, as far as it can fail.
    async fn prepare_disk(
        &self,
        unit: &Unit,
        old: &Disk,
        new: &Disk,
        undo: &mut Vec<Undo>,
    ) -> Result<(), (Verb, String)> {
        if let (Some(bytes), Some(bounded)) =
            (wanted_size(new).filter(|_| wanted_size(old) != wanted_size(new)), &unit.bounded)
        {
            let blocks = units::blocks(bytes, unit).map_err(|why| (Verb::Resize, why))?;
            let (room, bound) = (Arc::clone(bounded), bounded.bound());
            // Room that is there too late is seen by nobody, and used by whoever asks for it again.
            let made = in_time(STORE_TIME, move || room.make_room(blocks)).await.map_err(|why| (Verb::Resize, why))?;
            let before = made.map_err(|error| (Verb::Resize, units::cannot_grow(unit, &error)))?;
            undo.push(Undo::Room { bounded: Arc::clone(bounded), blocks: before, bound });
        }
        let change = |error: lun::ChangeError| (Verb::Change, error.to_string());
        if new.write_cache != old.write_cache
            && let Some(on) = new.write_cache
        {
            // One that takes too long goes on by itself, and what undoes it comes after it.
            undo.extend(unit.unit.standing().write_cache.map(|was| Undo::WriteCache(Arc::clone(&unit.unit), was)));
            let it = Arc::clone(&unit.unit);
            target::patiently(async move { it.set_write_cache(on).await }).await.map_err(change)?;
        }
        if new.read_only && !old.read_only {
            undo.push(Undo::Writable(Arc::clone(&unit.unit)));
            let it = Arc::clone(&unit.unit);
            target::patiently(async move { it.set_read_only(true).await }).await.map_err(change)?;
        }
        if new.offline && !old.offline {
            undo.push(Undo::Online(Arc::clone(&unit.unit)));
            let it = Arc::clone(&unit.unit);
            target::patiently(async move { it.take_offline().await }).await.map_err(change)?;
        }
        Ok(())
    }

    /// The rest, which cannot fail as a whole.
    async fn commit(
        &mut self,
        door: &Arc<Door>,
        document: Document,
        change: Change<'_>,
        ready: Ready,
        next: Targets,
    ) -> (Served, Vec<String>) {
        let Change { served, wanted, difference, .. } = change;
        let mut remarks = Vec::new();
        let Ready { bound, notified, targets: now, .. } = ready;
        for (unit, old, new, _) in kept(served, &wanted, difference, &now) {
            let (was, is) = (wanted_size(old), wanted_size(new));
            if was != is {
                let resized = match is {
                    Some(bytes) => units::resize(unit, new, bytes).await,
                    None => {
                        let unit = unit.clone();
                        in_time(STORE_TIME, move || units::unbind(&unit)).await.and_then(|done| done)
                    }
                };
                remarks.extend(resized.err().map(|why| format!("LUN {} has its old size: {why}", new.number)));
            }
            unit.unit.limiter().set(new.limit);
            if old.read_only && !new.read_only {
                let it = Arc::clone(&unit.unit);
                if let Err(error) = target::patiently(async move { it.set_read_only(false).await }).await {
                    remarks.push(format!("LUN {} stays read-only: {error}", new.number));
                }
            }
            if old.offline && !new.offline {
                unit.unit.bring_online();
            }
        }
        let portals = self.portals(&wanted.listens, &difference.portals, &bound);
        targets::tell_groups(&now);
        targets::states(&served.configuration, &wanted, &now);
        // Whoever logs in from here on finds the new configuration, and those who are there as well.
        match door.change(next, Sessions::Disturb).await {
            Ok(changed) if changed.pending > 0 => {
                remarks.push(format!("{} sessions still wait for a store that hangs", changed.pending));
            }
            _ => {}
        }
        let closed = self.closed(&difference.portals, &portals);
        self.listen(door, &difference.portals, bound, &portals, &mut remarks);
        leave(door, &closed).await;
        let gone: Vec<Unit> = served
            .units()
            .filter(|old| !now.iter().flat_map(|target| &target.units).any(|unit| Arc::ptr_eq(&unit.unit, &old.unit)))
            .cloned()
            .collect();
        for Unit { unit, place, .. } in gone {
            if let Err(error) = target::patiently(async move { unit.retire().await }).await {
                remarks.push(format!("{place}: {error}; what was written last may be lost with the power"));
            }
        }
        self.tell_isns(door, &wanted, difference.isns, notified, &mut remarks).await;
        door.slow_commands().set(wanted.slow);
        if served.configuration.log_level != wanted.log_level {
            logging::set_level(wanted.log_level);
        }
        let bound = portals.iter().take(wanted.listens.len()).map(|portal| portal.address).collect();
        (Served { document, configuration: Arc::new(wanted), bound, targets: now }, remarks)
    }

    /// The portals as they are to be.
    fn portals(&self, listens: &[Listen], kept: &[Option<usize>], bound: &[Option<Bound>]) -> Vec<Portal> {
        let one = |((listen, kept), bound): ((&Listen, &Option<usize>), &Option<Bound>)| {
            let address = match (kept.and_then(|at| self.listening.get(at)), bound) {
                (Some(listening), _) => listening.portal.address,
                (None, Some((_, portal))) => portal.address,
                (None, None) => listen.address,
            };
            Portal { address, group: listen.group, advertise: listen.advertise.clone() }
        };
        let handed = self.handed.iter().map(|listening| listening.portal.clone());
        listens.iter().zip(kept).zip(bound).map(one).chain(handed).collect()
    }

    /// The portals that are there no more, or are of another group.
    fn closed(&self, kept: &[Option<usize>], portals: &[Portal]) -> Vec<SocketAddr> {
        let stays = |at: usize, old: &Listening| {
            kept.iter().zip(portals).any(|(kept, portal)| *kept == Some(at) && portal.group == old.portal.group)
        };
        let gone = self.listening.iter().enumerate().filter(|(at, old)| !stays(*at, old));
        gone.map(|(_, old)| old.portal.address).collect()
    }

    /// Opens and closes portals.
    fn listen(
        &mut self,
        door: &Arc<Door>,
        kept: &[Option<usize>],
        bound: Vec<Option<Bound>>,
        portals: &[Portal],
        remarks: &mut Vec<String>,
    ) {
        let mut old: Vec<Option<Listening>> = std::mem::take(&mut self.listening).into_iter().map(Some).collect();
        let mut now = Vec::new();
        for ((kept, bound), portal) in kept.iter().zip(bound).zip(portals) {
            let there = kept.and_then(|at| old.get_mut(at)).and_then(Option::take);
            let started = match (there, bound) {
                (Some(there), _) if there.portal.group == portal.group => {
                    now.push(Listening { portal: portal.clone(), ..there });
                    continue;
                }
                (Some(there), _) => {
                    there.stop();
                    Listening::start(door, &self.runtime, there.listener, portal.clone())
                }
                (None, Some((listener, portal))) => Listening::start(door, &self.runtime, listener, portal),
                (None, None) => continue,
            };
            match started {
                Ok(listening) => now.push(listening),
                Err(error) => remarks.push(format!("nobody listens at portal {}: {error}", portal.address)),
            }
        }
        old.iter().flatten().for_each(Listening::stop);
        self.listening = now;
    }

    /// The iSNS server hears of what has changed, or another one of all of it.
    async fn tell_isns(
        &mut self,
        door: &Arc<Door>,
        wanted: &Configuration,
        another: bool,
        notified: Vec<Notified>,
        remarks: &mut Vec<String>,
    ) {
        if !another {
            if let Some(isns) = &self.isns {
                isns.register(door.targets().all().to_vec());
            }
            return;
        }
        if let Some(isns) = self.isns.take() {
            isns.stop().await;
        }
        if let Some(isns) = &wanted.isns {
            match targets::start_isns(isns, &door.targets(), notified, &self.limits) {
                Ok(started) => self.isns = Some(started),
                Err(error) => remarks.push(format!("the iSNS server is not told: {error}")),
            }
        }
    }
}

/// Disks whose units stay, as they were and as they are to be, and whose they are.
fn kept_disks<'a>(change: &'a Change<'_>, now: &'a [ServedTarget]) -> Vec<(&'a Unit, &'a Disk, &'a Disk, &'a str)> {
    kept(change.served, &change.wanted, change.difference, now)
}

fn kept<'a>(
    served: &'a Served,
    wanted: &'a Configuration,
    difference: &Difference,
    now: &'a [ServedTarget],
) -> Vec<(&'a Unit, &'a Disk, &'a Disk, &'a str)> {
    let mut all = Vec::new();
    for ((target, sources), own) in wanted.targets.iter().zip(&difference.units).zip(now) {
        for ((new, source), unit) in target.disks.iter().zip(sources).zip(&own.units) {
            let Source::Kept(old_target, old_disk) = *source else { continue };
            let old = served.configuration.targets.get(old_target).and_then(|old| old.disks.get(old_disk));
            all.extend(old.map(|old| (unit, old, new, target.name.as_str())));
        }
    }
    all
}

/// Closes the connections that came by these portals, at which nobody is served any more. The initiators are told.
async fn leave(door: &Arc<Door>, closed: &[SocketAddr]) {
    if closed.is_empty() {
        return;
    }
    let workers = door.workers().await;
    let mut leaving = Vec::new();
    for session in workers.iter().flatten().flat_map(|worker| &worker.sessions) {
        for connection in &session.connections {
            if closed.iter().any(|portal| reaches(*portal, connection.local)) {
                let (door, tsih, cid) = (Arc::clone(door), session.tsih, connection.cid);
                leaving.push(tokio::spawn(async move {
                    // One that stays would be served at a portal that is gone.
                    if door.close_connection(tsih, cid).await == Closed::Stays {
                        door.drop_session(tsih).await;
                    }
                }));
            }
        }
    }
    for connection in leaving {
        let _ = connection.await;
    }
}

/// Does what may block, and waits for it, but not for ever: what hangs goes on by itself, and its outcome is dropped.
async fn in_time<T: Send + 'static>(time: Duration, work: impl FnOnce() -> T + Send + 'static) -> Result<T, String> {
    match tokio::time::timeout(time, tokio::task::spawn_blocking(work)).await {
        Ok(Ok(done)) => Ok(done),
        Ok(Err(_)) => Err("a defect kept it from being done".to_owned()),
        Err(_) => Err(silent(time)),
    }
}

fn silent(time: Duration) -> String {
    format!("its store has not answered for {} s; see what keeps it, and try again", time.as_secs())
}

/// Undoes what was done, in reverse.
async fn undo(ready: Ready) {
    let Ready { undo, targets, bound, notified } = ready;
    // Stores and ports that were opened for it are closed first: a file that is removed is nobody's any more.
    drop((targets, bound, notified));
    for step in undo.into_iter().rev() {
        match step {
            Undo::Created(path) => {
                if let Err(error) = stores::host::host().remove(&path) {
                    tracing::warn!("{}: was made for a change that failed, and stays: {error}", path.display());
                }
            }
            Undo::Room { bounded, blocks, bound } => {
                let _ = in_time(STORE_TIME, move || bounded.give_back(blocks, bound)).await;
            }
            Undo::Online(unit) => unit.bring_online(),
            // A store that hangs is left to it.
            Undo::Writable(unit) => {
                let _ = target::patiently(async move { unit.set_read_only(false).await }).await;
            }
            Undo::WriteCache(unit, on) => {
                let _ = target::patiently(async move { unit.set_write_cache(on).await }).await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_store_that_hangs_is_not_waited_for_longer_than_it_may_take() {
        let (go_on, hangs) = std::sync::mpsc::channel::<()>();
        let late = in_time(Duration::from_millis(50), move || hangs.recv()).await;
        assert!(late.unwrap_err().contains("has not answered"));
        drop(go_on);
        assert_eq!(in_time(STORE_TIME, || 7).await, Ok(7));
        let broken = in_time(STORE_TIME, || assert!(std::hint::black_box(false), "as it is meant to be")).await;
        assert!(broken.unwrap_err().contains("a defect"));
    }
}
