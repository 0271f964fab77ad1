//! The old commands with the real binary: the server half of the walk-through as written, and what tgt's users rely on.

use sim::daemon::Folder;
use sim::raw::{Client, Command as Scsi, Login};
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// A tgtd with its commands, each by its old name.
struct Tgt {
    folder: Folder,
    child: Child,
    port: u16,
}

impl Tgt {
    fn start() -> Tgt {
        let folder = Folder::new();
        for name in ["tgtd", "tgtadm", "tgt-admin", "tgtimg", "tgt-setup-lun"] {
            symlink(env!("CARGO_BIN_EXE_lunette"), folder.path().join(name)).unwrap();
        }
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        drop(listener);
        let child = Command::new(folder.path().join("tgtd"))
            .args(["-f", "-C", "7", "--iscsi", &format!("portal=127.0.0.1:{port}")])
            .env("TGT_IPC_SOCKET", folder.path().join("socket"))
            .env("XDG_STATE_HOME", folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let tgt = Tgt { folder, child, port };
        let end = Instant::now() + Duration::from_secs(30);
        while !tgt.run("tgtadm", "--mode system --op show").status.success() {
            assert!(Instant::now() < end, "tgtd does not answer");
            std::thread::sleep(Duration::from_millis(20));
        }
        tgt
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A file of this size, by its path.
    fn image(&self, name: &str, size: u64) -> String {
        let path = self.path(name);
        std::fs::File::create(&path).unwrap().set_len(size).unwrap();
        path.display().to_string()
    }

    fn run(&self, program: &str, line: &str) -> Output {
        let words = line.split_whitespace();
        Command::new(self.path(program))
            .args(if program == "tgtimg" { &[][..] } else { &["-C", "7"] })
            .args(words)
            .env("TGT_IPC_SOCKET", self.path("socket"))
            .env("LUNETTE_TGTADM_LIKE", "")
            .stdin(Stdio::null())
            .output()
            .unwrap()
    }

    /// What a command prints that succeeds.
    fn good(&self, program: &str, line: &str) -> String {
        let output = self.run(program, line);
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        assert!(output.status.success(), "{program} {line}: {}{}", text(&output.stdout), text(&output.stderr));
        text(&output.stdout)
    }

    fn adm(&self, line: &str) -> String {
        self.good("tgtadm", line)
    }

    /// Its code, and what it says.
    fn bad(&self, line: &str) -> (i32, String) {
        let output = self.run("tgtadm", line);
        (output.status.code().unwrap_or(-1), String::from_utf8_lossy(&output.stderr).into_owned())
    }
}

impl Drop for Tgt {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// features.md 4.1.3 with the walk-through's target, of which only the path is another.
const LISTING: &str = "\
Target 1: iqn.2014-09.com.example:target1
    System information:
        Driver: iscsi
        State: ready
    I_T nexus information:
    LUN information:
        LUN: 0
            Type: controller
            SCSI ID: IET     00010000
            SCSI SN: beaf10
            Size: 0 MB, Block size: 1
            Online: Yes
            Removable media: No
            Prevent removal: No
            Readonly: No
            SWP: No
            Thin-provisioning: No
            Backing store type: null
            Backing store path: None
            Backing store flags:_
        LUN: 1
            Type: disk
            SCSI ID: IET     00010001
            SCSI SN: beaf11
            Size: 5369 MB, Block size: 512
            Online: Yes
            Removable media: No
            Prevent removal: No
            Readonly: No
            SWP: No
            Thin-provisioning: No
            Backing store type: rdwr
            Backing store path: PATH
            Backing store flags:_
    Account information:
    ACL information:
        ALL
";

#[test]
fn the_server_half_of_the_walk_through_works_as_written() {
    let tgt = Tgt::start();
    let work = tgt.image("work", 5 << 30);
    let conf = tgt.path("targets.conf");
    let text = format!("<target iqn.2014-09.com.example:target1>\nbacking-store {work}\n</target>\n");
    std::fs::write(&conf, format!("default-driver iscsi\n{text}")).unwrap();
    let execute = format!("-e -c {}", conf.display());
    tgt.good("tgt-admin", &execute);
    let expected = LISTING.replace("PATH", &work).replace(":_", ": ");
    assert_eq!(tgt.adm("--mode target --op show"), expected);
    assert_eq!(tgt.good("tgt-admin", "--show"), expected);
    let output = Command::new(tgt.path("tgtadm"))
        .args(["--like", "1.0.24", "-C", "7", "--mode", "target", "--op", "show"])
        .env("TGT_IPC_SOCKET", tgt.path("socket"))
        .output()
        .unwrap();
    let newer = |line: &&str| !line.contains("SWP:") && !line.contains("Thin-provisioning:");
    let older: Vec<&str> = expected.lines().filter(newer).collect();
    assert_eq!(String::from_utf8(output.stdout).unwrap(), older.join("\n") + "\n");
    // Once more changes nothing, and an update neither.
    tgt.good("tgt-admin", &execute);
    tgt.good("tgt-admin", &format!("--update ALL -c {}", conf.display()));
    assert_eq!(tgt.adm("--mode target --op show"), expected);
}

#[test]
fn an_initiator_reads_what_the_listing_says_and_a_target_in_use_is_not_deleted() {
    let tgt = Tgt::start();
    let image = tgt.image("a.img", 64 << 20);
    tgt.adm("--lld iscsi --mode target --op new --tid 1 -T iqn.2026-11.com.example:a");
    tgt.adm(&format!("--mode logicalunit --op new --tid 1 --lun 1 -b {image}"));
    tgt.adm(
        "--mode logicalunit --op update --tid 1 --lun 1 -P vendor_id=ACME,product_id=Fast,product_rev=0042,scsi_sn=S7",
    );
    tgt.adm("--mode target --op bind --tid 1 -I 127.0.0.1");
    let url = format!("iscsi://127.0.0.1:{}/iqn.2026-11.com.example:a/1", tgt.port);
    let lunette = |words: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_lunette")).args(words).output().unwrap();
        assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let pages = lunette(&["inquiry", &url]);
    for said in ["ACME", "Fast", "0042", "S7", "t10.IET     00010001"] {
        assert!(pages.contains(said), "{said}: {pages}");
    }
    // A session that stays: its connection is listed, and its target is active.
    let mut perf = Command::new(env!("CARGO_BIN_EXE_lunette"))
        .args(["ping", "-c", "1000", "-i", "0.05", &url])
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let end = Instant::now() + Duration::from_secs(20);
    while !tgt.adm("--mode conn --op show --tid 1").contains("IP Address: 127.0.0.1") {
        assert!(Instant::now() < end, "the session is not listed");
        std::thread::sleep(Duration::from_millis(50));
    }
    let (code, said) = tgt.bad("--mode target --op delete --tid 1");
    assert!(code == 22 && said.starts_with("tgtadm: this target is still active\n"), "{said}");
    let listing = tgt.adm("--mode target --op show");
    assert!(listing.contains("        I_T nexus: ") && listing.contains("            Connection: "), "{listing}");
    tgt.adm("--mode target --op delete --force --tid 1");
    assert_eq!(tgt.adm("--mode target --op show"), "");
    let _ = perf.kill();
    let _ = perf.wait();
}

/// features.md 4.1.4: what each session did at each LUN, and nothing of one that is not there.
#[test]
fn what_each_session_did_at_each_lun_is_told() {
    const HEADING: &str =
        "tgt lun sid rd_subm(bytes,cmds) rd_done(bytes,cmds) wr_subm(bytes,cmds) wr_done(bytes,cmds) errs";
    let tgt = Tgt::start();
    let images = [tgt.image("a.img", 1 << 20), tgt.image("b.img", 1 << 20)];
    tgt.adm("--lld iscsi --mode target --op new --tid 1 -T iqn.2026-11.com.example:a");
    tgt.adm("--lld iscsi --mode target --op new --tid 2 -T iqn.2026-11.com.example:b");
    tgt.adm("--mode target --op bind --tid 1 -I ALL");
    for (lun, image) in [1, 2].into_iter().zip(&images) {
        tgt.adm(&format!("--mode logicalunit --op new --tid 1 --lun {lun} -b {image}"));
    }
    let stat = |line: &str| -> Vec<String> {
        let told = tgt.adm(line);
        let mut lines = told.lines().map(str::to_owned);
        assert_eq!(lines.next().as_deref(), Some(HEADING), "{line}");
        lines.collect()
    };
    assert_eq!(stat("--mode target --op stat --tid 1"), [""; 0]);
    let log_in = |isid: u8| {
        let mut client = Client::connect(([127, 0, 0, 1], tgt.port).into());
        client.login(&Login { isid: [0x40, 0, 0, 1, 0, isid], ..Login::normal("iqn.2026-11.com.example:a") });
        let attentions = client.take_attentions().len();
        (client, attentions)
    };
    let ((mut one, first), (mut other, second)) = (log_in(1), log_in(2));
    one.good(&Scsi::read(0, 8));
    one.good(&Scsi::read(8, 4));
    one.good(&Scsi::write(0, &[7; 1024]));
    assert!(!one.execute(&Scsi::read(1 << 20, 1)).is_good(), "behind the end");
    other.good(&Scsi::write(0, &[7; 2048]));
    let row = |lun: u16, sid: u16, [read, reads, written, writes]: [u32; 4], failed: u32, errors: usize| {
        format!(
            "{:>3} {lun:>3} {sid:>3} {read:>12} {:>6} {read:>12} {reads:>6} {written:>12} {writes:>6} \
             {written:>12} {writes:>6} {errors:>4}",
            1,
            reads + failed,
        )
    };
    let rows = [row(1, 1, [6144, 2, 1024, 1], 1, first + 1), row(1, 2, [0, 0, 2048, 1], 0, second)];
    assert_eq!(stat("--mode logicalunit --op stat --tid 1 --lun 1"), rows);
    for whole in ["--mode target --op stat --tid 1", "--mode system --op stat"] {
        let told = stat(whole);
        assert_eq!(told.iter().filter(|line| line.starts_with("  1   1 ")).collect::<Vec<_>>(), [&rows[0], &rows[1]]);
    }
    let told = stat("--mode session --op stat --tid 1 --sid 2");
    assert!(told[0] == rows[1] && !told.contains(&rows[0]), "{told:?}");
    let behind = told.iter().position(String::is_empty).expect("an empty line");
    let connections = "sid cid rxdata_octets txdata_octets dataout_pdus datain_pdus cmd_pdus rsp_pdus";
    assert_eq!(told[behind + 1], connections);
    assert_eq!(stat("--mode target --op stat --tid 2"), [""; 0]);
}

#[test]
fn a_name_restricts_offline_refuses_and_the_end_is_clean() {
    let mut tgt = Tgt::start();
    let image = tgt.image("a.img", 64 << 20);
    let conf = tgt.path("targets.conf");
    let text = format!(
        "<target iqn.2026-11.com.example:a>\nbacking-store {image}\ninitiator-name iqn.2026-11.com.example:me\n</target>\n"
    );
    std::fs::write(&conf, text).unwrap();
    tgt.good("tgt-admin", &format!("-e -c {}", conf.display()));
    let listing = tgt.adm("--mode target --op show");
    assert!(listing.ends_with("    ACL information:\n        iqn.2026-11.com.example:me\n"), "{listing}");
    let login = |tgt: &Tgt, name: &str| {
        let url = format!("iscsi://127.0.0.1:{}/iqn.2026-11.com.example:a/1", tgt.port);
        let words = ["capacity", "--timeout", "3", "--initiator-name", name, &url];
        let output = Command::new(env!("CARGO_BIN_EXE_lunette")).args(words).output().unwrap();
        (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    assert!(!login(&tgt, "iqn.2026-11.com.example:other").0, "a name alone restricts, unlike with tgt");
    assert!(login(&tgt, "iqn.2026-11.com.example:me").0);
    for (off, on) in [
        ("--mode system --op update --name State -v offline", "--mode system --op update --name State -v ready"),
        (
            "--mode target --op update --tid 1 -n state -v offline",
            "--mode target --op update --tid 1 -n state -v ready",
        ),
    ] {
        tgt.adm(off);
        let (succeeded, why) = login(&tgt, "iqn.2026-11.com.example:me");
        assert!(!succeeded, "{off}: {why}");
        tgt.adm(on);
        assert!(login(&tgt, "iqn.2026-11.com.example:me").0, "{on}");
    }
    let (code, said) = tgt.bad("--mode system --op delete");
    assert!(code == 22 && said.starts_with("tgtadm: invalid request\n"), "{said}");
    tgt.good("tgt-admin", "--delete ALL");
    tgt.adm("--mode system --op delete");
    let end = Instant::now() + Duration::from_secs(20);
    while tgt.child.try_wait().unwrap().is_none() {
        assert!(Instant::now() < end, "tgtd does not end");
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(tgt.child.wait().unwrap().success());
    let (code, said) = tgt.bad("--mode target --op show");
    let line = "tgtadm: failed to send request hdr to tgt daemon, Transport endpoint is not connected\n";
    assert_eq!((code, said.as_str()), (107, line));
}

#[test]
fn what_is_dumped_makes_the_same_again() {
    let tgt = Tgt::start();
    let (one, two) = (tgt.image("a.img", 64 << 20), tgt.image("b,c.img", 32 << 20));
    for line in [
        "--mode account --op new --user alice --password alice-secret-1".to_owned(),
        "--mode account --op new --user host --password host#secret-12".to_owned(),
        "--mode target --op new --tid 4 -T iqn.2026-11.com.example:a".to_owned(),
        format!("--mode lu --op new --tid 4 --lun 3 -b {one} -y 4096"),
        format!("--mode lu --op new --tid 4 --lun 5 -b {two}"),
        "--mode lu --op update --tid 4 --lun 3 -P readonly=1,vendor_id=ACME".to_owned(),
        "--mode account --op bind --tid 4 --user alice".to_owned(),
        "--mode account --op bind --tid 4 --user host --outgoing".to_owned(),
        "--mode target --op bind --tid 4 -I 192.0.2.0/24".to_owned(),
    ] {
        tgt.adm(&line);
    }
    let listing = tgt.adm("--mode target --op show");
    let dumped = tgt.good("tgt-admin", "--dump");
    assert!(dumped.contains("\tincominguser alice alice-secret-1\n"), "{dumped}");
    let conf = tgt.path("dumped.conf");
    std::fs::write(&conf, dumped).unwrap();
    tgt.good("tgt-admin", "--delete ALL");
    tgt.adm("--mode account --op delete --user alice");
    tgt.adm("--mode account --op delete --user host");
    tgt.good("tgt-admin", &format!("-e -c {}", conf.display()));
    assert_eq!(tgt.adm("--mode target --op show"), listing);
}

#[test]
fn tgtimg_makes_files_and_tgt_setup_lun_a_target_with_one() {
    let tgt = Tgt::start();
    let file = tgt.path("new.img").display().to_string();
    let made = tgt.good(
        "tgtimg",
        &format!("--op new --device-type disk --type disk --size 16 --file {file} --thin-provisioning"),
    );
    assert_eq!(made, format!("Created blank DISK image file : {file}\n"));
    let said = tgt.good("tgt-setup-lun", &format!("-n iqn.2026-11.com.example:s -d {file} 127.0.0.1"));
    assert!(said.contains("Creating new target (name=iqn.2026-11.com.example:s, tid=1)\n"), "{said}");
    let listing = tgt.adm("--mode target --op show");
    assert!(listing.contains("Size: 17 MB, Block size: 512") && listing.ends_with("        127.0.0.1\n"), "{listing}");
}
