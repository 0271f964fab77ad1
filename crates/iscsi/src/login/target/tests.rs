//! Whole logins, request by request.

use super::*;
use crate::auth::{Account, Algorithm, Challenge, Initiator, Rules, Secret};

struct Open;
impl Policy for Open {
    fn portal_group_tag(&self) -> u16 {
        1
    }
    fn find(&mut self, asked: &Asked) -> Result<Found, Failure> {
        match asked.target_name.as_deref() {
            None | Some("iqn.2026-01.org.example:disk") => Ok(Found::default()),
            Some(_) => Err(failure(Status::NOT_FOUND, "no such target")),
        }
    }
    fn admit(&mut self, _: &Asked, _: &SessionParameters) -> Result<u16, Failure> {
        Ok(7)
    }
}

const WHO: &[u8] = b"InitiatorName=iqn.2026-01.org.example:client\0";
const DISK: &[u8] = b"TargetName=iqn.2026-01.org.example:disk\0";

fn request(flags: u8, text: &[u8]) -> (LoginRequest, Vec<u8>) {
    let mut request = LoginRequest::empty();
    request.opcode_byte = 0x43;
    request.flags = flags;
    request.isid = [0x40, 0, 0, 1, 0, 0];
    request.initiator_task_tag = 5.into();
    request.cid = 1.into();
    request.cmd_sn = 42.into();
    request.exp_stat_sn = 9.into();
    request.set_data_segment_bytes(text.len() as u32);
    (request, text.to_vec())
}

fn say(login: &mut Login, flags: u8, text: &[u8]) -> (Step, LoginResponse, String) {
    let (request, data) = request(flags, text);
    send(login, &request, &data)
}

fn send(login: &mut Login, request: &LoginRequest, data: &[u8]) -> (Step, LoginResponse, String) {
    let header: &[u8; 48] = request.as_bytes().try_into().unwrap();
    let mut out = Vec::new();
    let step = login.handle(header, data, &mut Open, &mut out);
    let (response, rest) = LoginResponse::read_from_prefix(&out).unwrap();
    let length = response.header().data_segment_bytes() as usize;
    (step, response, String::from_utf8(rest[..length].to_vec()).unwrap().replace('\0', "\n"))
}

fn login() -> Login {
    Login::new(Offers::default(), LoginLimits::default())
}

#[test]
fn log_09_the_operational_stage_alone_makes_a_session() {
    let text = [WHO, DISK, b"HeaderDigest=CRC32C\0InitialR2T=No\0MaxRecvDataSegmentLength=65536\0X-a=1\0"].concat();
    let (step, response, answers) = say(&mut login(), 0x87, &text);
    let Step::Done(logged_in) = step else { panic!("{step:?}") };
    assert_eq!((response.status_class, response.flags, response.tsih.get()), (0, 0x87, 7));
    assert_eq!((response.stat_sn.get(), response.exp_cmd_sn.get()), (9, 42));
    assert_eq!(
        answers,
        "TargetPortalGroupTag=1\nHeaderDigest=CRC32C\nInitialR2T=No\nX-a=NotUnderstood\n\
         MaxRecvDataSegmentLength=262144\n"
    );
    assert_eq!((logged_in.exp_cmd_sn, logged_in.opening.next_stat_sn), (42, 10));
    assert!(logged_in.opening.parameters.header_digest && !logged_in.session.initial_r2t);
    assert_eq!(logged_in.opening.parameters.max_send_data_segment_length, 65_536);
}

#[test]
fn log_07_stages_go_forward_and_t_is_the_initiators() {
    let mut one = login();
    let text = [WHO, DISK, b"AuthMethod=CHAP,None\0"].concat();
    let (step, response, answers) = say(&mut one, 0x00, &text);
    assert!(matches!(step, Step::More));
    assert_eq!((response.flags, response.tsih.get()), (0, 0));
    assert!(answers.ends_with("AuthMethod=None\n"), "{answers}");
    assert_eq!(say(&mut one, 0x81, b"").1.flags, 0x81);
    let (step, ..) = say(&mut one, 0x00, b"");
    assert!(matches!(step, Step::Failed(Failure { status: Status::INITIATOR_ERROR, .. })), "back to security");
    for flags in [0x8c, 0x86, 0x0c] {
        let (step, ..) = say(&mut login(), flags, &[WHO, DISK].concat());
        assert!(matches!(step, Step::Failed(_)), "flags {flags:#x}");
    }
}

