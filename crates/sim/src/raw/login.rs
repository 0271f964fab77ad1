//! Logging in: what a test asks for, with defaults that suit a target without authentication.

use super::{Client, Ended, Transport};
use crate::frame::Frame;
use iscsi::text;
use iscsi::wire::{CONTINUE, IMMEDIATE, LoginRequest, LoginResponse, Pdu, TRANSIT};
use std::sync::Arc;
use std::sync::atomic::AtomicU32;

/// What a login asks for.
#[derive(Debug, Clone)]
pub struct Login {
    /// InitiatorName.
    pub initiator: String,
    /// TargetName; none in a discovery session.
    pub target: Option<String>,
    /// ISID.
    pub isid: [u8; 6],
    /// TSIH; 0 for a new session.
    pub tsih: u16,
    /// CID.
    pub cid: u16,
    /// CmdSN of the login, and so of the first command.
    pub cmd_sn: u32,
    /// Keys beside the names.
    pub keys: Vec<(String, String)>,
}

/// A login that did not succeed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// With this status class and detail (RFC 7143 §11.13.5).
    Status(u8, u8),
    /// Without an answer.
    Ended(Ended),
}

impl Login {
    /// To this target, as `iqn.2026-01.org.example:client`.
    pub fn normal(target: &str) -> Login {
        Login {
            initiator: "iqn.2026-01.org.example:client".to_owned(),
            target: Some(target.to_owned()),
            isid: [0x40, 0, 0, 1, 0, 0],
            tsih: 0,
            cid: 1,
            cmd_sn: 1,
            keys: Vec::new(),
        }
    }

    /// For discovery.
    pub fn discovery() -> Login {
        Login { target: None, ..Login::normal("") }.key("SessionType", "Discovery")
    }

    /// With one more key.
    pub fn key(mut self, key: &str, value: impl ToString) -> Login {
        self.keys.push((key.to_owned(), value.to_string()));
        self
    }

    /// As another initiator.
    pub fn initiator(self, name: &str) -> Login {
        Login { initiator: name.to_owned(), ..self }
    }

    /// With another ISID, told by its last byte.
    pub fn isid(mut self, last: u8) -> Login {
        self.isid[5] = last;
        self
    }

    /// With CRC32C for headers, for data.
    pub fn digests(self, header: bool, data: bool) -> Login {
        let word = |on| if on { "CRC32C" } else { "None" };
        self.key("HeaderDigest", word(header)).key("DataDigest", word(data))
    }

    /// As a further connection of the session that this client has, under another number.
    pub fn joining<T: Transport>(self, session: &Client<T>, cid: u16) -> Login {
        Login { tsih: session.agreed().tsih, cid, cmd_sn: session.next_cmd_sn(), ..self }
    }

    /// The text of its one request.
    pub fn text(&self) -> Vec<u8> {
        let mut out = Vec::new();
        text::push(&mut out, "InitiatorName", &self.initiator);
        if let Some(target) = &self.target {
            text::push(&mut out, "TargetName", target);
        }
        for (key, value) in &self.keys {
            text::push(&mut out, key, value);
        }
        out
    }

    /// What of it belongs in the security stage: the names, and keys of either stage (RFC 7143 §12).
    pub fn security_text(&self) -> Vec<u8> {
        let keys = self.keys.iter().filter(|(key, _)| !is_operational(key)).cloned().collect();
        Login { keys, ..self.clone() }.text()
    }

    /// What of it belongs in the operational stage.
    pub fn operational_text(&self) -> Vec<u8> {
        let mut out = Vec::new();
        for (key, value) in self.keys.iter().filter(|(key, _)| is_operational(key)) {
            text::push(&mut out, key, value);
        }
        out
    }

    /// A request of it: T, CSG and NSG as `flags` says (87h: operational to full feature).
    pub fn request(&self, flags: u8, exp_stat_sn: u32) -> LoginRequest {
        let mut header = LoginRequest::empty();
        header.opcode_byte |= IMMEDIATE;
        header.flags = flags;
        header.isid = self.isid;
        header.tsih = self.tsih.into();
        header.initiator_task_tag = 0x10.into();
        header.cid = self.cid.into();
        header.cmd_sn = self.cmd_sn.into();
        header.exp_stat_sn = exp_stat_sn.into();
        header
    }
}

fn is_operational(key: &str) -> bool {
    iscsi::key::find(key).is_some_and(iscsi::key::is_operational)
}

impl<T: Transport> Client<T> {
    /// Logs in with the operational stage alone. Returns the text of the answers.
    pub fn try_login(&mut self, login: &Login) -> Result<String, Refused> {
        self.cmd_sn = login.cmd_sn;
        self.cid = login.cid;
        let mut answers = Vec::new();
        let mut question = login.text();
        loop {
            let header = login.request(TRANSIT | 0x04 | 0x03, self.exp_stat_sn);
            let (response, data) = self.login_exchange(&Frame::new(header, &question))?;
            answers.extend(data);
            question.clear();
            if response.flags & (TRANSIT | CONTINUE) == TRANSIT {
                return Ok(String::from_utf8(answers).expect("text").replace('\0', "\n"));
            }
            assert_eq!(response.flags & CONTINUE, CONTINUE, "the target does not go on although all was said");
        }
    }

    /// Prepares for [`Login::joining`] the session of this other client: command numbers are common to both,
    /// and what is agreed for a session holds here too. Task tags tell the connections apart.
    pub fn share<U: Transport>(&mut self, session: &mut Client<U>, cid: u16) {
        let next = session.next_cmd_sn();
        let common = session.common_cmd_sn.get_or_insert_with(|| Arc::new(AtomicU32::new(next)));
        self.common_cmd_sn = Some(Arc::clone(common));
        self.next_tag = u32::from(cid) << 20 | session.next_tag & 0xf_ffff;
        self.capture.join(&session.capture);
    }

    /// Logs in, or the test has failed.
    pub fn login(&mut self, login: &Login) -> String {
        match self.try_login(login) {
            Ok(answers) => answers,
            Err(refused) => panic!("the login fails: {refused:?}\n{}", self.capture.frames()),
        }
    }

    /// One request of a login and its response, which is not a failure.
    pub fn login_exchange(&mut self, frame: &Frame) -> Result<(LoginResponse, Vec<u8>), Refused> {
        self.send(frame);
        let answer = self.receive().map_err(Refused::Ended)?;
        let Some(response) = answer.view::<LoginResponse>() else {
            panic!("a login response expected, got {}", answer.summary())
        };
        match response.status_class {
            0 => Ok((*response, answer.data.clone())),
            class => Err(Refused::Status(class, response.status_detail)),
        }
    }
}
