//! tgt's logical units as disks of a document: which stores and parameters there are, and which are refused, each by
//! its name and with the reason.

use super::paper::{Values, flag, place, text};
use crate::configuration::edit::{Edit, Fields, Place, TargetView};
use compat::tgt::{DeviceType, Error, Failure, NewUnit, scsi_id, serial};

/// The most of a LUN.
const MAXIMUM_LUN: u64 = 16383;

/// Where the unit of this number stands, and what the document says of it.
pub fn find(target: &TargetView, lun: u64) -> Result<(Place, &Values), Failure> {
    if lun == 0 && !target.luns.iter().any(|(number, _)| *number == 0) {
        return Err(Failure::because(Error::InvalidRequest, "LUN 0 is the controller, which every target has"));
    }
    let found = target.luns.iter().find(|(number, _)| u64::from(*number) == lun).ok_or(Error::NoUnit)?;
    let Place::Target(name) = place(target) else { return Err(Error::NoTarget.into()) };
    Ok((Place::Lun(name, Some(found.0)), &found.1))
}

/// A unit more.
pub fn new(target: &TargetView, new: &NewUnit) -> Result<Vec<Edit>, Failure> {
    let refused = |why: String| Failure::because(Error::InvalidRequest, why);
    // LUN 0 is the controller's.
    if new.lun == 0 || target.luns.iter().any(|(number, _)| u64::from(*number) == new.lun) {
        return Err(Error::UnitExists.into());
    }
    let number = u16::try_from(new.lun).ok().filter(|_| new.lun <= MAXIMUM_LUN);
    let number = number.ok_or_else(|| refused(format!("LUNs end at {MAXIMUM_LUN}")))?;
    let kind = match new.device_type {
        DeviceType::Disk => None,
        DeviceType::Cd => Some("cd"),
        other => {
            let why = match other {
                DeviceType::Tape => "there are no tapes here",
                DeviceType::Changer => "there are no media changers here",
                DeviceType::Osd => "there are no object stores here; the standard is dead",
                _ => "no device is passed through; serve a block device as a disk: --backing-store /dev/sdX",
            };
            return Err(refused(format!("device type {}: {why}", other.name())));
        }
    };
    if let Some(options) = new.store_options.as_deref().filter(|options| !options.is_empty()) {
        return Err(refused(format!("bsopts {options}: no store here has such options")));
    }
    let direct = flags(new.open_flags.as_deref())?;
    let block = block(new.block_size.as_deref(), kind)?;
    let path = new.path.as_deref().filter(|path| !path.starts_with("NONE"));
    let path = |what: &str| path.ok_or_else(|| refused(format!("{what} needs something behind it: --backing-store")));
    let mut options = String::new();
    let place_of_store = match new.store.as_deref() {
        None | Some("rdwr") if kind.is_none() => {
            if direct.direct {
                options.push_str(",direct");
            }
            escaped(path("a disk")?)
        }
        None | Some("rdwr" | "mmc") if kind.is_some() => escaped(path("a drive, whose medium lies there,")?),
        Some("aio") => {
            options.push_str(",direct");
            escaped(path("a disk")?)
        }
        Some("null") => "null:1T".to_owned(),
        Some("ram") => format!("ram:{}", path("memory, whose size that is,")?),
        Some(other) => {
            let why = match other {
                "rbd" | "glfs" | "sheepdog" => "map it to a block device and serve that",
                "sg" | "bsg" => "no device is passed through; serve the block device",
                "ssc" => "there are no tapes here",
                "smc" => "there are no media changers here",
                _ => "there are rdwr, aio, mmc, null and ram",
            };
            return Err(refused(format!("bstype {other}: {why}")));
        }
        None => return Err(Error::InvalidRequest.into()),
    };
    options.push_str(&block.map(|block| format!(",block={block}")).unwrap_or_default());
    let Place::Target(name) = place(target) else { return Err(Error::NoTarget.into()) };
    let tid = new.tid;
    let fields = Fields::new()
        .with("store", format!("{place_of_store}{options}"))
        .with("vendor", "IET")
        .with("product", if kind.is_some() { "VIRTUAL-CDROM" } else { "VIRTUAL-DISK" })
        .with("serial", serial(tid, new.lun))
        .with("t10-id", scsi_id(tid, new.lun));
    // As tgt has it: what is to give space back is told so by thin_provisioning=1.
    let fields = if kind.is_none() { fields.with("unmap", false) } else { fields };
    let fields = if let Some(kind) = kind { fields.with("type", kind) } else { fields };
    // Every write is on the medium when it is answered.
    let fields = if direct.sync { fields.with("write-cache", false) } else { fields };
    Ok(vec![Edit::Add(Place::Lun(name, Some(number)), fields)])
}

/// What `bsoflags` say.
#[derive(Default)]
struct Flags {
    sync: bool,
    direct: bool,
}

