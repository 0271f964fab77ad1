//! What a daemon tells of what it does, and how it is held to a limit: metrics, slow commands, limits that change.

use sim::Daemon;
use sim::exposition::Exported;
use sim::raw::{Command, Login};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

const LUNETTE: &str = env!("CARGO_BIN_EXE_lunette");
const TARGET: &str = "iqn.2026-01.org.example:one";

const FILE: &str = r#"
[daemon]
state-dir = "FOLDER/state"
threads = 2
[log]
slow = "5ms"
[metrics]
listen = "127.0.0.2:0"
[[portal]]
listen = "127.0.0.1:0"
[[target]]
name = "iqn.2026-01.org.example:one"
[[target.lun]]
number = 1
store = "ram:16M"
limit = { operations = 600 }
[[target.lun]]
number = 2
store = "ram:16M"
[[target.rule]]
initiators = "any"
"#;

/// Where metrics are to be had by TCP, as the log tells it.
fn metrics_address(daemon: &Daemon) -> SocketAddr {
    let log = daemon.log();
    let line = log.lines().find(|line| line.contains("metrics for Prometheus")).expect("the log tells of metrics");
    let plain: String = line.split("address=").nth(1).unwrap().chars().take_while(|c| !c.is_whitespace()).collect();
    plain.trim_matches('"').parse().unwrap_or_else(|_| panic!("{line}"))
}

