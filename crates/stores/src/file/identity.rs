//! What a file or device is called by itself: a name that stays with it when its path changes.
//!
//! A file carries 16 random bytes in the extended attribute `user.lunette.uuid`, written the first time
//! that it is served for writing. A device has what its driver tells. Where neither is to be had the
//! path has to do.

use super::facts::Nature;
use crate::host;
use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

const ATTRIBUTE: &str = "user.lunette.uuid";

/// The file's or device's own name. Equal texts are the same disk.
pub(super) fn identity(file: &File, nature: Nature, path: &str, read_only: bool) -> String {
    let own = match nature {
        Nature::File => attribute(file, read_only),
        Nature::Device => device(file),
    };
    own.unwrap_or_else(|| {
        let path = host::canonicalize(path).unwrap_or_else(|_| path.into());
        format!("path:{}", path.display())
    })
}

fn attribute(file: &File, read_only: bool) -> Option<String> {
    if let Ok(found) = host::host().attribute(file, ATTRIBUTE) {
        let text = std::str::from_utf8(&found).ok()?;
        return (text.len() == 32 && text.bytes().all(|digit| digit.is_ascii_hexdigit()))
            .then(|| format!("uuid:{text}"));
    }
    if read_only {
        return None;
    }
    let mut random = [0; 16];
    getrandom::fill(&mut random).ok()?;
    let text: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
    // Another process cannot have written it meanwhile: the file is locked.
    host::host().set_attribute(file, ATTRIBUTE, Some(text.as_bytes()), true).ok()?;
    Some(format!("uuid:{text}"))
}

fn device(file: &File) -> Option<String> {
    let number = file.metadata().ok()?.rdev();
    let (major, minor) = (rustix::fs::major(number), rustix::fs::minor(number));
    let folder = Path::new("/sys/dev/block").join(format!("{major}:{minor}"));
    // A partition says its own UUID; its disk's name would be the same for all of them.
    let places: &[&str] = match folder.join("partition").exists() {
        true => return partition(&folder),
        false => &["dm/uuid", "md/uuid", "wwid", "device/wwid", "device/serial", "serial"],
    };
    places.iter().find_map(|place| {
        let text = std::fs::read_to_string(folder.join(place)).ok()?;
        let text = text.trim();
        (!text.is_empty()).then(|| format!("{place}:{text}"))
    })
}

fn partition(folder: &Path) -> Option<String> {
    let events = std::fs::read_to_string(folder.join("uevent")).ok()?;
    let uuid = events.lines().find_map(|line| line.strip_prefix("PARTUUID="))?;
    Some(format!("partition:{uuid}"))
}
