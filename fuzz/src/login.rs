//! Login and text negotiation at the target, and behind it text in the full feature phase.
//!
//! Input: a setting, then requests. A request's first byte says how it is built; its text is whatever
//! follows. The harness can answer CHAP rightly, so that what stands behind it is reached.

use iscsi::auth::{Account, Algorithm, Challenge, Rules, Secret};
use iscsi::key::{Offers, SessionParameters};
use iscsi::login::Status;
use iscsi::login::target::{Asked, Failure, Found, LoggedIn, Login, LoginLimits, Policy, Redirection, Step};
use iscsi::session::{ConnectionId, Event, Session, SessionLimits, TxBatch};
use iscsi::text;
use iscsi::wire::{
    BHS_BYTES, CONTINUE, FINAL, IMMEDIATE, LoginRequest, LoginResponse, Pdu, RESERVED_TAG, TRANSIT, TextRequest,
};
use std::sync::LazyLock;
use std::time::Instant;
use zerocopy::{FromBytes, IntoBytes};

use crate::Input;

/// The only account that may log in.
pub const USER: &str = "alice";
const SECRET: &str = "alice-secret-12";
const IDENTIFIER: u8 = 9;
const CHALLENGE: [u8; 32] = [0xa5; 32];
const TARGET: &str = "iqn.2026-01.org.example:disk";

// How a request is built.
/// The next 48 bytes are its header.
const RAW: u8 = 0x01;
/// The right CHAP_N and CHAP_R stand behind its text.
const SHOWS: u8 = 0x02;
/// DataSegmentLength is not that of its text.
const LIES: u8 = 0x04;
/// CmdSN, tag, CID, ISID or version differ from those of the first.
const DIFFERS: u8 = 0x08;

// Settings.
const CHAP: u8 = 0x01;
const NOT_FOUND: u8 = 0x02;
const FULL: u8 = 0x04;
const MUTUAL: u8 = 0x08;
const RECOVERS: u8 = 0x10;
const MOVED: u8 = 0x20;

/// Instants are made from this one.
pub(crate) static BEGUN: LazyLock<Instant> = LazyLock::new(Instant::now);

struct Door {
    setting: u8,
    shown: Option<String>,
    admitted: u32,
}

impl Policy for Door {
    fn portal_group_tag(&self) -> u16 {
        1
    }

    fn authentication(&mut self, _: &Asked) -> Result<Option<Rules>, Failure> {
        let account = |user: &str, secret: &str| Account { user: user.to_owned(), secret: Secret::weak(secret) };
        Ok((self.setting & CHAP != 0).then(|| Rules {
            algorithms: Algorithm::ALL.to_vec(),
            accounts: vec![account(USER, SECRET)].into(),
            own: (self.setting & MUTUAL != 0).then(|| account("target", "target-secret-34")),
            challenge: Challenge { identifier: IDENTIFIER, bytes: CHALLENGE },
        }))
    }

    fn find(&mut self, asked: &Asked) -> Result<Found, Failure> {
        match asked.target_name.as_deref() {
            Some(TARGET) | None if self.setting & NOT_FOUND == 0 => Ok(Found {
                alias: Some("a disk".to_owned()),
                redirection: (self.setting & MOVED != 0).then(|| Redirection {
                    status: Status::MOVED_TEMPORARILY,
                    address: "[2001:db8::1]:3260".to_owned(),
                }),
            }),
            _ => Err(Status::NOT_FOUND.into()),
        }
    }

    fn admit(&mut self, asked: &Asked, session: &SessionParameters) -> Result<u16, Failure> {
        self.admitted += 1;
        assert!(self.setting & CHAP == 0 || self.shown.is_some(), "admitted without having shown who it is");
        assert!(self.setting & NOT_FOUND == 0, "admitted to what is not there");
        assert!(self.setting & MOVED == 0 || asked.target_name.is_none(), "admitted to what is elsewhere");
        assert!((1..=223).contains(&asked.initiator_name.len()));
        legal(session, &offers(self.setting));
        if self.setting & FULL != 0 { Err(Status::OUT_OF_RESOURCES.into()) } else { Ok(asked.tsih.max(7)) }
    }

    fn authenticated(&mut self, _: &Asked, account: &Account) -> Result<(), Failure> {
        self.shown = Some(account.user.clone());
        Ok(())
    }
}

