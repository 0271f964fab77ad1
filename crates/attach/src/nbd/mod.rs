//! The kernel's network block device, served through sockets of our own: the transmission phase of NBD without
//! any handshake, for the kernel is told of everything by netlink.
//!
//! Each connection is a pair of connected sockets: the kernel has one end, a thread of ours the other. When our
//! process dies, requests wait for [`DEAD_CONNECTION_LIMIT`] for one that takes the device over
//! ([`Settings::take_over`]), which has to say that it serves the same disk.

mod connection;
mod message;
mod netlink;

use crate::channel::Channel;
use crate::crew::Crew;
use crate::{Attachment, Closed, Detach, Error, Frontend, Settings, Unusable, users};
use block::Backend;
use connection::Connection;
use io::engine::{Choice, Engines};
use netlink::{Nbd, Shape};
use rustix::fd::OwnedFd;
use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How long requests wait for another process when ours has died.
pub const DEAD_CONNECTION_LIMIT: Duration = Duration::from_secs(30);
/// When nobody says otherwise, no request of several connections is called failed before the store calls it so: one that
/// the kernel sends once more, on another connection, while the store still has it, could be applied twice, and the
/// second time after a newer one.
const REQUEST_LIMIT: Duration = Duration::from_secs(24 * 3600);
/// The least memory of a connection: the longest request.
const MEMORY_LEAST: usize = message::TRANSFER_BYTES_MAX as usize;
/// How long a device's node may take to appear.
const NODE_LIMIT: Duration = Duration::from_secs(5);
/// How long the kernel may take to connect or resize a device.
const REQUEST_PROMPT: Duration = Duration::from_secs(10);
/// How long those who only have a look (udev) are waited for.
const LOOKERS_LIMIT: Duration = Duration::from_secs(3);
const LOOK: Duration = Duration::from_millis(10);

/// The front-end `nbd`.
pub struct NetworkBlockDevice;

impl Frontend for NetworkBlockDevice {
    fn name(&self) -> &'static str {
        "nbd"
    }

    fn probe(&self) -> Result<(), Unusable> {
        Nbd::find().map(drop)
    }

    fn attach(&self, backend: Arc<dyn Backend>, settings: &Settings) -> Result<Box<dyn Attachment>, Error> {
        if settings.file_only {
            return Err(Error::Unsupported("nbd makes devices, no files".into()));
        }
        Ok(Box::new(Attached::new(Nbd::find()?, backend, settings)?))
    }
}

/// Whether a device with this name ([`Settings::name`]) is there, for another process to take it over.
pub fn is_left(path: &Path, name: &str) -> bool {
    number(path).is_ok_and(|number| identifier(number) == name)
}

/// Ends a device of this name that a dead process of ours left behind. What is not connected, or another's by now, is
/// no error.
pub fn remove(path: &Path, name: &str) -> Result<(), Error> {
    match is_left(path, name) {
        true => Nbd::find()?.disconnect(number(path)?, REQUEST_PROMPT),
        false => Ok(()),
    }
}

/// What a device says that it is; empty where it is not connected.
fn identifier(number: u32) -> String {
    let identifier = fs::read_to_string(format!("/sys/block/nbd{number}/backend"));
    identifier.unwrap_or_default().trim().to_string()
}

struct Attached {
    nbd: Nbd,
    crew: Arc<Crew>,
    backend: Arc<dyn Backend>,
    number: u32,
    name: String,
    device: PathBuf,
    limit: Duration,
    gone: Mutex<bool>,
}

