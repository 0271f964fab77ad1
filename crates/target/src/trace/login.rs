//! A login as a trace sees it: told once the initiator has said its name, since that may be what is asked for.

use super::{LinkWatcher, Traced, TracedConnection, Tracer, Traces};
use io::link::tap::{Digests, Direction, Passed};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::SystemTime;

/// PDUs that wait for a name; whoever says none in so many is told as nobody.
const HELD: usize = 8;
/// Keys whose values prove the knowledge of a secret, and can be tried against guesses (RFC 7143 §12.1.3).
const SECRET: &[&[u8]] = &[b"CHAP_R"];

/// A login that is watched.
pub(crate) struct LoginWatch {
    connection: TracedConnection,
    asked: Vec<Arc<Tracer>>,
    told: Option<Vec<(Arc<Tracer>, Arc<TracedConnection>)>>,
    held: Vec<Held>,
    /// Bytes that went before, received and sent.
    offsets: [u64; 2],
    hiders: [Hider; 2],
}

struct Held {
    when: SystemTime,
    passed: Passed,
    hidden: Vec<u8>,
}

impl LoginWatch {
    /// Of this connection; `None` where nobody watches.
    pub fn new(traces: &Traces, peer: SocketAddr, local: Option<SocketAddr>) -> Option<Box<LoginWatch>> {
        // A session is known by its number only when the login is over.
        let asked: Vec<_> = traces.all().into_iter().filter(|tracer| tracer.wish.session.is_none()).collect();
        if asked.is_empty() {
            return None;
        }
        let connection = TracedConnection {
            number: 0,
            login: true,
            initiator: None,
            target: None,
            session: None,
            cid: None,
            peer,
            local: local?,
            digests: Digests::default(),
        };
        let hiders = [Hider::default(), Hider::default()];
        Some(Box::new(LoginWatch { connection, asked, told: None, held: Vec::new(), offsets: [0; 2], hiders }))
    }

    /// A request has come.
    pub fn received(&mut self, header: &[u8], data: &[u8]) {
        for (key, value) in iscsi::text::pairs(data).flatten() {
            let name = match key {
                "InitiatorName" => &mut self.connection.initiator,
                "TargetName" => &mut self.connection.target,
                _ => continue,
            };
            name.get_or_insert_with(|| value.to_owned());
        }
        let mut bytes = [header, data].concat();
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        self.take(Direction::Received, bytes);
        let named = self.connection.initiator.is_some();
        if self.told.is_none() && (named || self.held.len() >= HELD) {
            let TracedConnection { initiator, target, .. } = &self.connection;
            let matching = |tracer: &Arc<Tracer>| tracer.matches(None, initiator.as_deref(), target.as_deref());
            let watches = |tracer: Arc<Tracer>| LinkWatcher::new(&tracer, self.connection.clone());
            let told = std::mem::take(&mut self.asked).into_iter().filter(matching).filter_map(watches);
            self.told = Some(told.map(|watch| (Arc::clone(&watch.tracer), Arc::clone(&watch.connection))).collect());
        }
        self.tell();
    }

    /// An answer was given: one PDU or several.
    pub fn sent(&mut self, mut answer: &[u8]) {
        while let Some(header) = answer.first_chunk::<48>() {
            let length = u32::from_be_bytes([0, header[5], header[6], header[7]]) as usize;
            let whole = (48 + length.next_multiple_of(4)).min(answer.len());
            let (one, behind) = answer.split_at(whole);
            self.take(Direction::Sent, one.to_vec());
            answer = behind;
        }
        self.tell();
    }

    fn take(&mut self, direction: Direction, bytes: Vec<u8>) {
        let length = bytes.len() as u32;
        let offset = self.offsets[direction as usize];
        self.offsets[direction as usize] += u64::from(length);
        let mut hidden = bytes.clone();
        let data_bytes = u32::from_be_bytes([0, bytes[5], bytes[6], bytes[7]]) as usize;
        let continues = bytes[1] & 0x40 != 0;
        if let Some(text) = hidden.get_mut(48..48 + data_bytes) {
            self.hiders[direction as usize].hide(text, continues);
        }
        let passed = Passed { direction, offset, length, bytes };
        self.held.push(Held { when: SystemTime::now(), passed, hidden });
    }

