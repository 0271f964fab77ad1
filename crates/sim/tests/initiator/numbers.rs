//! CSN, SSN, ERL: command and status numbers, and what is lost.

use crate::help::{bounded, format_error, good, join, level, outcome, pattern, with};
use iscsi::initiator::{Command, Event, Limits, LogoutReason, Outcome, Refused};
use iscsi::wire::{FINAL, NopOut, Pdu, RejectReason, ScsiCommand, SnackRequest, TaskManagementRequest};
use sim::Frame;
use sim::scripted::driven::LUN;
use sim::scripted::{data_in, response};
use std::time::Duration;
use zerocopy::IntoBytes;

fn plain() -> Command {
    Command::new(LUN, &[0])
}

#[test]
fn csn_01_csn_09_commands_are_numbered_by_one_in_the_order_in_which_they_are_sent_across_the_wrap() {
    let (driven, mut target) = with(|wanted| wanted.cmd_sn = u32::MAX - 4);
    let mut expected = u32::MAX - 4;
    for round in 0..12 {
        let immediate = round % 3 == 2;
        driven.submit(Command { immediate, ..plain() }, &[]);
        let (command, _) = target.command();
        assert_eq!((command.cmd_sn.get(), command.header().immediate()), (expected, immediate));
        expected = expected.wrapping_add(u32::from(!immediate));
        target.good(command.initiator_task_tag.get());
    }
    // On two connections each sends its own in order, and together they leave no gap.
    let mut second = join(&driven, 2);
    for number in [0, 1, 1, 0, 0, 1] {
        driven.try_submit(number, plain(), &[]).expect("taken");
    }
    let mut numbers = Vec::new();
    for _ in 0..3 {
        numbers.push(target.command().0.cmd_sn.get());
        numbers.push(second.command().0.cmd_sn.get());
    }
    assert!(numbers[0] < numbers[2] && numbers[2] < numbers[4] && numbers[1] < numbers[3] && numbers[3] < numbers[5]);
    numbers.sort_unstable();
    assert_eq!(numbers, (expected..expected + 6).collect::<Vec<_>>());
}

#[test]
fn csn_07_nothing_is_sent_beyond_the_window_and_windows_that_contradict_themselves_are_ignored() {
    let (driven, mut target) = level(0);
    target.window = 3;
    // It takes no window back that was told before: that one is used up first.
    while driven.try_submit(0, plain(), &[]).is_ok() {
        target.command();
    }
    let due = target.exp_cmd_sn;
    // Shut, contradictory, ancient, half the circle away.
    for (exp_cmd_sn, max_cmd_sn) in
        [(due, due - 1), (due, due - 2), (due + 5, due + 1), (due - 40, due - 30), (due, due.wrapping_add(1 << 31))]
    {
        let mut ping = sim::scripted::news();
        (ping.exp_cmd_sn, ping.max_cmd_sn) = (exp_cmd_sn.into(), max_cmd_sn.into());
        ping.stat_sn = target.stat_sn.into();
        target.send(&Frame::new(ping, &[]));
        assert_eq!(driven.try_submit(0, plain(), &[]), Err(Refused::WindowFull), "{exp_cmd_sn} {max_cmd_sn}");
    }
    target.news();
    assert!(driven.try_submit(0, plain(), &[]).is_ok(), "it opens again");
    assert_eq!(target.command().0.cmd_sn.get(), due);
}

#[test]
fn csn_10_a_command_that_a_digest_spoiled_is_sent_again_as_it_was() {
    let (driven, mut target) = with(|wanted| wanted.offers = crate::help::offers(8192));
    target.keeps_window = true;
    driven.write(&pattern(700));
    let first = target.receive().expect("a command");
    for _ in 0..3 {
        target.reject(RejectReason::DataDigestError, &first.header);
        let again = target.receive().expect("the command again");
        // ExpStatSN alone is another: the Reject has a status number.
        let masked = |frame: &Frame| [&frame.header[..28], &frame.header[32..]].concat();
        assert_eq!((masked(&again), &again.data), (masked(&first), &first.data));
    }
    target.exp_cmd_sn += 1;
    target.good(first.basic().initiator_task_tag.get());
    assert_eq!(outcome(&driven), good(0, 700));
    // And not for ever.
    driven.write(&pattern(700));
    let first = target.receive().expect("a command");
    let mut times = 0;
    while !driven.is_closed(0) {
        target.reject(RejectReason::DataDigestError, &first.header);
        times += 1;
        assert!(times < 100, "it is sent again for ever");
        while target.receive().is_ok() {}
    }
    assert_eq!(outcome(&driven), Outcome::Lost);
}

