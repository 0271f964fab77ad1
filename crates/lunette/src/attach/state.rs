//! The state directory: for each session a directory with what is held, whose holder keeps a lock in it as long as
//! it lives.
//!
//! Whoever changes what sessions there are (a holder that begins, somebody who clears up after one that died) does it
//! under one lock of the whole; it is held for moments, never while a network or a device is waited for.

use super::process::{self, Process};
use super::request::{Units, Via};
use crate::failure::{Cause, Failure};
use serde_json::{Value, json};
use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// The record in a session's directory.
const RECORD: &str = "session.json";
/// What its holder has locked.
const LOCK: &str = "lock";
/// The request with its secrets, for one who takes the session up again.
const REQUEST: &str = "request.json";
/// Names another state directory than the usual one.
const VARIABLE: &str = "LUNETTE_ATTACHED";
/// Bytes of a file that is read.
const MOST: u64 = 1 << 20;

/// A session and what it holds.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Record {
    /// Its number in this state directory; the name of its directory.
    pub session: u64,
    /// As an address, without a secret.
    pub address: String,
    /// The target's name.
    pub target: String,
    /// `host:port`, as they were asked for.
    pub portals: Vec<String>,
    /// The portals that answered, with the tag of their group: `10.0.0.1:3260,1`.
    pub reached: Vec<String>,
    /// Which of the target's disks were asked for.
    pub units: Units,
    /// The front-end.
    pub via: Via,
    /// Nothing is written.
    pub read_only: bool,
    /// Its holder.
    pub process: Process,
    /// The network namespace that it lives in.
    pub network: String,
    /// Our name.
    pub initiator: String,
    /// As twelve hexadecimal digits.
    pub isid: String,
    /// Since when, as RFC 3339.
    pub since: String,
    /// The node record that it comes of.
    pub node_record: Option<String>,
    /// The kernel's number of the session, where it is the kernel's.
    pub kernel_session: Option<u32>,
    /// What is attached.
    pub devices: Vec<Device>,
}

/// One attached disk.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Device {
    /// As a number.
    pub lun: u64,
    /// How: `fuse+loop`, `fuse`, `nbd`, `ublk`, `kernel`.
    pub kind: String,
    /// The block device, or the file. Empty while it is being made.
    pub path: PathBuf,
    /// The stable link to it.
    pub links: Vec<PathBuf>,
    /// Where the front-end mounts and listens.
    pub directory: PathBuf,
    /// Which disk it is.
    pub identity: Identity,
    /// Its size.
    pub bytes: u64,
    /// Bytes of a block.
    pub block_length: u32,
}

/// What tells a disk from every other.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Identity {
    /// Its best name: `naa.…`, `eui.…`, a SCSI name string, `t10.…`; empty where it has none.
    pub name: String,
    /// VPD page 80h; empty where there is none.
    pub serial: String,
    /// INQUIRY.
    pub vendor: String,
    /// INQUIRY.
    pub product: String,
}

/// The state directory.
#[derive(Debug, Clone)]
pub struct Place(PathBuf);

/// One session's directory, as it was found.
#[derive(Debug)]
pub struct Entry {
    /// Its path.
    pub directory: PathBuf,
    /// What its holder wrote down.
    pub record: Record,
    /// Whether the holder is there.
    pub alive: bool,
}

/// A session's directory in the hands of its holder. The lock is released with it.
#[derive(Debug)]
pub struct Session {
    /// Its path.
    pub directory: PathBuf,
    /// Its number.
    pub number: u64,
    _lock: File,
}

