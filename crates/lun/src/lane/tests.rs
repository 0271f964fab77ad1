//! The lane as a transport sees it, over memory.

use super::*;
use crate::{Cdb, LogicalUnit, LunMap, TaskManagementFunction, TaskManagementResponse, command};
use crate::{Identity, Options, TargetPort};
use block::Backend as _;
use block::NoEngine;
use block::pure::Ram;

const ALLOCATION: u32 = 4096;

struct World {
    lane: Lane,
    nexus: NexusId,
    next_tag: u64,
}

fn world() -> World {
    let identity = Identity {
        uuid: [7; 16],
        vendor: "LUNETTE".into(),
        product: "Disk".into(),
        revision: "0001".into(),
        serial: "1".into(),
    };
    let unit = LogicalUnit::new(identity, Options::default(), Ram::new(512, 2048));
    let units = LunMap { entries: vec![LunEntry { number: 1, unit, read_only: false }] };
    let context = LaneContext {
        pool: Pool::new(1 << 20, 1 << 20),
        engine: Rc::new(NoEngine),
        wake: Arc::new(|| {}),
        clock: Arc::new(|| std::time::Duration::ZERO),
        random: Arc::new(|_| false),
    };
    let mut lane = Lane::new(context);
    let port = TargetPort::alone("iqn.2026-01.org.example:disk");
    let nexus = lane.open_nexus(NexusDescription {
        initiator_port: Arc::from(&b"client"[..]),
        target_port: Arc::new(port),
        units: Arc::new(units),
        protocol_level: 1,
    });
    World { lane, nexus, next_tag: 0 }
}

impl World {
    /// A world whose first unit attention was taken.
    fn ready() -> World {
        let mut world = world();
        let (status, _, _) = world.command(1, &[0; 6], &[]);
        assert_eq!(status, Status::CheckCondition);
        world
    }

    fn command(&mut self, lun: u8, cdb: &[u8], out: &[u8]) -> (Status, Vec<u8>, u64) {
        self.next_tag += 1;
        let tag = TaskTag(self.next_tag);
        self.lane.command(Command {
            nexus: self.nexus,
            tag,
            lun: [0, lun, 0, 0, 0, 0, 0, 0],
            cdb: Cdb::from(cdb),
            attribute: TaskAttribute::Simple,
            priority: 0,
            expected_in: if out.is_empty() { ALLOCATION } else { 0 },
            expected_out: out.len() as u32,
        });
        for _ in 0..4 {
            self.lane.run();
            match self.lane.poll_event() {
                Some(Event::ReceiveDataOut { tag, length, .. }) => {
                    let mut buffer = self.lane.context.pool.take(length as usize).unwrap();
                    buffer.as_mut_slice()[..length as usize].copy_from_slice(&out[..length as usize]);
                    self.lane.data_out(tag, Some(buffer), length);
                }
                Some(Event::Completed { completed, .. }) => {
                    assert_eq!(self.lane.tasks(), 0);
                    let mut data = completed.sense.map_or(Vec::new(), |sense| sense.as_bytes().to_vec());
                    if let Some(buffer) = completed.data_in {
                        data.extend_from_slice(&buffer.as_slice()[..completed.data_in_length as usize]);
                        self.lane.account(self.nexus).unwrap().give(buffer);
                    }
                    assert_eq!(self.lane.context.pool.taken_bytes(), 0, "memory came back");
                    return (completed.status, data, completed.transfer_length);
                }
                other => panic!("{other:?}"),
            }
        }
        panic!("the command did not end");
    }

    fn sense_of(&mut self, lun: u8, cdb: &[u8]) -> (u8, u8, u8) {
        let (status, sense, _) = self.command(lun, cdb, &[]);
        assert_eq!(status, Status::CheckCondition, "{cdb:02x?}");
        (sense[2], sense[12], sense[13])
    }
}

#[test]
fn sam_10_what_was_written_is_read() {
    let mut world = World::ready();
    let data: Vec<u8> = (0..1024u32).map(|i| (i * 7) as u8).collect();
    let write = [0x2a, 0, 0, 0, 0, 5, 0, 0, 2, 0];
    assert_eq!(world.command(1, &write, &data), (Status::Good, vec![], 1024));
    let read = [0x88, 0, 0, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0, 2, 0, 0];
    assert_eq!(world.command(1, &read, &[]), (Status::Good, data, 1024));
    assert_eq!(world.command(1, &[0x35, 0, 0, 0, 0, 0, 0, 0, 0, 0], &[]).0, Status::Good);
}

