//! PDU: framing and format (RFC 7143 §4.2, §11.1, §11.2).

use crate::help::{BLOCKS, Simulated, alone, connect, goes_on, immediate, normal, pattern, rejected, session, target};
use iscsi::wire::{
    DataOut, FINAL, LogoutRequest, LogoutResponse, NopIn, NopOut, Pdu, RESERVED_TAG, ReadyToTransfer, ScsiCommand,
    ScsiResponse, SnackRequest, TaskManagementRequest, TaskManagementResponse, TextRequest, TextResponse,
};
use sim::Frame;
use sim::raw::{Client, Command, Condition, Ended};
use sim::world::Network;
use std::time::Duration;
use zerocopy::IntoBytes;

#[test]
fn pdu_01_segments_are_padded_with_zeros_and_padding_that_is_not_zero_is_taken() {
    let mut client = alone(&normal());
    for length in 0..=9 {
        // The reader complains about padding that is not zero.
        assert_eq!(client.ping(&pattern(length, 1)), pattern(length, 1));
    }
    let tag = client.tag();
    let mut bytes = Frame::new(client.ping_header(tag), b"x").encode(Default::default());
    let end = bytes.len();
    assert_eq!(end, 52, "one byte is padded to four");
    bytes[end - 3..].fill(0xee);
    let mut ping = client.ping_header(tag);
    ping.set_data_segment_bytes(1);
    client.capture.initiator(&Frame::new(ping, b"x"));
    client.send_bytes(&bytes);
    assert_eq!(client.response::<NopIn>(tag).1, b"x");
}

/// A change of one bit of a header must not change what comes back.
fn same_answer<P: Pdu + Copy>(
    client: &mut Simulated,
    reserved: &[(usize, u8)],
    make: impl Fn(&mut Simulated, u32) -> Frame,
    judge: impl Fn(&P, &[u8]),
) {
    for (byte, mask) in reserved {
        for bit in (0..8).map(|bit| 1u8 << bit).filter(|bit| mask & bit != 0) {
            let tag = client.tag();
            let mut frame = make(client, tag);
            assert_eq!(frame.header[*byte] & bit, 0, "{:?}: byte {byte} bit {bit:02x} is reserved", P::OPCODE);
            frame.header[*byte] |= bit;
            client.send(&frame);
            let (answer, data) = client.response::<P>(tag);
            judge(&answer, &data);
        }
    }
}

/// Whole reserved bytes, from and up to.
fn bytes(from: usize, to: usize) -> impl Iterator<Item = (usize, u8)> {
    (from..to).map(|byte| (byte, 0xff))
}

#[test]
fn pdu_02_reserved_bits_that_are_set_change_nothing() {
    let mut client = alone(&normal());
    let nop: Vec<_> = [(0, 0x80), (1, 0x7f)].into_iter().chain(bytes(2, 4)).chain(bytes(32, 48)).collect();
    same_answer::<NopIn>(
        &mut client,
        &nop,
        |client, tag| Frame::new(client.ping_header(tag), b"ping"),
        |_, data| assert_eq!(data, b"ping"),
    );
    let text: Vec<_> = [(0, 0x80), (1, 0x3f)].into_iter().chain(bytes(2, 4)).chain(bytes(32, 48)).collect();
    same_answer::<TextResponse>(
        &mut client,
        &text,
        |client, tag| Frame::new(client.text_header(tag, FINAL, RESERVED_TAG), b"Foo=1\0"),
        |_, data| assert_eq!(data, b"Foo=NotUnderstood\0"),
    );
    let function: Vec<_> = [(0, 0x80)].into_iter().chain(bytes(2, 4)).chain(bytes(40, 48)).collect();
    same_answer::<TaskManagementResponse>(
        &mut client,
        &function,
        |client, tag| {
            let mut header = client.task_management_header(2, RESERVED_TAG, 0);
            header.initiator_task_tag = tag.into();
            Frame::new(header, b"")
        },
        |answer, _| assert_eq!(answer.response, 0),
    );
    // Byte 3 is the command reference number, which a target may ignore (§11.3.2).
    same_answer::<ScsiResponse>(
        &mut client,
        &[(0, 0x80), (1, 0x18), (2, 0xff), (3, 0xff)],
        |client, tag| {
            let mut header = Command::test_unit_ready().header();
            header.initiator_task_tag = tag.into();
            header.cmd_sn = client.take_cmd_sn().into();
            header.exp_stat_sn = client.exp_stat_sn.into();
            Frame::new(header, b"")
        },
        |answer, _| assert_eq!(answer.status, 0),
    );
    let data_out: Vec<_> =
        [(0, 0x80), (1, 0x7f)].into_iter().chain(bytes(2, 4)).chain(bytes(24, 28)).chain(bytes(32, 36)).collect();
    client.hold_data = true;
    for (byte, mask) in data_out.into_iter().chain(bytes(44, 48)) {
        for bit in (0..8).map(|bit| 1u8 << bit).filter(|bit| mask & bit != 0) {
            let tag = client.start(&Command::write(0, &[bit; 512]).solicited());
            let (asked, _) = client.expect::<ReadyToTransfer>();
            let mut frame = Frame::new(answering(&client, &asked), &[bit; 512]);
            frame.header[byte] |= bit;
            client.send(&frame);
            assert!(client.finish(tag).is_good(), "byte {byte}, bit {bit:02x}");
        }
    }
    for (byte, mask) in [(0, 0x80u8)].into_iter().chain(bytes(2, 4)).chain(bytes(8, 16)).chain(bytes(32, 48)) {
        let mut client = alone(&normal());
        let mut frame = Frame::new(client.logout_header(0), b"");
        frame.header[byte] |= mask;
        client.send(&frame);
        assert_eq!(client.expect::<LogoutResponse>().0.response, 0, "byte {byte}");
        client.expect_closed();
    }
}

