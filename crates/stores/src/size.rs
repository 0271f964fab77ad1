//! Sizes as people write them: `512M`, `10G`, `1.5TiB`. Units are binary.

use std::fmt;

/// The largest size of a store: what a file offset can name.
pub const SIZE_MAX: u64 = i64::MAX as u64;

const UNITS: [(char, u32); 6] = [('K', 10), ('M', 20), ('G', 30), ('T', 40), ('P', 50), ('E', 60)];

/// Bytes of a size: a number, whole or with a decimal point, and a unit, K, M, G, T, P or E, which may
/// be followed by `iB` or `B`. Units are binary: 1K is 1024. Between 1 byte and 8 EiB less one.
///
/// The error says what is wrong with the text.
pub fn parse_size(text: &str) -> Result<u64, String> {
    let refuse = |why: &str| Err(format!("'{text}' is no size: {why} (10G, 512M, 1.5T, 4096)"));
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() || (number.contains('.') && fraction.is_empty()) {
        return refuse(if text.starts_with('-') { "it is negative" } else { "it does not begin with a number" });
    }
    let mut letters = unit.chars();
    let shift = match letters.next().map(|letter| letter.to_ascii_uppercase()) {
        None => 0,
        Some('B') if unit.len() == 1 => 0,
        Some(letter) => {
            let Some((_, shift)) = UNITS.iter().find(|known| known.0 == letter) else {
                return refuse(&format!("'{unit}' is no unit"));
            };
            if !matches!(letters.as_str(), "" | "B" | "b" | "iB" | "ib" | "IB") {
                return refuse(&format!("'{unit}' is no unit"));
            }
            *shift
        }
    };
    let too_large = || format!("'{text}' is no size: it is more than 8 EiB");
    let mut bytes = whole.parse::<u128>().ok().and_then(|whole| whole.checked_shl(shift)).ok_or_else(too_large)?;
    if !fraction.is_empty() {
        let (Ok(part), Some(scale)) = (fraction.parse::<u128>(), 10u128.checked_pow(fraction.len() as u32)) else {
            return refuse("it has too many decimals");
        };
        let Some(part) = part.checked_mul(1 << shift) else { return refuse("it has too many decimals") };
        if !part.is_multiple_of(scale) {
            return refuse("it is not a whole number of bytes");
        }
        bytes = bytes.saturating_add(part / scale);
    }
    match u64::try_from(bytes) {
        Ok(0) => refuse("it is zero"),
        Ok(bytes) if bytes <= SIZE_MAX && whole.len() <= 20 => Ok(bytes),
        _ => Err(too_large()),
    }
}

/// A number of bytes that prints as a person would write it: `10G` where that is exact, else bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size(
    /// Bytes.
    pub u64,
);

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let exact = UNITS.iter().rev().find(|(_, shift)| self.0 > 0 && self.0.trailing_zeros() >= *shift);
        match exact {
            Some((letter, shift)) => write!(f, "{}{letter}", self.0 >> shift),
            None => write!(f, "{}", self.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_as_people_write_them() {
        for (text, bytes) in [
            ("4096", 4096),
            ("512M", 512 << 20),
            ("10G", 10 << 30),
            ("10g", 10 << 30),
            ("10GiB", 10 << 30),
            ("10GB", 10 << 30),
            ("1.5T", 3 << 39),
            ("0.5K", 512),
            ("100B", 100),
            ("7E", 7 << 60),
        ] {
            assert_eq!(parse_size(text), Ok(bytes), "{text}");
        }
    }

    #[test]
    fn bad_sizes_say_what_is_bad_about_them() {
        for (text, why) in [
            ("", "does not begin with a number"),
            ("G", "does not begin with a number"),
            ("-5G", "negative"),
            ("1.G", "does not begin with a number"),
            ("10Q", "'Q' is no unit"),
            ("10Gigs", "'Gigs' is no unit"),
            ("10 G", "' G' is no unit"),
            ("1.2.3G", "decimals"),
            ("0", "zero"),
            ("0.3", "whole number of bytes"),
            ("8E", "more than 8 EiB"),
            ("340282366920938463463374607431768211456E", "more than 8 EiB"),
            ("340282366920938463463374607431768211455E", "more than 8 EiB"),
            ("1.00000000000000000000000000000000000000000000001G", "decimals"),
        ] {
            let error = parse_size(text).unwrap_err();
            assert!(error.contains(why), "{text}: {error}");
        }
    }

    #[test]
    fn sizes_print_as_they_are_written() {
        for text in ["10G", "1536G", "3M", "4097"] {
            assert_eq!(Size(parse_size(text).unwrap()).to_string(), text);
        }
    }
}
