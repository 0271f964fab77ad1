//! A remote disk served on: I/O through both targets, and what of it goes wrong.

use super::help::{LUNETTE, url};
use sim::Daemon;
use sim::daemon::{TARGET, free_address};
use sim::raw::{Client, Command, Login};
use std::process::{Command as Process, Stdio};

fn client(daemon: &Daemon) -> Client {
    let mut client = daemon.connect();
    client.login(&Login::normal(TARGET));
    client.take_attentions();
    client
}

#[test]
fn what_is_written_through_the_second_target_is_there_at_the_first() {
    let first = Daemon::start(LUNETTE, &["ram:64M"]);
    let second = Daemon::start_with(LUNETTE, &[&url(first.address(), 1)], &["--threads", "2"], &[]);
    let (mut near, mut far) = (client(&first), client(&second));
    for lba in 0..64u32 {
        far.good(&Command::write(lba * 8, &[lba as u8; 4096]));
    }
    for lba in 0..64u32 {
        assert_eq!(near.good(&Command::read(lba * 8, 8)), [lba as u8; 4096]);
        assert_eq!(far.good(&Command::read(lba * 8, 8)), [lba as u8; 4096]);
    }
    near.good(&Command::write(0, &[0xee; 512]));
    assert_eq!(far.good(&Command::read(0, 1)), [0xee; 512]);
    // UNMAP reaches the medium behind both.
    let mut list = vec![0; 24];
    (list[1], list[3], list[19]) = (22, 16, 128);
    far.good(&Command::writing(&[0x42, 0, 0, 0, 0, 0, 0, 0, 24, 0], &list));
    assert_eq!(near.good(&Command::read(0, 8)), [0; 4096]);
    let log = second.log();
    assert!(log.contains(&url(first.address(), 1)), "{log}");
}

#[test]
fn a_served_disk_keeps_its_identity_and_the_targets_may_come_and_go() {
    let mut first = Daemon::start(LUNETTE, &["ram:1M"]);
    let address = url(first.address(), 1);
    let mut second = Daemon::start(LUNETTE, &[&address]);
    let inquiry = |daemon: &Daemon| client(daemon).good(&Command::inquiry(Some(0x83)));
    let before = inquiry(&second);
    assert_ne!(before, inquiry(&first), "a disk of its own");
    assert!(second.terminate().success());
    second.restart();
    assert_eq!(inquiry(&second), before);
    // Behind it the target restarts: memory is known by its number, and its content is new.
    first.kill();
    first.restart();
    let mut far = client(&second);
    far.good(&Command::write(0, &[3; 512]));
    assert_eq!(far.good(&Command::read(0, 1)), [3; 512]);
}

#[test]
fn secrets_come_by_file_or_environment_and_are_seen_nowhere() {
    let secret = "a-secret-of-alice";
    let chap = ["--chap", "alice"];
    let first = Daemon::start_with(LUNETTE, &["ram:1M"], &chap, &[("LUNETTE_CHAP_SECRET", secret)]);
    let place = format!("iscsi://alice@{}/{TARGET}/1", first.address());
    // The second asks its own initiators for another secret.
    let environment = [("LIBISCSI_CHAP_PASSWORD", secret), ("LUNETTE_CHAP_SECRET", "a-secret-of-bobs-own")];
    let second = Daemon::start_with(LUNETTE, &[&place], &["--chap", "bob"], &environment);
    let words = std::fs::read(format!("/proc/{}/cmdline", second.process_id())).unwrap();
    let words = String::from_utf8_lossy(&words);
    assert!(words.contains("alice@") && !words.contains(secret), "{words}");
    assert!(!second.log().contains(secret));
    // By a file; and without either it is one line.
    let folder = sim::daemon::Folder::new();
    let path = folder.file("alice.secret");
    std::fs::write(&path, format!("{secret}\n")).unwrap();
    std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let third = Daemon::start(LUNETTE, &[&format!("{place}?secret_file={path}")]);
    client(&third).good(&Command::write(0, &[1; 512]));
    let line = refused(&place);
    assert!(line.contains("there is no secret of alice") && line.contains("LIBISCSI_CHAP_PASSWORD"), "{line}");
}

/// The one line of a daemon that cannot serve this.
fn refused(store: &str) -> String {
    let folder = sim::daemon::Folder::new();
    let words = ["serve", store, "--listen", "127.0.0.1:0", "--state-dir", &folder.file("state")];
    let ended = Process::new(LUNETTE).args(words).stdin(Stdio::null()).output().unwrap();
    assert_eq!(ended.status.code(), Some(2), "{ended:?}");
    let text = String::from_utf8(ended.stderr).unwrap();
    let line = text.lines().find(|line| line.starts_with("lunette: ")).unwrap_or_else(|| panic!("{text}"));
    line.to_owned()
}

#[test]
fn a_configuration_file_names_remote_disks_like_others() {
    let first = Daemon::start(LUNETTE, &["ram:2M"]);
    let text = format!(
        "[daemon]\nstate-dir = \"FOLDER/state\"\n[[portal]]\nlisten = \"127.0.0.1:0\"\n[[target]]\nname = \"{TARGET}\"\n\
         [[target.lun]]\nstore = \"{0},path={0},policy=round-robin\"\n[[target.lun]]\nstore = \"ram:1M\"\n\
         [[target.rule]]\ninitiators = \"any\"\n",
        url(first.address(), 1)
    );
    let second = Daemon::configured(LUNETTE, &text);
    let mut far = client(&second);
    far.good(&Command::write(4095, &[5; 512]));
    assert_eq!(client(&first).good(&Command::read(4095, 1)), [5; 512]);
}

#[test]
fn the_end_does_not_wait_for_a_disk_that_is_gone() {
    let mut first = Daemon::start(LUNETTE, &["ram:1M"]);
    let mut second = Daemon::start(LUNETTE, &[&url(first.address(), 1)]);
    client(&second).good(&Command::write(0, &[1; 512]));
    first.kill();
    let begun = std::time::Instant::now();
    assert_eq!(second.terminate().code(), Some(1));
    assert!(begun.elapsed().as_secs() < 19, "{:?}", begun.elapsed());
    assert!(second.log().contains("no answer within 10 s; what was written last may be lost"), "{}", second.log());
}

#[test]
fn what_cannot_be_reached_is_one_line_and_exit_code_2() {
    let daemon = Daemon::start(LUNETTE, &["ram:1M"]);
    let at = daemon.address();
    let nobody = free_address();
    for (store, says) in [
        (url(nobody, 1), "refused"),
        (url(at, 9), "no unit of this number"),
        (format!("iscsi://{at}/iqn.2026-01.org.example:other/1"), "no such target"),
        (format!("iscsi://{at}/{TARGET}"), "target and LUN are needed"),
        (format!("{},path={}", url(nobody, 1), url(nobody, 1)), "no path leads there"),
        (format!("{}?force_usn=4711", url(at, 1)), "another disk is not taken"),
    ] {
        let line = refused(&store);
        assert!(line.contains(says), "{store}: {line}");
    }
}
