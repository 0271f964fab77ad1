//! Block stores as local block devices: each front-end offers any [`block::Backend`] to the host.
//!
//! A [`Frontend`] is a way into the kernel (fuse with loop, nbd, ublk): it tells whether it can be used
//! here, and makes an [`Attachment`]. All of them serve what the kernel asks with threads that each own a
//! [`channel::Channel`]. Nothing here knows where the disk is: a file, memory, or a remote logical unit.
//!
//! [`kernel`] has a shape of its own: there the kernel speaks iSCSI itself, on a connection that is logged in here.

pub mod channel;
pub mod crew;
pub mod descriptors;
mod flush;
mod frontend;
pub mod fuse;
pub mod kernel;
mod loopdev;
pub mod memory;
mod modules;
pub mod nbd;
pub mod ublk;
pub mod users;

pub use frontend::{Attachment, Closed, Detach, Error, Frontend, Notice, Settings, UNSTABLE, Unusable};
