//! The stable name of an attached disk, by its portal, target and LUN, as udev names the disks of the kernel's own
//! initiator: `ip-HOST:PORT-iscsi-TARGET-lun-N`.
//!
//! The link lies under `by-path` in the state directory, and for root in /dev/disk/by-path as well.

use std::fs;
use std::path::{Path, PathBuf};

/// Where udev has its links.
const SYSTEM: &str = "/dev/disk/by-path";

/// The link's name. Nothing in it leaves its directory.
pub fn name(portal: &str, target: &str, lun: u64) -> String {
    format!("ip-{portal}-iscsi-{target}-lun-{lun}").replace('/', "%2f")
}

/// Makes the links to a device, and tells which. That one cannot be made is no failure.
pub fn make(state: &Path, name: &str, device: &Path, system: bool) -> Vec<PathBuf> {
    let mut folders = vec![state.join("by-path")];
    // A link in /dev is for devices, and belongs to everybody.
    if system && device.starts_with("/dev") && rustix::process::geteuid().is_root() {
        folders.push(PathBuf::from(SYSTEM));
    }
    let made = |folder: PathBuf| {
        let link = folder.join(name);
        fs::create_dir_all(&folder).ok()?;
        // udev, or another state directory's session, has it for a device that is there.
        let foreign = fs::canonicalize(&link).is_ok_and(|at| at != device) && folder == Path::new(SYSTEM);
        if foreign {
            return None;
        }
        let new = folder.join(format!(".{name}.{}", std::process::id()));
        std::os::unix::fs::symlink(device, &new).ok()?;
        fs::rename(&new, &link).ok()?;
        Some(link)
    };
    folders.into_iter().filter_map(made).collect()
}

/// Takes links away that lead to this device.
pub fn remove(links: &[PathBuf], device: &Path) {
    for link in links.iter().filter(|link| fs::read_link(link).is_ok_and(|at| at == device)) {
        let _ = fs::remove_file(link);
        // The directory goes when nothing is left in it.
        let _ = link.parent().map(fs::remove_dir);
        if link.starts_with(SYSTEM) {
            let _ = fs::remove_dir("/dev/disk");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_leads_to_its_device_and_goes_with_it_unless_it_leads_elsewhere_by_then() {
        let folder = sim::daemon::Folder::new();
        let name = name("[::1]:3260", "iqn.a:../x", 7);
        assert_eq!(name, "ip-[::1]:3260-iscsi-iqn.a:..%2fx-lun-7");
        let device = folder.path().join("device");
        let links = make(folder.path(), &name, &device, false);
        assert_eq!(links, [folder.path().join("by-path").join(&name)]);
        assert_eq!(fs::read_link(&links[0]).unwrap(), device);
        // Attached again in another way before the old one has cleaned up.
        let other = folder.path().join("other");
        assert_eq!(make(folder.path(), &name, &other, false), links);
        remove(&links, &device);
        assert_eq!(fs::read_link(&links[0]).unwrap(), other);
        remove(&links, &other);
        assert!(!folder.path().join("by-path").exists());
    }
}
