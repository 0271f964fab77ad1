//! Copies while other things happen to their units: what is fenced stays fenced, and everything ends.

use super::copy_tests::{BLOCKS, cdb_83, list, lun, pattern, segment, write};
use super::rig::{Rig, cdb_16, ram};
use super::*;
use block::Backend;
use block::layer::{Delay, Valve};
use scsi::copy::list::{Form, THIS_UNIT};

/// LUN 1 answers only when the valve lets it.
fn slow_source(lanes: usize) -> (Rig, Valve) {
    let valve = Valve::open();
    let mut rig = Rig::with_units(vec![Delay::new(ram(BLOCKS), valve.clone()), ram(BLOCKS)], lanes);
    write(&mut rig, 1, 0, &pattern(64, 1));
    valve.hold();
    (rig, valve)
}

/// A copy of LUN 1's first blocks to LUN 2 that is about to read them.
fn copy_that_reads(rig: &mut Rig, valve: &Valve) -> u64 {
    let bytes = list(vec![segment(0, 1, 0, 0, 64)]).encode(Form::Lid1);
    let tag = rig.send(0, &cdb_83(0, 0, bytes.len()), &bytes);
    rig.settle();
    // Where the holes are; the data are still to come.
    valve.release(1);
    rig.settle();
    tag
}

fn reserve_list(key: u8, action_key: u8) -> [u8; 24] {
    let mut list = [0; 24];
    (list[7], list[15]) = (key, action_key);
    list
}

#[test]
fn prs_07_nothing_of_a_copy_lands_after_preempt_and_abort() {
    // Whatever the one who fenced does then: nothing, RELEASE, CLEAR.
    for then in [None, Some(2), Some(3)] {
        preempt_while_it_reads(then);
    }
}

fn preempt_while_it_reads(then: Option<u8>) {
    let (mut rig, valve) = slow_source(2);
    rig.lun = lun(2);
    rig.good(0, &[0x5f, 0, 0, 0, 0, 0, 0, 0, 24, 0], &reserve_list(0, 5));
    rig.good(1, &[0x5f, 0, 0, 0, 0, 0, 0, 0, 24, 0], &reserve_list(0, 9));
    rig.good(1, &[0x5f, 1, 5, 0, 0, 0, 0, 0, 24, 0], &reserve_list(9, 0));
    rig.lun = lun(1);
    let tag = copy_that_reads(&mut rig, &valve);
    rig.lun = lun(2);
    rig.good(1, &[0x5f, 5, 5, 0, 0, 0, 0, 0, 24, 0], &reserve_list(9, 5));
    if let Some(action) = then {
        rig.good(1, &[0x5f, action, 5, 0, 0, 0, 0, 0, 24, 0], &reserve_list(9, 0));
    }
    valve.release_all();
    rig.settle();
    let (status, sense) = rig.take(tag).unwrap();
    assert_eq!((status, sense[2]), (Status::CheckCondition, 0xA));
    assert!(rig.read(1, 0, 64).iter().all(|byte| *byte == 0));
}

#[test]
fn prs_07_preempt_and_abort_leaves_the_copies_of_others_alone() {
    let (mut rig, valve) = slow_source(3);
    rig.lun = lun(2);
    for lane in [1, 2] {
        rig.good(lane, &[0x5f, 0, 0, 0, 0, 0, 0, 0, 24, 0], &reserve_list(0, lane as u8));
    }
    rig.lun = lun(1);
    let tag = copy_that_reads(&mut rig, &valve);
    rig.lun = lun(2);
    rig.good(1, &[0x5f, 5, 5, 0, 0, 0, 0, 0, 24, 0], &reserve_list(1, 2));
    valve.release_all();
    rig.settle();
    assert_eq!(rig.take(tag).unwrap().0, Status::Good);
    assert_eq!(rig.read(0, 0, 64), pattern(64, 1));
}

#[test]
fn tmf_12_nothing_of_a_copy_lands_after_a_reset_of_its_destination() {
    for function in [crate::TaskManagementFunction::LogicalUnitReset, crate::TaskManagementFunction::ClearTaskSet] {
        let (mut rig, valve) = slow_source(2);
        let tag = copy_that_reads(&mut rig, &valve);
        let nexus = rig.nexuses[1];
        rig.lanes[1].task_management(nexus, 3, lun(2), function);
        rig.settle();
        assert!(rig.functions.contains(&3), "it has no task there");
        valve.release_all();
        rig.settle();
        let (status, sense) = rig.take(tag).unwrap();
        assert_eq!((status, sense[2]), (Status::CheckCondition, 0xA));
        rig.lun = lun(2);
        let _ = rig.command(1, &[0; 6], &[]);
        assert!(rig.read(1, 0, 64).iter().all(|byte| *byte == 0), "{function:?}");
    }
}

