//! What an edit changes, and above all what it does not.

use super::*;
use crate::configuration::file;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;

const FILE: &str = r#"# The house's disks.

[log]
level = "debug" # while it is new

[[portal]]
listen = "192.0.2.7"

# Whoever makes the copies.
[account.backup]
# rotated in May
secret-env = "PATH"

[[target]]
name = "iqn.2026-11.com.example:home"
accounts = ["backup"]

# The work disk.
[[target.lun]]
store = "ram:1M" # small

[[target.lun]]
# The second.
store = "ram:2M"
serial = "S2"

# The nodes.
[[target.rule]]
initiators = "iqn.2026-01.com.example:node*"
luns = [1]

[[target.rule]]
initiators = "any"

# Nobody uses this one yet.
[[target]]
name = "iqn.2026-11.com.example:spare"
# The end.
"#;

const HOME: &str = "iqn.2026-11.com.example:home";

fn name() -> String {
    HOME.to_owned()
}

fn read(text: &str) -> Result<(), String> {
    file::parse("lunette.toml", text, Path::new("/nowhere")).map(|_| ()).map_err(|failure| failure.to_string())
}

/// The document after these edits, which the reader takes.
fn edited(before: &str, edits: &[Edit]) -> String {
    let after = apply(before, edits).unwrap_or_else(|wrong| panic!("{wrong}"));
    assert_eq!(read(&after), Ok(()), "{after}");
    after
}

/// That these edits change this piece of the text into that, and nothing else.
fn changes(before: &str, edits: &[Edit], from: &str, to: &str) {
    assert_eq!(before.matches(from).count(), 1, "{from}");
    assert_eq!(edited(before, edits), before.replacen(from, to, 1));
}

#[test]
fn a_disk_comes_behind_the_disks_of_its_target() {
    let fields = Fields::new().with("store", "/srv/new.img,size=1G").with("serial", "N");
    let new = "serial = \"S2\"\n\n[[target.lun]]\nnumber = 3\nstore = \"/srv/new.img,size=1G\"\nserial = \"N\"\n";
    changes(FILE, &[Edit::Add(Place::Lun(name(), None), fields)], "serial = \"S2\"\n", new);
    let spare = Place::Lun("IQN.2026-11.com.example:Spare".to_owned(), Some(0));
    let end = "# The end.\n\n[[target.lun]]\nnumber = 0\nstore = \"ram:1M\"\n";
    // What ends the document stays before what is added behind it.
    changes(FILE, &[Edit::Add(spare, Fields::new().with("store", "ram:1M"))], "# The end.\n", end);
}

#[test]
fn disks_keep_their_numbers_when_one_before_them_goes() {
    let text = FILE.replace("luns = [1]\n", "");
    let after = edited(&text, &[Edit::Remove(Place::Lun(name(), Some(1)))]);
    assert!(after.contains("# The work disk.\n\n[[target.lun]]\n# The second.\nstore = \"ram:2M\"\n"), "{after}");
    assert!(after.contains("serial = \"S2\"\nnumber = 2\n") && !after.contains("# small"), "{after}");
    let refused = apply(FILE, &[Edit::Remove(Place::Lun(name(), Some(7)))]).unwrap_err();
    assert_eq!(refused.to_string(), "iqn.2026-11.com.example:home has no LUN 7; there are 1, 2");
    let renumbered = Edit::Set(Place::Lun(name(), Some(1)), Fields::new().with("number", 5));
    let after = edited(&text, &[renumbered]);
    assert!(after.contains("store = \"ram:1M\" # small\nnumber = 5\n") && after.contains("number = 2\n"), "{after}");
}

#[test]
fn a_rule_is_put_where_it_is_to_decide() {
    let fields = Fields::new().with("initiators", "iqn.2026-01.com.example:x");
    let edit = Edit::Add(Place::Rule(name(), Some(2)), fields.clone());
    let new = "luns = [1]\n\n[[target.rule]]\ninitiators = \"iqn.2026-01.com.example:x\"\n";
    changes(FILE, &[edit], "luns = [1]\n", new);
    let edit = Edit::Add(Place::Rule(name(), None), fields.clone());
    let new = "\"any\"\n\n[[target.rule]]\ninitiators = \"iqn.2026-01.com.example:x\"\n";
    changes(FILE, &[edit], "\"any\"\n", new);
    let refused = apply(FILE, &[Edit::Add(Place::Rule(name(), Some(4)), fields)]).unwrap_err();
    assert_eq!(refused.to_string(), format!("{HOME} has 2 rules; there is no place 4; use 1 to 3"));
}

