//! A command at its handler: what is checked before, what a handler may look at and ask for.

use super::channel::Channel;
use super::inventory::INVENTORY_CHANGED;
use super::{LaneContext, MAXIMUM_TRANSFER_BYTES, Nexus};
use crate::clock::Clock;
use crate::command::{self, Outcome};
use crate::commons::flag;
use crate::copy::{CopyRecords, Random};
use crate::mail::Place;
use crate::operation::{Exchange, Work};
use crate::reservation::{self, Class, RESERVATIONS_LOST};
use crate::{Command, LogicalUnit, LunEntry, LunMap, TargetPort, TaskAttribute};
use block::{Limits, Rotation, WriteCache};
use scsi::inquiry::DeviceType;
use scsi::mmc::event::MediaEvent;
use scsi::port_groups::AccessState;
use scsi::{Condition, SenseKey, Status, inquiry};
use std::rc::Rc;
use std::sync::Arc;

/// Needs a unit that is ready, and yet nothing of the medium.
const TEST_UNIT_READY: u8 = 0x00;

/// What a LUN leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Where {
    /// A unit: the entry of the map and the view of this number.
    Unit(usize),
    /// LUN 0 without a disk: the controller (SAM-5 4.7.2: LUN 0 always answers).
    Controller,
    /// Nothing.
    Absent,
}

impl Nexus {
    pub(super) fn locate(&self, lun: [u8; 8]) -> Where {
        let Some(number) = lun_number(lun) else { return Where::Absent };
        match self.description.units.entries.binary_search_by_key(&number, |entry| entry.number) {
            Ok(at) => Where::Unit(at),
            Err(_) if number == 0 => Where::Controller,
            Err(_) => Where::Absent,
        }
    }
}

/// The number of a single-level LUN, by peripheral device or flat space addressing (SAM-5 4.7.7).
fn lun_number(lun: [u8; 8]) -> Option<u16> {
    let [first, second, rest @ ..] = lun;
    if rest != [0; 6] {
        return None;
    }
    match first >> 6 {
        0 if first == 0 => Some(u16::from(second)),
        1 => Some(u16::from_be_bytes([first & 0x3f, second])),
        _ => None,
    }
}

/// A command at a handler: what it may look at, and what it may ask for.
pub(crate) struct Execution<'a> {
    pub cdb: &'a [u8],
    /// Parameter data.
    pub data: &'a mut Vec<u8>,
    pub(super) command: &'a Command,
    pub(super) channel: Option<&'a Channel>,
    pub(super) context: &'a LaneContext,
    pub(super) nexus: &'a mut Nexus,
    pub(super) at: Where,
    pub(super) place: Place,
    pub(super) exchange: Option<Rc<Exchange>>,
}

