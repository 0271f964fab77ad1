//! Targets, portals, sessions, and who may use what.
#![forbid(unsafe_code)]

mod state_files;

pub use state_files::StateFiles;
