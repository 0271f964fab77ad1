//! What the system tells about a file or device: blocks, holes, spinning, memory.

use block::{Rotation, Space, UnmapLimits};
use rustix::fs::SeekFrom;
use std::fs::File;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

/// Whether it is a file or a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Nature {
    /// A regular file, which can grow, shrink and have holes.
    File,
    /// A block device.
    Device,
}

/// What does not change while it is open.
#[derive(Debug, Clone)]
pub(super) struct Facts {
    pub nature: Nature,
    /// Smallest unit that the device, or the one under the file system, can address, in bytes.
    pub logical_block_length: u32,
    pub physical_block_length: u32,
    pub optimal_transfer_length: u32,
    pub unmap: Option<UnmapLimits>,
    pub rotation: Rotation,
    /// The file lies in memory: reading it never waits for a disk.
    pub memory: bool,
}

/// Looks at an open file.
pub(super) fn look(file: &File) -> std::io::Result<Facts> {
    let metadata = file.metadata()?;
    if metadata.file_type().is_block_device() {
        return Ok(device(metadata.rdev()));
    }
    const TMPFS: u64 = 0x0102_1994;
    const RAMFS: u64 = 0x8584_58f6;
    let system = rustix::fs::fstatfs(file)?;
    // The width and sign of f_type differ between machines; the numbers are 32 bits.
    let magic = system.f_type as u64 & 0xffff_ffff;
    let memory = matches!(magic, TMPFS | RAMFS);
    let under = queue(metadata.dev());
    // Network file systems say a megabyte; what matters to an initiator is that pages are whole.
    let cluster = u32::try_from(system.f_bsize).ok().filter(|size| size.is_power_of_two()).unwrap_or(4096);
    let cluster = cluster.clamp(512, 4096);
    let rotation = if memory { Rotation::NonRotating } else { rotation(under.as_deref()) };
    let logical = under.as_deref().and_then(|queue| number(queue, "logical_block_size")).unwrap_or(512);
    Ok(Facts {
        nature: Nature::File,
        logical_block_length: logical,
        physical_block_length: cluster,
        optimal_transfer_length: 0,
        unmap: Some(UnmapLimits { granularity: cluster, alignment: 0, reads_zeros: true }),
        rotation,
        memory,
    })
}

/// Its size in bytes now.
pub(super) fn size(file: &File, nature: Nature) -> std::io::Result<u64> {
    match nature {
        Nature::File => Ok(file.metadata()?.len()),
        // The end of a device is found by going there; its inode says 0. Nobody uses the position.
        Nature::Device => Ok(rustix::fs::seek(file, SeekFrom::End(0))?),
    }
}

/// What a file uses of its file system, and what is left there. Devices do not tell.
pub(super) fn space(file: &File, nature: Nature) -> Option<Space> {
    if nature == Nature::Device {
        return None;
    }
    let used = file.metadata().ok()?.blocks().checked_mul(512)?;
    let system = rustix::fs::fstatvfs(file).ok();
    let available = system.and_then(|system| system.f_bavail.checked_mul(system.f_frsize));
    Some(Space { used, available })
}

fn device(number_of_device: u64) -> Facts {
    let queue = queue(number_of_device);
    let queue = queue.as_deref();
    let ask = |name: &str| queue.and_then(|queue| number(queue, name));
    let logical = ask("logical_block_size").unwrap_or(512);
    let physical = ask("physical_block_size").filter(|size| size.is_power_of_two()).unwrap_or(logical);
    // Holes are made by the device writing zeros with leave to unmap, so that they read as zeros.
    let unmaps = ask("discard_granularity").filter(|granularity| *granularity > 0);
    let zeroes = queue.and_then(|queue| text(queue, "write_zeroes_max_bytes")).is_some_and(|bytes| bytes != "0");
    Facts {
        nature: Nature::Device,
        logical_block_length: logical,
        physical_block_length: physical.max(logical),
        optimal_transfer_length: ask("optimal_io_size").unwrap_or(0),
        unmap: unmaps.filter(|_| zeroes).map(|granularity| UnmapLimits {
            granularity,
            alignment: 0,
            reads_zeros: true,
        }),
        rotation: rotation(queue),
        memory: false,
    }
}

/// The directory of a device's queue; a partition's is its disk's.
fn queue(number_of_device: u64) -> Option<PathBuf> {
    let (major, minor) = (rustix::fs::major(number_of_device), rustix::fs::minor(number_of_device));
    let place = PathBuf::from(format!("/sys/dev/block/{major}:{minor}"));
    [place.join("queue"), place.join("../queue")].into_iter().find(|queue| queue.is_dir())
}

fn rotation(queue: Option<&Path>) -> Rotation {
    match queue.and_then(|queue| text(queue, "rotational")).as_deref() {
        Some("0") => Rotation::NonRotating,
        // How fast is not known, and an invented number would be worse.
        _ => Rotation::NotReported,
    }
}

fn number(queue: &Path, name: &str) -> Option<u32> {
    text(queue, name)?.parse().ok()
}

fn text(queue: &Path, name: &str) -> Option<String> {
    std::fs::read_to_string(queue.join(name)).ok().map(|text| text.trim().to_owned())
}
