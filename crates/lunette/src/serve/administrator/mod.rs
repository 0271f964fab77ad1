//! Whoever changes what the daemon serves comes here: the file, the command line, HTTP, tgtadm.
//!
//! The document is the truth. A change is an edit of its text; the reader makes a configuration of that, whose
//! difference to the one that runs is the plan. First everything is done that can fail and that nobody sees (stores are
//! opened, ports bound, room is made, the file is written beside), then the file is renamed, and what follows cannot
//! fail: so a change is made whole or not at all, also where the process is killed in the middle of it.

// Who changes things by it is on its way.
#![allow(dead_code, unused_imports)]

mod difference;
mod document;
mod effects;
mod execute;
mod plan;

pub use document::Document;
pub use execute::{Listening, Machine};
pub use plan::{Disturbed, How, Plan, Refused, Step, Stuck, Verb};

use super::units::Unit;
use crate::configuration::{self, Configuration, Overrides};
use effects::Seen;
use lun::{LogicalUnit, TargetPortGroups};
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::SystemTime;
use target::Door;
use tokio::sync::{Mutex, MutexGuard, broadcast};

/// Events that a listener may be behind before it loses the oldest.
const EVENTS: usize = 256;

/// The handle. Clones are the same.
#[derive(Clone)]
pub struct Administrator(Arc<Inner>);

struct Inner {
    door: Arc<Door>,
    served: RwLock<Arc<Served>>,
    /// Held by who makes a change: one at a time.
    machine: Mutex<Machine>,
    events: broadcast::Sender<Event>,
}

/// What is served at a moment.
pub struct Served {
    /// The document.
    pub document: Document,
    /// What it says.
    pub configuration: Arc<Configuration>,
    /// At which addresses its portals were bound, in their order.
    pub bound: Vec<SocketAddr>,
    /// Its targets, in their order.
    pub targets: Vec<ServedTarget>,
}

/// A target as it is served.
#[derive(Clone)]
pub struct ServedTarget {
    /// Its name.
    pub name: String,
    /// Its portal groups.
    pub groups: Arc<TargetPortGroups>,
    /// Its units, in ascending order of number.
    pub units: Vec<Unit>,
}

impl Served {
    /// All units.
    pub fn units(&self) -> impl Iterator<Item = &Unit> {
        self.targets.iter().flat_map(|target| &target.units)
    }
}

/// What is served while nobody changes it.
pub struct Still<'a> {
    /// It.
    pub served: Arc<Served>,
    /// The portals' sockets, by the addresses that were asked for.
    pub listeners: Vec<(SocketAddr, TcpListener)>,
    _machine: MutexGuard<'a, Machine>,
}

/// Something that happened, for whoever listens.
#[derive(Debug, Clone)]
pub struct Event {
    /// When.
    pub when: SystemTime,
    /// What kind of thing: `configuration`, …
    pub kind: &'static str,
    /// The rest of it.
    pub what: serde_json::Value,
}

impl Administrator {
    /// Over this door and what is served by it.
    pub fn new(door: Arc<Door>, served: Served, machine: Machine) -> Administrator {
        let (events, _) = broadcast::channel(EVENTS);
        let (served, machine) = (RwLock::new(Arc::new(served)), Mutex::new(machine));
        Administrator(Arc::new(Inner { door, served, machine, events }))
    }

