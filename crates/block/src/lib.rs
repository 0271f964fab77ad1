//! The narrow waist of the house: what a block store is.
//!
//! [`Backend`] is a disk that exists once (a file, memory, an image, a remote logical unit);
//! [`Store`] is one worker's channel to it. Stores, layers, remote disks and simulated disks
//! implement them; the device server and every attach front-end consume them. Nothing here knows
//! a CDB, a LUN, a PDU or a socket, and nothing here makes a system call.
#![forbid(unsafe_code)]

mod buffer;
mod engine;
mod error;
pub mod layer;
mod limits;
pub mod pure;
mod request;
mod slots;
mod store;
pub mod testing;

pub use buffer::{Account, Buf, PAGE_BYTES, Page, Pool};
pub use engine::{Alarm, Caching, Engine, FileJob, FileOperation, Inbox, NoEngine, OpenFile};
pub use error::{Error, ErrorKind};
pub use limits::{AtomicLimits, Limits, Rotation, UnmapLimits, WriteCache};
pub use request::{Completion, Extent, ExtentState, Operation, Outcome, Request, RequestId};
pub use slots::Slots;
pub use store::{Backend, Description, Estate, Flushed, Medium, Memory, Space, Store};
