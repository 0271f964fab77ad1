//! What was written once is read for ever, and what is foreign or damaged is refused.

use super::message::{Ask, MemoryPiece, Offer, Started};
use super::*;
use iscsi::key::{ConnectionParameters, SessionParameters, TaskReporting};
use iscsi::session::ConnectionAtRest;
use lun::handover::{TokenAtRest, ViewAtRest, nexus};
use scsi::{Condition, SenseKey};
use std::time::{Duration, UNIX_EPOCH};

/// Everything that version 1 says, in hexadecimal.
const VERSION_1: &str = include_str!("version-1.hex");

fn whole() -> DoorAtRest {
    let initiator = nexus(&[5, 0, 0, 8, b'i', b'q', b'n', 0], 1);
    let attention = Condition::new(SenseKey::UnitAttention, 0x2a, 0x09);
    let unit = UnitAtRest {
        uuid: *b"0123456789abcdef",
        mode_pages: vec![8, 0, 1, 4],
        saved_mode_pages: Some(vec![10, 0, 1, 2]),
        flags: 16,
        reservations: b"reservations".to_vec(),
        exclusive: Some(initiator.clone()),
        greeted: vec![initiator.clone()],
        names: vec![1, 0, 0, 0, 0],
        clock: Some((5000, Duration::from_millis(1_700_000_000_000))),
        counters: [1, 2, 3, 4],
        notes: vec![(7, vec![9; 3])],
        tokens: vec![TokenAtRest {
            token: vec![1, 2, 3],
            maker: initiator,
            ranges: vec![(4, 8)],
            block_length: 512,
            timeout: Duration::from_secs(30),
            used: Duration::from_secs(1_700_000_000),
        }],
        threshold_reached: true,
        occupation: 2,
        blocks: 1 << 33,
        block_length: 4096,
    };
    let connection = ConnectionAtRest {
        cid: 3,
        parameters: ConnectionParameters { header_digest: true, ..ConnectionParameters::default() },
        stat_sn: 77,
        acknowledged: 76,
        ping_tag: 5,
        text_tag: 6,
    };
    let session = AtRest {
        parameters: SessionParameters { task_reporting: TaskReporting::FastAbort, ..SessionParameters::default() },
        exp_cmd_sn: 1000,
        max_cmd_sn: 1127,
        forgiven: vec![0xdead_beef],
        passed: vec![([0, 1, 0, 0, 0, 0, 0, 0], 999)],
        connections: vec![connection],
    };
    let link = LinkAtRest { unread: b"half a PDU".to_vec(), unsent: vec![7; 5], received_bytes: 10, sent_bytes: 20 };
    let view = ViewAtRest {
        number: 1,
        uuid: *b"0123456789abcdef",
        attentions: vec![attention],
        media_event: 2,
        eject_requested: true,
        prevents: true,
    };
    DoorAtRest {
        units: vec![unit],
        groups: vec![GroupAtRest { target: "iqn.2026-11.com.example:disk".into(), number: 1, state: 2 }],
        sessions: vec![SessionAtRest {
            target: "iqn.2026-11.com.example:disk".into(),
            portal_group: 1,
            initiator: "iqn.1993-08.org.debian:01:abc".into(),
            alias: Some("host".into()),
            account: None,
            isid: [0x40, 0, 0, 0, 0, 1],
            tsih: 12,
            since: UNIX_EPOCH + Duration::from_secs(1_700_000_000),
            session,
            nexus: NexusAtRest { views: vec![view], inventory_changed: true },
            lines: vec![LineAtRest {
                peer: "192.0.2.7:40000".parse().unwrap(),
                since: UNIX_EPOCH + Duration::from_secs(1_700_000_001),
                link,
            }],
        }],
        last_tsih: 12,
    }
}

fn bytes(hexadecimal: &str) -> Vec<u8> {
    let digits: Vec<u8> = hexadecimal.bytes().filter(u8::is_ascii_hexdigit).collect();
    digits.chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}

fn written(piece: &impl Piece) -> Vec<u8> {
    let mut out = Vec::new();
    piece.put(&mut out);
    out
}

#[test]
fn what_version_1_wrote_is_read_and_is_what_is_written() {
    let golden = bytes(VERSION_1);
    let now = written(&whole());
    let shown: Vec<String> = now.chunks(32).map(|row| row.iter().map(|byte| format!("{byte:02x}")).collect()).collect();
    assert!(now == golden, "the bytes have changed; a new version has a file of its own:\n{}", shown.join("\n"));
    assert_eq!(DoorAtRest::take(&golden).as_ref(), Ok(&whole()));
}

#[test]
fn messages_come_back_as_they_were() {
    let ask = Ask { version: 3, oldest: 1, program: "0.1.0".into(), takes_over: true, within: Duration::from_secs(1) };
    assert_eq!(Ask::take(&written(&ask)), Ok(ask));
    let started = Started {
        program: "0.1.0".into(),
        process: 7,
        directory: "/".into(),
        arguments: vec!["serve".into(), String::new(), "ram:1G".into()],
        environment: vec![("A".into(), "b".into())],
    };
    assert_eq!(Started::take(&written(&started)), Ok(started));
    let offer = Offer {
        program: "0.1.0".into(),
        process: 1,
        control: true,
        control_is_own: true,
        open_files: 1024,
        listeners: vec!["[::]:3260".parse().unwrap()],
        stores: vec![[3; 16]; 3],
        locks: 2,
        memories: vec![[1; 16], [2; 16]],
        document: Some("[[targets]]".into()),
    };
    assert_eq!(Offer::take(&written(&offer)), Ok(offer));
    let piece = MemoryPiece { unit: [3; 16], number: 9, content: Some((0xffff, vec![1; 100])) };
    assert_eq!(MemoryPiece::take(&written(&piece)), Ok(piece));
}

#[test]
fn a_later_version_is_refused_where_it_says_what_must_be_known_and_read_where_it_does_not() {
    let group = GroupAtRest { target: "a".into(), number: 1, state: 0 };
    let with = |number: u16| {
        let mut out = written(&group);
        format::put_field(number, &5u32, &mut out);
        GroupAtRest::take(&out)
    };
    assert_eq!(with(9), Err(Unreadable::Unknown(9)));
    assert_eq!(with(0x8009), Ok(group.clone()));
    let link = LinkAtRest { unread: vec![1], unsent: vec![], received_bytes: 4, sent_bytes: 5 };
    let mut older = Vec::new();
    format::put_field(1, &link.unread, &mut older);
    assert_eq!(LinkAtRest::take(&older), Err(Unreadable::Missing(2)));
    format::put_field(2, &link.unsent, &mut older);
    assert_eq!(LinkAtRest::take(&older), Ok(LinkAtRest { received_bytes: 0, sent_bytes: 0, ..link }));
}

#[test]
fn what_is_cut_off_or_spoiled_is_refused_or_harmless() {
    let golden = written(&whole());
    for cut in 0..golden.len() {
        assert!(DoorAtRest::take(&golden[..cut]).is_err(), "{cut}");
    }
    for at in 0..golden.len() {
        let mut spoiled = golden.clone();
        spoiled[at] ^= 0xff;
        let _ = DoorAtRest::take(&spoiled);
    }
}
