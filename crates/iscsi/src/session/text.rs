//! Text in the full feature phase: negotiations of several requests, each of which, and each of whose
//! answers, may span PDUs (RFC 7143 §6.4, §11.10, §11.11).
//!
//! A connection has one negotiation at a time, bounded in bytes, keys and time. What it agrees on takes
//! effect with the response that ends it, and nothing of it before.

use super::connection::{Connection, ConnectionId, Outgoing};
use super::{ConnectionError, Event, Session, SessionKind};
use crate::key::{self, FROM_TARGET, RESERVED_WORDS, Rule, When};
use crate::text;
use crate::wire::{AsyncEvent, CONTINUE, FINAL, Header, Pdu, RESERVED_TAG, RejectReason, TextRequest};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Instant;
use zerocopy::IntoBytes;

/// The negotiation of a connection, where there is one.
#[derive(Debug, Default)]
pub(super) struct Texts {
    negotiation: Option<Negotiation>,
    last_tag: u32,
    /// MaxRecvDataSegmentLength that is declared anew in the next negotiation.
    offer: Option<u32>,
}

impl Texts {
    /// Of a connection that goes on, whose last negotiation had this tag.
    pub fn behind(last_tag: u32) -> Texts {
        Texts { last_tag, ..Texts::default() }
    }

    /// The tag of the last negotiation, where none is in progress.
    pub fn at_rest(&self) -> Option<u32> {
        (self.negotiation.is_none() && self.offer.is_none()).then_some(self.last_tag)
    }
}

/// A negotiation in progress.
#[derive(Debug)]
struct Negotiation {
    initiator_task_tag: u32,
    immediate: bool,
    /// The target's name for it (§11.10.4).
    transfer_tag: u32,
    began: Instant,
    /// Bytes that came in all of its requests.
    bytes: usize,
    /// Text whose end has not come (C).
    collected: Vec<u8>,
    /// Keys that were said: none is said twice (§6.4).
    seen: BTreeSet<String>,
    /// The initiator's MaxRecvDataSegmentLength, from the end of the negotiation on.
    segment: Option<u32>,
    answer: Vec<u8>,
    stage: Stage,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// The initiator is to go on.
    Asking,
    /// The application is to say which targets there are; whether the initiator has said all.
    Targets(bool),
    /// The answer goes on when the initiator asks for it; whether the initiator has said all.
    Answering(bool),
}

/// What the pairs of one request come to.
#[derive(Default)]
struct Said {
    answers: Vec<u8>,
    send_targets: Option<String>,
    segment: Option<u32>,
}

impl Session {
    pub(super) fn text(&mut self, c: ConnectionId, header: &TextRequest, text: &[u8]) -> Result<(), ConnectionError> {
        let limit = self.limits.text_bytes;
        let Some(connection) = self.connection_mut(c) else { return Ok(()) };
        let transfer_tag = header.target_transfer_tag.get();
        let now = connection.last_heard;
        if connection.owes_text() {
            // The one before has not been answered (§6.2): it goes on, this one does not.
            return self.reject(c, RejectReason::ProtocolError, header.as_bytes().into());
        }
        let texts = &mut connection.text;
        if transfer_tag == RESERVED_TAG {
            // A reserved tag begins anew and forgets what was (§11.10.4).
            texts.begin(header, now);
        }
        let Some(negotiation) = texts.negotiation.as_mut().filter(|one| one.is_meant(header)) else {
            return self.reject(c, RejectReason::InvalidPduField, header.as_bytes().into());
        };
        negotiation.bytes = negotiation.bytes.saturating_add(text.len());
        if negotiation.bytes > limit {
            texts.negotiation = None;
            self.limits.struck.text_bytes.count();
            return self.reject(c, RejectReason::LongOperationReject, header.as_bytes().into());
        }
        if let Stage::Answering(_) = negotiation.stage {
            // Nothing is said in between (§6.2).
            if !text.is_empty() || header.flags & CONTINUE != 0 {
                return self.refuse_text(c, header);
            }
            self.answer_goes_on(c);
            return Ok(());
        }
        negotiation.collected.extend_from_slice(text);
        if header.flags & CONTINUE != 0 {
            let (initiator_task_tag, target_transfer_tag) = (negotiation.initiator_task_tag, negotiation.transfer_tag);
            let (final_bit, continues, data) = (false, false, Vec::new());
            connection.queue(Outgoing::Text { initiator_task_tag, final_bit, continues, target_transfer_tag, data });
            return Ok(());
        }
        let question = std::mem::take(&mut negotiation.collected);
        let last = header.flags & FINAL != 0;
        let Some(said) = self.said(c, &question) else { return self.refuse_text(c, header) };
        let Some(negotiation) = self.connection_mut(c).and_then(|connection| connection.text.negotiation.as_mut())
        else {
            return Ok(());
        };
        negotiation.segment = said.segment.or(negotiation.segment);
        negotiation.answer = said.answers;
        self.offer(c, last);
        let Some(negotiation) = self.connection_mut(c).and_then(|connection| connection.text.negotiation.as_mut())
        else {
            return Ok(());
        };
        match said.send_targets {
            Some(value) => {
                negotiation.stage = Stage::Targets(last);
                self.events.push_back(Event::SendTargets { connection: c, value });
            }
            None => {
                negotiation.stage = Stage::Answering(last);
                self.answer_goes_on(c);
            }
        }
        Ok(())
    }

