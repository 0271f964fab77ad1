//! Several target ports with access states: what is told of them, what they let through, who learns of a
//! change.

use super::rig::{Rig, cdb_10, ram};
use super::*;
use crate::{GroupSettings, TargetPort, TargetPortGroups};
use scsi::inquiry::TargetPortGroupSupport;
use scsi::persistent::{OutAction, OutList};
use scsi::port_groups::{self, AccessState, Group};
use scsi::{inquiry, vpd};

const CHANGED: (u8, u8, u8) = (0x06, 0x2a, 0x06);
const STANDBY: (u8, u8, u8) = (0x02, 0x04, 0x0b);
const UNAVAILABLE: (u8, u8, u8) = (0x02, 0x04, 0x0c);
const TEST_UNIT_READY: [u8; 6] = [0; 6];

/// Lanes 0 and 1 come by group 1, lane 2 by group 500; group 7 has no nexus.
fn rig() -> Rig {
    rig_with(TargetPortGroupSupport::Both)
}

fn rig_with(management: TargetPortGroupSupport) -> Rig {
    let settings = [
        GroupSettings::new(500),
        GroupSettings { preferred: true, ..GroupSettings::new(1) },
        GroupSettings { state: AccessState::ActiveNonOptimized, ..GroupSettings::new(7) },
    ];
    let groups = TargetPortGroups::new(&settings, management);
    let ports = [1, 1, 500].map(|number| Arc::new(TargetPort::new("iqn.x:t", &groups, number).unwrap()));
    Rig::with_ports(ram(64), &ports)
}

fn report(rig: &mut Rig, lane: usize) -> Vec<Group> {
    let data = rig.good(lane, &[0xa3, 0x0a, 0, 0, 0, 0, 0, 0, 16, 0, 0, 0], &[]);
    port_groups::parse(&data).unwrap()
}

fn list(states: &[(u16, u8)]) -> Vec<u8> {
    let descriptor = |(group, state): &(u16, u8)| {
        let [high, low] = group.to_be_bytes();
        [*state, 0, high, low]
    };
    [[0; 4]].into_iter().chain(states.iter().map(descriptor)).flatten().collect()
}

fn set_cdb(length: usize) -> [u8; 12] {
    [0xa4, 0x0a, 0, 0, 0, 0, 0, 0, (length >> 8) as u8, length as u8, 0, 0]
}

fn set(rig: &mut Rig, lane: usize, states: &[(u16, u8)]) {
    let list = list(states);
    rig.good(lane, &set_cdb(list.len()), &list);
}

fn take_changes(rig: &mut Rig) {
    for lane in 0..rig.lanes.len() {
        rig.command(lane, &TEST_UNIT_READY, &[]);
    }
}

#[test]
fn spc_11_the_groups_are_the_same_on_all_paths_and_each_path_knows_its_own() {
    let mut rig = rig();
    let group = |number, preferred, state| Group { number, preferred, state, cause: 0, ports: vec![number] };
    let all = [group(1, true, 0), group(7, false, 1), group(500, false, 0)];
    for (lane, own) in [(0, 1u16), (1, 1), (2, 500)] {
        assert_eq!(report(&mut rig, lane), all);
        let standard = rig.good(lane, &[0x12, 0, 0, 0, 96, 0], &[]);
        assert_eq!(inquiry::parse(&standard).unwrap().target_port_groups, 3, "implicit and explicit");
        let names = vpd::designation::parse(&rig.good(lane, &[0x12, 1, 0x83, 4, 0, 0], &[])).unwrap();
        let of_type = |kind| names.iter().find(|name| name.designator_type == kind).map(|name| name.value.clone());
        let number = u32::from(own).to_be_bytes().to_vec();
        assert_eq!((of_type(4), of_type(5)), (Some(number.clone()), Some(number)));
        let ports = vpd::ports::parse(&rig.good(lane, &[0x12, 1, 0x88, 4, 0, 0], &[])).unwrap();
        let ports: Vec<_> =
            ports.iter().map(|port| (port.relative_identifier, port.designators[0].name().unwrap())).collect();
        assert_eq!(ports, [(1, "iqn.x:t,t,0x0001"), (7, "iqn.x:t,t,0x0007"), (500, "iqn.x:t,t,0x01f4")]);
    }
    let extended = rig.good(0, &[0xa3, 0x2a, 0, 0, 0, 0, 0, 0, 0, 12, 0, 0], &[]);
    assert_eq!(extended, [0, 0, 0, 40, 0x10, 0, 0, 0, 0x80, 0x0f, 0, 1], "cut at the allocation length");
    assert_eq!(rig.sense(0, &[0xa3, 0x4a, 0, 0, 0, 0, 0, 0, 0, 12, 0, 0], &[]), (5, 0x24, 0), "format 010b");
}