    fn tell(&mut self) {
        let Some(told) = &self.told else { return };
        for Held { when, passed, hidden } in self.held.drain(..) {
            let opcode = passed.bytes.first().map_or(0, |byte| byte & 0x3f);
            for (tracer, connection) in told.iter().filter(|(tracer, _)| tracer.wanted(opcode).is_some()) {
                let Some(cost) = tracer.reserve(passed.bytes.len()) else { continue };
                let bytes = if tracer.wish.secrets { passed.bytes.clone() } else { hidden.clone() };
                let passed = Passed { bytes, ..passed };
                let connection = Arc::clone(connection);
                let _ = tracer.traced.send(Some(Traced { when, connection, passed, cost }));
            }
        }
    }
}

/// Puts asterisks in the place of secret values, also where a pair is spread over several PDUs.
#[derive(Default)]
struct Hider {
    key: Vec<u8>,
    in_value: bool,
}

impl Hider {
    fn hide(&mut self, text: &mut [u8], continues: bool) {
        for byte in text {
            match (*byte, self.in_value) {
                (0, _) => *self = Hider::default(),
                (b'=', false) => self.in_value = true,
                // Longer than any key: it is none.
                (other, false) if self.key.len() < 64 => self.key.push(other),
                (_, false) => {}
                (_, true) if SECRET.contains(&&*self.key) => *byte = b'*',
                (_, true) => {}
            }
        }
        if !continues {
            *self = Hider::default();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::TraceWish;
    use super::*;
    use std::task::{Context, Poll, Waker};

    fn request(text: &[u8], continues: bool) -> ([u8; 48], Vec<u8>) {
        let mut header = [0; 48];
        header[0] = 0x43;
        header[1] = if continues { 0x40 } else { 0 };
        header[7] = text.len() as u8;
        (header, text.to_vec())
    }

    fn all(trace: &mut super::super::Trace) -> Vec<Vec<u8>> {
        let mut cx = Context::from_waker(Waker::noop());
        let mut seen = Vec::new();
        while let Poll::Ready(Some(traced)) = trace.poll_next(&mut cx) {
            seen.push(traced.passed.bytes[48..].to_vec());
        }
        seen
    }

    #[test]
    fn a_login_is_told_once_it_is_named_and_its_proof_is_hidden_unless_asked() {
        let traces = Arc::new(Traces::default());
        let wish = TraceWish { initiator: Some("iqn.a".into()), ..TraceWish::default() };
        let mut hidden = traces.begin(wish.clone()).unwrap();
        let mut shown = traces.begin(TraceWish { secrets: true, ..wish.clone() }).unwrap();
        let mut other = traces.begin(TraceWish { initiator: Some("iqn.b".into()), ..wish }).unwrap();
        let at = "192.0.2.1:1".parse().unwrap();
        let mut watch = LoginWatch::new(&traces, at, Some(at)).unwrap();
        // The pair is spread over two requests, the name comes with the second.
        for (text, continues) in [(&b"CHAP_N=me\0CHAP_"[..], true), (b"R=0x1234\0InitiatorName=iqn.a\0", false)] {
            let (header, data) = request(text, continues);
            watch.received(&header, &data);
        }
        assert_eq!(all(&mut other).len(), 0);
        let texts = all(&mut hidden).concat();
        let text = String::from_utf8(texts).unwrap();
        assert!(text.contains("CHAP_N=me\0") && text.contains("R=******\0InitiatorName=iqn.a"), "{text:?}");
        assert!(String::from_utf8(all(&mut shown).concat()).unwrap().contains("R=0x1234"));
        let (mut answer, _) = request(b"", false);
        answer[0] = 0x23;
        watch.sent(&[answer, answer].concat());
        assert_eq!(all(&mut hidden).len(), 2, "each PDU of an answer");
    }

    #[test]
    fn a_login_costs_nothing_where_only_a_session_is_watched() {
        let traces = Arc::new(Traces::default());
        let _trace = traces.begin(TraceWish { session: Some(1), ..TraceWish::default() }).unwrap();
        let at = "192.0.2.1:1".parse().unwrap();
        assert!(LoginWatch::new(&traces, at, Some(at)).is_none());
    }
}
