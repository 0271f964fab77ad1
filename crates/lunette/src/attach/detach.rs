//! `lunette detach`: takes devices away, and logs out where nothing is left of a session. It always ends.

use super::control;
use super::dead;
use super::state::{Device, Entry, Place};
use crate::failure::{Cause, Failure};
use clap::Args;
use initiator::Address;
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How long a holder may take for each device, and for its logout.
const PATIENCE: Duration = Duration::from_secs(20);
/// The same where it is ended anyway.
const FORCED_PATIENCE: Duration = Duration::from_secs(15);
/// How long a holder's end may take, once it has answered or was killed.
const END_TIME: Duration = Duration::from_secs(5);

/// Arguments of `lunette detach`.
#[derive(Args)]
#[command(after_help = "Examples:\n  lunette detach /dev/loop0\n  lunette detach iqn.2026-11.com.example:disk\n  \
    lunette detach iscsi://10.0.0.1/iqn.2026-11.com.example:disk/1\n  lunette detach --all --force\n\n\
    Exit codes: 0 detached, 1 it failed, 2 what was asked cannot be done as it was asked, 3 the holder did not answer,\n\
    5 nothing is attached by that name, 6 it is in use.")]
pub struct Arguments {
    /// A device or a link to it, a file, a target's name, a disk's identifier or serial number, or an address
    #[arg(value_name = "DEVICE|NAME|ADDRESS", required_unless_present = "all", conflicts_with = "all")]
    what: Vec<String>,
    /// Everything that is attached
    #[arg(long)]
    all: bool,
    /// Also what is in use, and what does not answer: writes that are not flushed are lost
    #[arg(long)]
    force: bool,
    /// The --state-dir that it was attached with
    #[arg(long, value_name = "DIR")]
    state_dir: Option<PathBuf>,
    /// What was detached, as JSON
    #[arg(long)]
    json: bool,
}

/// Detaches.
pub fn run(arguments: &Arguments) -> Result<(), Failure> {
    let place = Place::of(arguments.state_dir.as_deref())?;
    let mut detached = Vec::new();
    let mut failed = None;
    let meant = match arguments.all {
        true => place.sessions().into_iter().map(|entry| (entry, None)).collect(),
        false => {
            let mut meant = Vec::new();
            for what in &arguments.what {
                let found = find(&place, what);
                if found.is_empty() {
                    let line = format!("nothing is attached as {what}; `lunette attached` shows what is");
                    failed = Some(Failure::because(Cause::NotFound, line));
                }
                meant.extend(found);
            }
            meant
        }
    };
    for (entry, luns) in meant {
        match session(&place, &entry, luns.as_deref(), arguments.force) {
            Ok(paths) => detached.extend(paths),
            Err(failure) => {
                // The last one is told by the exit code too.
                if let Some(before) = failed.replace(failure) {
                    eprintln!("lunette: {before}");
                }
            }
        }
    }
    match arguments.json {
        true => println!("{}", json!({ "detached": detached })),
        false => detached.iter().for_each(|path| eprintln!("detached {path}")),
    }
    failed.map_or(Ok(()), Err)
}

