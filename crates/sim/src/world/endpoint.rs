//! One connection at the target: bytes into the login or the session, and out of them.
//!
//! It does what `io::link` and `target` do around the same cores, in the plainest way, so that what a
//! test finds is theirs. What leaves is read from the tasks' memory at the moment in which it leaves,
//! as a socket would.

use super::hosted::Hosted;
use super::{Setup, World};
use crate::stream::{Receiver, Stream};
use block::Pool;
use iscsi::auth::Rules;
use iscsi::key::SessionParameters;
use iscsi::login::Status;
use iscsi::login::target::{Asked, Failure, Found, LoggedIn, Login, Policy, Step};
use iscsi::session::{ConnectionError, ConnectionId, Incoming, Segment, TaskId, TxBatch};
use iscsi::wire::BHS_BYTES;
use std::collections::VecDeque;
use std::time::Instant;

/// How far a connection is.
#[derive(Default)]
enum Stage {
    Login(Box<Login>),
    /// The login is complete; what stands in its way is being ended. Then this is its last response.
    Admitted {
        logged_in: Box<LoggedIn>,
        replaces: Option<ConnectionId>,
        response: Vec<u8>,
    },
    FullFeature(Box<Joined>),
    #[default]
    Closed,
}

/// A connection of a session.
struct Joined {
    /// Where the world keeps the session.
    session: usize,
    c: ConnectionId,
    cid: u16,
    stream: Stream,
    batch: Option<Leaving>,
    /// Why it is given up.
    error: Option<ConnectionError>,
}

/// A batch on its way out.
struct Leaving {
    batch: TxBatch,
    next: usize,
}

/// One connection at the target.
#[derive(Default)]
pub(super) struct Endpoint {
    stage: Stage,
    input: Vec<u8>,
    output: VecDeque<u8>,
    lost: bool,
}

/// What the target says at a login.
struct Admission<'a> {
    world: &'a mut World,
}

impl Policy for Admission<'_> {
    fn portal_group_tag(&self) -> u16 {
        1
    }

    fn authentication(&mut self, _: &Asked) -> Result<Option<Rules>, Failure> {
        let setup = &mut self.world.setup;
        if let Some(rules) = &mut setup.rules {
            rules.challenge.identifier = rules.challenge.identifier.wrapping_add(1);
            rules.challenge.bytes[0] = rules.challenge.identifier;
        }
        Ok(setup.rules.clone())
    }

    fn find(&mut self, asked: &Asked) -> Result<Found, Failure> {
        match asked.target_name.as_deref() {
            None | Some(crate::daemon::TARGET) => {
                Ok(Found { alias: self.world.setup.alias.clone(), ..Found::default() })
            }
            Some(_) => Err(Status::NOT_FOUND.into()),
        }
    }

    fn admit(&mut self, asked: &Asked, _: &SessionParameters) -> Result<u16, Failure> {
        if asked.tsih == 0 {
            let tsih = self.world.next_tsih;
            self.world.next_tsih = tsih.wrapping_add(1).max(1);
            return Ok(tsih);
        }
        let at = self.world.find_session(asked).ok_or(Status::SESSION_DOES_NOT_EXIST)?;
        let hosted = self.world.sessions[at].as_ref().ok_or(Status::SESSION_DOES_NOT_EXIST)?;
        // What is lost and waits to be recovered is no connection.
        let others = self.world.connections_of(at).filter(|(_, cid)| *cid != asked.cid).count();
        match others < hosted.session.parameters().max_connections as usize {
            true => Ok(asked.tsih),
            false => Err(Status::TOO_MANY_CONNECTIONS.into()),
        }
    }
}

impl Endpoint {
    pub fn new(setup: &Setup) -> Endpoint {
        let login = Login::new(setup.offers.clone(), setup.login);
        Endpoint { stage: Stage::Login(Box::new(login)), ..Endpoint::default() }
    }

    /// The session of which it is a connection, its name there, and its CID.
    pub fn session(&self) -> Option<(usize, ConnectionId, u16)> {
        match &self.stage {
            Stage::FullFeature(joined) => Some((joined.session, joined.c, joined.cid)),
            _ => None,
        }
    }

    /// Nothing more comes from it, nothing more goes to it.
    pub fn is_closed(&self) -> bool {
        self.lost || matches!(self.stage, Stage::Closed) && self.output.is_empty()
    }

    /// A lost connection's session knows of it.
    pub fn is_settled(&self) -> bool {
        !self.lost || matches!(self.stage, Stage::Closed)
    }

    pub fn lose(&mut self) {
        self.lost = true;
        self.input.clear();
        self.output.clear();
    }

    pub fn receive(&mut self, bytes: &[u8]) {
        if !self.lost {
            self.input.extend_from_slice(bytes);
        }
    }

    /// Bytes for the initiator.
    pub fn transmit(&mut self, world: &mut World, into: &mut [u8]) -> usize {
        if self.lost {
            return 0;
        }
        if self.output.is_empty() {
            self.refill(world);
        }
        let count = into.len().min(self.output.len());
        for (place, byte) in into.iter_mut().zip(self.output.drain(..count)) {
            *place = byte;
        }
        count
    }

