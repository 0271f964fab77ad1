//! The requests of /dev/loop-control and /dev/loopN that are used, with the kernel's layouts.

use rustix::fd::{AsFd, AsRawFd, BorrowedFd};
use rustix::io::Errno;
use rustix::ioctl::{Ioctl, IoctlOutput, NoArg, Opcode, ioctl};
use std::ffi::c_void;
use zerocopy::{FromZeros, Immutable, IntoBytes};

const SET_CAPACITY: Opcode = 0x4C07;
const CONFIGURE: Opcode = 0x4C0A;
const GET_FREE: Opcode = 0x4C82;

/// Writes are refused.
pub(super) const READ_ONLY: u32 = 1;
/// The device is cleared when nobody has it open any more.
pub(super) const AUTOCLEAR: u32 = 4;
/// Partitions are looked for.
pub(super) const PARTSCAN: u32 = 8;
/// The page cache of the file is bypassed.
pub(super) const DIRECT_IO: u32 = 16;

#[derive(FromZeros, IntoBytes, Immutable)]
#[repr(C)]
struct Info {
    places: [u64; 5],
    number: u32,
    encryption: [u32; 2],
    flags: u32,
    file_name: [u8; 64],
    crypt_name: [u8; 64],
    key: [u8; 32],
    init: [u64; 2],
}

#[derive(FromZeros, IntoBytes, Immutable)]
#[repr(C)]
struct Configuration {
    descriptor: u32,
    block_bytes: u32,
    info: Info,
    reserved: [u64; 8],
}

/// `LOOP_CTL_GET_FREE`: the number of a device that has no file now.
pub(super) fn free(control: impl AsFd) -> Result<u32, Errno> {
    // SAFETY: the request takes no argument and touches no memory of ours; its answer is its return value.
    unsafe { ioctl(control, Free) }
}

/// `LOOP_CONFIGURE`: gives the device its file and everything else in one step.
pub(super) fn configure(
    device: impl AsFd,
    file: BorrowedFd<'_>,
    name: &str,
    block_bytes: u32,
    flags: u32,
) -> Result<(), Errno> {
    let mut configuration = Configuration::new_zeroed();
    configuration.descriptor = u32::try_from(file.as_raw_fd()).map_err(|_| Errno::BADF)?;
    configuration.block_bytes = block_bytes;
    configuration.info.flags = flags;
    // The last byte stays zero.
    let room = configuration.info.file_name.len() - 1;
    for (to, from) in configuration.info.file_name.iter_mut().take(room).zip(name.bytes()) {
        *to = from;
    }
    // SAFETY: the kernel reads one `Configuration`, laid out as its own (`loop_config`, 304 bytes, compared
    // in a test), which lives until the request returns, and takes a reference of its own to the file.
    unsafe { ioctl(device, rustix::ioctl::Setter::<CONFIGURE, Configuration>::new(configuration)) }
}

/// `LOOP_SET_CAPACITY`: the device takes the size that the file has now.
pub(super) fn set_capacity(device: impl AsFd) -> Result<(), Errno> {
    // SAFETY: the request takes no argument.
    unsafe { ioctl(device, NoArg::<SET_CAPACITY>::new()) }
}

/// `LOOP_SET_STATUS64` and others are not used: what a device is, it is from its configuration on.
struct Free;

// SAFETY: the request's answer is its return value, and it takes no argument.
unsafe impl Ioctl for Free {
    type Output = u32;
    const IS_MUTATING: bool = false;

    fn opcode(&self) -> Opcode {
        GET_FREE
    }

    fn as_ptr(&mut self) -> *mut c_void {
        std::ptr::null_mut()
    }

    unsafe fn output_from_ptr(output: IoctlOutput, _: *mut c_void) -> Result<u32, Errno> {
        u32::try_from(output).map_err(|_| Errno::NODEV)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_layouts_are_as_long_as_the_kernels() {
        assert_eq!(size_of::<Info>(), 232);
        assert_eq!(size_of::<Configuration>(), 304);
    }
}
