//! What an attached disk can do: a file system on it that is there again, sizes, blocks, several at once, names.

use crate::bench::{Bench, LUNETTE, address, must, said, text, tool, until};
use sim::daemon::{Daemon, TARGET};
use std::fs::{self, File};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;

#[test]
#[ignore = "needs root, FUSE and loop devices: cargo xtask test attach"]
fn a_file_system_on_an_attached_disk_is_there_again_when_it_is_attached_again() {
    let bench = Bench::new();
    let disk = bench.path("disk.img");
    let daemon = Daemon::start(LUNETTE, &[&format!("{},size=64M", text(&disk))]);
    let device = bench.attach(&["--via", "fuse", &address(&daemon, 1)]);
    assert!(device.starts_with("/dev"), "{}", device.display());
    let point = bench.path("fs");
    fs::create_dir(&point).unwrap();
    let content: Vec<u8> = (0..3_000_000_u32).flat_map(|number| number.to_le_bytes()).collect();
    must("mkfs.ext4", &["-q", text(&device)]);
    must("mount", &[text(&device), text(&point)]);
    fs::write(point.join("content"), &content).unwrap();
    // In use: it stays, and says who.
    let busy = bench.run(&["detach", text(&device)]);
    assert_eq!(busy.code, 6, "{}", busy.err);
    assert!(busy.err.contains("mounted at") && busy.err.lines().count() == 1, "{}", busy.err);
    assert_eq!(fs::read(point.join("content")).unwrap().len(), content.len());
    must("umount", &[text(&point)]);
    bench.detach(&[text(&device)]);
    bench.assert_nothing_left();

    let said = bench.run(&["attach", "--via", "fuse", &address(&daemon, 1)]);
    assert_eq!(said.code, 0, "{}", said.err);
    let device = said.out.lines().last().unwrap();
    // Its stable name leads to it.
    let link = format!("ip-{}-iscsi-{TARGET}-lun-1", daemon.address());
    assert_eq!(fs::canonicalize(bench.state().join("by-path").join(&link)).unwrap(), Path::new(device));
    must("mount", &["-o", "ro", device, text(&point)]);
    assert!(fs::read(point.join("content")).unwrap() == content, "the content is another");
    must("umount", &[text(&point)]);
    assert!(tool("fsck.ext4", &["-fn", device]).code == 0);
    // By its stable name it can be detached as well.
    bench.detach(&[text(&bench.state().join("by-path").join(link))]);
    bench.assert_nothing_left();
}

#[test]
#[ignore = "needs root, FUSE and loop devices: cargo xtask test attach"]
fn size_discard_zeroes_and_flush_reach_the_target_and_its_new_size_reaches_the_device() {
    let bench = Bench::new();
    let disk = bench.path("disk.img");
    let daemon = Daemon::start(LUNETTE, &[&format!("{},size=32M", text(&disk))]);
    let device = bench.attach(&["--via", "fuse", &address(&daemon, 1)]);
    let name = device.file_name().unwrap().to_str().unwrap().to_owned();
    let bytes = || must("blockdev", &["--getsize64", text(&device)]).trim().parse::<u64>().unwrap();
    assert_eq!(bytes(), 32 << 20);
    let allocated = || fs::metadata(&disk).unwrap().blocks() * 512;

    must("dd", &["if=/dev/urandom", &format!("of={}", device.display()), "bs=1M", "count=16", "oflag=direct"]);
    must("blockdev", &["--flushbufs", text(&device)]);
    assert!(allocated() >= 16 << 20);
    must("blkdiscard", &["-o", "0", "-l", "8388608", text(&device)]);
    assert!(allocated() <= 9 << 20, "{} bytes are behind it after a discard", allocated());
    must("blkdiscard", &["-z", "-o", "8388608", "-l", "4194304", text(&device)]);
    let mut read = vec![1; 4 << 20];
    File::open(&disk).unwrap().read_exact_at(&mut read, 8 << 20).unwrap();
    assert!(read.iter().all(|byte| *byte == 0), "what was zeroed on the device is not zero at the target");

    File::options().write(true).open(&disk).unwrap().set_len(48 << 20).unwrap();
    daemon.signal("USR1");
    until(
        "the device to grow",
        || {
            let _ = bench.run(&["attached", "--refresh"]);
            bytes() == 48 << 20
        },
        || bench.logs(),
    );
    until("the record to follow", || bench.session()["devices"][0]["bytes"] == 48 << 20, || bench.logs());
    assert_eq!(fs::read_to_string(format!("/sys/block/{name}/queue/logical_block_size")).unwrap().trim(), "512");
    bench.detach(&["--all"]);
    bench.assert_nothing_left();
}

