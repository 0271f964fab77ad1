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
    /// The same, where all of it was told (exit code 2).
    Told,
    /// It failed while running (exit code 1).
    Runtime(String),
    /// It failed while running, for a reason that scripts tell apart (exit codes 3 to 7).
    Because(Cause, String),
}

/// Reasons that scripts tell apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// Nobody answers there: the host has no address, the connection was refused, the network is down (3).
    Unreachable,
    /// It did not answer in time (3).
    TimedOut,
    /// The target refused the login (4).
    Refused,
    /// The target refused who we say we are, or could not prove who it is (4).
    Authentication,
    /// There is no such target, LUN or disk, or it is not shown to us (5).
    NotFound,
    /// It is in use: mounted, or attached already in another way (6).
    InUse,
    /// This machine cannot do it, or we may not (7).
    Unavailable,
}

impl Cause {
    /// What a script sees.
    pub fn exit_code(self) -> u8 {
        match self {
            Cause::Unreachable | Cause::TimedOut => 3,
            Cause::Refused | Cause::Authentication => 4,
            Cause::NotFound => 5,
            Cause::InUse => 6,
            Cause::Unavailable => 7,
        }
    }

    /// All, for a process that tells another one.
    pub const ALL: [(&'static str, Cause); 7] = [
        ("unreachable", Cause::Unreachable),
        ("timed out", Cause::TimedOut),
        ("refused", Cause::Refused),
        ("authentication", Cause::Authentication),
        ("not found", Cause::NotFound),
        ("in use", Cause::InUse),
        ("unavailable", Cause::Unavailable),
    ];
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

    /// A failure for a reason that scripts tell apart.
    pub fn because(cause: Cause, line: impl ToString) -> Failure {
        Failure::Because(cause, line.to_string())
    }

    /// The same failure with more at the end of its line.
    pub fn with(self, more: &str) -> Failure {
        match self {
            Failure::Input(line) => Failure::Input(line + more),
            Failure::Findings(text) => Failure::Findings(text + more),
            Failure::Told => Failure::Told,
            Failure::Runtime(line) => Failure::Runtime(line + more),
            Failure::Because(cause, line) => Failure::Because(cause, line + more),
        }
    }

    /// What a script sees.
    pub fn exit_code(&self) -> ExitCode {
        match self {
            Failure::Because(cause, _) => ExitCode::from(cause.exit_code()),
            Failure::Input(_) | Failure::Findings(_) | Failure::Told => ExitCode::from(2),
            Failure::Runtime(_) => ExitCode::from(1),
        }
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Failure::Findings(text) => f.write_str(text.trim_end()),
            Failure::Told => Ok(()),
            // One line, whatever a path or a peer brought with it.
            Failure::Input(line) | Failure::Runtime(line) | Failure::Because(_, line) => {
                f.write_str(&line.replace('\n', " "))
            }
        }
    }
}
