//! The target ports of a target, and what each group of them lets through (SPC-5 5.16.2).
//!
//! A portal group is one target port and a target port group of its own; its tag is the relative
//! identifier of the port and the number of the group. The states are the target's: all its units and
//! lanes read the same ones, the data path by one relaxed load.

use crate::LogicalUnit;
use crate::mail::{Place, Whom};
use scsi::inquiry::TargetPortGroupSupport;
use scsi::port_groups::{AccessState, Group, StateCause};
use scsi::{Condition, SenseKey};
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

/// A group as it is configured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GroupSettings {
    /// Its number, the portal group tag: 1 to 65535.
    pub number: u16,
    /// Its state at the beginning.
    pub state: AccessState,
    /// PREF: initiators may like it better than others of the same state.
    pub preferred: bool,
}

impl GroupSettings {
    /// Active, optimized and not preferred.
    pub fn new(number: u16) -> GroupSettings {
        GroupSettings { number, state: AccessState::ActiveOptimized, preferred: false }
    }
}

#[derive(Debug)]
struct Member {
    number: u16,
    preferred: bool,
    /// The state in the low four bits, what brought it in the others.
    state: AtomicU8,
}

/// The groups of a target, shared by all that serve it.
#[derive(Debug)]
pub struct TargetPortGroups {
    /// Ascending by number.
    members: Vec<Member>,
    management: TargetPortGroupSupport,
    /// Held by changes, and by reports that must not see half of one.
    changing: Mutex<()>,
    /// All units of the target, whichever of them an initiator sees.
    units: Mutex<Vec<Weak<LogicalUnit>>>,
}

impl TargetPortGroups {
    /// These groups, of which each number counts once. `management` says who changes their states: the
    /// target alone, or initiators too.
    pub fn new(settings: &[GroupSettings], management: TargetPortGroupSupport) -> Arc<TargetPortGroups> {
        let mut members: Vec<Member> = settings
            .iter()
            .map(|group| Member {
                number: group.number,
                preferred: group.preferred,
                state: AtomicU8::new(packed(group.state, StateCause::None)),
            })
            .collect();
        members.sort_by_key(|member| member.number);
        members.dedup_by_key(|member| member.number);
        Arc::new(TargetPortGroups { members, management, changing: Mutex::new(()), units: Mutex::default() })
    }

