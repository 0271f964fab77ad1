//! Thin provisioning and atomic writes as initiators see them: thresholds, space that ends, every flag of
//! UNMAP and WRITE SAME, the limits of WRITE ATOMIC.

use super::rig::{Rig, cdb_10, cdb_16, ram};
use super::*;
use crate::command::provisioning::{threshold_exponent, threshold_sets};
use block::layer::{Delay, Fault, FaultPlan, Faulty, On, Valve};
use block::{Backend, Description, Engine, ErrorKind, Limits, Store, WriteCache};

const READY: [u8; 6] = [0; 6];
const NDOB: u8 = 0x01;
const UNMAP: u8 = 0x08;
const ANCHOR: u8 = 0x10;

fn write_same_16(flags: u8, block: u64, blocks: u32) -> [u8; 16] {
    cdb_16(0x93, flags, block, blocks)
}

/// MODE SELECT (10) of page 1Ch/02h: the threshold, in mebibytes that are used.
fn set_threshold(rig: &mut Rig, sets: u32, enabled: bool) {
    let mut list = rig.good(0, &[0x5a, 8, 0x1c, 2, 0, 0, 0, 1, 0, 0], &[]);
    list[..8].fill(0);
    list[8] &= 0x7f;
    let descriptor = 8 + 4 + 12;
    list[descriptor] = if enabled { list[descriptor] | 0x80 } else { list[descriptor] & 0x7f };
    list[descriptor + 4..descriptor + 8].copy_from_slice(&sets.to_be_bytes());
    let length = list.len() as u8;
    rig.good(0, &[0x55, 0x10, 0, 0, 0, 0, 0, 0, length, 0], &list);
}

#[test]
fn sbc_14_a_soft_threshold_is_told_to_everybody_once_and_again_after_it_was_left() {
    let mut rig = Rig::new(ram(1 << 16), 2);
    set_threshold(&mut rig, 2, true);
    assert_eq!(rig.sense(1, &READY, &[]), (6, 0x2a, 0x01), "mode parameters changed");
    let mebibyte = vec![7; 1 << 20];
    rig.good(0, &cdb_10(0x2a, 0, 0, 2048), &mebibyte);
    rig.good(0, &READY, &[]);
    rig.good(0, &cdb_10(0x2a, 0, 2048, 2048), &mebibyte);
    for lane in [0, 1] {
        assert_eq!(rig.sense(lane, &READY, &[]), (6, 0x38, 0x07), "nexus of lane {lane}");
        rig.good(lane, &READY, &[]);
    }
    rig.good(0, &cdb_10(0x2a, 0, 4096, 2048), &mebibyte);
    rig.good(0, &READY, &[]);

    rig.good(1, &write_same_16(UNMAP | NDOB, 0, 8192), &[]);
    rig.good(0, &cdb_10(0x2a, 0, 0, 2048), &mebibyte);
    rig.good(0, &READY, &[]);
    rig.good(0, &cdb_10(0x2a, 0, 2048, 2048), &mebibyte);
    assert_eq!(rig.sense(1, &READY, &[]), (6, 0x38, 0x07));
    assert_eq!(rig.sense(0, &READY, &[]), (6, 0x38, 0x07));

    set_threshold(&mut rig, 100, false);
    assert_eq!(rig.sense(1, &READY, &[]).1, 0x2a);
    rig.good(0, &cdb_10(0x2a, 0, 6144, 2048), &mebibyte);
    rig.good(0, &READY, &[]);
}

#[test]
fn sbc_14_a_threshold_that_is_reached_already_is_told_at_once() {
    let mut rig = Rig::new(ram(1 << 16), 1);
    rig.good(0, &cdb_10(0x2a, 0, 0, 4096), &vec![7; 2 << 20]);
    set_threshold(&mut rig, 1, true);
    assert_eq!(rig.sense(0, &READY, &[]), (6, 0x38, 0x07));
}

#[test]
fn sbc_14_pages_count_space_in_the_same_sets() {
    let mut rig = Rig::new(ram(1 << 16), 1);
    rig.good(0, &cdb_10(0x2a, 0, 0, 6144), &vec![7; 3 << 20]);
    let log = rig.good(0, &[0x4d, 0, 0x4c, 0, 0, 0, 0, 1, 0, 0], &[]);
    assert_eq!(
        log,
        [0x8c, 0, 0, 12, 0, 2, 3, 8, 0, 0, 0, 3, 1, 0, 0, 0],
        "3 sets are used; memory's rest is not known"
    );
    let page = rig.good(0, &[0x12, 1, 0xb2, 0, 64, 0], &[]);
    assert_eq!(page[4], 11, "a set is 2048 blocks of 512 bytes");
    let large = Limits { blocks: 1 << 50, ..(*ram(8).limits()).clone() };
    assert_eq!(threshold_exponent(&large), 20);
    assert_eq!(threshold_sets(&large, u64::MAX), u32::MAX, "what cannot be counted is the most that can");
}

