//! Recovery level 2: connections that are lost and sessions that outlive them (RFC 7143 §6.3.4, §6.3.6, §7.1.4.3,
//! §7.2.2, §7.5).

use crate::help::*;
use iscsi::wire::AsyncMessage;
use sim::Frame;
use sim::daemon::{Daemon, TARGET};
use sim::raw::{Client, Command, Condition, Login, Refused};
use std::net::Shutdown;
use std::time::{Duration, Instant};

/// A login at level 2 of a session that may have this many connections and is kept for so many seconds.
pub fn level_2(connections: u32, retain: u32) -> Login {
    login(connections)
        .key("ErrorRecoveryLevel", 2)
        .key("DefaultTime2Wait", 0)
        .key("DefaultTime2Retain", retain)
        .key("InitialR2T", "Yes")
        .key("ImmediateData", "No")
        .key("MaxBurstLength", 8192)
}

pub fn lead_at_level_2(daemon: &Daemon, connections: u32, retain: u32) -> Client {
    let mut client = daemon.connect();
    let answers = client.login(&level_2(connections, retain));
    assert!(answers.contains("ErrorRecoveryLevel=2\n"), "{answers}");
    client.take_attentions();
    client
}

/// The connection is cut; the target notices before this returns.
fn cut(client: &mut Client) {
    let _ = client.socket().shutdown(Shutdown::Write);
    while client.receive().is_ok() {}
}

#[test]
fn tmf_10_tasks_of_a_lost_connection_go_on_at_another() {
    let daemon = Daemon::start(LUNETTE, &["ram:16M"]);
    let mut leader = lead_at_level_2(&daemon, 2, 20);
    let mut lost = join(&daemon, &mut leader, 2);
    for round in 0..10u8 {
        let data = blocks(round, 100);
        leader.good(&Command::write(4096, &data));
        // A write of which no data came yet, one of which some did, and a read.
        lost.hold_data = true;
        let received = lost.exp_stat_sn;
        let unasked = lost.start(&Command::write(64, &blocks(round ^ 0x55, 64)));
        let begun = lost.start(&Command::write(256, &blocks(round ^ 0xaa, 64)));
        let read = lost.start(&Command::read(4096, 100));
        until_taken(&mut lost);
        cut(&mut lost);
        let (message, _) = leader.expect::<AsyncMessage>();
        assert_eq!((message.event, message.parameter_1.get()), (2, 2), "the initiator hears that connection 2 is lost");
        assert_eq!(leader.reassign(&mut lost, read), 3, "it is still allegiant");
        assert_eq!(log_out_for_recovery(&mut leader, 2, received), 0);
        assert_eq!(leader.reassign(&mut lost, 0xdead), 1, "no such task");
        for tag in [read, begun, unasked] {
            assert_eq!(leader.reassign(&mut lost, tag), 0);
        }
        assert!(leader.finish(unasked).is_good() && leader.finish(begun).is_good());
        let answer = leader.finish(read);
        assert!(answer.is_good() && answer.data == data, "round {round}");
        assert!(leader.good(&Command::read(64, 64)) == blocks(round ^ 0x55, 64));
        assert!(leader.good(&Command::read(256, 64)) == blocks(round ^ 0xaa, 64));
        lost = join(&daemon, &mut leader, 2);
    }
}

#[test]
fn tmf_10_a_connection_that_is_logged_out_for_recovery_leaves_its_place_to_another() {
    let daemon = Daemon::start(LUNETTE, &["ram:16M"]);
    let mut leader = lead_at_level_2(&daemon, 2, 20);
    let mut lost = join(&daemon, &mut leader, 2);
    lost.hold_data = true;
    let (received, write) = (lost.exp_stat_sn, lost.start(&Command::write(64, &blocks(9, 64))));
    until_taken(&mut lost);
    cut(&mut lost);
    leader.expect::<AsyncMessage>();
    assert_eq!(try_join(&daemon, &mut leader, 3).err(), Some(Refused::Status(2, 6)), "it may come back");
    assert_eq!(log_out_for_recovery(&mut leader, 2, received), 0);
    let mut third = join(&daemon, &mut leader, 3);
    assert_eq!(third.reassign(&mut lost, write), 0);
    assert!(third.finish(write).is_good());
    assert!(leader.good(&Command::read(64, 64)) == blocks(9, 64));
}

#[test]
fn ses_05_the_only_connection_is_lost_and_comes_back_for_its_tasks() {
    let daemon = Daemon::start(LUNETTE, &["ram:16M"]);
    let mut client = lead_at_level_2(&daemon, 1, 20);
    for round in 0..10u8 {
        client.hold_data = true;
        let write = client.start(&Command::write(64, &blocks(round, 64)));
        let read = client.start(&Command::read(8192, 64));
        until_taken(&mut client);
        if round % 2 == 0 {
            cut(&mut client);
        }
        assert_eq!(
            try_join(&daemon, &mut client, 7).err(),
            Some(Refused::Status(2, 6)),
            "it counts as long as it may be recovered"
        );
        // The login takes the place of the lost connection, which logs it out.
        let mut again = join(&daemon, &mut client, 1);
        while client.receive().is_ok() {}
        assert_eq!((again.reassign(&mut client, read), again.reassign(&mut client, write)), (0, 0));
        assert!(again.finish(write).is_good() && again.finish(read).is_good());
        assert!(again.good(&Command::read(64, 64)) == blocks(round, 64), "the same nexus: no unit attention");
        client = again;
    }
    client.logout();
}

