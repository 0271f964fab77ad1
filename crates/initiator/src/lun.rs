//! Logical unit numbers, as people say them and as they stand on the wire (SAM-5 4.7).

/// A logical unit's number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Lun([u8; 8]);

impl Lun {
    /// The number in the shortest form: peripheral below 256, flat below 16,384, extended flat below 2²⁴ (what
    /// is more is cut off).
    pub fn new(number: u32) -> Lun {
        let mut wire = [0; 8];
        match number {
            0..256 => wire[1] = number as u8,
            256..16_384 => wire[..2].copy_from_slice(&(number as u16 | 0x4000).to_be_bytes()),
            _ => {
                wire[..4].copy_from_slice(&number.to_be_bytes());
                wire[0] = 0xd2;
            }
        }
        Lun(wire)
    }

    /// As it stands in a PDU or in the answer of REPORT LUNS.
    pub fn from_wire(wire: [u8; 8]) -> Lun {
        Lun(wire)
    }

    /// As it stands in a PDU.
    pub fn wire(self) -> [u8; 8] {
        self.0
    }

    /// The number, where it is of one level.
    pub fn number(self) -> Option<u32> {
        match self.0 {
            [0, number, 0, 0, 0, 0, 0, 0] => Some(number.into()),
            [high @ 0x40..0x80, low, 0, 0, 0, 0, 0, 0] => Some(u32::from(high & 0x3f) << 8 | u32::from(low)),
            [0xd2, a, b, c, 0, 0, 0, 0] => Some(u32::from_be_bytes([0, a, b, c])),
            _ => None,
        }
    }
}

impl std::fmt::Display for Lun {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.number() {
            Some(number) => write!(f, "{number}"),
            None => write!(f, "{:016x}h", u64::from_be_bytes(self.0)),
        }
    }
}

impl From<u16> for Lun {
    fn from(number: u16) -> Lun {
        Lun::new(number.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_takes_the_shortest_form_and_comes_back() {
        for number in [0, 1, 255, 256, 16_383, 16_384, 65_535, 0xff_ffff] {
            assert_eq!(Lun::new(number).number(), Some(number));
        }
        assert_eq!(Lun::new(300).wire()[..2], [0x41, 0x2c]);
        assert_eq!(Lun::from_wire([1, 2, 3, 4, 5, 6, 7, 8]).to_string(), "0102030405060708h");
    }
}
