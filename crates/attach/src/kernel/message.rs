//! The messages between user space and the kernel's iSCSI, as bytes (struct iscsi_uevent, 64-bit layout).
//!
//! A message is a netlink header, the event, and what belongs to it. The event has 56 bytes: its kind, an
//! error, the transport's handle, 24 bytes for what goes down and 16 for what comes up. What is read here
//! comes from the kernel; its lengths are checked all the same.

/// Bytes of a netlink header.
const HEADER_BYTES: usize = 16;
/// Bytes of an event.
const EVENT_BYTES: usize = 56;
/// Where in the event what goes down stands, and what comes up.
const DOWN: usize = 16;
const UP: usize = 40;
/// Bytes of a basic header segment (RFC 7143 11.2.1).
pub(super) const PDU_HEADER_BYTES: usize = 48;

const CREATE_SESSION: u32 = 11;
const DESTROY_SESSION: u32 = 12;
const CREATE_CONNECTION: u32 = 13;
const DESTROY_CONNECTION: u32 = 14;
const BIND: u32 = 15;
const SET: u32 = 16;
const START: u32 = 17;
const STOP: u32 = 18;
const SEND: u32 = 19;
const STATISTICS: u32 = 20;
const UNBIND: u32 = 27;

const RECEIVED: u32 = 101;
const CONNECTION_ERROR: u32 = 102;
const INTERFACE_ERROR: u32 = 103;
const SESSION_DESTROYED: u32 = 104;
const SESSION_UNBOUND: u32 = 105;

/// Which connection of which of the kernel's sessions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    /// The kernel's number of the session.
    pub(super) session: u32,
    /// The kernel's number of the connection in it.
    pub(super) connection: u32,
}

/// Parameters of a connection or session, by the kernel's numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
#[allow(missing_docs)]
pub(super) enum Parameter {
    MaxRecvDataSegmentLength = 0,
    MaxSendDataSegmentLength = 1,
    HeaderDigest = 2,
    DataDigest = 3,
    InitialR2t = 4,
    MaxOutstandingR2t = 5,
    ImmediateData = 6,
    FirstBurstLength = 7,
    MaxBurstLength = 8,
    DataPduInOrder = 9,
    DataSequenceInOrder = 10,
    ErrorRecoveryLevel = 11,
    ExpStatSn = 14,
    TargetName = 15,
    TargetPortalGroupTag = 16,
    PersistentAddress = 17,
    PersistentPort = 18,
    RecoveryTimeout = 19,
    FastAbort = 26,
    AbortTimeout = 27,
    LogicalUnitResetTimeout = 28,
    PingTimeout = 30,
    ReceiveTimeout = 31,
    InterfaceName = 32,
    InitiatorName = 34,
    TargetResetTimeout = 35,
    TargetAlias = 36,
}

/// How a connection is stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stop {
    /// For ever: its commands fail.
    Terminate = 1,
    /// Until it is bound to another socket: its commands wait, for the replacement timeout.
    Recover = 3,
}

/// What the kernel is asked.
#[derive(Debug, Clone, Copy)]
pub(super) enum Request<'a> {
    CreateSession { first_command: u32, commands_max: u16, queue_depth: u16 },
    DestroySession { session: u32 },
    CreateConnection(Place),
    DestroyConnection(Place),
    Bind { place: Place, socket: i32 },
    Set { place: Place, parameter: Parameter, value: &'a str },
    Start(Place),
    Stop { place: Place, how: Stop },
    Send { place: Place, header: &'a [u8; PDU_HEADER_BYTES], data: &'a [u8] },
    Statistics(Place),
    Unbind { session: u32 },
}

/// What the kernel says to one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Reply {
    /// Which request.
    pub(super) kind: u32,
    /// The first two words of what comes up.
    pub(super) words: [u32; 2],
}

/// What the kernel says unasked, to all who listen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Event {
    /// A PDU that user space is to handle: asynchronous message, logout response, ...
    Pdu { place: Place, header: [u8; PDU_HEADER_BYTES], data: Vec<u8> },
    /// The connection is no longer good, by one of the kernel's error numbers ([`connection_error`]).
    ConnectionError { place: Place, code: u32 },
    /// The session is gone.
    Destroyed { session: u32 },
    /// The devices of the session are gone.
    Unbound { session: u32 },
    /// The counters that somebody asked for.
    Statistics { place: Place, statistics: Statistics },
}

