//! GET /metrics by TCP, for a Prometheus that cannot reach the control socket. Nothing else is there, nothing can be changed;
//! requests are bounded in number, size and time, as those of the control socket are.

use super::answer;
use crate::failure::Failure;
use axum::Router;
use axum::routing::get;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;
use target::Door;
use tokio::sync::Semaphore;

/// Readers at a time.
const CONNECTIONS: usize = 8;
/// Bytes of a request's head.
const HEAD_BYTES: usize = 16 << 10;
/// How long a request's head may take, and so how long a connection may rest.
const HEAD_TIME: Duration = Duration::from_secs(30);
/// How long a connection may last.
const CONNECTION_TIME: Duration = Duration::from_secs(300);

/// The address, bound.
pub struct Server(TcpListener);

impl Server {
    /// Its socket once more.
    pub fn socket(&self) -> Option<TcpListener> {
        self.0.try_clone().ok()
    }

    /// Binds it; nobody is answered yet.
    ///
    /// `inherited` is the listener where the process before this one has opened it.
    pub fn open(address: SocketAddr, inherited: Option<TcpListener>) -> Result<Server, Failure> {
        let listener = inherited.map_or_else(|| TcpListener::bind(address), Ok).and_then(|listener| {
            listener.set_nonblocking(true)?;
            Ok(listener)
        });
        listener.map(Server).map_err(|error| {
            Failure::input(format!("[metrics] listen = \"{address}\": {error}; choose another address or port"))
        })
    }

    /// Where it is.
    pub fn address(&self) -> Option<SocketAddr> {
        self.0.local_addr().ok()
    }

    /// Serves on a thread of its own, as long as the process lives.
    pub fn serve(self, door: Arc<Door>) -> std::io::Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        std::thread::Builder::new().name("metrics".to_owned()).spawn(move || {
            if let Err(error) = runtime.block_on(accept(self.0, door)) {
                tracing::warn!("there are no metrics any more: {error}");
            }
        })?;
        Ok(())
    }
}

async fn accept(listener: TcpListener, door: Arc<Door>) -> std::io::Result<()> {
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let router = Router::new().route("/metrics", get(move || async move { answer(&door) }));
    let service = TowerToHyperService::new(router);
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return Ok(()) };
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(_) => {
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let service = service.clone();
        tokio::spawn(async move {
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEAD_TIME)
                .max_buf_size(HEAD_BYTES)
                .serve_connection(TokioIo::new(stream), service);
            let _ = tokio::time::timeout(CONNECTION_TIME, connection).await;
            drop(place);
        });
    }
}
