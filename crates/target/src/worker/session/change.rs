//! What whoever administers the target does with a session that is there: other units, other rights, one connection
//! less.

use super::{Driver, LOGOUT_SECONDS};
use crate::registry::{ChangeOrder, CloseOrder, Closed};
use crate::worker::Shared;
use iscsi::session::ConnectionId;
use lun::TargetPort;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

/// A connection that was asked to go.
pub(super) struct Closing {
    c: ConnectionId,
    /// How long the initiator has to log it out; `None` when it was dropped after that.
    pub until: Option<Instant>,
    answer: Option<oneshot::Sender<Closed>>,
}

impl Driver {
    /// From now on it is served by this. What goes by that ends at once, but for what a store has.
    pub(super) fn change(&mut self, shared: &Shared, order: ChangeOrder) {
        let ChangeOrder { target, rule, .. } = &order;
        let port = TargetPort::new(&target.name, &target.groups, self.identity.portal_group);
        if let Some(port) = port {
            shared.lane.borrow_mut().change_nexus(self.nexus, Arc::clone(&rule.units), Arc::new(port));
        }
        shared.lane.borrow_mut().limit_nexus(self.nexus, Arc::clone(&rule.limiter));
        match rule.target_resets {
            true => self.session.allow_target_resets(),
            false => self.session.forbid_target_resets(),
        }
        self.target = Arc::clone(target);
        self.rule = rule.label.clone();
    }

    /// One of its connections is to go.
    pub(super) fn close(&mut self, order: CloseOrder, now: Instant) {
        let CloseOrder { cid, answer } = order;
        let Some(line) = self.lines.iter().find(|line| line.cid == cid) else {
            let _ = answer.send(Closed::Absent);
            return;
        };
        if self.lines.len() == 1 && self.joins.is_empty() {
            self.say_farewell("its only connection was closed by hand");
            let _ = answer.send(Closed::Session);
            return;
        }
        let c = line.c;
        self.session.request_logout_of(c, LOGOUT_SECONDS);
        let until = Some(now + Duration::from_secs(LOGOUT_SECONDS.into()));
        self.closings.push(Closing { c, until, answer: Some(answer) });
    }

    /// Takes those that were asked to go as far as they have come.
    pub(super) fn closings_proceed(&mut self, now: Instant) {
        if self.closings.is_empty() {
            return;
        }
        let recovers = self.recovers();
        for mut closing in std::mem::take(&mut self.closings) {
            if self.line_of(closing.c).is_none() {
                let _ = closing.answer.take().map(|answer| answer.send(Closed::Connection));
                continue;
            }
            if closing.until.is_some_and(|until| now >= until) {
                closing.until = None;
                if recovers {
                    self.session.drop_connection(closing.c);
                    self.wake();
                } else {
                    let _ = closing.answer.take().map(|answer| answer.send(Closed::Stays));
                    continue;
                }
            }
            self.closings.push(closing);
        }
    }
}
