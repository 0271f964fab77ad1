//! The side of the process that serves: it hands everything over to whoever takes its place, and goes on as if
//! nothing had been where that does not come about.
//!
//! Who has the sessions is decided in one place: the [`Decision`] that goes over with them. The other process takes it
//! when it hears `Commit` or sees this one dead, and says so before it touches any session; this one takes it before it
//! lets them go on. So neither a process that stands still nor one that is late can serve what the other serves. If the
//! other dies between its decision and its word, it has touched none, and they go on here after all.

use super::wire::{Decision, Kind, Message, Wire};
use super::{PATIENCE, goes_over, is_dead, owner_or_root};
use crate::serve::administrator::{Administrator, Served, Still};
use block::{Estate, Memory};
use lun::LogicalUnit;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::process::{PidfdFlags, Resource, getrlimit, pidfd_open};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use target::handover::message::{Ask, MemoryPiece, Offer, Started, VERSION};
use target::{Frozen, StateFiles};
use tokio::sync::oneshot;

/// Rounds in which a disk in memory is copied while it is in use, and how few pieces are left for the time in which
/// it is not.
const ROUNDS: usize = 10;
const FEW: usize = 512;
/// Bytes of memory in one message.
const MEMORY_BYTES: usize = 1 << 20;
/// How long the other may take for each answer while all rests: initiators do not wait much longer for a ping.
const PAUSE: Duration = Duration::from_secs(3);

/// Everything that is handed over.
pub struct Giver {
    /// What is served.
    pub administrator: Administrator,
    /// Listeners that are no portals, by the addresses that were asked for.
    pub others: Vec<(SocketAddr, TcpListener)>,
    /// The locks of kept state.
    pub state: Option<Arc<StateFiles>>,
    /// The administration's socket.
    pub control: Option<UnixListener>,
    /// Whether that was made by this process or the one before it, and not by the service manager.
    pub control_is_own: bool,
    /// The runtime of the door.
    pub runtime: tokio::runtime::Handle,
    /// This process is about to end.
    pub stopping: Arc<AtomicBool>,
}

/// The other process serves: its number.
pub struct Gone(pub u32);

impl Giver {
    /// Waits for those who connect to this socket, on a thread of its own, until one has taken everything.
    pub fn start(self, listener: UnixListener) -> std::io::Result<oneshot::Receiver<Gone>> {
        let (gone, is_gone) = oneshot::channel();
        std::thread::Builder::new().name("upgrade".to_owned()).spawn(move || {
            loop {
                match listener.accept() {
                    Ok((stream, _)) => {
                        if let Some(process) = self.answer(stream, &listener) {
                            let _ = gone.send(Gone(process));
                            return;
                        }
                    }
                    Err(_) => std::thread::sleep(Duration::from_millis(100)),
                }
            }
        })?;
        Ok(is_gone)
    }

    /// One who has connected. Something, where he serves now.
    fn answer(&self, stream: UnixStream, listener: &UnixListener) -> Option<u32> {
        let peer = rustix::net::sockopt::socket_peercred(&stream).ok()?;
        if !owner_or_root(peer.uid) {
            tracing::warn!(uid = peer.uid.as_raw(), "an upgrade is for the daemon's owner and root; refused");
            return None;
        }
        let wire = Wire::new(stream, PATIENCE).ok()?;
        let ask: Ask = wire.receive().ok()?.expect(Kind::Ask).ok()?;
        if !ask.takes_over {
            let _ = wire.send(Kind::Started, &started(), &[]);
            return None;
        }
        let process = peer.pid.as_raw_nonzero().get().unsigned_abs();
        tracing::info!(process, version = %ask.program, "an upgrade begins");
        match self.hand_over(&wire, &ask, peer.pid, listener) {
            Ok(()) => Some(process),
            Err(why) => {
                tracing::warn!("no upgrade: {why}; this process goes on");
                let _ = wire.send_bytes(Kind::Refused, why.as_bytes(), &[]);
                None
            }
        }
    }

