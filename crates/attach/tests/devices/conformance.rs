//! What every front-end owes to whoever uses its device: one story, told for each of them.

use crate::helper::{Counting, Counts, Scratch, direct, fact, pattern, read_at, run, try_run, until, write_at};
use attach::{Closed, Detach, Error, Frontend, Settings};
use block::layer::{Delay, Fault, FaultPlan, Faulty, On, Valve};
use block::pure::Ram;
use block::testing::Bench;
use block::{Backend, ErrorKind, ExtentState};
use std::fs::OpenOptions;
use std::io::Write;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

const MIB: u64 = 1 << 20;

type Step = fn(&dyn Frontend, u32);

/// Everything that a device must be and do, with blocks of this many bytes.
pub fn conforms(frontend: &dyn Frontend, block: u32) {
    let steps: &[(&str, Step)] = &[
        ("what is written is what the store has and what is read", data),
        ("holes, zeros and flushes reach the store", orders),
        ("a file system lives on it, and on the next device of the same disk", file_system),
        ("a device that is used stays", busy),
        ("read-only is refused by the kernel already", read_only),
        ("it grows with the store", resized),
        ("an error of the store is the error of one request", errors),
        ("force ends though the store never answers", stuck),
    ];
    for (what, step) in steps {
        let start = Instant::now();
        step(frontend, block);
        println!("  {} with blocks of {block}: {what} ({:.1} s)", frontend.name(), start.elapsed().as_secs_f32());
    }
}

/// A disk in memory.
fn ram(block: u32, bytes: u64) -> Arc<Ram> {
    Ram::new(block, bytes / u64::from(block))
}

fn data(frontend: &dyn Frontend, block: u32) {
    let scratch = Scratch::new("data");
    let ram = ram(block, 64 * MIB);
    let told = Arc::new(Mutex::new(Vec::new()));
    let hear = told.clone();
    let settings = Settings {
        notice: Some(Arc::new(move |closed: &Closed| hear.lock().unwrap().push(closed.clone()))),
        ..scratch.settings()
    };
    let attached = frontend.attach(ram.clone(), &settings).unwrap();
    let device = attached.device().to_path_buf();
    assert_eq!(fact(&device, "size"), (64 * MIB / 512).to_string());
    assert_eq!(fact(&device, "queue/logical_block_size"), block.to_string());
    assert_eq!(fact(&device, "ro"), "0");

    let file = direct(&device, true);
    let mut bench = Bench::new(ram.clone());
    for (offset, length) in [(0, block as usize), (MIB, 3 << 20), (8 * MIB + 4096, 132 << 10), (64 * MIB - 4096, 4096)]
    {
        let bytes = pattern(length, offset + 1);
        write_at(&file, offset, &bytes).unwrap();
        assert!(bench.read(offset, length).unwrap() == bytes, "{length} bytes at {offset} in the store");
        assert!(read_at(&file, offset, length).unwrap() == bytes, "{length} bytes at {offset} read");
    }
    // What changed in the store is seen: nothing between it and the device keeps data of its own.
    bench.write(MIB, &pattern(4096, 99)).unwrap();
    assert!(read_at(&file, MIB, 4096).unwrap() == pattern(4096, 99));
    assert!(write_at(&file, 64 * MIB, &pattern(4096, 1)).is_err(), "nothing lies behind the end");
    drop(file);

    fio(&device, &["--rw=randwrite --bs=4k --iodepth=32 --size=16m", "--rw=write --bs=1m --iodepth=8 --size=32m"]);
    assert_eq!(attached.closed(), None);
    attached.detach(Detach::WhenUnused).unwrap();
    assert_eq!(attached.closed(), Some(Closed::Detached));
    assert_eq!(*told.lock().unwrap(), [Closed::Detached]);
    until("the device is gone", || matches!(fact(&device, "size").as_str(), "" | "0"));
    attached.detach(Detach::WhenUnused).expect("what is gone is gone");
    assert_eq!(std::fs::read_dir(scratch.folder("attached")).unwrap().count(), 0, "nothing is left behind");
}

/// Jobs of fio that verify what they wrote, with several processes where the machine has fio.
fn fio(device: &Path, jobs: &[&str]) {
    if !try_run("command -v fio").0 {
        println!("  not run: fio is missing");
        return;
    }
    for job in jobs {
        run(&format!(
            "fio --name=x --filename={} {job} --direct=1 --ioengine=libaio --verify=crc32c --verify_fatal=1 --verify_state_save=0 \
             --end_fsync=1 --randseed=7 --output-format=terse",
            device.display()
        ));
    }
}

