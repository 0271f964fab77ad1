//! The sans-IO initiator with the plainest driver around it, for a scripted target in the same process: no
//! socket, and the clock is the test's.

use crate::raw::Transport;
use crate::stream::{Receiver, Stream, encode};
use iscsi::initiator::{Command, ConnectionId, Event, Limits, Refused, Session, TxBatch};
use iscsi::login::initiator::{Authentication, DigestOffer, Failure, LoggedIn, Login, Step, Wanted};
use iscsi::session::{ConnectionError, Incoming, SessionKind, TaskId};
use iscsi::wire::BHS_BYTES;
use std::cell::{Ref, RefCell, RefMut};
use std::collections::{HashMap, VecDeque};
use std::io::{self, ErrorKind, Read, Write};
use std::rc::Rc;
use std::time::{Duration, Instant};

/// Bytes with which the memory of reads begins.
pub const UNTOUCHED: u8 = 0xaa;

/// What came of a login.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entry {
    /// It goes on.
    UnderWay,
    /// It succeeded.
    In,
    /// The target is elsewhere.
    Redirected(Vec<String>),
    /// It failed.
    Failed(Failure),
}

/// The memory of a command.
#[derive(Debug, Clone, Default)]
pub struct Memory {
    /// Where its data-in lands, [`UNTOUCHED`] before.
    pub data_in: Vec<u8>,
    /// From where its data-out is sent.
    pub data_out: Vec<u8>,
}

enum Stage {
    Login(Box<Login>),
    FullFeature(ConnectionId, Stream),
    Closed,
}

struct Conn {
    stage: Stage,
    entry: Entry,
    input: Vec<u8>,
    output: VecDeque<u8>,
    error: Option<ConnectionError>,
}

/// What the initiator is made of.
pub struct Inner {
    /// The session, as soon as there is one.
    pub session: Option<Session>,
    /// What the last login that succeeded agreed on.
    pub logged_in: Option<LoggedIn>,
    /// Now.
    pub now: Instant,
    limits: Limits,
    conns: Vec<Conn>,
    memory: HashMap<TaskId, Memory>,
    events: VecDeque<Event>,
}

/// An initiator whose target is played by hand.
#[derive(Clone)]
pub struct Driven(Rc<RefCell<Inner>>);

/// The target's end of one of its connections.
pub struct Wire {
    driven: Driven,
    number: usize,
}

/// What a plain login wants.
pub fn wanted() -> Wanted {
    Wanted {
        initiator_name: "iqn.2026-01.org.example:client".into(),
        initiator_alias: None,
        target_name: Some(crate::daemon::TARGET.into()),
        kind: SessionKind::Normal,
        isid: [0x80, 0, 0, 0, 0, 7],
        cid: 1,
        joins: None,
        cmd_sn: 100,
        exp_stat_sn: 0,
        offers: iscsi::key::Offers::default(),
        header_digest: DigestOffer::None,
        data_digest: DigestOffer::None,
        authentication: Authentication::None,
    }
}

impl Driven {
    /// An initiator within these limits.
    pub fn new(limits: Limits) -> Driven {
        Driven(Rc::new(RefCell::new(Inner {
            session: None,
            logged_in: None,
            now: Instant::now(),
            limits,
            conns: Vec::new(),
            memory: HashMap::new(),
            events: VecDeque::new(),
        })))
    }

    /// Begins a login on a connection of its own; returns the target's end of that.
    pub fn connect(&self, wanted: Wanted) -> Wire {
        let mut login = Login::new(wanted);
        let mut out = Vec::new();
        login.begin(&mut out);
        let mut inner = self.0.borrow_mut();
        inner.conns.push(Conn {
            stage: Stage::Login(Box::new(login)),
            entry: Entry::UnderWay,
            input: Vec::new(),
            output: out.into(),
            error: None,
        });
        Wire { driven: self.clone(), number: inner.conns.len() - 1 }
    }

