//! A CD/DVD drive as its initiators see it (MMC-6), over memory: commands, tray, exchange of the medium.

use super::rig::{Rig, cdb_10};
use super::*;
use crate::command::{self, Devices};
use crate::{Change, DeviceType, Options};
use block::pure::{Null, Ram};
use block::testing::Bench;
use block::{Backend, Description, Engine, Error, Limits, Medium, Store};
use std::sync::{Mutex, PoisonError};

/// A drive: what lies behind it, and what is put in at the next exchange. None is an empty drive.
struct Drive {
    current: Mutex<Option<Arc<dyn Backend>>>,
    next: Mutex<Option<Option<Arc<dyn Backend>>>>,
}

impl Drive {
    fn new(medium: Arc<dyn Backend>) -> Arc<Drive> {
        Arc::new(Drive { current: Mutex::new(Some(medium)), next: Mutex::default() })
    }

    fn put(&self, medium: Option<Arc<dyn Backend>>) {
        *self.next.lock().unwrap_or_else(PoisonError::into_inner) = Some(medium);
    }

    fn medium(&self) -> Arc<dyn Backend> {
        let current = self.current.lock().unwrap_or_else(PoisonError::into_inner).clone();
        current.unwrap_or_else(|| Null::new(2048, 0))
    }
}

impl Backend for Drive {
    fn limits(&self) -> Arc<Limits> {
        self.medium().limits()
    }

    fn description(&self) -> Description {
        self.medium().description()
    }

    fn open(&self, engine: &Rc<dyn Engine>) -> Result<Box<dyn Store>, Error> {
        self.medium().open(engine)
    }

    fn look(&self) -> Medium {
        match &*self.next.lock().unwrap_or_else(PoisonError::into_inner) {
            None => Medium::Same,
            Some(None) => Medium::Gone("gone".into()),
            Some(Some(_)) => Medium::Other,
        }
    }

    fn exchange(&self) {
        if let Some(next) = self.next.lock().unwrap_or_else(PoisonError::into_inner).take() {
            *self.current.lock().unwrap_or_else(PoisonError::into_inner) = next;
        }
    }
}

/// An image of which every byte is this one.
fn image(blocks: u64, byte: u8) -> Arc<dyn Backend> {
    let ram = Ram::new(2048, blocks);
    Bench::new(ram.clone()).write(0, &vec![byte; 2048 * blocks as usize]).unwrap();
    block::layer::ReadOnly::new(ram)
}

fn drive(medium: Arc<dyn Backend>, lanes: usize) -> (Rig, Arc<Drive>) {
    let drive = Drive::new(medium);
    let options = Options { device_type: DeviceType::Optical, read_only: true, removable: true, ..Options::default() };
    (Rig::with(options, drive.clone(), lanes), drive)
}

const READY: [u8; 6] = [0; 6];
const EJECT: [u8; 6] = [0x1b, 0, 0, 0, 2, 0];
const LOAD: [u8; 6] = [0x1b, 0, 0, 0, 3, 0];
const TRAY_OPEN: (u8, u8, u8) = (2, 0x3a, 2);
const TRAY_CLOSED: (u8, u8, u8) = (2, 0x3a, 1);
const CHANGED: (u8, u8, u8) = (6, 0x28, 0);

fn prevent(prevent: u8) -> [u8; 6] {
    [0x1e, 0, 0, 0, prevent, 0]
}

/// A poll for media events: the event and the status.
fn event(rig: &mut Rig, lane: usize) -> (u8, u8) {
    let data = rig.good(lane, &[0x4a, 1, 0, 0, 0x10, 0, 0, 0, 8, 0], &[]);
    assert_eq!(data[..4], [0, 6, 4, 0x56]);
    (data[4], data[5])
}

fn profile(rig: &mut Rig) -> u8 {
    rig.good(0, &[0x46, 0, 0, 0, 0, 0, 0, 0, 8, 0], &[])[7]
}

