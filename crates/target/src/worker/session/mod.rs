//! One session on its worker: between the protocol's core, the lane and the sockets.

mod change;
mod handover;
mod joining;
mod life;
mod lines;
mod overview;
mod told;
mod watching;

pub(super) use life::{revive, serve};
pub use overview::{ConnectionOverview, SessionOverview};

use super::Shared;
use super::memory::TaskMemory;
use crate::door::Lines;
use crate::limits::Limits;
use crate::target::{Handover, Target};
use crate::trace::Traces;
use block::Account;
use change::Closing;
use io::link::{Link, LinkError};
use iscsi::name::Name;
use iscsi::session::{DataOutFault, Event, Response, Session, SessionKind, TaskId, task_management_response as code};
use joining::Joining;
use lines::Line;
use lun::{Cdb, Command, NexusId, TaskAttribute, TaskManagementFunction, TaskManagementResponse, TaskTag};
use overview::Identity;
use scsi::{Condition, Sense, SenseKey};
use std::rc::Rc;
use std::sync::Arc;
use std::task::Waker;
use std::time::{Duration, Instant, SystemTime};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

/// A session on its worker.
pub(crate) struct Driver {
    session: Session,
    lines: Vec<Line>,
    /// The line that is read first in the next turn.
    first: usize,
    joins: Vec<Joining>,
    /// Closed lines whose peers still read the last words.
    lingering: Vec<JoinHandle<()>>,
    memory: TaskMemory,
    nexus: NexusId,
    target: Arc<Target>,
    limits: Arc<Limits>,
    log: Arc<Lines>,
    traces: Arc<Traces>,
    waker: Option<Waker>,
    hungry: Vec<TaskId>,
    /// What [`block::Pool::reliefs`] said when they last asked.
    reliefs: u64,
    /// The session ends as soon as nothing is in flight and the initiator has had until then to log out.
    leaving: Option<Instant>,
    asked_to_leave: bool,
    /// It ends whatever is in flight.
    overdue: bool,
    /// When to look for data that does not come, and what was awaited at the last look: of each task how
    /// much had come, and of how much.
    watch: Option<Instant>,
    awaited: Vec<(TaskId, u32, u32)>,
    /// A TARGET COLD RESET of this session, and when it was carried out.
    cold_reset: Option<(u64, Option<Instant>)>,
    /// Connections that were asked to go.
    closings: Vec<Closing>,
    /// Why the connections are to be dropped.
    farewell: Option<&'static str>,
    /// The initiator was told that the connections are dropped.
    dropped: bool,
    /// Until when its last words may take to leave.
    last_words: Option<Instant>,
    /// It has logged the session out.
    logged_out: bool,
    gone: bool,
    /// It goes over to another process.
    handing_over: Option<handover::Leaving>,
    identity: Identity,
    /// The rule by which it is there.
    rule: String,
    initiator: String,
    /// It named a disk that it does not have.
    strayed: bool,
    /// For the test of what a defect does: its next TEST UNIT READY panics.
    #[cfg(debug_assertions)]
    doomed: bool,
}

/// Bytes of a command's data that come at least between two looks for data that does not come.
const SLOWEST: u32 = 4096;

/// How long an initiator that is asked to log out has for it, in seconds.
const LOGOUT_SECONDS: u16 = 2;

/// How long last words may take to leave: a peer that reads nothing keeps nobody.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// How long the answer of a TARGET COLD RESET waits for what must be acknowledged before it.
const ACKNOWLEDGED: Duration = Duration::from_secs(1);

/// TARGET COLD RESET (RFC 7143 §11.5.1).
const COLD_RESET: u8 = 7;

/// The name of a task in the lane: nexus, slot and generation.
fn tag(nexus: NexusId, task: TaskId) -> TaskTag {
    let (slot, generation) = (task.number() & 0xffff, task.number() >> 32 & 0xff_ffff);
    TaskTag(u64::from(nexus.0) << 40 | generation << 16 | slot)
}