fn flags(text: Option<&str>) -> Result<Flags, Failure> {
    let mut flags = Flags::default();
    for flag in text.into_iter().flat_map(|text| text.split(':')).filter(|flag| !flag.is_empty()) {
        match flag {
            "sync" => flags.sync = true,
            "direct" => flags.direct = true,
            _ => {
                let why = format!("bsoflags {flag}: there are sync, direct and sync:direct");
                return Err(Failure::because(Error::InvalidRequest, why));
            }
        }
    }
    Ok(flags)
}

fn block(text: Option<&str>, kind: Option<&str>) -> Result<Option<u32>, Failure> {
    let refused = |why: String| Failure::because(Error::InvalidRequest, why);
    match (text, kind) {
        (None, _) => Ok(None),
        (Some("2048"), Some(_)) => Ok(None),
        (Some("512"), None) => Ok(None),
        (Some("4096"), None) => Ok(Some(4096)),
        (Some(other), Some(_)) => Err(refused(format!("blocksize {other}: a drive has blocks of 2048 bytes"))),
        (Some(other), None) => Err(refused(format!("blocksize {other}: a disk has blocks of 512 or 4096 bytes"))),
    }
}

/// A path as an address has it.
fn escaped(path: &str) -> String {
    path.replace('\\', "\\\\").replace(',', "\\,")
}

/// Parameters of a unit.
pub fn set(target: &TargetView, lun: u64, parameters: &str) -> Result<Vec<Edit>, Failure> {
    let (place, values) = find(target, lun)?;
    let mut fields = Fields::new();
    for parameter in split(parameters) {
        let Some((name, value)) = parameter.split_once('=') else {
            return Err(Failure::because(Error::InvalidRequest, format!("{parameter} says nothing; write NAME=VALUE")));
        };
        fields = parameter_of(fields, values, name.trim(), value.trim_matches('"'))?;
    }
    Ok(if fields.iter().next().is_none() { Vec::new() } else { vec![Edit::Set(place, fields)] })
}

/// `k=v,k=v`, where a value may hold commas in quotation marks.
fn split(text: &str) -> Vec<String> {
    let (mut parts, mut part, mut quoted) = (Vec::new(), String::new(), false);
    for letter in text.chars() {
        match letter {
            '"' => quoted = !quoted,
            ',' if !quoted => parts.push(std::mem::take(&mut part)),
            letter => part.push(letter),
        }
    }
    parts.push(part);
    parts.retain(|part| !part.trim().is_empty());
    parts
}

fn parameter_of(fields: Fields, values: &Values, name: &str, value: &str) -> Result<Fields, Failure> {
    let refused = |why: String| Failure::because(Error::InvalidRequest, format!("{name}: {why}"));
    let is_on = || match value {
        "0" => Ok(false),
        "1" => Ok(true),
        _ => Err(refused("use 0 or 1".to_owned())),
    };
    let number = |most: i64| match value.parse::<i64>() {
        Ok(number) if (0..=most).contains(&number) => Ok(number),
        _ => Err(refused(format!("use 0 to {most}"))),
    };
    // tgt cuts what is too long, and so do we: MyCompany Inc. of its own example has 14 letters.
    let cut = |most: usize| value.chars().filter(|letter| (' '..='~').contains(letter)).take(most).collect::<String>();
    Ok(match name {
        "scsi_id" => fields.with("t10-id", cut(36)),
        "scsi_sn" => fields.with("serial", cut(36)),
        "vendor_id" => fields.with("vendor", cut(8)),
        "product_id" => fields.with("product", cut(16)),
        "product_rev" => fields.with("revision", cut(4)),
        "removable" => match is_on()? {
            true => fields.with("removable", true),
            false if text(values, "type") == Some("cd") => {
                return Err(refused("the medium of a drive can be removed".to_owned()));
            }
            false => fields.without("removable"),
        },
        "readonly" => {
            if is_on()? {
                fields.with("read-only", true)
            } else {
                fields.without("read-only")
            }
        }
        "online" => {
            if is_on()? {
                fields.without("online")
            } else {
                fields.with("online", false)
            }
        }
        "path" => path(fields, values, value)?,
        "bsoflags" => {
            let Flags { sync, direct } = flags(Some(value))?;
            let store = store_with(values, "direct", direct);
            let fields = fields.with("store", store);
            if sync { fields.with("write-cache", false) } else { fields }
        }
        "mode_page" => mode_page(fields, value)?,
        "sense_format" => match is_on()? {
            // D_SENSE is the initiator's to set (SPC-5 7.5.10): it is off when a nexus begins.
            false => fields,
            true => {
                return Err(refused("initiators choose the form of sense data (mode page 0Ah, D_SENSE)".to_owned()));
            }
        },
        "thin_provisioning" => fields.with("unmap", is_on()?),
        "lbppbe" => match value.parse::<u32>() {
            Ok(exponent @ 0..=15) => fields.with("physical-block", i64::from(block_length(values)) << exponent),
            _ => return Err(refused("use 0 to 15".to_owned())),
        },
        "la_lba" => fields.with("alignment", number(0x3fff)?),
        "optimal_xfer_len" => fields.with("optimal-transfer", number(1 << 30)? * i64::from(block_length(values))),
        "optimal_xfer_gran" => {
            // VPD page B0h has the physical block there.
            let blocks = number(0xffff)?;
            match blocks.count_ones() {
                0 => fields,
                1 => fields.with("physical-block", blocks * i64::from(block_length(values))),
                _ => return Err(refused("use a power of two: it is that of the physical block".to_owned())),
            }
        }
        "rotation_rate" => match number(0xfffe)? {
            0 => fields.with("rotation", "unknown"),
            1 => fields.with("rotation", "solid"),
            rate @ 0x401.. => fields.with("rotation", rate.to_string()),
            _ => return Err(refused("use 0, 1 for none, or revolutions a minute".to_owned())),
        },
        "bsopts" if value.is_empty() => fields,
        "bsopts" => return Err(refused("no store here has such options".to_owned())),
        "element_type" | "start_address" | "quantity" | "sides" | "clear_slot" | "address" | "barcode"
        | "volume_tag" | "tid" | "lun" | "media_home" | "dump" => {
            return Err(refused("there are no media changers here".to_owned()));
        }
        _ => return Err(refused("there is no such parameter".to_owned())),
    })
}