#[test]
#[ignore = "needs root, FUSE and loop devices: cargo xtask test attach"]
fn blocks_of_4096_bytes_and_a_disk_that_is_only_read_are_what_they_are() {
    let bench = Bench::new();
    let (large, kept) = (bench.path("large.img"), bench.path("kept.img"));
    let stores = [format!("{},size=16M,block=4096", text(&large)), format!("{},size=16M", text(&kept))];
    let daemon = Daemon::start(LUNETTE, &[&stores[0], &stores[1]]);
    let device = bench.attach(&["--via", "fuse", &address(&daemon, 1)]);
    assert_eq!(must("blockdev", &["--getss", text(&device)]).trim(), "4096");
    let only = bench.attach(&["--via", "fuse", "--read-only", &address(&daemon, 2)]);
    assert_eq!(must("blockdev", &["--getro", text(&only)]).trim(), "1");
    assert!(tool("dd", &["if=/dev/zero", &format!("of={}", only.display()), "bs=4k", "count=1"]).code != 0);
    let shown = bench.run(&["attached"]).out;
    assert!(shown.lines().any(|line| line.starts_with(text(&only)) && line.ends_with("read-only")), "{shown}");
    bench.detach(&[text(&device), text(&only)]);
    bench.assert_nothing_left();
}

#[test]
#[ignore = "needs root, FUSE and loop devices: cargo xtask test attach"]
fn all_disks_of_a_target_are_one_session_and_go_one_by_one() {
    let bench = Bench::new();
    let daemon = Daemon::start(LUNETTE, &["ram:8M", "ram:16M,serial=THE-SECOND", "ram:24M"]);
    let whole = format!("iscsi://{}/{TARGET}", daemon.address());
    let said = bench.run(&["attach", "--via", "fuse", &whole]);
    assert_eq!(said.code, 0, "{}", said.err);
    let devices: Vec<&str> = said.out.lines().collect();
    assert_eq!(devices.len(), 3, "{}", said.out);
    let session = bench.session();
    let luns: Vec<u64> = (0..3).map(|at| session["devices"][at]["lun"].as_u64().unwrap()).collect();
    assert_eq!(luns, [1, 2, 3]);
    // By what a person knows of it.
    bench.detach(&["THE-SECOND"]);
    assert_eq!(bench.session()["devices"].as_array().unwrap().len(), 2);
    assert_eq!(tool("blockdev", &["--getsize64", devices[0]]).out.trim(), (8 << 20).to_string());
    bench.detach(&[TARGET]);
    bench.assert_nothing_left();
    let nothing = bench.run(&["detach", TARGET]);
    assert_eq!((nothing.code, nothing.err.lines().count()), (5, 1), "{}", nothing.err);
}

#[test]
#[ignore = "needs root, FUSE and loop devices: cargo xtask test attach"]
fn a_disk_is_found_by_its_serial_number_or_identifier_whatever_its_lun() {
    let bench = Bench::new();
    let daemon = Daemon::start(LUNETTE, &["ram:8M", "ram:16M,serial=WANTED,lun=9"]);
    let whole = format!("iscsi://{}/{TARGET}", daemon.address());
    let device = bench.attach(&["--via", "fuse", "--id", "WANTED", &whole]);
    let found = bench.session()["devices"][0].clone();
    assert_eq!((found["lun"].as_u64(), found["bytes"].as_u64()), (Some(9), Some(16 << 20)), "{found:#}");
    let name = found["identity"]["name"].as_str().unwrap().to_owned();
    assert!(name.starts_with("naa."), "{name}");
    // The same by another name is the same disk, and is not attached twice.
    let again = bench.run(&["attach", "--id", &name, &whole]);
    assert_eq!((again.code, again.out.trim()), (0, text(&device)), "{}", again.err);
    assert!(again.err.contains("attached already"), "{}", again.err);
    let none = bench.run(&["attach", "--id", "naa.6000000000000000", &whole]);
    assert_eq!((none.code, none.err.lines().count()), (5, 1), "{}", none.err);
    bench.detach(&[&name]);
    bench.assert_nothing_left();
}

