//! A session that is kept: one thread that hears of lost connections and logs in again.

use super::message::{Event, Place, connection_error};
use super::netlink::Netlink;
use super::session;
use super::sysfs::{Disk, Sysfs};
use super::{Login, Relogin, SessionSettings, Statistics, gone, transport};
use crate::{Closed, Detach, Error};
use rustix::event::EventfdFlags;
use rustix::fd::OwnedFd;
use rustix::fs::{Mode, OFlags};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How often /sys is asked whether all is as it was told: events can be lost.
const LOOK: Duration = Duration::from_secs(10);
/// The pauses between logins: from the first to this while commands wait, then up to the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const PAUSE_WHILE_WAITED: Duration = Duration::from_secs(2);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// Refusals that will last, one after another, after which a session is given up once nobody waits for it.
const REFUSALS: u32 = 3;
/// The longest time that a target may ask to be left alone for (Time2Wait is 3,600 s at most).
const TARGETS_PAUSE_MAX: Duration = Duration::from_secs(300);

/// Asynchronous messages (RFC 7143 11.9.1).
const ASYNC_MESSAGE: u8 = 0x32;
const LOGOUT_REQUEST: u8 = 1;
const DROPS_CONNECTION: u8 = 2;
const DROPS_SESSION: u8 = 3;
const NEGOTIATION_REQUEST: u8 = 4;

/// How a session stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// Logged in; the kernel works with it.
    Up,
    /// Lost, and being logged in again.
    Down {
        /// Why it was lost.
        why: String,
        /// What the last login said, and how many there were.
        last: Option<(String, u32)>,
    },
    /// Gone.
    Gone(Closed),
}

/// A session of the kernel that we keep. Dropping it leaves the session in the kernel, to be taken back.
pub struct KernelSession {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

struct Shared {
    place: Place,
    sysfs: Sysfs,
    transport: u64,
    /// Held while the kernel is given a new connection: nobody ends the session in the midst of that.
    turn: Mutex<Stopping>,
    standing: Mutex<Told>,
    wake: OwnedFd,
}

#[derive(Default)]
struct Stopping(bool);

struct Told {
    standing: Standing,
    recoveries: u32,
}

struct Keeper<R> {
    shared: Arc<Shared>,
    netlink: Netlink,
    settings: SessionSettings,
    relogin: R,
    /// The target asked to be left alone until then.
    not_before: Option<Instant>,
}

enum Next {
    GoOn,
    End,
}

impl KernelSession {
    /// Makes a session of this login, and keeps it with further ones. After an error nothing is left in the
    /// kernel. The devices come with [`KernelSession::scan`].
    pub fn start(login: Login, settings: SessionSettings, relogin: impl Relogin + 'static) -> Result<Self, Error> {
        let transport = transport()?;
        Self::start_on(Netlink::open(transport)?, transport, Sysfs::system(), login, settings, relogin)
    }

    pub(super) fn start_on(
        mut netlink: Netlink,
        transport: u64,
        sysfs: Sysfs,
        login: Login,
        settings: SessionSettings,
        relogin: impl Relogin + 'static,
    ) -> Result<Self, Error> {
        let place = session::create(&mut netlink, &login.agreed, &settings)?;
        if let Err(error) = session::bring_up(&mut netlink, place, login, &settings) {
            let _ = session::destroy(&mut netlink, place);
            return Err(error);
        }
        Self::keep(netlink, transport, sysfs, place, settings, relogin, Standing::Up)
    }

    /// Takes back a session that another process of ours kept. One that has been lost meanwhile is logged in
    /// again at once. Refuses a session of another target.
    pub fn take_back(
        session: u32,
        target: &str,
        settings: SessionSettings,
        relogin: impl Relogin + 'static,
    ) -> Result<Self, Error> {
        let transport = transport()?;
        Self::take_back_on(Netlink::open(transport)?, transport, Sysfs::system(), session, target, settings, relogin)
    }

    pub(super) fn take_back_on(
        netlink: Netlink,
        transport: u64,
        sysfs: Sysfs,
        session: u32,
        target: &str,
        settings: SessionSettings,
        relogin: impl Relogin + 'static,
    ) -> Result<Self, Error> {
        let known = sysfs.session(session).ok_or_else(|| gone(session))?;
        if known.target != target {
            let what = format!("session {session} belongs to {}, not to {target}", known.target);
            return Err(Error::Unsupported(what));
        }
        let standing = match sysfs.is_up(session) {
            true => Standing::Up,
            false => Standing::Down { why: "it was lost while nobody kept it".into(), last: None },
        };
        let place = Place { session, connection: 0 };
        Self::keep(netlink, transport, sysfs, place, settings, relogin, standing)
    }

