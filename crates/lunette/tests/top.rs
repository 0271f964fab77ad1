//! `lunette top` on the real binary: as text and JSON, and in a terminal (tmux) that is resized, killed and left.

use sim::Daemon;
use sim::daemon::{Folder, TARGET};
use sim::raw::{Client, Command, Login};
use std::process::{Command as Process, Output};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

const LUNETTE: &str = env!("CARGO_BIN_EXE_lunette");

fn top(daemon: &Daemon, arguments: &[&str]) -> Output {
    Process::new(LUNETTE).args(["top", "--control"]).arg(daemon.control()).args(arguments).output().unwrap()
}

fn session(daemon: &Daemon) -> Client {
    let mut client = daemon.connect();
    client.login(&Login::normal(TARGET));
    client.take_attentions();
    client
}

/// A session that reads until it is dropped.
struct Busy {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Busy {
    fn new(daemon: &Daemon) -> Busy {
        let mut client = session(daemon);
        let stop = Arc::<AtomicBool>::default();
        let told = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            while !told.load(Ordering::Relaxed) {
                client.good(&Command::read(0, 8));
            }
            client.logout();
        });
        Busy { stop, thread: Some(thread) }
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

#[test]
fn what_a_disk_does_is_told_to_scripts() {
    let daemon = Daemon::start(LUNETTE, &["ram:16M", "ram:32M"]);
    let _busy = Busy::new(&daemon);
    let output = top(&daemon, &["--json", "--once", "--interval", "0.5"]);
    assert!(output.status.success(), "{output:?}");
    let told: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let luns = told["luns"].as_array().unwrap();
    let lun = |number: u64| luns.iter().find(|lun| lun["lun"] == number).unwrap();
    let rates = &lun(1)["rates"];
    let (reads, bytes) = (rates["reads"].as_f64().unwrap(), rates["read_bytes"].as_f64().unwrap());
    assert!(reads > 1.0 && (bytes / reads - 4096.0).abs() < 1.0, "{told}");
    let (p50, p99) = (rates["p50_seconds"].as_f64().unwrap(), rates["p99_seconds"].as_f64().unwrap());
    assert!(0.0 < p50 && p50 <= p99 && p99 < 10.0, "{told}");
    assert_eq!((&lun(2)["rates"]["operations"], &lun(2)["bytes"]), (&0.0.into(), &(32u64 << 20).into()));
    let of_session = told["sessions"][0]["rates"]["reads"].as_f64().unwrap();
    assert!((of_session - reads).abs() <= reads * 0.5 + 10.0, "a session's reads are those of its disk: {told}");
    let text = top(&daemon, &["--once", "--interval", "0.3", "--view", "sessions"]);
    let text = String::from_utf8(text.stdout).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    assert!(lines.len() == 2 && lines[0].contains("INITIATOR") && lines[1].contains("127.0.0.1:"), "{text}");
}

#[test]
fn what_cannot_be_shown_is_told_in_a_line() {
    let daemon = Daemon::start(LUNETTE, &["ram:1M"]);
    let said = |output: Output| (output.status.code(), String::from_utf8(output.stderr).unwrap());
    let (code, why) = said(top(&daemon, &[]));
    assert!(code == Some(2) && why.contains("--once"), "{why}");
    let (code, why) = said(top(&daemon, &["--once", "--sort", "colour"]));
    assert!(code == Some(2) && why.contains("p99.9"), "{why}");
    let nobody = Process::new(LUNETTE).args(["top", "--once", "--control", "/nowhere.sock"]).output().unwrap();
    let (code, why) = said(nobody);
    assert!(code == Some(3) && why.contains("lunette serve"), "{why}");
}

/// A terminal of its own.
struct Tmux {
    socket: String,
}

impl Tmux {
    /// A shell of this size.
    fn start(folder: &Folder, width: u16, height: u16) -> Tmux {
        let tmux = Tmux { socket: folder.file("tmux.sock") };
        let (width, height) = (width.to_string(), height.to_string());
        // Its own configuration, and a shell whose prompt is known.
        let shell = [
            "new-session",
            "-d",
            "-s",
            "top",
            "-x",
            &width,
            "-y",
            &height,
            "env",
            "LC_ALL=C.UTF-8",
            "PS1=ready> ",
            "sh",
        ];
        tmux.run(&shell);
        tmux.wait_for("ready>");
        tmux
    }

