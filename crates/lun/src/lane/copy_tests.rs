//! Copies between units and within one: what they move, whom they obey, and how they end.

use super::rig::{Rig, cdb_16, ram};
use super::*;
use block::Backend;
use block::layer::{Delay, Valve};
use scsi::copy::list::{CopyList, Cscd, Form, Segment, THIS_UNIT};
use scsi::copy::token::{self, Populate, Range, WriteUsing};
use scsi::vpd::designation::naa;

pub(super) const BLOCKS: u64 = 16384;

fn two_units(lanes: usize) -> Rig {
    Rig::with_units(vec![ram(BLOCKS), ram(BLOCKS)], lanes)
}

pub(super) fn lun(number: u8) -> [u8; 8] {
    [0, number, 0, 0, 0, 0, 0, 0]
}

fn cscd(uuid: u8) -> Cscd {
    Cscd {
        code_set: 1,
        designator_type: 3,
        designator: naa([uuid; 16]).to_vec(),
        block_length: 512,
        null: false,
        at: 0,
    }
}

pub(super) fn segment(source: u16, destination: u16, from: u64, to: u64, blocks: u16) -> Segment {
    Segment { source, destination, counts_destination: false, blocks, source_block: from, destination_block: to, at: 0 }
}

/// A list over LUN 1 (index 0) and LUN 2 (index 1).
pub(super) fn list(segments: Vec<Segment>) -> CopyList {
    CopyList { identifier: Some(5), immediate: false, cscds: vec![cscd(7), cscd(8)], segments }
}

pub(super) fn cdb_83(action: u8, identifier: u32, length: usize) -> [u8; 16] {
    let mut cdb = [0; 16];
    (cdb[0], cdb[1]) = (0x83, action);
    if action >= 0x10 {
        cdb[6..10].copy_from_slice(&identifier.to_be_bytes());
    }
    cdb[10..14].copy_from_slice(&(length as u32).to_be_bytes());
    cdb
}

fn copy(rig: &mut Rig, lane: usize, list: &CopyList) -> (Status, Vec<u8>) {
    let bytes = list.encode(Form::Lid1);
    rig.command(lane, &cdb_83(0, 0, bytes.len()), &bytes)
}

fn results(rig: &mut Rig, lane: usize, action: u8, identifier: u32) -> Vec<u8> {
    let mut cdb = [0; 16];
    (cdb[0], cdb[1]) = (0x84, action);
    match action {
        0x00 => cdb[2] = identifier as u8,
        _ => cdb[2..6].copy_from_slice(&identifier.to_be_bytes()),
    }
    cdb[10..14].copy_from_slice(&4096u32.to_be_bytes());
    rig.good(lane, &cdb, &[])
}

pub(super) fn pattern(blocks: usize, seed: u8) -> Vec<u8> {
    (0..blocks * 512).map(|at| (at / 512) as u8 ^ (at as u8).wrapping_mul(31) ^ seed).collect()
}

pub(super) fn write(rig: &mut Rig, unit: u8, block: u64, data: &[u8]) {
    rig.lun = lun(unit);
    rig.good(0, &cdb_16(0x8a, 0, block, (data.len() / 512) as u32), data);
    rig.lun = lun(1);
}

fn read(rig: &mut Rig, unit: u8, block: u64, blocks: u32) -> Vec<u8> {
    rig.lun = lun(unit);
    let data = rig.read(0, block, blocks);
    rig.lun = lun(1);
    data
}

