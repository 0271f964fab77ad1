//! LIO's saveconfig.json (targetcli) as a `lunette.toml`.
//!
//! A target portal group is a portal group; an ACL is a rule; a storage object is the disk of the one target that maps
//! it. What LIO tells of a disk (serial number, NAA, vendor) is kept, so that multipath sees the same disk.

use super::{Imported, quoted};
use crate::failure::Failure;
use iscsi::auth::Secret;
use serde_json::Value;
use std::fmt::Write;

/// The group of its portal: LIO's name for the group that has no state of its own.
const DEFAULT_GROUP: &str = "default_tg_pt_gp";

/// The document of this file.
pub fn import(name: &str, bytes: &[u8]) -> Result<Imported, Failure> {
    let whole: Value = serde_json::from_slice(bytes)
        .map_err(|error| Failure::input(format!("{name}:{}:{}: {error}", error.line(), error.column())))?;
    if !whole["targets"].is_array() && !whole["storage_objects"].is_array() {
        return Err(Failure::input(format!(
            "{name}: has neither targets nor storage_objects, as a saveconfig.json has"
        )));
    }
    let mut import = Import { name, notes: Vec::new(), accounts: Vec::new(), portals: Vec::new(), used: Vec::new() };
    let objects: Vec<&Value> = list(&whole["storage_objects"]);
    let mut targets = String::new();
    for (at, target) in list(&whole["targets"]).into_iter().enumerate() {
        import.target(&format!("targets[{at}]"), target, &objects, &mut targets);
    }
    for (at, object) in objects.iter().enumerate() {
        let path = path_of(object);
        if !import.used.contains(&path) {
            import.note(&format!("storage_objects[{at}]"), format!("{path} is no LUN of any target, and left out"));
        }
    }
    let discovery = import.discovery(&whole);
    let mut text = format!("# Imported from {name}.\n");
    for (listen, group) in &import.portals {
        let _ = write!(text, "\n[[portal]]\nlisten = {}\n", quoted(listen));
        if *group != 1 {
            let _ = writeln!(text, "group = {group}");
        }
    }
    text.push_str(&discovery);
    for account in &import.accounts {
        let _ = write!(text, "\n[account.{}]\n", key(&account.name));
        if account.name != account.user {
            let _ = writeln!(text, "user = {}", quoted(&account.user));
        }
        let _ = writeln!(text, "secret = {}", quoted(&account.secret));
    }
    text.push_str(&targets);
    Ok(Imported { text, notes: import.notes })
}

struct Import<'a> {
    name: &'a str,
    notes: Vec<String>,
    accounts: Vec<Account>,
    /// Where to listen, and the group of it.
    portals: Vec<(String, u64)>,
    /// Storage objects that are a disk already.
    used: Vec<String>,
}

struct Account {
    /// In the document.
    name: String,
    user: String,
    secret: String,
}

