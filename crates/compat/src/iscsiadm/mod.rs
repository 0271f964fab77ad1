//! iscsiadm: its command line, what it does to records, and what it prints.
//!
//! The text, the exit codes and their conditions are those that open-iscsi 2.1.8 was seen to have (docs/iscsiadm.md says
//! where ours differ). Who logs in is behind [`Initiator`].

mod arguments;
mod code;
mod discovery;
mod host;
mod iface;
mod initiator;
mod node;
mod session;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
mod tree;
mod update;

pub use code::Code;
pub use initiator::{Failure, Found, Initiator, Session, Statistics, Unit, Wait};

use crate::records::{Choice, Database, Error, Manner, Node, Record, Secrets};
use arguments::{Arguments, Read};
use std::fmt::Display;
use std::io::Write;

/// One run of iscsiadm.
pub struct Run<'a> {
    database: &'a Database,
    initiator: &'a dyn Initiator,
    manner: Manner,
    out: &'a mut dyn Write,
    err: &'a mut dyn Write,
}

impl<'a> Run<'a> {
    /// Everything that a run needs.
    pub fn new(
        database: &'a Database,
        initiator: &'a dyn Initiator,
        manner: Manner,
        out: &'a mut dyn Write,
        err: &'a mut dyn Write,
    ) -> Run<'a> {
        Run { database, initiator, manner, out, err }
    }

    /// Does what the words behind the program's name say.
    pub fn run(&mut self, words: &[String]) -> Code {
        let arguments = match arguments::read(words) {
            Read::Arguments(arguments) => arguments,
            Read::Help => {
                self.say(USAGE);
                return Code::SUCCESS;
            }
            Read::Version => {
                self.say(format!("iscsiadm version {}", self.manner.version()));
                return Code::SUCCESS;
            }
            Read::Stop => return Code::SUCCESS,
            Read::Wrong(code, lines) => {
                for line in lines {
                    let _ = writeln!(self.err, "{line}");
                }
                return code;
            }
        };
        let done = match arguments.mode.as_deref().unwrap_or_default() {
            "discovery" => self.discovery(&arguments, discovery::Settings::Fresh),
            "discoverydb" => self.discovery(&arguments, discovery::Settings::Stored),
            "node" => self.node(&arguments),
            "session" => self.session(&arguments),
            "iface" => self.iface(&arguments),
            "host" => self.host(&arguments),
            _ => self.firmware(&arguments),
        };
        done.unwrap_or_else(|code| code)
    }

    /// A line on standard output.
    fn say(&mut self, line: impl Display) {
        // Whoever asked may have closed the pipe.
        let _ = writeln!(self.out, "{line}");
    }

    /// A text on standard output.
    fn print(&mut self, text: &str) {
        let _ = self.out.write_all(text.as_bytes());
    }

    /// A line on standard error.
    fn complain(&mut self, line: impl Display) {
        let _ = writeln!(self.err, "iscsiadm: {line}");
    }

    /// A line on standard error, and the code for it.
    fn refuse(&mut self, code: Code, line: impl Display) -> Code {
        self.complain(line);
        code
    }

    /// What went wrong with records.
    fn record_failure(&mut self, error: &Error) -> Code {
        self.complain(error);
        match error {
            Error::NotFound(_) => Code::NOTHING_FOUND,
            Error::Invalid(_) => Code::INVALID,
            Error::Files(_) => Code::DATABASE,
        }
    }

    fn records<T>(&mut self, result: Result<T, Error>) -> Result<T, Code> {
        result.map_err(|error| self.record_failure(&error))
    }

    fn sessions(&mut self) -> Result<Vec<Session>, Code> {
        let sessions = self.initiator.sessions();
        let mut sessions = sessions.map_err(|failure| self.failure(&failure))?;
        sessions.sort_by_key(|session| session.id);
        Ok(sessions)
    }

    /// What the initiator says went wrong.
    fn failure(&mut self, failure: &Failure) -> Code {
        for line in &failure.lines {
            self.complain(line);
        }
        failure.code
    }

    fn name(&mut self) -> Result<String, Code> {
        let name = self.database.name_or_new();
        self.records(name)
    }

    fn show(&mut self, record: &Record, secrets: Secrets) {
        let text = record.shown(self.manner, secrets);
        self.print(&text);
    }

    /// Logs in to these, as far as there is no session of theirs yet.
    fn login(&mut self, nodes: &[Node], arguments: &Arguments, more: More) -> Result<Code, Code> {
        let sessions = self.sessions()?;
        let mut code = Code::SUCCESS;
        let mut wanted = Vec::new();
        for node in nodes {
            let present = sessions.iter().filter(|session| is_of(session, node)).count();
            let asked = node.record.number::<usize>("node.session.nr_sessions").unwrap_or(1).clamp(1, SESSIONS_MAX);
            if more == More::Session {
                wanted.push(node.clone());
            } else if present >= asked {
                let plural = if asked == 1 { "" } else { "s" };
                let iface = &node.iface;
                self.complain(format!("{iface}: {asked} session{plural} requested, but {present} already present."));
                code = code.first(Code::SESSION_EXISTS);
            } else {
                wanted.extend(std::iter::repeat_n(node.clone(), asked - present));
            }
        }
        let multiple = if self.manner == Manner::V873 || more == More::Session { " (multiple)" } else { "" };
        for node in &wanted {
            self.say(format!("Logging in to {}{multiple}", label(node)));
        }
        let _ = self.out.flush();
        let wait = if arguments.has('W') { Wait::No } else { Wait::ForTheEnd };
        let name = if wanted.is_empty() { String::new() } else { self.name()? };
        let results = self.initiator.login(&wanted, &name, wait);
        for (node, result) in wanted.iter().zip(results) {
            match result {
                Ok(()) if wait == Wait::No => {}
                Ok(()) => self.say(format!("Login to {} successful.", label(node))),
                Err(failure) => {
                    self.complain(format!("Could not login to {}.", label(node)));
                    self.reported(&failure);
                    code = code.first(failure.code);
                }
            }
        }
        if code != Code::SUCCESS {
            self.complain("Could not log into all portals");
        }
        Ok(code)
    }

    /// Logs out of these.
    fn logout(&mut self, sessions: &[Session]) -> Result<Code, Code> {
        if sessions.is_empty() {
            return Err(self.refuse(Code::NOTHING_FOUND, "No matching sessions found"));
        }
        for session in sessions {
            self.say(format!("Logging out of session {}", session.label()));
        }
        let _ = self.out.flush();
        let mut code = Code::SUCCESS;
        for (session, result) in sessions.iter().zip(self.initiator.logout(sessions)) {
            match result {
                Ok(()) => self.say(format!("Logout of {} successful.", session.label())),
                Err(failure) => {
                    self.complain(format!("Could not logout of {}.", session.label()));
                    self.reported(&failure);
                    code = code.first(failure.code);
                }
            }
        }
        if code != Code::SUCCESS {
            self.complain("Could not logout of all requested sessions");
        }
        Ok(code)
    }

    fn reported(&mut self, failure: &Failure) {
        self.complain(format!("initiator reported error ({} - {})", failure.code.0, failure.code.text()));
        // iscsiadm leaves the cause to a log; who has no daemon has it here.
        for line in &failure.lines {
            self.complain(line);
        }
    }

    fn rescan(&mut self, sessions: &[Session]) -> Result<Code, Code> {
        let mut code = Code::SUCCESS;
        for session in sessions {
            self.say(format!("Rescanning session {}", session.label()));
            if let Err(failure) = self.initiator.rescan(session) {
                code = code.first(self.failure(&failure));
            }
        }
        self.found(sessions, code)
    }

    fn statistics(&mut self, sessions: &[Session]) -> Result<Code, Code> {
        let mut code = Code::SUCCESS;
        for session in sessions {
            match self.initiator.statistics(session) {
                Ok(statistics) => {
                    self.say(format!("Stats for session {}", session.label()));
                    for (title, counters) in [("SNMP", &statistics.mib), ("Extended", &statistics.others)] {
                        self.say(format!("iSCSI {title}:"));
                        for (name, value) in counters {
                            self.say(format!("\t{name}: {value}"));
                        }
                    }
                }
                Err(failure) => code = code.first(self.failure(&failure)),
            }
        }
        self.found(sessions, code)
    }

    fn found(&mut self, sessions: &[Session], code: Code) -> Result<Code, Code> {
        match sessions.is_empty() {
            true => Err(self.refuse(Code::NOTHING_FOUND, "No session found.")),
            false => Ok(code),
        }
    }
}

