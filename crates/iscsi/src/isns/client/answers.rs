//! What comes of the server's answers to registrations and inquiries.

use super::{ASK_MAX, Client, Event, Purpose, REST_MAX, State};
use crate::isns::Tag;
use crate::isns::message::{Message, Status};
use crate::isns::objects::{Object, objects};
use crate::isns::registration::Manner;
use std::time::{Duration, Instant};

/// The server is asked this often within the registration period, and not more often than this.
const ASKED_IN_PERIOD: u32 = 3;
const ASK_MIN: Duration = Duration::from_secs(1);
/// Inquiries are not asked for any more when portals were lost so often.
const LOST_PORTALS: u32 = 2;
/// A server that forgets so often in a row does not show what is registered; no more is told of it.
const FORGOTTEN: u32 = 2;

impl Client {
    pub(super) fn register_answered(&mut self, now: Instant, status: Status, last: bool, message: &Message) {
        if status != Status::SUCCESSFUL {
            return self.register_refused(now, status);
        }
        let said = self.period(message);
        self.registered = said.or(self.registered);
        if !last {
            return;
        }
        let known = self.registered.is_some();
        let period = *self.registered.get_or_insert(self.registration.period);
        (self.refusals, self.told_away, self.told_refusal) = (0, false, None);
        if self.forgotten <= FORGOTTEN {
            self.tell(Event::Registered { period });
        }
        self.wait(now, asked_every(period));
        if self.registration.portals.iter().any(|portal| portal.notified_at.is_some()) {
            let listen = self.registration.listen();
            self.ask(now, listen.into_iter().map(|message| (Purpose::Listen, message)));
        }
        // A server need not say the period when it has not changed it, and it may be its own all the same.
        if !known && self.forgotten <= FORGOTTEN {
            self.inquire(now);
        }
    }

    fn register_refused(&mut self, now: Instant, status: Status) {
        let State::Connected(connected) = &mut self.state else { return };
        connected.requests.clear();
        match status {
            Status::ESI_NOT_AVAILABLE if self.features.inquiries => {
                self.features.inquiries = false;
                self.tell(Event::Without("inquiries whether portals are there (ESI)"));
                self.register(now, Manner::Replace);
            }
            Status::REGISTRATION_FEATURE_NOT_SUPPORTED if self.features.groups => {
                self.features.groups = false;
                self.tell(Event::Without("portal groups"));
                self.register(now, Manner::Replace);
            }
            // Perhaps an earlier registration of another entity has left them there.
            Status::INVALID_REGISTRATION if !connected.taken_out => {
                connected.taken_out = true;
                let messages = self.registration.take_out();
                self.ask(now, messages.into_iter().map(|message| (Purpose::TakeOut, message)));
                self.register(now, Manner::Replace);
            }
            _ => {
                self.registered = None;
                if self.told_refusal != Some(status) {
                    self.told_refusal = Some(status);
                    self.tell(Event::Refused(status));
                }
                let rest = self.back_off(self.refusals);
                self.refusals = self.refusals.saturating_add(1);
                self.wait(now, rest);
            }
        }
    }

    pub(super) fn inquiry_answered(&mut self, now: Instant, status: Status, message: &Message) {
        let found = objects(message.operating());
        let entity = found.iter().any(|object| {
            matches!(object, Object::Entity { identifier, .. } if identifier.eq_ignore_ascii_case(&self.registration.entity))
        });
        if status == Status::BUSY {
            return self.wait(now, REST_MAX);
        }
        if status != Status::SUCCESSFUL || !entity {
            return self.forgotten(now);
        }
        let has = |address| found.contains(&Object::Portal { address });
        if !self.registration.portals.iter().all(|portal| has(portal.address)) {
            // The server takes out portals that do not answer its inquiries. They can be reached all the same,
            // perhaps, and only its way to us be closed.
            self.lost_portals += 1;
            if self.lost_portals >= LOST_PORTALS && self.features.inquiries {
                self.features.inquiries = false;
                self.tell(Event::Without("inquiries whether portals are there (ESI), which do not get through"));
            }
            return self.forgotten(now);
        }
        self.forgotten = 0;
        if std::mem::take(&mut self.told_away) {
            self.tell(Event::Back);
        }
        let period = self.period(message).or(self.registered).unwrap_or(self.registration.period);
        self.registered = Some(period);
        self.wait(now, asked_every(period));
    }

    fn forgotten(&mut self, now: Instant) {
        self.registered = None;
        self.forgotten = self.forgotten.saturating_add(1);
        if self.forgotten <= FORGOTTEN {
            self.tell(Event::Forgotten);
        }
        self.register(now, Manner::Add);
    }

    /// The registration period that a message says.
    fn period(&self, message: &Message) -> Option<u32> {
        message.operating().iter().find(|attribute| attribute.tag == Tag::REGISTRATION_PERIOD)?.as_number()
    }

    pub(super) fn without_notifications(&mut self) {
        if let State::Connected(connected) = &mut self.state {
            let before = connected.requests.len();
            connected.requests.retain(|(purpose, _)| *purpose != Purpose::Listen);
            // Told once, at the first of them.
            if before == connected.requests.len() && before > 0 {
                return;
            }
        }
        self.tell(Event::Without("notifications of changes (SCN)"));
    }
}

/// How often the server is asked.
fn asked_every(period: u32) -> Duration {
    match period {
        0 => ASK_MAX,
        _ => (Duration::from_secs(period.into()) / ASKED_IN_PERIOD).clamp(ASK_MIN, ASK_MAX),
    }
}
