//! Each bound of the door and of sessions, at it and one above; the others have theirs beside the code that
//! keeps them (`target::door`, `block::buffer`, `iscsi::session`).

use crate::siege::{alone, assert_struck, attacker, daemon, door, is_closed_within, session, settle, source, struck};
use iscsi::wire::{FINAL, IMMEDIATE, Pdu, ReadyToTransfer, Reject, TextRequest};
use sim::daemon::TARGET;
use sim::raw::{Client, Command, Login, Refused, connect_from};
use sim::{Daemon, Frame};
use std::io::Write;
use std::time::{Duration, Instant};

fn login(daemon: &Daemon, number: usize) -> Result<Client, Refused> {
    let mut client = Client::connect_from(source(3), daemon.address());
    let name = format!("iqn.2026-01.org.example:{}", number / 10);
    client.try_login(&Login::normal(TARGET).initiator(&name).isid((number % 10) as u8))?;
    Ok(client)
}

#[test]
fn sessions_in_all_and_of_one_initiator() {
    let _alone = alone();
    let daemon = daemon(&["sessions=3", "sessions-by-initiator=2"]);
    let mut held = vec![login(&daemon, 0).unwrap(), login(&daemon, 1).unwrap()];
    assert_eq!(login(&daemon, 2).err(), Some(Refused::Status(3, 2)), "a third of one initiator");
    held.push(login(&daemon, 10).unwrap());
    assert_eq!(login(&daemon, 20).err(), Some(Refused::Status(3, 2)), "a fourth in all");
    assert_eq!((struck(&daemon, "sessions-by-initiator"), struck(&daemon, "sessions")), (1, 1));
    held.remove(0).logout();
    held.push(login(&daemon, 20).unwrap());
}

#[test]
fn connections_at_the_door() {
    let _alone = alone();
    let daemon = daemon(&["logins=5", "logins-by-address=3"]);
    let enter = |from| connect_from(source(from), daemon.address()).unwrap();
    let at_the_door = |count: u64| {
        let end = Instant::now() + Duration::from_secs(5);
        while door(&daemon)["at_the_door"] != count {
            assert!(Instant::now() < end, "{} at the door", door(&daemon)["at_the_door"]);
            std::thread::sleep(Duration::from_millis(10));
        }
    };
    let mut crowd = vec![enter(5), enter(5), enter(5)];
    at_the_door(3);
    assert_struck(&daemon, "logins-by-address", 0);
    std::thread::sleep(Duration::from_millis(300));
    crowd.push(enter(5));
    assert!(is_closed_within(&mut crowd[0], Duration::from_secs(2)), "the oldest goes");
    assert!(!is_closed_within(&mut crowd[1], Duration::from_millis(50)));
    let mut others = vec![enter(6), enter(7)];
    at_the_door(5);
    assert_eq!((struck(&daemon, "logins-by-address"), struck(&daemon, "logins")), (1, 0));
    std::thread::sleep(Duration::from_millis(300));
    others.push(enter(8));
    assert!(is_closed_within(&mut crowd[1], Duration::from_secs(2)), "the oldest of the crowd, not of all");
    assert_struck(&daemon, "logins", 1);
    drop((crowd, others));
    settle(&daemon, 0);
}

#[test]
fn a_discovery_session_has_its_time() {
    let _alone = alone();
    let daemon = daemon(&["discovery-time=1s"]);
    let mut client = Client::connect_from(source(5), daemon.address());
    client.login(&Login::discovery());
    let begun = Instant::now();
    std::thread::sleep(Duration::from_millis(500));
    assert!(!client.text(b"SendTargets=All\0").is_empty());
    client.expect_closed();
    assert!(begun.elapsed() > Duration::from_millis(900) && begun.elapsed() < Duration::from_secs(5));
    assert_struck(&daemon, "discovery-time", 1);
}

