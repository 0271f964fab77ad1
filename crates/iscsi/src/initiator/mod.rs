//! The full feature phase of one session at the initiator, for all of its connections.
//!
//! It is driven as the target's session is, by the same loop (`io::link`):
//!
//! ```text
//!   the caller        submit · abort · task_management · ping · send_text · logout
//!   bytes arrive      header_bytes → handle_header → place for the data → handle_data_end
//!   before sleeping   poll_transmit until it adds nothing; when a batch is on the wire: transmitted
//!   then              poll_event until None: Completed, TaskManagement, LoggedOut …
//!   time              poll_timeout · handle_timeout
//!   a lost connection handle_closed; below recovery level 2 every task is reported, for the caller to
//!                     replay it on a new session; at level 2 the tasks wait for attach or a logout
//! ```
//!
//! The memory of a command is the caller's and named by its task: Data-In lands in it at its Buffer
//! Offset, Data-Out is sent from it and only from it. It is the caller's again with the task's
//! [`Event::Completed`].

mod connection;
mod data_in;
mod data_out;
mod management;
mod numbers;
mod receive;
mod recovery;
mod task;
mod transmit;

#[cfg(test)]
mod tests;

pub use crate::session::{ConnectionError, Digest, Incoming, Opening, Place, Segment, TaskId, TxBatch};
pub use connection::ConnectionId;
pub use management::{Function, LogoutReason};
pub use task::{Cdb, Command, Outcome};

use crate::key::{ConnectionParameters, SessionParameters};
use connection::{Connection, Outgoing};
use management::{Moving, Request};
use numbers::Window;
use recovery::Lost;
use std::collections::VecDeque;
use std::time::{Duration, Instant};
use task::Tasks;

/// What bounds a session.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Commands in flight, whatever the target's window lets in. At most 65,536.
    pub commands: u32,
    /// Requests other than commands in flight.
    pub requests: usize,
    /// Bytes of one text answer.
    pub text_bytes: usize,
    /// A connection on which nothing is heard is pinged after this time. Zero: never.
    pub nop_interval: Duration,
    /// A ping that is not answered within this time costs the connection.
    pub nop_timeout: Duration,
    /// A request other than a command that is not answered within this time costs the connection.
    pub request_timeout: Duration,
    /// At recovery level 1: what is missing is asked for again after this time.
    pub patience: Duration,
    /// So often, and then the connection is given up.
    pub attempts: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            commands: 1024,
            requests: 64,
            text_bytes: 1 << 20,
            nop_interval: Duration::from_secs(5),
            nop_timeout: Duration::from_secs(5),
            request_timeout: Duration::from_secs(20),
            patience: Duration::from_secs(2),
            attempts: 8,
        }
    }
}

/// Why a command was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The target's window or a limit of ours is used up: try again after the next event.
    #[error("no more commands may be in flight now")]
    WindowFull,
    /// The connection is not open, or logs out.
    #[error("the connection takes no more commands")]
    Closing,
    /// The command is more than one PDU can say.
    #[error("the command cannot be expressed")]
    Malformed,
}

/// What the caller must know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The task is over and its name with it; its memory is the caller's again. Where a PDU of it was just
    /// arriving, [`Place::Task`] still names it: such bytes are read and forgotten.
    Completed(TaskId, Outcome),
    /// A task management function was answered with this code (RFC 7143 §11.6.1), or `None` where its
    /// answer is lost: then it is to be asked for again, because tasks may have ended without a word.
    TaskManagement {
        /// What [`Session::task_management`] or [`Session::abort`] returned.
        tag: u32,
        /// The response code.
        response: Option<u8>,
    },
    /// The answer to a ping of the caller's.
    Pong {
        /// What [`Session::ping`] returned.
        tag: u32,
        /// The ping's data, as it came back.
        data: Vec<u8>,
    },
    /// A text request is answered; without text where it was refused.
    Text {
        /// What [`Session::send_text`] returned.
        tag: u32,
        /// The whole answer.
        text: Option<Vec<u8>>,
    },
    /// A logout was answered with this code (§11.15.1).
    LoggedOut {
        /// The connection that it was sent on.
        connection: ConnectionId,
        /// Zero: closed.
        response: u8,
    },
    /// The target said something (§11.9). What the session has to do about it, it does.
    Async {
        /// AsyncEvent.
        event: u8,
        /// The unit, for events 0 and 5.
        lun: [u8; 8],
        /// Parameters 1 to 3.
        parameters: [u16; 3],
        /// Sense data, or the vendor's.
        data: Vec<u8>,
    },
    /// Recovery level 2: a connection is lost, and tasks wait for another to take them over. It is to
    /// have the same CID, or a CID of its own after [`Session::logout`] of the lost one.
    ConnectionLost {
        /// Its CID.
        cid: u16,
        /// Not to be tried before (Time2Wait).
        from: Instant,
        /// Given up then (Time2Retain).
        until: Instant,
    },
    /// The session is over; all its tasks have been reported.
    Over,
}

