//! The sockets of the iSNS client: a connection to the server, and listeners for what the server asks and tells
//! (RFC 4171 §2.9.1). It runs beside the door and never on a worker; the client itself is [`iscsi::isns`].

use crate::limits::Limits;
use crate::target::Target;
use iscsi::isns::{Action, Client, Event, Node, Portal, Receiver, Registration};
use iscsi::name::Name;
use std::collections::{HashSet, VecDeque};
use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt, Interest};
use tokio::net::{TcpStream, lookup_host};
use tokio::sync::{Notify, watch};
use tokio::task::{AbortHandle, JoinHandle};
use tokio::time::timeout;

/// Bytes that are read at a time.
const PIECE: usize = 4096;
/// While so many bytes wait to be sent nothing is read.
const UNSENT: usize = 64 << 10;
/// A notification or an inquiry has at most so many bytes.
const NOTIFICATION_BYTES: usize = 64 << 10;
/// How long an answer to a notification may take to be sent.
const ANSWER: Duration = Duration::from_secs(10);
/// How long accepting rests when the system has no descriptors.
const REST: Duration = Duration::from_millis(500);
/// Changes that are logged in [`LOG_TIME`]; of more the number is told.
const LOG_LINES: u32 = 20;
const LOG_TIME: Duration = Duration::from_secs(10);

/// What is registered where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IsnsSettings {
    /// The server, `HOST:PORT`.
    pub server: String,
    /// The identifier of our entity; the name of the first target where there is none.
    pub entity: Option<String>,
    /// Seconds without a message after which the server is asked to forget us.
    pub period: u32,
}

/// A listener for what the server asks and tells, at one address of ours.
pub struct Notified {
    /// The address; it may be a wildcard.
    pub address: IpAddr,
    /// The listener.
    pub listener: TcpListener,
}

/// The client, running.
pub struct Isns {
    shared: Arc<Shared>,
    stop: watch::Sender<bool>,
    running: JoinHandle<()>,
}

/// What the connection to the server and the listeners share.
struct Shared {
    settings: IsnsSettings,
    /// What is registered; replaced by [`Isns::register`].
    targets: Mutex<Vec<Arc<Target>>>,
    /// The entity's identifier, once it has one: it stays whatever becomes of the targets.
    entity: Mutex<Option<String>>,
    limits: Arc<Limits>,
    /// Where the listeners are.
    notified: Vec<SocketAddr>,
    client: Mutex<Client>,
    /// A notification has given the client something to do or to tell.
    stirred: Notify,
    /// Addresses of the server.
    server: Mutex<HashSet<IpAddr>>,
    /// That a portal is not registered was told.
    told_loopback: AtomicBool,
}

impl Isns {
    /// Begins to register these targets.
    pub fn start(
        settings: IsnsSettings,
        targets: Vec<Arc<Target>>,
        notified: Vec<Notified>,
        limits: Arc<Limits>,
    ) -> io::Result<Isns> {
        let mut listeners = Vec::new();
        for Notified { listener, .. } in notified {
            listener.set_nonblocking(true)?;
            listeners.push(tokio::net::TcpListener::from_std(listener)?);
        }
        // It only spreads retries: without any they come at the same time as others'.
        let mut entropy = [0; 8];
        let _ = getrandom::fill(&mut entropy);
        let entropy = u64::from_ne_bytes(entropy);
        let shared = Arc::new(Shared {
            entity: Mutex::new(settings.entity.clone()),
            settings,
            targets: Mutex::new(targets),
            limits,
            notified: listeners.iter().map(tokio::net::TcpListener::local_addr).collect::<Result<_, _>>()?,
            client: Mutex::new(Client::new(Instant::now(), entropy)),
            stirred: Notify::new(),
            server: Mutex::default(),
            told_loopback: AtomicBool::new(false),
        });
        let (stop, stopped) = watch::channel(false);
        let listening: Vec<AbortHandle> = listeners
            .into_iter()
            .map(|listener| tokio::spawn(listen(Arc::clone(&shared), listener)).abort_handle())
            .collect();
        let served = Arc::clone(&shared);
        let running = tokio::spawn(async move {
            Connection::default().run(&served, stopped).await;
            listening.iter().for_each(AbortHandle::abort);
        });
        Ok(Isns { shared, stop, running })
    }

