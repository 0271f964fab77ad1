//! TMF, OUT: task management and logout.

use crate::help::{goes_on, good, join, level, outcome, pattern, small, with};
use iscsi::initiator::{Command, Event, Function, Limits, LogoutReason, Outcome, Refused};
use iscsi::key::TaskReporting;
use iscsi::session::ConnectionError;
use iscsi::wire::{LogoutRequest, NopOut, Pdu, RESERVED_TAG, RejectReason, TaskManagementRequest};
use sim::Frame;
use sim::scripted::driven::LUN;
use std::time::Duration;
use zerocopy::IntoBytes;

#[test]
fn tmf_04_abort_task_goes_where_its_task_is_and_other_functions_name_none() {
    let (driven, mut target) = level(0);
    let mut second = join(&driven, 2);
    driven.read(8);
    target.command();
    let task = driven.try_submit(1, Command { data_in: 8, ..Command::new(LUN, &[0x28]) }, &[]).expect("taken");
    let (command, _) = second.command();
    driven.session().abort(task).expect("an abort");
    let (abort, _) = second.expect::<TaskManagementRequest>();
    assert_eq!((abort.function & 0x7f, abort.referenced_task_tag), (1, command.initiator_task_tag));
    assert_eq!((abort.ref_cmd_sn, abort.lun), (command.cmd_sn, command.lun));
    let c = driven.connection(0);
    for function in [
        Function::AbortTaskSet,
        Function::ClearAca,
        Function::ClearTaskSet,
        Function::LogicalUnitReset,
        Function::TargetWarmReset,
        Function::TargetColdReset,
    ] {
        driven.session().task_management(c, function, LUN).expect("a function");
        let (request, _) = target.expect::<TaskManagementRequest>();
        assert_eq!((request.function & 0x7f, request.referenced_task_tag.get()), (function as u8, RESERVED_TAG));
        let reset = matches!(function, Function::TargetWarmReset | Function::TargetColdReset);
        assert_eq!(request.lun, if reset { [0; 8] } else { LUN });
    }
}

#[test]
fn tmf_13_memory_is_not_given_back_before_the_task_is_known_to_be_dead() {
    let (driven, mut target) = level(0);
    let task = driven.read(8);
    let (command, _) = target.command();
    driven.session().abort(task).expect("an abort");
    let (abort, _) = target.expect::<TaskManagementRequest>();
    assert!(driven.events().is_empty(), "its memory is still in use");
    // The answer was faster: the data is there, and the abort finds nothing.
    target.answer_read(command.initiator_task_tag.get(), &[3; 8]);
    assert_eq!(outcome(&driven), good(8, 0));
    target.function_done(abort.initiator_task_tag.get(), 1);
    let tag = abort.initiator_task_tag.get();
    assert_eq!(driven.events(), [Event::TaskManagement { tag, response: Some(1) }]);
    // Its name is not another's before the slot was used many times.
    driven.read(8);
    assert_ne!(target.command().0.initiator_task_tag, command.initiator_task_tag);
}

#[test]
fn tmf_13_an_abort_that_is_not_answered_or_refused_costs_the_connection() {
    for refusal in [None, Some(5), Some(255)] {
        let (driven, mut target) = small(|session| session.immediate_data = false);
        let task = driven.write(&pattern(2000));
        target.command();
        driven.session().abort(task).expect("an abort");
        let (abort, _) = target.expect::<TaskManagementRequest>();
        match refusal {
            Some(code) => target.function_done(abort.initiator_task_tag.get(), code),
            None => {
                for _ in 0..30 {
                    driven.pass(Duration::from_secs(1));
                    while let Ok(frame) = target.receive() {
                        if let Some(ping) = frame.view::<NopOut>() {
                            target.pong(ping.initiator_task_tag.get(), &[]);
                        }
                    }
                }
            }
        }
        assert!(matches!(driven.error(0), Some(ConnectionError::Limit(_))), "{refusal:?}: {:?}", driven.error(0));
        assert!(driven.events().contains(&Event::Completed(task, Outcome::Lost)));
    }
    // Rejected as a PDU.
    let (driven, mut target) = small(|session| session.immediate_data = false);
    let task = driven.write(&pattern(2000));
    target.command();
    driven.session().abort(task).expect("an abort");
    let (abort, _) = target.expect::<TaskManagementRequest>();
    target.reject(RejectReason::CommandNotSupported, abort.as_bytes());
    assert!(driven.error(0).is_some() && driven.session().tasks() == 0);
}

