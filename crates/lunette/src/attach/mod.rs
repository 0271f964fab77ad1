//! Remote disks as block devices of this machine: `lunette attach`, `detach`, `attached`, and the process that holds
//! them.
//!
//! Whoever attaches starts a holder ([`hold::start`]), a process of its own that has the session and serves the
//! devices. There is no daemon of the whole machine: what there is stands in the state directory ([`state`]), and
//! each holder answers at a socket there ([`control`]).

pub mod control;
pub mod dead;
pub mod detach;
mod devices;
pub mod hold;
mod holder;
mod kernel;
mod links;
pub mod list;
mod log;
pub mod process;
mod remote;
mod request;
pub mod state;

use crate::failure::{Cause, Failure};
use crate::nodes::record;
use clap::Args;
use hold::{Held, Request, Units, Via};
use initiator::{Address, Portal, Session};
use serde_json::json;
use state::Place;
use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

pub use holder::run as hold_run;

/// Arguments of `lunette attach`.
#[derive(Args)]
#[command(after_help = "The last line on standard output is the path of the device.\n\nExamples:\n  \
    lunette attach iscsi://10.0.0.1/iqn.2026-11.com.example:disk/1\n  \
    lunette attach iscsi://10.0.0.1/iqn.2026-11.com.example:disk --id naa.600a0b8000466b2f\n  \
    lunette attach --file-only --mount-point ~/disk iscsi://10.0.0.1/iqn.2026-11.com.example:disk/1\n  \
    lunette attach --resume\n\n\
    Exit codes: 0 attached (or it was), 1 it failed, 2 what was asked cannot be done as it was asked, 3 nobody answers,\n\
    4 the target refuses the login, 5 no such target, LUN or disk, 6 it is attached in another way, 7 this machine\n\
    cannot do it. After a failure nothing is left attached.")]
pub struct Arguments {
    /// Where the disk is: iscsi://[USER[%SECRET]@]HOST[:PORT]/TARGET[/LUN], or a node record: TARGET[,HOST[:PORT]]. All
    /// disks of the target without a LUN
    #[arg(value_name = "ADDRESS|RECORD", required_unless_present = "resume", conflicts_with = "resume")]
    address: Option<String>,
    /// What offers the disk to this machine
    #[arg(long, value_enum, default_value_t = Via::Auto)]
    via: Via,
    /// Nothing is written
    #[arg(long)]
    read_only: bool,
    /// The disk with this LUN, where the address names none
    #[arg(long, value_name = "N", conflicts_with = "id")]
    lun: Option<u64>,
    /// The disk with this NAA or EUI-64 identifier or serial number, whatever its LUN
    #[arg(long, value_name = "NAA|EUI|SERIAL")]
    id: Option<String>,
    /// Another portal of the target, for a second path to the same disks; as often as there are
    #[arg(long, value_name = "HOST[:PORT]")]
    portal: Vec<String>,
    /// Where the file is mounted (fuse)
    #[arg(long, value_name = "DIR")]
    mount_point: Option<PathBuf>,
    /// A file and no block device (fuse): works without privileges
    #[arg(long)]
    file_only: bool,
    /// Connections of the session [default: 1, or the record's]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=64))]
    connections: Option<u16>,
    /// How long a lost session's commands wait before they fail [default: 120, or the record's]
    #[arg(long, value_name = "SECONDS")]
    replacement_timeout: Option<u32>,
    /// How long one login may take [default: 15, or the record's]
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u32).range(1..=3600))]
    login_timeout: Option<u32>,
    /// How often the first login is tried again while nobody answers [default: 0, or the record's]
    #[arg(long, value_name = "N")]
    retries: Option<u32>,
    /// Where what is attached is kept account of [default: /run/lunette/attached, for others than root in
    /// XDG_RUNTIME_DIR]
    #[arg(long, value_name = "DIR")]
    state_dir: Option<PathBuf>,
    /// Start holders again that have died
    #[arg(long)]
    resume: bool,
    /// What was attached, as JSON
    #[arg(long)]
    json: bool,
}

