//! copy: that it is equal, that it spares space, that it goes on, and what it refuses.

use super::help::{LUNETTE, fails, good, json, noise, refused, run, start, url};
use serde_json::Value;
use sim::Daemon;
use sim::daemon::{Folder, TARGET};
use sim::proxy::{Direction, Plan, Proxy};
use std::io::{BufRead, BufReader};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::process::{Child, Command};
use std::time::Duration;

const MEBIBYTE: usize = 1 << 20;

/// Data, a hole, more data, and zeros at the end.
fn sample(path: &Path, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    let parts = [(0, noise(length / 8, 1)), (length / 2, noise(length / 8 + 777, 2))];
    let file = std::fs::File::create(path).unwrap();
    file.set_len(length as u64).unwrap();
    for (at, part) in parts {
        bytes[at..at + part.len()].copy_from_slice(&part);
        file.write_all_at(&part, at as u64).unwrap();
    }
    bytes
}

/// The last line that a copy said as JSON.
fn done(said: &str) -> Value {
    let last: Value = serde_json::from_str(said.lines().last().unwrap()).unwrap();
    assert_eq!(last["event"], "done", "{said}");
    last
}

#[test]
fn a_file_goes_to_a_disk_to_another_disk_and_back_and_is_the_same() {
    let folder = Folder::new();
    let bytes = sample(&folder.path().join("a.img"), 8 * MEBIBYTE);
    let daemon = Daemon::start(LUNETTE, &["ram:12M", &folder.file("b.img,size=8M"), "ram:8M"]);
    let (ram, file, third) = (url(&daemon, 1), url(&daemon, 2), url(&daemon, 3));
    let first = good(&folder, &["copy", "a.img", &ram, "--verify", "--json"]);
    let first = done(&first);
    assert_eq!(
        (&first["bytes"], &first["verified"], &first["untouched"]),
        (&(8 << 20).into(), &true.into(), &(4 << 20).into())
    );
    assert!(first["written"].as_u64() < Some(3 << 20), "holes are not sent: {first}");

    // From the larger disk to a smaller one: refused. To one that has room, in small pieces, a few at a time.
    assert!(fails(&folder, &["copy", &ram, &file], 2).contains("does not fit"));
    let words = ["copy", "a.img", &file, "--chunk", "192K", "--parallel", "3", "--checksum", "crc32c", "--json"];
    assert_eq!(done(&good(&folder, &words))["checksum"]["kind"], "crc32c");
    done(&good(&folder, &["copy", &file, &third, "--json", "--no-sparse"]));
    let people = good(&folder, &["copy", &third, "back.img"]);
    assert!(people.contains("8 MiB copied"), "{people}");
    assert!(std::fs::read(folder.path().join("back.img")).unwrap() == bytes);
    assert!(std::fs::read(folder.path().join("b.img")).unwrap() == bytes);
    let blocks = std::fs::metadata(folder.path().join("back.img")).unwrap().blocks() * 512;
    assert!(blocks < 3 << 20, "zeros take no space: {blocks}");
    let sum = first["checksum"]["value"].as_str().unwrap();
    assert!(people.contains(sum), "the same content has the same checksum: {people}");
    if let Ok(output) = Command::new("sha256sum").arg(folder.path().join("a.img")).output() {
        assert_eq!(String::from_utf8_lossy(&output.stdout).split(' ').next(), Some(sum));
    }
    let left: Vec<_> = std::fs::read_dir(folder.path()).unwrap().flatten().map(|entry| entry.file_name()).collect();
    assert!(!left.iter().any(|name| name.to_string_lossy().contains("lunette-copy")), "no journal is left: {left:?}");
}

#[test]
fn of_a_disk_of_many_holes_only_the_rest_is_read() {
    let folder = Folder::new();
    let piece = 64 << 10;
    let file = std::fs::File::create(folder.path().join("disk.img")).unwrap();
    file.set_len(16 << 20).unwrap();
    let mut bytes = vec![0; 16 << 20];
    for (number, chunk) in bytes.chunks_mut(piece).enumerate().filter(|(number, _)| number % 2 == 1) {
        chunk.copy_from_slice(&noise(piece, number as u64));
        file.write_all_at(chunk, (number * piece) as u64).unwrap();
    }
    let daemon = Daemon::start(LUNETTE, &[&folder.file("disk.img"), "ram:16M"]);
    let proxy = Proxy::start(daemon.address(), Vec::new());
    let disk = format!("iscsi://{}/{TARGET}/1", proxy.address());
    let copied = done(&good(&folder, &["copy", &disk, "a.img", "--json", "--checksum", "crc32c"]));
    assert_eq!((&copied["written"], &copied["skipped"]), (&(8 << 20).into(), &(8 << 20).into()));
    let passed = proxy.passed(Direction::ToInitiator);
    assert!(passed < 9 << 20, "holes do not come over the network: {passed}");
    assert!(std::fs::read(folder.path().join("a.img")).unwrap() == bytes);
    done(&good(&folder, &["copy", &url(&daemon, 1), &url(&daemon, 2), "--json", "--checksum", "crc32c", "--verify"]));
}

