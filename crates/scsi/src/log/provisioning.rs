//! 0Ch, logical block provisioning (SBC-4 6.4.5).

use super::{Page, Parameter};

/// The space of a thin unit, in units of 2 to the power of THRESHOLD EXPONENT blocks (VPD B2h).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Space {
    /// What can still be given to this unit; `None` where nobody knows.
    pub available: Option<u32>,
    /// What it uses.
    pub used: u32,
}

pub(super) const PAGE: Page = Page {
    code: 0x0C,
    applies: |facts| facts.space.is_some(),
    counters: &[],
    parameters: |facts| {
        facts.space.map_or_else(Vec::new, |space| {
            // What is available is shared with others on the same file system; what is used is its own.
            let available = space.available.map(|available| resource(0x0001, available, SHARED));
            available.into_iter().chain([resource(0x0002, space.used, DEDICATED)]).collect()
        })
    },
};

fn resource(code: u16, count: u32, scope: u8) -> Parameter {
    let mut value = count.to_be_bytes().to_vec();
    value.extend_from_slice(&[scope, 0, 0, 0]);
    Parameter { code, value }
}

const DEDICATED: u8 = 1;
const SHARED: u8 = 2;
