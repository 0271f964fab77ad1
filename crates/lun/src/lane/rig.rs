//! For tests: a unit over any store, served by several lanes that the test runs when it wants.

use super::*;
use crate::{Cdb, Identity, LogicalUnit, LunMap, Options, TargetPort};
use block::{Backend, NoEngine};

/// The lanes, each with one nexus that knows of the power on.
pub(super) struct Rig {
    pub lanes: Vec<Lane>,
    pub nexuses: Vec<NexusId>,
    /// LUN 1.
    pub unit: Arc<LogicalUnit>,
    /// All of them, from LUN 1 on.
    pub units: Vec<Arc<LogicalUnit>>,
    next: u64,
    out: HashMap<u64, Vec<u8>>,
    ended: HashMap<u64, (Status, Vec<u8>)>,
    /// Data-out is given to no task that asks for it.
    pub slow: bool,
    /// Where commands go.
    pub lun: [u8; 8],
    /// How they come.
    pub attribute: TaskAttribute,
    asked: Vec<(usize, TaskTag, u32)>,
    /// Task management functions that are complete.
    pub functions: Vec<u64>,
    /// Nexuses that are closed.
    pub closed: Vec<NexusId>,
    /// By which port the nexuses of each lane come.
    ports: Vec<Arc<TargetPort>>,
}

pub(super) const UNIT: [u8; 8] = [0, 1, 0, 0, 0, 0, 0, 0];

impl Rig {
    pub fn new(backend: Arc<dyn Backend>, lanes: usize) -> Rig {
        Rig::with(Options::default(), backend, lanes)
    }

    pub fn with(options: Options, backend: Arc<dyn Backend>, lanes: usize) -> Rig {
        Rig::build(&options, vec![backend], lanes)
    }

    /// One lane for each port, by which its nexus comes.
    pub fn with_ports(backend: Arc<dyn Backend>, ports: &[Arc<TargetPort>]) -> Rig {
        Rig::through(vec![LogicalUnit::new(identity(), Options::default(), backend)], ports)
    }

    /// Several units, from LUN 1 on, with UUIDs of 7, 8, ….
    pub fn with_units(backends: Vec<Arc<dyn Backend>>, lanes: usize) -> Rig {
        Rig::build(&Options::default(), backends, lanes)
    }

    fn build(options: &Options, backends: Vec<Arc<dyn Backend>>, lanes: usize) -> Rig {
        let unit = |(number, backend)| {
            LogicalUnit::new(Identity { uuid: [number; 16], ..identity() }, options.clone(), backend)
        };
        Rig::serving((7..).zip(backends).map(unit).collect(), lanes)
    }

    /// This unit, with a past perhaps.
    pub fn of(unit: Arc<LogicalUnit>, lanes: usize) -> Rig {
        Rig::serving(vec![unit], lanes)
    }

    fn serving(units: Vec<Arc<LogicalUnit>>, lanes: usize) -> Rig {
        let port = Arc::new(TargetPort::alone("t"));
        Rig::through(units, &vec![port; lanes])
    }

    fn through(units: Vec<Arc<LogicalUnit>>, ports: &[Arc<TargetPort>]) -> Rig {
        let mut rig = Rig {
            lanes: Vec::new(),
            nexuses: Vec::new(),
            unit: Arc::clone(&units[0]),
            units,
            next: 0,
            out: HashMap::new(),
            ended: HashMap::new(),
            slow: false,
            lun: UNIT,
            attribute: TaskAttribute::Simple,
            asked: Vec::new(),
            functions: Vec::new(),
            closed: Vec::new(),
            ports: ports.to_vec(),
        };
        for lane in 0..ports.len() {
            let pool = Pool::new(64 << 20, 0);
            let context = LaneContext {
                pool,
                engine: Rc::new(NoEngine),
                wake: Arc::new(|| {}),
                clock: Arc::new(|| std::time::Duration::ZERO),
                random: Arc::new(|bytes| {
                    bytes.fill(0x5A);
                    true
                }),
            };
            rig.lanes.push(Lane::new(context));
            let nexus = rig.open(lane, &format!("client {lane}"));
            rig.nexuses.push(nexus);
            for number in 1..=rig.units.len() {
                rig.lun = [0, number as u8, 0, 0, 0, 0, 0, 0];
                assert_eq!(rig.sense(lane, &[0; 6], &[]).0, 6, "power on");
            }
        }
        rig.lun = UNIT;
        rig
    }

    pub fn port(&self, lane: usize) -> &TargetPort {
        &self.ports[lane]
    }

    pub fn open(&mut self, lane: usize, name: &str) -> NexusId {
        let port = Arc::clone(&self.ports[lane]);
        self.open_with(lane, name, port, &[1, 2, 3, 4])
    }

    /// A nexus that sees only these LUNs.
    pub fn open_with(&mut self, lane: usize, name: &str, port: Arc<TargetPort>, luns: &[u16]) -> NexusId {
        let entries = (1..).zip(&self.units).filter(|(number, _)| luns.contains(number));
        let entry = |(number, unit)| LunEntry { number, unit: Arc::clone(unit), read_only: false };
        let entries: Vec<_> = entries.map(entry).collect();
        self.lanes[lane].open_nexus(NexusDescription {
            initiator_port: Arc::from(name.as_bytes()),
            target_port: port,
            units: Arc::new(LunMap { entries }),
            protocol_level: 1,
        })
    }