#[test]
fn segments_are_copied_within_a_unit_and_to_another() {
    let mut rig = two_units(1);
    let data = pattern(5000, 1);
    for (at, piece) in data.chunks(1000 * 512).enumerate() {
        write(&mut rig, 1, 100 + 1000 * at as u64, piece);
    }
    let segments = vec![
        segment(0, 1, 100, 7000, 5000),
        segment(1, 0, 7000, 10_000, 10),
        segment(THIS_UNIT, THIS_UNIT, 100, 9000, 3),
    ];
    assert_eq!(copy(&mut rig, 0, &list(segments)).0, Status::Good);
    for at in 0..5 {
        assert!(read(&mut rig, 2, 7000 + at * 1000, 1000) == data[at as usize * 512_000..][..512_000]);
    }
    assert_eq!(read(&mut rig, 1, 10_000, 10), data[..5120]);
    assert_eq!(read(&mut rig, 1, 9000, 3), data[..1536]);
    let status = results(&mut rig, 0, 0x00, 5);
    assert_eq!((status[4], &status[5..7]), (1, &[0, 3][..]));
    assert_eq!(u32::from_be_bytes(status[8..12].try_into().unwrap()), 5013 * 512);
}

#[test]
fn a_copy_onto_itself_moves_what_was_there_before() {
    for (from, to) in [(1000, 1001), (1001, 1000), (0, 3000), (3000, 0), (10, 10)] {
        let mut rig = two_units(1);
        let data = pattern(4096, 9);
        for (at, piece) in data.chunks(1024 * 512).enumerate() {
            write(&mut rig, 1, from + 1024 * at as u64, piece);
        }
        assert_eq!(copy(&mut rig, 0, &list(vec![segment(0, 0, from, to, 4096)])).0, Status::Good);
        for (at, piece) in data.chunks(1024 * 512).enumerate() {
            assert!(read(&mut rig, 1, to + 1024 * at as u64, 1024) == piece, "{from} to {to}");
        }
    }
}

#[test]
fn sbc_12_what_was_never_written_needs_no_space_at_its_new_place() {
    let mut rig = two_units(1);
    write(&mut rig, 2, 0, &pattern(8000, 3));
    assert_eq!(copy(&mut rig, 0, &list(vec![segment(0, 1, 0, 0, 8000)])).0, Status::Good);
    assert!(read(&mut rig, 2, 0, 8000).iter().all(|byte| *byte == 0));
    assert_eq!(rig.units[1].backend().space().unwrap().used, 0);
}

#[test]
fn spc_13_an_initiator_copies_only_between_units_that_it_has() {
    let mut rig = two_units(2);
    write(&mut rig, 2, 0, &pattern(8, 1));
    let port = Arc::new(crate::TargetPort::alone("t"));
    rig.nexuses[1] = rig.open_with(1, "stranger", port, &[1]);
    assert_eq!(rig.sense(1, &[0; 6], &[]).0, 6);
    for segments in [vec![segment(1, 0, 0, 0, 8)], vec![segment(0, 1, 0, 0, 8)]] {
        let (status, sense) = copy(&mut rig, 1, &list(segments));
        assert_eq!((status, sense[2], sense[12], sense[13]), (Status::CheckCondition, 0xA, 0x08, 0x04));
    }
    // Nor with a token that somebody gave it.
    rig.lun = lun(2);
    let token = populate(&mut rig, 0, vec![Range { block: 0, blocks: 8 }]);
    rig.lun = lun(1);
    let bytes = using(&token, 0, vec![Range { block: 0, blocks: 8 }], false);
    assert_eq!(rig.sense(1, &cdb_83(0x11, 1, bytes.len()), &bytes), (5, 0x23, 0x04));
    assert!(read(&mut rig, 1, 0, 8).iter().all(|byte| *byte == 0));
}

#[test]
fn prs_04_a_reservation_of_another_holds_for_copies_too() {
    let mut rig = two_units(2);
    rig.lun = lun(2);
    register_and_reserve(&mut rig, 1);
    rig.lun = lun(1);
    for segments in [vec![segment(1, 0, 0, 0, 8)], vec![segment(0, 1, 0, 0, 8)]] {
        let (status, sense) = copy(&mut rig, 0, &list(segments));
        assert_eq!((status, sense[2], sense[12], sense[13]), (Status::CheckCondition, 0xA, 0x0D, 0x01));
    }
    rig.lun = lun(2);
    let bytes = list(vec![segment(0, 0, 0, 8, 8)]).encode(Form::Lid1);
    assert_eq!(rig.command(0, &cdb_83(0, 0, bytes.len()), &bytes).0, Status::ReservationConflict);
}

