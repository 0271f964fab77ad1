//! A loop device on a file: made in one step, following the file's size, and gone without a trace.
//!
//! The device is configured with autoclear and held open here, read-only and not exclusively, so that
//! whoever wants it for himself can have it. When the last holder closes it, it is cleared: by us when it is
//! detached, and by the kernel when this process dies.

mod ioctl;

use crate::{Error, Unusable, users};
use rustix::fd::{AsFd, AsRawFd, OwnedFd};
use rustix::io::Errno;
use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

const CONTROL: &str = "/dev/loop-control";
/// How often another process may snatch a free device from us.
const SNATCHED_MAX: usize = 64;
/// How long a device's node may take to appear.
const NODE_LIMIT: Duration = Duration::from_secs(2);
const LOOK: Duration = Duration::from_millis(10);
/// How long those who only have a look (udev) are waited for.
const LOOKERS_LIMIT: Duration = Duration::from_secs(3);

/// Why no loop device can be had here, if so.
pub(crate) fn probe() -> Result<(), Unusable> {
    match OpenOptions::new().read(true).write(true).open(CONTROL) {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Err(Unusable(format!(
            "the kernel has no loop devices ({CONTROL} is missing): load them with `modprobe loop`"
        ))),
        Err(error) => Err(Unusable(format!("{CONTROL} cannot be opened ({error}): run as root"))),
    }
}

/// The number of a descriptor, kept for a loop device.
///
/// When a process dies, its descriptors are released in the reverse of their order. A loop device that is
/// closed last writes out what is dirty, and waits for that; so those who serve its file must have been
/// released before, or the process would wait for itself for ever.
pub(crate) struct Place(OwnedFd);

impl Place {
    /// One below all descriptors that [`Place::above`] gives.
    pub(crate) fn new() -> Result<Place, Error> {
        let taken = rustix::event::eventfd(0, rustix::event::EventfdFlags::CLOEXEC);
        taken.map(Place).map_err(|error| Error::system("no descriptor can be had", error))
    }

    /// The same descriptor with a number above this place.
    pub(crate) fn above(&self, descriptor: OwnedFd) -> Result<OwnedFd, Error> {
        let lifted = rustix::io::fcntl_dupfd_cloexec(&descriptor, self.0.as_raw_fd() + 1);
        lifted.map_err(|error| Error::system("no descriptor can be had", error))
    }
}

/// A loop device of ours.
pub(crate) struct Loop {
    path: PathBuf,
    /// `loop3`
    name: String,
    /// Keeps it; by closing it last it is cleared.
    hold: File,
}

impl Loop {
    /// Puts a device over the file, held open at this place.
    pub(crate) fn new(
        file: &File,
        name: &str,
        block_bytes: u32,
        read_only: bool,
        partitions: bool,
        place: Place,
    ) -> Result<Loop, Error> {
        let control = OpenOptions::new().read(true).write(true).open(CONTROL);
        let control = control.map_err(|error| Error::system(format!("{CONTROL} cannot be opened"), error))?;
        let mut flags = ioctl::AUTOCLEAR | ioctl::DIRECT_IO;
        flags |= if read_only { ioctl::READ_ONLY } else { 0 };
        flags |= if partitions { ioctl::PARTSCAN } else { 0 };
        for _ in 0..SNATCHED_MAX {
            let number = ioctl::free(&control).map_err(|error| Error::system("no loop device can be had", error))?;
            let path = PathBuf::from(format!("/dev/loop{number}"));
            let device = open_node(&path, !read_only)?;
            match ioctl::configure(&device, file.as_fd(), name, block_bytes, flags) {
                Ok(()) => return Loop::hold(path, device, place),
                // Somebody was faster.
                Err(Errno::BUSY) => {}
                Err(error) => {
                    return Err(Error::system(format!("{} cannot be set up", path.display()), error));
                }
            }
        }
        Err(Error::TimedOut("others take every free loop device before it is set up; try again".into()))
    }

