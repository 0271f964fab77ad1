//! The front-end that needs no module: a mount with one file, and a loop device on that file.
//!
//! The protocol of /dev/fuse is spoken here and not by a library: a thread of ours owns a descriptor of the
//! connection and a channel to the store, so that a request takes no turn through another thread and a long
//! write's data land page-aligned in the memory that the store writes from.
//!
//! With a loop device the mount is only a means: as soon as the loop device holds the file, the mount is
//! taken out of everybody's sight, and the device is told to clear itself when nobody has it open. So when
//! this process dies, nothing is left behind but what others hold open, and that fails at once.

mod abi;
mod gate;
mod ioctl;
mod mount;
mod request;
mod worker;

use crate::channel::Channel;
use crate::crew::Crew;
use crate::loopdev::{self, Loop, Place};
use crate::{Attachment, Closed, Detach, Error, Frontend, Settings, Unusable, users};
use block::Backend;
use io::engine::{Choice, Engines};
use request::Facts;
use rustix::fd::OwnedFd;
use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How long those who only have a look are waited for.
const LOOKERS_LIMIT: Duration = Duration::from_secs(2);
/// The most threads that are started unasked.
const WORKERS_MAX: usize = 4;
/// The least memory with which a thread goes on whatever is asked of it: a staging buffer, what was read or
/// written last, and a read with both of its ends in the middle of blocks.
const WORKER_MEMORY_LEAST: usize = 8 << 20;

/// The front-end `fuse`.
pub struct Fuse;

impl Frontend for Fuse {
    fn name(&self) -> &'static str {
        "fuse"
    }

    fn probe(&self) -> Result<(), Unusable> {
        mount::probe()
    }

    fn attach(&self, backend: Arc<dyn Backend>, settings: &Settings) -> Result<Box<dyn Attachment>, Error> {
        mount::probe()?;
        if !settings.file_only {
            loopdev::probe()
                .map_err(|Unusable(why)| Unusable(format!("{why}; the file alone needs no loop device (file only)")))?;
        }
        Ok(Box::new(Attached::new(backend, settings)?))
    }
}

/// Whether loop devices can be had too, so that there is a block device and not only a file.
pub fn probe_loop() -> Result<(), Unusable> {
    loopdev::probe()
}

/// Takes away what a process that died left mounted at this directory of its; nothing where nothing is. What it
/// served fails already.
pub fn clear(directory: &Path) {
    if let Err(error) = mount::unmount(directory, mount::Unmount::Lazily) {
        tracing::warn!(directory = %directory.display(), %error, "what a dead process left mounted stays");
    }
}

struct Attached {
    crew: Arc<Crew>,
    backend: Arc<dyn Backend>,
    mount: PathBuf,
    file: PathBuf,
    device: PathBuf,
    limit: Duration,
    state: Mutex<State>,
}

/// What is taken down in this order.
#[derive(Default)]
struct State {
    looped: Option<Loop>,
    /// Of a file that a loop device holds: ours, by which its size is looked at.
    held: Option<File>,
    /// The mount is in sight.
    mounted: bool,
    gone: bool,
}

impl Attached {
    fn new(backend: Arc<dyn Backend>, settings: &Settings) -> Result<Attached, Error> {
        let limits = backend.limits();
        let read_only = settings.read_only || limits.read_only;
        check_name(&settings.name)?;
        let mount = settings.directory.clone();
        let time = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        let facts = Facts {
            name: settings.name.clone(),
            read_only,
            owner: (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw()),
            time: time.as_secs(),
        };
        let crew = Crew::new(settings.notice.clone())?;
        let place = Place::new()?;
        let first = mount::mount(&mount, &settings.name, read_only)?;
        let file = mount.join(&settings.name);
        let mut attached = Attached {
            crew,
            backend,
            device: file.clone(),
            mount,
            file,
            limit: settings.detach_limit,
            state: Mutex::new(State { mounted: true, ..State::default() }),
        };
        // From here on dropping it takes everything down again.
        attached.serve(first, &place, facts, settings)?;
        if !settings.file_only {
            attached.make_loop(limits.block_length, read_only, place, settings)?;
        }
        Ok(attached)
    }