/// Why a session ended.
#[derive(Debug, thiserror::Error)]
enum Ended {
    #[error("{0}")]
    Link(#[from] LinkError),
    #[error("{0}")]
    Ordered(&'static str),
}

impl Driver {
    /// A session with its leading connection; `None` where the socket is gone already.
    fn new(handover: Handover, nexus: NexusId, account: Rc<Account>) -> Option<Driver> {
        let Handover {
            stream, early, peer, logged_in, target, rule, target_resets, limits, lines: log, traces, ..
        } = handover;
        let stream = TcpStream::from_std(stream).ok()?;
        let local = stream.local_addr().ok()?;
        let first_burst = logged_in.session.first_burst_length;
        let identity = Identity::of(&logged_in);
        let (initiator, cid) = (logged_in.asked.initiator_name, logged_in.asked.cid);
        let (exp_cmd_sn, opening, kind) = (logged_in.exp_cmd_sn, logged_in.opening, SessionKind::Normal);
        let (mut session, c) =
            Session::new(kind, logged_in.session, limits.session.clone(), exp_cmd_sn, opening, Instant::now());
        if !target_resets {
            session.forbid_target_resets();
        }
        let line = Line { link: Link::new(stream, early), c, cid, peer, local, since: SystemTime::now() };
        let memory = TaskMemory::new(account, first_burst);
        let driver = Driver::with(session, memory, nexus, target, rule, limits, log, traces, identity, initiator);
        let mut driver = Driver { lines: vec![line], ..driver };
        driver.watch_by_all();
        Some(driver)
    }

    /// One without connections.
    #[allow(clippy::too_many_arguments, reason = "what makes a session, from as many owners")]
    fn with(
        session: Session,
        memory: TaskMemory,
        nexus: NexusId,
        target: Arc<Target>,
        rule: String,
        limits: Arc<Limits>,
        log: Arc<Lines>,
        traces: Arc<Traces>,
        identity: Identity,
        initiator: String,
    ) -> Driver {
        Driver {
            session,
            lines: Vec::new(),
            first: 0,
            joins: Vec::new(),
            lingering: Vec::new(),
            memory,
            nexus,
            target,
            limits,
            log,
            traces,
            waker: None,
            hungry: Vec::new(),
            reliefs: 0,
            leaving: None,
            asked_to_leave: false,
            overdue: false,
            watch: None,
            awaited: Vec::new(),
            cold_reset: None,
            closings: Vec::new(),
            farewell: None,
            dropped: false,
            last_words: None,
            logged_out: false,
            gone: false,
            handing_over: None,
            identity,
            rule,
            #[cfg(debug_assertions)]
            doomed: std::env::var("LUNETTE_DEBUG_PANIC").is_ok_and(|name| name == initiator),
            initiator,
            strayed: false,
        }
    }

    /// Ends the session once nothing is in flight, or at once where it is `overdue`. The initiator is asked to
    /// log out; where it does not, it is told that its connections are dropped.
    pub fn leave(&mut self, overdue: bool) {
        if self.leaving.is_none() {
            self.session.wind_down();
            self.leaving = Some(Instant::now() + Duration::from_secs(LOGOUT_SECONDS.into()));
            self.wake();
        }
        if overdue && !self.overdue {
            self.overdue = true;
            self.wake();
        }
    }

    /// Drops the connections, of which the initiator is told.
    fn say_farewell(&mut self, why: &'static str) {
        self.farewell.get_or_insert(why);
    }

    /// Tells the initiator that its connections are dropped, once it is time for it: the answer of a
    /// TARGET COLD RESET, and whatever else is queued, leaves in front of it.
    fn drop_when_due(&mut self, now: Instant) {
        if self.dropped {
            return;
        }
        // Those who are on their way into the session are asked as well.
        if self.leaving.is_some() && !self.asked_to_leave && self.joins.is_empty() {
            self.asked_to_leave = true;
            self.session.request_logout(LOGOUT_SECONDS);
        }
        if let Some(until) = self.leaving
            && (self.overdue || self.lines.is_empty() || now >= until && self.session.tasks() == 0)
        {
            self.say_farewell("the target stops");
        }
        if let Some((_, Some(done))) = self.cold_reset
            && (!self.session.is_fenced() || now >= done + ACKNOWLEDGED)
        {
            self.say_farewell("its TARGET COLD RESET");
        }
        let resets = self.session.has_failed();
        if resets {
            self.say_farewell("its I_T NEXUS RESET");
        }
        if self.farewell.is_some() {
            self.dropped = true;
            self.last_words = Some(now + LAST_WORDS);
            self.joins.clear();
            if !resets {
                self.session.drop_connections();
            }
        }
    }

    /// Whether tasks outlive their connections (§7.1.5).
    fn recovers(&self) -> bool {
        self.session.parameters().error_recovery_level >= 2
    }

    /// Whether a TARGET COLD RESET of this session was carried out.
    fn is_cold_reset(&self) -> bool {
        matches!(self.cold_reset, Some((_, Some(_))))
    }

    /// Why a session ends whose last connection was closed as it should.
    fn reason(&self) -> Ended {
        match (self.farewell, self.logged_out) {
            (Some(why), _) => Ended::Ordered(why),
            (None, true) => Ended::Ordered("logged out"),
            (None, false) => Ended::Link(LinkError::Closed),
        }
    }

    /// Closes what is open. Those whose peers still read their last words can be waited for.
    fn hang_up(&mut self) -> Vec<JoinHandle<()>> {
        let now = Instant::now();
        self.joins.clear();
        for line in self.lines.drain(..) {
            self.session.handle_closed(line.c, now);
        }
        std::mem::take(&mut self.lingering)
    }

    /// When the session wants to be looked at though nothing comes.
    fn deadline(&self) -> Option<Instant> {
        if self.is_written() {
            return None;
        }
        if self.dropped {
            return self.last_words;
        }
        let unread = self.lines.iter().filter_map(|line| line.link.sending_since()).min();
        let unread = unread.map(|since| since + self.limits.slow_reader);
        let due = self.session.poll_timeout().into_iter().chain(self.watch).chain(unread);
        let reset = self.cold_reset.and_then(|(_, done)| Some(done? + ACKNOWLEDGED));
        let closing = self.closings.iter().filter_map(|closing| closing.until);
        due.chain(self.leaving).chain(reset).chain(self.last_words).chain(closing).min()
    }

    /// Something may be due; an error ends the session.
    fn time_has_come(&mut self, now: Instant) -> Result<(), Ended> {
        if self.last_words.is_some_and(|until| now >= until) {
            return Err(self.reason());
        }
        if self.watch.is_some_and(|watch| now >= watch) && self.is_stalled(now) {
            self.limits.struck.slow_sender.count();
            self.say_farewell("it does not send the data that it was asked for");
        }
        let unread =
            |line: &Line| line.link.sending_since().is_some_and(|since| now >= since + self.limits.slow_reader);
        if let Some(at) = self.lines.iter().position(unread) {
            self.limits.struck.slow_reader.count();
            self.lose(at, Ended::Ordered("it does not read what it is sent"), now)?;
        }
        while let Some((c, error)) = self.session.handle_timeout(now) {
            let Some(at) = self.line_of(c) else { break };
            self.lose(at, Ended::Link(LinkError::Protocol(error)), now)?;
        }
        self.go_on("none of its connections came back in time")
    }

    /// Looks for data that was asked for and does not come. True: some has hardly moved since the last look. It
    /// holds memory that others wait for, and initiators give a command up after 30 s.
    fn is_stalled(&mut self, now: Instant) -> bool {
        let session = &self.session;
        let awaiting = |(task, wanted): (TaskId, u32)| {
            let arrived = session.task(task).filter(|_| session.awaits_data(task))?.arrived();
            (arrived < wanted).then_some((task, arrived, wanted))
        };
        let hungry = &self.hungry;
        let awaiting: Vec<_> =
            self.memory.wanted().filter(|(task, _)| !hungry.contains(task)).filter_map(awaiting).collect();
        let slow = |(task, arrived, _): &(TaskId, u32, u32)| {
            let before = self.awaited.iter().find(|(other, ..)| other == task);
            before.is_some_and(|(_, before, wanted)| arrived.saturating_sub(*before) < SLOWEST.min(wanted - before))
        };
        let stalled = awaiting.iter().any(slow);
        self.watch = (!awaiting.is_empty()).then(|| now + self.limits.slow_sender);
        self.awaited = awaiting;
        stalled
    }

    /// There is memory again.
    pub fn relieve(&mut self) {
        if !self.hungry.is_empty() {
            self.wake();
        }
    }

    fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    fn task_of(&self, wanted: TaskTag) -> Option<TaskId> {
        // The tag names the slot; what is there now may be a later task.
        self.memory.task_at((wanted.0 & 0xffff) as usize).filter(|task| tag(self.nexus, *task) == wanted)
    }

    /// A copy that names a disk which this initiator has not is worth a line, once a session (SPC-13).
    fn note(&mut self, sense: &Sense) {
        let told = sense.condition_code();
        if !self.strayed && told == Some((SenseKey::CopyAborted as u8, 0x08, 0x04)) {
            self.strayed = true;
            let initiator = &*self.initiator;
            tracing::warn!(%initiator, "refused: a copy names a disk that this initiator does not have");
        }
    }

    /// What is delivered alone (RFC 7143 §4.2.2.3.4): the news that other nexuses' functions have ended tasks,
    /// and the answer of PREEMPT AND ABORT.
    fn is_fenced(&self, task: TaskId, sense: Option<&Sense>) -> bool {
        let told = sense.and_then(Sense::condition_code);
        let attention =
            told.is_some_and(|(key, code, _)| key == SenseKey::UnitAttention as u8 && [0x29, 0x2f].contains(&code));
        let preempts = |cdb: &[u8; 16]| cdb[0] == 0x5f && cdb[1] & 0x1f == 5;
        attention || self.session.task(task).is_some_and(|task| preempts(&task.cdb))
    }

    /// Something that the lane has to say.
    pub fn lane_event(&mut self, shared: &Shared, event: lun::Event) {
        match event {
            lun::Event::ReceiveDataOut { tag, length, .. } => {
                if let Some(task) = self.task_of(tag) {
                    self.memory.slot(task).wanted = length;
                    self.want(shared, task);
                }
            }
            lun::Event::Completed { tag, completed, .. } => match self.task_of(tag) {
                None => {
                    if let Some(buffer) = completed.data_in {
                        self.memory.give(buffer);
                    }
                }
                Some(task) => {
                    self.memory.slot(task).in_lane = false;
                    self.tell_of(task, &completed.times, Some(&completed));
                    if let Some(sense) = &completed.sense {
                        self.note(sense);
                    }
                    // Data that came and was not wanted is not kept as long as the status is.
                    match completed.data_in {
                        Some(buffer) => self.memory.put(task, buffer),
                        None => self.memory.drop_data(task),
                    }
                    let fenced = self.session.connections() > 1 && self.is_fenced(task, completed.sense.as_ref());
                    let response = Response {
                        status: completed.status as u8,
                        sense: completed.sense.map(Sense::into_bytes),
                        data_in: completed.data_in_length,
                        transfer_length: completed.transfer_length,
                        outward: completed.outward,
                        fenced,
                    };
                    self.session.complete(task, response);
                }
            },
            lun::Event::Aborted { tag, times, .. } => {
                if let Some(task) = self.task_of(tag) {
                    self.tell_of(task, &times, None);
                    let slot = self.memory.slot(task);
                    slot.in_lane = false;
                    match (slot.refused, slot.fault) {
                        (true, _) => self.session.complete(task, task_set_full()),
                        (false, Some(fault)) => self.session.complete(task, faulted(fault)),
                        (false, None) => self.session.end_task(task),
                    }
                }
            }
            lun::Event::NexusClosed { .. } => self.gone = true,
            lun::Event::TaskManagementDone { id, response, .. } => {
                let (code, additional) = match response {
                    TaskManagementResponse::FunctionComplete => (code::FUNCTION_COMPLETE, [0; 3]),
                    TaskManagementResponse::FunctionSucceeded(additional) => (code::FUNCTION_SUCCEEDED, additional),
                    TaskManagementResponse::FunctionRejected => (code::FUNCTION_REJECTED, [0; 3]),
                    TaskManagementResponse::IncorrectLogicalUnitNumber => (code::LUN_DOES_NOT_EXIST, [0; 3]),
                };
                self.session.task_management_done(id as u32, code, additional);
                if let Some((cold, done @ None)) = &mut self.cold_reset
                    && *cold == id
                {
                    *done = Some(Instant::now());
                }
            }
        }
        self.wake();
    }

    /// Grants the task's data once there is memory for it.
    fn want(&mut self, shared: &Shared, task: TaskId) {
        let Some(received) = self.session.task(task).map(|task| task.received()) else { return };
        let slot = self.memory.slot(task);
        let wanted = slot.wanted;
        if slot.refused {
            return shared.lane.borrow_mut().abort(tag(self.nexus, task));
        }
        if self.memory.reserve(task, wanted.max(received), received) {
            self.session.receive_data_out(task, wanted);
            if received < wanted && self.watch.is_none() {
                self.watch = Some(Instant::now() + self.limits.slow_sender);
            }
        } else if shared.pool.taken_bytes() == 0 {
            // Nobody has any who could give it back: the system itself has no memory.
            self.memory.slot(task).refused = true;
            shared.lane.borrow_mut().abort(tag(self.nexus, task));
        } else {
            self.hungry.push(task);
        }
    }

    /// What the protocol's core has to say.
    fn events(&mut self, shared: &Shared) {
        let reliefs = shared.pool.reliefs();
        if !self.hungry.is_empty() && self.reliefs != reliefs {
            self.reliefs = reliefs;
            for task in std::mem::take(&mut self.hungry) {
                self.want(shared, task);
            }
        }
        while let Some(event) = self.session.poll_event() {
            match event {
                Event::Command(id) => self.command(shared, id),
                Event::DataOut(id) => {
                    let buffer = self.memory.take(id);
                    let length = self.memory.slot(id).wanted;
                    let unwanted = shared.lane.borrow_mut().data_out(tag(self.nexus, id), buffer, length);
                    if let Some(buffer) = unwanted {
                        self.memory.give(buffer);
                    }
                }
                Event::DataOutFault(id, fault) => {
                    let slot = self.memory.slot(id);
                    if slot.in_lane {
                        slot.fault = Some(fault);
                        shared.lane.borrow_mut().abort(tag(self.nexus, id));
                    } else {
                        self.session.complete(id, faulted(fault));
                    }
                }
                Event::Abort(id) => {
                    if self.memory.slot(id).in_lane {
                        shared.lane.borrow_mut().abort(tag(self.nexus, id));
                    } else {
                        self.session.end_task(id);
                    }
                }
                Event::Ended(id) => self.memory.release(id),
                Event::TaskManagement { id, function, lun, .. } => {
                    if function == COLD_RESET {
                        self.cold_reset = Some((u64::from(id), None));
                    }
                    let function = match function {
                        2 => TaskManagementFunction::AbortTaskSet,
                        3 => TaskManagementFunction::ClearAca,
                        4 => TaskManagementFunction::ClearTaskSet,
                        5 => TaskManagementFunction::LogicalUnitReset,
                        10 => TaskManagementFunction::QueryTaskSet,
                        12 => TaskManagementFunction::QueryAsynchronousEvent,
                        _ => TaskManagementFunction::TargetReset,
                    };
                    shared.lane.borrow_mut().task_management(self.nexus, u64::from(id), lun, function);
                }
                Event::SendTargets { connection, value } => {
                    // In a normal session only the target itself is told (KEY-03).
                    let mut text = Vec::new();
                    let is_own = |name: Name| name.as_str() == self.target.name;
                    let local = self.lines.iter().find(|line| line.c == connection).map(|line| line.local);
                    if let Some(local) = local
                        && (value.is_empty() || Name::lenient(&value).is_ok_and(is_own))
                    {
                        crate::discovery::describe(&self.target, local, &mut text);
                    }
                    self.session.answer_text(connection, &text);
                }
                Event::LoggedOut { session } => {
                    if session {
                        self.logged_out = true;
                        self.last_words = Some(Instant::now() + LAST_WORDS);
                    }
                }
                Event::CommandsCleared { lun } => shared.lane.borrow_mut().commands_cleared(self.nexus, lun),
            }
        }
    }

    fn command(&mut self, shared: &Shared, id: TaskId) {
        let Some(task) = self.session.task(id) else { return };
        #[cfg(debug_assertions)]
        assert!(!(self.doomed && task.cdb[0] == 0), "LUNETTE_DEBUG_PANIC names this initiator");
        let command = Command {
            nexus: self.nexus,
            tag: tag(self.nexus, id),
            lun: task.lun,
            cdb: match &task.extended_cdb {
                None => Cdb::Short(task.cdb),
                Some(cdb) => Cdb::Long(cdb.clone()),
            },
            attribute: match task.attribute() {
                0 => TaskAttribute::Untagged,
                1 => TaskAttribute::Simple,
                2 => TaskAttribute::Ordered,
                3 => TaskAttribute::HeadOfQueue,
                _ => TaskAttribute::Aca,
            },
            priority: task.priority,
            expected_in: task.expected_in(),
            expected_out: task.expected_out(),
        };
        self.memory.slot(id).in_lane = true;
        shared.lane.borrow_mut().command(command);
    }
}

/// No memory for what came unasked: the initiator is to try again with less at a time (SAM-5 5.3.1).
fn task_set_full() -> Response {
    Response { status: scsi::Status::TaskSetFull as u8, ..Response::default() }
}

/// The sense data of a fault (RFC 7143 §11.4.7.2).
fn faulted(fault: DataOutFault) -> Response {
    let (code, qualifier) = match fault {
        DataOutFault::UnexpectedUnsolicitedData => (0x0c, 0x0c),
        DataOutFault::IncorrectAmountOfData => (0x0c, 0x0d),
        DataOutFault::ProtocolServiceCrcError => (0x47, 0x05),
    };
    let condition = Condition::new(SenseKey::AbortedCommand, code, qualifier);
    Response { status: 2, sense: Some(Sense::fixed(&condition).into_bytes()), ..Response::default() }
}
