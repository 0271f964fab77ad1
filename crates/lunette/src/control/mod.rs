//! The administration: HTTP with JSON for whoever runs the daemon, on a thread of its own.
//!
//! The unix socket is the owner's alone (mode 0600), and who connects is asked for by the system as well. Over TCP it
//! is there only with TLS and a token ([`remote`]). Requests are bounded in size, time and number; nothing that is
//! asked for waits for a command or makes one wait.
//!
//! [`routes`] is the table of all that can be asked for; from it and from [`shapes`] the OpenAPI document is made.

mod change;
mod dispatch;
mod document;
pub mod events;
mod json;
pub mod keys;
pub mod openapi;
mod problem;
pub mod remote;
mod route;
mod routes;
mod serving;
mod sessions;
pub mod shape;
mod shapes;
mod show;
mod statistics;
mod trace;
mod units;

pub use json::timestamp;

use crate::failure::{Cause, Failure};
use crate::serve::administrator::Administrator;
use crate::upgrade;
use remote::Remote;
use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

/// The name of the socket in its directory.
const SOCKET: &str = "control.sock";
/// Where the socket is, for the daemon and for whoever asks it.
pub fn path(named: Option<&Path>, state_directory: Option<&Path>) -> Option<PathBuf> {
    let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let directory = || match (state_directory, crate::sandbox::is_root()) {
        (Some(directory), _) => Some(directory.to_owned()),
        // Of a service whose user is not root.
        (None, false) if variable("RUNTIME_DIRECTORY").is_some() => variable("RUNTIME_DIRECTORY"),
        (None, true) => Some(PathBuf::from("/run/lunette")),
        (None, false) => variable("XDG_RUNTIME_DIR")
            .map(|runtime| runtime.join("lunette"))
            .or_else(|| variable("HOME").map(|home| home.join(".local/state/lunette"))),
    };
    named.map(Path::to_owned).or_else(|| Some(directory()?.join(SOCKET)))
}

/// The socket, gone when this is dropped.
pub struct Control {
    path: PathBuf,
    listener: UnixListener,
    /// Whether the socket's name was made by us.
    own: bool,
}

impl Control {
    /// Opens the socket at the place that was named, or where it is by default. Without one the daemon serves
    /// none the less, unless a place was named.
    ///
    /// `handed` is the socket where the service manager has opened it.
    pub fn open(
        named: Option<&Path>,
        state_directory: Option<&Path>,
        handed: Option<UnixListener>,
    ) -> Result<Option<Control>, Failure> {
        if let Some(listener) = handed {
            let address = listener.local_addr().map_err(Failure::runtime)?;
            let path = address.as_pathname().unwrap_or(Path::new("")).to_owned();
            return Ok(Some(Control { path, listener, own: false }));
        }
        let Some(path) = path(named, state_directory) else {
            tracing::warn!(
                "there is no administration: no place for its socket is known; name one with --control PATH"
            );
            return Ok(None);
        };
        match bind(&path) {
            Ok(listener) => Ok(Some(Control { path, listener, own: true })),
            Err(why) if named.is_some() => Err(Failure::input(format!("--control {}: {why}", path.display()))),
            Err(why) => {
                let path = path.display();
                tracing::warn!("there is no administration: {path}: {why}; name another place with --control PATH");
                Ok(None)
            }
        }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The socket that the process before this one has opened at that place.
    pub fn inherit(
        named: Option<&Path>,
        state_directory: Option<&Path>,
        listener: UnixListener,
        own: bool,
    ) -> Option<Control> {
        let bound = listener.local_addr().ok().and_then(|address| address.as_pathname().map(Path::to_owned));
        let path = bound.or_else(|| path(named, state_directory))?;
        Some(Control { path, listener, own })
    }

    /// Whether it goes with the process, and is not the service manager's.
    pub fn is_own(&self) -> bool {
        self.own
    }

    /// The socket is another process's, and stays.
    pub fn leave(self) {
        std::mem::forget(self);
    }

    /// The socket once more.
    pub fn listener(&self) -> Option<UnixListener> {
        self.listener.try_clone().ok()
    }

    /// The socket of upgrades beside this one.
    pub fn upgrades(&self) -> Option<UnixListener> {
        let path = upgrade::socket(&self.path);
        bind(&path).inspect_err(|why| tracing::warn!("there are no upgrades: {}: {why}", path.display())).ok()
    }

    /// Serves it as long as the process lives. Returns where, for whoever wants to know whether it is alive.
    pub fn serve(&self, administrator: Administrator) -> std::io::Result<tokio::runtime::Handle> {
        let listener = self.listener.try_clone()?;
        listener.set_nonblocking(true)?;
        in_a_thread("control", move || async move {
            serving::local(tokio::net::UnixListener::from_std(listener)?, administrator).await
        })
    }
}

/// Serves the administration over TCP as long as the process lives.
pub fn serve_remote(remote: Remote, administrator: Administrator) -> std::io::Result<()> {
    in_a_thread("control-tls", move || remote.serve(administrator)).map(drop)
}

/// Does this in a thread with a runtime of its own.
fn in_a_thread<F: Future<Output = std::io::Result<()>>>(
    name: &str,
    work: impl FnOnce() -> F + Send + 'static,
) -> std::io::Result<tokio::runtime::Handle> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let handle = runtime.handle().clone();
    std::thread::Builder::new().name(name.to_owned()).spawn(move || {
        if let Err(error) = runtime.block_on(async { work().await }) {
            tracing::warn!("there is no administration any more: {error}");
        }
    })?;
    Ok(handle)
}

