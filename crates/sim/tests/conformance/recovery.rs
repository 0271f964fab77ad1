//! ERL, and DAT-15 and DIG at level 1: recovery within a command and within a connection (RFC 7143 §7, §11.16).

use crate::help::{Simulated, alone, goes_on, normal, pattern, rejected};
use iscsi::wire::{
    DataIn, DataOut, FINAL, NopIn, Opcode, Pdu, RESERVED_TAG, ReadyToTransfer, Reject, ScsiResponse, SnackRequest,
};
use sim::Frame;
use sim::raw::{Command, Login};

/// Level 1, bursts of 4 KiB in segments of 1 KiB.
fn level_1() -> Login {
    normal()
        .key("ErrorRecoveryLevel", 1)
        .key("MaxBurstLength", 4096)
        .key("FirstBurstLength", 512)
        .key("MaxRecvDataSegmentLength", 1024)
}

/// A SNACK that acknowledges nothing which came after `exp_stat_sn`.
fn snack(exp_stat_sn: u32, kind: u8, tag: u32, begin: u32, length: u32) -> Frame {
    let mut header = SnackRequest::empty();
    header.kind = FINAL | kind;
    header.initiator_task_tag = tag.into();
    header.target_transfer_tag = RESERVED_TAG.into();
    header.exp_stat_sn = exp_stat_sn.into();
    header.beg_run = begin.into();
    header.run_length = length.into();
    Frame::new(header, b"")
}

/// A read of 8 blocks at 0 that has been answered, with the ExpStatSN from before it.
fn answered_read(client: &mut Simulated) -> (u32, u32) {
    let before = client.exp_stat_sn;
    let tag = client.start(&Command::read(0, 16));
    assert!(client.finish(tag).is_good());
    (tag, before)
}

fn numbers(frames: &[(DataIn, Vec<u8>)]) -> Vec<u32> {
    frames.iter().map(|(header, _)| header.data_sn.get()).collect()
}

fn expect_data(client: &mut Simulated, count: usize) -> Vec<(DataIn, Vec<u8>)> {
    (0..count).map(|_| client.expect::<DataIn>()).collect()
}

#[test]
fn erl_03_what_the_level_does_not_have_is_refused() {
    let mut client = alone(&normal());
    let (tag, before) = answered_read(&mut client);
    for kind in 0..4 {
        let frame = snack(before, kind, tag, 0, 0);
        client.send(&frame);
        assert_eq!(rejected(&mut client, &frame), 5, "SNACK {kind} at level 0");
    }
    assert_eq!(client.task_management(8, tag, 0), 4, "reassignment at level 0");
    let mut client = alone(&level_1());
    let (tag, _) = answered_read(&mut client);
    assert_eq!(client.task_management(8, tag, 0), 4, "reassignment at level 1");
    goes_on(&mut client);
}

#[test]
fn erl_04_every_kind_of_pdu_is_sent_again_as_it_was() {
    let mut client = alone(&level_1());
    let data = pattern(8192, 3);
    assert!(client.execute(&Command::write(0, &data)).is_good());
    let (tag, before) = answered_read(&mut client);
    // The capture checker compares each with what came before.
    client.send(&snack(before, 0, tag, 2, 3));
    let again = expect_data(&mut client, 3);
    assert_eq!(numbers(&again), [2, 3, 4]);
    assert!(again.iter().all(|(header, bytes)| {
        let from = header.buffer_offset.get() as usize;
        bytes[..] == data[from..from + bytes.len()]
    }));
    client.send(&snack(before, 0, tag, 6, 0));
    let again = expect_data(&mut client, 2);
    assert_eq!(numbers(&again), [6, 7]);
    assert_eq!(again[1].0.flags & 1, 1, "with the status that it had");
    client.send(&snack(before, 1, RESERVED_TAG, before, 1));
    assert_eq!(numbers(&expect_data(&mut client, 1)), [7], "the status was in the last Data-In");
    // A response with sense data, and the answer to a ping, neither of them acknowledged.
    client.exp_stat_sn = before;
    let failed = client.execute(&Command::read(u32::MAX, 1));
    assert_eq!(failed.status, 2);
    let next = std::mem::replace(&mut client.exp_stat_sn, before);
    client.ping(b"four");
    assert_eq!(client.exp_stat_sn, next + 1);
    client.send(&snack(before, 1, RESERVED_TAG, 0, 0));
    expect_data(&mut client, 1);
    let (response, sense) = client.expect::<ScsiResponse>();
    assert_eq!((response.status, &sense[2..]), (2, &failed.sense[..]));
    assert_eq!(client.expect::<NopIn>().1, b"four");
    goes_on(&mut client);
    let frame = snack(before, 1, RESERVED_TAG, before, 1);
    client.send(&frame);
    assert_eq!(rejected(&mut client, &frame), 4, "acknowledged meanwhile");
}

#[test]
fn erl_04_an_r2t_is_sent_again_as_it_was() {
    let mut client = alone(&level_1());
    client.hold_data = true;
    let data = pattern(4096, 5);
    let tag = client.start(&Command::write(8, &data).solicited());
    let (asked, _) = client.expect::<ReadyToTransfer>();
    let before = client.exp_stat_sn;
    client.send(&snack(before, 0, tag, 0, 1));
    let (again, _) = client.expect::<ReadyToTransfer>();
    assert_eq!(again.target_transfer_tag, asked.target_transfer_tag);
    let frame = snack(before, 0, tag, 1, 1);
    client.send(&frame);
    assert_eq!(rejected(&mut client, &frame), 4, "that one was not sent");
    client.answer_ready_to_transfer(&again);
    assert!(client.finish(tag).is_good());
    assert_eq!(client.good(&Command::read(8, 8)), data);
}

