//! `lunette.toml`, read whole: all that is wrong with it is told at once.

use super::accounts::{Accounts, Wanted};
use super::administration;
#[cfg(test)]
use super::finding;
use super::finding::{Findings, Found, suggest, there_are};
use super::machine::Look;
use super::portals::{self, GROUP, Listen};
use super::reader::Table;
use super::{Configuration, TargetPlan, luns, machine, pace, rules};
use crate::failure::Failure;
use crate::logging::{Format, LEVELS};
use crate::sandbox::Settings;
use crate::serve::isns::{self, Isns};
use io::engine::Choice;
use iscsi::auth::Algorithm;
use iscsi::name::Name;
use lun::GroupSettings;
use scsi::inquiry::TargetPortGroupSupport;
use scsi::port_groups::AccessState;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use target::{BOUNDS, Bound, Discovery, HostPort, IsnsSettings, Limits};
use toml::de::DeTable;

/// More than the configuration of thousands of targets has.
const MAXIMUM_BYTES: u64 = 64 << 20;
/// The largest number of a target.
pub const MAXIMUM_TID: u32 = i32::MAX as u32;
/// The longest text of TargetAlias.
const MAXIMUM_ALIAS: usize = 255;

/// What a document says, and what was found in it.
pub struct Reading {
    /// Nothing where an error is among the findings.
    pub configuration: Option<Configuration>,
    /// By their places.
    pub findings: Vec<Found>,
}

impl Reading {
    /// What it says, and the warnings; or all findings.
    pub fn whole(self) -> Result<(Configuration, Vec<Found>), Vec<Found>> {
        match self.configuration {
            Some(configuration) => Ok((configuration, self.findings)),
            None => Err(self.findings),
        }
    }
}

/// The text of a configuration file.
pub fn load(path: &Path) -> Result<String, Failure> {
    let failed = |why: String| Failure::input(format!("{}: {why}", path.display()));
    stores::host::read_to_string(path, MAXIMUM_BYTES).map_err(|error| match error.kind() {
        std::io::ErrorKind::FileTooLarge => failed("is too long for a configuration file".into()),
        _ => failed(error.to_string()),
    })
}

/// What a document says that findings call `name`. `path` is where it lies, if anywhere: a file with secrets must
/// not be everybody's to read.
pub fn read(name: &str, text: &str, path: Option<&Path>) -> Reading {
    let findings = Findings::new(name, text);
    let configuration = read_into(&findings, text, path);
    Reading { configuration: configuration.filter(|_| !findings.has_errors()), findings: findings.all() }
}

/// All that is found in a document, with what only this machine knows.
pub fn check(name: &str, text: &str, path: Option<&Path>) -> (Vec<Found>, Option<Configuration>) {
    let findings = Findings::new(name, text);
    let configuration = read_into(&findings, text, path);
    machine::look(&findings);
    (findings.all(), configuration)
}

/// Reads a document to its end. What comes back is as whole as the document.
pub(super) fn read_into<'a>(findings: &'a Findings<'a>, text: &'a str, path: Option<&Path>) -> Option<Configuration> {
    let (document, errors) = DeTable::parse_recoverable(text);
    for error in &errors {
        findings.error(error.span().unwrap_or(0..0), error.message().replace('\n', ", "), "");
    }
    // What stands behind an error of syntax is guesswork.
    errors.is_empty().then(|| root(Table::root(findings, document.get_ref()), findings, path))
}

/// Reads the file, for tests. Beside what it says come lines about what is hardly meant.
#[cfg(test)]
pub fn from_file(path: &Path) -> Result<(Configuration, Vec<String>), Failure> {
    parse(&path.display().to_string(), &load(path)?, path)
}

#[cfg(test)]
pub(super) fn parse(name: &str, text: &str, path: &Path) -> Result<(Configuration, Vec<String>), Failure> {
    match read(name, text, Some(path)).whole() {
        Ok((configuration, warnings)) => Ok((configuration, warnings.iter().map(Found::in_a_line).collect())),
        Err(findings) => Err(Failure::Findings(finding::text(&findings))),
    }
}

