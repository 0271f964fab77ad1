//! What a daemon gives up, and that it serves all the same: the sandbox, another user, the opener.

use serde_json::Value;
use sim::daemon::{Daemon, Folder, TARGET};
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::{Command, Output};

const LUNETTE: &str = env!("CARGO_BIN_EXE_lunette");
/// A user without a name, who owns nothing.
const NOBODY: &str = "64999";

fn lunette(words: &[&str]) -> Output {
    Command::new(LUNETTE).args(words).output().expect("lunette")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Tests that become another user need root, and say where they did not run.
fn is_root(test: &str) -> bool {
    let root = fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0);
    if !root {
        eprintln!("{test}: not run: it needs root");
    }
    root
}

/// The value of a line of /proc/PID/status, of every thread.
fn of_threads(process: u32, line: &str) -> Vec<String> {
    let threads = fs::read_dir(format!("/proc/{process}/task")).expect("threads");
    let status = threads.flatten().map(|thread| fs::read_to_string(thread.path().join("status")).unwrap_or_default());
    let value = |status: String| Some(status.lines().find_map(|one| one.strip_prefix(line))?.trim().to_owned());
    status.filter_map(value).collect()
}

/// Writes an image onto the disk by a session, reads it back, and says whether it is the same.
fn carries(daemon: &Daemon, lun: u16) -> bool {
    let folder = Folder::new();
    let (out, back) = (folder.file("out"), folder.file("back"));
    let bytes: Vec<u8> =
        (0..1u32 << 18).flat_map(|number| (number.wrapping_mul(2_654_435_761)).to_le_bytes()).collect();
    fs::write(&out, &bytes).unwrap();
    let url = format!("iscsi://{}/{TARGET}/{lun}", daemon.address());
    for words in [["copy", &out, &url], ["copy", &url, &back]] {
        let done = lunette(&[words, ["--overwrite"; 3]].concat()[..4]);
        assert!(done.status.success(), "{words:?}: {}", text(&done.stderr));
    }
    fs::read(back).unwrap().get(..bytes.len()) == Some(&bytes[..])
}

#[test]
fn what_is_forbidden_fails_inside() {
    let said = lunette(&["sandbox", "--json"]);
    let json: Value = serde_json::from_slice(&said.stdout).unwrap_or_else(|_| panic!("{}", text(&said.stderr)));
    assert_eq!(json["sandbox"]["seccomp"], "on", "{json}");
    assert_ne!(json["sandbox"]["landlock"], "off", "this kernel has no landlock: {json}");
    let attempts = json["attempts"].as_array().unwrap();
    assert!(attempts.len() > 8);
    for attempt in attempts {
        assert_eq!(attempt["possible"], false, "{attempt}");
    }
    assert!(said.status.success());
    // The attempts are real ones.
    let without = lunette(&["sandbox", "--no-sandbox"]);
    assert!(text(&without.stdout).contains("POSSIBLE") && !without.status.success());
}

#[test]
fn every_thread_of_a_daemon_is_in_it_and_status_says_so() {
    let folder = Folder::new();
    let daemon = Daemon::start(LUNETTE, &[&format!("{},size=4M", folder.file("a.img")), "ram:4M"]);
    assert!(carries(&daemon, 1) && carries(&daemon, 2));
    let (filters, new) = (of_threads(daemon.process_id(), "Seccomp:"), of_threads(daemon.process_id(), "NoNewPrivs:"));
    assert!(filters.len() > 2, "there are workers");
    assert!(filters.iter().all(|mode| mode == "2") && new.iter().all(|flag| flag == "1"), "{filters:?} {new:?}");
    let control = daemon.control().display().to_string();
    let status = text(&lunette(&["status", "--control", &control]).stdout);
    assert!(status.contains("seccomp on, landlock "), "{status}");
    let json: Value = serde_json::from_slice(&lunette(&["status", "--control", &control, "--json"]).stdout).unwrap();
    assert_eq!(json["sandbox"]["opener"], true);
}

#[test]
fn it_can_be_left_off() {
    let daemon = Daemon::start_with(LUNETTE, &["ram:4M"], &["--no-sandbox"], &[]);
    assert!(of_threads(daemon.process_id(), "Seccomp:").iter().all(|mode| mode == "0"));
    let file = Daemon::configured(
        LUNETTE,
        &format!(
            "[daemon]\nstate-dir = \"FOLDER/state\"\n[sandbox]\nseccomp = false\n[[portal]]\nlisten = \"127.0.0.1:0\"\n\
             [[target]]\nname = \"{TARGET}\"\n[[target.lun]]\nstore = \"ram:4M\"\n[[target.rule]]\ninitiators = \"any\"\n"
        ),
    );
    assert!(of_threads(file.process_id(), "Seccomp:").iter().all(|mode| mode == "0"));
    let status = text(&lunette(&["status", "--control", &file.control().display().to_string()]).stdout);
    assert!(status.contains("seccomp off, landlock"), "{status}");
}

