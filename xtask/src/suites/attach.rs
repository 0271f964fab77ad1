//! The front-ends that can be used on this machine, through its kernel. Which cannot is said, with the reason.

use super::Outcome;
use std::path::Path;
use std::process::{Command, Stdio};

/// The front-ends by themselves.
const DEVICES: [&str; 4] = ["-p", "lunette-attach", "--test", "devices"];
/// `lunette attach` against `lunette serve`, by the front-end that every kernel has.
const COMMANDS: [&str; 4] = ["-p", "lunette", "--test", "attach"];

/// What the tests' names begin with, and what they need (the words of `what_can_be_used`).
const FRONTENDS: &[([&str; 4], &str, &[&str])] = &[
    (DEVICES, "fuse_alone", &["fuse"]),
    (DEVICES, "fuse_and_loop", &["fuse", "loop"]),
    (DEVICES, "nbd", &["nbd"]),
    (DEVICES, "ublk", &["ublk"]),
    (COMMANDS, "attached::", &["fuse", "loop"]),
];

pub fn run(root: &Path, outcome: &mut Outcome) {
    let usable = match tests(root, DEVICES, "what_can_be_used") {
        Ok((_, text)) => text,
        Err(why) => return outcome.count("set-up", Err(why)),
    };
    for (of, name, needs) in FRONTENDS {
        let lacking = needs.iter().find_map(|need| {
            let said = usable.lines().find_map(|line| line.strip_prefix(need)?.strip_prefix(": "));
            (said != Some("usable")).then(|| said.unwrap_or("not built").to_string())
        });
        match lacking {
            Some(why) => outcome.notes.push(format!("not run: {name}: {why}")),
            None => run_all(root, *of, name, outcome),
        }
    }
}

fn run_all(root: &Path, of: [&str; 4], name: &str, outcome: &mut Outcome) {
    match tests(root, of, name) {
        Ok((good, text)) => {
            for line in text.lines() {
                if let Some((test, _)) = line.strip_prefix("test ").and_then(|rest| rest.split_once(" ... ")) {
                    let failed = text.lines().any(|line| line.trim() == test);
                    outcome.count(test, if failed { Err(format!("\n{text}")) } else { Ok(()) });
                }
            }
            if !good && outcome.failed == 0 {
                outcome.count(name, Err(format!("\n{text}")));
            }
            let missing = text.lines().map(str::trim).filter(|line| line.starts_with("not run: "));
            outcome.notes.extend(missing.map(String::from));
        }
        Err(why) => outcome.count(name, Err(why)),
    }
}

/// Whether the tests whose names begin like this passed, and what they printed. One at a time: each has the
/// machine's devices to itself.
fn tests(root: &Path, of: [&str; 4], name: &str) -> Result<(bool, String), String> {
    let output = Command::new("timeout")
        .args(["-s", "KILL", "600", env!("CARGO")])
        .args(["test", "-q", "--locked"])
        .args(of)
        .args(["--", "--ignored"])
        .args(["--nocapture", "--test-threads=1", "--format=pretty", name])
        .current_dir(root)
        .stderr(Stdio::piped())
        .output()
        .map_err(|error| format!("cargo cannot be started: {error}"))?;
    let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    Ok((output.status.success(), text))
}
