//! What /sys tells of the kernel's iSCSI sessions, their hosts and disks, and what can be said to it there.

use crate::Error;
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How often is looked while a disk is awaited.
const LOOK: Duration = Duration::from_millis(20);
/// How long the kernel may take for what it is told here.
const WRITE_LIMIT: Duration = Duration::from_secs(20);

/// The tree of /sys.
#[derive(Debug, Clone)]
pub(super) struct Sysfs {
    root: PathBuf,
}

/// A session that the kernel has, whoever made it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownSession {
    /// The kernel's number of it (iscsiadm's `-r`).
    pub session: u32,
    /// TargetName.
    pub target: String,
    /// InitiatorName, where the kernel was told.
    pub initiator: String,
    /// Address and port of the portal that it was made for, as `address:port`.
    pub portal: String,
    /// TargetPortalGroupTag.
    pub portal_group_tag: Option<u16>,
    /// Name of the interface record that it was made with.
    pub interface: String,
    /// `LOGGED_IN`, `FAILED` or `FREE`.
    pub state: String,
    /// Number of the SCSI host.
    pub host: Option<u32>,
    /// Seconds for which its commands wait when it is lost; `None` is for ever.
    pub replacement_timeout: Option<u64>,
    /// State of the SCSI host: `running` and the like.
    pub host_state: String,
    /// What the kernel tells of the session, by the kernel's names: `first_burst_len`, `abort_tmo`, ...
    pub session_attributes: BTreeMap<String, String>,
    /// And of its connection: `address` and `port` as connected, `header_digest`, `max_recv_dlength`, ...
    pub connection_attributes: BTreeMap<String, String>,
    /// Its disks.
    pub disks: Vec<Disk>,
    /// Its logical units that have no block device: LUN and state.
    pub others: Vec<(u64, String)>,
}

/// A logical unit of a session that has a block device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Disk {
    /// The LUN as the kernel writes it in its addresses.
    pub lun: u64,
    /// `host:channel:target:lun`.
    pub address: String,
    /// The device's name: `sda`.
    pub name: String,
    /// `running`, `blocked`, `transport-offline`, `offline`, ...
    pub state: String,
}

impl Disk {
    /// The block device.
    pub fn device(&self) -> PathBuf {
        Path::new("/dev").join(&self.name)
    }
}

impl Sysfs {
    /// The system's.
    pub(super) fn system() -> Sysfs {
        Sysfs { root: "/sys".into() }
    }

    /// Another tree, for tests.
    #[cfg(test)]
    pub(super) fn at(root: &Path) -> Sysfs {
        Sysfs { root: root.to_owned() }
    }

    /// By what messages name iscsi_tcp; `None` where the module is not there.
    pub(super) fn transport(&self) -> Option<u64> {
        self.word(&self.root.join("class/iscsi_transport/tcp/handle"))?.parse().ok()
    }

    /// Whether the module is there, though its handle may be for others to read.
    pub(super) fn has_transport(&self) -> bool {
        self.root.join("class/iscsi_transport/tcp").exists()
    }

    /// All sessions, in the order of their numbers.
    pub(super) fn sessions(&self) -> Vec<KnownSession> {
        let numbers = entries(&self.root.join("class/iscsi_session"));
        let mut sessions: Vec<KnownSession> = numbers
            .iter()
            .filter_map(|path| path.file_name()?.to_str()?.strip_prefix("session")?.parse().ok())
            .filter_map(|session| self.session(session))
            .collect();
        sessions.sort_by_key(|known| known.session);
        sessions
    }

    /// What is known of one session; `None` when there is none of this number.
    pub(super) fn session(&self, session: u32) -> Option<KnownSession> {
        let state = self.state(session)?;
        let session_attributes = self.attributes(&self.class(session));
        let connection_attributes =
            self.attributes(&self.root.join(format!("class/iscsi_connection/connection{session}:0")));
        let text = |name: &str| session_attributes.get(name).cloned().unwrap_or_default();
        let of = |name: &str| connection_attributes.get(name);
        let host = self.host(session);
        let host_state = host.and_then(|host| self.word(&self.root.join(format!("class/scsi_host/host{host}/state"))));
        let portal = match (of("persistent_address"), of("persistent_port")) {
            (Some(address), Some(port)) if address.contains(':') => format!("[{address}]:{port}"),
            (Some(address), Some(port)) => format!("{address}:{port}"),
            _ => String::new(),
        };
        Some(KnownSession {
            session,
            target: text("targetname"),
            initiator: text("initiatorname"),
            portal,
            portal_group_tag: text("tpgt").parse().ok(),
            interface: text("ifacename"),
            state,
            host,
            replacement_timeout: text("recovery_tmo").parse().ok(),
            host_state: host_state.unwrap_or_default(),
            disks: self.disks(session),
            others: self.others(session),
            session_attributes,
            connection_attributes,
        })
    }

