//! Sense data (SPC-5 4.4).

/// SENSE KEY (SPC-5 4.4.8).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum SenseKey {
    /// Nothing to say.
    NoSense = 0x0,
    /// It can be had, but not now.
    NotReady = 0x2,
    /// The medium failed.
    MediumError = 0x3,
    /// The device failed.
    HardwareError = 0x4,
    /// The command is wrong.
    IllegalRequest = 0x5,
    /// Something happened that the initiator has to know first.
    UnitAttention = 0x6,
    /// Writing is not possible.
    DataProtect = 0x7,
    /// A copy between devices was ended.
    CopyAborted = 0xa,
    /// The command was ended.
    AbortedCommand = 0xb,
    /// The data does not compare equal.
    Miscompare = 0xe,
}

/// What sense data says, before it is encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Condition {
    /// SENSE KEY.
    pub key: SenseKey,
    /// ADDITIONAL SENSE CODE and its qualifier.
    pub code: (u8, u8),
    /// INFORMATION: an LBA or an offset.
    pub information: Option<u64>,
    /// COMMAND-SPECIFIC INFORMATION: of a copy, the number of the segment (SPC-4 5.16.7.4).
    pub command_specific: Option<u32>,
    /// SENSE KEY SPECIFIC: three bytes with SKSV set (a field pointer, a progress indication).
    pub specific: Option<[u8; 3]>,
}

impl Condition {
    /// A key and a code, and nothing more.
    pub const fn new(key: SenseKey, code: u8, qualifier: u8) -> Condition {
        Condition { key, code: (code, qualifier), information: None, command_specific: None, specific: None }
    }

    /// INVALID FIELD IN CDB with its field pointer (SPC-5 4.4.2.4.2).
    pub const fn invalid_cdb_field(byte: u16, bit: Option<u8>) -> Condition {
        let condition = Condition::new(SenseKey::IllegalRequest, 0x24, 0x00);
        condition.with_specific(field_pointer(0x40, byte, bit))
    }

    /// PARAMETER LIST LENGTH ERROR.
    pub const PARAMETER_LIST_LENGTH_ERROR: Condition = Condition::new(SenseKey::IllegalRequest, 0x1A, 0x00);
    /// INTERNAL TARGET FAILURE.
    pub const INTERNAL_TARGET_FAILURE: Condition = Condition::new(SenseKey::HardwareError, 0x44, 0x00);

    /// INVALID FIELD IN PARAMETER LIST with its field pointer.
    pub const fn invalid_parameter(byte: u16, bit: Option<u8>) -> Condition {
        let condition = Condition::new(SenseKey::IllegalRequest, 0x26, 0x00);
        condition.with_specific(field_pointer(0x00, byte, bit))
    }

    /// With INFORMATION.
    pub const fn with_information(self, information: u64) -> Condition {
        Condition { information: Some(information), ..self }
    }

    /// With COMMAND-SPECIFIC INFORMATION.
    pub const fn with_command_specific(self, value: u32) -> Condition {
        Condition { command_specific: Some(value), ..self }
    }

    /// With SENSE KEY SPECIFIC bytes.
    pub const fn with_specific(self, specific: [u8; 3]) -> Condition {
        Condition { specific: Some(specific), ..self }
    }
}

const fn field_pointer(command_data: u8, byte: u16, bit: Option<u8>) -> [u8; 3] {
    let [high, low] = byte.to_be_bytes();
    let bit = match bit {
        Some(bit) => 0x08 | bit & 7,
        None => 0,
    };
    [0x80 | command_data | bit, high, low]
}

/// Encoded sense data, fixed or descriptor format, at most 252 bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sense(Box<[u8]>);

impl Sense {
    /// Fixed format (70h). INFORMATION of more than 32 bits does not fit: VALID stays 0 (SAM-08).
    pub fn fixed(condition: &Condition) -> Sense {
        let mut bytes = [0u8; 18];
        bytes[0] = 0x70;
        bytes[2] = condition.key as u8;
        bytes[7] = 10;
        (bytes[12], bytes[13]) = condition.code;
        if let Some(information) = condition.information.and_then(|information| u32::try_from(information).ok()) {
            bytes[0] |= 0x80;
            bytes[3..7].copy_from_slice(&information.to_be_bytes());
        }
        if let Some(value) = condition.command_specific {
            bytes[8..12].copy_from_slice(&value.to_be_bytes());
        }
        if let Some(specific) = condition.specific {
            bytes[15..18].copy_from_slice(&specific);
        }
        Sense(bytes.into())
    }

    /// Descriptor format (72h).
    pub fn descriptor(condition: &Condition) -> Sense {
        // Room for all that can follow, so that it is put together in one piece of memory.
        let mut bytes = Vec::with_capacity(8 + 12 + 12 + 8);
        bytes.extend_from_slice(&[0x72, condition.key as u8, condition.code.0, condition.code.1, 0, 0, 0, 0]);
        if let Some(information) = condition.information {
            bytes.extend_from_slice(&[0x00, 0x0a, 0x80, 0x00]);
            bytes.extend_from_slice(&information.to_be_bytes());
        }
        if let Some(value) = condition.command_specific {
            bytes.extend_from_slice(&[0x01, 0x0a, 0, 0]);
            bytes.extend_from_slice(&u64::from(value).to_be_bytes());
        }
        if let Some([a, b, c]) = condition.specific {
            bytes.extend_from_slice(&[0x02, 0x06, 0, 0, a, b, c, 0]);
        }
        bytes[7] = (bytes.len() - 8) as u8;
        Sense(bytes.into())
    }

