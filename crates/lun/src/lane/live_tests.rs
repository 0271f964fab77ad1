//! Changes while sessions are there: maps, units that come and go, offline, read-only, cache, size, reservations.

use super::rig::{Rig, UNIT, cdb_10, cdb_16, identity, ram};
use super::*;
use crate::{ChangeError, LunMap, Options, TargetPort};
use block::layer::{Delay, FaultPlan, Faulty, Journal, Logged, Valve};
use block::{Backend, Description, Error, Limits, Store, WriteCache};
use std::pin::pin;
use std::task::{Context, Poll, Waker};

/// TEST UNIT READY.
const READY: [u8; 6] = [0; 6];
const MODE_CHANGED: (u8, u8, u8) = (6, 0x2a, 0x01);
const LUNS_CHANGED: (u8, u8, u8) = (6, 0x3f, 0x0e);
const NOT_SUPPORTED: (u8, u8, u8) = (5, 0x25, 0x00);
const OFFLINE: (u8, u8, u8) = (2, 0x04, 0x03);
const PROTECTED: (u8, u8, u8) = (7, 0x27, 0x00);

fn write(block: u32) -> [u8; 10] {
    cdb_10(0x2a, 0, block, 1)
}

fn read(block: u32) -> [u8; 10] {
    cdb_10(0x28, 0, block, 1)
}

fn lun(number: u8) -> [u8; 8] {
    [0, number, 0, 0, 0, 0, 0, 0]
}

/// Runs the lanes until the future is ready.
fn finish<T>(rig: &mut Rig, future: impl Future<Output = T>) -> T {
    let mut future = pin!(future);
    for _ in 0..400 {
        if let Poll::Ready(result) = future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            return result;
        }
        (0..rig.lanes.len()).for_each(|lane| rig.step(lane));
    }
    panic!("it does not come to its end");
}

/// Whether the future is not ready although the lanes run.
fn waits<T>(rig: &mut Rig, future: std::pin::Pin<&mut impl Future<Output = T>>) -> bool {
    let mut future = future;
    for _ in 0..20 {
        if future.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_ready() {
            return false;
        }
        (0..rig.lanes.len()).for_each(|lane| rig.step(lane));
    }
    true
}

fn map(units: &[(u16, &Arc<LogicalUnit>)]) -> Arc<LunMap> {
    let entry = |(number, unit): &(u16, &Arc<LogicalUnit>)| LunEntry {
        number: *number,
        unit: Arc::clone(unit),
        read_only: false,
    };
    Arc::new(LunMap { entries: units.iter().map(entry).collect() })
}

/// The nexus of this lane sees this from now on.
fn change(rig: &mut Rig, lane: usize, map: Arc<LunMap>) {
    let (nexus, port) = (rig.nexuses[lane], Arc::new(rig.port(lane).clone()));
    rig.lanes[lane].change_nexus(nexus, map, port);
}

fn report_luns(rig: &mut Rig, lane: usize) -> Vec<u8> {
    let mut cdb = [0; 12];
    (cdb[0], cdb[8]) = (0xa0, 4);
    let data = rig.good(lane, &cdb, &[]);
    data[8..].chunks(8).map(|lun| lun[1]).collect()
}

fn unit(number: u8, backend: Arc<dyn Backend>) -> Arc<LogicalUnit> {
    LogicalUnit::new(crate::Identity { uuid: [number; 16], ..identity() }, Options::default(), backend)
}

fn sense_of((status, sense): (Status, Vec<u8>)) -> (u8, u8, u8) {
    assert_eq!(status, Status::CheckCondition);
    (sense[2], sense[12], sense[13])
}

/// Says that it has a volatile cache.
struct Cached(Arc<dyn Backend>);

impl Backend for Cached {
    fn limits(&self) -> Arc<Limits> {
        Arc::new(Limits { write_cache: WriteCache::Volatile, ..(*self.0.limits()).clone() })
    }

    fn description(&self) -> Description {
        self.0.description()
    }

    fn open(&self, engine: &Rc<dyn Engine>) -> Result<Box<dyn Store>, Error> {
        self.0.open(engine)
    }
}

#[test]
fn spc_05_a_unit_that_comes_is_found_and_the_others_say_that_there_is_more() {
    let mut rig = Rig::new(ram(64), 2);
    let (old, new) = (Arc::clone(&rig.unit), unit(8, ram(32)));
    change(&mut rig, 0, map(&[(1, &old), (5, &new)]));
    assert_eq!(rig.sense(0, &READY, &[]), LUNS_CHANGED);
    rig.good(0, &READY, &[]);
    assert_eq!(report_luns(&mut rig, 0), [0, 1, 5]);
    rig.lun = lun(5);
    assert_eq!(rig.sense(0, &READY, &[]), (6, 0x29, 0x00), "power on");
    rig.good(0, &write(3), &[7; 512]);
    assert_eq!(rig.read(0, 3, 1), [7; 512]);
    assert_eq!(rig.sense(1, &READY, &[]), NOT_SUPPORTED, "the other initiator has it not");
    rig.lun = UNIT;
    rig.good(1, &READY, &[]);
}