#[test]
fn failures_are_answered_later_and_later_and_only_to_their_address() {
    let _alone = alone();
    let daemon = daemon(&["failure-delay=400ms", "delayed-by-address=1"]);
    let none = Login::normal("iqn.2026-01.org.example:none");
    let time = |from| {
        let begun = Instant::now();
        let refused = Client::connect_from(source(from), daemon.address()).try_login(&none);
        assert_eq!(refused, Err(Refused::Status(2, 3)));
        settle(&daemon, 0);
        begun.elapsed()
    };
    let delays: Vec<_> = (0..14).map(|_| time(5)).collect();
    let free = delays[..10].iter().max().unwrap();
    assert!(delays[10] >= Duration::from_millis(50) && delays[12] >= Duration::from_millis(200), "{delays:?}");
    assert!(delays[13] >= Duration::from_millis(400) && delays[13] < Duration::from_millis(1400), "{delays:?}");
    assert!(time(6) < *free + Duration::from_millis(300), "another address does not wait");
    assert!(struck(&daemon, "failure-delay") >= 1);
    // A success does not wait either.
    let begun = Instant::now();
    session(&daemon, source(5), &Login::normal(TARGET)).logout();
    assert!(begun.elapsed() < Duration::from_millis(350), "{:?}", begun.elapsed());
    // While one waits for its answer, another of the address gets none.
    let begin = || {
        let mut stream = connect_from(source(5), daemon.address()).unwrap();
        let request = Frame::new(none.request(0x87, 0), &none.text()).encode(sim::Digests::default());
        stream.write_all(&request).unwrap();
        stream
    };
    let (mut first, mut second) = (begin(), begin());
    assert!(is_closed_within(&mut second, Duration::from_millis(300)));
    assert!(is_closed_within(&mut first, Duration::from_secs(2)));
    assert_struck(&daemon, "delayed-by-address", 1);
    // And what was refused is remembered, with its reason.
    let refusal = &door(&daemon)["refusals"][0];
    assert_eq!((&refusal["cause"], &refusal["status"]), (&"access".into(), &"0203".into()));
    assert_eq!(refusal["target"], "iqn.2026-01.org.example:none");
    assert!(refusal["why"].as_str().unwrap().contains("no target of this name"), "{refusal}");
    assert!(refusal["peer"].as_str().unwrap().starts_with("127.1.0.5:"), "{refusal}");
}

#[test]
fn log_lines_about_strangers_are_bounded_and_escaped() {
    let _alone = alone();
    let daemon = daemon(&["log-lines-by-address=5", "log-lines=8", "refusals=3"]);
    for round in 0..30 {
        let mut client = Client::connect_from(source(5 + round % 3), daemon.address());
        let key = Login::normal(TARGET).key("SessionType", format!("\x1b[2J\n{round}"));
        assert_eq!(client.try_login(&key), Err(Refused::Status(2, 9)));
    }
    settle(&daemon, 0);
    let log = daemon.log();
    let lines = log.lines().filter(|line| line.contains("login refused")).count();
    // At most eight a second; a second may have turned.
    assert!((8..=24).contains(&lines), "{lines} lines\n{log}");
    assert!(!log.contains("\x1b[2J"), "what a stranger says acts on no terminal");
    assert!(struck(&daemon, "log-lines-by-address") + struck(&daemon, "log-lines") >= 6);
    assert_eq!(door(&daemon)["refusals"].as_array().unwrap().len(), 3);
    assert_struck(&daemon, "refusals", 27);
}

