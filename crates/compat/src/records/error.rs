//! What goes wrong with records.

use std::fmt;
use std::io;
use std::path::Path;

/// Why records could not be read or changed.
#[derive(Debug)]
pub enum Error {
    /// There is no such record.
    NotFound(String),
    /// What was asked cannot be.
    Invalid(String),
    /// A file or directory could not be read or written.
    Files(String),
}

impl Error {
    pub(super) fn file(what: &str, path: &Path, error: &io::Error) -> Error {
        Error::Files(format!("{what} {}: {error}", path.display()))
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::NotFound(line) | Error::Invalid(line) | Error::Files(line) => f.write_str(line),
        }
    }
}

impl std::error::Error for Error {}