    /// What a directory tells, each a line. What is not set is left out, and what nobody needs to be told.
    fn attributes(&self, directory: &Path) -> BTreeMap<String, String> {
        let named = |path: PathBuf| Some((path.file_name()?.to_str()?.to_owned(), self.word(&path)?));
        let files = entries(directory).into_iter().filter(|path| path.is_file());
        let told = |(name, value): &(String, String)| {
            !value.is_empty() && value != "(null)" && !name.starts_with("password") && name != "uevent"
        };
        files.filter_map(named).filter(told).collect()
    }

    fn others(&self, session: u32) -> Vec<(u64, String)> {
        let without = |unit: &PathBuf| entries(&unit.join("block")).is_empty();
        let told = |unit: PathBuf| {
            let lun = unit.file_name()?.to_str()?.rsplit(':').next()?.parse().ok()?;
            Some((lun, self.word(&unit.join("state"))?))
        };
        self.all_units(session).into_iter().filter(without).filter_map(told).collect()
    }

    /// Its state alone; `None` when it is gone.
    pub(super) fn state(&self, session: u32) -> Option<String> {
        self.word(&self.class(session).join("state"))
    }

    /// Whether its connection works, as far as the kernel knows. Only newer kernels tell of the connection.
    pub(super) fn is_up(&self, session: u32) -> bool {
        let connection = self.root.join(format!("class/iscsi_connection/connection{session}:0/state"));
        self.state(session).as_deref() == Some("LOGGED_IN") && self.word(&connection).is_none_or(|state| state == "up")
    }

    /// Number of its SCSI host.
    pub(super) fn host(&self, session: u32) -> Option<u32> {
        let device = fs::canonicalize(self.class(session).join("device")).ok()?;
        device.components().find_map(|part| part.as_os_str().to_str()?.strip_prefix("host")?.parse().ok())
    }

    /// Its disks, in the order of their LUNs.
    pub(super) fn disks(&self, session: u32) -> Vec<Disk> {
        let mut disks = Vec::new();
        for unit in self.units(session) {
            let Some(address) = unit.file_name().and_then(|name| name.to_str()).map(str::to_owned) else { continue };
            let Some(lun) = address.rsplit(':').next().and_then(|lun| lun.parse().ok()) else { continue };
            for block in entries(&unit.join("block")) {
                let Some(name) = block.file_name().and_then(|name| name.to_str()) else { continue };
                let state = self.word(&unit.join("state")).unwrap_or_default();
                disks.push(Disk { lun, address: address.clone(), name: name.to_owned(), state });
            }
        }
        disks.sort_by_key(|disk| disk.lun);
        disks
    }

    /// Waits for the disk of this LUN.
    pub(super) fn await_disk(&self, session: u32, lun: u64, limit: Duration) -> Option<Disk> {
        let end = Instant::now() + limit;
        loop {
            let found = self.disks(session).into_iter().find(|disk| is_lun(disk.lun, lun));
            if found.is_some() || Instant::now() >= end {
                return found;
            }
            std::thread::sleep(LOOK);
        }
    }

    /// Has the kernel look for one logical unit and waits for its disk.
    ///
    /// Linux takes a target of which it knows nothing for a SCSI-2 one and writes the LUN into its first INQUIRY,
    /// which some targets refuse, as the bits are reserved now. After LUN 0, of which nothing is to be written, it
    /// knows better; what it made of LUN 0 is removed again.
    pub(super) fn find(&self, session: u32, lun: u64, limit: Duration) -> Result<Option<Disk>, Error> {
        let Some(host) = self.host(session) else { return Ok(None) };
        self.scan(host, Some(lun))?;
        let found = self.await_disk(session, lun, limit.min(Duration::from_secs(2)));
        if found.is_some() || !self.all_units(session).is_empty() {
            return Ok(found.or_else(|| self.await_disk(session, lun, limit)));
        }
        self.scan(host, Some(0))?;
        let helpers = self.all_units(session);
        self.scan(host, Some(lun))?;
        let found = self.await_disk(session, lun, limit);
        for unit in helpers {
            write(&unit.join("delete"), "1")?;
        }
        Ok(found)
    }

