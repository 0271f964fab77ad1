//! `GET /v1/trace`: PDUs as they pass, a JSON object a line, for as long as somebody reads.
//!
//! Asked for by `session`, `initiator`, `target` (whose), `opcodes` (numbers with commas between), `data` (bytes of
//! data segments, 0 where nothing is said) and `secrets=true`. The first line says that the taps are on.

use super::problem::Problem;
use super::route::{Answer, Call, Reply};
use axum::body::Body;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use hyper::body::Frame;
use io::link::tap::Direction;
use serde_json::{Value, json};
use std::collections::HashSet;
use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::UNIX_EPOCH;
use target::{TRACES, Trace, TraceWish, Traced, TracedConnection};

/// Bytes of an answer that are put together before they are sent.
const CHUNK_BYTES: usize = 64 << 10;
/// Connections that are remembered as told.
const TOLD: usize = 65_536;

/// Serves it.
pub(super) async fn route(call: Call) -> Answer {
    let wish = wish(&call.raw_query).map_err(|why| Problem::new("bad-request", why, ""))?;
    let session = wish.session;
    let trace = call.administrator.door().trace(wish).await.ok_or_else(|| {
        Problem::new("busy", format!("{TRACES} traces run already, which is the most"), "end one of them")
    })?;
    if let Some(session) = session.filter(|_| trace.connections == 0) {
        let what = format!("there is no session {session}");
        return Err(Problem::not_found(what, "`lunette session list` lists them"));
    }
    let first = line(&json!({ "type": "start", "connections": trace.connections }));
    let body = Body::new(Lines { trace, told: HashSet::new(), missed: 0, first });
    Ok(Reply::Stream("application/x-ndjson", body))
}

fn wish(query: &str) -> Result<TraceWish, String> {
    let mut wish = TraceWish::default();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        let value = decoded(value).ok_or_else(|| format!("{key}: its value is no text"))?;
        let wrong = |what: &str| format!("{key}={value}: is not {what}");
        match key {
            "session" => wish.session = Some(value.parse().map_err(|_| wrong("a session's number, 1 to 65535"))?),
            "initiator" => wish.initiator = Some(value),
            "target" => wish.target = Some(value),
            "data" => wish.data_bytes = value.parse().map_err(|_| wrong("a number of bytes"))?,
            "secrets" => wish.secrets = value.parse().map_err(|_| wrong("true or false"))?,
            "opcodes" => {
                wish.opcodes = 0;
                for opcode in value.split(',') {
                    let number = opcode.parse::<u8>().ok().filter(|number| *number < 64);
                    wish.opcodes |= 1 << number.ok_or_else(|| wrong("opcodes, 0 to 63, with commas between"))?;
                }
            }
            _ => {
                return Err(format!("{key}: is unknown; there are session, initiator, target, opcodes, data, secrets"));
            }
        }
    }
    Ok(wish)
}

/// Percent-decoded (RFC 3986 §2.1).
fn decoded(value: &str) -> Option<String> {
    let mut bytes = value.bytes();
    let mut out = Vec::new();
    while let Some(byte) = bytes.next() {
        out.push(match byte {
            b'%' => {
                let digits = [bytes.next()?, bytes.next()?];
                u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()?
            }
            byte => byte,
        });
    }
    String::from_utf8(out).ok()
}

/// The answer's body.
struct Lines {
    trace: Trace,
    /// Connections that were told.
    told: HashSet<u64>,
    missed: u64,
    first: String,
}

impl Lines {
    fn write(&mut self, out: &mut String, traced: &Traced) {
        let connection = &traced.connection;
        if !self.told.contains(&connection.number) {
            // To tell one again does no harm.
            if self.told.len() >= TOLD {
                self.told.clear();
            }
            self.told.insert(connection.number);
            *out += &line(&self::connection(connection));
        }
        let microseconds = traced.when.duration_since(UNIX_EPOCH).unwrap_or_default().as_micros() as u64;
        let from = match traced.passed.direction {
            Direction::Received => "initiator",
            Direction::Sent => "target",
        };
        *out += &line(&json!({
            "type": "pdu",
            "connection": connection.number,
            "time_us": microseconds,
            "from": from,
            "offset": traced.passed.offset,
            "length": traced.passed.length,
            "bytes": STANDARD.encode(&traced.passed.bytes),
        }));
    }
}

fn line(value: &Value) -> String {
    format!("{value}\n")
}

fn connection(connection: &TracedConnection) -> Value {
    json!({
        "type": "connection",
        "connection": connection.number,
        "login": connection.login,
        "initiator": connection.initiator,
        "target": connection.target,
        "session": connection.session,
        "cid": connection.cid,
        "peer": connection.peer.to_string(),
        "local": connection.local.to_string(),
        "header_digest": connection.digests.header,
        "data_digest": connection.digests.data,
    })
}

impl hyper::body::Body for Lines {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let lines = self.get_mut();
        let mut out = std::mem::take(&mut lines.first);
        let mut ended = false;
        while out.len() < CHUNK_BYTES {
            match lines.trace.poll_next(cx) {
                Poll::Ready(Some(traced)) => lines.write(&mut out, &traced),
                Poll::Ready(None) => {
                    ended = true;
                    break;
                }
                Poll::Pending => break,
            }
        }
        let missed = lines.trace.missed();
        if missed > lines.missed {
            out += &line(&json!({ "type": "missed", "pdus": missed - lines.missed }));
            lines.missed = missed;
        }
        match (out.is_empty(), ended) {
            (false, _) => Poll::Ready(Some(Ok(Frame::data(out.into())))),
            (true, true) => Poll::Ready(None),
            (true, false) => Poll::Pending,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_for_is_read_and_what_is_not_understood_is_told() {
        let asked = wish("session=7&initiator=iqn.2026-01.org.example%3aa&opcodes=1,33&data=512&secrets=true").unwrap();
        let expected = TraceWish {
            session: Some(7),
            initiator: Some("iqn.2026-01.org.example:a".into()),
            target: None,
            opcodes: 1 << 1 | 1 << 33,
            data_bytes: 512,
            secrets: true,
        };
        assert_eq!(asked, expected);
        assert_eq!(wish("").unwrap(), TraceWish::default());
        for (query, part) in [
            ("session=x", "session's number"),
            ("opcodes=64", "0 to 63"),
            ("lun=1", "is unknown"),
            ("data=%zz", "no text"),
            ("secrets=1", "true or false"),
        ] {
            assert!(wish(query).unwrap_err().contains(part), "{query}");
        }
    }
}
