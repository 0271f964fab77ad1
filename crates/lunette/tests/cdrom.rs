//! An image as a CD-ROM (MMC-6): what initiators see of it, its tray, and images that are exchanged under them.

use sim::Daemon;
use sim::daemon::{Folder, TARGET};
use sim::raw::{Client, Command, Condition, Login};
use std::time::{Duration, Instant};

const LUNETTE: &str = env!("CARGO_BIN_EXE_lunette");

const TRAY_OPEN: Condition = Condition(2, 0x3a, 2);
const TRAY_CLOSED: Condition = Condition(2, 0x3a, 1);
const CHANGED: Condition = Condition(6, 0x28, 0);
const EJECT: &[u8] = &[0x1b, 0, 0, 0, 2, 0];
const LOAD: &[u8] = &[0x1b, 0, 0, 0, 3, 0];

fn session(daemon: &Daemon, isid: u8) -> Client {
    let mut client = daemon.connect();
    client.login(&Login::normal(TARGET).isid(isid));
    client.take_attentions();
    client
}

fn condition(client: &mut Client, cdb: &[u8]) -> Option<Condition> {
    client.execute(&Command::cdb(cdb)).condition()
}

/// READ (10) of one block of 2,048 bytes.
fn read(lba: u8) -> Command {
    Command::reading(&[0x28, 0, 0, 0, 0, lba, 0, 0, 1, 0], 2048)
}

/// READ CAPACITY (10): the number of blocks.
fn blocks(client: &mut Client) -> u32 {
    let capacity = client.good(&Command::reading(&[0x25, 0, 0, 0, 0, 0, 0, 0, 0, 0], 8));
    assert_eq!(capacity[4..], [0, 0, 8, 0]);
    u32::from_be_bytes(capacity[..4].try_into().unwrap()) + 1
}

/// Polls for a media event: its code, and the status of the tray.
fn event(client: &mut Client) -> (u8, u8) {
    let data = client.good(&Command::reading(&[0x4a, 1, 0, 0, 0x10, 0, 0, 0, 8, 0], 8));
    (data[4], data[5])
}

