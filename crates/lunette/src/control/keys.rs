//! What can be said of each kind of entry of the configuration: one row makes a key of the API's bodies and answers,
//! and an option of the command line. The document has the same key with hyphens.

use super::shape::{Field, Shape, count, list};

/// A key of an entry.
#[derive(Debug, Clone, Copy)]
pub struct Key {
    /// Its name in JSON.
    pub name: &'static str,
    /// Its option on the command line, without `--`.
    pub option: &'static str,
    /// What the option takes, as help shows it.
    pub value: &'static str,
    /// What stands there.
    pub kind: Kind,
    /// What it is.
    pub about: &'static str,
    /// An entry without it makes no sense.
    pub needed: bool,
}

/// What can stand in a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A text.
    Text,
    /// A text that is never shown.
    Secret,
    /// One of these words.
    Word(&'static [&'static str]),
    /// A whole number.
    Number(i64, i64),
    /// True or false.
    Flag,
    /// A text or a list of them.
    Texts,
    /// A list of numbers.
    Numbers(i64, i64),
    /// LUNs: numbers, or tables that say under which other number and whether read-only.
    Units,
    /// An address, or a table that says whether for good.
    Redirect,
    /// A number, or a text that says one with its unit.
    Amount,
    /// How much in a second.
    Rate,
}

const fn key(name: &'static str, option: &'static str, value: &'static str, kind: Kind, about: &'static str) -> Key {
    Key { name, option, value, kind, about, needed: false }
}

const fn needed(name: &'static str, option: &'static str, value: &'static str, kind: Kind, about: &'static str) -> Key {
    Key { name, option, value, kind, about, needed: true }
}

/// `[[target]]`.
pub const TARGET: &[Key] = &[
    needed("name", "name", "NAME", Kind::Text, "its iSCSI name: iqn., eui. or naa."),
    key("tid", "tid", "N", Kind::Number(1, 0x7fff_ffff), "its number, for programs that know targets by numbers"),
    key("online", "online", "BOOL", Kind::Flag, "false: it takes no logins; who is there stays"),
    key("alias", "alias", "TEXT", Kind::Text, "a line for people"),
    key(
        "groups",
        "group",
        "N",
        Kind::Numbers(1, 65535),
        "the portal groups at which it is served; all where nothing is said",
    ),
    key(
        "accounts",
        "account",
        "NAME",
        Kind::Texts,
        "CHAP accounts of which one has to log in, where a rule says nothing else",
    ),
    key("mutual", "mutual", "NAME", Kind::Text, "the account that it shows to initiators that ask back"),
    key("redirect", "redirect", "ADDR[,permanent]", Kind::Redirect, "where it is instead"),
];

/// `[[target.lun]]`.
pub const LUN: &[Key] = &[
    key(
        "number",
        "lun",
        "N",
        Kind::Number(0, 16383),
        "its number; the lowest free one from 1 on where nothing is said",
    ),
    needed(
        "store",
        "store",
        "STORE",
        Kind::Text,
        "the address of its store: /srv/disk.img,size=10G, /dev/vg0/home, ram:1G",
    ),
    key("size", "size", "SIZE", Kind::Text, "how large it is to be: 20G; files grow, and initiators are told"),
    key("type", "type", "TYPE", Kind::Word(&["disk", "cd"]), "disk, or cd"),
    key("online", "online", "BOOL", Kind::Flag, "false: it answers that it is not ready"),
    key("read_only", "read-only", "BOOL", Kind::Flag, "nobody may write it"),
    key(
        "write_cache",
        "write-cache",
        "BOOL",
        Kind::Flag,
        "whether writes may wait in the system's cache; as initiators wish where nothing is said",
    ),
    key("serial", "serial", "TEXT", Kind::Text, "the serial number that INQUIRY tells"),
    key("vendor", "vendor", "TEXT", Kind::Text, "the vendor that INQUIRY tells, at most 8 letters"),
    key("product", "product", "TEXT", Kind::Text, "the product that INQUIRY tells, at most 16 letters"),
    key("revision", "revision", "TEXT", Kind::Text, "the product revision that INQUIRY tells, at most 4 letters"),
    key("t10_id", "t10-id", "TEXT", Kind::Text, "the designator with T10 vendor identification, whole"),
    key("naa", "naa", "DIGITS", Kind::Text, "the NAA designator, by which multipath knows it, in the place of our own"),
    key("unmap", "unmap", "BOOL", Kind::Flag, "false: space that is given back is kept, and initiators are told so"),
    key(
        "physical_block",
        "physical-block",
        "BYTES",
        Kind::Number(512, 1 << 24),
        "bytes of a physical block, where the store does not know",
    ),
    key(
        "alignment",
        "alignment",
        "BLOCK",
        Kind::Number(0, 0x3fff),
        "the first block that lies on a physical one's boundary",
    ),
    key(
        "optimal_transfer",
        "optimal-transfer",
        "BYTES",
        Kind::Number(0, 1 << 30),
        "bytes of the transfer that is best",
    ),
    key("rotation", "rotation", "KIND", Kind::Text, "solid, unknown, or revolutions a minute"),
    key("removable", "removable", "BOOL", Kind::Flag, "the medium can be removed"),
    key(
        "limit",
        "limit",
        "operations=N,bytes=SIZE,burst=TIME",
        Kind::Rate,
        "how much all initiators together may do in a second",
    ),
];

