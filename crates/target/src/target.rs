//! A target, and what the door hands to a worker.

use crate::access::{Access, Rule};
use crate::address::HostPort;
use crate::door::Lines;
use crate::limits::Limits;
use crate::trace::Traces;
use iscsi::auth::{Account, Algorithm};
use iscsi::login::target::LoggedIn;
use lun::{Limiter, LunMap, NexusDescription, TargetPortGroups};
use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::sync::Arc;

/// An address at which a target listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Portal {
    /// The address.
    pub address: SocketAddr,
    /// The portal group that it belongs to.
    pub group: u16,
    /// Where initiators reach it, if that is somewhere else.
    pub advertise: Option<HostPort>,
}

/// A target with its units.
pub struct Target {
    /// Its iSCSI name, prepared.
    pub name: String,
    /// Its alias.
    pub alias: Option<String>,
    /// It takes no logins; who is there stays.
    pub offline: bool,
    /// Who may use it, and which of its units.
    pub access: Access,
    /// Where it can be reached, by its own groups.
    pub portals: Vec<Portal>,
    /// Its portal groups, each a target port; those of all portals are among them.
    pub groups: Arc<TargetPortGroups>,
    /// All of its units, by its own numbers.
    pub units: Arc<LunMap>,
}

impl Target {
    /// Its addresses with their portal groups as a client sees them that has reached `local`: one that is
    /// advertised stands for its portal, and one that listens on every address is named by the one that was
    /// reached (DSC-03).
    pub fn addresses(&self, local: SocketAddr) -> Vec<(HostPort, u16)> {
        let mut addresses: Vec<(HostPort, u16)> = Vec::new();
        let reached = local.ip().to_canonical();
        for portal in &self.portals {
            let (all, own) = (portal.address.ip().is_unspecified(), portal.address);
            // 0.0.0.0 takes no IPv6; [::] takes IPv4 unless somebody else does at that port.
            let taken =
                || self.portals.iter().any(|other| other.address.is_ipv4() && other.address.port() == own.port());
            let address = match &portal.advertise {
                Some(advertised) => advertised.clone(),
                None if all && own.is_ipv4() != reached.is_ipv4() && (own.is_ipv4() || taken()) => continue,
                None if all => SocketAddr::new(reached, own.port()).into(),
                None => own.into(),
            };
            if !addresses.iter().any(|(other, group)| *other == address && *group == portal.group) {
                addresses.push((address, portal.group));
            }
        }
        addresses
    }
}

/// What a discovery session has to show, which is a matter of its own (RFC 7143 App. C).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Discovery {
    /// Nothing.
    Open,
    /// That it is one of these accounts.
    Accounts {
        /// The accounts.
        accounts: Arc<[Account]>,
        /// What we show to an initiator that asks.
        own: Option<Account>,
    },
    /// That it could log in: an account of a rule that fits it, as soon as any rule asks for one.
    AsTargets {
        /// What we show to an initiator that asks.
        own: Option<Account>,
    },
}

/// All targets behind the same portals.
pub struct Targets {
    /// In the order in which they are listed.
    list: Vec<Arc<Target>>,
    by_name: HashMap<String, usize>,
    /// Each account that a rule takes, once.
    accounts: Arc<[Account]>,
    /// The algorithms of CHAP that may be used; the initiator's order decides among them.
    pub(crate) algorithms: Vec<Algorithm>,
    pub(crate) discovery: Discovery,
}

/// Who looks at the targets.
#[derive(Debug, Clone)]
pub struct Viewer {
    /// The initiator's name.
    pub initiator: String,
    /// Where it comes from.
    pub address: IpAddr,
    /// What it has shown to be.
    pub account: Option<Account>,
}

impl Targets {
    /// These targets; of two with one name the first counts.
    pub fn new(targets: Vec<Target>, discovery: Discovery, algorithms: Vec<Algorithm>) -> Targets {
        Targets::of(targets.into_iter().map(Arc::new).collect(), discovery, algorithms)
    }

    /// These targets, some of which are served already.
    pub fn of(targets: Vec<Arc<Target>>, discovery: Discovery, algorithms: Vec<Algorithm>) -> Targets {
        let (mut list, mut by_name) = (Vec::new(), HashMap::new());
        let mut accounts: Vec<Account> = Vec::new();
        for target in targets {
            if by_name.contains_key(&target.name) {
                continue;
            }
            by_name.insert(target.name.clone(), list.len());
            for account in target.access.rules.iter().flat_map(|rule| &rule.chap).flat_map(|chap| &chap.accounts) {
                if !accounts.contains(account) {
                    accounts.push(account.clone());
                }
            }
            list.push(target);
        }
        Targets { list, by_name, accounts: accounts.into(), algorithms, discovery }
    }

