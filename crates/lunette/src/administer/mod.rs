//! The commands that administer a daemon that runs: clients of its API, for people and for scripts.

pub mod client;
mod command;
pub mod events;
mod kind;
mod secret;
pub mod show;
#[cfg(test)]
mod tests;

pub use command::Arguments;
pub use kind::{ACCOUNT, ACL, CONNECTION, GROUP, LUN, PORTAL, RESERVATION, SESSION, TARGET};
