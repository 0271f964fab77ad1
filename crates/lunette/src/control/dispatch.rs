//! From a request to its route and back: what is asked has its shape before anything is done, what is answered has its
//! shape too.

use super::events;
use super::problem::Problem;
use super::route::{Call, Gives, Reply, Route, Takes, Verb};
use super::routes::ROUTES;
use super::serving::{Busy, Holding};
use super::shape::Shape;
use super::shapes;
use crate::serve::administrator::Administrator;
use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{RawPathParams, Request, State};
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::http::{StatusCode, Uri};
use axum::response::Response;
use axum::routing::{MethodFilter, get, on};
use hyper::body::Frame;
use serde_json::Value;
use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::mpsc;

/// Bytes of a body: a configuration may be as long as its file.
const BODY_BYTES: usize = 64 << 20;
/// Bytes of a body that is no configuration.
const SMALL_BODY_BYTES: usize = 1 << 20;
/// How long a body may take.
const BODY_TIME: Duration = Duration::from_secs(30);
/// How long a route may take: the unit of a change that stands still for longer is in force all the same.
const ACT_TIME: Duration = Duration::from_secs(300);
/// Who may read events at a time.
const READERS: usize = 8;
/// How long a reader of events or of a trace may read nothing.
const STUCK_TIME: Duration = Duration::from_secs(60);
/// How often a reader is told that nothing happens.
const BREATH_TIME: Duration = Duration::from_secs(15);

/// Marks a request that did not come by the owner's socket.
#[derive(Clone, Copy)]
pub struct FromAfar;

/// The routes of this administrator.
pub fn router(administrator: Administrator) -> Router {
    let mut router = Router::new();
    for route in ROUTES {
        let filter = match route.verb {
            Verb::Get => MethodFilter::GET,
            Verb::Post => MethodFilter::POST,
            Verb::Put => MethodFilter::PUT,
            Verb::Patch => MethodFilter::PATCH,
            Verb::Delete => MethodFilter::DELETE,
        };
        let act = move |State(administrator): State<Administrator>, names: RawPathParams, request: Request| {
            respond(route, administrator, names, request)
        };
        router = router.route(route.path, on(filter, act));
    }
    let metrics = |State(own): State<Administrator>| async move { crate::metrics::answer(own.door()) };
    router
        // Prometheus has words of its own.
        .route("/metrics", get(metrics))
        .fallback(|| async {
            problem(&Problem::not_found("there is nothing of this name", "/v1/openapi.json says what there is"))
        })
        .method_not_allowed_fallback(|uri: Uri| async move {
            let what = format!("that cannot be done with {}", uri.path());
            problem(&Problem::new("method", what, "/v1/openapi.json says what can"))
        })
        .with_state(administrator)
}

async fn respond(
    route: &'static Route,
    administrator: Administrator,
    names: RawPathParams,
    request: Request,
) -> Response {
    let path = names.iter().map(|(_, value)| value.to_owned()).collect();
    let holding = request.extensions().get::<Busy>().map(Busy::hold);
    // A change goes on though whoever asked for it has gone.
    let acting = async {
        let call = call(route, administrator, path, request).await?;
        tokio::time::timeout(ACT_TIME, (route.act)(call))
            .await
            .unwrap_or_else(|_| Err(Problem::new("pending", "it takes long, and goes on", "look at it again later")))
    };
    match acting.await {
        Ok(Reply::Json(value)) => match checked(route.gives, &value) {
            Ok(()) => json(StatusCode::OK, &value),
            Err(line) => {
                tracing::error!(route = route.name, "an answer is not as the document of the API says: {line}");
                problem(&Problem::new(
                    "failed",
                    format!("the answer is not as it should be: {line}"),
                    "please report it",
                ))
            }
        },
        Ok(Reply::Events(kinds)) => stream(kinds, holding),
        Ok(Reply::Stream(kind, body)) => lasting(kind, body, holding),
        Err(why) => problem(&why),
    }
}

/// Whoever tests the daemon hears of an answer that is not as it is described; whoever uses it has the answer.
fn checked(gives: Gives, value: &Value) -> Result<(), String> {
    if cfg!(debug_assertions) { gives.shape().check(value) } else { Ok(()) }
}

