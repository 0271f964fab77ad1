//! Who watches PDUs pass: sessions, discovery, logins. What is watched is copied and waits for whoever reads it, in
//! bounded memory: a PDU for which there is no room is counted and not told, and no command waits for a reader.
//!
//! Without a watcher a session pays nothing but the link's look at an empty list, and a login one relaxed load.

mod login;

pub(crate) use login::LoginWatch;

use io::link::tap::{Digests, Direction, Passed, Watcher, Wish};
use iscsi::wire::Opcode;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::SystemTime;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

/// Watchers at a time.
pub const TRACES: usize = 4;
/// Bytes that wait for one that reads slowly.
pub const TRACE_BYTES: usize = 16 << 20;
/// What a PDU costs besides its bytes.
const OVERHEAD_BYTES: usize = 128;

/// Whose PDUs are wanted, and how much of them. What is `None` is not asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TraceWish {
    /// The session with this TSIH.
    pub session: Option<u16>,
    /// Sessions, discovery and logins of the initiator with this name.
    pub initiator: Option<String>,
    /// Sessions and logins at the target of this name.
    pub target: Option<String>,
    /// A bit for each opcode (RFC 7143 §11.2.1.2).
    pub opcodes: u64,
    /// Bytes of a data segment that are kept, where it carries what is read and written. Text, sense data and
    /// the headers of rejected PDUs are kept whole.
    pub data_bytes: usize,
    /// Whether what proves the knowledge of a secret is told as well (CHAP_R).
    pub secrets: bool,
}

impl Default for TraceWish {
    fn default() -> Self {
        TraceWish { session: None, initiator: None, target: None, opcodes: u64::MAX, data_bytes: 0, secrets: false }
    }
}

/// A connection of which something is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TracedConnection {
    /// Its number in this trace; a login and the session that it leads to have different ones.
    pub number: u64,
    /// Whether it is in its login; else in the full feature phase.
    pub login: bool,
    /// The initiator's name, once it was said.
    pub initiator: Option<String>,
    /// The target's name; none in discovery.
    pub target: Option<String>,
    /// The session's TSIH; none in a login or in discovery.
    pub session: Option<u16>,
    /// The connection's number in its session.
    pub cid: Option<u16>,
    /// The initiator's address.
    pub peer: SocketAddr,
    /// Ours.
    pub local: SocketAddr,
    /// Which digests it carries.
    pub digests: Digests,
}

/// A PDU that has passed.
#[derive(Debug)]
pub struct Traced {
    /// When its last byte did.
    pub when: SystemTime,
    /// Where.
    pub connection: Arc<TracedConnection>,
    /// What.
    pub passed: Passed,
    cost: usize,
}

/// The writing end of a trace.
pub(crate) struct Tracer {
    number: u64,
    wish: TraceWish,
    over: AtomicBool,
    waiting_bytes: AtomicUsize,
    missed: AtomicU64,
    connections: AtomicU64,
    /// Taps that are on.
    watching: AtomicUsize,
    /// Nothing: the session that was asked for has no connection any more.
    traced: UnboundedSender<Option<Traced>>,
}

impl Tracer {
    /// The name of the tap.
    pub fn number(&self) -> u64 {
        self.number
    }

    fn next_connection(&self) -> u64 {
        self.connections.fetch_add(1, Ordering::Relaxed) + 1
    }

    fn matches(&self, session: Option<u16>, initiator: Option<&str>, target: Option<&str>) -> bool {
        let same = |wanted: &Option<String>, is: Option<&str>| {
            wanted.as_deref().is_none_or(|wanted| is.is_some_and(|is| is.eq_ignore_ascii_case(wanted)))
        };
        self.wish.session.is_none_or(|wanted| session == Some(wanted))
            && same(&self.wish.initiator, initiator)
            && same(&self.wish.target, target)
    }

    /// How much of the data segment of a PDU with this opcode is kept; `None` where nobody asks for it.
    fn wanted(&self, opcode: u8) -> Option<usize> {
        let asked = self.wish.opcodes >> (opcode & 0x3f) & 1 == 1;
        let payload = [Opcode::ScsiCommand, Opcode::DataOut, Opcode::DataIn, Opcode::NopOut, Opcode::NopIn];
        let is_payload = payload.iter().any(|payload| *payload as u8 == opcode);
        asked.then_some(if is_payload { self.wish.data_bytes } else { usize::MAX })
    }

    /// Room for so many bytes, which is given back when the PDU has been read. Without any it is counted as missed.
    fn reserve(&self, bytes: usize) -> Option<usize> {
        let cost = bytes + OVERHEAD_BYTES;
        let taken = self.waiting_bytes.fetch_add(cost, Ordering::Relaxed);
        if taken + cost <= TRACE_BYTES {
            return Some(cost);
        }
        self.waiting_bytes.fetch_sub(cost, Ordering::Relaxed);
        self.missed.fetch_add(1, Ordering::Relaxed);
        None
    }