    fn keep(
        netlink: Netlink,
        transport: u64,
        sysfs: Sysfs,
        place: Place,
        settings: SessionSettings,
        relogin: impl Relogin + 'static,
        standing: Standing,
    ) -> Result<Self, Error> {
        let wake = rustix::event::eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)
            .map_err(|error| Error::system("no eventfd", error))?;
        let up = standing == Standing::Up;
        let shared = Arc::new(Shared {
            place,
            sysfs,
            transport,
            turn: Mutex::default(),
            standing: Mutex::new(Told { standing, recoveries: 0 }),
            wake,
        });
        let mut keeper = Keeper { shared: shared.clone(), netlink, settings, relogin, not_before: None };
        let thread = std::thread::Builder::new()
            .name(format!("session-{}", place.session))
            .spawn(move || keeper.run(up))
            .map_err(|error| Error::system("no thread", error))?;
        Ok(KernelSession { shared, thread: Mutex::new(Some(thread)) })
    }

    /// The kernel's number of it.
    pub fn number(&self) -> u32 {
        self.shared.place.session
    }

    /// How it stands.
    pub fn standing(&self) -> Standing {
        lock(&self.shared.standing).standing.clone()
    }

    /// How often it was lost and came back.
    pub fn recoveries(&self) -> u32 {
        lock(&self.shared.standing).recoveries
    }

