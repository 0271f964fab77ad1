//! A passive reader of one connection, in both directions, that knows what a target may say and when
//! (conformance.md, test vehicle 4).
//!
//! The initiator may break any rule; only the target is judged. What it said wrong is collected, and
//! [`Capture::assert_clean`] panics with it and with the last frames.

mod login;
mod numbers;
mod replay;
mod reserved;
mod tasks;

pub use login::Agreed;

use crate::frame::Frame;
use iscsi::wire::{
    LoginRequest, LoginResponse, NopIn, NopOut, Opcode, Pdu, RESERVED_TAG, Reject, ScsiCommand, SnackRequest,
    TextRequest, TextResponse,
};
use login::LoginText;
use numbers::Numbers;
use replay::Replays;
use std::collections::{HashMap, VecDeque};
use tasks::{Functions, Tasks};
use zerocopy::{FromBytes, IntoBytes};

/// Frames that are shown with a violation.
const TRACE: usize = 24;

/// Who sent a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The initiator.
    Initiator,
    /// The target.
    Target,
}

/// What was seen of one connection.
#[derive(Debug, Default)]
pub struct Capture {
    violations: Vec<String>,
    trace: VecDeque<(Side, String)>,
    recording: Option<Vec<(Side, Frame)>>,
    login: LoginText,
    agreed: Agreed,
    /// What was agreed for the session that the connection joins.
    session: Option<Agreed>,
    full_feature: bool,
    numbers: Numbers,
    tasks: Tasks,
    functions: Functions,
    replays: Replays,
    pings: HashMap<u32, Vec<u8>>,
    texts: Vec<u32>,
    /// What the initiator said in the text negotiation that goes on.
    asked_text: Vec<u8>,
    logouts: Vec<u32>,
}

impl Capture {
    /// Keeps every frame from now on, for [`Capture::recorded`].
    pub fn record(&mut self) {
        self.recording = Some(Vec::new());
    }

    /// The frames since [`Capture::record`].
    pub fn recorded(&self) -> &[(Side, Frame)] {
        self.recording.as_deref().unwrap_or(&[])
    }

    /// The connection will join the session of this other one: command numbers are common to both.
    pub fn join(&mut self, other: &Capture) {
        self.numbers.join(&other.numbers);
        self.session = Some(other.agreed.clone());
    }

    /// A task of this other connection goes on here.
    pub fn take_over(&mut self, other: &mut Capture, tag: u32) {
        self.tasks.take_over(&mut other.tasks, tag);
    }

    /// What the login agreed on; the defaults before its end.
    pub fn agreed(&self) -> &Agreed {
        &self.agreed
    }

    /// Whether the login has succeeded.
    pub fn is_full_feature(&self) -> bool {
        self.full_feature
    }

    /// The last MaxCmdSN that the target told.
    pub fn max_cmd_sn(&self) -> u32 {
        self.numbers.max_cmd_sn()
    }

    /// The last ExpCmdSN that the target told.
    pub fn exp_cmd_sn(&self) -> u32 {
        self.numbers.exp_cmd_sn()
    }

    /// What the target did wrong.
    pub fn violations(&self) -> &[String] {
        &self.violations
    }

    /// Panics where the target did something wrong.
    pub fn assert_clean(&self) {
        assert!(self.violations.is_empty(), "{}", self.report());
    }

    /// The violations with the last frames before now.
    pub fn report(&self) -> String {
        let mut report = String::from("the target broke the wire's rules:\n");
        for violation in &self.violations {
            report += &format!("  * {violation}\n");
        }
        report + &self.frames()
    }

    /// The last frames, one a line.
    pub fn frames(&self) -> String {
        let mut text = String::from("last frames:\n");
        for (side, line) in &self.trace {
            text += &format!("  {} {line}\n", if *side == Side::Initiator { '>' } else { '<' });
        }
        text
    }

