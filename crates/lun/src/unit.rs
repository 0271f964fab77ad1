//! A logical unit as all workers share it: who it is, what stands behind it, its common state.

use crate::command::provisioning::threshold_sets;
use crate::commons::Commons;
use crate::mail::{Letter, Whom};
use crate::{StateError, StateStore, TargetPort};
use block::{Backend, WriteCache};
use scsi::{Condition, SenseKey, mode};
use std::sync::Arc;

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

/// What an administrator chose for a unit.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Refuse writes although the store would take them.
    pub read_only: bool,
    /// Say that the medium can be removed, and let it.
    pub removable: bool,
}

/// One disk of the target. Shared by all lanes.
pub struct LogicalUnit {
    pub(crate) identity: Identity,
    pub(crate) options: Options,
    pub(crate) backend: Arc<dyn Backend>,
    pub(crate) commons: Commons,
}

impl LogicalUnit {
    /// A unit over this backend, with its reservations and mode pages as they were saved. Without a
    /// state store nothing of the kind outlives the process, and initiators are told so. State that
    /// cannot be read is an error: a disk whose fences are unknown must not be served.
    pub fn open(
        identity: Identity,
        options: Options,
        backend: Arc<dyn Backend>,
        state: Option<Arc<dyn StateStore>>,
    ) -> Result<Arc<LogicalUnit>, StateError> {
        let commons = Commons::open(identity.uuid, mode_facts(&*backend), state)?;
        Ok(Arc::new(LogicalUnit { identity, options, backend, commons }))
    }

    /// A unit that keeps nothing over a restart.
    pub fn new(identity: Identity, options: Options, backend: Arc<dyn Backend>) -> Arc<LogicalUnit> {
        let commons = Commons::volatile(identity.uuid, mode_facts(&*backend));
        Arc::new(LogicalUnit { identity, options, backend, commons })
    }

    /// Looks again at what stands behind the unit. Where its size or limits changed, every lane learns of
    /// it and every nexus is owed CAPACITY DATA HAS CHANGED (SBC-4 4.10).
    pub fn refresh(self: &Arc<LogicalUnit>) -> Result<bool, block::Error> {
        let changed = self.backend.refresh()?;
        if changed {
            self.commons.broadcast(|| Letter::Limits { unit: Arc::clone(self) });
            self.attention(Whom::Everyone, Condition::new(SenseKey::UnitAttention, 0x2a, 0x09));
        }
        Ok(changed)
    }

    /// Compares the space that is used with the threshold that an initiator has set, and tells all nexuses
    /// once when it is reached (SBC-4 4.7.3.7); again only after it was left.
    pub(crate) fn watch_space(self: &Arc<LogicalUnit>) {
        let Some(threshold) = self.commons.values().provisioning_threshold() else { return };
        let Some(space) = self.backend.space() else { return };
        let reached = threshold_sets(&self.backend.limits(), space.used) >= threshold;
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

    /// Who it is.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// What was chosen for it.
    pub fn options(&self) -> &Options {
        &self.options
    }

    /// What stands behind it.
    pub fn backend(&self) -> &Arc<dyn Backend> {
        &self.backend
    }
}

fn mode_facts(backend: &dyn Backend) -> mode::Facts {
    let limits = backend.limits();
    mode::Facts {
        volatile_cache: limits.write_cache == WriteCache::Volatile,
        thresholds: limits.unmap.is_some() && backend.space().is_some(),
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