/// Whether another session shall be had though there is one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum More {
    Session,
    No,
}

/// Sessions that one record may ask for.
const SESSIONS_MAX: usize = 32;

/// Whether a session was made by this record.
fn is_of(session: &Session, node: &Node) -> bool {
    let portal = &session.persistent;
    session.target == node.target
        && portal.address == node.portal.address
        && portal.port == node.portal.port
        && session.iface == node.iface
}

/// Whether a session is one of those that are meant.
fn is_meant(session: &Session, choice: &Choice) -> bool {
    choice.fits(&session.target, &session.persistent, &session.iface)
}

/// As messages name a node.
fn label(node: &Node) -> String {
    format!("[iface: {}, target: {}, portal: {}]", node.iface, node.target, node.portal.with_comma())
}

const USAGE: &str = "\
iscsiadm -m discoverydb [-hV] [-P 0|1] [-t st|isns -p ip:port [-I iface]... [-D] [-l]] [-o new|delete|update|show|nonpersistent] [-n name -v value]
iscsiadm -m discovery [-hV] [-P 0|1] [-t st|isns -p ip:port [-I iface]... [-l] [-W]] [-o new|delete|update|nonpersistent]
iscsiadm -m node [-hV] [-P 0|1] [-S] [-L|-U all|manual|automatic|onboot] [-T target] [-p ip:port] [-I iface] [-l [-W] | -u | -R | -s] [-o new|delete|update|show] [-n name -v value]
iscsiadm -m session [-hV] [-P 0|1|2|3] [-S] [-r number|sysfs path] [-R | -u | -s] [-o new|delete|update|show] [-n name -v value]
iscsiadm -m iface [-hV] [-P 0|1] [-I iface] [-o new|delete|update|show|apply|applyall] [-n name -v value]
iscsiadm -m host [-P 0|1|2|3|4] [-H number]
iscsiadm -m fw [-l] [-W]
iscsiadm -k 0";