impl Drop for Control {
    fn drop(&mut self) {
        if self.own {
            let _ = std::fs::remove_file(&self.path);
        }
        let _ = std::fs::remove_file(upgrade::socket(&self.path));
    }
}

fn bind(path: &Path) -> Result<UnixListener, String> {
    if let Some(directory) = path.parent().filter(|directory| !directory.as_os_str().is_empty()) {
        let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(directory);
        made.map_err(|error| format!("{}: {error}", directory.display()))?;
    }
    // What a process left that is gone is in the way; what one left that is there is not ours.
    match UnixStream::connect(path) {
        Ok(_) => return Err("another process serves it".to_owned()),
        // A file that is no socket refuses as well, and stays.
        Err(error) if error.kind() == ErrorKind::ConnectionRefused && is_socket(path) => {
            std::fs::remove_file(path).map_err(|error| error.to_string())?;
        }
        Err(_) => {}
    }
    let address = socket2::SockAddr::unix(path).map_err(|error| error.to_string())?;
    let open = || -> std::io::Result<UnixListener> {
        let socket = socket2::Socket::new(socket2::Domain::UNIX, socket2::Type::STREAM, None)?;
        socket.bind(&address)?;
        // Nobody connects before it listens, and so nobody before it is ours alone.
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
        socket.listen(serving::CONNECTIONS as i32)?;
        Ok(socket.into())
    };
    open().map_err(|error| error.to_string())
}

/// Whether a socket has this name.
pub fn is_socket(path: &Path) -> bool {
    std::fs::symlink_metadata(path).is_ok_and(|found| found.file_type().is_socket())
}

/// Nobody serves the socket.
pub fn nobody(path: &Path, error: &std::io::Error) -> Failure {
    let line = match error.kind() {
        ErrorKind::PermissionDenied => {
            format!("{}: {error}; it is for the daemon's owner and root: try sudo", path.display())
        }
        _ => format!(
            "no daemon answers at {}: {error}; start one with `lunette serve …`, or name its socket with --control PATH or --state-dir DIR",
            path.display()
        ),
    };
    Failure::because(Cause::Unreachable, line)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_that_is_served_is_left_alone_and_one_that_is_not_is_replaced() {
        let folder = sim::daemon::Folder::new();
        let path = folder.path().join("new/control.sock");
        let first = bind(&path).unwrap();
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&path), mode(path.parent().unwrap())), (0o600, 0o700));
        assert!(bind(&path).unwrap_err().contains("another process"));
        drop(first);
        let control = Control { path: path.clone(), listener: bind(&path).unwrap(), own: true };
        drop(control);
        assert!(!path.exists());
        std::fs::write(&path, "a file").unwrap();
        assert!(bind(&path).is_err() && path.is_file(), "what is no socket is not removed");
    }

    #[test]
    fn the_socket_lies_where_it_is_looked_for() {
        let at = |named: Option<&str>, state: Option<&str>| path(named.map(Path::new), state.map(Path::new)).unwrap();
        assert_eq!(at(Some("/a/b"), Some("/state")), Path::new("/a/b"));
        assert_eq!(at(None, Some("/state")), Path::new("/state/control.sock"));
        assert!(at(None, None).ends_with("lunette/control.sock"));
    }
}
