//! Requirements of the conformance list that no other test here bears the number of.

use super::rig::{Rig, UNIT, cdb_10, cdb_16, identity, ram};
use super::*;
use crate::command::{COMMANDS, Devices, Row};
use crate::{LogicalUnit, Options};
use block::ErrorKind;
use block::layer::{Delay, Fault, FaultPlan, Faulty, On, Valve};

/// The plainest CDB of a row.
fn plain(row: &Row) -> Vec<u8> {
    let mut cdb = vec![0; row.usage.len()];
    cdb[0] = row.opcode;
    cdb[1] = row.service_action.unwrap_or(0);
    cdb
}

/// The condition of a command that is refused.
fn condition(rig: &mut Rig, cdb: &[u8]) -> Option<(u8, u8, u8)> {
    let (status, sense) = rig.command(0, cdb, &[]);
    (status == Status::CheckCondition).then(|| (sense[2], sense[12], sense[13]))
}

const WRITE_PROTECTED: Option<(u8, u8, u8)> = Some((7, 0x27, 0));

#[test]
fn spc_08_write_protection_refuses_every_command_that_writes_and_no_other() {
    let mut switched = Rig::new(ram(64), 1);
    let control = [0, 0, 0, 0, 0x0a, 0x0a, 0x00, 0x10, 0x08, 0, 0, 0, 0xff, 0xff, 0, 0];
    switched.good(0, &[0x15, 0x10, 0, 0, 16, 0], &control);
    let options = Options { read_only: true, ..Options::default() };
    let mut read_only = Rig::of(LogicalUnit::new(identity(), options, ram(64)), 1);
    for rig in [&mut switched, &mut read_only] {
        let limits = rig.unit.backend().limits();
        for row in COMMANDS.iter().filter(|row| row.devices != Devices::Drives && (row.offered)(&limits)) {
            let found = condition(rig, &plain(row));
            assert_eq!(found == WRITE_PROTECTED, row.writes, "{:02x} {:?}: {found:?}", row.opcode, row.service_action);
            // STOP among the commands leaves nothing stopped.
            rig.good(0, &[0x1b, 0, 0, 0, 1, 0], &[]);
        }
    }
}

#[test]
fn spc_10_request_sense_tells_a_pending_attention_or_nothing_and_never_fails() {
    let mut rig = Rig::new(ram(64), 2);
    for descriptor in [0, 1] {
        rig.good(0, &[0xa4, 0x0f, 0, 0, 0, 0, 0, 0, 0, 12, 0, 0], &[0; 12]);
        let ask = [0x03, descriptor, 0, 0, 252, 0];
        let told = |sense: Vec<u8>| match descriptor {
            0 => (sense[0], sense[2], sense[12], sense[13]),
            _ => (sense[0], sense[1], sense[2], sense[3]),
        };
        let format = if descriptor == 0 { 0x70 } else { 0x72 };
        assert_eq!(told(rig.good(1, &ask, &[])), (format, 6, 0x2a, 0x10));
        assert_eq!(told(rig.good(1, &ask, &[])), (format, 0, 0, 0), "told once");
        rig.good(1, &[0; 6], &[]);
        assert_eq!(rig.good(1, &[0x03, descriptor, 0, 0, 3, 0], &[]).len(), 3);
    }
}

#[test]
fn sam_02_both_forms_of_a_number_are_one_unit() {
    let mut rig = Rig::new(ram(64), 1);
    let flat = [0x40, 1, 0, 0, 0, 0, 0, 0];
    rig.good(0, &cdb_10(0x2a, 0, 5, 1), &[9; 512]);
    let page = [0x12, 1, 0x83, 0, 252, 0];
    let name = rig.good(0, &page, &[]);
    rig.lun = flat;
    assert_eq!(rig.read(0, 5, 1), [9; 512]);
    assert_eq!(rig.good(0, &page, &[]), name);
    for other in
        [[0x80, 1, 0, 0, 0, 0, 0, 0], [0, 1, 0, 1, 0, 0, 0, 0], [1, 1, 0, 0, 0, 0, 0, 0], [0x40, 2, 0, 0, 0, 0, 0, 0]]
    {
        rig.lun = other;
        assert_eq!(rig.sense(0, &[0; 6], &[]), (5, 0x25, 0), "{other:02x?}");
    }
    rig.lun = UNIT;
    rig.good(0, &[0; 6], &[]);
}

