//! What keeps a path: connects it, looks where it leads, checks it, and begins again when it is lost.

use super::Shared;
use super::fence::Fenced;
use super::path::Path;
use crate::disk::facts;
use crate::disk::{Known, clear, elsewhere, is_change, is_clearing};
use crate::guard::Guard;
use crate::{Command, Error, Event, Function, Session, Unit};
use scsi::{cdb, port_groups};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::broadcast::error::RecvError;

/// The first rest after a path could not be connected; it doubles.
const REST: Duration = Duration::from_millis(250);
/// The longest.
const REST_MAX: Duration = Duration::from_secs(10);
/// Bytes of REPORT TARGET PORT GROUPS that are asked for.
const GROUPS_BYTES: u32 = 16 << 10;
/// How long a session that is given up may take to log out.
const LEAVE: Duration = Duration::from_secs(1);

/// Keeps the path until the group ends.
pub(super) async fn keep(shared: Arc<Shared>, path: Arc<Path>) {
    let mut rest = REST;
    let mut failures = 0u32;
    loop {
        // What is owed comes first, and by one login at a time: two of one ISID would end each other. Another path
        // does in a moment what a dead portal never will.
        let fenced = shared.fence(&path).await;
        let connected = tokio::select! {
            biased;
            connected = connect(&shared, &path) => connected,
            () = shared.has_helper(&path), if fenced != Fenced::Failed => continue,
        };
        match connected {
            Ok(session) => {
                if failures > 0 {
                    tracing::info!(portal = %path.options.portal, attempts = failures, "the path to the disk is back");
                }
                (rest, failures) = (REST, 0);
                shared.changed();
                watch(&shared, &path, session).await;
                shared.changed();
            }
            Err(error) => {
                failures += 1;
                if path.fail(&error.to_string()) {
                    tracing::warn!(portal = %path.options.portal, "a path to the disk cannot be used: {error}");
                }
                shared.changed();
                tokio::select! {
                    () = tokio::time::sleep(rest) => {}
                    // Another path has come back that can do what this one owes: nobody is to wait for that.
                    () = shared.has_helper(&path), if fenced != Fenced::Failed => {}
                }
                rest = (rest * 2).min(REST_MAX);
            }
        }
    }
}

/// Logs in and makes sure that it is the group's disk to which this leads.
async fn connect(shared: &Shared, path: &Path) -> Result<Session, Error> {
    let session = path.options.clone().connect().await?;
    let portal_group = session.information().portal_group_tag;
    if path.has_led_there() && path.portal_group() != portal_group {
        // The target has sent us to another portal group, where the login is no reinstatement.
        session.task_management(Function::LogicalUnitReset, path.lun).await?;
    }
    // The login has ended what the target had of the last session, whatever comes of this one.
    path.end_of_all();
    shared.changed();
    let unit = session.unit(path.lun);
    let learnt = recognize(shared, path, &unit).await;
    let port_group = match learnt {
        Ok(port_group) => port_group,
        Err(error) => {
            let _ = tokio::time::timeout(LEAVE, session.logout()).await;
            return Err(error);
        }
    };
    path.restore(session.clone(), port_group, portal_group);
    look_at_states(shared, path, &unit).await?;
    Ok(session)
}

/// Whether it is the disk of the group; the first path says which that is. Its target port group, where it has one.
async fn recognize(shared: &Shared, path: &Path, unit: &Unit) -> Result<Option<u16>, Error> {
    let who = facts::identify(unit).await?;
    let (identity, port_group) = (who.identity.clone(), who.port_group);
    let facts = facts::learn_of(unit, who).await;
    if let Ok(facts) = &facts
        && shared.known.set(Known::new(shared.address.clone(), facts.clone())).is_ok()
    {
        return Ok(port_group);
    }
    let Some(known) = shared.known() else { return facts.map(|_| port_group) };
    // A path that has led there before is believed, as that of a disk with one path is.
    if known.facts().identity.is_same(&identity).is_none() && !path.has_led_there() {
        let why = "the disk there has no name by which it could be known as the same";
        return Err(Error::Invalid(format!("{}: {why}", path.options.portal)));
    }
    known.recognize(&identity)?;
    match facts {
        Ok(facts) => known.update(facts).map(|()| port_group),
        // A port in standby tells who it is and not how large.
        Err(error) if error.scsi().is_some() => Ok(port_group),
        Err(error) => Err(error),
    }
}

