//! CRC32C over a header, over a page, and over a page that is copied as the link copies it.

use crate::Case;
use io::crc32c::Crc32c;
use std::hint::black_box;

pub(crate) const CASES: &[Case] = &[
    Case { name: "CRC32C: 48 bytes", prepare: over::<48> },
    Case { name: "CRC32C: 4 KiB", prepare: over::<4096> },
    Case { name: "CRC32C: 4 KiB while copying", prepare: copied },
];

fn bytes(length: usize) -> Vec<u8> {
    (0..length).map(|at| ((at * 31) >> 3) as u8).collect()
}

fn over<const LENGTH: usize>() -> Box<dyn FnMut()> {
    let bytes = bytes(LENGTH);
    Box::new(move || {
        black_box(Crc32c::over(black_box(&bytes)));
    })
}

/// A data segment that lies in staging in two pieces, as `io::link::receive` takes it.
fn copied() -> Box<dyn FnMut()> {
    let from = bytes(4096);
    let mut place = vec![0; 4096];
    Box::new(move || {
        let mut crc = Crc32c::new();
        for (place, chunk) in place.chunks_mut(2048).zip(black_box(&from).chunks(2048)) {
            place.copy_from_slice(chunk);
            crc.update(chunk);
        }
        black_box(crc.finish());
        black_box(&place);
    })
}
