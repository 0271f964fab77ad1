//! The initiator's side of a login: what is wanted in, requests out, until it is done or has failed.
//!
//! The driver sends what [`Login::begin`] gives, reads 48 bytes ([`Login::data_bytes`] says how many
//! follow, bounded), hands both to [`Login::handle`], sends what that gives, and so on. How long it
//! waits is the driver's to say.

use super::Status;
use crate::auth::{AuthError, Initiator as Chap, Keys};
use crate::key::{self, CONSTRAINTS, ConnectionParameters, Offers, Rule, SessionParameters, TaskReporting, When};
use crate::session::{Opening, SessionKind};
use crate::text;
use crate::wire::{BHS_BYTES, CONTINUE, Header, IMMEDIATE, LoginRequest, LoginResponse, Opcode, Pdu, TRANSIT, padding};
use zerocopy::{FromBytes, IntoBytes};

/// Bytes of text in one login response (§13.12, the default that holds during login).
const RESPONSE_BYTES: u32 = 8192;
/// Bytes of text in one login request.
const REQUEST_BYTES: usize = 8192;
/// Bytes of text in all responses together.
const TEXT_BYTES: usize = 64 << 10;
/// Requests of one login.
const EXCHANGES: u32 = 32;
/// Stages (§11.12.3).
const SECURITY: u8 = 0;
const OPERATIONAL: u8 = 1;
const FULL_FEATURE: u8 = 3;

/// Which values of a digest key are proposed, in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DigestOffer {
    /// No digest.
    None,
    /// One if the target has it.
    Preferred,
    /// One only if the target wants it.
    Allowed,
    /// Nothing but CRC32C.
    Required,
}

impl DigestOffer {
    fn list(self) -> &'static str {
        match self {
            DigestOffer::None => "None",
            DigestOffer::Preferred => "CRC32C,None",
            DigestOffer::Allowed => "None,CRC32C",
            DigestOffer::Required => "CRC32C",
        }
    }
}

/// How the initiator shows who it is.
#[derive(Debug)]
pub enum Authentication {
    /// There is no security stage.
    Skipped,
    /// The security stage agrees on `None`.
    None,
    /// CHAP and nothing else.
    Chap(Box<Chap>),
}

/// What is wanted.
#[derive(Debug)]
pub struct Wanted {
    /// InitiatorName.
    pub initiator_name: String,
    /// InitiatorAlias.
    pub initiator_alias: Option<String>,
    /// TargetName; none in an unnamed discovery session.
    pub target_name: Option<String>,
    /// SessionType.
    pub kind: SessionKind,
    /// The initiator's part of the session's identity.
    pub isid: [u8; 6],
    /// The connection within the session.
    pub cid: u16,
    /// For a connection that joins: the session's TSIH, never 0, and what it has agreed on.
    pub joins: Option<(u16, SessionParameters)>,
    /// CmdSN: of the session's first command, or of the next where the connection joins.
    pub cmd_sn: u32,
    /// ExpStatSN of the connection that is taken the place of (§11.12.9), or 0.
    pub exp_stat_sn: u32,
    /// What is proposed.
    pub offers: Offers,
    /// HeaderDigest.
    pub header_digest: DigestOffer,
    /// DataDigest.
    pub data_digest: DigestOffer,
    /// AuthMethod.
    pub authentication: Authentication,
}

/// The end of a login that succeeded.
#[derive(Debug, Clone)]
pub struct LoggedIn {
    /// The session's TSIH.
    pub tsih: u16,
    /// TargetPortalGroupTag, where the target told it.
    pub portal_group_tag: Option<u16>,
    /// TargetAlias.
    pub target_alias: Option<String>,
    /// Number of the first command.
    pub cmd_sn: u32,
    /// What was agreed for the session.
    pub session: SessionParameters,
    /// With what the connection goes on.
    pub opening: Opening,
}

/// How a login stands.
#[derive(Debug)]
pub enum Step {
    /// Send what there is to send; another response is awaited.
    More,
    /// It succeeded.
    Done(Box<LoggedIn>),
    /// The target is elsewhere, for now or for ever: `domainname[:port][,portal-group-tag]` (§11.13.5).
    Redirected {
        /// TargetAddress.
        addresses: Vec<String>,
        /// Status 0102h.
        permanent: bool,
    },
    /// It failed; close.
    Failed(Failure),
}

