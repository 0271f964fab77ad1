//! Kinds of things that are administered: a row for each, of which its commands are made.

use super::client::segment;
use super::show::Column;
use crate::control::keys::{self, Key};

/// What can be done with a kind of thing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    /// All of them, as a table.
    List,
    /// One of them, whole.
    Show,
    /// One more.
    Add,
    /// One less.
    Remove,
    /// Another value of some of its keys.
    Set,
}

/// A kind of thing.
pub struct Kind {
    /// Its command.
    pub word: &'static str,
    /// What help says of it.
    pub about: &'static str,
    /// What can be done with it, what help says of that, and an example of it.
    pub verbs: &'static [(Verb, &'static str, &'static str)],
    /// The words that name one: on the command line, and in help.
    pub names: &'static [(&'static str, &'static str)],
    /// Of these only the first are given to add one; the rest are options.
    pub names_to_add: usize,
    /// The path of one, with a brace for each name.
    pub path: &'static str,
    /// The path of all.
    pub all: &'static str,
    /// The path of those of the first name, where a list can be narrowed to it.
    pub narrowed: Option<&'static str>,
    /// Where the list stands in the answer.
    pub list: &'static str,
    /// Its keys.
    pub keys: &'static [Key],
    /// A key that is given without an option when one is added: its place among the words, and what help says.
    pub word_to_add: Option<(&'static str, &'static str, &'static str)>,
    /// The columns of its table.
    pub columns: &'static [(&'static str, Column)],
}

/// The path of a thing with these names.
pub fn path(template: &str, names: &[&str]) -> String {
    let mut names = names.iter();
    let mut out = String::new();
    let mut pieces = template.split("{}");
    out.push_str(pieces.next().unwrap_or_default());
    for piece in pieces {
        out.push_str(&segment(names.next().copied().unwrap_or_default()));
        out.push_str(piece);
    }
    out
}

/// Places in [`KINDS`].
pub const TARGET: usize = 0;
/// Disks.
pub const LUN: usize = 1;
/// Portals.
pub const PORTAL: usize = 2;
/// Rules.
pub const ACL: usize = 3;
/// Accounts.
pub const ACCOUNT: usize = 4;
/// Sessions.
pub const SESSION: usize = 5;
/// Connections.
pub const CONNECTION: usize = 6;
/// Reservations.
pub const RESERVATION: usize = 7;
/// Portal groups.
pub const GROUP: usize = 8;

const TARGET_NAME: (&str, &str) = ("TARGET", "The target's name");

