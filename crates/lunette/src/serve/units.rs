//! From addresses on the command line to logical units with numbers and identities.

use crate::failure::Failure;
use lun::{DeviceType, Identity, LogicalUnit, LunEntry, LunMap, Options, StateStore};
use sha2::{Digest, Sha256};
use std::sync::Arc;
use stores::Opened;

/// The largest LUN in the single-level form that everybody understands (SAM-5 4.7.7.5, flat space).
const MAXIMUM_LUN: u16 = 16383;

/// What an address may say about the disk rather than its store.
const OPTIONS: &[&str] = &["lun", "serial", "vendor", "product", "removable", "type"];

/// A unit with what a person wants to see of it.
pub struct Unit {
    /// Its number.
    pub number: u16,
    /// Where it lies, without options.
    pub place: String,
    /// Whether the file was made just now.
    pub created: bool,
    /// The unit.
    pub unit: Arc<LogicalUnit>,
}

/// A wish for one disk.
#[derive(Debug, Default, PartialEq, Eq)]
struct Wish {
    address: String,
    number: Option<u16>,
    serial: Option<String>,
    vendor: Option<String>,
    product: Option<String>,
    removable: bool,
    device_type: DeviceType,
}

/// Opens all stores. Numbers that were not given are the lowest free ones from 1 on, in order.
pub fn open(addresses: &[String], state: Option<&Arc<dyn StateStore>>) -> Result<Vec<Unit>, Failure> {
    let wishes = addresses.iter().map(|address| wish(address)).collect::<Result<Vec<_>, _>>()?;
    let numbers = numbers(&wishes)?;
    let mut units = Vec::new();
    for (wish, number) in wishes.into_iter().zip(numbers) {
        let opened = match wish.device_type {
            DeviceType::Disk => stores::open(&wish.address),
            DeviceType::Optical => stores::open_drive(&wish.address),
        };
        let opened = opened.map_err(Failure::input)?;
        let uuid = uuid(&opened, number);
        if let Some(twin) = units.iter().find(|other: &&Unit| other.unit.identity().uuid == uuid) {
            let place = opened.backend.description().address;
            if wish.device_type == DeviceType::Optical {
                // A drive is known by its path.
                return Err(Failure::input(format!("{place}: is given twice; one drive serves all initiators")));
            }
            return Err(Failure::input(format!(
                "{place}: has the same identity as {}, of which it is a copy; give it one of its own with: setfattr -x \
                 user.lunette.uuid {place}",
                twin.place
            )));
        }
        units.push(unit(wish, number, uuid, opened, state)?);
    }
    units.sort_by_key(|unit| unit.number);
    Ok(units)
}

/// The units as the target shows them.
pub fn map(units: &[Unit]) -> LunMap {
    let entry = |unit: &Unit| LunEntry { number: unit.number, unit: Arc::clone(&unit.unit), read_only: false };
    LunMap { entries: units.iter().map(entry).collect() }
}

fn unit(
    wish: Wish,
    number: u16,
    uuid: [u8; 16],
    opened: Opened,
    state: Option<&Arc<dyn StateStore>>,
) -> Result<Unit, Failure> {
    let Opened { backend, created, identity: own } = opened;
    let description = backend.description();
    let kept = own.is_some();
    let place = match description.kind {
        "file" | "device" => description.address.clone(),
        kind => format!("{kind}:{}", stores::Size(backend.limits().capacity())),
    };
    let optical = wish.device_type == DeviceType::Optical;
    let product = match description.kind {
        _ if optical => "CD-ROM",
        "file" | "device" => "Disk",
        "ram" => "Memory",
        _ => "Null",
    };
    let identity = Identity {
        uuid,
        vendor: wish.vendor.unwrap_or_else(|| "LUNETTE".into()),
        product: wish.product.unwrap_or_else(|| product.into()),
        revision: "0001".into(),
        serial: wish.serial.unwrap_or_else(|| uuid.iter().map(|byte| format!("{byte:02x}")).collect()),
    };
    let options = Options {
        device_type: wish.device_type,
        read_only: backend.limits().read_only,
        removable: wish.removable || optical,
    };
    // A disk that forgets its data at the end has no use for fences that do not.
    let state = state.filter(|_| kept).map(Arc::clone);
    let unit = LogicalUnit::open(identity, options, backend, state)
        .map_err(|error| Failure::runtime(format!("{}: {error}", description.address)))?;
    if unit.reservations_lost() {
        tracing::error!(
            %place,
            "its stored reservations are damaged; until an initiator sends REPLACE LOST RESERVATION (sg_persist --out \
             --replace-lost --param-sark=KEY --prout-type=5) the disk serves nobody"
        );
    }
    Ok(Unit { number, place, created, unit })
}