    /// Has the kernel look for one logical unit or for all, and waits until they are disks. One that is a disk
    /// already is given at once, also while the session is lost.
    pub fn scan(&self, lun: Option<u64>, limit: Duration) -> Result<Vec<Disk>, Error> {
        let session = self.number();
        if let Some(lun) = lun
            && let Some(disk) = self.shared.sysfs.await_disk(session, lun, Duration::ZERO)
        {
            return Ok(vec![disk]);
        }
        let (host, end) = (self.shared.sysfs.host(session).ok_or_else(|| gone(session))?, Instant::now() + limit);
        // A session that has just been started is let go a moment later, and a scan before that finds nothing.
        while !self.shared.sysfs.is_up(session) {
            if Instant::now() >= end || self.shared.sysfs.state(session).is_none() {
                return Err(Error::TimedOut(format!("session {session} is not logged in")));
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        match lun {
            None => {
                self.shared.sysfs.scan(host, None)?;
                self.shared.sysfs.settle(session, end.saturating_duration_since(Instant::now()));
                Ok(self.disks())
            }
            Some(lun) => {
                let left = end.saturating_duration_since(Instant::now());
                let found = self.shared.sysfs.find(session, lun, left)?;
                found.map(|disk| vec![disk]).ok_or_else(|| {
                    Error::TimedOut(format!(
                        "session {session}: the kernel finds no disk with LUN {lun} (it may be masked, or no disk)"
                    ))
                })
            }
        }
    }

    /// Its disks.
    pub fn disks(&self) -> Vec<Disk> {
        self.shared.sysfs.disks(self.number())
    }

    /// Has the kernel ask a disk for its size anew. Gives it in bytes. Not while the session is lost, as the kernel
    /// would wait with it.
    pub fn resized(&self, disk: &Disk) -> Result<u64, Error> {
        if !self.shared.sysfs.is_up(self.number()) {
            return Err(Error::TimedOut(format!("{}: its session is lost", disk.device().display())));
        }
        self.shared.sysfs.look(self.number(), disk)?;
        self.shared.sysfs.size(disk).ok_or_else(|| gone(self.number()))
    }

    /// Takes one disk away; the session and its other disks stay. What is gone is no error.
    pub fn remove(&self, disk: &Disk, how: Detach, limit: Duration) -> Result<(), Error> {
        if how == Detach::WhenUnused {
            refuse_while_used(disk)?;
        }
        // The kernel's own writing waits for the target, which may be away: that must not keep us.
        let (sysfs, session, own, end) =
            (self.shared.sysfs.clone(), self.number(), disk.clone(), Instant::now() + limit);
        let removal = std::thread::spawn(move || sysfs.remove(session, &own));
        while !removal.is_finished() {
            if Instant::now() >= end {
                return Err(Error::TimedOut(format!("{} does not go", disk.device().display())));
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        removal.join().unwrap_or(Ok(()))
    }

    /// What the kernel has counted.
    pub fn statistics(&self) -> Result<Statistics, Error> {
        session::statistics(&mut Netlink::open(self.shared.transport)?, self.shared.place)
    }

    /// Ends the session: its devices are removed with what their caches hold written, the target is told, and
    /// nothing of it stays in the kernel. A session that is down is ended without both. Always ends, within the
    /// limit and a second or two. [`Detach::WhenUnused`] refuses while somebody uses one of its disks.
    pub fn detach(&self, how: Detach, limit: Duration) -> Result<(), Error> {
        self.detach_on(Netlink::open(self.shared.transport)?, how, limit)
    }

    pub(super) fn detach_on(&self, mut netlink: Netlink, how: Detach, limit: Duration) -> Result<(), Error> {
        if how == Detach::WhenUnused {
            for disk in self.disks() {
                refuse_while_used(&disk)?;
            }
        }
        self.stop();
        let ended = {
            let _turn = lock(&self.shared.turn);
            session::end(&mut netlink, &self.shared.sysfs, self.shared.place, limit)
        };
        lock(&self.shared.standing).standing = Standing::Gone(Closed::Detached);
        ended
    }

    /// Has the thread end. One that is in the midst of a login ends after it, and does nothing with it.
    fn stop(&self) {
        lock(&self.shared.turn).0 = true;
        let _ = rustix::io::write(&self.shared.wake, &1u64.to_ne_bytes());
        let thread = lock(&self.thread).take();
        if let Some(thread) = thread.filter(JoinHandle::is_finished) {
            let _ = thread.join();
        }
    }
}

impl Drop for KernelSession {
    fn drop(&mut self) {
        self.stop();
    }
}

impl<R: Relogin> Keeper<R> {
    fn run(&mut self, up: bool) {
        // What frees memory may have to be written to our disk, and that may wait for us.
        crate::memory::protect_thread();
        let session = self.shared.place.session;
        if !up && let Next::End = self.recover("it was lost while nobody kept it".into()) {
            return;
        }
        loop {
            if lock(&self.shared.turn).0 {
                return;
            }
            let next = match self.netlink.event(Duration::ZERO) {
                Ok(Some(event)) => self.handle(event),
                Ok(None) if self.netlink.take_lost() => self.look(),
                Ok(None) => {
                    session::wait(&self.netlink, &self.shared.wake, LOOK);
                    self.look()
                }
                Err(error) => {
                    tracing::warn!(session, %error, "the kernel's events cannot be read");
                    session::wait(&self.netlink, &self.shared.wake, LOOK);
                    self.look()
                }
            };
            if let Next::End = next {
                return;
            }
        }
    }

    fn handle(&mut self, event: Event) -> Next {
        match event {
            Event::ConnectionError { place, code } if place == self.shared.place => {
                self.recover(connection_error(code))
            }
            Event::Destroyed { session } if session == self.shared.place.session => {
                self.end(Closed::Elsewhere("the session was ended in the kernel".into()))
            }
            Event::Pdu { place, header, .. } if place == self.shared.place && header[0] & 0x3f == ASYNC_MESSAGE => {
                self.told_by_target(&header)
            }
            _ => Next::GoOn,
        }
    }

    /// Whether the session is as it is thought to be.
    fn look(&mut self) -> Next {
        let session = self.shared.place.session;
        match self.shared.sysfs.state(session) {
            _ if lock(&self.shared.turn).0 => Next::End,
            None => self.end(Closed::Elsewhere("the session was ended in the kernel".into())),
            Some(_) if self.shared.sysfs.is_up(session) => Next::GoOn,
            // The event may be on its way.
            Some(_) => match self.netlink.event(Duration::from_secs(1)) {
                Ok(Some(event)) => self.handle(event),
                _ => self.recover("the kernel calls it failed".into()),
            },
        }
    }

    /// An asynchronous message (RFC 7143 11.9).
    fn told_by_target(&mut self, header: &[u8; 48]) -> Next {
        let parameter = |at: usize| u16::from_be_bytes([header[at], header[at + 1]]);
        let pause = |seconds: u16| Duration::from_secs(seconds.into()).min(TARGETS_PAUSE_MAX);
        let session = self.shared.place.session;
        match header[36] {
            LOGOUT_REQUEST | NEGOTIATION_REQUEST => {
                let why = "the target asks us to log out and in again";
                tracing::info!(session, "{why}");
                let limit = pause(parameter(42)).clamp(Duration::from_secs(1), Duration::from_secs(5));
                let goodbye = session::log_out(&mut self.netlink, self.shared.place, Instant::now() + limit);
                if let Err(error) = goodbye {
                    tracing::debug!(session, %error, "logout");
                }
                self.recover(why.into())
            }
            // The connection's end is told by itself; how long the target wants to be left alone is told here.
            DROPS_CONNECTION | DROPS_SESSION => {
                self.not_before = Some(Instant::now() + pause(parameter(40)));
                tracing::info!(session, "the target says that it drops the connection");
                Next::GoOn
            }
            code => {
                tracing::debug!(session, code, "asynchronous message");
                Next::GoOn
            }
        }
    }

    /// Logs in again until it succeeds, somebody ends the session, or it is given up.
    fn recover(&mut self, why: String) -> Next {
        let (session, begin) = (self.shared.place.session, Instant::now());
        tracing::warn!(session, why, "connection lost; logging in again");
        lock(&self.shared.standing).standing = Standing::Down { why: why.clone(), last: None };
        if let Err(error) = session::pause(&mut self.netlink, self.shared.place)
            && self.shared.sysfs.state(session).is_none()
        {
            return self.end(Closed::Elsewhere(error.to_string()));
        }
        let (mut attempts, mut lasting, mut pause) = (0, 0, Duration::ZERO);
        let mut said = String::new();
        loop {
            let wanted = Instant::now() + pause;
            let until = self.not_before.take().map_or(wanted, |target| wanted.max(target));
            if let Next::End = self.rest(until) {
                return Next::End;
            }
            attempts += 1;
            let failure = match self.attempt() {
                Ok(Next::End) => return Next::End,
                Ok(Next::GoOn) => break,
                Err(failure) => failure,
            };
            lasting = if failure.lasting { lasting + 1 } else { 0 };
            // The same failure over and over is one line, with a count at the end.
            if failure.text != said {
                tracing::warn!(session, attempts, error = failure.text, "not logged in yet");
                said.clone_from(&failure.text);
            }
            let last = Some((failure.text, attempts));
            lock(&self.shared.standing).standing = Standing::Down { why: why.clone(), last };
            let waited_for = self.settings.replacement_timeout.is_none_or(|limit| begin.elapsed() < limit);
            if !waited_for && lasting >= REFUSALS {
                return self.end(Closed::Failed(format!("{said} ({attempts} logins)")));
            }
            let longest = if waited_for { PAUSE_WHILE_WAITED } else { LONGEST_PAUSE };
            pause = (pause * 2).clamp(FIRST_PAUSE, longest);
        }
        let seconds = begin.elapsed().as_secs_f32();
        tracing::info!(session, attempts, seconds, "the session is back");
        let mut told = lock(&self.shared.standing);
        told.standing = Standing::Up;
        told.recoveries += 1;
        Next::GoOn
    }

    /// One login, and the kernel given what came of it.
    fn attempt(&mut self) -> Result<Next, super::LoginFailure> {
        let passing = |error: Error| super::LoginFailure { text: error.to_string(), lasting: false };
        let place = self.shared.place;
        let first = {
            let turn = lock(&self.shared.turn);
            if turn.0 {
                return Ok(Next::End);
            }
            session::next_command(&mut self.netlink, place).map_err(passing)?
        };
        let login = self.relogin.login(first)?;
        let turn = lock(&self.shared.turn);
        if turn.0 {
            return Ok(Next::End);
        }
        session::bring_up(&mut self.netlink, place, login, &self.settings).map_err(passing)?;
        Ok(Next::GoOn)
    }

    /// Waits until then, unless the session is ended.
    fn rest(&mut self, until: Instant) -> Next {
        loop {
            if lock(&self.shared.turn).0 {
                return Next::End;
            }
            // What the kernel says of a connection that is given up is of no interest any more.
            while let Ok(Some(event)) = self.netlink.event(Duration::ZERO) {
                if event == (Event::Destroyed { session: self.shared.place.session }) {
                    return self.end(Closed::Elsewhere("the session was ended in the kernel".into()));
                }
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Next::GoOn;
            }
            session::wait(&self.netlink, &self.shared.wake, left);
        }
    }

    fn end(&mut self, closed: Closed) -> Next {
        if !lock(&self.shared.turn).0 {
            tracing::warn!(session = self.shared.place.session, %closed, "the session is gone");
            lock(&self.shared.standing).standing = Standing::Gone(closed.clone());
            if let Some(notice) = &self.settings.notice {
                notice(&closed);
            }
        }
        Next::End
    }
}

/// Mounts, volume groups and the like hold a disk for themselves; processes have it open.
fn refuse_while_used(disk: &Disk) -> Result<(), Error> {
    let device = disk.device();
    let flags = OFlags::RDONLY | OFlags::EXCL | OFlags::CLOEXEC;
    let held = rustix::fs::open(&device, flags, Mode::empty()).err() == Some(rustix::io::Errno::BUSY);
    let users = crate::users::of_disk(&disk.name);
    if held || !users.is_empty() { Err(Error::Busy { device, users }) } else { Ok(()) }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
