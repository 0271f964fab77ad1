//! Old words for what we do: the files and the command lines that people know.
//!
//! Nothing here talks to a target or a device. [`records`] are files; [`iscsiadm`] reads a command line, changes the
//! records, prints what iscsiadm prints, and asks an [`iscsiadm::Initiator`] for everything else. [`tgt`] has the command
//! lines and the file of scsi-target-utils, and asks a [`tgt::Daemon`].
#![forbid(unsafe_code)]

pub mod iscsiadm;
pub mod records;
pub mod tgt;
