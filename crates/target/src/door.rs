//! The front door: accepting, the login, discovery. A worker gets a connection only after its login.

use crate::target::{Handover, Target};
use crate::worker::WorkerHandle;
use iscsi::key::{Offers, SessionParameters};
use iscsi::login::Status;
use iscsi::login::target::{Asked, Found, LoggedIn, Login, LoginLimits, Policy, Step};
use iscsi::session::SessionKind;
use iscsi::wire::BHS_BYTES;
use lun::NexusDescription;
use scsi::transport_id::TransportId;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, AtomicUsize, Ordering};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;

/// Connections that may be in their login at a time.
const LOGINS: usize = 1024;
/// A login that takes longer is closed.
const LOGIN_TIME: Duration = Duration::from_secs(15);

/// The front door of one target.
pub struct Door {
    target: Target,
    workers: Vec<WorkerHandle>,
    next_worker: AtomicUsize,
    next_tsih: AtomicU16,
    logins: AtomicUsize,
}

impl Door {
    /// A door to this target; sessions are spread over the workers.
    pub fn new(target: Target, workers: Vec<WorkerHandle>) -> Arc<Door> {
        let (next_worker, next_tsih) = (AtomicUsize::new(0), AtomicU16::new(1));
        Arc::new(Door { target, workers, next_worker, next_tsih, logins: AtomicUsize::new(0) })
    }

    /// Accepts for ever.
    pub async fn listen(self: Arc<Door>, listener: TcpListener) {
        loop {
            match listener.accept().await {
                Ok((stream, peer)) => {
                    if self.logins.load(Ordering::Relaxed) >= LOGINS {
                        tracing::warn!(%peer, "refused: too many logins at a time");
                        continue;
                    }
                    let door = Arc::clone(&self);
                    door.logins.fetch_add(1, Ordering::Relaxed);
                    tokio::spawn(async move {
                        let outcome = tokio::time::timeout(LOGIN_TIME, door.login(stream, peer)).await;
                        door.logins.fetch_sub(1, Ordering::Relaxed);
                        match outcome {
                            Err(_) => tracing::warn!(%peer, "login not finished in time"),
                            Ok(Err(error)) => tracing::warn!(%peer, "login failed: {error}"),
                            Ok(Ok(())) => {}
                        }
                    });
                }
                // No descriptors: those who are here go on; look again a little later.
                Err(error) => {
                    tracing::warn!("accept: {error}");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }

    async fn login(&self, mut stream: TcpStream, peer: SocketAddr) -> Result<(), String> {
        let _ = stream.set_nodelay(true);
        let mut login = Login::new(Offers::default(), LoginLimits::default());
        let mut policy = Admission { door: self };
        let (mut out, mut data) = (Vec::new(), Vec::new());
        loop {
            let mut header = [0; BHS_BYTES];
            stream.read_exact(&mut header).await.map_err(|error| error.to_string())?;
            let length = login.data_bytes(&header).map_err(|failure| failure.why)?;
            data.resize(length, 0);
            stream.read_exact(&mut data).await.map_err(|error| error.to_string())?;
            out.clear();
            let step = login.handle(&header, &data, &mut policy, &mut out);
            stream.write_all(&out).await.map_err(|error| error.to_string())?;
            match step {
                Step::More => {}
                Step::Failed(failure) => return Err(failure.why),
                Step::Done(logged_in) if logged_in.asked.kind == SessionKind::Discovery => {
                    let name = self.target.name.clone();
                    tokio::spawn(async move {
                        if let Err(error) = crate::discovery::serve(stream, *logged_in, &name).await {
                            tracing::info!(%peer, "discovery: {error}");
                        }
                    });
                    return Ok(());
                }
                Step::Done(logged_in) => return self.hand_over(stream, peer, *logged_in),
            }
        }
    }

    fn hand_over(&self, stream: TcpStream, peer: SocketAddr, logged_in: LoggedIn) -> Result<(), String> {
        let stream = stream.into_std().map_err(|error| error.to_string())?;
        let initiator = TransportId::port(&logged_in.asked.initiator_name, logged_in.asked.isid).encode();
        let nexus = NexusDescription {
            initiator_port: initiator.into(),
            target_port: self.target.port(),
            units: Arc::clone(&self.target.units),
        };
        let name = logged_in.asked.initiator_name.clone();
        tracing::info!(%peer, initiator = %name, "session opened");
        let (ended, told) = oneshot::channel();
        tokio::spawn(async move {
            let why = told.await.unwrap_or_else(|_| "its worker stopped".to_owned());
            tracing::info!(%peer, initiator = %name, "session closed: {why}");
        });
        let worker = self.next_worker.fetch_add(1, Ordering::Relaxed) % self.workers.len();
        self.workers[worker].serve(Handover { stream, early: Vec::new(), logged_in, nexus, ended });
        Ok(())
    }
}

struct Admission<'a> {
    door: &'a Door,
}

impl Policy for Admission<'_> {
    fn find(&mut self, asked: &Asked) -> Result<Found, Status> {
        match &asked.target_name {
            Some(name) if *name != self.door.target.name => Err(Status::NOT_FOUND),
            _ => Ok(Found { portal_group_tag: 1, alias: self.door.target.alias.clone() }),
        }
    }

    fn admit(&mut self, asked: &Asked, _: &SessionParameters) -> Result<u16, Status> {
        if asked.tsih != 0 {
            return Err(Status::SESSION_DOES_NOT_EXIST);
        }
        Ok(self.door.next_tsih.fetch_add(1, Ordering::Relaxed).max(1))
    }
}
