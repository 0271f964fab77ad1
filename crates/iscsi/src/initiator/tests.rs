//! The initiator against a scripted target, PDU by PDU.

use super::*;
use crate::wire::{
    AsyncMessage, BHS_BYTES, DataIn, DataOut, FINAL, Header, LogoutRequest, LogoutResponse, NopIn, NopOut, Pdu,
    RESERVED_TAG, ReadyToTransfer, Reject, RejectReason, ScsiCommand, ScsiResponse, SnackRequest,
    TaskManagementRequest, TaskManagementResponse, TextRequest, TextResponse,
};
use zerocopy::{FromBytes, IntoBytes};

const LUN: [u8; 8] = [0, 1, 0, 0, 0, 0, 0, 0];

/// A session on one connection with its target played by hand.
struct Peer {
    session: Session,
    c: ConnectionId,
    now: Instant,
    stat_sn: u32,
}

fn peer(level: u32) -> Peer {
    peer_with(SessionParameters { error_recovery_level: level, max_burst_length: 4096, ..Default::default() })
}

fn peer_with(parameters: SessionParameters) -> Peer {
    let now = Instant::now();
    let (session, c) = Session::new(parameters, Limits::default(), 100, opening(0, 50), now);
    let mut peer = Peer { session, c, now, stat_sn: 50 };
    // News of the window.
    let mut ping = NopIn::empty();
    ping.initiator_task_tag = RESERVED_TAG.into();
    ping.target_transfer_tag = RESERVED_TAG.into();
    ping.stat_sn = 50.into();
    peer.tell(ping, &[]).unwrap();
    peer
}

fn opening(cid: u16, next_stat_sn: u32) -> Opening {
    let parameters = ConnectionParameters {
        max_recv_data_segment_length: 1024,
        max_send_data_segment_length: 1024,
        ..ConnectionParameters::default()
    };
    Opening { cid, parameters, next_stat_sn }
}

impl Peer {
    fn submit(&mut self, data_in: u32, data_out: u32) -> TaskId {
        let command = Command { data_in, data_out, ..Command::new(LUN, &[0x28]) };
        self.session.submit(self.now, self.c, command).unwrap()
    }

    /// What the initiator sends: headers, and the bytes of caller's memory that follow them.
    fn sent(&mut self) -> Vec<(Header, Option<(u32, u32)>)> {
        let mut batch = TxBatch::default();
        self.session.poll_transmit(self.now, self.c, &mut batch);
        let mut pdus = Vec::new();
        for segment in &batch.segments {
            match segment {
                Segment::Arena(range) => {
                    let mut bytes = &batch.arena[range.clone()];
                    while let Ok((header, rest)) = Header::read_from_prefix(bytes) {
                        bytes = &rest[header.additional_bytes()..];
                        pdus.push((header, None));
                    }
                }
                Segment::Payload { offset, length, .. } => pdus.last_mut().unwrap().1 = Some((*offset, *length)),
            }
        }
        self.session.transmitted(&batch);
        pdus
    }

    fn sent_one<P: Pdu>(&mut self) -> P {
        let sent = self.sent();
        assert_eq!(sent.len(), 1, "{sent:?}");
        assert_eq!(sent[0].0.opcode(), P::OPCODE as u8);
        P::read_from_bytes(sent[0].0.as_bytes()).unwrap()
    }

    fn spoil<P: Pdu>(&mut self, header: P, data: &[u8]) -> Result<Incoming, ConnectionError> {
        self.deliver(header, data, false)
    }

    fn tell<P: Pdu>(&mut self, header: P, data: &[u8]) -> Result<Incoming, ConnectionError> {
        self.deliver(header, data, true)
    }

    fn deliver<P: Pdu>(&mut self, mut header: P, data: &[u8], digest_ok: bool) -> Result<Incoming, ConnectionError> {
        header.set_data_segment_bytes(data.len() as u32);
        let bytes: &[u8; BHS_BYTES] = header.as_bytes().try_into().unwrap();
        let mut header = ScsiResponse::read_from_bytes(bytes).unwrap();
        header.exp_cmd_sn = self.session.cmd_sn().into();
        header.max_cmd_sn = (self.session.cmd_sn() + 20).into();
        let incoming = self.session.handle_header(self.now, self.c, header.as_bytes(), true)?;
        if !data.is_empty() {
            if incoming.place == Place::Arena {
                self.session.collect(self.c, data);
            }
            self.session.handle_data_end(self.c, digest_ok)?;
        }
        Ok(incoming)
    }