/// Why a login failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// The target refused it.
    #[error("the target refuses the login with status {:02x}{:02x}", .0.0, .0.1)]
    Refused(Status),
    /// The target broke a rule, or wants what cannot be agreed on.
    #[error("{0}")]
    Target(String),
    /// One of both cannot show who it is.
    #[error(transparent)]
    Authentication(#[from] AuthError),
}

/// A login at the initiator.
#[derive(Debug)]
pub struct Login {
    wanted: Wanted,
    stage: u8,
    /// AuthMethod=CHAP was answered.
    chap_agreed: bool,
    proposed: bool,
    collected: Vec<u8>,
    text_bytes: usize,
    exchanges: u32,
    exp_stat_sn: Option<u32>,
    /// What is still to be said.
    unsaid: Vec<u8>,
    /// The last request asked for the next stage.
    transit: bool,
    seen: Vec<String>,
    session: SessionParameters,
    connection: ConnectionParameters,
    portal_group_tag: Option<u16>,
    target_alias: Option<String>,
    addresses: Vec<String>,
}

fn wrong(why: impl Into<String>) -> Failure {
    Failure::Target(why.into())
}

impl Login {
    /// A login that has said nothing yet.
    pub fn new(wanted: Wanted) -> Login {
        let session = wanted.joins.as_ref().map(|(_, session)| session.clone()).unwrap_or_default();
        let connection = ConnectionParameters {
            max_recv_data_segment_length: wanted.offers.max_recv_data_segment_length,
            ..ConnectionParameters::default()
        };
        let stage = if matches!(wanted.authentication, Authentication::Skipped) { OPERATIONAL } else { SECURITY };
        Login {
            wanted,
            stage,
            chap_agreed: false,
            proposed: false,
            collected: Vec::new(),
            text_bytes: 0,
            exchanges: 0,
            exp_stat_sn: None,
            unsaid: Vec::new(),
            transit: false,
            seen: Vec::new(),
            session,
            connection,
            portal_group_tag: None,
            target_alias: None,
            addresses: Vec::new(),
        }
    }

    /// The first request.
    pub fn begin(&mut self, out: &mut Vec<u8>) {
        let mut said = Vec::new();
        text::push(&mut said, "InitiatorName", &self.wanted.initiator_name);
        if let Some(alias) = &self.wanted.initiator_alias {
            text::push(&mut said, "InitiatorAlias", alias);
        }
        if let Some(target) = &self.wanted.target_name {
            text::push(&mut said, "TargetName", target);
        }
        if self.wanted.joins.is_none() {
            let kind = if self.wanted.kind == SessionKind::Discovery { "Discovery" } else { "Normal" };
            text::push(&mut said, "SessionType", kind);
        }
        match self.wanted.authentication {
            Authentication::Skipped => {}
            Authentication::None => text::push(&mut said, "AuthMethod", "None"),
            Authentication::Chap(_) => text::push(&mut said, "AuthMethod", "CHAP"),
        }
        let transit = !matches!(self.wanted.authentication, Authentication::Chap(_));
        if self.stage == OPERATIONAL {
            self.propose(&mut said);
        }
        self.say(said, transit, out);
    }

    /// How many bytes follow this header, padding included. An error says why the connection is to be
    /// closed at once: what follows cannot be a login.
    pub fn data_bytes(&self, header: &[u8; BHS_BYTES]) -> Result<usize, Failure> {
        let Ok(header) = Header::ref_from_bytes(header) else { return Err(wrong("a header of another size")) };
        let length = header.data_segment_bytes();
        if header.opcode() != Opcode::LoginResponse as u8 {
            return Err(wrong(format!("opcode {:02x}h during login", header.opcode())));
        }
        if header.total_ahs_length != 0 {
            return Err(wrong("additional header segments in a login response"));
        }
        if length > RESPONSE_BYTES {
            return Err(wrong("more than 8,192 bytes of text in one login response"));
        }
        Ok((length + padding(length)) as usize)
    }

