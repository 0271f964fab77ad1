//! Serves connections of the administration, so many at a time and each so long.

use super::dispatch;
use super::events;
use crate::serve::administrator::{Administrator, Event};
use axum::Router;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use serde_json::{Map, Value};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::UnixListener;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, broadcast::error::RecvError};

/// Connections at a time.
pub const CONNECTIONS: usize = 16;
/// Bytes of a request's head.
const HEAD_BYTES: usize = 16 << 10;
/// How long a request's head may take.
const HEAD_TIME: Duration = Duration::from_secs(5);
/// How long a connection may last, beside what takes its time.
const CONNECTION_TIME: Duration = Duration::from_secs(60);
/// How long accepting rests when the system has no descriptors.
const REST: Duration = Duration::from_millis(100);

/// Places for so many connections.
pub fn places() -> Arc<Semaphore> {
    Arc::new(Semaphore::new(CONNECTIONS))
}

/// What takes its time on a connection: a change, a stream of events. As long as there is any, it lasts.
#[derive(Clone, Default)]
pub struct Busy(Arc<AtomicUsize>);

impl Busy {
    /// One more, until this is dropped.
    pub fn hold(&self) -> Holding {
        self.0.fetch_add(1, Ordering::Relaxed);
        Holding(Arc::clone(&self.0))
    }

    /// Whether there is any.
    pub fn is_held(&self) -> bool {
        self.0.load(Ordering::Relaxed) != 0
    }
}

/// See [`Busy::hold`].
pub struct Holding(Arc<AtomicUsize>);

impl Drop for Holding {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The owner's socket.
pub async fn local(listener: UnixListener, administrator: Administrator) -> std::io::Result<()> {
    tokio::spawn(forward(administrator.clone()));
    let router = dispatch::router(administrator);
    let places = places();
    let owner = rustix::process::geteuid().as_raw();
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return Ok(()) };
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(_) => {
                tokio::time::sleep(REST).await;
                continue;
            }
        };
        let uid = stream.peer_cred().map(|peer| peer.uid());
        if !matches!(uid, Ok(uid) if uid == owner || uid == 0) {
            tracing::warn!(uid = uid.ok(), "the administration is for the daemon's owner and root; refused");
            continue;
        }
        tokio::spawn(converse(stream, router.clone(), place));
    }
}

/// A connection to its end.
pub async fn converse<S>(stream: S, router: Router, place: OwnedSemaphorePermit)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let busy = Busy::default();
    let router = TowerToHyperService::new(router);
    let told = busy.clone();
    let service = service_fn(move |mut request: hyper::Request<Incoming>| {
        request.extensions_mut().insert(told.clone());
        router.call(request)
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIME)
        .max_buf_size(HEAD_BYTES)
        .serve_connection(TokioIo::new(stream), service);
    let overtime = async {
        loop {
            tokio::time::sleep(CONNECTION_TIME).await;
            if !busy.is_held() {
                return;
            }
        }
    };
    tokio::select! {
        _ = connection => {}
        () = overtime => {}
    }
    drop(place);
}

/// What the administrator tells of changes is an event too.
async fn forward(administrator: Administrator) {
    let mut told = administrator.events();
    loop {
        match told.recv().await {
            Ok(event) => {
                let lines: Vec<&str> = event.what["steps"]
                    .as_array()
                    .into_iter()
                    .flatten()
                    .filter_map(|step| step["line"].as_str())
                    .collect();
                tell_of_units(&event);
                let message = if lines.is_empty() { event.kind.to_owned() } else { lines.join("; ") };
                let fields = match event.what {
                    Value::Object(fields) => fields,
                    other => Map::from_iter([("what".to_owned(), other)]),
                };
                events::publish(event.when, event.kind, "info", &message, fields);
            }
            Err(RecvError::Lagged(_)) => {}
            Err(RecvError::Closed) => return,
        }
    }
}

/// Units that are gone or back, and those of another size, for whoever looks for that alone.
fn tell_of_units(event: &Event) {
    let text = |step: &Value, key: &str| step[key].as_str().unwrap_or_default().to_owned();
    for step in event.what["steps"].as_array().into_iter().flatten().filter(|step| step["what"] == "lun") {
        let details = text(step, "details");
        let said = |word: &str| details.split([',', ';']).any(|part| part.trim() == word);
        let kind = match step["do"].as_str() {
            Some("resize") => "size",
            Some("change") if said("offline") => "offline",
            Some("change") if said("online") => "online",
            _ => continue,
        };
        let mut fields = Map::new();
        for (name, key) in [("target", "target"), ("lun", "name"), ("details", "details")] {
            fields.insert(name.to_owned(), text(step, key).into());
        }
        events::publish(event.when, kind, "info", &text(step, "line"), fields);
    }
}
