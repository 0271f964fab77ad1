//! DIG: digests, and what is damaged.

use crate::help::{digests, goes_on, good, outcome, pattern};
use iscsi::initiator::{Event, Outcome};
use iscsi::session::ConnectionError;
use iscsi::wire::{FINAL, SnackRequest};
use sim::Frame;
use sim::scripted::{data_in, response};

#[test]
fn key_01_dig_01_dig_02_dig_03_every_pdu_has_the_digests_that_were_agreed() {
    for (header, data) in [(false, false), (true, false), (false, true), (true, true)] {
        // The login itself has none; the judge of what the initiator sends looks at every one behind it.
        let (driven, mut target) = digests(0, header, data);
        let parameters = {
            let c = driven.connection(0);
            driven.session().connection_parameters(c).cloned().expect("a connection")
        };
        assert_eq!((parameters.header_digest, parameters.data_digest), (header, data));
        for length in [1, 2, 3, 4, 700] {
            driven.write(&pattern(length));
            let (command, along) = target.command();
            assert_eq!(along, pattern(length));
            target.good(command.initiator_task_tag.get());
            assert_eq!(outcome(&driven), good(0, length as u32));
            let task = driven.read(length as u32);
            let (command, _) = target.command();
            target.answer_read(command.initiator_task_tag.get(), &pattern(length));
            assert_eq!(outcome(&driven), good(length as u32, 0));
            assert_eq!(driven.memory(task).data_in, pattern(length));
        }
        // A long CDB: its header digest is over both header segments.
        driven.submit(iscsi::initiator::Command::new(sim::scripted::driven::LUN, &pattern(32)), &[]);
        let (command, _) = target.command();
        target.good(command.initiator_task_tag.get());
        assert_eq!(outcome(&driven), good(0, 0));
    }
}

#[test]
fn dig_03_a_pdu_without_the_digest_that_was_agreed_is_not_taken() {
    for (header, data) in [(true, false), (true, true)] {
        let (driven, mut target) = digests(0, header, data);
        driven.read(8);
        let (command, _) = target.command();
        *target.digests() = Default::default();
        target.answer_read(command.initiator_task_tag.get(), &[1; 8]);
        // What follows the header is taken for its digest.
        target.send_bytes(&[0; 8]);
        assert_eq!(driven.error(0), Some(ConnectionError::HeaderDigest));
        assert!(driven.events().iter().all(|event| !matches!(event, Event::Completed(_, Outcome::Answered { .. }))));
    }
}

#[test]
fn dig_04_a_header_that_was_damaged_anywhere_is_never_acted_upon() {
    for level in 0..=2 {
        for bit in (0..52 * 8).step_by(7) {
            let (driven, mut target) = digests(level, true, true);
            driven.read(8);
            let (command, _) = target.command();
            let mut header = data_in(command.initiator_task_tag.get(), 0, 0);
            header.flags = FINAL | 1;
            let header = target.numbered(header);
            let digests = *target.digests();
            let mut bytes = Frame::new(header, &[1; 8]).encode(digests);
            bytes[bit / 8] ^= 1 << (bit % 8);
            // Where the length of the header segments was damaged, more is awaited before it is judged.
            bytes.resize(2048, 0);
            target.send_bytes(&bytes);
            assert_eq!(driven.error(0), Some(ConnectionError::HeaderDigest), "bit {bit}");
            let answered = |event: &Event| matches!(event, Event::Completed(_, Outcome::Answered { .. }));
            assert!(!driven.events().iter().any(answered), "bit {bit}");
        }
    }
}

#[test]
fn dig_06_damaged_data_is_never_given_out_as_read() {
    let (driven, mut target) = digests(0, true, true);
    let _ = driven.read(8);
    let (command, _) = target.command();
    let tag = command.initiator_task_tag.get();
    let mut header = data_in(tag, 0, 0);
    header.flags = FINAL | 1;
    let header = target.numbered(header);
    target.send_spoiled(&Frame::new(header, &[1; 8]));
    assert_eq!(outcome(&driven), Outcome::Lost, "at level 0 the session is recovered");
    assert!(driven.error(0).is_some());
    // At level 1 it is asked for again, a bounded number of times, and never taken for whole.
    let (driven, mut target) = digests(1, true, true);
    driven.read(8);
    let (command, _) = target.command();
    let tag = command.initiator_task_tag.get();
    let mut header = data_in(tag, 0, 0);
    header.flags = FINAL | 1;
    let header = target.numbered(header);
    let mut snacks = 0;
    for _ in 0..40 {
        target.send_spoiled(&Frame::new(header, &[1; 8]));
        driven.pass(std::time::Duration::from_secs(3));
        if driven.is_closed(0) {
            break;
        }
        while let Ok(frame) = target.receive() {
            snacks += usize::from(frame.view::<SnackRequest>().is_some());
        }
    }
    assert!(driven.is_closed(0) && (1..40).contains(&snacks), "{snacks} times");
    assert_eq!(outcome(&driven), Outcome::Lost);
}

#[test]
fn dig_07_a_damaged_response_is_a_lost_one() {
    let (driven, mut target) = digests(1, true, true);
    driven.submit(iscsi::initiator::Command::new(sim::scripted::driven::LUN, &[0]), &[]);
    let (command, _) = target.command();
    let mut header = response(command.initiator_task_tag.get());
    header.status = 2;
    let header = target.numbered(header);
    let frame = Frame::new(header, &[0, 4, 0x70, 0, 6, 0]);
    target.send_spoiled(&frame);
    assert!(driven.events().is_empty());
    let (snack, _) = target.expect::<SnackRequest>();
    assert_eq!((snack.kind & 0x0f, snack.beg_run.get(), snack.run_length.get()), (1, header.stat_sn.get(), 1));
    target.send(&frame);
    assert!(matches!(outcome(&driven), Outcome::Answered { status: 2, .. }));
    goes_on(&driven, &mut target);
}