    /// Takes a response with its text (padding may stand behind it) and appends the next request's bytes.
    pub fn handle(&mut self, header: &[u8; BHS_BYTES], data: &[u8], out: &mut Vec<u8>) -> Step {
        let Ok(header) = Header::ref_from_bytes(header) else {
            return Step::Failed(wrong("a header of another size"));
        };
        let response = *LoginResponse::view(header);
        let text = data.get(..header.data_segment_bytes() as usize).unwrap_or(data);
        self.response(&response, text, out).unwrap_or_else(Step::Failed)
    }

    fn response(&mut self, response: &LoginResponse, text: &[u8], out: &mut Vec<u8>) -> Result<Step, Failure> {
        self.exchanges += 1;
        self.text_bytes += text.len();
        if self.exchanges > EXCHANGES || self.text_bytes > TEXT_BYTES {
            return Err(wrong("a login without end"));
        }
        // Of a refusal the status alone counts: tgt leaves everything else empty (§11.13.5).
        let same = response.isid == self.wanted.isid && response.initiator_task_tag.get() == 0;
        if response.header().opcode() != Opcode::LoginResponse as u8 || !same && response.status_class < 2 {
            return Err(wrong("not an answer to this login"));
        }
        if response.version_active != 0 {
            return Err(wrong(format!("version {} of the protocol, which nobody asked for", response.version_active)));
        }
        let status = Status(response.status_class, response.status_detail);
        match status.0 {
            0 => {}
            1 => {
                self.collected.extend_from_slice(text);
                self.keys(false, &mut Vec::new())?;
                let addresses = std::mem::take(&mut self.addresses);
                if addresses.is_empty() {
                    return Err(wrong("a redirection to nowhere"));
                }
                return Ok(Step::Redirected { addresses, permanent: status.1 == 2 });
            }
            _ => return Err(Failure::Refused(status)),
        }
        if self.exp_stat_sn.is_some_and(|due| due != response.stat_sn.get()) {
            return Err(wrong("a StatSN out of order during login"));
        }
        self.exp_stat_sn = Some(response.stat_sn.get().wrapping_add(1));
        let (transit, continues) = (response.flags & TRANSIT != 0, response.flags & CONTINUE != 0);
        let (current, next) = (response.flags >> 2 & 3, response.flags & 3);
        if current != self.stage || transit && (continues || !self.transit || next != self.next_stage()) {
            return Err(wrong("a stage that was not asked for"));
        }
        self.collected.extend_from_slice(text);
        if continues {
            self.say(Vec::new(), false, out);
            return Ok(Step::More);
        }
        if !self.unsaid.is_empty() {
            let rest = std::mem::take(&mut self.unsaid);
            self.say(rest, self.transit, out);
            return Ok(Step::More);
        }
        let mut answers = Vec::new();
        self.keys(transit, &mut answers)?;
        if !transit {
            // The security stage is left as soon as we have said all; the operational one at once.
            let ready = self.stage == OPERATIONAL || self.is_authenticating();
            self.say(answers, ready, out);
            return Ok(Step::More);
        }
        if self.stage == SECURITY {
            if let Authentication::Chap(chap) = &self.wanted.authentication
                && !(self.chap_agreed && chap.is_done())
            {
                return Err(AuthError::Failed("the target ends the authentication before it is complete").into());
            }
            self.stage = OPERATIONAL;
            self.propose(&mut answers);
            self.say(answers, true, out);
            return Ok(Step::More);
        }
        self.complete(response)
    }

    fn complete(&mut self, response: &LoginResponse) -> Result<Step, Failure> {
        let tsih = response.tsih.get();
        let right = match &self.wanted.joins {
            Some((joined, _)) => tsih == *joined,
            None => tsih != 0,
        };
        if !right {
            return Err(wrong(format!("TSIH {tsih} is not that of the session")));
        }
        let session = &mut self.session;
        if self.wanted.joins.is_none() {
            CONSTRAINTS.iter().for_each(|constraint| constraint(session));
        }
        Ok(Step::Done(Box::new(LoggedIn {
            tsih,
            portal_group_tag: self.portal_group_tag,
            target_alias: self.target_alias.take(),
            cmd_sn: self.wanted.cmd_sn,
            session: session.clone(),
            opening: Opening {
                cid: self.wanted.cid,
                parameters: self.connection.clone(),
                next_stat_sn: self.exp_stat_sn.unwrap_or_default(),
            },
        })))
    }

