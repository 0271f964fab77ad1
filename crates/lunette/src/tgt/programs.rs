//! tgtd, tgtimg and tgt-setup-lun.

use super::daemon::Served;
use super::link::{Link, socket};
use crate::failure::Failure as OwnFailure;
use clap::Parser;
use compat::tgt::admin::Whole;
use compat::tgt::programs::{self, Read, SetupLun, Tgtd, Tgtimg};
use compat::tgt::{Change, Daemon, DeviceType, Failure, NewUnit, Who};
use std::fmt::Write as _;
use std::io::Write;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

/// How long a daemon that goes to the background may take to answer.
const START_TIME: Duration = Duration::from_secs(60);

/// Says what is wrong.
fn wrong(lines: &[String], code: u8) -> ExitCode {
    lines.iter().for_each(|line| eprintln!("{line}"));
    ExitCode::from(code)
}

fn print(text: &str) -> ExitCode {
    // Whoever asked may have closed the pipe.
    let _ = std::io::stdout().write_all(text.as_bytes());
    ExitCode::SUCCESS
}

/// `tgtd`.
pub fn tgtd(words: &[String]) -> ExitCode {
    let wanted = match programs::tgtd(words) {
        Read::Wanted(wanted) => wanted,
        Read::Help => return print(programs::TGTD_USAGE),
        Read::Version => return print(&format!("{}\n", super::manner().version())),
        Read::Wrong(lines) => return wrong(&lines, 22),
    };
    wanted.notes.iter().for_each(|note| eprintln!("tgtd: {note}"));
    match if wanted.foreground { serve(&wanted) } else { start(&wanted, words) } {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("tgtd: {failure}");
            failure.exit_code()
        }
    }
}

/// Serves until it is told to stop.
fn serve(wanted: &Tgtd) -> Result<(), OwnFailure> {
    let socket = socket(wanted.control_port);
    if let Some(folder) = socket.parent() {
        std::fs::create_dir_all(folder).map_err(|error| OwnFailure::input(format!("{}: {error}", folder.display())))?;
    }
    let lock = socket.with_added_extension("lock");
    let failed = |why: &dyn std::fmt::Display| OwnFailure::input(format!("{}: {why}", lock.display()));
    let file = std::fs::File::create(&lock).map_err(|error| failed(&error))?;
    rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive)
        .map_err(|_| failed(&format!("another tgtd has control port {}", wanted.control_port)))?;
    if let Some(path) = &wanted.pid_file {
        std::fs::write(path, format!("{}\n", std::process::id()))
            .map_err(|error| OwnFailure::input(format!("--pid-file {path}: {error}")))?;
    }
    // The document lies beside the socket as long as the daemon lives, and is begun anew by the next.
    let path = socket.with_added_extension("toml");
    let ended = begin(&path, &document(wanted, &socket.display().to_string())).and_then(|()| {
        let words = ["tgtd".as_ref(), "--config".as_ref(), path.as_os_str()];
        let line = Line::try_parse_from(words).map_err(|error| OwnFailure::runtime(error.to_string()))?;
        crate::serve::run(&line.serve)
    });
    let _ = std::fs::remove_file(&path);
    if let Some(path) = &wanted.pid_file {
        let _ = std::fs::remove_file(path);
    }
    let _ = std::fs::remove_file(&lock);
    ended
}

/// Writes the document, which will have secrets, for nobody else to read.
fn begin(path: &Path, text: &str) -> Result<(), OwnFailure> {
    use std::os::unix::fs::OpenOptionsExt;
    let failed = |error| OwnFailure::input(format!("{}: {error}", path.display()));
    let _ = std::fs::remove_file(path);
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(failed)?;
    file.write_all(text.as_bytes()).map_err(failed)
}

/// What `lunette serve` is told.
#[derive(clap::Parser)]
struct Line {
    #[command(flatten)]
    serve: crate::serve::Arguments,
}

/// The document that it begins with: nothing but where it listens.
fn document(wanted: &Tgtd, socket: &str) -> String {
    let quoted = |text: &str| toml_edit::Value::from(text).to_string().trim().to_owned();
    let mut text = format!("# It lives as long as the process.\n[daemon]\ncontrol = {}\n", quoted(socket));
    if wanted.debug {
        text.push_str("\n[log]\nlevel = \"debug\"\n");
    }
    if let Some(interval) = wanted.nop_interval {
        let timeout = interval.saturating_mul(wanted.nop_count.unwrap_or(1).max(1)).max(1);
        let _ = write!(text, "\n[limits]\nnop-interval = \"{interval}s\"\nnop-timeout = \"{timeout}s\"\n");
    }
    let everywhere = || vec!["0.0.0.0:3260".to_owned(), "[::]:3260".to_owned()];
    let portals = if wanted.portals.is_empty() { everywhere() } else { wanted.portals.clone() };
    for portal in portals {
        let _ = write!(text, "\n[[portal]]\nlisten = {}\n", quoted(&portal));
    }
    text
}

