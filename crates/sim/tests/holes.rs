//! Classes of holes that others fell into (docs/reliability.md), where a whole target in this process shows them. Each
//! test is named after the first that did.

use block::layer::{Delay, Valve};
use block::pure::Ram;
use iscsi::auth::{Account, Algorithm, AuthError, Challenge, Keys, Rules, Secret, Target};
use iscsi::wire::{FINAL, RESERVED_TAG, Reject};
use sim::Frame;
use sim::daemon::TARGET;
use sim::raw::{Client, Command, Login, Refused};
use sim::world::{Network, Shared, Wire};

fn session(world: &Shared) -> Client<Wire> {
    let mut client = Client::over(world.connect(Network::default()));
    client.login(&Login::normal(TARGET));
    client.take_attentions();
    client
}

/// CDBs that return data: the command, where its allocation length stands, and in how many bytes.
const READERS: &[(&[u8], usize, usize)] = &[
    (&[0x03, 0, 0, 0, 0, 0], 4, 1),
    (&[0x03, 1, 0, 0, 0, 0], 4, 1),
    (&[0x12, 0, 0, 0, 0, 0], 3, 2),
    (&[0x12, 1, 0x00, 0, 0, 0], 3, 2),
    (&[0x12, 1, 0x80, 0, 0, 0], 3, 2),
    (&[0x12, 1, 0x83, 0, 0, 0], 3, 2),
    (&[0x12, 1, 0x86, 0, 0, 0], 3, 2),
    (&[0x12, 1, 0xb0, 0, 0, 0], 3, 2),
    (&[0x12, 1, 0xb1, 0, 0, 0], 3, 2),
    (&[0x12, 1, 0xb2, 0, 0, 0], 3, 2),
    (&[0x1a, 0, 0x3f, 0, 0, 0], 4, 1),
    (&[0x1a, 8, 0x3f, 0xff, 0, 0], 4, 1),
    (&[0x1a, 0, 0x08, 0, 0, 0], 4, 1),
    (&[0x5a, 0x10, 0x3f, 0, 0, 0, 0, 0, 0, 0], 7, 2),
    (&[0x5a, 0, 0x7f, 0xff, 0, 0, 0, 0, 0, 0], 7, 2),
    (&[0x4d, 0, 0x40, 0, 0, 0, 0, 0, 0, 0], 7, 2),
    (&[0x4d, 0, 0x40, 0xff, 0, 0, 0, 0, 0, 0], 7, 2),
    (&[0x4d, 0, 0x59, 0, 0, 0, 0, 0, 0, 0], 7, 2),
    (&[0x5e, 0, 0, 0, 0, 0, 0, 0, 0, 0], 7, 2),
    (&[0x5e, 1, 0, 0, 0, 0, 0, 0, 0, 0], 7, 2),
    (&[0x5e, 2, 0, 0, 0, 0, 0, 0, 0, 0], 7, 2),
    (&[0x5e, 3, 0, 0, 0, 0, 0, 0, 0, 0], 7, 2),
    (&[0x9e, 0x10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], 10, 4),
    (&[0x9e, 0x12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], 10, 4),
    (&[0xa0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], 6, 4),
    (&[0xa3, 0x0a, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], 6, 4),
    (&[0xa3, 0x0c, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], 6, 4),
    (&[0xa3, 0x0c, 1, 0x28, 0, 0, 0, 0, 0, 0, 0, 0], 6, 4),
    (&[0xa3, 0x0f, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], 6, 4),
    (&[0x84, 0x03, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], 10, 4),
    (&[0x1c, 1, 0, 0, 0, 0], 3, 2),
    (&[0x37, 0, 0x08, 0, 0, 0, 0, 0, 0, 0], 7, 2),
];

