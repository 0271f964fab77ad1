//! The numbers and layouts of ublk (Linux 6.0 and later), as bytes.

use block::{Limits, Rotation, WriteCache};

/// Control commands, in the encoding of ioctl: direction, bytes of the command, 'u', number. Linux 6.0 to 6.3 knows
/// the numbers alone ([`plain`]).
pub(super) const GET_DEVICE: u32 = read(0x02);
pub(super) const ADD: u32 = both(0x04);
pub(super) const DELETE: u32 = both(0x05);
pub(super) const START: u32 = both(0x06);
pub(super) const STOP: u32 = both(0x07);
pub(super) const SET_PARAMETERS: u32 = both(0x08);
pub(super) const GET_PARAMETERS: u32 = read(0x09);
pub(super) const START_RECOVERY: u32 = both(0x10);
pub(super) const END_RECOVERY: u32 = both(0x11);
pub(super) const GET_DEVICE_BY_PATH: u32 = read(0x12);
pub(super) const GET_FEATURES: u32 = read(0x13);
pub(super) const UPDATE_SIZE: u32 = both(0x15);
/// Commands of a queue.
pub(super) const FETCH: u32 = queue(0x20);
pub(super) const COMMIT_AND_FETCH: u32 = queue(0x21);

/// A command without its encoding.
pub(super) const fn plain(command: u32) -> u32 {
    command & 0xff
}

const fn read(number: u32) -> u32 {
    2 << 30 | 32 << 16 | (b'u' as u32) << 8 | number
}

const fn both(number: u32) -> u32 {
    3 << 30 | 32 << 16 | (b'u' as u32) << 8 | number
}

const fn queue(number: u32) -> u32 {
    3 << 30 | 16 << 16 | (b'u' as u32) << 8 | number
}

/// Features of the driver, and of a device.
pub(super) const USER_RECOVERY: u64 = 1 << 3;
pub(super) const USER_RECOVERY_REISSUE: u64 = 1 << 4;
pub(super) const UNPRIVILEGED: u64 = 1 << 5;
pub(super) const IOCTL_ENCODING: u64 = 1 << 6;
pub(super) const UPDATES_SIZE: u64 = 1 << 10;
pub(super) const NO_PARTITIONS: u64 = 1 << 18;

/// States of a device.
pub(super) const LIVE: u16 = 1;
pub(super) const QUIESCED: u16 = 2;

/// What a request of the block layer wants: the low eight bits of its first word.
pub(super) const READ: u32 = 0;
pub(super) const WRITE: u32 = 1;
pub(super) const FLUSH: u32 = 2;
pub(super) const DISCARD: u32 = 3;
pub(super) const WRITE_ZEROES: u32 = 5;
/// And how: its other bits.
pub(super) const FUA: u32 = 1 << 13;
pub(super) const KEEP_SPACE: u32 = 1 << 15;

/// Bytes of a request's description, in the memory shared with the driver.
pub(super) const DESCRIPTION_BYTES: usize = 24;
/// Bytes that the mapping of each queue's descriptions has, before they are rounded up to pages: as if every queue had the
/// most tags.
pub(super) const QUEUE_BYTES: u64 = 4096 * DESCRIPTION_BYTES as u64;
/// Bytes of a sector.
pub(super) const SECTOR: u64 = 512;
/// Bytes of what is known of a device.
pub(super) const DEVICE_BYTES: usize = 64;
/// Sectors of one discard or one write of zeros at most.
const ZEROES_SECTORS: u32 = 1 << 18;

/// What the driver knows of a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Device {
    pub(super) queues: u16,
    pub(super) depth: u16,
    pub(super) state: u16,
    /// Bytes of data of one request at most.
    pub(super) request_bytes: u32,
    /// `u32::MAX`: whichever is free.
    pub(super) number: u32,
    /// The process that serves it.
    pub(super) process: i32,
    pub(super) flags: u64,
}

