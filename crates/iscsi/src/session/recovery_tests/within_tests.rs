//! Recovery within a command and within a connection: SNACK, spoiled data, spoiled headers.

use super::*;

#[test]
fn erl_04_data_is_sent_again_exactly_as_it_was() {
    let (mut rig, c) = rig(1);
    let (task, pdus) = rig.read(c, 1, 10, 20_000);
    assert_eq!(pdus.len(), 5);
    for (begin, length, expected) in [(1, 2, 1..3), (4, 0, 4..5), (0, 0, 0..5), (0, 1, 0..1)] {
        rig.send(c, &snack(0, 1, begin, length));
        let again: Vec<_> = rig.receive(c).iter().map(replica).collect();
        let before: Vec<_> = pdus[expected.clone()].iter().map(replica).collect();
        assert_eq!(again, before, "BegRun {begin}, RunLength {length}");
    }
    assert_eq!(rig.session.tasks(), 1, "kept until it is acknowledged");
    rig.send(c, &ping(101));
    assert_eq!(rig.events(), [Event::Ended(task)]);
    assert_eq!(rig.session.tasks(), 0);
    rig.send(c, &snack(0, 1, 0, 0));
    assert_eq!(rejected(&rig.receive(c)), [9], "the task is over");
}

/// Three statuses were sent: a response with sense data, the answer to a ping, a read's.
fn three_statuses() -> (Rig, ConnectionId, Vec<Header>) {
    let (mut rig, c) = rig(1);
    rig.send(c, &command(1, 10, 0x40, 512));
    let task = rig.the_command();
    let sense = Some(vec![0x70, 0, 5].into_boxed_slice());
    rig.session.complete(task, Response { status: 2, sense, ..Default::default() });
    let mut sent = rig.receive(c);
    let mut echo = ping(100);
    echo.initiator_task_tag = 77.into();
    rig.send(c, &echo);
    sent.extend(rig.receive(c));
    sent.extend(rig.read(c, 2, 11, 512).1);
    assert_eq!(sent.len(), 3);
    (rig, c, sent)
}

#[test]
fn erl_04_a_status_is_sent_again_exactly_as_it_was() {
    let (mut rig, c, sent) = three_statuses();
    rig.send(c, &snack(1, RESERVED_TAG, 0, 0));
    assert_eq!(rig.receive(c).iter().map(replica).collect::<Vec<_>>(), sent.iter().map(replica).collect::<Vec<_>>());
    rig.send(c, &snack(1, RESERVED_TAG, 101, 1));
    let again = rig.receive(c);
    assert_eq!(NopIn::view(&again[0]).initiator_task_tag.get(), 77);
    rig.send(c, &ping(102));
    rig.send(c, &snack(1, RESERVED_TAG, 0, 0));
    assert_eq!(rig.receive(c).len(), 1, "only what is not acknowledged");
}

#[test]
fn erl_04_what_is_acknowledged_or_was_never_sent_is_refused() {
    for (begin, length) in [(100, 1), (102, 2), (103, 0), (101, 2), (104, 1), (0, 1), (u32::MAX, 3)] {
        let (mut rig, c, _) = three_statuses();
        rig.send(c, &ping(102));
        rig.send(c, &snack(1, RESERVED_TAG, begin, length));
        assert_eq!(rejected(&rig.receive(c)), [4], "BegRun {begin}, RunLength {length}");
    }
}

#[test]
fn erl_07_runs_are_bounded_by_what_was_sent() {
    let (mut rig, c) = rig(1);
    rig.read(c, 1, 10, 20_000);
    for (begin, length) in [
        (5, 0),
        (5, 1),
        (4, 2),
        (0, 6),
        (0, u32::MAX),
        (1, u32::MAX),
        (u32::MAX, 1),
        (u32::MAX, 2),
        (u32::MAX, u32::MAX),
        (1 << 31, 1 << 31),
        (3, u32::MAX - 2),
    ] {
        rig.send(c, &snack(0, 1, begin, length));
        let pdus = rig.receive(c);
        assert_eq!(rejected(&pdus), [4], "BegRun {begin}, RunLength {length}");
        assert_eq!(pdus.len(), 1, "nothing is sent again");
        assert_eq!(Reject::view(&pdus[0]).data_sn.get(), 5, "the next number (§11.17.2)");
    }
    for kind in 4..16 {
        rig.send(c, &snack(kind, 1, 0, 0));
        assert_eq!(rejected(&rig.receive(c)), [4], "type {kind}");
    }
    rig.send(c, &snack(0, 99, 0, 0));
    assert_eq!(rejected(&rig.receive(c)), [9], "no such task");
}

