//! The front door: accepting, the login, discovery. A worker gets a connection only after its login.

mod failures;
mod handover;
mod lines;
mod places;

pub use failures::{Cause, Record};
pub use handover::{Frozen, Prepared};
pub(crate) use lines::{Lines, printable};

use crate::admission::Admission;
use crate::discovery::Discoveries;
use crate::limits::Limits;
use crate::portals::Portals;
use crate::refusal::Refusal;
use crate::registry::{Admitted, Arrival, Registry};
use crate::target::{Handover, Targets, Viewer};
use crate::trace::{LoginWatch, Traces};
use crate::worker::WorkerHandle;
use failures::{Failures, Sentence};
use iscsi::counter::Counter;
use iscsi::key::Offers;
use iscsi::login::join;
use iscsi::login::target::{Failure, LoggedIn, Login, LoginBound, Step};
use iscsi::session::SessionKind;
use iscsi::wire::BHS_BYTES;
use lun::{NexusDescription, TargetPort};
use places::{Places, Seat};
use scsi::transport_id::TransportId;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant, SystemTime};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedRwLockReadGuard, watch};

/// A peer whose kernel has not acknowledged data for this long is gone.
const USER_TIMEOUT: Duration = Duration::from_secs(60);
/// How long accepting rests when the system has no descriptors.
const REST: Duration = Duration::from_millis(100);
/// How often that is told.
const LOG_INTERVAL: Duration = Duration::from_secs(1);
/// How long a refused peer may take to read why.
const LINGER: Duration = Duration::from_millis(500);
/// Memory for text that is kept from one request of a login to the next.
const KEEP_BYTES: usize = 512;

/// The front door of all targets.
pub struct Door {
    /// What is served now; a login takes it once. [`Door::change`] replaces it.
    pub(crate) targets: RwLock<Arc<Targets>>,
    pub(crate) limits: Arc<Limits>,
    pub(crate) workers: Vec<WorkerHandle>,
    pub(crate) registry: Registry,
    pub(crate) lines: Arc<Lines>,
    pub(crate) places: Arc<Places>,
    pub(crate) failures: Arc<Failures>,
    /// Logins that succeeded.
    pub(crate) succeeded: Counter,
    /// Nobody may log in, at whatever target. Who is there stays.
    pub(crate) closed: AtomicBool,
    pub(crate) traces: Arc<Traces>,
    discoveries: Discoveries,
    pub(crate) portals: Portals,
    /// Held by every login between its success and its worker, so that none is between while the door is shut.
    threshold: Arc<tokio::sync::RwLock<()>>,
    /// Whether connections are accepted.
    open: watch::Sender<bool>,
}

/// A connection in its login.
struct Guest {
    stream: TcpStream,
    peer: SocketAddr,
    portal_group: u16,
    seat: Seat,
}

/// Why a login has no end that is success, and what the initiator is told, if anything.
struct Unfinished {
    cause: Cause,
    failure: Result<Failure, String>,
    answer: Vec<u8>,
}

impl Unfinished {
    fn closed(cause: Cause, why: impl ToString) -> Unfinished {
        Unfinished { cause, failure: Err(why.to_string()), answer: Vec::new() }
    }
}

impl From<std::io::Error> for Unfinished {
    fn from(error: std::io::Error) -> Unfinished {
        match error.kind() {
            std::io::ErrorKind::UnexpectedEof => Unfinished::closed(Cause::Connection, "closed by the peer"),
            _ => Unfinished::closed(Cause::Connection, error),
        }
    }
}