/// A disk's identity: what its store is called by itself, or its number on this machine where the store
/// has nothing to remember a name by. The target's name is no part of it: that may change.
fn uuid(opened: &Opened, number: u16) -> [u8; 16] {
    let name = opened.identity.clone().unwrap_or_else(|| {
        let machine = std::fs::read_to_string("/etc/machine-id")
            .unwrap_or_else(|_| rustix::system::uname().nodename().to_string_lossy().into_owned());
        format!("{} {number} of {}", opened.backend.description().kind, machine.trim())
    });
    let digest = Sha256::digest(format!("lunette unit {name}"));
    let mut uuid = [0; 16];
    uuid.copy_from_slice(&digest[..16]);
    uuid
}

/// The disk's options, taken off its address.
fn wish(text: &str) -> Result<Wish, Failure> {
    let (address, options) = stores::take_options(text, OPTIONS);
    let device_type = if stores::is_image(&address) { DeviceType::Optical } else { DeviceType::Disk };
    let mut wish = Wish { address, device_type, ..Wish::default() };
    let wrong = |what: String| Failure::input(format!("{text}: {what}"));
    for (name, value) in options {
        let value = value.filter(|value| !value.is_empty());
        match (name.as_str(), value) {
            ("removable", None) => wish.removable = true,
            ("removable", Some(_)) => return Err(wrong("removable takes no value; write only removable".into())),
            (_, None) => return Err(wrong(format!("{name} needs a value; write {name}=…"))),
            ("lun", Some(value)) => match value.parse() {
                Ok(number) if number <= MAXIMUM_LUN => wish.number = Some(number),
                _ => return Err(wrong(format!("lun={value} is no LUN; use 0 to {MAXIMUM_LUN}"))),
            },
            ("type", Some(value)) => match value.as_str() {
                "cd" => wish.device_type = DeviceType::Optical,
                "disk" => wish.device_type = DeviceType::Disk,
                _ => return Err(wrong(format!("type={value} is nothing that is served; use disk or cd"))),
            },
            ("serial", Some(value)) => wish.serial = Some(ascii(&wrong, "serial", value, 64)?),
            ("vendor", Some(value)) => wish.vendor = Some(ascii(&wrong, "vendor", value, 8)?),
            ("product", Some(value)) => wish.product = Some(ascii(&wrong, "product", value, 16)?),
            (_, Some(_)) => {}
        }
    }
    Ok(wish)
}

fn ascii(wrong: &dyn Fn(String) -> Failure, name: &str, value: String, most: usize) -> Result<String, Failure> {
    let printable = value.bytes().all(|byte| matches!(byte, 0x20..=0x7E));
    match printable && value.len() <= most {
        true => Ok(value),
        false => Err(wrong(format!("{name}={value} does not fit; use at most {most} printable ASCII characters"))),
    }
}

