//! `lunette import`: the configuration of another server as a `lunette.toml`, with a note for whatever has no equal.

mod saveconfig;
mod targets_conf;

use crate::failure::Failure;
use clap::Args;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Arguments of `lunette import`.
#[derive(Args)]
#[command(after_help = "Examples:
  lunette import /etc/tgt/targets.conf -o /etc/lunette/lunette.toml
  lunette import /etc/target/saveconfig.json
  lunette import targets.conf | diff /etc/lunette/lunette.toml -

Notes go to standard error, each with FILE:LINE, or with its place in the JSON. Disks keep the names by which
initiators know them (serial numbers, NAA), so that multipath sees the same disks. docs/tgt.md says what has an equal.")]
pub struct Arguments {
    /// tgt's targets.conf, with all that it includes, or LIO's saveconfig.json
    file: PathBuf,
    /// Write it there, for nobody else to read [default: standard output]
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Replace the file that is there
    #[arg(long, requires = "output")]
    force: bool,
}

/// What came of an import.
#[derive(Debug, Default)]
pub struct Imported {
    /// The document.
    pub text: String,
    /// What has no equal, with its place.
    pub notes: Vec<String>,
}

/// Imports and writes.
pub fn run(arguments: &Arguments) -> Result<(), Failure> {
    let imported = import(&arguments.file)?;
    imported.notes.iter().for_each(|note| eprintln!("{note}"));
    // What would not be served is not written: who imports wants to know now.
    let name = arguments.output.as_ref().map_or_else(|| "lunette.toml".to_owned(), |path| path.display().to_string());
    let reading = crate::configuration::read(&name, &imported.text, None);
    let findings = match reading.whole() {
        Ok((_, findings)) => findings,
        Err(findings) => {
            // The document helps to see what is meant.
            let _ = std::io::stdout().write_all(imported.text.as_bytes());
            return Err(Failure::Findings(crate::configuration::finding::text(&findings)));
        }
    };
    findings.iter().for_each(|finding| eprintln!("{}", finding.in_a_line()));
    match &arguments.output {
        Some(path) => write(path, &imported.text, arguments.force),
        None => {
            // Whoever asked may have closed the pipe.
            let _ = std::io::stdout().write_all(imported.text.as_bytes());
            Ok(())
        }
    }
}

/// The document of this file, whichever kind it is.
pub fn import(path: &Path) -> Result<Imported, Failure> {
    let failed = |error: std::io::Error| Failure::input(format!("{}: {error}", path.display()));
    let bytes = std::fs::read(path).map_err(failed)?;
    let first = bytes.iter().find(|byte| !byte.is_ascii_whitespace());
    match first {
        Some(b'{') => saveconfig::import(&path.display().to_string(), &bytes),
        _ => targets_conf::import(path),
    }
}

/// It may have secrets: nobody else reads it.
fn write(path: &Path, text: &str, force: bool) -> Result<(), Failure> {
    let failed = |error: std::io::Error| {
        let remedy = match error.kind() {
            std::io::ErrorKind::AlreadyExists => "; --force replaces it",
            _ => "",
        };
        Failure::input(format!("{}: {error}{remedy}", path.display()))
    };
    let mut options = std::fs::OpenOptions::new();
    options.write(true).mode(0o600);
    let mut file = match force {
        true => options.create(true).truncate(true).open(path),
        false => options.create_new(true).open(path),
    }
    .map_err(failed)?;
    file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(failed)
}

/// A text in quotation marks, as TOML has it.
pub fn quoted(text: &str) -> String {
    toml_edit::Value::from(text).to_string().trim().to_owned()
}
