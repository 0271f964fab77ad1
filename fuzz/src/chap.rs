//! CHAP: both ends, every algorithm, both encodings, against an independent reading of the values.
//!
//! Input: a setting, then messages. Nobody is believed who has not given the right response, whatever
//! else was said before; the decoders here are written once more, slowly.

use crate::Input;
use iscsi::auth::{Account, Algorithm, Challenge, Initiator, Keys, MAXIMUM_BINARY, Rules, Secret, Target};
use iscsi::text;

const SECRETS: [&str; 2] = ["alice-secret-12", "target-secret-34"];
const NAMES: [&str; 2] = ["alice", "target"];
const IDENTIFIERS: [u8; 2] = [9, 200];

fn account(of: usize) -> Account {
    Account { user: NAMES[of].to_owned(), secret: Secret::weak(SECRETS[of]) }
}

fn challenge(of: usize) -> [u8; 32] {
    [0xa5 ^ of as u8; 32]
}

/// One exchange, as the target or as the initiator.
pub fn run(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let setting = input.byte();
    let algorithms: Vec<Algorithm> =
        Algorithm::ALL.into_iter().enumerate().filter(|(n, _)| setting >> n & 1 == 1).map(|(_, a)| a).collect();
    if setting & 0x80 == 0 {
        target(algorithms, setting & 0x40 != 0, input);
    } else {
        initiator(algorithms, setting & 0x40 != 0, input);
    }
}

/// A message: text, behind which the right answer may be put in one of two encodings.
fn message(input: &mut Input<'_>, right: impl Fn(bool) -> String) -> Vec<u8> {
    let how = input.byte();
    let mut message = input.counted().to_vec();
    message.truncate(8192);
    if how & 1 != 0 {
        text::push(&mut message, "CHAP_R", &right(how & 2 != 0));
    }
    if how & 4 != 0 {
        text::push(&mut message, "CHAP_N", NAMES[usize::from(how & 8 != 0)]);
    }
    message
}

fn keys(message: &[u8]) -> Keys<'_> {
    let mut keys = Keys::default();
    for (key, value) in text::pairs(message).flatten() {
        keys.take(key, value);
    }
    keys
}

fn target(algorithms: Vec<Algorithm>, mutual: bool, mut input: Input<'_>) {
    let rules = Rules {
        algorithms: algorithms.clone(),
        accounts: vec![account(0)].into(),
        own: mutual.then(|| account(1)),
        challenge: Challenge { identifier: IDENTIFIERS[0], bytes: challenge(0) },
    };
    let mut target = Target::new(rules);
    let mut chosen: Option<Algorithm> = None;
    for _ in 0..8 {
        if input.is_empty() {
            return;
        }
        let right = |algorithm: Algorithm| {
            algorithm.response(IDENTIFIERS[0], &Secret::weak(SECRETS[0]), &challenge(0)[..algorithm.digest_bytes()])
        };
        let message = message(&mut input, |base64| encode(&right(chosen.unwrap_or(Algorithm::Md5)), base64));
        let keys = keys(&message);
        let was_done = target.is_done();
        let Ok((answer, shown)) = target.handle(keys) else {
            assert!(!target.is_done() || was_done, "done although it failed");
            return;
        };
        bounded(&answer);
        if let Some(name) = shown {
            let algorithm = chosen.expect("an algorithm was chosen before");
            assert!(target.is_done() && name.user == NAMES[0] && keys.name == Some(NAMES[0]));
            assert_eq!(decode(keys.response.unwrap_or("")), Some(right(algorithm)), "believed without the response");
            if let (Some(identifier), Some(asked)) = (keys.identifier, keys.challenge) {
                let asked = decode(asked).expect("a challenge that was answered");
                assert_ne!(asked, challenge(0)[..algorithm.digest_bytes()], "its own challenge answered");
                let identifier = text::number(identifier).and_then(|n| u8::try_from(n).ok()).expect("0 to 255");
                let expected = algorithm.response(identifier, &Secret::weak(SECRETS[1]), &asked);
                assert_eq!(value(&answer, "CHAP_R").and_then(decode), Some(expected));
                assert!(mutual);
            }
        } else {
            assert_eq!(target.is_done(), was_done, "done without an account");
        }
        if let Some(number) = value(&answer, "CHAP_A") {
            let algorithm = text::number(number).and_then(Algorithm::from_number).expect("one of ours");
            assert!(algorithms.contains(&algorithm), "an algorithm that may not be used");
            assert_eq!(value(&answer, "CHAP_C").and_then(decode).map(|c| c.len()), Some(algorithm.digest_bytes()));
            chosen = Some(algorithm);
        }
    }
}

