//! The initiator as a library: sessions with a target, disks on them, groups of paths to one disk, discovery.
//!
//! A [`Session`] is a handle to a task that owns the sockets and the protocol; a [`Unit`] is a disk of it:
//!
//! ```no_run
//! # async fn example() -> Result<(), initiator::Error> {
//! let session = initiator::Session::connect("iscsi://10.0.0.1/iqn.2026-11.com.example:disk").await?;
//! let disk = session.unit(0);
//! println!("{} bytes", disk.capacity().await?.bytes());
//! # Ok(())
//! # }
//! ```
#![forbid(unsafe_code)]

pub mod address;
mod channel;
mod command;
pub mod discovery;
mod disk;
mod driver;
mod error;
mod event;
mod group;
mod guard;
mod idempotence;
mod information;
mod login;
mod lun;
mod options;
mod session;
mod unit;

pub use address::{Address, AddressError};
pub use channel::Channel;
pub use command::{Answer, Attribute, Cdb, Command, Data, Finished};
pub use disk::{Identity, RemoteDisk};
pub use error::{Error, ScsiError};
pub use event::Event;
pub use group::{Group, GroupOptions, PathState, PathStatus, Policy};
pub use information::{ConnectionInformation, Information, State, Statistics};
pub use iscsi::initiator::Function;
pub use login::{HandOver, Joining, connect_for_hand_over, reconnect_for_hand_over};
pub use lun::Lun;
pub use options::{Account, Algorithm, Chap, DigestOffer, INITIATOR_NAME, Options, Portal, Secret, SessionKind};
pub use session::Session;
pub use unit::{Capacity, Compared, Generation, Registration, Unit};
