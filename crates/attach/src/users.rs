//! Who uses a block device or a mount, as far as this process can see: for saying why it cannot go.

use std::fs;
use std::path::{Path, PathBuf};

/// The most users that are named.
const NAMED_MAX: usize = 8;

/// Who uses a disk (`loop0`, `nbd3`) or one of its partitions: mounts, what is stacked on it, swap, and
/// processes other than this one that have it open.
pub fn of_disk(disk: &str) -> Vec<String> {
    let folder = Path::new("/sys/block").join(disk);
    let mut names = vec![disk.to_string()];
    names.extend(entries(&folder).into_iter().filter(|name| name.starts_with(disk)));
    let mut users = Vec::new();
    for name in &names {
        let part = if name == disk { folder.clone() } else { folder.join(name) };
        users.extend(entries(&part.join("holders")).into_iter().map(|holder| format!("{holder} lies on it")));
        let number = fs::read_to_string(part.join("dev")).unwrap_or_default();
        users.extend(mounts_of(number.trim()).into_iter().map(|point| format!("mounted at {point}")));
        let swaps = fs::read_to_string("/proc/swaps").unwrap_or_default();
        if swaps.lines().any(|line| line.split_whitespace().next() == Some(&format!("/dev/{name}"))) {
            users.push("used as swap".into());
        }
    }
    let devices: Vec<PathBuf> = names.iter().map(|name| Path::new("/dev").join(name)).collect();
    users.extend(processes(|target| devices.iter().any(|device| device == target)));
    users.truncate(NAMED_MAX);
    users
}

/// Processes other than this one with a file open below a directory.
pub fn below(directory: &Path) -> Vec<String> {
    let mut users = processes(|target| target.starts_with(directory));
    // A mount may lie on a loop device over our file.
    users.extend(entries(Path::new("/sys/block")).into_iter().filter_map(|disk| {
        let backing = fs::read_to_string(format!("/sys/block/{disk}/loop/backing_file")).ok()?;
        Path::new(backing.trim_end()).starts_with(directory).then(|| format!("/dev/{disk} lies on it"))
    }));
    users.truncate(NAMED_MAX);
    users
}

fn mounts_of(number: &str) -> Vec<String> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let of_it = |line: &&str| !number.is_empty() && line.split(' ').nth(2) == Some(number);
    mounts.lines().filter(of_it).filter_map(|line| line.split(' ').nth(4)).map(unescape).collect()
}

/// The kernel writes blanks in paths of mount tables as `\040` and the like.
pub(crate) fn unescape(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, behind)) = rest.split_first() {
        let octal = behind.get(..3).and_then(|digits| std::str::from_utf8(digits).ok());
        match octal.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) if first == b'\\' => {
                bytes.push(byte);
                rest = behind.get(3..).unwrap_or_default();
            }
            _ => {
                bytes.push(first);
                rest = behind;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn processes(uses: impl Fn(&Path) -> bool) -> Vec<String> {
    let own = std::process::id().to_string();
    let mut users = Vec::new();
    for process in entries(Path::new("/proc")) {
        if process == own || !process.bytes().all(|byte| byte.is_ascii_digit()) {
            continue;
        }
        let Ok(open) = fs::read_dir(format!("/proc/{process}/fd")) else { continue };
        let found = open.filter_map(|entry| fs::read_link(entry.ok()?.path()).ok()).any(|target| uses(&target));
        if found {
            let name = fs::read_to_string(format!("/proc/{process}/comm")).unwrap_or_default();
            users.push(format!("open in {} (process {process})", name.trim()));
        }
        if users.len() >= NAMED_MAX {
            break;
        }
    }
    users
}

fn entries(folder: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let mut names: Vec<String> = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect();
    names.sort();
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_of_mount_tables_are_read_as_they_were_meant() {
        assert_eq!(unescape(r"/mnt/a\040b\134c"), r"/mnt/a b\c");
        assert_eq!(unescape(r"/mnt/odd\04"), r"/mnt/odd\04");
    }

    #[test]
    fn a_process_with_a_file_open_is_named() {
        let folder = std::env::temp_dir().join(format!("lunette-users-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let file = folder.join("held");
        fs::write(&file, b"x").unwrap();
        assert!(below(&folder).is_empty());
        let mut child =
            std::process::Command::new("sleep").arg("60").stdin(fs::File::open(&file).unwrap()).spawn().unwrap();
        let users = below(&folder);
        child.kill().unwrap();
        child.wait().unwrap();
        fs::remove_dir_all(&folder).unwrap();
        assert_eq!(users.len(), 1, "{users:?}");
        assert!(users[0].contains(&child.id().to_string()));
    }
}
