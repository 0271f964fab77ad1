//! Text in the full feature phase: questions that may span PDUs, answers that may too (RFC 7143
//! §6.4, §11.10, §11.11). One exchange at a time for a connection, bounded.

use super::connection::{ConnectionId, Outgoing};
use super::{ConnectionError, Event, Session};
use crate::key::{self, Rule, When};
use crate::text;
use crate::wire::{FINAL, RESERVED_TAG, RejectReason, TextRequest};
use std::collections::BTreeSet;
use zerocopy::IntoBytes;

/// The target's name for the exchange of a connection; there is only one.
const EXCHANGE_TAG: u32 = 1;

/// An exchange in progress.
#[derive(Debug, Default)]
pub(super) struct Exchange {
    initiator_task_tag: u32,
    question: Vec<u8>,
    answer: Vec<u8>,
    answering: bool,
}

impl Session {
    pub(super) fn text(&mut self, c: ConnectionId, header: &TextRequest, text: &[u8]) -> Result<(), ConnectionError> {
        let limit = self.limits.text_bytes;
        let Some(connection) = self.connection_mut(c) else { return Ok(()) };
        let (tag, transfer_tag) = (header.initiator_task_tag.get(), header.target_transfer_tag.get());
        let known = connection.text.as_ref().is_some_and(|exchange| exchange.initiator_task_tag == tag);
        let refused = match transfer_tag {
            // A reserved tag begins anew and forgets what was (§11.10.4).
            RESERVED_TAG => {
                connection.text = Some(Exchange { initiator_task_tag: tag, ..Exchange::default() });
                None
            }
            EXCHANGE_TAG if known => None,
            _ => Some(RejectReason::InvalidPduField),
        };
        if let Some(reason) = refused {
            return self.reject(c, reason, header.as_bytes().into());
        }
        let Some(exchange) = &mut connection.text else { return Ok(()) };
        if exchange.answering {
            self.answer_goes_on(c);
            return Ok(());
        }
        exchange.question.extend_from_slice(text);
        if exchange.question.len() > limit {
            connection.text = None;
            self.limits.struck.text_bytes.count();
            return self.reject(c, RejectReason::LongOperationReject, header.as_bytes().into());
        }
        if header.flags & FINAL == 0 {
            let target_transfer_tag = EXCHANGE_TAG;
            connection.queue(Outgoing::Text {
                initiator_task_tag: tag,
                final_bit: false,
                continues: false,
                target_transfer_tag,
                data: Vec::new(),
            });
            return Ok(());
        }
        let question = std::mem::take(&mut exchange.question);
        exchange.answering = true;
        self.questions(c, &question, header)
    }

    fn questions(&mut self, c: ConnectionId, question: &[u8], header: &TextRequest) -> Result<(), ConnectionError> {
        let mut answers = Vec::new();
        let (mut send_targets, mut segment) = (None, None);
        let mut seen = BTreeSet::new();
        for pair in text::pairs(question) {
            // Nothing takes effect where a part of it is refused (TXT-16), or said twice (TXT-18).
            let refused = match pair {
                Err(_) => true,
                Ok((name, _)) if seen.contains(name) => true,
                Ok(_) if seen.len() >= self.limits.keys => {
                    self.limits.struck.keys.count();
                    true
                }
                Ok((name, value)) => {
                    seen.insert(name);
                    match key::find(name) {
                        None => text::push(&mut answers, name, "NotUnderstood"),
                        Some(key) if key.name == "SendTargets" => send_targets = Some(value.to_owned()),
                        Some(key) if key.when == When::Any && matches!(key.rule, Rule::DeclaredNumber(..)) => {
                            match text::number(value).and_then(|value| u32::try_from(value).ok()) {
                                Some(length) if (512..1 << 24).contains(&length) => segment = Some(length),
                                _ => text::push(&mut answers, name, "Reject"),
                            }
                        }
                        Some(key) if key.when == When::Any => {}
                        Some(_) => return self.refuse_text(c, header),
                    }
                    false
                }
            };
            if refused {
                return self.refuse_text(c, header);
            }
        }
        if let (Some(length), Some(connection)) = (segment, self.connection_mut(c)) {
            connection.parameters.max_send_data_segment_length = length;
        }
        if let Some(exchange) = self.connection_mut(c).and_then(|connection| connection.text.as_mut()) {
            exchange.answer = answers;
        }
        match send_targets {
            Some(value) => self.events.push_back(Event::SendTargets { connection: c, value }),
            None => self.answer_goes_on(c),
        }
        Ok(())
    }

    /// The negotiation fails and is over (§7.10).
    fn refuse_text(&mut self, c: ConnectionId, header: &TextRequest) -> Result<(), ConnectionError> {
        if let Some(connection) = self.connection_mut(c) {
            connection.text = None;
        }
        self.reject(c, RejectReason::ProtocolError, header.as_bytes().into())
    }

    /// The answer to [`Event::SendTargets`]: text of TargetName and TargetAddress pairs.
    pub fn answer_text(&mut self, c: ConnectionId, answer: &[u8]) {
        if let Some(exchange) = self.connection_mut(c).and_then(|connection| connection.text.as_mut()) {
            exchange.answer.extend_from_slice(answer);
            self.answer_goes_on(c);
        }
    }

    /// Sends as much of the answer as one PDU takes (DSC-04).
    fn answer_goes_on(&mut self, c: ConnectionId) {
        let Some(connection) = self.connection_mut(c) else { return };
        let limit = connection.parameters.max_send_data_segment_length as usize;
        let Some(exchange) = &mut connection.text else { return };
        let rest = exchange.answer.split_off(exchange.answer.len().min(limit));
        let data = std::mem::replace(&mut exchange.answer, rest);
        let last = exchange.answer.is_empty();
        let initiator_task_tag = exchange.initiator_task_tag;
        if last {
            connection.text = None;
        }
        connection.queue(Outgoing::Text {
            initiator_task_tag,
            final_bit: last,
            continues: !last,
            target_transfer_tag: if last { RESERVED_TAG } else { EXCHANGE_TAG },
            data,
        });
    }
}
