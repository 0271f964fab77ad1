//! The device server and the task manager: what a logical unit does (SAM-5, SPC-5, SBC-4).
//!
//! Sans-I/O. It knows I_T nexuses, not iSCSI; it turns CDBs into [`block::Request`]s and their
//! completions into status and sense. [`LogicalUnit`] is what all workers share; [`Lane`] is the
//! part that runs on one worker, with that worker's channels to the stores.
#![forbid(unsafe_code)]

mod command;
mod commons;
mod fault;
mod lane;
mod mail;
mod occupation;
mod operation;
mod ports;
pub mod reservation;
mod service;
mod state;
mod unit;

pub use lane::{Lane, LaneContext, MAXIMUM_TRANSFER_BYTES};
pub use mail::Wake;
pub use ports::{GroupSettings, TargetPort, TargetPortGroups};
pub use service::{
    Cdb, Command, Completed, Event, NexusId, TaskAttribute, TaskManagementFunction, TaskManagementResponse, TaskTag,
};
pub use state::{StateError, StateKind, StateStore};
pub use unit::{Identity, LogicalUnit, LunEntry, LunMap, NexusDescription, Options};
