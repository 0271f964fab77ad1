//! What the door tells a login: who is asked for what, which targets are there for whom, and its place
//! among the sessions.
//!
//! Whoever has not shown who he is learns nothing of names. A target that is not there, or not for him, asks
//! for CHAP as soon as any target does, and whatever he answers ends as it would at one that is there: with
//! an authentication failure where he knows no secret of his, else with "not found".

use crate::access::{Rule, challenge};
use crate::door::Door;
use crate::limits::Limits;
use crate::refusal::{NoAccess, Refusal};
use crate::registry::{Admitted, JoinOrder, SessionOrder, Standing};
use crate::target::{Discovery, Target, Targets, Viewer};
use crate::worker::WorkerHandle;
use iscsi::auth::{Account, Rules};
use iscsi::key::SessionParameters;
use iscsi::login::Status;
use iscsi::login::target::{Asked, Failure, Found, Policy};
use iscsi::session::SessionKind;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use tokio::sync::oneshot;

/// One login as the door sees it.
pub(crate) struct Admission<'a> {
    door: &'a Door,
    /// What is served, as it was when the login began.
    targets: Arc<Targets>,
    peer: SocketAddr,
    address: IpAddr,
    portal_group: u16,
    /// The names, once they were said.
    asked: Option<(String, Option<String>)>,
    no_access: Option<NoAccess>,
    account: Option<Account>,
    /// The target that it asks for and the rule by which it is there, once it is found.
    pub place: Option<(Arc<Target>, Arc<Rule>)>,
    /// Its place among the sessions, once it is complete.
    pub admitted: Option<Admitted>,
}

impl Admission<'_> {
    /// A login of this peer at a portal of this group.
    pub fn new(door: &Door, peer: SocketAddr, portal_group: u16) -> Admission<'_> {
        Admission {
            door,
            targets: door.targets(),
            peer,
            address: peer.ip().to_canonical(),
            portal_group,
            asked: None,
            no_access: None,
            account: None,
            place: None,
            admitted: None,
        }
    }

    /// Who looks, for what a discovery session lists.
    pub fn viewer(&mut self, initiator: &str) -> Viewer {
        Viewer { initiator: initiator.to_owned(), address: self.address, account: self.account.take() }
    }

    /// The login has failed.
    pub fn refusal(&mut self, status: Option<Status>, why: String) -> Refusal {
        Refusal { peer: self.peer, asked: self.asked.take(), status, why, access: self.no_access.take() }
    }

    /// The target of this name and the rule by which it is there for this initiator.
    fn look_for(&self, name: &str, initiator: &str) -> Result<(&Arc<Target>, &Arc<Rule>), NoAccess> {
        look_for(&self.targets, name, initiator, self.address, self.portal_group)
    }

    /// By what it is there, as things stand now: what is served may be other than it was when the login began.
    fn standing(&mut self, asked: &Asked) -> Result<Option<Standing>, Status> {
        let now = self.door.targets();
        if !Arc::ptr_eq(&now, &self.targets) {
            self.targets = now;
            if let Some(name) = &asked.target_name {
                let found = self.look_for(name, &asked.initiator_name).map_err(|_| Status::NOT_FOUND)?;
                let (target, rule) = (Arc::clone(found.0), Arc::clone(found.1));
                if !rule.takes(self.account.as_ref()) {
                    return Err(Status::AUTHENTICATION_FAILURE);
                }
                self.place = Some((target, rule));
            }
        }
        Ok(self.place.as_ref().map(|(target, rule)| Standing {
            address: self.address,
            account: self.account.clone(),
            target: Arc::clone(target),
            rule: Arc::clone(rule),
        }))
    }

    fn refuse(&mut self, status: Status, why: NoAccess) -> Failure {
        let failure = Failure::new(status, why.to_string());
        self.no_access = Some(why);
        failure
    }
}

