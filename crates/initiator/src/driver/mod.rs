//! The task behind a session: it owns the sockets, the protocol's state and the memory of every command.
//!
//! One turn reads all sockets, tells what has ended, takes what has come from the handles, gives the core as many
//! commands as the target's window lets in, and sends everything in one batch for each connection. There is no
//! task and no timer for a command.

mod asks;
mod jobs;
mod outcome;
mod recovery;
mod shared;

pub(crate) use shared::{Ask, Completions, Job, Request, Shared, Sink, refuse};

use crate::information::ConnectionInformation;
use crate::login::Entered;
use crate::options::Options;
use crate::{Error, Event, Information, State, Statistics};
use asks::Asks;
use io::link::{Link, LinkCounters, LinkError, Received, Scratch};
use iscsi::initiator::{self as core, ConnectionError, ConnectionId, Limits, LogoutReason, Refused};
use jobs::Jobs;
use recovery::Recovery;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};
use tokio::sync::oneshot;
use tokio::time::Sleep;

/// Turns without a pause; then others have theirs.
const ROUNDS: usize = 8;
/// Reads of one connection in a turn.
const READS: usize = 8;

/// A connection in the full feature phase.
struct Line {
    link: Link,
    c: ConnectionId,
    cid: u16,
    peer: SocketAddr,
    local: SocketAddr,
    /// Commands that it has and that have not ended.
    load: u32,
}

/// A session that is to end.
struct Closing {
    until: Instant,
    replies: Vec<oneshot::Sender<Result<(), Error>>>,
    /// The logout was sent.
    asked: bool,
}

/// The task behind a session.
pub(crate) struct Driver {
    options: Arc<Options>,
    isid: [u8; 6],
    tsih: u16,
    shared: Arc<Shared>,
    session: core::Session,
    lines: Vec<Line>,
    scratch: Scratch,
    jobs: Jobs,
    asks: Asks,
    recovery: Recovery,
    closing: Option<Closing>,
    requests: Vec<Request>,
    /// Channels in which something has come to lie.
    takers: Vec<Arc<Completions>>,
    statistics: Statistics,
    timer: Pin<Box<Sleep>>,
    armed: Option<Instant>,
    over: bool,
}

impl Driver {
    /// Of a session whose leading connection has logged in.
    pub fn new(options: Options, isid: [u8; 6], entered: Entered, shared: Arc<Shared>) -> Driver {
        let now = Instant::now();
        let logged_in = entered.logged_in;
        let portal = entered.portal;
        let cid = logged_in.opening.cid;
        let (session, c) =
            core::Session::new(logged_in.session.clone(), limits(&options), logged_in.cmd_sn, logged_in.opening, now);
        let line = Line {
            link: Link::new(entered.stream, Vec::new()),
            c,
            cid,
            peer: entered.peer,
            local: entered.local,
            load: 0,
        };
        let mut driver = Driver {
            isid,
            tsih: logged_in.tsih,
            session,
            lines: vec![line],
            scratch: Scratch::default(),
            jobs: Jobs::default(),
            asks: Asks::default(),
            recovery: Recovery::new(entered.moved),
            closing: None,
            requests: Vec::new(),
            takers: Vec::new(),
            statistics: Statistics::default(),
            timer: Box::pin(tokio::time::sleep(Duration::from_secs(3600))),
            armed: None,
            over: false,
            options: Arc::new(options),
            shared,
        };
        driver.shared.inform(Information {
            target: driver.options.whom(),
            target_alias: logged_in.target_alias,
            portal_group_tag: logged_in.portal_group_tag,
            initiator_name: driver.options.initiator_name.clone(),
            isid,
            tsih: logged_in.tsih,
            portal,
            parameters: logged_in.session,
            connections: Vec::new(),
            state: State::LoggedIn,
        });
        driver.inform();
        driver.plan_joins(now);
        driver
    }