/// Memory that says that the system can copy from it and to it.
struct Copying(Arc<dyn Backend>);

impl Backend for Copying {
    fn limits(&self) -> Arc<block::Limits> {
        self.0.limits()
    }

    fn description(&self) -> block::Description {
        self.0.description()
    }

    fn open(&self, engine: &Rc<dyn Engine>) -> Result<Box<dyn block::Store>, block::Error> {
        self.0.open(engine)
    }

    fn file(&self) -> Option<block::OpenFile> {
        // A descriptor of anything: nothing copies with it here.
        Some(Arc::new(std::os::fd::OwnedFd::from(std::io::pipe().unwrap().0).into()))
    }
}

#[test]
fn tmf_12_a_reset_of_the_source_waits_for_the_step_that_reads_it() {
    for reset in [1, 2] {
        let valve = Valve::closed();
        let slow: Arc<dyn Backend> = Arc::new(Copying(Delay::new(ram(BLOCKS), valve.clone())));
        let mut rig = Rig::with_units(vec![Arc::new(Copying(ram(BLOCKS))), slow], 2);
        rig.lun = lun(1);
        rig.good(0, &cdb_16(0x8a, 0, 0, 64), &pattern(64, 1));
        rig.lun = lun(2);
        let bytes = list(vec![segment(0, 1, 0, 0, 64)]).encode(Form::Lid1);
        let copy = rig.send(0, &cdb_83(0, 0, bytes.len()), &bytes);
        rig.settle();
        assert!(rig.take(copy).is_none());
        let (nexus, function) = (rig.nexuses[1], crate::TaskManagementFunction::LogicalUnitReset);
        rig.lanes[1].task_management(nexus, 9, lun(reset), function);
        rig.settle();
        assert!(!rig.functions.contains(&9), "LUN {reset}");
        valve.release_all();
        rig.settle();
        assert!(rig.functions.contains(&9));
    }
}

/// A disk behind a key that is none.
struct Keyed(Arc<dyn Backend>);

impl Backend for Keyed {
    fn limits(&self) -> Arc<block::Limits> {
        Arc::new(block::Limits { copies: false, cryptographic_erase: true, ..(*self.0.limits()).clone() })
    }

    fn description(&self) -> block::Description {
        self.0.description()
    }

    fn open(&self, engine: &Rc<dyn Engine>) -> Result<Box<dyn block::Store>, block::Error> {
        self.0.open(engine)
    }

    fn erase_key(&self) -> Result<(), block::Error> {
        Ok(())
    }
}

#[test]
fn sbc_15_a_copy_under_way_does_not_bring_back_what_was_erased() {
    for lane in [0, 1] {
        let valve = Valve::open();
        let mut rig = Rig::with_units(vec![Arc::new(Keyed(Delay::new(ram(BLOCKS), valve.clone())))], 2);
        write(&mut rig, 1, 0, &pattern(1024, 1));
        valve.hold();
        let bytes = list(vec![segment(THIS_UNIT, THIS_UNIT, 0, 8000, 1024)]).encode(Form::Lid1);
        let tag = rig.send(0, &cdb_83(0, 0, bytes.len()), &bytes);
        rig.settle();
        valve.release(1);
        rig.settle();
        let erase = rig.send(lane, &[0x48, 0x03, 0, 0, 0, 0, 0, 0, 0, 0], &[]);
        rig.settle();
        assert!(rig.take(erase).is_none(), "the read is under way");
        valve.release_all();
        rig.settle();
        assert_eq!(rig.take(erase).unwrap().0, Status::Good);
        assert_eq!(rig.take(tag).unwrap().0, Status::CheckCondition);
        assert!(rig.read(0, 8000, 1024).iter().all(|byte| *byte == 0));
    }
}

#[test]
fn copies_take_their_memory_in_turn() {
    let mut rig = Rig::with_units(vec![ram(BLOCKS), ram(BLOCKS)], 1);
    write(&mut rig, 1, 0, &pattern(1024, 1));
    let mut begin = |number: u8, from, to, blocks| {
        // Overlapping, so that it goes through memory, and long.
        let mut bytes = list(vec![segment(0, 0, from, to, blocks)]).encode(Form::Lid1);
        bytes[0] = number;
        rig.send(0, &cdb_83(0, 0, bytes.len()), &bytes)
    };
    let long: Vec<u64> = (0..8).map(|number| begin(number, 0, 100, 16000)).collect();
    let short = begin(9, 0, 1, 100);
    let mut steps = 0;
    while rig.take(short).is_none() {
        rig.step(0);
        steps += 1;
        assert!(steps < 1000);
    }
    assert!(rig.lanes[0].tasks() >= long.len(), "a short one does not wait for the end of long ones");
    rig.settle();
    rig.settle();
    assert!(long.iter().all(|tag| rig.take(*tag).is_some()));
}

