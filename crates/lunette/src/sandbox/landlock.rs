//! What of the file system the daemon can still open: its own places to write, and what libraries read.

use landlock::{
    ABI, Access, AccessFs, BitFlags, CompatLevel, Compatible, RestrictionStatus, Ruleset, RulesetAttr,
    RulesetCreatedAttr, RulesetError, RulesetStatus, Scope, path_beneath_rules,
};
use std::path::PathBuf;

/// What is read by libraries (names of hosts, time zones, certificates), by metrics, and to tell what lies under
/// a store.
const READ: &[&str] = &[
    "/usr",
    "/lib",
    "/lib64",
    "/nix/store",
    "/proc",
    "/sys",
    "/dev/null",
    "/dev/zero",
    "/dev/urandom",
    "/dev/random",
    "/etc/hosts",
    "/etc/host.conf",
    "/etc/resolv.conf",
    "/etc/nsswitch.conf",
    "/etc/gai.conf",
    "/etc/services",
    "/etc/protocols",
    "/etc/localtime",
    "/etc/timezone",
    "/etc/machine-id",
    "/etc/passwd",
    "/etc/group",
    "/etc/ld.so.cache",
    "/etc/ssl/certs",
    "/etc/ca-certificates",
    "/etc/pki/tls/certs",
    "/run/systemd/resolve",
    "/run/nscd",
];
/// What is written whoever we are.
const WRITE: &[&str] = &["/dev/null"];

/// How much of it is in force.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Held {
    /// All that this program knows of.
    Whole,
    /// What this kernel knows.
    Partly,
    /// The kernel has none.
    Not,
}

/// From now on this thread and all that it starts open nothing else; `places` are directories whose files may be
/// written, made, renamed and taken away, `files` are read.
pub fn restrict(places: &[PathBuf], files: &[PathBuf]) -> Result<Held, RulesetError> {
    let abi = ABI::V6;
    let read: BitFlags<AccessFs> = AccessFs::ReadFile | AccessFs::ReadDir;
    let never = AccessFs::Execute
        | AccessFs::MakeChar
        | AccessFs::MakeBlock
        | AccessFs::MakeFifo
        | AccessFs::MakeSym
        | AccessFs::IoctlDev;
    let write = AccessFs::from_all(abi) & !never;
    let status: RestrictionStatus = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(abi))?
        // No signal to a process outside; the abstract socket of a service manager stays reachable.
        .scope(Scope::Signal)?
        .create()?
        .add_rules(path_beneath_rules(READ, read))?
        .add_rules(path_beneath_rules(WRITE, AccessFs::ReadFile | AccessFs::WriteFile))?
        .add_rules(path_beneath_rules(files, read))?
        .add_rules(path_beneath_rules(places, write))?
        .restrict_self()?;
    Ok(match status.ruleset {
        RulesetStatus::FullyEnforced => Held::Whole,
        RulesetStatus::PartiallyEnforced => Held::Partly,
        RulesetStatus::NotEnforced => Held::Not,
    })
}