#[test]
fn sam_04_an_ordered_task_runs_after_the_older_and_before_the_newer_ones() {
    let valve = Valve::closed();
    let mut rig = Rig::new(Delay::new(ram(64), valve.clone()), 1);
    let send = |rig: &mut Rig, attribute, cdb: &[u8], out: &[u8]| {
        rig.attribute = attribute;
        rig.send(0, cdb, out)
    };
    let first = send(&mut rig, TaskAttribute::Simple, &cdb_10(0x2a, 0, 0, 1), &[1; 512]);
    let second = send(&mut rig, TaskAttribute::Ordered, &cdb_10(0x2a, 0, 0, 1), &[2; 512]);
    let third = send(&mut rig, TaskAttribute::Simple, &cdb_10(0x28, 0, 0, 1), &[]);
    let head = send(&mut rig, TaskAttribute::HeadOfQueue, &cdb_10(0x28, 0, 9, 1), &[]);
    rig.settle();
    // What reaches the store comes back in its order: the first write, then what went ahead of all.
    valve.release(2);
    rig.settle();
    assert!(rig.take(first).is_some() && rig.take(head).is_some());
    assert!(rig.take(second).is_none() && rig.take(third).is_none());
    valve.release(1);
    rig.settle();
    assert!(rig.take(second).is_some() && rig.take(third).is_none());
    valve.release_all();
    rig.settle();
    assert_eq!(rig.take(third), Some((Status::Good, vec![2; 512])));
}

#[test]
fn sam_06_naca_is_refused_by_every_command() {
    let mut rig = Rig::new(ram(64), 1);
    let limits = rig.unit.backend().limits();
    for row in COMMANDS.iter().filter(|row| row.devices != Devices::Drives && (row.offered)(&limits)) {
        let mut cdb = plain(row);
        let control = cdb.len() - 1;
        cdb[control] = 0x04;
        let (status, sense) = rig.command(0, &cdb, &[]);
        assert_eq!((status, sense[2], sense[12]), (Status::CheckCondition, 5, 0x24), "{cdb:02x?}");
        assert_eq!(sense[15..18], [0xc8 | 2, 0, control as u8], "the bit itself");
    }
}

#[test]
fn sam_09_a_block_is_never_of_two_writes() {
    let valve = Valve::closed();
    let mut rig = Rig::new(Delay::new(ram(64), valve.clone()), 3);
    let mut reads = Vec::new();
    for round in 0..60u8 {
        rig.send(0, &cdb_10(0x2a, 0, 0, 4), &[round; 2048]);
        rig.send(1, &cdb_10(0x2a, 0, 0, 4), &[!round; 2048]);
        reads.push(rig.send(2, &cdb_10(0x28, 0, 0, 4), &[]));
        for step in 0..u64::from(round % 5) {
            valve.release(step % 3);
            rig.step(usize::from(round) % 3);
            rig.step((usize::from(round) + 1) % 3);
        }
    }
    valve.release_all();
    rig.settle();
    for read in reads {
        let (status, data) = rig.take(read).unwrap();
        assert_eq!((status, data.len()), (Status::Good, 2048));
        for block in data.chunks(512) {
            assert!(block.iter().all(|byte| *byte == block[0]), "a mixture");
        }
    }
}

#[test]
fn sbc_03_dpo_and_fua_are_taken_and_protection_is_refused_where_there_is_none() {
    let mut rig = Rig::new(ram(64), 1);
    for opcode in [0x28, 0xa8, 0x88, 0x2a, 0xaa, 0x8a, 0x2f, 0xaf, 0x8f, 0x2e, 0xae, 0x8e, 0x89, 0x8b] {
        for flags in (0..=0xffu8).filter(|flags| flags & 0x07 == 0) {
            let cdb = cdb_16(opcode, flags, 0, 0);
            let force_unit_access = !matches!(opcode, 0x2f | 0xaf | 0x8f | 0x2e | 0xae | 0x8e);
            let taken = 0x10 | if force_unit_access { 0x08 } else { 0 };
            let found = condition(&mut rig, &cdb);
            let refused = flags & !taken != 0;
            assert_eq!(found.is_some_and(|(key, code, _)| (key, code) == (5, 0x24)), refused, "{cdb:02x?} {found:?}");
        }
    }
}