    /// The initiator itself.
    pub fn inner(&self) -> RefMut<'_, Inner> {
        self.0.borrow_mut()
    }

    /// Its session, which has begun.
    pub fn session(&self) -> RefMut<'_, Session> {
        RefMut::map(self.0.borrow_mut(), |inner| inner.session.as_mut().expect("a session"))
    }

    /// What came of the login on this connection, from 0.
    pub fn entry(&self, number: usize) -> Entry {
        self.0.borrow().conns[number].entry.clone()
    }

    /// The session's name of this connection, from 0.
    pub fn connection(&self, number: usize) -> ConnectionId {
        match self.0.borrow().conns[number].stage {
            Stage::FullFeature(c, _) => c,
            _ => panic!("connection {number} is not in the full feature phase"),
        }
    }

    /// Why the initiator gave this connection up, if it did.
    pub fn error(&self, number: usize) -> Option<ConnectionError> {
        self.0.borrow().conns[number].error.clone()
    }

    /// Whether this connection is closed.
    pub fn is_closed(&self, number: usize) -> bool {
        matches!(self.0.borrow().conns[number].stage, Stage::Closed)
    }

    /// Sends a command on the first connection.
    pub fn submit(&self, command: Command, data_out: &[u8]) -> TaskId {
        self.try_submit(0, command, data_out).expect("the command is taken")
    }

    /// The same on any.
    pub fn try_submit(&self, number: usize, command: Command, data_out: &[u8]) -> Result<TaskId, Refused> {
        let c = self.connection(number);
        let inner = &mut *self.0.borrow_mut();
        let memory = Memory { data_in: vec![UNTOUCHED; command.data_in as usize], data_out: data_out.to_vec() };
        assert_eq!(memory.data_out.len(), command.data_out as usize);
        let task = inner.session.as_mut().expect("a session").submit(inner.now, c, command)?;
        inner.memory.insert(task, memory);
        Ok(task)
    }

    /// A read of so many bytes.
    pub fn read(&self, bytes: u32) -> TaskId {
        self.submit(Command { data_in: bytes, ..Command::new(LUN, &[0x28]) }, &[])
    }

    /// A write of this.
    pub fn write(&self, data: &[u8]) -> TaskId {
        self.submit(Command { data_out: data.len() as u32, ..Command::new(LUN, &[0x2a]) }, data)
    }

    /// What has happened since this was asked last.
    pub fn events(&self) -> Vec<Event> {
        let inner = &mut *self.0.borrow_mut();
        inner.turn();
        inner.events.drain(..).collect()
    }

    /// The memory of a task, also after its end.
    pub fn memory(&self, task: TaskId) -> Ref<'_, Memory> {
        Ref::map(self.0.borrow(), |inner| &inner.memory[&task])
    }

    /// Lets time pass, in steps in which the initiator does what is due.
    pub fn pass(&self, time: Duration) {
        let inner = &mut *self.0.borrow_mut();
        let end = inner.now + time;
        loop {
            inner.turn();
            let due = inner.session.as_ref().and_then(Session::poll_timeout).filter(|due| *due <= end);
            let Some(due) = due else { break };
            inner.now = inner.now.max(due);
            // Several things may be due.
            let mut is_due = true;
            for _ in 0..8 {
                inner.time();
                inner.turn();
                let next = inner.session.as_ref().and_then(Session::poll_timeout);
                is_due = next.is_some_and(|next| next <= inner.now);
                if !is_due {
                    break;
                }
            }
            assert!(!is_due, "what is due stays due: a driver would never sleep");
        }
        inner.now = end;
        inner.turn();
    }

    /// The target's end of this connection is gone.
    pub fn lose(&self, number: usize) {
        let inner = &mut *self.0.borrow_mut();
        inner.close(number, None);
        inner.turn();
    }
}

/// The unit of [`Driven::read`] and [`Driven::write`].
pub const LUN: [u8; 8] = [0, 1, 0, 0, 0, 0, 0, 0];

struct Receiving<'a> {
    session: &'a mut Session,
    memory: &'a mut HashMap<TaskId, Memory>,
    events: &'a mut VecDeque<Event>,
    c: ConnectionId,
    now: Instant,
}

impl Receiving<'_> {
    fn take_events(&mut self) {
        while let Some(event) = self.session.poll_event() {
            self.events.push_back(event);
        }
    }
}

impl Receiver for Receiving<'_> {
    fn header_bytes(&self, first: &[u8; BHS_BYTES]) -> usize {
        self.session.header_bytes(self.c, first)
    }

    fn header(&mut self, header: &[u8], digest_ok: bool) -> Result<Incoming, ConnectionError> {
        let incoming = self.session.handle_header(self.now, self.c, header, digest_ok);
        self.take_events();
        incoming
    }

    fn collect(&mut self, bytes: &[u8]) {
        self.session.collect(self.c, bytes);
    }

    fn store(&mut self, task: TaskId, offset: u32, bytes: &[u8]) {
        let ended = |event: &Event| matches!(event, Event::Completed(ended, _) if *ended == task);
        if self.events.iter().any(ended) {
            return;
        }
        let memory = self.memory.get_mut(&task).expect("the memory of a task");
        // A place outside of it is the core's mistake, and panics.
        memory.data_in[offset as usize..offset as usize + bytes.len()].copy_from_slice(bytes);
    }

    fn data_end(&mut self, digest_ok: bool) -> Result<(), ConnectionError> {
        let done = self.session.handle_data_end(self.c, digest_ok);
        self.take_events();
        done
    }
}