#[test]
fn whatever_happens_to_copies_all_ends_and_nothing_is_left() {
    let mut state = 0x1234_5678_9abc_def1u64;
    let mut next = move |most: u64| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state % most
    };
    for round in 0..120 {
        let valves = [Valve::open(), Valve::open()];
        let units: Vec<Arc<dyn Backend>> =
            vec![Delay::new(ram(BLOCKS), valves[0].clone()), Delay::new(ram(BLOCKS), valves[1].clone())];
        let mut rig = Rig::with_units(units, 2);
        write(&mut rig, 1, 0, &pattern(64, 1));
        rig.lun = lun(2);
        let _ = rig.command(1, &[0; 6], &[]);
        rig.lun = lun(1);
        let mut tags: Vec<(usize, u64)> = Vec::new();
        let mut closed = [false; 2];
        for _ in 0..60 {
            let lane = next(2) as usize;
            rig.lun = lun(1 + next(2) as u8);
            match next(14) {
                0..=3 => {
                    let mut l = list(
                        (0..1 + next(3))
                            .map(|_| {
                                let ids = [0u16, 1, THIS_UNIT];
                                segment(
                                    ids[next(3) as usize],
                                    ids[next(3) as usize],
                                    next(4000),
                                    next(4000),
                                    1 + next(5000) as u16,
                                )
                            })
                            .collect(),
                    );
                    l.identifier = Some(next(8) as u32);
                    let form = if next(2) == 0 { Form::Lid1 } else { Form::Lid4 };
                    l.immediate = matches!(form, Form::Lid4) && next(2) == 0;
                    let bytes = l.encode(form);
                    let tag = rig.send(lane, &cdb_83((form == Form::Lid4).into(), 0, bytes.len()), &bytes);
                    tags.push((lane, tag));
                }
                4..=5 => {
                    let mut cdb = cdb_16(0x89, 0, next(2000), 0);
                    cdb[10..14].copy_from_slice(&[0, 0, 0, 8]);
                    tags.push((lane, rig.send(lane, &cdb, &[1; 2 * 8 * 512])));
                }
                6 => tags.push((lane, rig.send(lane, &cdb_16(0x8a, 0, next(2000), 8), &[3; 8 * 512]))),
                7 => {
                    let (l, tag) = match tags.len() {
                        0 => continue,
                        n => tags[next(n as u64) as usize],
                    };
                    rig.lanes[l].abort(TaskTag(tag));
                }
                8 => {
                    use crate::TaskManagementFunction as F;
                    let f = [F::LogicalUnitReset, F::AbortTaskSet, F::ClearTaskSet, F::TargetReset][next(4) as usize];
                    let (nexus, at) = (rig.nexuses[lane], rig.lun);
                    rig.lanes[lane].task_management(nexus, 100 + next(1000), at, f);
                }
                9 => valves[next(2) as usize].hold(),
                10 => valves[next(2) as usize].release(1 + next(3)),
                11 => {
                    tags.push((lane, rig.send(lane, &[0x48, 0x82, 0, 0, 0, 0, 0, 0, 0, 0], &[])));
                }
                12 if !closed[lane] && next(6) == 0 => {
                    let nexus = rig.nexuses[lane];
                    rig.lanes[lane].close_nexus(nexus);
                    closed[lane] = true;
                }
                _ => {}
            }
            for _ in 0..next(4) {
                let l = next(2) as usize;
                rig.step(l);
            }
        }
        valves.iter().for_each(Valve::release_all);
        for _ in 0..40 {
            rig.settle();
            if rig.lanes.iter().all(|lane| lane.tasks() == 0) {
                break;
            }
        }
        for (at, lane) in rig.lanes.iter().enumerate() {
            assert_eq!(lane.tasks(), 0, "round {round} lane {at}");
            assert_eq!(
                (lane.scratches, lane.copies, lane.context.pool.taken_bytes()),
                (0, 0, 0),
                "round {round} lane {at}"
            );
            assert!(
                lane.waits.is_empty() && lane.scratch_queue.is_empty() && lane.copy_queue.is_empty(),
                "round {round}"
            );
            for (id, nexus) in &lane.nexuses {
                assert_eq!(nexus.tasks, 0, "round {round} {id:?}");
            }
            for channel in &lane.channels {
                assert!(channel.fences.is_empty() && channel.parked.is_empty(), "round {round}");
            }
            assert_eq!(closed[at], lane.nexuses.is_empty(), "round {round}");
        }
    }
}
