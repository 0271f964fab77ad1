//! The login phase (RFC 7143 §6, §11.12, §11.13).

pub mod initiator;
pub mod join;
pub mod target;

/// Status class and detail of a login response (§11.13.5).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Status(pub u8, pub u8);

impl Status {
    /// Go on.
    pub const SUCCESS: Status = Status(0, 0);
    /// The target is at another address for now.
    pub const MOVED_TEMPORARILY: Status = Status(1, 1);
    /// The target is at another address for good.
    pub const MOVED_PERMANENTLY: Status = Status(1, 2);
    /// The initiator broke a rule.
    pub const INITIATOR_ERROR: Status = Status(2, 0);
    /// Who it is could not be shown.
    pub const AUTHENTICATION_FAILURE: Status = Status(2, 1);
    /// It may not use this target.
    pub const AUTHORIZATION_FAILURE: Status = Status(2, 2);
    /// No such target.
    pub const NOT_FOUND: Status = Status(2, 3);
    /// Not this version.
    pub const UNSUPPORTED_VERSION: Status = Status(2, 5);
    /// The session has all the connections it may have.
    pub const TOO_MANY_CONNECTIONS: Status = Status(2, 6);
    /// A key that must be there is not.
    pub const MISSING_PARAMETER: Status = Status(2, 7);
    /// The session cannot span portals of several groups.
    pub const CANNOT_INCLUDE: Status = Status(2, 8);
    /// Not this kind of session.
    pub const SESSION_TYPE_NOT_SUPPORTED: Status = Status(2, 9);
    /// No such session.
    pub const SESSION_DOES_NOT_EXIST: Status = Status(2, 10);
    /// Something other than a login request.
    pub const INVALID_DURING_LOGIN: Status = Status(2, 11);
    /// The target failed.
    pub const TARGET_ERROR: Status = Status(3, 0);
    /// Not now.
    pub const SERVICE_UNAVAILABLE: Status = Status(3, 1);
    /// No room.
    pub const OUT_OF_RESOURCES: Status = Status(3, 2);
}