    fn numbered(&mut self) -> Number {
        self.stat_sn += 1;
        (self.stat_sn - 1).into()
    }

    fn respond(&mut self, tag: u32) -> Result<Incoming, ConnectionError> {
        let stat_sn = self.numbered();
        self.tell(response(tag, stat_sn), &[])
    }

    fn data(&mut self, tag: u32, data_sn: u32, offset: u32) -> DataIn {
        let mut header = DataIn::empty();
        header.initiator_task_tag = tag.into();
        header.target_transfer_tag = RESERVED_TAG.into();
        header.data_sn = data_sn.into();
        header.buffer_offset = offset.into();
        header
    }

    fn r2t(&mut self, tag: u32, r2t_sn: u32, offset: u32, length: u32) -> ReadyToTransfer {
        let mut header = ReadyToTransfer::empty();
        header.lun = LUN;
        header.initiator_task_tag = tag.into();
        header.target_transfer_tag = (0x700 + r2t_sn).into();
        header.stat_sn = self.stat_sn.into();
        header.r2t_sn = r2t_sn.into();
        header.buffer_offset = offset.into();
        header.desired_data_transfer_length = length.into();
        header
    }

    fn events(&mut self) -> Vec<Event> {
        std::iter::from_fn(|| self.session.poll_event()).collect()
    }

    fn outcome(&mut self) -> Outcome {
        match self.events().as_slice() {
            [Event::Completed(_, outcome)] => outcome.clone(),
            other => panic!("{other:?}"),
        }
    }
}

type Number = zerocopy::byteorder::big_endian::U32;

fn response(tag: u32, stat_sn: Number) -> ScsiResponse {
    let mut header = ScsiResponse::empty();
    header.flags = FINAL;
    header.initiator_task_tag = tag.into();
    header.stat_sn = stat_sn;
    header
}

fn good(data_in: u32) -> Outcome {
    Outcome::Answered { response: 0, status: 0, sense: vec![], residual: 0, read_residual: 0, data_in, data_out: 0 }
}

fn tag_of(header: &Header) -> u32 {
    header.initiator_task_tag.get()
}

#[test]
fn csn_01_commands_are_numbered_by_one_and_immediate_ones_carry_the_current_number() {
    let mut peer = peer(0);
    peer.submit(0, 0);
    let command = Command { immediate: true, ..Command::new(LUN, &[0]) };
    peer.session.submit(peer.now, peer.c, command).unwrap();
    peer.submit(0, 0);
    let numbers: Vec<u32> = peer.sent().iter().map(|(header, _)| ScsiCommand::view(header).cmd_sn.get()).collect();
    assert_eq!(numbers, [100, 101, 101]);
}

#[test]
fn dat_12_status_comes_in_data_or_on_its_own() {
    let mut peer = peer(0);
    peer.submit(8, 0);
    let tag = tag_of(&peer.sent()[0].0);
    let mut data = peer.data(tag, 0, 0);
    (data.flags, data.stat_sn) = (FINAL | 1, peer.numbered());
    let incoming = peer.tell(data, &[1; 8]).unwrap();
    assert!(matches!(incoming.place, Place::Task { offset: 0, .. }));
    assert_eq!(peer.outcome(), good(8));

    peer.submit(8, 0);
    let tag = tag_of(&peer.sent()[0].0);
    let data = peer.data(tag, 0, 0);
    peer.tell(data, &[1; 8]).unwrap();
    peer.respond(tag).unwrap();
    assert_eq!(peer.outcome(), good(8));
}

