//! Mode session: what there is, and what is done with one of them or all.

use super::arguments::{Arguments, Operation};
use super::tree::{self, Sections};
use super::{Code, More, Run, Session};
use crate::records::{Choice, Node, PortalPattern, Secrets};

impl Run<'_> {
    pub(super) fn session(&mut self, arguments: &Arguments) -> Result<Code, Code> {
        if let Some(id) = &arguments.session {
            return self.one_session(id, arguments);
        }
        if let Some(operation) = arguments.operation() {
            let word = operation.word();
            let line = format!("session mode: Operation '{word}' only allowed with specific session IDs");
            return Err(self.refuse(Code::INVALID, line));
        }
        let sessions = self.sessions()?;
        if arguments.has('u') {
            return self.logout(&sessions);
        }
        if arguments.has('R') {
            return self.rescan(&sessions);
        }
        if arguments.has('s') {
            return self.statistics(&sessions);
        }
        if sessions.is_empty() {
            return Err(self.refuse(Code::NOTHING_FOUND, "No active sessions."));
        }
        self.list_sessions(&sessions, arguments)
    }

    fn list_sessions(&mut self, sessions: &[Session], arguments: &Arguments) -> Result<Code, Code> {
        let level = arguments.level.unwrap_or(0);
        let text = match level {
            0 => tree::sessions(sessions, self.manner),
            1..=3 => {
                if level == 3 {
                    self.versions();
                }
                let sections = Sections {
                    timeouts: level > 1,
                    chap: level > 1,
                    negotiated: level > 1,
                    units: level > 2,
                    host: true,
                    secrets: arguments.has('S'),
                };
                tree::session_tree(sessions, self.manner, sections, "")
            }
            _ => return Err(self.refuse(Code::INVALID, format!("Invalid info level {level}. Try 0 - 3."))),
        };
        self.print(&text);
        Ok(Code::SUCCESS)
    }

    /// What programs read the numbers of lines by.
    pub(super) fn versions(&mut self) {
        self.say("iSCSI Transport Class version 2.0-870");
        self.say(format!("version {}", self.manner.version()));
    }

    fn one_session(&mut self, id: &str, arguments: &Arguments) -> Result<Code, Code> {
        // A path of sysfs has the number in the name of one of its directories.
        let of_path = || id.split('/').find_map(|part| part.strip_prefix("session")?.parse().ok());
        let Some(number) = id.parse::<u32>().ok().or_else(|| id.contains('/').then(of_path)?) else {
            return Err(self.refuse(Code::UNKNOWN, format!("{id} is an invalid session ID or path")));
        };
        let mut sessions = self.sessions()?;
        sessions.retain(|session| session.id == number);
        if sessions.len() > 1 {
            let line = format!("both the kernel and a holder have a session {number}; say which by -m node -T and -p");
            return Err(self.refuse(Code::INVALID, line));
        }
        let Some(session) = sessions.pop() else {
            self.complain("could not read session targetname: 5");
            return Err(self.refuse(Code::SYSFS, format!("Could not get session info for sid {number}")));
        };
        let one = std::slice::from_ref(&session);
        if arguments.has('u') {
            return self.logout(one);
        }
        if arguments.has('R') {
            return self.rescan(one);
        }
        if arguments.has('s') {
            return self.statistics(one);
        }
        if arguments.operation().is_none() && arguments.level.is_some() {
            return self.list_sessions(one, arguments);
        }
        let nodes = self.nodes_of(&session)?;
        match arguments.operation() {
            None | Some(Operation::Show) => {
                let secrets = if arguments.has('S') { Secrets::Shown } else { Secrets::Masked };
                for node in nodes {
                    self.show(&node.record, secrets);
                }
                Ok(Code::SUCCESS)
            }
            Some(Operation::New) => self.login(nodes.get(..1).unwrap_or_default(), arguments, More::Session),
            Some(Operation::Update) => {
                let changes = self.changes(arguments)?;
                self.update_nodes(&nodes, &changes)
            }
            Some(Operation::Delete) => self.delete_nodes(&nodes),
            Some(_) => Err(self.refuse(Code::INVALID, "Invalid parameters")),
        }
    }

    /// The records that a session was, or may have been, made of.
    fn nodes_of(&mut self, session: &Session) -> Result<Vec<Node>, Code> {
        let portal = &session.persistent;
        let pattern = PortalPattern { address: portal.address.clone(), port: Some(portal.port), tag: None };
        let (target, iface) = (Some(session.target.clone()), Some(session.iface.clone()));
        let nodes = self.database.nodes(&Choice { target, portal: Some(pattern), iface });
        let nodes = self.records(nodes)?;
        match nodes.is_empty() {
            true => Err(self.refuse(Code::NOTHING_FOUND, "No records found")),
            false => Ok(nodes),
        }
    }
}