    fn give_back(&self, cost: usize) {
        self.waiting_bytes.fetch_sub(cost, Ordering::Relaxed);
    }

    fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }
}

/// A trace, for whoever reads it. When it is dropped all taps come off by themselves.
pub struct Trace {
    tracer: Arc<Tracer>,
    traced: UnboundedReceiver<Option<Traced>>,
    traces: Arc<Traces>,
    ended: bool,
    /// Open connections of sessions that are watched from the start.
    pub connections: usize,
}

impl Trace {
    /// The next PDU; nothing where the session that was asked for has no connection any more.
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Traced>> {
        if self.ended {
            return Poll::Ready(None);
        }
        let polled = self.traced.poll_recv(cx).map(Option::flatten);
        self.ended = matches!(polled, Poll::Ready(None));
        if let Poll::Ready(Some(traced)) = &polled {
            self.tracer.give_back(traced.cost);
        }
        polled
    }

    /// PDUs that were asked for and not told since there was no room for them.
    pub fn missed(&self) -> u64 {
        self.tracer.missed.load(Ordering::Relaxed)
    }
}

impl Drop for Trace {
    fn drop(&mut self) {
        self.tracer.over.store(true, Ordering::Relaxed);
        let mut all = self.traces.lock();
        all.retain(|tracer| !Arc::ptr_eq(tracer, &self.tracer));
        self.traces.active.store(all.len(), Ordering::Relaxed);
    }
}

/// Those who watch.
#[derive(Default)]
pub(crate) struct Traces {
    all: Mutex<Vec<Arc<Tracer>>>,
    active: AtomicUsize,
    begun: AtomicU64,
}

impl Traces {
    /// One more; `None` where there are as many as may be. Connections that come from now on are told.
    pub fn begin(self: &Arc<Traces>, wish: TraceWish) -> Option<Trace> {
        let mut all = self.lock();
        if all.len() >= TRACES {
            return None;
        }
        let (sender, traced) = unbounded_channel();
        let tracer = Arc::new(Tracer {
            number: self.begun.fetch_add(1, Ordering::Relaxed),
            wish,
            over: AtomicBool::new(false),
            waiting_bytes: AtomicUsize::new(0),
            missed: AtomicU64::new(0),
            connections: AtomicU64::new(0),
            watching: AtomicUsize::new(0),
            traced: sender,
        });
        all.push(Arc::clone(&tracer));
        self.active.store(all.len(), Ordering::Relaxed);
        drop(all);
        Some(Trace { tracer, traced, traces: Arc::clone(self), ended: false, connections: 0 })
    }

