//! The target's side of a login: header and text in, response out, until it is done or has failed.
//!
//! The driver reads 48 bytes ([`Login::data_bytes`] says how many follow, bounded), hands both to
//! [`Login::handle`], sends what it gives, and closes the connection when it has failed or its time
//! is over. Nothing is committed before the last response: [`Policy::admit`] is asked once.

mod policy;

pub use policy::{Asked, Failure, Found, LoggedIn, LoginBound, LoginLimits, Policy, Redirection};

use super::Status;
use crate::auth::{AuthError, Keys, Target as Chap};
use crate::key::{self, CONSTRAINTS, ConnectionParameters, Offers, Rule, SessionParameters, When};
use crate::name::Name;
use crate::session::{Opening, SessionKind};
use crate::text;
use crate::wire::{BHS_BYTES, CONTINUE, Header, LoginRequest, LoginResponse, Opcode, Pdu, TRANSIT, padding};
use zerocopy::{FromBytes, IntoBytes};

/// Bytes of text in one login request (§13.12, the default that holds during login).
const REQUEST_BYTES: u32 = 8192;
/// Bytes of text in one login response.
const RESPONSE_BYTES: usize = 8192;
/// Stages (§11.12.3).
const SECURITY: u8 = 0;
const OPERATIONAL: u8 = 1;
const FULL_FEATURE: u8 = 3;

/// How a login stands.
#[derive(Debug)]
pub enum Step {
    /// Another request is awaited.
    More,
    /// It succeeded; the last response is still to be sent.
    Done(Box<LoggedIn>),
    /// It failed; send what there is to send and close.
    Failed(Failure),
}

/// A login at the target.
pub struct Login {
    offers: Offers,
    limits: LoginLimits,
    first: Option<LoginRequest>,
    stage: u8,
    asked: Option<Asked>,
    /// What the initiator will be told instead of success once it has shown who it is.
    refusal: Option<Failure>,
    /// TargetAlias, told as soon as the initiator may know of the target.
    alias: Option<String>,
    /// The authentication that is asked for.
    chap: Option<Chap>,
    /// AuthMethod=CHAP was agreed.
    agreed: bool,
    account: Option<String>,
    seen: Vec<&'static str>,
    collected: Vec<u8>,
    text_bytes: usize,
    keys: usize,
    exchanges: u32,
    stat_sn: u32,
    session: SessionParameters,
    connection: ConnectionParameters,
    pending: Vec<u8>,
    finish: Option<u8>,
}

impl Login {
    /// A login that has heard nothing yet.
    pub fn new(offers: Offers, limits: LoginLimits) -> Login {
        let connection = ConnectionParameters {
            max_recv_data_segment_length: offers.max_recv_data_segment_length,
            ..ConnectionParameters::default()
        };
        Login {
            offers,
            limits,
            first: None,
            stage: SECURITY,
            asked: None,
            refusal: None,
            alias: None,
            chap: None,
            agreed: false,
            account: None,
            seen: Vec::new(),
            collected: Vec::new(),
            text_bytes: 0,
            keys: 0,
            exchanges: 0,
            stat_sn: 0,
            session: SessionParameters::default(),
            connection,
            pending: Vec::new(),
            finish: None,
        }
    }

    /// How many bytes follow this header, padding included. An error says why the connection is to
    /// be closed at once: what follows cannot be a login.
    pub fn data_bytes(&self, header: &[u8; BHS_BYTES]) -> Result<usize, Failure> {
        let Ok(header) = Header::ref_from_bytes(header) else { return Err(refuse("a header of another size")) };
        let length = header.data_segment_bytes();
        if header.opcode() != Opcode::LoginRequest as u8 && self.first.is_none() {
            return Err(refuse("the first PDU is no login request"));
        }
        if header.total_ahs_length != 0 {
            return Err(refuse("additional header segments in a login request"));
        }
        if length > REQUEST_BYTES {
            let why = "more than 8,192 bytes of text in one login request";
            return Err(Failure { bound: Some(LoginBound::RequestBytes), ..refuse(why) });
        }
        Ok((length + padding(length)) as usize)
    }

