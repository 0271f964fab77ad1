//! Bad weather: targets that are killed, connections that are lost, futures that are dropped, time that passes.

use crate::rig::{LUNETTE, options, pattern, run};
use initiator::{DigestOffer, Error, Event, Function, Lun, Options, Portal, State};
use sim::Daemon;
use sim::daemon::{Folder, TARGET};
use sim::proxy::{Action, Direction, Fault, Plan, Proxy};
use std::io::Read;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// The same options by way of a proxy.
fn through(options: Options, proxy: &Proxy) -> Options {
    let address = proxy.address();
    Options { portal: Portal::new(address.ip().to_string(), address.port()), ..options }
}

#[test]
fn a_target_that_is_killed_in_the_midst_of_writes_is_a_pause() {
    killed(1, 0, 3);
}

#[test]
fn so_it_is_with_several_connections_that_the_target_does_not_know_any_more() {
    killed(3, 2, 2);
}

/// A session of so many connections at this recovery level, whose target is killed so often.
fn killed(connections: u16, level: u8, times: usize) {
    let folder = Folder::new();
    let image = format!("{},size=16M", folder.file("disk.img"));
    let mut daemon = Daemon::start(LUNETTE, &[&image]);
    run(async {
        let options = options(&daemon).connections(connections).error_recovery_level(level);
        let session = options.connect().await.unwrap();
        let mut events = session.events();
        let stop = Arc::new(AtomicBool::new(false));
        let acknowledged = Arc::new(AtomicU64::new(0));
        // Each writer writes its own blocks again and again, and reads what it wrote.
        let writers: Vec<_> = (0..16u64)
            .map(|writer| {
                let (disk, stop, acknowledged) = (session.unit(1), stop.clone(), acknowledged.clone());
                tokio::spawn(async move {
                    let mut generation = 0u64;
                    while !stop.load(Ordering::Relaxed) {
                        generation += 1;
                        let at = writer * 64 + generation % 8 * 8;
                        let data: Vec<u8> = (at..at + 8).flat_map(|block| pattern(block, generation)).collect();
                        disk.write(at, data.clone()).await.unwrap();
                        acknowledged.fetch_add(1, Ordering::Relaxed);
                        assert!(disk.read(at, 8).await.unwrap() == data, "writer {writer}, generation {generation}");
                    }
                    (writer, generation)
                })
            })
            .collect();
        for _ in 0..times {
            let before = acknowledged.load(Ordering::Relaxed);
            while acknowledged.load(Ordering::Relaxed) < before + 500 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            daemon.kill();
            tokio::time::sleep(Duration::from_millis(300)).await;
            if level < 2 {
                assert_eq!(session.information().state, State::Recovering);
            }
            daemon.restart();
        }
        let before = acknowledged.load(Ordering::Relaxed);
        while acknowledged.load(Ordering::Relaxed) < before + 500 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        stop.store(true, Ordering::Relaxed);
        for writer in writers {
            let (writer, last) = writer.await.unwrap();
            // The last eight generations are on the disk, each at its place.
            for generation in last.saturating_sub(7).max(1)..=last {
                let at = writer * 64 + generation % 8 * 8;
                let data: Vec<u8> = (at..at + 8).flat_map(|block| pattern(block, generation)).collect();
                assert!(session.unit(1).read(at, 8).await.unwrap() == data);
            }
        }
        let mut told = Vec::new();
        while let Ok(event) = events.try_recv() {
            told.push(event);
        }
        assert_eq!(told.iter().filter(|event| matches!(event, Event::SessionLost { .. })).count(), times, "{told:?}");
        assert_eq!(told.iter().filter(|event| matches!(event, Event::SessionRestored { .. })).count(), times);
        let statistics = session.statistics();
        assert_eq!((statistics.logins, statistics.errors), (times as u64, 0), "{statistics:?}");
        session.logout().await.unwrap();
    });
}

