//! ublk: the block layer's requests over io_uring, from the driver ublk_drv (Linux 6.0 and later).
//!
//! Each queue of the device is a thread with a channel to the store. A device belongs to the kernel and not to
//! the process that serves it: when that dies, requests wait, and whoever takes the device over
//! ([`crate::Settings::take_over`]) is given them again, those that were under way included (user recovery with
//! reissue). The driver copies data between the block layer's pages and our memory, once. Its zero copy (Linux
//! 6.15) hands pages only to commands of the same ring, which a store that has a connection or layers of its own
//! has no use for; so it is not asked for.

mod abi;
mod control;
mod mapping;
mod queue;

use crate::channel::Channel;
use crate::crew::Crew;
use crate::{Attachment, Closed, Detach, Error, Frontend, Settings, Unusable, users};
use abi::Device;
use block::{Backend, Limits};
use control::{Control, PROMPT};
use io::engine::{Choice, Engines};
use queue::{Queue, Shape};
use rustix::fs::{Mode, OFlags};
use std::fs::{File, OpenOptions};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Bytes of data of one request at most.
const REQUEST_BYTES: u32 = 512 << 10;
/// Tags of a queue.
const DEPTH_MAX: usize = 128;
const DEPTH_MIN: usize = 4;
/// Queues, where nobody says how many.
const QUEUES: usize = 4;
/// How long a device node may take to appear.
const NODE_LIMIT: Duration = Duration::from_secs(5);
/// How long the driver may take to see that a device's server has died.
const QUIET_LIMIT: Duration = Duration::from_secs(30);
/// How long the first reads of a new device (its partition table) may take.
const START_LIMIT: Duration = Duration::from_secs(60);

/// The front-end.
#[derive(Debug, Clone, Copy, Default)]
pub struct Ublk;

impl Frontend for Ublk {
    fn name(&self) -> &'static str {
        "ublk"
    }

    fn probe(&self) -> Result<(), Unusable> {
        if !control::is_there() {
            crate::modules::load(&["ublk_drv"]);
        }
        if !control::is_there() {
            let why = "ublk is not there: it needs Linux 6.0 or later and the module ublk_drv (`modprobe ublk_drv`)";
            return Err(Unusable(why.into()));
        }
        match Control::open() {
            Ok(_) => Ok(()),
            Err(Error::System { source, .. }) if source.kind() == ErrorKind::PermissionDenied => {
                Err(Unusable(format!("{} may not be opened: ublk needs root, or rights on it", control::CONTROL)))
            }
            Err(error) => Err(Unusable(format!("ublk cannot be used: {error}"))),
        }
    }

    fn attach(&self, backend: Arc<dyn Backend>, settings: &Settings) -> Result<Box<dyn Attachment>, Error> {
        self.probe()?;
        let mut control = Control::open()?;
        let features = control.features();
        let limits = backend.limits();
        if limits.block_length < 512 || u64::from(limits.block_length) > rustix::param::page_size() as u64 {
            let what = format!("ublk has no devices with blocks of {} bytes", limits.block_length);
            return Err(Error::Unsupported(what));
        }
        let (device, takes_over) = match &settings.take_over {
            Some(path) => (quiet_device(&mut control, path, &limits)?, true),
            None => (add(&mut control, features, &limits, settings)?, false),
        };
        let served = serve(control, device, features, takes_over, &backend, settings);
        if served.is_err() && !takes_over {
            // Nothing is left of a device that nobody has seen.
            if let Ok(mut control) = Control::open() {
                let _ = control.tell(abi::STOP, device.number, 0, PROMPT);
                let _ = control.tell(abi::DELETE, device.number, 0, PROMPT);
            }
        }
        served.map(|served| Box::new(served) as Box<dyn Attachment>)
    }
}

/// Takes away a device that nobody serves any more. Its requests fail, and what was not written is lost. What is
/// no device of ublk's is refused; what is gone already is no error.
pub fn remove(path: &Path) -> Result<(), Error> {
    let number = number(path)?;
    let mut control = Control::open()?;
    match control.device(number) {
        Err(error) if error.kind() == ErrorKind::NotFound || error.raw_os_error() == Some(EINVAL) => return Ok(()),
        _ => {}
    }
    let gone = |error: std::io::Error| Error::system(format!("{} cannot be removed", path.display()), error);
    control.tell(abi::STOP, number, 0, PROMPT).map_err(gone)?;
    control.tell(abi::DELETE, number, 0, PROMPT).map(drop).map_err(gone)
}

const EBUSY: i32 = 16;
const ENODEV: i32 = 19;
const EINVAL: i32 = 22;