#[test]
fn sam_03_a_unit_attention_is_told_once_and_not_to_inquiry() {
    let mut world = world();
    assert_eq!(world.command(1, &[0x12, 0, 0, 0, 96, 0], &[]).0, Status::Good);
    assert_eq!(world.sense_of(1, &[0x28, 0, 0, 0, 0, 0, 0, 0, 1, 0]), (6, 0x29, 0));
    assert_eq!(world.command(1, &[0; 6], &[]).0, Status::Good);
}

#[test]
fn sam_01_lun_0_is_a_controller_and_other_luns_are_absent() {
    let mut world = World::ready();
    let inquiry = [0x12, 0, 0, 0, 96, 0];
    let (status, data, _) = world.command(0, &inquiry, &[]);
    assert_eq!((status, data[0]), (Status::Good, 0x0c));
    assert_eq!(world.command(200, &inquiry, &[]).1[0], 0x7f);
    assert_eq!(world.sense_of(200, &[0; 6]), (5, 0x25, 0));
    assert_eq!(world.sense_of(0, &[0x28, 0, 0, 0, 0, 0, 0, 0, 1, 0]), (5, 0x20, 0));
    let (_, luns, _) = world.command(0, &[0xa0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0], &[]);
    assert_eq!(luns, [0, 0, 0, 16, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
}

#[test]
fn sbc_02_extents_past_the_end_move_nothing() {
    let mut world = World::ready();
    for (block, blocks) in [(2048u64, 1u32), (2047, 2), (u64::MAX, 1), (u64::MAX, u32::MAX)] {
        let mut cdb = vec![0x88, 0];
        cdb.extend_from_slice(&block.to_be_bytes());
        cdb.extend_from_slice(&blocks.to_be_bytes());
        cdb.extend_from_slice(&[0, 0]);
        assert_eq!(world.sense_of(1, &cdb), (5, 0x21, 0), "{block}+{blocks}");
    }
    assert_eq!(world.command(1, &[0x28, 0, 0, 0, 0, 0, 0, 0, 0, 0], &[]), (Status::Good, vec![], 0));
}

#[test]
fn sbc_01_capacity() {
    let mut world = World::ready();
    assert_eq!(world.command(1, &[0x25, 0, 0, 0, 0, 0, 0, 0, 0, 0], &[]).1, [0, 0, 7, 255, 0, 0, 2, 0]);
    let (_, data, _) = world.command(1, &[0x9e, 0x10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 32, 0, 0], &[]);
    assert_eq!((data.len(), &data[..12]), (32, &[0, 0, 0, 0, 0, 0, 7, 255, 0, 0, 2, 0][..]));
}

fn of_disks() -> impl Iterator<Item = &'static command::Row> {
    let limits = block::pure::Ram::new(512, 8).limits();
    let drives = command::Devices::Drives;
    command::COMMANDS.iter().filter(move |row| row.devices != drives && (row.offered)(&limits))
}

#[test]
fn sam_07_every_operation_code_answers_and_every_reserved_bit_is_refused() {
    let mut world = World::ready();
    for opcode in 0..=255u8 {
        if !of_disks().any(|row| row.opcode == opcode) {
            assert_eq!(world.sense_of(1, &[opcode; 16][..1]), (5, 0x20, 0), "opcode {opcode:#x}");
        }
    }
    for row in of_disks() {
        for (at, mask) in row.usage.iter().enumerate().skip(1) {
            for bit in (0..8).filter(|bit| mask & 1 << bit == 0) {
                if at + 1 == row.usage.len() {
                    continue; // CONTROL
                }
                let mut cdb = vec![0; row.usage.len()];
                cdb[0] = row.opcode;
                cdb[1] = row.service_action.unwrap_or(0);
                cdb[at] |= 1 << bit;
                let (status, sense, _) = world.command(1, &cdb, &[]);
                // Linux writes the LUN of SCSI-2 there when it is to look for this logical unit alone.
                if (row.opcode, at, bit >= 5) == (0x12, 1, true) {
                    assert_eq!(status, Status::Good, "{cdb:02x?}");
                    continue;
                }
                assert_eq!(status, Status::CheckCondition, "{cdb:02x?}");
                assert_eq!((sense[12], sense[15] & 0xc8, sense[17]), (0x24, 0xc8, at as u8), "{cdb:02x?}");
                assert_eq!(sense[15] & 7, bit);
            }
        }
    }
}

#[test]
fn spc_09_what_is_reported_is_what_is_there() {
    let mut world = World::ready();
    let (_, all, _) = world.command(1, &[0xa3, 0x0c, 0, 0, 0, 0, 0, 0, 16, 0, 0, 0], &[]);
    assert_eq!(all[..4], (of_disks().count() as u32 * 8).to_be_bytes());
    let (_, one, _) = world.command(1, &[0xa3, 0x0c, 1, 0x28, 0, 0, 0, 0, 16, 0, 0, 0], &[]);
    assert_eq!(one, [0, 3, 0, 10, 0x28, 0xf8, 0xff, 0xff, 0xff, 0xff, 0x3f, 0xff, 0xff, 7]);
    let (_, none, _) = world.command(1, &[0xa3, 0x0c, 1, 0x3f, 0, 0, 0, 0, 16, 0, 0, 0], &[]);
    assert_eq!(none, [0, 1, 0, 0]);
}

#[test]
fn tmf_06_a_reset_raises_a_unit_attention() {
    let mut world = World::ready();
    let lun = [0, 1, 0, 0, 0, 0, 0, 0];
    world.lane.task_management(world.nexus, 9, lun, TaskManagementFunction::LogicalUnitReset);
    world.lane.run();
    let event = world.lane.poll_event();
    let complete = TaskManagementResponse::FunctionComplete;
    assert!(matches!(event, Some(Event::TaskManagementDone { id: 9, response, .. }) if response == complete));
    assert_eq!(world.sense_of(1, &[0; 6]), (6, 0x29, 3));
}

#[test]
fn ses_03_a_closed_nexus_ends_its_tasks_first() {
    let mut world = World::ready();
    world.lane.command(Command {
        nexus: world.nexus,
        tag: TaskTag(99),
        lun: [0, 1, 0, 0, 0, 0, 0, 0],
        cdb: Cdb::from(&[0x2a, 0, 0, 0, 0, 0, 0, 0, 1, 0][..]),
        attribute: TaskAttribute::Simple,
        priority: 0,
        expected_in: 0,
        expected_out: 512,
    });
    assert!(matches!(world.lane.poll_event(), Some(Event::ReceiveDataOut { length: 512, .. })));
    world.lane.close_nexus(world.nexus);
    assert!(matches!(world.lane.poll_event(), Some(Event::NexusClosed { .. })));
    assert_eq!(world.lane.tasks(), 0);
}

#[test]
fn sbc_15_write_atomic_takes_what_it_announces_and_nothing_else() {
    let mut world = World::ready();
    let cdb = |block: u8, boundary: u8, blocks: u16| {
        let [high, low] = blocks.to_be_bytes();
        [0x9c, 0, 0, 0, 0, 0, 0, 0, 0, block, 0, boundary, high, low, 0, 0]
    };
    assert_eq!(world.command(1, &cdb(3, 0, 256), &[7; 131_072]), (Status::Good, vec![], 131_072));
    assert_eq!(world.command(1, &[0x28, 0, 0, 0, 0, 3, 0, 0, 1, 0], &[]).1, [7; 512]);
    for (refused, bytes, at) in [(cdb(3, 0, 257), 131_584, 12), (cdb(3, 1, 1), 512, 10), (cdb(3, 0, 2), 512, 12)] {
        let (status, sense, _) = world.command(1, &refused, &vec![0; bytes]);
        assert_eq!((status, sense[12], sense[17]), (Status::CheckCondition, 0x24, at), "{refused:02x?}");
    }
    let page = world.command(1, &[0x12, 1, 0xb0, 0, 64, 0], &[]).1;
    assert_eq!(page[44..56], [0, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0, 1], "MAXIMUM ATOMIC TRANSFER LENGTH and its unit");
}

#[test]
fn spc_12_log_sense_and_defect_lists_say_what_there_is() {
    let mut world = World::ready();
    let (_, pages, _) = world.command(1, &[0x4d, 0, 0x40, 0, 0, 0, 0, 0, 64, 0], &[]);
    assert_eq!(pages[4..], [0x00, 0x0c, 0x0f, 0x19, 0x2f]);
    assert_eq!(world.sense_of(1, &[0x4d, 0, 0x4d, 0, 0, 0, 0, 0, 64, 0]), (5, 0x24, 0), "nobody measures");
    let (_, defects, _) = world.command(1, &[0x37, 0, 0x1d, 0, 0, 0, 0, 0, 64, 0], &[]);
    assert_eq!(defects, [0, 0x1d, 0, 0], "both lists, and no defect");
    let (_, defects, _) = world.command(1, &[0xb7, 0x0d, 0, 0, 0, 0, 0, 0, 0, 64, 0, 0], &[]);
    assert_eq!(defects, [0, 0x0d, 0, 0, 0, 0, 0, 0]);
}
