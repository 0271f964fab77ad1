//! A target that says the same without end, or nothing: what it makes the initiator keep or say is bounded.

use crate::help::{level, outcome};
use iscsi::initiator::{Event, Outcome};
use iscsi::wire::{FINAL, RejectReason};
use sim::Frame;
use sim::scripted::driven::LUN;
use sim::scripted::{data_in, response};
use std::time::Duration;

/// So many PDUs before anything of what they ask for can be sent.
const FLOOD: u32 = 100_000;

/// Answers that the target reads behind a flood.
fn answers(target: &mut crate::help::Played) -> usize {
    std::iter::from_fn(|| target.receive().ok()).count()
}

#[test]
fn erl_06_data_that_is_to_be_acknowledged_again_and_again_is_acknowledged_once() {
    let (driven, mut target) = level(1);
    driven.read(8);
    let (command, _) = target.command();
    let mut bytes = Vec::new();
    for data_sn in 0..FLOOD {
        let mut header = data_in(command.initiator_task_tag.get(), data_sn, 0);
        (header.flags, header.target_transfer_tag, header.lun) = (0x40, 7.into(), LUN);
        let header = target.numbered(header);
        bytes.extend(Frame::new(header, &[]).encode(Default::default()));
    }
    target.send_bytes(&bytes);
    assert!(answers(&mut target) <= 1);
    assert_eq!(driven.error(0), None);
}

#[test]
fn r2ts_that_were_never_missing_are_asked_for_once() {
    let (driven, mut target) = crate::help::with(|wanted| {
        wanted.offers.session.error_recovery_level = 1;
        (wanted.offers.session.initial_r2t, wanted.offers.session.immediate_data) = (true, false);
    });
    driven.write(&[1; 512]);
    let (command, _) = target.command();
    let mut bytes = Vec::new();
    for number in 0..FLOOD {
        let header = target.r2t(&command, 1 + number, 0, 512);
        bytes.extend(Frame::new(header, &[]).encode(Default::default()));
    }
    target.send_bytes(&bytes);
    assert!(answers(&mut target) <= 1);
    drop(driven);
}

#[test]
fn holes_without_end_end_the_connection() {
    // Every second Data-In, for as long as it is taken.
    let (driven, mut target) = level(1);
    driven.read(8);
    let (command, _) = target.command();
    let mut sent = 0;
    'flood: for _ in 0..100 {
        let mut bytes = Vec::new();
        for _ in 0..1000 {
            sent += 2;
            let header = target.numbered(data_in(command.initiator_task_tag.get(), sent, 0));
            bytes.extend(Frame::new(header, &[]).encode(Default::default()));
        }
        target.send_bytes(&bytes);
        if driven.is_closed(0) {
            break 'flood;
        }
    }
    assert!(driven.is_closed(0) && sent < 20_000, "{sent}");
    assert_eq!(outcome(&driven), Outcome::Lost);
    // Every second status.
    let (driven, mut target) = level(1);
    let mut sent = 0;
    while !driven.is_closed(0) {
        target.stat_sn += 1;
        target.event(77, [0; 8], [0; 3], &[]);
        sent += 1;
        assert!(sent < 20_000, "status with holes without end");
        driven.events();
    }
}

#[test]
fn rejects_of_what_was_never_sent_change_nothing_or_end_the_session() {
    for opcode in 0..0x40u8 {
        let (driven, mut target) = level(0);
        driven.read(8);
        let (command, _) = target.command();
        let mut refused = [0; 48];
        refused[0] = opcode;
        refused[16..20].copy_from_slice(&0x1234_5678u32.to_be_bytes());
        for _ in 0..500 {
            target.reject(RejectReason::ProtocolError, &refused);
        }
        if driven.is_closed(0) {
            assert_eq!(outcome(&driven), Outcome::Lost);
            continue;
        }
        assert!(answers(&mut target) <= 1, "opcode {opcode:02x}h");
        target.answer_read(command.initiator_task_tag.get(), &[1; 8]);
        assert!(matches!(outcome(&driven), Outcome::Answered { .. }));
    }
    // Without the header of what is rejected.
    for length in [0, 1, 47] {
        let (driven, mut target) = level(0);
        target.reject(RejectReason::ProtocolError, &vec![0; length]);
        crate::help::format_error(&driven);
    }
}

#[test]
fn half_a_pdu_and_then_nothing_is_silence() {
    for level_of in 0..=2 {
        let (driven, mut target) = level(level_of);
        let task = driven.read(64);
        let (command, _) = target.command();
        let mut header = data_in(command.initiator_task_tag.get(), 0, 0);
        header.flags = FINAL | 1;
        let header = target.numbered(header);
        let bytes = Frame::new(header, &[1; 64]).encode(Default::default());
        target.send_bytes(&bytes[..60 + level_of as usize * 20]);
        assert!(driven.events().is_empty());
        driven.pass(Duration::from_secs(30));
        assert!(driven.is_closed(0), "level {level_of}");
        if level_of < 2 {
            assert!(driven.events().contains(&Event::Completed(task, Outcome::Lost)));
        }
    }
}

#[test]
fn answers_of_every_length_to_every_request_neither_panic_nor_hang() {
    // Bytes that begin as some PDU and go on as anything, in pieces of anything.
    let mut random = sim::Random::new(6);
    for round in 0..400 {
        let (driven, mut target) = level((round % 3) as u32);
        driven.read(64);
        driven.write(&[1; 700]);
        let c = driven.connection(0);
        driven.session().ping(c, b"x");
        driven.session().send_text(c, b"SendTargets=All\0");
        let tags: Vec<u32> =
            std::iter::from_fn(|| target.receive().ok()).map(|frame| frame.basic().initiator_task_tag.get()).collect();
        for _ in 0..20 {
            let mut header = response(*random.pick(&tags));
            header.opcode_byte = *random.pick(&[0x20, 0x21, 0x22, 0x24, 0x25, 0x26, 0x31, 0x32, 0x3f]);
            header.flags = random.number() as u8;
            header.residual_count = (random.below(1 << 12) as u32).into();
            header.bidirectional_read_residual_count = (random.below(1024) as u32).into();
            header.exp_data_sn = (random.below(4) as u32).into();
            let header = target.numbered(header);
            let data = vec![random.number() as u8; random.below(70) as usize];
            target.send(&Frame::new(header, &data));
        }
        driven.pass(Duration::from_secs(300));
        drop(target);
        driven.pass(Duration::from_secs(60));
        assert!(driven.session().tasks() == 0, "round {round}: a command hangs");
    }
}
