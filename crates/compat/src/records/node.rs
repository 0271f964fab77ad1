//! Node records: a portal of a target, seen through an interface.

use super::files;
use super::{Class, Database, Error, Method, Portal, PortalPattern, Record, Source, TAG_UNKNOWN, is_component};
use std::path::{Path, PathBuf};

/// A node record, and what finds it.
#[derive(Debug, Clone)]
pub struct Node {
    /// The target's name.
    pub target: String,
    /// Where it is.
    pub portal: Portal,
    /// The name of the interface.
    pub iface: String,
    /// Its fields.
    pub record: Record,
    /// It is the file of a portal, not one of several in a directory.
    file: bool,
}

/// Which nodes are meant.
#[derive(Debug, Clone, Default)]
pub struct Choice {
    /// The target's name, where it matters.
    pub target: Option<String>,
    /// Its portal, where it matters.
    pub portal: Option<PortalPattern>,
    /// The interface's name, where it matters.
    pub iface: Option<String>,
}

impl Choice {
    /// Whether these are meant.
    pub fn fits(&self, target: &str, portal: &Portal, iface: &str) -> bool {
        self.target.as_ref().is_none_or(|name| name == target)
            && self.portal.as_ref().is_none_or(|pattern| pattern.fits(portal))
            && self.iface.as_ref().is_none_or(|name| name == iface)
    }
}

impl Node {
    /// A node of which nothing is known but where it is: everything else as iscsid.conf and the fields have it.
    ///
    /// # Errors
    /// The names cannot be names of files.
    pub fn new(defaults: &Record, target: &str, portal: &Portal, iface: &Record) -> Result<Node, Error> {
        if !is_component(target) || !is_component(&portal.address) {
            return Err(Error::Invalid(format!("{target} at {} cannot be the name of a record", portal.with_comma())));
        }
        let mut record = defaults.clone();
        record.bind(iface);
        record.set("node.name", target);
        record.set("node.tpgt", &portal.tag.to_string());
        record.set("node.conn[0].address", &portal.address);
        record.set("node.conn[0].port", &portal.port.to_string());
        Ok(Node::of(record, portal.tag == TAG_UNKNOWN))
    }

    /// Found through this source.
    pub fn found_by(mut self, source: &Source) -> Node {
        self.record.set("node.discovery_type", source.method.of_node());
        self.record.set("node.discovery_address", &source.address);
        self.record.set("node.discovery_port", &source.port.to_string());
        self
    }

    /// The source that it was found through; none where somebody entered it.
    pub fn source(&self) -> Option<Source> {
        Source::of_node(&self.record)
    }

    fn of(record: Record, file: bool) -> Node {
        let portal = Portal {
            address: record.value("node.conn[0].address").to_owned(),
            port: record.number("node.conn[0].port").unwrap_or(3260),
            tag: record.number("node.tpgt").unwrap_or(TAG_UNKNOWN),
        };
        let iface = record.value("iface.iscsi_ifacename").to_owned();
        Node { target: record.value("node.name").to_owned(), portal, iface, record, file }
    }

    /// The directory or file of the portal: with a tag a directory of files for each interface, without one a file.
    fn place(&self, root: &Path) -> PathBuf {
        let target = root.join("nodes").join(&self.target);
        match self.file {
            true => target.join(self.portal.with_comma()),
            false => target.join(format!("{},{}", self.portal.with_comma(), self.portal.tag)),
        }
    }

    fn path(&self, root: &Path) -> PathBuf {
        match self.file {
            true => self.place(root),
            false => self.place(root).join(&self.iface),
        }
    }

    fn link(&self, root: &Path) -> PathBuf {
        let (target, portal) = (&self.target, self.portal.with_comma());
        let name = format!("{target},{portal},{},{}", self.portal.tag, self.iface);
        match self.source() {
            Some(source) => source.directory(root).join(name),
            None => root.join("static").join(name),
        }
    }
}

