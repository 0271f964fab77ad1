//! Limits of a unit and of nexuses: what passes when, in which order, and what is not held back.

use super::copy_tests::{cdb_83, list, pattern, segment, write};
use super::rig::{Rig, cdb_16, ram};
use super::*;
use crate::{Rate, TaskManagementFunction};
use scsi::copy::list::Form;
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Waker};

const MILLISECOND: u64 = 1_000_000;
const READ: [u8; 16] = [0x88, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0];

/// A rig with a clock. Workers' timers ring late, by up to two milliseconds.
struct Paced {
    rig: Rig,
    time: Arc<AtomicU64>,
    /// By lane: the reads that are out.
    out: Vec<Vec<u64>>,
    /// By lane: the reads that have ended.
    ended: Vec<usize>,
}

impl Paced {
    fn new(lanes: usize) -> Paced {
        Paced::of(Rig::new(ram(64), lanes))
    }

    fn of(mut rig: Rig) -> Paced {
        let lanes = rig.lanes.len();
        let time = Arc::new(AtomicU64::new(1_000_000 * MILLISECOND));
        for lane in &mut rig.lanes {
            let time = Arc::clone(&time);
            lane.set_ticks(Arc::new(move || time.load(Ordering::Relaxed)));
        }
        Paced { rig, time, out: vec![Vec::new(); lanes], ended: vec![0; lanes] }
    }

    /// Time goes on; the lanes that want to be run are run, and only those.
    fn pass(&mut self, nanoseconds: u64) {
        let now = self.time.fetch_add(nanoseconds, Ordering::Relaxed) + nanoseconds;
        for lane in 0..self.rig.lanes.len() {
            self.rig.lanes[lane].at(now);
            if self.rig.lanes[lane].poll_timeout().is_some_and(|due| due <= now) {
                // What asked for data goes on with it.
                (0..3).for_each(|_| self.rig.step(lane));
            }
        }
    }

    /// Keeps so many reads of each lane in flight for so long, looking every so often.
    fn load(&mut self, depths: &[usize], seconds: u64, late: u64) {
        let until = self.time.load(Ordering::Relaxed) + seconds * 1000 * MILLISECOND;
        while self.time.load(Ordering::Relaxed) < until {
            for (lane, depth) in depths.iter().enumerate() {
                loop {
                    let rig = &mut self.rig;
                    let before = self.out[lane].len();
                    self.out[lane].retain(|tag| rig.take(*tag).is_none());
                    self.ended[lane] += before - self.out[lane].len();
                    if self.out[lane].len() >= *depth {
                        break;
                    }
                    while self.out[lane].len() < *depth {
                        let tag = rig.send(lane, &READ, &[]);
                        self.out[lane].push(tag);
                    }
                    rig.step(lane);
                }
            }
            self.pass(late);
        }
    }

    fn limit(&self, operations: u64, bytes: u64) {
        self.rig.unit.limiter().set(Rate { operations, bytes, ..Rate::default() });
    }
}

fn within(passed: usize, wanted: usize, percent: usize) -> bool {
    passed.abs_diff(wanted) * 100 <= wanted * percent
}

#[test]
fn a_unit_is_at_its_limit_within_five_percent_for_ten_seconds() {
    for (operations, bytes, wanted) in
        [(5000, 0, 50_000), (100, 0, 1000), (0, 1 << 20, 20_480), (3000, 1 << 20, 20_480)]
    {
        let mut paced = Paced::new(1);
        paced.limit(operations, bytes);
        paced.load(&[32], 10, 1_700_000);
        assert!(within(paced.ended[0], wanted, 5), "{operations}, {bytes}: {} of {wanted}", paced.ended[0]);
    }
}

#[test]
fn sessions_on_several_workers_share_a_limit_evenly_whatever_their_depth() {
    let mut paced = Paced::new(3);
    paced.limit(3000, 0);
    paced.load(&[64, 8, 2], 10, 1_000_000);
    let all: usize = paced.ended.iter().sum();
    assert!(within(all, 30_000, 5), "{:?}", paced.ended);
    for ended in &paced.ended {
        assert!(within(*ended, 10_000, 25), "{:?}", paced.ended);
    }
}

#[test]
fn a_limit_of_a_rule_holds_for_all_its_sessions_together_and_for_nobody_else() {
    let mut paced = Paced::new(3);
    let rule = Arc::new(Limiter::new(Rate { operations: 1000, ..Rate::default() }));
    for lane in 0..2 {
        let nexus = paced.rig.nexuses[lane];
        paced.rig.lanes[lane].limit_nexus(nexus, Arc::clone(&rule));
    }
    paced.load(&[8, 8, 0], 10, 1_000_000);
    assert!(within(paced.ended[0] + paced.ended[1], 10_000, 5), "{:?}", paced.ended);
    assert!(within(paced.ended[0], 5000, 25), "{:?}", paced.ended);
    // Somebody else is not held back for a moment.
    for _ in 0..5000 {
        let tag = paced.rig.send(2, &READ, &[]);
        paced.rig.step(2);
        assert!(paced.rig.take(tag).is_some());
    }
}

