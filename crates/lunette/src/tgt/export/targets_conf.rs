//! A `lunette.toml` as tgt's targets.conf.

use super::{secret_of, user_of};
use crate::configuration::edit::{self, View};
use crate::tgt::access::Access;
use crate::tgt::paper::{Values, flag, text, texts, tids};
use crate::tgt::target::{IsnsSaid, is_ready};
use crate::tgt::unit::apart;
use compat::tgt::{scsi_id, serial};
use std::fmt::Write;
use toml_edit::DocumentMut;

/// The text, and what has no equal.
pub fn export(document: &str) -> Result<(String, Vec<String>), String> {
    let view = edit::view(document).map_err(|wrong| wrong.to_string())?;
    let parsed: DocumentMut = document.parse().map_err(|error: toml_edit::TomlError| error.message().to_owned())?;
    let mut export = Export { document: &parsed, notes: Vec::new(), out: String::from("default-driver iscsi\n") };
    export.isns(document);
    for (key, direction) in [("accounts", "incomingdiscoveryuser"), ("mutual", "outgoingdiscoveryuser")] {
        for account in texts(&view.discovery, key) {
            export.account("", direction, &account);
        }
    }
    for (target, tid) in view.targets.iter().zip(tids(&view)) {
        export.target(target, tid);
    }
    export.rest(&view);
    Ok((export.out, export.notes))
}

struct Export<'a> {
    document: &'a DocumentMut,
    notes: Vec<String>,
    out: String,
}

