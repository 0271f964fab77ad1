//! Disks by the kernel's own initiator: the login is ours, the session is the kernel's from then on, and what is
//! left to the holder is to log in again when it is lost.

use super::devices;
use super::hold::Request;
use super::remote;
use super::state::{Device, Identity};
use crate::failure::Failure;
use attach::kernel::{Agreed, Disk, KernelSession, Login, LoginFailure, SessionSettings, Standing};
use attach::{Attachment, Closed, Detach, Error, Notice};
use initiator::{HandOver, Lun, Options, RemoteDisk, connect_for_hand_over, reconnect_for_hand_over};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::runtime::Handle;

/// How long the kernel may take to find a disk.
const SCAN_LIMIT: Duration = Duration::from_secs(20);
/// The most commands of a session that the kernel knows.
const COMMANDS_MAX: u32 = 2048;

/// A session of the kernel.
#[derive(Clone)]
pub struct Kernel {
    session: Arc<KernelSession>,
    /// Its devices that are attached: the session goes with the last.
    attached: Arc<AtomicUsize>,
    known: Known,
}

/// Which disk each LUN is, and has to be when the session comes back.
type Known = Arc<Mutex<BTreeMap<u64, Identity>>>;

/// Logs in and hands the session over; gives its ISID with it. Within the runtime on which it is logged in again later.
pub async fn start(request: &Request, notice: Notice) -> Result<(Kernel, [u8; 6]), Failure> {
    let options = limited(&request.options);
    let handed = connect_for_hand_over(&options, None).await.map_err(|error| remote::failure(&error))?;
    let isid = handed.isid;
    let options = Options { isid: Some(isid), ..options };
    let login = login(handed, &options);
    let known = Known::default();
    let (settings, relogin) = (settings(request, notice), relogin(options, known.clone()));
    let started = tokio::task::spawn_blocking(move || KernelSession::start(login, settings, relogin));
    let session = started.await.map_err(Failure::runtime)?.map_err(|error| devices::failure(&error))?;
    Ok((Kernel::new(session, known), isid))
}

/// Takes a session back whose holder died, with these devices.
pub async fn take_back(request: &Request, session: u32, devices: &[Device], notice: Notice) -> Result<Kernel, Failure> {
    let (target, settings) = (request.target().to_owned(), settings(request, notice));
    let known = devices.iter().map(|device| (device.lun, device.identity.clone())).collect();
    let known: Known = Arc::new(Mutex::new(known));
    let relogin = relogin(limited(&request.options), known.clone());
    let taken = tokio::task::spawn_blocking(move || KernelSession::take_back(session, &target, settings, relogin));
    Ok(Kernel::new(taken.await.map_err(Failure::runtime)?.map_err(|error| devices::failure(&error))?, known))
}

/// The kernel's initiator knows one connection and recovery level 0.
fn limited(options: &Options) -> Options {
    Options { connections: 1, error_recovery_level: 0, ..options.clone() }
}

fn relogin(options: Options, known: Known) -> impl FnMut(u32) -> Result<Login, LoginFailure> + Send + 'static {
    let runtime = Handle::current();
    move |first_command| {
        let known = lock(&known).clone();
        // The session's keeper is a thread of its own; the runtime is the holder's.
        runtime.block_on(async {
            verify(&options, &known).await?;
            let handed = reconnect_for_hand_over(&options, first_command).await.map_err(refused)?;
            Ok(login(handed, &options))
        })
    }
}

fn refused(error: initiator::Error) -> LoginFailure {
    let lasting =
        matches!(error, initiator::Error::LoginRefused { class: 2, .. } | initiator::Error::Authentication { .. });
    LoginFailure { lasting, text: error.to_string() }
}

/// Whether the disks are still those that they were. The kernel sends what waits as soon as it has a session, so this is
/// asked before, in a session of our own that takes the lost one's place.
async fn verify(options: &Options, known: &BTreeMap<u64, Identity>) -> Result<(), LoginFailure> {
    if known.values().all(|identity| identity.name.is_empty()) {
        return Ok(());
    }
    let once = Options { replacement_timeout: Duration::ZERO, ..options.clone() };
    let session = once.connect().await.map_err(refused)?;
    let mut verified = Ok(());
    for (lun, was) in known.iter().filter(|(_, was)| !was.name.is_empty()) {
        let unit = session.unit(Lun::new(u32::try_from(*lun).unwrap_or(u32::MAX)));
        match RemoteDisk::open(unit, format!("LUN {lun}")).await {
            Ok(disk) => {
                let is = disk.identity();
                if is.name().as_ref() != Some(&was.name) && !is.answers_to(&was.name) {
                    let is = is.name().unwrap_or_else(|| "one without a name".to_owned());
                    let text = format!("LUN {lun} is another disk now: {is}, and was {}", was.name);
                    verified = Err(LoginFailure { text, lasting: true });
                    break;
                }
            }
            Err(error) if error.is_transport() => {
                verified = Err(refused(error));
                break;
            }
            // A unit that is not there, or not ready, answers the kernel as it answers us.
            Err(error) => tracing::debug!(lun, %error, "a disk cannot be looked at"),
        }
    }
    let _ = session.logout().await;
    verified
}