#[test]
#[ignore = "needs root, FUSE and loop devices: cargo xtask test attach"]
fn two_commands_at_once_make_one_holder_of_a_disk() {
    let bench = Bench::new();
    let daemon = Daemon::start(LUNETTE, &["ram:8M"]);
    let disk = address(&daemon, 1);
    let started: Vec<_> = (0..4).map(|_| bench.start(&["attach", "--via", "fuse", &disk])).collect();
    let said: Vec<_> = started.into_iter().map(|child| said(child.wait_with_output().unwrap())).collect();
    for one in &said {
        assert_eq!(one.code, 0, "{}", one.err);
        assert_eq!(one.out, said[0].out);
    }
    assert_eq!(said.iter().filter(|one| one.err.contains("attached already")).count(), 3);
    bench.session();
    // In another way it is not attached beside.
    let other = bench.run(&["attach", "--read-only", &disk]);
    assert_eq!((other.code, other.err.lines().count()), (6, 1), "{}", other.err);
    bench.detach(&["--all"]);
    bench.assert_nothing_left();
}

#[test]
#[ignore = "needs root, FUSE and loop devices: cargo xtask test attach"]
fn each_network_namespace_has_its_own_disk_of_the_same_address() {
    let bench = Bench::new();
    let here = Daemon::start(LUNETTE, &["ram:8M"]);
    let disk = address(&here, 1);
    // The same address in another network leads to another target.
    let script = format!(
        "ip link set lo up && {{ {LUNETTE} serve ram:16M --listen {} --name {TARGET} --state-dir {} >{} 2>&1 & }} && \
         {LUNETTE} attach --retries 10 --via fuse --state-dir {} {disk}; status=$?; kill -KILL $!; exit $status",
        here.address(),
        text(&bench.path("there")),
        text(&bench.path("log")),
        text(&bench.state()),
    );
    let there = must("unshare", &["--net", "sh", "-c", &script]);
    let there = Path::new(there.trim());
    let own = bench.attach(&["--via", "fuse", &disk]);
    assert_ne!(own, there);
    let bytes = |device: &Path| must("blockdev", &["--getsize64", text(device)]).trim().to_owned();
    assert_eq!((bytes(&own), bytes(there)), ((8 << 20).to_string(), (16 << 20).to_string()));
    assert_eq!(bench.attached()["sessions"].as_array().map(Vec::len), Some(2));
    bench.detach(&[text(&own)]);
    bench.detach(&["--force", text(there)]);
    bench.assert_nothing_left();
}

#[test]
#[ignore = "needs root, FUSE and loop devices: cargo xtask test attach"]
fn a_holder_that_is_asked_to_end_keeps_what_is_in_use() {
    let bench = Bench::new();
    let daemon = Daemon::start(LUNETTE, &["ram:16M"]);
    let device = bench.attach(&["--via", "fuse", &address(&daemon, 1)]);
    let process = bench.session()["process"]["pid"].as_u64().unwrap().to_string();
    let open = File::open(&device).unwrap();
    must("kill", &["-TERM", &process]);
    until("it to be said", || bench.logs().contains("asked to end, and goes on"), || bench.logs());
    assert_eq!(bench.session()["state"], "logged in");
    drop(open);
    must("kill", &["-TERM", &process]);
    bench.assert_nothing_left();
}

#[test]
#[ignore = "needs root, FUSE and loop devices: cargo xtask test attach"]
fn a_file_is_enough_where_no_block_device_is_wanted() {
    let bench = Bench::new();
    let disk = bench.path("disk.img");
    let daemon = Daemon::start(LUNETTE, &[&format!("{},size=8M", text(&disk))]);
    let point = bench.path("point");
    let file = bench.attach(&["--via", "fuse", "--file-only", "--mount-point", text(&point), &address(&daemon, 1)]);
    assert!(file.starts_with(&point) && fs::metadata(&file).unwrap().len() == 8 << 20, "{}", file.display());
    let open = File::options().write(true).open(&file).unwrap();
    open.write_all_at(b"by the file", 4096).unwrap();
    open.sync_all().unwrap();
    drop(open);
    let mut read = [0; 11];
    File::open(&disk).unwrap().read_exact_at(&mut read, 4096).unwrap();
    assert_eq!(&read, b"by the file");
    bench.detach(&[text(&file)]);
    bench.assert_nothing_left();
}
