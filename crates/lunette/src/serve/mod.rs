//! `lunette serve`: stores in, a target on the network out.

mod access_states;
mod activation;
pub mod administrator;
mod arguments;
mod banner;
mod flush;
pub mod isns;
mod refresh;
pub mod service;
mod sockets;
mod targets;
mod units;
mod watch;

pub use arguments::Arguments;

use crate::configuration::{self, Configuration, Listen, RulePlan};
use crate::control::remote::Remote;
use crate::control::{self, Control};
use crate::failure::Failure;
use crate::logging;
use crate::metrics;
use crate::sandbox::{self, Needs};
use crate::upgrade;
use crate::upgrade::giver::{Giver, Gone};
use crate::upgrade::taker::Inheritance;
use access_states::AccessStates;
use activation::Handed;
use administrator::{Administrator, Listening, Machine, Served, ServedTarget};
use banner::Banner;
use io::engine::Engines;
use lun::{LogicalUnit, StateStore};
use sockets::Sockets;
use std::io::Write;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use target::{Door, Initiators, Notified, Portal, StateFiles, WorkerHandle};
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Connections that the kernel holds for us.
const BACKLOG: i32 = 1024;

/// Serves until it is told to stop.
pub fn run(arguments: &Arguments) -> Result<(), Failure> {
    let mut handed = Handed::take()?;
    let mut inheritance = match &arguments.take_over {
        Some(path) => Some(Inheritance::ask(path, arguments.take_over_within, arguments.take_over_anew)?),
        None => None,
    };
    let inherited = inheritance.as_ref().and_then(|inheritance| inheritance.document.as_deref());
    let (document, configuration, warnings) = match inherited.filter(|_| !arguments.take_over_anew) {
        Some(text) => configuration::from_text(arguments, text)?,
        None => configuration::from_arguments(arguments)?,
    };
    logging::start(configuration.log_format, configuration.log_level);
    metrics::starts();
    warnings.iter().for_each(|warning| tracing::warn!("{warning}"));
    // The portals before the stores: where a port is in use, no file has been made.
    let states = match &configuration.access_states {
        Some(path) => {
            let numbers = configuration.groups.iter().map(|group| group.number).collect();
            Some(AccessStates::open(path.to_owned(), numbers)?)
        }
        None => None,
    };
    let mut sockets = Sockets::new(inheritance.as_mut());
    let listeners = bind(&configuration, &mut handed, &mut sockets)?;
    let metrics =
        configuration.metrics.map(|asked| metrics::Server::open(asked, sockets.inherited(asked))).transpose()?;
    let portals: Vec<Portal> = listeners.iter().map(|(_, portal)| portal.clone()).collect();
    warn_of_strangers(&configuration, &portals);
    let mut needs = needs(&configuration);
    sandbox::prepare(&configuration.sandbox, &needs.directories)?;
    let (control, state_dir) = (configuration.control.as_deref(), configuration.state_dir.as_deref());
    let place = control::path(control, state_dir);
    // What is the other process's is not ours before its sessions are: who has it takes it away at his end.
    let (control, upgrades) = match &mut inheritance {
        Some(inheritance) => (None, Some(inheritance.upgrades()?)),
        None => {
            let control = Control::open(control, state_dir, handed.control.take())?;
            let upgrades = control.as_ref().and_then(Control::upgrades);
            (control, upgrades)
        }
    };
    let place = control.as_ref().map(|control| control.path().to_owned()).or(place);
    let remote = configuration.administration.as_ref();
    let remote = remote.map(|wanted| Remote::open(wanted, sockets.inherited(wanted.listen))).transpose()?;
    if let Some(remote) = &remote {
        tracing::info!(address = %remote.address().map_err(Failure::runtime)?, "administered over TLS with a token");
    }
    let others = [
        configuration.metrics.zip(metrics.as_ref().and_then(metrics::Server::socket)),
        configuration.administration.as_ref().map(|wanted| wanted.listen).zip(remote.as_ref().and_then(Remote::socket)),
    ];
    // From here on other threads are started, and each is in it.
    needs.sockets.extend(place.iter().map(|place| upgrade::socket(place)).chain(place.clone()));
    sandbox::enter(&configuration.sandbox, &needs)?;
    let notified = configuration.isns.as_ref().map_or(Ok(Vec::new()), |isns| isns.bind(&portals))?;
    let locks = inheritance.as_mut().map_or(Vec::new(), |inheritance| std::mem::take(&mut inheritance.locks));
    let files = state(configuration.state_dir.as_ref(), locks)?;
    let state = files.clone().map(|files| files as Arc<dyn StateStore>);
    let units = units::open(&configuration.targets, state.as_ref())?;
    // The groups begin as the file of their states says: nothing has changed yet.
    let mut begun = configuration.clone();
    let states = states.map(|(file, states)| {
        for group in &mut begun.groups {
            let said = states.iter().find(|(number, _)| *number == group.number);
            group.state = said.map_or(group.state, |(_, state)| *state);
        }
        file
    });
    let plans = configuration.targets.iter().zip(units);
    let targets: Vec<ServedTarget> = plans
        .map(|(plan, units)| ServedTarget {
            name: plan.name.as_str().to_owned(),
            groups: targets::groups(plan, &begun, None),
            units,
        })
        .collect();
    let bound = portals.iter().take(configuration.listens.len()).map(|portal| portal.address).collect();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::runtime(format!("no runtime: {error}")))?;
    let served = Served { document, configuration: Arc::new(configuration), bound, targets };
    let overrides = configuration::Overrides::of(arguments);
    let others = others.into_iter().flatten().collect();
    let succession = Succession { inheritance, files, upgrades, others };
    let watch = arguments.watch;
    let parts = Parts { listeners, metrics, notified, control, remote, states, state, overrides, watch, succession };
    let outcome = runtime.block_on(serve(served, parts));
    if let Ok(None) = outcome {
        // Nothing is closed, flushed or told: all of it is the other process's.
        std::process::exit(0);
    }
    // A look at a store that hangs must not keep the process.
    runtime.shutdown_background();
    flush::all(&outcome?.unwrap_or_default())
}

