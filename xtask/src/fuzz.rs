//! Fuzz targets (fuzz/): built with the compiler's coverage passes by plain cargo, as cargo-fuzz does it, so that
//! nothing need be installed but a C++ compiler for libFuzzer; run, replayed, and rerun with one input.
//!
//! What a run finds interesting is kept in target/fuzz-found/TARGET and goes on from there; inputs that fail are in
//! fuzz/artifacts/TARGET.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

/// The flags of cargo-fuzz without a sanitizer: edge coverage, and compared values as hints. They are
/// LLVM's, so that a stable compiler takes them.
const FLAGS: &str = "-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares --cfg fuzzing";

/// Bytes of an input at most; what is longer says the same more slowly.
const INPUT_BYTES: u32 = 12 << 10;
/// An input that takes longer has hung.
const INPUT_SECONDS: u32 = 20;
/// Memory of a run at most.
const RUN_MEBIBYTES: u32 = 2048;

const USAGE: &str = "usage: cargo xtask fuzz TARGET [--time 10s|20m|1h] | cargo xtask fuzz TARGET INPUT...";

/// The targets: one file each.
pub fn targets(root: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(root.join("fuzz/fuzz_targets")).into_iter().flatten().flatten();
    let mut names: Vec<String> =
        entries.filter_map(|entry| entry.file_name().to_str()?.strip_suffix(".rs").map(str::to_owned)).collect();
    names.sort();
    names
}

/// `cargo xtask fuzz`: for as long as is asked, or with the inputs that are named.
pub fn run(root: &Path, words: &[String]) -> ExitCode {
    let targets = targets(root);
    let Some((target, rest)) = words.split_first().filter(|(target, _)| targets.contains(target)) else {
        eprintln!("{USAGE}\n\nTargets: {}", targets.join(", "));
        return ExitCode::from(2);
    };
    let time = match rest {
        [flag, time] if flag == "--time" => match parse(time) {
            Some(time) => Some(time),
            None => {
                eprintln!("xtask: --time {time}: a number with s, m or h, for example 20m");
                return ExitCode::from(2);
            }
        },
        _ => None,
    };
    let outcome = build(root).and_then(|folder| {
        let mut command = fuzzer(root, &folder, target);
        match (time, rest) {
            (None, inputs @ [_, ..]) => {
                // Named from wherever the caller is, or from the root.
                command.args(inputs.iter().map(|input| Path::new(input).canonicalize().unwrap_or(input.into())));
            }
            (time, _) => {
                let seconds = time.map_or(0, |time| time.as_secs());
                command.arg(format!("-max_total_time={seconds}")).args(folders(root, target)?);
            }
        }
        command.status().map_err(|error| error.to_string())
    });
    match outcome {
        Ok(status) if status.success() => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(why) => {
            eprintln!("xtask: {why}");
            ExitCode::FAILURE
        }
    }
}

/// Builds all targets; gives the folder in which they are.
pub fn build(root: &Path) -> Result<PathBuf, String> {
    let host = host()?;
    let into = root.join("target/fuzz");
    // Naming the machine keeps the flags away from build scripts and macros, which run without libFuzzer.
    let built = Command::new(env!("CARGO"))
        .args(["build", "--release", "--bins", "--locked", "--target", &host, "--target-dir"])
        .arg(&into)
        .current_dir(root.join("fuzz"))
        .env("RUSTFLAGS", FLAGS)
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .status();
    match built {
        Ok(status) if status.success() => Ok(into.join(host).join("release")),
        Ok(_) => Err("the fuzz targets do not compile: see above".to_owned()),
        Err(error) => Err(format!("cargo cannot be started: {error}")),
    }
}

/// What came of a run.
pub struct Ran {
    /// Executions.
    pub executions: u64,
    /// What it said, where it found something.
    pub finding: Option<String>,
}

/// Every input of the corpus, and of what earlier runs found.
pub fn replay(root: &Path, folder: &Path, target: &str) -> Result<Ran, String> {
    let mut command = fuzzer(root, folder, target);
    command.arg("-runs=0").args(folders(root, target)?);
    quietly(root, target, command)
}