#[test]
fn spc_09_a_drive_has_its_commands_and_none_of_a_disk() {
    let (mut rig, _) = drive(image(64, 1), 1);
    let of_drives: Vec<_> = command::COMMANDS.iter().filter(|row| row.devices != Devices::Disks).collect();
    let all = rig.good(0, &[0xa3, 0x0c, 0, 0, 0, 0, 0, 0, 16, 0, 0, 0], &[]);
    let reported: Vec<u8> = all[4..].chunks(8).map(|one| one[0]).collect();
    assert_eq!(reported, of_drives.iter().map(|row| row.opcode).collect::<Vec<_>>());
    for opcode in 0..=255u8 {
        if !reported.contains(&opcode) {
            assert_eq!(rig.sense(0, &[opcode; 16][..1], &[]), (5, 0x20, 0), "opcode {opcode:#x}");
        }
    }
    for disk in [0x08, 0x0a, 0x2a, 0x2f, 0x35, 0x42, 0x88, 0x8a, 0x9e] {
        assert!(!reported.contains(&disk), "{disk:02x}");
    }
}

#[test]
fn sam_07_every_reserved_bit_of_a_drives_commands_is_refused() {
    let (mut rig, _) = drive(image(64, 1), 1);
    for row in command::COMMANDS.iter().filter(|row| row.devices == Devices::Drives) {
        for (at, mask) in row.usage.iter().enumerate().take(row.usage.len() - 1).skip(1) {
            for bit in (0..8).filter(|bit| mask & 1 << bit == 0) {
                let mut cdb = vec![0; row.usage.len()];
                cdb[0] = row.opcode;
                cdb[at] |= 1 << bit;
                let (_, sense) = rig.command(0, &cdb, &[]);
                assert_eq!((sense[2], sense[12], sense[15], sense[17]), (5, 0x24, 0xc8 | bit, at as u8), "{cdb:02x?}");
            }
        }
    }
}

#[test]
fn what_a_drive_tells_of_its_disc() {
    let (mut rig, _) = drive(image(300, 1), 1);
    let inquiry = rig.good(0, &[0x12, 0, 0, 0, 96, 0], &[]);
    assert_eq!(inquiry[..2], [0x05, 0x80]);
    assert_eq!(rig.good(0, &[0x25, 0, 0, 0, 0, 0, 0, 0, 0, 0], &[]), [0, 0, 1, 0x2b, 0, 0, 8, 0]);
    let toc = rig.good(0, &[0x43, 2, 0, 0, 0, 0, 0xaa, 0, 12, 0], &[]);
    assert_eq!(toc, [0, 10, 1, 1, 0, 0x14, 0xaa, 0, 0, 0, 6, 0]);
    let sessions = [0, 10, 1, 1, 0, 0x14, 1, 0, 0, 0, 0, 0];
    for cdb in [[0x43, 0, 1, 0, 0, 0, 0, 0, 12, 0], [0x43, 0, 0, 0, 0, 0, 0, 0, 12, 0x40]] {
        assert_eq!(rig.good(0, &cdb, &[]), sessions, "as MMC and as SFF-8020 ask for it");
    }
    for (cdb, at) in [([0x43, 0, 5, 0, 0, 0, 0, 0, 12, 0], 2), ([0x43, 0, 0, 0, 0, 0, 2, 0, 12, 0], 6)] {
        let (_, sense) = rig.command(0, &cdb, &[]);
        assert_eq!((sense[2], sense[12], sense[17]), (5, 0x24, at));
    }
    assert_eq!(rig.good(0, &[0x51, 0, 0, 0, 0, 0, 0, 0, 34, 0], &[])[..4], [0, 32, 0x0e, 1]);
    for address in [[0x52, 0, 0, 0, 1, 0x2b, 0, 0, 36, 0], [0x52, 1, 0, 0, 0, 1, 0, 0, 36, 0]] {
        assert_eq!(rig.good(0, &address, &[])[24..28], [0, 0, 1, 0x2c]);
    }
    assert_eq!(rig.sense(0, &[0x52, 0, 0, 0, 1, 0x2c, 0, 0, 36, 0], &[]), (5, 0x21, 0));
    assert_eq!(rig.sense(0, &[0x52, 1, 0, 0, 0, 2, 0, 0, 36, 0], &[]), (5, 0x24, 0));
    assert_eq!(rig.good(0, &[0xbd, 0, 0, 0, 0, 0, 0, 0, 0, 8, 0, 0], &[]), [0, 0, 0, 0, 0, 1, 0, 0]);
    let page = rig.good(0, &[0x5a, 0, 0x2a, 0, 0, 0, 0, 0, 64, 0], &[]);
    assert_eq!((page.len(), page[7], page[8], page[14]), (30, 0, 0x2a, 0x29), "no block descriptor");
    assert_eq!(rig.sense(0, &[0x5a, 0, 0x08, 0, 0, 0, 0, 0, 64, 0], &[]), (5, 0x24, 0), "no caching page");
    assert_eq!(profile(&mut rig), 8);
    let dvd = [0xad, 0, 0, 0, 0, 0, 0, 0, 8, 4, 0, 0];
    assert_eq!(rig.sense(0, &dvd, &[]), (5, 0x30, 2));
}