#[test]
fn window_immediate_commands_and_rejects_of_a_session() {
    let _alone = alone();
    let daemon = daemon(&["window=4", "immediate=2", "rejects=3"]);
    let mut client = session(&daemon, source(5), &Login::normal(TARGET));
    client.execute(&Command::test_unit_ready().at(2));
    client.hold_data = true;
    let write = Command::write(0, &[1; 512]).at(2).solicited();
    let first = client.cmd_sn;
    let mut held: Vec<u32> = (0..4).map(|_| client.start(&write)).collect();
    assert_eq!(client.capture.max_cmd_sn().wrapping_sub(first), 3);
    // One more is beyond the window, and is not heard.
    let mut beyond = write.header();
    beyond.initiator_task_tag = client.tag().into();
    beyond.cmd_sn = client.cmd_sn.into();
    client.send(&Frame::new(beyond, &[]));
    let immediate = Command { immediate: true, ..write };
    held.extend([client.start(&immediate), client.start(&immediate)]);
    let third = client.start(&immediate);
    let mut asked = Vec::new();
    let mut rejected = Vec::new();
    while asked.len() + rejected.len() < 7 {
        let frame = client.receive().unwrap();
        match (frame.view::<ReadyToTransfer>(), frame.view::<Reject>()) {
            (Some(ready), _) => asked.push(*ready),
            (_, Some(reject)) => rejected.push(reject.reason),
            _ => panic!("{}", frame.summary()),
        }
    }
    assert_eq!((rejected, asked.len()), (vec![6], 6));
    client.forget(third);
    asked.iter().for_each(|asked| client.answer_ready_to_transfer(asked));
    held.into_iter().for_each(|tag| assert!(client.finish(tag).is_good()));
    assert_eq!((struck(&daemon, "window"), struck(&daemon, "immediate")), (1, 1));
    // Two more Rejects are three in all; the fourth costs the connection.
    let mut bad = TextRequest::empty();
    bad.opcode_byte |= IMMEDIATE;
    bad.flags = FINAL | 0x40;
    bad.initiator_task_tag = 9.into();
    for _ in 0..2 {
        client.send(&Frame::new(bad, &[]));
        client.expect::<Reject>();
    }
    assert_eq!(client.ping(b"open"), b"open");
    client.send(&Frame::new(bad, &[]));
    client.expect_closed();
    assert_struck(&daemon, "rejects", 1);
}

#[test]
fn data_that_does_not_come_or_trickles_costs_the_session() {
    let _alone = alone();
    let daemon = daemon(&["slow-sender=500ms", "nop-interval=0"]);
    let mut client = session(&daemon, source(5), &Login::normal(TARGET));
    client.execute(&Command::test_unit_ready().at(2));
    client.hold_data = true;
    let write = Command::write(0, &[7; 64 << 10]).at(2).solicited();
    // Slow, but by more than 4 KiB in this time: it is waited for.
    let tag = client.start(&write);
    let (asked, _) = client.expect::<ReadyToTransfer>();
    let mut out = iscsi::wire::DataOut::empty();
    out.initiator_task_tag = tag.into();
    out.target_transfer_tag = asked.target_transfer_tag;
    out.lun = asked.lun;
    for (number, offset) in (0..64u32 << 10).step_by(8 << 10).enumerate() {
        std::thread::sleep(Duration::from_millis(200));
        out.data_sn = (number as u32).into();
        out.buffer_offset = offset.into();
        out.flags = if offset == 56 << 10 { FINAL } else { 0 };
        client.send(&Frame::new(out, &[7; 8 << 10]));
    }
    assert!(client.finish(tag).is_good());
    assert_struck(&daemon, "slow-sender", 0);
    // A trickle holds memory that others wait for.
    let tag = client.start(&write);
    let (asked, _) = client.expect::<ReadyToTransfer>();
    out.initiator_task_tag = tag.into();
    out.target_transfer_tag = asked.target_transfer_tag;
    out.lun = asked.lun;
    out.flags = 0;
    let mut stream = client.socket().try_clone().unwrap();
    for number in 0..40u32 {
        out.data_sn = number.into();
        out.buffer_offset = (number * 4).into();
        let _ = stream.write_all(&Frame::new(out, &[7; 4]).encode(sim::Digests::default()));
        std::thread::sleep(Duration::from_millis(50));
    }
    client.expect_closed();
    client.forget(tag);
    client.capture = sim::Capture::default();
    assert_struck(&daemon, "slow-sender", 1);
}