#[test]
fn a_value_changes_and_what_stands_around_it_stays() {
    let edit = Edit::Put(Place::Section("log"), Fields::new().with("level", "info").with("format", "json"));
    let new = "level = \"info\" # while it is new\nformat = \"json\"\n";
    changes(FILE, &[edit], "level = \"debug\" # while it is new\n", new);
    let same = Edit::Set(Place::Lun(name(), Some(1)), Fields::new().with("store", "ram:1M"));
    assert_eq!(edited(FILE, &[same]), FILE);
    let gone = Edit::Set(
        Place::Account("backup".to_owned()),
        Fields::new().without("secret-env").with("secret-env", "CARGO_MANIFEST_DIR"),
    );
    let after = edited(FILE, &[gone]);
    assert!(after.contains("# rotated in May\n"), "{after}");
    let limits = Edit::Put(Place::Section("limits"), Fields::new().with("sessions", 10));
    let end = "# The end.\n\n[limits]\nsessions = 10\n";
    changes(FILE, &[limits], "# The end.\n", end);
}

#[test]
fn portals_that_were_meant_stay_and_the_last_one_leaves_none() {
    let target = "[[target]]\nname = \"iqn.2026-11.com.example:home\"\n";
    let add = |listen: &str| Edit::Add(Place::Portal(listen.to_owned()), Fields::new());
    let after = edited(target, &[add("192.0.2.7")]);
    assert!(
        after.ends_with("[[portal]]\nlisten = \"127.0.0.1:3260\"\n\n[[portal]]\nlisten = \"192.0.2.7\"\n"),
        "{after}"
    );
    let after = edited(target, &[add("0.0.0.0")]);
    assert_eq!(after.matches("listen").count(), 1, "all addresses are one of them: {after}");
    let remove = |listen: &str| Edit::Remove(Place::Portal(listen.to_owned()));
    let none = apply(FILE, &[remove("192.0.2.7:3260")]).unwrap();
    assert!(none.contains("portal = []\n") && !none.contains("[[portal]]"), "{none}");
    let again = edited(&none, &[add("[::1]:3260")]);
    assert!(again.contains("[[portal]]\nlisten = \"[::1]:3260\"\n") && !again.contains("[]"), "{again}");
    assert!(apply(target, &[remove("127.0.0.1")]).unwrap().starts_with("portal = []\n"));
    let refused = apply(FILE, &[add("192.0.2.7:3260")]).unwrap_err();
    assert_eq!((refused.kind, refused.what.as_str()), (Kind::Exists, "it listens at 192.0.2.7:3260 already"));
}

#[test]
fn entries_in_one_line_are_edited_as_well() {
    let text = "account = { a = { secret-env = \"PATH\" } }\ntarget = [\n  # One.\n  { name = \"iqn.2026-11.com.example:a\", \
                accounts = [\"a\"], rule = [{ initiators = \"any\" }] },\n  # Two.\n  { name = \
                \"iqn.2026-11.com.example:b\", accounts = [\"a\"], rule = [{ initiators = \"any\" }] },\n]\n";
    let place = Place::Lun("iqn.2026-11.com.example:b".to_owned(), None);
    let after = edited(text, &[Edit::Add(place, Fields::new().with("store", "ram:1M"))]);
    assert!(after.contains("lun = [{ number = 1, store = \"ram:1M\" }]"), "{after}");
    let after = edited(text, &[Edit::Remove(Place::Target("iqn.2026-11.com.example:a".to_owned()))]);
    assert!(after.contains("# One.") && after.contains("# Two.") && !after.contains("example:a"), "{after}");
    let account = Edit::Add(Place::Account("b".to_owned()), Fields::new().with("secret-env", "CARGO_MANIFEST_DIR"));
    assert!(edited(text, &[account]).contains("b = { secret-env = \"CARGO_MANIFEST_DIR\" }"));
}

