//! Discovery sessions, served at the door to their end (RFC 7143 §4.3, Appendix C).

use crate::limits::Limits;
use crate::target::{Target, Targets, Viewer};
use crate::trace::{LinkWatcher, TracedConnection, Traces};
use io::link::tap::Digests;
use io::link::{Link, LinkError, NoMemory, Received, Scratch};
use iscsi::login::target::LoggedIn;
use iscsi::name::Name;
use iscsi::session::{Event, Session, SessionKind, SessionLimits};
use iscsi::text;
use std::collections::HashMap;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::time::{Duration, Instant};
use tokio::net::TcpStream;
use tokio::sync::Notify;

/// Appends a target with its addresses, each with the tag of its portal group.
pub(crate) fn describe(target: &Target, local: SocketAddr, out: &mut Vec<u8>) {
    text::push(out, "TargetName", &target.name);
    for (address, group) in target.addresses(local) {
        text::push(out, "TargetAddress", &format!("{address},{group}"));
    }
}

/// The answer to SendTargets for an initiator in a discovery session: what it may use of what it asks for.
fn answer(targets: &Targets, viewer: &Viewer, value: &str, local: SocketAddr) -> Vec<u8> {
    let mut text = Vec::new();
    let wanted = match value {
        "All" => targets.all(),
        name => {
            let name = Name::lenient(name).ok();
            name.and_then(|name| targets.named(name.as_str())).map_or(&[][..], std::slice::from_ref)
        }
    };
    for target in wanted.iter().filter(|target| targets.shows(target, viewer)) {
        describe(target, local, &mut text);
    }
    text
}

/// What is served, as it is at each question: a discovery session may last.
type Served<'a> = dyn Fn() -> Arc<Targets> + Send + Sync + 'a;

/// The identity of a discovery session (RFC 7143 §7.4.2): one that names no target has the address that it
/// has reached in the place of a portal group.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Identity {
    initiator: String,
    isid: [u8; 6],
    at: At,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum At {
    Address(SocketAddr),
    Target(String, u16),
}

/// The discovery sessions that are there, each with what tells it that another takes its place.
#[derive(Default)]
struct Here(Mutex<HashMap<Identity, Arc<Notify>>>);

/// A session's place among them; it ends with this.
struct Place<'a> {
    here: &'a Here,
    identity: Identity,
    replaced: Arc<Notify>,
}

impl Here {
    /// A place for this session. One of the same identity is told to end.
    fn enter(&self, logged_in: &LoggedIn, local: SocketAddr) -> Place<'_> {
        let asked = &logged_in.asked;
        let identity = Identity {
            initiator: asked.initiator_name.clone(),
            isid: asked.isid,
            at: match &asked.target_name {
                Some(target) => At::Target(target.clone(), logged_in.portal_group_tag),
                None => At::Address(local),
            },
        };
        let replaced = Arc::new(Notify::new());
        if let Some(other) = self.lock().insert(identity.clone(), Arc::clone(&replaced)) {
            other.notify_one();
        }
        Place { here: self, identity, replaced }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Identity, Arc<Notify>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut here = self.here.lock();
        // Unless another has it by now.
        if here.get(&self.identity).is_some_and(|replaced| Arc::ptr_eq(replaced, &self.replaced)) {
            here.remove(&self.identity);
        }
    }
}

/// What discovery sessions share.
pub(crate) struct Discoveries {
    limits: Arc<Limits>,
    here: Here,
    /// Lent to whichever is at work; it is held for no longer than that.
    scratch: Mutex<Scratch>,
}

impl Discoveries {
    pub fn new(limits: &Arc<Limits>) -> Discoveries {
        Discoveries { limits: Arc::clone(limits), here: Here::default(), scratch: Mutex::new(Scratch::small()) }
    }

    /// Serves a session, as long as it may take.
    pub async fn serve(
        &self,
        stream: TcpStream,
        peer: SocketAddr,
        logged_in: LoggedIn,
        targets: &Served<'_>,
        viewer: &Viewer,
        traces: &Traces,
    ) -> Result<(), LinkError> {
        let local = stream.local_addr()?;
        let place = self.here.enter(&logged_in, local);
        let link = watched(stream, peer, &logged_in, traces)?;
        let session = serve(link, logged_in, local, targets, viewer, &self.limits.session, &self.scratch);
        let work = async {
            tokio::select! {
                biased;
                () = place.replaced.notified() => Ok(()),
                outcome = session => outcome,
            }
        };
        match tokio::time::timeout(self.limits.discovery_time, work).await {
            Ok(Err(LinkError::Closed)) => Ok(()),
            Ok(outcome) => outcome,
            Err(_) => {
                self.limits.struck.discovery_time.count();
                Ok(())
            }
        }
    }
}

/// The link of a session, with those who watch it.
fn watched(stream: TcpStream, peer: SocketAddr, logged_in: &LoggedIn, traces: &Traces) -> Result<Link, LinkError> {
    let (local, asked) = (stream.local_addr()?, &logged_in.asked);
    let mut link = Link::new(stream, Vec::new());
    for tracer in traces.all() {
        let parameters = &logged_in.opening.parameters;
        let digests = Digests { header: parameters.header_digest, data: parameters.data_digest };
        let connection = TracedConnection {
            number: 0,
            login: false,
            initiator: Some(asked.initiator_name.clone()),
            target: asked.target_name.clone(),
            session: None,
            cid: Some(asked.cid),
            peer,
            local,
            digests,
        };
        if let Some(watcher) = LinkWatcher::new(&tracer, connection) {
            link.watch(tracer.number(), digests, Box::new(watcher));
        }
    }
    Ok(link)
}

async fn serve(
    mut link: Link,
    logged_in: LoggedIn,
    local: SocketAddr,
    targets: &Served<'_>,
    viewer: &Viewer,
    limits: &SessionLimits,
    scratch: &Mutex<Scratch>,
) -> Result<(), LinkError> {
    let limits = SessionLimits { nop_interval: Duration::ZERO, ..limits.clone() };
    let (mut session, c) = Session::new(
        SessionKind::Discovery,
        logged_in.session,
        limits,
        logged_in.exp_cmd_sn,
        logged_in.opening,
        Instant::now(),
    );
    poll_fn(|cx| {
        let scratch = &mut *scratch.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            let mut idle = true;
            let now = Instant::now();
            let asked = session.poll_event();
            let answered = asked.is_some();
            if let Some(Event::SendTargets { connection, value }) = asked {
                session.answer_text(connection, &answer(&targets(), viewer, &value, local));
            } else if !answered && !session.congested(c) && !session.wants_close(c) {
                match link.poll_receive(cx, now, &mut session, c, &mut NoMemory, scratch) {
                    Poll::Ready(Ok(Received::Some)) => idle = false,
                    Poll::Ready(Ok(Received::WaitsForMemory)) | Poll::Pending => {}
                    Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                }
            }
            match link.poll_transmit(cx, now, &mut session, c, &NoMemory, scratch) {
                Poll::Ready(Ok(())) if session.wants_close(c) => return Poll::Ready(Ok(())),
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Ready(Ok(())) | Poll::Pending => {}
            }
            if answered {
                // An answer can be long work: whoever asks on and on has his turn after the others.
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            if idle {
                return Poll::Pending;
            }
        }
    })
    .await
}
