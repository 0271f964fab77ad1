//! Requirements of docs/conformance.md that need the real binary: its randomness, its restarts, its sockets.

use iscsi::text;
use iscsi::wire::{AsyncMessage, RESERVED_TAG, ReadyToTransfer, TaskManagementResponse};
use sim::daemon::TARGET;
use sim::raw::{Command, Condition, Login};
use sim::{Daemon, Frame};
use std::collections::HashSet;

const LUNETTE: &str = env!("CARGO_BIN_EXE_lunette");

/// CHAP_I and CHAP_C of a login that goes no further.
fn challenge(daemon: &Daemon, algorithm: u8) -> (u8, String) {
    let login = Login::normal(TARGET);
    let mut client = daemon.connect();
    let mut question = login.text();
    text::push(&mut question, "AuthMethod", "CHAP");
    client.login_exchange(&Frame::new(login.request(0x00, 0), &question)).unwrap();
    let offer = format!("CHAP_A={algorithm}\0");
    let frame = Frame::new(login.request(0x00, client.exp_stat_sn), offer.as_bytes());
    let (_, data) = client.login_exchange(&frame).unwrap();
    let value = |name: &str| text::pairs(&data).flatten().find(|(key, _)| *key == name).unwrap().1.to_owned();
    (value("CHAP_I").parse().unwrap(), value("CHAP_C"))
}

#[test]
fn chp_07_no_challenge_comes_twice_over_logins_and_restarts() {
    let environment = [("LUNETTE_CHAP_SECRET", "alice-secret-12")];
    let mut daemon = Daemon::start_with(LUNETTE, &["ram:1M"], &["--chap", "alice"], &environment);
    let (mut seen, mut identifiers, mut ones) = (HashSet::new(), HashSet::new(), 0);
    for _ in 0..3 {
        for _ in 0..100 {
            let (identifier, challenge) = challenge(&daemon, 7);
            let digits = challenge.strip_prefix("0x").expect("hexadecimal");
            assert!(digits.len() >= 64, "as long as the digest: {challenge}");
            ones += digits.chars().map(|digit| digit.to_digit(16).unwrap().count_ones()).sum::<u32>();
            assert!(seen.insert(digits.to_owned()), "{challenge} came before");
            identifiers.insert(identifier);
        }
        daemon.kill();
        daemon.restart();
    }
    // 300 challenges of 256 bits: half of them ones, within ten standard deviations.
    assert!(ones.abs_diff(38_400) < 1400, "{ones} ones of 76,800 bits");
    assert!(identifiers.len() > 100, "{} identifiers of 300", identifiers.len());
}

#[test]
fn pl2_04_a_nexus_reset_drops_its_session_and_leaves_the_others() {
    let daemon = Daemon::start(LUNETTE, &["ram:16M"]);
    let login = |isid| Login::normal(TARGET).isid(isid).key("iSCSIProtocolLevel", 2).key("ErrorRecoveryLevel", 2);
    let mut client = daemon.connect();
    client.login(&login(1));
    client.take_attentions();
    let mut other = daemon.connect();
    other.login(&login(2));
    other.take_attentions();
    client.hold_data = true;
    let tag = client.start(&Command::write(0, &[0xbd; 512]).solicited());
    client.expect::<ReadyToTransfer>();
    let header = client.task_management_header(11, RESERVED_TAG, 0);
    client.send(&Frame::new(header, b""));
    client.forget(tag);
    let (answer, _) = client.response::<TaskManagementResponse>(header.initiator_task_tag.get());
    assert_eq!(answer.response, 0);
    let told = client.expect_closed();
    assert!(
        told.iter().all(|frame| frame.view::<AsyncMessage>().is_some_and(|message| message.event == 3)),
        "{told:?}"
    );
    assert_eq!(other.good(&Command::read(0, 1)), [0; 512]);
    let mut again = daemon.connect();
    again.login(&login(1));
    assert!(again.take_attentions().contains(&Condition(6, 0x29, 7)), "I_T NEXUS LOSS OCCURRED");
    again.good(&Command::write(0, &[1; 512]));
}

#[test]
fn pl2_05_pl2_06_the_level_is_told_and_a_pending_attention_can_be_asked_for() {
    let daemon = Daemon::start(LUNETTE, &["ram:16M"]);
    for level in [1u16, 2] {
        let mut client = daemon.connect();
        client.login(&Login::normal(TARGET).isid(level as u8).key("iSCSIProtocolLevel", level));
        // The unit attention of the new nexus is pending.
        let code = client.task_management(12, RESERVED_TAG, 0);
        assert_eq!(code, if level == 2 { 7 } else { 5 });
        assert!(!client.take_attentions().is_empty(), "it is still there");
        let inquiry = client.good(&Command::inquiry(None));
        let told = inquiry[58..74].chunks(2).any(|bytes| u16::from_be_bytes([bytes[0], bytes[1]]) == 0x0960 + level);
        assert!(told, "level {level}: {:02x?}", &inquiry[58..74]);
    }
}
