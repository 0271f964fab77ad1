//! What an initiator can do that has logged in.

use crate::siege::{Siege, alone, attacker, daemon, is_closed_within, session, settle, source, struck};
use iscsi::wire::{
    BHS_BYTES, CONTINUE, DataOut, FINAL, IMMEDIATE, NopOut, Opcode, Pdu, RESERVED_TAG, ReadyToTransfer, Reject,
    TaskManagementRequest, TextResponse,
};
use sim::daemon::TARGET;
use sim::raw::{Client, Command, Login};
use sim::{Digests, Frame, Random};
use std::io::Write;
use std::net::TcpStream;
use std::time::Duration;

/// The socket of a session, for bytes that nobody checks.
fn socket(client: &Client) -> TcpStream {
    let stream = client.socket().try_clone().unwrap();
    stream.set_write_timeout(Some(Duration::from_millis(200))).unwrap();
    stream
}

fn bytes(frames: &[Frame]) -> Vec<u8> {
    frames.iter().flat_map(|frame| frame.encode(Digests::default())).collect()
}

/// A WRITE (10) at LUN 2 that announces this much.
fn announced(length: u32) -> Command {
    let mut command = Command::write(0, &[0; 512]).at(2).solicited().expecting(length);
    command.cdb[7..9].copy_from_slice(&((length / 512) as u16).to_be_bytes());
    command
}

#[test]
fn commands_outside_the_window() {
    let _alone = alone();
    let daemon = daemon(&[]);
    let mut siege = Siege::begin(&daemon);
    let mut client = attacker(&daemon, 0, &Login::normal(TARGET));
    let mut stream = socket(&client);
    let mut random = Random::new(5);
    siege.steps(200, |_| {
        let mut frames = Vec::new();
        for _ in 0..100 {
            let mut header = Command::test_unit_ready().at(2).header();
            let beyond = [128 + random.below(1 << 30), u64::from(u32::MAX) - random.below(1 << 30)];
            header.cmd_sn = client.cmd_sn.wrapping_add(*random.pick(&beyond) as u32).into();
            header.initiator_task_tag = (random.number() as u32 >> 1).into();
            frames.push(Frame::new(header, &[]));
        }
        stream.write_all(&bytes(&frames)).unwrap();
    });
    assert_eq!(client.ping(b"still there"), b"still there", "and nothing came before it");
    client.take_attentions();
    assert_eq!(struck(&daemon, "window"), 20_000);
    client.logout();
    siege.end();
}

#[test]
fn tags_that_are_in_use() {
    let _alone = alone();
    let daemon = daemon(&[]);
    let mut siege = Siege::begin(&daemon);
    let mut number = 0;
    siege.steps(40, |_| {
        number += 1;
        let mut client = attacker(&daemon, number % 50, &Login::normal(TARGET));
        client.execute(&Command::test_unit_ready().at(2));
        client.hold_data = true;
        let write = Command::write(number as u32, &[7; 4096]).at(2).solicited();
        let tag = client.start(&write);
        let (asked, _) = client.expect::<ReadyToTransfer>();
        for _ in 0..50 {
            let mut second = Command::read(0, 8).at(2).header();
            second.initiator_task_tag = tag.into();
            second.cmd_sn = client.cmd_sn.into();
            client.send(&Frame::new(second, &[]));
            assert_eq!(client.expect::<Reject>().0.reason, 7, "task in progress");
        }
        client.answer_ready_to_transfer(&asked);
        assert!(client.finish(tag).is_good(), "PDU-15: the first goes on unharmed");
        client.logout();
    });
    siege.end();
}

