//! Connections that join a session which is there, or take the place of one of its own (RFC 7143 §6.3.4).
//!
//! The door keeps the socket until the session has said yes: it asks for a place, the session ends what the
//! new connection replaces and answers with its command window, the door sends the last login response and
//! then the socket. Whatever becomes of either side meanwhile, the other learns of it: each holds one end of
//! a channel that the other end's drop closes.

use super::lines::Line;
use super::{Driver, Ended};
use crate::registry::{Arrival, JoinOrder, Place};
use io::link::Link;
use iscsi::login::Status;
use iscsi::session::ConnectionId;
use std::collections::HashSet;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Instant, SystemTime};
use tokio::net::TcpStream;
use tokio::sync::oneshot;

/// A connection on its way into the session.
pub(super) struct Joining {
    cid: u16,
    /// The connection that it replaces.
    replaces: Option<ConnectionId>,
    reinstates: bool,
    stage: Stage,
}

enum Stage {
    /// The door waits for a word.
    Asked(oneshot::Sender<Result<Place, Status>>),
    /// It has the word and sends the socket.
    Placed(oneshot::Receiver<Arrival>),
}

impl Driver {
    /// A login asks for a place in this session.
    pub(super) fn join(&mut self, order: JoinOrder, now: Instant) {
        let JoinOrder { cid, answer } = order;
        if self.dropped || self.leaving.is_some() || self.logged_out {
            let _ = answer.send(Err(Status::SESSION_DOES_NOT_EXIST));
            return;
        }
        // Its own connection of this number needs no room: it goes, or it is gone, or it never came.
        let mut replaces = None;
        let mut reinstates = self.session.lost().any(|lost| lost == cid);
        if let Some(at) = self.joins.iter().position(|joining| joining.cid == cid) {
            let other = self.joins.swap_remove(at);
            replaces = other.replaces;
            reinstates = true;
            if let Stage::Asked(answer) = other.stage {
                let _ = answer.send(Err(Status::INITIATOR_ERROR));
            }
        }
        if let Some(at) = self.lines.iter().position(|line| line.cid == cid) {
            replaces = Some(self.lines.swap_remove(at).c);
            reinstates = true;
        }
        let room = self.session.parameters().max_connections as usize;
        if !reinstates && self.places_taken() >= room {
            let _ = answer.send(Err(Status::TOO_MANY_CONNECTIONS));
            return;
        }
        self.session.reinstate(cid, now);
        if self.recovers() {
            // Its tasks wait for the new connection.
            replaces = None;
        }
        self.joins.push(Joining { cid, replaces, reinstates, stage: Stage::Asked(answer) });
    }

    /// Takes those who join as far as they have come. True: one is here.
    pub(super) fn joins_proceed(&mut self, cx: &mut Context<'_>) -> Result<bool, Ended> {
        if self.joins.is_empty() {
            return Ok(false);
        }
        let (mut at, mut arrived) = (0, false);
        while at < self.joins.len() {
            let joining = &mut self.joins[at];
            if let Stage::Asked(answer) = &mut joining.stage
                && answer.poll_closed(cx).is_ready()
            {
                self.joins.swap_remove(at);
                continue;
            }
            match &mut joining.stage {
                Stage::Asked(_) if joining.replaces.is_some_and(|c| !self.session.is_clear(c)) => at += 1,
                Stage::Asked(_) => {
                    let (seat, arrival) = oneshot::channel();
                    let (exp_cmd_sn, max_cmd_sn) = self.session.numbers();
                    let asked = std::mem::replace(&mut joining.stage, Stage::Placed(arrival));
                    if let Stage::Asked(answer) = asked {
                        // Where the door has gone, its end of the seat is gone as well.
                        let _ = answer.send(Ok(Place { exp_cmd_sn, max_cmd_sn, seat }));
                    }
                }
                Stage::Placed(arrival) => match Pin::new(arrival).poll(cx) {
                    Poll::Pending => at += 1,
                    Poll::Ready(arrival) => {
                        let joined = self.joins.swap_remove(at);
                        if let Ok(arrival) = arrival {
                            arrived |= self.arrive(joined, arrival);
                        }
                    }
                },
            }
        }
        self.go_on("the connection that was to take the place of its only one did not come")?;
        Ok(arrived)
    }

    /// Connections that count against MaxConnections: those that are open, on their way, or lost and may come back.
    fn places_taken(&self) -> usize {
        let known = |cid: u16| {
            self.lines.iter().any(|line| line.cid == cid) || self.joins.iter().any(|joining| joining.cid == cid)
        };
        let lost: HashSet<u16> = self.session.lost().filter(|cid| !known(*cid)).collect();
        self.lines.len() + self.joins.len() + lost.len()
    }

    fn arrive(&mut self, joined: Joining, arrival: Arrival) -> bool {
        let Ok(stream) = TcpStream::from_std(arrival.stream) else { return false };
        let Ok(local) = stream.local_addr() else { return false };
        let (cid, peer, initiator) = (joined.cid, arrival.peer, &*self.initiator);
        let what = if joined.reinstates { "connection reinstated" } else { "connection joined" };
        self.log
            .write(peer, |not_shown| tracing::info!(event = "connection", %peer, cid, %initiator, not_shown, "{what}"));
        let c = self.session.attach(arrival.opening, Instant::now());
        let link = Link::new(stream, Vec::new());
        self.lines.push(Line { link, c, cid, peer, local, since: SystemTime::now() });
        self.watch_by_all();
        true
    }
}