    fn hand_over(&self, wire: &Wire, ask: &Ask, pid: rustix::process::Pid, own: &UnixListener) -> Result<(), String> {
        if !(ask.oldest..=ask.version).contains(&VERSION) {
            let (oldest, newest) = (ask.oldest, ask.version);
            return Err(format!("it reads the formats {oldest} to {newest}, and this process writes {VERSION}"));
        }
        let other = pidfd_open(pid, PidfdFlags::empty()).map_err(|error| format!("it has gone: {error}"))?;
        let still = self.runtime.block_on(self.administrator.still())?;
        let estates = estates(&still.served)?;
        memory_suffices(&estates)?;
        let memories: Vec<Copied> = estates
            .iter()
            .filter_map(|(unit, estate)| Some(Copied { unit: unit.identity().uuid, memory: estate.memory.clone()? }))
            .collect();
        self.offer(wire, own, &still, &estates, &memories)?;
        // It opens what it can.
        heard(wire)?.expect::<String>(Kind::Ready)?;
        copy_while_in_use(wire, &memories)?;
        let begun = Instant::now();
        let frozen = self.runtime.block_on(self.administrator.door().freeze(ask.within))?;
        wire.wait_at_most(PAUSE).map_err(|error| error.to_string())?;
        same_still(&still.served, &estates)?;
        for copied in &memories {
            copied.send(wire, &copied.memory.changed())?;
        }
        let sessions = self.commit(wire, &frozen, &other, begun)?;
        frozen.leave();
        // Nobody changes anything here any more.
        std::mem::forget(still);
        let milliseconds = begun.elapsed().as_millis();
        tracing::info!(sessions, milliseconds, "handed over: another process serves them now");
        Ok(())
    }

    fn offer(
        &self,
        wire: &Wire,
        own: &UnixListener,
        still: &Still<'_>,
        estates: &[(Arc<LogicalUnit>, Estate)],
        memories: &[Copied],
    ) -> Result<(), String> {
        let said = |error: std::io::Error| error.to_string();
        let locks = self.state.as_ref().map_or(Ok(Vec::new()), |state| state.held()).map_err(said)?;
        let of = |(unit, estate): &(Arc<LogicalUnit>, Estate)| {
            let uuid = unit.identity().uuid;
            estate.files.iter().map(|file| (uuid, Arc::clone(file))).collect::<Vec<_>>()
        };
        let files: Vec<_> = estates.iter().flat_map(of).collect();
        let (stdout, stderr) = (std::io::stdout(), std::io::stderr());
        let mut descriptors: Vec<BorrowedFd<'_>> = vec![stdout.as_fd(), stderr.as_fd(), own.as_fd()];
        descriptors.extend(self.control.as_ref().map(AsFd::as_fd));
        let listeners = || still.listeners.iter().chain(&self.others);
        descriptors.extend(listeners().map(|(_, listener)| listener.as_fd()));
        descriptors.extend(files.iter().map(|(_, file)| file.as_fd()));
        descriptors.extend(locks.iter().map(AsFd::as_fd));
        let count = |length: usize| u32::try_from(length).unwrap_or(u32::MAX);
        let offer = Offer {
            program: env!("CARGO_PKG_VERSION").to_owned(),
            process: std::process::id(),
            control: self.control.is_some(),
            control_is_own: self.control_is_own,
            open_files: getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX),
            listeners: listeners().map(|(asked, _)| *asked).collect(),
            stores: files.iter().map(|(unit, _)| *unit).collect(),
            locks: count(locks.len()),
            memories: memories.iter().map(|copied| copied.unit).collect(),
            document: Some(still.served.document.text().to_owned()),
        };
        wire.send(Kind::Offer, &offer, &descriptors).map_err(said)
    }

    /// Everything rests. How many sessions went over.
    fn commit(&self, wire: &Wire, frozen: &Frozen, other: &OwnedFd, begun: Instant) -> Result<usize, String> {
        let said = |error: std::io::Error| format!("the other process has gone: {error}");
        let (rest, sockets) = self.runtime.block_on(frozen.write_down())?;
        let sessions = rest.sessions.len();
        let decision = Decision::new().map_err(|error| error.to_string())?;
        let mut descriptors: Vec<_> = sockets.iter().map(AsFd::as_fd).collect();
        descriptors.push(decision.as_fd());
        let agree = || {
            wire.send(Kind::State, &rest, &descriptors).map_err(said)?;
            heard(wire)?.expect::<String>(Kind::Prepared)?;
            if self.stopping.load(Ordering::SeqCst) {
                return Err("this process is about to end".to_owned());
            }
            wire.send(Kind::Commit, &begun.elapsed(), &[]).map_err(said)?;
            heard(wire)?.expect::<String>(Kind::Serving)
        };
        let Err(why) = agree() else { return Ok(sessions) };
        // It has not said so; perhaps it has them none the less.
        while !decision.is_ours() {
            let dead = is_dead(other, Duration::from_millis(100));
            match wire.receive() {
                Ok(Message { kind: Kind::Serving, .. }) => return Ok(sessions),
                _ if dead => return Err("the other process died before it served".to_owned()),
                _ => {}
            }
        }
        Err(why)
    }
}

