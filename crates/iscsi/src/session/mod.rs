//! The full feature phase of one session at the target, for all of its connections.
//!
//! Who calls what, in which order (the driver is `io::link`, the application `target`):
//!
//! ```text
//!   bytes arrive      header_bytes → handle_header → place for the data → handle_data_end
//!   then              poll_event until None: Command, DataOut, DataOutFault, Abort, TaskManagement …
//!   the application   receive_data_out · complete · end_task · task_management_done
//!   before sleeping   poll_transmit until it adds nothing; when a batch is on the wire: transmitted
//!   time              poll_timeout · handle_timeout
//! ```
//!
//! A task belongs to the session and outlives what the network does to it: it ends when the
//! application has ended it *and* the initiator owes it no more data *and* its answer has left, at
//! recovery level 1 and above *and* has been acknowledged.
//!
//! At level 2 a connection that is lost leaves its tasks behind: they go on, and their answers wait until
//! another connection takes them over or their time has passed (`recovery.rs`).

mod connection;
mod data_out;
mod fence;
mod handover;
mod management;
mod other;
mod receive;
mod recovery;
mod retention;
mod task;
mod text;
mod transmit;
mod window;

#[cfg(test)]
mod recovery_tests;
#[cfg(test)]
mod tests;

pub use connection::ConnectionId;
pub use handover::{AtRest, ConnectionAtRest, Sorted};
pub use management::response as task_management_response;
pub use receive::{Incoming, Place};
pub use task::{DataOutFault, Response, Task, TaskId};
pub use transmit::{Digest, Segment, TxBatch};

use crate::counter::Counter;
use crate::key::{ConnectionParameters, SessionParameters};
use connection::{Connection, Connections};
use fence::Fences;
use management::Functions;
use recovery::{DataWatch, Recovering};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};
use task::Tasks;
use window::Window;

/// What bounds a session (conformance.md, "Bounds every implementation sets").
#[derive(Debug, Clone)]
pub struct SessionLimits {
    /// SCSI commands in flight: the command window.
    pub window: u32,
    /// Immediate SCSI commands and task management functions in flight beside the window.
    pub immediate: u32,
    /// Bytes of text, ping data and rejected headers queued for one connection before reading from
    /// it stops.
    pub backlog_bytes: usize,
    /// Rejects on one connection before it is closed.
    pub rejects: u32,
    /// Bytes that are kept at recovery level 1 and above until the initiator has acknowledged them. Beyond that
    /// the oldest of a connection are forgotten, and cannot be asked for again.
    pub retained_bytes: usize,
    /// An idle connection is pinged after this time. Zero: never.
    pub nop_interval: Duration,
    /// A ping that is not answered within this time costs the connection.
    pub nop_timeout: Duration,
    /// Bytes of one text negotiation.
    pub text_bytes: usize,
    /// Keys of one text negotiation.
    pub keys: usize,
    /// A text negotiation that lasts longer is forgotten.
    pub text_time: Duration,
    /// Bytes of requests of one session that came before their turn. With one connection only what was
    /// rejected leaves a gap, so that an initiator that means well needs next to nothing.
    pub early_bytes: usize,
    /// How often each of these struck, in all sessions that share them.
    pub struck: Arc<SessionCounters>,
}

/// How often the bounds of sessions struck.
#[derive(Debug, Default)]
pub struct SessionCounters {
    /// Requests outside the command window, which were ignored.
    pub window: Counter,
    /// Immediate requests that were rejected.
    pub immediate: Counter,
    /// Times that reading stopped because answers were not read.
    pub backlog: Counter,
    /// Connections closed for too many rejects.
    pub rejects: Counter,
    /// Connections closed for a ping that was not answered.
    pub nop_timeout: Counter,
    /// Text negotiations that were too long.
    pub text_bytes: Counter,
    /// Text negotiations of too many keys.
    pub keys: Counter,
    /// Text negotiations that were left half way.
    pub text_time: Counter,
    /// Connections closed for requests before their turn.
    pub early_bytes: Counter,
    /// Statuses that were forgotten before they were acknowledged.
    pub retained: Counter,
}

impl Default for SessionLimits {
    fn default() -> Self {
        SessionLimits {
            window: 128,
            immediate: 16,
            backlog_bytes: 512 << 10,
            rejects: 1000,
            retained_bytes: 16 << 20,
            nop_interval: Duration::from_secs(15),
            nop_timeout: Duration::from_secs(15),
            text_bytes: 64 << 10,
            keys: 4096,
            text_time: Duration::from_secs(60),
            early_bytes: 256 << 10,
            struck: Arc::default(),
        }
    }
}

/// What kind of session it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SessionKind {
    /// SCSI.
    Normal,
    /// SendTargets and logout only (RFC 7143 §4.3).
    Discovery,
}

