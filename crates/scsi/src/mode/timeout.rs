//! 1Dh, timeout and protect (MMC-6 7.6).

use super::{Page, optical};

/// Timeouts are not enabled, writing is not protected by it, no command needs a longest time.
pub(super) const PAGE: Page =
    Page { code: 0x1D, subpage: 0x00, applies: optical, defaults: |_| vec![0; 8], changeable: |_| vec![0; 8] };
