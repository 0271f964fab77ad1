//! CHP: CHAP as it goes over the wire (RFC 7143 §9.2, §12.1).

use crate::help::{BLOCKS, normal};
use block::pure::Ram;
use iscsi::auth::{Account, Algorithm, Challenge, Initiator, Keys, Rules, Secret};
use iscsi::text;
use sim::raw::{Client, Login};
use sim::world::{Network, Setup, Shared, Wire};
use sim::{Frame, Refused};
use std::collections::HashMap;

const SECRET: &str = "alice-secret-12";
const OWN: &str = "target-secret-34";

fn account(user: &str, secret: &[u8]) -> Account {
    Account { user: user.into(), secret: Secret::new(secret).unwrap() }
}

fn rules() -> Rules {
    Rules {
        algorithms: Algorithm::ALL.to_vec(),
        accounts: [account("alice", SECRET.as_bytes())].into(),
        own: Some(account("target", OWN.as_bytes())),
        challenge: Challenge { identifier: 0, bytes: [0x5a; 32] },
    }
}

fn guarded(rules: Rules) -> Shared {
    Shared::with(Setup { units: vec![Ram::new(512, BLOCKS)], rules: Some(rules), ..Setup::default() })
}

/// A login that has said AuthMethod=CHAP and goes on by hand.
struct Talk {
    client: Client<Wire>,
    login: Login,
}

impl Talk {
    fn begin(world: &Shared) -> Talk {
        let mut talk = Talk { client: Client::over(world.connect(Network::default())), login: normal() };
        let answer = talk.say(0x00, &[&talk.login.text(), &b"AuthMethod=CHAP\0"[..]].concat()).unwrap();
        assert_eq!(answer.get("AuthMethod").map(String::as_str), Some("CHAP"));
        talk
    }

    fn say(&mut self, flags: u8, text: &[u8]) -> Result<HashMap<String, String>, Refused> {
        let request = self.login.request(flags, self.client.exp_stat_sn);
        let (_, data) = self.client.login_exchange(&Frame::new(request, text))?;
        Ok(text::pairs(&data).flatten().map(|(key, value)| (key.into(), value.into())).collect())
    }

    /// Says this and is refused; the connection is closed behind it.
    fn refused(mut self, flags: u8, text: &[u8]) -> Refused {
        let refused = self.say(flags, text).expect_err("it is let in");
        assert!(self.client.expect_closed().is_empty());
        refused
    }
}

/// The answer of `alice` to a challenge, as text.
fn response(challenge: &HashMap<String, String>, secret: &[u8], user: &str) -> Vec<u8> {
    answer_of(Account { user: user.into(), secret: Secret::weak(secret) }, None, challenge)
}

fn answer_of(account: Account, target: Option<Account>, challenge: &HashMap<String, String>) -> Vec<u8> {
    let own = Challenge { identifier: 7, bytes: [0x33; 32] };
    let mut initiator = Initiator::new(account, target, Algorithm::ALL.to_vec(), own);
    initiator.handle(Keys::default()).unwrap();
    let mut keys = Keys::default();
    for (key, value) in challenge {
        keys.take(key, value);
    }
    let mut text = Vec::new();
    initiator.handle(keys).unwrap().iter().for_each(|(key, value)| text::push(&mut text, key, value));
    text
}

/// A whole login with CHAP; how it ended.
fn log_in(world: &Shared, user: &str, secret: &[u8], offers: &str) -> Result<(), Refused> {
    let mut talk = Talk::begin(world);
    let challenge = talk.say(0x00, format!("CHAP_A={offers}\0").as_bytes())?;
    talk.say(0x81, &response(&challenge, secret, user))?;
    talk.say(0x87, b"").map(drop)
}

