//! Faults of processes, networks and systems against the real binary (reliability.md section 6), under
//! one rule: what was acknowledged as stable is there, and nobody else notices.

use sim::daemon::{Folder, TARGET};
use sim::oracle::Shadow;
use sim::proxy::{Action, Direction, Fault, Plan, Proxy};
use sim::raw::{Client, Command, Ended, Login};
use sim::{Daemon, Random};
use std::time::Duration;

const LUNETTE: &str = env!("CARGO_BIN_EXE_lunette");
const BLOCKS: u64 = 2048;

fn file_daemon() -> (Daemon, Folder) {
    let folder = Folder::new();
    let daemon = Daemon::start(LUNETTE, &[&format!("{},size=1M", folder.file("disk.img"))]);
    (daemon, folder)
}

fn judge(daemon: &Daemon, shadow: &mut Shadow) {
    let mut client = daemon.connect();
    client.login(&Login::normal(TARGET));
    client.take_attentions();
    for lba in (0..BLOCKS).step_by(128) {
        let data = client.good(&Command::read(lba as u32, 128));
        shadow.check(lba, &data).unwrap();
    }
    client.logout();
}

/// Writes that are forced to stable storage, until the connection ends.
fn write_until_the_end(
    client: &mut Client,
    shadow: &mut Shadow,
    random: &mut Random,
    mut stop: impl FnMut(u32) -> bool,
) {
    for count in 0.. {
        if stop(count) {
            return;
        }
        let blocks = 1 + random.below(40);
        let lba = random.below(BLOCKS - blocks);
        let (issued, data) = shadow.issue(lba, blocks);
        let tag = client.start(&Command::write(lba as u32, &data).forced());
        match client.try_finish(tag) {
            Ok(answer) if answer.is_good() => shadow.acknowledged(&issued),
            Ok(answer) => panic!("{answer:?}"),
            Err(Ended::Closed | Ended::Silence) => return,
        }
    }
}

#[test]
fn f01_sigkill_under_load_loses_nothing_that_was_stable() {
    let (mut daemon, _folder) = file_daemon();
    let (mut shadow, mut random) = (Shadow::default(), Random::new(1));
    for round in 0..6 {
        let mut client = daemon.connect();
        client.login(&Login::normal(TARGET));
        client.take_attentions();
        write_until_the_end(&mut client, &mut shadow, &mut random, |count| {
            if count == 10 + round * 7 {
                daemon.kill();
            }
            false
        });
        drop(client);
        let took = daemon.restart();
        assert!(took < Duration::from_secs(5), "{took:?}");
        judge(&daemon, &mut shadow);
    }
}

#[test]
fn f02_a_clean_end_under_load_loses_nothing_that_was_acknowledged() {
    let (mut daemon, _folder) = file_daemon();
    let (mut shadow, mut random) = (Shadow::default(), Random::new(2));
    let mut client = daemon.connect();
    client.login(&Login::normal(TARGET));
    client.take_attentions();
    write_until_the_end(&mut client, &mut shadow, &mut random, |count| count == 30);
    assert!(daemon.terminate().success());
    drop(client);
    daemon.restart();
    judge(&daemon, &mut shadow);
}

#[test]
fn f07_resets_cuts_and_stalls_on_the_way_cost_a_connection_at_most() {
    let (daemon, _folder) = file_daemon();
    let (mut shadow, mut random) = (Shadow::default(), Random::new(3));
    for round in 0..24u64 {
        let at = 200 + round * 1777;
        let direction = if round % 2 == 0 { Direction::ToTarget } else { Direction::ToInitiator };
        let at = if direction == Direction::ToInitiator { at / 8 } else { at };
        let action = match round % 4 {
            0 => Action::Close,
            1 => Action::Reset,
            2 => Action::HalfClose,
            _ => Action::Stall(Duration::from_millis(30)),
        };
        let proxy =
            Proxy::start(daemon.address(), vec![Plan { piece_bytes: 300, ..Plan::fault(direction, at, action) }]);
        let mut client = Client::connect(proxy.address());
        if client.try_login(&Login::normal(TARGET)).is_err() {
            continue;
        }
        let mut ready = false;
        for _ in 0..4 {
            let tag = client.start(&Command::test_unit_ready());
            match client.try_finish(tag) {
                Ok(answer) if answer.is_good() => ready = true,
                Ok(_) => {}
                Err(_) => break,
            }
        }
        if ready {
            write_until_the_end(&mut client, &mut shadow, &mut random, |count| count == 20);
        }
        drop(client);
        judge(&daemon, &mut shadow);
    }
}

