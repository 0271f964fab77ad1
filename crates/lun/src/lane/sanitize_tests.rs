//! SANITIZE and FORMAT UNIT as initiators see them: what remains, who may do what meanwhile, what outlives what.

use super::rig::{Rig, UNIT, cdb_10, ram};
use super::*;
use crate::TaskManagementFunction;
use block::ErrorKind;
use block::layer::{Delay, Fault, FaultPlan, Faulty, On, Valve};

const BLOCKS: u64 = 4096;
const IMMED: u8 = 0x80;
const AUSE: u8 = 0x20;
const READY: [u8; 6] = [0; 6];
const READ: [u8; 10] = [0x28, 0, 0, 0, 0, 0, 0, 0, 1, 0];

fn sanitize(action: u8, length: u16) -> [u8; 10] {
    let [high, low] = length.to_be_bytes();
    [0x48, action, 0, 0, 0, 0, 0, high, low, 0]
}

fn overwrite(flags: u8, list: &[u8]) -> [u8; 10] {
    sanitize(0x01 | flags, list.len() as u16)
}

/// A parameter list of OVERWRITE.
fn list(flags: u8, pattern: &[u8]) -> Vec<u8> {
    let [high, low] = (pattern.len() as u16).to_be_bytes();
    [&[flags, 0, high, low], pattern].concat()
}

fn filled() -> Rig {
    let mut rig = Rig::new(ram(BLOCKS), 1);
    rig.good(0, &cdb_10(0x41, 0, 0, BLOCKS as u16), &[0x61; 512]);
    rig
}

/// A rig whose store answers only when the valve lets it.
fn held() -> (Rig, Valve) {
    let valve = Valve::open();
    let rig = Rig::new(Delay::new(ram(BLOCKS), valve.clone()), 1);
    (rig, valve)
}

#[test]
fn sbc_15_overwrite_repeats_the_pattern_in_each_block_and_inverts_it_between_passes() {
    let mut rig = filled();
    for (flags, invert) in [(0x01, 0x00), (0x82, 0xff), (0x83, 0x00), (0x1f, 0x00)] {
        let list = list(flags, &[0xaa, 0x11, 0x22]);
        rig.good(0, &overwrite(0, &list), &list);
        let block: Vec<u8> = [0xaa, 0x11, 0x22].iter().cycle().take(512).map(|byte| byte ^ invert).collect();
        for at in [0, 1, BLOCKS - 1] {
            assert_eq!(rig.read(0, at, 1), block, "{flags:02x}, block {at}");
        }
    }
}

#[test]
fn sbc_15_block_erase_leaves_zeros_without_space() {
    let mut rig = filled();
    rig.good(0, &sanitize(0x02, 0), &[]);
    assert_eq!(rig.read(0, 0, 256), vec![0; 256 * 512]);
    let status = rig.good(0, &[0x9e, 0x12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0], &[]);
    assert_eq!(status[16..21], [0, 0, 16, 0, 1], "one run of all blocks, deallocated");
    assert_eq!(rig.unit.backend().space().unwrap().used, 0);
    let page = rig.good(0, &[0x12, 1, 0xb1, 0, 64, 0], &[]);
    assert_eq!(page[7], 0x40, "WABEREQ 01b: read without having been written; WACEREQ 00b");
}