#[test]
fn who_is_not_there_is_told_with_the_nearest() {
    let said = |edit: Edit| apply(FILE, &[edit]).unwrap_err().to_string();
    assert_eq!(
        said(Edit::Remove(Place::Target("iqn.2026-11.com.example:hme".into()))),
        "there is no target iqn.2026-11.com.example:hme; did you mean `iqn.2026-11.com.example:home`?"
    );
    assert_eq!(said(Edit::Remove(Place::Account("bakup".into()))), "there is no account bakup; did you mean `backup`?");
    assert_eq!(said(Edit::Remove(Place::Group(7))), "there is no [[group]] 7; there are none");
    assert_eq!(said(Edit::Remove(Place::Rule(name(), Some(3)))), format!("{HOME} has no rule 3; it has 1 to 2"));
    let twice = Edit::Add(Place::Target("IQN.2026-11.com.example:HOME".into()), Fields::new());
    assert_eq!(said(twice), "there is a target IQN.2026-11.com.example:HOME already");
    assert_eq!(apply("a = ", &[]).as_deref(), Ok("a = "));
    assert_eq!(apply("a = ", &[Edit::Remove(Place::Group(7))]).unwrap_err().kind, Kind::Document);
}

/// What a document says, entry by entry: for each a name that stays the same, and its keys.
fn model(text: &str) -> BTreeMap<String, String> {
    let document: DocumentMut = text.parse().unwrap_or_else(|error| panic!("{error}\n{text}"));
    let root = document.as_table();
    let keys = |table: &dyn TableLike, without: &[&str]| {
        let mut keys: Vec<String> = table
            .iter()
            .filter(|(key, item)| item.is_value() && !without.contains(key))
            .map(|(key, item)| format!("{key}={}", item.to_string().split('#').next().unwrap_or_default().trim()))
            .collect();
        keys.sort();
        keys.join(" ")
    };
    let mut out = BTreeMap::new();
    for (at, target) in find::entries(root, "target").into_iter().enumerate() {
        let name = target.get("name").and_then(Item::as_str).unwrap().to_owned();
        out.insert(format!("target {name}"), keys(target, &["name", "lun", "rule"]));
        let numbers = find::lun_numbers(&document, at).unwrap();
        for (number, lun) in numbers.iter().zip(find::entries(target, "lun")) {
            out.insert(format!("target {name} lun {number}"), keys(lun, &["number"]));
        }
        let rules: Vec<String> = find::entries(target, "rule").into_iter().map(|rule| keys(rule, &[])).collect();
        out.insert(format!("target {name} rules"), rules.join("; "));
    }
    for list in ["portal", "group"] {
        for entry in find::entries(root, list) {
            out.insert(format!("{list} {}", keys(entry, &[])), String::new());
        }
    }
    for (name, account) in root.get("account").and_then(table_like).into_iter().flat_map(|all| all.iter()) {
        out.insert(format!("account {name}"), keys(account.as_table_like().unwrap(), &[]));
    }
    for name in ["log", "limits"] {
        for (key, item) in root.get(name).and_then(table_like).into_iter().flat_map(|all| all.iter()) {
            let value = item.to_string().split('#').next().unwrap_or_default().trim().to_owned();
            out.insert(format!("{name} {key}"), value);
        }
    }
    out
}

