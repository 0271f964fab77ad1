//! `lunette status`: asks a daemon how it stands, and shows it to people or to programs.

mod page;

use crate::control;
use crate::failure::Failure;
use clap::Args;
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long the daemon may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// Bytes of an answer.
const ANSWER_BYTES: u64 = 64 << 20;
/// Between the two looks that rates are made of.
const BETWEEN: Duration = Duration::from_millis(500);

/// Arguments of `lunette status`.
#[derive(Args)]
#[command(after_help = "Examples:\n  lunette status\n  lunette status --json | jq .door.logins\n  \
    lunette status --check || mail -s lunette root\n\n\
    Exit codes: 0 it answered, 1 it failed while running or --check has something to warn of, 2 wrong arguments, \
    3 no daemon answers there.")]
pub struct Arguments {
    /// The daemon's socket [default: where `lunette serve` puts it]
    #[arg(long, value_name = "PATH")]
    control: Option<PathBuf>,
    /// The --state-dir of the daemon, where its socket is in it
    #[arg(long, value_name = "DIR", conflicts_with = "control")]
    state_dir: Option<PathBuf>,
    /// As JSON, whole
    #[arg(long)]
    json: bool,
    /// Every bound and all refusals that are remembered
    #[arg(long, short)]
    verbose: bool,
    /// Fail (1) where there is something to warn of, and say nothing but that
    #[arg(long)]
    check: bool,
}

/// Asks and prints.
pub fn run(arguments: &Arguments) -> Result<(), Failure> {
    let path = control::path(arguments.control.as_deref(), arguments.state_dir.as_deref())
        .ok_or_else(|| Failure::input("where the daemon's socket is, is not known; name it with --control PATH"))?;
    let (running, before) = (ask(&path, "/v1/running")?, ask(&path, "/v1/statistics")?);
    let (door, sessions, sandbox) = (ask(&path, "/v1/door")?, ask(&path, "/v1/sessions")?, ask(&path, "/v1/sandbox")?);
    let warnings = page::warnings(&running, &before, &door, &sessions);
    if arguments.check {
        return match warnings.is_empty() {
            true => Ok(()),
            false => Err(Failure::runtime(warnings.join("; "))),
        };
    }
    let text = match arguments.json {
        true => {
            let statistics = &before;
            let whole = json!({
                "running": running, "door": door, "sessions": sessions, "sandbox": sandbox, "statistics": statistics,
                "warnings": warnings,
            });
            format!("{whole}\n")
        }
        false => {
            std::thread::sleep(BETWEEN);
            let statistics = ask(&path, "/v1/statistics")?;
            let page = page::Page {
                running: &running,
                before: &before,
                statistics: &statistics,
                door: &door,
                sessions: &sessions,
                sandbox: &sandbox,
            };
            page.text(&warnings, arguments.verbose)
        }
    };
    // Whoever asked may have closed the pipe.
    let _ = std::io::stdout().write_all(text.as_bytes());
    Ok(())
}

/// One GET over the socket.
pub fn ask(path: &Path, what: &str) -> Result<Value, Failure> {
    let failed = |why: &str| Failure::runtime(format!("{}: {why}", path.display()));
    let mut stream = UnixStream::connect(path).map_err(|error| control::nobody(path, &error))?;
    let exchange = |stream: &mut UnixStream| -> std::io::Result<Vec<u8>> {
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        write!(stream, "GET {what} HTTP/1.1\r\nHost: lunette\r\nConnection: close\r\n\r\n")?;
        let mut answer = Vec::new();
        stream.take(ANSWER_BYTES).read_to_end(&mut answer)?;
        Ok(answer)
    };
    let answer = exchange(&mut stream).map_err(|error| failed(&error.to_string()))?;
    let answer = String::from_utf8(answer).map_err(|_| failed("its answer is no text"))?;
    let (head, body) = answer.split_once("\r\n\r\n").ok_or_else(|| failed("it closed without an answer"))?;
    let status = head.split(' ').nth(1).unwrap_or_default();
    let body: Value = serde_json::from_str(body).map_err(|error| failed(&format!("its answer is no JSON: {error}")))?;
    match status {
        "200" => Ok(body),
        _ => Err(failed(&format!("status {status}: {}", body["message"].as_str().unwrap_or_default()))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failure::Cause;

    #[test]
    fn a_daemon_that_is_not_there_is_told_with_the_remedy() {
        let folder = sim::daemon::Folder::new();
        let Err(Failure::Because(Cause::Unreachable, line)) = ask(&folder.path().join("none.sock"), "/v1/door") else {
            panic!("somebody answered")
        };
        assert!(line.contains("none.sock") && line.contains("lunette serve") && line.contains("--control"), "{line}");
    }
}
