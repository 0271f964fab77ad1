//! Why a command ended: one line for a person, and an exit code for a script.

use std::process::ExitCode;

/// A command's end that is no success.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// What was asked cannot be done as it was asked (exit code 2).
    Input(String),
    /// A configuration file is wrong in these ways: for each a line that begins with its place, and the text
    /// (exit code 2).
    Findings(String),
    /// It failed while running (exit code 1).
    Runtime(String),
}

impl Failure {
    /// Bad input: what, where and how to mend it.
    pub fn input(line: impl ToString) -> Failure {
        Failure::Input(line.to_string())
    }

    /// A failure of the world.
    pub fn runtime(line: impl ToString) -> Failure {
        Failure::Runtime(line.to_string())
    }

    /// What a script sees.
    pub fn exit_code(&self) -> ExitCode {
        match self {
            Failure::Input(_) | Failure::Findings(_) => ExitCode::from(2),
            Failure::Runtime(_) => ExitCode::from(1),
        }
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Failure::Findings(text) => f.write_str(text.trim_end()),
            // One line, whatever a path or a peer brought with it.
            Failure::Input(line) | Failure::Runtime(line) => f.write_str(&line.replace('\n', " ")),
        }
    }
}