/// Starts a daemon in the background and waits until it answers. What it has to say goes to a file beside its socket.
fn start(wanted: &Tgtd, words: &[String]) -> Result<(), OwnFailure> {
    let socket = socket(wanted.control_port);
    if let Some(folder) = socket.parent() {
        std::fs::create_dir_all(folder).map_err(|error| OwnFailure::input(format!("{}: {error}", folder.display())))?;
    }
    let log = socket.with_added_extension("log");
    let file = std::fs::File::create(&log).map_err(|error| OwnFailure::input(format!("{}: {error}", log.display())))?;
    let program = std::env::current_exe().map_err(OwnFailure::runtime)?;
    use std::os::unix::process::CommandExt;
    let mut child = Command::new(program)
        .arg("tgtd")
        .args(words)
        .arg("--foreground")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(file)
        .process_group(0)
        .spawn()
        .map_err(OwnFailure::runtime)?;
    let (link, end) = (Link::at(&socket), Instant::now() + START_TIME);
    loop {
        if let Some(status) = child.try_wait().map_err(OwnFailure::runtime)? {
            let said = std::fs::read_to_string(&log).unwrap_or_default();
            let said = said.trim().trim_start_matches("tgtd: ").to_owned();
            return Err(OwnFailure::input(if said.is_empty() { format!("it ended: {status}") } else { said }));
        }
        if link.answers() {
            return Ok(());
        }
        if Instant::now() > end {
            let _ = child.kill();
            return Err(OwnFailure::runtime(format!("it does not answer; see {}", log.display())));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// `tgtimg`.
pub fn tgtimg(words: &[String]) -> ExitCode {
    let wanted = match programs::tgtimg(words) {
        Read::Wanted(wanted) => wanted,
        Read::Help => return print(programs::TGTIMG_USAGE),
        Read::Version => return print(&format!("{}\n", super::manner().version())),
        Read::Wrong(lines) => return wrong(&lines, 22),
    };
    let failed = |file: &str, error: std::io::Error| wrong(&[format!("tgtimg: {file}: {error}")], 1);
    match wanted {
        Tgtimg::New { file, size, thin, said } => {
            let made = std::fs::OpenOptions::new().write(true).create_new(true).open(&file).and_then(|opened| {
                opened.set_len(size)?;
                match thin || size == 0 {
                    true => Ok(()),
                    // Space that is there when it is needed, as tgtimg gives it.
                    false => Ok(rustix::fs::fallocate(&opened, rustix::fs::FallocateFlags::empty(), 0, size)?),
                }
            });
            match made {
                Ok(()) => print(&format!("{said}{file}\n")),
                Err(error) => {
                    if error.kind() != std::io::ErrorKind::AlreadyExists {
                        let _ = std::fs::remove_file(&file);
                    }
                    failed(&file, error)
                }
            }
        }
        Tgtimg::Show { file, kind } => match std::fs::metadata(&file) {
            Ok(facts) => print(&format!("{file}: {kind}, {} bytes\n", facts.len())),
            Err(error) => failed(&file, error),
        },
    }
}

/// `tgt-setup-lun`.
pub fn setup_lun(words: &[String]) -> ExitCode {
    let wanted = match programs::setup_lun(words) {
        Read::Wanted(wanted) => wanted,
        Read::Help | Read::Version => {
            print(programs::SETUP_LUN_USAGE);
            return ExitCode::from(1);
        }
        Read::Wrong(lines) => {
            print(&(lines.join("\n") + "\n"));
            return ExitCode::from(1);
        }
    };
    match set_up(&wanted) {
        Ok(()) => ExitCode::SUCCESS,
        Err(line) => {
            print(&format!("{line}\n"));
            ExitCode::from(1)
        }
    }
}

fn set_up(wanted: &SetupLun) -> Result<(), String> {
    let told = |failure: Failure| match failure {
        Failure::Unreachable(..) => "tgtd is not running\nExiting...".to_owned(),
        Failure::Refused(error, why) => {
            format!("Error: {error}{}", why.map(|why| format!(": {why}")).unwrap_or_default())
        }
    };
    let device = wanted.device.clone().unwrap_or_else(|| "/dev/null".to_owned());
    if wanted.store.as_deref() != Some("null") && !std::path::Path::new(&device).exists() {
        return Err(format!("Error: {device} is not a device"));
    }
    let combining = super::access::Combining::of_environment()?;
    let port = wanted.control_port.unwrap_or(0);
    let daemon = Served::new(Link::of_port(port), combining);
    let view = daemon.view().map_err(told)?;
    if wanted.control_port.is_some() {
        print(&format!("Control port: {port}\n"));
    }
    print(&format!("Using transport: {}\n", wanted.driver));
    let name = match wanted.name.starts_with("iqn") {
        true => wanted.name.clone(),
        false => format!("iqn.2001-04.com.{}-{}", host(), wanted.name),
    };
    let running = view.targets.iter().find(|target| target.name == name);
    if running.is_some() {
        // Nobody is asked here: a script would wait for ever.
        return Err(format!("Error: target named {name} already exists; add the LUN with tgtadm"));
    }
    let tid = (1..).find(|tid| !view.targets.iter().any(|target| target.tid == *tid)).unwrap_or(1);
    print(&format!("Creating new target (name={name}, tid={tid})\n"));
    print(&format!("Adding a logical unit ({device}) to target, tid={tid}\n"));
    if let Some(store) = &wanted.store {
        print(&format!("Setting backing store type: {store}\n"));
    }
    let unit = NewUnit {
        tid,
        lun: 1,
        path: Some(device),
        store: wanted.store.clone(),
        block_size: wanted.block_size.clone(),
        device_type: DeviceType::Disk,
        ..NewUnit::default()
    };
    let mut changes = vec![Change::NewTarget { tid, name, driver: wanted.driver.clone() }, Change::NewUnit(unit)];
    let initiators = match wanted.initiators.is_empty() {
        true => {
            print("Accepting connections from all initiators\n");
            vec!["ALL".to_owned()]
        }
        false => {
            print(&format!("Accepting connections from {}\n", wanted.initiators.join(" ")));
            wanted.initiators.clone()
        }
    };
    for address in initiators {
        changes.push(Change::Bind { tid, who: Who { address: Some(address), initiator: None } });
    }
    // All of it or nothing: there is no half a target to delete.
    daemon.together(&changes, false).map_err(|(_, failure)| told(failure))
}

/// The name of this machine, up to its first dot.
fn host() -> String {
    let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
    name.split('.').next().unwrap_or_default().to_lowercase()
}
