//! Whole logins of the one end against the other.

use super::*;
use crate::auth::{Account, Algorithm, Challenge, Rules, Secret};
use crate::login::target;

const TARGET: &str = "iqn.2026-01.org.example:disk";

#[derive(Default)]
struct Policy {
    rules: Option<Rules>,
}

impl target::Policy for Policy {
    fn portal_group_tag(&self) -> u16 {
        3
    }
    fn authentication(&mut self, _: &target::Asked) -> Result<Option<Rules>, target::Failure> {
        Ok(self.rules.clone())
    }
    fn find(&mut self, asked: &target::Asked) -> Result<target::Found, target::Failure> {
        match asked.target_name.as_deref() {
            Some(TARGET) | None => Ok(target::Found { alias: Some("a disk".into()), ..target::Found::default() }),
            _ => Err(Status::NOT_FOUND.into()),
        }
    }
    fn admit(&mut self, asked: &target::Asked, _: &SessionParameters) -> Result<u16, target::Failure> {
        Ok(if asked.tsih == 0 { 9 } else { asked.tsih })
    }
}

fn wanted() -> Wanted {
    let session = SessionParameters { max_burst_length: 65_536, initial_r2t: false, ..Offers::default().session };
    Wanted {
        initiator_name: "iqn.2026-01.org.example:client".into(),
        initiator_alias: None,
        target_name: Some(TARGET.into()),
        kind: SessionKind::Normal,
        isid: [0x80, 1, 2, 3, 4, 5],
        cid: 1,
        joins: None,
        cmd_sn: 77,
        exp_stat_sn: 0,
        offers: Offers { session, max_recv_data_segment_length: 16_384 },
        header_digest: DigestOffer::Preferred,
        data_digest: DigestOffer::None,
        authentication: Authentication::None,
    }
}

/// Both ends to their end; what the initiator made of it, and what the target.
fn run(wanted: Wanted, policy: &mut Policy) -> (Result<LoggedIn, Failure>, Option<Box<target::LoggedIn>>) {
    let mut initiator = Login::new(wanted);
    let mut login = target::Login::new(Offers::default(), target::LoginLimits::default());
    let mut request = Vec::new();
    initiator.begin(&mut request);
    let mut admitted = None;
    for _ in 0..20 {
        let header: &[u8; 48] = request.first_chunk().expect("a request");
        let length = login.data_bytes(header).unwrap();
        let mut response = Vec::new();
        if let target::Step::Done(done) = login.handle(header, &request[48..48 + length], policy, &mut response) {
            admitted = Some(done);
        }
        let header: &[u8; 48] = response.first_chunk().expect("a response");
        let length = initiator.data_bytes(header).unwrap();
        request.clear();
        match initiator.handle(header, &response[48..48 + length], &mut request) {
            Step::More => {}
            Step::Done(done) => return (Ok(*done), admitted),
            Step::Failed(failure) => return (Err(failure), admitted),
            Step::Redirected { .. } => panic!("redirected"),
        }
    }
    panic!("a login without end");
}

#[test]
fn log_01_both_ends_agree_on_the_same() {
    for authentication in [Authentication::None, Authentication::Skipped] {
        let (ours, theirs) = run(Wanted { authentication, ..wanted() }, &mut Policy::default());
        let (ours, theirs) = (ours.unwrap(), theirs.unwrap());
        assert_eq!(ours.session, theirs.session);
        assert_eq!((ours.session.max_burst_length, ours.session.initial_r2t), (65_536, false));
        assert_eq!((ours.tsih, ours.portal_group_tag), (9, Some(3)));
        assert_eq!((ours.cmd_sn, theirs.exp_cmd_sn), (77, 77));
        assert_eq!(ours.opening.next_stat_sn, theirs.opening.next_stat_sn);
        let (near, far) = (&ours.opening.parameters, &theirs.opening.parameters);
        assert!(near.header_digest && far.header_digest && !near.data_digest && !far.data_digest);
        assert_eq!(near.max_recv_data_segment_length, far.max_send_data_segment_length);
        assert_eq!(near.max_send_data_segment_length, far.max_recv_data_segment_length);
    }
}

