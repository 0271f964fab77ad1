//! ERL, ASY, TMF: what becomes of commands whose session is lost.

use crate::help::{capacity, extent, options, plain, run, serve};
use initiator::{Command, Error, Session};
use sim::scripted::Server;
use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// A disk of one byte for each block, behind a target that cuts its sessions.
#[derive(Default)]
struct Disk {
    blocks: HashMap<u64, u8>,
    /// Every write in the order in which it was carried out: LBA, first byte, number of the connection.
    writes: Vec<(u64, u8, usize)>,
}

/// Each connection takes so many commands, of which it carries out and answers all but the last so many: those it
/// carries out, or not, and is gone.
fn cutting(takes: usize, unanswered: usize, disk: &Arc<Mutex<Disk>>) -> Server {
    let disk = Arc::clone(disk);
    Server::start(move |number, mut target| {
        target.login(&plain());
        target.news();
        let mut taken = 0;
        serve(&mut target, |target, command, along| {
            if capacity(target, command) {
                return true;
            }
            let tag = command.initiator_task_tag.get();
            let (lba, blocks) = extent(command);
            let mut disk = disk.lock().unwrap();
            taken += 1;
            let last = number < 5 && taken > takes - unanswered;
            match command.cdb[0] {
                // Of those that are not answered every second one is carried out all the same.
                0x8a if last && taken % 2 == 0 => {}
                0x8a => {
                    disk.writes.push((lba, along[0], number));
                    disk.blocks.extend((0..u64::from(blocks)).map(|block| (lba + block, along[0])));
                }
                _ => {}
            }
            if last {
                return !(number < 5 && taken >= takes);
            }
            match command.cdb[0] {
                0x88 => {
                    let bytes: Vec<u8> = (0..u64::from(blocks))
                        .flat_map(|block| [disk.blocks.get(&(lba + block)).copied().unwrap_or(0); 512])
                        .collect();
                    target.answer_read(tag, &bytes);
                }
                _ => target.good(tag),
            }
            true
        });
    })
}

#[test]
fn erl_02_writes_are_replayed_in_their_order_and_none_lands_behind_a_later_one() {
    for (takes, unanswered) in [(3, 1), (4, 3), (9, 5)] {
        let disk = Arc::new(Mutex::new(Disk::default()));
        let server = cutting(takes, unanswered, &disk);
        run(async {
            let session = options(server.address()).connect().await.unwrap();
            let unit = session.unit(0);
            unit.capacity().await.unwrap();
            // Twelve writers, each of its own blocks, of which neighbours overlap; each byte is greater than the last.
            let writers: Vec<_> = (0..12u64)
                .map(|writer| {
                    let unit = unit.clone();
                    tokio::spawn(async move {
                        for byte in 1..=6u8 {
                            unit.write(writer * 8, vec![byte; 512 * 8]).await.unwrap();
                            let read = unit.read(writer * 8, 8).await.unwrap();
                            assert!(read.iter().all(|found| *found == byte), "an acknowledged write is lost");
                        }
                    })
                })
                .collect();
            for writer in writers {
                writer.await.unwrap();
            }
        });
        let disk = disk.lock().unwrap();
        for lba in (0..12).map(|writer| writer * 8) {
            let bytes: Vec<u8> = disk.writes.iter().filter(|(of, ..)| *of == lba).map(|(_, byte, _)| *byte).collect();
            assert!(bytes.is_sorted(), "writes of block {lba} out of their order: {bytes:?}");
            assert_eq!(bytes.last(), Some(&6));
        }
        assert!(server.accepted() > 5, "sessions were lost: {}", server.accepted());
    }
}

#[test]
fn erl_02_a_later_write_of_the_same_blocks_waits_for_the_one_that_is_replayed() {
    let disk = Arc::new(Mutex::new(Disk::default()));
    let server = cutting(1, 1, &disk);
    run(async {
        let session = options(server.address()).connect().await.unwrap();
        let unit = session.unit(0);
        // All at once, of overlapping blocks, asked for in this order.
        let write = |byte: u8| {
            let mut cdb = [0; 16];
            (cdb[0], cdb[9], cdb[13]) = (0x8a, byte % 3, 4);
            let (session, data) = (session.clone(), vec![byte; 512 * 4]);
            async move { session.execute(0.into(), Command::new(&cdb).writing(data)).await.result }
        };
        let mut all = Vec::new();
        for byte in 1..=8u8 {
            all.push(tokio::spawn(write(byte)));
            tokio::task::yield_now().await;
        }
        for one in all {
            one.await.unwrap().unwrap();
        }
        let last = unit.read(2, 1).await.unwrap();
        assert_eq!(last[0], 8, "the last one holds");
    });
    let disk = disk.lock().unwrap();
    let bytes: Vec<u8> = disk.writes.iter().map(|(_, byte, _)| *byte).collect();
    assert!(bytes.is_sorted(), "{bytes:?}");
}

