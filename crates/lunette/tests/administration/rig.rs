//! A daemon, its commands, and its API without a client of ours.

use serde_json::Value;
use sim::Daemon;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Output, Stdio};

pub const LUNETTE: &str = env!("CARGO_BIN_EXE_lunette");
pub const HOME: &str = "iqn.2026-01.org.example:home";

/// A daemon with a target, two disks, two rules and two accounts.
pub fn daemon() -> Daemon {
    let configuration = r#"# The house.
[daemon]
state-dir = "FOLDER/state"
threads = 1
[limits]
failure-delay = 0

[[portal]]
listen = "127.0.0.1:0"

# Whoever makes the copies.
[account.alice]
secret = "alice-secret-12"

[[target]]
name = "iqn.2026-01.org.example:home"
alias = "the house"

[[target.lun]]
store = "ram:1M"
[[target.lun]]
store = "ram:2M"
serial = "S2"

[[target.rule]]
initiators = "iqn.2026-01.org.example:backup"
accounts = ["alice"]
luns = [{ lun = 1, as = 0, read-only = true }]
[[target.rule]]
initiators = "any"
"#;
    Daemon::configured(LUNETTE, configuration)
}

/// Runs a command with this daemon; gives its exit code and both of its outputs.
pub fn run(daemon: &Daemon, words: &[&str], input: &str) -> (i32, String, String) {
    run_at(&daemon.control(), words, input)
}

/// The same with the socket's place.
pub fn run_at(control: &Path, words: &[&str], input: &str) -> (i32, String, String) {
    let mut child = Command::new(LUNETTE)
        .args(words)
        .args(["--control", &control.display().to_string()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the command");
    child.stdin.take().expect("its input").write_all(input.as_bytes()).expect("it reads");
    told(child.wait_with_output().expect("its end"))
}

pub fn told(output: Output) -> (i32, String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code().unwrap_or(-1), text(&output.stdout), text(&output.stderr))
}

/// A command that goes well; what it prints.
pub fn good(daemon: &Daemon, words: &[&str]) -> String {
    let (code, out, err) = run(daemon, words, "");
    assert_eq!(code, 0, "{words:?}: {out}{err}");
    out
}

/// A command that does not; its exit code and what it says.
pub fn bad(daemon: &Daemon, words: &[&str]) -> (i32, String) {
    let (code, out, err) = run(daemon, words, "");
    assert!(code != 0 && out.is_empty(), "{words:?}: {out}{err}");
    (code, err)
}

/// One request as it stands on the wire; the status and the body.
pub fn raw(daemon: &Daemon, request: &str) -> (u16, String) {
    let mut stream = UnixStream::connect(daemon.control()).expect("the socket");
    stream.write_all(request.as_bytes()).expect("it reads");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
    (head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status"), body.to_owned())
}

/// A request with a body.
pub fn ask(daemon: &Daemon, method: &str, path: &str, body: Option<&Value>) -> (u16, Value) {
    let body = body.map(Value::to_string).unwrap_or_default();
    let (status, answer) = raw(
        daemon,
        &format!(
            "{method} {path} HTTP/1.1\r\nHost: lunette\r\nConnection: close\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\n\r\n{body}",
            body.len()
        ),
    );
    (status, serde_json::from_str(&answer).unwrap_or_else(|error| panic!("{error}: {answer}")))
}
