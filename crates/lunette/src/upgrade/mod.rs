//! `lunette upgrade`: another program takes the place of a daemon without anybody noticing.
//!
//! The command starts the new program itself, as it stands outside of whatever keeps the old one in; the two of them
//! do the rest over a socket beside that of the administration ([`giver`], [`taker`]).

pub mod giver;
pub mod taker;
mod wire;

use crate::control;
use crate::failure::{Cause, Failure};
use clap::Args;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::OwnedFd;
use serde_json::Value;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;
use target::handover::message::{Ask, Started, VERSION};
use wire::{Kind, Wire};

/// How long one process waits for the next word of the other.
const PATIENCE: Duration = Duration::from_secs(30);

/// Environment that the next process goes by as well; what ends in `_` begins several names. WATCHDOG_PID is not among
/// it: the service manager's watchdog would wait for a process that is another one.
const ENVIRONMENT: [&str; 10] = [
    "LUNETTE_",
    "XDG_",
    "HOME",
    "PATH",
    "NOTIFY_SOCKET",
    "WATCHDOG_USEC",
    "CREDENTIALS_DIRECTORY",
    "STATE_DIRECTORY",
    "RUNTIME_DIRECTORY",
    "RUST_BACKTRACE",
];

/// Whether the next process goes by this of the environment. The command asks so as well: it may be called by root,
/// and nothing that a daemon says is to load a library into what root starts.
fn goes_over(name: &str) -> bool {
    ENVIRONMENT.iter().any(|one| if one.ends_with('_') { name.starts_with(one) } else { name == *one })
}

const EXAMPLES: &str = "\
Examples:
  lunette upgrade                                this program takes the place of the one that serves
  lunette upgrade --binary ./lunette-next
  lunette upgrade --timeout 5                    where slow disks need longer to finish what they do

Exit codes: 0 the new program serves, 1 it does not and the old one goes on, 2 it cannot be asked so, 3 nobody serves.";

/// Arguments of `lunette upgrade`.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    /// The program that is to serve [default: this one]
    #[arg(long, value_name = "PATH")]
    binary: Option<PathBuf>,
    /// The configuration file that it reads [default: as the daemon was started]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Seconds that commands which are under way may take to end; where they take longer, all goes on as it was
    #[arg(long, value_name = "SECONDS", default_value = "1", value_parser = seconds)]
    timeout: Duration,
    /// The daemon's socket [default: where `lunette serve` puts it]
    #[arg(long, value_name = "PATH")]
    control: Option<PathBuf>,
    /// The --state-dir of the daemon, where its socket is in it
    #[arg(long, value_name = "DIR", conflicts_with = "control")]
    state_dir: Option<PathBuf>,
    /// As JSON
    #[arg(long)]
    json: bool,
}

/// A time that sessions may take to come to rest.
pub fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| "it is a number of seconds")?;
    match (0.01..=600.0).contains(&seconds) {
        true => Ok(Duration::from_secs_f64(seconds)),
        false => Err("it is 0.01 to 600 seconds".into()),
    }
}

/// The socket of upgrades, which lies beside that of the administration.
pub fn socket(control: &Path) -> PathBuf {
    control.with_added_extension("upgrade")
}

/// Has the daemon replaced.
pub fn run(arguments: &Arguments) -> Result<(), Failure> {
    let control = control::path(arguments.control.as_deref(), arguments.state_dir.as_deref())
        .ok_or_else(|| Failure::input("where the daemon's socket is, is not known; name it with --control PATH"))?;
    let path = std::path::absolute(socket(&control)).map_err(Failure::runtime)?;
    let started = how_started(&path)?;
    let binary = match &arguments.binary {
        Some(binary) => std::path::absolute(binary).map_err(Failure::runtime)?,
        None => std::env::current_exe().map_err(Failure::runtime)?,
    };
    let words = match &arguments.config {
        Some(config) => {
            let config = std::path::absolute(config).map_err(Failure::runtime)?;
            vec!["serve".to_owned(), "--config".to_owned(), config.display().to_string(), "--take-over-anew".to_owned()]
        }
        None => without_take_over(&started.arguments),
    };
    let mut command = Command::new(&binary);
    command.args(&words).arg("--take-over").arg(&path);
    command.arg("--take-over-within").arg(arguments.timeout.as_secs_f64().to_string());
    // What a service manager has told the caller is not for the daemon.
    for name in ["WATCHDOG_PID", "WATCHDOG_USEC", "NOTIFY_SOCKET"] {
        command.env_remove(name);
    }
    command.current_dir(&started.directory);
    command.envs(started.environment.into_iter().filter(|(name, _)| goes_over(name)));
    // Its end is not the end of whoever called us.
    command.process_group(0).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(|error| Failure::input(format!("{}: {error}", binary.display())))?;
    // Read all along: a pipe that is full would hold it up.
    let complaints = child.stderr.take().map(|stderr| std::thread::spawn(move || last_line(stderr)));
    let told = child.stdout.take().map(BufReader::new).and_then(|out| out.lines().find_map(report));
    let Some(report) = told else {
        // It has said why, in its last line.
        let said = complaints.and_then(|thread| thread.join().ok()).flatten();
        let _ = child.wait();
        let why = said.as_deref().unwrap_or("the new program ended without a word");
        let why = why.strip_prefix("lunette: ").unwrap_or(why);
        // It can have died in the moment after it took over, before it could say so.
        let what = match how_started(&path) {
            Ok(old) => format!("the old process ({}) goes on", old.process),
            Err(_) => "it ended after it took over, and nobody serves any more: start the daemon again".to_owned(),
        };
        return Err(Failure::runtime(format!("{why}; {what}")));
    };
    let text = match arguments.json {
        true => format!("{report}\n"),
        false => people(&report),
    };
    let _ = std::io::stdout().write_all(text.as_bytes());
    Ok(())
}

