//! From addresses on the command line to logical units with numbers and identities.

use crate::configuration::{Disk, ShownUnit, TargetPlan};
use crate::failure::Failure;
use crate::remote;
use lun::{DeviceType, Identity, LogicalUnit, LunEntry, LunMap, Options, StateStore};
use sha2::{Digest, Sha256};
use std::sync::Arc;
use stores::Opened;

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

/// Opens the stores of all targets. Memory of several targets is told apart by their names.
pub fn open(targets: &[TargetPlan], state: Option<&Arc<dyn StateStore>>) -> Result<Vec<Vec<Unit>>, Failure> {
    let mut all: Vec<Vec<Unit>> = Vec::new();
    for target in targets {
        let mut units = Vec::new();
        for disk in &target.disks {
            let scope = if targets.len() > 1 { target.name.as_str() } else { "" };
            let unit = one(disk, scope, all.iter().flatten().chain(&units), state);
            units.push(unit.map_err(|failure| placed(disk, failure))?);
        }
        all.push(units);
    }
    Ok(all)
}

/// A failure with the place where its disk is configured.
fn placed(disk: &Disk, failure: Failure) -> Failure {
    match (&disk.place, failure) {
        (Some(place), Failure::Input(line)) => Failure::Findings(format!("{place}: error: {line}")),
        (Some(place), Failure::Runtime(line)) => Failure::Runtime(format!("{place}: {line}")),
        (_, failure) => failure,
    }
}

fn one<'a>(
    disk: &Disk,
    scope: &str,
    mut others: impl Iterator<Item = &'a Unit>,
    state: Option<&Arc<dyn StateStore>>,
) -> Result<Unit, Failure> {
    let opened = match disk.device_type {
        DeviceType::Disk if remote::is_remote(&disk.address) => remote::open(&disk.address),
        DeviceType::Disk => stores::open(&disk.address),
        DeviceType::Optical => stores::open_drive(&disk.address),
    };
    let opened = opened.map_err(Failure::input)?;
    let uuid = uuid(&opened, disk.number, scope);
    if let Some(twin) = others.find(|other| other.unit.identity().uuid == uuid) {
        let place = opened.backend.description().address;
        if disk.device_type == DeviceType::Optical {
            // A drive is known by its path.
            return Err(Failure::input(format!("{place}: is given twice; one drive serves all initiators")));
        }
        if opened.backend.description().kind == "iscsi" {
            return Err(Failure::input(format!(
                "{place}: is the same disk as {}; name it once, with path= for each further way to it",
                twin.place
            )));
        }
        return Err(Failure::input(format!(
            "{place}: has the same identity as {}, of which it is a copy; give it one of its own with: setfattr -x \
             user.lunette.uuid {place}",
            twin.place
        )));
    }
    unit(disk, uuid, opened, state)
}

/// The units as a rule shows them, in ascending order of number; as the target numbers them where it says
/// nothing of it.
pub fn map(units: &[Unit], shown: Option<&[ShownUnit]>, read_only: bool) -> LunMap {
    let entries = match shown {
        None => {
            units.iter().map(|unit| LunEntry { number: unit.number, unit: Arc::clone(&unit.unit), read_only }).collect()
        }
        Some(shown) => shown
            .iter()
            .filter_map(|one| {
                let unit = units.iter().find(|unit| unit.number == one.number)?;
                let read_only = read_only || one.read_only;
                Some(LunEntry { number: one.shown_as, unit: Arc::clone(&unit.unit), read_only })
            })
            .collect(),
    };
    LunMap { entries }
}

fn unit(disk: &Disk, uuid: [u8; 16], opened: Opened, state: Option<&Arc<dyn StateStore>>) -> Result<Unit, Failure> {
    let Opened { backend, created, identity: own } = opened;
    let description = backend.description();
    let kept = own.is_some();
    let place = match description.kind {
        "file" | "device" | "iscsi" => description.address.clone(),
        kind => format!("{kind}:{}", stores::Size(backend.limits().capacity())),
    };
    let optical = disk.device_type == DeviceType::Optical;
    let product = match description.kind {
        _ if optical => "CD-ROM",
        "file" | "device" => "Disk",
        "iscsi" => "Remote",
        "ram" => "Memory",
        _ => "Null",
    };
    let identity = Identity {
        uuid,
        vendor: disk.vendor.clone().unwrap_or_else(|| "LUNETTE".into()),
        product: disk.product.clone().unwrap_or_else(|| product.into()),
        revision: "0001".into(),
        serial: disk.serial.clone().unwrap_or_else(|| uuid.iter().map(|byte| format!("{byte:02x}")).collect()),
    };
    let options = Options {
        device_type: disk.device_type,
        read_only: backend.limits().read_only,
        removable: disk.removable || optical,
        shown: Default::default(),
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
    Ok(Unit { number: disk.number, place, created, unit })
}

/// A disk's identity: what its store is called by itself, or its number on this machine where the store
/// has nothing to remember a name by. The target's name is no part of it: that may change.
fn uuid(opened: &Opened, number: u16, scope: &str) -> [u8; 16] {
    let name = opened.identity.clone().unwrap_or_else(|| {
        let machine = std::fs::read_to_string("/etc/machine-id")
            .unwrap_or_else(|_| rustix::system::uname().nodename().to_string_lossy().into_owned());
        let of = if scope.is_empty() { String::new() } else { format!("{scope} at ") };
        format!("{} {number} of {of}{}", opened.backend.description().kind, machine.trim())
    });
    let digest = Sha256::digest(format!("lunette unit {name}"));
    let mut uuid = [0; 16];
    uuid.copy_from_slice(&digest[..16]);
    uuid
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(addresses: &[String]) -> Result<Vec<Unit>, Failure> {
        let disk = |(at, address): (usize, &String)| {
            let (disk, _) = Disk::from_address(address).unwrap();
            Disk { number: at as u16 + 1, ..disk }
        };
        let name = "iqn.2026-01.org.example:disk".to_owned();
        let plan = TargetPlan {
            name: iscsi::name::Name::parse(&name).unwrap(),
            alias: None,
            groups: vec![1],
            disks: addresses.iter().enumerate().map(disk).collect(),
            rules: Vec::new(),
        };
        super::open(&[plan], None).map(|mut all| all.remove(0))
    }

    #[test]
    fn a_file_is_the_same_disk_after_it_was_renamed() {
        let folder = std::env::temp_dir().join(format!("lunette-units-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let serial = |name: &str| {
            let address = format!("{},size=1M", folder.join(name).display());
            open(&[address]).unwrap()[0].unit.identity().serial.clone()
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
        drop(open(&[format!("{},size=1M", place("a.img"))]).unwrap());
        let copied = std::process::Command::new("cp").args(["-a", &place("a.img"), &place("b.img")]).status();
        let both = open(&[place("a.img"), place("b.img")]);
        let _ = std::fs::remove_dir_all(&folder);
        assert!(copied.unwrap().success());
        let error = both.err().expect("two disks with one identity").to_string();
        assert!(error.contains("same identity") && error.contains("setfattr -x"), "{error}");
    }
}
