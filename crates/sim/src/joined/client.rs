//! The initiator of a simulation: what a driver does around `iscsi::initiator`, with links of the
//! simulated network in place of sockets.

use super::network::{End, Link};
use super::setup::Setup;
use super::workload::Workload;
use super::{Net, Report};
use crate::Random;
use crate::stream::{Receiver, Stream, encode};
use crate::world::World;
use iscsi::initiator::{ConnectionId, Event, Function, LogoutReason, Refused, Session};
use iscsi::key::SessionParameters;
use iscsi::login::Status;
use iscsi::login::initiator::{Authentication, Failure, LoggedIn, Login, Step, Wanted};
use iscsi::session::{ConnectionError, Incoming, SessionKind, TaskId, TxBatch};
use iscsi::wire::BHS_BYTES;
use std::time::{Duration, Instant};

/// A login that takes longer is given up.
const LOGIN_TIME: Duration = Duration::from_secs(10);
/// First command number, near the wrap.
const FIRST_CMD_SN: u32 = u32::MAX - 12;
/// The unit that is reset.
const LUN: [u8; 8] = [0, 1, 0, 0, 0, 0, 0, 0];

enum Stage {
    Login { login: Box<Login>, until: Instant },
    FullFeature { c: ConnectionId, stream: Stream, batch: Option<TxBatch> },
}

/// A connection.
struct Conn {
    link: usize,
    cid: u16,
    stage: Stage,
    input: Vec<u8>,
    /// Its logout was asked for.
    leaves: bool,
}

/// Something that is to be done.
#[derive(Debug, Clone, Copy)]
enum Plan {
    /// Begin a session.
    Lead,
    /// Join it, or take the place of a lost connection.
    Join(u16),
    /// Reset the unit.
    Reset,
    /// Abort this task.
    Abort(TaskId),
    /// Log out one of several connections for itself; its place is filled afterwards.
    Leave,
    /// Log out a lost connection on another one, so that its tasks go on there.
    Recover(u16),
}

pub(super) struct Client {
    setup: Setup,
    random: Random,
    session: Option<Session>,
    tsih: u16,
    parameters: SessionParameters,
    conns: Vec<Conn>,
    plans: Vec<(Instant, Plan)>,
    /// Task management functions that are out.
    functions: Vec<(u32, Plan)>,
    cuts_left: u32,
    damages_left: u32,
    leaving: bool,
    done: bool,
    wrong: Option<String>,
    report: Report,
}

/// A session with the memory of its tasks, seen from one connection.
struct Receiving<'a> {
    session: &'a mut Session,
    workload: &'a mut Workload,
    c: ConnectionId,
    now: Instant,
}

impl Receiver for Receiving<'_> {
    fn header_bytes(&self, first: &[u8; BHS_BYTES]) -> usize {
        self.session.header_bytes(self.c, first)
    }

    fn header(&mut self, header: &[u8], digest_ok: bool) -> Result<Incoming, ConnectionError> {
        self.session.handle_header(self.now, self.c, header, digest_ok)
    }

    fn collect(&mut self, bytes: &[u8]) {
        self.session.collect(self.c, bytes);
    }

    fn store(&mut self, task: TaskId, offset: u32, bytes: &[u8]) {
        // A function on another connection may have ended the task while its data was arriving.
        let Some(memory) = self.workload.data_in(task) else { return };
        memory[offset as usize..offset as usize + bytes.len()].copy_from_slice(bytes);
    }

    fn data_end(&mut self, digest_ok: bool) -> Result<(), ConnectionError> {
        self.session.handle_data_end(self.c, digest_ok)
    }
}

impl Client {
    pub fn new(setup: &Setup, random: Random, now: Instant) -> Client {
        Client {
            setup: setup.clone(),
            random,
            session: None,
            tsih: 0,
            parameters: SessionParameters::default(),
            conns: Vec::new(),
            plans: vec![(now, Plan::Lead)],
            functions: Vec::new(),
            cuts_left: setup.weather.cuts,
            damages_left: setup.weather.damages,
            leaving: false,
            done: false,
            wrong: None,
            report: Report::default(),
        }
    }

    /// Whether it has done all and logged out.
    pub fn is_done(&self) -> bool {
        self.done
    }

    /// What went wrong by now, if anything did.
    pub fn verdict(&mut self) -> Option<String> {
        self.wrong.take()
    }