    /// Judges the pairs of a request. None: something is wrong with one of them, and so with all (§6.2).
    fn said(&mut self, c: ConnectionId, question: &[u8]) -> Option<Said> {
        let (keys, discovery) = (self.limits.keys, self.kind == SessionKind::Discovery);
        let struck = Arc::clone(&self.limits.struck);
        let negotiation = self.connection_mut(c)?.text.negotiation.as_mut()?;
        let mut said = Said::default();
        for pair in text::pairs(question) {
            let (name, value) = pair.ok()?;
            if negotiation.seen.len() >= keys {
                struck.keys.count();
                return None;
            }
            if !negotiation.seen.insert(name.to_owned()) || RESERVED_WORDS.contains(&value) {
                return None;
            }
            let key = key::find(name);
            if discovery && key.is_none_or(|key| key.when != When::FullFeature) {
                // §4.3: such a session is there for SendTargets alone.
                return None;
            }
            match key {
                None => text::push(&mut said.answers, name, "NotUnderstood"),
                Some(key) if key.when == When::FullFeature => match value {
                    // Appendix C: an operational session does not learn of other targets.
                    "All" if !discovery => text::push(&mut said.answers, name, "Reject"),
                    _ => said.send_targets = Some(value.to_owned()),
                },
                Some(key) if FROM_TARGET.contains(&key.name) => return None,
                Some(key) if key.when == When::Any => {
                    if let Rule::DeclaredNumber(low, high) = key.rule {
                        match key::bounded(value, low, high) {
                            Some(length) => said.segment = Some(length),
                            None => text::push(&mut said.answers, name, "Reject"),
                        }
                    }
                }
                // Keys of the login change nothing any more (KEY-17).
                Some(_) => return None,
            }
        }
        Some(said)
    }

    /// The negotiation fails and is over (§7.12).
    fn refuse_text(&mut self, c: ConnectionId, header: &TextRequest) -> Result<(), ConnectionError> {
        if let Some(connection) = self.connection_mut(c) {
            connection.text.negotiation = None;
        }
        self.reject(c, RejectReason::ProtocolError, header.as_bytes().into())
    }

    /// The answer to [`Event::SendTargets`]: text of TargetName and TargetAddress pairs.
    pub fn answer_text(&mut self, c: ConnectionId, answer: &[u8]) {
        let negotiation = self.connection_mut(c).and_then(|connection| connection.text.negotiation.as_mut());
        if let Some(negotiation) = negotiation
            && let Stage::Targets(last) = negotiation.stage
        {
            negotiation.answer.extend_from_slice(answer);
            negotiation.stage = Stage::Answering(last);
            self.answer_goes_on(c);
        }
    }

    /// Sends as much of the answer as one PDU takes (DSC-04).
    fn answer_goes_on(&mut self, c: ConnectionId) {
        let Some(connection) = self.connection_mut(c) else { return };
        let limit = connection.parameters.max_send_data_segment_length as usize;
        let Some(negotiation) = &mut connection.text.negotiation else { return };
        let rest = negotiation.answer.split_off(negotiation.answer.len().min(limit));
        let data = std::mem::replace(&mut negotiation.answer, rest);
        let continues = !negotiation.answer.is_empty();
        let final_bit = !continues && negotiation.stage == Stage::Answering(true);
        let initiator_task_tag = negotiation.initiator_task_tag;
        let target_transfer_tag = if final_bit { RESERVED_TAG } else { negotiation.transfer_tag };
        if !continues {
            negotiation.stage = Stage::Asking;
        }
        if final_bit {
            if let Some(length) = negotiation.segment {
                connection.parameters.max_send_data_segment_length = length;
            }
            connection.text.negotiation = None;
        }
        connection.queue(Outgoing::Text { initiator_task_tag, final_bit, continues, target_transfer_tag, data });
    }

