//! The front door: accepting, the login, discovery. A worker gets a connection only after its login.

use crate::admission::Admission;
use crate::limits::Limits;
use crate::registry::{Admitted, Registry, SessionOrder};
use crate::target::{Handover, Target, Targets};
use crate::worker::WorkerHandle;
use iscsi::key::Offers;
use iscsi::login::target::{LoggedIn, Login, Step};
use iscsi::session::SessionKind;
use iscsi::wire::BHS_BYTES;
use lun::{NexusDescription, TargetPort};
use scsi::transport_id::TransportId;
use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// A peer whose kernel has not acknowledged data for this long is gone.
const USER_TIMEOUT: Duration = Duration::from_secs(60);
/// How long accepting rests when the system has no descriptors.
const REST: Duration = Duration::from_millis(100);
/// A refusal of the same kind is logged at most this often.
const LOG_INTERVAL: Duration = Duration::from_secs(1);
/// Refused logins that are logged one by one in that time.
const REFUSALS_LOGGED: u32 = 20;

/// The front door of all targets.
pub struct Door {
    pub(crate) targets: Targets,
    pub(crate) limits: Arc<Limits>,
    pub(crate) workers: Vec<WorkerHandle>,
    pub(crate) registry: Registry,
    logins: Mutex<Logins>,
}

/// Connections in their login, or in a discovery session behind it.
#[derive(Default)]
struct Logins {
    all: usize,
    by_address: HashMap<IpAddr, usize>,
    /// When too many were last logged, and how many were not since.
    told: Option<Instant>,
    silent: u64,
    /// Logins that were refused since, and how many of them were not logged.
    refusals_since: Option<Instant>,
    refusals: u32,
    refusals_silent: u64,
}

impl Door {
    /// A door to these targets; sessions are spread over the workers.
    pub fn new(targets: Targets, limits: Arc<Limits>, workers: Vec<WorkerHandle>) -> Arc<Door> {
        Arc::new(Door { targets, limits, workers, registry: Registry::default(), logins: Mutex::default() })
    }

    /// Sessions that are there.
    pub fn sessions(&self) -> usize {
        self.registry.len()
    }

    /// Accepts for ever at a portal of this group.
    pub async fn listen(self: Arc<Door>, listener: TcpListener, portal_group: u16) {
        let mut exhausted = None::<Instant>;
        loop {
            match listener.accept().await {
                Ok((stream, peer)) => {
                    exhausted = None;
                    let address = peer.ip().to_canonical();
                    if self.enter(address) {
                        let door = Arc::clone(&self);
                        tokio::spawn(async move {
                            let outcome =
                                tokio::time::timeout(door.limits.login_time, door.login(stream, peer, portal_group))
                                    .await;
                            match outcome {
                                Err(_) => door.refused(peer, "not finished in time"),
                                Ok(Err(error)) => door.refused(peer, &error),
                                Ok(Ok(None)) => {}
                                // It keeps its place at the door: strangers may discover.
                                Ok(Ok(Some((stream, logged_in)))) => door.discovery(stream, peer, logged_in).await,
                            }
                            door.leave(address);
                        });
                    }
                }
                // No descriptors: those who are here go on; look again a little later (F23).
                Err(error) => {
                    if exhausted.is_none_or(|told| told.elapsed() > LOG_INTERVAL) {
                        tracing::warn!("connections wait: {error}");
                        exhausted = Some(Instant::now());
                    }
                    tokio::time::sleep(REST).await;
                }
            }
        }
    }

    fn enter(&self, address: IpAddr) -> bool {
        let mut logins = self.logins.lock().unwrap_or_else(PoisonError::into_inner);
        let here = logins.by_address.get(&address).copied().unwrap_or(0);
        if logins.all >= self.limits.logins || here >= self.limits.logins_by_address {
            logins.silent += 1;
            if logins.told.is_none_or(|told| told.elapsed() > LOG_INTERVAL) {
                tracing::warn!(%address, refused = logins.silent, "connections refused: too many logins at a time");
                (logins.told, logins.silent) = (Some(Instant::now()), 0);
            }
            return false;
        }
        logins.all += 1;
        *logins.by_address.entry(address).or_default() += 1;
        true
    }

    fn leave(&self, address: IpAddr) {
        let mut logins = self.logins.lock().unwrap_or_else(PoisonError::into_inner);
        logins.all = logins.all.saturating_sub(1);
        if let Some(count) = logins.by_address.get_mut(&address) {
            *count -= 1;
            if *count == 0 {
                logins.by_address.remove(&address);
            }
        }
    }

