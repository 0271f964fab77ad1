//! The daemon under a service manager: what it tells, when the watchdog's beat stops, sockets that are handed over.

use sim::daemon::{Daemon, Folder, TARGET};
use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const LUNETTE: &str = env!("CARGO_BIN_EXE_lunette");

/// The service manager's end.
struct Manager {
    folder: Folder,
    socket: UnixDatagram,
}

impl Manager {
    fn new() -> Manager {
        let folder = Folder::new();
        let socket = UnixDatagram::bind(folder.path().join("notify")).unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
        Manager { folder, socket }
    }

    /// All that was said until one line is this, or this long.
    fn until(&self, line: &str, limit: Duration) -> (bool, Vec<String>) {
        let (end, mut said) = (Instant::now() + limit, Vec::new());
        let mut packet = [0; 4096];
        while Instant::now() < end {
            let Ok(length) = self.socket.recv(&mut packet) else { continue };
            let text = String::from_utf8_lossy(&packet[..length]).into_owned();
            said.extend(text.lines().map(str::to_owned));
            if said.iter().any(|one| one == line) {
                return (true, said);
            }
        }
        (false, said)
    }
}

#[test]
fn a_process_that_took_over_beats_in_the_place_of_the_one_that_the_service_manager_started() {
    let manager = Manager::new();
    // As systemd does: what it started is named by its number.
    let program = manager.folder.file("started");
    std::fs::write(&program, format!("#!/bin/sh\nWATCHDOG_PID=$$ exec {LUNETTE} \"$@\"\n")).unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    let socket = manager.folder.file("notify");
    let environment = [("NOTIFY_SOCKET", socket.as_str()), ("WATCHDOG_USEC", "400000")];
    let mut daemon = Daemon::start_with(&program, &["ram:4M"], &[], &environment);
    assert!(manager.until("WATCHDOG=1", Duration::from_secs(10)).0, "the first one beats");
    daemon.upgrade(LUNETTE, &["--timeout", "20"]).unwrap();
    let line = format!("MAINPID={}", daemon.process_id());
    assert!(manager.until(&line, Duration::from_secs(10)).0);
    // What the old one said last.
    manager.until("WATCHDOG=1", Duration::from_millis(300));
    for _ in 0..3 {
        assert!(manager.until("WATCHDOG=1", Duration::from_secs(5)).0, "the second one beats");
    }
}

#[test]
fn it_tells_when_it_serves_that_it_lives_and_when_it_stops() {
    let manager = Manager::new();
    let socket = manager.folder.file("notify");
    let environment = [("NOTIFY_SOCKET", socket.as_str()), ("WATCHDOG_USEC", "400000")];
    let mut daemon = Daemon::start_with(LUNETTE, &["ram:4M", "ram:4M"], &[], &environment);
    let (ready, said) = manager.until("READY=1", Duration::from_secs(10));
    let more = manager.until("STATUS=Serving 2 disks of 1 target to 0 sessions", Duration::from_secs(5)).1;
    assert!(ready, "{said:?}");
    assert!([said, more].concat().iter().any(|line| line.starts_with("STATUS=Serving 2 disks of 1 target")));
    for _ in 0..3 {
        assert!(manager.until("WATCHDOG=1", Duration::from_secs(5)).0, "it beats");
    }
    // Nobody answers at the administration's socket any more.
    std::fs::remove_file(daemon.control()).unwrap();
    while manager.until("WATCHDOG=1", Duration::from_millis(600)).0 {}
    assert!(!manager.until("WATCHDOG=1", Duration::from_secs(1)).0, "it does not beat");
    assert!(daemon.log().contains("the watchdog is not told that all is well: the administration at"));
    assert!(daemon.terminate().success());
    assert!(manager.until("STOPPING=1", Duration::from_secs(5)).0);
}

#[test]
fn it_serves_at_a_socket_that_was_handed_over() {
    let folder = Folder::new();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    // The shell's standard input becomes the first descriptor of systemd's protocol.
    let mut child = Command::new("sh")
        .args(["-c", "exec \"$0\" serve ram:4M --listen 127.0.0.1:0 --name \"$1\" --state-dir \"$2\" 3<&0 0</dev/null"])
        .args([LUNETTE, TARGET, &folder.file("state")])
        .env("LISTEN_FDS", "1")
        .env("LISTEN_FDNAMES", "group-1")
        .stdin(Stdio::from(OwnedFd::from(listener)))
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let found =
        lines.map_while(Result::ok).any(|line| line.starts_with("Portal ") && line.contains(&address.to_string()));
    let listed = Command::new(LUNETTE).args(["ls", &format!("iscsi://{address}")]).output().unwrap();
    let _ = child.kill();
    let _ = child.wait();
    assert!(found, "the banner tells the portal");
    assert!(String::from_utf8_lossy(&listed.stdout).contains(TARGET), "{}", String::from_utf8_lossy(&listed.stderr));
}

#[test]
fn a_socket_of_a_group_that_is_not_there_is_refused() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let folder = Folder::new();
    let output = Command::new("sh")
        .args(["-c", "exec \"$0\" serve ram:4M --listen 127.0.0.1:0 --state-dir \"$1\" 3<&0 0</dev/null"])
        .args([LUNETTE, &folder.file("state")])
        .env("LISTEN_FDS", "1")
        .env("LISTEN_FDNAMES", "group-9")
        .stdin(Stdio::from(OwnedFd::from(listener)))
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("portal group 9"));
}
