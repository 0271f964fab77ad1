//! The invariants of ARCHITECTURE.md, checked on the source.
//!
//! Each finding says where, what, and how to mend it.

use std::fs;
use std::path::{Path, PathBuf};

/// Which of our crates each crate may import (ARCHITECTURE.md, "Bird's eye").
const IMPORTS: &[(&str, &[&str])] = &[
    ("scsi", &[]),
    ("iscsi", &[]),
    ("block", &[]),
    ("lun", &["scsi", "block"]),
    ("io", &["iscsi", "block"]),
    ("stores", &["block"]),
    ("target", &["iscsi", "scsi", "lun", "block", "io"]),
    ("initiator", &["iscsi", "scsi", "block", "io"]),
    ("attach", &["block", "io"]),
    ("compat", &[]),
    ("sim", &["scsi", "iscsi", "block", "lun", "io", "stores", "target"]),
    ("measure", &["scsi", "iscsi", "block", "lun", "io"]),
    ("lunette", &["scsi", "iscsi", "block", "lun", "io", "stores", "target", "initiator", "attach", "compat"]),
];

/// Crates that do no I/O and read no clock (invariant 1).
const PURE: &[&str] = &["scsi", "iscsi", "block", "lun"];

/// What the pure crates may not name.
const IMPURE: &[&str] = &[
    "tokio::",
    "std::net::T",
    "std::net::U",
    "std::fs::",
    "std::thread::spawn",
    "Instant::now",
    "SystemTime::now",
    "getrandom::",
];

/// Files in which an impure name is the point: `block::FileJob` carries a file that it never touches.
const IMPURE_ALLOWED: &[(&str, &str)] = &[("block/src/engine.rs", "std::fs::")];

/// Crates in which `unsafe` may stand (invariant 4).
const UNSAFE: &[&str] = &["io", "attach"];

/// The page whose names of tests are checked.
const NAMES: &str = "docs/reliability.md";

/// All findings in the tree, in the order of their paths.
pub fn findings(root: &Path) -> Vec<String> {
    let mut findings = Vec::new();
    for (name, allowed) in IMPORTS {
        let folder = root.join("crates").join(name);
        if folder.is_dir() {
            manifest(root, &folder, name, allowed, &mut findings);
            for file in sources(&folder.join("src")) {
                source(root, &file, name, &mut findings);
            }
        }
    }
    for file in ["README.md", "CHANGELOG.md", "ARCHITECTURE.md"] {
        if !root.join(file).is_file() {
            findings.push(format!("{file}: missing; every change keeps it true"));
        }
    }
    names(root, &mut findings);
    findings
}

/// What docs/reliability.md names is there: a test, an entry of a corpus, a scenario of the virtual machine.
fn names(root: &Path, findings: &mut Vec<String>) {
    let page = fs::read_to_string(root.join(NAMES)).unwrap_or_default();
    let code: Vec<String> =
        sources(&root.join("crates")).iter().map(|path| fs::read_to_string(path).unwrap_or_default()).collect();
    for (line, content) in page.lines().enumerate() {
        for name in content.split('`').skip(1).step_by(2) {
            let known = match name {
                _ if name.contains('/') => root.join("fuzz/corpus").join(name).is_file(),
                _ if name.contains('_') => code.iter().any(|text| text.contains(&format!("fn {name}("))),
                _ if name.contains('-') => root.join("tests/vm/scenarios").join(name).is_file(),
                _ => true,
            };
            if !known {
                findings.push(format!("{NAMES}:{}: there is no {name}", line + 1));
            }
        }
    }
}

fn manifest(root: &Path, folder: &Path, name: &str, allowed: &[&str], findings: &mut Vec<String>) {
    let path = folder.join("Cargo.toml");
    let text = fs::read_to_string(&path).unwrap_or_default();
    let mut section = "";
    for (line, content) in text.lines().enumerate() {
        if content.starts_with('[') {
            section = content;
        }
        let dependency = content.split(['.', ' ', '=']).next().unwrap_or("");
        let ours = IMPORTS.iter().any(|(crate_name, _)| *crate_name == dependency);
        if section == "[dependencies]" && ours && !allowed.contains(&dependency) {
            let place = path.strip_prefix(root).unwrap_or(&path).display();
            findings.push(format!(
                "{place}:{}: {name} imports {dependency}; imports point down only (ARCHITECTURE.md, invariants)",
                line + 1
            ));
        }
    }
}

