//! Targets, portals, sessions, and who may use what.
#![forbid(unsafe_code)]

mod access;
mod address;
pub mod admin;
mod admission;
mod change;
mod discovery;
mod door;
pub mod handover;
mod isns;
mod limits;
mod portals;
mod refusal;
mod registry;
mod slow;
mod state_files;
mod target;
mod trace;
mod worker;

pub use access::{Access, Chap, Initiators, NamePattern, Network, NetworkError, NoRule, PatternError, Rule};
pub use address::{HostPort, HostPortError, ISCSI_PORT};
pub use change::{Changed, Disturbance, Disturbed, Sessions, patiently, resize};
pub use door::{Cause, Door, Frozen, Prepared, Record};
pub use isns::{Isns, IsnsSettings, Notified};
pub use limits::{BOUNDS, Bound, Counters, Limits, Unit};
pub use portals::bind;
pub use refusal::{NoAccess, Refusal};
pub use registry::{Closed, Registered};
pub use slow::{SlowCommand, SlowCommands};
pub use state_files::StateFiles;
pub use target::{Discovery, Handover, Portal, Target, Targets, Viewer};
pub use trace::{TRACE_BYTES, TRACES, Trace, TraceWish, Traced, TracedConnection};
pub use worker::{ConnectionOverview, SessionOverview, WorkerHandle, WorkerOverview};
