//! CSN and SSN: command and status numbers (RFC 7143 §4.2.2).

use crate::help::{Simulated, alone, connect, goes_on, normal, pattern, rejected, session, target};
use iscsi::serial::precedes;
use iscsi::wire::{
    FINAL, NopIn, NopOut, Opcode, Pdu, RESERVED_TAG, ReadyToTransfer, Reject, ScsiCommand, ScsiResponse, TextResponse,
};
use sim::capture::Side;
use sim::raw::Command;
use sim::{Ended, Frame, Random};
use std::time::Duration;

/// A WRITE of one block with this CmdSN.
fn numbered(client: &mut Simulated, cmd_sn: u32, lba: u32, salt: u8) -> (Frame, u32) {
    let before = client.cmd_sn;
    client.cmd_sn = cmd_sn;
    let frame = client.prepare(&Command::write(lba, &[salt; 512])).remove(0);
    client.cmd_sn = before;
    let tag = frame.basic().initiator_task_tag.get();
    (frame, tag)
}

#[test]
fn csn_02_commands_take_effect_in_the_order_of_their_numbers() {
    for seed in 0..20 {
        let mut random = Random::new(seed);
        let mut client = alone(&normal());
        let first = client.cmd_sn;
        let mut frames: Vec<_> =
            (0..16u8).map(|salt| numbered(&mut client, first.wrapping_add(salt.into()), 5, salt)).collect();
        client.cmd_sn = first.wrapping_add(16);
        for at in (1..frames.len()).rev() {
            frames.swap(at, random.size(at + 1));
        }
        frames.iter().for_each(|(frame, _)| client.send(frame));
        for (_, tag) in &frames {
            assert!(client.finish(*tag).is_good());
        }
        assert_eq!(client.good(&Command::read(5, 1)), [15; 512], "seed {seed}");
    }
}

#[test]
fn csn_03_numbers_outside_the_window_and_duplicates_are_ignored_without_a_word() {
    for start in [1, 0x7fff_fff0, u32::MAX - 3] {
        let mut login = normal();
        login.cmd_sn = start;
        let mut client = alone(&login);
        let (next, max) = (client.cmd_sn, client.capture.max_cmd_sn());
        for ignored in [next.wrapping_sub(1), max.wrapping_add(1), next.wrapping_add(1 << 31)] {
            let (frame, tag) = numbered(&mut client, ignored, 0, 0xbd);
            client.send(&frame);
            client.forget(tag);
            let mut ping = client.ping_header(0x7070);
            ping.opcode_byte &= 0x3f;
            ping.cmd_sn = ignored.into();
            client.send(&Frame::new(ping, b"ignored too"));
        }
        client.expect_silence(Duration::from_millis(1));
        // A duplicate of a command that waits for its turn.
        let (early, tag) = numbered(&mut client, next.wrapping_add(1), 1, 1);
        client.send(&early);
        let (duplicate, other) = numbered(&mut client, next.wrapping_add(1), 1, 0xbd);
        client.send(&duplicate);
        client.forget(other);
        client.expect_silence(Duration::from_millis(1));
        goes_on(&mut client);
        assert!(client.finish(tag).is_good());
        client.cmd_sn = next.wrapping_add(2);
        let read = client.good(&Command::read(0, 2));
        assert_eq!((&read[..512], &read[512..]), (&[0; 512][..], &[1; 512][..]));
        let (exp, max) = (client.capture.exp_cmd_sn(), client.capture.max_cmd_sn());
        assert_eq!(max.wrapping_sub(exp), 127, "what was ignored holds no place in the window");
    }
}

#[test]
fn csn_04_exp_cmd_sn_never_acknowledges_past_a_hole() {
    let mut client = alone(&normal());
    let first = client.cmd_sn;
    let (gap, gap_tag) = numbered(&mut client, first, 0, 1);
    let later: Vec<_> = (1..5).map(|at| numbered(&mut client, first.wrapping_add(at), at, 1)).collect();
    later.iter().for_each(|(frame, _)| client.send(frame));
    client.ping(b"");
    assert_eq!(client.capture.exp_cmd_sn(), first, "it stands at the hole");
    client.send(&gap);
    for tag in later.iter().map(|(_, tag)| *tag).chain([gap_tag]) {
        assert!(client.finish(tag).is_good());
    }
    assert_eq!(client.capture.exp_cmd_sn(), first.wrapping_add(5), "and jumps when it is filled");
}

