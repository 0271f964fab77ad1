//! The initiator as a library: sessions with a target, disks on them, groups of paths to one disk, discovery.
#![forbid(unsafe_code)]

pub mod address;

pub use address::{Address, AddressError};
