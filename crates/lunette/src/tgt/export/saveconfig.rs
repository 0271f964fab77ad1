//! A `lunette.toml` as LIO's saveconfig.json.

use super::{secret_of, user_of};
use crate::configuration::edit::{self, TargetView, View};
use crate::tgt::paper::{Values, flag, text, texts};
use crate::tgt::target::is_ready;
use crate::tgt::unit::apart;
use serde_json::{Value, json};
use toml_edit::DocumentMut;

/// The text, and what has no equal.
pub fn export(document: &str) -> Result<(String, Vec<String>), String> {
    let view = edit::view(document).map_err(|wrong| wrong.to_string())?;
    let parsed: DocumentMut = document.parse().map_err(|error: toml_edit::TomlError| error.message().to_owned())?;
    let mut export = Export { document: &parsed, view: &view, notes: Vec::new(), objects: Vec::new() };
    let targets: Vec<Value> = view.targets.iter().filter_map(|target| export.target(target)).collect();
    let mut modules = Vec::new();
    if let Some(account) = texts(&view.discovery, "accounts").first()
        && let Some((user, secret)) = export.account(account)
    {
        modules.push(json!({ "name": "iscsi", "discovery_enable_auth": true, "userid": user, "password": secret }));
    }
    for key in ["daemon", "limits", "chap", "group", "isns"] {
        if parsed.contains_key(key) {
            export.notes.push(format!("[{key}] has no equal"));
        }
    }
    let whole = json!({ "fabric_modules": modules, "storage_objects": export.objects, "targets": targets });
    let mut text = serde_json::to_string_pretty(&whole).map_err(|error| error.to_string())?;
    text.push('\n');
    Ok((text, export.notes))
}

struct Export<'a> {
    document: &'a DocumentMut,
    view: &'a View,
    notes: Vec<String>,
    objects: Vec<Value>,
}

