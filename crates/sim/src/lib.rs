//! The seeded world for tests: scripted peers, a checker of what goes over the wire, a network that
//! splits, delays and cuts, and a whole target in one process without sockets or a clock.
//!
//! ```text
//!   raw::Client ── Transport ──► TcpStream ──► daemon::Daemon        the real binary
//!        │                           └──► proxy::Proxy ──► Daemon    … behind a bad network
//!        └─────── Transport ──► world::Wire ──► world::World         the same cores in this process
//!   scripted::Target ── Transport ──► scripted::Driven, or a socket     an initiator and a target that lies
//!   joined: iscsi::initiator ══ bad network ══ world::World     a seed decides everything; `simulate` runs them
//!   every frame in both directions ──► capture::Capture              the wire's invariants
//! ```
//!
//! Nothing but tests imports it, and it panics where a test would: at the first thing that is not as
//! it was expected, with what was seen.
#![forbid(unsafe_code)]

pub mod capture;
pub mod daemon;
pub mod exposition;
pub mod frame;
pub mod golden;
pub mod isns;
pub mod joined;
pub mod oracle;
pub mod proxy;
pub mod random;
pub mod raw;
pub mod scripted;
pub mod served;
mod stream;
pub mod world;

pub use capture::{Agreed, Capture};
pub use daemon::Daemon;
pub use frame::{Digests, Frame};
pub use random::Random;
pub use raw::{Answer, Client, Command, Ended, Login, Refused};
