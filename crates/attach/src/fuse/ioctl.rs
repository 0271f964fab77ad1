//! The one request of /dev/fuse that is not read or written.

use rustix::fd::{AsRawFd, OwnedFd};
use rustix::io::Errno;
use rustix::ioctl::{Setter, ioctl, opcode};

/// `FUSE_DEV_IOC_CLONE`: makes a fresh descriptor of /dev/fuse one more of a mounted connection.
pub(super) fn clone(fresh: &OwnedFd, mounted: &OwnedFd) -> Result<(), Errno> {
    const CLONE: rustix::ioctl::Opcode = opcode::read::<u32>(229, 0);
    let number = u32::try_from(mounted.as_raw_fd()).map_err(|_| Errno::BADF)?;
    // SAFETY: the request reads one u32, which lives until it returns, and changes only what `fresh` stands
    // for. The number is that of a descriptor that is borrowed for as long.
    unsafe { ioctl(fresh, Setter::<CLONE, u32>::new(number)) }
}
