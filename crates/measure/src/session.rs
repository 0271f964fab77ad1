//! Commands through a session of the full feature phase: header in, event out, answer into a batch.

use crate::Case;
use iscsi::key::{ConnectionParameters, SessionParameters};
use iscsi::session::{ConnectionId, Event, Opening, Response, Session, SessionKind, SessionLimits, TaskId, TxBatch};
use iscsi::wire::{BHS_BYTES, DataOut, FINAL, Header, Pdu, ReadyToTransfer, ScsiCommand};
use std::hint::black_box;
use std::time::Instant;
use zerocopy::FromBytes;

pub(crate) const CASES: &[Case] = &[
    Case { name: "session: 4 KiB read", prepare: read },
    Case { name: "session: 4 KiB write, immediate data", prepare: write_immediate },
    Case { name: "session: 4 KiB write, R2T", prepare: write_asked_for },
];

const R: u8 = 0x40;
const W: u8 = 0x20;

struct World {
    session: Session,
    connection: ConnectionId,
    now: Instant,
    batch: TxBatch,
    number: u32,
}

impl World {
    fn new(immediate_data: bool) -> World {
        let now = Instant::now();
        let parameters = ConnectionParameters { max_send_data_segment_length: 65_536, ..Default::default() };
        let opening = Opening { cid: 1, parameters, next_stat_sn: 100 };
        let parameters = SessionParameters { immediate_data, ..Default::default() };
        let limits = SessionLimits::default();
        let (session, connection) = Session::new(SessionKind::Normal, parameters, limits, 0, opening, now);
        World { session, connection, now, batch: TxBatch::default(), number: 0 }
    }

    fn send(&mut self, pdu: &impl Pdu) {
        let Some(first) = pdu.as_bytes().first_chunk::<BHS_BYTES>() else { unreachable!("48 bytes") };
        black_box(self.session.header_bytes(self.connection, black_box(first)));
        let incoming = self.session.handle_header(self.now, self.connection, first, true);
        match incoming {
            Ok(incoming) if incoming.length == 0 => {}
            Ok(_) => assert_eq!(self.session.handle_data_end(self.connection, true), Ok(())),
            Err(error) => panic!("{error}"),
        }
    }

    /// Sends a SCSI Command; the session tells of it.
    fn command(&mut self, flags: u8, immediate: u32) -> TaskId {
        let mut command = ScsiCommand::empty();
        command.flags = FINAL | flags;
        command.initiator_task_tag = self.number.into();
        command.cmd_sn = self.number.into();
        command.exp_stat_sn = self.number.wrapping_add(100).into();
        command.expected_data_transfer_length = 4096.into();
        command.set_data_segment_bytes(immediate);
        self.number = self.number.wrapping_add(1);
        self.send(&command);
        let Some(Event::Command(task)) = self.session.poll_event() else { panic!("no command") };
        black_box(self.session.task(task));
        task
    }

    /// One batch is on the wire; the first header of it.
    fn transmit(&mut self) -> Header {
        self.batch.clear();
        self.session.poll_transmit(self.connection, &mut self.batch);
        black_box(&self.batch);
        self.session.transmitted(&self.batch);
        let Ok((header, _)) = Header::read_from_prefix(&self.batch.arena) else { panic!("nothing to send") };
        header
    }

    fn end(&mut self, task: TaskId, response: Response) {
        self.session.complete(task, response);
        self.transmit();
        assert_eq!(self.session.poll_event(), Some(Event::Ended(task)));
    }
}

fn read() -> Box<dyn FnMut()> {
    let mut world = World::new(true);
    Box::new(move || {
        let task = world.command(R, 0);
        world.end(task, Response { data_in: 4096, transfer_length: 4096, ..Default::default() });
    })
}

fn write_immediate() -> Box<dyn FnMut()> {
    let mut world = World::new(true);
    Box::new(move || {
        let task = world.command(W, 4096);
        world.session.receive_data_out(task, 4096);
        assert_eq!(world.session.poll_event(), Some(Event::DataOut(task)));
        world.end(task, Response { transfer_length: 4096, outward: true, ..Default::default() });
    })
}

fn write_asked_for() -> Box<dyn FnMut()> {
    let mut world = World::new(false);
    Box::new(move || {
        let task = world.command(W, 0);
        world.session.receive_data_out(task, 4096);
        let header = world.transmit();
        let mut data = DataOut::empty();
        data.flags = FINAL;
        data.initiator_task_tag = header.initiator_task_tag;
        data.target_transfer_tag = ReadyToTransfer::view(&header).target_transfer_tag;
        data.exp_stat_sn = world.number.wrapping_add(99).into();
        data.set_data_segment_bytes(4096);
        world.send(&data);
        assert_eq!(world.session.poll_event(), Some(Event::DataOut(task)));
        world.end(task, Response { transfer_length: 4096, outward: true, ..Default::default() });
    })
}
