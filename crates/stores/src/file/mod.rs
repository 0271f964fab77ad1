//! Regular files and block devices.
//!
//! [`mod@open`] turns an address into an open and locked file, [`facts`] asks the system about what
//! lies behind it, [`identity`] what it is called, [`image`] opens the medium of a drive, [`backend`] is the disk that all workers share and [`channel`] one worker's way to it.

mod backend;
mod channel;
mod facts;
mod identity;
mod image;
mod lock;
mod open;

#[cfg(test)]
mod tests;

pub(crate) use image::{Image, Stamp, open_image};

use crate::{StoreKind, StoreOption};
use std::os::unix::fs::FileTypeExt;

const READ_ONLY: StoreOption = StoreOption { name: "ro", value: None, help: "refuse writes; open for reading only" };
const DIRECT: StoreOption = StoreOption { name: "direct", value: None, help: "bypass the page cache (O_DIRECT)" };

const KEY: StoreOption =
    StoreOption { name: "key", value: Some("FILE"), help: "encrypt with the key in this file; made with a new disk" };

/// A regular file.
pub const FILE: StoreKind = StoreKind {
    name: "file",
    summary: "a file; made sparse when it does not exist and size is given",
    example: "disk.img,size=10G",
    options: &[
        StoreOption { name: "size", value: Some("SIZE"), help: "make the file with this size, or insist on it" },
        StoreOption { name: "block", value: Some("512|4096"), help: "block length (512)" },
        READ_ONLY,
        DIRECT,
        KEY,
    ],
    probe: |_| true,
    open: open::open,
};

/// A block device.
pub const DEVICE: StoreKind = StoreKind {
    name: "device",
    summary: "a block device, used by nothing else",
    example: "/dev/vdb,direct",
    options: &[
        StoreOption { name: "size", value: Some("SIZE"), help: "insist on this size" },
        StoreOption { name: "block", value: Some("512|4096"), help: "block length (the device's own)" },
        READ_ONLY,
        DIRECT,
        KEY,
    ],
    probe: |place| crate::host::metadata(place).is_ok_and(|metadata| metadata.file_type().is_block_device()),
    open: open::open,
};
