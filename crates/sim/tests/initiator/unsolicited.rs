//! NOP, ASY, DSC: pings, asynchronous messages, and long answers.

use crate::help::{bounded, format_error, goes_on, good, level, outcome};
use iscsi::initiator::{Command, Event, Limits, Refused};
use iscsi::wire::{FINAL, LogoutRequest, NopOut, Pdu, RESERVED_TAG, TextRequest};
use sim::scripted::driven::LUN;
use sim::scripted::news;
use std::time::Duration;

#[test]
fn nop_04_nop_05_a_ping_is_answered_once_with_its_tag_and_unit_and_news_are_not_answered() {
    let (driven, mut target) = level(0);
    target.ping(0x1234, LUN);
    let (pong, data) = target.expect::<NopOut>();
    assert_eq!((pong.target_transfer_tag.get(), pong.lun, data.len()), (0x1234, LUN, 0));
    assert!(pong.initiator_task_tag.get() == RESERVED_TAG && pong.header().immediate());
    for _ in 0..10 {
        target.news();
    }
    assert!(target.receive().is_err(), "news are not answered, and answers are not either");
    // Our own ping: its answer is not answered.
    let c = driven.connection(0);
    let tag = driven.session().ping(c, b"12345").expect("a ping");
    let (ping, data) = target.expect::<NopOut>();
    assert_eq!((ping.initiator_task_tag.get(), ping.target_transfer_tag.get()), (tag, RESERVED_TAG));
    target.pong(tag, &data);
    assert!(target.receive().is_err());
    assert_eq!(driven.events(), [Event::Pong { tag, data }]);
    goes_on(&driven, &mut target);
}

#[test]
fn nop_05_a_target_that_pings_without_end_gets_what_fits_and_no_more() {
    let (driven, mut target) = level(0);
    let mut bytes = Vec::new();
    for tag in 0..5000u32 {
        let mut header = news();
        header.target_transfer_tag = tag.into();
        let header = target.numbered(header);
        bytes.extend(sim::Frame::new(header, &[]).encode(Default::default()));
    }
    // In one piece: nothing of it is answered before all of it was read.
    target.send_bytes(&bytes);
    let mut answers = 0;
    while target.receive().is_ok() {
        answers += 1;
    }
    assert!((1..=16).contains(&answers), "{answers} answers");
    goes_on(&driven, &mut target);
}

#[test]
fn nop_07_pings_that_contradict_themselves_end_the_session() {
    let (driven, mut target) = level(0);
    let c = driven.connection(0);
    let tag = driven.session().ping(c, b"x").expect("a ping");
    target.expect::<NopOut>();
    let mut both = news();
    (both.initiator_task_tag, both.target_transfer_tag) = (tag.into(), 7.into());
    target.say(both, b"x");
    format_error(&driven);
    // An answer to a ping that was not sent, and a ping of the target's with data.
    let (driven, mut target) = level(0);
    target.pong(0x8000_0777, b"");
    format_error(&driven);
    let (driven, mut target) = level(0);
    let mut header = news();
    header.target_transfer_tag = 7.into();
    target.say(header, b"data");
    format_error(&driven);
}

#[test]
fn nop_06_silence_costs_the_connection_and_so_does_a_ping_that_is_never_answered() {
    let (driven, target) = level(0);
    let task = driven.read(8);
    driven.pass(Limits::default().nop_interval + Limits::default().nop_timeout + Duration::from_secs(1));
    assert!(driven.is_closed(0) && driven.error(0).is_some());
    assert!(driven.events().contains(&Event::Completed(task, iscsi::initiator::Outcome::Lost)));
    drop(target);
    // A target that talks all the time and does not answer the caller's ping.
    let (driven, mut target) = level(0);
    let c = driven.connection(0);
    driven.session().ping(c, b"x").expect("a ping");
    for _ in 0..40 {
        driven.pass(Duration::from_secs(1));
        if driven.is_closed(0) {
            break;
        }
        target.news();
        while target.receive().is_ok() {}
    }
    assert!(driven.is_closed(0), "it is waited for without end");
}

#[test]
fn asy_01_a_request_to_log_out_is_followed_in_time_and_no_command_is_begun_meanwhile() {
    for busy in [false, true] {
        let (driven, mut target) = level(0);
        if busy {
            driven.read(8);
            target.command();
        }
        target.event(1, [0; 8], [0, 0, 10], &[]);
        assert_eq!(driven.try_submit(0, Command::new(LUN, &[0]), &[]), Err(Refused::Closing));
        driven.pass(Duration::from_secs(9));
        let (request, _) = loop {
            let frame = target.receive().expect("a logout within ten seconds");
            if let Some(request) = frame.view::<LogoutRequest>() {
                break (*request, ());
            }
        };
        assert_eq!(request.reason & 0x7f, 0);
        target.logged_out(&request, 0);
        assert!(driven.is_closed(0) && driven.session().is_over());
    }
}

