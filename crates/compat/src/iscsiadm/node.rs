//! Mode node: records are shown, entered, changed and removed; sessions are made of them and ended.

use super::arguments::{Arguments, Operation};
use super::{Code, More, Run, Session, is_meant, is_of, label, tree};
use crate::records::{Choice, Class, Error, Node, PortalPattern, Secrets, TAG_UNKNOWN};

impl Run<'_> {
    pub(super) fn node(&mut self, arguments: &Arguments) -> Result<Code, Code> {
        if arguments.has('l') && arguments.has('u') {
            return Err(self.refuse(Code::INVALID, "Invalid parameters. Both login and logout passed in"));
        }
        if let Some(level) = arguments.level.filter(|level| !(0..=1).contains(level)) {
            return Err(self.refuse(Code::INVALID, format!("Invalid info level {level}. Try 0 or 1.")));
        }
        let choice = self.choice(arguments)?;
        if let Some(startup) = &arguments.login_all {
            return self.login_all(startup, arguments);
        }
        if let Some(startup) = &arguments.logout_all {
            return self.logout_all(startup);
        }
        if arguments.has('u') {
            let sessions = self.meant(&choice)?;
            return self.logout(&sessions);
        }
        if arguments.has('R') || arguments.has('s') {
            let sessions = self.meant(&choice)?;
            return if arguments.has('R') { self.rescan(&sessions) } else { self.statistics(&sessions) };
        }
        if arguments.has('l') {
            let nodes = self.existing(&choice)?;
            return self.login(&nodes, arguments, More::No);
        }
        match arguments.operation() {
            Some(Operation::New) => self.enter(&choice),
            Some(Operation::Update) => {
                let changes = self.changes(arguments)?;
                let nodes = self.existing(&choice)?;
                self.update_nodes(&nodes, &changes)
            }
            Some(Operation::Delete) => {
                let nodes = self.existing(&choice)?;
                self.delete_nodes(&nodes)
            }
            Some(Operation::Show) => self.show_nodes(&choice, arguments),
            None if choice.target.is_some() || choice.portal.is_some() => match arguments.level {
                Some(_) => self.list_nodes(&choice, arguments),
                None => self.show_nodes(&choice, arguments),
            },
            None => self.list_nodes(&choice, arguments),
            Some(_) => Err(self.refuse(Code::INVALID, "Invalid parameters")),
        }
    }

    /// Which nodes or sessions the options mean.
    fn choice(&mut self, arguments: &Arguments) -> Result<Choice, Code> {
        let portal = match &arguments.portal {
            Some(text) => match PortalPattern::read(text) {
                Some(portal) => Some(portal),
                // No record and no session has such a portal; only entering one needs another word.
                None if arguments.operation() == Some(Operation::New) => {
                    return Err(self.refuse(Code::INVALID, format!("{text} is no portal; write address[:port][,tag]")));
                }
                None => Some(PortalPattern { address: text.clone(), port: None, tag: None }),
            },
            None => None,
        };
        let iface = arguments.ifaces.first().cloned();
        if let Some(name) = &iface
            && let Err(error) = self.database.iface(name)
        {
            return Err(match error {
                Error::NotFound(line) => self.refuse(Code::MEMORY, line),
                other => self.record_failure(&other),
            });
        }
        Ok(Choice { target: arguments.target.clone(), portal, iface })
    }

    fn existing(&mut self, choice: &Choice) -> Result<Vec<Node>, Code> {
        let nodes = self.database.nodes(choice);
        let nodes = self.records(nodes)?;
        match nodes.is_empty() {
            true => Err(self.refuse(Code::NOTHING_FOUND, "No records found")),
            false => Ok(nodes),
        }
    }

    pub(super) fn changes(&mut self, arguments: &Arguments) -> Result<Vec<(String, String)>, Code> {
        let Some(changes) = arguments.changes() else {
            return Err(self.refuse(Code::INVALID, "update requires name and value"));
        };
        // The transport is the node's own; what else an interface has is in one place.
        for (name, _) in &changes {
            if name.starts_with("iface.") && name != "iface.transport_name" {
                let line = format!("Cannot modify {name}. Use iface mode to update this value.");
                return Err(self.refuse(Code::INVALID, line));
            }
        }
        Ok(changes)
    }

    fn meant(&mut self, choice: &Choice) -> Result<Vec<Session>, Code> {
        let mut sessions = self.sessions()?;
        sessions.retain(|session| is_meant(session, choice));
        Ok(sessions)
    }

    fn show_nodes(&mut self, choice: &Choice, arguments: &Arguments) -> Result<Code, Code> {
        let secrets = if arguments.has('S') { Secrets::Shown } else { Secrets::Masked };
        for node in self.existing(choice)? {
            self.show(&node.record, secrets);
        }
        Ok(Code::SUCCESS)
    }

    fn list_nodes(&mut self, choice: &Choice, arguments: &Arguments) -> Result<Code, Code> {
        let nodes = self.existing(choice)?;
        let text = match arguments.level {
            Some(1) => tree::nodes(&nodes),
            _ => tree::flat(&nodes, self.manner),
        };
        self.print(&text);
        Ok(Code::SUCCESS)
    }

    /// Enters a node that nobody discovered.
    fn enter(&mut self, choice: &Choice) -> Result<Code, Code> {
        let places: Vec<_> = match (&choice.target, &choice.portal) {
            (Some(target), Some(portal)) => {
                let tag = portal.tag.unwrap_or(TAG_UNKNOWN);
                vec![(target.clone(), portal.or(3260, tag), choice.iface.clone().unwrap_or("default".to_owned()))]
            }
            // Without a place those that are there are entered anew, with what iscsid.conf says now.
            _ => {
                let iface = choice.iface.clone().unwrap_or("default".to_owned());
                let nodes = self.existing(choice)?;
                let mut places: Vec<_> =
                    nodes.into_iter().map(|node| (node.target, node.portal, iface.clone())).collect();
                places.dedup();
                places
            }
        };
        let defaults = self.database.defaults(Class::Node);
        let defaults = self.records(defaults)?;
        for (target, portal, iface) in places {
            let iface = self.database.iface(&iface);
            let iface = self.records(iface)?;
            let node = Node::new(&defaults, &target, &portal, &iface);
            let node = self.records(node)?;
            let added = self.database.add_node(&node);
            self.records(added)?;
            let of = |name| iface.value(name);
            let (transport, name) = (of("iface.transport_name"), of("iface.iscsi_ifacename"));
            let (hardware, address, device) = (of("iface.hwaddress"), of("iface.ipaddress"), of("iface.net_ifacename"));
            let (place, tag) = (portal.with_comma(), portal.tag);
            self.say(format!(
                "New iSCSI node [{transport}:[hw={hardware},ip={address},net_if={device},iscsi_if={name}] {place},{tag} {target}] added"
            ));
        }
        Ok(Code::SUCCESS)
    }

    pub(super) fn update_nodes(&mut self, nodes: &[Node], changes: &[(String, String)]) -> Result<Code, Code> {
        let mut code = Code::SUCCESS;
        for node in nodes {
            let mut node = node.clone();
            match self.change(&mut node.record, changes) {
                Ok(()) => {
                    let updated = self.database.update_node(&node);
                    self.records(updated)?;
                }
                Err(refused) => code = code.first(refused),
            }
        }
        self.all(code)
    }

    pub(super) fn delete_nodes(&mut self, nodes: &[Node]) -> Result<Code, Code> {
        let sessions = self.sessions()?;
        let mut code = Code::SUCCESS;
        for node in nodes {
            if sessions.iter().any(|session| is_of(session, node)) {
                let record = label(node);
                self.complain(format!(
                    "This command will remove the record {record}, but a session is using it. Logout session then rerun command to remove record."
                ));
                code = code.first(Code::SESSION_EXISTS);
                continue;
            }
            let deleted = self.database.delete_node(node);
            self.records(deleted)?;
        }
        self.all(code)
    }

    fn all(&mut self, code: Code) -> Result<Code, Code> {
        if code != Code::SUCCESS {
            self.complain(format!("Could not execute operation on all records: {}", code.text()));
        }
        Ok(code)
    }

    fn login_all(&mut self, startup: &str, arguments: &Arguments) -> Result<Code, Code> {
        let mut nodes = self.existing(&Choice::default())?;
        nodes.retain(|node| starts(node, startup));
        if nodes.is_empty() {
            return Err(self.refuse(Code::NOTHING_FOUND, "No records found"));
        }
        let leading = |node: &Node| node.record.value("node.leading_login") == "Yes";
        let (leaders, others): (Vec<Node>, Vec<Node>) = nodes.into_iter().partition(leading);
        let mut code = Code::SUCCESS;
        if !others.is_empty() {
            code = code.first(self.login(&others, arguments, More::No)?);
        }
        // Of a target with leading logins one session is enough, whichever comes about.
        let mut led: Option<String> = None;
        let mut last = Code::SUCCESS;
        for node in leaders {
            if led.as_ref() == Some(&node.target) {
                continue;
            }
            last = self.login(std::slice::from_ref(&node), arguments, More::No)?;
            if last == Code::SUCCESS || last == Code::SESSION_EXISTS {
                led = Some(node.target);
            }
        }
        Ok(code.first(last))
    }

    fn logout_all(&mut self, startup: &str) -> Result<Code, Code> {
        let nodes = self.database.nodes(&Choice::default());
        let nodes = self.records(nodes)?;
        let mut sessions = self.sessions()?;
        sessions.retain(|session| match nodes.iter().find(|node| is_of(session, node)) {
            Some(node) => starts(node, startup),
            None => matches!(startup, "all" | "manual"),
        });
        self.logout(&sessions)
    }
}

/// Whether a node is one of those that this word means: `all` are all but those that the machine booted from.
fn starts(node: &Node, word: &str) -> bool {
    match (word, node.record.value("node.startup")) {
        ("all", startup) => startup != "onboot",
        (word, startup) => word == startup,
    }
}