    /// Has the kernel look for one logical unit, or for all.
    pub(super) fn scan(&self, host: u32, lun: Option<u64>) -> Result<(), Error> {
        let path = self.root.join(format!("class/scsi_host/host{host}/scan"));
        let lun = lun.map_or_else(|| "-".to_owned(), |lun| in_kernel(lun).to_string());
        write(&path, &format!("- - {lun}"))
    }

    /// Waits until every logical unit that will have a block device has it: the kernel looks for units while it is told
    /// to, and makes disks of them afterwards.
    pub(super) fn settle(&self, session: u32, limit: Duration) {
        let end = Instant::now() + limit;
        // Disks, write-once and CD/DVD and optical memory devices, simple disks, zoned disks (SPC-5 6.7.2).
        let is_disk = |unit: &PathBuf| {
            let kind = self.word(&unit.join("type")).and_then(|kind| kind.parse::<u8>().ok());
            matches!(kind, Some(0x00 | 0x04 | 0x05 | 0x07 | 0x0e | 0x14))
        };
        let waits = || {
            let mut units = self.all_units(session).into_iter();
            units.any(|unit| is_disk(&unit) && entries(&unit.join("block")).is_empty())
        };
        while waits() && Instant::now() < end {
            std::thread::sleep(LOOK);
        }
    }

    /// Has the kernel ask a disk for its size and pages anew.
    pub(super) fn look(&self, session: u32, disk: &Disk) -> Result<(), Error> {
        let unit = self.units(session).into_iter().find(|unit| unit.ends_with(&disk.address));
        match unit {
            Some(unit) => write(&unit.join("rescan"), "1"),
            None => Err(Error::system(format!("{} is gone", disk.name), io::Error::from(io::ErrorKind::NotFound))),
        }
    }

    /// Has the kernel let go of a disk, with what its cache holds written.
    pub(super) fn remove(&self, session: u32, disk: &Disk) -> Result<(), Error> {
        match self.units(session).into_iter().find(|unit| unit.ends_with(&disk.address)) {
            Some(unit) => write(&unit.join("delete"), "1"),
            None => Ok(()),
        }
    }

    /// Bytes of a disk.
    pub(super) fn size(&self, disk: &Disk) -> Option<u64> {
        let sectors: u64 = self.word(&self.root.join("class/block").join(&disk.name).join("size"))?.parse().ok()?;
        sectors.checked_mul(512)
    }

    fn class(&self, session: u32) -> PathBuf {
        self.root.join(format!("class/iscsi_session/session{session}"))
    }

    /// The directories of the logical units that are disks: session/target3:0:0/3:0:0:1.
    fn units(&self, session: u32) -> Vec<PathBuf> {
        self.all_units(session).into_iter().filter(|unit| unit.join("block").is_dir()).collect()
    }

    fn all_units(&self, session: u32) -> Vec<PathBuf> {
        let named = |path: &Path, prefix: &str| {
            path.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.starts_with(prefix))
        };
        entries(&self.class(session).join("device"))
            .into_iter()
            .filter(|path| named(path, "target"))
            .flat_map(|target| entries(&target))
            .filter(|unit| unit.join("state").is_file())
            .collect()
    }

    fn word(&self, path: &Path) -> Option<String> {
        Some(fs::read_to_string(path).ok()?.trim().to_owned())
    }
}

/// The number by which the kernel knows a LUN: above 255 the address method (SAM-5 4.7.7.1, flat space) is part of it.
fn in_kernel(lun: u64) -> u64 {
    if (0x100..0x4000).contains(&lun) { lun | 0x4000 } else { lun }
}

/// Whether the kernel's number means this LUN.
pub(super) fn is_lun(kernels: u64, lun: u64) -> bool {
    kernels == lun || kernels == in_kernel(lun)
}