    fn run(&self, words: &[&str]) -> String {
        let output = Process::new("tmux").args(["-f", "/dev/null", "-S", &self.socket]).args(words).output().unwrap();
        assert!(output.status.success(), "tmux {words:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    fn keys(&self, keys: &[&str]) {
        self.run(&[&["send-keys", "-t", "top"], keys].concat());
    }

    fn shown(&self) -> String {
        self.run(&["capture-pane", "-p", "-t", "top"])
    }

    /// Waits until the terminal shows this.
    #[track_caller]
    fn wait_for(&self, text: &str) -> String {
        let end = Instant::now() + Duration::from_secs(30);
        loop {
            let shown = self.shown();
            if shown.contains(text) {
                return shown;
            }
            assert!(Instant::now() < end, "{text:?} does not come:\n{shown}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

impl Drop for Tmux {
    fn drop(&mut self) {
        let _ = Process::new("tmux").args(["-S", &self.socket, "kill-server"]).output();
    }
}

#[test]
#[ignore = "needs tmux: the suite top runs it"]
fn in_a_terminal_every_view_is_there_and_the_terminal_is_given_back_however_it_ends() {
    let daemon = Daemon::start(LUNETTE, &["ram:16M", "ram:32M"]);
    let _busy = Busy::new(&daemon);
    let folder = Folder::new();
    let tmux = Tmux::start(&folder, 120, 30);
    let command =
        format!("LUNETTE_DEBUG_PANIC=top {LUNETTE} top --interval 0.3 --control {}", daemon.control().display());
    tmux.keys(&[&command, "Enter"]);
    tmux.wait_for("q quit");
    let shown = tmux.wait_for("RDB/S");
    assert!(shown.contains("LUNs 2") && !shown.contains("ready>"), "{shown}");
    tmux.keys(&["2"]);
    tmux.wait_for("INITIATOR");
    tmux.keys(&["Enter"]);
    let close = tmux.wait_for("What was agreed");
    assert!(close.contains("Session ") && close.contains("MaxBurstLength="), "{close}");
    tmux.keys(&["Escape"]);
    tmux.wait_for("INITIATOR");
    tmux.keys(&["1", "Enter"]);
    tmux.wait_for("How long they took");
    tmux.keys(&["4"]);
    tmux.wait_for("Refused logins");
    tmux.keys(&["?"]);
    tmux.wait_for("any key goes back");
    tmux.keys(&["x", "1"]);
    tmux.wait_for("RDB/S");
    // Smaller, larger.
    tmux.run(&["resize-window", "-t", "top", "-x", "50", "-y", "9"]);
    let small = tmux.wait_for("OP/S");
    assert!(small.lines().all(|line| line.chars().count() <= 50), "{small}");
    tmux.run(&["resize-window", "-t", "top", "-x", "120", "-y", "30"]);
    tmux.wait_for("P99.9");
    // Left, killed, interrupted, and by a defect (which debug builds can be asked for): the shell is there again, and shows what is typed.
    for (at, ending) in ["q", "TERM", "C-c", "!"].into_iter().enumerate() {
        if at > 0 {
            tmux.keys(&[&command, "Enter"]);
            tmux.wait_for("q quit");
        }
        match ending {
            "TERM" => {
                let pane = tmux.run(&["display-message", "-p", "-t", "top", "#{pane_pid}"]);
                let pane = pane.trim();
                let children = std::fs::read_to_string(format!("/proc/{pane}/task/{pane}/children")).unwrap();
                let killed = Process::new("kill").args(["-TERM", children.trim()]).status().unwrap();
                assert!(killed.success(), "{children}");
            }
            key => tmux.keys(&[key]),
        }
        let word = format!("echo it-is-$(({at}+40))-back");
        tmux.wait_for("ready>");
        tmux.keys(&[&word, "Enter"]);
        let shown = tmux.wait_for(&format!("it-is-{}-back", at + 40));
        assert!(shown.contains(&word), "what is typed is shown: {shown}");
        assert!(!shown.contains("q quit"), "{shown}");
    }
}
