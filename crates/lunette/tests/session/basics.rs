//! Logging in, reading, writing, errors in words, and what comes when a handle or a future is dropped.

use crate::rig::{LUNETTE, options, pattern, run};
use initiator::{Algorithm, Attribute, Chap, Command, DigestOffer, Error, Event, Lun, Options, Session, State};
use sim::Daemon;
use sim::daemon::{TARGET, free_address};

#[test]
fn a_disk_is_read_and_written_through_a_url() {
    let daemon = Daemon::start(LUNETTE, &["ram:8M"]);
    run(async {
        let session = Session::connect(&format!("iscsi://{}/{TARGET}/1", daemon.address())).await.unwrap();
        let disk = session.unit(1);
        let capacity = disk.capacity().await.unwrap();
        assert_eq!((capacity.bytes(), capacity.block_length), (8 << 20, 512));
        let data: Vec<u8> = (0..16).flat_map(|block| pattern(block, 1)).collect();
        disk.write(100, data.clone()).await.unwrap();
        assert_eq!(disk.read(100, 16).await.unwrap(), data);
        assert_eq!(disk.read(99, 1).await.unwrap(), [0; 512]);
        disk.flush().await.unwrap();
        let buf = block::Buf::new(1 << 20).unwrap();
        let (buf, result) = disk.read_into(100, 16, buf, 4096..4096 + 8192).await;
        result.unwrap();
        assert_eq!(&buf.unwrap().as_slice()[4096..4096 + 8192], &data);
        let statistics = session.statistics();
        assert!(statistics.commands >= 5 && statistics.errors == 0, "{statistics:?}");
        session.logout().await.unwrap();
        assert_eq!(disk.read(0, 1).await, Err(Error::Closed));
        assert_eq!(session.information().state, State::Closed);
    });
}

#[test]
fn large_and_many_transfers_are_whole() {
    let daemon = Daemon::start(LUNETTE, &["ram:32M"]);
    run(async {
        for digests in [DigestOffer::None, DigestOffer::Required] {
            let session = options(&daemon).digests(digests).connect().await.unwrap();
            let disk = session.unit(1);
            let blocks = 8192;
            let data: Vec<u8> = (0..blocks).flat_map(|block| pattern(block, 7)).collect();
            disk.write(3, data.clone()).await.unwrap();
            assert!(disk.read(3, blocks as u32).await.unwrap() == data);
            let ends = (0..200u64).map(|number| {
                let disk = disk.clone();
                tokio::spawn(async move {
                    let at = 20_000 + number * 8;
                    let data: Vec<u8> = (at..at + 8).flat_map(|block| pattern(block, number)).collect();
                    disk.write(at, data.clone()).await.unwrap();
                    assert!(disk.read(at, 8).await.unwrap() == data);
                })
            });
            for end in ends.collect::<Vec<_>>() {
                end.await.unwrap();
            }
            let parameters = session.information().connections[0].parameters.clone();
            assert_eq!(parameters.data_digest, digests == DigestOffer::Required);
            session.logout().await.unwrap();
        }
    });
}

#[test]
fn what_goes_wrong_is_told_in_words() {
    let daemon = Daemon::start(LUNETTE, &["ram:1M"]);
    run(async {
        let session = options(&daemon).connect().await.unwrap();
        let mut events = session.events();
        let disk = session.unit(1);
        let error = disk.read(5000, 1).await.unwrap_err();
        assert_eq!(error.to_string(), "ILLEGAL REQUEST: LOGICAL BLOCK ADDRESS OUT OF RANGE (at 5000)");
        let error = session.unit(9).test_ready().await.unwrap_err();
        assert_eq!(error.to_string(), "ILLEGAL REQUEST: LOGICAL UNIT NOT SUPPORTED");
        // The first command of a nexus meets a unit attention, which is told and does not fail it.
        assert!(matches!(events.try_recv(), Ok(Event::UnitAttention { code: (0x29, _), .. })));
        let raw = disk.execute(Command::new(&[0xc1; 10]).as_is()).await.result.unwrap_err();
        assert_eq!(raw.scsi().and_then(|error| error.condition()), Some((5, 0x20, 0)));

        let wrong = |change: fn(initiator::Options) -> initiator::Options| change(options(&daemon)).connect();
        let error =
            wrong(|options| initiator::Options { target: Some("iqn.2026-11.com.example:none".into()), ..options });
        let error = error.await.unwrap_err().to_string();
        assert!(error.contains("iqn.2026-11.com.example:none refuses the login: there is no such target"), "{error}");
        let nobody = free_address();
        let url = format!("iscsi://{nobody}/{TARGET}");
        let error = Session::connect(&url).await.unwrap_err().to_string();
        assert!(error.contains(&nobody.to_string()) && error.contains("refused"), "{error}");
        let error = Session::connect("iscsi://host.invalid/iqn.2026-11.com.example:a").await.unwrap_err().to_string();
        assert!(error.contains("cannot find the host host.invalid"), "{error}");
    });
}

