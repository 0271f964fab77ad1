//! The real binary as a child process, for tests: started on a free port, killed, started again with
//! the same arguments.

use crate::raw::Client;
use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// The name of every target that a test serves.
pub const TARGET: &str = "iqn.2026-01.org.example:disk";

/// How long a daemon may take until it listens, or until it has ended.
const PATIENCE: Duration = Duration::from_secs(20);

/// A folder of a test's own, gone with it.
#[derive(Debug)]
pub struct Folder(PathBuf);

impl Folder {
    /// A new one.
    pub fn new() -> Folder {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("lunette-sim-{}-{number}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).expect("a folder");
        Folder(path)
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// The path of a file in it, as text.
    pub fn file(&self, name: &str) -> String {
        self.0.join(name).display().to_string()
    }
}

impl Default for Folder {
    fn default() -> Self {
        Folder::new()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// `lunette serve`, running. Killed when it is dropped.
pub struct Daemon {
    program: PathBuf,
    arguments: Vec<String>,
    environment: Vec<(String, String)>,
    address: SocketAddr,
    child: Child,
    /// The process that has taken its place, and the one before it that, and so on.
    successor: Option<u32>,
    folder: Folder,
    /// The configuration file, where there is one.
    configuration: Option<String>,
}

impl Daemon {
    /// Serves these stores as [`TARGET`] on a free port of 127.0.0.1. Tests of `lunette` give
    /// `env!("CARGO_BIN_EXE_lunette")` as the program.
    pub fn start(program: impl AsRef<Path>, stores: &[&str]) -> Daemon {
        Daemon::start_with(program, stores, &[], &[])
    }

    /// The same with more arguments and environment.
    pub fn start_with(
        program: impl AsRef<Path>,
        stores: &[&str],
        arguments: &[&str],
        environment: &[(&str, &str)],
    ) -> Daemon {
        let program = program.as_ref().to_owned();
        let folder = Folder::new();
        let mut all: Vec<String> = vec!["serve".into()];
        all.extend(stores.iter().map(|store| (*store).to_owned()));
        all.extend(["--listen".into(), "127.0.0.1:0".into(), "--name".into(), TARGET.into()]);
        if !arguments.contains(&"--state-dir") {
            all.extend(["--state-dir".into(), folder.file("state")]);
        }
        all.extend(arguments.iter().map(|argument| (*argument).to_owned()));
        // Most tests that are refused a lot are not about how long that takes.
        if !arguments.iter().any(|argument| argument.starts_with("failure-delay=")) {
            all.extend(["--limit".into(), "failure-delay=0".into()]);
        }
        let environment: Vec<(String, String)> =
            environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Daemon::run(program, all, environment, folder, None)
    }

    /// Serves what this configuration file says. `FOLDER` in it stands for a folder of the test's own; the
    /// portal 127.0.0.1:0 is the one that [`Daemon::address`] tells.
    pub fn configured(program: impl AsRef<Path>, configuration: &str) -> Daemon {
        let folder = Folder::new();
        let text = configuration.replace("FOLDER", &folder.path().display().to_string());
        let path = folder.file("lunette.toml");
        write_private(&path, &text);
        let arguments = vec!["serve".into(), "--config".into(), path];
        Daemon::run(program.as_ref().to_owned(), arguments, Vec::new(), folder, Some(text))
    }

    fn run(
        program: PathBuf,
        all: Vec<String>,
        environment: Vec<(String, String)>,
        folder: Folder,
        configuration: Option<String>,
    ) -> Daemon {
        let child = spawn(&program, &all, &environment, &folder);
        let nowhere = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let mut daemon = Daemon {
            program,
            arguments: all,
            environment,
            address: nowhere,
            child,
            successor: None,
            folder,
            configuration,
        };
        if let Err(why) = daemon.wait_until_it_listens() {
            panic!("{why}\n{}", daemon.log());
        }
        // When it is started again it takes the same port.
        let address = daemon.address.to_string();
        for argument in &mut daemon.arguments {
            if argument == "127.0.0.1:0" {
                argument.clone_from(&address);
            }
        }
        if let Some(text) = &daemon.configuration {
            write_private(&daemon.folder.file("lunette.toml"), &text.replacen("127.0.0.1:0", &address, 1));
        }
        daemon
    }

    /// All addresses at which it listens, as its banner for people tells them.
    pub fn portals(&self) -> Vec<SocketAddr> {
        let log = self.log();
        let portals = log.lines().filter_map(|line| line.strip_prefix("Portal "));
        portals.filter_map(|rest| rest.trim().split(',').next()?.parse().ok()).collect()
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The socket of its administration.
    pub fn control(&self) -> PathBuf {
        self.folder.path().join("state/control.sock")
    }

    /// Its process, or the one that has taken its place.
    pub fn process_id(&self) -> u32 {
        self.successor.unwrap_or_else(|| self.child.id())
    }

    /// Has this program take its place, with more arguments for `lunette upgrade`. What the command said on its
    /// standard output; an error is what it said of why it could not be.
    pub fn upgrade(&mut self, binary: impl AsRef<Path>, arguments: &[&str]) -> Result<String, String> {
        let control = self.control().display().to_string();
        let output = Command::new(&self.program)
            .args(["upgrade", "--json", "--control", &control, "--binary"])
            .arg(binary.as_ref())
            .args(arguments)
            .output()
            .expect("the program runs");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
        if !output.status.success() {
            return Err(text(&output.stderr));
        }
        let said = text(&output.stdout);
        let number = said.split_once("\"process\":").map(|(_, rest)| rest);
        let number = number.and_then(|rest| rest.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok());
        self.successor = Some(number.unwrap_or_else(|| panic!("no process: {said}")));
        Ok(said)
    }

    /// A connection to it, before its login.
    pub fn connect(&self) -> Client {
        Client::connect(self.address)
    }

    /// Kills it with SIGKILL and waits for its end.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if let Some(successor) = self.successor.take() {
            let _ = Command::new("kill").args(["-KILL", &successor.to_string()]).status();
            let end = Instant::now() + PATIENCE;
            while is_there(successor) && Instant::now() < end {
                std::thread::sleep(Duration::from_millis(5));
            }
        }
    }

    /// Starts it again with the same arguments, after it has ended. Returns how long it took to listen.
    pub fn restart(&mut self) -> Duration {
        let begun = Instant::now();
        let _ = fs::remove_file(self.folder.path().join("stdout"));
        self.child = spawn(&self.program, &self.arguments, &self.environment, &self.folder);
        if let Err(why) = self.wait_until_it_listens() {
            panic!("{why}\n{}", self.log());
        }
        begun.elapsed()
    }

    /// Asks it to end (SIGTERM) and returns how it did.
    pub fn terminate(&mut self) -> ExitStatus {
        self.signal("TERM");
        let end = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().expect("a child") {
                return status;
            }
            assert!(Instant::now() < end, "it does not end after SIGTERM\n{}", self.log());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Sends it a signal of this name. After STOP none of its threads runs any more.
    pub fn signal(&self, name: &str) {
        let process = self.process_id();
        let sent = Command::new("kill").args([&format!("-{name}"), &process.to_string()]).status();
        assert!(sent.is_ok_and(|status| status.success()), "SIG{name} is sent");
        while name == "STOP" && !is_stopped(process) {
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Whether it still runs.
    pub fn is_running(&mut self) -> bool {
        if let Some(successor) = self.successor {
            return is_there(successor);
        }
        self.child.try_wait().expect("a child").is_none()
    }

    /// What it has said so far on both of its outputs.
    pub fn log(&self) -> String {
        log(&self.folder)
    }

    /// Its open file descriptors, where the system tells.
    pub fn descriptors(&self) -> Option<usize> {
        Some(fs::read_dir(format!("/proc/{}/fd", self.process_id())).ok()?.count())
    }

    /// Its resident memory in bytes, where the system tells.
    pub fn resident_bytes(&self) -> Option<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.process_id())).ok()?;
        let line = status.lines().find(|line| line.starts_with("VmRSS:"))?;
        line.split_whitespace().nth(1)?.parse::<u64>().ok().map(|kib| kib << 10)
    }

    fn wait_until_it_listens(&mut self) -> Result<(), String> {
        let end = Instant::now() + PATIENCE;
        loop {
            if let Ok(Some(status)) = self.child.try_wait() {
                return Err(format!("the daemon ended at once: {status}"));
            }
            // It says where it listens when it does.
            if let Some(address) = told_address(&self.log()) {
                self.address = address;
                return Ok(());
            }
            if Instant::now() > end {
                return Err("the daemon does not listen".to_owned());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            eprintln!("the daemon said:\n{}", self.log());
        }
    }
}

/// Whether there is a process of this number that has not ended.
fn is_there(process: u32) -> bool {
    let state = fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    state.rsplit_once(')').is_some_and(|(_, rest)| !rest.trim_start().starts_with('Z'))
}

/// Whether none of its threads runs, be it that it is stopped or that it is gone.
fn is_stopped(process: u32) -> bool {
    let tasks = fs::read_dir(format!("/proc/{process}/task")).into_iter().flatten().flatten();
    let states = tasks.filter_map(|task| fs::read_to_string(task.path().join("stat")).ok());
    let mut states = states.filter_map(|stat| stat.rsplit_once(')')?.1.trim_start().chars().next());
    states.all(|state| "TtZX".contains(state))
}

/// A file that only its owner may read.
fn write_private(path: &str, text: &str) {
    use std::os::unix::fs::PermissionsExt;
    fs::write(path, text).expect("a file");
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).expect("a mode");
}

/// An address on which nothing listens at this moment.
pub fn free_address() -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    listener.local_addr().expect("an address")
}

/// The first portal of the banner, for people or for machines.
fn told_address(log: &str) -> Option<SocketAddr> {
    let people = log.lines().find_map(|line| line.strip_prefix("Portal ")).map(|rest| rest.trim());
    let machines = || log.split_once("\"portals\":[\"").and_then(|(_, rest)| rest.split('"').next());
    people.or_else(machines)?.split(',').next()?.parse().ok()
}

fn spawn(program: &Path, arguments: &[String], environment: &[(String, String)], folder: &Folder) -> Child {
    let output = |name: &str| {
        let path = folder.path().join(name);
        File::options().create(true).append(true).open(path).expect("a file for the output")
    };
    Command::new(program)
        .args(arguments)
        .envs(environment.iter().map(|(name, value)| (name, value)))
        .stdin(Stdio::null())
        .stdout(output("stdout"))
        .stderr(output("stderr"))
        .spawn()
        .unwrap_or_else(|error| panic!("{}: {error}", program.display()))
}

fn log(folder: &Folder) -> String {
    let read = |name: &str| fs::read_to_string(folder.path().join(name)).unwrap_or_default();
    format!("{}{}", read("stdout"), read("stderr"))
}