    async fn discovery(&self, stream: TcpStream, peer: SocketAddr, logged_in: LoggedIn) {
        tracing::info!(%peer, initiator = %logged_in.asked.initiator_name, "discovery");
        let time = self.limits.discovery_time;
        if let Err(error) = crate::discovery::serve(stream, logged_in, &self.targets, time).await {
            tracing::debug!(%peer, "discovery: {error}");
        }
    }

    /// Says why a login was refused, unless too many are: a stranger does not fill the log.
    fn refused(&self, peer: SocketAddr, why: &str) {
        let mut logins = self.logins.lock().unwrap_or_else(PoisonError::into_inner);
        if logins.refusals_since.is_none_or(|since| since.elapsed() > LOG_INTERVAL) {
            (logins.refusals_since, logins.refusals) = (Some(Instant::now()), 0);
        }
        logins.refusals += 1;
        if logins.refusals > REFUSALS_LOGGED {
            logins.refusals_silent += 1;
            return;
        }
        match std::mem::take(&mut logins.refusals_silent) {
            0 => tracing::warn!(%peer, "login refused: {why}"),
            silent => tracing::warn!(%peer, not_shown = silent, "login refused: {why}"),
        }
    }

    /// A login to its end. What comes back is a discovery session; others are with their workers.
    async fn login(
        &self,
        mut stream: TcpStream,
        peer: SocketAddr,
        portal_group: u16,
    ) -> Result<Option<(TcpStream, LoggedIn)>, String> {
        let text = |error: std::io::Error| error.to_string();
        stream.set_nodelay(true).map_err(text)?;
        // A half-dead network ends a connection even while pings wait behind data.
        let _ = socket2::SockRef::from(&stream).set_tcp_user_timeout(Some(USER_TIMEOUT));
        let mut login = Login::new(Offers::default(), self.limits.login);
        let mut policy = Admission::new(self, portal_group);
        let (mut out, mut data) = (Vec::new(), Vec::new());
        loop {
            let mut header = [0; BHS_BYTES];
            stream.read_exact(&mut header).await.map_err(text)?;
            let length = login.data_bytes(&header).map_err(|failure| failure.why)?;
            data.resize(length, 0);
            stream.read_exact(&mut data).await.map_err(text)?;
            out.clear();
            let step = login.handle(&header, &data, &mut policy, &mut out);
            // The session whose place is taken has ended before its successor hears of success (SES-01).
            if let Some(Admitted::New { replaces, .. }) = &mut policy.admitted {
                let all = async {
                    for ended in replaces.iter_mut() {
                        let _ = ended.wait_for(|ended| *ended).await;
                    }
                };
                if tokio::time::timeout(self.limits.reinstatement_time, all).await.is_err() {
                    return Err("the session whose place it takes does not end".into());
                }
            }
            stream.write_all(&out).await.map_err(text)?;
            match step {
                Step::More => {}
                Step::Failed(failure) => return Err(failure.why),
                Step::Done(logged_in) if logged_in.asked.kind == SessionKind::Discovery => {
                    return Ok(Some((stream, *logged_in)));
                }
                Step::Done(logged_in) => {
                    let (Some(admitted), Some(target)) = (policy.admitted, policy.target) else {
                        return Err("it was not admitted".into());
                    };
                    return self.hand_over(stream, peer, *logged_in, target, admitted).map(|()| None);
                }
            }
        }
    }

    fn hand_over(
        &self,
        stream: TcpStream,
        peer: SocketAddr,
        logged_in: LoggedIn,
        target: Arc<Target>,
        admitted: Admitted,
    ) -> Result<(), String> {
        let stream = stream.into_std().map_err(|error| error.to_string())?;
        let initiator = TransportId::port(&logged_in.asked.initiator_name, logged_in.asked.isid).encode();
        let port = TargetPort::new(&target.name, &target.groups, logged_in.portal_group_tag);
        let nexus = NexusDescription {
            initiator_port: initiator.into(),
            target_port: Arc::new(port.ok_or("its portal group is none of the target's")?),
            units: Arc::clone(&target.units),
        };
        let mut handover = Handover {
            stream,
            early: Vec::new(),
            peer,
            logged_in,
            target,
            nexus,
            limits: Arc::clone(&self.limits),
            registered: None,
        };
        match admitted {
            Admitted::New { registered, .. } => {
                let worker = registered.worker();
                handover.registered = Some(registered);
                if !self.workers.get(worker).is_some_and(|worker| worker.serve(handover)) {
                    return Err("its worker has just died".into());
                }
            }
            Admitted::Connection { orders } => {
                orders.send(SessionOrder::Replace(Box::new(handover))).map_err(|_| "its session has just ended")?;
            }
        }
        Ok(())
    }
}