impl Export<'_> {
    fn note(&mut self, what: String) {
        self.notes.push(what);
    }

    fn line(&mut self, words: std::fmt::Arguments<'_>) {
        // A String takes everything.
        let _ = self.out.write_fmt(words);
        self.out.push('\n');
    }

    fn isns(&mut self, document: &str) {
        let said = IsnsSaid::of(document);
        let Some((server, port)) = said.server.filter(|_| said.on) else { return };
        self.line(format_args!("iSNSServerIP {server}\niSNSServerPort {port}\niSNSAccessControl Off\niSNS On"));
    }

    /// The account by its name in the document. Whether it could be written.
    fn account(&mut self, indent: &str, directive: &str, name: &str) -> bool {
        let user = user_of(self.document, name);
        match secret_of(self.document, name) {
            Some(secret) if !format!("{user}{secret}").contains(char::is_whitespace) => {
                let secret = secret.replace('#', "\\#");
                self.line(format_args!("{indent}{directive} {user} {secret}"));
                true
            }
            Some(_) => {
                self.note(format!("account {name}: tgt has no name and no secret with blanks"));
                false
            }
            None => {
                self.note(format!("account {name}: its secret is not in the document; write it in by hand"));
                false
            }
        }
    }

    fn target(&mut self, target: &edit::TargetView, tid: u32) {
        let name = target.name();
        let Some(access) = Access::shown(target) else {
            return self.note(format!("{name}: its rules say more than tgt can, and it is left out"));
        };
        if target.rules.is_empty() {
            return self.note(format!("{name}: admits nobody, which tgt has no word for, and is left out"));
        }
        let (start, notes) = (self.out.len(), self.notes.len());
        self.line(format_args!("\n<target {name}>\n\tcontroller_tid {tid}"));
        for (lun, values) in &target.luns {
            self.lun(name, tid, u64::from(*lun), values);
        }
        let mut whole = true;
        for account in texts(&target.values, "accounts") {
            whole &= self.account("\t", "incominguser", &account);
        }
        for account in texts(&target.values, "mutual") {
            self.account("\t", "outgoinguser", &account);
        }
        if !whole {
            // Without its accounts it would be open.
            self.out.truncate(start);
            let kept = self.notes.split_off(notes);
            self.notes.extend(kept.into_iter().filter(|note| note.starts_with("account")));
            return self.note(format!("{name}: is left out, as it would be open without its accounts"));
        }
        for address in &access.addresses {
            self.line(format_args!("\tinitiator-address {address}"));
        }
        for initiator in &access.names {
            self.line(format_args!("\tinitiator-name {initiator}"));
        }
        if !access.names.is_empty() {
            self.note(format!(
                "{name}: tgt itself lets in whoever has one of the addresses or one of the names, and everybody where \
                 there is no address"
            ));
        }
        if access.names.iter().any(|name| name.contains('*')) {
            self.note(format!("{name}: tgt knows no patterns of names"));
        }
        if !is_ready(&target.values) {
            self.line(format_args!("\tstate offline"));
        }
        for key in target.values.keys() {
            if !matches!(key.as_str(), "name" | "tid" | "accounts" | "mutual" | "online") {
                self.note(format!("{name}: {} has no equal", key.replace('_', "-")));
            }
        }
        self.line(format_args!("</target>"));
    }

    fn lun(&mut self, target: &str, tid: u32, lun: u64, values: &Values) {
        let (place, options) = apart(text(values, "store").unwrap_or_default());
        let place = place.replace("\\,", ",").replace("\\\\", "\\");
        let options: Vec<&str> = options.split(',').filter(|option| !option.is_empty()).collect();
        let (kind, path) = match place.split_once(':') {
            Some(("null", _)) => (Some("null"), "/dev/null".to_owned()),
            Some(("file" | "device", path)) => (None, path.to_owned()),
            Some((kind @ ("ram" | "iscsi"), _)) => {
                return self.note(format!("{target} LUN {lun}: tgt has no store of the kind {kind}; left out"));
            }
            _ => (None, place),
        };
        if lun == 0 {
            return self.note(format!("{target} LUN 0: tgt has its controller there; left out"));
        }
        self.line(format_args!("\t<backing-store {path}>\n\t\tlun {lun}"));
        let mut say = |key: &str, value: &str| self.line(format_args!("\t\t{key} {value}"));
        if let Some(kind) = kind {
            say("bs-type", kind);
        }
        if text(values, "type") == Some("cd") {
            say("device-type", "cd");
        }
        for option in &options {
            match *option {
                "direct" => say("bsoflags", "direct"),
                "block=4096" => say("block-size", "4096"),
                "ro" => say("readonly", "1"),
                _ => {}
            }
        }
        let names = [
            ("t10_id", "scsi_id", scsi_id(tid, lun)),
            ("serial", "scsi_sn", serial(tid, lun)),
            ("vendor", "vendor_id", "IET".to_owned()),
            ("product", "product_id", "VIRTUAL-DISK".to_owned()),
            ("revision", "product_rev", "0001".to_owned()),
        ];
        for (key, parameter, default) in names {
            match text(values, key) {
                Some(value) if value != default => say(parameter, value),
                _ => {}
            }
        }
        for (key, parameter) in [("removable", "removable"), ("read_only", "readonly")] {
            if flag(values, key) == Some(true) {
                say(parameter, "1");
            }
        }
        if flag(values, "online") == Some(false) {
            say("online", "0");
        }
        if flag(values, "unmap") == Some(true) {
            say("params", "thin_provisioning=1");
        }
        if flag(values, "write_cache") == Some(false) {
            say("write-cache", "off");
        }
        self.line(format_args!("\t</backing-store>"));
        let known = [
            "number",
            "store",
            "type",
            "t10_id",
            "serial",
            "vendor",
            "product",
            "revision",
            "removable",
            "read_only",
            "online",
            "write_cache",
            "unmap",
        ];
        for key in values.keys().filter(|key| !known.contains(&key.as_str())) {
            self.note(format!("{target} LUN {lun}: {} has no equal", key.replace('_', "-")));
        }
        for option in options.iter().filter(|option| !matches!(**option, "direct" | "block=4096" | "block=512" | "ro"))
        {
            let name = option.split('=').next().unwrap_or_default();
            self.note(format!("{target} LUN {lun}: the store's option {name} has no equal"));
        }
    }

    /// What tgt's file has no place for.
    fn rest(&mut self, view: &View) {
        for portal in &view.portals {
            let listen = text(portal, "listen").unwrap_or_default().to_owned();
            self.note(format!("portal {listen}: tgtd is told by its command line: tgtd --iscsi portal={listen}"));
        }
        for key in ["daemon", "limits", "chap", "group", "metrics"] {
            if self.document.contains_key(key) {
                self.note(format!("[{key}] has no equal"));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tgt::import;

    const DOCUMENT: &str = r#"[[portal]]
listen = "0.0.0.0"
[account.alice]
secret = "alice-secret-1"
[account.tgtuser]
secret = "other#secret-2"
[[target]]
name = "iqn.2014-09.com.example:a"
tid = 3
accounts = ["alice"]
mutual = "tgtuser"
[[target.lun]]
number = 2
store = '/srv/a\,b.img,direct,block=4096'
serial = "S1"
vendor = "ACME"
read-only = true
write-cache = false
[[target.rule]]
initiators = ["iqn.1994-05.com.redhat:abc"]
addresses = ["192.0.2.0/24"]
[[target]]
name = "iqn.2014-09.com.example:b"
[[target.lun]]
number = 1
store = "/srv/c.img"
[[target.rule]]
initiators = "any"
"#;

    #[test]
    fn what_is_exported_and_imported_again_says_the_same() {
        let (text, notes) = export(DOCUMENT).unwrap();
        let expected = "default-driver iscsi

<target iqn.2014-09.com.example:a>
\tcontroller_tid 3
\t<backing-store /srv/a,b.img>
\t\tlun 2
\t\tbsoflags direct
\t\tblock-size 4096
\t\tscsi_sn S1
\t\tvendor_id ACME
\t\treadonly 1
\t\twrite-cache off
\t</backing-store>
\tincominguser alice alice-secret-1
\toutgoinguser tgtuser other\\#secret-2
\tinitiator-address 192.0.2.0/24
\tinitiator-name iqn.1994-05.com.redhat:abc
</target>

<target iqn.2014-09.com.example:b>
\tcontroller_tid 1
\t<backing-store /srv/c.img>
\t\tlun 1
\t</backing-store>
\tinitiator-address ALL
</target>
";
        assert_eq!(text, expected);
        assert_eq!(notes.len(), 2, "{notes:?}");
        let folder = sim::daemon::Folder::new();
        let path = folder.path().join("targets.conf");
        std::fs::write(&path, &text).unwrap();
        let back = import::import(&path).unwrap();
        let (again, _) = export(&back.text).unwrap();
        assert_eq!(again, text, "{}", back.text);
    }

    #[test]
    fn a_target_whose_accounts_cannot_be_written_is_not_written_open() {
        let document = DOCUMENT.replace("secret = \"alice-secret-1\"", "secret-file = \"/etc/alice\"");
        let (text, notes) = export(&document).unwrap();
        assert!(!text.contains("example:a") && text.contains("example:b"), "{text}");
        assert!(notes.iter().any(|note| note.contains("would be open")), "{notes:?}");
    }

    #[test]
    fn rules_that_are_more_than_a_list_have_no_equal() {
        let document = DOCUMENT.replace("addresses = [\"192.0.2.0/24\"]", "luns = [2]");
        let (text, notes) = export(&document).unwrap();
        assert!(!text.contains("example:a"), "{text}");
        assert!(notes.iter().any(|note| note.contains("say more than tgt can")), "{notes:?}");
    }
}
