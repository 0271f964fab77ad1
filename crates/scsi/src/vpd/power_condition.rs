//! 8Ah, power condition (SPC-5 7.7.12): which power conditions START STOP UNIT can ask for.

use crate::inquiry::Facts;

/// idle_a and standby_z; nothing is said of how long it takes to leave them.
pub(super) fn encode(_: &Facts<'_>, out: &mut Vec<u8>) {
    out.extend_from_slice(&[STANDBY_Z, IDLE_A, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
}

const STANDBY_Z: u8 = 0x01;
const IDLE_A: u8 = 0x01;

#[cfg(test)]
mod tests {
    use crate::{inquiry::tests::facts, vpd::tests::page};

    #[test]
    fn one_idle_and_one_standby_condition_are_there() {
        let page = page(0x8A, &facts());
        assert_eq!((page.len(), &page[..6]), (18, &[0x00, 0x8A, 0x00, 0x0E, 0x01, 0x01][..]));
    }
}
