//! Reservations as initiators notice them, and against a second model of them.

use super::*;
use crate::state::{StateError, StateKind, StateStore};
use proptest::prelude::*;
use scsi::{
    persistent::{MoveList, OutAction, OutList, ReservationType as Type, parse_keys, parse_reservation},
    transport_id::TransportId,
};
use std::sync::Mutex;

const PORTS: &[u16] = &[1, 2];
const NONE_KNOWN: Surroundings<'static> = Surroundings { ports: PORTS, initiators: &[] };

fn id(number: u8) -> TransportId {
    TransportId::port(&format!("iqn.2026-01.org.example:{number}"), [0, 2, 0x3D, 0, 0, number])
}

fn nexus(number: u8) -> Nexus {
    Nexus { initiator: id(number).encode().into(), relative_port: 1 }
}

fn list(key: u64, action_key: u64) -> OutList {
    OutList { key, action_key, ..OutList::default() }
}

fn act(state: &mut Reservations, who: u8, action: OutAction, kind: u8, list: OutList) -> Result<Effects, Refusal> {
    state.apply(&nexus(who), action, kind, &list, NONE_KNOWN)
}

/// Initiators 1 to `count` are registered, each with its number as key.
fn registered(count: u8) -> Reservations {
    let mut state = Reservations::default();
    for who in 1..=count {
        act(&mut state, who, OutAction::Register, 0, list(0, who.into())).unwrap();
    }
    state
}

/// As `registered`, and initiator 1 has reserved.
fn reserved(count: u8, kind: Type) -> Reservations {
    let mut state = registered(count);
    act(&mut state, 1, OutAction::Reserve, kind as u8, list(1, 0)).unwrap();
    state
}

fn told(numbers: &[u8], attention: Attention) -> Vec<(Nexus, Attention)> {
    numbers.iter().map(|&number| (nexus(number), attention)).collect()
}

#[test]
fn prs_01_the_four_answers_with_0_1_and_64_registrations() {
    for count in [0u8, 1, 64] {
        let guarded = Guarded::open([0; 16], None).unwrap();
        for who in 1..=count {
            let bytes = list(0, who.into()).encode();
            let request = OutRequest { service_action: 0, scope_type: 0, list: &bytes };
            guarded.write(&nexus(who), request, NONE_KNOWN).unwrap();
        }
        let answer = |action| {
            let mut out = Vec::new();
            guarded.read(action, &mut out).map(|()| out)
        };
        assert_eq!(parse_keys(&answer(0).unwrap()), Some((count.into(), (1..=u64::from(count)).collect())));
        assert_eq!(parse_reservation(&answer(1).unwrap()), Some((count.into(), None)));
        assert_eq!(answer(2).unwrap()[..4], [0, 8, 0x1C, 0x80], "no store: PTPL_C is 0");
        let full: usize = (1..=count).map(|who| 24 + id(who).encode().len()).sum();
        assert_eq!(answer(3).unwrap().len(), 8 + full);
        for reserved in 4..32 {
            assert_eq!(answer(reserved), Err(Refusal::InvalidCdbField(1)));
        }
    }
}

#[test]
fn prs_02_register_needs_the_right_key_and_zero_unregisters() {
    let mut state = Reservations::default();
    assert_eq!(act(&mut state, 1, OutAction::Register, 0, list(7, 8)), Err(Refusal::Conflict));
    act(&mut state, 1, OutAction::Register, 0, list(0, 8)).unwrap();
    assert_eq!(act(&mut state, 1, OutAction::Register, 0, list(0, 9)), Err(Refusal::Conflict));
    act(&mut state, 1, OutAction::Register, 0, list(8, 9)).unwrap();
    assert_eq!(state.key(&nexus(1)), Some(9));
    act(&mut state, 1, OutAction::RegisterAndIgnoreExistingKey, 0, list(77, 5)).unwrap();
    assert_eq!(state.key(&nexus(1)), Some(5));
    act(&mut state, 1, OutAction::Register, 0, list(5, 0)).unwrap();
    assert_eq!(state.key(&nexus(1)), None);
    let before = state.clone();
    act(&mut state, 1, OutAction::Register, 0, list(0, 0)).unwrap();
    act(&mut state, 1, OutAction::RegisterAndIgnoreExistingKey, 0, list(3, 0)).unwrap();
    assert_eq!(state, before, "unregistering nobody is nothing");
}

