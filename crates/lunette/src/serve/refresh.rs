//! Looks at the stores now and then, and when SIGUSR1 asks for it: sizes that changed, media that were
//! exchanged.

use super::administrator::Administrator;
use lun::Change;
use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;
use tokio::signal::unix::Signal;

/// How often stores are looked at.
const REFRESH: Duration = Duration::from_secs(10);

/// Looks until it is dropped. A store that hangs holds up nobody but those after it here.
pub async fn now_and_then(administrator: Administrator, mut at_once: Signal) {
    // Drives of which it was told that another medium waits.
    let mut held = HashSet::new();
    loop {
        let _ = tokio::time::timeout(REFRESH, at_once.recv()).await;
        for unit in administrator.served().units().map(|unit| &unit.unit) {
            let number = Arc::as_ptr(unit).addr();
            let place = unit.backend().description().address;
            let looking = Arc::clone(unit);
            let looked = tokio::task::spawn_blocking(move || looking.refresh()).await;
            let bytes = || unit.backend().limits().capacity();
            if !matches!(looked, Ok(Ok(Change::Held))) {
                held.remove(&number);
            }
            match looked {
                Ok(Ok(Change::Size)) => tracing::info!(event = "size", %place, bytes = bytes(), "the size has changed"),
                Ok(Ok(Change::Medium)) => {
                    tracing::info!(event = "medium", %place, bytes = bytes(), "another medium is in the drive");
                }
                Ok(Ok(Change::Gone(why))) => tracing::warn!(event = "no-medium", %place, "the drive is empty: {why}"),
                Ok(Ok(Change::Held)) if held.insert(number) => tracing::warn!(
                    %place,
                    "an initiator has locked the drive: the old medium is served until it is unlocked"
                ),
                Ok(Err(error)) => {
                    tracing::warn!(event = "store", %place, "cannot look at the store: {error}");
                }
                Ok(Ok(Change::None | Change::Held)) | Err(_) => {}
            }
        }
    }
}
