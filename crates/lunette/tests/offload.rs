//! Copies that the target makes by itself, between real files (SPC-4 5.16, SBC-3 4.22).

use scsi::copy::list::{CopyList, Cscd, Form, Segment};
use scsi::copy::token::{self, Populate, Range, WriteUsing};
use sim::Daemon;
use sim::daemon::{Folder, TARGET};
use sim::raw::{Client, Command, Condition, Login};

const LUNETTE: &str = env!("CARGO_BIN_EXE_lunette");

/// A session that knows of the power on of these units.
fn session(daemon: &Daemon, luns: &[u8]) -> Client {
    let mut client = daemon.connect();
    client.login(&Login::normal(TARGET));
    for lun in luns {
        while client.execute(&Command::test_unit_ready().at(*lun)).condition().is_some() {}
    }
    client
}

/// The first designator of the unit, its NAA, as a copy source or destination.
fn cscd(client: &mut Client, lun: u8, block_length: u32) -> Cscd {
    let page = client.good(&Command::inquiry(Some(0x83)).at(lun));
    assert_eq!(page[4..8], [1, 3, 0, 16]);
    Cscd { code_set: 1, designator_type: 3, designator: page[8..24].to_vec(), block_length, null: false, at: 0 }
}

fn copy(client: &mut Client, lun: u8, form: Form, list: &CopyList) {
    let bytes = list.encode(form);
    let mut cdb = [0; 16];
    (cdb[0], cdb[1]) = (0x83, form as u8);
    cdb[10..14].copy_from_slice(&(bytes.len() as u32).to_be_bytes());
    client.good(&Command::writing(&cdb, &bytes).at(lun));
}

fn results(client: &mut Client, lun: u8, action: u8, identifier: u32) -> Vec<u8> {
    let mut cdb = [0; 16];
    (cdb[0], cdb[1]) = (0x84, action);
    cdb[2..6].copy_from_slice(&identifier.to_be_bytes());
    cdb[10..14].copy_from_slice(&2048u32.to_be_bytes());
    client.good(&Command::reading(&cdb, 2048).at(lun))
}

/// Bytes of which no two blocks are the same.
fn content(bytes: usize) -> Vec<u8> {
    (0..bytes / 8).flat_map(|at| (at as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15).to_le_bytes()).collect()
}

#[test]
fn files_of_different_blocks_are_copied_by_the_target_alone() {
    let folder = Folder::new();
    let (a, b) = (folder.file("a.img"), folder.file("b.img"));
    let data = content(24 << 20);
    std::fs::write(&a, &data).unwrap();
    let stores = [a.clone(), format!("{b},size=64M,block=4096"), "ram:64M".into()];
    let daemon = Daemon::start(LUNETTE, &stores.iter().map(String::as_str).collect::<Vec<_>>());
    let mut client = session(&daemon, &[1, 2, 3]);
    let cscds = vec![cscd(&mut client, 1, 512), cscd(&mut client, 2, 4096), cscd(&mut client, 3, 512)];
    let segment = |source, destination, blocks, source_block, destination_block| Segment {
        source,
        destination,
        counts_destination: false,
        blocks,
        source_block,
        destination_block,
        at: 0,
    };
    // File to file, file to memory, memory to file, and within a file.
    let segments = vec![
        segment(0, 1, 40_960, 0, 1),
        segment(0, 2, 8192, 40_960, 0),
        segment(2, 1, 8192, 0, 1 + 5120),
        segment(1, 1, 6144, 1, 8193),
    ];
    let list = CopyList { identifier: Some(0xABCD), immediate: false, cscds, segments };
    copy(&mut client, 3, Form::Lid4, &list);
    let status = results(&mut client, 3, 0x05, 0xABCD);
    assert_eq!((status[5], &status[24..26]), (0x01, &[0, 4][..]));
    assert_eq!(u64::from_be_bytes(status[16..24].try_into().unwrap()), (20 + 4 + 4 + 24) << 20);
    drop(daemon);
    let copied = std::fs::read(&b).unwrap();
    assert!(copied[4096..][..data.len()] == data);
    assert!(copied[8193 * 4096..][..data.len()] == data);
}

