//! What the tests of the commands share: running the binary, and data that tells where it belongs.

use serde_json::Value;
use sim::Daemon;
use sim::daemon::{Folder, TARGET};
use std::process::{Child, Command, Output, Stdio};

pub const LUNETTE: &str = env!("CARGO_BIN_EXE_lunette");

/// The URL of a disk of a target that a test serves.
pub fn url(daemon: &Daemon, lun: u16) -> String {
    format!("iscsi://{}/{TARGET}/{lun}", daemon.address())
}

/// The command, with nothing of this machine's user in it.
pub fn command(folder: &Folder, words: &[&str]) -> Command {
    let mut command = Command::new(LUNETTE);
    command.args(words).current_dir(folder.path()).stdin(Stdio::null());
    for name in ["USER", "SECRET", "MUTUAL_USER", "MUTUAL_SECRET"] {
        command.env_remove(format!("LUNETTE_CHAP_{name}"));
    }
    for name in ["USERNAME", "PASSWORD", "TARGET_USERNAME", "TARGET_PASSWORD"] {
        command.env_remove(format!("LIBISCSI_CHAP_{name}"));
    }
    command.env("XDG_STATE_HOME", folder.path().join("states"));
    command
}

/// Runs it to its end.
pub fn run(folder: &Folder, words: &[&str]) -> Output {
    command(folder, words).output().expect("it starts")
}

/// Starts it with its output in a pipe.
pub fn start(folder: &Folder, words: &[&str]) -> Child {
    command(folder, words).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts")
}

/// What it says on standard output where it succeeds.
pub fn good(folder: &Folder, words: &[&str]) -> String {
    let output = run(folder, words);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{words:?}: {}: {errors}", output.status);
    String::from_utf8(output.stdout).expect("text")
}

/// The same as JSON.
pub fn json(folder: &Folder, words: &[&str]) -> Value {
    let text = good(folder, words);
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{words:?}: {error}: {text}"))
}

/// The one line that it says where it fails with this exit code.
pub fn fails(folder: &Folder, words: &[&str], code: i32) -> String {
    refused(run(folder, words), words, code)
}

/// The one line of an end with this exit code.
pub fn refused(output: Output, words: &[&str], code: i32) -> String {
    let said = String::from_utf8(output.stderr).expect("text");
    assert_eq!(output.status.code(), Some(code), "{words:?}: {said}");
    assert_eq!(said.lines().count(), 1, "{words:?}: {said}");
    assert!(said.starts_with("lunette: "), "{words:?}: {said}");
    said
}

/// So many bytes that are nowhere the same, from this seed.
pub fn noise(length: usize, seed: u64) -> Vec<u8> {
    let mut state = seed;
    let words = (0..length.div_ceil(8)).flat_map(|_| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state ^ state >> 29).to_le_bytes()
    });
    let mut bytes: Vec<u8> = words.collect();
    bytes.truncate(length);
    bytes
}
