//! `lunette trace` on sessions, logins and discovery of the real binary.

use iscsi::wire::ReadyToTransfer;
use sim::Daemon;
use sim::daemon::TARGET;
use sim::raw::{Chap, Client, Command, Login};
use std::io::{BufRead, BufReader, Read};
use std::process::{Child, ChildStderr, Command as Process, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

const LUNETTE: &str = env!("CARGO_BIN_EXE_lunette");

/// A trace that runs, and what it has said so far.
struct Trace {
    child: Child,
    errors: BufReader<ChildStderr>,
    output: Option<Arc<Mutex<String>>>,
    reading: Option<JoinHandle<()>>,
}

impl Trace {
    /// Started, on, and read.
    fn start(daemon: &Daemon, arguments: &[&str]) -> Trace {
        let mut trace = Trace::unread(daemon, arguments);
        let output = Arc::<Mutex<String>>::default();
        let (stdout, text) = (trace.child.stdout.take().unwrap(), Arc::clone(&output));
        let reading = std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines() {
                *text.lock().unwrap() += &(line.unwrap() + "\n");
            }
        });
        (trace.output, trace.reading) = (Some(output), Some(reading));
        trace
    }

    /// Started, and on.
    fn unread(daemon: &Daemon, arguments: &[&str]) -> Trace {
        let mut child = Process::new(LUNETTE)
            .args(["trace", "--control"])
            .arg(daemon.control())
            .args(arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut errors = BufReader::new(child.stderr.take().unwrap());
        let mut line = String::new();
        errors.read_line(&mut line).unwrap();
        assert!(line.starts_with("watching"), "{line}");
        Trace { child, errors, output: None, reading: None }
    }

    /// Interrupted when it has told this; its output, and what it said at the end.
    fn stop_after(self, last: &str) -> (String, String) {
        let end = Instant::now() + Duration::from_secs(20);
        while !self.output.as_ref().unwrap().lock().unwrap().contains(last) {
            assert!(Instant::now() < end, "{last:?} does not come:\n{}", self.output.unwrap().lock().unwrap());
            std::thread::sleep(Duration::from_millis(5));
        }
        self.stop()
    }

    /// Interrupted.
    fn stop(self) -> (String, String) {
        let sent = Process::new("kill").args(["-INT", &self.child.id().to_string()]).status().unwrap();
        assert!(sent.success());
        self.end()
    }

    /// Waited for.
    fn end(mut self) -> (String, String) {
        assert!(self.child.wait().unwrap().success());
        let mut errors = String::new();
        self.errors.read_to_string(&mut errors).unwrap();
        self.reading.unwrap().join().unwrap();
        (self.output.unwrap().lock().unwrap().clone(), errors)
    }
}

fn once(daemon: &Daemon, arguments: &[&str]) -> Output {
    Process::new(LUNETTE).args(["trace", "--control"]).arg(daemon.control()).args(arguments).output().unwrap()
}

fn session(daemon: &Daemon) -> Client {
    let mut client = daemon.connect();
    client.login(&Login::normal(TARGET));
    client.take_attentions();
    client
}

/// Whether the lines stand in this order, others between them.
#[track_caller]
fn assert_lines(shown: &str, lines: &[&str]) {
    let mut rest = shown.lines();
    for line in lines {
        assert!(rest.any(|shown| shown.contains(line)), "{line} is not there, or not in this order:\n{shown}");
    }
}

#[test]
fn a_session_is_told_from_its_login_to_its_logout_in_words() {
    let daemon = Daemon::start(LUNETTE, &["ram:16M"]);
    let trace = Trace::start(&daemon, &["--all"]);
    let mut client = session(&daemon);
    client.good(&Command::write(8, &[7; 4096]));
    client.good(&Command::read(8, 8));
    client.execute(&Command::read(u32::MAX, 8));
    client.ping(b"hello");
    client.logout();
    let (shown, _) = trace.stop_after("Logout Response");
    assert_lines(
        &shown,
        &[
            "> Login Request      operational → full feature InitiatorName=",
            "< Login Response     operational → full feature",
            "> SCSI Command       LUN 1 TEST UNIT READY",
            "CHECK CONDITION: UNIT ATTENTION, POWER ON",
            "> SCSI Command       LUN 1 WRITE(10) LBA 8, 8 blocks; 4096 bytes out, 4096 immediate",
            "< SCSI Response      GOOD · WRITE(10) in ",
            "> SCSI Command       LUN 1 READ(10) LBA 8, 8 blocks; up to 4096 bytes in",
            "< Data-In            4096 bytes at 0, GOOD · READ(10) in ",
            "ILLEGAL REQUEST, LOGICAL BLOCK ADDRESS OUT OF RANGE",
            "> NOP-Out            ping, 5 bytes",
            "< NOP-In             ping, 5 bytes",
            "> Logout Request     close the session",
            "< Logout Response    closed",
        ],
    );
    assert!(!shown.contains('\x1b'), "no colours where nobody sees them");
}