#[test]
fn f08_bits_that_turn_under_digests_are_seen() {
    let (daemon, _folder) = file_daemon();
    let (mut shadow, mut random) = (Shadow::default(), Random::new(4));
    let mut caught = 0;
    for round in 0..20u64 {
        let at = 1500 + round * 433;
        let fault = Fault { direction: Direction::ToTarget, at, action: Action::Flip((round % 8) as u8) };
        let proxy = Proxy::start(daemon.address(), vec![Plan { faults: vec![fault], ..Plan::default() }]);
        let mut client = Client::connect(proxy.address());
        client.login(&Login::normal(TARGET).digests(true, true).isid(round as u8));
        client.take_attentions();
        for _ in 0..8 {
            let lba = random.below(BLOCKS - 4);
            let (issued, data) = shadow.issue(lba, 4);
            let tag = client.start(&Command::write(lba as u32, &data));
            // A Reject leaves a gap, which this initiator does not fill: it gives the session up.
            match client.try_finish_or_reject(tag) {
                Some(answer) if answer.is_good() => shadow.acknowledged(&issued),
                Some(answer) => panic!("{answer:?}"),
                None => {
                    caught += 1;
                    break;
                }
            }
        }
        drop(client);
        judge(&daemon, &mut shadow);
    }
    assert!(caught >= 15, "only {caught} of 20 flipped bits were noticed");
}

#[test]
fn f23_without_descriptors_those_who_are_there_go_on() {
    let mut daemon = Daemon::start(LUNETTE, &["ram:1M"]);
    let mut client = daemon.connect();
    client.login(&Login::normal(TARGET));
    client.take_attentions();
    let limit = daemon.descriptors().unwrap() + 5;
    let limited = std::process::Command::new("prlimit")
        .args(["--pid", &daemon.process_id().to_string(), &format!("--nofile={limit}:{limit}")])
        .status();
    if !limited.is_ok_and(|status| status.success()) {
        eprintln!("prlimit is missing: nothing was tested");
        return;
    }
    let crowd: Vec<_> = (0..40).filter_map(|_| std::net::TcpStream::connect(daemon.address()).ok()).collect();
    std::thread::sleep(Duration::from_millis(300));
    assert!(client.execute(&Command::test_unit_ready()).is_good());
    drop(crowd);
    let end = std::time::Instant::now() + Duration::from_secs(10);
    loop {
        let mut late = daemon.connect();
        if late.try_login(&Login::normal(TARGET).isid(3)).is_ok() {
            break;
        }
        assert!(std::time::Instant::now() < end, "it does not recover");
    }
    assert!(daemon.is_running());
}

#[test]
fn a_thousand_broken_connections_leave_nothing_behind() {
    let daemon = Daemon::start(LUNETTE, &["ram:1M"]);
    let mut random = Random::new(6);
    for _ in 0..3 {
        drop(daemon.connect().login(&Login::normal(TARGET)));
    }
    std::thread::sleep(Duration::from_millis(300));
    let before = (daemon.descriptors().unwrap(), daemon.resident_bytes().unwrap());
    for round in 0..1000u32 {
        let mut client = daemon.connect();
        match round % 4 {
            0 => client.send_bytes(&(0..random.size(300)).map(|_| random.number() as u8).collect::<Vec<u8>>()),
            1 => drop(client.try_login(&Login::normal("iqn.2026-01.org.example:none"))),
            2 => {
                client.login(&Login::normal(TARGET).isid(round as u8));
                let junk: Vec<u8> = (0..96).map(|_| random.number() as u8).collect();
                client.send_bytes(&junk);
            }
            _ => {
                client.login(&Login::normal(TARGET).isid(round as u8));
                client.start(&Command::write(0, &[1; 512]).expecting(4096));
            }
        }
        client.capture = sim::Capture::default();
    }
    let end = std::time::Instant::now() + Duration::from_secs(20);
    while daemon.descriptors().unwrap() > before.0 + 4 {
        assert!(std::time::Instant::now() < end, "descriptors: {} of {}", daemon.descriptors().unwrap(), before.0);
        std::thread::sleep(Duration::from_millis(50));
    }
    let grown = daemon.resident_bytes().unwrap().saturating_sub(before.1);
    assert!(grown < 24 << 20, "{grown} bytes more than before");
    let mut client = daemon.connect();
    client.login(&Login::normal(TARGET));
    client.take_attentions();
}

