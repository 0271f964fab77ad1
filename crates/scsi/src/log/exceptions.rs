//! 2Fh, informational exceptions (SPC-5 7.3.12).

use super::{Page, Parameter};

/// No exception; the temperatures as far as they are known.
pub(super) const PAGE: Page = Page {
    code: 0x2F,
    applies: |_| true,
    counters: &[],
    parameters: |facts| {
        let (current, reference) = facts.temperature.map_or((UNKNOWN, UNKNOWN), |now| (now.current, now.reference));
        vec![Parameter { code: 0x0000, value: vec![0x00, 0x00, current, reference] }]
    },
};

const UNKNOWN: u8 = 0xFF;