    /// Takes a request with its text (padding may stand behind it) and appends the response's bytes.
    pub fn handle(
        &mut self,
        header: &[u8; BHS_BYTES],
        data: &[u8],
        policy: &mut dyn Policy,
        out: &mut Vec<u8>,
    ) -> Step {
        let Ok(header) = Header::ref_from_bytes(header) else {
            return Step::Failed(refuse("a header of another size"));
        };
        let request = *LoginRequest::view(header);
        let text = data.get(..header.data_segment_bytes() as usize).unwrap_or(data);
        let outcome = if header.opcode() == Opcode::LoginRequest as u8 {
            self.request(&request, text, policy, out)
        } else {
            Err(failure(Status::INVALID_DURING_LOGIN, "a PDU other than a login request during login"))
        };
        outcome.unwrap_or_else(|failure| {
            let first = self.first.unwrap_or(request);
            let mut response = response_to(&first);
            response.status_class = failure.status.0;
            response.status_detail = failure.status.1;
            let mut text = Vec::new();
            if let Some(address) = &failure.address {
                text::push(&mut text, "TargetAddress", address);
            }
            response.set_data_segment_bytes(text.len() as u32);
            text.resize(text.len() + padding(text.len() as u32) as usize, 0);
            out.extend_from_slice(response.as_bytes());
            out.extend_from_slice(&text);
            Step::Failed(failure)
        })
    }

    fn request(
        &mut self,
        request: &LoginRequest,
        text: &[u8],
        policy: &mut dyn Policy,
        out: &mut Vec<u8>,
    ) -> Result<Step, Failure> {
        self.exchanges += 1;
        self.text_bytes += text.len();
        if self.exchanges > self.limits.exchanges {
            let why = format!("a login of more than {} requests", self.limits.exchanges);
            return Err(Failure { bound: Some(LoginBound::Exchanges), ..refuse(&why) });
        }
        if self.text_bytes > self.limits.text_bytes {
            let why = format!("a login of more than {} bytes of text", self.limits.text_bytes);
            return Err(Failure { bound: Some(LoginBound::TextBytes), ..refuse(&why) });
        }
        if self.account.is_some()
            && let Some(redirection) = self.refusal.take()
        {
            return Err(redirection);
        }
        let (current, next) = (request.current_stage(), request.next_stage());
        let (transit, continues) = (request.flags & TRANSIT != 0, request.flags & CONTINUE != 0);
        if let Some(first) = &self.first {
            let same = first.isid == request.isid
                && first.tsih == request.tsih
                && first.cid == request.cid
                && first.initiator_task_tag == request.initiator_task_tag;
            if !same || request.version_min != first.version_min || request.version_max != first.version_max {
                return Err(failure(Status::INITIATOR_ERROR, "ISID, TSIH, CID, tag or version changed during login"));
            }
        } else {
            if request.version_min > 0 {
                return Err(failure(Status::UNSUPPORTED_VERSION, "version 0 is not among the initiator's"));
            }
            self.first = Some(*request);
            self.stat_sn = request.exp_stat_sn.get();
            self.stage = current;
        }
        if current != self.stage || current > OPERATIONAL {
            return Err(failure(Status::INITIATOR_ERROR, "CSG does not fit the stage of the login"));
        }
        if transit && (continues || next <= current || next == 2) {
            return Err(failure(Status::INITIATOR_ERROR, "NSG does not follow CSG, or T together with C"));
        }
        if !self.pending.is_empty() && (continues || !text.is_empty()) {
            // Who has not heard all of an answer asks for the rest with an empty request (§6.2).
            return Err(failure(Status::INITIATOR_ERROR, "text before the answer to the last was heard"));
        }
        self.stage = current;
        self.collected.extend_from_slice(text);
        if continues {
            self.respond(request, None, &[], false, out);
            return Ok(Step::More);
        }
        let collected = std::mem::take(&mut self.collected);
        let mut answers = std::mem::take(&mut self.pending);
        if answers.is_empty() {
            self.keys(request, &collected, policy, &mut answers)?;
        }
        // A login that has still to show who it is stays in the security stage.
        let transit = transit && self.chap.as_ref().is_none_or(Chap::is_done);
        if request.flags & TRANSIT != 0 && !transit && !self.agreed {
            return Err(failure(
                Status::AUTHENTICATION_FAILURE,
                "it must authenticate itself and offers no AuthMethod",
            ));
        }
        if transit {
            self.finish = Some(next);
        }
        if answers.len() > RESPONSE_BYTES {
            // The rest waits for an empty request (§6.2).
            self.pending = answers.split_off(RESPONSE_BYTES);
            self.respond(request, None, &answers, true, out);
            return Ok(Step::More);
        }
        match self.finish.take().filter(|_| transit) {
            None => {
                self.respond(request, None, &answers, false, out);
                Ok(Step::More)
            }
            Some(FULL_FEATURE) => self.complete(request, &answers, policy, out),
            Some(next) => {
                self.respond(request, Some((next, 0)), &answers, false, out);
                self.stage = next;
                Ok(Step::More)
            }
        }
    }

