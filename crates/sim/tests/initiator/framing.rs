//! PDU: framing and format.

use crate::help::{format_error, goes_on, good, join, level, outcome, pattern, small, with};
use iscsi::initiator::{Command, Event, Function, Outcome};
use iscsi::wire::{
    DataIn, FINAL, NopOut, Opcode, Pdu, RESERVED_TAG, RejectReason, ScsiCommand, TaskManagementRequest, TextResponse,
};
use sim::Frame;
use sim::scripted::driven::LUN;
use sim::scripted::{data_in, news, response};
use zerocopy::IntoBytes;

#[test]
fn pdu_01_segments_are_padded_with_zeros_and_padding_of_any_kind_is_taken() {
    let (driven, mut target) = small(|_| {});
    for length in 1..=5 {
        // The judge of what the initiator sends looks at its padding.
        let (c, data) = (driven.connection(0), pattern(length));
        let tag = driven.session().ping(c, &data).expect("a ping");
        let (ping, echoed) = target.expect::<NopOut>();
        assert_eq!((ping.initiator_task_tag.get(), &echoed), (tag, &data));
        target.pong(tag, &data);
        assert_eq!(driven.events(), [Event::Pong { tag, data: data.clone() }]);
        driven.write(&data);
        let (command, along) = target.command();
        assert_eq!(along, data);
        target.good(command.initiator_task_tag.get());
        assert_eq!(outcome(&driven), good(0, length as u32));
    }
    let task = driven.read(5);
    let (command, _) = target.command();
    let mut header = data_in(command.initiator_task_tag.get(), 0, 0);
    header.flags = FINAL | 1;
    let header = target.numbered(header);
    let mut bytes = Frame::new(header, &pattern(5)).encode(Default::default());
    bytes[53..56].fill(0x77);
    target.send_bytes(&bytes);
    assert_eq!(outcome(&driven), good(5, 0));
    assert_eq!(driven.memory(task).data_in, pattern(5));
}

#[test]
fn pdu_02_reserved_bits_that_are_set_change_nothing() {
    let (driven, mut target) = small(|session| session.immediate_data = false);
    let data = pattern(600);
    driven.write(&data);
    let (command, _) = target.command();
    let tag = command.initiator_task_tag.get();
    let mut header = target.r2t(&command, 0, 0, 600);
    (header.opcode_byte, header.flags, header.reserved) = (header.opcode_byte | 0x80, 0xff, [0xff; 2]);
    target.send(&Frame::new(header, &[]));
    assert_eq!(target.data_out(0x700), data);
    let mut header = response(tag);
    (header.flags, header.reserved, header.snack_tag) = (0x81, [0xff; 8], 0x55.into());
    header.opcode_byte |= 0xc0;
    target.say(header, &[]);
    assert_eq!(outcome(&driven), good(0, 600));

    driven.read(8);
    let (command, _) = target.command();
    let mut header = data_in(command.initiator_task_tag.get(), 0, 0);
    (header.flags, header.reserved) = (FINAL | 0x39, 0xff);
    header.lun = [0xff; 8];
    target.say(header, &[1; 8]);
    assert_eq!(outcome(&driven), good(8, 0));

    let mut ping = news();
    (ping.flags, ping.reserved, ping.reserved_2) = (0xff, [0xff; 2], [0xff; 12]);
    target.say(ping, &[]);
    goes_on(&driven, &mut target);
}

#[test]
fn pdu_03_reserved_codes_are_told_as_they_are_or_end_the_session() {
    let (driven, mut target) = level(0);
    let c = driven.connection(0);
    let function = driven.session().task_management(c, Function::LogicalUnitReset, LUN).expect("a function");
    let (request, _) = target.expect::<TaskManagementRequest>();
    target.function_done(request.initiator_task_tag.get(), 77);
    assert_eq!(driven.events(), [Event::TaskManagement { tag: function, response: Some(77) }]);
    for event in [6, 77, 254, 255] {
        target.event(event, LUN, [1, 2, 3], b"what");
    }
    assert_eq!(driven.events().len(), 4);
    driven.submit(Command::new(LUN, &[0]), &[]);
    let (command, _) = target.command();
    let mut header = iscsi::wire::Reject::empty();
    (header.flags, header.reason, header.initiator_task_tag) = (FINAL, 0x77, RESERVED_TAG.into());
    target.say(header, command.as_bytes());
    assert_eq!(outcome(&driven), Outcome::Rejected(RejectReason::ProtocolError));
    goes_on(&driven, &mut target);
}

