//! `lunette serve`: stores in, a target on the network out.

mod access_states;
mod arguments;
mod banner;
mod flush;
mod isns;
mod portals;
mod refresh;
mod secrets;
mod units;

pub use arguments::Arguments;

use crate::control::Control;
use crate::failure::Failure;
use crate::logging;
use access_states::AccessStates;
use banner::Banner;
use io::engine::Engines;
use iscsi::session::SessionLimits;
use lun::{GroupSettings, LogicalUnit, StateStore, TargetPortGroups};
use portals::Listen;
use std::io::Write;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use target::{
    Access, Chap, Discovery, Door, Initiators, Isns, Limits, Notified, Portal, Rule, StateFiles, Target, Targets,
    WorkerHandle,
};
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Connections that the kernel holds for us.
const BACKLOG: i32 = 1024;

/// Serves until it is told to stop.
pub fn run(arguments: &Arguments) -> Result<(), Failure> {
    logging::start(arguments.log_format, arguments.verbose);
    let name = arguments.target_name()?;
    let mut rule = rule(arguments)?;
    // The portals before the stores: where a port is in use, no file has been made.
    let (listens, mut groups) = portals::parse(&arguments.listen)?;
    let states = match &arguments.access_states {
        Some(path) => Some(access_states(path, &mut groups)?),
        None => None,
    };
    let groups = TargetPortGroups::new(&groups, arguments.access_management);
    let listeners = bind(&listens)?;
    let portals: Vec<Portal> = listeners.iter().map(|(_, portal)| portal.clone()).collect();
    warn_of_strangers(&rule, &portals);
    let notified = arguments.isns.as_ref().map_or(Ok(Vec::new()), |isns| isns.bind(&portals))?;
    let state = state(arguments)?;
    let units = units::open(&arguments.stores, state.as_ref())?;
    rule.units = Arc::new(units::map(&units));
    let banner = Banner {
        target: name.as_str(),
        portals: &portals,
        groups: &groups.report(),
        units: &units,
        chap: arguments.chap.as_deref(),
        mutual: arguments.chap_mutual.as_deref(),
    };
    let ready = banner.text(arguments.log_format);
    let target =
        Target { name: name.as_str().to_owned(), alias: None, access: Access { rules: vec![rule] }, portals, groups };
    let units: Vec<_> = units.into_iter().map(|unit| unit.unit).collect();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::runtime(format!("no runtime: {error}")))?;
    let served = runtime.block_on(serve(arguments, target, listeners, notified, &units, states, &ready));
    // A look at a store that hangs must not keep the process.
    runtime.shutdown_background();
    served?;
    flush::all(&units)
}