/// A document of many shapes, with comments wherever they may stand, each of them once.
fn random_document(random: &mut sim::Random) -> String {
    let mut out = String::new();
    let mut number = 0;
    fn comment(random: &mut sim::Random, number: &mut u32, out: &mut String) {
        if random.below(2) == 0 {
            *number += 1;
            let _ = writeln!(out, "# c{number}.");
        }
    }
    fn end(random: &mut sim::Random, number: &mut u32, out: &mut String) {
        if random.below(3) == 0 {
            *number += 1;
            let _ = write!(out, " # c{number}.");
        }
        out.push('\n');
    }
    let (mut targets, mut accounts, mut portals) = (0, 0, 0);
    for _ in 0..random.below(8) {
        comment(random, &mut number, &mut out);
        if random.below(2) == 0 {
            out.push('\n');
            comment(random, &mut number, &mut out);
        }
        match random.below(4) {
            0 => {
                accounts += 1;
                let _ = write!(out, "[account.a{accounts}]");
                end(random, &mut number, &mut out);
                comment(random, &mut number, &mut out);
                out += "secret-env = \"PATH\"";
                end(random, &mut number, &mut out);
            }
            1 => {
                portals += 1;
                let _ = write!(out, "[[portal]]\nlisten = \"192.0.2.{portals}\"");
                end(random, &mut number, &mut out);
            }
            2 if !out.contains("[log]") => {
                out += "[log]\n";
                comment(random, &mut number, &mut out);
                out += "level = \"info\"";
                end(random, &mut number, &mut out);
                comment(random, &mut number, &mut out);
                out += "format = \"text\"\n";
            }
            _ => {
                targets += 1;
                out += "[[target]]";
                end(random, &mut number, &mut out);
                comment(random, &mut number, &mut out);
                let _ = writeln!(out, "name = \"iqn.2026-11.com.example:t{targets}\"");
                let mut taken = Vec::new();
                for entry in 0..random.below(6) {
                    comment(random, &mut number, &mut out);
                    match random.below(3) {
                        0 => {
                            let _ = writeln!(out, "[[target.rule]]\ninitiators = \"iqn.2026-01.com.example:r{entry}\"");
                        }
                        _ => {
                            out += "[[target.lun]]\n";
                            comment(random, &mut number, &mut out);
                            let wanted = random.below(9);
                            if random.below(2) == 0 && !taken.contains(&wanted) {
                                taken.push(wanted);
                                let _ = writeln!(out, "number = {wanted}");
                            }
                            let _ = write!(out, "store = \"ram:{}M\"", entry + 1);
                            end(random, &mut number, &mut out);
                        }
                    }
                }
                if random.below(4) == 0 {
                    comment(random, &mut number, &mut out);
                    out += "[target.redirect]\naddress = \"192.0.2.8\"\n";
                }
            }
        }
    }
    comment(random, &mut number, &mut out);
    out
}

fn comments(text: &str) -> Vec<&str> {
    let mut all: Vec<&str> = text.split('#').skip(1).map(|rest| rest.split('.').next().unwrap_or_default()).collect();
    all.sort_unstable();
    all
}

/// An edit of something that may be there, and the entries that it means: by their names in the model.
fn random_edit(random: &mut sim::Random, before: &BTreeMap<String, String>) -> (Edit, Option<String>, &'static str) {
    let known = |prefix: &str, random: &mut sim::Random| -> Option<String> {
        let all: Vec<&String> = before.keys().filter(|key| key.starts_with(prefix)).collect();
        (!all.is_empty()).then(|| all[random.size(all.len())].clone())
    };
    let any_target = known("target ", random).and_then(|key| key.split(' ').nth(1).map(str::to_owned));
    match (random.below(10), any_target) {
        (0, Some(target)) => {
            let edit = Edit::Add(Place::Lun(target, None), Fields::new().with("store", "ram:7M"));
            (edit, None, "add")
        }
        (1, Some(target)) => {
            let edit = Edit::Add(Place::Rule(target.clone(), Some(1)), Fields::new().with("initiators", "any"));
            (edit, Some(format!("target {target} rules")), "set")
        }
        (2, Some(target)) => {
            let alias = Edit::Set(Place::Target(target.clone()), Fields::new().with("alias", "new"));
            (alias, Some(format!("target {target}")), "set")
        }
        (3, Some(target)) => (Edit::Remove(Place::Target(target.clone())), Some(format!("target {target}")), "remove"),
        (4 | 5, Some(_)) => match before.keys().rfind(|key| key.contains(" lun ")) {
            Some(key) => {
                let mut words = key.split(' ').skip(1).step_by(2);
                let target = words.next().unwrap().to_owned();
                let number = words.next().and_then(|number| number.parse().ok());
                (Edit::Remove(Place::Lun(target, number)), Some(key.clone()), "remove")
            }
            None => (Edit::Put(Place::Section("limits"), Fields::new().with("sessions", 9)), None, "add"),
        },
        (6, _) => match known("account ", random) {
            Some(key) => {
                let name = key.trim_start_matches("account ").to_owned();
                (Edit::Remove(Place::Account(name)), Some(key), "remove")
            }
            None => (
                Edit::Add(Place::Account("x".into()), Fields::new().with("secret-env", "CARGO_MANIFEST_DIR")),
                None,
                "add",
            ),
        },
        (7, _) => {
            let fields = Fields::new().with("secret-env", "CARGO_MANIFEST_DIR");
            (Edit::Add(Place::Account("new".into()), fields), None, "add")
        }
        (8, _) => {
            (Edit::Put(Place::Section("log"), Fields::new().with("level", "warn")), Some("log level".into()), "set")
        }
        _ => {
            let name = "iqn.2026-11.com.example:new".to_owned();
            (Edit::Add(Place::Target(name), Fields::new().with("alias", "x")), None, "add")
        }
    }
}

