//! 1Ch, informational exceptions control (SPC-5 7.5.14).

use super::{Page, always};

/// No failure is predicted: MRIE 0, DEXCPT 1, nothing changeable.
pub(super) const PAGE: Page = Page {
    code: 0x1C,
    subpage: 0x00,
    applies: always,
    defaults: |_| vec![0x08, 0, 0, 0, 0, 0, 0, 0, 0, 0],
    changeable: |_| vec![0; 10],
};