#[test]
fn csn_11_numbers_do_not_run_away_from_what_the_target_acknowledges() {
    let (driven, mut target) = level(0);
    target.keeps_window = true;
    target.window = 1 << 30;
    target.news();
    let (mut sent, mut refused) = (0u32, false);
    while sent < 70_000 {
        if driven.try_submit(0, plain(), &[]) == Err(Refused::WindowFull) {
            refused = true;
            break;
        }
        let (command, _) = target.command();
        sent += 1;
        // Answered, and never acknowledged.
        target.good(command.initiator_task_tag.get());
        if sent.is_multiple_of(512) {
            driven.events();
        }
    }
    assert!(refused, "{sent} commands of which the target acknowledges none");
}

#[test]
fn rej_04_the_number_of_a_rejected_command_is_used_up_and_once_only_however_often_it_is_rejected() {
    let (driven, mut target) = level(0);
    target.keeps_window = true;
    driven.submit(plain(), &[]);
    let (command, _) = target.command();
    target.reject(RejectReason::CommandNotSupported, command.as_bytes());
    assert_eq!(outcome(&driven), Outcome::Rejected(RejectReason::CommandNotSupported));
    let (plug, _) = target.expect::<NopOut>();
    assert_eq!((plug.cmd_sn, plug.header().immediate()), (command.cmd_sn, false));
    // A storm of them while nothing is read: what waits to be sent does not grow.
    let mut header = iscsi::wire::Reject::empty();
    (header.flags, header.reason) = (FINAL, RejectReason::CommandNotSupported as u8);
    header.initiator_task_tag = u32::MAX.into();
    let mut bytes = Vec::new();
    for _ in 0..2000 {
        let header = target.numbered(header);
        bytes.extend(Frame::new(header, command.as_bytes()).encode(Default::default()));
    }
    target.send_bytes(&bytes);
    let mut plugs = 0;
    while let Ok(frame) = target.receive() {
        plugs += usize::from(frame.view::<NopOut>().is_some());
    }
    assert!(plugs <= 1, "{plugs} for one read");
    target.exp_cmd_sn += 1;
    target.pong(plug.initiator_task_tag.get(), &[]);
    target.keeps_window = false;
    crate::help::goes_on(&driven, &mut target);
}

#[test]
fn ssn_02_status_is_acknowledged_as_it_comes() {
    let (driven, mut target) = level(0);
    for _ in 0..5 {
        driven.submit(plain(), &[]);
        let (command, _) = target.command();
        assert_eq!(command.exp_stat_sn.get(), target.stat_sn);
        target.good(command.initiator_task_tag.get());
    }
}

#[test]
fn ssn_03_status_numbers_with_a_gap_or_far_away_cost_the_connection_or_are_asked_for() {
    for ahead in [1, 5, 100_000, 1 << 31] {
        let (driven, mut target) = level(0);
        driven.submit(plain(), &[]);
        let (command, _) = target.command();
        target.stat_sn = target.stat_sn.wrapping_add(ahead);
        target.good(command.initiator_task_tag.get());
        format_error(&driven);
    }
    let (driven, mut target) = level(1);
    driven.submit(plain(), &[]);
    driven.submit(plain(), &[]);
    let (first, second) = (target.command().0, target.command().0);
    let late = target.numbered(response(first.initiator_task_tag.get()));
    target.good(second.initiator_task_tag.get());
    let (snack, _) = target.expect::<SnackRequest>();
    assert_eq!((snack.beg_run, snack.run_length.get()), (late.stat_sn, 1));
    target.send(&Frame::new(late, &[]));
    assert_eq!(driven.events().len(), 2);
    target.stat_sn = target.stat_sn.wrapping_add(100_000);
    driven.submit(plain(), &[]);
    let (third, _) = target.command();
    target.good(third.initiator_task_tag.get());
    format_error(&driven);
}

