//! Why a store could not be opened, in one line for a person.

/// A store that could not be opened: where, what is wrong, and how to mend it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenError {
    place: String,
    problem: String,
    remedy: Option<String>,
}

impl OpenError {
    /// What is wrong with what.
    pub fn new(place: impl Into<String>, problem: impl Into<String>) -> OpenError {
        OpenError { place: place.into(), problem: problem.into(), remedy: None }
    }

    /// The same with what to do about it.
    pub fn remedy(self, remedy: impl Into<String>) -> OpenError {
        OpenError { remedy: Some(remedy.into()), ..self }
    }

    /// What it is about: a path or an address.
    pub fn place(&self) -> &str {
        &self.place
    }
}

impl std::fmt::Display for OpenError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.place.escape_debug(), self.problem)?;
        match &self.remedy {
            Some(remedy) => write!(f, "; {remedy}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for OpenError {}