#[test]
fn log_13_each_failure_has_its_status() {
    let status = |flags, text: &[u8]| {
        let (step, response, _) = say(&mut login(), flags, text);
        assert!(matches!(step, Step::Failed(_)));
        Status(response.status_class, response.status_detail)
    };
    assert_eq!(status(0x87, DISK), Status::MISSING_PARAMETER);
    assert_eq!(status(0x87, WHO), Status::MISSING_PARAMETER);
    assert_eq!(status(0x87, &[WHO, b"TargetName=iqn.2026-01.org.example:b\0"].concat()), Status::NOT_FOUND);
    assert_eq!(status(0x87, &[WHO, b"SessionType=Other\0"].concat()), Status::SESSION_TYPE_NOT_SUPPORTED);
    assert_eq!(status(0x81, &[WHO, DISK, b"AuthMethod=CHAP\0"].concat()), Status::AUTHENTICATION_FAILURE);
    assert_eq!(status(0x87, &[WHO, DISK, b"SendTargets=All\0"].concat()), Status::INITIATOR_ERROR, "KEY-03");
    assert_eq!(status(0x87, &[WHO, DISK, b"MaxBurstLength=512\0MaxBurstLength=512\0"].concat()), Status(2, 0));
    let (mut request, data) = request(0x87, &[WHO, DISK].concat());
    request.version_min = 1;
    let (_, response, _) = send(&mut login(), &request, &data);
    assert_eq!(Status(response.status_class, response.status_detail), Status::UNSUPPORTED_VERSION);
}

#[test]
fn log_05_identifiers_do_not_change() {
    let changes: [fn(&mut LoginRequest); 4] = [
        |request| request.isid[5] = 1,
        |request| request.tsih = 3.into(),
        |request| request.cid = 2.into(),
        |request| request.initiator_task_tag = 6.into(),
    ];
    for change in changes {
        let mut login = login();
        say(&mut login, 0x00, &[WHO, DISK].concat());
        let (mut request, data) = request(0x00, b"");
        change(&mut request);
        assert!(matches!(send(&mut login, &request, &data).0, Step::Failed(_)));
    }
}

#[test]
fn txt_05_text_may_be_cut_anywhere() {
    let text = [WHO, DISK, b"MaxBurstLength=4096\0ImmediateData=No\0"].concat();
    for cut in 0..text.len() {
        let mut login = login();
        let (step, response, answers) = say(&mut login, 0x44, &text[..cut]);
        assert!(matches!(step, Step::More));
        assert_eq!((response.flags, answers.as_str()), (0x04, ""), "TXT-06");
        let (step, _, _) = say(&mut login, 0x87, &text[cut..]);
        let Step::Done(logged_in) = step else { panic!("cut at {cut}: {step:?}") };
        assert_eq!((logged_in.session.max_burst_length, logged_in.session.first_burst_length), (4096, 4096));
    }
}

#[test]
fn txt_10_answers_longer_than_their_questions_are_split() {
    let mut login = login();
    let mut text = [WHO, DISK].concat();
    text.extend(b"a=b\0".repeat(2000));
    let (step, response, first) = say(&mut login, 0x87, &text);
    assert!(matches!(step, Step::More));
    assert_eq!((response.flags & CONTINUE, first.len()), (CONTINUE, RESPONSE_BYTES));
    let mut all = first;
    for _ in 0..10 {
        let (step, _, more) = say(&mut login, 0x87, b"");
        all += &more;
        if let Step::Done(_) = step {
            assert_eq!(all.matches("a=NotUnderstood").count(), 2000);
            return;
        }
    }
    panic!("the login did not end");
}

