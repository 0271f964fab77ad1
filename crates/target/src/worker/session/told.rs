//! What is told of single commands: those that took long, and each of them where somebody traces.

use super::Driver;
use crate::slow::SlowCommand;
use iscsi::session::TaskId;
use lun::Completed;
use lun::statistics::Times;
use scsi::words;
use std::time::SystemTime;

impl Driver {
    /// A command has ended, with a status or without one.
    #[inline]
    pub(super) fn tell_of(&self, task: TaskId, times: &Times, completed: Option<&Completed>) {
        if self.limits.slow.is_slow(times) {
            self.tell_slow(task, times, completed);
        }
        if tracing::enabled!(tracing::Level::TRACE) {
            self.trace(task, times, completed);
        }
    }

    #[cold]
    fn tell_slow(&self, task: TaskId, times: &Times, completed: Option<&Completed>) {
        let Some((lun, command)) = self.words_of(task) else { return };
        let [took, waited, network, store] = SlowCommand::split(times);
        let peer = self.lines.first().map(|line| line.peer);
        let slow = SlowCommand {
            when: SystemTime::now(),
            target: self.target.name.clone(),
            initiator: self.initiator.clone(),
            peer,
            tsih: self.identity.tsih(),
            lun,
            command,
            end: end_in_words(completed),
            took,
            waited,
            network,
            store,
        };
        self.limits.slow.tell(slow, |slow, not_shown| {
            let ms = |time: std::time::Duration| time.as_micros() as f64 / 1e3;
            let SlowCommand { initiator, target, tsih, lun, command, end, .. } = slow;
            let peer = peer.map(tracing::field::display);
            tracing::warn!(
                event = "slow-command", peer, %initiator, %target, tsih, lun, %command, %end, took_ms = ms(took), waited_ms = ms(waited),
                network_ms = ms(network), store_ms = ms(store), not_shown, "slow command"
            );
        });
    }

    #[cold]
    fn trace(&self, task: TaskId, times: &Times, completed: Option<&Completed>) {
        let Some((lun, command)) = self.words_of(task) else { return };
        let [took, waited, network, store] = SlowCommand::split(times).map(|time| time.as_nanos() as u64 / 1000);
        tracing::trace_span!("task", number = task.number(), lun, %command).in_scope(|| {
            let end = end_in_words(completed);
            tracing::trace!(%end, took_us = took, waited_us = waited, network_us = network, store_us = store, "ended");
        });
    }

    fn words_of(&self, task: TaskId) -> Option<(u16, String)> {
        let task = self.session.task(task)?;
        let cdb = task.extended_cdb.as_deref().unwrap_or(&task.cdb);
        // The number of a single-level LUN (SAM-5 4.7.7).
        Some((u16::from_be_bytes([task.lun[0] & 0x3f, task.lun[1]]), scsi::commands::describe(cdb)))
    }
}

/// GOOD, another status, the sense data, or that there was no status.
fn end_in_words(completed: Option<&Completed>) -> String {
    let Some(completed) = completed else { return "ended without a status".to_owned() };
    match completed.sense.as_ref().and_then(scsi::Sense::condition_code) {
        Some((key, code, qualifier)) => {
            let additional = words::additional(code, qualifier);
            let additional = additional.map_or_else(|| format!("{code:02X}h/{qualifier:02X}h"), str::to_owned);
            format!("{}, {additional}", words::sense_key(key))
        }
        None => words::status(completed.status as u8),
    }
}
