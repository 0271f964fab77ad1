//! Who gets in, and with what: login, negotiation, CHAP, discovery (RFC 7143 §6, §12, §13).

use iscsi::auth::Algorithm;
use iscsi::text;
use sim::daemon::TARGET;
use sim::raw::{Chap, Client, Command, Condition, Login, Refused};
use sim::{Daemon, Frame};

const LUNETTE: &str = env!("CARGO_BIN_EXE_lunette");
const SECRET: &str = "alice-secret-12";
const MUTUAL: &str = "target-secret-34";

fn open() -> Daemon {
    Daemon::start(LUNETTE, &["ram:1M"])
}

fn with_chap(more: &[&str]) -> Daemon {
    let arguments = [&["--chap", "alice", "--chap-mutual", "target"], more].concat();
    let environment = [("LUNETTE_CHAP_SECRET", SECRET), ("LUNETTE_CHAP_MUTUAL_SECRET", MUTUAL)];
    Daemon::start_with(LUNETTE, &["ram:1M"], &arguments, &environment)
}

fn refused(daemon: &Daemon, login: &Login) -> Refused {
    daemon.connect().try_login(login).expect_err("it is let in")
}

#[test]
fn log_13_each_refusal_has_its_status() {
    let daemon = Daemon::start_with(LUNETTE, &["ram:1M"], &["--allow", "iqn.2026-01.org.example:client"], &[]);
    daemon.connect().login(&Login::normal(TARGET));
    let other = Login::normal(TARGET).initiator("iqn.2026-01.org.example:other");
    assert_eq!(
        refused(&daemon, &other),
        Refused::Status(2, 3),
        "whom it does not admit does not learn that it is there"
    );
    assert_eq!(refused(&daemon, &Login::normal("iqn.2026-01.org.example:none")), Refused::Status(2, 3));
    let mut unnamed = Login::normal(TARGET);
    unnamed.target = None;
    assert_eq!(refused(&daemon, &unnamed), Refused::Status(2, 7));
    let mut stale = Login::normal(TARGET);
    stale.tsih = 999;
    assert_eq!(refused(&daemon, &stale), Refused::Status(2, 10), "SES-10");
    assert_eq!(refused(&daemon, &Login::normal(TARGET).key("SendTargets", "All")), Refused::Status(2, 0));
}

#[test]
fn nam_04_names_are_compared_as_prepared() {
    let daemon = Daemon::start_with(LUNETTE, &["ram:1M"], &["--allow", "iqn.2026-01.org.example:client"], &[]);
    let loud = Login::normal(&TARGET.to_uppercase()).initiator("IQN.2026-01.ORG.Example:Client");
    daemon.connect().login(&loud);
}

#[test]
fn txt_14_answers_follow_the_table() {
    let daemon = open();
    let answers = daemon.connect().login(
        &Login::normal(TARGET)
            .key("HeaderDigest", "CRC32C,None")
            .key("MaxConnections", 8)
            .key("InitialR2T", "Yes")
            .key("ImmediateData", "No")
            .key("MaxBurstLength", 512)
            .key("FirstBurstLength", 262_144)
            .key("DefaultTime2Wait", 0)
            .key("ErrorRecoveryLevel", 2)
            .key("X-com.example.colour", "blue")
            .key("OFMarker", "No"),
    );
    for answer in [
        "HeaderDigest=CRC32C",
        "MaxConnections=8",
        "InitialR2T=Yes",
        "ImmediateData=No",
        "MaxBurstLength=512",
        "FirstBurstLength=512",
        "X-com.example.colour=NotUnderstood",
    ] {
        assert!(answers.lines().any(|line| line == answer), "{answer}\n{answers}");
    }
}

#[test]
fn txt_04_a_login_of_endless_text_is_closed() {
    let daemon = open();
    let mut client = daemon.connect();
    let login = Login::normal(TARGET);
    let mut sent = 0;
    loop {
        // Continued for ever.
        let text = format!("X-{sent}={}\0", "a".repeat(4000));
        let header = login.request(0x44, 0);
        match client.login_exchange(&Frame::new(header, text.as_bytes())) {
            Ok(_) => sent += 1,
            Err(Refused::Status(2, 0) | Refused::Ended(_)) => break,
            Err(other) => panic!("{other:?}"),
        }
        assert!(sent < 40, "more than 64 KiB of text was taken");
    }
    assert!(sent > 4, "a login of a few KiB is no offence");
    daemon.connect().login(&Login::normal(TARGET));
}