/// A new device.
fn add(control: &mut Control, features: u64, limits: &Limits, settings: &Settings) -> Result<Device, Error> {
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let queues = if settings.workers == 0 { processors.min(QUEUES) } else { settings.workers.min(64) };
    let depth = (settings.memory_bytes / REQUEST_BYTES as usize / queues).clamp(DEPTH_MIN, DEPTH_MAX);
    let mut flags = abi::IOCTL_ENCODING | abi::USER_RECOVERY | abi::USER_RECOVERY_REISSUE;
    if !rustix::process::geteuid().is_root() {
        flags |= abi::UNPRIVILEGED;
    }
    if features & abi::UPDATES_SIZE != 0 {
        flags |= abi::UPDATES_SIZE;
    }
    if !settings.partitions {
        // Older ones always look; what they find is only read.
        flags |= features & abi::NO_PARTITIONS;
    }
    let device = control.add(&Device {
        queues: queues as u16,
        depth: depth as u16,
        state: 0,
        request_bytes: REQUEST_BYTES,
        number: u32::MAX,
        process: 0,
        flags,
    })?;
    let described = open_when_there(&character(device.number)).and_then(|_| {
        control.describe(device.number, &abi::parameters(limits, device.request_bytes, settings.read_only))
    });
    if let Err(error) = described {
        let _ = control.tell(abi::DELETE, device.number, 0, PROMPT);
        return Err(error);
    }
    Ok(device)
}

/// A device whose server has died, when it is that of this disk.
fn quiet_device(control: &mut Control, path: &Path, limits: &Limits) -> Result<Device, Error> {
    let number = number(path)?;
    let what = || format!("{} cannot be taken over", path.display());
    let end = Instant::now() + QUIET_LIMIT;
    let device = loop {
        let device = control.device(number).map_err(|error| Error::system(what(), error))?;
        match device.state {
            abi::QUIESCED => break device,
            // The driver has not seen yet that its server is dead.
            abi::LIVE if !is_alive(device.process) && Instant::now() < end => {
                std::thread::sleep(Duration::from_millis(20));
            }
            abi::LIVE => {
                return Err(Error::Unsupported(format!("{}: process {} serves it", what(), device.process)));
            }
            state => {
                return Err(Error::Unsupported(format!("{}: it does not wait for a server (state {state})", what())));
            }
        }
    };
    let described = control.description(number).map_err(|error| Error::system(what(), error))?;
    let (block, size) = abi::geometry(&described);
    if block != limits.block_length || size > limits.capacity() {
        return Err(Error::Unsupported(format!(
            "{}: it has {size} bytes in blocks of {block}, the disk {} in blocks of {}: this is another disk",
            what(),
            limits.capacity(),
            limits.block_length
        )));
    }
    Ok(device)
}

/// Starts the threads, and then the device.
fn serve(
    mut control: Control,
    device: Device,
    features: u64,
    takes_over: bool,
    backend: &Arc<dyn Backend>,
    settings: &Settings,
) -> Result<Served, Error> {
    let (number, end) = (device.number, Instant::now() + QUIET_LIMIT);
    if takes_over {
        loop {
            match control.tell(abi::START_RECOVERY, number, 0, PROMPT) {
                Ok(_) => break,
                Err(error) if error.raw_os_error() == Some(EBUSY) && Instant::now() < end => {
                    std::thread::sleep(Duration::from_millis(20));
                }
                Err(error) => {
                    return Err(Error::system(format!("{}: recovery", block_device(number).display()), error));
                }
            }
        }
    }
    let file = Arc::new(open_when_there(&character(number))?);
    let crew = Crew::new(settings.notice.clone())?;
    let engines = Engines::new(Choice::Auto);
    let ending = Arc::new(AtomicBool::new(false));
    let (tell, told) = sync_channel(device.queues.into());
    for queue in 0..device.queues {
        let shape =
            Shape { queue, depth: device.depth, request_bytes: device.request_bytes, plain: control.is_plain() };
        let (file, backend, engines, tell, ending) =
            (file.clone(), backend.clone(), engines.clone(), tell.clone(), ending.clone());
        crew.spawn(format!("ublk{number}-{queue}"), move |crew| {
            work(shape, &file, &backend, &engines, &tell, crew, &ending)
        })?;
    }
    drop((tell, file));
    let served = Served {
        device: block_device(number),
        number,
        updates_size: features & device.flags & abi::UPDATES_SIZE != 0,
        size: AtomicU64::new(0),
        backend: backend.clone(),
        crew,
        ending,
        detach_limit: settings.detach_limit,
        gone: Mutex::new(false),
    };
    // A device is started only when every queue is there; with one missing the driver would wait for ever.
    let ready = (0..device.queues).try_for_each(|_| match told.recv_timeout(START_LIMIT) {
        Ok(result) => result,
        Err(_) => Err(Error::TimedOut(format!("ublk: device {number} has not all of its threads"))),
    });
    let command = if takes_over { abi::END_RECOVERY } else { abi::START };
    let started = ready.and_then(|()| {
        let process = u64::from(std::process::id());
        control
            .tell(command, number, process, START_LIMIT)
            .map_err(|error| Error::system(format!("{} cannot be started", served.device.display()), error))
    });
    let there = started.and_then(|_| await_node(&served.device, NODE_LIMIT));
    if let Err(error) = there {
        served.ending.store(true, Ordering::Release);
        if takes_over {
            // It stays for the next who tries; with us its requests would never end.
            served.abandon();
        }
        return Err(error);
    }
    let size = control.description(number).map_or(0, |parameters| abi::geometry(&parameters).1);
    served.size.store(size, Ordering::Relaxed);
    if takes_over && size != served.backend.limits().capacity() {
        let _ = served.resized();
    }
    Ok(served)
}