#[test]
fn csn_05_max_cmd_sn_never_moves_back_under_load() {
    for seed in 0..5 {
        let mut random = Random::new(seed);
        let mut client = alone(&normal());
        client.capture.record();
        let mut waiting: Vec<u32> = Vec::new();
        for _ in 0..300 {
            let open = !precedes(client.capture.max_cmd_sn(), client.cmd_sn);
            if open && !random.once_in(3) {
                waiting.push(client.start(&Command::write(random.size(64) as u32, &[1; 512]).solicited()));
            } else if !waiting.is_empty() {
                let tag = waiting.swap_remove(random.size(waiting.len()));
                client.finish(tag);
            }
        }
        waiting.into_iter().for_each(|tag| drop(client.finish(tag)));
        let mut told: Option<(u32, u32)> = None;
        for (_, frame) in client.capture.recorded().iter().filter(|(side, _)| *side == Side::Target) {
            let numbers = ScsiResponse::view(frame.basic());
            let (exp, max) = (numbers.exp_cmd_sn.get(), numbers.max_cmd_sn.get());
            assert!(!precedes(max, exp.wrapping_sub(1)), "MaxCmdSN {max} with ExpCmdSN {exp}");
            if let Some((exp_before, max_before)) = told {
                assert!(!precedes(max, max_before) && !precedes(exp, exp_before), "seed {seed}");
            }
            told = Some((exp, max));
        }
    }
}

#[test]
fn csn_06_a_window_that_opens_while_nothing_is_due_is_told_by_a_nop_in() {
    let target = target();
    let mut client = session(&target, &normal());
    let mut other = session(&target, &normal().isid(7));
    client.hold_data = true;
    let mut tags = Vec::new();
    while !precedes(client.capture.max_cmd_sn(), client.cmd_sn) {
        tags.push(client.start(&Command::write(0, &[1; 512]).solicited()));
    }
    let asked: Vec<ReadyToTransfer> = tags.iter().map(|_| client.expect::<ReadyToTransfer>().0).collect();
    assert!(precedes(client.capture.max_cmd_sn(), client.cmd_sn), "the window is shut");
    // Tasks that another initiator clears have no response that could tell of their place in the window.
    assert_eq!(other.task_management(4, RESERVED_TAG, 0), 0);
    client.capture.record();
    asked.iter().for_each(|one| client.answer_ready_to_transfer(one));
    tags.into_iter().for_each(|tag| client.forget(tag));
    client.expect_silence(Duration::from_millis(1));
    assert!(!precedes(client.capture.max_cmd_sn(), client.cmd_sn), "the initiator knows that it is open again");
    let told = client.capture.recorded().iter().filter(|(side, _)| *side == Side::Target);
    for (_, frame) in told {
        let nop_in = frame.view::<NopIn>().expect("nothing but NOP-Ins");
        assert_eq!((nop_in.initiator_task_tag.get(), nop_in.target_transfer_tag.get()), (RESERVED_TAG, RESERVED_TAG));
    }
    client.hold_data = false;
    client.take_attentions();
}

#[test]
fn csn_10_a_command_that_is_sent_again_has_no_second_effect() {
    let mut client = alone(&normal());
    let number = client.take_cmd_sn();
    let (frame, tag) = numbered(&mut client, number, 3, 1);
    client.send(&frame);
    assert!(client.finish(tag).is_good());
    client.good(&Command::write(3, &[2; 512]));
    // The same bytes once more: the number is used up.
    client.send(&frame);
    client.expect_silence(Duration::from_millis(1));
    assert_eq!(client.good(&Command::read(3, 1)), [2; 512]);
}

#[test]
fn csn_12_what_was_rejected_leaves_a_gap_that_the_same_number_fills() {
    let mut client = alone(&normal());
    let number = client.cmd_sn;
    let (mut refused, tag) = numbered(&mut client, number, 0, 1);
    refused.header[1] |= 0x07;
    client.send(&refused);
    assert_eq!(rejected(&mut client, &refused), 0x09);
    client.forget(tag);
    let (later, later_tag) = numbered(&mut client, number.wrapping_add(1), 1, 2);
    client.send(&later);
    client.ping(b"");
    assert!(!client.is_answered(later_tag), "it waits behind the gap");
    let (again, tag) = numbered(&mut client, number, 0, 3);
    client.send(&again);
    assert!(client.finish(tag).is_good() && client.finish(later_tag).is_good());
    client.cmd_sn = number.wrapping_add(2);
    assert_eq!(client.good(&Command::read(0, 1)), [3; 512]);
    // The same of what is refused only when its turn has come.
    let number = client.cmd_sn;
    let mut text = client.text_header(0x61, FINAL, RESERVED_TAG);
    text.opcode_byte &= 0x3f;
    text.cmd_sn = number.into();
    let refused = Frame::new(text, b"MaxBurstLength=512\0");
    client.send(&refused);
    assert_eq!(rejected(&mut client, &refused), 0x04);
    let (later, later_tag) = numbered(&mut client, number.wrapping_add(1), 1, 2);
    client.send(&later);
    client.ping(b"");
    assert!(!client.is_answered(later_tag), "it waits behind the gap");
    client.send(&Frame::new(text, b"Foo=1\0"));
    assert_eq!(client.response::<TextResponse>(0x61).1, b"Foo=NotUnderstood\0");
    assert!(client.finish(later_tag).is_good());
}

#[test]
fn log_06_the_login_tells_the_number_of_the_first_command_and_uses_none() {
    for start in [0, 1, 0x7fff_ffff, u32::MAX] {
        let mut login = normal();
        login.cmd_sn = start;
        let mut client = connect(&target());
        client.login(&login);
        assert_eq!(client.cmd_sn, start);
        let tag = client.start(&Command::test_unit_ready());
        client.finish(tag);
        assert_eq!(client.capture.exp_cmd_sn(), start.wrapping_add(1));
    }
}