#[test]
fn f38_a_defect_that_panics_ends_one_session_and_no_other() {
    let doomed = "iqn.2026-01.org.example:doomed";
    let mut daemon = Daemon::start_with(LUNETTE, &["ram:1M"], &["--threads", "1"], &[("LUNETTE_DEBUG_PANIC", doomed)]);
    let mut bystander = daemon.connect();
    bystander.login(&Login::normal(TARGET));
    bystander.take_attentions();
    bystander.good(&Command::write(0, &[7; 512]));
    for _ in 0..3 {
        let mut client = daemon.connect();
        client.login(&Login::normal(TARGET).initiator(doomed));
        // A write that still waits for its data dies with its session.
        client.hold_data = true;
        client.start(&Command::write(1, &[1; 512]).solicited());
        client.start(&Command::test_unit_ready());
        client.expect_closed();
        assert_eq!(bystander.good(&Command::read(0, 2))[..512], [7; 512], "the same worker goes on");
    }
    assert!(daemon.log().contains("died by a defect"), "{}", daemon.log());
    assert!(daemon.terminate().success());
}

#[test]
fn f22_without_memory_commands_are_refused_and_the_daemon_lives() {
    let mut daemon = Daemon::start_with(LUNETTE, &["ram:64M"], &["--threads", "1"], &[]);
    let mut client = daemon.connect();
    client.login(&Login::normal(TARGET));
    client.take_attentions();
    client.good(&Command::write(0, &[5; 512]));
    let status = std::fs::read_to_string(format!("/proc/{}/status", daemon.process_id())).unwrap();
    let size = status.lines().find_map(|line| line.strip_prefix("VmSize:")).unwrap();
    let size: u64 = size.split_whitespace().next().unwrap().parse().unwrap();
    // Room for small things, and none for the data of these reads.
    let limit = (size << 10) + (6 << 20);
    let limited = std::process::Command::new("prlimit")
        .args(["--pid", &daemon.process_id().to_string(), &format!("--as={limit}:")])
        .status();
    if !limited.is_ok_and(|status| status.success()) {
        eprintln!("prlimit is missing: nothing was tested");
        return;
    }
    let (mut good, mut refused) = (0, 0);
    for _ in 0..8 {
        let mut cdb = [0u8; 16];
        [cdb[0], cdb[12]] = [0x88, 0x40];
        let tag = client.start(&Command::reading(&cdb, 8 << 20));
        // What cannot be had now waits or is refused; what is answered is right.
        client.transport().set_read_timeout(Some(Duration::from_secs(2))).unwrap();
        match client.try_finish(tag) {
            Ok(answer) if answer.is_good() => {
                assert!(answer.data[..512] == [5; 512] && answer.data.len() == 8 << 20);
                good += 1;
            }
            Ok(answer) => {
                assert!([0x08, 0x28, 0x02].contains(&answer.status), "{answer:?}");
                refused += 1;
            }
            Err(_) => {
                client.forget(tag);
                refused += 1;
                break;
            }
        }
    }
    assert!(daemon.is_running(), "{}", daemon.log());
    assert!(good + refused > 0);
    let unlimited = std::process::Command::new("prlimit")
        .args(["--pid", &daemon.process_id().to_string(), "--as=unlimited:"])
        .status();
    assert!(unlimited.unwrap().success());
    let mut again = daemon.connect();
    again.login(&Login::normal(TARGET).isid(9));
    again.take_attentions();
    assert_eq!(again.good(&Command::read(0, 1)), [5; 512]);
}