#[test]
fn an_image_that_no_cd_could_hold_is_a_dvd() {
    let (mut rig, _) = drive(Null::new(2048, 2_000_000), 1);
    assert_eq!(profile(&mut rig), 0x10);
    assert_eq!(rig.good(0, &[0xad, 0, 0, 0, 0, 0, 0, 0, 8, 4, 0, 0], &[]).len(), 2052);
    assert_eq!(rig.sense(0, &[0xbe, 0, 0, 0, 0, 0, 0, 0, 1, 0x10, 0, 0], &[]), (5, 0x30, 2));
    assert_eq!(rig.sense(0, &[0x43, 0, 2, 0, 0, 0, 0, 0, 48, 0], &[]), (5, 0x24, 0), "no raw TOC");
}

#[test]
fn sectors_are_read_by_block_and_by_time_and_never_made_up() {
    let (mut rig, _) = drive(image(300, 7), 1);
    for cdb in [&cdb_10(0x28, 0, 299, 1)[..], &[0xa8, 0, 0, 0, 1, 0x2b, 0, 0, 0, 1, 0, 0]] {
        assert!(rig.good(0, cdb, &[]) == [7; 2048]);
    }
    let read_cd = |flags, count, main, sub| [0xbe, flags, 0, 0, 0, 0, 0, 0, count, main, sub, 0];
    assert_eq!(rig.good(0, &read_cd(0x08, 3, 0x10, 0), &[]).len(), 3 * 2048, "Mode 1");
    assert_eq!(rig.good(0, &read_cd(0, 3, 0, 0), &[]).len(), 0);
    assert_eq!(rig.sense(0, &read_cd(0x04, 3, 0x10, 0), &[]), (5, 0x64, 0), "CD-DA");
    assert_eq!(rig.sense(0, &read_cd(0, 3, 0xf8, 0), &[]), (5, 0x24, 0), "raw");
    assert_eq!(rig.sense(0, &read_cd(0, 3, 0x10, 1), &[]), (5, 0x24, 0), "sub-channel");
    let msf = [0xb9, 0, 0, 0, 2, 0, 0, 2, 5, 0x10, 0, 0];
    assert_eq!(rig.good(0, &msf, &[]).len(), 5 * 2048);
    assert_eq!(
        rig.sense(0, &[0xb9, 0, 0, 0, 2, 1, 0, 2, 0, 0x10, 0, 0], &[]),
        (5, 0x24, 0),
        "it ends before it starts"
    );
    assert_eq!(rig.sense(0, &cdb_10(0x28, 0, 300, 1), &[]), (5, 0x21, 0));
}

#[test]
fn spc_14_the_tray_opens_and_closes_and_everybody_learns_of_it() {
    let (mut rig, _) = drive(image(64, 1), 2);
    assert_eq!(event(&mut rig, 0), (0, 2));
    rig.good(0, &EJECT, &[]);
    for lane in [0, 1] {
        assert_eq!(rig.sense(lane, &READY, &[]), TRAY_OPEN);
        assert_eq!(rig.sense(lane, &cdb_10(0x28, 0, 0, 1), &[]), TRAY_OPEN);
        assert_eq!(rig.sense(lane, &[0x43, 0, 0, 0, 0, 0, 0, 0, 12, 0], &[]), TRAY_OPEN);
        assert_eq!(event(&mut rig, lane), (3, 1));
        assert_eq!(event(&mut rig, lane), (0, 1), "told once");
    }
    assert_eq!(rig.sense(0, &[0x1b, 0, 0, 0, 1, 0], &[]), TRAY_OPEN);
    assert_eq!(profile(&mut rig), 0);
    assert_eq!(rig.good(0, &[0xbd, 0, 0, 0, 0, 0, 0, 0, 0, 8, 0, 0], &[])[1], 0x10);
    rig.good(0, &LOAD, &[]);
    for lane in [0, 1] {
        assert_eq!(event(&mut rig, lane), (2, 2), "a unit attention does not stand before it");
        assert_eq!(rig.sense(lane, &READY, &[]), CHANGED);
        rig.good(lane, &READY, &[]);
    }
    rig.good(0, &LOAD, &[]);
    rig.good(1, &READY, &[]);
    assert_eq!(rig.read_10(0), [1; 2048]);
    // A disc that does not turn is read none the less.
    rig.good(0, &[0x1b, 0, 0, 0, 0, 0], &[]);
    assert_eq!(rig.read_10(1), [1; 2048]);
}