/// EXCLUSIVE ACCESS for this lane's nexus.
fn register_and_reserve(rig: &mut Rig, lane: usize) {
    let mut list = [0; 24];
    list[15] = 9;
    rig.good(lane, &[0x5f, 0, 0, 0, 0, 0, 0, 0, 24, 0], &list);
    let mut list = [0; 24];
    list[7] = 9;
    rig.good(lane, &[0x5f, 1, 3, 0, 0, 0, 0, 0, 24, 0], &list);
}

#[test]
fn what_is_wrong_with_a_segment_is_told_with_its_number_and_nothing_after_it_is_done() {
    let mut rig = two_units(1);
    write(&mut rig, 1, 0, &pattern(8, 1));
    let out_of_range = segment(0, 1, BLOCKS - 1, 0, 2);
    let segments = vec![segment(0, 1, 0, 0, 8), out_of_range, segment(0, 1, 0, 100, 8)];
    let (status, sense) = copy(&mut rig, 0, &list(segments));
    assert_eq!((status, sense[2], sense[12]), (Status::CheckCondition, 0xA, 0x00));
    assert_eq!(sense[8..12], [0, 0, 0, 1]);
    assert_eq!(read(&mut rig, 2, 0, 8), pattern(8, 1));
    assert!(read(&mut rig, 2, 100, 8).iter().all(|byte| *byte == 0));
    assert_eq!(results(&mut rig, 0, 0x00, 5)[4..7], [2, 0, 1]);
    // A descriptor that is not there, and blocks of another length, are seen before anything is done.
    let bytes = list(vec![segment(0, 1, 0, 200, 8), segment(0, 2, 0, 0, 8)]).encode(Form::Lid1);
    assert_eq!(rig.sense(0, &cdb_83(0, 0, bytes.len()), &bytes), (0xA, 0x00, 0x00));
    assert!(read(&mut rig, 2, 200, 8).iter().all(|byte| *byte == 0));
    let mut other = list(vec![segment(0, 1, 0, 0, 8)]);
    other.cscds[1].block_length = 4096;
    let bytes = other.encode(Form::Lid1);
    assert_eq!(rig.sense(0, &cdb_83(0, 0, bytes.len()), &bytes), (5, 0x26, 0x00));
}

#[test]
fn a_write_protected_destination_says_so_as_to_a_write() {
    let backends: Vec<Arc<dyn Backend>> = vec![ram(64), block::layer::ReadOnly::new(ram(64))];
    let mut rig = Rig::with_units(backends, 1);
    let (_, sense) = copy(&mut rig, 0, &list(vec![segment(0, 1, 0, 0, 8)]));
    assert_eq!((sense[2], sense[12]), (7, 0x27));
    assert_eq!(copy(&mut rig, 0, &list(vec![segment(1, 0, 0, 0, 8)])).0, Status::Good);
}

fn populate(rig: &mut Rig, lane: usize, ranges: Vec<Range>) -> Vec<u8> {
    let list = Populate { immediate: false, inactivity_timeout: 0, rod_type: None, ranges };
    let bytes = token::encode_populate(&list);
    rig.good(lane, &cdb_83(0x10, 77, bytes.len()), &bytes);
    let information = results(rig, lane, 0x07, 77);
    assert_eq!((information[4], information[5], information[15]), (0x10, 0x01, 0xF1));
    assert_eq!(information[32..36], [0, 0, 2, 2]);
    information[38..].to_vec()
}

fn using(token: &[u8], offset: u64, ranges: Vec<Range>, immediate: bool) -> Vec<u8> {
    token::encode_write_using(&WriteUsing { immediate, forget: false, offset, token: token.into(), ranges })
}