fn initiator(algorithms: Vec<Algorithm>, mutual: bool, mut input: Input<'_>) {
    let own = Challenge { identifier: IDENTIFIERS[1], bytes: challenge(1) };
    let mut initiator = Initiator::new(account(0), mutual.then(|| account(1)), algorithms.clone(), own);
    if initiator.handle(Keys::default()).is_err() {
        return;
    }
    let mut chosen: Option<Algorithm> = None;
    for _ in 0..8 {
        if input.is_empty() {
            return;
        }
        let right = |algorithm: Algorithm| {
            algorithm.response(IDENTIFIERS[1], &Secret::weak(SECRETS[1]), &challenge(1)[..algorithm.digest_bytes()])
        };
        let message = message(&mut input, |base64| encode(&right(chosen.unwrap_or(Algorithm::Md5)), base64));
        let keys = keys(&message);
        let was_done = initiator.is_done();
        let Ok(answer) = initiator.handle(keys) else {
            assert!(!initiator.is_done() || was_done, "done although it failed");
            return;
        };
        bounded(&answer);
        if chosen.is_none() && keys.algorithms.is_some() && !answer.is_empty() {
            chosen = keys.algorithms.and_then(text::number).and_then(Algorithm::from_number);
            assert!(chosen.is_some_and(|algorithm| algorithms.contains(&algorithm)), "not what was offered");
            if mutual {
                assert_ne!(value(&answer, "CHAP_C"), None);
            }
        } else if initiator.is_done() && !was_done && mutual {
            let algorithm = chosen.expect("an algorithm was chosen before");
            assert_eq!(keys.name, Some(NAMES[1]));
            assert_eq!(decode(keys.response.unwrap_or("")), Some(right(algorithm)), "believed without the response");
        }
    }
}

fn value<'a>(answer: &'a [(&'static str, String)], key: &str) -> Option<&'a str> {
    answer.iter().find(|(name, _)| *name == key).map(|(_, value)| value.as_str())
}

/// An answer is a few keys of which none is longer than a hash (or 32 bytes of challenge) in hexadecimal.
fn bounded(answer: &[(&'static str, String)]) {
    assert!(answer.len() <= 4);
    for (key, value) in answer {
        assert!(value.len() <= 2 + 64, "{key} of {} bytes", value.len());
    }
}

/// The bytes of a binary value, read once more.
fn decode(value: &str) -> Option<Vec<u8>> {
    let (prefix, digits) = value.split_at_checked(2)?;
    let bytes = match prefix {
        "0x" | "0X" => {
            let padded = if digits.len() % 2 == 1 { format!("0{digits}") } else { digits.to_owned() };
            let nibbles: Option<Vec<u8>> = padded.chars().map(|c| c.to_digit(16).map(|d| d as u8)).collect();
            nibbles?.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect()
        }
        "0b" | "0B" => base64(digits)?,
        _ => return None,
    };
    (1..=MAXIMUM_BINARY).contains(&bytes.len()).then_some(bytes)
}

const DIGITS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

fn base64(digits: &str) -> Option<Vec<u8>> {
    let digits = digits.trim_end_matches('=').as_bytes();
    let (mut bits, mut held, mut out) = (0u32, 0, Vec::new());
    for digit in digits {
        bits = bits << 6 | DIGITS.iter().position(|known| known == digit)? as u32;
        held += 6;
        if held >= 8 {
            held -= 8;
            out.push((bits >> held) as u8);
        }
    }
    // What is left of the last digit is zero: one value has one text.
    (held < 6 && bits & ((1 << held) - 1) == 0).then_some(out)
}

fn encode(bytes: &[u8], as_base64: bool) -> String {
    if !as_base64 {
        return bytes.iter().fold(String::from("0x"), |text, byte| text + &format!("{byte:02x}"));
    }
    let mut text = String::from("0b");
    for chunk in bytes.chunks(3) {
        let word = chunk.iter().fold(0u32, |word, byte| word << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
        for digit in 0..4 {
            match digit <= chunk.len() {
                true => text.push(char::from(DIGITS[(word >> (18 - 6 * digit) & 63) as usize])),
                false => text.push('='),
            }
        }
    }
    text
}