/// What of the machine a daemon in its sandbox still needs.
fn needs(configuration: &Configuration) -> Needs {
    let mut needs = Needs { configuration: configuration.file.clone(), ..Needs::default() };
    let state = configuration.state_dir.clone().or_else(own_state_directory);
    needs.directories.extend(state.map(|directory| ("state-dir", directory)));
    needs.named.extend(configuration.access_states.clone());
    for disk in configuration.targets.iter().flat_map(|target| &target.disks) {
        if let Ok(address) = stores::Address::parse(&disk.address) {
            needs.named.extend(address.option("key").map(PathBuf::from));
            needs.named.push(address.place.into());
        }
    }
    needs
}

/// What is open before anything is served.
struct Parts {
    listeners: Vec<(TcpListener, Portal)>,
    metrics: Option<metrics::Server>,
    notified: Vec<Notified>,
    control: Option<Control>,
    remote: Option<Remote>,
    states: Option<AccessStates>,
    state: Option<Arc<dyn StateStore>>,
    overrides: configuration::Overrides,
    watch: bool,
    succession: Succession,
}

/// What comes from the process before this one, and what goes to the next.
struct Succession {
    inheritance: Option<Inheritance>,
    files: Option<Arc<StateFiles>>,
    upgrades: Option<UnixListener>,
    /// Listeners that are no portals, by the addresses that were asked for.
    others: Vec<(SocketAddr, TcpListener)>,
}

