//! Initiators that mean harm, or whose network does: what they ask for twice, late, or out of turn.

use super::*;

#[test]
fn erl_04_a_status_whose_task_is_over_is_not_sent_again() {
    let (mut rig, c) = rig(1);
    rig.read(c, 1, 10, 512);
    // The tag is used again, and the status behind it was not acknowledged.
    rig.send(c, &command(1, 11, 0x40, 512));
    rig.send(c, &snack(1, RESERVED_TAG, 100, 1));
    assert!(rig.receive(c).iter().all(|pdu| pdu.opcode() == Opcode::Reject as u8));
    // A logout ends the tasks whose statuses are asked for in front of it.
    let (mut rig, c) = self::rig(1);
    rig.read(c, 1, 10, 512);
    rig.send(c, &snack(1, RESERVED_TAG, 100, 1));
    rig.send(c, &logout(92, 0, 1));
    assert_eq!(rig.receive(c).last().map(|pdu| pdu.opcode()), Some(Opcode::LogoutResponse as u8));
}

/// A write of `length` bytes for which the application has memory.
fn write(rig: &mut Rig, c: ConnectionId, tag: u32, cmd_sn: u32, length: u32) -> TaskId {
    rig.send(c, &command(tag, cmd_sn, 0x20, length));
    let task = rig.the_command();
    rig.session.receive_data_out(task, length);
    task
}

/// The bytes that the target asks for now.
fn asked_for(rig: &mut Rig, c: ConnectionId) -> Vec<ReadyToTransfer> {
    let pdus = rig.receive(c);
    let asked = pdus.iter().filter(|pdu| pdu.opcode() == Opcode::ReadyToTransfer as u8);
    asked.map(|pdu| *ReadyToTransfer::view(pdu)).collect()
}

#[test]
fn erl_04_a_sequence_that_was_lost_is_asked_for_though_a_later_one_came() {
    let parameters = SessionParameters {
        error_recovery_level: 1,
        max_burst_length: 8192,
        max_outstanding_r2t: 2,
        immediate_data: false,
        ..Default::default()
    };
    let (mut rig, c) = of(parameters);
    let task = write(&mut rig, c, 7, 10, 20_000);
    let asked = asked_for(&mut rig, c);
    // The answer to the first is lost, with its header.
    rig.send(c, &data_out(&asked[1], 0, 8192, 8192, true));
    let mut covered = Vec::new();
    for _ in 0..6 {
        let due = rig.session.poll_timeout().unwrap();
        rig.now = rig.now.max(due);
        rig.session.handle_timeout(rig.now);
        for asked in asked_for(&mut rig, c) {
            let (offset, length) = (asked.buffer_offset.get(), asked.desired_data_transfer_length.get());
            covered.push(offset);
            rig.send(c, &data_out(&asked, 0, offset, length, true));
        }
        rig.send(c, &ping(100));
    }
    assert_eq!(rig.events(), [Event::DataOut(task)]);
    assert!(covered.contains(&0), "asked for {covered:?}");
}

#[test]
fn erl_04_sequences_that_end_out_of_order_count_when_those_before_them_have_come() {
    let parameters = SessionParameters {
        max_burst_length: 8192,
        max_outstanding_r2t: 3,
        immediate_data: false,
        ..Default::default()
    };
    let (mut rig, c) = of(parameters);
    let task = write(&mut rig, c, 7, 10, 20_000);
    let asked = asked_for(&mut rig, c);
    rig.send(c, &data_out(&asked[2], 0, 16_384, 3616, true));
    rig.send(c, &data_out(&asked[1], 0, 8192, 8192, true));
    assert_eq!((rig.session.task(task).unwrap().received(), rig.events()), (0, vec![]));
    rig.send(c, &data_out(&asked[0], 0, 0, 8192, true));
    assert_eq!(rig.events(), [Event::DataOut(task)]);
}

#[test]
fn erl_04_unsolicited_data_that_ends_after_it_was_asked_for_again_counts_once() {
    for spoiled in [false, true] {
        let parameters = SessionParameters {
            error_recovery_level: 1,
            max_burst_length: 8192,
            first_burst_length: 8192,
            initial_r2t: false,
            immediate_data: false,
            ..Default::default()
        };
        let (mut rig, c) = of(parameters);
        let mut request = command(7, 10, 0x20, 16_384);
        request.flags &= !0x80;
        rig.send(c, &request);
        let task = rig.the_command();
        rig.session.receive_data_out(task, 16_384);
        // One PDU of eight kilobytes takes many seconds.
        let mut data = data_out(&ReadyToTransfer::empty(), 0, 0, 8192, true);
        data.initiator_task_tag = 7.into();
        data.target_transfer_tag = RESERVED_TAG.into();
        let incoming = rig.session.handle_header(rig.now, c, data.as_bytes(), true).unwrap();
        assert_eq!(incoming.place, Place::Task { task, offset: 0 });
        (0..5).for_each(|_| rig.pass(Duration::from_secs(2)));
        let asked = asked_for(&mut rig, c);
        assert_eq!(asked[0].buffer_offset.get(), 0);
        rig.session.handle_data_end(c, !spoiled).unwrap();
        rig.send(c, &data_out(&asked[0], 0, 0, 8192, true));
        assert_eq!(rig.events(), [], "half of it was never sent");
        let asked = asked_for(&mut rig, c);
        assert_eq!(asked.last().map(|asked| asked.buffer_offset.get()), Some(8192));
        rig.send(c, &data_out(&asked[0], 0, 8192, 8192, true));
        assert_eq!(rig.events(), [Event::DataOut(task)]);
    }
}

