//! `cargo xtask counts` and the suite `counts`: how many instructions each inner part takes, under
//! callgrind, compared with the table of docs/instruction-counts.md.
//!
//! A case of crates/measure is run twice, with different numbers of calls; the difference has neither the
//! start of the process nor the case's preparation in it, and repeats to the instruction.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

const USAGE: &str = "usage: cargo xtask counts [--write]   counts anew, shows, and with --write renews the table";
/// The table, in the repository.
const TABLE: &str = "docs/instruction-counts.md";
/// Calls of a case in its two runs.
const CALLS: (u64, u64) = (100, 300);
/// What may differ: parts of a thousand, and for the smallest some instructions.
const TOLERANCE: (u64, u64) = (30, 3);

/// A case with its instructions for one call.
pub type Count = (String, u64);

/// What the committed table says.
#[derive(Debug, PartialEq, Eq)]
pub struct Table {
    /// The compiler and processor that it holds for.
    pub made_by: String,
    pub counts: Vec<Count>,
}

/// How a case stands to its row.
#[derive(Debug, PartialEq, Eq)]
pub enum Verdict {
    Same,
    /// Fewer than the tolerance allows: the row would hide a later loss.
    Better(String),
    Worse(String),
}

/// The command itself.
pub fn run(root: &Path, words: &[String]) -> ExitCode {
    let write = match words.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => false,
        ["--write"] => true,
        _ => {
            eprintln!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    let done = measure(root).and_then(|counts| {
        let before = table(root).map(|table| table.counts).unwrap_or_default();
        for (name, count) in &counts {
            let was = before.iter().find(|(other, _)| other == name).map_or(String::new(), |(_, was)| format!("{was}"));
            println!("{name:<40} {count:>8} {was:>8}");
        }
        if write {
            let path = root.join(TABLE);
            let text = std::fs::read_to_string(&path).map_err(|error| format!("{TABLE}: {error}"))?;
            let renewed = renew(&text, &made_by()?, &counts);
            std::fs::write(path, renewed).map_err(|error| format!("{TABLE}: {error}"))?;
        }
        Ok(())
    });
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("xtask counts: {why}");
            ExitCode::from(2)
        }
    }
}

/// The committed table.
pub fn table(root: &Path) -> Result<Table, String> {
    let text = std::fs::read_to_string(root.join(TABLE)).map_err(|error| format!("{TABLE}: {error}"))?;
    parse(&text).ok_or_else(|| format!("{TABLE}: has no line `Counted with …`"))
}

/// What the counts depend on and every run can tell: compiler and kind of processor.
pub fn made_by() -> Result<String, String> {
    let output = Command::new(std::env::var("RUSTC").unwrap_or_else(|_| "rustc".into()))
        .arg("--version")
        .output()
        .map_err(|error| format!("rustc: {error}"))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let version = text.split_whitespace().nth(1).ok_or("rustc tells no version")?;
    Ok(format!("rustc {version}, {}", std::env::consts::ARCH))
}

/// Counts every case.
pub fn measure(root: &Path) -> Result<Vec<Count>, String> {
    let built = Command::new(env!("CARGO"))
        .args(["build", "--quiet", "--release", "--locked", "--package", "lunette-measure", "--bin", "counts"])
        .current_dir(root)
        .status();
    if !built.is_ok_and(|status| status.success()) {
        return Err("crates/measure does not build".into());
    }
    let folder = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| PathBuf::from("target"), PathBuf::from);
    let binary = root.join(folder).join("release/counts");
    let listed = Command::new(&binary).output().map_err(|error| format!("{}: {error}", binary.display()))?;
    let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
    let mut counts = Vec::new();
    for name in listed.lines() {
        let (few, many) = (callgrind(&binary, name, CALLS.0)?, callgrind(&binary, name, CALLS.1)?);
        let calls = CALLS.1 - CALLS.0;
        counts.push((name.to_owned(), (many.saturating_sub(few) + calls / 2) / calls));
    }
    Ok(counts)
}