fn numbers(wishes: &[Wish]) -> Result<Vec<u16>, Failure> {
    let mut taken: Vec<u16> = Vec::new();
    for number in wishes.iter().filter_map(|wish| wish.number) {
        if taken.contains(&number) {
            return Err(Failure::input(format!("lun={number} is given twice; every disk has a number of its own")));
        }
        taken.push(number);
    }
    let mut numbers = Vec::new();
    let mut next = 1;
    for wish in wishes {
        let number = wish.number.unwrap_or_else(|| {
            while taken.contains(&next) {
                next += 1;
            }
            next
        });
        if number > MAXIMUM_LUN {
            return Err(Failure::input(format!("{} disks are too many; LUNs end at {MAXIMUM_LUN}", wishes.len())));
        }
        taken.push(number);
        numbers.push(number);
    }
    Ok(numbers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn disks_number_from_one_around_those_that_were_numbered() {
        let wishes: Vec<_> =
            ["ram:1M", "ram:1M,lun=1", "ram:1M", "ram:1M,lun=0"].iter().map(|text| wish(text).unwrap()).collect();
        assert_eq!(numbers(&wishes).unwrap(), [2, 1, 3, 0]);
        let twice: Vec<_> = ["ram:1M,lun=4", "ram:1M,lun=4"].iter().map(|text| wish(text).unwrap()).collect();
        assert!(numbers(&twice).unwrap_err().to_string().contains("lun=4 is given twice"));
    }

    #[test]
    fn what_an_inquiry_cannot_hold_is_refused() {
        for text in
            ["ram:1M,vendor=much-too-long", "ram:1M,serial=ü", "ram:1M,lun=16384", "ram:1M,lun", "a,removable=1"]
        {
            assert!(wish(text).unwrap_err().to_string().starts_with(text), "{text}");
        }
        assert_eq!(wish("ram:1M,serial=a b").unwrap().serial.unwrap(), "a b");
    }

    #[test]
    fn an_image_is_a_cd_unless_it_is_said_otherwise() {
        let kind = |text: &str| wish(text).unwrap().device_type;
        assert_eq!((kind("a.iso"), kind("a.iso,lun=3")), (DeviceType::Optical, DeviceType::Optical));
        assert_eq!((kind("a.img"), kind("a.iso,type=disk")), (DeviceType::Disk, DeviceType::Disk));
        assert_eq!((kind("a.img,type=cd"), kind("/dev/sr0,type=cd")), (DeviceType::Optical, DeviceType::Optical));
        assert!(wish("a.img,type=tape").unwrap_err().to_string().contains("use disk or cd"));
    }

    #[test]
    fn a_file_is_the_same_disk_after_it_was_renamed() {
        let folder = std::env::temp_dir().join(format!("lunette-units-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let serial = |name: &str| {
            let address = format!("{},size=1M", folder.join(name).display());
            open(&[address], None).unwrap()[0].unit.identity().serial.clone()
        };
        let first = serial("a.img");
        assert_eq!(serial("a.img"), first);
        std::fs::rename(folder.join("a.img"), folder.join("b.img")).unwrap();
        let (renamed, other) = (serial("b.img"), serial("a.img"));
        let _ = std::fs::remove_dir_all(&folder);
        assert_eq!(renamed, first);
        assert_ne!(other, first);
    }

    #[test]
    fn spc_02_a_copy_with_the_same_identity_is_not_served_beside_its_original() {
        let folder = std::env::temp_dir().join(format!("lunette-copies-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let place = |name: &str| folder.join(name).display().to_string();
        drop(open(&[format!("{},size=1M", place("a.img"))], None).unwrap());
        let copied = std::process::Command::new("cp").args(["-a", &place("a.img"), &place("b.img")]).status();
        let both = open(&[place("a.img"), place("b.img")], None);
        let _ = std::fs::remove_dir_all(&folder);
        assert!(copied.unwrap().success());
        let error = both.err().expect("two disks with one identity").to_string();
        assert!(error.contains("same identity") && error.contains("setfattr -x"), "{error}");
    }
}
