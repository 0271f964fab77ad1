//! Targets that lie, are silent or busy: each costs what it must and nothing more.

use crate::fake::{self, Peer};
use crate::rig::run;
use initiator::{Command, Error, Event, Lun, Options, Portal, Session};
use iscsi::wire::ScsiCommand;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

const UNIT_ATTENTION: [u8; 18] = [0x70, 0, 6, 0, 0, 0, 0, 10, 0, 0, 0, 0, 0x2a, 0x09, 0, 0, 0, 0];

fn options(address: std::net::SocketAddr) -> Options {
    Options::new(Portal::new("127.0.0.1", address.port()), "iqn.2026-11.com.example:fake")
}

async fn read(session: &Session) -> Result<Vec<u8>, Error> {
    let mut cdb = [0; 16];
    (cdb[0], cdb[13]) = (0x88, 8);
    session.execute(Lun::new(0), Command::new(&cdb).reading(4096)).await.bytes()
}

#[test]
fn lengths_that_are_lies_move_nothing_and_end_in_one_line() {
    type Lie = fn(&mut Peer, &ScsiCommand);
    let lies: [(&str, Lie); 5] = [
        ("beyond the command's data", |peer, command| peer.data(command, 4000, &[0xee; 4096])),
        ("beyond the command's data", |peer, command| peer.data(command, u32::MAX - 10, &[0xee; 512])),
        ("MaxRecvDataSegmentLength", |peer, command| peer.data(command, 0, &vec![0xee; (1 << 20) + 4])),
        ("a task that does not exist", |peer, command| {
            let mut other = *command;
            other.initiator_task_tag = 0x1234.into();
            peer.data(&other, 0, &[0xee; 512]);
        }),
        ("SenseLength", |peer, command| {
            peer.answer(command, 2, &[]);
            let _ = command;
        }),
    ];
    for (what, lie) in lies {
        let address = fake::start(8, Box::new(move |peer, command, _| lie(peer, command)));
        run(async {
            let options = options(address).replacement_timeout(Duration::ZERO);
            let session = options.connect().await.unwrap();
            let error = read(&session).await.unwrap_err().to_string();
            let told = what == "SenseLength" && error.contains("without sense data") || error.contains(what);
            assert!(told, "{what}: {error}");
            assert!(!error.contains('\n'));
        });
    }
}

#[test]
fn less_data_than_was_asked_for_is_no_success() {
    let address = fake::start(8, Box::new(|peer, command, _| peer.data(command, 0, &[7; 512])));
    run(async {
        let session = options(address).connect().await.unwrap();
        assert_eq!(read(&session).await.unwrap(), [7; 512], "a raw command tells how much came");
        let buf = block::Buf::new(4096).unwrap();
        let (buf, result) = session.unit(0).read_into(0, 8, buf, 0..4096).await;
        assert_eq!(result, Err(Error::Short { moved: 512, expected: 4096 }));
        assert!(buf.is_some());
    });
}

#[test]
fn a_command_that_takes_too_long_is_aborted_and_the_session_goes_on() {
    let count = Arc::new(AtomicU32::new(0));
    let seen = count.clone();
    // The first command is never answered.
    let address = fake::start(
        8,
        Box::new(move |peer, command, _| {
            if count.fetch_add(1, Ordering::Relaxed) > 0 {
                peer.answer(command, 0, &[]);
            }
        }),
    );
    run(async {
        let session = options(address).command_timeout(Duration::from_millis(200)).connect().await.unwrap();
        let begun = Instant::now();
        let error = session.unit(0).test_ready().await.unwrap_err();
        assert!(matches!(error, Error::TimedOut { .. }), "{error}");
        assert!((Duration::from_millis(190)..Duration::from_secs(3)).contains(&begun.elapsed()));
        session.unit(0).test_ready().await.unwrap();
        assert_eq!((seen.load(Ordering::Relaxed), session.statistics().timeouts), (2, 1));
        session.logout().await.unwrap();
    });
}

