//! What of KEY and DSC shows in text requests: keys at their time, discovery (RFC 7143 §4.3, §6.4, §11.10, §13).

use crate::help::{Simulated, alone, connect, goes_on, normal, rejected, session, target};
use crate::text::{ask, log_in, refuse, with_names};
use iscsi::key::KEYS;
use iscsi::wire::{CONTINUE, FINAL, RESERVED_TAG};
use sim::raw::{Command, Login};
use sim::{Frame, Refused};
use std::time::Duration;

#[test]
fn key_08_a_length_that_is_declared_anew_holds_from_the_answer_on() {
    let target = target();
    let mut client = session(&target, &normal());
    let mut other = session(&target, &normal().isid(7).key("MaxRecvDataSegmentLength", 1024));
    let pdus = |client: &mut Simulated| client.execute(&Command::read(0, 32)).data_in_pdus;
    assert_eq!((pdus(&mut client), pdus(&mut other)), (2, 16), "8,192 unless said otherwise; each its own");
    for (length, expected) in [(512, 32), (16_384, 1), (1024, 16)] {
        // An answer to a declaration is not needed; the capture judges every PDU from then on.
        assert_eq!(client.text(format!("MaxRecvDataSegmentLength={length}\0").as_bytes()), b"");
        assert_eq!(pdus(&mut client), expected);
    }
    assert_eq!(pdus(&mut other), 16);
    for length in ["511", "16777216", "0", "-1", "x"] {
        let text = format!("MaxRecvDataSegmentLength={length}\0");
        assert_eq!(client.text(text.as_bytes()), b"MaxRecvDataSegmentLength=Reject\0");
        assert_eq!(pdus(&mut client), 16, "{length}");
    }
}

#[test]
fn key_17_keys_at_the_wrong_time_are_refused_and_change_nothing() {
    let mut client = alone(&normal().key("InitialR2T", "Yes").key("MaxOutstandingR2T", 1));
    for key in
        KEYS.iter().filter(|key| !["SendTargets", "MaxRecvDataSegmentLength", "InitiatorAlias"].contains(&key.name))
    {
        let text = format!("{}=1\0", key.name);
        assert_eq!(refuse(&mut client, 1, FINAL, RESERVED_TAG, text.as_bytes()), 0x04, "{}", key.name);
    }
    let tag = client.start(&Command::write(0, &[1; 2048]));
    assert_eq!(client.finish(tag).ready_to_transfers, 0, "the data was immediate as before");
    goes_on(&mut client);
    assert_eq!(log_in(&with_names(b"SendTargets=All\0"), 0x87).unwrap_err(), Refused::Status(2, 0));
    assert_eq!(log_in(&with_names(b"TargetAddress=127.0.0.1\0"), 0x87).unwrap_err(), Refused::Status(2, 0));
    assert_eq!(log_in(&with_names(b"AuthMethod=None\0"), 0x87).unwrap_err(), Refused::Status(2, 0));
    for key in ["MaxBurstLength=512", "HeaderDigest=None", "MaxRecvDataSegmentLength=512", "IFMarker=No"] {
        let text = format!("{key}\0");
        let refused = log_in(&with_names(text.as_bytes()), 0x81).unwrap_err();
        assert_eq!(refused, Refused::Status(2, 0), "{key} in the security stage");
    }
}

#[test]
fn key_03_an_operational_session_learns_of_its_own_target_only() {
    let mut client = alone(&normal());
    assert_eq!(client.text(b"SendTargets=All\0"), b"SendTargets=Reject\0");
    let own = String::from_utf8(client.text(b"SendTargets=\0")).unwrap();
    assert!(own.starts_with(&format!("TargetName={}\0TargetAddress=", sim::daemon::TARGET)), "{own}");
    assert_eq!(client.text(b"SendTargets=iqn.2026-01.org.example:other\0"), b"");
    assert_eq!(log_in(&with_names(b"SendTargets=\0"), 0x87).unwrap_err(), Refused::Status(2, 0));
}

fn discovery() -> Simulated {
    let mut client = connect(&target());
    client.login(&Login::discovery());
    client
}

#[test]
fn dsc_01_a_discovery_session_is_for_discovery() {
    let mut client = discovery();
    let ping = Frame::new(client.ping_header(1), b"");
    let function = Frame::new(client.task_management_header(5, RESERVED_TAG, 0), b"");
    let mut command = Command::test_unit_ready().header();
    command.opcode_byte |= 0x40;
    command.initiator_task_tag = 2.into();
    for frame in [ping, function, Frame::new(command, b"")] {
        client.send(&frame);
        assert_eq!(rejected(&mut client, &frame), 0x04);
    }
    for text in [&b"Foo=1\0"[..], b"InitiatorAlias=a\0", b"MaxBurstLength=512\0", b"SendTargets=All\0Foo=1\0"] {
        assert_eq!(refuse(&mut client, 3, FINAL, RESERVED_TAG, text), 0x04, "{text:?}");
    }
    assert!(client.text(b"SendTargets=All\0").starts_with(b"TargetName="));
    client.logout();
}

