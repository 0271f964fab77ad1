//! Attacks on CHAP (reliability.md section 4): what is heard on the wire, or asked of somebody else, lets nobody
//! in, and nobody learns who exists or what the secrets are.

use crate::siege::{Siege, alone, door, is_closed_within, settle, source};
use iscsi::auth::{Account, Algorithm, Challenge, Initiator, Keys, Secret};
use iscsi::text;
use sim::daemon::TARGET;
use sim::raw::{Client, Login, Refused};
use sim::{Daemon, Frame};
use std::process::Command;
use std::time::{Duration, Instant};

const SECRET: &str = "alice-secret-1234567";
const MUTUAL: &str = "target-secret-7654321";

fn daemon(more: &[&str]) -> Daemon {
    let arguments = [&["--chap", "alice", "--chap-mutual", "target", "--allow", NAME, "-v"], more].concat();
    let environment = [("LUNETTE_CHAP_SECRET", SECRET), ("LUNETTE_CHAP_MUTUAL_SECRET", MUTUAL)];
    Daemon::start_with(crate::siege::LUNETTE, &["ram:1M"], &arguments, &environment)
}

const NAME: &str = "iqn.2026-01.org.example:alice";

fn login() -> Login {
    Login::normal(TARGET).initiator(NAME)
}

/// A login up to the target's challenge: its CHAP_I and CHAP_C.
fn challenged(client: &mut Client, login: &Login) -> Result<(String, String), Refused> {
    let mut question = login.text();
    text::push(&mut question, "AuthMethod", "CHAP");
    client.login_exchange(&Frame::new(login.request(0x00, 0), &question))?;
    let frame = Frame::new(login.request(0x00, client.exp_stat_sn), b"CHAP_A=7\0");
    let (_, data) = client.login_exchange(&frame)?;
    let value = |name| text::pairs(&data).flatten().find(|(key, _)| *key == name).unwrap().1.to_owned();
    Ok((value("CHAP_I"), value("CHAP_C")))
}

/// The response of whoever knows this secret.
fn response(user: &str, secret: &str, identifier: &str, challenge: &str) -> String {
    let account = Account { user: user.into(), secret: Secret::weak(secret) };
    let unused = Challenge { identifier: 0, bytes: [0; 32] };
    let mut own = Initiator::new(account, None, vec![Algorithm::Sha256], unused);
    own.handle(Keys::default()).unwrap();
    let mut keys = Keys::default();
    for (key, value) in [("CHAP_A", "7"), ("CHAP_I", identifier), ("CHAP_C", challenge)] {
        keys.take(key, value);
    }
    let answer = own.handle(keys).unwrap();
    answer.into_iter().find(|(key, _)| *key == "CHAP_R").unwrap().1
}

/// Shows a response, and perhaps asks back.
fn show(client: &mut Client, login: &Login, user: &str, response: &str, back: &str) -> Result<String, Refused> {
    let question = format!("CHAP_N={user}\0CHAP_R={response}\0{back}");
    let frame = Frame::new(login.request(0x81, client.exp_stat_sn), question.as_bytes());
    let (_, data) = client.login_exchange(&frame)?;
    Ok(String::from_utf8(data).unwrap())
}

fn connect(daemon: &Daemon) -> Client {
    Client::connect_from(source(5), daemon.address())
}

#[test]
fn replay_and_reflection_let_nobody_in() {
    let _alone = alone();
    let daemon = daemon(&[]);
    // What was heard of a login that succeeded.
    let mut alice = connect(&daemon);
    let (identifier, challenge) = challenged(&mut alice, &login()).unwrap();
    let heard = response("alice", SECRET, &identifier, &challenge);
    show(&mut alice, &login(), "alice", &heard, "").unwrap();
    let mut seen = vec![challenge.clone()];
    for _ in 0..20 {
        let mut client = connect(&daemon);
        let (_, fresh) = challenged(&mut client, &login()).unwrap();
        assert!(!seen.contains(&fresh), "CHP-07: a challenge is used once");
        seen.push(fresh);
        assert_eq!(show(&mut client, &login(), "alice", &heard, ""), Err(Refused::Status(2, 1)), "a replay");
        client.expect_closed();
    }
    // The target's own challenge sent back to it, on the same connection.
    let mut client = connect(&daemon);
    let (identifier, challenge) = challenged(&mut client, &login()).unwrap();
    let back = format!("CHAP_I={identifier}\0CHAP_C={challenge}\0");
    let right = response("alice", SECRET, &identifier, &challenge);
    assert_eq!(show(&mut client, &login(), "alice", &right, &back), Err(Refused::Status(2, 1)), "CHP-09");
    // And on a second connection, whose answer would be shown on the first: the target tells who it is only to
    // whoever has shown who he is, and with another secret.
    let (mut first, mut second) = (connect(&daemon), connect(&daemon));
    let (identifier, challenge) = challenged(&mut first, &login()).unwrap();
    let _ = challenged(&mut second, &login()).unwrap();
    let back = format!("CHAP_I={identifier}\0CHAP_C={challenge}\0");
    assert_eq!(show(&mut second, &login(), "alice", "0x00", &back), Err(Refused::Status(2, 1)));
    let (mut first, mut second) = (connect(&daemon), connect(&daemon));
    let (identifier, challenge) = challenged(&mut first, &login()).unwrap();
    let (own_identifier, own_challenge) = challenged(&mut second, &login()).unwrap();
    let right = response("alice", SECRET, &own_identifier, &own_challenge);
    let back = format!("CHAP_I={identifier}\0CHAP_C={challenge}\0");
    let told = show(&mut second, &login(), "alice", &right, &back).unwrap();
    let told = told.split('\0').find_map(|pair| pair.strip_prefix("CHAP_R=")).unwrap();
    for user in ["alice", "target"] {
        let mut client = connect(&daemon);
        challenged(&mut client, &login()).unwrap();
        assert_eq!(show(&mut client, &login(), user, told, ""), Err(Refused::Status(2, 1)));
    }
    assert_eq!(show(&mut first, &login(), "target", told, ""), Err(Refused::Status(2, 1)), "CHP-08");
    settle(&daemon, 0);
}

