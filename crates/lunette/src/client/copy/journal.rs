//! What is kept of a copy while it runs, so that it can go on after an interruption.
//!
//! A first line says of which copy; each line after it how far it was, and the checksum of everything up to
//! there. Nothing of it is believed: the destination is read again, and the copy goes on behind the last line
//! whose checksum is what was read.

use crate::failure::Failure;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};

/// More than the journal of any copy has.
const MAXIMUM_BYTES: u64 = 64 << 20;
const FORMAT: u64 = 1;

/// Of which copy a journal is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subject {
    /// The source's identity.
    pub source: String,
    /// When the source was last written, where that can be told.
    pub source_state: String,
    /// The destination's identity.
    pub destination: String,
    /// Bytes in all.
    pub bytes: u64,
    /// The checksum's name.
    pub checksum: String,
}

/// How far a copy was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// All bytes before this one were written.
    pub bytes: u64,
    /// Their checksum.
    pub checksum: String,
}

/// A journal that is being written.
pub struct Journal {
    file: File,
    path: PathBuf,
}

impl Journal {
    /// A new one.
    pub fn create(path: &Path, subject: &Subject) -> Result<Journal, Failure> {
        let failed = |error: std::io::Error| Failure::runtime(format!("the journal {}: {error}", path.display()));
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).map_err(failed)?;
        }
        let mut file = File::create(path).map_err(failed)?;
        let line = json!({
            "lunette-copy": FORMAT,
            "source": subject.source,
            "source_state": subject.source_state,
            "destination": subject.destination,
            "bytes": subject.bytes,
            "checksum": subject.checksum,
        });
        writeln!(file, "{line}").map_err(failed)?;
        Ok(Journal { file, path: path.to_owned() })
    }

    /// The journal of this copy and how far it was, ascending; lines that are not whole are none.
    pub fn resume(path: &Path, subject: &Subject) -> Result<(Journal, Vec<Checkpoint>), Failure> {
        let name = path.display();
        let failed = |error: std::io::Error| Failure::runtime(format!("the journal {name}: {error}"));
        let file = File::options().read(true).append(true).open(path).map_err(failed)?;
        let mut lines = BufReader::new((&file).take(MAXIMUM_BYTES)).lines();
        let head = lines.next().and_then(Result::ok).and_then(|line| serde_json::from_str(&line).ok());
        let head = head.unwrap_or(Value::Null);
        if head["lunette-copy"] != FORMAT {
            return Err(Failure::input(format!("{name} is no journal of a copy; begin anew with --overwrite")));
        }
        for (key, now, what) in [
            ("destination", &subject.destination, "is of another destination"),
            ("source", &subject.source, "is of another source"),
            ("source_state", &subject.source_state, "is older than the source, which has changed since"),
            ("checksum", &subject.checksum, "has another checksum; give the same --checksum"),
        ] {
            if head[key] != now.as_str() {
                return Err(Failure::input(format!("the journal {name} {what}; or begin anew with --overwrite")));
            }
        }
        if head["bytes"] != subject.bytes {
            let line = format!("the journal {name}: the source had {} bytes and has {}", head["bytes"], subject.bytes);
            return Err(Failure::input(format!("{line}; begin anew with --overwrite")));
        }
        let mut checkpoints: Vec<Checkpoint> = Vec::new();
        for line in lines.map_while(Result::ok) {
            let Ok(line) = serde_json::from_str::<Value>(&line) else { continue };
            let (Some(bytes), Some(checksum)) = (line["at"].as_u64(), line["sum"].as_str()) else { continue };
            let last = checkpoints.last().map_or(0, |last| last.bytes);
            if bytes > last && bytes <= subject.bytes {
                checkpoints.push(Checkpoint { bytes, checksum: checksum.to_owned() });
            }
        }
        // A line that was cut does not spoil the next.
        (&file).write_all(b"\n").map_err(failed)?;
        Ok((Journal { file, path: path.to_owned() }, checkpoints))
    }

    /// Notes how far it is.
    pub fn note(&mut self, checkpoint: &Checkpoint) -> Result<(), Failure> {
        let line = json!({ "at": checkpoint.bytes, "sum": checkpoint.checksum });
        writeln!(self.file, "{line}")
            .map_err(|error| Failure::runtime(format!("the journal {}: {error}", self.path.display())))
    }

    /// The copy is whole: nothing is kept of it.
    pub fn remove(self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Where the journal of a copy is when nobody says: beside a destination that is a file, else in the user's
/// folder of states.
pub fn default_path(destination: &str, is_file: bool) -> Option<PathBuf> {
    if is_file {
        return Some(PathBuf::from(format!("{destination}.lunette-copy")));
    }
    let states = std::env::var_os("XDG_STATE_HOME").filter(|path| !path.is_empty()).map(PathBuf::from);
    let states = states.or_else(|| std::env::var_os("HOME").map(|home| Path::new(&home).join(".local/state")))?;
    let name: String = Sha256::digest(destination).iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    Some(states.join("lunette").join(format!("copy-{name}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use sim::daemon::Folder;

    fn subject() -> Subject {
        Subject {
            source: "file 1".into(),
            source_state: "7".into(),
            destination: "file 2".into(),
            bytes: 100,
            checksum: "sha256".into(),
        }
    }

    #[test]
    fn a_journal_is_read_back_without_what_was_cut() {
        let folder = Folder::new();
        let path = folder.path().join("of/a.journal");
        let mut journal = Journal::create(&path, &subject()).unwrap();
        let point = |bytes| Checkpoint { bytes, checksum: format!("sum of {bytes}") };
        for bytes in [10, 20, 15, 101] {
            journal.note(&point(bytes)).unwrap();
        }
        journal.file.write_all(b"{\"at\":90,\"su").unwrap();
        drop(journal);
        let (mut journal, points) = Journal::resume(&path, &subject()).unwrap();
        assert_eq!(points, [point(10), point(20)], "neither backwards, nor beyond the end, nor half a line");
        journal.note(&point(30)).unwrap();
        let (journal, points) = Journal::resume(&path, &subject()).unwrap();
        assert_eq!(points.last(), Some(&point(30)));
        journal.remove();
        assert!(!path.exists());
    }

    #[test]
    fn a_journal_of_another_copy_is_not_taken() {
        let folder = Folder::new();
        let path = folder.path().join("a");
        Journal::create(&path, &subject()).unwrap();
        let refused = |change: fn(&mut Subject)| {
            let mut other = subject();
            change(&mut other);
            Journal::resume(&path, &other).map(drop).unwrap_err().to_string()
        };
        assert!(refused(|other| other.source = "x".into()).contains("another source"));
        assert!(refused(|other| other.source_state = "x".into()).contains("has changed since"));
        assert!(refused(|other| other.destination = "x".into()).contains("another destination"));
        assert!(refused(|other| other.bytes = 99).contains("had 100 bytes and has 99"));
        assert!(refused(|other| other.checksum = "crc32c".into()).contains("another checksum"));
        std::fs::write(&path, "no json").unwrap();
        assert!(refused(|_| ()).contains("is no journal"));
    }
}
