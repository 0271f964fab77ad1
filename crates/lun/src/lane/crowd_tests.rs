//! Many tasks of several nexuses at one unit: nobody waits for ever, nobody for another's slowness.

use super::*;
use crate::{Cdb, Identity, LogicalUnit, LunMap, Options, TargetPort};
use block::NoEngine;
use block::layer::{Delay, Valve};
use block::pure::Ram;

/// A lane over memory whose completions pass a valve, and nexuses that know of the power on.
struct Crowd {
    lane: Lane,
    nexuses: Vec<NexusId>,
    valve: Valve,
    ended: Vec<(TaskTag, Status)>,
    wanted: Vec<(TaskTag, u32)>,
}

const UNIT: [u8; 8] = [0, 1, 0, 0, 0, 0, 0, 0];

impl Crowd {
    fn new(nexuses: usize, pool_bytes: usize) -> Crowd {
        let identity = Identity {
            uuid: [7; 16],
            vendor: "LUNETTE".into(),
            product: "Disk".into(),
            revision: "0001".into(),
            serial: "1".into(),
        };
        let valve = Valve::open();
        let unit = LogicalUnit::new(identity, Options::default(), Delay::new(Ram::new(512, 65536), valve.clone()));
        let units = Arc::new(LunMap { entries: vec![LunEntry { number: 1, unit, read_only: false }] });
        let context = LaneContext {
            pool: Pool::new(pool_bytes, 0),
            engine: Rc::new(NoEngine),
            wake: Arc::new(|| {}),
            clock: Arc::new(|| std::time::Duration::ZERO),
            random: Arc::new(|_| false),
        };
        let mut lane = Lane::new(context);
        let port = Arc::new(TargetPort::alone("t"));
        let open = |number: usize| {
            let initiator_port: Arc<[u8]> = Arc::from(format!("client {number}").as_bytes());
            let (target_port, units) = (Arc::clone(&port), Arc::clone(&units));
            lane.open_nexus(NexusDescription { initiator_port, target_port, units, protocol_level: 1 })
        };
        let nexuses: Vec<NexusId> = (0..nexuses).map(open).collect();
        let mut crowd = Crowd { lane, nexuses, valve, ended: Vec::new(), wanted: Vec::new() };
        for nexus in 0..crowd.nexuses.len() {
            crowd.send(nexus, 1_000_000 + nexus as u64, &[0; 6], TaskAttribute::Simple, 0);
        }
        crowd.run();
        crowd.ended.clear();
        crowd
    }

    fn send(&mut self, nexus: usize, tag: u64, cdb: &[u8], attribute: TaskAttribute, out: u32) {
        self.lane.command(Command {
            nexus: self.nexuses[nexus],
            tag: TaskTag(tag),
            lun: UNIT,
            cdb: Cdb::from(cdb),
            attribute,
            priority: 0,
            expected_in: if out == 0 { 16 << 20 } else { 0 },
            expected_out: out,
        });
    }

    fn give_data(&mut self, tag: u64, length: u32) {
        let buffer = self.lane.context.pool.take_beyond(length as usize).unwrap();
        self.lane.data_out(TaskTag(tag), Some(buffer), length);
    }

    fn run(&mut self) {
        for _ in 0..100 {
            self.lane.run();
            while let Some(event) = self.lane.poll_event() {
                match event {
                    Event::Completed { nexus, tag, completed } => {
                        if let Some(buffer) = completed.data_in {
                            self.lane.account(nexus).unwrap().give(buffer);
                        }
                        self.ended.push((tag, completed.status));
                    }
                    Event::ReceiveDataOut { tag, length, .. } => self.wanted.push((tag, length)),
                    _ => {}
                }
            }
        }
    }

    fn has_ended(&self, tag: u64) -> bool {
        self.ended.iter().any(|(ended, _)| ended.0 == tag)
    }
}

fn verify(block: u8) -> [u8; 10] {
    [0x2f, 0, 0, 0, 0, block, 0, 0, 8, 0]
}

fn compare_and_write(block: u8) -> [u8; 16] {
    [0x89, 0, 0, 0, 0, 0, 0, 0, 0, block, 0, 0, 0, 1, 0, 0]
}

