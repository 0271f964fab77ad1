//! Mounting and unmounting: by the system call where we may, by fusermount3 where we may not.

use crate::{Error, Unusable};
use rustix::fd::{AsFd, AsRawFd, OwnedFd};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{MountFlags, UnmountFlags};
use rustix::net::{AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SocketFlags, SocketType};
use std::io::IoSliceMut;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

const DEVICE: &str = "/dev/fuse";
const HELPER: &str = "fusermount3";

/// Why nothing can be mounted here, if so.
pub fn probe() -> Result<(), Unusable> {
    match open() {
        Ok(_) => {}
        Err(Errno::NOENT | Errno::NXIO | Errno::NODEV) => {
            return Err(Unusable(format!(
                "the kernel has no FUSE ({DEVICE} is missing): load it with `modprobe fuse`, or give the container \
                 the device"
            )));
        }
        Err(Errno::ACCESS | Errno::PERM) => {
            return Err(Unusable(format!("{DEVICE} may not be opened: run as root or be let into its group")));
        }
        Err(error) => return Err(Unusable(format!("{DEVICE} cannot be opened: {error}"))),
    }
    if rustix::process::geteuid().is_root() || helper().is_some() {
        return Ok(());
    }
    Err(Unusable(format!("only root may mount, and {HELPER} is not there: install fuse3, or run as root")))
}

/// A connection with the kernel that is mounted at this directory.
pub fn mount(at: &Path, name: &str, read_only: bool) -> Result<OwnedFd, Error> {
    let device = open().map_err(|error| Error::system(format!("{DEVICE} cannot be opened"), error))?;
    let (user, group) = (rustix::process::geteuid(), rustix::process::getegid());
    let options = format!(
        "fd={},rootmode=40000,user_id={},group_id={},default_permissions",
        device.as_raw_fd(),
        user.as_raw(),
        group.as_raw()
    );
    let mut flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC | MountFlags::NOATIME;
    if read_only {
        flags |= MountFlags::RDONLY;
    }
    // Whoever may mount may also decide that the file's permissions are all that keeps others out.
    let data = std::ffi::CString::new(format!("{options},allow_other")).unwrap_or_default();
    match rustix::mount::mount(name, at, "fuse.lunette", flags, Some(data.as_c_str())) {
        Ok(()) => Ok(device),
        Err(Errno::PERM) => by_helper(at, name, read_only),
        Err(error) => Err(Error::system(format!("FUSE cannot be mounted at {}", at.display()), error)),
    }
}

/// Another descriptor of the same connection, so that threads do not wait for each other.
pub fn clone(device: &OwnedFd) -> Result<OwnedFd, Error> {
    let other = open().map_err(|error| Error::system(format!("{DEVICE} cannot be opened"), error))?;
    super::ioctl::clone(&other, device).map_err(|error| Error::system(format!("{DEVICE} cannot be cloned"), error))?;
    Ok(other)
}

/// How to unmount.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unmount {
    /// Only when nobody uses it.
    WhenUnused,
    /// Out of sight now; the rest when nobody uses it any more.
    Lazily,
}

/// Takes the mount away. What is not mounted is no error.
pub fn unmount(at: &Path, how: Unmount) -> Result<(), Errno> {
    let flags = UnmountFlags::NOFOLLOW
        | match how {
            Unmount::WhenUnused => UnmountFlags::empty(),
            Unmount::Lazily => UnmountFlags::DETACH,
        };
    match rustix::mount::unmount(at, flags) {
        Ok(()) | Err(Errno::INVAL | Errno::NOENT) => Ok(()),
        Err(Errno::PERM) => {
            let Some(helper) = helper() else { return Err(Errno::PERM) };
            let arguments: &[&str] = if how == Unmount::Lazily { &["-u", "-q", "-z"] } else { &["-u", "-q"] };
            let status = Command::new(helper).args(arguments).arg("--").arg(at).stdin(Stdio::null()).status();
            match status {
                Ok(status) if status.success() => Ok(()),
                _ if !is_mounted(at) => Ok(()),
                _ => Err(Errno::BUSY),
            }
        }
        Err(error) => Err(error),
    }
}

/// Whether something is mounted at exactly this directory, in our view.
pub fn is_mounted(at: &Path) -> bool {
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    mounts
        .lines()
        .filter_map(|line| line.split(' ').nth(4))
        .any(|point| Path::new(&crate::users::unescape(point)) == at)
}

fn open() -> Result<OwnedFd, Errno> {
    rustix::fs::open(DEVICE, OFlags::RDWR | OFlags::CLOEXEC | OFlags::NONBLOCK, Mode::empty())
}

fn helper() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_else(|| "/usr/bin:/bin".into());
    std::env::split_paths(&path).map(|folder| folder.join(HELPER)).find(|file| file.is_file())
}

/// The set-user-id helper mounts for us and hands the descriptor over through a socket, which it is told
/// the number of: here its standard input.
fn by_helper(at: &Path, name: &str, read_only: bool) -> Result<OwnedFd, Error> {
    let Some(helper) = helper() else {
        return Err(Unusable(format!("only root may mount, and {HELPER} is not there: install fuse3")).into());
    };
    let pair = rustix::net::socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None);
    let (ours, theirs) = pair.map_err(|error| Error::system("no socket can be had", error))?;
    let name: String = name.chars().filter(|c| !matches!(c, ',' | '\\')).collect();
    let access = if read_only { "ro" } else { "rw" };
    let output = Command::new(&helper)
        .args(["-o", &format!("{access},nosuid,nodev,fsname={name},subtype=lunette,default_permissions"), "--"])
        .arg(at)
        .env("_FUSE_COMMFD", "0")
        .stdin(Stdio::from(theirs))
        .output()
        .map_err(|error| Error::system(format!("{} cannot be run", helper.display()), error))?;
    if !output.status.success() {
        let why = String::from_utf8_lossy(&output.stderr).trim().to_string();
        return Err(Unusable(format!("{HELPER} does not mount at {}: {why}", at.display())).into());
    }
    let device = receive(&ours).map_err(|error| Error::system(format!("{HELPER} gave no descriptor"), error))?;
    rustix::io::ioctl_fionbio(&device, true).map_err(|error| Error::system(DEVICE, error))?;
    rustix::io::fcntl_setfd(&device, rustix::io::FdFlags::CLOEXEC).map_err(|error| Error::system(DEVICE, error))?;
    Ok(device)
}

fn receive(socket: &OwnedFd) -> Result<OwnedFd, Errno> {
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0u8; 4];
    rustix::net::recvmsg(
        socket.as_fd(),
        &mut [IoSliceMut::new(&mut byte)],
        &mut control,
        RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT,
    )?;
    control
        .drain()
        .find_map(|message| match message {
            RecvAncillaryMessage::ScmRights(mut descriptors) => descriptors.next(),
            _ => None,
        })
        .ok_or(Errno::BADF)
}
