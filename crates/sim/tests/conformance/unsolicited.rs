//! NOP, REJ and OUT: pings, rejects, leaving (RFC 7143 §11.14, §11.17, §11.18).

use crate::help::{BLOCKS, Simulated, alone, goes_on, immediate, normal, pattern, rejected, session, target};
use block::layer::{Delay, Valve};
use block::pure::Ram;
use iscsi::session::SessionLimits;
use iscsi::wire::{
    DataOut, FINAL, LogoutResponse, NopIn, NopOut, Pdu, RESERVED_TAG, ReadyToTransfer, Reject, ScsiResponse,
    SnackRequest,
};
use sim::capture::Side;
use sim::raw::{Client, Command, Condition};
use sim::world::{Network, Setup, Shared};
use sim::{Digests, Ended, Frame, Random};
use std::time::Duration;

#[test]
fn nop_01_a_ping_comes_back_with_as_much_of_its_data_as_the_initiator_takes() {
    let mut client = alone(&normal().key("MaxRecvDataSegmentLength", 4096));
    for length in [0, 1, 3, 4, 4095, 4096] {
        assert_eq!(client.ping(&pattern(length, 3)), pattern(length, 3));
    }
    assert_eq!(client.ping(&pattern(5000, 1)), pattern(5000, 1)[..4096]);
    // With the number of its own, in turn.
    let tag = client.tag();
    let mut header = client.ping_header(tag);
    header.opcode_byte &= 0x3f;
    header.cmd_sn = client.take_cmd_sn().into();
    client.send(&Frame::new(header, b"numbered"));
    let (answer, data) = client.response::<NopIn>(tag);
    assert_eq!((answer.target_transfer_tag.get(), &data[..]), (RESERVED_TAG, &b"numbered"[..]));
    goes_on(&mut client);
}

#[test]
fn nop_02_a_ping_without_a_tag_has_no_answer_and_no_number() {
    let mut client = alone(&normal());
    let before = client.capture.exp_cmd_sn();
    for _ in 0..1000 {
        let header = client.ping_header(RESERVED_TAG);
        client.send(&Frame::new(header, b"nobody answers this"));
    }
    client.expect_silence(Duration::from_millis(1));
    goes_on(&mut client);
    assert_eq!(client.capture.exp_cmd_sn(), before.wrapping_add(1));
    let mut numbered = client.ping_header(RESERVED_TAG);
    numbered.opcode_byte &= 0x3f;
    let frame = Frame::new(numbered, b"");
    client.send(&frame);
    assert_eq!(rejected(&mut client, &frame), 0x04, "it has to be immediate");
}

/// The target's own pings that the client has seen since it began to record.
fn pings(client: &Simulated) -> Vec<(NopIn, usize)> {
    let of_target = |frame: &Frame| {
        let ping = frame.view::<NopIn>()?;
        (ping.initiator_task_tag.get() == RESERVED_TAG).then_some((*ping, frame.data.len()))
    };
    client.capture.recorded().iter().filter_map(|(_, frame)| of_target(frame)).collect()
}

#[test]
fn nop_03_the_target_s_own_ping_uses_no_status_number_and_has_a_tag_to_answer_with() {
    let target = target();
    let mut client = session(&target, &normal());
    client.capture.record();
    let next = client.exp_stat_sn;
    for number in 1..4 {
        target.pass(Duration::from_secs(16));
        client.expect_silence(Duration::from_millis(1));
        assert_eq!(pings(&client).len(), number);
    }
    let mut tags = Vec::new();
    for (ping, data) in pings(&client) {
        assert_eq!((ping.stat_sn.get(), data), (next, 0));
        assert_ne!(ping.target_transfer_tag.get(), RESERVED_TAG);
        assert_eq!(ping.lun, [0; 8]);
        tags.push(ping.target_transfer_tag.get());
    }
    assert!(tags[0] != tags[1] && tags[1] != tags[2], "each has its own");
    goes_on(&mut client);
    assert_eq!(client.exp_stat_sn, next.wrapping_add(1), "the next status has that number");
}

