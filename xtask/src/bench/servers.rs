//! The servers that are measured: how each is built, started on a store, and stopped.

use super::Figures;
use crate::suites::served::{self, command};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Bytes of every disk.
const BYTES: u64 = 512 << 20;
/// tgt's own control port, away from that of a daemon that may run here.
const CONTROL: &str = "77";
const TARGET: &str = "iqn.2026-11.com.example:bench";

/// A server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Server {
    Floor,
    Lunette,
    Tgt,
}

impl Server {
    pub fn name(self) -> &'static str {
        match self {
            Server::Floor => "floor",
            Server::Lunette => "lunette",
            Server::Tgt => "tgt",
        }
    }
}

/// What lies behind the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Store {
    /// A file in the page cache.
    File,
    /// A file that is not in the page cache.
    Cold,
    /// The same with O_DIRECT.
    Direct,
    /// A file in memory.
    Tmpfs,
    Ram,
    Null,
}

/// What all measurements share. Its files are gone with it.
pub struct Bench {
    lunette: PathBuf,
    floor: PathBuf,
    tgt: Option<PathBuf>,
    folder: PathBuf,
    memory: PathBuf,
}

/// A server that runs.
pub struct Running {
    child: Child,
    pub url: String,
    server: Server,
}

impl Bench {
    pub fn set_up(root: &Path) -> Result<Bench, String> {
        let lunette = served::build(root)?;
        let built = Command::new(env!("CARGO"))
            .args(["build", "--release", "--locked", "--quiet", "--package", "lunette", "--example", "floor"])
            .current_dir(root)
            .status();
        if !built.is_ok_and(|status| status.success()) {
            return Err("the floor server does not build".into());
        }
        let floor = lunette.with_file_name("examples").join("floor");
        let own = format!("lunette-bench-{}", std::process::id());
        let (folder, memory) = (std::env::temp_dir().join(&own), Path::new("/dev/shm").join(&own));
        for folder in [&folder, &memory] {
            std::fs::create_dir_all(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
            fill(&folder.join("disk.img")).map_err(|error| format!("{}: {error}", folder.display()))?;
        }
        let tgt = ["/usr/sbin/tgtd", "/sbin/tgtd"].iter().map(PathBuf::from).find(|path| path.is_file());
        Ok(Bench { lunette, floor, tgt, folder, memory })
    }

    pub fn lunette(&self) -> &Path {
        &self.lunette
    }

    pub fn absent(&self) -> Vec<&'static str> {
        if self.tgt.is_none() { vec!["tgt (apt-get install tgt)"] } else { Vec::new() }
    }

    pub fn servers(&self, floor: bool) -> Vec<Server> {
        let mut servers = vec![Server::Lunette];
        if floor {
            servers.insert(0, Server::Floor);
        }
        if self.tgt.is_some() {
            servers.push(Server::Tgt);
        }
        servers
    }

    /// One measurement of so many seconds.
    pub fn measure(&self, server: Server, store: Store, arguments: &[&str], seconds: f64) -> Result<Figures, String> {
        let running = self.start(server, store)?;
        let (process, seconds) = (running.child.id().to_string(), seconds.to_string());
        let lunette = self.lunette.display().to_string();
        let mut words = vec!["-c", "1", &lunette, "bench", &running.url, "--json", "--server", &process];
        words.extend(["--seconds", &seconds]);
        words.extend(arguments);
        let (ended, text) = command(120, "taskset", &words);
        let last = text.lines().last().unwrap_or_default();
        if !ended {
            return Err(last.to_owned());
        }
        let json: serde_json::Value = serde_json::from_str(last).map_err(|error| format!("{error}: {last}"))?;
        let number = |key: &str| json[key].as_f64().unwrap_or(f64::NAN);
        Ok(Figures {
            rate: number("per_second"),
            bytes: number("bytes_per_second"),
            median: number("median_us"),
            p999: number("p999_us"),
            fairness: number("fairness"),
            server: number("server_us_each"),
        })
    }