#[test]
fn chap_goes_both_ways_with_every_algorithm_and_a_wrong_secret_is_told() {
    let environment = [("LUNETTE_CHAP_SECRET", "alice-secret-12"), ("LUNETTE_CHAP_MUTUAL_SECRET", "target-secret-12")];
    let arguments = ["--chap", "alice", "--chap-mutual", "target"];
    let daemon = Daemon::start_with(LUNETTE, &["ram:1M"], &arguments, &environment);
    run(async {
        let alice = || Chap::new("alice", "alice-secret-12");
        for algorithm in Algorithm::ALL {
            for chap in [alice(), alice().mutual("target", "target-secret-12")] {
                let chap = Chap { algorithms: vec![algorithm], ..chap };
                let session = options(&daemon).chap(chap).connect().await.unwrap();
                session.unit(1).test_ready().await.unwrap();
                session.logout().await.unwrap();
            }
        }
        let failed = async |options: Options| options.connect().await.unwrap_err().to_string();
        let error = failed(options(&daemon).chap(Chap::new("alice", "alice-secret-13"))).await;
        assert!(error.contains("does not accept the name or the secret"), "{error}");
        let error = failed(options(&daemon)).await;
        assert!(error.contains("does not accept the name or the secret, or wants CHAP"), "{error}");
        let error = failed(options(&daemon).chap(alice().mutual("target", "target-secret-13"))).await;
        assert!(error.contains("authentication with iqn."), "{error}");
        let error = failed(options(&daemon).chap(alice().mutual("other", "target-secret-12"))).await;
        assert!(error.contains("authentication with iqn."), "{error}");
        assert!(!error.contains("secret-12"), "{error}");
    });
}

#[test]
fn a_window_of_one_and_ordered_commands_lose_nothing() {
    let daemon = Daemon::start(LUNETTE, &["ram:1M"]);
    run(async {
        let session = options(&daemon).queue_depth(1).connect().await.unwrap();
        let disk = session.unit(1);
        let writes: Vec<_> = (0..100u64)
            .map(|number| {
                let disk = disk.clone();
                tokio::spawn(async move { disk.write(7, pattern(7, number)).await })
            })
            .collect();
        for write in writes {
            write.await.unwrap().unwrap();
        }
        // They were sent in the order in which they were asked for.
        assert_eq!(disk.read(7, 1).await.unwrap(), pattern(7, 99));
        let mut command = Command::new(&[0; 6]);
        command.attribute = Attribute::Ordered;
        disk.execute(command).await.result.unwrap();
    });
}

#[test]
fn whoever_waits_is_told_when_the_runtime_ends_before_the_session() {
    let daemon = Daemon::start(LUNETTE, &["ram:1M"]);
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let (sender, receiver) = std::sync::mpsc::channel();
    let options = options(&daemon);
    let theirs = std::thread::spawn(move || {
        run(async {
            sender.send(options.connect().await.unwrap()).unwrap();
            let _ = stopped.await;
        });
    });
    let session = receiver.recv().unwrap();
    let disk = session.unit(1);
    run(async { disk.test_ready().await.unwrap() });
    let waker = std::task::Waker::noop().clone();
    let mut channel = session.channel(waker);
    daemon.signal("STOP");
    let waiting = {
        let disk = disk.clone();
        std::thread::spawn(move || run(async { disk.read(0, 1).await }))
    };
    channel.submit(&mut vec![(5, Lun::new(1), Command::new(&[0; 6]))]);
    std::thread::sleep(std::time::Duration::from_millis(200));
    stop.send(()).unwrap();
    theirs.join().unwrap();
    daemon.signal("CONT");
    assert_eq!(waiting.join().unwrap(), Err(Error::Closed));
    let mut done = Vec::new();
    channel.take(&mut done);
    assert!(matches!(&*done, [(5, finished)] if finished.result == Err(Error::Closed)), "{done:?}");
    assert_eq!(run(async { disk.test_ready().await }), Err(Error::Closed));
    assert_eq!(session.information().state, State::Closed);
}
