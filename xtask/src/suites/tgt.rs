//! The old commands beside their originals: the same lines of tgtadm to tgt's daemon and to ours, by text and exit code.

use super::Outcome;
use super::served;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// tgt's control port, away from that of a daemon that may run here.
const CONTROL: &str = "79";

/// Lines for both. `DIR` is a folder of each with the images a.img (64 MiB) and b.img (32 MiB), `PORT` and `PORT2` are
/// ports. A line that begins with `!` is answered otherwise on purpose: docs/tgt.md says why, and here that it is.
const LINES: &str = include_str!("tgt-lines.txt");

pub fn run(root: &Path, outcome: &mut Outcome) {
    if let Err(why) = try_run(root, outcome) {
        outcome.count("set-up", Err(why));
    }
}

fn try_run(root: &Path, outcome: &mut Outcome) -> Result<(), String> {
    let lunette = served::build(root)?;
    let folder = root.join("target/tgt-suite");
    let _ = std::fs::remove_dir_all(&folder);
    words(outcome, &lunette, &folder)?;
    let real = Side::start(&folder.join("real"), Path::new("/usr/sbin/tgtd"), Path::new("/usr/sbin/tgtadm"))?;
    let ours = {
        let bin = folder.join("bin");
        std::fs::create_dir_all(&bin).map_err(|error| error.to_string())?;
        for name in ["tgtd", "tgtadm"] {
            std::os::unix::fs::symlink(&lunette, bin.join(name)).map_err(|error| error.to_string())?;
        }
        Side::start(&folder.join("ours"), &bin.join("tgtd"), &bin.join("tgtadm"))?
    };
    for line in LINES.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let (differs, line) = line.strip_prefix('!').map_or((false, line), |line| (true, line.trim()));
        let (theirs, own) = (real.run(line)?, ours.run(line)?);
        let result = match (theirs == own, differs) {
            (true, false) | (false, true) => Ok(()),
            (true, true) => Err("is answered alike, and said to differ".to_owned()),
            (false, false) => Err(format!("tgt: {theirs:?}\n        ours: {own:?}")),
        };
        outcome.count(line, result);
    }
    Ok(())
}

/// Command lines that ask no daemon: what is said of each, and the code.
fn words(outcome: &mut Outcome, lunette: &Path, folder: &Path) -> Result<(), String> {
    let modes = ["system", "target", "logicalunit", "portal", "session", "connection", "account", "lld"];
    let operations = ["new", "delete", "bind", "unbind", "show", "update", "stat", "start", "stop"];
    let tails = [
        "",
        "--tid 1",
        "--tid 1 --lun 1",
        "--tid 1 -T iqn.a",
        "--user a",
        "--name a --value b",
        "--tid 1 -I ALL",
        "--param portal=1.2.3.4",
        "--tid 1 --sid 1 --cid 0",
        "--tid 1 --lun 1 -Y tape",
        "--user a --password b extra",
        "--tid 1 --lun 1 -b x -E a -f b -y 4096 -S c",
        "--outgoing",
        "--force",
        "-x",
        "--nosuch",
        "--tid",
    ];
    let socket = folder.join("nobody").display().to_string();
    let said = |program: &Path, first: &[&str], line: &str| -> Result<(Option<i32>, String), String> {
        let output = Command::new(program)
            .args(first)
            .args(line.split_whitespace())
            .env("TGT_IPC_SOCKET", &socket)
            .stdin(Stdio::null())
            .output()
            .map_err(|error| error.to_string())?;
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        let lines = text.lines().filter(|line| !line.starts_with("tgtadm: note"));
        Ok((output.status.code(), lines.collect::<Vec<_>>().join("\n")))
    };
    let mut wrong = Vec::new();
    for mode in modes {
        for operation in operations {
            // One tail for each pair in turn: every tail meets every mode, and all of it stays a matter of seconds.
            let at = modes.iter().position(|one| *one == mode).unwrap_or(0) * 3
                + operations.iter().position(|one| *one == operation).unwrap_or(0);
            for tail in tails.iter().cycle().skip(at).take(4) {
                let line = format!("--mode {mode} --op {operation} {tail}");
                // By its name alone, which is what it calls itself then.
                let real = said(Path::new("tgtadm"), &[], &line)?;
                let own = said(lunette, &["tgtadm"], &line)?;
                if real != own {
                    wrong.push(format!("{line}\n        tgt: {real:?}\n        ours: {own:?}"));
                }
            }
        }
    }
    let result = if wrong.is_empty() { Ok(()) } else { Err(wrong.join("\n        ")) };
    outcome.count("288 command lines that ask no daemon", result);
    Ok(())
}

/// A daemon with its command.
struct Side {
    child: Child,
    folder: PathBuf,
    tgtadm: PathBuf,
    ports: [u16; 2],
}

impl Side {
    fn start(folder: &Path, tgtd: &Path, tgtadm: &Path) -> Result<Side, String> {
        let failed = |error: std::io::Error| format!("{}: {error}", folder.display());
        std::fs::create_dir_all(folder).map_err(failed)?;
        for (name, mebibytes) in [("a.img", 64), ("b.img", 32)] {
            std::fs::File::create(folder.join(name)).and_then(|file| file.set_len(mebibytes << 20)).map_err(failed)?;
        }
        let listeners = [0, 1].map(|_| std::net::TcpListener::bind("127.0.0.1:0"));
        let mut ports = [0; 2];
        for (port, listener) in ports.iter_mut().zip(listeners) {
            *port = listener.and_then(|listener| listener.local_addr()).map_err(failed)?.port();
        }
        let child = Command::new(tgtd)
            .args(["-f", "-C", CONTROL, "--iscsi", &format!("portal=127.0.0.1:{}", ports[0])])
            .env("TGT_IPC_SOCKET", folder.join("socket"))
            .env("XDG_STATE_HOME", folder)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(failed)?;
        let side = Side { child, folder: folder.to_owned(), tgtadm: tgtadm.to_owned(), ports };
        let end = Instant::now() + Duration::from_secs(20);
        while side.run("--mode target --op show")?.0 != Some(0) {
            if Instant::now() > end {
                return Err(format!("{} does not answer", tgtd.display()));
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(side)
    }

    /// The code, what is printed, and the first line of what is complained of, without what is this side's own.
    fn run(&self, line: &str) -> Result<(Option<i32>, String, String), String> {
        let names = [
            ("PORT2", self.ports[1].to_string()),
            ("PORT", self.ports[0].to_string()),
            ("DIR", self.folder.display().to_string()),
        ];
        let words = line
            .split_whitespace()
            .map(|word| names.iter().fold(word.to_owned(), |word, (name, own)| word.replace(name, own)));
        let output = Command::new(&self.tgtadm)
            .args(["-C", CONTROL])
            .args(words)
            .env("TGT_IPC_SOCKET", self.folder.join("socket"))
            .stdin(Stdio::null())
            .output()
            .map_err(|error| format!("{}: {error}", self.tgtadm.display()))?;
        let plain = |bytes: &[u8]| {
            let text = String::from_utf8_lossy(bytes).into_owned();
            names.iter().fold(text, |text, (name, own)| text.replace(own, name))
        };
        let complaint = plain(&output.stderr);
        let first = complaint.lines().find(|line| !line.starts_with("tgtadm: note")).unwrap_or_default().to_owned();
        Ok((output.status.code(), plain(&output.stdout), first))
    }
}

impl Drop for Side {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
