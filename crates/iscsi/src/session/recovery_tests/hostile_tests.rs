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