/// F09 too: a client that does not read, and one that reads slowly enough.
#[test]
fn f09_answers_that_are_not_read_cost_the_connection_after_a_bound() {
    let _alone = alone();
    let daemon = daemon(&["slow-reader=1s", "nop-interval=0"]);
    let mut cdb = [0u8; 16];
    [cdb[0], cdb[12]] = [0x88, 0x40];
    let read = Command::reading(&cdb, 8 << 20).at(2);
    let mut client = attacker(&daemon, 0, &Login::normal(TARGET));
    client.execute(&Command::test_unit_ready().at(2));
    let frames: Vec<_> = (0..8).flat_map(|_| client.prepare(&read)).collect();
    client.send_together(&frames);
    let begun = Instant::now();
    // It is closed although its peer's kernel goes on answering; what is in the buffers can still be read.
    while struck(&daemon, "slow-reader") == 0 {
        assert!(begun.elapsed() < Duration::from_secs(10), "it waits without end");
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(begun.elapsed() > Duration::from_millis(900));
    client.capture = sim::Capture::default();
    drop(client);
    settle(&daemon, 0);
}

#[test]
fn memory_at_its_bound_delays_and_loses_nothing() {
    let _alone = alone();
    let daemon = daemon(&["memory=12M", "session-memory=1M"]);
    let mut clients: Vec<_> = (0..6)
        .map(|number| {
            let mut client = attacker(&daemon, number, &Login::normal(TARGET));
            client.execute(&Command::test_unit_ready().at(2));
            client
        })
        .collect();
    // Twelve writes of 2 MiB each at once, far more than there is memory for.
    let data = |number: usize| vec![number as u8 + 1; 2 << 20];
    let tags: Vec<Vec<u32>> = clients
        .iter_mut()
        .enumerate()
        .map(|(number, client)| {
            let write = Command::write(number as u32 * 4096, &data(number)).at(2).solicited();
            (0..12).map(|_| client.start(&write)).collect()
        })
        .collect();
    for (number, (client, tags)) in clients.iter_mut().zip(tags).enumerate() {
        for tag in tags {
            assert!(client.finish(tag).is_good(), "commands wait for memory, and are not refused");
        }
        assert!(client.good(&Command::read(number as u32 * 4096, 4096).at(2)) == data(number));
    }
    assert!(struck(&daemon, "memory") > 0);
}

#[test]
fn sessions_are_told_to_programs_and_to_people() {
    let _alone = alone();
    let daemon = daemon(&[]);
    let mut client = session(&daemon, source(5), &Login::normal(TARGET).isid(7).digests(true, false));
    client.hold_data = true;
    client.execute(&Command::test_unit_ready().at(2));
    client.start(&Command::write(0, &[1; 512]).at(2).solicited());
    client.expect::<ReadyToTransfer>();
    let told = crate::siege::ask(&daemon, "/v1/sessions");
    let session = &told["sessions"][0];
    assert_eq!((&session["target"], &session["isid"]), (&TARGET.into(), &"400000010007".into()), "{told}");
    assert_eq!((&session["commands"], &session["connections"][0]["header_digest"]), (&1.into(), &true.into()));
    let held = |worker: &serde_json::Value| worker["data_bytes"].as_u64().unwrap();
    assert_eq!(told["workers"].as_array().unwrap().iter().map(held).sum::<u64>(), 4096, "the write's memory");
    let output = std::process::Command::new(crate::siege::LUNETTE)
        .args(["status", "--control", &daemon.control().display().to_string()])
        .output()
        .unwrap();
    let shown = String::from_utf8(output.stdout).unwrap();
    let line = format!("iqn.2026-01.org.example:client at {TARGET}");
    assert!(shown.lines().any(|shown| shown.ends_with(&line) && shown.contains("127.1.0.5:")), "{shown}");
    client.capture = sim::Capture::default();
}
