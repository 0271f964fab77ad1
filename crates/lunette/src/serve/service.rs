//! What the service manager hears of us (sd_notify): that we serve, that we read our configuration anew, that we
//! stop, in a line how we are; and, for as long as all of us really answers, that we live.

use sd_notify::NotifyState;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use target::Door;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

/// How long the administration may take to answer; workers have a time of their own.
const PATIENCE: Duration = Duration::from_secs(5);
/// How often the line is told anew.
const TELL: Duration = Duration::from_secs(15);
/// What is read of an answer: the line with its status.
const ANSWER: usize = 12;

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
/// administration have just answered. This runs on the door's thread, and so says that the door is alive too.
pub async fn watch(door: Arc<Door>, control: Option<PathBuf>, counts: impl Fn() -> (usize, usize)) {
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
        let complaint = complaint(&door, control.as_deref()).await;
        match &complaint {
            None => tell(&[NotifyState::Watchdog]),
            Some(why) if ill != complaint => tracing::error!("the watchdog is not told that all is well: {why}"),
            Some(_) => {}
        }
        ill = complaint;
    }
}

/// What does not answer.
async fn complaint(door: &Door, control: Option<&Path>) -> Option<String> {
    let silent = door.workers().await.iter().position(Option::is_none);
    if let Some(number) = silent {
        return Some(format!("worker {number} does not answer"));
    }
    let path = control?;
    match tokio::time::timeout(PATIENCE, ask(path)).await {
        Ok(Ok(())) => None,
        Ok(Err(error)) => Some(format!("the administration at {}: {error}", path.display())),
        Err(_) => Some(format!("the administration at {} does not answer", path.display())),
    }
}

async fn ask(path: &Path) -> std::io::Result<()> {
    let mut stream = UnixStream::connect(path).await?;
    stream.write_all(b"GET /v1/door HTTP/1.1\r\nHost: lunette\r\nConnection: close\r\n\r\n").await?;
    let mut answer = [0; ANSWER];
    stream.read_exact(&mut answer).await?;
    match answer.ends_with(b" 200") {
        true => Ok(()),
        false => Err(std::io::Error::other(String::from_utf8_lossy(&answer).into_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_is_for_people() {
        assert_eq!(line(1, 2, 0), "Serving 2 disks of 1 target to 0 sessions");
    }
}
