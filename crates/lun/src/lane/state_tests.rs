//! What is kept of a unit, while it is being saved: others go on, and nothing is answered or in force before.

use super::rig::{Rig, ram};
use super::*;
use crate::{LogicalUnit, Options, Saved, StateError, StateKind, StateStore};
use std::sync::Mutex;

/// Saves when the test wants it.
#[derive(Default)]
struct Slow(Mutex<Vec<(StateKind, Vec<u8>, Saved)>>);

impl Slow {
    fn finish(&self, result: Result<(), StateError>) -> (StateKind, Vec<u8>) {
        let (kind, bytes, done) = self.0.lock().unwrap().remove(0);
        done(result);
        (kind, bytes)
    }

    fn under_way(&self) -> usize {
        self.0.lock().unwrap().len()
    }
}

impl StateStore for Slow {
    fn load(&self, _: [u8; 16], _: StateKind) -> Result<Option<Vec<u8>>, StateError> {
        Ok(None)
    }

    fn save_later(&self, _: [u8; 16], kind: StateKind, bytes: Vec<u8>, done: Saved) {
        self.0.lock().unwrap().push((kind, bytes, done));
    }

    fn save(&self, _: [u8; 16], _: StateKind, _: &[u8]) -> Result<(), StateError> {
        Ok(())
    }
}

fn rig(lanes: usize) -> (Rig, Arc<Slow>) {
    rig_over(ram(64), lanes)
}

fn rig_over(backend: Arc<dyn block::Backend>, lanes: usize) -> (Rig, Arc<Slow>) {
    let slow = Arc::new(Slow::default());
    let state: Arc<dyn StateStore> = Arc::clone(&slow) as _;
    let unit = LogicalUnit::open(super::rig::identity(), Options::default(), backend, Some(state)).unwrap();
    (Rig::of(unit, lanes), slow)
}

const REGISTER: [u8; 10] = [0x5f, 0, 0, 0, 0, 0, 0, 0, 24, 0];

fn register_list(key: u8) -> [u8; 24] {
    let mut list = [0; 24];
    (list[15], list[20]) = (key, 1);
    list
}

fn keys(rig: &mut Rig, lane: usize) -> Vec<u8> {
    let answer = rig.good(lane, &[0x5e, 0, 0, 0, 0, 0, 0, 0, 64, 0], &[]);
    answer[8..].chunks(8).map(|key| key[7]).collect()
}

#[test]
fn prs_09_good_comes_when_it_is_saved_and_others_go_on_until_then() {
    let (mut rig, slow) = rig(2);
    let first = rig.send(0, &REGISTER, &register_list(5));
    rig.settle();
    let second = rig.send(1, &REGISTER, &register_list(6));
    rig.settle();
    assert_eq!(slow.under_way(), 1, "one after the other");
    assert!(rig.take(first).is_none());
    for lane in [0, 1] {
        rig.read(lane, 0, 8);
        assert_eq!(keys(&mut rig, lane), []);
    }
    assert_eq!(slow.finish(Ok(())).0, StateKind::Reservations);
    rig.settle();
    assert_eq!(rig.take(first).unwrap().0, Status::Good);
    assert_eq!((keys(&mut rig, 1), rig.take(second).is_none()), (vec![5], true));
    slow.finish(Err(StateError::Failed("no space".into())));
    rig.settle();
    let (status, sense) = rig.take(second).unwrap();
    assert_eq!((status, sense[2], sense[12]), (Status::CheckCondition, 4, 0x44));
    assert_eq!(keys(&mut rig, 0), [5], "what was not saved is not in force");
}

#[test]
fn prs_09_what_is_aborted_while_it_is_saved_ends_with_it_and_is_in_force() {
    let (mut rig, slow) = rig(1);
    let tag = rig.send(0, &REGISTER, &register_list(5));
    rig.settle();
    let (nexus, lun) = (rig.nexuses[0], rig.lun);
    rig.lanes[0].task_management(nexus, 7, lun, crate::TaskManagementFunction::AbortTaskSet);
    rig.settle();
    assert!(!rig.functions.contains(&7));
    slow.finish(Ok(()));
    rig.settle();
    assert!(rig.functions.contains(&7) && rig.take(tag).is_none());
    assert_eq!(keys(&mut rig, 0), [5], "as it is kept");
    assert_eq!(rig.lanes[0].tasks(), 0);
}

