//! Several connections: order, fences, logouts, connections that are lost and tasks that are taken over.

use super::*;

#[test]
fn tmf_10_a_read_goes_on_at_another_connection() {
    let (mut rig, c) = rig(2);
    rig.send(c, &command(1, 10, 0x40, 20_000));
    let task = rig.the_command();
    rig.session.handle_closed(c, rig.now);
    assert!(!rig.session.is_over());
    rig.session.complete(task, good_in(20_000));
    let d = rig.session.attach(opening(2), rig.now);
    rig.send(d, &function(90, 8, 1, 11));
    assert_eq!(TaskManagementResponse::view(&rig.receive(d)[0]).response, code::TASK_STILL_ALLEGIANT, "not logged out");
    rig.send(d, &logout(91, 2, 1));
    assert_eq!(LogoutResponse::view(&rig.receive(d)[0]).response, 0);
    rig.send(d, &function(92, 8, 1, 11));
    let pdus = rig.receive(d);
    assert_eq!(TaskManagementResponse::view(&pdus[0]).response, code::FUNCTION_COMPLETE);
    assert_eq!(pdus.len(), 1 + 5, "the response first, then data and status");
    let last = DataIn::view(pdus.last().unwrap());
    assert_eq!((last.flags & 1, last.stat_sn.get()), (1, 103));
    rig.send(d, &function(93, 8, 1, 11));
    assert_eq!(TaskManagementResponse::view(&rig.receive(d)[0]).response, code::TASK_STILL_ALLEGIANT);
    rig.send(d, &ping(105));
    assert_eq!(rig.session.tasks(), 0);
    rig.send(d, &function(94, 8, 1, 11));
    assert_eq!(TaskManagementResponse::view(&rig.receive(d)[0]).response, code::TASK_DOES_NOT_EXIST);
}

#[test]
fn tmf_10_data_goes_on_where_the_initiator_says_and_the_status_comes_again() {
    for (expected_data_sn, offset) in [(0, 0), (3, 12_288), (5, 20_000), (6, 0), (u32::MAX, 0)] {
        let (mut rig, c) = rig(2);
        rig.read(c, 1, 10, 20_000);
        assert_eq!(rig.session.reinstate(1, rig.now), Some(c));
        let mut other = opening(1);
        other.parameters.max_send_data_segment_length = 1024;
        let d = rig.session.attach(other, rig.now);
        let mut request = function(92, 8, 1, 11);
        request.exp_data_sn = expected_data_sn.into();
        rig.send(d, &request);
        let pdus = rig.receive(d);
        assert_eq!(TaskManagementResponse::view(&pdus[0]).response, code::FUNCTION_COMPLETE);
        let data: Vec<_> = pdus[1..].iter().filter(|pdu| pdu.opcode() == Opcode::DataIn as u8).collect();
        let bytes: u32 = data.iter().map(|pdu| pdu.data_segment_bytes()).sum();
        assert_eq!(bytes, 20_000 - offset, "ExpDataSN {expected_data_sn}");
        if let Some(first) = data.first().map(|first| DataIn::view(first)) {
            let from = if offset == 0 { 0 } else { expected_data_sn };
            assert_eq!((first.buffer_offset.get(), first.data_sn.get()), (offset, from));
            assert!(data.iter().all(|pdu| pdu.data_segment_bytes() <= 1024));
        }
        let last = pdus.last().unwrap();
        let status = match Opcode::from_number(last.opcode()) {
            Some(Opcode::DataIn) => DataIn::view(last).flags & 1 == 1,
            Some(Opcode::ScsiResponse) => ScsiResponse::view(last).snack_tag.get() == 0,
            _ => false,
        };
        assert!(status, "the status is always sent again");
    }
}

