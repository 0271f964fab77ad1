//! 0Ah, control (SPC-5 7.5.10).
//!
//! TST 000b: one task set for all nexuses. QUEUE ALGORITHM MODIFIER 1: no order is promised among
//! simple tasks. QERR 00b: a CHECK CONDITION ends no other task. NORMACA is not supported,
//! UA_INTLCK_CTRL 00b: a unit attention is cleared when it is told.

use super::{Page, Values, always};

pub(super) const PAGE: Page = Page {
    code: 0x0A,
    subpage: 0x00,
    applies: always,
    defaults: |_| vec![0x00, 0x10, 0x00, 0x00, 0x00, 0x00, 0xFF, 0xFF, 0x00, 0x00],
    changeable: |_| vec![D_SENSE, 0x00, SWP, TAS, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00],
};

impl Values {
    /// D_SENSE: sense data is in descriptor format.
    pub fn descriptor_sense(&self) -> bool {
        self.byte(0x0A, 0x00, 0) & D_SENSE != 0
    }

    /// SWP: every writing command is refused as write protected (SPC-5 7.5.10; sense key 7h, ASC 27h).
    pub fn software_write_protected(&self) -> bool {
        self.byte(0x0A, 0x00, 2) & SWP != 0
    }

    /// TAS: tasks that another nexus ended answer TASK ABORTED instead of nothing.
    pub fn task_aborted_status(&self) -> bool {
        self.byte(0x0A, 0x00, 3) & TAS != 0
    }
}

const D_SENSE: u8 = 0x04;
const SWP: u8 = 0x08;
const TAS: u8 = 0x40;
