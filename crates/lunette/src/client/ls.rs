//! `lunette ls`: the targets of a portal with their disks, or the disks of a target.

use super::discover::{of_portal, portal_address};
use super::login::{Login, leave};
use super::units::{Description, describe, device_type};
use super::{failure, print, print_json};
use crate::failure::Failure;
use clap::Args;
use comfy_table::{Table, presets};
use initiator::{Address, Lun, Session};
use serde_json::{Value, json};

const EXAMPLES: &str = "\
Examples:
  lunette ls 192.0.2.7
  lunette ls iscsi://192.0.2.7/iqn.2026-11.com.example:disk
  lunette ls --urls 192.0.2.7 | while read url; do lunette capacity --bytes $url; done";

/// Arguments of `lunette ls`.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    /// A portal, a target or a disk: HOST[:PORT] or iscsi://[USER@]HOST[:PORT][/TARGET[/LUN]]
    #[arg(value_name = "WHERE")]
    place: String,
    /// Only the URLs of the disks, a line each
    #[arg(long, conflicts_with = "json")]
    urls: bool,
    /// One JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    login: Login,
}

/// A target with its units, or why they cannot be told.
struct Listed {
    address: Address,
    portals: Vec<String>,
    units: Result<Vec<(Lun, Description)>, Failure>,
}

/// Asks and prints. What of a portal cannot be told is an error at the end, after all that can be.
pub fn run(arguments: &Arguments) -> Result<(), Failure> {
    let address = portal_address(&arguments.login, &arguments.place)?;
    let listed = super::run(list(arguments, &address))?;
    let shown = match (arguments.json, arguments.urls) {
        (true, _) => print_json(&json!({ "targets": listed.iter().map(value).collect::<Vec<_>>() })),
        (_, true) => print(&listed.iter().flat_map(urls).collect::<String>()),
        _ => print(&listed.iter().map(people).collect::<Vec<_>>().join("\n")),
    };
    shown?;
    match listed.into_iter().find_map(|target| target.units.err()) {
        Some(failure) => Err(failure),
        None => Ok(()),
    }
}

async fn list(arguments: &Arguments, address: &Address) -> Result<Vec<Listed>, Failure> {
    if address.target.is_some() {
        let units = units(&arguments.login, address).await?;
        return Ok(vec![Listed { address: address.clone(), portals: vec![address.portal()], units: Ok(units) }]);
    }
    let mut listed = Vec::new();
    for target in of_portal(&arguments.login, address).await? {
        // Through the portal that was asked: it is the one that is known to be reached from here.
        let address = address.with(Some(target.name.as_str()), None);
        let units = units(&arguments.login, &address).await;
        listed.push(Listed { address, portals: target.portals.iter().map(ToString::to_string).collect(), units });
    }
    Ok(listed)
}

async fn units(login: &Login, address: &Address) -> Result<Vec<(Lun, Description)>, Failure> {
    let session = login.connect(address).await?;
    let units = units_of(&session, address).await;
    leave(&session).await;
    units
}

async fn units_of(session: &Session, address: &Address) -> Result<Vec<(Lun, Description)>, Failure> {
    let failed = |error: initiator::Error| failure::of(address, &error);
    let luns = match address.lun {
        Some(lun) => vec![Lun::from(lun)],
        None => session.unit(0).report_luns().await.map_err(failed)?,
    };
    let mut units = Vec::new();
    for lun in luns {
        let found = describe(&session.unit(lun)).await.map_err(failed)?;
        // A unit that was asked for by number and is not there; in a list it would only be noise.
        if found.inquiry.qualifier == 0 {
            units.push((lun, found));
        } else if address.lun.is_some() {
            return Err(failure::no_unit(address));
        }
    }
    Ok(units)
}

fn target_name(listed: &Listed) -> &str {
    listed.address.target.as_deref().unwrap_or_default()
}

fn url(listed: &Listed, lun: Lun) -> Option<String> {
    let number = u16::try_from(lun.number()?).ok()?;
    Some(listed.address.with(Some(target_name(listed)), Some(number)).to_string())
}

fn urls(listed: &Listed) -> Vec<String> {
    let units = listed.units.as_deref().unwrap_or_default();
    // Disks of all kinds, and nothing that has no blocks.
    let disks = units.iter().filter(|(_, unit)| matches!(unit.inquiry.device_type, 0x00 | 0x05 | 0x07 | 0x0e | 0x14));
    disks.filter_map(|(lun, _)| url(listed, *lun)).map(|url| url + "\n").collect()
}

fn value(listed: &Listed) -> Value {
    let units = listed.units.as_deref().unwrap_or_default().iter().map(|(lun, unit)| {
        let capacity = unit.capacity.as_ref().ok();
        json!({
            "lun": lun.number(),
            "url": url(listed, *lun),
            "type": device_type(unit.inquiry.device_type),
            "bytes": capacity.map(|capacity| capacity.bytes()),
            "block_length": capacity.map(|capacity| capacity.block_length),
            "vendor": unit.inquiry.vendor,
            "product": unit.inquiry.product,
            "revision": unit.inquiry.revision,
            "serial_number": unit.serial,
            "name": unit.name,
            "read_only": unit.read_only,
        })
    });
    json!({
        "target": target_name(listed),
        "portals": listed.portals,
        "units": units.collect::<Vec<_>>(),
        "error": listed.units.as_ref().err().map(ToString::to_string),
    })
}

fn people(listed: &Listed) -> String {
    let head = format!("{}  {}\n", target_name(listed), listed.portals.join(" "));
    let units = match &listed.units {
        Ok(units) => units,
        Err(failure) => return format!("{head}    {failure}\n"),
    };
    if units.is_empty() {
        return format!("{head}    no disks are shown to this initiator\n");
    }
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(["  LUN", "TYPE", "SIZE", "VENDOR", "PRODUCT", "SERIAL NUMBER", "NAME"]);
    for (lun, unit) in units {
        let kind = device_type(unit.inquiry.device_type).to_owned();
        let kind = if unit.read_only == Some(true) { format!("{kind}, read-only") } else { kind };
        table.add_row([
            format!("  {lun}"),
            kind,
            unit.size(),
            unit.inquiry.vendor.clone(),
            unit.inquiry.product.clone(),
            unit.serial.clone().unwrap_or_default(),
            unit.name.clone().unwrap_or_default(),
        ]);
    }
    let lines: Vec<String> = table.lines().map(|line| line.trim_end().to_owned()).collect();
    format!("{head}{}\n", lines.join("\n"))
}
