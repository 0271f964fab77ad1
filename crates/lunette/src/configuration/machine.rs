//! What only this machine knows: whether files are there and may be used, whether addresses are its own. Nothing is
//! opened or made by looking.

use super::disk::{self, Disk};
use super::finding::Findings;
use crate::remote;
use lun::DeviceType;
use rustix::fs::Access;
use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};

/// Something to look at, of which a place of the file speaks.
#[derive(Debug, Clone)]
pub enum Look {
    /// The store of a disk.
    Store(Box<Disk>),
    /// An address to listen on.
    Address(SocketAddr),
    /// A file that must be there to be read.
    File(PathBuf),
    /// A directory that is made where it is not there.
    Directory(PathBuf),
}

/// Looks at everything, and reports what would keep the daemon from serving it (errors), or might (warnings: it may
/// run as another user, and addresses come and go).
pub fn look(findings: &Findings<'_>) {
    for (at, look) in findings.looks() {
        let found = match &look {
            Look::Store(disk) => store(disk),
            Look::Address(address) => own_address(address.ip()),
            Look::File(path) => file(path),
            Look::Directory(path) => directory(path),
        };
        match found {
            Ok(()) => {}
            Err(Trouble::Certain(what, help)) => findings.error(at, what, help),
            Err(Trouble::Perhaps(what, help)) => findings.warn(at, what, help),
        }
    }
}

/// What is wrong, and what would mend it.
enum Trouble {
    /// It cannot be served.
    Certain(String, String),
    /// It depends on who serves it, and when.
    Perhaps(String, String),
}

fn certain(what: impl Into<String>, help: impl Into<String>) -> Result<(), Trouble> {
    Err(Trouble::Certain(what.into(), help.into()))
}

fn perhaps(what: impl Into<String>, help: impl Into<String>) -> Result<(), Trouble> {
    Err(Trouble::Perhaps(what.into(), help.into()))
}

fn store(disk: &Disk) -> Result<(), Trouble> {
    let optical = disk.device_type == DeviceType::Optical;
    if disk.address.is_empty() || remote::is_remote(&disk.address) || disk::is_memory(&disk.address) {
        return Ok(());
    }
    let address = if optical { stores::take_options(&disk.address, &["ro"]).0 } else { disk.address.clone() };
    // What is wrong with the address itself was told.
    let Ok(address) = stores::Address::parse(&address) else { return Ok(()) };
    let (place, read_only) = (&address.place, optical || address.has("ro"));
    let path = Path::new(place);
    match std::fs::metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound && optical => {
            perhaps(format!("{place} does not exist: the drive is empty"), "it is looked for again and again")
        }
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
            if !parent.is_dir() {
                let help = format!("mkdir -p {}", parent.display());
                return certain(format!("its directory {} does not exist", parent.display()), help);
            }
            if read_only {
                return certain(format!("{place} does not exist"), "with ro it must; leave out ro to create it");
            }
            match disk.size {
                None => certain(format!("{place} does not exist"), "add size = \"10G\" to create it"),
                Some(_) => may(parent, Access::WRITE_OK, "make files in"),
            }
        }
        Err(error) if error.kind() == ErrorKind::PermissionDenied => {
            perhaps(format!("{place}: {error}"), "this user may not look at it; the daemon may be another one")
        }
        Err(error) => certain(format!("{place}: {error}"), ""),
        Ok(facts) if facts.is_dir() => {
            certain(format!("{place} is a directory"), format!("name a file in it: {place}/disk.img"))
        }
        Ok(_) if read_only => may(path, Access::READ_OK, "read"),
        Ok(facts) => {
            if facts.is_file() && facts.len() == 0 && disk.size.is_none() {
                return certain(format!("{place} is empty"), "add size = \"10G\" to give it a size");
            }
            may(path, Access::READ_OK | Access::WRITE_OK, "read and write")
        }
    }
}

/// Whether this user may do that.
fn may(path: &Path, access: Access, what: &str) -> Result<(), Trouble> {
    match rustix::fs::access(path, access) {
        Ok(()) => Ok(()),
        Err(_) => {
            let what = format!("this user may not {what} {}", path.display());
            perhaps(what, "whoever runs the daemon must be allowed to")
        }
    }
}

/// Whether it is an address of this machine: a datagram socket at it sends nothing and takes no port that anybody
/// wants.
fn own_address(address: IpAddr) -> Result<(), Trouble> {
    match UdpSocket::bind((address, 0)) {
        Err(error) if error.kind() == ErrorKind::AddrNotAvailable => {
            perhaps(format!("this machine has no address {address} now"), "see: ip address")
        }
        _ => Ok(()),
    }
}

fn file(path: &Path) -> Result<(), Trouble> {
    match std::fs::metadata(path) {
        Ok(facts) if facts.is_file() => may(path, Access::READ_OK, "read"),
        Ok(_) => certain(format!("{} is no file", path.display()), ""),
        Err(error) => certain(format!("{}: {error}", path.display()), "make it, or take this line out"),
    }
}

fn directory(path: &Path) -> Result<(), Trouble> {
    match std::fs::metadata(path) {
        Ok(facts) if facts.is_dir() => may(path, Access::READ_OK | Access::WRITE_OK, "use"),
        Ok(_) => certain(format!("{} is no directory", path.display()), ""),
        // It is made with all that leads there.
        Err(error) if error.kind() == ErrorKind::NotFound => {
            match path.ancestors().skip(1).find(|above| above.is_dir()) {
                Some(above) => may(above, Access::WRITE_OK, "make directories in"),
                None => Ok(()),
            }
        }
        Err(error) => perhaps(format!("{}: {error}", path.display()), ""),
    }
}
