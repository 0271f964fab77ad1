//! Discovery records: places that were asked for targets, and how.

use super::files;
use super::{Class, Database, Error, Portal, Record, is_component};
use std::path::{Path, PathBuf};

/// How targets are found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Method {
    /// By SendTargets, asked at a portal.
    SendTargets,
    /// By an iSNS server.
    Isns,
    /// By what the firmware knows.
    Firmware,
}

impl Method {
    /// The word for it in node records.
    pub fn of_node(self) -> &'static str {
        match self {
            Method::SendTargets => "send_targets",
            Method::Isns => "isns",
            Method::Firmware => "fw",
        }
    }

    /// The word for it in lists.
    pub fn word(self) -> &'static str {
        match self {
            Method::SendTargets => "sendtargets",
            Method::Isns => "isns",
            Method::Firmware => "fw",
        }
    }

    /// The TCP port where none is told.
    pub fn port(self) -> u16 {
        if self == Method::Isns { 3205 } else { 3260 }
    }

    /// Which records it has.
    pub fn class(self) -> Class {
        if self == Method::Isns { Class::Isns } else { Class::SendTargets }
    }

    fn directory(self) -> &'static str {
        match self {
            Method::SendTargets => "send_targets",
            Method::Isns => "isns",
            Method::Firmware => "fw",
        }
    }

    fn file(self) -> &'static str {
        match self {
            Method::SendTargets => "st_config",
            Method::Isns => "isns_config",
            Method::Firmware => "fw_config",
        }
    }
}

/// A place that is asked for targets.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Source {
    /// How.
    pub method: Method,
    /// Where.
    pub address: String,
    /// At which TCP port.
    pub port: u16,
}

impl Source {
    pub(super) fn of_node(record: &Record) -> Option<Source> {
        let method = [Method::SendTargets, Method::Isns, Method::Firmware]
            .into_iter()
            .find(|method| method.of_node() == record.value("node.discovery_type"))?;
        let address = record.value("node.discovery_address").to_owned();
        let port = record.number("node.discovery_port")?;
        is_component(&address).then_some(Source { method, address, port })
    }

    pub(super) fn directory(&self, root: &Path) -> PathBuf {
        root.join(self.method.directory()).join(format!("{},{}", self.address, self.port))
    }

    fn path(&self, root: &Path) -> PathBuf {
        self.directory(root).join(self.method.file())
    }

    /// `address,port`.
    pub fn with_comma(&self) -> String {
        format!("{},{}", self.address, self.port)
    }
}

impl Database {
    /// The sources of a method that have a record.
    ///
    /// # Errors
    /// They cannot be read.
    pub fn sources(&self, method: Method) -> Result<Vec<Source>, Error> {
        let names = files::names(&self.root.join(method.directory()))?;
        let portals = names.iter().filter_map(|name| Portal::of_name(name));
        let sources = portals.map(|portal| Source { method, address: portal.address, port: portal.port });
        Ok(sources.filter(|source| source.path(&self.root).is_file()).collect())
    }

    /// The record of a source.
    ///
    /// # Errors
    /// It is there and cannot be read.
    pub fn source(&self, source: &Source) -> Result<Option<Record>, Error> {
        let text = files::read(&source.path(&self.root))?;
        Ok(text.map(|text| Record::read(source.method.class(), &text)))
    }

    /// A new record of a source, with what iscsid.conf says.
    ///
    /// # Errors
    /// iscsid.conf cannot be read.
    pub fn new_source(&self, source: &Source) -> Result<Record, Error> {
        let mut record = self.defaults(source.method.class())?;
        record.set("discovery.sendtargets.address", &source.address);
        record.set("discovery.sendtargets.port", &source.port.to_string());
        Ok(record)
    }

    /// Writes the record of a source.
    ///
    /// # Errors
    /// It cannot be written, or its address is no name of a file.
    pub fn write_source(&self, source: &Source, record: &Record) -> Result<(), Error> {
        if !is_component(&source.address) {
            return Err(Error::Invalid(format!("{} is no address", source.address)));
        }
        let _lock = self.lock()?;
        files::write(&self.root, &source.path(&self.root), 0o600, &record.text())
    }

    /// Removes a source with the nodes that were found through it.
    ///
    /// # Errors
    /// They cannot be removed.
    pub fn delete_source(&self, source: &Source) -> Result<(), Error> {
        for node in self.nodes_of(source)? {
            self.delete_node(&node)?;
        }
        let _lock = self.lock()?;
        files::remove(&source.path(&self.root))?;
        let directory = source.directory(&self.root);
        // Links whose nodes somebody else removed.
        for name in files::names(&directory)? {
            files::remove(&directory.join(name))?;
        }
        files::remove_empty(&directory, &self.root.join(source.method.directory()));
        Ok(())
    }
}
