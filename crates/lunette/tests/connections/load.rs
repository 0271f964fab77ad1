//! Many connections, at once and one after another: nothing is mixed up, nobody is left out, nothing is left behind.

use crate::help::*;
use crate::recovery::lead_at_level_2;
use sim::Random;
use sim::daemon::Daemon;
use sim::raw::{Client, Command, Login};
use std::time::{Duration, Instant};

/// Random reads and writes on a part of the disk that is this connection's own; how many it did in this time.
fn work(client: &mut Client, part: u32, time: Duration) -> u32 {
    let (first, blocks_there) = (part * 1024, 1024);
    let mut random = Random::new(u64::from(part));
    let mut shadow = vec![0u8; blocks_there as usize * 512];
    let end = Instant::now() + time;
    let mut done = 0;
    while Instant::now() < end {
        let count = 1 + random.size(200);
        let at = random.size(blocks_there as usize - count);
        let lba = first + at as u32;
        if random.once_in(2) {
            let data = blocks(random.number() as u8, count);
            shadow[at * 512..][..data.len()].copy_from_slice(&data);
            client.good(&Command::write(lba, &data));
        } else {
            let data = client.good(&Command::read(lba, count as u16));
            assert!(data == shadow[at * 512..][..count * 512], "part {part}, block {at}");
        }
        done += 1;
    }
    done
}

#[test]
fn ses_06_sixteen_connections_at_work_at_once_each_have_their_turn_and_their_own_data() {
    let daemon = Daemon::start(LUNETTE, &["ram:64M"]);
    let mut leader = daemon.connect();
    let keys = login(16).key("MaxRecvDataSegmentLength", 65_536);
    leader.login(&Login { keys: [keys.keys, vec![("MaxBurstLength".into(), "16384".into())]].concat(), ..keys });
    leader.take_attentions();
    let mut clients = vec![leader];
    for cid in 2..=16 {
        let next = join(&daemon, &mut clients[0], cid);
        clients.push(next);
    }
    let threads: Vec<_> = clients
        .into_iter()
        .enumerate()
        .map(|(part, mut client)| {
            std::thread::spawn(move || {
                let done = work(&mut client, part as u32, Duration::from_secs(3));
                (client, done)
            })
        })
        .collect();
    let mut clients = Vec::new();
    let mut counts = Vec::new();
    for thread in threads {
        let (client, done) = thread.join().unwrap();
        clients.push(client);
        counts.push(done);
    }
    let (least, most) = (counts.iter().min().unwrap(), counts.iter().max().unwrap());
    println!("commands of each connection: {counts:?}");
    assert!(*least > 0 && least * 8 > *most, "somebody is left out: {counts:?}");
    let cid = clients.len() as u16;
    assert_eq!(log_out(clients.last_mut().unwrap(), 0, cid).response, 0);
    for client in &mut clients {
        client.expect_closed();
    }
}

/// Waits until the daemon has at most so many descriptors open.
fn settle(daemon: &Daemon, descriptors: usize) {
    let end = Instant::now() + Duration::from_secs(20);
    while daemon.descriptors().is_some_and(|open| open > descriptors) {
        assert!(Instant::now() < end, "{:?} descriptors, {descriptors} before", daemon.descriptors());
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn out_05_a_thousand_joins_and_losses_leave_nothing_behind() {
    let daemon = Daemon::start(LUNETTE, &["ram:16M"]);
    let before = daemon.descriptors();
    let mut memory = None;
    let mut leader = lead_at_level_2(&daemon, 4, 20);
    let with_session = daemon.descriptors();
    for round in 0..600u32 {
        // Lost with a write that waits for its data and an answer that nobody has read; then logged out by another.
        let mut lost = join(&daemon, &mut leader, 2);
        lost.hold_data = true;
        lost.start(&Command::write(64, &blocks(1, 256)));
        lost.start(&Command::read(0, 256));
        until_taken(&mut lost);
        drop(lost);
        assert_eq!(log_out(&mut leader, 1, 2).response, 0, "round {round}");
        good_anyway(&mut leader, &Command::test_unit_ready());
        if round == 100 {
            memory = daemon.resident_bytes();
        }
    }
    with_session.inspect(|open| settle(&daemon, *open));
    drop(leader);
    for _ in 0..400 {
        // At level 0: a session of two connections, of which the second is lost.
        let mut leader = lead(&daemon, 2);
        let mut lost = join(&daemon, &mut leader, 2);
        lost.hold_data = true;
        lost.start(&Command::write(64, &blocks(1, 256)).solicited());
        until_acknowledged(&mut lost);
        drop(lost);
        leader.expect_closed();
    }
    // The session at level 2 is kept until its time is over, or another takes its place.
    lead_at_level_2(&daemon, 1, 0).logout();
    before.inspect(|open| settle(&daemon, *open));
    if let (Some(before), Some(after)) = (memory, daemon.resident_bytes()) {
        println!("resident: {} KiB after 100 rounds, {} KiB after 1,000", before >> 10, after >> 10);
        assert!(after < before + (4 << 20), "{} KiB before, {} KiB after", before >> 10, after >> 10);
    }
}