/// REGISTER of this lane's nexus, which is being saved.
fn registering(rig: &mut Rig, lane: usize, key: u8) -> u64 {
    let tag = rig.send(lane, &REGISTER, &register_list(key));
    rig.settle();
    assert!(rig.take(tag).is_none());
    tag
}

#[test]
fn prs_09_reserve_waits_for_a_registration_that_is_being_saved_and_then_conflicts() {
    let (mut rig, slow) = rig(2);
    let register = registering(&mut rig, 0, 5);
    let reserve = rig.send(1, &[0x16, 0, 0, 0, 0, 0], &[]);
    rig.settle();
    assert!(rig.take(reserve).is_none());
    slow.finish(Ok(()));
    rig.settle();
    assert_eq!(rig.take(register).unwrap().0, Status::Good);
    assert_eq!(rig.take(reserve).unwrap().0, Status::ReservationConflict);
}

#[test]
fn prs_09_after_a_save_that_may_have_come_through_the_next_change_is_saved_whatever_it_is() {
    let (mut rig, slow) = rig(1);
    let first = registering(&mut rig, 0, 5);
    slow.finish(Err(StateError::Failed("renamed, but the directory was not flushed".into())));
    rig.settle();
    assert_eq!(rig.take(first).unwrap().0, Status::CheckCondition);
    let mut list = register_list(5);
    list[20] = 0;
    for saves in [1, 0] {
        let again = rig.send(0, &REGISTER, &list);
        rig.settle();
        assert_eq!(slow.under_way(), saves);
        if saves > 0 {
            slow.finish(Ok(()));
            rig.settle();
        }
        assert!(rig.take(again).is_some());
        list[7] = 5;
    }
}

#[test]
fn lists_that_wait_for_their_turn_are_in_the_pools_memory() {
    let (mut rig, slow) = rig(1);
    let first = registering(&mut rig, 0, 5);
    let before = rig.lanes[0].context.pool.taken_bytes();
    let long = vec![0; 256 << 10];
    let cdb = [0x5f, 0, 0, 0, 0, 0, 4, 0, 0, 0];
    let waiting: Vec<_> = (0..8).map(|_| rig.send(0, &cdb, &long)).collect();
    rig.settle();
    assert!(rig.lanes[0].context.pool.taken_bytes() >= before + 8 * long.len());
    slow.finish(Ok(()));
    rig.settle();
    assert_eq!(rig.take(first).unwrap().0, Status::Good);
    assert!(waiting.into_iter().all(|tag| rig.take(tag).unwrap().0 == Status::CheckCondition));
    assert_eq!(rig.lanes[0].context.pool.taken_bytes(), 0);
}

#[test]
fn registrations_are_changed_beside_what_happens_on_the_medium() {
    let valve = block::layer::Valve::open();
    let (mut rig, slow) = rig_over(block::layer::Delay::new(ram(64), valve.clone()), 2);
    let _ = (rig.command(0, &[0; 6], &[]), rig.command(1, &[0; 6], &[]));
    valve.hold();
    // START STOP UNIT that flushes.
    let stop = rig.send(1, &[0x1b, 0, 0, 0, 0, 0], &[]);
    rig.settle();
    registering(&mut rig, 0, 5);
    assert_eq!((slow.under_way(), rig.take(stop).is_none()), (1, true));
}

#[test]
fn prs_07_a_lost_nexus_does_not_stay_for_the_tasks_that_it_preempted() {
    let valve = block::layer::Valve::open();
    let (mut rig, slow) = rig_over(block::layer::Delay::new(ram(64), valve.clone()), 2);
    for lane in [0, 1] {
        registering(&mut rig, lane, lane as u8 + 1);
        slow.finish(Ok(()));
        rig.settle();
    }
    valve.hold();
    let read = rig.send(1, &super::rig::cdb_16(0x88, 0, 0, 8), &[]);
    rig.settle();
    let mut preempt = register_list(2);
    preempt[7] = 1;
    rig.send(0, &[0x5f, 5, 1, 0, 0, 0, 0, 0, 24, 0], &preempt);
    rig.settle();
    assert_eq!(slow.under_way(), 1);
    let nexus = rig.nexuses[0];
    rig.lanes[0].close_nexus(nexus);
    rig.settle();
    assert_eq!(rig.lanes[0].tasks(), 1, "not while it saves");
    slow.finish(Ok(()));
    rig.settle();
    assert_eq!((rig.lanes[0].tasks(), rig.lanes[1].tasks()), (0, 1));
    valve.release_all();
    rig.settle();
    assert!(rig.take(read).is_none() && rig.lanes[1].tasks() == 0);
}
