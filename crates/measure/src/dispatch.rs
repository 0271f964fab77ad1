//! Commands through a lane, from *SCSI Command Received* to *Send Command Complete*.

use crate::Case;
use block::pure::{Null, Ram};
use block::{Backend, Completion, Description, Engine, Error, Limits, NoEngine, Outcome, Pool, Request, Store};
use lun::{
    Cdb, Command, Event, Identity, Lane, LaneContext, LogicalUnit, LunEntry, LunMap, NexusDescription, NexusId,
    Options, TargetPort, TaskAttribute, TaskTag,
};
use scsi::Status;
use std::hint::black_box;
use std::rc::Rc;
use std::sync::Arc;

/// 4 KiB at LBA 64 of blocks of 512 bytes.
const READ_10: [u8; 10] = [0x28, 0, 0, 0, 0, 64, 0, 0, 8, 0];
const WRITE_10: [u8; 10] = [0x2a, 0, 0, 0, 0, 64, 0, 0, 8, 0];
const INQUIRY: [u8; 6] = [0x12, 0, 0, 0, 96, 0];
/// Commands of one turn where one read of a socket brings many.
const MANY: u32 = 32;

pub(crate) const CASES: &[Case] = &[
    Case { name: "dispatch: READ (10), 4 KiB", prepare: || reads(nothing(), 1) },
    Case { name: "dispatch: READ (10), 4 KiB, RAM", prepare: || reads(ram(), 1) },
    Case { name: "dispatch: 32 x READ (10), 4 KiB", prepare: || reads(nothing(), MANY) },
    Case { name: "dispatch: WRITE (10), 4 KiB", prepare: || writes(nothing(), 1) },
    Case { name: "dispatch: WRITE (10), 4 KiB, RAM", prepare: || writes(ram(), 1) },
    Case { name: "dispatch: 32 x WRITE (10), 4 KiB", prepare: || writes(nothing(), MANY) },
    Case { name: "dispatch: TEST UNIT READY", prepare: || plain(&[0; 6], 0, Status::Good) },
    Case { name: "dispatch: INQUIRY", prepare: || plain(&INQUIRY, 96, Status::Good) },
    Case { name: "dispatch: unknown opcode", prepare: || plain(&[0xff; 6], 0, Status::CheckCondition) },
];

fn nothing() -> Arc<dyn Backend> {
    Arc::new(Nothing(Null::new(512, 1 << 20)))
}

fn ram() -> Arc<dyn Backend> {
    Ram::new(512, 1 << 11)
}

/// A disk that does nothing at all, not even zeros: callgrind counts a `rep stosb` of 4 KiB as 4,096 instructions,
/// in which a regression of dispatch would drown.
struct Nothing(Arc<Null>);

impl Backend for Nothing {
    fn limits(&self) -> Arc<Limits> {
        self.0.limits()
    }

    fn description(&self) -> Description {
        self.0.description()
    }

    fn open(&self, _engine: &Rc<dyn Engine>) -> Result<Box<dyn Store>, Error> {
        Ok(Box::new(Channel))
    }

    fn resize(&self, blocks: u64) -> Result<(), Error> {
        self.0.resize(blocks)
    }
}

struct Channel;

impl Store for Channel {
    fn submit(&mut self, batch: &mut Vec<Request>, done: &mut Vec<Completion>) {
        done.extend(batch.drain(..).map(|request| request.complete(Ok(Outcome::Done))));
    }

    fn poll(&mut self, _done: &mut Vec<Completion>) {}

    fn in_flight(&self) -> usize {
        0
    }
}

/// A lane with one nexus and one unit, whose power on has been told.
struct World {
    lane: Lane,
    nexus: NexusId,
    next: u64,
}

impl World {
    fn new(backend: Arc<dyn Backend>) -> World {
        let identity = Identity {
            uuid: [7; 16],
            vendor: "LUNETTE".into(),
            product: "Disk".into(),
            revision: "0001".into(),
            serial: "1".into(),
        };
        let unit = LogicalUnit::new(identity, Options::default(), backend);
        let pool = Pool::new(64 << 20, 8 << 20);
        let context = LaneContext {
            pool,
            engine: Rc::new(NoEngine),
            wake: Arc::new(|| {}),
            clock: Arc::new(|| std::time::Duration::ZERO),
            random: Arc::new(|_| false),
        };
        let mut lane = Lane::new(context);
        let nexus = lane.open_nexus(NexusDescription {
            initiator_port: Arc::from(&b"client"[..]),
            target_port: Arc::new(TargetPort::alone("t")),
            units: Arc::new(LunMap { entries: vec![LunEntry { number: 0, unit, read_only: false }] }),
            protocol_level: 1,
        });
        let mut world = World { lane, nexus, next: 0 };
        world.send(&[0; 6], 0, 0);
        world.finish(1, Status::CheckCondition);
        world
    }

    fn send(&mut self, cdb: &[u8], expected_in: u32, expected_out: u32) {
        self.next += 1;
        self.lane.command(Command {
            nexus: self.nexus,
            tag: TaskTag(self.next),
            lun: [0; 8],
            cdb: Cdb::from(black_box(cdb)),
            attribute: TaskAttribute::Simple,
            priority: 0,
            expected_in,
            expected_out,
        });
    }

    /// Runs the lane until this many commands have ended, all with this status.
    fn finish(&mut self, mut commands: u32, status: Status) {
        while commands > 0 {
            self.lane.run();
            while let Some(event) = self.lane.poll_event() {
                match event {
                    Event::ReceiveDataOut { nexus, tag, length } => {
                        let buffer = self.lane.account(nexus).and_then(|account| account.take(length as usize));
                        assert!(buffer.is_some());
                        self.lane.data_out(tag, buffer, length);
                    }
                    Event::Completed { nexus, completed, .. } => {
                        assert_eq!(completed.status, status);
                        if let Some(buffer) = completed.data_in
                            && let Some(account) = self.lane.account(nexus)
                        {
                            account.give(buffer);
                        }
                        commands -= 1;
                    }
                    other => panic!("{other:?}"),
                }
            }
        }
    }
}

fn reads(backend: Arc<dyn Backend>, commands: u32) -> Box<dyn FnMut()> {
    let mut world = World::new(backend);
    Box::new(move || {
        (0..commands).for_each(|_| world.send(&READ_10, 4096, 0));
        world.finish(commands, Status::Good);
    })
}

fn writes(backend: Arc<dyn Backend>, commands: u32) -> Box<dyn FnMut()> {
    let mut world = World::new(backend);
    Box::new(move || {
        (0..commands).for_each(|_| world.send(&WRITE_10, 0, 4096));
        world.finish(commands, Status::Good);
    })
}

fn plain(cdb: &'static [u8], expected_in: u32, status: Status) -> Box<dyn FnMut()> {
    let mut world = World::new(nothing());
    Box::new(move || {
        world.send(cdb, expected_in, 0);
        world.finish(1, status);
    })
}
