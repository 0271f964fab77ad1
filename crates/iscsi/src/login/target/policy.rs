//! What the application and a login at the target say to each other: who wants what, who may, how it ended.

use crate::auth::{Account, Rules};
use crate::key::SessionParameters;
use crate::login::Status;
use crate::session::{Opening, SessionKind};

/// What bounds a login.
#[derive(Debug, Clone, Copy)]
pub struct LoginLimits {
    /// Bytes of text in all requests together.
    pub text_bytes: usize,
    /// Keys in all requests together.
    pub keys: usize,
    /// Requests.
    pub exchanges: u32,
    /// Sessions' command window, told as MaxCmdSN.
    pub window: u32,
}

impl Default for LoginLimits {
    fn default() -> Self {
        LoginLimits { text_bytes: 64 << 10, keys: 4096, exchanges: 64, window: 128 }
    }
}

/// Who wants what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// InitiatorName, prepared.
    pub initiator_name: String,
    /// InitiatorAlias.
    pub initiator_alias: Option<String>,
    /// TargetName, prepared; always there in a normal session.
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
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Found {
    /// TargetAlias.
    pub alias: Option<String>,
    /// The target is elsewhere for this initiator.
    pub redirection: Option<Redirection>,
}

/// Where a target has gone (§11.13.5, "Redirection").
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Redirection {
    /// [`Status::MOVED_TEMPORARILY`] or [`Status::MOVED_PERMANENTLY`].
    pub status: Status,
    /// TargetAddress: a host and perhaps a port, without a portal group tag (§13.8).
    pub address: String,
}

/// What only the application knows.
pub trait Policy {
    /// TargetPortalGroupTag: the group of the portal that the connection has reached, for everybody alike.
    fn portal_group_tag(&self) -> u16;
    /// What the initiator has to show before it learns anything; `None` lets it in as it is.
    fn authentication(&mut self, _asked: &Asked) -> Result<Option<Rules>, Failure> {
        Ok(None)
    }
    /// Whether this target is there for this initiator. Where it has to authenticate itself, it hears of
    /// a refusal only after it has.
    fn find(&mut self, asked: &Asked) -> Result<Found, Failure>;
    /// The login is complete: make the session, or refuse. Returns its TSIH, which is not 0.
    fn admit(&mut self, asked: &Asked, session: &SessionParameters) -> Result<u16, Failure>;
    /// The initiator has shown that it is this account. Comes before it hears what [`Policy::find`] said.
    fn authenticated(&mut self, _asked: &Asked, _account: &Account) -> Result<(), Failure> {
        Ok(())
    }
}

/// The end of a login that succeeded.
#[derive(Debug, Clone)]
pub struct LoggedIn {
    /// Who, and for what.
    pub asked: Asked,
    /// The CHAP account that it has shown to be.
    pub account: Option<String>,
    /// The session's TSIH.
    pub tsih: u16,
    /// TargetPortalGroupTag of the portal.
    pub portal_group_tag: u16,
    /// Number of the first command.
    pub exp_cmd_sn: u32,
    /// What was agreed for the session.
    pub session: SessionParameters,
    /// With what the connection goes on.
    pub opening: Opening,
}

/// Why a login failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// What the initiator was told.
    pub status: Status,
    /// For the log.
    pub why: String,
    /// The bound that it went past, if that was why.
    pub bound: Option<LoginBound>,
    /// TargetAddress of a redirection.
    pub address: Option<String>,
}

impl Failure {
    /// A failure of this status, for this reason.
    pub fn new(status: Status, why: impl Into<String>) -> Failure {
        Failure { status, why: why.into(), bound: None, address: None }
    }

    /// Whether the initiator is only sent elsewhere.
    pub fn is_redirection(&self) -> bool {
        self.status.0 == 1
    }
}

impl From<Redirection> for Failure {
    fn from(Redirection { status, address }: Redirection) -> Failure {
        Failure { address: Some(address.clone()), ..Failure::new(status, format!("the target is at {address}")) }
    }
}

impl From<Status> for Failure {
    fn from(status: Status) -> Failure {
        Failure::new(status, format!("status {:02x}{:02x}h", status.0, status.1))
    }
}

/// A bound of [`LoginLimits`], or of what one request may bring.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LoginBound {
    /// [`LoginLimits::text_bytes`].
    TextBytes,
    /// [`LoginLimits::keys`].
    Keys,
    /// [`LoginLimits::exchanges`].
    Exchanges,
    /// 8,192 bytes of text in one request (§13.12).
    RequestBytes,
}