/// What is sent on the connection, to its last answer.
fn responses(pdus: &[Header]) -> Vec<u32> {
    let responses = pdus.iter().filter(|pdu| pdu.opcode() == Opcode::TaskManagementResponse as u8);
    responses.map(|pdu| pdu.initiator_task_tag.get()).collect()
}

#[test]
fn tmf_02_functions_that_wait_behind_a_fence_are_bounded() {
    let (mut rig, c) = rig(0);
    let d = rig.session.attach(opening(2), rig.now);
    rig.read(d, 1, 10, 512);
    rig.send(c, &function(90, 2, RESERVED_TAG, 11));
    rig.session.task_management_done(0, code::FUNCTION_COMPLETE, [0; 3]);
    for n in 0..500 {
        rig.send(c, &function(100 + n, 1, 999, 11));
    }
    rig.send(c, &function(90, 1, 999, 11));
    let refused = rejected(&rig.receive(c));
    assert_eq!(refused.len(), 501 - 15, "sixteen at once");
    assert_eq!(refused.last(), Some(&9), "a tag in use");
    rig.receive(d);
    rig.send(d, &ping(101));
    assert_eq!(responses(&rig.receive(c)), [90]);
    rig.send(c, &ping(102 + refused.len() as u32 - 1));
    assert_eq!(responses(&rig.receive(c)), (100..115).collect::<Vec<_>>());
}

#[test]
fn tmf_02_answers_that_wait_behind_a_fence_end_with_their_connection() {
    let (mut rig, c) = rig(0);
    let d = rig.session.attach(opening(2), rig.now);
    let e = rig.session.attach(opening(3), rig.now);
    rig.read(d, 1, 10, 512);
    for n in 0..8 {
        rig.send(c, &function(90 + n, 2, RESERVED_TAG, 11));
        rig.session.task_management_done(n, code::FUNCTION_COMPLETE, [0; 3]);
    }
    rig.send(e, &function(70, 1, 999, 11));
    assert!(rig.receive(e).iter().all(|pdu| pdu.opcode() != Opcode::TaskManagementResponse as u8));
    rig.send(e, &logout(91, 1, 1));
    assert!(rig.session.fences.is_empty(), "nobody is left whose answers would be fenced");
    assert_eq!(responses(&rig.receive(e)), [70]);
}

#[test]
fn tmf_02_a_mark_of_an_earlier_fence_is_not_that_of_the_next() {
    let (mut rig, c) = rig(0);
    let d = rig.session.attach(opening(2), rig.now);
    let e = rig.session.attach(opening(3), rig.now);
    rig.send(d, &command(1, 10, 0x40, 512));
    let first = rig.the_command();
    rig.send(d, &command(2, 11, 0x40, 512));
    let second = rig.the_command();
    rig.session.complete(first, good_in(512));
    rig.send(c, &function(90, 2, RESERVED_TAG, 10));
    rig.session.task_management_done(0, code::FUNCTION_COMPLETE, [0; 3]);
    // The fence falls with its connection, and its mark stays where it is.
    rig.send(e, &logout(91, 1, 1));
    rig.session.complete(second, good_in(512));
    rig.send(e, &function(92, 2, RESERVED_TAG, 10));
    rig.session.task_management_done(1, code::FUNCTION_COMPLETE, [0; 3]);
    assert_eq!(rig.receive(d).iter().filter(|pdu| pdu.opcode() == Opcode::DataIn as u8).count(), 2);
    rig.receive(e);
    rig.send(d, &ping(101));
    assert_eq!(responses(&rig.receive(e)), [], "the second status is not acknowledged");
    rig.send(d, &ping(102));
    assert_eq!(responses(&rig.receive(e)), [92]);
}

