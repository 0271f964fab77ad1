//! The side of the process that is to serve: it opens what can be opened, takes the rest from the one that serves, and
//! goes on with it.

use super::wire::{Decision, Kind, Wire};
use super::{PATIENCE, is_dead};
use crate::failure::Failure;
use block::Memory;
use lun::LogicalUnit;
use rustix::fd::{AsFd, OwnedFd};
use rustix::process::{Pid, PidfdFlags, Resource, Rlimit, getrlimit, pidfd_open, setrlimit};
use std::collections::HashMap;
use std::fs::File;
use std::io::Write;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use target::handover::message::{Ask, MemoryPiece, Offer, VERSION};
use target::handover::{DoorAtRest, Piece};
use target::{Door, Prepared};

/// How long the old process may take to be seen dead, where it has hung up.
const DYING: Duration = Duration::from_secs(2);

/// What a process has from the one before it.
pub struct Inheritance {
    wire: Wire,
    old: OwnedFd,
    version: String,
    outputs: [OwnedFd; 2],
    upgrades: UnixListener,
    /// The administration's socket.
    pub control: Option<UnixListener>,
    /// Whether that goes with the process, and is not the service manager's.
    pub control_is_own: bool,
    /// The listeners, by the address that was asked for.
    pub listeners: Vec<(SocketAddr, TcpListener)>,
    /// The locks of kept state.
    pub locks: Vec<File>,
    /// The document that is served.
    pub document: Option<String>,
    /// Of which unit each of the stores' files is.
    stores: Vec<[u8; 16]>,
    /// Another configuration is to be served.
    anew: bool,
}

impl Inheritance {
    /// Asks the process that serves for what can be had of it before anything rests. Files go to the stores, which
    /// find them when they are opened. Where it is not `anew`, nothing is to be served that is not served now.
    pub fn ask(path: &Path, within: Duration, anew: bool) -> Result<Inheritance, Failure> {
        let failed = |why: String| Failure::runtime(format!("{}: {why}", path.display()));
        let stream = UnixStream::connect(path).map_err(|error| failed(error.to_string()))?;
        let wire = Wire::new(stream, PATIENCE + within).map_err(Failure::runtime)?;
        let program = env!("CARGO_PKG_VERSION").to_owned();
        let ask = Ask { version: VERSION, oldest: VERSION, program, takes_over: true, within };
        wire.send(Kind::Ask, &ask, &[]).map_err(|error| failed(error.to_string()))?;
        let message = wire.receive().map_err(|error| failed(error.to_string()))?;
        let offer: Offer = message.expect(Kind::Offer).map_err(failed)?;
        may_open(offer.open_files).map_err(failed)?;
        let pid = i32::try_from(offer.process).ok().and_then(Pid::from_raw);
        let pid = pid.ok_or_else(|| failed("it does not say who it is".into()))?;
        let old = pidfd_open(pid, PidfdFlags::empty()).map_err(|error| failed(error.to_string()))?;
        let mut descriptors = message.descriptors.into_iter();
        let mut next = || descriptors.next().ok_or_else(|| failed("a descriptor is missing".into()));
        let outputs = [next()?, next()?];
        let upgrades = UnixListener::from(next()?);
        let control = if offer.control { Some(UnixListener::from(next()?)) } else { None };
        let mut listeners = Vec::new();
        for asked in offer.listeners {
            listeners.push((asked, TcpListener::from(next()?)));
        }
        let files = offer.stores.iter().map(|_| next().map(File::from)).collect::<Result<_, _>>()?;
        stores::inherit(files, !anew);
        let locks = (0..offer.locks).map(|_| next().map(File::from)).collect::<Result<_, _>>()?;
        let (version, document) = (offer.program, offer.document);
        let (stores, control_is_own) = (offer.stores, offer.control_is_own);
        Ok(Inheritance {
            control_is_own,
            wire,
            old,
            version,
            outputs,
            upgrades,
            control,
            listeners,
            locks,
            document,
            stores,
            anew,
        })
    }

    /// The socket of upgrades.
    pub fn upgrades(&self) -> Result<UnixListener, Failure> {
        self.upgrades.try_clone().map_err(Failure::runtime)
    }

