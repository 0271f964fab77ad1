//! Letting an initiator in, politely or not.

use super::Target;
use crate::frame::{Digests, Frame};
use crate::raw::Transport;
use iscsi::auth::Rules;
use iscsi::key::{Offers, SessionParameters};
use iscsi::login::target::{self, Failure, Found, LoginLimits, Policy, Step};
use iscsi::text;
use iscsi::wire::{LoginRequest, LoginResponse, Pdu};
use zerocopy::IntoBytes;

/// With what a polite target lets everybody in.
#[derive(Debug, Clone)]
pub struct Accepts {
    /// What it offers.
    pub offers: Offers,
    /// TSIH of a new session.
    pub tsih: u16,
    /// TargetPortalGroupTag.
    pub portal_group_tag: u16,
    /// What an initiator has to show.
    pub rules: Option<Rules>,
    /// Commands that it lets in at first.
    pub window: u32,
}

impl Default for Accepts {
    fn default() -> Accepts {
        Accepts { offers: Offers::default(), tsih: 0x99, portal_group_tag: 1, rules: None, window: 32 }
    }
}

/// What an initiator asked for in its login.
pub use iscsi::login::target::Asked;

impl Policy for Accepts {
    fn portal_group_tag(&self) -> u16 {
        self.portal_group_tag
    }

    fn authentication(&mut self, _: &Asked) -> Result<Option<Rules>, Failure> {
        Ok(self.rules.clone())
    }

    fn find(&mut self, _: &Asked) -> Result<Found, Failure> {
        Ok(Found::default())
    }

    fn admit(&mut self, asked: &Asked, _: &SessionParameters) -> Result<u16, Failure> {
        Ok(if asked.tsih == 0 { self.tsih } else { asked.tsih })
    }
}

impl<T: Transport> Target<T> {
    /// Lets the initiator in as a target should.
    pub fn login(&mut self, accepts: &Accepts) -> Asked {
        let mut policy = accepts.clone();
        let limits = LoginLimits { window: accepts.window, ..LoginLimits::default() };
        let mut login = target::Login::new(accepts.offers.clone(), limits);
        loop {
            let (request, data) = self.expect::<LoginRequest>();
            let header = request.as_bytes().try_into().expect("48 bytes");
            let mut out = Vec::new();
            let step = login.handle(header, &data, &mut policy, &mut out);
            self.note("target    (login)".to_owned());
            self.send_bytes(&out);
            match step {
                Step::More => {}
                Step::Done(done) => {
                    let done = *done;
                    let parameters = &done.opening.parameters;
                    self.enter(parameters.max_recv_data_segment_length);
                    *self.digests() = Digests { header: parameters.header_digest, data: parameters.data_digest };
                    (self.stat_sn, self.exp_cmd_sn) = (done.opening.next_stat_sn, done.exp_cmd_sn);
                    (self.window, self.agreed) = (accepts.window, done.session);
                    return done.asked;
                }
                Step::Failed(failure) => panic!("a polite target refuses: {failure:?}\n{}", self.frames()),
            }
        }
    }

    /// The full feature phase begins; data segments of so many bytes are taken.
    pub fn enter(&mut self, segment: u32) {
        self.judge.segment = Some(segment);
    }

    /// A response to this login request: flags (T, C, CSG, NSG), status class and detail, all else as it has to
    /// be.
    pub fn login_response(&mut self, request: &LoginRequest, flags: u8, status: (u8, u8)) -> LoginResponse {
        let mut header = LoginResponse::empty();
        header.flags = flags;
        header.isid = request.isid;
        header.initiator_task_tag = request.initiator_task_tag;
        header.tsih = if request.tsih.get() == 0 { 0x99.into() } else { request.tsih };
        (header.status_class, header.status_detail) = status;
        self.exp_cmd_sn = request.cmd_sn.get();
        self.numbered(header)
    }

    /// Answers a login request with these keys.
    pub fn answer_login(&mut self, request: &LoginRequest, flags: u8, status: (u8, u8), keys: &[(&str, &str)]) {
        let header = self.login_response(request, flags, status);
        let mut said = Vec::new();
        for (key, value) in keys {
            text::push(&mut said, key, value);
        }
        self.send(&Frame::new(header, &said));
    }

    /// Waits for a login request and refuses it.
    pub fn refuse(&mut self, class: u8, detail: u8) {
        let (request, _) = self.expect::<LoginRequest>();
        self.answer_login(&request, 0, (class, detail), &[]);
    }

    /// Waits for a login request and sends the initiator elsewhere.
    pub fn redirect(&mut self, address: &str) {
        let (request, _) = self.expect::<LoginRequest>();
        self.answer_login(&request, 0, (1, 1), &[("TargetAddress", address)]);
    }
}
