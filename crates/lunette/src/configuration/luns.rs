//! The disks of a target of a configuration file: `[[target.lun]]`.

use super::disk::{self, Disk, MAXIMUM_LUN};
use super::edit::KEPT;
use super::finding::Findings;
use super::machine::Look;
use super::pace;
use super::reader::{Said, Table};
use super::secrets;
use crate::remote;
use lun::{DeviceType, Shown};
use std::path::Path;

/// The disks of a target, in ascending order of number. `path` is the document's, which only its owner may read where
/// an address has a secret in it.
pub fn read(target: &Table<'_>, findings: &Findings<'_>, path: Option<&Path>) -> Vec<Disk> {
    let tables = target.tables("lun");
    let (mut disks, mut wishes) = (Vec::new(), Vec::new());
    for table in tables {
        let number = table.number("number", 0..=MAXIMUM_LUN);
        let place = number.as_ref().map_or_else(|| table.at.clone(), |number| number.at.clone());
        wishes.push((number.map(|number| number.value), place));
        disks.push(disk(table, findings, path));
    }
    let numbers = disk::numbers(&wishes.iter().map(|(number, _)| *number).collect::<Vec<_>>());
    match numbers {
        Ok(numbers) => disks.iter_mut().zip(numbers).for_each(|(disk, number)| disk.number = number),
        Err(at) => {
            let place = wishes.get(at).map_or_else(|| target.at.clone(), |(_, place)| place.clone());
            match wishes.get(at) {
                Some((Some(number), _)) => {
                    findings.error(place, format!("LUN {number} is there twice"), "give it another number");
                    // What the rules say of numbers is looked at all the same.
                    for (disk, (number, _)) in disks.iter_mut().zip(&wishes) {
                        disk.number = number.unwrap_or(u16::MAX);
                    }
                }
                _ => findings.error(place, "there are more LUNs than numbers", "make another target"),
            }
        }
    }
    disks.sort_by_key(|disk| disk.number);
    disks
}

/// One `[[target.lun]]`, whose number is found when all are known.
fn disk(table: Table<'_>, findings: &Findings<'_>, path: Option<&Path>) -> Disk {
    let store = table.needed("store", "\"/srv/disk.img,size=10G\"");
    let ascii = |name: &'static str| {
        let fits = |text: &str| disk::ascii(name, text.to_owned()).map_err(|(_, error)| error);
        table.understood(name, fits).map(|one| one.value)
    };
    let (vendor, product, serial) = (ascii("vendor"), ascii("product"), ascii("serial"));
    let revision = ascii("revision");
    let shown = Shown {
        t10_id: ascii("t10-id"),
        naa: table.understood("naa", disk::naa).map(|one| one.value),
        keeps_space: table.has("unmap") && !table.flag("unmap"),
        physical_block_length: table.wide_number("physical-block", 512..=1 << 24).and_then(|one| {
            let fits = one.value.is_power_of_two();
            if !fits {
                findings.error(one.at, format!("{} is no power of two", one.value), "use bytes: 4096");
            }
            fits.then_some(one.value)
        }),
        lowest_aligned_block: table.wide_number("alignment", 0..=0x3fff).map(|one| one.value),
        optimal_transfer_length: table.wide_number("optimal-transfer", 0..=1 << 30).map(|one| one.value),
        rotation: table.understood("rotation", disk::rotation).map(|one| one.value),
    };
    let named = table.understood("type", disk::type_named).map(|one| one.value);
    let removable = table.flag("removable");
    let offline = table.has("online") && !table.flag("online");
    let read_only = table.flag("read-only");
    let write_cache = table.has("write-cache").then(|| table.flag("write-cache"));
    let size = table.understood("size", |text| stores::parse_size(text).map_err(|why| why.replace(": ", "; ")));
    let Said { value: said, at } = store.unwrap_or(Said { value: String::new(), at: table.at.clone() });
    let (address, options) = stores::take_options(&said, disk::OPTIONS);
    for (option, _) in options {
        let key = if option == "lun" { "number" } else { &option };
        let what = format!("`{option}` is said of the disk, not of its store");
        findings.error(at.clone(), what, format!("write {key} = … on a line of its own"));
    }
    let device_type = named.unwrap_or_else(|| disk::device_type(&address));
    let refuse = |error: String| {
        let (what, help) = error.split_once("; ").unwrap_or((&error, ""));
        findings.error(at.clone(), what, help);
    };
    // What the address says of a file's size is the disk's; an address that is wrong is told of whole.
    if !said.is_empty() && device_type == DeviceType::Disk {
        let checked = match remote::is_remote(&address) {
            true => remote::check(&address),
            false => stores::Address::parse(&address).and_then(|address| address.size()).map(drop),
        };
        if let Err(error) = checked {
            refuse(error.to_string());
        }
        let shown = remote::without_secrets(&said, KEPT);
        if said.contains(KEPT) && shown == said && remote::is_remote(&said) {
            refuse(format!("{KEPT} stands for a secret that is not shown; write it, or use ?secret_file=PATH"));
        } else if shown != said
            && let Some(path) = path.filter(|path| secrets::is_open(path))
        {
            let file = path.display();
            refuse(format!(
                "everybody can read {file}, and the secret in {shown}; chmod 600 {file}, or use ?secret_file=PATH"
            ));
        }
    }
    let (address, own_size) = disk::sized(&address).unwrap_or((address, None));
    match &size {
        Some(_) if own_size.is_some() => refuse("the size is said twice; keep size = … and take size= out".to_owned()),
        Some(size) if disk::is_memory(&address) => {
            findings.error(size.at.clone(), "memory has its size in its address", "write store = \"ram:20G\"");
        }
        Some(size) if device_type == DeviceType::Optical => {
            findings.error(size.at.clone(), "a drive has the size of its medium", "leave out size");
        }
        _ => {}
    }
    let limit = pace::read(&table, findings);
    table.finish();
    let fixed = size.is_some();
    let size = size.map(|size| size.value).or(own_size);
    let place = Some(findings.place(at.start));
    let disk = Disk {
        address,
        size,
        fixed,
        offline,
        read_only,
        write_cache,
        limit,
        number: 0,
        serial,
        vendor,
        product,
        revision,
        shown,
        removable,
        device_type,
        place,
    };
    findings.look_at(at, Look::Store(Box::new(disk.clone())));
    disk
}