    /// What is served now.
    pub fn served(&self) -> Arc<Served> {
        Arc::clone(&self.0.served.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// The document that is served now.
    pub fn document(&self) -> Document {
        self.served().document.clone()
    }

    /// What it says.
    pub fn configuration(&self) -> Arc<Configuration> {
        Arc::clone(&self.served().configuration)
    }

    /// The door, for all that is asked of it.
    pub fn door(&self) -> &Arc<Door> {
        &self.0.door
    }

    /// The unit of this number of this target.
    pub fn unit(&self, target: &str, number: u16) -> Option<Arc<LogicalUnit>> {
        let served = self.served();
        let target = served.targets.iter().find(|one| one.name == target)?;
        Some(Arc::clone(&target.units.iter().find(|unit| unit.number == number)?.unit))
    }

    /// What happens from now on.
    pub fn events(&self) -> broadcast::Receiver<Event> {
        self.0.events.subscribe()
    }

    /// Tells all who listen.
    pub fn tell(&self, kind: &'static str, what: serde_json::Value) {
        // Nobody has to listen.
        let _ = self.0.events.send(Event { when: SystemTime::now(), kind, what });
    }

    /// Makes a change of the document's text that runs. What the file says otherwise, and nobody has applied, is not
    /// overwritten. The change goes on to its end although the caller goes away.
    pub async fn change<E>(&self, edit: E, how: How) -> Result<Plan, Refused>
    where
        E: FnOnce(&str) -> Result<String, Refused> + Send + 'static,
    {
        let own = self.clone();
        to_its_end(async move {
            let mut machine = own.0.machine.lock().await;
            let base = own.base(&machine.overrides).await?;
            let text = edit(base.text())?;
            own.carry_out(&mut machine, base.with(&text), Some(base), how).await
        })
        .await
    }

    /// Serves what this text says, and keeps it in the file. What the file says otherwise, and nobody has applied, is
    /// overwritten only by force.
    pub async fn replace(&self, text: String, how: How) -> Result<Plan, Refused> {
        let own = self.clone();
        to_its_end(async move {
            let mut machine = own.0.machine.lock().await;
            let said = own.on_disk().await;
            let began = match said {
                Some(Ok(said)) if how.force || said.text() == text => Some(said),
                _ if how.force => None,
                _ => Some(own.base(&machine.overrides).await?),
            };
            own.carry_out(&mut machine, own.document().with(&text), began, how).await
        })
        .await
    }

    /// Serves what the file says now.
    pub async fn reread(&self, how: How) -> Result<Plan, Refused> {
        let own = self.clone();
        to_its_end(async move {
            let mut machine = own.0.machine.lock().await;
            let Some(said) = own.on_disk().await else {
                let why = "the daemon has no file to read, as it was started without --config; name a file to apply";
                return Err(Refused::Input(why.to_owned()));
            };
            let said = said?;
            own.carry_out(&mut machine, said.clone(), Some(said), how).await
        })
        .await
    }

    /// What is served, which nobody changes as long as this is held, and the portals' sockets by the addresses that
    /// were asked for.
    pub async fn still(&self) -> Result<Still<'_>, String> {
        let machine = self.0.machine.lock().await;
        if !machine.handed.is_empty() {
            return Err("the service manager has handed over sockets that no portal of the configuration names".into());
        }
        let served = self.served();
        let mut listeners = Vec::new();
        for (wanted, listening) in served.configuration.listens.iter().zip(&machine.listening) {
            listeners.push((wanted.address, listening.socket().map_err(|error| error.to_string())?));
        }
        Ok(Still { served, listeners, _machine: machine })
    }

    /// Accepts nobody any more, at the daemon's end. A change that is under way is waited for. Returns who tells the
    /// iSNS server.
    pub async fn stop_listening(&self) -> Option<target::Isns> {
        let mut machine = self.0.machine.lock().await;
        machine.listening.iter().chain(&machine.handed).for_each(Listening::stop);
        machine.isns.take()
    }

    /// What the file says now.
    async fn on_disk(&self) -> Option<Result<Document, Refused>> {
        let document = self.document();
        let read = tokio::task::spawn_blocking(move || document.on_disk()).await.ok()??;
        Some(read.map_err(|failure| Refused::Input(failure.to_string())))
    }

    /// The text that an edit begins with: the file's, where it says what runs, with whatever comments it has by now.
    async fn base(&self, overrides: &Overrides) -> Result<Document, Refused> {
        let served = self.served();
        let document = match self.on_disk().await {
            None => return Ok(served.document.clone()),
            Some(said) => said.map_err(|refused| Refused::Conflict(refused.to_string()))?,
        };
        if document.text() == served.document.text() {
            return Ok(document);
        }
        let name = document.name();
        let told = document.clone();
        let reading = tokio::task::spawn_blocking(move || configuration::read(&told.name(), told.text(), told.path()));
        let says_the_same = reading.await.ok().and_then(|reading| reading.configuration).is_some_and(|mut said| {
            overrides.apply(&mut said);
            let difference = difference::between(&served.configuration, &served.bound, &said);
            difference.steps.is_empty() && difference.stuck.is_empty()
        });
        match says_the_same {
            true => Ok(document),
            false => Err(Refused::Conflict(format!(
                "{name} says something else than what runs, and a change would overwrite that; apply it first with: \
                 lunette apply"
            ))),
        }
    }

    /// The sessions that are there, as far as their workers answer.
    async fn sessions(&self) -> Vec<Seen> {
        let workers = self.0.door.workers().await;
        workers.iter().flatten().flat_map(|worker| &worker.sessions).filter_map(Seen::of).collect()
    }

    /// Makes the change to this document, which `began` with what the file said.
    async fn carry_out(
        &self,
        machine: &mut Machine,
        document: Document,
        began: Option<Document>,
        how: How,
    ) -> Result<Plan, Refused> {
        let told = document.clone();
        let reading =
            tokio::task::spawn_blocking(move || configuration::read(&told.name(), told.text(), told.path())).await;
        let reading = reading.map_err(|_| Refused::Input("the document could not be read".to_owned()))?;
        let (mut wanted, warnings) = reading.whole().map_err(Refused::Findings)?;
        machine.overrides.apply(&mut wanted);
        let served = self.served();
        let mut difference = difference::between(&served.configuration, &served.bound, &wanted);
        effects::enter(&served.configuration, &wanted, &mut difference, &self.sessions().await);
        let mut plan =
            Plan { steps: difference.steps.clone(), stuck: difference.stuck.clone(), warnings, ..Plan::default() };
        if how.dry_run {
            return Ok(plan);
        }
        if !plan.stuck.is_empty() {
            return Err(Refused::Stuck(Box::new(plan)));
        }
        if !how.force && plan.forced().next().is_some() {
            return Err(Refused::InUse(Box::new(plan)));
        }
        let change = execute::Change { served: &served, began, wanted, difference: &difference, force: how.force };
        let (now, remarks) = machine.carry_out(self.door(), document, change).await?;
        *self.0.served.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(now);
        (plan.done, plan.remarks) = (true, remarks);
        for step in &plan.steps {
            tracing::info!("configuration: {}", step.line());
        }
        plan.remarks.iter().for_each(|remark| tracing::warn!("configuration: {remark}"));
        if !plan.steps.is_empty() {
            self.tell("configuration", plan.json());
        }
        Ok(plan)
    }
}

/// A change that was begun goes on to its end, although nobody waits for it any more.
async fn to_its_end(change: impl Future<Output = Result<Plan, Refused>> + Send + 'static) -> Result<Plan, Refused> {
    let ended = tokio::spawn(change).await;
    ended.unwrap_or_else(|_| {
        let why = "a defect ended it in the middle; please report what the log says, and restart the daemon".to_owned();
        Err(Refused::Failed { step: "the change".to_owned(), why })
    })
}
