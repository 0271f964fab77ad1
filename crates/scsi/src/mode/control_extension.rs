//! 0Ah/01h, control extension (SPC-5 7.5.11).

use super::{Page, always};

/// A timestamp that was set goes before the machine's own time, which serves until then (SCSIP, TCMOS);
/// access states may change implicitly (IALUAE), the initial priority is 0, and the longest sense data is 252
/// bytes.
pub(super) const PAGE: Page = Page {
    code: 0x0A,
    subpage: 0x01,
    applies: always,
    defaults: |_| {
        let mut page = vec![0; 28];
        if let Some(timestamp) = page.first_mut() {
            *timestamp = TCMOS | SCSIP | IALUAE;
        }
        if let Some(maximum_sense) = page.get_mut(2) {
            *maximum_sense = 252;
        }
        page
    },
    changeable: |_| vec![0; 28],
};

const TCMOS: u8 = 0x04;
const SCSIP: u8 = 0x02;
const IALUAE: u8 = 0x01;