#[test]
fn sbc_14_no_space_is_data_protect_and_reads_go_on() {
    let plan = FaultPlan::default();
    let mut rig = Rig::new(Faulty::new(ram(4096), plan.clone()), 1);
    rig.good(0, &cdb_10(0x2a, 0, 5, 1), &[9; 512]);
    plan.add(Fault::always(On::Write, ErrorKind::NoSpace));
    let same = vec![8; 512];
    for (cdb, out) in [
        (cdb_16(0x8a, 0, 5, 1), &same),
        (write_same_16(0, 5, 1), &same),
        (cdb_16(0x8e, 0, 5, 1), &same),
        (cdb_16(0x8b, 0, 5, 1), &same),
        ([0x9c, 0, 0, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0, 1, 0, 0], &same),
        ([0x89, 0, 0, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0, 1, 0, 0], &vec![9; 1024]),
    ] {
        assert_eq!(rig.sense(0, &cdb, out), (7, 0x27, 0x07), "{:02x}", cdb[0]);
    }
    assert_eq!(rig.read(0, 5, 1), vec![9; 512]);
}

#[test]
fn sbc_10_write_same_with_every_flag() {
    let mut rig = Rig::new(ram(65536), 1);
    let (ones, zeros) = (vec![1; 512], vec![0; 512]);
    for flags in (0..32u8).map(|bits| bits << 3 & 0x18 | bits >> 2 & NDOB) {
        rig.good(0, &cdb_10(0x41, 0, 0, 64), &[7; 512]);
        let out = if flags & NDOB != 0 { &[][..] } else { &ones };
        let cdb = write_same_16(flags, 8, 8);
        if flags & ANCHOR != 0 {
            assert_eq!(rig.sense(0, &cdb, out), (5, 0x24, 0), "ANC_SUP is 0: {flags:02x}");
            continue;
        }
        rig.good(0, &cdb, out);
        let expected = if flags & NDOB != 0 { &zeros } else { &ones };
        assert_eq!(rig.read(0, 8, 8), expected.repeat(8), "{flags:02x}");
        assert_eq!((rig.read(0, 7, 1), rig.read(0, 16, 1)), (vec![7; 512], vec![7; 512]), "{flags:02x}");
        let state = rig.good(0, &cdb_16(0x9e, 0x12, 8, 24), &[])[20];
        assert_eq!(state, u8::from(flags == UNMAP | NDOB || flags == NDOB), "{flags:02x}");
    }
    assert_eq!(rig.sense(0, &cdb_10(0x41, ANCHOR, 0, 8), &zeros), (5, 0x24, 0));
    rig.good(0, &cdb_10(0x41, UNMAP, 0, 8), &zeros);
    assert_eq!(rig.read(0, 0, 8), vec![0; 4096]);
    // One block, or none with NDOB, and nothing else.
    for (flags, length) in [(0, 1024), (0, 0), (NDOB, 512)] {
        assert_eq!(rig.sense(0, &write_same_16(flags, 0, 8), &vec![0; length]), (5, 0x24, 0));
    }
    // Too much, whether said or meant by no blocks: all to the end.
    assert_eq!(rig.sense(0, &write_same_16(0, 0, 32769), &ones), (5, 0x24, 0));
    assert_eq!(rig.sense(0, &write_same_16(0, 32767, 0), &ones), (5, 0x24, 0));
    rig.good(0, &write_same_16(0, 65530, 0), &ones);
    assert_eq!(rig.read(0, 65530, 6), ones.repeat(6));
}

#[test]
fn sbc_10_no_blocks_are_all_to_the_end() {
    let mut rig = Rig::new(ram(32768), 1);
    let (ones, zeros) = (vec![1; 512], vec![0; 512]);
    assert_eq!(rig.good(0, &[0x12, 1, 0xb0, 0, 64, 0], &[])[4], 0, "WSNZ");
    rig.good(0, &write_same_16(0, 32762, 0), &ones);
    assert_eq!((rig.read(0, 32761, 1), rig.read(0, 32762, 6)), (zeros, ones.repeat(6)));
    rig.good(0, &cdb_10(0x41, 0, 0, 0), &ones);
    assert_eq!((rig.read(0, 0, 1), rig.read(0, 20000, 1)), (ones.clone(), ones.clone()));
    assert_eq!(rig.sense(0, &write_same_16(0, 32768, 0), &ones), (5, 0x21, 0));
}