#[test]
fn no_edit_loses_a_comment_or_another_entry() {
    let mut random = sim::Random::new(7);
    let mut made = BTreeMap::new();
    for round in 0..1500 {
        let text = random_document(&mut random);
        let before = model(&text);
        let (edit, means, kind) = random_edit(&mut random, &before);
        let told = || format!("round {round}: {edit:?}\n{text}");
        let after = apply(&text, std::slice::from_ref(&edit)).unwrap_or_else(|wrong| panic!("{wrong}\n{}", told()));
        *made.entry(kind).or_insert(0) += 1;
        let (now, is_meant) = (model(&after), |key: &str| means.as_deref().is_some_and(|means| key.starts_with(means)));
        // An entry that was not meant says what it said.
        for (key, value) in &before {
            match (kind, is_meant(key)) {
                ("remove", true) => assert!(!now.contains_key(key), "{key} is still there\n{}{after}", told()),
                ("set", true) => assert!(now.contains_key(key), "{key} is lost\n{}{after}", told()),
                _ => assert_eq!(now.get(key), Some(value), "{key}\n{}---\n{after}", told()),
            }
        }
        // What is new is one entry; a target has rules, though none.
        let new: Vec<&String> = now.keys().filter(|key| !before.contains_key(*key)).collect();
        let target = new.iter().filter(|key| !key.ends_with(" rules")).count();
        assert!(target == usize::from(kind == "add") || kind == "set" && target <= 1, "{new:?}\n{}{after}", told());
        let (old, left) = (comments(&text), comments(&after));
        match kind {
            // What stood within the lines of an entry goes with it.
            "remove" => assert!(left.iter().all(|one| old.contains(one)), "{}{after}", told()),
            _ => assert_eq!(left, old, "{}{after}", told()),
        }
        // The reader says of it what it said before, if anything: nothing is wrong that was not.
        if read(&text).is_ok() && kind != "remove" && !before.is_empty() {
            assert_eq!(read(&after), Ok(()), "{}{after}", told());
        }
    }
    assert!(made.values().all(|count| *count > 100), "{made:?}");
}

#[test]
fn a_comment_above_what_is_removed_stays_and_is_nobody_elses() {
    let remove = |what: Place| apply(FILE, &[Edit::Remove(what)]).unwrap();
    let after = remove(Place::Target(name()));
    for stays in ["# Whoever makes the copies.", "# rotated in May", "# Nobody uses this one yet.", "# The end."] {
        assert!(after.contains(stays), "{stays}\n{after}");
    }
    assert!(!after.contains("# The nodes.") && !after.contains("# small"), "{after}");
    let after = remove(Place::Rule(name(), Some(1)));
    assert!(after.contains("# The nodes.\n\n[[target.rule]]\ninitiators = \"any\""), "{after}");
    let after = remove(Place::Account("backup".into()));
    assert!(after.contains("# Whoever makes the copies.\n\n[[target]]"), "{after}");
}
