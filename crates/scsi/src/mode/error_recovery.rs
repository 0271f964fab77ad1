//! 01h, read-write error recovery (SBC-4 6.5.8).

use super::{Page, always};

/// Reallocation and retries are the store's own matter: AWRE and ARRE say that they are automatic,
/// the rest is 0 and nothing can be changed.
pub(super) const PAGE: Page = Page {
    code: 0x01,
    subpage: 0x00,
    applies: always,
    defaults: |_| vec![0xC0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
    changeable: |_| vec![0; 10],
};
