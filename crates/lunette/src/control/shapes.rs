//! The shapes of the API that have a name: schemas of the OpenAPI document.

use super::keys::{self, Key};
use super::shape::{Field, Shape, always, count, list, nullable, perhaps};
use std::sync::LazyLock;

/// All of them with their names.
pub fn named() -> &'static [(&'static str, Shape)] {
    &NAMED
}

/// The one of this name.
pub fn find(name: &str) -> Option<&'static Shape> {
    NAMED.iter().find(|(known, _)| *known == name).map(|(_, shape)| shape)
}

static NAMED: LazyLock<Vec<(&'static str, Shape)>> = LazyLock::new(|| {
    let object = Shape::Object;
    vec![
        ("Problem", problem()),
        ("Finding", finding()),
        ("Plan", plan()),
        ("Step", step()),
        ("Disturbed", object(disturbed())),
        (
            "Stuck",
            object(vec![
                always("key", Shape::Text, "where it is said"),
                always("details", Shape::Text, "what runs, and what was asked for"),
                always("line", Shape::Text, "the same for people"),
            ]),
        ),
        ("Status", status()),
        (
            "Running",
            object(vec![
                always("version", Shape::Text, "the program's version"),
                always("process", count(), "the daemon's process"),
                always("since", Shape::Text, "when it started, RFC 3339"),
                nullable("document", Shape::Text, "the file that it serves"),
                nullable("document_differs", Shape::Flag, "whether the file says something else than what is served"),
                always("portals", list(Shape::Text), "where it listens"),
                always("targets", list(Shape::Text), "the targets' names"),
            ]),
        ),
        (
            "Statistics",
            object(vec![
                always("version", Shape::Text, "the program's version"),
                always("process", count(), "the daemon's process"),
                always("since", Shape::Text, "when it started, RFC 3339"),
                always("time_us", count(), "when this was read, in microseconds since 1970"),
                always(
                    "luns",
                    list(Shape::Any),
                    "each LUN of each target: what it is, and what was counted by kind of command",
                ),
                always("sessions", list(Shape::Any), "each session, and what was counted at each of its LUNs"),
            ]),
        ),
        ("Target", target()),
        ("Lun", lun()),
        ("Rule", rule()),
        (
            "ShownLun",
            object(vec![
                always("lun", Shape::Number(0, 16383), "its number at the target"),
                perhaps("as", Shape::Number(0, 16383), "its number for those whom the rule fits"),
                perhaps("read_only", Shape::Flag, "they may not write it"),
            ]),
        ),
        (
            "Redirect",
            object(vec![
                always("address", Shape::Text, "where the target is"),
                perhaps("permanent", Shape::Flag, "for good"),
            ]),
        ),
        ("Account", account()),
        ("Rate", rate()),
        ("Portal", portal()),
        ("Group", group()),
        ("Limit", limit()),
        ("Log", object(shown(keys::LOG))),
        ("Door", door()),
        ("DoorChange", object(vec![always("open", Shape::Flag, "whether anybody may log in")])),
        ("Refusal", refusal()),
        (
            "Worker",
            object(vec![
                always("worker", count(), "its number"),
                always("answers", Shape::Flag, "whether it tells of its sessions"),
                nullable("data_bytes", count(), "memory for data that it holds"),
            ]),
        ),
        ("Session", session()),
        ("Connection", object(connection())),
        ("ConnectionOfSession", connection_of_session()),
        ("Reservation", reservation()),
        (
            "Registration",
            object(vec![
                always("initiator", Shape::Text, "the initiator's name, with its ISID where it is of one port"),
                always("relative_port", count(), "the target port by its relative identifier"),
                always("key", Shape::Text, "the key, hexadecimal"),
                always("holds", Shape::Flag, "whether it holds the reservation"),
            ]),
        ),
        ("Configuration", configuration()),
        ("NewTarget", object(added(keys::TARGET))),
        ("TargetChange", object(changed(keys::TARGET))),
        ("NewLun", object(added(keys::LUN))),
        ("LunChange", object(changed(keys::LUN))),
        (
            "NewRule",
            object(
                [
                    added(keys::RULE),
                    vec![perhaps(
                        "position",
                        Shape::Number(1, 65535),
                        "before which rule it comes; behind all where nothing is said",
                    )],
                ]
                .concat(),
            ),
        ),
        ("RuleChange", object(changed(keys::RULE))),
        (
            "NewAccount",
            object([vec![always("name", Shape::Text, "its name in the configuration")], added(keys::ACCOUNT)].concat()),
        ),
        ("AccountChange", object(changed(keys::ACCOUNT))),
        ("NewPortal", object(added(keys::PORTAL))),
        ("PortalChange", object(changed(keys::PORTAL))),
        ("GroupChange", object(changed(&keys::GROUP[1..]))),
        ("LogChange", object(changed(keys::LOG))),
        ("LimitsChange", Shape::Map(Box::new(Shape::Either(vec![count(), Shape::Text, Shape::Word(vec!["default"])])))),
        (
            "NewConfiguration",
            object(vec![always(
                "text",
                Shape::Text,
                "the document, lunette.toml; a secret that is said as \"(kept)\" stays as it is",
            )]),
        ),
        ("Changes", object(vec![always("changes", list(Shape::Named("Change")), "in turn; all of them or none")])),
        ("Change", change()),
        ("Event", event()),
        (
            "Done",
            object(vec![
                always("done", Shape::Flag, "that it was done"),
                always("line", Shape::Text, "what was done, for people"),
            ]),
        ),
    ]
});

