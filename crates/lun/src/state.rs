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
#[error("{0}")]
pub struct StateError(pub String);

/// Keeps a few hundred kilobytes for each unit.
pub trait StateStore: Send + Sync {
    /// What was saved last, `None` where nothing ever was.
    fn load(&self, unit: [u8; 16], kind: StateKind) -> Result<Option<Vec<u8>>, StateError>;

    /// Keeps other processes from the unit's state as long as this store lives. An error where another
    /// has it: two disks with one identity must not be served.
    fn hold(&self, _unit: [u8; 16]) -> Result<(), StateError> {
        Ok(())
    }

    /// Replaces what was saved. After `Ok` the new bytes survive loss of power; until then, and after
    /// `Err`, the old ones or the new ones do, never a mixture.
    fn save(&self, unit: [u8; 16], kind: StateKind, bytes: &[u8]) -> Result<(), StateError>;
}