impl Export<'_> {
    /// Name and secret of an account of the document.
    fn account(&mut self, name: &str) -> Option<(String, String)> {
        let secret = secret_of(self.document, name);
        if secret.is_none() {
            self.notes.push(format!("account {name}: its secret is not in the document; write it in by hand"));
        }
        Some((user_of(self.document, name), secret?))
    }

    fn target(&mut self, target: &TargetView) -> Option<Value> {
        let name = target.name();
        let luns: Vec<Value> = target.luns.iter().filter_map(|(lun, values)| self.lun(name, *lun, values)).collect();
        let numbers: Vec<u64> = luns.iter().filter_map(|lun| lun["index"].as_u64()).collect();
        let asked = |rule: &Values| match rule.contains_key("accounts") {
            true => texts(rule, "accounts"),
            false => texts(&target.values, "accounts"),
        };
        let (mut acls, mut everybody) = (Vec::new(), None);
        let some_ask = target.rules.iter().any(|rule| !asked(rule).is_empty());
        for (at, rule) in target.rules.iter().enumerate() {
            let place = format!("{name}, rule {}", at + 1);
            let addresses = texts(rule, "addresses");
            if !matches!(&addresses[..], []) && addresses != ["any"] {
                // Without the addresses it would let in more.
                self.notes.push(format!("{place}: LIO knows no addresses; the rule is left out"));
                continue;
            }
            let accounts = asked(rule);
            if accounts.is_empty() && some_ask {
                self.notes.push(format!("{place}: asks for no login where others do, which LIO cannot; left out"));
                continue;
            }
            let account = match accounts.first() {
                None => None,
                Some(first) => match self.account(first) {
                    None => continue,
                    Some(account) => Some(account),
                },
            };
            if accounts.len() > 1 {
                self.notes.push(format!("{place}: LIO knows one account for each initiator; the first is taken"));
            }
            let mutual = text(rule, "mutual").or(text(&target.values, "mutual")).map(str::to_owned);
            let mutual = mutual.and_then(|mutual| self.account(&mutual));
            for initiator in texts(rule, "initiators") {
                if initiator == "any" {
                    everybody = Some((flag(rule, "read_only") == Some(true), account.clone()));
                    if rule.contains_key("luns") {
                        self.notes.push(format!("{place}: LIO shows everybody all LUNs; the rule is left out"));
                        everybody = None;
                    }
                    continue;
                }
                if initiator.contains('*') {
                    self.notes.push(format!("{place}: LIO knows no patterns of names; {initiator} is left out"));
                    continue;
                }
                let mut acl = json!({ "node_wwn": initiator, "mapped_luns": mapped(rule, &numbers) });
                for (key, pair) in [("chap", &account), ("chap_mutual", &mutual)] {
                    if let Some((user, secret)) = pair {
                        acl[format!("{key}_userid")] = json!(user);
                        acl[format!("{key}_password")] = json!(secret);
                    }
                }
                acls.push(acl);
            }
        }
        let mut group = json!({
            "tag": 1,
            "enable": is_ready(&target.values),
            "attributes": {
                "authentication": u8::from(some_ask),
                "generate_node_acls": u8::from(everybody.is_some()),
                "demo_mode_write_protect": u8::from(everybody.as_ref().is_none_or(|(read_only, _)| *read_only)),
            },
            "luns": luns,
            "node_acls": acls,
        });
        if let Some((_, Some((user, secret)))) = &everybody {
            group["chap_userid"] = json!(user);
            group["chap_password"] = json!(secret);
        }
        for key in target.values.keys() {
            if !matches!(key.as_str(), "name" | "tid" | "accounts" | "mutual" | "online" | "groups") {
                self.notes.push(format!("{name}: {} has no equal", key.replace('_', "-")));
            }
        }
        Some(json!({ "fabric": "iscsi", "wwn": name, "tpgs": self.groups(target, &group) }))
    }

    /// The group once for each tag, with the portals of that.
    fn groups(&self, target: &TargetView, group: &Value) -> Vec<Value> {
        let own = target.values.get("groups").and_then(Value::as_array);
        let mut tags: Vec<u64> = self.view.portals.iter().map(tag).collect();
        tags.sort_unstable();
        tags.dedup();
        let tags = tags.into_iter().filter(|tag| own.is_none_or(|own| own.iter().any(|one| one == tag)));
        tags.map(|number| {
            let portals = self.view.portals.iter().filter(|portal| tag(portal) == number).map(|portal| {
                let listen = text(portal, "listen").unwrap_or_default();
                let (address, port) = match listen.rsplit_once(':') {
                    Some((address, port))
                        if !port.contains(']') && !address.contains(':') || address.ends_with(']') =>
                    {
                        (address, port.parse().unwrap_or(3260))
                    }
                    _ => (listen, 3260),
                };
                json!({ "ip_address": address, "port": port, "iser": false, "offload": false })
            });
            let mut group = group.clone();
            group["portals"] = portals.collect();
            group["tag"] = json!(number);
            group
        })
        .collect()
    }

    fn lun(&mut self, target: &str, lun: u16, values: &Values) -> Option<Value> {
        let (place, options) = apart(text(values, "store").unwrap_or_default());
        let path = place.replace("\\,", ",").replace("\\\\", "\\");
        let place = format!("{target} LUN {lun}");
        if text(values, "type") == Some("cd") {
            self.notes.push(format!("{place}: LIO has no CD drives; left out"));
            return None;
        }
        let name = text(values, "product").map_or_else(|| format!("disk{}", self.objects.len()), str::to_owned);
        let taken = |name: &str, objects: &[Value]| objects.iter().any(|object| object["name"] == name);
        let name = if taken(&name, &self.objects) { format!("{name}-{}", self.objects.len()) } else { name };
        let block = if options.contains("block=4096") { 4096 } else { 512 };
        let mut object = match path.split_once(':') {
            Some((kind @ ("ram" | "null"), size)) => match stores::parse_size(size) {
                Ok(size) => json!({ "plugin": "ramdisk", "size": size, "nullio": kind == "null" }),
                Err(_) => return None,
            },
            Some(("iscsi", _)) => {
                self.notes.push(format!("{place}: LIO has no remote disks; left out"));
                return None;
            }
            _ => match path.starts_with("/dev/") {
                true => json!({ "plugin": "block", "dev": path, "readonly": flag(values, "read_only") == Some(true) }),
                false => {
                    json!({ "plugin": "fileio", "dev": path, "write_back": flag(values, "write_cache") != Some(false) })
                }
            },
        };
        object["name"] = json!(name);
        object["attributes"] = json!({ "block_size": block });
        // LIO makes its names of the serial number.
        match text(values, "serial") {
            Some(serial) => {
                object["wwn"] = json!(serial);
                let own = text(values, "naa").unwrap_or_default();
                if !own.starts_with("6001405") {
                    self.notes.push(format!("{place}: LIO gives it another NAA designator; multipath sees a new disk"));
                }
            }
            None => self.notes.push(format!("{place}: LIO gives it names of its own; multipath sees a new disk")),
        }
        let plugin = object["plugin"].as_str().unwrap_or_default().to_owned();
        self.objects.push(object);
        Some(json!({ "index": lun, "storage_object": format!("/backstores/{plugin}/{name}") }))
    }
}