/// One session at the initiator.
pub struct Session {
    parameters: SessionParameters,
    limits: Limits,
    window: Window,
    tasks: Tasks,
    requests: Vec<Request>,
    next_tag: u32,
    connections: Vec<Option<Connection>>,
    lost: Vec<Lost>,
    /// Tasks that wait to be reassigned.
    moving: Moving,
    /// Numbers of commands that are over and that the target has not acknowledged, and since when: it may
    /// wait for them.
    unowned: Vec<(u32, Instant)>,
    /// Tags of the last tasks that functions have ended: PDUs for them may still be on their way, on other
    /// connections than the function's answer.
    ended: VecDeque<u32>,
    /// When something was heard last, on any connection.
    heard: Instant,
    /// PDUs that wait for status that was sent before them.
    held: Vec<(ConnectionId, crate::wire::Header, Vec<u8>)>,
    events: VecDeque<Event>,
    /// A logout of the whole session was sent.
    logging_out: bool,
    over: bool,
}

impl Session {
    /// A session with its leading connection. `cmd_sn` is the number of the first command, as the login
    /// said.
    pub fn new(
        parameters: SessionParameters,
        limits: Limits,
        cmd_sn: u32,
        opening: Opening,
        now: Instant,
    ) -> (Session, ConnectionId) {
        let mut session = Session {
            window: Window::new(cmd_sn),
            tasks: Tasks::default(),
            requests: Vec::new(),
            next_tag: 0,
            connections: Vec::new(),
            lost: Vec::new(),
            moving: Moving::new(),
            unowned: Vec::new(),
            ended: VecDeque::new(),
            heard: now,
            held: Vec::new(),
            events: VecDeque::new(),
            logging_out: false,
            over: false,
            parameters,
            limits,
        };
        let connection = session.attach(opening, now);
        (session, connection)
    }

    /// A further connection of the session, or one that takes the place of a lost one: then the tasks of
    /// that one go on here (§6.3.4, §7.2.2).
    pub fn attach(&mut self, opening: Opening, now: Instant) -> ConnectionId {
        let cid = opening.cid;
        let connection = Connection::new(opening, now);
        let index = match self.connections.iter().position(Option::is_none) {
            Some(index) => index,
            None => {
                self.connections.push(None);
                self.connections.len() - 1
            }
        };
        self.connections[index] = Some(connection);
        let c = ConnectionId(index);
        // A login with the CID of a lost connection has logged that one out (§6.3.4), and what a logout of it
        // will be answered with does not speak of this one.
        let void = |request: &Request| matches!(request.asked, management::Asked::Logout(LogoutReason::Recovery { cid: of }) if of == cid);
        self.requests.retain(|request| !void(request));
        self.take_over(c, cid);
        c
    }

    /// What was agreed for the session.
    pub fn parameters(&self) -> &SessionParameters {
        &self.parameters
    }

    /// What was agreed for a connection, as long as it is open.
    pub fn connection_parameters(&self, c: ConnectionId) -> Option<&ConnectionParameters> {
        self.connection(c).map(|connection| &connection.parameters)
    }

    /// ExpStatSN of a connection that is open or lost: a login that reinstates it says it (§11.12.9).
    pub fn exp_stat_sn(&self, cid: u16) -> Option<u32> {
        let open = self.connections.iter().flatten().find(|connection| connection.cid == cid);
        open.map(Connection::exp_stat_sn)
            .or_else(|| self.lost.iter().find(|lost| lost.cid == cid).map(|lost| lost.exp_stat_sn))
    }

    /// CmdSN that a login of a further connection says: that of the next command.
    pub fn cmd_sn(&self) -> u32 {
        self.window.cmd_sn()
    }

    /// Commands that have not ended.
    pub fn tasks(&self) -> usize {
        self.tasks.len()
    }

    /// Bytes that a task may receive; `None` when it is over.
    pub fn expected_in(&self, id: TaskId) -> Option<u32> {
        self.tasks.get(id).map(|task| task.command.data_in)
    }

