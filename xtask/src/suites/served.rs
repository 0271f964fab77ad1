//! `lunette serve` for a suite: built once, started on a free port, stopped at the end.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// The target's name in every suite.
pub const TARGET: &str = "iqn.2026-11.com.example:suite";

/// Builds the binary as it is shipped. Returns its path; that of LUNETTE where there is one already.
pub fn build(root: &Path) -> Result<PathBuf, String> {
    if let Some(binary) = std::env::var_os("LUNETTE") {
        return std::fs::canonicalize(&binary).map_err(|error| format!("LUNETTE={}: {error}", binary.display()));
    }
    let status = Command::new(env!("CARGO"))
        .args(["build", "--release", "--locked", "--quiet", "--package", "lunette"])
        .current_dir(root)
        .status()
        .map_err(|error| format!("cargo cannot be started: {error}"))?;
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from);
    match status.success() {
        true => Ok(target.join("release/lunette")),
        false => Err("lunette does not build".into()),
    }
}

/// A running target with a folder of its own. Both are gone when it is dropped.
pub struct Served {
    child: Child,
    /// Its portals, `address:port`.
    pub portals: Vec<String>,
    /// The account of URLs, `user%secret@`, where it wants a login.
    pub account: String,
    /// A folder for the suite's files.
    pub folder: PathBuf,
}

impl Served {
    /// Starts the target in a new folder; relative stores lie there.
    pub fn start(binary: &Path, suite: &str, stores: &[&str], arguments: &[&str]) -> Result<Served, String> {
        let folder = std::env::temp_dir().join(format!("lunette-{suite}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
        let log = std::fs::File::create(folder.join("lunette.log")).map_err(|error| error.to_string())?;
        let mut child = Command::new(binary)
            .arg("serve")
            .args(stores)
            .args(["--name", TARGET, "--state-dir", "state"])
            .args(arguments)
            .current_dir(&folder)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .map_err(|error| format!("{}: {error}", binary.display()))?;
        let output = child.stdout.take().ok_or("there is no output")?;
        let mut portals = Vec::new();
        for line in BufReader::new(output).lines().map_while(Result::ok) {
            if let Some(portal) = line.strip_prefix("Portal ") {
                portals.push(portal.trim().trim_end_matches(",1").to_owned());
            }
            if line.starts_with("QEMU") {
                break;
            }
        }
        let served = Served { child, portals, account: String::new(), folder };
        match served.portals.is_empty() {
            false => Ok(served),
            true => Err(format!("lunette did not start: {}", served.log())),
        }
    }

    /// The URL of a LUN at the first portal.
    pub fn url(&self, number: u16) -> String {
        self.url_at(0, number)
    }

    /// The URL of a LUN at one of the portals.
    pub fn url_at(&self, portal: usize, number: u16) -> String {
        format!("iscsi://{}{}/{TARGET}/{number}", self.account, self.portals[portal])
    }

    /// What it said.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.join("lunette.log")).unwrap_or_default()
    }

    /// Asks it to end and waits for that.
    pub fn stop(&mut self) -> Result<ExitStatus, String> {
        let _ = Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status();
        let end = Instant::now() + Duration::from_secs(30);
        while Instant::now() < end {
            if let Some(status) = self.child.try_wait().map_err(|error| error.to_string())? {
                return Ok(status);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Err("it does not end after SIGTERM".into())
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// Runs a command, at most so long. Its output, and whether it succeeded.
pub fn command(seconds: u32, program: &str, arguments: &[&str]) -> (bool, String) {
    // `timeout` is part of coreutils and kills children of children too.
    let output =
        Command::new("timeout").arg(seconds.to_string()).arg(program).args(arguments).stdin(Stdio::null()).output();
    match output {
        Ok(output) => {
            let text = [output.stdout, output.stderr].concat();
            (output.status.success(), String::from_utf8_lossy(&text).into_owned())
        }
        Err(error) => (false, error.to_string()),
    }
}

/// The same for a command of which only success counts.
pub fn succeeds(seconds: u32, program: &str, arguments: &[&str]) -> Result<String, String> {
    match command(seconds, program, arguments) {
        (true, text) => Ok(text),
        (false, text) => {
            let tail: Vec<&str> = text.lines().rev().take(3).collect();
            Err(format!("{program}: {}", tail.into_iter().rev().collect::<Vec<_>>().join(" | ")))
        }
    }
}
