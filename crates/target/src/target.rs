//! A target, and what the door hands to a worker.

use crate::access::{Access, Chap};
use crate::limits::Limits;
use crate::registry::Registered;
use iscsi::login::target::LoggedIn;
use lun::{LunMap, NexusDescription, TargetPortGroups};
use std::collections::HashMap;
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;

/// An address at which a target listens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Portal {
    /// The address.
    pub address: SocketAddr,
    /// The portal group that it belongs to.
    pub group: u16,
}

/// A target with its units.
pub struct Target {
    /// Its iSCSI name, prepared.
    pub name: String,
    /// Its alias.
    pub alias: Option<String>,
    /// Its units.
    pub units: Arc<LunMap>,
    /// Who may use it.
    pub access: Access,
    /// Where it can be reached, by its own groups.
    pub portals: Vec<Portal>,
    /// Its portal groups, each a target port; those of all portals are among them.
    pub groups: Arc<TargetPortGroups>,
}

impl Target {
    /// Its addresses as a client sees them that has reached `local`: a portal that listens on every
    /// address is named by the one that was reached (DSC-03).
    pub fn addresses(&self, local: SocketAddr) -> Vec<Portal> {
        let mut addresses: Vec<Portal> = Vec::new();
        let reached = local.ip().to_canonical();
        for portal in &self.portals {
            let (all, own) = (portal.address.ip().is_unspecified(), portal.address);
            // 0.0.0.0 takes no IPv6; [::] takes IPv4 unless somebody else does at that port.
            let taken =
                || self.portals.iter().any(|other| other.address.is_ipv4() && other.address.port() == own.port());
            if all && own.is_ipv4() != reached.is_ipv4() && (own.is_ipv4() || taken()) {
                continue;
            }
            let address = match all {
                true => SocketAddr::new(reached, own.port()),
                false => own,
            };
            if !addresses.iter().any(|other| other.address == address) {
                addresses.push(Portal { address, group: portal.group });
            }
        }
        addresses
    }
}

/// All targets behind the same portals.
pub struct Targets {
    /// In the order in which they are listed.
    list: Vec<Arc<Target>>,
    by_name: HashMap<String, usize>,
    /// What a discovery session has to show that names no target.
    pub(crate) discovery: Option<Chap>,
}

impl Targets {
    /// These targets; of two with one name the first counts. `discovery` is asked of discovery sessions.
    pub fn new(targets: Vec<Target>, discovery: Option<Chap>) -> Targets {
        let (mut list, mut by_name) = (Vec::new(), HashMap::new());
        for target in targets {
            if !by_name.contains_key(&target.name) {
                by_name.insert(target.name.clone(), list.len());
                list.push(Arc::new(target));
            }
        }
        Targets { list, by_name, discovery }
    }

    /// All of them, in the order in which they are listed.
    pub fn all(&self) -> &[Arc<Target>] {
        &self.list
    }

    /// The one with this name, which is prepared.
    pub fn named(&self, name: &str) -> Option<&Arc<Target>> {
        self.by_name.get(name).and_then(|at| self.list.get(*at))
    }
}

/// A connection that has finished its login.
pub struct Handover {
    /// The socket, not blocking.
    pub stream: TcpStream,
    /// Bytes that were read beyond the login.
    pub early: Vec<u8>,
    /// Whom it came from.
    pub peer: SocketAddr,
    /// What was agreed.
    pub logged_in: LoggedIn,
    /// The target, for what a normal session may ask of it.
    pub target: Arc<Target>,
    /// The nexus.
    pub nexus: NexusDescription,
    /// The bounds.
    pub limits: Arc<Limits>,
    /// The session's place in the registry; `None` for a connection that joins a session.
    pub registered: Option<Registered>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use lun::GroupSettings;
    use scsi::inquiry::TargetPortGroupSupport;

    #[test]
    fn dsc_03_a_wildcard_is_named_by_the_address_that_was_reached() {
        let target = |portals: &[&str]| Target {
            name: "iqn.2026-11.com.example:disk".into(),
            alias: None,
            units: Arc::default(),
            access: Access::default(),
            portals: portals.iter().map(|portal| Portal { address: portal.parse().unwrap(), group: 1 }).collect(),
            groups: TargetPortGroups::new(&[GroupSettings::new(1)], TargetPortGroupSupport::Both),
        };
        let seen = |portals: &[&str], local: &str| -> Vec<String> {
            target(portals).addresses(local.parse().unwrap()).iter().map(|portal| portal.address.to_string()).collect()
        };
        assert_eq!(seen(&["0.0.0.0:3260"], "192.0.2.7:3260"), ["192.0.2.7:3260"]);
        assert_eq!(seen(&["[::]:3260"], "[2001:db8::7]:3260"), ["[2001:db8::7]:3260"]);
        assert_eq!(seen(&["[::]:3260"], "[::ffff:192.0.2.7]:3260"), ["192.0.2.7:3260"]);
        assert_eq!(seen(&["192.0.2.1:3260", "192.0.2.2:3261"], "192.0.2.2:3261"), ["192.0.2.1:3260", "192.0.2.2:3261"]);
    }
}