#[test]
fn nop_05_two_ends_that_ping_do_not_answer_each_other_s_answers() {
    let target = target();
    let mut client = session(&target, &normal());
    client.capture.record();
    for _ in 0..10 {
        target.pass(Duration::from_secs(16));
        client.expect_silence(Duration::from_millis(1));
        client.ping(b"and mine");
        client.expect_silence(Duration::from_millis(1));
    }
    let own = pings(&client).len();
    let all = client
        .capture
        .recorded()
        .iter()
        .filter(|(side, frame)| *side == Side::Target && frame.view::<NopIn>().is_some());
    assert_eq!((own, all.count()), (10, 20), "one of each in each interval");
    // An answer to no ping is no offence and has no answer.
    let mut stray = client.ping_header(RESERVED_TAG);
    stray.target_transfer_tag = 0x1234.into();
    client.send(&Frame::new(stray, b""));
    client.expect_silence(Duration::from_millis(1));
    goes_on(&mut client);
}

#[test]
fn nop_06_who_does_not_answer_in_time_loses_the_connection_and_no_sooner() {
    for (answers, after_ping, lost) in [(false, 14, false), (false, 15, true), (true, 15, false)] {
        let target = target();
        let mut client = session(&target, &normal());
        let other = session(&target, &normal().isid(7));
        drop(other);
        target.pass(Duration::from_secs(15));
        if answers {
            client.expect_silence(Duration::from_millis(1));
        }
        target.pass(Duration::from_secs(after_ping));
        match client.receive() {
            Err(Ended::Closed) => assert!(lost),
            Err(Ended::Silence) => assert!(!lost, "a black hole is found within interval and timeout"),
            Ok(frame) => panic!("{}", frame.summary()),
        }
    }
}

#[test]
fn rej_01_a_reject_has_the_whole_header_and_a_number_of_its_own() {
    let mut client = alone(&normal());
    let mut unknown = immediate::<NopOut>(0x5151);
    unknown.header[0] = 0x5d;
    let before = client.exp_stat_sn;
    client.send(&unknown);
    assert_eq!(rejected(&mut client, &unknown), 0x05);
    assert_eq!(client.exp_stat_sn, before.wrapping_add(1));
    // With the additional segments that it had.
    let long = unknown.with_additional(&[0, 5, 9, 0, 1, 2, 3, 4]);
    client.send(&long);
    assert_eq!(rejected(&mut client, &long), 0x05);
    goes_on(&mut client);
}

#[test]
fn rej_02_a_task_whose_data_is_rejected_still_ends_with_its_response() {
    let mut client = alone(&normal().digests(false, true));
    client.hold_data = true;
    let tag = client.start(&Command::write(0, &pattern(1024, 1)).solicited());
    let (asked, _) = client.expect::<ReadyToTransfer>();
    let piece = |number: u32, flags| {
        let mut out = DataOut::empty();
        out.flags = flags;
        out.lun = asked.lun;
        out.initiator_task_tag = asked.initiator_task_tag;
        out.target_transfer_tag = asked.target_transfer_tag;
        out.data_sn = number.into();
        out.buffer_offset = (number * 512).into();
        Frame::new(out, &[0xbd; 512])
    };
    let (bad, good) = (piece(0, 0), piece(1, FINAL));
    let mut bytes = bad.encode(Digests { header: false, data: true });
    bytes[60] ^= 1;
    client.capture.initiator(&bad);
    client.send_bytes(&bytes);
    assert_eq!(rejected(&mut client, &bad), 0x02);
    client.expect_silence(Duration::from_millis(1));
    assert!(!client.is_answered(tag), "not before the last of its data");
    client.send(&good);
    let answer = client.finish(tag);
    assert_eq!((answer.status, answer.condition()), (2, Some(Condition(0x0b, 0x47, 0x05))));
    client.hold_data = false;
    assert_eq!(client.good(&Command::read(0, 2)), [0; 1024]);
}

