//! The holder: the process that has a session, offers its disks, and ends with them.

use super::control::{self, Question, failure_to_json};
use super::devices::{self, Choice, Plan};
use super::hold::{self, Held, Request, Units, Via};
use super::kernel::{self, Kernel};
use super::process::Process;
use super::remote::{self, Disk, Remote};
use super::state::{Device, Entry, Place, Record, Session};
use super::{links, log};
use crate::control::timestamp;
use crate::failure::{Cause, Failure};
use attach::{Attachment, Closed, Detach, Notice};
use block::Backend;
use initiator::Options;
use rustix::event::{PollFd, PollFlags, Timespec};
use serde_json::{Value, json};
use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, oneshot};

/// Bytes of an order.
const ORDER_BYTES: u64 = 1 << 20;
/// How long a logout may take, whatever the target does.
const LOGOUT_TIME: Duration = Duration::from_secs(10);
/// How often the sizes are looked at, where nobody has told that one changed.
const LOOK_INTERVAL: Duration = Duration::from_secs(10);
/// How long one waits for another holder that is attaching the same disk.
const OTHER_TIME: Duration = Duration::from_secs(60);
/// How often it is looked whether whoever started us still waits, while we log in.
const STARTER_LOOK: Duration = Duration::from_millis(250);
/// Questions that wait.
const QUESTIONS: usize = 16;

/// The process of the hidden command: reads its order, attaches, answers, and holds until it is told to end.
pub fn run() -> Result<(), Failure> {
    // A terminal's interrupt, and its end, are not for us.
    let _ = rustix::process::setsid();
    let begun = order().and_then(|(request, resumed)| Begun::new(request, resumed));
    let begun = match begun {
        Ok(begun) => begun,
        Err(failure) => return answer(&Err(failure)),
    };
    // All that this process does is on the way to a disk, and every thread of its is this one's child.
    attach::memory::protect_thread();
    attach::memory::lock_process();
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            begun.session.remove();
            return answer(&Err(Failure::runtime(format!("no runtime: {error}"))));
        }
    };
    runtime.block_on(async {
        match begun.attach().await {
            Ok(Attached::Now(holder, held)) => {
                if answer(&Ok(held)).is_err() {
                    // Whoever started us is gone and knows of nothing.
                    return holder.abandon().await;
                }
                holder.hold().await;
            }
            Ok(Attached::Already(held)) => drop(answer(&Ok(held))),
            Err(failure) => drop(answer(&Err(failure))),
        }
    });
    // A look at a disk that hangs must not keep the process.
    runtime.shutdown_background();
    Ok(())
}

/// Until nobody reads our answer any more: the command was interrupted or killed.
async fn starter_gone() {
    let gone = || {
        let out = std::io::stdout();
        let mut polled = [PollFd::new(&out, PollFlags::empty())];
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        matches!(rustix::event::poll(&mut polled, Some(&now)), Ok(1..)) && polled[0].revents().contains(PollFlags::ERR)
    };
    while !gone() {
        tokio::time::sleep(STARTER_LOOK).await;
    }
}

fn order() -> Result<(Request, Option<u64>), Failure> {
    let mut text = String::new();
    let read = std::io::stdin().take(ORDER_BYTES).read_to_string(&mut text);
    let value: Value = read.ok().and_then(|_| serde_json::from_str(&text).ok()).unwrap_or_default();
    let request = Request::from_json(&value["request"])
        .ok_or_else(|| Failure::input("this command is for `lunette attach`, which writes the order to it"))?;
    Ok((request, value["resume"].as_u64()))
}

/// Tells whoever started us what came of it, and lets go of the pipe.
fn answer(outcome: &Result<Held, Failure>) -> Result<(), Failure> {
    let line = format!("{}\n", hold::to_answer(outcome));
    let written = std::io::stdout().write_all(line.as_bytes());
    if let Ok(null) = fs::File::options().read(true).write(true).open("/dev/null") {
        let _ = rustix::stdio::dup2_stdout(&null);
        let _ = rustix::stdio::dup2_stdin(&null);
    }
    written.map_err(Failure::runtime)
}