#[test]
fn prs_03_only_changes_of_registrations_count_as_a_generation() {
    let mut state = registered(2);
    assert_eq!(state.generation(), 2);
    act(&mut state, 1, OutAction::Reserve, 1, list(1, 0)).unwrap();
    act(&mut state, 1, OutAction::Release, 1, list(1, 0)).unwrap();
    assert_eq!(state.generation(), 2, "RESERVE and RELEASE do not count");
    act(&mut state, 1, OutAction::RegisterAndIgnoreExistingKey, 0, list(0, 1)).unwrap();
    act(&mut state, 1, OutAction::Preempt, 1, list(1, 2)).unwrap();
    act(&mut state, 1, OutAction::Reserve, 1, list(1, 0)).unwrap();
    let moved =
        MoveList { key: 1, action_key: 9, unregister: false, persist: false, relative_port: 1, initiator: id(3) };
    state.register_and_move(&nexus(1), &moved, NONE_KNOWN).unwrap();
    act(&mut state, 1, OutAction::PreemptAndAbort, 1, list(1, 9)).unwrap();
    act(&mut state, 1, OutAction::Clear, 0, list(1, 0)).unwrap();
    assert_eq!(state.generation(), 7);
    act(&mut state, 1, OutAction::Clear, 0, list(1, 0)).unwrap_err();
    assert_eq!(state.generation(), 7, "what is refused does not count");
}

#[test]
fn prs_04_six_types_by_holder_registrant_and_stranger() {
    // Reads and writes of the holder, a registrant, a stranger; y runs, n conflicts.
    let table = [
        (Type::WriteExclusive, "yy yn yn"),
        (Type::ExclusiveAccess, "yy nn nn"),
        (Type::WriteExclusiveRegistrantsOnly, "yy yy yn"),
        (Type::ExclusiveAccessRegistrantsOnly, "yy yy nn"),
        (Type::WriteExclusiveAllRegistrants, "yy yy yn"),
        (Type::ExclusiveAccessAllRegistrants, "yy yy nn"),
    ];
    for (kind, expected) in table {
        let state = reserved(2, kind);
        for (who, expected) in (1u8..).zip(expected.split(' ')) {
            let answer: String = [Class::Read, Class::Write]
                .iter()
                .map(|&class| if state.permits(&nexus(who), class) { 'y' } else { 'n' })
                .collect();
            assert_eq!(answer, expected, "{kind:?} initiator {who}");
            assert!(state.permits(&nexus(who), Class::Always) && state.permits(&nexus(who), Class::Management));
        }
    }
}

#[test]
fn prs_05_all_registrants_hold_until_the_last_leaves() {
    for kind in Type::ALL {
        let mut state = reserved(3, kind);
        let holders = (1..=3).filter(|&who| state.holds(&nexus(who))).count();
        assert_eq!(holders, if kind.is_all_registrants() { 3 } else { 1 });
        assert_eq!(state.reservation(), Some((u64::from(!kind.is_all_registrants()), kind)));
        act(&mut state, 1, OutAction::Register, 0, list(1, 0)).unwrap();
        assert_eq!(state.reservation().is_some(), kind.is_all_registrants(), "{kind:?}");
        for who in 2..=3 {
            act(&mut state, who, OutAction::Register, 0, list(who.into(), 0)).unwrap();
        }
        assert_eq!(state.reservation(), None);
    }
}

