//! How files of this machine are opened and renamed: by this process itself, or for it by another one.
//!
//! A process in a sandbox cannot open what its configuration names later. So whatever stores need of the file
//! system by a name, or with the rights of who may open a file, goes through the [`Host`] of the process:
//! [`Direct`] unless [`delegate`] has set another one. Reading, writing and sizing an open file needs none of it.

use rustix::fs::{OFlags, XattrFlags};
use std::fs::{File, Metadata, OpenOptions};
use std::io::{Error, ErrorKind, Read, Result};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// The longest value of an extended attribute that is read, in bytes.
const MAXIMUM_ATTRIBUTE: usize = 256;

/// In which way a file is opened. Nothing is read or written, unless it says so.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct How {
    /// For reading.
    pub read: bool,
    /// For writing.
    pub write: bool,
    /// It must not be there, and is made for its owner alone (mode 0600).
    pub create: bool,
    /// Nobody else may have it: a block device that is not mounted and no part of an array (O_EXCL).
    pub exclusive: bool,
    /// Past the page cache (O_DIRECT).
    pub direct: bool,
}

impl How {
    /// For reading.
    pub const READ: How = How { read: true, write: false, create: false, exclusive: false, direct: false };
    /// For reading and writing.
    pub const WRITE: How = How { write: true, ..How::READ };
    /// Only to look at what it is, which needs no right to read it (O_PATH).
    pub const LOOK: How = How { read: false, ..How::READ };

    /// To read, and unless it is only to be read, to write.
    pub fn of(read_only: bool) -> How {
        if read_only { How::READ } else { How::WRITE }
    }

    fn options(self) -> OpenOptions {
        let mut flags = OFlags::empty();
        flags.set(OFlags::EXCL, self.exclusive);
        flags.set(OFlags::DIRECT, self.direct);
        flags.set(OFlags::PATH, !self.read && !self.write);
        let mut options = OpenOptions::new();
        options.read(self.read || !self.write).write(self.write).create_new(self.create).mode(0o600);
        options.custom_flags(flags.bits().cast_signed());
        options
    }
}

/// What stores need of the file system beside open files.
pub trait Host: Send + Sync {
    /// Opens a file.
    fn open(&self, path: &Path, how: How) -> Result<File>;
    /// Opens once more the file that is open, whatever its name has become, with no more rights than before.
    fn reopen(&self, file: &File, how: How) -> Result<File>;
    /// Makes a file for reading and writing that must not be there, with owner and permissions of another one: what is
    /// to take that one's place.
    fn create_like(&self, path: &Path, other: &Path) -> Result<File>;
    /// Takes away a file that this process has made.
    fn remove(&self, path: &Path) -> Result<()>;
    /// Gives a file that this process has made another name in the same directory, in place of what has it.
    fn rename(&self, from: &Path, to: &Path) -> Result<()>;
    /// Makes the names of a directory stable.
    fn sync_directory(&self, path: &Path) -> Result<()>;
    /// An extended attribute of an open file.
    fn attribute(&self, file: &File, name: &str) -> Result<Vec<u8>>;
    /// Sets one, or where there is no value takes it away. `new`: it must not be there.
    fn set_attribute(&self, file: &File, name: &str, value: Option<&[u8]>, new: bool) -> Result<()>;
}

/// This process does it itself.
#[derive(Debug, Clone, Copy, Default)]
pub struct Direct;

impl Host for Direct {
    fn open(&self, path: &Path, how: How) -> Result<File> {
        how.options().open(path)
    }

    fn reopen(&self, file: &File, how: How) -> Result<File> {
        how.options().open(format!("/proc/self/fd/{}", file.as_raw_fd()))
    }