#[test]
fn an_odd_end_is_filled_with_zeros_and_what_was_there_before_is_gone() {
    let folder = Folder::new();
    std::fs::write(folder.path().join("disk.img"), vec![0xee; 3 * MEBIBYTE]).unwrap();
    let bytes = sample(&folder.path().join("a.img"), 2 * MEBIBYTE + 1001);
    let daemon = Daemon::start(LUNETTE, &[&folder.file("disk.img,block=4096")]);
    let disk = url(&daemon, 1);
    assert!(fails(&folder, &["copy", "a.img", &disk], 2).contains("holds data at its start; add --overwrite"));
    good(&folder, &["copy", "a.img", &disk, "--overwrite", "--verify"]);
    let all = std::fs::read(folder.path().join("disk.img")).unwrap();
    let end = bytes.len().next_multiple_of(4096);
    assert!(all[..bytes.len()] == bytes);
    assert!(all[bytes.len()..end].iter().all(|byte| *byte == 0));
    assert!(all[end..].iter().all(|byte| *byte == 0xee), "what is behind it is as it was");
}

#[test]
fn what_would_be_lost_by_mistake_is_refused_in_one_line_and_is_still_there() {
    let folder = Folder::new();
    let file = |name: &str| folder.path().join(name);
    std::fs::write(file("large"), noise(2 * MEBIBYTE, 3)).unwrap();
    std::fs::write(file("small"), noise(MEBIBYTE, 4)).unwrap();
    std::os::unix::fs::symlink(file("large"), file("link")).unwrap();
    std::fs::write(file("ro.img"), vec![0; 4 * MEBIBYTE]).unwrap();
    let daemon = Daemon::start(LUNETTE, &["ram:1M", &folder.file("ro.img,ro"), &folder.file("tail.img,size=4M")]);
    let (small, read_only, tail) = (url(&daemon, 1), url(&daemon, 2), url(&daemon, 3));
    good(&folder, &["copy", "small", &small]);
    std::fs::File::options().write(true).open(file("tail.img")).unwrap().write_all_at(b"GPT", (4 << 20) - 512).unwrap();
    for (words, code, says) in [
        (&["copy", "small", "large"][..], 2, "it exists; add --overwrite"),
        (&["copy", "small", "large", "--overwrite"], 2, "add --shrink"),
        (&["copy", "large", "link", "--overwrite"], 2, "is the source itself"),
        (&["copy", &small, &small, "--overwrite"], 2, "is the source itself"),
        (&["copy", "large", &small, "--overwrite"], 2, "does not fit"),
        (&["copy", "small", &read_only], 7, "write-protected"),
        (&["copy", "small", &tail], 2, "holds data at its end"),
        (&["copy", "small", "."], 2, "neither a file nor a block device"),
        (&["copy", "none", "new"], 2, "No such file"),
        (&["copy", "small", "new", "--resume"], 2, "nothing to go on with"),
        (&["copy", "small", "new", "--chunk", "100K"], 2, "multiple of 64K"),
    ] {
        let said = fails(&folder, words, code);
        assert!(said.contains(says), "{words:?}: {said}");
    }
    assert!(std::fs::read(file("large")).unwrap() == noise(2 * MEBIBYTE, 3));
    assert!(!file("new").exists());
    good(&folder, &["copy", "small", "large", "--overwrite", "--shrink"]);
    assert!(std::fs::read(file("large")).unwrap() == noise(MEBIBYTE, 4));
}

/// A way to the target on which a copy of so many mebibytes takes some seconds, on any machine.
fn slow(daemon: &Daemon) -> Proxy {
    let plan = Plan { delay: Duration::from_millis(10), seed: 1, ..Plan::default() };
    Proxy::start(daemon.address(), vec![plan; 8])
}

/// The size of what is copied over it.
const LONG: usize = 48 * MEBIBYTE;