/// A session's directory that is ours, and nothing more yet.
struct Begun {
    place: Place,
    session: Session,
    request: Request,
    record: Record,
    /// What the holder before us wrote down.
    before: Option<Record>,
}

/// What came of attaching.
enum Attached {
    Now(Box<Holder>, Held),
    Already(Held),
}

impl Begun {
    fn new(request: Request, resumed: Option<u64>) -> Result<Begun, Failure> {
        let place = Place::of(request.state_dir.as_deref())?;
        let turn = place.turn()?;
        let (session, before) = match resumed {
            None => (place.begin(&turn)?, None),
            Some(number) => {
                let session = place.take_up(&turn, number)?.ok_or_else(|| {
                    Failure::because(Cause::InUse, format!("session {number} is not there, or has a holder"))
                })?;
                let before = place.session(number).map(|entry| entry.record);
                (session, before)
            }
        };
        drop(turn);
        log::start(&session.directory, hold::is_journal());
        let record = Record {
            session: session.number,
            target: request.target().to_owned(),
            portals: request.portals(),
            units: request.units.clone(),
            via: request.via,
            read_only: request.read_only,
            initiator: request.options.initiator_name.clone(),
            since: timestamp(SystemTime::now()),
            node_record: request.record.clone(),
            ..Record::own()
        };
        Ok(Begun { place, session, request, record, before })
    }

    /// Logs in and attaches; after a failure everything is as it was before.
    async fn attach(mut self) -> Result<Attached, Failure> {
        // A disk that is attached is not worth a login, and its target may be gone by now.
        if let Some(luns) = self.request.units.lun().map(|lun| vec![lun])
            && let Some(held) = self.already(&luns).await?
        {
            self.session.remove();
            return Ok(Attached::Already(held));
        }
        let mut notes = Vec::new();
        if let Some(number) = self.before.as_ref().and_then(|before| before.kernel_session) {
            return self.take_back(number, notes).await;
        }
        let (choices, mut remote) = match self.connect(&mut notes).await {
            Ok(both) => both,
            Err(failure) => {
                self.leave();
                return Err(failure);
            }
        };
        let luns: Vec<u64> = remote.disks.iter().map(|disk| disk.lun).collect();
        let claimed = match self.already(&luns).await {
            Ok(None) => self.claim(&remote).map(|()| None),
            other => other,
        };
        match claimed {
            Ok(None) => {}
            Ok(Some(held)) => {
                remote.end(LOGOUT_TIME).await;
                self.session.remove();
                return Ok(Attached::Already(held));
            }
            Err(failure) => {
                remote.end(LOGOUT_TIME).await;
                self.leave();
                return Err(failure);
            }
        }
        let mut holder = self.holder(remote, choices);
        match holder.attach_all(&mut notes).await {
            Ok(()) => {
                let held = Held { record: holder.record.clone(), notes, already: false };
                Ok(Attached::Now(holder, held))
            }
            Err(failure) => {
                holder.abandon().await;
                Err(failure)
            }
        }
    }

    /// The session is in the kernel, where the holder before us left it.
    async fn take_back(self, number: u32, notes: Vec<String>) -> Result<Attached, Failure> {
        let Some(before) = self.before.clone() else { return Err(Failure::runtime("there is nothing to take back")) };
        let mut holder = self.holder(Remote::default(), Vec::new());
        let taken = match kernel::take_back(&holder.request, number, &before.devices, holder.notice(None)).await {
            Ok(kernel) => {
                holder.remote = Remote::of_kernel(kernel.clone(), &before);
                holder.record = Record { process: Process::own(), ..before };
                holder.attach_kernel(&kernel).await
            }
            Err(failure) => Err(failure),
        };
        match taken.and_then(|()| holder.ready()) {
            Ok(()) => {
                let held = Held { record: holder.record.clone(), notes, already: false };
                Ok(Attached::Now(holder, held))
            }
            // It stays in the kernel, for the next who tries.
            Err(failure) => Err(failure),
        }
    }

