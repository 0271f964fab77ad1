//! SAM-5, SPC-5, SBC-4 and MMC-6 words and codecs. No I/O, no state.
#![forbid(unsafe_code)]

pub mod blocks;
pub mod cdb;
pub mod commands;
pub mod copy;
mod field;
pub mod inquiry;
pub mod log;
pub mod mmc;
pub mod mode;
pub mod persistent;
pub mod port_groups;
pub mod sense;
mod status;
pub mod transport_id;
pub mod vpd;
pub mod words;

pub use sense::{Condition, Sense, SenseKey};
pub use status::Status;
