//! 01h, read-write error recovery (SBC-4 6.5.8, MMC-6 7.3).

use super::{Page, always};

/// Reallocation and retries are the store's own matter: AWRE and ARRE say that they are automatic,
/// the rest is 0 and nothing can be changed.
/// A CD drive does not write, and its AWRE and ARRE are 0.
pub(super) const PAGE: Page = Page {
    code: 0x01,
    subpage: 0x00,
    applies: always,
    defaults: |facts| vec![if facts.optical { 0x00 } else { 0xC0 }, 0, 0, 0, 0, 0, 0, 0, 0, 0],
    changeable: |_| vec![0; 10],
};
