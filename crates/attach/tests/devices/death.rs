//! A process that serves a device is killed while the device is mounted and written.

use crate::helper::{Scratch, fact, run, try_run, until};
use attach::Frontend;
use block::layer::{Delay, Valve};
use block::pure::Ram;
use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const WHERE: &str = "LUNETTE_TEST_DIRECTORY";

/// The part of the process that dies: attaches, says where, and waits.
pub fn serve(frontend: &dyn Frontend) {
    let Some(directory) = std::env::var_os(WHERE) else { return };
    let settings = attach::Settings::new("dies", directory);
    let attached = frontend.attach(Ram::new(512, 1 << 17), &settings).unwrap();
    println!("device {}", attached.device().display());
    std::io::stdout().flush().unwrap();
    std::thread::sleep(Duration::from_secs(120));
}

/// Two rounds: with nobody at the device, and with a file system that has dirty pages.
pub fn killed(name: &str, helper: &str) {
    for mounted in [false, true] {
        let scratch = Scratch::new(name);
        let point = scratch.folder("mnt");
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--ignored", "--exact", "--nocapture", helper])
            .env(WHERE, scratch.folder("attached"))
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        // The test runner's own words stand before it in the line.
        let device = lines.find_map(|line| line.unwrap().split_once("device ").map(|(_, path)| PathBuf::from(path)));
        let device = device.expect("it attached");
        if mounted {
            run(&format!("mkfs.ext4 -q {0} && mount {0} {1}", device.display(), point.display()));
            std::fs::write(point.join("dirty"), vec![1u8; 8 << 20]).unwrap();
        } else {
            // Dirty pages of the device itself, which the last to close it would have to write.
            run(&format!("dd if=/dev/zero of={} bs=1M count=8 status=none", device.display()));
        }
        let start = Instant::now();
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(start.elapsed() < Duration::from_secs(10), "dying took {:?}", start.elapsed());
        if mounted {
            let read =
                try_run(&format!("timeout 20 dd if={} of=/dev/null bs=4k count=1 iflag=direct", device.display()));
            assert!(!read.0 && start.elapsed() < Duration::from_secs(20), "reads fail at once: {}", read.1);
            run(&format!("timeout 30 umount {}", point.display()));
        }
        until("the device is gone", || matches!(fact(&device, "size").as_str(), "" | "0"));
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        assert!(!mounts.contains(&*scratch.0.to_string_lossy()), "no mount is left behind");
    }
}

/// The part of a process that dies while it waits for its own device: its store stops answering, and it detaches.
pub fn detach_for_ever(frontend: &dyn Frontend) {
    let Some(directory) = std::env::var_os(WHERE) else { return };
    let valve = Valve::open();
    let limit = Duration::from_secs(100);
    let settings = attach::Settings { detach_limit: limit, ..attach::Settings::new("dies", directory) };
    let attached = frontend.attach(Delay::new(Ram::new(512, 1 << 17), valve.clone()), &settings).unwrap();
    println!("device {}", attached.device().display());
    std::io::stdout().flush().unwrap();
    std::io::stdin().read_line(&mut String::new()).unwrap();
    valve.hold();
    println!("detaching");
    let _ = attached.detach(attach::Detach::WhenUnused);
    println!("it ended by itself");
}

/// It can be killed all the same, and nothing is left.
pub fn killed_while_detached(helper: &str) {
    let scratch = Scratch::new(helper);
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "--nocapture", helper])
        .env(WHERE, scratch.folder("attached"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let device = lines.find_map(|line| line.unwrap().split_once("device ").map(|(_, path)| PathBuf::from(path)));
    let device = device.expect("it attached");
    run(&format!("dd if=/dev/zero of={} bs=1M count=4 status=none", device.display()));
    child.stdin.take().unwrap().write_all(b"\n").unwrap();
    assert!(lines.any(|line| line.unwrap().contains("detaching")));
    std::thread::sleep(Duration::from_millis(500));
    child.kill().unwrap();
    until("it is dead", || child.try_wait().unwrap().is_some());
    until("the device is gone", || matches!(fact(&device, "size").as_str(), "" | "0"));
}
