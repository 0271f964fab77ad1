//! Recovery levels 1 and 2, and several connections, against a scripted initiator that speaks in headers.

use super::*;
use crate::key::TaskReporting;
use crate::wire::{
    self, AsyncMessage, DataIn, DataOut, Header, IMMEDIATE, LogoutRequest, LogoutResponse, NopIn, NopOut, Opcode, Pdu,
    RESERVED_TAG, ReadyToTransfer, Reject, ScsiCommand, ScsiResponse, SnackRequest, TaskManagementRequest,
    TaskManagementResponse,
};
use task_management_response as code;
use zerocopy::{FromBytes, IntoBytes};

struct Rig {
    session: Session,
    now: Instant,
}

fn opening(cid: u16) -> Opening {
    Opening {
        cid,
        parameters: ConnectionParameters { max_send_data_segment_length: 4096, ..Default::default() },
        next_stat_sn: 100,
    }
}

/// A session of this level; its first connection has CID 1 and StatSN 100, its first command CmdSN 10.
fn rig(level: u32) -> (Rig, ConnectionId) {
    let parameters = SessionParameters {
        error_recovery_level: level,
        max_connections: 4,
        max_burst_length: 8192,
        immediate_data: false,
        ..Default::default()
    };
    of(parameters)
}

fn of(parameters: SessionParameters) -> (Rig, ConnectionId) {
    let now = Instant::now();
    let limits = SessionLimits { window: 8, retained_bytes: 64 << 10, ..Default::default() };
    let (session, c) = Session::new(SessionKind::Normal, parameters, limits, 10, opening(1), now);
    (Rig { session, now }, c)
}

fn command(tag: u32, cmd_sn: u32, flags: u8, expected: u32) -> ScsiCommand {
    let mut command = ScsiCommand::empty();
    command.flags = 0x80 | flags;
    command.initiator_task_tag = tag.into();
    command.cmd_sn = cmd_sn.into();
    command.exp_stat_sn = 100.into();
    command.expected_data_transfer_length = expected.into();
    command
}

fn snack(kind: u8, tag: u32, begin: u32, length: u32) -> SnackRequest {
    let mut snack = SnackRequest::empty();
    snack.kind = 0x80 | kind;
    snack.initiator_task_tag = tag.into();
    snack.target_transfer_tag = RESERVED_TAG.into();
    snack.beg_run = begin.into();
    snack.run_length = length.into();
    snack.exp_stat_sn = 100.into();
    snack
}

fn ping(exp_stat_sn: u32) -> NopOut {
    let mut ping = NopOut::empty();
    ping.opcode_byte |= IMMEDIATE;
    ping.initiator_task_tag = RESERVED_TAG.into();
    ping.target_transfer_tag = RESERVED_TAG.into();
    ping.exp_stat_sn = exp_stat_sn.into();
    ping
}

fn function(tag: u32, function: u8, referenced: u32, cmd_sn: u32) -> TaskManagementRequest {
    let mut request = TaskManagementRequest::empty();
    request.opcode_byte |= IMMEDIATE;
    request.function = 0x80 | function;
    request.initiator_task_tag = tag.into();
    request.referenced_task_tag = referenced.into();
    request.cmd_sn = cmd_sn.into();
    request.exp_stat_sn = 100.into();
    request
}

fn logout(tag: u32, reason: u8, cid: u16) -> LogoutRequest {
    let mut request = LogoutRequest::empty();
    request.opcode_byte |= IMMEDIATE;
    request.reason = 0x80 | reason;
    request.initiator_task_tag = tag.into();
    request.cid = cid.into();
    request.exp_stat_sn = 100.into();
    request
}

fn data_out(asked: &ReadyToTransfer, data_sn: u32, offset: u32, length: u32, last: bool) -> DataOut {
    let mut data = DataOut::empty();
    data.flags = if last { 0x80 } else { 0 };
    data.initiator_task_tag = asked.initiator_task_tag;
    data.target_transfer_tag = asked.target_transfer_tag;
    data.data_sn = data_sn.into();
    data.buffer_offset = offset.into();
    data.exp_stat_sn = 100.into();
    data.set_data_segment_bytes(length);
    data
}