impl Door {
    /// A door to these targets; sessions are spread over the workers.
    pub fn new(targets: Targets, limits: Arc<Limits>, workers: Vec<WorkerHandle>) -> Arc<Door> {
        Arc::new(Door {
            targets: RwLock::new(Arc::new(targets)),
            workers,
            registry: Registry::default(),
            lines: Arc::new(Lines::new(Arc::clone(&limits))),
            places: Places::new(Arc::clone(&limits)),
            failures: Failures::new(Arc::clone(&limits)),
            succeeded: Counter::default(),
            closed: AtomicBool::new(false),
            traces: Arc::default(),
            discoveries: Discoveries::new(&limits),
            portals: Portals::default(),
            threshold: Arc::default(),
            open: watch::Sender::new(true),
            limits,
        })
    }

    /// What is served now.
    pub fn targets(&self) -> Arc<Targets> {
        self.targets.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether anybody may log in.
    pub fn is_open(&self) -> bool {
        !self.closed.load(Ordering::Relaxed)
    }

    /// Lets people log in, or answers all logins with "service unavailable", which initiators try again.
    pub fn set_open(&self, open: bool) {
        self.closed.store(!open, Ordering::Relaxed);
    }

    /// Sessions that are there.
    pub fn sessions(&self) -> usize {
        self.registry.len()
    }

    /// Accepts for ever at a portal of this group, which [`Door::open_portal`] does not know of.
    pub async fn listen(self: Arc<Door>, listener: TcpListener, portal_group: u16) {
        self.accept(listener, Arc::new(AtomicU16::new(portal_group))).await;
    }

    /// Accepts for ever. A connection belongs to the portal group that is set when it comes.
    pub(crate) async fn accept(self: Arc<Door>, listener: TcpListener, portal_group: Arc<AtomicU16>) {
        let mut exhausted = None::<Instant>;
        let mut open = self.open.subscribe();
        loop {
            let accepted = tokio::select! {
                biased;
                // Who comes while it is shut waits in the system, for whoever opens it again.
                shut = async { open.wait_for(|open| !open).await.map(drop) } => shut.map(|()| None),
                accepted = listener.accept() => Ok(Some(accepted)),
            };
            let accepted = match accepted {
                Ok(Some(accepted)) => accepted,
                Ok(None) if open.wait_for(|open| *open).await.is_ok() => continue,
                _ => return,
            };
            match accepted {
                Ok((stream, peer)) => {
                    exhausted = None;
                    self.welcome(stream, peer, portal_group.load(Ordering::Relaxed));
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

    /// Gives a connection a place at the door, from which its login goes on by itself.
    fn welcome(self: &Arc<Door>, stream: TcpStream, peer: SocketAddr, portal_group: u16) {
        let now = Instant::now();
        let Some(seat) = self.places.enter(now, peer.ip()) else {
            let why = "connection refused: too many logins at a time";
            return self.lines.write(peer, |not_shown| tracing::warn!(event = "refused", %peer, not_shown, "{why}"));
        };
        let number = seat.number();
        let guest = Guest { stream, peer, portal_group, seat };
        let login = tokio::spawn(Arc::clone(self).receive(guest));
        self.places.ended_by(number, login.abort_handle());
    }

    /// A connection from its first byte to its end, or to its worker.
    async fn receive(self: Arc<Door>, mut guest: Guest) {
        let mut policy = None;
        let login = self.login(&mut guest, &mut policy);
        let outcome = tokio::time::timeout(self.limits.login_time, login).await.unwrap_or_else(|_| {
            self.limits.struck.login_time.count();
            Err(Unfinished::closed(Cause::Time, "not finished in time"))
        });
        let Guest { stream, peer, seat, .. } = guest;
        let unfinished = match (outcome, policy.as_mut()) {
            (Ok((logged_in, threshold)), Some(admission)) if logged_in.asked.kind == SessionKind::Discovery => {
                drop(threshold);
                let viewer = admission.viewer(&logged_in.asked.initiator_name);
                // What was served when it began is not kept for it.
                drop(policy.take());
                // It keeps its place at the door: strangers may discover.
                return self.discover(stream, peer, *logged_in, viewer, seat).await;
            }
            (Ok((logged_in, _threshold)), Some(policy)) => match self.hand_over(stream, peer, *logged_in, policy) {
                Ok(()) => return,
                Err(why) => return self.tell(&policy.refusal(None, why)),
            },
            (Ok(_), None) => return,
            (Err(unfinished), _) => unfinished,
        };
        let (status, why) = match unfinished.failure {
            Ok(failure) => (Some(failure.status), failure.why),
            Err(why) => (None, why),
        };
        let refusal = match policy {
            Some(mut policy) => policy.refusal(status, why),
            None => Refusal { peer, asked: None, status, why, access: None },
        };
        // Whoever waits for his answer holds no place that another could have.
        drop(seat);
        self.refuse(stream, unfinished.cause, refusal, &unfinished.answer).await;
    }

    /// Requests and responses until the last one.
    async fn login<'a>(
        &'a self,
        guest: &mut Guest,
        policy: &mut Option<Box<Admission<'a>>>,
    ) -> Result<(Box<LoggedIn>, OwnedRwLockReadGuard<()>), Unfinished> {
        let Guest { stream, peer, portal_group, seat } = guest;
        stream.set_nodelay(true)?;
        // A half-dead network ends a connection even while pings wait behind data.
        let _ = socket2::SockRef::from(&*stream).set_tcp_user_timeout(Some(USER_TIMEOUT));
        let mut header = [0; BHS_BYTES];
        stream.read_exact(&mut header).await?;
        // Who says nothing has cost next to nothing until here.
        let mut login = Box::new(Login::new(Offers::default(), self.limits.login));
        let policy = &mut **policy.insert(Box::new(Admission::new(self, *peer, *portal_group)));
        let (mut out, mut data) = (Vec::new(), Vec::new());
        let mut watch = LoginWatch::new(&self.traces, *peer, stream.local_addr().ok());
        loop {
            let length = login.data_bytes(&header).map_err(|failure| self.failed(failure, Vec::new()))?;
            // Memory grows with what comes, not with what was announced.
            (&mut *stream).take(length as u64).read_to_end(&mut data).await?;
            if data.len() < length {
                return Err(Unfinished::closed(Cause::Connection, "closed by the peer"));
            }
            watch.iter_mut().for_each(|watch| watch.received(&header, &data));
            let step = login.handle(&header, &data, policy, &mut out);
            if let Step::Failed(failure) = step {
                watch.iter_mut().for_each(|watch| watch.sent(&out));
                return Err(self.failed(failure, out));
            }
            if let (Step::Done(logged_in), Some(admitted)) = (&step, &mut policy.admitted) {
                seat.keep();
                match admitted.settle(logged_in.asked.cid, &self.limits).await {
                    Ok(()) => {
                        if let Admitted::Connection { place: Some(place), .. } = admitted {
                            join::tell_numbers(&mut out, place.exp_cmd_sn, place.max_cmd_sn);
                        }
                    }
                    Err(failure) => {
                        join::refuse(&mut out, failure.status);
                        watch.iter_mut().for_each(|watch| watch.sent(&out));
                        return Err(self.failed(failure, out));
                    }
                }
            }
            if let Step::Done(logged_in) = step {
                // Whoever hears of success has a session.
                let threshold = Arc::clone(&self.threshold).read_owned().await;
                stream.write_all(&out).await?;
                watch.iter_mut().for_each(|watch| watch.sent(&out));
                self.succeeded.count();
                return Ok((logged_in, threshold));
            }
            stream.write_all(&out).await?;
            watch.iter_mut().for_each(|watch| watch.sent(&out));
            for used in [&mut data, &mut out] {
                used.clear();
                used.shrink_to(KEEP_BYTES);
            }
            stream.read_exact(&mut header).await?;
        }
    }

    /// What the protocol says of a failure, with the bound that struck.
    fn failed(&self, failure: Failure, answer: Vec<u8>) -> Unfinished {
        let struck = &self.limits.struck;
        match failure.bound {
            Some(LoginBound::TextBytes) => struck.text_bytes.count(),
            Some(LoginBound::Keys) => struck.keys.count(),
            Some(LoginBound::Exchanges) => struck.exchanges.count(),
            Some(LoginBound::RequestBytes) | None => {}
        }
        Unfinished { cause: Cause::of(failure.status), failure: Ok(failure), answer }
    }

    /// Takes note of a login that failed, and answers it: the later, the more often its address has failed.
    async fn refuse(&self, mut stream: TcpStream, cause: Cause, refusal: Refusal, answer: &[u8]) {
        let redirected = refusal.status.is_some_and(|status| status.0 == 1);
        let Sentence { delay, place } = match redirected {
            true => {
                let peer = refusal.peer;
                self.lines.write(
                    peer,
                    |not_shown| tracing::info!(event = "redirected", %peer, not_shown, "login redirected: {refusal}"),
                );
                Sentence { delay: Duration::ZERO, place: None }
            }
            false => {
                self.tell(&refusal);
                self.failures.note(Instant::now(), Record { when: SystemTime::now(), cause, refusal })
            }
        };
        if answer.is_empty() || place.is_none() && !delay.is_zero() {
            return;
        }
        tokio::time::sleep(delay).await;
        let answered = async {
            stream.write_all(answer).await?;
            stream.shutdown().await?;
            // A close with unread bytes would be a reset, and take the answer with it.
            while place.is_some() && stream.read(&mut [0; 64]).await? > 0 {}
            std::io::Result::Ok(())
        };
        let _ = tokio::time::timeout(LINGER, answered).await;
    }

    /// Says why a login was refused, unless too many are: a stranger does not fill the log.
    fn tell(&self, refusal: &Refusal) {
        let peer = refusal.peer;
        self.lines
            .write(peer, |not_shown| tracing::warn!(event = "refused", %peer, not_shown, "login refused: {refusal}"));
    }

    async fn discover(&self, stream: TcpStream, peer: SocketAddr, logged_in: LoggedIn, viewer: Viewer, seat: Seat) {
        let initiator = &logged_in.asked.initiator_name;
        self.lines
            .write(peer, |not_shown| tracing::info!(event = "discovery", %peer, %initiator, not_shown, "discovery"));
        let targets = || self.targets();
        if let Err(error) = self.discoveries.serve(stream, peer, logged_in, &targets, &viewer, &self.traces).await {
            tracing::debug!(%peer, "discovery: {error}");
        }
        drop(seat);
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
        let registered = match admitted {
            Admitted::New { registered, .. } => registered,
            Admitted::Connection { place, .. } => {
                let place = place.ok_or("it has no place in its session")?;
                let arrival = Arrival { stream, peer, opening: logged_in.opening };
                return place.seat.send(arrival).map_err(|_| "its session has just ended".into());
            }
        };
        let initiator = TransportId::port(&logged_in.asked.initiator_name, logged_in.asked.isid).encode();
        let port = TargetPort::new(&target.name, &target.groups, logged_in.portal_group_tag);
        let nexus = NexusDescription {
            initiator_port: initiator.into(),
            target_port: Arc::new(port.ok_or("its portal group is none of the target's")?),
            units: Arc::clone(&rule.units),
            protocol_level: u8::try_from(logged_in.session.protocol_level).unwrap_or(u8::MAX),
        };
        let worker = registered.worker();
        let handover = Handover {
            stream,
            early: Vec::new(),
            peer,
            logged_in,
            target,
            rule: rule.label.clone(),
            nexus,
            target_resets: rule.target_resets,
            limiter: Arc::clone(&rule.limiter),
            limits: Arc::clone(&self.limits),
            traces: Arc::clone(&self.traces),
            lines: Arc::clone(&self.lines),
        };
        if !self.workers.get(worker).is_some_and(|worker| worker.serve(handover, registered)) {
            return Err("its worker has just died".into());
        }
        Ok(())
    }
}
