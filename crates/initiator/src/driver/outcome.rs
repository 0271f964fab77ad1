//! How commands end: what the core tells becomes answers, errors in words, events, or another attempt.

use super::Driver;
use super::shared::Job;
use crate::command::Answer;
use crate::event::async_words;
use crate::idempotence::is_repeatable;
use crate::{Error, Event, Lun, ScsiError};
use iscsi::initiator::{self as core, Outcome};
use scsi::Status;
use scsi::sense::Parsed;
use std::time::{Duration, Instant};

/// Attempts that a unit attention, a busy unit or a spoiled transfer may cost.
const RETRIES: u32 = 10;
/// Sessions that a command may lose: it may be what the target dies of.
const LOSSES: u32 = 6;
/// A busy unit is left alone for so long; longer with each attempt.
const BUSY: Duration = Duration::from_millis(20);

/// What is to become of a command.
enum Verdict {
    Over(Result<Answer, Error>),
    Again,
    /// After a while.
    Later(Duration),
}

impl Driver {
    /// Nothing more goes to these units before somebody has looked at them.
    pub(super) fn hold(&mut self, units: &[Lun]) {
        if !units.is_empty() {
            self.shared.count_hold();
            self.jobs.hold(units);
        }
    }

    /// Hands a command back.
    pub(super) fn end(&mut self, job: Job, result: Result<Answer, Error>) {
        self.jobs.forget(&job);
        self.statistics.commands += 1;
        match &result {
            Ok(answer) => {
                self.statistics.data_in_bytes += answer.data_in_bytes as u64;
                self.statistics.data_out_bytes += job.command.data_out.bytes() as u64;
            }
            Err(_) => self.statistics.errors += 1,
        }
        self.takers.extend(job.finish(result));
    }

    /// What the core has to tell. True: there was something.
    pub(super) fn events(&mut self, now: Instant) -> bool {
        let mut told = false;
        while let Some(event) = self.session.poll_event() {
            told = true;
            match event {
                core::Event::Completed(id, outcome) => {
                    let Some(running) = self.jobs.end(id) else { continue };
                    if let Some(line) = self.lines.iter_mut().find(|line| line.c == running.c) {
                        line.load = line.load.saturating_sub(1);
                    }
                    self.completed(running.job, outcome, now);
                }
                core::Event::TaskManagement { tag, response } => self.function_done(tag, response, now),
                core::Event::Pong { tag, data } => self.ponged(tag, data),
                core::Event::Text { tag, text } => self.text_came(tag, text),
                core::Event::LoggedOut { .. } | core::Event::Over => {}
                core::Event::Async { event, lun, parameters, data } => {
                    self.async_message(event, Lun::from_wire(lun), parameters, data, now);
                }
                core::Event::ConnectionLost { cid, from, .. } => self.recovery.plan(cid, from),
            }
        }
        told
    }

    fn completed(&mut self, mut job: Box<Job>, outcome: Outcome, now: Instant) {
        let verdict = match outcome {
            Outcome::Answered { response: 0, status, sense, residual, read_residual, data_in, data_out } => {
                let (data_in_bytes, data_out_bytes) = (data_in as usize, data_out as usize);
                let answer = Answer { status, sense, residual, read_residual, data_in_bytes, data_out_bytes };
                self.judge(&job, answer)
            }
            Outcome::Answered { response, .. } => Verdict::Over(Err(Error::TargetFailure(response))),
            Outcome::Rejected(reason) => Verdict::Over(Err(Error::Rejected(format!("{reason:?}")))),
            Outcome::Aborted | Outcome::Lost if job.timed_out => {
                let limit = job.command.timeout.unwrap_or(self.options.command_timeout);
                Verdict::Over(Err(Error::TimedOut {
                    what: format!("{} did not answer a command", self.options.whom()),
                    limit,
                }))
            }
            Outcome::Aborted if !job.dropped => Verdict::Over(Err(Error::Aborted)),
            Outcome::Aborted | Outcome::Lost if self.closing.is_some() => Verdict::Over(Err(Error::Closed)),
            Outcome::Aborted | Outcome::Lost if job.losses >= LOSSES || !is_repeatable(&job.command.cdb) => {
                Verdict::Over(Err(Error::Interrupted))
            }
            Outcome::Aborted | Outcome::Lost if !job.sink.is_wanted() && job.command.data_out.bytes() == 0 => {
                Verdict::Over(Err(Error::Interrupted))
            }
            Outcome::Aborted | Outcome::Lost => {
                job.dropped = false;
                job.losses += 1;
                self.statistics.replayed += 1;
                Verdict::Again
            }
        };
        match verdict {
            Verdict::Over(result) => self.end(*job, result),
            Verdict::Again => {
                self.jobs.set_deadline(&mut job, now, self.options.command_timeout);
                self.jobs.put_back(job);
            }
            Verdict::Later(pause) => {
                job.retries += 1;
                self.jobs.delay(job, now + pause);
            }
        }
    }

