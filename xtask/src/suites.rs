//! `cargo xtask test`: every suite in turn, a table of what ran, and what did not run by name.

use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::time::Instant;

struct Outcome {
    suite: &'static str,
    passed: u32,
    failed: u32,
    seconds: f32,
}

/// Runs all suites. Fails when any test failed or a suite could not be run.
pub fn run(root: &Path) -> ExitCode {
    let outcomes = [unit(root), tidy(root)];
    println!("\n{:<10} {:>7} {:>7} {:>8}", "suite", "passed", "failed", "seconds");
    for Outcome { suite, passed, failed, seconds } in &outcomes {
        println!("{suite:<10} {passed:>7} {failed:>7} {seconds:>8.1}");
    }
    println!("not run: peers (libiscsi, QEMU, the kernel in a VM): their suites are not written yet");
    let passed: u32 = outcomes.iter().map(|outcome| outcome.passed).sum();
    let failed: u32 = outcomes.iter().map(|outcome| outcome.failed).sum();
    println!("{passed} passed, {failed} failed");
    if failed == 0 && passed > 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn unit(root: &Path) -> Outcome {
    let start = Instant::now();
    let output = Command::new(env!("CARGO"))
        .args(["test", "--workspace", "--locked", "--no-fail-fast"])
        .current_dir(root)
        .stderr(Stdio::inherit())
        .output();
    let (mut passed, mut failed) = (0, 0);
    match output {
        Ok(output) => {
            let text = String::from_utf8_lossy(&output.stdout);
            print!("{text}");
            (passed, failed) = text.lines().filter_map(counts).fold((0, 0), |(p, f), (a, b)| (p + a, f + b));
            // A suite that does not compile, or dies, counts nothing and has failed.
            failed = failed.max(u32::from(!output.status.success()));
        }
        Err(error) => {
            eprintln!("cargo test could not be started: {error}");
            failed += 1;
        }
    }
    Outcome { suite: "unit", passed, failed, seconds: start.elapsed().as_secs_f32() }
}

fn tidy(root: &Path) -> Outcome {
    let start = Instant::now();
    let findings = crate::tidy::findings(root);
    for finding in &findings {
        eprintln!("{finding}");
    }
    let failed = u32::from(!findings.is_empty());
    Outcome { suite: "tidy", passed: 1 - failed, failed, seconds: start.elapsed().as_secs_f32() }
}

/// Passed and failed of a line `test result: ok. 12 passed; 0 failed; …`.
fn counts(line: &str) -> Option<(u32, u32)> {
    let rest = line.strip_prefix("test result: ")?.split_once(". ")?.1;
    let mut numbers = rest.split("; ").map(|part| part.split_once(' '));
    let passed = numbers.next()??.0.parse().ok()?;
    let failed = numbers.next()??.0.parse().ok()?;
    Some((passed, failed))
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_runner_s_closing_line_is_counted() {
        let line = "test result: FAILED. 12 passed; 3 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s";
        assert_eq!(super::counts(line), Some((12, 3)));
        assert_eq!(super::counts("running 3 tests"), None);
    }
}