#[test]
fn ses_02_a_connection_that_joins_brings_its_session_and_no_leading_keys() {
    let session = SessionParameters { max_connections: 4, ..SessionParameters::default() };
    let wanted = Wanted { joins: Some((9, session.clone())), cid: 2, cmd_sn: 500, ..wanted() };
    let (ours, theirs) = run(wanted, &mut Policy::default());
    let (ours, theirs) = (ours.unwrap(), theirs.unwrap());
    assert_eq!((ours.tsih, ours.opening.cid, ours.session), (9, 2, session));
    assert_eq!((theirs.asked.tsih, theirs.asked.cid), (9, 2));
}

#[test]
fn log_11_a_target_that_is_not_there_is_a_status() {
    let wanted = Wanted { target_name: Some("iqn.2026-01.org.example:other".into()), ..wanted() };
    assert_eq!(run(wanted, &mut Policy::default()).0.unwrap_err(), Failure::Refused(Status::NOT_FOUND));
}

fn account(user: &str, secret: &str) -> Account {
    Account { user: user.into(), secret: Secret::new(secret).unwrap() }
}

fn chap(secret: &str, target: Option<&str>) -> Authentication {
    let challenge = Challenge { identifier: 8, bytes: [0x77; 32] };
    let target = target.map(|secret| account("target", secret));
    Authentication::Chap(Box::new(Chap::new(account("alice", secret), target, Algorithm::ALL.to_vec(), challenge)))
}

#[test]
fn chp_01_chap_one_way_and_both_ways() {
    let rules = || Rules {
        algorithms: Algorithm::ALL.to_vec(),
        accounts: [account("alice", "alice-secret-12")].into(),
        own: Some(account("target", "target-secret-34")),
        challenge: Challenge { identifier: 9, bytes: [0xa5; 32] },
    };
    let mut policy = Policy { rules: Some(rules()) };
    for target in [None, Some("target-secret-34")] {
        let wanted = Wanted { authentication: chap("alice-secret-12", target), ..wanted() };
        let (ours, theirs) = run(wanted, &mut policy);
        assert_eq!(theirs.unwrap().account.as_deref(), Some("alice"));
        ours.unwrap();
    }
    let wrong = Wanted { authentication: chap("another-secret-1", None), ..wanted() };
    assert_eq!(run(wrong, &mut policy).0.unwrap_err(), Failure::Refused(Status::AUTHENTICATION_FAILURE));
    let wrong = Wanted { authentication: chap("alice-secret-12", Some("not-the-targets")), ..wanted() };
    assert!(matches!(run(wrong, &mut policy).0, Err(Failure::Authentication(_))));
    // A target that lets anybody in is not the one that a secret was agreed with.
    let wanted = Wanted { authentication: chap("alice-secret-12", None), ..wanted() };
    assert!(run(wanted, &mut Policy::default()).0.is_err());
}

#[test]
fn txt_16_a_result_that_the_proposal_does_not_allow_fails_the_login() {
    for text in ["MaxBurstLength=65537", "DefaultTime2Wait=1", "DataPDUInOrder=No", "HeaderDigest=Reject", "Foo=1"] {
        let mut login = Login::new(Wanted { authentication: Authentication::Skipped, ..wanted() });
        let mut out = Vec::new();
        login.begin(&mut out);
        let mut response = LoginResponse::empty();
        response.flags = TRANSIT | OPERATIONAL << 2 | FULL_FEATURE;
        response.isid = [0x80, 1, 2, 3, 4, 5];
        response.tsih = 1.into();
        let text = format!("{text}\0");
        response.set_data_segment_bytes(text.len() as u32);
        let header: &[u8; 48] = response.as_bytes().try_into().unwrap();
        let step = login.handle(header, text.as_bytes(), &mut out);
        assert!(matches!(step, Step::Failed(Failure::Target(_))), "{text}: {step:?}");
    }
}
