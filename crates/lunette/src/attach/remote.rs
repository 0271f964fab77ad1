//! The far side of a holder: sessions with the target, and its disks over them.

use super::hold::{Request, Units};
use super::kernel::Kernel;
use super::state::{Identity, Record};
use crate::failure::{Cause, Failure};
use block::Backend;
use initiator::{Command, Error, Event, Group, GroupOptions, Lun, Options, RemoteDisk, Session, State};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::broadcast::{self, error::RecvError};

/// Between two tries of a first login.
pub const RETRY_PAUSE: Duration = Duration::from_secs(2);
/// LUNs of a target that are looked at.
const LUNS: usize = 4096;

/// The far side.
#[derive(Default)]
pub struct Remote {
    session: Option<Session>,
    kernel: Option<Kernel>,
    groups: Vec<Arc<Group>>,
    events: Option<broadcast::Receiver<Event>>,
    /// Disks that were asked for, until they are attached.
    pub disks: Vec<Disk>,
    /// The portals that answered, with the tag of their group.
    pub reached: Vec<String>,
    /// As hexadecimal digits.
    pub isid: String,
}

/// A disk of the target.
pub struct Disk {
    /// Its number.
    pub lun: u64,
    /// What it stores.
    pub backend: Arc<dyn Backend>,
    /// Which it is.
    pub identity: Identity,
}

/// What the holder has to do about something that the target said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum News {
    /// Sizes may have changed.
    Look,
    /// Nothing; it was logged.
    Said,
}

/// Logs in and finds the disks that are asked for. The request has the session's ISID afterwards, for who takes it
/// up again.
pub async fn connect(request: &mut Request, notes: &mut Vec<String>) -> Result<Remote, Failure> {
    let session = log_in(request).await?;
    let information = session.information();
    request.options.isid = Some(information.isid);
    let tag = information.portal_group_tag.map_or(String::new(), |tag| format!(",{tag}"));
    let mut remote = Remote {
        events: Some(session.events()),
        session: Some(session.clone()),
        reached: information
            .connections
            .first()
            .map_or_else(|| vec![information.portal.to_string()], |first| vec![format!("{}{tag}", first.peer)]),
        isid: digits(&information.isid),
        ..Remote::default()
    };
    let found = find(&session, request, &[], notes).await;
    let found = match found {
        Ok(found) if request.more_portals.is_empty() => Ok(found),
        // Each disk has a group with sessions of its own; the first session has told which there are.
        Ok(found) => remote.gather(found, request).await,
        Err(failure) => Err(failure),
    };
    match found {
        Ok(disks) => {
            remote.disks = disks;
            Ok(remote)
        }
        Err(failure) => {
            remote.end(request.options.logout_timeout).await;
            Err(failure)
        }
    }
}

/// The first login, tried again while nobody answers; by the first portal that does.
async fn log_in(request: &Request) -> Result<Session, Failure> {
    let portals: Vec<_> = std::iter::once(&request.options.portal).chain(&request.more_portals).cloned().collect();
    let mut left = request.login_retries;
    loop {
        let mut last = None;
        for portal in &portals {
            let options = Options { portal: portal.clone(), ..request.options.clone() };
            match options.connect().await {
                Ok(session) => return Ok(session),
                Err(error) => {
                    tracing::warn!("login at {portal}: {error}");
                    last = Some(error);
                }
            }
        }
        let error = last.unwrap_or(Error::Closed);
        let again = matches!(error, Error::Network { .. } | Error::TimedOut { .. } | Error::UnknownHost { .. })
            || matches!(error, Error::LoginRefused { class: 3, .. });
        if !again || left == 0 {
            return Err(failure(&error));
        }
        left -= 1;
        tokio::time::sleep(RETRY_PAUSE).await;
    }
}

/// The disks that are asked for, beside those that are known.
async fn find(
    session: &Session,
    request: &Request,
    known: &[u64],
    notes: &mut Vec<String>,
) -> Result<Vec<Disk>, Failure> {
    let target = request.target();
    let luns = luns(session).await.map_err(|error| failure(&error))?;
    let numbers = || luns.iter().map(Lun::to_string).collect::<Vec<_>>().join(", ");
    let shown = || if luns.is_empty() { "it shows us none".to_owned() } else { format!("it shows us {}", numbers()) };
    let mut found = Vec::new();
    for lun in &luns {
        let Some(number) = lun.number().map(u64::from) else { continue };
        if known.contains(&number) || request.units.lun().is_some_and(|wanted| wanted != number) {
            continue;
        }
        let address = format!("iscsi://{}/{target}/{number}", request.options.portal);
        let disk = match RemoteDisk::open(session.unit(*lun), address).await {
            Ok(disk) => disk,
            Err(error) if request.units.lun().is_none() && !error.is_transport() => {
                notes.push(format!("LUN {number} of {target} is left out: {error}"));
                continue;
            }
            Err(error) => return Err(failure(&error)),
        };
        let identity = disk.identity();
        if let Units::Identifier(wanted) = &request.units
            && !identity.answers_to(wanted)
        {
            continue;
        }
        let identity = Identity {
            name: identity.name().unwrap_or_default(),
            serial: identity.serial,
            vendor: identity.vendor,
            product: identity.product,
        };
        found.push(Disk { lun: number, backend: Arc::new(disk), identity });
    }
    match &request.units {
        Units::All => Ok(found),
        Units::Lun(lun) if found.is_empty() => {
            let line = format!("{target} has no LUN {lun}, or does not show it to us; {}", shown());
            Err(Failure::because(Cause::NotFound, line))
        }
        Units::Identifier(wanted) if found.is_empty() => {
            let line = format!("{target} has no disk {wanted}, or does not show it to us; LUNs: {}", shown());
            Err(Failure::because(Cause::NotFound, line))
        }
        // One disk under several numbers is one disk.
        _ => {
            found.truncate(1);
            Ok(found)
        }
    }
}