impl Inner {
    fn receive(&mut self, number: usize, bytes: &[u8]) {
        self.conns[number].input.extend_from_slice(bytes);
        loop {
            let conn = &mut self.conns[number];
            match &mut conn.stage {
                Stage::Closed => return,
                Stage::Login(login) => {
                    let Some(header) = conn.input.first_chunk::<BHS_BYTES>().copied() else { return };
                    let step = match login.data_bytes(&header) {
                        Err(failure) => Step::Failed(failure),
                        Ok(length) => {
                            let Some(data) = conn.input.get(BHS_BYTES..BHS_BYTES + length) else { return };
                            let mut out = Vec::new();
                            let step = login.handle(&header, data, &mut out);
                            conn.input.drain(..BHS_BYTES + length);
                            conn.output.extend(out);
                            step
                        }
                    };
                    match step {
                        Step::More => {}
                        Step::Done(logged_in) => self.logged_in(number, *logged_in),
                        Step::Redirected { addresses, .. } => self.over(number, Entry::Redirected(addresses)),
                        Step::Failed(failure) => self.over(number, Entry::Failed(failure)),
                    }
                }
                Stage::FullFeature(c, stream) => {
                    let (session, memory) = (self.session.as_mut().expect("a session"), &mut self.memory);
                    let mut receiving = Receiving { session, memory, events: &mut self.events, c: *c, now: self.now };
                    if let Err(error) = stream.parse(&mut conn.input, &mut receiving) {
                        self.close(number, Some(error));
                    }
                    self.turn();
                    return;
                }
            }
        }
    }

    fn logged_in(&mut self, number: usize, logged_in: LoggedIn) {
        self.logged_in = Some(logged_in.clone());
        let c = match &mut self.session {
            Some(session) if !session.is_over() => session.attach(logged_in.opening, self.now),
            session => {
                let (new, c) =
                    Session::new(logged_in.session, self.limits.clone(), logged_in.cmd_sn, logged_in.opening, self.now);
                *session = Some(new);
                c
            }
        };
        let conn = &mut self.conns[number];
        (conn.entry, conn.stage) = (Entry::In, Stage::FullFeature(c, Stream::default()));
    }

    fn over(&mut self, number: usize, entry: Entry) {
        let conn = &mut self.conns[number];
        (conn.entry, conn.stage) = (entry, Stage::Closed);
    }

    fn close(&mut self, number: usize, error: Option<ConnectionError>) {
        let conn = &mut self.conns[number];
        if conn.error.is_none() {
            conn.error = error;
        }
        let stage = std::mem::replace(&mut conn.stage, Stage::Closed);
        if let (Stage::FullFeature(c, _), Some(session)) = (stage, &mut self.session) {
            session.handle_closed(self.now, c);
        }
    }

    /// What is due now.
    fn time(&mut self) {
        while let Some((c, error)) = self.session.as_mut().and_then(|session| session.handle_timeout(self.now)) {
            let number = self.conns.iter().position(|conn| matches!(conn.stage, Stage::FullFeature(of, _) if of == c));
            let Some(number) = number else { return };
            self.close(number, Some(error));
        }
    }

    /// Sends what there is to send, closes what is to be closed, takes the events.
    fn turn(&mut self) {
        let Some(session) = &mut self.session else { return };
        let mut closing = Vec::new();
        for (number, conn) in self.conns.iter_mut().enumerate() {
            let Stage::FullFeature(c, _) = &conn.stage else { continue };
            loop {
                let mut batch = TxBatch::default();
                session.poll_transmit(self.now, *c, &mut batch);
                if batch.is_empty() {
                    break;
                }
                let payload = |task: TaskId, offset: u32, length: u32| {
                    &self.memory[&task].data_out[offset as usize..][..length as usize]
                };
                conn.output.extend(encode(&mut batch, payload));
                session.transmitted(&batch);
            }
            if session.wants_close(*c) {
                closing.push(number);
            }
        }
        for number in closing {
            self.close(number, None);
        }
        while let Some(event) = self.session.as_mut().and_then(Session::poll_event) {
            self.events.push_back(event);
        }
    }
}

impl Read for Wire {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let inner = &mut *self.driven.0.borrow_mut();
        inner.turn();
        let conn = &mut inner.conns[self.number];
        let count = conn.output.len().min(bytes.len());
        for (place, byte) in bytes.iter_mut().zip(conn.output.drain(..count)) {
            *place = byte;
        }
        match (count, &conn.stage) {
            (0, Stage::Closed) => Ok(0),
            (0, _) => Err(ErrorKind::WouldBlock.into()),
            _ => Ok(count),
        }
    }
}

impl Write for Wire {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let inner = &mut *self.driven.0.borrow_mut();
        if let Stage::Closed = inner.conns[self.number].stage {
            return Err(ErrorKind::BrokenPipe.into());
        }
        inner.receive(self.number, bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Transport for Wire {
    fn set_patience(&mut self, _: Duration) {}
}

impl Drop for Wire {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.driven.lose(self.number);
        }
    }
}
