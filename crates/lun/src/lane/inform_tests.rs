//! What a unit tells of itself and lets initiators write on it: names, time, power, logs, diagnostics.

use super::rig::{Rig, cdb_10, ram};
use super::*;
use crate::{LogicalUnit, Options, StateError, StateKind, StateStore};
use block::layer::{Fault, FaultPlan, Faulty, On};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// What is saved, in memory.
#[derive(Default)]
struct Kept(Mutex<HashMap<StateKind, Vec<u8>>>);

impl StateStore for Kept {
    fn load(&self, _: [u8; 16], kind: StateKind) -> Result<Option<Vec<u8>>, StateError> {
        Ok(self.0.lock().unwrap().get(&kind).cloned())
    }

    fn save(&self, _: [u8; 16], kind: StateKind, bytes: &[u8]) -> Result<(), StateError> {
        self.0.lock().unwrap().insert(kind, bytes.to_vec());
        Ok(())
    }
}

fn rig(lanes: usize, kept: &Arc<Kept>) -> Rig {
    let state: Arc<dyn StateStore> = kept.clone();
    let identity = super::rig::identity();
    let unit = LogicalUnit::open(identity, Options::default(), ram(64), Some(state)).unwrap();
    Rig::of(unit, lanes)
}

fn identifying(opcode: u8, kind: u8, length: u16) -> [u8; 12] {
    let [high, low] = length.to_be_bytes();
    let action = if opcode == 0xa3 { 0x05 } else { 0x06 };
    [opcode, action, 0, 0, 0, 0, 0, 0, high, low, kind << 1, 0]
}

#[test]
fn identifying_information_is_kept_over_a_restart_and_others_hear_of_it() {
    let kept = Arc::default();
    let mut rig_ = rig(2, &kept);
    assert_eq!(rig_.good(0, &identifying(0xa3, 0x7f, 64), &[]), [0, 0, 0, 8, 0, 0, 2, 0, 4, 0, 1, 0]);
    assert_eq!(rig_.good(0, &identifying(0xa3, 0, 64), &[]), [0, 0, 0, 0]);
    rig_.good(0, &identifying(0xa4, 0, 3), &[1, 2, 3]);
    assert_eq!(rig_.sense(1, &[0; 6], &[]), (6, 0x3f, 0x05), "the other hears of it");
    rig_.good(0, &[0; 6], &[]);
    rig_.good(1, &identifying(0xa4, 2, 6), b"quiet\0");
    assert_eq!(rig_.sense(1, &identifying(0xa4, 2, 5), b"quiet"), (5, 0x26, 0));
    assert_eq!(rig_.sense(1, &identifying(0xa4, 2, 257), &[0; 257]), (5, 0x24, 0), "too long");
    assert_eq!(rig_.sense(1, &identifying(0xa4, 0, 4), &[0; 3]), (5, 0x1a, 0), "cut off");
    assert_eq!(rig_.sense(1, &identifying(0xa3, 1, 64), &[]), (5, 0x24, 0));
    drop(rig_);

    let mut again = rig(1, &kept);
    assert_eq!(again.good(0, &identifying(0xa3, 0, 64), &[]), [0, 0, 0, 3, 1, 2, 3]);
    assert_eq!(again.good(0, &identifying(0xa3, 0, 5), &[]), [0, 0, 0, 3, 1], "cut at the allocation length");
    assert_eq!(again.good(0, &identifying(0xa3, 2, 64), &[])[4..], *b"quiet\0");
    again.good(0, &identifying(0xa4, 0, 0), &[]);
    assert_eq!(again.good(0, &identifying(0xa3, 0, 64), &[]), [0, 0, 0, 0], "taken away");

    kept.0.lock().unwrap().insert(StateKind::Identification, vec![1, 0]);
    let state: Arc<dyn StateStore> = kept;
    let opened = LogicalUnit::open(super::rig::identity(), Options::default(), ram(64), Some(state));
    assert!(opened.is_err(), "what is damaged is not taken for nothing");
}

#[test]
fn a_unit_that_keeps_nothing_has_no_identifying_information() {
    let mut rig = Rig::new(ram(64), 1);
    assert_eq!(rig.good(0, &identifying(0xa3, 0x7f, 64), &[]), [0, 0, 0, 0]);
    assert_eq!(rig.sense(0, &identifying(0xa3, 0, 64), &[]), (5, 0x24, 0));
    assert_eq!(rig.sense(0, &identifying(0xa4, 0, 1), &[1]), (5, 0x24, 0));
}