#[test]
fn asy_03_dropped_connections_are_lost_ones_and_the_times_that_were_told_hold() {
    // At level 2 its tasks wait as long as the message says, and not as long as the login said.
    for event in [2, 3] {
        let (driven, mut target) = level(2);
        driven.read(8);
        target.command();
        target.event(event, [0; 8], [if event == 2 { 1 } else { 0 }, 5, 11], &[]);
        assert!(driven.is_closed(0));
        let events = driven.events();
        let lost = events.iter().find_map(|event| match event {
            Event::ConnectionLost { cid: 1, from, until } => Some((*from, *until)),
            _ => None,
        });
        let (from, until) = lost.unwrap_or_else(|| panic!("{events:?}"));
        assert_eq!((from - driven.inner().now, until - from), (Duration::from_secs(5), Duration::from_secs(11)));
    }
    // Another connection than the one that is named goes on; at level 0 the session is over with its connection.
    let (driven, mut target) = level(0);
    target.event(2, [0; 8], [9, 1, 1], &[]);
    goes_on(&driven, &mut target);
    target.event(2, [0; 8], [1, 1, 1], &[]);
    assert!(driven.is_closed(0) && driven.session().is_over());
}

#[test]
fn asy_04_a_request_to_negotiate_is_answered_with_a_text_request() {
    let (driven, mut target) = level(0);
    target.event(4, [0; 8], [0, 0, 3], &[]);
    let (request, data) = target.expect::<TextRequest>();
    assert!(data.is_empty() && request.flags & FINAL != 0);
    // As often as it likes: one is under way at a time.
    for _ in 0..50 {
        target.event(4, [0; 8], [0, 0, 3], &[]);
    }
    assert!(target.receive().is_err());
    target.text(&request, FINAL, RESERVED_TAG, b"MaxRecvDataSegmentLength=512\0");
    let c = driven.connection(0);
    assert_eq!(driven.session().connection_parameters(c).map(|one| one.max_send_data_segment_length), Some(512));
    driven.events();
    goes_on(&driven, &mut target);
}

#[test]
fn asy_06_events_that_nobody_knows_are_told_and_change_nothing() {
    let (driven, mut target) = level(1);
    driven.read(8);
    let (command, _) = target.command();
    for event in [0, 6, 100, 248, 255] {
        target.event(event, LUN, [1, 2, 3], b"data of the vendor's");
        match &driven.events()[..] {
            [Event::Async { event: told, lun, parameters: [1, 2, 3], data }] => {
                assert_eq!((*told, data.len()), (event, 20));
                assert_eq!(*lun, if event == 0 { LUN } else { [0; 8] }, "the unit counts for events 0 and 5 only");
            }
            other => panic!("{other:?}"),
        }
    }
    target.answer_read(command.initiator_task_tag.get(), &[1; 8]);
    assert_eq!(outcome(&driven), good(8, 0));
}

#[test]
fn dsc_07_a_text_answer_is_bounded_in_bytes_and_in_time() {
    // Too much.
    let (driven, mut target) = bounded(Limits { text_bytes: 20_000, ..Limits::default() }, |_| {});
    let c = driven.connection(0);
    driven.session().send_text(c, b"SendTargets=All\0").expect("a text");
    let mut pdus = 0;
    while !driven.is_closed(0) {
        let (request, _) = target.expect::<TextRequest>();
        target.text(&request, 0x40, 1, &[b'a'; 8000]);
        pdus += 1;
        assert!(pdus < 100, "text without end");
    }
    assert_eq!(pdus, 3);
    // Nothing, without end.
    let (driven, mut target) = level(0);
    let c = driven.connection(0);
    driven.session().send_text(c, b"SendTargets=All\0").expect("a text");
    let mut seconds = 0;
    while !driven.is_closed(0) {
        while let Ok(frame) = target.receive() {
            if let Some(request) = frame.view::<TextRequest>() {
                let request = *request;
                target.text(&request, 0, 1, b"");
                break;
            }
        }
        driven.pass(Duration::from_secs(1));
        seconds += 1;
        assert!(seconds < 100, "an answer without end");
    }
    // Ends that contradict themselves.
    for (flags, tag) in [(FINAL, 1), (0, RESERVED_TAG), (FINAL | 0x40, RESERVED_TAG), (0x40, RESERVED_TAG)] {
        let (driven, mut target) = level(0);
        let c = driven.connection(0);
        driven.session().send_text(c, b"SendTargets=All\0").expect("a text");
        let (request, _) = target.expect::<TextRequest>();
        target.text(&request, flags, tag, b"TargetName=iqn.2026-01.org.example:x\0");
        format_error(&driven);
    }
}
