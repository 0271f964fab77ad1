//! The file is applied when SIGHUP asks for it, and with `--watch` whenever it was written.

use super::administrator::{Administrator, How, Refused};
use super::service;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;
use tokio::signal::unix::Signal;

/// How often the file is looked at. A change is applied when two looks have seen the same: whoever writes it piece by
/// piece has ended.
const LOOK: Duration = Duration::from_millis(500);

/// Which file it is and when it was written: editors replace it, others write into it.
type Identity = Option<[i64; 7]>;

/// Applies the file until it is dropped.
pub async fn apply_when_asked(administrator: Administrator, mut hang_up: Signal, watch: bool) {
    let path = administrator.document().path().map(Path::to_owned).filter(|_| watch);
    let mut applied = path.as_deref().map(identity);
    let mut last = applied;
    loop {
        let by_signal = match &path {
            None => hang_up.recv().await.is_some(),
            Some(_) => tokio::time::timeout(LOOK, hang_up.recv()).await.is_ok_and(|signal| signal.is_some()),
        };
        let seen = path.as_deref().map(identity);
        let written = seen != applied && seen == last;
        last = seen;
        // A file that is away may be on its way.
        if by_signal || (written && seen != Some(None)) {
            apply(&administrator, if by_signal { "SIGHUP" } else { "the file was written" }).await;
            // As it was before it was read: what is written since then is news.
            applied = seen;
        }
    }
}

async fn apply(administrator: &Administrator, why: &str) {
    service::reloading();
    read_again(administrator, why).await;
    let served = administrator.served();
    let sessions = administrator.door().sessions();
    service::ready(&service::line(served.targets.len(), served.units().count(), sessions));
}

async fn read_again(administrator: &Administrator, why: &str) {
    tracing::info!("{why}: the configuration is read again");
    match administrator.reread(How::default()).await {
        Ok(plan) => {
            plan.warnings.iter().for_each(|warning| tracing::warn!("{}", warning.in_a_line()));
            match plan.steps.len() {
                0 => tracing::info!("the configuration says what runs"),
                steps => tracing::info!(steps, "it is applied"),
            }
        }
        Err(Refused::Findings(findings)) => {
            findings.iter().for_each(|found| tracing::error!("{}", found.in_a_line()));
            tracing::error!("the configuration is wrong; what runs goes on");
        }
        Err(refused) => tracing::error!("the configuration is not applied, what runs goes on: {refused}"),
    }
}

fn identity(path: &Path) -> Identity {
    let facts = stores::host::metadata(path).ok()?;
    let which = [facts.dev().cast_signed(), facts.ino().cast_signed(), facts.size().cast_signed()];
    let when = [facts.mtime(), facts.mtime_nsec(), facts.ctime(), facts.ctime_nsec()];
    Some([which[0], which[1], which[2], when[0], when[1], when[2], when[3]])
}
