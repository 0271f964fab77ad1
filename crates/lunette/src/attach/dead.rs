//! Sessions whose holder died: what each front-end leaves, cleared away or taken up again.
//!
//! The kernel's initiator, ublk and nbd keep their devices without a holder, until another one takes them up; nbd's
//! requests wait for half a minute only. What fuse offered died with it: requests fail, and only a mount point is left.

use super::devices::{self, DETACH_LIMIT};
use super::hold::{self, Held, Request, Via};
use super::links;
use super::state::{self, Entry, Place};
use crate::failure::{Cause, Failure};

/// Whether the devices live on, for a new holder to take up.
pub fn lives_on(entry: &Entry) -> bool {
    let record = &entry.record;
    let outlives = match (record.via, record.kernel_session) {
        (_, Some(number)) => attach::kernel::known_session(number).is_some_and(|known| known.target == record.target),
        (Via::Nbd, None) => {
            record.devices.iter().any(|device| attach::nbd::is_left(&device.path, &name(entry, device.lun)))
        }
        (Via::Ublk, None) => record.devices.iter().any(|device| device.path.exists()),
        _ => false,
    };
    outlives && !entry.alive && !record.process.is_of_another_boot()
}

/// What a device was called when it was made.
fn name(entry: &Entry, lun: u64) -> String {
    entry.record.portals.first().map_or(String::new(), |portal| links::name(portal, &entry.record.target, lun))
}

/// Starts a new holder for what a dead one left.
pub fn resume(place: &Place, entry: &Entry) -> Result<Held, Failure> {
    let number = entry.record.session;
    let request = state::request(&entry.directory).and_then(|request| Request::from_json(&request));
    let Some(request) = request else {
        let line =
            format!("session {number} cannot be taken up again: its request is gone; `lunette detach` clears it");
        return Err(Failure::because(Cause::NotFound, line));
    };
    if lives_on(entry) {
        return hold::resume(number, &request);
    }
    // What there was is dead; the same is attached anew.
    clear(place, entry)?;
    hold::start(&request)
}

/// Takes away what a dead holder left, whoever uses it. What was not written yet is lost.
pub fn clear(place: &Place, entry: &Entry) -> Result<(), Failure> {
    let turn = place.turn()?;
    // Whoever takes the directory is alone with it.
    let Some(session) = place.take_up(&turn, entry.record.session)? else { return Ok(()) };
    let is_of_now = !entry.record.process.is_of_another_boot();
    if let Some(number) = entry.record.kernel_session.filter(|_| is_of_now)
        && attach::kernel::known_session(number).is_some_and(|known| known.target == entry.record.target)
    {
        attach::kernel::end(number, DETACH_LIMIT).map_err(|error| devices::failure(&error))?;
    }
    for device in &entry.record.devices {
        match entry.record.via {
            Via::Ublk if is_of_now => {
                attach::ublk::remove(&device.path).map_err(|error| devices::failure(&error))?;
            }
            Via::Nbd if is_of_now => {
                let removed = attach::nbd::remove(&device.path, &name(entry, device.lun));
                removed.map_err(|error| devices::failure(&error))?;
            }
            Via::Fuse if is_of_now => attach::fuse::clear(&device.directory),
            _ => {}
        }
        links::remove(&device.links, &device.path);
    }
    session.remove();
    Ok(())
}

/// Clears or takes up all sessions whose holder died, and says what was done, a line each.
pub fn tidy(place: &Place) -> Vec<String> {
    let mut said = Vec::new();
    for entry in place.sessions().into_iter().filter(|entry| !entry.alive) {
        let record = &entry.record;
        let name =
            format!("session {} ({})", record.session, if record.target.is_empty() { "-" } else { &record.target });
        let log = entry.directory.join("log");
        said.push(match lives_on(&entry) {
            true => match resume(place, &entry) {
                Ok(_) => format!("{name}: its holder had died; another one has taken it up"),
                Err(failure) => format!("{name}: its holder died and it cannot be taken up: {failure}"),
            },
            false => {
                let last = last_line(&log).map_or(String::new(), |line| format!("; it said last: {line}"));
                match clear(place, &entry) {
                    Ok(()) => format!("{name}: its holder had died; what it left was cleared away{last}"),
                    Err(failure) => format!("{name}: its holder died and it cannot be cleared away: {failure}"),
                }
            }
        });
    }
    said
}

fn last_line(log: &std::path::Path) -> Option<String> {
    let text = std::fs::read_to_string(log).ok()?;
    text.lines().last().map(str::to_owned)
}
