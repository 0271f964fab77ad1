//! The client's side of the walk-through with the real binary, under its old name and its own: discovery, records,
//! login, the device, logout, the machine's start and stop. Devices are of fuse and loop, which work on every kernel;
//! without root or /dev/fuse they are not run, and say so.

use serde_json::Value;
use sim::Daemon;
use sim::daemon::{Folder, TARGET};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

const LUNETTE: &str = env!("CARGO_BIN_EXE_lunette");

/// A machine of its own: records, and an account of what is attached.
struct Machine {
    folder: Folder,
}

impl Machine {
    fn new() -> Machine {
        let machine = Machine { folder: Folder::new() };
        std::fs::create_dir(machine.root()).unwrap();
        std::fs::write(machine.root().join("iscsid.conf"), "node.session.initial_login_retry_max = 0\n").unwrap();
        machine
    }

    fn root(&self) -> PathBuf {
        self.folder.path().join("iscsi")
    }

    fn command(&self, name: &str, words: &str) -> Output {
        let mut command = Command::new(LUNETTE);
        command.arg0(name).args(words.split(' ').filter(|word| !word.is_empty()));
        command.env("LUNETTE_ISCSI_ROOT", self.root()).env("LUNETTE_ATTACHED", self.folder.path().join("attached"));
        command.env("LUNETTE_VIA", "fuse");
        command.output().unwrap()
    }

    fn iscsiadm(&self, words: &str) -> (i32, String, String) {
        parts(self.command("iscsiadm", words))
    }

    fn lunette(&self, words: &str) -> (i32, String, String) {
        parts(self.command("lunette", words))
    }

    /// Standard output of what goes well.
    fn out(&self, words: &str) -> String {
        let (code, out, err) = self.iscsiadm(words);
        assert_eq!(code, 0, "iscsiadm {words}\n{out}{err}");
        out
    }

    fn json(&self, words: &str) -> Value {
        let (code, out, err) = self.lunette(words);
        assert_eq!(code, 0, "lunette {words}\n{out}{err}");
        serde_json::from_str(&out).unwrap_or_else(|error| panic!("{error}: {out}"))
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // Whatever a test that failed left.
        let state = self.folder.path().join("attached");
        let _ = Command::new(LUNETTE).args(["detach", "--all", "--force", "--state-dir"]).arg(state).output();
    }
}

fn parts(output: Output) -> (i32, String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code().unwrap_or(-1), text(&output.stdout), text(&output.stderr))
}

/// Whether devices can be had here: whoever lacks something hears of it before anybody is asked.
fn has_devices() -> bool {
    let folder = Folder::new();
    let address = format!("iscsi://{}/iqn.2026-11.com.example:none/1", sim::daemon::free_address());
    let words = ["attach", "--via", "fuse", "--state-dir", &folder.file("attached"), &address];
    let (code, _, err) = parts(Command::new(LUNETTE).args(words).output().unwrap());
    if code == 7 {
        eprintln!("not run: {err}");
    }
    code != 7
}

fn portal(daemon: &Daemon) -> String {
    daemon.address().to_string()
}

/// The disks of an iscsiadm tree.
fn disks(tree: &str) -> Vec<String> {
    let lines = tree.lines().filter_map(|line| line.trim().strip_prefix("Attached scsi disk "));
    lines.filter_map(|rest| rest.split_whitespace().next()).map(|name| format!("/dev/{name}")).collect()
}

