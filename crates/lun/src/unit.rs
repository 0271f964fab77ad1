//! A logical unit as all workers share it: who it is, what stands behind it, its common state.

use crate::command::provisioning::threshold_sets;
use crate::commons::{Commons, flag};
use crate::limit::Limiter;
use crate::mail::{Letter, Whom};
use crate::shown::Shown;
use crate::statistics::Counted;
use crate::{StateError, StateStore, TargetPort};
use block::{Backend, WriteCache};
use scsi::inquiry::DeviceType;
use scsi::mmc::event::MediaEvent;
use scsi::{Condition, SenseKey, mode};
use std::sync::{Arc, PoisonError, RwLock};

/// Who a logical unit is; the same over restarts, renames and renumbering.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// 16 bytes from which the NAA (6h, locally assigned 3h where 16 bytes are too long), EUI-64
    /// and default serial number are made. `target` keeps or derives them so that they stay.
    pub uuid: [u8; 16],
    /// T10 vendor identification, at most 8 ASCII bytes.
    pub vendor: String,
    /// Product identification, at most 16 ASCII bytes.
    pub product: String,
    /// Product revision, at most 4 ASCII bytes.
    pub revision: String,
    /// Unit serial number.
    pub serial: String,
}

/// What a look behind a unit has changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Nothing.
    None,
    /// The size, or another limit.
    Size,
    /// Another medium was put in.
    Medium,
    /// The medium was taken out, for this reason.
    Gone(String),
    /// There is another medium, or none, but an initiator prevents the removal of the old one.
    Held,
}

/// What an administrator chose for a unit.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// What it is to its initiators.
    pub device_type: DeviceType,
    /// Refuse writes although the store would take them, at first: [`LogicalUnit::set_read_only`].
    pub read_only: bool,
    /// Say that the medium can be removed, and let it.
    pub removable: bool,
    /// What it says of itself in the place of what it would.
    pub shown: Shown,
}

/// One disk or drive of the target. Shared by all lanes.
pub struct LogicalUnit {
    /// Asked for by commands that tell of it, never on the way of data.
    identity: RwLock<Arc<Identity>>,
    pub(crate) options: Options,
    pub(crate) backend: Arc<dyn Backend>,
    pub(crate) commons: Commons,
}

impl LogicalUnit {
    /// A unit over this backend, with its reservations and mode pages as they were saved. Without a
    /// state store nothing of the kind outlives the process, and initiators are told so. State that
    /// cannot be read is an error; where that of the reservations is damaged, the unit answers only what
    /// SPC-5 5.14.12 lets it ([`LogicalUnit::reservations_lost`]).
    pub fn open(
        identity: Identity,
        options: Options,
        backend: Arc<dyn Backend>,
        state: Option<Arc<dyn StateStore>>,
    ) -> Result<Arc<LogicalUnit>, StateError> {
        let commons = Commons::open(identity.uuid, mode_facts(&options, &*backend), state)?;
        Ok(LogicalUnit::over(identity, options, backend, commons))
    }

    /// Whether the stored reservations are damaged, and nobody has replaced them yet.
    pub fn reservations_lost(&self) -> bool {
        self.commons.reservations.is_lost()
    }

    /// A unit that keeps nothing over a restart.
    pub fn new(identity: Identity, options: Options, backend: Arc<dyn Backend>) -> Arc<LogicalUnit> {
        let commons = Commons::volatile(identity.uuid, mode_facts(&options, &*backend));
        LogicalUnit::over(identity, options, backend, commons)
    }

    fn over(identity: Identity, options: Options, backend: Arc<dyn Backend>, commons: Commons) -> Arc<LogicalUnit> {
        if options.read_only {
            commons.set_flags(flag::READ_ONLY, 0);
        }
        Arc::new(LogicalUnit { identity: RwLock::new(Arc::new(identity)), options, backend, commons })
    }

    /// Looks again at what stands behind the unit. Where its size or limits changed, every lane learns of
    /// it and every nexus is owed CAPACITY DATA HAS CHANGED (SBC-4 4.10). Where another medium lies behind
    /// a drive, that is put in; an initiator that prevents it is asked once, as by the button of a drive, to
    /// let go of the old one (MMC-6, the media event EjectRequest).
    pub fn refresh(self: &Arc<LogicalUnit>) -> Result<Change, block::Error> {
        let (event, change) = match self.backend.look() {
            block::Medium::Same => {
                self.commons.set_flags(0, flag::AWAITED);
                let changed = self.backend.refresh()?;
                if changed {
                    self.commons.broadcast(|| Letter::Limits { unit: Arc::clone(self) });
                    self.attention(Whom::Everyone, Condition::new(SenseKey::UnitAttention, 0x2a, 0x09));
                }
                return Ok(if changed { Change::Size } else { Change::None });
            }
            block::Medium::Other => (MediaEvent::New, Change::Medium),
            block::Medium::Gone(why) => (MediaEvent::Removed, Change::Gone(why)),
        };
        // Looking took its time; between this question and the exchange nobody can begin to prevent it.
        if !self.commons.unless_prevented(|| self.backend.exchange()) {
            if self.commons.flags() & flag::AWAITED == 0 {
                self.commons.set_flags(flag::AWAITED, 0);
                let event = MediaEvent::EjectRequested;
                self.commons.broadcast(|| Letter::Medium { unit: Arc::clone(self), event, exchanged: false });
            }
            return Ok(Change::Held);
        }
        self.commons.set_flags(0, flag::AWAITED);
        if event == MediaEvent::Removed {
            self.commons.set_flags(flag::EMPTY, 0);
        }
        self.commons.broadcast(|| Letter::Medium { unit: Arc::clone(self), event, exchanged: true });
        if event == MediaEvent::New {
            // Whoever puts in a medium has opened and closed the tray. Not before the letters are there: a
            // command that finds the medium also finds the unit attention.
            self.commons.set_flags(0, flag::EMPTY | flag::EJECTED);
        }
        Ok(change)
    }

