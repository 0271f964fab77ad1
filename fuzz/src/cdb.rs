//! The device server: CDBs with their data against two disks and a drive in memory, through two nexuses.
//!
//! Input: records, each a command with what it sends, a task management function, or a nexus that is lost.
//! Every course is run twice, over memory that held other bytes before: what an initiator is told may
//! not depend on them (SPC-12).

use crate::Input;
use block::pure::Ram;
use block::{Backend, NoEngine, Pool};
use lun::{
    Cdb, Command, Completed, DeviceType, Event, Identity, Lane, LaneContext, LogicalUnit, LunEntry, LunMap,
    NexusDescription, NexusId, Options, TargetPort, TaskAttribute, TaskManagementFunction as Function, TaskTag,
};
use scsi::Status;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

/// Records of one input.
const RECORDS: usize = 40;
/// Turns of the lane until everything that was begun has ended.
const TURNS: usize = 20_000;
const POOL_BYTES: usize = 64 << 20;

// What a record is.
const MANAGEMENT: u8 = 0x0e;
const LOSS: u8 = 0x0f;
/// Further records follow before the lane runs to its end.
const GOES_ON: u8 = 0x10;
/// The second nexus.
const OTHER: u8 = 0x20;
/// Less comes than was announced.
const SHORT: u8 = 0x40;

/// One course of events over each kind of memory.
pub fn run(bytes: &[u8]) {
    let first = course(bytes, 0x00);
    let second = course(bytes, 0xa5);
    assert_eq!(first.len(), second.len(), "the course depends on old memory");
    for (one, other) in first.iter().zip(&second) {
        assert_eq!(one, other, "what is told depends on old memory");
    }
}

/// What an initiator learns of a command.
#[derive(Debug, PartialEq, Eq)]
struct Told {
    tag: u64,
    status: u8,
    sense: Vec<u8>,
    data: Vec<u8>,
    transfer_length: u64,
}

struct Expected {
    cdb: [u8; 16],
    into: u32,
    data: Vec<u8>,
    ended: bool,
}

struct Rig {
    lane: Lane,
    pool: Pool,
    units: Arc<LunMap>,
    port: Arc<TargetPort>,
    nexuses: [Option<NexusId>; 2],
    closing: usize,
    tasks: HashMap<u64, Expected>,
    /// Tags of the harness's own commands, far from those of the input.
    next_own: u64,
    managed: u64,
    answered: u64,
    told: Vec<Told>,
}

fn units() -> LunMap {
    let unit = |number: u8, backend: Arc<dyn Backend>, device_type, read_only| {
        let identity = Identity {
            uuid: [number; 16],
            vendor: "LUNETTE".to_owned(),
            product: "Disk".to_owned(),
            revision: "0001".to_owned(),
            serial: format!("000{number}"),
        };
        let removable = device_type == DeviceType::Optical;
        let options = Options { device_type, read_only, removable, ..Options::default() };
        LunEntry { number: u16::from(number), unit: LogicalUnit::new(identity, options, backend), read_only }
    };
    LunMap {
        entries: vec![
            unit(1, Ram::new(512, 128), DeviceType::Disk, false),
            unit(2, Ram::new(4096, 16), DeviceType::Disk, false),
            unit(3, Ram::new(2048, 16), DeviceType::Optical, true),
        ],
    }
}

/// Memory whose former content can be told.
fn pool(filling: u8) -> Pool {
    let pool = Pool::new(POOL_BYTES, 1 << 20);
    let mut taken = Vec::new();
    for (bytes, count) in [(4096, 8), (8192, 2), (16384, 1), (65536, 1)] {
        for _ in 0..count {
            let mut buffer = pool.take(bytes).expect("an empty pool");
            buffer.as_mut_slice().fill(filling);
            taken.push(buffer);
        }
    }
    taken.into_iter().for_each(|buffer| pool.give(buffer));
    pool
}

fn course(bytes: &[u8], filling: u8) -> Vec<Told> {
    static PORT: LazyLock<Arc<TargetPort>> =
        LazyLock::new(|| Arc::new(TargetPort::alone("iqn.2026-01.org.example:disk")));
    let pool = pool(filling);
    let drawn = Arc::new(AtomicU64::new(1));
    let context = LaneContext {
        pool: pool.clone(),
        engine: Rc::new(NoEngine),
        wake: Arc::new(|| {}),
        clock: Arc::new(|| Duration::from_secs(1_000_000)),
        random: Arc::new(move |bytes: &mut [u8]| {
            bytes.fill(drawn.fetch_add(1, Ordering::Relaxed) as u8);
            true
        }),
    };
    let mut rig = Rig {
        lane: Lane::new(context),
        pool,
        units: Arc::new(units()),
        // States of portal groups would go from one input to the next.
        port: Arc::new(TargetPort::alone(PORT.target_name())),
        nexuses: [None; 2],
        closing: 0,
        tasks: HashMap::new(),
        next_own: 1 << 20,
        managed: 0,
        answered: 0,
        told: Vec::new(),
    };
    let mut input = Input::new(bytes);
    for number in 0..RECORDS {
        if input.is_empty() {
            break;
        }
        let how = rig.record(&mut input, number as u64);
        if how & GOES_ON == 0 {
            rig.settle();
        } else {
            rig.lane.run();
            rig.events();
        }
    }
    rig.end();
    rig.told
}

