//! Remote disks as block devices of this machine: `lunette attach`, `detach`, `attached`, and the process that holds
//! them.

#![allow(dead_code, reason = "the rest of the holder follows")]

pub mod hold;
mod holder;
mod process;
mod request;
mod state;

use crate::failure::{Cause, Failure};
use clap::Args;
use hold::{Login, Request, Units, Via};
use initiator::Address;
use std::io::Write;
use std::path::PathBuf;

pub use holder::run as hold_run;

/// Arguments of `lunette attach`.
#[derive(Args)]
pub struct Arguments {
    /// Where the disk is: iscsi://[USER[%SECRET]@]HOST[:PORT]/TARGET[/LUN]
    #[arg(value_name = "ADDRESS")]
    address: String,
    /// What offers the disk to this machine
    #[arg(long, value_enum, default_value_t = Via::Auto)]
    via: Via,
    /// Nothing is written
    #[arg(long)]
    read_only: bool,
    /// The disk with this NAA or EUI-64 identifier or serial number, whatever its LUN
    #[arg(long, value_name = "IDENTIFIER")]
    id: Option<String>,
    /// Where the file is mounted (fuse)
    #[arg(long, value_name = "DIR")]
    mount_point: Option<PathBuf>,
    /// A file and no block device (fuse): works without privileges
    #[arg(long)]
    file_only: bool,
    /// Where what is attached is kept account of [default: /run/lunette/attached, for others than root in
    /// XDG_RUNTIME_DIR]
    #[arg(long, value_name = "DIR")]
    state_dir: Option<PathBuf>,
}

/// Attaches, and prints the devices.
pub fn run(arguments: &Arguments) -> Result<(), Failure> {
    let address: Address = arguments.address.parse().map_err(Failure::input)?;
    let held = hold::start(&request(arguments, &address)?)?;
    held.notes.iter().for_each(|note| eprintln!("lunette: {note}"));
    let mut shown = String::new();
    for device in &held.record.devices {
        shown += &format!("{}\n", device.path.display());
    }
    // Whoever asked may have closed the pipe.
    let _ = std::io::stdout().write_all(shown.as_bytes());
    match held.record.devices.is_empty() {
        true => Err(Failure::because(Cause::NotFound, format!("{} shows us no disk", held.record.target))),
        false => Ok(()),
    }
}

fn request(arguments: &Arguments, address: &Address) -> Result<Request, Failure> {
    let target = address.target.clone().ok_or_else(|| {
        Failure::input(format!("{address} names no target; `lunette discover {address}` shows which there are"))
    })?;
    let units = match (&arguments.id, address.lun) {
        (Some(identifier), _) => Units::Identifier(identifier.clone()),
        (None, Some(lun)) => Units::Lun(lun.into()),
        (None, None) => Units::All,
    };
    let login = Login {
        initiator_name: address.initiator_name.clone(),
        chap: address.account(),
        mutual_chap: address.target_account(),
        ..Login::default()
    };
    Ok(Request {
        target,
        portals: vec![address.portal()],
        units,
        login,
        via: arguments.via,
        read_only: arguments.read_only,
        mount_point: arguments.mount_point.clone(),
        file_only: arguments.file_only,
        state_dir: arguments.state_dir.clone(),
        record: None,
    })
}