#[test]
fn data_out_for_tasks_of_others_and_for_none() {
    let _alone = alone();
    let daemon = daemon(&["rejects=100"]);
    let mut siege = Siege::begin(&daemon);
    let mut victim = session(&daemon, source(1), &Login::normal(TARGET).isid(77));
    victim.hold_data = true;
    let held = victim.start(&Command::write(100, &[9; 4096]).solicited());
    let (asked, _) = victim.expect::<ReadyToTransfer>();
    let mut random = Random::new(6);
    siege.steps(60, |step| {
        let mut client = attacker(&daemon, step % 50, &Login::normal(TARGET));
        client.execute(&Command::test_unit_ready().at(2));
        let finished = client.start(&Command::write(1, &[1; 512]).at(2).solicited());
        client.finish(finished);
        let mut stream = socket(&client);
        let mut frames = Vec::new();
        for _ in 0..200 {
            let mut header = DataOut::empty();
            header.flags = FINAL;
            header.lun = [0, 2, 0, 0, 0, 0, 0, 0];
            let tags = [held, finished, random.number() as u32];
            header.initiator_task_tag = (*random.pick(&tags)).into();
            header.target_transfer_tag = match random.size(3) {
                0 => asked.target_transfer_tag,
                1 => RESERVED_TAG.into(),
                _ => (random.number() as u32).into(),
            };
            header.buffer_offset = (*random.pick(&[0, 512, u32::MAX, 1 << 31])).into();
            frames.push(Frame::new(header, &[0xee; 512]));
        }
        let _ = stream.write_all(&bytes(&frames));
        assert!(is_closed_within(&mut stream, Duration::from_secs(5)), "REJ-05: a hundred Rejects are enough");
    });
    victim.answer_ready_to_transfer(&asked);
    assert!(victim.finish(held).is_good());
    assert!(victim.good(&Command::read(100, 8)) == [9; 4096], "PDU-16: no byte of another session");
    victim.logout();
    assert_eq!(struck(&daemon, "rejects"), 60);
    siege.end();
}

#[test]
fn r2t_06_ten_thousand_writes_that_are_announced_and_never_sent() {
    let _alone = alone();
    let daemon = daemon(&["sessions-by-initiator=100"]);
    let mut siege = Siege::begin(&daemon);
    let mut sessions = Vec::new();
    siege.steps(80, |step| {
        let mut client = attacker(&daemon, step, &Login::normal(TARGET));
        client.execute(&Command::test_unit_ready().at(2));
        client.hold_data = true;
        let frames: Vec<_> = (0..128).flat_map(|_| client.prepare(&announced(8 << 20))).collect();
        client.send_together(&frames);
        sessions.push(client);
    });
    siege.watch(Duration::from_secs(2));
    sessions.iter_mut().for_each(|client| client.capture = sim::Capture::default());
    drop(sessions);
    siege.end();
}

#[test]
fn unread_answers_to_reads() {
    let _alone = alone();
    let daemon = daemon(&[]);
    let mut siege = Siege::begin(&daemon);
    let mut sessions = Vec::new();
    let mut cdb = [0u8; 16];
    [cdb[0], cdb[12]] = [0x88, 0x40];
    let read = Command::reading(&cdb, 8 << 20).at(2);
    siege.steps(60, |step| {
        let mut client = attacker(&daemon, step, &Login::normal(TARGET));
        client.execute(&Command::test_unit_ready().at(2));
        let frames: Vec<_> = (0..64).flat_map(|_| client.prepare(&read)).collect();
        client.send_together(&frames);
        sessions.push(client);
    });
    siege.watch(Duration::from_secs(2));
    sessions.iter_mut().for_each(|client| client.capture = sim::Capture::default());
    drop(sessions);
    siege.end();
}

