//! A whole target in this process, without sockets, threads or a clock: the real login, session and
//! device server, driven by the bytes that a scripted initiator writes to a [`Wire`].
//!
//! The wire cuts what passes into pieces, holds some of it back and ends where its plan says. A read
//! that finds nothing lets the world go on (held bytes arrive, the store completes, the clock stands)
//! and reports silence only when nothing can come any more. One seed, one course of events.

mod endpoint;
mod hosted;

use crate::random::Random;
use crate::raw::Transport;
use block::layer::Valve;
use block::{Backend, NoEngine, Pool};
use endpoint::Endpoint;
use hosted::Hosted;
use iscsi::auth::Rules;
use iscsi::key::Offers;
use iscsi::login::target::{Asked, LoggedIn, LoginLimits};
use iscsi::session::{ConnectionError, ConnectionId, SessionLimits};
use lun::{Event, Identity, Lane, LaneContext, LogicalUnit, LunEntry, LunMap, NexusId, Options};
use std::cell::RefCell;
use std::io::{self, ErrorKind, Read, Write};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Bytes of data in flight that the target holds at most.
const POOL_BYTES: usize = 64 << 20;
/// Turns in which nothing happened before a read reports silence.
const IDLE_TURNS: usize = 200;

/// What a target in this process is made of.
pub struct World {
    lane: Lane,
    pool: Pool,
    units: Arc<LunMap>,
    valve: Option<Valve>,
    endpoints: Vec<Endpoint>,
    sessions: Vec<Option<Box<Hosted>>>,
    setup: Setup,
    now: Instant,
    next_tsih: u16,
    /// Why connections were given up.
    errors: Vec<ConnectionError>,
    targets: Vec<u8>,
}

/// A shared [`World`].
#[derive(Clone)]
pub struct Shared(Rc<RefCell<World>>);

/// What a target in this process is like.
#[derive(Default)]
pub struct Setup {
    /// The disks, from LUN 1 on.
    pub units: Vec<Arc<dyn Backend>>,
    /// Completions that wait at this valve are let go one by one, when nothing else happens.
    pub valve: Option<Valve>,
    /// What the target offers at login.
    pub offers: Offers,
    /// What bounds a login.
    pub login: LoginLimits,
    /// What bounds a session.
    pub limits: SessionLimits,
    /// Who has to show who it is, and how; each login has a challenge of its own.
    pub rules: Option<Rules>,
    /// TargetAlias.
    pub alias: Option<String>,
}

impl Shared {
    /// A target named [`crate::daemon::TARGET`] with this backend as LUN 1. Completions that wait at
    /// `valve` are let go one by one, when nothing else happens.
    pub fn new(backend: Arc<dyn Backend>, valve: Option<Valve>) -> Shared {
        Shared::with(Setup { units: vec![backend], valve, ..Setup::default() })
    }

    /// A target like this.
    pub fn with(setup: Setup) -> Shared {
        Shared(Rc::new(RefCell::new(World::new(setup))))
    }

    /// A connection over a network like this.
    pub fn connect(&self, network: Network) -> Wire {
        let mut world = self.0.borrow_mut();
        let number = world.accept();
        Wire {
            world: self.clone(),
            number,
            random: Random::new(network.seed),
            network,
            held: Vec::new(),
            passed: [0; 2],
        }
    }

    /// Lets everything end that was begun: the store completes, lost sessions die.
    pub fn settle(&self) {
        for _ in 0..100_000 {
            let mut world = self.0.borrow_mut();
            if let Some(valve) = &world.valve {
                valve.release(1);
            }
            world.pump();
            if world.lane.tasks() == 0 && world.is_settled() {
                return;
            }
        }
        panic!("the world does not come to rest: {} tasks", self.tasks());
    }

    /// Tasks that the device server has not ended.
    pub fn tasks(&self) -> usize {
        self.0.borrow().lane.tasks()
    }

    /// Bytes of memory that tasks hold.
    pub fn taken_bytes(&self) -> usize {
        self.0.borrow().pool.taken_bytes()
    }

