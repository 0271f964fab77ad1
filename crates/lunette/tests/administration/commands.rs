//! What a person types at a daemon that runs.

use super::rig::{HOME, bad, daemon, good, run, run_at};
use sim::daemon::Folder;
use sim::raw::{Chap, Command, Login};

const NEW: &str = "iqn.2026-01.org.example:new";

#[test]
fn a_target_is_made_and_used_and_taken_away_by_commands_alone() {
    let daemon = daemon();
    assert!(daemon.connect().try_login(&Login::normal(NEW)).is_err());
    let said = good(&daemon, &["target", "add", NEW, "--alias", "a new one"]);
    assert!(said.starts_with("add target iqn.2026-01.org.example:new"), "{said}");
    good(&daemon, &["lun", "add", NEW, "ram:3M", "--serial", "NEW"]);
    good(&daemon, &["acl", "add", NEW, "--initiator", "any", "--address", "127.0.0.0/8"]);
    let mut client = daemon.connect();
    client.login(&Login::normal(NEW));
    client.take_attentions();
    assert_eq!(client.good(&Command::read_capacity().at(1)).len(), 32);
    let shown = good(&daemon, &["target", "show", NEW]);
    assert!(shown.contains("a new one") && shown.contains("3 MiB") && shown.contains("127.0.0.0/8"), "{shown}");
    let list = good(&daemon, &["lun", "list", NEW]);
    assert!(list.lines().nth(1).is_some_and(|line| line.contains("ram:3M") && line.contains("online")), "{list}");
    let (code, line) = bad(&daemon, &["target", "remove", NEW]);
    assert!(code == 6 && line.contains("disturbs 1 session") && line.contains("--force"), "{line}");
    let plan = good(&daemon, &["target", "remove", NEW, "--dry-run"]);
    assert!(plan.contains("would remove") && plan.contains("--force"), "{plan}");
    good(&daemon, &["target", "remove", NEW, "--force"]);
    assert!(daemon.connect().try_login(&Login::normal(NEW)).is_err());
    assert!(!good(&daemon, &["session", "list"]).contains(NEW));
}

#[test]
fn a_disk_changes_while_it_is_used() {
    let daemon = daemon();
    let folder = Folder::new();
    let image = folder.file("disk.img");
    good(&daemon, &["lun", "add", HOME, &format!("{image},size=1M"), "--lun", "5"]);
    let mut client = daemon.connect();
    client.login(&Login::normal(HOME));
    good(&daemon, &["lun", "set", HOME, "5", "--size", "2M"]);
    assert_eq!(std::fs::metadata(&image).unwrap().len(), 2 << 20);
    assert!(good(&daemon, &["lun", "show", HOME, "5"]).contains("2 MiB"));
    good(&daemon, &["lun", "set", HOME, "5", "--online=false"]);
    assert!(good(&daemon, &["lun", "show", HOME, "5", "--json"]).contains("\"state\": \"offline\""));
    good(&daemon, &["lun", "set", HOME, "5", "--unset", "online"]);
    assert!(good(&daemon, &["lun", "list"]).contains("online"));
    good(&daemon, &["lun", "set", HOME, "5", "--limit", "operations=500,bytes=100M"]);
    let shown = good(&daemon, &["lun", "show", HOME, "5"]);
    assert!(shown.contains("bytes 100M, operations 500"), "{shown}");
    good(&daemon, &["lun", "set", HOME, "5", "--unset", "limit"]);
    assert!(!good(&daemon, &["lun", "show", HOME, "5"]).contains("limit"));
    let (code, line) = bad(&daemon, &["lun", "set", HOME, "5"]);
    assert!(code == 2 && line.contains("nothing is to be set"), "{line}");
}

#[test]
fn chp_18_secrets_come_by_standard_input_or_a_file_and_are_never_words() {
    let daemon = daemon();
    let add = ["account", "add", "bob", "--secret-from", "-"];
    let (code, out, err) = run(&daemon, &add, "bobs-own-secret\n");
    assert_eq!(code, 0, "{out}{err}");
    assert!(err.contains("nobody uses account `bob`"), "{err}");
    good(
        &daemon,
        &["acl", "add", HOME, "--initiator", "iqn.2026-01.org.example:bob", "--account", "bob", "--position", "1"],
    );
    let login = Login::normal(HOME).initiator("iqn.2026-01.org.example:bob");
    assert!(daemon.connect().chap_login(&login, &Chap::new("bob", "bobs-own-secret")).is_ok());
    let (code, _, err) = run(&daemon, &["account", "set", "bob", "--secret-from", "-"], "another-secret-1\n");
    assert_eq!(code, 0, "{err}");
    assert!(daemon.connect().chap_login(&login, &Chap::new("bob", "bobs-own-secret")).is_err());
    assert!(daemon.connect().chap_login(&login, &Chap::new("bob", "another-secret-1")).is_ok());
    let (code, _, err) = run(&daemon, &["account", "add", "carol"], "");
    assert!(code == 2 && err.contains("there is no secret on standard input"), "{err}");
    let (code, _, err) = run(&daemon, &["account", "add", "carol"], "short\n");
    assert!(code == 2 && err.contains("the secret has 5 bytes") && !err.contains("short\n"), "{err}");
    let (code, line) = bad(&daemon, &["account", "add", "carol", "--secret", "carols-own-secret"]);
    assert!(code == 2 && line.contains("--secret"), "{line}");
    let (code, line) = bad(&daemon, &["account", "remove", "alice"]);
    assert!(code == 2 && line.contains("there is no account `alice`"), "{line}");
    let shown = good(&daemon, &["account", "list"]);
    assert!(shown.contains("bob") && !shown.contains("another-secret"), "{shown}");
}