#[test]
fn a_token_carries_blocks_to_another_unit() {
    let mut rig = two_units(1);
    let data = pattern(300, 4);
    write(&mut rig, 1, 50, &data);
    let token = populate(&mut rig, 0, vec![Range { block: 150, blocks: 200 }, Range { block: 50, blocks: 100 }]);
    assert_eq!(token.len(), 512);
    rig.lun = lun(2);
    let ranges = vec![Range { block: 1000, blocks: 30 }, Range { block: 2000, blocks: 260 }];
    for immediate in [false, true] {
        let bytes = using(&token, 10, ranges.clone(), immediate);
        rig.good(0, &cdb_83(0x11, 78, bytes.len()), &bytes);
        rig.settle();
        let information = results(&mut rig, 0, 0x07, 78);
        assert_eq!((information[4], information[5], information[23]), (0x11, 0x01, 34));
        let whole: Vec<u8> = [&data[100 * 512..], &data[..100 * 512]].concat();
        assert!(read(&mut rig, 2, 1000, 30) == whole[10 * 512..][..30 * 512]);
        assert!(read(&mut rig, 2, 2000, 260) == whole[40 * 512..][..260 * 512]);
        write(&mut rig, 2, 1000, &[0; 512 * 1400]);
        rig.lun = lun(2);
    }
    // More than the token stands for.
    let bytes = using(&token, 10, vec![Range { block: 0, blocks: 291 }], false);
    assert_eq!(rig.sense(0, &cdb_83(0x11, 1, bytes.len()), &bytes), (5, 0x26, 0x00));
}

#[test]
fn the_zero_token_writes_zeros_and_another_is_unknown() {
    let mut rig = two_units(1);
    write(&mut rig, 1, 0, &pattern(64, 1));
    let mut zero = vec![0; 512];
    zero[..4].copy_from_slice(&token::BLOCK_ZERO.to_be_bytes());
    zero[6..8].copy_from_slice(&[0x01, 0xF8]);
    let bytes = using(&zero, 0, vec![Range { block: 8, blocks: 16 }], false);
    rig.good(0, &cdb_83(0x11, 1, bytes.len()), &bytes);
    let after = read(&mut rig, 1, 0, 64);
    let expected = pattern(64, 1);
    assert!(after[..8 * 512] == expected[..8 * 512] && after[24 * 512..] == expected[24 * 512..]);
    assert!(after[8 * 512..24 * 512].iter().all(|byte| *byte == 0));
    let mut token = populate(&mut rig, 0, vec![Range { block: 0, blocks: 8 }]);
    token[500] ^= 1;
    let bytes = using(&token, 0, vec![Range { block: 8, blocks: 8 }], false);
    assert_eq!(rig.sense(0, &cdb_83(0x11, 2, bytes.len()), &bytes), (5, 0x23, 0x04));
    let bytes = using(&[0; 512], 0, vec![Range { block: 8, blocks: 8 }], false);
    assert_eq!(rig.sense(0, &cdb_83(0x11, 2, bytes.len()), &bytes), (5, 0x23, 0x0A));
}

#[test]
fn tmf_12_a_reset_of_either_unit_ends_a_copy_and_nothing_of_it_lands_later() {
    for reset in [1, 2] {
        let valve = Valve::open();
        let delayed = Delay::new(ram(BLOCKS), valve.clone());
        let mut rig = Rig::with_units(vec![ram(BLOCKS), delayed], 2);
        write(&mut rig, 1, 0, &pattern(4096, 1));
        valve.hold();
        let bytes = list(vec![segment(0, 1, 0, 0, 4096)]).encode(Form::Lid1);
        let tag = rig.send(0, &cdb_83(0, 0, bytes.len()), &bytes);
        rig.settle();
        assert!(rig.take(tag).is_none());
        let nexus = rig.nexuses[1];
        rig.lanes[1].task_management(nexus, 3, lun(reset), crate::TaskManagementFunction::LogicalUnitReset);
        rig.settle();
        assert!(!rig.functions.contains(&3), "a step is still at the store");
        valve.release_all();
        rig.settle();
        assert!(rig.functions.contains(&3));
        let ended = rig.take(tag);
        assert_eq!(ended.is_some(), reset == 2, "the copy was LUN 1's task; LUN 2 had but a step of it");
        assert_eq!((rig.lanes[0].tasks(), rig.lanes[1].tasks()), (0, 0));
    }
}