#[test]
fn prs_06_release_and_its_unit_attentions() {
    for kind in Type::ALL {
        let mut state = reserved(3, kind);
        let wrong = if kind == Type::WriteExclusive { 3 } else { 1 };
        assert_eq!(act(&mut state, 1, OutAction::Release, wrong, list(1, 0)), Err(Refusal::InvalidRelease));
        assert_eq!(act(&mut state, 1, OutAction::Release, kind as u8 | 0x10, list(1, 0)), Err(Refusal::InvalidRelease));
        assert_eq!(Refusal::InvalidRelease.sense(), Some((0x5, 0x26, 0x04)));
        assert_eq!(act(&mut state, 1, OutAction::Release, kind as u8, list(2, 0)), Err(Refusal::Conflict));
        assert_eq!(Refusal::Conflict.sense(), None, "a status of its own");
        if !kind.is_all_registrants() {
            let before = state.clone();
            assert_eq!(act(&mut state, 2, OutAction::Release, kind as u8, list(2, 0)), Ok(Effects::default()));
            assert_eq!(state, before, "a registrant that does not hold releases nothing");
        }
        let effects = act(&mut state, 1, OutAction::Release, kind as u8, list(1, 0)).unwrap();
        let expected: &[u8] = if kind.admits_registrants() { &[2, 3] } else { &[] };
        assert_eq!(effects.attentions, told(expected, Attention::ReservationsReleased), "{kind:?}");
        assert_eq!(state.reservation(), None);
        assert_eq!(state.keys().count(), 3);
    }
}

#[test]
fn prs_06_a_holder_that_unregisters_releases_and_tells_registrants_only_types() {
    for kind in Type::ALL.into_iter().filter(|kind| !kind.is_all_registrants()) {
        let mut state = reserved(3, kind);
        let effects = act(&mut state, 1, OutAction::Register, 0, list(1, 0)).unwrap();
        let expected: &[u8] = if kind.admits_registrants() { &[2, 3] } else { &[] };
        assert_eq!(effects.attentions, told(expected, Attention::ReservationsReleased), "{kind:?}");
        assert_eq!(state.reservation(), None);
    }
}

#[test]
fn prs_07_preempting_the_holder_takes_over_and_the_others_learn_of_the_new_type() {
    let mut state = reserved(3, Type::WriteExclusiveRegistrantsOnly);
    let effects = act(&mut state, 2, OutAction::PreemptAndAbort, 1, list(2, 1)).unwrap();
    assert_eq!(state.reservation(), Some((2, Type::WriteExclusive)));
    assert_eq!(state.key(&nexus(1)), None);
    let expected =
        [told(&[1], Attention::RegistrationsPreempted), told(&[3], Attention::ReservationsReleased)].concat();
    assert_eq!(effects.attentions, expected);
    assert_eq!(effects.abort, [nexus(1)]);
    assert!(!state.permits(&nexus(1), Class::Write));
}

#[test]
fn prs_07_preempting_another_key_leaves_the_reservation_and_plain_preempt_ends_no_tasks() {
    let mut state = reserved(3, Type::WriteExclusive);
    let effects = act(&mut state, 2, OutAction::Preempt, 1, list(2, 3)).unwrap();
    assert_eq!(effects.attentions, told(&[3], Attention::RegistrationsPreempted));
    assert!(effects.abort.is_empty());
    assert_eq!(state.reservation(), Some((1, Type::WriteExclusive)));
    assert_eq!(act(&mut state, 2, OutAction::Preempt, 1, list(2, 99)), Err(Refusal::Conflict));
    assert_eq!(act(&mut state, 2, OutAction::Preempt, 1, list(2, 0)), Err(Refusal::InvalidListField(8)));
    assert_eq!(act(&mut state, 4, OutAction::Preempt, 1, list(0, 1)), Err(Refusal::Conflict), "a stranger");
    assert_eq!(act(&mut state, 2, OutAction::Preempt, 2, list(2, 1)), Err(Refusal::InvalidCdbField(2)));
}

#[test]
fn prs_07_key_zero_preempts_everybody_of_an_all_registrants_reservation() {
    let mut state = reserved(3, Type::ExclusiveAccessAllRegistrants);
    let effects = act(&mut state, 2, OutAction::PreemptAndAbort, 3, list(2, 0)).unwrap();
    assert_eq!(effects.attentions, told(&[1, 3], Attention::RegistrationsPreempted));
    assert_eq!(effects.abort, [nexus(1), nexus(3)]);
    assert_eq!(state.reservation(), Some((2, Type::ExclusiveAccess)));
}

