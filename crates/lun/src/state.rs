//! Where a logical unit's state outlives the process. `target` implements it with files.

/// What kind of state of a unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum StateKind {
    /// Persistent reservations with APTPL.
    Reservations,
    /// Saved mode pages.
    ModePages,
    /// A sanitize or format operation that has not ended well.
    Occupation,
    /// Identifying information.
    Identification,
}

/// The state could not be read or is not on stable storage; the text is for the log.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StateError {
    /// It could not be read or written.
    #[error("{0}")]
    Failed(String),
    /// There is something, and it is not what was saved.
    #[error("{0}")]
    Damaged(String),
}

/// Told how a [`StateStore::save_later`] has ended.
pub type Saved = Box<dyn FnOnce(Result<(), StateError>) + Send>;

/// Keeps a few hundred kilobytes for each unit.
pub trait StateStore: Send + Sync {
    /// What was saved last, `None` where nothing ever was.
    fn load(&self, unit: [u8; 16], kind: StateKind) -> Result<Option<Vec<u8>>, StateError>;

    /// Keeps other processes from the unit's state as long as this store lives. An error where another
    /// has it: two disks with one identity must not be served.
    fn hold(&self, _unit: [u8; 16]) -> Result<(), StateError> {
        Ok(())
    }

    /// Lets others have the unit's state again: it is served no more.
    fn release(&self, _unit: [u8; 16]) {}

    /// Keeps a copy of what is damaged where a person may look at it; the original stays until it is
    /// replaced.
    fn set_aside(&self, _unit: [u8; 16], _kind: StateKind) -> Result<(), StateError> {
        Ok(())
    }

    /// [`StateStore::save`] in its own time: returns at once, and tells how it ended from whatever thread.
    /// Of one unit and kind only one is under way.
    fn save_later(&self, unit: [u8; 16], kind: StateKind, bytes: Vec<u8>, done: Saved) {
        done(self.save(unit, kind, &bytes));
    }

    /// Replaces what was saved. After `Ok` the new bytes survive loss of power; until then, and after
    /// `Err`, the old ones or the new ones do, never a mixture.
    fn save(&self, unit: [u8; 16], kind: StateKind, bytes: &[u8]) -> Result<(), StateError>;
}
