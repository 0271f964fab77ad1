//! DIG: header and data digests (RFC 7143 §13.1, §7.8).

use crate::help::{Simulated, alone, goes_on, normal, pattern, rejected, session, target};
use iscsi::wire::{DataOut, FINAL, Pdu, RESERVED_TAG, ReadyToTransfer, Reject};
use sim::capture::Side;
use sim::raw::{Command, Condition};
use sim::{Digests, Frame};

const BOTH: Digests = Digests { header: true, data: true };

#[test]
fn dig_02_digests_cover_headers_with_additions_and_data_with_padding_and_no_login() {
    for (header, data) in [(false, false), (true, false), (false, true), (true, true)] {
        // The reader computes every digest again, and finds each where it was agreed and nowhere else.
        let mut client = alone(&normal().digests(header, data));
        assert_eq!(client.agreed().digests, Digests { header, data });
        for length in 0..9 {
            assert_eq!(client.ping(&pattern(length, 4)), pattern(length, 4));
        }
        for expected in [509, 510, 511, 512] {
            assert_eq!(client.execute(&Command::read(0, 1).expecting(expected)).data.len(), expected as usize);
        }
        let frames = client.prepare(&Command::test_unit_ready());
        client.send(&frames[0].clone().with_additional(&[0, 5, 9, 0, 1, 2, 3, 4]));
        assert!(client.finish(frames[0].basic().initiator_task_tag.get()).is_good());
        client.good(&Command::write(0, &pattern(1536, 1)));
        assert_eq!(client.good(&Command::read(0, 3)), pattern(1536, 1));
        client.logout();
    }
}

#[test]
fn dig_03_a_pdu_without_the_digest_that_was_agreed_is_not_taken() {
    let target = target();
    for digests in [Digests { header: true, data: false }, Digests { header: false, data: true }] {
        let mut client = session(&target, &normal().digests(digests.header, digests.data));
        client.capture.record();
        client.good(&Command::write(0, &pattern(512, 1)));
        client.good(&Command::read(0, 1));
        client.execute(&Command::cdb(&[0xff; 6]));
        assert!(client.capture.recorded().iter().any(|(side, _)| *side == Side::Target));
        // What stands in the digest's place is the start of the next PDU.
        let frame = client.prepare(&Command::write(0, &[0xbd; 512])).remove(0);
        let ping = Frame::new(client.ping_header(0x70), b"");
        client.forget(frame.basic().initiator_task_tag.get());
        let bytes = [frame.encode(Digests::default()), ping.encode(Digests::default())].concat();
        client.send_bytes(&bytes);
        while let Ok(frame) = client.receive() {
            assert!(frame.view::<Reject>().is_some(), "{}", frame.summary());
        }
        let mut other = session(&target, &normal().isid(7));
        assert_eq!(other.good(&Command::read(0, 1)), pattern(512, 1), "{digests:?}");
        client.transport().cut();
        target.settle();
    }
}

#[test]
fn dig_04_a_header_that_was_damaged_anywhere_is_never_acted_upon() {
    let target = target();
    let mut witness = session(&target, &normal().isid(7));
    for bit in 0..52 * 8 {
        let mut client = session(&target, &normal().digests(true, true));
        let frame = client.prepare(&Command::write(0, &[0xbd; 512])).remove(0);
        client.forget(frame.basic().initiator_task_tag.get());
        let mut bytes = frame.encode(BOTH);
        bytes[bit / 8] ^= 1 << (bit % 8);
        client.send_bytes(&bytes);
        // A TotalAHSLength that grew makes the target wait for the rest of the header.
        client.send_bytes(&[0; 2048]);
        assert!(client.expect_closed().is_empty(), "bit {bit}");
        assert_eq!(witness.good(&Command::read(0, 1)), [0; 512], "bit {bit}");
    }
}

/// Where the bytes of a frame's data segment, its padding and its digest stand.
fn damaged(frame: &Frame, bit: usize) -> Vec<u8> {
    let mut bytes = frame.encode(BOTH);
    bytes[52 + bit / 8] ^= 1 << (bit % 8);
    bytes
}