#[test]
fn prs_07_clear_ends_all_and_tells_the_others() {
    let mut state = reserved(3, Type::WriteExclusive);
    let effects = act(&mut state, 2, OutAction::Clear, 0, list(2, 0)).unwrap();
    assert_eq!(effects.attentions, told(&[1, 3], Attention::ReservationsPreempted));
    assert_eq!((state.keys().count(), state.reservation()), (0, None));
}

#[test]
fn prs_08_registrations_survive_nexus_loss_and_reset_and_belong_to_port_and_isid() {
    let mut state = reserved(1, Type::WriteExclusive);
    let before = state.clone();
    state.nexus_lost(&nexus(1));
    state.reset();
    assert_eq!(state, before);
    let other_isid = TransportId::port("iqn.2026-01.org.example:1", [0, 2, 0x3D, 0, 0, 99]).encode().into();
    assert!(!state.permits(&Nexus { initiator: other_isid, relative_port: 1 }, Class::Write));
    assert!(!state.permits(&Nexus { relative_port: 2, ..nexus(1) }, Class::Write), "another target port");
}

#[derive(Default)]
struct Memory {
    saved: Mutex<Option<Vec<u8>>>,
    broken: bool,
}

impl StateStore for Memory {
    fn load(&self, _: [u8; 16], _: StateKind) -> Result<Option<Vec<u8>>, StateError> {
        Ok(self.saved.lock().unwrap().clone())
    }

    fn save(&self, _: [u8; 16], _: StateKind, bytes: &[u8]) -> Result<(), StateError> {
        if self.broken {
            return Err(StateError::Failed("no space".into()));
        }
        *self.saved.lock().unwrap() = Some(bytes.to_vec());
        Ok(())
    }
}

fn write(guarded: &Guarded, who: u8, action: OutAction, kind: u8, list: &OutList) -> Result<Effects, Refusal> {
    let request = OutRequest { service_action: action as u8, scope_type: kind, list: &list.encode() };
    guarded.write(&nexus(who), request, NONE_KNOWN)
}

#[test]
fn prs_09_with_aptpl_the_state_is_saved_before_good_and_comes_back() {
    let store = Arc::new(Memory::default());
    let guarded = Guarded::open([1; 16], Some(store.clone())).unwrap();
    let persistent = OutList { persist: true, ..list(0, 1) };
    write(&guarded, 1, OutAction::Register, 0, &persistent).unwrap();
    write(&guarded, 1, OutAction::Reserve, 1, &list(1, 0)).unwrap();
    let restarted = Guarded::open([1; 16], Some(store.clone())).unwrap();
    let before = guarded.snapshot();
    assert_eq!(restarted.snapshot(), Reservations { generation: 0, ..before }, "PRS-03: PRGENERATION begins anew");
    assert!(!restarted.permits(&nexus(2), Class::Write));

    // The next registration without APTPL takes the promise back, on the disk too.
    write(&guarded, 1, OutAction::Register, 0, &list(1, 1)).unwrap();
    assert_eq!(Guarded::open([1; 16], Some(store)).unwrap().snapshot(), Reservations::default());
}

#[test]
fn prs_09_what_cannot_be_saved_does_not_happen() {
    let persistent = OutList { persist: true, ..list(0, 1) };
    let guarded = Guarded::open([1; 16], Some(Arc::new(Memory { broken: true, ..Memory::default() }))).unwrap();
    assert_eq!(write(&guarded, 1, OutAction::Register, 0, &persistent), Err(Refusal::NotSaved));
    assert_eq!(guarded.snapshot(), Reservations::default());
    let nowhere = Guarded::open([1; 16], None).unwrap();
    assert_eq!(write(&nowhere, 1, OutAction::Register, 0, &persistent), Err(Refusal::InvalidListField(20)));
}