#[test]
fn spc_13_a_copy_that_names_a_disk_of_somebody_else_is_refused_and_logged() {
    let daemon = Daemon::start(LUNETTE, &["ram:1M"]);
    let mut client = session(&daemon, &[1]);
    let mut stranger = cscd(&mut client, 1, 512);
    stranger.designator[15] ^= 1;
    let segment = Segment {
        source: 0,
        destination: 0xFFFF,
        counts_destination: false,
        blocks: 8,
        source_block: 0,
        destination_block: 0,
        at: 0,
    };
    let list = CopyList { identifier: None, immediate: false, cscds: vec![stranger], segments: vec![segment] };
    let bytes = list.encode(Form::Lid1);
    let mut cdb = [0; 16];
    cdb[0] = 0x83;
    cdb[10..14].copy_from_slice(&(bytes.len() as u32).to_be_bytes());
    for _ in 0..3 {
        let answer = client.execute(&Command::writing(&cdb, &bytes));
        assert_eq!(answer.condition(), Some(Condition(0xA, 0x08, 0x04)));
    }
    assert_eq!(daemon.log().matches("a disk that this initiator does not have").count(), 1);
}

#[test]
fn sbc_12_holes_stay_holes() {
    use std::os::unix::fs::MetadataExt;
    let folder = Folder::new();
    let (a, b) = (folder.file("a.img"), folder.file("b.img"));
    let daemon = Daemon::start(LUNETTE, &[&format!("{a},size=64M"), &format!("{b},size=64M")]);
    let mut client = session(&daemon, &[1, 2]);
    let data = content(64 << 10);
    let mut cdb = [0; 16];
    cdb[0] = 0x8a;
    for block in [3u64, 50_000] {
        cdb[2..10].copy_from_slice(&block.to_be_bytes());
        cdb[12] = 0;
        cdb[13] = 128;
        client.good(&Command::writing(&cdb, &data));
    }
    let cscds = vec![cscd(&mut client, 1, 512), cscd(&mut client, 2, 512)];
    let segment = |block: u64| Segment {
        source: 0,
        destination: 1,
        counts_destination: true,
        blocks: 0x8000,
        source_block: block,
        destination_block: block,
        at: 0,
    };
    let segments = (0..4).map(|number| segment(number * 0x8000)).collect();
    copy(&mut client, 1, Form::Lid1, &CopyList { identifier: None, immediate: false, cscds, segments });
    drop(daemon);
    assert!(std::fs::read(&a).unwrap() == std::fs::read(&b).unwrap());
    assert!(std::fs::metadata(&b).unwrap().blocks() * 512 < 1 << 20, "of 64 MiB, 128 KiB were written");
}

#[test]
fn a_copy_in_the_background_is_asked_after_until_it_is_done() {
    let folder = Folder::new();
    let (a, b) = (folder.file("a.img"), folder.file("b.img"));
    let data = content(16 << 20);
    std::fs::write(&a, &data).unwrap();
    let daemon = Daemon::start(LUNETTE, &[&a, &format!("{b},size=16M")]);
    let mut client = session(&daemon, &[1, 2]);
    let with_list = |client: &mut Client, lun: u8, action: u8, identifier: u32, list: &[u8]| {
        let mut cdb = [0; 16];
        (cdb[0], cdb[1]) = (0x83, action);
        cdb[6..10].copy_from_slice(&identifier.to_be_bytes());
        cdb[10..14].copy_from_slice(&(list.len() as u32).to_be_bytes());
        client.good(&Command::writing(&cdb, list).at(lun));
    };
    let ranges = vec![Range { block: 0, blocks: 20_000 }, Range { block: 20_000, blocks: 12_768 }];
    let list =
        Populate { immediate: true, inactivity_timeout: 30, rod_type: Some(token::ACCESS_UPON_REFERENCE), ranges };
    with_list(&mut client, 1, 0x10, 7, &token::encode_populate(&list));
    let information = results(&mut client, 1, 0x07, 7);
    assert_eq!(information.len(), 32 + 4 + 514);
    let list = WriteUsing {
        immediate: true,
        forget: true,
        offset: 0,
        token: information[38..].into(),
        ranges: vec![Range { block: 0, blocks: 32_768 }],
    };
    with_list(&mut client, 2, 0x11, 8, &token::encode_write_using(&list));
    let done = loop {
        let information = results(&mut client, 2, 0x07, 8);
        match information[5] {
            0x12 => std::thread::sleep(std::time::Duration::from_millis(5)),
            state => break (state, u64::from_be_bytes(information[16..24].try_into().unwrap())),
        }
    };
    assert_eq!(done, (0x01, 32_768));
    drop(daemon);
    assert!(std::fs::read(&b).unwrap() == data);
}