#[test]
fn ses_09_erl_08_a_session_without_connections_is_kept_as_long_as_agreed_and_no_longer() {
    let daemon = Daemon::start(LUNETTE, &["ram:16M"]);
    // Time2Wait is 2 s, whatever less is proposed: 3 s in all.
    let mut client = lead_at_level_2(&daemon, 2, 1);
    client.hold_data = true;
    let write = client.start(&Command::write(64, &blocks(1, 64)));
    until_acknowledged(&mut client);
    cut(&mut client);
    std::thread::sleep(Duration::from_millis(1000));
    let mut again = join(&daemon, &mut client, 1);
    assert_eq!(again.reassign(&mut client, write), 0, "within the window");
    assert!(again.finish(write).is_good());
    again.hold_data = true;
    let write = again.start(&Command::write(64, &blocks(2, 64)));
    until_acknowledged(&mut again);
    cut(&mut again);
    let begun = Instant::now();
    let joining = Login::normal(TARGET).joining(&again, 1);
    while begun.elapsed() < Duration::from_millis(3600) {
        std::thread::sleep(Duration::from_millis(100));
    }
    again.forget(write);
    assert_eq!(daemon.connect().try_login(&joining).err(), Some(Refused::Status(2, 10)), "after the window");
    // The nexus is lost, and what was not written is not written.
    let mut anew = daemon.connect();
    anew.login(&login(1));
    assert_eq!(anew.take_attentions(), [Condition(0x06, 0x29, 0x07)]);
    assert!(anew.good(&Command::read(64, 64)) == blocks(1, 64));
}

#[test]
fn ses_01_a_session_that_waits_for_its_connection_is_reinstated_as_any_other() {
    let daemon = Daemon::start(LUNETTE, &["ram:16M"]);
    let mut client = lead_at_level_2(&daemon, 2, 20);
    client.hold_data = true;
    let write = client.start(&Command::write(64, &blocks(1, 64)));
    until_acknowledged(&mut client);
    cut(&mut client);
    client.forget(write);
    let begun = Instant::now();
    let mut anew = daemon.connect();
    anew.login(&level_2(2, 20));
    assert!(begun.elapsed() < Duration::from_secs(1), "it does not wait for the window");
    assert_eq!(anew.take_attentions(), [Condition(0x06, 0x29, 0x07)]);
    assert!(anew.good(&Command::read(64, 64)) == vec![0; 64 * 512]);
}

#[test]
fn asy_02_a_session_without_connections_holds_up_no_end() {
    let mut daemon = Daemon::start(LUNETTE, &["ram:16M"]);
    let mut client = lead_at_level_2(&daemon, 2, 20);
    client.hold_data = true;
    let write = client.start(&Command::write(64, &blocks(1, 64)));
    until_acknowledged(&mut client);
    cut(&mut client);
    client.forget(write);
    let begun = Instant::now();
    assert!(daemon.terminate().success());
    assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
}

#[test]
fn pdu_09_a_format_error_ends_every_connection_at_level_2_too() {
    let daemon = Daemon::start(LUNETTE, &["ram:16M"]);
    let mut leader = lead_at_level_2(&daemon, 2, 20);
    let mut two = join(&daemon, &mut leader, 2);
    let mut header = Command::write(0, &[0; 512]).header();
    header.flags = 0x01;
    two.send(&Frame::new(header, &[]));
    two.expect_closed();
    leader.expect_closed();
    let joining = Login::normal(TARGET).joining(&leader, 2);
    assert_eq!(daemon.connect().try_login(&joining).err(), Some(Refused::Status(2, 10)));
    lead(&daemon, 2).good(&Command::test_unit_ready());
}

#[test]
fn pl2_04_an_i_t_nexus_reset_drops_every_connection_at_once_whatever_may_be_recovered() {
    let daemon = Daemon::start(LUNETTE, &["ram:16M"]);
    let mut leader = daemon.connect();
    leader.login(&level_2(3, 20).key("iSCSIProtocolLevel", 2));
    leader.take_attentions();
    let mut two = join(&daemon, &mut leader, 2);
    let mut three = join(&daemon, &mut leader, 3);
    cut(&mut three);
    let begun = Instant::now();
    assert_eq!(two.task_management(11, u32::MAX, 0), 0);
    two.expect_closed();
    leader.expect_closed();
    assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
    let joining = Login::normal(TARGET).joining(&leader, 3);
    assert_eq!(daemon.connect().try_login(&joining).err(), Some(Refused::Status(2, 10)));
}
