//! The scenarios of tests/vm: a real Linux kernel against the daemon.

use super::Outcome;
use super::served;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

/// How long one scenario may take; emulated processors are slow.
const SCENARIO_SECONDS: &str = "400";
/// What a kernel says that has panicked.
const PANIC: &str = "Kernel panic - not syncing";
/// How often a scenario is tried whose guest's kernel panics.
const TRIES: usize = 3;

pub fn run(root: &Path, outcome: &mut Outcome) {
    if let Err(why) = try_run(root, outcome) {
        outcome.count("set-up", Err(why));
    }
}

fn try_run(root: &Path, outcome: &mut Outcome) -> Result<(), String> {
    let binary = served::build(root)?;
    let folder = root.join("tests/vm");
    let built = Command::new("timeout")
        .arg("900")
        .arg(folder.join("vm-build"))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .output()
        .map_err(|error| error.to_string())?;
    if !built.status.success() {
        // Without Debian's registry there is no kernel to boot: that is not a failure of ours.
        let text = String::from_utf8_lossy(&built.stderr);
        outcome.notes.push(format!("not run: vm-build: {}", text.lines().last().unwrap_or("failed")));
        return Ok(());
    }
    for name in scenarios(&folder.join("scenarios")) {
        let mut tries = 0;
        let (label, succeeded, text) = loop {
            let start = Instant::now();
            let output = Command::new("timeout")
                .arg(SCENARIO_SECONDS)
                .arg(folder.join("scenarios").join(&name))
                .env("LUNETTE", &binary)
                .stdin(Stdio::null())
                .output()
                .map_err(|error| error.to_string())?;
            let label = format!("{name} ({:.1} s)", start.elapsed().as_secs_f32());
            let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
            tries += 1;
            if output.status.success() || !text.contains(PANIC) || tries == TRIES {
                break (label, output.status.success(), text);
            }
            outcome.notes.push(format!("{name}: the guest's kernel panicked; tried again"));
        };
        // Where Linux is the target under test, its panic says nothing of us.
        if !succeeded && name.contains("-lio-") && text.contains(PANIC) {
            outcome.notes.push(format!("not run: {name}: Linux's own target panicked its kernel {TRIES} times"));
            continue;
        }
        let tail: Vec<&str> = text.lines().rev().take(12).collect();
        let tail = tail.into_iter().rev().collect::<Vec<_>>().join("\n        ");
        outcome.count(&label, if succeeded { Ok(()) } else { Err(format!("\n        {tail}")) });
    }
    Ok(())
}

/// The scenarios' names, in their order.
fn scenarios(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(folder)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .filter(|name| name.starts_with(|c: char| c.is_ascii_digit()))
        .collect();
    names.sort();
    names
}