#[test]
fn beyond_the_replacement_timeout_commands_fail_at_once_until_the_target_is_back() {
    let mut daemon = Daemon::start(LUNETTE, &["ram:1M"]);
    run(async {
        let session = options(&daemon).replacement_timeout(Duration::from_secs(4)).connect().await.unwrap();
        let disk = session.unit(1);
        disk.write(0, pattern(0, 1)).await.unwrap();
        daemon.kill();
        let begun = Instant::now();
        let error = disk.read(0, 1).await.unwrap_err();
        assert!(matches!(error, Error::Gone { .. }) && error.is_transport(), "{error}");
        assert!(error.to_string().contains("no session with") && error.to_string().contains("refused"), "{error}");
        assert!((Duration::from_millis(3900)..Duration::from_secs(8)).contains(&begun.elapsed()));
        let begun = Instant::now();
        assert!(matches!(disk.read(0, 1).await, Err(Error::Gone { .. })));
        assert!(begun.elapsed() < Duration::from_millis(100), "at once");
        assert_eq!(session.information().state, State::Failed);
        daemon.restart();
        while session.information().state != State::LoggedIn {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        disk.read(0, 1).await.unwrap();
        // Without a replacement timeout a loss is the end.
        let session = options(&daemon).replacement_timeout(Duration::ZERO).connect().await.unwrap();
        session.unit(1).test_ready().await.unwrap();
        daemon.kill();
        let error = session.unit(1).test_ready().await.unwrap_err();
        assert!(matches!(error, Error::Gone { .. }), "{error}");
    });
}

#[test]
fn a_future_that_is_dropped_disturbs_nobody() {
    let daemon = Daemon::start(LUNETTE, &["ram:8M"]);
    run(async {
        let session = options(&daemon).connect().await.unwrap();
        let disk = session.unit(1);
        disk.test_ready().await.unwrap();
        for round in 0..40u64 {
            let data: Vec<u8> = (0..64).flat_map(|block| pattern(block, round)).collect();
            // Its memory is the driver's until the target has answered, whoever has gone.
            let _ = tokio::time::timeout(Duration::from_millis(round % 5), disk.write(64, data)).await;
            let _ = tokio::time::timeout(Duration::from_millis(round % 7), disk.read(0, 64)).await;
            let _ = tokio::time::timeout(Duration::from_millis(1), session.ping(b"who")).await;
        }
        let data = pattern(1, 99);
        disk.write(70, data.clone()).await.unwrap();
        assert_eq!(disk.read(70, 1).await.unwrap(), data);
        assert_eq!(session.ping(b"there").await.unwrap(), b"there");
        drop((session, disk));
        // The last handle logs out.
        let begun = Instant::now();
        while !daemon.log().contains("logged out") {
            assert!(begun.elapsed() < Duration::from_secs(5), "{}", daemon.log());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    });
}

#[test]
fn four_connections_carry_one_session_and_a_lost_one_is_replaced() {
    let daemon = Daemon::start(LUNETTE, &["ram:8M"]);
    for level in [0, 2] {
        run(async {
            let plan = Plan::fault(Direction::ToTarget, 200_000, Action::Reset);
            let proxy = Proxy::start(daemon.address(), vec![Plan::default(), plan.clone(), Plan::default(), plan]);
            let session = through(options(&daemon), &proxy).connections(4).error_recovery_level(level);
            let session = session.connect().await.unwrap();
            let mut events = session.events();
            while session.information().connections.len() < 4 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            let writers: Vec<_> = (0..16u64)
                .map(|writer| {
                    let disk = session.unit(1);
                    tokio::spawn(async move {
                        for generation in 0..60 {
                            let at = writer * 64;
                            let data: Vec<u8> = (at..at + 16).flat_map(|block| pattern(block, generation)).collect();
                            disk.write(at, data.clone()).await.unwrap();
                            assert!(disk.read(at, 16).await.unwrap() == data);
                        }
                    })
                })
                .collect();
            for writer in writers {
                writer.await.unwrap();
            }
            let mut lost = 0;
            let mut sessions = 0;
            while let Ok(event) = events.try_recv() {
                lost += u32::from(matches!(event, Event::ConnectionLost { .. }));
                sessions += u32::from(matches!(event, Event::SessionLost { .. }));
            }
            assert!(lost >= 1, "at level {level}");
            // At level 2 the session outlives its connections.
            assert_eq!(sessions > 0, level == 0, "at level {level}");
            let begun = Instant::now();
            while session.information().connections.len() < 4 {
                assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", session.information());
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            session.logout().await.unwrap();
        });
    }
}

#[test]
fn at_level_2_the_only_connection_is_lost_and_its_tasks_go_on() {
    let daemon = Daemon::start(LUNETTE, &["ram:8M"]);
    run(async {
        let fault = |direction, at| Plan::fault(direction, at, Action::Reset);
        let plans = vec![
            fault(Direction::ToTarget, 100_000),
            fault(Direction::ToInitiator, 150_000),
            fault(Direction::ToTarget, 70_001),
        ];
        let proxy = Proxy::start(daemon.address(), plans);
        let session = through(options(&daemon), &proxy).error_recovery_level(2).connect().await.unwrap();
        assert_eq!(session.information().parameters.error_recovery_level, 2);
        let tsih = session.information().tsih;
        let disk = session.unit(1);
        for generation in 0..20u64 {
            let data: Vec<u8> = (0..64).flat_map(|block| pattern(block, generation)).collect();
            disk.write(generation, data.clone()).await.unwrap();
            assert!(disk.read(generation, 64).await.unwrap() == data);
        }
        // A function whose answer may be lost is asked again until it has one.
        session.task_management(Function::LogicalUnitReset, Lun::new(1)).await.unwrap();
        assert_eq!(session.information().tsih, tsih, "it is the same session");
        assert!(session.statistics().connections_lost >= 2, "{:?}", session.statistics());
        session.logout().await.unwrap();
    });
}

#[test]
fn bits_that_turn_under_digests_are_seen_and_nothing_wrong_is_read() {
    let daemon = Daemon::start(LUNETTE, &["ram:8M"]);
    for level in [0, 1, 2] {
        run(async {
            let flips = |direction| {
                let at = [90_000u64, 200_123, 300_777, 450_001, 600_222].map(|at| Fault {
                    direction,
                    at,
                    action: Action::Flip(3),
                });
                Plan { faults: at.to_vec(), ..Plan::default() }
            };
            let proxy = Proxy::start(daemon.address(), vec![flips(Direction::ToInitiator), flips(Direction::ToTarget)]);
            let session = through(options(&daemon), &proxy).digests(DigestOffer::Required).error_recovery_level(level);
            let session = session.connect().await.unwrap();
            let disk = session.unit(1);
            for generation in 0..24u64 {
                let data: Vec<u8> = (0..64).flat_map(|block| pattern(block, generation)).collect();
                disk.write(generation, data.clone()).await.unwrap();
                assert!(disk.read(generation, 64).await.unwrap() == data, "level {level}, generation {generation}");
            }
            if level == 0 {
                assert!(session.statistics().connections_lost >= 1, "a digest that does not match costs the session");
            }
            session.logout().await.unwrap();
        });
    }
}

#[test]
fn a_target_that_stands_still_is_noticed_by_pings_and_one_that_stops_in_order_is_waited_for() {
    let folder = Folder::new();
    let image = format!("{},size=1M", folder.file("disk.img"));
    let mut daemon = Daemon::start(LUNETTE, &[&image]);
    run(async {
        let pinging = Options {
            nop_interval: Duration::from_millis(200),
            nop_timeout: Duration::from_millis(300),
            ..options(&daemon)
        };
        let session = pinging.connect().await.unwrap();
        let disk = session.unit(1);
        let data = pattern(5, 1);
        disk.write(5, data.clone()).await.unwrap();
        daemon.signal("STOP");
        let reading = {
            let disk = disk.clone();
            tokio::spawn(async move { disk.read(5, 1).await })
        };
        let begun = Instant::now();
        while session.information().state != State::Recovering {
            assert!(begun.elapsed() < Duration::from_secs(5));
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        daemon.signal("CONT");
        assert_eq!(reading.await.unwrap().unwrap(), data);
        // It says that it stops, and comes back.
        let running = {
            let (disk, data) = (disk.clone(), data.clone());
            tokio::spawn(async move {
                for _ in 0..2000 {
                    assert_eq!(disk.read(5, 1).await.unwrap(), data);
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
            })
        };
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert!(daemon.terminate().success());
        daemon.restart();
        running.await.unwrap();
        assert_eq!(session.statistics().errors, 0);
        session.logout().await.unwrap();
    });
}

#[test]
fn a_connection_is_handed_over_with_what_was_agreed_and_a_redirection_is_followed() {
    let daemon = Daemon::start(LUNETTE, &["ram:1M"]);
    let there = daemon.address();
    let configuration = format!(
        "[daemon]\nstate-dir = \"FOLDER/state\"\n[[portal]]\nlisten = \"127.0.0.1:0\"\n\n\
         [[target]]\nname = \"{TARGET}\"\nredirect = \"{there}\"\n[[target.rule]]\ninitiators = \"any\"\n"
    );
    let here = Daemon::configured(LUNETTE, &configuration);
    run(async {
        let handed = initiator::connect_for_hand_over(&options(&here), None).await.unwrap();
        assert_eq!(handed.portal.to_string(), there.to_string());
        assert_eq!(handed.isid[0], 0x80);
        assert!(handed.logged_in.tsih > 0 && handed.logged_in.session.max_burst_length > 0);
        // The session is whoever's has the socket: it answers to a ping that is made by hand.
        let mut nop = [0u8; 48];
        nop[0] = 0x40;
        nop[1] = 0x80;
        nop[16..20].copy_from_slice(&7u32.to_be_bytes());
        nop[20..24].copy_from_slice(&[0xff; 4]);
        nop[24..28].copy_from_slice(&handed.logged_in.cmd_sn.to_be_bytes());
        nop[28..32].copy_from_slice(&handed.logged_in.opening.next_stat_sn.to_be_bytes());
        let mut stream = handed.stream;
        std::io::Write::write_all(&mut stream, &nop).unwrap();
        let mut answer = [0u8; 48];
        std::io::Read::read_exact(&mut stream, &mut answer).unwrap();
        assert_eq!((answer[0], &answer[16..20]), (0x20, &7u32.to_be_bytes()[..]));
    });
}

/// Passes the n-th connection on to the n-th address, and all behind them to the last; the first one is cut after some
/// bytes to the target.
fn turn_around(to: [SocketAddr; 2], cut: u64) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for (number, here) in listener.incoming().flatten().enumerate() {
            let there = TcpStream::connect(to[number.min(1)]).unwrap();
            let limit = if number == 0 { cut } else { u64::MAX };
            let pass = |from: &TcpStream, to: &TcpStream, limit: u64| {
                let (from, mut to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
                std::thread::spawn(move || {
                    let _ = std::io::copy(&mut from.take(limit), &mut to);
                    let _ = to.shutdown(Shutdown::Both);
                })
            };
            pass(&here, &there, limit);
            pass(&there, &here, u64::MAX);
        }
    });
    address
}

#[test]
fn a_session_that_comes_back_in_another_portal_group_resets_what_it_was_writing() {
    let configuration = "[daemon]\nstate-dir = \"FOLDER/state\"\n\
         [[portal]]\nlisten = \"127.0.0.1:0\"\n[[portal]]\nlisten = \"127.0.0.2:0\"\ngroup = 2\n\n\
         [[target]]\nname = \"NAME\"\n[[target.lun]]\nstore = \"ram:4M\"\nnumber = 1\n\
         [[target.lun]]\nstore = \"ram:8M\"\nnumber = 2\n[[target.rule]]\ninitiators = \"any\"\n";
    let daemon = Daemon::configured(LUNETTE, &configuration.replace("NAME", TARGET));
    let portals = daemon.portals();
    let to = [portals[0], portals[1]];
    run(async {
        // Somebody else who uses the units hears of resets.
        let other = options(&daemon).initiator_name("iqn.2026-11.com.example:other").connect().await.unwrap();
        for lun in [1u16, 2] {
            other.unit(lun).test_ready().await.unwrap();
        }
        let mut heard = other.events();
        let address = turn_around(to, 300_000);
        let there = Options { portal: Portal::new("127.0.0.1", address.port()), ..options(&daemon) };
        let session = there.connect().await.unwrap();
        assert_eq!(session.information().portal_group_tag, Some(1));
        let disk = session.unit(1);
        session.unit(2).test_ready().await.unwrap();
        let data: Vec<u8> = (0..64).flat_map(|block| pattern(block, 3)).collect();
        for number in 0..20 {
            disk.write(number * 64, data.clone()).await.unwrap();
        }
        assert_eq!((session.information().portal_group_tag, session.statistics().logins), (Some(2), 1));
        for number in 0..20 {
            assert!(disk.read(number * 64, 64).await.unwrap() == data);
        }
        for lun in [1u16, 2] {
            other.unit(lun).test_ready().await.unwrap();
        }
        let mut resets = Vec::new();
        while let Ok(event) = heard.try_recv() {
            if let Event::UnitAttention { lun, code: (0x29, _), .. } = event {
                resets.push(lun);
            }
        }
        assert_eq!(resets, [Lun::new(1)], "the unit that was written to, and no other");
    });
}

#[test]
fn writes_of_the_same_blocks_keep_their_order_over_losses() {
    let daemon = Daemon::start(LUNETTE, &["ram:1M"]);
    run(async {
        // Each connection dies after some bytes, at places that differ.
        let at = [40_011, 90_500, 61_234, 120_777];
        let cut = |(number, at): (usize, &u64)| match number % 2 {
            0 => Plan::fault(Direction::ToTarget, *at, Action::Reset),
            _ => Plan::fault(Direction::ToInitiator, *at / 8, Action::Close),
        };
        let proxy = Proxy::start(daemon.address(), at.iter().enumerate().map(cut).collect());
        let session = through(options(&daemon), &proxy).connect().await.unwrap();
        let disk = session.unit(1);
        // The length of a block is asked for once, and not between the writes.
        disk.read(0, 1).await.unwrap();
        for round in 0..40u64 {
            // All at once, of one block each, in pairs that overlap by turns.
            let writes: Vec<_> = (0..8u64)
                .map(|number| {
                    let data = [pattern(number % 2, round * 8 + number), pattern(1 + number % 2, round * 8 + number)];
                    let disk = disk.clone();
                    tokio::spawn(async move { disk.write(number % 2, data.concat()).await })
                })
                .collect();
            for write in writes {
                write.await.unwrap().unwrap();
            }
            let data = disk.read(0, 3).await.unwrap();
            // The last that wrote block 0 is the seventh; the eighth wrote 1 and 2.
            let expected = [pattern(0, round * 8 + 6), pattern(1, round * 8 + 7), pattern(2, round * 8 + 7)];
            assert!(data == expected.concat(), "round {round}: an earlier write has undone a later one");
        }
        assert!(session.statistics().logins >= 2, "{:?}", session.statistics());
        session.logout().await.unwrap();
    });
}

#[test]
fn the_lost_answer_of_a_function_is_asked_for_again() {
    let daemon = Daemon::start(LUNETTE, &["ram:1M"]);
    let reset = async |plan: Vec<Plan>| {
        let proxy = Proxy::start(daemon.address(), plan);
        let session = through(options(&daemon), &proxy).error_recovery_level(2).connect().await.unwrap();
        session.unit(1).test_ready().await.unwrap();
        let before = proxy.passed(Direction::ToInitiator);
        session.task_management(Function::LogicalUnitReset, Lun::new(1)).await.unwrap();
        let statistics = session.statistics();
        session.unit(1).test_ready().await.unwrap();
        session.logout().await.unwrap();
        (before, statistics.connections_lost)
    };
    run(async {
        let (before, lost) = reset(Vec::new()).await;
        assert_eq!(lost, 0);
        // Its answer is cut in two.
        let (_, lost) = reset(vec![Plan::fault(Direction::ToInitiator, before + 10, Action::Reset)]).await;
        assert_eq!(lost, 1);
    });
}
