//! The binary as a person and a script meet it: errors in one line, a banner, a clean end.

use sim::Daemon;
use sim::daemon::{Folder, TARGET, free_address};
use sim::raw::Login;
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Output, Stdio};

const LUNETTE: &str = env!("CARGO_BIN_EXE_lunette");

fn lunette(folder: &Folder, words: &[&str]) -> Output {
    Command::new(LUNETTE)
        .args(words)
        .current_dir(folder.path())
        .env_remove("LUNETTE_CHAP_SECRET")
        .env("LUNETTE_LOG", "warn")
        .stdin(Stdio::null())
        .output()
        .expect("it starts")
}

#[test]
fn bad_input_is_one_line_that_says_what_where_and_how_to_mend_it() {
    let folder = Folder::new();
    std::fs::write(folder.path().join("odd.img"), [0; 1000]).unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    for (words, what, how) in [
        (&["serve", "none.img"][..], "none.img: does not exist", "add ,size=10G"),
        (&["serve", "odd.img"], "odd.img: its 1000 bytes are not a whole number", "truncate -s 1024"),
        (&["serve", "."], "is a directory", "name a file in it"),
        (&["serve", "missing/disk.img,size=1M"], "directory missing does not exist", "mkdir -p missing"),
        (&["serve", "disk.img,size=10X"], "'X' is no unit", "10G"),
        (&["serve", "ram:1M", "--name", "disk"], "--name disk", "iqn."),
        (&["serve", "ram:1M", "--name", "iqn.2026-13.com.example:a"], "--name iqn.2026-13", "year, month"),
        (&["serve", "ram:1M", "--allow", "me"], "--allow me", "iqn."),
        (&["serve", "ram:1M", "--listen", "1.2.3"], "--listen 1.2.3", "192.0.2.7"),
        (&["serve", "ram:1M", "--listen", "192.0.2.1:3999"], "--listen 192.0.2.1", "ip address"),
        (&["serve", "ram:1M", "--listen", &taken], "in use", "choose another port"),
        (&["serve", "ram:1M", "--chap", "alice"], "--chap alice: there is no secret", "LUNETTE_CHAP_SECRET"),
        (&["serve", "ram:1M", "--chap-mutual", "alice"], "--chap <USER>", "--help"),
        (&["serve", "ram:1M", "--threads", "0"], "0 is not in 1..=256", "--help"),
        (&["serve", "ram:1M,lun=1", "ram:1M,lun=1"], "lun=1 is given twice", "number of its own"),
        (&["serve", "disk.img,sise=3"], "'sise'", "did you mean size?"),
        (&["serve"], "<STORE>", "--help"),
    ] {
        let output = lunette(&folder, words);
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{words:?}: {said}");
        assert_eq!(said.lines().count(), 1, "{words:?}: {said}");
        assert!(said.starts_with("lunette: ") && said.contains(what) && said.contains(how), "{words:?}: {said}");
        assert!(output.stdout.is_empty());
    }
    assert!(!folder.path().join("disk.img").exists(), "nothing is left of what failed");
}

#[test]
fn a_port_in_use_is_found_before_a_file_is_made() {
    let folder = Folder::new();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    let output = lunette(&folder, &["serve", "new.img,size=1M", "--listen", &taken]);
    assert_eq!(output.status.code(), Some(2));
    assert!(!folder.path().join("new.img").exists());
}

#[test]
fn chp_11_a_short_secret_is_refused_wherever_it_comes_from() {
    let folder = Folder::new();
    let file = folder.file("secret");
    std::fs::write(&file, "short\n").unwrap();
    let run = || lunette(&folder, &["serve", "ram:1M", "--chap", "alice", "--chap-secret-file", &file]);
    let with_mode = |mode| std::fs::set_permissions(&file, Permissions::from_mode(mode)).unwrap();
    with_mode(0o644);
    let output = run();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.code() == Some(2) && said.contains("everybody can read"), "{said}");
    with_mode(0o600);
    let output = run();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("5 bytes") && said.contains("at least 12") && said.contains("openssl rand"), "{said}");
}

