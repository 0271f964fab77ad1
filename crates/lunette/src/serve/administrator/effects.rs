//! Whom a change disturbs: for each session that is there, what it has now and what it would have.

use super::difference::{Difference, Source, who};
use super::plan::{Disturbed, Step, Verb};
use crate::configuration::{Configuration, RulePlan, ShownUnit, TargetPlan};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use target::{Access, SessionOverview};

/// What is to be known of a session.
#[derive(Debug, Clone)]
pub struct Seen {
    /// How plans name it.
    pub session: Disturbed,
    /// Its portal group.
    pub group: u16,
    /// The account that it has shown.
    pub account: Option<String>,
    /// Where it comes from.
    pub address: IpAddr,
    /// The addresses of ours that its connections have reached.
    pub reached: Vec<SocketAddr>,
}

impl Seen {
    /// As its worker tells of it; nothing of one that has no connection just now and so comes from nowhere.
    pub fn of(overview: &SessionOverview) -> Option<Seen> {
        let first = overview.connections.first()?;
        Some(Seen {
            session: Disturbed {
                initiator: overview.initiator.clone(),
                peer: first.peer.to_string(),
                target: overview.target.clone(),
                tsih: overview.tsih,
            },
            group: overview.portal_group,
            account: overview.account.clone(),
            address: first.peer.ip().to_canonical(),
            reached: overview.connections.iter().map(|connection| connection.local).collect(),
        })
    }

    /// The rule of this target by which it is there.
    pub fn rule<'r>(&self, target: &'r TargetPlan) -> Option<&'r RulePlan> {
        let rules: Vec<_> = target.rules.iter().map(|plan| Arc::new(plan.rule.clone())).collect();
        let access = Access { rules };
        let found = access.decide(&self.session.initiator, self.address).ok()?;
        let at = access.rules.iter().position(|rule| Arc::ptr_eq(rule, found))?;
        target.rules.get(at)
    }

    /// Whether it could log in by this rule with the account that it has shown.
    fn is_taken_by(&self, plan: &RulePlan) -> bool {
        match (&plan.rule.chap, &self.account) {
            // That somebody has to show an account now is for the next login.
            (None, _) | (_, None) => true,
            (Some(chap), Some(user)) => chap.accounts.iter().any(|account| account.user == *user),
        }
    }
}

/// Whether an address of ours that was reached belongs to this portal.
pub fn reaches(portal: SocketAddr, reached: SocketAddr) -> bool {
    let (own, other) = (portal.ip(), reached.ip().to_canonical());
    portal.port() == reached.port()
        && (own.to_canonical() == other || own.is_unspecified() && (own.is_ipv6() || other.is_ipv4()))
}

/// Enters into the steps whom they disturb.
pub fn enter(running: &Configuration, wanted: &Configuration, difference: &mut Difference, sessions: &[Seen]) {
    for seen in sessions {
        let name = &seen.session.target;
        let Some(old) = running.targets.iter().find(|target| target.name.as_str() == name) else { continue };
        let steps = &mut difference.steps;
        let Some(new) = wanted.targets.iter().find(|target| target.name.as_str() == name) else {
            note(steps, seen, &|step| step.kind == "target" && step.name == *name);
            continue;
        };
        // Portals: those that are gone, or of another group.
        let at_portal = |step: &Step| {
            let address = step.name.parse::<SocketAddr>();
            step.kind == "portal"
                && step.takes_away
                && address.is_ok_and(|portal| seen.reached.iter().any(|reached| reaches(portal, *reached)))
        };
        if note(steps, seen, &at_portal) {
            continue;
        }
        let of_target = |kind: &'static str| {
            move |step: &Step| step.kind == kind && (step.target.as_deref() == Some(name) || step.name == *name)
        };
        if !new.groups.contains(&seen.group) {
            note(steps, seen, &of_target("target"));
            continue;
        }
        let (Some(before), after) = (seen.rule(old), seen.rule(new)) else { continue };
        let label = who(before);
        let own = |step: &Step| step.kind == "rule" && step.target.as_deref() == Some(name) && step.name == label;
        let any = |step: &Step| {
            step.kind.starts_with("rule") && step.target.as_deref() == Some(name) || step.kind == "account"
        };
        let Some(after) = after.filter(|after| seen.is_taken_by(after)) else {
            if !note(steps, seen, &own) {
                note(steps, seen, &any);
            }
            continue;
        };
        units(seen, (running, old, before), (wanted, new, after), difference, &label);
    }
}