/// Serves to the end. Returns what is to be flushed; nothing where another process goes on with it.
async fn serve(served: Served, parts: Parts) -> Result<Option<Vec<Arc<LogicalUnit>>>, Failure> {
    let configuration = Arc::clone(&served.configuration);
    let Parts { listeners, metrics, notified, mut control, remote, states, state, overrides, watch, succession } =
        parts;
    let Succession { inheritance, files, upgrades, others } = succession;
    let takes_over = inheritance.is_some();
    let limits = Arc::new(configuration.limits.clone());
    limits.slow.set(configuration.slow);
    let grace = limits.grace;
    let mut signals = Signals::new()?;
    let engines = Engines::new(configuration.io_engine);
    let processors = || std::thread::available_parallelism().map_or(1, |count| count.get().min(8));
    let count = configuration.threads.map_or_else(processors, usize::from);
    let workers = (0..count)
        .map(|number| WorkerHandle::start(number, count, engines.clone(), Arc::clone(&limits)))
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| Failure::runtime(format!("no worker: {error}")))?;
    for (plan, target) in configuration.targets.iter().zip(&served.targets) {
        for (disk, unit) in plan.disks.iter().zip(&target.units) {
            units::settle(unit, disk, takes_over)
                .await
                .map_err(|why| Failure::input(format!("{}: {why}", unit.place)))?;
        }
    }
    let portals: Vec<Portal> = listeners.iter().map(|(_, portal)| portal.clone()).collect();
    targets::tell_groups(&served.targets);
    let targets = targets::all(&configuration, &served.targets, &portals);
    let units: Vec<_> = served.targets.iter().map(|target| &target.units[..]).collect();
    let ready = Banner::new(targets.all(), &units, &portals).text(configuration.log_format);
    let door = Door::new(targets, Arc::clone(&limits), workers.clone());
    let runtime = tokio::runtime::Handle::current();
    let (apply, look) = (signals.apply()?, signals.look()?);
    // Nobody is accepted before this task waits for something.
    let mut listening = listeners
        .into_iter()
        .map(|(listener, portal)| Listening::start(&door, &runtime, listener, portal))
        .collect::<Result<Vec<_>, _>>()
        .map_err(Failure::runtime)?;
    // With the sessions of another process behind us, what does not come about is missed and nothing more.
    let missed = |what: &str, error: String| match takes_over {
        true => {
            tracing::error!("{what}: {error}; sessions go on without it");
            Ok(())
        }
        false => Err(Failure::runtime(format!("{what}: {error}"))),
    };
    if let Some(mut inheritance) = inheritance {
        let own = inheritance.control_is_own;
        let administration = inheritance.control.take();
        let units: Vec<_> = served.units().map(|unit| Arc::clone(&unit.unit)).collect();
        // Until here nothing of what is served was touched.
        inheritance.take_over(&door, &units)?;
        let (named, state_dir) = (configuration.control.as_deref(), configuration.state_dir.as_deref());
        control = administration.and_then(|listener| Control::inherit(named, state_dir, listener, own));
    }
    let mut isns = None;
    if let Some(wanted) = &configuration.isns {
        match targets::start_isns(wanted, &door.targets(), notified, &limits) {
            Ok(started) => isns = Some(started),
            Err(error) => missed("iSNS", error.to_string())?,
        }
    }
    // Those of the service manager beyond the configured ones stay as long as we do.
    let handed = listening.split_off(configuration.listens.len().min(listening.len()));
    let machine = Machine { runtime, listening, handed, isns, state, limits, overrides };
    let administrator = Administrator::new(Arc::clone(&door), served, machine);
    if let Some(metrics) = metrics {
        let address = metrics.address().map(tracing::field::display);
        tracing::info!(address, "metrics for Prometheus: /metrics");
        let served = metrics.serve(Arc::clone(&door));
        served.or_else(|error| missed("no metrics", error.to_string()))?;
    }
    let mut asked = None;
    if let Some(control) = &control {
        let served = control.serve(administrator.clone());
        match served {
            Ok(served) => asked = Some((control.path().to_owned(), served)),
            Err(error) => missed("no administration", error.to_string())?,
        }
    }
    if let Some(remote) = remote {
        let served = crate::control::serve_remote(remote, administrator.clone());
        served.or_else(|error| missed("no administration", error.to_string()))?;
    }
    let stopping = Arc::new(AtomicBool::new(false));
    let giver = Giver {
        administrator: administrator.clone(),
        others,
        state: files,
        control: control.as_ref().and_then(Control::listener),
        control_is_own: control.as_ref().is_some_and(Control::is_own),
        runtime: tokio::runtime::Handle::current(),
        stopping: Arc::clone(&stopping),
    };
    let mut handed_over = match upgrades.map(|upgrades| giver.start(upgrades)).transpose() {
        Ok(handed_over) => handed_over,
        Err(error) => missed("no upgrades", error.to_string()).map(|()| None)?,
    };
    let counted = administrator.clone();
    let counts = move || {
        let served = counted.served();
        (served.targets.len(), served.units().count())
    };
    let (targets, disks) = counts();
    let telling = tokio::spawn(service::watch(Arc::clone(&door), asked, counts));
    let applying = tokio::spawn(watch::apply_when_asked(administrator.clone(), apply, watch));
    let refreshing = tokio::spawn(refresh::now_and_then(administrator.clone(), look));
    let watching = states.map(|states| tokio::spawn(access_states::watch(states, administrator.clone())));
    if !takes_over {
        // Whoever reads this may have gone; that is no reason to stop serving.
        let _ = std::io::stdout().write_all(ready.as_bytes()).and_then(|()| std::io::stdout().flush());
    }
    service::ready(&service::line(targets, disks, 0));
    let died = tokio::select! {
        process = gone(&mut handed_over) => return Ok(succeeded(process, control)),
        signal = signals.next() => {
            tracing::info!(signal, sessions = door.sessions(), "stopping: what is in flight is finished and flushed");
            false
        }
        () = any_ended(&workers) => {
            tracing::error!(event = "worker-died", "a worker has died, which is a defect; the others are stopped and all is flushed");
            true
        }
    };
    stopping.store(true, Ordering::SeqCst);
    service::stopping(grace);
    telling.abort();
    applying.abort();
    refreshing.abort();
    watching.inspect(tokio::task::JoinHandle::abort);
    let ended = async {
        // A change that is under way is waited for, unless a store keeps it.
        let left = tokio::time::timeout(grace, administrator.stop_listening()).await.unwrap_or_else(|_| {
            tracing::warn!("a change of the configuration has not ended, and is not waited for");
            door.set_open(false);
            service::stopping(grace);
            None
        });
        // Who asks the server finds us no more from now on.
        let leaving = left.map(|isns| tokio::spawn(isns.stop()));
        stop(&workers, grace).await;
        if let Some(leaving) = leaving {
            let _ = leaving.await;
        }
    };
    tokio::select! {
        // An upgrade that is under way has come to nothing by that flag, or the other process has the sessions already.
        process = gone(&mut handed_over) => Ok(succeeded(process, control)),
        () = ended => match died {
            false => Ok(Some(administrator.served().units().map(|unit| Arc::clone(&unit.unit)).collect())),
            true => Err(Failure::runtime("a worker died; please report what stands above")),
        },
        signal = signals.next() => Err(Failure::runtime(format!("{signal} again: stopped at once"))),
    }
}

