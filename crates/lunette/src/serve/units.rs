//! From addresses on the command line to logical units with numbers and identities.

use crate::configuration::{Disk, ShownUnit, TargetPlan};
use crate::failure::Failure;
use crate::remote;
use block::Backend;
use block::layer::Bounded;
use lun::{DeviceType, Identity, LogicalUnit, LunEntry, LunMap, Options, StateStore};
use sha2::{Digest, Sha256};
use std::sync::Arc;
use stores::{OpenError, Opened, Size};

/// A unit with what a person wants to see of it.
#[derive(Clone)]
pub struct Unit {
    /// Its number.
    pub number: u16,
    /// Where it lies, without options.
    pub place: String,
    /// Whether the file was made just now.
    pub created: bool,
    /// The unit.
    pub unit: Arc<LogicalUnit>,
    /// What shows as much of its store as is configured; nothing for a drive.
    pub bounded: Option<Arc<Bounded>>,
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

/// Opens the store of one disk beside those that are open. Memory is told apart by `scope`.
pub fn one<'a>(
    disk: &Disk,
    scope: &str,
    mut others: impl Iterator<Item = &'a Unit>,
    state: Option<&Arc<dyn StateStore>>,
) -> Result<Unit, Failure> {
    let (opened, bounded) = opened(disk).map_err(Failure::input)?;
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
    let unit = unit(disk, uuid, opened, state)?;
    Ok(Unit { bounded, ..unit })
}

/// The store of a disk, as large as the disk is to be.
fn opened(disk: &Disk) -> Result<(Opened, Option<Arc<Bounded>>), OpenError> {
    let address = &disk.address;
    let opened = match disk.device_type {
        DeviceType::Optical => return Ok((stores::open_drive(address)?, None)),
        DeviceType::Disk if remote::is_remote(address) => remote::open(address)?,
        DeviceType::Disk => match disk.size.filter(|_| is_to_be_made(address)) {
            Some(size) => stores::open(&format!("{address},size={size}"))?,
            None => stores::open(address)?,
        },
    };
    let place = || opened.backend.description().address;
    let limits = opened.backend.limits();
    let bound = match disk.size {
        None => None,
        Some(size) if !size.is_multiple_of(u64::from(limits.block_length)) => {
            let problem =
                format!("its size of {size} bytes is not a whole number of {}-byte blocks", limits.block_length);
            let next = size.next_multiple_of(u64::from(limits.block_length));
            return Err(OpenError::new(place(), problem).remedy(format!("size={next} would be")));
        }
        Some(size) => Some(size / u64::from(limits.block_length)),
    };
    // A size to begin with holds the disk back only where more is behind it by now.
    let holds = |bound: &u64| disk.fixed || *bound < limits.blocks;
    let bounded = Bounded::new(Arc::clone(&opened.backend), bound.filter(holds));
    if bound.is_some_and(|bound| bound < limits.blocks) {
        let place = place();
        tracing::warn!(%place, "holds {}; its size says that less of it is shown", Size(limits.capacity()));
    }
    if let Some(bound) = bound.filter(|bound| *bound > limits.blocks) {
        let (has, wanted) = (Size(limits.capacity()), Size(bound * u64::from(limits.block_length)));
        // Its own end is all that it has behind it: what is asked for is there from now on.
        bounded.resize(bound).map_err(|error| {
            OpenError::new(
                place(),
                format!("holds {has}, not the {wanted} asked for, and cannot be made larger: {error}"),
            )
            .remedy("leave out size=")
        })?;
        if !disk.fixed {
            bounded.bind(None);
        }
        tracing::info!(place = place(), "grown from {has} to {wanted}, as its size says");
    }
    let backend: Arc<dyn Backend> = Arc::clone(&bounded) as Arc<dyn Backend>;
    Ok((Opened { backend, ..opened }, Some(bounded)))
}

/// Whether a file is not there, or has no bytes: then its size makes it.
fn is_to_be_made(address: &str) -> bool {
    let place = stores::Address::parse(address).map(|address| address.place).unwrap_or_default();
    stores::host::metadata(place).map_or(true, |facts| facts.is_file() && facts.len() == 0)
}

/// Makes the unit what is configured of it, before anybody uses it.
pub async fn settle(unit: &Unit, disk: &Disk, takes_over: bool) -> Result<(), String> {
    unit.unit.limiter().set(disk.limit);
    // Of a unit that is served the mode pages come with it, and what is kept of them is still the other process's.
    if let Some(on) = disk.write_cache.filter(|_| !takes_over)
        && unit.unit.standing().write_cache.is_some_and(|is| is != on)
    {
        unit.unit.set_write_cache(on).await.map_err(|error| format!("write-cache: {error}"))?;
    }
    if disk.read_only {
        unit.unit.set_read_only(true).await.map_err(|error| format!("read-only: {error}"))?;
    }
    if disk.offline {
        unit.unit.take_offline().await.map_err(|error| format!("online: {error}"))?;
    }
    Ok(())
}

/// The unit has this size from now on, for which there is room.
pub async fn resize(unit: &Unit, disk: &Disk, bytes: u64) -> Result<(), String> {
    let blocks = blocks(bytes, unit)?;
    target::resize(&unit.unit, bytes).await.map_err(|error| error.to_string())?;
    // Where there is no more behind it, a size to begin with holds nothing back.
    if let Some(bounded) = unit.bounded.as_ref().filter(|_| !disk.fixed) {
        bounded.bind(None);
        if unit.unit.backend().limits().blocks != blocks {
            bounded.bind(Some(blocks));
        }
    }
    Ok(())
}

/// A size of this unit in its blocks.
pub fn blocks(bytes: u64, unit: &Unit) -> Result<u64, String> {
    let length = u64::from(unit.unit.backend().limits().block_length);
    match bytes.is_multiple_of(length) {
        true => Ok(bytes / length),
        false => Err(format!("{bytes} bytes are not a whole number of {length}-byte blocks")),
    }
}

/// Why there is no more room behind a unit.
pub fn cannot_grow(unit: &Unit, error: &block::Error) -> String {
    let place = &unit.place;
    match unit.unit.backend().description().kind {
        "device" => format!("{place}: a device has the size that it has; make the device larger, and leave out size"),
        "iscsi" => format!("{place}: a remote disk has the size that it has there"),
        _ => format!("{place}: cannot be made larger: {error}"),
    }
}

/// The unit is as large as its store from now on.
pub fn unbind(unit: &Unit) -> Result<(), String> {
    let Some(bounded) = &unit.bounded else { return Ok(()) };
    bounded.bind(None);
    unit.unit.refresh().map(drop).map_err(|error| error.to_string())
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
        kind => format!("{kind}:{}", Size(backend.limits().capacity())),
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
        revision: disk.revision.clone().unwrap_or_else(|| "0001".into()),
        serial: disk.serial.clone().unwrap_or_else(|| uuid.iter().map(|byte| format!("{byte:02x}")).collect()),
    };
    let options = Options {
        device_type: disk.device_type,
        read_only: backend.limits().read_only,
        removable: disk.removable || optical,
        shown: disk.shown.clone(),
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
    Ok(Unit { number: disk.number, place, created, unit, bounded: None })
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
            tid: None,
            offline: false,
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