fn entries(directory: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(directory) else { return Vec::new() };
    entries.flatten().map(|entry| entry.path()).collect()
}

/// Writes by a child process: the kernel may wait with it for a target that is gone, and a process that waits there can
/// not even be killed. Ours must be able to end, so that the next one logs in again.
fn write(path: &Path, text: &str) -> Result<(), Error> {
    let what = || format!("{}: cannot write '{text}'", path.display());
    let mut child = std::process::Command::new("/bin/sh")
        .args(["-c", "printf %s \"$1\" >\"$0\""])
        .arg(path)
        .arg(text)
        .stdin(std::process::Stdio::null())
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .spawn()
        .map_err(|error| Error::system(what(), error))?;
    let end = Instant::now() + WRITE_LIMIT;
    loop {
        match child.try_wait().map_err(|error| Error::system(what(), error))? {
            Some(status) if status.success() => return Ok(()),
            Some(_) => return Err(Error::system(what(), io::Error::other("the kernel refuses it"))),
            None if Instant::now() >= end => return Err(Error::TimedOut(format!("{}: the kernel waits", what()))),
            None => std::thread::sleep(Duration::from_millis(2)),
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    /// A tree as the kernel makes it, with one session on host 3 that has the units 1 and 16640 (256).
    pub(in crate::kernel) fn tree(root: &Path, state: &str) {
        let session = root.join("devices/platform/host3/session9");
        let class = session.join("iscsi_session/session9");
        let connection = root.join("class/iscsi_connection/connection9:0");
        for directory in [&class, &connection, &root.join("class/iscsi_session"), &root.join("class/scsi_host/host3")] {
            fs::create_dir_all(directory).unwrap();
        }
        let _ = symlink(&class, root.join("class/iscsi_session/session9"));
        let _ = symlink(&session, class.join("device"));
        for (name, text) in [("state", state), ("targetname", "iqn.x:t"), ("tpgt", "1"), ("recovery_tmo", "120")] {
            fs::write(class.join(name), format!("{text}\n")).unwrap();
        }
        fs::write(connection.join("persistent_address"), "10.0.0.1\n").unwrap();
        fs::write(connection.join("persistent_port"), "3260\n").unwrap();
        fs::create_dir_all(root.join("class/iscsi_transport/tcp")).unwrap();
        fs::write(root.join("class/iscsi_transport/tcp/handle"), "18446744072101234567\n").unwrap();
        for (address, name) in [("3:0:0:16640", "sdc"), ("3:0:0:1", "sdb")] {
            let unit = session.join("target3:0:0").join(address);
            fs::create_dir_all(unit.join("block").join(name)).unwrap();
            fs::write(unit.join("state"), "running\n").unwrap();
        }
    }

    #[test]
    fn sessions_and_their_disks_are_found() {
        let directory = std::env::temp_dir().join(format!("lunette-sysfs-{}", std::process::id()));
        tree(&directory, "LOGGED_IN");
        let sysfs = Sysfs::at(&directory);
        assert_eq!(sysfs.transport(), Some(18_446_744_072_101_234_567));
        let all = sysfs.sessions();
        assert_eq!(all.len(), 1);
        let known = &all[0];
        assert_eq!((known.session, known.host, known.state.as_str()), (9, Some(3), "LOGGED_IN"));
        assert_eq!((known.target.as_str(), known.portal.as_str()), ("iqn.x:t", "10.0.0.1:3260"));
        assert_eq!((known.replacement_timeout, known.portal_group_tag), (Some(120), Some(1)));
        assert_eq!(known.connection_attributes.get("persistent_port").map(String::as_str), Some("3260"));
        assert!(known.others.is_empty());
        let names: Vec<&str> = known.disks.iter().map(|disk| disk.name.as_str()).collect();
        assert_eq!(names, ["sdb", "sdc"]);
        assert_eq!(sysfs.await_disk(9, 256, Duration::ZERO).unwrap().name, "sdc");
        assert_eq!(sysfs.await_disk(9, 2, Duration::ZERO), None);
        sysfs.scan(3, Some(256)).unwrap();
        let asked = fs::read_to_string(directory.join("class/scsi_host/host3/scan")).unwrap();
        assert_eq!(asked, "- - 16640");
        assert!(sysfs.session(8).is_none());
        fs::remove_dir_all(directory).unwrap();
    }
}