/// With what a connection enters the full feature phase: the end of its login.
#[derive(Debug, Clone)]
pub struct Opening {
    /// The connection's identifier.
    pub cid: u16,
    /// What was agreed for the connection.
    pub parameters: ConnectionParameters,
    /// StatSN of the next response.
    pub next_stat_sn: u32,
}

/// Why a connection must be closed, at once and without a further word.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectionError {
    /// The initiator broke a rule that leaves no trust in the stream (RFC 7143 §7.7).
    #[error("format error: {0}")]
    Format(&'static str),
    /// A header's digest does not match: where the next PDU begins is unknown (RFC 7143 §7.8).
    #[error("header digest error")]
    HeaderDigest,
    /// A command was lost to a digest error, and at recovery level 0 nobody fills the gap (RFC 7143 §7.8).
    #[error("data digest error, and the command does not come again")]
    Gap,
    /// A bound was reached.
    #[error("limit reached: {0}")]
    Limit(&'static str),
    /// A ping was not answered.
    #[error("no answer to a ping within {0:?}")]
    PingTimeout(Duration),
}

/// What the application must know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A command is to be executed; in CmdSN order. [`Session::task`] tells it.
    Command(TaskId),
    /// What [`Session::receive_data_out`] asked for is there.
    DataOut(TaskId),
    /// The task's data did not come as agreed: end it with the fault's sense data. The command may
    /// or may not have been told before.
    DataOutFault(TaskId, DataOutFault),
    /// Give the task up and answer with [`Session::end_task`] once nothing of it goes on.
    Abort(TaskId),
    /// The task is over and its name with it: its memory is free.
    Ended(TaskId),
    /// A task management function for the unit; answer with [`Session::task_management_done`].
    TaskManagement {
        /// The name to answer with.
        id: u32,
        /// Function code (RFC 7143 §11.5.1, RFC 7144 §4.1).
        function: u8,
        /// The unit.
        lun: [u8; 8],
        /// The task that a QUERY TASK is about.
        referenced: Option<TaskId>,
    },
    /// A text request asks for targets; answer with [`Session::answer_text`].
    SendTargets {
        /// The connection that asks.
        connection: ConnectionId,
        /// `All`, a name, or empty.
        value: String,
    },
    /// Commands at this unit were ended by what happened to their connection, and the session goes on: the
    /// initiator is owed a unit attention, 47h/7Fh (§11.14.5).
    CommandsCleared {
        /// The unit.
        lun: [u8; 8],
    },
    /// The initiator logged out; the session ends when its connections have closed.
    LoggedOut {
        /// Whether it was the whole session.
        session: bool,
    },
}

/// One session at the target.
pub struct Session {
    kind: SessionKind,
    parameters: SessionParameters,
    limits: SessionLimits,
    window: Window,
    tasks: Tasks,
    functions: Functions,
    /// Tags of tasks whose data is not waited for any more.
    forgiven: VecDeque<u32>,
    connections: Connections,
    recovering: Vec<Recovering>,
    fences: Fences,
    data_watch: DataWatch,
    /// Bytes that wait for an acknowledgment.
    retained_bytes: usize,
    /// Bytes kept that are no tasks' answers.
    copied_bytes: usize,
    events: VecDeque<Event>,
    logging_out: bool,
    /// A logout waits for tasks to end.
    awaits_logout: bool,
    /// It cannot go on.
    failed: bool,
    /// It begins nothing from this number on ([`Session::freeze`]).
    frozen: Option<u32>,
}

impl Session {
    /// A session with its leading connection, whose identifier comes with it. `exp_cmd_sn` is the
    /// number of the first command, as the login said.
    pub fn new(
        kind: SessionKind,
        parameters: SessionParameters,
        limits: SessionLimits,
        exp_cmd_sn: u32,
        opening: Opening,
        now: Instant,
    ) -> (Session, ConnectionId) {
        let window = Window::new(exp_cmd_sn, limits.window);
        let mut session = Session::with(kind, parameters, limits, window);
        let connection = session.attach(opening, now);
        (session, connection)
    }

    /// A session without connections.
    fn with(kind: SessionKind, parameters: SessionParameters, limits: SessionLimits, window: Window) -> Session {
        Session {
            kind,
            window,
            tasks: Tasks::default(),
            functions: Functions::default(),
            forgiven: VecDeque::new(),
            connections: Connections::default(),
            recovering: Vec::new(),
            fences: Fences::default(),
            data_watch: DataWatch::default(),
            retained_bytes: 0,
            copied_bytes: 0,
            events: VecDeque::new(),
            logging_out: false,
            awaits_logout: false,
            failed: false,
            frozen: None,
            parameters,
            limits,
        }
    }