impl Import<'_> {
    fn note(&mut self, place: &str, what: impl std::fmt::Display) {
        self.notes.push(format!("{}: {place}: note: {what}", self.name));
    }

    fn target(&mut self, place: &str, target: &Value, objects: &[&Value], out: &mut String) {
        let name = text(target, "wwn");
        if text(target, "fabric") != "iscsi" {
            let fabric = text(target, "fabric");
            return self.note(place, format!("{name} is of the fabric {fabric}, and left out: there is only iSCSI"));
        }
        let groups = list(&target["tpgs"]);
        let [first, others @ ..] = &groups[..] else {
            return self.note(place, format!("{name} has no portal group, and is left out"));
        };
        let first_place = format!("{place}.tpgs[0]");
        let mut tags = vec![self.portals_of(&first_place, first)];
        for (at, other) in others.iter().enumerate() {
            let place = format!("{place}.tpgs[{}]", at + 1);
            match other["luns"] == first["luns"] && other["node_acls"] == first["node_acls"] {
                true => tags.push(self.portals_of(&place, other)),
                false => self.note(
                    &place,
                    "has other LUNs or ACLs than the first group, and is left out: portal groups of a target show the \
                     same disks; make it a target of its own",
                ),
            }
        }
        let _ = write!(out, "\n[[target]]\nname = {}\n", quoted(name));
        let tags: Vec<String> = tags.iter().map(ToString::to_string).collect();
        let _ = writeln!(out, "groups = [{}]", tags.join(", "));
        if first["enable"] == false {
            let _ = writeln!(out, "online = false");
        }
        for (at, lun) in list(&first["luns"]).into_iter().enumerate() {
            self.lun(&format!("{first_place}.luns[{at}]"), lun, objects, out);
        }
        self.rules(&first_place, first, out);
        let told = first["parameters"].as_object().map_or(0, serde_json::Map::len);
        if told > 0 {
            let what = "how sessions are negotiated is no setting of a target here, and left out";
            self.note(&format!("{first_place}.parameters"), what);
        }
    }

    /// Its portals, and the number of their group.
    fn portals_of(&mut self, place: &str, group: &Value) -> u64 {
        let tag = group["tag"].as_u64().filter(|tag| (1..=65535).contains(tag)).unwrap_or(1);
        for (at, portal) in list(&group["portals"]).into_iter().enumerate() {
            let place = format!("{place}.portals[{at}]");
            if portal["iser"] == true || portal["offload"] == true {
                self.note(&place, "iser and offload are left out: there is only TCP");
            }
            let address = text(portal, "ip_address");
            let plain = address.trim_matches(['[', ']']);
            let port = portal["port"].as_u64().unwrap_or(3260);
            let listen = if plain.contains(':') { format!("[{plain}]:{port}") } else { format!("{plain}:{port}") };
            match self.portals.iter().find(|(known, _)| *known == listen) {
                None => self.portals.push((listen, tag)),
                Some((_, known)) if *known == tag => {}
                Some((_, known)) => {
                    let what = format!("{listen} is of portal group {known} already, and one portal is of one group");
                    self.note(&place, what);
                }
            }
        }
        tag
    }

    fn lun(&mut self, place: &str, lun: &Value, objects: &[&Value], out: &mut String) {
        let path = text(lun, "storage_object");
        let number = lun["index"].as_u64().unwrap_or_default();
        let Some(object) = objects.iter().find(|object| path_of(object) == path) else {
            return self.note(place, format!("LUN {number}: there is no storage object {path}"));
        };
        if self.used.iter().any(|used| used == path) {
            let what = format!("LUN {number}: {path} is the disk of another target already; a disk belongs to one");
            return self.note(place, what);
        }
        self.used.push(path.to_owned());
        let name = text(object, "name");
        let attributes = &object["attributes"];
        let escaped = text(object, "dev").replace('\\', "\\\\").replace(',', "\\,");
        let store = match text(object, "plugin") {
            "fileio" | "block" => escaped,
            "ramdisk" => {
                let size = object["size"].as_u64().unwrap_or_default();
                let kind = if object["nullio"] == true { "null" } else { "ram" };
                format!("{kind}:{size}")
            }
            plugin => {
                let why = match plugin {
                    "pscsi" => "no device is passed through; serve the block device",
                    _ => "map it to a block device and serve that",
                };
                return self.note(place, format!("LUN {number}: {name} is of the kind {plugin}, and left out: {why}"));
            }
        };
        let _ = write!(out, "\n[[target.lun]]\nnumber = {number}\n");
        let block = match attributes["block_size"].as_u64() {
            Some(4096) => ",block=4096",
            None | Some(512) => "",
            Some(other) => {
                self.note(place, format!("LUN {number}: blocks of {other} bytes; a disk has 512 or 4096 here"));
                ""
            }
        };
        let _ = writeln!(out, "store = {}", quoted(&format!("{store}{block}")));
        if text(object, "plugin") == "fileio" && object["write_back"] == false {
            let _ = writeln!(out, "write-cache = false");
        }
        if object["readonly"] == true {
            let _ = writeln!(out, "read-only = true");
        }
        let _ = writeln!(out, "vendor = \"LIO-ORG\"\nproduct = {}", quoted(&ascii(name, 16)));
        let serial = text(object, "wwn");
        if !serial.is_empty() {
            let _ = writeln!(out, "revision = \"4.0\"\nserial = {}", quoted(&ascii(serial, 64)));
            let _ = writeln!(out, "t10-id = {}", quoted(&ascii(&format!("LIO-ORG {name}:{serial}"), 200)));
            let _ = writeln!(out, "naa = {}", quoted(&naa(serial)));
        }
        let group = text(lun, "alua_tg_pt_gp_name");
        if !matches!(group, "" | DEFAULT_GROUP) {
            let what =
                format!("LUN {number}: the ALUA group {group} is left out; [[group]] has the states of portal groups");
            self.note(place, what);
        }
    }

    fn rules(&mut self, place: &str, group: &Value, out: &mut String) {
        let attributes = &group["attributes"];
        let asks = attributes["authentication"] == 1;
        let numbers: Vec<u64> = list(&group["luns"]).iter().filter_map(|lun| lun["index"].as_u64()).collect();
        for (at, acl) in list(&group["node_acls"]).into_iter().enumerate() {
            let place = format!("{place}.node_acls[{at}]");
            let Some(accounts) = self.accounts_of(&place, acl, asks) else { continue };
            let mapped: Vec<String> = list(&acl["mapped_luns"])
                .into_iter()
                .filter_map(|mapped| {
                    let (lun, shown) = (mapped["tpg_lun"].as_u64()?, mapped["index"].as_u64()?);
                    // Numbers that the target does not have would make the whole file wrong.
                    numbers.contains(&lun).then_some(())?;
                    let mut one = format!("{{ lun = {lun}");
                    if shown != lun {
                        let _ = write!(one, ", as = {shown}");
                    }
                    if mapped["write_protect"] == true {
                        one.push_str(", read-only = true");
                    }
                    Some(one + " }")
                })
                .collect();
            let _ = write!(out, "\n[[target.rule]]\ninitiators = {}\n", quoted(text(acl, "node_wwn")));
            out.push_str(&accounts);
            let _ = writeln!(out, "luns = [{}]", mapped.join(", "));
        }
        if attributes["generate_node_acls"] == 1 {
            let Some(accounts) = self.accounts_of(place, group, asks) else { return };
            let _ = write!(out, "\n[[target.rule]]\ninitiators = \"any\"\n");
            out.push_str(&accounts);
            if attributes["demo_mode_write_protect"] != 0 {
                let _ = writeln!(out, "read-only = true");
            }
        }
    }

    /// The lines that say which account is asked for, and which is shown; nothing where one that is asked for cannot be
    /// had, so that nobody comes in without it.
    fn accounts_of(&mut self, place: &str, entry: &Value, asks: bool) -> Option<String> {
        let (user, password) = (text(entry, "chap_userid"), text(entry, "chap_password"));
        if !asks {
            return Some(String::new());
        }
        if user.is_empty() {
            self.note(place, "it asks for a login and has no account; nobody can come in by it, and it is left out");
            return None;
        }
        let account = match self.account(user, password) {
            Ok(account) => account,
            Err(why) => {
                self.note(place, format!("the secret of {user}: {why}; left out, and nobody comes in by it"));
                return None;
            }
        };
        let mut lines = format!("accounts = [{}]\n", quoted(&account));
        let (user, password) = (text(entry, "chap_mutual_userid"), text(entry, "chap_mutual_password"));
        if !user.is_empty() {
            match self.account(user, password) {
                Ok(own) => {
                    let _ = writeln!(lines, "mutual = {}", quoted(&own));
                }
                Err(why) => self.note(place, format!("the secret of {user}, who is shown: {why}; nobody is shown")),
            }
        }
        Some(lines)
    }

    /// The name of this account in the document.
    fn account(&mut self, user: &str, secret: &str) -> Result<String, String> {
        Secret::new(secret.as_bytes()).map_err(|error| error.to_string())?;
        if let Some(known) = self.accounts.iter().find(|known| known.user == user && known.secret == secret) {
            return Ok(known.name.clone());
        }
        let taken = |name: &str| self.accounts.iter().any(|known| known.name == name);
        let name = std::iter::once(user.to_owned())
            .chain((2..).map(|number| format!("{user}-{number}")))
            .find(|name| !taken(name))
            .unwrap_or_default();
        self.accounts.push(Account { name: name.clone(), user: user.to_owned(), secret: secret.to_owned() });
        Ok(name)
    }

    fn discovery(&mut self, whole: &Value) -> String {
        let modules = list(&whole["fabric_modules"]);
        let Some(at) = modules.iter().position(|module| text(module, "name") == "iscsi") else { return String::new() };
        let Some(module) = modules.get(at) else { return String::new() };
        let asked = module["discovery_enable_auth"] == true || module["discovery_enable_auth"] == 1;
        let (user, password) = (text(module, "userid"), text(module, "password"));
        if !asked || user.is_empty() {
            return String::new();
        }
        let place = format!("fabric_modules[{at}]");
        match self.account(user, password) {
            Ok(account) => format!("\n[discovery]\naccounts = [{}]\n", quoted(&account)),
            Err(why) => {
                self.note(
                    &place,
                    format!("the secret of {user}, for discovery: {why}; discovery asks as the targets do"),
                );
                String::new()
            }
        }
    }
}