#[test]
fn f41_a_lost_nexus_takes_its_copies_with_it_those_in_the_background_too() {
    let valve = Valve::open();
    let delayed = Delay::new(ram(BLOCKS), valve.clone());
    let mut rig = Rig::with_units(vec![ram(BLOCKS), delayed], 1);
    write(&mut rig, 1, 0, &pattern(4096, 1));
    let token = populate(&mut rig, 0, vec![Range { block: 0, blocks: 4096 }]);
    valve.hold();
    rig.lun = lun(2);
    let bytes = using(&token, 0, vec![Range { block: 0, blocks: 4096 }], true);
    rig.good(0, &cdb_83(0x11, 78, bytes.len()), &bytes);
    let nexus = rig.nexuses[0];
    rig.lanes[0].close_nexus(nexus);
    rig.settle();
    assert!(rig.closed.is_empty());
    valve.release_all();
    rig.settle();
    assert_eq!((rig.closed.as_slice(), rig.lanes[0].tasks()), (&[nexus][..], 0));
    assert_eq!(rig.lanes[0].context.pool.taken_bytes(), 0, "all memory is back");
}

#[test]
fn copies_and_compare_and_write_on_the_same_blocks_all_end() {
    let mut rig = two_units(2);
    let mut tags = Vec::new();
    for round in 0..20u8 {
        for lane in 0..2 {
            // Through memory, as the two extents overlap; and by the store itself.
            let bytes = list(vec![segment(0, 0, 0, 3, 2100), segment(0, 1, 0, 0, 2100)]).encode(Form::Lid1);
            let mut bytes = bytes;
            bytes[0] = round;
            tags.push((lane, rig.send(lane, &cdb_83(0, 0, bytes.len()), &bytes)));
            let mut cdb = cdb_16(0x89, 0, u64::from(round), 0);
            cdb[10..14].copy_from_slice(&[0, 0, 0, 8]);
            tags.push((lane, rig.send(lane, &cdb, &[round; 2 * 8 * 512])));
            tags.push((lane, rig.send(lane, &cdb_16(0x8a, 0, 100, 8), &[round; 8 * 512])));
        }
    }
    for _ in 0..20 {
        rig.settle();
    }
    for (lane, tag) in tags {
        assert!(rig.take(tag).is_some(), "lane {lane}: {tag} did not end");
    }
    assert_eq!((rig.lanes[0].tasks(), rig.lanes[1].tasks()), (0, 0));
    assert_eq!(rig.lanes[0].context.pool.taken_bytes() + rig.lanes[1].context.pool.taken_bytes(), 0);
}

#[test]
fn a_token_of_other_blocks_is_taken_where_they_fit_and_refused_before_anything_is_done() {
    for (one, two) in [(4096, 512), (512, 4096)] {
        let units: Vec<Arc<dyn Backend>> = vec![block::pure::Ram::new(one, 256), block::pure::Ram::new(two, 2048)];
        let mut rig = Rig::with_units(units, 1);
        rig.good(0, &cdb_16(0x8a, 0, 0, 16), &vec![7; 16 * one as usize]);
        let token = populate(&mut rig, 0, vec![Range { block: 0, blocks: 16 }]);
        rig.lun = lun(2);
        let (first, second) = if two == 512 { (8, 16) } else { (1, 1) };
        let fit = vec![Range { block: 0, blocks: first }, Range { block: 100, blocks: second }];
        let bytes = using(&token, 0, fit, false);
        rig.good(0, &cdb_83(0x11, 1, bytes.len()), &bytes);
        assert_eq!(rig.read(0, 100, second), vec![7; (second * two) as usize]);
        if two == 512 {
            let cross = vec![Range { block: 200, blocks: 8 }, Range { block: 300, blocks: 15 }];
            let bytes = using(&token, 0, cross, false);
            assert_eq!(rig.sense(0, &cdb_83(0x11, 1, bytes.len()), &bytes), (0xA, 0x26, 0x0A));
            assert_eq!(rig.read(0, 200, 8), vec![0; 4096]);
        }
    }
}
