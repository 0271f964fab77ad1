//! A logical unit as all workers share it: who it is, what stands behind it, its common state.

use block::Backend;
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
}

impl LogicalUnit {
    /// A unit over this backend.
    pub fn new(identity: Identity, options: Options, backend: Arc<dyn Backend>) -> Arc<LogicalUnit> {
        Arc::new(LogicalUnit { identity, options, backend })
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

/// The target's side of a nexus (SPC-5 7.7.6, designation descriptors; RFC 7143 4.4.2).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TargetPort {
    /// The iSCSI name of the target device.
    pub target_name: String,
    /// The portal group tag.
    pub portal_group_tag: u16,
    /// Relative target port identifier, from 1.
    pub relative_identifier: u16,
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
