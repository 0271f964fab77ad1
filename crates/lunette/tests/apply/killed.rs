//! SIGKILL at random points of a change, and of writing reservations: what is there afterwards is whole.

use crate::LUNETTE;
use sim::raw::{Client, Command, Login};
use sim::{Daemon, Random};
use std::path::PathBuf;
use std::time::Duration;

/// Rounds of each test. Each restarts the daemon.
const ROUNDS: u32 = 12;

fn name(number: u64) -> String {
    format!("iqn.2026-01.org.example:t{number}")
}

/// A file with so many targets, whose disks have so many MiB.
fn document(portal: &str, folder: &str, targets: u64, mib: u64) -> String {
    let mut text =
        format!("[daemon]\nstate-dir = \"{folder}/state\"\nthreads = 1\n[[portal]]\nlisten = \"{portal}\"\n");
    for number in 1..=targets {
        text += &format!(
            "[[target]]\nname = \"{}\"\n[[target.lun]]\nstore = \"{folder}/{number}.img\"\nsize = \"{mib}M\"\n[[target.rule]]\n\
             initiators = \"any\"\n",
            name(number)
        );
    }
    text
}

/// The targets that are there, and the size of the disk of each, in MiB.
fn served(daemon: &Daemon) -> Vec<(String, u64)> {
    let mut client = daemon.connect();
    client.login(&Login::discovery());
    let answer = String::from_utf8(client.text(b"SendTargets=All\0")).unwrap();
    let names = answer.split('\0').filter_map(|line| line.strip_prefix("TargetName="));
    names
        .map(|name| {
            let mut client = daemon.connect();
            client.login(&Login::normal(name));
            client.take_attentions();
            let data = client.good(&Command::read_capacity());
            let blocks = u64::from_be_bytes(data[..8].try_into().unwrap()) + 1;
            (name.to_owned(), (blocks * 512) >> 20)
        })
        .collect()
}

#[test]
fn a_daemon_that_is_killed_in_a_change_serves_what_its_file_says() {
    let mut random = Random::new(7);
    let mut daemon = Daemon::configured(LUNETTE, &document("127.0.0.1:0", "FOLDER", 1, 1));
    let folder = daemon.control().parent().unwrap().parent().unwrap().to_owned();
    let (file, portal) = (folder.join("lunette.toml"), daemon.address().to_string());
    for round in 0..ROUNDS {
        let (targets, mib) = (1 + random.below(4), 1 + random.below(3));
        let text = document(&portal, &folder.display().to_string(), targets, mib);
        let beside: PathBuf = folder.join("edited");
        std::fs::write(&beside, &text).unwrap();
        std::fs::rename(&beside, &file).unwrap();
        daemon.signal("HUP");
        std::thread::sleep(Duration::from_micros(random.below(40_000)));
        daemon.kill();
        daemon.restart();
        let wanted: Vec<_> = (1..=targets).map(|number| (name(number), mib)).collect();
        assert_eq!(served(&daemon), wanted, "round {round}");
        assert_eq!(std::fs::read_to_string(&file).unwrap(), text);
    }
}

#[test]
fn a_daemon_that_is_killed_while_a_command_changes_it_has_the_old_file_or_the_new_one() {
    let mut random = Random::new(13);
    let mut daemon = Daemon::configured(LUNETTE, &document("127.0.0.1:0", "FOLDER", 1, 1));
    let folder = daemon.control().parent().unwrap().parent().unwrap().to_owned();
    let (file, portal) = (folder.join("lunette.toml"), daemon.address().to_string());
    // What the test's daemon was started with says port 0, which is as good.
    let mut now = document(&portal, &folder.display().to_string(), 1, 1);
    std::fs::write(&file, &now).unwrap();
    let mut outcomes = [0, 0];
    let mut last = (1, 1);
    for round in 0..ROUNDS {
        let wish = (1 + random.below(4), 1 + random.below(3));
        let text = document(&portal, &folder.display().to_string(), wish.0, wish.1);
        let beside = folder.join("wanted.toml");
        std::fs::write(&beside, &text).unwrap();
        let control = daemon.control();
        let command = std::process::Command::new(LUNETTE)
            .args(["apply", "--force", "--control"])
            .arg(&control)
            .arg(&beside)
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .spawn();
        std::thread::sleep(Duration::from_micros(random.below(60_000)));
        daemon.kill();
        let done = command.unwrap().wait().unwrap().success();
        daemon.restart();
        let found = std::fs::read_to_string(&file).unwrap();
        assert!(found == now || found == text, "round {round}: {found}");
        assert!(!done || found == text, "round {round}: it was said to be done");
        if found == text {
            (now, last) = (text, wish);
        }
        outcomes[usize::from(found == now && last == wish)] += 1;
        let wanted: Vec<_> = (1..=last.0).map(|number| (name(number), last.1)).collect();
        assert_eq!(served(&daemon), wanted, "round {round}");
    }
    println!("{} stayed as they were, {} were changed", outcomes[0], outcomes[1]);
}

/// PERSISTENT RESERVE OUT, REGISTER AND IGNORE EXISTING KEY with APTPL.
fn register(key: u64) -> Command {
    let mut list = [0; 24];
    list[8..16].copy_from_slice(&key.to_be_bytes());
    list[20] = 1;
    Command::writing(&[0x5f, 0x06, 0, 0, 0, 0, 0, 0, 24, 0], &list)
}

/// PERSISTENT RESERVE IN, READ KEYS.
fn keys(client: &mut Client) -> Vec<u64> {
    let data = client.good(&Command::reading(&[0x5e, 0, 0, 0, 0, 0, 0, 2, 0, 0], 512));
    data[8..].chunks_exact(8).map(|key| u64::from_be_bytes(key.try_into().unwrap())).collect()
}

#[test]
fn prs_09_a_daemon_that_is_killed_while_it_saves_reservations_has_the_old_ones_or_the_new_ones() {
    let mut random = Random::new(11);
    let mut daemon = Daemon::configured(LUNETTE, &document("127.0.0.1:0", "FOLDER", 1, 1));
    let mut last = 0;
    for round in 0..ROUNDS {
        let mut client = daemon.connect();
        client.login(&Login::normal(&name(1)));
        client.take_attentions();
        for _ in 0..random.below(6) {
            last += 1;
            client.good(&register(last));
        }
        // One that nobody has heard the end of.
        client.start(&register(last + 1));
        std::thread::sleep(Duration::from_micros(random.below(3_000)));
        daemon.kill();
        daemon.restart();
        let mut client = daemon.connect();
        client.login(&Login::normal(&name(1)));
        client.take_attentions();
        let found = keys(&mut client);
        let key = match found[..] {
            [] => 0,
            [key] => key,
            _ => panic!("round {round}: {found:?}"),
        };
        assert!(key == last || key == last + 1, "round {round}: {key} after {last}");
        assert!(!daemon.log().contains("damaged"), "{}", daemon.log());
        last = key.max(last);
    }
}