    /// Commands that may be submitted now.
    pub fn room(&self) -> u32 {
        let free = self.limits.commands.saturating_sub(u32::try_from(self.tasks.len()).unwrap_or(u32::MAX));
        self.window.room().min(free)
    }

    /// Open connections.
    pub fn connections(&self) -> usize {
        self.connections.iter().flatten().count()
    }

    /// Whether the session has ended: nothing more can be done with it.
    pub fn is_over(&self) -> bool {
        self.over
    }

    /// Whether the connection is to be closed once what [`Session::poll_transmit`] gave has left.
    pub fn wants_close(&self, c: ConnectionId) -> bool {
        self.connection(c).is_none_or(|connection| connection.closing)
    }

    /// The next thing that the caller must know.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// Sends a command on this connection. Its memory is as long as the command says, and stays as it is
    /// until the task has ended.
    pub fn submit(&mut self, now: Instant, c: ConnectionId, command: Command) -> Result<TaskId, Refused> {
        if !command.is_expressible() {
            return Err(Refused::Malformed);
        }
        if self.over || self.logging_out || self.connection(c).is_none_or(|connection| !connection.takes_requests()) {
            return Err(Refused::Closing);
        }
        if self.tasks.len() >= self.limits.commands.min(task::TASKS) as usize {
            return Err(Refused::WindowFull);
        }
        let cmd_sn = match command.immediate {
            true => self.window.cmd_sn(),
            false => self.window.take().ok_or(Refused::WindowFull)?,
        };
        let id = self.tasks.insert(command, c, cmd_sn, now);
        self.queue(c, Outgoing::Command(id));
        Ok(id)
    }

    /// When [`Session::handle_timeout`] wants to be called.
    pub fn poll_timeout(&self) -> Option<Instant> {
        if self.over {
            return None;
        }
        let limits = &self.limits;
        let pings = self.connections.iter().flatten().filter_map(|connection| connection.deadline(limits));
        let retained = self.lost.iter().map(|lost| lost.until);
        let missing = self.missing_deadline();
        pings.chain(retained).chain(missing).chain(self.request_deadline()).min()
    }

    /// Pings, asks again for what is missing, gives up what did not come back in time. Names one
    /// connection that is to be closed for it, if there is one: call it again then.
    pub fn handle_timeout(&mut self, now: Instant) -> Option<(ConnectionId, ConnectionError)> {
        if self.over {
            return None;
        }
        if self.lost.iter().any(|lost| now >= lost.until) {
            self.end();
            return None;
        }
        for index in 0..self.connections.len() {
            let Some(connection) = self.connections.get_mut(index).and_then(Option::as_mut) else { continue };
            if connection.tick(now, &self.limits).is_err() {
                return Some((ConnectionId(index), ConnectionError::PingTimeout(self.limits.nop_timeout)));
            }
            self.leave_when_due(ConnectionId(index), now);
        }
        if let Some(c) = self.unanswered(now) {
            return Some((c, ConnectionError::Limit("time for an answer")));
        }
        self.ask_again(now)
    }

    /// Gives the session up: everything that waits for an answer is reported, and the connections are to be
    /// closed.
    pub fn abandon(&mut self) {
        self.end();
    }

    /// Everything that waits for an answer is reported, and the session is over.
    fn end(&mut self) {
        if self.over {
            return;
        }
        self.over = true;
        for connection in self.connections.iter_mut().flatten() {
            connection.closing = true;
            connection.outgoing.clear();
        }
        self.lost.clear();
        self.moving.clear();
        for request in std::mem::take(&mut self.requests) {
            self.request_lost(&request);
        }
        for id in self.tasks.ids() {
            self.finish(id, Outcome::Lost);
        }
        self.over_when_empty();
    }

    fn over_when_empty(&mut self) {
        if self.over && self.tasks.len() == 0 && !self.events.contains(&Event::Over) {
            self.events.push_back(Event::Over);
        }
    }

    fn connection(&self, c: ConnectionId) -> Option<&Connection> {
        self.connections.get(c.0)?.as_ref()
    }

    fn connection_mut(&mut self, c: ConnectionId) -> Option<&mut Connection> {
        self.connections.get_mut(c.0)?.as_mut()
    }

    fn queue(&mut self, c: ConnectionId, outgoing: Outgoing) {
        if let Some(connection) = self.connection_mut(c) {
            connection.outgoing.push_back(outgoing);
        }
    }
}
