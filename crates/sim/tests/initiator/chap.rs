//! CHP: the initiator believes nobody who does not show what was agreed.

use crate::help::{LAST, entering, lines};
use iscsi::auth::{Account, Algorithm, AuthError, Challenge, Initiator, Secret};
use iscsi::login::initiator::{Authentication, Failure};
use iscsi::wire::LoginRequest;
use sim::scripted::driven::Entry;

const OURS: &str = "alice-secret-12";
const THEIRS: &str = "target-secret-34";

fn account(user: &str, secret: &str) -> Account {
    Account { user: user.into(), secret: Secret::new(secret).unwrap() }
}

fn chap(mutual: bool, algorithms: &[Algorithm]) -> Authentication {
    let challenge = Challenge { identifier: 0x42, bytes: [0x77; 32] };
    let target = mutual.then(|| account("target", THEIRS));
    Authentication::Chap(Box::new(Initiator::new(account("alice", OURS), target, algorithms.to_vec(), challenge)))
}

/// A login up to the response of the initiator; what it said then, and the request.
struct Talk {
    driven: sim::scripted::Driven,
    target: crate::help::Played,
    request: LoginRequest,
    said: String,
}

impl Talk {
    fn begin(mutual: bool, algorithms: &[Algorithm]) -> Talk {
        let (driven, target, request, said) = entering(|wanted| wanted.authentication = chap(mutual, algorithms));
        Talk { driven, target, request, said }
    }

    /// Answers with these keys; false where the initiator says nothing more.
    fn say(&mut self, flags: u8, keys: &[(&str, &str)]) -> bool {
        self.target.answer_login(&self.request, flags, (0, 0), keys);
        let Ok(frame) = self.target.receive() else { return false };
        self.request = *frame.view::<LoginRequest>().expect("a login request");
        self.said = lines(&frame.data);
        true
    }

    /// Up to our response to this challenge.
    fn challenged(mutual: bool, algorithm: &str, identifier: &str, challenge: &str) -> Talk {
        let mut talk = Talk::begin(mutual, &Algorithm::ALL);
        assert!(talk.said.contains("AuthMethod=CHAP\n") && !talk.said.contains("None"), "{}", talk.said);
        assert!(talk.say(0, &[("AuthMethod", "CHAP")]));
        assert!(talk.said.starts_with("CHAP_A="), "{}", talk.said);
        assert!(talk.said.contains('5'), "MD5 is among them");
        talk.say(0, &[("CHAP_A", algorithm), ("CHAP_I", identifier), ("CHAP_C", challenge)]);
        talk
    }

