//! Old words for what we do: the files that open-iscsi keeps its records in, and the command line that people know.
//!
//! Nothing here talks to a target or a device. [`records`] are files; [`iscsiadm`] reads a command line, changes the
//! records, prints what iscsiadm prints, and asks an [`iscsiadm::Initiator`] for everything else.
#![forbid(unsafe_code)]

pub mod iscsiadm;
pub mod records;
