//! What a login agrees on (RFC 7143 §13): the parameters that the full feature phase runs by.

/// How functions that end many tasks report (§13.23).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TaskReporting {
    /// As RFC 3720 has it; what holds where nothing is said.
    Rfc3720,
    /// With response fences (§4.2.2.3).
    ResponseFence,
    /// With fences, and without waiting for data of the tasks that end (§4.2.3.4).
    FastAbort,
}

impl TaskReporting {
    /// All of them, with their words.
    const WORDS: [(TaskReporting, &'static str); 3] = [
        (TaskReporting::Rfc3720, "RFC3720"),
        (TaskReporting::ResponseFence, "ResponseFence"),
        (TaskReporting::FastAbort, "FastAbort"),
    ];

    /// What an initiator proposes that would have this; nothing for what holds where nothing is said.
    pub(crate) fn list(self) -> Option<&'static str> {
        match self {
            TaskReporting::Rfc3720 => None,
            TaskReporting::ResponseFence => Some("ResponseFence,RFC3720"),
            TaskReporting::FastAbort => Some("FastAbort,ResponseFence,RFC3720"),
        }
    }

    /// The word of it.
    pub fn name(self) -> &'static str {
        TaskReporting::WORDS.iter().find(|(known, _)| *known == self).map_or("RFC3720", |(_, word)| word)
    }

    pub(crate) fn from_word(word: &str) -> Option<TaskReporting> {
        TaskReporting::WORDS.iter().find(|(_, known)| *known == word).map(|(value, _)| *value)
    }
}

/// What was agreed for a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionParameters {
    /// §13.2.
    pub max_connections: u32,
    /// §13.10: data-out waits for an R2T.
    pub initial_r2t: bool,
    /// §13.11: a command may carry data.
    pub immediate_data: bool,
    /// §13.13, bytes of a sequence.
    pub max_burst_length: u32,
    /// §13.14, bytes of unsolicited data.
    pub first_burst_length: u32,
    /// §13.15, seconds.
    pub default_time_2_wait: u32,
    /// §13.16, seconds.
    pub default_time_2_retain: u32,
    /// §13.17, of one task.
    pub max_outstanding_r2t: u32,
    /// §13.18.
    pub data_pdu_in_order: bool,
    /// §13.19.
    pub data_sequence_in_order: bool,
    /// §13.20.
    pub error_recovery_level: u32,
    /// §13.23.
    pub task_reporting: TaskReporting,
    /// §13.24, RFC 7144 §7.1.
    pub protocol_level: u32,
}

impl Default for SessionParameters {
    /// What holds where nothing is said.
    fn default() -> Self {
        SessionParameters {
            max_connections: 1,
            initial_r2t: true,
            immediate_data: true,
            max_burst_length: 262_144,
            first_burst_length: 65_536,
            default_time_2_wait: 2,
            default_time_2_retain: 20,
            max_outstanding_r2t: 1,
            data_pdu_in_order: true,
            data_sequence_in_order: true,
            error_recovery_level: 0,
            task_reporting: TaskReporting::Rfc3720,
            protocol_level: 1,
        }
    }
}

/// What was agreed for a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnectionParameters {
    /// §13.1: headers carry CRC32C.
    pub header_digest: bool,
    /// §13.1: data segments carry CRC32C.
    pub data_digest: bool,
    /// §13.12, as this end declared it: the most bytes of a data segment that it accepts.
    pub max_recv_data_segment_length: u32,
    /// §13.12, as the peer declared it: the most bytes of a data segment that it is sent.
    pub max_send_data_segment_length: u32,
}

/// What may be agreed for a length (§13.12 to §13.14).
const LENGTHS: std::ops::RangeInclusive<u32> = 512..=0xff_ffff;

impl ConnectionParameters {
    /// Whether a login can have come to this.
    pub fn are_agreeable(&self) -> bool {
        LENGTHS.contains(&self.max_recv_data_segment_length) && LENGTHS.contains(&self.max_send_data_segment_length)
    }
}

