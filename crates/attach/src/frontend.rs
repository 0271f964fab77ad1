//! What a front-end is: the ways into the kernel, and what one attached disk can be told and asked.

use block::Backend;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// One way of making a store a device of this host.
pub trait Frontend: Send + Sync {
    /// Its name as a person writes it: `fuse`, `nbd`, `ublk`.
    fn name(&self) -> &'static str;

    /// Whether it can be used here and now, by us; if not, why, in words. Changes nothing but that a kernel
    /// module may be loaded.
    fn probe(&self) -> Result<(), Unusable>;

    /// Makes the disk a device. When it returns, the device is there and can be used; after an error nothing
    /// is left behind.
    fn attach(&self, backend: Arc<dyn Backend>, settings: &Settings) -> Result<Box<dyn Attachment>, Error>;
}

/// An attached disk. Dropping it detaches as [`Detach::Force`] does.
pub trait Attachment: Send + Sync {
    /// The front-end that made it, and how: `fuse`, `fuse+loop`, `nbd`, `ublk`.
    fn kind(&self) -> &'static str;

    /// The block device, or the file where there is only one.
    fn device(&self) -> &Path;

    /// Makes the device follow the store's size, after [`Backend::refresh`] found another one. Gives the
    /// size in bytes that the device has now.
    fn resized(&self) -> Result<u64, Error>;

    /// Takes the device away. Always ends: within [`Settings::detach_limit`] and a second or so. After
    /// [`Error::Busy`] the device is there and works as before; after anything else it is gone. Detaching
    /// what is gone is no error.
    fn detach(&self, how: Detach) -> Result<(), Error>;

    /// Why the device is gone, `None` while it is there.
    fn closed(&self) -> Option<Closed>;
}

/// How a device is taken away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Detach {
    /// Only when nobody uses it, and with everything written that was to be.
    WhenUnused,
    /// In any case. What users have not flushed is lost, and their requests fail.
    Force,
}

/// Why a device is gone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Closed {
    /// We were told to.
    Detached,
    /// Somebody else took it away (umount, losetup -d, nbd-client -d, the kernel), said in words.
    Elsewhere(String),
    /// Serving it failed, for this reason.
    Failed(String),
}

impl fmt::Display for Closed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Closed::Detached => f.write_str("detached"),
            Closed::Elsewhere(what) => write!(f, "taken away from outside: {what}"),
            Closed::Failed(why) => write!(f, "failed: {why}"),
        }
    }
}

/// Who is told, once, when a device has gone. Called on a thread of the front-end; it must not wait, and
/// must not call the attachment.
pub type Notice = Arc<dyn Fn(&Closed) + Send + Sync>;

/// What a front-end is told of a disk beside the store itself.
#[derive(Clone)]
pub struct Settings {
    /// What the device or file is called where it can have a name: of the target and LUN. Has no `/`.
    pub name: String,
    /// A directory of this attachment alone, for mount points and sockets. Exists.
    pub directory: PathBuf,
    /// Refuse writes, though the store would take them.
    pub read_only: bool,
    /// Only the file of a front-end that has files, no block device over it. Needs no privileges.
    pub file_only: bool,
    /// Look for partitions on the device.
    pub partitions: bool,
    /// Threads that serve; 0 is what the front-end thinks best.
    pub workers: usize,
    /// Bytes of data in flight, for all threads together.
    pub memory_bytes: usize,
    /// How long the kernel waits for a request before it calls it failed, for those that can be told; `None`
    /// leaves it to the store, which has its own bound.
    pub request_limit: Option<Duration>,
    /// How long [`Attachment::detach`] may wait for users, writes and threads.
    pub detach_limit: Duration,
    /// A device that a dead process of ours left behind, to be served again under its name, for front-ends
    /// that can.
    pub take_over: Option<PathBuf>,
    /// Told when the device has gone.
    pub notice: Option<Notice>,
}

impl Settings {
    /// What is usual, for a disk of this name with this directory.
    pub fn new(name: impl Into<String>, directory: impl Into<PathBuf>) -> Settings {
        Settings {
            name: name.into(),
            directory: directory.into(),
            read_only: false,
            file_only: false,
            partitions: true,
            workers: 0,
            memory_bytes: 64 << 20,
            request_limit: None,
            detach_limit: Duration::from_secs(10),
            take_over: None,
            notice: None,
        }
    }
}

/// Why a front-end can't be used here, in words, with what would mend it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Unusable(pub String);

/// How the users of [`Error::Busy`] begin where there are none, and only what was written keeps the device.
pub const UNSTABLE: &str = "what was written to it cannot be made stable";

/// What went wrong with a device.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Somebody uses it, or what was written to it cannot be made stable now; who or why, as far as can be seen.
    #[error("{device} is in use{}", by(.users))]
    Busy {
        /// The device.
        device: PathBuf,
        /// Mount points, holders (a volume group, a mirror) and processes, in words.
        users: Vec<String>,
    },
    /// The front-end can't be used here.
    #[error(transparent)]
    Unusable(#[from] Unusable),
    /// The front-end can't do this at all.
    #[error("{0}")]
    Unsupported(String),
    /// A system call failed: what was done, and what the system said.
    #[error("{what}: {source}")]
    System {
        /// What was being done, and with what.
        what: String,
        /// The system's word.
        source: std::io::Error,
    },
    /// The store cannot be opened.
    #[error("the disk cannot be opened: {0}")]
    Store(#[from] block::Error),
    /// It did not end in time; it has been given up, and this is what may be left.
    #[error("{0}")]
    TimedOut(String),
}

impl Error {
    /// A failed system call, in words.
    pub fn system(what: impl Into<String>, source: impl Into<std::io::Error>) -> Error {
        Error::System { what: what.into(), source: source.into() }
    }
}

fn by(users: &[String]) -> String {
    if users.is_empty() { String::new() } else { format!(": {}", users.join(", ")) }
}