#[test]
fn tmf_14_r2ts_are_answered_until_the_function_is() {
    for function in [Function::AbortTaskSet, Function::ClearTaskSet] {
        let (driven, mut target) = small(|session| session.immediate_data = false);
        let data = pattern(3000);
        let task = driven.write(&data);
        let (command, _) = target.command();
        let c = driven.connection(0);
        let tag = driven.session().task_management(c, function, LUN).expect("a function");
        let (request, _) = target.expect::<TaskManagementRequest>();
        assert_eq!(target.fetch(&command, 0, 0, 2000), data[..2000], "behind the function, before its answer");
        target.function_done(request.initiator_task_tag.get(), 0);
        let done = Event::TaskManagement { tag, response: Some(0) };
        assert_eq!(driven.events(), [Event::Completed(task, Outcome::Aborted), done]);
        // On another connection an R2T may have been on its way; nothing goes out for it.
        let late = target.r2t(&command, 1, 2000, 1000);
        target.send(&Frame::new(late, &[]));
        goes_on(&driven, &mut target);
    }
}

#[test]
fn asy_05_with_fast_abort_data_stops_when_the_function_is_sent_or_the_target_says_so() {
    let fast = || {
        with(|wanted| {
            wanted.offers = crate::help::offers(8192);
            wanted.offers.session.immediate_data = false;
            wanted.offers.session.task_reporting = TaskReporting::FastAbort;
        })
    };
    let (driven, mut target) = fast();
    assert_eq!(target.agreed.task_reporting, TaskReporting::FastAbort);
    let task = driven.write(&pattern(3000));
    let (command, _) = target.command();
    let c = driven.connection(0);
    driven.session().task_management(c, Function::AbortTaskSet, LUN).expect("a function");
    let (request, _) = target.expect::<TaskManagementRequest>();
    let header = target.r2t(&command, 0, 0, 3000);
    target.send(&Frame::new(header, &[]));
    assert!(target.receive().is_err(), "no data behind the function");
    target.function_done(request.initiator_task_tag.get(), 0);
    assert!(driven.events().contains(&Event::Completed(task, Outcome::Aborted)));
    // Another initiator's function: told by the event, for this unit alone.
    let (driven, mut target) = fast();
    let other = [0, 2, 0, 0, 0, 0, 0, 0];
    driven.write(&pattern(3000));
    let spared = Command { data_out: 3000, ..Command::new(other, &[0x2a]) };
    driven.submit(spared, &pattern(3000));
    let (ended, spared) = (target.command().0, target.command().0);
    target.event(5, LUN, [0; 3], &[]);
    let (acknowledged, _) = target.expect::<NopOut>();
    assert_eq!((acknowledged.lun, acknowledged.initiator_task_tag.get()), (LUN, RESERVED_TAG));
    assert_eq!(acknowledged.target_transfer_tag.get(), RESERVED_TAG);
    assert_eq!(acknowledged.exp_stat_sn.get(), target.stat_sn, "its StatSN is acknowledged");
    let header = target.r2t(&ended, 0, 0, 3000);
    target.send(&Frame::new(header, &[]));
    assert!(target.receive().is_err(), "no data for the unit");
    assert_eq!(target.fetch(&spared, 0, 0, 3000), pattern(3000));
    // What the target did not have when it said so goes on.
    let (driven, mut target) = fast();
    driven.write(&pattern(3000));
    target.event(5, LUN, [0; 3], &[]);
    let (later, _) = target.command();
    target.expect::<NopOut>();
    assert_eq!(target.fetch(&later, 0, 0, 3000), pattern(3000));
    // Where it was not agreed, the event is a format error.
    let (driven, mut target) = level(0);
    target.event(5, LUN, [0; 3], &[]);
    crate::help::format_error(&driven);
}

