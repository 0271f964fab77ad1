//! The peers that suites need: which are there, and how to get the others.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Command, Stdio};

/// A command with the Debian package that has it.
const PACKAGES: &[(&str, &str)] = &[
    ("iscsi-ls", "libiscsi-bin"),
    ("iscsi-inq", "libiscsi-bin"),
    ("iscsi-readcapacity16", "libiscsi-bin"),
    ("iscsi-perf", "libiscsi-bin"),
    ("iscsi-test-cu", "libiscsi-bin"),
    ("qemu-img", "qemu-utils"),
    ("qemu-io", "qemu-utils"),
    ("qemu-system-x86_64", "qemu-system-x86"),
    ("tgtd", "tgt"),
    ("tgtadm", "tgt"),
    ("tshark", "tshark"),
    ("tmux", "tmux"),
    ("cpio", "cpio"),
    ("zstd", "zstd"),
    ("mkfs.ext4", "e2fsprogs"),
    ("ss", "iproute2"),
    ("valgrind", "valgrind"),
    ("c++", "g++"),
    ("dpkg-deb", "dpkg"),
    ("groff", "groff"),
    ("lintian", "lintian"),
    ("mmdebstrap", "mmdebstrap"),
    ("rpmbuild", "rpm"),
    ("systemd-analyze", "systemd"),
    ("unshare", "util-linux"),
    ("python3", "python3-venv"),
];

/// Where the block driver of qemu-img for iscsi:// lies, which is a module of its own package.
const QEMU_ISCSI: &[&str] = &[
    "/usr/lib/x86_64-linux-gnu/qemu/block-iscsi.so",
    "/usr/lib/aarch64-linux-gnu/qemu/block-iscsi.so",
    "/usr/lib/qemu/block-iscsi.so",
];

/// The commands of these that are not there. qemu-img without its iSCSI driver is not there.
pub fn missing<'a>(needs: &[&'a str]) -> Vec<&'a str> {
    needs.iter().copied().filter(|command| !is_here(command)).collect()
}

fn is_here(command: &str) -> bool {
    let path = std::env::var("PATH").unwrap_or_default();
    let found = path
        .split(':')
        .chain(["/usr/sbin", "/sbin"])
        .any(|folder| !folder.is_empty() && Path::new(folder).join(command).is_file());
    found && (command != "qemu-img" || QEMU_ISCSI.iter().any(|module| Path::new(module).is_file()))
}

/// One line: what is missing and how to get it.
pub fn remedy(missing: &[&str]) -> String {
    let packages = packages(missing).into_iter().collect::<Vec<_>>().join(" ");
    format!("not run: {} missing; on Debian or Ubuntu: apt-get install {packages}", missing.join(", "))
}

fn packages(missing: &[&str]) -> BTreeSet<&'static str> {
    let mut packages: BTreeSet<_> =
        PACKAGES.iter().filter(|(command, _)| missing.contains(command)).map(|(_, package)| *package).collect();
    if packages.contains("qemu-utils") {
        packages.insert("qemu-block-extra");
    }
    packages
}

/// Installs what is missing where that is possible: as root, on a system with apt-get. What could not be
/// had is said later, by the suites that need it.
pub fn install(needs: &[&str]) {
    let missing = missing(needs);
    let wanted = packages(&missing);
    if wanted.is_empty() || !is_here("apt-get") || !is_root() {
        return;
    }
    println!("== set-up: installing {}", wanted.iter().copied().collect::<Vec<_>>().join(" "));
    let update = || apt(&["update", "-qq"]);
    let install = |from: &[&str]| {
        let mut words = vec!["install", "-y", "-qq", "--no-install-recommends"];
        words.extend(from);
        words.extend(wanted.iter().copied());
        apt(&words)
    };
    let _ = update();
    if install(&[]) {
        return;
    }
    // A machine that already has QEMU from the backports can only get its modules from there.
    let Some(release) = codename() else { return };
    let backports = format!("{release}-backports");
    let list = "/etc/apt/sources.list.d/lunette-backports.list";
    if !Path::new(list).exists() {
        println!("   adding {backports} in {list}");
        let _ = std::fs::write(list, format!("deb http://deb.debian.org/debian {backports} main\n"));
    }
    let _ = update();
    install(&["-t", &backports]);
}

fn apt(words: &[&str]) -> bool {
    Command::new("apt-get")
        .args(words)
        .env("DEBIAN_FRONTEND", "noninteractive")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

fn is_root() -> bool {
    let output = Command::new("id").arg("-u").output();
    output.is_ok_and(|output| output.stdout.trim_ascii() == b"0")
}

/// Debian's name for its release; `None` elsewhere.
fn codename() -> Option<String> {
    let text = std::fs::read_to_string("/etc/os-release").ok()?;
    let value = |key: &str| text.lines().find_map(|line| line.strip_prefix(key)).map(|value| value.trim_matches('"'));
    (value("ID=") == Some("debian")).then(|| value("VERSION_CODENAME="))?.map(str::to_owned)
}
