//! The door of a process that another one replaces: shut while its sessions rest and are written down, and open
//! again where nothing came of it; and that of the other, which opens with these sessions.

use super::Door;
use crate::handover::{DoorAtRest, GroupAtRest, SessionAtRest};
use crate::registry::{Registered, Revived, Standing};
use lun::handover::UnitAtRest;
use lun::{LogicalUnit, NexusDescription, TargetPort};
use scsi::port_groups::AccessState;
use scsi::transport_id::TransportId;
use scsi::{Condition, SenseKey};
use std::net::TcpStream;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::OwnedRwLockWriteGuard;

/// How long logins that have just succeeded may take to reach their workers.
const THRESHOLD: Duration = Duration::from_millis(500);

/// A door that is shut, with all sessions behind it at rest. They go on when this is dropped, unless another
/// process has them.
pub struct Frozen {
    door: Arc<Door>,
    _threshold: Option<OwnedRwLockWriteGuard<()>>,
    gone: bool,
}

/// Sessions of another process, ready to go on.
pub struct Prepared {
    sessions: Vec<(Revived, Registered)>,
}

impl Door {
    /// Shuts the door and brings all sessions to rest: what is under way is finished, what comes is kept. An error,
    /// who does not come to rest within this time; then all goes on as it was.
    pub async fn freeze(self: &Arc<Door>, within: Duration) -> Result<Frozen, String> {
        let until = Instant::now() + within;
        self.open.send_replace(false);
        let mut frozen = Frozen { door: Arc::clone(self), _threshold: None, gone: false };
        let threshold = Arc::clone(&self.threshold).write_owned();
        let threshold = tokio::time::timeout(THRESHOLD.min(within), threshold).await;
        frozen._threshold = Some(threshold.map_err(|_| "a login does not come to its end")?);
        let freezing: Vec<_> = self
            .workers
            .iter()
            .cloned()
            .map(|worker| tokio::spawn(async move { worker.freeze(until).await }))
            .collect();
        for worker in freezing {
            worker.await.map_err(|error| error.to_string())??;
        }
        Ok(frozen)
    }

    /// Makes sessions of what another process has written down, with their sockets in the same order. Nothing
    /// happens to any of them yet. Where this process is to be `complete`, it has all units that the other had. An
    /// error, what this process cannot go on with.
    pub fn prepare(&self, rest: DoorAtRest, sockets: Vec<OwnedFd>, complete: bool) -> Result<Prepared, String> {
        let (units, mut larger) = (self.units(), Vec::new());
        let is_here = |rest: &&UnitAtRest| units.iter().any(|unit| unit.identity().uuid == rest.uuid);
        if let Some(missing) = rest.units.iter().find(|rest| complete && !is_here(rest)) {
            let serial: String = missing.uuid.iter().map(|byte| format!("{byte:02x}")).collect();
            return Err(format!("the disk {serial} would not be served any more"));
        }
        for unit in &units {
            let Some(rest) = rest.units.iter().find(|rest| rest.uuid == unit.identity().uuid) else { continue };
            let grown = unit.revive(rest).map_err(|error| format!("the disk {}: {error}", unit.identity().serial))?;
            larger.extend(grown.then_some(rest.uuid));
        }
        for GroupAtRest { target, number, state } in &rest.groups {
            let state = AccessState::from_code(*state).ok_or("an access state is none")?;
            if let Some(target) = self.targets().named(target) {
                // Nobody is there yet who would have to be told.
                target.groups.change(&[(*number, state)], &[]);
            }
        }
        let mut sockets = sockets.into_iter();
        let mut sessions = Vec::new();
        for mut rest in rest.sessions {
            for view in rest.nexus.views.iter_mut().filter(|view| larger.contains(&view.uuid)) {
                // Capacity data has changed.
                view.attentions.push(Condition::new(SenseKey::UnitAttention, 0x2a, 0x09));
            }
            let own: Vec<TcpStream> = sockets.by_ref().take(rest.lines.len()).map(TcpStream::from).collect();
            let initiator = rest.initiator.clone();
            let session = self.prepare_one(rest, own);
            sessions.push(session.map_err(|why| format!("the session of {initiator}: {why}"))?);
        }
        self.registry.go_on_behind(rest.last_tsih);
        Ok(Prepared { sessions })
    }