impl Rig {
    fn record(&mut self, input: &mut Input<'_>, number: u64) -> u8 {
        let how = input.byte();
        let which = usize::from(how & OTHER != 0);
        let nexus = self.nexus(which);
        match how & 0x0f {
            LOSS => {
                self.lane.close_nexus(nexus);
                self.nexuses[which] = None;
                self.closing += 1;
            }
            MANAGEMENT => {
                let [function, unit, task] = input.array();
                let tag = TaskTag(u64::from(task));
                let function = match function % 9 {
                    0 => Function::AbortTask { tag },
                    1 => Function::AbortTaskSet,
                    2 => Function::ClearTaskSet,
                    3 => Function::ClearAca,
                    4 => Function::LogicalUnitReset,
                    5 => Function::TargetReset,
                    6 => Function::QueryTask { tag },
                    7 => Function::QueryTaskSet,
                    _ => Function::QueryAsynchronousEvent,
                };
                self.lane.task_management(nexus, self.managed, lun(unit), function);
                self.managed += 1;
            }
            kind => self.command(input, number, kind, nexus, how & SHORT != 0),
        }
        how
    }

    fn nexus(&mut self, which: usize) -> NexusId {
        if let Some(nexus) = self.nexuses[which] {
            return nexus;
        }
        let name = format!("iqn.2026-01.org.example:client{which}");
        let nexus = self.lane.open_nexus(NexusDescription {
            initiator_port: scsi::transport_id::TransportId::port(&name, [0x40, 0, 0, 1, 0, which as u8])
                .encode()
                .into(),
            target_port: Arc::clone(&self.port),
            units: Arc::clone(&self.units),
            protocol_level: 1 + which as u8,
        });
        self.nexuses[which] = Some(nexus);
        // The attentions that a new nexus is owed would be the answer to what the input asks first.
        for unit in 1..=3 {
            self.next_own += 1;
            let tag = self.next_own;
            self.tasks.insert(tag, Expected { cdb: [0; 16], into: 0, data: Vec::new(), ended: false });
            self.lane.command(Command {
                nexus,
                tag: TaskTag(tag),
                lun: lun(unit),
                cdb: Cdb::Short([0; 16]),
                attribute: TaskAttribute::Simple,
                priority: 0,
                expected_in: 0,
                expected_out: 0,
            });
        }
        nexus
    }

    fn command(&mut self, input: &mut Input<'_>, number: u64, kind: u8, nexus: NexusId, short: bool) {
        let unit = input.byte();
        let attribute = match kind & 0x0c {
            0 | 4 => TaskAttribute::Simple,
            8 if kind & 1 == 0 => TaskAttribute::Ordered,
            8 => TaskAttribute::HeadOfQueue,
            _ => TaskAttribute::Aca,
        };
        let into = u32::from(input.short());
        let cdb = match kind & 3 {
            0 => input.take(6),
            1 => input.take(10),
            2 => input.take(16),
            _ => {
                let length = usize::from(input.byte());
                input.take(16 + length % 245)
            }
        };
        let data = input.counted().to_vec();
        let mut start = [0; 16];
        let length = cdb.len().min(16);
        start[..length].copy_from_slice(&cdb[..length]);
        let more = if short { u32::from(input.byte()) << 3 } else { 0 };
        let command = Command {
            nexus,
            tag: TaskTag(number),
            lun: lun(unit),
            cdb: Cdb::from(cdb),
            attribute,
            priority: unit >> 4,
            expected_in: into,
            expected_out: data.len() as u32 + more,
        };
        self.tasks.insert(number, Expected { cdb: start, into, data, ended: false });
        self.lane.command(command);
    }

    fn events(&mut self) -> bool {
        let mut any = false;
        while let Some(event) = self.lane.poll_event() {
            any = true;
            match event {
                Event::ReceiveDataOut { nexus, tag, length } => self.data_out(nexus, tag, length),
                Event::Completed { nexus, tag, completed } => self.completed(nexus, tag, completed),
                Event::Aborted { tag, .. } => self.ended(tag),
                Event::NexusClosed { .. } => self.closing -= 1,
                Event::TaskManagementDone { .. } => self.answered += 1,
            }
        }
        any
    }