    fn note(&mut self, side: Side, frame: &Frame) {
        if self.trace.len() == TRACE {
            self.trace.pop_front();
        }
        self.trace.push_back((side, frame.summary()));
        if let Some(recording) = &mut self.recording {
            recording.push((side, frame.clone()));
        }
    }

    /// The initiator sent this.
    pub fn initiator(&mut self, frame: &Frame) {
        self.note(Side::Initiator, frame);
        if !self.full_feature {
            if let Some(request) = frame.view::<LoginRequest>() {
                self.login.asked(request, &frame.data);
                self.numbers.begin(request.cmd_sn.get());
            }
            return;
        }
        self.numbers.sent(frame);
        if let Some(command) = frame.view::<ScsiCommand>() {
            let inside = frame.basic().immediate() || self.numbers.is_inside(command.cmd_sn.get());
            self.tasks.command(command, frame, inside);
        } else if let Some(header) = frame.view() {
            self.tasks.data_out(header, frame.data.len() as u32);
        } else if let Some(header) = frame.view() {
            self.numbers.plugged(tasks::plugs(header, self.numbers.exp_cmd_sn()));
            self.functions.asked(header, &self.tasks);
        } else if let Some(ping) = frame.view::<NopOut>() {
            if ping.initiator_task_tag.get() != RESERVED_TAG {
                self.pings.insert(ping.initiator_task_tag.get(), frame.data.clone());
            }
        } else if let Some(request) = frame.view::<TextRequest>() {
            self.texts.push(request.initiator_task_tag.get());
            if request.target_transfer_tag.get() == RESERVED_TAG {
                self.asked_text.clear();
            }
            self.asked_text.extend_from_slice(&frame.data);
        } else if let Some(snack) = frame.view::<SnackRequest>() {
            self.replays.asked(snack);
        } else if frame.opcode() == Opcode::LogoutRequest as u8 {
            self.logouts.push(frame.basic().initiator_task_tag.get());
            self.tasks.logged_out();
        }
    }

