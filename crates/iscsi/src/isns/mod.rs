//! The Internet Storage Name Service, iSNS (RFC 4171): its messages for both ends, and a client that keeps an
//! entity registered. No sockets, no clock.
//!
//! ```text
//!   bytes ── Receiver ──► Message ── objects ──► Entity, Portal, Node, Group
//!                            │
//!                            └────► Client ──► Action (connect, send, close) and Event
//! ```
//!
//! Whoever answers is taken for a stranger: lengths are checked before anything is read by them, a message has
//! a bound, and no text of a peer goes anywhere before it is a name (CVE-2010-2221, CVE-2010-0743).

mod attribute;
mod client;
mod message;
mod objects;
mod registration;
mod wire;

pub use attribute::{Attribute, Tag};
pub use client::{Action, Client, Event, Reason};
pub use message::{Message, Status};
pub use objects::{FoundTarget, Object, StateChange, found_targets, objects};
pub use registration::{Features, Node, Portal, Registration, find_targets, listen_for_targets};
pub use wire::{FormatError, Function, HEADER_BYTES, Header, Receiver};

/// The port at which an iSNS server listens (RFC 4171 §5, IANA).
pub const PORT: u16 = 3205;