#[test]
fn dat_15_acknowledgments_are_asked_for_at_the_end_of_sequences_only() {
    let (mut plain, c) = rig(0);
    let (_, pdus) = plain.read(c, 1, 10, 20_000);
    assert!(pdus.iter().all(|pdu| DataIn::view(pdu).flags & 0x40 == 0), "not at level 0");
    let (mut rig, c) = rig(1);
    let (_, pdus) = rig.read(c, 1, 10, 20_000);
    let asks: Vec<_> = pdus.iter().map(|pdu| DataIn::view(pdu).flags & 0x40 != 0).collect();
    assert_eq!(asks, [false, true, false, true, false], "once for each MaxBurstLength");
    let tag = DataIn::view(&pdus[1]).target_transfer_tag;
    let mut acknowledgment = snack(2, RESERVED_TAG, 2, 0);
    acknowledgment.target_transfer_tag = tag;
    rig.send(c, &acknowledgment);
    assert!(rig.receive(c).is_empty());
    rig.send(c, &snack(0, 1, 0, 0));
    assert_eq!(rig.receive(c).len(), 3, "what is acknowledged is not sent again");
    rig.send(c, &snack(0, 1, 1, 1));
    assert_eq!(rejected(&rig.receive(c)), [4]);
    for (tag, begin) in
        [(tag.get(), 1), (tag.get(), 3), (tag.get(), 0), (RESERVED_TAG, 2), (1, 2), (tag.get() ^ 4 << 16, 2)]
    {
        let mut wrong = snack(2, RESERVED_TAG, begin, 0);
        wrong.target_transfer_tag = tag.into();
        rig.send(c, &wrong);
        assert_eq!(rejected(&rig.receive(c)), [8], "tag {tag:x}, BegRun {begin}");
    }
}

#[test]
fn erl_05_data_is_cut_anew_from_the_last_acknowledged_point() {
    let (mut rig, c) = rig(1);
    let (task, pdus) = rig.read(c, 1, 10, 20_000);
    let mut acknowledgment = snack(2, RESERVED_TAG, 2, 0);
    acknowledgment.target_transfer_tag = DataIn::view(&pdus[1]).target_transfer_tag;
    rig.send(c, &acknowledgment);
    rig.session.connections.get_mut(c).unwrap().parameters.max_send_data_segment_length = 2048;
    rig.send(c, &snack(0, 1, 2, 1));
    assert_eq!(rejected(&rig.receive(c)), [4], "the old PDUs are too long now");
    let mut anew = snack(3, 1, 0, 0);
    anew.target_transfer_tag = 0x55.into();
    rig.send(c, &anew);
    let pdus = rig.receive(c);
    let (data, status) = pdus.split_at(pdus.len() - 1);
    let seen: Vec<_> = data
        .iter()
        .map(DataIn::view)
        .map(|pdu| (pdu.data_sn.get(), pdu.buffer_offset.get(), pdu.header().data_segment_bytes(), pdu.flags & 1))
        .collect();
    let expected: Vec<_> = (0..6).map(|n| (2 + n, 8192 + n * 2048, if n == 5 { 1568 } else { 2048 }, 0)).collect();
    assert_eq!(seen, expected);
    let response = ScsiResponse::view(&status[0]);
    assert_eq!(
        (response.snack_tag.get(), response.stat_sn.get(), response.status, response.exp_data_sn.get()),
        (0x55, 100, 0, 8)
    );
    rig.send(c, &snack(1, RESERVED_TAG, 100, 1));
    let again = rig.receive(c);
    assert_eq!(replica(&again[0]), replica(&status[0]), "the latest content (§11.16.3)");
    for tag in [0, RESERVED_TAG] {
        let mut wrong = snack(3, 1, 0, 0);
        wrong.target_transfer_tag = tag.into();
        rig.send(c, &wrong);
        assert_eq!(rejected(&rig.receive(c)), [9]);
    }
    rig.send(c, &ping(101));
    assert_eq!(rig.events(), [Event::Ended(task)]);
}

#[test]
fn erl_04_a_lost_r2t_is_sent_again_and_lost_data_is_asked_for_again() {
    let (mut rig, c) = rig(1);
    rig.send(c, &command(7, 10, 0x20, 12_000));
    let task = rig.the_command();
    rig.session.receive_data_out(task, 12_000);
    let sent = rig.receive(c);
    rig.send(c, &snack(0, 7, 0, 1));
    assert_eq!(rig.receive(c).iter().map(replica).collect::<Vec<_>>(), [replica(&sent[0])]);
    let asked = *ReadyToTransfer::view(&sent[0]);
    rig.send(c, &data_out(&asked, 0, 0, 4096, false));
    // The second is lost; the third of the sequence comes.
    let third = rig.send_digest(c, &data_out(&asked, 2, 6000, 2192, true), true).unwrap();
    assert_eq!(third.place, Place::Discard, "what is not in its place is not stored");
    let recovery = *ReadyToTransfer::view(&rig.receive(c)[0]);
    assert_eq!((recovery.r2t_sn.get(), recovery.buffer_offset.get()), (1, 4096));
    assert_eq!(recovery.desired_data_transfer_length.get(), 7904, "at most MaxBurstLength");
    assert_ne!(recovery.target_transfer_tag, asked.target_transfer_tag);
    assert_eq!(
        rig.send_digest(c, &data_out(&asked, 1, 4096, 1904, false), true).unwrap().place,
        Place::Discard,
        "what comes late is passed over"
    );
    // This one comes with a wrong digest.
    rig.send_digest(c, &data_out(&recovery, 0, 4096, 7904, true), false).unwrap();
    let pdus = rig.receive(c);
    assert_eq!(rejected(&pdus), [2]);
    let recovery = *ReadyToTransfer::view(pdus.last().unwrap());
    assert_eq!((recovery.r2t_sn.get(), recovery.buffer_offset.get()), (2, 4096));
    rig.send(c, &data_out(&recovery, 0, 4096, 7904, true));
    assert_eq!(rig.events(), [Event::DataOut(task)]);
}

