//! The JSON Schema of `lunette.toml`, for editors: what may stand where, and what it means.
//!
//! Made from the same tables as the reader where there are any (bounds, algorithms, states, levels). That it has
//! exactly the keys that the reader asks for, and takes what the reader takes, is tested (`schema/tests.rs`).

use super::disk::MAXIMUM_LUN;
use super::file::MAXIMUM_TID;
use crate::logging::LEVELS;
use iscsi::auth::Algorithm;
use scsi::port_groups::AccessState;
use serde_json::{Map, Value, json};
use target::{BOUNDS, Limits, Unit};

/// The schema as it is published: docs/lunette.schema.json.
pub fn text() -> String {
    format!("{:#}\n", schema())
}

/// The schema.
pub fn schema() -> Value {
    let mut root = table(
        "What lunette serves: docs/configuration.md",
        &[
            ("log", log()),
            ("metrics", metrics()),
            ("daemon", daemon()),
            ("sandbox", sandbox()),
            ("administration", administration()),
            ("isns", isns()),
            ("limits", limits()),
            ("portal", list(portal())),
            ("group", list(group())),
            ("chap", chap()),
            (
                "account",
                json!({
                    "description": "CHAP accounts, by their names: [account.NAME]",
                    "type": "object",
                    "additionalProperties": account(),
                }),
            ),
            ("discovery", discovery()),
            ("target", list(target())),
        ],
        &[],
    );
    if let Some(root) = root.as_object_mut() {
        root.insert("$schema".into(), "https://json-schema.org/draft/2020-12/schema".into());
        root.insert("title".into(), "lunette.toml".into());
    }
    root
}

/// A table with these keys, of which some must be there.
fn table(about: &str, keys: &[(&str, Value)], needed: &[&str]) -> Value {
    let properties: Map<String, Value> = keys.iter().map(|(key, value)| ((*key).to_owned(), value.clone())).collect();
    let mut table = json!({
        "description": about,
        "type": "object",
        "properties": properties,
        "additionalProperties": false,
    });
    if !needed.is_empty() {
        table["required"] = json!(needed);
    }
    table
}

fn list(of: Value) -> Value {
    json!({ "description": of["description"], "type": "array", "items": of })
}

fn string(about: &str, examples: &[&str]) -> Value {
    match examples {
        [] => json!({ "description": about, "type": "string" }),
        examples => json!({ "description": about, "type": "string", "examples": examples }),
    }
}

fn flag(about: &str, default: bool) -> Value {
    json!({ "description": about, "type": "boolean", "default": default })
}

fn number(about: &str, least: u64, most: u64) -> Value {
    json!({ "description": about, "type": "integer", "minimum": least, "maximum": most })
}

fn choice(about: &str, of: &[&str]) -> Value {
    json!({ "description": about, "type": "string", "enum": of })
}

/// A text or a list of them.
fn texts(about: &str, examples: &[&str]) -> Value {
    json!({
        "description": about,
        "anyOf": [string(about, examples), { "type": "array", "items": { "type": "string" } }],
    })
}

/// A number, or a text that says one with its unit.
fn amount(about: &str, example: &str) -> Value {
    json!({ "description": about, "anyOf": [{ "type": "integer" }, { "type": "string", "examples": [example] }] })
}

fn metrics() -> Value {
    let listen = string("ADDR:PORT", &["127.0.0.1:9860"]);
    table("Where Prometheus may read by TCP", &[("listen", listen)], &["listen"])
}

fn limit(whose: &str) -> Value {
    table(
        &format!("How much {whose} may do in a second"),
        &[
            ("operations", amount("Commands a second", "5000")),
            ("bytes", amount("Bytes a second", "100M")),
            ("burst", amount("For how long more may come at once after a quiet time", "1s")),
            ("burst-operations", amount("How many operations may come at once", "1000")),
            ("burst-bytes", amount("How many bytes may come at once", "64M")),
        ],
        &[],
    )
}

fn accounts() -> Value {
    texts("The CHAP accounts, by their names in this file, of which one has to log in; [] asks for none", &["alice"])
}

fn mutual() -> Value {
    string("The account that is shown to initiators that ask back", &["nas"])
}

fn log() -> Value {
    table(
        "How events are written",
        &[
            (
                "format",
                choice(
                    "text for people, json for machines, journald with facts as fields, auto as standard error is",
                    &["auto", "text", "json", "journald"],
                ),
            ),
            ("level", choice("The least of what is told", &LEVELS)),
            ("slow", amount("A command that takes longer is told of", "500ms")),
        ],
        &[],
    )
}