    pub fn report(&self) -> Report {
        self.report.clone()
    }

    /// When it wants to work after now, whatever comes.
    pub fn deadline(&self, now: Instant, workload: &Workload) -> Option<Instant> {
        let plans = self.plans.iter().map(|(at, _)| *at);
        let logins = self.conns.iter().filter_map(|conn| match conn.stage {
            Stage::Login { until, .. } => Some(until),
            Stage::FullFeature { .. } => None,
        });
        let session = self.session.as_ref().and_then(Session::poll_timeout);
        plans.chain(logins).chain(session).chain(workload.deadlines()).filter(|at| *at > now).min()
    }

    /// One turn. True: something happened.
    pub fn work(&mut self, now: Instant, world: &mut World, net: &mut Net, workload: &mut Workload) -> bool {
        if self.done {
            return false;
        }
        let mut worked = self.receive(now, net, workload);
        while let Some((c, error)) = self.session.as_mut().and_then(|session| session.handle_timeout(now)) {
            self.judge(&error);
            let Some(at) = self.conns.iter().position(|conn| conn.is(c)) else { break };
            self.close(at, now, net);
            worked = true;
        }
        worked |= self.events(now, net, workload);
        worked |= self.plan(now, world, net, workload);
        worked |= self.submit(now, workload);
        worked | self.transmit(now, net, workload)
    }

    fn receive(&mut self, now: Instant, net: &mut Net, workload: &mut Workload) -> bool {
        let mut worked = false;
        let mut at = 0;
        while at < self.conns.len() {
            let link = self.conns[at].link;
            let mut came = false;
            while let Some(bytes) = net.links[link].arrived(End::Initiator, now) {
                self.conns[at].input.extend_from_slice(&bytes);
                came = true;
            }
            let overdue = matches!(self.conns[at].stage, Stage::Login { until, .. } if now >= until);
            let kept = !came || self.parse(at, now, net, workload);
            if !kept || overdue || net.links[link].is_closed(End::Initiator, now) {
                self.close(at, now, net);
                worked = true;
                continue;
            }
            worked |= came;
            at += 1;
        }
        worked
    }

    /// False: the connection is to be closed.
    fn parse(&mut self, at: usize, now: Instant, net: &mut Net, workload: &mut Workload) -> bool {
        loop {
            let conn = &mut self.conns[at];
            match &mut conn.stage {
                Stage::Login { login, .. } => {
                    let Some(header) = conn.input.first_chunk::<BHS_BYTES>().copied() else { return true };
                    let length = match login.data_bytes(&header) {
                        Ok(length) => length,
                        Err(failure) => {
                            self.wrong = Some(format!("login: {failure}"));
                            return false;
                        }
                    };
                    let Some(data) = conn.input.get(BHS_BYTES..BHS_BYTES + length) else { return true };
                    let mut out = Vec::new();
                    let step = login.handle(&header, data, &mut out);
                    conn.input.drain(..BHS_BYTES + length);
                    let link = conn.link;
                    net.send(link, End::Initiator, now, &out);
                    match step {
                        Step::More => {}
                        Step::Done(logged_in) => {
                            if !self.logged_in(at, now, *logged_in, &mut net.links[link]) {
                                return false;
                            }
                        }
                        Step::Redirected { .. } => return false,
                        Step::Failed(failure) => {
                            self.refused(now, &failure);
                            return false;
                        }
                    }
                }
                Stage::FullFeature { c, stream, .. } => {
                    let Some(session) = &mut self.session else { return false };
                    let mut receiving = Receiving { session, workload, c: *c, now };
                    if let Err(error) = stream.parse(&mut conn.input, &mut receiving) {
                        self.judge(&error);
                        return false;
                    }
                    return true;
                }
            }
        }
    }

    /// Whether the target may have done what this error says: only the network damages.
    fn judge(&mut self, error: &ConnectionError) {
        let damage = matches!(error, ConnectionError::Format("a data digest error at recovery level 0"));
        // A request whose header was damaged is not there for the target.
        let lost = self.setup.weather.damages > 0 && matches!(error, ConnectionError::Limit("time for an answer"));
        if !damage && !lost && matches!(error, ConnectionError::Format(_) | ConnectionError::Limit(_)) {
            self.wrong = Some(format!("the initiator sees the target break a rule: {error}"));
        }
    }