impl Execution<'_> {
    /// Checks the command and runs its handler. In the order of SAM-5 5.3.1 and 5.14: what is no
    /// command, RESERVATION CONFLICT, unit attention, what the unit's state forbids.
    pub(super) fn run(&mut self) -> Outcome {
        let row = command::find(self.cdb, self.device_type(), self.limits(), self.target_port().groups().management());
        let ignores_attention = match (&row, self.cdb.first()) {
            (Ok(row), _) => row.ignores_attention,
            (Err(_), Some(0x46 | 0x4a)) => self.device_type() == DeviceType::Optical,
            (Err(_), first) => matches!(first, Some(0x03 | 0x12 | 0xa0)),
        };
        if self.is_absent() && !ignores_attention {
            return Outcome::Check(Condition::new(SenseKey::IllegalRequest, 0x25, 0x00));
        }
        if self.is_conflicting() {
            return Outcome::Status(Status::ReservationConflict);
        }
        if !ignores_attention && let Some(condition) = self.take_attention() {
            return Outcome::Check(condition);
        }
        let row = match row {
            Ok(row) => row,
            Err(condition) => return Outcome::Check(condition),
        };
        if self.is_controller() && !row.for_controller {
            return Outcome::Check(Condition::new(SenseKey::IllegalRequest, 0x20, 0x00));
        }
        if self.command.attribute == TaskAttribute::Aca {
            return Outcome::Check(Condition::new(SenseKey::IllegalRequest, 0x24, 0x00));
        }
        if let Some(condition) = self.access_refusal(row) {
            return Outcome::Check(condition);
        }
        let flags = self.flags();
        if flags & flag::OCCUPIED != 0
            && !row.ignores_attention
            && let Some(unit) = self.unit()
            && let Some(condition) = unit.commons.occupation.refusal(row.opcode, row.needs_medium)
        {
            return Outcome::Check(condition);
        }
        if flags & flag::RESERVATIONS_LOST != 0 && !row.ignores_attention && !reservation::survives_loss(self.cdb) {
            return Outcome::Check(RESERVATIONS_LOST);
        }
        if row.needs_medium {
            if let Some(condition) = self.unit().and_then(|unit| unit.medium_refusal()) {
                return Outcome::Check(condition);
            }
            if flags & flag::LOW_POWER != 0
                && row.opcode != TEST_UNIT_READY
                && let Some(unit) = self.unit()
            {
                // Whatever needs the medium makes the unit active (SBC-4 4.20).
                unit.commons.set_flags(0, flag::LOW_POWER);
            }
        }
        if row.writes
            && let Some(condition) = self.write_protection()
        {
            return Outcome::Check(condition);
        }
        (row.run)(self)
    }

    /// What the state of the port refuses at a unit (SPC-5 5.16.2).
    fn access_refusal(&self, row: &command::Row) -> Option<Condition> {
        match self.target_port().state() {
            AccessState::Standby if row.in_standby => None,
            AccessState::Unavailable if row.in_unavailable => None,
            state => self.unit().and(not_accessible(state)),
        }
    }

    fn is_conflicting(&mut self) -> bool {
        let (Where::Unit(at), Some(channel)) = (self.at, self.channel) else { return false };
        let reservations = &channel.unit.commons.reservations;
        let epoch = reservations.epoch();
        let Some(view) = self.nexus.views.get_mut(at) else { return false };
        let permits = match view.permits {
            Some((known, permits)) if known == epoch => permits,
            _ => {
                let identity = &self.nexus.identity;
                let permits =
                    [Class::Management, Class::Read, Class::Write].map(|class| reservations.permits(identity, class));
                view.permits = Some((epoch, permits));
                permits
            }
        };
        // Without a reservation, which is nearly always, the command's class makes no difference.
        if permits == [true; 3] {
            return false;
        }
        let [management, read, write] = permits;
        match Class::of(self.cdb) {
            Class::Always => false,
            Class::Management => !management,
            Class::Read => !read,
            Class::Write => !write,
        }
    }

    fn entry(&self) -> Option<&LunEntry> {
        match self.at {
            Where::Unit(at) => self.nexus.description.units.entries.get(at),
            _ => None,
        }
    }

    /// The unit, where there is one.
    pub fn unit(&self) -> Option<&Arc<LogicalUnit>> {
        self.entry().map(|entry| &entry.unit)
    }

    /// What this nexus can see.
    pub fn units(&self) -> &LunMap {
        &self.nexus.description.units
    }

    /// Who asks, as reservations know it.
    pub fn identity(&self) -> &Arc<crate::reservation::Nexus> {
        &self.nexus.identity
    }

    /// Who asks, among all lanes.
    pub fn place(&self) -> Place {
        self.place
    }

    /// The flags of the unit ([`flag`]); none where there is no unit.
    pub fn flags(&self) -> u32 {
        self.unit().map_or(0, |unit| unit.commons.flags())
    }

    /// What it is; where there is no unit, what knows the commands of one.
    pub fn device_type(&self) -> DeviceType {
        self.unit().map_or(DeviceType::Disk, |unit| unit.options().device_type)
    }

    /// MEDIUM NOT PRESENT, where it is not. A drive tells whether its tray is open.
    pub fn missing_medium(&self) -> Option<Condition> {
        self.unit()?.missing_medium()
    }

    /// What happened to the medium and was not yet told to this nexus.
    pub fn media_event(&self) -> Option<MediaEvent> {
        match self.at {
            Where::Unit(at) => self.nexus.views.get(at).and_then(|view| view.media_event),
            _ => None,
        }
    }

    /// It is told now; what stood behind it is next.
    pub fn media_event_told(&mut self) {
        if let Where::Unit(at) = self.at
            && let Some(view) = self.nexus.views.get_mut(at)
        {
            view.media_event = std::mem::take(&mut view.eject_requested).then_some(MediaEvent::EjectRequested);
        }
    }

    /// Why the unit is not ready, for REQUEST SENSE: what TEST UNIT READY would be told (SPC-5 6.39).
    pub fn not_ready(&self) -> Option<Condition> {
        let unit = self.unit()?;
        not_accessible(self.target_port().state())
            .or_else(|| unit.commons.occupation.condition())
            .or_else(|| unit.reservations_lost().then_some(RESERVATIONS_LOST))
            .or_else(|| unit.medium_refusal())
    }

    /// Whether nothing answers at this LUN.
    pub fn is_absent(&self) -> bool {
        self.at == Where::Absent
    }

    /// Whether this is LUN 0, with a disk or without.
    pub fn is_lun_0(&self) -> bool {
        self.is_controller() || self.entry().is_some_and(|entry| entry.number == 0)
    }

    /// Whether this is LUN 0 without a disk.
    pub fn is_controller(&self) -> bool {
        self.at == Where::Controller
    }

    /// The oldest pending unit attention, which is told now.
    pub fn take_attention(&mut self) -> Option<Condition> {
        match self.at {
            Where::Unit(at) => self.nexus.views.get_mut(at)?.attentions.pop_front(),
            Where::Controller if std::mem::take(&mut self.nexus.inventory_changed) => Some(INVENTORY_CHANGED),
            _ => None,
        }
    }

    /// The nexus learns which units there are: none owes the news of it any more (SPC-5 6.33).
    pub fn inventory_told(&mut self) {
        self.nexus.inventory_changed = false;
        self.nexus.views.iter_mut().for_each(|view| view.attentions.retain(|owed| *owed != INVENTORY_CHANGED));
    }

    /// Tells the time.
    pub fn clock(&self) -> &Clock {
        &self.context.clock
    }

    /// The unit's limits; those of an empty disk where there is none.
    pub fn limits(&self) -> &Limits {
        self.channel.map_or(&Limits::NOTHING, |channel| &channel.limits)
    }

    /// Bytes that the initiator is ready to send.
    pub fn expected_out(&self) -> u64 {
        u64::from(self.command.expected_out)
    }

    /// Bytes of a logical block.
    pub fn block(&self) -> u64 {
        u64::from(self.limits().block_length.max(1))
    }

    /// MAXIMUM TRANSFER LENGTH in blocks.
    pub fn maximum_transfer(&self) -> u64 {
        MAXIMUM_TRANSFER_BYTES / self.block()
    }

    /// Whether a write may be answered before it is stable.
    pub fn has_volatile_cache(&self) -> bool {
        self.limits().write_cache == WriteCache::Volatile && self.flags() & flag::WRITE_THROUGH == 0
    }

    /// For an operation of several steps: its view of the world.
    pub fn work(&mut self) -> Option<Work> {
        let channel = self.channel?;
        let work = Work {
            unit: Arc::clone(&channel.unit),
            limits: Arc::clone(&channel.limits),
            cdb: self.command.cdb.clone(),
            nexus: Arc::clone(&self.nexus.identity),
            port: Arc::clone(&self.nexus.description.target_port),
            place: self.place,
            expected_out: u64::from(self.command.expected_out),
            write_through: self.flags() & flag::WRITE_THROUGH != 0,
            units: Arc::clone(&self.nexus.description.units),
            copies: Rc::clone(self.copies()?),
            pool: self.context.pool.clone(),
            clock: Clock::clone(&self.context.clock),
            random: Random::clone(&self.context.random),
            exchange: Rc::default(),
        };
        self.exchange = Some(Rc::clone(&work.exchange));
        Some(work)
    }

    /// An operation of several steps.
    pub fn long<F>(&mut self, operation: impl FnOnce(Work) -> F) -> Outcome
    where
        F: Future<Output = crate::operation::Verdict> + 'static,
    {
        match self.work() {
            Some(work) => Outcome::Long(Box::pin(operation(work))),
            None => Outcome::Check(Condition::new(SenseKey::IllegalRequest, 0x25, 0x00)),
        }
    }

    /// The port by which the command came.
    pub fn port(&self) -> inquiry::Port<'_> {
        let port = &self.nexus.description.target_port;
        inquiry::Port {
            target_name: port.target_name(),
            portal_group_tag: port.number(),
            relative_identifier: port.number(),
            target_port_group: port.number(),
        }
    }

    /// The copies of this nexus at this unit.
    pub fn copies(&self) -> Option<&Rc<CopyRecords>> {
        match self.at {
            Where::Unit(at) => self.nexus.views.get(at).map(|view| &view.copies),
            _ => None,
        }
    }

    /// The port of the nexus, with all groups of the target.
    pub fn target_port(&self) -> &Arc<TargetPort> {
        &self.nexus.description.target_port
    }

    /// The transport's protocol level.
    pub fn protocol_level(&self) -> u8 {
        self.nexus.description.protocol_level
    }

    /// Calls with the unit's facts for INQUIRY, where there is a unit.
    pub fn with_facts<T>(&self, with: impl FnOnce(&inquiry::Facts<'_>) -> T) -> Option<T> {
        let (entry, limits) = (self.entry()?, self.limits());
        let identity = entry.unit.identity();
        let port = self.port();
        let ports: Vec<inquiry::Port<'_>> = self
            .target_port()
            .groups()
            .numbers()
            .into_iter()
            .map(|number| inquiry::Port {
                portal_group_tag: number,
                relative_identifier: number,
                target_port_group: number,
                ..port
            })
            .collect();
        let (block, blocks_of) = (self.block(), |bytes: u64| u32::try_from(bytes / self.block()).unwrap_or(u32::MAX));
        Some(with(&inquiry::Facts {
            uuid: identity.uuid,
            vendor: &identity.vendor,
            product: &identity.product,
            revision: &identity.revision,
            serial: &identity.serial,
            device_type: entry.unit.options().device_type,
            removable: entry.unit.options().removable,
            t10_id: entry.unit.options().shown.t10_id.as_deref(),
            naa: entry.unit.options().shown.naa.as_deref(),
            rotation: match limits.rotation {
                Rotation::NotReported => inquiry::Rotation::NotReported,
                Rotation::NonRotating => inquiry::Rotation::NonRotating,
                Rotation::Rate(rate) => inquiry::Rotation::Rate(rate),
            },
            cryptographic_erase: limits.cryptographic_erase,
            volatile_cache: limits.write_cache == WriteCache::Volatile,
            limits: inquiry::BlockLimits {
                compare_and_write: command::compare::MAXIMUM_COMPARE_AND_WRITE,
                optimal_granularity: u16::try_from(u64::from(limits.physical_block_length) / block).unwrap_or(1),
                maximum_transfer: blocks_of(MAXIMUM_TRANSFER_BYTES),
                optimal_transfer: blocks_of(u64::from(limits.optimal_transfer_length)),
                maximum_prefetch: blocks_of(MAXIMUM_TRANSFER_BYTES),
                write_same: command::provisioning::MAXIMUM_WRITE_SAME,
                write_same_refuses_zero: false,
                atomic: limits.atomic.map(|atomic| inquiry::AtomicLimits {
                    maximum: blocks_of(u64::from(atomic.maximum)),
                    alignment: blocks_of(u64::from(atomic.granularity)),
                    granularity: blocks_of(u64::from(atomic.granularity)),
                    // No boundaries: a write is one piece.
                    maximum_with_boundary: 0,
                    maximum_boundary: 0,
                }),
            },
            unmap: limits.unmap.map(|unmap| inquiry::Unmap {
                maximum_blocks: command::provisioning::MAXIMUM_UNMAP,
                maximum_descriptors: command::provisioning::MAXIMUM_UNMAP_DESCRIPTORS,
                granularity: blocks_of(u64::from(unmap.granularity)).max(1),
                alignment: blocks_of(u64::from(unmap.alignment)),
                reads_zeros: unmap.reads_zeros,
                anchors: false,
                threshold_exponent: match entry.unit.commons.watches_thresholds() {
                    true => command::provisioning::threshold_exponent(limits),
                    false => 0,
                },
            }),
            third_party_copy: (self.device_type() == DeviceType::Disk).then(|| command::copy::offer(limits)),
            target_port_groups: self.target_port().groups().management(),
            ports: &ports,
            this_port: port.relative_identifier,
            protocol_level: self.nexus.description.protocol_level,
        }))
    }

    /// What keeps this nexus from writing.
    fn write_protection(&self) -> Option<Condition> {
        let entry = self.entry()?;
        let hardware = entry.read_only || self.limits().read_only;
        // Initiators know how to read WRITE PROTECTED; the qualifiers that name the reason they do not.
        (hardware || self.flags() & (flag::WRITE_PROTECT | flag::READ_ONLY) != 0).then_some(Condition::new(
            SenseKey::DataProtect,
            0x27,
            0x00,
        ))
    }

    /// WP.
    pub fn is_write_protected(&self) -> bool {
        self.write_protection().is_some()
    }
}

/// LOGICAL UNIT NOT ACCESSIBLE, where the port is in such a state.
fn not_accessible(state: AccessState) -> Option<Condition> {
    let qualifier = match state {
        AccessState::ActiveOptimized | AccessState::ActiveNonOptimized => return None,
        AccessState::Standby => 0x0b,
        AccessState::Unavailable => 0x0c,
    };
    Some(Condition::new(SenseKey::NotReady, 0x04, qualifier))
}
