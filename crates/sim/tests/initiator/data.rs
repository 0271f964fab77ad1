//! DAT, R2T, RSP: data, who asks for it, and how commands end.

use crate::help::{format_error, good, level, outcome, pattern, small, with};
use iscsi::initiator::{Command, Event, Limits, Outcome};
use iscsi::wire::{DataOut, FINAL, ScsiCommand};
use sim::Frame;
use sim::scripted::driven::{LUN, UNTOUCHED};
use sim::scripted::{Accepts, Driven, Target, data_in, response};

#[test]
fn dat_05_dat_06_dat_14_sequences_are_bursts_numbered_from_zero_in_whole_words() {
    for segment in [512, 1022, 1024] {
        let (driven, mut target) = with(|wanted| {
            wanted.offers = crate::help::offers(4096);
            wanted.offers.session.initial_r2t = false;
            wanted.offers.session.first_burst_length = 3000;
        });
        let text = format!("MaxRecvDataSegmentLength={segment}\0");
        redeclare(&driven, &mut target, text.as_bytes());
        target.enter(segment);
        let data = pattern(11_001);
        driven.write(&data);
        let (command, mut bytes) = target.command();
        assert_eq!(command.flags & FINAL, 0, "more follows unasked");
        let mut number = 0;
        loop {
            let (header, piece) = target.expect::<DataOut>();
            assert_eq!((header.data_sn.get(), header.buffer_offset.get() as usize), (number, bytes.len()));
            number += 1;
            bytes.extend(&piece);
            if header.flags & FINAL != 0 {
                break;
            }
            assert_eq!(piece.len() % 4, 0, "only the last of a sequence needs padding");
        }
        assert_eq!(bytes, data[..3000], "all of FirstBurstLength, and no more");
        for (r2t_sn, from) in (3000..11_001).step_by(4096).enumerate() {
            let length = 4096.min(11_001 - from);
            bytes.extend(target.fetch(&command, r2t_sn as u32, from, length));
        }
        assert_eq!(bytes, data);
        target.good(command.initiator_task_tag.get());
        assert_eq!(outcome(&driven), good(0, 11_001));
    }
}

/// The target declares something in an answer to a text request.
fn redeclare(driven: &sim::scripted::Driven, target: &mut crate::help::Played, text: &[u8]) {
    let c = driven.connection(0);
    driven.session().send_text(c, b"MaxRecvDataSegmentLength=4096\0").expect("a text");
    let (request, _) = target.expect::<iscsi::wire::TextRequest>();
    target.text(&request, FINAL, u32::MAX, text);
    driven.events();
}

#[test]
fn dat_07_data_that_overlaps_or_leaves_a_gap_never_passes_for_what_was_read() {
    // DataSN says that nothing is missing, the offsets say otherwise.
    for second in [0, 4, 256, 516, 768] {
        let (driven, mut target) = small(|_| {});
        let task = driven.read(1024);
        let (command, _) = target.command();
        let tag = command.initiator_task_tag.get();
        target.say(data_in(tag, 0, 0), &[1; 512]);
        let mut last = data_in(tag, 1, second);
        last.flags = FINAL | 1;
        target.say(last, &vec![2; (1024 - second as usize).min(512)]);
        let what = format_error(&driven);
        assert!(what.contains("order"), "{second}: {what}");
        if second == 768 {
            assert_eq!(driven.memory(task).data_in[512], UNTOUCHED, "the gap");
        }
    }
    // The first does not begin at the beginning.
    let (driven, mut target) = small(|_| {});
    driven.read(1024);
    let (command, _) = target.command();
    let mut only = data_in(command.initiator_task_tag.get(), 0, 512);
    only.flags = FINAL | 1;
    target.say(only, &[1; 512]);
    format_error(&driven);
    // At level 1 too, where it comes behind a hole.
    let (driven, mut target) = level(1);
    driven.read(1024);
    let (command, _) = target.command();
    let tag = command.initiator_task_tag.get();
    target.say(data_in(tag, 1, 256), &[1; 512]);
    target.say(data_in(tag, 0, 0), &[1; 512]);
    format_error(&driven);
}

