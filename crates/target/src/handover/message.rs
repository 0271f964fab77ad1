//! What two processes say to each other while one takes the other's place.

use super::format::records;
use std::net::SocketAddr;
use std::time::Duration;

/// The version of the format that this program writes, and the oldest that it reads.
pub const VERSION: u16 = 1;

/// What whoever connects says first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ask {
    /// The newest version of the format that it reads.
    pub version: u16,
    /// The oldest.
    pub oldest: u16,
    /// Its program's version, for messages.
    pub program: String,
    /// Whether it is going to take the place of the process; else it wants to know how it was started.
    pub takes_over: bool,
    /// How long sessions may take to come to rest.
    pub within: Duration,
}

/// How a process was started, for who starts another one in its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Started {
    /// Its program's version.
    pub program: String,
    /// Its number.
    pub process: u32,
    /// The directory in which it was started.
    pub directory: String,
    /// Its arguments, without its own name.
    pub arguments: Vec<String>,
    /// What of its environment it goes by.
    pub environment: Vec<(String, String)>,
}

/// What is handed over before anything is at rest. Its descriptors, in this order: standard output and error, the
/// socket of upgrades, that of the administration where there is one, the listeners, the stores' files, the locks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offer {
    /// Its program's version.
    pub program: String,
    /// Its number.
    pub process: u32,
    /// Whether it has an administration.
    pub control: bool,
    /// Whether the administration's socket goes with the process, and is not the service manager's.
    pub control_is_own: bool,
    /// How many files it may open.
    pub open_files: u64,
    /// The listeners, by the address that was asked for.
    pub listeners: Vec<SocketAddr>,
    /// Files of stores: of which unit each is.
    pub stores: Vec<[u8; 16]>,
    /// Locks of kept state.
    pub locks: u32,
    /// Units whose content is in memory alone.
    pub memories: Vec<[u8; 16]>,
    /// The document that is served, where it is not what the arguments name.
    pub document: Option<String>,
}

/// A piece of a unit's memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemoryPiece {
    /// The unit.
    pub unit: [u8; 16],
    /// The piece.
    pub number: u64,
    /// Which parts of it hold data, and its bytes; nothing where none does.
    pub content: Option<(u16, Vec<u8>)>,
}

records! {
    Ask { 1 version, 2 oldest, 3 program, 4 takes_over, 5 within }
    Started { 1 program, 2 process, 3 directory, 4 arguments, 5 environment }
    Offer { 1 program, 2 control, 3 listeners, 4 stores, 5 locks, 6 memories, 7 document, 8 process, 9 control_is_own, 0x800a open_files }
    MemoryPiece { 1 unit, 2 number, 3 content }
}