#[test]
fn pdu_04_opcodes_of_initiators_and_of_nobody_end_the_session() {
    use Opcode::*;
    let legal = [NopIn, ScsiResponse, TaskManagementResponse, TextResponse, DataIn, LogoutResponse, ReadyToTransfer];
    for opcode in 0..0x40 {
        if legal.iter().any(|legal| *legal as u8 == opcode) || [AsyncMessage as u8, Reject as u8].contains(&opcode) {
            continue;
        }
        let (driven, mut target) = level(2);
        driven.read(8);
        target.command();
        let mut header = target.numbered(response(7));
        header.opcode_byte = opcode;
        target.send(&Frame { header: header.as_bytes().to_vec(), data: Vec::new() });
        format_error(&driven);
    }
}

#[test]
fn pdu_05_segments_where_none_belong_end_the_session() {
    let cases: [fn(u32) -> Frame; 4] = [
        |tag| Frame::new(response(tag), &[]).with_additional(&[0, 5, 2, 0, 0, 0, 0, 8]),
        |tag| {
            let mut header = iscsi::wire::ReadyToTransfer::empty();
            (header.initiator_task_tag, header.desired_data_transfer_length) = (tag.into(), 8.into());
            Frame::new(header, &[1; 4])
        },
        |_| Frame::new(iscsi::wire::TaskManagementResponse::empty(), &[1; 4]),
        |_| Frame::new(iscsi::wire::LogoutResponse::empty(), &[1; 4]),
    ];
    for case in cases {
        let (driven, mut target) = level(0);
        driven.read(8);
        let (command, _) = target.command();
        target.send(&case(command.initiator_task_tag.get()));
        format_error(&driven);
    }
}

#[test]
fn pdu_06_a_data_segment_above_the_declared_length_is_not_taken_and_none_is_sent() {
    let (driven, mut target) = small(|_| {});
    let task = driven.read(4096);
    let (command, _) = target.command();
    target.say(data_in(command.initiator_task_tag.get(), 0, 0), &[1; 1028]);
    format_error(&driven);
    assert!(driven.memory(task).data_in.iter().all(|byte| *byte == 0xaa), "nothing of it was taken");
    // Lengths up to the largest that a header can tell cost nothing: they are refused before they are read.
    for length in [1025, 65_536, (1 << 24) - 1] {
        let (driven, mut target) = small(|_| {});
        let mut header = target.numbered(response(1));
        header.set_data_segment_bytes(length);
        target.send_bytes(header.as_bytes());
        format_error(&driven);
    }
}

#[test]
fn pdu_09_a_format_error_on_one_connection_closes_them_all_at_every_level() {
    for recovery in 0..=2 {
        let (driven, mut first) = level(recovery);
        let second = join(&driven, 2);
        let task = driven.try_submit(1, Command { data_in: 8, ..Command::new(LUN, &[0x28]) }, &[]).unwrap();
        first.say(data_in(0x7777, 0, 0).with_status(), &[1; 8]);
        let lies = iscsi::wire::LoginResponse::empty();
        first.say(lies, &[]);
        format_error_told(&driven, task);
        assert!(driven.is_closed(0) && driven.is_closed(1), "level {recovery}");
        drop(second);
    }
}

fn format_error_told(driven: &sim::scripted::Driven, task: iscsi::session::TaskId) {
    let events = driven.events();
    assert!(events.contains(&Event::Completed(task, Outcome::Lost)), "{events:?}");
    assert!(events.contains(&Event::Over), "the session is given up: {events:?}");
}

trait WithStatus {
    fn with_status(self) -> Self;
}

impl WithStatus for DataIn {
    fn with_status(mut self) -> DataIn {
        self.flags = FINAL | 1;
        self
    }
}