/// What one netlink message says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Message {
    Reply(Reply),
    /// A request could not be done, by this error number.
    Refused(i32),
    Event(Event),
    /// Nothing that concerns us.
    Other,
}

/// What the kernel has counted on one connection (the iSCSI MIB's names, RFC 4544).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[allow(missing_docs)]
pub struct Statistics {
    /// Bytes of data sent and received.
    pub txdata_octets: u64,
    pub rxdata_octets: u64,
    /// PDUs sent.
    pub noptx_pdus: u32,
    pub scsicmd_pdus: u32,
    pub tmfcmd_pdus: u32,
    pub login_pdus: u32,
    pub text_pdus: u32,
    pub dataout_pdus: u32,
    pub logout_pdus: u32,
    pub snack_pdus: u32,
    /// PDUs received.
    pub noprx_pdus: u32,
    pub scsirsp_pdus: u32,
    pub tmfrsp_pdus: u32,
    pub textrsp_pdus: u32,
    pub datain_pdus: u32,
    pub logoutrsp_pdus: u32,
    pub r2t_pdus: u32,
    pub async_pdus: u32,
    pub rjt_pdus: u32,
    /// Errors.
    pub digest_err: u32,
    pub timeout_err: u32,
}

impl Statistics {
    /// Names, as iscsiadm prints them, with their values, in its order.
    pub fn rows(&self) -> [(&'static str, u64); 21] {
        let n = u64::from;
        [
            ("txdata_octets", self.txdata_octets),
            ("rxdata_octets", self.rxdata_octets),
            ("noptx_pdus", n(self.noptx_pdus)),
            ("scsicmd_pdus", n(self.scsicmd_pdus)),
            ("tmfcmd_pdus", n(self.tmfcmd_pdus)),
            ("login_pdus", n(self.login_pdus)),
            ("text_pdus", n(self.text_pdus)),
            ("dataout_pdus", n(self.dataout_pdus)),
            ("logout_pdus", n(self.logout_pdus)),
            ("snack_pdus", n(self.snack_pdus)),
            ("noprx_pdus", n(self.noprx_pdus)),
            ("scsirsp_pdus", n(self.scsirsp_pdus)),
            ("tmfrsp_pdus", n(self.tmfrsp_pdus)),
            ("textrsp_pdus", n(self.textrsp_pdus)),
            ("datain_pdus", n(self.datain_pdus)),
            ("logoutrsp_pdus", n(self.logoutrsp_pdus)),
            ("r2t_pdus", n(self.r2t_pdus)),
            ("async_pdus", n(self.async_pdus)),
            ("rjt_pdus", n(self.rjt_pdus)),
            ("digest_err", n(self.digest_err)),
            ("timeout_err", n(self.timeout_err)),
        ]
    }

    fn parse(bytes: &[u8]) -> Option<Statistics> {
        let long = |at: usize| Some(u64::from_ne_bytes(bytes.get(at..at + 8)?.try_into().ok()?));
        let mut rest = bytes.get(16..)?.chunks_exact(4);
        let mut next = || Some(u32::from_ne_bytes(rest.next()?.try_into().ok()?));
        Some(Statistics {
            txdata_octets: long(0)?,
            rxdata_octets: long(8)?,
            noptx_pdus: next()?,
            scsicmd_pdus: next()?,
            tmfcmd_pdus: next()?,
            login_pdus: next()?,
            text_pdus: next()?,
            dataout_pdus: next()?,
            logout_pdus: next()?,
            snack_pdus: next()?,
            noprx_pdus: next()?,
            scsirsp_pdus: next()?,
            tmfrsp_pdus: next()?,
            textrsp_pdus: next()?,
            datain_pdus: next()?,
            logoutrsp_pdus: next()?,
            r2t_pdus: next()?,
            async_pdus: next()?,
            rjt_pdus: next()?,
            digest_err: next()?,
            timeout_err: next()?,
        })
    }
}

impl Request<'_> {
    /// The kernel's number of what is asked; its reply has the same.
    pub(super) fn kind(&self) -> u32 {
        match self {
            Request::CreateSession { .. } => CREATE_SESSION,
            Request::DestroySession { .. } => DESTROY_SESSION,
            Request::CreateConnection(_) => CREATE_CONNECTION,
            Request::DestroyConnection(_) => DESTROY_CONNECTION,
            Request::Bind { .. } => BIND,
            Request::Set { .. } => SET,
            Request::Start(_) => START,
            Request::Stop { .. } => STOP,
            Request::Send { .. } => SEND,
            Request::Statistics(_) => STATISTICS,
            Request::Unbind { .. } => UNBIND,
        }
    }

