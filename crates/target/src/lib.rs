//! Targets, portals, sessions, and who may use what.
#![forbid(unsafe_code)]

mod discovery;
mod door;
mod state_files;
mod target;
mod worker;

pub use door::Door;
pub use state_files::StateFiles;
pub use target::{Handover, Target};
pub use worker::WorkerHandle;