/// Whatever was proposed, what was agreed is legal and within the offer (RFC 7143 §13).
fn legal(session: &SessionParameters, offers: &Offers) {
    assert!((1..=offers.session.max_connections).contains(&session.max_connections));
    assert!((512..1 << 24).contains(&session.max_burst_length));
    assert!((512..=session.max_burst_length).contains(&session.first_burst_length));
    assert!((1..=65_535).contains(&session.max_outstanding_r2t));
    assert!(session.default_time_2_wait <= 3600 && session.default_time_2_retain <= 3600);
    assert!(session.error_recovery_level <= offers.session.error_recovery_level);
}

fn offers(setting: u8) -> Offers {
    let mut offers = Offers::default();
    if setting & RECOVERS != 0 {
        offers.session.error_recovery_level = 2;
        offers.session.max_connections = 4;
    }
    offers
}

/// A login, and text behind it.
pub fn run(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let setting = input.byte();
    let limits = LoginLimits { text_bytes: 16 << 10, exchanges: 16, window: 32, ..LoginLimits::default() };
    let mut login = Login::new(offers(setting), limits);
    let mut door = Door { setting, shown: None, admitted: 0 };
    let mut algorithm = Algorithm::Md5;
    let (mut requests, mut answer) = (0, Vec::new());
    while !input.is_empty() {
        let (header, data) = request(&mut input, algorithm);
        let mut out = Vec::new();
        let expected = match login.data_bytes(&header) {
            Ok(length) => length,
            Err(_) => return,
        };
        assert!(expected <= 8192, "{expected} bytes of a login request");
        let mut data = data;
        data.resize(expected, 0);
        let step = login.handle(&header, &data, &mut door, &mut out);
        requests += 1;
        assert!(requests <= limits.exchanges + 1, "a login without end");
        let response = judge(&out);
        let text = &out[BHS_BYTES..BHS_BYTES + response.header().data_segment_bytes() as usize];
        answer.extend_from_slice(text);
        if response.flags & CONTINUE == 0 && response.status_class == 0 {
            for pair in text::pairs(&std::mem::take(&mut answer)) {
                let (key, value) = pair.expect("what we say is text");
                if key == "CHAP_A" {
                    algorithm = text::number(value).and_then(Algorithm::from_number).expect("one of ours");
                }
            }
        }
        match step {
            Step::More => assert_eq!(response.status_class, 0),
            Step::Failed(failure) => {
                assert_eq!((response.status_class, response.status_detail), (failure.status.0, failure.status.1));
                assert!(failure.status.0 > 0);
                // Where it has gone is told only to those who may know of it.
                assert!(failure.status.0 > 1 || setting & MOVED != 0 && (setting & CHAP == 0 || door.shown.is_some()));
                assert!(!failure.why.contains(SECRET), "a secret in the log");
                return;
            }
            Step::Done(logged_in) => {
                assert_eq!((door.admitted, response.tsih.get()), (1, logged_in.tsih));
                assert_eq!(response.flags & (TRANSIT | 3), TRANSIT | 3);
                return full_feature(*logged_in, input);
            }
        }
    }
}

/// One whole response, bounded, in the ranges of RFC 7143 §11.13.
fn judge(out: &[u8]) -> LoginResponse {
    let header = out.first_chunk::<BHS_BYTES>().expect("every request is answered");
    let response = *LoginResponse::ref_from_bytes(header).expect("48 bytes");
    let length = response.header().data_segment_bytes() as usize;
    assert_eq!(out.len(), BHS_BYTES + length.next_multiple_of(4), "one response for a request");
    assert!(length <= 8192, "{length} bytes of answer");
    assert!(response.status_class < 4);
    assert!(response.status_class <= 1 || length == 0, "a refusal tells nothing");
    assert!(response.flags & (TRANSIT | CONTINUE) != TRANSIT | CONTINUE);
    response
}

/// A request and its text.
fn request(input: &mut Input<'_>, algorithm: Algorithm) -> ([u8; BHS_BYTES], Vec<u8>) {
    let how = input.byte();
    if how & RAW != 0 {
        let header: [u8; BHS_BYTES] = input.array();
        let length = u32::from_be_bytes([0, header[5], header[6], header[7]]).min(1 << 16);
        return (header, input.take(length as usize).to_vec());
    }
    let flags = input.byte();
    let mut header = LoginRequest::empty();
    header.opcode_byte |= IMMEDIATE;
    header.flags = flags;
    header.isid = [0x40, 0, 0, 1, 0, 0];
    header.cid = 1.into();
    header.cmd_sn = 1.into();
    header.initiator_task_tag = 0x10.into();
    if how & DIFFERS != 0 {
        let value = input.byte();
        match value & 7 {
            0 => header.isid[5] = value,
            1 => header.tsih = u16::from(value).into(),
            2 => header.cid = u16::from(value).into(),
            3 => header.initiator_task_tag = u32::from(value).into(),
            4 => header.version_min = value,
            5 => header.version_max = value,
            6 => header.total_ahs_length = value,
            _ => header.opcode_byte = value,
        }
    }
    let mut text = input.counted().to_vec();
    if how & SHOWS != 0 {
        let response = algorithm.response(IDENTIFIER, &Secret::weak(SECRET), &CHALLENGE[..algorithm.digest_bytes()]);
        let hex = response.iter().fold(String::from("0x"), |text, byte| text + &format!("{byte:02x}"));
        text::push(&mut text, "CHAP_N", USER);
        text::push(&mut text, "CHAP_R", &hex);
    }
    header.set_data_segment_bytes(if how & LIES != 0 { u32::from(input.short()) << 4 } else { text.len() as u32 });
    let mut bytes = [0; BHS_BYTES];
    bytes.copy_from_slice(header.as_bytes());
    (bytes, text)
}

