//! The device server and the task manager: what a logical unit does (SAM-5, SPC-5, SBC-4, MMC-6).
//!
//! Sans-I/O. It knows I_T nexuses, not iSCSI; it turns CDBs into [`block::Request`]s and their
//! completions into status and sense. [`LogicalUnit`] is what all workers share; [`Lane`] is the
//! part that runs on one worker, with that worker's channels to the stores.
#![forbid(unsafe_code)]

mod change;
mod clock;
mod command;
mod commons;
mod copy;
mod disturbance;
mod fault;
pub mod handover;
mod lane;
mod ledger;
mod limit;
mod mail;
mod naming;
mod occupation;
mod operation;
mod ports;
pub mod reservation;
mod service;
mod shown;
mod state;
pub mod statistics;
mod unit;

pub use change::{ChangeError, Paused, Registration, ReservationsView, UnitStanding};
pub use clock::{Clock, Ticks};
pub use copy::Random;
pub use lane::{Lane, LaneContext, MAXIMUM_TRANSFER_BYTES};
pub use limit::{LEAST_BURST, LONGEST_BURST, Limiter, Rate, USUAL_BURST};
pub use mail::Wake;
pub use ports::{GroupSettings, TargetPort, TargetPortGroups};
pub use scsi::inquiry::DeviceType;
pub use service::{
    Cdb, Command, Completed, Event, NexusId, TaskAttribute, TaskManagementFunction, TaskManagementResponse, TaskTag,
};
pub use shown::Shown;
pub use state::{Saved, StateError, StateKind, StateStore};
pub use unit::{Change, Identity, LogicalUnit, LunEntry, LunMap, NexusDescription, Options};