    fn logged_in(&mut self, at: usize, now: Instant, logged_in: LoggedIn, link: &mut Link) -> bool {
        let leading = self.session.is_none();
        let c = match &mut self.session {
            Some(session) => session.attach(logged_in.opening, now),
            None => {
                self.report.sessions += 1;
                self.tsih = logged_in.tsih;
                self.parameters = logged_in.session.clone();
                let (session, c) =
                    Session::new(logged_in.session, self.setup.limits(), logged_in.cmd_sn, logged_in.opening, now);
                self.session = Some(session);
                c
            }
        };
        self.conns[at].stage = Stage::FullFeature { c, stream: Stream::default(), batch: None };
        if self.damages_left > 0 && !self.random.once_in(3) {
            self.damages_left -= 1;
            link.arm_damage(&mut self.random);
        }
        if leading {
            for cid in 1..self.setup.connections {
                let at = now + Duration::from_micros(self.random.below(3000));
                self.plans.push((at, Plan::Join(cid)));
            }
        }
        true
    }

    fn refused(&mut self, now: Instant, failure: &Failure) {
        match failure {
            // It has lost the session that we still have, or has still what we have lost.
            Failure::Refused(Status::SESSION_DOES_NOT_EXIST) => {
                if let Some(session) = &mut self.session {
                    session.abandon();
                }
            }
            Failure::Refused(Status::TOO_MANY_CONNECTIONS) => {}
            other => self.wrong = Some(format!("after {now:?} a login is refused: {other}")),
        }
    }

    /// The connection is over.
    fn close(&mut self, at: usize, now: Instant, net: &mut Net) {
        let conn = self.conns.remove(at);
        if let Some(trace) = &net.trace {
            trace.note(now, &format!("the initiator closes link {}", conn.link));
        }
        net.links[conn.link].close(End::Initiator, now, &mut net.random);
        let again = now + Duration::from_millis(100 + self.random.below(1500));
        match conn.stage {
            Stage::Login { .. } => {
                let plan = if self.session.is_some() { Plan::Join(conn.cid) } else { Plan::Lead };
                self.plans.push((again, plan));
            }
            Stage::FullFeature { c, .. } => {
                if let Some(session) = &mut self.session {
                    session.handle_closed(now, c);
                }
                if conn.leaves {
                    self.plans.push((again, Plan::Join(conn.cid)));
                }
            }
        }
    }

    fn events(&mut self, now: Instant, net: &Net, workload: &mut Workload) -> bool {
        let mut worked = false;
        while let Some(event) = self.session.as_mut().and_then(Session::poll_event) {
            worked = true;
            if let Some(trace) = &net.trace {
                trace.note(now, &format!("{event:?}"));
            }
            match event {
                Event::Completed(task, outcome) => workload.completed(now, task, &outcome),
                Event::ConnectionLost { cid, from, .. } => {
                    let at = from + Duration::from_millis(self.random.below(1000));
                    let others = self.session.as_ref().is_some_and(|session| session.connections() > 0);
                    let plan = if others && self.random.once_in(2) { Plan::Recover(cid) } else { Plan::Join(cid) };
                    self.plans.push((at, plan));
                }
                Event::LoggedOut { response, .. } if response > 1 && response < u8::MAX => {
                    self.wrong = Some(format!("a logout is answered with {response}"));
                }
                Event::Over => {}
                Event::TaskManagement { tag, response } => {
                    let at = self.functions.iter().position(|(asked, _)| *asked == tag);
                    let function = at.map(|at| self.functions.swap_remove(at).1);
                    match (response, function) {
                        // Its answer is lost; what it ended has ended without a word.
                        (None, Some(function)) => self.plans.push((now, function)),
                        (Some(0 | 1), _) | (None, None) => {}
                        _ => self.wrong = Some(format!("a task management function is answered with {response:?}")),
                    }
                }
                _ => {}
            }
        }
        worked
    }

