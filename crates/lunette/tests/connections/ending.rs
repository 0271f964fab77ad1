//! How connections end and with them, or without them, their session (RFC 7143 §6.3.4, §6.3.5, §11.14).

use crate::help::*;
use iscsi::wire::AsyncMessage;
use sim::Frame;
use sim::daemon::{Daemon, TARGET};
use sim::raw::{Client, Command, Condition, Login, Refused};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

#[test]
fn ses_04_a_connection_is_reinstated_and_the_others_go_on_under_load() {
    let daemon = Daemon::start(LUNETTE, &["ram:16M"]);
    let mut leader = lead(&daemon, 3);
    let mut victim = join(&daemon, &mut leader, 2);
    let mut other = join(&daemon, &mut leader, 3);
    let stop = Arc::new(AtomicBool::new(false));
    let load = {
        let stop = Arc::clone(&stop);
        std::thread::spawn(move || {
            let mut rounds = 0u32;
            while !stop.load(Ordering::Relaxed) {
                let data = blocks(rounds as u8, 128);
                good_anyway(&mut other, &Command::write(1024, &data));
                assert!(good_anyway(&mut other, &Command::read(1024, 128)) == data, "round {rounds}");
                rounds += 1;
            }
            rounds
        })
    };
    for round in 0..30u8 {
        // Commands in flight on the connection that goes: reads whose answers it does not take, a write that
        // waits for its data.
        victim.hold_data = true;
        victim.start(&Command::write(64, &blocks(0xee, 64)).solicited());
        victim.start(&Command::read(0, 512));
        until_acknowledged(&mut victim);
        let again = join(&daemon, &mut leader, 2);
        let mut old = std::mem::replace(&mut victim, again);
        while old.receive().is_ok() {}
        // The tasks of the old connection are no more: their tags can be used again, and nothing is written.
        good_anyway(&mut victim, &Command::write(8, &blocks(round, 8)));
        assert_eq!(good_anyway(&mut leader, &Command::read(8, 8)), blocks(round, 8));
        assert_eq!(leader.good(&Command::read(64, 1)), vec![0; 512], "the write that was replaced");
    }
    stop.store(true, Ordering::Relaxed);
    assert!(load.join().unwrap() > 10, "the third connection went on");
}

#[test]
fn ses_08_the_end_is_told_on_every_connection() {
    let mut daemon = Daemon::start(LUNETTE, &["ram:4M"]);
    let mut leader = lead(&daemon, 3);
    let mut others = [join(&daemon, &mut leader, 2), join(&daemon, &mut leader, 3)];
    let begun = Instant::now();
    assert!(daemon.terminate().success());
    assert!(begun.elapsed() < Duration::from_secs(6), "{:?}", begun.elapsed());
    for client in [&mut leader].into_iter().chain(&mut others) {
        let events: Vec<(u8, u16)> = client
            .expect_closed()
            .iter()
            .map(|frame| frame.view::<AsyncMessage>().expect("an asynchronous message"))
            .map(|message| (message.event, message.parameter_3.get()))
            .collect();
        assert_eq!(events, [(1, 2), (3, 20)], "asked to log out within 2 s, then all connections are dropped");
    }
}

#[test]
fn asy_02_an_initiator_that_logs_out_when_asked_is_not_waited_for() {
    let mut daemon = Daemon::start(LUNETTE, &["ram:4M"]);
    let mut leader = lead(&daemon, 2);
    let mut two = join(&daemon, &mut leader, 2);
    let thread = std::thread::spawn(move || {
        let (message, _) = leader.expect::<AsyncMessage>();
        assert_eq!(message.event, 1);
        assert_eq!(log_out(&mut leader, 0, 1).response, 0);
        leader.expect_closed();
        two.expect_closed();
    });
    let begun = Instant::now();
    assert!(daemon.terminate().success());
    thread.join().unwrap();
    assert!(begun.elapsed() < Duration::from_millis(1500), "{:?}", begun.elapsed());
}

#[test]
fn tmf_08_a_cold_reset_ends_every_connection_of_every_session_and_says_so() {
    let daemon = Daemon::start(LUNETTE, &["ram:4M"]);
    let mut leader = lead(&daemon, 2);
    let mut two = join(&daemon, &mut leader, 2);
    let mut other = daemon.connect();
    other.login(&login(2).isid(9));
    other.take_attentions();
    let mut third = join_as(&daemon, &mut other, 2, 9);
    assert_eq!(two.task_management(7, u32::MAX, 0), 0);
    for client in [&mut leader, &mut two, &mut other, &mut third] {
        let frames = client.expect_closed();
        let last = frames.last().and_then(Frame::view::<AsyncMessage>).expect("a last word");
        assert_eq!(last.event, 3);
    }
    lead(&daemon, 2);
}

