//! READ DISC STRUCTURE (READ DVD STRUCTURE in older revisions), for DVD-ROM (MMC-6 6.22).

use super::DVD_START;
use crate::field;

/// The formats that are answered, each with the length of its structure.
const FORMATS: &[(u8, u16)] = &[(PHYSICAL, 2052), (COPYRIGHT, 8), (LIST, 4 + 3 * 4)];
const PHYSICAL: u8 = 0x00;
const COPYRIGHT: u8 = 0x01;
const LIST: u8 = 0xFF;

/// Appends the structure of this FORMAT over a DVD of this many blocks. False where there is none.
pub fn encode(format: u8, blocks: u64, out: &mut Vec<u8>) -> bool {
    let start = out.len();
    out.extend_from_slice(&[0; 4]);
    match format {
        PHYSICAL => {
            let last = u32::try_from(DVD_START + blocks.max(1) - 1).unwrap_or(u32::MAX).min(0x00FF_FFFF);
            // DVD-ROM, version 1; 120 mm, no maximum rate; one embossed layer; densities of a DVD.
            out.extend_from_slice(&[0x01, 0x0F, 0x01, 0x00]);
            out.extend_from_slice(&(DVD_START as u32).to_be_bytes());
            out.extend_from_slice(&last.to_be_bytes());
            out.resize(start + 2052, 0);
        }
        // No protection system, every region.
        COPYRIGHT => out.extend_from_slice(&[0; 4]),
        LIST => {
            for (code, length) in FORMATS {
                let [high, low] = length.to_be_bytes();
                // RDS: it can be read.
                out.extend_from_slice(&[*code, 0x40, high, low]);
            }
        }
        _ => {
            out.truncate(start);
            return false;
        }
    }
    field::set_length16(out, start);
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    fn structure(format: u8) -> Option<Vec<u8>> {
        let mut out = Vec::new();
        encode(format, 2_000_000, &mut out).then_some(out)
    }

    #[test]
    fn the_layer_reaches_from_the_start_to_the_last_sector() {
        let physical = structure(0).unwrap();
        assert_eq!(physical[..16], [0x08, 0x02, 0, 0, 1, 0x0F, 1, 0, 0, 3, 0, 0, 0, 0x21, 0x84, 0x7F]);
        assert!(physical[16..].iter().all(|byte| *byte == 0));
    }

    #[test]
    fn the_list_names_what_is_answered_with_its_length() {
        let list = structure(0xFF).unwrap();
        let listed: Vec<u8> = list[4..].chunks(4).map(|entry| entry[0]).collect();
        let answered: Vec<u8> = (0..=255).filter(|format| structure(*format).is_some()).collect();
        assert_eq!(listed, answered);
        for entry in list[4..].chunks(4) {
            let length = usize::from(u16::from_be_bytes([entry[2], entry[3]]));
            assert_eq!(structure(entry[0]).unwrap().len(), length, "{:02x}", entry[0]);
        }
    }
}
