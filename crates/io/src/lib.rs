//! Everything that touches the kernel: sockets and their driver, engines for file I/O, digests.
//!
//! The home of `unsafe`, in small modules that say why they are sound.

pub mod crc32c;
pub mod engine;
pub mod link;
