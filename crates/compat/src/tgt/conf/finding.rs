//! What is wrong with a configuration, and where.

use std::fmt;
use std::sync::Arc;

/// A line of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The file, as it was named.
    pub file: Arc<str>,
    /// Its line, from 1 on.
    pub line: usize,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file, self.line)
    }
}

/// Something to be told of a configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Where.
    pub at: Place,
    /// Whether it stands in the way.
    pub is_error: bool,
    /// What.
    pub what: String,
}

impl Finding {
    /// Something that stands in the way.
    pub fn error(at: Place, what: impl Into<String>) -> Finding {
        Finding { at, is_error: true, what: what.into() }
    }

    /// Something that does not.
    pub fn warning(at: Place, what: impl Into<String>) -> Finding {
        Finding { at, is_error: false, what: what.into() }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = if self.is_error { "error" } else { "note" };
        write!(f, "{}: {kind}: {}", self.at, self.what)
    }
}
