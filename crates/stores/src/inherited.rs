//! Open files that the process before this one has handed over, with their locks: what would be opened and locked
//! is taken from here instead, so that no third process can come between.
//!
//! There is one list for the process, as there is one process before it.

use std::fs::{File, Metadata};
use std::os::unix::fs::MetadataExt;
use std::sync::{Mutex, MutexGuard, PoisonError};

static FILES: Mutex<Vec<File>> = Mutex::new(Vec::new());

/// Offers files to the stores that are opened from now on.
pub fn inherit(files: Vec<File>) {
    lock().extend(files);
}

/// What no store has taken is closed.
pub fn forget_inherited() {
    lock().clear();
}

/// The file with this metadata, once.
pub(crate) fn take(metadata: &Metadata) -> Option<File> {
    let mut files = lock();
    let is_it = |file: &File| {
        let same =
            |own: &Metadata| (own.dev(), own.ino(), own.rdev()) == (metadata.dev(), metadata.ino(), metadata.rdev());
        file.metadata().is_ok_and(|own| same(&own))
    };
    let at = files.iter().position(is_it)?;
    Some(files.swap_remove(at))
}

fn lock() -> MutexGuard<'static, Vec<File>> {
    FILES.lock().unwrap_or_else(PoisonError::into_inner)
}
