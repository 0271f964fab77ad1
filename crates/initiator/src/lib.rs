//! The initiator as a library: sessions with a target, disks on them, groups of paths to one disk, discovery.
//!
//! A [`Session`] is a handle to a task that owns the sockets and the protocol; a [`Unit`] is a disk of it:
//!
//! ```
//! # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
//! # let url = sim::served::disk(2048);
//! let session = initiator::Session::connect(&url).await?;
//! let disk = session.unit(0);
//! assert_eq!(disk.capacity().await?.bytes(), 1 << 20);
//! disk.write(8, vec![7; 4096]).await?;
//! assert_eq!(disk.read(8, 8).await?, [7; 4096]);
//! session.logout().await?;
//! # Ok::<(), initiator::Error>(())
//! # }).unwrap();
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

/// The examples of the page are compiled.
#[cfg(doctest)]
#[doc = include_str!("../../../docs/initiator.md")]
struct Page;
