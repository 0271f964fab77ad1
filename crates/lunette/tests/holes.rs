//! Classes of holes that others fell into (docs/reliability.md), where only the real binary shows them. Each test is
//! named after the first that did.

use iscsi::text;
use iscsi::wire::LoginResponse;
use sim::daemon::TARGET;
use sim::raw::{Client, Command, Login};
use sim::{Daemon, Frame};
use std::collections::HashSet;
use std::io::Write;
use std::time::{Duration, Instant};

const LUNETTE: &str = env!("CARGO_BIN_EXE_lunette");
const SECRET: (&str, &str) = ("LUNETTE_CHAP_SECRET", "alice-secret-12");

/// The challenge that a login is met with.
fn challenge(daemon: &Daemon) -> Vec<u8> {
    let mut client = daemon.connect();
    let login = Login::normal(TARGET);
    let mut question = login.text();
    text::push(&mut question, "AuthMethod", "CHAP");
    client.login_exchange(&Frame::new(login.request(0x00, 0), &question)).unwrap();
    let offer = Frame::new(login.request(0x00, client.exp_stat_sn), b"CHAP_A=5\0");
    let (_, data) = client.login_exchange(&offer).unwrap();
    let text = String::from_utf8(data).unwrap();
    let value = text.split('\0').find_map(|pair| pair.strip_prefix("CHAP_C=")).unwrap();
    value.as_bytes().to_vec()
}

/// The challenges of a target whose random source was never seeded were the same after every start.
#[test]
fn cve_2024_45751_the_first_challenges_of_a_hundred_processes_differ() {
    let mut daemon = Daemon::start_with(LUNETTE, &["ram:1M"], &["--chap", "alice"], &[SECRET]);
    let mut seen = HashSet::new();
    for round in 0..100 {
        for _ in 0..2 {
            assert!(seen.insert(challenge(&daemon)), "a challenge came again in round {round}");
        }
        daemon.kill();
        daemon.restart();
    }
}

/// A connection that is lost at any byte of its login, with the thread that serves logins under load: a new login
/// finds nothing of it, and a session beside goes on.
#[test]
fn lio_2022_a_login_that_is_lost_at_any_byte_leaves_nothing() {
    let daemon = Daemon::start(LUNETTE, &["ram:1M"]);
    let mut beside = daemon.connect();
    beside.login(&Login::normal(TARGET).isid(9));
    beside.take_attentions();
    let before = daemon.descriptors().unwrap();
    let login = Login::normal(TARGET).key("ImmediateData", "Yes");
    let text = login.text();
    let (first, rest) = text.split_at(40);
    // Two requests: the text is cut by C, and goes on when that was answered.
    let requests = [Frame::new(login.request(0x44, 0), first), Frame::new(login.request(0x87, 1), rest)];
    let bytes = requests.map(|request| request.encode(sim::Digests::default()));
    for cut in 1..bytes[0].len() + bytes[1].len() {
        let mut client = daemon.connect();
        let split = cut.min(bytes[0].len());
        client.send_bytes(&bytes[0][..split]);
        if cut > bytes[0].len() {
            client.capture.initiator(&Frame::new(login.request(0x44, 0), first));
            client.expect::<LoginResponse>();
            client.send_bytes(&bytes[1][..cut - bytes[0].len()]);
        }
        client.capture = sim::Capture::default();
        drop(client);
        if cut % 16 == 0 {
            let mut again = daemon.connect();
            again.login(&login);
            again.take_attentions();
            assert!(beside.execute(&Command::test_unit_ready()).is_good());
        }
    }
    let end = Instant::now() + Duration::from_secs(10);
    while daemon.descriptors().unwrap() > before + 2 {
        assert!(Instant::now() < end, "{} descriptors, {before} before", daemon.descriptors().unwrap());
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A write whose bytes come in two pieces, cut at every place: in the header, between header and digest, within the
/// data, between data and padding and digest.
#[test]
fn spdk_e53646435_a_pdu_may_come_in_two_pieces_cut_anywhere() {
    let daemon = Daemon::start(LUNETTE, &["ram:1M"]);
    let mut client = daemon.connect();
    client.login(&Login::normal(TARGET).digests(true, true));
    client.take_attentions();
    let digests = sim::Digests { header: true, data: true };
    let length = 48 + 4 + 512 + 4;
    for cut in (0..length).filter(|cut| *cut < 64 || *cut > length - 16 || cut % 37 == 0) {
        let data = [cut as u8; 512];
        let frames = client.prepare(&Command::write(cut as u32 % 64, &data));
        assert_eq!(frames.len(), 1);
        let bytes = frames[0].encode(digests);
        assert_eq!(bytes.len(), length);
        client.capture.initiator(&frames[0]);
        client.send_bytes(&bytes[..cut]);
        client.socket().flush().unwrap();
        // So that the first piece is read for itself.
        std::thread::sleep(Duration::from_millis(2));
        client.send_bytes(&bytes[cut..]);
        let answer = client.finish(frames[0].basic().initiator_task_tag.get());
        assert!(answer.is_good(), "cut at {cut}: {answer:?}");
        assert_eq!(client.good(&Command::read(cut as u32 % 64, 1)), data, "cut at {cut}");
    }
}

/// The client of LIO's bug: a login that does not say how much data it takes gets reads in pieces of 8,192 bytes, and
/// they end.
#[test]
fn lio_a_login_that_declares_no_segment_length_is_read_to_in_the_default() {
    let daemon = Daemon::start(LUNETTE, &["ram:1M"]);
    let mut client = Client::connect(daemon.address());
    client.login(&Login::normal(TARGET));
    client.take_attentions();
    let answer = client.execute(&Command::read(0, 256));
    assert_eq!((answer.data.len(), answer.data_in_pdus), (256 * 512, 16));
}
