//! Keeps an entity registered with a server: registers it, asks before the registration ends, registers it again
//! when the server has lost it, and takes it out at the end (RFC 4171 §5.6.5, §6.2.6).
//!
//! ```text
//!             connect                 registered
//!   Resting ──────────► Connecting ──► Connected ─┐ answers, refusals, inquiries
//!      ▲  ▲                 │            │  ▲─────┘
//!      │  └──── failed ─────┘            │
//!      └─────── closed, silent, lying ───┘          stop ──► Connected or not, at most LEAVE ──► Finished
//! ```
//!
//! One request is under way at a time. Whatever the server does costs one connection, a message of bounded size
//! and waiting; nobody else waits for it.

mod answers;

use super::attribute::{Attribute, Tag};
use super::message::{Message, Status};
use super::objects::{self, StateChange};
use super::registration::{Features, Manner, Registration};
use super::wire::{FormatError, Function, Receiver};
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// How long a connection may take to come about.
const CONNECT: Duration = Duration::from_secs(10);
/// How long the server may take for an answer.
const ANSWER: Duration = Duration::from_secs(15);
/// How long all of the end may take.
const LEAVE: Duration = Duration::from_secs(3);
/// The first rest after a failure; it doubles.
const REST: Duration = Duration::from_secs(1);
/// The longest rest.
const REST_MAX: Duration = Duration::from_secs(60);
/// A connection that has lived so long was a good one.
const GOOD: Duration = Duration::from_secs(60);
/// The longest time between two questions.
const ASK_MAX: Duration = Duration::from_secs(300);
/// A server's answer has at most so many bytes: it repeats what was registered.
const MESSAGE_BYTES: usize = 1 << 20;
/// Events that wait to be taken; more are dropped.
const EVENTS: usize = 64;

/// What is to be done, in this order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Connect to the server; then [`Client::handle_connected`] or [`Client::handle_closed`].
    Connect,
    /// Send these bytes.
    Send(Vec<u8>),
    /// Close the connection, or give up connecting. No answer is expected.
    Close,
}

/// What is to be told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The server has taken the registration and keeps it for so long without a message.
    Registered {
        /// Seconds; 0: for ever.
        period: u32,
    },
    /// The server is there again and knew the entity.
    Back,
    /// The server is away; told once.
    Away(Reason),
    /// The server does not know the entity, or not all of its portals, any more; it is registered again.
    Forgotten,
    /// The server does not do this; told once, and left out.
    Without(&'static str),
    /// The server refuses the registration; told once for each status, tried again later.
    Refused(Status),
    /// The entity was taken out of the server.
    Deregistered,
    /// A node has changed. A target has no use for it; an initiator asks the server again.
    Changed(StateChange),
}

/// Why a server is away.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Reason {
    /// There is no connection, or it broke.
    #[error("{0}")]
    Connection(String),
    /// It accepts a connection and does not answer.
    #[error("it does not answer")]
    Silent,
    /// What it sends is no message.
    #[error("it sent {0}")]
    Format(#[from] FormatError),
    /// It answers what was not asked.
    #[error("it answers what was not asked")]
    Unasked,
}

/// What a request was for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Purpose {
    Register { last: bool },
    Listen,
    Inquire,
    TakeOut,
    Deregister,
}

struct Waiting {
    purpose: Purpose,
    function: Function,
    transaction: u16,
    until: Instant,
}

struct Connected {
    since: Instant,
    receiver: Receiver,
    waiting: Option<Waiting>,
    requests: VecDeque<(Purpose, Message)>,
    /// When the server is asked next, or the registration is tried again.
    next: Instant,
    /// Targets were taken out of other entities on this connection.
    taken_out: bool,
}

enum State {
    Resting { until: Instant },
    Connecting { until: Instant },
    Connected(Box<Connected>),
    Finished,
}