/// `[[target.rule]]`.
pub const RULE: &[Key] = &[
    needed("initiators", "initiator", "NAME", Kind::Texts, "for whom: names, patterns with *, or any"),
    key("addresses", "address", "NETWORK", Kind::Texts, "from where: addresses and networks, or any"),
    key(
        "accounts",
        "account",
        "NAME",
        Kind::Texts,
        "CHAP accounts of which one has to log in; the target's where nothing is said",
    ),
    key("mutual", "mutual", "NAME", Kind::Text, "the account that the target shows to initiators that ask back"),
    key("luns", "show", "LUN[:AS][,ro]", Kind::Units, "the LUNs that are there for him; all where nothing is said"),
    key("read_only", "read-only", "BOOL", Kind::Flag, "he may write none of them"),
    key(
        "target_reset",
        "target-reset",
        "BOOL",
        Kind::Flag,
        "whether he may reset the target, and with it the tasks of others",
    ),
    key("redirect", "redirect", "ADDR[,permanent]", Kind::Redirect, "where the target is for him"),
    key(
        "limit",
        "limit",
        "operations=N,bytes=SIZE,burst=TIME",
        Kind::Rate,
        "how much all whom it fits may do together in a second",
    ),
];

/// `[account.NAME]`.
pub const ACCOUNT: &[Key] = &[
    key("user", "user", "NAME", Kind::Text, "what initiators send as CHAP_N; the account's name where nothing is said"),
    key("secret", "secret", "SECRET", Kind::Secret, "the secret itself, 12 to 255 bytes; it never comes out again"),
    key("secret_file", "secret-file", "PATH", Kind::Text, "a file at the daemon whose first line it is"),
    key("secret_env", "secret-env", "NAME", Kind::Text, "the variable of the daemon's environment that has it"),
    key("secret_credential", "secret-credential", "NAME", Kind::Text, "the credential of this name that systemd gives"),
];

/// `[[portal]]`.
pub const PORTAL: &[Key] = &[
    needed("listen", "listen", "ADDR[:PORT]", Kind::Text, "the address; port 3260 where none is said"),
    key("group", "group", "N", Kind::Number(1, 65535), "its portal group; 1 where nothing is said"),
    key("advertise", "advertise", "ADDR[:PORT]", Kind::Text, "where discovery says that it is, if somewhere else"),
];

/// `[[group]]`.
pub const GROUP: &[Key] = &[
    needed("number", "number", "N", Kind::Number(1, 65535), "the portal group"),
    key("state", "state", "STATE", Kind::Text, "active-optimized, active-non-optimized, standby or unavailable"),
    key("preferred", "preferred", "BOOL", Kind::Flag, "PREF"),
];

/// `[log]`.
pub const LOG: &[Key] = &[
    key("level", "level", "LEVEL", Kind::Word(&crate::logging::LEVELS), "the least of what is told"),
    key(
        "format",
        "format",
        "FORMAT",
        Kind::Word(&["auto", "text", "json", "journald"]),
        "how it is written, and where",
    ),
    key("slow", "slow", "TIME", Kind::Amount, "a command that takes longer is told of: 500ms, 2s"),
];

/// A number, or a text that says one with its unit.
pub fn amount() -> Shape {
    Shape::Either(vec![count(), Shape::Text])
}

impl Key {
    /// Its name in the document.
    pub fn in_document(&self) -> String {
        self.name.replace('_', "-")
    }

    /// What stands there.
    pub fn shape(&self) -> Shape {
        match self.kind {
            Kind::Text | Kind::Secret => Shape::Text,
            Kind::Word(words) => Shape::Word(words.to_vec()),
            Kind::Number(least, most) => Shape::Number(least, most),
            Kind::Flag => Shape::Flag,
            Kind::Texts => Shape::Either(vec![Shape::Text, list(Shape::Text)]),
            Kind::Numbers(least, most) => list(Shape::Number(least, most)),
            Kind::Units => list(Shape::Either(vec![Shape::Number(0, 16383), Shape::Named("ShownLun")])),
            Kind::Redirect => Shape::Either(vec![Shape::Text, Shape::Named("Redirect")]),
            Kind::Amount => amount(),
            Kind::Rate => Shape::Named("Rate"),
        }
    }

    /// As a body that adds an entry says it.
    pub fn added(&self) -> Field {
        Field { name: self.name, shape: self.shape(), about: self.about, needed: self.needed, nullable: false }
    }

    /// As a body that changes an entry says it: `null` takes it out of the document.
    pub fn changed(&self) -> Field {
        let nullable = !self.needed;
        Field { name: self.name, shape: self.shape(), about: self.about, needed: false, nullable }
    }

    /// As an answer says it: nothing of secrets.
    pub fn shown(&self) -> Option<Field> {
        (self.kind != Kind::Secret).then(|| Field {
            name: self.name,
            shape: self.shape(),
            about: self.about,
            needed: false,
            nullable: false,
        })
    }
}