#[test]
fn sbc_15_what_a_sanitize_must_not_say_is_refused() {
    let mut rig = filled();
    for (cdb, out) in [
        (sanitize(0x01, 4), vec![0; 4]),
        (sanitize(0x01, 0), vec![]),
        (sanitize(0x01, 517), vec![0; 517]),
        (sanitize(0x02, 8), vec![0; 8]),
        (sanitize(0x1f, 8), vec![0; 8]),
        (sanitize(0x03, 0), vec![]),
        (sanitize(0x00, 0), vec![]),
    ] {
        assert_eq!(rig.sense(0, &cdb, &out), (5, 0x24, 0), "{cdb:02x?}");
    }
    let full = [0; 512];
    for (list, byte) in [
        (list(0x00, &full), 0),
        (list(0x21, &full), 0),
        (list(0x41, &full), 0),
        ([&[1, 1, 2, 0][..], &full].concat(), 1),
        ([&[1, 0, 0, 0][..], &full].concat(), 2),
        ([&[1, 0, 2, 1][..], &full].concat(), 2),
        ([&[1, 0, 0, 9][..], &[0; 8]].concat(), 2),
    ] {
        let (status, sense) = rig.command(0, &overwrite(0, &list), &list);
        assert_eq!((status, sense[12], sense[17]), (Status::CheckCondition, 0x26, byte), "{:02x?}", &list[..4]);
    }
    let short = list(0x01, &full);
    assert_eq!(rig.sense(0, &overwrite(0, &short), &short[..100]), (5, 0x1a, 0), "data-out that is cut off");
    assert_eq!(rig.read(0, 0, 1), vec![0x61; 512], "nothing of it touched the medium");
    let codes = rig.good(0, &[0xa3, 0x0c, 2, 0x48, 0, 3, 0, 0, 1, 0, 0, 0], &[]);
    assert_eq!(codes[1] & 7, 1, "CRYPTOGRAPHIC ERASE is not supported, and reported so");
}

#[test]
fn sbc_15_while_a_unit_sanitizes_it_says_how_far_it_is_and_nothing_ends_it() {
    let (mut rig, valve) = held();
    rig.good(0, &cdb_10(0x2a, 0, 0, 1), &[0x61; 512]);
    valve.hold();
    let list = list(0x02, &[0xaa]);
    rig.good(0, &overwrite(IMMED, &list), &list);
    for cdb in [&READY[..], &READ, &[0x1b, 0, 0, 0, 1, 0], &[0x5e, 0, 0, 0, 0, 0, 0, 0, 8, 0], &sanitize(0x02, 0)] {
        let (status, sense) = rig.command(0, cdb, &[]);
        assert_eq!((status, sense[2], sense[12], sense[13]), (Status::CheckCondition, 2, 0x04, 0x1b), "{cdb:02x?}");
        assert_eq!(sense[15..18], [0x80, 0, 0]);
    }
    rig.good(0, &[0x12, 0, 0, 0, 96, 0], &[]);
    rig.good(0, &[0xa0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0], &[]);
    valve.release(1);
    rig.settle();
    // One of two mebibytes of one of two passes.
    let sense = rig.good(0, &[0x03, 0, 0, 0, 18, 0], &[]);
    assert_eq!((sense[2], &sense[12..14], &sense[15..18]), (2, &[0x04, 0x1b][..], &[0x80, 0x40, 0][..]));

    let nexus = rig.nexuses[0];
    rig.lanes[0].task_management(nexus, 1, UNIT, TaskManagementFunction::LogicalUnitReset);
    rig.lanes[0].task_management(nexus, 2, UNIT, TaskManagementFunction::ClearTaskSet);
    rig.lanes[0].task_management(nexus, 3, UNIT, TaskManagementFunction::TargetReset);
    rig.settle();
    rig.lanes[0].close_nexus(nexus);
    rig.settle();
    rig.nexuses[0] = rig.open(0, "another");
    assert_eq!(rig.sense(0, &READY, &[]).0, 6);
    assert_eq!(rig.sense(0, &READY, &[]), (2, 0x04, 0x1b));

    valve.release_all();
    rig.settle();
    rig.good(0, &READY, &[]);
    assert_eq!(rig.read(0, BLOCKS - 1, 1), vec![0xaa; 512]);
    assert_eq!(rig.lanes[0].tasks(), 0);
    assert_eq!(rig.lanes[0].context.pool.taken_bytes(), 0, "memory came back");
}