    fn next_stage(&self) -> u8 {
        if self.stage == SECURITY { OPERATIONAL } else { FULL_FEATURE }
    }

    /// Whether our half of CHAP has been said, so that only the target's is missing.
    fn is_authenticating(&self) -> bool {
        match &self.wanted.authentication {
            Authentication::Chap(chap) => self.chap_agreed && chap.has_answered(),
            _ => true,
        }
    }

    /// Our side of the operational keys.
    fn propose(&mut self, said: &mut Vec<u8>) {
        if std::mem::replace(&mut self.proposed, true) {
            return;
        }
        let discovery = self.wanted.kind == SessionKind::Discovery;
        let offers = &self.wanted.offers;
        text::push(said, "HeaderDigest", self.wanted.header_digest.list());
        text::push(said, "DataDigest", self.wanted.data_digest.list());
        text::push(said, "MaxRecvDataSegmentLength", &offers.max_recv_data_segment_length.to_string());
        if self.wanted.joins.is_some() {
            return;
        }
        let mut scratch = self.session.clone();
        for key in
            key::KEYS.iter().filter(|key| key.when == When::Leading && !(discovery && key.irrelevant_in_discovery))
        {
            // Peers of RFC 3720 do not know it, and without it the level is 1.
            if key.name == "iSCSIProtocolLevel" && offers.session.protocol_level <= 1 {
                continue;
            }
            let value = match key.rule {
                Rule::Minimum(..) | Rule::Maximum(..) => {
                    key::number_of(key.name, &offers.session, &mut scratch).map(|(ours, _)| ours.to_string())
                }
                // A peer of RFC 3720 does not know it; what we have comes first, what everybody has last (KEY-14).
                Rule::FirstOf if key.name == "TaskReporting" => offers.session.task_reporting.list().map(str::to_owned),
                Rule::Or | Rule::And => key::boolean_of(key.name, &offers.session, &mut scratch)
                    .map(|(ours, _)| if ours { "Yes" } else { "No" }.to_owned()),
                _ => None,
            };
            if let Some(value) = value {
                text::push(said, key.name, &value);
            }
        }
    }

    /// What the target's text says; answers to what it proposes go into `answers`.
    fn keys(&mut self, last: bool, answers: &mut Vec<u8>) -> Result<(), Failure> {
        let collected = std::mem::take(&mut self.collected);
        let mut chap = Keys::default();
        for pair in text::pairs(&collected) {
            let (name, value) = pair.map_err(|error| wrong(error.to_string()))?;
            if name != "TargetAddress" {
                if self.seen.iter().any(|seen| seen == name) {
                    return Err(wrong(format!("{name} came twice")));
                }
                self.seen.push(name.to_owned());
            }
            match name {
                "TargetAddress" => self.addresses.push(value.to_owned()),
                "TargetAlias" => self.target_alias = Some(value.to_owned()),
                "TargetPortalGroupTag" => {
                    let tag = text::number(value).and_then(|tag| u16::try_from(tag).ok());
                    self.portal_group_tag = Some(tag.ok_or_else(|| wrong(format!("{name}={value} is no tag")))?);
                }
                "AuthMethod" => match (&self.wanted.authentication, value) {
                    (Authentication::Chap(_), "CHAP") => self.chap_agreed = true,
                    (Authentication::None, "None") => {}
                    _ => return Err(AuthError::Failed("the target wants another AuthMethod").into()),
                },
                _ if chap.take(name, value) => {}
                _ => self.operational(name, value, last, answers)?,
            }
        }
        if self.stage == SECURITY
            && self.chap_agreed
            && let Authentication::Chap(exchange) = &mut self.wanted.authentication
        {
            for (key, value) in exchange.handle(chap)? {
                // The same keys come from both ends.
                text::push(answers, key, &value);
            }
        } else if !chap.is_empty() {
            return Err(wrong("CHAP keys that nobody asked for"));
        }
        // CHAP's keys may come again in the next response.
        self.seen.retain(|seen| !seen.starts_with("CHAP_"));
        Ok(())
    }