/// The LUNs that the target shows us.
async fn luns(session: &Session) -> Result<Vec<Lun>, Error> {
    const HEADER: usize = 8;
    let length = HEADER + LUNS * 8;
    let mut cdb = [0; 12];
    cdb[0] = 0xa0;
    cdb[6..10].copy_from_slice(&(length as u32).to_be_bytes());
    let bytes = session.execute(Lun::new(0), Command::new(&cdb).reading(length)).await.bytes()?;
    let told = bytes.first_chunk::<4>().map_or(0, |told| u32::from_be_bytes(*told) as usize);
    let list = bytes.get(HEADER..).unwrap_or_default();
    let (entries, _) = list.get(..told.min(list.len())).unwrap_or_default().as_chunks::<8>();
    let mut luns: Vec<Lun> = entries.iter().map(|wire| Lun::from_wire(*wire)).collect();
    luns.sort_unstable();
    luns.dedup();
    Ok(luns)
}

fn digits(isid: &[u8]) -> String {
    isid.iter().map(|byte| format!("{byte:02x}")).collect()
}

impl Remote {
    /// Of a session that a holder before us left in the kernel.
    pub fn of_kernel(kernel: Kernel, record: &Record) -> Remote {
        let (isid, reached) = (record.isid.clone(), record.reached.clone());
        Remote { kernel: Some(kernel), isid, reached, ..Remote::default() }
    }

    /// The session is the kernel's from now on; the one that has found the disks has done its part.
    pub async fn hand_over(&mut self, kernel: Kernel, isid: [u8; 6], limit: Duration) {
        self.kernel = Some(kernel);
        self.isid = digits(&isid);
        self.log_out(limit).await;
    }

    /// The disks over all portals.
    async fn gather(&mut self, found: Vec<Disk>, request: &Request) -> Result<Vec<Disk>, Failure> {
        let portals = std::iter::once(&request.options.portal).chain(&request.more_portals);
        let paths: Vec<_> =
            portals.map(|portal| Options { portal: portal.clone(), isid: None, ..request.options.clone() }).collect();
        let settings = GroupOptions { no_path_timeout: request.options.replacement_timeout, ..GroupOptions::default() };
        let mut disks = Vec::new();
        for disk in found {
            let lun = Lun::new(u32::try_from(disk.lun).unwrap_or(u32::MAX));
            let over = paths.iter().map(|options| (options.clone(), lun)).collect();
            let address = disk.backend.description().address;
            let group = Group::connect(over, address, settings.clone()).await.map_err(|error| failure(&error))?;
            let group = Arc::new(group);
            self.groups.push(group.clone());
            disks.push(Disk { backend: group, ..disk });
        }
        self.log_out(request.options.logout_timeout).await;
        Ok(disks)
    }

    /// Disks that the target has got since: LUNs with what they are. Nothing while the session is lost.
    pub async fn find_new(&self, request: &Request, known: &[u64]) -> Result<Vec<Disk>, Failure> {
        match &self.session {
            Some(session) if session.information().state == State::LoggedIn => {
                find(session, request, known, &mut Vec::new()).await
            }
            _ => Ok(Vec::new()),
        }
    }

    /// The kernel's session, where it is one.
    pub fn kernel(&self) -> Option<&Kernel> {
        self.kernel.as_ref()
    }

    /// As an address, without secrets.
    pub fn address(&self, request: &Request) -> String {
        let user = request.options.chap.as_ref().map_or(String::new(), |chap| format!("{}@", chap.account.user));
        let lun = request.units.lun().map_or(String::new(), |lun| format!("/{lun}"));
        format!("iscsi://{user}{}/{}{lun}", request.options.portal, request.target())
    }

    /// The next thing that the target says. Never ends where it cannot say anything any more.
    pub async fn event(&mut self) -> News {
        let Some(events) = &mut self.events else { return std::future::pending().await };
        match events.recv().await {
            Ok(event) => said(&event),
            Err(RecvError::Lagged(_)) => News::Look,
            Err(RecvError::Closed) => {
                self.events = None;
                News::Said
            }
        }
    }

