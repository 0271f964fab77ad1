//! CD and DVD drives (MMC-6): what lies in the drive, and the answers that are made from it.
//!
//! A medium is one image of 2,048-byte blocks: one session with one data track of Mode 1 sectors.

pub mod configuration;
pub mod disc;
pub mod event;
pub mod structure;
pub mod toc;

/// Bytes of a logical block: the user data of a Mode 1 sector.
pub const BLOCK_LENGTH: u32 = 2048;

/// Sectors of the pre-gap before LBA 0; address 00:02:00 is LBA 0 (MMC-6 4.2.3.8).
const PREGAP: u64 = 150;
const SECTORS_OF_SECOND: u64 = 75;
/// The most sectors of which a CD can tell the end in minutes, seconds and frames (99:59:74).
const CD_SECTORS: u64 = 100 * 60 * SECTORS_OF_SECOND - PREGAP - 1;
/// The physical sector number of a DVD's LBA 0 (MMC-6 4.3.4).
const DVD_START: u64 = 0x03_0000;

/// What a medium is, told by its size. The code is its profile (MMC-6 5.3.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u16)]
pub enum Medium {
    /// A CD-ROM.
    Cd = 0x0008,
    /// A DVD-ROM, for images that no CD could hold.
    Dvd = 0x0010,
}

impl Medium {
    /// The medium of this many blocks.
    pub fn of(blocks: u64) -> Medium {
        if blocks <= CD_SECTORS { Medium::Cd } else { Medium::Dvd }
    }
}

/// An address in TOC and track answers: a number of blocks, or minutes, seconds and frames. What three
/// bytes cannot hold is the largest that they can (MMC-6 6.25.3.1, FFh:3Bh:4Ah).
fn address(block: u64, msf: bool) -> [u8; 4] {
    if !msf {
        return u32::try_from(block).unwrap_or(u32::MAX).to_be_bytes();
    }
    let sector = block.saturating_add(PREGAP);
    let (seconds, frame) = (sector / SECTORS_OF_SECOND, sector % SECTORS_OF_SECOND);
    match u8::try_from(seconds / 60) {
        Ok(minute) => [0, minute, (seconds % 60) as u8, frame as u8],
        Err(_) => [0, 0xFF, 0x3B, 0x4A],
    }
}

/// The block at an address of minutes, seconds and frames; `None` where there is no such address, or
/// where it lies in the pre-gap.
pub fn block_of([minute, second, frame]: [u8; 3]) -> Option<u64> {
    let real = second < 60 && u64::from(frame) < SECTORS_OF_SECOND;
    let sector = (u64::from(minute) * 60 + u64::from(second)) * SECTORS_OF_SECOND + u64::from(frame);
    if real { sector.checked_sub(PREGAP) } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn minutes_seconds_and_frames_count_from_the_pregap() {
        for (block, msf) in [(0, [0, 0, 2, 0]), (74, [0, 0, 2, 74]), (75, [0, 0, 3, 0]), (359_849, [0, 79, 59, 74])] {
            assert_eq!(address(block, true), msf);
            assert_eq!(block_of([msf[1], msf[2], msf[3]]), Some(block));
        }
        assert_eq!(address(1_151_849, true), [0, 255, 59, 74]);
        assert_eq!(address(1_151_850, true), [0, 255, 59, 74], "the largest there is");
        assert_eq!(address(0x0102_0304, false), [1, 2, 3, 4]);
        for nowhere in [[0, 1, 74], [0, 60, 0], [0, 2, 75]] {
            assert_eq!(block_of(nowhere), None);
        }
    }

    #[test]
    fn what_no_cd_can_hold_is_a_dvd() {
        assert_eq!(Medium::of(1), Medium::Cd);
        assert_eq!(address(CD_SECTORS, true), [0, 99, 59, 74], "the lead-out of the largest CD");
        assert_eq!((Medium::of(CD_SECTORS), Medium::of(CD_SECTORS + 1)), (Medium::Cd, Medium::Dvd));
    }
}
