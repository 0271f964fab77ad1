//! A whole target in this process, without sockets, threads or a clock: the real login, session and
//! device server, driven by the bytes that a scripted initiator writes to a [`Wire`].
//!
//! The wire cuts what passes into pieces, holds some of it back and ends where its plan says. A read
//! that finds nothing lets the world go on (held bytes arrive, the store completes, the clock stands)
//! and reports silence only when nothing can come any more. One seed, one course of events.

mod endpoint;

use crate::random::Random;
use crate::raw::Transport;
use block::layer::Valve;
use block::{Backend, NoEngine, Pool};
use endpoint::Endpoint;
use iscsi::auth::Rules;
use iscsi::key::Offers;
use iscsi::login::target::LoginLimits;
use iscsi::session::SessionLimits;
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
    setup: Setup,
    endpoints: Vec<Endpoint>,
    now: Instant,
    next_tsih: u16,
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
    pub fn with(mut setup: Setup) -> Shared {
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
        Shared(Rc::new(RefCell::new(World {
            lane: Lane::new(context),
            pool,
            units: Arc::new(units),
            valve: setup.valve.take(),
            setup,
            endpoints: Vec::new(),
            now: Instant::now(),
            next_tsih: 1,
            targets,
        })))
    }

    /// A connection over a network like this.
    pub fn connect(&self, network: Network) -> Wire {
        let mut world = self.0.borrow_mut();
        let number = world.endpoints.len();
        let endpoint = Endpoint::new(&world.setup);
        world.endpoints.push(endpoint);
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
            if world.lane.tasks() == 0 && world.endpoints.iter().all(Endpoint::is_settled) {
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
        world.now += time;
        let now = world.now;
        for endpoint in &mut world.endpoints {
            endpoint.tick(now);
        }
        world.pump();
    }
}

impl World {
    /// Runs the device server and hands what it has to say to the sessions, until both are quiet.
    fn pump(&mut self) {
        for _ in 0..64 {
            let mut worked = false;
            for number in 0..self.endpoints.len() {
                let mut endpoint = std::mem::take(&mut self.endpoints[number]);
                worked |= endpoint.work(self);
                self.endpoints[number] = endpoint;
            }
            self.lane.run();
            while let Some(event) = self.lane.poll_event() {
                worked = true;
                self.dispatch(event);
            }
            if !worked {
                return;
            }
        }
    }

    fn dispatch(&mut self, event: Event) {
        let nexus = match &event {
            Event::ReceiveDataOut { nexus, .. }
            | Event::Completed { nexus, .. }
            | Event::Aborted { nexus, .. }
            | Event::NexusClosed { nexus }
            | Event::TaskManagementDone { nexus, .. } => *nexus,
        };
        // The endpoint keeps no accounts: it sends at once.
        if let Event::Completed { completed, .. } = &event
            && let (Some(buffer), Some(account)) = (&completed.data_in, self.lane.account(nexus))
        {
            account.discharge(buffer);
        }
        match self.endpoints.iter_mut().find(|endpoint| endpoint.nexus() == Some(nexus)) {
            Some(endpoint) => endpoint.lane_event(&self.pool, event),
            // Functions of a nexus are no tasks of it: their end may come behind its own.
            None if matches!(event, Event::TaskManagementDone { .. }) => {}
            None => panic!("an event for a nexus that is gone: {event:?}"),
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
        let endpoint = &mut world.endpoints[self.number];
        let count = endpoint.transmit(bytes);
        if count == 0 && endpoint.is_closed() {
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
            let count = world.endpoints[self.number].transmit(&mut bytes[..size]);
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
