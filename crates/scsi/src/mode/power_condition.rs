//! 1Ah, power condition (SPC-5 7.5.13), which MMC-6 5.3.19 asks of a drive with power management.

use super::{Page, optical};

/// No timer changes the power condition, and none can be set: the device draws no power of its own.
pub(super) const PAGE: Page =
    Page { code: 0x1A, subpage: 0x00, applies: optical, defaults: |_| vec![0; 10], changeable: |_| vec![0; 10] };