#[test]
fn report_luns_takes_the_news_from_every_unit() {
    let mut rig = Rig::with_units(vec![ram(64), ram(64)], 1);
    let (one, two) = (Arc::clone(&rig.units[0]), Arc::clone(&rig.units[1]));
    let third = unit(9, ram(64));
    change(&mut rig, 0, map(&[(1, &one), (2, &two), (3, &third)]));
    assert_eq!(report_luns(&mut rig, 0), [0, 1, 2, 3]);
    for number in [1, 2] {
        rig.lun = lun(number);
        rig.good(0, &READY, &[]);
    }
}

#[test]
fn whoever_has_no_disk_yet_hears_of_the_first_at_lun_0() {
    let mut rig = Rig::new(ram(64), 1);
    let old = Arc::clone(&rig.unit);
    change(&mut rig, 0, map(&[]));
    rig.lun = lun(0);
    assert_eq!(rig.sense(0, &READY, &[]), LUNS_CHANGED);
    rig.good(0, &READY, &[]);
    change(&mut rig, 0, map(&[(1, &old)]));
    assert_eq!(report_luns(&mut rig, 0), [0, 1]);
    rig.good(0, &READY, &[]);
}

#[test]
fn spc_05_a_unit_that_goes_ends_what_has_not_begun_and_waits_for_what_has() {
    let valve = Valve::open();
    let mut rig = Rig::with_units(vec![Delay::new(ram(64), valve.clone()), ram(64)], 1);
    let other = Arc::clone(&rig.units[1]);
    valve.hold();
    let in_store = rig.send(0, &write(1), &[1; 512]);
    rig.step(0);
    rig.slow = true;
    let awaits = rig.send(0, &write(2), &[2; 512]);
    rig.step(0);
    rig.attribute = TaskAttribute::Ordered;
    let dormant = rig.send(0, &read(2), &[]);
    rig.attribute = TaskAttribute::Simple;
    change(&mut rig, 0, map(&[(2, &other)]));
    rig.settle();
    assert_eq!(sense_of(rig.take(awaits).unwrap()), NOT_SUPPORTED);
    assert_eq!(sense_of(rig.take(dormant).unwrap()), NOT_SUPPORTED);
    assert!(rig.take(in_store).is_none(), "the store has it");
    rig.slow = false;
    assert_eq!(rig.sense(0, &READY, &[]), NOT_SUPPORTED);
    rig.lun = lun(2);
    assert_eq!(rig.sense(0, &READY, &[]), LUNS_CHANGED);
    let unit = Arc::clone(&rig.unit);
    let retiring = async move { unit.retire().await };
    let mut retiring = pin!(retiring);
    assert!(waits(&mut rig, retiring.as_mut()), "a store has something");
    valve.release_all();
    assert_eq!(finish(&mut rig, retiring), Ok(()));
    assert_eq!(rig.take(in_store).unwrap().0, Status::Good, "it was written, and that is what is told");
    // The test has two handles; all lanes and views have let go.
    rig.units.remove(0);
    let weak = Arc::downgrade(&rig.unit);
    rig.unit = Arc::clone(&other);
    assert_eq!(weak.strong_count(), 0, "nothing holds the unit, and so its file is closed");
    rig.good(0, &write(5), &[5; 512]);
    assert_eq!(rig.read(0, 5, 1), [5; 512], "the other's channel is found where it is now");
}

#[test]
fn a_session_that_ends_late_lets_go_of_a_retired_unit() {
    let mut rig = Rig::new(ram(64), 2);
    let old = Arc::clone(&rig.unit);
    change(&mut rig, 0, map(&[]));
    let mut retiring = pin!(async move { old.retire().await });
    assert!(waits(&mut rig, retiring.as_mut()), "lane 1 still sees it");
    assert_eq!(rig.sense(1, &read(1), &[]), OFFLINE);
    let nexus = rig.nexuses[1];
    rig.lanes[1].close_nexus(nexus);
    assert_eq!(finish(&mut rig, retiring), Ok(()));
}

#[test]
fn a_number_leads_to_another_unit() {
    let mut rig = Rig::new(ram(64), 1);
    let new = unit(8, ram(32));
    rig.good(0, &write(1), &[1; 512]);
    change(&mut rig, 0, map(&[(1, &new)]));
    let told: Vec<_> = (0..3).map(|_| rig.sense(0, &READY, &[])).collect();
    assert_eq!(told, [(6, 0x29, 0x00), (6, 0x3f, 0x03), LUNS_CHANGED]);
    rig.good(0, &READY, &[]);
    assert_eq!(rig.read(0, 1, 1), [0; 512]);
    assert_eq!(rig.sense(0, &read(32), &[]), (5, 0x21, 0x00));
}

