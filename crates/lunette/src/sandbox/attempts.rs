//! `lunette sandbox`: goes into the sandbox as the daemon does, tries what it is to keep out, and tells what came
//! of it on this machine.

use super::{Needs, Settings, enter, view};
use crate::failure::Failure;
use clap::Args;
use serde_json::json;
use std::fs::File;
use std::io::{Error, Write};
use std::os::unix::process::CommandExt;
use std::process::Command;
use stores::host::{How, host};

const EXAMPLES: &str = "\
Examples:
  lunette sandbox                    as the daemon is by default, on this machine
  lunette sandbox --user lunette     as one that becomes another user (as root)
  lunette sandbox --no-sandbox       what could be done without it

Exit codes: 0 everything was kept out, 1 something was not, 2 what was asked cannot be done as asked.";

/// Arguments of `lunette sandbox`.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    /// Become this user first
    #[arg(long, value_name = "USER")]
    user: Option<String>,
    /// Put nothing on
    #[arg(long)]
    no_sandbox: bool,
    /// As JSON
    #[arg(long)]
    json: bool,
}

/// What is tried, and whether it was possible.
struct Attempt {
    what: &'static str,
    outcome: Result<(), Error>,
}

/// Tries all of it.
pub fn run(arguments: &Arguments) -> Result<(), Failure> {
    let settings = match arguments.no_sandbox {
        true => Settings::NONE,
        false => Settings::default(),
    };
    enter(&Settings { user: arguments.user.clone(), ..settings }, &Needs::default())?;
    let attempts = attempts();
    let open = attempts.iter().filter(|attempt| attempt.outcome.is_ok()).count();
    let said = |outcome: &Result<(), Error>| match outcome {
        Ok(()) => "POSSIBLE".to_owned(),
        Err(error) => error.to_string(),
    };
    let text = if arguments.json {
        let list = attempts.iter().map(|attempt| {
            json!({ "what": attempt.what, "possible": attempt.outcome.is_ok(), "answer": said(&attempt.outcome) })
        });
        format!("{}\n", json!({ "sandbox": view(), "attempts": list.collect::<Vec<_>>() }))
    } else {
        let lines = attempts.iter().map(|attempt| format!("{:<42} {}\n", attempt.what, said(&attempt.outcome)));
        format!("{}\n\n{}", super::line(&view()), lines.collect::<String>())
    };
    // Whoever asked may have closed the pipe.
    let _ = std::io::stdout().write_all(text.as_bytes());
    match open {
        0 => Ok(()),
        _ => Err(Failure::runtime(format!("{open} of {} attempts were possible", attempts.len()))),
    }
}

fn attempts() -> Vec<Attempt> {
    let mut all = Vec::new();
    let mut attempt = |what, outcome: Result<(), Error>| all.push(Attempt { what, outcome });
    attempt("start a program", Command::new("/bin/true").status().map(drop));
    attempt("read /etc/shadow", File::open("/etc/shadow").map(drop));
    attempt("read /etc/shadow by the opener", host().open("/etc/shadow".as_ref(), How::READ).map(drop));
    let beside = std::env::temp_dir().join(format!("lunette-sandbox-{}", std::process::id()));
    attempt("make a file somewhere", File::create(&beside).map(drop));
    let _ = std::fs::remove_file(&beside);
    let parent = rustix::process::getppid();
    let memory = parent.map(|parent| format!("/proc/{}/mem", parent.as_raw_nonzero())).unwrap_or_default();
    attempt("look into another process", File::open(memory).map(drop));
    let signalled = parent.map_or(Err(rustix::io::Errno::SRCH), rustix::process::test_kill_process);
    attempt("send a signal to another process", signalled.map_err(Error::from));
    // One that nobody would see: where it is possible, no harm is done.
    let memory = rustix::mount::fsopen("tmpfs", rustix::mount::FsOpenFlags::FSOPEN_CLOEXEC);
    attempt("mount a file system", memory.map(drop).map_err(Error::from));
    let root = rustix::fs::Uid::ROOT;
    attempt("become root", rustix::thread::set_thread_res_uid(root, root, root).map_err(Error::from));
    let packets = rustix::net::AddressFamily::PACKET;
    let socket = rustix::net::socket(packets, rustix::net::SocketType::RAW, None);
    attempt("listen to the network's packets", socket.map(drop).map_err(Error::from));
    // It comes back only where it was not possible. Where it was, the shell says what we would have.
    let all_done = all.iter().all(|attempt| attempt.outcome.is_err());
    if all_done {
        let error = Command::new("/bin/sh").args(["-c", "echo 'become another program: POSSIBLE'; exit 1"]).exec();
        all.push(Attempt { what: "become another program", outcome: Err(error) });
    }
    all
}
