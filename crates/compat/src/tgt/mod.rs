//! scsi-target-utils: the command lines of tgtadm, tgt-admin and their kin, what they print, and targets.conf.
//!
//! The text, the exit codes and their conditions are those that tgt 1.0.85 was seen to have (docs/tgt.md says where ours
//! differ). Who serves targets is behind [`Daemon`].

mod adm;
pub mod admin;
mod arguments;
pub mod conf;
mod getopt;
mod listing;
mod manner;
pub mod programs;
mod request;
mod view;

pub use adm::Run;
pub use getopt::{Grammar, Item, Long};
pub use manner::Manner;
pub use request::{Change, DeviceType, Error, Failure, NewUnit, Request, Show, Statistics, Who};
pub use view::{
    Connection, Counters, Daemon, Isns, Portal, Session, System, Target, Unit, View, Wire, scsi_id, serial,
};
