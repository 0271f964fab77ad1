//! Golden tests: every table, every thing whole, every plan and every error as people see them.

use super::client::Refused;
use super::kind::KINDS;
use super::show;
use serde_json::{Value, json};
use std::fmt::Write;
use std::path::Path;

/// Answers of a daemon as its API gives them, a few of each kind.
fn answers(word: &str) -> Vec<Value> {
    let lun = json!({
        "target": "iqn.2026-11.com.example:home", "number": 1, "store": "/srv/work.img,size=10G", "serial": "W1",
        "bytes": 10_737_418_240_u64, "block_bytes": 512, "uuid": "00112233445566778899aabbccddeeff", "unit_serial": "W1",
        "state": "online", "writable": true,
    });
    let rule = json!({
        "target": "iqn.2026-11.com.example:home", "position": 1, "initiators": ["iqn.1993-08.org.debian:01:*", "eui.0123456789abcdef"],
        "addresses": "192.0.2.0/24", "accounts": [], "luns": [2, { "lun": 1, "as": 0, "read_only": true }], "read_only": true,
    });
    let connection = json!({
        "cid": 0, "peer": "192.0.2.9:40112", "local": "192.0.2.7:3260", "since": "2026-11-21T10:00:00Z",
        "received_bytes": 123_456, "sent_bytes": 5_368_709_120_u64, "header_digest": true, "data_digest": false,
        "max_recv_data_segment_length": 262_144, "max_send_data_segment_length": 65_536,
    });
    match word {
        "target" => vec![
            json!({ "name": "iqn.2026-11.com.example:home", "alias": "the house", "groups": [1, 2], "sessions": 3,
                "luns": [lun, { "number": 7, "store": "ram:1G", "bytes": 1_073_741_824_u64, "target": "x" }], "rules": [rule] }),
            json!({ "name": "iqn.2026-11.com.example:spare", "sessions": 0, "luns": [], "rules": [] }),
        ],
        "lun" => vec![
            lun,
            json!({ "target": "iqn.2026-11.com.example:home", "number": 2, "store": "/dev/sr0", "bytes": null,
                "block_bytes": null, "state": "empty", "writable": false }),
        ],
        "portal" => vec![
            json!({ "listen": "nas.example.org", "group": 2, "advertise": "nas.example.org:13260", "said": true,
                "addresses": ["192.0.2.7:3260", "[2001:db8::7]:3260"] }),
            json!({ "listen": "127.0.0.1:3260", "said": false, "addresses": ["127.0.0.1:3260"] }),
        ],
        "acl" => vec![rule, json!({ "target": "iqn.2026-11.com.example:home", "position": 2, "initiators": "any" })],
        "account" => vec![
            json!({ "name": "alice", "user": "alice@example.org", "secret_from": "document",
                "used_by": ["iqn.2026-11.com.example:home", "discovery"] }),
            json!({ "name": "bob", "secret_file": "/etc/lunette/bob.secret", "secret_from": "file", "used_by": [] }),
        ],
        "session" => vec![json!({
            "tsih": 5, "initiator": "iqn.1993-08.org.debian:01:abc", "alias": "evil\u{1b}[2Jhost", "account": null,
            "isid": "00023d000001", "target": "iqn.2026-11.com.example:home", "portal_group": 1, "worker": 0,
            "since": "2026-11-21T10:00:00Z", "commands": 2, "error_recovery_level": 0, "max_connections": 1,
            "max_burst_length": 16_776_192, "first_burst_length": 262_144, "initial_r2t": false, "immediate_data": true,
            "max_outstanding_r2t": 1, "default_time_2_wait": 2, "default_time_2_retain": 0, "data_pdu_in_order": true,
            "data_sequence_in_order": true, "task_reporting": "RFC3720", "protocol_level": 1, "connections": [connection],
        })],
        "connection" => {
            let mut connection = connection;
            connection["tsih"] = 5.into();
            connection["initiator"] = "iqn.1993-08.org.debian:01:abc".into();
            connection["target"] = "iqn.2026-11.com.example:home".into();
            vec![connection]
        }
        "reservation" => vec![
            json!({ "target": "iqn.2026-11.com.example:home", "lun": 1, "generation": 4, "persists": true, "lost": false,
                "type": "write exclusive", "key": "0x00000000000000ab", "exclusive": null, "preventing": [],
                "registrations": [
                    { "initiator": "iqn.a,00023d000001", "relative_port": 1, "key": "0x00000000000000ab", "holds": true },
                    { "initiator": "iqn.b,00023d000002", "relative_port": 1, "key": "0x00000000000000cd", "holds": false },
                ] }),
            json!({ "target": "iqn.2026-11.com.example:home", "lun": 2, "generation": 0, "persists": false, "lost": false,
                "type": null, "key": null, "exclusive": "iqn.a,00023d000001", "preventing": [], "registrations": [] }),
        ],
        _ => vec![
            json!({ "number": 1, "state": "active-optimized", "preferred": false, "portals": ["192.0.2.7"] }),
            json!({ "number": 2, "state": "standby", "preferred": true, "portals": ["198.51.100.7", "[2001:db8::7]:3260"] }),
        ],
    }
}