#[test]
fn a_timestamp_says_where_it_comes_from() {
    let mut rig = Rig::new(ram(64), 2);
    let now = Arc::new(AtomicU64::new(1_000));
    for lane in &mut rig.lanes {
        let now = Arc::clone(&now);
        lane.context.clock = Arc::new(move || Duration::from_millis(now.load(Ordering::Relaxed)));
    }
    let report = [0xa3, 0x0f, 0, 0, 0, 0, 0, 0, 0, 64, 0, 0];
    let set = [0xa4, 0x0f, 0, 0, 0, 0, 0, 0, 0, 12, 0, 0];
    assert_eq!(rig.good(0, &report, &[]), [0, 10, 3, 0, 0, 0, 0, 0, 3, 0xe8, 0, 0]);
    rig.good(0, &set, &[0, 0, 0, 0, 1, 2, 3, 4, 5, 0, 0, 0]);
    assert_eq!(rig.sense(1, &[0; 6], &[]), (6, 0x2a, 0x10));
    now.store(1_007, Ordering::Relaxed);
    assert_eq!(rig.good(1, &report, &[]), [0, 10, 2, 0, 1, 2, 3, 4, 5, 7, 0, 0]);
    assert_eq!(rig.sense(0, &set, &[0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0]), (5, 0x26, 0));
    assert_eq!(rig.sense(0, &[0xa4, 0x0f, 0, 0, 0, 0, 0, 0, 0, 11, 0, 0], &[0; 11]), (5, 0x1a, 0));
    rig.good(0, &[0xa4, 0x0f, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], &[]);
}

#[test]
fn spc_14_a_power_condition_is_told_and_ends_with_the_first_use_of_the_medium() {
    let mut rig = Rig::new(ram(64), 2);
    let told = |rig: &mut Rig| {
        let sense = rig.good(1, &[0x03, 0, 0, 0, 252, 0], &[]);
        (sense[2], sense[12], sense[13])
    };
    let start_stop = |modifier, byte| [0x1b, 0, 0, modifier, byte, 0];
    for (condition, qualifier) in [(0x20, 3), (0x30, 4)] {
        rig.good(0, &start_stop(0, condition), &[]);
        rig.good(1, &[0; 6], &[]);
        assert_eq!(told(&mut rig), (0, 0x5e, qualifier), "TEST UNIT READY changes nothing");
        rig.read(0, 0, 1);
        assert_eq!(told(&mut rig), (0, 0, 0));
    }
    rig.good(0, &start_stop(0, 0x00), &[]);
    assert_eq!(rig.sense(1, &[0; 6], &[]), (2, 0x04, 0x02), "stopped");
    rig.good(0, &start_stop(0, 0x30), &[]);
    assert_eq!(told(&mut rig), (0, 0x5e, 4), "from stopped to standby");
    rig.good(0, &start_stop(0, 0x10), &[]);
    assert_eq!(told(&mut rig), (0, 0, 0), "ACTIVE");
    rig.good(0, &start_stop(0, 0x70), &[]);
    for (modifier, byte) in [(1, 0x20), (1, 0x30), (0, 0xa0), (0, 0xb0), (0, 0x40), (0, 0xf0)] {
        assert_eq!(rig.sense(0, &start_stop(modifier, byte), &[]), (5, 0x24, 0), "{modifier} {byte:02x}");
    }
}

#[test]
fn spc_04_report_luns_has_every_select_report_value() {
    let mut rig = Rig::new(ram(64), 1);
    let mut lists = HashMap::new();
    for select in 0..=255u8 {
        let (status, data) = rig.command(0, &[0xa0, 0, select, 0, 0, 0, 0, 0, 1, 0, 0, 0], &[]);
        if status == Status::Good {
            assert_eq!(data.len(), 8 + usize::from(data[3]));
            lists.insert(select, data.len() / 8 - 1);
        } else {
            assert_eq!((data[2], data[12], data[13]), (5, 0x24, 0), "{select:02x}");
        }
    }
    assert_eq!(lists, HashMap::from([(0x00, 2), (0x01, 0), (0x02, 2), (0x12, 0)]), "of LUN 1");
    rig.lun = [0; 8];
    assert_eq!(rig.good(0, &[0xa0, 0, 0x10, 0, 0, 0, 0, 0, 1, 0, 0, 0], &[]), [0; 8]);
    assert_eq!(rig.good(0, &[0xa0, 0, 0x11, 0, 0, 0, 0, 0, 1, 0, 0, 0], &[])[..4], [0, 0, 0, 16]);
}