#[test]
fn rej_03_each_reason_has_its_code() {
    let mut client = alone(&normal().digests(false, true));
    // 02h: a data digest that does not match.
    let tag = client.tag();
    let ping = Frame::new(client.ping_header(tag), b"four");
    let mut bytes = ping.encode(Digests { header: false, data: true });
    bytes[48] ^= 0x80;
    client.capture.initiator(&ping);
    client.send_bytes(&bytes);
    assert_eq!(rejected(&mut client, &ping), 0x02);
    // 04h: a Text Request that is whole and goes on at once.
    let text = Frame::new(client.text_header(1, FINAL | 0x40, RESERVED_TAG), b"");
    client.send(&text);
    assert_eq!(rejected(&mut client, &text), 0x04);
    // 05h: what no level below 1 knows, or 03h/04h.
    let mut snack = immediate::<SnackRequest>(RESERVED_TAG);
    snack.header[0] &= 0x3f;
    client.send(&snack);
    assert!([0x03, 0x04, 0x05].contains(&rejected(&mut client, &snack)));
    // 07h: a tag in use; 09h: data for nobody.
    client.hold_data = true;
    let first = client.start(&Command::write(0, &[1; 512]).solicited());
    let (asked, _) = client.expect::<ReadyToTransfer>();
    let mut second = client.prepare(&Command::write(1, &[1; 512]).solicited()).remove(0);
    client.forget(second.basic().initiator_task_tag.get());
    client.cmd_sn = client.cmd_sn.wrapping_sub(1);
    second.header[16..20].copy_from_slice(&first.to_be_bytes());
    client.send(&second);
    assert_eq!(rejected(&mut client, &second), 0x07);
    let stray = Frame::new(DataOut { flags: FINAL, initiator_task_tag: 0x4242.into(), ..DataOut::empty() }, &[1; 4]);
    client.send(&stray);
    assert_eq!(rejected(&mut client, &stray), 0x09);
    client.answer_ready_to_transfer(&asked);
    client.hold_data = false;
    assert!(client.finish(first).is_good());

    // 06h: more immediate commands than are taken at once.
    let setup = Setup {
        units: vec![Ram::new(512, BLOCKS)],
        limits: SessionLimits { immediate: 2, ..SessionLimits::default() },
        ..Setup::default()
    };
    let mut client = session(&Shared::with(setup), &normal());
    client.hold_data = true;
    let write = |lba| Command { immediate: true, ..Command::write(lba, &[1; 512]).solicited() };
    let tags = [client.start(&write(0)), client.start(&write(1))];
    let asked = [client.expect::<ReadyToTransfer>().0, client.expect::<ReadyToTransfer>().0];
    let third = client.prepare(&write(2)).remove(0);
    client.forget(third.basic().initiator_task_tag.get());
    client.send(&third);
    assert_eq!(rejected(&mut client, &third), 0x06);
    asked.iter().for_each(|one| client.answer_ready_to_transfer(one));
    tags.into_iter().for_each(|tag| assert!(client.finish(tag).is_good()));

    // 0Ah: text without end.
    let mut client = alone(&normal());
    let (mut tag, mut reason) = (RESERVED_TAG, None);
    for _ in 0..100 {
        let text = Frame::new(client.text_header(9, 0x40, tag), &[b'a'; 4096]);
        client.send(&text);
        match client.receive() {
            Ok(frame) if frame.view::<Reject>().is_some() => {
                reason = frame.view::<Reject>().map(|reject| reject.reason);
                break;
            }
            Ok(frame) => tag = frame.view::<iscsi::wire::TextResponse>().unwrap().target_transfer_tag.get(),
            Err(ended) => panic!("{ended:?}"),
        }
    }
    assert_eq!(reason, Some(0x0a));
    goes_on(&mut client);

    // 0Ch: a command behind a logout that waits for its tasks.
    let valve = Valve::closed();
    let world = Shared::new(Delay::new(Ram::new(512, BLOCKS), valve.clone()), None);
    let mut client = session(&world, &normal());
    let read = client.start(&Command::read(0, 1));
    let logout = client.logout_header(0);
    client.send(&Frame::new(logout, b""));
    let late = client.prepare(&Command::test_unit_ready()).remove(0);
    client.forget(late.basic().initiator_task_tag.get());
    client.send(&late);
    assert_eq!(rejected(&mut client, &late), 0x0c);
    valve.release_all();
    client.forget(read);
    assert_eq!(client.response::<LogoutResponse>(logout.initiator_task_tag.get()).0.response, 0);
    client.expect_closed();
}