#[test]
fn chp_01_one_way_and_mutual_with_whatever_list_has_md5() {
    let world = guarded(rules());
    for offers in ["5", "7,5", "5,6,7,8", "8", "0x5"] {
        assert_eq!(log_in(&world, "alice", SECRET.as_bytes(), offers), Ok(()), "{offers}");
        let mut talk = Talk::begin(&world);
        let challenge = talk.say(0x00, format!("CHAP_A={offers}\0").as_bytes()).unwrap();
        let algorithm = Algorithm::from_number(challenge["CHAP_A"].parse().unwrap()).unwrap();
        let mine = account("alice", SECRET.as_bytes());
        let target = account("target", OWN.as_bytes());
        let answer = talk.say(0x81, &answer_of(mine, Some(target.clone()), &challenge)).unwrap();
        let expected = algorithm.response(7, &target.secret, &[0x33; 32][..algorithm.digest_bytes()]);
        let hex: String = expected.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(answer["CHAP_N"], "target");
        assert_eq!(answer["CHAP_R"].to_lowercase(), format!("0x{hex}"), "{offers}");
        talk.say(0x87, b"").unwrap();
    }
}

#[test]
fn chp_02_an_algorithm_is_one_of_the_list_or_the_login_ends() {
    let world = guarded(rules());
    let long: String = (100..1100).map(|number| format!("{number},")).collect::<String>() + "5";
    for list in ["", "56", "5x", "99", "0", ",", "-5", "5 ", &long] {
        let refused = Talk::begin(&world).refused(0x00, format!("CHAP_A={list}\0").as_bytes());
        assert!([Refused::Status(2, 1), Refused::Status(2, 0)].contains(&refused), "{list:.20}: {refused:?}");
    }
    let chosen = Talk::begin(&world).say(0x00, b"CHAP_A=99,5,7\0").unwrap();
    assert_eq!(chosen["CHAP_A"], "5");
}

#[test]
fn chp_03_weak_algorithms_can_be_excluded() {
    let strong = guarded(Rules { algorithms: vec![Algorithm::Sha256, Algorithm::Sha3_256], ..rules() });
    assert_eq!(log_in(&strong, "alice", SECRET.as_bytes(), "5"), Err(Refused::Status(2, 1)));
    for (offers, chosen) in [("8,7,5", "8"), ("5,7,8", "7"), ("5,8", "8")] {
        assert_eq!(Talk::begin(&strong).say(0x00, format!("CHAP_A={offers}\0").as_bytes()).unwrap()["CHAP_A"], chosen);
        assert_eq!(log_in(&strong, "alice", SECRET.as_bytes(), offers), Ok(()));
    }
}

#[test]
fn chp_04_the_keys_come_in_their_order() {
    let world = guarded(rules());
    let offered = || {
        let mut talk = Talk::begin(&world);
        let challenge = talk.say(0x00, b"CHAP_A=5\0").unwrap();
        (talk, challenge)
    };
    let (talk, _) = offered();
    assert_eq!(talk.refused(0x81, b"CHAP_N=alice\0"), Refused::Status(2, 7), "CHAP_R is missing");
    let (talk, challenge) = offered();
    let whole = response(&challenge, SECRET.as_bytes(), "alice");
    let without_name = whole.splitn(2, |byte| *byte == 0).nth(1).unwrap();
    assert_eq!(talk.refused(0x81, without_name), Refused::Status(2, 7), "CHAP_N is missing");
    assert_eq!(Talk::begin(&world).refused(0x00, b"CHAP_N=alice\0CHAP_R=0x00\0"), Refused::Status(2, 0), "too early");
    assert_eq!(Talk::begin(&world).refused(0x00, b"CHAP_A=5\0CHAP_N=alice\0"), Refused::Status(2, 0));
    let (talk, challenge) = offered();
    assert_eq!(talk.refused(0x81, &response(&challenge, b"another-secret-1", "alice")), Refused::Status(2, 1));
    let (talk, challenge) = offered();
    let again = [&response(&challenge, SECRET.as_bytes(), "alice"), &b"CHAP_A=5\0"[..]].concat();
    assert_eq!(talk.refused(0x81, &again), Refused::Status(2, 0), "CHAP_A a second time");
    let mut client: Client<Wire> = Client::over(world.connect(Network::default()));
    let early = [&normal().text(), &b"CHAP_A=5\0"[..]].concat();
    let refused = client.login_exchange(&Frame::new(normal().request(0x00, 0), &early)).unwrap_err();
    assert_eq!(refused, Refused::Status(2, 0), "before AuthMethod");
}

