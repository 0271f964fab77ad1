//! One scenario of the initiator (crates/initiator/examples/scenario.rs) against each target of this machine: Lunette's
//! own, and tgt. The Linux kernel's has it in the virtual machine (tests/vm/scenarios/71-lio-scenario).

use super::Outcome;
use super::commands::{self, Tgt};
use super::served::{self, Served};
use std::path::Path;
use std::process::{Command, Stdio};

pub fn run(root: &Path, outcome: &mut Outcome) {
    if let Err(why) = try_run(root, outcome) {
        outcome.count("set-up", Err(why));
    }
}

fn try_run(root: &Path, outcome: &mut Outcome) -> Result<(), String> {
    let lunette = served::build(root)?;
    let built = Command::new("cargo")
        .current_dir(root)
        .args(["build", "--locked", "--quiet", "-p", "lunette-initiator", "--example", "scenario"])
        .stdin(Stdio::null())
        .status();
    if !built.is_ok_and(|status| status.success()) {
        return Err("the scenario does not compile: cargo build -p lunette-initiator --example scenario".into());
    }
    let ours = Served::start(&lunette, "targets", &["disk.img,size=64M"], &["--listen", "127.0.0.1:0"])?;
    play(root, "Lunette", &ours.url(1), outcome);
    let tgt = Tgt::start(&ours.folder)?;
    play(root, "tgt", &format!("iscsi://{}/{}/1", tgt.portal, commands::TARGET), outcome);
    Ok(())
}

/// Each step is a line, and a test.
fn play(root: &Path, target: &str, url: &str, outcome: &mut Outcome) {
    let program = root.join("target/debug/examples/scenario");
    let output =
        Command::new("timeout").arg("600").arg(program).args([url, "--absent", "7"]).stdin(Stdio::null()).output();
    let output = match output {
        Ok(output) => output,
        Err(error) => return outcome.count(target, Err(error.to_string())),
    };
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    for line in text.lines() {
        match (line.strip_prefix("ok   "), line.strip_prefix("FAIL ")) {
            (Some(step), _) => outcome.count(&format!("{target}: {step}"), Ok(())),
            (_, Some(step)) => outcome.count(&format!("{target}: {step}"), Err("the step fails".into())),
            _ => {}
        }
    }
    if !output.status.success() && !text.contains("FAIL ") {
        let why = String::from_utf8_lossy(&output.stderr).into_owned();
        outcome.count(target, Err(format!("the scenario does not end: {why}")));
    }
}