#[test]
fn out_01_a_logout_ends_what_is_pending_answers_and_closes() {
    for reason in [0, 1] {
        let valve = Valve::closed();
        let world = Shared::new(Delay::new(Ram::new(512, BLOCKS), valve.clone()), None);
        let mut client = session(&world, &normal());
        client.hold_data = true;
        let reads = [client.start(&Command::read(0, 1)), client.start(&Command::read(8, 8))];
        let write = client.start(&Command::write(0, &[1; 512]).solicited());
        client.expect::<ReadyToTransfer>();
        let held = client.start(&Command::write(4, &[1; 512]));
        let header = client.logout_header(reason);
        client.send(&Frame::new(header, b""));
        client.expect_silence(Duration::from_millis(1));
        for tag in reads.into_iter().chain([write, held]) {
            client.forget(tag);
        }
        valve.release_all();
        let (answer, _) = client.response::<LogoutResponse>(header.initiator_task_tag.get());
        assert_eq!(answer.response, 0);
        let behind = client.expect_closed();
        assert!(behind.iter().all(|frame| frame.view::<ScsiResponse>().is_none()), "nothing follows it: {behind:?}");
        world.settle();
        assert_eq!((world.tasks(), world.taken_bytes()), (0, 0));
    }
}

#[test]
fn out_02_a_logout_that_cannot_be_says_why_and_ends_nothing() {
    let mut client = alone(&normal());
    for (reason, cid, response) in [(1, 9, 1), (2, 1, 2), (2, 9, 1), (1, 0xffff, 1)] {
        let mut header = client.logout_header(reason);
        header.cid = cid.into();
        client.send(&Frame::new(header, b""));
        let (answer, _) = client.response::<LogoutResponse>(header.initiator_task_tag.get());
        assert_eq!(answer.response, response, "reason {reason}, CID {cid}");
        goes_on(&mut client);
    }
    client.logout();
}

#[test]
fn out_05_a_connection_that_is_cut_anywhere_leaves_nothing_behind() {
    let world = target();
    for seed in 0..150 {
        let mut random = Random::new(seed);
        let network = Network {
            seed,
            piece_bytes: 1 + random.size(300),
            cut_to_target: random.once_in(2).then(|| random.size(12_000) as u64),
            cut_to_initiator: random.once_in(2).then(|| random.size(6000) as u64),
            ..Network::default()
        };
        let mut client = Client::over(world.connect(network));
        if client.try_login(&normal().key("InitialR2T", "No").key("FirstBurstLength", 1024)).is_ok() {
            for at in 0..8 {
                let blocks = 1 + random.size(8);
                let tag = client.start(&match random.once_in(2) {
                    true => Command::read(at * 8, blocks as u16),
                    false => Command::write(at * 8, &pattern(blocks * 512, at as u8)),
                });
                if random.once_in(2) && client.try_finish(tag).is_err() {
                    break;
                }
            }
        }
        client.transport().cut();
        world.settle();
        assert_eq!((world.tasks(), world.taken_bytes()), (0, 0), "seed {seed}");
    }
    goes_on(&mut session(&world, &normal()));
}