    /// A further connection of the session.
    pub fn attach(&mut self, opening: Opening, now: Instant) -> ConnectionId {
        let c = self.connections.insert(Connection::new(opening, now));
        self.forget_recovered();
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

    /// A task that has not ended.
    pub fn task(&self, id: TaskId) -> Option<&Task> {
        self.tasks.get(id)
    }

    /// Tasks that have not ended.
    pub fn tasks(&self) -> usize {
        self.tasks.len()
    }

    /// ExpCmdSN and MaxCmdSN, for the last login response of a connection that joins.
    pub fn numbers(&self) -> (u32, u32) {
        self.window.numbers()
    }

    /// Open connections.
    pub fn connections(&self) -> usize {
        self.connections.len()
    }

    /// Whether the session cannot go on and is only being closed.
    pub fn has_failed(&self) -> bool {
        self.failed
    }

    /// Whether the connection is to be closed once what [`Session::poll_transmit`] gave has left.
    pub fn wants_close(&self, c: ConnectionId) -> bool {
        self.connection(c).is_none_or(|connection| connection.closing)
    }

    /// Whether reading from the connection must wait, because its answers are not read.
    pub fn congested(&mut self, c: ConnectionId) -> bool {
        let limit = self.limits.backlog_bytes;
        let Some(connection) = self.connections.get_mut(c) else { return false };
        let congested = connection.backlog_bytes > limit;
        if congested && !connection.congested {
            self.limits.struck.backlog.count();
        }
        connection.congested = congested;
        congested
    }

    /// The next thing that the application must know.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// When [`Session::handle_timeout`] wants to be called.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let pings = self.connections.iter().filter_map(|(_, connection)| connection.deadline(&self.limits)).min();
        let others = [self.functions_deadline(), self.recovery_deadline(), self.texts_deadline()];
        pings.into_iter().chain(others.into_iter().flatten()).min()
    }

    /// Pings connections that have been idle and names one that did not answer; asks for data that does not
    /// come; gives up connections that were not recovered in time ([`Session::is_over`] may hold then).
    pub fn handle_timeout(&mut self, now: Instant) -> Option<(ConnectionId, ConnectionError)> {
        self.functions_lose_patience(now);
        self.recover_in_time(now);
        self.forget_old_texts(now);
        let expected = self.window.expected();
        for (c, connection) in self.connections.iter_mut() {
            if connection.gap_stays(now, expected) {
                return Some((c, ConnectionError::Gap));
            }
            if self.kind == SessionKind::Normal && connection.tick(now, &self.limits).is_err() {
                self.limits.struck.nop_timeout.count();
                return Some((c, ConnectionError::PingTimeout(self.limits.nop_timeout)));
            }
        }
        None
    }

    /// The session is going to end: the command window moves no further, so that what is in flight ends
    /// and nothing takes its place.
    pub fn wind_down(&mut self) {
        self.window.shut();
    }

    /// Asks the initiator to log out within this many seconds (RFC 7143 §11.9.1, event 1).
    pub fn request_logout(&mut self, seconds: u16) {
        for (_, connection) in self.connections.iter_mut() {
            connection.queue_async(crate::wire::AsyncEvent::LogoutRequest, 0, 0, seconds);
        }
    }

    /// Asks the initiator to log this one connection out within so many seconds (event 1: the connection that
    /// carries it is meant).
    pub fn request_logout_of(&mut self, c: ConnectionId, seconds: u16) {
        if let Some(connection) = self.connections.get_mut(c) {
            connection.queue_async(crate::wire::AsyncEvent::LogoutRequest, 0, 0, seconds);
        }
    }

    /// Tells the initiator that this connection is being dropped (event 2) and closes it. The session outlives it
    /// at recovery level 2 alone.
    pub fn drop_connection(&mut self, c: ConnectionId) {
        let (wait, retain) = self.recovery_times();
        if let Some(connection) = self.connections.get_mut(c) {
            let cid = connection.cid;
            connection.queue_async(crate::wire::AsyncEvent::DropConnection, cid, wait, retain);
            connection.closing = true;
        }
    }

    /// What the initiator may still see of a connection: our next StatSN, and the ExpStatSN that it last said.
    pub fn status_numbers(&self, c: ConnectionId) -> Option<(u32, u32)> {
        self.connections.get(c).map(|connection| (connection.stat_sn, connection.acknowledged))
    }

    /// Tells the initiator that all connections are being dropped (event 3) and closes them.
    pub fn drop_connections(&mut self) {
        let (wait, retain) = self.recovery_times();
        self.failed = true;
        self.fences_fall();
        for (_, connection) in self.connections.iter_mut() {
            if self.kind == SessionKind::Normal {
                connection.queue_async(crate::wire::AsyncEvent::DropAllConnections, 0, wait, retain);
            }
            connection.closing = true;
        }
    }

    fn connection(&self, c: ConnectionId) -> Option<&Connection> {
        self.connections.get(c)
    }

    fn connection_mut(&mut self, c: ConnectionId) -> Option<&mut Connection> {
        self.connections.get_mut(c)
    }
}
