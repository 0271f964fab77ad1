//! A scripted target behind a real socket: each connection that comes plays the script's next scene.

use super::Target;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

/// What is done with a connection; its number, from 0, is told.
type Scene = dyn Fn(usize, Target<TcpStream>) + Send + Sync;

/// What the listener, its acceptor and the scenes have in common.
#[derive(Default)]
struct Shared {
    accepted: AtomicUsize,
    ends: AtomicBool,
    failed: Mutex<Vec<String>>,
}

/// A listener on loopback. Dropping it ends it, and fails the test where a scene has failed.
pub struct Server {
    address: SocketAddr,
    shared: Arc<Shared>,
    acceptor: Option<JoinHandle<()>>,
}

impl Server {
    /// Plays this with every connection, each in a thread of its own.
    pub fn start(scene: impl Fn(usize, Target<TcpStream>) + Send + Sync + 'static) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("an address");
        let shared = Arc::new(Shared::default());
        let (scene, theirs): (Arc<Scene>, _) = (Arc::new(scene), Arc::clone(&shared));
        let acceptor = std::thread::spawn(move || accept(&listener, &scene, &theirs));
        Server { address, shared, acceptor: Some(acceptor) }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its URL with this target and LUN behind it, such as `iqn…/1`.
    pub fn url(&self, path: &str) -> String {
        format!("iscsi://{}/{path}", self.address)
    }

    /// Connections that have come.
    pub fn accepted(&self) -> usize {
        self.shared.accepted.load(Ordering::SeqCst)
    }
}

fn accept(listener: &TcpListener, scene: &Arc<Scene>, shared: &Arc<Shared>) {
    let mut threads: Vec<JoinHandle<()>> = Vec::new();
    while let Ok((stream, _)) = listener.accept() {
        if shared.ends.load(Ordering::SeqCst) {
            break;
        }
        let number = shared.accepted.fetch_add(1, Ordering::SeqCst);
        let _ = stream.set_nodelay(true);
        let _ = stream.set_write_timeout(Some(Duration::from_secs(20)));
        let (scene, shared) = (Arc::clone(scene), Arc::clone(shared));
        threads.push(std::thread::spawn(move || {
            let play = std::panic::AssertUnwindSafe(|| scene(number, Target::over(stream)));
            if let Err(panic) = std::panic::catch_unwind(play) {
                let what = panic.downcast_ref::<String>().cloned();
                let what = what.or_else(|| panic.downcast_ref::<&str>().map(|what| (*what).to_owned()));
                let what = format!("connection {number}: {}", what.unwrap_or_default());
                shared.failed.lock().unwrap_or_else(PoisonError::into_inner).push(what);
            }
        }));
    }
    for thread in threads {
        let _ = thread.join();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.shared.ends.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(self.address);
        if let Some(acceptor) = self.acceptor.take() {
            let _ = acceptor.join();
        }
        let failed = self.shared.failed.lock().unwrap_or_else(PoisonError::into_inner);
        assert!(std::thread::panicking() || failed.is_empty(), "the script fails: {}", failed.join("\n"));
    }
}
