//! SAM-5, SPC-5 and SBC-4 words and codecs. No I/O, no state.
#![forbid(unsafe_code)]

mod sense;
mod status;

pub use sense::Sense;
pub use status::Status;
