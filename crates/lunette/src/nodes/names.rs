//! Names for initiators: `iscsi-iname` and `iscsi-gen-initiatorname`.

use super::Settings;
use compat::records::{Database, random_name};
use std::process::ExitCode;

/// What a generated file's names begin with where nothing else is wanted.
const GENERATED: &str = "iqn.1996-04.de.suse:01";
/// Characters of a prefix, so that a name with it is one (RFC 7143 §4.2.7.1).
const PREFIX_MAX: usize = 210;

/// `iscsi-iname [-p PREFIX] [-g]`: prints a name that nobody else has.
pub fn iscsi_iname(words: &[String]) -> ExitCode {
    const USAGE: &str = "Usage: iscsi-iname [OPTIONS]\nWhere OPTIONS are from:\n    \
        -p/--prefix <prefix>          -- set IQN prefix [iqn.2016-04.com.open-iscsi]\n    \
        -g/--generate-iname-prefix    -- generate the InitiatorName= prefix\n\
        where <prefix> has max length of 210";
    let (mut prefix, mut with_key) = (None, false);
    let mut words = words.iter();
    while let Some(word) = words.next() {
        match word.as_str() {
            "-p" | "--prefix" => match words.next() {
                Some(word) if (1..=PREFIX_MAX).contains(&word.len()) => prefix = Some(word.as_str()),
                _ => {
                    eprintln!("iscsi-iname: a prefix of 1 to {PREFIX_MAX} characters is expected\n{USAGE}");
                    return ExitCode::FAILURE;
                }
            },
            "-g" | "--generate-iname-prefix" => with_key = true,
            "-h" | "--help" => {
                println!("{USAGE}");
                return ExitCode::SUCCESS;
            }
            other => {
                eprintln!("iscsi-iname: invalid option -- '{}'\n{USAGE}", other.trim_start_matches('-'));
                return ExitCode::FAILURE;
            }
        }
    }
    match random_name(prefix) {
        Ok(name) => {
            println!("{}{name}", if with_key { "InitiatorName=" } else { "" });
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("iscsi-iname: {error}");
            ExitCode::FAILURE
        }
    }
}

/// `iscsi-gen-initiatorname [-f] [-p PREFIX]`: gives this machine a name, unless it has one.
pub fn iscsi_gen_initiatorname(words: &[String]) -> ExitCode {
    const USAGE: &str = "Usage: iscsi-gen-initiatorname [-f] [-p PREFIX]\n  \
        -f          another name, though there is one: targets will not know this machine any more\n  \
        -p PREFIX   what the name begins with [iqn.1996-04.de.suse:01]";
    let (mut prefix, mut force) = (GENERATED.to_owned(), false);
    let mut words = words.iter();
    while let Some(word) = words.next() {
        match (word.as_str(), words.as_slice().first()) {
            ("-f", _) => force = true,
            ("-p", Some(word)) if (1..=PREFIX_MAX).contains(&word.len()) => {
                prefix.clone_from(word);
                words.next();
            }
            ("-h" | "--help", _) => {
                println!("{USAGE}");
                return ExitCode::SUCCESS;
            }
            (other, _) => {
                eprintln!("iscsi-gen-initiatorname: {other}: not known\n{USAGE}");
                return ExitCode::FAILURE;
            }
        }
    }
    let done = Settings::of_environment().map_err(|failure| failure.to_string()).and_then(|settings| {
        let database = settings.database();
        generate(&database, &prefix, force).map_err(|error| error.to_string())
    });
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(line) => {
            eprintln!("iscsi-gen-initiatorname: {line}");
            ExitCode::FAILURE
        }
    }
}

fn generate(database: &Database, prefix: &str, force: bool) -> Result<(), compat::records::Error> {
    match database.initiator_name()? {
        Some(_) if !force => Ok(()),
        _ => database.name_as(&random_name(Some(prefix))?),
    }
}
