//! Targets, portals, sessions, and who may use what.
#![forbid(unsafe_code)]

mod access;
mod admission;
mod discovery;
mod door;
mod limits;
mod registry;
mod state_files;
mod target;
mod worker;

pub use access::{Access, Chap};
pub use door::Door;
pub use limits::{BOUNDS, Bound, Counters, Limits, Unit};
pub use registry::Registered;
pub use state_files::StateFiles;
pub use target::{Handover, Portal, Target, Targets};
pub use worker::WorkerHandle;
