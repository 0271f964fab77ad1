//! One process holds a file: flock(2), which belongs to the open file, so that it holds against a second
//! open in the same process too, looks through mount paths, and is gone when the process is
//! (reliability.md F41).

use rustix::fs::FlockOperation;
use rustix::io::Errno;
use std::fs::File;
use std::os::unix::fs::MetadataExt;

/// How a file is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Hold {
    /// By others as well who only read.
    Shared,
    /// Alone.
    Exclusive,
}

/// Takes the lock or tells who has it.
pub(super) fn lock(file: &File, hold: Hold) -> Result<(), String> {
    let operation = match hold {
        Hold::Shared => FlockOperation::NonBlockingLockShared,
        Hold::Exclusive => FlockOperation::NonBlockingLockExclusive,
    };
    match rustix::fs::flock(file, operation) {
        Ok(()) => Ok(()),
        Err(Errno::WOULDBLOCK) => Err(format!("is in use{}", holder(file).unwrap_or_default())),
        Err(errno) => Err(format!("cannot be locked: {errno}")),
    }
}

/// Who holds the lock, as far as the system tells.
fn holder(file: &File) -> Option<String> {
    let metadata = file.metadata().ok()?;
    let (major, minor) = (rustix::fs::major(metadata.dev()), rustix::fs::minor(metadata.dev()));
    let place = format!("{major:02x}:{minor:02x}:{}", metadata.ino());
    let locks = std::fs::read_to_string("/proc/locks").ok()?;
    let pid = holder_in(&locks, &place)?;
    if pid == std::process::id() {
        return Some(" by this process already (is it given twice?)".into());
    }
    match std::fs::read_to_string(format!("/proc/{pid}/comm")) {
        Ok(name) => Some(format!(" by {} (process {pid})", name.trim().escape_debug())),
        Err(_) => Some(format!(" by process {pid}")),
    }
}

/// The process of the first flock on `place` in the text of /proc/locks:
/// `1: FLOCK  ADVISORY  WRITE 708 fe:00:13579 0 EOF`.
fn holder_in(locks: &str, place: &str) -> Option<u32> {
    locks.lines().find_map(|line| {
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        match words.as_slice() {
            [_, "FLOCK", _, _, pid, at, ..] if *at == place => pid.parse().ok(),
            _ => None,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_holder_is_found_among_other_locks() {
        let locks = "1: POSIX  ADVISORY  WRITE 11 fe:00:77 0 EOF\n\
                     2: FLOCK  ADVISORY  WRITE 22 fe:01:77 0 EOF\n\
                     2: -> FLOCK  ADVISORY  WRITE 23 fe:00:77 0 EOF\n\
                     3: FLOCK  ADVISORY  WRITE 33 fe:00:77 0 EOF\n";
        assert_eq!(holder_in(locks, "fe:00:77"), Some(33));
        assert_eq!(holder_in(locks, "fe:00:78"), None);
    }
}