/// Found by fuzzing: an empty answer without C between two halves of a pair.
#[test]
fn txt_06_who_asks_on_before_the_answer_is_whole_is_refused() {
    for (flags, more) in [(0x44, &b""[..]), (0x44, b"b=1\0"), (0x87, b"b=1\0")] {
        let mut login = login();
        let text = [WHO, DISK, &b"a=b\0".repeat(1000)].concat();
        let (_, response, _) = say(&mut login, 0x87, &text);
        assert_eq!(response.flags & CONTINUE, CONTINUE);
        let (step, response, answer) = say(&mut login, flags, more);
        assert!(matches!(step, Step::Failed(_)), "{flags:x}");
        assert_eq!((response.status_class, response.status_detail, answer.as_str()), (2, 0, ""));
    }
}

#[test]
fn log_01_and_pdu_06_what_is_no_login_ends_at_once() {
    let header = |opcode: u8, ahs: u8, length: [u8; 3]| {
        let mut bytes = [0u8; 48];
        bytes[0] = opcode;
        bytes[4] = ahs;
        bytes[5..8].copy_from_slice(&length);
        bytes
    };
    assert!(login().data_bytes(&header(0x43, 0, [0, 0, 5])).is_ok_and(|bytes| bytes == 8));
    assert!(login().data_bytes(&header(0x01, 0, [0, 0, 5])).is_err());
    assert!(login().data_bytes(&header(0x43, 1, [0, 0, 5])).is_err());
    assert!(login().data_bytes(&header(0x43, 0, [0, 0x20, 1])).is_err());
}

#[test]
fn txt_19_a_login_without_end_is_ended() {
    let mut login = login();
    say(&mut login, 0x04, &[WHO, DISK].concat());
    let ended = (0..200).find(|_| matches!(say(&mut login, 0x04, b"").0, Step::Failed(_)));
    assert!(ended.is_some_and(|exchanges| exchanges >= 6));
}

/// A target that asks for CHAP.
struct Closed;

impl Policy for Closed {
    fn portal_group_tag(&self) -> u16 {
        7
    }
    fn authentication(&mut self, _: &Asked) -> Result<Option<Rules>, Failure> {
        let account = |user: &str, secret: &str| Account { user: user.into(), secret: Secret::new(secret).unwrap() };
        Ok(Some(Rules {
            algorithms: Algorithm::ALL.to_vec(),
            accounts: [account("alice", "alice-secret-12")].into(),
            own: Some(account("target", "target-secret-34")),
            challenge: Challenge { identifier: 3, bytes: [0x5a; 32] },
        }))
    }
    fn find(&mut self, asked: &Asked) -> Result<Found, Failure> {
        Open.find(asked).map(|_| Found { alias: Some("a secret alias".into()), redirection: None })
    }
    fn admit(&mut self, _: &Asked, _: &SessionParameters) -> Result<u16, Failure> {
        Ok(7)
    }
}

fn say_to(policy: &mut dyn Policy, login: &mut Login, flags: u8, text: &[u8]) -> (Step, LoginResponse, String) {
    let (request, data) = request(flags, text);
    let header: &[u8; 48] = request.as_bytes().try_into().unwrap();
    let mut out = Vec::new();
    let step = login.handle(header, &data, policy, &mut out);
    let (response, rest) = LoginResponse::read_from_prefix(&out).unwrap();
    let length = response.header().data_segment_bytes() as usize;
    (step, response, String::from_utf8(rest[..length].to_vec()).unwrap().replace('\0', "\n"))
}

/// A target that is elsewhere, for everybody or for who has shown who he is.
struct Moved {
    closed: bool,
    own: bool,
}

impl Policy for Moved {
    fn portal_group_tag(&self) -> u16 {
        7
    }
    fn authentication(&mut self, asked: &Asked) -> Result<Option<Rules>, Failure> {
        let rules = Closed.authentication(asked)?;
        Ok(rules.filter(|_| self.closed).map(|rules| Rules { own: rules.own.clone().filter(|_| self.own), ..rules }))
    }
    fn find(&mut self, _: &Asked) -> Result<Found, Failure> {
        let redirection = Redirection { status: Status::MOVED_TEMPORARILY, address: "nas.example.org:3260".into() };
        Ok(Found { alias: Some("an alias".into()), redirection: Some(redirection) })
    }
    fn admit(&mut self, _: &Asked, _: &SessionParameters) -> Result<u16, Failure> {
        panic!("it is elsewhere")
    }
}