async fn serve(
    arguments: &Arguments,
    target: Target,
    listeners: Vec<(TcpListener, Portal)>,
    notified: Vec<Notified>,
    units: &[Arc<LogicalUnit>],
    states: Option<AccessStates>,
    ready: &str,
) -> Result<(), Failure> {
    let ping = Duration::from_secs(arguments.nop_interval.into());
    let defaults = Limits::default();
    let session = SessionLimits { nop_interval: ping, nop_timeout: ping, ..defaults.session.clone() };
    let mut limits = Limits { session, ..defaults };
    for (name, value) in &arguments.limit {
        limits.set(name, value).map_err(|error| Failure::input(format!("--limit: {error}")))?;
    }
    let limits = Arc::new(limits);
    let grace = limits.grace;
    let control = Control::open(arguments.control.as_deref(), arguments.state_dir.as_deref())?;
    let mut signals = Signals::new()?;
    let engines = Engines::new(arguments.io_engine);
    let workers = (0..arguments.workers())
        .map(|number| WorkerHandle::start(number, engines.clone(), Arc::clone(&limits)))
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| Failure::runtime(format!("no worker: {error}")))?;
    let groups = Arc::clone(&target.groups);
    let own = target.access.rules.iter().find_map(|rule| rule.chap.as_ref()?.own.clone());
    let discovery = Discovery::AsTargets { own };
    let targets = Targets::new(vec![target], discovery, arguments.chap_algorithms.clone());
    let isns = match &arguments.isns {
        Some(isns) => {
            let started = Isns::start(isns.settings.clone(), targets.all().to_vec(), notified, Arc::clone(&limits));
            Some(started.map_err(|error| Failure::runtime(format!("--isns: {error}")))?)
        }
        None => None,
    };
    let door = Door::new(targets, limits, workers.clone());
    if let Some(control) = &control {
        control.serve(Arc::clone(&door)).map_err(|error| Failure::runtime(format!("no administration: {error}")))?;
    }
    let mut doors = Vec::new();
    for (listener, portal) in listeners {
        listener.set_nonblocking(true).map_err(Failure::runtime)?;
        let listener = tokio::net::TcpListener::from_std(listener).map_err(Failure::runtime)?;
        doors.push(tokio::spawn(Arc::clone(&door).listen(listener, portal.group)));
    }
    let refreshing = tokio::spawn(refresh::now_and_then(units.to_vec(), signals.look()?));
    let watching = states.map(|states| tokio::spawn(access_states::watch(states, groups, units.to_vec())));
    // Whoever reads this may have gone; that is no reason to stop serving.
    let _ = std::io::stdout().write_all(ready.as_bytes()).and_then(|()| std::io::stdout().flush());
    let died = tokio::select! {
        signal = signals.next() => {
            tracing::info!(signal, sessions = door.sessions(), "stopping: what is in flight is finished and flushed");
            false
        }
        () = any_ended(&workers) => {
            tracing::error!("a worker has died, which is a defect; the others are stopped and all is flushed");
            true
        }
    };
    refreshing.abort();
    watching.inspect(tokio::task::JoinHandle::abort);
    for listening in &doors {
        listening.abort();
    }
    // Who asks the server finds us no more from now on.
    let leaving = isns.map(|isns| tokio::spawn(isns.stop()));
    let ended = async {
        stop(&workers, grace).await;
        if let Some(leaving) = leaving {
            let _ = leaving.await;
        }
    };
    tokio::select! {
        () = ended => match died {
            false => Ok(()),
            true => Err(Failure::runtime("a worker died; please report what stands above")),
        },
        signal = signals.next() => Err(Failure::runtime(format!("{signal} again: stopped at once"))),
    }
}

async fn stop(workers: &[WorkerHandle], grace: Duration) {
    let stopping: Vec<_> =
        workers.iter().cloned().map(|worker| tokio::spawn(async move { worker.stop(grace).await })).collect();
    for worker in stopping {
        let _ = worker.await;
    }
}

async fn any_ended(workers: &[WorkerHandle]) {
    let mut ends: Vec<_> = workers.iter().map(|worker| Box::pin(worker.ended())).collect();
    std::future::poll_fn(|cx| match ends.iter_mut().any(|end| end.as_mut().poll(cx).is_ready()) {
        true => std::task::Poll::Ready(()),
        false => std::task::Poll::Pending,
    })
    .await;
}

/// The one rule of the command line.
fn rule(arguments: &Arguments) -> Result<Rule, Failure> {
    let names = arguments.initiators()?;
    Ok(Rule {
        label: if names.is_empty() { "the command line" } else { "--allow" }.to_owned(),
        initiators: if names.is_empty() { Initiators::Any } else { Initiators::Named(names) },
        networks: Vec::new(),
        chap: chap(arguments)?,
        units: Arc::default(),
        redirection: None,
    })
}

fn chap(arguments: &Arguments) -> Result<Option<Chap>, Failure> {
    let account = |user: &Option<String>, source: secrets::Source<'_>| {
        user.as_deref().map(|user| source.account(user)).transpose()
    };
    let inward = secrets::Source {
        option: "chap",
        file: arguments.chap_secret_file.as_deref(),
        variable: "LUNETTE_CHAP_SECRET",
    };
    let outward = secrets::Source {
        option: "chap-mutual",
        file: arguments.chap_mutual_secret_file.as_deref(),
        variable: "LUNETTE_CHAP_MUTUAL_SECRET",
    };
    let Some(user) = account(&arguments.chap, inward)? else { return Ok(None) };
    let own = account(&arguments.chap_mutual, outward)?;
    if own.as_ref().is_some_and(|own| own.secret == user.secret) {
        let line = "--chap-mutual: the two secrets are equal; whoever knows one could play the other side, use two";
        return Err(Failure::input(line));
    }
    Ok(Some(Chap { accounts: vec![user], own }))
}

