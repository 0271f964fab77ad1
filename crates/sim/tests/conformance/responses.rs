//! RSP: responses and residuals (RFC 7143 §11.4).

use crate::help::{BLOCKS, Simulated, alone, goes_on, normal, pattern};
use block::ErrorKind;
use block::layer::{Fault, FaultPlan, Faulty, On};
use block::pure::Ram;
use iscsi::serial::precedes;
use iscsi::wire::{FINAL, ReadyToTransfer, ScsiResponse};
use sim::raw::{Answer, Command, Condition};
use sim::world::Shared;
use std::time::Duration;

/// Every SCSI Response that the client has seen since it began to record.
fn responses(client: &Simulated) -> Vec<(ScsiResponse, usize)> {
    let view = |frame: &sim::Frame| frame.view::<ScsiResponse>().map(|response| (*response, frame.data.len()));
    client.capture.recorded().iter().filter_map(|(_, frame)| view(frame)).collect()
}

#[test]
fn rsp_01_whatever_becomes_of_a_command_it_completes_at_the_target() {
    let plan = FaultPlan::default();
    let world = Shared::new(Faulty::new(Ram::new(512, BLOCKS), plan.clone()), None);
    let mut client = crate::help::session(&world, &normal());
    let mut other = crate::help::session(&world, &normal().isid(7));
    client.capture.record();
    other.capture.record();
    plan.add(Fault::nth(On::Write, 0, ErrorKind::Medium));
    assert_eq!(client.execute(&Command::write(0, &[1; 512])).condition(), Some(Condition(3, 0x0c, 0)));
    assert_eq!(client.execute(&Command::cdb(&[0xff; 6])).status, 2);
    client.good(&Command::cdb(&[0x16, 0, 0, 0, 0, 0]));
    assert_eq!(other.execute(&Command::read(0, 1)).status, 0x18, "RESERVATION CONFLICT");
    client.good(&Command::cdb(&[0x17, 0, 0, 0, 0, 0]));
    for (response, _) in responses(&client).into_iter().chain(responses(&other)) {
        assert_eq!(response.response, 0, "01h is for failures that are none of SCSI's");
        assert_eq!(response.flags & FINAL, FINAL);
    }
    assert_eq!(responses(&other).len(), 1);
}

#[test]
fn rsp_02_check_condition_brings_its_sense_data_inside_the_segment() {
    let mut client = alone(&normal().key("MaxRecvDataSegmentLength", 512));
    client.capture.record();
    for cdb in [[0xff, 0, 0, 0, 0, 0], [0x12, 0, 0x80, 0, 255, 0], [0x1a, 0, 0x3e, 0, 255, 0]] {
        let answer = client.execute(&Command::reading(&cdb, 255));
        assert_eq!(answer.status, 2);
        assert!(answer.condition().is_some() && answer.sense.len() >= 8, "{answer:?}");
    }
    client.execute(&Command::read(BLOCKS as u32, 1));
    let seen = responses(&client);
    assert_eq!(seen.len(), 4);
    for ((_, length), (_, frame)) in
        seen.iter().zip(client.capture.recorded().iter().filter(|(_, frame)| frame.view::<ScsiResponse>().is_some()))
    {
        let sense = usize::from(u16::from_be_bytes([frame.data[0], frame.data[1]]));
        assert!(sense > 0 && sense + 2 <= *length);
    }
}

/// READ and WRITE of so many blocks at block 0 with CDBs of 6, 10, 12 and 16 bytes.
fn transfers(write: bool, blocks: u8) -> [Vec<u8>; 4] {
    let six = vec![if write { 0x0a } else { 0x08 }, 0, 0, 0, blocks, 0];
    let mut ten = vec![0; 10];
    (ten[0], ten[8]) = (if write { 0x2a } else { 0x28 }, blocks);
    let mut twelve = vec![0; 12];
    (twelve[0], twelve[9]) = (if write { 0xaa } else { 0xa8 }, blocks);
    let mut sixteen = vec![0; 16];
    (sixteen[0], sixteen[13]) = (if write { 0x8a } else { 0x88 }, blocks);
    [six, ten, twelve, sixteen]
}

#[test]
fn rsp_04_the_residual_is_what_the_command_wanted_more_or_less_than_was_expected() {
    let mut client = alone(&normal());
    for expected in [0u32, 1, 511, 512, 1000, 1024, 1025, 4096] {
        let due = 1024 - i64::from(expected);
        for cdb in transfers(false, 2) {
            let answer = client.execute(&Command::reading(&cdb, expected));
            assert_eq!((answer.is_good(), answer.residual), (true, due), "{cdb:02x?}, {expected} bytes");
            assert_eq!(answer.data.len() as u32, expected.min(1024));
        }
        for cdb in transfers(true, 2) {
            let answer = client.execute(&Command::writing(&cdb, &vec![5; expected as usize]));
            assert_eq!((answer.is_good(), answer.residual), (true, due), "{cdb:02x?}, {expected} bytes");
        }
    }
    let whole = client.execute(&Command::inquiry(None)).data.len() as i64;
    for expected in [0, 5, 36, 4096] {
        let answer = client.execute(&Command::inquiry(None).expecting(expected));
        assert_eq!(answer.residual, whole - i64::from(expected));
    }
}