    /// Sends a command with this data and returns its tag; nothing runs yet.
    pub fn send(&mut self, lane: usize, cdb: &[u8], out: &[u8]) -> u64 {
        self.next += 1;
        let tag = self.next;
        self.out.insert(tag, out.to_vec());
        self.lanes[lane].command(Command {
            nexus: self.nexuses[lane],
            tag: TaskTag(tag),
            lun: self.lun,
            cdb: Cdb::from(cdb),
            attribute: self.attribute,
            priority: 0,
            expected_in: if out.is_empty() { 1 << 20 } else { 0 },
            expected_out: out.len() as u32,
        });
        tag
    }

    /// Runs one lane once and does what it asks for.
    pub fn step(&mut self, lane: usize) {
        self.lanes[lane].run();
        while let Some(event) = self.lanes[lane].poll_event() {
            match event {
                Event::ReceiveDataOut { tag, length, .. } if self.slow => self.asked.push((lane, tag, length)),
                Event::ReceiveDataOut { tag, length, .. } => self.give(lane, tag, length),
                Event::Completed { nexus, tag, completed } => {
                    let mut data = completed.sense.map_or(Vec::new(), |sense| sense.as_bytes().to_vec());
                    if let Some(buffer) = completed.data_in {
                        data.extend_from_slice(&buffer.as_slice()[..completed.data_in_length as usize]);
                        self.lanes[lane].account(nexus).unwrap().give(buffer);
                    }
                    assert!(self.ended.insert(tag.0, (completed.status, data)).is_none(), "told twice");
                }
                Event::TaskManagementDone { id, .. } => self.functions.push(id),
                Event::NexusClosed { nexus } => self.closed.push(nexus),
                Event::Aborted { .. } => {}
            }
        }
    }

    fn give(&mut self, lane: usize, tag: TaskTag, length: u32) {
        let data = self.out.remove(&tag.0).unwrap_or_default();
        let mut buffer = self.lanes[lane].context.pool.take_beyond(length as usize).unwrap();
        buffer.as_mut_slice()[..length as usize].copy_from_slice(&data[..length as usize]);
        if let Some(unwanted) = self.lanes[lane].data_out(tag, Some(buffer), length) {
            self.lanes[lane].context.pool.give(unwanted);
        }
    }

    /// The initiators that were slow send their data.
    pub fn give_all(&mut self) {
        self.slow = false;
        for (lane, tag, length) in std::mem::take(&mut self.asked) {
            self.give(lane, tag, length);
        }
    }

    /// Runs all lanes until nothing changes any more, or for a good while.
    pub fn settle(&mut self) {
        for _ in 0..160 {
            (0..self.lanes.len()).for_each(|lane| self.step(lane));
        }
    }

    /// What became of a command, if it has ended.
    pub fn take(&mut self, tag: u64) -> Option<(Status, Vec<u8>)> {
        self.ended.remove(&tag)
    }

    /// A command from its beginning to its end.
    pub fn command(&mut self, lane: usize, cdb: &[u8], out: &[u8]) -> (Status, Vec<u8>) {
        let tag = self.send(lane, cdb, out);
        self.settle();
        self.take(tag).unwrap_or_else(|| panic!("{cdb:02x?} did not end"))
    }

    /// The sense key and codes of a command that is refused.
    pub fn sense(&mut self, lane: usize, cdb: &[u8], out: &[u8]) -> (u8, u8, u8) {
        let (status, sense) = self.command(lane, cdb, out);
        assert_eq!(status, Status::CheckCondition, "{cdb:02x?}");
        (sense[2], sense[12], sense[13])
    }

    /// A command that ends well.
    pub fn good(&mut self, lane: usize, cdb: &[u8], out: &[u8]) -> Vec<u8> {
        let (status, data) = self.command(lane, cdb, out);
        assert_eq!(status, Status::Good, "{cdb:02x?}: {data:02x?}");
        data
    }

    pub fn read(&mut self, lane: usize, block: u64, blocks: u32) -> Vec<u8> {
        self.good(lane, &cdb_16(0x88, 0, block, blocks), &[])
    }
}

/// Who the unit is.
pub(super) fn identity() -> Identity {
    Identity {
        uuid: [7; 16],
        vendor: "LUNETTE".into(),
        product: "Disk".into(),
        revision: "0001".into(),
        serial: "1".into(),
    }
}

/// A CDB with a 64-bit LBA and a 32-bit length.
pub(super) fn cdb_16(opcode: u8, flags: u8, block: u64, blocks: u32) -> [u8; 16] {
    let mut cdb = [0; 16];
    (cdb[0], cdb[1]) = (opcode, flags);
    cdb[2..10].copy_from_slice(&block.to_be_bytes());
    cdb[10..14].copy_from_slice(&blocks.to_be_bytes());
    cdb
}

/// A CDB with a 32-bit LBA and a 16-bit length.
pub(super) fn cdb_10(opcode: u8, flags: u8, block: u32, blocks: u16) -> [u8; 10] {
    let mut cdb = [0; 10];
    (cdb[0], cdb[1]) = (opcode, flags);
    cdb[2..6].copy_from_slice(&block.to_be_bytes());
    cdb[7..9].copy_from_slice(&blocks.to_be_bytes());
    cdb
}

/// Blocks of 512 bytes in memory.
pub(super) fn ram(blocks: u64) -> Arc<block::pure::Ram> {
    block::pure::Ram::new(512, blocks)
}
