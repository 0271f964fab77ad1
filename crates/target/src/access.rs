//! Who may use a target, and how he shows who he is.

use iscsi::auth::{Account, Algorithm, Challenge, Rules};
use iscsi::name::Name;

/// Who may log in.
#[derive(Debug, Clone, Default)]
pub struct Access {
    /// These initiators; everybody where there is none.
    pub initiators: Vec<Name>,
    /// What they have to show; nothing where there is none.
    pub chap: Option<Chap>,
}

/// CHAP at a target, for discovery and for normal sessions.
#[derive(Debug, Clone)]
pub struct Chap {
    /// The algorithms that may be used; the initiator's order decides among them.
    pub algorithms: Vec<Algorithm>,
    /// Who may log in.
    pub accounts: Vec<Account>,
    /// What the target shows to an initiator that asks.
    pub own: Option<Account>,
}

impl Access {
    /// Whether an initiator of this name may know of the target.
    pub fn admits(&self, initiator: &str) -> bool {
        self.initiators.is_empty() || self.initiators.iter().any(|name| name.as_str() == initiator)
    }
}

impl Chap {
    /// What is asked of a login, with a challenge that is used once. An error where the system has no
    /// randomness to give: then nobody can log in.
    pub(crate) fn rules(&self) -> Result<Rules, getrandom::Error> {
        let mut random = [0; 33];
        getrandom::fill(&mut random)?;
        let [identifier, bytes @ ..] = random;
        Ok(Rules {
            algorithms: self.algorithms.clone(),
            accounts: self.accounts.clone(),
            own: self.own.clone(),
            challenge: Challenge { identifier, bytes },
        })
    }
}