#[test]
fn rsp_05_a_list_cut_by_its_allocation_length_is_no_overflow() {
    let report_luns = |allocation: u32| {
        let mut cdb = [0; 12];
        cdb[0] = 0xa0;
        cdb[6..10].copy_from_slice(&allocation.to_be_bytes());
        cdb
    };
    let mut client = alone(&normal());
    let cut = client.execute(&Command::reading(&report_luns(16), 16));
    assert_eq!((cut.is_good(), cut.residual, cut.data.len()), (true, 0, 16));
    assert!(u32::from_be_bytes(cut.data[..4].try_into().unwrap()) > 8, "the length is that of the whole list");
    let answer = client.execute(&Command::reading(&report_luns(16), 100));
    assert_eq!((answer.residual, answer.data.len()), (-84, 16));
}

#[test]
fn rsp_06_a_command_without_directions_moves_nothing_and_says_how_much_it_had() {
    let mut client = alone(&normal());
    client.good(&Command::write(0, &[3; 512]));
    let none = |cdb: &[u8]| Command::cdb(cdb);
    let answer = client.execute(&none(&Command::read(0, 1).cdb));
    assert_eq!((answer.is_good(), answer.residual, answer.data_in_pdus), (true, 512, 0));
    let answer = client.execute(&none(&Command::write(0, &[9; 512]).cdb));
    assert_eq!((answer.is_good(), answer.residual, answer.ready_to_transfers), (true, 512, 0));
    assert_eq!(client.good(&Command::read(0, 1)), [3; 512]);
}

#[test]
fn rsp_07_no_data_moves_against_the_command() {
    let mut client = alone(&normal());
    client.good(&Command::write(0, &[3; 512]));
    // A READ that brings data, and a WRITE that wants some.
    let read = Command { cdb: Command::read(0, 1).cdb, ..Command::write(0, &[9; 512]) };
    let answer: Answer = client.execute(&read);
    assert!(answer.data.is_empty() && answer.data_in_pdus == 0);
    assert!(answer.status == 2 || answer.residual.unsigned_abs() == 512, "{answer:?}");
    let write = Command { cdb: Command::write(0, &[9; 512]).cdb, ..Command::read(0, 1) };
    let answer = client.execute(&write);
    assert!(answer.data.is_empty() && answer.ready_to_transfers == 0);
    assert!(answer.status == 2 || answer.residual.unsigned_abs() == 512, "{answer:?}");
    assert_eq!(client.good(&Command::read(0, 1)), [3; 512], "nothing was written");
    goes_on(&mut client);
}

#[test]
fn rsp_08_exp_data_sn_counts_what_was_sent_for_the_command() {
    let mut client = alone(&normal().key("MaxBurstLength", 512));
    client.capture.record();
    client.good(&Command::write(0, &pattern(2048, 1)).solicited());
    client.good(&Command::write(0, &pattern(512, 1)));
    client.good(&Command::test_unit_ready());
    client.execute(&Command::cdb(&[0xff; 6]));
    let numbers: Vec<u32> = responses(&client).iter().map(|(response, _)| response.exp_data_sn.get()).collect();
    assert_eq!(numbers, [4, 0, 0, 0]);
}

#[test]
fn rsp_09_a_command_that_does_not_write_is_whole() {
    for reads in [false, true] {
        let mut client = alone(&normal());
        let command = if reads { Command::read(0, 1) } else { Command::test_unit_ready() };
        let mut frame = client.prepare(&command).remove(0);
        frame.header[1] &= !FINAL;
        client.forget(frame.basic().initiator_task_tag.get());
        client.send(&frame);
        assert!(client.expect_closed().is_empty(), "reads: {reads}");
    }
}

#[test]
fn sam_05_a_full_queue_shuts_the_window_and_drops_nothing() {
    let mut client = alone(&normal());
    client.hold_data = true;
    let (mut tags, mut asked) = (Vec::new(), Vec::new());
    while !precedes(client.capture.max_cmd_sn(), client.cmd_sn) {
        tags.push(client.start(&Command::write(tags.len() as u32, &[1; 512]).solicited()));
        asked.push(client.expect::<ReadyToTransfer>().0);
    }
    assert!(tags.len() >= 32, "a queue of {}", tags.len());
    // One more than there is room for, at the same number when there is.
    let one_more = client.prepare(&Command::write(1000, &[2; 512])).remove(0);
    client.send(&one_more);
    client.expect_silence(Duration::from_millis(1));
    client.hold_data = false;
    asked.iter().for_each(|one| client.answer_ready_to_transfer(one));
    for tag in tags.iter() {
        assert!(client.finish(*tag).is_good());
    }
    client.send(&one_more);
    assert!(client.finish(one_more.basic().initiator_task_tag.get()).is_good());
    for block in 0..tags.len() as u32 {
        assert_eq!(client.good(&Command::read(block, 1)), [1; 512]);
    }
    assert_eq!(client.good(&Command::read(1000, 1)), [2; 512]);
}