    fn complete(
        &mut self,
        request: &LoginRequest,
        answers: &[u8],
        policy: &mut dyn Policy,
        out: &mut Vec<u8>,
    ) -> Result<Step, Failure> {
        let Some(asked) = self.asked.clone() else {
            return Err(failure(Status::MISSING_PARAMETER, "no InitiatorName"));
        };
        // What was answered in an earlier request cannot be taken back (TXT-17).
        let session = &mut self.session;
        if self.seen.contains(&"FirstBurstLength") && session.first_burst_length > session.max_burst_length {
            return Err(failure(Status::INITIATOR_ERROR, "FirstBurstLength is above the MaxBurstLength that followed"));
        }
        CONSTRAINTS.iter().for_each(|constraint| constraint(session));
        let tsih = policy.admit(&asked, &self.session)?;
        self.respond(request, Some((FULL_FEATURE, tsih)), answers, false, out);
        Ok(Step::Done(Box::new(LoggedIn {
            tsih,
            portal_group_tag: policy.portal_group_tag(),
            exp_cmd_sn: request.cmd_sn.get(),
            session: self.session.clone(),
            account: self.account.take(),
            opening: Opening { cid: asked.cid, parameters: self.connection.clone(), next_stat_sn: self.stat_sn },
            asked,
        })))
    }

    fn keys(
        &mut self,
        request: &LoginRequest,
        text: &[u8],
        policy: &mut dyn Policy,
        answers: &mut Vec<u8>,
    ) -> Result<(), Failure> {
        let wrong = |why: String| failure(Status::INITIATOR_ERROR, why);
        let mut parsed = Vec::new();
        for pair in text::pairs(text) {
            self.keys += 1;
            if self.keys > self.limits.keys {
                let why = format!("a login of more than {} keys", self.limits.keys);
                return Err(Failure { bound: Some(LoginBound::Keys), ..refuse(&why) });
            }
            parsed.push(pair.map_err(|error| wrong(error.to_string()))?);
        }
        if self.asked.is_none() {
            self.introduce(request, &parsed, policy, answers)?;
        }
        let agreed_before = self.agreed;
        let mut chap_keys = Keys::default();
        let discovery = self.asked.as_ref().is_some_and(|asked| asked.kind == SessionKind::Discovery);
        // These are answered last: FirstBurstLength obeys the MaxBurstLength of the same request, and
        // MaxOutstandingR2T its ErrorRecoveryLevel.
        let last = |name: &str| ["FirstBurstLength", "MaxOutstandingR2T"].contains(&name);
        let (last, first): (Vec<_>, Vec<_>) = parsed.into_iter().partition(|(name, _)| last(name));
        for (name, value) in first.into_iter().chain(last) {
            let Some(key) = key::find(name) else {
                text::push(answers, name, "NotUnderstood");
                continue;
            };
            if self.seen.contains(&key.name) {
                return Err(wrong(format!("{name} was sent twice")));
            }
            self.seen.push(key.name);
            match (key.when, self.stage) {
                (When::FullFeature, _) => return Err(wrong(format!("{name} during login"))),
                (When::Leading, _) if self.asked.as_ref().is_some_and(|asked| asked.tsih != 0) => {
                    return Err(wrong(format!("{name} on a connection that joins a session")));
                }
                // They would be in force before anybody has shown who it is (§6.3, §12).
                (_, SECURITY) if key::is_operational(key) => {
                    return Err(wrong(format!("{name} in the security stage")));
                }
                (When::Security, OPERATIONAL) => return Err(wrong(format!("{name} in the operational stage"))),
                _ => {}
            }
            match key.name {
                "AuthMethod" => {
                    let wanted = if self.chap.is_some() { "CHAP" } else { "None" };
                    if !value.split(',').any(|method| method == wanted) {
                        let why = format!("AuthMethod={wanted} is asked for, the initiator offers {value:.100}");
                        return Err(failure(Status::AUTHENTICATION_FAILURE, why));
                    }
                    self.agreed = self.chap.is_some();
                    text::push(answers, name, wanted);
                }
                name if key::FROM_TARGET.contains(&name) => {
                    return Err(wrong(format!("{name} comes from targets only")));
                }
                _ if chap_keys.take(key.name, value) && !agreed_before => {
                    return Err(wrong(format!("{name} before AuthMethod=CHAP")));
                }
                _ => {}
            }
            if key.rule == Rule::Declared || key.name == "AuthMethod" {
                continue;
            }
            let mut offers = &self.offers;
            let restricted;
            if let Some(session) = self.restricted(key.name) {
                restricted = Offers { session, ..self.offers.clone() };
                offers = &restricted;
            }
            match key::answer(key, value, discovery, offers, &mut self.session, &mut self.connection) {
                Ok(Some(answer)) if key.name == "FirstBurstLength" && answer.parse::<u32>().is_ok() => {
                    let session = &mut self.session;
                    session.first_burst_length = session.first_burst_length.min(session.max_burst_length);
                    text::push(answers, name, &session.first_burst_length.to_string());
                }
                Ok(Some(answer)) => text::push(answers, name, &answer),
                Ok(None) => {}
                Err(key::ReservedWord) => return Err(wrong(format!("{name}={value}: a reserved word is no proposal"))),
            }
        }
        if agreed_before {
            self.authenticate(chap_keys, policy, answers)?;
        }
        if self.stage == OPERATIONAL && !self.seen.contains(&"(declared)") {
            self.seen.push("(declared)");
            let length = self.connection.max_recv_data_segment_length.to_string();
            text::push(answers, "MaxRecvDataSegmentLength", &length);
        }
        Ok(())
    }

