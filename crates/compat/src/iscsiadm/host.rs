//! Modes host and fw: what sessions have for a SCSI host, and what the firmware booted from.

use super::arguments::Arguments;
use super::tree::{self, Sections, or_empty};
use super::{Code, More, Run, Session};
use crate::records::{Class, Node, Portal, Record, Secrets, TAG_UNKNOWN};

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
        let records = self.firmware_records()?;
        if !arguments.has('l') {
            for record in &records {
                self.show_set(record);
            }
            return Ok(Code::SUCCESS);
        }
        let defaults = self.database.defaults(Class::Node);
        let defaults = self.records(defaults)?;
        let changes = if arguments.pairs.is_empty() { Vec::new() } else { self.changes(arguments)? };
        let mut nodes = Vec::new();
        for record in &records {
            nodes.push(self.firmware_node(record, &defaults, &changes)?);
        }
        self.login(&nodes, arguments, More::No)
    }

    /// `-m discovery -t fw`: where the targets of the firmware are.
    pub(super) fn discover_firmware(&mut self, arguments: &Arguments) -> Result<Code, Code> {
        let records = self.firmware_records()?;
        let defaults = self.database.defaults(Class::Node);
        let defaults = self.records(defaults)?;
        let mut nodes = Vec::new();
        for record in &records {
            let mut node = self.firmware_node(record, &defaults, &[])?;
            node.record.set("node.discovery_type", "fw");
            nodes.push(node);
        }
        let text = tree::flat(&nodes, self.manner);
        self.print(&text);
        if arguments.has('l') { self.login(&nodes, arguments, More::No) } else { Ok(Code::SUCCESS) }
    }

    fn firmware_records(&mut self) -> Result<Vec<Record>, Code> {
        match self.initiator.firmware() {
            Ok(records) if !records.is_empty() => Ok(records),
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

    fn firmware_node(
        &mut self,
        firmware: &Record,
        defaults: &Record,
        changes: &[(String, String)],
    ) -> Result<Node, Code> {
        let portal = Portal {
            address: firmware.value("node.conn[0].address").to_owned(),
            port: firmware.number("node.conn[0].port").unwrap_or(3260),
            tag: TAG_UNKNOWN,
        };
        let iface = self.database.iface("default");
        let iface = self.records(iface)?;
        let node = Node::new(defaults, firmware.value("node.name"), &portal, &iface);
        let mut node = self.records(node)?;
        for name in ["username", "password", "username_in", "password_in"] {
            let name = format!("node.session.auth.{name}");
            if !firmware.value(&name).is_empty() {
                node.record.set("node.session.auth.authmethod", "CHAP");
                node.record.set(&name, firmware.value(&name));
            }
        }
        self.change(&mut node.record, changes)?;
        Ok(node)
    }

    /// A record of which only what is set is shown.
    fn show_set(&mut self, record: &Record) {
        let version = self.manner.version();
        self.say(format!("# BEGIN RECORD {version}"));
        for (name, value) in record.values(Secrets::Masked) {
            self.say(format!("{name} = {value}"));
        }
        self.say("# END RECORD");
    }
}

fn number(session: &Session) -> u32 {
    session.host.unwrap_or(session.id)
}