impl Attached {
    fn new(nbd: Nbd, backend: Arc<dyn Backend>, settings: &Settings) -> Result<Attached, Error> {
        let limits = backend.limits();
        let read_only = settings.read_only || limits.read_only;
        let seconds = |limit: Duration| limit.as_secs().max(1);
        let shape = Shape {
            size: limits.capacity(),
            block: limits.block_length,
            flags: message::flags(&limits, read_only),
            timeout: match (settings.request_limit, connections(settings)) {
                (Some(limit), _) => seconds(limit),
                (None, 1) => 0,
                (None, _) => seconds(REQUEST_LIMIT),
            },
            dead: seconds(DEAD_CONNECTION_LIMIT),
            identifier: settings.name.clone(),
        };
        let crew = Crew::new(settings.notice.clone())?;
        let started = start(&crew, &backend, read_only, settings);
        let connected = started.and_then(|theirs| match settings.take_over.as_deref() {
            Some(path) => take_over(nbd, number(path)?, &shape, &theirs),
            None => nbd.connect(&shape, &theirs, REQUEST_PROMPT),
        });
        let number = match connected {
            Ok(number) => number,
            Err(error) => {
                crew.stop();
                return Err(error);
            }
        };
        let device = PathBuf::from(format!("/dev/nbd{number}"));
        let attached = Attached {
            nbd,
            crew,
            backend,
            number,
            name: settings.name.clone(),
            device,
            limit: settings.detach_limit,
            gone: Mutex::new(false),
        };
        // From here on dropping it takes everything down again.
        attached.await_device()?;
        if settings.partitions {
            // Whoever opens it first has the kernel look for partitions.
            drop(File::open(&attached.device));
        }
        Ok(attached)
    }