#[test]
fn spc_11_standby_and_unavailable_serve_what_the_standard_lists_and_nothing_else() {
    for (state, refusal, in_state) in [
        (AccessState::Standby, STANDBY, (|row| row.in_standby) as fn(&crate::command::Row) -> bool),
        (AccessState::Unavailable, UNAVAILABLE, |row| row.in_unavailable),
    ] {
        let mut rig = rig();
        set(&mut rig, 2, &[(1, state as u8)]);
        take_changes(&mut rig);
        for row in crate::command::COMMANDS {
            let mut cdb = vec![0; row.usage.len()];
            (cdb[0], cdb[1]) = (row.opcode, row.service_action.unwrap_or(0));
            let limits = rig.unit.backend().limits();
            let disks = row.devices != crate::command::Devices::Drives;
            if !disks || !(row.offered)(&limits) || row.opcode == 0x17 || row.opcode == 0x16 {
                continue;
            }
            let (status, sense) = rig.command(0, &cdb, &[]);
            let refused = status == Status::CheckCondition && (sense[2], sense[12], sense[13]) == refusal;
            assert_eq!(refused, !in_state(row), "{:02x} {:02x?} in {state:?}", row.opcode, row.service_action);
        }
        rig.good(2, &cdb_10(0x28, 0, 0, 1), &[]);
    }
    let served = |in_state: fn(&crate::command::Row) -> bool| {
        let mut codes: Vec<u8> =
            crate::command::COMMANDS.iter().filter(|row| in_state(row)).map(|row| row.opcode).collect();
        codes.dedup();
        codes
    };
    // READ CAPACITY is not on the standard's list, which leaves others to the device server: without it an
    // initiator that comes by a standby port first does not know the disk's size.
    let management =
        [0x03, 0x12, 0x15, 0x1a, 0x1c, 0x1d, 0x25, 0x4c, 0x4d, 0x55, 0x5a, 0x5e, 0x5f, 0x9e, 0xa0, 0xa3, 0xa4];
    assert_eq!(served(|row| row.in_standby), management);
    assert_eq!(served(|row| row.in_unavailable), [0x03, 0x12, 0xa0, 0xa3, 0xa4]);
}

#[test]
fn spc_11_a_state_that_an_initiator_sets_holds_at_once_and_all_others_learn_of_it() {
    let mut rig = rig();
    set(&mut rig, 0, &[(1, 2), (500, 1)]);
    for lane in [1, 2] {
        assert_eq!(rig.sense(lane, &[0xa3, 0x0a, 0, 0, 0, 0, 0, 0, 16, 0, 0, 0], &[]), CHANGED);
    }
    let told = report(&mut rig, 2);
    let told: Vec<_> = told.iter().map(|group| (group.number, group.state, group.cause)).collect();
    assert_eq!(told, [(1, 2, 1), (7, 1, 0), (500, 1, 1)], "explicit");
    for lane in [0, 1] {
        assert_eq!(rig.sense(lane, &TEST_UNIT_READY, &[]), STANDBY);
        assert_eq!(rig.sense(lane, &cdb_10(0x2a, 0, 0, 1), &[0; 512]), STANDBY);
    }
    rig.good(2, &cdb_10(0x2a, 0, 0, 1), &[0; 512]);
    // What is so already changes nothing, and nobody is told.
    set(&mut rig, 0, &[(1, 2)]);
    rig.good(2, &TEST_UNIT_READY, &[]);
    set(&mut rig, 0, &[(1, 0)]);
    rig.good(0, &TEST_UNIT_READY, &[]);
    assert_eq!(rig.sense(1, &TEST_UNIT_READY, &[]), CHANGED);
}

#[test]
fn spc_11_a_wrong_list_changes_nothing_and_says_where() {
    let mut rig = rig();
    let before = report(&mut rig, 0);
    let mut refused = |list: &[u8]| {
        let (status, sense) = rig.command(0, &set_cdb(list.len()), list);
        assert_eq!(status, Status::CheckCondition, "{list:02x?}");
        ((sense[2], sense[12], sense[13]), sense[15..18].to_vec())
    };
    let field = |byte| ((5, 0x26, 0), vec![0x8f, 0, byte]);
    assert_eq!(refused(&list(&[(1, 2), (2, 0)])), field(10), "no such group");
    assert_eq!(refused(&list(&[(1, 2), (1, 0)])), field(10), "twice");
    assert_eq!(refused(&list(&[(1, 0x0f)])), ((5, 0x26, 0), vec![0x8b, 0, 4]), "transitioning");
    assert_eq!(refused(&list(&[(1, 0x0e)])), ((5, 0x26, 0), vec![0x8b, 0, 4]), "offline");
    let length = ((5, 0x24, 0), vec![0xcf, 0, 6]);
    assert_eq!(refused(&list(&[(1, 0); 4])), length, "more than there are");
    for short in [1, 3, 5, 7] {
        assert_eq!(refused(&list(&[(1, 2)])[..short]), length);
    }
    assert_eq!(rig.sense(0, &set_cdb(8), &[0; 4]), (5, 0x1a, 0), "fewer came than were announced");
    rig.good(0, &set_cdb(0), &[]);
    assert_eq!(report(&mut rig, 0), before);
    rig.good(2, &TEST_UNIT_READY, &[]);
}