/// Text requests of one connection: [`Event::SendTargets`] is answered with two targets.
fn full_feature(logged_in: LoggedIn, mut input: Input<'_>) {
    let (now, opening) = (*BEGUN, logged_in.opening);
    assert!(
        logged_in.asked.kind != iscsi::session::SessionKind::Discovery
            || logged_in.asked.target_name.is_none()
            || !logged_in.asked.initiator_name.is_empty()
    );
    let limits = SessionLimits { window: 32, ..SessionLimits::default() };
    let (mut session, c) =
        Session::new(logged_in.asked.kind, logged_in.session, limits, logged_in.exp_cmd_sn, opening, now);
    let mut transfer_tag = RESERVED_TAG;
    while !input.is_empty() {
        let how = input.byte();
        let mut header = TextRequest::empty();
        header.opcode_byte |= if how & 1 == 0 { IMMEDIATE } else { 0 };
        header.flags = how & (FINAL | CONTINUE);
        header.initiator_task_tag = u32::from(how >> 1 & 1).into();
        header.target_transfer_tag = match how >> 2 & 3 {
            0 => RESERVED_TAG,
            1 | 2 => transfer_tag,
            _ => input.word(),
        }
        .into();
        header.cmd_sn = u32::from(input.byte()).into();
        let text = input.counted();
        header.set_data_segment_bytes(text.len() as u32);
        let Ok(incoming) = session.handle_header(now, c, header.as_bytes(), true) else { return };
        if incoming.length > 0 {
            session.collect(c, text);
            if session.handle_data_end(c, true).is_err() {
                return;
            }
        }
        let mut events = 0;
        while let Some(event) = session.poll_event() {
            events += 1;
            assert!(events <= 2, "events without end");
            if let Event::SendTargets { connection, value } = event {
                assert!(value.len() <= text.len() + (64 << 10));
                session
                    .answer_text(connection, b"TargetName=iqn.2026-01.org.example:disk\0TargetAddress=[::1]:3260,1\0");
            }
        }
        drain(&mut session, c, &mut transfer_tag, text.len());
    }
    assert_eq!(session.tasks(), 0);
}

/// What leaves: text responses and rejects, no longer than the peer takes, and not many.
fn drain(session: &mut Session, c: ConnectionId, transfer_tag: &mut u32, asked: usize) {
    let limit = session.connection_parameters(c).map_or(0, |parameters| parameters.max_send_data_segment_length);
    let mut total = 0;
    loop {
        let mut batch = TxBatch::default();
        session.poll_transmit(c, &mut batch);
        if batch.is_empty() {
            break;
        }
        total += batch.arena.len();
        assert!(total <= 4 * (asked + (96 << 10)), "{total} bytes of answer to {asked}");
        let mut bytes = &batch.arena[..];
        while let Some((first, rest)) = bytes.split_first_chunk::<BHS_BYTES>() {
            let header = iscsi::wire::Header::ref_from_bytes(first).expect("48 bytes");
            let length = header.data_segment_bytes();
            assert!(length <= limit.max(512), "{length} bytes where {limit} are taken");
            if header.opcode() == iscsi::wire::Opcode::TextResponse as u8 {
                *transfer_tag = iscsi::wire::TextResponse::view(header).target_transfer_tag.get();
            }
            // Digests, where they were agreed, stand behind both.
            let parameters = session.connection_parameters(c);
            let (header_digest, data_digest) =
                parameters.map_or((false, false), |p| (p.header_digest, p.data_digest && length > 0));
            let behind =
                4 * usize::from(header_digest) + length.next_multiple_of(4) as usize + 4 * usize::from(data_digest);
            bytes = rest.get(behind..).expect("whole PDUs");
        }
        assert!(bytes.is_empty());
        session.transmitted(&batch);
    }
}