    /// These are the targets from now on, with their portals: the server is told at once. The entity keeps its
    /// identifier, also where that was the name of a target that has gone.
    pub fn register(&self, targets: Vec<Arc<Target>>) {
        *self.shared.targets.lock().unwrap_or_else(PoisonError::into_inner) = targets;
        self.shared.client().renew(Instant::now());
        self.shared.stirred.notify_one();
    }

    /// Takes everything out of the server, in a bounded time.
    pub async fn stop(self) {
        let _ = self.stop.send(true);
        let _ = self.running.await;
    }
}

impl Shared {
    fn client(&self) -> MutexGuard<'_, Client> {
        self.client.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A connection to the server, and what is to be registered as seen from there.
    async fn connect(&self) -> io::Result<(TcpStream, Registration)> {
        let mut last = io::Error::other("it has no address");
        for address in lookup_host(&self.settings.server).await? {
            match TcpStream::connect(address).await {
                Ok(stream) => {
                    stream.set_nodelay(true)?;
                    self.server.lock().unwrap_or_else(PoisonError::into_inner).insert(address.ip().to_canonical());
                    let registration = self.registration(stream.local_addr()?).await;
                    return Ok((stream, registration));
                }
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    async fn registration(&self, local: SocketAddr) -> Registration {
        let mut portals: Vec<Portal> = Vec::new();
        let mut targets = Vec::new();
        let served = self.targets.lock().unwrap_or_else(PoisonError::into_inner).clone();
        for target in &served {
            let Ok(name) = Name::lenient(&target.name) else { continue };
            let mut reached = Vec::new();
            for (host, group) in target.addresses(local) {
                // Only a domain name is looked up. The server knows addresses.
                let found = lookup_host(host.to_string()).await.ok().and_then(|mut found| found.next());
                let Some(address) = found else { continue };
                let address = SocketAddr::new(address.ip().to_canonical(), address.port());
                if !leads_here(address.ip(), local.ip()) {
                    if !self.told_loopback.swap(true, Ordering::Relaxed) {
                        tracing::warn!(portal = %address, "not registered with the iSNS server: only this machine reaches it");
                    }
                    continue;
                }
                if !portals.iter().any(|portal| portal.address == address) {
                    portals.push(Portal { address, notified_at: self.notified_at(address.ip()) });
                }
                reached.push((address, group));
            }
            targets.push(Node { name, alias: target.alias.clone(), portals: reached });
        }
        let mut entity = self.entity.lock().unwrap_or_else(PoisonError::into_inner);
        if entity.is_none() {
            *entity = served.first().map(|target| target.name.clone());
        }
        let entity = entity.clone().unwrap_or_default();
        Registration { entity, period: self.settings.period, portals, targets }
    }

    /// The port at which the server reaches us at this address. An address that is only advertised leads to the
    /// first listener.
    fn notified_at(&self, address: IpAddr) -> Option<u16> {
        let here = self.notified.iter().find(|own| own.ip() == address);
        let all = || self.notified.iter().find(|own| own.ip().is_unspecified());
        here.or_else(all).or_else(|| self.notified.first()).map(SocketAddr::port)
    }
}

/// Whether others who reach the server, which we reach from `local`, come to us by this address: a loopback
/// address is somebody else's to them.
fn leads_here(address: IpAddr, local: IpAddr) -> bool {
    !address.is_loopback() || local.to_canonical().is_loopback()
}

type Connecting = std::pin::Pin<Box<dyn Future<Output = io::Result<(TcpStream, Registration)>> + Send>>;

/// What happened next.
enum Happened {
    Connected(io::Result<(TcpStream, Registration)>),
    Ready,
    Time,
    Stirred,
    Stopped,
}

/// The connection to the server.
#[derive(Default)]
struct Connection {
    connecting: Option<Connecting>,
    stream: Option<TcpStream>,
    unsent: Vec<u8>,
    log: Log,
}

impl Connection {
    async fn run(mut self, shared: &Arc<Shared>, mut stopped: watch::Receiver<bool>) {
        let mut stopping = false;
        loop {
            let deadline = {
                let mut client = shared.client();
                while let Some(action) = client.poll_action() {
                    self.act(shared, action);
                }
                while let Some(event) = client.poll_event() {
                    self.log.tell(&shared.settings.server, &event);
                }
                if client.is_finished() {
                    return;
                }
                client.poll_timeout()
            };
            let happened = self.next(shared, deadline, &mut stopped, stopping).await;
            let now = Instant::now();
            match happened {
                Happened::Connected(Ok((stream, registration))) => {
                    self.stream = Some(stream);
                    shared.client().handle_connected(now, registration);
                }
                Happened::Connected(Err(error)) => shared.client().handle_closed(now, &error.to_string()),
                Happened::Ready => self.transfer(shared, now),
                Happened::Time => shared.client().handle_timeout(now),
                Happened::Stirred => {}
                Happened::Stopped => {
                    stopping = true;
                    shared.client().stop(now);
                }
            }
        }
    }

    fn act(&mut self, shared: &Arc<Shared>, action: Action) {
        match action {
            Action::Connect => {
                let shared = Arc::clone(shared);
                self.connecting = Some(Box::pin(async move { shared.connect().await }));
            }
            Action::Send(bytes) => self.unsent.extend(bytes),
            Action::Close => self.close(),
        }
    }

    fn close(&mut self) {
        (self.connecting, self.stream) = (None, None);
        self.unsent.clear();
    }

    async fn next(
        &mut self,
        shared: &Shared,
        deadline: Option<Instant>,
        stopped: &mut watch::Receiver<bool>,
        stopping: bool,
    ) -> Happened {
        let (connecting, stream) = (&mut self.connecting, &self.stream);
        let sending = !self.unsent.is_empty();
        let reading = self.unsent.len() < UNSENT;
        let connected = async {
            match connecting {
                Some(connecting) => connecting.await,
                None => std::future::pending().await,
            }
        };
        let ready = async {
            let interest = match (reading, sending) {
                (true, true) => Interest::READABLE | Interest::WRITABLE,
                (false, _) => Interest::WRITABLE,
                (true, false) => Interest::READABLE,
            };
            match stream {
                Some(stream) => stream.ready(interest).await.map(|_| ()),
                None => std::future::pending().await,
            }
        };
        let time = async {
            match deadline {
                Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            connected = connected => {
                self.connecting = None;
                Happened::Connected(connected)
            }
            // What is wrong with the socket is told when it is read.
            _ = ready => Happened::Ready,
            () = time => Happened::Time,
            () = shared.stirred.notified() => Happened::Stirred,
            // It ends too when nobody is left who could say so.
            _ = stopped.changed(), if !stopping => Happened::Stopped,
        }
    }

    /// Moves what can be moved.
    fn transfer(&mut self, shared: &Shared, now: Instant) {
        let Some(stream) = &self.stream else { return };
        let sent = match self.unsent.is_empty() {
            true => Ok(0),
            false => stream.try_write(&self.unsent),
        };
        let mut piece = [0; PIECE];
        let moved = sent.or_else(not_now).and_then(|sent| {
            self.unsent.drain(..sent);
            if self.unsent.len() >= UNSENT {
                return Ok(0);
            }
            match stream.try_read(&mut piece) {
                Ok(0) => Err(io::Error::other("it has closed the connection")),
                read => read.or_else(not_now),
            }
        });
        match moved {
            Ok(length) => shared.client().handle_bytes(now, piece.get(..length).unwrap_or_default()),
            Err(error) => {
                self.close();
                shared.client().handle_closed(now, &error.to_string());
            }
        }
    }
}

/// Nothing is moved where there is nothing to be moved just now.
fn not_now(error: io::Error) -> io::Result<usize> {
    match error.kind() {
        io::ErrorKind::WouldBlock => Ok(0),
        _ => Err(error),
    }
}

/// Accepts who wants to ask or to tell something, for ever.
async fn listen(shared: Arc<Shared>, listener: tokio::net::TcpListener) {
    // Each with the task that serves it, oldest first.
    let (mut servers, mut strangers) = (Guests::default(), Guests::default());
    loop {
        let Ok((stream, peer)) = listener.accept().await else {
            tokio::time::sleep(REST).await;
            continue;
        };
        let known = shared.server.lock().unwrap_or_else(PoisonError::into_inner).contains(&peer.ip().to_canonical());
        let limits = &shared.limits;
        let guests = if known { &mut servers } else { &mut strangers };
        guests.make_room(limits);
        let guest = Arc::clone(&shared);
        guests.0.push_back(match known {
            true => tokio::spawn(serve(guest, stream)).abort_handle(),
            false => tokio::spawn(async move {
                let limits = Arc::clone(&guest.limits);
                if timeout(limits.isns_notifier_time, serve(guest, stream)).await.is_err() {
                    limits.struck.isns_notifier_time.count();
                }
            })
            .abort_handle(),
        });
    }
}

/// Connections of one kind, oldest first. They end with it.
#[derive(Default)]
struct Guests(VecDeque<AbortHandle>);

impl Guests {
    fn make_room(&mut self, limits: &Limits) {
        self.0.retain(|guest| !guest.is_finished());
        if self.0.len() >= limits.isns_notifiers
            && let Some(oldest) = self.0.pop_front()
        {
            limits.struck.isns_notifiers.count();
            oldest.abort();
        }
    }
}

impl Drop for Guests {
    fn drop(&mut self) {
        self.0.iter().for_each(AbortHandle::abort);
    }
}

/// Answers what is asked and told on one connection.
async fn serve(shared: Arc<Shared>, mut stream: TcpStream) {
    let mut receiver = Receiver::new(NOTIFICATION_BYTES);
    let mut piece = [0; PIECE];
    loop {
        match stream.read(&mut piece).await {
            Ok(0) | Err(_) => return,
            Ok(length) => receiver.push(piece.get(..length).unwrap_or_default()),
        }
        loop {
            let message = match receiver.take() {
                Ok(Some(message)) => message,
                Ok(None) => break,
                Err(error) => return tracing::debug!("iSNS: somebody sent {error}"),
            };
            let answer = shared.client().handle_notification(Instant::now(), &message);
            shared.stirred.notify_one();
            let Some(answer) = answer else { continue };
            if !matches!(timeout(ANSWER, stream.write_all(&answer)).await, Ok(Ok(()))) {
                return;
            }
        }
    }
}

/// Says what happened, and of changes not more than so many lines.
struct Log {
    since: Instant,
    lines: u32,
}

impl Default for Log {
    fn default() -> Log {
        Log { since: Instant::now(), lines: 0 }
    }
}

impl Log {
    fn tell(&mut self, server: &str, event: &Event) {
        match event {
            Event::Registered { period } => tracing::info!(server, period, "registered with the iSNS server"),
            Event::Back => tracing::info!(server, "the iSNS server is back and still has us"),
            Event::Away(why) => tracing::warn!(server, "the iSNS server is away: {why}; it is tried again"),
            Event::Forgotten => tracing::warn!(server, "the iSNS server has lost us; we register again"),
            Event::Without(what) => tracing::warn!(server, "the iSNS server goes without {what}"),
            Event::Refused(status) => {
                tracing::warn!(server, "the iSNS server refuses to register us: {status}; it is tried again");
            }
            Event::Deregistered => tracing::info!(server, "taken out of the iSNS server"),
            // Some servers tell of each query of a node as of an update.
            Event::Changed(change) if !change.added && !change.removed => {
                tracing::debug!(server, node = %change.node, "iSNS: something of a node has changed");
            }
            Event::Changed(change) => {
                if self.since.elapsed() > LOG_TIME {
                    if let Some(more) = self.lines.checked_sub(LOG_LINES + 1) {
                        tracing::info!(server, not_shown = more + 1, "iSNS: nodes have come or gone");
                    }
                    (self.since, self.lines) = (Instant::now(), 0);
                }
                self.lines = self.lines.saturating_add(1);
                if self.lines <= LOG_LINES {
                    let (added, removed) = (change.added, change.removed);
                    tracing::info!(server, node = %change.node, added, removed, "iSNS: a node has come or gone");
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loopback_address_is_told_only_to_a_server_of_this_machine() {
        let leads = |address: &str, local: &str| leads_here(address.parse().unwrap(), local.parse().unwrap());
        assert!(leads("192.0.2.7", "192.0.2.7") && leads("192.0.2.7", "127.0.0.1") && leads("127.0.0.2", "127.0.0.1"));
        assert!(leads("127.0.0.1", "::ffff:127.0.0.1") && leads("::1", "::1"));
        assert!(!leads("127.0.0.1", "192.0.2.7") && !leads("::1", "2001:db8::7"));
    }
}
