//! One record: fields by their names, read from text and made into text.

use super::field::{Class, Field, IFACE_873, IFACE_HEAD, IFACE_IPV4, IFACE_IPV6, IFACE_TAIL, Kind};
use super::field::{NODE_HEAD, NODE_TAIL, NOT_IN_873};

/// In whose manner things are printed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Manner {
    /// open-iscsi 2.1.8.
    #[default]
    V218,
    /// open-iscsi 6.2.0-873, which how-tos show.
    V873,
}

impl Manner {
    /// The manner with this version.
    pub fn named(version: &str) -> Option<Manner> {
        match version {
            "2.1.8" | "2.1" | "new" => Some(Manner::V218),
            "6.2.0-873" | "6.2.0-873.10.el6" | "2.0-873" | "old" => Some(Manner::V873),
            _ => None,
        }
    }

    /// The version that is told.
    pub fn version(self) -> &'static str {
        match self {
            Manner::V218 => "2.1.8",
            Manner::V873 => "6.2.0-873.10.el6",
        }
    }
}

/// Whether secrets are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Secrets {
    /// As asterisks.
    Masked,
    /// As they are.
    Shown,
}

/// A record. What it does not know, it keeps.
#[derive(Clone, PartialEq, Eq)]
pub struct Record {
    class: Class,
    fields: Vec<(String, String)>,
}

// Secrets have no place in what is printed for debugging.
impl std::fmt::Debug for Record {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.shown(Manner::V218, Secrets::Masked))
    }
}

/// What stands for a secret.
const MASK: &str = "********";
/// What stands for nothing.
pub const EMPTY: &str = "<empty>";

impl Record {
    /// A record in which every field has its default.
    pub fn new(class: Class) -> Record {
        Record { class, fields: Vec::new() }
    }

    /// Reads `name = value` lines; comments and what is no such line is passed over.
    pub fn read(class: Class, text: &str) -> Record {
        let mut record = Record::new(class);
        for (name, value) in lines(text) {
            record.set(name, if value == EMPTY { "" } else { value });
        }
        record
    }

    /// What kind of record it is.
    pub fn class(&self) -> Class {
        self.class
    }

    /// The field's value; its default where nobody set it, empty where there is none.
    pub fn value(&self, name: &str) -> &str {
        match self.fields.iter().find(|(known, _)| known == name) {
            Some((_, value)) => value,
            None => self.class.field(name).map_or("", |field| field.default),
        }
    }

    /// The field as a number; none where it is no number.
    pub fn number<T: std::str::FromStr>(&self, name: &str) -> Option<T> {
        self.value(name).parse().ok()
    }

    /// Sets a field, whatever its value.
    pub fn set(&mut self, name: &str, value: &str) {
        match self.fields.iter_mut().find(|(known, _)| known == name) {
            Some((_, old)) => *old = value.to_owned(),
            None => self.fields.push((name.to_owned(), value.to_owned())),
        }
    }

    /// Takes over from `other` every field that this class knows and that is set there.
    pub fn take(&mut self, other: &Record) {
        for field in self.class.fields() {
            if let Some((_, value)) = other.fields.iter().find(|(name, _)| name == field.name) {
                self.set(field.name, value);
            }
        }
    }

    /// Takes over the interface's fields, and forgets those of the interface before.
    pub fn bind(&mut self, iface: &Record) {
        self.fields.retain(|(name, _)| !name.starts_with("iface."));
        self.fields.extend(iface.fields.iter().filter(|(name, _)| name.starts_with("iface.")).cloned());
    }

    /// The fields of its interface, as a record of their own.
    pub fn iface(&self) -> Record {
        let fields = self.fields.iter().filter(|(name, _)| name.starts_with("iface.")).cloned().collect();
        Record { class: Class::Iface, fields }
    }

    /// Names and values that are set, for programs: those of the class in their order, then what is not known.
    pub fn values(&self, secrets: Secrets) -> Vec<(String, String)> {
        let known = self.class.fields().map(|field| (field.name.to_owned(), self.public(field, secrets).to_owned()));
        known.filter(|(_, value)| !value.is_empty()).chain(self.unknown().cloned()).collect()
    }

    /// As it is printed.
    pub fn shown(&self, manner: Manner, secrets: Secrets) -> String {
        let mut out = format!("# BEGIN RECORD {}\n", manner.version());
        for field in self.layout(manner) {
            let value = self.public(field, secrets);
            out += &format!("{} = {}\n", field.name, if value.is_empty() { EMPTY } else { value });
        }
        out + "# END RECORD\n"
    }