impl Database {
    /// The nodes that are meant, by target, portal and interface.
    ///
    /// # Errors
    /// A record is there and cannot be read.
    pub fn nodes(&self, choice: &Choice) -> Result<Vec<Node>, Error> {
        let mut found = Vec::new();
        let all = self.root.join("nodes");
        for target in files::names(&all)? {
            if choice.target.as_ref().is_some_and(|name| *name != target) {
                continue;
            }
            for name in files::names(&all.join(&target))? {
                let path = all.join(&target).join(&name);
                let Some(portal) = Portal::of_name(&name) else { continue };
                if path.is_dir() {
                    for iface in files::names(&path)? {
                        self.node_at(&path.join(iface), &target, &portal, choice, &mut found)?;
                    }
                } else {
                    self.node_at(&path, &target, &portal, choice, &mut found)?;
                }
            }
        }
        found.sort_by(|a, b| (&a.target, &a.portal, &a.iface).cmp(&(&b.target, &b.portal, &b.iface)));
        Ok(found)
    }

    fn node_at(
        &self,
        path: &Path,
        target: &str,
        portal: &Portal,
        choice: &Choice,
        found: &mut Vec<Node>,
    ) -> Result<(), Error> {
        let Some(text) = files::read(path)? else { return Ok(()) };
        let mut record = Record::read(Class::Node, &text);
        // The path is what finds the record; where the record says otherwise, it would be changed under another path.
        record.set("node.name", target);
        record.set("node.conn[0].address", &portal.address);
        record.set("node.conn[0].port", &portal.port.to_string());
        let file = portal.tag == TAG_UNKNOWN;
        if !file {
            record.set("node.tpgt", &portal.tag.to_string());
        }
        let node = Node::of(record, file);
        if choice.fits(&node.target, &node.portal, &node.iface) {
            found.push(node);
        }
        Ok(())
    }

    /// Writes a node that was entered or found, with the link that says how.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn add_node(&self, node: &Node) -> Result<(), Error> {
        let _lock = self.lock()?;
        let path = node.path(&self.root);
        // It may have been found through another source, which has it no longer.
        if let Some(text) = files::read(&path)? {
            let before = Node::of(Record::read(Class::Node, &text), node.file);
            files::remove(&before.link(&self.root))?;
        }
        if !node.file {
            // What was known of the portal without its tag gives way.
            let untagged = self.root.join("nodes").join(&node.target).join(node.portal.with_comma());
            if untagged.is_file() {
                files::remove(&untagged)?;
            }
        }
        files::write(&self.root, &path, 0o600, &node.record.text())?;
        match node.file && node.source().is_none() {
            true => Ok(()),
            false => files::link(&node.place(&self.root), &node.link(&self.root)),
        }
    }

    /// Writes a node whose fields were changed.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn update_node(&self, node: &Node) -> Result<(), Error> {
        let _lock = self.lock()?;
        files::write(&self.root, &node.path(&self.root), 0o600, &node.record.text())
    }

    /// Removes a node and its link.
    ///
    /// # Errors
    /// It cannot be removed.
    pub fn delete_node(&self, node: &Node) -> Result<(), Error> {
        let _lock = self.lock()?;
        let path = node.path(&self.root);
        files::remove(&node.link(&self.root))?;
        files::remove(&path)?;
        files::remove_empty(path.parent().unwrap_or(&path), &self.root.join("nodes"));
        Ok(())
    }

    /// The nodes that were found through a source.
    ///
    /// # Errors
    /// A record is there and cannot be read.
    pub fn nodes_of(&self, source: &Source) -> Result<Vec<Node>, Error> {
        let mut nodes = self.nodes(&Choice::default())?;
        nodes.retain(|node| node.source().as_ref() == Some(source));
        Ok(nodes)
    }

    /// The nodes that were found by this method, whatever the place; with none, those that were entered.
    ///
    /// # Errors
    /// A record is there and cannot be read.
    pub fn nodes_by(&self, method: Option<Method>) -> Result<Vec<Node>, Error> {
        let mut nodes = self.nodes(&Choice::default())?;
        let word = method.map_or("static", Method::of_node);
        nodes.retain(|node| node.record.value("node.discovery_type") == word);
        Ok(nodes)
    }
}
