//! Properties of bad input: every CDB and every parameter list, whole, cut or random, has an answer of the
//! table: GOOD, a status that SAM-5 has for it, or CHECK CONDITION with sense data that says what is wrong.

use super::rig::{Rig, ram};
use super::*;
use crate::command::COMMANDS;
use proptest::prelude::*;

/// Commands that keep the unit to themselves for a while or change whether it serves others.
fn is_momentous(cdb: &[u8]) -> bool {
    matches!(cdb.first(), Some(0x04 | 0x48 | 0x1b))
}

/// The answer is one of those that a device server gives; otherwise says what is wrong with it.
fn sound(status: Status, data: &[u8]) -> Result<(), &'static str> {
    match status {
        Status::Good | Status::ConditionMet | Status::ReservationConflict => Ok(()),
        Status::CheckCondition => {
            let (key, code, specific) = match data.first().map(|first| first & 0x7f) {
                Some(0x70) if data.len() == 18 && data[7] == 10 => (data[2] & 0xf, (data[12], data[13]), data[15]),
                Some(0x72) if data.len() == 8 + usize::from(data[7]) => (data[1] & 0xf, (data[2], data[3]), 0x80),
                _ => return Err("no whole sense data"),
            };
            match (key, code) {
                (0x0, _) | (_, (0, 0)) => Err("a condition that says nothing"),
                // A field pointer comes with both (SPC-5 4.4.2.4.2).
                (0x5, (0x24 | 0x26, 0)) if specific & 0x80 == 0 => Err("no field pointer"),
                (0x2 | 0x3 | 0x5 | 0x6 | 0x7 | 0xb | 0xe, _) => Ok(()),
                _ => Err("a condition that nothing here causes"),
            }
        }
        _ => Err("a status that nothing here causes"),
    }
}

fn send(rig: &mut Rig, cdb: &[u8], out: &[u8]) -> Result<(), String> {
    let tag = rig.send(0, cdb, out);
    for _ in 0..400 {
        rig.step(0);
        if let Some((status, data)) = rig.take(tag) {
            return sound(status, &data).map_err(|why| format!("{why}: {cdb:02x?} {status:?} {data:02x?}"));
        }
    }
    Err(format!("no answer: {cdb:02x?}"))
}

/// A CDB of a row, its fields random where the row looks; now and then elsewhere.
fn of_row() -> impl Strategy<Value = Vec<u8>> {
    (0..COMMANDS.len(), proptest::collection::vec(any::<u8>(), 16), proptest::option::weighted(0.2, 1..10usize))
        .prop_map(|(row, random, stray)| {
            let row = &COMMANDS[row];
            let mut cdb: Vec<u8> = row.usage.iter().zip(&random).map(|(usage, random)| usage & random).collect();
            if let Some(stray) = stray
                && let Some(byte) = cdb.get_mut(stray)
            {
                *byte = random[stray];
            }
            cdb[0] = row.opcode;
            if let Some(action) = row.service_action {
                cdb[1] = cdb[1] & !0x1f | action;
            }
            cdb
        })
}

/// As [`of_row`], with numbers so small that the fields beside them are looked at too.
fn small(mut cdb: Vec<u8>) -> Vec<u8> {
    for (at, byte) in cdb.iter_mut().enumerate().skip(2) {
        *byte &= if at % 2 == 0 { 0x00 } else { 0x07 };
    }
    cdb
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn sam_07_whatever_the_fields_of_a_cdb_are_it_has_an_answer(
        cdbs in proptest::collection::vec((of_row(), any::<bool>(), proptest::option::of(0..4096usize), any::<u8>()), 24)
    ) {
        let mut rig = Rig::new(ram(64), 1);
        for (cdb, few, out, byte) in cdbs {
            let cdb = if few { small(cdb) } else { cdb };
            if is_momentous(&cdb) {
                continue;
            }
            let out = vec![byte; out.unwrap_or(0)];
            if let Err(why) = send(&mut rig, &cdb, &out) {
                prop_assert!(false, "{}", why);
            }
        }
    }

    #[test]
    fn sam_07_whatever_a_cdb_is_it_has_an_answer(
        cdbs in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 6..32), 24)
    ) {
        let mut rig = Rig::new(ram(64), 1);
        for cdb in cdbs.into_iter().filter(|cdb| !is_momentous(cdb)) {
            if let Err(why) = send(&mut rig, &cdb, &[]) {
                prop_assert!(false, "{}", why);
            }
        }
    }

    #[test]
    fn sam_07_what_keeps_the_unit_busy_has_an_answer_too(
        cdb in (0..COMMANDS.len(), proptest::collection::vec(any::<u8>(), 16)).prop_filter_map("momentous", |(row, random)| {
            let row = &COMMANDS[row];
            let mut cdb: Vec<u8> = row.usage.iter().zip(&random).map(|(usage, random)| usage & random).collect();
            cdb[0] = row.opcode;
            if let Some(action) = row.service_action {
                cdb[1] = cdb[1] & !0x1f | action;
            }
            is_momentous(&cdb).then_some(cdb)
        }),
        out in proptest::collection::vec(any::<u8>(), 0..64),
    ) {
        let mut rig = Rig::new(ram(64), 1);
        if let Err(why) = send(&mut rig, &cdb, &out) {
            prop_assert!(false, "{}", why);
        }
    }
}

