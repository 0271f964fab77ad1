//! Multipath groups: two portals of one target, of which one is lost during writes, cut or silent; access states
//! that change; portals that are dead from the beginning; disks that are not the same.

use super::help::{LUNETTE, bench, on_the_net, options, soon, url};
use super::switch::{Mode, Switch};
use block::testing::conformance;
use block::{Buf, ErrorKind, Operation, Request};
use initiator::{Error, Group, GroupOptions, Lun, Options, PathState, Policy};
use sim::Daemon;
use sim::daemon::{Folder, free_address};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// A daemon with a file and a portal for each of these words; and its portals.
fn daemon(folder: &Folder, listens: &[&str], words: &[&str]) -> (Daemon, Vec<SocketAddr>) {
    let more: Vec<&str> = listens.iter().flat_map(|listen| ["--listen", *listen]).collect();
    let store = format!("{},size=8M", folder.file("a.img"));
    let daemon = Daemon::start_with(LUNETTE, &[&store], &[&more[..], words].concat(), &[]);
    let portals = daemon.portals();
    assert_eq!(portals.len(), listens.len() + 1);
    (daemon, portals)
}

fn path(at: SocketAddr) -> (Options, Lun) {
    let mut options = options(at);
    (options.nop_interval, options.nop_timeout) = (Duration::from_millis(300), Duration::from_millis(500));
    options.login_timeout = Duration::from_secs(3);
    (options, Lun::new(1))
}

fn quick(policy: Policy) -> GroupOptions {
    GroupOptions {
        policy,
        check_interval: Duration::from_millis(300),
        no_path_timeout: Duration::from_secs(15),
        fail_back: Duration::from_millis(300),
        ..GroupOptions::default()
    }
}

fn connect(paths: Vec<(Options, Lun)>, options: GroupOptions) -> Result<Arc<Group>, Error> {
    on_the_net(async { Group::connect(paths, "the disk", options).await.map(Arc::new) })
}

fn states(group: &Group) -> Vec<PathState> {
    group.paths().iter().map(|path| path.state).collect()
}

/// Writers of a group.
const WRITERS: usize = 4;

/// Writes that never stop: each block of a small area again and again, with a number that only grows. What a read
/// gives is never older than what was acknowledged.
struct Writers {
    stop: Arc<AtomicBool>,
    /// Of each of them.
    rounds: Vec<Arc<AtomicU32>>,
    threads: Vec<std::thread::JoinHandle<()>>,
}

impl Writers {
    fn start(group: &Arc<Group>) -> Writers {
        let stop = Arc::new(AtomicBool::new(false));
        let rounds: Vec<Arc<AtomicU32>> = (0..WRITERS).map(|_| Arc::default()).collect();
        let threads: Vec<_> = (0..WRITERS)
            .map(|own| {
                let (group, stop, rounds) = (group.clone(), stop.clone(), rounds[own].clone());
                std::thread::spawn(move || {
                    let mut bench = bench(group);
                    let mut last = [0u32; 4];
                    for round in 1u32.. {
                        let (block, version) = (round as usize % 4, |round: u32| round.to_be_bytes().repeat(2048));
                        let at = ((own << 20) + block * 8192) as u64;
                        // What came late from a path that was given up would have undone the last write by now.
                        let read = bench.read(at, 8192).unwrap_or_else(|error| panic!("read {round}: {error}"));
                        assert!(
                            read == version(last[block]),
                            "{:?} after {} was acknowledged",
                            &read[..4],
                            last[block]
                        );
                        bench.write(at, &version(round)).unwrap_or_else(|error| panic!("write {round}: {error}"));
                        last[block] = round;
                        rounds.fetch_add(1, Ordering::SeqCst);
                        if stop.load(Ordering::SeqCst) {
                            return;
                        }
                    }
                })
            })
            .collect();
        Writers { stop, rounds, threads }
    }

    /// Waits until so many more have been acknowledged, of each its part.
    fn go_on(&self, count: u32) {
        let until = |one: &Arc<AtomicU32>| one.load(Ordering::SeqCst) + count / WRITERS as u32;
        let until: Vec<u32> = self.rounds.iter().map(until).collect();
        soon("writes go on", || {
            let has_ended = self.threads.iter().any(|one| one.is_finished());
            has_ended || self.rounds.iter().zip(&until).all(|(one, until)| one.load(Ordering::SeqCst) >= *until)
        });
    }

    fn end(self) {
        self.stop.store(true, Ordering::SeqCst);
        self.threads.into_iter().for_each(|thread| thread.join().unwrap());
    }
}