#[test]
fn tmf_10_a_write_goes_on_at_another_connection() {
    let (mut rig, c) = rig(2);
    let d = rig.session.attach(opening(2), rig.now);
    rig.send(c, &command(7, 10, 0x20, 20_000));
    let task = rig.the_command();
    rig.session.receive_data_out(task, 20_000);
    let asked = *ReadyToTransfer::view(&rig.receive(c)[0]);
    rig.send(c, &data_out(&asked, 0, 0, 8192, true));
    let asked = *ReadyToTransfer::view(&rig.receive(c)[0]);
    rig.send(c, &data_out(&asked, 0, 8192, 3000, false));
    rig.session.handle_closed(c, rig.now);
    let told = rig.receive(d);
    let message = AsyncMessage::view(&told[0]);
    assert_eq!((message.event, message.parameter_1.get()), (2, 1), "the other connection hears of it");
    rig.send(d, &logout(91, 2, 1));
    let mut request = function(92, 8, 7, 11);
    request.exp_data_sn = 2.into();
    rig.send(d, &request);
    let pdus = rig.receive(d);
    assert_eq!(TaskManagementResponse::view(&pdus[1]).response, code::FUNCTION_COMPLETE);
    let asked = *ReadyToTransfer::view(&pdus[2]);
    assert_eq!((asked.r2t_sn.get(), asked.buffer_offset.get()), (2, 11_192), "what has come is not asked for again");
    rig.send(d, &data_out(&asked, 0, 11_192, 8192, true));
    let asked = *ReadyToTransfer::view(&rig.receive(d)[0]);
    rig.send(d, &data_out(&asked, 0, 19_384, 616, true));
    assert_eq!(rig.events(), [Event::DataOut(task)], "told once");
    rig.session.complete(task, good_out(20_000));
    assert_eq!(rig.receive(d)[0].opcode(), Opcode::ScsiResponse as u8);
}

#[test]
fn erl_08_tasks_wait_for_time_2_wait_and_time_2_retain_and_no_longer() {
    let (mut rig, c) = rig(2);
    let d = rig.session.attach(opening(2), rig.now);
    rig.send(c, &command(1, 10, 0x40, 512));
    let task = rig.the_command();
    rig.session.handle_closed(c, rig.now);
    rig.pass(Duration::from_secs(21));
    assert_eq!(rig.events(), [], "2 + 20 seconds are agreed");
    rig.send(d, &ping(101));
    rig.pass(Duration::from_secs(1));
    assert_eq!(rig.events(), [Event::CommandsCleared { lun: [0; 8] }, Event::Abort(task)]);
    rig.session.end_task(task);
    assert!(!rig.session.is_over(), "the other connection goes on");
    rig.session.handle_closed(d, rig.now);
    assert!(!rig.session.is_over());
    rig.pass(Duration::from_secs(22));
    assert!(rig.session.is_over());
}

#[test]
fn erl_01_below_level_2_a_lost_connection_ends_the_session() {
    for level in [0, 1] {
        let (mut rig, c) = rig(level);
        let d = rig.session.attach(opening(2), rig.now);
        rig.session.handle_closed(c, rig.now);
        assert!(rig.session.wants_close(d), "level {level}");
        rig.session.handle_closed(d, rig.now);
        assert!(rig.session.is_over());
    }
}

#[test]
fn pdu_09_a_format_error_ends_all_connections_at_every_level() {
    for level in [0, 1, 2] {
        let (mut rig, c) = rig(level);
        let d = rig.session.attach(opening(2), rig.now);
        rig.session.handle_error(c, &ConnectionError::Format("x"), rig.now);
        assert!(rig.session.wants_close(d));
        rig.session.handle_closed(d, rig.now);
        assert!(rig.session.is_over(), "level {level}");
    }
}

#[test]
fn erl_09_immediate_commands_die_with_their_connection() {
    let (mut rig, c) = rig(2);
    let mut request = command(1, 10, 0x40, 512);
    request.opcode_byte |= IMMEDIATE;
    rig.send(c, &request);
    let task = rig.the_command();
    rig.session.handle_closed(c, rig.now);
    assert_eq!(rig.events(), [Event::Abort(task)]);
}

#[test]
fn out_06_commands_behind_a_gap_are_discarded_with_their_connection() {
    let (mut rig, c) = rig(2);
    let d = rig.session.attach(opening(2), rig.now);
    rig.send(c, &command(1, 11, 0x40, 512));
    rig.send(d, &logout(91, 2, 1));
    assert_eq!(LogoutResponse::view(&rig.receive(d)[0]).response, 0);
    assert_eq!(rig.session.tasks(), 0);
    rig.send(d, &command(2, 10, 0x40, 512));
    assert!(matches!(rig.events()[..], [Event::Ended(_), Event::Command(_)]), "and 11 is a gap again");
    rig.send(d, &command(1, 11, 0x40, 512));
    assert!(matches!(rig.events()[..], [Event::Command(_)]), "which a retry plugs");
}

