//! What is different between the configuration that runs and one that is wanted. Nothing is looked at here but these
//! two.

use super::plan::{Step, Stuck, Verb, size};
use crate::configuration::edit::KEPT;
use crate::configuration::{Configuration, Disk, Listen, RulePlan, ShownUnit, TargetPlan, is_memory, pace};
use crate::remote;
use crate::serve::isns::Isns;
use iscsi::auth::Algorithm;
use lun::GroupSettings;
use std::net::SocketAddr;
use target::{BOUNDS, Discovery, Initiators};

/// The difference: in lines, and as what is to be done.
#[derive(Debug, Default)]
pub struct Difference {
    /// In words.
    pub steps: Vec<Step>,
    /// What cannot be done.
    pub stuck: Vec<Stuck>,
    /// For each portal that is wanted, which of those that run it is.
    pub portals: Vec<Option<usize>>,
    /// For each disk of each target that is wanted, where its unit comes from.
    pub units: Vec<Vec<Source>>,
    /// Whether the iSNS server, or what it is asked, is another.
    pub isns: bool,
}

/// Where the unit of a disk comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// It is there: the disk of this place of the target of this place.
    Kept(usize, usize),
    /// It is opened.
    Opened,
}

/// What is between the two. `bound` says at which addresses the portals that run were bound.
pub fn between(running: &Configuration, bound: &[SocketAddr], wanted: &Configuration) -> Difference {
    let mut difference = Difference::default();
    daemon(running, wanted, &mut difference);
    portals(running, bound, wanted, &mut difference);
    groups(&running.groups, &wanted.groups, &mut difference.steps);
    accounts(running, wanted, &mut difference.steps);
    if running.discovery != wanted.discovery {
        let details = format!("{} → {}", discovery(&running.discovery), discovery(&wanted.discovery));
        difference.steps.push(Step::new(Verb::Change, "discovery", None, "").with(details));
    }
    targets(running, wanted, &mut difference);
    isns(running.isns.as_ref(), wanted.isns.as_ref(), &mut difference);
    difference
}

/// What belongs to the process.
fn daemon(running: &Configuration, wanted: &Configuration, difference: &mut Difference) {
    let mut stuck = |key: &str, old: String, new: String| {
        if old != new {
            difference.stuck.push(Stuck::new(key, format!("{old} → {new}")));
        }
    };
    let threads = |threads: Option<u16>| threads.map_or("one a processor".to_owned(), |count| count.to_string());
    let path = |path: &Option<std::path::PathBuf>| match path {
        Some(path) => path.display().to_string(),
        None => "its usual place".to_owned(),
    };
    stuck("[daemon] threads", threads(running.threads), threads(wanted.threads));
    stuck("[daemon] io-engine", format!("{:?}", running.io_engine), format!("{:?}", wanted.io_engine));
    stuck("[daemon] state-dir", path(&running.state_dir), path(&wanted.state_dir));
    stuck("[daemon] control", path(&running.control), path(&wanted.control));
    stuck("[daemon] access-states", path(&running.access_states), path(&wanted.access_states));
    stuck("the sandbox ([sandbox], user and group)", format!("{:?}", running.sandbox), format!("{:?}", wanted.sandbox));
    let remote = |of: &Configuration| match &of.administration {
        Some(remote) => {
            let [certificate, key, token] =
                [&remote.certificate, &remote.key, &remote.token_file].map(|path| path.display().to_string());
            format!("{} with {certificate}, {key}, {token}", remote.listen)
        }
        None => "none".to_owned(),
    };
    stuck("[administration]", remote(running), remote(wanted));
    stuck("[log] format", format!("{:?}", running.log_format), format!("{:?}", wanted.log_format));
    let metrics = |address: Option<SocketAddr>| address.map_or("nowhere".to_owned(), |address| address.to_string());
    stuck("[metrics] listen", metrics(running.metrics), metrics(wanted.metrics));
    for bound in BOUNDS {
        let [old, new] = [&running.limits, &wanted.limits].map(|limits| bound.text(bound.value(limits)));
        stuck(&format!("[limits] {}", bound.name), old, new);
    }
    if running.access_management != wanted.access_management {
        let said = |of: &Configuration| format!("{:?}", of.access_management).to_lowercase();
        let details = format!("{} → {}", said(running), said(wanted));
        difference.steps.push(Step::new(Verb::Change, "access-management", None, "").with(details));
    }
    if running.slow != wanted.slow {
        let said = |time: Option<std::time::Duration>| {
            time.map_or("off".to_owned(), |time| format!("{} ms", time.as_millis()))
        };
        let step = Step::new(Verb::Change, "slow commands", None, "");
        difference.steps.push(step.with(format!("{} → {}", said(running.slow), said(wanted.slow))));
    }
    if running.log_level != wanted.log_level {
        let step = Step::new(Verb::Change, "log level", None, "");
        difference.steps.push(step.with(format!("{} → {}", running.log_level, wanted.log_level)));
    }
    if running.algorithms != wanted.algorithms {
        let names = |all: &[Algorithm]| all.iter().map(|one| one.name()).collect::<Vec<_>>().join(", ");
        let details = format!("{} → {}", names(&running.algorithms), names(&wanted.algorithms));
        difference.steps.push(Step::new(Verb::Change, "CHAP algorithms", None, "").with(details));
    }
}