fn daemon() -> Value {
    table(
        "What belongs to the process; it changes with a restart or `lunette upgrade`",
        &[
            ("threads", number("Workers; one a processor where nothing is said, at most 8", 1, 256)),
            ("io-engine", choice("How disks are read and written", &["auto", "uring", "pool", "inline"])),
            ("state-dir", string("Where reservations and saved settings are kept", &["/var/lib/lunette"])),
            ("control", string("The socket of the administration", &["/run/lunette/control.sock"])),
            ("user", string("The user that the daemon becomes after ports are open (started as root)", &["lunette"])),
            ("group", string("The group, where it is not the user's own", &[])),
            ("access-states", string("A file with the access states of portal groups", &[])),
            (
                "access-management",
                choice("Who changes access states: the target alone, or initiators too", &["implicit", "both"]),
            ),
        ],
        &[],
    )
}

fn sandbox() -> Value {
    table(
        "What the daemon gives up: docs/sandbox.md",
        &[
            ("seccomp", flag("System calls are filtered", true)),
            ("landlock", flag("Files are kept out of reach", true)),
            ("allow", texts("Directories in which stores may be opened while it runs", &["/srv"])),
        ],
        &[],
    )
}

fn administration() -> Value {
    table(
        "Where the daemon is administered over TCP, with TLS and a token",
        &[
            ("listen", string("ADDR:PORT", &["192.0.2.7:3262", "[::]:3262"])),
            ("certificate", string("The certificate with those that signed it, PEM", &["/etc/lunette/cert.pem"])),
            ("key", string("Its key, PEM", &["/etc/lunette/key.pem"])),
            ("token-file", string("The file with the token", &["/etc/lunette/token"])),
        ],
        &["listen", "certificate", "key", "token-file"],
    )
}

fn isns() -> Value {
    table(
        "The iSNS server that is told of the targets",
        &[
            ("server", string("HOST[:PORT]", &["isns.example.com"])),
            ("enabled", flag("false: it is not told for now", true)),
            ("entity", string("The entity's identifier", &["nas.example.com"])),
            ("period", number("Seconds without a sign after which the server forgets us", 3, u16::MAX.into())),
            (
                "notify-port",
                number("Where the server reaches us; a free port where nothing is said", 0, u16::MAX.into()),
            ),
            ("notify", choice("Nowhere", &["off"])),
        ],
        &["server"],
    )
}

fn limits() -> Value {
    let defaults = Limits::default();
    let keys: Vec<(&str, Value)> = BOUNDS
        .iter()
        .map(|bound| {
            let example = match bound.unit {
                Unit::Time => "5s",
                Unit::Bytes => "64K",
                _ => "100",
            };
            let default = bound.text(bound.value(&defaults));
            let value = json!({
                "description": format!("{}. {}", bound.what, bound.then),
                "anyOf": [{ "type": "integer" }, { "type": "string", "examples": [example] }],
                "default": default,
            });
            (bound.name, value)
        })
        .collect();
    table("Bounds: docs/limits.md", &keys, &[])
}

fn portal() -> Value {
    table(
        "Where to listen",
        &[
            (
                "listen",
                string("ADDR[:PORT]: IPv4, IPv6 or a host name", &["192.0.2.7", "[2001:db8::7]:3260", "0.0.0.0"]),
            ),
            ("group", number("The portal group", 1, u16::MAX.into())),
            (
                "advertise",
                string("What discovery says instead: for NAT, containers, services", &["nas.example.org:3260"]),
            ),
        ],
        &["listen"],
    )
}

fn states() -> Vec<&'static str> {
    let names = AccessState::ALL.map(AccessState::name);
    let short = names.iter().filter_map(|name| name.strip_prefix("active-"));
    names.iter().copied().chain(short).collect()
}

fn group() -> Value {
    table(
        "A portal group",
        &[
            ("number", number("The group of a portal", 1, u16::MAX.into())),
            ("state", choice("What it is like for initiators", &states())),
            ("preferred", flag("PREF: initiators may like it better", false)),
        ],
        &["number"],
    )
}

fn chap() -> Value {
    let names: Vec<_> = Algorithm::ALL.iter().map(|algorithm| algorithm.name()).collect();
    // Editors offer the names; the reader takes them in any case, with dashes or without.
    let one = json!({ "anyOf": [{ "enum": names }, { "type": "string" }] });
    let algorithms = json!({
        "description": "Algorithms that may be used; the initiator's order decides among them",
        "anyOf": [one, { "type": "array", "items": one, "minItems": 1 }],
        "default": names,
    });
    table("CHAP", &[("algorithms", algorithms)], &[])
}

fn account() -> Value {
    table(
        "A CHAP account: one of secret, secret-file, secret-env, secret-credential has to be there",
        &[
            ("user", string("What the initiator sends as its name; NAME where nothing is said", &["alice"])),
            (
                "secret",
                string("The secret itself, 12 to 255 bytes; then others must not be able to read this file", &[]),
            ),
            ("secret-file", string("A file whose first line it is", &["/etc/lunette/alice.secret"])),
            ("secret-env", string("The variable of the environment that has it", &["ALICE_SECRET"])),
            (
                "secret-credential",
                string("The credential of this name, given by systemd (LoadCredential=)", &["alice"]),
            ),
        ],
        &[],
    )
}

