//! What cannot be attached: one line, the right exit code, and nothing left.

use crate::bench::{Bench, LUNETTE, address};
use sim::daemon::{Daemon, TARGET, free_address};
use std::time::{Duration, Instant};

fn refused(bench: &Bench, arguments: &[&str], code: i32, words: &str) {
    let begun = Instant::now();
    let mut all = vec!["attach", "--via", "fuse"];
    all.extend_from_slice(arguments);
    let said = bench.run(&all);
    assert_eq!((said.code, said.out.as_str()), (code, ""), "{arguments:?}: {}", said.err);
    let is_line = said.err.lines().count() == 1 && said.err.starts_with("lunette: ");
    assert!(is_line && said.err.contains(words), "{arguments:?}: {}", said.err);
    assert!(begun.elapsed() < Duration::from_secs(15), "{arguments:?}: {:?}", begun.elapsed());
    bench.assert_nothing_left();
}

#[test]
#[ignore = "needs root, FUSE and loop devices: cargo xtask test attach"]
fn a_target_that_is_not_there_or_does_not_let_us_in_is_one_line_and_nothing_is_left() {
    let bench = Bench::new();
    let mut daemon =
        Daemon::start_with(LUNETTE, &["ram:8M"], &["--chap", "alice"], &[("LUNETTE_CHAP_SECRET", "the right secret")]);
    let at = daemon.address();
    let with = |login: &str, target: &str, lun: u64| format!("iscsi://{login}{at}/{target}/{lun}");
    refused(&bench, &[&with("alice%a wrong secret@", TARGET, 1)], 4, "refuses the login");
    refused(&bench, &[&with("", TARGET, 1)], 4, TARGET);
    refused(&bench, &[&with("alice%the right secret@", "iqn.2026-01.org.example:none", 1)], 5, "no such target");
    refused(&bench, &[&with("alice%the right secret@", TARGET, 7)], 5, "no LUN 7");
    refused(&bench, &[&format!("iscsi://no-such-host.invalid/{TARGET}/1")], 3, "no-such-host.invalid");
    refused(&bench, &[&format!("iscsi://{}/{TARGET}/1", free_address())], 3, "refused");
    refused(&bench, &[&format!("iscsi://{at}")], 2, "lunette discover");
    refused(&bench, &["iscsi://"], 2, "");
    let right = address(&daemon, 1).replace("iscsi://", "iscsi://alice%the right secret@");
    let device = bench.attach(&["--via", "fuse", &right]);
    // No secret stands where others can read it.
    let told = format!("{:#}", bench.attached());
    assert!(told.contains("alice@") && !told.contains("the right secret"), "{told}");
    bench.detach(&[device.to_str().unwrap()]);
    daemon.kill();
    refused(&bench, &[&right], 3, "refused");
}

#[test]
#[ignore = "needs root, FUSE and loop devices: cargo xtask test attach"]
fn a_target_that_says_nothing_is_given_up_in_time() {
    let bench = Bench::new();
    // Takes connections and never answers.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("iscsi://{}/{TARGET}/1", silent.local_addr().unwrap());
    refused(&bench, &["--login-timeout", "2", &address], 3, "within");
}

#[test]
#[ignore = "needs root, FUSE and loop devices: cargo xtask test attach"]
fn a_command_that_is_killed_while_it_logs_in_leaves_nothing() {
    let bench = Bench::new();
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("iscsi://{}/{TARGET}/1", silent.local_addr().unwrap());
    let mut child = bench.start(&["attach", "--via", "fuse", "--login-timeout", "600", &address]);
    let (_connection, _) = silent.accept().unwrap();
    assert!(!bench.left().is_empty(), "a holder logs in");
    child.kill().unwrap();
    child.wait().unwrap();
    bench.assert_nothing_left();
}

#[test]
#[ignore = "needs root, FUSE and loop devices: cargo xtask test attach"]
fn a_front_end_that_this_machine_lacks_says_what_would_mend_it() {
    let bench = Bench::new();
    if std::path::Path::new("/dev/ublk-control").exists() {
        return println!("not run: a front-end that is lacking: this machine has ublk");
    }
    let daemon = Daemon::start(LUNETTE, &["ram:8M"]);
    let said = bench.run(&["attach", "--via", "ublk", &address(&daemon, 1)]);
    assert_eq!((said.code, said.err.lines().count()), (7, 1), "{}", said.err);
    assert!(said.err.contains("ublk"), "{}", said.err);
    // The best that there is says why it is the best.
    let said = bench.run(&["attach", &address(&daemon, 1)]);
    assert!(said.code == 0 && said.err.contains("via ") && said.err.contains("ublk: "), "{}", said.err);
    bench.detach(&["--all"]);
    bench.assert_nothing_left();
}