#[test]
fn the_walk_through_works_as_it_is_written() {
    if !has_devices() {
        return;
    }
    let daemon = Daemon::start(LUNETTE, &["ram:8M"]);
    let machine = Machine::new();
    let portal = portal(&daemon);
    let place = portal.replace(':', ",");
    assert_eq!(
        machine.out(&format!("--mode discovery --type sendtargets --portal {portal} --discover")),
        format!("{portal},1 {TARGET}\n")
    );
    let shown = machine.out("--mode node --op show");
    for line in
        ["# BEGIN RECORD 2.1.8", &format!("node.name = {TARGET}"), "node.conn[0].startup = manual", "# END RECORD"]
    {
        assert!(shown.lines().any(|shown| shown == line), "{line}\n{shown}");
    }
    assert_eq!(machine.iscsiadm("-m session").0, 21);
    let label = format!("[iface: default, target: {TARGET}, portal: {place}]");
    assert_eq!(
        machine.out(&format!("--mode node --targetname {TARGET} --portal {portal} --login")),
        format!("Logging in to {label}\nLogin to {label} successful.\n")
    );
    assert_eq!(machine.iscsiadm("-m node -l").0, 15, "it is logged in");
    let session = machine.out("-m session");
    assert!(
        session.starts_with("tcp: [") && session.ends_with(&format!("] {portal},1 {TARGET} (non-flash)\n")),
        "{session}"
    );
    let tree = machine.out("-m session -P 3");
    let found = disks(&tree);
    let [disk] = found.as_slice() else { panic!("{tree}") };
    for line in [
        "\t\tIface Name: default",
        "\t\tiSCSI Session State: LOGGED_IN",
        "\t\tHeaderDigest: None",
        "\t\tInitialR2T: No",
    ] {
        assert!(tree.lines().any(|shown| shown == line), "{line}\n{tree}");
    }
    // It is a disk: what is written is there again after a logout and a login.
    let said = b"what is written stays written, whoever is logged in".repeat(10);
    let block: Vec<u8> = said.iter().copied().chain(std::iter::repeat(0)).take(4096).collect();
    std::fs::write(machine.folder.file("block"), &block).unwrap();
    let copy = |from: &str, to: &str| {
        let done = Command::new("dd")
            .args([&format!("if={from}"), &format!("of={to}"), "bs=4096", "count=1", "conv=fsync"])
            .output();
        assert!(done.as_ref().is_ok_and(|done| done.status.success()), "{done:?}");
    };
    copy(&machine.folder.file("block"), disk);
    let stats = machine.out("-m session -s");
    assert!(stats.starts_with("Stats for session [sid: ") && stats.contains("\n\ttxdata_octets: "), "{stats}");
    assert!(machine.out("-m session -R").starts_with("Rescanning session [sid: "));
    assert_eq!(machine.iscsiadm("-m node -o delete").0, 15, "a record in use stays");
    let out = machine.out(&format!("--mode node --targetname {TARGET} --portal {portal} --logout"));
    assert!(out.starts_with("Logging out of session [sid: ") && out.ends_with("] successful.\n"), "{out}");
    assert_eq!(machine.iscsiadm("-m session").0, 21);
    machine.out("-m node -l");
    let found = disks(&machine.out("-m session -P 3"));
    copy(&found[0], &machine.folder.file("again"));
    assert_eq!(std::fs::read(machine.folder.file("again")).unwrap(), block);
    machine.out("-m node -u");
    machine.out("-m node -o delete");
    assert_eq!(machine.iscsiadm("-m node").0, 21);
}

#[test]
fn what_starts_by_itself_is_there_after_boot_and_gone_after_the_stop() {
    if !has_devices() {
        return;
    }
    let (first, second) = (Daemon::start(LUNETTE, &["ram:4M"]), Daemon::start(LUNETTE, &["ram:4M", "ram:4M"]));
    let machine = Machine::new();
    for daemon in [&first, &second] {
        let (code, _, err) = machine.lunette(&format!("node add {TARGET} {} node.startup=automatic", portal(daemon)));
        assert_eq!(code, 0, "{err}");
    }
    // One that nobody answers for costs its time and no more.
    let dead = sim::daemon::free_address();
    machine.lunette(&format!("node add iqn.2026-11.com.example:dead {dead} node.startup=onboot"));
    machine.lunette(&format!("node add iqn.2026-11.com.example:later {dead}"));
    let begin = Instant::now();
    let (code, out, err) = machine.lunette("boot --wait 4");
    assert!(begin.elapsed() < Duration::from_secs(30), "{:?}", begin.elapsed());
    assert_eq!((code, out.lines().count()), (1, 3), "{out}{err}");
    assert!(err.contains("1 of 3 are not logged in"), "{err}");
    for daemon in [&first, &second] {
        let line = format!("{TARGET} at {}: logged in, /dev/loop", portal(daemon));
        assert!(out.lines().any(|shown| shown.starts_with(&line)), "{line}\n{out}");
    }
    assert!(out.lines().any(|line| line.starts_with(&format!("iqn.2026-11.com.example:dead at {dead}: "))), "{out}");
    let listed = machine.json("node list --json");
    let devices = |node: &Value| node["session"]["devices"].as_array().map_or(0, Vec::len);
    let all: Vec<usize> = listed["nodes"].as_array().unwrap().iter().map(devices).collect();
    assert_eq!(all.iter().sum::<usize>(), 3, "{listed}");
    // Again: nothing to be done, and that is no failure of those.
    machine.lunette("node delete iqn.2026-11.com.example:dead");
    assert_eq!(machine.lunette("boot").0, 0);
    let (code, out, err) = machine.lunette("boot --stop");
    assert_eq!((code, out.matches(": logged out\n").count()), (0, 2), "{out}{err}");
    assert_eq!(machine.iscsiadm("-m session").0, 21);
}