/// What is asked, if it is as it should be.
async fn call(
    route: &Route,
    administrator: Administrator,
    path: Vec<String>,
    request: Request,
) -> Result<Call, Problem> {
    let bad = |line: &str| Problem::line("bad-request", line);
    let raw_query = request.uri().query().unwrap_or_default().to_owned();
    let query = query(&raw_query);
    if request.extensions().get::<FromAfar>().is_some() && asks_for_secrets(&query) {
        return Err(bad("secrets are shown at the daemon's own socket alone; ask there"));
    }
    for (name, value) in &query {
        let parameter = route.query.iter().find(|parameter| parameter.name == name);
        let parameter = parameter.ok_or_else(|| {
            let known = route.query.iter().map(|parameter| parameter.name);
            bad(&format!("there is no parameter `{name}`; {}", crate::configuration::finding::suggest(name, known)))
        })?;
        if parameter.takes == Takes::Flag && !["true", "false"].contains(&value.as_str()) {
            return Err(bad(&format!("`{name}` does not take {value:?}; give true or false")));
        }
    }
    let mut body = Value::Null;
    if let Some(name) = route.body {
        let kind =
            request.headers().get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or("application/json");
        if !kind.split(';').next().is_some_and(|kind| kind.trim().eq_ignore_ascii_case("application/json")) {
            return Err(Problem::new(
                "media-type",
                format!("a body is JSON, and not {kind:?}"),
                "send application/json",
            ));
        }
        let most = if name == "NewConfiguration" { BODY_BYTES } else { SMALL_BODY_BYTES };
        let reading = tokio::time::timeout(BODY_TIME, axum::body::to_bytes(request.into_body(), most));
        let bytes = reading
            .await
            .map_err(|_| Problem::new("time", "the body did not come in time", ""))?
            .map_err(|_| Problem::new("too-large", format!("a body has at most {most} bytes"), ""))?;
        body = serde_json::from_slice(&bytes).map_err(|error| bad(&format!("the body is no JSON: {error}")))?;
        Shape::Named(name).check(&body).map_err(|line| bad(&line))?;
        if let Some(text) = nul(&body) {
            return Err(bad(&format!("{text:?} has a character that no configuration can have")));
        }
    }
    Ok(Call { administrator, path, query, raw_query, body })
}

fn asks_for_secrets(query: &[(String, String)]) -> bool {
    query.iter().any(|(name, value)| name == "secrets" && value != "false")
}

/// A text that TOML cannot hold as it is meant here: control characters are nothing for names.
fn nul(value: &Value) -> Option<&str> {
    match value {
        Value::String(text) => text.contains('\0').then_some(text),
        Value::Array(all) => all.iter().find_map(nul),
        Value::Object(all) => all.values().find_map(nul),
        _ => None,
    }
}

/// What stands behind `?`, decoded.
fn query(text: &str) -> Vec<(String, String)> {
    let pairs = text.split('&').filter(|pair| !pair.is_empty());
    pairs
        .map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (decoded(name), decoded(value))
        })
        .collect()
}