/// A command with a parameter list: its CDB, where its PARAMETER LIST LENGTH stands, and a whole list.
struct Listed {
    cdb: &'static [u8],
    length: std::ops::Range<usize>,
    list: Vec<u8>,
}

fn listed() -> Vec<Listed> {
    let one = |cdb, length, list: &[u8]| Listed { cdb, length, list: list.to_vec() };
    let mut unmap = vec![0, 38, 0, 32, 0, 0, 0, 0];
    for block in [1u64, 9] {
        unmap.extend_from_slice(&block.to_be_bytes());
        unmap.extend_from_slice(&[0, 0, 0, 2, 0, 0, 0, 0]);
    }
    let mut notes = vec![0x0f, 0, 1, 0, 0, 9, 0x83, 252];
    notes.resize(260, 0x5a);
    let mut register = vec![0; 24];
    register[15] = 7;
    let mut moved = vec![0; 24 + 24];
    (moved[15], moved[23], moved[7]) = (7, 24, 7);
    let mode_6 = [0, 0, 0, 0, 0x0a, 0x0a, 0x04, 0x10, 0, 0, 0, 0, 0xff, 0xff, 0, 0];
    let mode_10 = [0, 0, 0, 0, 0, 0, 0, 0, 0x0a, 0x0a, 0, 0x10, 0, 0, 0, 0, 0xff, 0xff, 0, 0];
    vec![
        one(&[0x15, 0x10, 0, 0, 0, 0], 4..5, &mode_6),
        one(&[0x55, 0x10, 0, 0, 0, 0, 0, 0, 0, 0], 7..9, &mode_10),
        one(&[0x1d, 0x10, 0, 0, 0, 0], 3..5, &[0, 0, 0, 0]),
        one(&[0x42, 0, 0, 0, 0, 0, 0, 0, 0, 0], 7..9, &unmap),
        one(&[0x4c, 0, 0x40, 0, 0, 0, 0, 0, 0, 0], 7..9, &notes),
        one(&[0x5f, 0x00, 0, 0, 0, 0, 0, 0, 0, 0], 5..9, &register),
        one(&[0x5f, 0x07, 0, 0, 0, 0, 0, 0, 0, 0], 5..9, &moved),
        one(&[0xa4, 0x0f, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], 6..10, &[0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 0, 0]),
    ]
}

#[test]
fn sam_07_a_parameter_list_cut_at_any_byte_is_refused_or_whole() {
    for Listed { cdb, length, list } in listed() {
        for cut in 0..=list.len() {
            // Cut by PARAMETER LIST LENGTH, and by an initiator that sends less than it said.
            for said in [cut, list.len()] {
                let mut cdb = cdb.to_vec();
                let number = (said as u64).to_be_bytes();
                cdb[length.clone()].copy_from_slice(&number[8 - length.len()..]);
                let mut rig = Rig::new(ram(64), 1);
                let (status, data) = rig.command(0, &cdb, &list[..cut]);
                sound(status, &data).unwrap_or_else(|why| panic!("{cut} of {}: {why} {cdb:02x?}", list.len()));
                if cut < said {
                    assert_eq!(status, Status::CheckCondition, "{cdb:02x?}: {cut} of {said} came");
                } else if cut == list.len() {
                    // REGISTER AND MOVE is for those who are registered.
                    assert_eq!(status == Status::Good, cdb[1] != 0x07, "{cdb:02x?}: {data:02x?}");
                }
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    #[test]
    fn sam_07_a_parameter_list_with_random_bytes_is_refused_or_taken(
        which in 0..8usize,
        bytes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
    ) {
        let Listed { cdb, length, mut list } = listed().swap_remove(which);
        for (at, byte) in bytes {
            *at.get_mut(&mut list) = byte;
        }
        let mut cdb = cdb.to_vec();
        let number = (list.len() as u64).to_be_bytes();
        cdb[length.clone()].copy_from_slice(&number[8 - length.len()..]);
        let mut rig = Rig::new(ram(64), 1);
        if let Err(why) = send(&mut rig, &cdb, &list) {
            prop_assert!(false, "{}", why);
        }
    }
}