    /// What is offered for this key beside what was answered already: several R2Ts of a task and recovery of
    /// data exclude each other as long as sequences come in order (§13.17, TXT-17).
    fn restricted(&self, name: &str) -> Option<SessionParameters> {
        let ours = &self.offers.session;
        match name {
            "MaxOutstandingR2T" if self.session.error_recovery_level > 0 => {
                Some(SessionParameters { max_outstanding_r2t: 1, ..ours.clone() })
            }
            "ErrorRecoveryLevel" if self.session.max_outstanding_r2t > 1 => {
                Some(SessionParameters { error_recovery_level: 0, ..ours.clone() })
            }
            _ => None,
        }
    }

    /// The CHAP keys of a request.
    fn authenticate(&mut self, keys: Keys<'_>, policy: &mut dyn Policy, answers: &mut Vec<u8>) -> Result<(), Failure> {
        let Some(chap) = &mut self.chap else { return Ok(()) };
        let (answer, account) = chap.handle(keys).map_err(|error| {
            let status = match error {
                AuthError::Failed(_) => Status::AUTHENTICATION_FAILURE,
                AuthError::Missing(_) => Status::MISSING_PARAMETER,
                AuthError::Wrong(_) => Status::INITIATOR_ERROR,
            };
            failure(status, chap.diagnosis().map_or_else(|| error.to_string(), str::to_owned))
        })?;
        answer.iter().for_each(|(key, value)| text::push(answers, key, value));
        if let Some(account) = account {
            if let Some(asked) = &self.asked {
                policy.authenticated(asked, &account)?;
            }
            // Whoever asks back hears who we are before he is sent elsewhere: he need not believe others.
            let waits = |refusal: &Failure| refusal.is_redirection() && !answer.is_empty();
            if !self.refusal.as_ref().is_some_and(waits)
                && let Some(refusal) = self.refusal.take()
            {
                return Err(refusal);
            }
            if let Some(alias) = self.alias.take_if(|_| self.refusal.is_none()) {
                text::push(answers, "TargetAlias", &alias);
            }
            self.account = Some(account.user);
        }
        Ok(())
    }

