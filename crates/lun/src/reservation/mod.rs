//! Reservations of one logical unit (SPC-5 5.14; RESERVE and RELEASE of SPC-2): who is registered,
//! who holds, and whether a command may run.
//!
//! Plain state without clock, lock or I/O. An operation either changes nothing and says why, or
//! changes everything and says what follows from it ([`Effects`]). Whoever must write the state down
//! before answering works on a clone and keeps it only after the write has returned; [`Guarded`]
//! does that.

mod class;
mod guarded;
mod operations;
mod stored;
#[cfg(test)]
mod tests;

pub use class::Class;
pub use guarded::{Guarded, OutRequest, Prepared};
pub use operations::Surroundings;
pub use stored::StoredError;

use scsi::persistent::{FullStatus, OutAction, ReservationType};
use scsi::{Condition, SenseKey};
use std::sync::Arc;

/// Registrations that a unit remembers; one more is refused with 05h/55h/04h.
pub const MAXIMUM_REGISTRATIONS: usize = 512;

/// PERSISTENT RESERVATION INFORMATION LOST, for every command that the loss does not let through.
pub(crate) const RESERVATIONS_LOST: Condition = Condition::new(SenseKey::DataProtect, 0x44, 0x01);

/// Whether a command is answered although nobody knows who holds the unit: what tells of the unit and
/// touches nothing, and REPLACE LOST RESERVATION.
pub(crate) fn survives_loss(cdb: &[u8]) -> bool {
    match *cdb {
        // LOG SENSE
        [0x4D, ..] => true,
        // START STOP UNIT: START 1 with no power condition
        [0x1B, _, _, _, start, ..] => start & 0xF1 == 0x01,
        [0x5F, action, ..] => action & 0x1F == OutAction::ReplaceLostReservation as u8,
        // REPORT TARGET PORT GROUPS
        [0xA3, action, ..] => action & 0x1F == 0x0A,
        _ => false,
    }
}

/// An I_T nexus as reservations know it. It outlives sessions.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Nexus {
    /// The TransportID of the initiator port, as [`scsi::transport_id::TransportId::encode`] makes it.
    pub initiator: Arc<[u8]>,
    /// The relative target port identifier.
    pub relative_port: u16,
}

/// Why an operation changed nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// RESERVATION CONFLICT status.
    #[error("reservation conflict")]
    Conflict,
    /// INVALID FIELD IN CDB, 05h/24h/00h, and the byte where it stands.
    #[error("invalid field in byte {0} of the CDB")]
    InvalidCdbField(u8),
    /// INVALID FIELD IN PARAMETER LIST, 05h/26h/00h, and the byte where it stands.
    #[error("invalid field in byte {0} of the parameter list")]
    InvalidListField(u16),
    /// PARAMETER LIST LENGTH ERROR, 05h/1Ah/00h.
    #[error("parameter list length")]
    ListLength,
    /// INVALID RELEASE OF PERSISTENT RESERVATION, 05h/26h/04h.
    #[error("release names another type than the reservation's")]
    InvalidRelease,
    /// INSUFFICIENT REGISTRATION RESOURCES, 05h/55h/04h.
    #[error("no room for another registration")]
    InsufficientResources,
    /// The state could not be written down; nothing changed, though after a restart it may turn out to be the
    /// new one. 04h/44h/00h, INTERNAL TARGET FAILURE.
    #[error("the reservation state could not be saved")]
    NotSaved,
}

impl Refusal {
    /// Sense key, ASC and ASCQ of the CHECK CONDITION; `None` where the status is RESERVATION CONFLICT.
    pub fn sense(self) -> Option<(u8, u8, u8)> {
        match self {
            Refusal::Conflict => None,
            Refusal::InvalidCdbField(_) => Some((0x5, 0x24, 0x00)),
            Refusal::InvalidListField(_) => Some((0x5, 0x26, 0x00)),
            Refusal::ListLength => Some((0x5, 0x1A, 0x00)),
            Refusal::InvalidRelease => Some((0x5, 0x26, 0x04)),
            Refusal::InsufficientResources => Some((0x5, 0x55, 0x04)),
            Refusal::NotSaved => Some((0x4, 0x44, 0x00)),
        }
    }
}

/// A unit attention that an operation owes to another nexus.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Attention {
    /// 2Ah/03h, RESERVATIONS PREEMPTED.
    ReservationsPreempted,
    /// 2Ah/04h, RESERVATIONS RELEASED.
    ReservationsReleased,
    /// 2Ah/05h, REGISTRATIONS PREEMPTED.
    RegistrationsPreempted,
}

impl Attention {
    /// ASC and ASCQ.
    pub fn code(self) -> (u8, u8) {
        match self {
            Attention::ReservationsPreempted => (0x2A, 0x03),
            Attention::ReservationsReleased => (0x2A, 0x04),
            Attention::RegistrationsPreempted => (0x2A, 0x05),
        }
    }
}

/// What must happen, besides GOOD, because an operation was done.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Effects {
    /// Unit attentions, each for the sessions of one nexus.
    pub attentions: Vec<(Nexus, Attention)>,
    /// PREEMPT AND ABORT: the tasks of these nexuses end before GOOD.
    pub abort: Vec<Nexus>,
    /// The state must be on stable storage before GOOD.
    pub persist: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Registration {
    nexus: Nexus,
    key: u64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Held {
    kind: ReservationType,
    /// Who reserved; `None` for the all registrants types, which every registrant holds.
    holder: Option<Nexus>,
}

/// The reservation state of one logical unit.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Reservations {
    /// In the order in which they came.
    registrations: Vec<Registration>,
    held: Option<Held>,
    generation: u32,
    persists: bool,
    /// The holder of a RESERVE (6, 10); it never outlives its session and is never stored.
    exclusive: Option<Nexus>,
}

