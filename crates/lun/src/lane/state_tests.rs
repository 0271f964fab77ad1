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
    let slow = Arc::new(Slow::default());
    let state: Arc<dyn StateStore> = Arc::clone(&slow) as _;
    let identity = super::rig::identity();
    let unit = LogicalUnit::open(identity, Options::default(), ram(64), Some(state)).unwrap();
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