    /// Says which units the target has, so that a change by an initiator is told at those too that it does
    /// not see. The last call counts.
    pub fn serve<'a>(&self, units: impl Iterator<Item = &'a Arc<LogicalUnit>>) {
        *self.units.lock().unwrap_or_else(PoisonError::into_inner) = units.map(Arc::downgrade).collect();
    }

    /// The groups of a target that has others from now on: those that were there already keep the states that
    /// they have come to, and the units stay.
    pub fn succeeded_by(
        &self,
        settings: &[GroupSettings],
        management: TargetPortGroupSupport,
    ) -> Arc<TargetPortGroups> {
        let next = TargetPortGroups::new(settings, management);
        next.inherit(self);
        *next.units.lock().unwrap_or_else(PoisonError::into_inner) =
            self.units.lock().unwrap_or_else(PoisonError::into_inner).clone();
        next
    }

    /// Takes over the states of those groups that were there before, as they have come to be.
    pub fn inherit(&self, before: &TargetPortGroups) {
        let _whole = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        for member in &self.members {
            if let Some(before) = before.members.iter().find(|before| before.number == member.number) {
                member.state.store(before.state.load(Ordering::Relaxed), Ordering::Relaxed);
            }
        }
    }

    /// Whether an initiator is told the same of both.
    pub(crate) fn says_as(&self, other: &TargetPortGroups) -> bool {
        let told = |member: &Member| (member.number, member.preferred, member.state.load(Ordering::Relaxed) & 0x0f);
        self.management == other.management && self.members.iter().map(told).eq(other.members.iter().map(told))
    }

    /// Whether these are the same groups, to be managed in the same way, whatever their states.
    pub fn is_like(&self, settings: &[GroupSettings], management: TargetPortGroupSupport) -> bool {
        let other = TargetPortGroups::new(settings, management);
        let alike = |(one, other): (&Member, &Member)| (one.number, one.preferred) == (other.number, other.preferred);
        self.management == management
            && self.members.len() == other.members.len()
            && self.members.iter().zip(&other.members).all(alike)
    }

    /// Who changes the states.
    pub fn management(&self) -> TargetPortGroupSupport {
        self.management
    }

    /// The numbers of the groups, which are the relative identifiers of the ports; ascending.
    pub fn numbers(&self) -> Vec<u16> {
        self.members.iter().map(|member| member.number).collect()
    }

    /// Whether there is a group of this number.
    pub fn contains(&self, number: u16) -> bool {
        self.position(number).is_some()
    }

    /// All groups as they are now, as REPORT TARGET PORT GROUPS tells them.
    pub fn report(&self) -> Vec<Group> {
        let _whole = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let group = |member: &Member| {
            let packed = member.state.load(Ordering::Relaxed);
            let (number, preferred) = (member.number, member.preferred);
            Group { number, preferred, state: packed & 0x0f, cause: packed >> 4, ports: vec![number] }
        };
        self.members.iter().map(group).collect()
    }

    /// States by the target's own decision (implicit, SPC-5 5.16.2): each nexus of these units, which are
    /// all of the target, is told by a unit attention where a state has changed. Groups that do not exist
    /// are passed over. Tells whether anything has changed.
    pub fn change(&self, states: &[(u16, AccessState)], units: &[Arc<LogicalUnit>]) -> bool {
        let changed = self.set(states, StateCause::Implicit);
        if changed {
            units.iter().for_each(|unit| unit.attention(Whom::Everyone, CHANGED));
        }
        changed
    }

    /// States that an initiator asked for at `unit` from `place`: all other nexuses are told, and this one at
    /// the other units. `units` are those that it sees.
    pub(crate) fn change_for<'a>(
        &self,
        states: &[(u16, AccessState)],
        units: impl Iterator<Item = &'a Arc<LogicalUnit>>,
        unit: &Arc<LogicalUnit>,
        place: Place,
    ) {
        if !self.set(states, StateCause::Explicit) {
            return;
        }
        let seen: Vec<_> = units.cloned().collect();
        let all = self.units.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let unseen: Vec<_> = all
            .iter()
            .filter_map(Weak::upgrade)
            .filter(|unit| !seen.iter().any(|other| Arc::ptr_eq(other, unit)))
            .collect();
        for other in seen.iter().chain(&unseen) {
            let whom = if Arc::ptr_eq(other, unit) { Whom::AllBut(place) } else { Whom::Everyone };
            other.attention(whom, CHANGED);
        }
    }

    /// Sets states; what brought them is told only of groups whose state is another now.
    fn set(&self, states: &[(u16, AccessState)], cause: StateCause) -> bool {
        let _whole = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut changed = false;
        for (number, state) in states {
            let Some(member) = self.position(*number).and_then(|at| self.members.get(at)) else { continue };
            if member.state.load(Ordering::Relaxed) & 0x0f != *state as u8 {
                member.state.store(packed(*state, cause), Ordering::Relaxed);
                changed = true;
            }
        }
        changed
    }

    fn position(&self, number: u16) -> Option<usize> {
        self.members.binary_search_by_key(&number, |member| member.number).ok()
    }
}

/// ASYMMETRIC ACCESS STATE CHANGED.
const CHANGED: Condition = Condition::new(SenseKey::UnitAttention, 0x2a, 0x06);

fn packed(state: AccessState, cause: StateCause) -> u8 {
    (cause as u8) << 4 | state as u8
}

/// The target's side of a nexus (SPC-5 7.7.6, designation descriptors; RFC 7143 4.4.2).
#[derive(Debug, Clone)]
pub struct TargetPort {
    target_name: String,
    number: u16,
    groups: Arc<TargetPortGroups>,
    /// Where its group stands among them.
    at: usize,
}

impl TargetPort {
    /// The port of a target that is the portal group of this tag; `None` where there is no such group.
    pub fn new(target_name: &str, groups: &Arc<TargetPortGroups>, number: u16) -> Option<TargetPort> {
        let at = groups.position(number)?;
        Some(TargetPort { target_name: target_name.to_owned(), number, groups: Arc::clone(groups), at })
    }

    /// The one port of a target, of group 1.
    pub fn alone(target_name: &str) -> TargetPort {
        let groups = TargetPortGroups::new(&[GroupSettings::new(1)], TargetPortGroupSupport::Both);
        TargetPort { target_name: target_name.to_owned(), number: 1, groups, at: 0 }
    }

    /// The iSCSI name of the target device.
    pub fn target_name(&self) -> &str {
        &self.target_name
    }

    /// The portal group tag, which is the relative target port identifier and the number of the target
    /// port group too.
    pub fn number(&self) -> u16 {
        self.number
    }

    /// All groups of the target.
    pub fn groups(&self) -> &Arc<TargetPortGroups> {
        &self.groups
    }

    /// What keeps commands from this port now, but for those that are served in this state. One relaxed load.
    pub(crate) fn state(&self) -> AccessState {
        let packed = self.groups.members.get(self.at).map_or(0, |member| member.state.load(Ordering::Relaxed));
        // Only states that exist are stored.
        AccessState::from_code(packed & 0x0f).unwrap_or(AccessState::Unavailable)
    }
}
