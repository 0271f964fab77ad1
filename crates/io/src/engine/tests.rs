//! What every engine must do, over real files in the directory for temporary files.

use super::*;
use block::{
    Buf, Caching, Completion, ErrorKind, FileJob, FileOperation, Inbox, Operation, Outcome, Request, RequestId,
};
use std::fs::File;

const CHOICES: [Choice; 3] = [Choice::Inline, Choice::Pool, Choice::Uring];

/// A file without a name.
fn file(length: u64) -> Arc<File> {
    use std::sync::atomic::{AtomicU32, Ordering};
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let name = format!("lunette-engine-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
    let path = std::env::temp_dir().join(name);
    let file = File::options().read(true).write(true).create_new(true).open(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    file.set_len(length).unwrap();
    Arc::new(file)
}

struct Rig {
    worker: WorkerEngine,
    inbox: Inbox,
    file: Arc<File>,
}

impl Rig {
    fn new(choice: Choice, length: u64) -> Rig {
        Rig { worker: Engines::new(choice).open().unwrap(), inbox: Inbox::default(), file: file(length) }
    }

    fn submit(&self, id: u64, operation: FileOperation, offset: u64, data: Option<&[u8]>, length: usize) {
        let request = match operation {
            FileOperation::Read | FileOperation::Write { .. } => {
                let mut buffer = Buf::new(length).unwrap();
                if let Some(data) = data {
                    buffer.as_mut_slice()[..length].copy_from_slice(data);
                }
                Request::with_data(RequestId(id), Operation::Read, offset, buffer, 0..length)
            }
            _ => Request::over(RequestId(id), Operation::Flush, offset, length as u64),
        };
        let (file, inbox) = (self.file.clone(), self.inbox.clone());
        self.worker.engine().submit(FileJob { request, file, disk: 1, operation, caching: Caching::Buffered, inbox });
    }

    fn wait(&self, count: usize) -> Vec<Completion> {
        self.worker.engine().flush();
        for _ in 0..1000 {
            if self.inbox.borrow().len() >= count {
                break;
            }
            self.worker.wait(Duration::from_millis(20));
        }
        assert_eq!(self.worker.in_flight(), 0);
        self.inbox.take()
    }

    fn one(&self, operation: FileOperation, offset: u64, data: Option<&[u8]>, length: usize) -> Completion {
        self.submit(1, operation, offset, data, length);
        let mut done = self.wait(1);
        assert_eq!(done.len(), 1);
        done.remove(0)
    }
}

#[test]
fn what_is_written_is_read_and_holes_read_as_zeros() {
    for choice in CHOICES {
        let rig = Rig::new(choice, 1 << 20);
        let pattern: Vec<u8> = (0..65536u32).map(|n| (n % 251) as u8).collect();
        assert_eq!(
            rig.one(FileOperation::Write { durable: true }, 4096, Some(&pattern), 65536).result,
            Ok(Outcome::Done)
        );
        assert_eq!(rig.one(FileOperation::Sync, 0, None, 0).result, Ok(Outcome::Done), "{choice:?}");
        assert_eq!(rig.one(FileOperation::PunchHole, 8192, None, 4096).result, Ok(Outcome::Done), "{choice:?}");
        assert_eq!(rig.one(FileOperation::ZeroRange, 16384, None, 512).result, Ok(Outcome::Done), "{choice:?}");
        let mut expected = pattern;
        expected[4096..8192].fill(0);
        expected[12288..12800].fill(0);
        let read = rig.one(FileOperation::Read, 4096, None, 65536);
        assert_eq!(read.result, Ok(Outcome::Done));
        assert!(read.buffer.unwrap().as_slice()[..65536] == expected, "{choice:?}");
        assert_eq!(rig.file.metadata().unwrap().len(), 1 << 20, "nothing grew");
    }
}

#[test]
fn f16_reading_past_the_end_is_an_error_where_the_file_ends() {
    for choice in CHOICES {
        let rig = Rig::new(choice, 6144);
        let read = rig.one(FileOperation::Read, 4096, None, 4096);
        let error = read.result.unwrap_err();
        assert_eq!((error.kind, error.offset), (ErrorKind::OutOfRange, Some(6144)), "{choice:?}");
        assert!(read.buffer.is_some(), "the buffer comes back with the error");
    }
}

#[test]
fn extents_and_copies_work_behind_every_engine() {
    for choice in CHOICES {
        let rig = Rig::new(choice, 1 << 20);
        rig.one(FileOperation::Write { durable: false }, 0, Some(&[7; 65536]), 65536);
        rig.one(FileOperation::Copy { source: 0 }, 524_288, None, 65536).result.unwrap();
        let read = rig.one(FileOperation::Read, 524_288, None, 65536);
        assert!(read.buffer.unwrap().as_slice()[..65536].iter().all(|byte| *byte == 7), "{choice:?}");
        let Ok(Outcome::Extents(runs)) = rig.one(FileOperation::Extents, 0, None, 1 << 20).result else {
            panic!("{choice:?}: extents");
        };
        assert_eq!(runs.iter().map(|run| run.length).sum::<u64>(), 1 << 20);
        assert_eq!(runs[0].state, block::ExtentState::Mapped);
    }
}

#[test]
fn more_jobs_than_any_queue_holds_all_come_back_once() {
    for choice in CHOICES {
        let rig = Rig::new(choice, 1 << 20);
        for id in 0..1500u64 {
            rig.submit(id, FileOperation::Read, (id % 256) * 4096, None, 4096);
        }
        let mut ids: Vec<u64> = rig.wait(1500).iter().map(|done| done.id.0).collect();
        ids.sort_unstable();
        assert!(ids.into_iter().eq(0..1500), "{choice:?}");
    }
}

#[test]
fn a_worker_that_ends_with_work_in_flight_leaves_nothing_behind() {
    for choice in CHOICES {
        let rig = Rig::new(choice, 1 << 20);
        let file = Arc::downgrade(&rig.file);
        for id in 0..300u64 {
            rig.submit(id, FileOperation::Read, (id % 256) * 4096, None, 4096);
        }
        rig.worker.engine().flush();
        drop(rig);
        // Threads may hold the file for the moment that their last read takes.
        for _ in 0..500 {
            if file.strong_count() == 0 {
                break;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        assert_eq!(file.strong_count(), 0, "{choice:?}");
    }
}

#[test]
fn the_alarm_rings_a_runtime() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    for choice in CHOICES {
        let rig = Rig::new(choice, 65536);
        runtime.block_on(async {
            for round in 0..3 {
                rig.submit(round, FileOperation::Sync, 0, None, 0);
                rig.worker.engine().flush();
                let came = tokio::time::timeout(Duration::from_secs(10), rig.worker.ready()).await;
                assert!(came.is_ok_and(|ready| ready.is_ok()), "{choice:?} round {round}");
                assert_eq!(rig.inbox.take().len(), 1);
            }
        });
    }
}

#[test]
fn an_unknown_engine_is_named_with_those_that_exist() {
    assert_eq!("uring".parse(), Ok(Choice::Uring));
    assert!("aio".parse::<Choice>().unwrap_err().contains("auto, uring, pool and inline"));
}

#[test]
fn the_choice_says_why() {
    assert_eq!(Engines::new(Choice::Pool).choice().used, "pool");
    let auto = Engines::new(Choice::Auto);
    println!("{:?}", auto.choice());
    assert!(matches!(auto.choice().used, "uring" | "pool"));
    assert!(!auto.choice().reason.is_empty());
}

#[test]
fn another_thread_wakes_the_worker_and_a_ring_while_it_works_is_not_lost() {
    for choice in CHOICES {
        let worker = Engines::new(choice).open().unwrap();
        let alarm = worker.engine().alarm().expect("every engine has one");
        alarm.ring();
        alarm.ring();
        assert_eq!(worker.wait(Duration::from_secs(5)), 1, "{choice:?}");
        assert_eq!(worker.collect(), 0, "{choice:?}");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            for round in 0..100 {
                let alarm = alarm.clone();
                let other = std::thread::spawn(move || alarm.ring());
                let woken = tokio::time::timeout(Duration::from_secs(5), worker.ready()).await;
                assert!(woken.is_ok_and(|ready| ready.is_ok()), "{choice:?}, round {round}");
                other.join().unwrap();
                // It rang once, and at the most the eventfd tells it twice.
                assert_eq!(worker.collect(), 0, "{choice:?}, round {round}");
            }
        });
    }
}
