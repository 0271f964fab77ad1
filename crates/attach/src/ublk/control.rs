//! Commands to /dev/ublk-control: devices are added, described, started, stopped, taken over and deleted.

use super::abi::{self, DEVICE_BYTES, Device, PARAMETERS_BYTES};
use crate::Error;
use io_uring::types::{Fd, SubmitArgs, Timespec};
use io_uring::{IoUring, cqueue, opcode, squeue};
use rustix::fd::AsRawFd;
use std::fs::{File, OpenOptions};
use std::io;
use std::mem::ManuallyDrop;
use std::path::Path;
use std::time::{Duration, Instant};

/// The way to the driver.
pub(super) const CONTROL: &str = "/dev/ublk-control";
/// How long a command may take that has no reason to wait.
pub(super) const PROMPT: Duration = Duration::from_secs(10);
/// Bytes of the path with which an unprivileged process says which device it means.
const PATH_BYTES_MAX: usize = 64;

/// A ring for control commands. One command at a time.
pub(super) struct Control {
    file: File,
    /// Left behind when a command did not end: the kernel still knows its buffer.
    ring: ManuallyDrop<IoUring<squeue::Entry128, cqueue::Entry>>,
    buffer: ManuallyDrop<Box<[u8; BUFFER_BYTES]>>,
    unfinished: bool,
    /// Whether the kernel wants to know the device by its path, as it does from those without privileges.
    by_path: bool,
    /// The driver is so old that it knows the numbers of commands alone.
    plain: bool,
}

const BUFFER_BYTES: usize = PATH_BYTES_MAX + 128;

impl Control {
    /// Opens the way to the driver.
    pub(super) fn open() -> Result<Control, Error> {
        let file = OpenOptions::new().read(true).write(true).open(CONTROL);
        let file = file.map_err(|error| Error::system(CONTROL, error))?;
        let ring = IoUring::<squeue::Entry128, cqueue::Entry>::builder()
            .build(4)
            .map_err(|error| Error::system("io_uring with long entries", error))?;
        let by_path = !rustix::process::geteuid().is_root();
        Ok(Control {
            file,
            ring: ManuallyDrop::new(ring),
            buffer: ManuallyDrop::new(Box::new([0; BUFFER_BYTES])),
            unfinished: false,
            by_path,
            plain: false,
        })
    }

    /// What the driver can; nothing where it cannot even tell (before Linux 6.5).
    pub(super) fn features(&mut self) -> u64 {
        let mut features = [0; 8];
        match self.call(abi::GET_FEATURES, u32::MAX, &mut features, 0, PROMPT) {
            Ok(_) => u64::from_ne_bytes(features),
            Err(_) => 0,
        }
    }

    /// Adds a device; gives it as the driver made it.
    pub(super) fn add(&mut self, device: &Device) -> Result<Device, Error> {
        let mut bytes = device.encode();
        let mut added = self.call(abi::ADD, device.number, &mut bytes, 0, PROMPT);
        if added.as_ref().is_err_and(|error| matches!(error.raw_os_error(), Some(EOPNOTSUPP | ENOTTY))) {
            self.plain = true;
            bytes = Device { flags: device.flags & !abi::IOCTL_ENCODING, ..*device }.encode();
            added = self.call(abi::ADD, device.number, &mut bytes, 0, PROMPT);
        }
        added.map_err(|error| Error::system("ublk: a device cannot be added", error))?;
        Ok(Device::parse(&bytes))
    }

    /// Whether commands go without their encoding.
    pub(super) fn is_plain(&self) -> bool {
        self.plain
    }

    /// What the driver knows of a device.
    pub(super) fn device(&mut self, number: u32) -> io::Result<Device> {
        let mut bytes = [0; DEVICE_BYTES];
        let command = if self.by_path { abi::GET_DEVICE_BY_PATH } else { abi::GET_DEVICE };
        self.call(command, number, &mut bytes, 0, PROMPT)?;
        Ok(Device::parse(&bytes))
    }

    /// Describes a device to the block layer.
    pub(super) fn describe(&mut self, number: u32, parameters: &[u8; PARAMETERS_BYTES]) -> Result<(), Error> {
        let mut bytes = *parameters;
        self.call(abi::SET_PARAMETERS, number, &mut bytes, 0, PROMPT)
            .map(drop)
            .map_err(|error| Error::system(format!("ublk: device {number} cannot have this disk's limits"), error))
    }

