//! The command line's way to the model: one target, one rule.

use super::disk::{self, Disk, MAXIMUM_LUN};
use super::finding::{self, Found};
use super::{Configuration, RulePlan, TargetPlan, file, portals, secrets, written};
use crate::failure::Failure;
use crate::logging::Format;
use crate::sandbox::Settings;
use crate::serve::Arguments;
use crate::serve::administrator::Document;
use iscsi::auth::Account;
use iscsi::session::SessionLimits;
use std::path::PathBuf;
use std::time::Duration;
use target::{Chap, Discovery, Initiators, Limits, Rule};

/// What the command line says: itself, or by the file that it names, as the document that is served and what that
/// says. Beside it come lines about what is hardly meant.
pub fn from_arguments(arguments: &Arguments) -> Result<(Document, Configuration, Vec<String>), Failure> {
    let (document, mut configuration, warnings) = match &arguments.config {
        Some(path) => {
            let document = Document::load(path)?;
            let read = file::read(&document.name(), document.text(), Some(path)).whole();
            let (configuration, warnings) = read.map_err(|all| Failure::Findings(finding::text(&all)))?;
            (document, configuration, warnings.iter().map(Found::in_a_line).collect())
        }
        None => {
            let configuration = own(arguments)?;
            (Document::in_memory(&written::document(arguments, &configuration)), configuration, Vec::new())
        }
    };
    Overrides::of(arguments).apply(&mut configuration);
    Ok((document, configuration, warnings))
}

/// The same of a document that another process has served, whose place these arguments name.
pub fn from_text(arguments: &Arguments, text: &str) -> Result<(Document, Configuration, Vec<String>), Failure> {
    let document = Document::of(arguments.config.as_deref(), text);
    let read = file::read(&document.name(), text, document.path()).whole();
    let (mut configuration, warnings) = read.map_err(|all| Failure::Findings(finding::text(&all)))?;
    Overrides::of(arguments).apply(&mut configuration);
    Ok((document, configuration, warnings.iter().map(Found::in_a_line).collect()))
}

/// What the command line says before whatever a file says.
#[derive(Debug, Clone)]
pub struct Overrides {
    no_sandbox: bool,
    file: Option<PathBuf>,
    log_format: Option<Format>,
    log_level: Option<&'static str>,
}

impl Overrides {
    /// Of these arguments.
    pub fn of(arguments: &Arguments) -> Overrides {
        let log_level = match arguments.verbose {
            0 => None,
            1 => Some("debug"),
            _ => Some("trace"),
        };
        Overrides {
            no_sandbox: arguments.no_sandbox,
            file: arguments.config.clone(),
            log_format: arguments.log_format,
            log_level,
        }
    }

    /// Puts it in the place of what a document says.
    pub fn apply(&self, configuration: &mut Configuration) {
        if self.no_sandbox {
            (configuration.sandbox.seccomp, configuration.sandbox.landlock) = (false, false);
        }
        configuration.file = self.file.clone();
        configuration.log_format = self.log_format.unwrap_or(configuration.log_format);
        configuration.log_level = self.log_level.unwrap_or(configuration.log_level);
    }
}