/// The client of one server for one entity.
pub struct Client {
    registration: Registration,
    features: Features,
    state: State,
    /// Whether the server has what `registration` says, as far as we know; and for how long it keeps it.
    registered: Option<u32>,
    /// Whether all of it is on its way to the server and may have arrived.
    sent: bool,
    /// Bad connections in a row.
    failures: u32,
    /// Registrations that were refused in a row.
    refusals: u32,
    lost_portals: u32,
    /// Inquiries in a row that have not found the entity.
    forgotten: u32,
    /// An absence was told, and its end was not.
    told_away: bool,
    told_refusal: Option<Status>,
    stopping: Option<Instant>,
    transaction: u16,
    entropy: u64,
    actions: VecDeque<Action>,
    events: VecDeque<Event>,
}

impl Client {
    /// A client that begins at once. The entropy only spreads its retries.
    pub fn new(now: Instant, entropy: u64) -> Client {
        let registration = Registration { entity: String::new(), period: 0, portals: Vec::new(), targets: Vec::new() };
        Client {
            registration,
            features: Features::default(),
            state: State::Resting { until: now },
            registered: None,
            sent: false,
            failures: 0,
            refusals: 0,
            lost_portals: 0,
            forgotten: 0,
            told_away: false,
            told_refusal: None,
            stopping: None,
            transaction: 0,
            entropy,
            actions: VecDeque::new(),
            events: VecDeque::new(),
        }
    }

    /// Whether it has come to its end.
    pub fn is_finished(&self) -> bool {
        matches!(self.state, State::Finished)
    }

    /// A connection has come about. What is to be registered may depend on the address that it has here.
    pub fn handle_connected(&mut self, now: Instant, registration: Registration) {
        if !matches!(self.state, State::Connecting { .. }) {
            self.actions.push_back(Action::Close);
            return;
        }
        self.state = State::Connected(Box::new(Connected {
            since: now,
            receiver: Receiver::new(MESSAGE_BYTES),
            waiting: None,
            requests: VecDeque::new(),
            next: now + ASK_MAX,
            taken_out: false,
        }));
        if self.stopping.is_some() {
            return self.leave(now);
        }
        let same = self.registration == registration;
        let before = std::mem::replace(&mut self.registration, registration);
        // A node that the server does not know may not speak for the entity, and one without targets has none.
        let speaks = self.registration.source().is_some_and(|source| before.has(source));
        if self.sent && !same && !speaks {
            self.registered = None;
            self.sent = false;
            self.ask(now, before.deregister().map(|message| (Purpose::TakeOut, message)));
        }
        match self.registered {
            Some(_) if same => self.inquire(now),
            _ => self.register(now, Manner::Replace),
        }
    }

    /// What is to be registered has changed: it is asked for at once, with a new connection.
    pub fn renew(&mut self, now: Instant) {
        if self.stopping.is_some() {
            return;
        }
        match self.state {
            State::Connecting { .. } | State::Connected(_) => self.actions.push_back(Action::Close),
            State::Resting { .. } => {}
            State::Finished => return,
        }
        self.state = State::Resting { until: now };
    }

    /// Bytes of the server.
    pub fn handle_bytes(&mut self, now: Instant, bytes: &[u8]) {
        if let State::Connected(connected) = &mut self.state {
            connected.receiver.push(bytes);
        }
        loop {
            let State::Connected(connected) = &mut self.state else { return };
            match connected.receiver.take() {
                Ok(None) => return,
                Ok(Some(message)) => self.message(now, &message),
                Err(error) => return self.lose(now, error.into()),
            }
        }
    }

    /// The connection is closed, or did not come about.
    pub fn handle_closed(&mut self, now: Instant, why: &str) {
        match &self.state {
            State::Connecting { .. } => self.rest(now, Some(Reason::Connection(why.to_owned()))),
            State::Connected(connected) => {
                // A server may close a connection on which nothing is under way. It is asked again soon: it may
                // have been started anew and know nobody.
                let idle = connected.waiting.is_none();
                self.rest(now, (!idle).then(|| Reason::Connection(why.to_owned())));
            }
            State::Resting { .. } | State::Finished => {}
        }
    }

    /// A message that came on a connection of its own from the server, or from whoever says so. Returns the
    /// answer's bytes.
    pub fn handle_notification(&mut self, now: Instant, message: &Message) -> Option<Vec<u8>> {
        let answer = match message.function {
            function if function.is_response() => return None,
            Function::ENTITY_STATUS_INQUIRY => self.status_inquiry(message),
            Function::STATE_CHANGE_NOTIFICATION => self.state_change(now, message),
            _ => message.answer(Status::MESSAGE_NOT_SUPPORTED, Vec::new()),
        };
        Some(answer.encode())
    }