/// MODE SENSE with little room wrote past it. The other way round: no length changes what the bytes are.
#[test]
fn tgt_8afadd9_every_allocation_length_cuts_the_same_answer() {
    let world = Shared::new(Ram::new(512, 2048), None);
    let mut client = session(&world);
    for (template, at, bytes) in READERS {
        let ask = |client: &mut Client<Wire>, length: u32| {
            let mut cdb = template.to_vec();
            cdb[*at..at + bytes].copy_from_slice(&length.to_be_bytes()[4 - bytes..]);
            let answer = client.execute(&Command::reading(&cdb, 8192));
            assert!(answer.is_good(), "{cdb:02x?}: {:?}", answer.condition());
            // What the target wanted to send is what it sent: the rest of the expected length is the residual.
            assert_eq!(answer.residual, answer.data.len() as i64 - 8192, "{cdb:02x?}");
            answer.data
        };
        let whole = ask(&mut client, if *bytes == 1 { 255 } else { 8192 });
        assert!(!whole.is_empty(), "{template:02x?}");
        for length in 0..=255 {
            let data = ask(&mut client, length);
            let expected = &whole[..whole.len().min(length as usize)];
            assert_eq!(data, expected, "{template:02x?} with room for {length}");
        }
    }
}

/// A response of any length, in either encoding, with any algorithm: refused, and never more than that. The decoders
/// of others wrote past the digest, once for hexadecimal and years later once more for base64.
#[test]
fn lio_85db7391310b_cve_2018_14633_a_response_of_any_length_in_either_encoding_is_refused() {
    for algorithm in Algorithm::ALL {
        for length in 0..2100 {
            for (prefix, digit) in [("0x", "a"), ("0X", "0"), ("0b", "A"), ("0B", "z"), ("0b", "/"), ("", "0")] {
                let rules = Rules {
                    algorithms: vec![algorithm],
                    accounts: vec![Account { user: "alice".into(), secret: Secret::weak("alice-secret-12") }].into(),
                    own: None,
                    challenge: Challenge { identifier: 1, bytes: [7; 32] },
                };
                let mut target = Target::new(rules);
                let list = (algorithm as u8).to_string();
                target.handle(Keys { algorithms: Some(&list), ..Keys::default() }).unwrap();
                let response = format!("{prefix}{}", digit.repeat(length));
                let keys = Keys { name: Some("alice"), response: Some(&response), ..Keys::default() };
                let outcome = target.handle(keys);
                assert!(matches!(outcome, Err(AuthError::Failed(_))), "{prefix} of {length}: {outcome:?}");
                assert!(!target.is_done());
            }
        }
    }
}

/// An identifier is a number in either of its forms and nothing that only begins like one; a name is what it is,
/// whatever it begins with.
#[test]
fn lio_7e161211f1dd_identifiers_and_names_are_read_once_and_whole() {
    let rules = || Rules {
        algorithms: vec![Algorithm::Md5],
        accounts: vec![
            Account { user: "alice".into(), secret: Secret::weak("alice-secret-12") },
            Account { user: "0x616c696365".into(), secret: Secret::weak("another-secret") },
        ]
        .into(),
        own: Some(Account { user: "target".into(), secret: Secret::weak("target-secret-34") }),
        challenge: Challenge { identifier: 1, bytes: [7; 32] },
    };
    let hex = |bytes: Vec<u8>| bytes.iter().fold(String::from("0x"), |text, byte| text + &format!("{byte:02x}"));
    let login = |name: &str, secret: &str, identifier: Option<&str>| {
        let mut target = Target::new(rules());
        target.handle(Keys { algorithms: Some("5"), ..Keys::default() }).unwrap();
        let response = hex(Algorithm::Md5.response(1, &Secret::weak(secret), &[7; 16]));
        let challenge = identifier.map(|_| "0x0102");
        target.handle(Keys { name: Some(name), response: Some(&response), identifier, challenge, algorithms: None })
    };
    let answered =
        |identifier: u8| hex(Algorithm::Md5.response(identifier, &Secret::weak("target-secret-34"), &[1, 2]));
    for (text, number) in [("0", 0), ("255", 255), ("0xff", 255), ("0X0f", 15), ("0x0", 0)] {
        let (answer, _) = login("alice", "alice-secret-12", Some(text)).unwrap();
        assert!(answer.contains(&("CHAP_R", answered(number))), "CHAP_I={text}");
    }
    for text in ["", "256", "0x100", "-1", "1x", "0x", "0b01", " 1"] {
        assert!(login("alice", "alice-secret-12", Some(text)).is_err(), "CHAP_I={text}");
    }
    assert!(login("0x616c696365", "alice-secret-12", None).is_err(), "the name is not decoded");
    assert!(login("0x616c696365", "another-secret", None).is_ok());
}