impl SessionParameters {
    /// Whether a login can have come to this.
    pub fn are_agreeable(&self) -> bool {
        LENGTHS.contains(&self.max_burst_length)
            && LENGTHS.contains(&self.first_burst_length)
            && (1..=0xffff).contains(&self.max_outstanding_r2t)
            && (1..=0xffff).contains(&self.max_connections)
            && self.error_recovery_level <= 2
    }
}

impl Default for ConnectionParameters {
    /// What holds where nothing is said.
    fn default() -> Self {
        ConnectionParameters {
            header_digest: false,
            data_digest: false,
            max_recv_data_segment_length: 8192,
            max_send_data_segment_length: 8192,
        }
    }
}

/// How a key's value comes about (§6.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rule {
    /// The smaller of both, within bounds.
    Minimum(u32, u32),
    /// The larger of both, within bounds.
    Maximum(u32, u32),
    /// Yes when either says so.
    Or,
    /// Yes when both say so.
    And,
    /// The first value of the list that the answering side takes.
    FirstOf,
    /// Said, not negotiated: a number within bounds.
    DeclaredNumber(u32, u32),
    /// Said, not negotiated: text.
    Declared,
    /// Answered with this word whatever is asked (§13.25 and keys of other documents).
    Refused(&'static str),
}

/// When a key may be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// In the login of the leading connection.
    Leading,
    /// In any login.
    Login,
    /// In any login and in the full feature phase.
    Any,
    /// In the security stage.
    Security,
    /// In the full feature phase.
    FullFeature,
}

/// One key of RFC 7143 §13 (and RFC 7144 §7).
#[derive(Debug)]
pub struct Key {
    /// Its name on the wire.
    pub name: &'static str,
    /// How its value comes about.
    pub rule: Rule,
    /// When it may be sent.
    pub when: When,
    /// Meaningless in a discovery session: answered Irrelevant.
    pub irrelevant_in_discovery: bool,
    /// Where it is defined.
    pub clause: &'static str,
}

const fn row(name: &'static str, rule: Rule, when: When, irrelevant: bool, clause: &'static str) -> Key {
    Key { name, rule, when, irrelevant_in_discovery: irrelevant, clause }
}

/// Largest value of a length key.
const LENGTH_MAX: u32 = (1 << 24) - 1;

/// Every key. What is not here is answered NotUnderstood.
pub const KEYS: &[Key] = &[
    row("AuthMethod", Rule::FirstOf, When::Security, false, "12"),
    row("CHAP_A", Rule::Declared, When::Security, false, "12.1.3"),
    row("CHAP_C", Rule::Declared, When::Security, false, "12.1.3"),
    row("CHAP_I", Rule::Declared, When::Security, false, "12.1.3"),
    row("CHAP_N", Rule::Declared, When::Security, false, "12.1.3"),
    row("CHAP_R", Rule::Declared, When::Security, false, "12.1.3"),
    row("HeaderDigest", Rule::FirstOf, When::Login, false, "13.1"),
    row("DataDigest", Rule::FirstOf, When::Login, false, "13.1"),
    row("MaxConnections", Rule::Minimum(1, 65_535), When::Leading, true, "13.2"),
    row("SendTargets", Rule::Declared, When::FullFeature, false, "13.3"),
    row("TargetName", Rule::Declared, When::Login, false, "13.4"),
    row("InitiatorName", Rule::Declared, When::Login, false, "13.5"),
    row("TargetAlias", Rule::Declared, When::Any, false, "13.6"),
    row("InitiatorAlias", Rule::Declared, When::Any, false, "13.7"),
    row("TargetAddress", Rule::Declared, When::Any, false, "13.8"),
    row("TargetPortalGroupTag", Rule::Declared, When::Login, false, "13.9"),
    row("InitialR2T", Rule::Or, When::Leading, true, "13.10"),
    row("ImmediateData", Rule::And, When::Leading, true, "13.11"),
    row("MaxRecvDataSegmentLength", Rule::DeclaredNumber(512, LENGTH_MAX), When::Any, false, "13.12"),
    row("MaxBurstLength", Rule::Minimum(512, LENGTH_MAX), When::Leading, true, "13.13"),
    row("FirstBurstLength", Rule::Minimum(512, LENGTH_MAX), When::Leading, true, "13.14"),
    row("DefaultTime2Wait", Rule::Maximum(0, 3600), When::Leading, false, "13.15"),
    row("DefaultTime2Retain", Rule::Minimum(0, 3600), When::Leading, false, "13.16"),
    row("MaxOutstandingR2T", Rule::Minimum(1, 65_535), When::Leading, true, "13.17"),
    row("DataPDUInOrder", Rule::Or, When::Leading, true, "13.18"),
    row("DataSequenceInOrder", Rule::Or, When::Leading, true, "13.19"),
    row("ErrorRecoveryLevel", Rule::Minimum(0, 2), When::Leading, false, "13.20"),
    row("SessionType", Rule::Declared, When::Leading, false, "13.21"),
    row("TaskReporting", Rule::FirstOf, When::Leading, true, "13.23"),
    row("iSCSIProtocolLevel", Rule::Minimum(0, 31), When::Leading, true, "13.24"),
    row("IFMarker", Rule::Refused("No"), When::Login, false, "13.25"),
    row("OFMarker", Rule::Refused("No"), When::Login, false, "13.25"),
    row("IFMarkInt", Rule::Refused("Reject"), When::Login, false, "13.25"),
    row("OFMarkInt", Rule::Refused("Reject"), When::Login, false, "13.25"),
    row("RDMAExtensions", Rule::Refused("No"), When::Leading, false, "7145 6.3"),
];