/// Status line and body of a request without a body.
fn ask(mut stream: impl Read + Write, request: &str) -> (String, String) {
    write!(stream, "{request} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    let status = head.lines().next().unwrap().to_owned();
    let chunked = head.to_lowercase().contains("transfer-encoding: chunked");
    assert!(!chunked, "short answers have a length");
    (status, body.to_owned())
}

fn exported(daemon: &Daemon) -> Exported {
    let (status, body) = ask(UnixStream::connect(daemon.control()).unwrap(), "GET /metrics");
    assert!(status.contains("200"), "{status}");
    Exported::read(&body).unwrap()
}

const ONE: [(&str, &str); 2] = [("target", TARGET), ("lun", "1")];

/// Reads of LUN 1 that have ended.
fn reads(daemon: &Daemon) -> f64 {
    let labels = [ONE[0], ONE[1], ("operation", "read")];
    exported(daemon).value("lunette_lun_latency_seconds_count", &labels).unwrap()
}

/// How many reads of LUN 1 end in a second, over so long.
fn rate(daemon: &Daemon, time: Duration) -> f64 {
    let (began, before) = (Instant::now(), reads(daemon));
    std::thread::sleep(time);
    let after = reads(daemon);
    (after - before) / began.elapsed().as_secs_f64()
}

/// Load on LUN 1 by so many sessions, until it is dropped.
struct Load(Child);

impl Load {
    fn new(daemon: &Daemon, sessions: u16) -> Load {
        let url = format!("iscsi://{}/{TARGET}/1", daemon.address());
        let load = std::process::Command::new(LUNETTE)
            .args(["perf", &url, "--sessions", &sessions.to_string(), "--depth", "8", "--seconds", "60"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        Load(load.unwrap())
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn within(value: f64, wanted: f64, share: f64) -> bool {
    (value - wanted).abs() <= wanted * share
}

#[test]
fn a_lun_is_held_to_its_limit_which_changes_at_once_while_others_and_tests_go_on() {
    let daemon = Daemon::configured(LUNETTE, FILE);
    let load = Load::new(&daemon, 2);
    let end = Instant::now() + Duration::from_secs(10);
    while reads(&daemon) < 200.0 {
        assert!(Instant::now() < end, "no load comes\n{}", daemon.log());
        std::thread::sleep(Duration::from_millis(20));
    }
    let limited = rate(&daemon, Duration::from_secs(4));
    assert!(within(limited, 600.0, 0.05), "{limited} reads a second");
    assert!(exported(&daemon).value("lunette_lun_limited_sessions", &ONE).unwrap() >= 1.0);
    // Somebody else asks both disks and uses the other one.
    let mut client = daemon.connect();
    client.login(&Login::normal(TARGET));
    client.take_attentions();
    client.execute(&Command::test_unit_ready().at(2));
    let began = Instant::now();
    for _ in 0..200 {
        client.good(&Command::test_unit_ready());
        client.good(&Command::write(0, &[7; 512]).at(2));
    }
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    // A read there takes a while: it waits for its turn, and is told of.
    (0..3).for_each(|_| {
        client.good(&Command::read(0, 8));
    });
    let file = daemon.control().parent().unwrap().parent().unwrap().join("lunette.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, text.replace("operations = 600", "operations = 2400, burst = \"50ms\"")).unwrap();
    daemon.signal("HUP");
    let end = Instant::now() + Duration::from_secs(10);
    while exported(&daemon).value("lunette_lun_limit_operations", &ONE) != Some(2400.0) {
        assert!(Instant::now() < end, "{}", daemon.log());
        std::thread::sleep(Duration::from_millis(10));
    }
    assert!(daemon.log().contains("limit 600 operations/s → 2400 operations/s (burst 50 ms)"), "{}", daemon.log());
    let faster = rate(&daemon, Duration::from_secs(3));
    assert!(within(faster, 2400.0, 0.07), "{faster} reads a second");
    drop(load);
    let log = daemon.log();
    let slow = log.lines().find(|line| line.contains("slow command")).unwrap_or_else(|| panic!("{log}"));
    for word in ["READ(1", TARGET, "lun=1", "waited_ms=", "store_ms=", "GOOD"] {
        assert!(slow.contains(word), "{word}: {slow}");
    }
    let lines = log.matches("slow command").count();
    assert!(lines < 400, "{lines} lines, which a bound holds down");
    assert!(exported(&daemon).value("lunette_slow_commands_total", &[]).unwrap() > lines as f64);
}

#[test]
fn metrics_by_tcp_are_those_of_the_control_socket_and_nothing_else_is_there() {
    let mut daemon = Daemon::configured(LUNETTE, FILE);
    let address = metrics_address(&daemon);
    let ask_tcp = |request: &str| ask(TcpStream::connect(address).unwrap(), request);
    let mut client = daemon.connect();
    client.login(&Login::normal(TARGET));
    client.take_attentions();
    client.execute(&Command::test_unit_ready().at(2));
    client.good(&Command::write(0, &[7; 1024]).at(2));
    client.execute(&Command::read(u32::MAX, 1).at(2));
    let (status, body) = ask_tcp("GET /metrics");
    assert!(status.contains("200"), "{status}");
    let exported = Exported::read(&body).unwrap();
    let two = [("target", TARGET), ("lun", "2")];
    let value = |name, labels: &[(&str, &str)]| exported.value(name, labels);
    assert_eq!(value("lunette_lun_bytes_total", &[two[0], two[1], ("operation", "write")]), Some(1024.0));
    assert_eq!(value("lunette_lun_errors_total", &[two[0], two[1], ("error", "illegal_request")]), Some(1.0));
    assert_eq!(value("lunette_lun_failed_commands_total", &[two[0], two[1], ("operation", "read")]), Some(1.0));
    assert_eq!(value("lunette_sessions", &[two[0]]), Some(1.0));
    assert_eq!(value("lunette_logins_total", &[]), Some(1.0));
    // Also in the sandbox, which is on.
    assert!(value("process_resident_memory_bytes", &[]).is_some() && value("process_open_fds", &[]).is_some());
    for (request, wanted) in
        [("POST /metrics", "405"), ("GET /v1/sessions", "404"), ("GET /", "404"), ("DELETE /metrics", "405")]
    {
        assert!(ask_tcp(request).0.contains(wanted), "{request}");
    }
    // Whoever connects and says nothing keeps nobody else from reading.
    let idle: Vec<_> = (0..4).map(|_| TcpStream::connect(address).unwrap()).collect();
    assert!(ask_tcp("GET /metrics").0.contains("200"));
    drop(idle);
    assert!(daemon.terminate().success());
}

#[test]
fn a_limit_of_a_rule_holds_for_its_initiators_together_and_for_no_others() {
    let text = FILE.replace("limit = { operations = 600 }\n", "").replace(
        "[[target.rule]]\ninitiators = \"any\"\n",
        "[[target.rule]]\ninitiators = \"iqn.2026-01.org.example:host\"\n[[target.rule]]\ninitiators = \
         \"any\"\nlimit = { operations = 500 }\n",
    );
    let daemon = Daemon::configured(LUNETTE, &text);
    let _load = Load::new(&daemon, 4);
    let end = Instant::now() + Duration::from_secs(10);
    while reads(&daemon) < 100.0 {
        assert!(Instant::now() < end, "no load comes\n{}", daemon.log());
        std::thread::sleep(Duration::from_millis(20));
    }
    let limited = rate(&daemon, Duration::from_secs(3));
    assert!(within(limited, 500.0, 0.05), "{limited} reads a second of four sessions");
    let mut client = daemon.connect();
    client.login(&Login::normal(TARGET).initiator("iqn.2026-01.org.example:host"));
    client.take_attentions();
    let began = Instant::now();
    (0..500).for_each(|_| {
        client.good(&Command::read(0, 8));
    });
    assert!(began.elapsed() < Duration::from_millis(900), "{:?} for 500 reads", began.elapsed());
}

#[test]
fn what_is_wrong_with_a_limit_or_with_metrics_is_told_with_its_place() {
    let folder = sim::daemon::Folder::new();
    let path = folder.file("lunette.toml");
    for (from, to, wanted) in [
        ("operations = 600", "operation = 600", "did you mean `operations`?"),
        ("operations = 600", "operations = 0", "is no such number"),
        ("operations = 600", "bytes = \"64K\"", "write one from 1M"),
        ("operations = 600", "operations = 5, burst = \"1h\"", "write one from \"20ms\""),
        ("{ operations = 600 }", "{}", "the limit limits nothing"),
        ("\"5ms\"", "\"soon\"", "as \"500ms\""),
        ("127.0.0.2:0", "9860", "is no address with a port"),
    ] {
        let text = FILE.replace("FOLDER", &folder.path().display().to_string()).replace(from, to);
        std::fs::write(&path, text).unwrap();
        let ended = std::process::Command::new(LUNETTE).args(["serve", "--config", &path]).output().unwrap();
        let told = String::from_utf8_lossy(&ended.stderr).into_owned();
        assert_eq!(ended.status.code(), Some(2), "{told}");
        assert!(told.contains(wanted) && told.starts_with(&path), "{to}: {told}");
    }
}