    /// Lets time pass; sessions may ping or give up.
    pub fn pass(&self, time: Duration) {
        let mut world = self.0.borrow_mut();
        let now = world.now + time;
        world.tick(now);
        world.pump();
    }
}

impl World {
    pub(crate) fn new(mut setup: Setup) -> World {
        let mut units = LunMap { entries: Vec::new() };
        for (number, backend) in (1..).zip(std::mem::take(&mut setup.units)) {
            let mut uuid = *b"0123456789abcdef";
            uuid[15] += number as u8 - 1;
            let identity = Identity {
                uuid,
                vendor: "LUNETTE".to_owned(),
                product: "Disk".to_owned(),
                revision: "0001".to_owned(),
                serial: String::from_utf8_lossy(&uuid).into_owned(),
            };
            let unit = LogicalUnit::new(identity, Options::default(), backend);
            units.entries.push(LunEntry { number, unit, read_only: false });
        }
        let pool = Pool::new(POOL_BYTES, 0);
        let context = LaneContext {
            pool: pool.clone(),
            engine: Rc::new(NoEngine),
            wake: Arc::new(|| {}),
            clock: Arc::new(|| std::time::Duration::ZERO),
            random: Arc::new(|_| false),
        };
        let mut targets = Vec::new();
        iscsi::text::push(&mut targets, "TargetName", crate::daemon::TARGET);
        for address in ["192.168.122.45:3260,1", "[2001:0:9d38:90d7:28ae:1833:3f57:85d2]:3260,1"] {
            iscsi::text::push(&mut targets, "TargetAddress", address);
        }
        World {
            lane: Lane::new(context),
            pool,
            units: Arc::new(units),
            valve: setup.valve.take(),
            endpoints: Vec::new(),
            sessions: Vec::new(),
            setup,
            now: Instant::now(),
            next_tsih: 1,
            errors: Vec::new(),
            targets,
        }
    }

    /// Another connection; its number.
    pub(crate) fn accept(&mut self) -> usize {
        let endpoint = Endpoint::new(&self.setup);
        self.endpoints.push(endpoint);
        self.endpoints.len() - 1
    }

    /// Tasks that the device server has not ended.
    pub(crate) fn tasks(&self) -> usize {
        self.lane.tasks()
    }

    /// Bytes of memory that tasks hold.
    pub(crate) fn taken_bytes(&self) -> usize {
        self.pool.taken_bytes()
    }

    /// Sessions that have not ended.
    pub(crate) fn sessions(&self) -> usize {
        self.sessions.iter().flatten().count()
    }

    /// What the world thinks the time is.
    pub(crate) fn now(&self) -> Instant {
        self.now
    }

    /// Why connections were given up, since the last call.
    pub(crate) fn take_errors(&mut self) -> Vec<ConnectionError> {
        std::mem::take(&mut self.errors)
    }

