//! Bad weather: targets that are killed, stay away or come back as another disk, and holders that die.

use crate::bench::{Bench, LUNETTE, address, must, text, tool, until};
use sim::daemon::Daemon;
use sim::proxy::{Action, Direction, Plan, Proxy};
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

fn mounted(bench: &Bench, device: &std::path::Path) -> PathBuf {
    let point = bench.path("fs");
    let _ = fs::create_dir(&point);
    must("mkfs.ext4", &["-q", "-E", "nodiscard", text(device)]);
    must("mount", &[text(device), text(&point)]);
    point
}

#[test]
#[ignore = "needs root, FUSE and loop devices: cargo xtask test attach"]
fn a_target_that_is_killed_during_writes_and_comes_back_in_time_is_a_pause() {
    let bench = Bench::new();
    let disk = bench.path("disk.img");
    let mut daemon = Daemon::start(LUNETTE, &[&format!("{},size=96M", text(&disk))]);
    let device = bench.attach(&["--via", "fuse", "--replacement-timeout", "60", &address(&daemon, 1)]);
    let point = mounted(&bench, &device);
    let (over, written) = (AtomicBool::new(false), AtomicU64::new(0));
    let block = |number: u64| -> Vec<u8> { number.to_le_bytes().repeat(512) };
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| -> std::io::Result<u64> {
            let mut file = File::create(point.join("content"))?;
            let mut number = 0;
            while !over.load(Ordering::Relaxed) && number < 12_000 {
                file.write_all(&block(number))?;
                number += 1;
                if number % 32 == 0 {
                    file.sync_all()?;
                    written.store(number, Ordering::Relaxed);
                }
            }
            file.sync_all()?;
            Ok(number)
        });
        for _ in 0..3 {
            let before = written.load(Ordering::Relaxed);
            until("writes", || written.load(Ordering::Relaxed) > before, || bench.logs());
            daemon.kill();
            std::thread::sleep(Duration::from_millis(700));
            daemon.restart();
        }
        let before = written.load(Ordering::Relaxed);
        until("writes to go on", || written.load(Ordering::Relaxed) > before || writer.is_finished(), || bench.logs());
        over.store(true, Ordering::Relaxed);
        let count = writer.join().unwrap().expect("no error, only a pause");
        must("umount", &[text(&point)]);
        must("blockdev", &["--flushbufs", text(&device)]);
        must("mount", &[text(&device), text(&point)]);
        let content = fs::read(point.join("content")).unwrap();
        assert_eq!(content.len() as u64, count * 4096);
        for (number, found) in (0..).zip(content.chunks(4096)) {
            assert!(found == block(number), "block {number} is another");
        }
    });
    assert_eq!(bench.session()["state"], "logged in");
    must("umount", &[text(&point)]);
    bench.detach(&[text(&device)]);
    bench.assert_nothing_left();
    assert!(tool("fsck.ext4", &["-fn", text(&disk)]).code == 0);
}

#[test]
#[ignore = "needs root, FUSE and loop devices: cargo xtask test attach"]
fn one_of_two_paths_is_lost_without_an_error() {
    let bench = Bench::new();
    let disk = bench.path("disk.img");
    let daemon = Daemon::start(LUNETTE, &[&format!("{},size=32M", text(&disk))]);
    let reset = Plan::fault(Direction::ToTarget, 3 << 20, Action::Reset);
    // The first connection only finds the disk.
    let proxy = Proxy::start(daemon.address(), vec![Plan::default(), reset]);
    let first = format!("iscsi://{}/{}/1", proxy.address(), sim::daemon::TARGET);
    let second = daemon.address().to_string();
    let device = bench.attach(&["--via", "fuse", "--portal", &second, &first]);
    let paths = bench.session()["paths"].clone();
    assert_eq!(paths.as_array().map(Vec::len), Some(2), "{paths:#}");
    let content: Vec<u8> = (0..6_u32 << 20).flat_map(|number| number.to_le_bytes()).collect();
    let open = File::options().read(true).write(true).open(&device).unwrap();
    open.write_all_at(&content, 0).unwrap();
    open.sync_all().unwrap();
    drop(open);
    assert!(bench.logs().contains("a path to the disk is lost"), "{}", bench.logs());
    bench.detach(&[text(&device)]);
    bench.assert_nothing_left();
    assert!(fs::read(&disk).unwrap()[..content.len()] == content, "the content is another");
}

#[test]
#[ignore = "needs root, FUSE and loop devices: cargo xtask test attach"]
fn a_target_that_stays_away_is_an_error_and_detach_ends_none_the_less() {
    let bench = Bench::new();
    let mut daemon = Daemon::start(LUNETTE, &["ram:32M"]);
    let device = bench.attach(&["--via", "fuse", "--replacement-timeout", "2", &address(&daemon, 1)]);
    let point = mounted(&bench, &device);
    daemon.kill();
    let begun = Instant::now();
    let write = || -> std::io::Result<()> {
        let mut file = File::create(point.join("content"))?;
        file.write_all(&[7; 1 << 20])?;
        file.sync_all()
    };
    let error = write().unwrap_err();
    assert_eq!(error.raw_os_error(), Some(5), "EIO, and not {error}");
    assert!(begun.elapsed() < Duration::from_secs(30), "{:?}", begun.elapsed());
    assert_ne!(bench.session()["state"], "logged in");
    // Mounted it is in use, gone or not.
    assert_eq!(bench.run(&["detach", text(&device)]).code, 6);
    must("umount", &[text(&point)]);
    let begun = Instant::now();
    let said = bench.run(&["detach", text(&device)]);
    assert!(begun.elapsed() < Duration::from_secs(30), "{:?}: {}", begun.elapsed(), said.err);
    if said.code != 0 {
        bench.detach(&["--force", text(&device)]);
    }
    bench.assert_nothing_left();
}