/// The lock over which sessions there are.
pub struct Turn(#[allow(dead_code, reason = "held, not read")] File);

impl Place {
    /// The one that was named, here or in the environment, or the usual one: /run/lunette/attached for root, in
    /// XDG_RUNTIME_DIR for others.
    pub fn of(named: Option<&Path>) -> Result<Place, Failure> {
        let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let (told, runtime) = (variable(VARIABLE), variable("XDG_RUNTIME_DIR"));
        let path = match (named.or(told.as_deref()), rustix::process::geteuid().is_root(), runtime) {
            (Some(named), ..) => {
                std::path::absolute(named).map_err(|error| Failure::input(format!("--state-dir: {error}")))?
            }
            (None, true, _) => PathBuf::from("/run/lunette/attached"),
            (None, false, Some(runtime)) => runtime.join("lunette/attached"),
            (None, false, None) => {
                return Err(Failure::input("XDG_RUNTIME_DIR is not set; name a directory with --state-dir DIR"));
            }
        };
        Ok(Place(path))
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Waits for the turn to change which sessions there are. Makes the directory.
    pub fn turn(&self) -> Result<Turn, Failure> {
        let open = || -> std::io::Result<File> {
            fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.0)?;
            let lock = File::options().create(true).truncate(false).write(true).mode(0o600).open(self.0.join(LOCK))?;
            lock.lock()?;
            Ok(lock)
        };
        open().map(Turn).map_err(|error| self.failed(&error))
    }

    /// A new session's directory, locked by this process.
    pub fn begin(&self, _turn: &Turn) -> Result<Session, Failure> {
        let make = || -> std::io::Result<Session> {
            let next = self.0.join("next");
            let told = read(&next).ok().and_then(|text| text.trim().parse::<u64>().ok()).unwrap_or(1);
            let number = self.numbers().last().map_or(told, |last| told.max(last + 1));
            write(&next, &(number + 1).to_string())?;
            let directory = self.0.join(number.to_string());
            fs::DirBuilder::new().mode(0o700).create(&directory)?;
            let lock = File::options().create_new(true).write(true).mode(0o600).open(directory.join(LOCK))?;
            lock.lock()?;
            Ok(Session { directory, number, _lock: lock })
        };
        make().map_err(|error| self.failed(&error))
    }

    /// The directory of a session whose holder died, locked by this process. `None` when somebody has it.
    pub fn take_up(&self, _turn: &Turn, number: u64) -> Result<Option<Session>, Failure> {
        let directory = self.0.join(number.to_string());
        let open = || File::options().create(true).truncate(false).write(true).mode(0o600).open(directory.join(LOCK));
        let lock = match open() {
            Ok(lock) => lock,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(self.failed(&error)),
        };
        match lock.try_lock() {
            Ok(()) => Ok(Some(Session { directory, number, _lock: lock })),
            Err(fs::TryLockError::WouldBlock) => Ok(None),
            Err(fs::TryLockError::Error(error)) => Err(self.failed(&error)),
        }
    }

    /// All sessions, in the order of their numbers. A directory whose holder has not written anything yet is told
    /// with an empty record.
    pub fn sessions(&self) -> Vec<Entry> {
        self.numbers().into_iter().filter_map(|number| self.session(number)).collect()
    }

    /// One of them.
    pub fn session(&self, number: u64) -> Option<Entry> {
        let directory = self.0.join(number.to_string());
        let lock = File::open(directory.join(LOCK));
        let alive = lock.is_ok_and(|lock| matches!(lock.try_lock_shared(), Err(fs::TryLockError::WouldBlock)));
        let text = read(&directory.join(RECORD));
        let value: Value = text.ok().and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default();
        if !directory.is_dir() {
            return None;
        }
        let record = Record::from_json(&value).unwrap_or_default();
        Some(Entry { directory, record: Record { session: number, ..record }, alive })
    }

    fn numbers(&self) -> Vec<u64> {
        let entries = fs::read_dir(&self.0).into_iter().flatten().flatten();
        let mut numbers: Vec<u64> = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
        numbers.sort_unstable();
        numbers
    }

    fn failed(&self, error: &std::io::Error) -> Failure {
        let line = format!("{}: {error}; name a directory with --state-dir DIR", self.0.display());
        match error.kind() {
            ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => Failure::because(Cause::Unavailable, line),
            _ => Failure::runtime(line),
        }
    }
}

impl Session {
    /// Writes the record anew, in one step.
    pub fn save(&self, record: &Record) -> std::io::Result<()> {
        write(&self.directory.join(RECORD), &format!("{:#}\n", record.to_json()))
    }

    /// Writes the request down, with its secrets, for its owner alone.
    pub fn save_request(&self, request: &Value) -> std::io::Result<()> {
        write(&self.directory.join(REQUEST), &request.to_string())
    }

    /// The directory goes, with all that is in it.
    pub fn remove(&self) {
        remove(&self.directory);
    }
}

/// The request of a session, with its secrets.
pub fn request(directory: &Path) -> Option<Value> {
    serde_json::from_str(&read(&directory.join(REQUEST)).ok()?).ok()
}

/// Removes a session's directory: files of ours and empty directories, and nothing behind a mount point that is
/// still there.
pub fn remove(directory: &Path) {
    // The record goes first: what is left of a directory without one is nobody's.
    let _ = fs::remove_file(directory.join(RECORD));
    empty(directory, 0);
}

fn empty(directory: &Path, depth: u32) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let path = entry.path();
        match entry.file_type() {
            Ok(kind) if kind.is_dir() && depth < 3 && !is_mounted(&path) => empty(&path, depth + 1),
            Ok(kind) if kind.is_dir() => {}
            _ => drop(fs::remove_file(&path)),
        }
    }
    let _ = fs::remove_dir(directory);
}

