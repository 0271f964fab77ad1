//! `lunette apply`, word for word: plans, refusals, exit codes.

use crate::LUNETTE;
use sim::Daemon;
use sim::raw::{Command, Login};
use std::path::PathBuf;

const FILE: &str = "[daemon]\nstate-dir = \"FOLDER/state\"\nthreads = 1\n[[portal]]\nlisten = \"127.0.0.1:0\"\n[[target]]\n\
                    name = \"iqn.2026-01.org.example:one\"\n# The only one.\n[[target.lun]]\nstore = \"ram:1M\"\n\
                    [[target.rule]]\ninitiators = \"any\"\n";

fn apply(daemon: &Daemon, arguments: &[&str]) -> (Option<i32>, String, String) {
    let control = daemon.control();
    let mut command = std::process::Command::new(LUNETTE);
    let output = command.arg("apply").args(arguments).arg("--control").arg(control).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

fn file(daemon: &Daemon) -> PathBuf {
    daemon.control().parent().unwrap().parent().unwrap().join("lunette.toml")
}

#[test]
fn a_plan_is_shown_and_made_and_what_is_in_use_takes_force() {
    let daemon = Daemon::configured(LUNETTE, FILE);
    let first = std::fs::read_to_string(file(&daemon)).unwrap();
    let second = first.replace("store = \"ram:1M\"\n", "store = \"ram:2M\"\n[[target.lun]]\nstore = \"ram:4M\"\n");
    std::fs::write(file(&daemon), &second).unwrap();
    let would = "would resize LUN 1 of iqn.2026-01.org.example:one: 1 MiB → 2 MiB\n\
                 would add LUN 2 of iqn.2026-01.org.example:one: ram:4M\n";
    assert_eq!(apply(&daemon, &["--dry-run"]), (Some(0), would.to_owned(), String::new()));
    assert_eq!(apply(&daemon, &[]), (Some(0), would.replace("would ", ""), String::new()));
    assert_eq!(apply(&daemon, &[]), (Some(0), "nothing changes\n".to_owned(), String::new()));
    let mut client = daemon.connect();
    client.login(&Login::normal("iqn.2026-01.org.example:one"));
    client.take_attentions();
    client.good(&Command::write(2, &[7; 512]));
    let beside = file(&daemon).with_file_name("beside.toml");
    std::fs::write(&beside, &first).unwrap();
    let beside = beside.to_str().unwrap();
    let (code, out, error) = apply(&daemon, &["--dry-run", beside]);
    let shown = "would resize LUN 1 of iqn.2026-01.org.example:one: 2 MiB → 1 MiB; disturbs 1 session\n\
                 would remove LUN 2 of iqn.2026-01.org.example:one: ram:4M; disturbs 1 session\n\
                 somebody uses it: it needs --force\n";
    assert_eq!((code, out.as_str()), (Some(6), shown), "{error}");
    let (code, out, error) = apply(&daemon, &[beside]);
    let line = "lunette: it is in use: resize LUN 1 of iqn.2026-01.org.example:one: 2 MiB → 1 MiB; disturbs 1 session; \
                remove LUN 2 of iqn.2026-01.org.example:one: ram:4M; disturbs 1 session; --force does it all the same, and \
                tells the initiators\n";
    assert_eq!((code, out.as_str(), error.as_str()), (Some(6), "", line));
    assert_eq!(std::fs::read_to_string(file(&daemon)).unwrap(), second, "nothing of it is seen");
    let (code, out, error) = apply(&daemon, &["--force", beside]);
    assert_eq!(code, Some(0), "{error}");
    assert!(out.contains("remove LUN 2 of iqn.2026-01.org.example:one: ram:4M; disturbs 1 session"), "{out}");
    assert_eq!(std::fs::read_to_string(file(&daemon)).unwrap(), first, "the file is replaced, comments and all");
    client.take_attentions();
    assert_eq!(client.good(&Command::read(2, 1)), vec![7; 512]);
    assert!(client.execute(&Command::test_unit_ready().at(2)).condition().is_some());
}

#[test]
fn what_is_wrong_has_the_files_name_and_what_was_edited_and_not_applied_is_not_overwritten() {
    let daemon = Daemon::configured(LUNETTE, FILE);
    let first = std::fs::read_to_string(file(&daemon)).unwrap();
    let beside = file(&daemon).with_file_name("beside.toml");
    std::fs::write(&beside, first.replace("initiators", "initators")).unwrap();
    let beside = beside.to_str().unwrap();
    let (code, _, error) = apply(&daemon, &[beside]);
    assert_eq!(code, Some(2), "{error}");
    assert!(
        error.contains(&format!("{beside}:12:1: error: ")) && error.contains("did you mean `initiators`?"),
        "{error}"
    );
    std::fs::write(file(&daemon), first.replace("ram:1M", "ram:2M")).unwrap();
    std::fs::write(beside, &first).unwrap();
    let (code, _, error) = apply(&daemon, &[beside]);
    assert_eq!(code, Some(6), "{error}");
    assert!(error.contains("says something else than what runs") && error.contains("lunette apply"), "{error}");
    let (code, _, error) = apply(&daemon, &["--dry-run"]);
    assert_eq!(code, Some(0), "{error}");
    std::fs::write(file(&daemon), first.replace("threads = 1", "threads = 2")).unwrap();
    let (code, _, error) = apply(&daemon, &[]);
    assert_eq!(code, Some(7), "{error}");
    let line = "lunette: [daemon] threads cannot be changed while it runs (1 → 2); restart the daemon, or let a new one \
                take over with: lunette upgrade\n";
    assert_eq!(error, line);
}