#[test]
fn a_record_may_have_several_sessions() {
    if !has_devices() {
        return;
    }
    let daemon = Daemon::start(LUNETTE, &["ram:4M"]);
    let machine = Machine::new();
    machine.out(&format!("-m discovery -t st -p {} -l", portal(&daemon)));
    let id = machine.out("-m session").split(['[', ']']).nth(1).unwrap().to_owned();
    let out = machine.out(&format!("-m session -r {id} -o new"));
    assert!(out.contains("] (multiple)\n") && out.ends_with(" successful.\n"), "{out}");
    let (mut disks, sessions) = (disks(&machine.out("-m session -P 3")), machine.out("-m session"));
    disks.sort();
    disks.dedup();
    assert_eq!((disks.len(), sessions.lines().count()), (2, 2), "{sessions}");
    machine.out(&format!("-m session -r {id} -u"));
    machine.out("-m node -o update -n node.session.nr_sessions -v 3");
    machine.out("-m node -l");
    assert_eq!(machine.out("-m session").lines().count(), 3);
    machine.out("-m session -u");
    assert_eq!(machine.iscsiadm("-m session").0, 21);
}

#[test]
fn a_login_need_not_be_waited_for() {
    if !has_devices() {
        return;
    }
    let daemon = Daemon::start(LUNETTE, &["ram:4M"]);
    let machine = Machine::new();
    machine.out(&format!("-m discovery -t st -p {}", portal(&daemon)));
    let out = machine.out("-m node -l -W");
    assert!(out.starts_with("Logging in to [iface: default, ") && !out.contains("successful"), "{out}");
    let end = Instant::now() + Duration::from_secs(20);
    while !machine.iscsiadm("-m session -P 3").1.contains("Attached scsi disk ") {
        assert!(Instant::now() < end, "no session came about");
        std::thread::sleep(Duration::from_millis(50));
    }
    machine.out("-m session -u");
}

#[test]
fn of_a_target_with_leading_logins_one_session_is_enough() {
    if !has_devices() {
        return;
    }
    let daemon = Daemon::start(LUNETTE, &["ram:4M"]);
    let machine = Machine::new();
    let dead = sim::daemon::free_address();
    let fields = "node.startup=automatic node.leading_login=Yes";
    for portal in [dead.to_string(), portal(&daemon)] {
        assert_eq!(machine.lunette(&format!("node add {TARGET} {portal} {fields}")).0, 0);
    }
    let (_, out, err) = machine.lunette("boot --wait 20");
    assert!(out.contains(": logged in, /dev/loop"), "{out}{err}");
    assert_eq!(machine.lunette("boot --wait 1").0, 0, "there is one, and that is enough");
    assert_eq!(machine.out("-m session").lines().count(), 1);
    machine.out("-m session -u");
}

#[test]
fn a_mounted_disk_is_not_logged_out() {
    if !has_devices() {
        return;
    }
    let daemon = Daemon::start(LUNETTE, &["ram:16M"]);
    let machine = Machine::new();
    machine.out(&format!("-m discovery -t st -p {} -l", portal(&daemon)));
    let disk = disks(&machine.out("-m session -P 3")).remove(0);
    let mount_point = machine.folder.file("mnt");
    std::fs::create_dir(&mount_point).unwrap();
    let run =
        |program: &str, words: &[&str]| Command::new(program).args(words).output().is_ok_and(|o| o.status.success());
    assert!(run("mkfs.ext4", &["-q", &disk]) && run("mount", &[&disk, &mount_point]));
    let (code, _, err) = machine.iscsiadm("-m node -u");
    let (stop, told, _) = machine.lunette("boot --stop");
    assert!(run("umount", &[&mount_point]));
    assert_eq!(code, 28, "{err}");
    assert!(err.contains("iscsiadm: initiator reported error (28 - device or resource in use)\n"), "{err}");
    assert_eq!(stop, 1, "{told}");
    assert_eq!(machine.iscsiadm("-m node -u").0, 0);
}

