//! The workspace's own tests, through cargo, and whether every requirement of docs/conformance.md has its.

use super::Outcome;
use crate::conformance;
use std::path::Path;
use std::process::{Command, Stdio};

pub fn run(root: &Path, outcome: &mut Outcome) {
    let output = Command::new(env!("CARGO"))
        .args(["test", "--workspace", "--locked", "--no-fail-fast"])
        .current_dir(root)
        .stderr(Stdio::inherit())
        .output();
    match output {
        Ok(output) => {
            let text = String::from_utf8_lossy(&output.stdout);
            // A line for each of many hundred tests would hide the one that failed.
            for line in text.lines().filter(|line| !line.ends_with("... ok") && !line.trim().is_empty()) {
                println!("  {line}");
            }
            for (passed, failed) in text.lines().filter_map(counts) {
                outcome.passed += passed;
                outcome.failed += failed;
            }
            // A suite that does not compile, or dies, counts nothing and has failed.
            outcome.failed = outcome.failed.max(u32::from(!output.status.success()));
            // `cargo xtask conformance --write` reads it again.
            let kept = std::fs::write(root.join(conformance::RUN), text.as_bytes());
            let found = kept.map_err(|error| error.to_string()).and_then(|()| conformance::findings(root, &text));
            let found = found.and_then(|list| if list.is_empty() { Ok(()) } else { Err(list.join("\n        ")) });
            outcome.count("every requirement of the target has its test", found);
        }
        Err(error) => outcome.count("cargo test", Err(format!("cannot be started: {error}"))),
    }
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