#[test]
fn log_15_a_redirection_is_the_answer_to_the_first_request_where_nobody_has_to_show_anything() {
    let mut policy = Moved { closed: false, own: false };
    let (step, response, answers) = say_to(&mut policy, &mut login(), 0x87, &[WHO, DISK].concat());
    assert!(matches!(step, Step::Failed(failure) if failure.is_redirection()));
    assert_eq!((response.status_class, response.status_detail), (1, 1));
    assert_eq!(answers, "TargetAddress=nas.example.org:3260\n", "without a portal group tag");
}

#[test]
fn log_15_a_redirection_comes_after_the_security_stage_and_after_our_own_proof_where_that_is_asked_for() {
    for mutual in [false, true] {
        let mut policy = Moved { closed: true, own: mutual };
        let account = |user: &str, secret: &str| Account { user: user.into(), secret: Secret::new(secret).unwrap() };
        let own = mutual.then(|| account("target", "target-secret-34"));
        let challenge = Challenge { identifier: 1, bytes: [1; 32] };
        let mut initiator =
            Initiator::new(account("alice", "alice-secret-12"), own, vec![Algorithm::Sha256], challenge);
        let mut login = login();
        let mut text = [WHO, DISK, b"AuthMethod=CHAP\0"].concat();
        let mut last = None;
        for flags in [0x00, 0x00, 0x81, 0x87] {
            let (step, response, answers) = say_to(&mut policy, &mut login, flags, &text);
            assert!(!answers.contains("TargetAlias"), "no word of it: {answers}");
            if let Step::Failed(failure) = step {
                assert!(failure.is_redirection(), "{failure:?}");
                last = Some((response.status_class, answers));
                break;
            }
            let mut keys = Keys::default();
            for (key, value) in answers.lines().filter_map(|line| line.split_once('=')) {
                keys.take(key, value);
            }
            text.clear();
            for (key, value) in initiator.handle(keys).unwrap() {
                text::push(&mut text, key, &value);
            }
        }
        assert!(initiator.is_done(), "the initiator has seen who sends it elsewhere");
        assert_eq!(last, Some((1, "TargetAddress=nas.example.org:3260\n".into())));
    }
}

/// A CHAP login of this user against [`Closed`]; what the last step was, and all that was answered.
fn authenticate(user: &str, secret: &str, target: &[u8]) -> (Step, String) {
    let account = Account { user: user.into(), secret: Secret::weak(secret) };
    let own = Account { user: "target".into(), secret: Secret::weak("target-secret-34") };
    let challenge = Challenge { identifier: 1, bytes: [1; 32] };
    let mut initiator = Initiator::new(account, Some(own), vec![Algorithm::Sha256, Algorithm::Md5], challenge);
    let (mut login, mut all) = (login(), String::new());
    let (mut step, _, answers) =
        say_to(&mut Closed, &mut login, 0x81, &[WHO, target, b"AuthMethod=CHAP,None\0"].concat());
    all += &answers;
    let mut heard = String::new();
    for flags in [0x00, 0x81] {
        let mut keys = Keys::default();
        for (key, value) in heard.lines().filter_map(|line| line.split_once('=')) {
            keys.take(key, value);
        }
        let mut text = Vec::new();
        let answer = initiator.handle(keys).unwrap();
        answer.iter().for_each(|(key, value)| text::push(&mut text, key, value));
        assert!(matches!(step, Step::More), "{step:?}");
        (step, _, heard) = say_to(&mut Closed, &mut login, flags, &text);
        all += &heard;
    }
    if let Step::More = step {
        let mut keys = Keys::default();
        for (key, value) in heard.lines().filter_map(|line| line.split_once('=')) {
            keys.take(key, value);
        }
        initiator.handle(keys).expect("the target shows who it is");
        (step, _, heard) = say_to(&mut Closed, &mut login, 0x87, b"MaxBurstLength=4096\0");
        all += &heard;
    }
    (step, all)
}

