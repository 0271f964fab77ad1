//! The seeded world for tests: network, disk, clock, scripted peers.
#![forbid(unsafe_code)]
