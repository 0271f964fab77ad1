//! What a session is to be like: whom to log in to, as whom, and with what patience.

use crate::address::PORT;
use crate::{Address, Error};
pub use iscsi::auth::{Account, Algorithm, Secret};
pub use iscsi::login::initiator::DigestOffer;
pub use iscsi::session::SessionKind;
use std::net::IpAddr;
use std::time::Duration;

/// The initiator's name where none is given. Sessions are told apart by their random ISID.
pub const INITIATOR_NAME: &str = "iqn.2026-11.io.lunette:initiator";

/// Where a target can be reached.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Portal {
    /// A name or an address, IPv6 without brackets.
    pub host: String,
    /// The port.
    pub port: u16,
}

impl Portal {
    /// A portal.
    pub fn new(host: impl Into<String>, port: u16) -> Portal {
        Portal { host: host.into(), port }
    }

    /// Reads `host[:port][,portal-group-tag]`, as TargetAddress has it (RFC 7143 §13.8).
    pub fn parse(text: &str) -> Option<Portal> {
        let text = text.split(',').next()?;
        let (host, port) = match text.strip_prefix('[') {
            Some(rest) => {
                let (host, rest) = rest.split_once(']')?;
                (host, rest.strip_prefix(':'))
            }
            None if text.matches(':').count() > 1 => (text, None),
            None => text.split_once(':').map_or((text, None), |(host, port)| (host, Some(port))),
        };
        let port = match port {
            Some(port) => port.parse().ok()?,
            None => PORT,
        };
        (!host.is_empty()).then(|| Portal::new(host, port))
    }
}

impl std::fmt::Display for Portal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.host.contains(':') {
            true => write!(f, "[{}]:{}", self.host, self.port),
            false => write!(f, "{}:{}", self.host, self.port),
        }
    }
}

/// CHAP (RFC 7143 §12.1).
#[derive(Debug, Clone)]
pub struct Chap {
    /// Who we are.
    pub account: Account,
    /// What the target has to show in return; none: it has to show nothing.
    pub mutual: Option<Account>,
    /// What may be used, the best first.
    pub algorithms: Vec<Algorithm>,
}

impl Chap {
    /// One way, with every algorithm. Secrets of any length are taken: it is the target that sets them.
    pub fn new(user: impl Into<String>, secret: impl Into<Vec<u8>>) -> Chap {
        let account = Account { user: user.into(), secret: Secret::weak(secret) };
        Chap { account, mutual: None, algorithms: Algorithm::ALL.to_vec() }
    }

    /// The target has to show this name and secret.
    pub fn mutual(self, user: impl Into<String>, secret: impl Into<Vec<u8>>) -> Chap {
        Chap { mutual: Some(Account { user: user.into(), secret: Secret::weak(secret) }), ..self }
    }
}

/// What a session is to be like.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where to log in.
    pub portal: Portal,
    /// The target's name. None only in a discovery session.
    pub target: Option<String>,
    /// A session for commands, or one for SendTargets.
    pub kind: SessionKind,
    /// InitiatorName.
    pub initiator_name: String,
    /// InitiatorAlias.
    pub initiator_alias: Option<String>,
    /// The initiator's part of the session's identity. None: a random one. It stays the same when the session
    /// is logged in again, so that the target ends what is left of the old one first.
    pub isid: Option<[u8; 6]>,
    /// How we show who we are; none: not at all.
    pub chap: Option<Chap>,
    /// HeaderDigest.
    pub header_digest: DigestOffer,
    /// DataDigest.
    pub data_digest: DigestOffer,
    /// Connections of the session, as far as the target takes them. 1 to 64.
    pub connections: u16,
    /// ErrorRecoveryLevel, 0 to 2, as far as the target has it.
    pub error_recovery_level: u8,
    /// InitialR2T: writes wait for the target's word.
    pub initial_r2t: bool,
    /// ImmediateData: a write brings its first data along.
    pub immediate_data: bool,
    /// FirstBurstLength, bytes.
    pub first_burst_length: u32,
    /// MaxBurstLength, bytes.
    pub max_burst_length: u32,
    /// MaxRecvDataSegmentLength, bytes.
    pub max_recv_data_segment_length: u32,
    /// MaxOutstandingR2T.
    pub max_outstanding_r2t: u32,
    /// DefaultTime2Wait, seconds.
    pub time_2_wait: u32,
    /// DefaultTime2Retain, seconds.
    pub time_2_retain: u32,
    /// Commands in flight at most, whatever window the target gives. 1 to 65,536.
    pub queue_depth: u32,
    /// A connection and its login may take so long.
    pub login_timeout: Duration,
    /// A lost session is logged in again for so long; then its commands end with an error, at once, until it
    /// is back. Zero: it is not logged in again at all.
    pub replacement_timeout: Duration,
    /// A command may take so long before it is aborted.
    pub command_timeout: Duration,
    /// A logout may take so long, with what it waits for.
    pub logout_timeout: Duration,
    /// A connection on which nothing is heard for so long is pinged. Zero: never.
    pub nop_interval: Duration,
    /// A ping may take so long; then the connection is lost.
    pub nop_timeout: Duration,
    /// The address to connect from.
    pub local_address: Option<IpAddr>,
    /// The network device to connect through (SO_BINDTODEVICE).
    pub device: Option<String>,
}