fn portals(running: &Configuration, bound: &[SocketAddr], wanted: &Configuration, difference: &mut Difference) {
    let mut left: Vec<(usize, &Listen, SocketAddr)> = running
        .listens
        .iter()
        .enumerate()
        .map(|(at, listen)| (at, listen, bound.get(at).copied().unwrap_or(listen.address)))
        .collect();
    let (mut added, mut fresh) = (Vec::new(), Vec::new());
    for listen in &wanted.listens {
        // A port that the system chose is as good as the same said again.
        let same = |(_, old, at): &(usize, &Listen, SocketAddr)| {
            *at == listen.address || (listen.address.port() == 0 && old.address == listen.address)
        };
        let found = left.iter().position(same).map(|at| left.remove(at));
        difference.portals.push(found.map(|(at, _, _)| at));
        let Some((_, old, at)) = found else {
            let details = match &listen.advertise {
                Some(advertised) => format!("group {}, as {advertised}", listen.group),
                None => format!("group {}", listen.group),
            };
            added.push(Step::new(Verb::Add, "portal", None, listen.address).with(details));
            fresh.push(listen.address);
            continue;
        };
        if old.group != listen.group {
            let step = Step::new(Verb::Change, "portal", None, at);
            added.push(step.with(format!("group {} → {}", old.group, listen.group)).taking_away());
        } else if old.advertise != listen.advertise {
            let shown = |of: &Listen| of.advertise.as_ref().map_or("nothing".to_owned(), ToString::to_string);
            let details = format!("advertised as {} → {}", shown(old), shown(listen));
            added.push(Step::new(Verb::Change, "portal", None, at).with(details));
        }
    }
    // The new one is bound while the old one listens: until then nothing is lost.
    for ((_, _, old), new) in left.iter().flat_map(|old| fresh.iter().map(move |new| (old, *new))) {
        let alone = |address: &SocketAddr| {
            address.is_ipv4()
                || !running
                    .listens
                    .iter()
                    .any(|other| other.address.is_ipv4() && other.address.port() == address.port())
        };
        let everywhere = |one: &SocketAddr, other: &SocketAddr| {
            one.ip().is_unspecified() && (one.is_ipv4() == other.is_ipv4() || one.is_ipv6() && alone(one))
        };
        if old.port() == new.port() && (everywhere(old, &new) || everywhere(&new, old)) {
            difference
                .stuck
                .push(Stuck::new(format!("portal {old}"), format!("{old} → {new}, which is a part of the other")));
        }
    }
    let removed = left.into_iter().map(|(_, _, at)| Step::new(Verb::Remove, "portal", None, at).taking_away());
    difference.steps.extend(added);
    difference.steps.extend(removed);
}

fn groups(running: &[GroupSettings], wanted: &[GroupSettings], steps: &mut Vec<Step>) {
    let find = |all: &[GroupSettings], number: u16| all.iter().find(|group| group.number == number).copied();
    for group in wanted {
        match find(running, group.number) {
            Some(old) if old != *group => {
                let said = |group: &GroupSettings| {
                    format!("{}{}", group.state.name(), if group.preferred { ", preferred" } else { "" })
                };
                let details = format!("{} → {}", said(&old), said(group));
                steps.push(Step::new(Verb::Change, "group", None, group.number).with(details));
            }
            _ => {}
        }
    }
}

