//! 80h, unit serial number (SPC-5 7.7.19).

use super::{ParseError, body};
use crate::{field, inquiry::Facts};

pub(super) fn encode(facts: &Facts<'_>, out: &mut Vec<u8>) {
    field::push_ascii(out, facts.serial, facts.serial.len().min(252));
}

/// The serial number without padding.
pub fn parse(bytes: &[u8]) -> Result<String, ParseError> {
    body(0x80, bytes).map(field::ascii)
}

#[cfg(test)]
mod tests {
    use super::super::tests::page;
    use crate::inquiry::tests::facts;

    #[test]
    fn spc_02_the_serial_number_comes_back() {
        let bytes = page(0x80, &facts());
        assert_eq!(bytes, b"\x00\x80\x00\x04S-42");
        assert_eq!(super::parse(&bytes).unwrap(), "S-42");
    }
}
