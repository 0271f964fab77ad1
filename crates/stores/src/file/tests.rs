//! The shared suite over files and devices with every engine, locks, and the faults of reliability.md.

use crate::open;
use block::testing::{Bench, conformance};
use block::{Backend, Completion, Engine, ErrorKind, FileJob, Operation, Outcome, Request, RequestId, Rotation};
use io::engine::{Choice, Engines};
use std::cell::{Cell, RefCell};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

const CHOICES: [Choice; 3] = [Choice::Inline, Choice::Pool, Choice::Uring];

/// A directory that goes away with its test.
struct Directory(PathBuf);

impl Directory {
    fn new() -> Directory {
        Directory::under(&std::env::temp_dir())
    }

    fn under(parent: &Path) -> Directory {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("lunette-stores-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let path = parent.join(name);
        std::fs::create_dir(&path).unwrap();
        Directory(path)
    }

    fn at(&self, name: &str) -> String {
        self.0.join(name).to_str().unwrap().to_owned()
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn bench(backend: Arc<dyn Backend>, choice: Choice) -> Bench {
    let worker = Engines::new(choice).open().unwrap();
    let engine = worker.engine().clone();
    Bench::with_engine(backend, &engine, move || {
        worker.wait(Duration::from_millis(20));
    })
}

fn refused(address: &str) -> String {
    let line = open(address).unwrap_err().to_string();
    assert!(!line.contains('\n'), "one line: {line}");
    line
}

#[test]
fn files_pass_the_suite_with_every_engine() {
    for (seed, choice) in (10..).zip(CHOICES) {
        for options in ["", ",direct", ",block=4096"] {
            let directory = Directory::new();
            let address = format!("{},size=16M{options}", directory.at("disk.img"));
            println!("{choice:?} {address}");
            conformance(&mut bench(open(&address).unwrap().backend, choice), seed, 20);
        }
    }
}

#[test]
fn files_in_memory_pass_the_suite() {
    let memory = Path::new("/dev/shm");
    if !memory.is_dir() {
        eprintln!("SKIPPED: there is no /dev/shm");
        return;
    }
    let directory = Directory::under(memory);
    let opened = open(&format!("{},size=16M", directory.at("disk.img"))).unwrap();
    assert_eq!(opened.backend.limits().rotation, Rotation::NonRotating);
    conformance(&mut bench(opened.backend, Choice::Pool), 20, 20);
}

#[test]
fn devices_pass_the_suite_and_are_held_alone() {
    let directory = Directory::new();
    let image = directory.at("loop.backing");
    File::create(&image).unwrap().set_len(16 << 20).unwrap();
    let output = Command::new("losetup").args(["--find", "--show", &image]).output();
    let Some(device) = output.ok().filter(|output| output.status.success()) else {
        eprintln!("SKIPPED: no loop device can be had here");
        return;
    };
    let device = String::from_utf8(device.stdout).unwrap().trim().to_owned();
    let outcome = std::panic::catch_unwind(|| {
        for (seed, options) in [(30, ""), (31, ",direct"), (32, ",block=4096")] {
            Command::new("blkdiscard").args(["-z", &device]).status().unwrap();
            let opened = open(&format!("{device}{options}")).unwrap();
            assert_eq!(opened.backend.description().kind, "device");
            assert_eq!(opened.backend.limits().capacity(), 16 << 20);
            assert!(refused(&device).contains("in use"));
            conformance(&mut bench(opened.backend, Choice::Auto), seed, 10);
        }
        assert!(refused(&format!("{device},size=1G")).contains("holds 16M"));
    });
    Command::new("losetup").args(["--detach", &device]).status().unwrap();
    outcome.unwrap();
}

#[test]
fn what_was_written_is_there_when_it_is_opened_again() {
    let directory = Directory::new();
    let path = directory.at("disk.img");
    let opened = open(&format!("{path},size=1M")).unwrap();
    assert!(opened.created);
    bench(opened.backend, Choice::Auto).write_durable(4096, &[7; 512]).unwrap();
    let opened = open(&format!("{path},ro")).unwrap();
    assert!(!opened.created);
    let mut bench = bench(opened.backend, Choice::Auto);
    assert_eq!(bench.read(4096, 512).unwrap(), vec![7; 512]);
    assert_eq!(bench.write(0, &[1; 512]).unwrap_err().kind, ErrorKind::ReadOnly);
    bench.run(Operation::Flush, 0, 0).unwrap();
}

#[test]
fn a_created_file_is_sparse_and_its_owners() {
    use std::os::unix::fs::MetadataExt;
    let directory = Directory::new();
    let path = directory.at("disk.img");
    let opened = open(&format!("{path},size=10G")).unwrap();
    let metadata = std::fs::metadata(&path).unwrap();
    assert_eq!(metadata.len(), 10 << 30);
    assert!(metadata.blocks() < 64, "{} blocks are taken", metadata.blocks());
    assert_eq!(metadata.mode() & 0o077, 0);
    assert_eq!(opened.backend.limits().physical_block_length, 4096);
}

#[test]
fn f41_a_file_is_served_once_even_by_this_process_and_by_another_name() {
    let directory = Directory::new();
    let path = directory.at("disk.img");
    let first = open(&format!("{path},size=1M")).unwrap();
    let line = refused(&path);
    assert!(line.contains(&path) && line.contains("in use by this process"), "{line}");
    let other = directory.at("other.img");
    std::fs::hard_link(&path, &other).unwrap();
    assert!(refused(&other).contains("in use"));
    assert!(refused(&format!("{path},ro")).contains("in use"));

    // A channel keeps it held after the backend was let go.
    let channel = bench(first.backend, Choice::Inline);
    assert!(refused(&path).contains("in use"));
    drop(channel);
    let one = open(&format!("{path},ro")).unwrap();
    let two = open(&format!("{path},ro")).unwrap();
    assert!(refused(&path).contains("in use"), "readers keep a writer out");
    drop((one, two));
    open(&path).unwrap();
}

#[test]
fn f41_the_holder_is_named() {
    let directory = Directory::new();
    let path = directory.at("disk.img");
    File::create(&path).unwrap().set_len(1 << 20).unwrap();
    let child = Command::new("flock").args(["--no-fork", &path, "sleep", "30"]).spawn();
    let Ok(mut child) = child else {
        eprintln!("SKIPPED: there is no flock(1)");
        return;
    };
    let mut line = None;
    for _ in 0..200 {
        match open(&path) {
            Err(error) => {
                line = Some(error.to_string());
                break;
            }
            Ok(opened) => drop(opened),
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    child.kill().unwrap();
    let pid = child.id();
    child.wait().unwrap();
    let line = line.expect("the lock is seen");
    assert!(line.contains(&format!("process {pid}")), "{line}");
}

#[test]
fn errors_say_what_where_and_how_to_mend_it() {
    let directory = Directory::new();
    let path = directory.at("disk.img");
    assert!(refused(&path).ends_with("does not exist; add ,size=10G to create it"));
    assert!(refused(&format!("{path},ro,size=1G")).contains("leave out ro to create it"));
    assert!(refused(&format!("{path},size=lots")).contains("'lots' is no size"));
    assert!(refused(&format!("{path},size=1000")).ends_with("size=1024 would be"));
    assert!(refused(&format!("{path},size=2560,block=4096")).ends_with("size=4096 would be"));
    assert!(refused(&directory.at("")).contains("is a directory; name a file in it"));
    assert!(refused(&directory.at("none/disk.img,size=1M")).contains("mkdir -p"));
    assert!(refused("/dev/null").contains("neither a file nor a block device"));
    assert!(!Path::new(&path).exists(), "nothing was made by any of that");

    File::create(&path).unwrap();
    assert!(refused(&path).contains("is empty; add ,size=10G"));
    drop(open(&format!("{path},size=1M")).unwrap());
    let line = refused(&format!("{path},size=2M"));
    assert!(line.contains("holds 1M (1048576 bytes), not the 2M asked for"), "{line}");
    File::options().write(true).open(&path).unwrap().set_len(1000).unwrap();
    assert!(refused(&path).contains("truncate -s 1024"));
    assert!(
        refused(&format!("{path}/x,size=1M")).contains("does not exist")
            || refused(&format!("{path}/x,size=1M")).contains("not a directory")
    );
}

#[test]
fn sbc_16_a_file_that_shrank_neither_reads_zeros_nor_grows() {
    for choice in CHOICES {
        let directory = Directory::new();
        let path = directory.at("disk.img");
        let opened = open(&format!("{path},size=1M")).unwrap();
        let mut bench = bench(opened.backend.clone(), choice);
        bench.write(0, &vec![1; 1 << 20]).unwrap();
        File::options().write(true).open(&path).unwrap().set_len(65536).unwrap();
        let error = bench.read(61440, 8192).unwrap_err();
        assert_eq!((error.kind, error.offset), (ErrorKind::OutOfRange, Some(65536)), "{choice:?}");
        for offset in [61440, 524_288] {
            assert_eq!(bench.write(offset, &[2; 8192]).unwrap_err().kind, ErrorKind::OutOfRange, "{choice:?}");
            assert_eq!(bench.write_durable(offset, &[2; 8192]).unwrap_err().kind, ErrorKind::OutOfRange);
            let zeroes = Operation::WriteZeroes { unmap: false, durable: false };
            assert_eq!(bench.run(zeroes, offset, 8192).unwrap_err().kind, ErrorKind::OutOfRange);
        }
        assert_eq!(std::fs::metadata(&path).unwrap().len(), 65536, "it did not grow");
        assert!(opened.backend.refresh().unwrap());
        assert_eq!(opened.backend.limits().capacity(), 65536);
        bench.write(61440, &[3; 4096]).unwrap();
    }
}

#[test]
fn a_file_that_grew_is_seen_after_a_refresh_and_a_resize_changes_both() {
    let directory = Directory::new();
    let path = directory.at("disk.img");
    let opened = open(&format!("{path},size=1M")).unwrap();
    assert!(!opened.backend.refresh().unwrap());
    File::options().write(true).open(&path).unwrap().set_len(2 << 20).unwrap();
    assert!(opened.backend.refresh().unwrap());
    assert_eq!(opened.backend.limits().blocks, 4096);
    opened.backend.resize(8192).unwrap();
    assert_eq!(std::fs::metadata(&path).unwrap().len(), 4 << 20);
    bench(opened.backend, Choice::Auto).write((4 << 20) - 512, &[1; 512]).unwrap();
}

#[test]
fn sbc_14_a_full_file_system_refuses_the_write_and_recovers_when_there_is_room() {
    let directory = Directory::new();
    let place = directory.at("small");
    std::fs::create_dir(&place).unwrap();
    let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", "size=1M", "lunette-test", &place]).status();
    if !mounted.is_ok_and(|status| status.success()) {
        eprintln!("SKIPPED: no file system can be mounted here");
        return;
    }
    let outcome = std::panic::catch_unwind(|| {
        let opened = open(&format!("{place}/disk.img,size=8M")).unwrap();
        let mut bench = bench(opened.backend, Choice::Pool);
        bench.write(0, &vec![1; 512 << 10]).unwrap();
        let error = bench.write(1 << 20, &vec![2; 1 << 20]).unwrap_err();
        assert_eq!(error.kind, ErrorKind::NoSpace);
        assert_eq!(bench.write_durable(1 << 20, &vec![2; 1 << 20]).unwrap_err().kind, ErrorKind::NoSpace);
        assert_eq!(bench.read(0, 512 << 10).unwrap(), vec![1; 512 << 10]);
        bench.run(Operation::Flush, 0, 0).expect("earlier writes are stable");
        bench.run(Operation::Unmap, 0, 8 << 20).unwrap();
        bench.write_durable(1 << 20, &vec![2; 512 << 10]).unwrap();
    });
    Command::new("umount").arg(&place).status().unwrap();
    outcome.unwrap();
}

/// An engine whose jobs end when and how the test says.
#[derive(Default)]
struct Scripted {
    jobs: RefCell<Vec<FileJob>>,
    syncs: Cell<usize>,
}

impl Engine for Scripted {
    fn name(&self) -> &'static str {
        "scripted"
    }

    fn submit(&self, job: FileJob) {
        if job.operation == block::FileOperation::Sync {
            self.syncs.set(self.syncs.get() + 1);
        }
        self.jobs.borrow_mut().push(job);
    }
}

impl Scripted {
    fn end_all(&self, result: Result<Outcome, block::Error>) {
        for job in self.jobs.take() {
            let FileJob { request, inbox, .. } = job;
            inbox.borrow_mut().push(request.complete(result.clone()));
        }
    }
}

fn ids(done: &[Completion]) -> Vec<u64> {
    let mut ids: Vec<u64> = done.iter().map(|completion| completion.id.0).collect();
    ids.sort_unstable();
    ids
}

#[test]
fn sbc_05_after_a_failed_flush_no_later_flush_says_good() {
    let directory = Directory::new();
    let opened = open(&format!("{},size=1M", directory.at("disk.img"))).unwrap();
    let scripted = Rc::new(Scripted::default());
    let engine: Rc<dyn Engine> = scripted.clone();
    let (mut one, mut other) = (opened.backend.open(&engine).unwrap(), opened.backend.open(&engine).unwrap());
    let flush = |id| vec![Request::over(RequestId(id), Operation::Flush, 0, 0)];
    let inherited = || {
        let (told, result) = std::sync::mpsc::channel();
        opened.backend.flush_inherited(Box::new(move |result| told.send(result).unwrap()));
        result.recv().unwrap()
    };
    assert_eq!(inherited(), Ok(()));
    let mut done = Vec::new();
    one.submit(&mut flush(1), &mut done);
    scripted.end_all(Err(block::Error::from_os(5)));
    one.poll(&mut done);
    assert_eq!(done.pop().unwrap().result.unwrap_err().kind, ErrorKind::Medium);

    // Neither this channel nor another worker's is told that all is well, and the kernel is not asked again.
    one.submit(&mut flush(2), &mut done);
    other.submit(&mut flush(3), &mut done);
    assert_eq!(ids(&done), [2, 3]);
    assert!(done.iter().all(|completion| completion.result.as_ref().unwrap_err().kind == ErrorKind::Medium));
    assert_eq!(scripted.syncs.get(), 1);
    assert_eq!(inherited().unwrap_err().kind, ErrorKind::Medium);
    done.clear();

    // Opened anew it works again.
    drop((one, other));
    let path = opened.backend.description().address;
    drop(opened);
    bench(open(&path).unwrap().backend, Choice::Inline).run(Operation::Flush, 0, 0).unwrap();
}

#[test]
fn flushes_that_come_while_one_is_under_way_share_the_next() {
    let directory = Directory::new();
    let opened = open(&format!("{},size=1M", directory.at("disk.img"))).unwrap();
    let scripted = Rc::new(Scripted::default());
    let engine: Rc<dyn Engine> = scripted.clone();
    let mut store = opened.backend.open(&engine).unwrap();
    let mut done = Vec::new();
    for id in 1..=4 {
        store.submit(&mut vec![Request::over(RequestId(id), Operation::Flush, 0, 0)], &mut done);
    }
    // A flush that came after the first began is not answered by it: it may cover later writes.
    assert_eq!((scripted.syncs.get(), store.in_flight()), (1, 4));
    scripted.end_all(Ok(Outcome::Done));
    store.poll(&mut done);
    assert_eq!(ids(&done), [1]);
    scripted.end_all(Ok(Outcome::Done));
    store.poll(&mut done);
    assert_eq!(ids(&done), [1, 2, 3, 4]);
    assert_eq!((scripted.syncs.get(), store.in_flight()), (2, 0));
}

#[test]
fn a_durable_write_is_answered_after_its_flush_and_gives_its_buffer_back() {
    let directory = Directory::new();
    let opened = open(&format!("{},size=1M", directory.at("disk.img"))).unwrap();
    let scripted = Rc::new(Scripted::default());
    let engine: Rc<dyn Engine> = scripted.clone();
    let mut store = opened.backend.open(&engine).unwrap();
    let mut done = Vec::new();
    let buffer = block::Buf::new(4096).unwrap();
    let write = Request::with_data(RequestId(1), Operation::Write { durable: true }, 0, buffer, 0..4096);
    store.submit(&mut vec![write], &mut done);
    assert!(done.is_empty());
    assert_eq!(scripted.syncs.get(), 1);
    scripted.end_all(Ok(Outcome::Done));
    store.poll(&mut done);
    assert!(done[0].result.is_ok() && done[0].buffer.is_some());
}

#[test]
fn f12_a_flush_that_was_never_tried_may_be_tried_again() {
    let directory = Directory::new();
    let opened = open(&format!("{},size=1M", directory.at("disk.img"))).unwrap();
    let scripted = Rc::new(Scripted::default());
    let engine: Rc<dyn Engine> = scripted.clone();
    let mut store = opened.backend.open(&engine).unwrap();
    let mut done = Vec::new();
    for (id, answer) in [(1, Err(block::Error::new(ErrorKind::Busy))), (2, Ok(Outcome::Done))] {
        store.submit(&mut vec![Request::over(RequestId(id), Operation::Flush, 0, 0)], &mut done);
        scripted.end_all(answer.clone());
        store.poll(&mut done);
        assert_eq!(done.pop().unwrap().result, answer);
    }
}

#[test]
fn workers_on_threads_of_their_own_share_one_disk() {
    let directory = Directory::new();
    let opened = open(&format!("{},size=4M", directory.at("disk.img"))).unwrap();
    let half = 2 << 20;
    std::thread::scope(|scope| {
        for worker in 0..2u64 {
            let backend = opened.backend.clone();
            scope.spawn(move || {
                let mut bench = bench(backend, Choice::Auto);
                for step in 0..64 {
                    let bytes = vec![worker as u8 + 1; 32768];
                    match step % 4 {
                        0 => bench.write_durable(worker * half + step * 32768, &bytes).unwrap(),
                        _ => bench.write(worker * half + step * 32768, &bytes).unwrap(),
                    }
                }
                bench.run(Operation::Flush, 0, 0).unwrap();
            });
        }
    });
    let mut bench = bench(opened.backend, Choice::Pool);
    assert!(bench.read(0, half as usize).unwrap().iter().all(|byte| *byte == 1));
    assert!(bench.read(half, half as usize).unwrap().iter().all(|byte| *byte == 2));
}