#[test]
fn prs_09_damaged_state_is_refused_at_every_byte() {
    let mut state = Reservations::default();
    for who in 1..=2 {
        act(&mut state, who, OutAction::Register, 0, OutList { persist: true, ..list(0, who.into()) }).unwrap();
    }
    for kind in Type::ALL {
        let mut state = state.clone();
        act(&mut state, 1, OutAction::Reserve, kind as u8, list(1, 0)).unwrap();
        let bytes = state.to_stored();
        assert_eq!(Reservations::from_stored(&bytes), Ok(state));
        for at in 0..bytes.len() {
            assert!(Reservations::from_stored(&bytes[..at]).is_err(), "cut at {at}");
            let mut bad = bytes.clone();
            bad[at] ^= 0x10;
            assert!(Reservations::from_stored(&bad).is_err(), "flipped at {at}");
        }
    }
    let store = Memory { saved: Mutex::new(Some(b"LunettPR\x00\x01 torn".to_vec())), broken: false };
    let lost = Guarded::open([1; 16], Some(Arc::new(store))).unwrap();
    assert!(lost.is_lost());
    // Somebody who knows what to do takes the unit.
    let taking = OutList { persist: true, ..list(0, 9) };
    assert_eq!(write(&lost, 1, OutAction::ReplaceLostReservation, 1, &list(0, 0)), Err(Refusal::InvalidListField(8)));
    write(&lost, 1, OutAction::ReplaceLostReservation, 1, &taking).unwrap();
    assert!(!lost.is_lost() && !lost.permits(&nexus(2), Class::Write) && lost.permits(&nexus(1), Class::Write));
    assert_eq!(lost.snapshot().generation(), 0);
    assert_eq!(write(&lost, 1, OutAction::ReplaceLostReservation, 1, &taking), Err(Refusal::InvalidRelease));
}

#[test]
fn prs_10_all_target_ports_and_named_initiators_register_together_or_not_at_all() {
    let mut state = Reservations::default();
    let everywhere = OutList { all_target_ports: true, initiators: Some(vec![id(2)]), ..list(0, 5) };
    act(&mut state, 1, OutAction::Register, 0, everywhere.clone()).unwrap();
    assert_eq!(state.keys().collect::<Vec<_>>(), [5; 4]);
    assert_eq!(state.key(&Nexus { relative_port: 2, ..nexus(2) }), Some(5));

    let before = state.clone();
    let one_of_them_is_there = OutList { initiators: Some(vec![id(4), id(2)]), ..list(0, 6) };
    assert_eq!(act(&mut state, 3, OutAction::Register, 0, one_of_them_is_there), Err(Refusal::Conflict));
    let again = OutList { key: 5, ..everywhere.clone() };
    assert_eq!(act(&mut state, 1, OutAction::Register, 0, again), Err(Refusal::InvalidListField(20)));
    for action in [OutAction::Reserve, OutAction::Clear, OutAction::RegisterAndIgnoreExistingKey] {
        assert_eq!(act(&mut state, 1, action, 1, everywhere.clone()), Err(Refusal::InvalidListField(20)));
    }
    assert_eq!(state, before);
}

#[test]
fn prs_10_a_device_name_stands_for_the_ports_that_are_there() {
    let mut state = Reservations::default();
    let device = TransportId::Device { name: "iqn.2026-01.org.example:2".into() };
    let named = OutList { initiators: Some(vec![device]), ..list(0, 5) };
    let ports = [nexus(2).initiator, nexus(3).initiator];
    assert_eq!(act(&mut state, 1, OutAction::Register, 0, named.clone()), Err(Refusal::InvalidListField(28)));
    let known = Surroundings { ports: PORTS, initiators: &ports };
    state.apply(&nexus(1), OutAction::Register, 0, &named, known).unwrap();
    assert_eq!((state.key(&nexus(2)), state.key(&nexus(3))), (Some(5), None));
}

