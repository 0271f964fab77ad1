//! Connections that come back: joining, taking the place of a lost one, and the session's return after a loss,
//! bounded by the replacement timeout.

use super::{Driver, Line, limits};
use crate::login::{self, Entered, Place};
use crate::options::{Options, Portal, SessionKind};
use crate::{Error, Event, State};
use io::link::Link;
use iscsi::initiator::{self as core, LogoutReason};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

/// The first pause between two logins; it doubles up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// A session that was lost before this time was not worth much.
const SHORT_LIFE: Duration = Duration::from_secs(10);
/// A further connection that the target does not take is tried again after this time.
const JOIN_PAUSE: Duration = Duration::from_secs(60);

type Attempt = Pin<Box<dyn Future<Output = Result<Entered, Error>> + Send>>;

/// A login that is under way.
struct Entering {
    /// None: the leading connection of a new session.
    joins: Option<u16>,
    /// Of which session: an answer for an earlier one is void.
    tsih: u16,
    attempt: Attempt,
}

/// A further connection that is wanted.
#[derive(Debug, Clone, Copy)]
struct Plan {
    cid: u16,
    at: Instant,
    failures: u32,
}

/// The session is lost.
struct Down {
    since: Instant,
    /// The next login.
    next: Instant,
    attempts: u32,
    /// The replacement timeout has passed.
    gone: bool,
    last: Error,
}

/// Which connections are wanted, and which are on their way.
pub(super) struct Recovery {
    portal: Portal,
    plans: Vec<Plan>,
    entering: Vec<Entering>,
    down: Option<Down>,
    /// The first connection that was lost since all was well, and why the last was.
    lost: Option<Instant>,
    why: String,
    not_before: Option<Instant>,
    /// When the session was logged in last, and how many sessions in a row had a short life.
    begun: Instant,
    short_lives: u32,
    refusal: Option<Error>,
}

impl Recovery {
    /// Of a session that has logged in; at another portal from now on, where the target has moved.
    pub fn new(moved: Option<Portal>) -> Recovery {
        Recovery {
            portal: moved.unwrap_or(Portal { host: String::new(), port: 0 }),
            plans: Vec::new(),
            entering: Vec::new(),
            down: None,
            lost: None,
            why: String::new(),
            not_before: None,
            begun: Instant::now(),
            short_lives: 0,
            refusal: None,
        }
    }

    /// Whether there is no session now.
    pub fn is_down(&self) -> bool {
        self.down.is_some()
    }

    /// Why commands are not taken, where the replacement timeout has passed.
    pub fn refuses(&self) -> Option<Error> {
        self.refusal.clone()
    }

    pub fn connection_lost(&mut self, why: &str, now: Instant) {
        // What follows from the first loss explains nothing.
        if self.lost.is_none() {
            self.lost = Some(now);
            self.why = why.to_owned();
        }
    }

    /// A connection is to be there, not before this time.
    pub fn plan(&mut self, cid: u16, at: Instant) {
        self.plans.retain(|plan| plan.cid != cid);
        self.plans.push(Plan { cid, at, failures: 0 });
    }

    /// The target has asked for a pause.
    pub fn not_before(&mut self, at: Instant) {
        self.not_before = Some(at);
    }

    pub fn deadline(&self, options: &Options) -> Option<Instant> {
        let plans = self.plans.iter().map(|plan| plan.at);
        let down = self.down.iter().flat_map(|down| {
            let next = self.entering.is_empty().then_some(down.next);
            next.into_iter().chain((!down.gone).then_some(down.since + options.replacement_timeout))
        });
        plans.chain(down).min()
    }
}

impl Driver {
    /// All connections beside the leading one.
    pub(super) fn plan_joins(&mut self, now: Instant) {
        let agreed = self.session.parameters().max_connections;
        if self.options.kind == SessionKind::Normal {
            let wanted = self.options.connections.min(u16::try_from(agreed).unwrap_or(u16::MAX));
            (1..wanted).for_each(|cid| self.recovery.plan(cid, now));
        }
    }