    /// When [`World::tick`] has something to do.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.sessions.iter().flatten().filter_map(|hosted| hosted.session.poll_timeout()).min()
    }

    pub(crate) fn receive(&mut self, endpoint: usize, bytes: &[u8]) {
        self.endpoints[endpoint].receive(bytes);
    }

    pub(crate) fn transmit(&mut self, endpoint: usize, into: &mut [u8]) -> usize {
        let mut taken = std::mem::take(&mut self.endpoints[endpoint]);
        let count = taken.transmit(self, into);
        self.endpoints[endpoint] = taken;
        count
    }

    pub(crate) fn lose(&mut self, endpoint: usize) {
        self.endpoints[endpoint].lose();
    }

    pub(crate) fn is_closed(&self, endpoint: usize) -> bool {
        self.endpoints[endpoint].is_closed()
    }

    /// The time is this now; sessions may ping or give up.
    pub(crate) fn tick(&mut self, now: Instant) {
        self.now = now;
        for at in 0..self.sessions.len() {
            // One connection after another may be given up.
            while let Some(c) = self.sessions[at].as_mut().and_then(|hosted| hosted.tick(now)) {
                match self.endpoint_of(at, c) {
                    Some(endpoint) if !self.endpoints[endpoint].is_closed() => {
                        self.endpoints[endpoint].lose();
                        self.pump_once();
                    }
                    _ => break,
                }
            }
        }
    }

    fn is_settled(&self) -> bool {
        let ending = |hosted: &Hosted| hosted.is_ending();
        self.endpoints.iter().all(Endpoint::is_settled) && !self.sessions.iter().flatten().any(|hosted| ending(hosted))
    }

    /// Runs the device server and hands what it has to say to the sessions, until both are quiet.
    pub(crate) fn pump(&mut self) {
        for _ in 0..64 {
            if !self.pump_once() {
                return;
            }
        }
    }

    fn pump_once(&mut self) -> bool {
        let mut worked = false;
        for number in 0..self.endpoints.len() {
            let mut endpoint = std::mem::take(&mut self.endpoints[number]);
            worked |= endpoint.work(self);
            self.endpoints[number] = endpoint;
        }
        for at in 0..self.sessions.len() {
            let Some(mut hosted) = self.sessions[at].take() else { continue };
            worked |= hosted.events(self);
            if hosted.session.is_over() && !hosted.is_ending() {
                hosted.finish(self);
                worked = true;
            }
            if hosted.is_gone() {
                hosted.clear(&self.pool);
                worked = true;
                // Whoever still has a connection of it loses that.
                for number in 0..self.endpoints.len() {
                    if self.endpoints[number].session().is_some_and(|(session, ..)| session == at) {
                        self.endpoints[number].lose();
                    }
                }
                continue;
            }
            self.sessions[at] = Some(hosted);
        }
        self.lane.run();
        while let Some(event) = self.lane.poll_event() {
            worked = true;
            self.dispatch(event);
        }
        worked
    }

    fn dispatch(&mut self, event: Event) {
        let nexus = match &event {
            Event::ReceiveDataOut { nexus, .. }
            | Event::Completed { nexus, .. }
            | Event::Aborted { nexus, .. }
            | Event::NexusClosed { nexus }
            | Event::TaskManagementDone { nexus, .. } => *nexus,
        };
        // The session keeps no accounts: it sends at once.
        if let Event::Completed { completed, .. } = &event
            && let (Some(buffer), Some(account)) = (&completed.data_in, self.lane.account(nexus))
        {
            account.discharge(buffer);
        }
        match self.sessions.iter_mut().flatten().find(|hosted| hosted.nexus() == Some(nexus)) {
            Some(hosted) => hosted.lane_event(&self.pool, event),
            // Functions of a nexus are no tasks of it: their end may come behind its own.
            None if matches!(event, Event::TaskManagementDone { .. }) => {}
            None => panic!("an event for a nexus that is gone: {event:?}"),
        }
    }

    /// The session that a login names by its TSIH.
    fn find_session(&self, asked: &Asked) -> Option<usize> {
        self.sessions.iter().position(|slot| {
            slot.as_ref().is_some_and(|hosted| {
                hosted.tsih == asked.tsih
                    && hosted.isid == asked.isid
                    && hosted.initiator == asked.initiator_name
                    && !hosted.is_ending()
            })
        })
    }

    /// Endpoints of a session that are open, with their CIDs.
    fn connections_of(&self, session: usize) -> impl Iterator<Item = (usize, u16)> {
        self.endpoints.iter().enumerate().filter_map(move |(number, endpoint)| {
            let (of, _, cid) = endpoint.session()?;
            (of == session && !endpoint.is_closed()).then_some((number, cid))
        })
    }

    fn endpoint_of(&self, session: usize, c: ConnectionId) -> Option<usize> {
        self.endpoints
            .iter()
            .position(|endpoint| endpoint.session().is_some_and(|(of, name, _)| (of, name) == (session, c)))
    }

    /// A login is complete: the session that it reinstates is ended (§6.3.5), the connection that it takes
    /// the place of is closed (§6.3.4).
    fn make_way(&mut self, asked: &Asked) -> Option<ConnectionId> {
        if asked.tsih == 0 {
            for at in 0..self.sessions.len() {
                let same = |hosted: &Hosted| hosted.isid == asked.isid && hosted.initiator == asked.initiator_name;
                let Some(mut hosted) = self.sessions[at].take() else { continue };
                if same(&hosted) {
                    hosted.finish(self);
                }
                self.sessions[at] = Some(hosted);
            }
            return None;
        }
        let at = self.find_session(asked)?;
        let now = self.now;
        let c = self.sessions[at].as_mut()?.session.reinstate(asked.cid, now)?;
        if let Some(endpoint) = self.endpoint_of(at, c) {
            self.endpoints[endpoint].lose();
        }
        Some(c)
    }

    /// Whether nothing stands in the way of a login that is complete.
    fn way_is_clear(&self, asked: &Asked, replaces: Option<ConnectionId>) -> bool {
        if asked.tsih == 0 {
            return !self
                .sessions
                .iter()
                .flatten()
                .any(|hosted| hosted.isid == asked.isid && hosted.initiator == asked.initiator_name);
        }
        let hosted = self.find_session(asked).and_then(|at| self.sessions[at].as_ref());
        hosted.is_none_or(|hosted| {
            let recovers = hosted.session.parameters().error_recovery_level >= 2;
            recovers || replaces.is_none_or(|c| hosted.session.is_clear(c))
        })
    }

    /// The connection enters the full feature phase of its session. `None` where that is gone by now.
    fn join(&mut self, logged_in: LoggedIn) -> Option<(usize, ConnectionId)> {
        if logged_in.asked.tsih != 0 {
            let at = self.find_session(&logged_in.asked)?;
            let now = self.now;
            let hosted = self.sessions[at].as_mut()?;
            return Some((at, hosted.session.attach(logged_in.opening, now)));
        }
        let limits = self.setup.limits.clone();
        let (hosted, c) = Hosted::new(self, logged_in, limits);
        let at = self.sessions.iter().position(Option::is_none).unwrap_or_else(|| {
            self.sessions.push(None);
            self.sessions.len() - 1
        });
        self.sessions[at] = Some(Box::new(hosted));
        Some((at, c))
    }

    fn connection_lost(&mut self, session: usize, c: ConnectionId, error: Option<ConnectionError>) {
        let now = self.now;
        self.errors.extend(error.clone());
        if let Some(hosted) = self.sessions.get_mut(session).and_then(Option::as_mut) {
            match error {
                Some(error) => hosted.session.handle_error(c, &error, now),
                None => hosted.session.handle_closed(c, now),
            }
        }
    }

    fn nexus_description(&self, initiator: &str, isid: [u8; 6], protocol_level: u8) -> lun::NexusDescription {
        lun::NexusDescription {
            initiator_port: scsi::transport_id::TransportId::port(initiator, isid).encode().into(),
            target_port: Arc::new(lun::TargetPort::alone(crate::daemon::TARGET)),
            units: Arc::clone(&self.units),
            protocol_level,
        }
    }

    fn open_nexus(&mut self, initiator: &str, isid: [u8; 6], protocol_level: u8) -> NexusId {
        let description = self.nexus_description(initiator, isid, protocol_level);
        self.lane.open_nexus(description)
    }
}

