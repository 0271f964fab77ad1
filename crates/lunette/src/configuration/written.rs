//! The command line's options as a document, so that what runs is always one.

use super::Configuration;
use crate::serve::Arguments;
use crate::serve::isns;
use lun::{DeviceType, GroupSettings};
use std::fmt::Write;
use std::path::Path;
use target::{BOUNDS, Initiators, Limits};

/// What the account of `--chap` is called in the document.
pub const USER: &str = "chap";
/// What that of `--chap-mutual` is called.
pub const OWN: &str = "chap-mutual";

/// The document that says what these arguments say, of which this configuration was made.
pub fn document(arguments: &Arguments, configuration: &Configuration) -> String {
    // Writing to a text does not fail.
    let mut out = String::from("# What the command line of lunette serve says.\n");
    daemon(configuration, &mut out);
    limits(&configuration.limits, &mut out);
    if let Some(isns) = &configuration.isns {
        let _ = writeln!(out, "\n[isns]\nserver = {}", quoted(&isns.settings.server));
        if let Some(entity) = &isns.settings.entity {
            let _ = writeln!(out, "entity = {}", quoted(entity));
        }
        if isns.settings.period != u32::from(isns::PERIOD) {
            let _ = writeln!(out, "period = {}", isns.settings.period);
        }
        match isns.notify {
            None => out.push_str("notify = \"off\"\n"),
            Some(0) => {}
            Some(port) => {
                let _ = writeln!(out, "notify-port = {port}");
            }
        }
    }
    for listen in &configuration.listens {
        let _ = writeln!(out, "\n[[portal]]\nlisten = \"{}\"", listen.address);
        if listen.group != super::portals::GROUP {
            let _ = writeln!(out, "group = {}", listen.group);
        }
    }
    for group in configuration.groups.iter().filter(|group| **group != GroupSettings::new(group.number)) {
        let _ = writeln!(out, "\n[[group]]\nnumber = {}\nstate = \"{}\"", group.number, group.state.name());
        if group.preferred {
            out.push_str("preferred = true\n");
        }
    }
    accounts(arguments, configuration, &mut out);
    for target in &configuration.targets {
        let _ = writeln!(out, "\n[[target]]\nname = {}", quoted(target.name.as_str()));
        for disk in &target.disks {
            let size = disk.size.map_or(String::new(), |size| format!(",size={}", stores::Size(size)));
            let store = quoted(&format!("{}{size}", disk.address));
            let _ = writeln!(out, "\n[[target.lun]]\nnumber = {}\nstore = {store}", disk.number);
            for (key, value) in [("serial", &disk.serial), ("vendor", &disk.vendor), ("product", &disk.product)] {
                if let Some(value) = value {
                    let _ = writeln!(out, "{key} = {}", quoted(value));
                }
            }
            if disk.removable {
                out.push_str("removable = true\n");
            }
            if disk.device_type != super::disk::device_type(&disk.address) {
                let name = if disk.device_type == DeviceType::Disk { "disk" } else { "cd" };
                let _ = writeln!(out, "type = \"{name}\"");
            }
        }
        for plan in &target.rules {
            let initiators = match &plan.rule.initiators {
                Initiators::Any => "\"any\"".to_owned(),
                Initiators::Named(names) => {
                    format!("[{}]", names.iter().map(|name| quoted(name.as_str())).collect::<Vec<_>>().join(", "))
                }
            };
            let _ = writeln!(out, "\n[[target.rule]]\ninitiators = {initiators}");
            if let Some(chap) = &plan.rule.chap {
                let _ = writeln!(out, "accounts = [\"{USER}\"]");
                if chap.own.is_some() {
                    let _ = writeln!(out, "mutual = \"{OWN}\"");
                }
            }
        }
    }
    out
}

fn daemon(configuration: &Configuration, out: &mut String) {
    let mut lines = String::new();
    if let Some(user) = &configuration.sandbox.user {
        let _ = writeln!(lines, "user = {}", quoted(user));
    }
    if let Some(threads) = configuration.threads {
        let _ = writeln!(lines, "threads = {threads}");
    }
    if configuration.io_engine != io::engine::Choice::Auto {
        let _ = writeln!(lines, "io-engine = \"{}\"", format!("{:?}", configuration.io_engine).to_lowercase());
    }
    let paths = [
        ("state-dir", &configuration.state_dir),
        ("control", &configuration.control),
        ("access-states", &configuration.access_states),
    ];
    for (key, path) in paths {
        if let Some(path) = path {
            let _ = writeln!(lines, "{key} = {}", quoted(&path.display().to_string()));
        }
    }
    if configuration.access_management == scsi::inquiry::TargetPortGroupSupport::Implicit {
        lines.push_str("access-management = \"implicit\"\n");
    }
    if !lines.is_empty() {
        let _ = write!(out, "\n[daemon]\n{lines}");
    }
}

fn limits(limits: &Limits, out: &mut String) {
    let defaults = Limits::default();
    let changed = BOUNDS.iter().filter(|bound| bound.value(limits) != bound.value(&defaults));
    let lines: Vec<_> =
        changed.map(|bound| format!("{} = {}\n", bound.name, quoted(&bound.text(bound.value(limits))))).collect();
    if !lines.is_empty() {
        let _ = write!(out, "\n[limits]\n{}", lines.concat());
    }
}

/// CHAP: where the secrets come from, as they came; one that was typed in stands there itself.
fn accounts(arguments: &Arguments, configuration: &Configuration, out: &mut String) {
    let mut account = |name: &str, file: Option<&Path>, variable: &str| {
        let Some((_, account)) = configuration.accounts.iter().find(|(known, _)| known == name) else { return };
        let _ = writeln!(out, "\n[account.{name}]\nuser = {}", quoted(&account.user));
        let _ = match file {
            Some(path) => writeln!(out, "secret-file = {}", quoted(&path.display().to_string())),
            None if std::env::var_os(variable).is_some() => writeln!(out, "secret-env = \"{variable}\""),
            None => writeln!(out, "secret = {}", quoted(&String::from_utf8_lossy(account.secret.expose()))),
        };
    };
    account(USER, arguments.chap_secret_file.as_deref(), "LUNETTE_CHAP_SECRET");
    account(OWN, arguments.chap_mutual_secret_file.as_deref(), "LUNETTE_CHAP_MUTUAL_SECRET");
    if configuration.algorithms != iscsi::auth::Algorithm::ALL {
        let names: Vec<_> = configuration.algorithms.iter().map(|one| quoted(one.name())).collect();
        let _ = writeln!(out, "\n[chap]\nalgorithms = [{}]", names.join(", "));
    }
}

/// A text as TOML has it: with the escapes of a basic string.
fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for letter in text.chars() {
        match letter {
            '"' | '\\' => {
                out.push('\\');
                out.push(letter);
            }
            letter if letter.is_control() => {
                let _ = write!(out, "\\u{:04X}", u32::from(letter));
            }
            letter => out.push(letter),
        }
    }
    out.push('"');
    out
}