/// All kinds.
pub const KINDS: &[Kind] = &[
    Kind {
        word: "target",
        about: "Targets: show them, add them, change them while they are used",
        verbs: &[
            (Verb::List, "All targets", "lunette target list"),
            (Verb::Show, "A target with its disks and rules", "lunette target show iqn.2026-11.com.example:home"),
            (
                Verb::Add,
                "Add a target. It admits nobody before a rule says so (lunette acl add)",
                "lunette target add iqn.2026-11.com.example:home --alias 'the house'",
            ),
            (
                Verb::Remove,
                "Remove a target with its LUNs. Their stores stay as they are",
                "lunette target remove iqn.2026-11.com.example:home --dry-run",
            ),
            (
                Verb::Set,
                "Change a target",
                "lunette target set iqn.2026-11.com.example:home --account alice --unset alias",
            ),
        ],
        names: &[TARGET_NAME],
        names_to_add: 1,
        path: "/v1/targets/{}",
        all: "/v1/targets",
        narrowed: None,
        list: "targets",
        keys: keys::TARGET,
        word_to_add: Some(("name", "TARGET", "Its iSCSI name: iqn., eui. or naa.")),
        columns: &[
            ("TARGET", Column::Text("name")),
            ("LUNS", Column::Count("luns")),
            ("RULES", Column::Count("rules")),
            ("SESSIONS", Column::Text("sessions")),
            ("GROUPS", Column::Or("groups", "all")),
            ("ALIAS", Column::Text("alias")),
        ],
    },
    Kind {
        word: "lun",
        about: "LUNs: the disks of targets",
        verbs: &[
            (Verb::List, "The LUNs of all targets, or of one", "lunette lun list iqn.2026-11.com.example:home"),
            (Verb::Show, "A LUN", "lunette lun show iqn.2026-11.com.example:home 1"),
            (
                Verb::Add,
                "Add a LUN. Initiators that are there are told",
                "lunette lun add iqn.2026-11.com.example:home /srv/work.img,size=10G\n  \
                 lunette lun add iqn.2026-11.com.example:home /dev/vg0/work --lun 7 --read-only",
            ),
            (
                Verb::Remove,
                "Remove a LUN. Its store stays as it is",
                "lunette lun remove iqn.2026-11.com.example:home 7 --force",
            ),
            (
                Verb::Set,
                "Change a LUN: its size, whether it is online, who may write",
                "lunette lun set iqn.2026-11.com.example:home 1 --size 20G\n  \
                 lunette lun set iqn.2026-11.com.example:home 1 --online=false\n  \
                 lunette lun set iqn.2026-11.com.example:home 1 --limit operations=500,bytes=100M\n  \
                 lunette lun set iqn.2026-11.com.example:home 1 --unset write-cache",
            ),
        ],
        names: &[TARGET_NAME, ("LUN", "The LUN's number")],
        names_to_add: 1,
        path: "/v1/targets/{}/luns/{}",
        all: "/v1/luns",
        narrowed: Some("/v1/targets/{}/luns"),
        list: "luns",
        keys: keys::LUN,
        word_to_add: Some((
            "store",
            "STORE",
            "The address of its store: /srv/disk.img,size=10G, /dev/vg0/home, ram:1G",
        )),
        columns: &[
            ("TARGET", Column::Text("target")),
            ("LUN", Column::Text("number")),
            ("SIZE", Column::Bytes("bytes")),
            ("STATE", Column::Text("state")),
            ("ACCESS", Column::Flag("writable", "read-write", "read-only")),
            ("STORE", Column::Text("store")),
        ],
    },
    Kind {
        word: "portal",
        about: "Portals: the addresses at which it listens",
        verbs: &[
            (Verb::List, "All portals", "lunette portal list"),
            (Verb::Show, "A portal", "lunette portal show 192.0.2.7"),
            (Verb::Add, "Listen at one more address", "lunette portal add '[2001:db8::7]:3260' --group 2"),
            (Verb::Remove, "Listen there no more", "lunette portal remove 192.0.2.7 --force"),
            (Verb::Set, "Change a portal", "lunette portal set 192.0.2.7 --advertise nas.example.org"),
        ],
        names: &[("PORTAL", "The address, as the configuration says it")],
        names_to_add: 1,
        path: "/v1/portals/{}",
        all: "/v1/portals",
        narrowed: None,
        list: "portals",
        keys: keys::PORTAL,
        word_to_add: Some(("listen", "ADDR[:PORT]", "The address; port 3260 where none is said")),
        columns: &[
            ("PORTAL", Column::Text("listen")),
            ("GROUP", Column::Or("group", "1")),
            ("LISTENS AT", Column::Text("addresses")),
            ("ADVERTISED AS", Column::Text("advertise")),
        ],
    },
    Kind {
        word: "acl",
        about: "Rules: who may use a target, and what of it. The first that fits decides",
        verbs: &[
            (Verb::List, "The rules of all targets, or of one", "lunette acl list iqn.2026-11.com.example:home"),
            (Verb::Show, "A rule by its position", "lunette acl show iqn.2026-11.com.example:home 1"),
            (
                Verb::Add,
                "Add a rule, behind those that are there",
                "lunette acl add iqn.2026-11.com.example:home --initiator iqn.1993-08.org.debian:01:abc\n  \
                 lunette acl add iqn.2026-11.com.example:home --initiator any --address 192.0.2.0/24 --show 1:0,ro --position 1",
            ),
            (Verb::Remove, "Remove a rule", "lunette acl remove iqn.2026-11.com.example:home 2"),
            (
                Verb::Set,
                "Change a rule",
                "lunette acl set iqn.2026-11.com.example:home 1 --account alice,bob --read-only",
            ),
        ],
        names: &[TARGET_NAME, ("RULE", "The rule's position, from 1")],
        names_to_add: 1,
        path: "/v1/targets/{}/rules/{}",
        all: "/v1/targets",
        narrowed: Some("/v1/targets/{}/rules"),
        list: "rules",
        keys: keys::RULE,
        word_to_add: None,
        columns: &[
            ("TARGET", Column::Text("target")),
            ("RULE", Column::Text("position")),
            ("INITIATORS", Column::Text("initiators")),
            ("ADDRESSES", Column::Or("addresses", "any")),
            ("ACCOUNTS", Column::Accounts("accounts")),
            ("LUNS", Column::Units("luns")),
            ("ACCESS", Column::Flag("read_only", "read-only", "read-write")),
        ],
    },
    Kind {
        word: "account",
        about: "CHAP accounts. Secrets are asked for, or read from a file or standard input",
        verbs: &[
            (Verb::List, "All accounts, without their secrets", "lunette account list"),
            (Verb::Show, "An account, without its secret", "lunette account show alice"),
            (
                Verb::Add,
                "Add an account. Its secret is asked for where no place of it is named",
                "lunette account add alice\n  openssl rand -hex 16 | lunette account add alice --secret-from -\n  \
                 lunette account add bob --secret-file /etc/lunette/bob.secret",
            ),
            (Verb::Remove, "Remove an account", "lunette account remove alice"),
            (
                Verb::Set,
                "Change an account",
                "lunette account set alice --user alice@example.org\n  lunette account set alice --secret-from -",
            ),
        ],
        names: &[("ACCOUNT", "The account's name in the configuration")],
        names_to_add: 1,
        path: "/v1/accounts/{}",
        all: "/v1/accounts",
        narrowed: None,
        list: "accounts",
        keys: keys::ACCOUNT,
        word_to_add: Some(("name", "ACCOUNT", "Its name in the configuration")),
        columns: &[
            ("ACCOUNT", Column::Text("name")),
            ("USER", Column::OrKey("user", "name")),
            ("SECRET IN", Column::Text("secret_from")),
            ("USED BY", Column::Or("used_by", "nobody")),
        ],
    },
    Kind {
        word: "session",
        about: "Sessions: who is logged in, with what was agreed",
        verbs: &[
            (Verb::List, "All sessions", "lunette session list"),
            (Verb::Show, "A session with all that was agreed", "lunette session show 5"),
            (Verb::Remove, "Drop a session. Its initiator is told, and may come again", "lunette session remove 5"),
        ],
        names: &[("SESSION", "The session's number (TSIH)")],
        names_to_add: 0,
        path: "/v1/sessions/{}",
        all: "/v1/sessions",
        narrowed: None,
        list: "sessions",
        keys: &[],
        word_to_add: None,
        columns: &[
            ("SESSION", Column::Text("tsih")),
            ("INITIATOR", Column::Text("initiator")),
            ("TARGET", Column::Text("target")),
            ("FROM", Column::First("connections", "peer")),
            ("CONNECTIONS", Column::Count("connections")),
            ("ACCOUNT", Column::Text("account")),
            ("SINCE", Column::Text("since")),
        ],
    },
    Kind {
        word: "connection",
        about: "Connections of sessions",
        verbs: &[
            (Verb::List, "The connections of all sessions", "lunette connection list"),
            (Verb::Show, "A connection with all that was agreed", "lunette connection show 5 0"),
            (Verb::Remove, "Drop a connection", "lunette connection remove 5 0"),
        ],
        names: &[("SESSION", "The session's number (TSIH)"), ("CONNECTION", "The connection's number (CID)")],
        names_to_add: 0,
        path: "/v1/sessions/{}/connections/{}",
        all: "/v1/connections",
        narrowed: None,
        list: "connections",
        keys: &[],
        word_to_add: None,
        columns: &[
            ("SESSION", Column::Text("tsih")),
            ("CONNECTION", Column::Text("cid")),
            ("INITIATOR", Column::Text("initiator")),
            ("FROM", Column::Text("peer")),
            ("AT", Column::Text("local")),
            ("RECEIVED", Column::Bytes("received_bytes")),
            ("SENT", Column::Bytes("sent_bytes")),
            ("SINCE", Column::Text("since")),
        ],
    },
    Kind {
        word: "reservation",
        about: "Reservations of disks: who holds them, and an end of that",
        verbs: &[
            (Verb::List, "The disks with reservations or registrations", "lunette reservation list"),
            (Verb::Show, "The reservations of a disk", "lunette reservation show iqn.2026-11.com.example:home 1"),
            (
                Verb::Remove,
                "End all reservations and registrations of a disk. Who had them is told",
                "lunette reservation remove iqn.2026-11.com.example:home 1",
            ),
        ],
        names: &[TARGET_NAME, ("LUN", "The LUN's number")],
        names_to_add: 0,
        path: "/v1/targets/{}/luns/{}/reservation",
        all: "/v1/reservations",
        narrowed: None,
        list: "reservations",
        keys: &[],
        word_to_add: None,
        columns: &[
            ("TARGET", Column::Text("target")),
            ("LUN", Column::Text("lun")),
            ("TYPE", Column::Or("type", "none")),
            ("KEY", Column::Text("key")),
            ("REGISTERED", Column::Count("registrations")),
            ("PERSISTS", Column::Flag("persists", "yes", "no")),
        ],
    },
    Kind {
        word: "group",
        about: "Portal groups and their access states",
        verbs: &[
            (Verb::List, "All portal groups", "lunette group list"),
            (Verb::Show, "A portal group", "lunette group show 2"),
            (Verb::Remove, "Say nothing of a portal group any more", "lunette group remove 2"),
            (
                Verb::Set,
                "Say something of a portal group",
                "lunette group set 2 --state active-non-optimized --preferred",
            ),
        ],
        names: &[("GROUP", "The portal group's number")],
        names_to_add: 0,
        path: "/v1/groups/{}",
        all: "/v1/groups",
        narrowed: None,
        list: "groups",
        keys: keys::GROUP,
        word_to_add: None,
        columns: &[
            ("GROUP", Column::Text("number")),
            ("STATE", Column::Text("state")),
            ("PREFERRED", Column::Flag("preferred", "yes", "no")),
            ("PORTALS", Column::Text("portals")),
        ],
    },
];