    fn await_device(&self) -> Result<(), Error> {
        let end = Instant::now() + NODE_LIMIT;
        while !self.device.exists() {
            if Instant::now() >= end {
                return Err(Error::TimedOut(format!(
                    "{} does not appear (is /dev a devtmpfs, or does udev run?)",
                    self.device.display()
                )));
            }
            std::thread::sleep(LOOK);
        }
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, bool> {
        self.gone.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn users(&self) -> Vec<String> {
        users::of_disk(&format!("nbd{}", self.number))
    }

    /// Keeps others from mounting it, with everything written; refused where somebody uses it.
    fn claim(&self, end: Instant) -> Result<File, Error> {
        let (flushed_by, end) = (end, end.min(Instant::now() + LOOKERS_LIMIT));
        let claimed = loop {
            match OpenOptions::new().read(true).custom_flags(libc::O_EXCL).open(&self.device) {
                Ok(claimed) if self.users().is_empty() => break claimed,
                _ if Instant::now() < end && self.users().is_empty() => {}
                _ => return Err(Error::Busy { device: self.device.clone(), users: self.users() }),
            }
            std::thread::sleep(LOOK);
        };
        crate::flush::flush(&claimed, flushed_by.saturating_duration_since(Instant::now())).map_err(|error| {
            let users = vec![format!("{}: {error}", crate::UNSTABLE)];
            Error::Busy { device: self.device.clone(), users }
        })?;
        Ok(claimed)
    }

    fn end(&self, gone: &mut bool, end: Instant) -> Result<(), Error> {
        *gone = true;
        self.crew.close(Closed::Detached);
        let left = end.saturating_duration_since(Instant::now()).max(Duration::from_secs(1));
        if self.crew.wait(left) {
            return Ok(());
        }
        Err(Error::TimedOut(format!(
            "{} is gone, but a thread still waits for the disk behind it",
            self.device.display()
        )))
    }
}

/// The same device with our connections; a new one where that is not to be had any more.
fn take_over(nbd: Nbd, number: u32, shape: &Shape, theirs: &[OwnedFd]) -> Result<u32, Error> {
    // Where another process has this number now, it is nothing of ours.
    if identifier(number) == shape.identifier {
        match nbd.take_over(number, shape, theirs, REQUEST_PROMPT) {
            Ok(()) => return Ok(number),
            Err(error) => tracing::warn!(%error, "the device is made anew"),
        }
        nbd.disconnect(number, REQUEST_PROMPT)?;
    }
    nbd.connect(shape, theirs, REQUEST_PROMPT)
}

/// One where nobody wants more: only then the kernel waits for a slow store as long as it takes (a time-out of 0), and
/// looks every half a minute whether requests that a dead process had are to be sent again to the one that has taken
/// over. With several it would call a connection dead whose requests take longer than any time-out.
fn connections(settings: &Settings) -> usize {
    settings.workers.max(1)
}

/// Starts the threads, each with one end of a connection; gives the other ends, for the kernel.
fn start(
    crew: &Arc<Crew>,
    backend: &Arc<dyn Backend>,
    read_only: bool,
    settings: &Settings,
) -> Result<Vec<OwnedFd>, Error> {
    let wanted = connections(settings);
    let engines = Engines::new(Choice::Auto);
    let memory_bytes = (settings.memory_bytes / wanted).max(MEMORY_LEAST);
    let (tell, told) = mpsc::channel();
    let mut theirs = Vec::new();
    for number in 0..wanted {
        let (our_end, their_end) =
            UnixStream::pair().map_err(|error| Error::system("no pair of sockets can be had", error))?;
        theirs.push(their_end.into());
        let (backend, engines, tell) = (backend.clone(), engines.clone(), tell.clone());
        crew.spawn(format!("nbd-{number}"), move |crew| match Channel::open(&backend, &engines, memory_bytes) {
            Ok(channel) => {
                let _ = tell.send(Ok(()));
                drop(tell);
                Connection::new(our_end.into(), channel, read_only).run(crew)
            }
            Err(error) => {
                let _ = tell.send(Err(error));
                Ok(())
            }
        })?;
    }
    drop(tell);
    for _ in 0..wanted {
        told.recv().map_err(|_| Error::TimedOut("a thread ended before it served".into()))??;
    }
    Ok(theirs)
}

impl Attachment for Attached {
    fn kind(&self) -> &'static str {
        "nbd"
    }

    fn device(&self) -> &Path {
        &self.device
    }

    fn resized(&self) -> Result<u64, Error> {
        if *self.lock() {
            return Err(Error::Unsupported(format!("{} is detached", self.device.display())));
        }
        self.nbd.resize(self.number, &self.name, self.backend.limits().capacity(), REQUEST_PROMPT)?;
        let sectors = fs::read_to_string(format!("/sys/block/nbd{}/size", self.number)).unwrap_or_default();
        Ok(sectors.trim().parse::<u64>().unwrap_or(0) * 512)
    }

    fn detach(&self, how: Detach) -> Result<(), Error> {
        let mut gone = self.lock();
        if *gone {
            return Ok(());
        }
        let end = Instant::now() + self.limit;
        let left = || end.saturating_duration_since(Instant::now()).max(Duration::from_secs(1));
        match how {
            Detach::WhenUnused if self.crew.closed().is_none() => {
                let claimed = self.claim(end)?;
                self.crew.leaving(true);
                let done = self.nbd.disconnect(self.number, left());
                drop(claimed);
                if let Err(error) = done {
                    self.crew.leaving(false);
                    return Err(error);
                }
            }
            _ => {
                // Our ends first: what waits for us fails, and nothing in the kernel waits.
                self.crew.close(Closed::Detached);
                self.crew.wait(left());
                self.nbd.disconnect(self.number, left())?;
            }
        }
        self.end(&mut gone, end)
    }

    fn closed(&self) -> Option<Closed> {
        self.crew.closed()
    }
}

impl Drop for Attached {
    fn drop(&mut self) {
        if let Err(error) = self.detach(Detach::Force) {
            tracing::warn!(%error, "a disk that is no longer wanted");
        }
    }
}

/// The number of a device of nbd's.
fn number(path: &Path) -> Result<u32, Error> {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    name.strip_prefix("nbd")
        .and_then(|number| number.parse().ok())
        .ok_or_else(|| Error::Unsupported(format!("{} is no device of nbd's", path.display())))
}