fn plans() -> Vec<(&'static str, Value)> {
    let step = |line: &str| json!({ "line": line });
    let warning = json!({ "file": "lunette.toml", "line": 3, "column": 1, "message": "nobody uses account `bob`", "help": "take it out" });
    vec![
        (
            "a change that was made",
            json!({ "done": true, "steps": [step("add LUN 3 of iqn.a: /srv/x.img, 10 GiB")], "stuck": [],
            "needs_force": false, "warnings": [warning], "remarks": ["the initiator iqn.b has not gone yet"] }),
        ),
        (
            "a plan",
            json!({ "done": false, "steps": [step("remove LUN 3 of iqn.a; disturbs 1 session")], "stuck": [],
            "needs_force": true, "warnings": [], "remarks": [] }),
        ),
        (
            "nothing to do",
            json!({ "done": true, "steps": [], "stuck": [], "needs_force": false, "warnings": [], "remarks": [] }),
        ),
    ]
}

fn problems() -> Vec<Value> {
    let problem = |code: &str, message: &str, help: &str| json!({ "code": code, "message": message, "help": help, "findings": [] });
    let finding = json!({ "file": "/etc/lunette.toml", "line": 31, "column": 9, "end_column": 20, "severity": "error",
        "message": "`no name`: is no iSCSI name", "help": "write iqn.2026-11.com.example:disk", "text": "name = \"no name\"" });
    vec![
        problem(
            "not-found",
            "there is no target iqn.2026-11.com.example:hme",
            "did you mean `iqn.2026-11.com.example:home`?",
        ),
        problem("exists", "iqn.a has a LUN 1 already", ""),
        problem("in-use", "it is in use: remove LUN 1 of iqn.a; disturbs 2 sessions", "--force does it all the same"),
        problem("unauthorized", "the token is wrong", "send Authorization: Bearer TOKEN"),
        problem("needs-restart", "[daemon] threads cannot be changed while the daemon runs (1 → 2)", "restart it"),
        json!({ "code": "invalid", "message": "the configuration would be wrong", "help": "", "findings": [finding] }),
        json!({}),
    ]
}

#[test]
fn every_table_and_every_error_is_as_it_was() {
    let mut said = String::new();
    for kind in KINDS {
        let rows = answers(kind.word);
        let _ = write!(said, "=== lunette {} list\n{}", kind.word, show::table(kind.columns, &rows));
        let _ = write!(said, "=== lunette {} list, of none\n{}", kind.word, show::table(kind.columns, &[]));
        let _ = write!(said, "=== lunette {} show\n{}", kind.word, show::whole(kind.columns, &rows[0]));
    }
    for (what, plan) in plans() {
        let _ = write!(said, "=== {what}\n{}", show::plan(&plan));
        show::remarks(&plan).iter().for_each(|line| said += &format!("(beside it) {line}\n"));
    }
    let event = json!({ "number": 1, "time": "2026-11-21T10:00:00Z", "kind": "login", "level": "info",
        "message": "session opened", "fields": { "peer": "192.0.2.9:40112", "tsih": 5, "steps": [] } });
    let _ = writeln!(said, "=== lunette events\n{}", show::event(&event));
    for problem in problems() {
        let refused = Refused { status: 418, problem };
        let failure = refused.failure();
        let _ = writeln!(said, "=== {}, {:?}\n{failure}", refused.code(), failure.exit_code());
    }
    assert!(!said.contains('\u{1b}'), "nothing that a peer says acts on a terminal");
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/administer/cases.txt");
    if std::env::var_os("LUNETTE_WRITE").is_some() {
        std::fs::write(&path, &said).unwrap();
    }
    let wanted = std::fs::read_to_string(&path).unwrap_or_default();
    let wrong = said.lines().zip(wanted.lines()).find(|(said, wanted)| said != wanted);
    assert!(said == wanted, "{wrong:?}\n{said}\nLUNETTE_WRITE=1 writes the golden file anew");
}

#[test]
fn help_has_an_example_of_every_command_that_it_understands() {
    use clap::{Args, Command};
    for kind in KINDS {
        let words = |example: &str| -> Vec<String> {
            let example = example.split(" | ").last().unwrap_or_default();
            let mut words = Vec::new();
            for (at, piece) in example.split('\'').enumerate() {
                // Between quotes it is one word.
                match at % 2 {
                    0 => words.extend(piece.split_whitespace().map(str::to_owned)),
                    _ => words.push(piece.to_owned()),
                }
            }
            words
        };
        let command = match kind.word {
            "target" => super::Arguments::<{ super::TARGET }>::augment_args(Command::new("target")),
            "lun" => super::Arguments::<{ super::LUN }>::augment_args(Command::new("lun")),
            "portal" => super::Arguments::<{ super::PORTAL }>::augment_args(Command::new("portal")),
            "acl" => super::Arguments::<{ super::ACL }>::augment_args(Command::new("acl")),
            "account" => super::Arguments::<{ super::ACCOUNT }>::augment_args(Command::new("account")),
            "session" => super::Arguments::<{ super::SESSION }>::augment_args(Command::new("session")),
            "connection" => super::Arguments::<{ super::CONNECTION }>::augment_args(Command::new("connection")),
            "reservation" => super::Arguments::<{ super::RESERVATION }>::augment_args(Command::new("reservation")),
            _ => super::Arguments::<{ super::GROUP }>::augment_args(Command::new("group")),
        };
        let command = Command::new("lunette").subcommand(command);
        command.clone().debug_assert();
        for (_, _, examples) in kind.verbs {
            for example in examples.lines() {
                let words = words(example.trim());
                let taken = command.clone().try_get_matches_from(&words);
                assert!(taken.is_ok(), "{example}: {}", taken.unwrap_err());
            }
        }
    }
}
