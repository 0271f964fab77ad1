//! Mode pages (SPC-5 7.5, SBC-4 6.5): one file a page, one list, and the values of one unit.
//!
//! A page is a row of [`PAGES`]: its code, its default bytes and the mask of what MODE SELECT may
//! change. What a page says is only what the device server does; the setters of behaviour are the
//! named getters at [`Values`], beside the pages that hold them.

pub mod caching;
pub mod capabilities;
pub mod control;
pub mod control_extension;
pub mod error_recovery;
pub mod exceptions;
mod parameters;
pub mod power_condition;
pub mod provisioning;
#[cfg(test)]
mod tests;
pub mod timeout;

pub use parameters::{
    BlockDescriptor, DeviceParameter, Header, ListLength, PageControl, ParseError, SenseRequest, parse,
};

/// What the pages of a unit depend on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Facts {
    /// There is a volatile cache that WCE can turn off.
    pub volatile_cache: bool,
    /// Thresholds of thin provisioning are watched.
    pub thresholds: bool,
    /// It is a CD/DVD drive (MMC-6) and not a disk.
    pub optical: bool,
}

/// One page.
#[derive(Debug)]
pub struct Page {
    /// PAGE CODE.
    pub code: u8,
    /// SUBPAGE CODE; 00h is a page without (page_0 format).
    pub subpage: u8,
    /// Whether a unit of these facts has it.
    pub applies: fn(Facts) -> bool,
    /// The values after power on, without the header.
    pub defaults: fn(Facts) -> Vec<u8>,
    /// Ones where MODE SELECT may change; as long as the defaults.
    pub changeable: fn(Facts) -> Vec<u8>,
}

/// All pages, ascending by code and subpage (SPC-5 7.5.7 asks for that order of 3Fh).
pub const PAGES: &[Page] = &[
    error_recovery::PAGE,
    caching::PAGE,
    control::PAGE,
    control_extension::PAGE,
    power_condition::PAGE,
    exceptions::PAGE,
    provisioning::PAGE,
    timeout::PAGE,
    capabilities::PAGE,
];

/// Why a MODE SELECT or MODE SENSE is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// INVALID FIELD IN CDB, 05h/24h/00h, at this byte.
    #[error("invalid field in byte {0} of the CDB")]
    InvalidCdbField(u8),
    /// PARAMETER LIST LENGTH ERROR, 05h/1Ah/00h.
    #[error("the mode parameter list is cut off")]
    ListLength,
    /// INVALID FIELD IN PARAMETER LIST, 05h/26h/00h, at this byte and, where it is one bit, this bit.
    #[error("invalid field at byte {byte} of the mode parameter list")]
    InvalidListField {
        /// FIELD POINTER.
        byte: u16,
        /// BIT POINTER.
        bit: Option<u8>,
    },
}

impl Refusal {
    /// ASC and ASCQ; the sense key is ILLEGAL REQUEST, 5h.
    pub fn code(self) -> (u8, u8) {
        match self {
            Refusal::InvalidCdbField(_) => (0x24, 0x00),
            Refusal::ListLength => (0x1A, 0x00),
            Refusal::InvalidListField { .. } => (0x26, 0x00),
        }
    }
}

/// The mode pages of one logical unit: what holds now, and what was saved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Values {
    facts: Facts,
    current: Vec<Stored>,
    saved: Option<Vec<Stored>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Stored {
    code: u8,
    subpage: u8,
    bytes: Vec<u8>,
}

/// Whether pages can be saved (the SP bit of MODE SELECT, PC 3 and the PS bit of MODE SENSE).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Saving {
    /// Somebody keeps them.
    Supported,
    /// SP is refused, and so is asking for saved values (39h/00h).
    Unsupported,
}

impl Values {
    /// Defaults.
    pub fn new(facts: Facts) -> Values {
        Values { facts, current: defaults(facts), saved: None }
    }

    /// What the pages depend on.
    pub fn facts(&self) -> Facts {
        self.facts
    }

    /// Defaults with what was saved laid over them. Of the saved bytes only changeable bits of pages
    /// that exist are taken, so that neither damage nor an older program can set what is not ours to set.
    pub fn restore(facts: Facts, saved: &[u8]) -> Values {
        let mut values = Values::new(facts);
        values.lay(saved);
        values.saved = Some(values.current.clone());
        values
    }

    /// The pages of a unit that goes on in another program: those in force, and those that were saved.
    pub fn revive(facts: Facts, current: &[u8], saved: Option<&[u8]>) -> Values {
        let mut values = saved.map_or_else(|| Values::new(facts), |saved| Values::restore(facts, saved));
        values.lay(current);
        values
    }

    /// Lays the changeable bits of these pages over those in force.
    fn lay(&mut self, mut rest: &[u8]) {
        let facts = self.facts;
        while let Some((&[code, subpage, length], after)) = rest.split_first_chunk::<3>() {
            let Some((bytes, after)) = after.split_at_checked(usize::from(length)) else { break };
            rest = after;
            let Some(page) = pages(facts).find(|page| (page.code, page.subpage) == (code, subpage)) else { continue };
            let Some(stored) = self.current.iter_mut().find(|one| (one.code, one.subpage) == (code, subpage)) else {
                continue;
            };
            for ((byte, mask), new) in stored.bytes.iter_mut().zip((page.changeable)(facts)).zip(bytes) {
                *byte = *byte & !mask | new & mask;
            }
        }
    }

    /// Whether pages were saved.
    pub fn is_saved(&self) -> bool {
        self.saved.is_some()
    }

    /// The pages in force, as [`Values::to_saved`] writes those that were saved.
    pub fn to_current(&self) -> Vec<u8> {
        written(&self.current)
    }

    /// What [`Values::restore`] reads: for each page its code, subpage, length and bytes. Plain; who
    /// keeps it also guards it against damage.
    pub fn to_saved(&self) -> Vec<u8> {
        written(self.saved.as_ref().unwrap_or(&self.current))
    }

    /// LOGICAL UNIT RESET: the saved values, or else the defaults (SPC-5 5.10).
    pub fn reset(&mut self) {
        self.current = self.saved.clone().unwrap_or_else(|| defaults(self.facts));
    }

    /// A byte of a page, counted from after its header; 0 where the page or the byte is not there.
    fn byte(&self, code: u8, subpage: u8, at: usize) -> u8 {
        let page = self.current.iter().find(|one| (one.code, one.subpage) == (code, subpage));
        page.and_then(|one| one.bytes.get(at).copied()).unwrap_or(0)
    }
}

fn written(pages: &[Stored]) -> Vec<u8> {
    let mut out = Vec::new();
    for one in pages {
        out.extend_from_slice(&[one.code, one.subpage, u8::try_from(one.bytes.len()).unwrap_or(u8::MAX)]);
        out.extend_from_slice(&one.bytes);
    }
    out
}

/// The pages of a unit of these facts.
fn pages(facts: Facts) -> impl Iterator<Item = &'static Page> {
    PAGES.iter().filter(move |page| (page.applies)(facts))
}

fn defaults(facts: Facts) -> Vec<Stored> {
    pages(facts).map(|page| Stored { code: page.code, subpage: page.subpage, bytes: (page.defaults)(facts) }).collect()
}

fn always(_: Facts) -> bool {
    true
}

fn disk(facts: Facts) -> bool {
    !facts.optical
}

fn optical(facts: Facts) -> bool {
    facts.optical
}
