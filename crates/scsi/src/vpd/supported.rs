//! 00h, supported VPD pages (SPC-5 7.7.17).

use super::{PAGES, ParseError, body};
use crate::inquiry::Facts;

pub(super) fn encode(facts: &Facts<'_>, out: &mut Vec<u8>) {
    out.extend(PAGES.iter().filter(|page| (page.applies)(facts)).map(|page| page.code));
}

/// The page codes, as the target ordered them.
pub fn parse(bytes: &[u8]) -> Result<Vec<u8>, ParseError> {
    body(0x00, bytes).map(<[u8]>::to_vec)
}