/// %-escapes and `+` as the characters that they stand for.
fn decoded(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        let hex = |at: usize| after.get(at).and_then(|byte| (*byte as char).to_digit(16));
        rest = after;
        match (*first, hex(0), hex(1)) {
            (b'%', Some(high), Some(low)) => {
                bytes.push((high * 16 + low) as u8);
                rest = after.get(2..).unwrap_or_default();
            }
            (b'+', ..) => bytes.push(b' '),
            (byte, ..) => bytes.push(byte),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// An error as an answer.
pub fn problem(problem: &Problem) -> Response {
    let status = StatusCode::from_u16(problem.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let value = problem.json();
    debug_assert_eq!(shapes::find("Problem").map(|shape| shape.check(&value)), Some(Ok(())));
    json(status, &value)
}

fn json(status: StatusCode, value: &Value) -> Response {
    let mut response = Response::new(Body::from(value.to_string()));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, axum::http::HeaderValue::from_static("application/json"));
    headers.insert(CACHE_CONTROL, axum::http::HeaderValue::from_static("no-store"));
    response
}

/// Events from now on, as long as somebody reads them.
fn stream(kinds: Vec<String>, holding: Option<Holding>) -> Response {
    static READING: AtomicUsize = AtomicUsize::new(0);
    if READING.fetch_add(1, Ordering::Relaxed) >= READERS {
        READING.fetch_sub(1, Ordering::Relaxed);
        let what = format!("{READERS} read the events already");
        return problem(&Problem::new("busy", what, "let one of them go"));
    }
    // What is on its way to the socket is little: who does not read is behind in the hub, which counts.
    let (sender, receiver) = mpsc::channel::<Bytes>(4);
    let mut events = events::subscribe();
    tokio::spawn(async move {
        let wanted = |event: &Arc<Value>| kinds.is_empty() || kinds.iter().any(|kind| event["kind"] == kind.as_str());
        let mut next = VecDeque::from([events::BREATH.to_owned()]);
        loop {
            while let Some(text) = next.pop_front() {
                // Who reads nothing for so long has lost interest.
                let sent = tokio::time::timeout(STUCK_TIME, sender.send(Bytes::from(text))).await;
                if !matches!(sent, Ok(Ok(()))) {
                    READING.fetch_sub(1, Ordering::Relaxed);
                    return;
                }
            }
            let received = tokio::select! {
                received = tokio::time::timeout(BREATH_TIME, events.recv()) => received,
                () = sender.closed() => Ok(Err(RecvError::Closed)),
            };
            match received {
                Ok(Ok(event)) if wanted(&event) => next.push_back(events::frame(&event)),
                Ok(Ok(_)) => {}
                Ok(Err(RecvError::Lagged(count))) => next.push_back(events::lost(count)),
                Ok(Err(RecvError::Closed)) => break,
                Err(_) => next.push_back(events::BREATH.to_owned()),
            }
        }
        READING.fetch_sub(1, Ordering::Relaxed);
    });
    lasting("text/event-stream", Body::new(Stream(receiver)), holding)
}

/// An answer that goes on as long as it is read, and its connection with it.
fn lasting(kind: &'static str, body: Body, holding: Option<Holding>) -> Response {
    let mut response = Response::new(Body::new(Held::new(body, holding, STUCK_TIME)));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, axum::http::HeaderValue::from_static(kind));
    headers.insert(CACHE_CONTROL, axum::http::HeaderValue::from_static("no-store"));
    response
}

/// A body with what keeps its connection, as long as somebody reads it: who takes nothing of what there is for so long
/// has lost interest, and gives his place to others.
struct Held {
    body: Body,
    keeping: Arc<Mutex<Keeping>>,
}

struct Keeping {
    holding: Option<Holding>,
    /// Since when the reader has not come for more.
    given: Option<Instant>,
}

impl Held {
    fn new(body: Body, holding: Option<Holding>, patience: Duration) -> Held {
        let keeping = Arc::new(Mutex::new(Keeping { holding, given: None }));
        let watched = Arc::downgrade(&keeping);
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(patience / 4).await;
                let Some(keeping) = watched.upgrade() else { return };
                let mut keeping = keeping.lock().unwrap_or_else(PoisonError::into_inner);
                if keeping.given.is_some_and(|given| given.elapsed() > patience) {
                    keeping.holding = None;
                    return;
                }
            }
        });
        Held { body, keeping }
    }
}

impl hyper::body::Body for Held {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let held = self.get_mut();
        let frame = Pin::new(&mut held.body).poll_frame(cx);
        held.keeping.lock().unwrap_or_else(PoisonError::into_inner).given = match frame {
            Poll::Ready(_) => Some(Instant::now()),
            Poll::Pending => None,
        };
        frame
    }
}

/// Events on their way.
struct Stream(mpsc::Receiver<Bytes>);

impl hyper::body::Body for Stream {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.get_mut().0.poll_recv(cx).map(|bytes| bytes.map(|bytes| Ok(Frame::data(bytes))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::poll_fn;

    #[tokio::test]
    async fn who_does_not_come_for_more_keeps_no_place() {
        let patience = Duration::from_millis(200);
        let (sender, receiver) = mpsc::channel(1);
        let busy = Busy::default();
        let mut held = Held::new(Body::new(Stream(receiver)), Some(busy.hold()), patience);
        // One who waits for what has not happened yet stays.
        let more = poll_fn(|cx| Poll::Ready(hyper::body::Body::poll_frame(Pin::new(&mut held), cx).is_pending())).await;
        tokio::time::sleep(patience * 2).await;
        assert!(more && busy.is_held());
        sender.send(Bytes::from_static(b"event")).await.unwrap();
        let frame = poll_fn(|cx| hyper::body::Body::poll_frame(Pin::new(&mut held), cx)).await;
        assert!(frame.is_some() && busy.is_held());
        let end = Instant::now() + Duration::from_secs(10);
        while busy.is_held() && Instant::now() < end {
            tokio::time::sleep(patience / 4).await;
        }
        assert!(!busy.is_held());
    }

    #[test]
    fn chp_18_whoever_asks_for_secrets_is_found_out() {
        for asked in ["secrets=true", "a=b&%73ecrets=tru%65", "secrets=false&secrets=true", "secrets"] {
            assert!(asks_for_secrets(&query(asked)), "{asked}");
        }
        assert!(!asks_for_secrets(&query("secrets=false&session=1")));
    }

    #[test]
    fn what_stands_behind_the_question_mark_is_decoded() {
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(
            query("a=1&b=%5B%3a%3A1%5d&c&d=x+y&%zz=%"),
            [pair("a", "1"), pair("b", "[::1]"), pair("c", ""), pair("d", "x y"), pair("%zz", "%"),]
        );
        assert_eq!(query(""), []);
    }
}