#[test]
fn prs_10_register_and_move_moves_or_says_what_is_wrong() {
    let good = MoveList { key: 1, action_key: 9, unregister: true, persist: false, relative_port: 2, initiator: id(5) };
    let mut state = reserved(2, Type::ExclusiveAccess);
    let try_move = |state: &Reservations, who: u8, list: &MoveList| {
        state.clone().register_and_move(&nexus(who), list, NONE_KNOWN).unwrap_err()
    };
    let device = TransportId::Device { name: "iqn.x".into() };
    assert_eq!(try_move(&state, 2, &MoveList { key: 2, ..good.clone() }), Refusal::Conflict);
    assert_eq!(try_move(&state, 1, &MoveList { key: 2, ..good.clone() }), Refusal::Conflict);
    assert_eq!(try_move(&state, 1, &MoveList { action_key: 0, ..good.clone() }), Refusal::InvalidListField(8));
    assert_eq!(try_move(&state, 1, &MoveList { relative_port: 3, ..good.clone() }), Refusal::InvalidListField(18));
    assert_eq!(try_move(&state, 1, &MoveList { initiator: device, ..good.clone() }), Refusal::InvalidListField(24));
    let own = MoveList { initiator: id(1), relative_port: 1, ..good.clone() };
    assert_eq!(try_move(&state, 1, &own), Refusal::InvalidListField(24));
    let everybodys = reserved(2, Type::WriteExclusiveAllRegistrants);
    assert_eq!(try_move(&everybodys, 1, &good), Refusal::Conflict);

    state.register_and_move(&nexus(1), &good, NONE_KNOWN).unwrap();
    assert_eq!(state.reservation(), Some((9, Type::ExclusiveAccess)));
    assert!(state.holds(&Nexus { relative_port: 2, ..nexus(5) }));
    assert_eq!(state.key(&nexus(1)), None);
}

#[test]
fn prs_11_one_registration_too_many_is_refused_and_changes_nothing() {
    let mut state = Reservations::default();
    for number in 0..MAXIMUM_REGISTRATIONS {
        let isid = u64::try_from(number).unwrap().to_be_bytes();
        let initiator = TransportId::port("iqn.x", isid[2..].try_into().unwrap()).encode().into();
        let persistent = OutList { persist: true, ..list(0, 1) };
        state.apply(&Nexus { initiator, relative_port: 1 }, OutAction::Register, 0, &persistent, NONE_KNOWN).unwrap();
    }
    let before = state.clone();
    let refused = act(&mut state, 1, OutAction::Register, 0, list(0, 1)).unwrap_err();
    assert_eq!(refused.sense(), Some((0x5, 0x55, 0x04)));
    assert_eq!(state, before);
    assert_eq!(Reservations::from_stored(&state.to_stored()), Ok(state));
}

#[test]
fn prs_12_reserve_6_is_exclusive_until_release_reset_or_loss() {
    for end in 0..3 {
        let mut state = Reservations::default();
        state.reserve_exclusive(&nexus(1)).unwrap();
        state.reserve_exclusive(&nexus(1)).unwrap();
        assert_eq!(state.reserve_exclusive(&nexus(2)), Err(Refusal::Conflict));
        assert_eq!(state.release_exclusive(&nexus(2)), Ok(()), "GOOD without effect");
        for class in [Class::Management, Class::Read, Class::Write] {
            assert!(state.permits(&nexus(1), class) && !state.permits(&nexus(2), class), "{class:?}");
        }
        assert!(state.permits(&nexus(2), Class::Always));
        assert_eq!(act(&mut state, 1, OutAction::Register, 0, list(0, 1)), Err(Refusal::Conflict));
        assert!(!state.nexus_lost(&nexus(2)), "another's loss");
        match end {
            0 => state.release_exclusive(&nexus(1)).unwrap(),
            1 => assert!(state.reset()),
            _ => assert!(state.nexus_lost(&nexus(1))),
        }
        assert!(state.permits(&nexus(2), Class::Write));
    }
}

#[test]
fn prs_12_beside_persistent_reservations_reserve_6_is_good_for_the_admitted_and_conflicts_for_others() {
    let mut only_registered = registered(1);
    assert_eq!(only_registered.reserve_exclusive(&nexus(1)), Err(Refusal::Conflict));
    for kind in Type::ALL {
        let mut state = reserved(2, kind);
        let before = state.clone();
        assert_eq!(state.reserve_exclusive(&nexus(1)), Ok(()));
        assert_eq!(state.reserve_exclusive(&nexus(2)).is_ok(), kind.admits_registrants());
        assert_eq!(state.reserve_exclusive(&nexus(3)), Err(Refusal::Conflict));
        assert_eq!(state.release_exclusive(&nexus(3)), Err(Refusal::Conflict));
        assert_eq!(state, before, "and nothing changes");
    }
}

/// The same rules once more, written over five slots instead of lists.
#[derive(Debug, Default)]
struct Model {
    keys: [u64; 5],
    kind: u8,
    owner: usize,
    generation: u32,
}