/// Sends what was damaged on its way; the checker sees it as it was meant.
fn send_damaged(client: &mut Simulated, frame: &Frame, bit: usize) {
    client.capture.initiator(frame);
    let bytes = damaged(frame, bit);
    client.send_bytes(&bytes);
    assert_eq!(rejected(client, frame), 0x02);
}

#[test]
fn dig_05_data_that_was_damaged_never_reaches_the_medium() {
    let crc_error = Some(Condition(0x0b, 0x47, 0x05));
    let length = 512usize;
    // Every digest bit, and data bits all over.
    let bits: Vec<usize> = (0..length * 8).step_by(97).chain(length * 8..(length + 4) * 8).collect();
    let login = || normal().digests(true, true).key("InitialR2T", "No");
    let mut client = alone(&login());
    for &bit in &bits {
        // Immediate: the command counts as not received, and comes again.
        let frame = client.prepare(&Command::write(0, &[0xbd; 512])).remove(0);
        let tag = frame.basic().initiator_task_tag.get();
        send_damaged(&mut client, &frame, bit);
        client.forget(tag);
        client.cmd_sn = client.cmd_sn.wrapping_sub(1);
        assert_eq!(client.good(&Command::read(0, 1)), [0; 512], "immediate, bit {bit}");
    }
    let mut client = alone(&login().key("ImmediateData", "No"));
    for &bit in &bits {
        let frames = client.prepare(&Command::write(0, &[0xbd; 1024]).in_chunks(512));
        let tag = frames[0].basic().initiator_task_tag.get();
        client.send(&frames[0]);
        send_damaged(&mut client, &frames[1], bit);
        client.send(&frames[2]);
        assert_eq!(client.finish(tag).condition(), crc_error, "unsolicited, bit {bit}");
        assert_eq!(client.good(&Command::read(0, 2)), [0; 1024]);
    }
    for &bit in &bits {
        client.hold_data = true;
        let tag = client.start(&Command::write(0, &[0xbd; 512]).solicited());
        let (asked, _) = client.expect::<ReadyToTransfer>();
        let mut out = DataOut::empty();
        out.flags = FINAL;
        out.lun = asked.lun;
        out.initiator_task_tag = asked.initiator_task_tag;
        out.target_transfer_tag = asked.target_transfer_tag;
        send_damaged(&mut client, &Frame::new(out, &[0xbd; 512]), bit);
        assert_eq!(client.finish(tag).condition(), crc_error, "solicited, bit {bit}");
        client.hold_data = false;
        assert_eq!(client.good(&Command::read(0, 1)), [0; 512]);
    }
    goes_on(&mut client);
}

#[test]
fn dig_05_a_damaged_text_or_ping_is_rejected_and_may_come_again() {
    let mut client = alone(&normal().digests(true, true));
    let text = Frame::new(client.text_header(0x31, FINAL, RESERVED_TAG), b"Foo=1\0");
    for bit in 0..12 * 8 {
        send_damaged(&mut client, &text, bit);
    }
    client.send(&text);
    assert_eq!(client.response::<iscsi::wire::TextResponse>(0x31).1, b"Foo=NotUnderstood\0");
    // One in the middle of an exchange costs that PDU and not the exchange.
    let first = Frame::new(client.text_header(0x32, 0x40, RESERVED_TAG), b"Fo");
    client.send(&first);
    let (answer, _) = client.response::<iscsi::wire::TextResponse>(0x32);
    let rest = Frame::new(client.text_header(0x32, FINAL, answer.target_transfer_tag.get()), b"o=1\0");
    send_damaged(&mut client, &rest, 3);
    client.capture.initiator(&rest);
    client.send_bytes(&rest.encode(BOTH));
    assert_eq!(client.response::<iscsi::wire::TextResponse>(0x32).1, b"Foo=NotUnderstood\0");
    let ping = Frame::new(client.ping_header(0x33), b"ping");
    send_damaged(&mut client, &ping, 1);
    client.send(&ping);
    assert_eq!(client.response::<iscsi::wire::NopIn>(0x33).1, b"ping");
}