/// The Data-Out that answers the whole of an R2T.
fn answering(client: &Simulated, asked: &ReadyToTransfer) -> DataOut {
    let mut header = DataOut::empty();
    header.flags = FINAL;
    header.lun = asked.lun;
    header.initiator_task_tag = asked.initiator_task_tag;
    header.target_transfer_tag = asked.target_transfer_tag;
    header.exp_stat_sn = client.exp_stat_sn.into();
    header.buffer_offset = asked.buffer_offset;
    header
}

#[test]
fn pdu_03_reserved_codes_are_refused_and_never_acted_upon() {
    let target = target();
    let mut client = session(&target, &normal());
    for attribute in 5..8 {
        let command = Command { attribute, ..Command::write(0, &[9; 512]) };
        let frames = client.prepare(&command);
        client.send_together(&frames);
        assert_eq!(rejected(&mut client, &frames[0]), 0x09, "attribute {attribute}");
        // What was rejected counts as not received: its number is still due.
        client.cmd_sn = client.cmd_sn.wrapping_sub(1);
    }
    assert_eq!(client.good(&Command::read(0, 1)), [0; 512]);
    for function in [0, 9, 11, 13, 64, 127] {
        let answer = client.task_management(function, RESERVED_TAG, 0);
        assert!(answer == 5 || answer == 255, "function {function}: {answer}");
    }
    for kind in 4..16 {
        let mut frame = immediate::<SnackRequest>(RESERVED_TAG);
        frame.header[0] &= 0x3f;
        frame.header[1] = FINAL | kind;
        client.send(&frame);
        assert!([0x03, 0x04, 0x05, 0x09].contains(&rejected(&mut client, &frame)), "SNACK of type {kind}");
    }
    for reason in [3, 4, 127] {
        let frame = Frame::new(client.logout_header(reason), b"");
        client.send(&frame);
        assert_eq!(rejected(&mut client, &frame), 0x09, "logout for reason {reason}");
    }
    goes_on(&mut client);
    // CSG 2, NSG 2, CSG 3.
    for flags in [0x08, 0x8b, 0x82, 0x86, 0x8f] {
        let mut client = connect(&target);
        let refused = client.login_exchange(&Frame::new(normal().request(flags, 0), &normal().text())).unwrap_err();
        assert_eq!(refused, sim::Refused::Status(2, 0), "flags {flags:02x}");
        client.expect_closed();
    }
}

#[test]
fn pdu_04_opcodes_of_targets_and_of_nobody_are_refused() {
    let target = target();
    let mut bystander = session(&target, &normal().isid(9));
    let mut client = session(&target, &normal());
    let known = [0x00, 0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x10];
    for opcode in (0x00..0x40).filter(|opcode| !known.contains(opcode)) {
        let mut frame = immediate::<NopOut>(0x77);
        frame.header[0] = 0x40 | opcode;
        client.send(&frame);
        let reason = rejected(&mut client, &frame);
        assert_eq!(reason, if opcode < 0x20 || !is_of_targets(opcode) { 0x05 } else { 0x04 }, "opcode {opcode:02x}h");
    }
    goes_on(&mut client);
    goes_on(&mut bystander);
}

fn is_of_targets(opcode: u8) -> bool {
    matches!(opcode, 0x20..=0x26 | 0x31 | 0x32 | 0x3f)
}