fn accounts(running: &Configuration, wanted: &Configuration, steps: &mut Vec<Step>) {
    for (name, account) in &wanted.accounts {
        match running.accounts.iter().find(|(other, _)| other == name) {
            None => steps.push(Step::new(Verb::Add, "account", None, name)),
            Some((_, old)) if old == account => {}
            Some((_, old)) if old.secret == account.secret => {
                let details = format!("user {} → {}", old.user, account.user);
                steps.push(Step::new(Verb::Change, "account", None, name).with(details));
            }
            Some(_) => steps.push(Step::new(Verb::Change, "account", None, name).with("another secret")),
        }
    }
    let gone = running.accounts.iter().filter(|(name, _)| !wanted.accounts.iter().any(|(other, _)| other == name));
    steps.extend(gone.map(|(name, _)| Step::new(Verb::Remove, "account", None, name)));
}

fn discovery(of: &Discovery) -> String {
    match of {
        Discovery::Open => "open".to_owned(),
        Discovery::Accounts { accounts, .. } => {
            let users: Vec<_> = accounts.iter().map(|account| account.user.as_str()).collect();
            format!("accounts {}", users.join(", "))
        }
        Discovery::AsTargets { .. } => "as the targets".to_owned(),
    }
}

fn isns(running: Option<&Isns>, wanted: Option<&Isns>, difference: &mut Difference) {
    difference.isns = running != wanted;
    let step = match (running, wanted) {
        (None, Some(new)) => Step::new(Verb::Add, "iSNS server", None, &new.settings.server),
        (Some(old), None) => Step::new(Verb::Remove, "iSNS server", None, &old.settings.server),
        (Some(old), Some(new)) if old != new => Step::new(Verb::Change, "iSNS server", None, &new.settings.server),
        _ => return,
    };
    difference.steps.push(step);
}

fn targets(running: &Configuration, wanted: &Configuration, difference: &mut Difference) {
    difference.units = sources(running, wanted);
    for (at, target) in wanted.targets.iter().enumerate() {
        let name = target.name.as_str();
        match running.targets.iter().find(|old| old.name == target.name) {
            None => {
                difference.steps.push(Step::new(Verb::Add, "target", None, name));
                difference.steps.extend(target.rules.iter().map(|rule| added_rule(name, rule)));
            }
            Some(old) => {
                let mut details = Vec::new();
                if old.offline != target.offline {
                    details.push(if target.offline { "takes no logins" } else { "takes logins" }.to_owned());
                }
                if old.tid != target.tid {
                    let said = |of: &TargetPlan| of.tid.map_or_else(|| "none".to_owned(), |tid| tid.to_string());
                    details.push(format!("tid {} → {}", said(old), said(target)));
                }
                if old.alias != target.alias {
                    let said = |of: &TargetPlan| of.alias.clone().unwrap_or_else(|| "none".to_owned());
                    details.push(format!("alias {} → {}", said(old), said(target)));
                }
                let fewer = old.groups.iter().any(|group| !target.groups.contains(group));
                if fewer || old.groups.len() != target.groups.len() {
                    let said = |groups: &[u16]| groups.iter().map(u16::to_string).collect::<Vec<_>>().join(", ");
                    details.push(format!("groups {} → {}", said(&old.groups), said(&target.groups)));
                }
                if !details.is_empty() {
                    let step = Step::new(Verb::Change, "target", None, name).with(details.join(", "));
                    difference.steps.push(if fewer { step.taking_away() } else { step });
                }
                rules(name, &old.rules, &target.rules, &mut difference.steps);
            }
        }
        for (disk, source) in target.disks.iter().zip(difference.units.get(at).cloned().unwrap_or_default()) {
            let old = match source {
                Source::Kept(target, disk) => {
                    running.targets.get(target).and_then(|old| Some((old, old.disks.get(disk)?)))
                }
                Source::Opened => None,
            };
            match old {
                None => {
                    difference.steps.push(Step::new(Verb::Add, "lun", Some(name), disk.number).with(described(disk)))
                }
                Some((old_target, old)) => {
                    if old_target.name != target.name || old.number != disk.number {
                        let details = format!("was LUN {} of {}, {}", old.number, old_target.name, public(old));
                        let step = Step::new(Verb::Move, "lun", Some(name), disk.number).with(details);
                        difference.steps.push(step.taking_away());
                    }
                    changed_disk(name, old, disk, difference);
                }
            }
        }
    }
    let kept = |target: usize, disk: usize| {
        difference.units.iter().flatten().any(|source| *source == Source::Kept(target, disk))
    };
    let mut removed = Vec::new();
    for (at, old) in running.targets.iter().enumerate() {
        let name = old.name.as_str();
        let stays = wanted.targets.iter().any(|target| target.name == old.name);
        // Where a whole target goes its disks need no lines of their own.
        if !stays {
            removed.push(Step::new(Verb::Remove, "target", None, name).taking_away());
            continue;
        }
        for (_, disk) in old.disks.iter().enumerate().filter(|(disk, _)| !kept(at, *disk)) {
            removed.push(Step::new(Verb::Remove, "lun", Some(name), disk.number).with(public(disk)).taking_away());
        }
    }
    difference.steps.extend(removed);
}

