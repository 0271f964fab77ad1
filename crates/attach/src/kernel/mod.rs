//! The kernel's own initiator: a login made in user space, handed to iscsi_tcp over NETLINK_ISCSI.
//!
//! Here the kernel speaks SCSI, and the device is a disk of its own (`/dev/sdX`). What is left for us is what
//! open-iscsi's daemon does: make the session, give the kernel a connection that has been logged in, look for
//! the logical units, and, when the connection is lost, log in again and give the kernel the new one. Who
//! keeps a session ([`KernelSession`]) may end or be killed at any time: the session goes on in the kernel and can be
//! taken back ([`KernelSession::take_back`]). How a login is made is not known here ([`Relogin`]).
//!
//! The kernel answers the target's NOP-Ins and sends NOP-Outs of its own by itself, and calls the connection
//! lost when they are not answered; it is told how often ([`SessionSettings`]).

mod keeper;
mod message;
mod netlink;
mod session;
mod sysfs;

#[cfg(test)]
mod tests;

pub use keeper::{KernelSession, Standing};
pub use message::Statistics;
pub use sysfs::{Disk, KnownSession};

use crate::{Error, Notice, Unusable};
use std::net::TcpStream;
use std::time::Duration;
use sysfs::Sysfs;

/// A connection that is logged in and has said nothing since.
#[derive(Debug)]
pub struct Login {
    /// The socket, from which nothing was read beyond the login's last response.
    pub socket: TcpStream,
    /// What was agreed on.
    pub agreed: Agreed,
}

/// What a login agreed on, as far as the kernel wants to know it. One connection, level 0.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Agreed {
    /// InitiatorName.
    pub initiator_name: String,
    /// TargetName.
    pub target_name: String,
    /// TargetAlias, where the target told it.
    pub target_alias: Option<String>,
    /// TargetPortalGroupTag.
    pub portal_group_tag: u16,
    /// Address of the portal as it was asked for (before any redirection).
    pub address: String,
    /// Its port.
    pub port: u16,
    /// CmdSN of the first command: the CmdSN of the login, which is immediate.
    pub first_command: u32,
    /// StatSN that comes next.
    pub exp_stat_sn: u32,
    /// CRC32C over headers.
    pub header_digest: bool,
    /// CRC32C over data.
    pub data_digest: bool,
    /// What we take in one PDU, in bytes.
    pub max_recv_data_segment_length: u32,
    /// What the target takes in one PDU, in bytes.
    pub max_send_data_segment_length: u32,
    /// InitialR2T.
    pub initial_r2t: bool,
    /// ImmediateData.
    pub immediate_data: bool,
    /// MaxOutstandingR2T.
    pub max_outstanding_r2t: u32,
    /// FirstBurstLength in bytes.
    pub first_burst_length: u32,
    /// MaxBurstLength in bytes.
    pub max_burst_length: u32,
    /// DataPDUInOrder.
    pub data_pdu_in_order: bool,
    /// DataSequenceInOrder.
    pub data_sequence_in_order: bool,
}

/// Whoever can log in again after a connection is lost: with the same names and ISID as before, so that the
/// target ends what is left of the old session first.
pub trait Relogin: Send {
    /// Logs in with this CmdSN. Has a bound of its own, of seconds.
    fn login(&mut self, first_command: u32) -> Result<Login, LoginFailure>;
}

impl<F> Relogin for F
where
    F: FnMut(u32) -> Result<Login, LoginFailure> + Send,
{
    fn login(&mut self, first_command: u32) -> Result<Login, LoginFailure> {
        self(first_command)
    }
}

/// Why a login did not succeed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct LoginFailure {
    /// In words.
    pub text: String,
    /// It will be so the next time: the secret is wrong, the target is not there any more.
    pub lasting: bool,
}

/// How the kernel treats a session. Defaults are open-iscsi's.
#[derive(Clone)]
pub struct SessionSettings {
    /// For how long commands wait for a lost session (`node.session.timeo.replacement_timeout`); `None` is
    /// for ever.
    pub replacement_timeout: Option<Duration>,
    /// After how long a silence the kernel asks whether the target is there; zero is never.
    pub noop_out_interval: Duration,
    /// How long it waits for the answer.
    pub noop_out_timeout: Duration,
    /// Commands in flight in the session, a power of two up to 2,048 (`node.session.cmds_max`).
    pub commands_max: u16,
    /// Commands in flight at one logical unit, up to 1,024 (`node.session.queue_depth`).
    pub queue_depth: u16,
    /// How long a command may take to be aborted.
    pub abort_timeout: Duration,
    /// How long a reset of a logical unit may take.
    pub logical_unit_reset_timeout: Duration,
    /// How long a reset of the target may take.
    pub target_reset_timeout: Duration,
    /// Whether data of tasks that are being aborted is withheld (`node.session.iscsi.FastAbort`).
    pub fast_abort: bool,
    /// The interface record's name, for who looks at the session later.
    pub interface_name: String,
    /// Told, once, when the session has gone otherwise than by [`KernelSession::detach`].
    pub notice: Option<Notice>,
}