/// Returns when the session is lost.
async fn watch(shared: &Shared, path: &Path, session: Session) {
    let Some((_, generation)) = path.session() else { return };
    let unit = session.unit(path.lun);
    let guard = Guard::new(unit.clone());
    let mut events = session.events();
    let mut check = tokio::time::interval(shared.options.check_interval);
    check.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    check.tick().await;
    let why = loop {
        let done = tokio::select! {
            event = events.recv() => match event {
                Ok(Event::SessionLost { why } | Event::SessionGone { why }) => Err(why),
                Ok(event) if is_change(&event, &unit) => learn_anew(shared, &unit, &guard).await,
                Ok(Event::ConnectionLost { .. }) => checked(shared, path, &unit).await,
                Ok(event) if is_clearing(&event, &unit) => { clear(&unit); Ok(()) }
                // ASYMMETRIC ACCESS STATE CHANGED.
                Ok(Event::UnitAttention { code: (0x2a, 0x06), .. }) => checked(shared, path, &unit).await,
                Ok(_) => Ok(()),
                Err(RecvError::Lagged(_)) => learn_anew(shared, &unit, &guard).await,
                Err(RecvError::Closed) => Err("the session is over".to_owned()),
            },
            () = path.bell.notified() => match path.session() {
                // A request has found that it is lost.
                None => return,
                Some(_) => checked(shared, path, &unit).await,
            },
            _ = check.tick() => checked(shared, path, &unit).await,
        };
        if let Err(why) = done {
            break why;
        }
    };
    if path.lose_session(generation, &why).is_some() {
        tracing::warn!(portal = %path.options.portal, "a path to the disk is lost: {why}");
    }
    drop(unit);
    // Where it still lives and only does not answer commands, it is left properly.
    let _ = tokio::time::timeout(LEAVE, session.logout()).await;
}

/// TEST UNIT READY, and the access states. An error: the path is of no use any more.
async fn checked(shared: &Shared, path: &Path, unit: &Unit) -> Result<(), String> {
    let limit = shared.options.check_interval.max(Duration::from_secs(1));
    let ready = unit.execute(Command::new(&cdb::TEST_UNIT_READY).within(limit));
    match tokio::time::timeout(limit * 2, ready).await {
        Err(_) => return Err(format!("no answer to a check within {} s", (limit * 2).as_secs())),
        Ok(finished) => match finished.result {
            Ok(_) => {}
            // What the unit says is an answer; what its port is in comes next.
            Err(error) if error.scsi().is_some() => {}
            Err(error) => return Err(error.to_string()),
        },
    }
    look_at_states(shared, path, unit).await.map_err(|error| error.to_string())
}

/// Asks for the access states of all port groups, which are those of all paths.
async fn look_at_states(shared: &Shared, path: &Path, unit: &Unit) -> Result<(), Error> {
    if path.port_group().is_none() {
        path.set_access(port_groups::AccessState::ActiveOptimized as u8);
        return Ok(());
    }
    let command = Command::new(&cdb::report_target_port_groups(GROUPS_BYTES)).reading(GROUPS_BYTES as usize);
    let answer = match unit.execute(command).await.bytes() {
        Ok(answer) => answer,
        Err(error) if error.scsi().is_some() => return Ok(()),
        Err(error) => return Err(error),
    };
    let groups = port_groups::parse(&answer).unwrap_or_default();
    let mut news = false;
    for path in &shared.paths {
        let Some(group) = groups.iter().find(|group| Some(group.number) == path.port_group()) else { continue };
        if path.set_access(group.state) {
            news = true;
            let state = port_groups::AccessState::from_code(group.state).map_or("in transition", |state| state.name());
            tracing::info!(portal = %path.options.portal, group = group.number, "the path is {state} now");
        }
    }
    if news {
        shared.changed();
    }
    Ok(())
}

/// Looks at the unit, which has said that it is not as it was. An error: it is not the group's disk any more, or
/// cannot be asked.
async fn learn_anew(shared: &Shared, unit: &Unit, guard: &Guard) -> Result<(), String> {
    let Some(known) = shared.known() else { return Ok(()) };
    let look = guard.look();
    let updated = match facts::learn(unit).await {
        Ok(facts) => known.update(facts),
        Err(error) if error.scsi().is_some() => Ok(()),
        Err(error) => Err(error),
    };
    guard.judge(look, updated.as_ref().err().map(elsewhere));
    updated.map_err(|error| error.to_string())
}