/// Keys that only a target sends.
pub const FROM_TARGET: &[&str] = &["TargetAlias", "TargetAddress", "TargetPortalGroupTag"];

/// Keys of either stage of a login ("Any-Stage" in §13).
const ANY_STAGE: &[&str] = &[
    "InitiatorName",
    "InitiatorAlias",
    "SessionType",
    "TargetAddress",
    "TargetAlias",
    "TargetName",
    "TargetPortalGroupTag",
];

/// Whether a key has no place in the security stage (§12).
pub fn is_operational(key: &Key) -> bool {
    key.when != When::Security && !ANY_STAGE.contains(&key.name)
}

/// Words that answer a proposal and are none (§6.2).
pub const RESERVED_WORDS: &[&str] = &["Reject", "Irrelevant", "NotUnderstood"];

/// The row of a key.
pub fn find(name: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.name == name)
}

/// What the answering side has for each negotiated key, and what it takes from lists.
#[derive(Debug, Clone)]
pub struct Offers {
    /// For the session; `max_recv_data_segment_length` below is for each connection.
    pub session: SessionParameters,
    /// What this end accepts in one data segment, 512 to 2^24 - 1.
    pub max_recv_data_segment_length: u32,
}

impl Default for Offers {
    fn default() -> Self {
        Offers {
            session: SessionParameters {
                max_connections: 16,
                initial_r2t: false,
                max_burst_length: 1 << 20,
                first_burst_length: 256 << 10,
                max_outstanding_r2t: 8,
                error_recovery_level: 2,
                protocol_level: 2,
                ..SessionParameters::default()
            },
            max_recv_data_segment_length: 256 << 10,
        }
    }
}

/// The word for a boolean.
fn word(value: bool) -> &'static str {
    if value { "Yes" } else { "No" }
}

/// A reserved word was proposed as a value, which is a protocol error (§6.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a reserved word is no proposal")]
pub struct ReservedWord;