    fn plan(&mut self, now: Instant, world: &mut World, net: &mut Net, workload: &mut Workload) -> bool {
        let mut worked = false;
        if self.session.as_ref().is_some_and(Session::is_over) && self.conns.iter().all(|conn| conn.is_login()) {
            self.session = None;
            self.plans.clear();
            self.functions.clear();
            for at in (0..self.conns.len()).rev() {
                let conn = self.conns.remove(at);
                net.links[conn.link].close(End::Initiator, now, &mut net.random);
            }
            if self.leaving && workload.is_done() {
                self.done = true;
                return true;
            }
            self.leaving = false;
            let at = now + Duration::from_millis(self.random.below(3000));
            self.plans.push((at, Plan::Lead));
            worked = true;
        }
        while let Some(at) = self.plans.iter().position(|(at, _)| *at <= now) {
            let (_, plan) = self.plans.swap_remove(at);
            worked = true;
            match plan {
                Plan::Lead => self.connect(now, world, net, 0),
                Plan::Join(cid) if self.session.as_ref().is_some_and(|session| !session.is_over()) => {
                    self.connect(now, world, net, cid);
                }
                Plan::Join(_) => {}
                Plan::Recover(cid) => self.recover(now, cid),
                Plan::Leave => self.leave_one(),
                Plan::Reset | Plan::Abort(_) => self.function(now, plan, workload),
            }
        }
        self.strike(net, workload);
        if workload.is_done() && !self.leaving {
            self.leave();
            worked = true;
        }
        worked
    }

    /// Asks for a task management function, now or as soon as there is a connection for it.
    fn function(&mut self, now: Instant, function: Plan, workload: &Workload) {
        let Some(session) = self.session.as_mut().filter(|session| !session.is_over()) else { return };
        let open: Vec<ConnectionId> = self.conns.iter().filter_map(Conn::connection).collect();
        let asked = match function {
            Plan::Abort(task) if !workload.is_in_flight(task) => return,
            Plan::Abort(task) => session.abort(task),
            _ if open.is_empty() => None,
            _ => session.task_management(*self.random.pick(&open), Function::LogicalUnitReset, LUN),
        };
        match asked {
            Some(tag) => self.functions.push((tag, function)),
            None if self.leaving => {}
            None => self.plans.push((now + Duration::from_millis(100), function)),
        }
    }

    /// Logs a lost connection out on one that is left; its place is filled afterwards.
    fn recover(&mut self, now: Instant, cid: u16) {
        let Some(session) = &mut self.session else { return };
        let open: Vec<ConnectionId> = self.conns.iter().filter_map(Conn::connection).collect();
        let asked = !open.is_empty() && session.logout(*self.random.pick(&open), LogoutReason::Recovery { cid });
        let later = now + Duration::from_millis(if asked { 2000 } else { 0 });
        self.plans.push((later, Plan::Join(cid)));
    }

    fn connect(&mut self, now: Instant, world: &mut World, net: &mut Net, cid: u16) {
        // One at a time in one place.
        if self.conns.iter().any(|conn| conn.cid == cid) {
            return;
        }
        self.report.connections += 1;
        let link = world.accept();
        debug_assert_eq!(link, net.links.len());
        net.links.push(Link::new(&self.setup.weather));
        let (header, data) = self.setup.digests;
        let joins = self.session.as_ref().map(|_| (self.tsih, self.parameters.clone()));
        let mut login = Login::new(Wanted {
            initiator_name: "iqn.2026-01.org.example:client".to_owned(),
            initiator_alias: None,
            target_name: Some(crate::daemon::TARGET.to_owned()),
            kind: SessionKind::Normal,
            isid: [0x80, 0, 0, 0, 0, 1],
            cid,
            joins,
            cmd_sn: self.session.as_ref().map_or(FIRST_CMD_SN, Session::cmd_sn),
            exp_stat_sn: self.session.as_ref().and_then(|session| session.exp_stat_sn(cid)).unwrap_or(0),
            offers: self.setup.offers.clone(),
            header_digest: Setup::digest(header),
            data_digest: Setup::digest(data),
            authentication: if self.random.once_in(2) { Authentication::None } else { Authentication::Skipped },
        });
        let mut out = Vec::new();
        login.begin(&mut out);
        net.send(link, End::Initiator, now, &out);
        let stage = Stage::Login { login: Box::new(login), until: now + LOGIN_TIME };
        self.conns.push(Conn { link, cid, stage, input: Vec::new(), leaves: false });
    }

    /// Lets the network lose a connection at some byte, until enough were lost or all is done.
    fn strike(&mut self, net: &mut Net, workload: &Workload) {
        if workload.is_judging() {
            net.links.iter_mut().for_each(Link::disarm);
            return;
        }
        if self.cuts_left > 0
            && !self.conns.is_empty()
            && self.conns.iter().all(|conn| !net.links[conn.link].will_be_cut())
        {
            self.cuts_left -= 1;
            let link = self.random.pick(&self.conns).link;
            net.links[link].arm_cut(&mut self.random);
        }
    }

