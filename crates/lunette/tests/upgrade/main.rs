//! Another program takes the place of a daemon, and nobody who uses its disks can tell.

mod failures;
#[path = "../session/rig.rs"]
mod rig;
mod state;
mod traffic;

use sim::Daemon;

/// Has this program take the daemon's place while the sessions of this thread go on.
async fn upgrade(daemon: &mut Option<Daemon>, program: &str, arguments: &[&str]) -> Result<String, String> {
    let mut replaced = daemon.take().expect("a daemon");
    let program = program.to_owned();
    let arguments: Vec<String> = arguments.iter().map(|word| (*word).to_owned()).collect();
    let (replaced, said) = tokio::task::spawn_blocking(move || {
        let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let said = replaced.upgrade(program, &words);
        (replaced, said)
    })
    .await
    .expect("it runs");
    *daemon = Some(replaced);
    said
}

/// The process that serves now.
fn process(daemon: &Option<Daemon>) -> u32 {
    daemon.as_ref().map_or(0, Daemon::process_id)
}
