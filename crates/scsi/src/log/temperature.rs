//! 0Dh, temperature (SPC-5 7.3.22).

use super::{Page, Parameter};

/// What a medium's sensor says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Temperature {
    /// Degrees Celsius; below zero is 0.
    pub current: u8,
    /// The highest at which it may run without end, in degrees Celsius.
    pub reference: u8,
}

pub(super) const PAGE: Page = Page {
    code: 0x0D,
    applies: |facts| facts.temperature.is_some(),
    counters: &[],
    parameters: |facts| {
        let parameter = |code, degrees| Parameter { code, value: vec![0, degrees] };
        facts
            .temperature
            .map_or_else(Vec::new, |now| vec![parameter(0x0000, now.current), parameter(0x0001, now.reference)])
    },
};