fn discovery() -> Value {
    table(
        "Who may discover; as for the targets where nothing is said",
        &[
            ("accounts", accounts()),
            ("mutual", mutual()),
            ("open", flag("No login: whoever says a name is told of the targets of that name", false)),
        ],
        &[],
    )
}

fn redirect() -> Value {
    let address = string("ADDR[:PORT]", &["nas2.example.org:3260"]);
    json!({
        "description": "The target is elsewhere",
        "anyOf": [
            address,
            table("The target is elsewhere", &[
                ("address", address.clone()),
                ("permanent", flag("For good", false)),
            ], &["address"]),
        ],
    })
}

fn target() -> Value {
    table(
        "A target",
        &[
            ("name", string("Its iSCSI name", &["iqn.2026-11.com.example:disk"])),
            ("alias", string("A line for people, at most 255 bytes", &[])),
            ("tid", number("Its number for tgtadm; the lowest free one where nothing is said", 1, MAXIMUM_TID.into())),
            ("online", flag("false: it is there and lets nobody in", true)),
            (
                "groups",
                json!({
                    "description": "The portal groups at which it is served; all where nothing is said",
                    "type": "array",
                    "items": number("A portal group", 1, u16::MAX.into()),
                    "minItems": 1,
                }),
            ),
            ("accounts", accounts()),
            ("mutual", mutual()),
            ("redirect", redirect()),
            ("lun", list(lun())),
            ("rule", list(rule())),
        ],
        &["name"],
    )
}

fn lun() -> Value {
    table(
        "A disk or a drive",
        &[
            (
                "store",
                string(
                    "The address of the store, with its options",
                    &["/srv/disk.img", "/dev/vg0/home,direct", "ram:1G"],
                ),
            ),
            ("number", number("The LUN; the lowest free one from 1 on where nothing is said", 0, MAXIMUM_LUN.into())),
            ("size", string("How large the disk is; as large as its store where nothing is said", &["10G", "512M"])),
            ("online", flag("false: it is there and answers that it is not ready", true)),
            ("read-only", flag("Nobody may write it", false)),
            ("write-cache", flag("true: writes may wait in the cache of the system until they are flushed", true)),
            ("type", choice("What it is; cd where the place ends in .iso", &["disk", "cd"])),
            ("serial", string("Its serial number, at most 64 printable ASCII characters", &[])),
            ("vendor", string("Its vendor, at most 8", &["LUNETTE"])),
            ("product", string("Its product name, at most 16", &["Disk"])),
            ("revision", string("Its product revision, at most 4", &[])),
            (
                "naa",
                string(
                    "Its NAA designator in hexadecimal digits, for a disk that initiators know from another server",
                    &["60000000000000000e00000000010001"],
                ),
            ),
            ("t10-id", string("Its T10 vendor identification designator", &["IET     00010001"])),
            ("unmap", flag("false: space is not given back, and UNMAP not offered", true)),
            ("physical-block", number("Bytes of a physical block, a power of two", 512, 1 << 24)),
            ("alignment", number("The first block on the boundary of a physical one", 0, 0x3fff)),
            ("optimal-transfer", number("Bytes of the best transfer", 0, 1 << 30)),
            ("rotation", string("The kind of medium, or its revolutions a minute", &["solid", "unknown", "7200"])),
            ("removable", flag("The medium can be removed", false)),
            ("limit", limit("all its initiators together")),
        ],
        &["store"],
    )
}

fn rule() -> Value {
    let lun = || number("A LUN of the target", 0, MAXIMUM_LUN.into());
    let shown = table(
        "A LUN as it is for these initiators",
        &[
            ("lun", lun()),
            ("as", number("Its number for them", 0, MAXIMUM_LUN.into())),
            ("read-only", flag("They may not write it", false)),
        ],
        &["lun"],
    );
    table(
        "Who may use the target; the first rule that fits decides",
        &[
            (
                "initiators",
                texts(
                    "A name, a pattern with *, a list of them, or \"any\"",
                    &["any", "iqn.2026-01.com.example:node*"],
                ),
            ),
            (
                "addresses",
                texts("An address, a network, a list of them, or \"any\"", &["192.0.2.0/24", "2001:db8::/32"]),
            ),
            ("accounts", accounts()),
            ("mutual", mutual()),
            (
                "luns",
                json!({
                    "description": "The LUNs that are there for them; all where nothing is said",
                    "type": "array",
                    "items": { "anyOf": [lun(), shown] },
                }),
            ),
            ("read-only", flag("They may write none of them", false)),
            (
                "target-reset",
                json!({
                    "description": "Whether they may reset the target; true where they have all LUNs to write",
                    "type": "boolean",
                }),
            ),
            ("limit", limit("all whom the rule fits, together,")),
            ("redirect", redirect()),
        ],
        &["initiators"],
    )
}

#[cfg(test)]
mod tests;