/// What a network does to a connection.
#[derive(Debug, Clone, Default)]
pub struct Network {
    /// Where its choices come from.
    pub seed: u64,
    /// Pieces of random size up to this; 0: whole.
    pub piece_bytes: usize,
    /// Once in so many writes some bytes are held back until the initiator has nothing to read. 0: never.
    pub holds: u64,
    /// The connection is lost after so many bytes to the target.
    pub cut_to_target: Option<u64>,
    /// The connection is lost after so many bytes to the initiator.
    pub cut_to_initiator: Option<u64>,
}

/// The initiator's end of a connection to a [`World`].
pub struct Wire {
    world: Shared,
    number: usize,
    random: Random,
    network: Network,
    held: Vec<u8>,
    /// Bytes to the target, bytes to the initiator.
    passed: [u64; 2],
}

impl Wire {
    /// Loses the connection now.
    pub fn cut(&mut self) {
        let mut world = self.world.0.borrow_mut();
        world.endpoints[self.number].lose();
        world.pump();
    }

    /// Bytes that reached the target.
    pub fn to_target(&self) -> u64 {
        self.passed[0]
    }

    /// Bytes that reached the initiator.
    pub fn to_initiator(&self) -> u64 {
        self.passed[1]
    }

    /// Bytes to the target, as they are and at once; for those who do not want to wait at all.
    pub fn push(&mut self, bytes: &[u8]) {
        // A connection that is lost takes none, which shows at the next turn.
        let _ = self.deliver(bytes);
    }