#[test]
fn dat_03_all_that_may_be_sent_unasked_is_sent_or_none() {
    for (initial_r2t, immediate_data, expected) in [
        (false, true, vec![(0, 1024), (1024, 1024), (2048, 952)]),
        (true, true, vec![(0, 1024)]),
        (false, false, vec![(0, 1024), (1024, 1024), (2048, 952)]),
        (true, false, vec![]),
    ] {
        let parameters =
            SessionParameters { initial_r2t, immediate_data, first_burst_length: 3000, ..Default::default() };
        let mut peer = peer_with(parameters);
        peer.submit(0, 5000);
        let sent = peer.sent();
        let data: Vec<(u32, u32)> = sent.iter().filter_map(|(_, data)| *data).collect();
        assert_eq!(data, expected, "InitialR2T {initial_r2t}, ImmediateData {immediate_data}");
        assert_eq!(sent.last().unwrap().0.flags & FINAL, FINAL, "the last one ends the sequence");
        assert_eq!(sent.iter().filter(|(header, _)| header.flags & FINAL != 0).count(), 1);
    }
}

#[test]
fn r2t_03_every_r2t_is_answered_inside_its_bounds_in_order() {
    let mut peer = peer_with(SessionParameters {
        immediate_data: false,
        max_outstanding_r2t: 2,
        max_burst_length: 4096,
        ..Default::default()
    });
    peer.submit(0, 6000);
    let tag = tag_of(&peer.sent()[0].0);
    let (first, second) = (peer.r2t(tag, 0, 0, 2500), peer.r2t(tag, 1, 2500, 3500));
    peer.tell(first, &[]).unwrap();
    peer.tell(second, &[]).unwrap();
    let sent: Vec<_> = peer
        .sent()
        .iter()
        .map(|(header, data)| {
            let header = DataOut::view(header);
            assert_eq!(Some(header.buffer_offset.get()), data.map(|data| data.0));
            (header.target_transfer_tag.get(), header.data_sn.get(), data.unwrap(), header.flags & FINAL != 0)
        })
        .collect();
    assert_eq!(
        sent,
        [
            (0x700, 0, (0, 1024), false),
            (0x700, 1, (1024, 1024), false),
            (0x700, 2, (2048, 452), true),
            (0x701, 0, (2500, 1024), false),
            (0x701, 1, (3524, 1024), false),
            (0x701, 2, (4548, 1024), false),
            (0x701, 3, (5572, 428), true),
        ]
    );
}

#[test]
fn r2t_04_nothing_outside_the_callers_memory_is_ever_sent() {
    for (offset, length) in [(0, 0), (0, 4097), (2000, 1), (1999, 2), (u32::MAX, 2), (1, u32::MAX)] {
        let mut peer = peer(0);
        peer.submit(0, 2000);
        let tag = tag_of(&peer.sent()[0].0);
        let r2t = peer.r2t(tag, 0, offset, length);
        assert!(matches!(peer.tell(r2t, &[]), Err(ConnectionError::Format(_))), "{offset}+{length}");
        assert!(peer.sent().is_empty());
    }
    let mut peer = peer(0);
    peer.submit(2000, 0);
    let tag = tag_of(&peer.sent()[0].0);
    let r2t = peer.r2t(tag, 0, 0, 8);
    assert!(peer.tell(r2t, &[]).is_err(), "a command that does not write");
    let mut peer = peer_with(SessionParameters::default());
    let r2t = peer.r2t(7, 0, 0, 8);
    assert!(peer.tell(r2t, &[]).is_err(), "a task that is not there");
}

#[test]
fn dat_10_data_beyond_the_callers_memory_is_refused_before_it_is_read() {
    for (offset, length) in [(0, 9), (8, 1), (u32::MAX, 1), (4, 5)] {
        let mut peer = peer(0);
        peer.submit(8, 0);
        let tag = tag_of(&peer.sent()[0].0);
        let data = peer.data(tag, 0, offset);
        assert!(peer.tell(data, &vec![0; length]).is_err(), "{offset}+{length}");
    }
}

