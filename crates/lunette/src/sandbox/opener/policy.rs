//! What the opener opens, and what it does not, whoever asks: a daemon that was taken over asks as nicely as any.

use std::fs::{File, Metadata};
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use stores::host::How;

/// The system's own files, none of which is a disk. What the configuration named at the start is opened all the
/// same, and so is what lies beside the configuration file.
const SYSTEM: &[&str] = &[
    "/bin",
    "/boot",
    "/etc",
    "/lib",
    "/lib32",
    "/lib64",
    "/libx32",
    "/proc",
    "/root/.ssh",
    "/sbin",
    "/sys",
    "/usr",
    "/var/lib/dpkg",
    "/var/lib/rpm",
    "/var/spool/cron",
];

/// The end of the name of what is to take a file's place.
pub const FRESH: &str = "new";

/// Directories too wide to be meant by a file that lies in them.
const WIDE: &[&str] = &["/", "/etc", "/usr", "/var", "/home", "/root", "/tmp", "/srv", "/usr/local/etc"];

/// What may be opened.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Policy {
    /// Only below these, where there are any; beside what is named.
    pub allow: Vec<PathBuf>,
    /// Named at the start: these files, or what lies in these directories.
    pub named: Vec<PathBuf>,
    /// The configuration file, which the daemon may replace.
    pub configuration: Option<PathBuf>,
}

impl Policy {
    /// For the command line of the opener's process: `allow` and `named` and the configuration.
    pub fn words(&self) -> Vec<std::ffi::OsString> {
        let mut words = Vec::new();
        let mut add = |kind: &str, path: &Path| words.extend([kind.into(), path.into()]);
        self.allow.iter().for_each(|path| add("allow", path));
        self.named.iter().for_each(|path| add("named", path));
        self.configuration.iter().for_each(|path| add("configuration", path));
        words
    }

    /// What [`Policy::words`] wrote.
    pub fn from_words(words: &[std::ffi::OsString]) -> Policy {
        let mut policy = Policy::default();
        for pair in words.chunks_exact(2) {
            let [kind, path] = pair else { continue };
            let path = PathBuf::from(path);
            match kind.to_str() {
                Some("allow") => policy.allow.push(path),
                Some("named") => policy.named.push(path),
                Some("configuration") => policy.configuration = Some(path),
                _ => {}
            }
        }
        policy
    }

    /// Whether a directory is somebody's own, so that what lies in it belongs to what else lies there.
    pub fn is_narrow(directory: &Path) -> bool {
        !WIDE.iter().any(|wide| Path::new(wide) == directory)
    }

    /// Whether a path, as it was said or without its links, was named at the start.
    fn is_named(&self, path: &Path) -> bool {
        let beside = self.configuration.as_deref().and_then(Path::parent);
        let beside = beside.filter(|directory| Policy::is_narrow(directory));
        self.named.iter().any(|named| path.starts_with(named))
            || beside.is_some_and(|directory| path.starts_with(directory))
            || self
                .configuration
                .as_deref()
                .is_some_and(|file| file == path || file.with_added_extension(FRESH) == path)
    }

    /// Whether a name may be used. `real` is the path without its links; `said` what was asked for.
    pub fn place(&self, said: &Path, real: &Path) -> Result<(), String> {
        // Where the configuration says a link, it says what is behind it as well.
        let climbs = said.components().any(|part| part == std::path::Component::ParentDir);
        if self.is_named(real) || (!climbs && self.is_named(said)) {
            return Ok(());
        }
        if !self.allow.is_empty() {
            let allowed = self.allow.iter().any(|allowed| real.starts_with(allowed));
            let list: Vec<_> = self.allow.iter().map(|path| path.display().to_string()).collect();
            return match allowed {
                true => Ok(()),
                false => Err(format!(
                    "the sandbox opens nothing there while the daemon runs, only in {}; see [sandbox] allow",
                    list.join(", ")
                )),
            };
        }
        match SYSTEM.iter().find(|system| real.starts_with(system)) {
            None => Ok(()),
            Some(system) => Err(format!(
                "the sandbox opens nothing in {system} while the daemon runs; name the directory in [sandbox] allow, \
                 or restart the daemon with it"
            )),
        }
    }

    /// Whether an open file may be handed out: what it is, and where it really lies.
    pub fn file(&self, said: &Path, file: &File, how: How) -> Result<(), String> {
        let real = real(file).map_err(|error| error.to_string())?;
        let kind = file.metadata().map_err(|error| error.to_string())?;
        let looks = !how.read && !how.write;
        if looks {
            return Ok(());
        }
        if !is_disk(&kind) {
            return Err("is neither a file nor a block device".to_owned());
        }
        self.place(said, &real)
    }
}

/// Where an open file lies, without links.
pub fn real(file: &File) -> std::io::Result<PathBuf> {
    std::fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd()))
}

/// Whether a store can be made of it.
pub fn is_disk(kind: &Metadata) -> bool {
    kind.is_file() || kind.file_type().is_block_device()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn may(policy: &Policy, path: &str) -> bool {
        policy.place(Path::new(path), Path::new(path)).is_ok()
    }

    #[test]
    fn disks_are_opened_anywhere_but_among_the_systems_own_files() {
        let policy = Policy::default();
        for path in ["/srv/a.img", "/dev/vdb", "/home/me/disk", "/root/disk", "/etcetera/a", "/var/lib/lunette/a"] {
            assert!(may(&policy, path), "{path}");
        }
        for path in ["/etc/shadow", "/usr/bin/su", "/proc/1/mem", "/sys/x", "/boot/vmlinuz", "/root/.ssh/id_rsa"] {
            assert!(!may(&policy, path), "{path}");
        }
    }

    #[test]
    fn what_the_configuration_names_or_has_beside_it_is_opened_and_nothing_more_for_it() {
        let policy = Policy {
            allow: vec!["/srv/disks".into()],
            named: vec!["/usr/share/cd.iso".into()],
            configuration: Some("/etc/lunette/lunette.toml".into()),
        };
        for path in ["/usr/share/cd.iso", "/etc/lunette/secret", "/srv/disks/a", "/srv/disks/b/c"] {
            assert!(may(&policy, path), "{path}");
        }
        for path in ["/usr/share/other.iso", "/etc/shadow", "/srv/a", "/srv/disks2", "/dev/vdb"] {
            assert!(!may(&policy, path), "{path}");
        }
        assert_eq!(Policy::from_words(&policy.words()), policy);
        let wide = Policy { configuration: Some("/etc/lunette.toml".into()), ..Policy::default() };
        assert!(may(&wide, "/etc/lunette.toml") && may(&wide, "/etc/lunette.toml.new"));
        assert!(!may(&wide, "/etc/shadow"));
        let link = |said: &str, real: &str| policy.place(Path::new(said), Path::new(real)).is_ok();
        assert!(link("/usr/share/cd.iso", "/usr/lib/real.iso"), "a link that the configuration named");
        assert!(!link("/srv/disks/link", "/etc/shadow"), "a link that it did not");
        assert!(!link("/etc/lunette/../shadow", "/etc/shadow"), "a way out");
    }
}