/// Where the units of all disks that are wanted come from: those that are there stay what they are.
fn sources(running: &Configuration, wanted: &Configuration) -> Vec<Vec<Source>> {
    let mut sources: Vec<Vec<Source>> =
        wanted.targets.iter().map(|target| vec![Source::Opened; target.disks.len()]).collect();
    let mut left: Vec<(usize, usize)> = Vec::new();
    for (target, old) in running.targets.iter().enumerate() {
        left.extend((0..old.disks.len()).map(|disk| (target, disk)));
    }
    // First those that are where they were, then those that have moved.
    for moved in [false, true] {
        for (target, own) in wanted.targets.iter().zip(&mut sources) {
            for (disk, source) in target.disks.iter().zip(own).filter(|(_, source)| **source == Source::Opened) {
                let fits = |(at, number): &(usize, usize)| {
                    let Some(old_target) = running.targets.get(*at) else { return false };
                    let Some(old) = old_target.disks.get(*number) else { return false };
                    let in_place = old_target.name == target.name && old.number == disk.number;
                    // Memory is nothing but its place.
                    (in_place || moved && !is_memory(&disk.address)) && same_store(old, disk)
                };
                if let Some(found) = left.iter().position(fits) {
                    let (target, disk) = left.remove(found);
                    *source = Source::Kept(target, disk);
                }
            }
        }
    }
    sources
}

/// Whether it is the same store, however it is used.
fn same_store(old: &Disk, new: &Disk) -> bool {
    match (is_memory(&old.address), is_memory(&new.address)) {
        (true, true) => memory(&old.address).0 == memory(&new.address).0,
        (false, false) => place(&old.address) == place(&new.address),
        _ => false,
    }
}

/// An address without its options.
fn place(address: &str) -> &str {
    let first = address.match_indices(',').find(|(at, _)| !address[..*at].ends_with('\\'));
    first.map_or(address, |(at, _)| &address[..at])
}

/// What kind of memory, and how much of it.
fn memory(address: &str) -> (&str, Option<u64>) {
    let (kind, rest) = address.split_once(':').unwrap_or((address, ""));
    (kind, stores::parse_size(place(rest)).ok())
}

/// Options of an address, in order.
fn options(address: &str) -> &str {
    &address[place(address).len()..]
}

/// How large a disk is to be, where that is said.
pub fn wanted_size(disk: &Disk) -> Option<u64> {
    if is_memory(&disk.address) { memory(&disk.address).1 } else { disk.size }
}

/// The address of a disk as everybody may see it.
fn public(disk: &Disk) -> String {
    remote::without_secrets(&disk.address, KEPT)
}

fn described(disk: &Disk) -> String {
    let mut parts = vec![public(disk)];
    parts.extend(disk.size.map(size));
    parts.extend(disk.read_only.then(|| "read-only".to_owned()));
    parts.extend(disk.offline.then(|| "offline".to_owned()));
    parts.join(", ")
}