#[test]
fn unread_answers_to_pings() {
    let _alone = alone();
    let daemon = daemon(&[]);
    let mut siege = Siege::begin(&daemon);
    let clients: Vec<_> = (0..40).map(|number| attacker(&daemon, number, &Login::normal(TARGET))).collect();
    let mut streams: Vec<_> = clients.iter().map(socket).collect();
    let mut ping = NopOut::empty();
    ping.opcode_byte |= IMMEDIATE;
    ping.flags = FINAL;
    ping.initiator_task_tag = 1.into();
    ping.target_transfer_tag = RESERVED_TAG.into();
    let pings = bytes(&vec![Frame::new(ping, &[0x55; 8192]); 16]);
    siege.steps(2000, |step| {
        let at = step % streams.len();
        let _ = streams[at].write(&pings);
    });
    siege.watch(Duration::from_secs(1));
    assert!(struck(&daemon, "backlog-bytes") >= 40, "reading stops for each");
    drop((clients, streams));
    siege.end();
}

#[test]
fn rej_05_bad_pdus_are_rejected_a_bounded_number_of_times() {
    let _alone = alone();
    let daemon = daemon(&[]);
    let mut siege = Siege::begin(&daemon);
    // An opcode that nobody has.
    let mut header = [0; BHS_BYTES];
    [header[0], header[1]] = [0x1f | IMMEDIATE, FINAL];
    let bad = header.repeat(1000);
    siege.steps(100, |step| {
        let client = attacker(&daemon, step % 50, &Login::normal(TARGET));
        let mut stream = socket(&client);
        // Ten thousand of them, as far as they are taken, and no answer is read.
        for _ in 0..10 {
            if stream.write_all(&bad).is_err() {
                break;
            }
        }
        assert!(is_closed_within(&mut stream, Duration::from_secs(5)), "it takes them without end");
    });
    assert_eq!(struck(&daemon, "rejects"), 100);
    siege.end();
}

#[test]
fn ssn_02_status_that_is_never_acknowledged_is_kept_within_bounds() {
    let _alone = alone();
    for level in [0, 1, 2] {
        let daemon = daemon(&[]);
        let mut siege = Siege::begin(&daemon);
        // At level 2 the session outlives its connection, for as long as is agreed.
        let login = Login::normal(TARGET).key("ErrorRecoveryLevel", level);
        let mut client = attacker(&daemon, 0, &login.key("DefaultTime2Wait", 0).key("DefaultTime2Retain", 1));
        let mut stream = socket(&client);
        let first = client.exp_stat_sn;
        let mut ended = false;
        let mut number = client.cmd_sn;
        siege.steps(200, |_| {
            let mut frames = Vec::new();
            for _ in 0..100 {
                let mut header = Command::inquiry(None).at(2).header();
                header.cmd_sn = number.into();
                header.exp_stat_sn = first.into();
                header.initiator_task_tag = number.into();
                number = number.wrapping_add(1);
                frames.push(Frame::new(header, &[]));
            }
            ended |= stream.write_all(&bytes(&frames)).is_err();
            // All answers are read, and none is acknowledged.
            for _ in 0..100 {
                ended |= !ended && client.receive().is_err();
            }
        });
        println!("level {level}: the connection {}", if ended { "was closed" } else { "goes on" });
        client.capture = sim::Capture::default();
        drop((client, stream));
        siege.end();
    }
}

#[test]
fn csn_08_immediate_commands_beyond_the_bound_are_rejected_and_tasks_are_still_managed() {
    let _alone = alone();
    let daemon = daemon(&["window=4"]);
    let mut siege = Siege::begin(&daemon);
    let mut client = attacker(&daemon, 0, &Login::normal(TARGET));
    client.execute(&Command::test_unit_ready().at(2));
    client.hold_data = true;
    // The window is shut, and as many immediate commands wait as may.
    for _ in 0..4 {
        client.start(&announced(4096));
    }
    let immediate = Command { immediate: true, ..announced(4096) };
    for _ in 0..16 {
        client.start(&immediate);
    }
    let mut rejected = 0;
    siege.steps(100, |_| {
        let frames: Vec<_> = (0..100).flat_map(|_| client.prepare(&immediate)).collect();
        // Bounded by the Rejects of a minute.
        if rejected < 900 {
            client.send_together(&frames);
            rejected += 100;
        }
    });
    assert_eq!(client.ping(b"one other immediate command"), b"one other immediate command");
    assert_eq!(client.task_management(2, RESERVED_TAG, 0), 0, "ABORT TASK SET is answered");
    let mut answers = 0;
    while answers < 900 {
        let frame = client.receive().expect("a Reject for each");
        answers += u32::from(frame.view::<Reject>().is_some_and(|reject| reject.reason == 6));
    }
    assert_eq!(struck(&daemon, "immediate"), 900);
    client.capture = sim::Capture::default();
    drop(client);
    siege.end();
}