/// How LUNs name a storage object.
fn path_of(object: &Value) -> String {
    format!("/backstores/{}/{}", text(object, "plugin"), text(object, "name"))
}

/// LIO's NAA designator: a 6, its company 001405, and the first 25 hexadecimal digits of the serial number.
fn naa(serial: &str) -> String {
    let digits: String = serial.chars().filter(char::is_ascii_hexdigit).take(25).collect();
    format!("6001405{:0<25}", digits.to_ascii_lowercase())
}

/// What INQUIRY can hold of a text.
fn ascii(text: &str, most: usize) -> String {
    text.chars().filter(|letter| (' '..='~').contains(letter)).take(most).collect()
}

/// A name as a key of TOML.
fn key(name: &str) -> String {
    let bare = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte));
    if bare { name.to_owned() } else { quoted(name) }
}

fn list(value: &Value) -> Vec<&Value> {
    value.as_array().into_iter().flatten().collect()
}

fn text<'v>(value: &'v Value, key: &str) -> &'v str {
    value[key].as_str().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONFIG: &str = r#"{
  "fabric_modules": [{"name": "iscsi", "discovery_enable_auth": true, "userid": "disco", "password": "discovery-secret"}],
  "storage_objects": [
    {"plugin": "fileio", "name": "disk1", "dev": "/srv/a,b.img", "size": 1073741824, "write_back": false,
     "wwn": "4c9b8a4f-7f3e-4b38-9c1d-0123456789ab", "attributes": {"block_size": 4096}},
    {"plugin": "block", "name": "lv", "dev": "/dev/vg/lv", "readonly": true, "wwn": "d0c5f7a2-1111-2222-3333-444455556666"},
    {"plugin": "pscsi", "name": "tape", "dev": "/dev/sg1"},
    {"plugin": "ramdisk", "name": "rd", "size": 16777216, "wwn": "aaaaaaaa-1111-2222-3333-444455556666"}
  ],
  "targets": [
    {"fabric": "iscsi", "wwn": "iqn.2003-01.org.linux-iscsi.host:sn.1", "tpgs": [
      {"tag": 1, "enable": true, "attributes": {"authentication": 1, "generate_node_acls": 0},
       "parameters": {"MaxBurstLength": "262144"},
       "luns": [{"index": 0, "storage_object": "/backstores/fileio/disk1", "alua_tg_pt_gp_name": "default_tg_pt_gp"},
                {"index": 1, "storage_object": "/backstores/block/lv"},
                {"index": 2, "storage_object": "/backstores/pscsi/tape"}],
       "portals": [{"ip_address": "0.0.0.0", "port": 3260, "iser": false}, {"ip_address": "[2001:db8::7]", "port": 3261}],
       "node_acls": [
         {"node_wwn": "iqn.1994-05.com.redhat:a", "chap_userid": "alice", "chap_password": "alice-secret-1",
          "chap_mutual_userid": "host", "chap_mutual_password": "host-secret-12",
          "mapped_luns": [{"index": 0, "tpg_lun": 0, "write_protect": false}, {"index": 5, "tpg_lun": 1, "write_protect": true}]},
         {"node_wwn": "iqn.1994-05.com.redhat:b", "chap_userid": "bob", "chap_password": "short", "mapped_luns": []}]}]},
    {"fabric": "iscsi", "wwn": "iqn.2003-01.org.linux-iscsi.host:demo", "tpgs": [
      {"tag": 1, "enable": false, "attributes": {"authentication": 0, "generate_node_acls": 1, "demo_mode_write_protect": 0},
       "luns": [{"index": 0, "storage_object": "/backstores/block/lv"}], "node_acls": [],
       "portals": [{"ip_address": "0.0.0.0", "port": 3260}]}]},
    {"fabric": "loopback", "wwn": "naa.5001405", "tpgs": []}
  ]
}"#;

    #[test]
    fn a_saved_configuration_becomes_a_document_with_the_same_names() {
        let Imported { text, notes } = import("c", CONFIG.as_bytes()).unwrap();
        let expected = r#"# Imported from c.

[[portal]]
listen = "0.0.0.0:3260"

[[portal]]
listen = "[2001:db8::7]:3261"

[discovery]
accounts = ["disco"]

[account.alice]
secret = "alice-secret-1"

[account.host]
secret = "host-secret-12"

[account.disco]
secret = "discovery-secret"

[[target]]
name = "iqn.2003-01.org.linux-iscsi.host:sn.1"
groups = [1]

[[target.lun]]
number = 0
store = '/srv/a\,b.img,block=4096'
write-cache = false
vendor = "LIO-ORG"
product = "disk1"
revision = "4.0"
serial = "4c9b8a4f-7f3e-4b38-9c1d-0123456789ab"
t10-id = "LIO-ORG disk1:4c9b8a4f-7f3e-4b38-9c1d-0123456789ab"
naa = "60014054c9b8a4f7f3e4b389c1d01234"

[[target.lun]]
number = 1
store = "/dev/vg/lv"
read-only = true
vendor = "LIO-ORG"
product = "lv"
revision = "4.0"
serial = "d0c5f7a2-1111-2222-3333-444455556666"
t10-id = "LIO-ORG lv:d0c5f7a2-1111-2222-3333-444455556666"
naa = "6001405d0c5f7a211112222333344445"

[[target.rule]]
initiators = "iqn.1994-05.com.redhat:a"
accounts = ["alice"]
mutual = "host"
luns = [{ lun = 0 }, { lun = 1, as = 5, read-only = true }]

[[target]]
name = "iqn.2003-01.org.linux-iscsi.host:demo"
groups = [1]
online = false

[[target.rule]]
initiators = "any"
"#;
        assert_eq!(text, expected);
        let reading = crate::configuration::read("t", &text, None);
        let findings: Vec<_> = reading.findings.iter().map(crate::configuration::Found::in_a_line).collect();
        assert!(reading.configuration.is_some(), "{findings:?}");
        let places: Vec<_> = notes.iter().map(|note| note.split(": ").nth(1).unwrap()).collect();
        let expected = [
            "targets[0].tpgs[0].luns[2]",
            "targets[0].tpgs[0].node_acls[1]",
            "targets[0].tpgs[0].parameters",
            "targets[1].tpgs[0].luns[0]",
            "targets[2]",
            "storage_objects[2]",
            "storage_objects[3]",
        ];
        let expected: Vec<&str> = expected.into_iter().filter(|place| *place != "storage_objects[2]").collect();
        let places: Vec<&str> = places.into_iter().filter(|place| *place != "storage_objects[2]").collect();
        assert_eq!(places, expected, "{notes:#?}");
    }

    #[test]
    fn what_is_no_such_file_is_told_with_its_place() {
        let Err(Failure::Input(line)) = import("c", b"{\n  \"a\": }") else { panic!() };
        assert!(line.starts_with("c:2:8: "), "{line}");
        assert!(import("c", b"{}").is_err());
    }
}