#[test]
fn a_group_passes_the_suite_of_all_stores_by_each_policy() {
    for (policy, seed) in [(Policy::RoundRobin, 31), (Policy::LeastQueue, 32)] {
        let folder = Folder::new();
        let (_daemon, portals) = daemon(&folder, &["127.0.0.2:0"], &[]);
        let group = connect(portals.iter().map(|at| path(*at)).collect(), quick(policy)).unwrap();
        soon("both paths", || states(&group) == [PathState::Optimized; 2]);
        assert!(group.identity().name().unwrap().starts_with("naa.6"));
        conformance(&mut bench(group), seed, 60);
    }
}

#[test]
fn requests_go_by_all_good_paths() {
    let folder = Folder::new();
    let (_daemon, portals) = daemon(&folder, &["127.0.0.2:0"], &[]);
    let switches: Vec<Switch> = portals.iter().map(|at| Switch::before(*at)).collect();
    let paths = switches.iter().map(|switch| path(switch.address())).collect();
    let group = connect(paths, quick(Policy::RoundRobin)).unwrap();
    soon("both paths", || states(&group) == [PathState::Optimized; 2]);
    let before: Vec<u64> = switches.iter().map(Switch::to_target).collect();
    let mut bench = bench(group);
    for round in 0..64u64 {
        bench.write(round * 65536, &[1; 65536]).unwrap();
    }
    for (switch, before) in switches.iter().zip(before) {
        let bytes = switch.to_target() - before;
        assert!((20 * 65536..44 * 65536).contains(&bytes), "{bytes} bytes by one of two paths");
    }
}

/// Paths in one portal group or in two, of which each in turn is cut, or falls silent, during writes.
fn each_path_in_turn(listen: &str, modes: &[Mode]) {
    let folder = Folder::new();
    let (_daemon, portals) = daemon(&folder, &[listen], &[]);
    let switches: Vec<Switch> = portals.iter().map(|at| Switch::before(*at)).collect();
    let paths = switches.iter().map(|switch| path(switch.address())).collect();
    let group = connect(paths, quick(Policy::RoundRobin)).unwrap();
    soon("both paths", || states(&group) == [PathState::Optimized; 2]);
    let writers = Writers::start(&group);
    writers.go_on(50);
    for mode in modes {
        for (at, switch) in switches.iter().enumerate() {
            switch.set(*mode);
            soon("it is seen to be lost", || states(&group)[at] == PathState::Down);
            writers.go_on(100);
            // What was held on the way comes now, and finds nobody.
            switch.set(Mode::Pass);
            writers.go_on(20);
            soon("it is back", || states(&group)[at] == PathState::Optimized);
            let before = switch.to_target();
            soon("it is used again", || switch.to_target() > before + 100_000);
        }
    }
    writers.end();
}

#[test]
fn writes_go_on_when_a_portal_of_the_same_group_is_cut_or_falls_silent() {
    each_path_in_turn("127.0.0.2:0", &[Mode::Cut, Mode::Hold, Mode::HoldAnswers]);
}

#[test]
fn what_a_lost_path_still_brings_comes_too_late_to_undo_anything() {
    let folder = Folder::new();
    let (_daemon, portals) = daemon(&folder, &["127.0.0.2:0"], &[]);
    let switches: Vec<Switch> = portals.iter().map(|at| Switch::before(*at)).collect();
    let paths = switches.iter().map(|switch| path(switch.address())).collect();
    let group = connect(paths, quick(Policy::RoundRobin)).unwrap();
    soon("both paths", || states(&group) == [PathState::Optimized; 2]);
    let mut bench = bench(group.clone());
    for round in 0..3u8 {
        switches[0].set(Mode::Hold);
        let (old, new) = (2 * round + 1, 2 * round + 2);
        // Half of these are on the path that has just fallen silent, and end by the other one.
        let batch = (0..32u64).map(|block| {
            let mut buffer = Buf::new(8192).unwrap();
            buffer.as_mut_slice().fill(old);
            let operation = Operation::Write { durable: false };
            Request::with_data(bench.id(), operation, block * 8192, buffer, 0..8192)
        });
        let batch = batch.collect();
        assert!(bench.batch(batch).iter().all(|completion| completion.result.is_ok()));
        assert_eq!(states(&group), [PathState::Down, PathState::Optimized]);
        for block in 0..32 {
            bench.write(block * 8192, &[new; 8192]).unwrap();
        }
        // What was on its way arrives now.
        switches[0].set(Mode::HoldNew);
        std::thread::sleep(Duration::from_millis(300));
        for block in 0..32 {
            assert!(bench.read(block * 8192, 8192).unwrap() == [new; 8192], "round {round}, block {block}");
        }
        switches[0].set(Mode::Pass);
        let before = switches[0].to_target();
        soon("it is used again", || {
            bench.write(1 << 20, &[0; 8192]).unwrap();
            switches[0].to_target() > before + 8192
        });
    }
}

