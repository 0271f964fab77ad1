//! The end of a session that was lost with writes under way.
//!
//! The target may still have such a write: in its socket, in its queue, on its way to the medium. Sent again by
//! another path it would be executed there first and here later, over what was written in between. So before it is
//! sent again, and before anything else is written, the target ends what it has of the old session:
//!
//! * The path's next login has the same ISID, and a login that reinstates a session is answered after the old
//!   session's tasks are over and its connection is closed (RFC 7143 §6.3.5). Nothing of it can come any more.
//! * Where the path's portal is dead, another portal of the same portal group takes the same login: a session is
//!   known by initiator port and portal group, not by portal (§4.4.3).
//! * Where no other path is in that portal group, LOGICAL UNIT RESET by another path ends the tasks of all nexuses
//!   at the unit (SAM-5 7.8). The lost session's socket was reset before, so that our end sends nothing of it any
//!   more; what the target's end had received and not yet read would be the one thing that is not covered, and a
//!   target reads its sockets when it handles a reset.

use super::Shared;
use super::path::Path;
use crate::disk::clear;
use crate::{Error, Function, Options};
use std::sync::Arc;
use std::time::Duration;

/// Between two attempts to end a session.
const AGAIN: Duration = Duration::from_millis(500);
/// So often in a row.
const ATTEMPTS: usize = 3;
/// How long one attempt may take.
const ATTEMPT: Duration = Duration::from_secs(5);

/// How it stands with what a path owes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fenced {
    /// It owes nothing.
    Done,
    /// There is no other path that could do it.
    Alone,
    /// Others could not do it: what remains is the path's own next login.
    Failed,
}

impl Shared {
    /// Has what the path owes ended by other paths.
    pub(super) async fn fence(&self, path: &Path) -> Fenced {
        for _ in 0..ATTEMPTS {
            if !path.owes_fence() {
                return Fenced::Done;
            }
            let generation = path.disturbed();
            for other in self.helpers(path) {
                match self.end_by(path, other).await {
                    Ok(()) => {
                        tracing::info!(path = %path.options.portal, by = %other.options.portal, "ended what the lost path had under way");
                        path.end_of(generation);
                        self.changed();
                        return Fenced::Done;
                    }
                    Err(error) => {
                        tracing::debug!(by = %other.options.portal, "the lost path's session is not ended: {error}");
                    }
                }
            }
            if self.helpers(path).next().is_none() {
                return Fenced::Alone;
            }
            tokio::time::sleep(AGAIN).await;
        }
        Fenced::Failed
    }

    /// Returns when the path owes something that another path could do.
    pub(super) async fn has_helper(&self, path: &Path) {
        let mut changes = self.changes.subscribe();
        loop {
            changes.borrow_and_update();
            if path.owes_fence() && self.helpers(path).next().is_some() {
                return;
            }
            if changes.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    fn helpers(&self, path: &Path) -> impl Iterator<Item = &Arc<Path>> {
        let number = path.number;
        self.paths.iter().filter(move |other| other.number != number && other.session().is_some())
    }

    async fn end_by(&self, path: &Path, other: &Arc<Path>) -> Result<(), Error> {
        let (session, _) = other.session().ok_or(Error::Closed)?;
        let limit = ATTEMPT;
        let late = || Error::TimedOut { what: "the session was not ended".into(), limit };
        let same_target = path.options.target == other.options.target;
        let groups = (path.portal_group(), other.portal_group());
        if same_target && groups.0.is_some() && groups.0 == groups.1 {
            let options = Options {
                portal: other.options.portal.clone(),
                local_address: other.options.local_address,
                device: other.options.device.clone(),
                login_timeout: limit,
                ..path.options.clone()
            };
            match options.connect().await {
                Ok(reinstated) => {
                    let _ = tokio::time::timeout(limit, reinstated.logout()).await;
                    return Ok(());
                }
                Err(error) if error.is_transport() => return Err(error),
                // It takes no login there, and may still take a reset.
                Err(error) => tracing::debug!(by = %other.options.portal, "{error}"),
            }
        }
        let reset = session.task_management(Function::LogicalUnitReset, other.lun);
        tokio::time::timeout(limit, reset).await.unwrap_or_else(|_| Err(late()))?;
        // It has ended the tasks of all other paths as well, which get no answer. Where they are is asked again now.
        for third in self.helpers(path).filter(|third| third.number != other.number) {
            if let Some((session, _)) = third.session() {
                clear(&session.unit(third.lun));
            }
        }
        Ok(())
    }
}