    /// Until the session is over.
    pub async fn run(mut self) {
        std::future::poll_fn(|cx| self.poll(cx)).await;
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        for round in 0.. {
            let now = Instant::now();
            let mut moved = self.take(cx, now);
            moved |= self.receive(cx, now);
            moved |= self.enter(cx, now);
            moved |= self.time_has_come(now);
            loop {
                let mut again = self.events(now);
                again |= self.submit(now);
                self.asks_go();
                self.transmit(cx, now);
                if !again {
                    break;
                }
            }
            moved |= self.settle(now);
            if self.over {
                self.finish();
                return Poll::Ready(());
            }
            if !moved {
                break;
            }
            if round == ROUNDS {
                cx.waker().wake_by_ref();
                break;
            }
        }
        self.wake_takers();
        self.publish();
        self.arm(cx);
        Poll::Pending
    }

    /// Takes what has come from the handles.
    fn take(&mut self, cx: &Context<'_>, now: Instant) -> bool {
        let mut requests = std::mem::take(&mut self.requests);
        let let_go = self.shared.take(&mut requests, cx.waker());
        let moved = !requests.is_empty();
        for request in requests.drain(..) {
            match request {
                Request::Execute(job) => match self.recovery.refuses() {
                    Some(error) => self.end(*job, Err(error)),
                    None if let Some(error) = self.jobs.refuses(&job) => self.end(*job, Err(error)),
                    None => self.jobs.take_in(job, now, self.options.command_timeout),
                },
                // It may have seen the disk of before: another look is under way.
                Request::Judge(_, begun, _) if begun < self.shared.holds() => {}
                Request::Judge(lun, _, verdict) => {
                    for job in self.jobs.judge_held(lun, verdict.as_deref().cloned()) {
                        let error = verdict.as_deref().cloned().unwrap_or(Error::Closed);
                        self.end(*job, Err(error));
                    }
                }
                Request::Ask(ask) => match *ask {
                    Ask::Logout { reply } => self.close(now, Some(reply)),
                    ask => match self.recovery.refuses() {
                        Some(error) => ask.fail(error),
                        None => self.asks.push(ask),
                    },
                },
            }
        }
        self.requests = requests;
        if let_go && self.closing.is_none() {
            self.close(now, None);
        }
        moved
    }

    /// Begins to end the session.
    fn close(&mut self, now: Instant, reply: Option<oneshot::Sender<Result<(), Error>>>) {
        for request in self.shared.close(Error::Closed) {
            refuse(request, Error::Closed);
        }
        let until = now + self.options.logout_timeout;
        let closing = self.closing.get_or_insert(Closing { until, replies: Vec::new(), asked: false });
        closing.replies.extend(reply);
    }

    /// Reads what the sockets have.
    fn receive(&mut self, cx: &mut Context<'_>, now: Instant) -> bool {
        let mut moved = false;
        let mut at = 0;
        while at < self.lines.len() {
            let mut lost = None;
            for _ in 0..READS {
                let line = &mut self.lines[at];
                match line.link.poll_receive(cx, now, &mut self.session, line.c, &mut self.jobs, &mut self.scratch) {
                    Poll::Ready(Ok(Received::Some)) => moved = true,
                    Poll::Ready(Ok(Received::WaitsForMemory)) | Poll::Pending => break,
                    Poll::Ready(Err(error)) => {
                        lost = Some(error);
                        break;
                    }
                }
            }
            match lost {
                Some(error) => {
                    self.lose(at, error, now);
                    moved = true;
                }
                None => at += 1,
            }
        }
        moved
    }

    /// Gives the core what may be sent now.
    fn submit(&mut self, now: Instant) -> bool {
        let mut submitted = false;
        if self.recovery.is_down() {
            return false;
        }
        while self.session.room() > 0
            && let Some(job) = self.jobs.next()
        {
            let (data_in, data_out) = (job.command.data_in.bytes(), job.command.data_out.bytes());
            let (Ok(data_in), Ok(data_out)) = (u32::try_from(data_in), u32::try_from(data_out)) else {
                self.end(*job, Err(Error::Invalid("more bytes than one command can move".to_owned())));
                continue;
            };
            let command = core::Command {
                lun: job.lun.wire(),
                cdb: job.command.cdb.clone(),
                attribute: job.command.attribute as u8,
                data_in,
                data_out,
                immediate: false,
            };
            match self.give(now, command) {
                Ok((id, c)) => {
                    self.jobs.start(id, c, job);
                    submitted = true;
                }
                Err(Refused::Malformed) => {
                    let length = job.command.cdb.bytes();
                    self.end(*job, Err(Error::Invalid(format!("a CDB of {length} bytes cannot be sent"))));
                }
                Err(_) => {
                    self.jobs.put_back(job);
                    break;
                }
            }
        }
        submitted
    }