/// Opens the file of access states; the groups begin as it says.
fn access_states(path: &Path, groups: &mut [GroupSettings]) -> Result<AccessStates, Failure> {
    let numbers = groups.iter().map(|group| group.number).collect();
    let (file, states) = AccessStates::open(path.to_owned(), numbers)?;
    for (number, state) in states {
        groups.iter_mut().filter(|group| group.number == number).for_each(|group| group.state = state);
    }
    Ok(file)
}

fn bind(listens: &[Listen<'_>]) -> Result<Vec<(TcpListener, Portal)>, Failure> {
    let mut listeners = Vec::new();
    for Listen { address, group, text } in listens {
        // [::] takes IPv4 too, unless somebody else is to.
        let shared = listens.iter().any(|other| other.address.is_ipv4() && other.address.port() == address.port());
        let listener = listen(*address, shared).map_err(|error| {
            let remedy = match error.kind() {
                std::io::ErrorKind::AddrInUse => "another process has the port; stop it, or choose another port",
                std::io::ErrorKind::AddrNotAvailable => "this machine has no such address; see: ip address",
                std::io::ErrorKind::PermissionDenied => "choose a port above 1023",
                _ => "choose another address or port",
            };
            Failure::input(format!("--listen {text}: {error}; {remedy}"))
        })?;
        let address = listener.local_addr().map_err(Failure::runtime)?;
        listeners.push((listener, Portal { address, group: *group, advertise: None }));
    }
    Ok(listeners)
}

fn listen(address: SocketAddr, shared: bool) -> std::io::Result<TcpListener> {
    let socket = socket2::Socket::new(socket2::Domain::for_address(address), socket2::Type::STREAM, None)?;
    // A restart need not wait for connections of the last process.
    socket.set_reuse_address(true)?;
    if address.is_ipv6() && shared {
        socket.set_only_v6(true)?;
    }
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

fn warn_of_strangers(rule: &Rule, portals: &[Portal]) {
    if rule.chap.is_some() || rule.initiators != Initiators::Any {
        return;
    }
    for address in portals.iter().map(|portal| portal.address).filter(|address| !address.ip().is_loopback()) {
        tracing::warn!("whoever reaches {address} can read and write these disks; ask for a login with --chap USER");
    }
}

/// Where reservations are kept. A place that was named must work; without one, a disk that forgets its
/// reservations at the end is better than none, and says so.
fn state(arguments: &Arguments) -> Result<Option<Arc<dyn StateStore>>, Failure> {
    let open = |directory: &PathBuf| StateFiles::open(directory).map(|files| Arc::new(files) as Arc<dyn StateStore>);
    if let Some(directory) = &arguments.state_dir {
        return open(directory).map(Some).map_err(|error| Failure::input(format!("--state-dir: {error}")));
    }
    let home = || std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".local/state"));
    let directory = match rustix::process::geteuid().is_root() {
        true => Some(PathBuf::from("/var/lib")),
        false => std::env::var_os("XDG_STATE_HOME").map(PathBuf::from).or_else(home),
    };
    let opened = directory.map(|directory| open(&directory.join("lunette")));
    match opened {
        Some(Ok(state)) => Ok(Some(state)),
        Some(Err(error)) => {
            tracing::warn!("reservations end with this process: {error}; name another place with --state-dir DIR");
            Ok(None)
        }
        None => {
            tracing::warn!("reservations end with this process: there is no home directory; use --state-dir DIR");
            Ok(None)
        }
    }
}

/// What tells the daemon to stop.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
}

impl Signals {
    fn new() -> Result<Signals, Failure> {
        let one = |kind| signal(kind).map_err(|error| Failure::runtime(format!("no signals: {error}")));
        Ok(Signals {
            terminate: one(SignalKind::terminate())?,
            interrupt: one(SignalKind::interrupt())?,
            hang_up: one(SignalKind::hangup())?,
        })
    }

    /// The signal that asks to look at the stores at once.
    fn look(&self) -> Result<Signal, Failure> {
        signal(SignalKind::user_defined1()).map_err(|error| Failure::runtime(format!("no signals: {error}")))
    }

    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
            _ = self.hang_up.recv() => "SIGHUP",
        }
    }
}
