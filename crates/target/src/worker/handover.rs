//! A worker whose sessions go over to another process, all at the same moment: they come to rest, are written
//! down, and end without a word once the other has them; or they go on as if nothing had been.

use super::{Shared, session};
use crate::handover::SessionAtRest;
use crate::registry::{Registered, Revived};
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::time::{Duration, Instant};

/// How often it is looked whether all rest.
const LOOK: Duration = Duration::from_millis(1);

/// A session, with a socket for each of its connections.
pub(crate) type Written = (SessionAtRest, Vec<OwnedFd>);

/// Freezes all sessions and waits until they rest; who does not until then is told.
pub(super) async fn freeze(shared: Rc<Shared>, until: Instant) -> Result<(), String> {
    // Those that were handed over just now begin first.
    tokio::task::yield_now().await;
    let turn = shared.freezes.get().wrapping_add(1);
    shared.freezes.set(turn);
    // What a limit holds back has begun, and would keep its session from rest.
    shared.lane.borrow_mut().suspend_limits(true);
    loop {
        if shared.freezes.get() != turn {
            return Err("the worker goes on".to_owned());
        }
        let now = Instant::now();
        for driver in shared.sessions.borrow().values() {
            driver.borrow_mut().freeze(now);
            driver.borrow_mut().urge(now);
        }
        shared.pump();
        let busy = busy(&shared);
        match busy {
            None => return Ok(()),
            Some(who) if now >= until => return Err(who),
            Some(_) => tokio::time::sleep(LOOK).await,
        }
    }
}

/// Who does not rest, and why.
fn busy(shared: &Shared) -> Option<String> {
    for driver in shared.sessions.borrow().values() {
        let driver = driver.borrow();
        if let Err(why) = driver.rests() {
            return Some(format!("the session of {} does not come to rest: {why}", driver.initiator()));
        }
    }
    shared.lane.borrow().rests().err().map(|why| format!("a worker does not come to rest: {why}"))
}

/// Writes all sessions down. What was posted to the lane is told first.
pub(super) fn write_down(shared: &Shared) -> Result<Vec<Written>, String> {
    shared.pump();
    if let Some(busy) = busy(shared) {
        return Err(busy);
    }
    let mut written = Vec::new();
    for driver in shared.sessions.borrow().values() {
        let mut driver = driver.borrow_mut();
        let nexus = shared.lane.borrow().nexus_at_rest(driver.nexus());
        let nexus = nexus.ok_or_else(|| format!("the nexus of {} does not rest", driver.initiator()))?;
        let one = driver.write_down(nexus);
        written.push(one.map_err(|why| format!("the session of {}: {why}", driver.initiator()))?);
    }
    Ok(written)
}

/// All go on.
pub(super) fn thaw(shared: &Shared) {
    shared.freezes.set(shared.freezes.get().wrapping_add(1));
    shared.lane.borrow_mut().suspend_limits(false);
    for driver in shared.sessions.borrow().values() {
        driver.borrow_mut().thaw();
    }
}

/// A session from another process goes on here.
pub(super) fn revive(shared: &Rc<Shared>, revived: Box<Revived>, registered: Registered) {
    let shared = Rc::clone(shared);
    tokio::task::spawn_local(async move { session::revive(shared, *revived, registered).await });
}