    /// Asks the initiator to negotiate within this many seconds (§11.9.1, event 4), and declares this
    /// MaxRecvDataSegmentLength (§13.12) on each connection where it does. A longer one holds from the response
    /// on; what fits the one before is still taken, since it may be on its way.
    pub fn negotiate_anew(&mut self, length: u32, seconds: u16) {
        for (_, connection) in self.connections.iter_mut().filter(|_| self.kind == SessionKind::Normal) {
            connection.text.offer = Some(length);
            connection.queue_async(AsyncEvent::Renegotiate, 0, 0, seconds);
        }
    }

    /// Sends a message of our own (§11.9.1, event 255) on one connection of the session.
    pub fn vendor_event(&mut self, vendor_code: u8, parameters: [u16; 3], data: &[u8]) {
        if self.kind == SessionKind::Normal
            && let Some((_, connection)) = self.connections.iter_mut().find(|(_, connection)| !connection.closing)
        {
            let (event, lun, data) = (AsyncEvent::VendorSpecific, [0; 8], data.to_vec());
            connection.queue(Outgoing::Async { event, lun, parameters, vendor_code, data });
        }
    }

    /// Adds what the target has to declare to the last answer of a negotiation.
    fn offer(&mut self, c: ConnectionId, last: bool) {
        let Some(connection) = self.connection_mut(c).filter(|_| last) else { return };
        let Some(negotiation) = &mut connection.text.negotiation else { return };
        if let Some(length) = connection.text.offer.take() {
            text::push(&mut negotiation.answer, "MaxRecvDataSegmentLength", &length.to_string());
            let taken = &mut connection.parameters.max_recv_data_segment_length;
            *taken = length.max(*taken);
        }
    }

    /// When the oldest negotiation is old enough to be forgotten.
    pub(super) fn texts_deadline(&self) -> Option<Instant> {
        let began = |connection: &Connection| Some(connection.text.negotiation.as_ref()?.began);
        Some(self.connections.iter().filter_map(|(_, connection)| began(connection)).min()? + self.limits.text_time)
    }

    /// Forgets negotiations that were left half way: their tags mean nothing any more.
    pub(super) fn forget_old_texts(&mut self, now: Instant) {
        for (_, connection) in self.connections.iter_mut() {
            let old = |one: &Negotiation| now.saturating_duration_since(one.began) >= self.limits.text_time;
            if connection.text.negotiation.take_if(|one| old(one)).is_some() {
                self.limits.struck.text_time.count();
            }
        }
    }
}

impl Texts {
    fn begin(&mut self, header: &TextRequest, now: Instant) {
        self.last_tag = self.last_tag % 0x7fff_ffff + 1;
        self.negotiation = Some(Negotiation {
            initiator_task_tag: header.initiator_task_tag.get(),
            immediate: Header::immediate(header.header()),
            transfer_tag: self.last_tag,
            began: now,
            bytes: 0,
            collected: Vec::new(),
            seen: BTreeSet::new(),
            segment: None,
            answer: Vec::new(),
            stage: Stage::Asking,
        });
    }
}

impl Negotiation {
    /// Whether the request belongs to it: the tags and the immediate bit do not change (§11.10).
    fn is_meant(&self, header: &TextRequest) -> bool {
        let transfer_tag = header.target_transfer_tag.get();
        self.initiator_task_tag == header.initiator_task_tag.get()
            && self.immediate == header.header().immediate()
            && (transfer_tag == self.transfer_tag || transfer_tag == RESERVED_TAG)
    }
}

impl Connection {
    /// Whether a request has not been answered yet.
    fn owes_text(&self) -> bool {
        matches!(self.text.negotiation, Some(Negotiation { stage: Stage::Targets(_), .. }))
            || self.outgoing.iter().any(|outgoing| matches!(outgoing, Outgoing::Text { .. }))
    }
}