    /// The session is lost: its commands wait, or end where it is not to come back.
    pub(super) fn go_down(&mut self, now: Instant) {
        let why = match self.recovery.why.is_empty() {
            true => "the target has ended the session".to_owned(),
            false => self.recovery.why.clone(),
        };
        let whom = self.options.whom();
        self.recovery.plans.clear();
        self.recovery.entering.clear();
        self.asks.session_lost();
        if self.options.replacement_timeout.is_zero() {
            let error = Error::Gone { target: whom, after: Duration::ZERO, last: why };
            for request in self.shared.close(error.clone()) {
                super::refuse(request, error.clone());
            }
            for job in self.jobs.drain() {
                self.end(*job, Err(error.clone()));
            }
            self.asks.fail_all(&error);
            self.over = true;
            return;
        }
        let short = now < self.recovery.begun + SHORT_LIFE;
        self.recovery.short_lives = if short { self.recovery.short_lives + 1 } else { 0 };
        // What happens again and again is told once, and then when it is over.
        match self.recovery.short_lives {
            0 | 1 => {
                tracing::warn!(target = %whom, %why, waiting = self.jobs.unfinished(), "session lost; logging in again")
            }
            times => tracing::debug!(target = %whom, %why, times, "session lost again"),
        }
        self.shared.set_state(State::Recovering);
        self.shared.tell(Event::SessionLost { why: why.clone() });
        let since = self.recovery.lost.unwrap_or(now);
        // Time2Wait (RFC 7143 §13.15): the target is left alone for so long.
        let wait = Duration::from_secs(self.session.parameters().default_time_2_wait.into());
        let wait = match self.recovery.short_lives {
            0 | 1 => wait,
            times => wait.max(pause(times)),
        };
        let next = self.recovery.not_before.take().unwrap_or(since + wait);
        let last = Error::Invalid(why);
        self.recovery.down = Some(Down { since, next, attempts: 0, gone: false, last });
        // What waited for a busy unit waits for the session.
        self.jobs.resume(None);
    }

    /// What is due: logins, and the end of the replacement timeout. True: a login was begun.
    pub(super) fn recover(&mut self, now: Instant) -> bool {
        if self.closing.is_some() {
            return false;
        }
        let limit = self.options.replacement_timeout;
        if let Some(down) = &mut self.recovery.down {
            if !down.gone && now >= down.since + limit {
                down.gone = true;
                let (target, last) = (self.options.whom(), down.last.to_string());
                let error = Error::Gone { target, after: limit, last: last.clone() };
                tracing::error!(target = %self.options.whom(), why = %last, "no session within the replacement timeout");
                self.recovery.refusal = Some(error.clone());
                self.shared.set_state(State::Failed);
                self.shared.tell(Event::SessionGone { why: last });
                for job in self.jobs.drain() {
                    self.end(*job, Err(error.clone()));
                }
                self.asks.fail_all(&error);
            } else if now >= down.next && self.recovery.entering.is_empty() {
                self.begin(None);
                return true;
            }
            return false;
        }
        let mut begun = false;
        while let Some(at) = self.recovery.plans.iter().position(|plan| now >= plan.at) {
            // It stays planned until it has come, and is not begun twice.
            let cid = self.recovery.plans[at].cid;
            self.recovery.plans[at].at = now + self.options.login_timeout + LONGEST_PAUSE;
            if self.recovery.entering.iter().all(|entering| entering.joins != Some(cid)) {
                self.begin(Some(cid));
                begun = true;
            }
        }
        begun
    }

    fn begin(&mut self, joins: Option<u16>) {
        let mut options = Arc::unwrap_or_clone(self.options.clone());
        if !self.recovery.portal.host.is_empty() {
            options.portal = self.recovery.portal.clone();
        }
        let place = match joins {
            None => Place::leading(),
            Some(cid) => Place {
                cid,
                joins: Some((self.tsih, self.session.parameters().clone())),
                cmd_sn: self.session.cmd_sn(),
                exp_stat_sn: self.session.exp_stat_sn(cid).unwrap_or(0),
            },
        };
        let isid = self.isid;
        let attempt: Attempt = Box::pin(async move { login::log_in(&options, isid, place).await });
        self.recovery.entering.push(Entering { joins, tsih: self.tsih, attempt });
    }

    /// Goes on with the logins. True: one has ended.
    pub(super) fn enter(&mut self, cx: &mut Context<'_>, now: Instant) -> bool {
        let mut moved = false;
        let mut at = 0;
        while at < self.recovery.entering.len() {
            let entering = &mut self.recovery.entering[at];
            let Poll::Ready(result) = entering.attempt.as_mut().poll(cx) else {
                at += 1;
                continue;
            };
            let entering = self.recovery.entering.remove(at);
            moved = true;
            match (entering.joins, result) {
                (None, Ok(entered)) => self.restored(entered, now),
                (None, Err(error)) => self.not_restored(error, now),
                (Some(_), _) if entering.tsih != self.tsih || self.recovery.is_down() => {}
                (Some(cid), Ok(entered)) => self.joined(cid, entered, now),
                (Some(cid), Err(error)) => self.not_joined(cid, &error, now),
            }
        }
        moved
    }