impl Options {
    /// A session with this target at this portal.
    pub fn new(portal: Portal, target: impl Into<String>) -> Options {
        Options { target: Some(target.into()), ..Options::discovery(portal) }.of_kind(SessionKind::Normal)
    }

    /// A session for SendTargets.
    pub fn discovery(portal: Portal) -> Options {
        Options {
            portal,
            target: None,
            kind: SessionKind::Discovery,
            initiator_name: INITIATOR_NAME.to_owned(),
            initiator_alias: None,
            isid: None,
            chap: None,
            header_digest: DigestOffer::None,
            data_digest: DigestOffer::None,
            connections: 1,
            error_recovery_level: 0,
            initial_r2t: false,
            immediate_data: true,
            first_burst_length: 256 << 10,
            max_burst_length: 1 << 20,
            max_recv_data_segment_length: 1 << 20,
            max_outstanding_r2t: 4,
            time_2_wait: 0,
            time_2_retain: 20,
            queue_depth: 1024,
            login_timeout: Duration::from_secs(15),
            replacement_timeout: Duration::from_secs(120),
            command_timeout: Duration::from_secs(60),
            logout_timeout: Duration::from_secs(5),
            nop_interval: Duration::from_secs(5),
            nop_timeout: Duration::from_secs(5),
            local_address: None,
            device: None,
        }
    }

    /// What an address says; all else as it is by default. Without a target it is a discovery session.
    pub fn of(address: &Address) -> Options {
        let portal = Portal::new(address.host.clone(), address.port);
        let mut options = match &address.target {
            Some(target) => Options::new(portal, target.clone()),
            None => Options::discovery(portal),
        };
        if let Some(account) = address.account() {
            let mutual = address.target_account();
            let algorithms = address.algorithm.map_or_else(|| Algorithm::ALL.to_vec(), |one| vec![one]);
            options.chap = Some(Chap { account, mutual, algorithms });
        }
        options.header_digest = address.header_digest.unwrap_or(options.header_digest);
        options.data_digest = address.data_digest.unwrap_or(options.data_digest);
        if let Some(name) = &address.initiator_name {
            options.initiator_name.clone_from(name);
        }
        if let Some(seconds) = address.timeout.filter(|seconds| *seconds > 0) {
            options.command_timeout = Duration::from_secs(seconds.into());
        }
        options
    }

    fn of_kind(self, kind: SessionKind) -> Options {
        Options { kind, ..self }
    }

    /// With this InitiatorName.
    pub fn initiator_name(self, name: impl Into<String>) -> Options {
        Options { initiator_name: name.into(), ..self }
    }

    /// With this ISID.
    pub fn isid(self, isid: [u8; 6]) -> Options {
        Options { isid: Some(isid), ..self }
    }

    /// With CHAP.
    pub fn chap(self, chap: Chap) -> Options {
        Options { chap: Some(chap), ..self }
    }