    /// One turn. True: something happened.
    pub fn work(&mut self, world: &mut World) -> bool {
        if self.lost {
            return self.die(world);
        }
        let before = self.input.len();
        match &mut self.stage {
            Stage::Closed => return false,
            Stage::Login(login) => {
                let Some(first) = self.input.first_chunk::<BHS_BYTES>() else { return false };
                let Ok(length) = login.data_bytes(first) else {
                    self.stage = Stage::Closed;
                    return true;
                };
                let Some(data) = self.input.get(BHS_BYTES..BHS_BYTES + length) else { return false };
                let mut out = Vec::new();
                let step = login.handle(first, data, &mut Admission { world }, &mut out);
                self.input.drain(..BHS_BYTES + length);
                match step {
                    Step::More => self.output.extend(out),
                    Step::Failed(_) => {
                        self.output.extend(out);
                        self.stage = Stage::Closed;
                    }
                    Step::Done(logged_in) => {
                        let replaces = world.make_way(&logged_in.asked);
                        self.stage = Stage::Admitted { logged_in, replaces, response: out };
                    }
                }
                return true;
            }
            Stage::Admitted { logged_in, replaces, .. } => {
                if !world.way_is_clear(&logged_in.asked, *replaces) {
                    return false;
                }
                let Stage::Admitted { logged_in, response, .. } = std::mem::take(&mut self.stage) else { return false };
                let cid = logged_in.asked.cid;
                let Some((session, c)) = world.join(*logged_in) else { return true };
                self.output.extend(response);
                let joined = Joined { session, c, cid, stream: Stream::default(), batch: None, error: None };
                self.stage = Stage::FullFeature(Box::new(joined));
                return true;
            }
            Stage::FullFeature(joined) => {
                let Some(mut hosted) = world.sessions[joined.session].take() else {
                    self.lose();
                    return true;
                };
                let parsed = match hosted.session.wants_close(joined.c) {
                    true => Ok(()),
                    false => {
                        let (c, now) = (joined.c, world.now);
                        let mut receiving = Receiving { hosted: &mut hosted, c, pool: &world.pool, now };
                        joined.stream.parse(&mut self.input, &mut receiving)
                    }
                };
                let told = hosted.events(world);
                let over = hosted.session.wants_close(joined.c);
                world.sessions[joined.session] = Some(hosted);
                if let Err(error) = parsed {
                    joined.error = Some(error);
                    self.lose();
                    return true;
                }
                // What is in the batch, and what the batch after it holds, still leaves.
                if over && self.output.is_empty() && !self.refill(world) {
                    self.lose();
                    return true;
                }
                if told {
                    return true;
                }
            }
        }
        self.input.len() != before
    }

    /// Tells the session that the connection is lost.
    fn die(&mut self, world: &mut World) -> bool {
        if matches!(self.stage, Stage::Closed) {
            return false;
        }
        if let Stage::FullFeature(joined) = std::mem::take(&mut self.stage) {
            world.connection_lost(joined.session, joined.c, joined.error);
        }
        true
    }

    /// Puts the next piece of the batch into `output`; a batch that has left is over. False: there is
    /// nothing to send.
    fn refill(&mut self, world: &mut World) -> bool {
        let Stage::FullFeature(joined) = &mut self.stage else { return false };
        let Some(hosted) = world.sessions[joined.session].as_mut() else { return false };
        if hosted.is_ending() {
            return false;
        }
        loop {
            let Some(leaving) = &mut joined.batch else {
                let mut batch = TxBatch::default();
                hosted.session.poll_transmit(joined.c, &mut batch);
                if batch.is_empty() {
                    return false;
                }
                hosted.fill_digests(&mut batch);
                joined.batch = Some(Leaving { batch, next: 0 });
                continue;
            };
            match leaving.batch.segments.get(leaving.next) {
                Some(segment) => {
                    leaving.next += 1;
                    match segment {
                        Segment::Arena(range) => self.output.extend(&leaving.batch.arena[range.clone()]),
                        Segment::Payload { task, offset, length } => {
                            self.output.extend(hosted.payload(*task, *offset, *length));
                        }
                    }
                    return true;
                }
                None => {
                    if let Some(leaving) = joined.batch.take() {
                        hosted.session.transmitted(&leaving.batch);
                    }
                }
            }
        }
    }
}

/// A connection's session with the memory of its tasks.
struct Receiving<'a> {
    hosted: &'a mut Hosted,
    c: ConnectionId,
    pool: &'a Pool,
    now: Instant,
}

impl Receiver for Receiving<'_> {
    fn header_bytes(&self, first: &[u8; BHS_BYTES]) -> usize {
        self.hosted.session.header_bytes(self.c, first)
    }

    fn header(&mut self, header: &[u8], digest_ok: bool) -> Result<Incoming, ConnectionError> {
        self.hosted.session.handle_header(self.now, self.c, header, digest_ok)
    }

    fn collect(&mut self, bytes: &[u8]) {
        self.hosted.session.collect(self.c, bytes);
    }

    fn store(&mut self, task: TaskId, offset: u32, bytes: &[u8]) {
        self.hosted.store(self.pool, task, offset, bytes);
    }

    fn data_end(&mut self, digest_ok: bool) -> Result<(), ConnectionError> {
        self.hosted.session.handle_data_end(self.c, digest_ok)
    }
}