    /// The session is back: what had not ended is sent again, in its order.
    fn restored(&mut self, entered: Entered, now: Instant) {
        let Some(down) = self.recovery.down.take() else { return };
        if let Some(moved) = entered.moved {
            self.recovery.portal = moved;
        }
        let logged_in = entered.logged_in;
        let cid = logged_in.opening.cid;
        self.tsih = logged_in.tsih;
        let (session, c) =
            core::Session::new(logged_in.session, limits(&self.options), logged_in.cmd_sn, logged_in.opening, now);
        self.session = session;
        let (peer, local) = (entered.peer, entered.local);
        self.lines.push(Line { link: Link::new(entered.stream, Vec::new()), c, cid, peer, local, load: 0 });
        self.recovery.refusal = None;
        self.recovery.begun = now;
        self.recovery.lost = None;
        self.recovery.why.clear();
        self.statistics.logins += 1;
        self.jobs.renew(now, self.options.command_timeout);
        self.shared.forget_block_length(None);
        // What comes back may be another disk: nothing is sent again to it before whoever knows it has looked.
        self.hold(&self.shared.guarded());
        let mut information = self.shared.information();
        // In another portal group it is another nexus, whose login has not ended the old session: what that may still
        // write is ended by a reset before anything is sent again.
        if information.portal_group_tag != logged_in.portal_group_tag {
            for lun in self.jobs.raise_fences() {
                self.asks.push(super::Ask::Fence { lun });
            }
        }
        (information.portal, information.state) = (entered.portal, State::LoggedIn);
        (information.target_alias, information.portal_group_tag) = (logged_in.target_alias, logged_in.portal_group_tag);
        self.shared.inform(information);
        self.inform();
        let after = now.saturating_duration_since(down.since);
        let (whom, again) = (self.options.whom(), self.jobs.waiting());
        match self.recovery.short_lives {
            0 | 1 => tracing::info!(target = %whom, ?after, failed_logins = down.attempts, again, "session restored"),
            times => tracing::debug!(target = %whom, ?after, again, times, "session restored again"),
        }
        self.shared.tell(Event::SessionRestored { after, attempts: down.attempts });
        self.plan_joins(now);
    }

    fn not_restored(&mut self, error: Error, now: Instant) {
        let Some(down) = &mut self.recovery.down else { return };
        // A repeated failure is one line.
        if down.last != error {
            tracing::warn!(target = %self.options.whom(), attempt = down.attempts + 1, %error, "login failed");
        }
        // What was refused for good is not asked for again and again (RFC 7143 §11.13.5); a target that is being set up
        // says so too, and may have it in a while.
        let for_good = matches!(error, Error::LoginRefused { class: 2, .. } | Error::Authentication { .. });
        down.last = error;
        down.next = now + if for_good { LONGEST_PAUSE } else { pause(down.attempts) };
        down.attempts = down.attempts.saturating_add(1);
        if down.gone {
            let (target, after) = (self.options.whom(), now.saturating_duration_since(down.since));
            self.recovery.refusal = Some(Error::Gone { target, after, last: down.last.to_string() });
        }
    }

    fn joined(&mut self, cid: u16, entered: Entered, now: Instant) {
        self.recovery.plans.retain(|plan| plan.cid != cid);
        // The target has taken the old connection's place away.
        if let Some(at) = self.lines.iter().position(|line| line.cid == cid) {
            self.lose(at, io::link::LinkError::Closed, now);
        }
        let (peer, local) = (entered.peer, entered.local);
        let c = self.session.attach(entered.logged_in.opening, now);
        self.lines.push(Line { link: Link::new(entered.stream, Vec::new()), c, cid, peer, local, load: 0 });
        if self.recovery.plans.is_empty() {
            self.recovery.lost = None;
        }
        self.inform();
        self.shared.tell(Event::ConnectionRestored { cid });
    }

    fn not_joined(&mut self, cid: u16, error: &Error, now: Instant) {
        match error {
            // It has lost the session that we still have.
            Error::LoginRefused { class: 2, detail: 10, .. } => {
                self.recovery.why = error.to_string();
                return self.session.abandon();
            }
            Error::LoginRefused { class: 2, detail: 6, .. } => {
                tracing::info!(target = %self.options.whom(), cid, %error, "another connection is not taken");
                self.recovery.plans.retain(|plan| plan.cid != cid);
                return;
            }
            _ => {}
        }
        // At level 2 its tasks go on with another connection, where there is one.
        let lost = self.session.exp_stat_sn(cid).is_some() && self.lines.iter().all(|line| line.cid != cid);
        if lost && let Some(c) = self.lines.first().map(|line| line.c) {
            self.session.logout(c, LogoutReason::Recovery { cid });
        }
        if let Some(plan) = self.recovery.plans.iter_mut().find(|plan| plan.cid == cid) {
            plan.failures += 1;
            if plan.failures == 1 {
                tracing::warn!(target = %self.options.whom(), cid, %error, "a connection is not back yet");
            }
            plan.at = now + if lost { pause(plan.failures) } else { pause(plan.failures * 3).min(JOIN_PAUSE) };
        }
    }
}

/// After so many failures.
fn pause(failures: u32) -> Duration {
    (FIRST_PAUSE * 2u32.pow(failures.min(10))).min(LONGEST_PAUSE)
}