fn own(arguments: &Arguments) -> Result<Configuration, Failure> {
    let name = arguments.target_name()?;
    let names = arguments.initiators()?;
    let chap = chap(arguments)?;
    let discovery = Discovery::AsTargets { own: chap.as_ref().and_then(|chap| chap.own.clone()) };
    let rule = Rule {
        label: if names.is_empty() { "the command line" } else { "--allow" }.to_owned(),
        initiators: if names.is_empty() { Initiators::Any } else { Initiators::Named(names) },
        networks: Vec::new(),
        chap,
        units: Default::default(),
        target_resets: true,
        redirection: None,
        limiter: Default::default(),
    };
    let (listens, groups) = portals::parse(&arguments.listen)?;
    let target = TargetPlan {
        name,
        tid: None,
        offline: false,
        alias: None,
        groups: groups.iter().map(|group| group.number).collect(),
        disks: disks(&arguments.stores)?,
        rules: vec![RulePlan { rule, units: None, read_only: false }],
    };
    let accounts = chap_accounts(&target.rules);
    Ok(Configuration {
        log_format: Format::Auto,
        slow: None,
        metrics: None,
        log_level: "info",
        threads: arguments.threads,
        io_engine: arguments.io_engine,
        state_dir: arguments.state_dir.clone(),
        control: arguments.control.clone(),
        sandbox: Settings { user: arguments.user.clone(), ..Settings::default() },
        file: None,
        administration: None,
        isns: arguments.isns.clone(),
        limits: limits(arguments)?,
        listens,
        groups,
        access_states: arguments.access_states.clone(),
        access_management: arguments.access_management,
        algorithms: arguments.chap_algorithms.clone(),
        accounts,
        discovery,
        targets: if arguments.empty { Vec::new() } else { vec![target] },
    })
}

/// The accounts by the names that they have in the document.
fn chap_accounts(rules: &[RulePlan]) -> Vec<(String, Account)> {
    let chap = rules.first().and_then(|plan| plan.rule.chap.as_ref());
    let user = chap.and_then(|chap| chap.accounts.first());
    let own = chap.and_then(|chap| chap.own.as_ref());
    let named = |name: &str, account: Option<&Account>| account.map(|account| (name.to_owned(), account.clone()));
    named(written::USER, user).into_iter().chain(named(written::OWN, own)).collect()
}

fn limits(arguments: &Arguments) -> Result<Limits, Failure> {
    let ping = Duration::from_secs(arguments.nop_interval.into());
    let defaults = Limits::default();
    let session = SessionLimits { nop_interval: ping, nop_timeout: ping, ..defaults.session.clone() };
    let mut limits = Limits { session, ..defaults };
    for (name, value) in &arguments.limit {
        limits.set(name, value).map_err(|error| Failure::input(format!("--limit: {error}")))?;
    }
    Ok(limits)
}

/// The disks. Numbers that were not given are the lowest free ones from 1 on, in order.
fn disks(addresses: &[String]) -> Result<Vec<Disk>, Failure> {
    let (mut disks, mut wishes) = (Vec::new(), Vec::new());
    for address in addresses {
        let (disk, number) = Disk::from_address(address)?;
        disks.push(disk);
        wishes.push(number);
    }
    let numbers = disk::numbers(&wishes).map_err(|at| match wishes.get(at) {
        Some(Some(number)) => {
            Failure::input(format!("lun={number} is given twice; every disk has a number of its own"))
        }
        _ => Failure::input(format!("{} disks are too many; LUNs end at {MAXIMUM_LUN}", wishes.len())),
    })?;
    disks.iter_mut().zip(numbers).for_each(|(disk, number)| disk.number = number);
    disks.sort_by_key(|disk| disk.number);
    Ok(disks)
}

fn chap(arguments: &Arguments) -> Result<Option<Chap>, Failure> {
    let account = |user: &Option<String>, source: secrets::Source<'_>| {
        user.as_deref().map(|user| source.account(user)).transpose()
    };
    let inward = secrets::Source {
        option: "chap",
        file: arguments.chap_secret_file.as_deref(),
        variable: "LUNETTE_CHAP_SECRET",
    };
    let outward = secrets::Source {
        option: "chap-mutual",
        file: arguments.chap_mutual_secret_file.as_deref(),
        variable: "LUNETTE_CHAP_MUTUAL_SECRET",
    };
    let Some(user) = account(&arguments.chap, inward)? else { return Ok(None) };
    let own = account(&arguments.chap_mutual, outward)?;
    if own.as_ref().is_some_and(|own| own.secret == user.secret) {
        let line = "--chap-mutual: the two secrets are equal; whoever knows one could play the other side, use two";
        return Err(Failure::input(line));
    }
    Ok(Some(Chap { accounts: vec![user], own }))
}