    /// How the sessions are.
    pub fn status(&self) -> Value {
        let sessions = self.session.iter().map(|session| {
            let information = session.information();
            let connection = |connection: &initiator::ConnectionInformation| {
                json!({
                    "cid": connection.cid,
                    "peer": connection.peer.to_string(),
                    "local": connection.local.to_string(),
                })
            };
            json!({
                "portal": information.portal.to_string(),
                "portal_group_tag": information.portal_group_tag,
                "state": information.state.name(),
                "connections": information.connections.iter().map(connection).collect::<Vec<_>>(),
                "agreed": agreed(&information),
            })
        });
        let paths = self.groups.iter().flat_map(|group| group.paths()).map(|path| {
            json!({
                "portal": path.portal,
                "portal_group_tag": path.port_group,
                "state": format!("{:?}", path.state).to_lowercase(),
                "why": path.why,
                "connections": [],
            })
        });
        let kernel = self.kernel.iter().map(|kernel| kernel.status(&self.reached.join(", ")));
        kernel.chain(sessions).chain(paths).collect()
    }

    /// What the session has moved.
    pub fn statistics(&self) -> Value {
        if let Some(kernel) = &self.kernel {
            return json!({ "statistics": kernel.statistics() });
        }
        let Some(session) = &self.session else { return json!({ "statistics": null }) };
        let told = session.statistics();
        json!({ "statistics": {
            "commands": told.commands,
            "errors": told.errors,
            "replayed": told.replayed,
            "timeouts": told.timeouts,
            "data_in_bytes": told.data_in_bytes,
            "data_out_bytes": told.data_out_bytes,
            "received_bytes": told.received_bytes,
            "sent_bytes": told.sent_bytes,
            "connections_lost": told.connections_lost,
            "logins": told.logins,
            "digest_errors": told.digest_errors,
        } })
    }

    /// Logs out, within this time.
    pub async fn end(&mut self, limit: Duration) {
        self.disks.clear();
        self.groups.clear();
        if let Some(kernel) = self.kernel.take() {
            let _ = tokio::task::spawn_blocking(move || kernel.end(limit)).await;
        }
        self.log_out(limit).await;
    }

    async fn log_out(&mut self, limit: Duration) {
        self.events = None;
        if let Some(session) = self.session.take()
            && !matches!(tokio::time::timeout(limit, session.logout()).await, Ok(Ok(())))
        {
            tracing::warn!("the target did not answer the logout; the session is given up");
        }
    }
}

/// What the login came to, by the names of RFC 7143. What a connection has of its own is that of the first one.
fn agreed(information: &initiator::Information) -> Value {
    let session = &information.parameters;
    let yes = |flag: bool| if flag { "Yes" } else { "No" };
    let digest = |flag: bool| if flag { "CRC32C" } else { "None" };
    let mut told = json!({
        "FirstBurstLength": session.first_burst_length,
        "MaxBurstLength": session.max_burst_length,
        "ImmediateData": yes(session.immediate_data),
        "InitialR2T": yes(session.initial_r2t),
        "MaxOutstandingR2T": session.max_outstanding_r2t,
        "MaxConnections": session.max_connections,
        "ErrorRecoveryLevel": session.error_recovery_level,
    });
    if let Some(connection) = information.connections.first().map(|connection| &connection.parameters) {
        told["HeaderDigest"] = digest(connection.header_digest).into();
        told["DataDigest"] = digest(connection.data_digest).into();
        told["MaxRecvDataSegmentLength"] = connection.max_recv_data_segment_length.into();
        told["MaxXmitDataSegmentLength"] = connection.max_send_data_segment_length.into();
    }
    told
}

fn said(event: &Event) -> News {
    match event {
        Event::CapacityChanged { .. } | Event::UnitsChanged => News::Look,
        // What becomes of the session the session itself logs.
        Event::SessionRestored { .. } => News::Look,
        Event::ConnectionLost { cid, why } => {
            tracing::debug!(cid, "a connection is lost: {why}");
            News::Said
        }
        Event::UnitAttention { lun, words, .. } => {
            tracing::info!(%lun, "the unit says: {words}");
            News::Look
        }
        Event::Async { words, .. } => {
            tracing::info!("the target says: {words}");
            News::Said
        }
        _ => News::Said,
    }
}

/// An error of the initiator, for people and scripts.
pub fn failure(error: &Error) -> Failure {
    let cause = match error {
        Error::UnknownHost { .. } | Error::Network { .. } => Cause::Unreachable,
        Error::TimedOut { .. } | Error::Gone { .. } => Cause::TimedOut,
        Error::LoginRefused { class: 2, detail: 1, .. } | Error::Authentication { .. } => Cause::Authentication,
        Error::LoginRefused { class: 2, detail: 3, .. } => Cause::NotFound,
        Error::LoginRefused { .. } => Cause::Refused,
        Error::Invalid(line) => return Failure::input(line),
        other => return Failure::runtime(other),
    };
    Failure::because(cause, error)
}
