//! The exchange itself: what each end makes of the other's CHAP keys.

use super::binary::{decode, encode};
use super::{Account, Algorithm, Secret};
use crate::text::number;
use std::sync::Arc;
use subtle::ConstantTimeEq;

/// The most algorithms of a CHAP_A list that are looked at.
const MAXIMUM_LIST: usize = 16;

/// The CHAP keys of one request or response, as they stood there.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Keys<'a> {
    /// CHAP_A.
    pub algorithms: Option<&'a str>,
    /// CHAP_I.
    pub identifier: Option<&'a str>,
    /// CHAP_C.
    pub challenge: Option<&'a str>,
    /// CHAP_N.
    pub name: Option<&'a str>,
    /// CHAP_R.
    pub response: Option<&'a str>,
}

impl<'a> Keys<'a> {
    /// Takes the pair where it is one of CHAP's keys; tells whether it was.
    pub fn take(&mut self, key: &str, value: &'a str) -> bool {
        let place = match key {
            "CHAP_A" => &mut self.algorithms,
            "CHAP_I" => &mut self.identifier,
            "CHAP_C" => &mut self.challenge,
            "CHAP_N" => &mut self.name,
            "CHAP_R" => &mut self.response,
            _ => return false,
        };
        *place = Some(value);
        true
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        *self == Keys::default()
    }
}