/// The group of a portal.
fn tag(portal: &Values) -> u64 {
    portal.get("group").and_then(Value::as_u64).unwrap_or(1)
}

/// The LUNs as a rule shows them.
fn mapped(rule: &Values, numbers: &[u64]) -> Vec<Value> {
    let read_only = flag(rule, "read_only") == Some(true);
    let one = |lun: u64, shown: u64, protect: bool| json!({ "index": shown, "tpg_lun": lun, "write_protect": protect || read_only });
    match rule.get("luns").and_then(Value::as_array) {
        None => numbers.iter().map(|lun| one(*lun, *lun, false)).collect(),
        Some(said) => said
            .iter()
            .filter_map(|said| {
                let lun = said.as_u64().or_else(|| said["lun"].as_u64())?;
                let shown = said["as"].as_u64().unwrap_or(lun);
                let protect = said["read-only"] == true || said["read_only"] == true;
                numbers.contains(&lun).then(|| one(lun, shown, protect))
            })
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tgt::import;

    const DOCUMENT: &str = r#"[[portal]]
listen = "0.0.0.0:3260"
[[portal]]
listen = "[2001:db8::7]:3261"
group = 2
[account.alice]
secret = "alice-secret-1"
[[target]]
name = "iqn.2003-01.org.linux-iscsi.host:a"
groups = [1, 2]
[[target.lun]]
number = 0
store = "/srv/a.img,block=4096"
write-cache = false
vendor = "LIO-ORG"
product = "disk1"
revision = "4.0"
serial = "4c9b8a4f-7f3e-4b38-9c1d-0123456789ab"
t10-id = "LIO-ORG disk1:4c9b8a4f-7f3e-4b38-9c1d-0123456789ab"
naa = "60014054c9b8a4f7f3e4b389c1d01234"
[[target.rule]]
initiators = "iqn.1994-05.com.redhat:a"
accounts = ["alice"]
luns = [{ lun = 0, as = 3, read-only = true }]
"#;

    #[test]
    fn what_is_exported_and_imported_again_says_the_same() {
        let (text, notes) = export(DOCUMENT).unwrap();
        assert_eq!(notes, [""; 0]);
        let folder = sim::daemon::Folder::new();
        let path = folder.path().join("saveconfig.json");
        std::fs::write(&path, &text).unwrap();
        let back = import::import(&path).unwrap();
        assert_eq!(back.notes, [""; 0], "{text}");
        let view = |text: &str| format!("{:?}", edit::view(text).unwrap().targets);
        let plain = |text: &str| {
            view(text).replace("[String(\"iqn.1994-05.com.redhat:a\")]", "String(\"iqn.1994-05.com.redhat:a\")")
        };
        assert_eq!(plain(&back.text), plain(DOCUMENT), "{}", back.text);
        let (again, _) = export(&back.text).unwrap();
        assert_eq!(again, text);
    }

    #[test]
    fn what_would_let_in_more_is_left_out() {
        let document = DOCUMENT.replace("accounts = [\"alice\"]\nluns", "addresses = \"192.0.2.1\"\nluns");
        let (text, notes) = export(&document).unwrap();
        let whole: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(whole["targets"][0]["tpgs"][0]["node_acls"], json!([]));
        assert!(notes.iter().any(|note| note.contains("knows no addresses")), "{notes:?}");
    }
}