    fn hold(path: PathBuf, device: File, place: Place) -> Result<Loop, Error> {
        let failed = |error: std::io::Error| Error::system(path.display().to_string(), error);
        let read = File::open(&path).map_err(failed)?;
        let mut hold = place.0;
        rustix::io::dup3(&read, &mut hold, rustix::io::DupFlags::CLOEXEC).map_err(|error| failed(error.into()))?;
        drop((read, device));
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let looped = Loop { path, name, hold: File::from(hold) };
        if looped.fact("loop/dio") == "0" {
            tracing::warn!(device = looped.name, "the loop device cannot do direct I/O: its data are cached twice");
        }
        Ok(looped)
    }

    /// `/dev/loop3`
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Takes the file's size, and gives it.
    pub(crate) fn follow_size(&self) -> Result<u64, Error> {
        let failed = |error| Error::system(format!("{} cannot be resized", self.path.display()), error);
        ioctl::set_capacity(&self.hold).map_err(failed)?;
        let sectors: u64 = self.fact("size").parse().unwrap_or(0);
        Ok(sectors * 512)
    }

    /// Clears it if nobody uses it, with everything written. Gives it back where somebody does.
    pub(crate) fn close_unused(self, end: Instant) -> Result<(), (Option<Loop>, Error)> {
        let patience = Instant::now() + LOOKERS_LIMIT;
        let exclusive = loop {
            // Nobody can mount it from here on, and nobody has.
            match OpenOptions::new().read(true).custom_flags(libc::O_EXCL).open(&self.path) {
                Ok(exclusive) if users::of_disk(&self.name).is_empty() => break exclusive,
                _ if Instant::now() < patience.min(end) && users::of_disk(&self.name).is_empty() => {}
                _ => return Err(self.busy()),
            }
            std::thread::sleep(LOOK);
        };
        let left = end.saturating_duration_since(Instant::now());
        if let Err(error) = crate::flush::flush(&exclusive, left) {
            let users = vec![format!("{}: {error}", crate::UNSTABLE)];
            let device = self.path.clone();
            return Err((Some(self), Error::Busy { device, users }));
        }
        let Loop { path, name, hold } = self;
        drop((exclusive, hold));
        while is_set_up(&name) {
            if Instant::now() >= end.max(patience) {
                // Somebody came in between; it is theirs until they close it, and ours as before.
                return match File::open(&path) {
                    Ok(hold) => Err(Loop { path, name, hold }.busy()),
                    Err(error) => Err((None, Error::system(path.display().to_string(), error))),
                };
            }
            std::thread::sleep(LOOK);
        }
        Ok(())
    }

    /// Lets go of it: it is cleared now, or when those who have it open close it. Nobody serves its file any
    /// more, so that nothing here waits.
    pub(crate) fn close(self, end: Instant) {
        let Loop { name, hold, .. } = self;
        let users = users::of_disk(&name);
        let end = end.min(Instant::now() + NODE_LIMIT);
        drop(hold);
        while users.is_empty() && is_set_up(&name) && Instant::now() < end {
            std::thread::sleep(LOOK);
        }
        if is_set_up(&name) {
            tracing::warn!(device = name, users = users.join(", "), "still in use; it goes when its users do");
        }
    }

    fn busy(self) -> (Option<Loop>, Error) {
        let error = Error::Busy { device: self.path.clone(), users: users::of_disk(&self.name) };
        (Some(self), error)
    }

    fn fact(&self, name: &str) -> String {
        let value = fs::read_to_string(Path::new("/sys/block").join(&self.name).join(name));
        value.unwrap_or_default().trim().to_string()
    }
}

fn is_set_up(name: &str) -> bool {
    Path::new("/sys/block").join(name).join("loop/backing_file").exists()
}

/// Opens a device's node, which may be made only now; in a container it may never be.
fn open_node(path: &Path, write: bool) -> Result<File, Error> {
    let end = Instant::now() + NODE_LIMIT;
    loop {
        match OpenOptions::new().read(true).write(write).open(path) {
            Ok(file) if file.metadata().is_ok_and(|facts| facts.file_type().is_block_device()) => return Ok(file),
            Ok(_) => return Err(Error::Unsupported(format!("{} is no block device", path.display()))),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound && Instant::now() < end => {
                std::thread::sleep(LOOK);
            }
            Err(error) => {
                let what = format!("{} cannot be opened (a container needs its devices given)", path.display());
                return Err(Error::system(what, error));
            }
        }
    }
}