fn root<'a>(root: Table<'a>, findings: &'a Findings<'a>, path: Option<&Path>) -> Configuration {
    let log = root.table("log");
    let log_format =
        log.as_ref().and_then(|log| log.understood("format", format)).map_or(Format::Auto, |one| one.value);
    let log_level = log.as_ref().and_then(|log| log.understood("level", level)).map_or("info", |one| one.value);
    let slow = log.as_ref().and_then(|log| log.amount("slow", pace::slow)).map(|one| one.value);
    log.into_iter().for_each(Table::finish);
    let metrics = root.table("metrics").and_then(|table| {
        let listen = table.needed("listen", "\"127.0.0.1:9860\"").and_then(|listen| table.take(&listen, metrics));
        table.finish();
        listen.map(|one| one.value)
    });

    let daemon = root.table("daemon");
    let daemon_ref = daemon.as_ref();
    let threads = daemon_ref.and_then(|daemon| daemon.number("threads", 1..=256)).map(|one| one.value);
    let io_engine = daemon_ref.and_then(|daemon| daemon.understood("io-engine", engine));
    let path_at = |key, look: Option<fn(PathBuf) -> Look>| {
        let said = daemon_ref.and_then(|daemon| daemon.text(key))?;
        let path = PathBuf::from(said.value);
        look.into_iter().for_each(|look| findings.look_at(said.at.clone(), look(path.clone())));
        Some(path)
    };
    let control = path_at("control", None);
    let state_dir = path_at("state-dir", Some(Look::Directory));
    let access_states = path_at("access-states", Some(Look::File));
    let access_management = daemon_ref.and_then(|daemon| daemon.understood("access-management", management));
    let sandbox = sandbox(&root, daemon_ref);
    daemon.into_iter().for_each(Table::finish);

    let administration = root.table("administration").and_then(administration::read);
    let isns = root.table("isns").and_then(|table| isns(table, findings));
    let limits = limits(&root, findings);
    let (listens, portal_groups) = portals(&root, findings);
    let groups = groups(&root, &portal_groups, findings);
    let accounts = Accounts::read(&root, findings, path);
    let algorithms = root.table("chap").and_then(|table| {
        let algorithms = algorithms(&table, findings);
        table.finish();
        algorithms
    });
    let separate = root.table("discovery").and_then(|table| discovery(table, &accounts, findings));
    let targets = targets(&root, &groups, &accounts, findings, path);
    accounts.check();
    let discovery = separate.unwrap_or_else(|| Discovery::AsTargets { own: common(&targets) });
    root.finish();
    Configuration {
        log_format,
        log_level,
        slow,
        metrics,
        threads,
        io_engine: io_engine.map_or(Choice::Auto, |one| one.value),
        state_dir,
        control,
        sandbox,
        file: None,
        administration,
        isns,
        limits,
        listens,
        groups,
        access_states,
        access_management: access_management.map_or(TargetPortGroupSupport::Both, |one| one.value),
        algorithms: algorithms.unwrap_or_else(|| Algorithm::ALL.to_vec()),
        accounts: accounts.all(),
        discovery,
        targets,
    }
}

fn format(text: &str) -> Result<Format, String> {
    match text {
        "text" => Ok(Format::Text),
        "json" => Ok(Format::Json),
        "journald" => Ok(Format::Journald),
        "auto" => Ok(Format::Auto),
        _ => Err(format!("is no format; {}", suggest(text, ["auto", "text", "json", "journald"]))),
    }
}

fn level(text: &str) -> Result<&'static str, String> {
    let found = LEVELS.iter().find(|level| **level == text);
    found.copied().ok_or_else(|| format!("is no level; {}", suggest(text, LEVELS)))
}

fn metrics(text: &str) -> Result<SocketAddr, &'static str> {
    text.parse().map_err(|_| "is no address with a port; write \"127.0.0.1:9860\" or \"[::1]:9860\"")
}

fn engine(text: &str) -> Result<Choice, String> {
    text.parse().map_err(|_| format!("is no I/O engine; {}", suggest(text, ["auto", "uring", "pool", "inline"])))
}

fn management(text: &str) -> Result<TargetPortGroupSupport, String> {
    match text {
        "implicit" => Ok(TargetPortGroupSupport::Implicit),
        "both" => Ok(TargetPortGroupSupport::Both),
        _ => Err("is nobody who could; there are implicit and both".to_owned()),
    }
}

/// What the daemon gives up.
fn sandbox(root: &Table<'_>, daemon: Option<&Table<'_>>) -> Settings {
    let text = |key| daemon.and_then(|daemon| daemon.text(key)).map(|one| one.value);
    let mut settings = Settings { user: text("user"), group: text("group"), ..Settings::default() };
    if let Some(table) = root.table("sandbox") {
        let on = |key| table.flag(key) || !table.has(key);
        (settings.seccomp, settings.landlock) = (on("seccomp"), on("landlock"));
        let absolute = |text: &str| match Path::new(text).is_absolute() {
            true => Ok(PathBuf::from(text)),
            false => Err("is no directory; write its whole path, from / on"),
        };
        let allow = table.texts("allow").unwrap_or_default();
        settings.allow = allow.iter().filter_map(|one| table.take(one, absolute)).map(|one| one.value).collect();
        table.finish();
    }
    settings
}

