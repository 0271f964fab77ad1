//! Our commands against other people's: tgt as the target, qemu-img as the one who copies.

use super::Outcome;
use super::served::{self, Served, command, succeeds};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// tgt's control port, away from that of a daemon that may run here.
const CONTROL: &str = "78";
pub(super) const TARGET: &str = "iqn.2026-11.com.example:tgt";

pub fn run(root: &Path, outcome: &mut Outcome) {
    if let Err(why) = try_run(root, outcome) {
        outcome.count("set-up", Err(why));
    }
}

fn try_run(root: &Path, outcome: &mut Outcome) -> Result<(), String> {
    let lunette = served::build(root)?;
    let ours = Served::start(&lunette, "commands", &["disk.img,size=96M"], &["--listen", "127.0.0.1:0"])?;
    let program = lunette.display().to_string();
    let lunette = |words: &[&str]| succeeds(120, &program, words);
    let place = |name: &str| ours.folder.join(name).display().to_string();
    let image = place("source.img");
    succeeds(20, "qemu-img", &["create", "-q", "-f", "raw", &image, "64M"])?;
    for write in
        ["write -P 0x5a 0 7M", "write -P 0xa5 20M 1M", "write -P 3 33554433 65537", "write -P 0x11 67108608 256"]
    {
        succeeds(20, "qemu-io", &["-f", "raw", "-c", write, &image])?;
    }
    let tgt = Tgt::start(&ours.folder)?;
    let url = format!("iscsi://{}/{TARGET}/1", tgt.portal);
    let says = |words: &[&str], what: &str| match lunette(words) {
        Ok(text) if text.contains(what) => Ok(()),
        Ok(text) => Err(format!("{what} is not in: {text}")),
        Err(why) => Err(why),
    };
    outcome.count("discover finds tgt's target", says(&["discover", &tgt.portal], TARGET));
    outcome.count("ls shows tgt's disk", says(&["ls", &tgt.portal], "VIRTUAL-DISK"));
    outcome.count("ls gives its URL", says(&["ls", "--urls", &tgt.portal], &url));
    outcome.count("inquiry decodes tgt's pages", says(&["inquiry", &url], "VPD page b2h"));
    outcome.count("capacity of tgt's disk", says(&["capacity", "--bytes", &url], "67108864"));
    outcome.count("ping reaches tgt", says(&["ping", "-c", "3", "-i", "0", &url], "3 answered"));
    outcome.count("reserve registers at tgt", says(&["reserve", "register", &url, "--key", "7"], "0x7"));
    // tgt takes each session for another initiator port: what one run registered, another sees and cannot use.
    outcome.count("another run sees the registration at tgt", says(&["reserve", "keys", &url], "0x7"));
    let equal =
        |one: &str, other: &str| succeeds(60, "qemu-img", &["compare", "-f", "raw", "-F", "raw", one, other]).map(drop);
    let copied = |words: &[&str], one: &str, other: &str| {
        lunette(&[&["copy", "--quiet"], words].concat()).and_then(|_| equal(one, other))
    };
    outcome.count("copy to tgt", copied(&[&image, &url, "--verify"], &image, &tgt.file));
    outcome.count("copy from tgt", copied(&[&url, &place("back.img")], &image, &place("back.img")));
    let disk = ours.url(1);
    outcome.count("copy from tgt to Lunette", copied(&[&url, &disk], &image, &disk));
    let convert = ["convert", "-f", "raw", "-O", "raw", &disk, &place("theirs.img")];
    let theirs = succeeds(60, "qemu-img", &convert);
    let both = theirs.and_then(|_| copied(&[&disk, &place("ours.img")], &place("ours.img"), &place("theirs.img")));
    outcome.count("copy and qemu-img convert make the same of the same disk", both);
    Ok(())
}

/// tgtd with a disk of 64 MiB, ended when it is dropped.
pub(super) struct Tgt {
    child: Child,
    pub portal: String,
    file: String,
}

impl Tgt {
    pub fn start(folder: &Path) -> Result<Tgt, String> {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").map_err(|error| error.to_string())?;
        let portal = listener.local_addr().map_err(|error| error.to_string())?.to_string();
        drop(listener);
        // Where it has its socket for tgtadm.
        let _ = std::fs::create_dir_all("/run/tgtd");
        let program = ["/usr/sbin/tgtd", "/sbin/tgtd"].iter().map(PathBuf::from).find(|path| path.is_file());
        let child = Command::new(program.ok_or("there is no tgtd")?)
            .args(["-f", "-C", CONTROL, "--iscsi", &format!("portal={portal}")])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|error| format!("tgtd: {error}"))?;
        let file = folder.join("tgt.img").display().to_string();
        let tgt = Tgt { child, portal, file };
        std::fs::File::create(&tgt.file).and_then(|file| file.set_len(64 << 20)).map_err(|error| error.to_string())?;
        let end = Instant::now() + Duration::from_secs(10);
        while !command(5, "tgtadm", &["-C", CONTROL, "--lld", "iscsi", "--mode", "target", "--op", "show"]).0 {
            if Instant::now() > end {
                return Err("tgtd does not answer".into());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        let tgtadm = |words: &[&str]| succeeds(20, "tgtadm", &[&["-C", CONTROL, "--lld", "iscsi"], words].concat());
        tgtadm(&["--mode", "target", "--op", "new", "--tid", "1", "-T", TARGET])?;
        tgtadm(&["--mode", "logicalunit", "--op", "new", "--tid", "1", "--lun", "1", "-b", &tgt.file])?;
        tgtadm(&["--mode", "target", "--op", "bind", "--tid", "1", "-I", "ALL"])?;
        Ok(tgt)
    }
}

impl Drop for Tgt {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