/// A key name of any length beyond 63 bytes is refused, and not said again in an answer, at login and behind it.
#[test]
fn cve_2013_2850_a_key_that_is_too_long_is_never_answered_with_itself() {
    let world = Shared::new(Ram::new(512, 2048), None);
    for length in (64..200).chain((200..8000).step_by(611)) {
        let key = format!("X-{}", "k".repeat(length - 2));
        let mut client = Client::over(world.connect(Network::default()));
        let refused = client.try_login(&Login::normal(TARGET).key(&key, 1));
        assert_eq!(refused, Err(Refused::Status(2, 0)), "{length}");
        let mut client = session(&world);
        let header = client.text_header(9, FINAL, RESERVED_TAG);
        let question = Frame::new(header, format!("{key}=1\0").as_bytes());
        client.send(&question);
        let (reject, data) = client.expect::<Reject>();
        assert_eq!((reject.reason, data.len()), (4, 48), "{length}");
        assert!(client.execute(&Command::test_unit_ready()).is_good());
    }
    let mut client = Client::over(world.connect(Network::default()));
    let longest = "k".repeat(63);
    assert!(client.login(&Login::normal(TARGET).key(&longest, 1)).contains(&format!("{longest}=NotUnderstood")));
}

/// A connection is lost at the boundary of every PDU while the store holds everything that it was asked for: nothing
/// of it is touched when the store answers after all.
#[test]
fn tgt_7bb239b_a_connection_lost_at_any_pdu_with_work_in_the_store_leaves_nothing() {
    let frames = |client: &mut Client<Wire>| {
        let mut frames = Vec::new();
        for at in 0..4 {
            frames.extend(client.prepare(&Command::write(at * 16, &[at as u8; 4096])));
            frames.extend(client.prepare(&Command::read(at * 16, 8)));
            let tag = client.tag();
            frames.push(Frame::new(client.ping_header(tag), b"here"));
        }
        let abort = client.task_management_header(5, 0, 0);
        frames.push(Frame::new(abort, b""));
        let tag = client.tag();
        frames.push(Frame::new(client.text_header(tag, FINAL, RESERVED_TAG), b"SendTargets=\0"));
        let logout = client.logout_header(0);
        frames.push(Frame::new(logout, b""));
        frames
    };
    for late in [false, true] {
        for count in 0.. {
            let valve = Valve::open();
            let store = Delay::new(Ram::new(512, 2048), valve.clone());
            let world = Shared::new(store, Some(valve.clone()));
            let mut client = session(&world);
            valve.hold();
            let all = frames(&mut client);
            client.send_together(&all[..count]);
            if late {
                // Some of it is answered before.
                valve.release(2);
            }
            client.transport().cut();
            client.capture = sim::Capture::default();
            // A newcomer is served beside what is held.
            let mut other = Client::over(world.connect(Network::default()));
            other.login(&Login::normal(TARGET).isid(7));
            drop(other);
            valve.release_all();
            world.settle();
            assert_eq!((world.tasks(), world.taken_bytes()), (0, 0), "after {count} PDUs");
            if count == all.len() {
                break;
            }
        }
    }
}