#[test]
fn spc_14_whoever_prevents_removal_keeps_the_disc_from_initiator_and_administrator() {
    let (mut rig, drive) = drive(image(64, 1), 2);
    rig.good(1, &prevent(1), &[]);
    assert_eq!(rig.sense(0, &EJECT, &[]), (5, 0x53, 2));
    assert_eq!(rig.good(0, &[0x5a, 0, 0x2a, 0, 0, 0, 0, 0, 64, 0], &[])[14], 0x2b, "locked");
    drive.put(Some(image(32, 2)));
    assert_eq!(rig.unit.refresh().unwrap(), Change::Held);
    for lane in [0, 1] {
        assert_eq!((rig.read_10(lane), event(&mut rig, lane)), (vec![1; 2048], (1, 2)), "asked to let go of it");
    }
    rig.good(0, &prevent(0), &[]);
    assert_eq!(rig.unit.refresh().unwrap(), Change::Held, "another's prevention");
    assert_eq!(event(&mut rig, 1), (0, 2), "asked once");
    rig.good(1, &prevent(0), &[]);
    assert_eq!(rig.unit.refresh().unwrap(), Change::Medium);
    assert_eq!(rig.sense(0, &READY, &[]), CHANGED);
    assert_eq!(rig.read_10(0), [2; 2048]);
}

#[test]
fn another_disc_is_read_by_nobody_before_its_unit_attention() {
    let (mut rig, drive) = drive(image(64, 1), 2);
    assert_eq!((rig.read_10(0), rig.read_10(1)), (vec![1; 2048], vec![1; 2048]));
    // Taken before the exchange and not yet submitted: it was meant for the old disc.
    let early = rig.send(0, &cdb_10(0x28, 0, 63, 1), &[]);
    drive.put(Some(image(32, 2)));
    assert_eq!(rig.unit.refresh().unwrap(), Change::Medium);
    rig.settle();
    assert_eq!(rig.take(early), Some((Status::Good, vec![1; 2048])));
    for lane in [0, 1] {
        assert_eq!(event(&mut rig, lane), (2, 2));
        assert_eq!(rig.sense(lane, &cdb_10(0x28, 0, 0, 1), &[]), CHANGED);
        assert_eq!(rig.read_10(lane), [2; 2048]);
        assert_eq!(rig.good(lane, &[0x25, 0, 0, 0, 0, 0, 0, 0, 0, 0], &[])[3], 31);
    }
    assert_eq!(rig.unit.refresh().unwrap(), Change::None);
}

#[test]
fn reads_that_wait_for_memory_when_the_disc_is_exchanged_do_not_read_the_new_one() {
    let (mut rig, drive) = drive(Null::new(2048, 4096), 1);
    // Each is as long as a command may be, and together they are more than the lane's memory.
    let sent: Vec<u64> = (0..20).map(|_| rig.send(0, &cdb_10(0x28, 0, 0, 4096), &[])).collect();
    drive.put(Some(image(4096, 9)));
    assert_eq!(rig.unit.refresh().unwrap(), Change::Medium);
    rig.settle();
    let mut late = 0;
    for tag in sent {
        let (status, data) = rig.take(tag).expect("an end");
        match status {
            Status::Good => assert!(data.len() >= 1 << 20 && data.iter().all(|byte| *byte == 0)),
            _ => {
                assert_eq!((data[2], data[12], data[13]), CHANGED);
                late += 1;
            }
        }
    }
    assert!(late > 0, "nothing had to wait");
    assert_eq!(rig.sense(0, &READY, &[]), CHANGED);
    assert_eq!(rig.read_10(0), [9; 2048]);
    assert_eq!((rig.lanes[0].tasks(), rig.lanes[0].context.pool.taken_bytes()), (0, 0));
}