#[test]
fn a_unit_with_another_number_keeps_its_reservation_and_who_waits_in_order() {
    let mut rig = Rig::with_units(vec![ram(64), ram(64)], 2);
    let (one, two) = (Arc::clone(&rig.units[0]), Arc::clone(&rig.units[1]));
    // RESERVE (6), which would end with the nexus.
    rig.good(0, &[0x16, 0, 0, 0, 0, 0], &[]);
    rig.lun = lun(2);
    rig.slow = true;
    let first = rig.send(0, &write(1), &[1; 512]);
    rig.attribute = TaskAttribute::Ordered;
    let second = rig.send(0, &read(1), &[]);
    rig.attribute = TaskAttribute::Simple;
    rig.step(0);
    // What was LUN 2 is the first of the map now, and goes on.
    change(&mut rig, 0, map(&[(2, &two), (7, &one)]));
    rig.give_all();
    rig.settle();
    assert_eq!(rig.take(first).unwrap().0, Status::Good);
    // What was told waits for the command that comes next; this one came before.
    assert_eq!(sense_of(rig.take(second).unwrap()), LUNS_CHANGED);
    rig.lun = lun(1);
    assert_eq!(rig.sense(0, &READY, &[]), NOT_SUPPORTED);
    assert_eq!(rig.command(1, &read(1), &[]).0, Status::ReservationConflict, "it is still reserved");
    rig.lun = lun(7);
    assert_eq!(rig.sense(0, &READY, &[]), (6, 0x29, 0x07));
    rig.good(0, &read(1), &[]);
    change(&mut rig, 0, map(&[(2, &two)]));
    rig.settle();
    rig.lun = lun(1);
    rig.good(1, &read(1), &[]);
}

#[test]
fn an_initiator_that_may_write_no_more_is_told_and_refused() {
    let mut rig = Rig::new(ram(64), 1);
    let old = Arc::clone(&rig.unit);
    rig.slow = true;
    let awaits = rig.send(0, &write(2), &[2; 512]);
    rig.step(0);
    let protected =
        |read_only| Arc::new(LunMap { entries: vec![LunEntry { number: 1, unit: Arc::clone(&old), read_only }] });
    change(&mut rig, 0, protected(true));
    rig.settle();
    assert_eq!(sense_of(rig.take(awaits).unwrap()), PROTECTED);
    rig.slow = false;
    assert_eq!(rig.sense(0, &READY, &[]), MODE_CHANGED);
    assert_eq!(rig.sense(0, &write(1), &[1; 512]), PROTECTED);
    assert_eq!(rig.read(0, 2, 1), [0; 512]);
    change(&mut rig, 0, protected(false));
    assert_eq!(rig.sense(0, &READY, &[]), MODE_CHANGED);
    rig.good(0, &write(1), &[1; 512]);
}

#[test]
fn offline_lets_go_of_the_medium_and_answers_what_does_not_need_it() {
    let (valve, journal) = (Valve::open(), Journal::default());
    let store = Cached(Delay::new(Logged::new(ram(64), journal.clone()), valve.clone()));
    let mut rig = Rig::new(Arc::new(store), 2);
    valve.hold();
    let in_store = rig.send(0, &write(1), &[1; 512]);
    rig.step(0);
    rig.slow = true;
    let awaits = rig.send(1, &write(2), &[2; 512]);
    rig.step(1);
    rig.slow = false;
    let unit = Arc::clone(&rig.unit);
    let mut leaving = pin!({
        let unit = Arc::clone(&unit);
        async move { unit.take_offline().await }
    });
    assert!(waits(&mut rig, leaving.as_mut()));
    assert_eq!(sense_of(rig.take(awaits).unwrap()), OFFLINE);
    valve.release_all();
    assert_eq!(finish(&mut rig, leaving), Ok(()));
    assert_eq!(rig.take(in_store).unwrap().0, Status::Good);
    assert_eq!(journal.records().last().unwrap().operation, Operation::Flush, "what was answered is stable");
    assert!(!unit.standing().online);
    for cdb in [&READY[..], &read(0), &write(0), &cdb_10(0x25, 0, 0, 0), &cdb_10(0x35, 0, 0, 0), &[0x1b, 0, 0, 0, 1, 0]]
    {
        let out = if cdb[0] == 0x2a { &[0; 512][..] } else { &[] };
        assert_eq!(rig.sense(0, cdb, out), OFFLINE, "{cdb:02x?}");
    }
    let sense = rig.good(0, &[0x03, 0, 0, 0, 18, 0], &[]);
    assert_eq!((sense[2], sense[12], sense[13]), OFFLINE, "REQUEST SENSE");
    assert_eq!(rig.good(0, &[0x12, 0, 0, 0, 96, 0], &[])[0], 0, "INQUIRY: a disk, connected");
    assert_eq!(report_luns(&mut rig, 0), [0, 1]);
    rig.good(0, &[0x1a, 0, 0x3f, 0, 252, 0], &[]);
    // REGISTER with key 1, READ KEYS.
    let mut list = [0; 24];
    list[15] = 1;
    rig.good(0, &[0x5f, 0, 0, 0, 0, 0, 0, 0, 24, 0], &list);
    assert_eq!(rig.good(0, &[0x5e, 0, 0, 0, 0, 0, 0, 0, 64, 0], &[])[15], 1);
    unit.bring_online();
    for lane in [0, 1] {
        assert_eq!(rig.sense(lane, &READY, &[]), (6, 0x28, 0x00));
        rig.good(lane, &READY, &[]);
    }
    assert_eq!(rig.read(0, 1, 2), [[1; 512], [0; 512]].concat());
}