/// Asks the daemon to look, and waits until it has said this.
fn look(daemon: &Daemon, said: &str) {
    let before = daemon.log().matches(said).count();
    daemon.signal("USR1");
    let end = Instant::now() + Duration::from_secs(20);
    while daemon.log().matches(said).count() == before {
        assert!(Instant::now() < end, "it does not say: {said}\n{}", daemon.log());
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn spc_01_an_image_beside_a_disk_is_a_cd_rom() {
    let folder = Folder::new();
    let (image, disk) = (folder.file("installer.iso"), folder.file("disk.img"));
    std::fs::write(&image, [vec![1; 2048], vec![2; 2048], vec![3; 100]].concat()).unwrap();
    let hybrid = folder.file("hybrid.iso");
    std::fs::write(&hybrid, [4; 4096]).unwrap();
    let stores = [&format!("{disk},size=1M"), &image, &format!("{hybrid},type=disk,lun=9")];
    let daemon = Daemon::start(LUNETTE, &stores.map(String::as_str));
    assert!(daemon.log().contains("(file, CD-ROM)"), "{}", daemon.log());
    let mut client = session(&daemon, 1);
    let inquiry = client.good(&Command::inquiry(None).at(2));
    assert_eq!((inquiry[0], inquiry[1], &inquiry[16..32]), (0x05, 0x80, &b"CD-ROM          "[..]));
    assert_eq!(client.good(&Command::inquiry(Some(0)).at(2)), [5, 0, 0, 6, 0, 0x80, 0x83, 0x86, 0x87, 0x88]);
    assert_eq!(client.execute(&Command::inquiry(Some(0xb0)).at(2)).condition(), Some(Condition(5, 0x24, 0)));
    for disk in [1, 9] {
        assert_eq!(client.good(&Command::inquiry(None).at(disk))[0], 0x00);
    }
    assert_eq!(client.execute(&Command::test_unit_ready().at(2)).condition(), Some(Condition(6, 0x29, 0)));
    assert_eq!(client.good(&read(0).at(2)), [1; 2048]);
    let last = client.good(&read(2).at(2));
    assert_eq!((&last[..100], &last[100..]), (&[3; 100][..], &[0; 1948][..]), "filled up with zeros");
    let toc = Command::reading(&[0x43, 0, 0, 0, 0, 0, 0, 0, 20, 0], 20).at(2);
    assert_eq!(client.good(&toc), [0, 18, 1, 1, 0, 0x14, 1, 0, 0, 0, 0, 0, 0, 0x14, 0xaa, 0, 0, 0, 0, 3]);
    let profile = client.good(&Command::reading(&[0x46, 0, 0, 0, 0, 0, 0, 0, 8, 0], 8).at(2));
    assert_eq!(profile[6..], [0, 8]);
    let write = Command::writing(&[0x2a, 0, 0, 0, 0, 0, 0, 0, 1, 0], &[0; 2048]).at(2);
    assert_eq!(client.execute(&write).condition(), Some(Condition(5, 0x20, 0)));
}

#[test]
fn spc_14_a_cd_is_ejected_and_loaded_while_others_are_logged_in() {
    let folder = Folder::new();
    let image = folder.file("a.iso");
    std::fs::write(&image, vec![1; 65536]).unwrap();
    let daemon = Daemon::start(LUNETTE, &[&image]);
    let (mut one, mut other) = (session(&daemon, 1), session(&daemon, 2));
    other.good(&Command::cdb(&[0x1e, 0, 0, 0, 1, 0]));
    assert_eq!(condition(&mut one, EJECT), Some(Condition(5, 0x53, 2)));
    other.logout();
    drop(other);
    // The prevention ends with its nexus.
    let end = Instant::now() + Duration::from_secs(10);
    while condition(&mut one, EJECT).is_some() {
        assert!(Instant::now() < end, "still prevented");
        std::thread::sleep(Duration::from_millis(20));
    }
    let mut other = daemon.connect();
    other.login(&Login::normal(TARGET).isid(2));
    while matches!(other.execute(&Command::test_unit_ready()).condition(), Some(Condition(6, ..))) {}
    for client in [&mut one, &mut other] {
        assert_eq!(condition(client, &[0; 6]), Some(TRAY_OPEN));
        assert_eq!(client.execute(&read(0)).condition(), Some(TRAY_OPEN));
    }
    assert_eq!(event(&mut one), (3, 1));
    one.good(&Command::cdb(LOAD));
    for client in [&mut one, &mut other] {
        assert_eq!(event(client), (2, 2));
        assert_eq!(client.execute(&read(0)).condition(), Some(CHANGED));
        assert_eq!(client.good(&read(31)), [1; 2048]);
    }
}

#[test]
fn spc_14_another_image_at_the_path_is_put_in_and_held_back_while_the_tray_is_locked() {
    let folder = Folder::new();
    let (image, other) = (folder.file("a.iso"), folder.file("b"));
    std::fs::write(&image, vec![1; 8192]).unwrap();
    let daemon = Daemon::start_with(LUNETTE, &[&image], &["--threads", "2"], &[]);
    let (mut one, mut two) = (session(&daemon, 1), session(&daemon, 2));
    let identity = one.good(&Command::inquiry(Some(0x83)));
    one.good(&Command::cdb(&[0x1e, 0, 0, 0, 1, 0]));
    std::fs::write(&other, vec![2; 4096]).unwrap();
    std::fs::rename(&other, &image).unwrap();
    look(&daemon, "locked the drive");
    for client in [&mut one, &mut two] {
        assert_eq!((client.good(&read(3)), blocks(client)), (vec![1; 2048], 4));
    }
    one.good(&Command::cdb(&[0x1e, 0, 0, 0, 0, 0]));
    look(&daemon, "another medium is in the drive");
    assert_eq!(daemon.log().matches("locked the drive").count(), 1);
    for client in [&mut one, &mut two] {
        assert_eq!(event(client), (2, 2));
        assert_eq!(client.execute(&read(0)).condition(), Some(CHANGED));
        assert_eq!((client.good(&read(1)), blocks(client)), (vec![2; 2048], 2));
        assert_eq!(client.execute(&read(2)).condition(), Some(Condition(5, 0x21, 0)));
    }
    std::fs::remove_file(&image).unwrap();
    look(&daemon, "the drive is empty");
    for client in [&mut one, &mut two] {
        assert_eq!((condition(client, &[0; 6]), event(client)), (Some(TRAY_CLOSED), (3, 0)));
        assert_eq!(client.execute(&read(0)).condition(), Some(TRAY_CLOSED));
    }
    let elsewhere = folder.file("c");
    std::fs::write(&elsewhere, vec![3; 6144]).unwrap();
    std::os::unix::fs::symlink(&elsewhere, &image).unwrap();
    look(&daemon, "another medium is in the drive");
    for client in [&mut one, &mut two] {
        assert_eq!(condition(client, &[0; 6]), Some(CHANGED));
        assert_eq!((client.good(&read(2)), blocks(client)), (vec![3; 2048], 3));
    }
    assert!(one.good(&Command::inquiry(Some(0x83))) == identity, "another disc, the same drive");
}

#[test]
fn what_is_read_changes_only_behind_a_unit_attention() {
    let folder = Folder::new();
    let (image, next) = (folder.file("a.iso"), folder.file("next"));
    std::fs::write(&image, vec![0; 2048 * 64]).unwrap();
    let daemon = Daemon::start_with(LUNETTE, &[&image], &["--threads", "2"], &[]);
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        for isid in 1..=3 {
            let (daemon, stop) = (&daemon, &stop);
            scope.spawn(move || {
                let mut client = session(daemon, isid);
                // What the disc was when it was last looked at; it is another one, or not, after a unit attention.
                let (mut disc, mut discs) = (None, 0);
                while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                    let answer = client.execute(&Command::reading(&[0x28, 0, 0, 0, 0, 0, 0, 0, 32, 0], 65536));
                    match answer.condition() {
                        Some(CHANGED) => (disc, discs) = (None, discs + 1),
                        // The moment between two discs.
                        Some(TRAY_CLOSED) => {}
                        Some(other) => panic!("{other:?}"),
                        None => {
                            let first = answer.data[0];
                            assert!(answer.data.iter().all(|byte| *byte == first), "two discs in one answer");
                            assert_eq!(*disc.get_or_insert(first), first, "another disc, and nobody tells");
                        }
                    }
                }
                assert!(discs > 10, "{discs}");
            });
        }
        for disc in 1..=40u8 {
            std::fs::write(&next, vec![disc; 2048 * 64]).unwrap();
            std::fs::rename(&next, &image).unwrap();
            look(&daemon, "another medium is in the drive");
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
    });
}