/// A queue's thread.
fn work(
    shape: Shape,
    device: &Arc<File>,
    backend: &Arc<dyn Backend>,
    engines: &Engines,
    tell: &SyncSender<Result<(), Error>>,
    crew: &Crew,
    ending: &AtomicBool,
) -> Result<(), Closed> {
    let memory = usize::from(shape.depth) * shape.request_bytes as usize;
    let queue = Channel::open(backend, engines, memory).and_then(|channel| Queue::start(shape, device, channel));
    let queue = match queue {
        Ok(queue) => queue,
        Err(error) => {
            let why = error.to_string();
            let _ = tell.send(Err(error));
            return Err(Closed::Failed(why));
        }
    };
    let _ = tell.send(Ok(()));
    queue.run(crew.stop_signal())?;
    match ending.load(Ordering::Acquire) {
        true => Ok(()),
        false => Err(Closed::Elsewhere("the device was stopped in the kernel".into())),
    }
}

/// A device that is served.
struct Served {
    device: PathBuf,
    number: u32,
    updates_size: bool,
    /// Bytes that the device has.
    size: AtomicU64,
    backend: Arc<dyn Backend>,
    crew: Arc<Crew>,
    /// The end of the threads is wanted.
    ending: Arc<AtomicBool>,
    detach_limit: Duration,
    gone: Mutex<bool>,
}

impl Attachment for Served {
    fn kind(&self) -> &'static str {
        "ublk"
    }

    fn device(&self) -> &Path {
        &self.device
    }

    fn resized(&self) -> Result<u64, Error> {
        let wanted = self.backend.limits().capacity();
        if wanted == self.size.load(Ordering::Relaxed) {
            return Ok(wanted);
        }
        if !self.updates_size {
            return Err(Error::Unsupported(format!(
                "{}: this kernel's ublk cannot change the size of a device (Linux 6.16 can): detach and attach again",
                self.device.display()
            )));
        }
        Control::open()?
            .tell(abi::UPDATE_SIZE, self.number, wanted / abi::SECTOR, PROMPT)
            .map_err(|error| Error::system(format!("{} keeps its size", self.device.display()), error))?;
        self.size.store(wanted, Ordering::Relaxed);
        Ok(wanted)
    }

    fn detach(&self, how: Detach) -> Result<(), Error> {
        let mut gone = self.gone.lock().unwrap_or_else(PoisonError::into_inner);
        if *gone {
            return Ok(());
        }
        let end = Instant::now() + self.detach_limit;
        if how == Detach::WhenUnused && self.crew.closed().is_none() {
            self.refuse_while_used()?;
            // A device that can be recovered fails what is still to be written when it is stopped.
            self.write_back(self.detach_limit / 2)?;
        }
        *gone = true;
        self.ending.store(true, Ordering::Release);
        let deleted = self.delete(end);
        self.crew.close(Closed::Detached);
        deleted
    }

    fn closed(&self) -> Option<Closed> {
        self.crew.closed()
    }
}

impl Served {
    fn refuse_while_used(&self) -> Result<(), Error> {
        let flags = OFlags::RDONLY | OFlags::EXCL | OFlags::CLOEXEC;
        let held = rustix::fs::open(&self.device, flags, Mode::empty()).err() == Some(rustix::io::Errno::BUSY);
        let users = users::of_disk(&format!("ublkb{}", self.number));
        match held || !users.is_empty() {
            true => Err(Error::Busy { device: self.device.clone(), users }),
            false => Ok(()),
        }
    }

