//! What is served becomes something else while sessions are there.
//!
//! A change is one replacement of [`Targets`]. While it is made no session comes or goes, so that each session is
//! either judged here or has logged in to what is new. Each then gets its order by the channel that it listens to
//! anyway; nothing of it is on the path of a command.

use crate::access::Rule;
use crate::admission::look_for;
use crate::door::Door;
use crate::refusal::NoAccess;
use crate::registry::{ChangeOrder, CloseOrder, Closed, Known, SessionOrder, Standing};
use crate::target::Targets;
use lun::{ChangeError, LogicalUnit, LunMap};
use std::fmt::{Display, Formatter};
use std::net::IpAddr;
use std::sync::{Arc, PoisonError};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};

/// How long a change waits for sessions: one that is dropped ends sooner unless its store hangs.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long an initiator has to log out a connection that is to go, and then some.
const CLOSING: Duration = Duration::from_secs(8);

/// What may happen to sessions by a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sessions {
    /// Nothing that they notice for the worse: where anybody would be disturbed, nothing is changed.
    Spare,
    /// What follows: units go from under them, and who is not admitted any more is told and dropped.
    Disturb,
}

/// A session that a change disturbs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Disturbance {
    /// The session's number (TSIH).
    pub tsih: u16,
    /// The initiator's name.
    pub initiator: String,
    /// The initiator's part of the session's identity.
    pub isid: [u8; 6],
    /// Where it comes from.
    pub address: Option<IpAddr>,
    /// The target's name.
    pub target: String,
    /// How.
    pub how: Disturbed,
}

/// How a session is disturbed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Disturbed {
    /// It is not admitted any more, for this reason, and is dropped.
    Dropped(NoAccess),
    /// These LUNs lead nowhere any more, or elsewhere; and to these it may not write any more.
    Units {
        /// Gone, or another unit.
        lost: Vec<u16>,
        /// Read-only.
        protected: Vec<u16>,
    },
}

/// What a change came to.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Changed {
    /// Sessions that see other units than before.
    pub units_changed: usize,
    /// Who was disturbed.
    pub disturbed: Vec<Disturbance>,
    /// Sessions that had not done what they were told when patience was over: a store of theirs hangs. They do it
    /// when it comes back.
    pub pending: usize,
}

impl Display for Disturbance {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        write!(f, "session {} of {}", self.tsih, self.initiator)?;
        if let Some(address) = self.address {
            write!(f, " ({address})")?;
        }
        write!(f, " at {}: ", self.target)?;
        let list = |numbers: &[u16]| numbers.iter().map(u16::to_string).collect::<Vec<_>>().join(", ");
        match &self.how {
            Disturbed::Dropped(why) => write!(f, "it is dropped: {why}"),
            Disturbed::Units { lost, protected } if protected.is_empty() => write!(f, "it loses LUN {}", list(lost)),
            Disturbed::Units { lost, protected } if lost.is_empty() => {
                write!(f, "it may not write to LUN {} any more", list(protected))
            }
            Disturbed::Units { lost, protected } => {
                write!(f, "it loses LUN {} and may not write to LUN {} any more", list(lost), list(protected))
            }
        }
    }
}

/// How a session stands by what is to be served.
enum Verdict {
    /// By this rule, perhaps with less than before.
    Stays(Standing, Option<Disturbed>),
    Goes(NoAccess),
}

fn judge(session: &Known, standing: &Standing, next: &Targets) -> Verdict {
    let found = look_for(next, &session.target, &session.initiator, standing.address, session.portal_group);
    let (target, rule) = match found {
        Ok(found) => found,
        Err(why) => return Verdict::Goes(why),
    };
    let account = match account(standing, rule) {
        Ok(account) => account,
        Err(why) => return Verdict::Goes(why),
    };
    let how = compare(&standing.rule.units, &rule.units);
    let (target, rule) = (Arc::clone(target), Arc::clone(rule));
    Verdict::Stays(Standing { address: standing.address, account, target, rule }, how)
}

/// The account of a session by this rule. What it has shown it has shown: a new secret of the same user is for the
/// next login, and so is that somebody has to show one now; an account that is not taken any more is a reason to go.
fn account(standing: &Standing, rule: &Rule) -> Result<Option<iscsi::auth::Account>, NoAccess> {
    let (Some(own), Some(chap)) = (&standing.account, &rule.chap) else { return Ok(standing.account.clone()) };
    let now = chap.accounts.iter().find(|account| account.user == own.user);
    now.cloned().map(Some).ok_or_else(|| NoAccess::Account {
        rule: rule.label.clone(),
        account: own.user.clone(),
        takes: chap.accounts.iter().map(|account| account.user.clone()).collect(),
    })
}