fn orders(frontend: &dyn Frontend, block: u32) {
    let scratch = Scratch::new("orders");
    let ram = ram(block, 64 * MIB);
    let (counting, counts) = Counting::new(ram.clone());
    let attached = frontend.attach(counting, &scratch.settings()).unwrap();
    let device = attached.device().to_path_buf();
    assert_eq!(fact(&device, "queue/write_cache"), "write back");
    let file = direct(&device, true);
    write_at(&file, 0, &pattern(8 << 20, 3)).unwrap();

    let before = Counts::of(&counts.flushes);
    file.sync_all().unwrap();
    let after = Counts::of(&counts.flushes);
    assert!(after > before, "a flush reached the store");
    drop(file);

    let unmaps = Counts::of(&counts.unmaps);
    run(&format!("blkdiscard -o 1048576 -l 1048576 {}", device.display()));
    assert!(Counts::of(&counts.unmaps) > unmaps, "an unmap reached the store");
    let mut bench = Bench::new(ram.clone());
    let state = bench.extents(MIB, MIB);
    assert!(state.iter().all(|extent| extent.state == ExtentState::Deallocated), "{state:?}");
    let file = direct(&device, true);
    assert!(read_at(&file, MIB, 1 << 20).unwrap().iter().all(|byte| *byte == 0));
    assert!(read_at(&file, 0, 1 << 20).unwrap() == pattern(8 << 20, 3)[..1 << 20], "what is beside it is whole");

    let (clears, writes) = (Counts::of(&counts.unmaps) + Counts::of(&counts.zeroes), Counts::of(&counts.writes));
    run(&format!("blkdiscard -z -o 2097152 -l 2097152 {}", device.display()));
    assert!(read_at(&file, 2 * MIB, 2 << 20).unwrap().iter().all(|byte| *byte == 0));
    assert!(read_at(&file, 4 * MIB, 4096).unwrap() == pattern(8 << 20, 3)[4 << 20..(4 << 20) + 4096]);
    assert!(Counts::of(&counts.unmaps) + Counts::of(&counts.zeroes) > clears, "zeros as an order");
    assert_eq!(Counts::of(&counts.writes), writes, "and not as data");
    drop(file);
    attached.detach(Detach::WhenUnused).unwrap();
}

fn file_system(frontend: &dyn Frontend, block: u32) {
    let scratch = Scratch::new("fs");
    let (counting, counts) = Counting::new(ram(block, 96 * MIB));
    let point = scratch.folder("mnt");
    let at = point.display();
    let attached = frontend.attach(counting.clone(), &scratch.settings()).unwrap();
    let device = attached.device().display().to_string();
    run(&format!("mkfs.ext4 -q {device} && mount {device} {at}"));
    let content = pattern(20 << 20, 5);
    for part in 0..4usize {
        std::fs::write(point.join(format!("file{part}")), &content[part << 20..]).unwrap();
    }
    run(&format!("rm {at}/file3 && sync -f {at}"));
    let unmaps = Counts::of(&counts.unmaps);
    run(&format!("fstrim {at}"));
    assert!(Counts::of(&counts.unmaps) > unmaps, "what the file system freed was unmapped");
    run(&format!("umount {at} && fsck.ext4 -fn {device}"));
    attached.detach(Detach::WhenUnused).unwrap();

    let attached = frontend.attach(counting, &scratch.settings()).unwrap();
    let device = attached.device().display().to_string();
    run(&format!("mount -o ro {device} {at}"));
    for part in 0..3usize {
        let read = std::fs::read(point.join(format!("file{part}"))).unwrap();
        assert!(read == content[part << 20..], "file{part} as it was written");
    }
    run(&format!("umount {at}"));
    attached.detach(Detach::WhenUnused).unwrap();
}

fn busy(frontend: &dyn Frontend, block: u32) {
    let scratch = Scratch::new("busy");
    let point = scratch.folder("mnt");
    let attached = frontend.attach(ram(block, 32 * MIB), &scratch.settings()).unwrap();
    let device = attached.device().to_path_buf();
    run(&format!("mkfs.ext4 -q {0} && mount {0} {1}", device.display(), point.display()));
    match attached.detach(Detach::WhenUnused) {
        Err(Error::Busy { users, .. }) => {
            assert!(users.iter().any(|user| user.contains(&*point.to_string_lossy())), "{users:?}");
        }
        other => panic!("mounted, and detached with {other:?}"),
    }
    std::fs::write(point.join("still"), b"works").unwrap();
    run(&format!("umount {}", point.display()));

    // The command keeps the descriptor until it is dropped.
    let open = std::fs::File::open(&device).unwrap();
    let mut child = std::process::Command::new("sleep").arg("60").stdin(open).spawn().unwrap();
    let refused = attached.detach(Detach::WhenUnused);
    child.kill().unwrap();
    child.wait().unwrap();
    match refused {
        Err(Error::Busy { users, .. }) => {
            assert!(users.iter().any(|user| user.contains(&child.id().to_string())), "{users:?}");
        }
        other => panic!("open, and detached with {other:?}"),
    }
    attached.detach(Detach::WhenUnused).unwrap();
}