/// What goes over with each unit's store.
fn estates(served: &Served) -> Result<Vec<(Arc<LogicalUnit>, Estate)>, String> {
    let mut estates = Vec::new();
    for unit in served.units().map(|unit| &unit.unit) {
        let description = unit.backend().description();
        let place = format!("{}:{}", description.kind, description.address);
        let estate = unit.backend().hand_over().map_err(|why| format!("{place}: {why}"))?;
        estates.push((Arc::clone(unit), estate));
    }
    Ok(estates)
}

/// What the stores hand over is what it was when the other process opened it: no flush has failed since, no key was
/// erased, no medium exchanged.
fn same_still(served: &Served, first: &[(Arc<LogicalUnit>, Estate)]) -> Result<(), String> {
    let now = estates(served)?;
    let names = |estate: &Estate| -> std::io::Result<Vec<(u64, u64)>> {
        estate.files.iter().map(|file| file.metadata().map(|own| (own.dev(), own.ino()))).collect()
    };
    let same = |one: &Estate, other: &Estate| -> std::io::Result<bool> {
        Ok(names(one)? == names(other)? && one.mark == other.mark && one.memory.is_some() == other.memory.is_some())
    };
    for ((unit, before), (_, after)) in first.iter().zip(&now) {
        if !same(before, after).map_err(|error| error.to_string())? {
            let description = unit.backend().description();
            return Err(format!("{}:{}: its file has just become another", description.kind, description.address));
        }
    }
    match first.len() == now.len() {
        true => Ok(()),
        false => Err("a disk has just come or gone".to_owned()),
    }
}

/// Whether disks in memory may be there twice for a moment.
fn memory_suffices(estates: &[(Arc<LogicalUnit>, Estate)]) -> Result<(), String> {
    let in_memory = estates.iter().filter(|(_, estate)| estate.memory.is_some());
    let needed: u64 = in_memory.map(|(unit, _)| unit.backend().space().map_or(0, |space| space.used)).sum();
    match available_memory() {
        Some(available) if needed > available / 10 * 9 => Err(format!(
            "disks in memory hold {needed} bytes, of which there are two for a moment, and {available} are available"
        )),
        _ => Ok(()),
    }
}

fn heard(wire: &Wire) -> Result<Message, String> {
    wire.receive().map_err(|error| match error.kind() {
        std::io::ErrorKind::UnexpectedEof => "the new process has ended".to_owned(),
        std::io::ErrorKind::WouldBlock => "the new process does not answer in time".to_owned(),
        _ => error.to_string(),
    })
}

/// A unit whose content is in memory alone. Nothing is noted any more when this is dropped.
struct Copied {
    unit: [u8; 16],
    memory: Arc<dyn Memory>,
}

impl Copied {
    fn send(&self, wire: &Wire, numbers: &[u64]) -> Result<(), String> {
        let mut pieces = Vec::new();
        let mut bytes = 0;
        for number in numbers {
            let mut content = Vec::new();
            let content = self.memory.piece(*number, &mut content).map(|parts| (parts, content));
            bytes += content.as_ref().map_or(0, |(_, content)| content.len());
            pieces.push(MemoryPiece { unit: self.unit, number: *number, content });
            if bytes >= MEMORY_BYTES {
                wire.send(Kind::Memory, &std::mem::take(&mut pieces), &[]).map_err(|error| error.to_string())?;
                bytes = 0;
            }
        }
        match pieces.is_empty() {
            true => Ok(()),
            false => wire.send(Kind::Memory, &pieces, &[]).map_err(|error| error.to_string()),
        }
    }
}

impl Drop for Copied {
    fn drop(&mut self) {
        self.memory.end();
    }
}

/// Copies the disks in memory until little of them has changed since.
fn copy_while_in_use(wire: &Wire, memories: &[Copied]) -> Result<(), String> {
    for copied in memories {
        let all = copied.memory.begin();
        copied.send(wire, &all)?;
    }
    for _ in 0..ROUNDS {
        let mut most = 0;
        for copied in memories {
            let changed = copied.memory.changed();
            most = most.max(changed.len());
            copied.send(wire, &changed)?;
        }
        if most < FEW {
            break;
        }
    }
    Ok(())
}

/// Bytes of memory that the system could give.
fn available_memory() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    line.split_whitespace().next()?.parse::<u64>().ok()?.checked_mul(1024)
}

/// How this process was started.
fn started() -> Started {
    Started {
        program: env!("CARGO_PKG_VERSION").to_owned(),
        process: std::process::id(),
        directory: std::env::current_dir().unwrap_or_default().display().to_string(),
        arguments: std::env::args().skip(1).collect(),
        environment: std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .filter(|(name, _)| goes_over(name))
            .collect(),
    }
}