/// The last line of what somebody says, once he has said all.
fn last_line(from: impl std::io::Read) -> Option<String> {
    BufReader::new(from).lines().map_while(Result::ok).last()
}

fn report(line: std::io::Result<String>) -> Option<Value> {
    serde_json::from_str::<Value>(&line.ok()?).ok().filter(|report| report["pause_ms"].is_number())
}

fn people(report: &Value) -> String {
    let sessions = report["sessions"].as_u64().unwrap_or_default();
    let pause = report["pause_ms"].as_f64().unwrap_or_default();
    let text = |name: &str| report[name].as_str().unwrap_or("?").to_owned();
    let process = &report["process"];
    let (from, to) = (text("from"), text("to"));
    let plural = if sessions == 1 { "" } else { "s" };
    format!(
        "handed over {sessions} session{plural} in {pause:.0} ms; version {to} serves as process {process} (before: {from})\n"
    )
}

/// Asks the daemon how it was started.
fn how_started(path: &Path) -> Result<Started, Failure> {
    let failed = |why: String| Failure::Because(Cause::Unreachable, format!("{}: {why}", path.display()));
    let stream = UnixStream::connect(path).map_err(|error| {
        failed(format!("{error}; is `lunette serve` running? --control PATH and --state-dir DIR name another place"))
    })?;
    let wire = Wire::new(stream, PATIENCE).map_err(Failure::runtime)?;
    let program = env!("CARGO_PKG_VERSION").to_owned();
    let ask = Ask { version: VERSION, oldest: VERSION, program, takes_over: false, within: Duration::ZERO };
    let answer = wire.send(Kind::Ask, &ask, &[]).and_then(|()| wire.receive());
    answer.map_err(|error| failed(error.to_string()))?.expect(Kind::Started).map_err(failed)
}

/// The arguments of a daemon that took the place of another itself.
fn without_take_over(words: &[String]) -> Vec<String> {
    let mut kept = Vec::new();
    let mut words = words.iter();
    while let Some(word) = words.next() {
        match word.as_str() {
            "--take-over" | "--take-over-within" => drop(words.next()),
            "--take-over-anew" => {}
            _ => kept.push(word.clone()),
        }
    }
    kept
}

/// Whether a process has ended, which may take it so long.
fn is_dead(process: &OwnedFd, within: Duration) -> bool {
    let mut ended = [PollFd::new(process, PollFlags::IN)];
    let within = Timespec { tv_sec: within.as_secs().cast_signed(), tv_nsec: within.subsec_nanos().into() };
    poll(&mut ended, Some(&within)).is_ok_and(|count| count > 0)
}

/// Who may ask for an upgrade.
fn owner_or_root(uid: rustix::process::Uid) -> bool {
    uid.is_root() || uid == rustix::process::geteuid()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_daemon_that_took_over_is_started_as_its_first_was() {
        let words = ["serve", "a.img", "--take-over", "/run/x", "--threads", "2", "--take-over-within", "1"];
        let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
        assert_eq!(without_take_over(&words), ["serve", "a.img", "--threads", "2"]);
    }

    #[test]
    fn the_next_process_goes_by_what_is_the_daemons_and_by_nothing_that_loads_code_or_is_of_one_process() {
        for name in ["LUNETTE_LOG", "NOTIFY_SOCKET", "WATCHDOG_USEC", "STATE_DIRECTORY"] {
            assert!(goes_over(name), "{name}");
        }
        for name in ["WATCHDOG_PID", "LD_PRELOAD", "LISTEN_PID", "PATHS", "HOMES"] {
            assert!(!goes_over(name), "{name}");
        }
    }

    #[test]
    fn people_hear_how_long_it_took() {
        let report = serde_json::json!({
            "sessions": 12, "pause_ms": 38.4, "process": 7, "from": "0.1.0", "to": "0.2.0"
        });
        assert_eq!(
            people(&report),
            "handed over 12 sessions in 38 ms; version 0.2.0 serves as process 7 (before: 0.1.0)\n"
        );
        assert_eq!(seconds("0.5"), Ok(Duration::from_millis(500)));
        assert!(seconds("0").is_err() && seconds("soon").is_err());
    }
}
