//! A target, and what the door hands to a worker.

use iscsi::login::target::LoggedIn;
use lun::{LunMap, NexusDescription, TargetPort};
use std::net::TcpStream;
use std::sync::Arc;
use tokio::sync::oneshot;

/// A target with its units.
pub struct Target {
    /// Its iSCSI name, in lower case.
    pub name: String,
    /// Its alias.
    pub alias: Option<String>,
    /// Its units.
    pub units: Arc<LunMap>,
}

impl Target {
    /// Its port: the one portal group.
    pub fn port(&self) -> Arc<TargetPort> {
        Arc::new(TargetPort { target_name: self.name.clone(), portal_group_tag: 1, relative_identifier: 1 })
    }
}

/// A connection that has finished its login.
pub struct Handover {
    /// The socket, not blocking.
    pub stream: TcpStream,
    /// Bytes that were read beyond the login.
    pub early: Vec<u8>,
    /// What was agreed.
    pub logged_in: LoggedIn,
    /// The nexus.
    pub nexus: NexusDescription,
    /// Told why the session ended.
    pub ended: oneshot::Sender<String>,
}