#[test]
fn chp_01_a_mutual_chap_login_ends_with_the_account() {
    let (step, all) = authenticate("alice", "alice-secret-12", DISK);
    let Step::Done(logged_in) = step else { panic!("{step:?}") };
    assert_eq!(logged_in.account.as_deref(), Some("alice"));
    assert!(all.contains("AuthMethod=CHAP\n") && all.contains("CHAP_A=7\n") && all.contains("CHAP_N=target\n"));
}

#[test]
fn chp_15_who_has_not_shown_who_he_is_learns_nothing() {
    let failed = |step: &Step| match step {
        Step::Failed(failure) => failure.status,
        other => panic!("{other:?}"),
    };
    let (wrong, there) = authenticate("alice", "not-the-secret", DISK);
    let (unknown, _) = authenticate("mallory", "alice-secret-12", DISK);
    let (nowhere, absent) = authenticate("alice", "not-the-secret", b"TargetName=iqn.2026-01.org.example:no\0");
    for step in [&wrong, &unknown, &nowhere] {
        assert_eq!(failed(step), Status::AUTHENTICATION_FAILURE);
    }
    assert_eq!(there, absent, "the same words whether the target is there or not");
    assert!(!there.contains("alias"));
    let (absent, _) = authenticate("alice", "alice-secret-12", b"TargetName=iqn.2026-01.org.example:no\0");
    assert_eq!(failed(&absent), Status::NOT_FOUND, "who has shown it is told the truth");
}

#[test]
fn chp_04_nobody_goes_round_the_security_stage() {
    for (flags, text) in
        [(0x87, &b""[..]), (0x81, b""), (0x83, b""), (0x81, b"AuthMethod=None\0"), (0x00, b"AuthMethod=KRB5,SRP\0")]
    {
        let (step, response, _) = say_to(&mut Closed, &mut login(), flags, &[WHO, DISK, text].concat());
        assert!(matches!(step, Step::Failed(_)), "{flags:#x} {step:?}");
        assert_eq!((response.status_class, response.status_detail), (2, 1));
    }
    let mut login = login();
    let (step, response, _) = say_to(&mut Closed, &mut login, 0x81, &[WHO, DISK, b"AuthMethod=CHAP\0"].concat());
    assert!(matches!(step, Step::More));
    assert_eq!(response.flags, 0, "it stays in the security stage");
    let (step, response, _) = say_to(&mut Closed, &mut login, 0x81, b"");
    assert!(matches!(step, Step::Failed(_)));
    assert_eq!((response.status_class, response.status_detail), (2, 7), "CHAP_A is missing");
    let text = [WHO, DISK, b"CHAP_A=5\0"].concat();
    let (step, ..) = say_to(&mut Closed, &mut self::login(), 0x00, &text);
    assert!(matches!(step, Step::Failed(Failure { status: Status::INITIATOR_ERROR, .. })), "before AuthMethod");
}

#[test]
fn txt_17_the_answer_for_first_burst_length_obeys_max_burst_length() {
    for text in ["FirstBurstLength=262144\0MaxBurstLength=65536\0", "MaxBurstLength=65536\0FirstBurstLength=262144\0"] {
        let (step, _, answers) = say(&mut login(), 0x87, &[WHO, DISK, text.as_bytes()].concat());
        let Step::Done(logged_in) = step else { panic!("{step:?}") };
        assert!(
            answers.contains("FirstBurstLength=65536\n") && answers.contains("MaxBurstLength=65536\n"),
            "{answers}"
        );
        assert_eq!(logged_in.session.first_burst_length, 65_536);
    }
    let mut one = login();
    say(&mut one, 0x04, &[WHO, DISK, b"FirstBurstLength=262144\0"].concat());
    let (step, ..) = say(&mut one, 0x87, b"MaxBurstLength=65536\0");
    assert!(matches!(step, Step::Failed(Failure { status: Status::INITIATOR_ERROR, .. })), "said too late");
}

#[test]
fn key_17_a_connection_that_joins_a_session_cannot_change_it() {
    let (mut first, data) = request(0x87, &[WHO, DISK, b"MaxBurstLength=512\0"].concat());
    first.tsih = 7.into();
    let (step, ..) = send(&mut login(), &first, &data);
    assert!(matches!(step, Step::Failed(Failure { status: Status::INITIATOR_ERROR, .. })), "{step:?}");
}