    fn create_like(&self, path: &Path, other: &Path) -> Result<File> {
        let like = std::fs::metadata(other)?;
        let file = self.open(path, How { create: true, ..How::WRITE })?;
        let alike = || -> Result<()> {
            let own = file.metadata()?;
            if (own.uid(), own.gid()) != (like.uid(), like.gid()) {
                // Who may not give it away keeps it, and nobody else may read it by that.
                if fchown(&file, Some(like.uid()), Some(like.gid())).is_err() {
                    return Ok(());
                }
            }
            file.set_permissions(std::fs::Permissions::from_mode(like.mode() & 0o7777))
        };
        alike().inspect_err(|_| {
            let _ = self.remove(path);
        })?;
        Ok(file)
    }

    fn remove(&self, path: &Path) -> Result<()> {
        std::fs::remove_file(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<()> {
        std::fs::rename(from, to)
    }

    fn sync_directory(&self, path: &Path) -> Result<()> {
        File::open(path)?.sync_all()
    }

    fn attribute(&self, file: &File, name: &str) -> Result<Vec<u8>> {
        let mut found = [0; MAXIMUM_ATTRIBUTE];
        let length = rustix::fs::fgetxattr(file, name, &mut found[..])?;
        Ok(found.get(..length).unwrap_or_default().to_vec())
    }

    fn set_attribute(&self, file: &File, name: &str, value: Option<&[u8]>, new: bool) -> Result<()> {
        let flags = if new { XattrFlags::CREATE } else { XattrFlags::empty() };
        match value {
            Some(value) => rustix::fs::fsetxattr(file, name, value, flags)?,
            None => rustix::fs::fremovexattr(file, name)?,
        }
        Ok(())
    }
}

static HOST: OnceLock<Box<dyn Host>> = OnceLock::new();

/// From now on and for good, this one does it. False: there is one already.
pub fn delegate(host: Box<dyn Host>) -> bool {
    HOST.set(host).is_ok()
}

/// Who does it.
pub fn host() -> &'static dyn Host {
    HOST.get().map_or(&Direct, |host| &**host)
}

/// What lies at a path, where links lead; no right to read it is needed.
pub fn metadata(path: impl AsRef<Path>) -> Result<Metadata> {
    host().open(path.as_ref(), How::LOOK)?.metadata()
}

/// The path without links in it.
pub fn canonicalize(path: impl AsRef<Path>) -> Result<PathBuf> {
    let file = host().open(path.as_ref(), How::LOOK)?;
    std::fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd()))
}

/// A text file as a whole, at most so many bytes of it.
pub fn read_to_string(path: impl AsRef<Path>, most: u64) -> Result<String> {
    let mut text = String::new();
    let file = host().open(path.as_ref(), How::READ)?;
    if file.take(most + 1).read_to_string(&mut text)? as u64 > most {
        return Err(Error::new(ErrorKind::FileTooLarge, format!("is longer than {most} bytes")));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn looking_needs_no_right_to_read_and_a_new_file_is_its_owners_alone() {
        let folder = std::env::temp_dir().join(format!("lunette-host-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let path = folder.join("a");
        let made = Direct.open(&path, How { create: true, ..How::WRITE }).unwrap();
        assert_eq!(made.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(
            Direct.open(&path, How { create: true, ..How::WRITE }).unwrap_err().kind(),
            ErrorKind::AlreadyExists
        );
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
        let like = Direct.create_like(&folder.join("a.new"), &path).unwrap();
        assert_eq!(like.metadata().unwrap().permissions().mode() & 0o777, 0o640);
        std::fs::write(&path, "some text").unwrap();
        assert_eq!(metadata(&path).unwrap().len(), 9);
        assert_eq!(read_to_string(&path, 9).unwrap(), "some text");
        assert_eq!(read_to_string(&path, 8).unwrap_err().kind(), ErrorKind::FileTooLarge);
        std::os::unix::fs::symlink("a", folder.join("link")).unwrap();
        let found = canonicalize(folder.join("link"));
        std::fs::rename(&path, folder.join("b")).unwrap();
        let mut again = String::new();
        Direct.reopen(&made, How::READ).unwrap().read_to_string(&mut again).unwrap();
        let _ = std::fs::remove_dir_all(&folder);
        assert!(found.unwrap().ends_with("a"));
        assert_eq!(again, "some text", "the open file is meant, not its name");
    }
}