    /// All that watch now.
    pub fn all(&self) -> Vec<Arc<Tracer>> {
        match self.active.load(Ordering::Relaxed) {
            0 => Vec::new(),
            _ => self.lock().clone(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Arc<Tracer>>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Trace {
    pub(crate) fn tracer(&self) -> Arc<Tracer> {
        Arc::clone(&self.tracer)
    }
}

/// The tap of one trace at one link.
pub(crate) struct LinkWatcher {
    tracer: Arc<Tracer>,
    connection: Arc<TracedConnection>,
    /// What is reserved for the PDU under way, received and sent.
    reserved: [usize; 2],
}

impl LinkWatcher {
    /// For this connection, where the trace asks for it. Its number is given here.
    pub fn new(tracer: &Arc<Tracer>, mut connection: TracedConnection) -> Option<LinkWatcher> {
        let TracedConnection { session, initiator, target, .. } = &connection;
        if tracer.is_over() || !tracer.matches(*session, initiator.as_deref(), target.as_deref()) {
            return None;
        }
        connection.number = tracer.next_connection();
        tracer.watching.fetch_add(1, Ordering::Relaxed);
        Some(LinkWatcher { tracer: Arc::clone(tracer), connection: Arc::new(connection), reserved: [0; 2] })
    }
}

impl Watcher for LinkWatcher {
    fn begins(&mut self, direction: Direction, header: &[u8], rest: usize) -> Wish {
        let opcode = header.first().map_or(0, |byte| byte & 0x3f);
        let Some(keep) = self.tracer.wanted(opcode) else { return Wish::Pass };
        match self.tracer.reserve(header.len() + keep.min(rest)) {
            Some(cost) => {
                self.reserved[direction as usize] = cost;
                Wish::Keep(keep)
            }
            None => Wish::Pass,
        }
    }

    fn passed(&mut self, passed: Passed) {
        let cost = std::mem::take(&mut self.reserved[passed.direction as usize]);
        let connection = Arc::clone(&self.connection);
        // A reader that has gone takes its room with it.
        let _ = self.tracer.traced.send(Some(Traced { when: SystemTime::now(), connection, passed, cost }));
    }

    fn is_over(&self) -> bool {
        self.tracer.is_over()
    }
}

impl Drop for LinkWatcher {
    fn drop(&mut self) {
        self.reserved.iter().for_each(|cost| self.tracer.give_back(*cost));
        let last = self.tracer.watching.fetch_sub(1, Ordering::Relaxed) == 1;
        if last && self.tracer.wish.session.is_some() {
            let _ = self.tracer.traced.send(None);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connection(session: u16, initiator: &str) -> TracedConnection {
        TracedConnection {
            number: 0,
            login: false,
            initiator: Some(initiator.into()),
            target: Some("iqn.2026-01.org.example:disk".into()),
            session: Some(session),
            cid: Some(0),
            peer: "192.0.2.1:50000".parse().unwrap(),
            local: "192.0.2.2:3260".parse().unwrap(),
            digests: Digests::default(),
        }
    }

    fn next(trace: &mut Trace) -> Option<Traced> {
        match trace.poll_next(&mut Context::from_waker(std::task::Waker::noop())) {
            Poll::Ready(traced) => traced,
            Poll::Pending => None,
        }
    }

    fn passes(watcher: &mut LinkWatcher, opcode: u8, data: usize) -> bool {
        let wish = watcher.begins(Direction::Received, &[opcode; 48], data);
        if let Wish::Keep(_) = wish {
            let passed = Passed { direction: Direction::Received, offset: 0, length: 48, bytes: vec![opcode; 48] };
            watcher.passed(passed);
        }
        wish != Wish::Pass
    }

    #[test]
    fn what_was_asked_for_is_told_and_nothing_else() {
        let traces = Arc::new(Traces::default());
        let wish = TraceWish { session: Some(7), opcodes: 1 << 0x01, ..TraceWish::default() };
        let trace = traces.begin(wish).unwrap();
        let tracer = trace.tracer();
        assert!(LinkWatcher::new(&tracer, connection(8, "iqn.a")).is_none());
        let mut watcher = LinkWatcher::new(&tracer, connection(7, "iqn.a")).unwrap();
        assert!(passes(&mut watcher, 0x41, 0), "an immediate command is a command");
        assert!(!passes(&mut watcher, 0x05, 0));
        let by_name = traces.begin(TraceWish { initiator: Some("IQN.A".into()), ..TraceWish::default() }).unwrap();
        assert!(LinkWatcher::new(&by_name.tracer(), connection(7, "iqn.b")).is_none());
        assert!(LinkWatcher::new(&by_name.tracer(), connection(7, "iqn.a")).is_some());
    }

    #[test]
    fn what_nobody_reads_is_bounded_counted_and_makes_room_when_it_is_read() {
        let traces = Arc::new(Traces::default());
        let mut trace = traces.begin(TraceWish { data_bytes: usize::MAX, ..TraceWish::default() }).unwrap();
        let mut watcher = LinkWatcher::new(&trace.tracer(), connection(1, "iqn.a")).unwrap();
        let told = (0..100).filter(|_| passes(&mut watcher, 0x05, 1 << 20)).count();
        assert_eq!((told, trace.missed()), (15, 85));
        assert!(next(&mut trace).is_some());
        assert!(passes(&mut watcher, 0x05, 1 << 20));
        let begun = watcher.begins(Direction::Received, &[0; 48], 0);
        assert_ne!(begun, Wish::Pass);
        drop(watcher);
        while next(&mut trace).is_some() {}
        assert_eq!(trace.tracer.waiting_bytes.load(Ordering::Relaxed), 0, "what had begun gives its room back");
    }

    #[test]
    fn the_trace_of_a_session_ends_with_its_last_connection() {
        let traces = Arc::new(Traces::default());
        let mut trace = traces.begin(TraceWish { session: Some(1), ..TraceWish::default() }).unwrap();
        let watchers = [1, 2].map(|_| LinkWatcher::new(&trace.tracer(), connection(1, "iqn.a")).unwrap());
        let mut cx = Context::from_waker(std::task::Waker::noop());
        let [one, two] = watchers;
        drop(one);
        assert!(trace.poll_next(&mut cx).is_pending());
        drop(two);
        assert!(matches!(trace.poll_next(&mut cx), Poll::Ready(None)));
    }

    #[test]
    fn watchers_are_bounded_and_gone_when_they_go() {
        let traces = Arc::new(Traces::default());
        let mut all: Vec<_> = (0..TRACES).filter_map(|_| traces.begin(TraceWish::default())).collect();
        assert!(traces.begin(TraceWish::default()).is_none());
        let first = all.remove(0);
        let watcher = LinkWatcher::new(&first.tracer(), connection(1, "iqn.a")).unwrap();
        drop(first);
        assert!(watcher.is_over());
        assert!(traces.begin(TraceWish::default()).is_some());
        all.clear();
        assert_eq!(traces.all().len(), 0);
    }
}
