//! One session on its worker: between the protocol's core, the lane and the socket.

use super::Shared;
use super::memory::TaskMemory;
use crate::limits::Limits;
use crate::registry::{Registered, SessionOrder};
use crate::target::{Handover, Target};
use io::link::{Link, LinkError, Received};
use iscsi::name::Name;
use iscsi::session::{
    ConnectionId, DataOutFault, Event, Response, Session, SessionKind, TaskId, task_management_response as code,
};
use lun::{Cdb, Command, NexusId, TaskAttribute, TaskManagementFunction, TaskManagementResponse, TaskTag};
use scsi::{Condition, Sense, SenseKey};
use std::cell::RefCell;
use std::future::poll_fn;
use std::panic::AssertUnwindSafe;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};
use tokio::net::TcpStream;

/// A session's state beside its sockets.
pub(crate) struct Driver {
    session: Session,
    memory: TaskMemory,
    nexus: NexusId,
    target: Arc<Target>,
    local: std::net::SocketAddr,
    limits: Arc<Limits>,
    waker: Option<Waker>,
    hungry: Vec<TaskId>,
    /// The session ends as soon as nothing is in flight.
    leaving: bool,
    /// It ends whatever is in flight.
    overdue: bool,
    /// When to look for data that does not come, and what was awaited at the last look: of each task how
    /// much had come, and of how much.
    watch: Option<Instant>,
    awaited: Vec<(TaskId, u32, u32)>,
    /// A TARGET COLD RESET of this session, and whether it is carried out.
    cold_reset: Option<(u64, bool)>,
    /// The initiator was told that the connections are dropped.
    dropped: bool,
    gone: bool,
    initiator: String,
    /// It named a disk that it does not have.
    strayed: bool,
    /// For the test of what a defect does: its next TEST UNIT READY panics.
    #[cfg(debug_assertions)]
    doomed: bool,
}

/// Turns of reading before others get theirs.
const TURNS: usize = 8;

/// Bytes of a command's data that come at least between two looks for data that does not come.
const SLOWEST: u32 = 4096;

/// How long a peer may take to hang up after it was told that its connection is dropped.
const LINGER: Duration = Duration::from_millis(500);

/// TARGET COLD RESET (RFC 7143 §11.5.1).
const COLD_RESET: u8 = 7;

/// The name of a task in the lane: nexus, slot and generation.
fn tag(nexus: NexusId, task: TaskId) -> TaskTag {
    let (slot, generation) = (task.number() & 0xffff, task.number() >> 32 & 0xff_ffff);
    TaskTag(u64::from(nexus.0) << 40 | generation << 16 | slot)
}

impl Driver {
    /// Ends the session once nothing is in flight, or at once where it is `overdue`; the initiator is told
    /// that it may come again.
    pub fn leave(&mut self, overdue: bool) {
        if !self.leaving || overdue && !self.overdue {
            self.session.wind_down();
            (self.leaving, self.overdue) = (true, overdue);
            self.wake();
        }
    }

    /// Tells the initiator that its connections are dropped, once it is time for it: the answer of a
    /// TARGET COLD RESET, and whatever else is queued, leaves in front of it.
    fn drop_when_due(&mut self) {
        let reset = matches!(self.cold_reset, Some((_, true)));
        let leaves = self.leaving && (self.overdue || self.session.tasks() == 0);
        if !self.dropped && (reset || leaves) {
            self.dropped = true;
            self.session.drop_connections();
        }
    }

    /// When the session wants to be looked at though nothing comes.
    fn deadline(&self) -> Option<Instant> {
        self.session.poll_timeout().into_iter().chain(self.watch).min()
    }

