//! The handle of a session: what callers hold of it. The session itself lives in its driver's task.

use crate::command::{Command, Finished};
use crate::driver::{Ask, Driver, Job, Request, Shared, Sink};
use crate::login::{self, Place};
use crate::options::Options;
use crate::{Address, Error, Event, Information, Lun, Statistics, Unit};
use iscsi::initiator::Function;
use std::sync::Arc;
use tokio::sync::{broadcast, oneshot};

/// A session with a target. Handles are cheap to clone; the session is logged out when the last one is dropped.
///
/// It lives in a task of the runtime that it was opened on, and that task owns the memory of every command until
/// the command has ended: whichever future is dropped, nothing is corrupted by it. The answer of a command whose
/// future was dropped is discarded; one that had not been sent is not sent.
#[derive(Clone)]
pub struct Session {
    handle: Arc<Handle>,
}

/// What the last clone takes with it.
struct Handle {
    shared: Arc<Shared>,
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.shared.let_go();
    }
}

impl Session {
    /// Logs in to what the address names: `iscsi://[user[%secret]@]host[:port]/target[/lun]`.
    ///
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// # let url = sim::served::disk(2048);
    /// // url = "iscsi://10.0.0.1/iqn.2026-11.com.example:disk/0"
    /// let session = initiator::Session::connect(&url).await?;
    /// let disk = session.unit(0);
    /// let first = disk.read(0, 8).await?;
    /// disk.write(8, first).await?;
    /// disk.flush().await?;
    /// session.logout().await?;
    /// # Ok::<(), initiator::Error>(())
    /// # }).unwrap();
    /// ```
    pub async fn connect(address: &str) -> Result<Session, Error> {
        let wrong = |error: crate::AddressError| Error::Invalid(error.to_string());
        let address: Address = address.parse().map_err(wrong)?;
        Session::builder(&address.resolve().map_err(wrong)?).connect().await
    }

    /// The options of a session with what the address names, to be changed before [`Options::connect`].
    ///
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// use initiator::{DigestOffer, Session};
    /// # let url = sim::served::disk(2048);
    /// let address = url.parse()?; // iscsi://alice%alice-secret-12@10.0.0.1/iqn.2026-11.com.example:disk
    /// let session = Session::builder(&address)
    ///     .digests(DigestOffer::Preferred)
    ///     .connections(4)
    ///     .error_recovery_level(2)
    ///     .connect()
    ///     .await?;
    /// assert_eq!(session.information().parameters.error_recovery_level, 2);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// # }).unwrap();
    /// ```
    pub fn builder(address: &Address) -> Options {
        Options::of(address)
    }

    /// The unit of this number. Nothing is asked of the target by it.
    pub fn unit(&self, lun: impl Into<Lun>) -> Unit {
        Unit::new(self.clone(), lun.into())
    }

    /// What happens beside commands, from now on. Whoever is slow misses the oldest.
    pub fn events(&self) -> broadcast::Receiver<Event> {
        self.handle.shared.events.subscribe()
    }

    /// What was agreed, and how the session is now.
    pub fn information(&self) -> Information {
        self.handle.shared.information()
    }

    /// What it has moved so far.
    pub fn statistics(&self) -> Statistics {
        self.handle.shared.statistics()
    }

    /// Sends a command to a unit and waits for its end. Its memory comes back whatever the result.
    pub async fn execute(&self, lun: Lun, command: Command) -> Finished {
        let (sender, receiver) = oneshot::channel();
        self.handle.shared.ask(Request::Execute(Job::new(lun, command, Sink::Once(sender))));
        match receiver.await {
            Ok(finished) => finished,
            // The runtime has ended with the driver on it.
            Err(_) => {
                Finished { data_in: Default::default(), data_out: Default::default(), result: Err(Error::Closed) }
            }
        }
    }

    /// Carries out a task management function; tasks that it ends are told as [`Error::Aborted`].
    pub async fn task_management(&self, function: Function, lun: Lun) -> Result<(), Error> {
        self.wait(|reply| Ask::Function { function, lun, reply }).await
    }

    /// Sends this to the target and waits until it has come back; how long that took is the caller's to measure.
    pub async fn ping(&self, data: &[u8]) -> Result<Vec<u8>, Error> {
        self.wait(|reply| Ask::Ping { data: data.to_vec(), reply }).await
    }

    /// Sends text (`SendTargets=All`) and waits for the whole answer, `key=value` with a zero byte behind each.
    pub async fn text(&self, text: &[u8]) -> Result<Vec<u8>, Error> {
        self.wait(|reply| Ask::Text { text: text.to_vec(), reply }).await
    }

    /// Waits for what is in flight, logs out, and waits until the session is over. What is asked of it from now
    /// on ends with [`Error::Closed`].
    pub async fn logout(&self) -> Result<(), Error> {
        self.wait(|reply| Ask::Logout { reply }).await
    }

    async fn wait<T>(&self, ask: impl FnOnce(oneshot::Sender<Result<T, Error>>) -> Ask) -> Result<T, Error> {
        let (sender, receiver) = oneshot::channel();
        self.handle.shared.ask(Request::Ask(Box::new(ask(sender))));
        receiver.await.unwrap_or(Err(Error::Closed))
    }

    /// A channel for whoever submits many commands and takes their ends together, without a future for each.
    /// `wake` is called, at most once for all that ends together, when there is something to take.
    pub fn channel(&self, wake: std::task::Waker) -> crate::Channel {
        crate::Channel::new(self.clone(), wake)
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.handle.shared
    }
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Session({})", self.handle.shared.information().target)
    }
}

impl Options {
    /// Logs in. The session's task runs on the runtime that this is called on.
    pub async fn connect(mut self) -> Result<Session, Error> {
        self.check()?;
        let isid = match self.isid {
            Some(isid) => isid,
            None => login::random_isid()?,
        };
        self.isid = Some(isid);
        let entered = login::log_in(&self, isid, Place::leading()).await?;
        let shared = Arc::new(Shared::new());
        let driver = Driver::new(self, isid, entered, shared.clone());
        tokio::spawn(driver.run());
        Ok(Session { handle: Arc::new(Handle { shared }) })
    }
}