#[test]
fn a_command_of_several_steps_ends_with_its_step_when_its_unit_goes_offline() {
    let valve = Valve::open();
    let mut rig = Rig::new(Delay::new(ram(8192), valve.clone()), 1);
    valve.hold();
    // WRITE SAME (16) of many blocks, in several requests; COMPARE AND WRITE that waits behind it.
    let same = rig.send(0, &cdb_16(0x93, 0, 0, 8000), &[3; 512]);
    rig.step(0);
    let unit = Arc::clone(&rig.unit);
    let mut leaving = pin!(async move { unit.take_offline().await });
    assert!(waits(&mut rig, leaving.as_mut()));
    valve.release_all();
    assert_eq!(finish(&mut rig, leaving), Ok(()));
    rig.settle();
    assert_eq!(sense_of(rig.take(same).unwrap()), OFFLINE);
    assert_eq!(rig.lanes[0].tasks(), 0);
}

#[test]
fn read_only_comes_back_when_no_write_is_under_way() {
    let valve = Valve::open();
    let mut rig = Rig::new(Delay::new(ram(64), valve.clone()), 2);
    valve.hold();
    let in_store = rig.send(0, &write(1), &[1; 512]);
    let reading = rig.send(0, &read(4), &[]);
    rig.step(0);
    rig.slow = true;
    let awaits = rig.send(1, &write(2), &[2; 512]);
    rig.step(1);
    rig.slow = false;
    let unit = Arc::clone(&rig.unit);
    let mut switching = pin!({
        let unit = Arc::clone(&unit);
        async move { unit.set_read_only(true).await }
    });
    assert!(waits(&mut rig, switching.as_mut()));
    valve.release_all();
    assert_eq!(finish(&mut rig, switching), Ok(()));
    rig.settle();
    assert_eq!(rig.take(in_store).unwrap().0, Status::Good);
    assert_eq!(rig.take(reading).unwrap().0, Status::Good, "reads go on");
    assert_eq!(sense_of(rig.take(awaits).unwrap()), PROTECTED);
    for lane in [0, 1] {
        assert_eq!(rig.sense(lane, &READY, &[]), MODE_CHANGED);
        assert_eq!(rig.sense(lane, &write(9), &[9; 512]), PROTECTED);
    }
    assert_eq!(rig.good(0, &[0x1a, 8, 0x08, 0, 252, 0], &[])[2] & 0x80, 0x80, "WP");
    assert_eq!(finish(&mut rig, unit.set_read_only(false)), Ok(()));
    assert_eq!(rig.sense(0, &READY, &[]), MODE_CHANGED);
    rig.good(0, &write(9), &[9; 512]);
    assert_eq!(rig.good(0, &[0x1a, 8, 0x08, 0, 252, 0], &[])[2] & 0x80, 0);
    let store = block::layer::ReadOnly::new(ram(64));
    let mut rig = Rig::new(store, 1);
    let unit = Arc::clone(&rig.unit);
    assert!(matches!(finish(&mut rig, unit.set_read_only(false)), Err(ChangeError::Unsupported(_))));
}

/// WCE, as MODE SENSE tells it.
fn cached(rig: &mut Rig, lane: usize) -> bool {
    rig.good(lane, &[0x1a, 8, 0x08, 0, 252, 0], &[])[6] & 0x04 != 0
}