/// Whether something is mounted there, or cannot even be looked at (a file system whose server died).
fn is_mounted(path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let device = |path: &Path| fs::symlink_metadata(path).map(|found| found.dev());
    match (device(path), path.parent().map(device)) {
        (Ok(own), Some(Ok(above))) => own != above,
        _ => true,
    }
}

fn read(path: &Path) -> std::io::Result<String> {
    use std::io::Read;
    let mut text = String::new();
    File::open(path)?.take(MOST).read_to_string(&mut text)?;
    Ok(text)
}

/// Writes a file for its owner alone, whole or not at all.
fn write(path: &Path, text: &str) -> std::io::Result<()> {
    let new = path.with_extension("new");
    let mut file = File::options().create(true).truncate(true).write(true).mode(0o600).open(&new)?;
    file.write_all(text.as_bytes())?;
    fs::rename(&new, path)
}

impl Record {
    /// What a program is told.
    pub fn to_json(&self) -> Value {
        json!({
            "session": self.session,
            "address": self.address,
            "target": self.target,
            "portals": self.portals,
            "reached": self.reached,
            "units": self.units.to_json(),
            "via": self.via.name(),
            "read_only": self.read_only,
            "process": self.process.to_json(),
            "network_namespace": self.network,
            "initiator": self.initiator,
            "isid": self.isid,
            "since": self.since,
            "node_record": self.node_record,
            "kernel_session": self.kernel_session,
            "devices": self.devices.iter().map(Device::to_json).collect::<Vec<_>>(),
        })
    }

    /// What [`Record::to_json`] wrote.
    pub fn from_json(value: &Value) -> Option<Record> {
        Some(Record {
            session: value["session"].as_u64()?,
            address: text(&value["address"])?,
            target: text(&value["target"])?,
            portals: texts(&value["portals"]),
            reached: texts(&value["reached"]),
            units: Units::from_json(&value["units"])?,
            via: Via::named(value["via"].as_str()?)?,
            read_only: value["read_only"].as_bool()?,
            process: Process::from_json(&value["process"])?,
            network: text(&value["network_namespace"])?,
            initiator: text(&value["initiator"])?,
            isid: text(&value["isid"])?,
            since: text(&value["since"])?,
            node_record: text(&value["node_record"]),
            kernel_session: value["kernel_session"].as_u64().and_then(|number| u32::try_from(number).ok()),
            devices: value["devices"].as_array()?.iter().filter_map(Device::from_json).collect(),
        })
    }

    /// Whether both would be sessions with one target, over a portal that they share, from one network.
    pub fn meets(&self, other: &Record) -> bool {
        self.target == other.target
            && self.network == other.network
            && self.portals.iter().any(|portal| other.portals.contains(portal))
            // Sessions of several records, or several of one, are wanted side by side.
            && (self.node_record == other.node_record || self.node_record.is_none() || other.node_record.is_none())
    }

    /// An empty record of this process.
    pub fn own() -> Record {
        Record { process: Process::own(), network: process::namespace("net"), ..Record::default() }
    }
}

impl Device {
    fn to_json(&self) -> Value {
        json!({
            "lun": self.lun,
            "kind": self.kind,
            "device": self.path.to_string_lossy(),
            "links": self.links.iter().map(|link| link.to_string_lossy()).collect::<Vec<_>>(),
            "directory": self.directory.to_string_lossy(),
            "identity": self.identity.to_json(),
            "bytes": self.bytes,
            "block_length": self.block_length,
        })
    }