    fn operational(&mut self, name: &str, value: &str, last: bool, answers: &mut Vec<u8>) -> Result<(), Failure> {
        let refused = || Err(wrong(format!("{name}={value} cannot be agreed on")));
        let Some(key) = key::find(name) else {
            match last {
                true => return refused(),
                false => text::push(answers, name, "NotUnderstood"),
            }
            return Ok(());
        };
        match key.rule {
            Rule::Declared => return Ok(()),
            Rule::DeclaredNumber(low, high) => {
                return match text::number(value).and_then(|number| u32::try_from(number).ok()) {
                    Some(length) if (low..=high).contains(&length) => {
                        self.connection.max_send_data_segment_length = length;
                        Ok(())
                    }
                    _ => refused(),
                };
            }
            _ => {}
        }
        let ours = &self.wanted.offers.session;
        let leading = key.when == When::Leading;
        if leading && self.wanted.joins.is_some() || !self.proposed {
            return refused();
        }
        // Its default holds.
        if leading && matches!(value, "Irrelevant" | "NotUnderstood") {
            return Ok(());
        }
        match key.rule {
            Rule::Minimum(low, high) | Rule::Maximum(low, high) => {
                let number = text::number(value).and_then(|number| u32::try_from(number).ok());
                let Some(number) = number.filter(|number| (low..=high).contains(number)) else { return refused() };
                let Some((ours, agreed)) = key::number_of(name, ours, &mut self.session) else { return refused() };
                let legal = if matches!(key.rule, Rule::Minimum(..)) { number <= ours } else { number >= ours };
                if !legal {
                    return refused();
                }
                *agreed = number;
            }
            Rule::Or | Rule::And => {
                let Some((ours, agreed)) = key::boolean_of(name, ours, &mut self.session) else { return refused() };
                let yes = match value {
                    "Yes" => true,
                    "No" => false,
                    _ => return refused(),
                };
                // Our Yes makes an OR, our No an AND, whatever the target says.
                if ours == (key.rule == Rule::Or) && yes != ours {
                    return refused();
                }
                *agreed = yes;
            }
            Rule::FirstOf if name == "TaskReporting" => {
                let offered = ours.task_reporting.list().is_some_and(|list| list.split(',').any(|one| one == value));
                match TaskReporting::from_word(value).filter(|_| offered) {
                    Some(agreed) => self.session.task_reporting = agreed,
                    None => return refused(),
                }
            }
            Rule::FirstOf => {
                let (list, agreed) = match name {
                    "HeaderDigest" => (self.wanted.header_digest.list(), &mut self.connection.header_digest),
                    "DataDigest" => (self.wanted.data_digest.list(), &mut self.connection.data_digest),
                    _ => return refused(),
                };
                if !list.split(',').any(|one| one == value) {
                    return refused();
                }
                *agreed = value == "CRC32C";
            }
            // The target proposes what no one does any more.
            Rule::Refused(answer) if !last => text::push(answers, name, answer),
            _ => return refused(),
        }
        Ok(())
    }

    fn say(&mut self, mut said: Vec<u8>, transit: bool, out: &mut Vec<u8>) {
        let continues = said.len() > REQUEST_BYTES;
        if continues {
            self.unsaid = said.split_off(REQUEST_BYTES);
        }
        let mut request = LoginRequest::empty();
        request.opcode_byte |= IMMEDIATE;
        request.flags = self.stage << 2;
        if continues {
            request.flags |= CONTINUE;
        } else if transit {
            request.flags |= TRANSIT | self.next_stage();
        }
        self.transit = transit;
        request.isid = self.wanted.isid;
        request.tsih = self.wanted.joins.as_ref().map_or(0, |(tsih, _)| *tsih).into();
        request.cid = self.wanted.cid.into();
        request.cmd_sn = self.wanted.cmd_sn.into();
        request.exp_stat_sn = self.exp_stat_sn.unwrap_or(self.wanted.exp_stat_sn).into();
        request.set_data_segment_bytes(said.len() as u32);
        out.extend_from_slice(request.as_bytes());
        out.extend_from_slice(&said);
        out.resize(out.len() + padding(said.len() as u32) as usize, 0);
    }
}

#[cfg(test)]
mod tests;