#[test]
fn pdu_10_pdu_11_long_cdbs_and_reads_beside_writes_have_their_header_segments_and_nothing_else_has() {
    let (driven, mut target) = level(0);
    for length in [6, 10, 12, 16, 17, 32, 260] {
        let cdb = pattern(length);
        driven.submit(Command::new(LUN, &cdb), &[]);
        let frame = target.receive().expect("a command");
        let command = *frame.view::<ScsiCommand>().expect("a command");
        let start = length.min(16);
        assert_eq!((&command.cdb[..start], &command.cdb[start..]), (&cdb[..start], &[0; 16][start..]));
        match length {
            0..=16 => assert_eq!(frame.header.len(), 48),
            _ => {
                let expected = [&((length - 15) as u16).to_be_bytes()[..], &[1, 0], &cdb[16..]].concat();
                assert_eq!(frame.header[48..48 + expected.len()], expected, "AHSLength is the CDB's less 15");
                assert_eq!(frame.header.len() % 4, 0);
            }
        }
        target.good(command.initiator_task_tag.get());
    }
    driven.events();
    let both = Command { data_in: 0x1234, data_out: 8, ..Command::new(LUN, &[0x53]) };
    driven.submit(both, &[1; 8]);
    let frame = target.receive().expect("a command");
    let command = frame.view::<ScsiCommand>().expect("a command");
    assert!(command.reads() && command.writes());
    assert_eq!(frame.header[48..], [0, 5, 2, 0, 0, 0, 0x12, 0x34]);
    assert_eq!(command.expected_data_transfer_length.get(), 8);
}

#[test]
fn pdu_13_data_in_without_data_is_taken() {
    let (driven, mut target) = level(0);
    driven.read(8);
    let (command, _) = target.command();
    let tag = command.initiator_task_tag.get();
    target.say(data_in(tag, 0, 0), &[]);
    target.say(data_in(tag, 1, 0), &[1; 8]);
    target.say(data_in(tag, 2, 8).with_status(), &[]);
    assert_eq!(outcome(&driven), good(8, 0));
}

#[test]
fn pdu_14_tags_differ_among_the_living_whatever_the_target_does() {
    let (driven, mut target) = level(0);
    let mut living = std::collections::HashSet::new();
    for _ in 0..200 {
        driven.read(8);
        let (command, _) = target.command();
        let tag = command.initiator_task_tag.get();
        assert!(tag != RESERVED_TAG && living.insert(tag), "tag {tag:x} names two tasks");
        if living.len() == 8 {
            let tag = *living.iter().next().expect("one");
            living.remove(&tag);
            target.answer_read(tag, &[1; 8]);
        }
    }
}

#[test]
fn pdu_16_pdus_that_do_not_fit_their_task_end_the_session() {
    // An R2T of another unit.
    let (driven, mut target) = small(|session| session.immediate_data = false);
    driven.write(&pattern(8));
    let (command, _) = target.command();
    let mut header = target.r2t(&command, 0, 0, 8);
    header.lun[1] = 9;
    target.send(&Frame::new(header, &[]));
    format_error(&driven);
    // Data that is to be acknowledged for another unit.
    let (driven, mut target) = level(1);
    driven.read(16);
    let (command, _) = target.command();
    let mut header = data_in(command.initiator_task_tag.get(), 0, 0);
    (header.flags, header.target_transfer_tag, header.lun) = (0x40, 9.into(), [0, 9, 0, 0, 0, 0, 0, 0]);
    target.say(header, &[1; 8]);
    format_error(&driven);
    // Data for a command that does not read, and for one that is not there.
    for bad in [None, Some(0x1234_5678)] {
        let (driven, mut target) = level(0);
        driven.submit(Command::new(LUN, &[0]), &[]);
        let (command, _) = target.command();
        target.say(data_in(bad.unwrap_or(command.initiator_task_tag.get()), 0, 0), &[1; 8]);
        format_error(&driven);
    }
    // An answer of another kind than the request.
    let (driven, mut target) = with(|_| {});
    let c = driven.connection(0);
    driven.session().send_text(c, b"SendTargets=All\0").expect("a text");
    let (request, _) = target.expect::<iscsi::wire::TextRequest>();
    target.function_done(request.initiator_task_tag.get(), 0);
    format_error(&driven);
    let (driven, mut target) = with(|_| {});
    let mut header = TextResponse::empty();
    (header.flags, header.target_transfer_tag) = (FINAL, RESERVED_TAG.into());
    target.say(header, b"TargetName=iqn.2026-01.org.example:x\0");
    format_error(&driven);
}
