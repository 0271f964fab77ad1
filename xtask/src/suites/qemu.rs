//! QEMU over iscsi://: an image to the disk and back, equal; a machine that boots from a CD.

use super::Outcome;
use super::image;
use super::served::{self, Served, command, succeeds};
use std::path::Path;
use std::process::{Command, Stdio};

/// What the program on the CD says.
const LINE: &str = "booted from a CD over iSCSI";

pub fn run(root: &Path, outcome: &mut Outcome) {
    if let Err(why) = try_run(root, outcome) {
        outcome.count("set-up", Err(why));
    }
}

fn try_run(root: &Path, outcome: &mut Outcome) -> Result<(), String> {
    let binary = served::build(root)?;
    let served = Served::start(&binary, "qemu", &["disk.img,size=96M"], &["--listen", "127.0.0.1:0"])?;
    let url = served.url(1);
    let place = |name: &str| served.folder.join(name).display().to_string();
    let (source, back) = (place("source.qcow2"), place("back.qcow2"));
    succeeds(20, "qemu-img", &["create", "-q", "-f", "qcow2", &source, "96M"])?;
    // Data, data of another kind, holes, and the last blocks.
    let writes =
        ["write -P 0x5a 0 7M", "write -P 0xa5 20M 1M", "write -P 3 33554433 65537", "write -P 0x11 100663040 256"];
    for write in writes {
        succeeds(20, "qemu-io", &["-f", "qcow2", "-c", write, &source])?;
    }
    let there = succeeds(120, "qemu-img", &["convert", "-n", "-f", "qcow2", "-O", "raw", &source, &url]);
    outcome.count("qemu-img convert to the disk", there.map(|_| ()));
    let returned = succeeds(120, "qemu-img", &["convert", "-f", "raw", "-O", "qcow2", &url, &back]);
    outcome.count("qemu-img convert from the disk", returned.map(|_| ()));
    outcome.count("what came back is what went", succeeds(120, "qemu-img", &["compare", &source, &back]).map(|_| ()));
    let direct = succeeds(120, "qemu-img", &["compare", "-f", "raw", "-F", "raw", &url, &place("disk.img")]);
    outcome.count("the file behind the disk is the disk", direct.map(|_| ()));
    let discard = ["-f", "raw", "-c", "discard 0 1M", "-c", "read -P 0 0 1M", "-c", "read -P 0x5a 1M 6M", &url];
    outcome.count("discarded blocks read as zeros", succeeds(60, "qemu-io", &discard).map(|_| ()));
    drop(served);
    boot(&binary, outcome)
}

/// A machine without a disk, whose BIOS boots from an image.
fn boot(binary: &Path, outcome: &mut Outcome) -> Result<(), String> {
    if !command(20, "qemu-system-x86_64", &["--version"]).0 {
        outcome.notes.push("not run: booting from a CD: there is no qemu-system-x86_64".into());
        return Ok(());
    }
    let folder = std::env::temp_dir().join(format!("lunette-image-{}", std::process::id()));
    std::fs::create_dir_all(&folder).map_err(|error| error.to_string())?;
    let image = folder.join("installer.iso");
    std::fs::write(&image, image::bootable(LINE)).map_err(|error| error.to_string())?;
    let booted = Served::start(binary, "boot", &["ram:8M", &image.display().to_string()], &["--listen", "127.0.0.1:0"])
        .and_then(|served| machine(&served.url(2)));
    outcome.count("a machine boots from a CD", booted);
    let _ = std::fs::remove_dir_all(&folder);
    Ok(())
}

fn machine(url: &str) -> Result<(), String> {
    let drive = format!("file={url},format=raw,media=cdrom,readonly=on");
    let output = Command::new("timeout")
        .args(["60", "qemu-system-x86_64", "-accel", "tcg", "-m", "32", "-nodefaults", "-display", "none"])
        .args(["-serial", "stdio", "-device", "isa-debug-exit,iobase=0xf4,iosize=1", "-boot", "d", "-drive", &drive])
        .stdin(Stdio::null())
        .output()
        .map_err(|error| error.to_string())?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    match said.contains(LINE) && output.status.code() == Some(image::EXIT_STATUS) {
        true => Ok(()),
        false => Err(format!("{}; it said: {said} {}", output.status, String::from_utf8_lossy(&output.stderr))),
    }
}
