//! `lunette export`: a `lunette.toml` as the configuration of another server, with a note for whatever has no equal.

mod saveconfig;
mod targets_conf;

pub use targets_conf::export as targets_conf;

use crate::configuration;
use crate::failure::Failure;
use clap::{Args, ValueEnum};
use std::io::Write;
use std::path::PathBuf;

/// Arguments of `lunette export`.
#[derive(Args)]
#[command(after_help = "Examples:
  lunette export --as targets.conf /etc/lunette/lunette.toml
  lunette export --as saveconfig.json /etc/lunette/lunette.toml > saveconfig.json

The output has the secrets that the file has. Notes of what has no equal go to standard error.")]
pub struct Arguments {
    /// The lunette.toml
    file: PathBuf,
    /// Whose configuration it is to be
    #[arg(long = "as", value_name = "KIND")]
    kind: Kind,
}

/// Kinds of configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Kind {
    /// tgt's
    #[value(name = "targets.conf")]
    TargetsConf,
    /// LIO's
    #[value(name = "saveconfig.json")]
    Saveconfig,
}

/// Exports and prints.
pub fn run(arguments: &Arguments) -> Result<(), Failure> {
    let text = configuration::load(&arguments.file)?;
    let name = arguments.file.display().to_string();
    // What is wrong is told by its place, and not by what comes of it.
    if let Err(findings) = configuration::read(&name, &text, Some(&arguments.file)).whole() {
        return Err(Failure::Findings(configuration::finding::text(&findings)));
    }
    let (out, notes) = match arguments.kind {
        Kind::TargetsConf => targets_conf(&text),
        Kind::Saveconfig => saveconfig::export(&text),
    }
    .map_err(|why| Failure::runtime(format!("{name}: {why}")))?;
    notes.iter().for_each(|note| eprintln!("{name}: note: {note}"));
    // Whoever asked may have closed the pipe.
    let _ = std::io::stdout().write_all(out.as_bytes());
    Ok(())
}

/// The secret that the document says of this account.
fn secret_of(document: &toml_edit::DocumentMut, name: &str) -> Option<String> {
    let account = document.get("account")?.get(name)?;
    account.get("secret")?.as_str().map(str::to_owned)
}

/// What an account calls itself.
fn user_of(document: &toml_edit::DocumentMut, name: &str) -> String {
    let user = document.get("account").and_then(|accounts| accounts.get(name)?.get("user")?.as_str());
    user.unwrap_or(name).to_owned()
}