#[test]
fn tests_and_task_management_are_answered_while_commands_wait() {
    let mut paced = Paced::new(1);
    paced.limit(1, 0);
    let rig = &mut paced.rig;
    let tags: Vec<u64> = (0..10).map(|_| rig.send(0, &READ, &[])).collect();
    rig.settle();
    let waiting = tags.iter().filter(|tag| rig.take(**tag).is_none()).count();
    assert!(waiting >= 9, "{waiting} wait");
    assert_eq!(rig.unit.limiter().waiting(), 1, "one session");
    // TEST UNIT READY, INQUIRY, READ CAPACITY (10), PERSISTENT RESERVE IN.
    for cdb in
        [&[0; 6][..], &[0x12, 0, 0, 0, 36, 0], &[0x25, 0, 0, 0, 0, 0, 0, 0, 0, 0], &[0x5e, 0, 0, 0, 0, 0, 0, 0, 8, 0]]
    {
        rig.good(0, cdb, &[]);
    }
    let nexus = rig.nexuses[0];
    let function = TaskManagementFunction::AbortTask { tag: TaskTag(tags[5]) };
    rig.lanes[0].task_management(nexus, 1, rig::UNIT, function);
    rig.settle();
    assert_eq!(rig.functions, [1]);
    rig.lanes[0].task_management(nexus, 2, rig::UNIT, TaskManagementFunction::LogicalUnitReset);
    rig.settle();
    assert_eq!((rig.functions.len(), rig.lanes[0].tasks()), (2, 0), "a reset ends those that wait");
    assert_eq!(rig.unit.limiter().waiting(), 0);
    assert_eq!(rig.unit.counted().in_flight, 0);
}

#[test]
fn those_that_wait_keep_their_order_and_an_ordered_one_holds_up_the_younger() {
    let mut paced = Paced::new(1);
    paced.limit(10, 0);
    let rig = &mut paced.rig;
    // Uses up what may come at once.
    let first: Vec<u64> = (0..4).map(|_| rig.send(0, &READ, &[])).collect();
    let write = |rig: &mut Rig, byte: u8| rig.send(0, &cdb_16(0x8a, 0, 3, 1), &[byte; 512]);
    write(rig, 1);
    rig.attribute = TaskAttribute::Ordered;
    write(rig, 2);
    rig.attribute = TaskAttribute::Simple;
    let read = rig.send(0, &cdb_16(0x88, 0, 3, 1), &[]);
    rig.settle();
    assert_eq!(rig.take(read), None);
    for _ in 0..1000 {
        paced.pass(MILLISECOND * 2);
    }
    let rig = &mut paced.rig;
    rig.settle();
    let (_, data) = rig.take(read).expect("it went on");
    assert_eq!(data[..512], [2; 512], "the read came after both writes");
    assert!(first.iter().all(|tag| rig.take(*tag).is_some()));
    assert_eq!(rig.lanes[0].poll_timeout(), None, "nobody waits any more");
}

#[test]
fn a_change_of_the_limit_is_for_those_that_wait_too() {
    let mut paced = Paced::new(2);
    paced.limit(1, 0);
    let tags: Vec<u64> = (0..20).map(|at| paced.rig.send(at % 2, &READ, &[])).collect();
    paced.rig.settle();
    let waiting = |rig: &mut Rig, tags: &[u64]| tags.iter().filter(|tag| rig.take(**tag).is_none()).count();
    assert!(waiting(&mut paced.rig, &tags) >= 17);
    paced.limit(0, 0);
    // Nobody's time passes: a letter has come.
    paced.rig.settle();
    assert_eq!(paced.rig.lanes.iter().map(Lane::tasks).sum::<usize>(), 0);
    paced.limit(100, 0);
    paced.load(&[4, 4], 2, 1_000_000);
    assert!(within(paced.ended.iter().sum(), 200, 10), "{:?}", paced.ended);
}

#[test]
fn a_session_that_ends_takes_those_that_wait_with_it() {
    let mut paced = Paced::new(2);
    paced.limit(1, 0);
    (0..10).for_each(|at| {
        paced.rig.send(at % 2, &READ, &[]);
    });
    paced.rig.settle();
    assert_eq!(paced.rig.unit.limiter().waiting(), 2);
    let nexus = paced.rig.nexuses[0];
    paced.rig.lanes[0].close_nexus(nexus);
    paced.rig.settle();
    assert_eq!(paced.rig.closed, [nexus]);
    assert_eq!(paced.rig.unit.limiter().waiting(), 1);
}