fn changed_disk(target: &str, old: &Disk, new: &Disk, difference: &mut Difference) {
    let text = |text: &Option<String>| text.clone().unwrap_or_else(|| "made from its identity".to_owned());
    let mut stuck = |key: &str, old_said: String, new_said: String| {
        if old_said != new_said {
            difference.stuck.push(Stuck {
                key: format!("{key} of LUN {} of {target}", new.number),
                details: format!("{old_said} → {new_said}"),
                remedy: "take the LUN out, apply, and put it in again",
            });
        }
    };
    stuck("serial", text(&old.serial), text(&new.serial));
    stuck("vendor", text(&old.vendor), text(&new.vendor));
    stuck("product", text(&old.product), text(&new.product));
    stuck("revision", text(&old.revision), text(&new.revision));
    if old.shown != new.shown {
        stuck("what it shows", format!("{:?}", old.shown), format!("{:?}", new.shown));
    }
    stuck("removable", old.removable.to_string(), new.removable.to_string());
    stuck("type", format!("{:?}", old.device_type), format!("{:?}", new.device_type));
    let [before, after] = [old, new].map(|disk| format!("options {:?}", options(&public(disk))));
    let secret = before == after && options(&old.address) != options(&new.address);
    stuck("store", before, if secret { format!("{after} with another secret") } else { after });
    let step = |verb| Step::new(verb, "lun", Some(target), new.number);
    let (before, after) = (wanted_size(old), wanted_size(new));
    if before != after {
        let said = |bytes: Option<u64>| bytes.map_or("as large as its store".to_owned(), size);
        let resize = step(Verb::Resize).with(format!("{} → {}", said(before), said(after)));
        let smaller = before.zip(after).is_some_and(|(before, after)| after < before);
        difference.steps.push(if smaller || before.is_none() { resize.taking_away() } else { resize });
    }
    let mut details = Vec::new();
    if old.limit != new.limit {
        details.push(format!("limit {} → {}", pace(&old.limit), pace(&new.limit)));
    }
    if old.offline != new.offline {
        details.push(if new.offline { "offline" } else { "online" }.to_owned());
    }
    if old.read_only != new.read_only {
        details.push(if new.read_only { "read-only" } else { "writable" }.to_owned());
    }
    if old.write_cache != new.write_cache {
        details.push(match new.write_cache {
            Some(true) => "write cache on".to_owned(),
            Some(false) => "write cache off".to_owned(),
            None => "write cache as initiators wish".to_owned(),
        });
    }
    if !details.is_empty() {
        difference.steps.push(step(Verb::Change).with(details.join(", ")));
    }
}

/// Whom a rule is for.
pub fn who(plan: &RulePlan) -> String {
    let initiators = match &plan.rule.initiators {
        Initiators::Any => "any initiator".to_owned(),
        Initiators::Named(names) => names.iter().map(|name| name.as_str()).collect::<Vec<_>>().join(", "),
    };
    let networks: Vec<_> = plan.rule.networks.iter().map(ToString::to_string).collect();
    match networks.is_empty() {
        true => format!("for {initiators}"),
        false => format!("for {initiators} at {}", networks.join(", ")),
    }
}

fn added_rule(target: &str, rule: &RulePlan) -> Step {
    Step::new(Verb::Add, "rule", Some(target), who(rule))
}

/// Whether two rules say the same, wherever they stand.
fn same_rule(one: &RulePlan, other: &RulePlan) -> bool {
    who(one) == who(other) && differences(one, other).is_empty()
}

/// What two rules for the same say differently.
fn differences(old: &RulePlan, new: &RulePlan) -> Vec<String> {
    let mut details = Vec::new();
    if old.rule.chap != new.rule.chap {
        let users = |plan: &RulePlan| match &plan.rule.chap {
            Some(chap) => chap.accounts.iter().map(|account| account.user.as_str()).collect::<Vec<_>>().join(", "),
            None => "none".to_owned(),
        };
        let (before, after) = (users(old), users(new));
        details.push(match before == after {
            true => "accounts with other secrets".to_owned(),
            false => format!("accounts {before} → {after}"),
        });
    }
    if old.units != new.units {
        details.push(format!("LUNs {} → {}", shown(old.units.as_deref()), shown(new.units.as_deref())));
    }
    if old.read_only != new.read_only {
        details.push(if new.read_only { "read-only" } else { "writable" }.to_owned());
    }
    let (before, after) = (old.rule.limiter.rate(), new.rule.limiter.rate());
    if before != after {
        details.push(format!("limit {} → {}", pace(&before), pace(&after)));
    }
    if old.rule.target_resets != new.rule.target_resets {
        details.push(format!("target-reset {} → {}", old.rule.target_resets, new.rule.target_resets));
    }
    if old.rule.redirection != new.rule.redirection {
        let to = |plan: &RulePlan| plan.rule.redirection.as_ref().map_or("nowhere".to_owned(), |to| to.address.clone());
        details.push(format!("redirected {} → {}", to(old), to(new)));
    }
    details
}