#[test]
fn chp_05_values_have_their_sizes_in_either_encoding() {
    let world = guarded(rules());
    let challenge_of = |talk: &mut Talk| talk.say(0x00, b"CHAP_A=5\0").unwrap();
    for (identifier, good) in [("0", true), ("255", true), ("0x1F", true), ("256", false), ("-1", false), ("", false)] {
        let mut talk = Talk::begin(&world);
        let challenge = challenge_of(&mut talk);
        let back = format!("CHAP_I={identifier}\0CHAP_C=0x0102030405060708090a0b0c0d0e0f10\0");
        let text = [response(&challenge, SECRET.as_bytes(), "alice"), back.into_bytes()].concat();
        assert_eq!(talk.say(0x81, &text).is_ok(), good, "CHAP_I={identifier}");
    }
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    for right in [true, false] {
        let shapes: [fn(&str) -> String; 7] = [
            |hex| format!("0x{hex}"),
            |hex| format!("0X{}", hex.to_uppercase()),
            |hex| format!("0x{}", &hex[..hex.len() - 2]),
            |hex| format!("0x{hex}00"),
            |hex| format!("0x{}", &hex[1..]),
            |hex| format!("0x{hex}{}", "00".repeat(1010)),
            |hex| hex.to_owned(),
        ];
        for (number, shape) in shapes.into_iter().enumerate() {
            let mut talk = Talk::begin(&world);
            let challenge = challenge_of(&mut talk);
            let secret = if right { SECRET } else { "another-secret-1" };
            let bytes = digest(&challenge, secret);
            let text = format!("CHAP_N=alice\0CHAP_R={}\0", shape(&hex(&bytes)));
            assert_eq!(talk.say(0x81, text.as_bytes()).is_ok(), right && number < 2, "shape {number}");
        }
    }
    // Base64, with its padding, without, and too long.
    for (number, shape) in [
        (|text: String| format!("0b{text}")) as fn(String) -> String,
        |text| format!("0B{text}"),
        |text| format!("0b{}", text.trim_end_matches('=')),
        |text| format!("0b{text}{}", "A".repeat(2000)),
        |text| format!("0b{}!", &text[1..]),
    ]
    .into_iter()
    .enumerate()
    {
        let mut talk = Talk::begin(&world);
        let challenge = challenge_of(&mut talk);
        let text = format!("CHAP_N=alice\0CHAP_R={}\0", shape(base64(&digest(&challenge, SECRET))));
        let taken = talk.say(0x81, text.as_bytes()).is_ok();
        assert!(number == 2 || taken == (number < 2), "base64 shape {number}");
    }
}

/// The bytes of CHAP_R.
fn digest(challenge: &HashMap<String, String>, secret: &str) -> Vec<u8> {
    let text = response(challenge, secret.as_bytes(), "alice");
    let (_, hex) = text::pairs(&text).flatten().find(|(key, _)| *key == "CHAP_R").unwrap();
    let digits = &hex[2..];
    (0..digits.len()).step_by(2).map(|at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap()).collect()
}

fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::new();
    for chunk in bytes.chunks(3) {
        let word = chunk.iter().fold(0u32, |word, byte| word << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
        for at in 0..4 {
            let digit = char::from(ALPHABET[(word >> (18 - 6 * at) & 63) as usize]);
            out.push(if at <= chunk.len() { digit } else { '=' });
        }
    }
    out
}

