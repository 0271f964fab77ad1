//! Who may use a target, and what of it: rules in order, of which the first that fits decides.
//!
//! A decision is a function of the rules, a name and an address, and comes with its reason.

mod network;
mod pattern;

pub use network::{Network, NetworkError};
pub use pattern::{NamePattern, PatternError};

use iscsi::auth::{Account, Algorithm, Challenge, Rules};
use iscsi::login::target::Redirection;
use lun::{Limiter, LunMap};
use std::net::IpAddr;
use std::sync::Arc;

/// The rules of a target. Where none fits, an initiator is not admitted.
#[derive(Debug, Clone, Default)]
pub struct Access {
    /// In order: the first that fits decides.
    pub rules: Vec<Arc<Rule>>,
}

/// One rule: who, and what for him.
#[derive(Debug, Clone)]
pub struct Rule {
    /// What people know it by: where it is configured.
    pub label: String,
    /// Which names it fits.
    pub initiators: Initiators,
    /// Which addresses it fits; all where there is none. Name and address must both fit.
    pub networks: Vec<Network>,
    /// What the initiator has to show; nothing where there is none.
    pub chap: Option<Chap>,
    /// The units, by the numbers that they have for him.
    pub units: Arc<LunMap>,
    /// Whether he may reset the target, and with it the tasks and sessions of others.
    pub target_resets: bool,
    /// The target is elsewhere for him.
    pub redirection: Option<Redirection>,
    /// What limits all those together whom it fits.
    pub limiter: Arc<Limiter>,
}

/// Which initiators a rule is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Initiators {
    /// Whatever their names are.
    Any,
    /// Those with a name that fits one of these.
    Named(Vec<NamePattern>),
}

/// CHAP for one rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chap {
    /// Any of these may log in.
    pub accounts: Vec<Account>,
    /// What the target shows to an initiator that asks.
    pub own: Option<Account>,
}

/// Why no rule of a target fits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NoRule {
    /// It has none.
    None,
    /// This one has the name but not the address.
    Address(String),
    /// None has the name. How many there are.
    Name(usize),
}

impl Access {
    /// The rule for an initiator of this name at this address.
    pub fn decide(&self, initiator: &str, address: IpAddr) -> Result<&Arc<Rule>, NoRule> {
        let mut near = None;
        for rule in self.rules.iter().filter(|rule| rule.initiators.contain(initiator)) {
            if rule.networks.is_empty() || rule.networks.iter().any(|network| network.contains(address)) {
                return Ok(rule);
            }
            near.get_or_insert(&rule.label);
        }
        Err(match near {
            Some(label) => NoRule::Address(label.clone()),
            None if self.rules.is_empty() => NoRule::None,
            None => NoRule::Name(self.rules.len()),
        })
    }
}

impl Initiators {
    fn contain(&self, name: &str) -> bool {
        match self {
            Initiators::Any => true,
            Initiators::Named(patterns) => patterns.iter().any(|pattern| pattern.fits(name)),
        }
    }
}

impl Rule {
    /// Whether this account may log in by it. Nobody has to show anything where there is no CHAP.
    pub fn takes(&self, account: Option<&Account>) -> bool {
        match (&self.chap, account) {
            (None, _) => true,
            (Some(chap), Some(account)) => chap.accounts.contains(account),
            (Some(_), None) => false,
        }
    }
}

/// What a login is asked for, with a challenge that is used once. An error where the system has no
/// randomness to give: then nobody can log in.
pub(crate) fn challenge(
    algorithms: &[Algorithm],
    accounts: &Arc<[Account]>,
    own: Option<&Account>,
) -> Result<Rules, getrandom::Error> {
    let mut random = [0; 33];
    getrandom::fill(&mut random)?;
    let [identifier, bytes @ ..] = random;
    Ok(Rules {
        algorithms: algorithms.to_vec(),
        accounts: Arc::clone(accounts),
        own: own.cloned(),
        challenge: Challenge { identifier, bytes },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use iscsi::auth::Secret;

    fn rules(rules: Vec<Rule>) -> Access {
        Access { rules: rules.into_iter().map(Arc::new).collect() }
    }

    fn rule(label: &str, names: &[&str], networks: &[&str]) -> Rule {
        let patterns: Vec<_> = names.iter().map(|name| name.parse().unwrap()).collect();
        Rule {
            label: label.into(),
            initiators: if patterns.is_empty() { Initiators::Any } else { Initiators::Named(patterns) },
            networks: networks.iter().map(|network| network.parse().unwrap()).collect(),
            chap: None,
            units: Arc::default(),
            target_resets: true,
            redirection: None,
            limiter: Arc::default(),
        }
    }

    fn decide(access: &Access, name: &str, address: &str) -> Result<String, NoRule> {
        access.decide(name, address.parse().unwrap()).map(|rule| rule.label.clone())
    }

    #[test]
    fn a_rule_of_a_name_and_an_address_needs_both() {
        let access = rules(vec![rule("one", &["iqn.2026-01.org.example:a"], &["192.0.2.0/24"])]);
        assert_eq!(decide(&access, "iqn.2026-01.org.example:a", "192.0.2.9").as_deref(), Ok("one"));
        assert_eq!(decide(&access, "iqn.2026-01.org.example:a", "192.0.3.9"), Err(NoRule::Address("one".into())));
        assert_eq!(decide(&access, "iqn.2026-01.org.example:b", "192.0.2.9"), Err(NoRule::Name(1)));
    }

    #[test]
    fn without_rules_nobody_is_admitted_and_the_first_that_fits_decides() {
        assert_eq!(decide(&Access::default(), "iqn.2026-01.org.example:a", "127.0.0.1"), Err(NoRule::None));
        let access = rules(vec![
            rule("special", &["iqn.2026-01.org.example:a"], &["2001:db8::/32"]),
            rule("cluster", &["iqn.2026-01.org.example:*"], &[]),
            rule("rest", &[], &["10.0.0.0/8", "192.0.2.1"]),
        ]);
        for (name, address, wanted) in [
            ("iqn.2026-01.org.example:a", "2001:db8::1", "special"),
            ("iqn.2026-01.org.example:a", "10.1.1.1", "cluster"),
            ("iqn.2026-01.com.example:a", "10.1.1.1", "rest"),
            ("iqn.2026-01.com.example:a", "192.0.2.1", "rest"),
        ] {
            assert_eq!(decide(&access, name, address).as_deref(), Ok(wanted), "{name} {address}");
        }
        assert_eq!(decide(&access, "eui.0123456789abcdef", "192.0.2.2"), Err(NoRule::Address("rest".into())));
    }

    #[test]
    fn chp_12_an_account_is_taken_by_the_rules_that_have_it() {
        let account = |user: &str, secret: &str| Account { user: user.into(), secret: Secret::new(secret).unwrap() };
        let alice = account("alice", "alice-secret-12");
        let chap = Chap { accounts: vec![alice.clone()], own: None };
        let closed = Rule { chap: Some(chap), ..rule("closed", &[], &[]) };
        assert!(closed.takes(Some(&alice)) && !closed.takes(None));
        assert!(!closed.takes(Some(&account("alice", "alices-other-secret"))));
        assert!(rule("open", &[], &[]).takes(None));
    }
}