/// Keys to be sent, in order.
pub type Answer = Vec<(&'static str, String)>;

/// Why an exchange ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AuthError {
    /// The peer is not who it must be, or cannot show it.
    #[error("authentication failed: {0}")]
    Failed(&'static str),
    /// A key that must be there is not.
    #[error("{0} is missing")]
    Missing(&'static str),
    /// A key that must not be there, or whose value cannot be.
    #[error("{0}")]
    Wrong(&'static str),
}

/// Random bytes for one login, from a cryptographic source: used once, never again (§9.2.1).
#[derive(Debug, Clone)]
pub struct Challenge {
    /// CHAP_I.
    pub identifier: u8,
    /// CHAP_C: as many of these as the algorithm's digest has, which is at most all.
    pub bytes: [u8; 32],
}

/// What a target asks of an initiator.
#[derive(Debug, Clone)]
pub struct Rules {
    /// The algorithms that may be used. The initiator's order decides among them.
    pub algorithms: Vec<Algorithm>,
    /// Who may show what he knows. Several may have one name.
    pub accounts: Arc<[Account]>,
    /// What the target answers to an initiator that asks back.
    pub own: Option<Account>,
    /// This login's challenge.
    pub challenge: Challenge,
}

/// The target's half.
#[derive(Debug)]
pub struct Target {
    rules: Rules,
    stage: Stage,
    diagnosis: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Algorithms,
    Response(Algorithm),
    Done,
}

impl Target {
    /// Awaits CHAP_A.
    pub fn new(rules: Rules) -> Target {
        Target { rules, stage: Stage::Algorithms, diagnosis: None }
    }

    /// Whether the initiator has shown who it is.
    pub fn is_done(&self) -> bool {
        self.stage == Stage::Done
    }

    /// What was wrong with the last request, for our own log: more than a peer may learn.
    pub fn diagnosis(&self) -> Option<&str> {
        self.diagnosis.as_deref()
    }

    /// Takes the keys of one request. Gives what is to be answered, and the account once it is shown.
    pub fn handle(&mut self, keys: Keys<'_>) -> Result<(Answer, Option<Account>), AuthError> {
        match self.stage {
            Stage::Algorithms => {
                if !(Keys { algorithms: None, ..keys }).is_empty() {
                    return Err(AuthError::Wrong("CHAP keys before an algorithm was chosen"));
                }
                let list = keys.algorithms.ok_or(AuthError::Missing("CHAP_A"))?;
                let algorithm = choose(list, &self.rules.algorithms)
                    .ok_or(AuthError::Failed("none of the algorithms of CHAP_A may be used"));
                let algorithm = algorithm.inspect_err(|_| {
                    let ours: Vec<_> = self.rules.algorithms.iter().map(|algorithm| algorithm.name()).collect();
                    self.diagnosis = Some(format!("CHAP_A={list:.60} has none of {}", ours.join(", ")));
                })?;
                self.stage = Stage::Response(algorithm);
                let answer = vec![
                    ("CHAP_A", (algorithm as u8).to_string()),
                    ("CHAP_I", self.rules.challenge.identifier.to_string()),
                    ("CHAP_C", encode(self.challenge(algorithm))),
                ];
                Ok((answer, None))
            }
            Stage::Response(algorithm) => {
                if keys.algorithms.is_some() {
                    return Err(AuthError::Wrong("CHAP_A a second time"));
                }
                let name = keys.name.ok_or(AuthError::Missing("CHAP_N"))?;
                let response = keys.response.ok_or(AuthError::Missing("CHAP_R"))?;
                let asked_back = match (keys.identifier, keys.challenge) {
                    (None, None) => None,
                    (Some(identifier), Some(challenge)) => Some(self.asked_back(algorithm, identifier, challenge)?),
                    (None, Some(_)) => return Err(AuthError::Missing("CHAP_I")),
                    (Some(_), None) => return Err(AuthError::Missing("CHAP_C")),
                };
                let account = self.check(algorithm, name, response)?;
                self.stage = Stage::Done;
                Ok((asked_back.unwrap_or_default(), Some(account)))
            }
            Stage::Done if keys.is_empty() => Ok((Vec::new(), None)),
            Stage::Done => Err(AuthError::Wrong("CHAP keys after the exchange")),
        }
    }

    fn challenge(&self, algorithm: Algorithm) -> &[u8] {
        let bytes = &self.rules.challenge.bytes;
        bytes.get(..algorithm.digest_bytes()).unwrap_or(bytes)
    }

    /// The answer to the initiator's own challenge.
    fn asked_back(&self, algorithm: Algorithm, identifier: &str, challenge: &str) -> Result<Answer, AuthError> {
        let identifier = parse_identifier(identifier)?;
        let challenge = decode(challenge).map_err(|_| AuthError::Wrong("CHAP_C is no binary value"))?;
        if challenge == self.challenge(algorithm) {
            return Err(AuthError::Failed("the challenge came back"));
        }
        let own = self.rules.own.as_ref();
        let own = own.ok_or(AuthError::Failed("the initiator asks who we are; no account of ours is set for it"))?;
        let response = algorithm.response(identifier, &own.secret, &challenge);
        Ok(vec![("CHAP_N", own.user.clone()), ("CHAP_R", encode(&response))])
    }

    /// An unknown name takes the same way, against a secret that nobody knows, and fails at its end.
    fn check(&mut self, algorithm: Algorithm, name: &str, response: &str) -> Result<Account, AuthError> {
        let wrong = AuthError::Failed("unknown CHAP name or wrong secret");
        let given = decode(response).map_err(|_| AuthError::Failed("CHAP_R is no binary value"))?;
        let challenge = self.challenge(algorithm);
        let nobody = Account { user: String::new(), secret: Secret::weak(self.rules.challenge.bytes.to_vec()) };
        let identifier = self.rules.challenge.identifier;
        let knows = |account: &Account| -> bool {
            algorithm.response(identifier, &account.secret, challenge).ct_eq(&given).into()
        };
        let (mut known, mut shown) = (false, None);
        for account in self.rules.accounts.iter().filter(|account| account.user == name) {
            known = true;
            // Each of them is tried, whichever it is.
            if knows(account) {
                shown = Some(account.clone());
            }
        }
        if !known {
            let _ = knows(&nobody);
        }
        let mirrored: bool = match &self.rules.own {
            Some(own) => knows(own),
            None => false,
        };
        if mirrored {
            return Err(AuthError::Failed("both directions have one secret"));
        }
        if shown.is_none() {
            self.diagnosis = Some(match known {
                true => format!("the secret of CHAP account {name:?} is another than the initiator's"),
                false => format!("there is no CHAP account {name:.255?}"),
            });
        }
        shown.ok_or(wrong)
    }
}

/// The first of the initiator's list that may be used (§12.1.3).
fn choose(list: &str, allowed: &[Algorithm]) -> Option<Algorithm> {
    let numbers = list.split(',').take(MAXIMUM_LIST);
    let mut known = numbers.filter_map(|text| Algorithm::from_number(number(text)?));
    known.find(|algorithm| allowed.contains(algorithm))
}

fn parse_identifier(text: &str) -> Result<u8, AuthError> {
    number(text).and_then(|number| u8::try_from(number).ok()).ok_or(AuthError::Wrong("CHAP_I is not 0 to 255"))
}

/// The initiator's half.
#[derive(Debug)]
pub struct Initiator {
    account: Account,
    /// What the target must show, where it must show something.
    target: Option<Account>,
    algorithms: Vec<Algorithm>,
    challenge: Challenge,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Begin,
    Offered,
    Answered(Algorithm),
    Done,
}

impl Initiator {
    /// `target` makes the authentication mutual. `challenge` is for the target.
    pub fn new(
        account: Account,
        target: Option<Account>,
        algorithms: Vec<Algorithm>,
        challenge: Challenge,
    ) -> Initiator {
        Initiator { account, target, algorithms, challenge, state: State::Begin }
    }

    /// Whether both ends have shown what they must.
    pub fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// Whether it has said all that it has to say; what may be missing is the target's half.
    pub fn has_answered(&self) -> bool {
        matches!(self.state, State::Answered(_) | State::Done)
    }

    /// Takes the keys of the target's last response (none at the beginning), gives those of the next
    /// request.
    pub fn handle(&mut self, keys: Keys<'_>) -> Result<Answer, AuthError> {
        match self.state {
            State::Begin => {
                let list: Vec<String> =
                    self.algorithms.iter().map(|algorithm| (*algorithm as u8).to_string()).collect();
                self.state = State::Offered;
                Ok(vec![("CHAP_A", list.join(","))])
            }
            State::Offered => {
                let algorithm = keys.algorithms.ok_or(AuthError::Missing("CHAP_A"))?;
                let algorithm = number(algorithm).and_then(Algorithm::from_number);
                let algorithm = algorithm
                    .filter(|algorithm| self.algorithms.contains(algorithm))
                    .ok_or(AuthError::Wrong("the target chose an algorithm that was not offered"))?;
                let identifier = parse_identifier(keys.identifier.ok_or(AuthError::Missing("CHAP_I"))?)?;
                let challenge = decode(keys.challenge.ok_or(AuthError::Missing("CHAP_C"))?)
                    .map_err(|_| AuthError::Wrong("CHAP_C is no binary value"))?;
                let response = algorithm.response(identifier, &self.account.secret, &challenge);
                let mut answer = vec![("CHAP_N", self.account.user.clone()), ("CHAP_R", encode(&response))];
                if self.target.is_some() {
                    if challenge == self.own_challenge(algorithm) {
                        return Err(AuthError::Failed("the target sends our own challenge"));
                    }
                    answer.push(("CHAP_I", self.challenge.identifier.to_string()));
                    answer.push(("CHAP_C", encode(self.own_challenge(algorithm))));
                    self.state = State::Answered(algorithm);
                } else {
                    self.state = State::Done;
                }
                Ok(answer)
            }
            State::Answered(algorithm) => {
                let target = self.target.as_ref().ok_or(AuthError::Wrong("nothing was asked"))?;
                let name = keys.name.ok_or(AuthError::Missing("CHAP_N"))?;
                let given = decode(keys.response.ok_or(AuthError::Missing("CHAP_R"))?)
                    .map_err(|_| AuthError::Failed("the target's CHAP_R is no binary value"))?;
                let challenge = self.own_challenge(algorithm);
                let expected = algorithm.response(self.challenge.identifier, &target.secret, challenge);
                let equal: bool = expected.ct_eq(&given).into();
                if !equal || name != target.user {
                    return Err(AuthError::Failed("the target is not the one that was expected"));
                }
                self.state = State::Done;
                Ok(Vec::new())
            }
            State::Done => Ok(Vec::new()),
        }
    }

    fn own_challenge(&self, algorithm: Algorithm) -> &[u8] {
        self.challenge.bytes.get(..algorithm.digest_bytes()).unwrap_or(&self.challenge.bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn account(user: &str, secret: &str) -> Account {
        Account { user: user.into(), secret: Secret::new(secret).unwrap() }
    }

    fn rules() -> Rules {
        Rules {
            algorithms: Algorithm::ALL.to_vec(),
            accounts: [account("alice", "alice-secret-12"), account("0xabc", "another-secret")].into(),
            own: Some(account("target", "target-secret-34")),
            challenge: Challenge { identifier: 9, bytes: [0xa5; 32] },
        }
    }

    fn initiator(user: &str, secret: &str, target: Option<&str>) -> Initiator {
        let target = target.map(|secret| account("target", secret));
        let challenge = Challenge { identifier: 77, bytes: [0x3c; 32] };
        Initiator::new(account(user, secret), target, vec![Algorithm::Md5], challenge)
    }

    fn keys(answer: &Answer) -> Keys<'_> {
        let mut keys = Keys::default();
        answer.iter().for_each(|(key, value)| assert!(keys.take(key, value)));
        keys
    }

    /// The whole exchange; the target's error or the initiator's.
    fn exchange(mut initiator: Initiator, rules: Rules) -> Result<String, AuthError> {
        let mut target = Target::new(rules);
        let mut said = initiator.handle(Keys::default())?;
        for _ in 0..4 {
            let (answer, account) = target.handle(keys(&said))?;
            said = initiator.handle(keys(&answer))?;
            if let Some(account) = account {
                assert!(target.is_done() && initiator.is_done());
                return Ok(account.user);
            }
        }
        panic!("no end");
    }

    #[test]
    fn chp_01_one_way_and_mutual_with_every_algorithm() {
        for algorithm in Algorithm::ALL {
            for mutual in [None, Some("target-secret-34")] {
                let mut initiator = initiator("alice", "alice-secret-12", mutual);
                initiator.algorithms = vec![algorithm];
                assert_eq!(exchange(initiator, rules()).as_deref(), Ok("alice"), "{algorithm:?}");
            }
        }
    }

    #[test]
    fn chp_02_an_algorithm_is_one_of_the_list_in_its_order() {
        let ask = |list: &str, allowed: &[Algorithm]| choose(list, allowed);
        assert_eq!(ask("8,7,5", &Algorithm::ALL), Some(Algorithm::Sha3_256));
        assert_eq!(ask("5,7", &Algorithm::ALL), Some(Algorithm::Md5));
        assert_eq!(ask("5,7", &[Algorithm::Sha256]), Some(Algorithm::Sha256));
        for list in ["", "56", "5x", "99", ",", "-5", &"9,".repeat(1000)] {
            assert_eq!(ask(list, &Algorithm::ALL), None, "{list:.20}");
        }
    }

    #[test]
    fn chp_04_keys_come_in_their_order() {
        let mut target = Target::new(rules());
        let wrong = target.handle(Keys { response: Some("0x00"), ..Keys::default() });
        assert!(matches!(wrong, Err(AuthError::Wrong(_))));
        assert_eq!(target.handle(Keys::default()), Err(AuthError::Missing("CHAP_A")));
        target.handle(Keys { algorithms: Some("5"), ..Keys::default() }).unwrap();
        let name = Keys { name: Some("alice"), ..Keys::default() };
        assert_eq!(target.handle(name), Err(AuthError::Missing("CHAP_R")));
        let response = Keys { response: Some("0x00"), ..Keys::default() };
        assert_eq!(target.handle(response), Err(AuthError::Missing("CHAP_N")));
        let half = Keys { identifier: Some("1"), response: Some("0x00"), ..name };
        assert_eq!(target.handle(half), Err(AuthError::Missing("CHAP_C")));
        let bad = Keys { identifier: Some("256"), challenge: Some("0x01"), response: Some("0x00"), ..name };
        assert!(matches!(target.handle(bad), Err(AuthError::Wrong(_))));
        assert!(!target.is_done());
    }

    #[test]
    fn chp_05_a_response_of_another_length_fails() {
        let mut target = Target::new(rules());
        target.handle(Keys { algorithms: Some("5"), ..Keys::default() }).unwrap();
        let right = Algorithm::Md5.response(9, &Secret::weak("alice-secret-12"), &[0xa5; 16]);
        for response in [&right[..15], &[&right[..], &[0]].concat()[..], &[0; 16]] {
            let (name, response) = (Some("alice"), encode(response));
            let keys = Keys { name, response: Some(&response), ..Keys::default() };
            assert!(matches!(target.handle(keys), Err(AuthError::Failed(_))));
        }
        let response = encode(&right);
        let keys = Keys { name: Some("alice"), response: Some(&response), ..Keys::default() };
        assert_eq!(target.handle(keys), Ok((vec![], Some(account("alice", "alice-secret-12")))));
    }

    #[test]
    fn chp_06_a_name_is_taken_literally() {
        assert_eq!(exchange(initiator("0xabc", "another-secret", None), rules()).as_deref(), Ok("0xabc"));
    }

    #[test]
    fn chp_08_one_secret_for_both_directions_is_refused() {
        let mut rules = rules();
        rules.own = Some(account("target", "alice-secret-12"));
        let outcome = exchange(initiator("alice", "alice-secret-12", Some("alice-secret-12")), rules);
        assert_eq!(outcome, Err(AuthError::Failed("both directions have one secret")));
    }

    #[test]
    fn chp_09_a_challenge_that_comes_back_is_refused() {
        let mut target = Target::new(rules());
        let (answer, _) = target.handle(Keys { algorithms: Some("7"), ..Keys::default() }).unwrap();
        let (identifier, challenge) = (keys(&answer).identifier, keys(&answer).challenge);
        let back = Keys { identifier, challenge, name: Some("alice"), response: Some("0x00"), algorithms: None };
        assert_eq!(target.handle(back), Err(AuthError::Failed("the challenge came back")));
    }

    #[test]
    fn chp_15_an_unknown_name_fails_as_a_wrong_secret_does() {
        let unknown = exchange(initiator("mallory", "alice-secret-12", None), rules());
        let wrong = exchange(initiator("alice", "not-the-secret", None), rules());
        assert_eq!(unknown, wrong);
        assert!(matches!(unknown, Err(AuthError::Failed(_))));
    }

    #[test]
    fn chp_17_accounts_of_one_name_differ_by_their_secrets() {
        let mut rules = rules();
        let other = account("alice", "alices-other-secret");
        rules.accounts = rules.accounts.iter().cloned().chain([other]).collect();
        for secret in ["alice-secret-12", "alices-other-secret"] {
            assert_eq!(exchange(initiator("alice", secret, None), rules.clone()).as_deref(), Ok("alice"));
        }
        assert!(exchange(initiator("alice", "another-secret", None), rules).is_err());
    }

    #[test]
    fn chp_15_only_our_own_log_tells_a_wrong_secret_from_an_unknown_name() {
        let diagnosis = |user: &str| {
            let mut target = Target::new(rules());
            target.handle(Keys { algorithms: Some("5"), ..Keys::default() }).unwrap();
            let keys = Keys { name: Some(user), response: Some("0x00"), ..Keys::default() };
            assert_eq!(target.handle(keys), Err(AuthError::Failed("unknown CHAP name or wrong secret")));
            target.diagnosis().unwrap().to_owned()
        };
        assert_eq!(diagnosis("alice"), "the secret of CHAP account \"alice\" is another than the initiator's");
        assert_eq!(diagnosis("bob"), "there is no CHAP account \"bob\"");
    }

    #[test]
    fn chp_16_an_initiator_does_not_believe_another_target() {
        let outcome = exchange(initiator("alice", "alice-secret-12", Some("another-target!")), rules());
        assert_eq!(outcome, Err(AuthError::Failed("the target is not the one that was expected")));
        let mut rules = rules();
        rules.own = None;
        assert!(exchange(initiator("alice", "alice-secret-12", Some("target-secret-34")), rules).is_err());
    }
}