#[test]
fn a_wrong_configuration_file_ends_the_command_with_every_place() {
    let folder = Folder::new();
    let file = folder.file("lunette.toml");
    let run = |text: &str| {
        std::fs::write(&file, text).unwrap();
        let output = lunette(&folder, &["serve", "--config", "lunette.toml"]);
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    let (code, said) = run("[[portal]]\nlisen = \"::1\"\n[[target]]\nname = \"disk\"\n");
    assert_eq!(code, Some(2), "{said}");
    let places: Vec<_> = said.lines().filter(|line| line.starts_with("lunette.toml:")).collect();
    assert!(places.len() == 4 && said.contains("did you mean `listen`?"), "{said}");
    // What only opening it shows has its place too.
    let (code, said) = run("[daemon]\nstate-dir = \"state\"\n[[portal]]\nlisten = \"127.0.0.1:0\"\n[[target]]\n\
         name = \"iqn.2026-01.org.example:disk\"\n[[target.lun]]\nstore = \"missing.img\"\n");
    assert_eq!(code, Some(2), "{said}");
    let place = said.lines().find(|line| line.starts_with("lunette.toml:8:9: error: "));
    assert!(place.is_some_and(|line| line.contains("missing.img")), "{said}");
    let both = lunette(&folder, &["serve", "--config", "lunette.toml", "--listen", "127.0.0.1:0"]);
    let said = String::from_utf8(both.stderr).unwrap();
    assert!(both.status.code() == Some(2) && said.contains("cannot be used with"), "{said}");
    let none = lunette(&folder, &["serve", "--config", "none.toml"]);
    let said = String::from_utf8(none.stderr).unwrap();
    assert!(none.status.code() == Some(2) && said.starts_with("lunette: none.toml: "), "{said}");
}

#[test]
fn the_banner_names_target_portal_and_disks_and_how_to_connect() {
    let folder = Folder::new();
    let file = folder.file("disk.img");
    let mut daemon = Daemon::start(LUNETTE, &[&format!("{file},size=3M"), "ram:1M,lun=7"]);
    assert!(daemon.terminate().success());
    let said = daemon.log();
    let address = daemon.address().to_string();
    for words in [
        &format!("Target   {TARGET}") as &str,
        &format!("Portal   {address},1"),
        &format!("{file} (file, created)"),
        "7      1M",
        &format!("iscsiadm --mode node --targetname {TARGET} --portal {address} --login"),
        "Connect-IscsiTarget -NodeAddress",
        &format!("file=iscsi://{address}/{TARGET}/1"),
    ] {
        assert!(said.contains(words), "{words}\n{said}");
    }
    assert_eq!(std::fs::metadata(file).unwrap().len(), 3 << 20);
}

#[test]
fn events_are_json_lines_for_machines() {
    let mut daemon = Daemon::start_with(LUNETTE, &["ram:1M"], &["--log-format", "json"], &[]);
    let mut client = daemon.connect();
    client.login(&Login::normal(TARGET));
    client.logout();
    assert!(daemon.terminate().success());
    let said = daemon.log();
    assert!(said.lines().count() > 3, "{said}");
    for line in said.lines() {
        assert!(line.starts_with('{') && line.ends_with('}'), "{line}");
    }
    assert!(said.contains("\"bytes\":1048576") && said.contains("session opened"), "{said}");
}

#[test]
fn asy_02_the_end_is_told_to_initiators_and_is_a_success() {
    let mut daemon = Daemon::start(LUNETTE, &["ram:1M"]);
    let mut client = daemon.connect();
    client.login(&Login::normal(TARGET));
    client.take_attentions();
    assert!(daemon.terminate().success());
    let frames = client.expect_closed();
    let last = frames.last().expect("a last word");
    assert_eq!((last.opcode(), last.header[36]), (0x32, 3), "all connections are dropped");
}

#[test]
fn f41_a_file_is_served_once() {
    let folder = Folder::new();
    let file = folder.file("disk.img");
    let _daemon = Daemon::start(LUNETTE, &[&format!("{file},size=1M")]);
    let listen = free_address().to_string();
    let output = lunette(&folder, &["serve", &file, "--listen", &listen]);
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains(&file) && said.lines().count() == 1, "{said}");
}