    fn data_out(&mut self, nexus: NexusId, tag: TaskTag, length: u32) {
        let task = &self.tasks[&tag.0];
        assert!(!task.ended && u64::from(length) <= lun::MAXIMUM_TRANSFER_BYTES);
        let Some(account) = self.lane.account(nexus) else { panic!("data wanted by a nexus that is gone") };
        let count = task.data.len().min(length as usize);
        let buffer = account.take(length as usize).map(|mut buffer| {
            buffer.as_mut_slice()[..count].copy_from_slice(&task.data[..count]);
            buffer
        });
        let Some(buffer) = buffer else { return self.lane.abort(tag) };
        if let Some(unwanted) = self.lane.data_out(tag, Some(buffer), count as u32) {
            account.give(unwanted);
        }
    }

    fn completed(&mut self, nexus: NexusId, tag: TaskTag, completed: Completed) {
        self.ended(tag);
        let task = &self.tasks[&tag.0];
        let length = completed.data_in_length as usize;
        assert!(completed.data_in_length <= task.into, "{length} bytes for {} expected", task.into);
        let data = completed.data_in.as_ref().map_or(&[][..], |buffer| &buffer.as_slice()[..length]).to_vec();
        assert_eq!(data.len(), length);
        let sense = completed.sense.map_or(Vec::new(), |sense| sense.into_bytes().into());
        assert_eq!(sense.is_empty(), completed.status != Status::CheckCondition, "{:?}", completed.status);
        assert!(sense.is_empty() || (8..=252).contains(&sense.len()) && (0x70..=0x73).contains(&(sense[0] & 0x7f)));
        if let Some(allocation) = allocation_length(&task.cdb)
            && completed.status == Status::Good
        {
            assert!(completed.transfer_length <= allocation, "{} bytes of {allocation}", completed.transfer_length);
        }
        if let Some(buffer) = completed.data_in {
            match self.lane.account(nexus) {
                Some(account) => account.give(buffer),
                None => self.pool.give(buffer),
            }
        }
        let (status, transfer_length) = (completed.status as u8, completed.transfer_length);
        self.told.push(Told { tag: tag.0, status, sense, data, transfer_length });
    }

    fn ended(&mut self, tag: TaskTag) {
        let task = self.tasks.get_mut(&tag.0).expect("a task that was begun");
        assert!(!std::mem::replace(&mut task.ended, true), "a task ends twice");
    }

    /// Lets everything end that was begun.
    fn settle(&mut self) {
        for _ in 0..TURNS {
            self.lane.run();
            if !self.events() && self.lane.tasks() == 0 {
                return;
            }
        }
        let open: Vec<_> =
            self.tasks.iter().filter(|(_, task)| !task.ended).map(|(tag, task)| (tag, task.cdb)).collect();
        panic!("{} tasks do not end: {open:02x?}", self.lane.tasks());
    }

    fn end(&mut self) {
        self.settle();
        for nexus in std::mem::take(&mut self.nexuses).into_iter().flatten() {
            self.lane.close_nexus(nexus);
            self.closing += 1;
        }
        self.settle();
        assert_eq!((self.closing, self.answered), (0, self.managed), "nexuses and functions that do not end");
        assert_eq!(self.pool.taken_bytes(), 0, "memory is left");
    }
}

fn lun(choice: u8) -> [u8; 8] {
    match choice & 7 {
        0..=4 => [0, choice & 7, 0, 0, 0, 0, 0, 0],
        // REPORT LUNS and the well-known unit; and something that is none.
        5 => [0xc1, 1, 0, 0, 0, 0, 0, 0],
        6 => [0x40, choice >> 4, 0, 0, 0, 0, 0, 0],
        _ => [0xff; 8],
    }
}

/// The allocation length of commands of which every initiator has some, where it stands in the standards.
fn allocation_length(cdb: &[u8; 16]) -> Option<u64> {
    let at =
        |from: usize, count: usize| cdb[from..from + count].iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte));
    match cdb[0] {
        0x03 | 0x1a => Some(at(4, 1)),
        0x12 => Some(at(3, 2)),
        0x1c => Some(at(3, 2)),
        0x3c => Some(at(6, 3)),
        0x4d | 0x5a | 0x5e => Some(at(7, 2)),
        0x9e => Some(at(10, 4)),
        0xa0 | 0xa3 => Some(at(6, 4)),
        _ => None,
    }
}
