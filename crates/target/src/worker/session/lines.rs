//! The connections of a session that are open: each a socket, all of them driven by the session's one task.
//!
//! A socket that is not ready costs no system call: the runtime knows. In a turn every line is read before
//! the lane runs, so that what the connections bring together is one batch, and then each sends its answers.

use super::{Driver, Ended};
use crate::worker::Shared;
use crate::worker::pacing::ticks;
use io::link::{Link, LinkError, Received, Scratch};
use iscsi::session::ConnectionId;
use std::cell::RefCell;
use std::net::SocketAddr;
use std::task::{Context, Poll};
use std::time::{Duration, Instant, SystemTime};

/// Reads of a session, on whichever of its lines, before others get their turn.
const TURNS: usize = 8;

/// How long a peer may take to hang up after it was told that its connection is dropped.
const LINGER: Duration = Duration::from_millis(500);

/// An open connection.
pub(super) struct Line {
    pub link: Link,
    pub c: ConnectionId,
    pub cid: u16,
    pub peer: SocketAddr,
    pub local: SocketAddr,
    pub since: SystemTime,
}

impl Driver {
    /// One turn of the session's connections; ready with the reason for its end.
    pub(super) fn turn(cx: &mut Context<'_>, shared: &Shared, driver: &RefCell<Driver>) -> Poll<Ended> {
        // Nobody has to wake a session that is at work.
        driver.borrow_mut().waker = None;
        if driver.borrow().is_written() {
            // It is another's now, or about to be.
            driver.borrow_mut().waker = Some(cx.waker().clone());
            return Poll::Pending;
        }
        let mut budget = TURNS;
        while budget > 0 {
            let now = Instant::now();
            let idle = {
                // What comes now came now.
                shared.lane.borrow_mut().at(ticks(now));
                let driver = &mut *driver.borrow_mut();
                let received = driver.receive(cx, now, &mut shared.scratch.borrow_mut(), &mut budget);
                let idle = match received {
                    Ok(idle) => idle,
                    Err((at, error)) => match driver.lose(at, Ended::Link(error), now) {
                        Ok(()) => false,
                        Err(ended) => return Poll::Ready(ended),
                    },
                };
                driver.events(shared);
                idle
            };
            shared.pump();
            // What completed at once may have told the core more.
            driver.borrow_mut().events(shared);
            shared.pump();
            let driver = &mut *driver.borrow_mut();
            driver.drop_when_due(now);
            if driver.dropped && driver.lines.is_empty() {
                return Poll::Ready(driver.reason());
            }
            if let Err(ended) = driver.transmit(cx, now, &mut shared.scratch.borrow_mut()) {
                return Poll::Ready(ended);
            }
            driver.events(shared);
            shared.pass_relief();
            if idle {
                driver.waker = Some(cx.waker().clone());
                return Poll::Pending;
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Reads every line once, as far as the budget goes; who is left over is first the next time. True: all
    /// are idle. An error is that of the line at this place.
    fn receive(
        &mut self,
        cx: &mut Context<'_>,
        now: Instant,
        scratch: &mut Scratch,
        budget: &mut usize,
    ) -> Result<bool, (usize, LinkError)> {
        let mut idle = true;
        let mut at = self.first;
        for _ in 0..self.lines.len() {
            if at >= self.lines.len() {
                at = 0;
            }
            if *budget == 0 {
                break;
            }
            let line = &mut self.lines[at];
            if !self.session.congested(line.c) && !self.session.wants_close(line.c) {
                match line.link.poll_receive(cx, now, &mut self.session, line.c, &mut self.memory, scratch) {
                    Poll::Ready(Ok(Received::Some)) => {
                        *budget -= 1;
                        idle = false;
                    }
                    Poll::Ready(Ok(Received::WaitsForMemory)) | Poll::Pending => {}
                    Poll::Ready(Err(error)) => return Err((at, error)),
                }
            }
            at += 1;
        }
        self.first = at;
        Ok(idle)
    }

    /// Sends what there is on every line, and closes those on which all was said.
    fn transmit(&mut self, cx: &mut Context<'_>, now: Instant, scratch: &mut Scratch) -> Result<(), Ended> {
        loop {
            let lines = self.lines.len();
            let sent = self.transmit_once(cx, now, scratch)?;
            // What left on one connection may have been what an answer on another had to wait for.
            if lines < 2 || !sent {
                return Ok(());
            }
        }
    }

    /// True: something has left.
    fn transmit_once(&mut self, cx: &mut Context<'_>, now: Instant, scratch: &mut Scratch) -> Result<bool, Ended> {
        let (mut at, mut sent) = (0, false);
        while at < self.lines.len() {
            let line = &mut self.lines[at];
            if self.session.connection_parameters(line.c).is_none() {
                // Logged out on another connection: the memory of what is half sent may be gone.
                self.finish(at, now)?;
                continue;
            }
            let writes = line.link.counters().writes;
            let polled = line.link.poll_transmit(cx, now, &mut self.session, line.c, &self.memory, scratch);
            sent |= line.link.counters().writes != writes;
            match polled {
                Poll::Ready(Ok(())) if self.session.wants_close(line.c) => self.finish(at, now)?,
                Poll::Ready(Ok(())) | Poll::Pending => at += 1,
                Poll::Ready(Err(error)) => self.lose(at, Ended::Link(error), now)?,
            }
        }
        Ok(sent)
    }

    /// All was said on the connection.
    fn finish(&mut self, at: usize, now: Instant) -> Result<(), Ended> {
        let line = self.lines.swap_remove(at);
        self.session.handle_closed(line.c, now);
        if self.dropped {
            let lingering = async move { line.link.linger(LINGER, &mut [0; 4096]).await };
            self.lingering.push(tokio::task::spawn_local(lingering));
        }
        if self.is_over() {
            return Err(self.reason());
        }
        if !self.dropped {
            let (peer, cid, initiator) = (line.peer, line.cid, &*self.initiator);
            self.log.write(
                peer,
                |not_shown| tracing::info!(event = "connection-closed", %peer, cid, %initiator, not_shown, "connection closed; the session goes on"),
            );
        }
        Ok(())
    }

    /// The connection is lost. Below recovery level 2 the session ends with it, and after what leaves no trust
    /// in the initiator at any level; else its tasks wait for another.
    pub(super) fn lose(&mut self, at: usize, why: Ended, now: Instant) -> Result<(), Ended> {
        let line = self.lines.swap_remove(at);
        match &why {
            Ended::Link(LinkError::Protocol(error)) => self.session.handle_error(line.c, error, now),
            _ => self.session.handle_closed(line.c, now),
        }
        let last_words = self.dropped || self.logged_out;
        if self.is_over() || self.session.has_failed() && !last_words {
            return Err(if last_words { self.reason() } else { why });
        }
        if last_words {
            return Ok(());
        }
        let (peer, cid, initiator) = (line.peer, line.cid, &*self.initiator);
        self.log.write(peer, |not_shown| tracing::info!(event = "connection-lost", %peer, cid, %initiator, not_shown, "connection lost, its commands wait for another: {why}"));
        Ok(())
    }

    /// Whether nobody is left whose session it is.
    fn is_over(&self) -> bool {
        self.lines.is_empty() && self.joins.is_empty() && (self.dropped || self.session.is_over())
    }

    /// Ends the session where nobody is left, for this reason.
    pub(super) fn go_on(&self, why: &'static str) -> Result<(), Ended> {
        if self.is_over() { Err(Ended::Ordered(why)) } else { Ok(()) }
    }

    /// The line of a connection, as long as it is open.
    pub(super) fn line_of(&self, c: ConnectionId) -> Option<usize> {
        self.lines.iter().position(|line| line.c == c)
    }
}