impl Reservations {
    /// After a power on, whatever survived it, PRGENERATION is 0 (SPC-5 6.16.2).
    fn powered_on(self) -> Reservations {
        Reservations { generation: 0, ..self }
    }

    /// PRGENERATION.
    pub fn generation(&self) -> u32 {
        self.generation
    }

    /// PTPL_A: the last registration asked for the state to survive loss of power.
    pub fn persists(&self) -> bool {
        self.persists
    }

    /// The keys, one for each registered nexus.
    pub fn keys(&self) -> impl Iterator<Item = u64> {
        self.registrations.iter().map(|registration| registration.key)
    }

    /// The key of a nexus.
    pub fn key(&self, nexus: &Nexus) -> Option<u64> {
        self.registrations.iter().find(|one| one.nexus == *nexus).map(|one| one.key)
    }

    /// The reservation's key and type; the key is 0 where all registrants hold it (SPC-5 6.16.3.3).
    pub fn reservation(&self) -> Option<(u64, ReservationType)> {
        let held = self.held.as_ref()?;
        let key = held.holder.as_ref().and_then(|holder| self.key(holder)).unwrap_or(0);
        Some((key, held.kind))
    }

    /// Every registration as READ FULL STATUS shows it.
    pub fn full_status(&self) -> impl Iterator<Item = FullStatus<'_>> {
        self.registrations.iter().map(|one| FullStatus {
            key: one.key,
            holds: self.held.as_ref().filter(|_| self.holds(&one.nexus)).map(|held| held.kind),
            relative_port: one.nexus.relative_port,
            initiator: &one.nexus.initiator,
        })
    }

    /// Every registration: its key, its nexus, whether it holds the reservation.
    pub fn registered(&self) -> impl Iterator<Item = (u64, Nexus, bool)> {
        self.registrations.iter().map(|one| (one.key, one.nexus.clone(), self.holds(&one.nexus)))
    }

    /// The holder of a RESERVE (6, 10).
    pub fn exclusive(&self) -> Option<&Nexus> {
        self.exclusive.as_ref()
    }

    /// Whether this nexus holds the persistent reservation.
    pub fn holds(&self, nexus: &Nexus) -> bool {
        match &self.held {
            None => false,
            Some(Held { holder: Some(holder), .. }) => holder == nexus,
            Some(Held { holder: None, .. }) => self.key(nexus).is_some(),
        }
    }

    /// Whether a command of this class may run for this nexus; otherwise RESERVATION CONFLICT.
    pub fn permits(&self, nexus: &Nexus, class: Class) -> bool {
        if class == Class::Always {
            return true;
        }
        if self.exclusive.as_ref().is_some_and(|holder| holder != nexus) {
            return false;
        }
        let Some(held) = &self.held else { return true };
        match class {
            Class::Always | Class::Management => true,
            Class::Read if held.kind.admits_readers() => true,
            Class::Read | Class::Write => {
                self.holds(nexus) || held.kind.admits_registrants() && self.key(nexus).is_some()
            }
        }
    }

    /// RESERVE (6) and (10) of the whole unit (SPC-2 7.21, with the compatible handling of SPC-5
    /// 5.14.3): GOOD without effect for whom a persistent reservation lets in; a conflict for everyone
    /// else while there are registrations, and while another nexus holds the unit.
    pub fn reserve_exclusive(&mut self, nexus: &Nexus) -> Result<(), Refusal> {
        if self.exclusive.as_ref().is_some_and(|holder| holder != nexus) {
            return Err(Refusal::Conflict);
        }
        if self.registrations.is_empty() {
            self.exclusive = Some(nexus.clone());
            return Ok(());
        }
        if self.is_admitted(nexus) { Ok(()) } else { Err(Refusal::Conflict) }
    }

    /// RELEASE (6) and (10): ends the nexus's own exclusive reservation. Without one it is GOOD
    /// without effect, unless persistent reservations keep this nexus out.
    pub fn release_exclusive(&mut self, nexus: &Nexus) -> Result<(), Refusal> {
        if self.exclusive.as_ref() == Some(nexus) {
            self.exclusive = None;
            return Ok(());
        }
        if self.registrations.is_empty() || self.is_admitted(nexus) { Ok(()) } else { Err(Refusal::Conflict) }
    }

    /// The last session of the nexus is gone: its exclusive reservation ends. Registrations stay.
    /// Tells whether anything changed.
    pub fn nexus_lost(&mut self, nexus: &Nexus) -> bool {
        self.exclusive.take_if(|holder| holder == nexus).is_some()
    }

    /// The unit was reset: the exclusive reservation ends, persistent ones stay. Tells whether
    /// anything changed.
    pub fn reset(&mut self) -> bool {
        self.exclusive.take().is_some()
    }

    /// A holder, or a registrant of a type that lets registrants in.
    fn is_admitted(&self, nexus: &Nexus) -> bool {
        self.held
            .as_ref()
            .is_some_and(|held| self.holds(nexus) || held.kind.admits_registrants() && self.key(nexus).is_some())
    }
}