#[test]
fn ses_09_at_level_0_nothing_is_kept_of_a_session_whose_connection_is_lost() {
    let daemon = Daemon::start(LUNETTE, &["ram:4M"]);
    let mut leader = lead(&daemon, 3);
    let two = join(&daemon, &mut leader, 2);
    leader.start(&Command::read(0, 8));
    let joining = Login::normal(TARGET).joining(&leader, 3);
    drop(two.socket().shutdown(std::net::Shutdown::Both));
    let frames = leader.expect_closed();
    assert!(frames.len() <= 1, "the session has ended with its second connection: {frames:?}");
    assert_eq!(daemon.connect().try_login(&joining).err(), Some(Refused::Status(2, 10)));
}

#[test]
fn out_03_any_connection_logs_another_one_out() {
    let daemon = Daemon::start(LUNETTE, &["ram:4M"]);
    let mut leader = lead(&daemon, 3);
    for round in 0..10u8 {
        let mut two = join(&daemon, &mut leader, 2);
        let mut three = join(&daemon, &mut leader, 3);
        two.hold_data = true;
        two.start(&Command::write(64, &blocks(0xee, 64)).solicited());
        assert_eq!(log_out(&mut three, 1, 77).response, 1, "no such connection");
        assert_eq!(log_out(&mut three, 1, 2).response, 0);
        while two.receive().is_ok() {}
        let answer = three.execute(&Command::test_unit_ready());
        assert_eq!(answer.condition(), Some(Condition(0x06, 0x47, 0x7f)), "the initiator hears of it, once");
        three.good(&Command::write(8, &blocks(round, 8)));
        assert_eq!(leader.good(&Command::read(8, 8)), blocks(round, 8));
        assert_eq!(leader.good(&Command::read(64, 1)), vec![0; 512]);
        // Its own, and with it nothing but itself.
        assert_eq!(log_out(&mut three, 1, 3).response, 0);
        three.expect_closed();
        leader.good(&Command::test_unit_ready());
    }
    let mut two = join(&daemon, &mut leader, 2);
    assert_eq!(log_out(&mut two, 0, 2).response, 0, "the whole session");
    two.expect_closed();
    leader.expect_closed();
}

#[test]
fn out_03_a_connection_that_reads_nothing_is_logged_out_in_the_middle_of_its_answers() {
    let daemon = Daemon::start(LUNETTE, &["ram:16M"]);
    let mut leader = lead(&daemon, 2);
    for _ in 0..3 {
        let mut victim = join(&daemon, &mut leader, 2);
        for _ in 0..4 {
            victim.start(&Command::read(0, 16_384));
        }
        until_acknowledged(&mut leader);
        std::thread::sleep(Duration::from_millis(50));
        assert_eq!(log_out(&mut leader, 1, 2).response, 0);
        assert!(good_anyway(&mut leader, &Command::read(0, 8)) == vec![0; 4096], "the session goes on");
        while victim.receive().is_ok() {}
    }
}

#[test]
fn f38_a_defect_that_panics_ends_all_connections_of_its_session_and_no_other() {
    let doomed = "iqn.2026-01.org.example:doomed";
    let environment = [("LUNETTE_DEBUG_PANIC", doomed)];
    let daemon = Daemon::start_with(LUNETTE, &["ram:4M"], &["--threads", "1"], &environment);
    let mut bystander = lead(&daemon, 2);
    let before = daemon.descriptors();
    for _ in 0..3 {
        let mut leader = daemon.connect();
        leader.login(&login(3).initiator(doomed));
        let mut others: Vec<Client> = (2..=3)
            .map(|cid| {
                let mut client = daemon.connect();
                client.share(&mut leader, cid);
                client.login(&Login::normal(TARGET).initiator(doomed).joining(&leader, cid));
                client
            })
            .collect();
        others[0].start(&Command::test_unit_ready());
        for client in [&mut leader].into_iter().chain(&mut others) {
            client.expect_closed();
        }
        bystander.good(&Command::test_unit_ready());
        assert_eq!(daemon.descriptors(), before);
    }
    assert!(daemon.log().contains("died by a defect"), "{}", daemon.log());
}