#[test]
fn a_busy_unit_and_a_unit_attention_cost_time_and_no_error() {
    let count = AtomicU32::new(0);
    let address = fake::start(
        8,
        Box::new(move |peer, command, _| match count.fetch_add(1, Ordering::Relaxed) {
            0 => peer.answer(command, 2, &UNIT_ATTENTION),
            1 | 2 => peer.answer(command, 8, &[]),
            3 => peer.answer(command, 0x28, &[]),
            4 => peer.answer(command, 0, &[]),
            5 => peer.answer(command, 2, &UNIT_ATTENTION),
            _ => peer.answer(command, 8, &[]),
        }),
    );
    run(async {
        let session = options(address).connect().await.unwrap();
        let mut events = session.events();
        session.unit(0).test_ready().await.unwrap();
        assert!(matches!(events.try_recv(), Ok(Event::UnitAttention { code: (0x2a, 0x09), .. })));
        assert_eq!(events.try_recv(), Ok(Event::CapacityChanged { lun: Lun::new(0) }));
        // Whoever wants to see it as it came does.
        let raw = session.unit(0).execute(Command::new(&[0; 6]).as_is()).await.result.unwrap_err();
        assert_eq!(raw.to_string(), "UNIT ATTENTION: CAPACITY DATA HAS CHANGED");
        let raw = session.unit(0).execute(Command::new(&[0; 6]).as_is()).await.result.unwrap_err();
        assert_eq!(raw.to_string(), "BUSY");
    });
}

#[test]
fn a_window_of_one_lets_one_command_in_at_a_time() {
    let address = fake::start(1, Box::new(|peer, command, _| peer.answer(command, 0, &[])));
    run(async {
        let session = options(address).connect().await.unwrap();
        let commands: Vec<_> = (0..50)
            .map(|_| {
                let unit = session.unit(0);
                tokio::spawn(async move { unit.test_ready().await })
            })
            .collect();
        for command in commands {
            command.await.unwrap().unwrap();
        }
        session.logout().await.unwrap();
    });
}

#[test]
fn what_may_not_be_sent_twice_is_not_and_says_so() {
    let (count, compares) = (AtomicU32::new(0), Arc::new(AtomicU32::new(0)));
    let seen = compares.clone();
    // COMPARE AND WRITE is taken and never answered; TEST UNIT READY ends the connection by a lie.
    let address = fake::start(
        8,
        Box::new(move |peer, command, _| match command.cdb[0] {
            0x89 => {
                compares.fetch_add(1, Ordering::Relaxed);
            }
            _ if count.fetch_add(1, Ordering::Relaxed) == 0 => peer.data(command, 0, &[1]),
            _ => peer.answer(command, 0, &[]),
        }),
    );
    run(async {
        let session = options(address).connect().await.unwrap();
        let mut cdb = [0; 16];
        (cdb[0], cdb[13]) = (0x89, 1);
        let unit = session.unit(0);
        let compare = unit.execute(Command::new(&cdb).writing(vec![0; 1024]));
        let (compare, ready) = tokio::join!(compare, unit.test_ready());
        assert_eq!(compare.result, Err(Error::Interrupted));
        ready.unwrap();
        assert_eq!((seen.load(Ordering::Relaxed), session.statistics().replayed), (1, 1));
    });
}

#[test]
fn a_command_that_every_session_dies_of_ends() {
    let count = Arc::new(AtomicU32::new(0));
    let seen = count.clone();
    // It is answered by a lie whenever it comes.
    let address = fake::start(
        8,
        Box::new(move |peer, command, _| {
            count.fetch_add(1, Ordering::Relaxed);
            peer.data(command, 0, &[1]);
        }),
    );
    run(async {
        let session = Options { time_2_wait: 0, ..options(address) }.connect().await.unwrap();
        let error = session.unit(0).test_ready().await.unwrap_err();
        assert_eq!((error, seen.load(Ordering::Relaxed)), (Error::Interrupted, 7));
    });
}

#[test]
fn tasks_that_another_initiator_has_cleared_are_sent_again() {
    const CLEARED: [u8; 18] = [0x70, 0, 6, 0, 0, 0, 0, 10, 0, 0, 0, 0, 0x2f, 0, 0, 0, 0, 0];
    let count = AtomicU32::new(0);
    // Three commands are dropped without a word; the fourth is told why.
    let address = fake::start(
        8,
        Box::new(move |peer, command, _| match count.fetch_add(1, Ordering::Relaxed) {
            1..4 => {}
            4 => peer.answer(command, 2, &CLEARED),
            _ => peer.answer(command, 0, &[]),
        }),
    );
    run(async {
        let session = options(address).connect().await.unwrap();
        let unit = session.unit(0);
        // The first answer opens the window.
        unit.test_ready().await.unwrap();
        let begun = Instant::now();
        let all = tokio::join!(unit.test_ready(), unit.test_ready(), unit.test_ready(), unit.test_ready());
        assert_eq!(all, (Ok(()), Ok(()), Ok(()), Ok(())));
        assert!(begun.elapsed() < Duration::from_secs(5), "long before the time of a command is over");
        assert_eq!(session.statistics().replayed, 3);
    });
}
