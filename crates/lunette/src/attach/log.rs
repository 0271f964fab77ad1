//! What a holder says: to the journal where it was started by one that has it, otherwise to a file in its directory.
//!
//! A line that comes again and again is written once, and then how often it came: after 2, 4, 8 … times, and when
//! another line comes. The file is bounded; what is older than its second half is gone.

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use tracing_subscriber::EnvFilter;

/// Bytes of the file, of which there are two.
const FILE_BYTES: u64 = 512 << 10;

/// Begins to write events. Once in a process.
pub fn start(directory: &Path, journal: bool) {
    let out = match journal {
        true => Out::Journal,
        false => Out::File { path: directory.join("log"), open: None, bytes: 0 },
    };
    let lines = Arc::new(Mutex::new(Lines { out, last: String::new(), again: 0 }));
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
    /// The last line, without its time.
    last: String,
    /// How often it came again.
    again: u64,
}

impl Write for Writer {
    fn write(&mut self, line: &[u8]) -> std::io::Result<usize> {
        let mut lines = self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        lines.take(&String::from_utf8_lossy(line));
        Ok(line.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Lines {
    /// An event: a time, a blank, the rest.
    fn take(&mut self, line: &str) {
        let said = line.trim_start().split_once(' ').map_or(line, |(_, said)| said);
        if said == self.last {
            self.again += 1;
            if self.again.is_power_of_two() && self.again > 1 {
                self.put(&line.replacen(said, &format!("{} (so far {} times more)\n", said.trim_end(), self.again), 1));
            }
            return;
        }
        if self.again > 0 && !(self.again.is_power_of_two() && self.again > 1) {
            let (last, again) = (self.last.trim().to_owned(), self.again);
            self.put(&format!("{last} ({again} times more)\n"));
        }
        self.again = 0;
        self.last = said.to_owned();
        self.put(line);
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
        let mut lines = Lines { out, last: String::new(), again: 0 };
        lines.take("2026-11-21T14:00:00.1Z  WARN nobody answers\n");
        for second in 1..=7 {
            lines.take(&format!("2026-11-21T14:00:0{second}.1Z  WARN nobody answers\n"));
        }
        lines.take("2026-11-21T14:00:09.1Z  INFO it is back\n");
        let text = std::fs::read_to_string(&path).unwrap();
        let said: Vec<&str> = text.lines().collect();
        assert_eq!(
            said,
            [
                "2026-11-21T14:00:00.1Z  WARN nobody answers",
                "2026-11-21T14:00:02.1Z  WARN nobody answers (so far 2 times more)",
                "2026-11-21T14:00:04.1Z  WARN nobody answers (so far 4 times more)",
                "WARN nobody answers (7 times more)",
                "2026-11-21T14:00:09.1Z  INFO it is back",
            ]
        );
        for number in 0..30_000 {
            lines.take(&format!(
                "2026-11-21T14:00:09.1Z  INFO a line of some length, number {number}, that is another\n"
            ));
        }
        for name in ["log", "log.old"] {
            let bytes = std::fs::metadata(folder.path().join(name)).unwrap().len();
            assert!(bytes <= FILE_BYTES + 100, "{name}: {bytes}");
        }
    }
}