/// Bytes of a block of the unit, as its entry says.
fn block_length(values: &Values) -> u32 {
    let (_, options) = apart(text(values, "store").unwrap_or_default());
    match (text(values, "type"), options.split(',').any(|option| option == "block=4096")) {
        (Some("cd"), _) => 2048,
        (_, true) => 4096,
        (_, false) => 512,
    }
}

/// Another path for the unit's store, or the same: then its size is looked at again.
fn path(fields: Fields, values: &Values, value: &str) -> Result<Fields, Failure> {
    let store = text(values, "store").unwrap_or_default();
    let (old, options) = apart(store);
    match (value.is_empty(), old == escaped(value)) {
        (true, _) => Err(Failure::because(Error::InvalidRequest, "path: use online=0 to take the medium away")),
        (false, true) => Ok(fields),
        (false, false) => Ok(fields.with("store", format!("{}{options}", escaped(value)))),
    }
}

/// An address of a store: its place, and its options with their first comma.
pub fn apart(store: &str) -> (&str, &str) {
    let mut before = None;
    for (at, letter) in store.char_indices() {
        if letter == ',' && before != Some('\\') {
            return store.split_at(at);
        }
        before = Some(letter);
    }
    (store, "")
}

/// The address of the unit's store with this option, or without it.
fn store_with(values: &Values, option: &str, wanted: bool) -> String {
    let (place, options) = apart(text(values, "store").unwrap_or_default());
    let mut options: Vec<&str> = options.split(',').filter(|one| !one.is_empty() && *one != option).collect();
    if wanted {
        options.push(option);
    }
    std::iter::once(place).chain(options).collect::<Vec<_>>().join(",")
}

/// A mode page of somebody's own making. What can be chosen here is honoured; what is fixed is taken where it is what we
/// have, and refused by its number elsewhere.
fn mode_page(fields: Fields, value: &str) -> Result<Fields, Failure> {
    let refused = |why: String| Failure::because(Error::InvalidRequest, format!("mode_page: {why}"));
    let number = |text: &str| match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(digits) => u32::from_str_radix(digits, 16).ok(),
        None => text.parse::<u32>().ok(),
    };
    let bytes: Option<Vec<u32>> = value.split(':').map(number).collect();
    let bytes = bytes.filter(|bytes| bytes.iter().skip(3).all(|byte| *byte <= 0xff));
    let Some([page, subpage, length, data @ ..]) = bytes.as_deref() else {
        return Err(refused("write page:subpage:length:byte:byte…".to_owned()));
    };
    if usize::try_from(*length).ok() != Some(data.len()) {
        return Err(refused(format!("it says {length} bytes and has {}", data.len())));
    }
    match (page, subpage, data) {
        // Caching: WCE.
        (0x08, 0, [first, ..]) if first & 0x04 == 0 => Ok(fields.with("write-cache", false)),
        (0x08, 0, [..]) => Ok(fields.without("write-cache")),
        // Control: SWP is in the second byte behind the length.
        (0x0a, 0, [_, _, third, ..]) if third & 0x08 != 0 => Ok(fields.with("read-only", true)),
        // Disconnect-reconnect, control and exceptions as tgt has them say nothing that we do not.
        (0x02 | 0x0a | 0x1c, 0 | 1, _) => Ok(fields),
        _ => Err(refused(format!("page {page:#04x} says what the disk really is, and is not made up"))),
    }
}

/// Whether a unit can be written, as its entry says.
pub fn is_read_only(values: &Values) -> bool {
    flag(values, "read_only") == Some(true)
}
