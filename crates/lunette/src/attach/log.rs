//! What a holder says: to the journal where it was started by one that has it, otherwise to a file in its directory.
//!
//! A line that comes again and again, also with others in between, is written once, and then how often it came: after 2,
//! 4, 8 … times, and when it has not come for a while. The file is bounded; what is older than its second half is gone.

use std::collections::VecDeque;
use std::fs::File;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tracing_subscriber::EnvFilter;

/// Bytes of the file, of which there are two.
const FILE_BYTES: u64 = 512 << 10;
/// Lines that are known again.
const RECENT: usize = 8;
/// For how long.
const MEMORY: Duration = Duration::from_secs(600);

/// Begins to write events. Once in a process.
pub fn start(directory: &Path, journal: bool) {
    let out = match journal {
        true => Out::Journal,
        false => Out::File { path: directory.join("log"), open: None, bytes: 0 },
    };
    let lines = Arc::new(Mutex::new(Lines { out, recent: VecDeque::new() }));
    let filter = EnvFilter::try_from_env("LUNETTE_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .with_writer(move || Writer(lines.clone()))
        .with_env_filter(filter)
        .with_target(false)
        .with_ansi(false)
        .init();
    std::panic::set_hook(Box::new(|panic| tracing::error!("{panic}")));
}

#[derive(Debug)]
enum Out {
    Journal,
    File { path: PathBuf, open: Option<File>, bytes: u64 },
}

struct Writer(Arc<Mutex<Lines>>);

#[derive(Debug)]
struct Lines {
    out: Out,
    /// What was said lately, the latest last.
    recent: VecDeque<Said>,
}

#[derive(Debug)]
struct Said {
    /// Without its time.
    what: String,
    /// How often it came again.
    again: u64,
    last: Instant,
}

impl Write for Writer {
    fn write(&mut self, line: &[u8]) -> std::io::Result<usize> {
        let mut lines = self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        lines.take(&String::from_utf8_lossy(line), Instant::now());
        Ok(line.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Lines {
    /// An event: a time, a blank, the rest.
    fn take(&mut self, line: &str, now: Instant) {
        let what = line.trim_start().split_once(' ').map_or(line, |(_, what)| what);
        if let Some(at) = self.recent.iter().position(|said| said.what == what) {
            let mut said =
                self.recent.remove(at).unwrap_or_else(|| Said { what: what.to_owned(), again: 0, last: now });
            if now.saturating_duration_since(said.last) < MEMORY {
                said.again += 1;
                if said.again.is_power_of_two() && said.again > 1 {
                    self.put(&line.replacen(
                        what,
                        &format!("{} (so far {} times more)\n", what.trim_end(), said.again),
                        1,
                    ));
                }
                said.last = now;
                return self.recent.push_back(said);
            }
            self.close(&said);
        }
        if self.recent.len() == RECENT
            && let Some(oldest) = self.recent.pop_front()
        {
            self.close(&oldest);
        }
        self.recent.push_back(Said { what: what.to_owned(), again: 0, last: now });
        self.put(line);
    }

    /// What will not be counted any more is told as often as it was.
    fn close(&mut self, said: &Said) {
        if said.again > 0 && !(said.again.is_power_of_two() && said.again > 1) {
            self.put(&format!("{} ({} times more)\n", said.what.trim(), said.again));
        }
    }

    fn put(&mut self, line: &str) {
        // Where it cannot be said there is nobody to be told.
        match &mut self.out {
            Out::Journal => drop(std::io::stderr().write_all(line.as_bytes())),
            Out::File { path, open, bytes } => {
                if *bytes > FILE_BYTES {
                    let _ = std::fs::rename(&*path, path.with_extension("old"));
                    *open = None;
                }
                if open.is_none() {
                    *open = File::options().create(true).append(true).mode(0o600).open(path).ok();
                    *bytes = open.as_ref().and_then(|file| file.metadata().ok()).map_or(0, |found| found.len());
                }
                if let Some(file) = open {
                    let _ = file.write_all(line.as_bytes());
                    *bytes += line.len() as u64;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_again_and_again_is_one_line_with_a_count_and_the_file_is_bounded() {
        let folder = sim::daemon::Folder::new();
        let path = folder.path().join("log");
        let out = Out::File { path: path.clone(), open: None, bytes: 0 };
        let mut lines = Lines { out, recent: VecDeque::new() };
        let begin = Instant::now();
        let mut say = |second: u64, what: &str| {
            lines.take(&format!("2026-11-21T14:{second:04}Z {what}\n"), begin + Duration::from_secs(second));
        };
        for second in 0..=7 {
            say(second, "WARN nobody answers");
            say(second, "WARN the size is not known");
        }
        say(8, "INFO it is back");
        say(900, "WARN nobody answers");
        let text = std::fs::read_to_string(&path).unwrap();
        let said: Vec<&str> = text.lines().collect();
        assert_eq!(
            said,
            [
                "2026-11-21T14:0000Z WARN nobody answers",
                "2026-11-21T14:0000Z WARN the size is not known",
                "2026-11-21T14:0002Z WARN nobody answers (so far 2 times more)",
                "2026-11-21T14:0002Z WARN the size is not known (so far 2 times more)",
                "2026-11-21T14:0004Z WARN nobody answers (so far 4 times more)",
                "2026-11-21T14:0004Z WARN the size is not known (so far 4 times more)",
                "2026-11-21T14:0008Z INFO it is back",
                "WARN nobody answers (7 times more)",
                "2026-11-21T14:0900Z WARN nobody answers",
            ]
        );
        for number in 0..30_000 {
            say(901, &format!("INFO a line of some length, number {number}, that is another"));
        }
        for name in ["log", "log.old"] {
            let bytes = std::fs::metadata(folder.path().join(name)).unwrap().len();
            assert!(bytes <= FILE_BYTES + 100, "{name}: {bytes}");
        }
    }
}