#[test]
fn sbc_11_unmap_refuses_anchors_and_whole_lists_that_are_wrong_somewhere() {
    let mut rig = Rig::new(ram(4096), 1);
    rig.good(0, &cdb_10(0x41, 0, 0, 4096), &[7; 512]);
    let list = |descriptors: &[(u64, u32)]| {
        let bytes = (descriptors.len() * 16) as u16;
        let mut list = [(bytes + 6).to_be_bytes(), bytes.to_be_bytes(), [0; 2], [0; 2]].concat();
        for (block, blocks) in descriptors {
            list.extend([&block.to_be_bytes()[..], &blocks.to_be_bytes(), &[0; 4]].concat());
        }
        list
    };
    let unmap = |list: &[u8]| cdb_10(0x42, 0, 0, list.len() as u16);
    let wrong = list(&[(0, 8), (4096, 1)]);
    assert_eq!(rig.sense(0, &unmap(&wrong), &wrong), (5, 0x21, 0));
    assert_eq!(rig.sense(0, &cdb_10(0x42, 0x01, 0, 24), &list(&[(0, 8)])), (5, 0x24, 0), "ANCHOR");
    assert_eq!(rig.read(0, 0, 8), vec![7; 4096], "nothing of the list was unmapped");
    let right = list(&[(0, 8), (16, 0), (24, 8)]);
    rig.good(0, &unmap(&right), &right);
    assert_eq!(rig.read(0, 0, 32), [vec![0; 4096], vec![7; 8192], vec![0; 4096]].concat());
}

#[test]
fn sbc_15_write_atomic_keeps_the_limits_that_it_tells() {
    let mut rig = Rig::new(ram(4096), 1);
    let page = rig.good(0, &[0x12, 1, 0xb0, 0, 64, 0], &[]);
    let words: Vec<u32> = page[44..].as_chunks::<4>().0.iter().map(|word| u32::from_be_bytes(*word)).collect();
    assert_eq!(words, [256, 1, 1, 0, 0], "maximum, alignment, granularity, no boundaries");
    let atomic = |block: u64, boundary: u16, blocks: u16| {
        let mut cdb = cdb_16(0x9c, 0, block, 0);
        cdb[10..12].copy_from_slice(&boundary.to_be_bytes());
        cdb[12..14].copy_from_slice(&blocks.to_be_bytes());
        cdb
    };
    rig.good(0, &atomic(3840, 0, 256), &[5; 256 * 512]);
    assert_eq!(rig.read(0, 3840, 256), vec![5; 256 * 512]);
    rig.good(0, &atomic(0, 0, 0), &[]);
    assert_eq!(rig.sense(0, &atomic(0, 0, 257), &[5; 257 * 512]), (5, 0x24, 0));
    assert_eq!(rig.sense(0, &atomic(0, 8, 8), &[5; 8 * 512]), (5, 0x24, 0));
    assert_eq!(rig.sense(0, &atomic(3841, 0, 256), &[5; 256 * 512]), (5, 0x21, 0));
    assert_eq!(rig.sense(0, &atomic(0, 0, 8), &[5; 7 * 512]), (5, 0x24, 0), "less than all is nothing");
    assert_eq!(rig.read(0, 0, 8), vec![0; 4096]);
}

/// Memory that claims to lose what was not flushed.
struct Volatile(Arc<dyn Backend>);

impl Backend for Volatile {
    fn limits(&self) -> Arc<Limits> {
        Arc::new(Limits { write_cache: WriteCache::Volatile, ..(*self.0.limits()).clone() })
    }

    fn description(&self) -> Description {
        self.0.description()
    }

    fn open(&self, engine: &Rc<dyn Engine>) -> Result<Box<dyn Store>, block::Error> {
        self.0.open(engine)
    }
}

#[test]
fn sbc_09_a_read_with_fua_and_a_compare_and_write_do_not_wait_for_each_other() {
    let valve = Valve::open();
    let mut rig = Rig::new(Arc::new(Volatile(Delay::new(ram(4096), valve.clone()))), 2);
    valve.hold();
    let read = rig.send(0, &cdb_10(0x28, 0x08, 5, 1), &[]);
    rig.settle();
    let compare = rig.send(1, &[0x89, 0, 0, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0, 1, 0, 0], &[0; 1024]);
    rig.settle();
    valve.release_all();
    rig.settle();
    for tag in [read, compare] {
        assert_eq!(rig.take(tag).expect("it ends").0, Status::Good);
    }
}