impl Rig {
    fn send(&mut self, c: ConnectionId, pdu: &impl Pdu) {
        self.send_digest(c, pdu, true).expect("no reason to close");
    }

    fn send_digest(&mut self, c: ConnectionId, pdu: &impl Pdu, data_ok: bool) -> Result<Incoming, ConnectionError> {
        let incoming = self.session.handle_header(self.now, c, pdu.as_bytes(), true)?;
        if incoming.length > 0 {
            self.session.handle_data_end(c, data_ok)?;
        }
        Ok(incoming)
    }

    fn events(&mut self) -> Vec<Event> {
        std::iter::from_fn(|| self.session.poll_event()).collect()
    }

    fn the_command(&mut self) -> TaskId {
        let mut events = self.events();
        events.retain(|event| !matches!(event, Event::Ended(_) | Event::LoggedOut { .. }));
        match events[..] {
            [Event::Command(task)] => task,
            ref other => panic!("expected one command, got {other:?}"),
        }
    }

    /// What the target sends on the connection now.
    fn receive(&mut self, c: ConnectionId) -> Vec<Header> {
        let mut headers = Vec::new();
        loop {
            let mut batch = TxBatch::default();
            self.session.poll_transmit(c, &mut batch);
            if batch.is_empty() {
                return headers;
            }
            let mut arena = Vec::new();
            for segment in &batch.segments {
                if let Segment::Arena(range) = segment {
                    arena.extend_from_slice(&batch.arena[range.clone()]);
                }
            }
            let mut rest = &arena[..];
            while let Ok((header, behind)) = Header::read_from_prefix(rest) {
                let small = if header.opcode() == Opcode::DataIn as u8 { 0 } else { header.data_segment_bytes() };
                rest = &behind[(small + wire::padding(small)) as usize..];
                headers.push(header);
            }
            self.session.transmitted(&batch);
        }
    }

    /// A read of this many bytes that was answered.
    fn read(&mut self, c: ConnectionId, tag: u32, cmd_sn: u32, length: u32) -> (TaskId, Vec<Header>) {
        self.send(c, &command(tag, cmd_sn, 0x40, length));
        let task = self.the_command();
        self.session.complete(task, good_in(length));
        (task, self.receive(c))
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
        assert_eq!(self.session.handle_timeout(self.now), None);
    }
}

fn good_in(length: u32) -> Response {
    Response { data_in: length, transfer_length: length.into(), ..Default::default() }
}

fn good_out(length: u32) -> Response {
    Response { transfer_length: length.into(), outward: true, ..Default::default() }
}

/// Without the numbers of the window, which a replay has as they are then.
fn replica(header: &Header) -> Vec<u8> {
    let mut bytes = header.as_bytes().to_vec();
    bytes[28..36].fill(0);
    bytes
}

fn rejected(pdus: &[Header]) -> Vec<u8> {
    let rejects = pdus.iter().filter(|pdu| pdu.opcode() == Opcode::Reject as u8);
    rejects.map(|pdu| Reject::view(pdu).reason).collect()
}

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
fn tmf_02_a_fenced_response_waits_for_those_before_it_and_holds_those_behind() {
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
fn dig_05_at_level_0_a_command_that_was_spoiled_may_come_again_at_once_or_costs_the_connection() {
    let spoiled = |level| {
        let parameters = SessionParameters { error_recovery_level: level, ..Default::default() };
        let (mut rig, c) = of(parameters);
        let mut write = command(1, 10, 0x20, 512);
        write.set_data_segment_bytes(512);
        rig.send_digest(c, &write, false).unwrap();
        rig.send(c, &command(2, 11, 0x40, 512));
        assert_eq!(rig.events(), [], "what comes behind it waits");
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
