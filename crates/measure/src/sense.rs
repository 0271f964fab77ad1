//! Sense data in its two formats.

use crate::Case;
use scsi::{Condition, Sense};
use std::hint::black_box;

pub(crate) const CASES: &[Case] = &[
    Case { name: "sense: fixed format", prepare: || encoded(false) },
    Case { name: "sense: descriptor format", prepare: || encoded(true) },
];

fn encoded(descriptor_format: bool) -> Box<dyn FnMut()> {
    let condition = Condition::invalid_cdb_field(2, Some(5)).with_information(0x1234_5678);
    Box::new(move || {
        black_box(Sense::encode(black_box(&condition), descriptor_format));
    })
}