#[test]
fn a_disc_that_is_gone_leaves_an_empty_drive_until_one_comes() {
    let (mut rig, drive) = drive(image(64, 1), 1);
    drive.put(None);
    assert_eq!(rig.unit.refresh().unwrap(), Change::Gone("gone".into()));
    for start in [&READY, &[0x1b, 0, 0, 0, 1, 0]] {
        assert_eq!(rig.sense(0, start, &[]), TRAY_CLOSED);
    }
    assert_eq!(rig.sense(0, &[0x25, 0, 0, 0, 0, 0, 0, 0, 0, 0], &[]), TRAY_CLOSED);
    assert_eq!((event(&mut rig, 0), profile(&mut rig)), ((3, 0), 0));
    rig.good(0, &EJECT, &[]);
    assert_eq!(rig.sense(0, &READY, &[]), TRAY_OPEN);
    rig.good(0, &LOAD, &[]);
    assert_eq!(rig.sense(0, &READY, &[]), TRAY_CLOSED, "a tray without a disc");
    rig.good(0, &EJECT, &[]);
    // Who puts a disc into the open tray closes it.
    drive.put(Some(image(64, 3)));
    assert_eq!(rig.unit.refresh().unwrap(), Change::Medium);
    assert_eq!(rig.sense(0, &READY, &[]), CHANGED);
    assert_eq!((event(&mut rig, 0), rig.read_10(0)), ((2, 2), vec![3; 2048]));
}

#[test]
fn the_capabilities_page_can_be_sent_back_as_it_was_shown() {
    let (mut rig, _) = drive(image(64, 1), 1);
    for locked in [0, 1] {
        rig.good(0, &prevent(locked), &[]);
        let mut page = rig.good(0, &[0x5a, 0, 0x2a, 0, 0, 0, 0, 0, 64, 0], &[]);
        assert_eq!(page[14] & 2, locked << 1);
        page[..2].fill(0);
        rig.good(0, &[0x55, 0x10, 0, 0, 0, 0, 0, 0, page.len() as u8, 0], &page);
        page[14] ^= 2;
        assert_eq!(rig.sense(0, &[0x55, 0x10, 0, 0, 0, 0, 0, 0, page.len() as u8, 0], &page), (5, 0x26, 0));
    }
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig {
        cases: 64, failure_persistence: None, ..Default::default()
    })]
    #[test]
    fn sam_07_commands_of_any_content_end_with_an_answer_of_the_table(
        cdbs in proptest::collection::vec((0usize..64, proptest::array::uniform16(0u8..), 1usize..17), 1..8),
        dvd in proptest::bool::ANY,
    ) {
        let medium = if dvd { Null::new(2048, 2_000_000) } else { image(64, 1) };
        let (mut rig, _) = drive(medium, 1);
        let rows: Vec<_> = command::COMMANDS.iter().filter(|row| row.devices == Devices::Drives).collect();
        for (row, mut cdb, length) in cdbs {
            let row = rows[row % rows.len()];
            cdb[0] = row.opcode;
            // Half of them are as the usage map wants them.
            if length % 2 == 0 {
                for (byte, mask) in cdb.iter_mut().zip(row.usage).skip(1) {
                    *byte &= mask;
                }
            }
            let (status, sense) = rig.command(0, &cdb[..length], &[]);
            if status != Status::Good {
                let code = (sense[2], sense[12], sense[13]);
                let known = [
                    (5, 0x24, 0), (5, 0x21, 0), (5, 0x30, 2), (5, 0x64, 0), TRAY_OPEN, TRAY_CLOSED, CHANGED,
                ];
                proptest::prop_assert!(known.contains(&code), "{:02x?}: {:02x?}", cdb, code);
            }
        }
    }
}

#[test]
fn tmf_06_a_reset_lifts_the_prevention() {
    let (mut rig, _) = drive(image(64, 1), 1);
    rig.good(0, &prevent(1), &[]);
    let nexus = rig.nexuses[0];
    rig.lanes[0].task_management(nexus, 1, super::rig::UNIT, crate::TaskManagementFunction::LogicalUnitReset);
    rig.settle();
    assert_eq!(rig.sense(0, &READY, &[]), (6, 0x29, 3));
    rig.good(0, &EJECT, &[]);
}

