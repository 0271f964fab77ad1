//! Interfaces: which network device, address and initiator name a session has.

use super::files;
use super::{Class, Database, Error, Record, is_component};
use std::path::PathBuf;

/// Interfaces that are always there and bind a session to nothing but a transport.
const SPECIAL: &[(&str, &str)] = &[("default", "tcp"), ("iser", "iser")];

impl Database {
    /// Whether an interface is one of those that are no files.
    pub fn is_special_iface(name: &str) -> bool {
        SPECIAL.iter().any(|(special, _)| *special == name)
    }

    /// The interface with this name.
    ///
    /// # Errors
    /// There is none, or it cannot be read.
    pub fn iface(&self, name: &str) -> Result<Record, Error> {
        if let Some((name, transport)) = SPECIAL.iter().find(|(special, _)| *special == name) {
            let mut record = Record::new(Class::Iface);
            record.set("iface.iscsi_ifacename", name);
            record.set("iface.transport_name", transport);
            return Ok(record);
        }
        let text = if is_component(name) { files::read(&self.iface_path(name))? } else { None };
        let text = text.ok_or_else(|| Error::NotFound(format!("Could not read iface info for {name}.")))?;
        let mut record = Record::read(Class::Iface, &text);
        // The file's name is the interface's.
        record.set("iface.iscsi_ifacename", name);
        Ok(record)
    }

    /// All interfaces, those that are files first.
    ///
    /// # Errors
    /// They cannot be read.
    pub fn ifaces(&self) -> Result<Vec<Record>, Error> {
        let mut names = files::names(&self.root.join("ifaces"))?;
        names.retain(|name| name != "iface.example" && is_component(name) && !Database::is_special_iface(name));
        names.extend(SPECIAL.iter().map(|(name, _)| (*name).to_owned()));
        names.iter().map(|name| self.iface(name)).collect()
    }

    /// Writes an interface.
    ///
    /// # Errors
    /// Its name is none, or it cannot be written.
    pub fn write_iface(&self, record: &Record) -> Result<(), Error> {
        let name = record.value("iface.iscsi_ifacename");
        if !is_component(name) {
            return Err(Error::Invalid(format!("{name} is no name of an interface")));
        }
        let _lock = self.lock()?;
        files::write(&self.root, &self.iface_path(name), 0o600, &record.text())
    }

    /// Removes an interface.
    ///
    /// # Errors
    /// It cannot be removed.
    pub fn delete_iface(&self, name: &str) -> Result<(), Error> {
        let _lock = self.lock()?;
        files::remove(&self.iface_path(name))
    }

    fn iface_path(&self, name: &str) -> PathBuf {
        self.root.join("ifaces").join(name)
    }
}
