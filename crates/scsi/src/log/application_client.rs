//! 0Fh, application client (SPC-5 7.3.4): what initiators write with LOG SELECT for themselves and each other.

use super::{Page, Parameter};
use std::collections::BTreeMap;

/// General usage parameters, from 0000h.
pub const PARAMETERS: u16 = 64;
/// Bytes of each.
pub const BYTES: usize = 252;

/// The general usage parameters; those that nobody has written are zeros.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Notes(BTreeMap<u16, [u8; BYTES]>);

impl Notes {
    /// Writes one. False where there is no such parameter.
    pub fn set(&mut self, code: u16, value: [u8; BYTES]) -> bool {
        let known = code < PARAMETERS;
        if known {
            self.0.insert(code, value);
        }
        known
    }

    /// All that were written.
    pub fn all(&self) -> impl Iterator<Item = (u16, &[u8; BYTES])> {
        self.0.iter().map(|(code, value)| (*code, value))
    }

    /// What was written there.
    pub fn get(&self, code: u16) -> [u8; BYTES] {
        self.0.get(&code).copied().unwrap_or([0; BYTES])
    }
}

pub(super) const PAGE: Page = Page {
    code: CODE,
    applies: |facts| facts.notes.is_some(),
    counters: &[],
    parameters: |facts| {
        let Some(notes) = facts.notes else { return Vec::new() };
        (0..PARAMETERS).map(|code| Parameter { code, value: notes.get(code).to_vec() }).collect()
    },
};

pub(super) const CODE: u8 = 0x0F;
