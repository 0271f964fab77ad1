//! A session that goes over to another process: it comes to rest, is written down, and goes on there or here.

use super::lines::Line;
use super::overview::Identity;
use super::{Driver, TaskMemory};
use crate::handover::{LineAtRest, SessionAtRest};
use crate::registry::Revived;
use block::Account;
use io::link::Link;
use iscsi::session::{Session, SessionKind};
use lun::NexusId;
use lun::handover::NexusAtRest;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::time::{Duration, Instant};
use tokio::net::TcpStream;

/// How long an initiator may take to read what it is sent, before what is left of it goes over as it is.
const READING: Duration = Duration::from_millis(50);

/// How far a session is on its way to another process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Leaving {
    /// It begins nothing more, since then.
    Frozen(Instant),
    /// It was written down: nothing may happen to it any more.
    Written,
}

impl Driver {
    /// Begins nothing more.
    pub fn freeze(&mut self, now: Instant) {
        if self.handing_over.is_none() {
            self.handing_over = Some(Leaving::Frozen(now));
            self.session.freeze();
            self.lines.iter_mut().for_each(|line| line.link.hold());
            self.wake();
        }
    }

    /// Goes on.
    pub fn thaw(&mut self) {
        if self.handing_over.take().is_some() {
            self.session.thaw();
            self.lines.iter_mut().for_each(|line| line.link.release());
            self.wake();
        }
    }

    /// Whether it was written down.
    pub(super) fn is_written(&self) -> bool {
        self.handing_over == Some(Leaving::Written)
    }

    /// Does what brings it to rest and would not happen by itself.
    pub fn urge(&mut self, now: Instant) {
        let Some(Leaving::Frozen(since)) = self.handing_over else { return };
        if now >= since + READING {
            for line in &mut self.lines {
                if line.link.sending_since().is_some() && self.session.connection_parameters(line.c).is_some() {
                    line.link.settle(now, &mut self.session, line.c, &self.memory);
                }
            }
        }
        if self.rests().is_err() {
            self.wake();
        }
    }

    /// Whether nothing is under way, or what is.
    pub fn rests(&self) -> Result<(), &'static str> {
        let ends = self.gone || self.lines.is_empty() || self.leaving.is_some() || self.farewell.is_some();
        if ends || self.last_words.is_some() || self.cold_reset.is_some() {
            return Err("it is ending");
        }
        if !self.joins.is_empty() || !self.closings.is_empty() {
            return Err("a connection is joining or leaving it");
        }
        self.session.rests()
    }

    /// Who it is, for messages.
    pub fn initiator(&self) -> &str {
        &self.initiator
    }

    /// Its nexus.
    pub fn nexus(&self) -> NexusId {
        self.nexus
    }

    /// Writes it down, with a second descriptor of each of its sockets. From now on nothing happens to it.
    pub fn write_down(&mut self, nexus: NexusAtRest) -> Result<(SessionAtRest, Vec<OwnedFd>), String> {
        self.rests()?;
        let session = self.session.at_rest().ok_or("it does not rest")?;
        let (mut lines, mut sockets) = (Vec::new(), Vec::new());
        for connection in &session.connections {
            let line = self.lines.iter().find(|line| line.cid == connection.cid).ok_or("a connection is missing")?;
            let (socket, link) = line.link.at_rest(&self.memory).map_err(|error| error.to_string())?;
            sockets.push(socket);
            lines.push(LineAtRest { peer: line.peer, since: line.since, link });
        }
        self.handing_over = Some(Leaving::Written);
        let (target, initiator) = (self.target.name.clone(), self.initiator.clone());
        Ok((self.identity.at_rest(target, initiator, session, nexus, lines), sockets))
    }

    /// A session that goes on here; `None` where a socket is of no use.
    pub(super) fn revive(revived: Revived, nexus: NexusId, account: Rc<Account>) -> Option<Driver> {
        let Revived { rest, sockets, target, rule, limits, lines: log, traces, .. } = revived;
        let now = Instant::now();
        let identity = Identity::revive(&rest);
        let first_burst = rest.session.parameters.first_burst_length;
        let cids: Vec<u16> = rest.session.connections.iter().map(|connection| connection.cid).collect();
        let (mut session, connections) =
            Session::revive(SessionKind::Normal, rest.session, limits.session.clone(), now);
        if !rule.target_resets {
            session.forbid_target_resets();
        }
        let mut lines = Vec::new();
        for (((line, socket), c), cid) in rest.lines.into_iter().zip(sockets).zip(connections).zip(cids) {
            let stream = TcpStream::from_std(socket).ok()?;
            let local = stream.local_addr().ok()?;
            let LineAtRest { peer, since, link } = line;
            lines.push(Line { link: Link::revive(stream, link), c, cid, peer, local, since });
        }
        let memory = TaskMemory::new(account, first_burst);
        let (rule, initiator) = (rule.label.clone(), rest.initiator);
        let driver = Driver::with(session, memory, nexus, target, rule, limits, log, traces, identity, initiator);
        let mut driver = Driver { lines, ..driver };
        driver.watch_by_all();
        Some(driver)
    }
}
