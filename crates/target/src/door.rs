//! The front door: accepting, the login, discovery. A worker gets a connection only after its login.

use crate::admission::Admission;
use crate::limits::Limits;
use crate::refusal::Refusal;
use crate::registry::{Admitted, Registry, SessionOrder};
use crate::target::{Handover, Targets, Viewer};
use crate::worker::WorkerHandle;
use iscsi::key::Offers;
use iscsi::login::target::{Failure, LoggedIn, Login, Step};
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
                                Err(_) => {
                                    let why = "not finished in time".to_owned();
                                    door.refused(&Refusal { peer, asked: None, status: None, why, access: None });
                                }
                                Ok(Err(refusal)) => door.refused(&refusal),
                                Ok(Ok(None)) => {}
                                // It keeps its place at the door: strangers may discover.
                                Ok(Ok(Some((stream, logged_in, viewer)))) => {
                                    door.discovery(stream, peer, *logged_in, &viewer).await;
                                }
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

    async fn discovery(&self, stream: TcpStream, peer: SocketAddr, logged_in: LoggedIn, viewer: &Viewer) {
        tracing::info!(%peer, initiator = %logged_in.asked.initiator_name, "discovery");
        let time = self.limits.discovery_time;
        if let Err(error) = crate::discovery::serve(stream, logged_in, &self.targets, viewer, time).await {
            tracing::debug!(%peer, "discovery: {error}");
        }
    }

    /// Says why a login was refused, unless too many are: a stranger does not fill the log.
    fn refused(&self, refusal: &Refusal) {
        let peer = refusal.peer;
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
            0 => tracing::warn!(%peer, "login refused: {refusal}"),
            silent => tracing::warn!(%peer, not_shown = silent, "login refused: {refusal}"),
        }
    }

    /// A login to its end. What comes back is a discovery session; others are with their workers.
    async fn login(
        &self,
        stream: TcpStream,
        peer: SocketAddr,
        portal_group: u16,
    ) -> Result<Option<(TcpStream, Box<LoggedIn>, Viewer)>, Refusal> {
        let mut policy = Admission::new(self, peer, portal_group);
        match self.exchange(stream, &mut policy).await {
            Ok((stream, logged_in)) if logged_in.asked.kind == SessionKind::Discovery => {
                let viewer = policy.viewer(&logged_in.asked.initiator_name);
                Ok(Some((stream, logged_in, viewer)))
            }
            Ok((stream, logged_in)) => match self.hand_over(stream, peer, *logged_in, &mut policy) {
                Ok(()) => Ok(None),
                Err(why) => Err(policy.refusal(None, why)),
            },
            Err(Unfinished::Failed(failure)) if failure.is_redirection() => {
                tracing::info!(%peer, "login redirected: {}", policy.refusal(Some(failure.status), failure.why));
                Ok(None)
            }
            Err(Unfinished::Failed(failure)) => Err(policy.refusal(Some(failure.status), failure.why)),
            Err(Unfinished::Closed(why)) => Err(policy.refusal(None, why)),
        }
    }

    /// Requests and responses until the last one.
    async fn exchange(
        &self,
        mut stream: TcpStream,
        policy: &mut Admission<'_>,
    ) -> Result<(TcpStream, Box<LoggedIn>), Unfinished> {
        stream.set_nodelay(true)?;
        // A half-dead network ends a connection even while pings wait behind data.
        let _ = socket2::SockRef::from(&stream).set_tcp_user_timeout(Some(USER_TIMEOUT));
        let mut login = Login::new(Offers::default(), self.limits.login);
        let (mut out, mut data) = (Vec::new(), Vec::new());
        loop {
            let mut header = [0; BHS_BYTES];
            stream.read_exact(&mut header).await?;
            let length = login.data_bytes(&header).map_err(|failure| Unfinished::Closed(failure.why))?;
            data.resize(length, 0);
            stream.read_exact(&mut data).await?;
            out.clear();
            let step = login.handle(&header, &data, policy, &mut out);
            // The session whose place is taken has ended before its successor hears of success (SES-01).
            if let Some(Admitted::New { replaces, .. }) = &mut policy.admitted {
                let all = async {
                    for ended in replaces.iter_mut() {
                        let _ = ended.wait_for(|ended| *ended).await;
                    }
                };
                if tokio::time::timeout(self.limits.reinstatement_time, all).await.is_err() {
                    return Err(Unfinished::Closed("the session whose place it takes does not end".into()));
                }
            }
            stream.write_all(&out).await?;
            match step {
                Step::More => {}
                Step::Failed(failure) => return Err(Unfinished::Failed(failure)),
                Step::Done(logged_in) => return Ok((stream, logged_in)),
            }
        }
    }

    fn hand_over(
        &self,
        stream: TcpStream,
        peer: SocketAddr,
        logged_in: LoggedIn,
        policy: &mut Admission<'_>,
    ) -> Result<(), String> {
        let (Some(admitted), Some((target, rule))) = (policy.admitted.take(), policy.place.take()) else {
            return Err("it was not admitted".into());
        };
        let stream = stream.into_std().map_err(|error| error.to_string())?;
        let initiator = TransportId::port(&logged_in.asked.initiator_name, logged_in.asked.isid).encode();
        let port = TargetPort::new(&target.name, &target.groups, logged_in.portal_group_tag);
        let nexus = NexusDescription {
            initiator_port: initiator.into(),
            target_port: Arc::new(port.ok_or("its portal group is none of the target's")?),
            units: rule.units,
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

/// Why a login has no end that is success.
enum Unfinished {
    /// The initiator was told so.
    Failed(Failure),
    /// It was not: the connection is closed, by whichever side.
    Closed(String),
}

impl From<std::io::Error> for Unfinished {
    fn from(error: std::io::Error) -> Unfinished {
        Unfinished::Closed(error.to_string())
    }
}