    /// Takes the sessions over, once everything else is ready, and serves them. Until the very end a failure
    /// leaves them where they are.
    pub fn take_over(self, door: &Arc<Door>, units: &[Arc<LogicalUnit>]) -> Result<(), Failure> {
        let refuse = |why: String| {
            let _ = self.wire.send_bytes(Kind::Refused, why.as_bytes(), &[]);
            Failure::runtime(why)
        };
        self.all_is_taken(units).map_err(refuse)?;
        let said = |error: std::io::Error| Failure::runtime(format!("the old process has gone: {error}"));
        self.wire.send(Kind::Ready, &String::new(), &[]).map_err(said)?;
        let (prepared, sessions, decision) = self.prepare(door, units).map_err(refuse)?;
        self.wire.send(Kind::Prepared, &String::new(), &[]).map_err(said)?;
        let rested = match self.wire.receive() {
            Ok(message) => message.expect::<Duration>(Kind::Commit).map_err(Failure::runtime)?,
            // It can have died before it said so; where it lives, it goes on.
            Err(_) if is_dead(&self.old, DYING) => Duration::ZERO,
            Err(error) => return Err(said(error)),
        };
        if !decision.is_ours() {
            return Err(Failure::runtime("the old process did not wait any longer"));
        }
        let begun = Instant::now();
        // Said before any session is touched.
        let _ = self.wire.send(Kind::Serving, &String::new(), &[]);
        let teller = self.speak();
        door.revive(prepared);
        self.tell(teller, sessions, rested + begun.elapsed());
        Ok(())
    }

    /// Whether every file that is served was found where it is to be: another one there is another disk, even where
    /// it says that it is the same.
    fn all_is_taken(&self, units: &[Arc<LogicalUnit>]) -> Result<(), String> {
        for at in stores::forget_inherited() {
            let own = self.stores.get(at).and_then(|uuid| units.iter().find(|unit| unit.identity().uuid == *uuid));
            match own {
                Some(unit) => {
                    let place = unit.backend().description().address;
                    return Err(format!("{place}: the file that lies there is not the one that is served"));
                }
                None if !self.anew => return Err("a disk that is served was not found where it is to be".to_owned()),
                // The configuration does without it.
                None => {}
            }
        }
        Ok(())
    }

    fn prepare(&self, door: &Arc<Door>, units: &[Arc<LogicalUnit>]) -> Result<(Prepared, usize, Decision), String> {
        let memories: HashMap<[u8; 16], Arc<dyn Memory>> = units
            .iter()
            .filter_map(|unit| Some((unit.identity().uuid, unit.backend().hand_over().ok()?.memory?)))
            .collect();
        loop {
            let message = self.wire.receive().map_err(|error| format!("the old process has gone: {error}"))?;
            if message.kind != Kind::Memory {
                let rest: DoorAtRest = message.expect(Kind::State)?;
                let sessions = rest.sessions.len();
                let mut sockets = message.descriptors;
                let decision = Decision::from(sockets.pop().ok_or("a descriptor is missing")?);
                return Ok((door.prepare(rest, sockets, !self.anew)?, sessions, decision));
            }
            for MemoryPiece { unit, number, content } in Vec::take(&message.body).map_err(|error| error.to_string())? {
                let memory = memories.get(&unit).ok_or("a disk in memory is not one of ours")?;
                let content = content.as_ref().map(|(parts, bytes)| (*parts, bytes.as_slice()));
                if !memory.put(number, content) {
                    return Err("there is no memory for a disk in memory".to_owned());
                }
            }
        }
    }

    /// Speaks from now on where the old process spoke. Returns where whoever has started us listens.
    fn speak(&self) -> Option<OwnedFd> {
        let teller = std::io::stdout().as_fd().try_clone_to_owned().ok();
        let [stdout, stderr] = &self.outputs;
        let _ = rustix::stdio::dup2_stdout(stdout);
        let _ = rustix::stdio::dup2_stderr(stderr);
        teller
    }

    /// Tells whoever has started us.
    fn tell(&self, teller: Option<OwnedFd>, sessions: usize, rested: Duration) {
        let milliseconds = u64::try_from(rested.as_micros()).unwrap_or(u64::MAX) as f64 / 1000.0;
        let line = serde_json::json!({
            "sessions": sessions,
            "pause_ms": milliseconds,
            "process": std::process::id(),
            "from": self.version,
            "to": env!("CARGO_PKG_VERSION"),
        });
        if let Some(teller) = teller {
            // He may have gone.
            let _ = writeln!(File::from(teller), "{line}");
        }
        tracing::info!(sessions, pause_ms = milliseconds, from = %self.version, "took over");
    }
}

/// Has this process open as many files as the one before it may: it is started from somebody's shell, and comes to as
/// many connections.
fn may_open(files: u64) -> Result<(), String> {
    let limit = getrlimit(Resource::Nofile);
    if limit.current.is_none_or(|current| current >= files) {
        return Ok(());
    }
    if let Some(most) = limit.maximum.filter(|most| *most < files) {
        return Err(format!("this process may open {most} files, and the old one {files}; raise it with: ulimit -n"));
    }
    let wanted = Rlimit { current: (files != u64::MAX).then_some(files), maximum: limit.maximum };
    setrlimit(Resource::Nofile, wanted).map_err(|error| format!("the number of open files: {error}"))
}
