//! Initiators that read and write all the time, and see what they wrote through any number of upgrades: no error, no
//! login, no lost session.

use crate::rig::{LUNETTE, options, pattern, run};
use crate::{process, upgrade};
use initiator::{DigestOffer, Options, Session};
use sim::Daemon;
use sim::daemon::{Folder, TARGET};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

/// A writer's blocks at one place.
const BLOCKS: u64 = 8;

/// Writers that each write their own blocks again and again and read what they wrote.
struct Load {
    stop: Arc<AtomicBool>,
    done: Arc<AtomicU64>,
    writers: Vec<tokio::task::JoinHandle<()>>,
}

impl Load {
    fn start(session: &Session, lun: u16, writers: u64, blocks: u64) -> Load {
        let (stop, done) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let writers = (0..writers).map(|writer| {
            let (disk, stop, done) = (session.unit(lun), stop.clone(), done.clone());
            tokio::spawn(async move {
                let mut generation = 0u64;
                let place = |generation: u64| (writer * BLOCKS + generation % BLOCKS) * blocks;
                let data = |at: u64, generation: u64| -> Vec<u8> {
                    (at..at + blocks).flat_map(|block| pattern(block, generation)).collect()
                };
                while !stop.load(Ordering::Relaxed) {
                    generation += 1;
                    let at = place(generation);
                    disk.write(at, data(at, generation)).await.unwrap();
                    let read = disk.read(at, blocks as u32).await.unwrap();
                    assert!(read == data(at, generation), "writer {writer}, generation {generation}");
                    done.fetch_add(1, Ordering::Relaxed);
                }
                // The last ones are all there.
                for generation in generation.saturating_sub(BLOCKS - 1).max(1)..=generation {
                    let at = place(generation);
                    assert!(disk.read(at, blocks as u32).await.unwrap() == data(at, generation));
                }
            })
        });
        Load { writers: writers.collect(), stop, done }
    }

    async fn so_many_more(&self, more: u64) {
        let before = self.done.load(Ordering::Relaxed);
        while self.done.load(Ordering::Relaxed) < before + more {
            assert!(self.writers.iter().all(|writer| !writer.is_finished()), "a writer has failed");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    async fn end(self) {
        self.stop.store(true, Ordering::Relaxed);
        for writer in self.writers {
            writer.await.unwrap();
        }
    }
}

/// Three upgrades under the load of one session with so many connections.
fn upgraded(stores: &[&str], connections: usize, change: fn(Options) -> Options, writers: u64, blocks: u64) {
    let mut daemon = Some(Daemon::start(LUNETTE, stores));
    run(async {
        let session = change(options(daemon.as_ref().unwrap())).connect().await.unwrap();
        while session.information().connections.len() < connections {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let mut events = session.events();
        let load = Load::start(&session, 1, writers, blocks);
        for round in 0..3 {
            load.so_many_more(40).await;
            let old = process(&daemon);
            let said = upgrade(&mut daemon, LUNETTE, &["--timeout", "20"]).await.unwrap();
            assert!(said.contains("\"sessions\":1"), "{said}");
            assert_ne!(process(&daemon), old, "round {round}");
        }
        load.so_many_more(40).await;
        load.end().await;
        let statistics = session.statistics();
        let told: Vec<_> = std::iter::from_fn(|| events.try_recv().ok()).collect();
        assert_eq!((statistics.logins, statistics.errors), (0, 0), "{statistics:?}, {told:?}");
        assert_eq!(session.information().connections.len(), connections);
        session.logout().await.unwrap();
    });
}

fn file(folder: &Folder) -> String {
    format!("{},size=64M", folder.file("disk.img"))
}

#[test]
fn a_disk_in_a_file_goes_on_under_load() {
    let folder = Folder::new();
    upgraded(&[&file(&folder)], 1, |options| options, 16, 8);
}

#[test]
fn a_disk_in_memory_keeps_what_it_holds() {
    upgraded(&["ram:64M"], 1, |options| options, 16, 8);
}

#[test]
fn writes_that_wait_for_their_data_are_finished_first() {
    // 320 KiB each: two R2Ts.
    upgraded(&["ram:128M"], 1, |options| options.digests(DigestOffer::Required), 4, 640);
}

#[test]
fn several_connections_with_digests_at_recovery_level_2_go_on() {
    let folder = Folder::new();
    let change = |options: Options| options.connections(3).error_recovery_level(2).digests(DigestOffer::Required);
    upgraded(&[&file(&folder)], 3, change, 16, 64);
}

#[test]
fn statuses_that_are_kept_at_recovery_level_1_are_acknowledged_first() {
    upgraded(&["ram:64M"], 1, |options| options.error_recovery_level(1), 16, 16);
}

#[test]
fn what_a_limit_holds_back_does_not_keep_an_upgrade_waiting() {
    let mut daemon = Some(Daemon::configured(
        LUNETTE,
        &format!(
            "[daemon]\nstate-dir = \"FOLDER/state\"\n[[portal]]\nlisten = \"127.0.0.1:0\"\n[[target]]\nname = \"{TARGET}\"\n[[target.lun]]\n\
             store = \"ram:8M\"\nlimit = {{ operations = 2 }}\n[[target.rule]]\ninitiators = \"any\"\n"
        ),
    ));
    run(async {
        let session = options(daemon.as_ref().unwrap()).connect().await.unwrap();
        let reads: Vec<_> = (0..24)
            .map(|at| {
                let disk = session.unit(1);
                tokio::spawn(async move { disk.read(at, 1).await })
            })
            .collect();
        tokio::time::sleep(Duration::from_millis(300)).await;
        assert!(reads.iter().filter(|read| !read.is_finished()).count() > 16, "most of them wait");
        // At their limit they would take twelve seconds.
        upgrade(&mut daemon, LUNETTE, &["--timeout", "3"]).await.unwrap();
        for read in reads {
            read.await.unwrap().unwrap();
        }
    });
}

#[test]
fn many_sessions_of_which_some_are_idle_go_over_at_once() {
    let mut daemon = Some(Daemon::start(LUNETTE, &["ram:64M", "ram:64M"]));
    run(async {
        let mut sessions = Vec::new();
        for number in 0..12u8 {
            let options = options(daemon.as_ref().unwrap()).isid([0x80, 0, 0, 0, 7, number]);
            sessions.push(options.connect().await.unwrap());
        }
        let busy = Load::start(&sessions[0], 1, 8, 8);
        let other = Load::start(&sessions[1], 2, 8, 8);
        busy.so_many_more(20).await;
        let said = upgrade(&mut daemon, LUNETTE, &["--timeout", "20"]).await.unwrap();
        assert!(said.contains("\"sessions\":12"), "{said}");
        busy.so_many_more(20).await;
        other.so_many_more(20).await;
        busy.end().await;
        other.end().await;
        for session in &sessions {
            session.unit(1).test_ready().await.unwrap();
            assert_eq!((session.statistics().logins, session.statistics().errors), (0, 0));
        }
        // Newcomers are served, and get numbers that nobody has.
        let late = options(daemon.as_ref().unwrap()).isid([0x80, 0, 0, 0, 7, 99]).connect().await.unwrap();
        late.unit(1).test_ready().await.unwrap();
        sessions[0].unit(1).test_ready().await.unwrap();
    });
}