#[test]
fn erl_05_data_is_cut_anew_and_the_response_carries_the_tag() {
    let mut client = alone(&level_1());
    let (tag, before) = answered_read(&mut client);
    let mut frame = snack(before, 3, tag, 0, 0);
    frame.header[20..24].copy_from_slice(&7u32.to_be_bytes());
    client.send(&frame);
    assert_eq!(numbers(&expect_data(&mut client, 8)), [0, 1, 2, 3, 4, 5, 6, 7]);
    let (response, _) = client.expect::<ScsiResponse>();
    assert_eq!((response.snack_tag.get(), response.stat_sn.get()), (7, before), "the StatSN that it had");
}

#[test]
fn erl_07_a_run_beyond_what_was_sent_brings_one_reject_and_nothing_else() {
    let mut client = alone(&level_1());
    let (tag, before) = answered_read(&mut client);
    for (begin, length) in [(8, 0), (7, 2), (0, 9), (1, u32::MAX), (u32::MAX, 1), (u32::MAX, u32::MAX), (1 << 31, 5)] {
        let frame = snack(before, 0, tag, begin, length);
        client.send(&frame);
        let (reject, header) = client.expect::<Reject>();
        assert_eq!((reject.reason, reject.data_sn.get()), (4, 8), "BegRun {begin:x}, RunLength {length:x}");
        assert_eq!(header, frame.header);
    }
    assert_eq!(client.ping(b"x"), b"x", "and nothing else");
}

#[test]
fn dat_15_a_is_set_once_a_burst_and_only_above_level_0() {
    for level in [0, 1] {
        let login = Login { keys: Vec::new(), ..level_1() };
        let mut client = alone(&login.key("ErrorRecoveryLevel", level).key("MaxBurstLength", 4096));
        client.capture.record();
        assert!(client.execute(&Command::read(0, 32)).is_good());
        let asks = client.capture.recorded().iter().filter_map(|(_, frame)| frame.view::<DataIn>());
        let asks: Vec<bool> = asks.map(|header| header.flags & 0x40 != 0).collect();
        let (asked, last) = (asks.iter().filter(|asks| **asks).count(), asks.last());
        assert_eq!(
            asked,
            if level == 0 { 0 } else { 3 },
            "16 KiB are four bursts; the last is acknowledged by its status"
        );
        assert_eq!(last, Some(&false));
    }
}

/// Data-Out for an R2T, whole.
fn answer(client: &Simulated, asked: &ReadyToTransfer, data: &[u8]) -> Frame {
    let mut header = DataOut::empty();
    header.flags = FINAL;
    header.lun = asked.lun;
    header.initiator_task_tag = asked.initiator_task_tag;
    header.target_transfer_tag = asked.target_transfer_tag;
    header.exp_stat_sn = client.exp_stat_sn.into();
    header.buffer_offset = asked.buffer_offset;
    Frame::new(header, data)
}

#[test]
fn dig_05_spoiled_data_is_asked_for_again_at_level_1() {
    let mut client = alone(&level_1().digests(true, true));
    client.hold_data = true;
    let data = pattern(2048, 9);
    let tag = client.start(&Command::write(0, &data).solicited());
    let (mut asked, _) = client.expect::<ReadyToTransfer>();
    // Bits of the data, and of its digest.
    for bit in [0, 1, 8 * 2047 + 3, 8 * 2048, 8 * 2051 + 7] {
        let frame = answer(&client, &asked, &data);
        client.capture.initiator(&frame);
        let mut bytes = frame.encode(client.agreed().digests);
        bytes[48 + 4 + bit / 8] ^= 1 << (bit % 8);
        client.send_bytes(&bytes);
        assert_eq!(rejected(&mut client, &frame), 2, "bit {bit}");
        let (again, _) = client.expect::<ReadyToTransfer>();
        assert_eq!((again.buffer_offset.get(), again.desired_data_transfer_length.get()), (0, 2048));
        assert_ne!(again.target_transfer_tag, asked.target_transfer_tag);
        asked = again;
    }
    client.send(&answer(&client, &asked, &data));
    assert!(client.finish(tag).is_good());
    assert_eq!(client.good(&Command::read(0, 4)), data);
}

#[test]
fn dig_04_a_header_that_is_not_to_be_trusted_is_passed_over_at_level_1() {
    let mut client = alone(&level_1().digests(true, true));
    // Each bit of the header but those of its lengths: the PDU is passed over, and its retry executed.
    for bit in (0..48 * 8).filter(|bit| !(4..8).contains(&(bit / 8))) {
        let frame = client.prepare(&Command::read(0, 1)).remove(0);
        let mut bytes = frame.encode(client.agreed().digests);
        bytes[bit / 8] ^= 1 << (bit % 8);
        client.send_bytes(&bytes);
        client.send(&frame);
        let tag = frame.basic().initiator_task_tag.get();
        assert!(client.finish(tag).is_good(), "bit {bit}");
    }
    // A length that is wrong leads to where no header stands.
    let frame = client.prepare(&Command::read(0, 1)).remove(0);
    let mut bytes = frame.encode(client.agreed().digests);
    bytes[7] = 200;
    client.send_bytes(&bytes);
    for _ in 0..8 {
        client.send(&frame);
    }
    assert!(client.expect_closed().iter().all(|frame| frame.opcode() != Opcode::DataIn as u8), "nothing was executed");
}
