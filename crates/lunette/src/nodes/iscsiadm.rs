//! `iscsiadm`, by that name or as `lunette iscsiadm`: its words go to `compat::iscsiadm` as they are.

use super::Settings;
use compat::iscsiadm::Run;
use compat::records::Manner;
use std::io::Write;
use std::process::ExitCode;

/// In whose manner it prints.
const LIKE: &str = "LUNETTE_ISCSIADM_LIKE";

/// Runs with the words behind the program's name. `--like VERSION` before all others chooses the manner.
pub fn main(words: &[String]) -> ExitCode {
    let (like, words) = match words {
        [option, version, rest @ ..] if option == "--like" => (Some(version.clone()), rest),
        [option, rest @ ..] if option.starts_with("--like=") => {
            (option.strip_prefix("--like=").map(str::to_owned), rest)
        }
        words => (std::env::var(LIKE).ok().filter(|version| !version.is_empty()), words),
    };
    let manner = match like.as_deref().map(Manner::named) {
        None => Manner::default(),
        Some(Some(manner)) => manner,
        Some(None) => return fail(7, &format!("{}: like 2.1.8 or 6.2.0-873", like.unwrap_or_default())),
    };
    let settings = match Settings::of_environment() {
        Ok(settings) => settings,
        Err(failure) => return fail(7, &failure.to_string()),
    };
    let database = settings.database();
    let machine = match settings.machine(&database) {
        Ok(machine) => machine,
        Err(failure) => return fail(1, &failure.to_string()),
    };
    let (mut out, mut err) = (std::io::stdout().lock(), std::io::stderr().lock());
    let code = Run::new(&database, &machine, manner, &mut out, &mut err).run(words);
    // Whoever asked may have closed the pipe.
    let _ = out.flush();
    ExitCode::from(code.0)
}

fn fail(code: u8, line: &str) -> ExitCode {
    eprintln!("iscsiadm: {line}");
    ExitCode::from(code)
}
