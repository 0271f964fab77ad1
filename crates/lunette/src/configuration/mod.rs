//! What the daemon is to serve: one model, made from `lunette.toml` or from the command line.

mod accounts;
mod administration;
mod command_line;
mod disk;
pub mod edit;
mod file;
pub mod finding;
mod luns;
mod machine;
mod pace;
mod portals;
mod reader;
mod rules;
pub mod schema;
mod secrets;
mod written;

pub use administration::Administration;
pub use command_line::{Overrides, from_arguments, from_text};
pub use disk::{Disk, is_memory};
pub use file::{check, load, read};
pub use finding::{Found, Severity};
pub use pace::words as pace;
pub use portals::{Listen, portal, states};

use crate::logging::Format;
use crate::serve::isns::Isns;
use io::engine::Choice;
use iscsi::auth::{Account, Algorithm};
use iscsi::name::Name;
use lun::GroupSettings;
use scsi::inquiry::TargetPortGroupSupport;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;
use target::{Discovery, Limits, Rule};

/// All that `lunette serve` needs to know.
#[derive(Debug, Clone)]
pub struct Configuration {
    /// How events are written.
    pub log_format: Format,
    /// The least of what is told.
    pub log_level: &'static str,
    /// A command that takes longer is told of.
    pub slow: Option<Duration>,
    /// Where Prometheus may read by TCP.
    pub metrics: Option<SocketAddr>,
    /// Worker threads; one a processor where it is not said.
    pub threads: Option<u16>,
    /// How disks are read and written.
    pub io_engine: Choice,
    /// Where reservations and saved settings are kept.
    pub state_dir: Option<PathBuf>,
    /// Where the daemon answers `lunette status`, if not at its usual place.
    pub control: Option<PathBuf>,
    /// What the daemon gives up before it serves.
    pub sandbox: crate::sandbox::Settings,
    /// The file that says all this, where it is one.
    pub file: Option<PathBuf>,
    /// Where it is administered over TCP.
    pub administration: Option<Administration>,
    /// The iSNS server.
    pub isns: Option<Isns>,
    /// The bounds.
    pub limits: Limits,
    /// Where to listen.
    pub listens: Vec<Listen>,
    /// The portal groups of all these addresses.
    pub groups: Vec<GroupSettings>,
    /// A file with the access states of groups.
    pub access_states: Option<PathBuf>,
    /// Who changes access states.
    pub access_management: TargetPortGroupSupport,
    /// CHAP algorithms that may be used.
    pub algorithms: Vec<Algorithm>,
    /// The CHAP accounts, by their names in the file.
    pub accounts: Vec<(String, Account)>,
    /// What discovery sessions have to show.
    pub discovery: Discovery,
    /// The targets.
    pub targets: Vec<TargetPlan>,
}

/// A target, before its stores are open.
#[derive(Debug, Clone)]
pub struct TargetPlan {
    /// Its name.
    pub name: Name,
    /// Its number, where it has one for programs that know targets by numbers.
    pub tid: Option<u32>,
    /// It takes no logins; who is there stays.
    pub offline: bool,
    /// Its alias.
    pub alias: Option<String>,
    /// The portal groups at which it is served.
    pub groups: Vec<u16>,
    /// Its disks, in ascending order of number.
    pub disks: Vec<Disk>,
    /// Who may use it, in order.
    pub rules: Vec<RulePlan>,
}

/// A rule, before the units are there that it shows.
#[derive(Debug, Clone)]
pub struct RulePlan {
    /// All of it but the units.
    pub rule: Rule,
    /// Which units it shows; all where it says nothing of it.
    pub units: Option<Vec<ShownUnit>>,
    /// None of them can be written.
    pub read_only: bool,
}

/// A unit as a rule shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ShownUnit {
    /// Its number at the target.
    pub number: u16,
    /// Its number for those whom the rule fits.
    pub shown_as: u16,
    /// They may not write.
    pub read_only: bool,
}