#[test]
fn chp_06_names_that_look_like_binary_values_are_names() {
    let accounts = ["0xabc", "0bQUJD", "0X00", "a=b,c d"];
    let rules = Rules { accounts: accounts.map(|user| account(user, SECRET.as_bytes())).into(), ..rules() };
    let world = guarded(rules);
    for user in accounts {
        assert_eq!(log_in(&world, user, SECRET.as_bytes(), "5"), Ok(()), "{user}");
    }
    assert_eq!(log_in(&world, "0xABC", SECRET.as_bytes(), "5"), Err(Refused::Status(2, 1)), "case counts");
    assert_eq!(log_in(&world, "ABC", SECRET.as_bytes(), "5"), Err(Refused::Status(2, 1)));
}

#[test]
fn chp_07_a_challenge_is_as_long_as_the_digest_and_new_for_each_login() {
    let world = guarded(rules());
    let mut seen = Vec::new();
    for (algorithm, bytes) in [("5", 16), ("7", 32), ("8", 32), ("5", 16)] {
        let challenge = Talk::begin(&world).say(0x00, format!("CHAP_A={algorithm}\0").as_bytes()).unwrap();
        assert!(challenge["CHAP_C"].len() >= 2 + 2 * bytes, "{challenge:?}");
        let both = (challenge["CHAP_I"].clone(), challenge["CHAP_C"].clone());
        assert!(!seen.contains(&both));
        seen.push(both);
    }
}

#[test]
fn chp_08_one_secret_for_both_directions_is_refused() {
    let same = Rules { own: Some(account("target", SECRET.as_bytes())), ..rules() };
    let world = guarded(same);
    assert_eq!(log_in(&world, "alice", SECRET.as_bytes(), "5"), Err(Refused::Status(2, 1)));
}

#[test]
fn chp_09_a_challenge_that_comes_back_is_not_answered() {
    let world = guarded(rules());
    let mut talk = Talk::begin(&world);
    let challenge = talk.say(0x00, b"CHAP_A=5\0").unwrap();
    let back = format!("CHAP_I={}\0CHAP_C={}\0", challenge["CHAP_I"], challenge["CHAP_C"]);
    let reflected = [response(&challenge, SECRET.as_bytes(), "alice"), back.into_bytes()].concat();
    assert_eq!(talk.refused(0x81, &reflected), Refused::Status(2, 1));
    // On another connection the target answers whoever has shown who it is, with a secret of its own: of no
    // use for the first.
    let mut first = Talk::begin(&world);
    let challenge = first.say(0x00, b"CHAP_A=5\0").unwrap();
    let back = format!("CHAP_I={}\0CHAP_C={}\0", challenge["CHAP_I"], challenge["CHAP_C"]);
    let mut second = Talk::begin(&world);
    let other = second.say(0x00, b"CHAP_A=5\0").unwrap();
    let text = [response(&other, SECRET.as_bytes(), "alice"), back.into_bytes()].concat();
    let answer = second.say(0x81, &text).unwrap();
    let stolen = format!("CHAP_N=alice\0CHAP_R={}\0", answer["CHAP_R"]);
    assert_eq!(first.refused(0x81, stolen.as_bytes()), Refused::Status(2, 1));
    // A recorded answer is of no use for another challenge.
    let mut replayed = Talk::begin(&world);
    replayed.say(0x00, b"CHAP_A=5\0").unwrap();
    let recorded = response(&other, SECRET.as_bytes(), "alice");
    assert_eq!(replayed.refused(0x81, &recorded), Refused::Status(2, 1));
}

#[test]
fn chp_10_secrets_of_128_bits_and_longer_are_taken_octet_by_octet() {
    let mut secrets: Vec<Vec<u8>> =
        [12, 16, 32, 255].map(|length| (0..length).map(|at| at as u8 ^ 0xa5).collect()).into();
    secrets.push(vec![0, 0xff, 0x80, b'\n', b' ', 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0]);
    for secret in &secrets {
        let world = guarded(Rules { accounts: [account("alice", secret)].into(), ..rules() });
        assert_eq!(log_in(&world, "alice", secret, "5"), Ok(()), "{} bytes", secret.len());
        let mut other = secret.clone();
        *other.last_mut().unwrap() ^= 1;
        assert_eq!(log_in(&world, "alice", &other, "5"), Err(Refused::Status(2, 1)), "the last bit counts");
    }
}