/// The answer to a proposed value of a negotiated key, and the effect on what was agreed. `Err` is
/// a protocol error: a reserved word as a proposal (§6.2).
///
/// Declared keys have no answer here; the login acts upon them.
pub fn answer(
    key: &Key,
    proposed: &str,
    discovery: bool,
    offers: &Offers,
    session: &mut SessionParameters,
    connection: &mut ConnectionParameters,
) -> Result<Option<String>, ReservedWord> {
    if RESERVED_WORDS.contains(&proposed) {
        return Err(ReservedWord);
    }
    if discovery && key.irrelevant_in_discovery {
        return Ok(Some("Irrelevant".to_owned()));
    }
    let refused = || Ok(Some("Reject".to_owned()));
    match key.rule {
        Rule::Refused(answer) => Ok(Some(answer.to_owned())),
        Rule::Declared => Ok(None),
        Rule::DeclaredNumber(low, high) => match bounded(proposed, low, high) {
            Some(value) => {
                connection.max_send_data_segment_length = value;
                Ok(None)
            }
            None => refused(),
        },
        Rule::Minimum(low, high) | Rule::Maximum(low, high) => {
            let Some(theirs) = bounded(proposed, low, high) else { return refused() };
            let Some((ours, agreed)) = number_of(key.name, &offers.session, session) else { return refused() };
            let result = match key.rule {
                // Discovery is of level 0 (§7.4).
                _ if discovery && key.name == "ErrorRecoveryLevel" => 0,
                Rule::Minimum(..) => theirs.min(ours),
                _ => theirs.max(ours),
            };
            *agreed = result;
            Ok(Some(result.to_string()))
        }
        Rule::Or | Rule::And => {
            let theirs = match proposed {
                "Yes" => true,
                "No" => false,
                _ => return refused(),
            };
            let Some((ours, agreed)) = boolean_of(key.name, &offers.session, session) else { return refused() };
            *agreed = if key.rule == Rule::Or { theirs | ours } else { theirs & ours };
            Ok(Some(word(*agreed).to_owned()))
        }
        Rule::FirstOf => {
            let takes: &[&str] = match key.name {
                "HeaderDigest" | "DataDigest" => &["CRC32C", "None"],
                "TaskReporting" => &["RFC3720", "ResponseFence", "FastAbort"],
                _ => return Ok(None),
            };
            let Some(chosen) = proposed.split(',').find(|value| takes.contains(value)) else { return refused() };
            match key.name {
                "HeaderDigest" => connection.header_digest = chosen == "CRC32C",
                "DataDigest" => connection.data_digest = chosen == "CRC32C",
                "TaskReporting" => {
                    session.task_reporting = TaskReporting::from_word(chosen).unwrap_or(TaskReporting::Rfc3720);
                }
                _ => {}
            }
            Ok(Some(chosen.to_owned()))
        }
    }
}

/// Rules over several keys, run when the operational stage ends (TXT-17).
pub const CONSTRAINTS: &[fn(&mut SessionParameters)] = &[
    // §13.14.
    |session| session.first_burst_length = session.first_burst_length.min(session.max_burst_length),
    // §13.17 with §13.19.
    |session| {
        if session.data_sequence_in_order && session.error_recovery_level > 0 {
            session.max_outstanding_r2t = 1;
        }
    },
];

/// A number within bounds.
pub(crate) fn bounded(value: &str, low: u32, high: u32) -> Option<u32> {
    let number = u32::try_from(crate::text::number(value)?).ok()?;
    (low..=high).contains(&number).then_some(number)
}

/// Our number for a key, and where what is agreed is kept.
pub(crate) fn number_of<'a>(
    name: &str,
    offers: &SessionParameters,
    session: &'a mut SessionParameters,
) -> Option<(u32, &'a mut u32)> {
    Some(match name {
        "MaxConnections" => (offers.max_connections, &mut session.max_connections),
        "MaxBurstLength" => (offers.max_burst_length, &mut session.max_burst_length),
        "FirstBurstLength" => (offers.first_burst_length, &mut session.first_burst_length),
        "DefaultTime2Wait" => (offers.default_time_2_wait, &mut session.default_time_2_wait),
        "DefaultTime2Retain" => (offers.default_time_2_retain, &mut session.default_time_2_retain),
        "MaxOutstandingR2T" => (offers.max_outstanding_r2t, &mut session.max_outstanding_r2t),
        "ErrorRecoveryLevel" => (offers.error_recovery_level, &mut session.error_recovery_level),
        "iSCSIProtocolLevel" => (offers.protocol_level, &mut session.protocol_level),
        _ => return None,
    })
}