fn added(keys: &[Key]) -> Vec<Field> {
    keys.iter().map(Key::added).collect()
}

fn changed(keys: &[Key]) -> Vec<Field> {
    keys.iter().map(Key::changed).collect()
}

fn shown(keys: &[Key]) -> Vec<Field> {
    keys.iter().filter_map(Key::shown).collect()
}

/// What is written, and behind it what runs.
fn with(keys: &[Key], more: Vec<Field>) -> Shape {
    Shape::Object([shown(keys), more].concat())
}

fn problem() -> Shape {
    Shape::Object(vec![
        always("code", Shape::Text, "a word for programs: not-found, exists, invalid, in-use, …"),
        always("message", Shape::Text, "what is wrong, for people"),
        always("help", Shape::Text, "what would mend it; empty where there is nothing to say"),
        always("findings", list(Shape::Named("Finding")), "what would be wrong with the configuration"),
        nullable("plan", Shape::Named("Plan"), "what was not done"),
    ])
}

fn finding() -> Shape {
    Shape::Object(vec![
        always("file", Shape::Text, "the document"),
        always("line", count(), "its line, from 1"),
        always("column", count(), "its column, from 1"),
        always("end_column", count(), "behind the last letter that is meant"),
        always("severity", Shape::Word(vec!["error", "warning"]), "whether it keeps the document from being used"),
        always("message", Shape::Text, "what is wrong"),
        always("help", Shape::Text, "what would be right"),
        always("text", Shape::Text, "the line, without its secret"),
    ])
}

fn disturbed() -> Vec<Field> {
    vec![
        always("initiator", Shape::Text, "the initiator's name"),
        always("peer", Shape::Text, "where it comes from"),
        always("target", Shape::Text, "the target"),
        always("tsih", count(), "the session's number"),
    ]
}

fn plan() -> Shape {
    Shape::Object(vec![
        always("done", Shape::Flag, "whether it was carried out"),
        always("steps", list(Shape::Named("Step")), "in the order in which they are taken"),
        always("stuck", list(Shape::Named("Stuck")), "what cannot change while the daemon runs"),
        always("needs_force", Shape::Flag, "whether it takes away what somebody uses"),
        always("warnings", list(Shape::Named("Finding")), "what is hardly meant"),
        always(
            "remarks",
            list(Shape::Text),
            "what did not come about as it was meant, although the change is in force",
        ),
    ])
}

fn step() -> Shape {
    Shape::Object(vec![
        always("do", Shape::Text, "add, remove, change, resize, move"),
        always("what", Shape::Text, "the kind of thing: target, lun, rule, portal, …"),
        nullable("target", Shape::Text, "whose it is"),
        always("name", Shape::Text, "its own name"),
        always("details", Shape::Text, "what it is, or what changes"),
        always("takes_away", Shape::Flag, "whether those whom it disturbs lose something"),
        always("disturbs", list(Shape::Named("Disturbed")), "whom it disturbs"),
        always("line", Shape::Text, "the same for people"),
    ])
}

fn status() -> Shape {
    Shape::Object(vec![
        always("version", Shape::Text, "the program's version"),
        always("process", count(), "the daemon's process"),
        always("since", Shape::Text, "when it started, RFC 3339"),
        nullable("configuration", Shape::Text, "the file that it serves; null where it has none"),
        always("targets", count(), "targets"),
        always("luns", count(), "LUNs of all targets"),
        always("portals", list(Shape::Text), "where it listens"),
        always("sessions", count(), "sessions"),
        always("events_readers", count(), "who reads the events"),
    ])
}

fn target() -> Shape {
    with(
        keys::TARGET,
        vec![
            always("luns", list(Shape::Named("Lun")), "its disks"),
            always("rules", list(Shape::Named("Rule")), "who may use it; the first that fits decides"),
            always("sessions", count(), "sessions that are there"),
        ],
    )
}

