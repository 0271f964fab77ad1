//! Open files that the process before this one has handed over, with their locks: what would be opened and locked
//! is taken from here instead, so that no third process can come between.
//!
//! There is one list for the process, as there is one process before it.

use std::fs::{File, Metadata};
use std::os::unix::fs::MetadataExt;
use std::sync::{Mutex, MutexGuard, PoisonError};

static INHERITED: Mutex<Inherited> = Mutex::new(Inherited { files: Vec::new(), complete: false });

struct Inherited {
    /// In the order in which they came; nothing where a store has taken it.
    files: Vec<Option<File>>,
    /// All that is to be opened is served already.
    complete: bool,
}

/// Offers files to the stores that are opened from now on. Where they are all that there is to be, what is missing is
/// not made anew: it is served still, from a file that has lost its name.
pub fn inherit(files: Vec<File>, complete: bool) {
    *lock() = Inherited { files: files.into_iter().map(Some).collect(), complete };
}

/// What no store has taken is closed: which of them that were, by their places. From now on what is missing is made
/// again.
pub fn forget_inherited() -> Vec<usize> {
    let inherited = std::mem::replace(&mut *lock(), Inherited { files: Vec::new(), complete: false });
    inherited.files.iter().enumerate().filter(|(_, file)| file.is_some()).map(|(at, _)| at).collect()
}

/// The file with this metadata, once.
pub(crate) fn take(metadata: &Metadata) -> Option<File> {
    let mut inherited = lock();
    let is_it = |file: &File| {
        let same =
            |own: &Metadata| (own.dev(), own.ino(), own.rdev()) == (metadata.dev(), metadata.ino(), metadata.rdev());
        file.metadata().is_ok_and(|own| same(&own))
    };
    inherited.files.iter_mut().find(|file| file.as_ref().is_some_and(is_it))?.take()
}

/// Whether nothing is to be made, as all that there is to be is there.
pub(crate) fn is_complete() -> bool {
    lock().complete
}

fn lock() -> MutexGuard<'static, Inherited> {
    INHERITED.lock().unwrap_or_else(PoisonError::into_inner)
}