#[test]
fn the_cache_goes_off_with_everything_that_was_promised_kept() {
    let (valve, journal) = (Valve::open(), Journal::default());
    let store = Cached(Delay::new(Logged::new(ram(64), journal.clone()), valve.clone()));
    let mut rig = Rig::new(Arc::new(store), 2);
    assert!(cached(&mut rig, 0));
    rig.good(0, &write(1), &[1; 512]);
    rig.slow = true;
    let awaits = rig.send(1, &write(2), &[2; 512]);
    rig.step(1);
    valve.hold();
    rig.slow = false;
    let in_store = rig.send(0, &write(3), &[3; 512]);
    rig.step(0);
    let unit = Arc::clone(&rig.unit);
    let mut switching = pin!({
        let unit = Arc::clone(&unit);
        async move { unit.set_write_cache(false).await }
    });
    assert!(waits(&mut rig, switching.as_mut()), "one is in the store");
    assert!(cached(&mut rig, 0), "not told before it is true");
    valve.release_all();
    assert_eq!(finish(&mut rig, switching), Ok(()));
    assert_eq!(rig.take(in_store).unwrap().0, Status::Good);
    let flushes = |journal: &Journal| {
        journal.records().iter().rposition(|record| record.operation == Operation::Flush).map_or(0, |at| at + 1)
    };
    let records = journal.records();
    let stable = |block: u64| {
        records.iter().enumerate().any(|(at, record)| {
            record.offset == block * 512
                && matches!(record.operation, Operation::Write { durable } if durable || at < flushes(&journal))
        })
    };
    assert!(stable(1) && stable(3));
    rig.give_all();
    rig.settle();
    assert_eq!(rig.take(awaits).unwrap().0, Status::Good);
    let last = journal.records().into_iter().rfind(|record| record.offset == 1024).unwrap();
    assert_eq!(last.operation, Operation::Write { durable: true }, "it is answered when nothing is cached any more");
    for lane in [0, 1] {
        assert_eq!(rig.sense(lane, &READY, &[]), MODE_CHANGED);
        assert!(!cached(&mut rig, lane));
    }
    assert_eq!(finish(&mut rig, unit.set_write_cache(true)), Ok(()));
    assert_eq!(rig.sense(0, &READY, &[]), MODE_CHANGED);
    assert!(cached(&mut rig, 0) && unit.standing().write_cache == Some(true));
    assert_eq!(finish(&mut rig, unit.set_write_cache(true)), Ok(()), "nothing to do");
    rig.good(0, &READY, &[]);
}

#[test]
fn what_an_administrator_has_set_outlives_a_reset_of_the_unit() {
    let mut rig = Rig::new(Arc::new(Cached(ram(64))), 1);
    let unit = Arc::clone(&rig.unit);
    finish(&mut rig, unit.set_write_cache(false)).unwrap();
    finish(&mut rig, unit.set_read_only(true)).unwrap();
    finish(&mut rig, unit.take_offline()).unwrap();
    let nexus = rig.nexuses[0];
    rig.lanes[0].task_management(nexus, 1, UNIT, crate::TaskManagementFunction::LogicalUnitReset);
    rig.settle();
    assert_eq!(rig.functions, [1]);
    let standing = unit.standing();
    assert!(!standing.online && standing.read_only && standing.write_cache == Some(false));
}

/// What the process before has written may not be stable.
struct Inherited(Result<(), Error>);

impl Backend for Inherited {
    fn limits(&self) -> Arc<Limits> {
        Cached(ram(64)).limits()
    }

    fn description(&self) -> Description {
        ram(64).description()
    }

    fn open(&self, _engine: &Rc<dyn Engine>) -> Result<Box<dyn Store>, Error> {
        panic!("nobody uses it");
    }

    fn flush_inherited(&self, done: block::Flushed) {
        done(self.0);
    }
}

#[test]
fn what_was_inherited_is_stable_too_before_a_unit_that_nobody_uses_says_that_all_is() {
    let ready = |future: std::pin::Pin<&mut dyn Future<Output = Result<(), ChangeError>>>| match future
        .poll(&mut Context::from_waker(Waker::noop()))
    {
        Poll::Ready(result) => result,
        Poll::Pending => panic!("nobody is asked"),
    };
    for told in [Ok(()), Err(Error::new(block::ErrorKind::Medium))] {
        let unit = unit(7, Arc::new(Inherited(told)));
        for result in [
            ready(pin!(unit.flush())),
            ready(pin!(unit.set_write_cache(false))),
            ready(pin!(unit.take_offline())),
            ready(pin!(unit.retire())),
        ] {
            match &told {
                Ok(()) => assert_eq!(result, Ok(())),
                Err(_) => assert!(matches!(result, Err(ChangeError::NotFlushed(_))), "{result:?}"),
            }
        }
    }
}

#[test]
fn a_cache_that_cannot_be_flushed_stays_on_and_a_store_without_one_says_so() {
    let plan = FaultPlan::default();
    let mut rig = Rig::new(Arc::new(Cached(Faulty::new(ram(64), plan.clone()))), 1);
    rig.good(0, &write(1), &[1; 512]);
    plan.add(block::layer::Fault::always(block::layer::On::Flush, block::ErrorKind::Medium));
    let unit = Arc::clone(&rig.unit);
    assert!(matches!(finish(&mut rig, unit.set_write_cache(false)), Err(ChangeError::NotFlushed(_))));
    assert!(cached(&mut rig, 0));
    rig.good(0, &READY, &[]);
    let mut rig = Rig::new(ram(64), 1);
    let unit = Arc::clone(&rig.unit);
    assert!(matches!(finish(&mut rig, unit.set_write_cache(false)), Err(ChangeError::Unsupported(_))));
}