#[test]
fn chp_15_an_unknown_user_and_a_wrong_secret_look_alike_in_words_and_in_time() {
    let _alone = alone();
    let daemon = daemon(&[]);
    let ask = |login: &Login, user: &str, secret: &str| {
        let mut client = connect(&daemon);
        let (identifier, challenge) = challenged(&mut client, login).unwrap();
        let shown = response(user, secret, &identifier, &challenge);
        let begun = Instant::now();
        let refused = show(&mut client, login, user, &shown, "");
        let took = begun.elapsed();
        assert_eq!(refused, Err(Refused::Status(2, 1)), "{user}");
        took
    };
    let stranger = Login::normal(TARGET).initiator("iqn.2026-01.org.example:nobody");
    let nowhere = Login::normal("iqn.2026-01.org.example:none").initiator(NAME);
    // In turn, so that what else the machine does falls on all alike.
    let mut times: [Vec<Duration>; 4] = Default::default();
    for _ in 0..150 {
        times[0].push(ask(&login(), "alice", "another-secret-999"));
        times[1].push(ask(&login(), "mallory", SECRET));
        times[2].push(ask(&stranger, "mallory", SECRET));
        times[3].push(ask(&nowhere, "mallory", SECRET));
    }
    let medians = times.map(|mut times| {
        times.sort();
        times[times.len() / 2].as_secs_f64() * 1e6
    });
    println!("{medians:.0?} µs");
    let (least, most) = (medians.iter().copied().fold(f64::MAX, f64::min), medians.iter().copied().fold(0.0, f64::max));
    assert!(most < least * 1.5 + 100.0, "medians {medians:?}");
    // Whoever keeps the target reads which it was.
    let refusals = door(&daemon)["refusals"].to_string();
    assert!(refusals.contains("no CHAP account") && refusals.contains("secret of CHAP account"), "{refusals}");
}

#[test]
fn guesses_beside_a_session_that_means_well() {
    let _alone = alone();
    // The session beside has a target without CHAP; the guesses are for another daemon's sake slowed down.
    let daemon = crate::siege::daemon(&["failure-delay=200ms"]);
    let mut siege = Siege::begin(&daemon);
    let mut streams = Vec::new();
    siege.steps(300, |step| {
        let mut client = Client::connect_from(source(30 + (step % 20) as u8), daemon.address());
        let login = Login::normal(TARGET).key("AuthMethod", "CHAP");
        client.send(&Frame::new(login.request(0x81, 0), &login.text()));
        streams.push(client.socket().try_clone().unwrap());
        client.capture = sim::Capture::default();
    });
    for mut stream in streams {
        assert!(is_closed_within(&mut stream, Duration::from_secs(5)));
    }
    siege.end();
}

#[test]
fn chp_18_secrets_are_nowhere_to_be_read() {
    let _alone = alone();
    let daemon = daemon(&["-v"]);
    let mut client = connect(&daemon);
    let (identifier, challenge) = challenged(&mut client, &login()).unwrap();
    let right = response("alice", SECRET, &identifier, &challenge);
    show(&mut client, &login(), "alice", &right, "").unwrap();
    let mut client = connect(&daemon);
    challenged(&mut client, &login()).unwrap();
    assert_eq!(show(&mut client, &login(), "alice", "0x1234", ""), Err(Refused::Status(2, 1)));
    settle(&daemon, 0);
    let control = daemon.control().display().to_string();
    let ask = |words: &[&str]| {
        let output = Command::new(crate::siege::LUNETTE).args(words).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let shown = [
        daemon.log(),
        ask(&["status", "--control", &control]),
        ask(&["status", "--json", "--control", &control]),
        std::fs::read_to_string(format!("/proc/{}/cmdline", daemon.process_id())).unwrap(),
    ];
    assert!(shown[1].contains("secret of CHAP account"), "{}", shown[1]);
    let encoded = |secret: &str| secret.bytes().map(|byte| format!("{byte:02x}")).collect::<String>();
    for text in &shown {
        for secret in [SECRET, MUTUAL] {
            assert!(!text.contains(secret) && !text.contains(&encoded(secret)), "{text}");
        }
    }
}