#[test]
fn a_daemon_that_became_another_user_serves_what_only_root_may_open() {
    if !is_root("a_daemon_that_became_another_user_serves_what_only_root_may_open") {
        return;
    }
    let folder = Folder::new();
    // Nobody but root gets in.
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o700)).unwrap();
    let stores = [
        format!("{},size=4M", folder.file("new.img")),
        format!("{},size=4M,key={}", folder.file("secret.img"), folder.file("key")),
        format!("{},direct", folder.file("direct.img")),
    ];
    fs::File::create(folder.file("direct.img")).unwrap().set_len(4 << 20).unwrap();
    let stores: Vec<&str> = stores.iter().map(String::as_str).collect();
    let mut daemon = Daemon::start_with(LUNETTE, &stores, &["--user", NOBODY], &[]);
    for line in ["Uid:", "Gid:"] {
        let ids = of_threads(daemon.process_id(), line);
        assert!(ids.iter().all(|ids| ids.split_whitespace().all(|id| id == NOBODY)), "{ids:?}");
    }
    for line in ["CapEff:", "CapPrm:", "CapBnd:", "CapAmb:", "CapInh:"] {
        let sets = of_threads(daemon.process_id(), line);
        assert!(sets.iter().all(|set| set.trim_start_matches('0').is_empty()), "{line} {sets:?}");
    }
    let groups = of_threads(daemon.process_id(), "Groups:");
    assert!(groups.iter().all(|groups| groups == NOBODY), "{groups:?}");
    for lun in 1..=3 {
        assert!(carries(&daemon, lun), "LUN {lun}");
    }
    let identity = |daemon: &Daemon| {
        let url = format!("iscsi://{}/{TARGET}/1", daemon.address());
        text(&lunette(&["inquiry", &url, "--json"]).stdout)
    };
    let before = identity(&daemon);
    assert!(before.contains("naa"), "{before}");
    assert!(daemon.terminate().success());
    daemon.restart();
    assert_eq!(identity(&daemon), before, "it is known by what its file says of itself, which the opener has written");
    assert!(carries(&daemon, 2), "the key is the one that was made");
}

#[test]
fn what_would_not_work_afterwards_is_refused_before() {
    if !is_root("what_would_not_work_afterwards_is_refused_before") {
        return;
    }
    let folder = Folder::new();
    let state = folder.file("state");
    fs::create_dir(&state).unwrap();
    fs::write(Path::new(&state).join("old"), "of root").unwrap();
    let said = lunette(&["serve", "ram:1M", "--listen", "127.0.0.1:0", "--state-dir", &state, "--user", NOBODY]);
    assert_eq!(said.status.code(), Some(2));
    let line = text(&said.stderr);
    assert!(line.contains(&format!("mend it with: chown -R {NOBODY}: {state}")), "{line}");
    let nobody = lunette(&["serve", "ram:1M", "--listen", "127.0.0.1:0", "--user", "no-such-user"]);
    assert!(text(&nobody.stderr).contains("there is no user no-such-user; make him"), "{}", text(&nobody.stderr));
}

#[test]
fn the_opener_ends_with_its_daemon() {
    // When it has opened a file it has put on what it has.
    let folder = Folder::new();
    let mut daemon = Daemon::start(LUNETTE, &[&format!("{},size=4M", folder.file("a.img"))]);
    let children = || -> Vec<u32> {
        let path = format!("/proc/{0}/task/{0}/children", daemon.process_id());
        fs::read_to_string(path).unwrap_or_default().split_whitespace().filter_map(|id| id.parse().ok()).collect()
    };
    let [opener] = children()[..] else { panic!("one child, the opener: {:?}", children()) };
    let name = fs::read_to_string(format!("/proc/{opener}/cmdline")).unwrap();
    assert!(name.starts_with("lunette-opener\0"), "{name}");
    assert!(of_threads(opener, "Seccomp:").iter().all(|mode| mode == "2"), "it is in a sandbox of its own");
    daemon.kill();
    let alive = || {
        let stat = fs::read_to_string(format!("/proc/{opener}/stat")).unwrap_or_default();
        // One that has ended and that nobody has asked for is there as well.
        stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z'))
    };
    for _ in 0..200 {
        if !alive() {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    panic!("the opener is there without its daemon");
}

#[test]
fn what_is_configured_later_is_opened_by_the_opener_within_its_policy() {
    let root = is_root("as another user");
    let user = if root { format!("user = \"{NOBODY}\"\n") } else { String::new() };
    let daemon = Daemon::configured(
        LUNETTE,
        &format!(
            "[daemon]\nstate-dir = \"FOLDER/state\"\n{user}[[portal]]\nlisten = \"127.0.0.1:0\"\n[[target]]\n\
             name = \"{TARGET}\" # the only one\n[[target.lun]]\nstore = \"ram:4M\"\n[[target.rule]]\ninitiators = \"any\"\n"
        ),
    );
    let control = daemon.control().display().to_string();
    let folder = Folder::new();
    if root {
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o700)).unwrap();
    }
    let add = |store: &str| lunette(&["lun", "add", TARGET, store, "--control", &control]);
    let added = add(&format!("{},size=4M", folder.file("later.img")));
    assert!(added.status.success(), "{}", text(&added.stderr));
    assert!(carries(&daemon, 2));
    let file = daemon.control().ancestors().nth(2).unwrap().join("lunette.toml");
    let kept = fs::read_to_string(&file).unwrap();
    assert!(kept.contains("later.img") && kept.contains("# the only one"), "{kept}");
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let refused = add("/etc/shadow,ro");
    let line = text(&refused.stderr);
    assert!(!refused.status.success() && line.contains("the sandbox opens nothing in /etc"), "{line}");
    assert!(!fs::read_to_string(&file).unwrap().contains("shadow"));
}