    fn holder(self, remote: Remote, choices: Vec<Choice>) -> Box<Holder> {
        let (notices, told) = mpsc::unbounded_channel();
        Box::new(Holder {
            place: self.place,
            session: self.session,
            request: self.request,
            record: self.record,
            before: self.before,
            remote,
            choices,
            units: Vec::new(),
            notices,
            told,
            listener: None,
            looking: false,
            over: false,
        })
    }

    async fn connect(&mut self, notes: &mut Vec<String>) -> Result<(Vec<Choice>, Remote), Failure> {
        let request = self.request.clone();
        let chosen = tokio::task::spawn_blocking(move || devices::choose(&request)).await;
        let (choices, said) = chosen.map_err(Failure::runtime)??;
        let remote = tokio::select! {
            remote = remote::connect(&mut self.request, notes) => remote?,
            () = starter_gone() => return Err(Failure::runtime("whoever started the holder is gone")),
        };
        notes.extend(said);
        Ok((choices, remote))
    }

    /// The session that holds these LUNs already, in the way that is asked for.
    async fn already(&self, luns: &[u64]) -> Result<Option<Held>, Failure> {
        let end = Instant::now() + OTHER_TIME;
        loop {
            let Some(other) = self.other(luns) else { return Ok(None) };
            let theirs = &other.record;
            let covers = luns.iter().all(|lun| theirs.devices.iter().any(|device| device.lun == *lun));
            let same = covers
                && theirs.read_only == self.request.read_only
                && (self.request.via == Via::Auto || self.request.via == theirs.via);
            let number = theirs.session;
            if !same {
                let what = format!("{} is attached already, otherwise than it is asked for now", theirs.target);
                let line = format!("{what} (session {number}, via {}); detach it first", theirs.via.name());
                return Err(Failure::because(Cause::InUse, line));
            }
            let mut record = theirs.clone();
            record.devices.retain(|device| luns.is_empty() || luns.contains(&device.lun));
            if record.devices.iter().all(|device| !device.path.as_os_str().is_empty()) {
                let notes = vec![format!("{} was attached already (session {number})", record.target)];
                return Ok(Some(Held { record, notes, already: true }));
            }
            if Instant::now() > end {
                let line = format!("session {number} has been attaching it for {OTHER_TIME:?}; look at its log");
                return Err(Failure::because(Cause::InUse, line));
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    fn other(&self, luns: &[u64]) -> Option<Entry> {
        let is_other = |entry: &Entry| {
            let theirs = &entry.record;
            let shares = theirs.devices.iter().any(|device| luns.contains(&device.lun));
            let both_all = luns.is_empty() && theirs.units == self.record.units;
            // Several sessions of a record, or of two interfaces with one portal, are meant to be several.
            let apart = theirs.node_record.is_some() && self.record.node_record.is_some();
            let apart = apart && theirs.node_record != self.record.node_record;
            !apart
                && entry.alive
                && theirs.session != self.session.number
                && self.record.meets(theirs)
                && (shares || both_all)
        };
        self.place.sessions().into_iter().find(is_other)
    }

    /// Says that these disks are ours, if nobody said so in the meantime.
    fn claim(&mut self, remote: &Remote) -> Result<(), Failure> {
        let _turn = self.place.turn()?;
        let luns: Vec<u64> = remote.disks.iter().map(|disk| disk.lun).collect();
        if let Some(other) = self.other(&luns) {
            let line = format!("{} is being attached by session {}", self.record.target, other.record.session);
            return Err(Failure::because(Cause::InUse, line));
        }
        self.record.isid = remote.isid.clone();
        self.record.reached = remote.reached.clone();
        self.record.address = remote.address(&self.request);
        self.record.devices = remote.disks.iter().map(|disk| device(disk, self.before.as_ref())).collect();
        self.session.save(&self.record).map_err(Failure::runtime)?;
        self.session.save_request(&self.request.to_json()).map_err(Failure::runtime)
    }

    /// Leaves the directory: to the next who takes the session up, where there was one before us.
    fn leave(self) {
        if self.before.is_none() {
            self.session.remove();
        }
    }
}

/// A device that is not there yet.
fn device(disk: &Disk, before: Option<&Record>) -> Device {
    let limits = disk.backend.limits();
    let known = before.and_then(|record| record.devices.iter().find(|device| device.lun == disk.lun));
    Device {
        lun: disk.lun,
        identity: disk.identity.clone(),
        bytes: limits.capacity(),
        block_length: limits.block_length,
        ..known.cloned().unwrap_or_default()
    }
}

/// A device that is there.
struct Unit {
    lun: u64,
    /// None where the kernel is the initiator.
    backend: Option<Arc<dyn Backend>>,
    attachment: Arc<dyn Attachment>,
}

struct Holder {
    place: Place,
    session: Session,
    request: Request,
    record: Record,
    before: Option<Record>,
    remote: Remote,
    choices: Vec<Choice>,
    units: Vec<Unit>,
    notices: mpsc::UnboundedSender<Told>,
    told: mpsc::UnboundedReceiver<Told>,
    listener: Option<UnixListener>,
    /// A look at the sizes is under way.
    looking: bool,
    /// Nothing is to be held any more.
    over: bool,
}

/// What other threads and tasks tell the holder.
enum Told {
    /// A front-end: the device of this LUN has gone, or all of them.
    Gone(Option<u64>, Closed),
    /// A look at the sizes, which has ended with these found changed.
    Looked(Vec<(u64, Result<u64, String>)>, Option<oneshot::Sender<Value>>),
}

impl Holder {
    async fn attach_all(&mut self, notes: &mut Vec<String>) -> Result<(), Failure> {
        if let Some(choice) = self.choices.first().filter(|choice| choice.via == Via::Kernel) {
            let fallback = choice.fallback && self.choices.len() > 1;
            match self.start_kernel().await {
                Ok(()) => return self.ready(),
                Err(failure) if fallback => {
                    notes.push(format!("kernel failed, the next is taken: {failure}"));
                    self.choices.remove(0);
                }
                Err(failure) => return Err(failure),
            }
        }
        for disk in std::mem::take(&mut self.remote.disks) {
            self.attach_one(disk, notes).await?;
        }
        self.ready()
    }

    /// The session becomes the kernel's, and its disks the kernel's disks.
    async fn start_kernel(&mut self) -> Result<(), Failure> {
        // Beside the session that has found the disks: with an ISID of its own, so that neither ends the other.
        let options = Options { isid: None, ..self.request.options.clone() };
        let mut request = Request { options, ..self.request.clone() };
        let (kernel, isid) = kernel::start(&request, self.notice(None)).await?;
        request.options.isid = Some(isid);
        if let Err(failure) = self.attach_kernel(&kernel).await {
            self.units.clear();
            let _ = tokio::task::spawn_blocking(move || kernel.end(LOGOUT_TIME)).await;
            for device in &mut self.record.devices {
                links::remove(&device.links, &device.path);
                (device.kind, device.path, device.links) = Default::default();
            }
            return Err(failure);
        }
        self.record.kernel_session = Some(kernel.number());
        self.record.via = Via::Kernel;
        self.request = request;
        self.remote.disks.clear();
        self.remote.hand_over(kernel, isid, LOGOUT_TIME).await;
        self.record.isid = self.remote.isid.clone();
        self.session.save_request(&self.request.to_json()).map_err(Failure::runtime)
    }

    async fn attach_kernel(&mut self, kernel: &Kernel) -> Result<(), Failure> {
        let devices = self.record.devices.iter().filter(|device| self.units.iter().all(|unit| unit.lun != device.lun));
        let wanted: Vec<_> = devices.map(|device| (device.lun, device.identity.clone())).collect();
        for (lun, identity) in wanted {
            let kernel = kernel.clone();
            let attached = tokio::task::spawn_blocking(move || kernel.attach(lun, identity)).await;
            let attachment = attached.map_err(Failure::runtime)??;
            let directory = PathBuf::new();
            self.is_there(Unit { lun, backend: None, attachment }, directory);
        }
        Ok(())
    }

    /// Whom a front-end tells when a device has gone, or all of the session's.
    fn notice(&self, lun: Option<u64>) -> Notice {
        let notices = self.notices.clone();
        Arc::new(move |why: &Closed| drop(notices.send(Told::Gone(lun, why.clone()))))
    }

    /// All is attached: it can be asked, and is written down.
    fn ready(&mut self) -> Result<(), Failure> {
        self.listener = Some(control::listen(&self.session.directory).map_err(Failure::runtime)?);
        self.session.save(&self.record).map_err(Failure::runtime)
    }

    async fn attach_one(&mut self, disk: Disk, notes: &mut Vec<String>) -> Result<(), Failure> {
        let lun = disk.lun;
        let named = self.request.mount_point.clone();
        let directory = match (named, self.request.units.is_one()) {
            (Some(named), true) => named,
            (Some(named), false) => named.join(format!("lun-{lun}")),
            (None, _) => self.session.directory.join(format!("lun-{lun}")),
        };
        fs::create_dir_all(&directory).map_err(|error| Failure::input(format!("{}: {error}", directory.display())))?;
        let name = links::name(&self.record.portals[0], &self.record.target, lun);
        let notice = self.notice(Some(lun));
        let (mut choices, request, backend) = (std::mem::take(&mut self.choices), self.request.clone(), disk.backend);
        let left = self.before.as_ref().and_then(|before| before.devices.iter().find(|device| device.lun == lun));
        let take_over = left.map(|device| device.path.clone()).filter(|path| path.exists());
        let kept = (backend.clone(), directory.clone(), name.clone());
        let attached = tokio::task::spawn_blocking(move || {
            let mut notes = Vec::new();
            let (backend, directory, name) = kept;
            let plan = Plan { name, directory: &directory, take_over: take_over.as_deref(), notice };
            let outcome = devices::attach(&mut choices, &backend, &request, &plan, &mut notes);
            (outcome, choices, notes)
        });
        let (outcome, choices, said) = attached.await.map_err(Failure::runtime)?;
        self.choices = choices;
        notes.extend(said);
        let attachment = outcome?;
        self.record.via = self.choices.first().map_or(self.record.via, |choice| choice.via);
        self.is_there(Unit { lun, backend: Some(backend), attachment }, directory);
        Ok(())
    }

    /// A device is there: it gets its links and its place in the record.
    fn is_there(&mut self, unit: Unit, directory: PathBuf) {
        let Unit { lun, attachment, .. } = &unit;
        let name = links::name(&self.record.portals[0], &self.record.target, *lun);
        let path = attachment.device().to_owned();
        let made = links::make(self.place.path(), &name, &path, !self.request.file_only);
        tracing::info!(lun, device = %path.display(), "attached via {}", attachment.kind());
        if let Some(device) = self.record.devices.iter_mut().find(|device| device.lun == *lun) {
            (device.kind, device.path, device.links, device.directory) =
                (attachment.kind().to_owned(), path, made, directory);
        }
        self.units.push(unit);
    }

    /// Holds until nothing is left to be held.
    async fn hold(mut self: Box<Self>) {
        let (sender, mut questions) = mpsc::channel::<Question>(QUESTIONS);
        if let Some(listener) = self.listener.take() {
            tokio::spawn(control::serve(listener, sender));
        }
        let signals = || Ok::<_, std::io::Error>((signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?));
        let Ok((mut terminate, mut interrupt)) = signals() else { return self.abandon().await };
        let mut look = tokio::time::interval_at(tokio::time::Instant::now() + LOOK_INTERVAL, LOOK_INTERVAL);
        look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                Some((question, back)) = questions.recv() => self.answer(&question, back).await,
                Some(told) = self.told.recv() => self.hear(told),
                event = self.remote.event() => self.take(event),
                _ = look.tick() => self.look(None),
                _ = terminate.recv() => self.asked_to_end().await,
                _ = interrupt.recv() => self.asked_to_end().await,
            }
            if self.over {
                self.finish().await;
                // The last answer goes out before the process does.
                return tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }

    async fn answer(&mut self, question: &Value, back: oneshot::Sender<Value>) {
        let reply = match question["do"].as_str() {
            Some("status") => self.status(),
            Some("statistics") => self.remote.statistics(),
            Some("refresh") => {
                if let Err(failure) = self.find_new().await {
                    tracing::warn!("new disks cannot be looked for: {failure}");
                }
                return self.look(Some(back));
            }
            Some("detach") => {
                let luns: Option<Vec<u64>> =
                    question["luns"].as_array().map(|luns| luns.iter().filter_map(Value::as_u64).collect());
                let how = if question["force"] == true { Detach::Force } else { Detach::WhenUnused };
                match self.detach(luns.as_deref(), how).await {
                    Ok(detached) => json!({ "detached": detached }),
                    Err(failure) => failure_to_json(&failure),
                }
            }
            _ => failure_to_json(&Failure::input("status, statistics, refresh and detach can be asked for")),
        };
        if self.over {
            // Whoever asked finds nothing left when he hears of it.
            self.finish().await;
        }
        let _ = back.send(reply);
    }

    /// Attaches what the target has got since, where all of its disks were asked for.
    async fn find_new(&mut self) -> Result<(), Failure> {
        if self.request.units != Units::All {
            return Ok(());
        }
        let known: Vec<u64> = self.record.devices.iter().map(|device| device.lun).collect();
        if let Some(kernel) = self.remote.kernel().cloned() {
            let scanner = kernel.clone();
            let luns = tokio::task::spawn_blocking(move || scanner.rescan()).await.map_err(Failure::runtime)??;
            let new = luns.into_iter().filter(|lun| !known.contains(lun));
            self.record.devices.extend(new.map(|lun| Device { lun, ..Device::default() }));
            return self.attach_kernel(&kernel).await;
        }
        for disk in self.remote.find_new(&self.request, &known).await? {
            self.record.devices.push(device(&disk, None));
            self.attach_one(disk, &mut Vec::new()).await?;
        }
        Ok(())
    }

    fn status(&self) -> Value {
        json!({ "record": self.record.to_json(), "paths": self.remote.status() })
    }

    /// Detaches these LUNs, or all and the session with them. What is in use stays, unless forced.
    async fn detach(&mut self, luns: Option<&[u64]>, how: Detach) -> Result<Vec<String>, Failure> {
        let is_meant = |unit: &Unit| luns.is_none_or(|luns| luns.contains(&unit.lun));
        let meant: Vec<_> =
            self.units.iter().filter(|unit| is_meant(unit)).map(|unit| (unit.lun, unit.attachment.clone())).collect();
        let (mut detached, mut failed) = (Vec::new(), None);
        for (lun, attachment) in meant {
            let path = attachment.device().display().to_string();
            let outcome = tokio::task::spawn_blocking(move || attachment.detach(how)).await;
            match outcome.map_err(|error| Failure::runtime(format!("{path}: {error}"))) {
                Ok(Err(error @ attach::Error::Busy { .. })) => failed = Some(devices::failure(&error)),
                Err(error) => failed = Some(error),
                Ok(outcome) => {
                    match outcome {
                        Ok(()) => tracing::info!(lun, device = %path, "detached"),
                        // It is gone, with something to be told.
                        Err(error) => tracing::warn!(lun, device = %path, "detached: {error}"),
                    }
                    self.forget(lun);
                    detached.push(path);
                }
            }
        }
        self.over = self.units.is_empty();
        failed.map_or(Ok(detached), Err)
    }

    /// A device is no more.
    fn forget(&mut self, lun: u64) {
        self.units.retain(|unit| unit.lun != lun);
        for device in self.record.devices.iter().filter(|device| device.lun == lun) {
            links::remove(&device.links, &device.path);
            if !device.directory.as_os_str().is_empty() && device.directory.starts_with(&self.session.directory) {
                let _ = fs::remove_dir(&device.directory);
            }
        }
        self.record.devices.retain(|device| device.lun != lun);
        self.save();
    }

    fn hear(&mut self, told: Told) {
        match told {
            // Of what we did ourselves we know.
            Told::Gone(_, Closed::Detached) => {}
            Told::Gone(lun, why) => {
                tracing::warn!(lun, "the device is gone: {why}");
                let gone: Vec<u64> =
                    self.units.iter().map(|unit| unit.lun).filter(|of| lun.is_none_or(|lun| lun == *of)).collect();
                gone.into_iter().for_each(|lun| self.forget(lun));
                self.over = self.units.is_empty();
            }
            Told::Looked(found, back) => {
                self.looking = false;
                for (lun, outcome) in found {
                    match outcome {
                        Ok(bytes) => {
                            let device = self.record.devices.iter_mut().find(|device| device.lun == lun);
                            if let Some(device) = device.filter(|device| device.bytes != bytes) {
                                tracing::info!(lun, from = device.bytes, to = bytes, "the size has changed");
                                device.bytes = bytes;
                                self.save();
                            }
                        }
                        Err(why) => tracing::warn!(lun, "its size cannot be looked at: {why}"),
                    }
                }
                if let Some(back) = back {
                    let _ = back.send(self.status());
                }
            }
        }
    }

    /// Looks at the sizes again, beside everything else: a target that is away makes it wait.
    fn look(&mut self, back: Option<oneshot::Sender<Value>>) {
        if self.looking {
            if let Some(back) = back {
                let _ = back.send(self.status());
            }
            return;
        }
        self.looking = true;
        let units: Vec<_> =
            self.units.iter().map(|unit| (unit.lun, unit.backend.clone(), unit.attachment.clone())).collect();
        let notices = self.notices.clone();
        tokio::task::spawn_blocking(move || {
            let look = |backend: &Option<Arc<dyn Backend>>, attachment: &Arc<dyn Attachment>| -> Result<u64, String> {
                if let Some(backend) = backend {
                    backend.refresh().map_err(|error| error.to_string())?;
                }
                // Also where it was found changed before: the device may not have followed then.
                attachment.resized().map_err(|error| error.to_string())
            };
            let found = units.iter().map(|(lun, backend, attachment)| (*lun, look(backend, attachment))).collect();
            let _ = notices.send(Told::Looked(found, back));
        });
    }

    fn take(&mut self, event: remote::News) {
        match event {
            remote::News::Look => self.look(None),
            remote::News::Said => {}
        }
    }

    /// By a signal: what nobody uses goes; what is mounted stays, and the session with it.
    async fn asked_to_end(&mut self) {
        if let Err(failure) = self.detach(None, Detach::WhenUnused).await {
            tracing::warn!("asked to end, and goes on: {failure}");
        }
    }

    /// Everything is detached: logs out and leaves nothing behind. The second call does nothing.
    async fn finish(&mut self) {
        self.remote.end(LOGOUT_TIME).await;
        self.session.remove();
    }

    /// Gives up what there is, whoever uses it; but what lived on without a holder does so again.
    async fn abandon(mut self: Box<Self>) {
        if let Some(before) = self.before.take() {
            self.remote.end(LOGOUT_TIME).await;
            if let Err(error) = self.session.save(&before) {
                tracing::warn!("what was attached cannot be written down: {error}");
            }
            // Dropped, the devices would be taken away; the process ends without that, as it might have been killed.
            std::mem::forget(self);
            return;
        }
        let _ = self.detach(None, Detach::Force).await;
        self.remote.end(LOGOUT_TIME).await;
        self.session.remove();
    }

    fn save(&self) {
        if let Err(error) = self.session.save(&self.record) {
            tracing::warn!("what is attached cannot be written down: {error}");
        }
    }
}