#[test]
fn pdu_05_requests_without_data_that_have_some_are_refused_and_the_stream_stays_in_frame() {
    let mut client = alone(&normal());
    let function = Frame::new(client.task_management_header(2, RESERVED_TAG, 0), b"none of this");
    client.send(&function);
    assert_eq!(rejected(&mut client, &function), 0x09);
    let logout = Frame::new(client.logout_header(0), b"nor this");
    client.send(&logout);
    assert_eq!(rejected(&mut client, &logout), 0x09);
    goes_on(&mut client);
    for frame in [immediate::<TaskManagementRequest>(7), immediate::<LogoutRequest>(7), immediate::<TextRequest>(7)] {
        let mut client = alone(&normal());
        client.send(&frame.with_additional(&[0, 1, 5, 0]));
        client.expect_closed();
    }
}

#[test]
fn pdu_06_no_data_segment_is_above_what_its_receiver_declared() {
    for segment in [512, 4096, 16_777_215] {
        let mut client = alone(&normal().key("MaxRecvDataSegmentLength", segment).key("MaxBurstLength", 16_777_215));
        let data = pattern(1 << 20, 3);
        for (at, piece) in data.chunks(256 << 10).enumerate() {
            client.good(&Command::write(at as u32 * 512, piece));
        }
        // The capture judges every PDU; the number shows that what may be sent is used.
        let answer = client.execute(&Command::read(0, 2048));
        assert!(answer.data == data);
        assert_eq!(answer.data_in_pdus, (1u32 << 20).div_ceil(segment), "declared {segment}");
    }
    let mut client = alone(&normal());
    let declared = client.agreed().target_segment;
    assert_eq!(client.ping(&vec![1; declared as usize]).len(), 8192, "all that was declared is taken");
    let mut header = client.ping_header(5);
    header.set_data_segment_bytes(declared + 1);
    client.send_bytes(header.as_bytes());
    client.expect_closed();
}

/// A small session from login to logout; all that came back.
fn course(client: &mut Simulated) -> Vec<Vec<u8>> {
    client.login(&normal().digests(true, true));
    client.take_attentions();
    let mut seen = vec![client.ping(b"odd")];
    client.good(&Command::write(7, &pattern(1536, 5)));
    client.good(&Command::write(90, &pattern(4096, 6)).solicited());
    seen.push(client.good(&Command::read(7, 3)));
    seen.push(client.good(&Command::read(90, 8)));
    seen.push(client.text(b"SendTargets=\0"));
    seen.push(client.execute(&Command::read(BLOCKS as u32, 1)).sense);
    client.logout();
    seen
}

#[test]
fn pdu_07_pdus_are_put_together_however_they_were_cut() {
    let whole = course(&mut connect(&target()));
    for piece_bytes in [1, 2, 3, 7, 47, 49] {
        for seed in 0..3 {
            let network = Network { seed, piece_bytes, ..Network::default() };
            assert!(course(&mut Client::over(target().connect(network))) == whole, "pieces of {piece_bytes}");
        }
    }
    // One recorded PDU, cut at each of its bytes, also between its data and their digest.
    let mut client = alone(&normal().digests(true, true));
    let length =
        client.prepare(&Command::write(7, &pattern(512, 2)))[0].encode(sim::Digests { header: true, data: true });
    client.cmd_sn = client.cmd_sn.wrapping_sub(1);
    for cut in 1..length.len() {
        let frames = client.prepare(&Command::write(7, &pattern(512, cut as u8)));
        let bytes = frames[0].encode(sim::Digests { header: true, data: true });
        client.capture.initiator(&frames[0]);
        client.send_bytes(&bytes[..cut]);
        client.expect_silence(Duration::from_millis(1));
        client.send_bytes(&bytes[cut..]);
        assert!(client.finish(frames[0].basic().initiator_task_tag.get()).is_good());
        assert_eq!(client.good(&Command::read(7, 1)), pattern(512, cut as u8), "cut at {cut}");
    }
}

#[test]
fn pdu_08_pdus_of_one_segment_are_all_handled_in_order() {
    let mut client = alone(&normal());
    let mut frames = Vec::new();
    for number in 0..64u8 {
        frames.extend(client.prepare(&Command::write(u32::from(number / 2), &[number; 512])));
    }
    assert_eq!(frames.len(), 64, "the data is immediate");
    client.send_together(&frames);
    for frame in &frames {
        assert!(client.finish(frame.basic().initiator_task_tag.get()).is_good());
    }
    for block in 0..32u8 {
        assert_eq!(client.good(&Command::read(block.into(), 1)), [block * 2 + 1; 512], "the later write stands");
    }
}

