//! Many at a time: no descriptors left, thousands of connections, sessions that come and go, clients that are
//! slow (reliability.md section 6, F23 to F26).

use crate::siege::{LUNETTE, alone, daemon, door, session, settle, source, struck};
use sim::daemon::TARGET;
use sim::raw::{Client, Command, Login, connect_from};
use sim::{Daemon, Frame};
use std::io::Write;
use std::net::TcpStream;
use std::time::{Duration, Instant};

fn limited(daemon: &Daemon, descriptors: usize) {
    let limit = format!("--nofile={descriptors}:{descriptors}");
    let status =
        std::process::Command::new("prlimit").args(["--pid", &daemon.process_id().to_string(), &limit]).status();
    assert!(status.is_ok_and(|status| status.success()), "prlimit of util-linux is needed");
}

/// Processor time of the daemon so far, in seconds.
fn processor_time(daemon: &Daemon) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", daemon.process_id())).unwrap();
    let fields: Vec<&str> = stat.rsplit_once(") ").unwrap().1.split(' ').collect();
    // utime and stime, in hundredths of a second.
    (fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap()) / 100.0
}

#[test]
fn f23_without_descriptors_accepting_rests_and_comes_back() {
    let _alone = alone();
    let mut daemon = daemon(&[]);
    let mut client = session(&daemon, source(1), &Login::normal(TARGET));
    limited(&daemon, daemon.descriptors().unwrap() + 5);
    let crowd: Vec<_> = (0..60).filter_map(|_| connect_from(source(9), daemon.address()).ok()).collect();
    std::thread::sleep(Duration::from_millis(300));
    let (begun, before) = (Instant::now(), processor_time(&daemon));
    while begun.elapsed() < Duration::from_secs(2) {
        assert!(client.good(&Command::write(7, &[3; 4096])).is_empty(), "those who are there go on");
        std::thread::sleep(Duration::from_millis(50));
    }
    let spent = processor_time(&daemon) - before;
    assert!(spent < 1.0, "it spins: {spent} s of 2 s");
    let said = daemon.log().lines().filter(|line| line.contains("connections wait")).count();
    assert!((1..=5).contains(&said), "told {said} times");
    drop(crowd);
    let end = Instant::now() + Duration::from_secs(10);
    while Client::connect_from(source(2), daemon.address()).try_login(&Login::normal(TARGET).isid(3)).is_err() {
        assert!(Instant::now() < end, "it does not recover");
    }
    assert!(client.good(&Command::read(7, 8)) == [3; 4096]);
    assert!(daemon.is_running());
}

/// As many as the descriptors of this machine allow, up to ten thousand.
#[test]
fn f24_thousands_of_connections_are_cheap_and_nobody_waits() {
    let _alone = alone();
    let daemon = daemon(&["logins=20000", "logins-by-address=20000", "login-time=300s"]);
    let may = rustix::process::getrlimit(rustix::process::Resource::Nofile).current.unwrap_or(1024) as usize;
    let count = (may / 2).saturating_sub(1000).min(10_000);
    println!("{count} connections");
    let first = Frame::new(Login::normal(TARGET).request(0x04, 0), &Login::normal(TARGET).text());
    let first = first.encode(sim::Digests::default());
    let before = daemon.resident_bytes().unwrap();
    let mut crowd: Vec<TcpStream> = Vec::new();
    for at in 0..count {
        let mut stream = connect_from(source(10 + (at % 100) as u8), daemon.address()).unwrap();
        stream.write_all(&first[..[0, 40, first.len()][at % 3]]).unwrap();
        crowd.push(stream);
    }
    let end = Instant::now() + Duration::from_secs(20);
    while (door(&daemon)["at_the_door"].as_u64().unwrap() as usize) < count {
        assert!(Instant::now() < end, "{} at the door", door(&daemon)["at_the_door"]);
    }
    let each = daemon.resident_bytes().unwrap().saturating_sub(before) as usize / count;
    let mut logins: Vec<Duration> = (0..100)
        .map(|_| {
            let begun = Instant::now();
            session(&daemon, source(2), &Login::normal(TARGET)).logout();
            begun.elapsed()
        })
        .collect();
    logins.sort();
    println!("{each} bytes each; a login takes {:?}, at worst {:?}", logins[50], logins[99]);
    assert!(each < 16 << 10, "{each} bytes each");
    assert!(logins[98] < Duration::from_secs(1), "the 99th percentile: {:?}", logins[98]);
    drop(crowd);
    settle(&daemon, 0);
}