#[test]
fn spc_05_a_disk_grows_and_shrinks_under_its_initiators() {
    let mut rig = Rig::new(ram(64), 2);
    let unit = Arc::clone(&rig.unit);
    rig.good(0, &write(63), &[1; 512]);
    unit.resize(128).unwrap();
    for lane in [0, 1] {
        assert_eq!(rig.sense(lane, &READY, &[]), (6, 0x2a, 0x09));
        assert_eq!(rig.good(lane, &cdb_10(0x25, 0, 0, 0), &[])[3], 127);
    }
    rig.good(1, &write(127), &[2; 512]);
    // Smaller: nobody is under way at it meanwhile, and what comes waits.
    let paused = finish(&mut rig, unit.pause());
    let waiting = rig.send(0, &read(2), &[]);
    rig.settle();
    assert!(rig.take(waiting).is_none());
    unit.resize(32).unwrap();
    drop(paused);
    rig.settle();
    assert_eq!(rig.take(waiting).unwrap().0, Status::Good, "it came before, and is there");
    assert_eq!(rig.sense(0, &READY, &[]), (6, 0x2a, 0x09));
    assert_eq!(rig.sense(0, &read(63), &[]), (5, 0x21, 0x00));
    unit.resize(128).unwrap();
    assert_eq!(rig.sense(0, &READY, &[]), (6, 0x2a, 0x09));
    assert_eq!(rig.read(0, 63, 1), [0; 512], "what was cut off does not come back");
    unit.resize(128).unwrap();
    rig.good(0, &READY, &[]);
}

#[test]
fn names_change_only_offline_and_are_told() {
    let mut rig = Rig::new(ram(64), 1);
    let unit = Arc::clone(&rig.unit);
    let other = crate::Identity { product: "Another".into(), ..identity() };
    assert!(matches!(unit.rename(other.clone()), Err(ChangeError::State(_))));
    finish(&mut rig, unit.take_offline()).unwrap();
    assert!(matches!(unit.rename(crate::Identity { uuid: [9; 16], ..identity() }), Err(ChangeError::State(_))));
    unit.rename(other).unwrap();
    unit.bring_online();
    assert_eq!(rig.sense(0, &READY, &[]), (6, 0x3f, 0x03));
    assert_eq!(&rig.good(0, &[0x12, 0, 0, 0, 96, 0], &[])[16..23], b"Another");
}

fn register(rig: &mut Rig, lane: usize, key: u8) {
    let mut list = [0; 24];
    list[15] = key;
    rig.good(lane, &[0x5f, 0x06, 0, 0, 0, 0, 0, 0, 24, 0], &list);
}

#[test]
fn reservations_are_listed_and_cleared_and_those_who_had_them_hear_of_it() {
    let mut rig = Rig::new(ram(64), 3);
    let unit = Arc::clone(&rig.unit);
    register(&mut rig, 0, 1);
    register(&mut rig, 1, 2);
    let mut list = [0; 24];
    list[7] = 1;
    // RESERVE, write exclusive.
    rig.good(0, &[0x5f, 0x01, 0x01, 0, 0, 0, 0, 0, 24, 0], &list);
    rig.good(0, &[0x1e, 0, 0, 0, 1, 0], &[]);
    assert_eq!(rig.command(2, &write(1), &[1; 512]).0, Status::ReservationConflict);
    let seen = unit.reservations();
    assert_eq!(seen.reservation, Some((1, scsi::persistent::ReservationType::WriteExclusive)));
    let holders: Vec<_> = seen.registrations.iter().map(|one| (one.key, one.holder)).collect();
    assert_eq!(holders, [(1, true), (2, false)]);
    assert_eq!(&*seen.registrations[0].nexus.initiator, b"client 0");
    assert_eq!(seen.preventing.len(), 1);
    assert_eq!(finish(&mut rig, unit.clear_reservations()), Ok(()));
    for lane in [0, 1] {
        assert_eq!(rig.sense(lane, &READY, &[]), (6, 0x2a, 0x03));
    }
    rig.good(2, &write(1), &[1; 512]);
    let seen = unit.reservations();
    assert!(seen.registrations.is_empty() && seen.reservation.is_none() && seen.preventing.is_empty());
    // RESERVE (6) of SPC-2.
    rig.good(0, &[0x16, 0, 0, 0, 0, 0], &[]);
    assert_eq!(&*unit.reservations().exclusive.unwrap().initiator, b"client 0");
    finish(&mut rig, unit.clear_reservations()).unwrap();
    assert_eq!(rig.sense(0, &READY, &[]), (6, 0x2a, 0x03));
    rig.good(1, &write(1), &[1; 512]);
}