    /// Whether the reply's first word is an error number or zero.
    pub(super) fn answers_with_status(&self) -> bool {
        matches!(self, Request::Bind { .. } | Request::Start(_) | Request::Send { .. })
    }

    /// What is asked, for people.
    pub(super) fn what(&self) -> String {
        match self {
            Request::CreateSession { .. } => "a session cannot be made in the kernel".into(),
            Request::DestroySession { session } => format!("the kernel does not end session {session}"),
            Request::CreateConnection(place) => format!("no connection for session {}", place.session),
            Request::DestroyConnection(place) => format!("the connection of session {} stays", place.session),
            Request::Bind { place, .. } => format!("the kernel does not take the socket of session {}", place.session),
            Request::Set { place, parameter, value } => {
                format!("session {}: the kernel does not take {parameter:?}={value}", place.session)
            }
            Request::Start(place) => format!("session {} cannot be started", place.session),
            Request::Stop { place, .. } => format!("session {} cannot be stopped", place.session),
            Request::Send { place, .. } => format!("session {}: a PDU cannot be sent", place.session),
            Request::Statistics(place) => format!("session {} has no statistics", place.session),
            Request::Unbind { session } => format!("the devices of session {session} cannot be removed"),
        }
    }

    /// The netlink message.
    pub(super) fn encode(&self, transport: u64, sequence: u32) -> Vec<u8> {
        let mut event = [0u8; EVENT_BYTES];
        put(&mut event, 0, &self.kind().to_ne_bytes());
        put(&mut event, 8, &transport.to_ne_bytes());
        let words = |event: &mut [u8], words: &[u32]| {
            for (index, word) in words.iter().enumerate() {
                put(event, DOWN + 4 * index, &word.to_ne_bytes());
            }
        };
        let mut tail: Vec<u8> = Vec::new();
        match *self {
            Request::CreateSession { first_command, commands_max, queue_depth } => {
                words(&mut event, &[first_command]);
                put(&mut event, DOWN + 4, &commands_max.to_ne_bytes());
                put(&mut event, DOWN + 6, &queue_depth.to_ne_bytes());
            }
            Request::DestroySession { session } | Request::Unbind { session } => words(&mut event, &[session]),
            Request::CreateConnection(place)
            | Request::DestroyConnection(place)
            | Request::Start(place)
            | Request::Statistics(place) => words(&mut event, &[place.session, place.connection]),
            Request::Bind { place, socket } => {
                words(&mut event, &[place.session, place.connection]);
                put(&mut event, DOWN + 8, &(socket as u64).to_ne_bytes());
                put(&mut event, DOWN + 16, &1u32.to_ne_bytes()); // the leading connection
            }
            Request::Set { place, parameter, value } => {
                tail.extend_from_slice(value.as_bytes());
                tail.push(0);
                words(&mut event, &[place.session, place.connection, parameter as u32, tail.len() as u32]);
            }
            Request::Stop { place, how } => {
                words(&mut event, &[place.session, place.connection]);
                put(&mut event, DOWN + 16, &(how as u32).to_ne_bytes());
            }
            Request::Send { place, header, data } => {
                tail.extend_from_slice(header);
                tail.extend_from_slice(data);
                let lengths = [PDU_HEADER_BYTES as u32, data.len() as u32];
                words(&mut event, &[place.session, place.connection, lengths[0], lengths[1]]);
            }
        }
        let length = HEADER_BYTES + EVENT_BYTES + tail.len();
        let mut message = Vec::with_capacity(length.next_multiple_of(4));
        message.extend_from_slice(&(length as u32).to_ne_bytes());
        message.extend_from_slice(&(self.kind() as u16).to_ne_bytes());
        message.extend_from_slice(&[0; 2]);
        message.extend_from_slice(&sequence.to_ne_bytes());
        message.extend_from_slice(&[0; 4]);
        message.extend_from_slice(&event);
        message.extend_from_slice(&tail);
        message.resize(length.next_multiple_of(4), 0);
        message
    }
}

