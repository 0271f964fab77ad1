//! The disk as initiators see it: who it is, what it can, what it refuses (SPC-5, SBC-4).

use sim::Daemon;
use sim::daemon::{Folder, TARGET};
use sim::raw::{Client, Command, Condition, Login};

const LUNETTE: &str = env!("CARGO_BIN_EXE_lunette");

fn session(daemon: &Daemon, isid: u8) -> Client {
    let mut client = daemon.connect();
    client.login(&Login::normal(TARGET).isid(isid));
    client.take_attentions();
    client
}

fn number(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0, |number, byte| number << 8 | u64::from(*byte))
}

#[test]
fn spc_02_designators_stay_over_restarts_and_changes_of_name() {
    let folder = Folder::new();
    let (file, state) = (folder.file("disk.img"), folder.file("state"));
    let mut seen = Vec::new();
    for store in [format!("{file},size=1M"), file.clone(), format!("{file},lun=1")] {
        let daemon = Daemon::start_with(LUNETTE, &[&store], &["--state-dir", &state], &[]);
        let mut client = session(&daemon, 1);
        let page = client.good(&Command::inquiry(Some(0x83)));
        let serial = client.good(&Command::inquiry(Some(0x80)));
        // The unit's designators stand in front of the port's.
        seen.push((page[..4 + 4 + 16].to_vec(), serial));
    }
    assert!(seen.windows(2).all(|pair| pair[0] == pair[1]));
    assert_eq!(seen[0].0[4..8], [1, 3, 0, 16], "an NAA of 16 bytes");
}

#[test]
fn sbc_01_blocks_of_both_lengths_and_their_facts() {
    let daemon = Daemon::start(LUNETTE, &["ram:16M", "ram:16M,block=4096"]);
    let mut client = session(&daemon, 1);
    for (lun, block, blocks) in [(1u8, 512u64, 32768u64), (2, 4096, 4096)] {
        while client.execute(&Command::test_unit_ready().at(lun)).condition().is_some() {}
        let capacity = client.good(&Command::read_capacity().at(lun));
        assert_eq!((number(&capacity[..8]), number(&capacity[8..12])), (blocks - 1, block));
        assert_eq!(capacity[14] & 0xc0, 0xc0, "thin, and unmapped blocks read as zeros");
        let data = vec![lun; block as usize * 2];
        let mut cdb = [0u8; 16];
        cdb[0] = 0x8a;
        cdb[9] = 5;
        cdb[13] = 2;
        client.good(&Command::writing(&cdb, &data).at(lun));
        cdb[0] = 0x88;
        assert!(client.good(&Command::reading(&cdb, data.len() as u32).at(lun)) == data);
    }
}

#[test]
fn spc_09_every_reported_command_is_there_and_no_other() {
    let daemon = Daemon::start(LUNETTE, &["ram:16M"]);
    let mut client = session(&daemon, 1);
    let list = client.good(&Command::reading(&[0xa3, 0x0c, 0, 0, 0, 0, 0, 0, 0x40, 0, 0, 0], 16384));
    let reported: Vec<u8> = list[4..].chunks(8).map(|descriptor| descriptor[0]).collect();
    for must in [0x00, 0x03, 0x12, 0x1a, 0x28, 0x2a, 0x35, 0x41, 0x42, 0x5e, 0x88, 0x89, 0x8a, 0x93, 0x9e, 0xa0, 0xa3] {
        assert!(reported.contains(&must), "{must:02x}");
    }
    for opcode in 0..=255u8 {
        let mut cdb = [0; 16];
        cdb[0] = opcode;
        let condition = client.execute(&Command::reading(&cdb, 4096)).condition();
        let unknown = condition == Some(Condition(5, 0x20, 0));
        assert_eq!(unknown, !reported.contains(&opcode), "{opcode:02x}: {condition:?}");
        // START STOP UNIT of zeros stops the unit.
        client.execute(&Command::cdb(&[0x1b, 0, 0, 0, 1, 0]));
        client.take_attentions();
    }
}