#[test]
fn dig_06_spoiled_data_is_never_given_to_the_caller() {
    let mut level_0 = peer(0);
    level_0.submit(8, 0);
    let tag = tag_of(&level_0.sent()[0].0);
    let data = level_0.data(tag, 0, 0);
    assert!(level_0.spoil(data, &[1; 8]).is_err());
    let (c, now) = (level_0.c, level_0.now);
    level_0.session.handle_closed(now, c);
    assert!(matches!(level_0.events().as_slice(), [Event::Completed(_, Outcome::Lost), Event::Over]));

    let mut peer = peer(1);
    peer.submit(16, 0);
    let tag = tag_of(&peer.sent()[0].0);
    let data = peer.data(tag, 0, 0);
    peer.spoil(data, &[1; 8]).unwrap();
    let mut last = peer.data(tag, 1, 8);
    (last.flags, last.stat_sn) = (FINAL | 1, peer.numbered());
    peer.tell(last, &[1; 8]).unwrap();
    assert!(peer.events().is_empty(), "half of its data is missing");
    let snack: SnackRequest = peer.sent_one();
    assert_eq!((snack.kind & 0x0f, snack.initiator_task_tag.get()), (0, tag));
    assert_eq!((snack.beg_run.get(), snack.run_length.get()), (0, 1));
    assert_eq!(snack.exp_stat_sn.get(), 50, "its status is not acknowledged before its data is whole (§7.9)");
    peer.tell(data, &[1; 8]).unwrap();
    assert_eq!(peer.outcome(), good(16));
}

#[test]
fn dig_07_a_spoiled_response_is_a_lost_one() {
    let mut peer = peer(1);
    let task = peer.submit(0, 0);
    let tag = tag_of(&peer.sent()[0].0);
    let mut lost = response(tag, peer.numbered());
    lost.status = 2;
    let sense = [0, 4, 0x70, 0, 6, 0];
    peer.spoil(lost, &sense).unwrap();
    let snack: SnackRequest = peer.sent_one();
    assert_eq!((snack.kind & 0x0f, snack.beg_run.get(), snack.run_length.get()), (1, 50, 1));
    // It does not come: it is asked for again, and not for ever.
    peer.now += Limits::default().patience;
    assert_eq!(peer.session.handle_timeout(peer.now), None);
    assert!(peer.sent().iter().any(|(header, _)| header.opcode() == 0x10));
    peer.tell(lost, &sense).unwrap();
    assert!(matches!(peer.events().as_slice(),
        [Event::Completed(id, Outcome::Answered { status: 2, sense, .. })] if *id == task && sense == &[0x70, 0, 6, 0]));
}

#[test]
fn erl_06_data_is_acknowledged_once_it_is_whole_and_duplicates_are_discarded() {
    let mut peer = peer(1);
    peer.submit(24, 0);
    let tag = tag_of(&peer.sent()[0].0);
    let first = peer.data(tag, 0, 0);
    let mut second = peer.data(tag, 1, 8);
    second.flags = 0x40;
    second.target_transfer_tag = 0x99.into();
    second.lun = LUN;
    peer.tell(second, &[2; 8]).unwrap();
    let snack: SnackRequest = peer.sent_one();
    assert_eq!((snack.kind & 0x0f, snack.beg_run.get()), (0, 0), "a hole first");
    peer.tell(first, &[1; 8]).unwrap();
    let ack: SnackRequest = peer.sent_one();
    assert_eq!((ack.kind & 0x0f, ack.beg_run.get(), ack.run_length.get()), (2, 2, 0));
    assert_eq!((ack.target_transfer_tag.get(), ack.lun, ack.initiator_task_tag.get()), (0x99, LUN, RESERVED_TAG));
    assert_eq!(peer.tell(first, &[9; 8]).unwrap().place, Place::Discard);
    assert!(peer.sent().is_empty());
}

#[test]
fn csn_10_a_command_that_was_lost_is_sent_again_as_it_was() {
    let mut peer = peer(0);
    peer.submit(0, 8);
    let (sent, _) = peer.sent()[0];
    let mut reject = Reject::empty();
    (reject.reason, reject.stat_sn) = (RejectReason::DataDigestError as u8, peer.numbered());
    reject.initiator_task_tag = RESERVED_TAG.into();
    peer.tell(reject, sent.as_bytes()).unwrap();
    let (again, data) = peer.sent()[0];
    let (mut one, mut other) = (*ScsiCommand::view(&sent), *ScsiCommand::view(&again));
    (one.exp_stat_sn, other.exp_stat_sn) = (0.into(), 0.into());
    assert_eq!((one.as_bytes(), data), (other.as_bytes(), Some((0, 8))));
}