    /// Time has passed.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.stopping.is_some_and(|until| until <= now) {
            return self.finish();
        }
        match &mut self.state {
            State::Resting { until } if *until <= now => {
                self.state = State::Connecting { until: now + CONNECT };
                self.actions.push_back(Action::Connect);
            }
            State::Connecting { until } if *until <= now => {
                self.actions.push_back(Action::Close);
                self.rest(now, Some(Reason::Silent));
            }
            State::Connected(connected) => match &connected.waiting {
                Some(waiting) if waiting.until <= now => self.lose(now, Reason::Silent),
                None if connected.next <= now => match self.registered {
                    Some(_) => self.inquire(now),
                    None => self.register(now, Manner::Replace),
                },
                _ => {}
            },
            _ => {}
        }
    }

    /// Takes the entity out of the server, in a bounded time; then the client is finished.
    pub fn stop(&mut self, now: Instant) {
        if self.stopping.is_some() || self.is_finished() {
            return;
        }
        if !self.sent {
            return self.finish();
        }
        self.stopping = Some(now + LEAVE);
        match &self.state {
            State::Connected(_) => self.leave(now),
            State::Resting { .. } => self.state = State::Resting { until: now },
            State::Connecting { .. } | State::Finished => {}
        }
    }

    /// What is to be done next.
    pub fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// What is to be told next.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// When [`Client::handle_timeout`] has something to do.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let own = match &self.state {
            State::Resting { until } | State::Connecting { until } => *until,
            State::Connected(connected) => match &connected.waiting {
                Some(waiting) => waiting.until,
                None => connected.next,
            },
            State::Finished => return None,
        };
        Some(self.stopping.map_or(own, |until| until.min(own)))
    }

    fn tell(&mut self, event: Event) {
        if self.events.len() < EVENTS {
            self.events.push_back(event);
        }
    }

    /// Sends the next request when none is under way.
    fn request(&mut self, now: Instant) {
        let State::Connected(connected) = &mut self.state else { return };
        if connected.waiting.is_some() {
            return;
        }
        let Some((purpose, mut message)) = connected.requests.pop_front() else { return };
        self.transaction = self.transaction.wrapping_add(1);
        message.transaction = self.transaction;
        let until = now + ANSWER;
        connected.waiting =
            Some(Waiting { purpose, function: message.function, transaction: message.transaction, until });
        self.actions.push_back(Action::Send(message.encode()));
    }

    fn ask(&mut self, now: Instant, requests: impl IntoIterator<Item = (Purpose, Message)>) {
        if let State::Connected(connected) = &mut self.state {
            connected.requests.extend(requests);
        }
        self.request(now);
    }

    fn register(&mut self, now: Instant, manner: Manner) {
        let messages = self.registration.register(self.features, manner);
        let last = messages.len().saturating_sub(1);
        if messages.is_empty() {
            return self.wait(now, ASK_MAX);
        }
        self.sent = true;
        let purpose = |number| Purpose::Register { last: number == last };
        self.ask(now, messages.into_iter().enumerate().map(|(number, message)| (purpose(number), message)));
    }

    fn inquire(&mut self, now: Instant) {
        self.ask(now, self.registration.inquire().map(|message| (Purpose::Inquire, message)));
    }

    /// Nothing else is done any more on this connection than taking the entity out.
    fn leave(&mut self, now: Instant) {
        if let State::Connected(connected) = &mut self.state {
            connected.requests.clear();
            connected.waiting = None;
        }
        match self.registration.deregister() {
            Some(message) => self.ask(now, [(Purpose::Deregister, message)]),
            None => self.finish(),
        }
    }

    fn finish(&mut self) {
        if matches!(self.state, State::Connecting { .. } | State::Connected(_)) {
            self.actions.push_back(Action::Close);
        }
        self.state = State::Finished;
    }

    /// The next time of this connection at which something is to be done.
    fn wait(&mut self, now: Instant, time: Duration) {
        if let State::Connected(connected) = &mut self.state {
            connected.next = now + time;
        }
    }

    /// Gives the connection up.
    fn lose(&mut self, now: Instant, reason: Reason) {
        self.actions.push_back(Action::Close);
        self.rest(now, Some(reason));
    }

    /// No connection for a while.
    fn rest(&mut self, now: Instant, reason: Option<Reason>) {
        if let State::Connected(connected) = &self.state
            && now.saturating_duration_since(connected.since) >= GOOD
        {
            self.failures = 0;
        }
        let time = self.back_off(self.failures);
        self.failures = self.failures.saturating_add(1);
        self.state = State::Resting { until: now + time };
        if let Some(reason) = reason
            && !std::mem::replace(&mut self.told_away, true)
        {
            self.tell(Event::Away(reason));
        }
    }

    /// The rest after so many failures: doubled each time, with up to a quarter more, so that not all clients
    /// of a server come back at once.
    fn back_off(&mut self, failures: u32) -> Duration {
        let rest = REST.saturating_mul(1 << failures.min(6)).min(REST_MAX);
        // Splitmix64.
        self.entropy = self.entropy.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.entropy ^ (self.entropy >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let share = u32::try_from((mixed ^ (mixed >> 27)) >> 44 & 0xff).unwrap_or(0);
        rest + rest / 4 * share / 255
    }

    fn message(&mut self, now: Instant, message: &Message) {
        if !message.function.is_response() {
            // The server may use our connection for its own messages (RFC 4171 §2.9.1).
            let answer = self.handle_notification(now, message);
            self.actions.extend(answer.map(Action::Send));
            return;
        }
        let State::Connected(connected) = &mut self.state else { return };
        let matches = |waiting: &Waiting| {
            waiting.function.response() == message.function && waiting.transaction == message.transaction
        };
        let Some(waiting) = connected.waiting.take_if(|waiting| matches(waiting)) else {
            // At the end the answer to what was asked before may still come.
            if self.stopping.is_none() {
                self.lose(now, Reason::Unasked);
            }
            return;
        };
        let status = message.status.unwrap_or(Status::SUCCESSFUL);
        match waiting.purpose {
            Purpose::Register { last } => self.register_answered(now, status, last, message),
            Purpose::Inquire => self.inquiry_answered(now, status, message),
            Purpose::Listen => {
                if status != Status::SUCCESSFUL {
                    self.without_notifications();
                }
            }
            Purpose::TakeOut => {}
            Purpose::Deregister => {
                if status == Status::SUCCESSFUL {
                    self.tell(Event::Deregistered);
                }
                self.finish();
            }
        }
        self.request(now);
    }

    /// Answers whether a portal is there (RFC 4171 §5.6.5.13).
    fn status_inquiry(&self, message: &Message) -> Message {
        let entity = message.attributes.iter().find(|attribute| attribute.tag == Tag::ENTITY_IDENTIFIER);
        let own = entity
            .and_then(Attribute::as_text)
            .is_some_and(|text| text.eq_ignore_ascii_case(&self.registration.entity));
        match own && self.sent && self.stopping.is_none() {
            true => message.answer(Status::SUCCESSFUL, message.attributes.clone()),
            false => message.answer(Status::NO_SUCH_ENTRY, Vec::new()),
        }
    }

    /// Takes a notification (RFC 4171 §5.6.5.8).
    fn state_change(&mut self, now: Instant, message: &Message) -> Message {
        let (destination, changes) = match objects::notification(message) {
            Ok(told) => told,
            Err(status) => return message.answer(status, Vec::new()),
        };
        if !self.registration.has(&destination) {
            return message.answer(Status::NO_SUCH_ENTRY, Vec::new());
        }
        for change in changes {
            // One of ours is gone from the server, which nobody here has asked for: look, soon.
            if change.removed && self.registration.has(&change.node) && self.registered.is_some() {
                let rest = self.back_off(1);
                if let State::Connected(connected) = &mut self.state {
                    connected.next = connected.next.min(now + rest);
                }
            }
            self.tell(Event::Changed(change));
        }
        message.answer(Status::SUCCESSFUL, vec![Attribute::text(Tag::ISCSI_NAME, destination.as_str())])
    }
}

#[cfg(test)]
mod tests;