#[test]
fn dat_07_sequences_in_any_order_are_taken_where_that_was_agreed_and_make_a_whole() {
    // Whole; with a gap in the middle that no PDU's number shows; and with an overlap.
    for (order, came) in
        [(&[1024, 1536, 0, 512][..], Some(2048)), (&[1024, 1536, 0][..], Some(512)), (&[1024, 0, 512, 1024][..], None)]
    {
        let driven = Driven::new(Limits::default());
        let mut wanted = sim::scripted::driven::wanted();
        wanted.offers = crate::help::offers(1024);
        wanted.offers.session.data_sequence_in_order = false;
        let mut target = Target::over(driven.connect(wanted));
        let mut accepts = Accepts::default();
        accepts.offers.session.data_sequence_in_order = false;
        target.login(&accepts);
        let task = driven.read(2048);
        let (command, _) = target.command();
        let tag = command.initiator_task_tag.get();
        for (data_sn, offset) in order.iter().enumerate() {
            target.say(data_in(tag, data_sn as u32, *offset), &pattern(2048)[*offset as usize..][..512]);
        }
        target.good(tag);
        let Some(came) = came else {
            format_error(&driven);
            continue;
        };
        assert_eq!(outcome(&driven), good(came, 0), "{order:?}");
        assert_eq!(driven.memory(task).data_in[..came as usize], pattern(2048)[..came as usize]);
    }
}

#[test]
fn dat_12_status_comes_with_data_only_where_it_needs_no_sense() {
    let (driven, mut target) = level(0);
    driven.read(8);
    let (command, _) = target.command();
    let mut header = data_in(command.initiator_task_tag.get(), 0, 0);
    (header.flags, header.status) = (FINAL | 1, 2);
    target.say(header, &[1; 8]);
    format_error(&driven);
}

#[test]
fn dat_13_unsolicited_data_follows_the_order_of_its_commands() {
    let (driven, mut target) = small(|session| (session.initial_r2t, session.immediate_data) = (false, false));
    let mut writes = Vec::new();
    for number in 1..=4u8 {
        driven.write(&[number; 2500]);
        writes.push(number);
    }
    let mut order = Vec::new();
    while order.len() < 4 {
        let frame = target.receive().expect("a frame");
        if let Some(data) = frame.view::<DataOut>()
            && data.flags & FINAL != 0
        {
            order.push(frame.data[0]);
        }
    }
    assert_eq!(order, writes);
}

#[test]
fn r2t_03_r2ts_are_answered_whole_in_the_order_in_which_they_came() {
    let (driven, mut target) = small(|session| session.immediate_data = false);
    let data = pattern(16_384);
    driven.write(&data);
    let (command, _) = target.command();
    let order = [2u32, 0, 3, 1];
    for (r2t_sn, burst) in order.iter().enumerate() {
        let header = target.r2t(&command, r2t_sn as u32, burst * 4096, 4096);
        target.send(&Frame::new(header, &[]));
    }
    for (r2t_sn, burst) in order.iter().enumerate() {
        assert_eq!(target.data_out(0x700 + r2t_sn as u32), data[*burst as usize * 4096..][..4096]);
    }
    target.good(command.initiator_task_tag.get());
    assert_eq!(outcome(&driven), good(0, 16_384));
}

#[test]
fn r2t_04_r2ts_that_ask_for_what_is_not_the_commands_end_the_session() {
    for (offset, length) in [(0, 0), (0, 4097), (8000, 193), (8192, 1), (u32::MAX, 2), (1, u32::MAX)] {
        let (driven, mut target) = small(|session| session.immediate_data = false);
        driven.write(&pattern(8192));
        let (command, _) = target.command();
        let header = target.r2t(&command, 0, offset, length);
        target.send(&Frame::new(header, &[]));
        format_error(&driven);
        // The judge would have seen data that is not the command's.
        assert!(target.expect_closed().is_empty(), "{offset}+{length}");
    }
}

#[test]
fn r2t_04_more_r2ts_than_agreed_or_out_of_their_order_end_the_session() {
    let (driven, mut target) = small(|session| (session.immediate_data, session.max_outstanding_r2t) = (false, 1));
    driven.write(&pattern(8192));
    let (command, _) = target.command();
    let (first, second) = (target.r2t(&command, 0, 0, 4096), target.r2t(&command, 1, 4096, 4096));
    let both = [Frame::new(first, &[]), Frame::new(second, &[])];
    let bytes: Vec<u8> = both.iter().flat_map(|frame| frame.encode(Default::default())).collect();
    target.send_bytes(&bytes);
    format_error(&driven);
    let (driven, mut target) = small(|session| session.immediate_data = false);
    driven.write(&pattern(8192));
    let (command, _) = target.command();
    let header = target.r2t(&command, 1, 0, 4096);
    target.send(&Frame::new(header, &[]));
    format_error(&driven);
}