/// Starts a copy that takes a while and waits until its journal has been written once.
fn begun(folder: &Folder, words: &[&str]) -> Child {
    let slowly = ["--json", "--parallel", "1", "--chunk", "64K", "--checksum", "crc32c"];
    let mut child = start(folder, &[words, &slowly].concat());
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    for _ in 0..2 {
        let line = lines.next().expect("it has not ended").unwrap();
        assert!(line.contains("progress"), "it is slow enough to be interrupted: {line}");
    }
    child
}

#[test]
fn a_copy_that_was_killed_goes_on_where_it_was() {
    let folder = Folder::new();
    let bytes = noise(LONG, 5);
    std::fs::write(folder.path().join("disk.img"), &bytes).unwrap();
    let daemon = Daemon::start(LUNETTE, &[&folder.file("disk.img")]);
    let proxy = slow(&daemon);
    let (disk, slowly) = (url(&daemon, 1), format!("iscsi://{}/{TARGET}/1", proxy.address()));
    let interrupted = |signal: &str| {
        let words = ["copy", &slowly, "a.img"];
        let child = begun(&folder, &words);
        Command::new("kill").args([&format!("-{signal}"), &child.id().to_string()]).status().unwrap();
        let output = child.wait_with_output().unwrap();
        if signal == "INT" {
            assert!(refused(output, &words, 1).contains("interrupted; go on with --resume"));
        }
        assert!(folder.path().join("a.img.lunette-copy").exists());
        std::fs::File::options().write(true).open(folder.path().join("a.img")).unwrap()
    };
    let file = interrupted("KILL");
    assert!(fails(&folder, &["copy", &disk, "a.img"], 2).contains("was interrupted; add --resume"));
    assert!(fails(&folder, &["copy", &disk, "a.img", "--resume"], 2).contains("give the same --checksum"));
    // What is behind the last note is not believed, whatever it is. The disk is the same through another portal.
    file.write_all_at(&[0xee; 4096], LONG as u64 - 8192).unwrap();
    let on = ["copy", &disk, "a.img", "--resume", "--json", "--checksum", "crc32c"];
    let resumed = done(&good(&folder, &on));
    assert!(resumed["resumed_at"].as_u64() > Some(0), "{resumed}");
    assert!(std::fs::read(folder.path().join("a.img")).unwrap() == bytes);
    assert!(!folder.path().join("a.img.lunette-copy").exists());

    // And where the destination is no longer what the journal says, it begins before that.
    std::fs::remove_file(folder.path().join("a.img")).unwrap();
    interrupted("INT").write_all_at(&[0xee; 4], 100).unwrap();
    let output = run(&folder, &on);
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success() && said.contains("holds other data than the journal says"), "{said}");
    assert_eq!(done(&String::from_utf8(output.stdout).unwrap())["resumed_at"], 0);
    assert!(std::fs::read(folder.path().join("a.img")).unwrap() == bytes);
}

#[test]
fn a_target_that_is_killed_and_comes_back_is_a_pause_and_one_that_stays_away_a_line() {
    let folder = Folder::new();
    let bytes = noise(LONG, 6);
    std::fs::write(folder.path().join("a.img"), &bytes).unwrap();
    let mut daemon = Daemon::start(LUNETTE, &[&folder.file(&format!("disk.img,size={LONG}"))]);
    let proxy = slow(&daemon);
    let (disk, slowly) = (url(&daemon, 1), format!("iscsi://{}/{TARGET}/1", proxy.address()));
    let child = begun(&folder, &["copy", "a.img", &slowly]);
    daemon.kill();
    std::thread::sleep(Duration::from_millis(300));
    daemon.restart();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(std::fs::read(folder.path().join("disk.img")).unwrap() == bytes);

    let words = ["copy", "a.img", &slowly, "--overwrite", "--replacement-timeout", "1"];
    let child = begun(&folder, &words);
    daemon.kill();
    let said = refused(child.wait_with_output().unwrap(), &words, 3);
    assert!(said.contains(TARGET) && said.contains("go on with --resume"), "{said}");
    daemon.restart();
    let on = ["copy", "a.img", &slowly, "--resume", "--json", "--verify", "--checksum", "crc32c", "--chunk", "4M"];
    let resumed = done(&good(&folder, &on));
    assert!(resumed["resumed_at"].as_u64() > Some(0), "{resumed}");
    assert!(std::fs::read(folder.path().join("disk.img")).unwrap() == bytes);
    assert_eq!(json(&folder, &["capacity", "--json", &disk])["bytes"], LONG);
}
