//! Properties: the medium is what a shadow copy says after any commands, and no update by COMPARE AND
//! WRITE is ever lost between lanes.

use super::rig::{Rig, cdb_10, cdb_16, ram};
use super::*;
use block::layer::{Delay, Valve};
use proptest::prelude::*;

const BLOCKS: u64 = 160;

/// A command and what it does to a copy of the medium.
#[derive(Debug, Clone)]
enum Step {
    Write { block: u64, blocks: u64, byte: u8, long: bool },
    Atomic { block: u64, blocks: u64, byte: u8 },
    Same { block: u64, blocks: u64, byte: u8, unmap: bool, form: u8 },
    Unmap(Vec<(u64, u64)>),
    Or { block: u64, blocks: u64, byte: u8 },
    Read { block: u64, blocks: u64 },
}

fn extent() -> impl Strategy<Value = (u64, u64)> {
    // One in some reaches past the end, and changes nothing.
    (0..BLOCKS + 4, 1..24u64)
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (extent(), 0u8.., any::<bool>()).prop_map(|((block, blocks), byte, long)| Step::Write {
            block,
            blocks,
            byte,
            long
        }),
        (extent(), 0u8..).prop_map(|((block, blocks), byte)| Step::Atomic { block, blocks, byte }),
        (extent(), 0u8..3, any::<bool>(), 0u8..3).prop_map(|((block, blocks), byte, unmap, form)| Step::Same {
            block,
            blocks,
            byte,
            unmap,
            form
        }),
        proptest::collection::vec(extent(), 0..4).prop_map(Step::Unmap),
        (extent(), 0u8..).prop_map(|((block, blocks), byte)| Step::Or { block, blocks, byte }),
        extent().prop_map(|(block, blocks)| Step::Read { block, blocks }),
    ]
}

fn bytes(block: u64, blocks: u64) -> std::ops::Range<usize> {
    (block * 512) as usize..((block + blocks) * 512) as usize
}

/// Data that differs from block to block and within a block.
fn data(byte: u8, blocks: u64) -> Vec<u8> {
    (0..blocks * 512).map(|at| byte ^ at as u8 ^ (at >> 9) as u8).collect()
}

fn run(rig: &mut Rig, lane: usize, shadow: &mut [u8], step: &Step) {
    let fits = |block: u64, blocks: u64| block < BLOCKS && block + blocks <= BLOCKS;
    let (cdb, out, good): (Vec<u8>, Vec<u8>, bool) = match step {
        &Step::Write { block, blocks, byte, long } => {
            let cdb = match long {
                true => cdb_16(0x8a, 0x08, block, blocks as u32).to_vec(),
                false => cdb_10(0x2a, 0, block as u32, blocks as u16).to_vec(),
            };
            (cdb, data(byte, blocks), fits(block, blocks))
        }
        &Step::Atomic { block, blocks, byte } => {
            (cdb_16(0x9c, 0, block, blocks as u32).to_vec(), data(byte, blocks), fits(block, blocks))
        }
        &Step::Or { block, blocks, byte } => {
            (cdb_16(0x8b, 0, block, blocks as u32).to_vec(), data(byte, blocks), fits(block, blocks))
        }
        &Step::Same { block, blocks, byte, unmap, form } => {
            let flags = u8::from(unmap) << 3;
            match form {
                0 => (cdb_10(0x41, flags, block as u32, blocks as u16).to_vec(), vec![byte; 512], fits(block, blocks)),
                1 => (cdb_16(0x93, flags, block, blocks as u32).to_vec(), vec![byte; 512], fits(block, blocks)),
                _ => (cdb_16(0x93, flags | 1, block, blocks as u32).to_vec(), vec![], fits(block, blocks)),
            }
        }
        Step::Unmap(extents) => {
            let length = (extents.len() * 16) as u16;
            let mut list = [(length + 6).to_be_bytes(), length.to_be_bytes(), [0; 2], [0; 2]].concat();
            for (block, blocks) in extents {
                list.extend([&block.to_be_bytes()[..], &(*blocks as u32).to_be_bytes(), &[0; 4]].concat());
            }
            let good = extents.iter().all(|(block, blocks)| fits(*block, *blocks));
            (cdb_10(0x42, 0, 0, list.len() as u16).to_vec(), list, good)
        }
        &Step::Read { block, blocks } => (cdb_16(0x88, 0, block, blocks as u32).to_vec(), vec![], fits(block, blocks)),
    };
    let (status, found) = rig.command(lane, &cdb, &out);
    if !good {
        assert_eq!((status, found[2], found[12]), (Status::CheckCondition, 5, 0x21), "{step:?}");
        return;
    }
    assert_eq!(status, Status::Good, "{step:?}: {found:02x?}");
    match step {
        &Step::Write { block, blocks, .. } | &Step::Atomic { block, blocks, .. } => {
            shadow[bytes(block, blocks)].copy_from_slice(&out);
        }
        &Step::Or { block, blocks, .. } => {
            shadow[bytes(block, blocks)].iter_mut().zip(out).for_each(|(old, new)| *old |= new);
        }
        &Step::Same { block, blocks, byte, form, .. } => {
            shadow[bytes(block, blocks)].fill(if form > 1 { 0 } else { byte });
        }
        Step::Unmap(extents) => {
            extents.iter().for_each(|(block, blocks)| shadow[bytes(*block, *blocks)].fill(0));
        }
        &Step::Read { block, blocks } => assert!(found == shadow[bytes(block, blocks)], "{step:?} differs"),
    }
}

