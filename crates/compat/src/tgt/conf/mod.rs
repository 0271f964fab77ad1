//! targets.conf: what it says, with every directive known by name, and what is wrong with it by file and line.

mod finding;
mod glob;
mod lines;
mod read;
mod tree;

pub use finding::{Finding, Place};
pub use read::{SESSION_KEYS, UNIT_PARAMETERS};
pub use tree::Value;

use std::path::Path;

/// All that a file and those that it includes say.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Config {
    /// The driver of targets that name none.
    pub default_driver: Option<Value>,
    /// To go on behind a command that fails.
    pub ignore_errors: bool,
    /// The daemon's control port.
    pub control_port: Option<u16>,
    /// Settings of iSNS, in the order in which they are made.
    pub isns: Vec<Value>,
    /// Accounts of which one is asked for to discover.
    pub incoming_discovery: Vec<Account>,
    /// The account that is shown to who discovers.
    pub outgoing_discovery: Option<Account>,
    /// The targets, in the order of their names.
    pub targets: Vec<TargetConfig>,
}

/// `user password`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// Where.
    pub at: Place,
    /// Its name.
    pub user: String,
    /// Its secret.
    pub password: String,
}

/// `<target IQN>`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TargetConfig {
    /// Where.
    pub at: Place,
    /// Its name.
    pub name: String,
    /// Its driver.
    pub driver: Option<Value>,
    /// `controller_tid`.
    pub tid: Option<u32>,
    /// What its sessions may agree on, and its state, in the order of their names.
    pub parameters: Vec<Value>,
    /// Its units: those of backing-store before those of direct-store, each by the order of their paths.
    pub stores: Vec<Store>,
    /// Accounts of which one is asked for.
    pub incoming: Vec<Account>,
    /// The account that is shown, and those that are too many.
    pub outgoing: Vec<Account>,
    /// Addresses that are let in.
    pub addresses: Vec<Value>,
    /// Names that are let in.
    pub names: Vec<Value>,
}

/// `backing-store` or `direct-store`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Store {
    /// Where.
    pub at: Place,
    /// Its path.
    pub path: String,
    /// Whether the device's own identity is to be shown.
    pub direct: bool,
    /// Its number.
    pub lun: u64,
    /// Not to look whether others use it.
    pub allow_in_use: bool,
    /// `device-type`, `bs-type`, `bsopts`, `bsoflags`, `block-size`.
    pub device_type: Option<Value>,
    #[allow(missing_docs)]
    pub bs_type: Option<Value>,
    #[allow(missing_docs)]
    pub bsopts: Option<Value>,
    #[allow(missing_docs)]
    pub bsoflags: Option<Value>,
    #[allow(missing_docs)]
    pub block_size: Option<Value>,
    /// Whether there is a write cache, where it is said.
    pub write_cache: Option<Value>,
    /// `mode_page`, the unit's before the target's.
    pub mode_pages: Vec<Value>,
    /// The parameters that are set by their names.
    pub parameters: Vec<Value>,
    /// `params`, as they are.
    pub raw: Vec<Value>,
}

/// Reads the file and those that it includes. Everything that is wrong is told; where an error is among it, what was
/// understood is not all of it.
pub fn load(path: &Path) -> (Config, Vec<Finding>) {
    let mut findings = Vec::new();
    let lines = lines::read(path, &mut findings);
    let entries = tree::build(&lines, &mut findings);
    let config = read::config(entries, &mut findings);
    (config, findings)
}