#[test]
fn prs_04_prs_09_a_reservation_keeps_others_from_writing_and_survives_a_restart() {
    let folder = Folder::new();
    let store = format!("{},size=1M", folder.file("disk.img"));
    let mut daemon = Daemon::start(LUNETTE, &[&store]);
    let reserve_out = |action: u8, kind: u8, key: u64, new: u64, aptpl: u8| {
        let mut list = [key.to_be_bytes(), new.to_be_bytes()].concat();
        list.extend([0, 0, 0, 0, aptpl, 0, 0, 0]);
        Command::writing(&[0x5f, action, kind, 0, 0, 0, 0, 0, 24, 0], &list)
    };
    let mut holder = session(&daemon, 1);
    holder.good(&reserve_out(0, 0, 0, 0xabc, 1));
    holder.good(&reserve_out(1, 1, 0xabc, 0, 0));
    let mut other = session(&daemon, 2);
    let conflict = |client: &mut Client| client.execute(&Command::write(0, &[1; 512])).status;
    assert_eq!(conflict(&mut other), 0x18);
    other.good(&Command::read(0, 1));
    holder.good(&Command::write(0, &[7; 512]));
    drop((holder, other));
    daemon.kill();
    daemon.restart();
    let mut other = session(&daemon, 2);
    assert_eq!(conflict(&mut other), 0x18, "PRS-09: after SIGKILL");
    let mut holder = session(&daemon, 1);
    let keys = holder.good(&Command::reading(&[0x5e, 0, 0, 0, 0, 0, 0, 0, 64, 0], 64));
    assert_eq!(keys[4..16], [0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0x0a, 0xbc]);
    holder.good(&reserve_out(2, 1, 0xabc, 0, 0));
    assert_eq!(conflict(&mut other), 0);
}

#[test]
fn prs_09_a_disk_whose_reservations_are_lost_serves_nobody_until_somebody_replaces_them() {
    let folder = Folder::new();
    let (store, state) = (format!("{},size=1M", folder.file("disk.img")), folder.file("state"));
    let mut daemon = Daemon::start_with(LUNETTE, &[&store], &["--state-dir", &state], &[]);
    let list = |new: u64| [[0; 8], new.to_be_bytes(), [0, 0, 0, 0, 1, 0, 0, 0]].concat();
    let mut client = session(&daemon, 1);
    client.good(&Command::writing(&[0x5f, 0, 0, 0, 0, 0, 0, 0, 24, 0], &list(7)));
    let capabilities = client.good(&Command::reading(&[0x5e, 2, 0, 0, 0, 0, 0, 0, 8, 0], 8));
    assert_eq!(capabilities[2] & 0x80, 0x80, "RLR_C");
    daemon.kill();
    let files = || std::fs::read_dir(&state).unwrap().map(|entry| entry.unwrap().path());
    let kept = files().find(|path| path.extension().is_some_and(|name| name == "reservations")).unwrap();
    let mut torn = std::fs::read(&kept).unwrap();
    torn.pop();
    std::fs::write(&kept, &torn).unwrap();
    daemon.restart();
    let mut client = daemon.connect();
    client.login(&Login::normal(TARGET));
    let lost = Some(Condition(7, 0x44, 1));
    // Power on first.
    assert_eq!(client.execute(&Command::test_unit_ready()).condition(), Some(Condition(6, 0x29, 0)));
    assert_eq!(client.execute(&Command::test_unit_ready()).condition(), lost);
    assert_eq!(client.execute(&Command::reading(&[0x5e, 0, 0, 0, 0, 0, 0, 0, 64, 0], 64)).condition(), lost);
    let sense = client.good(&Command::reading(&[0x03, 0, 0, 0, 18, 0], 18));
    assert_eq!((sense[2], sense[12], sense[13]), (7, 0x44, 1), "REQUEST SENSE says why");
    assert_eq!(client.execute(&Command::read(0, 1)).condition(), lost);
    assert_eq!(client.execute(&Command::writing(&[0x5f, 0, 0, 0, 0, 0, 0, 0, 24, 0], &list(7))).condition(), lost);
    client.good(&Command::inquiry(None));
    assert!(daemon.log().contains("REPLACE LOST RESERVATION"), "{}", daemon.log());
    client.good(&Command::writing(&[0x5f, 8, 1, 0, 0, 0, 0, 0, 24, 0], &list(9)));
    client.good(&Command::write(0, &[1; 512]));
    assert_eq!(session(&daemon, 2).execute(&Command::write(0, &[2; 512])).status, 0x18);
    let aside = files().find(|path| path.extension().is_some_and(|name| name == "damaged-1")).unwrap();
    assert_eq!(std::fs::read(aside).unwrap(), torn, "nothing is thrown away");
    daemon.kill();
    daemon.restart();
    assert_eq!(session(&daemon, 2).execute(&Command::write(0, &[2; 512])).status, 0x18);
}

