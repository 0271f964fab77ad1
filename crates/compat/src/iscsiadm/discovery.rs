//! Modes discovery and discoverydb: places that are asked for targets, and the records that come of the answer.

use super::arguments::{Arguments, Operation};
use super::{Code, Found, More, Run, is_of, tree};
use crate::records::{Class, Database, Method, Node, PortalPattern, Record, Secrets, Source};

/// Whether a discovery record counts, or iscsid.conf.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Settings {
    /// Mode discovery: what iscsid.conf says; the record is written anew.
    Fresh,
    /// Mode discoverydb: what the record says.
    Stored,
}

impl Run<'_> {
    pub(super) fn discovery(&mut self, arguments: &Arguments, settings: Settings) -> Result<Code, Code> {
        let method = match arguments.kind.as_deref() {
            Some("sendtargets" | "st") => Some(Method::SendTargets),
            Some("isns") => Some(Method::Isns),
            Some("fw") => return self.discover_firmware(arguments),
            Some("slp") => return Err(self.refuse(Code::INVALID, "SLP discovery is not fully implemented yet.")),
            _ => None,
        };
        let Some(text) = &arguments.portal else {
            return match arguments.kind {
                Some(_) => Err(self.refuse(Code::INVALID, "Please specify portal as <ipaddr>[:<ipport>]")),
                None => self.list_sources(arguments),
            };
        };
        let Some(portal) = PortalPattern::read(text) else {
            return Err(self.refuse(Code::INVALID, format!("{text} is no portal; write address[:port]")));
        };
        let (asks, method) = (method.is_some(), method.unwrap_or(Method::SendTargets));
        let source = Source { method, port: portal.port.unwrap_or(method.port()), address: portal.address };
        if asks && (settings == Settings::Fresh || arguments.has('D')) {
            return self.discover(&source, arguments, settings);
        }
        match arguments.operation() {
            Some(Operation::New) => {
                let record = self.database.new_source(&source);
                let record = self.records(record)?;
                let written = self.database.write_source(&source, &record);
                self.records(written)?;
                self.say(format!("New discovery record for [{}] added.", source.with_comma()));
                Ok(Code::SUCCESS)
            }
            // That there is none is as good.
            Some(Operation::Delete) => {
                let deleted = self.database.delete_source(&source);
                self.records(deleted)?;
                Ok(Code::SUCCESS)
            }
            Some(Operation::Update) => {
                let Some(changes) = arguments.changes() else {
                    return Err(self.refuse(Code::INVALID, "Update requires name and value."));
                };
                let mut record = self.stored(&source)?;
                self.change(&mut record, &changes)?;
                let written = self.database.write_source(&source, &record);
                self.records(written)?;
                Ok(Code::SUCCESS)
            }
            _ => {
                let record = self.stored(&source)?;
                self.show(&record, if arguments.has('S') { Secrets::Shown } else { Secrets::Masked });
                Ok(Code::SUCCESS)
            }
        }
    }

    fn stored(&mut self, source: &Source) -> Result<Record, Code> {
        let record = self.database.source(source);
        match self.records(record)? {
            Some(record) => Ok(record),
            None => Err(self.refuse(Code::DATABASE, format!("Discovery record [{}] not found.", source.with_comma()))),
        }
    }

    fn discover(&mut self, source: &Source, arguments: &Arguments, settings: Settings) -> Result<Code, Code> {
        let of_file = match settings {
            Settings::Fresh => Ok(None),
            Settings::Stored => self.database.source(source),
        };
        let keeps = !arguments.operations.contains(&Operation::Nonpersistent);
        let record = match self.records(of_file)? {
            Some(record) => record,
            None => {
                let record = self.database.new_source(source);
                let record = self.records(record)?;
                if keeps {
                    let written = self.database.write_source(source, &record);
                    self.records(written)?;
                }
                record
            }
        };
        let ifaces = self.ifaces_of(arguments)?;
        let name = self.name()?;
        // It is asked once, through the first of them.
        let through = ifaces.first().cloned().unwrap_or(Record::new(Class::Iface));
        let found = self.initiator.discover(source, &record, &through, &name).map_err(|failure| {
            let code = self.failure(&failure);
            let what = if source.method == Method::Isns { "iSNS" } else { "SendTargets" };
            self.refuse(code, format!("Could not perform {what} discovery: {}", code.text()))
        })?;
        let nodes = self.found_nodes(source, &found, &ifaces)?;
        if keeps {
            self.keep(source, &nodes, &arguments.operations)?;
        }
        if nodes.is_empty() {
            return Err(self.refuse(Code::NOTHING_FOUND, "No portals found"));
        }
        match arguments.level {
            None | Some(0) => {
                let text = tree::flat(&nodes, self.manner);
                self.print(&text);
            }
            Some(1) => {
                let mut sorted = nodes.clone();
                sorted.sort_by(|a, b| (&a.target, &a.portal).cmp(&(&b.target, &b.portal)));
                self.print(&tree::nodes(&sorted));
            }
            Some(_) => {}
        }
        match arguments.has('l') {
            true => self.login(&nodes, arguments, More::No),
            false => Ok(Code::SUCCESS),
        }
    }

    /// The interfaces that found portals are seen through: those that were named, or all that somebody made and bound
    /// to something, or the one that is bound to nothing.
    fn ifaces_of(&mut self, arguments: &Arguments) -> Result<Vec<Record>, Code> {
        let mut ifaces = Vec::new();
        for name in &arguments.ifaces {
            match self.database.iface(name) {
                Ok(iface) => ifaces.push(iface),
                Err(_) => self.complain(format!(
                    "Could not read iface info for {name}. Make sure an iface config with the file name and iface.iscsi_ifacename {name} is in {}.",
                    self.database.root().join("ifaces").display()
                )),
            }
        }
        if !arguments.ifaces.is_empty() {
            return if ifaces.is_empty() { Err(Code::NOTHING_FOUND) } else { Ok(ifaces) };
        }
        let all = self.database.ifaces();
        ifaces = self.records(all)?;
        ifaces.retain(|iface| {
            let bound = ["iface.net_ifacename", "iface.hwaddress", "iface.ipaddress"];
            !Database::is_special_iface(iface.value("iface.iscsi_ifacename"))
                && iface.value("iface.transport_name") == "tcp"
                && bound.iter().any(|name| !iface.value(name).is_empty())
        });
        if ifaces.is_empty() {
            let iface = self.database.iface("default");
            ifaces.push(self.records(iface)?);
        }
        Ok(ifaces)
    }

    fn found_nodes(&mut self, source: &Source, found: &[Found], ifaces: &[Record]) -> Result<Vec<Node>, Code> {
        let defaults = self.database.defaults(Class::Node);
        let defaults = self.records(defaults)?;
        let mut nodes = Vec::new();
        for Found { target, portal } in found {
            for iface in ifaces {
                // What a target says is no reason to write elsewhere; such a name is told and left out.
                match Node::new(&defaults, target, portal, iface) {
                    Ok(node) => nodes.push(node.found_by(source)),
                    Err(error) => self.complain(error),
                }
            }
        }
        Ok(nodes)
    }

    /// Changes the records to what was found, as far as it was asked for; when it was not said, wholly.
    fn keep(&mut self, source: &Source, nodes: &[Node], operations: &[Operation]) -> Result<(), Code> {
        let asked = |operation| operations.is_empty() || operations.contains(&operation);
        let known = self.database.nodes(&Default::default());
        let known = self.records(known)?;
        let same = |a: &Node, b: &Node| (&a.target, &a.portal, &a.iface) == (&b.target, &b.portal, &b.iface);
        for node in nodes {
            let is_known = known.iter().any(|known| same(known, node));
            if asked(if is_known { Operation::Update } else { Operation::New }) {
                let added = self.database.add_node(node);
                self.records(added)?;
            }
        }
        if asked(Operation::Delete) {
            for gone in known.iter().filter(|known| known.source().as_ref() == Some(source)) {
                if !nodes.iter().any(|node| same(gone, node)) {
                    self.forget(gone)?;
                }
            }
        }
        Ok(())
    }

    /// Removes the record of a portal that is no longer told, and before it the sessions made of it.
    fn forget(&mut self, node: &Node) -> Result<(), Code> {
        let mut sessions = self.sessions()?;
        sessions.retain(|session| is_of(session, node));
        // A disk that somebody uses stays, and so does its record.
        if !sessions.is_empty() && self.logout(&sessions)? != Code::SUCCESS {
            return Ok(());
        }
        let deleted = self.database.delete_node(node);
        self.records(deleted)
    }

    fn list_sources(&mut self, arguments: &Arguments) -> Result<Code, Code> {
        if arguments.level.unwrap_or(0) > 0 {
            return self.source_tree();
        }
        let mut any = false;
        for method in [Method::SendTargets, Method::Isns] {
            let sources = self.database.sources(method);
            for source in self.records(sources)? {
                any = true;
                self.say(format!("{}:{} via {}", source.address, source.port, method.word()));
            }
        }
        if any { Ok(Code::SUCCESS) } else { Err(Code::NOTHING_FOUND) }
    }

    fn source_tree(&mut self) -> Result<Code, Code> {
        let mut any = false;
        for (title, method) in [("SENDTARGETS", Method::SendTargets), ("iSNS", Method::Isns)] {
            self.say(format!("{title}:"));
            let sources = self.database.sources(method);
            let sources = self.records(sources)?;
            any |= !sources.is_empty();
            if sources.is_empty() {
                self.say("No targets found.");
            }
            for source in sources {
                self.say(format!("DiscoveryAddress: {}", source.with_comma()));
                let nodes = self.database.nodes_of(&source);
                let nodes = self.records(nodes)?;
                self.print(&tree::nodes(&nodes));
            }
        }
        for (title, method) in [("STATIC", None), ("FIRMWARE", Some(Method::Firmware))] {
            self.say(format!("{title}:"));
            let nodes = self.database.nodes_by(method);
            let nodes = self.records(nodes)?;
            any |= !nodes.is_empty();
            match nodes.is_empty() {
                true => self.say("No targets found."),
                false => self.print(&tree::nodes(&nodes)),
            }
        }
        if any { Ok(Code::SUCCESS) } else { Err(Code::NOTHING_FOUND) }
    }
}