#[test]
fn tmf_15_those_that_wait_for_a_fence_hold_nothing_that_its_owner_needs() {
    let mut crowd = Crowd::new(1, 64 << 20);
    crowd.valve.hold();
    for tag in 0..4 {
        crowd.send(0, tag, &[0x28, 0, 0, 0, 0, 0, 0, 0, 8, 0], TaskAttribute::Simple, 0);
    }
    crowd.run();
    crowd.send(0, 10, &compare_and_write(1), TaskAttribute::Simple, 1024);
    crowd.run();
    crowd.give_data(10, 1024);
    crowd.run();
    // The fence stands now, and waits for the reads. More of these than there is scratch memory.
    for tag in 20..20 + SCRATCHES as u64 + 4 {
        crowd.send(0, tag, &verify(0), TaskAttribute::Simple, 0);
    }
    crowd.run();
    crowd.valve.release_all();
    crowd.run();
    assert_eq!(crowd.lane.tasks(), 0, "ended: {:?}", crowd.ended);
    assert_eq!(crowd.lane.context.pool.taken_bytes(), 0);
}

#[test]
fn sam_04_an_ordered_task_waits_for_none_of_another_nexus() {
    let mut crowd = Crowd::new(3, 64 << 20);
    // The first says that it writes, and sends nothing.
    crowd.send(0, 1, &[0x2a, 0, 0, 0, 0, 0, 0, 0, 1, 0], TaskAttribute::Simple, 512);
    crowd.send(0, 2, &[0x28, 0, 0, 0, 0, 0, 0, 0, 1, 0], TaskAttribute::Ordered, 0);
    crowd.send(1, 3, &[0x28, 0, 0, 0, 0, 0, 0, 0, 1, 0], TaskAttribute::Ordered, 0);
    crowd.send(2, 4, &[0; 6], TaskAttribute::Simple, 0);
    crowd.run();
    assert!(crowd.has_ended(3) && crowd.has_ended(4), "{:?}", crowd.ended);
    assert!(!crowd.has_ended(2), "its own nexus's older task is not over");
    crowd.give_data(1, 512);
    crowd.run();
    assert_eq!(crowd.ended[2..].iter().map(|(tag, _)| tag.0).collect::<Vec<_>>(), [1, 2]);
}

#[test]
fn sam_04_those_behind_an_ordered_task_that_was_given_up_go_on() {
    let mut crowd = Crowd::new(1, 64 << 20);
    crowd.send(0, 1, &[0x2a, 0, 0, 0, 0, 0, 0, 0, 1, 0], TaskAttribute::Simple, 512);
    crowd.send(0, 2, &[0x28, 0, 0, 0, 0, 0, 0, 0, 1, 0], TaskAttribute::Ordered, 0);
    crowd.send(0, 3, &[0; 6], TaskAttribute::Simple, 0);
    crowd.run();
    assert!(crowd.ended.is_empty());
    crowd.lane.abort(TaskTag(2));
    crowd.run();
    assert!(crowd.has_ended(3), "it waited for the ordered task alone");
}

#[test]
fn a_nexus_that_keeps_its_answers_does_not_starve_another() {
    const M: u32 = 1 << 20;
    let mut crowd = Crowd::new(2, 8 << 20);
    let mut read = [0x88, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 8, 0, 0, 0];
    for tag in 0..16 {
        crowd.send(0, tag, &read, TaskAttribute::Simple, 0);
    }
    crowd.lane.run();
    let account = crowd.lane.account(crowd.nexuses[0]).unwrap();
    let mut kept = Vec::new();
    while let Some(event) = crowd.lane.poll_event() {
        if let Event::Completed { completed, .. } = event {
            // As a transport does whose peer does not read.
            kept.extend(completed.data_in);
        }
        crowd.lane.run();
    }
    assert!(kept.len() < 8, "it is stopped at its share: {}", kept.len());
    read[12] = 2;
    crowd.send(1, 100, &read, TaskAttribute::Simple, 0);
    crowd.run();
    assert!(crowd.has_ended(100));
    for buffer in kept.drain(..) {
        assert_eq!(buffer.capacity(), M as usize);
        account.give(buffer);
        crowd.run();
    }
    assert_eq!(crowd.lane.tasks(), 0, "and goes on when it has read");
}

#[test]
fn rsp_07_a_write_whose_initiator_waits_for_data_is_not_acknowledged() {
    let mut crowd = Crowd::new(1, 8 << 20);
    crowd.send(0, 1, &[0x2a, 0, 0, 0, 0, 0, 0, 0, 1, 0], TaskAttribute::Simple, 0);
    crowd.run();
    assert_eq!(crowd.ended, [(TaskTag(1), Status::CheckCondition)]);
}