    fn from_json(value: &Value) -> Option<Device> {
        Some(Device {
            lun: value["lun"].as_u64()?,
            kind: text(&value["kind"])?,
            path: text(&value["device"])?.into(),
            links: texts(&value["links"]).into_iter().map(PathBuf::from).collect(),
            directory: text(&value["directory"])?.into(),
            identity: Identity::from_json(&value["identity"])?,
            bytes: value["bytes"].as_u64()?,
            block_length: u32::try_from(value["block_length"].as_u64()?).ok()?,
        })
    }
}

impl Identity {
    fn to_json(&self) -> Value {
        json!({
            "name": self.name,
            "serial": self.serial,
            "vendor": self.vendor,
            "product": self.product,
        })
    }

    fn from_json(value: &Value) -> Option<Identity> {
        Some(Identity {
            name: text(&value["name"])?,
            serial: text(&value["serial"])?,
            vendor: text(&value["vendor"])?,
            product: text(&value["product"])?,
        })
    }
}

fn text(value: &Value) -> Option<String> {
    value.as_str().map(str::to_owned)
}

fn texts(value: &Value) -> Vec<String> {
    value.as_array().into_iter().flatten().filter_map(text).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use sim::daemon::Folder;

    fn place(folder: &Folder) -> Place {
        Place::of(Some(&folder.path().join("state"))).unwrap()
    }

    #[test]
    fn a_session_is_alive_as_long_as_its_directory_is_held_and_numbers_do_not_come_back() {
        let folder = Folder::new();
        let place = place(&folder);
        assert!(place.sessions().is_empty());
        let turn = place.turn().unwrap();
        let first = place.begin(&turn).unwrap();
        let second = place.begin(&turn).unwrap();
        assert_eq!((first.number, second.number), (1, 2));
        assert!(place.sessions().iter().all(|entry| entry.alive));
        assert!(place.take_up(&turn, 1).unwrap().is_none(), "its holder lives");
        drop(first);
        let alive: Vec<bool> = place.sessions().iter().map(|entry| entry.alive).collect();
        assert_eq!(alive, [false, true]);
        place.take_up(&turn, 1).unwrap().unwrap().remove();
        second.remove();
        assert!(place.sessions().is_empty());
        assert_eq!(place.begin(&turn).unwrap().number, 3);
    }

    #[test]
    fn what_is_written_down_is_read_again_and_a_spoiled_record_is_none() {
        let folder = Folder::new();
        let place = place(&folder);
        let session = place.begin(&place.turn().unwrap()).unwrap();
        let record = Record {
            session: session.number,
            address: "iscsi://user@host/iqn.a/1".into(),
            target: "iqn.a".into(),
            portals: vec!["host:3260".into()],
            reached: vec!["10.0.0.1:3260,1".into()],
            via: Via::Fuse,
            read_only: true,
            initiator: "iqn.b".into(),
            isid: "800000000001".into(),
            since: "2026-11-21T14:00:00Z".into(),
            node_record: Some("n".into()),
            devices: vec![Device {
                lun: 1,
                kind: "fuse+loop".into(),
                path: "/dev/loop0".into(),
                links: vec!["/dev/disk/by-path/x".into()],
                directory: "/run/x".into(),
                identity: Identity {
                    name: "naa.6".into(),
                    serial: "s".into(),
                    vendor: "v".into(),
                    product: "p".into(),
                },
                bytes: 1 << 40,
                block_length: 4096,
            }],
            ..Record::own()
        };
        session.save(&record).unwrap();
        let entry = place.session(session.number).unwrap();
        assert_eq!(entry.record, record);
        let mode = |name: &str| {
            use std::os::unix::fs::PermissionsExt;
            fs::metadata(session.directory.join(name)).unwrap().permissions().mode() & 0o777
        };
        session.save_request(&json!({ "secret": "x" })).unwrap();
        assert_eq!((mode(RECORD), mode(REQUEST)), (0o600, 0o600));
        fs::write(session.directory.join(RECORD), "{\"session\": 1, ").unwrap();
        assert_eq!(place.session(session.number).unwrap().record.target, "");
        let elsewhere = Record { network: "another".into(), ..record.clone() };
        let over_another = Record { portals: vec!["host:3261".into()], ..record.clone() };
        assert!(record.meets(&record) && !record.meets(&elsewhere) && !record.meets(&over_another));
    }
}