#[test]
fn spc_11_the_target_changes_states_of_its_own_accord_and_tells_everybody() {
    let mut rig = rig();
    let (groups, units) = (Arc::clone(rig.port(0).groups()), [Arc::clone(&rig.unit)]);
    assert!(groups.change(&[(1, AccessState::Unavailable), (500, AccessState::ActiveOptimized)], &units));
    for lane in 0..3 {
        assert_eq!(rig.sense(lane, &TEST_UNIT_READY, &[]), CHANGED);
    }
    assert_eq!(rig.sense(0, &TEST_UNIT_READY, &[]), UNAVAILABLE);
    let told = report(&mut rig, 0);
    let told: Vec<_> = told.iter().map(|group| (group.number, group.state, group.cause)).collect();
    assert_eq!(told, [(1, 3, 2), (7, 1, 0), (500, 0, 0)], "implicit, where it has changed");
    assert!(!groups.change(&[(1, AccessState::Unavailable)], &units));
    assert_eq!(rig.sense(0, &TEST_UNIT_READY, &[]), UNAVAILABLE, "nothing new to learn");
}

#[test]
fn spc_01_where_only_the_target_changes_states_no_command_claims_to() {
    let mut rig = rig_with(TargetPortGroupSupport::Implicit);
    let standard = rig.good(0, &[0x12, 0, 0, 0, 96, 0], &[]);
    assert_eq!(inquiry::parse(&standard).unwrap().target_port_groups, 1);
    let list = list(&[(500, 2)]);
    assert_eq!(rig.sense(0, &set_cdb(list.len()), &list), (5, 0x24, 0), "a service action that is not there");
    let told = rig.good(0, &[0xa3, 0x0c, 3, 0xa4, 0, 0x0a, 0, 0, 0, 64, 0, 0], &[]);
    assert_eq!(told, [0, 1, 0, 0], "REPORT SUPPORTED OPERATION CODES");
    assert_eq!(report(&mut rig, 0).len(), 3);
    let (groups, units) = (Arc::clone(rig.port(0).groups()), [Arc::clone(&rig.unit)]);
    assert!(groups.change(&[(500, AccessState::Standby)], &units));
    assert_eq!(rig.sense(2, &TEST_UNIT_READY, &[]), CHANGED);
}

#[test]
fn spc_11_another_reservation_holds_against_set_and_not_against_report() {
    let mut rig = rig();
    let register = OutList { action_key: 9, ..OutList::default() }.encode();
    let reserve = OutList { key: 9, ..OutList::default() }.encode();
    let out = |action: OutAction, kind| [0x5f, action as u8, kind, 0, 0, 0, 0, 0, 24, 0];
    rig.good(0, &out(OutAction::Register, 0), &register);
    rig.good(0, &out(OutAction::Reserve, 3), &reserve);
    assert_eq!(report(&mut rig, 2).len(), 3);
    let list = list(&[(500, 0)]);
    assert_eq!(rig.command(2, &set_cdb(list.len()), &list).0, Status::ReservationConflict);
}

#[test]
fn prs_10_all_tg_pt_registers_at_every_port_and_each_nexus_has_its_own_port() {
    let mut rig = rig();
    let register = OutList { action_key: 9, all_target_ports: true, ..OutList::default() }.encode();
    rig.good(0, &[0x5f, 0, 0, 0, 0, 0, 0, 0, 24, 0], &register);
    let own = OutList { action_key: 5, ..OutList::default() }.encode();
    rig.good(2, &[0x5f, 0, 0, 0, 0, 0, 0, 0, 24, 0], &own);
    let full = rig.good(0, &[0x5e, 3, 0, 0, 0, 0, 0, 4, 0, 0], &[]);
    let (mut at, mut seen) = (8, Vec::new());
    while at < full.len() {
        let additional = u32::from_be_bytes(full[at + 20..at + 24].try_into().unwrap()) as usize;
        seen.push((full[at + 7], u16::from_be_bytes([full[at + 18], full[at + 19]])));
        at += 24 + additional;
    }
    seen.sort_unstable();
    assert_eq!(seen, [(5, 500), (9, 1), (9, 7), (9, 500)]);
}