#[test]
fn prs_04_a_reservation_keeps_others_from_the_disc() {
    let (mut rig, _) = drive(image(64, 1), 2);
    let list = [vec![0; 8], 7u64.to_be_bytes().to_vec(), vec![0; 8]].concat();
    rig.good(0, &[0x5f, 0, 0, 0, 0, 0, 0, 0, 24, 0], &list);
    let list = [7u64.to_be_bytes().to_vec(), vec![0; 16]].concat();
    rig.good(0, &[0x5f, 1, 3, 0, 0, 0, 0, 0, 24, 0], &list);
    for cdb in [cdb_10(0x28, 0, 0, 1), cdb_10(0x43, 0, 0, 12), cdb_10(0x51, 0, 0, 12)] {
        assert_eq!(rig.command(1, &cdb, &[]).0, Status::ReservationConflict, "{cdb:02x?}");
    }
    assert_eq!(rig.command(1, &EJECT, &[]).0, Status::ReservationConflict);
    assert_eq!(event(&mut rig, 1), (0, 2));
    rig.good(1, &[0x46, 0, 0, 0, 0, 0, 0, 0, 8, 0], &[]);
    rig.read_10(0);
}

impl Rig {
    /// The first block.
    fn read_10(&mut self, lane: usize) -> Vec<u8> {
        self.good(lane, &cdb_10(0x28, 0, 0, 1), &[])
    }
}

/// A medium that nobody can open.
struct Shut(Arc<dyn Backend>);

impl Backend for Shut {
    fn limits(&self) -> Arc<Limits> {
        self.0.limits()
    }

    fn description(&self) -> Description {
        self.0.description()
    }

    fn open(&self, _: &Rc<dyn Engine>) -> Result<Box<dyn Store>, Error> {
        Err(Error::new(block::ErrorKind::Medium))
    }
}

#[test]
fn spc_01_a_drive_whose_medium_cannot_be_opened_says_who_it_is_and_lets_go_of_it() {
    let (mut rig, drive) = drive(image(64, 1), 1);
    drive.put(Some(Arc::new(Shut(image(32, 2)))));
    assert_eq!(rig.unit.refresh().unwrap(), Change::Medium);
    rig.good(0, &[0x12, 0, 0, 0, 96, 0], &[]);
    assert_eq!(rig.sense(0, &READY, &[]), CHANGED);
    assert_eq!(rig.sense(0, &cdb_10(0x28, 0, 0, 1), &[]).0, 3, "MEDIUM ERROR");
    rig.good(0, &[0x1b, 0, 0, 0, 2, 0], &[]);
}

#[test]
fn a_request_to_let_go_of_the_disc_waits_behind_another_event_and_comes_again_to_who_locks_again() {
    let (mut rig, drive) = drive(image(64, 1), 1);
    drive.put(Some(image(32, 2)));
    assert_eq!(rig.unit.refresh().unwrap(), Change::Medium);
    assert_eq!(rig.sense(0, &READY, &[]), CHANGED);
    rig.good(0, &prevent(1), &[]);
    drive.put(Some(image(16, 3)));
    assert_eq!(rig.unit.refresh().unwrap(), Change::Held);
    assert_eq!((event(&mut rig, 0), event(&mut rig, 0)), ((2, 2), (1, 2)), "new medium, then eject request");
    // The locker is gone without having let go, and is back and locks again before the next look.
    let old = rig.nexuses[0];
    rig.nexuses[0] = rig.open(0, "client 0");
    rig.lanes[0].close_nexus(old);
    rig.settle();
    let _ = rig.sense(0, &READY, &[]);
    rig.good(0, &prevent(1), &[]);
    assert_eq!(rig.unit.refresh().unwrap(), Change::Held);
    assert_eq!(event(&mut rig, 0), (1, 2));
}

#[test]
fn a_tray_closes_while_it_is_locked_and_the_medium_of_a_disk_stays_where_it_is() {
    let (mut rig, _) = drive(image(64, 1), 1);
    let disk = Options { removable: true, ..Options::default() };
    for (optical, rig) in [(true, &mut rig), (false, &mut Rig::with(disk, super::rig::ram(64), 1))] {
        let _ = rig.command(0, &READY, &[]);
        rig.good(0, &EJECT, &[]);
        rig.good(0, &prevent(1), &[]);
        match optical {
            true => {
                rig.good(0, &LOAD, &[]);
                assert_eq!(rig.sense(0, &READY, &[]), CHANGED);
            }
            false => assert_eq!(rig.sense(0, &LOAD, &[]), (5, 0x53, 2)),
        }
        assert_eq!(rig.sense(0, &EJECT, &[]), (5, 0x53, 2));
        rig.good(0, &prevent(0), &[]);
        rig.good(0, &LOAD, &[]);
    }
}