#[test]
fn spc_12_the_statistics_count_what_was_done_and_begin_again() {
    let mut rig = Rig::new(ram(64), 2);
    let counts = |rig: &mut Rig| {
        let page = rig.good(0, &[0x4d, 0, 0x59, 0, 0, 0, 0, 1, 0, 0], &[]);
        let word = |at: usize| u64::from_be_bytes(page[8 + at * 8..16 + at * 8].try_into().unwrap());
        [word(0), word(1), word(2), word(3)]
    };
    rig.good(0, &cdb_10(0x2a, 0, 0, 3), &[7; 1536]);
    rig.good(1, &cdb_10(0x2e, 0, 8, 2), &[7; 1024]);
    rig.good(1, &cdb_10(0x28, 0, 0, 4), &[]);
    rig.good(0, &cdb_10(0x28, 0x08, 0, 1), &[]);
    assert_eq!(counts(&mut rig), [2, 2, 5, 5]);
    assert_eq!(rig.sense(0, &cdb_10(0x28, 0, 64, 1), &[]).1, 0x21);
    assert_eq!(counts(&mut rig), [2, 2, 5, 5], "what was refused was not done");
    rig.good(0, &[0x4c, 2, 0x59, 0, 0, 0, 0, 0, 0, 0], &[]);
    assert_eq!(rig.sense(1, &[0; 6], &[]), (6, 0x2a, 0x02));
    assert_eq!(counts(&mut rig), [0; 4]);
}

#[test]
fn spc_12_what_one_application_notes_another_reads() {
    let mut rig = Rig::new(ram(64), 2);
    let mut list = vec![0x0f, 0, 1, 0, 0, 9, 0x83, 252];
    list.extend_from_slice(&[0x5a; 252]);
    rig.good(0, &[0x4c, 0, 0x40, 0, 0, 0, 0, 1, 4, 0], &list);
    assert_eq!(rig.sense(1, &[0; 6], &[]), (6, 0x2a, 0x02));
    let page = rig.good(1, &[0x4d, 0, 0x4f, 0, 0, 0, 9, 1, 4, 0], &[]);
    assert_eq!(
        page[4..],
        list[4..].iter().enumerate().map(|(at, byte)| if at == 2 { 3 } else { *byte }).collect::<Vec<_>>()
    );
    assert_eq!(rig.sense(0, &[0x4c, 1, 0x40, 0, 0, 0, 0, 1, 4, 0], &list), (5, 0x24, 0), "nothing is saved");
    assert_eq!(rig.sense(0, &[0x4c, 0, 0x40, 0, 0, 0, 0, 1, 3, 0], &list[..259]), (5, 0x1a, 0));
    rig.good(1, &[0x4c, 2, 0x4f, 0, 0, 0, 0, 0, 0, 0], &[]);
    assert_eq!(rig.sense(0, &[0; 6], &[]), (6, 0x2a, 0x02));
    assert_eq!(rig.good(0, &[0x4d, 0, 0x4f, 0, 0, 0, 9, 1, 4, 0], &[])[8..260], [0; 252]);
}

#[test]
fn the_self_test_reads_and_what_is_no_test_is_refused() {
    let mut rig = Rig::new(ram(64), 1);
    rig.good(0, &[0x1d, 0x04, 0, 0, 0, 0], &[]);
    rig.good(0, &[0x1d, 0x10, 0, 0, 0, 0], &[]);
    for code in 1..8 {
        assert_eq!(rig.sense(0, &[0x1d, code << 5, 0, 0, 0, 0], &[]), (5, 0x24, 0), "{code}");
    }
    assert_eq!(rig.sense(0, &[0x1d, 0x04, 0, 0, 4, 0], &[0; 4]), (5, 0x24, 0));
    assert_eq!(rig.sense(0, &[0x1d, 0x00, 0, 0, 4, 0], &[0; 4]), (5, 0x24, 0));
    rig.good(0, &[0x1d, 0x10, 0, 0, 4, 0], &[0; 4]);
    assert_eq!(rig.sense(0, &[0x1d, 0x10, 0, 0, 4, 0], &[0x40, 0, 0, 0]), (5, 0x26, 0));
    assert_eq!(rig.sense(0, &[0x1d, 0x10, 0, 0, 4, 0], &[0, 0, 0, 1]), (5, 0x24, 0), "cut off");
    for by_code in [0, 1] {
        assert_eq!(rig.good(0, &[0x1c, by_code, 0, 0, 64, 0], &[]), [0, 0, 0, 1, 0]);
    }
    assert_eq!(rig.sense(0, &[0x1c, 1, 0x40, 0, 64, 0], &[]), (5, 0x24, 0));
}

#[test]
fn a_disk_that_cannot_be_read_fails_its_self_test() {
    let plan = FaultPlan::default();
    plan.add(Fault::always(On::Read, block::ErrorKind::Medium));
    let mut rig = Rig::new(Faulty::new(ram(64), plan), 1);
    assert_eq!(rig.sense(0, &[0x1d, 0x04, 0, 0, 0, 0], &[]), (4, 0x3e, 0x03));
}
