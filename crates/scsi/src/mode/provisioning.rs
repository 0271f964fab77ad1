//! 1Ch/02h, logical block provisioning (SBC-4 6.5.9): thresholds at which an initiator is told that
//! space becomes scarce.

use super::{Page, Values};

/// One threshold descriptor: soft, of the used resources, switched off until an initiator enables it.
pub(super) const PAGE: Page = Page {
    code: 0x1C,
    subpage: 0x02,
    applies: |facts| facts.thresholds,
    defaults: |_| {
        let mut page = vec![0; 20];
        if let Some(descriptor) = page.get_mut(12..14) {
            descriptor.copy_from_slice(&[DEFAULT_KIND, USED_RESOURCES]);
        }
        page
    },
    changeable: |_| {
        let mut mask = vec![0; 20];
        if let Some(flags) = mask.get_mut(12) {
            *flags = ENABLED;
        }
        if let Some(count) = mask.get_mut(16..20) {
            count.fill(0xFF);
        }
        mask
    },
};

impl Values {
    /// The threshold, in units of 2 to the power of THRESHOLD EXPONENT blocks, where one is enabled.
    pub fn provisioning_threshold(&self) -> Option<u32> {
        let count = std::array::from_fn(|at| self.byte(0x1C, 0x02, 16 + at));
        (self.byte(0x1C, 0x02, 12) & ENABLED != 0).then(|| u32::from_be_bytes(count))
    }
}

const ENABLED: u8 = 0x80;
/// THRESHOLD TYPE 000b, by number of units, and THRESHOLD ARMING 010b, while it increases.
const DEFAULT_KIND: u8 = 0x02;
/// THRESHOLD RESOURCE.
const USED_RESOURCES: u8 = 0x02;
