//! The life of a session on its worker: from the leading connection to the last.

use super::{Driver, Ended};
use crate::door::Lines;
use crate::registry::{Registered, Revived, SessionOrder};
use crate::target::Handover;
use crate::worker::Shared;
use block::Account;
use lun::NexusId;
use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::net::SocketAddr;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};
use tokio::time::Sleep;
use tracing::Instrument;

/// Serves a session to its end. A defect that panics ends this session and no other (F38).
pub(in crate::worker) async fn serve(shared: Rc<Shared>, handover: Handover, registered: Registered) {
    let who = Who {
        peer: handover.peer,
        initiator: handover.logged_in.asked.initiator_name.clone(),
        user: handover.logged_in.account.clone(),
        log: Arc::clone(&handover.lines),
        came: "session opened",
        tsih: handover.logged_in.tsih,
        target: handover.target.name.clone(),
    };
    let nexus = shared.lane.borrow_mut().open_nexus(handover.nexus.clone());
    shared.lane.borrow_mut().limit_nexus(nexus, Arc::clone(&handover.limiter));
    let driver = |account| Driver::new(handover, nexus, account);
    live(shared, who, driver, registered, nexus).await;
}

/// The same with a session that another process has begun.
pub(in crate::worker) async fn revive(shared: Rc<Shared>, revived: Revived, registered: Registered) {
    let Some(peer) = revived.rest.lines.first().map(|line| line.peer) else { return };
    let who = Who {
        peer,
        initiator: revived.rest.initiator.clone(),
        user: revived.rest.account.clone(),
        log: Arc::clone(&revived.lines),
        came: "session taken over",
        tsih: revived.rest.tsih,
        target: revived.rest.target.clone(),
    };
    let nexus = shared.lane.borrow_mut().revive_nexus(revived.nexus.clone(), &revived.rest.nexus);
    shared.lane.borrow_mut().limit_nexus(nexus, Arc::clone(&revived.rule.limiter));
    let driver = |account| Driver::revive(revived, nexus, account);
    live(shared, who, driver, registered, nexus).await;
}

/// Whose session it is, for the log.
struct Who {
    peer: SocketAddr,
    initiator: String,
    user: Option<String>,
    log: Arc<Lines>,
    /// How it began.
    came: &'static str,
    tsih: u16,
    target: String,
}

async fn live(
    shared: Rc<Shared>,
    who: Who,
    driver: impl FnOnce(Rc<Account>) -> Option<Driver>,
    mut registered: Registered,
    nexus: NexusId,
) {
    let (peer, initiator) = (who.peer, who.initiator.clone());
    let cells = shared.lane.borrow().counters(nexus);
    cells.into_iter().for_each(|cells| registered.count(cells));
    let died = {
        let (tsih, target) = (who.tsih, who.target.clone());
        let span = tracing::debug_span!("session", tsih, %initiator, %target);
        let mut session = Box::pin(converse(&shared, who, driver, &mut registered, nexus).instrument(span));
        poll_fn(|cx| match std::panic::catch_unwind(AssertUnwindSafe(|| session.as_mut().poll(cx))) {
            Ok(polled) => polled.map(|()| false),
            Err(_) => Poll::Ready(true),
        })
        .await
    };
    if died {
        tracing::error!(event = "session-died", %peer, %initiator, "the session has died by a defect of ours; the others go on");
        let driver = shared.sessions.borrow().get(&nexus).cloned();
        if let Some(driver) = driver {
            driver.borrow_mut().hang_up();
            end_nexus(&shared, &driver).await;
        }
    }
    // For one that ended before it began; the others have closed it.
    shared.lane.borrow_mut().close_nexus(nexus);
    shared.pump();
}