/// What a datagram from the kernel says. What is too short or unknown is passed over.
pub(super) fn parse(datagram: &[u8]) -> Vec<Message> {
    let mut messages = Vec::new();
    let mut rest = datagram;
    while let Some(length) = word(rest, 0).map(|length| length as usize) {
        let Some(message) = rest.get(HEADER_BYTES..length) else { break };
        messages.push(parse_event(message).unwrap_or(Message::Other));
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or(&[]);
    }
    messages
}

fn parse_event(event: &[u8]) -> Option<Message> {
    let tail = event.get(EVENT_BYTES..)?;
    let (first, second) = (word(event, UP)?, word(event, UP + 4)?);
    let place = Place { session: first, connection: second };
    Some(match word(event, 0)? {
        RECEIVED => {
            let (header, data) = tail.split_first_chunk::<PDU_HEADER_BYTES>()?;
            Message::Event(Event::Pdu { place, header: *header, data: data.to_vec() })
        }
        CONNECTION_ERROR => Message::Event(Event::ConnectionError { place, code: word(event, UP + 8)? }),
        INTERFACE_ERROR => Message::Refused((word(event, 4)? as i32).wrapping_neg()),
        SESSION_DESTROYED => Message::Event(Event::Destroyed { session: second }),
        SESSION_UNBOUND => Message::Event(Event::Unbound { session: first }),
        // What was asked with stands where it was put.
        STATISTICS => {
            let place = Place { session: word(event, DOWN)?, connection: word(event, DOWN + 4)? };
            Message::Event(Event::Statistics { place, statistics: Statistics::parse(tail)? })
        }
        kind if kind < RECEIVED => Message::Reply(Reply { kind, words: [first, second] }),
        _ => Message::Other,
    })
}

/// What the kernel's number of a connection's error means.
pub(super) fn connection_error(code: u32) -> String {
    let text = match code {
        1001 => "a DataSN out of order",
        1002 => "data at a wrong offset",
        1003 => "a wrong MaxCmdSN",
        1004 => "a wrong ExpCmdSN",
        1005 => "an unknown opcode",
        1006 => "a data segment of a wrong length",
        1007 => "an additional header segment of a wrong length",
        1008 => "a breach of protocol",
        1009 => "a wrong LUN",
        1010 => "an answer to a task that does not exist",
        1011 => "the connection failed",
        1012 => "an R2TSN out of order",
        1013 => "the session failed",
        1014 => "a header digest that does not hold",
        1015 => "a data digest that does not hold",
        1019 => "nothing can be sent any more",
        1020 => "the target closed the connection",
        1021 => "the kernel gave the session up to mend a command that did not end",
        1022 => "the target did not answer a NOP-Out in time",
        _ => return format!("the kernel's error {code}"),
    };
    text.into()
}