    /// Whether it is a CD/DVD drive.
    pub(crate) fn is_optical(&self) -> bool {
        self.options.device_type == DeviceType::Optical
    }

    /// MEDIUM NOT PRESENT, where it is not; MANUAL INTERVENTION REQUIRED where the unit is offline. A drive tells
    /// whether its tray is open.
    pub(crate) fn missing_medium(&self) -> Option<Condition> {
        let flags = self.commons.flags();
        if flags & (flag::EJECTED | flag::EMPTY | flag::OFFLINE) == 0 {
            return None;
        }
        if flags & flag::OFFLINE != 0 {
            return Some(OFFLINE);
        }
        let qualifier = match self.options.device_type {
            DeviceType::Disk => 0x00,
            DeviceType::Optical if flags & flag::EJECTED != 0 => 0x02,
            DeviceType::Optical => 0x01,
        };
        Some(Condition::new(SenseKey::NotReady, 0x3a, qualifier))
    }

    /// What keeps everybody from the medium: it is not there, or the unit was stopped (INITIALIZING COMMAND
    /// REQUIRED).
    pub(crate) fn medium_refusal(&self) -> Option<Condition> {
        let stopped = || self.commons.flags() & flag::STOPPED != 0;
        self.missing_medium().or_else(|| stopped().then_some(Condition::new(SenseKey::NotReady, 0x04, 0x02)))
    }

    /// Compares the space that is used with the threshold that an initiator has set, and tells all nexuses
    /// once when it is reached (SBC-4 4.7.3.7); again only after it was left.
    pub(crate) fn watch_space(self: &Arc<LogicalUnit>) {
        let Some(threshold) = self.commons.values().provisioning_threshold() else { return };
        let Some(space) = self.backend.space() else { return };
        let reached = threshold_sets(&self.limits(), space.used) >= threshold;
        let was_reached = self.commons.threshold_reached(reached);
        if reached && !was_reached {
            // THIN PROVISIONING SOFT THRESHOLD REACHED.
            self.attention(Whom::Everyone, Condition::new(SenseKey::UnitAttention, 0x38, 0x07));
        }
    }

    /// Owes a unit attention to nexuses, on whatever lane they are.
    pub(crate) fn attention(self: &Arc<LogicalUnit>, whom: Whom, condition: Condition) {
        self.commons.broadcast(|| Letter::Attention { unit: Arc::clone(self), whom: whom.clone(), condition });
    }

    /// What was counted of its commands since the process began, on all lanes. Asking disturbs nobody.
    pub fn counted(&self) -> Counted {
        self.commons.ledger.counted()
    }

    /// What limits the commands of all its initiators together; changed at any time.
    pub fn limiter(&self) -> &Limiter {
        &self.commons.limiter
    }

    /// Who it is.
    pub fn identity(&self) -> Arc<Identity> {
        self.identity.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn set_identity(&self, identity: Identity) {
        *self.identity.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(identity);
    }

    /// What was chosen for it when it was opened.
    pub fn options(&self) -> &Options {
        &self.options
    }

    /// What it and its store can do, as it is shown.
    pub fn limits(&self) -> Arc<block::Limits> {
        self.options.shown.over(self.backend.limits())
    }

    /// What stands behind it.
    pub fn backend(&self) -> &Arc<dyn Backend> {
        &self.backend
    }
}

/// LOGICAL UNIT NOT READY, MANUAL INTERVENTION REQUIRED: whoever took it offline puts it back. The qualifier that
/// names the state (12h) is not one of disks, and those of a passing state make initiators wait and ask again.
pub(crate) const OFFLINE: Condition = Condition::new(SenseKey::NotReady, 0x04, 0x03);

fn mode_facts(options: &Options, backend: &dyn Backend) -> mode::Facts {
    let limits = options.shown.over(backend.limits());
    mode::Facts {
        volatile_cache: limits.write_cache == WriteCache::Volatile,
        thresholds: limits.unmap.is_some() && backend.space().is_some(),
        optical: options.device_type == DeviceType::Optical,
    }
}

/// A nexus as the transport knows it.
#[derive(Debug, Clone)]
pub struct NexusDescription {
    /// The TransportID of the initiator port (SPC-5 7.6.4), its identity for reservations.
    pub initiator_port: Arc<[u8]>,
    /// The target's port.
    pub target_port: Arc<TargetPort>,
    /// Which units this initiator may see, under which numbers.
    pub units: Arc<LunMap>,
    /// The transport's protocol level for this nexus: INQUIRY tells it (RFC 7144 §4.2), and from 2 on there are
    /// the task management functions of SAM-5.
    pub protocol_level: u8,
}

/// Which logical units a nexus may use, under which numbers.
#[derive(Clone, Default)]
pub struct LunMap {
    /// In ascending order of number.
    pub entries: Vec<LunEntry>,
}

/// One line of a [`LunMap`].
#[derive(Clone)]
pub struct LunEntry {
    /// The LUN, 0 to 16383.
    pub number: u16,
    /// The unit.
    pub unit: Arc<LogicalUnit>,
    /// This initiator may not write.
    pub read_only: bool,
}

impl std::fmt::Debug for LunMap {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.entries.iter().map(|entry| entry.number)).finish()
    }
}
