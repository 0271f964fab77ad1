//! Who is there: the sessions of a target, by their identity and by their TSIH (RFC 7143 §4.4.3).
//!
//! Asked at login and at the end of a session, never on the data path. An entry lives as long as its
//! [`Registered`], which goes with the session from the door to its worker.

use crate::access::Rule;
use crate::admin::SessionStatistics;
use crate::door::Lines;
use crate::handover::SessionAtRest;
use crate::limits::Limits;
use crate::target::Target;
use crate::trace::Traces;
use iscsi::auth::Account;
use iscsi::login::Status;
use iscsi::login::target::Asked;
use iscsi::session::Opening;
use lun::NexusDescription;
use lun::statistics::SessionCells;
use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use tokio::sync::{mpsc, oneshot, watch};

/// What the door can tell a session on its worker.
pub(crate) enum SessionOrder {
    /// Its time is over: close, without a word, for this reason.
    End(&'static str),
    /// Drop the connections for this reason; the initiator is told.
    Drop(&'static str),
    /// A connection asks for a place in it.
    Join(JoinOrder),
    /// Its target, or the rule by which it is there, is another from now on.
    Change(ChangeOrder),
    /// One of its connections is to go.
    Close(CloseOrder),
}

/// What a session is served by from now on. Whoever waits hears by the drop of `done` that it is so.
pub(crate) struct ChangeOrder {
    pub target: Arc<Target>,
    pub rule: Arc<Rule>,
    #[expect(dead_code, reason = "its drop tells")]
    pub done: mpsc::Sender<()>,
}

/// A connection that an administrator wants to go.
pub(crate) struct CloseOrder {
    /// Its number.
    pub cid: u16,
    /// How it went. Where the session ends, this is dropped.
    pub answer: oneshot::Sender<Closed>,
}

/// What became of a connection that was to be closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Closed {
    /// It is gone, and the session goes on.
    Connection,
    /// It was the session's only one: the session is gone with it.
    Session,
    /// There is none of this number.
    Absent,
    /// The initiator was asked to log it out and did not. Below recovery level 2 the session would end with it.
    Stays,
}

/// By what a session is there: as its login has shown, and as it stands by the targets that are served now.
#[derive(Clone)]
pub(crate) struct Standing {
    pub address: IpAddr,
    pub account: Option<Account>,
    pub target: Arc<Target>,
    pub rule: Arc<Rule>,
}

impl Standing {
    /// Whether a connection that stands there by this may join a session that does by that (CHP-13): with the rule
    /// it has its units.
    fn is_like(&self, other: &Standing) -> bool {
        self.account == other.account && Arc::ptr_eq(&self.rule, &other.rule)
    }
}

/// A session as the registry knows it.
pub(crate) struct Known {
    pub tsih: u16,
    pub initiator: String,
    pub isid: [u8; 6],
    pub target: String,
    pub portal_group: u16,
    pub standing: Option<Standing>,
    pub orders: mpsc::UnboundedSender<SessionOrder>,
    pub ended: watch::Receiver<bool>,
}

/// A login that is complete but for the session's word. Where the session ends, `answer` is dropped.
pub(crate) struct JoinOrder {
    /// Its connection's number: one that the session has is reinstated (RFC 7143 §6.3.4).
    pub cid: u16,
    /// The word: a place, or why there is none.
    pub answer: oneshot::Sender<Result<Place, Status>>,
}

/// A place in a session, kept for a connection until this is dropped.
pub(crate) struct Place {
    /// The session's ExpCmdSN, for the last login response.
    pub exp_cmd_sn: u32,
    /// The session's MaxCmdSN.
    pub max_cmd_sn: u32,
    /// Where the connection goes once its login is over.
    pub seat: oneshot::Sender<Arrival>,
}

/// A further connection of a session, after its login.
pub(crate) struct Arrival {
    /// The socket, not blocking.
    pub stream: TcpStream,
    /// Whom it came from.
    pub peer: SocketAddr,
    /// What was agreed.
    pub opening: Opening,
}

/// A session of another process, which goes on here.
pub(crate) struct Revived {
    /// What is left of it.
    pub rest: SessionAtRest,
    /// The sockets of its connections, in their order.
    pub sockets: Vec<TcpStream>,
    /// The target.
    pub target: Arc<Target>,
    /// The nexus.
    pub nexus: NexusDescription,
    /// The rule by which it is there.
    pub rule: Arc<Rule>,
    /// The bounds.
    pub limits: Arc<Limits>,
    /// Bounds the log lines about it.
    pub lines: Arc<Lines>,
    /// Who watches what passes.
    pub traces: Arc<Traces>,
}

/// The identity of a session: name and ISID make the initiator's port, one of ours is the target's.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Key {
    initiator: String,
    isid: [u8; 6],
    target: String,
    portal_group: u16,
}