impl Default for SessionSettings {
    fn default() -> SessionSettings {
        SessionSettings {
            replacement_timeout: Some(Duration::from_secs(120)),
            noop_out_interval: Duration::from_secs(5),
            noop_out_timeout: Duration::from_secs(5),
            commands_max: 128,
            queue_depth: 32,
            abort_timeout: Duration::from_secs(15),
            logical_unit_reset_timeout: Duration::from_secs(30),
            target_reset_timeout: Duration::from_secs(30),
            fast_abort: true,
            interface_name: "default".into(),
            notice: None,
        }
    }
}

/// Whether the kernel's initiator can be used here, by us. Loads its module where it is not loaded.
pub fn probe() -> Result<(), Unusable> {
    transport().map(drop)
}

/// The kernel's sessions, whoever made them. Empty where the module is not loaded.
pub fn sessions() -> Vec<KnownSession> {
    Sysfs::system().sessions()
}

/// One of them.
pub fn known_session(session: u32) -> Option<KnownSession> {
    Sysfs::system().session(session)
}

/// Whether the kernel's number of a LUN means this LUN.
pub fn is_lun(kernels: u64, lun: u64) -> bool {
    sysfs::is_lun(kernels, lun)
}

/// What the kernel has counted for a session.
pub fn statistics(session: u32) -> Result<Statistics, Error> {
    let mut netlink = netlink::Netlink::open(transport()?)?;
    session::statistics(&mut netlink, message::Place { session, connection: 0 })
}

/// Has the kernel look for new logical units of a session, for one or for all, and ask those that it has for
/// their sizes anew.
pub fn rescan(session: u32, lun: Option<u64>) -> Result<(), Error> {
    rescan_in(&Sysfs::system(), session, lun)
}

fn rescan_in(sysfs: &Sysfs, session: u32, lun: Option<u64>) -> Result<(), Error> {
    let host = sysfs.host(session).ok_or_else(|| gone(session))?;
    sysfs.scan(host, lun)?;
    for disk in sysfs.disks(session).iter().filter(|disk| lun.is_none_or(|lun| sysfs::is_lun(disk.lun, lun))) {
        sysfs.look(session, disk)?;
    }
    Ok(())
}

/// Ends a session that nobody keeps, as [`KernelSession::detach`] does with [`crate::Detach::Force`].
pub fn end(session: u32, limit: Duration) -> Result<(), Error> {
    let place = message::Place { session, connection: 0 };
    let sysfs = Sysfs::system();
    let mut netlink = netlink::Netlink::open(transport()?)?;
    session::end(&mut netlink, &sysfs, place, limit)
}

fn gone(session: u32) -> Error {
    let why = std::io::Error::new(std::io::ErrorKind::NotFound, "the kernel does not have it");
    Error::system(format!("session {session}"), why)
}

/// The handle of iscsi_tcp.
fn transport() -> Result<u64, Unusable> {
    let sysfs = Sysfs::system();
    allowed()?;
    if let Some(handle) = sysfs.transport() {
        return listens(handle).map(|()| handle);
    }
    if sysfs.has_transport() {
        return Err(others_root());
    }
    crate::modules::load(&["iscsi_tcp", "sd_mod"]);
    match sysfs.transport() {
        Some(handle) => listens(handle).map(|()| handle),
        None => Err(Unusable(
            "the kernel's iSCSI initiator is not there: load its module with `modprobe iscsi_tcp` (or install the \
             kernel's extra modules)"
                .into(),
        )),
    }
}

/// The kernel does for the first user namespace's root alone what it is asked to.
fn allowed() -> Result<(), Unusable> {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let effective = status.lines().find_map(|line| u64::from_str_radix(line.strip_prefix("CapEff:")?.trim(), 16).ok());
    match effective.is_some_and(|effective| effective & SYS_ADMIN == 0) {
        true => Err(Unusable("the kernel's iSCSI initiator needs root (CAP_SYS_ADMIN)".into())),
        false => Ok(()),
    }
}

fn others_root() -> Unusable {
    Unusable("the kernel's iSCSI initiator needs the host's root, not that of a user namespace".into())
}

/// It listens in the host's network namespace alone, which can be seen by asking: of a session that is not there.
fn listens(handle: u64) -> Result<(), Unusable> {
    const ECONNREFUSED: i32 = 111;
    const EPERM: i32 = 1;
    let asked = netlink::Netlink::open(handle).and_then(|mut netlink| {
        netlink.call(&message::Request::Statistics(message::Place { session: u32::MAX, connection: 0 }))
    });
    match asked {
        Err(Error::System { source, .. }) if source.raw_os_error() == Some(ECONNREFUSED) => Err(Unusable(
            "the kernel's iSCSI initiator can be reached from the host's network namespace only, not from this one"
                .into(),
        )),
        Err(Error::System { source, .. }) if source.raw_os_error() == Some(EPERM) => Err(others_root()),
        _ => Ok(()),
    }
}

/// CAP_SYS_ADMIN.
const SYS_ADMIN: u64 = 1 << 21;
