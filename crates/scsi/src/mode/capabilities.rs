//! 2Ah, CD/DVD capabilities and mechanical status (MMC-6 annex, MMC-3 5.5.10): what older initiators ask
//! in place of GET CONFIGURATION.

use super::{Page, Values, optical};

/// Reads CD-ROM and DVD-ROM, writes nothing, plays nothing; a tray that can be locked and ejects. Speeds
/// and the size of the buffer are 0: there is no disc that turns, and none of its own.
pub(super) const PAGE: Page = Page {
    code: 0x2A,
    subpage: 0x00,
    applies: optical,
    defaults: |_| vec![DVD_ROM_READ, 0, 0, 0, TRAY | EJECT | LOCK, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
    changeable: |_| vec![0; 20],
};

impl Values {
    /// LOCK STATE: whether the removal of the medium is prevented now. The device server knows; the page
    /// only shows it.
    pub fn show_locked(&mut self, locked: bool) {
        let page = self.current.iter_mut().find(|page| page.code == PAGE.code);
        if let Some(byte) = page.and_then(|page| page.bytes.get_mut(4)) {
            *byte = *byte & !LOCK_STATE | if locked { LOCK_STATE } else { 0 };
        }
    }
}

const DVD_ROM_READ: u8 = 0x08;
const TRAY: u8 = 1 << 5;
const EJECT: u8 = 0x08;
const LOCK_STATE: u8 = 0x02;
const LOCK: u8 = 0x01;
