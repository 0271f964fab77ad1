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

/// The groups of these targets hear which units they are of, from now on.
pub fn tell_groups(targets: &[ServedTarget]) {
    targets.iter().for_each(|target| target.groups.serve(target.units.iter().map(|unit| &unit.unit)));
}

/// All targets, as the door is to serve them. Nothing that runs is touched.
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::configuration::Disk;
    use lun::GroupSettings;
    use scsi::inquiry::TargetPortGroupSupport;

    #[test]
    fn a_target_that_may_still_be_refused_leaves_the_groups_that_run_alone() {
        let disk = Disk { number: 1, ..Disk::from_address("ram:1M").unwrap().0 };
        let plan = TargetPlan {
            tid: None,
            offline: false,
            name: iscsi::name::Name::parse("iqn.2026-01.org.example:disk").unwrap(),
            alias: None,
            groups: vec![1],
            disks: vec![disk],
            rules: Vec::new(),
        };
        let open = || units::open(std::slice::from_ref(&plan), None).unwrap().remove(0);
        let (runs, wanted) = (open(), open());
        let groups = TargetPortGroups::new(&[GroupSettings::new(1)], TargetPortGroupSupport::Both);
        let served = |units: &[Unit]| ServedTarget {
            name: plan.name.as_str().to_owned(),
            groups: Arc::clone(&groups),
            units: units.to_vec(),
        };
        // The groups hold what they were told of weakly.
        let told = |units: &[Unit]| Arc::weak_count(&units[0].unit);
        let nobody = told(&wanted);
        tell_groups(&[served(&runs)]);
        drop(target(&plan, &wanted, &groups, &[]));
        assert_eq!((told(&runs), told(&wanted)), (nobody + 1, nobody));
        tell_groups(&[served(&wanted)]);
        assert_eq!((told(&runs), told(&wanted)), (nobody, nobody + 1));
    }
}
