//! Mode iface: interfaces are shown, made, changed and removed.

use super::arguments::{Arguments, Operation};
use super::{Code, Run};
use crate::records::{Choice, Class, Database, EMPTY, Error, Record, Secrets};

/// What binds an interface to something. One of them at a time: who has one takes no other.
const BINDINGS: &[&str] = &["iface.net_ifacename", "iface.hwaddress"];

impl Run<'_> {
    pub(super) fn iface(&mut self, arguments: &Arguments) -> Result<Code, Code> {
        if let Some(level) = arguments.level.filter(|level| !(0..=1).contains(level)) {
            return Err(self.refuse(Code::INVALID, format!("Invalid info level {level}. Try 0 - 1.")));
        }
        if arguments.submode.is_some() {
            // Only offload cards ping by themselves.
            return Err(
                self.refuse(Code::UNSUPPORTED, "ping: the interface's transport does not offer it; use ping(8)")
            );
        }
        let name = arguments.ifaces.first();
        match (arguments.operation(), name) {
            (Some(Operation::New), Some(name)) => self.make_iface(name),
            (Some(Operation::New), None) => {
                Err(self.refuse(Code::SYSFS, "Could not add interface. No interface passed in."))
            }
            (Some(Operation::Delete), Some(name)) => self.remove_iface(name),
            (Some(Operation::Delete), None) => {
                Err(self.refuse(Code::INVALID, "Could not delete interface. No interface passed in."))
            }
            (Some(Operation::Update), name) => match (name, arguments.changes()) {
                (Some(name), Some(changes)) => self.update_iface(name, &changes),
                _ => Err(self.refuse(Code::INVALID, "Update requires name, value, and iface.")),
            },
            (Some(Operation::Apply), Some(name)) => {
                self.complain("Nothing to configure.");
                self.say(format!("{name} applied."));
                Ok(Code::SUCCESS)
            }
            (Some(Operation::ApplyAll), _) => {
                self.complain("Nothing to configure.");
                let host = arguments.host.as_deref().unwrap_or("0");
                self.say(format!("Applied settings to ifaces attached to host{host}."));
                Ok(Code::SUCCESS)
            }
            (None | Some(Operation::Show), name) => match (arguments.level, name) {
                (Some(1), name) => self.iface_tree(name),
                (_, Some(name)) => {
                    let iface = self.known_iface(name, Code::DATABASE)?;
                    self.show(&iface, Secrets::Masked);
                    Ok(Code::SUCCESS)
                }
                (_, None) => self.list_ifaces(),
            },
            _ => Err(self.refuse(Code::INVALID, "Invalid parameters")),
        }
    }

    fn known_iface(&mut self, name: &str, code: Code) -> Result<Record, Code> {
        match self.database.iface(name) {
            Ok(iface) => Ok(iface),
            Err(Error::NotFound(line)) => Err(self.refuse(code, line)),
            Err(other) => Err(self.record_failure(&other)),
        }
    }

    fn list_ifaces(&mut self) -> Result<Code, Code> {
        let ifaces = self.database.ifaces();
        for iface in self.records(ifaces)? {
            let of = |name: &str| match iface.value(name) {
                "" => EMPTY.to_owned(),
                value => value.to_owned(),
            };
            let name = of("iface.iscsi_ifacename");
            let rest = ["transport_name", "hwaddress", "ipaddress", "net_ifacename", "initiatorname"];
            let rest: Vec<String> = rest.iter().map(|field| of(&format!("iface.{field}"))).collect();
            self.say(format!("{name} {}", rest.join(",")));
        }
        Ok(Code::SUCCESS)
    }

    fn iface_tree(&mut self, only: Option<&String>) -> Result<Code, Code> {
        let nodes = self.database.nodes(&Choice::default());
        let nodes = self.records(nodes)?;
        let ifaces = self.database.ifaces();
        let ifaces = self.records(ifaces)?;
        // Where nothing was discovered or entered there is nothing to be shown of any of them.
        if nodes.is_empty() && only.is_none() {
            return Ok(Code::SUCCESS);
        }
        for iface in ifaces {
            let name = iface.value("iface.iscsi_ifacename");
            if only.is_some_and(|only| only != name) {
                continue;
            }
            self.say(format!("Iface: {name}"));
            let mut target = None;
            for node in nodes.iter().filter(|node| node.iface == name) {
                if target != Some(&node.target) {
                    self.say(format!("\tTarget: {}", node.target));
                }
                self.say(format!("\t\tPortal: {}", node.portal));
                target = Some(&node.target);
            }
        }
        Ok(Code::SUCCESS)
    }

    fn make_iface(&mut self, name: &str) -> Result<Code, Code> {
        let done = match Database::is_special_iface(name) {
            true => {
                let folder = self.database.root().join("ifaces");
                let why = format!("iface {name} is a special interface and is not stored in {}.", folder.display());
                Err(Error::Invalid(why))
            }
            false => {
                let mut iface = Record::new(Class::Iface);
                iface.set("iface.iscsi_ifacename", name);
                self.database.write_iface(&iface)
            }
        };
        if let Err(error) = done {
            self.complain(error);
            return Err(self.refuse(Code::INVALID, format!("Could not create new interface {name}.")));
        }
        // Both lines, as it always was.
        self.say(format!("{name} updated."));
        self.say(format!("New interface {name} added"));
        Ok(Code::SUCCESS)
    }

    fn update_iface(&mut self, name: &str, changes: &[(String, String)]) -> Result<Code, Code> {
        self.known_iface(name, Code::INVALID)?;
        let done = self.change_iface(name, changes);
        match done {
            Ok(()) => self.say(format!("{name} updated.")),
            // The exit code of it is iscsiadm's, which scripts have come to know.
            Err(line) => {
                self.complain(line);
                self.complain(format!("Could not update iface {name}: {}", Code::INVALID.text()));
            }
        }
        Ok(Code::SUCCESS)
    }

    fn change_iface(&mut self, name: &str, changes: &[(String, String)]) -> Result<(), String> {
        if Database::is_special_iface(name) {
            return Err(format!("iface {name} is a special interface and cannot be modified."));
        }
        let mut iface = self.database.iface(name).map_err(|error| error.to_string())?;
        for (field, value) in changes {
            if field == "iface.iscsi_ifacename" {
                return Err(format!("Can not update {field}. Delete it, and then create a new one."));
            }
            let Some(known) = Class::Iface.field(field) else {
                return Err(format!("Cannot modify {field}. Invalid param name."));
            };
            let other = BINDINGS.iter().find(|other| **other != field && !iface.value(other).is_empty());
            if let (true, Some(other), false) = (BINDINGS.contains(&field.as_str()), other, value.is_empty()) {
                let (from, to) = (other.trim_start_matches("iface."), field.trim_start_matches("iface."));
                return Err(format!(
                    "Can not update interface binding from {from} to {to}. You must delete the interface and create a new one"
                ));
            }
            let value = known.accept(value);
            let value = value.map_err(|_| format!("unknown value format for parameter name '{field}'"))?;
            iface.set(field, &value);
        }
        self.database.write_iface(&iface).map_err(|error| error.to_string())?;
        // Records have the interface's fields in themselves.
        let choice = Choice { iface: Some(name.to_owned()), ..Choice::default() };
        for mut node in self.database.nodes(&choice).map_err(|error| error.to_string())? {
            node.record.bind(&iface);
            self.database.update_node(&node).map_err(|error| error.to_string())?;
        }
        Ok(())
    }

    fn remove_iface(&mut self, name: &str) -> Result<Code, Code> {
        let done = match Database::is_special_iface(name) {
            true => Err(format!("iface {name} is a special interface and cannot be deleted.")),
            false => self.unbind_iface(name).map_err(|error| error.to_string()),
        };
        match done {
            Ok(()) => {
                self.say(format!("{name} unbound and deleted."));
                Ok(Code::SUCCESS)
            }
            Err(line) => {
                self.complain(line);
                let why = Code::INVALID.text();
                Err(self.refuse(Code::INVALID, format!("Could not delete iface {name}: {why}")))
            }
        }
    }

    fn unbind_iface(&mut self, name: &str) -> Result<(), Error> {
        self.database.iface(name)?;
        for node in self.database.nodes(&Choice { iface: Some(name.to_owned()), ..Choice::default() })? {
            self.database.delete_node(&node)?;
        }
        self.database.delete_iface(name)
    }
}