#[test]
fn writes_go_on_when_a_portal_of_another_group_is_cut_or_does_not_answer() {
    each_path_in_turn("127.0.0.2:0,group=2", &[Mode::Cut, Mode::HoldAnswers]);
}

#[test]
fn the_reset_that_ends_a_lost_path_costs_the_others_nothing_but_a_moment() {
    let folder = Folder::new();
    let (_daemon, portals) = daemon(&folder, &["127.0.0.2:0,group=2", "127.0.0.3:0,group=3"], &[]);
    let switches: Vec<Switch> = portals.iter().map(|at| Switch::before(*at)).collect();
    let paths = switches.iter().map(|switch| path(switch.address())).collect();
    let group = connect(paths, quick(Policy::RoundRobin)).unwrap();
    soon("all paths", || states(&group) == [PathState::Optimized; 3]);
    let writers = Writers::start(&group);
    // Long reads, of which one is under way on each path whenever a reset comes.
    let stop = Arc::new(AtomicBool::new(false));
    let readers = [0u64; 4].map(|_| {
        let (group, stop) = (group.clone(), stop.clone());
        std::thread::spawn(move || {
            let mut bench = bench(group);
            let mut longest = Duration::ZERO;
            while !stop.load(Ordering::SeqCst) {
                let begun = Instant::now();
                bench.read(4 << 20, 4 << 20).unwrap();
                longest = longest.max(begun.elapsed());
            }
            longest
        })
    });
    for round in 0..4 {
        writers.go_on(8);
        switches[0].set(Mode::Cut);
        let begun = Instant::now();
        soon("it is seen to be lost", || states(&group)[0] == PathState::Down);
        // Commands of the other paths that the reset ends are never answered; nobody waits a minute for their limit.
        writers.go_on(16);
        assert!(begun.elapsed() < Duration::from_secs(30), "round {round}: {:?}", begun.elapsed());
        assert_eq!(states(&group)[1..], [PathState::Optimized; 2], "{:?}", group.paths());
        switches[0].set(Mode::Pass);
        soon("it is back", || states(&group)[0] == PathState::Optimized);
    }
    writers.end();
    stop.store(true, Ordering::SeqCst);
    let longest = readers.map(|reader| reader.join().unwrap());
    assert!(longest.iter().all(|longest| *longest < Duration::from_secs(30)), "{longest:?}");
}

#[test]
fn without_any_path_requests_wait_and_in_the_end_fail() {
    let folder = Folder::new();
    let (mut daemon, portals) = daemon(&folder, &["127.0.0.2:0"], &[]);
    let options = GroupOptions { no_path_timeout: Duration::from_secs(3), ..quick(Policy::LeastQueue) };
    let group = connect(portals.iter().map(|at| path(*at)).collect(), options).unwrap();
    let writers = Writers::start(&group);
    writers.go_on(20);
    daemon.kill();
    std::thread::sleep(Duration::from_millis(700));
    // The second portal has taken another free port, and is gone for good.
    daemon.restart();
    writers.go_on(50);
    writers.end();
    daemon.kill();
    let begun = Instant::now();
    assert_eq!(bench(group.clone()).write(0, &[1; 512]).unwrap_err().kind, ErrorKind::Gone);
    assert!((2..10).contains(&begun.elapsed().as_secs()), "{:?}", begun.elapsed());
    assert_eq!(states(&group), [PathState::Down; 2]);
    let why = group.paths()[0].why.clone().unwrap();
    assert!(!why.is_empty() && !why.contains('\n'), "{why}");
}