/// Which sessions are meant, and which of their LUNs, where not all.
fn find(place: &Place, what: &str) -> Vec<(Entry, Option<Vec<u64>>)> {
    let path = fs::canonicalize(what).unwrap_or_else(|_| PathBuf::from(what));
    let address: Option<Address> = what.contains("://").then(|| what.parse().ok()).flatten();
    let mut found = Vec::new();
    for entry in place.sessions() {
        let record = &entry.record;
        let whole = record.target == what
            || address.as_ref().is_some_and(|address| {
                address.lun.is_none()
                    && address.target.as_deref().is_none_or(|target| target == record.target)
                    && record.portals.contains(&address.portal())
            });
        let is_meant = |device: &Device| {
            let by_address = address.as_ref().is_some_and(|address| {
                address.target.as_deref() == Some(record.target.as_str())
                    && address.lun.map(u64::from) == Some(device.lun)
                    && record.portals.contains(&address.portal())
            });
            let by_path = device.path == path || device.path == Path::new(what) || device.directory == path;
            let by_link =
                device.links.iter().any(|link| link == Path::new(what) || link.file_name() == path.file_name());
            let identity = &device.identity;
            let by_name = !what.is_empty() && (identity.name == what || identity.serial.trim() == what);
            by_address || by_path || by_link || by_name
        };
        let luns: Vec<u64> = record.devices.iter().filter(|device| is_meant(device)).map(|device| device.lun).collect();
        if whole {
            found.push((entry, None));
        } else if !luns.is_empty() {
            found.push((entry, Some(luns)));
        }
    }
    found
}

/// Ends a session, or takes some of its devices away. Gives the devices that are gone. For whoever logs out by node
/// records as well; nothing of the session is left when this returns without a failure.
pub fn session(place: &Place, entry: &Entry, luns: Option<&[u64]>, force: bool) -> Result<Vec<String>, Failure> {
    let paths = || entry.record.devices.iter().map(|device| device.path.display().to_string()).collect::<Vec<_>>();
    if !entry.alive {
        if dead::lives_on(entry) && !force {
            // Its users are asked, and what they wrote is written, by a holder that takes it up.
            let resumed = dead::resume(place, entry)?;
            let taken_up = place.session(resumed.record.session).filter(|entry| entry.alive);
            return taken_up.map_or(Ok(paths()), |entry| session(place, &entry, luns, false));
        }
        dead::clear(place, entry)?;
        return Ok(paths());
    }
    let devices = u32::try_from(entry.record.devices.len()).unwrap_or(1).max(1);
    let patience = if force { FORCED_PATIENCE } else { PATIENCE.saturating_mul(devices) };
    let question = json!({ "do": "detach", "luns": luns, "force": force });
    let answer = match control::ask(&entry.directory, &question, patience) {
        Ok(answer) => answer,
        // It is dying: a socket closes before a lock is let go of.
        Err(Failure::Runtime(_)) if !is_alive_soon(place, entry.record.session) => {
            let dead = place.session(entry.record.session);
            return dead.map_or_else(|| Ok(paths()), |dead| session(place, &dead, luns, force));
        }
        // What it holds for others is not ended with it.
        Err(failure) if !force || luns.is_some_and(|luns| luns.len() < entry.record.devices.len()) => {
            return match place.session(entry.record.session) {
                // It ended while it was asked.
                None => Ok(paths()),
                Some(_) => Err(failure),
            };
        }
        Err(_) => {
            entry.record.process.kill();
            wait(place, entry.record.session);
            if let Some(left) = place.session(entry.record.session) {
                dead::clear(place, &left)?;
            }
            return Ok(paths());
        }
    };
    let detached: Vec<String> = answer["detached"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|path| path.as_str().map(str::to_owned))
        .collect();
    // A session that has ended takes a moment to be gone for good.
    if luns.is_none() || detached.len() == entry.record.devices.len() {
        wait(place, entry.record.session);
    }
    Ok(detached)
}

/// Whether the holder is still there after it had time to end.
fn is_alive_soon(place: &Place, session: u64) -> bool {
    wait(place, session);
    place.session(session).is_some_and(|entry| entry.alive)
}

/// Until the holder has ended, or was given enough time for it.
fn wait(place: &Place, session: u64) {
    let end = Instant::now() + END_TIME;
    while place.session(session).is_some_and(|entry| entry.alive) && Instant::now() < end {
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// What a live holder says of its session ([`control`]): `status`, `statistics`, `refresh`.
pub fn ask(entry: &Entry, what: &str) -> Result<Value, Failure> {
    control::ask(&entry.directory, &json!({ "do": what }), PATIENCE)
}