#[test]
fn dsc_04_an_answer_goes_on_in_pieces_and_what_is_left_half_way_is_forgotten() {
    let world = target();
    let mut client = session(&world, &normal().key("MaxRecvDataSegmentLength", 512));
    let question: String = (0..60).map(|number| format!("X-a.{number}=1\0")).collect();
    let (first, data) = ask(&mut client, 1, FINAL, RESERVED_TAG, question.as_bytes());
    assert_eq!((first.flags, data.len()), (CONTINUE, 512));
    world.pass(Duration::from_secs(10));
    client.expect_silence(Duration::from_millis(1));
    let (second, _) = ask(&mut client, 1, FINAL, first.target_transfer_tag.get(), b"");
    assert_eq!(second.flags, CONTINUE, "it is still known");
    for _ in 0..6 {
        world.pass(Duration::from_secs(10));
        client.expect_silence(Duration::from_millis(1));
    }
    assert_eq!(refuse(&mut client, 1, FINAL, first.target_transfer_tag.get(), b""), 0x09, "after a minute it is not");
    // As is one whose question was left half way.
    let (first, _) = ask(&mut client, 2, CONTINUE, RESERVED_TAG, b"Fo");
    for _ in 0..6 {
        world.pass(Duration::from_secs(10));
        client.expect_silence(Duration::from_millis(1));
    }
    assert_eq!(refuse(&mut client, 2, FINAL, first.target_transfer_tag.get(), b"o=1\0"), 0x09);
    assert_eq!(client.text(b"Foo=1\0"), b"Foo=NotUnderstood\0");
}

#[test]
fn dsc_05_tags_and_the_final_bit_go_together_and_do_not_change() {
    let mut client = alone(&normal());
    let (first, _) = ask(&mut client, 1, 0, RESERVED_TAG, b"Foo=1\0");
    assert_eq!(first.flags, 0);
    let transfer_tag = first.target_transfer_tag.get();
    assert_ne!(transfer_tag, RESERVED_TAG);
    assert_eq!(refuse(&mut client, 1, FINAL, transfer_tag ^ 1, b""), 0x09, "another transfer tag");
    assert_eq!(refuse(&mut client, 2, FINAL, transfer_tag, b""), 0x09, "another task tag");
    // Not immediate where the first was: its number stays a gap.
    let mut numbered = client.text_header(1, FINAL, transfer_tag);
    numbered.opcode_byte &= 0x3f;
    let frame = Frame::new(numbered, b"");
    client.send(&frame);
    assert_eq!(rejected(&mut client, &frame), 0x09, "another immediate bit");
    let (last, _) = ask(&mut client, 1, FINAL, transfer_tag, b"Bar=2\0");
    assert_eq!((last.flags, last.target_transfer_tag.get()), (FINAL, RESERVED_TAG), "nothing of that ended it");
    assert_eq!(refuse(&mut client, 1, FINAL, transfer_tag, b""), 0x09, "now it has ended");
    let (next, _) = ask(&mut client, 1, 0, RESERVED_TAG, b"Foo=1\0");
    assert_ne!(next.target_transfer_tag.get(), transfer_tag, "another negotiation has another tag");
}

#[test]
fn dsc_06_what_needs_no_more_answers_is_answered_with_f() {
    let mut client = alone(&normal());
    for text in [&b"Foo=1\0"[..], b"", b"InitiatorAlias=a\0", b"SendTargets=\0", b"MaxRecvDataSegmentLength=4096\0"] {
        let (answer, _) = ask(&mut client, 1, FINAL, RESERVED_TAG, text);
        assert_eq!(answer.flags, FINAL, "{text:?}");
    }
    // Keys are answered when they come, not at the end of all.
    let (answer, text) = ask(&mut client, 2, 0, RESERVED_TAG, b"Foo=1\0");
    assert_eq!((answer.flags, &text[..]), (0, &b"Foo=NotUnderstood\0"[..]));
    let (answer, text) = ask(&mut client, 2, FINAL, answer.target_transfer_tag.get(), b"Bar=1\0");
    assert_eq!((answer.flags, &text[..]), (FINAL, &b"Bar=NotUnderstood\0"[..]));
}

#[test]
fn dsc_08_a_discovery_session_is_of_level_0_and_left_alone() {
    let target = target();
    let mut client = connect(&target);
    let answers = client.login(&Login::discovery().key("ErrorRecoveryLevel", 2));
    assert!(answers.contains("ErrorRecoveryLevel=0\n"), "{answers}");
    for _ in 0..5 {
        target.pass(Duration::from_secs(16));
        client.expect_silence(Duration::from_millis(1));
    }
    assert!(!client.text(b"SendTargets=All\0").is_empty());
}