fn shown(units: Option<&[ShownUnit]>) -> String {
    let Some(units) = units else { return "all".to_owned() };
    let one = |unit: &ShownUnit| {
        let mut text = unit.number.to_string();
        if unit.shown_as != unit.number {
            text += &format!(" as {}", unit.shown_as);
        }
        if unit.read_only {
            text += " read-only";
        }
        text
    };
    units.iter().map(one).collect::<Vec<_>>().join(", ")
}

fn rules(target: &str, old: &[RulePlan], new: &[RulePlan], steps: &mut Vec<Step>) {
    let mut left: Vec<&RulePlan> = old.iter().collect();
    // Those that say the same stay; their order is looked at below.
    let mut fresh: Vec<&RulePlan> = Vec::new();
    let mut kept: Vec<&RulePlan> = Vec::new();
    for rule in new {
        match left.iter().position(|other| same_rule(other, rule)) {
            Some(at) => kept.push(left.remove(at)),
            None => fresh.push(rule),
        }
    }
    let in_order = kept.windows(2).all(|pair| {
        let at = |rule: &RulePlan| old.iter().position(|other| std::ptr::eq(other, rule));
        matches!(pair, [one, other] if at(one) < at(other))
    });
    if !in_order {
        steps.push(Step::new(Verb::Change, "rules", Some(target), "").with("in another order").taking_away());
    }
    for rule in fresh {
        let name = who(rule);
        match left.iter().position(|other| who(other) == name) {
            Some(at) => {
                let details = differences(left.remove(at), rule).join(", ");
                steps.push(Step::new(Verb::Change, "rule", Some(target), name).with(details).taking_away());
            }
            None => steps.push(added_rule(target, rule)),
        }
    }
    steps.extend(left.into_iter().map(|rule| Step::new(Verb::Remove, "rule", Some(target), who(rule)).taking_away()));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::configuration;

    fn difference(running: &str, wanted: &str) -> Difference {
        let target = "[[target]]\nname = \"iqn.2026-11.com.example:disk\"\n[[target.rule]]\ninitiators = \"any\"\n";
        let [running, wanted] = [running, wanted].map(|said| {
            let reading = configuration::read("lunette.toml", &format!("{said}\n{target}"), None);
            reading.configuration.expect("a document")
        });
        let bound: Vec<_> = running.listens.iter().map(|listen| listen.address).collect();
        between(&running, &bound, &wanted)
    }

    #[test]
    fn a_portal_that_is_a_part_of_another_cannot_take_its_place() {
        let portal = |listen: &str| format!("[[portal]]\nlisten = \"{listen}\"\n");
        let stuck = |old: &str, new: &str| difference(&portal(old), &portal(new)).stuck.len();
        assert_eq!(stuck("0.0.0.0:3260", "127.0.0.1:3260"), 1);
        assert_eq!(stuck("127.0.0.1:3260", "0.0.0.0:3260"), 1);
        assert_eq!(stuck("[::]:3260", "127.0.0.1:3260"), 1);
        assert_eq!(stuck("0.0.0.0:3260", "127.0.0.1:3261"), 0);
        assert_eq!(stuck("0.0.0.0:3260", "[::1]:3260"), 0);
        assert_eq!(stuck("127.0.0.1:3260", "127.0.0.2:3260"), 0);
    }

    #[test]
    fn chp_18_no_step_shows_a_secret_and_another_key_is_told_of() {
        let disk = |store: &str| {
            format!(
                "[[target]]\nname = \"iqn.2026-01.org.example:b\"\n[[target.rule]]\ninitiators = \"any\"\n[[target.lun]]\nstore = \"{store}\""
            )
        };
        let far = |secret: &str| {
            disk(&format!(
                "iscsi://a%{secret}@h/iqn.2026-01.org.example:c/1,path=iscsi://a%{secret}@i/iqn.2026-01.org.example:c/1"
            ))
        };
        let [with, without] = [far("sesame-open-up"), disk("ram:1M")];
        for (old, new) in [(&without, &with), (&with, &without), (&with, &far("sesame-open-up-2"))] {
            let difference = difference(old, new);
            assert!(!difference.steps.is_empty() && !format!("{difference:?}").contains("sesame"), "{difference:?}");
        }
        let key = |key: &str| {
            format!(
                "[administration]\nlisten = \"127.0.0.1:1\"\ncertificate = \"/c\"\nkey = \"{key}\"\ntoken-file = \"/t\""
            )
        };
        assert_eq!(
            (difference(&key("/a"), &key("/a")).stuck.len(), difference(&key("/a"), &key("/b")).stuck.len()),
            (0, 1)
        );
    }
}