#[test]
fn r2t_04_a_write_that_nobody_fetches_does_not_pass_for_written() {
    let (driven, mut target) = small(|session| session.immediate_data = false);
    driven.write(&pattern(8192));
    let (command, _) = target.command();
    target.fetch(&command, 0, 0, 4096);
    target.good(command.initiator_task_tag.get());
    // GOOD for a write of which only a half was fetched: what went is told, for the caller to judge.
    assert_eq!(outcome(&driven), good(0, 4096));
    // An R2T that never comes is the caller's to time out: the command neither ends nor is anything sent.
    driven.write(&pattern(8192));
    let (command, _) = target.command();
    driven.pass(std::time::Duration::from_secs(4));
    assert!(driven.events().is_empty());
    let c = driven.connection(0);
    let task = driven.read(8);
    assert!(driven.session().abort(task).is_some(), "it can be aborted");
    assert!(driven.session().connection_parameters(c).is_some());
    target.good(command.initiator_task_tag.get());
}

#[test]
fn rsp_03_sense_data_that_lies_ends_the_session() {
    for data in [&[][..], &[0], &[0, 5, 1, 2, 3, 4], &[0, 0], &[0xff; 20]] {
        let (driven, mut target) = level(0);
        driven.submit(Command::new(LUN, &[0]), &[]);
        let (command, _) = target.command();
        let mut lie = response(command.initiator_task_tag.get());
        lie.status = 2;
        target.say(lie, data);
        format_error(&driven);
    }
}

#[test]
fn rsp_05_residuals_that_lie_do_not_change_how_much_came() {
    for (flags, residual) in [(0x02, 4), (0x02, 5000), (0x04, 77), (0x02, u32::MAX), (0x06, 9)] {
        let (driven, mut target) = level(0);
        driven.read(16);
        let (command, _) = target.command();
        let tag = command.initiator_task_tag.get();
        target.say(data_in(tag, 0, 0), &[1; 8]);
        let mut header = response(tag);
        (header.flags, header.residual_count) = (FINAL | flags, residual.into());
        target.say(header, &[]);
        match outcome(&driven) {
            Outcome::Answered { data_in: 8, status: 0, .. } => {}
            other => panic!("{flags:x} {residual}: {other:?}"),
        }
    }
}

#[test]
fn rsp_09_every_command_has_f_or_w() {
    // The judge of what the initiator sends looks at each; here are all kinds of them.
    for (initial_r2t, immediate_data) in [(true, true), (true, false), (false, true), (false, false)] {
        let (driven, mut target) =
            small(|session| (session.initial_r2t, session.immediate_data) = (initial_r2t, immediate_data));
        driven.submit(Command::new(LUN, &[0]), &[]);
        driven.read(8);
        driven.write(&pattern(6000));
        let mut commands = 0;
        while commands < 3 {
            let frame = target.receive().expect("a frame");
            if let Some(command) = frame.view::<ScsiCommand>() {
                commands += 1;
                assert!(command.writes() || command.flags & FINAL != 0);
            }
        }
    }
}

#[test]
fn status_twice_data_after_status_and_data_after_the_end_are_format_errors() {
    type Lie = fn(&mut crate::help::Played, u32);
    let lies: [Lie; 4] = [
        |target, tag| target.good(tag),
        |target, tag| target.answer_read(tag, &[1; 8]),
        |target, tag| target.say(data_in(tag, 1, 8), &[1; 8]),
        // The same StatSN once more.
        |target, tag| {
            target.stat_sn -= 1;
            target.good(tag);
        },
    ];
    for lie in lies {
        let (driven, mut target) = level(0);
        driven.read(8);
        let (command, _) = target.command();
        let tag = command.initiator_task_tag.get();
        target.answer_read(tag, &[1; 8]);
        assert_eq!(outcome(&driven), good(8, 0));
        lie(&mut target, tag);
        format_error(&driven);
    }
    // A status that takes the number of the one before it hides no command's end: it is not passed over.
    let (driven, mut target) = level(0);
    driven.read(8);
    driven.read(8);
    let (first, second) = (target.command().0, target.command().0);
    target.answer_read(first.initiator_task_tag.get(), &[1; 8]);
    target.stat_sn -= 1;
    target.good(second.initiator_task_tag.get());
    assert!(driven.error(0).is_some(), "the second command would wait for ever");
    assert!(driven.events().iter().any(|event| matches!(event, Event::Completed(_, Outcome::Lost))));
}
