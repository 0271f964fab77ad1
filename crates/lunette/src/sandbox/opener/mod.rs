//! The opener: a second process, started before the sandbox goes up, that opens for the daemon what a changed
//! configuration names, and hands over open files. It has the rights of who started the daemon, knows no network,
//! and does what its policy allows and no more.

mod message;
mod policy;
mod server;

pub use policy::{FRESH, Policy};

use crate::failure::Failure;
use message::{Refusal, Request};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use std::ffi::OsString;
use std::fs::File;
use std::io::{Error, Result};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;
use stores::host::{Direct, Host, How};

/// How long a request may take: a network file system may hang for a while.
const PATIENCE: Duration = Duration::from_secs(120);
/// This program, whatever has become of its name.
const OWN: &str = "/proc/self/exe";
/// The hidden command that is the opener.
const COMMAND: &str = "opener";

/// The daemon's end of it.
pub struct Client {
    socket: OwnedFd,
}

/// Starts an opener with this policy.
pub fn start(policy: &Policy) -> Result<Client> {
    let pair = || socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None);
    let (socket, theirs) = pair()?;
    let mut command = Command::new(OWN);
    command.arg0("lunette-opener").arg(COMMAND).args(policy.words());
    for variable in ["LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES", "NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"] {
        command.env_remove(variable);
    }
    // What a terminal sends to the daemon is not for the opener, which ends when the daemon has.
    command.process_group(0).stdin(Stdio::from(theirs)).stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn()?;
    Ok(Client { socket })
}

/// The opener's process.
pub fn run(words: &[OsString]) -> std::result::Result<(), Failure> {
    let _ = rustix::thread::set_name(c"lunette-opener");
    let socket = rustix::stdio::stdin();
    let socket = rustix::io::fcntl_dupfd_cloexec(socket, 3).map_err(|error| Failure::runtime(error.to_string()))?;
    // It ends with the daemon and not before, whoever else sends signals to both.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(Failure::runtime)?;
    let ignored = {
        use tokio::signal::unix::{SignalKind, signal};
        let _inside = runtime.enter();
        let kinds = [SignalKind::terminate(), SignalKind::interrupt(), SignalKind::hangup(), SignalKind::quit()];
        let more = [SignalKind::user_defined1(), SignalKind::user_defined2()];
        kinds.into_iter().chain(more).map(signal).collect::<Result<Vec<_>>>().map_err(Failure::runtime)?
    };
    super::confine_opener();
    server::serve(&socket, Policy::from_words(words));
    drop(ignored);
    Ok(())
}

impl Client {
    fn ask(&self, request: &Request, file: Option<&File>) -> Result<(Vec<u8>, Option<File>)> {
        let (own, theirs) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
        set_socket_timeout(&own, Timeout::Recv, Some(PATIENCE))?;
        let mut files: Vec<BorrowedFd<'_>> = vec![theirs.as_fd()];
        files.extend(file.map(AsFd::as_fd));
        let gone = || Error::other("the process that opens files for this one has gone; restart the daemon");
        message::send(&self.socket, &request.encode(), &files).map_err(|error| match error.raw_os_error() {
            Some(_) => gone(),
            None => error,
        })?;
        drop(theirs);
        let (packet, files) = message::receive(&own)?.ok_or_else(gone)?;
        let bytes = message::decode(&packet).map_err(|refusal: Refusal| Error::from(refusal))?;
        Ok((bytes, files.into_iter().next().map(File::from)))
    }

    fn file(&self, request: &Request, file: Option<&File>) -> Result<File> {
        self.ask(request, file)?.1.ok_or_else(|| Error::other("the opener sent no file"))
    }
}

impl Host for &'static Client {
    fn open(&self, path: &Path, how: How) -> Result<File> {
        self.file(&Request::Open(path.to_owned(), how), None)
    }

    fn reopen(&self, file: &File, how: How) -> Result<File> {
        self.file(&Request::Reopen(how), Some(file))
    }

    fn create_like(&self, path: &Path, other: &Path) -> Result<File> {
        self.file(&Request::CreateLike(path.to_owned(), other.to_owned()), None)
    }

    fn remove(&self, path: &Path) -> Result<()> {
        self.ask(&Request::Remove(path.to_owned()), None).map(drop)
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<()> {
        self.ask(&Request::Rename(from.to_owned(), to.to_owned()), None).map(drop)
    }

    fn sync_directory(&self, path: &Path) -> Result<()> {
        self.ask(&Request::SyncDirectory(path.to_owned()), None).map(drop)
    }

    fn attribute(&self, file: &File, name: &str) -> Result<Vec<u8>> {
        // Who may read the file may read what stands beside it, and needs nobody for it.
        Direct.attribute(file, name).or_else(|error| match error.raw_os_error() {
            Some(number) if number == rustix::io::Errno::ACCESS.raw_os_error() => {
                Ok(self.ask(&Request::Attribute(name.to_owned()), Some(file))?.0)
            }
            _ => Err(error),
        })
    }

    fn set_attribute(&self, file: &File, name: &str, value: Option<&[u8]>, new: bool) -> Result<()> {
        let value = value.map(<[u8]>::to_vec);
        self.ask(&Request::SetAttribute(name.to_owned(), value, new), Some(file)).map(drop)
    }
}