/// One who counts in block 3, and what he believes stands there.
#[derive(Clone)]
struct Counter {
    believed: u64,
    /// The command that he waits for, and whether it is a READ.
    waits: Option<(u64, bool)>,
    counted: u64,
}

fn block_of(number: u64) -> Vec<u8> {
    let mut block = vec![0; 512];
    block[100..108].copy_from_slice(&number.to_be_bytes());
    block
}

impl Counter {
    fn act(&mut self, rig: &mut Rig, lane: usize, stop: bool) {
        match self.waits {
            None if !stop => {
                let out = [block_of(self.believed), block_of(self.believed + 1)].concat();
                let compare = [0x89, 0, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 1, 0, 0];
                self.waits = Some((rig.send(lane, &compare, &out), false));
            }
            None => {}
            Some((tag, read)) => match rig.take(tag) {
                None => rig.step(lane),
                Some((Status::Good, data)) if read => {
                    self.believed = u64::from_be_bytes(data[100..108].try_into().unwrap());
                    self.waits = None;
                }
                Some((Status::Good, _)) => {
                    (self.believed, self.counted, self.waits) = (self.believed + 1, self.counted + 1, None);
                }
                Some((status, sense)) => {
                    assert_eq!((status, sense[2], sense[12]), (Status::CheckCondition, 0xe, 0x1d));
                    let read = rig.send(lane, &[0x28, 0, 0, 0, 0, 3, 0, 0, 1, 0], &[]);
                    self.waits = Some((read, true));
                }
            },
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn sbc_10_sbc_11_the_medium_is_what_a_shadow_copy_says(
        steps in proptest::collection::vec((0usize..2, step()), 1..40),
    ) {
        let mut rig = Rig::new(ram(BLOCKS), 2);
        let mut shadow = vec![0; (BLOCKS * 512) as usize];
        for (lane, step) in &steps {
            run(&mut rig, *lane, &mut shadow, step);
        }
        prop_assert!(rig.read(0, 0, BLOCKS as u32) == shadow, "the whole differs");
        prop_assert!(rig.lanes.iter().all(|lane| lane.context.pool.taken_bytes() == 0), "memory came back");
    }

    #[test]
    fn sbc_09_compare_and_write_loses_no_update_between_two_lanes(
        schedule in proptest::collection::vec((0usize..3, 0u8..4), 1..400),
    ) {
        let valve = Valve::open();
        let mut rig = Rig::new(Delay::new(ram(16), valve.clone()), 3);
        valve.hold();
        let mut counters = vec![Counter { believed: 0, waits: None, counted: 0 }; 3];
        for (lane, chance) in schedule {
            // Rarely, so that the steps of one come between those of another.
            valve.release(u64::from(chance == 0));
            counters[lane].act(&mut rig, lane, false);
        }
        valve.release_all();
        for _ in 0..200 {
            rig.settle();
            counters.iter_mut().enumerate().for_each(|(lane, counter)| counter.act(&mut rig, lane, true));
        }
        prop_assert!(counters.iter().all(|counter| counter.waits.is_none()), "every command ends");
        let counted: u64 = counters.iter().map(|counter| counter.counted).sum();
        prop_assert_eq!(rig.read(0, 3, 1), block_of(counted));
    }
}
