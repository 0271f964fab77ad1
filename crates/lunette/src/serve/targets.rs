//! From a configuration and open units to targets, and how they come to stand behind the door.

use super::administrator::ServedTarget;
use super::isns;
use super::units::{self, Unit};
use crate::configuration::{Configuration, TargetPlan};
use lun::TargetPortGroups;
use std::sync::Arc;
use target::{Access, Isns, Limits, Notified, Portal, Rule, Target, Targets};

/// The portal groups of a target: those that it has, where they are the same; otherwise others, of which each keeps the
/// state that it has come to.
pub fn groups(
    plan: &TargetPlan,
    configuration: &Configuration,
    old: Option<&Arc<TargetPortGroups>>,
) -> Arc<TargetPortGroups> {
    let own = configuration.groups.iter().copied().filter(|group| plan.groups.contains(&group.number));
    let (settings, management) = (own.collect::<Vec<_>>(), configuration.access_management);
    match old {
        Some(old) if old.is_like(&settings, management) => Arc::clone(old),
        Some(old) => old.succeeded_by(&settings, management),
        None => TargetPortGroups::new(&settings, management),
    }
}

/// The target of a plan, with its units.
pub fn target(plan: &TargetPlan, units: &[Unit], groups: &Arc<TargetPortGroups>, portals: &[Portal]) -> Target {
    groups.serve(units.iter().map(|unit| &unit.unit));
    // Most rules show all of it: they share one map.
    let whole = Arc::new(units::map(units, None, false));
    let rule = |plan: &crate::configuration::RulePlan| {
        let units = match (&plan.units, plan.read_only) {
            (None, false) => Arc::clone(&whole),
            (shown, read_only) => Arc::new(units::map(units, shown.as_deref(), read_only)),
        };
        Arc::new(Rule { units, ..plan.rule.clone() })
    };
    Target {
        name: plan.name.as_str().to_owned(),
        alias: plan.alias.clone(),
        offline: plan.offline,
        access: Access { rules: plan.rules.iter().map(rule).collect() },
        portals: portals.iter().filter(|portal| plan.groups.contains(&portal.group)).cloned().collect(),
        groups: Arc::clone(groups),
        units: whole,
    }
}

/// The states of groups that are configured otherwise than before. Those that stay as they were configured stay
/// as they are, whoever has changed them since.
pub fn states(before: &Configuration, after: &Configuration, targets: &[ServedTarget]) {
    let changed: Vec<_> = after
        .groups
        .iter()
        .filter(|group| {
            let old = before.groups.iter().find(|old| old.number == group.number);
            old.is_some_and(|old| old.state != group.state)
        })
        .map(|group| (group.number, group.state))
        .collect();
    if changed.is_empty() {
        return;
    }
    for target in targets {
        let units: Vec<_> = target.units.iter().map(|unit| Arc::clone(&unit.unit)).collect();
        target.groups.change(&changed, &units);
    }
}

/// All targets, as the door serves them.
pub fn all(configuration: &Configuration, served: &[ServedTarget], portals: &[Portal]) -> Targets {
    let plans = configuration.targets.iter().zip(served);
    let all = plans.map(|(plan, own)| target(plan, &own.units, &own.groups, portals)).collect();
    Targets::new(all, configuration.discovery.clone(), configuration.algorithms.clone())
}

/// Begins to tell an iSNS server of the targets.
pub fn start_isns(
    isns: &isns::Isns,
    targets: &Targets,
    notified: Vec<Notified>,
    limits: &Arc<Limits>,
) -> std::io::Result<Isns> {
    Isns::start(isns.settings.clone(), targets.all().to_vec(), notified, Arc::clone(limits))
}