/// A rig with two units, and an EXTENDED COPY that reads of LUN 2 and writes to LUN 1.
fn with_copy() -> (Paced, Vec<u8>) {
    let mut paced = Paced::of(Rig::with_units(vec![ram(16384), ram(16384)], 1));
    write(&mut paced.rig, 2, 0, &pattern(64, 3));
    (paced, list(vec![segment(1, 0, 0, 100, 64)]).encode(Form::Lid1))
}

/// Sends the copy, which comes as far as a limit that lets nothing pass.
fn held_copy(paced: &mut Paced, unit: usize, bytes: &[u8]) -> u64 {
    let limiter = paced.rig.units[unit].limiter();
    limiter.set(Rate { bytes: 512, ..Rate::default() });
    // Uses up what may pass for a good while.
    paced.rig.lun[1] = unit as u8 + 1;
    paced.rig.good(0, &cdb_16(0x88, 0, 0, 1000), &[]);
    paced.rig.lun = rig::UNIT;
    let copy = paced.rig.send(0, &cdb_83(0, 0, bytes.len()), bytes);
    paced.rig.settle();
    assert_eq!(paced.rig.take(copy), None, "it waits");
    copy
}

#[test]
fn a_copy_has_its_turns_beside_commands_that_use_a_limit_up() {
    let (mut paced, _) = with_copy();
    // Many steps: a few find room that the commands leave.
    let segments = (0..24).map(|at| segment(1, 0, 0, 1000 + 200 * at, 64)).collect();
    let bytes = list(segments).encode(Form::Lid1);
    paced.limit(100, 0);
    paced.load(&[16], 1, 1_000_000);
    let copy = paced.rig.send(0, &cdb_83(0, 0, bytes.len()), &bytes);
    paced.ended[0] = 0;
    paced.load(&[16], 3, 1_000_000);
    let (status, sense) = paced.rig.take(copy).expect("it ended");
    assert_eq!(status, Status::Good, "{sense:02x?}");
    assert!(paced.ended[0] >= 200, "and the others went on: {}", paced.ended[0]);
}

#[test]
fn a_copy_whose_step_a_limit_holds_back_is_aborted_at_once() {
    let (mut paced, bytes) = with_copy();
    let copy = held_copy(&mut paced, 0, &bytes);
    let rig = &mut paced.rig;
    let function = TaskManagementFunction::AbortTask { tag: TaskTag(copy) };
    rig.lanes[0].task_management(rig.nexuses[0], 9, rig::UNIT, function);
    rig.settle();
    assert_eq!((rig.take(copy), rig.lanes[0].tasks()), (None, 0));
    assert_eq!(rig.functions, [9]);
    assert_eq!(rig.unit.limiter().waiting(), 0);
}

#[test]
fn a_copy_whose_step_a_limit_of_another_unit_holds_back_ends_when_its_own_goes_offline() {
    let (mut paced, bytes) = with_copy();
    let copy = held_copy(&mut paced, 1, &bytes);
    let rig = &mut paced.rig;
    let unit = Arc::clone(&rig.unit);
    let mut offline = pin!(unit.take_offline());
    for _ in 0..20 {
        if offline.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_ready() {
            let (status, sense) = rig.take(copy).expect("it has ended");
            assert_eq!((status, sense[2]), (Status::CheckCondition, 2), "{sense:02x?}");
            return;
        }
        rig.step(0);
    }
    panic!("it does not go offline");
}

#[test]
fn a_copy_that_waits_alone_hears_that_the_limit_has_changed() {
    let (mut paced, bytes) = with_copy();
    let copy = held_copy(&mut paced, 0, &bytes);
    paced.limit(0, 0);
    paced.rig.settle();
    assert_eq!(paced.rig.take(copy).map(|(status, _)| status), Some(Status::Good));
    assert_eq!(paced.rig.unit.limiter().waiting(), 0);
}

#[test]
fn while_limits_are_suspended_nobody_waits_and_afterwards_again() {
    let mut paced = Paced::new(1);
    paced.limit(10, 0);
    let tags: Vec<u64> = (0..128).map(|_| paced.rig.send(0, &READ, &[])).collect();
    paced.rig.settle();
    assert!(paced.rig.lanes[0].tasks() > 100);
    paced.rig.lanes[0].suspend_limits(true);
    paced.rig.settle();
    assert_eq!((paced.rig.lanes[0].tasks(), paced.rig.lanes[0].rests()), (0, Ok(())));
    assert!(tags.iter().all(|tag| paced.rig.take(*tag).is_some()));
    assert_eq!(paced.rig.unit.limiter().waiting(), 0);
    paced.rig.good(0, &READ, &[]);
    paced.rig.lanes[0].suspend_limits(false);
    let late = paced.rig.send(0, &READ, &[]);
    paced.rig.settle();
    assert_eq!(paced.rig.take(late), None, "what passed is charged");
}
