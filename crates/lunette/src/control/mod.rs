//! The administration's socket: HTTP with JSON for whoever runs the daemon, on a thread of its own.
//!
//! The socket is the owner's alone (mode 0600), and who connects is asked for by the system as well. Requests
//! are bounded in size, time and number; nothing that is asked for waits for a command or makes one wait.

mod json;
mod trace;

pub use json::timestamp;

use crate::failure::{Cause, Failure};
use crate::serve::administrator::Administrator;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;
use axum::{Extension, Json, Router};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use serde_json::Value;
use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::sync::Semaphore;

/// The name of the socket in its directory.
const SOCKET: &str = "control.sock";
/// Requests at a time.
const CONNECTIONS: usize = 16;
/// Bytes of a request's head.
const HEAD_BYTES: usize = 16 << 10;
/// How long a request's head may take.
const HEAD_TIME: Duration = Duration::from_secs(5);
/// How long a connection may last.
const CONNECTION_TIME: Duration = Duration::from_secs(60);

/// Where the socket is, for the daemon and for whoever asks it.
pub fn path(named: Option<&Path>, state_directory: Option<&Path>) -> Option<PathBuf> {
    let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let directory = || match (state_directory, crate::sandbox::is_root()) {
        (Some(directory), _) => Some(directory.to_owned()),
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

    /// Serves it as long as the process lives.
    pub fn serve(&self, administrator: Administrator) -> std::io::Result<()> {
        let listener = self.listener.try_clone()?;
        listener.set_nonblocking(true)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        std::thread::Builder::new().name("control".to_owned()).spawn(move || {
            if let Err(error) = runtime.block_on(accept(listener, administrator)) {
                tracing::warn!("there is no administration any more: {error}");
            }
        })?;
        Ok(())
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        if self.own {
            let _ = std::fs::remove_file(&self.path);
        }
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
        socket.listen(CONNECTIONS as i32)?;
        Ok(socket.into())
    };
    open().map_err(|error| error.to_string())
}

fn is_socket(path: &Path) -> bool {
    std::fs::symlink_metadata(path).is_ok_and(|found| found.file_type().is_socket())
}

async fn accept(listener: UnixListener, administrator: Administrator) -> std::io::Result<()> {
    let listener = tokio::net::UnixListener::from_std(listener)?;
    let router = router(administrator);
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    let owner = rustix::process::geteuid().as_raw();
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return Ok(()) };
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(_) => {
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let uid = stream.peer_cred().map(|peer| peer.uid());
        if !matches!(uid, Ok(uid) if uid == owner || uid == 0) {
            tracing::warn!(uid = uid.ok(), "the administration is for the daemon's owner and root; refused");
            continue;
        }
        let lasting = Lasting::default();
        let service = TowerToHyperService::new(router.clone().layer(Extension(lasting.clone())));
        tokio::spawn(async move {
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEAD_TIME)
                .max_buf_size(HEAD_BYTES)
                .serve_connection(TokioIo::new(stream), service);
            tokio::select! {
                _ = connection => {}
                () = lasting.too_long() => {}
            }
            drop(place);
        });
    }
}

/// Set by a route whose answer lasts as long as it is read.
#[derive(Clone, Default)]
struct Lasting(Arc<AtomicBool>);

impl Lasting {
    fn set(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Comes back when a connection has lasted longer than it may.
    async fn too_long(&self) {
        tokio::time::sleep(CONNECTION_TIME).await;
        if self.0.load(Ordering::Relaxed) {
            std::future::pending::<()>().await;
        }
    }
}

fn router(administrator: Administrator) -> Router {
    Router::new()
        .route("/v1/trace", get(trace::route))
        .route("/v1/sandbox", get(|| async { Json(crate::sandbox::view()) }))
        .route("/metrics", get(|State(own): State<Administrator>| async move { crate::metrics::answer(own.door()) }))
        .route("/v1/door", get(|State(own): State<Administrator>| async move { Json(json::door(&own.door().view())) }))
        .route(
            "/v1/sessions",
            get(|State(own): State<Administrator>| async move { Json(json::sessions(&own.door().workers().await)) }),
        )
        .fallback(|| async { (StatusCode::NOT_FOUND, Json(error("there is nothing of this name"))) })
        .method_not_allowed_fallback(|| async { (StatusCode::METHOD_NOT_ALLOWED, Json(error("it can only be read"))) })
        .with_state(administrator)
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

fn error(why: &str) -> Value {
    serde_json::json!({ "error": why })
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
