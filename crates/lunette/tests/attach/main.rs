//! `lunette attach`, `detach` and `attached` against the real target, by FUSE with a loop device on this machine.
//!
//! That needs root, so the tests are not run unasked: `cargo xtask test attach` runs them where they can be.

mod attached;
mod bench;