/// Our word for a key, and where what is agreed is kept.
pub(crate) fn boolean_of<'a>(
    name: &str,
    offers: &SessionParameters,
    session: &'a mut SessionParameters,
) -> Option<(bool, &'a mut bool)> {
    Some(match name {
        "InitialR2T" => (offers.initial_r2t, &mut session.initial_r2t),
        "ImmediateData" => (offers.immediate_data, &mut session.immediate_data),
        "DataPDUInOrder" => (offers.data_pdu_in_order, &mut session.data_pdu_in_order),
        "DataSequenceInOrder" => (offers.data_sequence_in_order, &mut session.data_sequence_in_order),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(name: &str, value: &str) -> (Option<String>, SessionParameters, ConnectionParameters) {
        let (mut session, mut connection) = (SessionParameters::default(), ConnectionParameters::default());
        let key = find(name).unwrap();
        let answer = answer(key, value, false, &Offers::default(), &mut session, &mut connection).unwrap();
        (answer, session, connection)
    }

    /// Written from the reference table of conformance.md, not from the table above.
    #[test]
    fn txt_14_numbers_follow_their_result_function_within_bounds() {
        for (name, low, high, minimum, ours) in [
            ("MaxConnections", 1u64, 65_535u64, true, 16u64),
            ("MaxBurstLength", 512, 16_777_215, true, 1 << 20),
            ("FirstBurstLength", 512, 16_777_215, true, 256 << 10),
            ("DefaultTime2Wait", 0, 3600, false, 2),
            ("DefaultTime2Retain", 0, 3600, true, 20),
            ("MaxOutstandingR2T", 1, 65_535, true, 8),
            ("ErrorRecoveryLevel", 0, 2, true, 2),
        ] {
            for value in [low, low + 1, high - 1, high] {
                let expected = if minimum { value.min(ours) } else { value.max(ours) };
                assert_eq!(ask(name, &value.to_string()).0, Some(expected.to_string()), "{name}={value}");
            }
            assert_eq!(ask(name, &(high + 1).to_string()).0.as_deref(), Some("Reject"), "{name} above");
            if low > 0 {
                assert_eq!(ask(name, &(low - 1).to_string()).0.as_deref(), Some("Reject"), "{name} below");
            }
        }
    }

    #[test]
    fn txt_15_booleans_follow_and_and_or() {
        for (name, value, result) in [
            ("InitialR2T", "Yes", "Yes"),
            ("InitialR2T", "No", "No"),
            ("ImmediateData", "Yes", "Yes"),
            ("ImmediateData", "No", "No"),
            ("DataPDUInOrder", "No", "Yes"),
            ("DataSequenceInOrder", "No", "Yes"),
            ("ImmediateData", "Maybe", "Reject"),
        ] {
            assert_eq!(ask(name, value).0.as_deref(), Some(result), "{name}={value}");
        }
    }

    #[test]
    fn txt_12_the_first_value_that_is_taken_is_the_answer() {
        let (answer, _, connection) = ask("HeaderDigest", "Foo,CRC32C,None");
        assert_eq!((answer.as_deref(), connection.header_digest), (Some("CRC32C"), true));
        assert_eq!(ask("DataDigest", "None,CRC32C").0.as_deref(), Some("None"));
        assert_eq!(ask("DataDigest", "Foo").0.as_deref(), Some("Reject"));
    }

    #[test]
    fn txt_11_reserved_words_are_no_proposals() {
        let (mut session, mut connection) = (SessionParameters::default(), ConnectionParameters::default());
        for value in ["Reject", "Irrelevant", "NotUnderstood"] {
            let key = find("MaxBurstLength").unwrap();
            let result = answer(key, value, false, &Offers::default(), &mut session, &mut connection);
            assert_eq!(result, Err(ReservedWord));
        }
    }

    #[test]
    fn key_16_obsolete_keys_are_understood() {
        assert_eq!(ask("IFMarker", "Yes").0.as_deref(), Some("No"));
        assert_eq!(ask("OFMarkInt", "2048").0.as_deref(), Some("Reject"));
        assert!(find("markers").is_none());
    }

    #[test]
    fn key_08_a_declared_length_is_taken_without_an_answer() {
        let (answer, _, connection) = ask("MaxRecvDataSegmentLength", "65536");
        assert_eq!((answer, connection.max_send_data_segment_length), (None, 65_536));
        assert_eq!(ask("MaxRecvDataSegmentLength", "511").0.as_deref(), Some("Reject"));
    }

    #[test]
    fn txt_17_constraints_hold_whatever_was_agreed() {
        let mut session = SessionParameters { max_burst_length: 512, ..Default::default() };
        CONSTRAINTS.iter().for_each(|constraint| constraint(&mut session));
        assert_eq!(session.first_burst_length, 512);
    }
}
