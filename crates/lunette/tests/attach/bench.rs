//! What every test here has: a folder with a state directory, commands, and a look at what is left.

use sim::daemon::{Daemon, Folder, TARGET};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

pub const LUNETTE: &str = env!("CARGO_BIN_EXE_lunette");

/// A place of a test's own. What it attached and did not detach is taken away with it.
pub struct Bench {
    folder: Folder,
}

/// What a command said.
pub struct Said {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl Bench {
    pub fn new() -> Bench {
        Bench { folder: Folder::new() }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn state(&self) -> PathBuf {
        self.path("attached")
    }

    pub fn start(&self, arguments: &[&str]) -> Child {
        Command::new(LUNETTE)
            .args(arguments)
            .args(["--state-dir".as_ref(), self.state().as_os_str()])
            .env("LUNETTE_ISCSI_ROOT", self.path("iscsi"))
            .env_remove("LUNETTE_CHAP_SECRET")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary")
    }

    pub fn run(&self, arguments: &[&str]) -> Said {
        said(self.start(arguments).wait_with_output().expect("an output"))
    }

    /// Attaches, and gives the device.
    pub fn attach(&self, arguments: &[&str]) -> PathBuf {
        let mut all = vec!["attach"];
        all.extend_from_slice(arguments);
        let said = self.run(&all);
        assert_eq!(said.code, 0, "{}{}\n{}", said.out, said.err, self.logs());
        PathBuf::from(said.out.lines().last().expect("the device's path"))
    }

    pub fn detach(&self, arguments: &[&str]) {
        let mut all = vec!["detach"];
        all.extend_from_slice(arguments);
        let said = self.run(&all);
        assert_eq!(said.code, 0, "{}{}\n{}", said.out, said.err, self.logs());
    }

    pub fn attached(&self) -> serde_json::Value {
        let said = self.run(&["attached", "--json"]);
        assert_eq!(said.code, 0, "{}", said.err);
        serde_json::from_str(&said.out).expect("JSON")
    }

    /// What the holders wrote.
    pub fn logs(&self) -> String {
        let entries = fs::read_dir(self.state()).into_iter().flatten().flatten();
        entries.filter_map(|entry| fs::read_to_string(entry.path().join("log")).ok()).collect()
    }

    /// Everything that is still there of what was attached here: sessions, mounts, loop devices, processes.
    pub fn left(&self) -> Vec<String> {
        let own = self.folder.path().display().to_string();
        let mut left = Vec::new();
        for entry in fs::read_dir(self.state()).into_iter().flatten().flatten() {
            if entry.path().is_dir() {
                left.push(format!("directory {}", entry.path().display()));
            }
        }
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        left.extend(mounts.lines().filter(|line| line.contains(&own)).map(|line| format!("mount {line}")));
        for disk in fs::read_dir("/sys/block").into_iter().flatten().flatten() {
            let backing = fs::read_to_string(disk.path().join("loop/backing_file")).unwrap_or_default();
            if backing.contains(&own) {
                left.push(format!("{} on {backing}", disk.path().display()));
            }
        }
        for process in fs::read_dir("/proc").into_iter().flatten().flatten() {
            let line = fs::read(process.path().join("cmdline")).unwrap_or_default();
            let log = fs::read_dir(process.path().join("fd")).into_iter().flatten().flatten();
            let ours = line.starts_with(b"lunette\0hold")
                && log.flat_map(|fd| fs::read_link(fd.path())).any(|at| at.starts_with(self.folder.path()));
            if ours {
                left.push(format!("process {}", process.path().display()));
            }
        }
        left
    }

    pub fn assert_nothing_left(&self) {
        // The kernel lets go of a loop device a moment after its last user.
        until("everything to be gone", || self.left().is_empty(), || self.left().join("\n"));
    }

    /// The record of the only session.
    pub fn session(&self) -> serde_json::Value {
        let all = self.attached();
        assert_eq!(all["sessions"].as_array().map(Vec::len), Some(1), "{all:#}");
        all["sessions"][0].clone()
    }

    /// Kills the holder of the only session.
    pub fn kill_holder(&self) {
        let process = self.session()["process"]["pid"].as_u64().expect("a process").to_string();
        assert!(tool("kill", &["-KILL", &process]).code == 0);
        let state = || fs::read_to_string(Path::new("/proc").join(&process).join("stat")).unwrap_or_default();
        until("the holder to be gone", || state().is_empty() || state().contains(") Z "), state);
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the holders said:\n{}", self.logs());
        }
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
        let own = self.folder.path().display().to_string();
        let points = mounts.lines().filter_map(|line| line.split(' ').nth(1)).filter(|point| point.starts_with(&own));
        points.for_each(|point| drop(Command::new("umount").args(["-l", point]).output()));
        let _ = self.run(&["detach", "--all", "--force"]);
    }
}

/// The address of a LUN of a daemon.
pub fn address(daemon: &Daemon, lun: u64) -> String {
    format!("iscsi://{}/{TARGET}/{lun}", daemon.address())
}

pub fn said(output: Output) -> Said {
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    Said { code: output.status.code().unwrap_or(-1), out: text(output.stdout), err: text(output.stderr) }
}

/// Another program, which need not succeed.
pub fn tool(name: &str, arguments: &[&str]) -> Said {
    let output = Command::new(name).args(arguments).stdin(Stdio::null()).output();
    said(output.unwrap_or_else(|error| panic!("{name}: {error}")))
}

/// Another program, which succeeds.
pub fn must(name: &str, arguments: &[&str]) -> String {
    let said = tool(name, arguments);
    assert_eq!(said.code, 0, "{name} {arguments:?}: {}{}", said.out, said.err);
    said.out
}

pub fn text(path: &Path) -> &str {
    path.to_str().expect("a path of letters")
}

/// Waits for something that comes by itself.
pub fn until(what: &str, is: impl Fn() -> bool, why: impl Fn() -> String) {
    let end = Instant::now() + Duration::from_secs(20);
    while !is() {
        assert!(Instant::now() < end, "waited for {what} in vain\n{}", why());
        std::thread::sleep(Duration::from_millis(20));
    }
}