#[test]
fn ssn_01_each_response_has_the_next_stat_sn_and_data_and_r2t_have_none() {
    let login = normal().key("MaxRecvDataSegmentLength", 512).key("MaxBurstLength", 1024);
    let mut client = alone(&login);
    client.capture.record();
    client.good(&Command::write(0, &pattern(4096, 1)).solicited());
    client.good(&Command::read(0, 8));
    client.execute(&Command::read(0, 9).expecting(1));
    client.execute(&Command::cdb(&[0xff; 6]));
    client.ping(b"x");
    client.text(b"Foo=1\0");
    client.task_management(2, RESERVED_TAG, 0);
    let unknown = {
        let mut frame = Frame::new(client.ping_header(1), b"");
        frame.header[0] = 0x5c;
        frame
    };
    client.send(&unknown);
    assert_eq!(rejected(&mut client, &unknown), 0x05);
    client.logout();
    let mut kinds = Vec::new();
    let mut due: Option<u32> = None;
    for (_, frame) in client.capture.recorded().iter().filter(|(side, _)| *side == Side::Target) {
        let opcode = Opcode::from_number(frame.opcode()).unwrap();
        let stat_sn = ScsiResponse::view(frame.basic()).stat_sn.get();
        let unnumbered = match opcode {
            Opcode::DataIn => frame.header[1] & 0x01 == 0,
            Opcode::ReadyToTransfer => true,
            _ => false,
        };
        if unnumbered {
            continue;
        }
        assert_eq!(stat_sn, due.unwrap_or(stat_sn), "{}", frame.summary());
        due = Some(stat_sn.wrapping_add(1));
        kinds.push(opcode);
    }
    use Opcode as O;
    let expected = [
        O::ScsiResponse,
        O::DataIn,
        O::DataIn,
        O::ScsiResponse,
        O::NopIn,
        O::TextResponse,
        O::TaskManagementResponse,
        O::Reject,
        O::LogoutResponse,
    ];
    assert_eq!(kinds, expected);
}

#[test]
fn ssn_04_an_exp_stat_sn_that_acknowledges_what_was_not_sent_is_a_protocol_error() {
    let target = target();
    let mut bystander = session(&target, &normal().isid(9));
    // libiscsi counts the StatSN of an R2T, which none uses, as received: that much is let pass.
    let mut client = session(&target, &normal());
    client.exp_stat_sn = client.exp_stat_sn.wrapping_add(1);
    goes_on(&mut client);
    for ahead in [1000u32, 0x7fff_ffff] {
        let mut client = session(&target, &normal());
        let mut header = client.ping_header(1);
        header.exp_stat_sn = client.exp_stat_sn.wrapping_add(ahead).into();
        let frame = Frame::new(header, b"");
        client.send(&frame);
        match client.receive() {
            Err(Ended::Closed) => {}
            Ok(answer) => assert_eq!(answer.view::<Reject>().map(|reject| reject.reason), Some(0x04), "{ahead} ahead"),
            Err(Ended::Silence) => panic!("nothing is said, {ahead} ahead"),
        }
    }
    goes_on(&mut bystander);
}

#[test]
fn ssn_05_a_status_acknowledges_its_command() {
    let mut client = alone(&normal());
    client.capture.record();
    client.good(&Command::read(0, 3));
    client.execute(&Command::cdb(&[0xff; 6]));
    client.good(&Command::write(0, &pattern(2048, 1)).solicited());
    let mut commands = std::collections::HashMap::new();
    for (_, frame) in client.capture.recorded() {
        let tag = frame.basic().initiator_task_tag.get();
        if let Some(command) = frame.view::<ScsiCommand>() {
            commands.insert(tag, command.cmd_sn.get());
        } else if matches!(Opcode::from_number(frame.opcode()), Some(Opcode::ScsiResponse | Opcode::DataIn)) {
            let acknowledged = ScsiResponse::view(frame.basic()).exp_cmd_sn.get();
            assert!(precedes(commands[&tag], acknowledged), "{}", frame.summary());
        }
    }
    assert_eq!(commands.len(), 3);
}

/// Named here so that a NOP-Out without the immediate bit takes its number too.
#[test]
fn csn_02_a_ping_that_is_not_immediate_waits_for_its_turn() {
    let mut client = alone(&normal());
    let number = client.cmd_sn;
    let mut ping = NopOut::empty();
    ping.flags = FINAL;
    ping.initiator_task_tag = 0x99.into();
    ping.target_transfer_tag = RESERVED_TAG.into();
    ping.cmd_sn = number.wrapping_add(1).into();
    ping.exp_stat_sn = client.exp_stat_sn.into();
    client.send(&Frame::new(ping, b"later"));
    client.expect_silence(Duration::from_millis(1));
    goes_on(&mut client);
    assert_eq!(client.response::<NopIn>(0x99).1, b"later");
    client.cmd_sn = number.wrapping_add(2);
    goes_on(&mut client);
}