struct Entry {
    key: Key,
    worker: usize,
    standing: Option<Standing>,
    /// What its worker counts of it, as soon as it is there.
    cells: Option<Arc<SessionCells>>,
    orders: mpsc::UnboundedSender<SessionOrder>,
    ended: watch::Receiver<bool>,
}

#[derive(Default)]
struct State {
    /// More than one of an identity while a session takes the place of others that have not ended yet.
    sessions: HashMap<u16, Entry>,
    next_tsih: u16,
}

/// The sessions of a target.
#[derive(Clone, Default)]
pub(crate) struct Registry(Arc<Mutex<State>>);

/// A session's place in the registry; it ends with this.
pub struct Registered {
    registry: Registry,
    tsih: u16,
    worker: usize,
    orders: mpsc::UnboundedReceiver<SessionOrder>,
    ended: watch::Sender<bool>,
}

/// How a login that has succeeded goes on.
pub(crate) enum Admitted {
    /// As a new session, once all of those whose place it takes have ended.
    New { registered: Registered, replaces: Vec<watch::Receiver<bool>> },
    /// As a connection of a session that is there, if that has a place for it.
    Connection { orders: Option<mpsc::UnboundedSender<SessionOrder>>, place: Option<Place> },
}

impl Registry {
    /// Finds the session of a login: a new one, which ends the one of the same identity, or one that is
    /// there and may have a place for a connection, by a portal of this group. `workers` says which of them live.
    /// `standing` is asked for while nothing changes ([`Registry::whole`]), so that what is served is the same
    /// when the session is listed. Returns the TSIH too.
    pub fn admit(
        &self,
        asked: &Asked,
        portal_group: u16,
        standing: impl FnOnce() -> Result<Option<Standing>, Status>,
        limits: &Limits,
        workers: &[bool],
    ) -> Result<(u16, Admitted), Status> {
        let mut state = self.lock();
        let standing = standing()?;
        let key = Key {
            initiator: asked.initiator_name.clone(),
            isid: asked.isid,
            target: asked.target_name.clone().unwrap_or_default(),
            portal_group,
        };
        if asked.tsih != 0 {
            // A TSIH of another initiator or ISID is no session of this one (SES-10).
            let entry = state.sessions.get(&asked.tsih).filter(|entry| entry.key == key);
            let entry = entry.ok_or(Status::SESSION_DOES_NOT_EXIST)?;
            let alike = match (&entry.standing, &standing) {
                (Some(one), Some(other)) => one.is_like(other),
                (one, other) => one.is_none() && other.is_none(),
            };
            if !alike {
                return Err(Status::AUTHENTICATION_FAILURE);
            }
            return Ok((asked.tsih, Admitted::Connection { orders: Some(entry.orders.clone()), place: None }));
        }
        let of_initiator = state.sessions.values().filter(|entry| entry.key.initiator == key.initiator).count();
        // Whoever takes his own place needs no room. All that live are asked to end and waited for: one that
        // another login has waited for in vain may still write.
        let replaces: Vec<_> = state
            .sessions
            .values()
            .filter(|entry| entry.key == key)
            .map(|entry| {
                let _ = entry.orders.send(SessionOrder::End("another login takes its place"));
                entry.ended.clone()
            })
            .collect();
        let struck = &limits.struck;
        let full = match () {
            () if of_initiator >= limits.sessions_by_initiator => Some(&struck.sessions_by_initiator),
            () if state.sessions.len() >= limits.sessions => Some(&struck.sessions),
            () => None,
        };
        if let Some(bound) = full.filter(|_| replaces.len() != 1) {
            bound.count();
            return Err(Status::OUT_OF_RESOURCES);
        }
        let tsih = state.free_tsih().ok_or(Status::OUT_OF_RESOURCES)?;
        let mut load = vec![0usize; workers.len()];
        for entry in state.sessions.values() {
            if let Some(load) = load.get_mut(entry.worker) {
                *load += 1;
            }
        }
        let living = load.iter().zip(workers).enumerate().filter(|(_, (_, lives))| **lives);
        let worker = living.min_by_key(|(_, (load, _))| **load).map(|(at, _)| at);
        let worker = worker.ok_or(Status::SERVICE_UNAVAILABLE)?;
        let registered = state.register(tsih, key, worker, standing, self);
        Ok((tsih, Admitted::New { registered, replaces }))
    }