/// Units that a session would lose, or see otherwise.
fn units(
    seen: &Seen,
    (running, old, before): (&Configuration, &TargetPlan, &RulePlan),
    (wanted, new, after): (&Configuration, &TargetPlan, &RulePlan),
    difference: &mut Difference,
    label: &str,
) {
    let shown_after = shown(new, after);
    let at = wanted.targets.iter().position(|target| target.name == new.name);
    let sources = at.and_then(|at| difference.units.get(at)).cloned().unwrap_or_default();
    let old_at = running.targets.iter().position(|target| target.name == old.name);
    for unit in shown(old, before) {
        let disk = old.disks.iter().position(|disk| disk.number == unit.number);
        let source = old_at.zip(disk).map(|(target, disk)| Source::Kept(target, disk));
        // Which number the unit has now, if it is there at all.
        let now = sources.iter().position(|other| Some(*other) == source);
        let now = now.and_then(|at| new.disks.get(at)).map(|disk| disk.number);
        let same = shown_after.iter().find(|other| Some(other.number) == now && other.shown_as == unit.shown_as);
        let number = unit.number.to_string();
        let name = new.name.as_str();
        let of_unit = |step: &Step| {
            step.kind == "lun"
                && (step.target.as_deref() == Some(name)
                    && (step.name == number || now.map(|now| now.to_string()) == Some(step.name.clone())))
        };
        let steps = &mut difference.steps;
        match same {
            Some(same) => {
                // The same unit: what happens to it is seen.
                note(steps, seen, &|step| {
                    of_unit(step) && matches!(step.verb, Verb::Resize | Verb::Change) && harms(step)
                });
                if same.read_only && !unit.read_only {
                    note(steps, seen, &|step| {
                        step.kind == "rule" && step.target.as_deref() == Some(name) && step.name == label
                    });
                }
            }
            None => {
                let gone = |step: &Step| of_unit(step) && step.takes_away;
                if !note(steps, seen, &gone) {
                    let rules = |step: &Step| step.kind.starts_with("rule") && step.target.as_deref() == Some(name);
                    note(steps, seen, &rules);
                }
            }
        }
    }
}

/// Whether a step that leaves a unit there is felt by those who use it.
fn harms(step: &Step) -> bool {
    step.takes_away || ["offline", "read-only"].iter().any(|word| step.details.split(", ").any(|part| part == *word))
}

/// The units of a target as a rule shows them.
fn shown(target: &TargetPlan, rule: &RulePlan) -> Vec<ShownUnit> {
    let all = || {
        let one = |number: u16| ShownUnit { number, shown_as: number, read_only: rule.read_only };
        target.disks.iter().map(|disk| one(disk.number)).collect()
    };
    match &rule.units {
        None => all(),
        Some(units) => {
            units.iter().map(|unit| ShownUnit { read_only: unit.read_only || rule.read_only, ..*unit }).collect()
        }
    }
}

/// Enters a session into all steps that are meant. Tells whether there was one.
fn note(steps: &mut [Step], seen: &Seen, is: &dyn Fn(&Step) -> bool) -> bool {
    let mut any = false;
    for step in steps.iter_mut().filter(|step| is(step)) {
        any = true;
        if !step.disturbs.contains(&seen.session) {
            step.disturbs.push(seen.session.clone());
        }
    }
    any
}