    /// With both digests so.
    pub fn digests(self, offer: DigestOffer) -> Options {
        Options { header_digest: offer, data_digest: offer, ..self }
    }

    /// With so many connections.
    pub fn connections(self, connections: u16) -> Options {
        Options { connections, ..self }
    }

    /// With this ErrorRecoveryLevel.
    pub fn error_recovery_level(self, level: u8) -> Options {
        Options { error_recovery_level: level, ..self }
    }

    /// With this replacement timeout.
    pub fn replacement_timeout(self, timeout: Duration) -> Options {
        Options { replacement_timeout: timeout, ..self }
    }

    /// Commands may take so long.
    pub fn command_timeout(self, timeout: Duration) -> Options {
        Options { command_timeout: timeout, ..self }
    }

    /// With this many commands in flight at most.
    pub fn queue_depth(self, depth: u32) -> Options {
        Options { queue_depth: depth, ..self }
    }

    /// Who is talked to, for messages.
    pub(crate) fn whom(&self) -> String {
        self.target.clone().unwrap_or_else(|| self.portal.to_string())
    }

    pub(crate) fn check(&self) -> Result<(), Error> {
        let wrong = |why: String| Err(Error::Invalid(why));
        if self.kind == SessionKind::Normal && self.target.is_none() {
            return wrong(format!("{}: no target is named; a session needs one", self.portal));
        }
        for (name, value, low, high) in [
            ("connections", u32::from(self.connections), 1, 64),
            ("error_recovery_level", u32::from(self.error_recovery_level), 0, 2),
            ("first_burst_length", self.first_burst_length, 512, (1 << 24) - 1),
            ("max_burst_length", self.max_burst_length, 512, (1 << 24) - 1),
            ("max_recv_data_segment_length", self.max_recv_data_segment_length, 512, (1 << 24) - 1),
            ("max_outstanding_r2t", self.max_outstanding_r2t, 1, 65_535),
            ("time_2_wait", self.time_2_wait, 0, 3600),
            ("time_2_retain", self.time_2_retain, 0, 3600),
            ("queue_depth", self.queue_depth, 1, 65_536),
        ] {
            if !(low..=high).contains(&value) {
                return wrong(format!("{name} {value}: it is {low} to {high}"));
            }
        }
        let one_for_both = |chap: &Chap| {
            chap.mutual.as_ref().is_some_and(|theirs| theirs.secret.expose() == chap.account.secret.expose())
        };
        if self.chap.as_ref().is_some_and(one_for_both) {
            return wrong(
                "the target's CHAP secret is the initiator's own: each direction needs one of its own".into(),
            );
        }
        if self.first_burst_length > self.max_burst_length {
            let (first, max) = (self.first_burst_length, self.max_burst_length);
            return wrong(format!("first_burst_length {first}: it is at most max_burst_length, {max}"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_portal_is_read_as_targets_write_it() {
        for (text, host, port) in [
            ("10.0.0.1:3260,1", "10.0.0.1", 3260),
            ("storage.example", "storage.example", 3260),
            ("[2001:db8::1]:860,2", "2001:db8::1", 860),
            ("[::1]", "::1", 3260),
            ("2001:db8::1", "2001:db8::1", 3260),
        ] {
            assert_eq!(Portal::parse(text), Some(Portal::new(host, port)), "{text}");
        }
        for wrong in ["", ":3260", "[::1", "host:port", "host:99999"] {
            assert_eq!(Portal::parse(wrong), None, "{wrong}");
        }
        assert_eq!(Portal::new("::1", 3260).to_string(), "[::1]:3260");
    }

    #[test]
    fn options_that_cannot_be_say_what_they_could_be() {
        let options = Options::new(Portal::new("h", 1), "iqn.a:b");
        assert!(options.check().is_ok());
        let error = options.clone().connections(65).check().unwrap_err();
        assert_eq!(error.to_string(), "connections 65: it is 1 to 64");
        let error = Options { first_burst_length: 1 << 21, ..options }.check().unwrap_err();
        assert!(error.to_string().contains("at most max_burst_length"), "{error}");
    }
}
