//! Status codes (SAM-5 5.3.1).

/// The status with which a command ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
#[non_exhaustive]
pub enum Status {
    /// Done.
    Good = 0x00,
    /// Sense data says what happened.
    CheckCondition = 0x02,
    /// A PRE-FETCH that fits the cache.
    ConditionMet = 0x04,
    /// Not now; try again.
    Busy = 0x08,
    /// Another nexus holds a reservation.
    ReservationConflict = 0x18,
    /// No room for another task.
    TaskSetFull = 0x28,
    /// Auto contingent allegiance.
    AcaActive = 0x30,
    /// Ended by another nexus.
    TaskAborted = 0x40,
}