    /// What is counted of each session, by TSIH.
    pub fn statistics(&self) -> Vec<SessionStatistics> {
        let state = self.lock();
        let one = |(tsih, entry): (&u16, &Entry)| {
            Some(SessionStatistics {
                tsih: *tsih,
                target: entry.key.target.clone(),
                portal_group: entry.key.portal_group,
                initiator: entry.key.initiator.clone(),
                isid: entry.key.isid,
                worker: entry.worker,
                cells: Arc::clone(entry.cells.as_ref()?),
            })
        };
        let mut all: Vec<_> = state.sessions.iter().filter_map(one).collect();
        drop(state);
        all.sort_by_key(|session| session.tsih);
        all
    }

    /// A place for a session of another process, at the worker that has the fewest; nothing where its TSIH is
    /// taken.
    pub fn revive(&self, rest: &SessionAtRest, standing: Standing, workers: usize) -> Option<Registered> {
        let mut state = self.lock();
        if rest.tsih == 0 || state.sessions.contains_key(&rest.tsih) {
            return None;
        }
        let key = Key {
            initiator: rest.initiator.clone(),
            isid: rest.isid,
            target: rest.target.clone(),
            portal_group: rest.portal_group,
        };
        let load = |worker: usize| state.sessions.values().filter(|entry| entry.worker == worker).count();
        let worker = (0..workers).min_by_key(|worker| load(*worker))?;
        Some(state.register(rest.tsih, key, worker, Some(standing), self))
    }

    /// The TSIH that was given last.
    pub fn last_tsih(&self) -> u16 {
        self.lock().next_tsih
    }

    /// The next TSIH is the one behind this.
    pub fn go_on_behind(&self, tsih: u16) {
        self.lock().next_tsih = tsih;
    }

    /// Sessions that are there.
    pub fn len(&self) -> usize {
        self.lock().sessions.len()
    }

    /// Calls with all sessions while none comes or goes; with what they stand by afterwards, by TSIH.
    pub fn whole<T>(&self, with: impl FnOnce(Vec<Known>) -> (T, Vec<(u16, Standing)>)) -> T {
        let mut state = self.lock();
        let mut known: Vec<Known> = state
            .sessions
            .iter()
            .map(|(tsih, entry)| Known {
                tsih: *tsih,
                initiator: entry.key.initiator.clone(),
                isid: entry.key.isid,
                target: entry.key.target.clone(),
                portal_group: entry.key.portal_group,
                standing: entry.standing.clone(),
                orders: entry.orders.clone(),
                ended: entry.ended.clone(),
            })
            .collect();
        known.sort_by_key(|session| session.tsih);
        let (result, standings) = with(known);
        for (tsih, standing) in standings {
            if let Some(entry) = state.sessions.get_mut(&tsih) {
                entry.standing = Some(standing);
            }
        }
        result
    }

    /// The session of this TSIH: its orders, and what tells its end.
    pub fn session(&self, tsih: u16) -> Option<(mpsc::UnboundedSender<SessionOrder>, watch::Receiver<bool>)> {
        self.lock().sessions.get(&tsih).map(|entry| (entry.orders.clone(), entry.ended.clone()))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn register(
        &mut self,
        tsih: u16,
        key: Key,
        worker: usize,
        standing: Option<Standing>,
        registry: &Registry,
    ) -> Registered {
        let (orders, receiver) = mpsc::unbounded_channel();
        let (ended, watched) = watch::channel(false);
        self.sessions.insert(tsih, Entry { key, worker, standing, cells: None, orders, ended: watched });
        Registered { registry: registry.clone(), tsih, worker, orders: receiver, ended }
    }

    /// A TSIH that no session has, and that none had lately: 0 is none.
    fn free_tsih(&mut self) -> Option<u16> {
        for _ in 0..=u16::MAX {
            self.next_tsih = self.next_tsih.wrapping_add(1).max(1);
            if !self.sessions.contains_key(&self.next_tsih) {
                return Some(self.next_tsih);
            }
        }
        None
    }
}

impl Registered {
    /// What is counted of the session is here.
    pub(crate) fn count(&self, cells: Arc<SessionCells>) {
        if let Some(entry) = self.registry.lock().sessions.get_mut(&self.tsih) {
            entry.cells = Some(cells);
        }
    }