    /// Logs out one of several connections (§11.14, reason 1); one always stays.
    fn leave_one(&mut self) {
        let Some(session) = self.session.as_mut().filter(|session| !session.is_over()) else { return };
        let stays = |at: &usize| self.conns[*at].connection().is_some() && !self.conns[*at].leaves;
        let open: Vec<usize> = (0..self.conns.len()).filter(stays).collect();
        if open.len() < 2 || self.leaving {
            return;
        }
        let conn = &mut self.conns[*self.random.pick(&open)];
        if let Some(c) = conn.connection() {
            conn.leaves |= session.logout(c, LogoutReason::Connection);
        }
    }

    fn leave(&mut self) {
        let Some(session) = &mut self.session else { return };
        let open: Vec<ConnectionId> = self.conns.iter().filter_map(Conn::connection).collect();
        if !open.is_empty() {
            self.leaving = session.logout(*self.random.pick(&open), LogoutReason::Session);
        }
    }

    fn submit(&mut self, now: Instant, workload: &mut Workload) -> bool {
        let Some(session) = self.session.as_mut().filter(|session| !session.is_over()) else { return false };
        let open: Vec<ConnectionId> = self.conns.iter().filter_map(Conn::connection).collect();
        if open.is_empty() {
            return false;
        }
        let mut worked = workload.begin(now);
        while let Some((at, command)) = workload.next(now) {
            let c = *self.random.pick(&open);
            match session.submit(now, c, command) {
                Ok(task) => workload.sent(at, task),
                Err(Refused::WindowFull | Refused::Closing) => break,
                Err(Refused::Malformed) => {
                    self.wrong = Some("a command that cannot be expressed".to_owned());
                    break;
                }
            }
            worked = true;
            if workload.is_judging() {
                continue;
            }
            if self.setup.aborts > 0
                && self.random.once_in(self.setup.aborts)
                && let Some(task) = workload.any_in_flight()
            {
                self.plans.push((now, Plan::Abort(task)));
            }
            if self.setup.resets > 0 && self.random.once_in(self.setup.resets) {
                self.plans.push((now, Plan::Reset));
            }
            if self.setup.leaves > 0 && self.random.once_in(self.setup.leaves) {
                self.plans.push((now, Plan::Leave));
            }
        }
        worked
    }

    fn transmit(&mut self, now: Instant, net: &mut Net, workload: &Workload) -> bool {
        let Some(session) = &mut self.session else { return false };
        let mut worked = false;
        let mut closing = Vec::new();
        for (at, conn) in self.conns.iter_mut().enumerate() {
            let Stage::FullFeature { c, batch, .. } = &mut conn.stage else { continue };
            // What was put on the wire in the last turn has left.
            if let Some(batch) = batch.take() {
                session.transmitted(&batch);
                worked = true;
            }
            let mut next = TxBatch::default();
            session.poll_transmit(now, *c, &mut next);
            if next.is_empty() {
                if session.wants_close(*c) {
                    closing.push(at);
                }
                continue;
            }
            worked = true;
            let payload = |task: TaskId, offset: u32, length: u32| {
                &workload.data_out(task)[offset as usize..offset as usize + length as usize]
            };
            let bytes = encode(&mut next, payload);
            net.send(conn.link, End::Initiator, now, &bytes);
            *batch = Some(next);
        }
        for at in closing.into_iter().rev() {
            self.close(at, now, net);
            worked = true;
        }
        worked
    }

    /// What is going on, for a report.
    pub fn describe(&self, workload: &Workload) -> String {
        let session = self.session.as_ref();
        format!(
            "session {:?}, connections {:?}, plans {:?}; {}",
            session.map(|session| (session.tasks(), session.is_over(), session.room())),
            self.conns.iter().map(|conn| (conn.cid, conn.link, conn.is_login())).collect::<Vec<_>>(),
            self.plans,
            workload.describe()
        )
    }
}

impl Conn {
    fn is(&self, name: ConnectionId) -> bool {
        matches!(self.stage, Stage::FullFeature { c, .. } if c == name)
    }

    fn is_login(&self) -> bool {
        matches!(self.stage, Stage::Login { .. })
    }

    fn connection(&self) -> Option<ConnectionId> {
        match self.stage {
            Stage::FullFeature { c, .. } => Some(c),
            Stage::Login { .. } => None,
        }
    }
}