    /// In the format that D_SENSE asks for.
    pub fn encode(condition: &Condition, descriptor_format: bool) -> Sense {
        if descriptor_format { Sense::descriptor(condition) } else { Sense::fixed(condition) }
    }

    /// SENSE KEY, ADDITIONAL SENSE CODE and its qualifier.
    pub fn condition_code(&self) -> Option<(u8, u8, u8)> {
        match *self.0 {
            [0x72, key, code, qualifier, ..] => Some((key & 0x0f, code, qualifier)),
            // With VALID where there is an INFORMATION.
            [0x70 | 0xf0, _, key, _, _, _, _, _, _, _, _, _, code, qualifier, ..] => {
                Some((key & 0x0f, code, qualifier))
            }
            _ => None,
        }
    }

    /// Its bytes as they go on the wire.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The bytes themselves.
    pub fn into_bytes(self) -> Box<[u8]> {
        self.0
    }
}

/// What sense data from elsewhere says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Parsed {
    /// SENSE KEY, whichever it is.
    pub key: u8,
    /// ADDITIONAL SENSE CODE and its qualifier; zeros where it is too short to have them.
    pub code: (u8, u8),
    /// INFORMATION, where it is valid.
    pub information: Option<u64>,
    /// Whether it is of an earlier command (deferred errors, 71h and 73h).
    pub deferred: bool,
}

/// Reads sense data of either format (SPC-5 4.4.2, 4.4.3). `None` where it is neither, or too short for a key.
pub fn parse(bytes: &[u8]) -> Option<Parsed> {
    let at = |index: usize| bytes.get(index).copied().unwrap_or(0);
    let format = *bytes.first()? & 0x7f;
    let deferred = format & 1 != 0;
    match format {
        0x70 | 0x71 => {
            let valid = at(0) & 0x80 != 0;
            let information = bytes.get(3..7).and_then(|four| four.try_into().ok()).map(u32::from_be_bytes);
            Some(Parsed {
                key: *bytes.get(2)? & 0x0f,
                code: (at(12), at(13)),
                information: information.filter(|_| valid).map(u64::from),
                deferred,
            })
        }
        0x72 | 0x73 => {
            let mut rest = bytes.get(8..).unwrap_or_default();
            let mut information = None;
            while let [kind, length, ..] = *rest {
                let Some(descriptor) = rest.get(2..2 + usize::from(length)) else { break };
                if kind == 0 && descriptor.first().is_some_and(|valid| valid & 0x80 != 0) {
                    information = descriptor.get(2..10).and_then(|eight| eight.try_into().ok()).map(u64::from_be_bytes);
                }
                rest = rest.get(2 + usize::from(length)..).unwrap_or_default();
            }
            Some(Parsed { key: *bytes.get(1)? & 0x0f, code: (at(2), at(3)), information, deferred })
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sam_08_fixed_format_holds_no_lba_above_32_bits() {
        let at = |lba| Condition::new(SenseKey::MediumError, 0x11, 0).with_information(lba);
        assert_eq!(Sense::fixed(&at(0x1234_5678)).as_bytes()[..8], [0xf0, 0, 3, 0x12, 0x34, 0x56, 0x78, 10]);
        assert_eq!(Sense::fixed(&at(1 << 32)).as_bytes()[..7], [0x70, 0, 3, 0, 0, 0, 0]);
        let descriptor = Sense::descriptor(&at(1 << 32));
        assert_eq!(descriptor.as_bytes(), [0x72, 3, 0x11, 0, 0, 0, 0, 12, 0, 10, 0x80, 0, 0, 0, 0, 1, 0, 0, 0, 0]);
    }

    #[test]
    fn what_is_encoded_is_read_back_in_both_formats() {
        let condition = Condition::new(SenseKey::MediumError, 0x11, 2).with_information(77);
        for sense in [Sense::fixed(&condition), Sense::descriptor(&condition)] {
            let parsed = parse(sense.as_bytes()).unwrap();
            assert_eq!((parsed.key, parsed.code, parsed.information), (3, (0x11, 2), Some(77)));
        }
        for cut in 0..32 {
            let _ = parse(&Sense::descriptor(&condition).as_bytes()[..cut.min(20)]);
            let _ = parse(&[0x72, 1, 2, 3, 0, 0, 0, 200, 0, 250, 0x80][..cut.min(11)]);
        }
        assert_eq!(parse(&[]), None);
        assert_eq!(parse(&[0x33; 20]), None);
    }

    #[test]
    fn the_segment_of_a_copy_is_told_in_both_formats() {
        let condition = Condition::new(SenseKey::CopyAborted, 0x0d, 0x01).with_command_specific(7);
        assert_eq!(Sense::fixed(&condition).as_bytes()[2..12], [10, 0, 0, 0, 0, 10, 0, 0, 0, 7]);
        let descriptor = Sense::descriptor(&condition);
        assert_eq!(Sense::fixed(&condition).condition_code(), Some((10, 0x0d, 1)));
        assert_eq!(descriptor.condition_code(), Some((10, 0x0d, 1)));
        assert_eq!(descriptor.as_bytes()[7..], [12, 1, 10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7]);
    }

    #[test]
    fn a_field_pointer_names_byte_and_bit() {
        let sense = Sense::fixed(&Condition::invalid_cdb_field(1, Some(5)));
        assert_eq!((&sense.as_bytes()[12..14], &sense.as_bytes()[15..]), (&[0x24, 0][..], &[0xcd, 0, 1][..]));
    }
}