impl Device {
    pub(super) fn encode(&self) -> [u8; DEVICE_BYTES] {
        let mut bytes = [0; DEVICE_BYTES];
        put(&mut bytes, 0, &self.queues.to_ne_bytes());
        put(&mut bytes, 2, &self.depth.to_ne_bytes());
        put(&mut bytes, 4, &self.state.to_ne_bytes());
        put(&mut bytes, 8, &self.request_bytes.to_ne_bytes());
        put(&mut bytes, 12, &self.number.to_ne_bytes());
        put(&mut bytes, 16, &self.process.to_ne_bytes());
        put(&mut bytes, 24, &self.flags.to_ne_bytes());
        bytes
    }

    pub(super) fn parse(bytes: &[u8; DEVICE_BYTES]) -> Device {
        Device {
            queues: u16::from_ne_bytes(array(bytes, 0)),
            depth: u16::from_ne_bytes(array(bytes, 2)),
            state: u16::from_ne_bytes(array(bytes, 4)),
            request_bytes: u32::from_ne_bytes(array(bytes, 8)),
            number: u32::from_ne_bytes(array(bytes, 12)),
            process: i32::from_ne_bytes(array(bytes, 16)),
            flags: u64::from_ne_bytes(array(bytes, 24)),
        }
    }
}

/// Bytes of a device's parameters: length and types, basic ones, those of discard.
pub(super) const PARAMETERS_BYTES: usize = 8 + 32 + 20;

/// What the block layer shall know of a disk.
pub(super) fn parameters(limits: &Limits, request_bytes: u32, read_only: bool) -> [u8; PARAMETERS_BYTES] {
    const BASIC: u32 = 1;
    const DISCARDS: u32 = 2;
    const READ_ONLY: u32 = 1;
    const ROTATIONAL: u32 = 2;
    const VOLATILE_CACHE: u32 = 4;
    const WRITES_THROUGH: u32 = 8;
    let mut attributes = 0;
    if read_only || limits.read_only {
        attributes |= READ_ONLY;
    }
    if matches!(limits.rotation, Rotation::Rate(_)) {
        attributes |= ROTATIONAL;
    }
    if limits.write_cache == WriteCache::Volatile {
        attributes |= VOLATILE_CACHE | WRITES_THROUGH;
    }
    let shift = |bytes: u32| bytes.max(1).ilog2() as u8;
    let physical = limits.physical_block_length.max(limits.block_length);
    let preferred = limits.optimal_transfer_length.max(physical);
    let mut bytes = [0; PARAMETERS_BYTES];
    put(&mut bytes, 0, &(PARAMETERS_BYTES as u32).to_ne_bytes());
    put(&mut bytes, 4, &(BASIC | DISCARDS).to_ne_bytes());
    put(&mut bytes, 8, &u32::to_ne_bytes(attributes));
    put(&mut bytes, 12, &[shift(limits.block_length), shift(physical), shift(preferred), shift(physical)]);
    put(&mut bytes, 16, &(request_bytes / SECTOR as u32).to_ne_bytes());
    put(&mut bytes, 24, &(limits.capacity() / SECTOR).to_ne_bytes());
    let granularity = limits.unmap.map_or(0, |unmap| unmap.granularity).max(limits.block_length);
    put(&mut bytes, 40, &limits.unmap.map_or(0, |unmap| unmap.alignment).to_ne_bytes());
    put(&mut bytes, 44, &granularity.to_ne_bytes());
    put(&mut bytes, 48, &limits.unmap.map_or(0, |_| ZEROES_SECTORS).to_ne_bytes());
    put(&mut bytes, 52, &ZEROES_SECTORS.to_ne_bytes());
    put(&mut bytes, 56, &1u16.to_ne_bytes());
    bytes
}

/// Block length and size, both in bytes, of a device with these parameters.
pub(super) fn geometry(parameters: &[u8; PARAMETERS_BYTES]) -> (u32, u64) {
    let [block] = array(parameters, 12);
    let sectors = u64::from_ne_bytes(array(parameters, 24));
    (1u32.checked_shl(block.into()).unwrap_or(0), sectors.saturating_mul(SECTOR))
}

/// A control command: which device, its buffer, one number.
pub(super) fn control(number: u32, address: u64, length: u16, data: u64, path_bytes: u16) -> [u8; 80] {
    let mut bytes = [0; 80];
    put(&mut bytes, 0, &number.to_ne_bytes());
    put(&mut bytes, 4, &u16::MAX.to_ne_bytes());
    put(&mut bytes, 6, &length.to_ne_bytes());
    put(&mut bytes, 8, &address.to_ne_bytes());
    put(&mut bytes, 16, &data.to_ne_bytes());
    put(&mut bytes, 24, &path_bytes.to_ne_bytes());
    bytes
}