#[test]
fn erl_05_a_status_that_is_acknowledged_while_its_data_comes_anew_ends_the_task() {
    let (mut rig, c) = rig(1);
    for n in 0..20 {
        let (task, _) = rig.read(c, n, 10 + n, 8192);
        let mut anew = snack(3, n, 0, 0);
        anew.target_transfer_tag = 0x55.into();
        anew.exp_stat_sn = (101 + n).into();
        rig.send(c, &anew);
        rig.receive(c);
        rig.send(c, &ping(101 + n));
        assert_eq!(rig.events(), [Event::Ended(task)], "nothing of it is left");
        assert_eq!((rig.session.tasks(), rig.session.retained_bytes), (0, 0));
    }
}

#[test]
fn out_03_every_logout_is_answered() {
    let (mut rig, c) = rig(0);
    let [d, e, f] = [2, 3, 4].map(|cid| rig.session.attach(opening(cid), rig.now));
    rig.send(d, &command(1, 10, 0x40, 512));
    let first = rig.the_command();
    rig.send(e, &command(2, 11, 0x40, 512));
    let second = rig.the_command();
    // Two are asked for on one connection, a third is done before them.
    rig.send(c, &logout(91, 1, 2));
    rig.send(c, &logout(92, 1, 3));
    rig.send(f, &logout(93, 1, 4));
    let answered = |rig: &mut Rig, c| -> Vec<u32> {
        let pdus = rig.receive(c);
        let answers = pdus.iter().filter(|pdu| pdu.opcode() == Opcode::LogoutResponse as u8);
        answers.map(|pdu| pdu.initiator_task_tag.get()).collect()
    };
    assert_eq!(answered(&mut rig, f), [93], "it has no tasks and waits for none");
    assert_eq!(answered(&mut rig, c), []);
    rig.session.end_task(second);
    assert_eq!(answered(&mut rig, c), [92]);
    rig.session.end_task(first);
    assert_eq!(answered(&mut rig, c), [91]);
}

/// The header of a write whose immediate data is on its way.
fn write_on_its_way(rig: &mut Rig, c: ConnectionId, flags: u8, immediate: bool) {
    let mut request = command(1, 10, 0x20, 8192);
    request.flags = flags | 0x20;
    if immediate {
        request.opcode_byte |= IMMEDIATE;
    }
    request.set_data_segment_bytes(4096);
    let incoming = rig.session.handle_header(rig.now, c, request.as_bytes(), true).unwrap();
    assert_eq!(incoming.length, 4096);
}

#[test]
fn csn_04_a_command_aborted_while_its_data_comes_counts_as_received() {
    for (last, ok) in [(0x80, true), (0x80, false), (0, true), (0, false)] {
        let parameters = SessionParameters { max_connections: 4, initial_r2t: false, ..Default::default() };
        let (mut rig, c) = of(parameters);
        let d = rig.session.attach(opening(2), rig.now);
        write_on_its_way(&mut rig, c, last, false);
        let mut abort = function(90, 1, 1, 11);
        abort.ref_cmd_sn = 10.into();
        rig.send(d, &abort);
        assert_eq!(TaskManagementResponse::view(&rig.receive(d)[0]).response, code::FUNCTION_COMPLETE);
        rig.session.handle_data_end(c, ok).unwrap();
        rig.events();
        rig.send(d, &command(2, 11, 0x40, 512));
        rig.the_command();
        assert_eq!(rig.session.tasks(), 1);
    }
}

#[test]
fn tmf_15_a_reset_is_answered_though_the_data_of_its_command_is_spoiled() {
    let parameters = SessionParameters { max_connections: 4, initial_r2t: false, ..Default::default() };
    let (mut rig, c) = of(parameters);
    let d = rig.session.attach(opening(2), rig.now);
    write_on_its_way(&mut rig, c, 0, true);
    rig.send(d, &function(90, 5, RESERVED_TAG, 10));
    rig.session.task_management_done(0, code::FUNCTION_COMPLETE, [0; 3]);
    rig.session.handle_data_end(c, false).unwrap();
    rig.receive(c);
    rig.send(c, &ping(101));
    assert_eq!(responses(&rig.receive(d)), [90]);
}

#[test]
fn ssn_02_what_lost_connections_leave_behind_is_bounded() {
    let (mut rig, mut c) = rig(2);
    let mut tag = 0;
    for round in 0..200 {
        for _ in 0..100 {
            rig.read(c, tag, 10 + tag, 0);
            tag += 1;
        }
        rig.session.handle_closed(c, rig.now);
        rig.session.reinstate(1, rig.now);
        c = rig.session.attach(opening(1), rig.now);
        rig.events();
        assert!(rig.session.tasks() <= 4096 + 100, "{} tasks in round {round}", rig.session.tasks());
        assert!(rig.session.recovering().count() <= 32);
    }
    // The last that was lost can still be taken over.
    rig.send(c, &function(u32::MAX - 1, 8, tag - 1, 10 + tag));
    let pdus = rig.receive(c);
    assert_eq!(TaskManagementResponse::view(&pdus[0]).response, code::FUNCTION_COMPLETE);
}