    /// On the connection that has least to do.
    fn give(&mut self, now: Instant, command: core::Command) -> Result<(core::TaskId, ConnectionId), Refused> {
        if let [line] = &mut *self.lines {
            line.load += 1;
            return self.session.submit(now, line.c, command).map(|id| (id, line.c));
        }
        self.lines.sort_by_key(|line| line.load);
        let mut why = Refused::Closing;
        for line in &mut self.lines {
            match self.session.submit(now, line.c, command.clone()) {
                Ok(id) => {
                    line.load += 1;
                    return Ok((id, line.c));
                }
                Err(refused) => why = refused,
            }
        }
        Err(why)
    }

    fn transmit(&mut self, cx: &mut Context<'_>, now: Instant) {
        let mut at = 0;
        while at < self.lines.len() {
            let line = &mut self.lines[at];
            let c = line.c;
            match line.link.poll_transmit(cx, now, &mut self.session, c, &self.jobs, &mut self.scratch) {
                Poll::Ready(Err(error)) => self.lose(at, error, now),
                Poll::Ready(Ok(())) if self.session.wants_close(c) => self.lose(at, LinkError::Closed, now),
                Poll::Ready(Ok(())) | Poll::Pending => at += 1,
            }
        }
    }

    /// A connection is gone.
    fn lose(&mut self, at: usize, error: LinkError, now: Instant) {
        let line = self.lines.remove(at);
        self.count(line.link.counters());
        let leaves = self.closing.as_ref().is_some_and(|closing| closing.asked);
        if let LinkError::Protocol(ConnectionError::HeaderDigest) = error {
            self.statistics.digest_errors += 1;
        }
        self.session.handle_closed(now, line.c);
        self.asks.connection_lost(line.c);
        self.inform();
        if !leaves && !self.recovery.is_down() {
            self.statistics.connections_lost += 1;
            let why = match &error {
                LinkError::Protocol(ConnectionError::PingTimeout(limit)) => {
                    format!("{} did not answer a ping within {limit:?}", line.peer)
                }
                LinkError::Protocol(error) => format!("{} broke the protocol: {error}", line.peer),
                error => format!("{}: {error}", line.peer),
            };
            self.recovery.connection_lost(&why, now);
            self.shared.tell(Event::ConnectionLost { cid: line.cid, why });
        }
    }

    /// True: something was begun that has to be looked at.
    fn time_has_come(&mut self, now: Instant) -> bool {
        if self.armed.is_none_or(|armed| now < armed) && !self.lines.is_empty() {
            return false;
        }
        if !self.recovery.is_down() {
            while let Some((c, error)) = self.session.handle_timeout(now) {
                let Some(at) = self.lines.iter().position(|line| line.c == c) else { break };
                self.lose(at, LinkError::Protocol(error), now);
            }
            let (tasks, late) = self.jobs.overdue(now);
            for id in tasks {
                self.statistics.timeouts += 1;
                self.asks.abort(id);
            }
            for job in late {
                let (limit, whom) = (job.command.timeout.unwrap_or(self.options.command_timeout), self.options.whom());
                self.end(*job, Err(Error::TimedOut { what: format!("{whom} did not take the command"), limit }));
            }
            self.jobs.resume(Some(now));
        }
        self.recover(now)
    }