#[test]
fn ssn_03_a_gap_that_is_never_filled_costs_the_connection_after_a_bounded_time() {
    let (driven, mut target) = level(1);
    driven.submit(plain(), &[]);
    let (command, _) = target.command();
    target.stat_sn += 1;
    target.good(command.initiator_task_tag.get());
    let mut snacks = 0;
    let mut time = Duration::ZERO;
    while !driven.is_closed(0) {
        driven.pass(Duration::from_secs(1));
        time += Duration::from_secs(1);
        assert!(time < Duration::from_secs(120), "asked {snacks} times, and still");
        while let Ok(frame) = target.receive() {
            snacks += usize::from(frame.view::<SnackRequest>().is_some());
            if let Some(ping) = frame.view::<NopOut>()
                && ping.initiator_task_tag.get() != u32::MAX
            {
                target.pong(ping.initiator_task_tag.get(), &[]);
            }
        }
    }
    assert!(snacks > 1, "{snacks}");
}

#[test]
fn erl_01_below_level_2_a_lost_connection_ends_the_session_and_every_command_is_reported_once() {
    for recovery in 0..=1 {
        let (driven, mut target) = level(recovery);
        let tasks = [driven.read(8), driven.read(8), driven.write(&pattern(2000))];
        target.command();
        driven.lose(0);
        let events = driven.events();
        for task in tasks {
            let ends = events.iter().filter(|event| **event == Event::Completed(task, Outcome::Lost)).count();
            assert_eq!(ends, 1, "{events:?}");
        }
        assert!(events.contains(&Event::Over));
        assert_eq!(driven.session().tasks(), 0);
    }
}

#[test]
fn erl_03_what_the_level_does_not_have_is_not_asked_for() {
    // At level 0 nothing is asked for again: the judge of what comes would see a SNACK.
    let (driven, mut target) = level(0);
    driven.read(8);
    let (command, _) = target.command();
    target.say(data_in(command.initiator_task_tag.get(), 1, 0), &[1; 8]);
    format_error(&driven);
    assert!(target.expect_closed().is_empty());
}

#[test]
fn erl_06_holes_are_asked_for_acknowledged_data_is_not_and_duplicates_are_thrown_away() {
    let (driven, mut target) = level(1);
    let task = driven.read(32);
    let (command, _) = target.command();
    let tag = command.initiator_task_tag.get();
    let mut asks = data_in(tag, 1, 8);
    (asks.flags, asks.target_transfer_tag, asks.lun) = (0x40, 0x55.into(), LUN);
    target.say(asks, &[2; 8]);
    assert_eq!(target.expect::<SnackRequest>().0.beg_run.get(), 0);
    target.say(data_in(tag, 0, 0), &[1; 8]);
    let (ack, _) = target.expect::<SnackRequest>();
    assert_eq!((ack.kind & 15, ack.beg_run.get(), ack.target_transfer_tag.get()), (2, 2, 0x55));
    // Again, with other bytes.
    target.say(data_in(tag, 0, 0), &[9; 8]);
    target.say(data_in(tag, 1, 8), &[9; 8]);
    target.say(data_in(tag, 3, 24), &[4; 8]);
    let (snack, _) = target.expect::<SnackRequest>();
    assert_eq!((snack.kind & 15, snack.beg_run.get(), snack.run_length.get()), (0, 2, 1), "nothing acknowledged");
    target.say(data_in(tag, 2, 16), &[3; 8]);
    let mut last = response(tag);
    last.exp_data_sn = 4.into();
    target.say(last, &[]);
    assert_eq!(outcome(&driven), good(32, 0));
    let memory = &driven.memory(task).data_in;
    assert!(memory.iter().zip(0u8..).all(|(byte, at)| *byte == at / 8 + 1), "{memory:?}");
}

