//! tgt's access lists, addresses and names, as the rules of a target.
//!
//! tgt lets in whoever has one of the addresses *or* one of the names, so that a name next to `ALL` restricts nobody.
//! Here both must fit, unless it is asked for the old way.

use super::paper::{Values, place, texts};
use crate::configuration::edit::{Edit, Fields, Place, TargetView};
use compat::tgt::{Error, Failure, Who};
use toml_edit::{Array, Value};

/// What everybody is called.
const ALL: &str = "ALL";
/// What everybody is called in a document.
const ANY: &str = "any";
/// All addresses, where others stand beside them.
const EVERYWHERE: [&str; 2] = ["0.0.0.0/0", "::/0"];

/// How addresses and names go together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Combining {
    /// An initiator must have one of the addresses, and one of the names.
    #[default]
    And,
    /// One of either is enough, as tgt has it.
    Or,
}

impl Combining {
    /// As `LUNETTE_TGT_ACL` says it.
    pub fn of_environment() -> Result<Combining, String> {
        match std::env::var("LUNETTE_TGT_ACL").ok().as_deref() {
            None | Some("" | "and") => Ok(Combining::And),
            Some("or") => Ok(Combining::Or),
            Some(other) => Err(format!("LUNETTE_TGT_ACL={other}: use and, or or")),
        }
    }
}

/// The access list of a target.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Access {
    /// Addresses, networks, and `ALL`.
    pub addresses: Vec<String>,
    /// Names.
    pub names: Vec<String>,
    /// How they go together.
    combining: Combining,
    /// The keys that a rule says beside these, where there is one rule.
    rules: usize,
}

impl Access {
    /// That of a target. One whose rules say more than a list can is not changed here.
    pub fn of(target: &TargetView) -> Result<Access, Failure> {
        Access::shown(target).ok_or_else(|| {
            let why = "the rules of this target say more than an access list can; use lunette acl, or lunette apply";
            Failure::because(Error::InvalidRequest, why)
        })
    }

    /// That of a target, where its rules are no more than a list.
    pub fn shown(target: &TargetView) -> Option<Access> {
        let simple = |rule: &Values| rule.keys().all(|key| matches!(key.as_str(), "initiators" | "addresses"));
        if !target.rules.iter().all(simple) {
            return None;
        }
        let rules = target.rules.len();
        match &target.rules[..] {
            [] => Some(Access::default()),
            [rule] => Some(Access { addresses: addresses(rule), names: names(rule), rules, ..Access::default() }),
            [by_name, by_address] => {
                let (names, none) = (names(by_name), names(by_address));
                let fits = !names.is_empty() && addresses(by_name).is_empty() && none.is_empty();
                fits.then(|| Access { addresses: addresses(by_address), names, combining: Combining::Or, rules })
            }
            _ => None,
        }
    }

    /// One more entry, or two.
    pub fn add(&mut self, who: &Who, combining: Combining) -> Result<(), Failure> {
        if let Some(address) = &who.address {
            let address = checked(address)?;
            if self.addresses.contains(&address) {
                return Err(Error::RuleExists.into());
            }
            self.addresses.push(address);
        }
        if let Some(name) = &who.initiator {
            if self.names.contains(name) {
                return Err(Error::RuleExists.into());
            }
            self.names.push(name.clone());
        }
        // What is there already goes together as it did.
        if self.rules < 2 && (self.addresses.is_empty() || self.names.is_empty() || combining == Combining::Or) {
            self.combining = combining;
        }
        Ok(())
    }

    /// One entry less, or two.
    pub fn remove(&mut self, who: &Who) -> Result<(), Failure> {
        if let Some(address) = &who.address {
            let address = checked(address).map_err(|_| Failure::from(Error::NoRule))?;
            let at = self.addresses.iter().position(|known| *known == address).ok_or(Error::NoRule)?;
            self.addresses.remove(at);
        }
        if let Some(name) = &who.initiator {
            let at = self.names.iter().position(|known| known == name).ok_or(Error::NoRule)?;
            self.names.remove(at);
        }
        Ok(())
    }

    /// The edits that make the rules of a target this list.
    pub fn edits(&self, target: &TargetView) -> Vec<Edit> {
        let Place::Target(name) = place(target) else { return Vec::new() };
        let rule = |position| Place::Rule(name.clone(), position);
        let wanted = self.rules_of();
        let mut edits: Vec<Edit> =
            (wanted.len()..self.rules).rev().map(|at| Edit::Remove(rule(Some(at + 1)))).collect();
        for (at, fields) in wanted.into_iter().enumerate() {
            edits.push(match at < self.rules {
                true => Edit::Set(rule(Some(at + 1)), fields),
                false => Edit::Add(rule(None), fields),
            });
        }
        edits
    }

    fn rules_of(&self) -> Vec<Fields> {
        let (names, addresses) = (array(&self.names), self.networks());
        let by = |initiators: Value| Fields::new().with("initiators", initiators);
        match (self.names.is_empty(), self.addresses.is_empty()) {
            (true, true) => Vec::new(),
            (false, true) => vec![by(names).without("addresses")],
            (true, false) => vec![by(ANY.into()).with("addresses", addresses)],
            (false, false) => match self.combining {
                Combining::And => vec![by(names).with("addresses", addresses)],
                Combining::Or => vec![by(names).without("addresses"), by(ANY.into()).with("addresses", addresses)],
            },
        }
    }

    fn networks(&self) -> Value {
        if let [only] = &self.addresses[..]
            && only == ALL
        {
            return ANY.into();
        }
        let networks = self.addresses.iter().flat_map(|address| match address.as_str() {
            ALL => EVERYWHERE.map(str::to_owned).to_vec(),
            _ => vec![address.clone()],
        });
        array(&networks.collect::<Vec<_>>())
    }
}

fn array(texts: &[String]) -> Value {
    Value::Array(texts.iter().map(String::as_str).collect::<Array>())
}

/// An address as tgtadm takes it, as a document has it.
fn checked(address: &str) -> Result<String, Failure> {
    if address == ALL {
        return Ok(address.to_owned());
    }
    let plain = address.replace(['[', ']'], "");
    match plain.parse::<target::Network>() {
        Ok(_) => Ok(plain),
        Err(error) => Err(Failure::because(Error::InvalidRequest, format!("{address}: {error}"))),
    }
}

fn names(rule: &Values) -> Vec<String> {
    let names = texts(rule, "initiators");
    if names == [ANY] { Vec::new() } else { names }
}

/// As tgtadm lists them: all of them are one entry.
fn addresses(rule: &Values) -> Vec<String> {
    let said = texts(rule, "addresses");
    if said == [ANY] {
        return vec![ALL.to_owned()];
    }
    // Whoever says nothing of either lets everybody in by the names.
    if said.is_empty() && texts(rule, "initiators") == [ANY] {
        return vec![ALL.to_owned()];
    }
    let everywhere = EVERYWHERE.iter().all(|network| said.iter().any(|said| said == network));
    let mut shown = Vec::new();
    for network in said {
        let all = everywhere && EVERYWHERE.contains(&network.as_str());
        let one = if all { ALL.to_owned() } else { network };
        if !shown.contains(&one) {
            shown.push(one);
        }
    }
    shown
}