#[test]
fn f24_a_thousand_sessions_at_work_are_served_alike() {
    let _alone = alone();
    let daemon = daemon(&["sessions-by-initiator=2000"]);
    let before = daemon.resident_bytes().unwrap();
    let mut sessions: Vec<Client> = (0..1000)
        .map(|number: usize| {
            let mut login = Login::normal(TARGET);
            login.isid[4..].copy_from_slice(&(number as u16).to_be_bytes());
            session(&daemon, source((number % 200) as u8), &login)
        })
        .collect();
    let each = daemon.resident_bytes().unwrap().saturating_sub(before) / 1000;
    println!("{each} bytes for a session");
    assert!(each < 64 << 10, "{each} bytes for a session");
    let mut slowest = Duration::ZERO;
    for round in 0..3u8 {
        let begun = Instant::now();
        let tags: Vec<u32> = sessions
            .iter_mut()
            .enumerate()
            .map(|(number, client)| client.start(&Command::write(number as u32 * 8, &[round ^ number as u8; 4096])))
            .collect();
        for (client, tag) in sessions.iter_mut().zip(tags) {
            assert!(client.finish(tag).is_good());
        }
        slowest = slowest.max(begun.elapsed());
    }
    println!("a command of each of a thousand: {slowest:?} at most");
    for (number, client) in sessions.iter_mut().enumerate() {
        assert!(client.good(&Command::read(number as u32 * 8, 8)) == [2 ^ number as u8; 4096], "session {number}");
    }
    assert!(slowest < Duration::from_secs(20));
    drop(sessions);
    settle(&daemon, 0);
}

/// Scaled down from an hour to seconds: 1,500 logins with work and without, ended well and badly.
#[test]
fn f25_sessions_that_come_and_go_leave_nothing() {
    let _alone = alone();
    let daemon = daemon(&[]);
    let churn = |count: usize| {
        for number in 0..count {
            let mut client = session(&daemon, source(5), &Login::normal(TARGET).isid(number as u8));
            client.good(&Command::write(number as u32 % 100, &[1; 512]));
            match number % 3 {
                0 => client.logout(),
                1 => drop(client),
                _ => {
                    client.hold_data = true;
                    client.start(&Command::write(0, &[1; 4096]).solicited());
                    client.capture = sim::Capture::default();
                }
            }
        }
        settle(&daemon, 0);
    };
    churn(500);
    let (descriptors, resident) = (daemon.descriptors().unwrap(), daemon.resident_bytes().unwrap());
    let log = daemon.log().len();
    churn(1000);
    settle(&daemon, descriptors);
    let grown = daemon.resident_bytes().unwrap().saturating_sub(resident);
    println!("{} KiB more after a thousand; {} bytes of log", grown >> 10, daemon.log().len() - log);
    assert!(grown < 4 << 20, "{grown} bytes more");
    assert!(daemon.log().len() - log < 400 * 1000, "the log grows without bound");
    assert_eq!(door(&daemon)["sessions"], 0);
}

#[test]
fn f26_clients_that_are_slow_hold_up_nobody() {
    let _alone = alone();
    let daemon = daemon(&["login-time=2s", "nop-interval=500ms", "nop-timeout=500ms"]);
    let mut client = session(&daemon, source(1), &Login::normal(TARGET));
    // A PDU now and then, and answers to pings: it lives.
    let mut slow = session(&daemon, source(2), &Login::normal(TARGET).isid(2));
    // And one that says nothing at all after its login.
    let silent = session(&daemon, source(3), &Login::normal(TARGET).isid(3));
    let whole = Frame::new(Login::normal(TARGET).request(0x87, 0), &Login::normal(TARGET).text());
    let whole = whole.encode(sim::Digests::default());
    let mut trickle = connect_from(source(9), daemon.address()).unwrap();
    let begun = Instant::now();
    for byte in whole.iter().take(30) {
        let _ = trickle.write_all(&[*byte]);
        assert!(client.good(&Command::write(7, &[3; 4096])).is_empty());
        slow.expect_silence(Duration::from_millis(100));
    }
    assert!(begun.elapsed() > Duration::from_secs(3));
    assert_eq!(struck(&daemon, "login-time"), 1);
    assert_eq!(struck(&daemon, "nop-timeout"), 1);
    assert!(slow.execute(&Command::test_unit_ready()).is_good());
    assert_eq!(door(&daemon)["sessions"], 2);
    drop(silent);
    assert!(std::path::Path::new(LUNETTE).exists());
}