fn source(root: &Path, file: &Path, name: &str, findings: &mut Vec<String>) {
    let text = fs::read_to_string(file).unwrap_or_default();
    let place = file.strip_prefix(root).unwrap_or(file).display().to_string();
    if !text.starts_with("//!") {
        findings.push(format!("{place}:1: begins without `//!`; say what the file owns"));
    }
    let is_root = file.ends_with("lib.rs") || file.ends_with("main.rs");
    if is_root && !UNSAFE.contains(&name) && !text.contains("#![forbid(unsafe_code)]") {
        findings.push(format!("{place}:1: lacks #![forbid(unsafe_code)] (invariant 4)"));
    }
    // Tests may use what the code may not.
    let code = text.split("#[cfg(test)]").next().unwrap_or("");
    let file_name = file.file_name().unwrap_or_default().to_string_lossy();
    let test_file = file_name.ends_with("tests.rs") || file_name == "testing.rs";
    for (line, content) in code.lines().enumerate().map(|(line, content)| (line + 1, content.trim_start())) {
        if content.starts_with("//") || test_file {
            continue;
        }
        for word in IMPURE.iter().filter(|word| PURE.contains(&name) && content.contains(**word)) {
            let allowed = IMPURE_ALLOWED.iter().any(|(end, allowed)| place.ends_with(end) && allowed == word);
            if !allowed {
                findings
                    .push(format!("{place}:{line}: {name} names `{word}`; time and I/O are arguments (invariant 1)"));
            }
        }
        if !UNSAFE.contains(&name) && content.split(|c: char| !c.is_alphanumeric() && c != '_').any(|w| w == "unsafe") {
            findings.push(format!("{place}:{line}: `unsafe` outside io and attach (invariant 4)"));
        }
    }
    let lines = text.lines().count();
    if lines > 900 {
        findings.push(format!("{place}: {lines} lines; split it by purpose"));
    }
}

fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let Ok(entries) = fs::read_dir(folder) else { return found };
    for path in entries.flatten().map(|entry| entry.path()) {
        if path.is_dir() {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found.sort();
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(files: &[(&str, &str)]) -> (PathBuf, Vec<String>) {
        let root = std::env::temp_dir().join(format!("lunette-tidy-{}-{}", std::process::id(), files[0].1.len()));
        let _ = fs::remove_dir_all(&root);
        for (path, text) in files {
            let path = root.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        for file in ["README.md", "CHANGELOG.md", "ARCHITECTURE.md"] {
            fs::write(root.join(file), "").unwrap();
        }
        let found = findings(&root);
        let _ = fs::remove_dir_all(&root);
        (root, found)
    }

    #[test]
    fn a_tidy_tree_has_no_findings() {
        let (_, found) = tree(&[("crates/scsi/src/lib.rs", "//! Words.\n#![forbid(unsafe_code)]\n")]);
        assert_eq!(found, Vec::<String>::new());
    }

    #[test]
    fn a_test_that_is_named_and_not_there_is_found() {
        let (_, found) = tree(&[
            ("docs/reliability.md", "`cargo xtask`\n| `f07_is` | `f07_is_not` | `pdu/x` | `57-links` |\n"),
            ("crates/sim/tests/faults.rs", "fn f07_is() {}\n"),
            ("fuzz/corpus/pdu/x", ""),
        ]);
        assert_eq!(
            found,
            ["docs/reliability.md:2: there is no f07_is_not", "docs/reliability.md:2: there is no 57-links"]
        );
    }

    #[test]
    fn each_broken_invariant_is_found_where_it_stands() {
        let (_, found) = tree(&[
            ("crates/lun/src/lib.rs", "//! Units.\n#![forbid(unsafe_code)]\nfn f() { std::fs::read(\"x\"); }\n"),
            (
                "crates/lun/Cargo.toml",
                "[dependencies]\niscsi.workspace = true\n[dev-dependencies]\nio.workspace = true\n",
            ),
            ("crates/scsi/src/lib.rs", "fn f() { unsafe { g() } }\n"),
        ]);
        let starts: Vec<&str> = found.iter().map(|line| line.split(": ").next().unwrap()).collect();
        assert_eq!(
            starts,
            [
                "crates/scsi/src/lib.rs:1",
                "crates/scsi/src/lib.rs:1",
                "crates/scsi/src/lib.rs:1",
                "crates/lun/Cargo.toml:2",
                "crates/lun/src/lib.rs:3",
            ]
        );
    }
}
