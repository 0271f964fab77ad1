//! Starts a holder: the process that has a session with a target and offers its disks to this machine.

pub use super::request::{Request, Units, Via};
pub use super::state::Record;

use super::control::{failure_from_json, failure_to_json};
use crate::failure::Failure;
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

/// The hidden command that a holder is started by.
pub const COMMAND: &str = "hold";
/// Beyond what the logins of a request may take: identification, devices, cleaning up.
const MARGIN: Duration = Duration::from_secs(90);
/// Bytes of a holder's answer.
const ANSWER_BYTES: u64 = 1 << 20;

/// What a holder holds.
#[derive(Debug, Clone)]
pub struct Held {
    /// The session, its devices and their links.
    pub record: Record,
    /// What a person should know: which front-end was taken and why, what was left out.
    pub notes: Vec<String>,
    /// It was attached before, as it is asked for now; nothing was started.
    pub already: bool,
}

/// Logs in, attaches, and returns when the devices are there; a process of its own holds them from then on, in the
/// network namespace of the caller. After a failure nothing is left: no process, no session, no device, no file.
///
/// Safe to be called by many threads and processes at once. Secrets travel by a pipe.
pub fn start(request: &Request) -> Result<Held, Failure> {
    run(&json!({ "request": request.to_json() }), request)
}

/// Takes up a session whose holder died, where its devices live on without one. The devices keep their names.
pub fn resume(session: u64, request: &Request) -> Result<Held, Failure> {
    run(&json!({ "request": request.to_json(), "resume": session }), request)
}

fn run(order: &Value, request: &Request) -> Result<Held, Failure> {
    let failed = |error: &std::io::Error| Failure::runtime(format!("the holder cannot be started: {error}"));
    // Locks and pipes of whoever started us are not for a process that outlives us.
    attach::descriptors::keep_from_children();
    // This very program, also when another one has taken its place by now.
    let mut child = Command::new("/proc/self/exe")
        .arg0("lunette")
        .args([COMMAND, request.target()])
        .args(request.portals())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(if is_journal() { Stdio::inherit() } else { Stdio::null() })
        // It has them by the pipe.
        .env_remove("LUNETTE_CHAP_SECRET")
        .env_remove("LUNETTE_CHAP_MUTUAL_SECRET")
        .current_dir("/")
        .spawn()
        .map_err(|error| failed(&error))?;
    let answer = exchange(&mut child, order, patience(request));
    let outcome = match answer {
        Some(answer) => from_answer(&answer),
        None => {
            // It ended without a word, or takes too long.
            let _ = child.kill();
            let status = child.wait().map_err(|error| failed(&error))?;
            Err(Failure::runtime(format!("the holder ended before it was ready: {status}")))
        }
    };
    if !matches!(&outcome, Ok(held) if !held.already) {
        // It has cleaned up and says so by its end.
        let _ = child.wait();
    }
    outcome
}

/// Sends the order and waits for the answer's line.
fn exchange(child: &mut Child, order: &Value, patience: Duration) -> Option<Value> {
    let mut input = child.stdin.take()?;
    let output = child.stdout.take()?;
    // Whoever does not read it has ended, which shows below.
    let _ = input.write_all(order.to_string().as_bytes());
    drop(input);
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        let mut line = String::new();
        let _ = BufReader::new(output.take(ANSWER_BYTES)).read_line(&mut line);
        let _ = sender.send(line);
    });
    let line = receiver.recv_timeout(patience).ok()?;
    serde_json::from_str(&line).ok()
}

/// How long a holder may take: the logins that it may try, and a margin.
fn patience(request: &Request) -> Duration {
    let tries = request.login_retries.saturating_add(1);
    let each = request.options.login_timeout + super::remote::RETRY_PAUSE;
    each.saturating_mul(tries).min(Duration::from_secs(86_400)) + MARGIN
}

/// Whether standard error is the journal's, which keeps what a holder says.
pub fn is_journal() -> bool {
    let told = std::env::var("JOURNAL_STREAM").unwrap_or_default();
    let Ok(own) = rustix::fs::fstat(std::io::stderr()) else { return false };
    told == format!("{}:{}", own.st_dev, own.st_ino)
}

/// A holder's first and only line.
pub fn to_answer(outcome: &Result<Held, Failure>) -> Value {
    match outcome {
        Ok(held) => json!({ "held": held.record.to_json(), "notes": held.notes, "already": held.already }),
        Err(failure) => failure_to_json(failure),
    }
}

fn from_answer(answer: &Value) -> Result<Held, Failure> {
    if let Some(failure) = failure_from_json(answer) {
        return Err(failure);
    }
    let record =
        Record::from_json(&answer["held"]).ok_or_else(|| Failure::runtime("the holder's answer is not known"))?;
    let notes = answer["notes"].as_array().into_iter().flatten().filter_map(|note| Some(note.as_str()?.to_owned()));
    Ok(Held { record, notes: notes.collect(), already: answer["already"] == true })
}