fn login(handed: HandOver, options: &Options) -> Login {
    let HandOver { stream, logged_in, .. } = handed;
    let (session, connection) = (logged_in.session, logged_in.opening.parameters);
    let agreed = Agreed {
        initiator_name: options.initiator_name.clone(),
        target_name: options.target.clone().unwrap_or_default(),
        target_alias: logged_in.target_alias,
        portal_group_tag: logged_in.portal_group_tag.unwrap_or(0),
        address: options.portal.host.clone(),
        port: options.portal.port,
        first_command: logged_in.cmd_sn,
        exp_stat_sn: logged_in.opening.next_stat_sn,
        header_digest: connection.header_digest,
        data_digest: connection.data_digest,
        max_recv_data_segment_length: connection.max_recv_data_segment_length,
        max_send_data_segment_length: connection.max_send_data_segment_length,
        initial_r2t: session.initial_r2t,
        immediate_data: session.immediate_data,
        max_outstanding_r2t: session.max_outstanding_r2t,
        first_burst_length: session.first_burst_length,
        max_burst_length: session.max_burst_length,
        data_pdu_in_order: session.data_pdu_in_order,
        data_sequence_in_order: session.data_sequence_in_order,
    };
    Login { socket: stream, agreed }
}

fn settings(request: &Request, notice: Notice) -> SessionSettings {
    let options = &request.options;
    let depth = options.queue_depth.clamp(1, COMMANDS_MAX);
    // It wants a power of two.
    let commands = depth.checked_next_power_of_two().unwrap_or(COMMANDS_MAX).min(COMMANDS_MAX);
    let usual = SessionSettings::default();
    SessionSettings {
        replacement_timeout: Some(options.replacement_timeout),
        noop_out_interval: options.nop_interval,
        noop_out_timeout: options.nop_timeout,
        // The library's own default is none that a node record would have.
        commands_max: if options.queue_depth > 1000 { usual.commands_max } else { commands as u16 },
        notice: Some(notice),
        ..usual
    }
}

impl Kernel {
    fn new(session: KernelSession, known: Known) -> Kernel {
        Kernel { session: Arc::new(session), attached: Arc::default(), known }
    }

    /// The kernel's number of the session.
    pub fn number(&self) -> u32 {
        self.session.number()
    }

    /// Waits for the disk of a LUN, which is this one. Blocks.
    pub fn attach(&self, lun: u64, identity: Identity) -> Result<Arc<dyn Attachment>, Failure> {
        lock(&self.known).insert(lun, identity);
        let found = self.session.scan(Some(lun), SCAN_LIMIT).map_err(|error| devices::failure(&error))?;
        let disk = found.into_iter().next().ok_or_else(|| {
            Failure::because(crate::failure::Cause::NotFound, format!("the kernel finds no disk with LUN {lun}"))
        })?;
        self.attached.fetch_add(1, Ordering::SeqCst);
        Ok(Arc::new(KernelDisk { kernel: self.clone(), path: disk.device(), disk, closed: Mutex::default() }))
    }

    /// Has the kernel look for units; gives the LUNs of its disks. Blocks.
    pub fn rescan(&self) -> Result<Vec<u64>, Failure> {
        let disks = self.session.scan(None, SCAN_LIMIT).map_err(|error| devices::failure(&error))?;
        // Above 255 the kernel's number has the address method in it (SAM-5 4.7.7.1).
        let plain = |lun: u64| if attach::kernel::is_lun(lun, lun & 0x3fff) { lun & 0x3fff } else { lun };
        Ok(disks.iter().map(|disk| plain(disk.lun)).collect())
    }

    /// How it is, for listings.
    pub fn status(&self, portal: &str) -> Value {
        let (state, why) = match self.session.standing() {
            Standing::Up => ("logged in", None),
            Standing::Down { why, last } => {
                ("recovering", Some(last.map_or(why, |(error, count)| format!("{error} ({count} logins)"))))
            }
            Standing::Gone(closed) => ("closed", Some(closed.to_string())),
        };
        json!({
            "portal": portal,
            "state": state,
            "why": why,
            "kernel_session": self.number(),
            "recoveries": self.session.recoveries(),
            "connections": [],
        })
    }

    /// What the kernel has counted. Blocks.
    pub fn statistics(&self) -> Value {
        match self.session.statistics() {
            Ok(told) => told.rows().into_iter().map(|(name, count)| (name.to_owned(), Value::from(count))).collect(),
            Err(error) => json!({ "failure": error.to_string() }),
        }
    }

    /// Ends the session, whatever it has. Blocks.
    pub fn end(&self, limit: Duration) {
        if let Err(error) = self.session.detach(Detach::Force, limit) {
            tracing::warn!("the kernel's session {} is not ended: {error}", self.number());
        }
    }
}

/// A disk of the kernel's.
struct KernelDisk {
    kernel: Kernel,
    disk: Disk,
    path: PathBuf,
    closed: Mutex<Option<Closed>>,
}

impl KernelDisk {
    fn take(&self) -> bool {
        let mut closed = self.closed.lock().unwrap_or_else(PoisonError::into_inner);
        closed.replace(Closed::Detached).is_none()
    }
}

impl Attachment for KernelDisk {
    fn kind(&self) -> &'static str {
        "kernel"
    }

    fn device(&self) -> &Path {
        &self.path
    }

    fn resized(&self) -> Result<u64, Error> {
        self.kernel.session.resized(&self.disk)
    }

    fn detach(&self, how: Detach) -> Result<(), Error> {
        if self.closed().is_some() {
            return Ok(());
        }
        // The session goes with its last disk; until then a disk is only let go of.
        if self.kernel.attached.load(Ordering::SeqCst) <= 1 {
            self.kernel.session.detach(how, devices::DETACH_LIMIT)?;
        } else {
            self.kernel.session.remove(&self.disk, how, devices::DETACH_LIMIT)?;
        }
        if self.take() {
            self.kernel.attached.fetch_sub(1, Ordering::SeqCst);
        }
        Ok(())
    }

    fn closed(&self) -> Option<Closed> {
        let own = self.closed.lock().unwrap_or_else(PoisonError::into_inner).clone();
        own.or_else(|| match self.kernel.session.standing() {
            Standing::Gone(closed) => Some(closed),
            _ => None,
        })
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
