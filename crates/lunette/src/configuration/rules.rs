//! Who may use a target of a configuration file: `[[target.rule]]`.

use super::accounts::{Accounts, Wanted};
use super::disk::{Disk, MAXIMUM_LUN};
use super::finding::{Findings, there_are};
use super::pace;
use super::reader::{Said, Table};
use super::{RulePlan, ShownUnit};
use iscsi::login::Status;
use iscsi::login::target::Redirection;
use lun::Limiter;
use std::sync::Arc;
use target::{HostPort, ISCSI_PORT, Initiators, NamePattern, Network, Rule};

/// What all names of initiators, and all addresses, are called.
const ANY: &str = "any";

/// The rules of a target. What it says itself holds where a rule says nothing.
pub fn read<'a>(
    target: &Table<'a>,
    name: &str,
    disks: &[Disk],
    accounts: &Accounts<'a>,
    findings: &Findings<'a>,
) -> Vec<RulePlan> {
    let around = accounts.chap(target, None);
    let moved = redirection(target);
    let tables = target.tables("rule");
    if tables.is_empty() {
        let help = "add [[target.rule]] with initiators = \"iqn…\", or \"any\"";
        findings.warn(target.at.clone(), format!("{name} has no rule and admits nobody"), help);
    }
    let mut rules: Vec<RulePlan> = Vec::new();
    let mut unconditional = None;
    for table in tables {
        let at = table.at.clone();
        if let Some(place) = &unconditional {
            let help = format!("the one at {place} fits everybody before it; change their order");
            findings.warn(at.clone(), "this rule never decides", help);
        }
        let label = format!("the rule at {}", findings.place(at.start));
        if let Some(plan) = rule(table, label, disks, &around, moved.as_ref(), accounts, findings) {
            if plan.rule.initiators == Initiators::Any && plan.rule.networks.is_empty() {
                unconditional.get_or_insert_with(|| findings.place(at.start));
            }
            rules.push(plan);
        }
    }
    rules
}

fn rule<'a>(
    table: Table<'a>,
    label: String,
    disks: &[Disk],
    around: &Wanted,
    moved: Option<&Redirection>,
    accounts: &Accounts<'a>,
    findings: &Findings<'a>,
) -> Option<RulePlan> {
    let initiators = initiators(&table, findings);
    let networks = networks(&table);
    let chap = accounts.chap(&table, Some(around)).chap();
    let redirection = redirection(&table).or_else(|| moved.cloned());
    let units = units(&table, disks, findings);
    let read_only = table.flag("read-only");
    let limit = pace::read(&table, findings);
    // Who does not have all of it shall not take it from those who do, unless it is said that he may.
    let target_resets = match table.has("target-reset") {
        true => table.flag("target-reset"),
        false => units.is_none() && !read_only,
    };
    table.finish();
    let rule = Rule {
        label,
        initiators: initiators?,
        networks: networks?,
        chap,
        units: Default::default(),
        target_resets,
        redirection,
        limiter: Arc::new(Limiter::new(limit)),
    };
    Some(RulePlan { rule, units, read_only })
}

fn initiators(table: &Table<'_>, findings: &Findings<'_>) -> Option<Initiators> {
    let Some(names) = table.texts("initiators") else {
        if !table.has("initiators") {
            let help = "add initiators = \"iqn…\", a pattern with *, or \"any\"";
            findings.error(table.at.clone(), "the rule does not say for whom it is", help);
        }
        return None;
    };
    if let [only] = &names[..]
        && only.value == ANY
    {
        return Some(Initiators::Any);
    }
    if names.is_empty() {
        findings.error(table.place("initiators"), "the rule is for nobody", "name initiators, or write \"any\"");
    }
    let said = names.len();
    let patterns: Vec<_> = names
        .iter()
        .filter_map(|name| match name.value == ANY {
            true => {
                let help = "write initiators = \"any\", or only names";
                findings.error(name.at.clone(), "`any` stands among names", help);
                None
            }
            false => table.take(name, str::parse::<NamePattern>).map(|pattern| pattern.value),
        })
        .collect();
    // A rule of fewer names than were said is another rule.
    (patterns.len() == said).then_some(Initiators::Named(patterns))
}

fn networks(table: &Table<'_>) -> Option<Vec<Network>> {
    match table.texts("addresses") {
        None => Some(Vec::new()),
        Some(said) if matches!(&said[..], [only] if only.value == ANY) => Some(Vec::new()),
        Some(said) => {
            let networks: Vec<_> =
                said.iter().filter_map(|one| table.take(one, str::parse::<Network>)).map(|one| one.value).collect();
            (networks.len() == said.len()).then_some(networks)
        }
    }
}

/// `redirect = "ADDRESS"`, or a table that says whether it is for good.
fn redirection(table: &Table<'_>) -> Option<Redirection> {
    let to = |table: &Table<'_>, address: &Said<String>, status| {
        let address = table.take(address, |text| HostPort::parse(text, ISCSI_PORT))?.value.to_string();
        Some(Redirection { status, address })
    };
    let whole = |inner: Table<'_>| {
        let status = match inner.flag("permanent") {
            true => Status::MOVED_PERMANENTLY,
            false => Status::MOVED_TEMPORARILY,
        };
        let address = inner.needed("address", "\"nas.example.com:3260\"");
        let redirection = address.and_then(|address| to(&inner, &address, status));
        inner.finish();
        redirection
    };
    table.either("redirect", |address| to(table, &address, Status::MOVED_TEMPORARILY), whole)
}

/// `luns = [1, { lun = 2, as = 0, read-only = true }]`.
fn units(table: &Table<'_>, disks: &[Disk], findings: &Findings<'_>) -> Option<Vec<ShownUnit>> {
    let known = |number: &Said<u16>| {
        let is_there = disks.iter().any(|disk| disk.number == number.value);
        if !is_there {
            let what = format!("the target has no LUN {}", number.value);
            findings.error(number.at.clone(), what, there_are(disks.iter().map(|disk| disk.number)));
        }
        is_there
    };
    let plain = |number: Said<u16>| match known(&number) {
        true => Some((number.at, ShownUnit { number: number.value, shown_as: number.value, read_only: false })),
        false => None,
    };
    let whole = |inner: Table<'_>| {
        let number = inner.number("lun", 0..=MAXIMUM_LUN);
        if !inner.has("lun") {
            findings.error(inner.at.clone(), "this does not say which LUN it means", "add lun = 1");
        }
        let shown_as = inner.number("as", 0..=MAXIMUM_LUN);
        let read_only = inner.flag("read-only");
        let at = inner.at.clone();
        inner.finish();
        let number = number.filter(|number| known(number))?;
        let shown_as = shown_as.map_or(number.value, |shown| shown.value);
        Some((at, ShownUnit { number: number.value, shown_as, read_only }))
    };
    let list = table.mixed("luns", 0..=MAXIMUM_LUN, plain, whole)?;
    let mut units: Vec<ShownUnit> = Vec::new();
    for (at, unit) in list {
        if let Some(other) = units.iter().find(|other| other.shown_as == unit.shown_as || other.number == unit.number) {
            let what = match other.number == unit.number {
                true => format!("LUN {} is shown twice", unit.number),
                false => format!("LUN {} and LUN {} are both shown as {}", other.number, unit.number, unit.shown_as),
            };
            findings.error(at, what, "each LUN has one number for an initiator");
        } else {
            units.push(unit);
        }
    }
    units.sort_by_key(|unit| unit.shown_as);
    Some(units)
}
