//! 87h, mode page policy (SPC-5 7.7.9): one set of mode pages for all nexuses of the unit.

use crate::inquiry::Facts;

/// All pages and subpages, shared; every logical unit has its own (MLUS 0).
pub(super) fn encode(_: &Facts<'_>, out: &mut Vec<u8>) {
    out.extend_from_slice(&[0x3F, 0xFF, 0x00, 0x00]);
}

#[cfg(test)]
mod tests {
    use crate::{inquiry::tests::facts, vpd::tests::page};

    #[test]
    fn every_page_is_shared_between_nexuses() {
        assert_eq!(page(0x87, &facts()), [0x00, 0x87, 0x00, 0x04, 0x3F, 0xFF, 0x00, 0x00]);
    }
}