    /// The target sent this; `complaints` is what was wrong with its padding and digests.
    pub fn target(&mut self, frame: &Frame, complaints: &[&'static str]) {
        self.note(Side::Target, frame);
        let mut wrong: Vec<String> = complaints.iter().map(|complaint| (*complaint).to_owned()).collect();
        self.judge(frame, &mut wrong);
        let summary = frame.summary();
        self.violations.extend(wrong.into_iter().map(|what| format!("{what}  [{summary}]")));
    }

    fn judge(&mut self, frame: &Frame, wrong: &mut Vec<String>) {
        let Some(opcode) = Opcode::from_number(frame.opcode()).filter(|opcode| *opcode as u8 >= 0x20) else {
            return wrong.push(format!("a target does not send opcode {:02x}h", frame.opcode()));
        };
        reserved::check(opcode, frame, wrong);
        let limit = self.agreed.initiator_segment;
        if frame.data.len() > limit as usize {
            wrong.push(format!("PDU-06: {} bytes of data, above the declared {limit}", frame.data.len()));
        }
        if !self.full_feature {
            let Some(response) = frame.view::<LoginResponse>() else {
                return wrong.push("only a login response is sent during login".to_owned());
            };
            if response.status_class == 0 {
                self.numbers.status(response.stat_sn.get(), wrong);
                self.numbers.window(response.exp_cmd_sn.get(), response.max_cmd_sn.get(), wrong);
            }
            if let Some(agreed) = self.login.answered(response, &frame.data, wrong) {
                self.agreed = match self.session.take() {
                    None => agreed,
                    Some(session) => agreed.within(session),
                };
                self.full_feature = true;
            }
            return;
        }
        if self.agreed.error_recovery_level > 0 {
            if self.replays.is_replay(frame) {
                return;
            }
            let tag = frame.basic().initiator_task_tag.get();
            if matches!(opcode, Opcode::DataIn | Opcode::ScsiResponse) && self.replays.anew.contains(&tag) {
                return;
            }
        }
        // A Reject changes which command numbers count as received, and is the first to tell it.
        match opcode {
            Opcode::TaskManagementResponse => {
                wrong.extend(self.functions.answered(frame, &mut self.tasks).err());
            }
            Opcode::Reject => self.rejected(Reject::view(frame.basic()), &frame.data, wrong),
            _ => {}
        }
        self.numbers.told(opcode, frame, wrong);
        let tag = frame.basic().initiator_task_tag.get();
        match opcode {
            Opcode::DataIn | Opcode::ScsiResponse | Opcode::ReadyToTransfer => {
                self.tasks.told(opcode, frame, &self.agreed, wrong);
            }
            Opcode::NopIn => self.nop_in(NopIn::view(frame.basic()), &frame.data, wrong),
            Opcode::TextResponse => {
                if !self.texts.contains(&tag) {
                    wrong.push("a text response that nobody asked for".to_owned());
                }
                let response = TextResponse::view(frame.basic());
                let (last, continues) = (response.flags & 0x80 != 0, response.flags & 0x40 != 0);
                if last != (response.target_transfer_tag.get() == RESERVED_TAG) || last && continues {
                    wrong.push("DSC-05: F and the target transfer tag contradict each other".to_owned());
                }
                if last {
                    self.texts.retain(|text| *text != tag);
                    // What was agreed holds from here on (KEY-08).
                    let mut pairs = iscsi::text::pairs(&self.asked_text).flatten();
                    if let Some((_, length)) = pairs.find(|(key, _)| *key == "MaxRecvDataSegmentLength")
                        && let Some(length) = length.parse().ok().filter(|length| (512..1 << 24).contains(length))
                    {
                        self.agreed.initiator_segment = length;
                    }
                }
            }
            Opcode::LogoutResponse if !self.logouts.contains(&tag) => {
                wrong.push("a logout response that nobody asked for".to_owned());
            }
            Opcode::LoginResponse => wrong.push("a login response in the full feature phase".to_owned()),
            _ => {}
        }
    }

    fn nop_in(&mut self, header: &NopIn, data: &[u8], wrong: &mut Vec<String>) {
        let tag = header.initiator_task_tag.get();
        if tag == RESERVED_TAG {
            if !data.is_empty() {
                wrong.push("NOP-03: a target's own ping carries data".to_owned());
            }
            return;
        }
        if header.target_transfer_tag.get() != RESERVED_TAG {
            wrong.push("NOP-01: the answer to a ping has a target transfer tag".to_owned());
        }
        match self.pings.remove(&tag) {
            None => wrong.push("NOP-01: an answer to a ping that was not sent".to_owned()),
            Some(sent) => {
                let expected = &sent[..sent.len().min(self.agreed.initiator_segment as usize)];
                if data != expected {
                    wrong.push("NOP-01: the answer is not the ping's data".to_owned());
                }
            }
        }
    }

    fn rejected(&mut self, header: &Reject, data: &[u8], wrong: &mut Vec<String>) {
        if iscsi::wire::RejectReason::from_number(header.reason).is_none() {
            wrong.push(format!("REJ-03: reject reason {:02x}h is not defined", header.reason));
        }
        let Ok((refused, _)) = ScsiCommand::ref_from_prefix(data) else {
            return wrong.push("REJ-01: a reject without the header of what it rejects".to_owned());
        };
        let basic = refused.header();
        let tag = refused.initiator_task_tag.get();
        if !basic.immediate() && basic.opcode() < 0x10 && basic.opcode() != Opcode::DataOut as u8 {
            self.numbers.rejected(refused.cmd_sn.get());
        }
        match Opcode::from_number(basic.opcode()) {
            Some(Opcode::ScsiCommand) => self.tasks.rejected(tag, refused.as_bytes(), wrong),
            Some(Opcode::TextRequest) => self.texts.retain(|text| *text != tag),
            Some(Opcode::NopOut) => drop(self.pings.remove(&tag)),
            Some(Opcode::TaskManagementRequest) => self.functions.rejected(tag, basic.flags),
            _ => {}
        }
    }
}
