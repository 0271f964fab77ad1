//! Where a command has an account's secret from: a file, standard input, or a prompt without echo. Never from its
//! words, which everybody can read who lists processes.

use crate::failure::Failure;
use serde_json::{Map, Value};
use std::io::{BufRead, IsTerminal};
use std::path::Path;
use zeroize::Zeroizing;

/// The places of a secret that the daemon itself reads.
const PLACES: [&str; 3] = ["secret_file", "secret_env", "secret_credential"];

/// Adds the secret to what is said of an account, where it is to be asked for or read.
pub fn add(body: &mut Map<String, Value>, is_new: bool, from: Option<&str>) -> Result<(), Failure> {
    let secret = match from {
        Some("-") => read()?,
        Some(file) => initiator::address::read_secret_file(Path::new(file))
            .map_err(|error| Failure::input(format!("--secret-from {error}")))?,
        None if is_new && !PLACES.iter().any(|place| body.contains_key(*place)) => read()?,
        None => return Ok(()),
    };
    body.insert("secret".to_owned(), secret.as_str().into());
    Ok(())
}

fn read() -> Result<Zeroizing<String>, Failure> {
    let stdin = std::io::stdin();
    if stdin.is_terminal() {
        let failed = |error: std::io::Error| Failure::input(format!("the secret could not be read: {error}"));
        let secret = Zeroizing::new(rpassword::prompt_password("Secret: ").map_err(failed)?);
        let again = Zeroizing::new(rpassword::prompt_password("Once more: ").map_err(failed)?);
        return match secret == again {
            true => Ok(secret),
            false => Err(Failure::input("the two are not the same; nothing was changed")),
        };
    }
    let mut line = Zeroizing::new(String::new());
    let mut limited = std::io::Read::take(stdin.lock(), 4096);
    limited.read_line(&mut line).map_err(|error| Failure::input(format!("standard input: {error}")))?;
    let secret = Zeroizing::new(line.trim_end_matches(['\r', '\n']).to_owned());
    match secret.is_empty() {
        true => Err(Failure::input(
            "there is no secret on standard input; give one there, name a file with --secret-from FILE, or a place at the \
             daemon with --secret-file PATH",
        )),
        false => Ok(secret),
    }
}