fn read_only(frontend: &dyn Frontend, block: u32) {
    let scratch = Scratch::new("ro");
    let ram = ram(block, 16 * MIB);
    Bench::new(ram.clone()).write(0, &pattern(4096, 8)).unwrap();
    let settings = Settings { read_only: true, ..scratch.settings() };
    let attached = frontend.attach(ram.clone(), &settings).unwrap();
    let device = attached.device().to_path_buf();
    assert_eq!(fact(&device, "ro"), "1");
    assert!(read_at(&direct(&device, false), 0, 4096).unwrap() == pattern(4096, 8));
    let written = OpenOptions::new().write(true).open(&device).and_then(|mut file| {
        file.write_all(&[0; 4096])?;
        file.sync_all()
    });
    assert!(written.is_err(), "a write to a read-only device");
    assert!(!try_run(&format!("blkdiscard {}", device.display())).0);
    assert!(Bench::new(ram.clone()).read(0, 4096).unwrap() == pattern(4096, 8));
    attached.detach(Detach::WhenUnused).unwrap();
}

fn resized(frontend: &dyn Frontend, block: u32) {
    let scratch = Scratch::new("resize");
    let ram = ram(block, 16 * MIB);
    let attached = frontend.attach(ram.clone(), &scratch.settings()).unwrap();
    let device = attached.device().to_path_buf();
    for size in [48 * MIB, 24 * MIB] {
        ram.resize(size / u64::from(block)).unwrap();
        match attached.resized() {
            // Not every kernel can; whoever asks is told so.
            Err(Error::Unsupported(why)) => {
                println!("  not run: another size: {why}");
                break;
            }
            other => assert_eq!(other.unwrap(), size),
        }
        assert_eq!(fact(&device, "size"), (size / 512).to_string());
        let file = direct(&device, true);
        let bytes = pattern(4096, size);
        write_at(&file, size - 4096, &bytes).unwrap();
        assert!(read_at(&file, size - 4096, 4096).unwrap() == bytes);
        assert!(read_at(&file, size, 4096).is_err());
    }
    attached.detach(Detach::WhenUnused).unwrap();
}

fn errors(frontend: &dyn Frontend, block: u32) {
    let scratch = Scratch::new("errors");
    let plan = FaultPlan::default();
    let faulty = Faulty::new(ram(block, 16 * MIB), plan.clone());
    let attached = frontend.attach(faulty, &scratch.settings()).unwrap();
    let file = direct(attached.device(), true);
    write_at(&file, 0, &pattern(8 << 20, 2)).unwrap();
    plan.add(Fault::always(On::Read, ErrorKind::Medium).within(MIB..MIB + 4096));
    plan.add(Fault::always(On::Write, ErrorKind::NoSpace).within(3 * MIB..3 * MIB + 4096));
    plan.add(Fault::nth(On::Flush, 0, ErrorKind::Medium));
    assert!(read_at(&file, MIB, 4096).is_err());
    assert!(read_at(&file, MIB + 4096, 4096).unwrap() == pattern(8 << 20, 2)[(1 << 20) + 4096..(1 << 20) + 8192]);
    assert!(write_at(&file, 3 * MIB, &[1; 4096]).is_err());
    // Memory has no cache that could be flushed; a front-end that says so is sent no flush.
    match fact(attached.device(), "queue/write_cache").as_str() {
        "write back" => assert!(file.sync_all().is_err(), "a flush that failed is told"),
        cache => println!("  not run: a flush that fails: the device's cache is {cache}"),
    }
    plan.clear();
    write_at(&file, 3 * MIB, &[1; 4096]).unwrap();
    file.sync_all().unwrap();
    assert!(read_at(&file, MIB, 4096).unwrap() == pattern(8 << 20, 2)[1 << 20..(1 << 20) + 4096]);
    drop(file);
    attached.detach(Detach::WhenUnused).unwrap();
}

fn stuck(frontend: &dyn Frontend, block: u32) {
    let scratch = Scratch::new("stuck");
    let valve = Valve::open();
    let delayed = Delay::new(ram(block, 16 * MIB), valve.clone());
    let settings = Settings { detach_limit: Duration::from_secs(5), ..scratch.settings() };
    let attached = frontend.attach(delayed, &settings).unwrap();
    let file = direct(attached.device(), true);
    write_at(&file, 0, &[7; 4096]).unwrap();
    valve.hold();
    // Dirty pages that cannot be written: a detach that would lose them is refused, within its bound.
    let start = Instant::now();
    let mut dirty = OpenOptions::new().write(true).open(attached.device()).unwrap();
    dirty.write_all(&[9; 4096]).unwrap();
    let closing = std::thread::spawn(move || drop(dirty));
    let refused = attached.detach(Detach::WhenUnused);
    assert!(matches!(refused, Err(Error::Busy { .. })), "{refused:?}");
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
    let waiting = std::thread::spawn(move || (write_at(&file, 4096, &[8; 4096]), file));
    std::thread::sleep(Duration::from_millis(300));
    assert!(!waiting.is_finished());
    let start = Instant::now();
    attached.detach(Detach::Force).unwrap();
    let (written, file) = waiting.join().unwrap();
    assert!(written.is_err(), "what the store never answered has failed");
    closing.join().unwrap();
    assert!(read_at(&file, 0, 4096).is_err(), "and so does whatever comes after");
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
    let device = attached.device().to_path_buf();
    drop(file);
    until("the device is gone", || matches!(fact(&device, "size").as_str(), "" | "0"));
}