    /// What the unit's status means for a command.
    fn judge(&mut self, job: &Job, answer: Answer) -> Verdict {
        const GOOD: u8 = Status::Good as u8;
        const CONDITION_MET: u8 = Status::ConditionMet as u8;
        const CHECK_CONDITION: u8 = Status::CheckCondition as u8;
        const BUSY_STATUS: u8 = Status::Busy as u8;
        const TASK_SET_FULL: u8 = Status::TaskSetFull as u8;
        let may_retry = !job.command.as_is && job.retries < RETRIES;
        let failed =
            |answer: Answer| Verdict::Over(Err(ScsiError { status: answer.status, sense: answer.sense }.into()));
        match answer.status {
            GOOD | CONDITION_MET => Verdict::Over(Ok(answer)),
            CHECK_CONDITION => match scsi::sense::parse(&answer.sense) {
                // The command was not executed (SAM-5 5.14.1).
                Some(Parsed { key: 0x06, code, .. }) => {
                    self.unit_attention(job.lun, code);
                    self.look_after(job, code);
                    if may_retry { Verdict::Later(Duration::ZERO) } else { failed(answer) }
                }
                // Its data was spoiled on the way.
                Some(Parsed { key: 0x0b, code: (0x47, 0x05), .. }) if may_retry && is_repeatable(&job.command.cdb) => {
                    Verdict::Later(Duration::ZERO)
                }
                // An access state is changing, or the unit is about to be ready.
                Some(Parsed { key: 0x02, code: (0x04, 0x01 | 0x0a), .. }) if may_retry => {
                    Verdict::Later(self.pause(job))
                }
                _ => failed(answer),
            },
            BUSY_STATUS | TASK_SET_FULL if may_retry => Verdict::Later(self.pause(job)),
            _ => failed(answer),
        }
    }

    fn pause(&self, job: &Job) -> Duration {
        BUSY * 2u32.pow(job.retries.min(8))
    }

    /// A reset, or another nexus's CLEAR TASK SET, ends tasks without a word (SAM-5 5.14.5: TAS is mostly 0): those that
    /// were sent before are aborted, which ends them where they are, and sent again.
    fn look_after(&mut self, job: &Job, code: (u8, u8)) {
        if matches!(code, (0x29, _) | (0x2f, 0x00 | 0x02)) {
            for id in self.jobs.dropped(job) {
                self.asks.abort(id);
            }
        }
    }

    fn unit_attention(&mut self, lun: Lun, code: (u8, u8)) {
        let words = scsi::words::additional(code.0, code.1);
        let words = words.map_or_else(|| format!("additional sense {:02x}h/{:02x}h", code.0, code.1), str::to_owned);
        self.shared.tell(Event::UnitAttention { lun, code, words });
        // INQUIRY DATA HAS CHANGED, REPORTED LUNS DATA HAS CHANGED: it may be another disk now.
        let mut guarded = self.shared.guarded();
        match code {
            (0x3f, 0x03) => guarded.retain(|of| *of == lun),
            (0x3f, 0x0e) => {}
            _ => guarded.clear(),
        }
        self.hold(&guarded);
        match code {
            (0x2a, 0x09) => {
                self.shared.forget_block_length(Some(lun));
                self.shared.tell(Event::CapacityChanged { lun });
            }
            (0x3f, 0x0e) => self.shared.tell(Event::UnitsChanged),
            (0x28 | 0x29 | 0x3f, _) => self.shared.forget_block_length(Some(lun)),
            _ => {}
        }
    }

    fn async_message(&mut self, event: u8, lun: Lun, parameters: [u16; 3], data: Vec<u8>, now: Instant) {
        if matches!(event, 2 | 3) {
            // Time2Wait (RFC 7143 §11.9.1).
            self.recovery.not_before(now + Duration::from_secs(parameters[1].into()));
        }
        if event == 0
            && let [high, low, sense @ ..] = &*data
            && let Some(sense) = sense.get(..usize::from(u16::from_be_bytes([*high, *low])))
            && let Some(Parsed { key: 0x06, code, .. }) = scsi::sense::parse(sense)
        {
            self.unit_attention(lun, code);
        }
        self.shared.tell(Event::Async { event, words: async_words(event), lun, parameters, data });
    }
}