impl Model {
    fn holds(&self, who: usize) -> bool {
        self.keys[who] != 0 && (self.kind >= 7 || self.kind != 0 && self.owner == who)
    }

    /// Whether GOOD is answered.
    fn step(&mut self, who: usize, action: u8, kind: u8, key: u64, action_key: u64) -> bool {
        if action != 6 && key != self.keys[who] || action != 0 && action != 6 && key == 0 {
            return false;
        }
        match action {
            0 | 6 => {
                if self.keys[who] == 0 && action_key == 0 {
                    return true;
                }
                let held = self.holds(who);
                self.keys[who] = action_key;
                if action_key == 0 && held && (self.kind < 7 || self.keys == [0; 5]) {
                    self.kind = 0;
                }
                self.generation += 1;
            }
            1 => {
                if self.kind != 0 {
                    return self.holds(who) && self.kind == kind;
                }
                (self.kind, self.owner) = (kind, who);
            }
            2 => {
                if self.holds(who) {
                    if self.kind != kind {
                        return false;
                    }
                    self.kind = 0;
                }
            }
            3 => {
                (self.keys, self.kind) = ([0; 5], 0);
                self.generation += 1;
            }
            _ => {
                let holders_key = if self.kind >= 7 { 0 } else { self.keys[self.owner] };
                if self.kind != 0 && action_key == holders_key {
                    for other in (0..5).filter(|&other| other != who) {
                        if self.kind >= 7 || self.keys[other] == action_key {
                            self.keys[other] = 0;
                        }
                    }
                    (self.kind, self.owner) = (kind, who);
                } else {
                    if action_key == 0 || !self.keys.contains(&action_key) {
                        return false;
                    }
                    self.keys = self.keys.map(|key| if key == action_key { 0 } else { key });
                    if self.keys == [0; 5] {
                        self.kind = 0;
                    }
                }
                self.generation += 1;
            }
        }
        true
    }
}

proptest! {
    #[test]
    fn five_initiators_doing_anything_agree_with_the_model(
        steps in proptest::collection::vec((0u8..5, 0u8..7, 0usize..6, any::<bool>(), 0u64..3, 0u64..4), 1..80)
    ) {
        let mut model = Model::default();
        let mut state = Reservations::default();
        for (who, action, kind, own_key, any_key, action_key) in steps {
            let slot = usize::from(who);
            let kind = Type::ALL[kind];
            let key = if own_key { model.keys[slot] } else { any_key };
            let good = model.step(slot, action, kind as u8, key, action_key);
            let before = state.clone();
            let code = OutAction::from_code(action).unwrap();
            let answer = act(&mut state, who, code, kind as u8, OutList { persist: true, ..list(key, action_key) });
            prop_assert_eq!(answer.is_ok(), good, "{:?} {:?}", code, answer);
            if !good {
                prop_assert_eq!(&state, &before);
            }
            prop_assert_eq!(state.generation(), model.generation);
            prop_assert_eq!(state.reservation().map_or(0, |(_, kind)| kind as u8), model.kind);
            for other in 0..5u8 {
                let slot = usize::from(other);
                prop_assert_eq!(state.key(&nexus(other)).unwrap_or(0), model.keys[slot]);
                prop_assert_eq!(state.holds(&nexus(other)), model.holds(slot));
            }
            // Nobody is told what he did himself, and losers are told exactly once.
            let effects = answer.unwrap_or_default();
            for (told, _) in &effects.attentions {
                prop_assert!(*told != nexus(who));
                prop_assert_eq!(effects.attentions.iter().filter(|(one, _)| one == told).count(), 1);
            }
            if state.persists() {
                prop_assert_eq!(Reservations::from_stored(&state.to_stored()), Ok(state.clone()));
            }
        }
    }

    #[test]
    fn no_stored_bytes_harm_the_decoder(bytes in proptest::collection::vec(0u8.., 0..200)) {
        let mut framed = b"LunettPR\x00\x01".to_vec();
        framed.extend(bytes);
        prop_assert!(Reservations::from_stored(&framed).is_err());
    }
}