#[test]
fn sbc_15_a_sanitize_that_is_awaited_goes_on_when_its_command_is_aborted() {
    let (mut rig, valve) = held();
    rig.good(0, &cdb_10(0x2a, 0, 7, 1), &[0x61; 512]);
    valve.hold();
    let tag = rig.send(0, &sanitize(0x02, 0), &[]);
    rig.settle();
    rig.lanes[0].abort(TaskTag(tag));
    rig.settle();
    assert_eq!(rig.take(tag), None);
    assert_eq!(rig.sense(0, &READY, &[]), (2, 0x04, 0x1b));
    valve.release_all();
    rig.settle();
    assert_eq!(rig.read(0, 7, 1), vec![0; 512]);
}

#[test]
fn sbc_15_what_came_before_a_sanitize_does_not_write_after_it() {
    let (mut rig, valve) = held();
    rig.slow = true;
    let write = rig.send(0, &cdb_10(0x2a, 0, 9, 1), &[0x61; 512]);
    let compare = rig.send(0, &[0x89, 0, 0, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0, 1, 0, 0], &[0; 1024]);
    let same = rig.send(0, &cdb_10(0x41, 0, 9, 4), &[0x61; 512]);
    rig.settle();
    valve.hold();
    rig.good(0, &sanitize(0x02 | IMMED, 0), &[]);
    rig.give_all();
    rig.settle();
    for tag in [write, compare, same] {
        let (status, sense) = rig.take(tag).expect("an answer while the unit is busy");
        assert_eq!((status, sense[2], sense[12], sense[13]), (Status::CheckCondition, 2, 0x04, 0x1b));
    }
    valve.release_all();
    rig.settle();
    assert_eq!(rig.read(0, 9, 1), vec![0; 512]);
    assert_eq!(rig.lanes[0].context.pool.taken_bytes(), 0, "memory came back");
}

#[test]
fn sbc_15_a_sanitize_that_failed_is_left_as_ause_says() {
    let plan = FaultPlan::default();
    let mut rig = Rig::new(Faulty::new(ram(BLOCKS), plan.clone()), 1);
    let list = list(0x01, &[0xaa]);
    let fails = |rig: &mut Rig, flags: u8| {
        plan.add(Fault::always(On::Write, ErrorKind::Medium));
        assert_eq!(rig.sense(0, &overwrite(flags, &list), &list), (3, 0x31, 0x03));
        plan.clear();
        for cdb in [&READY[..], &READ, &[0x1a, 0, 0x3f, 0, 255, 0]] {
            assert_eq!(rig.sense(0, cdb, &[]), (3, 0x31, 0x03), "{cdb:02x?}");
        }
        let sense = rig.good(0, &[0x03, 0, 0, 0, 18, 0], &[]);
        assert_eq!((sense[2], &sense[12..14]), (3, &[0x31, 0x03][..]));
        rig.good(0, &[0x12, 0, 0, 0, 96, 0], &[]);
    };
    fails(&mut rig, AUSE);
    rig.good(0, &sanitize(0x1f, 0), &[]);
    rig.good(0, &READ, &[]);

    fails(&mut rig, 0);
    assert_eq!(rig.sense(0, &sanitize(0x1f, 0), &[]), (5, 0x24, 0), "restricted: no way out but another");
    assert_eq!(rig.sense(0, &sanitize(0x02 | AUSE, 0), &[]), (5, 0x24, 0), "restricted as well");
    rig.good(0, &sanitize(0x02, 0), &[]);
    rig.good(0, &READ, &[]);
    rig.good(0, &sanitize(0x1f, 0), &[]);
}

#[test]
fn sbc_15_reservations_and_write_protection_come_before_a_sanitize() {
    let mut rig = Rig::new(ram(BLOCKS), 2);
    rig.good(1, &[0x16, 0, 0, 0, 0, 0], &[]);
    for cdb in [&sanitize(0x02, 0)[..], &[0x04, 0, 0, 0, 0, 0]] {
        assert_eq!(rig.command(0, cdb, &[]).0, Status::ReservationConflict);
    }
    rig.good(1, &[0x17, 0, 0, 0, 0, 0], &[]);
    // SWP of the control mode page.
    let page = rig.good(1, &[0x1a, 8, 0x0a, 0, 255, 0], &[]);
    let mut select = [&[0; 4], &page[4..]].concat();
    select[4] &= 0x7f;
    select[8] |= 0x08;
    rig.good(1, &[0x15, 0x10, 0, 0, select.len() as u8, 0], &select);
    assert_eq!(rig.sense(0, &READY, &[]), (6, 0x2a, 0x01));
    for cdb in [&sanitize(0x02, 0)[..], &[0x04, 0, 0, 0, 0, 0]] {
        assert_eq!(rig.sense(0, cdb, &[]), (7, 0x27, 0x00));
    }
}