#[test]
fn sessions_and_connections_are_shown_and_dropped() {
    let daemon = daemon();
    let mut client = daemon.connect();
    client.login(&Login::normal(HOME));
    let list = good(&daemon, &["session", "list"]);
    let session = list.lines().nth(1).unwrap().split_whitespace().next().unwrap().to_owned();
    let shown = good(&daemon, &["session", "show", &session]);
    assert!(shown.contains("max burst length") && shown.contains("CONNECTIONS"), "{shown}");
    assert!(good(&daemon, &["connection", "list"]).contains("127.0.0.1:"));
    let said = good(&daemon, &["session", "remove", &session]);
    assert!(said.contains("is dropped"), "{said}");
    assert_eq!(good(&daemon, &["session", "list"]).lines().count(), 1);
    let (code, line) = bad(&daemon, &["session", "remove", &session]);
    assert!(code == 5 && line.contains("there is no session"), "{line}");
}

#[test]
fn the_file_says_what_the_commands_did_and_keeps_its_comments() {
    let daemon = daemon();
    good(&daemon, &["acl", "set", HOME, "1", "--read-only"]);
    good(&daemon, &["portal", "add", "127.0.0.1:0", "--group", "2"]);
    good(&daemon, &["group", "set", "2", "--state", "standby", "--preferred"]);
    good(&daemon, &["target", "set", HOME, "--unset", "alias"]);
    let path = daemon.control().parent().unwrap().parent().unwrap().join("lunette.toml");
    let text = std::fs::read_to_string(path).unwrap();
    for piece in
        ["# The house.\n", "# Whoever makes the copies.\n", "read-only = true", "state = \"standby\"", "group = 2"]
    {
        assert!(text.contains(piece), "{piece}\n{text}");
    }
    assert!(!text.contains("the house\""), "{text}");
    let groups = good(&daemon, &["group", "list"]);
    assert!(groups.lines().any(|line| line.contains("standby") && line.contains("yes")), "{groups}");
}

#[test]
fn errors_say_what_is_wrong_and_how_to_mend_it() {
    let daemon = daemon();
    let (code, line) = bad(&daemon, &["target", "show", "iqn.2026-01.org.example:hme"]);
    assert_eq!((code, line.contains(&format!("did you mean `{HOME}`?"))), (5, true), "{line}");
    let (code, line) = bad(&daemon, &["target", "add", "disk"]);
    assert!(code == 2 && line.starts_with("/") && line.contains("lunette.toml:") && line.contains("error:"), "{line}");
    let (code, line) = bad(&daemon, &["lun", "add", HOME, "/none/such.img"]);
    assert!(code != 0 && line.contains("/none/such.img"), "{line}");
    let (code, line) = bad(&daemon, &["lun", "add", HOME, "ram:1M", "--lun", "1"]);
    assert!(code == 2 && line.contains("has a LUN 1 already"), "{line}");
    let folder = Folder::new();
    let (code, out, line) = run_at(&folder.path().join("none.sock"), &["target", "list"], "");
    assert!(code == 3 && out.is_empty() && line.contains("lunette serve"), "{line}");
}

#[test]
fn reservations_are_shown_and_cleared() {
    let daemon = daemon();
    let mut client = daemon.connect();
    client.login(&Login::normal(HOME));
    client.take_attentions();
    client.good(&Command::cdb(&[0x16, 0, 0, 0, 0, 0]).at(1));
    let list = good(&daemon, &["reservation", "list"]);
    assert!(list.lines().count() == 2, "{list}");
    let said = good(&daemon, &["reservation", "remove", HOME, "1"]);
    assert!(said.contains("reserved by nobody"), "{said}");
    assert_eq!(good(&daemon, &["reservation", "list"]).lines().count(), 1);
}

#[test]
fn events_are_lines_for_people_and_for_programs() {
    let daemon = daemon();
    let control = daemon.control();
    let reading =
        std::thread::spawn(move || run_at(&control, &["events", "--kind", "refused", "--count", "1", "--json"], ""));
    let end = std::time::Instant::now() + std::time::Duration::from_secs(20);
    while !reading.is_finished() {
        assert!(std::time::Instant::now() < end, "an event is told");
        let _ = daemon.connect().try_login(&Login::normal(NEW));
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
    let (code, out, err) = reading.join().unwrap();
    assert!(code == 0 && out.starts_with('{') && out.contains("\"refused\""), "{out}{err}");
}