/// New inputs for so many seconds. A test run begins with the same seed each time; only `cargo xtask fuzz` throws
/// dice.
pub fn search(root: &Path, folder: &Path, target: &str, seconds: u32) -> Result<Ran, String> {
    let mut command = fuzzer(root, folder, target);
    command.arg("-seed=1").arg(format!("-max_total_time={seconds}")).args(folders(root, target)?);
    quietly(root, target, command)
}

fn quietly(root: &Path, target: &str, mut command: Command) -> Result<Ran, String> {
    let output = command.stdout(Stdio::piped()).stderr(Stdio::piped()).output().map_err(|error| error.to_string())?;
    let said = String::from_utf8_lossy(&output.stderr);
    let executions = said.lines().find_map(|line| line.strip_prefix("stat::number_of_executed_units:"));
    let executions = executions.and_then(|number| number.trim().parse().ok()).unwrap_or(0);
    let finding = (!output.status.success()).then(|| report(root, target, &said));
    Ok(Ran { executions, finding })
}

/// What was wrong, and the command that shows it again.
fn report(root: &Path, target: &str, said: &str) -> String {
    let from = said.find("panicked at").or_else(|| said.find("ERROR: libFuzzer")).unwrap_or(0);
    let what: String = said[from..].lines().take(20).map(|line| format!("\n        {line}")).collect();
    let unit = said.lines().find_map(|line| line.split_once("Test unit written to ")).map(|(_, path)| path.trim());
    let again = match unit {
        Some(path) => {
            let path = Path::new(path);
            let path = path.strip_prefix(root).unwrap_or(path).display();
            format!("\n        again: cargo xtask fuzz {target} {path}")
        }
        None => format!("\n        again: cargo xtask fuzz {target}"),
    };
    what + &again
}

/// A target with its bounds.
fn fuzzer(root: &Path, folder: &Path, target: &str) -> Command {
    let artifacts = root.join("fuzz/artifacts").join(target);
    let _ = std::fs::create_dir_all(&artifacts);
    let mut command = Command::new(folder.join(target));
    command.current_dir(root);
    command.arg(format!("-max_len={INPUT_BYTES}"));
    command.arg(format!("-timeout={INPUT_SECONDS}"));
    command.arg(format!("-rss_limit_mb={RUN_MEBIBYTES}"));
    command.arg("-print_final_stats=1");
    command.arg(format!("-dict={}", root.join("fuzz/text.dict").display()));
    command.arg(format!("-artifact_prefix={}/", artifacts.display()));
    command
}

/// Where new inputs go, and the corpus.
fn folders(root: &Path, target: &str) -> Result<[PathBuf; 2], String> {
    let found = root.join("target/fuzz-found").join(target);
    std::fs::create_dir_all(&found).map_err(|error| format!("{}: {error}", found.display()))?;
    let corpus = root.join("fuzz/corpus").join(target);
    if !corpus.is_dir() {
        return Err(format!("{}: there is no corpus", corpus.display()));
    }
    Ok([found, corpus])
}

fn host() -> Result<String, String> {
    let output = Command::new("rustc").arg("-vV").output().map_err(|error| format!("rustc: {error}"))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let host = text.lines().find_map(|line| line.strip_prefix("host: "));
    host.map(str::to_owned).ok_or_else(|| "rustc -vV tells no host".to_owned())
}

fn parse(time: &str) -> Option<Duration> {
    let (number, unit) = time.split_at_checked(time.len().checked_sub(1)?)?;
    let seconds = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        _ => return None,
    };
    Some(Duration::from_secs(number.parse::<u32>().ok().filter(|number| *number > 0)? as u64 * seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_a_unit() {
        assert_eq!(parse("10s"), Some(Duration::from_secs(10)));
        assert_eq!(parse("1h"), Some(Duration::from_secs(3600)));
        for bad in ["", "h", "0s", "10", "1.5h", "-1m"] {
            assert_eq!(parse(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn a_finding_says_what_it_is_and_how_to_see_it_again() {
        let said = "INFO: Seed: 1\nthread panicked at src/pdu.rs:1:1:\nwrong\n\
            artifact_prefix='/x/'; Test unit written to /x/fuzz/artifacts/pdu/crash-1\n";
        let report = report(Path::new("/x"), "pdu", said);
        assert!(report.contains("panicked at src/pdu.rs:1:1:\n        wrong"), "{report}");
        assert!(report.ends_with("again: cargo xtask fuzz pdu fuzz/artifacts/pdu/crash-1"), "{report}");
    }
}