#[test]
fn erl_02_what_would_act_twice_is_not_sent_twice() {
    let seen = Arc::new(Mutex::new(0));
    let count = Arc::clone(&seen);
    let server = Server::start(move |_, mut target| {
        target.login(&plain());
        target.news();
        serve(&mut target, |target, command, _| {
            if command.cdb[0] != 0x89 {
                return capacity(target, command);
            }
            *count.lock().unwrap() += 1;
            false
        });
    });
    run(async {
        let session = options(server.address()).connect().await.unwrap();
        let mut cdb = [0; 16];
        (cdb[0], cdb[13]) = (0x89, 1);
        let finished = session.execute(0.into(), Command::new(&cdb).writing(vec![1; 1024])).await;
        assert_eq!(finished.result.unwrap_err(), Error::Interrupted);
        assert!(session.unit(0).capacity().await.is_ok(), "the session goes on");
    });
    assert_eq!(*seen.lock().unwrap(), 1);
}

#[test]
fn asy_03_erl_08_the_target_is_left_alone_for_as_long_as_it_said() {
    for event in [2, 3] {
        let times = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&times);
        let server = Server::start(move |number, mut target| {
            seen.lock().unwrap().push(Instant::now());
            target.login(&plain());
            target.news();
            let mut drops = number == 0;
            serve(&mut target, |target, command, _| {
                if std::mem::take(&mut drops) {
                    target.event(event, [0; 8], [0, 2, 20], &[]);
                    return true;
                }
                capacity(target, command)
            });
        });
        run(async {
            let session = options(server.address()).connect().await.unwrap();
            assert_eq!(session.unit(0).capacity().await.unwrap().block_length, 512);
        });
        let times = times.lock().unwrap();
        assert!(times.len() == 2 && times[1] - times[0] >= Duration::from_millis(1900), "{times:?}");
    }
}

#[test]
fn asy_01_a_target_that_asks_for_a_logout_gets_it_and_the_session_comes_back() {
    let reasons = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&reasons);
    let server = Server::start(move |number, mut target| {
        target.login(&plain());
        target.news();
        let begun = Instant::now();
        let mut asks = number == 0;
        while let Ok(frame) = target.receive() {
            if let Some(request) = frame.view::<iscsi::wire::LogoutRequest>() {
                seen.lock().unwrap().push((request.reason & 0x7f, begun.elapsed()));
                target.logged_out(request, 0);
                return;
            }
            if let Some(command) = frame.view::<iscsi::wire::ScsiCommand>() {
                capacity(&mut target, command);
            }
            if std::mem::take(&mut asks) {
                target.event(1, [0; 8], [0, 0, 4], &[]);
            }
        }
    });
    run(async {
        let session = options(server.address()).connect().await.unwrap();
        for _ in 0..5 {
            assert_eq!(session.unit(0).capacity().await.unwrap().block_length, 512);
            tokio::time::sleep(Duration::from_millis(700)).await;
        }
        session.logout().await.unwrap();
    });
    let reasons = reasons.lock().unwrap();
    assert!(reasons.len() == 2 && reasons[0].0 == 0 && reasons[0].1 < Duration::from_secs(4), "{reasons:?}");
}

#[test]
fn tmf_13_a_command_without_an_answer_ends_in_its_time_and_its_memory_is_safe() {
    for answers_abort in [true, false] {
        let server = Server::start(move |number, mut target| {
            target.login(&plain());
            target.news();
            while let Ok(frame) = target.receive() {
                if let Some(command) = frame.view::<iscsi::wire::ScsiCommand>() {
                    if !(capacity(&mut target, command) || number == 0) {
                        target.answer_read(command.initiator_task_tag.get(), &[7; 512]);
                    }
                } else if let Some(request) = frame.view::<iscsi::wire::TaskManagementRequest>()
                    && answers_abort
                {
                    target.function_done(request.initiator_task_tag.get(), 0);
                } else if let Some(ping) = frame.view::<iscsi::wire::NopOut>() {
                    target.pong(ping.initiator_task_tag.get(), &frame.data);
                } else if let Some(request) = frame.view::<iscsi::wire::LogoutRequest>() {
                    target.logged_out(request, 0);
                    return;
                }
            }
        });
        run(async {
            let session = options(server.address()).command_timeout(Duration::from_secs(1)).connect().await.unwrap();
            let unit = session.unit(0);
            unit.capacity().await.unwrap();
            let begun = Instant::now();
            let error = unit.read(0, 1).await.unwrap_err();
            assert!(matches!(error, Error::TimedOut { .. }), "{error}");
            let limit = if answers_abort { 3 } else { 26 };
            assert!(begun.elapsed() < Duration::from_secs(limit), "{:?}", begun.elapsed());
            assert!(unit.capacity().await.is_ok(), "the session goes on, or another one");
        });
    }
}

#[test]
fn a_future_that_is_dropped_leaves_nothing_behind() {
    let server = Server::start(|_, mut target| {
        target.login(&plain());
        target.news();
        let mut held = Vec::new();
        serve(&mut target, |target, command, _| {
            if capacity(target, command) {
                return true;
            }
            // Answered when there are four, the last first.
            held.push(command.initiator_task_tag.get());
            if held.len() == 4 {
                while let Some(tag) = held.pop() {
                    target.answer_read(tag, &[tag as u8; 512]);
                }
            }
            true
        });
    });
    run(async {
        let session: Session = options(server.address()).connect().await.unwrap();
        let unit = session.unit(0);
        unit.capacity().await.unwrap();
        for _ in 0..20 {
            for _ in 0..3 {
                let _ = tokio::time::timeout(Duration::from_millis(5), unit.read(0, 1)).await;
            }
            let data = unit.read(0, 1).await.unwrap();
            assert!(data.iter().all(|byte| *byte == data[0]));
        }
    });
}