#[test]
fn a_logout_ends_though_the_target_is_gone() {
    if !has_devices() {
        return;
    }
    let mut daemon = Daemon::start(LUNETTE, &["ram:4M"]);
    let machine = Machine::new();
    machine.out(&format!("-m discovery -t st -p {} -l", portal(&daemon)));
    daemon.kill();
    let end = Instant::now() + Duration::from_secs(30);
    while !machine.out("-m session -P 1").contains("iSCSI Session State: FAILED") {
        assert!(Instant::now() < end, "nobody noticed");
        std::thread::sleep(Duration::from_millis(50));
    }
    let begin = Instant::now();
    let (code, out, err) = machine.iscsiadm("-m node -u");
    assert!(code == 0 && begin.elapsed() < Duration::from_secs(60), "{code} {:?} {out}{err}", begin.elapsed());
    assert_eq!(machine.iscsiadm("-m session").0, 21);
}

#[test]
fn failures_have_their_codes_and_leave_nothing() {
    let machine = Machine::new();
    std::fs::write(
        machine.root().join("iscsid.conf"),
        "node.session.initial_login_retry_max = 0\ndiscovery.sendtargets.reopen_max = 1\n",
    )
    .unwrap();
    let dead = sim::daemon::free_address();
    let (code, _, err) = machine.iscsiadm(&format!("-m discovery -t st -p {dead}"));
    let refused = "iscsiadm: cannot make connection to 127.0.0.1: Connection refused";
    assert_eq!(code, 11, "{err}");
    assert!(
        err.matches(refused).count() == 2 && err.contains("connection login retries (reopen_max) 1 exceeded"),
        "{err}"
    );
    assert!(err.ends_with("iscsiadm: Could not perform SendTargets discovery: iSCSI PDU timed out\n"), "{err}");
    let (code, _, err) = machine.iscsiadm("-m discovery -t st -p no-such-host.invalid");
    assert_eq!(code, 4, "{err}");
    assert!(err.contains("iscsiadm: cannot resolve host name no-such-host.invalid\n"), "{err}");

    let secret = [("LUNETTE_CHAP_SECRET", "a-secret-of-sixteen")];
    let daemon = Daemon::start_with(LUNETTE, &["ram:1M"], &["--chap", "me"], &secret);
    let portal = portal(&daemon);
    let (code, _, err) = machine.iscsiadm(&format!("-m discovery -t st -p {portal}"));
    assert_eq!(code, 24, "{err}");
    assert!(err.ends_with("discovery: iSCSI login failed due to authorization failure\n"), "{err}");
    if !has_devices() {
        return;
    }
    machine.out(&format!("-m node -T {TARGET} -p {portal} -o new"));
    machine.out("-m node -o update -n node.session.auth.authmethod -v CHAP -n node.session.auth.username -v me -n node.session.auth.password -v wrongwrongwrong");
    let (code, _, err) = machine.iscsiadm("-m node -l");
    assert_eq!(code, 24, "{err}");
    assert!(err.starts_with("iscsiadm: Could not login to [iface: default, target: "), "{err}");
    assert!(
        err.contains("(24 - iSCSI login failed due to authorization failure)") && !err.contains("wrongwrong"),
        "{err}"
    );
    machine.out("-m node -o update -n node.session.auth.password -v a-secret-of-sixteen");
    machine.out("-m node -l");
    assert!(machine.out("-m session -P 2 -S").contains("\t\tusername: me\n\t\tpassword: a-secret-of-sixteen\n"));
    machine.out("-m node -u");
    machine.out(&format!("-m node -T iqn.2026-11.com.example:none -p {portal} -o new"));
    machine.out("-m node -T iqn.2026-11.com.example:none -o update -n node.session.auth.authmethod -v None");
    let (code, _, err) = machine.iscsiadm("-m node -T iqn.2026-11.com.example:none -l");
    assert!(code == 19 || code == 24, "{code} {err}");
    assert_eq!(machine.iscsiadm("-m session").0, 21);
    let left = std::fs::read_dir(machine.folder.path().join("attached")).into_iter().flatten().flatten();
    let left: Vec<_> = left.filter(|entry| entry.path().is_dir()).collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn an_isns_server_that_is_not_there_is_25() {
    let machine = Machine::new();
    let (code, _, err) = machine.iscsiadm(&format!("-m discovery -t isns -p {}", sim::daemon::free_address()));
    assert_eq!(code, 25, "{err}");
    assert!(err.ends_with("iscsiadm: Could not perform iSNS discovery: iSNS query failed\n"), "{err}");
    assert!(machine.out("-m discovery").ends_with(" via isns\n"));
}

#[test]
fn records_are_shown_set_and_deleted_by_lunette_node() {
    let machine = Machine::new();
    assert_eq!(machine.lunette("node list"), (0, String::new(), String::new()));
    assert_eq!(machine.lunette("node show iqn.a").0, 5);
    assert_eq!(machine.lunette("node add iqn.a 10.0.0.1,3 node.startup=never").0, 2);
    assert_eq!(machine.lunette("node add iqn.a 10.0.0.1,3 node.session.auth.password=secretsecret").0, 0);
    assert_eq!(machine.lunette("node add iqn.a [fe80::1]:99 ").0, 0);
    assert_eq!(machine.lunette("node set iqn.a node.startup=automatic node.bogus=1").0, 2);
    assert_eq!(machine.lunette("node set iqn.a node.startup=automatic --portal 10.0.0.1").0, 0);
    let (_, table, _) = machine.lunette("node list");
    assert_eq!(
        table,
        "TARGET  PORTAL         IFACE    STARTUP    SESSION  DEVICES\n\
         iqn.a   10.0.0.1:3260  default  automatic  -\n\
         iqn.a   [fe80::1]:99   default  manual     -\n"
    );
    let shown = machine.json("node show iqn.a --portal 10.0.0.1 --json");
    let node = &shown["nodes"][0];
    assert_eq!((node["portal_group_tag"].as_i64(), node["startup"].as_str()), (Some(3), Some("automatic")), "{shown}");
    assert_eq!(node["fields"]["node.session.auth.password"], "********");
    let shown = machine.json("node show iqn.a --portal 10.0.0.1 --json --secrets");
    assert_eq!(shown["nodes"][0]["fields"]["node.session.auth.password"], "secretsecret");
    assert_eq!(machine.lunette("node delete").0, 2, "all of them must be said");
    assert_eq!(machine.json("node delete iqn.a --json")["deleted"].as_array().map(Vec::len), Some(2));
    assert_eq!(machine.iscsiadm("-m node").0, 21);
}

#[test]
fn old_names_lead_to_old_programs() {
    let machine = Machine::new();
    assert_eq!(machine.iscsiadm("-V"), (0, "iscsiadm version 2.1.8\n".into(), String::new()));
    let (code, _, err) = machine.lunette("iscsiadm -m node -x 1");
    assert_eq!((code, err.as_str()), (7, "iscsiadm: node mode: option '-x' is not allowed/supported\n"));
    let (code, out, _) = machine.lunette("iscsiadm --like 6.2.0-873 --version");
    assert_eq!((code, out.as_str()), (0, "iscsiadm version 6.2.0-873.10.el6\n"));
    assert!(machine.lunette("iscsiadm --help").1.starts_with("iscsiadm -m discoverydb "));
    let (code, name, _) = parts(machine.command("iscsi-iname", "-p iqn.2026-11.com.example"));
    assert!(code == 0 && name.starts_with("iqn.2026-11.com.example:") && name.trim_end().len() == 24 + 12, "{name}");
    assert_eq!(parts(machine.command("iscsi-gen-initiatorname", "")).0, 0);
    let first = std::fs::read_to_string(machine.root().join("initiatorname.iscsi")).unwrap();
    assert_eq!(parts(machine.command("iscsi-gen-initiatorname", "-p iqn.b")).0, 0);
    assert_eq!(std::fs::read_to_string(machine.root().join("initiatorname.iscsi")).unwrap(), first, "it has a name");
    assert_eq!(parts(machine.command("iscsi-gen-initiatorname", "-f -p iqn.b")).0, 0);
    let other = std::fs::read_to_string(machine.root().join("initiatorname.iscsi")).unwrap();
    assert!(other.contains("\nInitiatorName=iqn.b:"), "{other}");
}
