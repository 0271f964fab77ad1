//! discover, ls, capacity, inquiry, dump, ping, perf.

use super::help::{LUNETTE, fails, good, json, noise, run, url};
use sim::Daemon;
use sim::daemon::{Folder, TARGET};
use std::process::Command;

#[test]
fn targets_and_disks_are_found_and_told_to_people_and_programs() {
    let folder = Folder::new();
    std::fs::write(folder.path().join("ro.img"), [0; 4096]).unwrap();
    let daemon = Daemon::start(LUNETTE, &["ram:64M,serial=ABC-123", &folder.file("ro.img,ro")]);
    let portal = daemon.address().to_string();
    let found = json(&folder, &["discover", &portal, "--json"]);
    assert_eq!(found["targets"][0]["target"], TARGET);
    assert_eq!(found["targets"][0]["portals"][0]["port"], daemon.address().port());
    assert_eq!(good(&folder, &["discover", &portal]), format!("{TARGET}\n    {portal},1\n"));

    let listed = json(&folder, &["ls", "--json", &portal]);
    let units = listed["targets"][0]["units"].as_array().unwrap();
    let disk = units.iter().find(|unit| unit["lun"] == 1).unwrap();
    assert_eq!((disk["bytes"].as_u64(), disk["block_length"].as_u64()), (Some(64 << 20), Some(512)));
    assert_eq!(
        (&disk["type"], &disk["vendor"], &disk["serial_number"]),
        (&"disk".into(), &"LUNETTE".into(), &"ABC-123".into())
    );
    assert_eq!(disk["url"], url(&daemon, 1));
    assert_eq!(units.iter().find(|unit| unit["lun"] == 2).unwrap()["read_only"], true);
    let people = good(&folder, &["ls", &format!("iscsi://{portal}/{TARGET}")]);
    let line = people.lines().find(|line| line.contains("ABC-123")).unwrap();
    assert!(line.contains("64 MiB") && line.contains("LUNETTE") && line.contains("naa."), "{people}");
    assert!(people.contains("disk, read-only"), "{people}");
    assert_eq!(good(&folder, &["ls", "--urls", &portal]), format!("{}\n{}\n", url(&daemon, 1), url(&daemon, 2)));
}

#[test]
fn a_capacity_and_every_page_are_decoded() {
    let folder = Folder::new();
    let daemon = Daemon::start(LUNETTE, &["ram:64M,serial=ABC-123"]);
    let disk = url(&daemon, 1);
    assert_eq!(good(&folder, &["capacity", "--bytes", &disk]), "67108864\n");
    let capacity = json(&folder, &["capacity", "--json", &disk]);
    assert_eq!((&capacity["blocks"], &capacity["provisioning"]), (&131_072.into(), &true.into()));
    assert!(good(&folder, &["capacity", &disk]).contains("64 MiB (67108864 bytes)"));

    let all = json(&folder, &["inquiry", "--json", &disk]);
    assert_eq!(all["standard"]["vendor"], "LUNETTE");
    let pages = all["pages"].as_object().unwrap();
    for code in pages["00"]["pages"].as_array().unwrap() {
        let page = &pages[code.as_str().unwrap()];
        assert!(page["error"].is_null(), "page {code}: {page}");
    }
    assert_eq!(pages["80"]["serial_number"], "ABC-123");
    assert_eq!(pages["b2"]["provisioning"], "thin");
    assert!(pages["83"]["designators"].as_array().unwrap().iter().any(|one| one["type"] == "NAA"));
    let people = good(&folder, &["inquiry", "--page", "80", "--port-groups", &disk]);
    assert!(people.contains("unit serial number\n  serial number  ABC-123\n"), "{people}");
    assert!(people.contains("state active-optimized"), "{people}");
    assert!(!people.contains("VPD page b0h"), "only what was asked for: {people}");
    let raw = run(&folder, &["inquiry", "--page", "80", "--raw", &disk]).stdout;
    assert_eq!((&raw[..4], &raw[4..]), (&[0, 0x80, 0, 7][..], &b"ABC-123"[..]));
    assert!(fails(&folder, &["inquiry", "--page", "c5", &disk], 1).contains("no VPD page c5h"));
}

#[test]
fn a_dump_is_what_hexdump_shows_of_the_same_bytes() {
    let folder = Folder::new();
    let mut bytes = noise(1 << 20, 7);
    bytes[4096..300_000].fill(0);
    std::fs::write(folder.path().join("disk.img"), &bytes).unwrap();
    let daemon = Daemon::start(LUNETTE, &[&folder.file("disk.img")]);
    let disk = url(&daemon, 1);
    // Neither the start nor the length is one of blocks.
    let (start, length) = (4001usize, 500_003usize);
    let words = ["dump", "-s", &start.to_string(), "-n", &length.to_string(), &disk];
    let shown = good(&folder, &words);
    match Command::new("hexdump")
        .args(["-C", "-s", words[2], "-n", words[4], "disk.img"])
        .current_dir(folder.path())
        .output()
    {
        Ok(output) if output.status.success() => assert_eq!(shown, String::from_utf8(output.stdout).unwrap()),
        _ => eprintln!("not compared with hexdump, which is not installed"),
    }
    assert!(
        shown.starts_with("00000fa1  ") && shown.ends_with("0007b0c4\n") && shown.contains("\n*\n"),
        "{shown:.300}"
    );
    let raw = run(&folder, &[&words[..], &["--raw"]].concat()).stdout;
    assert!(raw == bytes[start..start + length]);
    let block = json(&folder, &["dump", "--lba", "2", "--json", &disk]);
    let digits: String = bytes[1024..1536].iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!((&block["offset"], &block["hex"]), (&1024.into(), &digits.into()));
    assert!(fails(&folder, &["dump", "--lba", "2048", &disk], 2).contains("1048576 bytes"));
}

#[test]
fn pings_are_counted_and_load_is_measured() {
    let folder = Folder::new();
    let daemon = Daemon::start(LUNETTE, &["ram:4M"]);
    let target = format!("iscsi://{}/{TARGET}", daemon.address());
    let pinged = json(&folder, &["ping", "-c", "5", "-i", "0", "-s", "1000", "--json", &target]);
    assert_eq!((&pinged["sent"], &pinged["answered"]), (&5.into(), &5.into()));
    assert!(pinged["min_ms"].as_f64() > Some(0.0) && pinged["min_ms"].as_f64() <= pinged["max_ms"].as_f64());
    let people = good(&folder, &["ping", "-c", "2", "-i", "0", &target]);
    assert!(people.contains("64 bytes from") && people.contains("2 sent, 2 answered, 0 % lost"), "{people}");

    let words = ["perf", &url(&daemon, 1), "--json", "--seconds", "0.3", "--warm-up", "0.1"];
    let load = json(&folder, &words);
    assert!(load["count"].as_u64() > Some(10) && load["p99_us"].as_f64() >= load["median_us"].as_f64(), "{load}");
    let more = ["--sessions", "3", "--connections", "2", "--write", "50", "--depth", "4", "--block", "64K"];
    let load = json(&folder, &[&words[..], &more].concat());
    assert!(load["count"].as_u64() > Some(3) && load["fairness"].as_f64() > Some(0.0), "{load}");
    assert!(fails(&folder, &["perf", &url(&daemon, 1), "--block", "1000"], 2).contains("choose a size that fits"));
}
