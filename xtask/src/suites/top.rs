//! `lunette top` in a terminal: tmux is its keyboard and its screen.

use super::Outcome;
use std::path::Path;
use std::process::Command;

pub fn run(root: &Path, outcome: &mut Outcome) {
    // A debug build: only that can be asked to panic, so that the terminal is seen to be given back.
    let output = Command::new("timeout")
        .args(["-s", "KILL", "900", env!("CARGO"), "test", "-q", "--locked", "-p", "lunette", "--test", "top"])
        .args(["--", "--ignored", "--test-threads=1"])
        .current_dir(root)
        .output();
    let result = match output {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => Err(format!("\n{}", String::from_utf8_lossy(&[output.stdout, output.stderr].concat()))),
        Err(error) => Err(format!("cargo cannot be started: {error}")),
    };
    outcome.count("every view, sizes, and the terminal given back however it ends", result);
}
