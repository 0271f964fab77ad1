//! READ TOC/PMA/ATIP (MMC-6 6.25): one session, one data track.

use super::{Medium, address};
use crate::field;

/// TRACK NUMBER of the lead-out.
pub const LEAD_OUT: u8 = 0xAA;
/// ADR 1, CONTROL 4: a data track, recorded uninterrupted, copying prohibited.
const DATA_TRACK: u8 = 0x14;

/// FORMAT.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// 0000b: the tracks from this one on.
    Tracks,
    /// 0001b: the last session's first track.
    Sessions,
    /// 0010b: what stands in the lead-in of a CD, from this session on.
    Raw,
}

impl Format {
    /// The format of this code; PMA, ATIP and CD-TEXT do not exist on what is only read.
    pub fn of(code: u8) -> Option<Format> {
        match code {
            0 => Some(Format::Tracks),
            1 => Some(Format::Sessions),
            2 => Some(Format::Raw),
            _ => None,
        }
    }
}

/// Why an answer cannot be given: the field of the CDB that is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// FORMAT: a DVD has no lead-in of that kind.
    Format,
    /// TRACK/SESSION NUMBER: there is no such track.
    Number,
}

/// Appends the whole answer over a medium of this many blocks. `number` is TRACK/SESSION NUMBER.
pub fn encode(format: Format, msf: bool, number: u8, blocks: u64, out: &mut Vec<u8>) -> Result<(), Refusal> {
    let start = out.len();
    // Length; first and last track or session.
    out.extend_from_slice(&[0, 0, 1, 1]);
    let track = |number: u8, block: u64, out: &mut Vec<u8>| {
        out.extend_from_slice(&[0, DATA_TRACK, number, 0]);
        out.extend_from_slice(&address(block, msf));
    };
    match format {
        Format::Tracks if number > 1 && number != LEAD_OUT => return Err(Refusal::Number),
        Format::Tracks => {
            if number <= 1 {
                track(1, 0, out);
            }
            track(LEAD_OUT, blocks, out);
        }
        Format::Sessions => track(1, 0, out),
        Format::Raw if Medium::of(blocks) != Medium::Cd => return Err(Refusal::Format),
        Format::Raw if number > 1 => return Err(Refusal::Number),
        Format::Raw => {
            let [_, minute, second, frame] = address(blocks, true);
            // First track and disc type, last track, lead-out, the track itself.
            let points = [(0xA0, [1, 0, 0]), (0xA1, [1, 0, 0]), (0xA2, [minute, second, frame]), (1, [0, 2, 0])];
            for (point, [minute, second, frame]) in points {
                out.extend_from_slice(&[1, DATA_TRACK, 0, point, 0, 0, 0, 0, minute, second, frame]);
            }
        }
    }
    field::set_length16(out, start);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn toc(format: Format, msf: bool, number: u8, blocks: u64) -> Result<Vec<u8>, Refusal> {
        let mut out = Vec::new();
        encode(format, msf, number, blocks, &mut out).map(|()| out)
    }

    #[test]
    fn one_data_track_and_the_lead_out() {
        let whole = [0, 18, 1, 1, 0, 0x14, 1, 0, 0, 0, 0, 0, 0, 0x14, 0xAA, 0, 0, 0, 1, 0x2C];
        for number in [0, 1] {
            assert_eq!(toc(Format::Tracks, false, number, 300).unwrap(), whole);
        }
        assert_eq!(toc(Format::Tracks, true, LEAD_OUT, 300).unwrap(), [0, 10, 1, 1, 0, 0x14, 0xAA, 0, 0, 0, 6, 0]);
        for number in [2, 0xA9, 0xAB, 0xFF] {
            assert_eq!(toc(Format::Tracks, false, number, 300), Err(Refusal::Number));
        }
        assert_eq!(toc(Format::Sessions, true, 9, 300).unwrap(), [0, 10, 1, 1, 0, 0x14, 1, 0, 0, 0, 2, 0]);
    }

    #[test]
    fn the_raw_toc_of_a_cd_and_none_of_a_dvd() {
        let raw = toc(Format::Raw, true, 0, 300).unwrap();
        assert_eq!((raw.len(), &raw[..4]), (48, &[0, 46, 1, 1][..]));
        let points: Vec<_> = raw[4..].chunks(11).map(|entry| (entry[3], [entry[8], entry[9], entry[10]])).collect();
        assert_eq!(points, [(0xA0, [1, 0, 0]), (0xA1, [1, 0, 0]), (0xA2, [0, 6, 0]), (1, [0, 2, 0])]);
        assert_eq!(toc(Format::Raw, true, 2, 300), Err(Refusal::Number));
        assert_eq!(toc(Format::Raw, true, 0, 2_000_000), Err(Refusal::Format));
        assert_eq!([0, 1, 2, 3, 4, 5].map(|code| Format::of(code).is_some()), [true, true, true, false, false, false]);
    }
}