#[test]
fn rej_04_the_number_of_a_command_that_was_refused_is_used_up() {
    let mut peer = peer(0);
    peer.submit(0, 0);
    let (sent, _) = peer.sent()[0];
    let mut reject = Reject::empty();
    (reject.reason, reject.stat_sn) = (RejectReason::CommandNotSupported as u8, peer.numbered());
    // The target has not acknowledged it.
    let mut bytes = ScsiResponse::read_from_bytes(reject.as_bytes()).unwrap();
    bytes.set_data_segment_bytes(48);
    (bytes.exp_cmd_sn, bytes.max_cmd_sn) = (100.into(), 120.into());
    peer.session.handle_header(peer.now, peer.c, bytes.as_bytes(), true).unwrap();
    peer.session.collect(peer.c, sent.as_bytes());
    peer.session.handle_data_end(peer.c, true).unwrap();
    assert_eq!(peer.outcome(), Outcome::Rejected(RejectReason::CommandNotSupported));
    let ping: NopOut = peer.sent_one();
    assert_eq!((ping.header().immediate(), ping.cmd_sn.get()), (false, 100));
}

#[test]
fn nop_04_a_ping_of_the_targets_goes_back_with_its_tag_and_unit() {
    let mut peer = peer(0);
    let mut ping = NopIn::empty();
    ping.lun = LUN;
    ping.initiator_task_tag = RESERVED_TAG.into();
    ping.target_transfer_tag = 0x42.into();
    ping.stat_sn = 50.into();
    peer.tell(ping, &[]).unwrap();
    let pong: NopOut = peer.sent_one();
    assert_eq!((pong.target_transfer_tag.get(), pong.lun), (0x42, LUN));
    assert_eq!((pong.initiator_task_tag.get(), pong.header().immediate()), (RESERVED_TAG, true));
    ping.target_transfer_tag = RESERVED_TAG.into();
    peer.tell(ping, &[]).unwrap();
    assert!(peer.sent().is_empty(), "one without a tag gets no answer");
}

#[test]
fn nop_06_a_connection_that_does_not_answer_a_ping_is_given_up() {
    let mut peer = peer(0);
    peer.now += Limits::default().nop_interval;
    assert_eq!(peer.session.handle_timeout(peer.now), None);
    let ping: NopOut = peer.sent_one();
    assert_ne!(ping.initiator_task_tag.get(), RESERVED_TAG);
    peer.now += Limits::default().nop_timeout;
    assert!(matches!(peer.session.handle_timeout(peer.now), Some((_, ConnectionError::PingTimeout(_)))));
}

#[test]
fn tmf_04_abort_task_names_its_task_and_ends_it() {
    let mut peer = peer(0);
    let task = peer.submit(0, 4000);
    let sent = peer.sent();
    let function = peer.session.abort(task).unwrap();
    let request: TaskManagementRequest = peer.sent_one();
    assert_eq!(request.referenced_task_tag.get(), tag_of(&sent[0].0));
    assert_eq!((request.ref_cmd_sn.get(), request.function), (100, FINAL | 1));
    let r2t = peer.r2t(tag_of(&sent[0].0), 0, 1024, 100);
    peer.tell(r2t, &[]).unwrap();
    assert!(peer.sent().is_empty(), "nothing more is sent for it");
    let mut done = TaskManagementResponse::empty();
    (done.initiator_task_tag, done.stat_sn) = (function.into(), peer.numbered());
    peer.tell(done, &[]).unwrap();
    assert_eq!(
        peer.events(),
        [Event::Completed(task, Outcome::Aborted), Event::TaskManagement { tag: function, response: Some(0) }]
    );
    let r2t = peer.r2t(tag_of(&sent[0].0), 1, 1024, 100);
    peer.tell(r2t, &[]).expect("on another connection it may have been on its way");
    assert!(peer.sent().is_empty());
    let reset = peer.session.task_management(peer.c, Function::LogicalUnitReset, LUN);
    let request: TaskManagementRequest = peer.sent_one();
    assert!(reset.is_some() && request.referenced_task_tag.get() == RESERVED_TAG);
}