    /// The first request says who wants what (KEY-04).
    fn introduce(
        &mut self,
        request: &LoginRequest,
        pairs: &[(&str, &str)],
        policy: &mut dyn Policy,
        answers: &mut Vec<u8>,
    ) -> Result<(), Failure> {
        let value = |name: &str| pairs.iter().find(|(key, _)| *key == name).map(|(_, value)| *value);
        let missing = |name: &str| failure(Status::MISSING_PARAMETER, format!("no {name} in the first request"));
        let kind = match value("SessionType") {
            None | Some("Normal") => SessionKind::Normal,
            Some("Discovery") => SessionKind::Discovery,
            Some(other) => {
                return Err(failure(Status::SESSION_TYPE_NOT_SUPPORTED, format!("SessionType={other}")));
            }
        };
        let name = |key: &str| -> Result<Option<String>, Failure> {
            let Some(name) = value(key) else { return Ok(None) };
            match Name::lenient(name) {
                Ok(name) => Ok(Some(name.into())),
                Err(error) => Err(failure(Status::INITIATOR_ERROR, format!("{key}: {error}"))),
            }
        };
        let initiator_name = name("InitiatorName")?.ok_or_else(|| missing("InitiatorName"))?;
        let target_name = name("TargetName")?;
        if kind == SessionKind::Normal && target_name.is_none() {
            return Err(missing("TargetName"));
        }
        let asked = Asked {
            initiator_name,
            initiator_alias: value("InitiatorAlias").map(str::to_owned),
            target_name,
            kind,
            isid: request.isid,
            tsih: request.tsih.get(),
            cid: request.cid.get(),
        };
        self.chap = policy.authentication(&asked)?.map(Chap::new);
        if self.chap.is_some() && self.stage == OPERATIONAL {
            return Err(failure(Status::AUTHENTICATION_FAILURE, "it must authenticate itself and skips the stage"));
        }
        let refusal = match policy.find(&asked) {
            Ok(Found { alias, redirection }) => {
                self.alias = alias;
                redirection.map(Failure::from)
            }
            Err(refusal) => Some(refusal),
        };
        match refusal {
            Some(refusal) if self.chap.is_none() => return Err(refusal),
            // Whoever has not shown who he is sees the same first answer, target or not.
            refusal => self.refusal = refusal,
        }
        if asked.target_name.is_some() {
            text::push(answers, "TargetPortalGroupTag", &policy.portal_group_tag().to_string());
            if let Some(alias) = self.alias.take_if(|_| self.chap.is_none()) {
                text::push(answers, "TargetAlias", &alias);
            }
        }
        self.asked = Some(asked);
        Ok(())
    }

    fn respond(
        &mut self,
        request: &LoginRequest,
        transit: Option<(u8, u16)>,
        text: &[u8],
        continues: bool,
        out: &mut Vec<u8>,
    ) {
        let mut response = response_to(request);
        response.flags = self.stage << 2 | if continues { CONTINUE } else { 0 };
        if let Some((next, tsih)) = transit {
            response.flags |= TRANSIT | next;
            if next == FULL_FEATURE {
                response.tsih = tsih.into();
            }
        }
        response.stat_sn = self.stat_sn.into();
        self.stat_sn = self.stat_sn.wrapping_add(1);
        response.exp_cmd_sn = request.cmd_sn;
        response.max_cmd_sn = request.cmd_sn.get().wrapping_add(self.limits.window).wrapping_sub(1).into();
        response.set_data_segment_bytes(text.len() as u32);
        out.extend_from_slice(response.as_bytes());
        out.extend_from_slice(text);
        out.resize(out.len() + padding(text.len() as u32) as usize, 0);
    }
}

fn response_to(request: &LoginRequest) -> LoginResponse {
    let mut response = LoginResponse::empty();
    response.isid = request.isid;
    response.tsih = request.tsih;
    response.initiator_task_tag = request.initiator_task_tag;
    response
}

fn failure(status: Status, why: impl Into<String>) -> Failure {
    Failure::new(status, why)
}

fn refuse(why: &str) -> Failure {
    failure(Status::INITIATOR_ERROR, why)
}

#[cfg(test)]
mod tests;