#[test]
fn spc_05_a_disk_that_has_grown_is_told_to_every_nexus_once() {
    let folder = Folder::new();
    let path = folder.file("disk.img");
    let daemon = Daemon::start(LUNETTE, &[&format!("{path},size=1M")]);
    let mut clients = [session(&daemon, 1), session(&daemon, 2)];
    std::fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(2 << 20).unwrap();
    daemon.signal("USR1");
    let end = std::time::Instant::now() + std::time::Duration::from_secs(20);
    while !daemon.log().contains("the size has changed") {
        assert!(std::time::Instant::now() < end, "{}", daemon.log());
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    for client in &mut clients {
        assert_eq!(client.execute(&Command::write(4000, &[5; 512])).condition(), Some(Condition(6, 0x2a, 9)));
        client.good(&Command::write(4000, &[5; 512]));
        assert_eq!(number(&client.good(&Command::read_capacity())[..8]), 4095);
    }
}

#[test]
fn sbc_09_compare_and_write_changes_all_or_nothing() {
    let daemon = Daemon::start(LUNETTE, &["ram:16M"]);
    let mut client = session(&daemon, 1);
    let swap = |old: u8, new: u8| {
        let mut cdb = [0u8; 16];
        [cdb[0], cdb[9], cdb[13]] = [0x89, 9, 2];
        Command::writing(&cdb, &[vec![old; 1024], vec![new; 1024]].concat())
    };
    client.good(&swap(0, 5));
    let answer = client.execute(&swap(0, 6));
    assert_eq!((answer.condition(), answer.information()), (Some(Condition(0x0e, 0x1d, 0)), Some(0)));
    assert_eq!(client.good(&Command::read(9, 2)), [5; 1024]);
}

#[test]
fn sbc_11_space_is_given_back_and_told() {
    let folder = Folder::new();
    let daemon = Daemon::start(LUNETTE, &[&format!("{},size=8M", folder.file("disk.img"))]);
    let mut client = session(&daemon, 1);
    client.good(&Command::write(0, &[9; 65536]));
    let status = |client: &mut Client| {
        let data = client.good(&Command::reading(&[0x9e, 0x12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 24, 0, 0], 24));
        (number(&data[16..20]), data[20])
    };
    assert_eq!(status(&mut client), (128, 0), "mapped");
    let mut list = vec![0, 22, 0, 16, 0, 0, 0, 0];
    list.extend(0u64.to_be_bytes());
    list.extend(64u32.to_be_bytes());
    list.extend([0; 4]);
    client.good(&Command::writing(&[0x42, 0, 0, 0, 0, 0, 0, 0, 24, 0], &list));
    assert_eq!(status(&mut client), (64, 1), "deallocated");
    assert!(client.good(&Command::read(0, 64)).iter().all(|byte| *byte == 0));
    assert_eq!(client.good(&Command::read(64, 1)), [9; 512]);
}

#[test]
fn spc_08_a_disk_that_is_only_read_says_so_and_writes_nothing() {
    let folder = Folder::new();
    let file = folder.file("disk.img");
    std::fs::write(&file, vec![3; 1 << 20]).unwrap();
    let daemon = Daemon::start(LUNETTE, &[&format!("{file},ro")]);
    let mut client = session(&daemon, 1);
    let mode = client.good(&Command::reading(&[0x1a, 0, 0x3f, 0, 255, 0], 255));
    assert_eq!(mode[2] & 0x80, 0x80, "WP");
    assert_eq!(client.execute(&Command::write(0, &[1; 512])).condition(), Some(Condition(7, 0x27, 0)));
    assert_eq!(client.good(&Command::read(0, 1)), [3; 512]);
    drop(daemon);
    assert_eq!(std::fs::read(file).unwrap(), vec![3; 1 << 20]);
}

#[test]
fn sam_01_lun_0_is_a_controller_and_the_disks_number_from_1() {
    let daemon = Daemon::start(LUNETTE, &["ram:1M", "ram:1M", "ram:1M,lun=300"]);
    let mut client = session(&daemon, 1);
    assert_eq!(client.good(&Command::inquiry(None).at(0))[0], 0x0c);
    let luns = client.good(&Command::reading(&[0xa0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0], 256).at(0));
    let told: Vec<u64> = luns[8..].chunks(8).map(|lun| number(&lun[..2])).collect();
    assert_eq!(told, [0, 1, 2, 0x4000 | 300]);
    assert_eq!(client.good(&Command::inquiry(Some(0x83)).at(0))[..2], [0x0c, 0x83], "the controller has a name");
}

#[test]
fn sbc_16_a_file_that_grows_is_told() {
    let folder = Folder::new();
    let file = folder.file("disk.img");
    let daemon = Daemon::start(LUNETTE, &[&format!("{file},size=1M")]);
    let mut client = session(&daemon, 1);
    std::fs::File::options().write(true).open(&file).unwrap().set_len(2 << 20).unwrap();
    // The daemon looks every ten seconds.
    let end = std::time::Instant::now() + std::time::Duration::from_secs(20);
    loop {
        match client.execute(&Command::test_unit_ready()).condition() {
            Some(condition) => break assert_eq!(condition, Condition(6, 0x2a, 9)),
            None => assert!(std::time::Instant::now() < end, "nobody tells"),
        }
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
    assert_eq!(number(&client.good(&Command::read_capacity())[..8]), 4095);
}
