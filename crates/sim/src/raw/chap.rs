//! A login with CHAP, as initiators do it: the security stage in three requests, then the operational one.

use super::{Client, Login, Refused, Transport};
use crate::frame::Frame;
use iscsi::auth::{Account, Algorithm, Challenge, Initiator, Keys, Secret};
use iscsi::text;

/// What an initiator shows, and what it asks for.
#[derive(Debug, Clone)]
pub struct Chap {
    account: Account,
    target: Option<Account>,
    algorithms: Vec<Algorithm>,
}

impl Chap {
    /// As this user with this secret, by SHA-256.
    pub fn new(user: &str, secret: &str) -> Chap {
        Chap { account: account(user, secret), target: None, algorithms: vec![Algorithm::Sha256] }
    }

    /// The target has to show that it is this user.
    pub fn mutual(self, user: &str, secret: &str) -> Chap {
        Chap { target: Some(account(user, secret)), ..self }
    }

    /// With these algorithms.
    pub fn algorithms(self, algorithms: &[Algorithm]) -> Chap {
        Chap { algorithms: algorithms.to_vec(), ..self }
    }
}

fn account(user: &str, secret: &str) -> Account {
    Account { user: user.into(), secret: Secret::weak(secret) }
}

impl<T: Transport> Client<T> {
    /// Logs in with CHAP. Returns the text of all answers, a line each.
    pub fn chap_login(&mut self, login: &Login, chap: &Chap) -> Result<String, Refused> {
        self.cmd_sn = login.cmd_sn;
        let challenge = Challenge { identifier: 7, bytes: [0x5a; 32] };
        let mut own = Initiator::new(chap.account.clone(), chap.target.clone(), chap.algorithms.clone(), challenge);
        let mut all = String::new();
        let mut question = login.security_text();
        text::push(&mut question, "AuthMethod", "CHAP");
        // The method, the algorithms, the response with the wish to go on.
        for flags in [0x00, 0x00, 0x81] {
            let frame = Frame::new(login.request(flags, self.exp_stat_sn), &question);
            let (_, data) = self.login_exchange(&frame)?;
            all += &String::from_utf8(data.clone()).expect("text").replace('\0', "\n");
            let mut keys = Keys::default();
            for (key, value) in text::pairs(&data).map_while(Result::ok) {
                keys.take(key, value);
            }
            question.clear();
            if !own.is_done() {
                let answer = own.handle(keys).expect("the target keeps to CHAP");
                answer.iter().for_each(|(key, value)| text::push(&mut question, key, value));
            }
        }
        assert!(own.is_done(), "both have shown who they are");
        question.extend(login.operational_text());
        let (_, data) = self.login_exchange(&Frame::new(login.request(0x87, self.exp_stat_sn), &question))?;
        Ok(all + &String::from_utf8(data).expect("text").replace('\0', "\n"))
    }
}