    /// Looks for data that was asked for and does not come. True: some has hardly moved since the last look. It
    /// holds memory that others wait for, and initiators give a command up after 30 s.
    fn is_stalled(&mut self, now: Instant) -> bool {
        let session = &self.session;
        let awaiting = |(task, wanted): (TaskId, u32)| {
            let received = session.task(task)?.received();
            (received < wanted).then_some((task, received, wanted))
        };
        let hungry = &self.hungry;
        let awaiting: Vec<_> =
            self.memory.wanted().filter(|(task, _)| !hungry.contains(task)).filter_map(awaiting).collect();
        let slow = |(task, received, _): &(TaskId, u32, u32)| {
            let before = self.awaited.iter().find(|(other, ..)| other == task);
            before.is_some_and(|(_, before, wanted)| received - before < SLOWEST.min(wanted - before))
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
                    if let Some(sense) = &completed.sense {
                        self.note(sense);
                    }
                    if let Some(buffer) = completed.data_in {
                        self.memory.put(task, buffer);
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
            lun::Event::Aborted { tag, .. } => {
                if let Some(task) = self.task_of(tag) {
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
                if let Some((cold, done)) = &mut self.cold_reset {
                    *done |= *cold == id;
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
        for task in std::mem::take(&mut self.hungry) {
            self.want(shared, task);
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
                        self.cold_reset = Some((u64::from(id), false));
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
                    if value.is_empty() || Name::lenient(&value).is_ok_and(is_own) {
                        crate::discovery::describe(&self.target, self.local, &mut text);
                    }
                    self.session.answer_text(connection, &text);
                }
                Event::CommandsCleared { lun } => shared.lane.borrow_mut().commands_cleared(self.nexus, lun),
                Event::LoggedOut { .. } => {}
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

/// When the session wants to be looked at though nothing comes and nothing leaves.
fn due(driver: &Driver, link: &Link) -> Option<Instant> {
    let read = link.sending_since().map(|since| since + driver.limits.slow_reader);
    driver.deadline().into_iter().chain(read).min()
}

/// Whether the first of two moments comes before the other.
fn is_sooner(one: Option<Instant>, other: Option<Instant>) -> bool {
    one.is_some_and(|one| other.is_none_or(|other| one < other))
}

/// Why a session ended.
#[derive(Debug, thiserror::Error)]
enum Ended {
    #[error("{0}")]
    Link(#[from] LinkError),
    #[error("{0}")]
    Ordered(&'static str),
}

/// Serves a session with its leading connection to its end. A defect that panics ends this session and
/// no other (F38).
pub(super) async fn serve(shared: Rc<Shared>, mut handover: Handover) {
    let Some(mut registered) = handover.registered.take() else { return };
    let (peer, initiator) = (handover.peer, handover.logged_in.asked.initiator_name.clone());
    let nexus = shared.lane.borrow_mut().open_nexus(handover.nexus.clone());
    let died = {
        let mut session = Box::pin(converse(&shared, handover, &mut registered, nexus));
        poll_fn(|cx| match std::panic::catch_unwind(AssertUnwindSafe(|| session.as_mut().poll(cx))) {
            Ok(polled) => polled.map(|()| false),
            Err(_) => Poll::Ready(true),
        })
        .await
    };
    if died {
        tracing::error!(%peer, %initiator, "the session has died by a defect of ours; the others go on");
        let driver = shared.sessions.borrow().get(&nexus).cloned();
        if let Some(driver) = driver {
            end_nexus(&shared, &driver).await;
        }
    }
    // For one that ended before it began; the others have closed it.
    shared.lane.borrow_mut().close_nexus(nexus);
    shared.pump();
}

/// The life of a session.
async fn converse(shared: &Rc<Shared>, handover: Handover, registered: &mut Registered, nexus: NexusId) {
    let Handover { stream, early, peer, logged_in, target, limits, lines, .. } = handover;
    let Ok(stream) = TcpStream::from_std(stream) else { return };
    let Ok(local) = stream.local_addr() else { return };
    let initiator = logged_in.asked.initiator_name.clone();
    let account = logged_in.account.clone();
    let worker = registered.worker();
    lines.write(peer, |not_shown| tracing::info!(%peer, %initiator, account, worker, not_shown, "session opened"));
    let now = Instant::now();
    let Some(account) = shared.lane.borrow().account(nexus) else { return };
    let first_burst = logged_in.session.first_burst_length;
    let (exp_cmd_sn, opening) = (logged_in.exp_cmd_sn, logged_in.opening);
    let (session, mut c) =
        Session::new(SessionKind::Normal, logged_in.session, limits.session.clone(), exp_cmd_sn, opening, now);
    let driver = Rc::new(RefCell::new(Driver {
        session,
        memory: TaskMemory::new(account, first_burst),
        nexus,
        target,
        local,
        limits: Arc::clone(&limits),
        waker: None,
        hungry: Vec::new(),
        leaving: false,
        overdue: false,
        watch: None,
        awaited: Vec::new(),
        cold_reset: None,
        dropped: false,
        initiator: initiator.clone(),
        strayed: false,
        gone: false,
        #[cfg(debug_assertions)]
        doomed: std::env::var("LUNETTE_DEBUG_PANIC").is_ok_and(|name| name == initiator),
    }));
    shared.sessions.borrow_mut().insert(nexus, Rc::clone(&driver));
    let mut link = Link::new(stream, early);
    let why = loop {
        let deadline = due(&driver.borrow(), &link);
        let timer = async {
            match deadline {
                Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
                None => std::future::pending().await,
            }
        };
        let order = tokio::select! {
            biased;
            order = registered.order() => order,
            ended = poll_fn(|cx| match turn(cx, shared, &driver, &mut link, c) {
                Poll::Ready(ended) => Poll::Ready(Some(ended)),
                // What came may have made something due sooner than the timer is set to.
                Poll::Pending if is_sooner(due(&driver.borrow(), &link), deadline) => Poll::Ready(None),
                Poll::Pending => Poll::Pending,
            }) => match ended {
                Some(ended) => break Ended::Link(ended),
                None => continue,
            },
            () = timer => {
                let now = Instant::now();
                if driver.borrow().watch.is_some_and(|watch| now >= watch) && driver.borrow_mut().is_stalled(now) {
                    limits.struck.slow_sender.count();
                    break Ended::Ordered("it does not send the data that it was asked for");
                }
                if link.sending_since().is_some_and(|since| now >= since + limits.slow_reader) {
                    limits.struck.slow_reader.count();
                    break Ended::Ordered("it does not read what it is sent");
                }
                if let Some((_, error)) = driver.borrow_mut().session.handle_timeout(now) {
                    break Ended::Link(LinkError::Protocol(error));
                }
                None
            }
        };
        match order {
            None => {}
            Some(SessionOrder::End(why)) => break Ended::Ordered(why),
            Some(SessionOrder::Replace(handover)) => {
                drop(link);
                match replace(shared, &driver, &mut c, *handover).await {
                    Ok(replaced) => link = replaced,
                    Err(error) => {
                        tracing::info!(%peer, %initiator, "session closed: {error}");
                        return close(shared, &driver, c).await;
                    }
                }
            }
        }
    };
    let told = driver.borrow().dropped;
    match told {
        true => link.linger(LINGER, &mut [0; 4096]).await,
        false => drop(link),
    }
    if matches!(driver.borrow().cold_reset, Some((_, true))) {
        registered.end_others("a TARGET COLD RESET of another session");
    }
    close(shared, &driver, c).await;
    // Logged before the place is free, so that the next session is told of after it.
    lines.write(peer, |not_shown| tracing::info!(%peer, %initiator, not_shown, "session closed: {why}"));
}

/// The nexus is lost: its tasks end, and with the last of them the session.
async fn close(shared: &Shared, driver: &RefCell<Driver>, c: ConnectionId) {
    driver.borrow_mut().session.handle_closed(c, Instant::now());
    end_nexus(shared, driver).await;
}

/// Waits until nothing of the nexus can touch the medium any more.
async fn end_nexus(shared: &Shared, driver: &RefCell<Driver>) {
    let nexus = driver.borrow().nexus;
    shared.lane.borrow_mut().close_nexus(nexus);
    shared.pump();
    poll_fn(|cx| {
        let mut driver = driver.borrow_mut();
        driver.waker = Some(cx.waker().clone());
        if driver.gone { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
    driver.borrow_mut().memory.clear();
    shared.sessions.borrow_mut().remove(&nexus);
    shared.pass_relief();
}

/// Connection reinstatement (§6.3.4): the tasks of the old connection end without an answer, then the
/// session goes on with the new one.
async fn replace(
    shared: &Shared,
    driver: &RefCell<Driver>,
    c: &mut ConnectionId,
    handover: Handover,
) -> Result<Link, LinkError> {
    let stream = TcpStream::from_std(handover.stream)?;
    let local = stream.local_addr()?;
    driver.borrow_mut().session.reinstate(handover.logged_in.asked.cid, Instant::now());
    poll_fn(|cx| {
        driver.borrow_mut().events(shared);
        shared.pump();
        let mut driver = driver.borrow_mut();
        driver.events(shared);
        driver.waker = Some(cx.waker().clone());
        if driver.session.tasks() == 0 { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
    let mut driver = driver.borrow_mut();
    *c = driver.session.attach(handover.logged_in.opening, Instant::now());
    driver.local = local;
    tracing::info!(peer = %handover.peer, initiator = %handover.logged_in.asked.initiator_name, "connection reinstated");
    Ok(Link::new(stream, handover.early))
}

/// One turn of the session's connection; ready with the reason for its end.
fn turn(
    cx: &mut Context<'_>,
    shared: &Shared,
    driver: &RefCell<Driver>,
    link: &mut Link,
    c: ConnectionId,
) -> Poll<LinkError> {
    // Nobody has to wake a session that is at work.
    driver.borrow_mut().waker = None;
    for _ in 0..TURNS {
        let now = Instant::now();
        let mut idle = true;
        {
            let driver = &mut *driver.borrow_mut();
            if !driver.session.congested(c) && !driver.session.wants_close(c) {
                let scratch = &mut *shared.scratch.borrow_mut();
                match link.poll_receive(cx, now, &mut driver.session, c, &mut driver.memory, scratch) {
                    Poll::Ready(Ok(Received::Some)) => idle = false,
                    Poll::Ready(Ok(Received::WaitsForMemory)) | Poll::Pending => {}
                    Poll::Ready(Err(error)) => return Poll::Ready(error),
                }
            }
            driver.events(shared);
        }
        shared.pump();
        {
            // What completed at once may have told the core more.
            let driver = &mut *driver.borrow_mut();
            driver.events(shared);
        }
        shared.pump();
        let driver = &mut *driver.borrow_mut();
        driver.drop_when_due();
        let scratch = &mut *shared.scratch.borrow_mut();
        match link.poll_transmit(cx, now, &mut driver.session, c, &driver.memory, scratch) {
            Poll::Ready(Ok(())) if driver.session.wants_close(c) => return Poll::Ready(LinkError::Closed),
            Poll::Ready(Ok(())) | Poll::Pending => {}
            Poll::Ready(Err(error)) => return Poll::Ready(error),
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