#[test]
fn erl_04_data_that_does_not_come_is_asked_for_again_and_not_for_ever() {
    let (mut rig, c) = rig(1);
    rig.send(c, &command(7, 10, 0x20, 4096));
    let task = rig.the_command();
    rig.session.receive_data_out(task, 4096);
    assert_eq!(rig.receive(c).len(), 1);
    let mut asked = 0;
    for _ in 0..100 {
        let due = rig.session.poll_timeout().unwrap();
        rig.now = rig.now.max(due);
        rig.session.handle_timeout(rig.now);
        asked += rig.receive(c).iter().filter(|pdu| pdu.opcode() == Opcode::ReadyToTransfer as u8).count();
        rig.send(c, &ping(100));
    }
    assert!((8..=40).contains(&asked), "{asked} times");
    let fault = DataOutFault::ProtocolServiceCrcError;
    assert_eq!(rig.events(), [Event::DataOutFault(task, fault)]);
}

#[test]
fn dig_04_a_pdu_with_a_bad_header_is_passed_over_once_its_length_is_proved() {
    let (mut rig, c) = rig(1);
    let bad = data_out(&ReadyToTransfer::empty(), 0, 0, 512, true);
    let incoming = rig.session.handle_header(rig.now, c, bad.as_bytes(), false).unwrap();
    assert_eq!((incoming.place, incoming.length), (Place::Discard, 512));
    rig.session.handle_data_end(c, false).unwrap();
    assert!(rig.receive(c).is_empty(), "nothing of it is believed");
    rig.read(c, 1, 10, 512);
    let incoming = rig.session.handle_header(rig.now, c, bad.as_bytes(), false);
    assert!(incoming.is_ok(), "again, as another was whole between them");
    rig.session.handle_data_end(c, false).unwrap();
    assert_eq!(rig.session.handle_header(rig.now, c, bad.as_bytes(), false), Err(ConnectionError::HeaderDigest));
    let (mut plain, c) = self::rig(0);
    assert_eq!(plain.session.handle_header(plain.now, c, bad.as_bytes(), false), Err(ConnectionError::HeaderDigest));
}

#[test]
fn ssn_02_what_is_kept_is_bounded_and_asked_after() {
    let (mut rig, c) = rig(1);
    for n in 0..20 {
        rig.read(c, n, 10 + n, 8192);
    }
    assert!(rig.session.retained_bytes <= 64 << 10, "{}", rig.session.retained_bytes);
    assert_eq!(rig.session.tasks(), 8);
    rig.send(c, &snack(1, RESERVED_TAG, 100, 1));
    assert_eq!(rejected(&rig.receive(c)), [3], "too old");
    rig.pass(Duration::from_secs(2));
    let pdus = rig.receive(c);
    let asked = NopIn::view(&pdus[0]);
    assert_eq!(pdus[0].opcode(), Opcode::NopIn as u8);
    assert_ne!(asked.target_transfer_tag.get(), RESERVED_TAG, "an answer is wanted");
    let next = asked.stat_sn.get();
    rig.send(c, &ping(next));
    assert_eq!((rig.session.tasks(), rig.session.retained_bytes), (0, 0));
}

#[test]
fn dig_05_at_level_0_a_command_that_was_spoiled_may_come_again_at_once_or_costs_the_connection() {
    let spoiled = |level| {
        let parameters = SessionParameters { error_recovery_level: level, ..Default::default() };
        let (mut rig, c) = of(parameters);
        let mut write = command(1, 10, 0x20, 512);
        write.set_data_segment_bytes(512);
        rig.send_digest(c, &write, false).unwrap();
        rig.send(c, &command(2, 11, 0x40, 512));
        assert!(matches!(rig.events()[..], [Event::Ended(_)]), "what comes behind it waits");
        (rig, c, write)
    };
    let after = |rig: &mut Rig, seconds| {
        rig.now += Duration::from_secs(seconds);
        rig.session.handle_timeout(rig.now)
    };
    // Linux does not send it again.
    let (mut rig, c, _) = spoiled(0);
    assert!(rig.session.poll_timeout().unwrap() <= rig.now + Duration::from_secs(2));
    assert_eq!(after(&mut rig, 1), None);
    assert_eq!(after(&mut rig, 1), Some((c, ConnectionError::Gap)));
    // Others may.
    let (mut rig, c, write) = spoiled(0);
    rig.send_digest(c, &write, true).unwrap();
    assert_eq!(rig.events().len(), 2);
    assert_eq!(after(&mut rig, 3), None);
    // Above level 0 it is the initiator's to retry (§7.2.1).
    let (mut rig, _, _) = spoiled(1);
    assert_eq!(after(&mut rig, 3), None);
}