    /// The same with this target, in the place of the one of its name or behind the others.
    pub fn with(&self, target: Target) -> Targets {
        let (mut list, target) = (self.list.clone(), Arc::new(target));
        match list.iter_mut().find(|other| other.name == target.name) {
            Some(other) => *other = target,
            None => list.push(target),
        }
        Targets::of(list, self.discovery.clone(), self.algorithms.clone())
    }

    /// The same without the target of this name.
    pub fn without(&self, name: &str) -> Targets {
        let list = self.list.iter().filter(|target| target.name != name).cloned().collect();
        Targets::of(list, self.discovery.clone(), self.algorithms.clone())
    }

    /// The same, shown to who discovers by other rules, with other algorithms of CHAP.
    pub fn shown(&self, discovery: Discovery, algorithms: Vec<Algorithm>) -> Targets {
        Targets::of(self.list.clone(), discovery, algorithms)
    }

    /// What a discovery session has to show.
    pub fn discovery(&self) -> &Discovery {
        &self.discovery
    }

    /// All of them, in the order in which they are listed.
    pub fn all(&self) -> &[Arc<Target>] {
        &self.list
    }

    /// The one with this name, which is prepared.
    pub fn named(&self, name: &str) -> Option<&Arc<Target>> {
        self.by_name.get(name).and_then(|at| self.list.get(*at))
    }

    /// Each account that a rule of any target takes.
    pub(crate) fn accounts(&self) -> &Arc<[Account]> {
        &self.accounts
    }

    /// Whether an initiator of this name at this address has this account at any target.
    pub(crate) fn knows(&self, initiator: &str, address: IpAddr, account: &Account) -> bool {
        let has = |rule: &Arc<Rule>| rule.chap.as_ref().is_some_and(|chap| chap.accounts.contains(account));
        self.list.iter().any(|target| target.access.decide(initiator, address).is_ok_and(has))
    }

    /// Whether this target is there for who looks (DSC-03, CHP-17).
    pub(crate) fn shows(&self, target: &Target, viewer: &Viewer) -> bool {
        let as_targets = matches!(self.discovery, Discovery::AsTargets { .. });
        let takes = |rule: &Arc<Rule>| !as_targets || rule.takes(viewer.account.as_ref());
        target.access.decide(&viewer.initiator, viewer.address).is_ok_and(takes)
    }
}

/// The leading connection of a session, after its login.
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
    /// The rule by which it is there ([`crate::Rule::label`]).
    pub rule: String,
    /// The nexus.
    pub nexus: NexusDescription,
    /// Whether the initiator may reset the target.
    pub target_resets: bool,
    /// What limits it, with all others whom its rule fits.
    pub limiter: Arc<Limiter>,
    /// Bounds the log lines about it.
    pub(crate) lines: Arc<Lines>,
    /// Who watches PDUs.
    pub(crate) traces: Arc<Traces>,
    /// The bounds.
    pub limits: Arc<Limits>,
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
            offline: false,
            access: Access::default(),
            portals: portals
                .iter()
                .map(|portal| Portal { address: portal.parse().unwrap(), group: 1, advertise: None })
                .collect(),
            groups: TargetPortGroups::new(&[GroupSettings::new(1)], TargetPortGroupSupport::Both),
            units: Arc::default(),
        };
        let seen = |portals: &[&str], local: &str| -> Vec<String> {
            target(portals).addresses(local.parse().unwrap()).iter().map(|(address, _)| address.to_string()).collect()
        };
        assert_eq!(seen(&["0.0.0.0:3260"], "192.0.2.7:3260"), ["192.0.2.7:3260"]);
        assert_eq!(seen(&["[::]:3260"], "[2001:db8::7]:3260"), ["[2001:db8::7]:3260"]);
        assert_eq!(seen(&["[::]:3260"], "[::ffff:192.0.2.7]:3260"), ["192.0.2.7:3260"]);
        assert_eq!(seen(&["192.0.2.1:3260", "192.0.2.2:3261"], "192.0.2.2:3261"), ["192.0.2.1:3260", "192.0.2.2:3261"]);
    }
}
