//! RFC 7143 for both ends of the wire, without I/O: no sockets, no clock, no randomness, no data.
//!
//! A CDB is bytes here, and so are LUNs and sense data. The core trades in *places*: it parses
//! 48-byte headers and says where the bytes that follow belong; whoever drives it owns the memory.
#![forbid(unsafe_code)]

pub mod auth;
pub mod counter;
pub mod initiator;
pub mod isns;
pub mod key;
pub mod login;
pub mod name;
pub mod serial;
pub mod session;
pub mod text;
pub mod wire;
