//! iSNS: the messages of whoever takes himself for a server, and the client that keeps an entity registered.
//!
//! Input: records. The harness answers the client's last request with the right transaction where the input
//! does not say otherwise, so that what stands behind a registration is reached.

use crate::Input;
use iscsi::isns::{Action, Client, HEADER_BYTES, Node, Portal, Receiver, Registration, Status, found_targets, objects};
use iscsi::name::Name;
use std::net::SocketAddr;
use std::time::Duration;

const RECORDS: usize = 48;
/// Bytes of a message that is taken.
const LIMIT: usize = 64 << 10;
/// What one thing that happens may have the client do.
const ACTIONS: usize = 8;

/// The decoder with any bytes, then the client.
pub fn run(bytes: &[u8]) {
    decode(bytes);
    client(bytes);
}

/// Whatever is understood is bounded by what came, and is understood the same when it is said again.
fn decode(bytes: &[u8]) {
    let mut receiver = Receiver::new(LIMIT);
    // In pieces, as a stream comes.
    for piece in bytes.chunks(97) {
        receiver.push(piece);
        loop {
            match receiver.take() {
                Err(_) => return,
                Ok(None) => break,
                Ok(Some(message)) => {
                    assert!(message.attributes.len() * 8 <= bytes.len(), "more attributes than bytes");
                    assert!(objects(&message.attributes).len() <= message.attributes.len());
                    assert!(found_targets(&message).len() <= message.attributes.len());
                    let mut again = Receiver::new(4 * LIMIT);
                    again.push(&message.encode());
                    assert_eq!(again.take().ok().flatten().as_ref(), Some(&message), "it is not what it was");
                }
            }
        }
    }
}

fn registration() -> Registration {
    let portal: SocketAddr = "[2001:db8::1]:3260".parse().expect("an address");
    let node = |last: u8| Node {
        name: Name::parse(&format!("iqn.2026-01.org.example:disk{last}")).expect("a name"),
        alias: (last == 1).then(|| "a disk".to_owned()),
        portals: vec![(portal, 1)],
    };
    Registration {
        entity: "entity.example.org".to_owned(),
        period: 120,
        portals: vec![Portal { address: portal, notified_at: Some(3206) }],
        targets: vec![node(1), node(2)],
    }
}

struct Rig {
    client: Client,
    /// Function and transaction of the client's last request.
    asked: [u8; 4],
}

fn client(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let mut now = *crate::login::BEGUN;
    let mut rig = Rig { client: Client::new(now, 7), asked: [0; 4] };
    for _ in 0..RECORDS {
        if input.is_empty() {
            break;
        }
        let kind = input.byte();
        let before = input.rest_bytes();
        match kind & 7 {
            0 => rig.client.handle_connected(now, registration()),
            1 => {
                let answer = rig.answer(&mut input, kind);
                rig.client.handle_bytes(now, &answer);
            }
            2 => rig.client.handle_bytes(now, input.counted()),
            3 => {
                now += Duration::from_secs(u64::from(input.short()));
                rig.client.handle_timeout(now);
                if !rig.client.is_finished() {
                    assert!(rig.client.poll_timeout().is_some_and(|next| next > now), "a timer that does not rest");
                }
            }
            4 => rig.client.handle_closed(now, "closed"),
            5 => {
                let mut receiver = Receiver::new(LIMIT);
                let asked = input.counted();
                receiver.push(asked);
                if let Ok(Some(message)) = receiver.take()
                    && let Some(answer) = rig.client.handle_notification(now, &message)
                {
                    assert!(answer.len() <= HEADER_BYTES + 4096 + 2 * asked.len(), "{} bytes of answer", answer.len());
                    assert_eq!(answer.get(8..10), message.encode().get(8..10), "the transaction of what was asked");
                }
            }
            6 => {
                rig.client.handle_connected(now, registration());
                let answer = rig.answer(&mut input, kind);
                rig.client.handle_bytes(now, &answer);
            }
            _ => rig.client.stop(now),
        }
        rig.poll(before);
    }
    // Whatever happened, it comes to its end.
    rig.client.stop(now);
    for _ in 0..64 {
        rig.poll(0);
        if rig.client.is_finished() {
            return assert_eq!(rig.client.poll_timeout(), None);
        }
        now = rig.client.poll_timeout().expect("it waits for something").max(now);
        rig.client.handle_timeout(now);
    }
    panic!("the client does not end");
}

impl Rig {
    /// Takes what is to be done and to be told, after so many bytes were heard.
    fn poll(&mut self, heard: usize) {
        let mut actions = 0;
        while let Some(action) = self.client.poll_action() {
            actions += 1;
            // And an answer for each message that has come.
            assert!(actions <= ACTIONS + heard / HEADER_BYTES, "{actions} actions for one thing that happened");
            if let Action::Send(bytes) = action {
                assert!(bytes.len() <= LIMIT + HEADER_BYTES, "{} bytes of request", bytes.len());
                let mut receiver = Receiver::new(2 * LIMIT);
                receiver.push(&bytes);
                let request = receiver.take().expect("what we send is a message").expect("a whole one");
                // The server may ask on our connection, and is answered there.
                if !request.function.is_response() {
                    self.asked = [bytes[2], bytes[3], bytes[8], bytes[9]];
                }
            }
        }
        let mut events = 0;
        while self.client.poll_event().is_some() {
            events += 1;
            assert!(events <= 64, "events without end");
        }
    }

    /// An answer to what was asked last: its status, and attributes as they stand in the input.
    fn answer(&self, input: &mut Input<'_>, kind: u8) -> Vec<u8> {
        let status = if kind & 0x10 == 0 { Status::SUCCESSFUL.0 } else { u32::from(input.byte()) };
        let mut payload = status.to_be_bytes().to_vec();
        payload.extend_from_slice(input.counted());
        payload.resize(payload.len().next_multiple_of(4).min(65_532), 0);
        let [high, low, one, two] = self.asked;
        let length = (payload.len() as u16).to_be_bytes();
        // First and last PDU, from the server.
        let flags: u16 = 0x4c00 | if kind & 0x20 == 0 { 0 } else { u16::from(input.byte()) << 8 };
        let transaction = if kind & 0x40 == 0 { [one, two] } else { input.array() };
        let header = [&[0, 1, high | 0x80, low][..], &length, &flags.to_be_bytes(), &transaction, &[0, 0]].concat();
        [header, payload].concat()
    }
}
