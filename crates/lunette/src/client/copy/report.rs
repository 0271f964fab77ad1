//! What a copy tells while it runs: a bar for people, lines for programs, the journal for the next run.

use super::digest::Running;
use super::engine::{Progress, Watch};
use super::journal::{Checkpoint, Journal};
use crate::client::print;
use crate::failure::Failure;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::json;
use std::io::IsTerminal;
use std::time::{Duration, Instant};

/// How often lines are told and the journal is kept.
const PERIOD: Duration = Duration::from_secs(1);

/// What is told while it runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Talk {
    /// A bar where somebody watches.
    Bar,
    /// A JSON object in a line, each second.
    Lines,
    /// Nothing.
    Nothing,
}

/// Tells.
pub struct Report {
    bar: ProgressBar,
    talk: Talk,
    total: u64,
    journal: Option<Journal>,
    /// What the journal would say now.
    latest: Option<Checkpoint>,
    noted: Instant,
    told: Instant,
    /// Where this run began.
    start: u64,
}

impl Report {
    /// Of a copy of so many bytes that begins at `start`.
    pub fn new(talk: Talk, total: u64, start: u64, journal: Option<Journal>) -> Report {
        let shown = talk == Talk::Bar && std::io::stderr().is_terminal();
        let target = if shown { ProgressDrawTarget::stderr_with_hz(5) } else { ProgressDrawTarget::hidden() };
        let bar = ProgressBar::with_draw_target(Some(total), target).with_position(start);
        let template =
            "{percent:>3} % {bar:30} {binary_bytes} of {binary_total_bytes}  {binary_bytes_per_sec}  {msg}{eta} left";
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        let now = Instant::now();
        Report { bar, talk, total, journal, latest: None, noted: now, told: now, start }
    }

    /// What is done now, for the bar.
    pub fn phase(&self, name: &'static str, position: u64) {
        self.bar.set_message(name);
        self.bar.set_position(position);
    }

    /// Notes where it has come to, before an early end. True where it can be gone on with; else no journal is left.
    pub fn keep(&mut self) -> bool {
        self.bar.finish_and_clear();
        let Some(mut journal) = self.journal.take() else { return false };
        let noted = self.latest.take().is_some_and(|latest| journal.note(&latest).is_ok());
        if noted || self.start > 0 {
            return true;
        }
        journal.remove();
        false
    }

    /// It is whole.
    pub fn finish(self) {
        self.bar.finish_and_clear();
        if let Some(journal) = self.journal {
            journal.remove();
        }
    }
}

impl Watch for Report {
    fn piece(&mut self, progress: Progress, running: &Running) -> Result<(), Failure> {
        self.bar.set_position(progress.done);
        if self.journal.is_some() && progress.done > self.start {
            self.latest = Some(Checkpoint { bytes: progress.done, checksum: running.text() });
        }
        if self.noted.elapsed() >= PERIOD {
            self.noted = Instant::now();
            if let (Some(journal), Some(latest)) = (&mut self.journal, &self.latest) {
                journal.note(latest)?;
            }
        }
        if self.talk == Talk::Lines && self.told.elapsed() >= PERIOD {
            self.told = Instant::now();
            print(&format!(
                "{}\n",
                json!({
                    "event": "progress",
                    "done": progress.done,
                    "bytes": self.total,
                    "written": progress.written,
                    "skipped": progress.skipped,
                })
            ))?;
        }
        Ok(())
    }
}