/// A command of a queue: which tag, what came of its request, and where the next one's data shall be.
pub(super) fn io(queue: u16, tag: u16, result: i32, address: u64) -> [u8; 16] {
    let mut bytes = [0; 16];
    put(&mut bytes, 0, &queue.to_ne_bytes());
    put(&mut bytes, 2, &tag.to_ne_bytes());
    put(&mut bytes, 4, &result.to_ne_bytes());
    put(&mut bytes, 8, &address.to_ne_bytes());
    bytes
}

/// A request of the block layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Description {
    pub(super) operation: u32,
    pub(super) flags: u32,
    /// In bytes.
    pub(super) offset: u64,
    pub(super) length: u64,
}

impl Description {
    pub(super) fn parse(bytes: &[u8; DESCRIPTION_BYTES]) -> Description {
        let first = u32::from_ne_bytes(array(bytes, 0));
        Description {
            operation: first & 0xff,
            flags: first & !0xff,
            offset: u64::from_ne_bytes(array(bytes, 8)).saturating_mul(SECTOR),
            length: u64::from(u32::from_ne_bytes(array(bytes, 4))) * SECTOR,
        }
    }
}

fn put(bytes: &mut [u8], at: usize, value: &[u8]) {
    if let Some(place) = bytes.get_mut(at..at + value.len()) {
        place.copy_from_slice(value);
    }
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    bytes.get(at..).and_then(|rest| rest.first_chunk()).copied().unwrap_or([0; N])
}

#[cfg(test)]
mod tests {
    use super::*;
    use block::UnmapLimits;

    fn limits() -> Limits {
        Limits {
            block_length: 512,
            blocks: 2048,
            physical_block_length: 4096,
            lowest_aligned_block: 0,
            optimal_transfer_length: 0,
            unmap: Some(UnmapLimits { granularity: 65_536, alignment: 0, reads_zeros: true }),
            write_cache: WriteCache::Volatile,
            read_only: false,
            rotation: Rotation::NonRotating,
            copies: false,
            cryptographic_erase: false,
            atomic: None,
        }
    }

    #[test]
    fn commands_have_the_numbers_of_the_header() {
        assert_eq!((ADD, GET_FEATURES, FETCH), (0xc020_7504, 0x8020_7513, 0xc010_7520));
    }

    #[test]
    fn a_disk_is_described_as_its_limits_say() {
        let bytes = parameters(&limits(), 512 << 10, false);
        let word = |at: usize| u32::from_ne_bytes(array(&bytes, at));
        assert_eq!((word(0), word(4), word(8)), (60, 3, 12), "cache, and writes through it");
        assert_eq!(bytes[12..16], [9, 12, 12, 12]);
        assert_eq!((word(16), word(24), word(44), word(48)), (1024, 2048, 65_536, 1 << 18));
        assert_eq!(geometry(&bytes), (512, 1 << 20));
        let plain = Limits { unmap: None, write_cache: WriteCache::None, read_only: true, ..limits() };
        let bytes = parameters(&plain, 512 << 10, false);
        let word = |at: usize| u32::from_ne_bytes(array(&bytes, at));
        assert_eq!((word(8), word(48), word(52)), (1, 0, 1 << 18), "no discard, but zeros");
    }

    #[test]
    fn a_device_is_read_as_it_was_written() {
        let device =
            Device { queues: 2, depth: 64, state: 2, request_bytes: 1 << 19, number: 7, process: 99, flags: 0x458 };
        assert_eq!(Device::parse(&device.encode()), device);
        let mut request = [0; DESCRIPTION_BYTES];
        put(&mut request, 0, &(WRITE | FUA).to_ne_bytes());
        put(&mut request, 4, &8u32.to_ne_bytes());
        put(&mut request, 8, &u64::MAX.to_ne_bytes());
        let parsed = Description::parse(&request);
        assert_eq!((parsed.operation, parsed.flags, parsed.length), (WRITE, FUA, 4096));
    }
}