#[test]
fn a_trace_that_begins_in_the_middle_of_a_session_begins_with_a_whole_pdu_and_ends_with_the_session() {
    let daemon = Daemon::start(LUNETTE, &["ram:16M"]);
    for digests in [false, true] {
        let mut client = daemon.connect();
        client.login(&Login::normal(TARGET).digests(digests, digests).isid(u8::from(digests)));
        client.take_attentions();
        // A write that waits for its data: the trace begins behind the R2T and in front of the Data-Out.
        client.hold_data = true;
        let tag = client.start(&Command::write(0, &vec![9; 586 * 512]).solicited());
        let (asked, _) = client.expect::<ReadyToTransfer>();
        let number = session_number(&daemon);
        let trace = Trace::start(&daemon, &[&number, "--json"]);
        client.hold_data = false;
        client.answer_ready_to_transfer(&asked);
        assert!(client.finish(tag).is_good());
        client.good(&Command::read(0, 8));
        client.logout();
        drop(client);
        let (shown, _) = trace.end();
        let all: Vec<serde_json::Value> = shown.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let first = &all[0];
        assert_eq!((first["pdu"].as_str(), first["from"].as_str()), (Some("Data-Out"), Some("initiator")), "{shown}");
        let moved: u64 = all
            .iter()
            .filter(|pdu| pdu["pdu"] == "Data-Out")
            .map(|pdu| pdu["fields"]["datasegmentlength"].as_u64().unwrap())
            .sum();
        assert_eq!(moved, 586 * 512);
        let digest = if digests { Some("right") } else { None };
        assert!(all.iter().all(|pdu| pdu["fields"]["headerdigest"].as_str() == digest), "{shown}");
        assert!(all.iter().any(|pdu| pdu["task"]["name"] == "READ(10)" && pdu["task"]["took_us"].is_u64()), "{shown}");
        wait_until_nobody_is_there(&daemon);
    }
}

#[test]
fn filters_leave_what_was_asked_for() {
    let daemon = Daemon::start(LUNETTE, &["ram:16M", "ram:16M"]);
    let mut client = session(&daemon);
    let number = session_number(&daemon);
    let traces = [
        Trace::start(&daemon, &[&number, "--opcode", "scsi-command,21h"]),
        Trace::start(&daemon, &[&number, "--lun", "2"]),
        Trace::start(&daemon, &[&number, "--command", "read(10)", "--count", "2"]),
    ];
    client.take_attentions();
    client.good(&Command::write(0, &[1; 512]).at(1));
    while client.execute(&Command::test_unit_ready().at(2)).condition().is_some() {}
    client.good(&Command::write(0, &[1; 512]).at(2));
    client.good(&Command::read(0, 1).at(1));
    client.good(&Command::read(0, 1).at(2));
    let [kinds, lun, reads] = traces;
    let (reads, _) = reads.end();
    let lines: Vec<&str> = reads.lines().collect();
    assert!(lines.len() == 2 && lines[0].contains("READ(10)") && lines[1].contains("Data-In"), "{reads}");
    let (kinds, _) = kinds.stop_after("SCSI Response      GOOD · WRITE");
    assert!(kinds.contains("SCSI Response") && !kinds.contains("Data-In"), "{kinds}");
    let (lun, _) = lun.stop_after("READ(10) in");
    assert!(lun.contains("LUN 2 WRITE(10)") && !lun.contains("LUN 1"), "{lun}");
}

#[test]
fn the_proof_of_a_secret_is_hidden_unless_it_is_asked_for() {
    let daemon = Daemon::configured(
        LUNETTE,
        r#"
[daemon]
state-dir = "FOLDER/state"
[limits]
failure-delay = 0
[[portal]]
listen = "127.0.0.1:0"
[account.alice]
secret = "alice-secret-12"
[[target]]
name = "iqn.2026-01.org.example:disk"
accounts = ["alice"]
[[target.lun]]
store = "ram:1M"
[[target.rule]]
initiators = "any"
"#,
    );
    let (hidden, shown) = (Trace::start(&daemon, &["--all"]), Trace::start(&daemon, &["--all", "--secrets"]));
    daemon.connect().chap_login(&Login::normal(TARGET), &Chap::new("alice", "alice-secret-12")).unwrap();
    daemon.connect().chap_login(&Login::normal(TARGET), &Chap::new("alice", "wrong-secret-12")).unwrap_err();
    let last = "authentication failure";
    let ((hidden, _), (shown, _)) = (hidden.stop_after(last), shown.stop_after(last));
    for trace in [&hidden, &shown] {
        assert_lines(trace, &["CHAP_N=alice CHAP_R=", "Login Response     authentication failure (0201h)"]);
    }
    assert!(hidden.contains("CHAP_R=****") && !hidden.contains("CHAP_R=0x"), "{hidden}");
    assert!(shown.contains("CHAP_R=0x"), "{shown}");
    assert!(hidden.contains("CHAP_C=0x"), "a challenge is no secret: {hidden}");
}