#[test]
fn dsc_01_send_targets_in_all_its_forms() {
    let daemon = open();
    let mut client = daemon.connect();
    client.login(&Login::discovery());
    let all = format!("TargetName={TARGET}\0TargetAddress={},1\0", daemon.address());
    assert_eq!(String::from_utf8(client.text(b"SendTargets=All\0")).unwrap(), all);
    let one = format!("SendTargets={TARGET}\0");
    assert_eq!(String::from_utf8(client.text(one.as_bytes())).unwrap(), all);
    assert_eq!(client.text(b"SendTargets=iqn.2026-01.org.example:none\0"), b"");
    client.logout();
    let mut client = daemon.connect();
    client.login(&Login::normal(TARGET));
    assert_eq!(String::from_utf8(client.text(b"SendTargets=\0")).unwrap(), all, "empty: the session's own target");
    client.logout();
}

/// A login with CHAP as `alice`; what the target answers last.
fn chap(
    client: &mut Client,
    login: &Login,
    algorithms: &[Algorithm],
    secret: &str,
    mutual: bool,
) -> Result<(), Refused> {
    let alice = Chap::new("alice", secret).algorithms(algorithms);
    let chap = if mutual { alice.mutual("target", MUTUAL) } else { alice };
    client.chap_login(login, &chap).map(drop)
}

#[test]
fn chp_01_every_algorithm_works_both_ways_for_discovery_too() {
    let daemon = with_chap(&[]);
    for algorithm in Algorithm::ALL {
        for login in [Login::normal(TARGET), Login::discovery()] {
            for mutual in [false, true] {
                let outcome = chap(&mut daemon.connect(), &login, &[algorithm], SECRET, mutual);
                assert_eq!(outcome, Ok(()), "{algorithm:?}, mutual {mutual}");
            }
        }
    }
}

#[test]
fn chp_04_who_does_not_know_the_secret_stays_out() {
    let daemon = with_chap(&[]);
    let login = Login::normal(TARGET);
    assert_eq!(
        chap(&mut daemon.connect(), &login, &[Algorithm::Sha256], "alice-secret-13", false),
        Err(Refused::Status(2, 1))
    );
    assert_eq!(refused(&daemon, &login), Refused::Status(2, 1), "LOG-11: the stage cannot be skipped");
    let none = Login::normal(TARGET).key("AuthMethod", "None");
    let mut client = daemon.connect();
    let frame = Frame::new(none.request(0x81, 0), &none.text());
    assert_eq!(client.login_exchange(&frame).map(drop), Err(Refused::Status(2, 1)));
}

#[test]
fn chp_02_algorithms_can_be_restricted() {
    let daemon = with_chap(&["--chap-algorithms", "SHA-256"]);
    let login = Login::normal(TARGET);
    assert_eq!(chap(&mut daemon.connect(), &login, &[Algorithm::Md5, Algorithm::Sha256], SECRET, false), Ok(()));
    let mut client = daemon.connect();
    let mut question = login.text();
    text::push(&mut question, "AuthMethod", "CHAP");
    client.login_exchange(&Frame::new(login.request(0x00, 0), &question)).unwrap();
    let offer = Frame::new(login.request(0x00, client.exp_stat_sn), b"CHAP_A=5\0");
    assert_eq!(client.login_exchange(&offer).map(drop), Err(Refused::Status(2, 1)));
}

#[test]
fn ses_01_a_login_takes_the_place_of_the_old_session() {
    let daemon = open();
    let mut first = daemon.connect();
    first.login(&Login::normal(TARGET));
    first.take_attentions();
    let mut second = daemon.connect();
    second.login(&Login::normal(TARGET));
    first.expect_closed();
    // The nexus was lost and is there again.
    let lost = second.execute(&Command::test_unit_ready()).condition();
    assert_eq!(lost, Some(Condition(6, 0x29, 7)));
    let mut other = daemon.connect();
    other.login(&Login::normal(TARGET).isid(9));
    assert_eq!(other.take_attentions(), [Condition(6, 0x29, 0)]);
    assert!(second.execute(&Command::test_unit_ready()).is_good(), "another ISID is another session");
}