fn put(bytes: &mut [u8], at: usize, value: &[u8]) {
    if let Some(place) = bytes.get_mut(at..at + value.len()) {
        place.copy_from_slice(value);
    }
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at.checked_add(4)?)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLACE: Place = Place { session: 7, connection: 0 };

    /// The words of a message behind its netlink header.
    fn words(message: &[u8]) -> Vec<u32> {
        message[HEADER_BYTES..].chunks_exact(4).map(|word| u32::from_ne_bytes(word.try_into().unwrap())).collect()
    }

    #[test]
    fn a_bind_has_the_socket_and_leads() {
        let message = Request::Bind { place: PLACE, socket: 11 }.encode(0xaabb_ccdd_1122_3344, 3);
        assert_eq!(message.len(), 72);
        assert_eq!(message[..8], [72, 0, 0, 0, 15, 0, 0, 0]);
        assert_eq!(words(&message), [15, 0, 0x1122_3344, 0xaabb_ccdd, 7, 0, 11, 0, 1, 0, 0, 0, 0, 0]);
    }

    #[test]
    fn a_parameter_ends_with_a_zero_byte_that_counts() {
        let message = Request::Set { place: PLACE, parameter: Parameter::TargetName, value: "iqn.x" }.encode(1, 1);
        assert_eq!(message[..4], 78u32.to_ne_bytes());
        assert_eq!(message.len(), 80, "padded");
        assert_eq!(words(&message)[4..8], [7, 0, 15, 6]);
        assert_eq!(&message[72..78], b"iqn.x\0");
    }

    #[test]
    fn a_pdu_stands_behind_the_event_with_both_lengths() {
        let message = Request::Send { place: PLACE, header: &[6; 48], data: b"ab" }.encode(1, 1);
        assert_eq!(words(&message)[4..8], [7, 0, 48, 2]);
        assert_eq!(message[72..122], [[6; 48].as_slice(), b"ab"].concat());
    }

    fn event(kind: u32, up: [u32; 3], tail: &[u8]) -> Vec<u8> {
        let mut event = vec![0u8; EVENT_BYTES];
        put(&mut event, 0, &kind.to_ne_bytes());
        for (index, word) in up.iter().enumerate() {
            put(&mut event, UP + 4 * index, &word.to_ne_bytes());
        }
        event.extend_from_slice(tail);
        let mut message = ((HEADER_BYTES + event.len()) as u32).to_ne_bytes().to_vec();
        message.resize(HEADER_BYTES, 0);
        message.extend(event);
        message
    }

    #[test]
    fn events_and_replies_are_told_apart() {
        let error = event(102, [7, 0, 1020], &[]);
        let expected = Event::ConnectionError { place: PLACE, code: 1020 };
        assert_eq!(parse(&error), [Message::Event(expected.clone())]);
        let created = event(11, [7, 3, 0], &[]);
        let reply = Message::Reply(Reply { kind: 11, words: [7, 3] });
        assert_eq!(parse(&[error, created].concat()), [Message::Event(expected), reply]);
        let mut refused = event(103, [0; 3], &[]);
        put(&mut refused, HEADER_BYTES + 4, &(-107i32).to_ne_bytes());
        assert_eq!(parse(&refused), [Message::Refused(107)]);
        assert_eq!(parse(&event(104, [3, 7, 0], &[])), [Message::Event(Event::Destroyed { session: 7 })]);
    }

    #[test]
    fn what_is_cut_off_says_nothing() {
        let pdu = event(101, [7, 0, 0], &[0x32; 60]);
        let Message::Event(Event::Pdu { place, data, .. }) = &parse(&pdu)[0] else { panic!() };
        assert_eq!((*place, data.len()), (PLACE, 12));
        for length in 0..pdu.len() {
            assert!(parse(&pdu[..length]).is_empty());
            let mut lying = pdu[..length].to_vec();
            put(&mut lying, 0, &(length as u32).to_ne_bytes());
            for message in parse(&lying) {
                assert!(message == Message::Other || length >= 16 + 56 + 48, "{length}: {message:?}");
            }
        }
    }

    #[test]
    fn statistics_are_read_in_the_kernels_order() {
        let mut tail = 5u64.to_ne_bytes().to_vec();
        tail.extend(6u64.to_ne_bytes());
        (1..=20u32).for_each(|number| tail.extend(number.to_ne_bytes()));
        let statistics = Statistics::parse(&tail).unwrap();
        let values: Vec<u64> = statistics.rows().iter().map(|row| row.1).collect();
        assert_eq!(values, [[5, 6].as_slice(), &(1..=19).collect::<Vec<u64>>()].concat());
        assert_eq!(statistics.timeout_err, 19);
    }
}