#[test]
fn out_04_nothing_follows_a_logout() {
    let mut peer = peer(0);
    assert!(peer.session.logout(peer.c, LogoutReason::Session));
    let refused = peer.session.submit(peer.now, peer.c, Command::new(LUN, &[0]));
    assert_eq!(refused, Err(Refused::Closing));
    assert_eq!(peer.session.ping(peer.c, b"x"), None);
    let request: LogoutRequest = peer.sent_one();
    let mut done = LogoutResponse::empty();
    (done.initiator_task_tag, done.stat_sn) = (request.initiator_task_tag, peer.numbered());
    peer.tell(done, &[]).unwrap();
    assert!(peer.session.wants_close(peer.c));
    peer.session.handle_closed(peer.now, peer.c);
    assert!(matches!(peer.events().as_slice(), [Event::LoggedOut { response: 0, .. }, Event::Over]));
}

#[test]
fn out_04_nothing_stays_due_behind_a_logout() {
    let mut peer = peer(1);
    peer.submit(512, 0);
    peer.sent();
    peer.session.logout(peer.c, LogoutReason::Session);
    peer.sent();
    // The command is not acknowledged; behind a logout nobody asks what became of it.
    peer.now += Limits::default().patience;
    peer.session.handle_timeout(peer.now);
    assert!(peer.session.poll_timeout().is_some_and(|next| next > peer.now), "a driver would never sleep");
}

#[test]
fn asy_01_a_request_for_a_logout_is_followed_when_what_is_in_flight_has_ended() {
    let mut peer = peer(0);
    peer.submit(0, 0);
    let tag = tag_of(&peer.sent()[0].0);
    let mut message = AsyncMessage::empty();
    message.initiator_task_tag = RESERVED_TAG.into();
    (message.event, message.parameter_3, message.stat_sn) = (1, 10.into(), peer.numbered());
    peer.tell(message, &[]).unwrap();
    let refused = peer.session.submit(peer.now, peer.c, Command::new(LUN, &[0]));
    assert_eq!(refused, Err(Refused::Closing));
    peer.session.handle_timeout(peer.now);
    assert!(peer.sent().is_empty(), "a command is in flight");
    peer.respond(tag).unwrap();
    peer.session.handle_timeout(peer.now);
    let request: LogoutRequest = peer.sent_one();
    assert_eq!(request.reason, FINAL);
}

#[test]
fn rsp_03_sense_data_that_lies_is_a_format_error() {
    for data in [&[][..], &[0], &[0, 5, 1, 2, 3, 4], &[0, 0]] {
        let mut peer = peer(0);
        peer.submit(0, 0);
        let tag = tag_of(&peer.sent()[0].0);
        let mut lie = response(tag, peer.numbered());
        lie.status = 2;
        assert!(peer.tell(lie, data).is_err(), "{data:?}");
    }
}

#[test]
fn a_status_that_arrives_while_a_function_ends_its_task_still_counts() {
    let mut peer = peer(0);
    let (c, d) = (peer.c, peer.session.attach(opening(1, 10), peer.now));
    let task = peer.submit(512, 0);
    let tag = tag_of(&peer.sent()[0].0);
    let reset = peer.session.task_management(d, Function::LogicalUnitReset, LUN).unwrap();
    // Header and a part of the data of the last PDU are here…
    let mut header = peer.data(tag, 0, 0);
    header.flags = FINAL | 1;
    header.stat_sn = peer.numbered();
    header.set_data_segment_bytes(512);
    let incoming = peer.session.handle_header(peer.now, c, header.as_bytes(), true).unwrap();
    assert_eq!(incoming.place, Place::Task { task, offset: 0 });
    // …when the other connection brings the answer of the reset…
    let mut done = TaskManagementResponse::empty();
    (done.initiator_task_tag, done.stat_sn) = (reset.into(), 10.into());
    peer.c = d;
    peer.sent();
    peer.tell(done, &[]).unwrap();
    assert!(peer.events().contains(&Event::Completed(task, Outcome::Aborted)));
    // …and then the rest.
    peer.session.handle_data_end(c, true).unwrap();
    peer.c = c;
    peer.submit(512, 0);
    assert_eq!(peer.sent_one::<ScsiCommand>().exp_stat_sn.get(), 51, "no hole is left in the status numbers");
}