async fn converse(
    shared: &Rc<Shared>,
    who: Who,
    driver: impl FnOnce(Rc<Account>) -> Option<Driver>,
    registered: &mut Registered,
    nexus: NexusId,
) {
    let Who { peer, initiator, user, log, came, tsih, target } = who;
    let Some(account) = shared.lane.borrow().account(nexus) else { return };
    let Some(driver) = driver(account) else { return };
    let worker = registered.worker();
    log.write(peer, |not_shown| {
        tracing::info!(event = "login", %peer, %initiator, %target, tsih, account = user, worker, not_shown, "{came}");
    });
    let driver = Rc::new(RefCell::new(driver));
    shared.sessions.borrow_mut().insert(nexus, Rc::clone(&driver));
    let mut timer = Timer::new();
    let why = poll_fn(|cx| {
        loop {
            while let Poll::Ready(Some(order)) = registered.poll_order(cx) {
                let mut driver = driver.borrow_mut();
                match order {
                    SessionOrder::End(why) => return Poll::Ready(Ended::Ordered(why)),
                    SessionOrder::Drop(why) => driver.say_farewell(why),
                    SessionOrder::Join(order) => driver.join(order, Instant::now()),
                    SessionOrder::Change(order) => driver.change(shared, order),
                    SessionOrder::Close(order) => driver.close(order, Instant::now()),
                }
            }
            if let Poll::Ready(ended) = Driver::turn(cx, shared, &driver) {
                return Poll::Ready(ended);
            }
            match driver.borrow_mut().joins_proceed(cx) {
                // Its turn.
                Ok(true) => continue,
                Ok(false) => {}
                Err(ended) => return Poll::Ready(ended),
            }
            driver.borrow_mut().closings_proceed(Instant::now());
            // What came may have made something due sooner than the timer is set to.
            let deadline = driver.borrow().deadline();
            ready!(timer.poll(cx, deadline));
            if let Err(ended) = driver.borrow_mut().time_has_come(Instant::now()) {
                return Poll::Ready(ended);
            }
        }
    })
    .await;
    let lingering = driver.borrow_mut().hang_up();
    for line in lingering {
        let _ = line.await;
    }
    if driver.borrow().is_cold_reset() {
        registered.drop_others("a TARGET COLD RESET of another session");
    }
    end_nexus(shared, &driver).await;
    // Logged before the place is free, so that the next session is told of after it.
    log.write(peer, |not_shown| {
        tracing::info!(event = "logout", %peer, %initiator, %target, tsih, not_shown, "session closed: {why}");
    });
}

/// The nexus is lost: its tasks end, and with the last of them the session. Waits until nothing of it can touch
/// the medium any more.
async fn end_nexus(shared: &Shared, driver: &RefCell<Driver>) {
    let nexus = driver.borrow().nexus;
    shared.lane.borrow_mut().close_nexus(nexus);
    shared.pump();
    poll_fn(|cx| {
        let mut driver = driver.borrow_mut();
        driver.waker = Some(cx.waker().clone());
        if driver.gone { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
    driver.borrow_mut().memory.clear();
    shared.sessions.borrow_mut().remove(&nexus);
    shared.pass_relief();
}

/// One timer for a session's life, set again only where something is due sooner than it rings: that a deadline
/// moves on with every PDU costs nothing.
struct Timer {
    sleep: Pin<Box<Sleep>>,
    set: Option<Instant>,
    /// A deadline that stays in the past must not keep a worker busy.
    not_before: Instant,
}

impl Timer {
    /// Between two rings.
    const REST: Duration = Duration::from_millis(10);

    fn new() -> Timer {
        let now = Instant::now();
        Timer { sleep: Box::pin(tokio::time::sleep_until(now.into())), set: None, not_before: now }
    }

    fn poll(&mut self, cx: &mut Context<'_>, deadline: Option<Instant>) -> Poll<()> {
        let Some(deadline) = deadline else { return Poll::Pending };
        let deadline = deadline.max(self.not_before);
        if self.set.is_none_or(|set| deadline < set) {
            self.sleep.as_mut().reset(deadline.into());
            self.set = Some(deadline);
        }
        ready!(self.sleep.as_mut().poll(cx));
        self.set = None;
        self.not_before = Instant::now() + Timer::REST;
        Poll::Ready(())
    }
}