/// Instructions of one whole run.
fn callgrind(binary: &Path, name: &str, calls: u64) -> Result<u64, String> {
    // What stands in the environment and in the path moves stack and heap, by which memcpy and realloc go.
    let (folder, file) = (binary.parent().unwrap_or(Path::new(".")), binary.file_name().unwrap_or_default());
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(Path::new(".").join(file))
        .args([name, &calls.to_string()])
        .current_dir(folder)
        .env_clear()
        .env("PATH", "/usr/local/bin:/usr/bin:/bin")
        .output()
        .map_err(|error| format!("valgrind: {error}"))?;
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    let collected = text
        .lines()
        .find_map(|line| line.split_once("Collected : "))
        .and_then(|(_, number)| number.trim().parse().ok());
    match (output.status.success(), collected) {
        (true, Some(number)) => Ok(number),
        _ => Err(format!("{name}: callgrind counted nothing: {}", text.lines().last().unwrap_or_default())),
    }
}

/// A case against its row.
pub fn compare(expected: u64, found: u64) -> Verdict {
    let slack = (expected * TOLERANCE.0 / 1000).max(TOLERANCE.1);
    let change = (found as f64 / expected.max(1) as f64 - 1.0) * 100.0;
    let line = format!("expected {expected} instructions, found {found} ({change:+.1} %)");
    match found {
        _ if found > expected + slack => {
            Verdict::Worse(format!("{line}; where that is meant: cargo xtask counts --write"))
        }
        _ if found + slack < expected => {
            Verdict::Better(format!("{line}; better: keep it with cargo xtask counts --write"))
        }
        _ => Verdict::Same,
    }
}

fn parse(text: &str) -> Option<Table> {
    let made_by = text.lines().find_map(|line| line.strip_prefix("Counted with "))?.trim_end_matches('.').to_owned();
    let row = |line: &str| -> Option<Count> {
        let mut cells = line.strip_prefix("| ")?.strip_suffix(" |")?.split(" | ");
        Some((cells.next()?.to_owned(), cells.next()?.replace(',', "").parse().ok()?))
    };
    Some(Table { made_by, counts: text.lines().filter_map(row).collect() })
}

/// The text with a new table; what stands around it stays.
fn renew(text: &str, made_by: &str, counts: &[Count]) -> String {
    let mut rows = String::from("| case | instructions |\n|---|---|\n");
    for (name, count) in counts {
        let _ = writeln!(rows, "| {name} | {count} |");
    }
    let (mut renewed, mut rows) = (String::new(), Some(rows));
    for line in text.lines() {
        if line.starts_with('|') {
            renewed.push_str(&rows.take().unwrap_or_default());
        } else if line.starts_with("Counted with ") {
            let _ = writeln!(renewed, "Counted with {made_by}.");
        } else {
            renewed.push_str(line);
            renewed.push('\n');
        }
    }
    renewed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_read_as_it_was_written_and_the_words_around_it_stay() {
        let text =
            "# T\n\nCounted with rustc 1.0.0, x86_64.\n\n| case | instructions |\n|---|---|\n| old | 1 |\n\nEnd.\n";
        let counts = vec![("a: b, c".to_owned(), 1234), ("d".to_owned(), 5)];
        let renewed = renew(text, "rustc 2.0.0, x86_64", &counts);
        assert!(renewed.starts_with("# T\n") && renewed.ends_with("\n\nEnd.\n"), "{renewed}");
        assert_eq!(parse(&renewed), Some(Table { made_by: "rustc 2.0.0, x86_64".into(), counts }));
        assert_eq!(parse("| a | 1 |"), None);
    }

    #[test]
    fn three_percent_are_let_pass_and_a_loss_is_named() {
        assert_eq!(compare(1000, 1030), Verdict::Same);
        assert_eq!(compare(10, 13), Verdict::Same);
        let Verdict::Worse(line) = compare(1000, 1031) else { panic!("1031 of 1000") };
        assert!(line.starts_with("expected 1000 instructions, found 1031 (+3.1 %)"), "{line}");
        assert!(matches!(compare(1000, 969), Verdict::Better(_)));
    }
}
