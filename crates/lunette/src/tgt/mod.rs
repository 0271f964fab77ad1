//! scsi-target-utils' commands: `compat::tgt` has their words, and here they are done, by a daemon that is asked over
//! its socket or by edits of a document.

mod access;
mod account;
mod daemon;
mod export;
mod import;
mod link;
mod machine;
mod paper;
mod programs;
mod show;
mod target;
mod unit;

pub use export::Arguments as ExportArguments;
pub use export::run as export;
pub use import::Arguments as ImportArguments;
pub use import::run as import;
pub use programs::{setup_lun, tgtd, tgtimg};

use access::Combining;
use compat::tgt::{Daemon, Manner, Run, admin};
use daemon::Served;
use link::Link;
use std::io::Write;
use std::process::ExitCode;

/// In whose manner it prints.
const LIKE: &str = "LUNETTE_TGTADM_LIKE";

/// In whose manner is printed, as the environment says.
fn manner() -> Manner {
    let like = std::env::var(LIKE).ok();
    like.as_deref().and_then(Manner::named).unwrap_or_default()
}

/// The manner, and the words behind it. `--like VERSION` before all others chooses it.
fn chosen(words: &[String]) -> Result<(Manner, &[String]), String> {
    let (like, words) = match words {
        [option, version, rest @ ..] if option == "--like" => (Some(version.clone()), rest),
        [option, rest @ ..] if option.starts_with("--like=") => {
            (option.strip_prefix("--like=").map(str::to_owned), rest)
        }
        words => (std::env::var(LIKE).ok().filter(|version| !version.is_empty()), words),
    };
    match like {
        None => Ok((Manner::default(), words)),
        Some(like) => match Manner::named(&like) {
            Some(manner) => Ok((manner, words)),
            None => Err(format!("{like}: like 1.0.85 or 1.0.24")),
        },
    }
}

/// `tgtadm`.
pub fn tgtadm(words: &[String]) -> ExitCode {
    let (manner, words, combining) = match ready(words) {
        Ok(ready) => ready,
        Err(line) => return fail("tgtadm", &line),
    };
    let daemon = |port| Box::new(Served::new(Link::of_port(port), combining)) as Box<dyn Daemon>;
    let (mut out, mut err) = (std::io::stdout().lock(), std::io::stderr().lock());
    let code = Run { daemon: &daemon, manner, out: &mut out, err: &mut err }.run(words);
    let _ = out.flush();
    ExitCode::from(code)
}

/// `tgt-admin`.
pub fn tgt_admin(words: &[String]) -> ExitCode {
    let (manner, words, combining) = match ready(words) {
        Ok(ready) => ready,
        Err(line) => return fail("tgt-admin", &line),
    };
    let daemon = |port| Box::new(Served::new(Link::of_port(port), combining)) as Box<dyn admin::Whole>;
    // Whoever names a socket of his own has a daemon of his own.
    let is_root = rustix::process::geteuid().is_root() || std::env::var_os("TGT_IPC_SOCKET").is_some();
    let (mut out, mut err) = (std::io::stdout().lock(), std::io::stderr().lock());
    let mut run =
        admin::Run { daemon: &daemon, machine: &machine::Here, is_root, manner, out: &mut out, err: &mut err };
    let code = run.run(words);
    let _ = out.flush();
    ExitCode::from(code)
}

fn ready(words: &[String]) -> Result<(Manner, &[String], Combining), String> {
    let (manner, words) = chosen(words)?;
    Ok((manner, words, Combining::of_environment()?))
}

fn fail(program: &str, line: &str) -> ExitCode {
    eprintln!("{program}: {line}");
    ExitCode::from(22)
}
