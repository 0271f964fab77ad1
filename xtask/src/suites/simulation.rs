//! Ten thousand seeds of the deterministic simulation (crates/sim/src/joined): our initiator and the target
//! over a bad network, at every recovery level, with one to four connections.

use super::Outcome;
use std::path::Path;
use std::process::{Command, Stdio};

/// Seeds of one run of the tests; those of the run of a million are told by hand (docs/testing.md).
const SEEDS: u64 = 10_000;

pub fn run(root: &Path, outcome: &mut Outcome) {
    let built = Command::new(env!("CARGO"))
        .args(["build", "--locked", "--quiet", "--profile", "simulation", "-p", "lunette-sim", "--bin", "simulate"])
        .current_dir(root)
        .status();
    if !built.is_ok_and(|status| status.success()) {
        return outcome.count("set-up", Err("the simulation does not build".to_owned()));
    }
    let jobs = std::thread::available_parallelism().map_or(1, |jobs| jobs.get() as u64);
    let share = SEEDS.div_ceil(jobs);
    let processes: Vec<_> = (0..jobs)
        .map(|job| {
            let (first, end) = (job * share, ((job + 1) * share).min(SEEDS));
            Command::new(root.join("target/simulation/simulate"))
                .args(["--seeds", &format!("{first}..{end}")])
                .stdout(Stdio::piped())
                .stderr(Stdio::null())
                .spawn()
        })
        .collect();
    let (mut levels, mut failures) = ([0u64; 3], Vec::new());
    for process in processes {
        let output = match process.and_then(std::process::Child::wait_with_output) {
            Ok(output) => output,
            Err(error) => return outcome.count("simulate", Err(error.to_string())),
        };
        let text = String::from_utf8_lossy(&output.stdout);
        for line in text.lines() {
            if let Some((level, seeds)) = tally(line) {
                levels[level] += seeds;
            }
        }
        failures.extend(text.lines().skip_while(|line| !line.starts_with("FAIL")).map(str::to_owned));
        if !output.status.success() && !text.contains("FAIL") {
            failures.push(format!("simulate ends with {}", output.status));
        }
    }
    for (level, seeds) in levels.iter().enumerate() {
        let ran = if *seeds > 0 { Ok(()) } else { Err("no seed was run".to_owned()) };
        outcome.count(&format!("recovery level {level}: {seeds} seeds"), ran);
    }
    let told = failures.iter().take(20).cloned().collect::<Vec<_>>().join("\n        ");
    outcome.count("every seed", if failures.is_empty() { Ok(()) } else { Err(told) });
}

/// Level and number of seeds of a line `level 0: 3334 seeds, …`.
fn tally(line: &str) -> Option<(usize, u64)> {
    let (level, rest) = line.strip_prefix("level ")?.split_once(": ")?;
    let level = level.parse().ok().filter(|level| *level < 3)?;
    Some((level, rest.split_once(" seeds")?.0.parse().ok()?))
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_level_s_line_is_counted() {
        assert_eq!(super::tally("level 2: 3333 seeds, 1 commands"), Some((2, 3333)));
        assert_eq!(super::tally("FAIL seed 3: level 2: 1 seeds"), None);
    }
}