    /// The worker that serves the session.
    pub(crate) fn worker(&self) -> usize {
        self.worker
    }

    /// Drops the connections of all other sessions of the target.
    pub(crate) fn drop_others(&self, why: &'static str) {
        let state = self.registry.lock();
        let Some(target) = state.sessions.get(&self.tsih).map(|entry| &entry.key.target) else { return };
        for (tsih, entry) in &state.sessions {
            if *tsih != self.tsih && entry.key.target == *target {
                let _ = entry.orders.send(SessionOrder::Drop(why));
            }
        }
    }

    /// The next order; `None` never comes as long as the session is registered.
    pub(crate) fn poll_order(&mut self, cx: &mut Context<'_>) -> Poll<Option<SessionOrder>> {
        self.orders.poll_recv(cx)
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        let mut state = self.registry.lock();
        state.sessions.remove(&self.tsih);
        drop(state);
        let _ = self.ended.send(true);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use iscsi::session::SessionKind;

    fn asked(name: &str, isid: u8, tsih: u16) -> Asked {
        Asked {
            initiator_name: name.into(),
            initiator_alias: None,
            target_name: Some("iqn.2026-11.com.example:disk".into()),
            kind: SessionKind::Normal,
            isid: [0x40, 0, 0, 0, 0, isid],
            tsih,
            cid: 0,
        }
    }

    fn new(registry: &Registry, asked: &Asked) -> (u16, Registered, Vec<watch::Receiver<bool>>) {
        match registry
            .admit(asked, 1, || Ok(None), &Limits::default(), &[true, true])
            .map_err(|status| panic!("{status:?}"))
        {
            Ok((tsih, Admitted::New { registered, replaces })) => (tsih, registered, replaces),
            _ => panic!("not a new session"),
        }
    }

    #[test]
    fn ses_01_one_session_for_each_identity_and_the_newer_waits_for_the_older() {
        let registry = Registry::default();
        let (one, mut first, none) = new(&registry, &asked("a", 1, 0));
        assert!(none.is_empty());
        let (two, second, replaces) = new(&registry, &asked("a", 1, 0));
        assert_ne!(one, two);
        assert!(matches!(first.orders.try_recv(), Ok(SessionOrder::End(_))));
        let [replaces] = &replaces[..] else { panic!("it takes the place of the first") };
        assert!(!*replaces.borrow());
        drop(first);
        assert!(*replaces.borrow(), "told when the first has ended");
        assert_eq!(registry.len(), 1);
        let (_, _other, replaces) = new(&registry, &asked("a", 2, 0));
        assert!(replaces.is_empty(), "another ISID is another session");
        drop(second);
        assert_eq!(registry.len(), 1);
    }

    #[test]
    fn ses_01_a_session_that_does_not_end_is_waited_for_by_every_later_login() {
        let registry = Registry::default();
        let (_, stuck, _) = new(&registry, &asked("a", 1, 0));
        let (_, gave_up, _) = new(&registry, &asked("a", 1, 0));
        let (_, third, waits_for) = new(&registry, &asked("a", 1, 0));
        assert_eq!(waits_for.len(), 2);
        drop(gave_up);
        assert_eq!(waits_for.iter().filter(|ended| !*ended.borrow()).count(), 1, "the first still lives");
        drop(third);
        let (_, _fourth, waits_for) = new(&registry, &asked("a", 1, 0));
        assert_eq!(waits_for.len(), 1);
        drop(stuck);
        assert!(*waits_for[0].borrow());
    }

    #[test]
    fn ses_01_the_same_isid_at_another_portal_group_is_another_session() {
        let registry = Registry::default();
        let at = |portal_group, tsih| {
            registry.admit(&asked("a", 1, tsih), portal_group, || Ok(None), &Limits::default(), &[true])
        };
        let Ok((tsih, Admitted::New { registered: _one, .. })) = at(1, 0) else { panic!("not a new session") };
        let Ok((_, Admitted::New { registered: _two, replaces })) = at(2, 0) else { panic!("not a new session") };
        assert!(replaces.is_empty());
        assert_eq!(registry.len(), 2);
        assert_eq!(at(2, tsih).err(), Some(Status::SESSION_DOES_NOT_EXIST), "a session has portals of one group");
    }

    #[test]
    fn f23_a_dead_worker_gets_no_session() {
        let registry = Registry::default();
        let admit =
            |workers: &[bool]| match registry.admit(&asked("a", 1, 0), 1, || Ok(None), &Limits::default(), workers) {
                Ok((_, Admitted::New { registered, .. })) => Ok(registered.worker()),
                Ok(_) => panic!("not new"),
                Err(status) => Err(status),
            };
        assert_eq!(admit(&[false, true]), Ok(1));
        assert_eq!(admit(&[false, false]), Err(Status::SERVICE_UNAVAILABLE));
    }

    #[test]
    fn ses_10_a_guessed_tsih_leads_nowhere() {
        let registry = Registry::default();
        let (tsih, _registered, _) = new(&registry, &asked("a", 1, 0));
        let rule = Arc::new(Rule {
            label: "another".into(),
            initiators: crate::access::Initiators::Any,
            networks: Vec::new(),
            chap: None,
            units: Arc::default(),
            target_resets: false,
            redirection: None,
            limiter: Arc::default(),
        });
        let target = Arc::new(Target {
            name: "iqn.2026-11.com.example:disk".into(),
            alias: None,
            offline: false,
            access: crate::access::Access::default(),
            portals: Vec::new(),
            groups: lun::TargetPortGroups::new(&[], scsi::inquiry::TargetPortGroupSupport::Both),
            units: Arc::default(),
        });
        let mallory = Standing { address: IpAddr::from([192, 0, 2, 1]), account: None, target, rule };
        let try_it =
            |asked: &Asked, standing| registry.admit(asked, 1, || Ok(standing), &Limits::default(), &[true]).err();
        assert_eq!(try_it(&asked("b", 1, tsih), None), Some(Status::SESSION_DOES_NOT_EXIST));
        assert_eq!(try_it(&asked("a", 2, tsih), None), Some(Status::SESSION_DOES_NOT_EXIST));
        assert_eq!(try_it(&asked("a", 1, tsih + 1), None), Some(Status::SESSION_DOES_NOT_EXIST));
        assert_eq!(try_it(&asked("a", 1, tsih), Some(mallory)), Some(Status::AUTHENTICATION_FAILURE), "CHP-13");
        assert_eq!(try_it(&asked("a", 1, tsih), None), None, "whether there is a place says the session");
    }

    #[test]
    fn sessions_are_bounded_and_spread() {
        let registry = Registry::default();
        let limits = Limits { sessions_by_initiator: 2, sessions: 3, ..Limits::default() };
        let mut held = Vec::new();
        let mut admit =
            |name: &str, isid| match registry.admit(&asked(name, isid, 0), 1, || Ok(None), &limits, &[true, true]) {
                Ok((_, Admitted::New { registered, .. })) => {
                    held.push(registered);
                    Ok(held.last().map(Registered::worker))
                }
                Ok(_) => panic!("not new"),
                Err(status) => Err(status),
            };
        assert_eq!((admit("a", 1), admit("a", 2)), (Ok(Some(0)), Ok(Some(1))));
        assert_eq!(admit("a", 3), Err(Status::OUT_OF_RESOURCES));
        assert_eq!(admit("b", 1), Ok(Some(0)));
        assert_eq!(admit("c", 1), Err(Status::OUT_OF_RESOURCES));
        assert_eq!(admit("a", 2), Ok(Some(1)), "taking one's own place needs no room");
        assert_eq!((limits.struck.sessions_by_initiator.get(), limits.struck.sessions.get()), (1, 1));
    }
}