    /// Lets the world go on by one turn and gives the bytes that come from the target in it; `None` when
    /// nothing comes any more.
    pub fn turn(&mut self, bytes: &mut [u8]) -> Option<usize> {
        let mut world = self.world.0.borrow_mut();
        world.pump();
        let count = world.transmit(self.number, bytes);
        if count == 0 && world.is_closed(self.number) {
            return None;
        }
        self.passed[1] += count as u64;
        if count > 0 {
            world.pump();
        }
        Some(count)
    }

    fn deliver(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut rest = bytes;
        while !rest.is_empty() {
            let mut size = rest.len();
            if self.network.piece_bytes > 0 {
                size = size.min(1 + self.random.size(self.network.piece_bytes));
            }
            let left = self.network.cut_to_target.map_or(u64::MAX, |cut| cut.saturating_sub(self.passed[0]));
            size = size.min(usize::try_from(left).unwrap_or(usize::MAX));
            let (piece, behind) = rest.split_at(size);
            let mut world = self.world.0.borrow_mut();
            world.endpoints[self.number].receive(piece);
            world.pump();
            drop(world);
            self.passed[0] += size as u64;
            rest = behind;
            if self.network.cut_to_target.is_some_and(|cut| self.passed[0] >= cut) {
                self.cut();
                return Err(ErrorKind::BrokenPipe.into());
            }
        }
        Ok(())
    }
}

impl Write for Wire {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.world.0.borrow().endpoints[self.number].is_closed() {
            return Err(ErrorKind::BrokenPipe.into());
        }
        let mut all = std::mem::take(&mut self.held);
        all.extend_from_slice(bytes);
        if self.network.holds > 0 && self.random.once_in(self.network.holds) {
            let now = self.random.size(all.len() + 1);
            self.held = all.split_off(now);
        }
        self.deliver(&all)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Read for Wire {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        for _ in 0..IDLE_TURNS {
            let mut size = bytes.len();
            if self.network.piece_bytes > 0 {
                size = size.min(1 + self.random.size(self.network.piece_bytes));
            }
            let left = self.network.cut_to_initiator.map_or(u64::MAX, |cut| cut.saturating_sub(self.passed[1]));
            if left == 0 {
                self.cut();
                return Ok(0);
            }
            size = size.min(usize::try_from(left).unwrap_or(usize::MAX));
            let mut world = self.world.0.borrow_mut();
            world.pump();
            let count = world.transmit(self.number, &mut bytes[..size]);
            if count > 0 {
                self.passed[1] += count as u64;
                world.pump();
                return Ok(count);
            }
            if world.endpoints[self.number].is_closed() {
                return Ok(0);
            }
            if let Some(valve) = &world.valve {
                valve.release(1);
            }
            drop(world);
            let held = std::mem::take(&mut self.held);
            if !held.is_empty() && self.deliver(&held).is_err() {
                return Ok(0);
            }
        }
        Err(ErrorKind::WouldBlock.into())
    }
}

impl Transport for Wire {
    fn set_patience(&mut self, _: Duration) {}
}