/// Attaches, and prints the devices.
pub fn run(arguments: &Arguments) -> Result<(), Failure> {
    let Some(what) = &arguments.address else { return resume(arguments) };
    let request = match what.contains("://") || what.contains('=') {
        true => by_address(what)?,
        false => record::request(what)?,
    };
    let held = hold::start(&with_arguments(request, arguments)?)?;
    if held.record.devices.is_empty() {
        // A session without disks is what a login by a node record may be; whoever attaches wants one.
        let place = Place::of(arguments.state_dir.as_deref())?;
        if let Some(entry) = place.session(held.record.session).filter(|_| !held.already) {
            detach::session(&place, &entry, None, true)?;
        }
        return Err(Failure::because(Cause::NotFound, format!("{} shows us no disk", held.record.target)));
    }
    show(&held, arguments.json);
    Ok(())
}

/// Starts holders again for all sessions that have none.
fn resume(arguments: &Arguments) -> Result<(), Failure> {
    let place = Place::of(arguments.state_dir.as_deref())?;
    let mut failed = None;
    for entry in place.sessions().into_iter().filter(|entry| !entry.alive) {
        match dead::resume(&place, &entry) {
            Ok(held) => show(&held, arguments.json),
            Err(failure) => {
                if let Some(Failure::Because(..) | Failure::Runtime(_)) = &failed {
                    eprintln!("lunette: {failure}");
                }
                failed = Some(failure);
            }
        }
    }
    failed.map_or(Ok(()), Err)
}

fn show(held: &Held, as_json: bool) {
    held.notes.iter().for_each(|note| eprintln!("lunette: {note}"));
    let mut shown = String::new();
    for device in &held.record.devices {
        device.links.iter().for_each(|link| eprintln!("lunette: {} is {}", link.display(), device.path.display()));
        shown += &format!("{}\n", device.path.display());
    }
    if as_json {
        shown = format!("{}\n", json!({ "session": held.record.to_json(), "already": held.already }));
    }
    // Whoever asked may have closed the pipe.
    let _ = std::io::stdout().write_all(shown.as_bytes());
}

/// What an address says.
fn by_address(text: &str) -> Result<Request, Failure> {
    let address: Address = text.parse().map_err(Failure::input)?;
    let address = address.resolve().map_err(Failure::input)?;
    if address.target.is_none() {
        let line = format!("{address} names no target; `lunette discover {address}` shows which there are");
        return Err(Failure::input(line));
    }
    let units = match (&address.serial_number, address.lun) {
        (Some(serial), None) => Units::Identifier(serial.clone()),
        (_, Some(lun)) => Units::Lun(lun.into()),
        (None, None) => Units::All,
    };
    Ok(Request { units, ..Request::new(Session::builder(&address)) })
}

/// The same with what the command line says of it.
fn with_arguments(mut request: Request, arguments: &Arguments) -> Result<Request, Failure> {
    let named = arguments.id.clone().map(Units::Identifier).or(arguments.lun.map(Units::Lun));
    if let Some(named) = named {
        if request.units != Units::All {
            return Err(Failure::input("the disk is named twice, in the address and by --id or --lun; leave one out"));
        }
        request.units = named;
    }
    for portal in &arguments.portal {
        let wrong = || Failure::input(format!("--portal {portal}: HOST[:PORT] is expected"));
        request.more_portals.push(Portal::parse(portal).ok_or_else(wrong)?);
    }
    let seconds =
        |given: Option<u32>, usual: Duration| given.map_or(usual, |seconds| Duration::from_secs(seconds.into()));
    let options = &mut request.options;
    options.connections = arguments.connections.unwrap_or(options.connections);
    options.replacement_timeout = seconds(arguments.replacement_timeout, options.replacement_timeout);
    options.login_timeout = seconds(arguments.login_timeout, options.login_timeout);
    let absolute = |path: &Option<PathBuf>| path.as_ref().map(std::path::absolute).transpose().map_err(Failure::input);
    Ok(Request {
        login_retries: arguments.retries.unwrap_or(request.login_retries),
        via: if arguments.via == Via::Auto { request.via } else { arguments.via },
        read_only: arguments.read_only,
        mount_point: absolute(&arguments.mount_point)?,
        file_only: arguments.file_only,
        state_dir: absolute(&arguments.state_dir)?.or(request.state_dir),
        ..request
    })
}
