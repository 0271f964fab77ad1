//! The records that open-iscsi keeps: what they say, and the files that they are in.

mod database;
mod discovery;
mod error;
mod field;
mod files;
mod home;
mod iface;
mod node;
mod portal;
mod record;

pub use database::Database;
pub use discovery::{Method, Source};
pub use error::Error;
pub use field::{Class, Field, KEYS, Kind, Unacceptable};
pub use home::random_name;
pub use node::{Choice, Node};
pub use portal::{Portal, PortalPattern, TAG_UNKNOWN, is_component};
pub use record::{EMPTY, Manner, Record, Secrets, lines};