#[test]
fn one_registration_is_taken_away() {
    let mut rig = Rig::new(ram(64), 2);
    let unit = Arc::clone(&rig.unit);
    register(&mut rig, 0, 1);
    register(&mut rig, 1, 2);
    let mut list = [0; 24];
    list[7] = 1;
    // RESERVE, write exclusive, registrants only.
    rig.good(0, &[0x5f, 0x01, 0x05, 0, 0, 0, 0, 0, 24, 0], &list);
    let victim = unit.reservations().registrations[0].nexus.clone();
    assert_eq!(finish(&mut rig, unit.unregister(&victim)), Ok(true));
    assert_eq!(rig.sense(0, &READY, &[]), (6, 0x2a, 0x05));
    assert_eq!(rig.sense(1, &READY, &[]), (6, 0x2a, 0x04));
    assert_eq!(unit.reservations().reservation, None);
    assert_eq!(finish(&mut rig, unit.unregister(&victim)), Ok(false));
}

#[test]
fn a_unit_that_nobody_has_used_changes_at_once() {
    let unit = unit(7, Arc::new(Cached(ram(64))));
    let now = |future: std::pin::Pin<&mut dyn Future<Output = Result<(), ChangeError>>>| {
        matches!(future.poll(&mut Context::from_waker(Waker::noop())), Poll::Ready(Ok(())))
    };
    assert!(now(pin!(unit.set_write_cache(false))));
    assert!(now(pin!(unit.set_read_only(true))));
    assert!(now(pin!(unit.clear_reservations())));
    assert!(now(pin!(unit.take_offline())));
    let standing = unit.standing();
    assert!(!standing.online && standing.read_only && standing.write_cache == Some(false));
    assert!(now(pin!(unit.retire())));
}

#[test]
fn a_copy_whose_source_goes_is_cut_off_and_nothing_hangs() {
    let valve = Valve::open();
    let mut rig = Rig::with_units(vec![ram(8192), Delay::new(ram(8192), valve.clone())], 1);
    let (one, two) = (Arc::clone(&rig.units[0]), Arc::clone(&rig.units[1]));
    // POPULATE TOKEN at LUN 2, WRITE USING TOKEN at LUN 1.
    rig.lun = lun(2);
    rig.good(0, &cdb_16(0x93, 0, 0, 8000), &[5; 512]);
    let mut populate = vec![0; 32];
    populate[1] = 30;
    populate[15] = 16;
    populate[26..28].copy_from_slice(&8000u16.to_be_bytes());
    rig.good(0, &[0x83, 0x10, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 32, 0, 0], &populate);
    let results = rig.good(0, &[0x84, 0x07, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0], &[]);
    let token = &results[results.len() - 512..];
    let mut using = vec![0; 536 + 16];
    using[0..2].copy_from_slice(&550u16.to_be_bytes());
    using[16..528].copy_from_slice(token);
    using[534..536].copy_from_slice(&16u16.to_be_bytes());
    using[546..548].copy_from_slice(&8000u16.to_be_bytes());
    rig.lun = lun(1);
    valve.hold();
    let cdb = [0x83, 0x11, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 2, 40, 0, 0];
    let copy = rig.send(0, &cdb, &using);
    rig.step(0);
    change(&mut rig, 0, map(&[(1, &one)]));
    let mut retiring = pin!(async move { two.retire().await });
    assert!(waits(&mut rig, retiring.as_mut()));
    valve.release_all();
    assert_eq!(finish(&mut rig, retiring), Ok(()));
    rig.settle();
    let (key, ..) = sense_of(rig.take(copy).unwrap());
    assert_eq!(key, 0x0a, "COPY ABORTED");
    assert_eq!(rig.lanes[0].tasks(), 0);
    assert_eq!(rig.sense(0, &cdb, &using), LUNS_CHANGED);
    assert_eq!(rig.sense(0, &cdb, &using), (5, 0x23, 0x04), "a token of a unit that is not there is unknown");
}