/// What a session loses that has this map and gets that one.
fn compare(old: &Arc<LunMap>, new: &Arc<LunMap>) -> Option<Disturbed> {
    if Arc::ptr_eq(old, new) {
        return None;
    }
    let (mut lost, mut protected) = (Vec::new(), Vec::new());
    for entry in &old.entries {
        let now = new.entries.iter().find(|now| now.number == entry.number && Arc::ptr_eq(&now.unit, &entry.unit));
        match now {
            None => lost.push(entry.number),
            Some(now) if now.read_only && !entry.read_only => protected.push(entry.number),
            Some(_) => {}
        }
    }
    (!lost.is_empty() || !protected.is_empty()).then_some(Disturbed::Units { lost, protected })
}

fn is_same_map(old: &LunMap, new: &LunMap) -> bool {
    let same = |(one, other): (&lun::LunEntry, &lun::LunEntry)| {
        (one.number, one.read_only) == (other.number, other.read_only) && Arc::ptr_eq(&one.unit, &other.unit)
    };
    old.entries.len() == new.entries.len() && old.entries.iter().zip(&new.entries).all(same)
}

impl Known {
    fn disturbance(&self, how: Disturbed) -> Disturbance {
        Disturbance {
            tsih: self.tsih,
            initiator: self.initiator.clone(),
            isid: self.isid,
            address: self.standing.as_ref().map(|standing| standing.address),
            target: self.target.clone(),
            how,
        }
    }
}

impl Door {
    /// Who would be disturbed if this were served. Changes nothing.
    pub fn disturbed_by(&self, next: &Targets) -> Vec<Disturbance> {
        self.registry.whole(|sessions| {
            let disturbed = |session: &Known| {
                let how = match judge(session, session.standing.as_ref()?, next) {
                    Verdict::Stays(_, how) => how?,
                    Verdict::Goes(why) => Disturbed::Dropped(why),
                };
                Some(session.disturbance(how))
            };
            (sessions.iter().filter_map(disturbed).collect(), Vec::new())
        })
    }

    /// Serves this from now on. Logins and discovery see it at once, whole; one that is under way is judged by it
    /// when it is complete.
    ///
    /// A session that is there is judged as if it logged in again, but for its secret. One that is still admitted
    /// goes on; where its units are others now, it gets the new map ([`lun::Lane::change_nexus`]), and where its
    /// target's alias, portals or rights are, it has those. Portal groups that stay keep the access states that they
    /// have come to ([`lun::TargetPortGroups::change`] changes them). One that is not admitted any more is told by an
    /// asynchronous message that its connections are dropped, and closed. With [`Sessions::Spare`] nothing at
    /// all is changed where anybody would be disturbed: who is the error.
    ///
    /// Comes back when all sessions have done so, or after ten seconds. Units that nobody is to see any more are
    /// then the caller's to retire ([`LogicalUnit::retire`]).
    pub async fn change(&self, next: Targets, sessions: Sessions) -> Result<Changed, Vec<Disturbance>> {
        let next = Arc::new(next);
        let (done, mut all_done) = mpsc::channel::<()>(1);
        let decided = self.registry.whole(|known| {
            let verdicts: Vec<Option<Verdict>> = known
                .iter()
                .map(|session| session.standing.as_ref().map(|standing| judge(session, standing, &next)))
                .collect();
            let mut disturbed = Vec::new();
            for (session, verdict) in known.iter().zip(&verdicts) {
                match verdict {
                    Some(Verdict::Stays(_, Some(how))) => disturbed.push(session.disturbance(how.clone())),
                    Some(Verdict::Goes(why)) => disturbed.push(session.disturbance(Disturbed::Dropped(why.clone()))),
                    _ => {}
                }
            }
            if sessions == Sessions::Spare && !disturbed.is_empty() {
                return (Err(disturbed), Vec::new());
            }
            let before = std::mem::replace(
                &mut *self.targets.write().unwrap_or_else(PoisonError::into_inner),
                Arc::clone(&next),
            );
            for target in next.all() {
                if let Some(before) = before.named(&target.name).filter(|old| !Arc::ptr_eq(&old.groups, &target.groups))
                {
                    target.groups.inherit(&before.groups);
                }
            }
            let (mut standings, mut ends) = (Vec::new(), Vec::new());
            let mut units_changed = 0;
            for (session, verdict) in known.into_iter().zip(verdicts) {
                match verdict {
                    None => {}
                    Some(Verdict::Stays(standing, _)) => {
                        let before = session.standing.as_ref();
                        let same = before.is_some_and(|old| is_same_map(&old.rule.units, &standing.rule.units));
                        units_changed += usize::from(!same);
                        let (target, rule) = (Arc::clone(&standing.target), Arc::clone(&standing.rule));
                        let _ =
                            session.orders.send(SessionOrder::Change(ChangeOrder { target, rule, done: done.clone() }));
                        standings.push((session.tsih, standing));
                    }
                    Some(Verdict::Goes(why)) => {
                        let why = match why {
                            NoAccess::NoTarget => "its target is served no more",
                            _ => "it is not admitted any more",
                        };
                        let _ = session.orders.send(SessionOrder::Drop(why));
                        ends.push(session.ended);
                    }
                }
            }
            (Ok((Changed { units_changed, disturbed, pending: 0 }, ends)), standings)
        });
        drop(done);
        let (mut changed, ends) = decided?;
        let deadline = tokio::time::Instant::now() + PATIENCE;
        if tokio::time::timeout_at(deadline, all_done.recv()).await.is_err() {
            changed.pending += 1;
        }
        for mut ended in ends {
            let gone = ended.wait_for(|ended| *ended);
            changed.pending += usize::from(tokio::time::timeout_at(deadline, gone).await.is_err());
        }
        Ok(changed)
    }