#[test]
fn sbc_07_what_the_store_reports_has_its_sense() {
    let plan = FaultPlan::default();
    let mut rig = Rig::new(Faulty::new(ram(64), plan.clone()), 1);
    let read = cdb_10(0x28, 0, 4, 8);
    let write = cdb_10(0x2a, 0, 4, 8);
    let cases = [
        (On::Read, ErrorKind::Medium, &read, (3, 0x11, 0x00)),
        (On::Write, ErrorKind::Medium, &write, (3, 0x0c, 0x00)),
        (On::Write, ErrorKind::NoSpace, &write, (7, 0x27, 0x07)),
        (On::Write, ErrorKind::ReadOnly, &write, (7, 0x27, 0x00)),
        (On::Read, ErrorKind::Gone, &read, (4, 0x3e, 0x01)),
        (On::Write, ErrorKind::Gone, &write, (4, 0x3e, 0x01)),
    ];
    for (on, kind, cdb, wanted) in cases {
        plan.clear();
        // The first bad block is the sixth of the unit.
        plan.add(Fault::always(on, kind).within(6 * 512..7 * 512));
        let out = if on == On::Write { vec![0; 4096] } else { Vec::new() };
        let (status, sense) = rig.command(0, cdb, &out);
        assert_eq!((status, (sense[2], sense[12], sense[13])), (Status::CheckCondition, wanted), "{kind:?}");
        assert_eq!((sense[0], &sense[3..7]), (0xf0, &[0, 0, 0, 6][..]), "{kind:?}");
        rig.good(0, &cdb_10(0x28, 0, 0, 4), &[]);
    }
}

#[test]
fn sbc_08_verify_compares_and_says_where_it_differs() {
    let mut rig = Rig::new(ram(64), 1);
    let data: Vec<u8> = (0..2048).map(|at| at as u8 ^ (at >> 8) as u8).collect();
    rig.good(0, &cdb_10(0x2a, 0, 8, 4), &data);
    let verify = |opcode, check: u8, blocks: u8| -> Vec<u8> {
        let flags = check << 1;
        match opcode {
            0x2f => cdb_10(opcode, flags, 8, blocks.into()).to_vec(),
            0xaf => vec![opcode, flags, 0, 0, 0, 8, 0, 0, 0, blocks, 0, 0],
            _ => cdb_16(opcode, flags, 8, blocks.into()).to_vec(),
        }
    };
    for opcode in [0x2f, 0xaf, 0x8f] {
        rig.good(0, &verify(opcode, 0, 4), &[]);
        rig.good(0, &verify(opcode, 1, 4), &data);
        for at in [0, 1024, 2047] {
            let mut other = data.clone();
            other[at] ^= 0x80;
            let (status, sense) = rig.command(0, &verify(opcode, 1, 4), &other);
            assert_eq!((status, sense[2], sense[12], sense[13]), (Status::CheckCondition, 0xe, 0x1d, 0));
            assert_eq!((sense[0], &sense[3..7]), (0xf0, &(at as u32).to_be_bytes()[..]));
        }
        // One block again and again.
        let (_, sense) = rig.command(0, &verify(opcode, 3, 4), &data[..512]);
        assert_eq!((sense[2], &sense[3..7]), (0xe, &[0, 0, 2, 0][..]), "the second block differs in its first byte");
        rig.good(0, &verify(opcode, 3, 1), &data[..512]);
        assert_eq!(rig.sense(0, &verify(opcode, 2, 1), &data[..512]), (5, 0x24, 0), "BYTCHK 10b is reserved");
    }
}

#[test]
fn sbc_12_lba_status_begins_where_it_was_asked_and_leaves_no_gap() {
    let mut rig = Rig::new(ram(4096), 1);
    rig.good(0, &cdb_10(0x2a, 0, 1000, 8), &[1; 4096]);
    let ask = |block: u64| {
        let mut cdb = cdb_16(0x9e, 0x12, block, 4096);
        cdb[10..14].copy_from_slice(&4096u32.to_be_bytes());
        cdb
    };
    for start in [0, 1, 1000, 1007, 4095] {
        let data = rig.good(0, &ask(start), &[]);
        assert_eq!(u32::from_be_bytes(data[..4].try_into().unwrap()) as usize + 4, data.len());
        let mut next = start;
        for descriptor in data[8..].chunks(16) {
            assert_eq!(u64::from_be_bytes(descriptor[..8].try_into().unwrap()), next, "from {start}");
            next += u64::from(u32::from_be_bytes(descriptor[8..12].try_into().unwrap()));
        }
        assert!(next > start && next <= 4096, "{start}: {next}");
    }
    for start in [4096, 1 << 32, 1 << 63, u64::MAX] {
        assert_eq!(rig.sense(0, &ask(start), &[]), (5, 0x21, 0), "{start:x}");
    }
}
