//! Which targets there are, and where: asked of a portal (SendTargets), of an iSNS server, or known already.
//!
//! Whoever answers is taken for a stranger: an answer has a bound, names and addresses are looked at before they
//! are anybody's, and all of it has to be done in a given time.
//!
//! ```no_run
//! # async fn example() -> Result<(), initiator::Error> {
//! use initiator::{Chap, Options, Portal, discovery};
//! let portal = Options::discovery(Portal::new("192.0.2.7", 3260)).chap(Chap::new("alice", "alice-secret-12"));
//! for target in discovery::send_targets(&portal).await? {
//!     println!("{} at {} portals", target.name, target.portals.len());
//! }
//! # Ok(())
//! # }
//! ```

mod isns;
mod send_targets;
mod text;

pub use isns::isns;
pub use send_targets::send_targets;

use crate::{Address, Error, Portal};
use iscsi::name::Name;

/// A target that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Its name.
    pub name: Name,
    /// Where it is reached, in the order in which it was told, each once.
    pub portals: Vec<TargetPortal>,
}

/// A way to a target.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct TargetPortal {
    /// Where it is.
    pub portal: Portal,
    /// The tag of its portal group, where it was told.
    pub group: Option<u16>,
}

impl std::fmt::Display for TargetPortal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.portal.fmt(f)?;
        self.group.map_or(Ok(()), |group| write!(f, ",{group}"))
    }
}

impl Target {
    /// Addresses of the target, one for each portal, with the login of `like`.
    pub fn addresses(&self, like: &Address) -> Vec<Address> {
        let address = |found: &TargetPortal| Address {
            host: found.portal.host.clone(),
            port: found.portal.port,
            ..like.with(Some(self.name.as_str()), like.lun)
        };
        self.portals.iter().map(address).collect()
    }
}

/// The target that an address names, which nobody is asked about.
pub fn fixed(address: &Address) -> Result<Target, Error> {
    let invalid = |why: String| Error::Invalid(format!("{}: {why}", address.portal()));
    let name = address.target.as_deref().ok_or_else(|| invalid("the address names no target".into()))?;
    let name = Name::lenient(name).map_err(|error| invalid(error.to_string()))?;
    let portal = Portal::new(address.host.clone(), address.port);
    Ok(Target { name, portals: vec![TargetPortal { portal, group: None }] })
}

/// Adds the portals of a target to those that are known, each once.
fn add(targets: &mut Vec<Target>, name: Name, portals: impl IntoIterator<Item = TargetPortal>) {
    let at = match targets.iter().position(|target| target.name == name) {
        Some(at) => at,
        None => {
            targets.push(Target { name, portals: Vec::new() });
            targets.len() - 1
        }
    };
    if let Some(target) = targets.get_mut(at) {
        for portal in portals {
            if !target.portals.contains(&portal) {
                target.portals.push(portal);
            }
        }
    }
}