#[test]
fn out_04_nothing_follows_a_logout_whatever_the_target_says_meanwhile() {
    for reason in [LogoutReason::Session, LogoutReason::Connection] {
        let (driven, mut target) = level(0);
        let mut second = join(&driven, 2);
        let c = driven.connection(0);
        assert!(driven.session().logout(c, reason));
        let (request, _) = target.expect::<LogoutRequest>();
        // Pings of the target, a storm of them: the judge sees what is sent behind the logout.
        for tag in 0..50 {
            target.ping(tag, LUN);
        }
        target.event(1, [0; 8], [0, 0, 1], &[]);
        driven.pass(Duration::from_secs(2));
        assert_eq!(driven.try_submit(0, Command::new(LUN, &[0]), &[]), Err(Refused::Closing));
        let on_the_other = driven.try_submit(1, Command::new(LUN, &[0]), &[]);
        match reason {
            LogoutReason::Session => assert_eq!(on_the_other, Err(Refused::Closing), "on any connection"),
            _ => {
                on_the_other.expect("on the other connection it goes on");
                let (command, _) = second.command();
                second.good(command.initiator_task_tag.get());
            }
        }
        target.logged_out(&request, 0);
        assert!(target.expect_closed().is_empty());
        assert_eq!(driven.is_closed(1), reason == LogoutReason::Session);
        assert!(driven.events().iter().any(|event| matches!(event, Event::LoggedOut { response: 0, .. })));
        assert_eq!(driven.session().is_over(), reason == LogoutReason::Session);
    }
}

#[test]
fn out_04_a_logout_that_is_not_answered_ends_all_the_same() {
    for answer in 0..3 {
        let (driven, mut target) = level(0);
        let task = driven.read(8);
        target.command();
        let c = driven.connection(0);
        assert!(driven.session().logout(c, LogoutReason::Session));
        let (request, _) = target.expect::<LogoutRequest>();
        match answer {
            0 => driven.pass(Limits::default().request_timeout + Duration::from_secs(1)),
            1 => target.reject(RejectReason::ProtocolError, request.as_bytes()),
            _ => target.logged_out(&request, 3),
        }
        assert!(driven.is_closed(0), "case {answer}");
        assert!(driven.session().is_over());
        assert!(driven.events().contains(&Event::Completed(task, Outcome::Lost)));
    }
}

#[test]
fn a_connection_to_which_tasks_are_moving_is_not_logged_out_alone() {
    let (driven, mut target) = level(2);
    let mut second = join(&driven, 2);
    let mut third = join(&driven, 3);
    driven.read(8);
    let (command, _) = target.command();
    driven.lose(0);
    driven.events();
    driven.pass(Duration::from_secs(2));
    let c = driven.connection(1);
    assert!(driven.session().logout(c, LogoutReason::Recovery { cid: 1 }));
    assert!(!driven.session().logout(c, LogoutReason::Connection), "it is about to take tasks over");
    (second.exp_cmd_sn, third.exp_cmd_sn) = (target.exp_cmd_sn, target.exp_cmd_sn);
    let (request, _) = second.await_one::<LogoutRequest>();
    second.logged_out(&request, 0);
    assert!(!driven.session().logout(c, LogoutReason::Connection), "they are on their way");
    let (function, _) = second.expect::<TaskManagementRequest>();
    second.function_done(function.initiator_task_tag.get(), 0);
    second.answer_read(command.initiator_task_tag.get(), &[1; 8]);
    driven.events();
    assert!(driven.session().logout(c, LogoutReason::Connection));
}

#[test]
fn the_number_of_a_command_that_went_with_its_connection_is_used_up_at_level_0_too() {
    let (driven, mut target) = level(0);
    let mut second = join(&driven, 2);
    driven.read(8);
    let (command, _) = target.command();
    let c = driven.connection(0);
    assert!(driven.session().logout(c, LogoutReason::Connection));
    let (request, _) = target.expect::<LogoutRequest>();
    // It has not taken the command: a digest did not match.
    target.exp_cmd_sn = command.cmd_sn.get();
    target.logged_out(&request, 0);
    target.expect_closed();
    second.news();
    driven.pass(Duration::from_secs(3));
    let (ping, _) = second.await_one::<NopOut>();
    assert!(!ping.header().immediate());
    assert_eq!(ping.cmd_sn, command.cmd_sn);
}
