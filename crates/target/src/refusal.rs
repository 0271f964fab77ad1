//! Why a login was refused, for the log and for whoever administers: more than the initiator hears.

use crate::access::NoRule;
use crate::door::printable;
use iscsi::login::Status;
use std::fmt::{Display, Formatter};
use std::net::SocketAddr;

/// A login that was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// Whom it came from.
    pub peer: SocketAddr,
    /// The names that were said, once they were: the initiator's, and the target's where one is asked for.
    pub asked: Option<(String, Option<String>)>,
    /// What the initiator was told; `None` where the connection was only closed.
    pub status: Option<Status>,
    /// What ended the login.
    pub why: String,
    /// Why the target would not have been there, whatever else was wrong.
    pub access: Option<NoAccess>,
}

/// Why a target is not there for an initiator, or not for its account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NoAccess {
    /// There is none of this name.
    NoTarget,
    /// It is not served at portals of this group.
    PortalGroup(u16),
    /// No rule of the target fits.
    Rules(NoRule),
    /// The rule that fits asks for CHAP with other accounts than this one.
    Account {
        /// The rule.
        rule: String,
        /// The account that was shown.
        account: String,
        /// Those that it takes.
        takes: Vec<String>,
    },
    /// The account belongs to other initiators.
    Stranger(String),
}

impl Display for NoAccess {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        match self {
            NoAccess::NoTarget => f.write_str("there is no target of this name"),
            NoAccess::PortalGroup(group) => write!(f, "the target is not served at portal group {group}"),
            NoAccess::Rules(NoRule::None) => f.write_str("the target has no rules, so that it admits nobody"),
            NoAccess::Rules(NoRule::Address(rule)) => {
                write!(f, "{rule} has the initiator's name but not its address")
            }
            NoAccess::Rules(NoRule::Name(1)) => f.write_str("the target's only rule does not fit"),
            NoAccess::Rules(NoRule::Name(count)) => write!(f, "none of the target's {count} rules fits"),
            NoAccess::Account { rule, account, takes } => {
                write!(f, "{rule} does not take CHAP account {account:?}, only {}", takes.join(", "))
            }
            NoAccess::Stranger(account) => {
                write!(f, "no rule that fits the initiator takes CHAP account {account:?}")
            }
        }
    }
}

impl Refusal {
    /// Why, without the names: a line, in which nothing that a stranger said acts on a terminal.
    pub fn reason(&self) -> String {
        printable(&match &self.access {
            Some(access) if access.to_string() != self.why => format!("{}; besides, {access}", self.why),
            _ => self.why.clone(),
        })
    }
}

impl Display for Refusal {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        match &self.asked {
            Some((initiator, Some(target))) => write!(f, "{initiator} for {target}: ")?,
            Some((initiator, None)) => write!(f, "{initiator} for discovery: ")?,
            None => {}
        }
        f.write_str(&self.reason())
    }
}