    /// How a device was described.
    pub(super) fn description(&mut self, number: u32) -> io::Result<[u8; PARAMETERS_BYTES]> {
        let mut bytes = [0; PARAMETERS_BYTES];
        bytes[..4].copy_from_slice(&(PARAMETERS_BYTES as u32).to_ne_bytes());
        self.call(abi::GET_PARAMETERS, number, &mut bytes, 0, PROMPT)?;
        Ok(bytes)
    }

    /// A command with a number and no buffer.
    pub(super) fn tell(&mut self, command: u32, number: u32, data: u64, limit: Duration) -> io::Result<i32> {
        self.call(command, number, &mut [], data, limit)
    }

    fn call(&mut self, command: u32, number: u32, data: &mut [u8], inline: u64, limit: Duration) -> io::Result<i32> {
        if self.unfinished {
            return Err(io::Error::new(io::ErrorKind::TimedOut, "an earlier command has not ended"));
        }
        // The path stands before the data, with its closing zero.
        let anonymous = matches!(command, abi::ADD | abi::GET_FEATURES);
        let path = match self.by_path && !anonymous {
            true => format!("/dev/ublkc{number}\0").into_bytes(),
            false => Vec::new(),
        };
        let length = path.len() + data.len();
        let too_long = || io::Error::from(io::ErrorKind::InvalidInput);
        let place = self.buffer.get_mut(..length).ok_or_else(too_long)?;
        place[..path.len()].copy_from_slice(&path);
        place[path.len()..].copy_from_slice(data);
        let address = if length == 0 { 0 } else { self.buffer.as_ptr() as u64 };
        let bytes = abi::control(number, address, length as u16, inline, path.len() as u16);
        let command = if self.plain { abi::plain(command) } else { command };
        let entry = opcode::UringCmd80::new(Fd(self.file.as_raw_fd()), command).cmd(bytes).build();
        // SAFETY: the entry names our file and our boxed buffer, which is as long as the command says. Neither moves
        // nor goes before the command has ended: what has not ended is left behind for good (`drop`), and nothing
        // else is submitted meanwhile, so the queue has room and the buffer one user.
        unsafe { self.ring.submission().push(&entry) }.map_err(|_| io::Error::from(io::ErrorKind::WouldBlock))?;
        self.unfinished = true;
        let result = self.wait(limit)?;
        self.unfinished = false;
        if result < 0 {
            return Err(io::Error::from_raw_os_error(result.wrapping_neg()));
        }
        if let Some(place) = self.buffer.get(path.len()..length) {
            data.copy_from_slice(place);
        }
        Ok(result)
    }

    fn wait(&mut self, limit: Duration) -> io::Result<i32> {
        let end = Instant::now() + limit;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            let timeout = Timespec::new().sec(left.as_secs()).nsec(left.subsec_nanos());
            let waited = self.ring.submitter().submit_with_args(1, &SubmitArgs::new().timespec(&timeout));
            if let Some(entry) = self.ring.completion().next() {
                return Ok(entry.result());
            }
            match waited {
                Err(error) if !matches!(error.raw_os_error(), Some(ETIME | EINTR | EAGAIN)) => return Err(error),
                _ if left.is_zero() => {
                    return Err(io::Error::new(io::ErrorKind::TimedOut, "the driver does not answer"));
                }
                _ => {}
            }
        }
    }
}

const EINTR: i32 = 4;
const EAGAIN: i32 = 11;
const ENOTTY: i32 = 25;
const ETIME: i32 = 62;
const EOPNOTSUPP: i32 = 95;

impl Drop for Control {
    fn drop(&mut self) {
        if !self.unfinished {
            // SAFETY: both are dropped here once and used no more; the kernel has nothing of the buffer.
            unsafe {
                ManuallyDrop::drop(&mut self.ring);
                ManuallyDrop::drop(&mut self.buffer);
            }
        }
    }
}

/// Whether the driver is there at all.
pub(super) fn is_there() -> bool {
    Path::new(CONTROL).exists()
}
