//! `lunette check`: says all that is wrong with a configuration file, before anything is done with it.

use crate::configuration::{self, Found, Severity, schema};
use crate::failure::Failure;
use clap::Args;
use std::io::Write;
use std::path::PathBuf;

const EXAMPLES: &str = "\
Examples:
  lunette check /etc/lunette/lunette.toml
  lunette check --json lunette.toml
  lunette check --schema > lunette.schema.json

Each finding begins with FILE:LINE:COLUMN, as compilers have it, and says what would be right. What depends on who
runs the daemon (permissions), or may change by itself (addresses), is a warning.

Exit codes: 0 it can be served, 2 it cannot.";

/// Arguments of `lunette check`.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    /// The file
    #[arg(value_name = "FILE", required_unless_present = "schema")]
    file: Option<PathBuf>,
    /// As JSON
    #[arg(long)]
    json: bool,
    /// Print the JSON Schema of the file, for editors
    #[arg(long, conflicts_with_all = ["file", "json"])]
    schema: bool,
}

/// Reads and tells.
pub fn run(arguments: &Arguments) -> Result<(), Failure> {
    let Some(path) = &arguments.file else {
        print(&schema::text());
        return Ok(());
    };
    let text = configuration::load(path)?;
    let name = path.display().to_string();
    let (findings, configuration) = configuration::check(&name, &text, Some(path));
    let wrong = findings.iter().any(|found| found.severity == Severity::Error);
    if arguments.json {
        print(&json(&findings));
        return if wrong { Err(Failure::Told) } else { Ok(()) };
    }
    let shown = configuration::finding::text(&findings);
    if wrong {
        return Err(Failure::Findings(shown));
    }
    let _ = std::io::stderr().write_all(shown.as_bytes());
    let targets = configuration.iter().flat_map(|configuration| &configuration.targets);
    let (mut count, mut disks) = (0, 0);
    for target in targets {
        (count, disks) = (count + 1, disks + target.disks.len());
    }
    let many = |count: usize, one: &str| format!("{count} {one}{}", if count == 1 { "" } else { "s" });
    let warnings = if findings.is_empty() { String::new() } else { format!(", {}", many(findings.len(), "warning")) };
    print(&format!("{name}: can be served: {}, {}{warnings}\n", many(count, "target"), many(disks, "LUN")));
    Ok(())
}

fn json(findings: &[Found]) -> String {
    let count = |severity| findings.iter().filter(|found| found.severity == severity).count();
    let (errors, warnings) = (count(Severity::Error), count(Severity::Warning));
    let list: Vec<_> = findings.iter().map(Found::json).collect();
    format!("{:#}\n", serde_json::json!({ "findings": list, "errors": errors, "warnings": warnings }))
}

fn print(text: &str) {
    // Whoever asked may have closed the pipe.
    let _ = std::io::stdout().write_all(text.as_bytes());
}