    fn prepare_one(&self, rest: SessionAtRest, sockets: Vec<TcpStream>) -> Result<(Revived, Registered), String> {
        if sockets.len() != rest.lines.len() || rest.lines.len() != rest.session.connections.len() {
            return Err("a connection has no socket".into());
        }
        let peer = rest.lines.first().ok_or("it has no connection")?.peer;
        let targets = self.targets();
        let target = targets.named(&rest.target).ok_or_else(|| format!("there is no target {}", rest.target))?;
        let rule = target.access.decide(&rest.initiator, peer.ip());
        let rule = rule.map_err(|_| "no rule admits it any more")?;
        let account = match (&rule.chap, &rest.account) {
            (None, _) => None,
            (Some(chap), user) => {
                let own = chap.accounts.iter().find(|account| Some(&account.user) == user.as_ref());
                Some(own.ok_or("its account is not admitted any more")?.clone())
            }
        };
        let standing = Standing { address: peer.ip(), account, target: Arc::clone(target), rule: Arc::clone(rule) };
        let port = TargetPort::new(&target.name, &target.groups, rest.portal_group);
        let nexus = NexusDescription {
            initiator_port: TransportId::port(&rest.initiator, rest.isid).encode().into(),
            target_port: Arc::new(port.ok_or("its portal group is none of the target's")?),
            units: Arc::clone(&rule.units),
            protocol_level: u8::try_from(rest.session.parameters.protocol_level).unwrap_or(u8::MAX),
        };
        let session = &rest.session;
        let agreeable = session.connections.iter().all(|connection| connection.parameters.are_agreeable());
        if !agreeable || !session.parameters.are_agreeable() {
            return Err("no login comes to what it says was agreed".into());
        }
        for view in &rest.nexus.views {
            let entry = rule.units.entries.iter().find(|entry| entry.number == view.number);
            match entry.map(|entry| entry.unit.identity().uuid) {
                Some(uuid) if uuid == view.uuid => {}
                Some(_) => return Err(format!("its LUN {} would be another disk", view.number)),
                None => return Err(format!("it would have no LUN {} any more", view.number)),
            }
        }
        let registered = self.registry.revive(&rest, standing, self.workers.len()).ok_or("its TSIH is another's")?;
        let revived = Revived {
            rest,
            sockets,
            target: Arc::clone(target),
            nexus,
            rule: Arc::clone(rule),
            limits: Arc::clone(&self.limits),
            lines: Arc::clone(&self.lines),
            traces: Arc::clone(&self.traces),
        };
        Ok((revived, registered))
    }

    /// Begins to serve sessions of another process, which does not any more.
    pub fn revive(&self, prepared: Prepared) {
        for (revived, registered) in prepared.sessions {
            let initiator = revived.rest.initiator.clone();
            if !self.workers.get(registered.worker()).is_some_and(|worker| worker.revive(revived, registered)) {
                tracing::error!(%initiator, "its worker has died; the session is lost");
            }
        }
    }

    /// Every unit that any rule shows, once.
    fn units(&self) -> Vec<Arc<LogicalUnit>> {
        let mut units: Vec<Arc<LogicalUnit>> = Vec::new();
        let targets = self.targets();
        let rules = targets.all().iter().flat_map(|target| &target.access.rules);
        for entry in rules.flat_map(|rule| &rule.units.entries) {
            if !units.iter().any(|unit| Arc::ptr_eq(unit, &entry.unit)) {
                units.push(Arc::clone(&entry.unit));
            }
        }
        units
    }
}

impl Prepared {
    /// How many sessions there are.
    pub fn sessions(&self) -> usize {
        self.sessions.len()
    }
}

impl Frozen {
    /// Everything of it, and the sockets of all connections in their order.
    pub async fn write_down(&self) -> Result<(DoorAtRest, Vec<OwnedFd>), String> {
        let (mut rest, mut sockets) =
            (DoorAtRest { last_tsih: self.door.registry.last_tsih(), ..DoorAtRest::default() }, Vec::new());
        for worker in &self.door.workers {
            for (session, own) in worker.write_down().await? {
                rest.sessions.push(session);
                sockets.extend(own);
            }
        }
        if rest.sessions.len() != self.door.sessions() {
            return Err("a session is just coming or going".into());
        }
        rest.units = self.door.units().iter().map(|unit| unit.at_rest()).collect();
        for target in self.door.targets().all() {
            let group = |group: scsi::port_groups::Group| GroupAtRest {
                target: target.name.clone(),
                number: group.number,
                state: group.state,
            };
            rest.groups.extend(target.groups.report().into_iter().map(group));
        }
        Ok((rest, sockets))
    }

    /// Another process has them: they never go on here.
    pub fn leave(mut self) {
        self.gone = true;
        // The door stays shut for ever, and whoever stands in it.
        std::mem::forget(self);
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        if !self.gone {
            self.door.workers.iter().for_each(crate::worker::WorkerHandle::thaw);
            self.door.open.send_replace(true);
        }
    }
}