fn lun() -> Shape {
    with(
        keys::LUN,
        vec![
            always("target", Shape::Text, "whose it is"),
            nullable("bytes", count(), "how large it is"),
            nullable("block_bytes", count(), "the size of a block"),
            nullable("uuid", Shape::Text, "what its identity is made of"),
            nullable("unit_serial", Shape::Text, "the serial number that initiators see"),
            nullable("state", Shape::Word(vec!["online", "offline", "empty"]), "how it is"),
            nullable("writable", Shape::Flag, "whether it can be written"),
            nullable("unmaps", Shape::Flag, "whether space can be given back"),
            nullable("write_protected", Shape::Flag, "whether an initiator has set SWP"),
        ],
    )
}

fn rule() -> Shape {
    with(
        keys::RULE,
        vec![
            always("target", Shape::Text, "whose it is"),
            always("position", count(), "its place in the order, from 1"),
        ],
    )
}

fn account() -> Shape {
    with(
        keys::ACCOUNT,
        vec![
            always("name", Shape::Text, "its name in the configuration"),
            always(
                "secret_from",
                Shape::Word(vec!["document", "file", "environment", "credential", "nowhere"]),
                "where its secret is",
            ),
            always("used_by", list(Shape::Text), "the targets, and discovery, that name it"),
        ],
    )
}

/// `limit` of a LUN or a rule.
fn rate() -> Shape {
    let key = |name, about| perhaps(name, super::keys::amount(), about);
    Shape::Object(vec![
        key("operations", "commands in a second"),
        key("bytes", "bytes in a second"),
        key("burst", "how long what was not used is kept"),
        key("burst_operations", "the same as a number of commands"),
        key("burst_bytes", "the same as bytes"),
    ])
}

fn portal() -> Shape {
    with(
        keys::PORTAL,
        vec![
            always("said", Shape::Flag, "whether the document says it, or it is meant because none is said"),
            always("addresses", list(Shape::Text), "where it listens"),
        ],
    )
}

fn group() -> Shape {
    with(keys::GROUP, vec![always("portals", list(Shape::Text), "its portals, as they are written")])
}

fn limit() -> Shape {
    Shape::Object(vec![
        always("name", Shape::Text, "the setting's name"),
        always("setting", Shape::Text, "what it is set to, as a setting says it"),
        always("value", count(), "the same in its unit"),
        always("struck", count(), "how often it struck since the start"),
        always("what", Shape::Text, "what is bounded"),
    ])
}

fn door() -> Shape {
    Shape::Object(vec![
        always("open", Shape::Flag, "whether anybody may log in"),
        always("at_the_door", count(), "connections in their login, or in discovery"),
        always("oldest_seconds", Shape::Decimal, "how long the oldest of them has been there"),
        always(
            "crowds",
            list(Shape::Object(vec![
                always("address", Shape::Text, "an address"),
                always("connections", count(), "how many come from there"),
            ])),
            "where most of them come from",
        ),
        always("delayed", count(), "refused connections that wait for their answer"),
        always("sessions", count(), "sessions"),
        always(
            "logins",
            Shape::Object(vec![
                always("succeeded", count(), "since the start"),
                always("failed", Shape::Map(Box::new(count())), "since the start, by cause"),
            ]),
            "logins",
        ),
        always("bounds", list(Shape::Named("Limit")), "every bound"),
        always("refusals", list(Shape::Named("Refusal")), "refused logins of late, the newest first"),
    ])
}

fn refusal() -> Shape {
    Shape::Object(vec![
        always("time", Shape::Text, "RFC 3339"),
        always("peer", Shape::Text, "where it came from"),
        nullable("initiator", Shape::Text, "the name that was said"),
        nullable("target", Shape::Text, "the target that was asked for"),
        always("cause", Shape::Text, "the cause, for programs"),
        nullable("status", Shape::Text, "status class and detail of the login response, hexadecimal"),
        always("why", Shape::Text, "the cause, for people"),
    ])
}

