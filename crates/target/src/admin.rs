//! What an administrator may ask: snapshots as plain values, taken beside the path of commands. How they are
//! asked for and written is not known here.

use crate::door::{Cause, Door, Record};
use crate::limits::BOUNDS;
use crate::slow::SlowCommands;
use crate::trace::{Trace, TraceWish};
use crate::worker::WorkerOverview;
use lun::LogicalUnit;
use lun::statistics::SessionCells;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Addresses that are told.
const CROWDS: usize = 16;
/// How long a worker may take to tell how it stands: it does so between two turns.
const WORKER_TIME: Duration = Duration::from_secs(2);

/// The front door as it stands.
#[derive(Debug, Clone)]
pub struct DoorView {
    /// Whether anybody may log in.
    pub open: bool,
    /// Connections in their login, or in discovery.
    pub at_the_door: usize,
    /// How long the oldest of them has been there.
    pub oldest: Duration,
    /// Where most of them come from, and how many.
    pub crowds: Vec<(IpAddr, usize)>,
    /// Refused connections that wait for their answer.
    pub delayed: usize,
    /// Sessions.
    pub sessions: usize,
    /// Logins that succeeded since the start.
    pub succeeded: u64,
    /// Logins that failed since the start, by cause.
    pub failed: Vec<(Cause, u64)>,
    /// Every bound.
    pub bounds: Vec<BoundView>,
    /// Refused logins of late, the newest first.
    pub refusals: Vec<Record>,
}

/// A bound as it is set.
#[derive(Debug, Clone)]
pub struct BoundView {
    /// The setting's name.
    pub name: &'static str,
    /// What it is set to, in its unit: a number, bytes, milliseconds.
    pub value: u64,
    /// The same as a setting says it.
    pub text: String,
    /// How often it struck since the start.
    pub struck: u64,
    /// What is bounded.
    pub what: &'static str,
}

/// A LUN of a target and what is counted of it.
#[derive(Clone)]
pub struct LunStatistics {
    /// The target's name.
    pub target: String,
    /// Its number there.
    pub lun: u16,
    /// The unit: [`LogicalUnit::counted`] says what was counted, [`LogicalUnit::limiter`] what limits it.
    pub unit: Arc<LogicalUnit>,
}

/// A session and what is counted of it.
#[derive(Debug, Clone)]
pub struct SessionStatistics {
    /// Its number.
    pub tsih: u16,
    /// The target's name.
    pub target: String,
    /// The portal group.
    pub portal_group: u16,
    /// The initiator's name.
    pub initiator: String,
    /// The initiator's part of the session's identity.
    pub isid: [u8; 6],
    /// The worker that serves it.
    pub worker: usize,
    /// What is counted of it, all together and by LUN; it can be looked at as often as one likes, also after the session's
    /// end.
    pub cells: Arc<SessionCells>,
}

impl Door {
    /// Every LUN of every target, for what was counted of it since the process began. Asks no worker: polling this
    /// disturbs nobody.
    pub fn lun_statistics(&self) -> Vec<LunStatistics> {
        let of_target = |target: &Arc<crate::Target>| {
            let (name, units) = (target.name.clone(), Arc::clone(&target.units));
            let one = move |at: usize| {
                let entry = units.entries.get(at)?;
                Some(LunStatistics { target: name.clone(), lun: entry.number, unit: Arc::clone(&entry.unit) })
            };
            (0..target.units.entries.len()).filter_map(one).collect::<Vec<_>>()
        };
        self.targets().all().iter().flat_map(of_target).collect()
    }

    /// Which commands are slow, and those that there will be.
    pub fn slow_commands(&self) -> &Arc<SlowCommands> {
        &self.limits.slow
    }

    /// Every session, for what was counted of it. Asks no worker.
    pub fn session_statistics(&self) -> Vec<SessionStatistics> {
        self.registry.statistics()
    }

    /// Every worker with its sessions; nothing of one that has died or does not answer.
    pub async fn workers(&self) -> Vec<Option<WorkerOverview>> {
        let mut workers = Vec::new();
        for worker in &self.workers {
            workers.push(tokio::time::timeout(WORKER_TIME, worker.overview()).await.ok().flatten());
        }
        workers
    }

    /// Has PDUs told as they pass; `None` where [`TRACES`](crate::TRACES) watch already.
    pub async fn trace(&self, wish: TraceWish) -> Option<Trace> {
        let mut trace = self.traces.begin(wish)?;
        for worker in &self.workers {
            let watched = tokio::time::timeout(WORKER_TIME, worker.trace(trace.tracer())).await;
            trace.connections += watched.unwrap_or(0);
        }
        Some(trace)
    }

    /// The door as it stands now.
    pub fn view(&self) -> DoorView {
        let (at_the_door, oldest) = self.places.taken(Instant::now());
        let bounds = BOUNDS.iter().map(|bound| {
            let value = bound.value(&self.limits);
            let struck = bound.struck(&self.limits);
            BoundView { name: bound.name, value, text: bound.text(value), struck, what: bound.what }
        });
        DoorView {
            open: self.is_open(),
            at_the_door,
            oldest,
            crowds: self.places.crowds(CROWDS),
            delayed: self.failures.waiting(),
            sessions: self.sessions(),
            succeeded: self.succeeded.get(),
            failed: Cause::ALL.iter().map(|cause| (*cause, self.failures.count(*cause))).collect(),
            bounds: bounds.collect(),
            refusals: self.failures.recent(),
        }
    }
}
