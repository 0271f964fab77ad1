//! Modes host and fw: what sessions have for a SCSI host, and what the firmware booted from.

use super::arguments::Arguments;
use super::tree::{self, Sections, or_empty};
use super::{Code, More, Run, Session};
use crate::records::{Class, Node, Portal, Record};

impl Run<'_> {
    pub(super) fn host(&mut self, arguments: &Arguments) -> Result<Code, Code> {
        match arguments.submode.as_deref() {
            // These are of cards that log in by themselves.
            Some("chap") => {
                return Err(self.refuse(Code::INVALID, "CHAP mode requires host no and valid operation"));
            }
            Some("flashnode" | "stats") => {
                let host = arguments.host.as_deref().unwrap_or("-1");
                return Err(self.refuse(Code::DRIVER, format!("Could not match hostno {host} to transport.")));
            }
            _ => {}
        }
        let level = arguments.level.unwrap_or(0);
        let mut sessions = self.sessions()?;
        if sessions.is_empty() {
            return Err(self.refuse(Code::NOTHING_FOUND, "No iSCSI hosts."));
        }
        if !(0..=4).contains(&level) {
            return Err(self.refuse(Code::INVALID, format!("Invalid info level {level}. Try 0 - 4.")));
        }
        sessions.sort_by_key(number);
        if level == 4 {
            self.versions();
        }
        let mut hosts: Vec<Vec<Session>> = Vec::new();
        for session in sessions {
            match hosts.last_mut().filter(|last| last.first().map(number) == Some(number(&session))) {
                Some(host) => host.push(session),
                None => hosts.push(vec![session]),
            }
        }
        for host in hosts {
            let Some(first) = host.first() else { continue };
            let (number, transport, address) = (number(first), &first.transport, or_empty(&first.ip_address));
            if level == 0 {
                self.say(format!("{transport}: [{number}] {address},[<empty>],<empty> <empty>"));
                continue;
            }
            self.say(format!("Host Number: {number}\n\tState: {}\n\tTransport: {transport}", first.host_state));
            self.say("\tInitiatorname: <empty>");
            self.say(format!("\tIPaddress: {address}\n\tHWaddress: <empty>\n\tNetdev: <empty>"));
            if level > 1 {
                self.say("\t*********\n\tSessions:\n\t*********");
                let sections = Sections { negotiated: level > 2, units: level > 3, ..Sections::default() };
                let text = tree::session_tree(&host, self.manner, sections, "\t");
                self.print(&text);
            }
        }
        Ok(Code::SUCCESS)
    }

    pub(super) fn firmware(&mut self, arguments: &Arguments) -> Result<Code, Code> {
        let targets = self.firmware_targets()?;
        if arguments.has('l') {
            let changes = if arguments.pairs.is_empty() { Vec::new() } else { self.changes(arguments)? };
            let nodes = self.firmware_nodes(&targets, &changes)?;
            return self.login(&nodes, arguments, More::No);
        }
        for fields in targets {
            let version = self.manner.version();
            self.say(format!("# BEGIN RECORD {version}"));
            for (name, value) in fields {
                self.say(format!("{name} = {value}"));
            }
            self.say("# END RECORD");
        }
        Ok(Code::SUCCESS)
    }

    /// `-m discovery -t fw`: where the targets of the firmware are.
    pub(super) fn discover_firmware(&mut self, arguments: &Arguments) -> Result<Code, Code> {
        let targets = self.firmware_targets()?;
        let nodes = self.firmware_nodes(&targets, &[])?;
        let text = tree::flat(&nodes, self.manner);
        self.print(&text);
        if arguments.has('l') { self.login(&nodes, arguments, More::No) } else { Ok(Code::SUCCESS) }
    }

    fn firmware_targets(&mut self) -> Result<Vec<Vec<(String, String)>>, Code> {
        match self.initiator.firmware() {
            Ok(targets) if !targets.is_empty() => Ok(targets),
            Ok(_) => {
                let line = "Could not get list of targets from firmware. (err 21)";
                Err(self.refuse(Code::NOTHING_FOUND, line))
            }
            Err(failure) => {
                let code = self.failure(&failure);
                Err(self.refuse(code, format!("Could not get list of targets from firmware. (err {})", code.0)))
            }
        }
    }

    /// Nodes as iscsid.conf has them, with the firmware's places and secrets, and our name there.
    fn firmware_nodes(
        &mut self,
        targets: &[Vec<(String, String)>],
        changes: &[(String, String)],
    ) -> Result<Vec<Node>, Code> {
        let defaults = self.database.defaults(Class::Node);
        let defaults = self.records(defaults)?;
        let mut nodes = Vec::new();
        for fields in targets {
            let value = |name: &str| fields.iter().find(|(known, _)| known == name).map_or("", |(_, value)| value);
            let address = value("node.conn[0].address").to_owned();
            let portal = Portal { address, port: value("node.conn[0].port").parse().unwrap_or(3260), tag: 1 };
            let mut iface = Record::new(Class::Iface);
            iface.set("iface.initiatorname", value("iface.initiatorname"));
            let node = Node::new(&defaults, value("node.name"), &portal, &iface);
            let mut node = self.records(node)?;
            node.record.set("node.discovery_type", "fw");
            for (name, value) in fields.iter().filter(|(name, _)| name.starts_with("node.session.auth.")) {
                node.record.set("node.session.auth.authmethod", "CHAP");
                node.record.set(name, value);
            }
            self.change(&mut node.record, changes)?;
            nodes.push(node);
        }
        Ok(nodes)
    }
}

fn number(session: &Session) -> u32 {
    session.host.unwrap_or(session.id)
}