#[test]
fn pdu_09_a_format_error_ends_the_session_and_a_new_login_works() {
    let target = target();
    let mut bystander = session(&target, &normal().isid(9));
    type Break = (&'static str, fn(&mut Simulated) -> Frame);
    let breaks: [Break; 5] = [
        ("neither F nor W", |client| {
            let mut frame = client.prepare(&Command::read(0, 1)).remove(0);
            frame.header[1] &= !FINAL;
            frame
        }),
        ("additional headers that do not add up", |client| {
            client.prepare(&Command::test_unit_ready()).remove(0).with_additional(&[0xff, 0xff, 1, 0])
        }),
        ("additional headers in a Data-Out", |_| immediate::<DataOut>(1).with_additional(&[0, 1, 7, 0])),
        ("more data than declared", |client| {
            let mut ping = client.ping_header(1);
            ping.set_data_segment_bytes((1 << 24) - 1);
            Frame { header: ping.as_bytes().to_vec(), data: Vec::new() }
        }),
        ("a login in the full feature phase", |_| Frame::new(normal().request(0x87, 0), &normal().text())),
    ];
    for (what, make) in breaks {
        let mut client = session(&target, &normal());
        let held = client.start(&Command::write(0, &[0xbd; 4096]).solicited());
        client.forget(held);
        let frame = make(&mut client);
        client.send(&frame);
        let ended = loop {
            if let Err(ended) = client.receive() {
                break ended;
            }
        };
        assert_eq!(ended, Ended::Closed, "{what}");
        target.settle();
        let mut again = session(&target, &normal());
        assert_eq!(again.good(&Command::read(0, 8)), [0; 4096], "{what}: the task went with its session");
        again.logout();
    }
    goes_on(&mut bystander);
}

#[test]
fn pdu_10_a_long_cdb_comes_in_an_additional_header_segment() {
    let mut client = alone(&normal());
    // No command of 32 bytes is there: what answers is the device server, not the session.
    let mut cdb = vec![0x7f];
    cdb.resize(32, 0);
    cdb[7] = 24;
    let answer = client.execute(&Command::reading(&cdb, 512));
    assert_eq!((answer.status, answer.condition()), (2, Some(Condition(5, 0x20, 0))));
    for length in [0u16, 1] {
        let mut client = alone(&normal());
        let mut segment = length.to_be_bytes().to_vec();
        segment.extend([1, 0]);
        let frames = client.prepare(&Command::test_unit_ready());
        client.send(&frames[0].clone().with_additional(&segment));
        let tag = frames[0].basic().initiator_task_tag.get();
        client.forget(tag);
        client.expect_closed();
    }
}

#[test]
fn pdu_11_reading_and_writing_at_once_needs_the_length_of_the_read() {
    let mut client = alone(&normal());
    let both = Command { reads: true, ..Command::write(0, &[5; 512]) };
    let frames = client.prepare(&both);
    client.send_together(&frames);
    assert_eq!(rejected(&mut client, &frames[0]), 0x09, "without the additional header");
    client.forget(frames[0].basic().initiator_task_tag.get());
    client.cmd_sn = client.cmd_sn.wrapping_sub(1);
    // COMMAND of both directions: none is known, the answer is sense data and not a crash.
    let mut header: ScsiCommand = both.header();
    let tag = client.tag();
    header.initiator_task_tag = tag.into();
    header.cmd_sn = client.take_cmd_sn().into();
    header.exp_stat_sn = client.exp_stat_sn.into();
    header.cdb[0] = 0x53;
    let frame = Frame::new(header, &[5; 512]).with_additional(&[0, 5, 2, 0, 0, 0, 2, 0]);
    client.send(&frame);
    let (answer, sense) = client.response::<ScsiResponse>(tag);
    assert_eq!((answer.status, sense[4] & 0x0f, sense[14]), (2, 5, 0x20), "{sense:02x?}");
    goes_on(&mut client);
    for length in [4, 6] {
        let mut client = alone(&normal());
        let frames = client.prepare(&both);
        client.forget(frames[0].basic().initiator_task_tag.get());
        let segment = [0, length, 2, 0, 0, 0, 2, 0, 0, 0, 0, 0];
        let words = usize::from(length + 3).div_ceil(4) * 4;
        client.send(&frames[0].clone().with_additional(&segment[..words]));
        client.expect_closed();
    }
}

#[test]
fn pdu_12_additional_headers_that_lie_end_the_connection() {
    for header_digest in [false, true] {
        for segments in [
            &[0xff, 0xff, 1, 0][..],
            &[0, 6, 1, 0, 0, 0, 0, 0],
            &[0, 0, 1, 0],
            &[0, 0, 9, 0],
            &[0, 5, 2, 0],
            &[0, 1, 9, 0, 0, 9, 9, 0],
        ] {
            let mut client = alone(&normal().digests(header_digest, false));
            let frames = client.prepare(&Command::test_unit_ready());
            client.forget(frames[0].basic().initiator_task_tag.get());
            client.send(&frames[0].clone().with_additional(segments));
            let told = client.expect_closed();
            assert!(told.is_empty(), "{segments:02x?}: {told:?}");
        }
    }
    // A type that nobody knows, whose length is true, is no offence.
    let mut client = alone(&normal());
    let frames = client.prepare(&Command::test_unit_ready());
    client.send(&frames[0].clone().with_additional(&[0, 5, 9, 0, 1, 2, 3, 4]));
    assert!(client.finish(frames[0].basic().initiator_task_tag.get()).is_good());
}

#[test]
fn pdu_13_data_out_without_data_is_taken() {
    let mut client = alone(&normal());
    client.hold_data = true;
    let data = pattern(1024, 4);
    let tag = client.start(&Command::write(3, &data).solicited());
    let (asked, _) = client.expect::<ReadyToTransfer>();
    let header = answering(&client, &asked);
    let pieces: [(&[u8], u32, u8); 5] =
        [(b"", 0, 0), (&data[..512], 0, 0), (b"", 512, 0), (&data[512..], 512, 0), (b"", 1024, FINAL)];
    for (number, (piece, offset, flags)) in pieces.into_iter().enumerate() {
        let out = DataOut { flags, data_sn: (number as u32).into(), buffer_offset: offset.into(), ..header };
        client.send(&Frame::new(out, piece));
    }
    assert!(client.finish(tag).is_good());
    assert_eq!(client.good(&Command::read(3, 2)), data);
}

#[test]
fn pdu_15_a_tag_in_use_names_one_task_only() {
    let mut client = alone(&normal());
    client.hold_data = true;
    let first = client.start(&Command::write(0, &[1; 512]).solicited());
    let (asked, _) = client.expect::<ReadyToTransfer>();
    let mut frames = client.prepare(&Command::write(8, &[2; 512]));
    client.forget(frames[0].basic().initiator_task_tag.get());
    frames[0].header[16..20].copy_from_slice(&first.to_be_bytes());
    client.send(&frames[0]);
    assert_eq!(rejected(&mut client, &frames[0]), 0x07, "task in progress");
    client.cmd_sn = client.cmd_sn.wrapping_sub(1);
    client.hold_data = false;
    client.answer_ready_to_transfer(&asked);
    assert!(client.finish(first).is_good());
    assert_eq!(client.good(&Command::read(0, 1)), [1; 512]);
    assert_eq!(client.good(&Command::read(8, 1)), [0; 512], "the second never was a task");
}

#[test]
fn pdu_16_data_that_does_not_fit_its_task_is_refused_and_not_stored() {
    let mut client = alone(&normal());
    client.hold_data = true;
    let one = client.start(&Command::write(0, &[1; 512]).solicited());
    let (asked_one, _) = client.expect::<ReadyToTransfer>();
    let two = client.start(&Command::write(8, &[2; 512]).solicited());
    let (asked_two, _) = client.expect::<ReadyToTransfer>();
    let right = answering(&client, &asked_one);
    let stale = asked_one.target_transfer_tag.get() ^ 0x4000;
    for wrong in [
        DataOut { lun: [0, 7, 0, 0, 0, 0, 0, 0], ..right },
        DataOut { target_transfer_tag: asked_two.target_transfer_tag, ..right },
        DataOut { target_transfer_tag: stale.into(), ..right },
        DataOut { initiator_task_tag: 0x7777.into(), ..right },
    ] {
        let frame = Frame::new(wrong, &[0xbd; 512]);
        client.send(&frame);
        assert_eq!(rejected(&mut client, &frame), 0x09);
    }
    client.hold_data = false;
    client.answer_ready_to_transfer(&asked_one);
    client.answer_ready_to_transfer(&asked_two);
    assert!(client.finish(one).is_good() && client.finish(two).is_good());
    assert_eq!(client.good(&Command::read(0, 1)), [1; 512]);
    assert_eq!(client.good(&Command::read(8, 1)), [2; 512]);
    // With a tag of a sequence that is over, and of a task that is over.
    let frame = Frame::new(right, &[0xbd; 512]);
    client.send(&frame);
    assert_eq!(rejected(&mut client, &frame), 0x09);
    assert_eq!(client.good(&Command::read(0, 1)), [1; 512]);
}