#[test]
#[ignore = "needs root, FUSE and loop devices: cargo xtask test attach"]
fn with_force_detach_ends_though_it_is_mounted_and_the_target_is_gone() {
    let bench = Bench::new();
    let mut daemon = Daemon::start(LUNETTE, &["ram:32M"]);
    let device = bench.attach(&["--via", "fuse", "--replacement-timeout", "300", &address(&daemon, 1)]);
    let point = mounted(&bench, &device);
    fs::write(point.join("content"), [7; 1 << 20]).unwrap();
    daemon.kill();
    let begun = Instant::now();
    bench.detach(&["--force", text(&device)]);
    assert!(begun.elapsed() < Duration::from_secs(40), "{:?}", begun.elapsed());
    must("umount", &["-l", text(&point)]);
    bench.assert_nothing_left();
}

#[test]
#[ignore = "needs root, FUSE and loop devices: cargo xtask test attach"]
fn a_disk_that_comes_back_as_another_one_is_not_written() {
    let bench = Bench::new();
    let disk = bench.path("disk.img");
    let mut daemon = Daemon::start(LUNETTE, &[&format!("{},size=8M", text(&disk))]);
    let device = bench.attach(&["--via", "fuse", "--replacement-timeout", "30", &address(&daemon, 1)]);
    let open = File::options().read(true).write(true).open(&device).unwrap();
    open.write_all_at(&[1; 4096], 0).unwrap();
    open.sync_all().unwrap();
    daemon.kill();
    // The same address and size, another disk.
    fs::rename(&disk, bench.path("old.img")).unwrap();
    std::thread::scope(|scope| {
        let under_way = scope.spawn(|| {
            let written = open.write_all_at(&[2; 1 << 20], 4096);
            written.and_then(|()| open.sync_all())
        });
        std::thread::sleep(Duration::from_millis(500));
        daemon.restart();
        let outcome = under_way.join().unwrap();
        let other = fs::read(&disk).unwrap();
        assert!(other.len() == 8 << 20 && other.iter().all(|byte| *byte == 0), "the other disk was written");
        let error = outcome.unwrap_err();
        assert_eq!(error.raw_os_error(), Some(5), "{error}");
    });
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(2) {
        let _ = open.write_all_at(&[3; 4096], 0);
        assert!(open.sync_all().is_err(), "the other disk was written");
    }
    drop(open);
    let other = fs::read(&disk).unwrap();
    assert!(other.len() == 8 << 20 && other.iter().all(|byte| *byte == 0), "the other disk was written");
    bench.detach(&["--force", text(&device)]);
    bench.assert_nothing_left();
}

#[test]
#[ignore = "needs root, FUSE and loop devices: cargo xtask test attach"]
fn a_holder_that_was_killed_is_noticed_cleared_away_and_can_be_replaced() {
    let bench = Bench::new();
    let daemon = Daemon::start(LUNETTE, &["ram:8M"]);
    let device = bench.attach(&["--via", "fuse", &address(&daemon, 1)]);
    bench.kill_holder();
    // Nothing hangs. What nobody serves any more fails, or is no device any more, or somebody else's by now.
    tool(
        "timeout",
        &["-s", "KILL", "20", "dd", &format!("if={}", device.display()), "of=/dev/null", "count=1", "iflag=direct"],
    );
    let shown = bench.run(&["attached"]);
    assert!(shown.out.is_empty() && shown.err.contains("its holder had died"), "{}{}", shown.out, shown.err);
    bench.assert_nothing_left();

    bench.attach(&["--via", "fuse", &address(&daemon, 1)]);
    bench.kill_holder();
    let again = bench.run(&["attach", "--resume"]);
    assert!(again.code == 0 && again.out.starts_with("/dev/"), "{}{}", again.out, again.err);
    assert_eq!(bench.session()["state"], "logged in");
    bench.kill_holder();
    bench.detach(&["--all"]);
    bench.assert_nothing_left();
}

#[test]
#[ignore = "needs root, FUSE and loop devices: cargo xtask test attach"]
fn a_holder_that_hangs_is_ended_by_force() {
    let bench = Bench::new();
    let daemon = Daemon::start(LUNETTE, &["ram:8M"]);
    let device = bench.attach(&["--via", "fuse", &address(&daemon, 1)]);
    let process = bench.session()["process"]["pid"].as_u64().unwrap().to_string();
    must("kill", &["-STOP", &process]);
    let begun = Instant::now();
    bench.detach(&["--force", text(&device)]);
    assert!(begun.elapsed() < Duration::from_secs(40), "{:?}", begun.elapsed());
    bench.assert_nothing_left();
}