fn isns(table: Table<'_>, findings: &Findings<'_>) -> Option<Isns> {
    let server = table.needed("server", "\"isns.example.com\"").and_then(|server| table.take(&server, isns::server));
    let entity = table.understood("entity", isns::entity).map(|one| one.value);
    let period = table.number("period", isns::PERIODS).map_or(isns::PERIOD, |one| one.value);
    let port = table.number("notify-port", 0..=u16::MAX).map(|one| one.value);
    let off = |text: &str| if text == "off" { Ok(()) } else { Err("is no way; write \"off\", or notify-port = 3206") };
    let notify = match table.understood("notify", off) {
        Some(off) if port.is_some() => {
            findings.error(off.at, "there is a `notify-port`, and no use for it", "take one of them out");
            None
        }
        Some(_) => None,
        None => Some(port.unwrap_or(0)),
    };
    let enabled = !table.has("enabled") || table.flag("enabled");
    table.finish();
    let server = server.filter(|_| enabled)?.value;
    Some(Isns { settings: IsnsSettings { server, entity, period: period.into() }, notify })
}

fn limits(root: &Table<'_>, findings: &Findings<'_>) -> Limits {
    let mut limits = Limits::default();
    for (name, value) in root.table("limits").iter().flat_map(Table::settings) {
        if Bound::find(&name.value).is_none() {
            let help = suggest(&name.value, BOUNDS.iter().map(|bound| bound.name));
            findings.error(name.at, format!("there is no limit `{}`", name.value), help);
        } else if let Err(error) = limits.set(&name.value, &value.value) {
            findings.error(value.at, error, "docs/limits.md says what each is");
        }
    }
    limits
}

/// The addresses, and the groups that they are of.
fn portals(root: &Table<'_>, findings: &Findings<'_>) -> (Vec<Listen>, Vec<u16>) {
    let (mut listens, mut groups): (Vec<Listen>, Vec<u16>) = (Vec::new(), Vec::new());
    let tables = root.tables("portal");
    if tables.is_empty() && !root.has("portal") {
        let address = ([127, 0, 0, 1], target::ISCSI_PORT).into();
        let said = "the portal that is meant where there is no [[portal]]".to_owned();
        return (vec![Listen { address, group: GROUP, advertise: None, said }], vec![GROUP]);
    }
    for table in tables {
        let listen = table.needed("listen", "\"192.0.2.7:3260\"");
        let group = table.number("group", 1..=u16::MAX).map_or(GROUP, |one| one.value);
        if !groups.contains(&group) {
            groups.push(group);
        }
        if let Some(listen) = listen
            && let Some(addresses) = table.take(&listen, portals::portal)
        {
            let port = addresses.value.first().map(|address| address.port()).filter(|port| *port != 0);
            let port = port.unwrap_or(target::ISCSI_PORT);
            let advertise = table.understood("advertise", |text| HostPort::parse(text, port)).map(|one| one.value);
            for address in addresses.value {
                if address.port() != 0 && listens.iter().any(|other| other.address == address) {
                    findings.error(listen.at.clone(), format!("{address} is there twice"), "take one of them out");
                }
                findings.look_at(listen.at.clone(), Look::Address(address));
                let said = format!("{}: listen = {:?}", findings.place(listen.at.start), listen.value);
                listens.push(Listen { address, group, advertise: advertise.clone(), said });
            }
        } else {
            table.has("advertise");
        }
        table.finish();
    }
    (listens, groups)
}

fn groups(root: &Table<'_>, numbers: &[u16], findings: &Findings<'_>) -> Vec<GroupSettings> {
    let mut groups: Vec<_> = numbers.iter().map(|number| GroupSettings::new(*number)).collect();
    let mut told: Vec<u16> = Vec::new();
    for table in root.tables("group") {
        let number = table.number("number", 1..=u16::MAX);
        if !table.has("number") {
            findings.error(table.at.clone(), "the group has no `number`", "add number = 1");
        }
        let named = |text: &str| {
            let names = AccessState::ALL.map(AccessState::name);
            AccessState::from_name(text).ok_or_else(|| format!("is no state; {}", suggest(text, names)))
        };
        let state = table.understood("state", named);
        let preferred = table.flag("preferred");
        if let Some(number) = number {
            if told.contains(&number.value) {
                findings.error(number.at.clone(), format!("group {} is there twice", number.value), "join the two");
            }
            told.push(number.value);
            match groups.iter_mut().find(|group| group.number == number.value) {
                Some(group) => {
                    group.state = state.map_or(group.state, |one| one.value);
                    group.preferred = preferred;
                }
                None => {
                    let help = format!("give a portal group = {}", number.value);
                    findings.error(number.at, format!("no portal is of group {}", number.value), help);
                }
            }
        }
        table.finish();
    }
    groups
}

