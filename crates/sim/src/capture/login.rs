//! The login as text: what was asked, what was answered, what follows (RFC 7143 §6, §13).

use crate::frame::Digests;
use iscsi::text;
use iscsi::wire::{CONTINUE, LoginRequest, LoginResponse, TRANSIT};
use std::collections::HashMap;

/// What both ends go by after the login. Before it, the defaults.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Agreed {
    /// Digests of the connection.
    pub digests: Digests,
    /// InitialR2T.
    pub initial_r2t: bool,
    /// ImmediateData.
    pub immediate_data: bool,
    /// MaxBurstLength, in bytes.
    pub max_burst_length: u32,
    /// FirstBurstLength, in bytes; never above `max_burst_length`.
    pub first_burst_length: u32,
    /// MaxOutstandingR2T.
    pub max_outstanding_r2t: u32,
    /// MaxRecvDataSegmentLength as the initiator declared it, in bytes.
    pub initiator_segment: u32,
    /// MaxRecvDataSegmentLength as the target declared it, in bytes.
    pub target_segment: u32,
    /// ErrorRecoveryLevel.
    pub error_recovery_level: u32,
    /// The session's TSIH.
    pub tsih: u16,
}

impl Default for Agreed {
    fn default() -> Self {
        Agreed {
            digests: Digests::default(),
            initial_r2t: true,
            immediate_data: true,
            max_burst_length: 262_144,
            first_burst_length: 65_536,
            max_outstanding_r2t: 1,
            initiator_segment: 8192,
            target_segment: 8192,
            error_recovery_level: 0,
            tsih: 0,
        }
    }
}

impl Agreed {
    /// What holds on a connection that joins a session: of its own login what is a connection's, else the session's.
    pub(super) fn within(self, session: Agreed) -> Agreed {
        let Agreed { digests, initiator_segment, target_segment, tsih, .. } = self;
        Agreed { digests, initiator_segment, target_segment, tsih, ..session }
    }
}

/// Both sides' text so far.
#[derive(Debug, Default)]
pub(super) struct LoginText {
    asked_text: Vec<u8>,
    answered_text: Vec<u8>,
    last: Option<LoginRequest>,
}

impl LoginText {
    pub fn asked(&mut self, request: &LoginRequest, data: &[u8]) {
        self.asked_text.extend_from_slice(data);
        self.last = Some(*request);
    }

    /// Returns what was agreed when this response ends the login.
    pub fn answered(&mut self, response: &LoginResponse, data: &[u8], wrong: &mut Vec<String>) -> Option<Agreed> {
        self.answered_text.extend_from_slice(data);
        let Some(request) = self.last else {
            wrong.push("a login response without a request".to_owned());
            return None;
        };
        let (transit, continues) = (response.flags & TRANSIT != 0, response.flags & CONTINUE != 0);
        // A failure names the login as it was begun, whatever the last request says.
        if response.status_class != 0 {
            return None;
        }
        if response.initiator_task_tag != request.initiator_task_tag || response.isid != request.isid {
            wrong.push("LOG-05: the response's tag or ISID is not the request's".to_owned());
        }
        if response.version_max != 0 || response.version_active != 0 {
            wrong.push("LOG-04: the version is not 0".to_owned());
        }
        if response.flags >> 2 & 3 != request.current_stage() {
            wrong.push("LOG-07: CSG is not the request's".to_owned());
        }
        if transit && (request.flags & TRANSIT == 0 || response.flags & 3 > request.next_stage()) {
            wrong.push("LOG-07: T was not asked for, or not for this stage".to_owned());
        }
        if !transit && response.flags & 3 != 0 {
            wrong.push("PDU-02: NSG without T".to_owned());
        }
        if transit && continues {
            wrong.push("TXT-05: T together with C".to_owned());
        }
        if request.flags & CONTINUE != 0 && !data.is_empty() {
            wrong.push("TXT-06: an answer with text to a request that goes on".to_owned());
        }
        let full_feature = transit && response.flags & 3 == 3;
        if full_feature != (response.tsih.get() != 0) && request.tsih.get() == 0 {
            wrong.push("LOG-12: a TSIH belongs in the last response and nowhere else".to_owned());
        }
        if !full_feature {
            return None;
        }
        let (asked, answered) = (pairs(&self.asked_text), pairs(&self.answered_text));
        for (key, value) in &answered {
            let listed = |proposals: &String| proposals.split(',').any(|one| one == value);
            if ["HeaderDigest", "DataDigest", "AuthMethod"].contains(&key.as_str())
                && !asked.get(key).is_some_and(listed)
                && value != "Reject"
            {
                wrong.push(format!("TXT-12: {key}={value} was not proposed"));
            }
        }
        let mut agreed = Agreed { tsih: response.tsih.get(), ..Agreed::default() };
        let number = |pairs: &HashMap<String, String>, key: &str| pairs.get(key).and_then(|value| value.parse().ok());
        let yes = |key: &str, default: bool| match answered.get(key).map(String::as_str) {
            Some("Yes") => true,
            Some("No") => false,
            _ => default,
        };
        agreed.digests.header = answered.get("HeaderDigest").is_some_and(|value| value == "CRC32C");
        agreed.digests.data = answered.get("DataDigest").is_some_and(|value| value == "CRC32C");
        agreed.initial_r2t = yes("InitialR2T", true);
        agreed.immediate_data = yes("ImmediateData", true);
        agreed.max_burst_length = number(&answered, "MaxBurstLength").unwrap_or(agreed.max_burst_length);
        agreed.first_burst_length = number(&answered, "FirstBurstLength").unwrap_or(agreed.first_burst_length);
        agreed.first_burst_length = agreed.first_burst_length.min(agreed.max_burst_length);
        agreed.max_outstanding_r2t = number(&answered, "MaxOutstandingR2T").unwrap_or(1);
        agreed.error_recovery_level = number(&answered, "ErrorRecoveryLevel").unwrap_or(0);
        agreed.initiator_segment = number(&asked, "MaxRecvDataSegmentLength").unwrap_or(8192);
        agreed.target_segment = number(&answered, "MaxRecvDataSegmentLength").unwrap_or(8192);
        Some(agreed)
    }
}

/// The pairs of a text, the last of equal ones.
fn pairs(bytes: &[u8]) -> HashMap<String, String> {
    text::pairs(bytes).flatten().map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
}