#[test]
fn text_negotiations_without_end() {
    let _alone = alone();
    let daemon = daemon(&[]);
    let mut siege = Siege::begin(&daemon);
    siege.steps(50, |step| {
        let mut client = attacker(&daemon, step % 50, &Login::normal(TARGET));
        let tag = client.tag();
        let mut transfer_tag = RESERVED_TAG;
        let mut sent = 0;
        loop {
            let header = client.text_header(tag, CONTINUE, transfer_tag);
            client.send(&Frame::new(header, &[b'a'; 8000]));
            sent += 1;
            match client.receive() {
                Ok(frame) => match frame.view::<TextResponse>() {
                    Some(answer) => transfer_tag = answer.target_transfer_tag.get(),
                    None => break assert_eq!(frame.opcode(), Opcode::Reject as u8),
                },
                Err(_) => break,
            }
            assert!(sent < 40);
        }
        client.capture = sim::Capture::default();
    });
    assert_eq!(struck(&daemon, "text-bytes"), 50);
    siege.end();
}

#[test]
fn lengths_and_additional_headers_that_lie() {
    let _alone = alone();
    let daemon = daemon(&[]);
    let mut siege = Siege::begin(&daemon);
    let mut random = Random::new(8);
    siege.steps(150, |step| {
        let client = attacker(&daemon, step % 50, &Login::normal(TARGET));
        let mut stream = socket(&client);
        let mut header = announced(1 << 20).header();
        header.initiator_task_tag = 5.into();
        header.cmd_sn = client.cmd_sn.into();
        let mut lies = Vec::new();
        match step % 3 {
            0 => header.set_data_segment_bytes((1 << 24) - 1),
            1 => header.set_data_segment_bytes((256 << 10) + 1),
            _ => {
                // Lengths of additional headers that overrun, are zero, or are of no known type.
                header.total_ahs_length = 255;
                lies = random.bytes(1020);
                lies[..2].copy_from_slice(&[[0, 0], [0xff, 0xff], [4, 0]][random.size(3)]);
            }
        }
        stream.write_all(zerocopy::IntoBytes::as_bytes(&header)).unwrap();
        let _ = stream.write_all(&lies);
        assert!(is_closed_within(&mut stream, Duration::from_secs(5)), "step {step}");
    });
    siege.end();
}

#[test]
fn a_hundred_thousand_random_pdus_in_sessions() {
    let _alone = alone();
    let daemon = daemon(&["rejects=1000000"]);
    let mut siege = Siege::begin(&daemon);
    let mut random = Random::new(42);
    let mut open: Option<(Client, TcpStream)> = None;
    let (mut sent, mut sessions) = (0, 0);
    siege.steps(2000, |step| {
        if open.is_none() {
            let level = random.below(3);
            let client = attacker(&daemon, step % 50, &Login::normal(TARGET).key("ErrorRecoveryLevel", level));
            sessions += 1;
            let stream = socket(&client);
            stream.set_nonblocking(true).unwrap();
            open = Some((client, stream));
        }
        let Some((client, stream)) = &mut open else { return };
        let mut frames = Vec::new();
        for _ in 0..50 {
            frames.extend(random_pdu(&mut random, client.cmd_sn).encode(Digests::default()));
            client.cmd_sn = client.cmd_sn.wrapping_add(random.below(2) as u32);
            sent += 1;
        }
        let mut answers = [0; 16 << 10];
        let mut alive = true;
        stream.set_nonblocking(false).unwrap();
        alive &= stream.write_all(&frames).is_ok();
        stream.set_nonblocking(true).unwrap();
        loop {
            match std::io::Read::read(stream, &mut answers) {
                Ok(0) => break alive = false,
                Ok(_) => {}
                Err(error) => break alive &= error.kind() == std::io::ErrorKind::WouldBlock,
            }
        }
        if !alive {
            open = None;
        }
    });
    println!("{sent} PDUs in {sessions} sessions");
    assert!(sent == 100_000 && sessions > 1);
    drop(open);
    siege.end();
    settle(&daemon, 0);
}