fn algorithm(text: &str) -> Result<Algorithm, String> {
    let names: Vec<_> = Algorithm::ALL.iter().map(|algorithm| algorithm.name()).collect();
    Algorithm::from_name(text).ok_or_else(|| format!("is no algorithm of CHAP; {}", suggest(text, names)))
}

fn algorithms(table: &Table<'_>, findings: &Findings<'_>) -> Option<Vec<Algorithm>> {
    let said = table.texts("algorithms")?;
    if said.is_empty() {
        findings.error(table.place("algorithms"), "nobody could log in without an algorithm", "name one");
    }
    Some(said.iter().filter_map(|one| table.take(one, algorithm)).map(|one| one.value).collect())
}

fn discovery<'a>(table: Table<'a>, accounts: &Accounts<'a>, findings: &Findings<'a>) -> Option<Discovery> {
    let open = table.flag("open");
    let said = table.texts("accounts");
    let Wanted { accounts, own } = accounts.chap(&table, None);
    if open && accounts.is_some() {
        let help = "keep open = true, or the accounts";
        findings.error(table.place("open"), "discovery is open and asks for accounts", help);
    }
    if said.is_some_and(|said| said.is_empty()) {
        let help = "to ask for none, write open = true";
        findings.error(table.place("accounts"), "nobody could log in to discover", help);
    }
    table.finish();
    match accounts {
        _ if open => Some(Discovery::Open),
        Some(accounts) => Some(Discovery::Accounts { accounts: accounts.into(), own }),
        None => None,
    }
}

/// What discovery shows of us where nothing is said: the one account that all targets show.
fn common(targets: &[TargetPlan]) -> Option<iscsi::auth::Account> {
    let rules = targets.iter().flat_map(|target| &target.rules);
    let mut own = rules.filter_map(|plan| plan.rule.chap.as_ref()).map(|chap| &chap.own);
    let first = own.next()?;
    own.all(|other| other == first).then(|| first.clone()).flatten()
}

fn targets<'a>(
    root: &Table<'a>,
    groups: &[GroupSettings],
    accounts: &Accounts<'a>,
    findings: &'a Findings<'a>,
    path: Option<&Path>,
) -> Vec<TargetPlan> {
    let mut targets: Vec<TargetPlan> = Vec::new();
    let mut names = std::collections::HashSet::new();
    let tables = root.tables("target");
    for table in tables {
        let said = table.needed("name", "\"iqn.2026-11.com.example:disk\"");
        let name = said.as_ref().and_then(|name| table.take(name, Name::parse));
        if let Some(name) = &name
            && !names.insert(name.value.clone())
        {
            findings.error(name.at.clone(), format!("there are two targets {}", name.value), "rename one of them");
        }
        let tid = table.wide_number("tid", 1..=MAXIMUM_TID);
        if let Some(tid) = &tid
            && targets.iter().any(|target| target.tid == Some(tid.value))
        {
            let what = format!("another target has the tid {} already", tid.value);
            findings.error(tid.at.clone(), what, "give it another number, or leave tid out");
        }
        let tid = tid.map(|tid| tid.value);
        let offline = table.has("online") && !table.flag("online");
        let alias = table.understood("alias", alias).map(|one| one.value);
        let at_groups = groups_of(&table, groups, findings);
        let disks = luns::read(&table, findings, path);
        let shown = said.map_or_else(|| "the target".to_owned(), |name| name.value);
        let rules = rules::read(&table, &shown, &disks, accounts, findings);
        table.finish();
        if let Some(name) = name {
            targets.push(TargetPlan { name: name.value, tid, offline, alias, groups: at_groups, disks, rules });
        }
    }
    targets
}

fn alias(text: &str) -> Result<String, &'static str> {
    match text.len() <= MAXIMUM_ALIAS && !text.contains(char::is_control) {
        true => Ok(text.to_owned()),
        false => Err("is no alias; use a line of at most 255 bytes"),
    }
}

fn groups_of(table: &Table<'_>, groups: &[GroupSettings], findings: &Findings<'_>) -> Vec<u16> {
    let all = || groups.iter().map(|group| group.number).collect();
    let Some(said) = table.numbers("groups", 1..=u16::MAX) else { return all() };
    for number in said.iter().filter(|number| !groups.iter().any(|group| group.number == number.value)) {
        let help = there_are(groups.iter().map(|group| group.number));
        findings.error(number.at.clone(), format!("no portal is of group {}", number.value), help);
    }
    if said.is_empty() {
        findings.error(table.place("groups"), "nobody could reach the target", "leave `groups` out for all of them");
    }
    said.into_iter().map(|number| number.value).collect()
}

#[cfg(test)]
pub(super) mod tests;