impl Policy for Admission<'_> {
    fn portal_group_tag(&self) -> u16 {
        self.portal_group
    }

    fn authentication(&mut self, asked: &Asked) -> Result<Option<Rules>, Failure> {
        self.asked = Some((asked.initiator_name.clone(), asked.target_name.clone()));
        let targets = &self.targets;
        let (accounts, own) = match (&asked.target_name, asked.kind, &targets.discovery) {
            (_, SessionKind::Discovery, Discovery::Open) => return Ok(None),
            (_, SessionKind::Discovery, Discovery::Accounts { accounts, own }) => (accounts, own.as_ref()),
            (_, SessionKind::Discovery, Discovery::AsTargets { own }) => (targets.accounts(), own.as_ref()),
            (None, SessionKind::Normal, _) => (targets.accounts(), None),
            (Some(name), SessionKind::Normal, _) => match self.look_for(name, &asked.initiator_name) {
                Ok((_, rule)) => match &rule.chap {
                    Some(chap) => (targets.accounts(), chap.own.as_ref()),
                    None => return Ok(None),
                },
                Err(_) => (targets.accounts(), None),
            },
        };
        if accounts.is_empty() {
            return Ok(None);
        }
        let rules = challenge(&targets.algorithms, accounts, own);
        let failure = |_| Failure::new(Status::OUT_OF_RESOURCES, "the system has no randomness for a challenge");
        rules.map(Some).map_err(failure)
    }

    fn find(&mut self, asked: &Asked) -> Result<Found, Failure> {
        // A discovery session without a name is for everybody; it lists what he may see.
        let Some(name) = &asked.target_name else { return Ok(Found::default()) };
        let (target, rule) = match self.look_for(name, &asked.initiator_name) {
            Ok((target, rule)) => (Arc::clone(target), Arc::clone(rule)),
            Err(why) => return Err(self.refuse(Status::NOT_FOUND, why)),
        };
        if asked.kind == SessionKind::Discovery {
            return Ok(Found::default());
        }
        let found = Found { alias: target.alias.clone(), redirection: rule.redirection.clone() };
        self.place = Some((target, rule));
        Ok(found)
    }

    fn authenticated(&mut self, asked: &Asked, account: &Account) -> Result<(), Failure> {
        let targets = &self.targets;
        let separately =
            matches!((asked.kind, &targets.discovery), (SessionKind::Discovery, Discovery::Accounts { .. }));
        if !separately && !targets.knows(&asked.initiator_name, self.address, account) {
            // It is not this initiator, whatever it asks for (CHP-12).
            return Err(self.refuse(Status::AUTHENTICATION_FAILURE, NoAccess::Stranger(account.user.clone())));
        }
        if let Some((_, rule)) = &self.place
            && !rule.takes(Some(account))
        {
            let users = rule.chap.iter().flat_map(|chap| &chap.accounts).map(|account| account.user.clone());
            let (rule, account, takes) = (rule.label.clone(), account.user.clone(), users.collect());
            return Err(self.refuse(Status::NOT_FOUND, NoAccess::Account { rule, account, takes }));
        }
        self.account = Some(account.clone());
        Ok(())
    }

    fn admit(&mut self, asked: &Asked, _: &SessionParameters) -> Result<u16, Failure> {
        let door = self.door;
        if asked.kind == SessionKind::Discovery {
            // Discovery sessions live at the door and have no state that another could find.
            return if asked.tsih == 0 { Ok(1) } else { Err(why(Status::SESSION_DOES_NOT_EXIST)) };
        }
        // Who joins a session that is there is not new.
        let offline = self.place.as_ref().is_some_and(|(target, _)| target.offline);
        if asked.tsih == 0 && (offline || !door.is_open()) {
            let what = if offline { "the target is offline" } else { "the daemon takes no logins just now" };
            return Err(Failure::new(Status::SERVICE_UNAVAILABLE, what));
        }
        let workers: Vec<bool> = door.workers.iter().map(WorkerHandle::lives).collect();
        let portal_group = self.portal_group;
        let standing = || self.standing(asked);
        let (tsih, admitted) =
            door.registry.admit(asked, portal_group, standing, &door.limits, &workers).map_err(why)?;
        self.admitted = Some(admitted);
        Ok(tsih)
    }
}

/// The target of this name and the rule by which it is there for an initiator at this address, who comes by a
/// portal of this group.
pub(crate) fn look_for<'a>(
    targets: &'a Targets,
    name: &str,
    initiator: &str,
    address: IpAddr,
    portal_group: u16,
) -> Result<(&'a Arc<Target>, &'a Arc<Rule>), NoAccess> {
    let target = targets.named(name).ok_or(NoAccess::NoTarget)?;
    if !target.groups.contains(portal_group) {
        return Err(NoAccess::PortalGroup(portal_group));
    }
    let rule = target.access.decide(initiator, address).map_err(NoAccess::Rules)?;
    Ok((target, rule))
}

/// What a refusal of the registry means.
fn why(status: Status) -> Failure {
    let why = match status {
        Status::SESSION_DOES_NOT_EXIST => "it has no session of this TSIH, or one that ends",
        Status::INITIATOR_ERROR => "another login of the same connection came after it",
        Status::AUTHENTICATION_FAILURE => {
            "the session that it joins was opened with another account, or by another rule"
        }
        Status::TOO_MANY_CONNECTIONS => "the session has as many connections as it may have",
        Status::OUT_OF_RESOURCES => "there are as many sessions as there may be, in all or of this initiator",
        Status::SERVICE_UNAVAILABLE => "no worker lives",
        Status::NOT_FOUND => "the target, or its access to it, was taken away while it logged in",
        _ => "refused when it was complete",
    };
    Failure::new(status, why)
}

impl Admitted {
    /// Waits, at most this long, for what the success of the login depends on: a session whose place is taken
    /// has ended before its successor hears of success (SES-01), and a session that is to be joined has kept a
    /// place for the connection of this number (LOG-11).
    pub async fn settle(&mut self, cid: u16, limits: &Limits) -> Result<(), Failure> {
        let time = limits.reinstatement_time;
        let stays = |why| {
            limits.struck.reinstatement_time.count();
            Failure::new(Status::SERVICE_UNAVAILABLE, why)
        };
        match self {
            Admitted::New { replaces, .. } => {
                let all = async {
                    for ended in replaces.iter_mut() {
                        let _ = ended.wait_for(|ended| *ended).await;
                    }
                };
                let ended = tokio::time::timeout(time, all).await;
                ended.map_err(|_| stays("the session whose place it takes does not end"))
            }
            Admitted::Connection { orders, place } => {
                let ended = || Failure::new(Status::SESSION_DOES_NOT_EXIST, "the session that it joins has just ended");
                let (answer, answered) = oneshot::channel();
                let order = SessionOrder::Join(JoinOrder { cid, answer });
                // The sender goes at once: an order that nobody will read any more goes with the last of them, and
                // that it is gone is the answer.
                orders.take().ok_or_else(ended)?.send(order).map_err(|_| ended())?;
                let answered = tokio::time::timeout(time, answered).await;
                let answered =
                    answered.map_err(|_| stays("the tasks of the connection whose place it takes do not end"))?;
                *place = Some(answered.map_err(|_| ended())?.map_err(why)?);
                Ok(())
            }
        }
    }
}