#[test]
fn access_states_that_change_are_followed_without_an_error() {
    let folder = Folder::new();
    let file = folder.file("states");
    let set = |one: &str, two: &str| std::fs::write(&file, format!("1 {one}\n2 {two}\n")).unwrap();
    // The second path is in standby from the beginning.
    set("optimized", "standby");
    let (_daemon, portals) = daemon(&folder, &["127.0.0.2:0,group=2"], &["--access-states", &file]);
    let switches: Vec<Switch> = portals.iter().map(|at| Switch::before(*at)).collect();
    let paths = switches.iter().map(|switch| path(switch.address())).collect();
    let group = connect(paths, quick(Policy::RoundRobin)).unwrap();
    let is = |one, two| soon("the states are seen", || states(&group) == [one, two]);
    is(PathState::Optimized, PathState::Standby);
    set("optimized", "non-optimized");
    is(PathState::Optimized, PathState::NonOptimized);
    let writers = Writers::start(&group);
    // All of it goes by the better one.
    let moved = |at: usize| {
        writers.go_on(5);
        let before: Vec<u64> = switches.iter().map(Switch::to_target).collect();
        writers.go_on(60);
        let bytes: Vec<u64> = switches.iter().zip(before).map(|(one, before)| one.to_target() - before).collect();
        assert!(bytes[at] > 400_000 && bytes[1 - at] < 50_000, "{bytes:?}");
    };
    moved(0);
    set("standby", "optimized");
    is(PathState::Standby, PathState::Optimized);
    moved(1);
    set("unavailable", "non-optimized");
    is(PathState::Standby, PathState::NonOptimized);
    moved(1);
    set("optimized", "unavailable");
    is(PathState::Optimized, PathState::Standby);
    moved(0);
    // With nothing but standby it waits for better times.
    set("standby", "standby");
    is(PathState::Standby, PathState::Standby);
    set("non-optimized", "standby");
    is(PathState::NonOptimized, PathState::Standby);
    moved(0);
    writers.end();
}

#[test]
fn dead_portals_do_not_hold_up_the_others_and_come_in_later() {
    let folder = Folder::new();
    let (_daemon, portals) = daemon(&folder, &["127.0.0.2:0"], &[]);
    let silent = Switch::before(portals[1]);
    silent.set(Mode::Hold);
    let paths = vec![path(silent.address()), path(free_address()), path(portals[0])];
    let begun = Instant::now();
    let group = connect(paths, quick(Policy::LeastQueue)).unwrap();
    assert!(begun.elapsed() < Duration::from_millis(2500), "{:?}", begun.elapsed());
    assert_eq!(states(&group), [PathState::Down, PathState::Down, PathState::Optimized]);
    bench(group.clone()).write(0, &[1; 512]).unwrap();
    silent.set(Mode::Pass);
    soon("the silent one comes in", || states(&group)[0] == PathState::Optimized);
    // With none at all it says what is wrong with each.
    let (one, two) = (free_address(), free_address());
    let error = connect(vec![path(one), path(two)], quick(Policy::LeastQueue)).map(drop).unwrap_err().to_string();
    assert!(error.contains(&one.to_string()) && error.contains(&two.to_string()) && !error.contains('\n'), "{error}");
}

#[test]
fn a_path_to_another_disk_is_not_one_of_the_group() {
    let (here, there) = (Folder::new(), Folder::new());
    let (_one, portals) = daemon(&here, &[], &[]);
    let (_other, others) = daemon(&there, &[], &[]);
    let group = connect(vec![path(portals[0]), path(others[0])], quick(Policy::RoundRobin)).unwrap();
    soon("both were looked at", || group.paths().iter().any(|path| path.why.is_some()));
    let (up, down) = match states(&group)[..] {
        [PathState::Optimized, PathState::Down] => (0, 1),
        [PathState::Down, PathState::Optimized] => (1, 0),
        _ => panic!("{:?}", group.paths()),
    };
    let why = group.paths()[down].why.clone().unwrap();
    assert!(why.contains("another disk is not taken"), "{why}");
    bench(group.clone()).write(0, &[0x77; 4096]).unwrap();
    let files = [here.file("a.img"), there.file("a.img")];
    let begins = |at: usize| std::fs::read(&files[at]).unwrap()[..4096].to_vec();
    assert!(begins(up) == [0x77; 4096] && begins(down) == [0; 4096]);
}

#[test]
fn a_group_is_served_on_and_a_portal_of_it_killed() {
    let folder = Folder::new();
    let (_daemon, portals) = daemon(&folder, &["127.0.0.2:0"], &[]);
    let switches: Vec<Switch> = portals.iter().map(|at| Switch::before(*at)).collect();
    let [one, two] = [url(switches[0].address(), 1), url(switches[1].address(), 1)];
    let served = Daemon::start(LUNETTE, &[&format!("{one},path={two},policy=round-robin")]);
    let mut client = served.connect();
    client.login(&sim::raw::Login::normal(sim::daemon::TARGET));
    client.take_attentions();
    for round in 0..200u32 {
        match round {
            50 => switches[0].set(Mode::Cut),
            100 => switches[0].set(Mode::Pass),
            150 => switches[1].set(Mode::Cut),
            _ => {}
        }
        client.good(&sim::raw::Command::write(round * 8, &[round as u8; 4096]));
        std::thread::sleep(Duration::from_millis(5));
    }
    for round in 0..200u32 {
        assert_eq!(client.good(&sim::raw::Command::read(round * 8, 8)), [round as u8; 4096]);
    }
}