#[test]
fn what_a_limit_holds_back_ends_with_its_unit_and_goes_on_at_the_others() {
    const SECOND: u64 = 1_000_000_000;
    let mut rig = Rig::with_units(vec![ram(64), ram(64), ram(64)], 1);
    let time = Arc::new(std::sync::atomic::AtomicU64::new(SECOND));
    let clock = Arc::clone(&time);
    rig.lanes[0].set_ticks(Arc::new(move || clock.load(std::sync::atomic::Ordering::Relaxed)));
    let (one, two, three) = (Arc::clone(&rig.units[0]), Arc::clone(&rig.units[1]), Arc::clone(&rig.units[2]));
    for unit in [&one, &three] {
        unit.limiter().set(crate::Rate { operations: 1, ..crate::Rate::default() });
    }
    let send = |rig: &mut Rig, number| -> Vec<u64> {
        rig.lun = lun(number);
        (0..20).map(|_| rig.send(0, &read(1), &[])).collect()
    };
    let (first, third) = (send(&mut rig, 1), send(&mut rig, 3));
    rig.settle();
    assert!(one.limiter().waiting() > 0 && three.limiter().waiting() > 0);
    change(&mut rig, 0, map(&[(2, &two), (3, &three)]));
    rig.settle();
    let ends: Vec<_> = first.into_iter().map(|tag| rig.take(tag).expect("it has ended")).collect();
    let refused = ends.into_iter().filter(|(status, _)| *status != Status::Good);
    assert!(refused.map(sense_of).inspect(|sense| assert_eq!(*sense, NOT_SUPPORTED)).count() > 0);
    assert_eq!(one.limiter().waiting(), 0, "nobody waits there any more");
    assert_eq!(finish(&mut rig, one.retire()), Ok(()));
    // The channel of LUN 3 is in the place of that of LUN 1 now.
    for _ in 0..30 {
        let now = time.fetch_add(SECOND, std::sync::atomic::Ordering::Relaxed) + SECOND;
        rig.lanes[0].at(now);
        rig.settle();
    }
    for tag in third {
        assert_eq!(rig.take(tag).expect("it was let go on").0, Status::Good);
    }
    assert_eq!((three.limiter().waiting(), rig.lanes[0].tasks()), (0, 0));
}

#[test]
fn changes_in_a_storm_of_commands_lose_no_answer() {
    let mut rig = Rig::with_units(vec![ram(256), ram(256)], 2);
    let (one, two) = (Arc::clone(&rig.units[0]), Arc::clone(&rig.units[1]));
    let mut seed = 7u32;
    let mut next = |most: u32| {
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (seed >> 16) % most
    };
    let mut sent = Vec::new();
    for _ in 0..2000 {
        let lane = next(2) as usize;
        rig.lun = lun(next(3) as u8);
        rig.attribute = if next(8) == 0 { TaskAttribute::Ordered } else { TaskAttribute::Simple };
        match next(10) {
            0..4 => sent.push(rig.send(lane, &write(next(250)), &[1; 512])),
            4..7 => sent.push(rig.send(lane, &read(next(250)), &[])),
            7 => {
                let all = [(1, &one), (2, &two)];
                let map = match next(4) {
                    0 => map(&all[..1]),
                    1 => map(&all[1..]),
                    2 => map(&[(1, &two), (2, &one)]),
                    _ => map(&all),
                };
                change(&mut rig, lane, map);
            }
            8 => {
                // One after the other they are wanted and not waited for.
                let unit = if next(2) == 0 { &one } else { &two };
                match next(2) {
                    0 => drop(finish(&mut rig, unit.take_offline())),
                    _ => drop(finish(&mut rig, unit.set_read_only(next(2) == 0))),
                }
                unit.bring_online();
            }
            _ => (0..2).for_each(|lane| rig.step(lane)),
        }
    }
    rig.settle();
    for tag in sent {
        assert!(rig.take(tag).is_some(), "{tag} was not answered");
    }
    assert!(rig.lanes.iter().all(|lane| lane.tasks() == 0));
    for lane in [0, 1] {
        let nexus = rig.nexuses[lane];
        rig.lanes[lane].close_nexus(nexus);
    }
    rig.settle();
    assert!(one.commons.initiators().is_empty() && two.commons.initiators().is_empty(), "each came and went as often");
}

#[test]
fn other_groups_of_ports_are_told_and_the_states_stay() {
    use crate::{GroupSettings, TargetPortGroups};
    use scsi::inquiry::TargetPortGroupSupport;
    use scsi::port_groups::AccessState;
    let settings = [GroupSettings::new(1), GroupSettings::new(2)];
    let old = TargetPortGroups::new(&settings[..1], TargetPortGroupSupport::Both);
    let port = Arc::new(TargetPort::new("t", &old, 1).unwrap());
    let mut rig = Rig::with_ports(ram(64), &[port]);
    let unit = Arc::clone(&rig.unit);
    old.change(&[(1, AccessState::ActiveNonOptimized)], std::slice::from_ref(&unit));
    assert_eq!(rig.sense(0, &READY, &[]), (6, 0x2a, 0x06));
    let new = old.succeeded_by(&settings, TargetPortGroupSupport::Both);
    let port = Arc::new(TargetPort::new("t", &new, 1).unwrap());
    let nexus = rig.nexuses[0];
    rig.lanes[0].change_nexus(nexus, map(&[(1, &unit)]), port);
    assert_eq!(rig.sense(0, &READY, &[]), (6, 0x2a, 0x06));
    // REPORT TARGET PORT GROUPS.
    let groups = rig.good(0, &[0xa3, 0x0a, 0, 0, 0, 0, 0, 0, 0, 64, 0, 0], &[]);
    assert_eq!((groups[4] & 0x0f, groups[7], groups[19]), (1, 1, 2));
    assert!(
        old.is_like(&settings[..1], TargetPortGroupSupport::Both)
            && !old.is_like(&settings, TargetPortGroupSupport::Both)
    );
}
