//! 08h, caching (SBC-4 6.5.5).

use super::{Page, Values, disk};

pub(super) const PAGE: Page = Page {
    code: 0x08,
    subpage: 0x00,
    applies: disk,
    defaults: |facts| {
        let mut page = vec![0; 18];
        if let Some(flags) = page.first_mut() {
            *flags = if facts.volatile_cache { WCE } else { 0 };
        }
        page
    },
    // Without a volatile cache there is nothing to switch.
    changeable: |facts| {
        let mut mask = vec![0; 18];
        if let Some(flags) = mask.first_mut() {
            *flags = if facts.volatile_cache { WCE } else { 0 };
        }
        mask
    },
};

impl Values {
    /// WCE: a write may be answered while it rests in a volatile cache. With 0 every write is stable
    /// at GOOD.
    pub fn write_cache_enabled(&self) -> bool {
        self.byte(0x08, 0x00, 0) & WCE != 0
    }

    /// Sets WCE, as it holds now and after a reset, where a unit of these facts has it. Of the other pages what is
    /// saved stays as it is.
    pub fn set_write_cache(&mut self, on: bool) {
        if !self.facts.volatile_cache {
            return;
        }
        let saved = self.saved.get_or_insert_with(|| super::defaults(self.facts));
        for stored in self.current.iter_mut().chain(saved) {
            if (stored.code, stored.subpage) == (PAGE.code, PAGE.subpage)
                && let Some(flags) = stored.bytes.first_mut()
            {
                *flags = if on { *flags | WCE } else { *flags & !WCE };
            }
        }
    }
}

const WCE: u8 = 0x04;