fn session() -> Shape {
    Shape::Object(vec![
        always("tsih", count(), "its number here"),
        always("initiator", Shape::Text, "the initiator's name"),
        nullable("alias", Shape::Text, "what it calls itself"),
        nullable("account", Shape::Text, "the account that it has shown"),
        always("isid", Shape::Text, "the initiator's part of its identity, hexadecimal"),
        always("target", Shape::Text, "the target"),
        always("portal_group", count(), "the portal group whose portals it uses"),
        always("worker", count(), "the worker that serves it"),
        always("since", Shape::Text, "RFC 3339"),
        always("commands", count(), "commands in flight"),
        always("error_recovery_level", count(), "ErrorRecoveryLevel"),
        always("max_connections", count(), "MaxConnections"),
        always("max_burst_length", count(), "MaxBurstLength, bytes"),
        always("first_burst_length", count(), "FirstBurstLength, bytes"),
        always("initial_r2t", Shape::Flag, "InitialR2T"),
        always("immediate_data", Shape::Flag, "ImmediateData"),
        always("max_outstanding_r2t", count(), "MaxOutstandingR2T"),
        always("default_time_2_wait", count(), "DefaultTime2Wait, seconds"),
        always("default_time_2_retain", count(), "DefaultTime2Retain, seconds"),
        always("data_pdu_in_order", Shape::Flag, "DataPDUInOrder"),
        always("data_sequence_in_order", Shape::Flag, "DataSequenceInOrder"),
        always("task_reporting", Shape::Text, "TaskReporting"),
        always("protocol_level", count(), "iSCSIProtocolLevel"),
        always("connections", list(Shape::Named("Connection")), "its connections"),
    ])
}

fn connection() -> Vec<Field> {
    vec![
        always("cid", count(), "its number in the session"),
        always("peer", Shape::Text, "where it comes from"),
        always("local", Shape::Text, "which of our addresses it has reached"),
        always("since", Shape::Text, "RFC 3339"),
        always("received_bytes", count(), "bytes that came, headers included"),
        always("sent_bytes", count(), "bytes that went"),
        always("header_digest", Shape::Flag, "HeaderDigest=CRC32C"),
        always("data_digest", Shape::Flag, "DataDigest=CRC32C"),
        always("max_recv_data_segment_length", count(), "MaxRecvDataSegmentLength, ours, bytes"),
        always("max_send_data_segment_length", count(), "MaxRecvDataSegmentLength, the initiator's, bytes"),
    ]
}

fn connection_of_session() -> Shape {
    let whose = vec![
        always("tsih", count(), "its session"),
        always("initiator", Shape::Text, "the initiator's name"),
        always("target", Shape::Text, "the target"),
    ];
    Shape::Object([whose, connection()].concat())
}

fn reservation() -> Shape {
    Shape::Object(vec![
        always("target", Shape::Text, "the target"),
        always("lun", count(), "the disk"),
        always("generation", count(), "PRGENERATION"),
        always("persists", Shape::Flag, "whether it survives a restart (APTPL)"),
        always("lost", Shape::Flag, "what was stored is damaged: nobody is served until it is replaced"),
        nullable("type", Shape::Text, "the type of the persistent reservation"),
        nullable("key", Shape::Text, "the key of its holder, hexadecimal"),
        nullable("exclusive", Shape::Text, "who holds the disk by RESERVE"),
        always("preventing", list(Shape::Text), "who prevents the removal of the medium"),
        always("registrations", list(Shape::Named("Registration")), "who is registered"),
    ])
}

fn configuration() -> Shape {
    Shape::Object(vec![
        nullable("path", Shape::Text, "the file; null where the document is only in memory"),
        always("text", Shape::Text, "the document; secrets in it are shown as \"(kept)\""),
        always("warnings", list(Shape::Named("Finding")), "what is hardly meant in it"),
    ])
}

fn change() -> Shape {
    Shape::Object(vec![
        always("do", Shape::Word(vec!["add", "set", "put", "remove"]), "put adds what is not there, and else sets"),
        always(
            "what",
            Shape::Word(vec!["target", "lun", "rule", "account", "portal", "group", "limits", "log", "discovery"]),
            "the kind of entry",
        ),
        perhaps("target", Shape::Text, "the target, of a lun or a rule"),
        perhaps(
            "name",
            Either::name(),
            "its name: of a target or an account; a portal's address; the number of a lun, a rule or a group",
        ),
        perhaps("values", Shape::Map(Box::new(Shape::Any)), "its keys, as the body of its own route has them"),
    ])
}

/// Names of entries.
struct Either;

impl Either {
    fn name() -> Shape {
        Shape::Either(vec![Shape::Text, Shape::Number(0, 65535)])
    }
}

fn event() -> Shape {
    Shape::Object(vec![
        always("number", count(), "its number since the start, from 1"),
        always("time", Shape::Text, "RFC 3339"),
        always("kind", Shape::Text, "login, logout, refused, change, size, …"),
        always("level", Shape::Word(vec!["error", "warn", "info", "debug", "trace"]), "how much it matters"),
        always("message", Shape::Text, "what happened, for people"),
        always("fields", Shape::Map(Box::new(Shape::Any)), "the facts"),
    ])
}
