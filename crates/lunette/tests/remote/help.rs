//! What the tests of remote disks share: a thread for the sessions, a bench over a disk.

use block::Backend;
use block::testing::Bench;
use initiator::{Address, Options, RemoteDisk, Session};
use io::engine::{Choice, Engines};
use sim::daemon::TARGET;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};
use tokio::runtime::Handle;

pub const LUNETTE: &str = env!("CARGO_BIN_EXE_lunette");

/// How long something may take that comes by itself.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Runs on the thread of all sessions of this process.
pub fn on_the_net<T>(work: impl Future<Output = T>) -> T {
    static RUNTIME: OnceLock<Handle> = OnceLock::new();
    let handle = RUNTIME.get_or_init(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let handle = runtime.handle().clone();
        std::thread::spawn(move || runtime.block_on(std::future::pending::<()>()));
        handle
    });
    handle.block_on(work)
}

/// The address of a disk of the target that tests serve.
pub fn url(at: SocketAddr, lun: u16) -> String {
    format!("iscsi://{at}/{TARGET}/{lun}")
}

/// Options of a session with the target that tests serve.
pub fn options(at: SocketAddr) -> Options {
    Session::builder(&url(at, 1).parse::<Address>().unwrap())
}

/// The disk of this LUN.
pub fn disk(at: SocketAddr, lun: u16) -> Arc<RemoteDisk> {
    on_the_net(async {
        let session = options(at).connect().await.unwrap();
        Arc::new(RemoteDisk::open(session.unit(lun), url(at, lun)).await.unwrap())
    })
}

/// A worker before the disk.
pub fn bench(backend: Arc<dyn Backend>) -> Bench {
    bench_with(backend, Choice::Pool)
}

/// A worker with this engine.
pub fn bench_with(backend: Arc<dyn Backend>, choice: Choice) -> Bench {
    let worker = Engines::new(choice).open().unwrap();
    let engine = worker.engine().clone();
    Bench::with_engine(backend, &engine, move || {
        worker.wait(Duration::from_millis(100));
    })
}

/// Waits until it is so.
pub fn soon(what: &str, mut is: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !is() {
        assert!(Instant::now() < end, "{what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}
