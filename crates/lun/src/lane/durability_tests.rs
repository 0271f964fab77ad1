//! What is on stable storage when a command is answered: the power is cut after each, and everything that
//! was not flushed is gone.

use super::rig::{Rig, cdb_10, cdb_16, ram};
use super::*;
use block::layer::{Journal, Logged};
use block::{Backend, Description, Error, Limits, Store, WriteCache};

const BLOCKS: usize = 64;
const FUA: u8 = 0x08;

/// Says that it has a volatile cache, so that the lane must ask for what is to be stable.
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

/// What a cut leaves: everything up to the last flush, and what was durable by itself.
fn stable(journal: &Journal) -> Vec<u8> {
    let records = journal.records();
    let flushed = records.iter().rposition(|record| record.operation == Operation::Flush).map_or(0, |at| at + 1);
    let mut medium = vec![0; BLOCKS * 512];
    for (at, record) in records.iter().enumerate() {
        let place = record.offset as usize..(record.offset + record.length) as usize;
        match record.operation {
            Operation::Write { durable } if at < flushed || durable => medium[place].copy_from_slice(&record.data),
            Operation::WriteZeroes { durable, .. } if at < flushed || durable => medium[place].fill(0),
            Operation::Unmap if at < flushed => medium[place].fill(0),
            _ => {}
        }
    }
    medium
}

#[test]
fn sbc_04_what_is_told_to_be_stable_survives_a_power_cut() {
    let journal = Journal::default();
    let mut rig = Rig::new(Arc::new(Cached(Logged::new(ram(BLOCKS as u64), journal.clone()))), 2);
    let mut told = vec![0; BLOCKS * 512];
    let mut seed = 1u32;
    let mut next = |most: u32| {
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (seed >> 16) % most
    };
    let mut lost = 0;
    for round in 0..600u32 {
        let (block, lane) = (next(BLOCKS as u32 - 4), next(2) as usize);
        let data = vec![(round % 255) as u8 + 1; 2 * 512];
        let place = block as usize * 512..(block as usize + 2) * 512;
        let mut written = told.clone();
        written[place].copy_from_slice(&data);
        match next(6) {
            0 => drop(rig.good(lane, &cdb_10(0x2a, FUA, block, 2), &data)),
            1 => drop(rig.good(lane, &cdb_16(0x8a, FUA, block.into(), 2), &data)),
            2 => drop(rig.good(lane, &cdb_10(0x2e, 0, block, 2), &data)),
            3 => {
                rig.good(lane, &cdb_10(0x2a, 0, block, 2), &data);
                rig.good(1 - lane, &cdb_10(0x35, 0, 0, 0), &[]);
            }
            4 => {
                rig.good(lane, &cdb_16(0x8a, 0, block.into(), 2), &data);
                rig.good(lane, &cdb_16(0x91, 0, block.into(), 2), &[]);
            }
            _ => {
                // Only in the cache: it may be there after the cut, or not, and is written anew.
                rig.good(lane, &cdb_10(0x2a, 0, block, 2), &data);
                lost += usize::from(stable(&journal)[block as usize * 512] != data[0]);
                rig.good(lane, &cdb_10(0x2a, FUA, block, 2), &told[block as usize * 512..][..1024]);
                written.clone_from(&told);
            }
        }
        told = written;
        assert!(stable(&journal) == told, "round {round}");
    }
    assert!(lost > 50, "the cut takes what was only in the cache");
}

#[test]
fn sbc_06_with_the_cache_switched_off_every_answer_is_stable() {
    let journal = Journal::default();
    let mut rig = Rig::new(Arc::new(Cached(Logged::new(ram(BLOCKS as u64), journal.clone()))), 1);
    rig.good(0, &cdb_10(0x2a, 0, 0, 2), &[1; 1024]);
    assert!(stable(&journal)[0] == 0);
    // The caching page with WCE 0.
    let page = rig.good(0, &[0x1a, 0x08, 0x08, 0, 64, 0], &[]);
    let mut list = [&[0; 4], &page[4..]].concat();
    list[4] &= 0x7f;
    list[6] &= !0x04;
    rig.good(0, &[0x15, 0x10, 0, 0, list.len() as u8, 0], &list);
    assert!(stable(&journal)[..1024] == [1; 1024], "what was in the cache");
    rig.good(0, &cdb_10(0x2a, 0, 4, 2), &[2; 1024]);
    assert!(stable(&journal)[2048..3072] == [2; 1024]);
    rig.good(0, &cdb_16(0x93, 0, 8, 4), &[3; 512]);
    assert!(stable(&journal)[4096..6144] == [3; 2048]);
}
