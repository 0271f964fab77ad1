//! Disks by node records, which several programs share.

use crate::bench::{Bench, LUNETTE, text};
use sim::daemon::{Daemon, TARGET};

#[test]
#[ignore = "needs root, FUSE and loop devices: cargo xtask test attach"]
fn a_record_says_where_the_disk_is_and_with_which_secret() {
    let bench = Bench::new();
    let daemon = Daemon::start_with(
        LUNETTE,
        &["ram:8M", "ram:16M"],
        &["--chap", "alice"],
        &[("LUNETTE_CHAP_SECRET", "a secret of alice")],
    );
    let portal = daemon.address().to_string();
    let node = |words: &[&str]| {
        let output = std::process::Command::new(LUNETTE)
            .arg("node")
            .args(words)
            .env("LUNETTE_ISCSI_ROOT", bench.path("iscsi"))
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    };
    let chap = ["node.session.auth.authmethod=CHAP", "node.session.auth.username=alice"];
    let secret = "node.session.auth.password=a secret of alice";
    node(&["add", TARGET, &portal, chap[0], chap[1], secret, "node.session.timeo.replacement_timeout=33"]);
    let device = bench.attach(&["--via", "fuse", "--lun", "2", TARGET]);
    let session = bench.session();
    assert_eq!(session["devices"][0]["bytes"], 16 << 20, "{session:#}");
    assert!(session["initiator"].as_str().unwrap().starts_with("iqn."), "{session:#}");
    bench.detach(&[text(&device)]);
    bench.assert_nothing_left();
    let none = bench.run(&["attach", "iqn.2026-01.org.example:unknown"]);
    assert_eq!((none.code, none.err.lines().count()), (5, 1), "{}", none.err);
    let elsewhere = bench.run(&["attach", &format!("{TARGET},10.255.255.1")]);
    assert_eq!((elsewhere.code, elsewhere.err.lines().count()), (5, 1), "{}", elsewhere.err);
}
