//! Binary values in text: hexadecimal and base64 (RFC 7143 §6.1).

use base64::Engine;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

/// The most bytes that CHAP_C and CHAP_R may have (§12.1.3).
pub const MAXIMUM_BINARY: usize = 1024;

/// Why a value is no binary value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BinaryError {
    /// It begins with neither 0x nor 0b.
    #[error("a binary value begins with 0x or 0b")]
    NoPrefix,
    /// The digits are not those of the encoding, or there are none.
    #[error("a binary value with other characters than its encoding's, or none")]
    BadDigits,
    /// More than 1,024 bytes.
    #[error("a binary value of more than 1,024 bytes")]
    TooLong,
}

/// Padding may stand or not: initiators of both kinds are about.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// The bytes of a value.
pub(super) fn decode(value: &str) -> Result<Vec<u8>, BinaryError> {
    let (prefix, digits) = value.split_at_checked(2).ok_or(BinaryError::NoPrefix)?;
    let bytes = match prefix {
        "0x" | "0X" => {
            if digits.len() > MAXIMUM_BINARY * 2 {
                return Err(BinaryError::TooLong);
            }
            hexadecimal(digits)?
        }
        "0b" | "0B" => {
            if digits.len() > MAXIMUM_BINARY.div_ceil(3) * 4 {
                return Err(BinaryError::TooLong);
            }
            BASE64.decode(digits).map_err(|_| BinaryError::BadDigits)?
        }
        _ => return Err(BinaryError::NoPrefix),
    };
    match bytes.len() {
        0 => Err(BinaryError::BadDigits),
        length if length > MAXIMUM_BINARY => Err(BinaryError::TooLong),
        _ => Ok(bytes),
    }
}

/// An odd number of digits means a leading zero that was left out, as it does for numbers.
fn hexadecimal(digits: &str) -> Result<Vec<u8>, BinaryError> {
    let value = |digit: u8| (digit as char).to_digit(16).ok_or(BinaryError::BadDigits);
    let digits = digits.as_bytes();
    let (first, pairs) = digits.split_at(digits.len() % 2);
    let mut bytes = Vec::with_capacity(digits.len().div_ceil(2));
    for digit in first {
        bytes.push(value(*digit)? as u8);
    }
    for pair in pairs.chunks_exact(2) {
        let [high, low] = pair else { return Err(BinaryError::BadDigits) };
        bytes.push((value(*high)? << 4 | value(*low)?) as u8);
    }
    Ok(bytes)
}

/// The value of bytes, in hexadecimal, which everybody reads.
pub(super) fn encode(bytes: &[u8]) -> String {
    bytes.iter().fold(String::from("0x"), |text, byte| text + &format!("{byte:02x}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn chp_05_both_encodings_are_read_and_nothing_else() {
        assert_eq!(decode("0x00ff"), Ok(vec![0, 255]));
        assert_eq!(decode("0Xabc"), Ok(vec![0x0a, 0xbc]), "odd digits");
        assert_eq!(decode("0bAP8="), Ok(vec![0, 255]));
        assert_eq!(decode("0bAP8"), Ok(vec![0, 255]), "without padding");
        assert_eq!(decode("00ff"), Err(BinaryError::NoPrefix));
        assert_eq!(decode(""), Err(BinaryError::NoPrefix));
        assert_eq!(decode("0x"), Err(BinaryError::BadDigits));
        assert_eq!(decode("0x0g"), Err(BinaryError::BadDigits));
        assert_eq!(decode("0b!!!!"), Err(BinaryError::BadDigits));
        assert_eq!(decode("0\u{df}"), Err(BinaryError::NoPrefix), "not cut within a character");
        assert_eq!(decode(&encode(&[7; 1024])).map(|bytes| bytes.len()), Ok(1024));
        assert_eq!(decode(&encode(&[7; 1025])), Err(BinaryError::TooLong));
        assert_eq!(decode(&format!("0b{}", "A".repeat(1372))), Err(BinaryError::TooLong));
    }

    proptest! {
        #[test]
        fn what_is_encoded_is_decoded(bytes in proptest::collection::vec(any::<u8>(), 1..1024)) {
            prop_assert_eq!(decode(&encode(&bytes)), Ok(bytes));
        }

        #[test]
        fn no_value_panics(value in "\\PC*") {
            let _ = decode(&value);
        }
    }
}