    fn failed(&self) -> Failure {
        match self.driven.entry(0) {
            Entry::Failed(failure) => failure,
            other => panic!("{other:?}"),
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold("0x".to_owned(), |text, byte| text + &format!("{byte:02x}"))
}

#[test]
fn chp_01_chp_05_every_algorithm_is_answered_in_either_encoding() {
    for algorithm in Algorithm::ALL {
        for (challenge, bytes) in [
            ("0x11223344556677889900aabbccddeeff", None),
            ("0bAQIDBAUGBwgJCgsMDQ4PEA==", Some((1..=16).collect::<Vec<u8>>())),
        ] {
            let number = (algorithm as u8).to_string();
            let talk = Talk::challenged(false, &number, "0x2a", challenge);
            let bytes = bytes.unwrap_or_else(|| {
                (2..challenge.len())
                    .step_by(2)
                    .map(|at| u8::from_str_radix(&challenge[at..at + 2], 16).unwrap())
                    .collect()
            });
            let expected = algorithm.response(0x2a, &Secret::new(OURS).unwrap(), &bytes);
            assert!(talk.said.contains("CHAP_N=alice\n"), "{}", talk.said);
            assert!(talk.said.to_lowercase().contains(&format!("chap_r={}", hex(&expected))), "{}", talk.said);
        }
    }
}

#[test]
fn chp_05_challenges_and_identifiers_of_other_sizes_are_refused() {
    let long = hex(&[1; 1025]);
    for (identifier, challenge) in [
        ("256", "0x1122"),
        ("-1", "0x1122"),
        ("", "0x1122"),
        ("1", "1122"),
        ("1", "0xzz"),
        ("1", "0b!!"),
        ("1", ""),
        ("1", &long),
    ] {
        let talk = Talk::challenged(false, "7", identifier, challenge);
        assert!(matches!(talk.failed(), Failure::Authentication(_)), "{identifier} {challenge:.20}");
    }
    let talk = Talk::challenged(false, "7", "255", &hex(&[1; 1024]));
    assert_eq!(talk.driven.entry(0), Entry::UnderWay, "1,024 bytes are taken");
}

#[test]
fn chp_01_an_algorithm_or_a_method_that_was_not_offered_is_refused() {
    for algorithm in ["9", "0", "55", "", "5,7", "x"] {
        let talk = Talk::challenged(false, algorithm, "1", "0x1122");
        assert!(matches!(talk.failed(), Failure::Authentication(_)), "{algorithm}");
    }
    let mut talk = Talk::begin(false, &[Algorithm::Sha256]);
    talk.say(0, &[("AuthMethod", "CHAP")]);
    assert_eq!(talk.said, "CHAP_A=7\n");
    talk.say(0, &[("CHAP_A", "5"), ("CHAP_I", "1"), ("CHAP_C", "0x1122")]);
    assert!(matches!(talk.failed(), Failure::Authentication(_)), "a weaker one than was offered");
    for method in ["None", "KRB5", "Reject", "CHAP,None", ""] {
        let mut talk = Talk::begin(false, &Algorithm::ALL);
        talk.say(0, &[("AuthMethod", method)]);
        assert!(matches!(talk.failed(), Failure::Authentication(AuthError::Failed(_))), "{method}");
    }
}

#[test]
fn chp_06_chp_12_chp_16_a_target_that_does_not_show_who_it_is_is_left_and_nothing_falls_back() {
    let right = |algorithm: Algorithm, challenge: &[u8]| {
        hex(&algorithm.response(0x42, &Secret::new(THEIRS).unwrap(), challenge))
    };
    let algorithm = Algorithm::Sha256;
    let good = right(algorithm, &[0x77; 32]);
    let ours = hex(&algorithm.response(0x42, &Secret::new(OURS).unwrap(), &[0x77; 32]));
    // Nothing, half of it, another name, another secret, our own, a name that looks like a number, a short response.
    let cases: [&[(&str, &str)]; 8] = [
        &[],
        &[("CHAP_N", "target")],
        &[("CHAP_R", &good)],
        &[("CHAP_N", "alice"), ("CHAP_R", &good)],
        &[("CHAP_N", "0x746172676574"), ("CHAP_R", &good)],
        &[("CHAP_N", "target"), ("CHAP_R", &ours)],
        &[("CHAP_N", "target"), ("CHAP_R", &good[..20])],
        &[("CHAP_N", "target"), ("CHAP_R", "0x")],
    ];
    for keys in cases {
        for flags in [0x81, 0x00] {
            let mut talk = Talk::challenged(true, "7", "1", "0x1122334455667788");
            assert!(talk.said.contains("CHAP_I=66\n") && talk.said.contains("CHAP_C=0x"), "{}", talk.said);
            talk.say(flags, keys);
            assert!(matches!(talk.failed(), Failure::Authentication(_)), "{keys:?} {flags:x}");
            assert!(talk.driven.is_closed(0));
        }
    }
    let mut talk = Talk::challenged(true, "7", "1", "0x1122334455667788");
    assert!(talk.say(0x81, &[("CHAP_N", "target"), ("CHAP_R", &good)]), "{:?}", talk.driven.entry(0));
    talk.say(LAST, &[]);
    assert_eq!(talk.driven.entry(0), Entry::In);
    // Past the security stage at once, or past CHAP.
    for flags in [0x81, 0x83] {
        let mut talk = Talk::begin(true, &Algorithm::ALL);
        talk.say(flags, &[("AuthMethod", "CHAP")]);
        assert!(matches!(talk.driven.entry(0), Entry::Failed(_)));
    }
}

#[test]
fn chp_14_our_own_challenge_is_not_answered() {
    let talk = Talk::challenged(true, "7", "66", &hex(&[0x77; 32]));
    assert!(matches!(talk.failed(), Failure::Authentication(AuthError::Failed(_))));
    assert!(!talk.said.contains("CHAP_R"), "{}", talk.said);
}

#[test]
fn chp_18_no_failure_shows_a_secret() {
    let mut talk = Talk::challenged(true, "7", "1", "0x1122");
    talk.say(0x81, &[("CHAP_N", "target"), ("CHAP_R", "0x00")]);
    let said = format!("{:?} {}", talk.failed(), talk.failed());
    assert!(!said.contains(OURS) && !said.contains(THEIRS), "{said}");
    let options = format!("{:?}", chap(true, &Algorithm::ALL));
    assert!(!options.contains(OURS) && !options.contains(THEIRS), "{options}");
}

#[test]
fn chp_10_secrets_of_128_bits_and_longer_are_used_octet_by_octet() {
    for length in [12, 16, 17, 64, 255] {
        let secret: Vec<u8> = (0..length).map(|at| (at as u8).wrapping_mul(37)).collect();
        let account = Account { user: "alice".into(), secret: Secret::new(secret.clone()).unwrap() };
        let challenge = Challenge { identifier: 1, bytes: [0x77; 32] };
        let exchange = Initiator::new(account.clone(), None, vec![Algorithm::Sha256], challenge);
        let (_, mut target, request, _) =
            entering(|wanted| wanted.authentication = Authentication::Chap(Box::new(exchange)));
        target.answer_login(&request, 0, (0, 0), &[("AuthMethod", "CHAP")]);
        let (request, _) = target.expect::<LoginRequest>();
        target.answer_login(&request, 0, (0, 0), &[("CHAP_A", "7"), ("CHAP_I", "9"), ("CHAP_C", "0x0102030405060708")]);
        let (_, data) = target.expect::<LoginRequest>();
        let expected = Algorithm::Sha256.response(9, &account.secret, &[1, 2, 3, 4, 5, 6, 7, 8]);
        assert!(lines(&data).to_lowercase().contains(&format!("chap_r={}", hex(&expected))), "{length} octets");
    }
}
