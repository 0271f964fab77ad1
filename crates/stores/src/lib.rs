//! Backing stores and the table of their kinds.
//!
//! A store is named by one line of text, its address: `disk.img,size=10G`, `/dev/vdb,direct`,
//! `ram:1G,block=4096`, `null:1T`. [`open`] turns an address into a [`block::Backend`], [`open_drive`] one of an image into a drive. A new kind is
//! a module with a [`StoreKind`] and its line in [`KINDS`]; help and option checks follow from those.
#![forbid(unsafe_code)]

mod address;
mod encrypted;
mod error;
mod file;
pub mod host;
mod inherited;
mod memory;
mod size;
mod tray;

pub use address::{Address, take_options};
pub use error::OpenError;
pub use inherited::{forget_inherited, inherit};
pub use size::{Size, parse_size};
pub use tray::{is_image, open_drive};

use block::Backend;
use std::sync::Arc;

/// The kinds of stores, in the order in which they are asked whether an address is theirs.
pub const KINDS: &[StoreKind] = &[memory::RAM, memory::NULL, file::DEVICE, file::FILE];

/// A kind of store.
pub struct StoreKind {
    /// Its name, which an address may begin with: `ram:`.
    pub name: &'static str,
    /// One line for help texts.
    pub summary: &'static str,
    /// An address of this kind, for help texts.
    pub example: &'static str,
    /// The options it takes.
    pub options: &'static [StoreOption],
    /// Whether an address that names no kind is this kind's. Looks, changes nothing.
    pub probe: fn(place: &str) -> bool,
    /// Opens the store.
    pub open: fn(&Address) -> Result<Opened, OpenError>,
}

/// An option of a [`StoreKind`].
#[derive(Debug, Clone, Copy)]
pub struct StoreOption {
    /// What stands before the `=`, or the whole of it.
    pub name: &'static str,
    /// What the value is, as help writes it; `None` for an option without one.
    pub value: Option<&'static str>,
    /// One line for help texts.
    pub help: &'static str,
}

/// An opened store. The file behind it is locked until the backend and all its channels are dropped.
pub struct Opened {
    /// The store.
    pub backend: Arc<dyn Backend>,
    /// Whether the file was made by this.
    pub created: bool,
    /// What the store is called by itself, the same at every opening and after a change of its path
    /// where the system allows that; `None` for a store that has nothing to remember a name by.
    pub identity: Option<String>,
}

impl std::fmt::Debug for Opened {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Opened({:?})", self.backend.description())
    }
}

/// Opens the store at this address.
///
/// Fails with one line that says what is wrong, where, and what would mend it.
pub fn open(address: &str) -> Result<Opened, OpenError> {
    let address = Address::parse(address)?;
    (address.kind.open)(&address)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_explains_itself_with_an_example_that_is_its_own() {
        for kind in KINDS {
            assert!(!kind.summary.is_empty());
            assert!(kind.options.iter().all(|option| !option.help.is_empty()));
            let address = Address::parse(kind.example).unwrap();
            // Whether a path is a device is seen by looking, and this one may not be there.
            assert!(address.kind.name == kind.name || kind.name == "device", "{}", kind.example);
        }
    }
}
