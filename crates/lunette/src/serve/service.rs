//! What the service manager hears of us (sd_notify): that we serve, that we read our configuration anew, that we
//! stop, in a line how we are; and, for as long as all of us really answers, that we live.

use crate::control;
use sd_notify::NotifyState;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use target::Door;
use tokio::runtime::Handle;

/// How long the administration may take to answer; workers have a time of their own.
const PATIENCE: Duration = Duration::from_secs(5);
/// How often the line is told anew.
const TELL: Duration = Duration::from_secs(15);

fn tell(states: &[NotifyState<'_>]) {
    // Without a service manager there is nobody to tell; one that does not hear is no reason to stop.
    if let Err(error) = sd_notify::notify(states) {
        tracing::debug!("the service manager does not hear: {error}");
    }
}

/// All is open, and who connects is served.
pub fn ready(line: &str) {
    tell(&[NotifyState::Ready, NotifyState::MainPid(std::process::id()), NotifyState::Status(line)]);
}

/// The configuration is read anew. To be followed by [`ready`].
pub fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => tell(&[NotifyState::Reloading, now]),
        Err(_) => tell(&[NotifyState::Reloading]),
    }
}

/// Another process serves now, which was not started by the service manager: only we are listened to until then.
pub fn succeeded_by(process: u32) {
    tell(&[NotifyState::MainPid(process)]);
}

/// We stop, and may take this long.
pub fn stopping(grace: Duration) {
    let more = u32::try_from(grace.as_micros()).unwrap_or(u32::MAX);
    tell(&[NotifyState::Stopping, NotifyState::ExtendTimeoutUsec(more), NotifyState::Status("Stopping")]);
}

/// What we are in a line.
pub fn line(targets: usize, disks: usize, sessions: usize) -> String {
    let many = |count: usize, one: &str| format!("{count} {one}{}", if count == 1 { "" } else { "s" });
    format!("Serving {} of {} to {}", many(disks, "disk"), many(targets, "target"), many(sessions, "session"))
}

/// Tells for ever how we are, and, where a watchdog waits for it, that we live: only where every worker and the
/// administration, whose socket and runtime these are, have just answered. This runs on the door's thread, and so says
/// that the door is alive too.
pub async fn watch(door: Arc<Door>, control: Option<(PathBuf, Handle)>, counts: impl Fn() -> (usize, usize)) {
    let watchdog = sd_notify::watchdog_enabled();
    if watchdog.is_none() && std::env::var_os("NOTIFY_SOCKET").is_none() {
        return;
    }
    // Two beats for each that is waited for.
    let pause = watchdog.map_or(TELL, |limit| (limit / 2).min(TELL));
    let (mut told, mut ill) = (String::new(), None);
    loop {
        tokio::time::sleep(pause).await;
        let (targets, disks) = counts();
        let now = line(targets, disks, door.sessions());
        if now != told {
            tell(&[NotifyState::Status(&now)]);
            told = now;
        }
        if watchdog.is_none() {
            continue;
        }
        let complaint = complaint(&door, control.as_ref()).await;
        match &complaint {
            None => tell(&[NotifyState::Watchdog]),
            Some(why) if ill != complaint => tracing::error!("the watchdog is not told that all is well: {why}"),
            Some(_) => {}
        }
        ill = complaint;
    }
}

/// What does not answer.
async fn complaint(door: &Door, control: Option<&(PathBuf, Handle)>) -> Option<String> {
    let silent = door.workers().await.iter().position(Option::is_none);
    if let Some(number) = silent {
        return Some(format!("worker {number} does not answer"));
    }
    let (path, runtime) = control?;
    if !control::is_socket(path) {
        return Some(format!("the administration at {}: its socket is gone", path.display()));
    }
    is_silent(runtime).await.then(|| format!("the administration at {} does not answer", path.display()))
}

/// Whether a runtime does nothing any more. It is asked by itself and not by its socket: where all places for
/// connections are taken, it is busy and not ill.
async fn is_silent(runtime: &Handle) -> bool {
    !matches!(tokio::time::timeout(PATIENCE, runtime.spawn(async {})).await, Ok(Ok(())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_is_for_people() {
        assert_eq!(line(1, 2, 0), "Serving 2 disks of 1 target to 0 sessions");
    }

    #[test]
    fn a_runtime_whose_thread_does_nothing_is_silent() {
        let build = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let (own, other) = (build(), build());
        let handle = other.handle().clone();
        let (end, ended) = tokio::sync::oneshot::channel::<()>();
        let thread = std::thread::spawn(move || other.block_on(ended));
        assert!(!own.block_on(is_silent(&handle)));
        end.send(()).unwrap();
        let _ = thread.join().unwrap();
        assert!(own.block_on(is_silent(&handle)));
    }
}