/// Another process serves: nothing is flushed here.
fn succeeded(process: u32, control: Option<Control>) -> Option<Vec<Arc<LogicalUnit>>> {
    service::succeeded_by(process);
    tracing::info!(process, "this process ends");
    control.into_iter().for_each(Control::leave);
    None
}

/// Comes back when another process serves, with its number.
async fn gone(handed_over: &mut Option<tokio::sync::oneshot::Receiver<Gone>>) -> u32 {
    let process = match handed_over {
        Some(process) => process.await.ok(),
        None => None,
    };
    match process {
        Some(Gone(process)) => process,
        None => {
            *handed_over = None;
            std::future::pending().await
        }
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

fn bind(
    configuration: &Configuration,
    handed: &mut Handed,
    sockets: &mut Sockets,
) -> Result<Vec<(TcpListener, Portal)>, Failure> {
    let listens = &configuration.listens;
    let mut listeners = Vec::new();
    for wanted in listens {
        let own = sockets.inherited(wanted.address).or_else(|| handed.portal(wanted.address));
        listeners.push(bind_one(wanted, listens, own)?);
    }
    for (listener, group) in handed.rest() {
        let address = listener.local_addr().map_err(Failure::runtime)?;
        if !configuration.groups.iter().any(|known| known.number == group) {
            return Err(Failure::input(format!(
                "the service manager has handed over {address} for portal group {group}, which the configuration does \
                 not have; add a portal of that group, or another FileDescriptorName="
            )));
        }
        listeners.push((listener, Portal { address, group, advertise: None }));
    }
    Ok(listeners)
}

/// Binds one portal beside all others, unless it was handed over.
fn bind_one(
    wanted: &Listen,
    listens: &[Listen],
    handed: Option<TcpListener>,
) -> Result<(TcpListener, Portal), Failure> {
    let Listen { address, group, advertise, said } = wanted;
    // [::] takes IPv4 too, unless somebody else is to.
    let shared = listens.iter().any(|other| other.address.is_ipv4() && other.address.port() == address.port());
    let listener = handed.map_or_else(|| listen(*address, shared), Ok).map_err(|error| {
        let remedy = match error.kind() {
            std::io::ErrorKind::AddrInUse => "another process has the port; stop it, or choose another port",
            std::io::ErrorKind::AddrNotAvailable => "this machine has no such address; see: ip address",
            std::io::ErrorKind::PermissionDenied => "choose a port above 1023",
            _ => "choose another address or port",
        };
        Failure::input(format!("{said}: {error}; {remedy}"))
    })?;
    let address = listener.local_addr().map_err(Failure::runtime)?;
    Ok((listener, Portal { address, group: *group, advertise: advertise.clone() }))
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

fn warn_of_strangers(configuration: &Configuration, portals: &[Portal]) {
    let mut reachable = portals.iter().filter(|portal| !portal.address.ip().is_loopback());
    for target in &configuration.targets {
        let open = |plan: &&RulePlan| {
            let rule = &plan.rule;
            rule.chap.is_none() && rule.initiators == Initiators::Any && rule.networks.is_empty()
        };
        let Some(open) = target.rules.iter().find(open) else { continue };
        let Some(portal) = reachable.find(|portal| target.groups.contains(&portal.group)) else { continue };
        tracing::warn!(
            "whoever reaches {} can use the disks of {}, by {}; ask for a login with CHAP",
            portal.address,
            target.name,
            open.rule.label
        );
    }
}

/// Where reservations are kept. A place that was named must work; without one, a disk that forgets its
/// reservations at the end is better than none, and says so.
fn state(directory: Option<&PathBuf>, locks: Vec<std::fs::File>) -> Result<Option<Arc<StateFiles>>, Failure> {
    let open = |directory: &PathBuf| StateFiles::inherit(directory, locks).map(Arc::new);
    if let Some(directory) = directory {
        return open(directory).map(Some).map_err(|error| Failure::input(format!("--state-dir: {error}")));
    }
    match own_state_directory().as_ref().map(open) {
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

/// Where reservations are kept where nothing is said: by whom the daemon was started as.
fn own_state_directory() -> Option<PathBuf> {
    static DIRECTORY: OnceLock<Option<PathBuf>> = OnceLock::new();
    let find = || {
        let home = || std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".local/state"));
        // Of a service with StateDirectory=.
        if let Some(directory) = std::env::var_os("STATE_DIRECTORY").filter(|directory| !directory.is_empty()) {
            return Some(PathBuf::from(directory));
        }
        let directory = match sandbox::is_root() {
            true => Some(PathBuf::from("/var/lib")),
            false => std::env::var_os("XDG_STATE_HOME").map(PathBuf::from).or_else(home),
        };
        Some(directory?.join("lunette"))
    };
    DIRECTORY.get_or_init(find).clone()
}

/// What tells the daemon to stop.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> Result<Signals, Failure> {
        let one = |kind| signal(kind).map_err(|error| Failure::runtime(format!("no signals: {error}")));
        Ok(Signals { terminate: one(SignalKind::terminate())?, interrupt: one(SignalKind::interrupt())? })
    }

    /// The signal that asks to look at the stores at once.
    fn look(&self) -> Result<Signal, Failure> {
        signal(SignalKind::user_defined1()).map_err(|error| Failure::runtime(format!("no signals: {error}")))
    }

    /// The signal that asks to apply the file.
    fn apply(&self) -> Result<Signal, Failure> {
        signal(SignalKind::hangup()).map_err(|error| Failure::runtime(format!("no signals: {error}")))
    }

    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}
