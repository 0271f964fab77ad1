//! The target's side of a login: header and text in, response out, until it is done or has failed.
//!
//! The driver reads 48 bytes ([`Login::data_bytes`] says how many follow, bounded), hands both to
//! [`Login::handle`], sends what it gives, and closes the connection when it has failed or its time
//! is over. Nothing is committed before the last response: [`Policy::admit`] is asked once.

use super::Status;
use crate::key::{self, CONSTRAINTS, ConnectionParameters, Offers, Rule, SessionParameters, When};
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

/// What bounds a login.
#[derive(Debug, Clone, Copy)]
pub struct LoginLimits {
    /// Bytes of text in all requests together.
    pub text_bytes: usize,
    /// Requests.
    pub exchanges: u32,
    /// Sessions' command window, told as MaxCmdSN.
    pub window: u32,
}

impl Default for LoginLimits {
    fn default() -> Self {
        LoginLimits { text_bytes: 64 << 10, exchanges: 64, window: 128 }
    }
}

/// Who wants what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// InitiatorName, in lower case.
    pub initiator_name: String,
    /// InitiatorAlias.
    pub initiator_alias: Option<String>,
    /// TargetName, in lower case; always there in a normal session.
    pub target_name: Option<String>,
    /// SessionType.
    pub kind: SessionKind,
    /// The initiator's part of the session's identity.
    pub isid: [u8; 6],
    /// The target's part; 0 for a new session.
    pub tsih: u16,
    /// The connection.
    pub cid: u16,
}

/// What the target says of itself before anything is agreed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// TargetPortalGroupTag.
    pub portal_group_tag: u16,
    /// TargetAlias.
    pub alias: Option<String>,
}

/// What only the application knows.
pub trait Policy {
    /// Whether this target is there for this initiator.
    fn find(&mut self, asked: &Asked) -> Result<Found, Status>;
    /// The login is complete: make the session, or refuse. Returns its TSIH, which is not 0.
    fn admit(&mut self, asked: &Asked, session: &SessionParameters) -> Result<u16, Status>;
}

/// The end of a login that succeeded.
#[derive(Debug, Clone)]
pub struct LoggedIn {
    /// Who, and for what.
    pub asked: Asked,
    /// The session's TSIH.
    pub tsih: u16,
    /// TargetPortalGroupTag; 1 in a discovery session without a target.
    pub portal_group_tag: u16,
    /// Number of the first command.
    pub exp_cmd_sn: u32,
    /// What was agreed for the session.
    pub session: SessionParameters,
    /// With what the connection goes on.
    pub opening: Opening,
}

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

/// Why a login failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// What the initiator was told.
    pub status: Status,
    /// For the log.
    pub why: String,
}

/// A login at the target.
pub struct Login {
    offers: Offers,
    limits: LoginLimits,
    first: Option<LoginRequest>,
    stage: u8,
    asked: Option<Asked>,
    found: Option<Found>,
    seen: Vec<&'static str>,
    collected: Vec<u8>,
    text_bytes: usize,
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
            found: None,
            seen: Vec::new(),
            collected: Vec::new(),
            text_bytes: 0,
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
            return Err(refuse("more than 8,192 bytes of text in one login request"));
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
            out.extend_from_slice(response.as_bytes());
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
        if self.exchanges > self.limits.exchanges || self.text_bytes > self.limits.text_bytes {
            return Err(failure(Status::INITIATOR_ERROR, "a login of too many requests or too much text"));
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
        self.stage = current;
        self.collected.extend_from_slice(text);
        if continues {
            self.respond(request, None, &[], false, out);
            return Ok(Step::More);
        }
        let collected = std::mem::take(&mut self.collected);
        let mut answers = std::mem::take(&mut self.pending);
        self.keys(request, &collected, policy, &mut answers)?;
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
        CONSTRAINTS.iter().for_each(|constraint| constraint(&mut self.session));
        let tsih = policy
            .admit(&asked, &self.session)
            .map_err(|status| failure(status, "refused when it was complete: see the session's limits"))?;
        self.respond(request, Some((FULL_FEATURE, tsih)), answers, false, out);
        Ok(Step::Done(Box::new(LoggedIn {
            tsih,
            portal_group_tag: self.found.as_ref().map_or(1, |found| found.portal_group_tag),
            exp_cmd_sn: request.cmd_sn.get(),
            session: self.session.clone(),
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
            parsed.push(pair.map_err(|error| wrong(error.to_string()))?);
        }
        if self.asked.is_none() {
            self.introduce(request, &parsed, policy, answers)?;
        }
        let discovery = self.asked.as_ref().is_some_and(|asked| asked.kind == SessionKind::Discovery);
        for (name, value) in parsed {
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
                (When::Security, OPERATIONAL) => return Err(wrong(format!("{name} in the operational stage"))),
                _ => {}
            }
            match key.name {
                "AuthMethod" => {
                    let answer = if value.split(',').any(|method| method == "None") { "None" } else { "Reject" };
                    text::push(answers, name, answer);
                    if answer == "Reject" {
                        return Err(failure(Status::AUTHENTICATION_FAILURE, "no common AuthMethod"));
                    }
                }
                "TargetAlias" | "TargetAddress" | "TargetPortalGroupTag" => {
                    return Err(wrong(format!("{name} comes from targets only")));
                }
                chap if chap.starts_with("CHAP_") => return Err(wrong(format!("{name} without AuthMethod=CHAP"))),
                _ => {}
            }
            if key.rule == Rule::Declared || key.name == "AuthMethod" {
                continue;
            }
            match key::answer(key, value, discovery, &self.offers, &mut self.session, &mut self.connection) {
                Ok(Some(answer)) => text::push(answers, name, &answer),
                Ok(None) => {}
                Err(key::ReservedWord) => return Err(wrong(format!("{name}={value}: a reserved word is no proposal"))),
            }
        }
        if self.stage == OPERATIONAL && !self.seen.contains(&"(declared)") {
            self.seen.push("(declared)");
            let length = self.connection.max_recv_data_segment_length.to_string();
            text::push(answers, "MaxRecvDataSegmentLength", &length);
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
            if name.is_empty() || name.len() > 223 || name.chars().any(|c| c.is_whitespace() || c.is_control()) {
                return Err(failure(Status::INITIATOR_ERROR, format!("{key} is no iSCSI name")));
            }
            Ok(Some(name.to_lowercase()))
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
        let found =
            policy.find(&asked).map_err(|status| failure(status, format!("target {:?} refused", asked.target_name)))?;
        if asked.target_name.is_some() {
            text::push(answers, "TargetPortalGroupTag", &found.portal_group_tag.to_string());
            if let Some(alias) = &found.alias {
                text::push(answers, "TargetAlias", alias);
            }
        }
        self.found = Some(found);
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
    Failure { status, why: why.into() }
}

fn refuse(why: &str) -> Failure {
    failure(Status::INITIATOR_ERROR, why)
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Open;
    impl Policy for Open {
        fn find(&mut self, asked: &Asked) -> Result<Found, Status> {
            match asked.target_name.as_deref() {
                None | Some("iqn.2026-01.org.example:disk") => Ok(Found { portal_group_tag: 1, alias: None }),
                Some(_) => Err(Status::NOT_FOUND),
            }
        }
        fn admit(&mut self, _: &Asked, _: &SessionParameters) -> Result<u16, Status> {
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
}