    /// As it is written to a file: what is empty is not there, what is not known stands at the end.
    pub fn text(&self) -> String {
        let mut out = format!("# BEGIN RECORD {}\n", Manner::V218.version());
        let known = self.class.fields().map(|field| (field.name, self.value(field.name)));
        let unknown = self.unknown().map(|(name, value)| (name.as_str(), value.as_str()));
        for (name, value) in known.chain(unknown).filter(|(_, value)| !value.is_empty()) {
            out += &format!("{name} = {value}\n");
        }
        out + "# END RECORD\n"
    }

    fn unknown(&self) -> impl Iterator<Item = &(String, String)> {
        self.fields.iter().filter(|(name, _)| self.class.field(name).is_none())
    }

    fn public(&self, field: &Field, secrets: Secrets) -> &str {
        match self.value(field.name) {
            value if field.kind == Kind::Secret && secrets == Secrets::Masked && !value.is_empty() => MASK,
            value => value,
        }
    }

    fn layout(&self, manner: Manner) -> Vec<&'static Field> {
        if !matches!(self.class, Class::Node | Class::Iface) {
            return self.class.fields().collect();
        }
        let of_node = |rows: &'static [Field]| if self.class == Class::Node { rows } else { &[] };
        let mut rows: Vec<&Field> = of_node(NODE_HEAD).iter().collect();
        match manner {
            Manner::V218 => {
                let six = IFACE_IPV6.iter().any(|field| !self.value(field.name).is_empty());
                rows.extend(IFACE_HEAD.iter().chain(if six { IFACE_IPV6 } else { IFACE_IPV4 }).chain(IFACE_TAIL));
            }
            Manner::V873 => rows.extend(IFACE_873.iter().filter_map(|name| self.class.field(name))),
        }
        let shown = |field: &&Field| manner == Manner::V218 || !NOT_IN_873.contains(&field.name);
        rows.extend(of_node(NODE_TAIL).iter().filter(shown));
        rows
    }
}

/// The `name = value` lines of a text.
pub fn lines(text: &str) -> impl Iterator<Item = (&str, &str)> {
    text.lines().map(str::trim).filter(|line| !line.starts_with('#')).filter_map(|line| {
        let (name, value) = line.split_once('=')?;
        let name = name.trim();
        (!name.is_empty() && !name.contains(char::is_whitespace)).then_some((name, value.trim()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_read_is_written_again_with_what_nobody_knows() {
        let text = "# BEGIN RECORD 2.0-873\niface.hwaddress = default\nnode.name = iqn.a:b\nnode.startup=automatic\n\
                    node.session.auth.password_length = 7\nnode.new = x = y\nnoise\n# END RECORD\n";
        let record = Record::read(Class::Node, text);
        assert_eq!(record.value("node.name"), "iqn.a:b");
        assert_eq!(record.value("node.startup"), "automatic");
        assert_eq!(record.value("node.conn[0].port"), "3260");
        let again = Record::read(Class::Node, &record.text());
        assert_eq!(again.value("node.new"), "x = y");
        assert_eq!(again.value("node.session.auth.password_length"), "7");
        assert_eq!(again.text(), record.text());
        assert!(!record.shown(Manner::V218, Secrets::Masked).contains("node.new"));
    }

    #[test]
    fn secrets_are_masked_unless_they_are_asked_for() {
        let mut record = Record::new(Class::Node);
        let shows =
            |record: &Record, secrets, line: &str| record.shown(Manner::V218, secrets).lines().any(|l| l == line);
        assert!(shows(&record, Secrets::Masked, "node.session.auth.password = <empty>"));
        record.set("node.session.auth.password", "open sesame");
        assert!(shows(&record, Secrets::Masked, "node.session.auth.password = ********"));
        assert!(shows(&record, Secrets::Shown, "node.session.auth.password = open sesame"));
        assert!(!format!("{record:?}").contains("sesame"));
    }

    #[test]
    fn the_older_manner_has_its_own_order_and_lacks_what_is_newer() {
        let shown = Record::new(Class::Node).shown(Manner::V873, Secrets::Masked);
        let names: Vec<&str> = lines(&shown).map(|(name, _)| name).collect();
        assert!(shown.starts_with("# BEGIN RECORD 6.2.0-873.10.el6\n"), "{shown}");
        assert_eq!(names.iter().filter(|name| name.starts_with("iface.")).count(), 21);
        assert_eq!(names.get(4), Some(&"iface.hwaddress"));
        assert!(!shown.contains("DataDigest") && !shown.contains("chap_algs") && shown.contains("leading_login"));
    }
}