/// Something that looks like a PDU of an initiator, at its own disk or at none.
fn random_pdu(random: &mut Random, cmd_sn: u32) -> Frame {
    let command_sn = cmd_sn.wrapping_add(random.below(3) as u32);
    let lun = [0, *random.pick(&[2, 2, 2, 9]), 0, 0, 0, 0, 0, 0];
    let tag = random.below(20) as u32;
    let length = if random.once_in(2) { random.size(1024) } else { 0 };
    let data = random.bytes(length);
    match random.size(4) {
        0 => {
            let mut command = Command::test_unit_ready().header();
            command.opcode_byte |= if random.once_in(8) { IMMEDIATE } else { 0 };
            command.lun = lun;
            command.initiator_task_tag = tag.into();
            command.cmd_sn = command_sn.into();
            // R, W, attributes.
            command.flags = FINAL | *random.pick(&[0, 0x40, 0x20]) | random.below(4) as u8;
            command.expected_data_transfer_length = (random.below(1 << 16) as u32).into();
            // What is set for the whole target is no business of a disk's.
            command.cdb[0] = *random.pick(&[0x00, 0x12, 0x1a, 0x28, 0x2a, 0x35, 0x5e, 0x5f, 0x88, 0x8a, 0x9e, 0xa0]);
            for _ in 0..random.size(4) {
                command.cdb[1 + random.size(15)] = random.number() as u8;
            }
            Frame::new(command, &data)
        }
        1 => {
            let mut request = TaskManagementRequest::empty();
            request.opcode_byte |= IMMEDIATE;
            // The resets of the whole target are for its other users to fear.
            request.function = FINAL | *random.pick(&[1, 2, 3, 4, 5, 8, 9, 10, 12, 77]);
            request.lun = lun;
            request.initiator_task_tag = tag.into();
            request.referenced_task_tag = (random.below(20) as u32).into();
            request.cmd_sn = cmd_sn.into();
            Frame::new(request, &[])
        }
        _ => {
            // Any other opcode with any fields, but no logout, which would only end the session, and no reset
            // of the target.
            let mut header = random.bytes(BHS_BYTES);
            let others = [Opcode::NopOut, Opcode::TextRequest, Opcode::DataOut, Opcode::SnackRequest].map(|o| o as u8);
            let opcode = if random.once_in(8) { random.number() as u8 & 0x3f } else { *random.pick(&others) };
            let spared = [Opcode::LogoutRequest, Opcode::TaskManagementRequest].map(|o| o as u8);
            let opcode = if spared.contains(&opcode) { 0x1e } else { opcode };
            header[0] = opcode | if random.once_in(2) { IMMEDIATE } else { 0 };
            header[4] = 0;
            header[5..8].copy_from_slice(&(data.len() as u32).to_be_bytes()[1..]);
            header[8..16].copy_from_slice(&lun);
            header[16..20].copy_from_slice(&tag.to_be_bytes());
            header[24..28].copy_from_slice(&cmd_sn.to_be_bytes());
            if random.once_in(2) {
                header[20..24].copy_from_slice(&[0xff; 4]);
            }
            Frame { header, data }
        }
    }
}
