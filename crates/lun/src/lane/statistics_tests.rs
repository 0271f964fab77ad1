//! What a unit and a session say of the commands that they have had.

use super::rig::{Rig, cdb_10, cdb_16, ram};
use super::*;
use crate::statistics::{CommandKind, Counted, SessionCells};
use block::layer::{Delay, Valve};
use std::sync::atomic::{AtomicU64, Ordering};

/// A clock for all lanes, which the test moves.
fn clock(rig: &mut Rig) -> Arc<AtomicU64> {
    let time = Arc::new(AtomicU64::new(1_000_000_000));
    for lane in &mut rig.lanes {
        let time = Arc::clone(&time);
        lane.set_ticks(Arc::new(move || time.load(Ordering::Relaxed)));
    }
    time
}

fn cells(rig: &Rig, lane: usize) -> Arc<SessionCells> {
    rig.lanes[lane].counters(rig.nexuses[lane]).unwrap()
}

const MILLISECOND: u64 = 1_000_000;

#[test]
fn commands_are_counted_by_kind_with_their_bytes_at_the_unit_and_in_the_session() {
    let mut rig = Rig::new(ram(64), 2);
    let (unit, before) = (Arc::clone(&rig.unit), rig.unit.counted());
    let (one, other) = (cells(&rig, 0), cells(&rig, 1));
    let (one_before, other_before) = (one.counted(), other.counted());
    rig.read(0, 0, 4);
    rig.read(1, 0, 2);
    rig.good(0, &cdb_10(0x2a, 0, 1, 1), &[7; 512]);
    rig.good(0, &cdb_16(0x93, 0, 8, 8), &[7; 512]);
    rig.good(0, &cdb_10(0x35, 0, 0, 0), &[]);
    let mut list = vec![0, 22, 0, 16, 0, 0, 0, 0];
    list.extend_from_slice(&[0, 0, 0, 0, 0, 0, 0, 8, 0, 0, 0, 8, 0, 0, 0, 0]);
    rig.good(0, &[0x42, 0, 0, 0, 0, 0, 0, 0, 24, 0], &list);
    rig.good(0, &[0; 6], &[]);
    assert_eq!(rig.sense(0, &cdb_16(0x88, 0, 64, 1), &[]).0, 5, "beyond the end");
    let since = unit.counted().since(&before);
    let told = |counted: &Counted, kind| {
        let kind = counted.kind(kind);
        (kind.commands, kind.failed, kind.bytes)
    };
    assert_eq!(told(&since, CommandKind::Read), (3, 1, 6 * 512));
    assert_eq!(told(&since, CommandKind::Write).0, 2);
    assert_eq!(told(&since, CommandKind::Flush), (1, 0, 0));
    assert_eq!(told(&since, CommandKind::Unmap), (1, 0, 8 * 512));
    assert_eq!(told(&since, CommandKind::Other), (1, 0, 0));
    assert_eq!(since.errors().collect::<Vec<_>>(), [("illegal_request", 1)]);
    assert_eq!(since.in_flight, 0);
    assert_eq!(since.kind(CommandKind::Read).latencies.count(), 3);
    let (one_since, other_since) = (one.counted().since(&one_before), other.counted().since(&other_before));
    assert_eq!(told(&one_since, CommandKind::Read), (2, 1, 4 * 512));
    assert_eq!(told(&other_since, CommandKind::Read), (1, 0, 2 * 512));
    assert_eq!(one_since.errors, since.errors);
    let (lun, of_lun) = one.luns().remove(0);
    assert_eq!((lun, of_lun.kind(CommandKind::Write).commands), (1, 2));
}

#[test]
fn a_command_at_no_unit_is_the_sessions_alone() {
    let mut rig = Rig::new(ram(64), 1);
    let (unit, session) = (rig.unit.counted(), cells(&rig, 0));
    let before = session.counted();
    rig.lun = [0, 9, 0, 0, 0, 0, 0, 0];
    rig.sense(0, &[0; 6], &[]);
    assert_eq!(rig.unit.counted(), unit);
    let since = session.counted().since(&before);
    assert_eq!((since.total().commands, since.total().failed), (1, 1));
}

#[test]
fn what_is_in_flight_is_seen_and_what_is_aborted_is_no_latency() {
    let valve = Valve::open();
    let mut rig = Rig::new(Delay::new(ram(64), valve.clone()), 1);
    let session = cells(&rig, 0);
    valve.hold();
    let tags: Vec<u64> = (0..3).map(|_| rig.send(0, &cdb_16(0x88, 0, 0, 1), &[])).collect();
    rig.settle();
    assert_eq!((rig.unit.counted().in_flight, session.counted().in_flight), (3, 3));
    rig.lanes[0].abort(TaskTag(tags[1]));
    valve.release_all();
    rig.settle();
    let counted = rig.unit.counted();
    assert_eq!((counted.in_flight, session.counted().in_flight), (0, 0));
    assert_eq!(counted.kind(CommandKind::Read).latencies.count(), 2);
    assert!(counted.errors().any(|(name, count)| (name, count) == ("aborted", 1)));
    assert!(session.counted().errors().any(|(name, _)| name == "aborted"));
}

#[test]
fn latencies_are_those_of_the_clock_and_say_where_the_time_went() {
    let valve = Valve::open();
    let mut rig = Rig::new(Delay::new(ram(64), valve.clone()), 1);
    let time = clock(&mut rig);
    let pass = |rig: &mut Rig, milliseconds: u64| {
        let now = time.fetch_add(milliseconds * MILLISECOND, Ordering::Relaxed) + milliseconds * MILLISECOND;
        rig.lanes[0].at(now);
    };
    let before = rig.unit.counted();
    valve.hold();
    rig.slow = true;
    rig.send(0, &cdb_10(0x2a, 0, 0, 1), &[1; 512]);
    rig.step(0);
    pass(&mut rig, 30);
    rig.give_all();
    rig.step(0);
    pass(&mut rig, 5);
    valve.release_all();
    rig.lanes[0].run();
    let Some(Event::Completed { completed, .. }) = rig.lanes[0].poll_event() else { panic!("it has not ended") };
    let times = completed.times;
    assert_eq!([times.total, times.network, times.store], [35, 30, 5].map(|time| time * MILLISECOND));
    let since = rig.unit.counted().since(&before);
    let write = since.kind(CommandKind::Write);
    assert_eq!(write.time, std::time::Duration::from_millis(35));
    let median = write.latencies.quantile(0.5).unwrap().as_millis();
    assert!((29..=42).contains(&median), "{median}");
}

#[test]
fn a_session_that_has_ended_can_still_be_read_and_the_unit_keeps_what_it_did() {
    let mut rig = Rig::new(ram(64), 1);
    let session = cells(&rig, 0);
    rig.read(0, 0, 1);
    let (unit, of_session) = (rig.unit.counted(), session.counted());
    let nexus = rig.nexuses[0];
    rig.lanes[0].close_nexus(nexus);
    rig.settle();
    assert!(rig.lanes[0].counters(nexus).is_none());
    assert_eq!((rig.unit.counted(), session.counted()), (unit, of_session));
}