#[test]
fn out_06_commands_behind_a_gap_are_discarded_with_a_connection_that_logs_itself_out() {
    let (mut rig, c) = rig(2);
    let d = rig.session.attach(opening(2), rig.now);
    rig.send(d, &command(2, 11, 0x40, 512));
    rig.send(d, &logout(91, 1, 2));
    assert_eq!(LogoutResponse::view(&rig.receive(d)[0]).response, 0);
    rig.session.handle_closed(d, rig.now);
    rig.events();
    // Nobody has heard that answer: what is not acknowledged comes again.
    rig.send(c, &command(2, 11, 0x40, 512));
    rig.send(c, &command(1, 10, 0x40, 512));
    let commands = rig.events().into_iter().filter(|event| matches!(event, Event::Command(_))).count();
    assert_eq!(commands, 2, "the one that was lost, and the one behind it");
}

#[test]
fn out_03_another_connection_is_logged_out() {
    let (mut rig, c) = rig(0);
    let d = rig.session.attach(opening(2), rig.now);
    rig.send(d, &command(1, 10, 0x40, 512));
    let task = rig.the_command();
    rig.send(c, &logout(91, 1, 2));
    assert!(rig.receive(c).is_empty(), "not before its tasks have ended");
    assert!(rig.session.wants_close(d));
    assert_eq!(rig.events(), [Event::CommandsCleared { lun: [0; 8] }, Event::Abort(task)]);
    rig.session.end_task(task);
    assert_eq!(LogoutResponse::view(&rig.receive(c)[0]).response, 0);
    assert!(!rig.session.wants_close(c));
    rig.send(c, &logout(92, 1, 2));
    assert_eq!(LogoutResponse::view(&rig.receive(c)[0]).response, 1, "CID not found");
    rig.send(c, &logout(93, 2, 1));
    assert_eq!(LogoutResponse::view(&rig.receive(c)[0]).response, 2, "recovery is not agreed");
}