#[test]
fn erl_08_tasks_of_a_lost_connection_wait_for_time_2_retain_and_no_longer() {
    let (driven, mut target) = with(|wanted| {
        wanted.offers.session.error_recovery_level = 2;
        (wanted.offers.session.default_time_2_wait, wanted.offers.session.default_time_2_retain) = (3, 7);
    });
    let task = driven.read(8);
    target.command();
    driven.lose(0);
    let events = driven.events();
    let [Event::ConnectionLost { cid: 1, from, until }] = events[..] else { panic!("{events:?}") };
    assert_eq!((from - driven.inner().now, until - from), (Duration::from_secs(3), Duration::from_secs(7)));
    driven.pass(Duration::from_millis(9900));
    assert!(driven.events().is_empty());
    driven.pass(Duration::from_millis(200));
    assert_eq!(driven.events(), [Event::Completed(task, Outcome::Lost), Event::Over]);
}

#[test]
fn ses_06_csn_10_tasks_of_a_lost_connection_go_on_with_another_or_the_session_is_given_up() {
    // A target that lets no task be reassigned: by its answer, or by rejecting the question.
    for refuses in 0..3 {
        let (driven, mut target) = level(2);
        let mut second = join(&driven, 2);
        driven.read(8);
        let (command, _) = target.command();
        driven.lose(0);
        assert!(matches!(driven.events()[..], [Event::ConnectionLost { cid: 1, .. }]));
        driven.pass(Duration::from_secs(2));
        let c = driven.connection(1);
        assert!(driven.session().logout(c, LogoutReason::Recovery { cid: 1 }));
        second.exp_cmd_sn = target.exp_cmd_sn;
        let (request, _) = second.await_one::<iscsi::wire::LogoutRequest>();
        assert_eq!((request.reason & 0x7f, request.cid.get()), (2, 1));
        second.logged_out(&request, 0);
        let (function, _) = second.expect::<TaskManagementRequest>();
        assert_eq!((function.function & 0x7f, function.referenced_task_tag), (8, command.initiator_task_tag));
        match refuses {
            0 => second.function_done(function.initiator_task_tag.get(), 4),
            1 => second.reject(RejectReason::CommandNotSupported, function.as_bytes()),
            _ => {
                second.function_done(function.initiator_task_tag.get(), 0);
                // What belongs to the task travels where it is at home now.
                second.answer_read(command.initiator_task_tag.get(), &[1; 8]);
                let ended = |event: &Event| matches!(event, Event::Completed(_, outcome) if *outcome == good(8, 0));
                assert!(driven.events().iter().any(ended));
                continue;
            }
        }
        assert!(driven.session().is_over(), "case {refuses}");
        let events = driven.events();
        assert!(events.iter().any(|event| matches!(event, Event::Completed(_, Outcome::Lost))), "{events:?}");
    }
}

#[test]
fn ses_06_data_on_another_connection_than_its_commands_ends_the_session() {
    let (driven, mut target) = level(0);
    let mut second = join(&driven, 2);
    driven.read(8);
    let (command, _) = target.command();
    second.answer_read(command.initiator_task_tag.get(), &[1; 8]);
    assert!(driven.error(1).is_some() && driven.session().is_over());
    assert_eq!(outcome(&driven), Outcome::Lost);
}

#[test]
fn ses_07_status_numbers_are_each_connections_own() {
    let (driven, mut target) = level(0);
    let mut second = join(&driven, 2);
    second.stat_sn = second.stat_sn.wrapping_add(0);
    let mut expected = [target.stat_sn, second.stat_sn];
    for number in [0, 0, 1, 0, 1] {
        driven.try_submit(number, plain(), &[]).expect("taken");
        let target = if number == 0 { &mut target } else { &mut second };
        let (command, _) = target.command();
        assert_eq!(command.exp_stat_sn.get(), expected[number]);
        expected[number] = expected[number].wrapping_add(1);
        let next = driven.session().cmd_sn();
        target.exp_cmd_sn = next;
        target.good(command.initiator_task_tag.get());
    }
}

#[test]
fn commands_are_bounded_whatever_the_window_says() {
    let (driven, mut target) = bounded(Limits { commands: 16, ..Limits::default() }, |_| {});
    target.window = 1 << 20;
    target.news();
    let taken = std::iter::from_fn(|| driven.try_submit(0, plain(), &[]).ok()).count();
    assert_eq!(taken, 16);
    let (command, _) = target.expect::<ScsiCommand>();
    target.good(command.initiator_task_tag.get());
    assert!(driven.try_submit(0, plain(), &[]).is_ok());
}
