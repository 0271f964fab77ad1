//! Every bound of the target, with its default. Nothing that a stranger does goes past one of these.

use iscsi::login::target::LoginLimits;
use iscsi::session::SessionLimits;
use std::time::Duration;

/// Bounds of a target.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Connections in their login at a time.
    pub logins: usize,
    /// Connections in their login at a time from one address.
    pub logins_by_address: usize,
    /// From accepting a connection to the end of its login.
    pub login_time: Duration,
    /// Text and exchanges of a login.
    pub login: LoginLimits,
    /// A discovery session that takes longer is closed.
    pub discovery_time: Duration,
    /// Sessions at a time.
    pub sessions: usize,
    /// Sessions at a time of one initiator name.
    pub sessions_by_initiator: usize,
    /// How long a login waits for the end of the session whose place it takes.
    pub reinstatement_time: Duration,
    /// Windows, pings and backlogs of a session.
    pub session: SessionLimits,
    /// Bytes of data in flight that a worker holds.
    pub worker_memory: usize,
    /// How long a shutdown waits for what is in flight.
    pub grace: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            logins: 1024,
            logins_by_address: 64,
            login_time: Duration::from_secs(15),
            login: LoginLimits::default(),
            discovery_time: Duration::from_secs(60),
            sessions: 4096,
            sessions_by_initiator: 64,
            reinstatement_time: Duration::from_secs(10),
            session: SessionLimits::default(),
            worker_memory: 64 << 20,
            grace: Duration::from_secs(10),
        }
    }
}