    /// What follows from how the session is. True: there is something to be sent.
    fn settle(&mut self, now: Instant) -> bool {
        if self.session.is_over() && !self.recovery.is_down() {
            while let Some(line) = self.lines.pop() {
                self.count(line.link.counters());
                self.session.handle_closed(now, line.c);
            }
            self.inform();
            self.events(now);
            match self.closing.is_some() {
                true => self.over = true,
                false => self.go_down(now),
            }
        }
        let Some(closing) = &mut self.closing else { return false };
        if now >= closing.until || self.recovery.is_down() {
            self.over = true;
        } else if !closing.asked && self.jobs.unfinished() == 0 && self.asks.is_empty() {
            let mut lines = self.lines.iter().map(|line| line.c);
            closing.asked = lines.any(|c| self.session.logout(c, LogoutReason::Session));
            return closing.asked;
        }
        false
    }

    /// Everything that still waits is told that the session is over.
    fn finish(&mut self) {
        for request in self.shared.close(Error::Closed) {
            refuse(request, Error::Closed);
        }
        self.session.abandon();
        let now = Instant::now();
        while let Some(line) = self.lines.pop() {
            self.count(line.link.counters());
            self.session.handle_closed(now, line.c);
        }
        self.events(now);
        for job in self.jobs.drain() {
            self.end(*job, Err(Error::Closed));
        }
        self.asks.fail_all(&Error::Closed);
        self.inform();
        self.shared.set_state(State::Closed);
        self.wake_takers();
        self.publish();
        for reply in self.closing.take().map(|closing| closing.replies).unwrap_or_default() {
            let _ = reply.send(Ok(()));
        }
    }

    fn wake_takers(&mut self) {
        for taker in self.takers.drain(..) {
            taker.wake();
        }
    }

    fn count(&mut self, counters: LinkCounters) {
        self.statistics.received_bytes += counters.received_bytes;
        self.statistics.sent_bytes += counters.sent_bytes;
    }

    fn publish(&mut self) {
        let mut statistics = self.statistics;
        for line in &self.lines {
            let counters = line.link.counters();
            statistics.received_bytes += counters.received_bytes;
            statistics.sent_bytes += counters.sent_bytes;
        }
        self.shared.set_statistics(statistics);
    }

    /// Tells which connections there are.
    fn inform(&mut self) {
        let mut information = self.shared.information();
        information.tsih = self.tsih;
        information.parameters = self.session.parameters().clone();
        information.connections = self
            .lines
            .iter()
            .filter_map(|line| {
                let parameters = self.session.connection_parameters(line.c)?.clone();
                Some(ConnectionInformation { cid: line.cid, peer: line.peer, local: line.local, parameters })
            })
            .collect();
        information.connections.sort_by_key(|connection| connection.cid);
        self.shared.inform(information);
    }

    /// When the driver wants to be woken though nothing comes.
    fn deadline(&self) -> Option<Instant> {
        let up =
            (!self.recovery.is_down()).then(|| self.session.poll_timeout().into_iter().chain(self.jobs.deadline()));
        let closing = self.closing.as_ref().map(|closing| closing.until);
        // Where the session is to end no login is begun any more.
        let logins = self.closing.is_none().then(|| self.recovery.deadline(&self.options));
        up.into_iter().flatten().chain(logins.flatten()).chain(closing).min()
    }

    /// Sets the timer. One that is set too early is left as it is: that costs a look, and less than setting it
    /// anew every time.
    fn arm(&mut self, cx: &mut Context<'_>) {
        let Some(deadline) = self.deadline() else {
            self.armed = None;
            return;
        };
        if self.armed.is_none_or(|armed| deadline < armed || armed <= Instant::now()) {
            self.timer.as_mut().reset(deadline.into());
            self.armed = Some(deadline);
        }
        if self.timer.as_mut().poll(cx).is_ready() {
            cx.waker().wake_by_ref();
        }
    }
}

impl Drop for Driver {
    /// The runtime ends before the session: whoever waits is told.
    fn drop(&mut self) {
        if !self.over {
            self.over = true;
            self.finish();
        }
    }
}

fn limits(options: &Options) -> Limits {
    Limits {
        commands: options.queue_depth,
        nop_interval: options.nop_interval,
        nop_timeout: options.nop_timeout,
        ..Limits::default()
    }
}