    /// Has the kernel write what it holds of the device.
    fn write_back(&self, limit: Duration) -> Result<(), Error> {
        let written = File::open(&self.device).and_then(|device| crate::flush::flush(device, limit));
        written.map_err(|error| match error.kind() {
            ErrorKind::TimedOut => Error::Busy {
                device: self.device.clone(),
                users: vec!["the kernel, which has not written everything yet".into()],
            },
            _ => Error::system(format!("{}: what it holds cannot be written", self.device.display()), error),
        })
    }

    /// Stops the device, waits for the threads, deletes it.
    fn delete(&self, end: Instant) -> Result<(), Error> {
        let left = || end.saturating_duration_since(Instant::now());
        let (number, crew) = (self.number, self.crew.clone());
        let (tell, told) = sync_channel(1);
        let stop = move || {
            let stopped = Control::open().and_then(|mut control| {
                control
                    .tell(abi::STOP, number, 0, Duration::from_secs(3600))
                    .map_err(|error| Error::system(format!("ublk: device {number} cannot be stopped"), error))
            });
            let _ = tell.send(stopped.map(drop));
        };
        // The driver waits for what is under way; for what does not end we answer.
        let thread = std::thread::Builder::new().name("ublk-stop".into()).spawn(stop);
        thread.map_err(|error| Error::system("no thread", error))?;
        let stopped = told.recv_timeout(left() / 2).or_else(|_| {
            crew.stop();
            told.recv_timeout(left().max(Duration::from_secs(1)))
        });
        match stopped {
            Ok(Ok(())) => {}
            Ok(Err(Error::System { source, .. })) if matches!(source.raw_os_error(), Some(ENODEV | EINVAL)) => {}
            Ok(Err(error)) => return Err(error),
            Err(_) => return Err(Error::TimedOut(format!("{} does not stop", self.device.display()))),
        }
        if !crew.wait(left().max(Duration::from_secs(1))) {
            return Err(Error::TimedOut(format!("{}: not all of its threads end", self.device.display())));
        }
        let deleted = Control::open()?.tell(abi::DELETE, number, 0, left().max(Duration::from_secs(1)));
        match deleted {
            Err(error) if matches!(error.raw_os_error(), Some(ENODEV | EINVAL)) => Ok(()),
            // The disk is gone; the driver only waits for whoever has it open still, to give its number to another.
            Err(error) if error.kind() == std::io::ErrorKind::TimedOut => Ok(()),
            other => other
                .map(drop)
                .map_err(|error| Error::system(format!("{} cannot be deleted", self.device.display()), error)),
        }
    }

    /// Leaves the device to the kernel as it is, and has our threads give up.
    fn abandon(&self) {
        *self.gone.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.crew.stop();
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        if let Err(error) = self.detach(Detach::Force) {
            tracing::warn!(%error, "a device that is no longer wanted");
        }
    }
}

fn character(number: u32) -> PathBuf {
    format!("/dev/ublkc{number}").into()
}

fn block_device(number: u32) -> PathBuf {
    format!("/dev/ublkb{number}").into()
}

/// The number of a device of ublk's.
fn number(path: &Path) -> Result<u32, Error> {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    name.strip_prefix("ublkb")
        .and_then(|number| number.parse().ok())
        .ok_or_else(|| Error::Unsupported(format!("{} is no device of ublk's", path.display())))
}

fn await_node(path: &Path, limit: Duration) -> Result<(), Error> {
    let end = Instant::now() + limit;
    while !path.exists() {
        if Instant::now() >= end {
            let what = format!("{} does not appear (is /dev a devtmpfs, or does udev run?)", path.display());
            return Err(Error::TimedOut(what));
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}

/// Opens the device by which requests come. Its node appears a moment after the device, and the right to open it where a
/// rule of udev's gives that to others than root, another moment later.
fn open_when_there(path: &Path) -> Result<File, Error> {
    await_node(path, NODE_LIMIT)?;
    let end = Instant::now() + NODE_LIMIT;
    loop {
        match OpenOptions::new().read(true).write(true).open(path) {
            Err(error) if error.kind() == ErrorKind::PermissionDenied && Instant::now() < end => {
                std::thread::sleep(Duration::from_millis(20));
            }
            other => return other.map_err(|error| Error::system(path.display().to_string(), error)),
        }
    }
}

fn is_alive(process: i32) -> bool {
    process > 0 && Path::new(&format!("/proc/{process}")).exists()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_devices_of_ublk_are_taken_over() {
        assert_eq!(number(Path::new("/dev/ublkb12")).ok(), Some(12));
        for other in ["/dev/sda", "/dev/ublkc1", "/dev/ublkb1p2", "/dev/ublkb", "/"] {
            assert!(number(Path::new(other)).is_err(), "{other}");
        }
    }
}