    /// Starts the threads.
    fn serve(&self, first: OwnedFd, place: &Place, facts: Facts, settings: &Settings) -> Result<(), Error> {
        let wanted = match settings.workers {
            0 => std::thread::available_parallelism().map_or(1, usize::from).min(WORKERS_MAX),
            wanted => wanted,
        };
        let mut devices = vec![place.above(first)?];
        for _ in 1..wanted {
            if let Some(next) = devices.first().map(mount::clone).transpose()? {
                devices.push(place.above(next)?);
            }
        }
        let shared = Arc::new(worker::Shared { facts, gate: gate::Gate::default() });
        let engines = Engines::new(Choice::Auto);
        let memory = (settings.memory_bytes / wanted).max(WORKER_MEMORY_LEAST);
        let (tell, told) = mpsc::channel();
        for (number, device) in devices.into_iter().enumerate() {
            let (backend, engines, shared, tell) =
                (self.backend.clone(), engines.clone(), shared.clone(), tell.clone());
            self.crew.spawn(format!("fuse-{number}"), move |crew| match Channel::open(&backend, &engines, memory) {
                Ok(channel) => {
                    let _ = tell.send(Ok(()));
                    drop(tell);
                    worker::Worker::new(device, channel, shared).run(crew)
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
        Ok(())
    }

    fn make_loop(&mut self, block: u32, read_only: bool, place: Place, settings: &Settings) -> Result<(), Error> {
        let held = OpenOptions::new()
            .read(true)
            .write(!read_only)
            .open(&self.file)
            .map_err(|error| Error::system(format!("{} cannot be opened", self.file.display()), error))?;
        let looped = Loop::new(&held, &settings.name, block, read_only, settings.partitions, place)?;
        self.device = looped.path().to_path_buf();
        let mut state = self.lock();
        state.looped = Some(looped);
        state.held = Some(held);
        match mount::unmount(&self.mount, mount::Unmount::Lazily) {
            Ok(()) => state.mounted = false,
            Err(error) => tracing::warn!(%error, mount = %self.mount.display(), "the file stays in sight"),
        }
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Everything away, if nobody uses it.
    fn detach_unused(&self, state: &mut State) -> Result<(), Error> {
        let end = Instant::now() + self.limit;
        if let Some(looped) = state.looped.take() {
            if let Err((looped, error)) = looped.close_unused(end) {
                state.looped = looped;
                return Err(error);
            }
            state.held = None;
        }
        if state.mounted {
            self.flush()?;
            let patience = Instant::now() + LOOKERS_LIMIT;
            let busy = |users| Error::Busy { device: self.file.clone(), users };
            while let Err(error) = mount::unmount(&self.mount, mount::Unmount::WhenUnused) {
                if error != rustix::io::Errno::BUSY {
                    return Err(Error::system(format!("{} cannot be unmounted", self.mount.display()), error));
                }
                let users = users::below(&self.mount);
                // Somebody whom we see, or time is up for those who only have a look.
                if !users.is_empty() || Instant::now() >= patience.min(end) {
                    return Err(busy(users));
                }
                std::thread::sleep(Duration::from_millis(20));
            }
            state.mounted = false;
        }
        self.end(state, end)
    }

    /// What was written through the file goes to stable storage before it goes.
    fn flush(&self) -> Result<(), Error> {
        let flushed = File::open(&self.file).and_then(|file| file.sync_all());
        flushed.map_err(|error| Error::system(format!("{} cannot be flushed", self.file.display()), error))
    }

    /// Everything away, whoever uses it.
    fn detach_force(&self, state: &mut State) -> Result<(), Error> {
        let end = Instant::now() + self.limit;
        // The threads first: what waits for them fails, and nothing below waits for anything.
        self.crew.close(Closed::Detached);
        let all = self.crew.wait(end.saturating_duration_since(Instant::now()));
        if state.mounted {
            let _ = mount::unmount(&self.mount, mount::Unmount::Lazily);
            state.mounted = false;
        }
        if !all {
            // The kernel may wait for a thread that waits for a disk: what closing could wait for is left.
            std::mem::forget((state.looped.take(), state.held.take()));
            state.gone = true;
            return Err(Error::TimedOut(format!(
                "{}: a thread still waits for the disk behind it; it ends when that answers",
                self.device.display()
            )));
        }
        if let Some(looped) = state.looped.take() {
            looped.close(end);
        }
        state.held = None;
        self.end(state, end)
    }

    fn end(&self, state: &mut State, end: Instant) -> Result<(), Error> {
        state.gone = true;
        self.crew.close(Closed::Detached);
        let ended = self.crew.wait(end.saturating_duration_since(Instant::now()).max(Duration::from_secs(1)));
        match ended {
            true => Ok(()),
            false => Err(Error::TimedOut(format!(
                "{} is gone, but a thread still waits for the disk behind it",
                self.device.display()
            ))),
        }
    }
}

impl Attachment for Attached {
    fn kind(&self) -> &'static str {
        if self.device == self.file { "fuse" } else { "fuse+loop" }
    }

    fn device(&self) -> &Path {
        &self.device
    }

    fn resized(&self) -> Result<u64, Error> {
        let state = self.lock();
        if state.gone {
            return Err(Error::Unsupported(format!("{} is detached", self.device.display())));
        }
        match (&state.looped, &state.held) {
            (Some(looped), Some(held)) => {
                // The kernel asks for the file's size anew, and only then the loop device for the file's.
                held.metadata().map_err(|error| Error::system(format!("{}", self.file.display()), error))?;
                looped.follow_size()
            }
            _ => Ok(self.backend.limits().capacity()),
        }
    }

    fn detach(&self, how: Detach) -> Result<(), Error> {
        let mut state = self.lock();
        if state.gone {
            return Ok(());
        }
        // Whatever is gone from outside has nobody who could use it.
        match how {
            Detach::WhenUnused if self.crew.closed().is_none() => {
                self.crew.leaving(true);
                let result = self.detach_unused(&mut state);
                self.crew.leaving(state.gone);
                result
            }
            _ => self.detach_force(&mut state),
        }
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

fn check_name(name: &str) -> Result<(), Error> {
    const NAME_MAX: usize = 255;
    let plain = !name.is_empty() && name.len() <= NAME_MAX && name != "." && name != "..";
    if plain && !name.contains(['/', '\0']) {
        return Ok(());
    }
    Err(Error::Unsupported(format!("'{name}' cannot be the name of a file")))
}
