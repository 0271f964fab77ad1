//! READ DISC INFORMATION and READ TRACK INFORMATION (MMC-6 6.21, 6.26).

use super::Medium;
use crate::field;

/// Appends standard disc information: complete, finalized, not erasable, one session of one track.
pub fn encode(blocks: u64, out: &mut Vec<u8>) {
    // A disc type is a CD's; for another medium it is undefined.
    let disc_type = if Medium::of(blocks) == Medium::Cd { 0x00 } else { 0xFF };
    let start = out.len();
    out.extend_from_slice(&[0, 0, COMPLETE_SESSION | FINALIZED, 1, 1, 1, 1, UNRESTRICTED_USE, disc_type, 0, 0, 0]);
    out.extend_from_slice(&[0; 4]); // no disc identification
    out.extend_from_slice(&[0xFF; 8]); // no next session, nowhere for its lead-out
    out.extend_from_slice(&[0; 10]); // no bar code, no application code, no OPC tables
    field::set_length16(out, start);
}

/// Appends the track information block of the one track.
pub fn encode_track(blocks: u64, out: &mut Vec<u8>) {
    let size = u32::try_from(blocks).unwrap_or(u32::MAX);
    let start = out.len();
    out.extend_from_slice(&[0, 0, 1, 1, 0, DATA_TRACK, MODE_1, LAST_RECORDED_VALID]);
    out.extend_from_slice(&[0; 16]); // starts at 0; nothing can be written, nothing is free, no packets
    out.extend_from_slice(&size.to_be_bytes());
    out.extend_from_slice(&size.saturating_sub(1).to_be_bytes());
    out.extend_from_slice(&[0; 4]); // high bytes of track and session
    field::set_length16(out, start);
}

const COMPLETE_SESSION: u8 = 0x0C;
const FINALIZED: u8 = 0x02;
const UNRESTRICTED_USE: u8 = 0x20;
/// TRACK MODE: data, recorded uninterrupted.
const DATA_TRACK: u8 = 0x04;
/// DATA MODE.
const MODE_1: u8 = 0x01;
const LAST_RECORDED_VALID: u8 = 0x02;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finalized_disc_with_one_track() {
        let mut out = Vec::new();
        encode(300, &mut out);
        assert_eq!((out.len(), &out[..12]), (34, &[0, 32, 0x0E, 1, 1, 1, 1, 0x20, 0, 0, 0, 0][..]));
        assert_eq!((&out[12..16], &out[16..24], &out[24..]), (&[0; 4][..], &[0xFF; 8][..], &[0; 10][..]));
        let mut dvd = Vec::new();
        encode(2_000_000, &mut dvd);
        assert_eq!(dvd[8], 0xFF);
    }

    #[test]
    fn the_track_is_the_whole_disc() {
        let mut out = Vec::new();
        encode_track(300, &mut out);
        assert_eq!((out.len(), &out[..8]), (36, &[0, 34, 1, 1, 0, 4, 1, 2][..]));
        assert_eq!((&out[8..24], &out[24..]), (&[0; 16][..], &[0, 0, 1, 0x2C, 0, 0, 1, 0x2B, 0, 0, 0, 0][..]));
    }
}