#[test]
fn format_unit_leaves_zeros_and_answers_as_immed_says() {
    let (mut rig, valve) = held();
    for (cdb, out) in
        [([4, 0, 0, 0, 0, 0], &[][..]), ([4, 0x10, 0, 0, 0, 0], &[0; 4]), ([4, 0x38, 0, 0, 0, 0], &[0; 8])]
    {
        rig.good(0, &cdb_10(0x2a, 0, 9, 1), &[0x61; 512]);
        rig.good(0, &cdb, out);
        assert_eq!(rig.read(0, 9, 1), vec![0; 512]);
    }
    rig.good(0, &cdb_10(0x2a, 0, 9, 1), &[0x61; 512]);
    valve.hold();
    rig.good(0, &[4, 0x10, 0, 0, 0, 0], &[0, 0x82, 0, 0]);
    assert_eq!(rig.sense(0, &READY, &[]), (2, 0x04, 0x04));
    let sense = rig.good(0, &[0x03, 0, 0, 0, 18, 0], &[]);
    assert_eq!((sense[2], &sense[12..14], sense[15]), (2, &[0x04, 0x04][..], 0x80));
    valve.release_all();
    rig.settle();
    assert_eq!(rig.read(0, 9, 1), vec![0; 512]);
}

#[test]
fn format_unit_does_not_take_what_it_cannot_do() {
    let mut rig = filled();
    for flags in [0x01, 0x08, 0x20, 0x40, 0x80] {
        assert_eq!(rig.sense(0, &[4, flags, 0, 0, 0, 0], &[]), (5, 0x24, 0), "{flags:02x}");
    }
    for (list, byte) in [
        (&[1, 0, 0, 0][..], 0),
        (&[0, 0x08, 0, 0], 1),
        (&[0, 0x40, 0, 0], 1),
        (&[0, 0x01, 0, 0], 1),
        (&[0, 0, 0, 4], 2),
        (&[0, 0, 0, 0x10, 0, 0, 0, 0], 3),
        (&[0, 0, 0, 0, 0, 0, 0, 8], 4),
    ] {
        let flags = if list.len() == 8 { 0x30 } else { 0x10 };
        let (status, sense) = rig.command(0, &[4, flags, 0, 0, 0, 0], list);
        assert_eq!((status, sense[12], sense[17]), (Status::CheckCondition, 0x26, byte), "{list:02x?}");
    }
    assert_eq!(rig.sense(0, &[4, 0x10, 0, 0, 0, 0], &[0; 3]), (5, 0x1a, 0));
    assert_eq!(rig.sense(0, &[4, 0x30, 0, 0, 0, 0], &[0; 4]), (5, 0x1a, 0));
    assert_eq!(rig.read(0, 0, 1), vec![0x61; 512]);
}

#[test]
fn a_format_that_failed_leaves_a_medium_that_only_another_mends() {
    let plan = FaultPlan::default();
    let mut rig = Rig::new(Faulty::new(ram(BLOCKS), plan.clone()), 1);
    plan.add(Fault::nth(On::WriteZeroes, 0, ErrorKind::Medium));
    assert_eq!(rig.sense(0, &[4, 0, 0, 0, 0, 0], &[]), (3, 0x31, 0x01));
    assert_eq!(rig.sense(0, &READ, &[]), (3, 0x31, 0x00));
    rig.good(0, &[0x1a, 0, 0x3f, 0, 255, 0], &[]);
    rig.good(0, &[4, 0, 0, 0, 0, 0], &[]);
    rig.good(0, &READ, &[]);
}
