//! Discovery sessions, served at the door to their end (RFC 7143 §4.3, Appendix C).

use crate::target::{Target, Targets, Viewer};
use io::link::{Link, LinkError, Memory, Placement, Received, Scratch};
use iscsi::login::target::LoggedIn;
use iscsi::name::Name;
use iscsi::session::{Event, Session, SessionKind, SessionLimits, TaskId};
use iscsi::text;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::task::Poll;
use std::time::{Duration, Instant};
use tokio::net::TcpStream;

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

/// There are no tasks, and so there is no memory.
struct NoMemory;

impl Memory for NoMemory {
    fn place(&mut self, _: TaskId, _: u32, _: u32, _: u32) -> Placement<'_> {
        Placement::Gone
    }

    fn payload(&self, _: TaskId, _: u32, _: u32) -> &[u8] {
        &[]
    }
}

/// Serves the session, at most this long.
pub(crate) async fn serve(
    stream: TcpStream,
    logged_in: LoggedIn,
    targets: &Targets,
    viewer: &Viewer,
    time: Duration,
) -> Result<(), LinkError> {
    let local = stream.local_addr()?;
    let limits = SessionLimits { nop_interval: Duration::ZERO, ..SessionLimits::default() };
    let (mut session, c) = Session::new(
        SessionKind::Discovery,
        logged_in.session,
        limits,
        logged_in.exp_cmd_sn,
        logged_in.opening,
        Instant::now(),
    );
    let mut link = Link::new(stream, Vec::new());
    let mut scratch = Scratch::small();
    let work = poll_fn(|cx| {
        loop {
            let mut idle = true;
            let now = Instant::now();
            if !session.congested(c) && !session.wants_close(c) {
                match link.poll_receive(cx, now, &mut session, c, &mut NoMemory, &mut scratch) {
                    Poll::Ready(Ok(Received::Some)) => idle = false,
                    Poll::Ready(Ok(Received::WaitsForMemory)) | Poll::Pending => {}
                    Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                }
            }
            while let Some(event) = session.poll_event() {
                if let Event::SendTargets { connection, value } = event {
                    session.answer_text(connection, &answer(targets, viewer, &value, local));
                }
            }
            match link.poll_transmit(cx, now, &mut session, c, &NoMemory, &mut scratch) {
                Poll::Ready(Ok(())) if session.wants_close(c) => return Poll::Ready(Ok(())),
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Ready(Ok(())) | Poll::Pending => {}
            }
            if idle {
                return Poll::Pending;
            }
        }
    });
    match tokio::time::timeout(time, work).await {
        Ok(Err(LinkError::Closed)) | Err(_) => Ok(()),
        Ok(outcome) => outcome,
    }
}