#[test]
fn csn_02_commands_of_two_connections_are_told_in_their_order() {
    let (mut rig, c) = rig(0);
    let d = rig.session.attach(opening(2), rig.now);
    rig.send(d, &command(2, 11, 0x40, 512));
    rig.send(c, &command(3, 12, 0x40, 512));
    assert_eq!(rig.events(), []);
    rig.send(c, &command(1, 10, 0x40, 512));
    let tags: Vec<_> = rig
        .events()
        .iter()
        .map(|event| match event {
            Event::Command(task) => rig.session.task(*task).unwrap().initiator_task_tag,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(tags, [1, 2, 3]);
}

#[test]
fn tmf_05_a_reset_waits_for_the_commands_in_front_of_it() {
    let (mut rig, c) = rig(0);
    let d = rig.session.attach(opening(2), rig.now);
    rig.send(c, &function(90, 5, RESERVED_TAG, 11));
    assert_eq!(rig.events(), [], "10 is on its way on the other connection");
    rig.send(d, &command(1, 10, 0x40, 512));
    let events = rig.events();
    assert!(
        matches!(events[..], [Event::Command(_), Event::Abort(_), Event::TaskManagement { function: 5, .. }]),
        "{events:?}"
    );
    // A gap that nobody fills does not hold it up for ever.
    rig.send(c, &function(91, 5, RESERVED_TAG, 13));
    rig.pass(Duration::from_secs(4));
    assert!(matches!(rig.events()[..], [Event::TaskManagement { .. }]));
    // A reset of the target does not wait at all (§4.2.3.3 b).
    rig.send(c, &function(92, 6, RESERVED_TAG, 14));
    assert!(matches!(rig.events()[..], [Event::TaskManagement { function: 6, .. }]));
    rig.send(d, &command(2, 12, 0x40, 512));
    assert_eq!(rig.events(), [], "what it passed over counts as received");
}

#[test]
fn rsp_10_a_fenced_response_waits_for_those_before_it_and_holds_those_behind() {
    let (mut rig, c) = rig(0);
    let d = rig.session.attach(opening(2), rig.now);
    rig.read(d, 1, 10, 512);
    rig.send(d, &command(3, 11, 0x40, 512));
    let behind = rig.the_command();
    rig.send(c, &function(90, 2, RESERVED_TAG, 11));
    rig.session.task_management_done(0, code::FUNCTION_COMPLETE, [0; 3]);
    assert!(rig.receive(c).is_empty(), "the status of the other connection is not acknowledged");
    rig.session.complete(behind, good_in(512));
    let asked = rig.receive(d);
    assert_eq!(asked.len(), 1, "the answer behind the fence is held");
    assert_ne!(NopIn::view(&asked[0]).target_transfer_tag.get(), RESERVED_TAG, "but an acknowledgment is asked for");
    rig.send(d, &ping(101));
    let response = rig.receive(c);
    assert_eq!(response[0].opcode(), Opcode::TaskManagementResponse as u8);
    assert!(rig.receive(d).is_empty(), "still held: the response itself is not acknowledged");
    rig.send(c, &ping(101));
    assert_eq!(rig.receive(d)[0].opcode(), Opcode::DataIn as u8);
}

#[test]
fn tmf_11_fast_abort_tells_the_other_connections_and_waits_for_no_data() {
    let parameters = SessionParameters {
        task_reporting: TaskReporting::FastAbort,
        max_connections: 4,
        immediate_data: false,
        ..Default::default()
    };
    let (mut rig, c) = of(parameters);
    let d = rig.session.attach(opening(2), rig.now);
    rig.send(d, &command(1, 10, 0x20, 4096));
    let task = rig.the_command();
    rig.session.receive_data_out(task, 4096);
    let asked = *ReadyToTransfer::view(&rig.receive(d)[0]);
    rig.send(c, &function(90, 5, RESERVED_TAG, 11));
    assert!(matches!(rig.events()[..], [Event::Abort(_), Event::TaskManagement { .. }]));
    rig.session.end_task(task);
    rig.session.task_management_done(0, code::FUNCTION_COMPLETE, [0; 3]);
    let told = rig.receive(d);
    assert_eq!((told[0].opcode(), AsyncMessage::view(&told[0]).event), (Opcode::AsyncMessage as u8, 5));
    let late = rig.send_digest(d, &data_out(&asked, 0, 0, 4096, true), true).unwrap();
    assert_eq!(late.place, Place::Discard, "its tag is still good, its data is not wanted");
    rig.send(d, &ping(101));
    rig.receive(d);
    let response = rig.receive(c);
    assert_eq!(response[0].opcode(), Opcode::TaskManagementResponse as u8);
}

#[test]
fn tmf_01_what_was_answered_and_not_acknowledged_does_not_exist_for_an_abort() {
    let (mut rig, c) = rig(1);
    let (task, _) = rig.read(c, 1, 10, 512);
    rig.send(c, &function(90, 1, 1, 11));
    assert_eq!(TaskManagementResponse::view(&rig.receive(c)[0]).response, code::TASK_DOES_NOT_EXIST);
    rig.send(c, &function(91, 5, RESERVED_TAG, 11));
    rig.session.task_management_done(1, code::FUNCTION_COMPLETE, [0; 3]);
    assert_eq!(
        TaskManagementResponse::view(&rig.receive(c)[0]).response,
        code::FUNCTION_COMPLETE,
        "nothing to wait for"
    );
    assert!(rig.session.task(task).is_some());
    rig.send(c, &logout(92, 0, 1));
    assert_eq!(LogoutResponse::view(&rig.receive(c)[0]).response, 0);
    assert_eq!(rig.session.tasks(), 0);
}

#[test]
fn tmf_01_an_abort_on_another_connection_brings_the_answer_once_more() {
    let (mut rig, c) = rig(2);
    let d = rig.session.attach(opening(2), rig.now);
    rig.read(c, 1, 10, 512);
    rig.send(d, &logout(91, 2, 1));
    rig.receive(d);
    rig.send(d, &function(92, 1, 1, 11));
    let pdus = rig.receive(d);
    assert_eq!(DataIn::view(&pdus[0]).flags & 1, 1, "data and status");
    assert_eq!(TaskManagementResponse::view(&pdus[1]).response, code::TASK_DOES_NOT_EXIST);
}

#[test]
fn out_01_nothing_of_a_connection_is_left_when_it_is_logged_out() {
    for level in [0, 1, 2] {
        let (mut rig, c) = rig(level);
        let d = rig.session.attach(opening(2), rig.now);
        rig.read(d, 1, 10, 512);
        rig.send(d, &command(2, 11, 0x20, 4096));
        let task = rig.the_command();
        rig.session.receive_data_out(task, 4096);
        rig.receive(d);
        rig.send(d, &logout(91, 1, 2));
        let mut events = rig.events();
        events.retain(|event| !matches!(event, Event::Ended(_)));
        assert_eq!(events, [Event::CommandsCleared { lun: [0; 8] }, Event::Abort(task)], "level {level}");
        rig.session.end_task(task);
        assert_eq!(LogoutResponse::view(&rig.receive(d)[0]).response, 0);
        rig.session.handle_closed(d, rig.now);
        assert_eq!((rig.session.tasks(), rig.session.connections()), (0, 1), "level {level}");
        assert!(!rig.session.is_over());
        rig.read(c, 3, 12, 512);
    }
}
