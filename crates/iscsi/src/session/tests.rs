//! The session against a scripted initiator that speaks in headers.

use super::*;
use crate::wire::{self, DataIn, DataOut, Header, NopOut, Pdu, ReadyToTransfer, ScsiCommand, ScsiResponse};
use zerocopy::{FromBytes, IntoBytes};

struct World {
    session: Session,
    c: ConnectionId,
    now: Instant,
    batch: TxBatch,
}

fn world(parameters: SessionParameters) -> World {
    let now = Instant::now();
    let opening = Opening {
        cid: 1,
        parameters: ConnectionParameters { max_send_data_segment_length: 4096, ..Default::default() },
        next_stat_sn: 100,
    };
    let limits = SessionLimits { window: 4, ..Default::default() };
    let (session, c) = Session::new(SessionKind::Normal, parameters, limits, 10, opening, now);
    World { session, c, now, batch: TxBatch::default() }
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

impl World {
    fn send(&mut self, pdu: &impl Pdu) -> Result<Incoming, ConnectionError> {
        let incoming = self.session.handle_header(self.now, self.c, pdu.as_bytes(), true)?;
        if incoming.length > 0 {
            self.session.handle_data_end(self.c, true)?;
        }
        Ok(incoming)
    }

    fn events(&mut self) -> Vec<Event> {
        std::iter::from_fn(|| self.session.poll_event()).collect()
    }

    fn the_command(&mut self) -> TaskId {
        match self.events()[..] {
            [Event::Command(task)] => task,
            ref other => panic!("expected one command, got {other:?}"),
        }
    }

    /// The headers that the target sends now.
    fn receive(&mut self) -> Vec<Header> {
        let mut headers = Vec::new();
        loop {
            self.batch.clear();
            self.session.poll_transmit(self.c, &mut self.batch);
            if self.batch.is_empty() {
                return headers;
            }
            let mut arena = Vec::new();
            let mut payload = Vec::new();
            for segment in &self.batch.segments {
                match segment {
                    Segment::Arena(range) => arena.extend_from_slice(&self.batch.arena[range.clone()]),
                    Segment::Payload { length, .. } => payload.push(*length),
                }
            }
            let mut rest = &arena[..];
            while let Ok((header, behind)) = Header::read_from_prefix(rest) {
                let small = if header.opcode() == wire::Opcode::DataIn as u8 { 0 } else { header.data_segment_bytes() };
                rest = &behind[(small + wire::padding(small)) as usize..];
                headers.push(header);
            }
            self.session.transmitted(&self.batch);
        }
    }
}

#[test]
fn dat_10_a_read_ends_with_its_status_in_the_last_data_in() {
    let mut world = world(SessionParameters { max_burst_length: 8192, ..Default::default() });
    world.send(&command(1, 10, 0x40, 10_000)).unwrap();
    let task = world.the_command();
    world.session.complete(task, Response { data_in: 10_000, transfer_length: 10_000, ..Default::default() });
    let pdus = world.receive();
    let seen: Vec<_> = pdus
        .iter()
        .map(DataIn::view)
        .map(|pdu| (pdu.buffer_offset.get(), pdu.header().data_segment_bytes(), pdu.data_sn.get(), pdu.flags))
        .collect();
    assert_eq!(seen, [(0, 4096, 0, 0), (4096, 4096, 1, 0x80), (8192, 1808, 2, 0x81)]);
    assert_eq!(DataIn::view(&pdus[2]).stat_sn.get(), 100);
    assert_eq!(world.events(), [Event::Ended(task)]);
    assert_eq!(world.session.tasks(), 0);
}

#[test]
fn r2t_01_a_write_is_asked_for_burst_by_burst() {
    let mut world = world(SessionParameters { max_burst_length: 4096, immediate_data: false, ..Default::default() });
    world.send(&command(7, 10, 0x20, 6000)).unwrap();
    let task = world.the_command();
    world.session.receive_data_out(task, 6000);
    for (offset, length) in [(0, 4096), (4096, 1904)] {
        let pdus = world.receive();
        assert_eq!(pdus.len(), 1, "MaxOutstandingR2T is 1");
        let r2t = *ReadyToTransfer::view(&pdus[0]);
        assert_eq!((r2t.buffer_offset.get(), r2t.desired_data_transfer_length.get()), (offset, length));
        let mut data = DataOut::empty();
        data.flags = 0x80;
        data.initiator_task_tag = 7.into();
        data.target_transfer_tag = r2t.target_transfer_tag;
        data.buffer_offset = offset.into();
        data.exp_stat_sn = 100.into();
        data.set_data_segment_bytes(length);
        let incoming = world.send(&data).unwrap();
        assert_eq!(incoming.place, Place::Task { task, offset });
    }
    assert_eq!(world.events(), [Event::DataOut(task)]);
    world.session.complete(task, Response { transfer_length: 6000, outward: true, ..Default::default() });
    let pdus = world.receive();
    let response = ScsiResponse::view(&pdus[0]);
    assert_eq!((response.status, response.exp_data_sn.get(), response.residual_count.get()), (0, 2, 0));
}

#[test]
fn dat_08_data_outside_its_r2t_is_never_placed() {
    for offset in [1, 512, u32::MAX] {
        let mut world = world(SessionParameters { immediate_data: false, ..Default::default() });
        world.send(&command(7, 10, 0x20, 512)).unwrap();
        let task = world.the_command();
        world.session.receive_data_out(task, 512);
        let r2t = *ReadyToTransfer::view(&world.receive()[0]);
        let mut data = DataOut::empty();
        data.flags = 0x80;
        data.initiator_task_tag = 7.into();
        data.target_transfer_tag = r2t.target_transfer_tag;
        data.buffer_offset = offset.into();
        data.exp_stat_sn = 100.into();
        data.set_data_segment_bytes(512);
        assert_eq!(world.send(&data).unwrap().place, Place::Discard, "offset {offset}");
        assert_eq!(world.events(), [Event::DataOutFault(task, DataOutFault::IncorrectAmountOfData)]);
    }
}

#[test]
fn dat_01_immediate_data_that_was_not_agreed_is_a_fault() {
    let mut world = world(SessionParameters { immediate_data: false, ..Default::default() });
    let mut write = command(3, 10, 0x20, 512);
    write.set_data_segment_bytes(512);
    world.send(&write).unwrap();
    let events = world.events();
    assert!(matches!(events[..], [Event::DataOutFault(_, DataOutFault::UnexpectedUnsolicitedData)]), "{events:?}");
}

#[test]
fn csn_02_commands_are_delivered_in_order_and_csn_03_others_are_ignored() {
    let mut world = world(SessionParameters::default());
    for (tag, cmd_sn) in [(2, 11), (9, 9), (8, 14), (1, 10)] {
        world.send(&command(tag, cmd_sn, 0x40, 0)).unwrap();
    }
    let order: Vec<u32> = world
        .events()
        .into_iter()
        .map(|event| match event {
            Event::Command(task) => world.session.task(task).unwrap().initiator_task_tag,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(order, [1, 2]);
    assert_eq!(world.session.tasks(), 2);
}

#[test]
fn pdu_15_a_tag_in_use_is_rejected_and_the_first_task_unharmed() {
    let mut world = world(SessionParameters::default());
    world.send(&command(1, 10, 0x40, 0)).unwrap();
    let task = world.the_command();
    world.send(&command(1, 11, 0x40, 0)).unwrap();
    let pdus = world.receive();
    assert_eq!(pdus[0].opcode(), wire::Opcode::Reject as u8);
    assert_eq!(wire::Reject::view(&pdus[0]).reason, wire::RejectReason::TaskInProgress as u8);
    assert!(world.session.task(task).is_some());
}

#[test]
fn csn_06_a_window_that_opens_is_told_by_a_nop_in() {
    let mut world = world(SessionParameters::default());
    for n in 0..4 {
        world.send(&command(n, 10 + n, 0x40, 0)).unwrap();
    }
    let tasks: Vec<_> = world.events();
    let mut nop = NopOut::empty();
    nop.opcode_byte |= wire::IMMEDIATE;
    nop.flags = 0x80;
    nop.initiator_task_tag = 77.into();
    nop.target_transfer_tag = wire::RESERVED_TAG.into();
    nop.exp_stat_sn = 100.into();
    world.send(&nop).unwrap();
    let answer = world.receive();
    let max = wire::NopIn::view(&answer[0]).max_cmd_sn.get();
    assert_eq!(max, 13, "shut");
    let Event::Command(first) = tasks[0] else { panic!() };
    world.session.end_task(first);
    let pdus = world.receive();
    assert_eq!(pdus.len(), 1);
    let news = wire::NopIn::view(&pdus[0]);
    assert_eq!((news.initiator_task_tag.get(), news.max_cmd_sn.get()), (wire::RESERVED_TAG, 14));
}

#[test]
fn tmf_01_an_aborted_task_sends_no_response() {
    let mut world = world(SessionParameters::default());
    world.send(&command(5, 10, 0x40, 512)).unwrap();
    let task = world.the_command();
    let mut abort = wire::TaskManagementRequest::empty();
    abort.opcode_byte |= wire::IMMEDIATE;
    abort.function = 0x81;
    abort.initiator_task_tag = 6.into();
    abort.referenced_task_tag = 5.into();
    abort.cmd_sn = 11.into();
    abort.exp_stat_sn = 100.into();
    world.send(&abort).unwrap();
    assert_eq!(world.events(), [Event::Abort(task)]);
    assert!(world.receive().is_empty(), "the response waits for the task's end");
    world.session.complete(task, Response { data_in: 512, transfer_length: 512, ..Default::default() });
    let pdus = world.receive();
    assert_eq!(pdus.len(), 1);
    assert_eq!(pdus[0].opcode(), wire::Opcode::TaskManagementResponse as u8);
    assert_eq!(wire::TaskManagementResponse::view(&pdus[0]).response, 0);
}

#[test]
fn tmf_05_a_reset_waits_for_the_data_of_outstanding_r2ts() {
    let mut world = world(SessionParameters { immediate_data: false, ..Default::default() });
    world.send(&command(7, 10, 0x20, 512)).unwrap();
    let task = world.the_command();
    world.session.receive_data_out(task, 512);
    let r2t = *ReadyToTransfer::view(&world.receive()[0]);
    let mut reset = wire::TaskManagementRequest::empty();
    reset.opcode_byte |= wire::IMMEDIATE;
    reset.function = 0x85;
    reset.initiator_task_tag = 8.into();
    reset.referenced_task_tag = wire::RESERVED_TAG.into();
    reset.cmd_sn = 11.into();
    reset.exp_stat_sn = 100.into();
    world.send(&reset).unwrap();
    let events = world.events();
    let [Event::Abort(aborted), Event::TaskManagement { id, function: 5, .. }] = events[..] else {
        panic!("{events:?}")
    };
    assert_eq!(aborted, task);
    world.session.end_task(task);
    world.session.task_management_done(id, 0, [0; 3]);
    assert!(world.receive().is_empty());
    let mut data = DataOut::empty();
    data.flags = 0x80;
    data.initiator_task_tag = 7.into();
    data.target_transfer_tag = r2t.target_transfer_tag;
    data.exp_stat_sn = 100.into();
    data.set_data_segment_bytes(512);
    assert_eq!(world.send(&data).unwrap().place, Place::Discard);
    assert_eq!(world.receive()[0].opcode(), wire::Opcode::TaskManagementResponse as u8);
    assert_eq!(world.session.tasks(), 0);
}

#[test]
fn out_01_logout_ends_tasks_and_closes_behind_its_response() {
    let mut world = world(SessionParameters::default());
    world.send(&command(5, 10, 0x40, 512)).unwrap();
    let task = world.the_command();
    let mut logout = wire::LogoutRequest::empty();
    logout.opcode_byte |= wire::IMMEDIATE;
    logout.reason = 0x80;
    logout.initiator_task_tag = 6.into();
    logout.cid = 1.into();
    logout.exp_stat_sn = 100.into();
    world.send(&logout).unwrap();
    assert_eq!(world.events(), [Event::Abort(task)]);
    assert!(world.receive().is_empty());
    world.session.end_task(task);
    assert!(!world.session.wants_close(world.c));
    assert_eq!(world.receive()[0].opcode(), wire::Opcode::LogoutResponse as u8);
    assert!(world.session.wants_close(world.c));
}

#[test]
fn pdu_06_a_data_segment_above_the_declared_length_ends_the_connection() {
    let mut world = world(SessionParameters::default());
    let mut write = command(3, 10, 0x20, 1 << 20);
    write.set_data_segment_bytes(8193);
    assert!(matches!(world.send(&write), Err(ConnectionError::Format(_))));
}

#[test]
fn nop_06_a_peer_that_does_not_answer_is_named() {
    let mut world = world(SessionParameters::default());
    let interval = world.session.limits.nop_interval;
    world.now += interval;
    assert_eq!(world.session.handle_timeout(world.now), None);
    let pdus = world.receive();
    assert_eq!(pdus[0].opcode(), wire::Opcode::NopIn as u8);
    world.now += world.session.limits.nop_timeout;
    assert_eq!(
        world.session.handle_timeout(world.now),
        Some((world.c, ConnectionError::PingTimeout(world.session.limits.nop_timeout)))
    );
}

#[test]
fn headers_of_any_bytes_neither_panic_nor_leave_tasks_behind() {
    let mut seed = 0x9e37_79b9_7f4a_7c15u64;
    let mut world = world(SessionParameters { protocol_level: 2, initial_r2t: false, ..Default::default() });
    for _ in 0..200_000 {
        let mut bytes = [0u8; 48];
        for chunk in bytes.chunks_mut(8) {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            chunk.copy_from_slice(&seed.to_le_bytes());
        }
        bytes[4] = 0;
        // Mostly plausible: small tags, numbers near the window, few opcodes.
        bytes[0] &= 0x47;
        bytes[5..7].fill(0);
        bytes[16..19].fill(0);
        bytes[19] &= 7;
        bytes[24..27].fill(0);
        bytes[28..31].fill(0);
        let header = Header::read_from_bytes(&bytes).unwrap();
        if let Ok(incoming) = world.session.handle_header(world.now, world.c, header.as_bytes(), true)
            && incoming.length > 0
        {
            let _ = world.session.handle_data_end(world.c, seed & 64 != 0);
        }
        for event in world.events() {
            match event {
                Event::Command(task) if seed & 1 == 0 => world.session.receive_data_out(task, seed as u32 >> 8),
                Event::Command(task) | Event::DataOut(task) | Event::DataOutFault(task, _) => {
                    world.session.complete(task, Response { status: 2, ..Default::default() });
                }
                Event::Abort(task) => world.session.end_task(task),
                Event::TaskManagement { id, .. } => world.session.task_management_done(id, 0, [0; 3]),
                Event::SendTargets { connection, .. } => world.session.answer_text(connection, b"TargetName=a\0"),
                Event::Ended(_) | Event::LoggedOut { .. } | Event::CommandsCleared { .. } => {}
            }
        }
        world.receive();
    }
    assert!(world.session.tasks() <= 4 + 16 + 8, "{} tasks", world.session.tasks());
}

fn ask(tag: u32, transfer_tag: u32, flags: u8, text: &[u8]) -> (wire::TextRequest, Vec<u8>) {
    let mut request = wire::TextRequest::empty();
    request.opcode_byte |= wire::IMMEDIATE;
    request.flags = flags;
    request.initiator_task_tag = tag.into();
    request.target_transfer_tag = transfer_tag.into();
    request.exp_stat_sn = 100.into();
    request.set_data_segment_bytes(text.len() as u32);
    (request, text.to_vec())
}

impl World {
    fn say(&mut self, (request, text): (wire::TextRequest, Vec<u8>)) {
        let incoming = self.session.handle_header(self.now, self.c, request.as_bytes(), true).unwrap();
        if incoming.length > 0 {
            self.session.collect(self.c, &text);
            self.session.handle_data_end(self.c, true).unwrap();
        }
    }
}

#[test]
fn dsc_04_an_answer_longer_than_a_pdu_goes_on_when_asked() {
    let mut world = world(SessionParameters::default());
    world.say(ask(9, wire::RESERVED_TAG, 0x80, b"SendTargets=\0"));
    let events = world.events();
    assert_eq!(events, [Event::SendTargets { connection: world.c, value: String::new() }]);
    world.session.answer_text(world.c, &[b'x'; 5000]);
    let first = world.receive();
    let view = wire::TextResponse::view(&first[0]);
    assert_eq!((view.flags, view.header().data_segment_bytes()), (wire::CONTINUE, 4096));
    let tag = view.target_transfer_tag.get();
    assert_ne!(tag, wire::RESERVED_TAG, "DSC-05");
    world.say(ask(9, tag, 0x80, b""));
    let second = world.receive();
    let view = wire::TextResponse::view(&second[0]);
    assert_eq!((view.flags, view.header().data_segment_bytes()), (0x80, 904));
    assert_eq!(view.target_transfer_tag.get(), wire::RESERVED_TAG);
    world.say(ask(9, 77, 0x80, b""));
    assert_eq!(wire::Reject::view(&world.receive()[0]).reason, wire::RejectReason::InvalidPduField as u8);
}

#[test]
fn key_08_and_key_17_in_the_full_feature_phase() {
    let mut world = world(SessionParameters::default());
    world.say(ask(9, wire::RESERVED_TAG, 0x80, b"MaxRecvDataSegmentLength=512\0X-a=1\0"));
    assert_eq!(world.receive()[0].opcode(), wire::Opcode::TextResponse as u8);
    assert_eq!(world.session.connection_parameters(world.c).unwrap().max_send_data_segment_length, 512);
    world.say(ask(10, wire::RESERVED_TAG, 0x80, b"InitialR2T=No\0"));
    assert_eq!(wire::Reject::view(&world.receive()[0]).reason, wire::RejectReason::ProtocolError as u8);
}

#[test]
fn tmf_15_a_reset_does_not_wait_for_ever_for_data_that_does_not_come() {
    let mut world = world(SessionParameters { immediate_data: false, ..Default::default() });
    world.send(&command(7, 10, 0x20, 4096)).unwrap();
    let task = world.the_command();
    world.session.receive_data_out(task, 4096);
    let asked = *ReadyToTransfer::view(&world.receive()[0]);
    let mut reset = wire::TaskManagementRequest::empty();
    reset.opcode_byte |= 0x40;
    reset.function = 0x80 | 5;
    reset.initiator_task_tag = 9.into();
    reset.cmd_sn = 11.into();
    world.send(&reset).unwrap();
    let [Event::Abort(_), Event::TaskManagement { id, .. }] = world.events()[..] else { panic!("not a reset") };
    world.session.end_task(task);
    world.session.task_management_done(id, 0, [0; 3]);
    assert!(world.receive().is_empty(), "the data may still come");
    let due = world.session.poll_timeout().unwrap();
    assert!(
        due <= world.now + std::time::Duration::from_secs(5),
        "and is not waited for longer than an initiator waits"
    );
    assert_eq!(world.session.handle_timeout(due), None);
    let answers = world.receive();
    assert_eq!(answers.iter().map(Header::opcode).collect::<Vec<_>>(), [0x22]);
    let mut late = DataOut::empty();
    late.flags = 0x80;
    late.initiator_task_tag = 7.into();
    late.target_transfer_tag = asked.target_transfer_tag;
    world.send(&late).unwrap();
    assert!(world.receive().is_empty(), "late data is no offence");
}

#[test]
fn tmf_15_a_second_function_waits_for_the_same_task() {
    let mut world = world(SessionParameters { immediate_data: false, ..Default::default() });
    world.send(&command(7, 10, 0x20, 4096)).unwrap();
    let task = world.the_command();
    world.session.receive_data_out(task, 4096);
    world.receive();
    for (tag, function) in [(8u32, 2u8), (9, 5)] {
        let mut reset = wire::TaskManagementRequest::empty();
        reset.opcode_byte |= 0x40;
        reset.function = 0x80 | function;
        reset.initiator_task_tag = tag.into();
        reset.cmd_sn = 11.into();
        world.send(&reset).unwrap();
    }
    let ids: Vec<u32> = world
        .events()
        .iter()
        .filter_map(|event| if let Event::TaskManagement { id, .. } = event { Some(*id) } else { None })
        .collect();
    ids.iter().for_each(|id| world.session.task_management_done(*id, 0, [0; 3]));
    world.session.end_task(task);
    assert!(world.receive().is_empty(), "neither is complete while the task is owed data");
    let due = world.session.poll_timeout().unwrap();
    world.session.handle_timeout(due);
    assert_eq!(world.receive().len(), 2);
}

#[test]
fn csn_12_what_was_rejected_counts_as_not_received() {
    let mut world = world(SessionParameters::default());
    let (mut wrong, text) = ask(3, wire::RESERVED_TAG, 0x80, b"InitialR2T=Yes\0");
    wrong.opcode_byte &= !0x40;
    wrong.cmd_sn = 10.into();
    world.say((wrong, text));
    let answers = world.receive();
    assert_eq!(answers[0].opcode(), 0x3f);
    assert_eq!(wire::Reject::view(&answers[0]).exp_cmd_sn.get(), 10, "its number is a gap");
    world.send(&command(4, 10, 0, 0)).unwrap();
    world.the_command();
}

#[test]
fn txt_16_a_negotiation_that_fails_changes_nothing() {
    let mut world = world(SessionParameters::default());
    for text in [
        &b"MaxRecvDataSegmentLength=512\0InitialR2T=Yes\0"[..],
        b"MaxRecvDataSegmentLength=512\0MaxRecvDataSegmentLength=1024\0",
    ] {
        world.say(ask(3, wire::RESERVED_TAG, 0x80, text));
        assert_eq!(world.receive()[0].opcode(), 0x3f);
        let length = world.session.connection_parameters(world.c).unwrap().max_send_data_segment_length;
        assert_eq!(length, 4096);
    }
}

#[test]
fn rsp_07_data_that_was_to_move_the_other_way_is_the_residual() {
    let mut world = world(SessionParameters::default());
    for (flags, outward, seen) in [(0x40, true, (0x82, 512)), (0x20, false, (0x82, 512)), (0x20, true, (0x80, 0))] {
        let cmd_sn = world.session.window.tell().0;
        world.send(&command(1, cmd_sn, flags, 512)).unwrap();
        let task = world.the_command();
        world.session.complete(task, Response { transfer_length: 512, outward, ..Default::default() });
        let pdus = world.receive();
        let answer = ScsiResponse::view(&pdus[0]);
        assert_eq!((answer.flags, answer.residual_count.get()), seen, "flags {flags:x}, outward {outward}");
        world.events();
    }
}

#[test]
fn csn_02_requests_before_their_turn_are_bounded() {
    let mut world = world(SessionParameters::default());
    let c = world.c;
    world.session.connection_mut(c).unwrap().parameters.max_recv_data_segment_length = 262_144;
    let mut ended = None;
    for number in 0..3 {
        let mut ping = NopOut::empty();
        ping.flags = 0x80;
        ping.initiator_task_tag = (100 + number).into();
        ping.target_transfer_tag = wire::RESERVED_TAG.into();
        ping.cmd_sn = (11 + number).into();
        ping.set_data_segment_bytes(200_000);
        let incoming = world.session.handle_header(world.now, world.c, ping.as_bytes(), true).unwrap();
        world.session.collect(world.c, &vec![0; incoming.length as usize]);
        ended = ended.or(world.session.handle_data_end(world.c, true).err());
    }
    assert!(matches!(ended, Some(ConnectionError::Limit(_))), "{ended:?}");
}

#[test]
fn pl2_01_a_command_has_a_priority_at_level_2_only() {
    for (protocol_level, expected) in [(0, 0), (1, 0), (2, 0x0c)] {
        let mut world = world(SessionParameters { protocol_level, ..Default::default() });
        let mut header = command(1, 10, 0, 0);
        (header.priority, header.crn) = (0xc0, 0x0f);
        world.send(&header).unwrap();
        let task = world.the_command();
        assert_eq!(world.session.task(task).unwrap().priority, expected, "level {protocol_level}");
    }
}

#[test]
fn key_08_the_target_asks_for_a_negotiation_and_declares_its_length_in_it() {
    let mut world = world(SessionParameters::default());
    world.session.negotiate_anew(65_536, 30);
    let message = world.receive();
    let message = wire::AsyncMessage::view(&message[0]);
    assert_eq!((message.event, message.parameter_3.get(), message.stat_sn.get()), (4, 30, 100));
    let longest = |world: &World| world.session.connection_parameters(world.c).unwrap().max_recv_data_segment_length;
    let before = longest(&world);
    world.say(ask(5, wire::RESERVED_TAG, 0, b""));
    let first = world.receive();
    let first = wire::TextResponse::view(&first[0]);
    assert_eq!(
        (first.flags, first.header().data_segment_bytes(), longest(&world)),
        (0, 0, before),
        "not before its end"
    );
    world.say(ask(5, first.target_transfer_tag.get(), 0x80, b""));
    let last = world.receive();
    let last = wire::TextResponse::view(&last[0]);
    assert_eq!(
        (last.flags, last.header().data_segment_bytes() as usize),
        (0x80, "MaxRecvDataSegmentLength=65536".len() + 1)
    );
    assert_eq!(longest(&world), 65_536);
    world.say(ask(6, wire::RESERVED_TAG, 0x80, b""));
    assert_eq!(world.receive()[0].data_segment_bytes(), 0, "once");
    world.session.vendor_event(7, [1, 2, 3], b"four");
    let message = world.receive();
    let message = wire::AsyncMessage::view(&message[0]);
    assert_eq!((message.event, message.vendor_code, message.header().data_segment_bytes()), (255, 7, 4));
    assert_eq!((message.initiator_task_tag.get(), message.lun), (wire::RESERVED_TAG, [0; 8]));
}