#[test]
fn con_05_a_lost_connection_of_level_2_is_followed_by_another_that_takes_its_tasks_over() {
    let parameters = SessionParameters {
        error_recovery_level: 2,
        immediate_data: false,
        max_burst_length: 4096,
        ..SessionParameters::default()
    };
    let mut peer = peer_with(parameters);
    peer.submit(0, 4000);
    peer.submit(8, 0);
    let tags: Vec<u32> = peer.sent().iter().map(|(header, _)| tag_of(header)).collect();
    let r2t = peer.r2t(tags[0], 0, 0, 4000);
    // The target has the first command and not the second.
    let mut bytes = ScsiResponse::read_from_bytes(r2t.as_bytes()).unwrap();
    (bytes.exp_cmd_sn, bytes.max_cmd_sn) = (101.into(), 120.into());
    peer.session.handle_header(peer.now, peer.c, bytes.as_bytes(), true).unwrap();
    peer.session.handle_closed(peer.now, peer.c);
    let [Event::ConnectionLost { cid: 0, from, until }] = peer.events()[..] else { panic!() };
    assert_eq!((from - peer.now, until - from), (Duration::from_secs(2), Duration::from_secs(20)));
    peer.now = from;
    peer.c = peer.session.attach(opening(0, 70), peer.now);
    peer.stat_sn = 70;
    let functions: Vec<TaskManagementRequest> =
        peer.sent().iter().map(|(header, _)| *TaskManagementRequest::view(header)).collect();
    assert_eq!(functions.iter().map(|one| one.function).collect::<Vec<_>>(), [FINAL | 8; 2]);
    assert_eq!(functions.iter().map(|one| one.referenced_task_tag.get()).collect::<Vec<_>>(), tags);
    for (function, code) in functions.iter().zip([0, 1]) {
        let mut done = TaskManagementResponse::empty();
        (done.initiator_task_tag, done.stat_sn) = (function.initiator_task_tag, peer.numbered());
        done.response = code;
        let mut bytes = ScsiResponse::read_from_bytes(done.as_bytes()).unwrap();
        (bytes.exp_cmd_sn, bytes.max_cmd_sn) = (101.into(), 120.into());
        peer.session.handle_header(peer.now, peer.c, bytes.as_bytes(), true).unwrap();
    }
    let again: ScsiCommand = peer.sent_one();
    assert_eq!((again.initiator_task_tag.get(), again.cmd_sn.get()), (tags[1], 101), "sent again as it was");
    let r2t = peer.r2t(tags[0], 0, 0, 4000);
    peer.tell(r2t, &[]).unwrap();
    assert_eq!(peer.sent().len(), 4);
    peer.respond(tags[0]).unwrap();
    let Outcome::Answered { data_out: 4000, status: 0, .. } = peer.outcome() else { panic!("the whole write") };
    peer.session.handle_closed(peer.now, peer.c);
    peer.now += Duration::from_secs(22);
    peer.session.handle_timeout(peer.now);
    assert!(matches!(
        peer.events().as_slice(),
        [Event::ConnectionLost { .. }, Event::Completed(_, Outcome::Lost), Event::Over]
    ));
}

#[test]
fn asy_04_a_request_to_negotiate_is_followed_and_what_the_target_declares_holds() {
    let mut peer = peer(0);
    let mut message = AsyncMessage::empty();
    message.initiator_task_tag = RESERVED_TAG.into();
    (message.event, message.parameter_3, message.stat_sn) = (4, 10.into(), peer.numbered());
    peer.tell(message, &[]).unwrap();
    let request: TextRequest = peer.sent_one();
    let mut answer = TextResponse::empty();
    answer.flags = FINAL;
    (answer.initiator_task_tag, answer.stat_sn) = (request.initiator_task_tag, peer.numbered());
    answer.target_transfer_tag = RESERVED_TAG.into();
    peer.tell(answer, b"MaxRecvDataSegmentLength=512\0").unwrap();
    peer.submit(0, 600);
    assert_eq!(peer.sent()[0].1, Some((0, 512)));
}