    pub fn start(&self, server: Server, store: Store) -> Result<Running, String> {
        let place = match store {
            Store::Tmpfs => self.memory.join("disk.img"),
            _ => self.folder.join("disk.img"),
        };
        prepare(&place, store);
        let port = free_port()?;
        let portal = format!("127.0.0.1:{port}");
        let path = place.display().to_string();
        let log = std::fs::File::create(self.folder.join("server.log")).map_err(|error| error.to_string())?;
        let mut words: Vec<String> = vec!["-c".into(), "0".into()];
        let url = match server {
            Server::Floor => {
                words.extend([self.floor.display().to_string(), path.clone(), portal.clone()]);
                format!("floor://{portal}/{BYTES}")
            }
            Server::Lunette => {
                let address = match store {
                    Store::Ram => format!("ram:{BYTES}"),
                    Store::Null => format!("null:{BYTES}"),
                    Store::Direct => format!("{path},direct"),
                    _ => path.clone(),
                };
                let state = self.folder.join("state").display().to_string();
                words.extend([self.lunette.display().to_string(), "serve".into(), address]);
                words.extend(
                    ["--listen", &portal, "--name", TARGET, "--threads", "1", "--state-dir", &state].map(str::to_owned),
                );
                format!("iscsi://{portal}/{TARGET}/1")
            }
            Server::Tgt => {
                let tgtd = self.tgt.as_ref().ok_or("tgt is not installed")?;
                words.extend([tgtd.display().to_string(), "-f".into(), "-C".into(), CONTROL.into()]);
                words.extend(["--iscsi".into(), format!("portal={portal}")]);
                format!("iscsi://{portal}/{TARGET}/1")
            }
        };
        let child = Command::new("taskset")
            .args(&words)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .map_err(|error| format!("taskset: {error}"))?;
        let running = Running { child, url, server };
        wait_for(&portal)?;
        if server == Server::Tgt {
            configure_tgt(&path, store)?;
        }
        Ok(running)
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
        let _ = std::fs::remove_dir_all(&self.memory);
    }
}

impl Running {
    pub fn process(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.server == Server::Tgt {
            let _ = tgtadm(&["--mode", "sys", "--op", "update", "--name", "State", "-v", "offline"]);
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Data in every block, so that no read is of a hole.
fn fill(path: &Path) -> std::io::Result<()> {
    use std::io::Write;
    let mut file = std::fs::File::create(path)?;
    let chunk: Vec<u8> = (0u32..1 << 18).flat_map(|number| number.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
    for _ in 0..BYTES / chunk.len() as u64 {
        file.write_all(&chunk)?;
    }
    file.sync_all()
}

/// Brings the file into the page cache, or out of it.
fn prepare(path: &Path, store: Store) {
    let name = path.display().to_string();
    if matches!(store, Store::Cold | Store::Direct) {
        let _ = command(60, "dd", &[&format!("if={name}"), "iflag=nocache", "count=0"]);
    } else {
        let _ = command(60, "cat", &[&name]);
    }
}

fn free_port() -> Result<u16, String> {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").map_err(|error| error.to_string())?;
    listener.local_addr().map(|address| address.port()).map_err(|error| error.to_string())
}

fn wait_for(portal: &str) -> Result<(), String> {
    let end = Instant::now() + Duration::from_secs(10);
    while Instant::now() < end {
        if std::net::TcpStream::connect(portal).is_ok() {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Err(format!("nothing listens at {portal}"))
}

fn configure_tgt(path: &str, store: Store) -> Result<(), String> {
    tgtadm(&["--mode", "target", "--op", "new", "--tid", "1", "-T", TARGET])?;
    let mut words = vec!["--mode", "logicalunit", "--op", "new", "--tid", "1", "--lun", "1", "-b", path];
    match store {
        Store::Null => words.extend(["-E", "null"]),
        Store::Direct => words.extend(["--bsoflags", "direct"]),
        _ => {}
    }
    tgtadm(&words)?;
    tgtadm(&["--mode", "target", "--op", "bind", "--tid", "1", "-I", "ALL"])
}

fn tgtadm(words: &[&str]) -> Result<(), String> {
    let mut all = vec!["-C", CONTROL, "--lld", "iscsi"];
    all.extend(words);
    served::succeeds(20, "tgtadm", &all).map(drop)
}
