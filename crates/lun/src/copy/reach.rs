//! How one nexus reaches one unit, as a copy's source or destination.

use crate::commons::flag;
use crate::operation::Work;
use crate::reservation::{Class, RESERVATIONS_LOST};
use crate::{LogicalUnit, LunEntry};
use block::Limits;
use scsi::copy::list::Cscd;
use scsi::inquiry::DeviceType;
use scsi::vpd::designation::{eui64, naa};
use scsi::{Condition, SenseKey};
use std::sync::Arc;

const TYPE_EUI_64: u8 = 2;
const TYPE_NAA: u8 = 3;

/// A unit of the nexus's map.
#[derive(Clone)]
pub(crate) struct Reach {
    pub unit: Arc<LogicalUnit>,
    pub limits: Arc<Limits>,
    read_only: bool,
    /// The unit's when the copy began.
    generation: u64,
}

impl Reach {
    fn new(entry: &LunEntry) -> Reach {
        let limits = entry.unit.limits();
        let read_only = entry.read_only || limits.read_only;
        let generation = entry.unit.commons.generation();
        Reach { unit: Arc::clone(&entry.unit), limits, read_only, generation }
    }

    /// The disks of the nexus. A drive is no copy source: its blocks are not those of a disk.
    fn disks(work: &Work) -> impl Iterator<Item = &LunEntry> {
        work.units.entries.iter().filter(|entry| entry.unit.options().device_type == DeviceType::Disk)
    }

    /// The unit that was given the command.
    pub fn own(work: &Work) -> Option<Reach> {
        Reach::disks(work).find(|entry| Arc::ptr_eq(&entry.unit, &work.unit)).map(Reach::new)
    }

    /// The unit that a CSCD descriptor names, if this nexus has it.
    pub fn named(work: &Work, cscd: &Cscd) -> Option<Reach> {
        let is_meant = |uuid: [u8; 16]| match cscd.designator_type {
            TYPE_NAA => cscd.designator == naa(uuid),
            TYPE_EUI_64 => cscd.designator == eui64(uuid),
            _ => false,
        };
        Reach::disks(work).find(|entry| is_meant(entry.unit.identity().uuid)).map(Reach::new)
    }

    /// The unit with this NAA designator, if this nexus has it.
    pub fn with_naa(work: &Work, wanted: [u8; 16]) -> Option<Reach> {
        Reach::disks(work).find(|entry| naa(entry.unit.identity().uuid) == wanted).map(Reach::new)
    }

    /// Bytes of a block.
    pub fn block(&self) -> u64 {
        u64::from(self.limits.block_length.max(1))
    }

    /// What keeps the nexus from reading or writing there now.
    pub fn check(&self, work: &Work, class: Class) -> Result<(), Condition> {
        let commons = &self.unit.commons;
        if commons.was_disturbed(self.generation, &work.nexus) {
            // Its tasks were ended; that of this copy was just not among them.
            return Err(Condition::new(SenseKey::AbortedCommand, 0x00, 0x00));
        }
        let flags = commons.flags();
        if flags & flag::OCCUPIED != 0
            && let Some(condition) = commons.occupation.condition()
        {
            return Err(condition);
        }
        if flags & flag::RESERVATIONS_LOST != 0 {
            return Err(RESERVATIONS_LOST);
        }
        if let Some(condition) = self.unit.medium_refusal() {
            return Err(condition);
        }
        if class == Class::Write && (self.read_only || flags & (flag::WRITE_PROTECT | flag::READ_ONLY) != 0) {
            return Err(Condition::new(SenseKey::DataProtect, 0x27, 0x00));
        }
        match commons.reservations.permits(&work.nexus, class) {
            true => Ok(()),
            // Turned into THIRD PARTY DEVICE FAILURE by whoever counts the segments.
            false => Err(Condition::new(SenseKey::AbortedCommand, 0x00, 0x00)),
        }
    }

    /// WCE is 0: what is answered is stable.
    pub fn writes_through(&self) -> bool {
        self.unit.commons.flags() & flag::WRITE_THROUGH != 0
    }
}