    /// Tells the initiator of this session that its connections are dropped, and closes them. It may log in again.
    /// Comes back when the session has ended and nothing of it can touch a medium any more; false where there is
    /// none, or where that takes longer than ten seconds.
    pub async fn drop_session(&self, tsih: u16) -> bool {
        let Some((orders, mut ended)) = self.registry.session(tsih) else { return false };
        let _ = orders.send(SessionOrder::Drop("it was dropped by hand"));
        tokio::time::timeout(PATIENCE, ended.wait_for(|ended| *ended)).await.is_ok()
    }

    /// Closes one connection of a session. The initiator is asked to log it out; where it does not, at recovery
    /// level 2 it is told that the connection is dropped, and its tasks wait for another, and below that the
    /// connection stays, as the session would end with it. The only connection goes as by [`Door::drop_session`].
    pub async fn close_connection(&self, tsih: u16, cid: u16) -> Closed {
        let Some((orders, mut ended)) = self.registry.session(tsih) else { return Closed::Absent };
        let (answer, answered) = oneshot::channel();
        if orders.send(SessionOrder::Close(CloseOrder { cid, answer })).is_err() {
            return Closed::Session;
        }
        match tokio::time::timeout(CLOSING, answered).await {
            Ok(Ok(Closed::Session)) | Ok(Err(_)) => {
                let _ = tokio::time::timeout(PATIENCE, ended.wait_for(|ended| *ended)).await;
                Closed::Session
            }
            Ok(Ok(closed)) => closed,
            Err(_) => Closed::Stays,
        }
    }
}

/// Waits for a change of a unit ([`LogicalUnit::take_offline`], [`LogicalUnit::set_read_only`],
/// [`LogicalUnit::set_write_cache`], [`LogicalUnit::retire`] and their like), but not for ever: a store that hangs must not keep
/// the administration from everything else. After ten seconds it is [`ChangeError::Pending`], and goes on by itself.
pub async fn patiently<F>(change: F) -> Result<(), ChangeError>
where
    F: Future<Output = Result<(), ChangeError>> + Send + 'static,
{
    let change = tokio::spawn(change);
    match tokio::time::timeout(PATIENCE, change).await {
        Ok(Ok(result)) => result,
        Ok(Err(_)) | Err(_) => Err(ChangeError::Pending),
    }
}

/// Resizes a unit of which this is the store, to so many bytes: what is smaller while nobody is under way at it.
pub async fn resize(unit: &Arc<LogicalUnit>, bytes: u64) -> Result<(), ChangeError> {
    let limits = unit.backend().limits();
    let block = u64::from(limits.block_length.max(1));
    if bytes == 0 || !bytes.is_multiple_of(block) {
        return Err(ChangeError::Unsupported("the size is no multiple of its blocks"));
    }
    let still = match bytes < limits.capacity() {
        true => Some(tokio::time::timeout(PATIENCE, unit.pause()).await.map_err(|_| ChangeError::Pending)?),
        false => None,
    };
    let resized = Arc::clone(unit);
    let done = tokio::task::spawn_blocking(move || {
        let done = resized.resize(bytes / block);
        drop(still);
        done
    });
    done.await.unwrap_or(Err(ChangeError::State("the look at its store was cut off")))
}