#[test]
fn tmf_10_a_write_whose_data_is_all_there_when_its_connection_goes_is_carried_out() {
    let parameters = SessionParameters {
        error_recovery_level: 2,
        max_connections: 4,
        first_burst_length: 8192,
        initial_r2t: false,
        immediate_data: false,
        ..Default::default()
    };
    let (mut rig, c) = of(parameters);
    let d = rig.session.attach(opening(2), rig.now);
    let mut request = command(7, 10, 0x20, 8192);
    request.flags &= !0x80;
    rig.send(c, &request);
    let task = rig.the_command();
    // The unit wants less than the initiator is going to send.
    rig.session.receive_data_out(task, 4096);
    let mut data = data_out(&ReadyToTransfer::empty(), 0, 0, 4096, false);
    data.initiator_task_tag = 7.into();
    data.target_transfer_tag = RESERVED_TAG.into();
    rig.send(c, &data);
    rig.session.handle_closed(c, rig.now);
    rig.send(d, &logout(91, 2, 1));
    rig.send(d, &function(92, 8, 7, 11));
    assert_eq!(rig.events(), [Event::DataOut(task)], "once");
    rig.session.complete(task, good_out(4096));
    assert_eq!(rig.receive(d).last().map(|pdu| pdu.opcode()), Some(Opcode::ScsiResponse as u8));
}

#[test]
fn erl_08_a_session_without_connections_does_not_last_as_long_as_its_initiator_wishes() {
    let parameters = SessionParameters {
        error_recovery_level: 2,
        max_connections: 4,
        default_time_2_wait: 3600,
        default_time_2_retain: 20,
        ..Default::default()
    };
    let (mut rig, c) = of(parameters);
    let d = rig.session.attach(opening(2), rig.now);
    rig.send(c, &command(1, 10, 0x40, 512));
    rig.session.handle_closed(c, rig.now);
    let told = rig.receive(d);
    let message = AsyncMessage::view(&told[0]);
    assert_eq!((message.parameter_2.get(), message.parameter_3.get()), (300, 20), "and is told so");
    rig.send(d, &logout(91, 2, 1));
    let response = rig.receive(d);
    let response = LogoutResponse::view(&response[0]);
    assert_eq!((response.time_2_wait.get(), response.time_2_retain.get()), (300, 20));
    rig.session.handle_closed(d, rig.now);
    rig.pass(Duration::from_secs(319));
    assert!(!rig.session.is_over());
    rig.pass(Duration::from_secs(1));
    assert!(rig.session.is_over());
}

#[test]
fn erl_04_data_of_a_command_before_its_turn_is_asked_for_again_in_its_turn() {
    let parameters = SessionParameters {
        error_recovery_level: 1,
        first_burst_length: 8192,
        initial_r2t: false,
        immediate_data: false,
        ..Default::default()
    };
    let (mut rig, c) = of(parameters);
    let mut request = command(7, 11, 0x20, 8192);
    request.flags &= !0x80;
    rig.send(c, &request);
    (0..3).for_each(|_| rig.pass(Duration::from_secs(2)));
    rig.receive(c);
    // It comes after all, but too late.
    let mut data = data_out(&ReadyToTransfer::empty(), 0, 0, 8192, true);
    data.initiator_task_tag = 7.into();
    data.target_transfer_tag = RESERVED_TAG.into();
    assert_eq!(rig.send_digest(c, &data, true).unwrap().place, Place::Discard);
    assert_eq!(rejected(&rig.receive(c)), [], "it was sent before it was given up");
    rig.send(c, &command(1, 10, 0x40, 512));
    let events = rig.events();
    let [Event::Command(_), Event::Command(write)] = events[..] else { panic!("{events:?}") };
    rig.session.receive_data_out(write, 8192);
    let asked = asked_for(&mut rig, c);
    assert_eq!((asked[0].buffer_offset.get(), asked[0].desired_data_transfer_length.get()), (0, 8192));
}

#[test]
fn tmf_05_a_reset_with_a_number_far_ahead_passes_over_no_more_than_the_window() {
    let (mut rig, c) = rig(0);
    for n in 0..1000u32 {
        let mut reset = function(5000 + n, 5, RESERVED_TAG, 10 + (1 << 30));
        reset.lun = u64::from(n).to_be_bytes();
        rig.send(c, &reset);
        rig.pass(Duration::from_secs(4));
        rig.session.task_management_done(n, code::FUNCTION_COMPLETE, [0; 3]);
        rig.receive(c);
    }
    for n in 10..18 {
        rig.send(c, &command(n, n, 0x40, 512));
    }
    rig.events();
    rig.receive(c);
    rig.read(c, 18, 18, 512);
}