#[test]
fn discovery_is_told_to_who_watches_its_initiator_and_to_nobody_else() {
    let daemon = Daemon::start(LUNETTE, &["ram:1M"]);
    let one = Trace::start(&daemon, &["--initiator", "iqn.2026-01.org.example:one", "-v"]);
    let other = Trace::start(&daemon, &["--initiator", "iqn.2026-01.org.example:other"]);
    let mut client = daemon.connect();
    client.login(&Login::discovery().initiator("iqn.2026-01.org.example:one"));
    client.text(b"SendTargets=All\0");
    client.logout();
    let (one, _) = one.stop_after("Logout Response");
    assert_lines(
        &one,
        &["Login Request", "Text Request", "SendTargets=All", "Text Response", "TargetAddress=", "Logout"],
    );
    assert_eq!(other.stop().0, "");
}

#[test]
fn what_cannot_be_traced_is_told_in_a_line_with_its_exit_code() {
    let daemon = Daemon::start(LUNETTE, &["ram:1M"]);
    let said = |output: &Output| String::from_utf8(output.stderr.clone()).unwrap();
    let none = once(&daemon, &["99"]);
    assert_eq!(none.status.code(), Some(5));
    assert!(said(&none).contains("no session 99") && said(&none).contains("lunette session list"), "{}", said(&none));
    let nothing = once(&daemon, &[]);
    assert_eq!(nothing.status.code(), Some(2), "{}", said(&nothing));
    assert!(said(&nothing).contains("SESSION"), "{}", said(&nothing));
    let kind = once(&daemon, &["--all", "--opcode", "r3t"]);
    assert_eq!(kind.status.code(), Some(2));
    assert!(said(&kind).contains("scsi-command"), "{}", said(&kind));
    let _held: Vec<_> = (0..4).map(|_| Trace::start(&daemon, &["--all"])).map(Held).collect();
    let many = once(&daemon, &["--all"]);
    assert_eq!(many.status.code(), Some(6), "{}", said(&many));
    let nobody = Process::new(LUNETTE).args(["trace", "--all", "--control", "/nowhere.sock"]).output().unwrap();
    assert_eq!(nobody.status.code(), Some(3));
    assert!(said(&nobody).contains("lunette serve"), "{}", said(&nobody));
}

#[test]
fn a_trace_that_nobody_reads_slows_nobody_down_and_what_it_missed_is_told() {
    let daemon = Daemon::start(LUNETTE, &["ram:64M"]);
    let mut client = session(&daemon);
    let number = session_number(&daemon);
    let trace = Trace::unread(&daemon, &[&number, "--write", "-", "--for", "1h"]);
    // Its output is not read: pipe and socket fill, then what the daemon may hold for it.
    let before = daemon.resident_bytes().unwrap_or(0);
    let data = vec![5; 256 << 10];
    for round in 0..200 {
        client.good(&Command::write(round % 64 * 512, &data));
    }
    let grown = daemon.resident_bytes().unwrap_or(0).saturating_sub(before);
    assert!(grown < 48 << 20, "it holds {} MiB for a reader that does not read", grown >> 20);
    let sent = Process::new("kill").args(["-TERM", &trace.child.id().to_string()]).status().unwrap();
    assert!(sent.success());
    drop(trace);
    // A later one has its place and its room.
    let again = Trace::start(&daemon, &[&number, "--count", "1"]);
    client.good(&Command::read(0, 1));
    assert!(again.end().0.contains("READ(10)"));
}

/// Stopped when the test ends.
struct Held(Trace);

impl Drop for Held {
    fn drop(&mut self) {
        let _ = self.0.child.kill();
        let _ = self.0.child.wait();
    }
}

/// The number of the only session, as `lunette status` tells it.
fn session_number(daemon: &Daemon) -> String {
    let sessions = status(daemon);
    let [session] = &sessions[..] else { panic!("{sessions:?}") };
    session["tsih"].to_string()
}

fn status(daemon: &Daemon) -> Vec<serde_json::Value> {
    let output = Process::new(LUNETTE).args(["status", "--json", "--control"]).arg(daemon.control()).output().unwrap();
    let status: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    status["sessions"]["sessions"].as_array().or(status["sessions"].as_array()).unwrap().clone()
}

fn wait_until_nobody_is_there(daemon: &Daemon) {
    let end = Instant::now() + Duration::from_secs(20);
    while !status(daemon).is_empty() {
        assert!(Instant::now() < end, "the session does not end");
        std::thread::sleep(Duration::from_millis(20));
    }
}
