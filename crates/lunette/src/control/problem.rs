//! The one form of errors: a word for programs, a line for people, what would mend it, and findings with their places.

use crate::configuration::edit::{Kind, Wrong};
use serde_json::{Value, json};

/// Why a request was not done.
#[derive(Debug, Clone)]
pub struct Problem {
    /// The status of HTTP.
    pub status: u16,
    /// A word for programs.
    pub code: &'static str,
    /// What is wrong.
    pub message: String,
    /// What would mend it.
    pub help: String,
    /// What would be wrong with the configuration.
    pub findings: Vec<Value>,
    /// What was not done.
    pub plan: Option<Box<Value>>,
}

/// Every word with its status, for the OpenAPI document and docs/administration.md.
pub const CODES: &[(&str, u16, &str)] = &[
    ("bad-request", 400, "the request is not understood"),
    ("unauthorized", 401, "the token is missing or wrong"),
    ("not-found", 404, "there is nothing of this name"),
    ("method", 405, "that cannot be done with it"),
    ("time", 408, "the request did not come in time"),
    ("exists", 409, "it is there already"),
    ("in-use", 409, "somebody uses it; `force` takes it away all the same"),
    ("conflict", 409, "the file says something else than what runs"),
    ("needs-restart", 409, "it cannot change while the daemon runs"),
    ("too-large", 413, "the body is too long"),
    ("media-type", 415, "the body is no JSON"),
    ("invalid", 422, "the configuration would be wrong; `findings` says where"),
    ("input", 422, "it cannot be done as it was asked"),
    ("failed", 500, "it failed; everything is as it was"),
    ("busy", 503, "there are too many at a time"),
    ("pending", 504, "it takes longer than is waited for, and goes on; what comes of it is seen later"),
];

impl Problem {
    /// One of [`CODES`].
    pub fn new(code: &'static str, message: impl Into<String>, help: impl Into<String>) -> Problem {
        let status = CODES.iter().find(|(known, ..)| *known == code).map_or(500, |(_, status, _)| *status);
        Problem { status, code, message: message.into(), help: help.into(), findings: Vec::new(), plan: None }
    }

    /// That there is nothing of this name.
    pub fn not_found(message: impl Into<String>, help: impl Into<String>) -> Problem {
        Problem::new("not-found", message, help)
    }

    /// From a line that says after a `;` what would be right.
    pub fn line(code: &'static str, line: &str) -> Problem {
        let (message, help) = line.split_once("; ").unwrap_or((line, ""));
        Problem::new(code, message, help)
    }

    /// As JSON.
    pub fn json(&self) -> Value {
        json!({
            "code": self.code,
            "message": self.message,
            "help": self.help,
            "findings": self.findings,
            "plan": self.plan,
        })
    }
}

impl From<Wrong> for Problem {
    fn from(wrong: Wrong) -> Problem {
        let code = match wrong.kind {
            Kind::Missing => "not-found",
            Kind::Exists => "exists",
            Kind::Document | Kind::Edit => "input",
        };
        Problem::new(code, wrong.what, wrong.help)
    }
}
